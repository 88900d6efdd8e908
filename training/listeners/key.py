"""The key network: a small network that estimates the key of a clip and is equivariant to transposition.

    python -m training.listeners.key

It is trained on the scorebook and does not use a request. Convolutions run over pitch, octaves are folded together, and
the twelve pitch classes form a circle, so that a clip a semitone higher gives the estimate a semitone higher.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from pipelines.vivace_theory import PITCH_CLASSES
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
from training.metrics.control import key_mirex, key_right

SAMPLING_RATE = 24000  # Hz; other clips are resampled
RATE = 5  # frames a second
WINDOW = 8192  # samples, a third of a second, which resolves semitones from C3 on
LOWEST_HZ = 65.406  # C2
OCTAVES = 6
FINE = 3  # bins a semitone, as channels
REACH = 24  # semitones to either side in the first convolution: partials up to the fourth
MODES = ("major", "minor")
SMOOTHING = 0.05  # of the labels, since a passage may be in another key than its piece


@dataclass(frozen=True)
class KeyEstimate:
    """The likeliest key, and the probability of each of the 24 keys."""

    name: str
    probabilities: dict[str, float]


class KeyNetwork(nn.Module):
    """Log-frequency spectrum -> notes -> pitch classes on a circle -> weighted mean over time -> 24 keys.

    The wide receptive field and the average over time follow Korzeniowski and Widmer (2018); the circle makes it
    equivariant to transposition, except for notes that leave the lowest or highest octave.

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
        # The mean over pitch classes makes a frame's weight independent of the tonic.
        weight = torch.softmax(self.attention(hidden.mean(2)), dim=2)[:, :, None]
        pooled = torch.cat([(weight * hidden).sum(3), hidden.mean(3)], dim=1)[..., None]
        return self.exit(_circular(pooled, 0)).squeeze(3).flatten(1)

    @torch.no_grad()
    def listen(self, audio: np.ndarray, sampling_rate: int) -> KeyEstimate | None:
        """Key of a clip (samples,); None for silence."""
        if not np.any(np.abs(audio) > 1e-4):
            return None
        clip = clip_tensor(audio, sampling_rate, SAMPLING_RATE, WINDOW)
        values = torch.softmax(self.eval()(self.spectrogram(clip)), dim=1)[0].tolist()
        probabilities = dict(zip(key_names(), values, strict=True))
        return KeyEstimate(max(probabilities, key=probabilities.get), probabilities)


def key_names() -> list[str]:
    """The 24 keys in the order of the network's logits."""
    return [f"{tonic} {mode}" for mode in MODES for tonic in PITCH_CLASSES]


def _circular(hidden: torch.Tensor, frames: int) -> torch.Tensor:
    """Pad (batch, channels, 12, frames) for a kernel of 12 pitch classes and 2 * `frames` + 1 frames."""
    return F.pad(torch.cat([hidden, hidden[:, :, :11]], dim=2), (frames, frames))


def _pitch_filters() -> torch.Tensor:
    """(12 * OCTAVES * FINE, bins) triangles a third of a semitone apart, at least two bins wide to either side.

    The middle one of each semitone is in tune at A = 440 Hz.
    """
    count = 12 * OCTAVES * FINE
    centres = LOWEST_HZ * 2.0 ** ((np.arange(count) - FINE // 2) / (12 * FINE))
    bins = np.arange(WINDOW // 2 + 1) * SAMPLING_RATE / WINDOW
    width = np.maximum(centres * (2.0 ** (1.0 / (12 * FINE)) - 1.0), SAMPLING_RATE / WINDOW)
    filters = np.maximum(0.0, 1.0 - np.abs(bins[None, :] - centres[:, None]) / width[:, None])
    return torch.from_numpy(filters / filters.sum(axis=1, keepdims=True)).float()


def load_key_network(folder: str) -> tuple[KeyNetwork, dict]:
    """A key network and its card; a ValueError if they cannot be read."""
    return load_network(KeyNetwork, folder, "key", ("width",))


# Training, on the scorebook's train split.


@dataclass(frozen=True)
class KeyRun(ListenerRun):
    """Train the key network."""

    output_dir: str = "checkpoints/key"
    max_steps: int = 2500
    width: int = option(24, "channels of the network", above=0)


def augment(pitch: torch.Tensor, label: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Vary the recording (batch, FINE, pitches, frames) and the label (batch,) in the order of `key_names`: a smooth
    filter, noise, and a transposition by up to six semitones."""
    pitch, label = pitch.clone(), label.clone()
    size = pitch.shape[2]
    for index, clip in enumerate(pitch):
        gain = np.interp(np.linspace(0, 5, size), np.arange(6), rng.normal(0.0, 0.08, size=6))
        clip += torch.from_numpy(gain).float()[:, None] * (clip > 0.02)
        clip += float(rng.uniform(0.0, 0.05)) * torch.from_numpy(rng.normal(size=clip.shape).astype(np.float32)).abs()
        shift = int(rng.integers(-6, 7))
        rolled = torch.roll(clip, shift, dims=1)
        if shift > 0:
            rolled[:, :shift] = 0.0
        elif shift < 0:
            rolled[:, shift:] = 0.0
        pitch[index] = rolled
        mode, tonic = divmod(int(label[index]), 12)
        label[index] = 12 * mode + (tonic + shift) % 12
    return pitch, label


def train(config: KeyRun) -> dict:
    """Train, measure, save; returns the card. Raises a ValueError if no row has a key."""
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    names, splits, needed = key_names(), ("train", "validation", "test"), "a key such as 'A minor'"
    rows = labelled_rows(config.data_dir, splits, lambda row: row.get("key") in names, needed, SAMPLING_RATE)
    network = KeyNetwork(config.width)
    pitch = spectrograms(rows["train"], network.spectrogram, 0.0, "train spectrograms")
    truth = torch.tensor([names.index(row["key"]) for row in rows["train"]])
    crop = min(round(config.crop_s * RATE), pitch.shape[-1])

    def batch_loss(rng: np.random.Generator) -> torch.Tensor:
        pick = rng.integers(0, len(pitch), size=config.batch_size)
        starts = rng.integers(0, pitch.shape[-1] - crop + 1, size=config.batch_size)
        batch = torch.stack([pitch[i, ..., s : s + crop] for i, s in zip(pick, starts, strict=True)]).float()
        batch, label = augment(batch, truth[pick], rng)
        return F.cross_entropy(network(batch), label, label_smoothing=SMOOTHING)

    minutes = fit(network, batch_loss, config.learning_rate, 0.05, config.max_steps, config.seed, "key")
    card = {"name": "Vivace scorebook key network (small CNN on a circle of pitch classes)", "width": config.width}
    card |= {
        f"{split}_{name}": v for split in ("validation", "test") for name, v in measure(network, rows[split]).items()
    }
    card |= training_card(config, rows, minutes)
    save_network(network, config.output_dir, "key", card)
    return card


def measure(network: KeyNetwork, rows: list[dict]) -> dict:
    """Share of whole clips with the right key, in total and by source, and the MIREX score."""
    right, mirex, by_source = [], [], {}
    for row in tqdm(rows, desc="measuring", disable=None):
        found = network.listen(read_audio(row).mean(dim=0).numpy(), row["sampling_rate"])
        estimate = None if found is None else found.name
        right.append(key_right(estimate, row["key"]))
        mirex.append(key_mirex(estimate, row["key"]))
        by_source.setdefault(row.get("source") or "unknown", []).append(right[-1])
    return {
        "key_exact": round(float(np.mean(right)), 4),
        "key_mirex": round(float(np.mean(mirex)), 4),
        "key_exact_by_source": {name: round(float(np.mean(values)), 4) for name, values in sorted(by_source.items())},
    }


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config = parse_config(KeyRun, argv)
    card = train(config)
    print(f"{config.output_dir}: " + ", ".join(f"{k} {v}" for k, v in card.items() if k.startswith("test_")))


if __name__ == "__main__":
    command(main)
