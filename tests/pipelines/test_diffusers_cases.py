"""What diffusers tests of every pipeline and model (its PipelineTesterMixin, ModelTesterMixin), on tiny parts."""

import copy
import inspect

import accelerate
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchHeunDiscreteScheduler
from diffusers.hooks import apply_group_offloading
from diffusers.training_utils import EMAModel

from autoencoder.autoencoder_vivace import AutoencoderVivace
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from tests.conftest import make_pipeline

REQUEST = {"prompt": "slow piano", "negative_prompt": "loud", "bpm": 100, "seed": 1, "num_inference_steps": 2}
LATENT = {"output_type": "latent"}
CPU = torch.device("cpu")


def run(pipe, **more) -> np.ndarray:
    """Audio as a tuple: without recipes."""
    pipe.set_progress_bar_config(disable=True)
    return pipe(**{**REQUEST, **more}, return_dict=False)[0]


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    return run(make_pipeline())


def load(folder, **options) -> DiffusionPipeline:
    return DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True, **options)


# Pipeline: arguments, outputs, callbacks


def test_call_has_the_arguments_of_a_text_to_audio_pipeline():
    given = inspect.signature(VivacePipeline.__call__).parameters
    required = {
        "prompt", "negative_prompt", "num_inference_steps", "guidance_scale", "num_waveforms_per_prompt", "generator",
        "latents", "prompt_embeds", "negative_prompt_embeds", "output_type", "return_dict", "callback_on_step_end",
        "callback_on_step_end_tensor_inputs",
    }  # fmt: skip
    assert required <= set(given)
    assert all(given[name].default is not inspect.Parameter.empty for name in list(given)[1:])


def test_tuples_hold_what_outputs_hold(tiny_pipeline):
    output = tiny_pipeline(**REQUEST)
    for one, other in zip(output.to_tuple(), tiny_pipeline(**REQUEST, return_dict=False), strict=False):
        np.testing.assert_equal(one, other)
    assert output["audios"] is output.audios is output[0] and list(output.keys())[:2] == ["audios", "sampling_rate"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_are_consistent(tiny_pipeline, wanted, count):
    options = {"num_waveforms_per_prompt": 2, "seed": [1] * count}
    batch = run(tiny_pipeline, prompt=["slow piano"] * count, **options, negative_prompt=None)
    assert batch.shape == (2 * count, *wanted.shape[1:])
    alone = run(tiny_pipeline, negative_prompt=None)
    for row in range(0, 2 * count, 2):
        np.testing.assert_array_equal(batch[row], alone[0])
    batch = run(tiny_pipeline, prompt=["slow piano"] * count, **options)  # three rows an item round by their number
    for row in range(0, 2 * count, 2):
        np.testing.assert_allclose(batch[row], wanted[0], atol=1e-5, rtol=0)


def test_callback_inputs(tiny_pipeline):
    names, seen = tiny_pipeline._callback_tensor_inputs, []

    def look(pipe, step, timestep, tensors):
        seen.append(set(tensors))
        return {"latents": torch.zeros_like(tensors["latents"])} if step == pipe.num_timesteps - 1 else tensors

    for subset in (names[:1], names):
        run(tiny_pipeline, callback_on_step_end=look, callback_on_step_end_tensor_inputs=subset, **LATENT)
        assert seen[-1] == set(subset)
    made = run(tiny_pipeline, callback_on_step_end=look, **LATENT)
    assert made.abs().sum() == 0


def test_callback_cfg(tiny_pipeline):
    def increase(pipe, step, timestep, tensors):
        pipe._guidance_scale += 1.0
        return tensors

    run(tiny_pipeline, guidance_scale=2.0, callback_on_step_end=increase)
    assert tiny_pipeline.guidance_scale == 2.0 + tiny_pipeline.num_timesteps


def test_encode_prompt_works_in_isolation(tiny_pipeline, wanted):
    """With nothing but the text encoder loaded; its states then stand for the prompt where it is not."""
    parts = tiny_pipeline.components
    alone = VivacePipeline(**{name: parts[name] if "t" in name[:1] else None for name in parts})
    with torch.no_grad():
        states, mask = alone.encode_prompt(["slow piano", "loud"], CPU)
    rest = VivacePipeline(**parts | {"text_encoder": None, "tokenizer": None}, default_guidance_scale=2.0)
    made = run(
        rest, prompt=None, negative_prompt=None, prompt_embeds=states[:1], prompt_attention_mask=mask[:1],
        negative_prompt_embeds=states[1:], negative_prompt_attention_mask=mask[1:], duration_s=2.0,
    )  # fmt: skip
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("number", [int, np.int64, np.int32, np.float64], ids=lambda one: one.__name__)
def test_numbers_of_numpy(tiny_pipeline, wanted, number):
    made = run(tiny_pipeline, bpm=number(100), num_inference_steps=number(2), duration_s=number(2))
    np.testing.assert_array_equal(made, wanted)


@pytest.mark.parametrize("kind", ["array", "float64", "tensor", "tensor 64", "batch", "list", "1d", "strided", "grad"])
def test_audio_as_array_or_tensor(tiny_pipeline, kind):
    sound = (0.3 * np.sin(np.arange(16000) * 0.2)).astype(np.float32)
    task = {"sampling_rate": 8000, "mask_s": np.array([[0.5, 1.0]]), "downbeat_s": 0.0}
    edited = run(tiny_pipeline, audio=sound[None], **task)
    given = {
        "array": sound[None], "float64": sound[None].astype(np.float64), "tensor": torch.from_numpy(sound)[None],
        "tensor 64": torch.from_numpy(sound)[None].double(), "batch": [sound], "list": [torch.from_numpy(sound)],
        "1d": sound, "strided": np.repeat(sound, 2)[::2], "grad": torch.from_numpy(sound.copy()).requires_grad_(),
    }[kind]  # fmt: skip
    np.testing.assert_array_equal(run(tiny_pipeline, audio=given, **task), edited)


# Pipeline: parts


def test_components_make_the_pipeline_again(tiny_pipeline):
    parts = tiny_pipeline.components
    made_of = [name for name, one in inspect.signature(VivacePipeline.__init__).parameters.items()
               if name == "composer" or (one.default is inspect.Parameter.empty and name != "self")]  # fmt: skip
    assert set(parts) == set(made_of)
    again = VivacePipeline(**parts)
    same = {"guidance_scale": 3.0, "duration_s": 2.0}  # the checkpoint's defaults do not come with its parts
    np.testing.assert_array_equal(run(again, **same), run(tiny_pipeline, **same))


def test_from_pipe_forth_and_back(tiny_pipeline, wanted):
    other = VivacePipeline.from_pipe(tiny_pipeline, scheduler=FlowMatchHeunDiscreteScheduler())
    assert type(tiny_pipeline.scheduler) is not type(other.scheduler) and other.unet is tiny_pipeline.unet
    assert np.abs(run(other) - wanted).max() > 1e-4
    back = VivacePipeline.from_pipe(other, scheduler=tiny_pipeline.scheduler)
    np.testing.assert_array_equal(run(back), wanted)
    np.testing.assert_array_equal(run(tiny_pipeline), wanted)


def test_a_deep_copy_is_its_own(tiny_pipeline, wanted):
    twin = copy.deepcopy(tiny_pipeline)
    with torch.no_grad():
        twin.unet.conv_out.bias.add_(1.0)
    np.testing.assert_array_equal(run(tiny_pipeline), wanted)
    assert np.abs(run(twin) - wanted).max() > 1e-3


def test_to_dtype_casts_every_part(tiny_pipeline, wanted):
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        tiny_pipeline.to(dtype)
        assert tiny_pipeline.dtype == dtype and tiny_pipeline.device == CPU
        for part in (tiny_pipeline.vae, tiny_pipeline.unet, tiny_pipeline.text_encoder):
            assert {one.dtype for one in part.parameters()} == {dtype}
        made = run(tiny_pipeline)
        assert (
            made.dtype == np.float32 and np.isfinite(made).all() and np.corrcoef(made[0, 0], wanted[0, 0])[0, 1] > 0.8
        )


# Pipeline: saving and loading


def test_save_and_load(tiny_pipeline, wanted, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    np.testing.assert_array_equal(run(loaded), wanted)
    loaded.save_pretrained(tmp_path / "again")
    np.testing.assert_array_equal(run(load(tmp_path / "again")), wanted)
    assert not any(part.training for part in (loaded.vae, loaded.unet, loaded.text_encoder))


def test_variants(tiny_pipeline, wanted, tmp_path):
    tiny_pipeline.save_pretrained(tmp_path, variant="fp16")
    names = sorted(path.name for path in tmp_path.glob("*/*.safetensors"))
    assert names == ["diffusion_pytorch_model.fp16.safetensors"] * 2 + ["model.fp16.safetensors"]
    np.testing.assert_array_equal(run(load(tmp_path, variant="fp16")), wanted)
    with pytest.raises((OSError, ValueError)):
        load(tmp_path)
    with pytest.raises((OSError, ValueError)):
        load(tmp_path, variant="no")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_save_and_load_in_half_precision(tiny_pipeline, tmp_path, dtype):
    made = run(tiny_pipeline.to(dtype))
    tiny_pipeline.save_pretrained(tmp_path)
    loaded = load(tmp_path, dtype=dtype)
    assert {one.dtype for one in loaded.unet.parameters()} == {dtype}
    np.testing.assert_allclose(run(loaded), made, atol=5e-3)  # transformers loads a part of T5 as fp32


def test_a_dtype_for_each_part(tiny_checkpoint):
    loaded = load(tiny_checkpoint, dtype={"unet": torch.bfloat16, "default": torch.float16})
    assert loaded.unet.dtype == torch.bfloat16 and loaded.vae.dtype == loaded.text_encoder.dtype == torch.float16
    assert np.isfinite(run(loaded)).all()


def test_parts_that_are_left_out_stay_so(tiny_pipeline, tmp_path):
    states, mask = tiny_pipeline.encode_prompt(["slow piano"], CPU)
    for name in tiny_pipeline._optional_components:
        setattr(tiny_pipeline, name, None)
    tiny_pipeline.save_pretrained(tmp_path / "kept")
    loaded = load(tmp_path / "kept")
    assert loaded.text_encoder is None and loaded.tokenizer is None
    embeds = {"prompt": None, "negative_prompt": None, "prompt_embeds": states, "prompt_attention_mask": mask}
    np.testing.assert_array_equal(run(loaded, **embeds), run(tiny_pipeline, **embeds))


def test_parts_given_while_loading_and_after(tiny_pipeline, tiny_checkpoint, wanted):
    """diffusers cannot check a part given for one whose class comes with the checkpoint, but it can be put in later."""
    parts = tiny_pipeline.components
    given = load(tiny_checkpoint, scheduler=parts["scheduler"], vae=None, text_encoder=None, tokenizer=None)
    assert given.scheduler is parts["scheduler"] and given.vae is given.text_encoder is given.tokenizer is None
    for name, part in parts.items():
        setattr(given, name, part)
    np.testing.assert_array_equal(run(given), wanted)


# Pipeline: offload


@pytest.mark.parametrize("twice", [False, True])
def test_model_offload(tiny_pipeline, wanted, twice):
    tiny_pipeline.enable_model_cpu_offload(device="cpu")
    for _ in range(1 + twice):
        np.testing.assert_array_equal(run(tiny_pipeline), wanted)
    assert all(hasattr(part, "_hf_hook") for part in (tiny_pipeline.unet, tiny_pipeline.vae))
    tiny_pipeline.remove_all_hooks()
    np.testing.assert_array_equal(run(tiny_pipeline), wanted)


@pytest.mark.parametrize("names", [["unet"], ["vae"], ["text_encoder"], ["unet", "vae", "text_encoder"]], ids=str)
def test_sequential_offload(tiny_pipeline, wanted, names):
    """Weights are on no device but while a layer runs."""
    for name in names:
        accelerate.cpu_offload(getattr(tiny_pipeline, name), CPU, offload_buffers=True)
        assert {one.device.type for one in getattr(tiny_pipeline, name).parameters()} == {"meta"}
    for _ in range(2):
        np.testing.assert_array_equal(run(tiny_pipeline), wanted)
    loop = {"loop": True, "bars": 1}
    np.testing.assert_array_equal(run(tiny_pipeline, **loop), run(make_pipeline(), **loop))
    stream = np.concatenate(list(tiny_pipeline.stream(**REQUEST)), axis=1)
    np.testing.assert_array_equal(stream, wanted[0])


@pytest.mark.parametrize("kind", ["leaf_level", "block_level"])
def test_group_offload(tiny_pipeline, wanted, kind):
    options = {"onload_device": CPU, "offload_device": CPU, "offload_type": kind}
    options |= {"num_blocks_per_group": 1} if kind == "block_level" else {}
    tiny_pipeline.unet.enable_group_offload(**options)
    tiny_pipeline.vae.enable_group_offload(**options)
    apply_group_offloading(tiny_pipeline.text_encoder, **options)
    np.testing.assert_array_equal(run(tiny_pipeline), wanted)


# Models


def make_model(name: str):
    pipe = make_pipeline()
    return getattr(pipe, name)


def inputs_of(name: str, batch: int = 2) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    if name == "vae":
        return {"audio": 0.1 * torch.randn(batch, 1, 3200, generator=draw)}
    return {
        "sample": torch.randn(batch, 4, 12, generator=draw), "timestep": torch.tensor([500.0] * batch),
        "encoder_hidden_states": torch.randn(batch, 3, 16, generator=draw),
        "frame_cond": torch.randn(batch, 27, 12, generator=draw),
        "added_cond_kwargs": {name: torch.tensor([9.0] * batch) for name in ("bpm", "duration_s")},
    }  # fmt: skip


def predict(model, name: str) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs_of(name)).sample


MODELS = {"unet": UNet1DConditionModel, "vae": AutoencoderVivace}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "saved", [{}, {"variant": "fp16"}, {"max_shard_size": "10KB"}, {"safe_serialization": False}], ids=str
)
@pytest.mark.parametrize("low_memory", [True, False])
def test_models_are_saved_and_loaded(name, saved, low_memory, tmp_path):
    model = make_model(name)
    model.save_pretrained(tmp_path, **saved)
    if "max_shard_size" in saved:
        assert len(list(tmp_path.glob("*-of-*.safetensors"))) > 1 and list(tmp_path.glob("*.index.json"))
    options = {"variant": saved.get("variant"), "low_cpu_mem_usage": low_memory}
    options |= {"use_safetensors": False} if saved.get("safe_serialization") is False else {}
    loaded = MODELS[name].from_pretrained(tmp_path, **options)
    torch.testing.assert_close(predict(loaded, name), predict(model, name), rtol=0, atol=0)
    own = {key: value for key, value in model.config.items() if not key.startswith("_")}
    assert not loaded.training and own == {key: loaded.config[key] for key in own}


@pytest.mark.parametrize("name", MODELS)
def test_models_keep_their_dtype(name, tmp_path):
    make_model(name).to(torch.bfloat16).save_pretrained(tmp_path)
    assert MODELS[name].from_pretrained(tmp_path).dtype in (torch.float32, torch.bfloat16)
    loaded = MODELS[name].from_pretrained(tmp_path, dtype=torch.float16)
    assert {one.dtype for one in loaded.parameters()} == {torch.float16}
    assert torch.isfinite(predict(loaded, name)).all()


@pytest.mark.parametrize("name", MODELS)
def test_models_are_deterministic_and_give_tuples(name):
    model = make_model(name)
    first = predict(model, name)
    torch.testing.assert_close(predict(model, name), first, rtol=0, atol=0)
    again = MODELS[name].from_config(model.config)
    assert {one.shape for one in again.parameters()} == {one.shape for one in model.parameters()}
    if name == "unet":
        with torch.no_grad():
            (sample,) = model(**inputs_of(name), return_dict=False)
        torch.testing.assert_close(sample, first, rtol=0, atol=0)


@pytest.mark.parametrize("name", MODELS)
def test_models_are_trained_and_averaged(name):
    model = make_model(name).train()
    with torch.no_grad():  # some layers begin as zeros, behind which nothing has a gradient
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    average, before = EMAModel(model.parameters(), decay=0.5), [one.clone() for one in model.parameters()]
    output = model(**inputs_of(name)).sample
    (output - torch.randn(output.shape)).square().mean().backward()
    given = {key for key, one in model.named_parameters() if one.grad is not None and one.grad.abs().max() > 0}
    absent = {key for key, _ in model.named_parameters()} - given
    assert not {key for key in absent if "null" not in key}, (
        absent
    )  # what stands for no text or no tempo: both are there
    torch.optim.SGD(model.parameters(), lr=10.0).step()
    after = [one.clone() for one in model.parameters()]
    average.step(model.parameters())
    average.copy_to(model.parameters())
    names = [key for key, _ in model.named_parameters()]
    for key, one, first, last in zip(names, model.parameters(), before, after, strict=True):
        assert torch.isfinite(one).all() and (key not in given or (first - last).abs().max() > 0), key
        torch.testing.assert_close(one, average.shadow_params[names.index(key)])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("how", ["group", "sequential"])
def test_models_are_offloaded(name, how):
    model = make_model(name)
    wanted = predict(model, name)
    if how == "group":
        model.enable_group_offload(onload_device=CPU, offload_device=CPU, offload_type="leaf_level")
    else:
        accelerate.cpu_offload(model, CPU, offload_buffers=True)
    torch.testing.assert_close(predict(model, name), wanted, rtol=0, atol=0)


def test_gradient_checkpointing_changes_nothing():
    grads = []
    for checkpointing in (False, True):
        model = make_model("unet").train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        model(**inputs_of("unet")).sample.square().mean().backward()
        grads.append({key: one.grad for key, one in model.named_parameters()})
    for key, grad in grads[0].items():
        torch.testing.assert_close(grads[1][key], grad)
