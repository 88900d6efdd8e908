"""How many different clips there are in a set of embeddings."""

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of (n, d) brought to length 1, in float64; rows of zeros stay."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def vendi_score(vectors: np.ndarray) -> float:
    """Effective number of different clips (Friedman and Dieng 2023): exp of the entropy of the eigenvalues of K / n,
    where K holds the cosines of all pairs. 1 = all alike, n = all orthogonal.

    It grows with n: compare sets of equal size.

    Args:
        vectors: (n, d).

    Raises:
        ValueError: no clips, or not (n, d).
    """
    rows = _check(vectors, 1)
    # X X^T and X^T X share their eigenvalues but for zeros: the smaller is taken.
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(gram / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-np.sum(values * np.log(values))))


def mean_pairwise_distance(vectors: np.ndarray) -> float:
    """Mean of 1 - cosine over all pairs of different clips (n, d); 0 = all alike.

    Raises:
        ValueError: fewer than 2 clips, or not (n, d).
    """
    rows = _check(vectors, 2)
    count = len(rows)
    own = np.sum(rows**2)
    return float(1.0 - (np.sum(rows.sum(axis=0) ** 2) - own) / (count * (count - 1)))


def _check(vectors: np.ndarray, fewest: int) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) < fewest:
        raise ValueError(f"vectors has shape {vectors.shape}; needed: (n, d), n at least {fewest}")
    return unit(vectors)
