"""A piece ready to be rendered: tracks of notes on a timeline of quarters, and everything that is known of
it."""

from dataclasses import dataclass, field

import numpy as np

from training.data.grooves import BAR_Q, BEAT_Q
from training.data.harmony import Chord
from training.data.instruments import INSTRUMENTS, Instrument

BEATS_PER_BAR = {"4/4": 4, "3/4": 3, "2/4": 2, "6/8": 2}


@dataclass
class Track:
    """One part.

    Attributes:
        name: canonical instrument, "drums" or "percussion".
        preset: (bank, program); bank 128 for drums.
        role: melody, chords, arpeggio, bass, pad, drums, voice.
        notes: (n, 4) onset and duration in quarters, pitch, velocity 0..1.
    """

    name: str
    preset: tuple[int, int]
    role: str
    notes: np.ndarray

    @property
    def attack_s(self) -> float:
        """How much earlier the notes are started, seconds."""
        return INSTRUMENTS[self.name].attack_s if self.name in INSTRUMENTS else 0.0


@dataclass
class Piece:
    """Tracks and labels. Downbeats are at whole multiples of the bar on the timeline; the clip starts at
    `start_q`.

    Attributes:
        chords: (onset_q, chord or None) in order; None means unknown.
        start_q: where on the timeline the clip begins, quarters.
        fresh: nothing sounds before the clip (otherwise it is cut out of running music).
        room: dry, room, hall or cathedral.
        dynamics: soft, medium or loud.
    """

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
    chords: list[tuple[float, Chord | None]] = field(default_factory=list)
    start_q: float = 0.0
    fresh: bool = False
    room: str = "dry"
    dynamics: str = "medium"

    @property
    def bar_q(self) -> float:
        return BAR_Q[self.meter]

    @property
    def beat_q(self) -> float:
        return BEAT_Q[self.meter]

    @property
    def beats_per_bar(self) -> int:
        return BEATS_PER_BAR[self.meter]

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
    """Move notes by octaves, together as far as possible, into the range of an instrument."""
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


def choose_start(piece: Piece, clip_s: float, spare_bars: int, rng: np.random.Generator) -> None:
    """Set where the clip begins: on a downbeat in half of the clips, anywhere in the others.

    Args:
        spare_bars: how many bars the piece has beyond those the clip needs.
    """
    if rng.random() < 0.5:
        piece.start_q = float(rng.integers(0, spare_bars + 1)) * piece.bar_q
        piece.fresh = bool(piece.start_q == 0.0 or rng.random() < 0.5)
    else:
        piece.start_q = float(rng.uniform(0.0, max(spare_bars, 1) * piece.bar_q))
        piece.fresh = False


def clip_bars(meter: str, bpm: float, clip_s: float) -> int:
    """How many bars a clip touches at most when it begins anywhere."""
    bar_s = BEATS_PER_BAR[meter] * 60.0 / bpm
    return int(np.ceil(clip_s / bar_s)) + 1
