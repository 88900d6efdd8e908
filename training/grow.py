"""A deeper network from a trained one: it computes what the old one did, and goes on learning from there.

    python -m training.grow --unet runs/small/unet/final --layers_per_block 1 2 3 --output_dir runs/small/unet_deep
    accelerate launch -m training.train_unet --config ... --init_from runs/small/unet_deep

Every branch of a layer ends in a zeroed convolution, so a new layer behind the old ones of its level passes its input
on unchanged (identity blocks as in Net2Net, Chen et al. 2016, https://arxiv.org/abs/1511.05641). The first steps of
training then move it away from that, at no loss of what is known.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import loop
from training.config import command, parse_config


@dataclass(frozen=True)
class GrowRun:
    """Which network, how deep, where to."""

    unet: str = ""
    """folder of the trained network"""
    layers_per_block: list[int] = field(default_factory=list)
    """layers of each level; at least those that it has"""
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


def main(argv: list[str] | None = None) -> None:
    config = parse_config(GrowRun, argv)
    if not Path(config.unet, "config.json").is_file():
        raise ValueError(f"unet {config.unet!r}: no folder with a model's config.json")
    torch.manual_seed(config.seed)
    unet = UNet1DConditionModel.from_pretrained(config.unet)
    deeper = grow(unet, config.layers_per_block)
    partial = Path(config.output_dir + ".partial")
    deeper.save_pretrained(partial)
    loop.replace_folder(partial, Path(config.output_dir))
    counts = [sum(p.numel() for p in model.parameters()) / 1e6 for model in (unet, deeper)]
    print(f"{config.output_dir}: {counts[1]:.2f} M parameters, {counts[0]:.2f} M before")


if __name__ == "__main__":
    command(main)
