"""Captions of a clip from its labels: a grammar with synonyms, partial attributes and several registers.

Training captions and held-out captions use disjoint templates and, for instruments, styles, tempo and moods,
disjoint
words: held-out captions test whether a model understands paraphrase. Every word said is true of the clip.
"""

from dataclasses import dataclass

import numpy as np

from training.data.caption_words import (
    DYNAMICS,
    HELDOUT_NOUNS,
    MOOD_HELDOUT,
    NOUNS,
    ROOM_HELDOUT,
    ROOM_WORDS,
    TEMPO_WORDS,
)
from training.data.instruments import DRUM_HELDOUT_WORDS, DRUM_WORDS, INSTRUMENTS


@dataclass(frozen=True)
class Facts:
    """What captions may say of a clip; `instruments` hold canonical names in order of importance.

    `drums` is "drums", "percussion" or None; `bars` is None unless the clip is a whole number of bars long.
    """

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


class _Speaker:
    """Draws words for the facts of one clip."""

    def __init__(self, facts: Facts, rng: np.random.Generator, heldout: bool):
        self.facts, self.rng, self.heldout = facts, rng, heldout

    def pick(self, options):
        """One of several options."""
        return options[int(self.rng.integers(len(options)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def instrument(self, name: str) -> str:
        if name == "drums":
            return self.pick(DRUM_HELDOUT_WORDS if self.heldout else DRUM_WORDS)
        if name == "percussion":
            return "hand percussion" if self.heldout else self.pick(("light percussion", "percussion"))
        known = INSTRUMENTS[name]
        if self.heldout:
            return self.pick(known.heldout_words)
        return known.name if self.chance(0.55) else self.pick(known.words)

    def style(self) -> str:
        if self.heldout:
            return self.pick(self.facts.style_heldout_words)
        words = self.facts.style_words
        return words[0] if self.chance(0.45) else self.pick(words)

    def mood(self) -> str:
        word = self.pick(self.facts.moods)
        return MOOD_HELDOUT.get(word, word) if self.heldout else word

    def tempo(self) -> str:
        return self.pick(tempo_words(self.facts.bpm, self.heldout))

    def noun(self) -> str:
        return self.pick(HELDOUT_NOUNS if self.heldout else NOUNS)

    def genre_noun(self) -> str:
        return self.style() if self.heldout else f"{self.facts.genre} {self.noun()}"

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

    def number(self) -> str:
        bpm = f"{self.facts.bpm:g}"
        if self.heldout:
            return self.pick((f"clocked at {bpm} beats a minute", f"metronome on {bpm}"))
        return self.pick((f"{bpm} bpm", f"{bpm} BPM", f"at {bpm} bpm", f"tempo {bpm}", f"{bpm} beats per minute"))

    def key(self) -> str:
        key = self.facts.key
        if self.heldout:
            return f"written in {key}"
        return self.pick((f"in {key}", f"in {key}", f"key of {key}"))

    def meter(self) -> str:
        facts = self.facts
        if facts.bars and self.chance(0.5):
            return f"lasting {facts.bars} bars" if self.heldout else f"{facts.bars} bars"
        if self.heldout:
            return f"counted in {facts.time_signature}"
        return self.pick((f"in {facts.time_signature}", f"{facts.time_signature} time"))

    def details(self) -> list[str]:
        """Tempo, key, meter, room: about 40 % say the bpm, 25 % the key, 15 % meter or bars."""
        out = []
        if self.chance(0.42):
            out.append(self.number())
        if self.facts.key and self.chance(0.27):
            out.append(self.key())
        if self.chance(0.15):
            out.append(self.meter())
        if self.chance(0.1):
            out.append(ROOM_HELDOUT[self.facts.room] if self.heldout else self.pick(ROOM_WORDS[self.facts.room]))
        return [out[k] for k in self.rng.permutation(len(out))]


def _sentence(s: _Speaker) -> str:
    adjectives = [w for w in (s.mood() if s.chance(0.7) else "", s.tempo() if s.chance(0.35) else "",
                              s.pick(DYNAMICS[s.facts.dynamics]) if s.chance(0.15) else "") if w]  # fmt: skip
    head = " ".join([", ".join(dict.fromkeys(adjectives)), s.style(), s.noun()]).strip()
    players = s.chosen(3)
    text = _a(head)
    if players and s.chance(0.85):
        text += s.pick((" with ", " featuring ", " played by ", " for ")) + _join(players)
    for detail in s.details():
        text += ", " + detail
    return text[0].upper() + text[1:] + "." if s.chance(0.5) else text


def _lead(s: _Speaker) -> str:
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


def _tags(s: _Speaker) -> str:
    words = [s.style(), *s.chosen(3)]
    if s.chance(0.6):
        words.append(s.mood())
    if s.chance(0.3):
        words.append(s.tempo())
    words += s.details()
    words = list(dict.fromkeys(words))
    return s.pick((", ", ", ", " ")).join(words[k] for k in s.rng.permutation(len(words)))


def _short(s: _Speaker) -> str:
    players = s.chosen(2)
    options = [
        f"{s.mood()} {s.style()}",
        f"{s.tempo()} {s.style()}",
        s.style(),
        f"{s.mood()} {s.genre_noun()}",
    ]
    if players:
        options += [_join(players), f"{s.style()} with {_join(players)}", f"{s.mood()} {players[0]}"]
    return " ".join([s.pick(options), *s.details()[:1]])


def _casual(s: _Speaker) -> str:
    players = s.chosen(2)
    text = s.pick(("something ", "give me something ", "i want something ", "make it ")) + s.mood()
    if players:
        text += " with " + _join(players)
    if s.chance(0.5):
        text += s.pick((", like ", ", some ")) + s.style()
    if s.chance(0.42):
        text += s.pick((f" around {s.facts.bpm:g}", f" at {s.facts.bpm:g} bpm", f", {s.facts.bpm:g} bpm"))
    return text


def _expert(s: _Speaker) -> str:
    facts = s.facts
    parts = [s.style().capitalize(), _join(s.chosen(3) or [s.noun()])]
    if s.chance(0.55):
        parts.append(f"{facts.bpm:g} BPM")
    if facts.key and s.chance(0.5):
        parts.append(facts.key)
    if s.chance(0.3):
        parts.append(facts.time_signature)
    if facts.bars and s.chance(0.3):
        parts.append(f"{facts.bars} bars")
    return s.pick((", ", "; ", " / ")).join(parts)


def _solo(s: _Speaker) -> str:
    lead = s.instrument(s.facts.instruments[0])
    text = s.pick((f"solo {lead}", f"{lead} alone", f"{s.mood()} solo {lead}", f"{s.tempo()} {lead} solo"))
    return ", ".join([text, *s.details()])


def _heldout_request(s: _Speaker) -> str:
    text = f"please compose {_a(s.mood())} {s.style()}"
    players = s.chosen(2)
    if players:
        text += f", scored for {_join(players)}"
    return ", ".join([text, *s.details()])


def _heldout_scene(s: _Speaker) -> str:
    players = s.chosen(2) or ["the band"]
    text = f"{_join(players)} can be heard in this {s.tempo()}, {s.mood()} {s.noun()}"
    return ", ".join([text, *s.details()])


def _heldout_question(s: _Speaker) -> str:
    players = s.chosen(2) or [s.noun()]
    return ", ".join([f"how about {_a(s.tempo())} {s.style()} where we hear {_join(players)}", *s.details()])


def captions(facts: Facts, count: int, rng: np.random.Generator) -> list[str]:
    """`count` distinct training captions."""
    forms = [_sentence, _sentence, _lead, _tags, _short, _casual, _expert]
    if facts.melody is None:
        forms.remove(_lead)
    speaker = _Speaker(facts, rng, False)
    alone = len(facts.instruments) == 1 and facts.drums is None
    return _distinct(speaker, [*forms, _solo, _solo] if alone else forms, count)


def heldout_captions(facts: Facts, count: int, rng: np.random.Generator) -> list[str]:
    """`count` distinct paraphrases out of templates and words that no training caption uses."""
    return _distinct(_Speaker(facts, rng, True), [_heldout_request, _heldout_scene, _heldout_question], count)


def _distinct(speaker: _Speaker, forms: list, count: int) -> list[str]:
    order = [forms[k] for k in speaker.rng.permutation(len(forms))]
    texts: dict[str, None] = {}
    for number in range(20 * count):
        texts[" ".join(order[number % len(order)](speaker).split())] = None
        if len(texts) == count:
            break
    return list(texts)
