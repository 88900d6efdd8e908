"""Train the beat tracker that evaluation listens with, on the scorebook's train split.

    python -m training.train_beat_tracker --data_dir data/scorebook --output_dir checkpoints/beat_tracker

Its figures on the test split, and each source's, stand in `beat_tracker.json`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from training.config import command, parse_config
from training.data.clips import read_audio, read_rows
from training.fit import fit, pictures
from training.metrics.beat_tracker import MELS, RATE, SAMPLING_RATE, BeatTracker
from training.metrics.beats import beat_f
from training.metrics.tempo import tempo_right, tempo_right_octaves
from training.metrics.weights import save_network

POSITIVE_WEIGHT = (3.0, 6.0)  # of beats and downbeats, which few frames are
STRETCH = 0.08  # largest change of tempo by resampling the spectrogram


@dataclass(frozen=True)
class BeatTrackerRun:
    """Run of the beat tracker."""

    data_dir: str = "data/scorebook"
    output_dir: str = "checkpoints/beat_tracker"
    seed: int = 0
    max_steps: int = 6500
    batch_size: int = 24
    learning_rate: float = 4e-3
    crop_s: float = 8.0
    """where the crop begins is drawn, so that the place in the clip is no clue"""
    width: int = 36
    num_threads: int = 1


def labelled(rows: list[dict]) -> list[dict]:
    """The rows with beats, at the tracker's rate.

    Raises:
        ValueError: none has, or one is of another sampling rate.
    """
    kept = [row for row in rows if row.get("beats_s") and row.get("downbeats_s") is not None and row.get("bpm")]
    if not kept:
        raise ValueError("no row has bpm, beats_s and downbeats_s")
    for row in kept:
        if row["sampling_rate"] != SAMPLING_RATE:
            raise ValueError(f"{row['path']}: {row['sampling_rate']} Hz; this tracker is trained at {SAMPLING_RATE} Hz")
    return kept


def beat_target(row: dict, start_s: float, stretch: float, frames: int) -> np.ndarray:
    """(2, frames): 1 at the beats and downbeats of a crop, half a frame before and after.

    Args:
        start_s: where the crop begins, in seconds of the clip.
        stretch: seconds of the clip that one second of the crop holds.
    """
    table = np.zeros((2, frames + 2), dtype=np.float32)
    for channel, name in enumerate(("beats_s", "downbeats_s")):
        centres = np.round((np.asarray(row[name]) - start_s) / stretch * RATE).astype(int)
        centres = centres[(centres >= 0) & (centres < frames)] + 1
        for shift, value in ((-1, 0.5), (1, 0.5), (0, 1.0)):
            table[channel, centres + shift] = np.maximum(table[channel, centres + shift], value)
    return table[:, 1:-1]


def augment(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Another microphone: a smooth filter, noise, and a lost treble. (batch, MELS, frames)."""
    for clip in mel:
        knots = rng.normal(0.0, 0.25, size=5)
        clip += torch.from_numpy(np.interp(np.linspace(0, 4, MELS), np.arange(5), knots)).float()[:, None]
        noise = torch.from_numpy(rng.normal(size=tuple(clip.shape)).astype(np.float32))
        clip += float(rng.uniform(0.0, 0.15)) * noise
        if rng.random() < 0.4:
            clip[int(rng.integers(MELS * 3 // 5, MELS)) :] = clip.min()
    return mel


def train(config: BeatTrackerRun) -> dict:
    """Train, measure, save; returns the card.

    Raises:
        ValueError: no rows with beats.
    """
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    rows = {split: labelled(read_rows(config.data_dir, split)) for split in ("train", "test")}
    tracker = BeatTracker(config.width)
    mel = pictures(rows["train"], tracker.spectrogram, -4.0, "train spectrograms")
    weight = torch.tensor(POSITIVE_WEIGHT)[:, None]
    crop = min(round(config.crop_s * RATE), round(mel.shape[2] / (1.0 + STRETCH)))

    def crop_of(index: int, rng: np.random.Generator) -> tuple[torch.Tensor, np.ndarray]:
        """One stretched crop (MELS, crop) with its target."""
        row, stretch = rows["train"][index], float(np.exp(rng.uniform(-1.0, 1.0) * np.log1p(STRETCH)))
        span = round(crop * stretch)
        end = min(
            round(row["duration_s"] * RATE) + 1, mel.shape[2]
        )  # of a shorter clip: no crop of nothing but padding
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
    card |= measure(tracker, rows["test"])
    card |= {
        "trained_on": config.data_dir,
        "clips": {split: len(kept) for split, kept in rows.items()},
        "steps": config.max_steps,
    }
    card |= {"minutes": round(minutes, 2), "seed": config.seed, "torch": torch.__version__}
    save_network(tracker, config.output_dir, "beat_tracker", card)
    return card


def measure(tracker: BeatTracker, rows: list[dict]) -> dict:
    """Tempo, beat and downbeat figures on whole clips, and each source's tempo and beats."""
    figures, sources = [], []
    for row in tqdm(rows, desc="test", disable=None):
        heard = tracker.track(read_audio(row).mean(dim=0).numpy(), row["sampling_rate"])
        sources.append(row.get("source") or "unknown")
        figures.append(
            {
                "test_tempo_4pct": tempo_right(heard.tempo_bpm, row["bpm"]),
                "test_tempo_4pct_octaves": tempo_right_octaves(heard.tempo_bpm, row["bpm"]),
                "test_beat_f": beat_f(heard.beats_s, np.asarray(row["beats_s"])),
                "test_downbeat_f": beat_f(heard.downbeats_s, np.asarray(row["downbeats_s"])),
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
