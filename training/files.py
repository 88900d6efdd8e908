"""Files that are whole or absent, and what a run was made with and on."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write to a temporary file, then rename: the file is whole or absent."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def replace_folder(partial: Path, final: Path) -> None:
    """Make `partial` the folder `final`; what stood there goes only when the new one is complete."""
    for path in [*partial.rglob("*"), partial]:
        sync(path)
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    partial.rename(final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Have the disk hold a file's contents, or a folder's list of names, before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def provenance(data_dir: str | None) -> dict:
    """What a run was made with and on: enough to repeat it."""
    packages = ("torch", "numpy", "diffusers", "transformers", "accelerate")
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "data": data_fingerprint(data_dir),
    }


def data_fingerprint(data_dir: str | None) -> str | None:
    """Hash of the names and sizes of a folder's files and of the contents of its JSON descriptions; None without one.

    Not of all contents, which would be read for minutes at every start; the descriptions that stages write
    (info.json, latents.json) name what made the files.
    """
    if data_dir is None:
        return None
    digest, folder = hashlib.sha256(), Path(data_dir)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name.startswith(".") or name.endswith(".partial"):
            continue
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        if path.suffix == ".json":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def git_commit(folder: Path = Path(__file__).parent) -> str | None:
    """Commit of the code, 12 digits, with "+" where tracked files differ from it; None outside a git checkout."""
    # No tag in place of the digits: one that is moved, or not fetched, would name another commit or none.
    words = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
