"""Rows of a data folder and their audio, in either layout.

- Parquet: `data/<split>-*.parquet` (training/data/shards.py), which the scorebook and `prepare` write.
- By hand: `<split>/metadata.jsonl`, a row a line with `file_name`, beside the audio files.
"""

import io
import json
from pathlib import Path

import numpy as np
import soundfile
import torch

from training.data import shards


def read_rows(data_dir: str | Path, split: str) -> list[dict]:
    """The rows of one split without their audio, each with `path` (where `read_audio` finds it) added, in file order.

    Raises:
        ValueError: if the split is missing, empty or unreadable.
    """
    parquet = shards.shards_of(data_dir, split)
    if parquet:
        rows = [row for path in parquet for row in shards.labels(path)]
    else:
        rows = _read_metadata(Path(data_dir) / split / "metadata.jsonl", data_dir, split)
    if not rows:
        raise ValueError(f"data_dir {data_dir}: the {split} split has no rows")
    return rows


def _read_metadata(path: Path, data_dir: str | Path, split: str) -> list[dict]:
    if not path.is_file():
        raise ValueError(
            f"data_dir {data_dir}: neither data/{split}-*.parquet nor {split}/metadata.jsonl is there; make it with "
            "training.data.scorebook or training.data.prepare"
        )
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} line {number} is not JSON ({error.msg})") from None
        rows.append(row | {"path": str(path.parent / row["file_name"])})
    return rows


def read_bytes(row: dict) -> bytes:
    """The audio file of a row as it is stored."""
    return shards.audio_bytes(row["path"]) if ".parquet#" in row["path"] else Path(row["path"]).read_bytes()


def read_audio(row: dict, start: int = 0, samples: int = -1) -> torch.Tensor:
    """Audio of a row as float32 (channels, samples), from sample `start` on; -1 = to the end."""
    file = io.BytesIO(shards.audio_bytes(row["path"])) if ".parquet#" in row["path"] else row["path"]
    audio, _ = soundfile.read(file, start=start, frames=samples, dtype="float32", always_2d=True)
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
        audio = read_audio(row, start, min(self.crop_samples, total))
        # Level varies as recordings do; the sign of a waveform is inaudible.
        gain = float(rng.choice([-1.0, 1.0]) * 10.0 ** (rng.uniform(-9.0, 1.0) / 20.0))
        audio = torch.nn.functional.pad(audio * gain, (0, self.crop_samples - audio.shape[1]))
        return {"audio": audio}
