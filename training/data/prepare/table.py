"""A CSV or JSONL file that names audio files, their captions and labels."""

import csv
import io
import json
from pathlib import Path

from training.data.prepare.folder import inside, reason_of
from training.data.prepare.items import (
    AUDIO_COLUMNS,
    TEXT_COLUMNS,
    Item,
    Listing,
    facts_of,
    find_column,
    read_text,
    shown,
    split_of,
    tidy,
    unshown,
)

SUFFIXES = (".csv", ".tsv", ".jsonl")
CELL_LIMIT = 2**24  # characters; csv's own 131,072 are fewer than some captions have, and a limit finds open quotes


def list_table(path: Path, audio_column: str | None, text_column: str | None, allow_outside: bool) -> Listing:
    """The rows of a table in their order; a row whose file is missing, outside or named twice has its fate at once.

    Raises:
        ValueError: not UTF-8, not CSV or JSONL, empty, or without the columns asked for (naming those it has).
    """
    rows = _rows(path)
    columns = list(dict.fromkeys(name for row, _ in rows for name in row))
    audio_column = _column(path, "audio_column", audio_column, AUDIO_COLUMNS, columns)
    if text_column is not None:
        text_column = _column(path, "text_column", text_column, (), columns)
    root = path.parent.resolve()
    items: dict[str, Item] = {}
    others: dict[str, tuple[str, str]] = {}
    for number, (row, odd) in enumerate(rows, start=1):
        entry = row.get(audio_column)
        if not isinstance(entry, str) or not entry.strip():
            others[f"{path.name} row {number}"] = ("unreadable", f"no {audio_column} in this row")
            continue
        entry = entry.strip()
        name = shown(entry)
        file, fate = _file_of(path.parent, entry, root, allow_outside)
        if fate is not None:
            others[name] = fate
        elif entry in items:
            others[f"{name} (row {number})"] = ("duplicate", f"named twice in {path.name}")
        else:
            captions, labels, notes = facts_of(row, text_column)
            split, unknown = split_of(row.get(find_column(["split"], row)))
            notes = (*odd, *notes, *unknown)
            items[entry] = Item(name, str(file), None, tuple(captions), labels, split, notes)
    return Listing(list(items.values()), len(items), others, caption_note(path.name, text_column, columns))


def caption_note(source: str, text_column: str | None, columns: list[str]) -> list[str]:
    """What is to be said of a source without a column of captions; nothing of one that has it."""
    if text_column is not None or find_column(TEXT_COLUMNS, columns) is not None:
        return []
    return [
        f"{source} has no column of captions ({', '.join(TEXT_COLUMNS)}), only {', '.join(columns)}; they are taken "
        "from tags and names; --text_column names another column"
    ]


def _file_of(folder: Path, entry: str, root: Path, allow_outside: bool) -> tuple[Path, tuple[str, str] | None]:
    """The file that an entry of the table names, and its fate where it is not to be read."""
    file = folder / entry
    try:
        if not file.is_file():
            file = folder / unshown(entry)  # a name out of a report
        if not allow_outside and not inside(file, root):
            return file, ("refused", "lies outside the table's folder; --allow_outside reads it")
        return file, None if file.is_file() else ("unreadable", "no such file")
    except (OSError, ValueError, RuntimeError) as error:  # no permission, too long, a NUL in it, links in a circle
        return file, ("unreadable", reason_of(error))


def _rows(path: Path) -> list[tuple[dict, list[str]]]:
    """Each row, and notes on what is odd about how it is written."""
    text = read_text(path)
    if text is None:
        raise ValueError(f"{path} is not UTF-8; save it as UTF-8")
    rows = _json_rows(path, text) if path.suffix.lower() == ".jsonl" else _csv_rows(path, text)
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _json_rows(path: Path, text: str) -> list[tuple[dict, list[str]]]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):  # JSON may hold U+2028, at which splitlines() cuts
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{path} line {number} is not JSON ({getattr(error, 'msg', 'too deep, or a number too long')})"
            ) from None
        if not isinstance(row, dict):
            raise ValueError(f"{path} line {number} is no JSON object")
        rows.append((row, []))
    return rows


def _csv_rows(path: Path, text: str) -> list[tuple[dict, list[str]]]:
    """Rows of a CSV or TSV file. A quote that is not closed, or not doubled within a quoted cell, is an error: read on,
    the cell would swallow the rows after it."""
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    limit = csv.field_size_limit(CELL_LIMIT)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    header, rows, first = None, [], 1
    try:
        for cells in reader:
            last, begun = reader.line_num, first
            first = last + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = cells
                continue
            odd = [f"its row has a cell of several lines ({begun} to {last})"] if last > begun else []
            if len(cells) > len(header):
                odd.append(
                    f"its row has {len(cells)} cells for {len(header)} columns: put quotes round what has a comma"
                )
            rows.append(({k: v for k, v in zip(header, cells, strict=False) if tidy(k)}, odd))
    except csv.Error as error:
        raise ValueError(
            f"{path} line {first} is not CSV ({error}); a quote opens and closes a whole cell, and is doubled within it"
        ) from None
    finally:
        csv.field_size_limit(limit)
    return rows


def _column(path: Path, argument: str, asked: str | None, usual: tuple[str, ...], columns: list[str]) -> str:
    """The column asked for, or the first of the usual names that is there."""
    found = find_column([asked] if asked else usual, columns)
    if found is None:
        wanted = repr(asked) if asked else "any of " + ", ".join(usual)
        raise ValueError(f"{argument}: {path} lacks {wanted}; it has {', '.join(columns)}")
    return found
