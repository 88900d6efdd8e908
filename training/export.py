"""Runs -> one folder laid out as on the Hub, with its code.

    python -m training.export --run runs/mine --output_dir checkpoints/mine     # the rest as the run tells
    python -m training.export --unet runs/small/unet/final --latents latents/small \
        --text_encoder runs/small/text_aligned --output_dir checkpoints/small
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training.audible import audibility, guidance_channels
from training.autoencoders import load_autoencoder
from training.config import command, parse_config
from training.encode_latents import load_text_encoder
from training.flow import load_scheduler


@dataclass(frozen=True)
class ExportRun:
    """What goes into a checkpoint folder."""

    run: str | None = None
    """run folder of stage 3; unet, latents, text_encoder and scheduler_config are then what it was made with"""
    unet: str = "runs/small/unet/final"
    latents: str = "latents/small"
    """stage 2's folder: its vae/ carries the latent statistics that the UNet was trained with"""
    text_encoder: str = "runs/small/text_aligned"
    """the folder that stage 2 was given"""
    scheduler_config: str = "training/configs/small/scheduler.json"
    output_dir: str = "checkpoints/mine"
    notes: str | None = None
    """Markdown file for the model card: data, training, figures, limits"""
    default_num_inference_steps: int = 12
    default_guidance_scale: float = 2.5
    default_guidance_low: float = 0.0
    """noise levels between which guidance is on"""
    default_guidance_high: float = 1.0
    default_negative_guidance_scale: float = 5.0
    """with what strength that which a prompt excludes is kept out"""
    default_duration_s: float = 10.0
    captions_state_absence: bool = False
    """whether the captions were of scorebook version 3 or later, which say "without drums" where there are none"""
    guidance_slow: float = 1.5
    """how much guidance acts on what lasts, as timbre does, beside what changes from note to note"""
    guidance_balance: float = 0.6
    """above 0, guidance acts less on latent channels of which more is heard (training/audible.py)"""


def follow_run(config: ExportRun) -> ExportRun:
    """The settings with what the run folder tells put in.

    Raises:
        ValueError: no finished run of stage 3.
    """
    run = Path(config.run)
    try:
        told = json.loads((run / "config.json").read_text())
        latents = json.loads(Path(told["data_dir"], "latents.json").read_text())
        found = {"latents": told["data_dir"], "scheduler_config": told["scheduler_config"]}
        found["text_encoder"] = latents["text_encoder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"run is {config.run!r}, which is no run folder of stage 3 ({error!r})") from error
    if not (run / "final" / "config.json").is_file():
        raise ValueError(f"run is {config.run!r}, which has no final weights; give its command again to finish it")
    return dataclasses.replace(config, unet=str(run / "final"), **found)


def main(argv: list[str] | None = None) -> None:
    config = parse_config(ExportRun, argv)
    config = config if config.run is None else follow_run(config)
    text_encoder, tokenizer = load_text_encoder(config.text_encoder)
    vae = load_autoencoder(f"{config.latents}/vae").eval()
    channels = guidance_channels(audibility(vae), config.guidance_balance) if config.guidance_balance else None
    pipe = VivacePipeline(
        vae=vae,
        unet=UNet1DConditionModel.from_pretrained(config.unet),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=load_scheduler(config.scheduler_config),
        guidance_slow=config.guidance_slow,
        guidance_channels=channels,
        captions_state_absence=config.captions_state_absence,
        **{k: v for k, v in dataclasses.asdict(config).items() if k.startswith("default_")},
    )
    notes = Path(config.notes).read_text() if config.notes else ""
    save_checkpoint(pipe, config.output_dir, notes)
    print(config.output_dir)


if __name__ == "__main__":
    command(main)
