"""Renders the scorebook, a data set of captioned clips, in parallel and resumable, and writes its card.

    python -m training.data.scorebook --hours 6 --output_dir data/scorebook

Clip k is a function of the arguments and k alone, so the same arguments make the same bytes with any number of
processes or machines. The card is README.md, info.json and a picture of how the labels are distributed.
"""

import argparse
import functools
import hashlib
import json
import math
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.data import clips
from training.data.scorebook.labels import (
    SOURCES,
    Settings,
    draw_form,
    draw_piece,
    first_setting,
    loop_s,
    note_columns,
    row_of,
    scores_of,
    set_players,
    set_production,
)
from training.data.scorebook.piece import Piece, Track
from training.data.scorebook.render import Renderer, SilenceError
from training.data.sources.fetch import (
    DRUM_SAMPLES_LICENSE,
    SOUNDFONT_LICENSES,
    find_drum_samples,
    find_soundfont,
    find_soundfonts,
)
from training.run.checkpoints import write_json, write_text

VERSION = 5  # to be raised whenever the same arguments make other clips or captions
SHARD_CLIPS = 240
_worker: dict = {}  # settings and scores, loaded once in each process


def split_of(work: str) -> str:
    """The split of a work: 90, 4 and 6 % by a hash of its id, so that all its clips are in one split."""
    place = int.from_bytes(hashlib.sha256(work.encode()).digest()[:8], "big") / 2.0**64
    return "train" if place < 0.90 else "validation" if place < 0.94 else "test"


@functools.lru_cache(maxsize=4)
def renderer_of(soundfont: str, sampling_rate: int, channels: int, drum_samples: str = "") -> Renderer:
    """A cached renderer: loading a compressed SoundFont takes seconds, and forked processes share it."""
    return Renderer(soundfont, sampling_rate, channels, drum_samples)


def _start_worker(settings: Settings) -> None:
    """Load the scores once in each process."""
    _worker["settings"] = settings
    _worker["scores"] = scores_of(settings.sources)


def make_clip(settings: Settings, scores: dict, index: int) -> tuple[str, dict] | None:
    """The split and the row of clip `index`, or None if its split is not in `settings`.

    An excerpt with 25 % of silence or more, or without a pitched part that its piece has, is drawn again.
    """
    soundfont, loop = draw_form(settings, index)
    renderer = renderer_of(soundfont, settings.sampling_rate, settings.channels, settings.drum_samples)
    for attempt in range(8):
        piece, rng = draw_piece(settings, first_setting(index), scores, attempt)
        if split_of(piece.work) not in settings.splits:
            return None  # before it is rendered
        set_players(piece, settings, index)
        set_production(piece, settings, index)
        clip_s = settings.clip_s
        if loop:
            piece.start_q = piece.start_q // piece.bar_q * piece.bar_q
            clip_s = loop_s(piece, clip_s, settings.sampling_rate)
        try:
            audio, audible, notes = renderer.render(piece, clip_s, rng, loop)
        except SilenceError:
            continue
        if any(t.preset[0] != 128 for t in audible) or all(t.preset[0] == 128 for t in piece.tracks):
            return split_of(piece.work), _row(settings, index, piece, audible, notes, audio, clip_s, loop, soundfont)
    raise ValueError(f"clip {index}: eight draws in a row were silent; are the sources damaged?")


def _row(
    settings: Settings,
    index: int,
    piece: Piece,
    audible: list[Track],
    notes: list[np.ndarray],
    audio: np.ndarray,
    clip_s: float,
    loop: bool,
    soundfont: str,
) -> dict:
    rate, seed = settings.sampling_rate, (settings.seed, index)
    row = row_of(piece, audible, audio, rate, clip_s, seed, loop, Path(soundfont).stem)
    row |= note_columns(audible, notes)
    return row | {"audio": {"bytes": clips.encode_audio(audio, rate), "path": f"{index:06d}.flac"}}


def mark(settings: Settings, number: int) -> Path:
    """An empty file whose presence means that a shard is finished, even one without clips in the wanted splits."""
    return Path(settings.output_dir) / ".shards" / f"{number:05d}"


def make_shard(number: int, count: int) -> int:
    """Render shard `number` of a set of `count` clips, unless it is finished; returns its number of clips."""
    settings: Settings = _worker["settings"]
    indices = range(number * SHARD_CLIPS, min((number + 1) * SHARD_CLIPS, count))
    if not mark(settings, number).is_file():
        made = [make_clip(settings, _worker["scores"], index) for index in indices]
        for split in settings.splits:
            rows = [row for own, row in filter(None, made) if own == split]
            if rows:
                clips.write_shard(clips.shard_path(settings.output_dir, split, number), rows)
        mark(settings, number).touch()
    return len(indices)


def render_scorebook(settings: Settings, count: int, num_workers: int, part: tuple[int, int] = (0, 1)) -> dict | None:
    """Render `count` clips; with `part` (i, n) only every n-th shard from the i-th on. Returns the content of info.json
    once all shards are finished, else None. Raises a ValueError if the folder holds clips made with other arguments."""
    # Raise for missing or damaged files once, before processes start.
    for soundfont in settings.soundfonts:
        renderer_of(soundfont, settings.sampling_rate, settings.channels, settings.drum_samples)
    scores_of(settings.sources)
    root = Path(settings.output_dir)
    (root / ".shards").mkdir(parents=True, exist_ok=True)
    arguments = {
        "seed": settings.seed, "sources": list(settings.sources), "sampling_rate": settings.sampling_rate,
        "channels": settings.channels, "clip_s": settings.clip_s, "splits": list(settings.splits),
        "soundfonts": [Path(path).name for path in settings.soundfonts], "version": VERSION,
        "drum_samples": bool(settings.drum_samples),
    }  # fmt: skip
    check_arguments_of_folder(root, arguments, count)
    numbers = range(part[0], math.ceil(count / SHARD_CLIPS), part[1])
    with tqdm(total=count // part[1], desc="scorebook", unit="clip", mininterval=2.0) as bar:
        if num_workers == 1:
            _start_worker(settings)
            for number in numbers:
                bar.update(make_shard(number, count))
        else:
            with ProcessPoolExecutor(num_workers, initializer=_start_worker, initargs=(settings,)) as pool:
                for clips in pool.map(make_shard, numbers, [count] * len(numbers)):
                    bar.update(clips)
    done = all(mark(settings, number).is_file() for number in range(math.ceil(count / SHARD_CLIPS)))
    return write_card(root, arguments) if done else None


def check_arguments_of_folder(root: Path, arguments: dict, count: int) -> None:
    """Record the arguments of a folder's clips, or compare them with the recorded ones.

    A set whose last shard is full may be made longer later. Raises a ValueError if the folder holds clips made with
    other arguments, or a set that cannot become this long.
    """
    path = root / "arguments.json"
    if path.is_file():
        found = json.loads(path.read_text())
        before = found.pop("clips")
        if found != arguments:
            raise ValueError(f"output_dir {root}: holds clips made with other arguments: {json.dumps(found)}")
        if before > count or (before < count and before % SHARD_CLIPS):
            raise ValueError(
                f"output_dir {root}: holds a set of {before} clips, which cannot become one of {count}; give another"
            )
    write_json(path, arguments | {"clips": count})


# ---- the card -------------------------------------------------------------------------------------------------------

LIMITS = """\
- Rendered from General MIDI banks: no voices with words, no recorded performance. Production is by rule (see
  `production`). Clips hold little above 8 kHz.
- Accompaniments of tunes and generated pieces follow rules; chords of scores are estimated from their notes, and beats
  whose harmony is unclear carry none. Keys of scores are the encoded or estimated key of the whole work.
- Moods follow from style, mode and tempo by rule; nobody has listened and agreed.
- Tempo is constant within a clip."""


def gather(folder: Path) -> dict[str, list[dict]]:
    """The rows of each split, without audio."""
    return {split: [row for p in clips.shards_of(folder, split) for row in clips.labels(p)] for split in clips.SPLITS}


def describe(rows: dict[str, list[dict]], arguments: dict) -> dict:
    """The content of info.json: counts of clips, works, captions and labels."""
    every = [row for split in rows.values() for row in split]

    def count(key: str) -> dict:
        return dict(Counter(row[key] for row in every if row[key] is not None).most_common())

    return {
        "arguments": arguments,
        "clips": {split: len(found) for split, found in rows.items()},
        "works": {split: len({row["work"] for row in found}) for split, found in rows.items()},
        "hours": round(sum(row["duration_s"] for row in every) / 3600.0, 4),
        "captions": sum(len(row["text"]) + len(row["text_heldout"]) for row in every),
        "loops": sum(bool(row["loop"]) for row in every),
        "on_downbeat": sum(bool(row["starts_on_downbeat"]) for row in every),
        "instruments": dict(Counter(name for row in every for name in row["instruments"]).most_common()),
        "with_drums": sum(bool(row["drums"]) for row in every),
        "sources": count("source"), "licenses": count("license"), "soundfonts": count("soundfont"),
        "productions": count("production"), "styles": count("style"), "keys": count("key"),
        "time_signatures": count("time_signature"),
        "drum_kits": count("drum_kit"),
        "drum_samples_license": DRUM_SAMPLES_LICENSE if arguments["drum_samples"] else None,
        "soundfont_licenses": {name: SOUNDFONT_LICENSES.get(name, "given by the user") for name in
                               arguments["soundfonts"]},
    }  # fmt: skip


def draw(rows: dict[str, list[dict]], info: dict, path: Path) -> None:
    """Histograms of tempo, key, meter, production, style, instruments and density as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    every = [row for split in rows.values() for row in split]
    figure = Figure(figsize=(14, 13), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic(
        [["bpm", "density", "meter", "production"], ["key"] * 4, ["style"] * 4, ["instrument"] * 4]
    )
    axes["bpm"].hist([row["bpm"] for row in every], bins=range(45, 206, 5))
    axes["bpm"].set_title("tempo, beats a minute")
    axes["density"].hist([min(row["density"], 40.0) for row in every], bins=40)
    axes["density"].set_title("notes a second, all parts")
    counted = (("production", info["productions"]), ("meter", info["time_signatures"]),
               ("key", dict(sorted(info["keys"].items()))), ("style", info["styles"]),
               ("instrument", info["instruments"]))  # fmt: skip
    for name, counts in counted:
        axes[name].bar(range(len(counts)), counts.values())
        axes[name].set_xticks(
            range(len(counts)), counts, rotation=0 if name in ("meter", "production") else 90, fontsize=8
        )
        axes[name].set_title(f"clips a {name}")
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", dpi=70)
    partial.replace(path)


def _table(counts: dict) -> str:
    return "\n".join(["| | clips |", "|---|---|", *(f"| {name} | {number} |" for name, number in counts.items())])


def write_card(folder: Path, arguments: dict) -> dict:
    """Write README.md, info.json and histograms.png of a finished set; returns the content of info.json."""
    rows = gather(folder)
    info = describe(rows, arguments)
    draw(rows, info, folder / "histograms.png")
    banks = "\n".join(f"- {name}: {license}" for name, license in info["soundfont_licenses"].items())
    if info["drum_samples_license"]:
        banks += f"\n- drums of {sum(info['drum_kits'].values())} clips: {info['drum_samples_license']}"
    total = sum(info["clips"].values())
    write_text(folder / "README.md", f"""\
---
pretty_name: Vivace scorebook
task_categories: [text-to-audio]
---
# Vivace scorebook

{info["hours"]:.2f} hours: {total} clips of {sum(info["works"].values())} works at {arguments["sampling_rate"]} Hz
({arguments["channels"]} channel), with exact beats, downbeats, key, chords, instruments and style, and
{info["captions"]} captions. {info["loops"]} clips are whole-bar loops that repeat seamlessly; {info["on_downbeat"]}
begin on a downbeat. {", ".join(f"{split} {n}" for split, n in info["clips"].items())} clips, split by work.

`datasets.load_dataset("<this folder>")` opens it; `audio` holds FLAC bytes. `parts` and `notes` hold the notes that are
heard, in seconds; of five clips in a row two have the same notes and
other instruments, and so have three. `text_heldout` are paraphrases
in words and templates that no `text` uses; `stated` and `stated_heldout` hold the labels that each caption states. Made
by `python -m training.data.scorebook` from the arguments in info.json; the same arguments make the same bytes.

![histograms](histograms.png)

## Sources
{_table(info["sources"])}

## Licences
{_table(info["licenses"])}

Played with:
{banks}

## Known limits
{LIMITS}
""")  # fmt: skip
    write_json(folder / "info.json", info)
    return info


# ---- command line ---------------------------------------------------------------------------------------------------


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="training.data.scorebook", description="Render captioned, beat-labelled clips."
    )
    parser.add_argument("--hours", type=float, default=6.0, help="hours of audio")
    parser.add_argument("--seed", type=int, default=0, help="seed of the set")
    parser.add_argument("--output_dir", default="data/scorebook", help="folder to write")
    parser.add_argument(
        "--soundfont",
        action="append",
        help="an .sf2 or .sf3 file with a General MIDI bank; may be given several times, each clip is played with one",
    )
    parser.add_argument(
        "--drum_samples",
        help="folder of Sonic Pi's samples; none for the drums of the SoundFonts alone (default: found)",
    )
    parser.add_argument("--sources", default=",".join(SOURCES), help="comma-separated, out of " + ", ".join(SOURCES))
    parser.add_argument("--sampling_rate", type=int, default=44100, help="Hz")
    parser.add_argument("--channels", type=int, default=2, help="1 or 2")
    parser.add_argument("--clip_s", type=float, default=10.0, help="length of a clip in seconds")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument(
        "--splits", default=",".join(clips.SPLITS), help="comma-separated; clips of others are left out, as for a test"
    )
    parser.add_argument("--shard", default="0/1", help="i/n: make every n-th shard from the i-th on, on n machines")
    return parser.parse_args(words)


def check_arguments(arguments: argparse.Namespace) -> tuple[Settings, int, tuple[int, int]]:
    """Settings, number of clips, and which part of the shards. Raises a ValueError that names the first argument that
    is wrong."""
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
    splits = tuple(split for split in clips.SPLITS if split in arguments.splits.split(","))
    if ",".join(splits) != arguments.splits:
        raise ValueError(f"splits {arguments.splits!r}: must be out of {','.join(clips.SPLITS)}, in this order")
    part = arguments.shard.split("/")
    if len(part) != 2 or not all(n.isdigit() for n in part) or not int(part[0]) < int(part[1]):
        raise ValueError(f"shard {arguments.shard!r}: must be i/n with 0 <= i < n, as in 0/4")
    given = arguments.soundfont
    fonts = tuple(str(find_soundfont(path)) for path in given) if given else tuple(map(str, find_soundfonts()))
    drums = "" if arguments.drum_samples == "none" else str(find_drum_samples(arguments.drum_samples))
    settings = Settings(
        arguments.seed, sources, arguments.sampling_rate, arguments.channels, arguments.clip_s, fonts,
        arguments.output_dir, drums, splits,
    )  # fmt: skip
    count = math.ceil(arguments.hours * 3600.0 / arguments.clip_s - 1e-9)
    return settings, count, (int(part[0]), int(part[1]))


def main(words: list[str] | None = None) -> None:
    arguments = parse_arguments(words)
    settings, count, part = check_arguments(arguments)
    info = render_scorebook(settings, count, arguments.num_workers, part)
    if info is None:
        print(f"shards {arguments.shard} are done; others are still missing in {settings.output_dir}")
    else:
        print(json.dumps({k: info[k] for k in ("clips", "works", "hours", "sources")}))
