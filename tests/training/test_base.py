"""The base size, 44.1 kHz stereo, of which no weights are shipped: every stage learns, and the music is stereo."""

import json
import time

import numpy as np
import pytest
import soundfile
import torch

from autoencoder.classes import load_autoencoder
from pipelines.hub import load_published
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from tests.helpers.runs import log_lines
from training import encode_latents, export, train_autoencoder, train_unet
from training.config import load_model_config

AUTOENCODER = "training/configs/base/autoencoder.yaml"
LATENTS = "training/configs/base/latents.yaml"
UNET = "training/configs/base/unet.yaml"


def write_stereo(folder, rng: np.random.Generator) -> None:
    """A second of a decaying, panned chord over noise, at 44.1 kHz: four to train on, one each to validate and test."""
    seconds = np.arange(44100) / 44100
    for split, count in (("train", 4), ("validation", 1), ("test", 1)):
        (folder / split).mkdir(parents=True)
        lines = []
        for number in range(count):
            hertz = 220.0 * 2.0 ** (rng.integers(0, 12, 3) / 12.0)
            notes = np.sin(2.0 * np.pi * hertz[:, None] * seconds) * np.exp(-3.0 * seconds)
            pan = rng.uniform(0.2, 0.8, 3)
            sides = np.stack([pan @ notes, (1.0 - pan) @ notes], 1) + 1e-3 * rng.standard_normal((44100, 2))
            soundfile.write(folder / split / f"{number}.flac", 0.3 * sides, 44100)
            row = {
                "file_name": f"{number}.flac", "text": ["chord"], "duration_s": 1.0, "sampling_rate": 44100,
                "bpm": 120.0, "beats_per_bar": 4, "downbeat_s": 0.0, "beats_s": [0.0, 0.5], "key": None,
                "chords": [[1.0] * 12] * 2,
            }  # fmt: skip
            lines.append(json.dumps(row) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(lines))


def train_base(folder, **changes) -> list[float]:
    """Losses of the first steps of the base size on those clips."""
    write_stereo(folder / "data", np.random.default_rng(0))
    settings = {
        "config": AUTOENCODER, "data_dir": folder / "data", "output_dir": folder / "run",
        "max_steps": 4, "batch_size": 4,
        "crop_frames": 16, "warmup_steps": 1, "lr_scheduler": "constant_with_warmup",
        "log_every": 1, "ema_decay": 0.5, "tracker": "null",
    } | changes  # fmt: skip
    train_autoencoder.main(words_of(settings))
    return [line["train/loss"] for line in log_lines(folder / "run", "train/loss")]


def words_of(settings: dict) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", str(value))]


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


@pytest.mark.slow
def test_base_goes_from_clips_to_stereo_music(tmp_path):
    """Stages 1 to 3 as commands, two steps each: 452 M parameters in fp32, their averages and moments, 10 GB."""
    train_base(tmp_path, max_steps=2, learning_rate=1e-5, mixed_precision="no")
    folders = {"data_dir": tmp_path / "data", "autoencoder": tmp_path / "run" / "final", "num_workers": 0}
    encode_latents.main(words_of({"config": LATENTS, "output_dir": tmp_path / "latents"} | folders))
    settings = {
        "config": UNET, "data_dir": tmp_path / "latents", "output_dir": tmp_path / "unet", "max_steps": 2,
        "batch_size": 2, "crop_frames": 16, "log_every": 1, "compile": "false", "num_workers": 0,
        "mixed_precision": "no", "tracker": "null",
    }  # fmt: skip
    train_unet.main(words_of(settings))
    assert all(1.0 < line["train/loss"] < 3.0 for line in log_lines(tmp_path / "unet", "train/loss"))
    export.main(words_of({"run": tmp_path / "unet", "output_dir": tmp_path / "base"}))
    made = load_published(tmp_path / "base")("chord", duration_s=1.0, num_inference_steps=2, seed=0)
    assert made.sampling_rate == 44100 and made.audios.shape == (1, 2, 44100)
    assert np.isfinite(made.audios).all() and np.abs(made.audios[0, 0] - made.audios[0, 1]).max() > 1e-4


@pytest.mark.slow
def test_the_base_unet_learns_what_it_is_shown_again_and_again():
    """One batch, one noise: a network that says nothing has a loss of 2, the power of noise minus data."""
    torch.manual_seed(0)
    unet = UNet1DConditionModel(**load_model_config("training/configs/base/unet.json", UNet1DConditionModel))
    sigma = torch.tensor([0.3, 0.6, 0.9])[:, None, None]
    data, noise = torch.randn(2, 3, 64, 16).unbind()
    told = {
        "encoder_hidden_states": torch.randn(3, 5, 128), "frame_cond": torch.randn(3, 87, 16),
        "added_cond_kwargs": {"bpm": torch.tensor([90.0, 120.0, float("nan")])},
    }  # fmt: skip
    optimizer = torch.optim.AdamW(unet.parameters(), 1e-4)
    losses = []
    for _ in range(8):
        predicted = unet((1 - sigma) * data + sigma * noise, 1000.0 * sigma.flatten(), **told).sample
        loss = (predicted - (noise - data)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(2.0, rel=0.1) and losses[-1] < 0.85 * losses[0]
