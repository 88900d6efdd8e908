"""A small network that hears beats and downbeats, and the even grid that fits what it heard best.

It is trained on the scorebook by training/train_beat_tracker.py. It is told nothing of a request; its prior is that
tempo is constant within a clip, between 45 and 215 beats a minute.
"""

from dataclasses import dataclass

import librosa
import numpy as np
import soxr
import torch
from torch import nn
from torch.nn import functional as F

from training.metrics.weights import load_network

SAMPLING_RATE = 24000  # Hz; other clips are resampled
RATE = 50  # frames a second
WINDOW = 1024  # samples
MELS = 48
DILATIONS = (1, 1, 2, 4, 8, 16, 32, 64)  # of kernels of 5: hears 2.6 s either way
TEMPI = np.geomspace(45.0, 215.0, 320)  # half a percent apart
# Chosen on the validation split.
LOGIT_SHIFT = -0.5
LOGIT_FLOOR = -3.0
BESIDE = 0.5  # logit lost a frame off
CENTRE_BPM, PULL = 105.0, 8.0  # log-likelihood lost at an octave from the centre
BARS = (2, 3, 4)  # beats


@dataclass(frozen=True)
class Tracked:
    """What was heard: beats a minute, and times in seconds."""

    tempo_bpm: float
    beats_s: np.ndarray
    downbeats_s: np.ndarray


class BeatTracker(nn.Module):
    """Log-mel and its rises -> dilated convolutions over time -> logits of beat and downbeat a frame.

    Temporal convolutional network after Boeck and Davies (2020).

    Args:
        width: channels.
    """

    def __init__(self, width: int = 24):
        super().__init__()
        self.width = width
        self.entry = nn.Conv1d(2 * MELS, width, 5, padding=2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in DILATIONS)
        self.wide = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2 * d, dilation=d) for d in DILATIONS)
        self.narrow = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in DILATIONS)
        self.exit = nn.Conv1d(width, 2, 1)
        nn.init.constant_(self.exit.bias, -3.0)  # beats are rare
        filters = librosa.filters.mel(sr=SAMPLING_RATE, n_fft=WINDOW, n_mels=MELS, fmin=30.0, fmax=11000.0)
        self.register_buffer("filters", torch.from_numpy(filters).float(), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def spectrogram(self, audio: torch.Tensor) -> torch.Tensor:
        """(batch, samples) -> log10-mel (batch, MELS, frames), frame i centred at i / RATE seconds."""
        hop = SAMPLING_RATE // RATE
        bins = torch.stft(audio, WINDOW, hop, window=self.window, return_complex=True).abs()
        return torch.log10((self.filters @ bins).clamp_min(1e-4))

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, MELS, frames) -> logits (batch, 2, frames)."""
        mel = (mel - mel.mean(dim=(1, 2), keepdim=True)).clamp(-3.0, 3.0)
        rises = F.pad(F.relu(mel[:, :, 1:] - mel[:, :, :-1]), (1, 0))
        hidden = F.elu(self.entry(torch.cat([0.5 * mel, 2.0 * rises], dim=1)))
        for norm, wide, narrow in zip(self.norms, self.wide, self.narrow, strict=True):
            hidden = hidden + F.dropout(narrow(F.elu(wide(norm(hidden)))), 0.1, self.training)
        return self.exit(hidden)

    @torch.no_grad()
    def track(self, audio: np.ndarray, sampling_rate: int) -> Tracked:
        """Tempo, beats and downbeats of a clip (samples,)."""
        if sampling_rate != SAMPLING_RATE:
            audio = soxr.resample(audio, sampling_rate, SAMPLING_RATE)
        clip = torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))[None]
        beat, downbeat = self.eval()(self.spectrogram(clip))[0].double().numpy()
        bpm, frames = best_grid(beat)
        return Tracked(bpm, frames / RATE, frames[first_beats(downbeat, frames)] / RATE)


def best_grid(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """The evenly spaced beats under which the heard beats are likeliest.

    Frames being independent given the grid, a grid's log-likelihood is, but for a constant, the sum of the logits of
    its beats: a beat that nothing supports costs, so that neither half nor double tempo wins by count alone. A weak
    pull towards moderate tempi settles what is left.

    Args:
        logits: (frames,) of a beat.

    Returns:
        Beats a minute, and beat positions in frames (fractional).
    """
    padded, last = _widened(logits), len(logits) - 1
    best = (-np.inf, float("nan"), np.zeros(0))
    for bpm in TEMPI:
        period = 60.0 * RATE / bpm
        positions = np.arange(0.0, period)[:, None] + np.arange(int(last / period) + 1) * period  # (phases, beats)
        inside = positions <= last
        score = np.where(inside, np.interp(positions, np.arange(last + 1), padded), 0.0).sum(axis=1)
        score -= PULL * np.log2(bpm / CENTRE_BPM) ** 2
        phase = int(score.argmax())
        if score[phase] > best[0]:
            best = (score[phase], float(bpm), positions[phase][inside[phase]])
    return best[1], best[2]


def first_beats(logits: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Which of the beats (frames,) begin a bar: (frames,) bool, of an even bar of 2, 3 or 4 beats."""
    at = np.interp(frames, np.arange(len(logits)), _widened(logits))
    index = np.arange(len(frames))
    choices = [(at[index % bar == phase].sum(), bar, phase) for bar in BARS for phase in range(bar)]
    _, bar, phase = max(choices)
    return index % bar == phase


def _widened(logits: np.ndarray) -> np.ndarray:
    """Logits shifted and floored, where a beat counts nearly as much a frame beside its peak."""
    shifted = np.pad(np.maximum(logits + LOGIT_SHIFT, LOGIT_FLOOR), 1, constant_values=LOGIT_FLOOR)
    return np.maximum(shifted[1:-1], np.maximum(shifted[:-2], shifted[2:]) - BESIDE)


def load_beat_tracker(folder: str) -> tuple[BeatTracker, dict]:
    """A tracker and its card.

    Raises:
        ValueError: files missing or unreadable.
    """
    return load_network(BeatTracker, folder, "beat_tracker", ("width",))
