"""A grown network computes what the old one did, and its new layers learn."""

import pytest
import torch
from conftest import make_text_encoder

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import grow
from training.encode_latents import load_text_encoder

SIZES = dict(in_channels=4, out_channels=4, frame_cond_channels=3, block_out_channels=[32, 32, 64], embedding_dim=32,
             layers_per_block=[1, 1, 2], attention=[False, True, True], attention_head_dim=32, cross_attention_dim=16,
             context_dim=32)  # fmt: skip


def trained() -> UNet1DConditionModel:
    """A network none of whose branches is silent."""
    torch.manual_seed(0)
    unet = UNet1DConditionModel(**SIZES)
    for parameter in unet.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return unet.eval()


def inputs() -> dict:
    torch.manual_seed(1)
    return {
        "sample": torch.randn(2, 4, 21), "timestep": torch.tensor([100.0, 900.0]),
        "encoder_hidden_states": torch.randn(2, 5, 16), "frame_cond": torch.randn(2, 3, 21),
        "added_cond_kwargs": {"bpm": torch.tensor([90.0, float("nan")])},
    }  # fmt: skip


@torch.no_grad()
def test_same_output_saved_and_loaded(tmp_path):
    unet = trained()
    unet.save_pretrained(tmp_path / "old")
    folders = ["--unet", str(tmp_path / "old"), "--output_dir", str(tmp_path / "new")]
    grow.main([*folders, "--layers_per_block", "2", "1", "4"])
    deeper = UNet1DConditionModel.from_pretrained(tmp_path / "new").eval()
    assert deeper.config.layers_per_block == [2, 1, 4] and len(deeper.up_layers[0]) == 2
    assert torch.equal(deeper(**inputs()).sample, unet(**inputs()).sample)


def test_new_layers_learn():
    deeper = grow.grow(trained(), [1, 2, 3])
    optimizer = torch.optim.SGD(deeper.parameters(), 0.5)
    new = {name: p.detach().clone() for name, p in deeper.named_parameters() if name.startswith("mid_layers.2")}
    for _ in range(4):  # the first step moves the zeroed ends, the next ones what lies before them
        optimizer.zero_grad()
        deeper(**inputs()).sample.square().mean().backward()
        optimizer.step()
    same = [name for name, p in deeper.named_parameters() if name in new and torch.equal(p, new[name])]
    assert same == []


@pytest.mark.parametrize("layers", [[1, 1], [1, 1, 1], [0, 1, 2]])
def test_fewer_layers_are_refused(layers):
    with pytest.raises(ValueError, match=r"layers_per_block is .* at least"):
        grow.grow(trained(), layers)


IDS = torch.tensor([[5, 9, 2, 7, 1], [4, 4, 3, 1, 0]])


def test_text_encoder_same_states_saved_and_loaded(tiny_text_encoder, tmp_path):
    sizes = ["--num_layers", "5", "--d_ff", "96", "--output_dir", str(tmp_path / "new")]
    grow.main(["--text_encoder", str(tiny_text_encoder), *sizes])
    (small, old_words), (large, words) = load_text_encoder(tiny_text_encoder), load_text_encoder(tmp_path / "new")
    assert (large.config.num_layers, large.config.d_ff) == (5, 96) and words.get_vocab() == old_words.get_vocab()
    with torch.no_grad():
        states = [encoder(input_ids=IDS, attention_mask=IDS > 0).last_hidden_state for encoder in (small, large)]
    torch.testing.assert_close(*states, rtol=0.0, atol=1e-6)  # longer sums may be added in another order


def test_new_layers_and_units_of_a_text_encoder_learn():
    small = make_text_encoder()
    layers, units = small.config.num_layers, small.config.d_ff
    large = grow.grow_text(small, layers + 1, units + 8)
    before = {name: parameter.detach().clone() for name, parameter in large.named_parameters()}
    optimizer = torch.optim.SGD(large.parameters(), 0.5)
    for _ in range(4):
        optimizer.zero_grad()
        large(input_ids=IDS, attention_mask=IDS > 0).last_hidden_state[..., 0].sum().backward()
        optimizer.step()
    moved = {name: parameter != before[name] for name, parameter in large.named_parameters()}
    assert all(where.any() for name, where in moved.items() if f"block.{layers}." in name and "norm" not in name)
    assert all(where[:, units:].any() for name, where in moved.items() if name.endswith("wo.weight"))
    assert all(where[units:].any() for name, where in moved.items() if ".wi" in name)


def test_fewer_units_are_refused_and_so_is_no_network_or_two(tmp_path):
    small = make_text_encoder()
    with pytest.raises(ValueError, match=rf"d_ff is 1; allowed: at least {small.config.d_ff}"):
        grow.grow_text(small, small.config.num_layers, 1)
    for networks in ([], ["--unet", "a", "--text_encoder", "b"]):
        with pytest.raises(ValueError, match="allowed: one of them"):
            grow.main([*networks, "--output_dir", str(tmp_path / "new")])
