"""Autoencoder losses: zero at identity, monotone, weighted by where music is."""

import pytest
import torch

from autoencoder.losses import SpectralLoss, WaveformLoss, mel_filterbank, mid_side, weighted_sum

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


def test_waveform_losses_at_known_answers():
    """Half the level is 0.5 off in relative spectra, log10(2) off in log-mel where there is sound, on every scale."""
    torch.manual_seed(0)
    loss, audio = WaveformLoss(24000), 0.3 * torch.randn(2, 1, 8192)
    assert all(float(value) == 0.0 for value in loss(audio, audio).values())
    values = loss(0.5 * audio, audio)
    assert float(values["stft"]) == pytest.approx(0.5, rel=0.02)
    assert float(values["mel"]) == pytest.approx(0.30103, rel=0.02)
    assert float(values["waveform"]) == pytest.approx(0.5 * audio.abs().mean().item(), rel=1e-5)
    flipped = loss(-audio, audio)  # phase alone: the magnitudes do not see it
    assert float(flipped["mel"]) < 1e-6 and float(flipped["stft"]) < 1e-6


def test_noise_below_the_floor_costs_next_to_nothing():
    loss, silence = WaveformLoss(24000, ("mel",)), torch.zeros(1, 1, 8192)
    noise = torch.randn(1, 1, 8192, generator=torch.Generator().manual_seed(0))
    assert float(loss(1e-6 * noise, silence)["mel"]) < 0.01 < 0.3 < float(loss(1e-2 * noise, silence)["mel"])


def test_an_unwanted_loss_is_not_computed():
    loss = WaveformLoss(24000, ("waveform",))
    loss.spectrum = None  # would fail if called
    audio = torch.randn(1, 1, 100)
    assert set(loss(audio, audio)) == {"waveform"}
    with pytest.raises(ValueError, match="wanted has"):
        WaveformLoss(24000, ("loudness",))


def test_a_wrong_stereo_image_costs():
    left, right = 0.3 * torch.randn(2, 1, 1, 4096)
    stereo, middle = torch.cat([left, right], 1), torch.cat([left, left], 1)
    assert torch.equal(mid_side(middle), torch.cat([left, torch.zeros_like(left)], 1))
    values = WaveformLoss(24000)(middle.flip(1), torch.cat([left, -left], 1))  # each side alone sounds the same
    assert float(values["mel"]) > 0.5 and float(values["waveform"]) > 0.2
    assert WaveformLoss(24000)(stereo, stereo)["mel"] == 0


def test_gradients_are_finite_at_silence():
    predicted = torch.zeros(1, 2, 4096, requires_grad=True)
    sum(WaveformLoss(24000)(predicted, torch.zeros(1, 2, 4096)).values()).backward()
    assert torch.isfinite(predicted.grad).all()
    sum(WaveformLoss(24000)(predicted, 0.1 * torch.randn(1, 2, 4096)).values()).backward()
    assert torch.isfinite(predicted.grad).all()
