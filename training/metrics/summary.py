"""Summaries of figures over clips: means with bootstrap intervals, and tables of them as text."""

from collections.abc import Iterable

import numpy as np


def summarise(values: Iterable[float | None], seed: int = 0, resamples: int = 2000, level: float = 0.95) -> dict:
    """Mean with a percentile bootstrap interval (Efron 1979) and the count of values, one a clip; None and NaN (no
    measurement for that clip) are left out: `mean`, `low`, `high` (None without a value; equal for a single one) and
    `n`. Raises a ValueError for a level outside (0, 1) or fewer than 1 resamples."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; allowed: above 0 and below 1")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; allowed: at least 1")
    kept = np.array([v for v in values if v is not None], dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    if not len(kept):
        return {"mean": None, "low": None, "high": None, "n": 0}
    draws = np.random.default_rng(seed).integers(0, len(kept), size=(resamples, len(kept)))
    low, high = np.quantile(kept[draws].mean(axis=1), [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return {"mean": float(kept.mean()), "low": float(low), "high": float(high), "n": len(kept)}


def _cell(summary: dict | None) -> str:
    return "-" if summary is None or summary["mean"] is None else f"{summary['mean']:.3f}"


def figures_table(figures: dict[str, dict[str, dict]], names: dict[str, str], columns: list[str]) -> str:
    """A line for each figure and a column for each source; interval and count are of the first column with a value.

    `figures` maps name and source to the result of `summarise`, `names` a name to the label of its line; `columns` are
    sources. Figures without a value in any column are left out.
    """
    lines = [["", *columns, "95 % interval", "n"]]
    for name, label in names.items():
        by_source = figures.get(name, {})
        first = next((by_source[c] for c in columns if by_source.get(c) and by_source[c]["n"]), None)
        if first is None:
            continue
        cells = [_cell(by_source.get(column)) for column in columns]
        lines.append([label, *cells, f"{first['low']:.3f} .. {first['high']:.3f}", str(first["n"])])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
