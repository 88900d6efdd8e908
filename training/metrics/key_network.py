"""A small network that names the key of a clip, and cannot tell one tonic from another but by its pitch.

It is trained on the scorebook by training/train_key.py and is told nothing of a request. What it learns of C major it
knows of every key: convolutions run over pitch, octaves are folded together, and the twelve pitch classes lie on a
circle, so that a clip a semitone higher gives the same answer a semitone higher.
"""

from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import nn
from torch.nn import functional as F

from training.metrics.key import PITCH_CLASSES
from training.metrics.weights import load_network

SAMPLING_RATE = 24000  # Hz; other clips are resampled
RATE = 5  # frames a second
WINDOW = 8192  # samples: a third of a second tells semitones apart from C3 on
LOWEST_HZ = 65.406  # C2
OCTAVES = 6
FINE = 3  # bins a semitone, as channels
REACH = 24  # semitones either way that the first convolution sees: partials up to the fourth
MODES = ("major", "minor")


@dataclass(frozen=True)
class KeyHeard:
    """The likeliest key, and the probability of each of the 24."""

    name: str
    probabilities: dict[str, float]


class KeyNetwork(nn.Module):
    """Log-frequency spectrum -> notes -> pitch classes on a circle -> weighted mean over time -> 24 keys.

    The wide receptive field and the average over time follow Korzeniowski and Widmer (2018); the circle makes it
    equivariant to transposition, but for what leaves the lowest and highest octave.

    Args:
        width: channels.
    """

    def __init__(self, width: int = 24):
        super().__init__()
        self.width = width
        self.partials = nn.Conv2d(FINE, width, (2 * REACH + 1, 1), padding=(REACH, 0))
        self.notes = nn.Conv2d(width, width, (5, 3), padding=(2, 1))
        self.fold = nn.Conv2d(3 * width, width, 1)
        self.circles = nn.ModuleList(nn.Conv2d(width, width, (12, frames)) for frames in (3, 1))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(4))
        self.attention = nn.Conv1d(width, 1, 1)
        self.exit = nn.Conv2d(2 * width, len(MODES), (12, 1))
        self.register_buffer("filters", _pitch_filters(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def spectrogram(self, audio: torch.Tensor) -> torch.Tensor:
        """(batch, samples) -> (batch, FINE, 12 * OCTAVES, frames), compressed: 0 = silence, about 1 = the loudest."""
        bins = torch.stft(audio, WINDOW, SAMPLING_RATE // RATE, window=self.window, return_complex=True).abs()
        pitch = self.filters @ bins  # (batch, 12 * OCTAVES * FINE, frames)
        pitch = torch.log1p(300.0 * pitch / pitch.amax(dim=(1, 2), keepdim=True).clamp_min(1e-6)) / np.log(300.0)
        return pitch.unflatten(1, (12 * OCTAVES, FINE)).transpose(1, 2)

    def forward(self, pitch: torch.Tensor) -> torch.Tensor:
        """(batch, FINE, 12 * OCTAVES, frames) -> logits (batch, 24): 12 major from C on, 12 minor."""
        first, second, third, fourth = self.norms
        hidden = first(F.elu(self.partials(pitch)))
        hidden = second(F.elu(self.notes(hidden)))
        octaves = hidden.unflatten(2, (OCTAVES, 12))  # (batch, width, octaves, 12, frames)
        folded = torch.cat([octaves.mean(2), octaves.amax(2), octaves[:, :, :2].mean(2)], dim=1)
        hidden = third(F.elu(self.fold(folded)))
        for circle in self.circles:
            around = _circular(hidden, circle.kernel_size[1] // 2)
            hidden = hidden + F.dropout(F.elu(circle(around)), 0.15, self.training)
        hidden = fourth(hidden)  # (batch, width, 12, frames)
        # How much a frame counts must not depend on the tonic, hence on the mean over pitch classes.
        weight = torch.softmax(self.attention(hidden.mean(2)), dim=2)[:, :, None]
        pooled = torch.cat([(weight * hidden).sum(3), hidden.mean(3)], dim=1)[..., None]
        return self.exit(_circular(pooled, 0)).squeeze(3).flatten(1)

    @torch.no_grad()
    def listen(self, audio: np.ndarray, sampling_rate: int) -> KeyHeard | None:
        """Key of a clip (samples,); None for silence."""
        if not np.any(np.abs(audio) > 1e-4):
            return None
        if sampling_rate != SAMPLING_RATE:
            audio = soxr.resample(audio, sampling_rate, SAMPLING_RATE)
        audio = np.pad(audio, (0, max(0, WINDOW - len(audio))))
        clip = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))[None]
        values = torch.softmax(self.eval()(self.spectrogram(clip)), dim=1)[0].tolist()
        probabilities = dict(zip(key_names(), values, strict=True))
        return KeyHeard(max(probabilities, key=probabilities.get), probabilities)


def key_names() -> list[str]:
    """The 24 keys in the order of the network's logits."""
    return [f"{tonic} {mode}" for mode in MODES for tonic in PITCH_CLASSES]


def _circular(hidden: torch.Tensor, frames: int) -> torch.Tensor:
    """Pad (batch, channels, 12, frames) for a kernel of 12 around the circle and 2 * `frames` + 1 in time."""
    return F.pad(torch.cat([hidden, hidden[:, :, :11]], dim=2), (frames, frames))


def _pitch_filters() -> torch.Tensor:
    """(12 * OCTAVES * FINE, bins) triangles a third of a semitone apart, at least two bins wide either way.

    The middle of the three of a semitone is in tune at A = 440 Hz.
    """
    count = 12 * OCTAVES * FINE
    centres = LOWEST_HZ * 2.0 ** ((np.arange(count) - FINE // 2) / (12 * FINE))
    bins = np.arange(WINDOW // 2 + 1) * SAMPLING_RATE / WINDOW
    width = np.maximum(centres * (2.0 ** (1.0 / (12 * FINE)) - 1.0), SAMPLING_RATE / WINDOW)
    filters = np.maximum(0.0, 1.0 - np.abs(bins[None, :] - centres[:, None]) / width[:, None])
    return torch.from_numpy(filters / filters.sum(axis=1, keepdims=True)).float()


def load_key_network(folder: str) -> tuple[KeyNetwork, dict]:
    """A key network and its card.

    Raises:
        ValueError: files missing or unreadable.
    """
    return load_network(KeyNetwork, folder, "key", ("width",))
