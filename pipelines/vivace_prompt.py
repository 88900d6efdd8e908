"""Prompts: texts, timelines and morphs, and what they exclude: "rock band without drums", "just piano and bass".

A text encoder puts "no drums" beside "drums", so that naming what is not wanted asks for it. Here such phrases are
taken out of the prompt, and what they name is kept apart as a text that guidance leads away from (`vivace_sampling`).

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .vivace_music import Music
from .vivace_reading import MusicWords, read_music

if TYPE_CHECKING:
    import torch

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


# Prompts, of which each is a text, a timeline or a morph. Several texts share each frame by their weights.

CROSSFADE_S = 1.0  # between two texts of a timeline, centred on the second one's start


def is_timeline(prompt: object) -> bool:
    """Whether a prompt is a list of (start, text) pairs."""
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and not isinstance(entry[0], (list, tuple))
        and (not isinstance(entry[0], str) or re.fullmatch(r"\s*bar\s.*", entry[0]) is not None)
        for entry in prompt
    )  # fmt: skip


def read_start(start: float | str, bpm: float | None, beats_per_bar: int | None) -> float:
    """Seconds of a timeline's entry: a number, or "bar 5", whose start counts from bar 1.

    Raises:
        ValueError: neither of them, or bars without a tempo.
    """
    if isinstance(start, str):
        match = re.fullmatch(r"\s*bar\s+(\d{1,5})\s*", start)
        if match is None or int(match[1]) < 1:
            raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds, or a bar from 1, as in 'bar 5'")
        if bpm is None or beats_per_bar is None:
            raise ValueError(f"prompt starts an entry at {start!r}, which needs a tempo: give bpm")
        return (int(match[1]) - 1) * beats_per_bar * 60.0 / bpm
    if isinstance(start, bool) or not isinstance(start, (int, float)) or not start >= 0:
        raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds from 0, or a bar, as in 'bar 5'")
    return float(start)


def timeline_weights(starts_s: list[float], frames: int, frame_rate: float, duration_s: float) -> "torch.Tensor":
    """Share of each text in each frame, (texts, frames): one after another, with crossfades of `CROSSFADE_S`.

    Raises:
        ValueError: a first entry that does not start at 0, entries out of order, or one that starts after the end.
    """
    import torch  # here, as in the functions below, so that words are checked without it

    if starts_s[0] != 0:
        raise ValueError(f"prompt's first entry starts at {starts_s[0]:g} s; it must start at 0 (or 'bar 1')")
    for before, start in itertools.pairwise(starts_s):
        if start <= before:
            raise ValueError(f"prompt has an entry at {start:g} s after one at {before:g} s; they must be in order")
    if starts_s[-1] >= duration_s:
        raise ValueError(f"prompt has an entry at {starts_s[-1]:g} s, but the piece is {duration_s:g} s long")
    times = (torch.arange(frames, dtype=torch.float64) + 0.5) / frame_rate
    entries = [((times - start) / CROSSFADE_S + 0.5).clamp(0.0, 1.0) for start in starts_s[1:]]
    entered = torch.stack([torch.ones_like(times), *entries, torch.zeros_like(times)])
    return (entered[:-1] - entered[1:]).float()  # what an entry has gained, less what the next one has


def morph_weights(frames: int) -> "torch.Tensor":
    """(2, frames): from the first text alone to the second alone, in a straight line."""
    import torch

    share = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    return torch.stack([1.0 - share, share]).float()


def check_text(name: str, text: str) -> None:
    """Raise a ValueError for half of a character, as of an emoji that was cut: a text of it cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is {text!a}, whose {text[error.start]!a} is half of a character; give whole ones"
        ) from error


@dataclass
class Prompt:
    """One prompt of a call.

    Attributes:
        given: the argument itself: a text, a timeline, or None.
        texts: its texts; [None] where text states are given in their place.
        starts: of each text, seconds or "bar 5"; none for a morph.
    """

    given: object
    texts: list
    starts: list

    @property
    def words(self) -> MusicWords:
        """What all its texts say of the music."""
        return read_music(". ".join(text for text in self.texts if text is not None))

    def weights(self, music: Music, frames: int, frame_rate: float) -> "torch.Tensor":
        """Share of each text in each frame, (texts, frames)."""
        if not self.starts:
            return morph_weights(frames)
        starts_s = [read_start(start, music.bpm, music.beats_per_bar) for start in self.starts]
        return timeline_weights(starts_s, frames, frame_rate, float(music.duration_s))


def read_prompts(prompt: object, morph: object, num_embeds: int | None) -> list[Prompt]:
    """The prompts of a call.

    Raises:
        ValueError: none or several of prompt, morph and prompt_embeds, or a text that is none.
    """
    if (prompt is not None) + (morph is not None) + (num_embeds is not None) != 1:
        raise ValueError("prompt, morph and prompt_embeds: give exactly one of them (a morph is its own prompt)")
    if num_embeds is not None:
        return [Prompt(None, [None], [0])] * num_embeds
    if morph is not None:
        if not isinstance(morph, (list, tuple)) or len(morph) != 2:
            raise ValueError(f"morph is {morph!r}; allowed: two texts, as in ('calm piano', 'drums and bass')")
        prompts = [Prompt(None, list(morph), [])]
    else:
        if not isinstance(prompt, (str, list, tuple)):
            raise ValueError(f"prompt is {prompt!r}; allowed: a text, a timeline, or a list of either")
        given = [prompt] if isinstance(prompt, str) or is_timeline(prompt) else list(prompt)
        if not given:
            raise ValueError("prompt is an empty list; give at least one text")
        prompts = [
            Prompt(one, [text for _, text in one], [start for start, _ in one])
            if is_timeline(one)
            else Prompt(one, [one], [0])
            for one in given
        ]
    name = "prompt" if morph is None else "morph"
    for text in (text for one in prompts for text in one.texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} is {text!r}; give a text that is not empty")
        check_text(name, text)
    return prompts


def keep_out(
    texts: list, weights: "torch.Tensor", negative_prompt: str | None, restate: bool
) -> "tuple[list, list, torch.Tensor]":
    """What the texts and a negative prompt exclude.

    Args:
        texts: of a prompt.
        weights: (texts, frames), the share of each.
        negative_prompt: a text, or None.
        restate: whether the network knows captions that say what is absent.

    Returns:
        The texts without what they exclude (with `restate` said as captions say it), the texts to be kept out, each
        once, and where, (unwanted, frames).
    """
    import torch

    exclusions = [None if text is None else read_exclusion(text) for text in texts]
    where: dict[str, torch.Tensor] = {}
    for exclusion, weight in zip(exclusions, weights, strict=True):
        unwanted = unwanted_text(exclusion, negative_prompt)
        if unwanted is not None:
            where[unwanted] = where.get(unwanted, 0.0) + weight * share_of(unwanted)
    wanted = [None if one is None else one.restated if restate else one.words for one in exclusions]
    return wanted, list(where), torch.stack(list(where.values())) if where else weights[:0]


# One value for all prompts, or one for each.


def spread(name: str, value: object, count: int, shared: bool) -> list:
    """One value for each prompt, of a list with as many or of one value that is for all (`shared`: even a list).

    Numbers of numpy and torch become those of Python.
    """
    if callable(getattr(value, "tolist", None)) and not isinstance(value, np.generic) and not shared:
        value = value.tolist()  # of torch or numpy
    if isinstance(value, (list, tuple)) and not shared:
        if len(value) != count:
            raise ValueError(f"{name} has {len(value)} entries for {count} prompts; give one for each or for all")
        values = list(value)
    else:
        values = [value] * count
    return [one.item() if isinstance(one, np.generic) else one for one in values]


def check_flag(name: str, value: object) -> None:
    """Raise a ValueError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {' '.join(str(value).split())}; allowed: True or False")


def is_list_of_pairs(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(v, (list, tuple)) for v in value)
