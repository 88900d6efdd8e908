"""What all tasks share: a figure, the bench it is measured on, and pieces made in batches."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np

from pipelines.pipeline_vivace import WINDOW, parse_chords
from training.generate import meter_of
from training.metrics.listening import Listeners
from training.metrics.request import Request, chords_text

BATCH = 8
PIECE_S = 10.0  # about so long is a piece, in whole bars


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        name: what is measured, with its unit.
        value: None = not measured, since no clip has the label or no network listened.
        count: of what the value is the mean, share or extreme.
        wanted: what it should be, in words; "" = told for comparison only.
        met: whether it is.
        beside: the same figure of something to compare with, by name.
    """

    name: str
    value: float | None
    count: int
    wanted: str = ""
    met: bool | None = None
    beside: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a task measures with.

    Attributes:
        pipe: a VivacePipeline.
        rows: of the test split, drawn, with tempo, meter and key.
        loops: rows of real loops.
        captions: one of each row in `rows`.
        listeners: networks that listen.
        pool: processes that help to listen, or None.
        seed: the noise of piece i has seed `seed` + i.
        checkpoint: folder that `pipe` was loaded from.
    """

    pipe: object
    rows: list[dict]
    loops: list[dict]
    captions: list[str]
    listeners: Listeners
    pool: Executor | None
    seed: int
    checkpoint: str

    @property
    def rate(self) -> int:
        return int(self.pipe.vae.config.sampling_rate)

    @property
    def window_s(self) -> float:
        """Longest piece that is made at once, seconds."""
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
    """Whole bars of a row's tempo and meter nearest to so many seconds, at least one."""
    return max(1, round(seconds * row["bpm"] / 60.0 / row["beats_per_bar"]))


def progression(row: dict, beats: int) -> str | None:
    """The chords of a row in the pipeline's words, no more than fill so many beats; None where none is known."""
    text, left, kept = chords_text(row), beats, []
    for entry in [] if text is None else text.split():
        symbol, count = entry.split(":")
        if left > 0:
            kept.append(f"{symbol}:{min(int(count), left)}")
        left -= int(count)
    return " ".join(kept) or None


def asked(rows: list[dict], captions: list[str], bars: list[int]) -> dict[str, list]:
    """Arguments of the pipeline for so many bars of each row."""
    return {
        "prompt": captions,
        "bars": bars,
        "bpm": [row["bpm"] for row in rows],
        "time_signature": [meter_of(row) for row in rows],
        "key": [row["key"] for row in rows],
        "chords": [progression(row, n * row["beats_per_bar"]) for row, n in zip(rows, bars, strict=True)],
    }


def make(bench: Bench, arguments: dict[str, list], first_seed: int = 0, **shared: object) -> list[np.ndarray]:
    """Pieces (channels, samples), one for each entry of the lists in `arguments`, in batches.

    Piece i has the seed `bench.seed` + `first_seed` + i; `shared` are arguments of all pieces.
    """
    count, out = len(arguments["prompt"]), []
    for first in range(0, count, BATCH):
        part = {name: values[first : first + BATCH] for name, values in arguments.items()}
        seeds = [bench.seed + first_seed + i for i in range(first, min(first + BATCH, count))]
        if len(seeds) == 1:  # a list of one chord text would be one progression
            part, seeds = {name: values[0] for name, values in part.items()}, seeds[0]
        out += [np.asarray(audio) for audio in bench.pipe(**{"loop": False} | part | shared, seed=seeds).audios]
    return out


def mono(audio: np.ndarray) -> np.ndarray:
    return audio.mean(axis=0) if audio.ndim == 2 else audio


def request_of(row: dict, chords: str | None, beats: int, first_beat: int = 0) -> Request:
    """What was asked of `beats` beats that begin with beat `first_beat` of a piece, as the control metrics read it."""
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
    """`count` numbered rows, from the beginning again if there are fewer."""
    for index in range(count):
        yield index, rows[index % len(rows)]
