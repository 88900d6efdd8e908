"""Write a run as a checkpoint folder with its code, laid out as on the Hub.

python -m training.export --run runs/small/unet --output_dir checkpoints/mine
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from autoencoder.classes import load_autoencoder
from pipelines.composer_vivace import ComposerVivace
from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import distill, lora, reward
from training.config import command, option, parse_config, share
from training.encode_latents import load_text_encoder
from training.flow import load_scheduler


@dataclass(frozen=True)
class ExportRun:
    """Make a checkpoint folder, laid out as on the Hub, of finished runs."""

    run: str | None = option(
        None,
        "run folder of stage 3; unet, latents, text_encoder and scheduler_config are then what it was made with; of a "
        "run with lora_rank the adapter alone is written; of training.distill or training.reward the checkpoint with "
        "the new network",
    )
    unet: str = option("runs/small/unet/final", "folder of the UNet")
    latents: str = option(
        "latents/small", "stage 2's folder; its vae/ has the latent statistics that the UNet was trained with"
    )
    text_encoder: str = option("runs/small/text_aligned", "the text encoder's folder that stage 2 used")
    scheduler_config: str = option("training/configs/small/scheduler.json", "JSON of the scheduler, as in stage 3")
    composer: str | None = option(None, "folder of a composer (training.train_composer) for a network that plays notes")
    output_dir: str = option("checkpoints/mine", "checkpoint folder to write")
    notes: str | None = option(None, "Markdown file for the model card: data, training, figures, limits")
    default_num_inference_steps: int = option(12, "inference steps where a request names none", at_least=1)
    default_guidance_scale: float = option(2.5, "guidance scale where a request names none", at_least=0)
    default_guidance_low: float = share(0.0, "lowest noise level at which guidance is on")
    default_guidance_high: float = share(1.0, "highest noise level at which guidance is on")
    default_score_guidance_scale: float | None = option(
        None, "strength of grid and notes where a piece plays notes; null = that of the rest", at_least=0
    )
    default_apg_eta: float = share(
        1.0,
        "share kept of what guidance adds along the prediction, where a request does not say; 0 keeps loud notes even",
    )
    default_compression_ratio: float = option(
        4.0,
        "of the compressor that keeps levels as steady as the training clips' are; 1 = none",
        at_least=1,
        at_most=20,
    )
    default_negative_guidance_scale: float = option(
        5.0, "strength with which what a prompt excludes is kept out", at_least=0
    )
    default_duration_s: float = option(10.0, "seconds of music where a request names no length", above=0)
    captions_state_absence: bool = option(
        False, 'the captions were of scorebook version 3 or later, which say "without drums" where there are none'
    )


def follow_run(config: ExportRun) -> ExportRun:
    """The options with the folders that belong to `run`. Raises a ValueError if `run` is not a finished run of stage
    3."""
    run = Path(config.run)
    try:
        run_config = json.loads((run / "config.json").read_text())
        latents = json.loads(Path(run_config["data_dir"], "latents.json").read_text())
        folders = {"latents": run_config["data_dir"], "scheduler_config": run_config["scheduler_config"]}
        folders["text_encoder"] = latents["text_encoder"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"run is {config.run!r}, which is no run folder of stage 3 ({error!r})") from error
    if not (run / "final" / "config.json").is_file():
        raise ValueError(f"run is {config.run!r}, which has no final weights; give its command again to finish it")
    return dataclasses.replace(config, unet=str(run / "final"), **folders)


def main(argv: list[str] | None = None) -> None:
    config = parse_config(ExportRun, argv)
    notes = Path(config.notes).read_text() if config.notes else ""
    if config.run is not None:
        run, output_dir = Path(config.run), Path(config.output_dir)
        if (run / "base.json").is_file():
            about = lora.export(run, output_dir, notes)
            figure = "reward" if "reward" in about else "loss"
            print(f"{output_dir}: a LoRA adapter, step {about['step']}, held-out {figure} {about[figure]:.4f}")
            return
        settings = json.loads((run / "config.json").read_text()) if (run / "config.json").is_file() else {}
        if "student_steps" in settings:
            distill.export(run, output_dir, notes)
            print(output_dir)
            return
        if "advantage_range" in settings:
            about = reward.export(run, output_dir, notes)
            print(f"{output_dir}: the weights of step {about['step']}")
            return
        config = follow_run(config)
    text_encoder, tokenizer = load_text_encoder(config.text_encoder)
    pipe = VivacePipeline(
        vae=load_autoencoder(f"{config.latents}/vae").eval(),
        unet=UNet1DConditionModel.from_pretrained(config.unet),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=load_scheduler(config.scheduler_config),
        composer=None if config.composer is None else ComposerVivace.from_pretrained(config.composer),
        captions_state_absence=config.captions_state_absence,
        **{k: v for k, v in dataclasses.asdict(config).items() if k.startswith("default_")},
    )
    save_checkpoint(pipe, config.output_dir, notes)
    print(config.output_dir)


if __name__ == "__main__":
    command(main)
