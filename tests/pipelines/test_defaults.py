"""What a program around the pipeline has set: torch's default dtype and device, weights stored in eight bits."""

import numpy as np
import pytest
import torch

from tests.conftest import make_pipeline

TASKS = {
    "words": {}, "loop": {"loop": True, "bars": 1}, "long": {"duration_s": 30.0, "num_inference_steps": 1},
    "timeline": {"prompt": [(0, "piano"), (1, "drums")]}, "morph": {"prompt": None, "morph": ("piano", "drums")},
    "guidance": {"guidance_rescale": 0.5, "apg_eta": 0.5, "apg_momentum": 0.1, "grid_guidance_scale": 3.0},
    "negative": {"negative_prompt": "loud"}, "tone": {"fade_in_s": 0.1, "tilt_db": 3.0}, "chords": {"chords": "Am F"},
    "generator": {"seed": None}, "no bpm": {"bpm": None},
    "vary": {"strength": 0.5}, "repair": {"mask_s": [(0.5, 1.0)]}, "extend": {"extend_s": (0.2, 0.5)},
    "hear": {"strength": 0.5, "bpm": None}, "resample": {"strength": 0.5, "sampling_rate": 11025},
}  # fmt: skip
EDITS = ("vary", "repair", "extend", "hear", "resample")


def make_all(pipe) -> dict[str, np.ndarray]:
    audio = (0.3 * np.sin(np.arange(16000) * 0.2)).astype(np.float32)
    made = {}
    for name, task in TASKS.items():
        request = {"prompt": "slow piano", "seed": 1, "bpm": 100, "num_inference_steps": 2}
        request |= {"audio": audio, "sampling_rate": 8000} if name in EDITS else {}
        request |= {"generator": torch.Generator("cpu").manual_seed(3)} if name == "generator" else {}
        made[name] = pipe(**request | task).audios[0]
    stream = pipe.stream("piano", seed=1, duration_s=30.0, num_inference_steps=1)
    return made | {"stream": np.concatenate(list(stream), axis=1)}


@pytest.fixture(scope="module")
def usual() -> dict[str, np.ndarray]:
    return make_all(make_pipeline())


def check(pipe, usual: dict, tmp_path) -> None:
    for name, audio in make_all(pipe).items():
        np.testing.assert_array_equal(audio, usual[name], err_msg=name)
    pipe("slow piano", seed=1, output_type="pt").save(tmp_path / "a.wav")
    assert pipe.replay(tmp_path / "a.wav").differences == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_default_dtype(tiny_pipeline, usual, tmp_path, dtype):
    torch.set_default_dtype(dtype)
    try:
        check(tiny_pipeline, usual, tmp_path)
    finally:
        torch.set_default_dtype(torch.float32)


def test_default_device(tiny_pipeline, usual, tmp_path):
    """Tensors without data stand for another device: what is made there cannot come back."""
    torch.set_default_device("meta")
    try:
        check(tiny_pipeline, usual, tmp_path)
        stream = tiny_pipeline.stream("piano", duration_s=30.0, num_inference_steps=1)
        next(stream)
        assert torch.empty(1).device.type == "meta"  # outside of the call it is as it was
        stream.close()
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("part", ["unet", "vae"])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_layerwise_casting(usual, part, compute):
    pipe = make_pipeline().to(compute)
    before = pipe("slow piano", seed=1, bpm=100, num_inference_steps=2, output_type="latent").audios
    model = getattr(pipe, part)
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=compute)
    assert any(one.dtype == torch.float8_e4m3fn for one in model.parameters())
    after = pipe("slow piano", seed=1, bpm=100, num_inference_steps=2, output_type="latent").audios
    assert (after - before).abs().max() < 0.2 * before.std()  # the rounding of eight bits
    for name, task in (("words", {}), ("loop", {"loop": True, "bars": 1})):
        made = pipe("slow piano", seed=1, bpm=100, num_inference_steps=2, **task).audios[0]
        assert np.isfinite(made).all() and made.shape == usual[name].shape
