"""Runs -> one folder laid out as on the Hub, with its code.

    python -m training.export --unet runs/small/unet/final --latents latents/small \
        --text_encoder runs/small/text_encoder --output_dir checkpoints/small
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training.autoencoders import load_autoencoder
from training.config import command, parse_config
from training.encode_latents import load_text_encoder
from training.train_unet import load_scheduler


@dataclass(frozen=True)
class ExportRun:
    """What goes into a checkpoint folder."""

    unet: str = "runs/small/unet/final"
    latents: str = "latents/small"
    """stage 2's folder: its vae/ carries the latent statistics that the UNet was trained with"""
    text_encoder: str = "runs/small/text_encoder"
    """the folder that stage 2 was given"""
    scheduler_config: str = "training/configs/small/scheduler.json"
    output_dir: str = "checkpoints/mine"
    notes: str | None = None
    """Markdown file for the model card: data, training, figures, limits"""
    default_num_inference_steps: int = 12
    default_guidance_scale: float = 2.5
    default_duration_s: float = 10.0


def main(argv: list[str] | None = None) -> None:
    config = parse_config(ExportRun, argv)
    text_encoder, tokenizer = load_text_encoder(config.text_encoder)
    pipe = VivacePipeline(
        vae=load_autoencoder(f"{config.latents}/vae"),
        unet=UNet1DConditionModel.from_pretrained(config.unet),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=load_scheduler(config.scheduler_config),
        **{k: v for k, v in dataclasses.asdict(config).items() if k.startswith("default_")},
    )
    notes = Path(config.notes).read_text() if config.notes else ""
    save_checkpoint(pipe, config.output_dir, notes)
    print(config.output_dir)


if __name__ == "__main__":
    command(main)
