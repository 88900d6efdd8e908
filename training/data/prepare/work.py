"""What is done with one item, in a process of its own: read, check, put right, cut, label, encode."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch

from pipelines.vivace_prompt import read_prompt
from training.data.prepare.cut import Clip, cut, is_silent
from training.data.prepare.decode import Decoded, UnreadableError, decode, read_tags
from training.data.prepare.fingerprint import fingerprint
from training.data.prepare.folder import reason_of
from training.data.prepare.items import Item, caption_of_name, caption_of_tags, clean, labels_of_tags
from training.data.prepare.labellers import load_ears
from training.data.prepare.settings import Settings
from training.data.shards import encode_audio, write_shard
from training.files import write_json
from training.metrics.signal import loudness

FRAME_S = 0.05  # of the level by which ends are trimmed
SILENCE = 1e-3  # -60 dB
DC_NOTED = 0.005  # of full scale
CLIPPED_NOTED = 1e-4  # share of samples
SHORT_NOTED_DB = 3.0  # of the wanted loudness
CEILING = 0.98  # peak that loudness normalisation does not exceed
_ears: dict = {}


def start_worker(settings: Settings) -> None:
    """Load the listeners once in each process; one thread each."""
    torch.set_num_threads(1)
    _ears["networks"] = load_ears(settings.beat_tracker, settings.key_network) if settings.labels else None


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
    except OSError:  # a full disk or the like, which is none of this file's
        raise
    except Exception as error:  # one file in thousands is no reason to end the run; its fate tells
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
    known = {} if content is None else {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    return {"name": item.name, "sha256": None, "bytes": None, "split": item.split} | known


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
    heard_s = audio.shape[1] / settings.sampling_rate
    if audio.shape[1] < decoded.audio.shape[1] - settings.sampling_rate // 2:
        notes.append(f"{decoded.audio.shape[1] / settings.sampling_rate - heard_s:.1f} s of silence trimmed")
    fate, reason = "kept", None
    if not np.any(np.abs(audio) > SILENCE):
        fate, reason = "silent", "nothing above -60 dB"
    elif heard_s < settings.min_s:
        fate, reason = "too short", f"{heard_s:.2f} s of sound; min_s is {settings.min_s}"
    elif decoded.clipped > settings.max_clipped:
        fate, reason = (
            "clipped",
            f"{100.0 * decoded.clipped:.1f} % of the samples; max_clipped is {settings.max_clipped}",
        )
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
    silent, rows, confidences = 0, [], []
    ears = _ears["networks"]
    for clip in cut(audio, first / settings.sampling_rate, stated, settings, ears):
        part = audio[:, clip.start : clip.stop]
        if is_silent(part):
            silent += 1
            continue
        confidences.append(clip.confidence)
        rows.append(_row(clip, part, captions or [""], item, settings, source, first))
    if silent:
        fate["notes"].append(f"{silent} silent clips left out")
    fate |= {
        "clips": len(rows), "clip_seconds": round(sum(row["duration_s"] for row in rows), 3), "captions": captions,
        "labelled": {k: sum(row.get(k) is not None for row in rows) for k in ("bpm", "downbeat_s", "key", "chords")},
        "confidence": {
            k: round(float(np.mean([c[k] for c in confidences if k in c])), 3)
            for k in ("beats", "downbeats", "key", "chords") if any(k in c for c in confidences)
        },
    }  # fmt: skip
    return rows


def _row(
    clip: Clip, part: np.ndarray, captions: list[str], item: Item, settings: Settings, source: str, first: int
) -> dict:
    """A row as in training/data/shards.py; what is not known is absent, which is null."""
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
    """What a caption says of what is known: tempo and key by the words that the pipeline understands."""
    read = read_prompt(text)
    named = [name for name in labels.get("instruments", []) if name.lower() in text.lower()]
    style = labels.get("style")
    return {
        "instruments": named, "drums": None, "style": style if style is not None and style in text else None,
        "moods": [mood for mood in labels.get("moods", []) if mood.lower() in text.lower()],
        "bpm": read.get("bpm") is not None, "key": read.get("key") is not None, "bars": read.get("bars") is not None,
    }  # fmt: skip
