"""What a prompt excludes: "rock band without drums", "drumless jazz", "just piano and bass".

A text encoder puts "no drums" beside "drums", so that naming what is not wanted asks for it. Here such phrases are
taken out of the prompt, and what they name is kept apart as a text that guidance leads away from (`vivace_sampling`).

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import re
from dataclasses import dataclass

# name | what prompts call it, a regular expression | what guidance leads away from when it is excluded. Several words
# for one thing lead away from it far more surely than one. More special things come first.
_TABLE = r"""
steel drums | steel ?(?:drums?|pans?) | steel drums, steelpan, steel pan
drums | (?:bass|kick|snare) drums?|drums?(?:[ -](?:kits?|sets?|machines?|loops?|tracks?|beats?))?|drummers?|drumming|percussions?|percussive|percussionists?|beats?(?! (?:per|a) minute)|cymbals?|hi-?hats?|snares?|kick|rhythm section | drum kit, drums, percussion, a beat, drum solo, brushes, ride cymbal
electric piano | electric pianos?|e-?pianos?|rhodes|wurlitzer | electric piano, rhodes, e-piano
piano | (?:grand |acoustic |upright )?pianos?|pianists? | piano, grand piano, acoustic piano
organ | (?:church |pipe |hammond |reed )?organs? | organ, hammond organ, church organ
keyboard | keys|keyboards? | piano, electric piano, organ
harpsichord | harpsichords? | harpsichord, cembalo
bass | (?:upright |electric |acoustic |double |slap |synth |sub |fretless )?bass(?! (?:clarinet|trombone|flute))(?:es|lines?| lines?| guitars?)?|bassists? | electric bass, upright bass, synth bass, bass guitar
distorted guitar | (?:distorted|overdriven|heavy|fuzz) guitars? | distorted guitar, overdriven guitar, distortion guitar
guitar | (?:acoustic |electric |nylon |steel |jazz |clean |classical |muted )?guitars?|guitarists? | electric guitar, acoustic guitar, distorted guitar, jazz guitar
voice | (?:lead |backing )?vocals?|voices?|singing|singers?|choirs?|lyrics|chants? | choir, choir aahs, voice oohs, synth voice
violin | violins?|fiddles? | violin, solo violin, fiddle
viola | violas? | viola, solo viola
cello | cell(?:os?|i) | cello, solo cello
strings | (?:string (?:sections?|ensembles?|orchestra|pads?)|strings(?! attached)) | string ensemble, strings, string section
harp | harps? | harp, concert harp
trumpet | trumpets? | trumpet, bright trumpet, muted trumpet
trombone | trombones? | trombone, solo trombone
horn | (?:french )?horns? | french horn, horn, horns
brass | brass(?: sections?)? | brass section, brass, trumpet, trombone
saxophone | (?:(?:alto|tenor|soprano|baritone) )?sax(?:es|ophones?)? | alto sax, tenor sax, saxophone, sax
clarinet | (?:bass )?clarinets? | clarinet, solo clarinet
oboe | oboes? | oboe, plaintive oboe
bassoon | bassoons? | bassoon, low bassoon
flute | (?:pan )?flutes?|piccolos? | flute, concert flute, pan flute
woodwinds | wood ?winds? | flute, oboe, clarinet, bassoon
accordion | accordions? | accordion, squeezebox, bandoneon
harmonica | harmonicas? | harmonica, mouth organ
vibraphone | vibraphones? | vibraphone, vibes
marimba | marimbas?|xylophones? | marimba, xylophone
bells | (?:tubular )?bells|glockenspiels?|chimes | glockenspiel, bells, tubular bells
banjo | banjos? | banjo, bluegrass banjo
mandolin | mandolins? | mandolin, mandolins
ukulele | ukuleles? | ukulele
sitar | sitars? | sitar, indian sitar
pad | (?:synth )?pads? | warm pad, synth pad, sweep pad
synthesizer | synth(?:s|esi[sz]ers?)?(?: leads?)? | saw lead, square lead, synth lead, synth bass, warm pad
"""  # noqa: E501
THINGS = {}
for _line in _TABLE.strip().splitlines():
    # An alternative of a pattern has no spaces around it, a column has.
    _name, _pattern, _words = (part.strip() for part in _line.split(" | "))
    THINGS[_name] = (_pattern, _words)
_THING = "(?:" + "|".join(pattern for pattern, _ in THINGS.values()) + ")"
LONGEST = 1000  # characters of a prompt that are read; the text encoder reads fewer
_ARTICLE = r"(?:(?:any|the|a|an|all|more|of|live|electronic|kind of|sort of|your|other) ){0,3}"
_ITEM = rf"(?:{_ARTICLE}{_THING}\b(?![-']))"
_AGAIN_NO = r"(?:no |without |with no )"
_JOIN = rf"(?:\s?[&/+]\s?|\s+(?:and|or|nor)\s+{_AGAIN_NO}?|\s?,\s?(?:and |or |nor )?{_AGAIN_NO})"
# After "no" a comma ends what is refused ("no drums, piano and harp"), after "without" it may go on ("without drums,
# piano and harp").
_FEW = rf"{_ITEM}(?:{_JOIN}{_ITEM}){{0,8}}"
_MANY = rf"{_ITEM}(?:(?:\s?,\s?{_ITEM}){{1,8}}\s?,?\s+(?:and|or|nor)\s+{_ITEM}|{_JOIN}{_ITEM}){{0,8}}"
_PART = r"\s+(?:solos?|fills?|rolls?|breaks?|riffs?|intros?|drops?)\b"
_LOUD = r"(?:(?:too|very|so|loud|heavy|big|hard|busy|harsh|aggressive|fast|many|much) ){1,3}"
_LINK = r"(?:\b(?:but|and|with|has|have|having|using|there (?:is|are|should be)) ){0,3}"
_DO_NOT = r"(?:do not|don'?t|should not|shouldn'?t)(?: (?:use|want|add|include|play|have|need|put in|contain|be)){0,3}"
_NO = rf"(?:no|not|zero|neither|{_DO_NOT})"
_WITHOUT = (
    r"(?:without|w/o|sans|minus|except(?: for)?|excluding|lacking|free of|devoid of|leav(?:e|ing) out|omit(?:ting)?"
    r"|avoid(?:ing)?|remov(?:e|ing)|skip(?:ping)?|instead of|rather than|in place of|(?:all|any|every)(?:thing)? but)"
)
_BEFORE = r"(?<![\w'-])"
_REFUSED = tuple(
    re.compile(
        rf"[,;]?\s{{0,2}}{_BEFORE}{_LINK}(?P<no>{no})\s+(?P<loud>{_LOUD})?(?P<list>{things})(?P<part>{_PART})?", re.I
    )
    for no, things in ((_NO, _FEW), (_WITHOUT, _MANY))
)
_NEVER_WITHOUT = re.compile(rf"\b(?:never|not|nothing|isn'?t|ain'?t)\s+without\s+(?={_ITEM})", re.I)
_LACKING = re.compile(rf"{_BEFORE}(?P<list>{_THING})(?:[ -]?less|-free)\b ?", re.I)
_ALONE = (
    re.compile(
        rf"{_BEFORE}(?<!not )(?<!n't )(?:only|just|nothing but|unaccompanied)\s+(?P<list>{_MANY})(?!{_PART})", re.I
    ),
    re.compile(rf"{_BEFORE}(?P<list>{_MANY}),?\s+(?P<how>only|alone|unaccompanied|(?:and|with) nothing else)\b", re.I),
)
_CHOIR = re.compile(r"\ba[ -]?capp?ell?a\b", re.I)
_INSTRUMENTAL = re.compile(r"(?:^|[,;]) ?(?:purely |fully |all )?instrumental(?: only| version)? ?(?=$|[,;.])", re.I)


@dataclass(frozen=True)
class Exclusion:
    """A prompt with what it excludes taken out.

    Attributes:
        words: what is left, which says what the music should sound like; may be empty.
        excluded: names in `THINGS` of what is not to play.
        exclusive: names of what alone is to play, as in "just piano and bass"; empty = not said.
        named: names that `words` has.
    """

    words: str
    excluded: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    @property
    def drumless(self) -> bool:
        return "drums" in self.excluded or (bool(self.exclusive) and "drums" not in {*self.exclusive, *self.named})

    @property
    def restated(self) -> str:
        """The words, and that there are no drums as training captions say it (training/data/scorebook/captions.py)."""
        return f"{self.words}, without drums".strip(" ,") if self.drumless else self.words

    @property
    def unwanted(self) -> str | None:
        """The text that guidance leads away from, in which nothing is that the words ask for; None if nothing is
        excluded."""
        kept = {*self.exclusive, *self.named} - {*self.excluded}
        # Where only some things are wanted it is drums that come in uninvited; to lead away from a list of all other
        # instruments weakens the wanted ones and no other.
        names = [*self.excluded, *(["drums"] if self.drumless else [])]
        parts = ", ".join(THINGS[name][1] for name in names).split(", ")
        return join_words(part for part in parts if not kept & set(things_in(part)))


def join_words(texts) -> str | None:
    """Texts with commas in one, each part once; None if there is none."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    return ", ".join(dict.fromkeys(part for part in parts if part)) or None


def things_in(text: str) -> tuple[str, ...]:
    """Names in `THINGS` of what a text names, each once, in order."""
    found = []
    for match in re.finditer(rf"(?<![\w-]){_THING}\b", text, re.I):
        found.append(next(name for name, (pattern, _) in THINGS.items() if re.fullmatch(pattern, match[0], re.I)))
    return tuple(dict.fromkeys(found))


def tidy(text: str) -> str:
    """A text out of which phrases were taken: no comma, bracket or connecting word stands alone."""
    text = re.sub(r"\(\s*\)|\b(?:and|with|but)\s*(?=$|[.,;])", "", re.sub(r"\s+", " ", text))
    text = re.sub(r"\s+(?=[,;.])", "", text)
    text = re.sub(r"[,;]+(?=[,;.]|$)|(?:^|(?<=[.]))\s*[,;.]+", "", text)
    return re.sub(r"\s+", " ", text).strip(" ,;")


def read_exclusion(prompt: str) -> Exclusion:
    """What a prompt excludes, and its words without that. A prompt that excludes nothing keeps its words as they are.

    "Without", "no", "minus", "instead of", "drumless", "not X" and their like exclude instruments and groups of them;
    "only", "just", "alone", "nothing but" and "unaccompanied" exclude drums that are not named; "a cappella" likewise,
    of voices; "instrumental", if it stands by itself, voices. "No loud drums" and "no guitar solo" exclude no
    instrument, but the words go. "Solo piano" stays as it is, since captions say it so and the network knows it;
    neither does "piano solo" exclude anything. Other things that a prompt is without ("without reverb") stay.
    """
    excluded, exclusive = [], []

    def refuse(match: re.Match) -> str:
        if match["loud"] and match["no"].lower() == "not":  # "not too loud drums" are drums
            return match[0]
        if not match["loud"] and not match["part"]:
            excluded.extend(things_in(match["list"]))
        return " "

    def lack(match: re.Match) -> str:
        excluded.extend(things_in(match["list"]))
        return ""

    def alone(match: re.Match) -> str:
        names = things_in(match["list"])
        exclusive.extend(names)
        if len(names) > 1 or names[0] == "drums":
            return match["list"]
        if match.groupdict().get("how", "").lower() == "alone":
            return match[0]  # in the captions' own words, as below
        return "solo " + re.sub(rf"^{_ARTICLE}", "", match["list"], flags=re.I)

    text = _LACKING.sub(lack, _NEVER_WITHOUT.sub("with ", prompt[:LONGEST]))
    for pattern in _REFUSED:
        text = pattern.sub(refuse, text)
    for pattern in _ALONE:
        text = pattern.sub(alone, text)
    if _CHOIR.search(text):
        exclusive.append("voice")
        text = _CHOIR.sub("" if "voice" in things_in(text) else "choir", text)
    words = prompt
    if text != prompt[:LONGEST]:
        words = tidy(text + prompt[LONGEST:])
        words = words[:1].upper() + words[1:] if prompt[:1].isupper() else words
    named = things_in(words[:LONGEST])
    if _INSTRUMENTAL.search(words) and "voice" not in named:
        excluded.append("voice")
    return Exclusion(words, tuple(dict.fromkeys(excluded)), tuple(dict.fromkeys(exclusive)), named)


def share_of(unwanted: str | None) -> float:
    """How much of `negative_guidance_scale` keeps such a text out: all for drums, which most music has and which need
    the most, less for the rest, so that no more than what is named goes with it. None = a text that nobody can read.
    """
    return 1.0 if unwanted is not None and "drums" in things_in(unwanted) else 0.4


def unwanted_text(exclusion: Exclusion | None, negative_prompt: str | None) -> str | None:
    """What guidance leads away from: what a prompt excludes and what `negative_prompt` names; None if nothing.

    Instruments of the negative prompt bring their other words with them.
    """
    texts = []
    if negative_prompt is not None and negative_prompt.strip():
        texts += [THINGS[name][1] for name in things_in(negative_prompt[:LONGEST])] + [negative_prompt]
    if exclusion is not None and exclusion.unwanted is not None:
        texts.append(exclusion.unwanted)
    return join_words(texts)
