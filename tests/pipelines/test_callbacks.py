"""Callbacks as diffusers' pipelines take them: its own classes, changed guidance, text states, steps told."""

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.callbacks import (
    IPAdapterScaleCutoffCallback,
    MultiPipelineCallbacks,
    PipelineCallback,
    SDCFGCutoffCallback,
    SDXLCFGCutoffCallback,
)

from tests.pipelines.test_pipeline import passes_of

LATENT = {"output_type": "latent"}


class Recorder(PipelineCallback):
    """What it is given, and the latents made a tenth."""

    tensor_inputs = ["latents"]  # noqa: RUF012

    def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
        self.seen = sorted(callback_kwargs)
        return {"latents": callback_kwargs["latents"] * 0.1}


def set_scale(at: int, scale: float):
    def callback(pipe, step, timestep, tensors):
        if step == at:
            pipe._guidance_scale = scale
        return tensors

    return callback


def test_diffusers_own_callbacks(tiny_pipeline):
    request = {"prompt": "piano", "seed": 1, "num_inference_steps": 4, **LATENT}
    plain, batches = tiny_pipeline(**request).audios, passes_of(tiny_pipeline)
    cut = SDCFGCutoffCallback(cutoff_step_ratio=0.5)
    made = tiny_pipeline(**request, callback_on_step_end=cut).audios
    assert batches == [2, 2, 2, 1]  # after step 2 of 0 to 3 without guidance
    assert (made - plain).abs().max() > 1e-4 and tiny_pipeline.guidance_scale == 0.0
    batches.clear()
    recorder = Recorder()
    both = MultiPipelineCallbacks([SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=0), recorder])
    out = tiny_pipeline(**request, callback_on_step_end=both).audios
    assert batches == [2, 1, 1, 1] and recorder.seen == ["latents", "prompt_embeds"] and torch.isfinite(out).all()
    with pytest.raises(ValueError, match="has add_text_embeds, add_time_ids; allowed: latents, prompt_embeds"):
        tiny_pipeline(**request, callback_on_step_end=SDXLCFGCutoffCallback())
    calm = IPAdapterScaleCutoffCallback(cutoff_step_ratio=1.0)  # asks for no tensors, and its step never comes
    torch.testing.assert_close(tiny_pipeline(**request, callback_on_step_end=calm).audios, plain, rtol=0, atol=0)


def test_guidance_scale_of_a_callback_holds_from_the_next_step(tiny_pipeline):
    """The call with the scale changed after the first step is one step of the one and the rest of the other."""
    request = {"prompt": ["piano", "fast drums"], "seed": [1, 2], "num_inference_steps": 3, **LATENT}
    steps = []

    def keep(pipe, step, timestep, tensors):
        steps.append(tensors["latents"].clone())

    tiny_pipeline(**request, guidance_scale=2.0, callback_on_step_end=keep)
    first = steps[0]

    def start_there(pipe, step, timestep, tensors):
        return {"latents": first} if step == 0 else None

    wanted = tiny_pipeline(**request, guidance_scale=5.0, callback_on_step_end=start_there).audios
    made = tiny_pipeline(**request, guidance_scale=2.0, callback_on_step_end=set_scale(0, 5.0)).audios
    torch.testing.assert_close(made, wanted, rtol=0, atol=0)
    grid = {"grid_guidance_scale": 3.0}  # a strength of its own stays as it is
    tiny_pipeline(**request, **grid, callback_on_step_end=keep)
    first = steps[3]
    wanted = tiny_pipeline(**request, **grid, guidance_scale=5.0, callback_on_step_end=start_there).audios
    made = tiny_pipeline(**request, **grid, callback_on_step_end=set_scale(0, 5.0)).audios
    torch.testing.assert_close(made, wanted, rtol=0, atol=0)


def test_each_batch_begins_with_its_own_guidance(tiny_pipeline):
    """Pieces of two lengths are two batches; guidance that is cut in the first is there again in the second."""
    batches = passes_of(tiny_pipeline)
    tiny_pipeline(["piano", "drums"], duration_s=[1.0, 1.5], callback_on_step_end=set_scale(0, 0.0), **LATENT)
    assert batches == [2, 1, 1] * 2
    with pytest.raises(ValueError, match="guidance_scale is nan"):
        tiny_pipeline("piano", callback_on_step_end=set_scale(0, float("nan")))


def test_text_states_are_given_in_diffusers_order(tiny_pipeline):
    states, mask = tiny_pipeline.encode_prompt(["slow piano", "loud"], torch.device("cpu"))
    request = {"seed": 1, "negative_prompt": "loud", "num_inference_steps": 2, **LATENT}
    seen = []

    def look(pipe, step, timestep, tensors):
        seen.append(tensors["prompt_embeds"])

    names = {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]}
    plain = tiny_pipeline("slow piano", **request, callback_on_step_end=look, **names).audios
    torch.testing.assert_close(seen[0][0, : mask[1].sum()], states[1][mask[1]])  # the negative text
    torch.testing.assert_close(seen[0][1, :2], states[0][mask[0]])

    def change(how):
        def callback(pipe, step, timestep, tensors):
            return {"prompt_embeds": how(tensors["prompt_embeds"])}

        return tiny_pipeline("slow piano", **request, callback_on_step_end=callback, **names).audios

    for same in (lambda x: x, lambda x: x.clone(), lambda x: x.chunk(2)[-1]):
        torch.testing.assert_close(change(same), plain, rtol=0, atol=0)
    for other in (lambda x: x * 0.5 + 1.0, lambda x: torch.cat([x[1:], x[:1]]), lambda x: x[:1]):
        assert (change(other) - plain).abs().max() > 1e-4
    with pytest.raises(ValueError, match=r"returned prompt_embeds of \(2, 16, 8\); allowed: shape \(2, 16, 16\)"):
        change(lambda x: x[..., :8])
    with pytest.raises(ValueError, match="returned latents of list"):
        tiny_pipeline("piano", callback_on_step_end=lambda *given: {"latents": [1]})


def test_do_classifier_free_guidance_counts_the_grid(tiny_pipeline):
    tiny_pipeline("piano", guidance_scale=1.0, grid_guidance_scale=3.0)
    assert tiny_pipeline.do_classifier_free_guidance and tiny_pipeline.guidance_scale == 1.0
    tiny_pipeline("piano", guidance_scale=1.0)
    assert not tiny_pipeline.do_classifier_free_guidance
    tiny_pipeline("piano", guidance_scale=[1.0], grid_guidance_scale=[None])
    assert not tiny_pipeline.do_classifier_free_guidance
    told = []
    stream = tiny_pipeline.stream(
        "piano", guidance_scale=7.0, callback_on_step_end=lambda pipe, *rest: told.append(pipe.guidance_scale)
    )
    list(stream)
    assert told == [7.0] * 3


TONE = np.sin(np.arange(8000 * 60) * 0.1).astype(np.float32) * 0.3


@pytest.mark.parametrize(
    "request_",
    [
        {"duration_s": 2.0}, {"duration_s": 60.0}, {"bars": 1, "bpm": 120, "loop": True},
        {"prompt": ["piano", "drums"], "duration_s": [1.0, 1.5]},
        {"audio": TONE[:16000], "strength": 0.3}, {"audio": TONE, "strength": 0.6}, {"audio": TONE, "strength": 0.0},
        {"audio": TONE[:16000], "strength": 0.0}, {"audio": TONE, "mask_s": [(30.0, 31.0)]},
        {"audio": [TONE, TONE[:16000]], "strength": [0.0, 1.0], "prompt": ["piano", "drums"]},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    "scheduler",
    [
        None, FlowMatchHeunDiscreteScheduler(),
        DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
@pytest.mark.parametrize("output_type", ["np", "latent"])
def test_as_many_steps_as_told(tiny_pipeline, request_, scheduler, output_type):
    tiny_pipeline.scheduler = scheduler or tiny_pipeline.scheduler
    taken = []
    request = {"prompt": "piano", "num_inference_steps": 2, "guidance_scale": 1.0, **request_}
    if "audio" in request:
        request |= {"sampling_rate": 8000, "bpm": 90, "downbeat_s": 0.0}
    tiny_pipeline(
        **request, output_type=output_type,
        callback_on_step_end=lambda pipe, *rest: taken.append(pipe.num_timesteps),
    )  # fmt: skip
    assert len(taken) == tiny_pipeline.num_timesteps and set(taken) <= {len(taken)}
    if request.get("strength") == 0.0:
        assert not taken
