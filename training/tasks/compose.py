"""What the composer writes, for works that training never saw, beside the real scores and the rules' own pieces."""

import time

import numpy as np
import torch

from pipelines.composer_vivace import DENSITIES, ROLE_COLUMNS, SIZES, UNKNOWN, ComposerVivace
from pipelines.vivace_compose import MusicPlan, compose_scores
from pipelines.vivace_score import ROLES, Score, quarters_per_beat
from pipelines.vivace_theory import parse_time_signature, read_progression
from pipelines.vivace_tokens import chords_of, encode_score
from training.data.compositions import PLAYERS, Compositions, densities
from training.metrics.composition import Copies, Piece, mean_figures, pieces_of, spread
from training.tasks.common import Bench, Figure, least
from training.train_composer import MaskedCompositions, validate

BARS, CROP_STEPS = 16, 256
METERS = {(16, 4): "4/4", (12, 3): "3/4", (12, 2): "6/8", (8, 2): "2/4"}  # by steps and beats of a bar
# Sheets with slash chords, sevenths and two chords a bar: time signature, key, chords.
SHEETS = (
    ("4/4", "C major", "C G/B Am Am/G F C/E Dm7 G7"),
    ("4/4", "A minor", "Am Am/G Fmaj7 E7 Am:2 Dm/F:2 E7/G#"),
    ("4/4", "G major", "G D/F# Em7 C G/B:2 C:2 Am7:2 D7:2"),
    ("4/4", "D minor", "Dm Dm/C Bbmaj7 A7/C# Dm:2 Gm/Bb:2 A7"),
    ("4/4", "F major", "Fmaj7 C/E Dm7 Bb:2 C7:2 F/A Bb Gm7:2 C7:2 F"),
    ("4/4", "E minor", "Em:2 D/F#:2 G C:2 G/B:2 Am7 Em/G F#m7b5:2 B7:2 Em"),
    ("4/4", "Bb major", "Bb6 Gm7 Cm7:2 F7:2 Bb/D Ebmaj7 Cm7:2 F7/A:2"),
    ("4/4", "D major", "D A/C# Bm7 G D/F#:2 G:2 Em7:2 A7:2"),
    ("4/4", "C minor", "Cm Cm/Bb Abmaj7 G7 Cm/Eb:2 Fm7:2 G7/B:2 Cm:2"),
    ("4/4", "A major", "A:2 E/G#:2 F#m7 D:2 A/C#:2 Bm7:2 E7:2"),
    ("3/4", "G major", "G G/B C D7/F# Em Am7 D7 G"),
    ("3/4", "A minor", "Am E7/G# Am/G D7/F# F C/E Bm7b5:2 E7:1 Am"),
    ("3/4", "C major", "Cmaj7 A7/C# Dm7 G7/B C:2 C/E:1 F G7 C"),
    ("6/8", "E minor", "Em:1 D/F#:1 G C:1 G/B:1 Am7 B7/D# Em"),
    ("6/8", "D major", "D:1 A/C#:1 Bm G:1 D/F#:1 Em7:1 A7:1"),
    ("2/4", "F major", "F C7/E F/A:1 Bb:1 C7 F"),
    ("4/4", "E major", "Emaj7 B/D# C#m7 A:2 E/G#:2 F#m7:2 B7:2 Emaj9 Asus2 Bsus4"),
    ("4/4", "G minor", "Gm:2 F/A:2 Bb Eb:2 Bb/D:2 Cm7 D7/F# Gm9:2 Cm6:2"),
    ("4/4", "Ab major", "Abmaj7 Eb/G Fm7 Dbmaj9 Ab/C:2 Db:2 Bbm7:2 Eb7:2"),
    ("5/4", "C major", "C:3 G/B:2 Am7:3 F:2 C/E:3 Dm7:2 G7"),
)


def compose(bench: Bench, count: int) -> list[Figure]:
    """The figures of the composer; a checkpoint without one has none."""
    composer = bench.composer
    if composer is None:
        return [Figure("no composer in this checkpoint", None, 0)]
    test, train = (Compositions(bench.compositions, split, CROP_STEPS) for split in ("test", "train"))
    copies = Copies(pieces_of(train, range(len(train))))
    figures = []
    for kind, chosen in (("real works", test.real), ("works by rule", ~test.real)):
        rows = torch.nonzero(chosen)[:, 0].tolist()[:count]
        if rows:
            figures += beside_works(composer, test, rows, kind, copies, bench.seed)
    figures += obedience(composer, bench.seed, count)
    losses = validate(composer, MaskedCompositions(test, 0.0), 4 * count)
    figures += [
        Figure(f"loss of a masked token, nats: {name.split('/')[1]}", value, 4 * count)
        for name, value in losses.items()
    ]
    return figures


def plan_of(crops: Compositions, index: int, piece: Piece, chords: bool = False) -> MusicPlan:
    """What a piece of a data set states of itself, as a plan; with its chords if `chords`."""
    bar, beats, minor, bpm, *rest = crops.rows[index].tolist()
    meter = METERS.get((bar, beats), f"{bar // 2}/8")
    text = chords_of(torch.from_numpy(piece.tokens), meter, 0) if chords else None
    return MusicPlan(
        bars=len(piece.tokens) // bar,
        bpm=bpm / 100 / float(quarters_per_beat(meter)),
        time_signature=meter,
        key="C minor" if minor == 1 else "C major",
        chords=text,
        parts=tuple(role for role, plays in zip(ROLES, rest[:4], strict=True) if plays),
        instruments={role: PLAYERS[k] for role, k in zip(ROLES, rest[8:11], strict=False) if k != UNKNOWN},
    )


def pieces_from(scores: list[Score], like: list[Piece]) -> list[Piece]:
    """Composed scores as pieces to be measured, in meter and key of others."""
    return [Piece(encode_score(s).numpy(), p.bar, p.beats, p.minor) for s, p in zip(scores, like, strict=True)]


def beside_works(
    composer: ComposerVivace, crops: Compositions, rows: list[int], kind: str, copies: Copies, seed: int
) -> list[Figure]:
    """Figures of pieces composed for the words of works, freely and over their chords, beside the works."""
    works = pieces_of(crops, rows, CROP_STEPS)
    with_chords = [k for k, piece in enumerate(works) if (piece.column("chord") < SIZES[0]).all()]
    made = {"works": works}
    began = time.process_time()
    free = [plan_of(crops, index, piece) for index, piece in zip(rows, works, strict=True)]
    seeds = [seed + k for k in range(len(rows))]
    made["composed"] = pieces_from(compose_scores(composer, free, seeds, crops.text[rows].float()), works)
    took = (time.process_time() - began) / len(rows)
    bound = [plan_of(crops, rows[k], works[k], True) for k in with_chords]
    text = crops.text[[rows[k] for k in with_chords]].float()
    made["over their chords"] = pieces_from(
        compose_scores(composer, bound, [seeds[k] for k in with_chords], text), [works[k] for k in with_chords]
    )
    found = {name: mean_figures(pieces) for name, pieces in made.items()}
    figures = []
    for name, (value, number) in found["composed"].items():
        beside = {source: found[source][name][0] for source in ("works", "over their chords") if name in found[source]}
        figures.append(Figure(f"{kind}: {name}", value, number, beside=beside))
    runs = {source: [copies.longest(piece) for piece in made[source]] for source in ("works", "composed")}
    for name, share in (("median", 50), ("longest of 20", 95), ("longest", 100)):
        value, other = (float(np.percentile(runs[source], share)) for source in ("composed", "works"))
        figures.append(Figure(f"{kind}: notes in a row that stand in training, {name}", value, len(rows), "", None,
                              {"works": other}))  # fmt: skip
    some = free[: max(1, len(free) // 8)]
    spreads = [
        spread(pieces_from(compose_scores(composer, [plan] * 8, list(range(8)), crops.text[[rows[k]] * 8].float()),
                           [works[k]] * 8))
        for k, plan in enumerate(some)
        if "lead" in plan.parts
    ]  # fmt: skip
    if spreads:
        figures.append(Figure(f"{kind}: difference between seeds", float(np.mean(spreads)), 8 * len(spreads), "", None,
                              {"works": spread(works)}))  # fmt: skip
    played = [
        any((piece.column(name) > 0).any() for name in ROLE_COLUMNS[role]) == (role in plan.parts)
        for plan, piece in zip(free, made["composed"], strict=True)
        for role in ROLES
    ]
    figures.append(Figure(f"{kind}: parts as asked, share", float(np.mean(played)), len(played)))
    figures.append(Figure(f"{kind}: CPU seconds for {BARS} bars of 4/4", took, len(rows)))
    return [*figures, density_figure(composer, crops, rows, works, kind, seed)]


def density_figure(
    composer: ComposerVivace, crops: Compositions, rows: list[int], works: list[Piece], kind: str, seed: int
) -> Figure:
    """How often each role of a piece is as dense as asked, to within one class."""
    close = []
    middles = np.convolve([0, *DENSITIES, 12], [0.5, 0.5], "valid")
    for k, (index, piece) in enumerate(zip(rows[:16], works, strict=False)):
        requested = {r: middles[c] for r, c in zip(ROLES, densities(piece.tokens), strict=True) if c != UNKNOWN}
        plan = plan_of(crops, index, piece)
        plan = MusicPlan(**{**vars(plan), "density": requested})
        score = compose_scores(composer, [plan], [seed + k], crops.text[[index]].float())[0]
        got = densities(encode_score(score).numpy())
        close += [
            abs(got[row] - int(np.searchsorted(DENSITIES, requested[role]))) <= 1 and got[row] != UNKNOWN
            for row, role in enumerate(ROLES)
            if role in requested
        ]
    return Figure(f"{kind}: density of a role as asked, within a class of 8", float(np.mean(close)), len(close))


def bass_as_written(score: Score, chords: str) -> list[bool]:
    """For each bar: whether its first chord, and each further one, begins with its root or slash bass in the bass."""
    beats = parse_time_signature(score.time_signature)
    beat = float(quarters_per_beat(score.time_signature))
    sheet = [chord for chord, length in read_progression(chords, beats) for _ in range(length)]
    notes = {round(onset / beat, 4): int(pitch) % 12 for onset, _, pitch, _ in score.notes("bass")}
    right = []
    for bar in range(score.bars):
        places = [
            k
            for k in range(bar * beats, (bar + 1) * beats)
            if k % beats == 0 or sheet[k % len(sheet)] is not sheet[(k - 1) % len(sheet)]
        ]
        chord = [sheet[k % len(sheet)] for k in places]
        right.append(
            all(
                notes.get(float(k)) == (c.root if c.bass is None else c.bass)
                for k, c in zip(places, chord, strict=True)
            )
        )
    return right


def obedience(composer: ComposerVivace, seed: int, count: int) -> list[Figure]:
    """Chord sheets, silent drums, and themes that return."""
    sheets = SHEETS[: max(2, min(count, len(SHEETS)))]
    plans = [MusicPlan(8, 100, meter, key, chords, ROLES[:3]) for meter, key, chords in sheets]
    scores = compose_scores(composer, plans, [seed + k for k in range(len(plans))])
    bars = [flag for score, plan in zip(scores, plans, strict=True) for flag in bass_as_written(score, plan.chords)]
    figures = [least("chord sheets: bars with the written bass, share", float(np.mean(bars)), len(bars), 0.95)]
    seeds = range(seed, seed + max(2, min(100, 4 * count)))
    quiet = compose_scores(composer, [MusicPlan(4, parts=ROLES[:3])] * len(seeds), list(seeds))
    silent = [not len(score.notes("drums")) for score in quiet]
    figures.append(least("no drums: pieces without a drum, share", float(np.mean(silent)), len(silent), 1))
    forms = compose_scores(composer, [MusicPlan(32, form="AABA", parts=ROLES)] * 4, [seed + k for k in range(4)])
    alike = []
    for score in forms:
        lines = [
            {(onset, pitch) for onset, _, pitch, _ in score.slice_bars(8 * k, 8 * k + 8).notes("lead").tolist()}
            for k in range(4)
        ]
        alike.append([2 * len(lines[0] & line) / max(1, len(lines[0]) + len(line)) for line in lines[1:]])
    second, other, last = np.mean(alike, axis=0)
    figures.append(Figure("AABA: likeness of the leads of A and A", float(min(second, last)), 4, "", None,
                          {"A and B": float(other)}))  # fmt: skip
    return figures
