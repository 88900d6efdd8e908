"""Composing: scores <-> the tokens of `ComposerVivace`, what binds them, and the passes that write a piece."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
    REST,
    ROLE_COLUMNS,
    SIZES,
    STEPS_PER_QUARTER,
    STRUCTURE,
    UNKNOWN,
)
from .vivace_score import ROLES, Score, Track, quarters_per_bar
from .vivace_theory import KEYS, PITCH_CLASSES, parse_key, parse_time_signature, read_progression

CHUNK_BARS = 8  # bars that are written together
CONTEXT_BARS = 16  # bars before them that the network sees
PASSES = 10
STRUCTURE_SHARE = 0.3  # of the passes, in which chords and feel are written first
QUALITY_NAMES = tuple(QUALITIES)
# General MIDI drum keys of each lane; the first key of a token is the one that is played.
LANES = {
    "kick": ((36, 35),),
    "snare": ((38, 40), (37,), (39,)),
    "cymbal": ((42, 44), (46,), (51, 53, 59), (49, 52, 55, 57)),
    "percussion": ((43, 41, 45), (48, 47, 50), (70, 54, 69, 82), (76,)),
}
KEY_OF_LANE = {
    key: (lane, token) for lane, tokens in LANES.items() for token, keys in enumerate(tokens, start=1) for key in keys
}
MASKS = torch.tensor(SIZES)  # the token that stands for a masked one, of each column


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
    total, shift = score.bars * bar, key_shift(score.key)
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
    line = read_progression(score.chords, beats)
    tokens, beat, k = [], 0, 0
    while beat < score.bars * beats:
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

    Accents follow the meter: the first beat of a bar is loudest, then beats, then what lies between.

    Args:
        tokens: of whole bars.
        time_signature, key, bpm: of the score.
        instruments: what plays lead, harmony and bass.
    """
    bar, shift = steps_per_bar(time_signature), key_shift(key)
    times = step_times(tokens, bar)
    beat = bar / parse_time_signature(time_signature)
    within = np.arange(len(tokens)) % bar
    accent = np.where(within == 0, 1.0, np.where(within % beat == 0, 0.92, np.where(within % 2 == 0, 0.84, 0.78)))
    rows: dict[str, list[tuple[float, float, int, float]]] = {role: [] for role in ROLES}
    for role in ("lead", "harmony", "bass"):
        level = {"lead": 0.85, "harmony": 0.68, "bass": 0.8}[role]
        for name in ROLE_COLUMNS[role]:
            line = tokens[:, NAMES.index(name)].numpy()
            for step in np.flatnonzero(line >= FIRST_PITCH):
                end = step + 1
                while end < len(line) and line[end] == HOLD:
                    end += 1
                pitch = int(line[step]) - FIRST_PITCH + LOWEST_PITCH[name] - shift
                length = times[end] - times[step]
                if length > 1e-6:
                    rows[role].append(
                        (times[step], length * (0.95 if length > 0.3 else 1.0), pitch, level * accent[step])
                    )
    for lane, keys in LANES.items():
        line = tokens[:, NAMES.index(lane)].numpy()
        for step in np.flatnonzero(line > 0):
            rows["drums"].append((times[step], 0.125, keys[int(line[step]) - 1][0], 0.85 * accent[step]))
    tracks = [Track(role, rows[role], instruments.get(role)) for role in ROLES if rows[role]]
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


@dataclass
class Plan:
    """What a piece is to be, in tokens.

    Attributes:
        tokens: (steps, columns), a masked token where the composer writes.
        bar: steps in a bar.
        beat: steps in a beat.
        minor: 0, 1 or `UNKNOWN`.
        quarter_bpm: quarters a minute.
        states: of lead, harmony, bass and drums 1 = plays, 0 = silent, `UNKNOWN` = as fits.
        players: of lead, harmony, bass the index of an instrument, or `UNKNOWN`.
        density: of the four roles a class of `DENSITIES`, or `UNKNOWN`.
        text: (text_dim,) mean text state, or None.
        bind: chords bind: strong beats of the lead, all of the harmony, the bass where a chord begins.
        bass: (steps,) pitch class in C of a stated bass note, -1 = the root of the chord.
    """

    tokens: torch.Tensor
    bar: int
    beat: float
    minor: int = UNKNOWN
    quarter_bpm: float = -1.0
    states: tuple[int, ...] = (UNKNOWN,) * 4
    players: tuple[int, ...] = (UNKNOWN,) * 3
    density: tuple[int, ...] = (UNKNOWN,) * 4
    text: torch.Tensor | None = None
    bind: bool = True
    bass: torch.Tensor | None = None


def blank(bars: int, bar: int, states: Sequence[int] = (UNKNOWN,) * 4) -> torch.Tensor:
    """Tokens of a piece to be written: all masked, but for roles that are silent."""
    tokens = MASKS.repeat(bars * bar, 1)
    for role, state in zip(ROLE_COLUMNS, states, strict=True):
        if state == 0:
            for name in ROLE_COLUMNS[role]:
                tokens[:, NAMES.index(name)] = REST
    return tokens


def chord_classes(token: int) -> list[int]:
    """Pitch classes in C of a chord token, root first."""
    if token == 0:
        return list(range(12))
    root, quality = divmod(token - 1, len(QUALITIES))
    return [(root + step) % 12 for step in QUALITIES[QUALITY_NAMES[quality]]]


def allowed(plan: Plan, tokens: torch.Tensor, first: int, last: int) -> list[torch.Tensor]:
    """For each column (last - first, size) bool: the tokens that the chords let through at steps [first, last)."""
    masks = [torch.ones(last - first, size, dtype=torch.bool) for size in SIZES]
    if not plan.bind:
        return masks
    chord = tokens[:, 0]
    for step in range(first, last):
        token = int(chord[step])
        if token in (0, SIZES[0]):
            continue
        changes = step == 0 or int(chord[step - 1]) != token or (step % plan.bar == 0)
        classes = chord_classes(token)
        strong = (step % plan.bar) % plan.beat == 0
        for name in ("lead", *ROLE_COLUMNS["harmony"]):
            if name == "lead" and not strong:
                continue
            mask = masks[NAMES.index(name)][step - first]
            pitch_class = (torch.arange(len(mask) - FIRST_PITCH) + LOWEST_PITCH[name]) % 12
            mask[FIRST_PITCH:] = torch.isin(pitch_class, torch.tensor(classes))
            if name != "lead" and (step == 0 or int(chord[step - 1]) != token):
                mask[HOLD] = False
        if changes and plan.states[2] != 0:
            mask = masks[NAMES.index("bass")][step - first]
            wanted = classes[0] if plan.bass is None or plan.bass[step] < 0 else int(plan.bass[step])
            pitch_class = (torch.arange(len(mask) - FIRST_PITCH) + LOWEST_PITCH["bass"]) % 12
            mask[FIRST_PITCH:] = pitch_class == wanted
            mask[HOLD] = False
            if plan.states[2] == 1:
                mask[REST] = False
    return masks


def conditions_of(plan: Plan, text_dim: int) -> dict[str, torch.Tensor]:
    """Conditions of the network for one piece."""
    text = torch.zeros(text_dim) if plan.text is None else plan.text.float()
    return {
        "beats": torch.tensor([round(plan.bar / plan.beat)]),
        "minor": torch.tensor([plan.minor]),
        "bpm": torch.tensor([plan.quarter_bpm], dtype=torch.float32),
        "states": torch.tensor([plan.states]),
        "density": torch.tensor([plan.density]),
        "players": torch.tensor([plan.players]),
        "text": text[None],
    }


def align_column(tokens: torch.Tensor, column: int, bar: int, unit: float) -> None:
    """Let a column keep within each unit of a bar (steps) the token of the unit's first step, in place."""
    number = torch.arange(len(tokens))
    within = number % bar
    first = number - within + (torch.floor(within / unit) * unit).round().long()
    tokens[:, column] = tokens[first, column]


@torch.no_grad()
def write(
    composer,
    plan: Plan,
    first: int,
    last: int,
    generator: torch.Generator,
    passes: int = PASSES,
    temperature: float = 1.0,
    surprise: float = 1.5,
) -> None:
    """Write the masked tokens of steps [first, last) of a plan, in place.

    The network sees the `CONTEXT_BARS` bars before them, and what is given within. In each pass it draws all masked
    tokens and keeps the surest of each column, so many that a cosine of the pass is met: chords and feel first.

    Args:
        composer: `ComposerVivace`, on the CPU.
        plan: of the piece; tokens before `first` are complete.
        first, last: steps, whole bars.
        generator: of the draws.
        passes: through the network.
        temperature: of the draws.
        surprise: how much chance there is in which tokens are kept, at the beginning.
    """
    begin = max(0, first - CONTEXT_BARS * plan.bar)
    masked = plan.tokens[first:last] == MASKS
    device = next(composer.parameters()).device
    conditions = {name: value.to(device) for name, value in conditions_of(plan, composer.config.text_dim).items()}
    bar, where = torch.tensor([plan.bar], device=device), torch.tensor([begin], device=device)
    total = masked.sum(0)
    structure = [NAMES.index(name) for name in STRUCTURE]
    early = max(1, math.ceil(passes * STRUCTURE_SHARE))
    for number in range(passes):
        masked = plan.tokens[first:last] == MASKS
        if not masked.any():
            return
        logits = composer(plan.tokens[None, begin:last].to(device), where, bar, conditions)[0, first - begin :]
        limits = allowed(plan, plan.tokens, first, last)
        for column, part in enumerate(logits.float().cpu().split(SIZES, dim=-1)):
            if column in structure:
                share = min(1.0, (number + 1) / early)
            else:
                at = (number + 1 - early / 2) / (passes - early / 2)
                share = 0.0 if at <= 0 else 1.0 - math.cos(0.5 * math.pi * min(1.0, at))
            if number == passes - 1:
                share = 1.0
            part = (part / temperature).masked_fill(~limits[column], -torch.inf)
            log_p = torch.log_softmax(part, dim=-1)
            uniform = torch.rand(part.shape, generator=generator).clamp(1e-9, 1.0 - 1e-7)
            drawn = (log_p - torch.log(-torch.log(uniform))).argmax(-1)
            chance = torch.rand(len(drawn), generator=generator).clamp(1e-9, 1.0 - 1e-7)
            sure = log_p.gather(1, drawn[:, None])[:, 0]
            sure = sure + surprise * (1.0 - (number + 1) / passes) * -torch.log(-torch.log(chance))
            here = masked[:, column]
            keep = math.ceil(share * int(total[column]) - 1e-9) - int(total[column] - here.sum())
            if keep <= 0:
                continue
            order = sure.masked_fill(~here, -torch.inf).argsort(descending=True)[:keep]
            order = order[here[order]]
            plan.tokens[first + order, column] = drawn[order]
        if number < early:  # chords hold for a beat, the feel for a quarter
            for column, unit in zip(structure, (plan.beat, STEPS_PER_QUARTER), strict=True):
                span = plan.tokens[first:last]
                align_column(span, column, plan.bar, unit)


def compose(
    composer, plan: Plan, seed: int, form: Sequence[tuple[str, int]] = (), vary: float = 0.2, **options
) -> None:
    """Write all masked tokens of a plan, in place, in chunks of 8 bars that never see what comes after them: a longer
    piece with the same seed begins as a shorter one.

    Args:
        composer, plan: see `write`.
        seed: of the piece.
        form: sections as (letter, bars); one whose letter was there before takes over its notes, of which the share
            `vary` is written anew.
    """
    total = len(plan.tokens) // plan.bar
    sections = [(letter, bars) for letter, bars in form] or [("", total)]
    start, seen = 0, {}
    for number, (letter, bars) in enumerate(sections):
        bars = min(bars, total - start)
        if letter and letter in seen:
            source, length = seen[letter]
            _repeat(plan, source, start, min(bars, length), vary, torch.Generator().manual_seed(_mix(seed, number, 1)))
        else:
            seen[letter] = (start, bars)
        for chunk, first in enumerate(range(start, start + bars, CHUNK_BARS)):
            last = min(first + CHUNK_BARS, start + bars)
            generator = torch.Generator().manual_seed(_mix(seed, number, 2 + chunk))
            write(composer, plan, first * plan.bar, last * plan.bar, generator, **options)
        start += bars


def _mix(*numbers: int) -> int:
    """A seed that depends on all numbers."""
    return int(np.random.SeedSequence([number % 2**63 for number in numbers]).generate_state(1, np.uint64)[0] >> 1)


def _repeat(plan: Plan, source: int, start: int, bars: int, vary: float, generator: torch.Generator) -> None:
    """Take the tokens of bars from `source` over to those from `start` on where nothing is given there, and mask a
    share of the notes again, by beats and columns, more of it towards the end of the section."""
    old = plan.tokens[source * plan.bar : (source + bars) * plan.bar].clone()
    new = plan.tokens[start * plan.bar : (start + bars) * plan.bar]
    open_ = new == MASKS
    beats = max(1, round(len(old) / plan.beat))
    weight = torch.linspace(0.5, 1.5, beats)
    draw = torch.rand(beats, len(NAMES), generator=generator) < vary * weight[:, None]
    draw[:, : len(STRUCTURE)] = False
    beat = (torch.arange(len(old)) / plan.beat).long().clamp_max(beats - 1)
    new[open_] = torch.where(draw[beat], MASKS, old)[open_]
