"""A Hugging Face data set, from the Hub or a local folder, streamed and never decoded by `datasets`."""

from collections.abc import Iterator
from pathlib import Path

from training.data.prepare.items import AUDIO_COLUMNS, Item, Listing, facts_of
from training.data.shards import SPLITS

SPLIT_NAMES = {"val": "validation", "valid": "validation", "dev": "validation", "eval": "validation"}


def is_local_dataset(source: Path) -> bool:
    """Whether a folder was written by `save_to_disk` or holds parquet files."""
    saved = (source / "dataset_dict.json").is_file() or (source / "dataset_info.json").is_file()
    return saved or any(source.glob("*.parquet")) or any(source.glob("data/*.parquet"))


def list_dataset(source: str, audio_column: str | None, text_column: str | None) -> Listing:
    """The rows of a data set, split by split, as they arrive.

    Args:
        source: an id such as "owner/name" or a local folder.

    Raises:
        ValueError: it cannot be opened, or has no audio column (naming the columns it has).
    """
    from datasets import Audio

    splits = _open(source)
    prepared, count = {}, 0
    for split, rows in splits.items():
        columns = rows.features or {}
        name = _audio_column(source, audio_column, columns)
        if text_column is not None and text_column not in columns:
            raise ValueError(f"text_column: {source} lacks {text_column!r}; it has {', '.join(columns)}")
        if isinstance(columns[name], Audio):
            rows = rows.cast_column(name, Audio(decode=False))
        prepared[split] = (name, rows)
        info = rows.info.splits or {}
        count = None if count is None or split not in info else count + (info[split].num_examples or 0)
    return Listing(_items(prepared, text_column, _own_splits(prepared)), count or None)


def _own_splits(prepared: dict) -> bool:
    """Whether the data set is divided for training already; a single split is not."""
    return len({SPLIT_NAMES.get(split, split) for split in prepared} & set(SPLITS)) > 1


def _open(source: str) -> dict:
    from datasets import DatasetDict, load_dataset, load_from_disk

    folder = Path(source)
    saved = (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file()
    try:
        if not saved:
            return dict(load_dataset(source, streaming=True))
        loaded = load_from_disk(source)
    except Exception as error:  # datasets, huggingface_hub and fsspec each raise their own kinds
        raise ValueError(f"source {source}: cannot be opened as a data set ({_line(error)})") from None
    parts = loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
    return {split: part.to_iterable_dataset() for split, part in parts.items()}


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _audio_column(source: str, asked: str | None, columns: dict) -> str:
    from datasets import Audio

    sound = [name for name, kind in columns.items() if isinstance(kind, Audio)]
    usual = [name for name in AUDIO_COLUMNS if name in columns]
    for name in (asked,) if asked else (*sound, *usual):
        if name in columns:
            return name
    wanted = repr(asked) if asked else "an audio column"
    raise ValueError(f"audio_column: {source} lacks {wanted}; it has {', '.join(columns) or 'no named columns'}")


def _items(prepared: dict, text_column: str | None, own_splits: bool) -> Iterator[Item]:
    for split, (name, rows) in prepared.items():
        target = SPLIT_NAMES.get(split, split)
        for number, row in enumerate(rows):
            audio = row.pop(name)
            content, path = (audio.get("bytes"), audio.get("path")) if isinstance(audio, dict) else (audio, None)
            content = content if isinstance(content, bytes) else b""
            # A path in a row of somebody's data set is theirs to choose: only bytes are read, never a file it names.
            notes = ["the row holds no audio bytes"] if not content else []
            captions, labels, odd = facts_of(row, text_column)
            label = f"{split}/{number:07d} {Path(path).name if path else ''}".strip()
            yield Item(
                label, None, content, tuple(captions), labels,
                target if own_splits and target in SPLITS else None, tuple(notes + odd),
            )  # fmt: skip
