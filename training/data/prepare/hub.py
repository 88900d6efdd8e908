"""A Hugging Face data set, from the Hub or a local folder, streamed and never decoded by `datasets`."""

from collections.abc import Iterator
from pathlib import Path

from training.data.prepare.folder import inside, reason_of
from training.data.prepare.items import AUDIO_COLUMNS, Item, Listing, clean, facts_of, find_column, shown, split_of
from training.data.prepare.table import caption_note


def is_local_dataset(source: Path) -> bool:
    """Whether a folder was written by `save_to_disk` or holds parquet files."""
    saved = (source / "dataset_dict.json").is_file() or (source / "dataset_info.json").is_file()
    return saved or any(source.glob("*.parquet")) or any(source.glob("data/*.parquet"))


def list_dataset(
    source: str, audio_column: str | None, text_column: str | None, allow_outside: bool = False
) -> Listing:
    """The rows of a data set, split by split, as they arrive.

    Args:
        source: an id such as "owner/name" or a local folder.
        audio_column, text_column: None = by the usual names.
        allow_outside: whether rows of a local folder may name files outside it.

    Raises:
        ValueError: it cannot be opened, or has no audio column (naming the columns it has).
    """
    from datasets import Audio

    splits = _open(source)
    prepared, count, names = {}, 0, {}
    for split, rows in splits.items():
        columns = rows.features or {}
        name = _audio_column(source, audio_column, columns)
        if text_column is not None and find_column([text_column], columns) is None:
            raise ValueError(f"text_column: {source} lacks {text_column!r}; it has {', '.join(columns)}")
        names |= dict.fromkeys(columns)
        if isinstance(columns[name], Audio):
            rows = rows.cast_column(name, Audio(decode=False))
        prepared[split] = (name, rows)
        info = rows.info.splits or {}
        count = None if count is None or split not in info else count + (info[split].num_examples or 0)
    others: dict[str, tuple[str, str]] = {}
    folder = Path(source) if Path(source).is_dir() else None
    items = _items(prepared, text_column, _own_splits(prepared), folder, allow_outside, others)
    return Listing(items, count or None, others, caption_note(source, text_column, list(names)))


def _own_splits(prepared: dict) -> bool:
    """Whether the data set is divided for training already; a single split is not."""
    return len({split_of(split)[0] for split in prepared} - {None}) > 1


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
    found = find_column([asked] if asked else [*sound, *AUDIO_COLUMNS], columns)
    if found is not None:
        return found
    wanted = repr(asked) if asked else "an audio column"
    raise ValueError(f"audio_column: {source} lacks {wanted}; it has {', '.join(columns) or 'no named columns'}")


def _items(
    prepared: dict, text_column: str | None, own_splits: bool, folder: Path | None, allow_outside: bool, others: dict
) -> Iterator[Item]:
    """The rows as items; one that names a file that is not to be read is put into `others` with its fate."""
    for split, (column, rows) in prepared.items():
        target = split_of(split)[0] if own_splits else None
        for number, row in enumerate(rows):
            audio = row.pop(column)
            content, path = (audio.get("bytes"), audio.get("path")) if isinstance(audio, dict) else (audio, None)
            if isinstance(content, str):  # a column of file names
                content, path = None, content
            content = content if isinstance(content, bytes) else b""
            title = shown(Path(path).name) if path else ""
            label = f"{split}/{number:07d} {title}".strip()
            captions, labels, notes = facts_of(row, text_column)
            file = None
            if not content and path and folder is not None:
                file, fate = _local_file(folder, path, allow_outside)
                if fate is not None:
                    others[label] = fate
                    continue
            elif not content:
                # A path in a row of somebody's data set is theirs to choose: no file that it names is read.
                notes = ["the row holds no audio bytes", *notes]
            yield Item(
                label, None if file is None else str(file), content if file is None else None, tuple(captions), labels,
                target, tuple(notes), title,
            )  # fmt: skip


def _local_file(folder: Path, path: str, allow_outside: bool) -> tuple[Path | None, tuple[str, str] | None]:
    """The file that a row of a local data set names instead of holding it, and its fate where it is not to be read."""
    try:
        found = next((at / path for at in (folder, folder / "data") if (at / path).is_file()), None)
        if found is None:
            return None, ("unreadable", f"the row holds no audio bytes, and its file {clean(path)!r} is not there")
        if not allow_outside and not inside(found, folder.resolve()):
            return None, ("refused", "its file lies outside the source; --allow_outside reads it")
    except (OSError, ValueError, RuntimeError) as error:
        return None, ("unreadable", reason_of(error))
    return found, None
