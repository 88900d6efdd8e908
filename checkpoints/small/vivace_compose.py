"""Composing: what binds a piece, and the passes in which `ComposerVivace` writes it."""

import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from .composer_vivace import (
    DENSITIES,
    FIRST_PITCH,
    HOLD,
    LOWEST_PITCH,
    NAMES,
    REST,
    ROLE_COLUMNS,
    SIZES,
    STEPS_PER_QUARTER,
    STRUCTURE,
    UNKNOWN,
    ComposerVivace,
)
from .vivace_score import ROLES, Score, Track, quarters_per_bar
from .vivace_theory import KEYS, key_of_chords, nearest_key, parse_key, parse_time_signature, read_progression
from .vivace_tokens import (
    ACCOMPANIMENT,
    BASS,
    BEGINS,
    LEAD,
    MASKS,
    PITCH_CLASSES_OF,
    REPEAT,
    RETURN_BARS,
    WIDEST,
    Draft,
    cadences,
    choose_distance,
    choose_figures,
    choose_sources,
    chord_token,
    chords_of,
    decode_tokens,
    encode_score,
    ends_of,
    key_shift,
    recall,
    repeats,
    steps_like,
    steps_per_bar,
    together,
    towards_density,
)

CHUNK_BARS, CHUNK_STEPS = 16, 256  # the most that are written together
CONTEXT_STEPS = 128  # before them that are seen
# The pass in which a note is drawn, by its place in the meter: at the beginning of a bar (of the 1st of eight, the 5th,
# the 3rd and 7th, the others), in the middle of a bar, on a beat, on an eighth, on a 16th.
BAR_PASSES, HALF_PASS, BEAT_PASS, EIGHTH_PASS, STEP_PASS = (1, 2, 3, 4), 4, 5, 6, 7
TOP_P = 0.92  # draws are among the likeliest tokens that together have this probability
SHARPNESS = 3.0  # of the draw of who plays: the odds to this power
OFF_BEAT_SHARPNESS = 1.4  # the logits between the beats are multiplied by it
MAX_SECTIONS = 26
KEPT_BARS = 16  # of which a jam drops the older ones when it has twice as many: phrases are of 16 bars at most


@dataclass(frozen=True)
class MusicPlan:
    """What a piece is to be.

    Attributes:
        bars: length.
        bpm: beats a minute, as the pipeline counts them: dotted quarters in "6/8".
        time_signature: of whole eighths, "4/4".
        key: "A minor"; None = that of the chords or of the given notes, else the seed chooses.
        chords: a progression from the first bar on, repeated to the end; None = the composer writes them. Chords that
            are given bind: notes of the lead that begin on a beat and all of the harmony are chord tones, and the bass
            begins each chord and each bar with the root, or with the bass of a slash chord.
        parts: the roles that play, some of `ROLES`; the others have no notes. None = as the words suggest, see
            `fill_cast`.
        drums: with open `parts`, whether drums play; None = as the words suggest.
        instruments: what plays a role, in the words of the captions: {"lead": "flute"}.
        without: instruments that do not play.
        density: of a role, in how many of 16 steps a note begins; one that is not named is open.
        given: notes that stay as they are. A role that has notes here is complete, with its rests, to the end of this
            score; the other roles in `parts` are written to it.
        open_bars: (first, last) bars, counted from 0, of `given` that are written anew, in the roles in `parts`.
        open_parts: the roles that are written anew in `open_bars`; None = all.
        form: "AABA": sections of equal length; a letter that comes again brings its notes again, and with a prime, as
            in "AA'BA'", a share `vary` of them is new. Or a list of (letter, bars).
        vary: share of a primed section's notes that is new, by beats and parts, more towards its end.
        loop: the end leads to the beginning.
    """

    bars: int
    bpm: float = 100.0
    time_signature: str = "4/4"
    key: str | None = None
    chords: str | None = None
    parts: tuple[str, ...] | None = None
    drums: bool | None = None
    instruments: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    density: dict[str, float] = field(default_factory=dict)
    given: Score | None = None
    open_bars: tuple[tuple[int, int], ...] = ()
    open_parts: tuple[str, ...] | None = None
    form: str | Sequence[tuple[str, int]] | None = None
    vary: float = 0.25
    loop: bool = False


@contextmanager
def one_thread() -> Iterator[None]:
    """Computing in one thread: the tensors of a composer are small, and threads on busy cores wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def mix(*numbers: int) -> int:
    """A seed that depends on all numbers."""
    return int(np.random.SeedSequence([number % 2**63 for number in numbers]).generate_state(1, np.uint64)[0] >> 1)


def read_form(form: str | Sequence[tuple[str, int]] | None, bars: int) -> list[tuple[str, int]]:
    """Sections as (letter, bars), a prime behind the letter kept; their bars add up to `bars`.

    Raises:
        ValueError: if it is no form, or does not fit the bars.
    """
    allowed = f"1 to {MAX_SECTIONS} letters, each perhaps with a prime, as in \"AA'BA'\""
    if form is None:
        return [("", bars)]
    if isinstance(form, str):
        names: list[str] = []
        for sign in form.replace("\u2019", "'").replace("-", "").replace(" ", ""):
            if sign == "'" and names:
                names[-1] = names[-1][0] + "'"
            elif sign in string.ascii_letters:
                names.append(sign.upper())
            else:
                raise ValueError(f"form is {form!r}; allowed: {allowed}")
        if not 1 <= len(names) <= MAX_SECTIONS:
            raise ValueError(f"form has {len(names)} sections; allowed: {allowed}")
        if bars % len(names):
            raise ValueError(f"form is {form!r} with {bars} bars; allowed: a multiple of its {len(names)} sections")
        return [(name, bars // len(names)) for name in names]
    sections = [(str(name), int(count)) for name, count in form]
    if not sections or any(count < 1 for _, count in sections) or sum(count for _, count in sections) != bars:
        raise ValueError(f"form has sections of {[count for _, count in sections]} bars; allowed: {bars} bars in all")
    return sections


def check_plan(plan: MusicPlan) -> None:
    """Raise a ValueError for a plan that cannot be carried out."""
    if isinstance(plan.bars, bool) or not isinstance(plan.bars, int) or not 1 <= plan.bars <= 4000:
        raise ValueError(f"bars is {plan.bars!r}; allowed: whole numbers from 1 to 4000")
    for name, roles in (("parts", plan.parts or ()), ("instruments", plan.instruments), ("density", plan.density)):
        for role in roles:
            if role not in ROLES:
                raise ValueError(f"{name} has {role!r}; allowed: {', '.join(ROLES)}")
    if plan.parts is not None and not plan.parts:
        raise ValueError(f"parts is empty; allowed: some of {', '.join(ROLES)}")
    if not 0 <= plan.vary <= 1:
        raise ValueError(f"vary is {plan.vary!r}; allowed: 0 to 1")
    if plan.given is not None:
        if plan.given.time_signature != plan.time_signature:
            raise ValueError(
                f"time_signature is {plan.time_signature}, but that of the given notes is {plan.given.time_signature}"
            )
        if plan.given.bars > plan.bars:
            raise ValueError(f"bars is {plan.bars}, but the given notes have {plan.given.bars}")
    for first, last in plan.open_bars:
        if plan.given is None or not 0 <= first < last <= plan.given.bars:
            raise ValueError(f"open_bars has ({first}, {last}); allowed: bars of the given notes, first < last")


def key_of(plan: MusicPlan, seed: int) -> str:
    """The key of a plan, else the one that its chords, or its given notes, are most likely in, else the seed's."""
    if plan.key:
        return parse_key(plan.key)
    if plan.chords:
        return key_of_chords(plan.chords, parse_time_signature(plan.time_signature))
    notes = np.zeros((0, 4)) if plan.given is None else plan.given.notes("lead", "harmony", "bass")
    if not len(notes):  # three of five keys are major
        rng = np.random.default_rng(mix(seed, 0))
        return KEYS[2 * int(rng.integers(12)) + int(rng.random() < 0.4)]
    return nearest_key(np.bincount(notes[:, 2].astype(int) % 12, weights=notes[:, 1], minlength=12))


def fill_cast(composer: ComposerVivace, plan: MusicPlan, text: torch.Tensor | None, seed: int) -> MusicPlan:
    """A plan with what it leaves open of who plays, drawn by the seed from what `ComposerVivace.cast` finds in the
    words, sharpened. Roles with given notes stay as they are; without words only `drums` counts.
    """
    given = () if plan.given is None else plan.given.roles
    if text is None or not text.any():
        parts = tuple(role for role in ROLES if role != "drums" or role in given) if plan.drums is False else None
        return plan if plan.parts is not None else replace(plan, parts=parts)
    rng = np.random.default_rng(mix(seed, 4))
    with torch.no_grad():
        plays, players = composer.cast(text.to(composer.casting.weight)[None])
    odds = torch.sigmoid(SHARPNESS * plays[0].float()).cpu().numpy()
    if plan.drums is not None:
        odds[ROLES.index("drums")] = float(plan.drums)
    drawn = {role for role, p, u in zip(ROLES, odds, rng.random(len(ROLES)), strict=True) if u < p} | {*given}
    if not drawn & {"lead", "harmony"}:
        drawn.add("lead" if odds[0] > odds[1] else "harmony")
    parts = plan.parts if plan.parts is not None else tuple(role for role in ROLES if role in drawn)
    instruments = dict(plan.instruments)
    names = composer.config.instruments or ()
    wanted = np.array([name not in plan.without for name in names], dtype=bool)
    for role, likely, u in zip(ROLES, SHARPNESS * players[0].double().cpu().numpy(), rng.random(3), strict=False):
        if role in parts and role not in instruments and role not in given and wanted.any():
            share = np.where(wanted, np.exp(likely - likely.max()), 0.0).cumsum()
            instruments[role] = names[int(np.searchsorted(share, u * share[-1], side="right"))]
    return replace(plan, parts=parts, instruments=instruments)


def make_draft(composer: ComposerVivace, plan: MusicPlan, text: torch.Tensor | None) -> Draft:
    """The draft of a plan whose key is chosen: all masked, but for what is given and for roles that are silent."""
    bar, beats = steps_per_bar(plan.time_signature), parse_time_signature(plan.time_signature)
    steps, shift = plan.bars * bar, key_shift(plan.key)
    tokens = MASKS.repeat(steps, 1)
    silent = () if plan.parts is None else tuple(role for role in ROLES if role not in plan.parts)
    here = () if plan.given is None else plan.given.roles
    for role in silent:
        for name in ROLE_COLUMNS[role]:
            tokens[:, NAMES.index(name)] = REST
    if plan.given is not None:
        keep_given(tokens, plan, bar)
    classes, bass = np.ones((steps, 12), dtype=bool), np.full(steps, -1)
    changes = np.zeros(steps, dtype=bool)
    if plan.chords is not None:
        line, step, k = read_progression(plan.chords, beats), 0, 0
        while step < steps:
            chord, count = line[k % len(line)]
            last = min(steps, step + count * bar // beats)
            tokens[step:last, 0] = chord_token(chord.chroma, chord.root or 0, shift)
            if chord.root is not None:
                classes[step:last] = np.roll(chord.chroma > 0, shift)
                root = chord.root if chord.bass is None else chord.bass
                starts = [step, *range((step // bar + 1) * bar, last, bar)]
                bass[starts], changes[step] = (root + shift) % 12, True
            step, k = last, k + 1
    states = [
        0 if role in silent and role not in here else 1 if role in here or plan.parts is not None else UNKNOWN
        for role in ROLES
    ]
    players = [UNKNOWN] * 3
    known = {name: k for k, name in enumerate(composer.config.instruments or ())}
    named = {t.role: t.instrument for t in (plan.given.tracks if plan.given is not None else ())} | plan.instruments
    for k, role in enumerate(ROLES[:3]):
        players[k] = known.get(named.get(role), UNKNOWN)
    density = [
        int(np.searchsorted(DENSITIES, plan.density[role])) if role in plan.density else UNKNOWN for role in ROLES
    ]
    minor = UNKNOWN if plan.key is None else int(parse_key(plan.key).endswith("minor"))
    quarter_bpm = plan.bpm * float(quarters_per_bar(plan.time_signature)) / beats
    conditions = {
        "beats": torch.tensor([beats]),
        "minor": torch.tensor([minor]),
        "bpm": torch.tensor([quarter_bpm], dtype=torch.float32),
        "states": torch.tensor([states]),
        "density": torch.tensor([density]),
        "players": torch.tensor([players]),
        "text": (torch.zeros(composer.config.text_dim) if text is None else text.detach().float().cpu())[None],
    }
    like = [np.full(plan.bars, -1) for _ in range(3)]
    ends = ends_of(plan.bars, plan.loop)
    return Draft(tokens, bar, beats, conditions, classes, bass, changes, states[2] == 1, *like, ends)


def keep_given(tokens: torch.Tensor, plan: MusicPlan, bar: int) -> None:
    """Write the given notes into tokens, in place, in the roles that have some; where bars are open, only what rings
    into them from before."""
    score = replace(plan.given, key=plan.key, chords=None)
    found = encode_score(score)
    opened = score.roles if plan.open_parts is None else plan.open_parts
    closed = torch.ones(len(found), dtype=torch.bool)
    for role in score.roles:
        if role not in opened:
            columns = [NAMES.index(name) for name in ROLE_COLUMNS[role]]
            tokens[: len(found), columns] = found[:, columns]
    for first, last in plan.open_bars:
        closed[first * bar : last * bar] = False
    for column in (NAMES.index(name) for role in score.roles if role in opened for name in ROLE_COLUMNS[role]):
        line, keep = found[:, column], closed.clone()
        for step in range(1, len(line)):
            if line[step] == HOLD and not STRUCTURE_ONLY[column]:
                keep[step] = keep[step - 1]  # a note and its end are given, or open, together
        tokens[: len(line), column] = torch.where(keep, line, tokens[: len(line), column])
    feel = NAMES.index("feel")
    kept = closed | (plan.open_parts is not None)  # that of the parts that stay
    tokens[: len(found), feel] = torch.where(kept, found[:, feel], tokens[: len(found), feel])


# Columns in which 1 does not mean that a note sounds on.
STRUCTURE_ONLY = [name in (*STRUCTURE, *ROLE_COLUMNS["drums"]) for name in NAMES]


def limits(draft: Draft, first: int, last: int) -> torch.Tensor:
    """(last - first, columns, `WIDEST`) bool: the tokens that may be written at steps [first, last): those that given
    chords let through."""
    whole = np.tile(np.arange(WIDEST) < MASKS.numpy()[:, None], (last - first, 1, 1))
    masks = [whole[:, column, :size] for column, size in enumerate(SIZES)]
    steps = np.arange(first, last)
    beat = draft.bar / draft.beats
    strong = np.abs((steps % draft.bar) / beat - np.round((steps % draft.bar) / beat)) < 1e-9
    classes, changes, bass = (part[first:last] for part in (draft.classes, draft.changes, draft.bass))
    for name in ("lead", *ROLE_COLUMNS["harmony"]):
        mask, chosen = masks[NAMES.index(name)], strong if name == "lead" else slice(None)
        mask[chosen, FIRST_PITCH:] = classes[chosen][:, PITCH_CLASSES_OF[name]]
        if name != "lead":
            mask[changes, HOLD] = False
    bound, mask = bass >= 0, masks[NAMES.index("bass")]
    mask[bound, FIRST_PITCH:] = PITCH_CLASSES_OF["bass"] == bass[bound, None]
    mask[bound, HOLD] = False
    if draft.bass_plays:
        mask[bound, REST] = False
    if first == 0:  # nothing sounds on from before the beginning
        for name in LOWEST_PITCH:
            masks[NAMES.index(name)][0, HOLD] = False
    if beat % STEPS_PER_QUARTER:  # beats begin within quarters, which have no triplets then
        masks[NAMES.index("feel")][:, 1] = False
    return torch.from_numpy(whole)


def shut_triplets(may: torch.Tensor, draft: Draft, first: int, last: int) -> None:
    """Let nothing begin in the fourth step of triplet quarters, which has no length: of `limits`, in place."""
    fourth = torch.arange(first, last) % draft.bar % STEPS_PER_QUARTER == STEPS_PER_QUARTER - 1
    dead = fourth & (draft.tokens[first:last, NAMES.index("feel")] == 1)
    may[dead] &= (torch.arange(WIDEST) < BEGINS[:, None]) | torch.tensor([[name in STRUCTURE] for name in NAMES])


def window(draft: Draft, first: int, last: int, loop: bool) -> tuple[torch.Tensor, int, int]:
    """The steps that the network sees when it writes [first, last): what is before them and, in a loop, after them.

    Returns:
        Numbers of steps in the draft, the number of the first one in time, and where among them `first` stands.
    """
    before = CONTEXT_STEPS // draft.bar * draft.bar or draft.bar
    total = len(draft.tokens)
    if not loop:
        begin = max(0, first - before)
        return torch.arange(begin, last), begin, first - begin
    before = max(1, before // draft.bar // 2) * draft.bar
    begin = first - before
    return torch.arange(begin, last + before) % total, begin % total, before


def order(draft: Draft, first: int, last: int) -> np.ndarray:
    """In which pass each token of steps [first, last) is drawn, (last - first, columns), from 0 on.

    What is strong in the meter comes before what is weak, chords and feel a pass before notes, and a bar that is made
    like another a pass after it. Tokens of one pass are far from each other, with tokens on both sides of them, so that
    it does little harm that they are drawn without regard to each other.
    """
    steps, bar = np.arange(first, last), draft.bar
    number, within, beat = steps // bar, steps % bar, bar / draft.beats
    strength = np.select([number % 8 == 0, number % 4 == 0, number % 2 == 0], [0, 1, 2], 3)  # of the bar
    beginning = np.array(BAR_PASSES)[strength]
    at_beat = np.round(within / beat).astype(int)
    is_beat = np.abs(within - at_beat * beat) < 1e-9
    level = np.where(within == 0, beginning, np.where(within % 2 == 0, EIGHTH_PASS, STEP_PASS))
    level[is_beat & (within > 0)] = BEAT_PASS
    level[is_beat & (2 * at_beat == draft.beats)] = HALF_PASS
    models = np.isin(number, draft.figures)  # a pass earlier than what is made like them
    level[models] = np.where(level[models] >= HALF_PASS, level[models] - 1, np.minimum(level[models], 3))
    starts = np.maximum.accumulate(np.where(is_beat, np.arange(len(steps)), 0))  # of the beat that a step is in
    ranks = np.empty((len(steps), len(NAMES)), dtype=int)
    for column, name in enumerate(NAMES):
        ranks[:, column] = level + (name in ("harmony1", "harmony3", "snare", "percussion"))
    ranks[:, NAMES.index("chord")] = level[starts] - 1
    ranks[:, NAMES.index("feel")] = beginning - 1
    new = draft.sources[number] < 0
    ranks[~new] += 1
    follows = new & (draft.figures[number] >= 0)
    ranks[np.ix_(follows, ACCOMPANIMENT)] = np.maximum(ranks[np.ix_(follows, ACCOMPANIMENT)], BAR_PASSES[1])
    ranks[new & (draft.rhythms[number] >= 0), LEAD] += 1
    return ranks.clip(0, STEP_PASS)


@torch.no_grad()
def write(
    composer: ComposerVivace,
    draft: Draft,
    first: int,
    last: int,
    seed: int,
    loop: bool = False,
) -> None:
    """Write the masked tokens of steps [first, last) of a draft, in place, in the passes of `order`.

    Bars that are made like others are drawn with the same random numbers as these, and what stands there already is
    more likely (`recall`): so themes return, and change with the chords, and accompaniments go on.

    Args:
        composer: the network.
        draft: of the piece; tokens before `first` are complete.
        first, last: steps, whole bars.
        seed: of the draws.
        loop: the piece goes on from its end to its beginning.
    """
    device = next(composer.parameters()).device
    conditions = {name: value.to(device) for name, value in draft.conditions.items()}
    rows, begin, offset = window(draft, first, last, loop)
    patch = composer.config.patch
    padded = -(-len(rows) // patch) * patch
    visible = (torch.arange(padded)[None] < len(rows)).to(device) if padded > len(rows) else None
    to_end = torch.from_numpy(draft.to_end)[rows // draft.bar]
    conditions["to_end"] = torch.nn.functional.pad(to_end, (0, padded - len(rows)))[None].to(device)
    start, bar = torch.tensor([begin], device=device), torch.tensor([draft.bar], device=device)
    prepared = composer.prepare(start, bar, conditions, padded)
    masked = draft.tokens[first:last] == MASKS
    ranks = torch.from_numpy(order(draft, first, last))
    bars = np.arange(first // draft.bar, last // draft.bar)
    steps = torch.arange(first, last)
    sources, figures, rhythms = draft.sources[bars], draft.figures[bars], draft.rhythms[bars]
    loose = torch.zeros(last - first, len(NAMES), dtype=torch.bool)  # only the rhythm comes back
    loose[:, LEAD] = torch.from_numpy(np.repeat((sources < 0) & (rhythms >= 0), draft.bar))
    figures, rhythms = (np.where(sources >= 0, sources, one) for one in (figures, rhythms))
    noise, _ = random_numbers(draft, np.where(sources >= 0, sources, bars), seed)
    shared, chance = random_numbers(draft, np.where(figures >= 0, figures, bars), seed)
    noise[:, ACCOMPANIMENT] = shared[:, ACCOMPANIMENT]
    there = steps_like(draft, bars, sources)[:, None].repeat(1, len(NAMES))
    there[:, ACCOMPANIMENT] = steps_like(draft, bars, figures)[:, None]
    there[:, LEAD] = steps_like(draft, bars, rhythms)
    units = (draft.bar / draft.beats, STEPS_PER_QUARTER)  # steps that a chord and a feel last at least
    may = limits(draft, first, last)
    closing = cadences(draft, first, last)
    beats = steps % draft.bar * draft.beats / draft.bar
    sharpness = torch.where((beats - beats.round()).abs() < 1e-6, 1.0, OFF_BEAT_SHARPNESS)[:, None]
    dense = bool((draft.conditions["density"] != UNKNOWN).any())  # takes the logits of all steps
    seen = MASKS.repeat(padded, 1)
    for rank in ranks[masked].unique().tolist():
        shut_triplets(may, draft, first, last)
        seen[: len(rows)] = draft.tokens[rows]
        place, column = now = torch.nonzero(masked & (ranks == rank)).T  # a row for each token that is drawn
        chosen, row = (steps - first, place) if dense else place.unique(return_inverse=True)
        logits = composer.predict_logits(seen[None].to(device), prepared, visible, (offset + chosen).to(device))[0]
        logits = by_column(logits.float().cpu())
        if dense:
            towards_density(draft, draft.tokens[first:last], logits, may, there < 0)
        likely = logits[row, column] * sharpness[place] + closing[*now]
        likely = likely + recall(draft, column, steps[place], there[*now], loose[*now])
        low = column == BASS
        likely[low] -= REPEAT * repeats(seen[: len(rows)], draft.bar, offset + place[low])
        log_p = likeliest(likely, may[*now])
        together(log_p, draft.tokens[first:last], place, column, chance)
        gumbel = -torch.log(-torch.log(noise[*now].clamp(1e-9, 1.0 - 1e-7)))
        draft.tokens[first + place, column] = (log_p + gumbel).argmax(-1)
        for structure, unit in enumerate(units):
            align(draft.tokens[first:last], structure, draft.bar, unit, place[column == structure])


def by_column(values: torch.Tensor) -> torch.Tensor:
    """(rows, sum of `SIZES`) -> (rows, columns, `WIDEST`); behind what a column has, anything."""
    first = torch.tensor(SIZES).cumsum(0) - torch.tensor(SIZES)
    return torch.nn.functional.pad(values, (0, WIDEST)).unfold(-1, WIDEST, 1)[:, first]


def random_numbers(draft: Draft, bars: np.ndarray, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of 0 to 1 for each token of bars (by their numbers), (steps, columns, `WIDEST`), and one a step."""
    generators = [torch.Generator().manual_seed(mix(seed, int(bar))) for bar in bars]
    made = torch.cat([torch.rand(draft.bar, sum(SIZES) + 1, generator=generator) for generator in generators])
    return by_column(made[:, :-1]), made[:, -1]


def likeliest(logits: torch.Tensor, may: torch.Tensor) -> torch.Tensor:
    """Logarithms of the probabilities of logits (rows, tokens), of the likeliest of those that may be; see `TOP_P`."""
    log_p = torch.log_softmax(logits.masked_fill(~may, -torch.inf), dim=-1)
    most, token = log_p.max(-1, keepdim=True)
    beyond = torch.ones_like(may).scatter(-1, token, False)
    unsure = torch.nonzero(most[:, 0].exp() < TOP_P)[:, 0]  # of the others one token is left
    ordered, places = log_p[unsure].sort(descending=True, dim=-1, stable=True)
    beyond[unsure] = beyond[unsure].scatter(-1, places, ordered.exp().cumsum(-1) - ordered.exp() >= TOP_P)
    return log_p.masked_fill(beyond, -torch.inf)


def align(tokens: torch.Tensor, column: int, bar: int, unit: float, places: torch.Tensor) -> None:
    """Let a column have in each unit of a bar (steps) the token of its first step, in place, at `places`."""
    within = places % bar
    first = places - within + (torch.floor(within / unit + 1e-9) * unit).round().long()
    tokens[places, column] = tokens[first, column]


def compose(composer: ComposerVivace, draft: Draft, seed: int, form=(), vary=0.25, loop=False) -> None:
    """Write all masked tokens of a draft, in place, in chunks that never see what comes after them (but for the
    beginning of a loop): a longer piece with the same seed begins as a shorter one.

    Args:
        composer, draft: see `write`.
        seed: of the piece.
        form: sections as (letter, bars), see `MusicPlan`; () = one.
        vary: share of a primed section that is new.
        loop: the end leads to the beginning.
    """
    chunk_bars = max(1, min(CHUNK_BARS, CHUNK_STEPS // draft.bar))
    start, before = 0, {}
    for number, (name, bars) in enumerate(form):
        letter, own = name.rstrip("'"), mix(seed, number)
        if letter and letter in before:
            source, length = before[letter]
            generator = torch.Generator().manual_seed(mix(own, 1))
            repeat(draft, source, start, min(bars, length), vary if name != letter else 0.0, generator)
        else:
            before[letter] = (start, bars)
            choose_sources(draft, start, bars, mix(own, 2))
            choose_figures(draft, start, bars, mix(own, 5))
        for first in range(start, start + bars, chunk_bars):
            last = min(first + chunk_bars, start + bars)
            write(composer, draft, first * draft.bar, last * draft.bar, mix(own, 3), loop)
        start += bars


def repeat(draft: Draft, source: int, start: int, bars: int, vary: float, generator: torch.Generator) -> None:
    """Take the tokens of bars from `source` over to those from `start` on where nothing is given there.

    Notes whose given chord is another one stay masked, and so does a share `vary` of the rest, by beats and columns,
    more of it towards the end.
    """
    bar, beat = draft.bar, draft.bar / draft.beats
    there, here = slice(source * bar, (source + bars) * bar), slice(start * bar, (start + bars) * bar)
    old, new = draft.tokens[there].clone(), draft.tokens[here]
    beats = bars * draft.beats
    share = vary * torch.linspace(0.5, 1.5, beats)
    again = torch.rand(beats, len(NAMES), generator=generator) < share[:, None]
    again[:, : len(STRUCTURE)] = False
    other = torch.from_numpy(
        (draft.classes[there] != draft.classes[here]).any(1) | (draft.bass[there] != draft.bass[here])
    )
    number = (torch.arange(len(old)) / beat + 1e-9).long().clamp_max(beats - 1)
    again = again[number] | torch.zeros(beats).index_add(0, number, other.float()).gt(0)[number][:, None]
    new[:] = torch.where(new == MASKS, torch.where(again, MASKS, old), new)


@one_thread()
def compose_scores(
    composer: ComposerVivace,
    plans: Sequence[MusicPlan],
    seeds: Sequence[int],
    text: torch.Tensor | None = None,
) -> list[Score]:
    """Compose pieces.

    A piece depends on its plan, its text and its seed alone, bit for bit on a CPU, whatever is composed beside it.

    Args:
        composer: the network.
        plans: a plan a piece.
        seeds: a seed a piece.
        text: (pieces, text_dim) states of the captions, mean over their tokens; None = without words.

    Returns:
        A score a piece, in whole bars, with its chords. Given notes are in it as they were given.

    Raises:
        ValueError: a plan that cannot be carried out; nothing is composed then.
    """
    if not len(plans) == len(seeds) == (len(plans) if text is None else len(text)):
        raise ValueError(f"seeds has {len(seeds)} entries; allowed: {len(plans)}, one for each plan")
    for plan in plans:
        check_plan(plan)
    forms = [read_form(plan.form, plan.bars) for plan in plans]
    texts = [None] * len(plans) if text is None else text
    pieces = zip(plans, forms, seeds, texts, strict=True)
    return [compose_one(composer, plan, form, seed, text) for plan, form, seed, text in pieces]


def compose_one(composer: ComposerVivace, plan: MusicPlan, form, seed: int, text) -> Score:
    """One piece; see `compose_scores`."""
    plan = fill_cast(composer, replace(plan, key=key_of(plan, seed)), text, seed)
    bar = steps_per_bar(plan.time_signature)
    whole, chunk = plan, max(1, min(CHUNK_BARS, CHUNK_STEPS // bar))
    if plan.form is None and not plan.loop:  # whole chunks, so that a longer piece begins the same
        whole = replace(plan, bars=-(-plan.bars // chunk) * chunk)
        form = [("", whole.bars)]
    draft = make_draft(composer, whole, text)
    compose(composer, draft, seed, form, plan.vary, plan.loop)
    tokens = draft.tokens[: plan.bars * bar]
    score = decode_tokens(tokens, plan.time_signature, plan.key, plan.bpm, plan.instruments)
    chords = plan.chords if plan.chords is not None else chords_of(tokens, plan.time_signature, key_shift(plan.key))
    return replace(score, tracks=tuple(with_given(score, plan)), chords=chords)


def with_given(score: Score, plan: MusicPlan) -> list[Track]:
    """The tracks of a composed score, with the given notes as they were given."""
    if plan.given is None:
        return list(score.tracks)
    quarters = float(quarters_per_bar(plan.time_signature))
    after = (plan.given.bars * quarters, plan.bars * quarters)
    opened = [(first * quarters, last * quarters) for first, last in plan.open_bars]

    def is_open(role: str, onsets: np.ndarray) -> np.ndarray:
        spans = [after, *(opened if plan.open_parts is None or role in plan.open_parts else ())]
        return np.any([(onsets >= first - 1e-9) & (onsets < last - 1e-9) for first, last in spans], axis=0)

    tracks, left = [], {track.role: track for track in score.tracks}
    for track in plan.given.tracks:
        notes = track.notes[~is_open(track.role, track.notes[:, 0])]
        new = left.pop(track.role, None)
        if new is not None:  # the first track of a role takes its composed notes
            notes = np.concatenate([notes, new.notes[is_open(track.role, new.notes[:, 0])]])
        tracks.append(replace(track, notes=notes, instrument=plan.instruments.get(track.role, track.instrument)))
    return [*tracks, *left.values()]


class BarWriter:
    """Writes a piece bar by bar with a composer, each bar with what precedes it in view; its memory does not grow.

    Args:
        composer: the network.
        seed: of the draws.
    """

    def __init__(self, composer: ComposerVivace, seed: int):
        self.composer, self.seed = composer, seed
        self.first = self.number = 0  # of the first bar that is kept, and of the next one
        self.tokens: torch.Tensor | None = None  # (steps, columns) of the bars that are kept
        self.distance: int | None = None  # how far back these `RETURN_BARS` find what they are made like
        self.words: torch.Tensor | None = None  # of the bar before

    @torch.no_grad()
    @one_thread()
    def next_bar(self, plan: MusicPlan, text: torch.Tensor | None) -> torch.Tensor:
        """Write a bar by a plan of one bar with its key, in the meter of those before; tokens (steps, columns) of the
        bars that are kept, the new one last."""
        bar = steps_per_bar(plan.time_signature)
        draft = make_draft(self.composer, plan, text)
        before = 0
        if self.tokens is not None:
            if len(self.tokens) == 2 * KEPT_BARS * bar:
                self.tokens, self.first = self.tokens[KEPT_BARS * bar :], self.first + KEPT_BARS
            before = len(self.tokens)
            draft.tokens = torch.cat([self.tokens, draft.tokens])
            draft.classes = np.concatenate([np.ones((before, 12), dtype=bool), draft.classes])
            draft.bass = np.concatenate([np.full(before, -1), draft.bass])
            draft.changes = np.concatenate([np.zeros(before, dtype=bool), draft.changes])
            draft.sources, draft.figures, draft.rhythms = (np.full(before // bar + 1, -1) for _ in range(3))
            draft.to_end = ends_of(before // bar + 1)
        place = before // bar
        if self.number % RETURN_BARS == 0:
            draws = np.random.default_rng(mix(self.seed, self.number, 1)).random(2)
            self.distance = choose_distance(draft, 0, place, place + 1, draws)
        if self.distance is not None:
            draft.sources[place] = place - self.distance
        words = draft.conditions["text"]
        if place and self.words is not None and torch.equal(words, self.words):
            draft.figures[place] = place - 1  # the accompaniment goes on until the words change
        self.words = words
        write(self.composer, draft, before, before + bar, mix(self.seed, self.first, 2))
        self.tokens, self.number = draft.tokens, self.number + 1
        return self.tokens
