"""Is generated music distributed as real music is? Distances with their floor and ceiling, diversity, memorisation.

All figures of one call are taken in one space: embeddings minus the mean of the training clips, divided by the root of
their mean variance. A distance of 1 per dimension is thus one standard deviation, whatever the embedding's own scale.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.metrics.diversity import mean_pairwise_distance, vendi_score
from training.metrics.embedding import Embedder
from training.metrics.frechet import clips_needed, frechet_distance, frechet_infinite
from training.metrics.kernel_distance import FEWEST, kernel_distance
from training.metrics.memorisation import memorisation_figures

COMPONENTS = 24  # 25 clips have a covariance, 50 an extrapolation
SPACE_CLIPS = 400  # training clips that a space is laid out with


@dataclass(frozen=True)
class EmbeddedClips:
    """Embeddings (n, d) of clips, and what the clips are called."""

    vectors: np.ndarray
    names: list[str]


def embed_clips(
    embedder: Embedder, audios: list[np.ndarray], sampling_rate: int, names: list[str] | None = None
) -> EmbeddedClips:
    """Clips (samples,) at `sampling_rate` Hz, embedded; without names they are called by their numbers.

    Raises:
        ValueError: clips that the embedder refuses, or names that are not one a clip.
    """
    names = [str(i) for i in range(len(audios))] if names is None else [Path(name).name for name in names]
    if len(names) != len(audios):
        raise ValueError(f"{len(names)} names for {len(audios)} clips; needed: one each")
    return EmbeddedClips(embedder.embed(audios, sampling_rate), names)


class Space:
    """Where distances are taken, made from the training clips alone, so that no other set can bend it.

    Args:
        train: (m, d) embeddings.
        components: principal components in which the Frechet distance is taken: a covariance needs more clips than
            dimensions.

    Raises:
        ValueError: fewer than 2 training clips, or all alike.
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

    def standardise(self, vectors: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, d)."""
        return (vectors - self.mean) / self.scale

    def kernel_distance(
        self, real: np.ndarray, other: np.ndarray, *, paired: bool | np.ndarray, seed: int = 0, resamples: int = 1000
    ) -> dict:
        """Kernel distance of two sets of embeddings, (n, d) and (m, d), on the scale of this space.

        All kernel distances that this project reports are taken here. See `kernel_distance`.
        """
        a, b = self.standardise(real), self.standardise(other)
        return kernel_distance(a, b, seed, resamples, paired=paired)

    def reduce(self, standardised: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, components)."""
        return standardised @ self.basis


def distribution_figures(
    embedder: Embedder,
    real_test: EmbeddedClips,
    disjoint_real: EmbeddedClips,
    reconstructed: EmbeddedClips,
    generated: EmbeddedClips,
    train: EmbeddedClips,
    seed: int = 0,
) -> dict:
    """Everything about distributions that a report holds; ready for JSON.

    Distances run from `real_test` to the other sets. The finite Frechet distance and the Vendi score depend on the
    number of clips, so for them all sets are cut to the count of the smallest, to their first clips. The kernel
    distance and the extrapolated Frechet distance do not, and are of all clips, which scatters them the least.

    Args:
        embedder: whose vectors these are; only its name and card are read.
        real_test: real clips that were not trained on.
        disjoint_real: other real clips, sharing no work with those: the floor.
        reconstructed: `real_test` through the autoencoder: the ceiling. Clip by clip the same music, so that it may
            lie below the floor.
        generated: clips of the model, the i-th asked for by the labels of the i-th of `real_test`.
        train: clips that the model was trained on; they also define the space.
        seed: of subsets and bootstrap draws.

    Returns:
        `frechet`, `frechet_infinite`, `kernel`: {"floor", "ceiling", "generated"}, each figure None with its reason
        under `missing` where clips are too few; `diversity`: {"real", "generated"}; `memorisation`; `counts`;
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
            try:
                out[name] = measure(vectors["real"][:pairs], vectors[name][:pairs], paired)
            except ValueError as error:  # too few clips: the other figures still stand
                out[name], missing[figure] = None, str(error)
        return out

    def diversity(vectors: np.ndarray) -> dict:
        pairs = mean_pairwise_distance(vectors) if len(vectors) > 1 else None
        return {"vendi": vendi_score(vectors), "mean_pairwise_distance": pairs}

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
        "space": {"components": space.components, "explained": space.explained, "scale": space.scale},
        "embedder": {"name": embedder.name, **embedder.card},
        "seed": seed,
    }


def too_few(count: int, train: int, components: int = COMPONENTS) -> str | None:
    """Which distances so many clips are too few for, as can be told before anything is embedded; None if for none.

    Args:
        count: clips of the smallest set that is compared.
        train: clips that the space is made from.
        components: as of `Space`, if the embeddings have as many dimensions.
    """
    covariance = clips_needed(min(components, train))
    needed = {"kernel distance": FEWEST, "Frechet distance": covariance, "its extrapolation": 2 * covariance}
    missing = [f"{name} (needed: {least})" for name, least in needed.items() if count < least]
    return f"clips to compare: {count}, too few for the {', '.join(missing)}" if missing else None


def check_enough(clips: int, reference: int, components: int = COMPONENTS) -> None:
    """Raise a ValueError if `folder_figures` cannot compare so many clips with so many of a reference."""
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
    """Distances of a set of clips from a reference set, beside those of one half of the reference from the other.

    The space is that of the reference, so that figures of two references are not on one scale. All sets are cut to half
    of the reference's count or to the clips' count, whichever is less, so that the figures can be compared.

    Args:
        embedder: whose vectors these are; only its name and card are read.
        clips: what is measured.
        reference: real clips.
        seed: of the halves, subsets and bootstrap draws.
        paired: (reference clips, clips) bool: which clip was made from which, or asked for by its labels; None = none.

    Returns:
        `frechet`, `frechet_infinite`, `kernel`: {"floor", "generated"}; `diversity`, `counts`, `space`, `embedder`,
        `missing`, `seed`, as of `distribution_figures`.

    Raises:
        ValueError: too few clips for a covariance, with the number that is needed.
    """
    space = Space(reference.vectors)
    check_enough(len(clips.vectors), len(reference.vectors), space.components)
    order = np.random.default_rng([seed, 9]).permutation(len(reference.vectors))
    ordered = reference.vectors[order]
    real, made = space.standardise(ordered), space.standardise(clips.vectors)
    related = np.zeros((len(real), len(made)), dtype=bool) if paired is None else paired[order]
    count = min(len(real) // 2, len(made))
    sets = {"floor": real[count : 2 * count], "generated": made[:count]}
    first, missing = real[:count], {}
    infinite = {}
    for name, vectors in sets.items():
        try:
            infinite[name] = frechet_infinite(space.reduce(first), space.reduce(vectors), seed)
        except ValueError as error:  # it takes twice as many
            infinite[name], missing["frechet_infinite"] = None, str(error)
    return {
        "frechet": {k: frechet_distance(space.reduce(first), space.reduce(v)) for k, v in sets.items()},
        "frechet_infinite": infinite,
        "kernel": {
            "floor": space.kernel_distance(ordered[:count], ordered[count : 2 * count], seed=seed, paired=False),
            "generated": space.kernel_distance(
                ordered[:count], clips.vectors[:count], seed=seed, paired=related[:count, :count]
            ),
        },
        "diversity": {
            name: {"vendi": vendi_score(vectors), "mean_pairwise_distance": mean_pairwise_distance(vectors)}
            for name, vectors in (("reference", first), ("generated", sets["generated"]))
        },
        "missing": missing,
        "counts": {"compared": count, "generated": len(made), "reference": len(real)},
        "space": {"components": space.components, "explained": space.explained, "scale": space.scale},
        "embedder": {"name": embedder.name, **embedder.card},
        "seed": seed,
    }
