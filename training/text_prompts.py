"""Prompts as users write them: a small grammar over the word lists, the training text of the text encoder.

The teacher gives each text its meaning, so a text needs no music beside it and may say anything; what counts is that
many different words stand in many different places.
"""

import random
from collections.abc import Sequence

from training.text_words import DECADES, GENRES, INSTRUMENTS, KEY_NAMES, METERS, MODES, MOODS, SCENES, SOUNDS, TEMPOS

# Slots: M mood, S sound, T tempo, G genre, I instrument, P scene, K key, R meter, B tempo in beats, N bars, D decade,
# W a word of the teacher's vocabulary. Capital letters in braces are drawn anew at each use.
TEMPLATES = (
    "{M}", "{S}", "{G}", "{I}", "{P}", "{T}", "{M} {G}", "{S} {G}", "{M} {I}", "{S} {I}", "{M} {M} {G}",
    "{T} {G}", "{M} music", "{M} song", "{M} {G} music", "music for {P}", "{M} music for {P}", "{G} for {P}",
    "sounds like {P}", "something {M}", "something {M} and {M}", "something {M} for {P}",
    "i want something {M}", "give me some {M} {G}", "make it {M}", "play {M} {G}", "play me a {M} {G} with {I}",
    "{M} vibes", "{M} {G} vibes", "feels like {P}", "{M}, {M}, {G}", "{G}, {M}, {I}", "{M}, {S}, {I}",
    "{I}, {I}, {M}, {T}", "{G}, {B} bpm, {K}", "{M} {I} melody", "{I}", "solo {I}", "{I} solo", "{I} and {I}",
    "{I}, {I} and {I}", "{T} {I} solo", "{M} solo {I} piece", "a {M} {G} with {I}", "a {M} {G} for {I} and {I}",
    "a {T} and {M} {G}", "{T} {M} {G} with {I} and {I}", "a {M} melody on the {I}", "{I} playing a {M} tune",
    "{M} {I} over {S} {I}", "{I} with {M} {I}", "no drums, {M} {I}", "{M} {G} without {I}", "{G} in {K}",
    "{M} {I} in {K}", "{T} {G} in {K}, {B} bpm", "{B} bpm {G}", "{M} {G} at {B} bpm",
    "{G} at {B} beats per minute", "{T} {I} in {K}, {B} bpm, {N} bars", "{M} {G}, {N} bars, {R}",
    "a {R} {G} in {K}", "{N} bars of {M} {G}", "{M} {G} in {R} time", "{D} {G}", "{D} {M} {G} with {I}",
    "{D} style {I}", "{S}, {M}, {D}", "{M} soundtrack for {P}", "background music for {P}, {M}",
    "the mood is {M} and {M}", "{S} sound", "{S} and {M}", "{M} but {M}", "not {M}, more {M}", "very {M} {G}",
    "kind of {M} {G}", "really {S} {I}", "a bit {M}", "super {M} beat", "{M} beat with {I}", "{M} loop",
    "{S} {G} loop with {I}", "{I} loop, {B} bpm", "{M} chords on {I}", "{S} bassline", "{M} intro with {I}",
    "{G} banger", "{M} lullaby on {I}", "a {M} dance", "{M} orchestral piece", "an ensemble of {I} and {I}",
    "imagine {P}: {M}, {T}, {I}", "{P}, {M}", "{M} like {P}", "theme of {P}", "{G} with a {M} mood",
    "{I} and {I} in a {S} {G}",
)  # fmt: skip
WORD_TEMPLATES = (
    "{W} music", "{W} {G}", "a {W} song", "{W} {I}", "music about {W}", "{M} and {W}", "something {W}",
    "{W} vibes", "{G} for {W}", "it sounds {W}", "a {W} melody on {I}", "{T} {W} {G}", "{W}, {M}, {G}",
    "{W} {W}", "{W} and {W} {G}", "music for {W}", "the {W} of {W}", "{W} {I}, {B} bpm", "a {M} {G} about {W}",
    "{W} style",
)  # fmt: skip


class PromptGrammar:
    """Draws prompts from the templates.

    Args:
        seed: seed of the draws; equal seeds give equal prompts in equal order.
        words: words for the slot W, most wanted first; may be empty.
    """

    def __init__(self, seed: int, words: Sequence[str] = ()):
        self.random = random.Random(seed)
        self.words = tuple(words)
        self.slots = {
            "M": MOODS, "S": SOUNDS, "T": TEMPOS, "G": GENRES, "I": INSTRUMENTS, "P": SCENES, "R": METERS, "D": DECADES,
        }  # fmt: skip

    def slot(self, name: str) -> str:
        """Draw one filling for a slot of the templates."""
        if name == "K":
            return f"{self.random.choice(KEY_NAMES)} {self.random.choice(MODES)}"
        if name == "B":
            return str(self.random.randint(40, 220))
        if name == "N":
            return str(self.random.choice((1, 2, 3, 4, 6, 8, 12, 16, 24, 32)))
        if name == "W":
            return self.random.choice(self.words)
        return self.random.choice(self.slots[name])

    def fill(self, template: str, word: str | None = None) -> str:
        """Fill every slot of a template; the first W takes `word` if one is given."""
        out = []
        for part in template.replace("}", "{").split("{"):
            if part == "W" and word is not None:
                out.append(word)
                word = None
            else:
                out.append(self.slot(part) if len(part) == 1 and part.isupper() else part)
        return "".join(out)

    def prompt(self) -> str:
        """One prompt of the music grammar."""
        return self.fill(self.random.choice(TEMPLATES))

    def long_prompt(self) -> str:
        """Two prompts in one, as in a full caption."""
        return self.random.choice(("{}, {}", "{}. {}", "{}, with {}", "{} and {}")).format(self.prompt(), self.prompt())

    def about(self, word: str) -> str:
        """One short prompt with the given word in it."""
        return self.fill(self.random.choice(WORD_TEMPLATES), word)


def single_entries() -> list[str]:
    """Every entry of the word lists alone, in order and each once."""
    lists = (MOODS, SOUNDS, TEMPOS, GENRES, INSTRUMENTS, SCENES, METERS, DECADES)
    return list(dict.fromkeys(entry for entries in lists for entry in entries))


def training_texts(count: int, per_word: int, words: Sequence[str], seed: int) -> list[str]:
    """The whole training text: every list entry and word alone, prompts of the grammar, words in templates.

    Args:
        count: prompts drawn from the music grammar, every fourth a long one.
        per_word: templates in which each word is set, besides standing alone.
        words: words of the teacher's vocabulary.
        seed: seed of the draws.

    Returns:
        Texts, each once, in a fixed order.
    """
    grammar = PromptGrammar(seed, words)
    texts = single_entries() + list(words)
    texts += [grammar.long_prompt() if number % 4 == 0 else grammar.prompt() for number in range(count)]
    texts += [grammar.about(word) for word in words for _ in range(per_word)]
    return list(dict.fromkeys(texts))
