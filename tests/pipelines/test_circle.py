"""Circles, tiles and streams: the decoder gives the same audio however it is asked, and a loop has no seam."""

import math

import numpy as np
import pytest
import torch

from autoencoder.autoencoder_vivace import AutoencoderVivace
from pipelines.vivace_sampling import CIRCLE_MARGIN, circle_index
from tests.helpers.spectra import magnitude_to_audio

LATENT = {"output_type": "latent"}


def test_tiles_and_streams_are_the_whole(tiny_pipeline):
    vae = tiny_pipeline.vae
    latents = torch.randn(1, 4, 400, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = vae.decode(latents).sample
        for tile in (1000, 150, 96, 37):
            vae.enable_tiling(tile)
            torch.testing.assert_close(vae.decode(latents).sample, whole, atol=1e-5, rtol=0)
        vae.disable_tiling()
        for cuts in ([], [1], [200], [3, 100, 101, 350]):
            chunks = list(vae.stream_decode(iter(torch.tensor_split(latents, cuts, dim=2))))
            torch.testing.assert_close(torch.cat(chunks, dim=2), whole, atol=1e-5, rtol=0)


def test_a_decoded_circle_repeats_exactly(tiny_pipeline):
    """Turned by a whole number of periods of the first phase, the circle is the same circle, turned."""
    vae = tiny_pipeline.vae
    latents = torch.randn(2, 4, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        circle = vae.decode(latents, loop=True).sample
        turned = vae.decode(latents.roll(24, 2), loop=True).sample
        one = vae.decode(latents[:, :, :1], loop=True).sample
    assert circle.shape == (2, 1, 96 * 320) and one.shape == (2, 1, 320) and torch.isfinite(one).all()
    torch.testing.assert_close(turned.roll(-24 * 320, 2), circle, atol=1e-4, rtol=0)


@pytest.mark.parametrize("share", [0.6, 0.983, 1.0, 1.03, 1.4])
def test_a_circle_of_any_length_keeps_its_pitch(share):
    vae = AutoencoderVivace(dim=16, encoder_layers=1, decoder_layers=1)
    rate, hertz, frames = 24000, 440.0, 60
    tone = torch.sin(2 * math.pi * hertz * torch.arange(frames * 960) / rate)[None]
    magnitude = vae.stft.forward(tone).abs()[:, None]
    samples = round(frames * 960 * share)
    circle = magnitude_to_audio(vae, magnitude, circle_samples=samples)
    assert circle.shape == (1, 1, samples)
    pieces = np.lib.stride_tricks.sliding_window_view(np.tile(circle[0, 0].numpy(), 2), 6000)[:samples:1500]
    power = np.mean(np.abs(np.fft.rfft(pieces * np.hanning(6000), axis=1)) ** 2, axis=0)  # 4 Hz a bin
    near = np.arange(90, 131)
    heard = 4.0 * (power[near] @ near) / power[near].sum()
    assert abs(1200 * math.log2(heard / hertz)) < 10  # brought there by resampling: up to 884 cents
    steps = np.abs(np.diff(circle[0, 0].numpy(), append=circle[0, 0, 0].item()))
    assert steps[-1] <= steps[:-1].max() * 1.01


def test_a_circle_has_only_lengths_that_fit(tiny_pipeline):
    latents = torch.randn(1, 4, 10)
    assert tiny_pipeline.vae.decode(latents, loop=True, samples=3333).sample.shape == (1, 1, 3333)
    for options in ({"loop": True, "samples": 1599}, {"loop": True, "samples": 4801}, {"samples": 3200}):
        with pytest.raises(ValueError, match=f"samples is {options['samples']}; allowed: with loop, from 1600 to 4800"):
            tiny_pipeline.vae.decode(latents, **options)


def test_the_circle_that_the_network_sees():
    visible = torch.tensor([[True] * 10, [True] * 4 + [False] * 6])
    index, shown = circle_index(visible)
    assert index.shape == (2, 10 + 2 * CIRCLE_MARGIN)
    centre = slice(CIRCLE_MARGIN, CIRCLE_MARGIN + 10)
    assert index[0, centre].tolist() == list(range(10)) and index[1, centre].tolist() == [0, 1, 2, 3] * 2 + [0, 1]
    assert index[0, CIRCLE_MARGIN - 1] == 9 and index[1, CIRCLE_MARGIN - 1] == 3
    assert shown[0].all() and shown[1].sum() == 4 + 2 * CIRCLE_MARGIN


@pytest.mark.parametrize("bpm", [73, 100, 177])
def test_a_loop_is_exact_in_length_and_a_circle_in_latents(tiny_pipeline, bpm):
    out = tiny_pipeline("piano", bars=2, bpm=bpm, chords="Am F", loop=True, seed=1)
    assert out.audios.shape[-1] == round(2 * 4 * 60 / bpm * 8000)
    # Noise, grid and all turned by whole strides of the network give the same latents, turned.
    told = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args, kwargs: told.append(kwargs), with_kwargs=True)
    latents = tiny_pipeline("piano", bars=2, bpm=bpm, chords="Am F", loop=True, seed=1, **LATENT).audios
    frames = latents.shape[2]
    assert frames == round(2 * 4 * 60 / bpm * 8000 / 320)
    beat = told[0]["frame_cond"][0, :2]  # the grid goes round with whole beats
    phase = torch.atan2(beat[0], beat[1]) / (2 * math.pi) % 1.0
    steps = (phase.diff() % 1.0)[CIRCLE_MARGIN - 5 : CIRCLE_MARGIN + frames + 5]
    torch.testing.assert_close(steps, torch.full_like(steps, 8.0 / frames), atol=1e-4, rtol=0)


def test_a_turned_request_is_the_turned_loop(tiny_pipeline):
    """The network sees a circle: no place in it is an end."""
    noise = torch.randn(1, 4, 96, generator=torch.Generator().manual_seed(0))
    asked = {"prompt": "piano", "duration_s": 96 * 0.04, "loop": True, "seed": 1, **LATENT}
    straight = tiny_pipeline(**asked, latents=noise).audios
    turned = tiny_pipeline(**asked, latents=noise.roll(32, 2)).audios
    torch.testing.assert_close(turned.roll(-32, 2), straight, atol=0.02, rtol=0)  # attention is cut at the margin
    open_ended = [tiny_pipeline(**asked | {"loop": False}, latents=n).audios for n in (noise, noise.roll(32, 2))]
    assert (open_ended[1].roll(-32, 2) - open_ended[0]).abs().max() > 0.05


def test_alone_as_in_a_batch(tiny_pipeline):
    batch = tiny_pipeline(["piano", "drums"], bpm=[100, 140], bars=[1, 2], loop=True, seed=[1, 2])
    for row, (prompt, bpm, bars) in enumerate((("piano", 100, 1), ("drums", 140, 2))):
        alone = tiny_pipeline(prompt, bpm=bpm, bars=bars, loop=True, seed=row + 1).audios[0]
        np.testing.assert_allclose(batch.audios[row], alone, atol=2e-4)


def test_no_step_at_the_seam(tiny_pipeline):
    within = 0
    for seed in range(20):
        loop = tiny_pipeline("piano", bars=1, bpm=110 + seed, loop=True, seed=seed).audios[0, 0]
        steps = np.abs(np.diff(loop))
        within += abs(loop[0] - loop[-1]) <= np.quantile(steps, 0.99)
    assert within >= 19


def test_bad_loops(tiny_pipeline):
    for given, words in (
        ({"bpm": 90, "duration_s": 10}, "whole bars, as with bars=4"),
        ({"duration_s": 200}, "duration_s is 200; allowed: numbers from 0.5 to 120"),
        ({"bpm": 60, "bars": 100}, "allowed: numbers from 0.5 to 120"),
    ):
        with pytest.raises(ValueError, match=words):
            tiny_pipeline("piano", loop=True, **given)
