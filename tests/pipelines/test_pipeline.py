"""The pipeline on tiny real parts: lengths, seeds, guidance, schedulers, text encoders, callbacks, errors."""

import inspect
import logging
import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from transformers import ClapTextConfig, ClapTextModel, T5Config, T5EncoderModel

from pipelines.pipeline_vivace import NOISE_BLOCK, VivacePipeline, frame_noise
from tests.conftest import make_pipeline, make_tokenizer

LATENT = {"output_type": "latent"}


def passes_of(pipe):
    """Batch sizes of the network's passes, filled as they happen."""
    batches = []
    pipe.unet.register_forward_pre_hook(lambda module, args, kwargs: batches.append(args[0].shape[0]), with_kwargs=True)
    return batches


def watch_conditions(pipe):
    """Keyword arguments of the network's passes, filled as they happen."""
    seen = []
    pipe.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    return seen


def test_length_is_exact_to_the_sample(tiny_pipeline):
    out = tiny_pipeline("slow solo piano in A minor, 72 bpm, 4 bars", seed=7)
    assert out.audios.shape == (1, 1, round(4 * 4 * 60 / 72 * 8000)) and out.audios.dtype == np.float32
    assert out.sampling_rate == 8000 and out.seeds == [7]
    assert out.conditions == [{
        "bpm": 72, "bpm_reason": None, "key": "A minor", "time_signature": "4/4", "bars": 4,
        "duration_s": 106667 / 8000, "chords": None, "beat_unit": "quarter", "loop": False, "notes": [],
    }]  # fmt: skip
    assert np.isfinite(out.audios).all() and 0 < np.abs(out.audios).max() <= 1
    assert tiny_pipeline("piano", duration_s=1.23456).audios.shape[-1] == 9876
    assert tiny_pipeline("piano", bars=1, bpm=61, time_signature="6/8").audios.shape[-1] == round(2 * 60 / 61 * 8000)
    assert tiny_pipeline("piano").audios.shape[-1] == 16000  # the checkpoint's default


def test_output_types_agree(tiny_pipeline):
    array = tiny_pipeline("calm piano", seed=1, normalize=False)
    tensor = tiny_pipeline("calm piano", seed=1, normalize=False, output_type="pt")
    latents = tiny_pipeline("calm piano", seed=1, **LATENT).audios
    torch.testing.assert_close(torch.from_numpy(array.audios), tensor.audios, rtol=0, atol=0)
    assert latents.shape == (1, 4, 50)
    std, mean = (torch.tensor(tiny_pipeline.vae.config[n])[:, None] for n in ("latents_std", "latents_mean"))
    decoded = tiny_pipeline.vae.decode(latents * std + mean).sample.detach()[..., :16000]
    torch.testing.assert_close(decoded, tensor.audios)
    audios, rate, seeds, conditions = tiny_pipeline("calm piano", seed=1, normalize=False, return_dict=False)
    np.testing.assert_array_equal(audios, array.audios)
    assert (rate, seeds, conditions) == (8000, [1], array.conditions)


def test_stereo():
    assert make_pipeline(audio_channels=2)("piano", duration_s=1.0).audios.shape == (1, 2, 8000)


def test_longer_noise_begins_like_shorter_noise():
    for channels in (1, 3, 4, 7, 32, 64):
        longest, _ = frame_noise(5, 300, channels)
        for frames in [*range(1, 3 * NOISE_BLOCK + 2), 100, 249, 250, 251, 299]:
            torch.testing.assert_close(frame_noise(5, frames, channels)[0], longest[:, :frames], rtol=0, atol=0)
    assert abs(frame_noise(6, 5000, 4)[0].std() - 1) < 0.02
    assert not torch.equal(frame_noise(5, 50, 4)[0], frame_noise(6, 50, 4)[0])


def test_alone_as_in_a_batch(tiny_pipeline):
    prompts = ["slow piano, 100 bpm, 2 bars", "fast drums, 1 second", "calm jazz in D minor with a long text", "loud"]
    seeds = [3, 4, 5, 6]
    batch = tiny_pipeline(prompts, seed=seeds, negative_prompt=["loud", None, "", "slow drums"], chords=None)
    assert isinstance(batch.audios, list) and batch.seeds == seeds
    for i, negative in enumerate(["loud", None, "", "slow drums"]):
        alone = tiny_pipeline(prompts[i], seed=seeds[i], negative_prompt=negative)
        assert alone.conditions[0] == batch.conditions[i]
        np.testing.assert_allclose(alone.audios[0], batch.audios[i], atol=1e-5)


def test_seeds(tiny_pipeline):
    pipe = tiny_pipeline
    three = pipe("piano", seed=7, num_waveforms_per_prompt=3, **LATENT)
    assert three.seeds == [7, 8, 9]
    for row, seed in enumerate(three.seeds):
        torch.testing.assert_close(pipe("piano", seed=seed, **LATENT).audios[0], three.audios[row])
    assert pipe(["a", "b"], seed=7, num_waveforms_per_prompt=2, **LATENT).seeds == [7, 8, 7, 8]
    assert pipe(["a", "b"], seed=[1, 5], num_waveforms_per_prompt=2, **LATENT).seeds == [1, 2, 5, 6]
    assert pipe("a", seed=[4, 2], num_waveforms_per_prompt=2, **LATENT).seeds == [4, 2]
    first, second = pipe("piano", **LATENT), pipe("piano", **LATENT)
    assert first.seeds != second.seeds and 0 <= first.seeds[0] < 2**31
    torch.testing.assert_close(pipe("piano", seed=first.seeds, **LATENT).audios, first.audios, rtol=0, atol=0)
    drawn = [pipe("piano", generator=torch.Generator().manual_seed(0), **LATENT) for _ in range(2)]
    assert drawn[0].seeds == drawn[1].seeds
    many = [torch.Generator().manual_seed(i) for i in (0, 1)]
    assert pipe("piano", generator=many, num_waveforms_per_prompt=2, **LATENT).seeds[0] == drawn[0].seeds[0]


def test_latents_start_the_loop(tiny_pipeline):
    noise, _ = frame_noise(7, 50, 4)
    given = tiny_pipeline("piano", seed=1, latents=noise[None], **LATENT).audios
    torch.testing.assert_close(given, tiny_pipeline("piano", seed=7, **LATENT).audios, rtol=0, atol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "fast drums"}, {"negative_prompt": "loud"}, {"bpm": 120}, {"time_signature": "3/4"},
        {"key": "C minor"}, {"chords": "Dm G"}, {"seed": 2}, {"guidance_scale": 5.0}, {"guidance_rescale": 0.7},
        {"guidance_interval": (0.0, 0.5)}, {"num_inference_steps": 5},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_every_argument_matters(tiny_pipeline, change):
    base = {"prompt": "slow piano", "bpm": 100, "key": "A minor", "chords": "Am F", "duration_s": 2.0, "seed": 1}
    plain = tiny_pipeline(**base, **LATENT).audios
    changed = tiny_pipeline(**{**base, **change}, **LATENT).audios
    assert plain.shape == changed.shape and (plain - changed).abs().max() > 1e-4


def test_what_the_network_is_told(tiny_pipeline):
    seen = watch_conditions(tiny_pipeline)
    tiny_pipeline("piano in C major", bpm=120, chords="C:1 Am:1", duration_s=2.0, num_inference_steps=1)
    told = seen[0]
    asked, absent = told["frame_cond"]
    assert told["frame_cond"].shape == (2, 22 + 1 + 4, 50)
    assert (asked[20] == 1).all() and (asked[21] == 1).all() and (asked[22] == 1).all() and not asked[23:].any()
    assert asked[8:20, 0].tolist() == [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert asked[8:20, 13].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert not absent[:22].any() and (absent[22] == 1).all() and not absent[23:].any()
    scalars = {name: values.tolist() for name, values in told["added_cond_kwargs"].items()}
    assert scalars["key"] == [0, -1] and scalars["beats_per_bar"] == [4, -1]
    assert scalars["duration_s"][0] == 2.0 and scalars["bpm"][0] == 120.0
    assert math.isnan(scalars["duration_s"][1]) and math.isnan(scalars["bpm"][1])
    assert told["encoder_attention_mask"].any(1).tolist() == [True, False]
    assert told["frame_mask"] is None


def test_guidance_off_costs_one_pass(tiny_pipeline):
    batches = passes_of(tiny_pipeline)
    tiny_pipeline("piano", guidance_scale=1.0, **LATENT)
    tiny_pipeline("piano", guidance_scale=0, negative_prompt="loud", **LATENT)
    assert batches == [1] * 6
    batches.clear()
    tiny_pipeline("piano", guidance_scale=3.0, num_inference_steps=4, guidance_interval=(0.4, 0.8), **LATENT)
    assert batches == [1, 2, 2, 1]  # noise levels 1, 0.75, 0.5, 0.25
    assert tiny_pipeline.guidance_scale == 3.0 and tiny_pipeline.num_timesteps == 4
    batches.clear()
    tiny_pipeline.register_to_config(default_guidance_low=0.4, default_guidance_high=0.8)
    tiny_pipeline("piano", guidance_scale=3.0, num_inference_steps=4, **LATENT)
    assert batches == [1, 2, 2, 1]  # the checkpoint's own interval


def test_guidance_is_the_formula(tiny_pipeline):
    """One Euler step from noise: latents - prediction; guided = unconditional + s (conditional - unconditional)."""
    pipe = tiny_pipeline
    one = {"num_inference_steps": 1, "seed": 3, "prompt": "piano", **LATENT}
    noise = frame_noise(3, 50, 4)[0]
    conditional = noise - pipe(guidance_scale=1.0, **one).audios[0]
    seen = watch_conditions(pipe)
    guided = noise - pipe(guidance_scale=4.0, **one).audios[0]
    told = {k: v for k, v in seen[0].items() if k not in ("added_cond_kwargs", "return_dict") and v is not None}
    scalars = {k: v[1:] for k, v in seen[0]["added_cond_kwargs"].items()}
    with torch.no_grad():
        unconditional = pipe.unet(noise[None], 1000.0, **{k: v[1:] for k, v in told.items()}, added_cond_kwargs=scalars)
    expected = unconditional.sample[0] + 4.0 * (conditional - unconditional.sample[0])
    torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)
    rescaled = noise - pipe(guidance_scale=4.0, guidance_rescale=1.0, **one).audios[0]
    torch.testing.assert_close(rescaled.norm(), conditional.norm())


@pytest.mark.parametrize(
    "scheduler",
    [
        DDPMScheduler(clip_sample=False), DDIMScheduler(clip_sample=False, prediction_type="v_prediction"),
        DPMSolverMultistepScheduler(), DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++"),
        FlowMatchEulerDiscreteScheduler(shift=3.0), FlowMatchEulerDiscreteScheduler(stochastic_sampling=True),
    ],
    ids=["ddpm", "ddim", "dpm", "sde", "flow", "stochastic"],
)  # fmt: skip
def test_schedulers(tiny_pipeline, scheduler):
    tiny_pipeline = VivacePipeline(**tiny_pipeline.components | {"scheduler": scheduler})
    tiny_pipeline.set_progress_bar_config(disable=True)
    batch = tiny_pipeline(["piano", "drums"], seed=[1, 2], num_inference_steps=4, **LATENT).audios
    again = tiny_pipeline("drums", seed=2, num_inference_steps=4, **LATENT).audios
    assert torch.isfinite(batch).all()
    torch.testing.assert_close(batch[1:], again, atol=1e-4, rtol=1e-4)  # noise inside the loop is per item too


def test_the_flow_grid_ends_at_the_data(tiny_pipeline):
    """A network that knows the straight line from noise to data lands on the data in one step and in five."""
    data = torch.randn(1, 4, 50, generator=torch.Generator().manual_seed(1))
    noise = frame_noise(7, 50, 4)[0][None]
    tiny_pipeline.unet.forward = lambda sample, timestep, **rest: (
        (sample - data) / (timestep / 1000.0)[:, None, None],
    )
    for steps in (1, 5):
        out = tiny_pipeline("piano", seed=7, guidance_scale=1.0, num_inference_steps=steps, **LATENT).audios
        torch.testing.assert_close(out, data, atol=1e-5, rtol=1e-5)
    assert not torch.equal(noise, data)


def test_text_encoders(tiny_pipeline):
    flan = T5Config(
        vocab_size=13, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    clap = ClapTextConfig(
        vocab_size=13, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, pad_token_id=0
    )
    results = [tiny_pipeline("slow piano", seed=1, **LATENT).audios]
    for encoder in (T5EncoderModel(flan), ClapTextModel(clap)):
        tiny_pipeline.text_encoder = encoder.eval()
        results.append(tiny_pipeline("slow piano", seed=1, **LATENT).audios)
    assert all(torch.isfinite(r).all() and r.shape == results[0].shape for r in results)
    assert (results[1] - results[0]).abs().max() > 1e-5 and (results[2] - results[0]).abs().max() > 1e-5


def test_prompt_embeds_stand_for_the_prompt(tiny_pipeline):
    pipe = tiny_pipeline
    states, mask = pipe.encode_prompt(["slow piano", "loud"], torch.device("cpu"))
    by_text = pipe("slow piano", negative_prompt="loud", seed=1, num_waveforms_per_prompt=2, **LATENT).audios
    given = {
        "prompt_embeds": states[:1], "prompt_attention_mask": mask[:1],
        "negative_prompt_embeds": states[1:], "negative_prompt_attention_mask": mask[1:],
    }  # fmt: skip
    by_states = pipe(**given, seed=1, num_waveforms_per_prompt=2, **LATENT).audios
    torch.testing.assert_close(by_states, by_text)
    pipe.text_encoder = pipe.tokenizer = None
    torch.testing.assert_close(pipe(**given, seed=1, num_waveforms_per_prompt=2, **LATENT).audios, by_text)
    assert pipe(prompt_embeds=states[:1, :2], seed=1, bpm=90, bars=1).audios.shape[-1] == round(4 * 60 / 90 * 8000)
    with pytest.raises(ValueError, match="prompt needs a text_encoder"):
        pipe("slow piano")


def test_long_text_is_cut(tiny_pipeline):
    long, cut = " ".join(["slow piano"] * 100), " ".join(["slow piano"] * 32)
    a, b = (tiny_pipeline(text, seed=1, **LATENT).audios for text in (long, cut))
    torch.testing.assert_close(a, b, rtol=0, atol=0)
    tiny_pipeline.tokenizer = make_tokenizer()
    tiny_pipeline.tokenizer.model_max_length = 10**30  # what tokenizers without a limit say
    assert tiny_pipeline.encode_prompt([long], torch.device("cpu"))[0].shape[1] == 64


def test_callback(tiny_pipeline):
    steps = []

    def stop_after_two(pipe, step, timestep, tensors):
        steps.append((step, float(timestep), sorted(tensors)))
        pipe._interrupt = step == 1
        return {"latents": torch.zeros_like(tensors["latents"])}

    names = ["latents", "prompt_embeds"]
    out = tiny_pipeline(
        "piano", num_inference_steps=4, callback_on_step_end=stop_after_two,
        callback_on_step_end_tensor_inputs=names, **LATENT,
    )  # fmt: skip
    assert [step for step, _, _ in steps] == [0, 1] and steps[0][1:] == (1000.0, names)
    assert not out.audios.any()
    tiny_pipeline("piano", callback_on_step_end=lambda pipe, step, timestep, tensors: None, **LATENT)


def test_half_precision(tiny_pipeline):
    reference = tiny_pipeline("slow piano", seed=1, **LATENT).audios
    tiny_pipeline.unet.to(torch.bfloat16)
    out = tiny_pipeline("slow piano", seed=1, **LATENT).audios
    assert out.dtype == torch.float32 and (out - reference).abs().max() < 0.1
    assert tiny_pipeline("slow piano", seed=1).audios.dtype == np.float32


def test_hooks_are_freed_on_every_way_out(tiny_pipeline, monkeypatch):
    freed = []
    monkeypatch.setattr(VivacePipeline, "maybe_free_model_hooks", lambda self: freed.append(1))
    for output_type in ("np", "pt", "latent"):
        tiny_pipeline("piano", output_type=output_type)
    with torch.no_grad():
        tiny_pipeline.unet.conv_out.bias.fill_(math.nan)
    with pytest.raises(ValueError, match="not finite"):
        tiny_pipeline("piano")
    assert len(freed) == 4


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": ""}, "prompt is ''"), ({"prompt": ["a", " "]}, "prompt is ' '"), ({"prompt": None}, "exactly one"),
        ({"prompt": []}, "empty list"), ({"prompt": [3]}, "prompt is 3"),
        ({"duration_s": 0}, "duration_s is 0"), ({"duration_s": math.nan}, "duration_s is nan"),
        ({"duration_s": 1e9}, "duration_s"), ({"bars": 4, "duration_s": 300}, "bpm is 3.2"),
        ({"bpm": 900}, "bpm is 900"),
        ({"key": "H minor"}, "key is 'H minor'"), ({"chords": "Xm", "bpm": 90}, "chords has 'Xm'"),
        ({"num_inference_steps": 0}, "num_inference_steps is 0; allowed: whole numbers from 1 to 1000"),
        ({"num_inference_steps": 2.5}, "num_inference_steps"), ({"guidance_scale": math.nan}, "guidance_scale is nan"),
        ({"guidance_scale": -1}, "guidance_scale is -1"), ({"guidance_rescale": 2}, "guidance_rescale is 2"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval"), ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"), ({"seed": [1, 2, 3]}, "seed has 3 entries"),
        ({"seed": 1, "generator": torch.Generator()}, "at most one"),
        ({"generator": [torch.Generator()] * 2}, "generator has 2 entries"),
        ({"num_waveforms_per_prompt": 0}, "num_waveforms_per_prompt is 0"),
        ({"prompt": ["a", "b"], "bpm": [90]}, "bpm has 1 entries for 2 prompts"),
        ({"latents": torch.zeros(1, 4, 49)}, r"latents has shape \(1, 4, 49\); needed for this request: \(1, 4, 50\)"),
        ({"prompt": None, "prompt_embeds": torch.zeros(1, 16)}, "prompt_embeds has shape"),
        ({"output_type": "wav"}, "output_type is 'wav'"),
        ({"callback_on_step_end_tensor_inputs": ["noise"]}, "has noise; allowed: latents, prompt_embeds"),
        ({"grid_guidance_scale": -1}, "grid_guidance_scale is -1"), ({"apg_eta": 2}, "apg_eta is 2"),
        ({"guidance_scale": [1, 2]}, "guidance_scale has 2 entries"), ({"tilt_db": 99}, "tilt_db is 99"),
        ({"loudness_lufs": 0}, "loudness_lufs is 0"), ({"true_peak_dbtp": 3}, "true_peak_dbtp is 3"),
        ({"loop": True, "fade_in_s": 1}, "a loop cannot fade"), ({"strength": 0.5}, "strength is 0.5 without audio"),
        ({"mask_s": [(0, 1)]}, "mask_s is .* without audio"), ({"extend_s": (0, 1)}, "extend_s is .* without audio"),
        ({"negative_prompt": 5}, "negative_prompt is 5; allowed: a text"), ({"negative_prompt": [b"x"]}, "negative_pr"),
        ({"callback_on_step_end": "x"}, "callback_on_step_end is 'x'; allowed: f"), ({"return_dict": 2}, "return_dict"),
        ({"output_type": np.zeros(2)}, "output_type is"), ({"prompt_embeds": torch.tensor(1.0)}, "prompt_embeds has"),
        ({"morph": ("a", "b")}, "exactly one"), ({"prompt": None, "morph": ("a", "")}, "morph is ''"),
    ],
)  # fmt: skip
def test_bad_input(tiny_pipeline, given, words):
    with pytest.raises(ValueError, match=words) as caught:
        tiny_pipeline(**{"prompt": "piano", **given})
    assert "\n" not in str(caught.value)


WRONG = ["x", "0.5", 5.5, True, [], {}, object(), [None], np.zeros((2, 2)), b"x", (1,), float("nan"), torch.tensor(2.5)]


@pytest.mark.parametrize("name", list(inspect.signature(VivacePipeline.__call__).parameters)[1:])
def test_wrong_types_are_named(tiny_pipeline, name):
    """Whatever is given for an argument, it is taken, or one line names the argument."""
    audio = {"audio": np.zeros(8000, np.float32), "sampling_rate": 8000, "strength": 0.5, "bpm": 100, "downbeat_s": 0.0}
    for more in (audio,) if name in ("sampling_rate", "strength", "mask_s", "extend_s") else ({}, audio):
        for value in WRONG:
            request = {"prompt": "piano", "num_inference_steps": 1, "output_type": "pt", **more, name: value}
            try:
                tiny_pipeline(**request)
            except ValueError as error:
                assert name in str(error) and "\n" not in str(error), (value, str(error))


def test_casting_says_nothing(tiny_pipeline, caplog):
    diffusers_logger = logging.getLogger("diffusers")
    diffusers_logger.propagate = True
    try:
        VivacePipeline.from_pipe(tiny_pipeline)
        tiny_pipeline.to(torch.bfloat16)
    finally:
        diffusers_logger.propagate = False
    assert "float32: []" not in caplog.text


def test_parts_that_are_missing(tiny_pipeline):
    """As in diffusers a part may be left out; what needs it says so."""
    parts = tiny_pipeline.components
    for name in ("vae", "unet", "scheduler"):
        pipe = VivacePipeline(**parts | {name: None})
        with pytest.raises(ValueError, match=f"{name} is None; without it only encode_prompt works"):
            pipe("piano")
    states, _ = VivacePipeline(**parts | {"vae": None, "unet": None, "scheduler": None}).encode_prompt(
        ["piano"], torch.device("cpu")
    )
    assert states.shape == (1, 1, 16)


def test_settings_go_with_from_pipe_and_not_with_components(tiny_pipeline):
    settings = {"default_apg_eta": 0.5, "default_guidance_low": 0.5, "default_guidance_scale": 4.0}
    tiny_pipeline.register_to_config(**settings)
    wanted = tiny_pipeline("piano", seed=1, duration_s=2.0, num_inference_steps=2, **LATENT).audios
    request = {"prompt": "piano", "seed": 1, "duration_s": 2.0, "num_inference_steps": 2, **LATENT}
    for pipe in (VivacePipeline.from_pipe(tiny_pipeline), VivacePipeline(**tiny_pipeline.components, **settings)):
        pipe.set_progress_bar_config(disable=True)
        torch.testing.assert_close(pipe(**request).audios, wanted, rtol=0, atol=0)
    bare = VivacePipeline(**tiny_pipeline.components)
    defaults = inspect.signature(VivacePipeline.__init__).parameters
    assert all(bare.config[name] == defaults[name].default for name in settings)


def test_another_format_is_refused(tiny_pipeline):
    with pytest.raises(ValueError, match="vivace_format of the checkpoint is 2; this code reads 1"):
        VivacePipeline(**tiny_pipeline.components, vivace_format=2)
