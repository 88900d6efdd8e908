"""Scores <-> the tokens of `ComposerVivace`."""

from collections.abc import Sequence

import numpy as np
import torch

from .composer_vivace import (
    COLUMNS,
    FIRST_PITCH,
    HOLD,
    LOWEST_PITCH,
    MAX_STEPS_PER_BAR,
    NAMES,
    QUALITIES,
    ROLE_COLUMNS,
    SIZES,
    STEPS_PER_QUARTER,
)
from .vivace_score import ROLES, Score, Track, quarters_per_bar
from .vivace_theory import KEYS, PITCH_CLASSES, parse_key, parse_time_signature, read_progression

QUALITY_NAMES = tuple(QUALITIES)
# General MIDI drum keys of each lane; the first key of a token is the one that is played.
LANES = {
    "kick": ((36, 35),),
    "snare": ((38, 40), (37,), (39,)),
    "cymbal": ((42, 44), (46,), (51, 53, 59), (49, 52, 55, 57)),
    "percussion": ((43, 41, 45), (48, 47, 50), (70, 54, 69, 82), (76,)),
}
# Velocities, which are no tokens: as on average in the training clips, in proportion to each other. Of pitched roles
# and drum keys on a beat that begins no bar, and the factors of the beginning of a bar, a beat, an eighth and a 16th.
LEVELS = {"lead": 0.78, "harmony": 0.58, "bass": 0.74}
KEY_LEVELS = {36: 0.66, 38: 0.56, 37: 0.5, 39: 0.7, 42: 0.36, 46: 0.57, 51: 0.42, 49: 0.59, 43: 0.56, 48: 0.57,
              70: 0.36, 76: 0.36}  # fmt: skip
ACCENTS = {"lead": (1.03, 1.0, 0.98, 0.97), "harmony": (1.03, 1.0, 0.98, 0.97), "bass": (1.2, 1.0, 1.02, 0.94),
           "drums": (1.13, 1.0, 0.93, 0.87)}  # fmt: skip
KEY_OF_LANE = {
    key: (lane, token) for lane, tokens in LANES.items() for token, keys in enumerate(tokens, start=1) for key in keys
}


def steps_per_bar(time_signature: str) -> int:
    """16ths in a bar.

    Raises:
        ValueError: if it is odd or above `MAX_STEPS_PER_BAR`, which the composer cannot do with.
    """
    steps = quarters_per_bar(time_signature) * STEPS_PER_QUARTER
    if steps.denominator != 1 or steps % 2 or steps > MAX_STEPS_PER_BAR:
        raise ValueError(f"time_signature is {time_signature!r}; the composer allows bars of whole eighths, up to 15/4")
    return int(steps)


def key_shift(key: str | None) -> int:
    """Semitones, -6 to 5, that bring the tonic of a key to C."""
    tonic = 0 if key is None else KEYS.index(parse_key(key)) // 2
    return (-tonic + 6) % 12 - 6


def chord_token(chroma: np.ndarray, root: int, shift: int) -> int:
    """Token of the chord quality nearest to a chroma (12,) of 0 and 1 with its root (pitch class), moved by a shift."""
    if not chroma.any():
        return 0
    notes = {int(pitch - root) % 12 for pitch in np.nonzero(chroma)[0]}
    fits = [len(notes & set(steps)) - 0.6 * len(notes ^ set(steps)) for steps in QUALITIES.values()]
    return 1 + (root + shift) % 12 * len(QUALITIES) + int(np.argmax(fits))


def chord_name(token: int, shift: int) -> str:
    """Symbol of a chord token in the key from which `shift` led to C; "N" for none."""
    if token == 0:
        return "N"
    root, quality = divmod(token - 1, len(QUALITIES))
    return PITCH_CLASSES[(root - shift) % 12] + QUALITY_NAMES[quality]


def _slot(position: float, triplet: bool) -> int:
    """The step within a quarter that is nearest to a position of 0 to 1; 4 = the next quarter."""
    nearest = round(position * (3 if triplet else 4))
    return 4 if triplet and nearest == 3 else nearest


def encode_score(score: Score, chords: Sequence[tuple[float, int]] | None = None) -> torch.Tensor:
    """Tokens (steps, columns) of a score in whole bars, moved to C.

    Args:
        score: with a key, else it is taken to be in C.
        chords: (onset in quarters, token of the moved chord) in order; None = those of the score, or masked if it has
            none.
    """
    bar = steps_per_bar(score.time_signature)
    total, shift = (score.bars or 1) * bar, key_shift(score.key)
    grid = np.zeros((total, len(NAMES)), dtype=np.int64)
    quarter = np.arange(total) % bar // STEPS_PER_QUARTER  # within its bar
    starts = np.flatnonzero(np.diff(np.arange(total) // bar * 1000 + quarter, prepend=-1))  # first step of each quarter
    group = np.searchsorted(starts, np.arange(total), side="right") - 1
    begin_q = starts / STEPS_PER_QUARTER
    onsets = score.notes()[:, 0]
    where = np.minimum(np.searchsorted(begin_q, onsets + 1e-6, side="right") - 1, len(starts) - 1)
    place = onsets - begin_q[where]
    straight, triplet = (abs(place * n - np.round(place * n)) / n for n in (4, 3))
    gain = np.bincount(where, weights=straight - triplet, minlength=len(starts))
    whole = np.diff(np.append(starts, total)) == STEPS_PER_QUARTER
    is_triplet = (gain > 0.04) & whole
    grid[:, NAMES.index("feel")] = is_triplet[group]

    def step_of(time: float) -> int:
        index = min(int(np.searchsorted(begin_q, time + 1e-6, side="right")) - 1, len(starts) - 1)
        return int(starts[index]) + _slot(time - begin_q[index], bool(is_triplet[index]))

    if chords is None and score.chords is not None:
        chords = progression_tokens(score, shift)
    if chords is None:
        grid[:, 0] = SIZES[0]
    else:
        for onset, token in chords:
            grid[max(step_of(onset), 0) :, 0] = token
    for role in ("lead", "harmony", "bass"):
        notes = score.notes(role)
        order = np.lexsort((notes[:, 2] if role == "bass" else -notes[:, 2], notes[:, 0]))
        columns = [NAMES.index(name) for name in ROLE_COLUMNS[role]]
        lines: list[list[tuple[int, int, int]]] = [[] for _ in columns]  # first step, last step, token
        for onset, duration, pitch, _ in notes[order]:
            first = step_of(onset)
            if first >= total:
                continue
            last = min(max(step_of(onset + duration), first + 1), total)
            name = ROLE_COLUMNS[role][0]
            low, count = LOWEST_PITCH[name], COLUMNS[name] - FIRST_PITCH
            pitch = int(pitch) + shift
            while pitch < low:
                pitch += 12
            while pitch >= low + count:
                pitch -= 12
            token = pitch - low + FIRST_PITCH
            free = [k for k, line in enumerate(lines) if not line or line[-1][1] <= first]
            if any(line and line[-1][0] == first and line[-1][2] == token for line in lines):
                continue
            if free:  # the voice that is nearest in pitch goes on
                k = min(free, key=lambda k: abs(lines[k][-1][2] - token) if lines[k] else 6)
            else:
                cut = [k for k, line in enumerate(lines) if line[-1][0] < first]
                if not cut:
                    continue
                k = min(cut, key=lambda k: lines[k][-1][0])
                lines[k][-1] = (lines[k][-1][0], first, lines[k][-1][2])
            lines[k].append((first, last, token))
        for column, line in zip(columns, lines, strict=True):
            for first, last, token in line:
                grid[first, column] = token
                grid[first + 1 : last, column] = HOLD
    for onset, _, pitch, _ in score.notes("drums"):
        step = step_of(onset)
        if step < total:
            lane, token = KEY_OF_LANE.get(int(pitch), ("percussion", 4))
            column = NAMES.index(lane)
            grid[step, column] = max(grid[step, column], token)
    return torch.from_numpy(grid)


def progression_tokens(score: Score, shift: int) -> list[tuple[float, int]]:
    """(onset in quarters, chord token) of a score's chords, repeated to its end."""
    beats = parse_time_signature(score.time_signature)
    beat_q = float(quarters_per_bar(score.time_signature)) / beats
    line = read_progression(score.chords or "", beats)
    tokens, beat, k = [], 0, 0
    while beat < (score.bars or 1) * beats:
        chord, count = line[k % len(line)]
        tokens.append((beat * beat_q, chord_token(chord.chroma, chord.root or 0, shift)))
        beat, k = beat + count, k + 1
    return tokens


def step_times(tokens: torch.Tensor, bar: int) -> np.ndarray:
    """Time in quarters of each step, (steps + 1,); the fourth step of a triplet quarter is the next quarter."""
    steps = len(tokens)
    number = np.arange(steps + 1)
    within = number % bar % STEPS_PER_QUARTER
    feel = np.append(tokens[:, NAMES.index("feel")].numpy(), 0)
    first = number - within
    triplet = feel[np.minimum(first, steps)] == 1
    return first / STEPS_PER_QUARTER + np.where(triplet, np.minimum(within, 3) / 3.0, within / STEPS_PER_QUARTER)


def decode_tokens(
    tokens: torch.Tensor, time_signature: str, key: str | None, bpm: float, instruments: dict[str, str | None]
) -> Score:
    """The score of tokens (steps, columns) without masks.

    Velocities follow the role, the drum and the meter: see `LEVELS`.

    Args:
        tokens: of whole bars.
        time_signature, key, bpm: of the score.
        instruments: what plays lead, harmony and bass.
    """
    bar, shift = steps_per_bar(time_signature), key_shift(key)
    times = step_times(tokens, bar)
    beat = bar / parse_time_signature(time_signature)
    within = np.arange(len(tokens)) % bar
    place = np.where(within == 0, 0, np.where(within % beat == 0, 1, np.where(within % 2 == 0, 2, 3)))
    rows: dict[str, list[tuple[float, float, int, float]]] = {role: [] for role in ROLES}
    for role in ("lead", "harmony", "bass"):
        level = LEVELS[role] * np.array(ACCENTS[role])[place]
        for name in ROLE_COLUMNS[role]:
            line = tokens[:, NAMES.index(name)].numpy()
            for step in np.flatnonzero(line >= FIRST_PITCH):
                end = step + 1
                while end < len(line) and line[end] == HOLD:
                    end += 1
                pitch = int(line[step]) - FIRST_PITCH + LOWEST_PITCH[name] - shift
                length = times[end] - times[step]
                if length > 1e-6:
                    rows[role].append((times[step], length * (0.95 if length > 0.3 else 1.0), pitch, level[step]))
    for lane, keys in LANES.items():
        line = tokens[:, NAMES.index(lane)].numpy()
        for step in np.flatnonzero((line > 0) & (np.diff(times) > 0)):  # the fourth step of a triplet has no length
            key_number = keys[int(line[step]) - 1][0]
            velocity = KEY_LEVELS[key_number] * ACCENTS["drums"][place[step]]
            rows["drums"].append((times[step], 0.125, key_number, velocity))
    tracks = [Track(role, np.asarray(rows[role]), instruments.get(role)) for role in ROLES if rows[role]]
    chords = chords_of(tokens, time_signature, shift)
    return Score(tuple(tracks), bpm, time_signature, len(tokens) // bar, key, chords)


def chords_of(tokens: torch.Tensor, time_signature: str, shift: int) -> str | None:
    """The chord column as a progression of symbols with beats, "Am F:2 C:2"; None if there is none."""
    beats, bar = parse_time_signature(time_signature), steps_per_bar(time_signature)
    count = len(tokens) // bar * beats
    column = tokens[:, 0].numpy()
    names = [chord_name(int(column[round(k * bar / beats)]), shift) for k in range(count)]
    if set(names) == {"N"}:
        return None
    runs: list[list] = []
    for k, name in enumerate(names):
        if runs and runs[-1][0] == name and (k % beats or runs[-1][1] % beats):
            runs[-1][1] += 1
        else:
            runs.append([name, 1])
    return " ".join(name if length == beats else f"{name}:{length}" for name, length in runs)


def chord_classes(token: int) -> list[int]:
    """Pitch classes in C of a chord token, root first."""
    if token == 0:
        return list(range(12))
    root, quality = divmod(token - 1, len(QUALITIES))
    return [(root + step) % 12 for step in QUALITIES[QUALITY_NAMES[quality]]]
