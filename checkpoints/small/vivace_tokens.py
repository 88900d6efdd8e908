"""Scores <-> the tokens of `ComposerVivace`; what comes back in a composed piece, how its phrases close, and how its
accompaniment moves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .composer_vivace import (
    COLUMNS,
    DENSITIES,
    FIRST_PITCH,
    HOLD,
    LOWEST_PITCH,
    MAX_STEPS_PER_BAR,
    NAMES,
    QUALITIES,
    ROLE_COLUMNS,
    SIZES,
    STEPS_PER_QUARTER,
    UNKNOWN,
    notes_around,
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


# What comes back, and how phrases close.

# How often the lead of two bars is that of so many bars before, where the chords are the same: counted in real scores.
RETURNS = {2: 0.1, 4: 0.4, 8: 0.45, 12: 0.55, 16: 0.9}
RETURN_BARS = 2
TUNE_BARS = 16  # after which a tune closes
UNKNOWN_FIT = 0.7  # in place of the share of chords that are the same, where none are given
RECALL = 4.0  # added to the logits of what stands there
# How often an accompaniment's figure has two bars, how many of its bars are free at most, and how often eight bars
# begin a new one; how often a bar of the lead has the rhythm of an earlier one.
TWO_BARS, FREE_BARS, NEW_FIGURE, RHYTHMS = 0.4, 0.3, 0.2, 0.5
THIN = 0.25  # taken from the logits of notes of the harmony
JOIN = 0.35  # a voice of the harmony begins with another one if it is at least so likely to, in proportion
REPEAT = 2.0  # taken from the logits of a note of the bass for each neighbour of the same pitch class
DENSITY_SHIFT = 2.0  # the most that is added to, or taken from, the logits of notes for a density
CADENCE = 2.0  # added to the logits of what closes a phrase
TONIC_NOTES = {0: (0, 4, 7), 1: (0, 3, 7)}  # of the tonic chord in C, by `minor` of the conditions
LEAD = NAMES.index("lead")
HARMONY, BASS = [NAMES.index(name) for name in ROLE_COLUMNS["harmony"]], NAMES.index("bass")
ACCOMPANIMENT = tuple(NAMES.index(name) for role in ("harmony", "bass", "drums") for name in ROLE_COLUMNS[role])
MASKS = torch.tensor(SIZES)  # the token that stands for a masked one, of each column
WIDEST = max(SIZES)
MIDDLES = np.convolve([0, *DENSITIES, 12], [0.5, 0.5], "valid")  # of the classes of density
PITCHED = torch.tensor([name in LOWEST_PITCH for name in NAMES])
BEGINS = torch.where(PITCHED, FIRST_PITCH, 1)  # from this token on, tokens of a column of notes begin one
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
    draft: Draft, columns: torch.Tensor, here: torch.Tensor, there: torch.Tensor, rhythm: torch.Tensor
) -> torch.Tensor:
    """What is added to the logits (rows, `WIDEST`) of tokens in `columns` at steps `here` that are made like steps
    `there`, -1 = like none: `RECALL` for the token that stands there, or for any note where a note stands over another
    chord, or where `rhythm` (rows,) is True."""
    old = torch.where(there >= 0, draft.tokens[there.clamp_min(0), columns], MASKS[columns])
    stands, note = old != MASKS[columns], PITCHED[columns] & (old >= FIRST_PITCH)
    loose = stands & note & ((draft.tokens[here, 0] != draft.tokens[there, 0]) | rhythm)
    bonus = torch.zeros(len(here), WIDEST)
    bonus[loose, FIRST_PITCH:] = RECALL
    exact = stands & ~loose
    bonus[exact, old[exact]] = RECALL
    return bonus


def steps_like(draft: Draft, bars: np.ndarray, like: np.ndarray) -> torch.Tensor:
    """For each step of bars the step at the same place in the bar that each is made like; -1 = none."""
    places = like[:, None] * draft.bar + np.arange(draft.bar)
    return torch.from_numpy(np.where(like[:, None] >= 0, places, -1).reshape(-1))


def cadences(draft: Draft, first: int, last: int) -> torch.Tensor:
    """What is added to the logits, (last - first, columns, `WIDEST`), so that phrases close: every eighth bar on the
    tonic or the dominant, the last of a tune on the tonic after the dominant, with a calm lead in its second half. And
    the harmony plays less."""
    added = torch.zeros(last - first, len(NAMES), WIDEST)
    added[:, HARMONY, FIRST_PITCH:] = -THIN
    chord, lead = added[:, 0], added[:, LEAD, : SIZES[LEAD]]
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
            chord[begin:end] = CADENCE * (close | (root == 7) & bool(draft.to_end[bar]))
            lead[half:end, HOLD] = CADENCE / 2
        if draft.to_end[bar] == 0:
            chord[max(0, begin - draft.bar // 2) : begin] = CADENCE / 2 * (root == 7)
            lead[half:end, FIRST_PITCH:] = -CADENCE * strange[half:end]
    return added


def repeats(tokens: torch.Tensor, bar: int, steps: torch.Tensor) -> torch.Tensor:
    """How many of the nearest notes of the bass, before and after `steps` of whole bars, each token would repeat,
    (steps, `WIDEST`); none where a bar or a chord begins, whose root may come again."""
    around = notes_around(tokens[None], (BASS,))[0][0, steps, :, None]
    again = (around > 0) & ((torch.arange(WIDEST) - around) % 12 == 0)
    again[:, :, :FIRST_PITCH] = False
    again[(tokens[steps, 0] != tokens[steps - 1, 0]) | (steps % bar == 0)] = False
    return again.sum(1)


def towards_density(
    draft: Draft, tokens: torch.Tensor, logits: torch.Tensor, may: torch.Tensor, free: torch.Tensor
) -> None:
    """Shift the logits of notes, in place, so that roles whose density is stated become as dense.

    Args:
        draft: its conditions state the density.
        tokens: (steps, columns) so far.
        logits, may: (steps, columns, `WIDEST`) logits, and which tokens may be.
        free: (steps, columns) bool, what is not made like another bar, which would be as dense as that.
    """
    for names, density in zip(ROLE_COLUMNS.values(), draft.conditions["density"][0].tolist(), strict=True):
        columns = [NAMES.index(name) for name in names]
        here, begins, steps = tokens[:, columns], int(BEGINS[columns[0]]), free[:, columns[0]]
        if density == UNKNOWN or not steps.any():
            continue
        begun = ((here >= begins) & (here != MASKS[columns])).any(1)
        p = logits[:, columns].masked_fill(~may[:, columns], -torch.inf).softmax(-1)[..., begins:].sum(-1)
        is_open = (here == MASKS[columns]) & steps[:, None]
        rest = float(torch.where(is_open & ~begun[:, None], p, 0.0).amax(1).sum())
        wanted = MIDDLES[density] / 16 * int(steps.sum()) - int((begun & steps).sum())
        shift = float(np.log(max(wanted, 0.5) / max(rest, 0.5)).clip(-DENSITY_SHIFT, DENSITY_SHIFT))
        logits[:, columns, begins:] += shift * is_open[..., None]


def together(
    log_p: torch.Tensor, tokens: torch.Tensor, place: torch.Tensor, column: torch.Tensor, chance: torch.Tensor
) -> None:
    """Choose where voices of the harmony begin a note: logarithms of probabilities (rows, `WIDEST`) keep, in place,
    notes or the other tokens alone.

    The voices of a step have one random number for it, so that they begin together and not one after another, and one
    that is not much less likely to begin than the likeliest begins with it.

    Args:
        log_p: of the tokens that are drawn; of harmony and others.
        tokens: (steps, columns) so far.
        place, column: (rows,) step and column of each.
        chance: (steps,) random numbers of 0 to 1.
    """
    rows = torch.nonzero((column >= HARMONY[0]) & (column <= HARMONY[-1]))[:, 0]
    place, voice = place[rows], column[rows] - HARMONY[0]
    p = log_p[rows].softmax(-1)[:, FIRST_PITCH:].sum(-1)
    here = tokens[:, HARMONY]
    begins = ((here >= FIRST_PITCH) & (here != MASKS[HARMONY])).float()
    begins[place, voice] = p
    most = begins.amax(1)[place]
    drawn = chance[place] < torch.where(p >= JOIN * most, most, p)
    log_p[rows] = log_p[rows].masked_fill(drawn[:, None] != (torch.arange(WIDEST) >= FIRST_PITCH), -torch.inf)
