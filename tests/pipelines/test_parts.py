"""Parts of a pipeline put in, shared, moved and sliced: schedulers, networks, `from_pipe`, offload."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from pipelines.pipeline_vivace import VivacePipeline
from pipelines.vivace_process import noise_level, process_of
from tests.conftest import make_pipeline

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
PLAIN = {"clip_sample": False}
SCHEDULERS = {
    "flow": FlowMatchEulerDiscreteScheduler(),
    "flow heun": FlowMatchHeunDiscreteScheduler(),
    "flow dpm": DPMSolverMultistepScheduler(**FLOW),
    "flow unipc": UniPCMultistepScheduler(**FLOW),
    "ddpm": DDPMScheduler(**PLAIN),
    "ddim": DDIMScheduler(**PLAIN),
    "ddim v": DDIMScheduler(**PLAIN, prediction_type="v_prediction"),
    "dpm": DPMSolverMultistepScheduler(),
    "euler": EulerDiscreteScheduler(),
    "euler v": EulerDiscreteScheduler(prediction_type="v_prediction"),
}


class Oracle(torch.nn.Module):
    """Predicts what leads to the same latents from any noise."""

    dtype, device = torch.float32, torch.device("cpu")

    def __init__(self, network, scheduler):
        super().__init__()
        self.config, self.scheduler = network.config, scheduler
        self.data = torch.randn(network.config.in_channels, 1, generator=torch.Generator().manual_seed(5))

    def forward(self, sample, timestep, **told):
        a, s = noise_level(self.scheduler, timestep[0])
        noise = (sample - a * self.data) / max(s, 1e-4)
        prediction = {
            "epsilon": noise, "v_prediction": a * noise - s * self.data, "flow_prediction": noise - self.data,
        }[process_of(self.scheduler)]  # fmt: skip
        return (prediction,)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_finds_the_data(tiny_pipeline, name):
    pipe = VivacePipeline(**tiny_pipeline.components | {"scheduler": SCHEDULERS[name]})
    pipe.set_progress_bar_config(disable=True)
    pipe.unet = oracle = Oracle(pipe.unet, pipe.scheduler)
    shared = {"seed": 1, "num_inference_steps": 30, "output_type": "latent"}
    made = pipe("piano", duration_s=1.0, guidance_scale=2.0, **shared).audios[0]
    torch.testing.assert_close(made, oracle.data.expand_as(made), atol=0.05, rtol=0)
    audio = torch.sin(torch.arange(16000) * 0.1) * 0.3
    for edit in ({"strength": 0.6}, {"mask_s": [(0.5, 1.0)]}):
        made = pipe("piano", audio=audio, sampling_rate=8000, **edit, **shared).audios[0]
        changed = made[:, 13:24]  # all of it, or what the mask holds
        torch.testing.assert_close(changed, oracle.data.expand_as(changed), atol=0.05, rtol=0)


def test_a_scheduler_for_another_prediction_is_refused(tiny_pipeline):
    wanted = r"DDIMScheduler, .* for prediction_type='epsilon', but the network predicts 'flow_.*; allowed: .*flow"
    tiny_pipeline.scheduler = DDIMScheduler()
    with pytest.raises(ValueError, match=wanted):
        tiny_pipeline("piano")
    tiny_pipeline.scheduler = DPMSolverMultistepScheduler(**FLOW)
    assert np.isfinite(tiny_pipeline("piano", num_inference_steps=4).audios).all()


def test_a_pipeline_from_another_shares_its_parts(tiny_pipeline):
    audio = tiny_pipeline("piano", seed=1).audios
    other = VivacePipeline.from_pipe(tiny_pipeline, default_guidance_scale=5.0)
    other.set_progress_bar_config(disable=True)
    assert all(part is tiny_pipeline.components[name] for name, part in other.components.items())
    assert other.config.default_guidance_scale == 5.0
    assert other.config.default_num_inference_steps == tiny_pipeline.config.default_num_inference_steps
    np.testing.assert_array_equal(other("piano", seed=1, guidance_scale=2.0).audios, audio)
    network = make_pipeline().unet
    assert VivacePipeline.from_pipe(tiny_pipeline, unet=network).unet is network
    tiny_pipeline.to(torch.bfloat16)
    assert VivacePipeline.from_pipe(tiny_pipeline).unet.dtype == torch.bfloat16
    assert VivacePipeline.from_pipe(tiny_pipeline, dtype=torch.float32).unet.dtype == torch.float32


def test_another_network_is_put_in(tiny_pipeline):
    before = tiny_pipeline("piano", seed=1).audios
    other = make_pipeline().unet
    with torch.no_grad():
        other.conv_out.bias.add_(0.5)
    tiny_pipeline.unet = other
    assert tiny_pipeline.components["unet"] is other
    assert np.abs(tiny_pipeline("piano", seed=1).audios - before).max() > 0.01


def test_offload_moves_the_parts_in_order(tiny_pipeline):
    whole = tiny_pipeline("piano", seed=1).audios
    edit = {"audio": whole[0], "sampling_rate": 8000, "mask_s": [(0.2, 0.9)], "seed": 2}
    edited = tiny_pipeline("drums", **edit).audios
    tiny_pipeline.enable_model_cpu_offload(device="cpu")
    assert all(hasattr(tiny_pipeline.components[name], "_hf_hook") for name in ("text_encoder", "unet", "vae"))
    order = []
    for name in ("text_encoder", "unet", "vae"):
        hook = tiny_pipeline.components[name]._hf_hook
        hook.pre_forward = lambda *a, name=name, old=hook.pre_forward, **k: (order.append(name), old(*a, **k))[1]
    np.testing.assert_array_equal(tiny_pipeline("piano", seed=1).audios, whole)
    assert list(dict.fromkeys(order)) == ["text_encoder", "unet", "vae"]
    tiny_pipeline.enable_model_cpu_offload(device="cpu")
    np.testing.assert_array_equal(tiny_pipeline("drums", **edit).audios, edited)
    np.testing.assert_array_equal(np.concatenate(list(tiny_pipeline.stream("piano", seed=1)), axis=1), whole[0])


def test_rows_are_the_slices_of_attention(tiny_pipeline):
    """diffusers' attention slicing has no say in SDPA; rows of the batch are what takes memory."""
    batch = {"prompt": ["piano", "drums"], "seed": [1, 2]}
    whole = tiny_pipeline(**batch).audios
    tiny_pipeline.enable_attention_slicing()
    np.testing.assert_array_equal(tiny_pipeline(**batch).audios, whole)
    tiny_pipeline.enable_guidance_slicing()
    np.testing.assert_allclose(tiny_pipeline(**batch).audios, whole, atol=1e-5)


@pytest.mark.gpu
def test_a_seed_is_the_same_music_on_a_gpu(tiny_pipeline):
    requests = ({"bpm": 120, "bars": 2}, {"bpm": 120, "bars": 2, "loop": True}, {"duration_s": 25.0})
    here = [tiny_pipeline("piano", seed=7, **request, output_type="latent").audios for request in requests]
    tiny_pipeline.to("cuda")
    allowed = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        there = [tiny_pipeline("piano", seed=7, **request, output_type="latent").audios.cpu() for request in requests]
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = allowed
    for cpu, gpu in zip(here, there, strict=True):
        torch.testing.assert_close(gpu, cpu, atol=1e-3, rtol=0)
