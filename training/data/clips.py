"""Data folders of clips: writing and reading parquet shards, and reading folders made by hand.

In a shard a row is a clip: its audio as FLAC bytes, and its labels. `<folder>/data/<split>-00003.parquet` opens with
plain `datasets.load_dataset(folder)`. A shard appears only when it is complete (written under a temporary name, synced
and renamed). Row groups are small, so that one clip is read without the rest of its shard. A folder made by hand has
audio files and `<split>/metadata.jsonl`; `read_rows` and `read_audio` read both layouts.
"""

import functools
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import torch

from training.run.checkpoints import sync

SPLITS = ("train", "validation", "test")
GROUP_CLIPS = 4  # rows of a row group: about one megabyte, read in a millisecond

_NUMBER, _TEXT, _TRUTH, _COUNT = pa.float64(), pa.string(), pa.bool_(), pa.int64()
_TEXTS, _NUMBERS = pa.list_(_TEXT), pa.list_(_NUMBER)
STATED = pa.struct({
    "instruments": _TEXTS, "drums": _TRUTH, "style": _TEXT, "moods": _TEXTS, "bpm": _TRUTH, "key": _TRUTH,
    "bars": _TRUTH,
})  # fmt: skip
# The parts that are heard, and their notes, sorted by onset: seconds from the start of the clip as it sounds.
PART = pa.struct({"role": _TEXT, "instrument": _TEXT, "program": pa.int16()})
NOTES = pa.struct({
    "part": pa.list_(pa.int16()), "onset_s": pa.list_(pa.float32()), "duration_s": pa.list_(pa.float32()),
    "pitch": pa.list_(pa.int16()), "velocity": pa.list_(pa.float32()),
})  # fmt: skip
# All but the first four may be null.
COLUMNS: dict[str, pa.DataType] = {
    "audio": pa.struct({"bytes": pa.binary(), "path": _TEXT}), "duration_s": _NUMBER, "sampling_rate": _COUNT,
    "text": _TEXTS, "text_heldout": _TEXTS, "stated": pa.list_(STATED), "stated_heldout": pa.list_(STATED),
    "bpm": _NUMBER, "time_signature": _TEXT, "beats_per_bar": _COUNT, "downbeat_s": _NUMBER, "beats_s": _NUMBERS,
    "downbeats_s": _NUMBERS, "starts_on_downbeat": _TRUTH, "loop": _TRUTH, "key": _TEXT,
    "chords": pa.list_(pa.list_(pa.int8())), "chord_symbols": _TEXTS, "instruments": _TEXTS, "roles": _TEXTS,
    "melody_instrument": _TEXT, "drums": _TRUTH, "percussion": _TRUTH, "complete": _TRUTH, "style": _TEXT,
    "genre": _TEXT, "moods": _TEXTS, "dynamics": _TEXT, "density": _NUMBER, "room": _TEXT,
    "production": _TEXT, "sidechain": _TRUTH, "soundfont": _TEXT, "drum_kit": _TEXT,
    "work": _TEXT, "title": _TEXT, "composer": _TEXT, "source": _TEXT, "license": _TEXT, "seed": pa.list_(_COUNT),
    "peak": _NUMBER, "rms_db": _NUMBER,
    "parts": pa.list_(PART), "notes": NOTES,
}  # fmt: skip


@functools.cache
def schema() -> pa.Schema:
    """Columns and, for `datasets`, the note that `audio` holds encoded audio, left undecoded."""
    from datasets import Audio, Features  # seconds to import, and only writers need it

    plain = pa.schema([(name, kind) for name, kind in COLUMNS.items()])
    features = Features.from_arrow_schema(plain)
    features["audio"] = Audio(decode=False)
    return plain.with_metadata(features.arrow_schema.metadata)


def encode_audio(audio: np.ndarray, sampling_rate: int) -> bytes:
    """FLAC (16 bit) of audio (channels, samples) in [-1, 1]."""
    file = io.BytesIO()
    soundfile.write(file, audio.T, sampling_rate, subtype="PCM_16", format="FLAC")
    return file.getvalue()


def shard_path(folder: str | Path, split: str, number: int) -> Path:
    return Path(folder) / "data" / f"{split}-{number:05d}.parquet"


def write_shard(path: Path, rows: Iterable[dict]) -> None:
    """Write rows, one at least, as one shard; keys that a row lacks are null. Raises a ValueError for a key that is no
    column."""
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    for row in rows:
        unknown = set(row) - set(COLUMNS)
        if unknown:
            raise ValueError(f"row has {', '.join(sorted(unknown))}; allowed: {', '.join(COLUMNS)}")
        for name, values in columns.items():
            values.append(row.get(name))
    table = pa.table({name: pa.array(values, COLUMNS[name]) for name, values in columns.items()}, schema=schema())
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    pq.write_table(table, partial, row_group_size=GROUP_CLIPS, compression="zstd", write_statistics=False)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def shards_of(folder: str | Path, split: str) -> list[Path]:
    return sorted((Path(folder) / "data").glob(f"{split}-*.parquet"))


def labels(path: Path) -> list[dict]:
    """The rows of a shard without their audio.

    In its place stand `file_name`, the name it would have as a file, and `path`, "<shard>#<row group>:<place in it>".
    """
    file = pq.ParquetFile(path)
    rows = file.read(columns=["audio.path", *(name for name in file.schema_arrow.names if name != "audio")]).to_pylist()
    places = [(g, i) for g in range(file.num_row_groups) for i in range(file.metadata.row_group(g).num_rows)]
    for row, (group, place) in zip(rows, places, strict=True):
        row |= {"file_name": row.pop("audio")["path"], "path": f"{path}#{group}:{place}"}
    return rows


@functools.lru_cache(maxsize=1024)
def _opened(path: str, process: int) -> pq.ParquetFile:
    """An open shard, kept; each process opens its own, since a file position is not to be shared."""
    return pq.ParquetFile(path, memory_map=True)


def audio_bytes(place: str) -> bytes:
    """The audio file of the row at a `path` that `labels` gave."""
    path, _, position = place.rpartition("#")
    group, row = (int(number) for number in position.split(":"))
    column = _opened(path, os.getpid()).read_row_group(group, columns=["audio"])["audio"]
    return column[row]["bytes"].as_py()


# ---- rows of a data folder and their audio, in either layout --------------------------------------------------------


def splits_in(data_dir: str | Path) -> list[str]:
    """Names of the splits that a data folder has."""
    return [s for s in SPLITS if shards_of(data_dir, s) or (Path(data_dir) / s / "metadata.jsonl").is_file()]


def read_rows(data_dir: str | Path, split: str) -> list[dict]:
    """The rows of one split without their audio, each with `path` (where `read_audio` finds it) added, in file order.
    Raises a ValueError if the split is missing, empty or unreadable."""
    parquet = shards_of(data_dir, split)
    if parquet:
        rows = [row for path in parquet for row in labels(path)]
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
    for number, row in json_lines(path, path.read_text(encoding="utf-8-sig")):
        name = row.get("file_name") if isinstance(row, dict) else None
        if not isinstance(name, str) or not name:
            raise ValueError(f"{path} line {number} has no file_name")
        rows.append(_completed(row, path.parent / name))
    return rows


def _completed(row: dict, file: Path) -> dict:
    """A row written by hand with every column that shards have, null where the row lacks it; its length and sampling
    rate are those of the file where it does not state them."""
    unknown = dict.fromkeys(name for name in COLUMNS if name != "audio")
    row = unknown | row | {"path": str(file)}
    for name in ("text", "text_heldout"):
        if isinstance(row[name], str):
            row[name] = [row[name]]
    if row["duration_s"] is None or row["sampling_rate"] is None:
        try:
            info = soundfile.info(row["path"])
        except (OSError, soundfile.LibsndfileError):
            return row  # reading its audio will raise
        row["duration_s"] = info.duration if row["duration_s"] is None else row["duration_s"]
        row["sampling_rate"] = info.samplerate if row["sampling_rate"] is None else row["sampling_rate"]
    return row


def json_lines(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Number and content of each line of JSON lines that is not blank; `path` is named in the ValueError for another.
    A string may hold U+2028, at which splitlines() cuts."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                content = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} line {number} is not JSON ({json_reason(error)})") from None
            yield number, content


def json_reason(error: ValueError | RecursionError) -> str:
    """Why a text is not JSON, of the error of `json.loads`."""
    return getattr(error, "msg", "too deep, or a number too long")


def is_blank(text: str | None) -> bool:
    """Whether a caption is empty, as that of a clip without text."""
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
    return audio_bytes(row["path"]) if ".parquet#" in row["path"] else Path(row["path"]).read_bytes()


def read_audio(row: dict, start: int = 0, samples: int = -1) -> torch.Tensor:
    """Audio of a row as float32 (channels, samples), from sample `start` on; -1 = to the end."""
    file = io.BytesIO(audio_bytes(row["path"])) if ".parquet#" in row["path"] else row["path"]
    audio, _ = soundfile.read(file, start=start, frames=samples, dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(audio.T))


class AudioCrops:
    """Random crops of `crop_samples` of the clips of one split; shorter clips are padded with silence at the end.
    Raises a ValueError as `read_rows` does, or for a file that is missing or damaged."""

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
        # Random level, as that of recordings varies, and sign, which is inaudible.
        gain = float(rng.choice([-1.0, 1.0]) * 10.0 ** (rng.uniform(-9.0, 1.0) / 20.0))
        audio = torch.nn.functional.pad(audio * gain, (0, self.crop_samples - audio.shape[1]))
        return {"audio": audio}
