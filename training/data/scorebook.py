"""Renders the scorebook: captioned clips of real scores and generated pieces with exact beats, key, chords.

    python -m training.data.scorebook --hours 6 --seed 0 --output_dir data/scorebook

Clip k depends on (seed, k) and the arguments alone, so any number of processes gives the same set, and a run
that was stopped goes on where it was.
"""

import argparse
import functools
import hashlib
import json
import math
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from training.data.draw import SOURCES, Settings, draw_piece, scores_of
from training.data.labels import row_of
from training.data.piece import Piece, Track
from training.data.render import Renderer, SilenceError

SPLITS = ("train", "validation", "test")
VERSION = 1
_worker: dict = {}  # what a process keeps from clip to clip: settings, renderer, scores


def split_of(work: str) -> str:
    """The split of a work: 90, 4 and 6 % by a hash of its id, so that all its clips are in one split."""
    place = int.from_bytes(hashlib.sha256(work.encode()).digest()[:8], "big") / 2.0**64
    return "train" if place < 0.90 else "validation" if place < 0.94 else "test"


@functools.lru_cache(maxsize=2)
def renderer_of(soundfont: str, sampling_rate: int, channels: int) -> Renderer:
    """A renderer, kept: loading a compressed SoundFont takes two seconds, and forked processes share it."""
    return Renderer(soundfont, sampling_rate, channels)


def _start_worker(settings: Settings) -> None:
    """Load the SoundFont and the scores once in each process."""
    _worker["settings"] = settings
    _worker["renderer"] = renderer_of(settings.soundfont, settings.sampling_rate, settings.channels)
    _worker["scores"] = scores_of(settings.sources)


def _render(settings: Settings, index: int) -> tuple[Piece, np.ndarray, list[Track]]:
    """Draw and render clip `index`; an excerpt that turns out to be silent or nearly so is drawn again."""
    for attempt in range(8):
        piece, rng = draw_piece(settings, index, _worker["scores"], attempt)
        try:
            audio, heard = _worker["renderer"].render(piece, settings.clip_s, rng)
        except SilenceError:
            continue
        if silent_share(audio, settings.sampling_rate) < 0.25 and any(t.preset[0] != 128 for t in heard):
            return piece, audio, heard
    raise ValueError(f"clip {index}: eight draws in a row were silent; are the sources damaged?")


def silent_share(audio: np.ndarray, sampling_rate: int) -> float:
    """Share of 100-ms pieces below -60 dBFS."""
    size = sampling_rate // 10
    power = np.square(audio[0, : audio.shape[1] // size * size]).reshape(-1, size).mean(axis=1)
    return float((power < 1e-6).mean())


def make_clip(index: int) -> str:
    """Render clip `index` unless it is there; returns its split.

    The row is written after the audio, each to a temporary name first: a clip with a row is a finished clip.
    """
    settings: Settings = _worker["settings"]
    root = Path(settings.output_dir)
    for split in SPLITS:
        if (root / ".rows" / split / f"{index:06d}.json").is_file() and (root / split / f"{index:06d}.flac").is_file():
            return split
    piece, audio, heard = _render(settings, index)
    split = split_of(piece.work)
    row = row_of(piece, heard, audio, settings.sampling_rate, settings.clip_s, (settings.seed, index))
    target = root / split / row["file_name"]
    partial = target.with_suffix(".partial")
    soundfile.write(partial, audio.T, settings.sampling_rate, subtype="PCM_16", format="FLAC")
    os.replace(partial, target)
    write_text(root / ".rows" / split / f"{index:06d}.json", json.dumps(row))
    return split


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and then rename it."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    os.replace(partial, path)


def render_scorebook(settings: Settings, count: int, num_workers: int) -> dict:
    """Render `count` clips and write the metadata; returns what info.json holds."""
    # What is missing or damaged shows here, once, before several processes want it.
    renderer_of(settings.soundfont, settings.sampling_rate, settings.channels)
    scores_of(settings.sources)
    root = Path(settings.output_dir)
    for split in SPLITS:
        (root / split).mkdir(parents=True, exist_ok=True)
        (root / ".rows" / split).mkdir(parents=True, exist_ok=True)
    arguments = {k: v for k, v in asdict(settings).items() if k not in ("output_dir", "soundfont")}
    arguments |= {
        "sources": list(settings.sources),
        "soundfont": Path(settings.soundfont).name,
        "version": VERSION,
    }
    begun = root / ".rows" / "arguments.json"
    if begun.is_file() and json.loads(begun.read_text()) != arguments:
        raise ValueError(f"output_dir {root}: holds clips made with other arguments: {begun.read_text()}")
    write_text(begun, json.dumps(arguments))
    if num_workers == 1:
        _start_worker(settings)
        for index in tqdm(range(count), desc="scorebook", unit="clip", mininterval=2.0):
            make_clip(index)
    else:
        with ProcessPoolExecutor(num_workers, initializer=_start_worker, initargs=(settings,)) as pool:
            results = pool.map(make_clip, range(count), chunksize=8)
            for _ in tqdm(results, total=count, desc="scorebook", unit="clip", mininterval=2.0):
                pass
    return write_metadata(root, arguments, count)


def write_metadata(root: Path, arguments: dict, count: int) -> dict:
    """Gather the rows of finished clips into metadata.jsonl for each split, and the counts into info.json."""
    info: dict = {
        "arguments": arguments,
        "clips": {},
        "works": {},
        "hours": 0.0,
        "sources": {},
        "licenses": {},
    }
    for split in SPLITS:
        rows = [json.loads(p.read_text()) for p in sorted((root / ".rows" / split).glob("*.json"))]
        rows = [row for row in rows if row["seed"][1] < count]
        write_text(root / split / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        info["clips"][split] = len(rows)
        info["works"][split] = len({row["work"] for row in rows})
        info["hours"] += sum(row["duration_s"] for row in rows) / 3600.0
        for name, key in (("sources", "source"), ("licenses", "license")):
            for row in rows:
                info[name][row[key]] = info[name].get(row[key], 0) + 1
    info["hours"] = round(info["hours"], 4)
    info["soundfont_license"] = "MIT (Fluid R3 Mono GM, Michael Cowgill, after Frank Wen's Fluid R3)"
    write_text(root / "info.json", json.dumps(info, indent=2) + "\n")
    return info


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="training.data.scorebook", description="Render captioned, beat-labelled clips."
    )
    parser.add_argument("--hours", type=float, default=6.0, help="hours of audio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", default="data/scorebook")
    parser.add_argument("--soundfont", help="an .sf2 or .sf3 file with a General MIDI bank")
    parser.add_argument("--sources", default=",".join(SOURCES), help="comma-separated, out of " + ", ".join(SOURCES))
    parser.add_argument("--sampling_rate", type=int, default=24000, help="Hz")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--clip_s", type=float, default=10.0, help="length of a clip in seconds")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args(words)


def check_arguments(arguments: argparse.Namespace) -> tuple[Settings, int]:
    """Settings and number of clips.

    Raises:
        ValueError: naming the first argument that is wrong.
    """
    if not (math.isfinite(arguments.hours) and 0.0 < arguments.hours <= 1000.0):
        raise ValueError(f"hours {arguments.hours}: must be above 0 and at most 1000")
    if not 0 <= arguments.seed < 2**32:
        raise ValueError(f"seed {arguments.seed}: must be within 0 and 2**32 - 1")
    if not (math.isfinite(arguments.clip_s) and 1.0 <= arguments.clip_s <= 60.0):
        raise ValueError(f"clip_s {arguments.clip_s}: must be within 1 and 60 seconds")
    if not 8000 <= arguments.sampling_rate <= 96000:
        raise ValueError(f"sampling_rate {arguments.sampling_rate}: must be within 8000 and 96000 Hz")
    if arguments.channels not in (1, 2):
        raise ValueError(f"channels {arguments.channels}: must be 1 or 2")
    if not 1 <= arguments.num_workers <= 256:
        raise ValueError(f"num_workers {arguments.num_workers}: must be within 1 and 256")
    sources = tuple(dict.fromkeys(s.strip() for s in arguments.sources.split(",") if s.strip()))
    unknown = [s for s in sources if s not in SOURCES]
    if unknown or not sources:
        raise ValueError(f"sources {arguments.sources!r}: must be out of {', '.join(SOURCES)}")
    soundfont = find_font(arguments.soundfont)
    settings = Settings(arguments.seed, sources, arguments.sampling_rate, arguments.channels,
        arguments.clip_s, soundfont,
                        arguments.output_dir)  # fmt: skip
    return settings, math.ceil(arguments.hours * 3600.0 / arguments.clip_s - 1e-9)


def find_font(path: str | None) -> str:
    """The SoundFont to use.

    Raises:
        ValueError: if it cannot be read.
    """
    if path is None:
        from training.data.sources.fetch import find_soundfont

        return str(find_soundfont())
    try:
        with open(path, "rb") as file:
            head = file.read(12)
    except OSError as error:
        raise ValueError(f"soundfont {path}: cannot be read ({error.strerror})") from None
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise ValueError(f"soundfont {path}: not a SoundFont")
    return path


def main(words: list[str] | None = None) -> int:
    """Command line; bad input gives one line and exit code 2."""
    arguments = parse_arguments(words)
    try:
        settings, count = check_arguments(arguments)
        info = render_scorebook(settings, count, arguments.num_workers)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(json.dumps({k: info[k] for k in ("clips", "works", "hours", "sources")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
