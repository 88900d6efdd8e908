"""Rows of a data folder (`<split>/metadata.jsonl` beside FLAC files) and their audio."""

import json
from pathlib import Path

import numpy as np
import soundfile
import torch


def read_rows(data_dir: str | Path, split: str) -> list[dict]:
    """The rows of one split, each with `path` added, in file order.

    Raises:
        ValueError: if the split or its metadata is missing, empty or unreadable.
    """
    metadata = Path(data_dir) / split / "metadata.jsonl"
    if not metadata.is_file():
        raise ValueError(f"data_dir {data_dir}: no {split}/metadata.jsonl there; make it with training.data.scorebook")
    rows = []
    for number, line in enumerate(metadata.read_text().splitlines(), start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{metadata} line {number} is not JSON ({error.msg})") from None
        row["path"] = str(metadata.parent / row["file_name"])
        rows.append(row)
    if not rows:
        raise ValueError(f"{metadata} has no rows")
    return rows


def read_audio(path: str, start: int = 0, samples: int = -1) -> torch.Tensor:
    """Audio of one file as float32 (channels, samples), from sample `start` on."""
    audio, _ = soundfile.read(path, start=start, frames=samples, dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(audio.T))


class AudioCrops:
    """Random crops of the clips of one split, for the autoencoder.

    Args:
        data_dir, split: where the rows are.
        crop_samples: length of a crop; shorter clips are padded with silence at the end.
    """

    def __init__(self, data_dir: str, split: str, crop_samples: int):
        self.rows = read_rows(data_dir, split)
        self.crop_samples = crop_samples

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        row = self.rows[index]
        total = round(row["duration_s"] * row["sampling_rate"])
        start = int(rng.integers(0, max(total - self.crop_samples, 0) + 1))
        audio = read_audio(row["path"], start, min(self.crop_samples, total))
        # Level varies as recordings do; the sign of a waveform is inaudible.
        gain = float(rng.choice([-1.0, 1.0]) * 10.0 ** (rng.uniform(-9.0, 1.0) / 20.0))
        audio = torch.nn.functional.pad(audio * gain, (0, self.crop_samples - audio.shape[1]))
        return {"audio": audio}
