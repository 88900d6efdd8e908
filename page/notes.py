"""The notes of a piece on their way to the browser, which draws them as a piano roll, and back."""

import math
from dataclasses import replace

from pipelines.pipeline_vivace import KEYS, ROLES, Score, Track, parse_time_signature
from pipelines.scores import LONGEST
from pipelines.vivace_edit import recipe_grid
from pipelines.vivace_recipe import find_recipe
from pipelines.vivace_score import DRUM_CLASSES, TICKS, as_integers, quarters_per_bar
from pipelines.vivace_theory import read_symbols

from .request import shown
from .sessions import Take

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}  # semitones above the tonic
MAX_SENT = 10_000  # notes of a piece that a browser may send


def notes_of(take: Take) -> tuple[Score, float] | None:
    """The score that a piece plays and the time in seconds at which it begins, by the recipe in its file; None where
    the notes are not known."""
    try:
        grid = recipe_grid(find_recipe(take.path), take.seconds, LONGEST)
    except (ValueError, RecursionError):  # a recipe that cannot be read
        return None
    return (grid["score"], float(grid["downbeat_s"])) if "score" in grid else None


def chord_line(score: Score) -> list[list]:
    """[symbol, beat on which it begins] of each chord of a score, to its end."""
    per_bar, line, beat = parse_time_signature(score.time_signature), [], 0
    symbols = read_symbols(score.chords, per_bar) if score.chords else []
    while symbols and beat < score.bars * per_bar:
        for symbol, count in symbols:
            line.append([symbol, beat])
            beat += count
    return [entry for entry in line if entry[1] < score.bars * per_bar]


def roll_value(take: Take) -> dict | None:
    """What the piano roll is given of a piece; None where its notes are not known.

    Times are in ticks of 1/960 quarter from the first bar on; a note is [onset, duration, pitch, velocity up to 127].
    """
    found = notes_of(take)
    if found is None:
        return None
    score, downbeat_s = found
    bar, scale = quarters_per_bar(score.time_signature) * TICKS, None
    if score.key:
        scale = [(KEYS.index(score.key) // 2 + step) % 12 for step in SCALES[score.key.split()[1]]]
    return {
        "downbeat_s": downbeat_s, "tick_s": score.quarter_s / TICKS, "bars": score.bars, "bar": float(bar),
        "beat": float(bar / parse_time_signature(score.time_signature)), "chords": chord_line(score), "scale": scale,
        "drums": [[name, *keys] for name, keys in DRUM_CLASSES.items()],
        "tracks": [
            {"role": track.role, "instrument": track.instrument, "notes": as_integers(track.notes).tolist()}
            for track in score.tracks
        ],
    }  # fmt: skip


def read_notes(score: Score, tracks: object) -> Score:
    """A score with the notes that a browser sends in place of its own.

    Args:
        score: that `roll_value` was made of; tempo, meter, length, key, chords and instruments stay.
        tracks: {"role", "notes"} each, in the order of the score's tracks; after those may come one for each role that
            the score does not have.

    Raises:
        ValueError: anything else, or notes that are none.
    """
    if not isinstance(tracks, list) or not len(score.tracks) <= len(tracks) <= len(score.tracks) + len(ROLES):
        raise ValueError(f"notes is {shown(tracks)}; allowed: those of the piano roll")
    made, count = [], 0
    for place, sent in enumerate(tracks):
        own = score.tracks[place] if place < len(score.tracks) else None
        role, notes = (sent.get("role"), sent.get("notes")) if isinstance(sent, dict) else (None, None)
        if not isinstance(role, str) or not isinstance(notes, list) or (own is not None and role != own.role):
            raise ValueError(f"notes has the track {shown(sent)}; allowed: those of the piano roll")
        count += len(notes)
        for note in notes[: MAX_SENT + 1]:
            if not isinstance(note, list) or len(note) != 4 or not all(isinstance(v, (int, float)) for v in note):
                raise ValueError(f"notes has {shown(note)}; allowed: onset, duration, pitch and velocity")
        if count > MAX_SENT:
            raise ValueError(f"notes has more than {MAX_SENT}; allowed: up to that")
        rows = [(onset / TICKS, duration / TICKS, pitch, velocity / 127) for onset, duration, pitch, velocity in notes]
        made.append(Track(role, rows, None if own is None else own.instrument))
    changed = replace(score, tracks=tuple(made))
    if not changed.tracks:
        raise ValueError("notes is empty; at least one note is needed")
    return changed


def bars_in(score: Score, downbeat_s: float, region: list[float] | None) -> tuple[int, int]:
    """The bars (first, last) of a score, counted from 0 and without the last, that a region in seconds touches.

    Raises:
        ValueError: no region, or one before or behind the score.
    """
    if region is None:
        raise ValueError("no bars are chosen; drag over the waveform to choose them")
    bar_s = float(quarters_per_bar(score.time_signature)) * score.quarter_s
    first, last = ((seconds - downbeat_s) / bar_s for seconds in region)
    bars = max(0, math.floor(first + 0.05)), min(score.bars, math.ceil(last - 0.05))
    if bars[0] >= bars[1]:
        raise ValueError(f"the region from {region[0]:g} to {region[1]:g} s has no bar of the piece's notes")
    return bars
