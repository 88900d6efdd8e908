"""Notes and their labels as data: `Score` is music as a source wrote it, `Piece` is what the renderer plays.

The readers of training/data/sources/ make scores, and a bank stores many of them in one compressed .npz (all notes in
three integer arrays, everything else in a JSON header). training/data/scorebook/arrange.py makes pieces. All times are
in quarter notes (names end in `_q`) unless a name ends in `_s` for seconds.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipelines.vivace_theory import parse_time_signature
from training.data.scorebook.harmony import Chord
from training.data.scorebook.instruments import Instrument

TICKS_PER_Q = 10080  # 2^5 * 3^2 * 5 * 7: every duration of notated music we read is a whole number of ticks
_BANK_FORMAT = 1


@dataclass(frozen=True)
class Part:
    """One player of a score."""

    name: str  # as written in the source, "" where it has none
    program: int | None  # 0-based General MIDI program, None if unknown
    is_drums: bool  # pitches are General MIDI drum keys
    # float64 (n, 4): onset_q, duration_q, MIDI pitch, velocity in [0, 1]; sorted by onset, then pitch
    notes: np.ndarray


@dataclass(frozen=True)
class Score:
    """A piece in constant meter: downbeats are at pickup_q + k * bar_q(time_signature)."""

    work_id: str  # stable name; two settings of one tune share it, so that they land in the same split
    title: str
    composer: str  # a name, "traditional" or "unknown"
    collection: str  # where it was read from, such as "oneills1850"
    license: str  # short honest text
    parts: tuple[Part, ...]  # in the order of the source
    time_signature: str  # "4/4", "6/8", ...
    key: str | None  # "D major", "E minor", ... or None where the source leaves it open
    pickup_q: float  # time of the first downbeat, in quarters from the first note or rest
    length_q: float  # end of the last bar, in quarters
    # beats per minute as the source states it (the beat of the meter: a dotted quarter in 6/8), else None
    bpm: float | None


def split_meter(time_signature: str) -> tuple[int, int]:
    """Numerator and denominator of a meter such as "6/8". Raises a ValueError if it is not two positive whole numbers,
    the lower one a power of two."""
    upper, _, lower = time_signature.partition("/")
    if not (upper.isdigit() and lower.isdigit() and int(upper) > 0 and int(lower) in (1, 2, 4, 8, 16, 32)):
        raise ValueError(f"time_signature {time_signature!r}: must look like 4/4, 3/4, 6/8")
    return int(upper), int(lower)


def bar_q(time_signature: str) -> float:
    """Length of a bar in quarters: 4.0 for "4/4", 3.0 for "6/8"."""
    upper, lower = split_meter(time_signature)
    return 4.0 * upper / lower


def beat_q(time_signature: str) -> float:
    """Length of a beat in quarters: 1.0 in "3/4", 1.5 in "6/8", "9/8" and "12/8", 2.0 in "2/2"."""
    upper, lower = split_meter(time_signature)
    compound = lower >= 8 and upper % 3 == 0 and upper > 3
    return (12.0 if compound else 4.0) / lower


def score_notes(rows: Sequence[tuple[float, float, float, float]]) -> np.ndarray:
    """Rows (onset_q, duration_q, pitch, velocity) as a sorted float64 (n, 4) array, times snapped to ticks."""
    notes = np.asarray(rows, dtype=np.float64).reshape(-1, 4)
    notes[:, :2] = np.round(notes[:, :2] * TICKS_PER_Q) / TICKS_PER_Q
    return notes[np.lexsort((notes[:, 2], notes[:, 0]))]


def save_bank(path: str | os.PathLike[str], scores: Sequence[Score]) -> None:
    """Write scores to one compressed .npz, replaced in one step when complete; times are kept to 1/20160 quarter,
    velocities to 1/254."""
    header = [
        {
            "fields": [s.work_id, s.title, s.composer, s.collection, s.license, s.time_signature, s.key],
            "times": [s.pickup_q, s.length_q, s.bpm],
            "parts": [[p.name, p.program, p.is_drums, len(p.notes)] for p in s.parts],
        }
        for s in scores
    ]
    arrays = [p.notes for s in scores for p in s.parts]
    notes = np.concatenate(arrays) if arrays else np.zeros((0, 4))
    text = json.dumps({"format": _BANK_FORMAT, "scores": header}, ensure_ascii=False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            np.savez_compressed(
                file,
                header=np.frombuffer(text.encode(), dtype=np.uint8),
                times=np.round(notes[:, :2] * TICKS_PER_Q).astype(np.int32),
                pitches=notes[:, 2].astype(np.uint8),
                velocities=np.round(notes[:, 3] * 127).astype(np.uint8),
            )
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_bank(path: str | os.PathLike[str]) -> list[Score]:
    """Read the scores of a bank. Raises a ValueError if the file is missing, damaged or of another format."""
    try:
        with np.load(path) as bank:
            text = bank["header"].tobytes().decode()
            times, pitches, velocities = bank["times"], bank["pitches"], bank["velocities"]
        content = json.loads(text)
    except FileNotFoundError:
        raise ValueError(f"path {str(path)!r}: no such score bank") from None
    except Exception as error:  # numpy, zipfile, zlib and json each raise their own errors
        raise ValueError(f"path {str(path)!r}: not a score bank ({type(error).__name__})") from error
    if content.get("format") != _BANK_FORMAT:
        raise ValueError(f"path {str(path)!r}: score bank of format {content.get('format')}, not {_BANK_FORMAT}")
    notes = np.column_stack([times / TICKS_PER_Q, pitches.astype(np.float64), velocities / 127.0])
    scores, first = [], 0
    for entry in content["scores"]:
        parts = []
        for name, program, is_drums, count in entry["parts"]:
            parts.append(Part(name, program, is_drums, notes[first : first + count].copy()))
            first += count
        work_id, title, composer, collection, license_text, time_signature, key = entry["fields"]
        pickup_q, length_q, bpm = entry["times"]
        scores.append(
            Score(work_id, title, composer, collection, license_text, tuple(parts), time_signature, key, pickup_q,
                  length_q, bpm)
        )  # fmt: skip
    return scores


# ---- pieces ---------------------------------------------------------------------------------------------------------


@dataclass
class Track:
    """The notes of one part and the preset that plays them."""

    name: str  # canonical instrument, "drums" or "percussion"
    preset: tuple[int, int]  # (bank, program); bank 128 for drums
    role: str  # melody, chords, arpeggio, bass, pad, drums, voice
    notes: np.ndarray  # (n, 4) onset and duration in quarters, pitch, velocity 0..1
    kit: str = ""  # of drums, a kit of training/data/scorebook/drumkits.py; "" for the drums of the SoundFont


@dataclass
class Piece:
    """Tracks and labels. Downbeats are at whole multiples of the bar on the timeline; the clip starts at `start_q`."""

    meter: str
    bpm: float
    tonic: int | None
    minor: bool
    style: str
    genre: str
    moods: list[str]
    work: str
    title: str
    composer: str
    source: str
    license: str
    style_words: tuple[str, ...] = ()
    style_heldout_words: tuple[str, ...] = ()
    tracks: list[Track] = field(default_factory=list)
    # (onset_q, chord or None) in order; None means unknown
    chords: list[tuple[float, Chord | None]] = field(default_factory=list)
    # Of a score: its bar that the piece begins with, and how many bars it has; 0 = it is no score.
    place: tuple[int, int] = (0, 0)
    start_q: float = 0.0  # where on the timeline the clip begins, quarters
    fresh: bool = False  # the music begins with the clip; otherwise the clip is cut out of running music
    production: str = "dry"  # a profile of training/data/scorebook/production.py
    room: str = "dry"  # what it sounds in: dry, room, hall or cathedral
    dynamics: str = "medium"  # soft, medium or loud

    @property
    def bar_q(self) -> float:
        return bar_q(self.meter)

    @property
    def beat_q(self) -> float:
        return beat_q(self.meter)

    @property
    def beats_per_bar(self) -> int:
        return parse_time_signature(self.meter)

    def seconds(self, onset_q: np.ndarray | float) -> np.ndarray | float:
        """Time after the start of the clip of a place on the timeline, seconds."""
        return (onset_q - self.start_q) / self.beat_q * 60.0 / self.bpm

    def quarters(self, seconds: float) -> float:
        """Length in quarters of a length in seconds."""
        return seconds * self.bpm / 60.0 * self.beat_q


def as_notes(notes: list[tuple[float, float, float, float]]) -> np.ndarray:
    """Notes as an (n, 4) float64 array sorted by onset."""
    array = np.asarray(notes, dtype=np.float64).reshape(-1, 4)
    return array[np.lexsort((array[:, 2], array[:, 0]))]


def fit_range(notes: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Transpose notes by the octave that suits an instrument's range best, then those still outside one by one."""
    if not len(notes):
        return notes
    notes = notes.copy()
    shifts = [12 * k for k in range(-5, 6)]
    outside = [
        ((notes[:, 2] + s < instrument.low) | (notes[:, 2] + s > instrument.high)).mean() + abs(s) * 0.004
        for s in shifts
    ]
    notes[:, 2] += shifts[int(np.argmin(outside))]
    notes[:, 2] = np.where(notes[:, 2] < instrument.low, notes[:, 2] + 12, notes[:, 2])
    notes[:, 2] = np.where(notes[:, 2] > instrument.high, notes[:, 2] - 12, notes[:, 2])
    return notes


def pick_preset(instrument: Instrument, rng: np.random.Generator) -> tuple[int, int]:
    """One of the presets of an instrument."""
    return instrument.presets[int(rng.integers(len(instrument.presets)))]


def choose_start(piece: Piece, spare_bars: int, rng: np.random.Generator) -> None:
    """Set where the clip begins: on a downbeat in half of the clips, anywhere in the others. The piece has `spare_bars`
    bars beyond those that the clip needs."""
    if rng.random() < 0.5:
        piece.start_q = float(rng.integers(0, spare_bars + 1)) * piece.bar_q
        piece.fresh = bool(piece.start_q == 0.0 or rng.random() < 0.5)
    else:
        piece.start_q = float(rng.uniform(0.0, max(spare_bars, 1) * piece.bar_q))
        piece.fresh = False


def clip_bars(meter: str, bpm: float, clip_s: float) -> int:
    """How many bars a clip touches at most when it begins anywhere."""
    bar_s = parse_time_signature(meter) * 60.0 / bpm
    return int(np.ceil(clip_s / bar_s)) + 1
