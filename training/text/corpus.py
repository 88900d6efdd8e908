"""The training texts of the text encoder: prompts of a small grammar over the word lists, and scorebook captions.

The teacher gives each text its meaning, so texts need no music; they should have many words in many positions. Captions
come from the scorebook where it has been rendered, and from imagined clips. `TokenizedTexts` makes batches of them.
"""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from pipelines.vivace_theory import PITCH_CLASSES
from training.data.clips import read_rows
from training.data.scorebook.captions import SOUND_WORDS, Facts, captions, heldout_captions
from training.data.scorebook.instruments import INSTRUMENTS
from training.data.scorebook.styles import STYLES
from training.run.checkpoints import write_text
from training.run.streams import Stream, item_rng
from training.text.moods import MOODS
from training.text.teacher import SentenceTeacher, pick_words
from training.text.tokenizer import surface_words
from training.text.words import (
    DECADES,
    GENRES,
    INSTRUMENT_WORDS,
    KEY_NAMES,
    METERS,
    MODES,
    MOOD_WORDS,
    SCENES,
    SOUNDS,
    TEMPOS,
)

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
    """Draws prompts from the templates; equal seeds give equal prompts. `words` are those for the slot W."""

    def __init__(self, seed: int, words: Sequence[str] = ()):
        self.random = random.Random(seed)
        self.words = tuple(words)
        self.slots = {
            "M": MOOD_WORDS, "S": SOUNDS, "T": TEMPOS, "G": GENRES, "I": INSTRUMENT_WORDS, "P": SCENES, "R": METERS,
            "D": DECADES,
        }  # fmt: skip

    def slot(self, name: str) -> str:
        """Draw the words for a slot of the templates."""
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
        """A template with every slot filled; the first W takes `word` if one is given."""
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
    lists = (MOOD_WORDS, SOUNDS, TEMPOS, GENRES, INSTRUMENT_WORDS, SCENES, METERS, DECADES)
    return list(dict.fromkeys(entry for entries in lists for entry in entries))


def training_texts(count: int, per_word: int, words: Sequence[str], seed: int) -> list[str]:
    """The training texts, each once: list entries and words alone, prompts of the grammar, and words in templates.

    `count` prompts are drawn from the grammar, every fourth a long one, and each of `words` is set in `per_word`
    templates.
    """
    grammar = PromptGrammar(seed, words)
    texts = single_entries() + list(words)
    texts += [grammar.long_prompt() if number % 4 == 0 else grammar.prompt() for number in range(count)]
    texts += [grammar.about(word) for word in words for _ in range(per_word)]
    return list(dict.fromkeys(texts))


# ---- captions -------------------------------------------------------------------------------------------------------


def scorebook_captions(data_dir: str, split: str, key: str, count: int) -> list[str]:
    """The first `count` captions of a scorebook split, each once, from the column `key` ("text" or "text_heldout");
    none if the folder does not exist."""
    found: dict[str, None] = {}
    for row in read_rows(data_dir, split) if Path(data_dir).is_dir() else []:
        found.update(dict.fromkeys(row.get(key) or []))
        if len(found) >= count:
            break
    return list(found)[:count]


def imagined_captions(count: int, seed: int, heldout: bool = False) -> list[str]:
    """Captions of imagined clips of random styles, moods, instruments, tempos and keys, each once; at most `count`.
    With `heldout` they are in the held-out words and templates."""
    styles, names = list(STYLES.values()), list(INSTRUMENTS)
    write = heldout_captions if heldout else captions
    out: dict[str, None] = {}
    for number in range(count):
        rng = item_rng(seed, Stream.CORPUS_CAPTIONS, int(heldout), number)
        style = styles[int(rng.integers(len(styles)))]
        # A third have a genre in place of a style, as clips of scores do.
        classical = rng.random() < 0.33
        genre = GENRES[int(rng.integers(len(GENRES)))]
        moods = style.moods if rng.random() < 0.5 else tuple(MOODS[int(k)] for k in rng.integers(len(MOODS), size=2))
        players = tuple(names[int(k)] for k in rng.choice(len(names), int(rng.integers(1, 5)), replace=False))
        facts = Facts(
            style=genre if classical else style.name,
            style_words=(genre,) if classical else style.words,
            style_heldout_words=(genre,) if classical else style.heldout_words,
            genre=genre if classical else style.genre,
            moods=moods, instruments=players, melody=players[0] if rng.random() < 0.8 else None,
            drums=(None, "drums", "percussion")[int(rng.integers(3))], bpm=float(rng.integers(45, 200)),
            key=f"{PITCH_CLASSES[int(rng.integers(12))]} "
            f"{('major', 'minor')[int(rng.integers(2))]}" if rng.random() < 0.8 else None,
            time_signature=("4/4", "4/4", "3/4", "2/4", "6/8")[int(rng.integers(5))],
            bars=int(rng.integers(2, 13)) if rng.random() < 0.4 else None,
            room=("dry", "room", "hall", "cathedral")[int(rng.integers(4))],
            dynamics=("soft", "medium", "loud")[int(rng.integers(3))], complete=True,
            production=("dry", *SOUND_WORDS)[int(rng.integers(1 + len(SOUND_WORDS)))],
            sidechain=bool(rng.random() < 0.2),
        )  # fmt: skip
        out.update((text, None) for text, _ in write(facts, 1, rng))
    return list(out)


# ---- the corpus of a run, and batches of it -------------------------------------------------------------------------


@dataclass(frozen=True)
class TextCorpus:
    """The texts of a run, saved with its checkpoints so that a resumed run uses the same."""

    texts: list[str]  # training texts, each once
    words: list[str]  # words that are one token each
    heldout_texts: list[str]  # prompts of the grammar that are not in `texts`
    heldout_captions: list[str]  # captions in held-out words and templates
    heldout_words: list[str]  # words with a token of their own that stand in no training text

    def save(self, file: Path) -> None:
        """Write as JSON: whole or not at all."""
        write_text(file, json.dumps(asdict(self)))

    @classmethod
    def load(cls, file: Path) -> "TextCorpus":
        """Read what `save` wrote."""
        return cls(**json.loads(file.read_text()))


def make_corpus(
    teacher: SentenceTeacher,
    data_dir: str,
    seed: int,
    prompts: int,
    teacher_words: int,
    per_word: int,
    captions: int,
    heldout: int,
) -> TextCorpus:
    """The texts of a run.

    Args:
        teacher: gives the vocabulary from which words of music are picked.
        data_dir: scorebook folder, or a folder that does not exist.
        prompts: number of prompts of the grammar.
        teacher_words: number of words of the teacher's vocabulary.
        per_word: templates for each of them.
        captions: most captions of training clips; imagined clips supply those that the scorebook lacks.
        heldout: number of held-out prompts, and of captions; a fifth as many words are held out.
    """
    picked = pick_words(teacher, single_entries(), teacher_words)
    listed = {word for entry in single_entries() for word in surface_words(entry)}
    candidates = [word for word in picked if word not in listed]
    chosen = item_rng(seed, Stream.HELDOUT_WORDS).choice(
        len(candidates), min(heldout // 5, len(candidates) // 10), replace=False
    )
    heldout_words = [candidates[index] for index in sorted(chosen)]
    banned = set(heldout_words)
    allowed = [word for word in picked if word not in banned]
    texts = training_texts(prompts, per_word, allowed, seed)
    real = scorebook_captions(data_dir, "train", "text", captions)
    texts += real + imagined_captions(max(captions - len(real), captions // 4), seed)
    counts = Counter()
    kept = []
    for text in dict.fromkeys(texts):
        words = surface_words(text)
        if banned.isdisjoint(words):
            kept.append(text)
            counts.update(words)
    vocabulary = set(picked) | listed
    words = [word for word, times in counts.items() if word in vocabulary or times >= 3]
    trained = set(kept)
    grammar = PromptGrammar(seed + 1, allowed)
    heldout_texts = [text for text in (grammar.prompt() for _ in range(heldout)) if text not in trained]
    return TextCorpus(
        texts=kept, words=list(dict.fromkeys(words + heldout_words)), heldout_texts=list(dict.fromkeys(heldout_texts)),
        heldout_captions=imagined_captions(heldout, seed + 1, heldout=True), heldout_words=heldout_words,
    )  # fmt: skip


class TokenizedTexts:
    """Texts as token ids, with the word that each token belongs to."""

    def __init__(self, texts: Sequence[str], tokenizer: PreTrainedTokenizerFast):
        encoded = tokenizer(list(texts), truncation=True)
        self.pad = tokenizer.pad_token_id
        self.ids: list[list[int]] = encoded["input_ids"]
        self.words: list[str] = []
        # For every text: the word's place in the text at each token (-1: none), and each place's index into `words`.
        self.places: list[list[int]] = []
        self.word_of_place: list[list[int]] = []
        index: dict[str, int] = {}
        tokens_of = {token: text.removeprefix("\u2581") for text, token in tokenizer.get_vocab().items()}
        for row, ids in enumerate(self.ids):
            spelled: dict[int, str] = {}
            word_ids = encoded.word_ids(row)
            for token, word in zip(ids, word_ids, strict=True):
                if word is not None:
                    spelled[word] = spelled.get(word, "") + tokens_of[token]
            wanted = [word for word, text in spelled.items() if text.isalpha()]
            place = {word: number for number, word in enumerate(wanted)}
            self.places.append([-1 if word is None else place.get(word, -1) for word in word_ids])
            self.word_of_place.append([index.setdefault(spelled[word], len(index)) for word in wanted])
        self.words = list(index)

    def batch(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """Rows padded to one length: input_ids, attention_mask, place (batch, tokens), word (batch, places); -1 =
        none."""

        def padded(lists: list[list[int]], value: int) -> torch.Tensor:
            out = torch.full((len(rows), max(1, max(len(lists[row]) for row in rows))), value)
            for number, row in enumerate(rows):
                out[number, : len(lists[row])] = torch.tensor(lists[row], dtype=torch.long)
            return out

        ids = padded(self.ids, self.pad)
        mask = torch.arange(ids.shape[1])[None] < torch.tensor([len(self.ids[row]) for row in rows])[:, None]
        return {
            "input_ids": ids, "attention_mask": mask.long(),
            "place": padded(self.places, -1), "word": padded(self.word_of_place, -1),
        }  # fmt: skip


def epoch_batches(lengths: Sequence[int], batch_size: int, seed: int, epoch: int, pool: int = 32) -> list[list[int]]:
    """Lists of text numbers of one epoch, a function of the arguments only: texts of like length (in tokens) are in one
    batch, among `pool` batches at a time, and the rest is random. A short batch at the end is left out."""
    rng = item_rng(seed, Stream.TEXT_ORDER, epoch)
    order = rng.permutation(len(lengths))
    order = order[: max(1, len(order) // batch_size) * batch_size]
    batches = []
    for first in range(0, len(order), batch_size * pool):
        part = sorted((int(row) for row in order[first : first + batch_size * pool]), key=lambda row: lengths[row])
        batches += [part[start : start + batch_size] for start in range(0, len(part), batch_size)]
    return [batches[number] for number in rng.permutation(len(batches))]
