"""Train the network that evaluation hears keys with, on the scorebook's train split.

    python -m training.train_key --data_dir data/scorebook --output_dir checkpoints/key

Its figures on the test split, and how often each source is right, stand in `key.json`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from training.config import command, parse_config
from training.data.clips import read_audio, read_rows
from training.fit import fit, pictures
from training.metrics.key import key_mirex, key_right
from training.metrics.key_network import RATE, SAMPLING_RATE, KeyNetwork, key_names
from training.metrics.weights import save_network

SMOOTHING = 0.05  # of the labels: a passage may stand in another key than its piece


@dataclass(frozen=True)
class KeyRun:
    """Run of the key network."""

    data_dir: str = "data/scorebook"
    output_dir: str = "checkpoints/key"
    seed: int = 0
    max_steps: int = 2500
    batch_size: int = 32
    learning_rate: float = 3e-3
    crop_s: float = 8.0
    width: int = 24
    num_threads: int = 1


def labelled(rows: list[dict]) -> list[dict]:
    """The rows with a key, at the network's rate.

    Raises:
        ValueError: none has, or one is of another sampling rate.
    """
    kept = [row for row in rows if row.get("key") in key_names()]
    if not kept:
        raise ValueError("no row has a key such as 'A minor'")
    for row in kept:
        if row["sampling_rate"] != SAMPLING_RATE:
            raise ValueError(f"{row['path']}: {row['sampling_rate']} Hz; this network is trained at {SAMPLING_RATE} Hz")
    return kept


def augment(pitch: torch.Tensor, label: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Another microphone and another key: a smooth filter, noise, and up to six semitones up or down.

    Args:
        pitch: (batch, FINE, pitches, frames).
        label: (batch,) in the order of `key_names`.
    """
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
    """Train, measure, save; returns the card.

    Raises:
        ValueError: no rows with a key.
    """
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    rows = {split: labelled(read_rows(config.data_dir, split)) for split in ("train", "validation", "test")}
    network = KeyNetwork(config.width)
    pitch = pictures(rows["train"], network.spectrogram, 0.0, "train spectrograms")
    names = key_names()
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
    card |= {
        "trained_on": config.data_dir,
        "clips": {split: len(kept) for split, kept in rows.items()},
        "steps": config.max_steps,
    }
    card |= {"minutes": round(minutes, 2), "seed": config.seed, "torch": torch.__version__}
    save_network(network, config.output_dir, "key", card)
    return card


def measure(network: KeyNetwork, rows: list[dict]) -> dict:
    """Share of whole clips whose key is right, the MIREX score, and the share by source."""
    right, mirex, by_source = [], [], {}
    for row in tqdm(rows, desc="measuring", disable=None):
        heard = network.listen(read_audio(row).mean(dim=0).numpy(), row["sampling_rate"])
        estimate = None if heard is None else heard.name
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
