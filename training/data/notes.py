"""Notes of clips: from the columns `parts` and `notes` of a row to arrays in a shard of latents, and to note rolls.

A row's `parts` lists {role, instrument, program}; its `notes` holds five lists of equal length: `part` (index into
`parts`), `onset_s` (from the start of the clip; negative for a note that rings in), `duration_s`, `pitch` (of drums the
General MIDI key) and `velocity` (0 to 1). A row in which one of the two is null or missing has unknown notes. A role
that no part has is silent in the clip.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from pipelines.vivace_process import PITCH_COUNT, PITCHED, ROLL_CHANNELS, STATE_CHANNELS, events_roll
from pipelines.vivace_score import ROLES, TICKS, Score, Track, quarters_per_bar
from training.config import LatentRun

FIELDS = ("part", "onset_s", "duration_s", "pitch", "velocity")
UNBARRED_S = 2.0  # length of a "bar" of clips whose bars are unknown


def role_channels(role: str) -> list[int]:
    """The channels of a note roll that belong to a role, its states last; where all are 0, the role is free.

    Raises:
        ValueError: an unknown role.
    """
    if role not in ROLES:
        raise ValueError(f"role is {role!r}; allowed: {', '.join(ROLES)}")
    place, drums = ROLES.index(role), 2 * PITCH_COUNT * len(PITCHED)
    first, last = drums, ROLL_CHANNELS - STATE_CHANNELS
    if role != "drums":
        first, last = 2 * PITCH_COUNT * place, 2 * PITCH_COUNT * (place + 1)
    state = ROLL_CHANNELS - STATE_CHANNELS + 2 * place
    return [*range(first, last), state, state + 1]


def has_notes(row: dict) -> bool:
    """Whether a row states its notes; it may state that there are none."""
    return row.get("parts") is not None and row.get("notes") is not None


def note_rows(row: dict) -> np.ndarray:
    """Notes of a row as (n, 5) float32: the columns `FIELDS`; none where they are unknown. Raises a ValueError that
    names the clip, and what of its parts or notes does not fit."""
    if not has_notes(row):
        return np.zeros((0, len(FIELDS)), dtype=np.float32)
    name = row.get("file_name")
    missing = [field for field in FIELDS if row["notes"].get(field) is None]
    if missing:
        raise ValueError(f"notes of {name} lack {missing[0]}; needed: {', '.join(FIELDS)}")
    if len({len(row["notes"][field]) for field in FIELDS}) > 1:
        sizes = ", ".join(f"{len(row['notes'][field])} of {field}" for field in FIELDS)
        raise ValueError(f"notes of {name} are lists of unequal length: {sizes}")
    for part in row["parts"]:
        if part.get("role") not in ROLES:
            raise ValueError(f"parts of {name} has the role {part.get('role')!r}; allowed: {', '.join(ROLES)}")
    values = np.array([row["notes"][field] for field in FIELDS], dtype=np.float32).reshape(len(FIELDS), -1).T
    part, _, duration, pitch, velocity = values.T
    for what, bad, allowed in (
        ("a number that is not finite", ~np.isfinite(values).all(axis=1), "finite ones"),
        ("a part outside the list", (part < 0) | (part >= len(row["parts"])), f"0 to {len(row['parts']) - 1}"),
        ("a negative duration", duration < 0, "0 s or longer"),
        ("a pitch outside MIDI", (pitch < 0) | (pitch > 127), "0 to 127"),
        ("a velocity out of range", (velocity < 0) | (velocity > 1), "0 to 1"),
    ):
        if bad.any():
            raise ValueError(f"notes of {name} have {what} at place {int(bad.argmax())}; allowed: {allowed}")
    return np.ascontiguousarray(values)


def notes_by_role(row: dict, values: np.ndarray) -> dict[str, np.ndarray]:
    """Notes of each role, (n, 4): onset and end in seconds, pitch and velocity, from the parts of a row and
    `note_rows`. What rings over the end of a loop also sounds at its beginning. A role that no part has is empty."""
    part, onset, duration, pitch, velocity = values.T.astype(np.float64)
    events = np.column_stack([onset, onset + duration, pitch, velocity])
    if row.get("loop") and row.get("duration_s"):
        over = events[events[:, 1] > row["duration_s"]] - np.array([row["duration_s"], row["duration_s"], 0.0, 0.0])
        events, part = np.concatenate([over, events]), np.concatenate([part[events[:, 1] > row["duration_s"]], part])
    roles = np.array([ROLES.index(entry["role"]) for entry in row["parts"]], dtype=int)
    role_of = roles[part.astype(int)] if len(part) else np.zeros(0, dtype=int)
    return {role: events[role_of == place] for place, role in enumerate(ROLES)}


def instruments_by_role(row: dict, values: np.ndarray) -> dict[str, str | None]:
    """What plays each role; of several parts that share one, the instrument with the most sound."""
    weight: dict[str, dict[str, float]] = {role: {} for role in ROLES}
    for number, part in enumerate(row["parts"]):
        own = values[values[:, 0] == number]
        if part.get("instrument"):
            sums = weight[part["role"]]
            sums[part["instrument"]] = sums.get(part["instrument"], 0.0) + float((own[:, 2] * own[:, 4]).sum())
    return {role: max(sums, key=lambda name: sums[name]) if sums else None for role, sums in weight.items()}


def score_of(row: dict, bars: int, time_signature: str, chords: str | None = None) -> Score:
    """The first `bars` whole bars of a clip as a score, from its first downbeat on; notes that ring in are left out.
    `chords` are those of these bars, as the pipeline takes them."""
    score = Score((), row["bpm"], time_signature, bars, row.get("key"), chords)
    end = bars * float(quarters_per_bar(time_signature))
    part, onset, duration, pitch, velocity = note_rows(row).T.astype(np.float64)
    begin, length = (onset - row["downbeat_s"]) / score.quarter_s, duration / score.quarter_s
    begin[np.abs(begin) < 1.0 / TICKS] = 0.0
    notes = np.column_stack([begin, np.minimum(length, end - begin), pitch, velocity])
    inside = (begin >= 0.0) & (begin < end - 1.0 / TICKS)
    tracks = [
        Track(entry["role"], notes[inside & (part == number)], entry.get("instrument"))
        for number, entry in enumerate(row["parts"])
    ]
    return replace(score, tracks=tuple(tracks))


def frames_roll(notes: dict[str, np.ndarray] | None, offset: int, frames: int, frame_rate: float) -> torch.Tensor:
    """The note roll (`ROLL_CHANNELS`, frames) of a crop that begins `offset` frames after the clip; None: all free."""
    moved = {}
    for role, events in (notes or {}).items():
        moved[role] = events.copy()
        moved[role][:, :2] = events[:, :2] * frame_rate - offset
    return events_roll(moved, frames)


def instrument_index(names: dict[str, str | None] | None, instruments: Sequence[str]) -> torch.Tensor:
    """Place of each role's instrument in a network's list, long (4,); -1 = unknown, or not in the list."""
    places = [(names or {}).get(role) for role in ROLES]
    return torch.tensor([instruments.index(name) if name in instruments else -1 for name in places])


def bar_numbers(row: dict, offset: int, frames: int, frame_rate: float) -> np.ndarray:
    """Which bar each frame of a crop lies in, (frames,) int; of two seconds each where bars are unknown."""
    start, bar_s = 0.0, UNBARRED_S
    if row.get("bpm") and row.get("beats_per_bar") and row.get("downbeat_s") is not None:
        start, bar_s = row["downbeat_s"], 60.0 / row["bpm"] * row["beats_per_bar"]
    return np.floor(((np.arange(frames) + offset + 0.5) / frame_rate - start) / bar_s).astype(int)


def some_roles(rng: np.random.Generator) -> list[str]:
    """Each role with probability one half."""
    return [role for role, drawn in zip(ROLES, rng.random(len(ROLES)) < 0.5, strict=True) if drawn]


def drop_notes(
    item: dict[str, torch.Tensor], bars: np.ndarray, config: LatentRun, drop_all: bool, rng: np.random.Generator
) -> None:
    """Leave roles of an item free, in place: all of them, some, or all or some in a span of bars.

    The item has `note_roll` (channels, frames) and `role_instruments` (4,); `bars` are from `bar_numbers`, for the
    visible frames; `drop_all` says whether the item has no conditions at all.
    """
    roll, instruments = item["note_roll"], item["role_instruments"]
    if rng.random() < config.note_dropout or drop_all:
        dropped = list(ROLES)
    else:
        dropped = some_roles(rng) if rng.random() < config.role_dropout else []
    for role in dropped:
        roll[role_channels(role)] = 0.0
        instruments[ROLES.index(role)] = -1
    if config.velocity_spread:
        for role, power in zip(ROLES, rng.uniform(-1.0, 1.0, len(ROLES)), strict=True):
            roll[role_channels(role)[:-2]] *= 2.0 ** (config.velocity_spread * power)
    if rng.random() < config.span_dropout:
        first, last = sorted(rng.integers(bars.min(), bars.max() + 1, size=2))
        span = np.flatnonzero((bars >= first) & (bars <= last))
        for role in ROLES if rng.random() < 0.5 else some_roles(rng):
            roll[np.ix_(role_channels(role), span)] = 0.0
    unknown = torch.from_numpy(rng.random(len(ROLES)) < config.instrument_dropout)
    instruments[unknown] = -1
