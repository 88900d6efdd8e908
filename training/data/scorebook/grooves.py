"""Notes of accompaniments and melodies, from a style's patterns and a chord progression.

All functions return notes as lists of (onset_q, duration_q, pitch, velocity 0..1) in quarters from the start of the
first bar, without swing; `swing` is applied to whole pieces.
"""

from itertools import pairwise

import numpy as np

from training.data.scorebook.harmony import MAJOR_SCALE, MINOR_SCALE, Chord, pitch_classes
from training.data.scorebook.instruments import Instrument
from training.data.scorebook.piece import bar_q, beat_q
from training.data.scorebook.styles import Style

STEP_Q = 0.25
_LANES = {
    "K": 36, "S": 38, "R": 37, "C": 39, "H": 42, "O": 46, "P": 44, "D": 51, "T": 54, "A": 70, "G": 62, "L": 64,
    "W": 76, "E": 75, "M": 41, "B": 45, "Y": 57,
}  # fmt: skip
_LEVELS = {"X": 1.0, "x": 0.8, "o": 0.5}
_SOFT_LANES = {"H": 0.75, "P": 0.8, "T": 0.75, "A": 0.8, "D": 0.85, "Y": 0.8, "O": 0.8}

Note = tuple[float, float, float, float]


def steps_of(patterns: tuple[str, ...], rng: np.random.Generator) -> str:
    """Draw one alternative."""
    return patterns[int(rng.integers(len(patterns)))]


def drum_notes(style: Style, meter: str, bars: int, rng: np.random.Generator, level: float) -> list[Note]:
    """Drums with rare ghost notes, a fill at the end of every second, fourth or eighth bar and a crash after it."""
    steps = int(bar_q(meter) / STEP_Q)
    lanes = {lane: steps_of(alternatives, rng) for lane, alternatives in style.drums[meter].items()}
    every = int(rng.choice([2, 4, 4, 8]))
    fills = rng.random() < 0.7 and style.drum_share > 0.5
    notes: list[Note] = []
    for bar in range(bars):
        fill_from = steps - int(rng.choice([2, 4, 4, 8])) if fills and (bar + 1) % every == 0 else steps
        fill_from = max(fill_from, steps // 2)
        for lane, pattern in lanes.items():
            for step in range(steps):
                mark = pattern[(bar * steps + step) % len(pattern)]
                if step >= fill_from and lane not in "KHT":
                    continue
                if mark == "." and lane in "KSG" and step % 2 and rng.random() < 0.02:
                    mark = "o"
                if mark in _LEVELS:
                    velocity = _LEVELS[mark] * _SOFT_LANES.get(lane, 1.0) * level * rng.uniform(0.92, 1.0)
                    notes.append(((bar * steps + step) * STEP_Q, 0.25, _LANES[lane], velocity))
        for step in range(fill_from, steps):
            if rng.random() < 0.75:
                pitch = (50, 47, 45, 41)[min(3, 4 * (step - fill_from) // max(1, steps - fill_from))]
                pitch = 38 if rng.random() < 0.35 else pitch
                notes.append(((bar * steps + step) * STEP_Q, 0.25, pitch, level * rng.uniform(0.6, 0.95)))
        if fills and bar and bar % every == 0:
            notes.append((bar * steps * STEP_Q, 1.0, 49, 0.75 * level))
    return notes


def light_percussion(meter: str, bars: int, rng: np.random.Generator, level: float) -> list[Note]:
    """A shaker, tambourine, woodblock or soft tom on the beats, to make the beat of a quiet piece audible."""
    unit_q, length_q = beat_q(meter), bar_q(meter)
    pitch = int(rng.choice([54, 70, 76, 41, 75, 37]))
    halves = unit_q == 1.0 and rng.random() < 0.5
    notes: list[Note] = []
    for k in range(round(bars * length_q / unit_q)):
        accent = 1.0 if (k * unit_q) % length_q < 1e-6 else 0.8
        notes.append((k * unit_q, 0.25, pitch, accent * level))
        if halves:
            notes.append((k * unit_q + 0.5, 0.25, pitch, 0.5 * level))
    return notes


def _near(pitch_class: int, centre: float) -> int:
    """The pitch of a pitch class that is nearest to a centre."""
    return int(pitch_class + 12 * round((centre - pitch_class) / 12.0))


def chord_at(chords: list[tuple[float, Chord]], onset_q: float) -> tuple[int, Chord]:
    """Index and chord that sound at a time; chords are (onset_q, chord) in order."""
    index = 0
    for k, (start, _) in enumerate(chords):
        if start <= onset_q + 1e-6:
            index = k
    return index, chords[index][1]


def bass_notes(
    style: Style, meter: str, bars: int, chords: list[tuple[float, Chord]], bass: Instrument, rng: np.random.Generator
) -> list[Note]:
    """A bass line by the style's pattern."""
    steps = int(bar_q(meter) / STEP_Q)
    pattern = steps_of(style.bass[meter], rng)
    centre = bass.low + 11.0 if bass.high < 62 else 45.0
    total = bars * steps
    marks = [(k, pattern[k % len(pattern)]) for k in range(total) if pattern[k % len(pattern)] != "."]
    notes: list[Note] = []
    for j, (step, mark) in enumerate(marks):
        if mark == "-":
            continue
        end = marks[j + 1][0] if j + 1 < len(marks) else total
        onset, length = step * STEP_Q, (end - step) * STEP_Q
        index, chord = chord_at(chords, onset)
        members = pitch_classes(chord)
        root = _near(members[0], centre)
        following = chords[index + 1][1] if index + 1 < len(chords) else chord
        changes = index + 1 < len(chords) and chords[index + 1][0] <= onset + length + 1e-6
        if (mark == "w" and changes) or mark == "a":
            pitch = _near(following[0], centre) + int(rng.choice([-1, 1, -2]))
        elif mark == "w":
            first = abs(onset - chords[index][0]) < 1e-6
            pitch = root if first else _near(members[int(rng.integers(len(members)))], centre + rng.uniform(-3.0, 6.0))
        else:
            third, fifth = (_near(member, root + 4.0) for member in members[1:3])
            pitch = {"r": root, "3": third, "5": fifth, "6": root + 9, "8": root + 12}[mark]
        while pitch < bass.low:
            pitch += 12
        notes.append((onset, max(0.1, length * style.gate), pitch, rng.uniform(0.72, 0.85) + 0.1 * (step % steps == 0)))
    return notes


def voicing(chord: Chord, centre: float, size: int) -> list[int]:
    """Pitches of a close chord round a centre."""
    members = list(pitch_classes(chord))
    if len(members) > size:
        members = [members[0], *members[-(size - 1) :]] if size > 1 else members[:1]
    return sorted({_near(p, centre + 0.01 * k) for k, p in enumerate(members)})


def comp_notes(
    style: Style, meter: str, bars: int, chords: list[tuple[float, Chord]], comp: Instrument,
    rng: np.random.Generator, pattern: str | None = None, centre: float | None = None,
) -> list[Note]:  # fmt: skip
    """Chords in the style's rhythm; `pattern` and `centre` override rhythm and register."""
    steps = int(bar_q(meter) / STEP_Q)
    pattern = pattern or steps_of(style.comp[meter], rng)
    centre = centre or float(np.clip(60.0 + rng.integers(-4, 5), comp.low + 8, comp.high - 8))
    total = bars * steps
    marks = [(k, pattern[k % len(pattern)]) for k in range(total) if pattern[k % len(pattern)] != "."]
    starts = {round(t / STEP_Q) for t, _ in chords}
    strum = 0.015 if comp.family == "guitar" else 0.0
    notes: list[Note] = []
    for j, (step, mark) in enumerate(marks):
        end = marks[j + 1][0] if j + 1 < len(marks) else total
        if mark == "-":
            continue
        held = sorted(s for s in starts if step < s < end)
        cuts = [step, *held, end] if mark == "o" else [step, min(end, step + 2)]
        for a, b in pairwise(cuts):
            _, chord = chord_at(chords, a * STEP_Q)
            level = rng.uniform(0.6, 0.72) + (0.12 if mark == "X" else 0.0)
            for k, pitch in enumerate(voicing(chord, centre, 4)):
                notes.append((a * STEP_Q + k * strum, (b - a) * STEP_Q * 0.92 - k * strum, pitch, level))
    return notes


def arpeggio_notes(
    meter: str, bars: int, chords: list[tuple[float, Chord]], player: Instrument, rng: np.random.Generator
) -> list[Note]:
    """Broken chords in even eighths or sixteenths."""
    step_q = 0.5 if beat_q(meter) == 1.5 or rng.random() < 0.6 else 0.25
    centre = float(np.clip(66.0, player.low + 10, player.high - 10))
    shape = [(0, 1, 2, 3), (0, 2, 1, 2), (3, 2, 1, 0), (0, 1, 2, 1), (0, 2, 3, 2)][int(rng.integers(5))]
    notes: list[Note] = []
    for k in range(round(bars * bar_q(meter) / step_q)):
        _, chord = chord_at(chords, k * step_q)
        tones = voicing(chord, centre, 3)
        tones.append(tones[0] + 12)
        accent = 0.1 if (k * step_q) % beat_q(meter) < 1e-6 else 0.0
        notes.append((k * step_q, step_q * 0.95, tones[shape[k % 4] % len(tones)], rng.uniform(0.55, 0.65) + accent))
    return notes


# Rhythms of one beat and their density, 0 to 1: lengths in sixteenths, negative for rests, by the beat in quarters.
_CELLS = {
    1.0: (
        ((4,), 0.3), ((2, 2), 0.5), ((3, 1), 0.55), ((1, 1, 2), 0.7), ((2, 1, 1), 0.7), ((1, 1, 1, 1), 0.95),
        ((-4,), 0.05), ((-2, 2), 0.4),
    ),
    1.5: (((6,), 0.3), ((4, 2), 0.45), ((2, 2, 2), 0.8), ((3, 1, 2), 0.7), ((-6,), 0.05), ((-2, 2, 2), 0.6)),
}  # fmt: skip


def melody_notes(
    style: Style, meter: str, bars: int, chords: list[tuple[float, Chord]], tonic: int, minor: bool,
    player: Instrument, rng: np.random.Generator,
) -> list[Note]:  # fmt: skip
    """A tune of two-bar phrases (a a' b a): chord tones on strong places, steps of the scale between."""
    unit_q, length_q = beat_q(meter), bar_q(meter)
    scale = [(tonic + s) % 12 for s in (MINOR_SCALE if minor else MAJOR_SCALE)]
    low, high = max(player.low + 2, 50), min(player.high - 2, 91)
    centre = float(np.clip(rng.normal(70.0, 4.0), low + 6, max(low + 6, high - 7)))
    ladder = [p for p in range(low, high + 1) if p % 12 in scale]
    beats = round(2 * length_q / unit_q)
    cells = _CELLS[unit_q]

    def phrase() -> list[tuple[int, ...]]:
        weights = np.array([np.exp(-((d - style.density) ** 2) / 0.08) for _, d in cells])
        return [cells[int(rng.choice(len(cells), p=weights / weights.sum()))][0] for _ in range(beats)]

    first, second = phrase(), phrase()
    form = [first, first, second, first] if rng.random() < 0.7 else [first, second, first, second]
    contours = {id(first): rng.integers(-2, 3, size=64), id(second): rng.integers(-2, 3, size=64)}
    place = int(np.argmin(np.abs(np.array(ladder) - centre)))
    notes: list[Note] = []
    for number in range((bars + 1) // 2):
        rhythm = form[number % 4]
        contour, count, onset = contours[id(rhythm)], 0, number * 2 * length_q
        for beat, cell in enumerate(rhythm):
            for length in cell:
                span = abs(length) * STEP_Q
                if length > 0 and onset < bars * length_q - 1e-6:
                    place += int(contour[count % 64]) + round(float(centre - ladder[place]) / 9.0)
                    place = int(np.clip(place, 0, len(ladder) - 1))
                    pitch, members = ladder[place], pitch_classes(chord_at(chords, onset)[1])
                    if span >= 0.75 or abs(onset / unit_q - round(onset / unit_q)) < 1e-6:
                        pitch = min((_near(m, pitch) for m in members), key=lambda p: abs(p - ladder[place]))
                    last = beat == len(rhythm) - 1
                    notes.append((onset, span * (0.85 if last else 0.95), pitch, rng.uniform(0.75, 0.9)))
                    count += 1
                onset += span
    return notes


def swing(onset_q: np.ndarray, style: Style, meter: str) -> np.ndarray:
    """Delay the offbeats of onsets; beats stay where they are. Compound meters do not swing."""
    if meter == "6/8":
        return onset_q
    for unit, ratio in ((1.0, style.swing), (0.5, style.swing16)):
        if ratio != 0.5:
            base = np.floor(onset_q / unit + 1e-9) * unit
            share = (onset_q - base) / unit
            onset_q = base + unit * np.where(
                share < 0.5, share * ratio * 2.0, ratio + (share - 0.5) * 2.0 * (1.0 - ratio)
            )
    return onset_q
