"""Sentences of many forms around the same facts, for the text encoder's second tellings.

None has the nouns, connecting words or templates of the held-out captions (training/data/scorebook/captions.py).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.scorebook.captions import Facts, Speaker, captions
from training.data.scorebook.instruments import DRUM_WORDS, INSTRUMENTS
from training.text.corpus import TEMPLATES, PromptGrammar
from training.text.retelling import CARRIERS, MOOD_SYNONYMS
from training.text.tags import MOOD_NAMES, STYLE_NAMES, STYLE_WORDS, heldout_phrases
from training.text.words import (
    DRUMS,
    GENRES,
    INSTRUMENT_LEXICON,
    INSTRUMENT_SYNONYMS,
    STYLE_LEXICON,
    STYLE_SYNONYMS,
    TEMPOS,
)

_NOUNS = (
    "music", "track", "piece", "instrumental", "song", "tune", "thing", "number", "theme", "work", "sketch", "idea",
    "jingle", "bit", "arrangement", "production", "demo", "backdrop", "bed", "score", "record", "sound", "one", "loop",
    "intro", "clip", "part", "session", "interlude", "study", "version", "file", "sample", "mix", "excerpt",
)  # fmt: skip
_PLAIN_NOUNS = _NOUNS[:6]
_WITH = (
    " with ", " featuring ", " having ", " and also ", " plus ", ", played on ", " played by ", " led by ",
    " built on ", ", there is ", " including ", " backed by ", " together with ", " carried by ", " on ", ", i hear ",
    ", bring in ", ", add ", " mixed with ", " starring ", " accompanied by ", " supported by ", ", instruments: ",
    " made with ", " performed by ", ", some ", " over ", " that has ", " containing ", ", mostly ", " where ",
    " which has ",
)  # fmt: skip
_DETAILS = (
    "{} bpm", "at {} bpm", "{} beats per minute", "tempo {}", "in A minor", "in C major", "key of G minor", "in 3/4",
    "4/4 time", "in 6/8", "8 bars", "in D major", "about {} bpm", "around {}", "at tempo {}", "F minor", "{} seconds",
    "with reverb", "4 bars long",
)  # fmt: skip
_THAT_IS = (" that feels ", " which is ", ", ", " and it is ", ", make it ", " sounding ", " - ")
_LIKE = (
    " like ", ", kind of ", ", think ", " inspired by ", " of type ", ", genre: ", " close to ", " in ",
    " influenced by ", ", ",
)  # fmt: skip
_PLAYING = (" playing ", " doing ", " carrying ", " over ", " leading ", " for ", " on top of ", ", ")


def free_form(
    rng: np.random.Generator, style: str | None, moods: Sequence[str], players: Sequence[str]
) -> tuple[str, str]:
    """Two sentences that say the same.

    Args:
        rng: draws the forms, a tempo word and up to three details.
        style: what the style is called; None = not named.
        moods: words.
        players: instruments; may be empty if there is a style.

    Returns:
        A plain sentence, and one of many forms.
    """

    def pick(options):
        return options[int(rng.integers(len(options)))]

    def words(*parts: str | None) -> str:
        return " ".join(part for part in parts if part)

    def listed(names: list[str]) -> str:
        return (
            names[0] if len(names) == 1 else ", ".join(names[:-1]) + pick((" and ", ", ", " & ", " plus ")) + names[-1]
        )

    tempo = pick(TEMPOS) if rng.random() < 0.4 else None
    many = int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
    details = [pick(_DETAILS).format(int(rng.integers(45, 200))) for _ in range(many)]
    plain = words(", ".join(moods), tempo, style, pick(_PLAIN_NOUNS))
    if players:
        plain += " with " + (players[0] if len(players) == 1 else ", ".join(players[:-1]) + " and " + players[-1])
    plain = ", ".join([plain, *details])

    shuffled = [players[place] for place in rng.permutation(len(players))]
    adjectives = [*moods, tempo] if tempo else list(moods)
    adjectives = [adjectives[place] for place in rng.permutation(len(adjectives))]
    noun, article, described = pick(_NOUNS), pick(("a ", "a ", "", "some ", "the ", "one ")), ""
    if adjectives:
        described = pick((" ", ", ", " and ")).join(adjectives)
    form = int(rng.integers(6))
    if form > 3 and shuffled:
        text = listed(shuffled) + pick(_PLAYING) + article + words(described, noun if rng.random() < 0.5 else "")
        if style:
            text += (pick((" of ", ", ", " like ", " - ", ", some ", " as ")) if rng.random() < 0.5 else " ") + style
        shuffled = []
    elif style is None or form in (0, 4, 5):
        text = article + words(described, style, noun if style is None or rng.random() < 0.7 else "")
    elif form == 1:
        text = f"{article}{style} {noun}" + (pick(_THAT_IS) + described if described else "")
    elif form == 2:
        text = article + words(described, noun) + pick(_LIKE) + style
    else:
        text = pick((", ", "; ", " / ", " ")).join([style, *adjectives])
    if shuffled:
        text += pick(_WITH) + listed(shuffled)
    parts = [text, *details] if rng.random() < 0.7 else [*details, text]
    return plain, " ".join(pick((", ", ", ", "; ", " ")).join(parts).split())


# One list of facts told twice: plainly, in the captions' own words, and as other people would say it.

_BEFORE = {
    "instrument": (
        "old", "big", "small", "soft", "solo", "smooth", "warm", "bright", "gentle", "loud", "vintage", "acoustic",
        "dark", "muddy", "clear", "lonely", "sweet", "lively", "deep", "high", "low", "little", "lovely", "mellow",
        "beautiful", "emotional", "happy", "sad", "crisp", "rich", "raw", "real", "distant", "jazzy", "classical",
        "traditional", "modern", "orchestral", "folky", "baroque", "rustic", "expressive", "nice", "some", "lots of",
        "a", "the", "an old", "my", "live", "sampled", "electronic", "virtual", "quiet", "rhythmic", "melodic",
    ),
    "style": (
        "old", "modern", "classic", "soft", "hard", "dark", "smooth", "traditional", "fast", "slow", "upbeat", "deep",
        "retro", "70s", "80s", "90s", "vintage", "new", "some", "real", "pure", "instrumental", "live", "raw",
        "underground", "authentic", "happy", "sad", "chill",
    ),
}  # fmt: skip
_BEHIND = {
    "instrument": (
        " player", " solo", " line", " part", " melody", " chords", " sound", " tune", " playing", "s", " riff",
        " section", " music", " sounds", " phrases", " texture",
    ),
    "style": (
        " music", " song", " tune", " track", " band", " style", " piece", " vibe", " groove", " number", " feel",
        " performance",
    ),
}  # fmt: skip
_MUSICAL = tuple(text for text in TEMPLATES if any(slot in text for slot in ("{I}", "{G}", "{M}")))


@dataclass(frozen=True)
class Concept:
    """What prompts name: "instrument", "style" or "mood", its label, the captions' words, a few others and many."""

    kind: str
    name: str
    own: tuple[str, ...]
    synonyms: tuple[str, ...]
    lexicon: tuple[str, ...] = ()


CONCEPTS = (
    *(
        Concept("instrument", name, known.words, INSTRUMENT_SYNONYMS[name], INSTRUMENT_LEXICON[name])
        for name, known in INSTRUMENTS.items()
    ),
    Concept("instrument", "drums", tuple(DRUM_WORDS), DRUMS),
    *(
        Concept(
            "style",
            name,
            tuple(STYLE_WORDS.get(name, STYLE_SYNONYMS[name][:1])),
            STYLE_SYNONYMS[name],
            STYLE_LEXICON[name],
        )
        for name in STYLE_NAMES
    ),
    *(Concept("mood", name, (name,), MOOD_SYNONYMS[name]) for name in MOOD_NAMES),
)
# A slot is one character of Unicode's private area while a sentence is being made.
_FIRST_MARK = 0xE000
_MARK = re.compile("[\ue000-\uf8ff]")
_MARKS = {(concept.kind, concept.name): chr(_FIRST_MARK + place) for place, concept in enumerate(CONCEPTS)}
_PLAYERS = tuple(INSTRUMENTS)


@dataclass(frozen=True)
class Telling:
    """A text and where its concepts are.

    Attributes:
        text: the text.
        slots: (start, end, number of the concept in `CONCEPTS`) of each slot, in characters.
        body: (start, end) without the words of politeness around it.
    """

    text: str
    slots: tuple[tuple[int, int, int], ...]
    body: tuple[int, int]


class MarkingSpeaker(Speaker):
    """Speaks as training captions do, with marks in place of what instruments, style and mood are called."""

    def instrument(self, name: str) -> str:
        return super().instrument(name) if name == "percussion" else _MARKS["instrument", name]

    def style(self) -> str:
        return _MARKS["style", self.facts.style]

    def mood(self) -> str:
        return _MARKS["mood", self.pick(self.facts.moods)]


class MarkingPrompts(PromptGrammar):
    """The templates of users' prompts with marks in their slots."""

    def slot(self, name: str) -> str:
        choice = self.random.choice
        if name == "I":
            return _MARKS["instrument", choice((*_PLAYERS, *["drums"] * 12))]
        if name in "GM":
            return _MARKS["style", choice(STYLE_NAMES)] if name == "G" else _MARKS["mood", choice(MOOD_NAMES)]
        return super().slot(name)


def _pick(rng: np.random.Generator, options: Sequence):
    return options[int(rng.integers(len(options)))]


def _sentence(rng: np.random.Generator) -> str:
    """A marked sentence of the captions' grammar or of the prompts'."""
    if rng.random() < 0.45:
        prompts = MarkingPrompts(int(rng.integers(2**31)))
        return prompts.fill(prompts.random.choice(_MUSICAL))
    players = tuple(dict.fromkeys(_pick(rng, _PLAYERS) for _ in range(int(rng.integers(1, 5)))))
    facts = Facts(
        style=_pick(rng, STYLE_NAMES), style_words=(), style_heldout_words=(), genre=_pick(rng, GENRES),
        moods=tuple(_pick(rng, MOOD_NAMES) for _ in range(2)), instruments=players,
        melody=players[0] if rng.random() < 0.8 else None, drums=_pick(rng, (None, "drums", "percussion")),
        bpm=float(rng.integers(45, 200)), key=_pick(rng, (None, "C major", "A minor", "F# minor", "Bb major")),
        time_signature=_pick(rng, ("4/4", "3/4", "2/4", "6/8")), bars=_pick(rng, (None, 4, 8)),
        room=_pick(rng, ("dry", "room", "hall", "cathedral")), dynamics=_pick(rng, ("soft", "medium", "loud")),
    )  # fmt: skip
    return captions(facts, 1, rng, MarkingSpeaker)[0][0]


def _facts_and_free_form(rng: np.random.Generator) -> tuple[str, str]:
    """Two marked sentences of the same facts, a plain one and one of many forms."""
    style = _MARKS["style", _pick(rng, STYLE_NAMES)] if rng.random() < 0.75 else None
    moods = [_MARKS["mood", _pick(rng, MOOD_NAMES)] for _ in range(int(rng.choice(3, p=(0.35, 0.5, 0.15))))]
    names = dict.fromkeys(_pick(rng, _PLAYERS) for _ in range(int(rng.integers(0 if style else 1, 4))))
    players = [_MARKS["instrument", name] for name in names]
    if rng.random() < 0.35:
        players.append(_MARKS["instrument", "drums"])
    return free_form(rng, style, moods, players)


class OtherWords:
    """Words for concepts.

    Args:
        nearby: phrases for each concept (number in `CONCEPTS`) besides its synonyms.
    """

    def __init__(self, nearby: Mapping[int, Sequence[str]]):
        self.nearby = nearby
        self.banned = {phrase.lower() for phrase in heldout_phrases()}

    def own(self, rng: np.random.Generator, number: int) -> str:
        """As captions say it."""
        words = CONCEPTS[number].own
        return words[0] if rng.random() < 0.55 else _pick(rng, words)

    def other(self, rng: np.random.Generator, number: int) -> str | None:
        """As others say it; None: as it was."""
        concept, share = CONCEPTS[number], rng.random()
        if share < 0.15:
            return None
        if share < 0.35 and self.nearby.get(number):
            words = _pick(rng, self.nearby[number])
        else:
            long = concept.lexicon and share < 0.7
            words = _pick(rng, concept.lexicon if long else (*concept.own, *concept.synonyms, *concept.synonyms))
            if concept.kind != "mood" and rng.random() < 0.4:
                before, behind = _pick(rng, _BEFORE[concept.kind]), _pick(rng, _BEHIND[concept.kind])
                words = f"{before} {words}" if rng.random() < 0.5 else words + behind
        return None if words.lower() in self.banned else words


def _fill(marked: str, words: Mapping[int, str]) -> Telling:
    text, slots, last = "", [], 0
    for mark in _MARK.finditer(marked):
        number = ord(mark.group()) - _FIRST_MARK
        text += marked[last : mark.start()]
        slots.append((len(text), len(text) + len(words[number]), number))
        text, last = text + words[number], mark.end()
    text += marked[last:]
    return Telling(text, tuple(slots), (0, len(text)))


def _carried(rng: np.random.Generator, telling: Telling) -> Telling:
    """The telling in a sentence that asks for it."""
    before, after = _pick(rng, CARRIERS).split("{}")
    shift = len(before)
    slots = tuple((start + shift, end + shift, number) for start, end, number in telling.slots)
    return Telling(before + telling.text + after, slots, (shift, shift + len(telling.text)))


def tell_twice(rng: np.random.Generator, words: OtherWords) -> tuple[Telling, Telling, bool]:
    """A plain telling, another one, and whether both stand in the same sentence.

    Where the two are the same text, the other telling shows what is to stay as it is.
    """
    free = rng.random() < 0.5
    plain, other = _facts_and_free_form(rng) if free else (_sentence(rng),) * 2
    same = not free and rng.random() < 0.25
    numbers = list(dict.fromkeys(ord(mark) - _FIRST_MARK for mark in _MARK.findall(plain)))
    own = {
        number: words.own(rng, number) if same or rng.random() < 0.2 else CONCEPTS[number].own[0] for number in numbers
    }
    if same:
        return _fill(plain, own), _fill(plain, own), True
    told = _fill(other, {number: words.other(rng, number) or own[number] for number in numbers})
    return _fill(plain, own), _carried(rng, told) if rng.random() < 0.4 else told, not free
