"""Pairs of sentences that state the same facts in other words and forms, on which training/text/align.py trains.

A pair is a plain sentence in the captions' own words and one as other people would write it. Sentences are first made
with a private character in place of each concept (an instrument, style or mood); filling in words then records where
each concept is. No sentence has the nouns, connecting words or templates of the held-out captions
(training/data/scorebook/captions.py).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from training.data.scorebook.captions import Speaker, captions
from training.data.scorebook.instruments import DRUM_WORDS, INSTRUMENTS
from training.text.corpus import TEMPLATES, PromptGrammar
from training.text.rewording import MOOD_SYNONYMS, REQUESTS
from training.text.tags import MOOD_NAMES, STYLE_NAMES, STYLE_WORDS, heldout_phrases, pick, random_facts
from training.text.words import DRUMS, INSTRUMENT_LEXICON, INSTRUMENT_SYNONYMS, STYLE_LEXICON, STYLE_SYNONYMS, TEMPOS

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
    """Two sentences that state the same: a plain one, and one of many forms, with a tempo word and up to three details.

    `players` are instruments; there may be none if there is a style (None = not stated).
    """

    def words(*parts: str | None) -> str:
        return " ".join(part for part in parts if part)

    def listed(names: list[str]) -> str:
        if len(names) == 1:
            return names[0]
        return ", ".join(names[:-1]) + pick(rng, (" and ", ", ", " & ", " plus ")) + names[-1]

    tempo = pick(rng, TEMPOS) if rng.random() < 0.4 else None
    many = int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))
    details = [pick(rng, _DETAILS).format(int(rng.integers(45, 200))) for _ in range(many)]
    plain = words(", ".join(moods), tempo, style, pick(rng, _PLAIN_NOUNS))
    if players:
        plain += " with " + (players[0] if len(players) == 1 else ", ".join(players[:-1]) + " and " + players[-1])
    plain = ", ".join([plain, *details])

    shuffled = [players[place] for place in rng.permutation(len(players))]
    adjectives = [*moods, tempo] if tempo else list(moods)
    adjectives = [adjectives[place] for place in rng.permutation(len(adjectives))]
    noun, article, described = pick(rng, _NOUNS), pick(rng, ("a ", "a ", "", "some ", "the ", "one ")), ""
    if adjectives:
        described = pick(rng, (" ", ", ", " and ")).join(adjectives)
    form = int(rng.integers(6))
    if form > 3 and shuffled:
        text = listed(shuffled) + pick(rng, _PLAYING) + article + words(described, noun if rng.random() < 0.5 else "")
        if style:
            text += (
                pick(rng, (" of ", ", ", " like ", " - ", ", some ", " as ")) if rng.random() < 0.5 else " "
            ) + style
        shuffled = []
    elif style is None or form in (0, 4, 5):
        text = article + words(described, style, noun if style is None or rng.random() < 0.7 else "")
    elif form == 1:
        text = f"{article}{style} {noun}" + (pick(rng, _THAT_IS) + described if described else "")
    elif form == 2:
        text = article + words(described, noun) + pick(rng, _LIKE) + style
    else:
        text = pick(rng, (", ", "; ", " / ", " ")).join([style, *adjectives])
    if shuffled:
        text += pick(rng, _WITH) + listed(shuffled)
    parts = [text, *details] if rng.random() < 0.7 else [*details, text]
    return plain, " ".join(pick(rng, (", ", ", ", "; ", " ")).join(parts).split())


# ---- concepts and their words ----------------------------------------------------------------------------------------

# Words that people put before and after the name of an instrument or style.
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
    """An instrument, a style or a mood that prompts name, and its words."""

    kind: str  # "instrument", "style" or "mood"
    name: str  # its canonical name
    own: tuple[str, ...]  # the words of the scorebook's captions
    # synonyms, lexicon: a few other words, and many, of training/text/words.py
    synonyms: tuple[str, ...]
    lexicon: tuple[str, ...] = ()


CONCEPTS = (
    *(
        Concept("instrument", name, instrument.words, INSTRUMENT_SYNONYMS[name], INSTRUMENT_LEXICON[name])
        for name, instrument in INSTRUMENTS.items()
    ),
    Concept("instrument", "drums", tuple(DRUM_WORDS), DRUMS),
    *(
        Concept("style", name, tuple(STYLE_WORDS.get(name, STYLE_SYNONYMS[name][:1])), STYLE_SYNONYMS[name],
                STYLE_LEXICON[name])
        for name in STYLE_NAMES
    ),
    *(Concept("mood", name, (name,), MOOD_SYNONYMS[name]) for name in MOOD_NAMES),
)  # fmt: skip
# Until words are filled in, a concept is one character of Unicode's private use area.
_FIRST_MARK = 0xE000
_MARK = re.compile("[\ue000-\uf8ff]")
_MARKS = {(concept.kind, concept.name): chr(_FIRST_MARK + place) for place, concept in enumerate(CONCEPTS)}
_PLAYERS = tuple(INSTRUMENTS)


@dataclass(frozen=True)
class Sentence:
    """A text and the places of its concepts."""

    text: str  # the text
    # (start, end, number of the concept in `CONCEPTS`) of each slot, in characters
    slots: tuple[tuple[int, int, int], ...]
    body: tuple[int, int]  # (start, end) without the words of a request around it


class MarkSpeaker(Speaker):
    """Fills the grammar of the training captions with marks in place of instruments, style and mood."""

    def instrument(self, name: str) -> str:
        return super().instrument(name) if name == "percussion" else _MARKS["instrument", name]

    def style(self) -> str:
        return _MARKS["style", self.facts.style]

    def mood(self) -> str:
        return _MARKS["mood", self.pick(self.facts.moods)]


class MarkPrompts(PromptGrammar):
    """The templates of users' prompts with marks in their slots."""

    def slot(self, name: str) -> str:
        choice = self.random.choice
        if name == "I":
            return _MARKS["instrument", choice((*_PLAYERS, *["drums"] * 12))]
        if name in "GM":
            return _MARKS["style", choice(STYLE_NAMES)] if name == "G" else _MARKS["mood", choice(MOOD_NAMES)]
        return super().slot(name)


def _grammar_sentence(rng: np.random.Generator) -> str:
    """A marked sentence of the captions' grammar or of the prompts'."""
    if rng.random() < 0.45:
        prompts = MarkPrompts(int(rng.integers(2**31)))
        return prompts.fill(prompts.random.choice(_MUSICAL))
    players = tuple(dict.fromkeys(pick(rng, _PLAYERS) for _ in range(int(rng.integers(1, 5)))))
    facts = random_facts(rng, pick(rng, STYLE_NAMES), (), players)
    return captions(facts, 1, rng, MarkSpeaker)[0][0]


def _facts_and_free_form(rng: np.random.Generator) -> tuple[str, str]:
    """Two marked sentences of the same facts, a plain one and one of many forms."""
    style = _MARKS["style", pick(rng, STYLE_NAMES)] if rng.random() < 0.75 else None
    moods = [_MARKS["mood", pick(rng, MOOD_NAMES)] for _ in range(int(rng.choice(3, p=(0.35, 0.5, 0.15))))]
    names = dict.fromkeys(pick(rng, _PLAYERS) for _ in range(int(rng.integers(0 if style else 1, 4))))
    players = [_MARKS["instrument", name] for name in names]
    if rng.random() < 0.35:
        players.append(_MARKS["instrument", "drums"])
    return free_form(rng, style, moods, players)


class OtherWords:
    """Words for concepts; `nearby` are phrases for each (number in `CONCEPTS`) besides its synonyms."""

    def __init__(self, nearby: Mapping[int, Sequence[str]]):
        self.nearby = nearby
        self.banned = {phrase.lower() for phrase in heldout_phrases()}

    def own(self, rng: np.random.Generator, number: int) -> str:
        """A word of the captions."""
        words = CONCEPTS[number].own
        return words[0] if rng.random() < 0.55 else pick(rng, words)

    def other(self, rng: np.random.Generator, number: int) -> str | None:
        """A word of other people; None = keep the captions' word."""
        concept, share = CONCEPTS[number], rng.random()
        if share < 0.15:
            return None
        if share < 0.35 and self.nearby.get(number):
            words = pick(rng, self.nearby[number])
        else:
            long = concept.lexicon and share < 0.7
            words = pick(rng, concept.lexicon if long else (*concept.own, *concept.synonyms, *concept.synonyms))
            if concept.kind != "mood" and rng.random() < 0.4:
                before, behind = pick(rng, _BEFORE[concept.kind]), pick(rng, _BEHIND[concept.kind])
                words = f"{before} {words}" if rng.random() < 0.5 else words + behind
        return None if words.lower() in self.banned else words


def _fill(marked: str, words: Mapping[int, str]) -> Sentence:
    text, slots, last = "", [], 0
    for mark in _MARK.finditer(marked):
        number = ord(mark.group()) - _FIRST_MARK
        text += marked[last : mark.start()]
        slots.append((len(text), len(text) + len(words[number]), number))
        text, last = text + words[number], mark.end()
    text += marked[last:]
    return Sentence(text, tuple(slots), (0, len(text)))


def _as_request(rng: np.random.Generator, sentence: Sentence) -> Sentence:
    """The sentence inside one of `REQUESTS`."""
    before, after = pick(rng, REQUESTS).split("{}")
    shift = len(before)
    slots = tuple((start + shift, end + shift, number) for start, end, number in sentence.slots)
    return Sentence(before + sentence.text + after, slots, (shift, shift + len(sentence.text)))


def sentence_pair(rng: np.random.Generator, words: OtherWords) -> tuple[Sentence, Sentence, bool]:
    """A plain sentence, another one that states the same, and whether both have the same words between the concepts.

    In an eighth of the pairs both are the same text, which trains the encoder to keep its states.
    """
    free = rng.random() < 0.5
    plain, other = _facts_and_free_form(rng) if free else (_grammar_sentence(rng),) * 2
    same = not free and rng.random() < 0.25
    numbers = list(dict.fromkeys(ord(mark) - _FIRST_MARK for mark in _MARK.findall(plain)))
    own = {
        number: words.own(rng, number) if same or rng.random() < 0.2 else CONCEPTS[number].own[0] for number in numbers
    }
    if same:
        return _fill(plain, own), _fill(plain, own), True
    filled = _fill(other, {number: words.other(rng, number) or own[number] for number in numbers})
    return _fill(plain, own), _as_request(rng, filled) if rng.random() < 0.4 else filled, not free
