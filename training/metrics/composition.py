"""Figures of composed music on the tokens of `pipelines.composer_vivace`, of real scores and of made ones alike."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipelines.composer_vivace import FIRST_PITCH, HOLD, LOWEST_PITCH, NAMES, QUALITIES, ROLE_COLUMNS, SIZES

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 9, 10, 11)  # with the raised sixth and seventh
PITCHED = ("lead", *ROLE_COLUMNS["harmony"], "bass")
GRAM = 8  # notes of a lead that a copied run has at least
# Figures of one piece, by name, with what they are.
PIECE_FIGURES = {
    "chord_tones": "notes of the lead that begin on a beat and belong to its chord, share",
    "in_key": "pitched notes in the scale of the key, share",
    "bass_roots": "chords that begin with the root in the bass, of those with a bass there, share",
    "pitch_entropy": "entropy of the lead's pitch classes, bits",
    "rhythm_entropy": "entropy of the steps between onsets of the lead, bits",
    "leaps": "steps of the lead wider than a fifth, share",
    "lead_density": "onsets of the lead in a quarter",
    "theme": "bars of the lead from the third on: likeness of notes to the most alike bar before, mean",
    "theme_rhythm": "the same of the onsets alone",
}


@dataclass(frozen=True)
class Piece:
    """A piece to be measured."""

    tokens: np.ndarray  # (steps, columns) without masks, except for chords that are unknown
    bar: int  # steps in a bar
    beats: int  # beats in a bar
    minor: bool | None  # of the key; None = no key

    def column(self, name: str) -> np.ndarray:
        return self.tokens[:, NAMES.index(name)]

    def pitches(self, name: str) -> np.ndarray:
        """(steps,) pitch in C that sounds in a column, -1 where none does."""
        line, now, out = self.column(name), -1, []
        for token in line.tolist():
            now = now if token == HOLD else token - FIRST_PITCH + LOWEST_PITCH[name] if token >= FIRST_PITCH else -1
            out.append(now)
        return np.array(out)

    def notes(self, name: str = "lead") -> np.ndarray:
        """(notes, 2) step and pitch in C of the notes that begin in a column."""
        line = self.column(name)
        steps = np.flatnonzero(line >= FIRST_PITCH)
        return np.stack([steps, line[steps].astype(int) - FIRST_PITCH + LOWEST_PITCH[name]], axis=1)


def chord_classes(token: int) -> list[int]:
    """Pitch classes in C of a chord token, root first."""
    if token == 0:
        return list(range(12))
    root, quality = divmod(token - 1, len(QUALITIES))
    return [(root + step) % 12 for step in QUALITIES[tuple(QUALITIES)[quality]]]


def entropy(values: np.ndarray) -> float:
    counts = np.unique(values, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def likeness(a: set, b: set) -> float:
    """Twice the elements in common over all elements."""
    return 2 * len(a & b) / (len(a) + len(b))


def themes(notes: np.ndarray, bar: int, bars: int) -> tuple[list[float], list[float]]:
    """For each bar from the third on that has two notes or more: likeness of its notes (place and pitch), and of its
    onsets, to the most alike of the bars before it."""
    within = [notes[notes[:, 0] // bar == k] for k in range(bars)]
    whole = [{(int(step % bar), int(pitch)) for step, pitch in part} for part in within]
    rhythm = [{step for step, _ in part} for part in whole]
    found: tuple[list[float], list[float]] = ([], [])
    for k in range(2, bars):
        if len(whole[k]) > 1:
            for kept, sets in zip(found, (whole, rhythm), strict=True):
                kept.append(max(likeness(sets[k], sets[j]) for j in range(k)))
    return found


def piece_figures(piece: Piece) -> dict[str, float]:
    """`PIECE_FIGURES` of a piece; one that does not apply (no lead, no key) is left out."""
    figures, chord = {}, piece.column("chord")
    has_chord = chord < SIZES[0]
    lead, beat = piece.notes(), piece.bar / piece.beats
    strong = [(s, p) for s, p in lead.tolist() if (s % piece.bar) % beat == 0 and has_chord[s] and chord[s] > 0]
    if strong:
        figures["chord_tones"] = np.mean([p % 12 in chord_classes(int(chord[s])) for s, p in strong])
    if piece.minor is not None:
        classes = np.concatenate([piece.notes(name)[:, 1] for name in PITCHED]) % 12
        if len(classes):
            figures["in_key"] = np.isin(classes, MINOR if piece.minor else MAJOR).mean()
    bass = piece.pitches("bass")
    begins = np.flatnonzero((np.diff(chord, prepend=-1) != 0) & has_chord & (chord > 0) & (bass >= 0))
    if len(begins):
        figures["bass_roots"] = np.mean([bass[s] % 12 == chord_classes(int(chord[s]))[0] for s in begins])
    if len(lead) > GRAM:
        figures["pitch_entropy"] = entropy(lead[:, 1] % 12)
        figures["rhythm_entropy"] = entropy(np.diff(lead[:, 0]))
        figures["leaps"] = (abs(np.diff(lead[:, 1])) > 7).mean()
        figures["lead_density"] = len(lead) / len(piece.tokens) * 4
        theme, rhythm = themes(lead, piece.bar, len(piece.tokens) // piece.bar)
        if theme:
            figures["theme"], figures["theme_rhythm"] = np.mean(theme), np.mean(rhythm)
    return {name: float(value) for name, value in figures.items()}


def mean_figures(pieces: Iterable[Piece]) -> dict[str, tuple[float, int]]:
    """Mean and number of pieces of each figure."""
    rows = [piece_figures(piece) for piece in pieces]
    found = {name: [row[name] for row in rows if name in row] for name in PIECE_FIGURES}
    return {name: (float(np.mean(values)), len(values)) for name, values in found.items() if values}


class Copies:
    """Finds runs of notes of a lead that stand in training pieces: the same steps between pitches and onsets."""

    def __init__(self, pieces: Iterable[Piece]):
        self.lines = [self.line(piece) for piece in pieces]
        self.places: dict[tuple, list[tuple[int, int]]] = {}
        for number, line in enumerate(self.lines):
            for start in range(len(line) - GRAM + 1):
                self.places.setdefault(line[start : start + GRAM], []).append((number, start))

    @staticmethod
    def line(piece: Piece) -> tuple[tuple[int, int], ...]:
        """(interval in semitones, steps since the note before) of each note of the lead but the first."""
        return tuple((int(pitch), int(step)) for step, pitch in np.diff(piece.notes(), axis=0))

    def longest(self, piece: Piece, most: int = 64) -> int:
        """Length in notes of the longest run, at least `GRAM` + 1, that is also in a training piece; 0 = none.

        Notes that are all alike, such as one repeated in even steps, do not count.
        """
        line, best = self.line(piece), 0
        for start in range(len(line) - GRAM + 1):
            if len(set(line[start : start + GRAM])) < 3:
                continue
            for number, place in self.places.get(line[start : start + GRAM], [])[:200]:
                other, length = self.lines[number], GRAM
                while (
                    length < most
                    and start + length < len(line)
                    and place + length < len(other)
                    and line[start + length] == other[place + length]
                ):
                    length += 1
                best = max(best, length + 1)
        return best


def spread(pieces: list[Piece]) -> float:
    """1 - the mean likeness of the leads' notes (step and pitch) over all pairs of pieces: 0 = all the same."""
    sets = [{tuple(note) for note in piece.notes().tolist()} for piece in pieces]
    pairs = [(a, b) for k, a in enumerate(sets) for b in sets[:k] if a or b]
    return 1.0 - float(np.mean([likeness(a, b) for a, b in pairs]))


def pieces_of(crops, indices: Iterable[int], most_steps: int | None = None) -> list[Piece]:
    """Pieces of a `training.data.compositions.Compositions`, cut to whole bars of at most so many steps."""
    out = []
    for index in indices:
        bar, beats, minor = crops.rows[index, :3].tolist()
        tokens = crops.tokens[crops.starts[index] : crops.starts[index + 1]].numpy()
        bars = len(tokens) // bar if most_steps is None else min(len(tokens), most_steps) // bar
        out.append(Piece(tokens[: bars * bar], bar, beats, None if minor < 0 else bool(minor)))
    return out
