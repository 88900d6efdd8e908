"""A CSV or JSONL file that names audio files, their captions and labels."""

import csv
import io
import json
from pathlib import Path

from training.data.prepare.folder import inside
from training.data.prepare.items import AUDIO_COLUMNS, TEXT_COLUMNS, Item, Listing, facts_of, read_text
from training.data.shards import SPLITS

SUFFIXES = (".csv", ".tsv", ".jsonl")


def list_table(path: Path, audio_column: str | None, text_column: str | None, allow_outside: bool) -> Listing:
    """The rows of a table in their order; a row whose file is missing, outside or named twice has its fate at once.

    Raises:
        ValueError: not UTF-8, not CSV or JSONL, empty, or without the columns asked for (naming those it has).
    """
    rows = _rows(path)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    audio_column = _column(path, "audio_column", audio_column, AUDIO_COLUMNS, columns, needed=True)
    text_column = _column(path, "text_column", text_column, TEXT_COLUMNS, columns, needed=text_column is not None)
    root = path.parent.resolve()
    items: dict[str, Item] = {}
    others: dict[str, tuple[str, str]] = {}
    for number, row in enumerate(rows, start=1):
        entry = row.get(audio_column)
        if not isinstance(entry, str) or not entry.strip():
            others[f"{path.name} row {number}"] = ("unreadable", f"no {audio_column} in this row")
            continue
        entry = entry.strip()
        file = path.parent / entry
        if not allow_outside and not inside(file, root):
            others[entry] = ("refused", "lies outside the table's folder; --allow_outside reads it")
        elif not file.is_file():
            others[entry] = ("unreadable", "no such file")
        elif entry in items:
            others[f"{entry} (row {number})"] = ("duplicate", f"named twice in {path.name}")
        else:
            captions, labels, notes = facts_of(row, text_column)
            split = row.get("split")
            if split is not None and split not in SPLITS:
                split, notes = None, [*notes, f"split {split!r} is none of {', '.join(SPLITS)}"]
            items[entry] = Item(entry, str(file), None, tuple(captions), labels, split, tuple(notes))
    return Listing(list(items.values()), len(items), others)


def _rows(path: Path) -> list[dict]:
    text = read_text(path)
    if text is None:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8")
    if path.suffix.lower() == ".jsonl":
        rows = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {number} is not JSON ({error.msg})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path} line {number} is no JSON object")
            rows.append(row)
    else:
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        rows = [
            {name: value for name, value in row.items() if name is not None}
            for row in csv.DictReader(io.StringIO(text), delimiter=delimiter)
        ]
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _column(
    path: Path, argument: str, asked: str | None, usual: tuple[str, ...], columns: list[str], needed: bool
) -> str | None:
    """The column asked for, or the first of the usual names that is there."""
    for name in (asked,) if asked else usual:
        if name in columns:
            return name
    if needed:
        wanted = repr(asked) if asked else "any of " + ", ".join(usual)
        raise ValueError(f"{argument}: {path} lacks {wanted}; it has {', '.join(columns)}")
    return None
