"""Rows of a data folder and their audio, in either layout.

- Parquet: `data/<split>-*.parquet` (training/data/shards.py), which the scorebook and `prepare` write.
- By hand: `<split>/metadata.jsonl`, a JSON object a line, beside the audio files. Only `file_name` is needed: a label
  that is missing is unknown, as null is.
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
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", "too deep, or a number too long")
            raise ValueError(f"{path} line {number} is not JSON ({reason})") from None
        name = row.get("file_name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path} line {number} has no file_name")
        rows.append(_completed(row, path.parent / name))
    return rows


def _completed(row: dict, file: Path) -> dict:
    """A row written by hand with every column that shards have, null where the row lacks it; its length and sampling
    rate are those of the file where it does not state them."""
    unknown = dict.fromkeys(name for name in shards.COLUMNS if name != "audio")
    row = unknown | row | {"path": str(file)}
    for name in ("text", "text_heldout"):
        if isinstance(row[name], str):
            row[name] = [row[name]]
    if row["duration_s"] is None or row["sampling_rate"] is None:
        try:
            info = soundfile.info(row["path"])
        except (OSError, soundfile.LibsndfileError):
            return row  # whoever reads the audio says what is wrong with it
        row["duration_s"] = info.duration if row["duration_s"] is None else row["duration_s"]
        row["sampling_rate"] = info.samplerate if row["sampling_rate"] is None else row["sampling_rate"]
    return row


def is_blank(text: str | None) -> bool:
    """Whether a caption says nothing, as the one of a clip without text."""
    return text is None or not text.strip()


def without_blanks(row: dict) -> dict:
    """The row with no blank caption in `text`, nor what it states in `stated`; `text` is empty for a clip without."""
    texts, stated = row.get("text") or [], row.get("stated") or []
    written = [number for number, text in enumerate(texts) if not is_blank(text)]
    if len(written) == len(texts):
        return row | {"text": texts}
    kept = [stated[number] for number in written] if len(stated) == len(texts) else None
    return row | {"text": [texts[number] for number in written], "stated": kept}


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

    Raises:
        ValueError: as `read_rows`, or a file that is missing or damaged.
    """

    def __init__(self, data_dir: str, split: str, crop_samples: int):
        self.rows = read_rows(data_dir, split)
        for row in self.rows:
            if row["duration_s"] is None or row["sampling_rate"] is None:
                raise ValueError(f"data_dir {data_dir}: {row['file_name']} of the {split} split cannot be read")
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
