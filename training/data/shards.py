"""Parquet shards of clips: one row a clip, its audio as FLAC bytes beside its labels.

`<folder>/data/<split>-00003.parquet` opens with plain `datasets.load_dataset(folder)`. A shard appears only when it is
whole: it is written under a temporary name, synced and renamed. Row groups are small, so that one clip is read without
the rest of its shard.
"""

import functools
import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from training.files import sync

SPLITS = ("train", "validation", "test")
GROUP_CLIPS = 4  # rows of a row group: about one megabyte, read in a millisecond

_NUMBER, _TEXT, _TRUTH, _COUNT = pa.float64(), pa.string(), pa.bool_(), pa.int64()
_TEXTS, _NUMBERS = pa.list_(_TEXT), pa.list_(_NUMBER)
STATED = pa.struct({
    "instruments": _TEXTS, "drums": _TRUTH, "style": _TEXT, "moods": _TEXTS, "bpm": _TRUTH, "key": _TRUTH,
    "bars": _TRUTH,
})  # fmt: skip
# Any of these may be null in a row but the first four.
COLUMNS: dict[str, pa.DataType] = {
    "audio": pa.struct({"bytes": pa.binary(), "path": _TEXT}), "duration_s": _NUMBER, "sampling_rate": _COUNT,
    "text": _TEXTS, "text_heldout": _TEXTS, "stated": pa.list_(STATED), "stated_heldout": pa.list_(STATED),
    "bpm": _NUMBER, "time_signature": _TEXT, "beats_per_bar": _COUNT, "downbeat_s": _NUMBER, "beats_s": _NUMBERS,
    "downbeats_s": _NUMBERS, "starts_on_downbeat": _TRUTH, "loop": _TRUTH, "key": _TEXT,
    "chords": pa.list_(pa.list_(pa.int8())), "chord_symbols": _TEXTS, "instruments": _TEXTS, "roles": _TEXTS,
    "melody_instrument": _TEXT, "drums": _TRUTH, "percussion": _TRUTH, "complete": _TRUTH, "style": _TEXT,
    "genre": _TEXT, "moods": _TEXTS, "dynamics": _TEXT, "density": _NUMBER, "room": _TEXT, "soundfont": _TEXT, "work": _TEXT,
    "title": _TEXT, "composer": _TEXT, "source": _TEXT, "license": _TEXT, "seed": pa.list_(_COUNT),
    "peak": _NUMBER, "rms_db": _NUMBER,
}  # fmt: skip


@functools.cache
def schema() -> pa.Schema:
    """Columns and, for `datasets`, the note that `audio` is sound which is not to be decoded by itself."""
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
    """Write rows, one at least, as one shard; keys that a row lacks are null.

    Raises:
        ValueError: a key that is no column.
    """
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
