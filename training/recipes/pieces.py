"""A folder as numbered files of limited size, and back: for machines that give back only a few small files.

    python -m training.recipes.pieces FOLDER_WITH_PIECES checkpoints/gpu

The pieces are those of one uncompressed tar file: `cat weights.tar.* | tar x` does the same without this module.
Only the standard library is used: the machine may have nothing else yet.
"""

import argparse
import hashlib
import io
import os
import tarfile
from pathlib import Path

PIECE_BYTES = 15 << 20
NAME = "weights.tar"


def piece_name(number: int, count: int) -> str:
    return f"{NAME}.{number:02d}-of-{count:02d}"


def find(folder: Path) -> list[Path]:
    """The pieces that lie in a folder, in order."""
    return sorted(folder.glob(f"{NAME}.[0-9][0-9]-of-[0-9][0-9]"))


def split(folder: Path, output: Path, piece_bytes: int = PIECE_BYTES) -> list[Path]:
    """Write the contents of `folder` as `output`/weights.tar.00-of-04, ...; what was there of that name goes.

    Raises:
        ValueError: pieces of no bytes, or more than a hundred of them.
    """
    if piece_bytes < 1:
        raise ValueError(f"piece_bytes is {piece_bytes}; allowed: at least 1")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, path.relative_to(folder).as_posix())
    whole = buffer.getbuffer()
    count = -(-len(whole) // piece_bytes)
    if count > 99:
        raise ValueError(f"{folder} makes {count} pieces of {piece_bytes} bytes; allowed: up to 99")
    output.mkdir(parents=True, exist_ok=True)
    for stale in find(output):
        stale.unlink()
    paths = []
    for number in range(count):
        paths.append(output / piece_name(number, count))
        partial = paths[-1].with_name(paths[-1].name + ".partial")
        partial.write_bytes(whole[number * piece_bytes : (number + 1) * piece_bytes])
        os.replace(partial, paths[-1])
    return paths


def join(pieces: Path, folder: Path) -> str:
    """Unpack the pieces that lie in `pieces` into `folder`; returns the SHA-256 of the tar file.

    Raises:
        ValueError: no pieces, one is missing, or `folder` is there already.
    """
    paths = find(pieces)
    names = [path.name for path in paths]
    if not paths or names != [piece_name(number, len(paths)) for number in range(len(paths))]:
        raise ValueError(f"{pieces}: needed all of {NAME}.00-of-NN, .01-of-NN, ...; found {', '.join(names) or 'none'}")
    if folder.exists():
        raise ValueError(f"{folder} is there already; give a folder that is not")
    whole = b"".join(path.read_bytes() for path in paths)
    partial = folder.with_name(folder.name + ".partial")
    try:
        with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
            archive.extractall(partial, filter="data")
    except tarfile.TarError as error:
        raise ValueError(f"{pieces}: the pieces make no tar file ({error})") from None
    partial.rename(folder)
    return hashlib.sha256(whole).hexdigest()


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Unpack the pieces of a trained checkpoint.")
    parser.add_argument("pieces", type=Path, help="folder with weights.tar.00-of-NN, ...")
    parser.add_argument("folder", type=Path, help="what to make")
    options = parser.parse_args(words)
    try:
        print(f"{options.folder}: {join(options.pieces, options.folder)}")
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
