"""Control figures of many clips: against their own requests, and against those of others (chance)."""

import numpy as np

from training.metrics import control
from training.metrics.bootstrap import summarise
from training.metrics.listening import Heard
from training.metrics.request import Request

SHUFFLES = 8


def compare(clips: list[Heard], requests: list[Request], thresholds: dict) -> list[dict[str, float | None]]:
    """Control figures of clip i against request i."""
    pairs = zip(clips, requests, strict=True)
    return [control.control_figures(clip, request, thresholds) for clip, request in pairs]


def chance(clips: list[Heard], requests: list[Request], thresholds: dict, seed: int) -> list[dict[str, float | None]]:
    """Control figures of each clip against the requests of others: the mean over up to 8 shuffles, in none of which a
    clip meets its own. Empty for a single clip."""
    count = len(clips)
    rng = np.random.default_rng([seed, 2])
    order = rng.permutation(count)
    # Turning a random circle of clips by 1 to n - 1 places is a shuffle in which nobody stays.
    turns = rng.permutation(np.arange(1, count))[:SHUFFLES]
    rounds = []
    for turn in turns:
        other = np.empty(count, dtype=int)
        other[order] = np.roll(order, turn)
        rounds.append(compare(clips, [requests[i] for i in other], thresholds))
    means = []
    for figures in zip(*rounds, strict=True):
        kept = {name: [f[name] for f in figures if f[name] is not None] for name in control.NAMES}
        means.append({name: float(np.mean(values)) if values else None for name, values in kept.items()})
    return means


def summaries(by_source: dict[str, list[dict]], names: dict[str, str], seed: int) -> dict[str, dict[str, dict]]:
    """name -> source -> mean, interval and count of the clips that have the figure."""
    return {
        name: {source: summarise((f.get(name) for f in figures), seed) for source, figures in by_source.items()}
        for name in names
    }


def by_source(figures: list[dict], rows: list[dict], names: tuple[str, ...], seed: int) -> dict[str, dict[str, dict]]:
    """name -> `source` of the rows -> mean, interval and count: which kind of music a figure fails on."""
    sources = [row.get("source") or "unknown" for row in rows]
    return {
        name: {
            source: summarise((f[name] for f, s in zip(figures, sources, strict=True) if s == source), seed)
            for source in sorted(set(sources))
        }
        for name in names
    }
