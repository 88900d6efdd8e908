"""One piece of the source: where its audio is, and what the source says about it."""

import itertools
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.vivace_theory import parse_chord, parse_key, parse_time_signature

AUDIO_COLUMNS = ("audio", "file_name", "file", "filename", "path", "audio_path", "filepath", "wav")
TEXT_COLUMNS = ("text", "caption", "captions", "description", "prompt", "texts")
BPM_RANGE = (20.0, 300.0)


@dataclass(frozen=True)
class Item:
    """A file, or a row of a data set.

    Attributes:
        name: relative to the source, unique within it.
        path: the audio file; None where `content` holds it.
        captions: from the source itself; empty = look in tags and names.
        labels: row keys that the source states (bpm, key, beats_s ...), checked.
        split: where the source has splits of its own.
        notes: what was odd about captions or labels.
    """

    name: str
    path: str | None = None
    content: bytes | None = field(default=None, repr=False)
    captions: tuple[str, ...] = ()
    labels: dict = field(default_factory=dict)
    split: str | None = None
    notes: tuple[str, ...] = ()

    def read(self) -> bytes:
        """The whole audio file."""
        return self.content if self.path is None else Path(self.path).read_bytes()


@dataclass
class Listing:
    """A source: its items in a fixed order, how many (None = not known), and what is no item, with the reason."""

    items: Iterable[Item]
    count: int | None
    others: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (fate, reason)


def facts_of(raw: dict, text_column: str | None = None) -> tuple[list[str], dict, list[str]]:
    """What a row or a JSON beside a file says: captions, checked labels, and a note on each that was not usable."""
    captions, labels, notes = [], {}, []
    names = (text_column,) if text_column else TEXT_COLUMNS
    for name in names:
        captions += texts_of(raw.get(name))
    for name, check in CHECKS.items():
        value = raw.get(name)
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        try:
            labels[name] = check(value)
        except (ValueError, TypeError, KeyError):
            notes.append(f"{name} {str(value)[:40]!r} is not usable")
    if "time_signature" in labels and "beats_per_bar" not in labels:
        labels["beats_per_bar"] = parse_time_signature(labels["time_signature"])
    return captions, labels, notes


def texts_of(value: object) -> list[str]:
    """Captions of a cell: a text, or several as a list or a JSON list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = [value]
    values = value if isinstance(value, list | tuple) else [value]
    return [" ".join(text.split()) for text in values if isinstance(text, str) and text.strip()]


def read_text(path: Path) -> str | None:
    """A text file, None if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None


def caption_of_name(name: str) -> str | None:
    """Words of folder and file name without numbering: "lofi/03 - rainy_day.mp3" -> "lofi, rainy day"; None if none."""
    words = []
    for part in Path(name).with_suffix("").parts:
        text = re.sub(r"[_+.\-]+", " ", part)
        text = re.sub(
            r"\b(?:track|audio|untitled|file|take|disc|cd|final|master|mix|mixdown|v)?\s*\d+\b", " ", text, flags=re.I
        )
        text = re.sub(r"\b[0-9a-f]{8,}\b", " ", text, flags=re.I)
        text = " ".join(text.split())
        if sum(c.isalpha() for c in text) >= 3:
            words.append(text)
    return ", ".join(words[-2:]) or None


def caption_of_tags(tags: dict[str, str]) -> str | None:
    """Genre and comment, which describe; None without either. Titles and artists say little of the sound."""
    comment = tags.get("comment", "")
    described = [tags.get("genre", ""), comment if 3 < len(comment) < 300 and "http" not in comment else ""]
    return ", ".join(part for part in described if part) or None


def labels_of_tags(tags: dict[str, str]) -> dict:
    """Title, composer, genre, and the tempo and key that a DJ's program wrote."""
    raw = {
        "title": tags.get("title"), "composer": tags.get("composer") or tags.get("artist"), "genre": tags.get("genre"),
        "bpm": tags.get("bpm"), "key": tags.get("initial_key"), "license": tags.get("license"),
    }  # fmt: skip
    return facts_of(raw)[1]


def _number(low: float, high: float):
    def check(value: object) -> float:
        number = float(value)
        if not low <= number <= high:
            raise ValueError
        return number

    return check


def _word(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return " ".join(value.split())


def _listed(value: object) -> list:
    value = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else list(value)


def _words(value: object) -> list[str]:
    return [_word(part) for part in _listed(value)]


def _times(value: object) -> list[float]:
    times = [float(part) for part in _listed(value)]
    if not times or times[0] < 0.0 or any(b <= a for a, b in itertools.pairwise(times)):
        raise ValueError
    return times


def _beats(value: object) -> int:
    if float(value) != int(float(value)) or not 1 <= int(float(value)) <= 15:
        raise ValueError
    return int(float(value))


def _meter(value: object) -> str:
    parse_time_signature(_word(value))
    return _word(value)


def _truth(value: object) -> bool:
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(value).strip().lower()]


def _symbols(value: object) -> list[str]:
    names = _words(value)
    for name in names:
        parse_chord(name)
    return names


CHECKS = {
    "bpm": _number(*BPM_RANGE), "key": lambda value: parse_key(_word(value)), "time_signature": _meter,
    "beats_per_bar": _beats, "beats_s": _times, "downbeats_s": _times, "chord_symbols": _symbols,
    "instruments": _words, "moods": _words, "drums": _truth, "style": _word, "genre": _word, "title": _word,
    "composer": _word, "license": _word,
}  # fmt: skip
