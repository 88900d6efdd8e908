"""Compare sets of clips by their embeddings: Frechet, kernel and energy distance, diversity, memorisation.

`distribution_figures` and `folder_figures` put them together: generated clips against real ones, beside the distance
between two sets of real clips (the floor) and that of the autoencoder's reconstructions (the ceiling).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

from training.metrics.embedding import Embedder
from training.run.streams import Measure, item_rng

FRACTIONS = 9  # subset sizes of the extrapolation
DRAWS = 12  # subsets of each size
FEWEST = 2  # clips a set for a kernel distance: the unbiased estimate needs pairs
PERCENTILE = 5.0  # of the test clips' distances to the training set
WORST = 5  # nearest pairs to list
COMPONENTS = 24  # of the space: 25 clips suffice for a covariance, 50 for an extrapolation
SPACE_CLIPS = 400  # training clips that define a space


def _check_sets(a: np.ndarray, b: np.ndarray) -> None:
    """Raise a ValueError unless a and b are (n, d) and (m, d) and finite."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}; needed: (n, d) and (m, d)")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("embeddings hold values that are not finite")


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of (n, d) brought to length 1, in float64; rows of zeros stay."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


# Frechet distance (Heusel et al. 2017), also extrapolated to infinitely many clips.


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

    The trace of that root equals the sum of the singular values of A^1/2 B^1/2, which is more exact.
    """
    shared = np.linalg.svd(square_root(cov_a) @ square_root(cov_b), compute_uv=False).sum()
    distance = np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2.0 * shared
    return float(max(distance, 0.0))


def clips_needed(dimensions: int) -> int:
    """Fewest clips whose covariance has full rank."""
    return dimensions + 1


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance of two sets, (n, d) and (m, d). For finite numbers of clips it is too large on average. Raises a
    ValueError for other shapes, values that are not finite, or fewer than d + 1 clips in one of them."""
    _check_covariance(a, b, 1)
    return gaussian_distance(*moments(a), *moments(b))


def frechet_infinite(a: np.ndarray, b: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Estimate of the Frechet distance of (n, d) and (m, d) for infinitely many clips (Chong and Forsyth 2020).

    The finite distance is too large by about c / n. It is measured for subsets of several sizes, the same fraction of
    both sets, drawn without replacement, and a line fitted over 1 / fraction is extrapolated to 0. Chong and Forsyth
    shrink only the generated set, since their reference has many thousands of clips; here both sets are small.

    Returns:
        `distance` (can be a little below 0 where the truth is near 0), `slope` (distance added by one more
        1 / fraction), `smallest` (clips in the smallest subset).

    Raises:
        ValueError: as `frechet_distance`, or fewer than 2 (d + 1) clips in one of them.
    """
    dimensions = _check_covariance(a, b, 2)
    fewest = min(len(a), len(b))
    lowest = max(0.5, clips_needed(dimensions) / fewest)
    rng = item_rng(seed, Measure.SUBSETS)
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


def _check_covariance(a: np.ndarray, b: np.ndarray, times: int) -> int:
    """Dimensions of two sets of at least `times` (d + 1) clips, or a ValueError."""
    _check_sets(a, b)
    needed = times * clips_needed(a.shape[1])
    if min(len(a), len(b)) < needed:
        what = "an extrapolation" if times > 1 else "a covariance"
        raise ValueError(
            f"{min(len(a), len(b))} clips are too few for {what} in {a.shape[1]} dimensions; needed: at least {needed}"
        )
    return a.shape[1]


# Kernel distance: unbiased squared MMD with a cubic kernel (Binkowski et al. 2018).


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

    Unlike the Frechet distance it needs no covariance and is unbiased for few clips. Equal distributions give 0 on
    average, so that single values can be negative.

    Args:
        a, b: (n, d) and (m, d).
        resamples: bootstrap draws; 0 = no interval.
        level: coverage of the interval.
        paired: whether row i of `b` was made from row i of `a`, or requested by its labels; or (n, m) bool that marks
            such rows, at most one for each. These pairs are more alike than two independent clips and are left out
            of the estimate, like the pair of a clip with itself; the bootstrap draws them together.

    Returns:
        `mean`, `low` and `high` (None without an interval), and `n`, the clips of the smaller set.

    Raises:
        ValueError: other shapes, values that are not finite, fewer than 2 clips, or a level outside (0, 1).
    """
    _check_sets(a, b)
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
    rng = item_rng(seed, Measure.RESAMPLES)
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
    """Squared MMD of sets in which clip i occurs `count[i]` times.

    Pairs of a clip with itself or its copies are left out, and so are those of `related`: rows of a and rows of b.
    """

    def pairs(kernel: np.ndarray, count: np.ndarray) -> float:
        total = count @ kernel @ count - np.sum(count**2 * np.diag(kernel))
        weight = count.sum() ** 2 - np.sum(count**2)
        return total / weight if weight > 0 else np.nan  # a bootstrap draw of a single clip has no pairs

    between, weight = count_a @ across @ count_b, count_a.sum() * count_b.sum()
    together = count_a[related[0]] * count_b[related[1]]
    between, weight = between - np.sum(together * across[related]), weight - np.sum(together)
    if weight <= 0:
        return np.nan
    between /= weight
    return float(pairs(within_a, count_a) + pairs(within_b, count_b) - 2.0 * between)


# Energy distance (Szekely and Rizzo 2013), for sets of a few clips: it needs no covariance and no kernel.


def pair_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distances of all pairs: (n, d), (m, d) -> (n, m), float64."""
    _check_sets(a, b)
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.linalg.norm(a[:, None] - b[None, :], axis=2)


def energy_distance(a: np.ndarray, b: np.ndarray) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| of two sets, (n, d) and (m, d), in the unit of the vectors.

    It is 0 for the same set and never negative, so that one clip a side is enough. For finite numbers of clips it is
    too large on average, alike for sets of the same sizes. Raises a ValueError for other shapes, values that are not
    finite, or an empty set.
    """
    if not len(a) or not len(b):
        raise ValueError(f"a has {len(a)} clips, b {len(b)}; needed: at least 1")
    across, within = pair_distances(a, b).mean(), pair_distances(a, a).mean() + pair_distances(b, b).mean()
    return float(max(2.0 * across - within, 0.0))


# Diversity.


def vendi_score(vectors: np.ndarray) -> float:
    """Effective number of different clips (Friedman and Dieng 2023): exp of the entropy of the eigenvalues of K / n,
    where K holds the cosines of all pairs. 1 = all equal, n = all orthogonal; only sets of equal size can be compared.
    """
    rows = _check_size(vectors, 1)
    # X X^T and X^T X have the same eigenvalues except for zeros; the smaller matrix is faster.
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = np.linalg.eigvalsh(gram / len(rows))
    values = values[values > 1e-12]
    return float(np.exp(-np.sum(values * np.log(values))))


def mean_pairwise_distance(vectors: np.ndarray) -> float:
    """Mean of 1 - cosine over all pairs of different clips (n, d); 0 = all equal."""
    rows = _check_size(vectors, 2)
    count = len(rows)
    own = np.sum(rows**2)
    return float(1.0 - (np.sum(rows.sum(axis=0) ** 2) - own) / (count * (count - 1)))


def diversity(vectors: np.ndarray) -> dict[str, float | None]:
    """`vendi` and `mean_pairwise_distance` (None for a single clip) of (n, d)."""
    pairs = mean_pairwise_distance(vectors) if len(vectors) > 1 else None
    return {"vendi": vendi_score(vectors), "mean_pairwise_distance": pairs}


def _check_size(vectors: np.ndarray, fewest: int) -> np.ndarray:
    if vectors.ndim != 2 or len(vectors) < fewest:
        raise ValueError(f"vectors has shape {vectors.shape}; needed: (n, d), n at least {fewest}")
    return unit(vectors)


# Memorisation: distances to the nearest training clip, of generated clips and of real clips outside the training set.


def nearest(vectors: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine distance of each row (n, d) to the nearest row of `train` (m, d), and that row's index: (n,), (n,)."""
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

    Returns:
        `share_nearer`: share of generated clips nearer than the 5th percentile of the test clips (0.05 without copies);
        `auc`: probability that a generated clip is nearer to the training set than a test clip (0.5 without copies);
        `p`: one-sided Mann-Whitney test of "generated clips are nearer"; `generated_median`, `test_median`,
        `test_percentile`: cosine distances; `nearest`: the five nearest pairs; `counts`.

    Raises:
        ValueError: an empty set, widths that differ, or a number of names other than that of clips.
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
    # U counts the pairs in which the generated clip is farther; ties count half.
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


# All figures together.


@dataclass(frozen=True)
class EmbeddedClips:
    """Embeddings (n, d) of clips, and the names of the clips."""

    vectors: np.ndarray
    names: list[str]


def embed_clips(
    embedder: Embedder, audios: list[np.ndarray], sampling_rate: int, names: list[str] | None = None
) -> EmbeddedClips:
    """Embed clips (samples,) at `sampling_rate` Hz; without `names` their names are their indices."""
    names = [str(i) for i in range(len(audios))] if names is None else [Path(name).name for name in names]
    if len(names) != len(audios):
        raise ValueError(f"{len(names)} names for {len(audios)} clips; needed: one each")
    return EmbeddedClips(embedder.embed(audios, sampling_rate), names)


class Space:
    """The scale and principal components in which distances are measured, defined by the training clips (m, d) alone.

    The Frechet distance is measured in the first `components`, since a covariance needs more clips than dimensions.
    Raises a ValueError for fewer than 2 training clips, or all of them equal.
    """

    def __init__(self, train: np.ndarray, components: int = COMPONENTS):
        if train.ndim != 2 or len(train) < 2:
            raise ValueError(f"train has shape {train.shape}; needed: (m, d), m at least 2")
        self.mean = train.mean(axis=0)
        centred = train - self.mean
        self.scale = float(np.sqrt(np.mean(centred**2)))
        if not self.scale > 0.0:
            raise ValueError("train: all embeddings are alike; needed: clips that differ")
        _, values, directions = np.linalg.svd(centred, full_matrices=False)
        self.components = min(components, len(values))
        self.basis = directions[: self.components].T
        self.explained = float(np.sum(values[: self.components] ** 2) / np.sum(values**2))
        self.card = {"components": self.components, "explained": self.explained, "scale": self.scale}

    def standardise(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, d)."""
        return (vectors - self.mean) / self.scale

    def kernel_distance(
        self, real: np.ndarray, other: np.ndarray, *, paired: bool | np.ndarray, seed: int = 0, resamples: int = 1000
    ) -> dict:
        """`kernel_distance` on the scale of this space, as all that this project reports."""
        a, b = self.standardise(real), self.standardise(other)
        return kernel_distance(a, b, seed, resamples, paired=paired)

    def reduce(self, standardised: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, components)."""
        return standardised @ self.basis


def _or_reason(missing: dict[str, str], figure: str, measure: Callable, *arguments: object) -> object:
    """`measure(*arguments)`; if there are too few clips for it, None, with the reason in `missing`."""
    try:
        return measure(*arguments)
    except ValueError as error:
        missing[figure] = str(error)
        return None


def distribution_figures(
    embedder: Embedder,
    real_test: EmbeddedClips,
    disjoint_real: EmbeddedClips,
    reconstructed: EmbeddedClips,
    generated: EmbeddedClips,
    train: EmbeddedClips,
    seed: int = 0,
) -> dict:
    """All distribution figures of a report, ready for JSON.

    Distances are measured from `real_test` to the other sets. The finite Frechet distance and the Vendi score depend
    on the number of clips, so they use the first clips of each set, as many as the smallest set has. The kernel
    distance and the extrapolated Frechet distance use all clips.

    Args:
        real_test: real clips that were not trained on.
        disjoint_real: other real clips, of other works: the floor.
        reconstructed: `real_test` through the autoencoder: the ceiling. Since clip by clip the music is the same, its
            distance can be smaller than the floor.
        generated: clips of the model; clip i was requested by the labels of clip i of `real_test`.
        train: clips that the model was trained on; they also define the space.

    Returns:
        `frechet`, `frechet_infinite`, `kernel`: {"floor", "ceiling", "generated"}; a figure for which there are too few
        clips is None, with the reason under `missing`; `diversity`: {"real", "generated"}; `memorisation`; `counts`;
        `embedder`; `space`; `seed`.

    Raises:
        ValueError: an empty set, or sets of different widths.
    """
    sets = {"real": real_test, "floor": disjoint_real, "ceiling": reconstructed, "generated": generated}
    for name, clips in {**sets, "train": train}.items():
        if clips.vectors.ndim != 2 or not len(clips.vectors) or clips.vectors.shape[1] != train.vectors.shape[1]:
            raise ValueError(f"{name} has shape {clips.vectors.shape}; needed: (n, {train.vectors.shape[-1]})")
    space = Space(train.vectors)
    count = min(len(clips.vectors) for clips in sets.values())
    full = {name: space.standardise(clips.vectors) for name, clips in sets.items()}
    low = {name: space.reduce(vectors) for name, vectors in full.items()}
    cut = {name: vectors[:count] for name, vectors in full.items()}
    raw = {name: clips.vectors for name, clips in sets.items()}
    missing: dict[str, str] = {}

    def against_real(figure: str, vectors: dict[str, np.ndarray], measure: Callable) -> dict:
        out = {}
        for name in ("floor", "ceiling", "generated"):
            paired = name != "floor"
            pairs = min(len(vectors["real"]), len(vectors[name])) if paired else None
            out[name] = _or_reason(missing, figure, measure, vectors["real"][:pairs], vectors[name][:pairs], paired)
        return out

    return {
        "frechet": against_real("frechet", low, lambda a, b, paired: frechet_distance(a[:count], b[:count])),
        "frechet_infinite": against_real("frechet_infinite", low, lambda a, b, paired: frechet_infinite(a, b, seed)),
        "kernel": against_real(
            "kernel", raw, lambda a, b, paired: space.kernel_distance(a, b, seed=seed, paired=paired)
        ),
        "diversity": {"real": diversity(cut["real"]), "generated": diversity(cut["generated"])},
        "memorisation": memorisation_figures(
            full["generated"], full["real"], space.standardise(train.vectors), generated.names, train.names
        ),
        "missing": missing,
        "counts": {"compared": count, **{k: len(v.vectors) for k, v in sets.items()}, "train": len(train.vectors)},
        "space": space.card,
        "embedder": {"name": embedder.name, **embedder.card},
        "seed": seed,
    }


def too_few(count: int, train: int) -> str | None:
    """Which distances cannot be measured, as one line; None if all can. `count`: clips of the smallest set to compare;
    `train`: clips that define the space."""
    covariance = clips_needed(min(COMPONENTS, train))
    needed = {"kernel distance": FEWEST, "Frechet distance": covariance, "its extrapolation": 2 * covariance}
    missing = [f"{name} (needed: {least})" for name, least in needed.items() if count < least]
    return f"clips to compare: {count}, too few for the {', '.join(missing)}" if missing else None


def check_enough(clips: int, reference: int, components: int = COMPONENTS) -> None:
    """Raise a ValueError if there are too few clips or reference clips for `folder_figures`."""
    needed = clips_needed(min(components, reference))
    if min(reference // 2, clips) < needed:
        raise ValueError(
            f"{clips} clips and {reference} reference clips are too few for a covariance; needed: {needed} clips "
            f"and {2 * needed} reference clips"
        )


def folder_figures(
    embedder: Embedder,
    clips: EmbeddedClips,
    reference: EmbeddedClips,
    seed: int = 0,
    paired: np.ndarray | None = None,
) -> dict:
    """Distances of a set of clips from a reference set, beside the distance between two halves of the reference.

    The reference defines the space, so that figures for two references cannot be compared. All sets are cut to the same
    size: half of the reference, or the number of clips if that is less.

    `paired` is (reference clips, clips) bool, true where a clip was made from a reference clip or requested by its
    labels; None if no clip was.

    Returns:
        `frechet`, `frechet_infinite`, `kernel`: {"floor", "generated"}; `diversity`, `counts`, `space`, `embedder`,
        `missing`, `seed`, as in `distribution_figures`.

    Raises:
        ValueError: too few clips for a covariance, stating the number that is needed.
    """
    space = Space(reference.vectors)
    check_enough(len(clips.vectors), len(reference.vectors), space.components)
    order = item_rng(seed, Measure.REFERENCE_ORDER).permutation(len(reference.vectors))
    ordered = reference.vectors[order]
    real, made = space.standardise(ordered), space.standardise(clips.vectors)
    related = np.zeros((len(real), len(made)), dtype=bool) if paired is None else paired[order]
    count = min(len(real) // 2, len(made))
    sets = {"floor": real[count : 2 * count], "generated": made[:count]}
    first, missing = real[:count], {}
    return {
        "frechet": {k: frechet_distance(space.reduce(first), space.reduce(v)) for k, v in sets.items()},
        "frechet_infinite": {
            k: _or_reason(missing, "frechet_infinite", frechet_infinite, space.reduce(first), space.reduce(v), seed)
            for k, v in sets.items()
        },
        "kernel": {
            "floor": space.kernel_distance(ordered[:count], ordered[count : 2 * count], seed=seed, paired=False),
            "generated": space.kernel_distance(
                ordered[:count], clips.vectors[:count], seed=seed, paired=related[:count, :count]
            ),
        },
        "diversity": {"reference": diversity(first), "generated": diversity(sets["generated"])},
        "missing": missing,
        "counts": {"compared": count, "generated": len(made), "reference": len(real)},
        "space": space.card,
        "embedder": {"name": embedder.name, **embedder.card},
        "seed": seed,
    }
