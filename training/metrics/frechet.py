"""Frechet distance between two sets of embeddings (Heusel et al. 2017), also extrapolated to infinitely many clips."""

import numpy as np

FRACTIONS = 9  # sizes of the extrapolation
DRAWS = 12  # subsets of each size


def moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and unbiased covariance (d, d) of (n, d), in float64."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors.mean(axis=0), np.atleast_2d(np.cov(vectors, rowvar=False))


def square_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix (d, d), by its eigenvectors.

    Eigenvalues that rounding made negative count as 0, so that the root is always real.
    """
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def gaussian_distance(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2) of two Gaussians (Dowson and Landau 1982).

    The trace of that root is the sum of the singular values of A^1/2 B^1/2: no root of a rounded product is taken.
    """
    shared = np.linalg.svd(square_root(cov_a) @ square_root(cov_b), compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2.0 * shared
    return float(max(distance, 0.0))


def clips_needed(dimensions: int) -> int:
    """Fewest clips whose covariance has full rank."""
    return dimensions + 1


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two sets, as it is for these numbers of clips: never below the truth on average.

    Args:
        a, b: (n, d) and (m, d).

    Raises:
        ValueError: other shapes, values that are not finite, or fewer than d + 1 clips in one of them.
    """
    _check(a, b, 1)
    return gaussian_distance(*moments(a), *moments(b))


def frechet_infinite(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, float]:
    """What the Frechet distance would be with infinitely many clips (Chong and Forsyth 2020, "FID infinity").

    The finite distance is too large by about c / n. Subsets of both sets, the same fraction of each, are measured at
    several sizes, and a line over 1 / fraction is followed to 0. Chong and Forsyth shrink the generated set alone,
    beside a reference of many thousands; here both are small, and both biases go.

    Args:
        a, b: (n, d) and (m, d).
        seed: of the subsets, which are drawn without replacement.

    Returns:
        `distance` (can be a little below 0 where the truth is near 0), `slope` (distance added by one more
        1 / fraction), `smallest` (clips in the smallest subset).

    Raises:
        ValueError: as `frechet_distance`, or fewer than 2 (d + 1) clips in one of them.
    """
    dimensions = _check(a, b, 2)
    fewest = min(len(a), len(b))
    lowest = max(0.5, clips_needed(dimensions) / fewest)
    rng = np.random.default_rng([seed, 7])
    inverse, measured = [], []
    # Equal steps of 1 / fraction, which is what the line runs over.
    for steps in np.linspace(1.0, 1.0 / lowest, FRACTIONS):
        sizes = [max(clips_needed(dimensions), round(len(x) / steps)) for x in (a, b)]
        values = []
        for _ in range(1 if steps == 1.0 else DRAWS):
            # One order for both: where clip i of one set belongs to clip i of the other, they stay together.
            order = rng.permutation(max(len(a), len(b)))
            subsets = [x[order[order < len(x)][:size]] for x, size in zip((a, b), sizes, strict=True)]
            values.append(frechet_distance(*subsets))
        inverse.append(0.5 * (len(a) / sizes[0] + len(b) / sizes[1]))
        measured.append(np.mean(values))
    slope, distance = np.polyfit(inverse, measured, 1)
    return {"distance": float(distance), "slope": float(slope), "smallest": round(fewest * lowest)}


def _check(a: np.ndarray, b: np.ndarray, times: int) -> int:
    """Dimensions of two sets of at least `times` (d + 1) clips, or a ValueError."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}; needed: (n, d) and (m, d)")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("embeddings hold values that are not finite")
    needed = times * clips_needed(a.shape[1])
    if min(len(a), len(b)) < needed:
        what = "an extrapolation" if times > 1 else "a covariance"
        raise ValueError(
            f"{min(len(a), len(b))} clips are too few for {what} in {a.shape[1]} dimensions; needed: at least {needed}"
        )
    return a.shape[1]
