"""Prepares a collection of audio files: each item is decoded, checked, levelled, cut, labelled and encoded.

`do_item` processes one item in a process of its own and leaves its fate (kept, or why not), fingerprint and rows as
files. `build` runs all items in parallel, then marks duplicates, assigns splits and writes shards and report. A run
that was killed continues with the items that are not finished.
"""

import hashlib
import itertools
import json
import math
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from pipelines.vivace_reading import read_prompt
from training.data.clips import SPLITS, encode_audio, shard_path, write_shard
from training.data.prepare.cut import Clip, cut, is_silent
from training.data.prepare.decode import Decoded, UnreadableError, clean, decode, read_tags
from training.data.prepare.fingerprint import find_duplicates, fingerprint
from training.data.prepare.labellers import load_listeners
from training.data.prepare.listing import Item, Listing, caption_of_name, caption_of_tags, labels_of_tags, reason_of
from training.data.prepare.midi import clip_notes, notes_beside
from training.data.prepare.settings import Settings
from training.metrics.features import compile_alone
from training.metrics.signal import loudness
from training.run.checkpoints import replace_folder, write_json

FRAME_S = 0.05  # of the level by which ends are trimmed
SILENCE = 1e-3  # -60 dB
DC_NOTED = 0.005  # of full scale
CLIPPED_NOTED = 1e-4  # share of samples
SHORT_NOTED_DB = 3.0  # of the wanted loudness
LABELLED = ("bpm", "downbeat_s", "key", "chords", "notes")  # counted in the report
CEILING = 0.98  # peak that loudness normalisation does not exceed
_listeners: dict = {}


def start_worker(settings: Settings) -> None:
    """Load the listeners once in each process; one thread each."""
    torch.set_num_threads(1)
    if settings.labels:
        compile_alone()
    _listeners["networks"] = load_listeners(settings.beat_tracker, settings.key_network) if settings.labels else None


def do_item(item: Item, settings: Settings, source: str, target: Path) -> None:
    """Process an item; its fate, fingerprint and rows appear as one file, whole or not at all."""
    try:
        content = item.read()
    except (OSError, MemoryError) as error:
        save_unreadable(item, reason_of(error), target)
        return
    try:
        fate, words, rows = _done(item, content, settings, source)
    except UnreadableError as error:
        save_unreadable(item, str(error), target, content)
    except MemoryError:
        save_unreadable(item, "too long for this machine's memory", target, content)
    except OSError:  # a full disk or the like: no fault of the file
        raise
    except Exception as error:  # recorded as the file's fate, so that the run goes on
        save_unreadable(item, f"failed with {type(error).__name__}: {clean(str(error))[:200]}", target, content)
    else:
        save(target, fate, words, rows)


def _done(item: Item, content: bytes, settings: Settings, source: str) -> tuple[dict, np.ndarray, list[dict]]:
    """Fate, fingerprint and rows of an item that was read."""
    decoded = decode(content, item.name, settings.sampling_rate, settings.channels, settings.denoise)
    audio, first = _trimmed(decoded.audio, settings)
    fate = _begun(item, content) | _verdict(decoded, audio, settings)
    fate["notes"] = [*item.notes, *fate["notes"]]
    if fate["fate"] != "kept":
        return fate, np.zeros(0, np.uint32), []
    words = fingerprint(audio.mean(axis=0), settings.sampling_rate)
    audio, fate["gain_db"] = _levelled(audio, settings, fate)
    rows = _rows(item, content, audio, first, settings, source, fate)
    if not rows:
        fate |= {"fate": "silent", "reason": "no clip of it is above -60 dB"}
    return fate, words, rows


def _begun(item: Item, content: bytes | None) -> dict:
    content_keys = {} if content is None else {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {"name": item.name, "sha256": None, "bytes": None, "split": item.split} | content_keys


def save_unreadable(item: Item, reason: str, target: Path, content: bytes | None = None) -> None:
    """Write the fate of an item that came to nothing; `content` is None where it could not be read."""
    fate = _begun(item, content) | {"fate": "unreadable", "reason": reason, "notes": list(item.notes)}
    save(target, fate, np.zeros(0, np.uint32), [])


def save(target: Path, fate: dict, words: np.ndarray, rows: list[dict]) -> None:
    """Write the rows, then the fate, each under a temporary name first: an item with a fate is finished."""
    if rows:
        write_shard(target.with_suffix(".parquet"), rows)
    write_json(target, fate | {"words": words.tobytes().hex()})


def load_fate(target: Path) -> tuple[dict, np.ndarray]:
    """The fate and the fingerprint that `save` wrote."""
    fate = json.loads(target.read_text())
    return fate, np.frombuffer(bytes.fromhex(fate.pop("words")), np.uint32)


def _trimmed(audio: np.ndarray, settings: Settings) -> tuple[np.ndarray, int]:
    """Audio without silence at its ends, and the sample at which it begins; all of it if there is nothing else."""
    size = round(FRAME_S * settings.sampling_rate)
    frames = audio.shape[1] // size
    power = np.square(audio[:, : frames * size]).mean(axis=0).reshape(frames, size).mean(axis=1)
    loud = np.flatnonzero(power > SILENCE**2)
    if not settings.trim or not len(loud):
        return audio, 0
    first, last = max(0, loud[0] - 1) * size, (loud[-1] + 2) * size
    return audio[:, first:last], int(first)


def _verdict(decoded: Decoded, audio: np.ndarray, settings: Settings) -> dict:
    """Whether a file is used, and why not; what is odd about it goes into notes."""
    notes = list(decoded.notes)
    offset = max(abs(value) for value in decoded.dc)
    if offset > DC_NOTED:
        notes.append(f"DC offset of {offset:.3f} taken out")
    if decoded.clipped > CLIPPED_NOTED:
        notes.append(f"clipped: {100.0 * decoded.clipped:.2f} % of the samples")
    sound_s = audio.shape[1] / settings.sampling_rate
    if audio.shape[1] < decoded.audio.shape[1] - settings.sampling_rate // 2:
        notes.append(f"{decoded.audio.shape[1] / settings.sampling_rate - sound_s:.1f} s of silence trimmed")
    fate, reason = "kept", None
    if not np.any(np.abs(audio) > SILENCE):
        fate, reason = "silent", "nothing above -60 dB"
    elif sound_s < settings.min_s:
        fate, reason = "too short", f"{sound_s:.2f} s of sound; min_s is {settings.min_s}"
    elif decoded.clipped > settings.max_clipped:
        fate = "clipped"
        reason = f"{100.0 * decoded.clipped:.1f} % of the samples; max_clipped is {settings.max_clipped}"
    return {
        "fate": fate, "reason": reason, "notes": notes, "format": decoded.format,
        "duration_s": round(decoded.source_s, 3),
        "source_rate": decoded.source_rate, "source_channels": decoded.source_channels,
    }  # fmt: skip


def _levelled(audio: np.ndarray, settings: Settings, fate: dict) -> tuple[np.ndarray, float | None]:
    """Audio at the wanted loudness, less where its peak would not fit; and the gain in dB."""
    measured = loudness(audio, settings.sampling_rate)
    fate["lufs"] = None if measured is None else round(measured, 2)
    gain = 1.0
    if not math.isnan(settings.loudness_lufs) and measured is not None:
        gain = 10.0 ** ((settings.loudness_lufs - measured) / 20.0)
    peak = float(np.abs(audio).max())
    if gain * peak > CEILING:
        short_db, gain = 20.0 * math.log10(gain * peak / CEILING), CEILING / peak
        if short_db > SHORT_NOTED_DB:
            fate["notes"].append(f"{short_db:.1f} dB quieter than asked for, so that its peaks fit")
    return audio * np.float32(gain), round(20.0 * math.log10(gain), 2)


def _rows(
    item: Item, content: bytes, audio: np.ndarray, first: int, settings: Settings, source: str, fate: dict
) -> list[dict]:
    tags = read_tags(content, item.name)
    stated = labels_of_tags(tags) | item.labels
    found = {
        "sidecar": list(item.captions),
        "tags": [caption_of_tags(tags)],
        "names": [caption_of_name(item.title if item.title is not None else item.name)],
    }
    captions = next((texts for place in settings.captions if (texts := [t for t in found[place] if t])), [])
    if not captions:
        fate["notes"].append("no caption found; trained as without text")
    notes = found_at = None
    if item.midi is not None:
        notes, found_at, how = notes_beside(item.midi, audio, settings.sampling_rate)
        fate["notes"].append(how)
    silent, rows, confidences = 0, [], []
    listeners = _listeners["networks"]
    for clip in cut(audio, first / settings.sampling_rate, stated, settings, listeners):
        part = audio[:, clip.start : clip.stop]
        if is_silent(part):
            silent += 1
            continue
        confidences.append(clip.confidence)
        row = _row(clip, part, captions or [""], item, settings, source, first)
        if notes is not None:
            row |= clip_notes(notes, found_at, *(place / settings.sampling_rate for place in (clip.start, clip.stop)))
        rows.append(row)
    if silent:
        fate["notes"].append(f"{silent} silent clips left out")
    fate |= {
        "clips": len(rows), "clip_seconds": round(sum(row["duration_s"] for row in rows), 3), "captions": captions,
        "labelled": {k: sum(row.get(k) is not None for row in rows) for k in LABELLED},
        "confidence": {
            k: round(float(np.mean([c[k] for c in confidences if k in c])), 3)
            for k in ("beats", "downbeats", "key", "chords") if any(k in c for c in confidences)
        },
    }  # fmt: skip
    return rows


def _row(
    clip: Clip, part: np.ndarray, captions: list[str], item: Item, settings: Settings, source: str, first: int
) -> dict:
    """A row with columns of training/data/clips.py; unknown labels are absent, which means null."""
    labels = {key: value for key, value in clip.labels.items() if value is not None}
    downbeats = labels.get("downbeats_s")
    start_s = (first + clip.start) / settings.sampling_rate
    stem = hashlib.sha256(item.name.encode()).hexdigest()[:12]
    return labels | {
        "audio": {"bytes": encode_audio(part, settings.sampling_rate), "path": f"{stem}-{start_s:09.3f}.flac"},
        "duration_s": part.shape[1] / settings.sampling_rate,
        "sampling_rate": settings.sampling_rate,
        "text": captions,
        "stated": [_stated(text, labels) for text in captions],
        "downbeat_s": downbeats[0] if downbeats else None,
        "starts_on_downbeat": bool(downbeats and downbeats[0] < 0.01) if downbeats is not None else None,
        "loop": False,
        "work": item.name,
        "source": source,
        "license": labels.get("license", settings.license),
        "peak": round(float(np.abs(part).max()), 4),
        "rms_db": round(20.0 * math.log10(float(np.sqrt(np.mean(np.square(part)))) + 1e-9), 2),
    }


def _stated(text: str, labels: dict) -> dict:
    """The labels that a caption states; tempo, key and bars as the pipeline reads them."""
    read = read_prompt(text)
    named = [name for name in labels.get("instruments", []) if name.lower() in text.lower()]
    style = labels.get("style")
    return {
        "instruments": named, "drums": None, "style": style if style is not None and style in text else None,
        "moods": [mood for mood in labels.get("moods", []) if mood.lower() in text.lower()],
        "bpm": read.get("bpm") is not None, "key": read.get("key") is not None, "bars": read.get("bars") is not None,
    }  # fmt: skip


# ---- the whole run --------------------------------------------------------------------------------------------------

AHEAD = 3  # items read ahead for each process


def build(source: str, listing: Listing, output_dir: str, settings: Settings, num_workers: int) -> dict:
    """Prepare a collection; returns the report. `source` is its name in rows and report.

    Raises:
        ValueError: `output_dir` holds something else, or nothing of the source is usable.
        OSError: the disk is full, or the like; a rerun goes on.
    """
    root = Path(output_dir)
    work = root / ".work"
    _begin(root, work, {"source": source, "settings": settings.key()})
    targets: list[Path] = []
    jobs = _jobs(listing.items, work / "items", targets)
    with tqdm(total=listing.count, desc="prepare", unit="file", disable=None, smoothing=0.05) as bar:
        if num_workers == 1:
            start_worker(settings)
            for item, target in jobs:
                if item is not None:
                    do_item(item, settings, source, target)
                bar.update()
        else:
            for _ in _parallel(jobs, settings, source, num_workers):
                bar.update()
    fates, prints = [], []
    for target in targets:
        fate, words = load_fate(target)
        fates.append(fate | {"file": target.name})
        prints.append(words)
    _mark_duplicates(fates, prints)
    _assign_splits(fates, settings)
    if not any(fate["fate"] == "kept" for fate in fates):
        write_json(root / "report.json", _report(source, fates, listing, settings))
        raise ValueError(f"source {source}: none of its {len(fates)} audio files is usable; see {root / 'report.json'}")
    partial = work / "data"
    _write_shards(fates, work, settings)
    report = _report(source, fates, listing, settings)
    for split in SPLITS:
        report["splits"][split]["shards"] = len(list((partial / "data").glob(f"{split}-*.parquet")))
    replace_folder(partial / "data", root / "data")
    write_json(root / "report.json", report)
    shutil.rmtree(work)
    return report


def _begin(root: Path, work: Path, arguments: dict) -> None:
    """Make the working folder, or continue with that of a run with the same arguments."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"output_dir {root} is a file")
    about = work / "arguments.json"
    if about.is_file() and json.loads(about.read_text()) != arguments:
        raise ValueError(
            f"output_dir {root}: an unfinished run with other arguments is there; give another, or delete it"
        )
    if not work.is_dir() and (root / "data").exists() and not (root / "report.json").is_file():
        raise ValueError(f"output_dir {root}: holds a data set that prepare did not make; give another")
    (work / "items").mkdir(parents=True, exist_ok=True)
    write_json(about, arguments)


def _jobs(items: Iterable[Item], folder: Path, targets: list[Path]) -> Iterator[tuple[Item | None, Path]]:
    """Each item with the file its result goes to; None in its place where that is there already."""
    for item in items:
        if item.path is None:
            stamp = hashlib.sha256(item.content).hexdigest()
        else:  # a file that was changed since is done again
            try:
                status = os.stat(item.path)
                stamp = f"{status.st_size} {status.st_mtime_ns}"
            except OSError as error:  # deleted since it was listed: do_item says so
                stamp = str(error.errno)
        identity = json.dumps([item.name, stamp, item.captions, item.labels, item.split, *_midi_stamp(item)])
        target = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.json"
        targets.append(target)
        yield (None if target.is_file() else item), target


def _midi_stamp(item: Item) -> list[str]:
    """What changes when the MIDI file of an item does, as a list; empty without one."""
    if item.midi is None:
        return []
    try:
        content = item.midi if isinstance(item.midi, bytes) else Path(item.midi).read_bytes()
        return [hashlib.sha256(content).hexdigest()]
    except OSError as error:  # do_item says so
        return [str(error.errno)]


def _parallel(jobs: Iterator, settings: Settings, source: str, num_workers: int) -> Iterator[None]:
    """Run the jobs in processes, a few ahead; yields once a finished item.

    An item that kills its process (a crash inside a decoder) is found by trying those under way one by one, and is
    unreadable.
    """
    waiting: deque[tuple[Item, Path]] = deque()
    while True:
        under_way: deque[tuple[Item, Path, Future]] = deque()
        try:
            with ProcessPoolExecutor(num_workers, initializer=start_worker, initargs=(settings,)) as pool:
                for item, target in jobs:
                    if item is None:
                        yield
                        continue
                    waiting.append((item, target))
                    under_way.append((item, target, pool.submit(do_item, item, settings, source, target)))
                    if len(under_way) >= AHEAD * num_workers:
                        under_way.popleft()[2].result()
                        waiting.popleft()
                        yield
                while under_way:
                    under_way.popleft()[2].result()
                    waiting.popleft()
                    yield
                return
        except BrokenProcessPool:
            while waiting:
                item, target = waiting.popleft()
                if not target.is_file():
                    _alone(item, target, settings, source)
                yield


def _alone(item: Item, target: Path, settings: Settings, source: str) -> None:
    try:
        with ProcessPoolExecutor(1, initializer=start_worker, initargs=(settings,)) as pool:
            pool.submit(do_item, item, settings, source, target).result()
    except BrokenProcessPool:
        save_unreadable(item, "the decoder crashed on it", target)


def _mark_duplicates(fates: list[dict], prints: list[np.ndarray]) -> None:
    """Mark duplicate recordings; the longest is kept, of equal ones the largest file, then the first by name."""
    kept = [i for i, fate in enumerate(fates) if fate["fate"] == "kept"]
    kept.sort(key=lambda i: (-round(fates[i]["duration_s"]), -fates[i]["bytes"], fates[i]["name"]))
    first_with: dict[str, int] = {}
    same: dict[int, tuple[int, str]] = {}
    for i in kept:
        first = first_with.setdefault(fates[i]["sha256"], i)
        if first != i:
            same[i] = (first, "the same bytes as")
    rest = [i for i in kept if i not in same]
    for place, (other, agreement) in find_duplicates([prints[i] for i in rest]).items():
        same[rest[place]] = (rest[other], f"sounds as (fingerprint agrees to {100.0 * agreement:.0f} %)")
    for i, (other, how) in same.items():
        fates[i] |= {"fate": "duplicate", "reason": f"{how} {fates[other]['name']}"}


def _assign_splits(fates: list[dict], settings: Settings) -> None:
    """A split for each kept file by the hash of its bytes, whole files only.

    With at least three files, a split whose share is not 0 is never empty: the file nearest to it by hash is taken from
    the training split.
    """
    kept = [fate for fate in fates if fate["fate"] == "kept"]
    free = sorted((fate for fate in kept if fate["split"] is None), key=lambda fate: fate["sha256"])
    edges = (settings.test_share, settings.test_share + settings.validation_share)
    for fate in free:
        place = int(fate["sha256"][:13], 16) / 16.0**13
        fate["split"] = "test" if place < edges[0] else "validation" if place < edges[1] else "train"
    for split, share in (("test", settings.test_share), ("validation", settings.validation_share)):
        train = [fate for fate in free if fate["split"] == "train"]
        if share and len(kept) >= 3 and len(train) > 1 and not any(fate["split"] == split for fate in kept):
            train[0]["split"] = split


def _write_shards(fates: list[dict], work: Path, settings: Settings) -> None:
    """Gather the items' rows into shards; one that is there is whole, and is taken as it is if the plan is the same."""
    plan = {
        split: [f["file"] for f in fates if f["fate"] == "kept" and f["split"] == split] for split in SPLITS
    }  # fmt: skip
    noted, folder = work / "plan.json", work / "data"
    if not noted.is_file() or json.loads(noted.read_text()) != plan:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        write_json(noted, plan)
    for split in SPLITS:
        rows = (
            row for name in plan[split]
            for row in pq.ParquetFile((work / "items" / name).with_suffix(".parquet")).read().to_pylist()
        )  # fmt: skip
        for number in itertools.count():
            batch = list(itertools.islice(rows, settings.shard_clips))
            if not batch:
                break
            path = shard_path(folder, split, number)
            if not path.is_file():
                write_shard(path, batch)


def _report(source: str, fates: list[dict], listing: Listing, settings: Settings) -> dict:
    """The content of report.json and report.html: one entry for each file found, sorted by name."""
    files = [{key: value for key, value in fate.items() if key != "file"} for fate in fates]
    files += [
        {"name": name, "fate": fate, "reason": reason, "notes": []} for name, (fate, reason) in listing.others.items()
    ]
    files.sort(key=lambda entry: entry["name"])
    counts: dict[str, int] = {}
    for entry in files:
        counts[entry["fate"]] = counts.get(entry["fate"], 0) + 1
    splits = {}
    for split in SPLITS:
        mine = [f for f in files if f["fate"] == "kept" and f.get("split") == split]
        splits[split] = {
            "files": len(mine), "clips": sum(f["clips"] for f in mine),
            "hours": round(sum(f["clip_seconds"] for f in mine) / 3600.0, 4),
        }  # fmt: skip
    return {
        "source": source, "settings": settings.key(), "notes": listing.notes, "fates": counts, "splits": splits,
        "files": files,
    }  # fmt: skip
