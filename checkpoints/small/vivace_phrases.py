"""What comes back in a composed piece, and how its phrases close."""

from dataclasses import dataclass

import numpy as np
import torch

from .composer_vivace import (
    COLUMNS,
    FIRST_PITCH,
    HOLD,
    LOWEST_PITCH,
    NAMES,
    QUALITIES,
    ROLE_COLUMNS,
    SIZES,
)

# How often the lead of two bars is that of so many bars before, where the chords are the same: counted in real scores.
RETURNS = {2: 0.1, 4: 0.4, 8: 0.45, 12: 0.55, 16: 0.9}
RETURN_BARS = 2
TUNE_BARS = 16  # after which a tune closes
UNKNOWN_FIT = 0.7  # in place of the share of chords that are the same, where none are given
RECALL = 4.0  # added to the logits of what stands there
# How often an accompaniment's figure has two bars, how many of its bars are free at most, and how often eight bars
# begin a new one; how often a bar of the lead has the rhythm of an earlier one.
TWO_BARS, FREE_BARS, NEW_FIGURE, RHYTHMS = 0.4, 0.3, 0.2, 0.5
CADENCE = 2.0  # added to the logits of what closes a phrase
TONIC_NOTES = {0: (0, 4, 7), 1: (0, 3, 7)}  # of the tonic chord in C, by `minor` of the conditions
LEAD = NAMES.index("lead")
ACCOMPANIMENT = tuple(NAMES.index(name) for role in ("harmony", "bass", "drums") for name in ROLE_COLUMNS[role])
MASKS = torch.tensor(SIZES)  # the token that stands for a masked one, of each column
PITCH_CLASSES_OF = {
    name: (np.arange(COLUMNS[name] - FIRST_PITCH) + LOWEST_PITCH[name]) % 12 for name in LOWEST_PITCH
}  # of each pitched column's tokens from `FIRST_PITCH` on


@dataclass
class Draft:
    """A piece that is being written, in tokens.

    Attributes:
        tokens: (steps, columns), a masked token where the composer writes.
        bar: steps in a bar.
        beats: beats in a bar.
        conditions: of the network, for one piece.
        classes: (steps, 12) bool, pitch classes in C that the given chords allow; all True where none is given.
        bass: (steps,) pitch class in C that the bass must begin with, -1 = any.
        changes: (steps,) bool, where a given chord begins.
        bass_plays: the bass may not be silent where it must begin.
        sources: (bars,) the bar that each is made like, -1 = none; see `choose_sources`.
        figures: (bars,) of bars that are made like none: the bar whose accompaniment that of each is made like, -1 =
            none; see `choose_figures`.
        rhythms: (bars,) the same for the rhythm of the lead.
        to_end: (bars,) bars to the end of the tune, 0 in its last one, -1 = it has none; see `ends_of`.
    """

    tokens: torch.Tensor
    bar: int
    beats: int
    conditions: dict[str, torch.Tensor]
    classes: np.ndarray
    bass: np.ndarray
    changes: np.ndarray
    bass_plays: bool
    sources: np.ndarray
    figures: np.ndarray
    rhythms: np.ndarray
    to_end: np.ndarray


def ends_of(bars: int, loop: bool = False) -> np.ndarray:
    """For each of so many bars, in how many bars a tune ends: every sixteenth bar may be the last; a loop has none."""
    return np.full(bars, -1) if loop else TUNE_BARS - 1 - np.arange(bars) % TUNE_BARS


def choose_sources(draft: Draft, start: int, bars: int, seed: int) -> None:
    """Choose for the bars from `start` on, two by two, which earlier ones they are made like, if any; in place.

    Bars are as likely to return as in real scores, those with the same given chords and notes more likely than others.
    """
    rng = np.random.default_rng(seed)
    for first in range(start, start + bars, RETURN_BARS):
        last = min(first + RETURN_BARS, start + bars)
        distance = choose_distance(draft, start, first, last, rng.random(2))
        for bar in range(first, last):
            if distance is None or draft.to_end[bar] == 0:
                continue  # a close is new
            source = draft.sources[bar - distance]
            draft.sources[bar] = source if source >= start else bar - distance


def choose_distance(draft: Draft, start: int, first: int, last: int, draws: np.ndarray) -> int | None:
    """How many bars before them, but not before `start`, bars [first, last) find what they are made like; None = they
    are new. `draws` are two random numbers of 0 to 1."""
    far = [distance for distance in RETURNS if first - distance >= start]
    here = draft.tokens[first * draft.bar : last * draft.bar]
    fit = []
    for distance in far:
        there = draft.tokens[(first - distance) * draft.bar : (last - distance) * draft.bar]
        given = (here != MASKS) & (there != MASKS) & (here + there > 0)
        fit.append(float((here == there)[given].float().mean()) if given.any() else UNKNOWN_FIT)
    shares = np.array([RETURNS[distance] for distance in far]) * fit
    if draws[0] >= 1.0 - (1.0 - shares).prod():
        return None
    return far[int(np.searchsorted(shares.cumsum() / shares.sum(), draws[1], side="right"))]


def choose_figures(draft: Draft, start: int, bars: int, seed: int) -> None:
    """Choose for the bars from `start` on whose accompaniment, and whose rhythm of the lead, they take over, if any; in
    place. An accompaniment is a figure of one or two bars that goes on, with free bars, more of them at the ends of
    phrases; how free it is, the seed draws."""
    rng = np.random.default_rng(seed)
    length, free = 1 + int(rng.random() < TWO_BARS), FREE_BARS * rng.random()
    origin = start
    for bar in range(start, start + bars):
        draws = rng.random(3)
        if (bar - start) % 8 == 0 and draws[0] < NEW_FIGURE:
            origin = bar
        like = origin + (bar - origin) % length
        if like < bar and draws[1] >= free * (2 if (bar - start) % 4 == 3 else 1):
            draft.figures[bar] = like
        before = bar - RETURN_BARS
        if before >= start and draws[2] < RHYTHMS:
            first = draft.sources[before] if draft.sources[before] >= 0 else before
            draft.rhythms[bar] = draft.rhythms[first] if draft.rhythms[first] >= 0 else first


def recall(
    draft: Draft, column: int, here: torch.Tensor, there: torch.Tensor, rhythm: torch.Tensor | None = None
) -> torch.Tensor:
    """What is added to the logits (rows, tokens) of a column at steps `here` that are made like steps `there`, -1 =
    like none: `RECALL` for the token that stands there, or for any note where a note stands over another chord, or
    where `rhythm` (rows,) is True."""
    old = torch.where(there >= 0, draft.tokens[there.clamp_min(0), column], MASKS[column])
    stands, loose = old != MASKS[column], torch.zeros(len(here), dtype=torch.bool)
    bonus = torch.zeros(len(here), SIZES[column])
    if NAMES[column] in LOWEST_PITCH:
        other = draft.tokens[here, 0] != draft.tokens[there, 0]
        loose = stands & (old >= FIRST_PITCH) & (other if rhythm is None else other | rhythm)
        bonus[loose, FIRST_PITCH:] = RECALL
    exact = stands & ~loose
    bonus[exact, old[exact]] = RECALL
    return bonus


def steps_like(draft: Draft, bars: np.ndarray, like: np.ndarray) -> torch.Tensor:
    """For each step of bars the step at the same place in the bar that each is made like; -1 = none."""
    places = like[:, None] * draft.bar + np.arange(draft.bar)
    return torch.from_numpy(np.where(like[:, None] >= 0, places, -1).reshape(-1))


def cadences(draft: Draft, first: int, last: int) -> list[torch.Tensor]:
    """What is added to the logits of each column, (last - first, size), so that phrases close: every eighth bar on the
    tonic or the dominant, the last of a tune on the tonic after the dominant, with a calm lead in its second half."""
    added = [torch.zeros(last - first, size) for size in SIZES]
    tonic = TONIC_NOTES.get(int(draft.conditions["minor"]), (0, 3, 4, 7))
    root = (torch.arange(SIZES[0]) - 1) // len(QUALITIES)  # above the tonic; -1 = no chord
    close = (root == 0) & torch.tensor([False, *12 * [set(notes[1:2]) <= set(tonic) for notes in QUALITIES.values()]])
    calm = draft.classes[first:last].copy()
    calm[calm.all(1)] = np.isin(np.arange(12), tonic)
    strange = ~torch.from_numpy(calm[:, PITCH_CLASSES_OF["lead"]])
    for bar in range(first // draft.bar, last // draft.bar):
        begin, end = bar * draft.bar - first, (bar + 1) * draft.bar - first
        half = begin + draft.bar // 2
        if draft.to_end[bar] in (0, 8):
            added[0][begin:end] = CADENCE * (close | (root == 7) & bool(draft.to_end[bar]))
            added[LEAD][half:end, HOLD] = CADENCE / 2
        if draft.to_end[bar] == 0:
            added[0][max(0, begin - draft.bar // 2) : begin] = CADENCE / 2 * (root == 7)
            added[LEAD][half:end, FIRST_PITCH:] = -CADENCE * strange[half:end]
    return added
