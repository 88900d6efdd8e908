"""UNet1DConditionModel: what it may depend on, and what it must not."""

import math

import pytest
import torch
from diffusers import UNet2DConditionModel

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel, rotate

CONFIG = {
    "in_channels": 4,
    "out_channels": 4,
    "frame_cond_channels": 6,
    "block_out_channels": [16, 24, 32],
    "layers_per_block": [1, 1, 2],
    "attention": [False, True, True],
    "attention_head_dim": 8,
    "cross_attention_dim": 12,
    "context_dim": 16,
    "embedding_dim": 20,
}


def make_unet(randomise: bool = True, **changes: object) -> UNet1DConditionModel:
    torch.manual_seed(0)
    unet = UNet1DConditionModel(**{**CONFIG, **changes}).eval()
    if randomise:  # the zero-initialised branches would hide what they carry
        for parameter in unet.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return unet


def make_inputs(batch: int = 3, frames: int = 13, tokens: int = 5, width: int = 12) -> dict:
    generator = torch.Generator().manual_seed(1)
    inputs = {
        "sample": torch.randn(batch, 4, frames, generator=generator),
        "timestep": torch.rand(batch, generator=generator) * 1000,
        "encoder_hidden_states": torch.randn(batch, tokens, width, generator=generator),
        "encoder_attention_mask": torch.ones(batch, tokens, dtype=torch.bool),
        "frame_cond": torch.randn(batch, 6, frames, generator=generator),
        "added_cond_kwargs": {
            "duration_s": torch.full((batch,), 10.0),
            "bpm": torch.linspace(60.0, 180.0, batch),
            "key": torch.arange(batch),
            "beats_per_bar": torch.arange(batch) + 2,
        },
    }
    inputs["encoder_attention_mask"][1:, 3:] = False
    return inputs


@pytest.fixture(scope="module")
def unet():
    return make_unet()


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=tolerance)


def differ(first, second):
    assert (first - second).abs().amax(dim=(1, 2)).min() > 1e-4  # in every item


@torch.no_grad()
@pytest.mark.parametrize("frames", [*range(1, 18), 31, 40])
def test_padding_changes_nothing(unet, frames):
    inputs = make_inputs(frames=frames)
    expected = unet(**inputs).sample
    assert expected.shape == (3, 4, frames)
    for padding in (0, 1, 2, 3, 4, 9):
        padded = dict(inputs)
        for name in ("sample", "frame_cond"):
            rubbish = torch.full((*inputs[name].shape[:2], padding), math.nan)
            padded[name] = torch.cat([inputs[name], rubbish], dim=2)
        padded["frame_mask"] = torch.arange(frames + padding).expand(3, -1) < frames
        result = unet(**padded).sample
        close(result[..., :frames], expected)
        assert (result[..., frames:] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_padding_changes_nothing_at_any_depth(levels):
    unet = make_unet(block_out_channels=[16] * levels, layers_per_block=[1] * levels, attention=[True] * levels)
    sample = torch.randn(2, 4, 11)
    padded = torch.cat([sample, torch.randn(2, 4, 14)], dim=2)
    mask = torch.arange(25).expand(2, -1) < 11
    close(unet(padded, 500, frame_mask=mask).sample[..., :11], unet(sample, 500).sample)


@torch.no_grad()
def test_hidden_frames_do_not_change_visible_ones(unet):
    inputs = make_inputs(frames=22)
    mask = torch.rand(3, 22, generator=torch.Generator().manual_seed(2)) < 0.6
    mask[0, :3] = False
    first = unet(**inputs, frame_mask=mask).sample
    for name in ("sample", "frame_cond"):
        inputs[name] = torch.where(mask[:, None], inputs[name], 100 * torch.randn_like(inputs[name]))
    assert torch.equal(unet(**inputs, frame_mask=mask).sample, first)


def test_item_without_visible_frames_is_finite(unet):
    inputs = make_inputs()
    mask = torch.ones(3, 13, dtype=torch.bool)
    mask[1] = False
    output = unet(**inputs, frame_mask=mask).sample
    output.square().sum().backward()
    assert (output[1] == 0).all() and output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in unet.parameters())
    unet.zero_grad()


@torch.no_grad()
def test_batch_item_equals_single(unet):
    inputs = make_inputs()
    together = unet(**inputs).sample
    for index in range(3):
        row = slice(index, index + 1)
        single = {name: value[row] for name, value in inputs.items() if name != "added_cond_kwargs"}
        single["added_cond_kwargs"] = {name: value[row] for name, value in inputs["added_cond_kwargs"].items()}
        close(unet(**single).sample, together[row])


@torch.no_grad()
@pytest.mark.parametrize("name", ["timestep", "encoder_hidden_states", "frame_cond"])
def test_input_matters(unet, name):
    inputs = make_inputs()
    expected = unet(**inputs).sample
    inputs[name] = inputs[name].flip(0) + 0.1
    differ(unet(**inputs).sample, expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "changed", "absent"),
    [("duration_s", 11.0, math.nan), ("bpm", 73.0, math.nan), ("key", 23, -1), ("beats_per_bar", 15, -1)],
)
def test_scalar_matters_and_can_be_absent(unet, name, changed, absent):
    inputs = make_inputs()
    scalars = inputs.pop("added_cond_kwargs")
    expected = unet(**inputs, added_cond_kwargs=scalars).sample
    differ(
        unet(**inputs, added_cond_kwargs={**scalars, name: torch.full_like(scalars[name], changed)}).sample, expected
    )
    without = unet(**inputs, added_cond_kwargs={key: value for key, value in scalars.items() if key != name}).sample
    differ(without, expected)
    null = unet(**inputs, added_cond_kwargs={**scalars, name: torch.full_like(scalars[name], absent)}).sample
    assert torch.equal(null, without)


@torch.no_grad()
def test_all_scalars_absent_equals_none(unet):
    inputs = make_inputs()
    names = inputs.pop("added_cond_kwargs")
    absent = {
        name: torch.full_like(value, math.nan if value.is_floating_point() else -1) for name, value in names.items()
    }
    expected = unet(**inputs).sample
    assert torch.equal(unet(**inputs, added_cond_kwargs=absent).sample, expected)
    assert torch.equal(unet(**inputs, added_cond_kwargs={}).sample, expected)


@torch.no_grad()
def test_dropped_text_equals_no_text(unet):
    inputs = make_inputs()
    text, mask = inputs.pop("encoder_hidden_states"), inputs.pop("encoder_attention_mask")
    expected = unet(**inputs).sample
    mask[1] = False
    result = unet(**inputs, encoder_hidden_states=text, encoder_attention_mask=mask).sample
    close(result[1], expected[1])
    differ(result[[0, 2]], expected[[0, 2]])
    close(unet(**inputs, encoder_hidden_states=text[:, :0]).sample, expected)


@torch.no_grad()
def test_a_reference_matters_and_may_be_absent_from_some_items():
    unet, inputs = make_unet(reference_channels=8), make_inputs()
    reference = torch.randn(3, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        free, bound = unet(**inputs).sample, unet(**inputs, reference=reference).sample
        reference[1:] = math.nan
        mixed = unet(**inputs, reference=reference).sample
        untrained = make_unet(False, reference_channels=8)
        untrained.conv_out.weight.normal_()
        same = [untrained(**inputs, reference=one).sample for one in (None, torch.randn(3, 8))]
    assert (bound - free).abs().amax(dim=(1, 2)).min() > 1e-3
    close(mixed, torch.cat([bound[:1], free[1:]]))
    assert torch.equal(*same)  # a network that gains a reference predicts what it did before
    with pytest.raises(ValueError, match="reference must have shape"):
        unet(**inputs, reference=reference[:, :5])


def test_masked_tokens_are_not_read(unet):
    inputs = make_inputs()
    expected = unet(**inputs).sample
    hidden = ~inputs["encoder_attention_mask"][..., None]
    inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"].masked_fill(hidden, math.nan)
    assert torch.equal(unet(**inputs).sample, expected)
    inputs["encoder_hidden_states"] = torch.nn.functional.pad(inputs["encoder_hidden_states"], (0, 0, 0, 7))
    inputs["encoder_attention_mask"] = torch.nn.functional.pad(inputs["encoder_attention_mask"].long(), (0, 7))
    close(unet(**inputs).sample, expected)


@torch.no_grad()
def test_without_the_grid_it_is_the_same_model():
    """The grid enters by a zero-initialised convolution: a fresh model does not see it."""
    unet = make_unet(randomise=False)
    torch.nn.init.normal_(unet.conv_out.weight)
    inputs = make_inputs()
    grid = inputs.pop("frame_cond")
    expected = unet(**inputs).sample
    assert torch.equal(unet(**inputs, frame_cond=grid).sample, expected)
    assert torch.equal(make_unet(randomise=False)(**inputs).sample, torch.zeros_like(expected))
    bare = make_unet(randomise=False, frame_cond_channels=0)
    bare.load_state_dict({k: v for k, v in unet.state_dict().items() if not k.startswith("conv_frame_cond")})
    assert torch.equal(bare(**inputs).sample, expected)


@torch.no_grad()
def test_attention_knows_distance_but_not_origin(unet):
    query, key = torch.randn(2, 8), torch.randn(2, 8)
    near, far = torch.zeros(2, 1, 20, 8), torch.zeros(2, 1, 20, 8)
    near[:, 0, 3], far[:, 0, 11] = query, query
    keys = rotate(key[:, None, None].expand(2, 1, 20, 8))
    scores = rotate(near)[:, 0, 3] * keys[:, 0, 5], rotate(far)[:, 0, 11] * keys[:, 0, 13]
    close(scores[0].sum(1), scores[1].sum(1))  # both two frames apart
    assert (scores[0].sum(1) - (query * key).sum(1)).abs().min() > 1e-3

    attention = unet.mid_layers[0].self_attention
    frames = torch.randn(1, 32, 9)
    source = frames.roll(1, dims=2)
    differ(attention(frames, source, None), attention(frames, frames, None))  # the order of the source counts


def test_gradient_reaches_every_parameter():
    unet = make_unet()
    inputs = make_inputs()
    inputs["encoder_attention_mask"][2] = False
    for value in inputs["added_cond_kwargs"].values():
        value[0] = math.nan if value.is_floating_point() else -1
    unet(**inputs).sample.square().sum().backward()
    for name, parameter in unet.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_gradient_checkpointing_changes_nothing():
    inputs, gradients = make_inputs(), []
    inputs["frame_mask"] = torch.arange(13).expand(3, -1) < torch.tensor([[13], [7], [10]])
    for checkpointing in (False, True):
        unet = make_unet()
        if checkpointing:
            unet.enable_gradient_checkpointing()
            assert unet.is_gradient_checkpointing
        unet(**inputs).sample.square().sum().backward()
        gradients.append([parameter.grad for parameter in unet.parameters()])
    for plain, checkpointed in zip(*gradients, strict=True):
        close(checkpointed, plain)


@torch.no_grad()
def test_saved_model_is_the_same(unet, tmp_path):
    unet.save_pretrained(tmp_path)
    loaded = UNet1DConditionModel.from_pretrained(tmp_path)
    inputs = make_inputs()
    assert torch.equal(loaded(**inputs, return_dict=False)[0], unet(**inputs).sample)
    assert [loaded.config[name] for name in CONFIG] == list(CONFIG.values())


@torch.no_grad()
@pytest.mark.parametrize("width", [8, 512, 768, 1024])
def test_any_text_width(width):
    """T5-small, CLAP or T5-base, FLAN-T5-large: only `cross_attention_dim` differs."""
    unet = make_unet(cross_attention_dim=width)
    for tokens in (1, 130):
        assert unet(**make_inputs(tokens=tokens, width=width)).sample.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(dtype):
    inputs, unet = make_inputs(), make_unet()
    expected = unet(**inputs).sample
    result = unet.to(dtype)(**inputs).sample
    assert result.dtype == torch.float32  # of the input: latents stay in fp32 between the steps
    assert (result - expected).norm() / expected.norm() < (0.1 if dtype == torch.bfloat16 else 0.02)


def test_autocast_trains():
    unet = make_unet()
    inputs = make_inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = unet(**inputs).sample
    assert output.dtype == torch.float32
    output.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in unet.parameters())


@torch.no_grad()
def test_timestep_may_be_one_number(unet):
    inputs = make_inputs()
    inputs["timestep"] = torch.full((3,), 250.0)
    expected = unet(**inputs).sample
    for timestep in (250, 250.0, torch.tensor(250), torch.tensor([250.0], dtype=torch.float64)):
        assert torch.equal(unet(**{**inputs, "timestep": timestep}).sample, expected)


def test_adapter_changes_output_and_can_be_disabled():
    import peft

    unet, inputs = make_unet(), make_inputs()
    expected = unet(**inputs).sample
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out"], init_lora_weights=False))
    differ(unet(**inputs).sample, expected)
    unet.disable_adapters()
    assert torch.equal(unet(**inputs).sample, expected)


def test_class_is_ours():
    assert not issubclass(UNet1DConditionModel, UNet2DConditionModel)
    layer_names = {type(module).__name__ for module in make_unet().modules()}
    assert set(UNet1DConditionModel._repeated_blocks) <= layer_names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": torch.zeros(3, 5, 13)}, "sample"),
        ({"sample": torch.zeros(3, 4)}, "sample"),
        ({"sample": torch.zeros(3, 4, 0)}, "sample"),
        ({"encoder_hidden_states": torch.zeros(3, 5, 11)}, "encoder_hidden_states"),
        ({"encoder_hidden_states": torch.zeros(2, 5, 12)}, "encoder_hidden_states"),
        ({"encoder_attention_mask": torch.zeros(3, 4)}, "encoder_attention_mask"),
        ({"frame_cond": torch.zeros(3, 6, 12)}, "frame_cond"),
        ({"frame_mask": torch.zeros(3, 12)}, "frame_mask"),
        ({"added_cond_kwargs": {"tempo": torch.zeros(3)}}, "tempo.*allowed: duration_s, bpm, key, beats_per_bar"),
        ({"added_cond_kwargs": {"bpm": torch.zeros(2)}}, "bpm"),
    ],
)
def test_wrong_shapes_are_named(unet, changes, message):
    with pytest.raises(ValueError, match=message):
        unet(**{**make_inputs(), **changes})


def test_wrong_config_is_named():
    with pytest.raises(ValueError, match="one entry per level"):
        make_unet(attention=[True])
    with pytest.raises(ValueError, match="attention_head_dim"):
        make_unet(attention_head_dim=7)
    with pytest.raises(ValueError, match="attention_head_dim"):
        make_unet(attention_head_dim=10)
    with pytest.raises(ValueError, match="frame_cond"):
        make_unet(frame_cond_channels=0)(**make_inputs())
