"""The notes of a piece on their way to the browser, which draws them as a piano roll, and back."""

import math
from dataclasses import replace

from pipelines.pipeline_vivace import KEYS, ROLES, Score, Track, parse_time_signature
from pipelines.scores import LONGEST
from pipelines.vivace_files import find_recipe
from pipelines.vivace_process import DRUM_CLASSES
from pipelines.vivace_request import recipe_grid
from pipelines.vivace_score import TICKS, as_integers, quarters_per_bar, slice_chords
from pipelines.vivace_theory import read_progression, read_symbols

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


def chords_by_bar(score: Score) -> list[str]:
    """What of a score's chords sounds in each bar, as `read_bar` reads it; "" where none is known."""
    beats, texts = parse_time_signature(score.time_signature), []
    for bar in range(score.bars):
        text = slice_chords(score.chords, beats, bar * beats, (bar + 1) * beats) or ""
        names, counts = zip(*read_symbols(text, beats), strict=True) if text else ((), ())
        equal = len(set(counts)) == 1 and not any(":" in name for name in names)
        texts.append(" ".join(names) if equal else text)
    return texts


def read_bar(text: str, beats: int) -> list[tuple[str, int]]:
    """Each chord of a bar and its beats: "Dm7"; "Dm7 G7", which share the bar; "Dm7:3 G7:1".

    Raises:
        ValueError: what is no chord, or chords that do not fill the bar.
    """
    bare = text.split()
    if len(bare) > 1 and beats % len(bare) == 0 and not any(":" in symbol for symbol in bare):
        text = " ".join(f"{symbol}:{beats // len(bare)}" for symbol in bare)
    symbols = read_symbols(text, beats)
    read_progression(text, beats)
    if sum(count for _, count in symbols) != beats:
        raise ValueError(f"{text!r} does not fill the {beats} beats of the bar; allowed: as in 'Dm7', or 'Dm7:1 G7:1'")
    return symbols


def read_bars(texts: object, score: Score) -> tuple[str | None, list[int]]:
    """The progression that a browser sends in place of a score's, and the bars, from 0, in which it is another one.

    Args:
        texts: of each bar, see `read_bar`; an empty one goes on with the chord before it.
        score: that has the chords so far.

    Raises:
        ValueError: no such list, or a bar that cannot be read.
    """
    if not isinstance(texts, list) or len(texts) != score.bars or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"chord lane: {shown(texts)}; allowed: a text for each of the {score.bars} bars")
    before = chords_by_bar(score)
    changed = [bar for bar, (old, new) in enumerate(zip(before, texts, strict=True)) if old != new.strip()]
    if not changed:
        return score.chords, []
    beats, line = parse_time_signature(score.time_signature), []
    for bar, text in enumerate(texts):
        try:
            line += read_bar(text, beats) if text.strip() else [(line[-1][0] if line else "N", beats)]
        except ValueError as error:
            raise ValueError(f"chord lane, bar {bar + 1}: {error}") from error
    return (None if not any(texts) else " ".join(f"{symbol}:{count}" for symbol, count in line)), changed


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
        "beat": float(bar / parse_time_signature(score.time_signature)), "chords": chords_by_bar(score), "scale": scale,
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
