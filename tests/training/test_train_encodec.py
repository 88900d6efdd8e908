"""Stage 1 beyond the small model: the other class, the base size, and what stops a run that has gone wrong."""

import json

import pytest

from autoencoder.autoencoder_encodec import AutoencoderEncodec
from autoencoder.classes import autoencoder_class, load_autoencoder
from tests.helpers.runs import same, weights
from training import encode_latents, train_autoencoder
from training.run import loop

CONFIG = ["--config", "training/configs/tiny/autoencoder.yaml"]
ENCODEC = [*CONFIG, "--model_config", "training/configs/tiny/autoencoder_encodec.json"]


def test_trained_resumed_bitwise_and_encoded(tiny_data, tiny_text_encoder, tmp_path):
    arguments = [*ENCODEC, "--data_dir", str(tiny_data), "--output_dir", str(tmp_path / "ae")]
    train_autoencoder.main(arguments)
    whole = weights(tmp_path / "ae")
    (loop.checkpoints(str(tmp_path / "ae"))[-1] / "run.json").unlink()  # killed while writing the last checkpoint
    train_autoencoder.main(arguments)
    assert same(whole, weights(tmp_path / "ae"))
    encode_latents.main([
        "--autoencoder", str(tmp_path / "ae" / "final"), "--text_encoder", str(tiny_text_encoder),
        "--data_dir", str(tiny_data), "--output_dir", str(tmp_path / "latents"),
    ])  # fmt: skip
    vae = load_autoencoder(tmp_path / "latents" / "vae")
    assert isinstance(vae, AutoencoderEncodec) and len(vae.config.latents_std) == 4
    assert json.loads((tmp_path / "latents" / "latents.json").read_text())["frame_rate"] == 25.0


def test_a_loss_that_is_not_finite_is_named_and_the_checkpoint_kept(tiny_data, tmp_path, monkeypatch):
    plain, calls = train_autoencoder.FeatureLoss.forward, []

    def failing(self, predicted, reference):
        calls.append(1)
        losses = plain(self, predicted, reference)
        return {**losses, "mel": losses["mel"] * float("nan")} if len(calls) == 6 else losses  # 3 steps, 2 clips, here

    monkeypatch.setattr(train_autoencoder.FeatureLoss, "forward", failing)
    with pytest.raises(FloatingPointError, match="mel not finite after step 3; the last checkpoint is kept"):
        train_autoencoder.main([*CONFIG, "--data_dir", str(tiny_data), "--output_dir", str(tmp_path)])
    assert [path.name for path in loop.checkpoints(str(tmp_path))] == ["step_00000003"]


def test_another_class_is_named(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ValueError, match="_class_name is 'AutoencoderKL'; allowed: AutoencoderVivace"):
        autoencoder_class(path)
