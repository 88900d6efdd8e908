"""The beat tracker: a small network for beats and downbeats, and the evenly spaced grid that fits its output best.

    python -m training.listeners.beat_tracker

It is trained on the scorebook and does not use a request. It assumes a constant tempo within a clip, between 45 and 215
beats a minute.
"""

from dataclasses import dataclass

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from training.config import command, option, parse_config
from training.data.clips import read_audio
from training.listeners.fit import (
    ListenerRun,
    clip_tensor,
    fit,
    labelled_rows,
    load_network,
    save_network,
    spectrograms,
    training_card,
)
from training.metrics.control import beat_f, tempo_right, tempo_right_octaves
from training.metrics.features import Rhythm

SAMPLING_RATE = 24000  # Hz; other clips are resampled
RATE = 50  # frames a second
WINDOW = 1024  # samples
MELS = 48
DILATIONS = (1, 1, 2, 4, 8, 16, 32, 64)  # of kernels of 5; the receptive field is 2.6 s to either side
TEMPI = np.geomspace(45.0, 215.0, 320)  # half a percent apart
# Chosen on the validation split.
LOGIT_SHIFT = -0.5
LOGIT_FLOOR = -3.0
BESIDE = 0.5  # loss of logit at a distance of one frame
CENTRE_BPM, PULL = 105.0, 8.0  # loss of log-likelihood at an octave from the centre
BARS = (2, 3, 4)  # beats
POSITIVE_WEIGHT = (3.0, 6.0)  # loss weights of beats and downbeats, which are rare
STRETCH = 0.08  # largest change of tempo by resampling the spectrogram


class BeatTracker(nn.Module):
    """Log-mel and its increases -> dilated convolutions over time -> logits of beat and downbeat for each frame.

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
    def track(self, audio: np.ndarray, sampling_rate: int) -> Rhythm:
        """Tempo, beats and downbeats of a clip (samples,)."""
        clip = clip_tensor(audio, sampling_rate, SAMPLING_RATE)
        beat, downbeat = self.eval()(self.spectrogram(clip))[0].double().numpy()
        bpm, frames = best_grid(beat)
        return Rhythm(bpm, frames / RATE, frames[first_beats(downbeat, frames)] / RATE)


def best_grid(logits: np.ndarray) -> tuple[float, np.ndarray]:
    """The evenly spaced beats with the highest likelihood under the network's logits.

    If frames are independent given the grid, the log-likelihood of a grid is the sum of the logits of its beats, plus a
    constant. Beats without support have negative logits, so that neither half nor double the tempo is favoured by its
    number of beats. A weak prior prefers moderate tempi. Returns beats a minute, and beat positions in (fractional)
    frames.
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
    """Which of the beats at `frames` are downbeats, (beats,) bool, for bars of 2, 3 or 4 beats."""
    at = np.interp(frames, np.arange(len(logits)), _widened(logits))
    index = np.arange(len(frames))
    choices = [(at[index % bar == phase].sum(), bar, phase) for bar in BARS for phase in range(bar)]
    _, bar, phase = max(choices)
    return index % bar == phase


def _widened(logits: np.ndarray) -> np.ndarray:
    """Logits, shifted and floored, and widened so that a grid may miss a peak by one frame."""
    shifted = np.pad(np.maximum(logits + LOGIT_SHIFT, LOGIT_FLOOR), 1, constant_values=LOGIT_FLOOR)
    return np.maximum(shifted[1:-1], np.maximum(shifted[:-2], shifted[2:]) - BESIDE)


def load_beat_tracker(folder: str) -> tuple[BeatTracker, dict]:
    """A tracker and its card; a ValueError if they cannot be read."""
    return load_network(BeatTracker, folder, "beat_tracker", ("width",))


# Training, on the scorebook's train split.


@dataclass(frozen=True)
class BeatTrackerRun(ListenerRun):
    """Train the beat tracker."""

    output_dir: str = "checkpoints/beat_tracker"
    max_steps: int = 6500
    batch_size: int = 24
    learning_rate: float = 4e-3
    width: int = option(36, "channels of the network", above=0)


def has_beats(row: dict) -> bool:
    return bool(row.get("beats_s") and row.get("downbeats_s") is not None and row.get("bpm"))


def beat_target(row: dict, start_s: float, stretch: float, frames: int) -> np.ndarray:
    """(2, frames): 1 at the beats and downbeats of a crop, and 0.5 one frame before and after.

    Args:
        row: labels of the clip.
        start_s: start of the crop, in seconds of the clip.
        stretch: seconds of the clip for each second of the crop.
        frames: length of the crop.
    """
    table = np.zeros((2, frames + 2), dtype=np.float32)
    for channel, name in enumerate(("beats_s", "downbeats_s")):
        centres = np.round((np.asarray(row[name]) - start_s) / stretch * RATE).astype(int)
        centres = centres[(centres >= 0) & (centres < frames)] + 1
        for shift, value in ((-1, 0.5), (1, 0.5), (0, 1.0)):
            table[channel, centres + shift] = np.maximum(table[channel, centres + shift], value)
    return table[:, 1:-1]


def augment(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary the recording, (batch, MELS, frames): a smooth filter, noise, and a low-pass filter."""
    for clip in mel:
        knots = rng.normal(0.0, 0.25, size=5)
        clip += torch.from_numpy(np.interp(np.linspace(0, 4, MELS), np.arange(5), knots)).float()[:, None]
        noise = torch.from_numpy(rng.normal(size=tuple(clip.shape)).astype(np.float32))
        clip += float(rng.uniform(0.0, 0.15)) * noise
        if rng.random() < 0.4:
            clip[int(rng.integers(MELS * 3 // 5, MELS)) :] = clip.min()
    return mel


def train(config: BeatTrackerRun) -> dict:
    """Train, measure, save; returns the card. Raises a ValueError if no row has beats."""
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    needed = "bpm, beats_s and downbeats_s"
    rows = labelled_rows(config.data_dir, ("train", "test"), has_beats, needed, SAMPLING_RATE)
    tracker = BeatTracker(config.width)
    mel = spectrograms(rows["train"], tracker.spectrogram, -4.0, "train spectrograms")
    weight = torch.tensor(POSITIVE_WEIGHT)[:, None]
    crop = min(round(config.crop_s * RATE), round(mel.shape[2] / (1.0 + STRETCH)))

    def crop_of(index: int, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray]:
        """One stretched crop (MELS, crop) with its target."""
        row, stretch = rows["train"][index], float(np.exp(rng.uniform(-1.0, 1.0) * np.log1p(STRETCH)))
        span = round(crop * stretch)
        end = min(round(row["duration_s"] * RATE) + 1, mel.shape[2])  # excludes the padding of shorter clips
        start = int(rng.integers(0, max(end - span, 0) + 1))
        part = F.interpolate(mel[index, None, :, start : start + span].float(), size=crop, mode="linear")[0]
        return part, beat_target(row, start / RATE, span / crop, crop)

    def batch_loss(rng: np.random.Generator) -> torch.Tensor:
        picked = [crop_of(int(i), rng) for i in rng.integers(0, len(mel), size=config.batch_size)]
        batch = torch.stack([part for part, _ in picked])
        wanted = torch.from_numpy(np.stack([target for _, target in picked]))
        return F.binary_cross_entropy_with_logits(tracker(augment(batch, rng)), wanted, pos_weight=weight)

    minutes = fit(tracker, batch_loss, config.learning_rate, 0.01, config.max_steps, config.seed, "beats")
    card = {"name": "Vivace scorebook beat tracker (small TCN on log-mel, even grid)", "width": config.width}
    card |= measure(tracker, rows["test"]) | training_card(config, rows, minutes)
    save_network(tracker, config.output_dir, "beat_tracker", card)
    return card


def measure(tracker: BeatTracker, rows: list[dict]) -> dict:
    """Tempo, beat and downbeat figures on whole clips, and those of tempo and beats by source."""
    figures, sources = [], []
    for row in tqdm(rows, desc="test", disable=None):
        found = tracker.track(read_audio(row).mean(dim=0).numpy(), row["sampling_rate"])
        sources.append(row.get("source") or "unknown")
        figures.append(
            {
                "test_tempo_4pct": tempo_right(found.tempo_bpm, row["bpm"]),
                "test_tempo_4pct_octaves": tempo_right_octaves(found.tempo_bpm, row["bpm"]),
                "test_beat_f": beat_f(found.beats_s, np.asarray(row["beats_s"])),
                "test_downbeat_f": beat_f(found.downbeats_s, np.asarray(row["downbeats_s"])),
            }
        )

    def mean(name: str, source: str | None) -> float:
        values = [f[name] for f, s in zip(figures, sources, strict=True) if source in (None, s)]
        return round(float(np.mean(values)), 4)

    card: dict = {name: mean(name, None) for name in figures[0]}
    for name in ("test_tempo_4pct", "test_beat_f"):
        card[f"{name}_by_source"] = {source: mean(name, source) for source in sorted(set(sources))}
    return card


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config = parse_config(BeatTrackerRun, argv)
    card = train(config)
    print(f"{config.output_dir}: " + ", ".join(f"{k} {v}" for k, v in card.items() if k.startswith("test_")))


if __name__ == "__main__":
    command(main)
