"""Are generated clips copies of training clips? Nearest neighbours in the embedding, beside those of unseen clips."""

import numpy as np
from scipy.stats import mannwhitneyu

from training.metrics.diversity import unit

PERCENTILE = 5.0
WORST = 5


def nearest(vectors: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distance of each row (n, d) to the nearest row of `train` (m, d), and which it is: (n,), (n,)."""
    distance = 1.0 - unit(vectors) @ unit(train).T
    return distance.min(axis=1), distance.argmin(axis=1)


def memorisation_figures(
    generated: np.ndarray,
    test: np.ndarray,
    train: np.ndarray,
    generated_names: list[str],
    train_names: list[str],
) -> dict:
    """Distances of generated clips to the training set against those of real clips that were not trained on.

    Args:
        generated, test, train: (n, d), (k, d), (m, d) embeddings.
        generated_names, train_names: what the clips are called, for the list of the nearest.

    Returns:
        `share_nearer`: generated clips nearer than the 5th percentile of the test ones (0.05 where nothing is copied);
        `auc`: chance that a generated clip is nearer to the training set than a test clip (0.5 where nothing is);
        `p`: one-sided Mann-Whitney test of "generated clips are nearer"; `generated_median`, `test_median`,
        `test_percentile`: cosine distances; `nearest`: the five nearest pairs; `counts`.

    Raises:
        ValueError: an empty set, widths that differ, or names that are not one a clip.
    """
    sets = {"generated": generated, "test": test, "train": train}
    for name, vectors in sets.items():
        if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != train.shape[1]:
            raise ValueError(f"{name} has shape {vectors.shape}; needed: (n, {train.shape[-1]}), n at least 1")
    if len(generated_names) != len(generated) or len(train_names) != len(train):
        raise ValueError(
            f"{len(generated_names)} generated_names and {len(train_names)} train_names; "
            f"needed: {len(generated)} and {len(train)}"
        )
    made, which = nearest(generated, train)
    unseen, _ = nearest(test, train)
    threshold = float(np.percentile(unseen, PERCENTILE))
    # U counts the pairs in which the generated clip is farther, ties half.
    statistic, p = mannwhitneyu(made, unseen, alternative="less")
    return {
        "share_nearer": float(np.mean(made < threshold)),
        "share_expected": PERCENTILE / 100.0,
        "auc": float(1.0 - statistic / (len(made) * len(unseen))),
        "p": float(p),
        "generated_median": float(np.median(made)),
        "test_median": float(np.median(unseen)),
        "test_percentile": threshold,
        "nearest": [
            {"clip": generated_names[i], "train": train_names[which[i]], "distance": float(made[i])}
            for i in np.argsort(made, kind="stable")[:WORST]
        ],
        "counts": {name: len(vectors) for name, vectors in sets.items()},
    }
