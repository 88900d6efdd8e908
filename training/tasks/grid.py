"""Exact lengths from bars, tempo and meter, and control figures of loops, long pieces and edits beside plain pieces."""

from fractions import Fraction
from itertools import product

import numpy as np

from training.metrics.control import compare
from training.metrics.listening import analyse
from training.metrics.summary import summarise
from training.tasks.common import PIECE_S, Bench, Figure, arguments_for, bars_of, least, make, mono, request_of

FIGURES = {
    "tempo_4pct": "tempo within 4 %",
    "beat_f": "beat F",
    "downbeat_f": "downbeat F",
    "key_exact": "key",
    "chord_cosine": "chord cosine",
}
TEMPI, METERS, BARS = (61, 87.5, 173), ("4/4", "3/4", "6/8", "7/8"), (1, 3)
MAY_FALL = 0.05  # allowed loss of a mean against the plain pieces for the same requests


def lengths(bench: Bench, count: int) -> list[Figure]:
    """Lengths in samples of pieces of whole bars against the exact fractions."""
    wrong = total = 0
    for bpm, meter, bars in product(TEMPI, METERS, BARS):
        top, bottom = (int(part) for part in meter.split("/"))
        beats = top // 3 if bottom == 8 and top % 3 == 0 and top > 3 else top
        exact = Fraction(bars * beats * 60) / Fraction(str(bpm)) * bench.rate
        if exact < bench.rate or exact > 10 * bench.rate:
            continue
        request = {"prompt": "piano", "bars": bars, "bpm": bpm, "time_signature": meter, "seed": bench.seed}
        for loop in (False, True):
            out = bench.pipe(**request, loop=loop, num_inference_steps=1, guidance_scale=1.0)
            wrong += out.audios[0].shape[1] != round(exact)
            total += 1
    return [least("bars x tempo x meter, plain and loop: exact to the sample, share", 1 - wrong / total, total, 1)]


def control(bench: Bench, count: int) -> list[Figure]:
    """The control table of plain pieces, loops, long pieces, variations, inpainting and continuation.

    Of edits only the generated part is measured; an edit has the prompt, tempo and chords of the piece that it edits. A
    figure may be 0.05 below that of the plain pieces, which is less than the interval of either. Estimates from half as
    many bars are less accurate, most of all downbeats, so halves are compared with halves of plain pieces.
    """
    rows, captions = bench.rows[:count], bench.captions[:count]
    bars = [2 * max(1, bars_of(row, PIECE_S) // 2) for row in rows]  # even, so that half of them are whole bars
    halves = [n // 2 for n in bars]
    bar_s = [60.0 / row["bpm"] * row["beats_per_bar"] for row in rows]
    plain = arguments_for(rows, captions, bars)
    pieces = make(bench, plain)
    edit = {name: values for name, values in plain.items() if name != "bars"}
    edit |= {"downbeat_s": [0.0] * len(rows), "audio": pieces}
    masks = [[(n * bar, 2 * n * bar)] for n, bar in zip(halves, bar_s, strict=True)]
    rate, start = {"sampling_rate": bench.rate}, [0] * len(rows)
    continued = [
        make(bench, {k: v[i : i + 1] for k, v in edit.items()}, i, **rate, extend_s=(0, halves[i] * bar_s[i]))[0]
        for i in range(len(rows))
    ]
    made = {  # audio, the number of bars that are measured, and the first of them
        "plain": (pieces, bars, start),
        "plain, later half": (pieces, halves, halves),
        "loop": (make(bench, plain, loop=True), bars, start),
        "long": (make(bench, plain | {"bars": [4 * n for n in bars]}), [4 * n for n in bars], start),
        "strength 0.6": (make(bench, edit, **rate, strength=0.6), bars, start),
        "inpainted half": (make(bench, edit | {"mask_s": masks}, **rate), halves, halves),
        "continued": (continued, halves, bars),
    }
    means = {name: measure(bench, rows, plain["chords"], *parts) for name, parts in made.items()}
    figures = []
    for figure, label in FIGURES.items():
        for name, values in means.items():
            value, whole = values[figure], made[name][1] is not halves
            against = "plain" if whole else "plain, later half"
            first = means[against][figure]
            if name.startswith("plain") or value is None or first is None:
                figures.append(Figure(f"{name}: {label}", value, len(rows)))
            else:
                least_value = round(first - MAY_FALL, 3)
                figures.append(least(f"{name}: {label}", value, len(rows), least_value, **{against: first}))
    return figures


def measure(
    bench: Bench,
    rows: list[dict],
    chords: list[str | None],
    audios: list[np.ndarray],
    bars: list[int],
    first_bars: list[int],
) -> dict:
    """Means of FIGURES, each piece measured over `bars[i]` bars from bar `first_bars[i]` on."""
    parts, requests = [], []
    for row, text, audio, count, first in zip(rows, chords, audios, bars, first_bars, strict=True):
        bar = 60.0 / row["bpm"] * row["beats_per_bar"] * bench.rate
        parts.append(mono(audio)[round(first * bar) : round((first + count) * bar)])
        requests.append(request_of(row, text, count * row["beats_per_bar"], first * row["beats_per_bar"]))
    found = compare(analyse(parts, bench.rate, bench.listeners, bench.pool), requests, bench.listeners.thresholds)
    return {name: summarise((one[name] for one in found), bench.seed)["mean"] for name in FIGURES}
