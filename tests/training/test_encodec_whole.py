"""AutoencoderEncodec through all of it: three stages, export, a published folder, music, and EnCodec beside it."""

import json

import numpy as np
import pytest
import torch
from transformers import EncodecConfig, EncodecModel

from pipelines.hub import check_checkpoint, load_published
from training import encode_latents, evaluate, export, train_autoencoder, train_unet
from training.metrics.reconstruction import Codec
from training.metrics.report import text_report

TINY = "training/configs/tiny"


@pytest.fixture(scope="module")
def published(tiny_data, tiny_text_encoder, tmp_path_factory):
    """A checkpoint whose autoencoder is SEANet, trained for a few steps by the stages themselves."""
    root = tmp_path_factory.mktemp("encodec")
    train_autoencoder.main([
        "--config", f"{TINY}/autoencoder.yaml", "--model_config", f"{TINY}/autoencoder_encodec.json",
        "--data_dir", str(tiny_data), "--output_dir", str(root / "ae"), "--max_steps", "2",
    ])  # fmt: skip
    encode_latents.main([
        "--autoencoder", str(root / "ae" / "final"), "--text_encoder", str(tiny_text_encoder),
        "--data_dir", str(tiny_data), "--output_dir", str(root / "latents"),
    ])  # fmt: skip
    train_unet.main([
        "--config", f"{TINY}/unet.yaml", "--data_dir", str(root / "latents"), "--output_dir", str(root / "unet"),
        "--max_steps", "2",
    ])  # fmt: skip
    export.main(["--run", str(root / "unet"), "--output_dir", str(root / "checkpoint")])
    return root / "checkpoint"


@pytest.fixture(scope="module")
def encodec(tmp_path_factory):
    """A random EnCodec with its quantiser, small, as a folder."""
    torch.manual_seed(0)
    config = EncodecConfig(
        sampling_rate=16000, num_filters=4, upsampling_ratios=[5, 4, 4], hidden_size=8, codebook_size=16,
        codebook_dim=8, target_bandwidths=[0.8, 1.6], num_lstm_layers=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("codec")
    model = EncodecModel(config)
    for layer in model.quantizer.layers:  # zeros until they are trained
        layer.codebook.embed.normal_()
    model.save_pretrained(folder)
    return folder


def test_published_with_its_code_and_plays(published):
    check_checkpoint(published)
    assert (published / "vae" / "autoencoder_encodec.py").is_file()
    assert json.loads((published / "vae" / "config.json").read_text())["latents_std"] != [1.0] * 4
    pipe = load_published(published)  # the classes that lie in the folder, not the repository's
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe.vae).__name__ == "AutoencoderEncodec" and "diffusers_modules" in type(pipe.vae).__module__
    words = {"num_inference_steps": 2, "seed": 7}
    first = pipe("slow piano", bars=1, bpm=100, **words)
    assert first.audios[0].shape == (1, round(4 * 60 / 100 * first.sampling_rate))
    assert np.isfinite(first.audios[0]).all() and np.abs(first.audios[0]).max() > 0
    loop = pipe("slow piano", bars=1, bpm=97, loop=True, **words).audios[0]
    assert loop.shape == (1, round(4 * 60 / 97 * first.sampling_rate)) and np.isfinite(loop).all()
    pipe.enable_vae_tiling(8)
    tiled = pipe("slow piano", bars=1, bpm=100, **words).audios[0]
    np.testing.assert_allclose(tiled, first.audios[0], atol=1e-4)


def test_a_codec_is_measured_beside_it(published, encodec, tiny_data, tmp_path):
    words = {
        "checkpoint": published, "data_dir": tiny_data, "output": tmp_path / "figures.json", "num_clips": 2,
        "num_inference_steps": 2, "codec": encodec, "tagger": "none", "beat_tracker": "none", "key": "none",
        "embedder": "tagger", "num_workers": 0, "paraphrases": False,
    }  # fmt: skip
    assert evaluate.main([w for name, value in words.items() for w in (f"--{name}", str(value))]) == 0
    told = json.loads((tmp_path / "figures.json").read_text())
    assert told["autoencoder"]["log_mel"]["codec"]["n"] == 2
    assert told["autoencoder"]["log_mel"]["codec"]["mean"] != told["autoencoder"]["log_mel"]["reconstructed"]["mean"]
    assert any(line.split()[:2] == ["reconstructed", "codec"] for line in text_report(told).splitlines())


def test_the_quantiser_is_in_the_loop(encodec):
    """Two bandwidths differ, each is what the model itself gives, and length and rate are the clip's."""
    audio = (0.3 * np.sin(np.arange(24001) * 0.05)).astype(np.float32)
    low, high = (Codec(str(encodec), kbps).reconstruct(audio, 24000) for kbps in (0.8, None))
    assert low.shape == high.shape == audio.shape and not np.allclose(low, high)
    codec = Codec(str(encodec), 1.6)
    plain = audio[:16000]
    with torch.no_grad():
        codes = codec.model.encode(torch.from_numpy(plain)[None, None], bandwidth=1.6)
        expected = codec.model.decode(codes.audio_codes, codes.audio_scales)[0][0, 0, :16000].numpy()
    np.testing.assert_allclose(codec.reconstruct(plain, 16000), expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"codec_kbps is 3; allowed with .*: 0.8, 1.6"):
        Codec(str(encodec), 3.0)
