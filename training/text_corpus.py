"""Texts of one text-encoder run, and batches of them as tensors."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from training.loop import item_rng
from training.text_captions import imagined_captions, scorebook_captions
from training.text_prompts import PromptGrammar, single_entries, training_texts
from training.text_teacher import SentenceTeacher, pick_words
from training.text_tokenizer import surface_words


@dataclass(frozen=True)
class TextCorpus:
    """What a run reads; written beside its checkpoints, so that a resumed run reads the same."""

    texts: list[str]
    """training texts, each once"""
    words: list[str]
    """words that are one token each"""
    heldout_texts: list[str]
    """prompts of the grammar that are not in `texts`"""
    heldout_captions: list[str]
    """captions in the paraphrases that the scorebook keeps for tests"""
    heldout_words: list[str]
    """words with a token of their own that stand in no training text"""

    def save(self, file: Path) -> None:
        """Write as JSON: whole or not at all."""
        partial = file.with_name(file.name + ".partial")
        partial.write_text(json.dumps(asdict(self)))
        os.replace(partial, file)

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
    """Gather the training text of a run.

    Args:
        teacher: gives the vocabulary from which music-like words are picked.
        data_dir: scorebook folder, or a folder that does not exist.
        seed: seed of the grammar and of the held-out draw.
        prompts: prompts of the grammar.
        teacher_words: words of the teacher's vocabulary.
        per_word: templates for each of them.
        captions: captions of training clips, at most; what the scorebook lacks is imagined.
        heldout: held-out prompts, captions and (a fifth as many) words.

    Returns:
        The corpus.
    """
    picked = pick_words(teacher, single_entries(), teacher_words)
    listed = {word for entry in single_entries() for word in surface_words(entry)}
    candidates = [word for word in picked if word not in listed]
    chosen = item_rng(seed, 11).choice(len(candidates), min(heldout // 5, len(candidates) // 10), replace=False)
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
    known = set(picked) | listed
    words = [word for word, times in counts.items() if word in known or times >= 3]
    seen = set(kept)
    grammar = PromptGrammar(seed + 1, allowed)
    heldout_texts = [text for text in (grammar.prompt() for _ in range(heldout)) if text not in seen]
    return TextCorpus(
        texts=kept, words=list(dict.fromkeys(words + heldout_words)), heldout_texts=list(dict.fromkeys(heldout_texts)),
        heldout_captions=imagined_captions(heldout, seed + 1, heldout=True), heldout_words=heldout_words,
    )  # fmt: skip


class TokenizedTexts:
    """Texts as token ids, with the word that each token belongs to.

    Args:
        texts: texts.
        tokenizer: the student's tokenizer.
    """

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
        """Pad rows to one length.

        Returns:
            input_ids and attention_mask (batch, tokens), place (batch, tokens), word (batch, places); -1 = none.
        """

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
    """Batches of one epoch: texts of like length together, everything else at random.

    Args:
        lengths: tokens of each text.
        batch_size: texts a batch; the last, short batch of an epoch is left out.
        seed: seed of the run.
        epoch: number of the epoch.
        pool: batches that are sorted by length together.

    Returns:
        Lists of text numbers, a function of the arguments only.
    """
    rng = item_rng(seed, 12, epoch)
    order = rng.permutation(len(lengths))
    order = order[: max(1, len(order) // batch_size) * batch_size]
    batches = []
    for first in range(0, len(order), batch_size * pool):
        part = sorted((int(row) for row in order[first : first + batch_size * pool]), key=lambda row: lengths[row])
        batches += [part[start : start + batch_size] for start in range(0, len(part), batch_size)]
    return [batches[number] for number in rng.permutation(len(batches))]
