"""Shared parts of the tasks: figures, the bench that they are measured on, and generation in batches."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from pipelines.pipeline_vivace import WINDOW, parse_chords
from training.generate import meter_of
from training.metrics.listening import Listeners
from training.metrics.request import Request, chords_text

BATCH = 8
PIECE_S = 10.0  # length of a piece, rounded to whole bars


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str  # what is measured, with its unit
    value: float | None  # None if it could not be measured, since no clip has the label or a network is missing
    count: int  # number of measurements of which the value is the mean, share or extreme
    wanted: str = ""  # the goal in words; "" if there is none
    met: bool | None = None  # whether the goal is met
    beside: dict[str, float] = field(default_factory=dict)  # the same figure of other audio for comparison, by name


@dataclass(frozen=True)
class Bench:
    """The pipeline, data and networks that all tasks use."""

    pipe: object  # a VivacePipeline
    rows: list[dict]  # rows of the test split with tempo, meter and key, in random order
    loops: list[dict]  # rows of real loops
    captions: list[str]  # one for each row in `rows`
    listeners: Listeners  # networks that analyse the clips
    pool: Executor | None  # processes that compute signal features, or None
    seed: int  # piece i is generated with the seed `seed` + i
    checkpoint: str  # folder that `pipe` was loaded from
    composer: object | None = None  # a ComposerVivace, or None
    compositions: str = ""  # folder of the pieces that it is measured on

    @property
    def rate(self) -> int:
        return int(self.pipe.vae.config.sampling_rate)

    @property
    def window_s(self) -> float:
        """Longest piece that is generated in one window, in seconds."""
        return WINDOW / self.pipe.frame_rate


def least(name: str, value: float | None, count: int, wanted: float, **beside: float) -> Figure:
    """A figure that should not be less than `wanted`."""
    return Figure(name, value, count, f"at least {wanted:g}", None if value is None else value >= wanted, beside)


def most(name: str, value: float | None, count: int, wanted: float, **beside: float) -> Figure:
    """A figure that should not be more than `wanted`."""
    return Figure(name, value, count, f"at most {wanted:g}", None if value is None else value <= wanted, beside)


def share(flags: list[bool]) -> float | None:
    return float(np.mean(flags)) if len(flags) else None


def bars_of(row: dict, seconds: float) -> int:
    """Number of whole bars nearest to a length in seconds at a row's tempo and meter, at least one."""
    return max(1, round(seconds * row["bpm"] / 60.0 / row["beats_per_bar"]))


def progression(row: dict, beats: int) -> str | None:
    """The first `beats` beats of a row's chords, as the pipeline takes them; None if it has none."""
    text, left, kept = chords_text(row), beats, []
    for entry in [] if text is None else text.split():
        symbol, count = entry.split(":")
        if left > 0:
            kept.append(f"{symbol}:{min(int(count), left)}")
        left -= int(count)
    return " ".join(kept) or None


def arguments_for(rows: list[dict], captions: list[str], bars: list[int]) -> dict[str, list]:
    """Arguments of the pipeline for `bars[i]` bars of row i."""
    return {
        "prompt": captions,
        "bars": bars,
        "bpm": [row["bpm"] for row in rows],
        "time_signature": [meter_of(row) for row in rows],
        "key": [row["key"] for row in rows],
        "chords": [progression(row, n * row["beats_per_bar"]) for row, n in zip(rows, bars, strict=True)],
    }


def make(bench: Bench, arguments: dict[str, list], first_seed: int = 0, **shared: object) -> list[np.ndarray]:
    """Generate pieces (channels, samples), one for each entry of the lists in `arguments`; see `outputs`."""
    made = outputs(bench, arguments, first_seed, **shared)
    return [np.asarray(audio) for out in made for audio in out.audios]


def outputs(bench: Bench, arguments: dict[str, list], first_seed: int = 0, **shared: object) -> list:
    """The pipeline's outputs, a batch of pieces each.

    Piece i has the seed `bench.seed` + `first_seed` + i; the arguments in `shared` apply to all pieces.
    """
    count, out = len(arguments["prompt"]), []
    for first in range(0, count, BATCH):
        part = {name: values[first : first + BATCH] for name, values in arguments.items()}
        seeds = [bench.seed + first_seed + i for i in range(first, min(first + BATCH, count))]
        if len(seeds) == 1:  # a list of chord texts for one prompt would be one progression
            part, seeds = {name: values[0] for name, values in part.items()}, seeds[0]
        out.append(bench.pipe(**{"loop": False} | part | shared, seed=seeds))
    return out


def mono(audio: np.ndarray) -> np.ndarray:
    return audio.mean(axis=0) if audio.ndim == 2 else audio


def request_of(row: dict, chords: str | None, beats: int, first_beat: int = 0) -> Request:
    """The request for `beats` beats from beat `first_beat` of a piece on, for the control metrics."""
    per_bar = row["beats_per_bar"]
    times = np.arange(beats) * 60.0 / row["bpm"]
    chroma = None if chords is None else np.asarray(parse_chords(chords, per_bar, first_beat + beats))[first_beat:]
    return Request(
        bpm=row["bpm"],
        beats_s=times,
        downbeats_s=times[-first_beat % per_bar :: per_bar],
        key=row["key"],
        chroma=chroma,
    )


def pairs(rows: list[dict], count: int) -> Iterator[tuple[int, dict]]:
    """`count` rows with their indices, starting over if there are fewer."""
    for index in range(count):
        yield index, rows[index % len(rows)]
