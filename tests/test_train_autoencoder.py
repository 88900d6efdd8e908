"""How stage 1 begins: the linear path is the exact principal components, cheap enough for the base size."""

import json
import time

import numpy as np
import pytest
import soundfile
import torch

from autoencoder.autoencoder_vivace import AutoencoderVivace
from training import autoencoding, train_autoencoder
from training.autoencoders import load_autoencoder
from training.autoencoding import initialise_linear_path, log_spectra
from training.config import AutoencoderRun, load_model_config
from training.data.clips import read_rows

TINY = load_model_config("training/configs/tiny/autoencoder.json", AutoencoderVivace)
BASE = "training/configs/base/autoencoder.yaml"


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
    monkeypatch.setattr(autoencoding, "PCA_VALUES", 3 * model.encoder_linear.in_features)
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


def write_stereo(folder, rng: np.random.Generator) -> None:
    """A second of a decaying chord over a noise floor, panned, at 44.1 kHz: four clips to train on, one to validate."""
    seconds = np.arange(44100) / 44100
    for split, count in (("train", 4), ("validation", 1)):
        (folder / split).mkdir(parents=True)
        lines = []
        for number in range(count):
            hertz = 220.0 * 2.0 ** (rng.integers(0, 12, 3) / 12.0)
            notes = np.sin(2.0 * np.pi * hertz[:, None] * seconds) * np.exp(-3.0 * seconds)
            pan = rng.uniform(0.2, 0.8, 3)
            sides = np.stack([pan @ notes, (1.0 - pan) @ notes], 1) + 1e-3 * rng.standard_normal((44100, 2))
            soundfile.write(folder / split / f"{number}.flac", 0.3 * sides, 44100)
            row = {"file_name": f"{number}.flac", "text": ["chord"], "duration_s": 1.0, "sampling_rate": 44100}
            lines.append(json.dumps(row) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(lines))


def train_base(folder, **changes) -> list[float]:
    """Losses of the first steps of the base size on those clips."""
    write_stereo(folder / "data", np.random.default_rng(0))
    settings = {
        "config": BASE, "data_dir": folder / "data", "output_dir": folder / "run", "max_steps": 4, "batch_size": 4,
        "crop_frames": 16, "warmup_steps": 1, "lr_scheduler": "constant_with_warmup",
        "log_every": 1, "ema_decay": 0.5, "tracker": "null",
    } | changes  # fmt: skip
    train_autoencoder.main([word for name, value in settings.items() for word in (f"--{name}", str(value))])
    lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_base_learns_on_stereo_within_a_few_steps(tmp_path, mixed_precision):
    losses = train_base(tmp_path, pca_clips=0, learning_rate=5e-5, max_steps=8, mixed_precision=mixed_precision)
    assert len(losses) == 8 and losses[7] < 0.9 * losses[0]
    model = load_autoencoder(tmp_path / "run" / "final").eval()
    assert model.frame_rate == pytest.approx(21.53, abs=0.01)
    sound, _ = soundfile.read(tmp_path / "data" / "validation" / "0.flac", dtype="float32")
    with torch.no_grad():
        posterior = model.encode(torch.from_numpy(sound.T)[None]).latent_dist
        decoded = model.decode(posterior.mode()).sample
    assert posterior.mean.shape == (1, 64, 22) and decoded.shape == (1, 2, 22 * 2048) and decoded.isfinite().all()


@pytest.mark.slow
def test_base_begins_at_its_principal_components_in_seconds(tmp_path):
    """All eigenvectors of the 6148 x 6148 covariance in float64 took minutes, so that the size was never tried."""
    began = time.process_time()
    losses = train_base(tmp_path, max_steps=2, learning_rate=1e-5, mixed_precision="no")
    assert time.process_time() - began < 60.0
    assert max(losses) < 0.1  # a random start stands above 0.5
    model = load_autoencoder(tmp_path / "run" / "final").eval()
    sound, _ = soundfile.read(tmp_path / "data" / "train" / "0.flac", dtype="float32")
    with torch.no_grad():
        features = model.audio_to_features(torch.from_numpy(sound.T)[None])
        error = model.decode_features(model.encode_features(features).mean) - features
    assert error.square().sum() < 0.05 * (features - features.mean(1, keepdim=True)).square().sum()
