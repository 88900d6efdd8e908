"""A folder of audio files, with captions in a .txt or .json beside each, or in a metadata table."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from training.data.prepare.decode import AUDIO_SUFFIXES, kind_of
from training.data.prepare.items import Item, Listing, clean, facts_of, read_text, shown

CAPTION_SUFFIXES = (".txt", ".json")


def list_folder(source: Path, allow_outside: bool) -> Listing:
    """Every file of a folder, sorted by name: audio as items, the rest with the reason why it is none."""
    others: dict[str, tuple[str, str]] = {}
    files = dict(_walk(source, source.resolve(), "", allow_outside, set(), others))
    audio = {name for name, path in files.items() if _is_audio(name, path, others)}
    owners = _owners(files, audio)
    items = []
    for name in sorted(audio):
        captions, labels, notes = [], {}, []
        for beside in owners.get(name, []):
            found = _read_sidecar(files[beside], beside)
            captions, labels, notes = captions + found[0], labels | found[1], notes + found[2]
        items.append(Item(shown(name), str(files[name]), None, tuple(captions), labels, None, tuple(notes)))
    used = {beside for found in owners.values() for beside in found}
    for name, path in files.items():
        if name not in audio and name not in used and name not in others:
            if path.suffix.lower() in CAPTION_SUFFIXES:
                others[name] = ("ignored", "caption file without audio")
            else:
                others[name] = ("ignored", "not an audio file")
    return Listing(items, len(items), {shown(name): fate for name, fate in others.items()})


def inside(path: Path, root: Path) -> bool:
    """Whether a path, links followed, lies within a folder (already resolved)."""
    return path.resolve().is_relative_to(root)


def _walk(
    folder: Path, root: Path, prefix: str, allow_outside: bool, seen: set[Path], others: dict
) -> Iterator[tuple[str, Path]]:
    real = folder.resolve()
    if real in seen:
        others[prefix or "."] = ("refused", "a link that leads back into a folder already read")
        return
    seen.add(real)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        others[prefix or "."] = ("unreadable", f"folder cannot be read ({error.strerror})")
        return
    for entry in entries:
        path, name = Path(entry.path), prefix + entry.name
        try:
            fate = _fate_of_link(path, root, allow_outside) if entry.is_symlink() else None
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except (OSError, RuntimeError) as error:  # no permission, a disk that fails, links in a circle
            fate, is_folder, is_file = ("unreadable", reason_of(error)), False, False
        if fate is not None:
            others[name] = fate
        elif is_folder:
            yield from _walk(path, root, name + "/", allow_outside, seen, others)
        elif is_file:
            yield name, path
        else:
            others[name] = ("ignored", "not a regular file")


def _fate_of_link(path: Path, root: Path, allow_outside: bool) -> tuple[str, str] | None:
    """Why a link is not followed; None where it is."""
    if not path.exists():
        return "unreadable", "link to nothing"
    if not allow_outside and not inside(path, root):
        return "refused", "link to a place outside the source; --allow_outside reads it"
    return None


def reason_of(error: Exception) -> str:
    """Why the system does not give a file, without its name."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _is_audio(name: str, path: Path, others: dict) -> bool:
    """By suffix, or by content where the suffix is another; a file that cannot be looked into gets its fate."""
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return True
    if path.suffix.lower() in CAPTION_SUFFIXES:
        return False
    try:
        with open(path, "rb") as file:
            return kind_of(file.read(16)) is not None
    except OSError as error:
        others[name] = ("unreadable", reason_of(error))
        return False


def _owners(files: dict[str, Path], audio: set[str]) -> dict[str, list[str]]:
    """Caption files of each audio file: "a.txt" or "a.wav.txt" for "a.wav"."""
    owners: dict[str, list[str]] = {}
    for name in sorted(audio):
        stems = (str(Path(name).with_suffix("")), name)
        found = [stem + suffix for stem in stems for suffix in CAPTION_SUFFIXES if stem + suffix in files]
        if found:
            owners[name] = found
    return owners


def _read_sidecar(path: Path, name: str) -> tuple[list[str], dict, list[str]]:
    """Captions (one a line of a .txt), labels and notes."""
    name = shown(name)
    try:
        text = read_text(path)
    except OSError as error:
        return [], {}, [f"caption file {name} cannot be read ({reason_of(error)}); not used"]
    if text is None:
        return [], {}, [f"caption file {name} is not UTF-8; not used"]
    if path.suffix.lower() == ".txt":
        return [line for line in map(clean, text.split("\n")) if line], {}, []
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        return (
            [],
            {},
            [f"caption file {name} is not JSON ({getattr(error, 'msg', 'too deep, or a number too long')}); not used"],
        )
    if not isinstance(raw, dict):
        return [], {}, [f"caption file {name} holds no JSON object; not used"]
    return facts_of(raw)
