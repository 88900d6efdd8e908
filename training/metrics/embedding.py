"""Which network turns a clip into the vector that distributions are compared by."""

from typing import Protocol

import numpy as np
import torch

from training.metrics.clap import ClapEmbedder, prepare
from training.metrics.musicnn import TRAINED_ON, MusicnnEmbedder
from training.metrics.tagger import load_tagger

# Measured on the test split (64 clips a side, five steps each of noise, low-pass, shuffling, pitch, bit depth, clipping
# and a wrong mix of styles): the tagger's Frechet and kernel distances grow at every step, and its five nearest
# training clips name the style of 0.52 (chance 0.04). musicnn-mtt, shaped by no data of ours, grows too but for the
# Frechet distance at the strongest low-pass, names 0.35, and takes seven times as long: the second opinion.
DEFAULT_EMBEDDER = "tagger"


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
            folder or Hub id of a CLAP model ("laion/larger_clap_music").

    Raises:
        ValueError: nothing of that name can be loaded.
    """
    if name.startswith("musicnn-") and name[8:].upper() in TRAINED_ON:
        return MusicnnEmbedder(name[8:].upper())
    if name == "tagger":
        return TaggerEmbedder("checkpoints/tagger")
    return ClapEmbedder(name)
