"""Texts and the tags they name (instruments, styles, moods, drums): an auxiliary task of the text encoder.

Distillation alone does not make the named things easy to find among everything else that the teacher's embedding holds.
So the pooled states must also give the tags by a linear map. Half of the texts are captions of the scorebook's grammar
for imagined clips, half are the templates of training/text/corpus.py, filled with the captions' words and the synonyms
of training/text/words.py. Texts are drawn anew at each step, as a function of seed and step.
"""

from collections.abc import Sequence

import numpy as np
import torch

from training.data.scorebook.arrange import ENSEMBLES
from training.data.scorebook.captions import MOOD_HELDOUT, SOUND_WORDS, Facts, Stated, captions
from training.data.scorebook.instruments import DRUM_HELDOUT_WORDS, INSTRUMENTS
from training.data.scorebook.styles import STYLES
from training.run.streams import Stream, item_rng
from training.text.corpus import TEMPLATES, PromptGrammar
from training.text.moods import mood_groups
from training.text.words import DRUMS, GENRES, INSTRUMENT_SYNONYMS, STYLE_SYNONYMS

STYLE_WORDS = {style.name: style.words for style in (*STYLES.values(), *ENSEMBLES)}
STYLE_NAMES = tuple(dict.fromkeys((*STYLE_WORDS, *STYLE_SYNONYMS)))
MOOD_NAMES = tuple(MOOD_HELDOUT)
TAGS = (*(f"instrument:{name}" for name in INSTRUMENTS), *(f"style:{name}" for name in STYLE_NAMES),
        *(f"mood:{name}" for name in MOOD_NAMES), "drums")  # fmt: skip
_PLACE = {tag: place for place, tag in enumerate(TAGS)}
# Templates that ask for everything they name; the others exclude something.
AFFIRMING = tuple(text for text in TEMPLATES if not any(word in text for word in ("without", "no drums", "not {M}")))
_MUSICAL = tuple(text for text in AFFIRMING if "{I}" in text or "{G}" in text)


def heldout_phrases() -> set[str]:
    """The words that only held-out captions use."""
    styles = (*STYLES.values(), *ENSEMBLES)
    return (
        {word for instrument in INSTRUMENTS.values() for word in instrument.heldout_words}
        | {word for style in styles for word in style.heldout_words}
        | set(DRUM_HELDOUT_WORDS)
        | set(MOOD_HELDOUT.values())
    )


def mood_words() -> dict[str, tuple[str, ...]]:
    """Mood words and the moods of the scorebook that each means: its own, or those of its group in moods.py."""
    banned = heldout_phrases() - set(MOOD_NAMES)
    out = {name: (name,) for name in MOOD_NAMES}
    for group in mood_groups():
        moods = tuple(word for word in group if word in MOOD_HELDOUT)
        out |= {word: moods for word in group if moods and word not in out and word not in banned}
    return out


class TaggedPrompts(PromptGrammar):
    """The templates of the prompt grammar, filled with words that have tags.

    `target` (tags,) holds those of the last prompt: 1 named; 1/n where a mood word stands for n moods.
    """

    def __init__(self, seed: int):
        super().__init__(seed)
        self.instruments = {**INSTRUMENT_SYNONYMS, "drums": DRUMS}
        for name, instrument in INSTRUMENTS.items():
            self.instruments[name] = tuple(dict.fromkeys((*instrument.words, *self.instruments[name])))
        self.styles = {
            name: tuple(dict.fromkeys((*STYLE_WORDS.get(name, ()), *STYLE_SYNONYMS[name]))) for name in STYLE_NAMES
        }
        self.moods = mood_words()
        self.target = torch.zeros(len(TAGS))

    def slot(self, name: str) -> str:
        """Draw the words of a slot and set its tags in `target`."""
        if name == "I":
            instrument = self.random.choice((*INSTRUMENTS, *["drums"] * 12))
            self.target[_PLACE["drums" if instrument == "drums" else f"instrument:{instrument}"]] = 1.0
            return self.random.choice(self.instruments[instrument])
        if name == "G":
            style = self.random.choice(STYLE_NAMES)
            self.target[_PLACE[f"style:{style}"]] = 1.0
            return self.random.choice(self.styles[style])
        if name == "M":
            word = self.random.choice(tuple(self.moods))
            for mood in self.moods[word]:
                self.target[_PLACE[f"mood:{mood}"]] = max(1.0 / len(self.moods[word]), 0.2)
            return word
        return super().slot(name)

    def tagged(self) -> tuple[str, torch.Tensor]:
        """A prompt and its tags."""
        self.target = torch.zeros(len(TAGS))
        return self.fill(self.random.choice(_MUSICAL)), self.target


def stated_target(stated: Stated) -> torch.Tensor:
    """Tags (tags,) of a caption of the scorebook's grammar."""
    target = torch.zeros(len(TAGS))
    named = [f"instrument:{name}" for name in stated.instruments] + [f"mood:{name}" for name in stated.moods]
    named += [f"style:{stated.style}"] if stated.style else []
    named += ["drums"] if stated.drums else []
    target[[_PLACE[tag] for tag in named if tag in _PLACE]] = 1.0
    return target


def pick(rng: np.random.Generator, options: Sequence):
    """One of several options."""
    return options[int(rng.integers(len(options)))]


def random_facts(rng: np.random.Generator, style: str, words: tuple[str, ...], players: tuple[str, ...]) -> Facts:
    """Random labels of an imagined clip in a style, which `words` name; the first of `players` may have the melody."""
    return Facts(
        style=style, style_words=words, style_heldout_words=words, genre=pick(rng, GENRES),
        moods=tuple(pick(rng, MOOD_NAMES) for _ in range(2)), instruments=tuple(dict.fromkeys(players)),
        melody=players[0] if rng.random() < 0.8 else None, drums=pick(rng, (None, "drums", "percussion")),
        bpm=float(rng.integers(45, 200)), key=pick(rng, (None, "C major", "A minor", "F# minor", "Bb major")),
        time_signature=pick(rng, ("4/4", "3/4", "2/4", "6/8")), bars=pick(rng, (None, 4, 8)),
        room=pick(rng, ("dry", "room", "hall", "cathedral")), dynamics=pick(rng, ("soft", "medium", "loud")),
        complete=True, production=pick(rng, ("dry", *SOUND_WORDS)), sidechain=bool(rng.random() < 0.2),
    )  # fmt: skip


def tagged_caption(rng: np.random.Generator) -> tuple[str, torch.Tensor]:
    """A caption of an imagined clip, and its tags; any instruments and style are combined."""

    style = pick(rng, STYLE_NAMES)
    words = (*STYLE_WORDS.get(style, ()), *STYLE_SYNONYMS[style])
    players = tuple(pick(rng, tuple(INSTRUMENTS)) for _ in range(int(rng.integers(1, 5))))
    text, stated = captions(random_facts(rng, style, words, players), 1, rng)[0]
    return text, stated_target(stated)


def tagged_batch(count: int, seed: int, step: int) -> tuple[list[str], torch.Tensor]:
    """Texts and tags (count, tags) of one step: every second one in the captions' grammar."""
    rng = item_rng(seed, Stream.TAGGED_TEXTS, step)
    prompts = TaggedPrompts(int(rng.integers(2**31)))
    drawn = [prompts.tagged() if number % 2 else tagged_caption(rng) for number in range(count)]
    return [text for text, _ in drawn], torch.stack([target for _, target in drawn])
