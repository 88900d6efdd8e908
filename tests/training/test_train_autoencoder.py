"""How stage 1 begins: the linear path is the exact principal components."""

import pytest
import torch

from autoencoder.autoencoder_vivace import AutoencoderVivace
from training import train_autoencoder
from training.config import AutoencoderRun, load_model_config
from training.data.clips import read_rows
from training.train_autoencoder import initialise_linear_path, log_spectra

TINY = load_model_config("training/configs/tiny/autoencoder.json", AutoencoderVivace)


def test_the_linear_path_is_the_leading_principal_components(tiny_data):
    """Against all eigenvectors of the covariance in float64, and it leaves torch's generator alone."""
    model, run = AutoencoderVivace(**TINY), AutoencoderRun(data_dir=str(tiny_data))
    spectra = log_spectra(model, read_rows(tiny_data, "train"))
    values, vectors = torch.linalg.eigh(torch.cov(spectra.double().T, correction=0))
    before = torch.get_rng_state()
    share = initialise_linear_path(model, run)
    assert torch.equal(torch.get_rng_state(), before)
    assert share == pytest.approx(float(values[-4:].sum() / values.sum()), abs=1e-5)
    found = model.decoder_linear.weight / model.decoder_linear.weight.norm(dim=0)
    alike = (found.T.double() @ vectors[:, -4:]).abs()
    torch.testing.assert_close(alike, torch.eye(4, dtype=torch.float64), atol=1e-3, rtol=0.0)
    with torch.no_grad():
        latents = model.encoder_linear(spectra)
        assert latents.mean(0).abs().max() < 1e-3
        torch.testing.assert_close(torch.cov(latents.T, correction=0), torch.eye(4), atol=2e-3, rtol=0.0)
        left = (model.decoder_linear(latents) - spectra).square().sum() / (spectra - spectra.mean(0)).square().sum()
    assert left.item() == pytest.approx(1.0 - share, abs=1e-4)


def test_few_frames_are_spread_over_the_clips_and_may_be_fewer_than_channels(tiny_data, monkeypatch):
    model, rows = AutoencoderVivace(**TINY), read_rows(tiny_data, "train")
    whole = log_spectra(model, rows[:1])
    monkeypatch.setattr(train_autoencoder, "PCA_VALUES", 3 * model.encoder_linear.in_features)
    assert torch.equal(log_spectra(model, rows[:1]), whole[[0, 24, 49]]) and len(whole) == 50
    assert log_spectra(model, rows).shape == (len(rows), model.encoder_linear.in_features)
    share = initialise_linear_path(model, AutoencoderRun(data_dir=str(tiny_data), pca_clips=1))
    assert share == pytest.approx(1.0, abs=1e-5)  # three frames lie in a plane
    with torch.no_grad():
        errors = [
            (model.decoder_linear(model.encoder_linear(frames)) - frames).abs().max()
            for frames in (log_spectra(model, [row]) for row in rows)
        ]
    assert all(error.isfinite() for error in errors) and min(errors) < 1e-2
