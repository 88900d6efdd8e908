"""Train the beat tracker that evaluation listens with, on the scorebook's train split.

    python -m training.train_beat_tracker --data_dir data/scorebook --output_dir checkpoints/beat_tracker

Its figures on the test split stand in `beat_tracker.json`.
"""

import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from training.config import parse_config
from training.data.clips import read_audio, read_rows
from training.metrics.beat_tracker import MELS, RATE, SAMPLING_RATE, BeatTracker
from training.metrics.beats import beat_f
from training.metrics.tempo import tempo_right, tempo_right_octaves
from training.metrics.weights import save_network

POSITIVE_WEIGHT = (3.0, 6.0)  # of beats and downbeats, which few frames are


@dataclass(frozen=True)
class BeatTrackerRun:
    """Run of the beat tracker."""

    data_dir: str = "data/scorebook"
    output_dir: str = "checkpoints/beat_tracker"
    seed: int = 0
    max_minutes: float = 15.0
    """of training; reading the clips comes before"""
    max_steps: int = 2000
    batch_size: int = 24
    learning_rate: float = 4e-3
    crop_s: float = 8.0
    """where the crop begins is drawn, so that the place in the clip is no clue"""
    width: int = 24
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


def spectrograms(tracker: BeatTracker, rows: list[dict], label: str) -> torch.Tensor:
    """(rows, MELS, frames) fp16; shorter clips are padded with silence."""
    frames = max(round(row["duration_s"] * RATE) for row in rows) + 1
    out = torch.full((len(rows), MELS, frames), -4.0, dtype=torch.float16)
    for index, row in enumerate(tqdm(rows, desc=label, disable=None)):
        mel = tracker.spectrogram(read_audio(row["path"]).mean(dim=0, keepdim=True))[0, :, :frames]
        out[index, :, : mel.shape[1]] = mel.half()
    return out


def targets(rows: list[dict], frames: int) -> torch.Tensor:
    """(rows, 2, frames): 1 at beats and downbeats, half a frame before and after."""
    table = torch.zeros(len(rows), 2, frames)
    for index, row in enumerate(rows):
        for channel, name in enumerate(("beats_s", "downbeats_s")):
            for time_s in row[name]:
                centre = round(time_s * RATE)
                for frame, value in ((centre - 1, 0.5), (centre + 1, 0.5), (centre, 1.0)):
                    if 0 <= frame < frames:
                        table[index, channel, frame] = max(float(table[index, channel, frame]), value)
    return table


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
    rng = np.random.default_rng(config.seed)
    rows = {split: labelled(read_rows(config.data_dir, split)) for split in ("train", "test")}
    tracker = BeatTracker(config.width)
    mel = spectrograms(tracker, rows["train"], "train spectrograms")
    truth = targets(rows["train"], mel.shape[2])
    optimiser = torch.optim.AdamW(tracker.parameters(), lr=config.learning_rate, weight_decay=0.01)
    weight = torch.tensor(POSITIVE_WEIGHT)[:, None]
    crop, began, done, running = min(round(config.crop_s * RATE), mel.shape[2]), time.monotonic(), 0, 0.0
    with tqdm(total=config.max_steps, desc="beat tracker", disable=None) as bar:
        while done < config.max_steps:
            # The share of the time or of the steps that is gone, whichever is more, drives the learning rate.
            gone = max(done / config.max_steps, (time.monotonic() - began) / (60.0 * config.max_minutes))
            if gone >= 1.0:
                break
            cosine = 0.02 + 0.49 * (1.0 + np.cos(np.pi * gone))
            for group in optimiser.param_groups:
                group["lr"] = config.learning_rate * min(1.0, (done + 1) / 30) * cosine
            pick = rng.integers(0, len(mel), size=config.batch_size)
            starts = rng.integers(0, mel.shape[2] - crop + 1, size=config.batch_size)
            pairs = list(zip(pick, starts, strict=True))
            batch = torch.stack([mel[i, :, s : s + crop] for i, s in pairs]).float()
            wanted = torch.stack([truth[i, :, s : s + crop] for i, s in pairs])
            tracker.train()
            logits = tracker(augment(batch, rng))
            loss = F.binary_cross_entropy_with_logits(logits, wanted, pos_weight=weight)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            done, running = done + 1, 0.95 * running + 0.05 * loss.item()
            bar.update()
            bar.set_postfix(loss=f"{running / (1 - 0.95**done):.4f}")
    card = {"name": "Vivace scorebook beat tracker (small TCN on log-mel, even grid)", "width": config.width}
    card |= measure(tracker, rows["test"])
    card |= {"trained_on": config.data_dir, "clips": {split: len(kept) for split, kept in rows.items()}, "steps": done}
    card |= {"minutes": round((time.monotonic() - began) / 60.0, 2), "seed": config.seed, "torch": torch.__version__}
    save_network(tracker, config.output_dir, "beat_tracker", card)
    return card


def measure(tracker: BeatTracker, rows: list[dict]) -> dict[str, float]:
    """Tempo, beat and downbeat figures on whole clips."""
    figures = []
    for row in tqdm(rows, desc="test", disable=None):
        heard = tracker.track(read_audio(row["path"]).mean(dim=0).numpy(), row["sampling_rate"])
        figures.append(
            {
                "test_tempo_4pct": tempo_right(heard.tempo_bpm, row["bpm"]),
                "test_tempo_4pct_octaves": tempo_right_octaves(heard.tempo_bpm, row["bpm"]),
                "test_beat_f": beat_f(heard.beats_s, np.asarray(row["beats_s"])),
                "test_downbeat_f": beat_f(heard.downbeats_s, np.asarray(row["downbeats_s"])),
            }
        )
    return {name: round(float(np.mean([f[name] for f in figures])), 4) for name in figures[0]}


def main(argv: list[str] | None = None) -> int:
    """Command line; bad input gives one line and exit code 2."""
    config = parse_config(BeatTrackerRun, argv)
    try:
        card = train(config)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{config.output_dir}: " + ", ".join(f"{k} {v:.3f}" for k, v in card.items() if k.startswith("test_")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
