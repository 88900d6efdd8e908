"""Stage 3, second part: a trained UNet against its own clips (training/refinement.py).

    accelerate launch -m training.refine_unet --config training/configs/small/unet_refine.yaml \
        --init_from runs/small/unet/final

A run of stage 3 in all but its loss: resumable, on one or several processes (FSDP excepted), heard while it trains.
"""

from training.config import RefineRun, command, parse_config
from training.refinement import Refinement
from training.train_unet import train


def main(argv: list[str] | None = None) -> dict | None:
    """Refine; a dry run returns its figures.

    Raises:
        ValueError: nothing to begin with, or a setting that does not apply.
    """
    config = parse_config(RefineRun, argv)
    if not config.init_from:
        raise ValueError("init_from is not given; allowed: the folder of a trained UNet, as runs/small/unet/final")
    if config.min_snr_gamma is not None:
        raise ValueError(f"min_snr_gamma is {config.min_snr_gamma:g}; allowed: null (margins are of plain errors)")
    if config.dry_run:
        raise ValueError("dry_run is true; allowed: for stage 3, of which a step costs a third to a half of one here")
    return train(config, Refinement)


if __name__ == "__main__":
    command(main)
