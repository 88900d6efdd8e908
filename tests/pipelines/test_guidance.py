"""Guidance against its equations: text and grid apart, projection, rescale, per item; several texts in one piece."""

import numpy as np
import pytest
import torch

from pipelines.pipeline_vivace import KEYS, frame_noise
from pipelines.vivace_music import morph_weights, read_start, timeline_weights
from pipelines.vivace_sampling import Guidance, rescaled
from tests.conftest import make_pipeline

LATENT = {"output_type": "latent"}
ASKED = {"prompt": "slow piano", "bpm": 100, "key": "A minor", "chords": "Am F", "duration_s": 5.0, "seed": 3}


def prediction(pipe, **changes):
    """What one Euler step from noise took away: the guided prediction, (channels, frames)."""
    noise = frame_noise(3, 125, 4)[0]
    return noise - pipe(**{**ASKED, "num_inference_steps": 1, **changes}, **LATENT).audios[0]


@pytest.fixture(scope="module")
def parts():
    """Predictions of one pass: with everything, with nothing, with the words alone."""
    pipe = make_pipeline()
    seen = []
    hook = pipe.unet.register_forward_hook(
        lambda module, args, kwargs, out: seen.append(out[0].clone()), with_kwargs=True
    )
    prediction(pipe, guidance_scale=3.0, grid_guidance_scale=2.0)
    hook.remove()
    full, free, words = seen[0]
    return pipe, full, free, words


def test_three_passes_are_the_formula(parts):
    pipe, full, free, words = parts
    for text_scale, grid_scale in ((3.0, 2.0), (1.0, 4.0), (5.0, 1.0)):
        got = prediction(pipe, guidance_scale=text_scale, grid_guidance_scale=grid_scale)
        torch.testing.assert_close(
            got, free + text_scale * (words - free) + grid_scale * (full - words), atol=1e-5, rtol=0
        )
    same = prediction(pipe, guidance_scale=3.0, grid_guidance_scale=3.0)
    torch.testing.assert_close(same, prediction(pipe, guidance_scale=3.0), rtol=0, atol=0)
    assert (words - free).abs().max() > 1e-3 and (full - words).abs().max() > 1e-3


def test_what_each_row_knows(tiny_pipeline):
    seen = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    prediction(tiny_pipeline, guidance_scale=3.0, grid_guidance_scale=2.0, negative_prompt="loud")
    told = seen[0]
    full, free, words, unwanted = told["frame_cond"]
    assert full[20].all() and not free[:22].any() and not words[:22].any()
    assert torch.equal(unwanted[:8], full[:8]) and full[8:20].any() and not unwanted[8:20].any() and unwanted[20].all()
    assert told["added_cond_kwargs"]["bpm"].isnan().tolist() == [False, True, True, False]
    assert told["added_cond_kwargs"]["key"].tolist() == [KEYS.index("A minor"), -1, -1, -1]  # led away, into the key
    states, read = told["encoder_hidden_states"], told["encoder_attention_mask"]
    assert read.any(1).tolist() == [True, False, True, True]
    assert torch.equal(states[0], states[2]) and not torch.equal(states[0], states[3])  # the last has the negative


def test_passes(tiny_pipeline):
    batches = []
    tiny_pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: batches.append(args[0].shape[0]), with_kwargs=True
    )
    for scales, rows in (((1, None), 1), ((0, 1), 1), ((3, None), 2), ((3, 3), 2), ((3, 2), 3), ((1, 2), 3)):
        for words, more in (("slow piano", 0), ("slow piano, no drums", rows > 1)):  # the price of an exclusion
            batches.clear()
            prediction(tiny_pipeline, prompt=words, guidance_scale=scales[0], grid_guidance_scale=scales[1])
            assert batches == [rows + more], (scales, words)
    whole = tiny_pipeline(**ASKED, guidance_scale=3, grid_guidance_scale=2, **LATENT).audios
    tiny_pipeline.enable_guidance_slicing()
    batches.clear()
    torch.testing.assert_close(
        tiny_pipeline(**ASKED, guidance_scale=3, grid_guidance_scale=2, **LATENT).audios, whole, atol=1e-5, rtol=0
    )
    assert batches == [1] * 9
    tiny_pipeline.disable_guidance_slicing()


def test_every_item_has_its_own(tiny_pipeline):
    own = {
        "guidance_scale": [1.0, 4.0, 2.0], "grid_guidance_scale": [None, 2.0, None],
        "guidance_rescale": [0.0, 0.5, 1.0], "guidance_interval": [(0, 1), (0.5, 1), (0, 0.5)],
    }  # fmt: skip
    prompts, rest = ["slow piano", "fast drums", "calm"], {"bpm": 100, "duration_s": 2.0, "num_inference_steps": 4}
    batch = tiny_pipeline(prompts, seed=[1, 2, 3], **own, **rest, **LATENT).audios
    for i, prompt in enumerate(prompts):
        alone = tiny_pipeline(prompt, seed=i + 1, **{k: v[i] for k, v in own.items()}, **rest, **LATENT).audios[0]
        torch.testing.assert_close(batch[i], alone, atol=1e-5, rtol=1e-5)


def guidance(**settings):
    one = torch.ones(1)
    return Guidance(
        one, one, one, one, one, **{"apg_eta": 1.0, "apg_norm_threshold": None, "apg_momentum": 0.0, **settings}
    )


def test_projection():
    generator = torch.Generator().manual_seed(0)
    full, extra, data = (torch.randn(1, 4, 50, generator=generator) for _ in range(3))
    assert not guidance().projects
    torch.testing.assert_close(guidance().project(full, extra, data), full + extra)
    across = guidance(apg_eta=0.0).project(full, extra, data) - full
    assert abs((across * data).sum()) < 1e-3 * extra.norm() * data.norm()  # nothing along the data is left
    along = (extra * data).sum() / data.square().sum() * data
    torch.testing.assert_close(across, extra - along, atol=1e-5, rtol=0)
    half = guidance(apg_eta=0.5).project(full, extra, data) - full
    torch.testing.assert_close(half, extra - 0.5 * along, atol=1e-5, rtol=0)
    small = guidance(apg_norm_threshold=0.25).project(full, extra, data) - full
    assert small.square().mean().sqrt().item() == pytest.approx(0.25, rel=1e-4)
    torch.testing.assert_close(small / small.norm(), extra / extra.norm())
    steady = guidance(apg_momentum=-0.5)
    first = steady.project(full, extra, data) - full
    second = steady.project(full, extra, data) - full
    torch.testing.assert_close(first, extra, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(second, 0.5 * extra, atol=1e-6, rtol=1e-5)


def test_projection_in_the_pipeline(tiny_pipeline):
    plain = prediction(tiny_pipeline, guidance_scale=4.0)
    for change in ({"apg_eta": 0.0}, {"apg_norm_threshold": 0.01}):
        assert (prediction(tiny_pipeline, guidance_scale=4.0, **change) - plain).abs().max() > 1e-4
    off = prediction(tiny_pipeline, guidance_scale=1.0)
    torch.testing.assert_close(prediction(tiny_pipeline, guidance_scale=1.0, apg_eta=0.0), off, rtol=0, atol=0)


def test_rescale_brings_back_the_level():
    full, guided = torch.randn(2, 4, 30), 3.0 * torch.randn(2, 4, 30)
    out = rescaled(guided, full, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(out[0].norm(), full[0].norm())
    torch.testing.assert_close(out[1], guided[1])


def test_timeline_weights():
    weights = timeline_weights([0.0, 4.0, 4.4, 8.0], 250, 25.0, 10.0)
    assert weights.shape == (4, 250) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(0), torch.ones(250))
    assert weights[0, :87].min() == 1.0 and weights[0, 113:].max() == 0.0  # crossfade of 1 s around 4 s
    assert weights[3, 213:].min() == 1.0
    morph = morph_weights(100)
    torch.testing.assert_close(morph.sum(0), torch.ones(100))
    assert morph[0, 0] > 0.99 and morph[1, -1] > 0.99 and (morph[1].diff() > 0).all()
    assert (
        read_start("bar 5", 120, 4) == 8.0 and read_start("bar 1", 90, 3) == 0.0 and read_start(2.5, None, None) == 2.5
    )


def test_timelines_share_the_prediction(tiny_pipeline):
    """Far from the crossfade one step is that of each text alone; a morph's middle is half of each."""
    first, second = (prediction(tiny_pipeline, prompt=text) for text in ("slow piano", "fast drums"))
    both = prediction(tiny_pipeline, prompt=[(0, "slow piano"), (2.5, "fast drums")])
    torch.testing.assert_close(both[:, :49], first[:, :49], atol=1e-5, rtol=0)
    torch.testing.assert_close(both[:, 76:], second[:, 76:], atol=1e-5, rtol=0)
    assert (first - second).abs().max() > 1e-3
    morph = prediction(tiny_pipeline, prompt=None, morph=("slow piano", "fast drums"))
    torch.testing.assert_close(morph[:, 62], 0.5 * (first + second)[:, 62], atol=1e-5, rtol=0)
    bars = prediction(tiny_pipeline, prompt=[("bar 1", "slow piano"), ("bar 2", "fast drums")])  # 2.4 s
    torch.testing.assert_close(bars[:, 75:], second[:, 75:], atol=1e-5, rtol=0)
    batch = tiny_pipeline(
        [[(0, "slow piano"), (1, "fast drums")], "calm jazz", [(0, "loud"), (0.5, "slow"), (1.5, "piano")]],
        seed=[1, 2, 3], duration_s=2.0, **LATENT,
    ).audios  # fmt: skip
    alone = tiny_pipeline([(0, "slow piano"), (1, "fast drums")], seed=1, duration_s=2.0, **LATENT).audios
    torch.testing.assert_close(batch[:1], alone, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(
        batch[1], tiny_pipeline("calm jazz", seed=2, duration_s=2.0, **LATENT).audios[0], atol=1e-5
    )


def test_a_timeline_says_tempo_and_key(tiny_pipeline):
    out = tiny_pipeline([("bar 1", "slow piano, 100 bpm, 2 bars"), ("bar 2", "drums in A minor")], seed=1, **LATENT)
    assert out.conditions[0]["bpm"] == 100 and out.conditions[0]["key"] == "A minor" and out.conditions[0]["bars"] == 2


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ([(1, "a"), (2, "b")], "must start at 0"), ([(0, "a"), (2, "b"), (1, "c")], "in order"),
        ([(0, "a"), (0, "b")], "in order"), ([(0, "a"), (99, "b")], "the piece is 2 s long"),
        ([(0, "a"), (-1, "b")], "at -1; allowed"), ([(0, "a, 90 bpm"), ("bar 0", "b")], "'bar 0'; allowed"),
        ([(0, "a"), ("bar 2", "b")], "needs a tempo"), ([(0, "a"), ("bar x", "b")], "'bar x'; allowed"),
        ([(0, "a"), (1, " ")], "prompt is ' '"), ([(0, "a"), (True, "b")], "at True; allowed"),
    ],
)  # fmt: skip
def test_bad_timelines(tiny_pipeline, prompt, words):
    with pytest.raises(ValueError, match=words) as caught:
        tiny_pipeline(prompt)
    assert "\n" not in str(caught.value)
