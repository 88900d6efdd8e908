"""Lists the items of a source: the audio files or rows, with the captions and labels that the source states.

`open_source` finds out which of three kinds a source is: a folder of audio files with captions beside them, a CSV or
JSONL table that names files, or a Hugging Face data set.
"""

import csv
import io
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.vivace_reading import BPM_RANGE
from pipelines.vivace_theory import parse_chord, parse_key, parse_time_signature
from training.data.clips import json_lines, json_reason
from training.data.prepare.decode import AUDIO_SUFFIXES, clean, kind_of

AUDIO_COLUMNS = ("audio", "file_name", "file", "filename", "path", "audio_path", "filepath", "wav")
TEXT_COLUMNS = ("text", "caption", "captions", "description", "prompt", "texts")
SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "val": "validation", "valid": "validation",
    "dev": "validation", "eval": "validation", "test": "test", "testing": "test",
}  # fmt: skip
# Words that do not describe the sound: a folder or file name with no others gives no caption.
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
    """A file, or a row of a data set."""

    name: str  # relative to the source, unique within it, and valid Unicode (`shown`)
    path: str | None = None  # the audio file, as the system calls it; None where `content` holds it
    content: bytes | None = field(default=None, repr=False)
    captions: tuple[str, ...] = ()  # from the source itself; empty = look in tags and names
    labels: dict = field(default_factory=dict)  # row keys that the source states (bpm, key, beats_s ...), checked
    split: str | None = None  # where the source has splits of its own
    notes: tuple[str, ...] = ()  # what was odd about captions or labels
    title: str | None = None  # the part of the name from which a caption may be taken; None = all of it
    midi: str | bytes | None = None  # a MIDI file that states its notes, or its content

    def read(self) -> bytes:
        """The whole audio file."""
        return self.content if self.path is None else Path(self.path).read_bytes()


@dataclass
class Listing:
    """The items of a source."""

    items: Iterable[Item]  # in a fixed order
    count: int | None  # number of items; None = unknown
    # name -> (fate, reason) of files that are not items; complete once `items` is exhausted
    others: dict[str, tuple[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # remarks on the source as a whole


def shown(name: str) -> str:
    """A file's name as JSON, Parquet and a terminal take it: a byte that is not UTF-8, which Python has as a lone
    surrogate (PEP 383), becomes \\xNN, as in bash's $''."""
    return re.sub(
        r"[\ud800-\udfff]",
        lambda half: f"\\x{ord(half[0]) - 0xDC00:02x}" if "\udc80" <= half[0] <= "\udcff" else f"\\u{ord(half[0]):x}",
        name,
    )


def unshown(name: str) -> str:
    """The name by which Python opens the file that `shown` names."""
    return re.sub(r"\\x([89a-f][0-9a-f])", lambda byte: chr(0xDC00 + int(byte[1], 16)), name)


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
    """The split (train, validation or test) that a usual name means, and a note if the name is unknown."""
    if value is None or not str(value).strip():
        return None, []
    name = SPLIT_NAMES.get(str(value).strip().casefold())
    return name, [] if name else [f"split {clean(str(value))[:40]!r} is none of {', '.join(SPLIT_NAMES)}"]


def facts_of(raw: dict, text_column: str | None = None) -> tuple[list[str], dict, list[str]]:
    """Captions and checked labels of a row or of a JSON file beside audio, and a note on each unusable label."""
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
        words_left = [word for word in re.findall(r"[^\W\d_]{2,}", text) if word.casefold() not in GENERIC]
        if words_left and sum(c.isalpha() for c in text) >= 3:
            words.append(text)
    return ", ".join(words[-2:]) or None


def caption_of_tags(tags: dict[str, str]) -> str | None:
    """Genre and comment as a caption; None without either. Titles and artists rarely describe the sound."""
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


# ---- a folder of audio files, with captions in a .txt or .json beside each ------------------------------------------

CAPTION_SUFFIXES = (".txt", ".json")
MIDI_SUFFIXES = (".mid", ".midi")
MIDI_COLUMNS = ("midi", "midi_file", "midi_path", "midi_filename")


def list_folder(source: Path, allow_outside: bool) -> Listing:
    """Every file of a folder, sorted by name: audio as items, the others with the reason why they are not used."""
    others: dict[str, tuple[str, str]] = {}
    files = dict(_walk(source, source.resolve(), "", allow_outside, set(), others))
    audio = {name for name, path in files.items() if _is_audio(name, path, others)}
    owners, scores = _owners(files, audio, CAPTION_SUFFIXES), _owners(files, audio, MIDI_SUFFIXES)
    items = []
    for name in sorted(audio):
        captions, labels, notes = [], {}, []
        for beside in owners.get(name, []):
            found = _read_sidecar(files[beside], beside)
            captions, labels, notes = captions + found[0], labels | found[1], notes + found[2]
        midi = [beside for beside in scores.get(name, []) if beside not in audio]
        midi_path = str(files[midi[0]]) if midi else None
        items.append(
            Item(shown(name), str(files[name]), None, tuple(captions), labels, None, tuple(notes), midi=midi_path)
        )
    used = {beside for found in (*owners.values(), *scores.values()) for beside in found}
    for name, path in files.items():
        if name not in audio and name not in used and name not in others:
            kinds = {CAPTION_SUFFIXES: "caption file without audio", MIDI_SUFFIXES: "MIDI file without audio"}
            reasons = [reason for suffixes, reason in kinds.items() if path.suffix.lower() in suffixes]
            others[name] = ("ignored", *(reasons or ["not an audio file"]))
    return Listing(items, len(items), {shown(name): fate for name, fate in others.items()})


def inside(path: Path, root: Path) -> bool:
    """Whether a path, links followed, lies within a folder (already resolved)."""
    return path.resolve().is_relative_to(root)


def _walk(
    folder: Path, root: Path, prefix: str, allow_outside: bool, visited: set[Path], others: dict
) -> Iterator[tuple[str, Path]]:
    real = folder.resolve()
    if real in visited:
        others[prefix or "."] = ("refused", "a link that leads back into a folder already read")
        return
    visited.add(real)
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
            yield from _walk(path, root, name + "/", allow_outside, visited, others)
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


def _owners(files: dict[str, Path], audio: set[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Files beside each audio file, of captions or notes: "a.txt" or "a.wav.txt" for "a.wav"."""
    owners: dict[str, list[str]] = {}
    for name in sorted(audio):
        stems = (str(Path(name).with_suffix("")), name)
        found = [stem + suffix for stem in stems for suffix in suffixes if stem + suffix in files]
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
        return [], {}, [f"caption file {name} is not JSON ({json_reason(error)}); not used"]
    if not isinstance(raw, dict):
        return [], {}, [f"caption file {name} holds no JSON object; not used"]
    return facts_of(raw)


# ---- a Hugging Face data set: streamed, and decoded here instead of by `datasets` -----------------------------------


def is_saved(source: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (source / "dataset_dict.json").is_file() or (source / "dataset_info.json").is_file()


def is_local_dataset(source: Path) -> bool:
    """Whether a folder was written by `save_to_disk` or holds parquet files."""
    return is_saved(source) or any(source.glob("*.parquet")) or any(source.glob("data/*.parquet"))


def list_dataset(
    source: str, audio_column: str | None, text_column: str | None, allow_outside: bool = False
) -> Listing:
    """The rows of a data set (an id such as "owner/name", or a local folder), split by split, as they arrive.

    Columns that are None are found by the usual names. With `allow_outside`, rows of a local folder may name files
    outside it. Raises a ValueError if it cannot be opened, or has no audio column (naming the columns it has).
    """
    from datasets import Audio

    splits = _open(source)
    prepared, count, names = {}, 0, {}
    for split, rows in splits.items():
        columns = rows.features or {}
        sound = [name for name, kind in columns.items() if isinstance(kind, Audio)]
        name = _column(source, "audio_column", audio_column, [*sound, *AUDIO_COLUMNS], columns)
        if text_column is not None:
            _column(source, "text_column", text_column, (), columns)
        names |= dict.fromkeys(columns)
        if isinstance(columns[name], Audio):
            rows = rows.cast_column(name, Audio(decode=False))
        prepared[split] = (name, rows)
        info = rows.info.splits or {}
        count = None if count is None or split not in info else count + (info[split].num_examples or 0)
    others: dict[str, tuple[str, str]] = {}
    folder = Path(source) if Path(source).is_dir() else None
    own_splits = len({split_of(split)[0] for split in prepared} - {None}) > 1  # divided for training already
    items = _items(prepared, text_column, own_splits, folder, allow_outside, others)
    return Listing(items, count or None, others, caption_note(source, text_column, list(names)))


def _open(source: str) -> dict:
    from datasets import DatasetDict, load_dataset, load_from_disk

    try:
        if not is_saved(Path(source)):
            return dict(load_dataset(source, streaming=True))
        loaded = load_from_disk(source)
    except Exception as error:  # datasets, huggingface_hub and fsspec each raise their own kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"source {source}: cannot be opened as a data set ({reason})") from None
    parts = loaded if isinstance(loaded, DatasetDict) else {"train": loaded}
    return {split: part.to_iterable_dataset() for split, part in parts.items()}


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
            midi = row.pop(find_column(MIDI_COLUMNS, row), None)
            captions, labels, notes = facts_of(row, text_column)
            midi, odd = _midi_in(midi, folder, allow_outside)
            notes, file = [*notes, *odd], None
            if not content and path and folder is not None:
                file, fate = _local_file(folder, path, allow_outside)
                if fate is not None:
                    others[label] = fate
                    continue
            elif not content:
                # A path in a row of a data set may be anything: no file that it names is read.
                notes = ["the row holds no audio bytes", *notes]
            yield Item(
                label, None if file is None else str(file), content if file is None else None, tuple(captions), labels,
                target, tuple(notes), title, midi,
            )  # fmt: skip


def _midi_in(value: object, folder: Path | None, allow_outside: bool) -> tuple[str | bytes | None, list[str]]:
    """The MIDI file that a row of a data set holds, or that one of a local folder names; and a note if it is not used.
    As for audio, no file that a row of another data set names is read."""
    content, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    if isinstance(content, bytes) and content:
        return content, []
    path = content if isinstance(content, str) else path
    if not isinstance(path, str) or not path.strip():
        return None, []
    if folder is None:
        return None, ["notes unknown: the row holds no MIDI bytes"]
    file, fate = _local_file(folder, path, allow_outside, "MIDI")
    return (str(file), []) if fate is None else (None, [f"notes unknown: {fate[1]}"])


def _local_file(
    folder: Path, path: str, allow_outside: bool, kind: str = "audio"
) -> tuple[Path | None, tuple[str, str] | None]:
    """The file of a `kind` that a row of a local data set names instead of holding it, and its fate where it is not to
    be read."""
    try:
        found = next((at / path for at in (folder, folder / "data") if (at / path).is_file()), None)
        if found is None:
            return None, ("unreadable", f"the row holds no {kind} bytes, and its file {clean(path)!r} is not there")
        if not allow_outside and not inside(found, folder.resolve()):
            return None, ("refused", "its file lies outside the source; --allow_outside reads it")
    except (OSError, ValueError, RuntimeError) as error:
        return None, ("unreadable", reason_of(error))
    return found, None


# ---- a CSV or JSONL table that names audio files, their captions and labels -----------------------------------------

SUFFIXES = (".csv", ".tsv", ".jsonl")
CELL_LIMIT = 2**24  # characters; csv's own 131,072 are fewer than some captions have, and a limit finds open quotes


def list_table(path: Path, audio_column: str | None, text_column: str | None, allow_outside: bool) -> Listing:
    """The rows of a table in their order; a row whose file is missing, outside or named twice has its fate at once.
    Raises a ValueError if it is not UTF-8, not CSV or JSONL, empty, or without the requested columns."""
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
            midi, odd = _midi_of(file, row.get(find_column(MIDI_COLUMNS, row)), root, allow_outside)
            items[entry] = Item(name, str(file), None, tuple(captions), labels, split, (*notes, *odd), midi=midi)
    return Listing(list(items.values()), len(items), others, caption_note(path.name, text_column, columns))


def caption_note(source: str, text_column: str | None, columns: list[str]) -> list[str]:
    """A note on a source without a column of captions, as a list; empty for a source with one."""
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


def _midi_of(audio: Path, entry: object, root: Path, allow_outside: bool) -> tuple[str | None, list[str]]:
    """The MIDI file that a row of the table names, else the one beside its audio; and a note if it is not used."""
    if isinstance(entry, str) and entry.strip():
        file, fate = _file_of(root, entry.strip(), root, allow_outside)
        notes = [] if fate is None else [f"notes unknown: its MIDI file {clean(entry)!r}: {fate[1]}"]
        return (None if notes else str(file)), notes
    found = [path for path in map(audio.with_suffix, MIDI_SUFFIXES) if path.is_file()]
    return (str(found[0]) if found and (allow_outside or inside(found[0], root)) else None), []


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
    for number, row in json_lines(path, text):
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


def _column(source: object, argument: str, requested: str | None, usual: Iterable[str], columns: Iterable[str]) -> str:
    """The requested column of a source, or the first of the usual names that is there."""
    found = find_column([requested] if requested else usual, columns)
    if found is None:
        wanted = repr(requested) if requested else "any of " + ", ".join(usual)
        raise ValueError(f"{argument}: {source} lacks {wanted}; it has {', '.join(columns) or 'no named columns'}")
    return found


# ---- any source -----------------------------------------------------------------------------------------------------

TABLES = ("metadata.csv", "metadata.jsonl")  # in a folder, as `datasets` names them


def open_source(source: str, audio_column: str | None, text_column: str | None, allow_outside: bool) -> Listing:
    """The items of a source. Raises a ValueError if it cannot be read."""
    path = Path(source)
    if path.is_dir():
        if is_local_dataset(path):
            return list_dataset(source, audio_column, text_column, allow_outside)
        table = next((path / name for name in TABLES if (path / name).is_file()), None)
        if table is None:
            return list_folder(path, allow_outside)
        listing, files = list_table(table, audio_column, text_column, allow_outside), list_folder(path, allow_outside)
        named = {Path(item.path).resolve() for item in listing.items}
        # The table's reason for a file replaces the folder's.
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
