"""Which network turns a clip into the vector that distributions are compared by."""

import hashlib
import json
import os
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from training.data.clips import read_audio
from training.metrics.clap import ClapEmbedder, prepare
from training.metrics.musicnn import TRAINED_ON, MusicnnEmbedder
from training.metrics.tagger import load_tagger

# Measured on the test split (64 clips a side, five steps each of noise, low-pass, shuffling, pitch, bit depth, clipping
# and a wrong mix of styles): the tagger's Frechet and kernel distances grow at every step, and its five nearest
# training clips name the style of 0.52 (chance 0.04). musicnn-mtt, shaped by no data of ours, grows too but for the
# Frechet distance at the strongest low-pass, names 0.35, and takes seven times as long: the second opinion.
DEFAULT_EMBEDDER = "tagger"
CHUNK = 64  # clips held in memory at once


class Embedder(Protocol):
    """Clips -> vectors."""

    name: str
    card: dict
    """what it is, its hash, what it was trained on"""

    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Clips (samples,) at `sampling_rate` Hz -> float64 (n, d)."""


class TaggerEmbedder:
    """The layer of our tagger before its tags."""

    def __init__(self, folder: str):
        self.tagger, card = load_tagger(folder)
        self.name = card["name"]
        self.card = {key: card[key] for key in ("name", "trained_on", "sha256") if key in card} | {"source": folder}

    @torch.no_grad()
    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Clips (samples,) at `sampling_rate` Hz -> float64 (n, 160)."""
        *before, _, _ = self.tagger.head  # without the dropout and the tags
        kept: list[torch.Tensor] = []
        hook = before[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            for number, audio in enumerate(audios):
                clip = torch.from_numpy(prepare(audio, sampling_rate, self.tagger.sampling_rate, number))[None]
                self.tagger(self.tagger.spectrogram(clip))
        finally:
            hook.remove()
        return torch.cat(kept).double().numpy() if kept else np.zeros((0, before[-3].out_features))


def load_embedder(name: str) -> Embedder:
    """An embedder by name.

    Args:
        name: "musicnn-msd" or "musicnn-mtt" (needs the PyPI package musicnn); "tagger" (checkpoints/tagger); or the
            folder or Hub id of a CLAP model ("checkpoints/clap", "laion/larger_clap_music").

    Raises:
        ValueError: nothing of that name can be loaded.
    """
    if name.startswith("musicnn-") and name[8:].upper() in TRAINED_ON:
        return MusicnnEmbedder(name[8:].upper())
    if name == "tagger":
        return TaggerEmbedder("checkpoints/tagger")
    return ClapEmbedder(name)


def embed_rows(embedder: Embedder, rows: list[dict], cache_dir: str | None = None) -> np.ndarray:
    """Embeddings of the clips of rows, float64 (n, d), read a few at a time.

    Args:
        embedder: what embeds.
        rows: of training/data/clips.py.
        cache_dir: folder that keeps them, by the embedder's hash and what the rows say; None = none.

    Raises:
        ValueError: a clip that cannot be embedded.
    """
    described = [{key: value for key, value in row.items() if key != "path"} for row in rows]
    key = json.dumps([embedder.card.get("sha256"), described], sort_keys=True, default=str)
    kept = cache_dir and Path(cache_dir) / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
    if kept and kept.is_file():
        return np.load(kept)
    parts = []
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        audios = [read_audio(row).mean(dim=0).numpy() for row in part]
        rates = {row["sampling_rate"] for row in part}
        if len(rates) > 1:
            parts += [embedder.embed([a], row["sampling_rate"]) for a, row in zip(audios, part, strict=True)]
        else:
            parts.append(embedder.embed(audios, rates.pop()))
    vectors = np.concatenate(parts)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial.npy")
        np.save(partial, vectors)
        os.replace(partial, kept)
    return vectors
