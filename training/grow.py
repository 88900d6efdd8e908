"""A larger network from a trained one: it computes what the old one did, and goes on learning from there.

    python -m training.grow --unet runs/small/unet/final --layers_per_block 1 2 3 --output_dir runs/small/unet_deep
    accelerate launch -m training.train_unet --config ... --init_from runs/small/unet_deep

    python -m training.grow --text_encoder runs/small/text_encoder --num_layers 6 --d_ff 768 --output_dir runs/text
    accelerate launch -m training.align_text_encoder --config ... --init_from runs/text

Every branch of a layer ends in a linear map without a nonlinearity behind it. Where that map is zero, a new layer
passes its input on unchanged (identity blocks as in Net2Net, Chen et al. 2016, https://arxiv.org/abs/1511.05641), and
new units of a layer add nothing. Training then moves them away from that, at no loss of what is known.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import T5EncoderModel

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import loop
from training.config import command, parse_config
from training.encode_latents import load_text_encoder


@dataclass(frozen=True)
class GrowRun:
    """Which network, how large, where to."""

    unet: str | None = None
    """folder of the trained network, or"""
    text_encoder: str | None = None
    """folder with text_encoder/ and tokenizer/"""
    layers_per_block: list[int] = field(default_factory=list)
    """of a UNet: layers of each level; at least those that it has"""
    num_layers: int = 0
    """of a text encoder: its layers; at least those that it has"""
    d_ff: int = 0
    """of a text encoder: units of each layer's feed-forward part; at least those that it has"""
    output_dir: str = "runs/grown"
    seed: int = 0
    """draws the weights before the zeroed ones"""


def grow(unet: UNet1DConditionModel, layers_per_block: list[int]) -> UNet1DConditionModel:
    """A network of more layers that gives the same output.

    Args:
        unet: the trained network.
        layers_per_block: layers of each level.

    Raises:
        ValueError: another number of levels, or fewer layers than there are.
    """
    old = list(unet.config.layers_per_block)
    if len(layers_per_block) != len(old) or any(new < had for new, had in zip(layers_per_block, old, strict=False)):
        raise ValueError(f"layers_per_block is {layers_per_block}; allowed: {len(old)} numbers of at least {old}")
    deeper = UNet1DConditionModel.from_config({**unet.config, "layers_per_block": list(layers_per_block)})
    missing, unexpected = deeper.load_state_dict(unet.state_dict(), strict=False)
    # A level's new layers stand behind its old ones, so that every old weight keeps its name.
    assert not unexpected and all("_layers." in name for name in missing), (missing, unexpected)
    return deeper


@torch.no_grad()
def grow_text(encoder: T5EncoderModel, num_layers: int, d_ff: int) -> T5EncoderModel:
    """A text encoder of more layers and units that gives the same states.

    Args:
        encoder: the trained encoder.
        num_layers: its layers.
        d_ff: units of each layer's feed-forward part.

    Raises:
        ValueError: fewer than there are.
    """
    for name, value in (("num_layers", num_layers), ("d_ff", d_ff)):
        if value < getattr(encoder.config, name):
            raise ValueError(f"{name} is {value}; allowed: at least {getattr(encoder.config, name)}")
    sizes = {**encoder.config.to_dict(), "num_layers": num_layers, "d_ff": d_ff}
    larger, old = T5EncoderModel(type(encoder.config).from_dict(sizes)), encoder.state_dict()
    for name, value in larger.state_dict().items():
        if name.endswith(("SelfAttention.o.weight", "DenseReluDense.wo.weight")):
            value.zero_()
        if name in old:  # new units stand behind the old ones
            value[tuple(slice(size) for size in old[name].shape)] = old[name]
    return larger.eval()


def main(argv: list[str] | None = None) -> None:
    config = parse_config(GrowRun, argv)
    if (config.unet is None) == (config.text_encoder is None):
        raise ValueError(f"unet is {config.unet} and text_encoder {config.text_encoder}; allowed: one of them")
    torch.manual_seed(config.seed)
    partial = Path(config.output_dir + ".partial")
    if config.unet is None:
        small, tokenizer = load_text_encoder(config.text_encoder)
        large = grow_text(small, config.num_layers, config.d_ff)
        large.save_pretrained(partial / "text_encoder")
        tokenizer.save_pretrained(partial / "tokenizer")
    else:
        if not Path(config.unet, "config.json").is_file():
            raise ValueError(f"unet {config.unet!r}: no folder with a model's config.json")
        small = UNet1DConditionModel.from_pretrained(config.unet)
        large = grow(small, config.layers_per_block)
        large.save_pretrained(partial)
    loop.replace_folder(partial, Path(config.output_dir))
    counts = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (large, small)]
    print(f"{config.output_dir}: {counts[0]:.2f} M parameters, {counts[1]:.2f} M before")


if __name__ == "__main__":
    command(main)
