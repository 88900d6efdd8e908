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
SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
    "dev": "validation", "eval": "validation", "test": "test", "testing": "test",
}  # fmt: skip
# Words that say nothing of the sound, in a folder or file name that has no others.
_GENERIC_WORDS = """
album and artist audio audios aufnahme bounce clip clips copy data dataset datasets demo desktop disc disk documents
download downloads export exports file files final flac folder for loop loops m4a master media memo misc mix mixdown
mono mp3 music my neue new of ogg output project record recorder recording recordings render sample samples session song
songs sound sounds stereo take takes temp the tmp track tracks unknown unnamed untitled various version voice wav wave
wavs
"""
GENERIC = frozenset(_GENERIC_WORDS.split()) | frozenset(SPLIT_NAMES)


@dataclass(frozen=True)
class Item:
    """A file, or a row of a data set.

    Attributes:
        name: relative to the source, unique within it, and valid Unicode (`shown`).
        path: the audio file, as the system calls it; None where `content` holds it.
        captions: from the source itself; empty = look in tags and names.
        labels: row keys that the source states (bpm, key, beats_s ...), checked.
        split: where the source has splits of its own.
        notes: what was odd about captions or labels.
        title: the part of the name from which a caption may be taken; None = all of it.
    """

    name: str
    path: str | None = None
    content: bytes | None = field(default=None, repr=False)
    captions: tuple[str, ...] = ()
    labels: dict = field(default_factory=dict)
    split: str | None = None
    notes: tuple[str, ...] = ()
    title: str | None = None

    def read(self) -> bytes:
        """The whole audio file."""
        return self.content if self.path is None else Path(self.path).read_bytes()


@dataclass
class Listing:
    """A source: its items in a fixed order, how many (None = not known), what is no item, with the reason (complete
    once all items were taken), and what is to be said of the source as a whole."""

    items: Iterable[Item]
    count: int | None
    others: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (fate, reason)
    notes: list[str] = field(default_factory=list)


def shown(name: str) -> str:
    """A file's name as JSON, Parquet and a terminal take it: a byte that is not UTF-8 becomes \\xNN, as in bash's $''.

    Args:
        name: as Python has it, with such a byte as a lone surrogate (PEP 383).
    """
    return re.sub(
        r"[\ud800-\udfff]",
        lambda half: f"\\x{ord(half[0]) - 0xDC00:02x}" if "\udc80" <= half[0] <= "\udcff" else f"\\u{ord(half[0]):x}",
        name,
    )


def unshown(name: str) -> str:
    """The name by which Python opens the file that `shown` names."""
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), name)


def clean(text: str) -> str:
    """A text on one line: values with NUL between them (as in ID3v2.4) get commas, other control characters and runs
    of blanks become one blank, and halves of surrogate pairs go, which no UTF-8 can hold."""
    values = re.sub(r"[\ud800-\udfff\ufeff]", "", text).split("\0")
    values = [" ".join(re.sub(r"[\x01-\x1f\x7f-\x9f]", " ", value).split()) for value in values]
    return ", ".join(value for value in values if value)


def tidy(name: object) -> str:
    """A column's name as it is looked up: lower case, no blanks around it, underscores for those within."""
    return re.sub(r"[\s\-]+", "_", str(name).strip("\ufeff \t\r\n")).casefold()


def find_column(wanted: Iterable[str], columns: Iterable[str]) -> str | None:
    """The first of the wanted columns that is there, by its very name, else whatever its case and blanks."""
    columns = list(columns)
    for name in wanted:
        for column in columns if name not in columns else [name]:
            if tidy(column) == tidy(name):
                return column
    return None


def split_of(value: object) -> tuple[str | None, list[str]]:
    """The split that a source names, train, validation or test under any usual name, and a note if it is none."""
    if value is None or not str(value).strip():
        return None, []
    name = SPLIT_NAMES.get(str(value).strip().casefold())
    return name, [] if name else [f"split {clean(str(value))[:40]!r} is none of {', '.join(SPLIT_NAMES)}"]


def facts_of(raw: dict, text_column: str | None = None) -> tuple[list[str], dict, list[str]]:
    """What a row or a JSON beside a file says: captions, checked labels, and a note on each that was not usable."""
    captions, labels, notes = [], {}, []
    found: dict = {}
    for name in sorted(raw, key=lambda name: name != tidy(name)):  # of several spellings the plain one first
        if found.get(tidy(name)) in (None, ""):
            found[tidy(name)] = raw[name]
    raw = found
    names = (tidy(text_column),) if text_column else TEXT_COLUMNS
    for name in names:
        captions += texts_of(raw.get(name))
    for name, check in CHECKS.items():
        value = raw.get(name)
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            continue
        try:
            labels[name] = check(value)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            notes.append(f"{name} {clean(str(value))[:40]!r} is not usable")
    if "time_signature" in labels and "beats_per_bar" not in labels:
        labels["beats_per_bar"] = parse_time_signature(labels["time_signature"])
    return captions, labels, notes


def texts_of(value: object) -> list[str]:
    """Captions of a cell: a text, or several as a list or a JSON list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [value]
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in (clean(value) for value in values if isinstance(value, str)) if text]


def read_text(path: Path) -> str | None:
    """A text file, None if it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return None


def caption_of_name(name: str) -> str | None:
    """Words of folder and file name without numbering: "lofi/03 - rainy_day.mp3" -> "lofi, rainy day".

    A folder or a file whose words all are generic ("audio", "train", "Recording (2)", "track 03") is left out; None if
    nothing is left.
    """
    words = []
    if not name:
        return None
    for part in Path(name).with_suffix("").parts:
        text = re.sub(r"[_+.\-]+", " ", part)
        text = re.sub(
            r"\b(?:track|audio|untitled|file|take|disc|cd|final|master|mix|mixdown|v)?\s*\d+\b", " ", text, flags=re.I
        )
        text = re.sub(r"\b[0-9a-f]{8,}\b", " ", text, flags=re.I)
        text = re.sub(r"\(\s*\)|\[\s*\]|\{\s*\}|\\x[0-9a-f]{2}", " ", text)
        text = clean(text)
        said = [word for word in re.findall(r"[^\W\d_]{2,}", text) if word.casefold() not in GENERIC]
        if said and sum(c.isalpha() for c in text) >= 3:
            words.append(text)
    return ", ".join(words[-2:]) or None


def caption_of_tags(tags: dict[str, str]) -> str | None:
    """Genre and comment, which describe; None without either. Titles and artists say little of the sound."""
    comment = tags.get("comment", "")
    genre = tags.get("genre", "")
    described = [
        "" if genre.casefold() in ("other", "genre", *GENERIC) else genre,
        comment if 3 < len(comment) < 300 and "http" not in comment else "",
    ]
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
    if not isinstance(value, str) or not clean(value):
        raise ValueError
    return clean(value)


def _listed(value: object) -> list:
    value = json.loads(value) if isinstance(value, str) and value.lstrip().startswith("[") else value
    return [part.strip() for part in re.split("[,\0]", value)] if isinstance(value, str) else list(value)


def _words(value: object) -> list[str]:
    return [_word(part) for part in _listed(value)]


def _times(value: object) -> list[float]:
    times = [float(part) for part in _listed(value)]
    if not times or not all(map(math.isfinite, times)) or times[0] < 0.0:
        raise ValueError
    if any(b <= a for a, b in itertools.pairwise(times)):
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
