"""What SOURCE is: a folder, a table or a data set."""

import re
from pathlib import Path

from training.data.prepare.folder import list_folder
from training.data.prepare.hub import is_local_dataset, list_dataset
from training.data.prepare.items import Listing
from training.data.prepare.table import SUFFIXES, list_table

TABLES = ("metadata.csv", "metadata.jsonl")  # in a folder, as `datasets` names them


def open_source(source: str, audio_column: str | None, text_column: str | None, allow_outside: bool) -> Listing:
    """The items of a source.

    Raises:
        ValueError: it is nothing that can be read.
    """
    path = Path(source)
    if path.is_dir():
        if is_local_dataset(path):
            return list_dataset(source, audio_column, text_column, allow_outside)
        table = next((path / name for name in TABLES if (path / name).is_file()), None)
        if table is None:
            return list_folder(path, allow_outside)
        listing, files = list_table(table, audio_column, text_column, allow_outside), list_folder(path, allow_outside)
        named = {Path(item.path).resolve() for item in listing.items}
        # What the table says of a file goes before what the folder says of it.
        listing.others = {k: v for k, v in files.others.items() if k != table.name} | listing.others
        for item in files.items:
            if Path(item.path).resolve() not in named:
                listing.others.setdefault(item.name, ("ignored", f"not named in {table.name}"))
        return listing
    if path.is_file():
        if path.suffix.lower() in SUFFIXES:
            return list_table(path, audio_column, text_column, allow_outside)
        raise ValueError(f"source {source} is a file; allowed: a folder, one of {', '.join(SUFFIXES)}, or a data set")
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source):
        return list_dataset(source, audio_column, text_column, allow_outside)
    raise ValueError(f"source {source}: no such folder, table or data set (owner/name)")
