"""Distances, diversity and memorisation at their known answers."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.linalg import sqrtm

from training.metrics.distribution import (
    EmbeddedClips,
    Space,
    distribution_figures,
    folder_figures,
    frechet_distance,
    frechet_infinite,
    gaussian_distance,
    kernel_distance,
    mean_pairwise_distance,
    memorisation_figures,
    moments,
    polynomial_kernel,
    square_root,
    vendi_score,
)


def normal(seed: int, count: int, dimensions: int = 8, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, size=(count, dimensions))


def covariance(seed: int, dimensions: int, rank: int) -> np.ndarray:
    half = np.random.default_rng(seed).normal(size=(dimensions, rank))
    return half @ half.T


def test_frechet_of_a_set_with_itself_is_zero():
    a = normal(0, 100)
    assert frechet_distance(a, a) < 1e-9
    assert frechet_distance(a, a[::-1]) < 1e-9


def test_frechet_of_gaussians_has_its_closed_form():
    mean, width = np.array([1.0, -2.0, 0.5]), np.array([1.0, 4.0, 0.25])
    wanted = np.sum(mean**2) + np.sum((np.sqrt(width) - 1.0) ** 2)  # commuting covariances
    assert gaussian_distance(mean, np.diag(width), np.zeros(3), np.eye(3)) == pytest.approx(wanted, abs=1e-12)
    a, b = covariance(1, 5, 9), covariance(2, 5, 9)
    other = np.trace(a + b - 2 * sqrtm(a @ b).real)  # scipy's root of the unsymmetric product
    assert gaussian_distance(np.zeros(5), a, np.zeros(5), b) == pytest.approx(other, rel=1e-9)


def test_frechet_stands_singular_covariances():
    a, b = covariance(1, 6, 2), covariance(2, 6, 3)
    assert np.allclose(square_root(a) @ square_root(a), a)
    one, other = gaussian_distance(np.zeros(6), a, np.zeros(6), b), gaussian_distance(np.zeros(6), b, np.zeros(6), a)
    assert one == pytest.approx(other, rel=1e-9) and one > 0
    assert gaussian_distance(np.zeros(6), a, np.zeros(6), a) < 1e-6


def test_moments_are_those_of_the_samples():
    mean, cov = moments(np.array([[0.0, 0.0], [2.0, 4.0]]))
    assert mean.tolist() == [1.0, 2.0] and cov.tolist() == [[2.0, 4.0], [4.0, 8.0]]


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_infinity_is_nearer_the_truth(shift):
    truth = 16 * shift**2
    finite, infinite = [], []
    for seed in range(12):
        a, b = normal(seed, 128, 16), normal(100 + seed, 128, 16, shift)
        finite.append(frechet_distance(a, b))
        infinite.append(frechet_infinite(a, b, seed)["distance"])
    assert np.mean(finite) - truth > 1.0  # what few clips add
    assert abs(np.mean(infinite) - truth) < 0.3 * abs(np.mean(finite) - truth)
    better = np.abs(np.array(infinite) - truth) < np.abs(np.array(finite) - truth)
    assert better.mean() > 0.9


def test_infinity_depends_on_its_seed_alone():
    a, b = normal(1, 60), normal(2, 60)
    assert frechet_infinite(a, b, 3) == frechet_infinite(a, b, 3) != frechet_infinite(a, b, 4)


def test_infinity_of_pairs_keeps_them_together():
    """A reconstruction is paired with its original: subsets must be too, or the line would leave the truth."""
    a = normal(0, 64, 16)
    paired = frechet_infinite(a, a + 0.01 * normal(1, 64, 16))
    assert abs(paired["distance"]) < 0.02 and abs(paired["slope"]) < 0.02


def test_too_few_clips_names_the_number_needed():
    with pytest.raises(ValueError, match=r"8 clips are too few for a covariance in 8 dimensions; needed: at least 9"):
        frechet_distance(normal(0, 8), normal(1, 100))
    frechet_distance(normal(0, 9), normal(1, 9))
    with pytest.raises(ValueError, match=r"17 clips are too few for an extrapolation.*at least 18"):
        frechet_infinite(normal(0, 17), normal(1, 100))
    frechet_infinite(normal(0, 18), normal(1, 18))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.full((9, 8), np.nan), normal(1, 9))


def test_kernel_distance_of_equal_distributions_is_zero_on_average():
    means = [kernel_distance(normal(s, 30), normal(500 + s, 30), resamples=1, paired=False)["mean"] for s in range(200)]
    error = np.std(means) / np.sqrt(len(means))
    assert abs(np.mean(means)) < 3 * error
    assert np.min(means) < 0 < np.max(means)


def test_kernel_distance_is_the_sum_over_pairs():
    a, b = normal(0, 5, 3), normal(1, 4, 3, 1.0)

    def pairs(x):
        return np.mean([(x[i] @ x[j] / 3 + 1) ** 3 for i in range(len(x)) for j in range(len(x)) if i != j])

    across = np.mean([(x @ y / 3 + 1) ** 3 for x in a for y in b])
    assert kernel_distance(a, b, paired=False)["mean"] == pytest.approx(pairs(a) + pairs(b) - 2 * across, rel=1e-12)
    assert polynomial_kernel(a, b).shape == (5, 4)


def test_kernel_distance_of_pairs_is_not_pulled_down():
    """Copies of the same clips, a little damaged: equal distributions, so 0 on average."""
    sets = [normal(s, 20) for s in range(100)]
    apart = [kernel_distance(a, a + 0.01, resamples=1, paired=False)["mean"] for a in sets]
    paired = [kernel_distance(a, a + 0.01, resamples=1, paired=True)["mean"] for a in sets]
    assert np.mean(apart) < -0.1 and abs(np.mean(paired)) < 0.02
    with pytest.raises(ValueError, match="needed where they are paired: equal"):
        kernel_distance(normal(0, 5), normal(1, 6), paired=True)


@pytest.mark.parametrize("correlation", [0.3, 0.6])
def test_correlated_pairs_of_equal_distributions_are_at_no_distance(correlation):
    """Clips requested by the labels of real ones, each of which is like its real clip."""
    measured = {"paired": [], "listed": [], "unpaired": []}
    for seed in range(60):
        a, own = normal(seed, 64, 64), normal(1000 + seed, 64, 64)
        b = correlation * a + np.sqrt(1.0 - correlation**2) * own
        order = np.random.default_rng(seed).permutation(64)
        which = np.arange(64)[:, None] == order
        for name, clips, paired in (("paired", b, True), ("listed", b[order], which), ("unpaired", b, False)):
            measured[name].append(kernel_distance(a, clips, seed, resamples=1, paired=paired)["mean"])
    error = np.std(measured["paired"]) / np.sqrt(60)
    assert abs(np.mean(measured["paired"])) < 3 * error
    assert np.mean(measured["unpaired"]) < -8 * error  # the bias that is left out
    assert measured["listed"] == pytest.approx(measured["paired"], abs=1e-12)  # whatever their order
    with pytest.raises(ValueError, match=r"paired has shape \(64, 3\); needed: \(64, 64\), at most one to a row"):
        kernel_distance(a, b, paired=which[:, :3])


def test_the_interval_of_correlated_pairs_covers_zero():
    covered = []
    for seed in range(40):
        a = normal(seed, 60)
        b = 0.5 * a + np.sqrt(0.75) * normal(500 + seed, 60)
        found = kernel_distance(a, b, seed, 200, paired=True)
        covered.append(found["low"] <= 0.0 <= found["high"])
    assert np.mean(covered) >= 0.8


def test_a_folder_of_answers_is_paired_with_its_requests():
    """Files of equal names belong together, so that answers as varied as the real clips are at no distance."""
    matched, unpaired = [], []
    for seed in range(12):
        real, own = normal(seed, 120, 12), normal(700 + seed, 120, 12)
        made = EmbeddedClips(0.6 * real + 0.8 * own, [str(i) for i in range(120)])
        reference = EmbeddedClips(real, made.names)
        card = SimpleNamespace(name="test", card={})
        for found, paired in ((matched, np.eye(120, dtype=bool)), (unpaired, None)):
            found.append(folder_figures(card, made, reference, seed, paired)["kernel"]["generated"]["mean"])
    error = np.std(matched) / np.sqrt(len(matched))
    assert abs(np.mean(matched)) < 3 * error and np.mean(unpaired) < np.mean(matched)


def test_kernel_interval_covers_the_truth():
    truth = kernel_distance(normal(0, 3000), normal(1, 3000, shift=0.4), resamples=1, paired=False)["mean"]
    found = [kernel_distance(normal(s, 60), normal(900 + s, 60, shift=0.4), s, 300, paired=False) for s in range(40)]
    covered = np.mean([f["low"] <= truth <= f["high"] for f in found])
    assert 0.8 <= covered <= 1.0
    assert all(f["low"] < f["mean"] < f["high"] and f["n"] == 60 for f in found)
    with pytest.raises(ValueError, match="1 clips are too few"):
        kernel_distance(normal(0, 1), normal(1, 5), paired=False)


@pytest.mark.parametrize("clusters", [1, 3, 8])
def test_vendi_counts_identical_clusters(clusters):
    vectors = np.repeat(np.eye(10)[:clusters], 7, axis=0)
    assert vendi_score(vectors) == pytest.approx(clusters)
    assert vendi_score(5.0 * vectors) == pytest.approx(clusters)  # length is no diversity


def test_vendi_is_the_same_by_either_gram_matrix():
    wide = normal(0, 6, 40)
    padded = np.concatenate([wide, np.zeros((6, 1))], axis=1)
    values = np.linalg.eigvalsh(
        (padded / np.linalg.norm(padded, axis=1, keepdims=True)).T
        @ (padded / np.linalg.norm(padded, axis=1, keepdims=True))
        / 6
    )
    values = values[values > 1e-12]
    assert vendi_score(wide) == pytest.approx(np.exp(-np.sum(values * np.log(values))))


def test_pairwise_distance():
    assert mean_pairwise_distance(np.ones((4, 3))) == pytest.approx(0.0)
    assert mean_pairwise_distance(np.eye(5)) == pytest.approx(1.0)
    assert mean_pairwise_distance(np.array([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="at least 2"):
        mean_pairwise_distance(np.ones((1, 3)))


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(count)]


def test_memorisation_finds_copies_and_only_them():
    train, test, fresh = normal(0, 300), normal(1, 100), normal(2, 50)
    calm = memorisation_figures(fresh, test, train, names("g", 50), names("t", 300))
    assert calm["share_nearer"] < 0.2 and 0.35 < calm["auc"] < 0.65 and calm["p"] > 0.05
    copied = fresh.copy()
    copied[[4, 9, 30]] = train[[77, 12, 200]] * np.array([[1.0], [0.5], [2.0]])  # at another level, too
    found = memorisation_figures(copied, test, train, names("g", 50), names("t", 300))
    assert {(p["clip"], p["train"]) for p in found["nearest"][:3]} == {("g4", "t77"), ("g9", "t12"), ("g30", "t200")}
    assert max(p["distance"] for p in found["nearest"][:3]) < 1e-12 < found["nearest"][3]["distance"]
    all_copied = memorisation_figures(train[:50], test, train, names("g", 50), names("t", 300))
    assert all_copied["share_nearer"] == 1.0 and all_copied["auc"] == 1.0 and all_copied["p"] < 1e-9


def test_memorisation_of_far_clips_stays_quiet():
    far = memorisation_figures(-np.ones((20, 8)), normal(1, 80, shift=2.0), normal(0, 200, shift=2.0),
                               names("g", 20), names("t", 200))  # fmt: skip
    assert far["share_nearer"] == 0.0 and far["auc"] < 0.05 and far["p"] > 0.99
    with pytest.raises(ValueError, match="3 generated_names and 200 train_names; needed: 20 and 200"):
        memorisation_figures(np.ones((20, 8)), normal(1, 8), normal(0, 200), names("g", 3), names("t", 200))


class Named:
    """An embedder of which only the name and card are read."""

    name, card = "numbers", {"sha256": "0" * 64}


def clips(vectors: np.ndarray, prefix: str) -> EmbeddedClips:
    return EmbeddedClips(vectors, names(prefix, len(vectors)))


def figures(count: int, shift: float, seed: int = 0, floor: int | None = None) -> dict:
    wide = np.linspace(2.0, 0.1, 40)
    sets = {name: normal(i, count, 40) * wide for i, name in enumerate(("real", "floor", "generated"))}
    train = normal(7, 400, 40) * wide
    ceiling = sets["real"] + 0.05 * normal(8, count, 40)
    return distribution_figures(
        Named(), clips(sets["real"], "r"), clips(sets["floor"][:floor], "f"), clips(ceiling, "c"),
        clips(sets["generated"] + shift, "g"), clips(train, "t"), seed,
    )  # fmt: skip


def test_distribution_has_floor_ceiling_and_generated():
    result = figures(80, 1.0)
    assert json.loads(json.dumps(result)) == result
    for figure in ("frechet", "frechet_infinite", "kernel"):
        assert set(result[figure]) == {"floor", "ceiling", "generated"}
    assert result["frechet"]["ceiling"] < result["frechet"]["floor"] < result["frechet"]["generated"]
    infinite = {name: value["distance"] for name, value in result["frechet_infinite"].items()}
    assert abs(infinite["floor"]) < 0.3 * result["frechet"]["floor"] and infinite["generated"] > 5 * infinite["floor"]
    assert result["kernel"]["floor"]["low"] < 0 < result["kernel"]["floor"]["high"]
    assert result["kernel"]["generated"]["low"] > 0
    assert result["counts"] == {
        "compared": 80, "real": 80, "floor": 80, "ceiling": 80, "generated": 80, "train": 400,
    }  # fmt: skip
    assert result["embedder"]["name"] == "numbers" and result["missing"] == {}
    assert result == figures(80, 1.0) != figures(80, 1.0, seed=1)


def test_distances_without_a_bias_use_all_clips():
    few, many = figures(80, 1.0, floor=60), figures(80, 1.0)
    assert few["counts"]["compared"] == 60 and few["kernel"]["floor"]["n"] == 60
    for figure in ("frechet_infinite", "kernel"):
        for name in ("ceiling", "generated"):
            assert few[figure][name] == many[figure][name]
    assert few["frechet"]["generated"] != many["frechet"]["generated"]  # its bias must be the floor's
    assert few["diversity"] != many["diversity"]


def test_distribution_of_few_clips_says_what_is_missing():
    result = figures(30, 0.0)
    assert result["frechet"]["generated"] is not None and result["frechet_infinite"]["generated"] is None
    assert "at least 50" in result["missing"]["frechet_infinite"]
    few = figures(10, 0.0)
    assert few["frechet"]["floor"] is None and "at least 25" in few["missing"]["frechet"]
    assert few["kernel"]["floor"]["mean"] is not None


def test_space_is_made_of_the_training_clips_alone():
    train = normal(0, 500, 40) * np.linspace(2.0, 0.1, 40) + 5.0
    space = Space(train)
    standard = space.standardise(train)
    assert np.allclose(standard.mean(axis=0), 0) and np.mean(standard**2) == pytest.approx(1.0)
    assert space.reduce(standard).shape == (500, 24) and 0.8 < space.explained < 1.0
    scaled = Space(1000.0 * train)  # the embedding's own unit is none of the figure's
    a, b = normal(1, 50, 40), normal(2, 50, 40)
    one = frechet_distance(space.reduce(space.standardise(a)), space.reduce(space.standardise(b)))
    assert frechet_distance(
        scaled.reduce(scaled.standardise(1000 * a)), scaled.reduce(scaled.standardise(1000 * b))
    ) == pytest.approx(one)
    with pytest.raises(ValueError, match="all embeddings are alike"):
        Space(np.ones((5, 3)))
