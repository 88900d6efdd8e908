"""Captions of a clip from its labels: word tables and a grammar with several registers and partial attributes.

`captions` writes training captions. `heldout_captions` writes captions for tests, in templates and words (the tables
named HELDOUT) that no training caption has.
"""

from dataclasses import dataclass, field

import numpy as np

from training.data.scorebook.instruments import DRUM_HELDOUT_WORDS, DRUM_WORDS, INSTRUMENTS

# (upper limit in bpm, training words, held-out words).
TEMPO_WORDS = (
    (72, ("slow", "very slow", "unhurried"), ("really slow", "drawn-out")),
    (96, ("slow to medium", "relaxed-tempo", "laid-back"), ("gently paced", "unrushed")),
    (122, ("mid-tempo", "medium tempo", "moderate"), ("walking-pace", "medium-paced")),
    (146, ("fast", "upbeat", "quick"), ("brisk", "briskly moving")),
    (999, ("very fast", "rapid", "high-speed"), ("breakneck", "super fast")),
)  # fmt: skip
# The word for each mood in held-out captions.
MOOD_HELDOUT = {
    "calm": "tranquil", "peaceful": "serene", "dreamy": "dreamlike", "happy": "joyous", "joyful": "jubilant",
    "bright": "radiant", "sad": "sorrowful", "melancholic": "mournful", "wistful": "yearning", "dark": "gloomy",
    "tense": "suspenseful", "dramatic": "theatrical", "warm": "cozy", "hopeful": "optimistic",
    "energetic": "vigorous", "relaxed": "easygoing", "chill": "laid back and easy", "mellow": "soothing",
    "groovy": "toe-tapping", "funky": "in the pocket", "danceable": "made for dancing", "playful": "whimsical",
    "elegant": "refined", "graceful": "flowing", "romantic": "loving", "proud": "stately", "bold": "daring",
    "triumphant": "victorious", "festive": "celebratory", "lively": "spirited", "cool": "slick", "smooth": "silky",
    "gentle": "delicate", "tender": "affectionate", "epic": "monumental", "heroic": "valiant", "majestic": "regal",
    "merry": "jolly", "cheerful": "good-humored", "driving": "relentless", "hypnotic": "trance-like",
    "sleepy": "drowsy", "sweet": "sugary", "bluesy": "down-home", "bouncy": "springy", "charming": "enchanting",
    "earthy": "rustic", "emotional": "moving", "ethereal": "otherworldly", "fast": "speedy", "heavy": "hard-hitting",
    "innocent": "childlike", "moody": "brooding", "quirky": "odd", "raw": "rough", "simple": "plain",
    "soulful": "heartfelt", "swinging": "finger-snapping", "upbeat": "peppy", "nostalgic": "bittersweet",
    "powerful": "mighty", "sunny": "summery", "laid-back": "lazy",
}  # fmt: skip
ROOM_WORDS = {
    "room": ("in a room", "with a little reverb", "live in a small room"),
    "hall": ("in a concert hall", "with long reverb", "washed in reverb", "spacious hall sound"),
    "cathedral": ("in a cathedral", "drenched in reverb", "washed in reverb", "enormous reverb"),
    "dry": ("dry", "without reverb", "dry and close", "no effects", "unprocessed sound"),
}  # fmt: skip
ROOM_HELDOUT = {
    "room": "in a small space",
    "hall": "in an auditorium",
    "cathedral": "in a huge church",
    "dry": "with a dry, close sound",
}  # fmt: skip
# Words for a production profile that is more than a room, and for parts that the kick turns down.
SOUND_WORDS = {
    "club": ("club sound", "club mix", "loud club mix", "punchy and compressed", "mixed for the dancefloor"),
    "lo-fi": ("lo-fi sound", "muffled and dusty", "vinyl crackle", "old record sound", "grainy lo-fi recording"),
    "tape": ("tape-saturated", "warm tape sound", "recorded to tape", "analog tape warmth", "tape hiss and wobble"),
    "arena": ("arena sound", "stadium sound", "huge arena reverb", "big stadium mix", "wide and larger than life"),
}  # fmt: skip
SOUND_HELDOUT = {
    "club": "nightclub loudness", "lo-fi": "like a worn-out LP", "tape": "reel-to-reel colouring",
    "arena": "as at an open-air festival",
}  # fmt: skip
SIDECHAIN_WORDS = ("sidechained", "pumping", "with sidechain compression", "ducked by the kick", "pumping sidechain")
SIDECHAIN_HELDOUT = "breathing with the bass drum"
DYNAMICS = {"soft": ("soft", "quiet", "softly played"), "medium": ("",), "loud": ("loud", "strong", "forceful")}
NOUNS = ("music", "track", "piece", "instrumental", "song", "tune")
HELDOUT_NOUNS = ("recording", "cue", "composition", "background music")
# How captions of music without drums or percussion say so; the pipeline says it in the first of these.
NO_DRUMS = ("without drums", "without drums", "no drums", "no drums or percussion", "without percussion", "drumless")
NO_BASS = ("without bass", "no bass", "without a bass line", "bass-free")
NO_BASS_HELDOUT = ("lacking any bass", "minus the bass")
NO_CHORDS = ("without chords", "no chords", "chordless", "without any chords", "no chords or pads")
NO_CHORDS_HELDOUT = ("with the harmony left out", "bare of harmony")
NO_MELODY = ("no melody", "without a melody", "without melody", "no lead melody", "without a lead")
NO_MELODY_HELDOUT = ("lacking a tune", "with nothing on top")
DRUMS_ALONE = ("drums only", "just drums", "drum solo", "drums alone", "only a drum beat", "unaccompanied drums")
DRUMS_ALONE_HELDOUT = ("nothing except a drummer", "a drummer playing by themselves")
NO_DRUMS_HELDOUT = ("minus the drums", "free of percussion", "lacking any beat")


# ---- the grammar ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """The labels that captions may state; `instruments` are canonical names in order of importance.

    `drums` is "drums", "percussion" or None; `bars` is None unless the clip is a whole number of bars long; `complete`
    says that nothing plays but `instruments` and `drums`, however softly, so that captions may say what is absent.
    """

    style: str
    style_words: tuple[str, ...]
    style_heldout_words: tuple[str, ...]
    genre: str
    moods: tuple[str, ...]
    instruments: tuple[str, ...]
    melody: str | None
    drums: str | None
    bpm: float
    key: str | None
    time_signature: str
    bars: int | None
    room: str
    dynamics: str
    loop: bool = False
    complete: bool = False
    absent: tuple[str, ...] = ()  # of bass, chords and melody, what is certainly not there if `complete`
    production: str = ""
    sidechain: bool = False

    @property
    def drumless(self) -> bool:
        return self.complete and self.drums is None


@dataclass
class Stated:
    """The labels that one caption states: canonical names, and whether it has the tempo in bpm, the key, the bars.

    `drums` is True if they are named, False if the caption says that there are none or calls for others alone, else
    None.
    """

    instruments: list[str] = field(default_factory=list)
    drums: bool | None = None
    style: str | None = None
    moods: list[str] = field(default_factory=list)
    bpm: bool = False
    key: bool = False
    bars: bool = False


def _join(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _a(phrase: str) -> str:
    """A phrase with its article; music has none."""
    if phrase.endswith(" music"):
        return phrase
    return ("an " if phrase[0] in "aeio8" or phrase[:2] in ("un", "up", "NE", "EP") else "a ") + phrase


def tempo_words(bpm: float, heldout: bool = False) -> tuple[str, ...]:
    """Words for a tempo."""
    row = next(row for row in TEMPO_WORDS if bpm < row[0])
    return row[2] if heldout else row[1]


class Speaker:
    """Draws words for the facts of one clip and records in `stated` the labels that they state."""

    def __init__(self, facts: Facts, rng: np.random.Generator, heldout: bool):
        self.facts, self.rng, self.heldout = facts, rng, heldout
        self.stated = Stated()

    def pick(self, options):
        """One of several options."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def instrument(self, name: str) -> str:
        if name == "drums":
            self.stated.drums = True
            return self.pick(DRUM_HELDOUT_WORDS if self.heldout else DRUM_WORDS)
        if name == "percussion":
            return "hand percussion" if self.heldout else self.pick(("light percussion", "percussion"))
        if name not in self.stated.instruments:
            self.stated.instruments.append(name)
        instrument = INSTRUMENTS[name]
        if self.heldout:
            return self.pick(instrument.heldout_words)
        return name if self.chance(0.55) else self.pick(instrument.words)

    def style(self) -> str:
        self.stated.style = self.facts.style
        if self.heldout:
            return self.pick(self.facts.style_heldout_words)
        words = self.facts.style_words
        return words[0] if self.chance(0.45) else self.pick(words)

    def mood(self) -> str:
        word = self.pick(self.facts.moods)
        if word not in self.stated.moods:
            self.stated.moods.append(word)
        return MOOD_HELDOUT.get(word, word) if self.heldout else word

    def tempo(self) -> str:
        return self.pick(tempo_words(self.facts.bpm, self.heldout))

    def noun(self) -> str:
        if self.facts.loop and self.chance(0.5):
            return "looping cue" if self.heldout else self.pick(("loop", "seamless loop"))
        return self.pick(HELDOUT_NOUNS if self.heldout else NOUNS)

    def chosen(self, most: int) -> list[str]:
        """Some instruments, the melody first, drums last, as words."""
        facts = self.facts
        rest = [i for i in facts.instruments if i != facts.melody]
        rest = [rest[k] for k in self.rng.permutation(len(rest))]
        names = ([facts.melody] if facts.melody else []) + rest
        names = names[: int(self.rng.integers(1, most + 1))] if names else []
        if facts.drums and (self.chance(0.6) or not names):
            names.append(facts.drums)
        return list(dict.fromkeys(self.instrument(n) for n in names))

    def bpm(self) -> str:
        self.stated.bpm = True
        return f"{self.facts.bpm:g}"

    def number(self) -> str:
        bpm = self.bpm()
        if self.heldout:
            return self.pick((f"{bpm} beats a minute", f"metronome at {bpm}"))
        return self.pick((f"{bpm} bpm", f"{bpm} BPM", f"at {bpm} bpm", f"tempo {bpm}", f"{bpm} beats per minute"))

    def plain_key(self) -> str:
        self.stated.key = True
        return str(self.facts.key)

    def key(self) -> str:
        key = self.plain_key()
        if self.heldout:
            return f"written in {key}"
        return self.pick((f"in {key}", f"in {key}", f"key of {key}"))

    def bars(self) -> str:
        self.stated.bars = True
        return f"{self.facts.bars} {'bar' if self.facts.bars == 1 else 'bars'}"

    def meter(self) -> str:
        facts = self.facts
        if facts.bars and self.chance(0.5):
            return f"{self.bars()} long" if self.heldout else self.bars()
        if self.heldout:
            return f"counted in {facts.time_signature}"
        return self.pick((f"in {facts.time_signature}", f"{facts.time_signature} time"))

    def room(self) -> str:
        """The room, or of a profile that is more than one, its sound."""
        if self.facts.production in SOUND_WORDS:
            return self.sound()
        return ROOM_HELDOUT[self.facts.room] if self.heldout else self.pick(ROOM_WORDS[self.facts.room])

    def absence(self) -> str:
        self.stated.drums = False
        return self.pick(NO_DRUMS_HELDOUT if self.heldout else NO_DRUMS)

    def sound(self) -> str:
        name = self.facts.production
        return SOUND_HELDOUT[name] if self.heldout else self.pick(SOUND_WORDS[name])

    def sidechain(self) -> str:
        return SIDECHAIN_HELDOUT if self.heldout else self.pick(SIDECHAIN_WORDS)

    def no_bass(self) -> str:
        return self.pick(NO_BASS_HELDOUT if self.heldout else NO_BASS)

    def no_chords(self) -> str:
        return self.pick(NO_CHORDS_HELDOUT if self.heldout else NO_CHORDS)

    def no_melody(self) -> str:
        return self.pick(NO_MELODY_HELDOUT if self.heldout else NO_MELODY)

    def details(self, most: int = 4) -> list[str]:
        """At most `most` of tempo (in about 40 % of captions), key (25 %), meter or bars (15 %), room or sound (12 to
        25 %), sidechain (20 %) and the absence of drums (25 %), bass, chords or melody (15 % each)."""
        key_share = 0.27 if self.facts.key else 0.0
        shares = ((self.number, 0.42), (self.key, key_share), (self.meter, 0.15))
        shares += ((self.room, 0.25 if self.facts.production in SOUND_WORDS else 0.12),)
        shares += ((self.sidechain, 0.2),) if self.facts.sidechain else ()
        shares += ((self.absence, 0.25),) if self.facts.drumless else ()
        absences = {"bass": self.no_bass, "chords": self.no_chords, "melody": self.no_melody}
        shares += tuple((absences[name], 0.15) for name in self.facts.absent if self.facts.complete)
        chosen = [write for write, share in shares if self.chance(share)]
        return [chosen[k]() for k in self.rng.permutation(len(chosen))[:most]]


def _sentence(s: Speaker) -> str:
    adjectives = [w for w in (s.mood() if s.chance(0.7) else "", s.tempo() if s.chance(0.35) else "",
                              s.pick(DYNAMICS[s.facts.dynamics]) if s.chance(0.15) else "") if w]  # fmt: skip
    head = " ".join([", ".join(dict.fromkeys(adjectives)), s.style(), s.noun()]).strip()
    text = _a(head)
    players = s.chosen(3) if s.chance(0.85) else []
    if players:
        text += s.pick((" with ", " featuring ", " played by ", " for ")) + _join(players)
    for detail in s.details():
        text += ", " + detail
    return text[0].upper() + text[1:] + "." if s.chance(0.5) else text


def _lead(s: Speaker) -> str:
    facts = s.facts
    backing = [i for i in facts.instruments if i != facts.melody]
    lead = s.instrument(facts.melody)
    mood = s.mood() + " " if s.chance(0.5) else ""
    text = s.pick((f"{_a(mood + lead)} melody", f"{_a(lead)} plays {_a(mood + 'tune')}", f"{mood}{lead} lead"))
    if backing:
        text += s.pick((" over ", " accompanied by ", " with ")) + _join([s.instrument(b) for b in backing[:2]])
    if facts.drums and s.chance(0.5):
        text += s.pick((", with ", " plus ")) + s.instrument(facts.drums)
    if s.chance(0.5):
        text += ", " + s.style()
    return ", ".join([text, *s.details()])


def _tags(s: Speaker) -> str:
    words = [s.style(), *s.chosen(3)]
    if s.chance(0.6):
        words.append(s.mood())
    if s.chance(0.3):
        words.append(s.tempo())
    words += s.details()
    words = list(dict.fromkeys(words))
    return s.pick((", ", ", ", " ")).join(words[k] for k in s.rng.permutation(len(words)))


def _short(s: Speaker) -> str:
    lead = s.facts.melody or next(iter(s.facts.instruments), None)
    # Functions, so that only the form that is chosen is recorded as stated.
    form = s.pick(
        (
            lambda: f"{s.mood()} {s.style()}",
            lambda: f"{s.tempo()} {s.style()}",
            s.style,
            lambda: f"{s.mood()} {s.facts.genre} {s.noun()}",
            lambda: _join(s.chosen(2) or [s.noun()]),
            lambda: f"{s.style()} with {_join(s.chosen(2) or [s.noun()])}",
            lambda: f"{s.mood()} {s.instrument(lead) if lead else s.noun()}",
        )
    )
    return " ".join([form(), *s.details(1)])


def _casual(s: Speaker) -> str:
    text = s.pick(("something ", "give me something ", "i want something ", "make it ")) + s.mood()
    players = s.chosen(2)
    if players:
        text += " with " + _join(players)
    if s.chance(0.5):
        text += s.pick((", like ", ", some ")) + s.style()
    if s.chance(0.42):
        bpm = s.bpm()
        text += s.pick((f" around {bpm}", f" at {bpm} bpm", f", {bpm} bpm"))
    if s.facts.drumless and s.chance(0.25):
        text += s.pick((" but ", ", ")) + s.absence()
    return text


def _expert(s: Speaker) -> str:
    facts = s.facts
    parts = [s.style().capitalize(), _join(s.chosen(3) or [s.noun()])]
    if s.chance(0.55):
        parts.append(f"{s.bpm()} BPM")
    if facts.key and s.chance(0.5):
        parts.append(s.plain_key())
    if s.chance(0.3):
        parts.append(facts.time_signature)
    if facts.bars and s.chance(0.3):
        parts.append(s.bars())
    if facts.drumless and s.chance(0.25):
        parts.append(s.absence())
    return s.pick((", ", "; ", " / ")).join(parts)


def _solo(s: Speaker) -> str:
    s.stated.drums = False
    lead = s.instrument(s.facts.instruments[0])
    forms = (lambda: f"solo {lead}", lambda: f"{lead} alone", lambda: f"{s.mood()} solo {lead}",
             lambda: f"{s.tempo()} {lead} solo")  # fmt: skip
    return ", ".join([s.pick(forms)(), *s.details()])


def _only(s: Speaker) -> str:
    """All that plays, and that nothing else does."""
    facts = s.facts
    players = [s.instrument(name) for name in (*facts.instruments, *([facts.drums] if facts.drums else []))]
    s.stated.drums = facts.drums == "drums" if facts.drums != "percussion" else None
    forms = (lambda: f"only {_join(players)}", lambda: f"just {_join(players)}", lambda: f"{_join(players)} only",
             lambda: f"nothing but {_join(players)}", lambda: f"{_join(players)} and nothing else")  # fmt: skip
    if len(players) == 1:
        forms += (lambda: f"unaccompanied {players[0]}",)
    text = s.pick(forms)()
    if s.chance(0.5):
        text = s.pick((f"{s.style()}, {text}", f"{text}, {s.style()}"))
    return ", ".join([text, *s.details()])


def _drums_alone(s: Speaker) -> str:
    s.stated.drums = True
    text = s.pick(DRUMS_ALONE_HELDOUT if s.heldout else DRUMS_ALONE)
    form = s.pick((lambda: text, lambda: f"{s.style()}, {text}", lambda: f"{text}, {s.mood()}"))
    return ", ".join([form(), *s.details()])


def _heldout_request(s: Speaker) -> str:
    text = "please make " + _a(f"{s.mood()} {s.style()} {s.noun()}")
    players = s.chosen(2)
    if players:
        text += f" using {_join(players)}"
    return ", ".join([text, *s.details()])


def _heldout_scene(s: Speaker) -> str:
    players = s.chosen(2) or ["the band"]
    text = f"{_join(players)} in {_a(f'{s.tempo()}, {s.mood()} {s.noun()}')}"
    if s.chance(0.5):
        text += f" in the style of {s.style()}"
    return ", ".join([text, *s.details()])


def _heldout_question(s: Speaker) -> str:
    players = s.chosen(2) or [s.noun()]
    return ", ".join([f"can i get some {s.tempo()} {s.style()} where we hear {_join(players)}", *s.details()])


def captions(
    facts: Facts, count: int, rng: np.random.Generator, speaker: type[Speaker] = Speaker
) -> list[tuple[str, Stated]]:
    """`count` distinct training captions, each with the labels it states; `speaker` chooses the words."""
    forms = [_sentence, _sentence, _lead, _tags, _short, _casual, _expert]
    if facts.melody is None:
        forms.remove(_lead)
    if facts.complete and 1 <= len(facts.instruments) <= 3:
        forms.append(_only)
    if facts.complete and not facts.instruments and facts.drums == "drums":
        forms += [_drums_alone, _drums_alone, _drums_alone]
    alone = len(facts.instruments) == 1 and facts.drums is None
    return _distinct(speaker(facts, rng, False), [*forms, _solo, _solo] if alone else forms, count)


def heldout_captions(facts: Facts, count: int, rng: np.random.Generator) -> list[tuple[str, Stated]]:
    """`count` distinct held-out captions: the same, in templates and words that no training caption has."""
    return _distinct(Speaker(facts, rng, True), [_heldout_request, _heldout_scene, _heldout_question], count)


def _distinct(speaker: Speaker, forms: list, count: int) -> list[tuple[str, Stated]]:
    order = [forms[k] for k in speaker.rng.permutation(len(forms))]
    texts: dict[str, Stated] = {}
    for number in range(20 * count):
        speaker.stated = Stated()
        text = " ".join(order[number % len(order)](speaker).split())
        texts.setdefault(text, speaker.stated)
        if len(texts) == count:
            break
    return list(texts.items())
