"""AutoencoderEncodec: equal to EnCodec at its real sizes, the contract of every autoencoder, tiles, streams, loops."""

import math
import sys
import types

import pytest
import torch
from torch import nn
from transformers import EncodecConfig, EncodecModel

from autoencoder.autoencoder_encodec import AutoencoderEncodec, rename_encodec

TINY = {"latent_channels": 4, "num_filters": 4, "upsampling_ratios": [5, 4, 3]}
# facebook/encodec_24khz, encodec_32khz and encodec_48khz, as their config.json have it
PUBLISHED = {
    "24 kHz": EncodecConfig(),
    "32 kHz": EncodecConfig(
        sampling_rate=32000, num_filters=64, upsampling_ratios=[8, 5, 4, 4], use_causal_conv=False,
        use_conv_shortcut=False, codebook_size=2048, target_bandwidths=[2.2],
    ),
    "48 kHz": EncodecConfig(
        sampling_rate=48000, audio_channels=2, norm_type="time_group_norm", use_causal_conv=False, normalize=True,
        chunk_length_s=1.0, overlap=0.01, target_bandwidths=[3.0, 6.0, 12.0, 24.0],
    ),
}  # fmt: skip


def tiny(**settings) -> AutoencoderEncodec:
    torch.manual_seed(0)
    return AutoencoderEncodec(**TINY | settings).eval()


@pytest.mark.parametrize("name", PUBLISHED)
def test_equal_to_transformers_at_the_published_sizes(name):
    torch.manual_seed(0)
    config = PUBLISHED[name]
    theirs = EncodecModel(config).eval()
    with torch.no_grad():  # biases and norms that matter
        for parameter in theirs.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    ours = AutoencoderEncodec.from_encodec(theirs)
    assert ours.hop_length == config.hop_length and ours.config.sampling_rate == config.sampling_rate
    for samples in (1, 100, 5 * config.hop_length, 5 * config.hop_length + 1):
        audio = 0.1 * torch.randn(1, config.audio_channels, samples)
        with torch.no_grad():
            latents = theirs.encoder(audio)
            torch.testing.assert_close(ours.encode(audio).latent_dist.mode(), latents, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(ours.decode(latents).sample, theirs.decoder(latents), atol=1e-5, rtol=1e-5)


def test_names_of_the_encodec_package():
    for theirs, ours in (
        ("encoder.model.0.conv.conv.weight_g", "encoder.layers.0.conv.parametrizations.weight.original0"),
        (
            "encoder.model.1.block.3.conv.conv.weight_v",
            "encoder.layers.1.block.3.conv.parametrizations.weight.original1",
        ),
        ("encoder.model.1.shortcut.conv.conv.bias", "encoder.layers.1.shortcut.conv.bias"),
        ("decoder.model.3.convtr.convtr.bias", "decoder.layers.3.conv.bias"),
        ("decoder.model.3.convtr.norm.weight", "decoder.layers.3.norm.weight"),
        ("encoder.model.0.conv.norm.bias", "encoder.layers.0.norm.bias"),
        ("decoder.model.1.lstm.weight_ih_l0", "decoder.layers.1.lstm.weight_ih_l0"),
    ):
        assert rename_encodec(theirs) == ours


@pytest.mark.encodec
@pytest.mark.parametrize("name", ["encodec_model_24khz", "encodec_model_48khz"])
def test_equal_to_the_encodec_package(name, monkeypatch):
    # It imports torchaudio for reading, writing and resampling files alone, which nothing here does.
    monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    encodec = pytest.importorskip("encodec", reason="make test-encodec installs it")

    torch.manual_seed(0)
    theirs = getattr(encodec.EncodecModel, name)(pretrained=False).eval()
    ours = AutoencoderEncodec.from_encodec(theirs)
    audio = 0.1 * torch.randn(1, theirs.channels, 4801)
    with torch.no_grad():
        latents = theirs.encoder(audio)
        torch.testing.assert_close(ours.encode(audio).latent_dist.mode(), latents, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.decode(latents).sample, theirs.decoder(latents), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("channels", [1, 2])
def test_tiles_and_streams_are_the_whole(causal, channels):
    model = tiny(use_causal_conv=causal, audio_channels=channels, num_residual_layers=2)
    for samples in (1, 59, 61, 2407):
        audio = torch.randn(2, channels, samples, generator=torch.Generator().manual_seed(samples))
        model.disable_tiling()
        with torch.no_grad():
            latents = model.encode(audio).latent_dist.mode()
            whole = model.decode(latents).sample
            assert latents.shape == (2, 4, math.ceil(samples / 60)) and whole.shape[2] == latents.shape[2] * 60
            for tile in (1, 7, 40, 500):
                model.enable_tiling(tile)
                torch.testing.assert_close(model.encode(audio).latent_dist.mode(), latents, atol=1e-5, rtol=0)
                torch.testing.assert_close(model.decode(latents).sample, whole, atol=1e-5, rtol=0)
                chunks = list(model.stream_decode(iter(latents.split(tile, 2))))
                torch.testing.assert_close(torch.cat(chunks, 2), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [True, False])
def test_a_decoded_circle_turns_with_its_latents(causal):
    model = tiny(use_causal_conv=causal)
    latents = torch.randn(1, 4, 50)
    with torch.no_grad():
        circle = model.decode(latents, loop=True).sample
        turned = model.decode(latents.roll(13, 2), loop=True).sample
        straight = model.decode(latents).sample
    torch.testing.assert_close(turned.roll(-13 * 60, 2), circle, atol=1e-5, rtol=0)
    assert (circle - straight)[..., :60].abs().max() > 1e-4  # the beginning knows of the end


def test_posterior_with_and_without_variance(tmp_path):
    audio = torch.randn(1, 1, 600)
    model = tiny()
    posterior = model.encode(audio).latent_dist
    drawn = posterior.sample(torch.Generator().manual_seed(0))
    assert torch.equal(drawn, posterior.sample(torch.Generator().manual_seed(0))) and posterior.kl().shape == (1,)
    assert not torch.equal(drawn, posterior.mode())
    plain = tiny(variational=False, latents_mean=[0.5] * 4, latents_std=[2.0] * 4)
    fixed = plain.encode(audio).latent_dist
    assert torch.equal(fixed.sample(), fixed.mode()) and not fixed.std.any() and not fixed.kl().any()
    plain.save_pretrained(tmp_path)
    loaded = AutoencoderEncodec.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(loaded(audio).sample, plain(audio).sample)
    assert loaded.config.latents_std == [2.0] * 4


def test_every_parameter_gets_a_gradient():
    model = tiny().train()
    posterior = model.encode(torch.randn(1, 1, 600)).latent_dist
    (model.decode(posterior.sample()).sample.square().mean() + posterior.kl().mean()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    "audio",
    [torch.zeros(1, 2, 960), torch.zeros(1, 1, 0), torch.zeros(1, 1, 960).short(), torch.full((1, 1, 9), math.nan)],
)
def test_bad_audio_is_named(audio):
    with pytest.raises(ValueError, match="audio has"):
        tiny().encode(audio)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="latents have shape"):
        tiny().decode(torch.zeros(1, 5, 3))
    with pytest.raises(ValueError, match="norm_type is 'none'"):
        tiny(norm_type="none")
    with pytest.raises(ValueError, match="looks at the whole clip"):
        tiny(norm_type="time_group_norm").enable_tiling()
    with pytest.raises(ValueError, match="tile_frames is 0"):
        tiny().enable_tiling(0)
    with pytest.raises(ValueError, match="source is a Linear"):
        AutoencoderEncodec.from_encodec(nn.Linear(1, 1))


def test_extremes_stay_finite():
    model, time = tiny(), torch.arange(2400) / 24000
    sounds = [torch.zeros(2400), torch.eye(2400)[1200], torch.rand(2400) * 2 - 1]
    sounds += [torch.sin(2 * math.pi * hertz * time) for hertz in (20.0, 11000.0)]
    with torch.no_grad():
        assert torch.isfinite(model(torch.stack(sounds)[:, None]).sample).all()
