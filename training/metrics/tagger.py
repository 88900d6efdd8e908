"""A small network that names the instruments, the drums and the style of a clip.

It is trained on the scorebook by training/train_tagger.py, so its scores are not comparable with those of other
taggers; every report carries its name, its hash and its own precision on the test split.
"""

from itertools import pairwise

import librosa
import numpy as np
import soxr
import torch
from torch import nn
from torch.nn import functional as F

from training.metrics.weights import load_network

WINDOW = 1024  # samples
MELS = 64
RATE = 31.25  # frames a second


class Tagger(nn.Module):
    """Log-mel picture -> four convolutions -> mean and maximum over time -> one logit a tag.

    Args:
        tags: names; "drums", "style:..." and instruments.
        sampling_rate: Hz of the audio it hears.
        width: channels of the first convolution.
    """

    def __init__(self, tags: list[str], sampling_rate: int = 24000, width: int = 24):
        super().__init__()
        self.tags, self.sampling_rate, self.width = list(tags), sampling_rate, width
        self.hop = round(sampling_rate / RATE)
        widths = [1, width, 2 * width, 3 * width, 4 * width]
        self.blocks = nn.ModuleList()
        for before, after in pairwise(widths):
            self.blocks.append(nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)))
        # Frequency is kept (an instrument is known by where its energy lies), time is pooled away.
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(2 * widths[-1] * (MELS // 16), 160), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(160, len(self.tags)),
        )  # fmt: skip
        self.register_buffer("filters", _mel_filters(sampling_rate), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def spectrogram(self, audio: torch.Tensor) -> torch.Tensor:
        """(batch, samples) -> log-mel (batch, MELS, frames), each clip of mean level 0 so that loudness is no clue."""
        bins = torch.stft(audio, WINDOW, self.hop, window=self.window, return_complex=True).abs()
        mel = torch.log10((self.filters @ bins).clamp_min(1e-4)) + 4.0  # 0 = -80 dB
        loud = mel.amax(dim=(1, 2), keepdim=True)
        return (mel - loud).clamp_min(-3.5) / 2.0 + 1.0

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, MELS, frames) -> logits (batch, tags)."""
        hidden = mel[:, None]
        for block in self.blocks:
            hidden = F.max_pool2d(F.relu(block(hidden)), 2)
        pooled = torch.cat([hidden.mean(-1), hidden.amax(-1)], dim=1).flatten(1)
        return self.head(pooled)

    @torch.no_grad()
    def probabilities(self, audios: list[np.ndarray], sampling_rate: int) -> list[dict[str, float]]:
        """Probability of each tag for each clip (samples,); one of another rate is resampled."""
        self.eval()
        out = []
        for audio in audios:
            if sampling_rate != self.sampling_rate:
                audio = soxr.resample(audio, sampling_rate, self.sampling_rate)
            clip = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))[None]
            values = torch.sigmoid(self(self.spectrogram(clip)))[0].tolist()
            out.append(dict(zip(self.tags, values, strict=True)))
        return out


def load_tagger(folder: str) -> tuple[Tagger, dict]:
    """A tagger and its card.

    Raises:
        ValueError: files missing or unreadable.
    """
    return load_network(Tagger, folder, "tagger", ("tags", "sampling_rate", "width"))


def _mel_filters(sampling_rate: int) -> torch.Tensor:
    """(MELS, bins) triangular filters, 40 Hz to half the sampling rate."""
    return torch.from_numpy(librosa.filters.mel(sr=sampling_rate, n_fft=WINDOW, n_mels=MELS, fmin=40.0)).float()
