"""Autoencoder losses: zero at identity, monotone, weighted by where music is."""

import pytest
import torch

from autoencoder.losses import SpectralLoss, mel_filterbank, weighted_sum

NAMES = ("log", "mel", "power")


@pytest.fixture
def loss() -> SpectralLoss:
    return SpectralLoss(num_bins=721, sampling_rate=24000, floor_db=-80.0)


def test_zero_at_identity_and_growing_with_distance(loss):
    reference = torch.rand(2, 5, 2 * 721) * 2 - 1
    direction = torch.randn_like(reference)
    values = [loss(reference + scale * direction, reference) for scale in (0.0, 0.05, 0.1, 0.2)]
    for name in NAMES:
        series = [float(v[name]) for v in values]
        assert series[0] == 0.0
        assert series == sorted(series)


def test_units(loss):
    """10 dB up everywhere is 0.25 feature units and half a decade in every mel band."""
    reference = torch.full((1, 2, 721), 0.2)
    values = loss(reference + 0.25, reference)
    assert float(values["log"]) == pytest.approx(0.25, rel=1e-4)
    assert float(values["mel"]) == pytest.approx(0.5, rel=1e-3)


def test_an_error_in_the_treble_weighs_less(loss):
    reference = torch.zeros(1, 1, 721)
    bass, treble = reference.clone(), reference.clone()
    bass[..., 5:25] += 0.3
    treble[..., 600:620] += 0.3
    for name in NAMES:
        assert loss(bass, reference)[name] > 4 * loss(treble, reference)[name]


def test_filterbank_covers_every_bin_once():
    bank = mel_filterbank(721, 24000, 80)
    assert bank.shape == (80, 721)
    assert (bank.sum(1) > 0.999).all()
    assert (bank[:, 3:700].sum(0) > 0).all()


def test_weights():
    losses = {"a": torch.tensor(2.0), "b": torch.tensor(float("nan"))}
    assert weighted_sum(losses, {"a": 0.5, "b": 0.0}) == 1.0
