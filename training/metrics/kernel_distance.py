"""Kernel distance between two sets of embeddings: unbiased squared MMD with a cubic kernel (Binkowski et al. 2018)."""

import numpy as np

FEWEST = 2  # clips a set: without pairs there is nothing unbiased to take


def polynomial_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(x . y / d + 1)^3 of all pairs: (n, d), (m, d) -> (n, m), float64."""
    return (np.asarray(a, dtype=np.float64) @ np.asarray(b, dtype=np.float64).T / a.shape[1] + 1.0) ** 3


def kernel_distance(
    a: np.ndarray,
    b: np.ndarray,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    *,
    paired: bool | np.ndarray,
) -> dict:
    """Unbiased estimate of the squared MMD, with a bootstrap interval over clips.

    Unlike the Frechet distance it needs no covariance and has no bias for few clips: equal distributions give 0 on
    average, hence values below 0 too.

    Args:
        a, b: (n, d) and (m, d).
        seed: of the resampling.
        resamples: bootstrap draws; 0 = no interval.
        level: coverage of the interval, between 0 and 1.
        paired: whether row i of `b` was made from row i of `a`, or asked for by its labels; or (n, m) bool, which rows
            belong together, at most one to each. Such pairs are left out, as a clip's with itself, for they are alike
            for a reason that is not the distribution; the bootstrap draws them together.

    Returns:
        `mean`, `low` and `high` (None without an interval), and `n`, the clips of the smaller set.

    Raises:
        ValueError: other shapes, values that are not finite, fewer than 2 clips, or a level outside (0, 1).
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}; needed: (n, d) and (m, d)")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("embeddings hold values that are not finite")
    if min(len(a), len(b)) < FEWEST:
        raise ValueError(f"{min(len(a), len(b))} clips are too few for a kernel distance; needed: at least {FEWEST}")
    if paired is True and len(a) != len(b):
        raise ValueError(f"a has {len(a)} clips, b {len(b)}; needed where they are paired: equal")
    related = paired if isinstance(paired, np.ndarray) else np.eye(len(a), len(b), dtype=bool) & paired
    if related.shape != (len(a), len(b)) or max(related.sum(axis=0).max(), related.sum(axis=1).max()) > 1:
        raise ValueError(f"paired has shape {related.shape}; needed: {(len(a), len(b))}, at most one to a row")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}; allowed: above 0 and below 1")
    within_a, within_b, across = polynomial_kernel(a, a), polynomial_kernel(b, b), polynomial_kernel(a, b)
    rng = np.random.default_rng([seed, 8])
    counts_a = rng.multinomial(len(a), np.full(len(a), 1.0 / len(a)), size=resamples)
    counts_b = rng.multinomial(len(b), np.full(len(b), 1.0 / len(b)), size=resamples)
    rows, columns = np.nonzero(related)
    counts_b[:, columns] = counts_a[:, rows]
    draws = [
        _unbiased(within_a, within_b, across, x.astype(np.float64), y.astype(np.float64), (rows, columns))
        for x, y in zip(counts_a, counts_b, strict=True)
    ]
    mean = _unbiased(within_a, within_b, across, np.ones(len(a)), np.ones(len(b)), (rows, columns))
    low = high = None
    if np.isfinite(draws).any():
        low, high = np.nanquantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0]).tolist()
    return {"mean": mean, "low": low, "high": high, "n": min(len(a), len(b))}


def _unbiased(
    within_a: np.ndarray,
    within_b: np.ndarray,
    across: np.ndarray,
    count_a: np.ndarray,
    count_b: np.ndarray,
    related: tuple[np.ndarray, np.ndarray],
) -> float:
    """Squared MMD of clips that are there `count` times each; a clip is never paired with itself or its own copy, nor
    with what was made from it: the pairs of `related`, rows of a and of b."""

    def pairs(kernel: np.ndarray, count: np.ndarray) -> float:
        total = count @ kernel @ count - np.sum(count**2 * np.diag(kernel))
        weight = count.sum() ** 2 - np.sum(count**2)
        return total / weight if weight > 0 else np.nan  # a draw of one clip alone has no pairs

    between, weight = count_a @ across @ count_b, count_a.sum() * count_b.sum()
    together = count_a[related[0]] * count_b[related[1]]
    between, weight = between - np.sum(together * across[related]), weight - np.sum(together)
    if weight <= 0:
        return np.nan
    between /= weight
    return float(pairs(within_a, count_a) + pairs(within_b, count_b) - 2.0 * between)
