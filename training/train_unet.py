"""Stage 3: latents -> UNet1DConditionModel.

    accelerate launch -m training.train_unet --config training/configs/small/unet.yaml

The scheduler in `scheduler_config` defines the noise process and the target (training/flow.py).
"""

from pathlib import Path

import torch

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training.config import UNetRun, command, load_model_config, parse_config
from training.data.latents import LatentCrops, TrainingCrops
from training.flow import load_scheduler, start_linear_path
from training.objective import Draws, Objective, validate
from training.run import dry_run, loop
from training.run.sharding import whole_model
from training.run.trainer import Losses, Trainer
from training.watch import Watch


def build(config: UNetRun, crops: LatentCrops) -> UNet1DConditionModel:
    """The network, new or from `init_from`.

    Raises:
        ValueError: its channels differ from those of the latents, or `init_from` has no model.
    """
    if config.init_from:
        if not Path(config.init_from, "config.json").is_file():  # diffusers would look for it on the Hub
            raise ValueError(f"init_from {config.init_from}: no folder with a model's config.json")
        model = UNet1DConditionModel.from_pretrained(config.init_from)
    else:
        model = UNet1DConditionModel(**load_model_config(config.model_config, UNet1DConditionModel))
    if model.config.in_channels != crops.about["latent_channels"]:
        raise ValueError(
            f"in_channels is {model.config.in_channels}; the latents in {config.data_dir} have "
            f"{crops.about['latent_channels']} channels"
        )
    if model.linear_path is not None and not (config.init_from or config.dry_run):
        start_linear_path(model, load_scheduler(config.scheduler_config), crops, config.seed)
    return model


def main(argv: list[str] | None = None) -> dict | None:
    """Train; a dry run returns its measurements."""
    config = parse_config(UNetRun, argv)
    accelerator = loop.start(config, write=not config.dry_run, may_shard=True)
    scheduler = load_scheduler(config.scheduler_config)
    objective = Objective(scheduler, config)
    crops = LatentCrops(config.data_dir, "train", config.crop_frames)
    items = TrainingCrops(crops, config)
    model = build(config, crops).to(accelerator.device)
    if config.dry_run:

        def loss_of(batch: dict) -> torch.Tensor:
            timesteps = torch.full((len(batch["index"]),), scheduler.config.num_train_timesteps // 2)
            with accelerator.autocast():
                return objective.errors(
                    model, batch, torch.randn_like(batch["latents"]), timesteps.to(accelerator.device)
                ).mean()

        return dry_run.report(accelerator, config, model, items, loss_of)
    accelerator.print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(crops)} clips")
    trainer = Trainer(
        accelerator, config, model, (0.9, 0.99), "unet",
        network=torch.compile(model) if config.compile else model, ema_decay=config.ema_decay, names=items.names,
    )  # fmt: skip
    step = trainer.resume()
    loader = loop.make_loader(items, config, step, accelerator)
    validation = LatentCrops(config.data_dir, "validation", config.crop_frames)
    watch = None if config.evaluate_every is None else Watch(config, validation, scheduler, crops)
    draws = Draws(config, scheduler, accelerator, crops.about["latent_channels"], step)

    def losses(step: int, part: int, batch: dict) -> Losses:
        noise, drawn = draws(step, part, batch["latents"])
        with accelerator.autocast():
            errors = objective.errors(trainer.network, batch, noise, drawn.to(accelerator.device))
        loss = errors.mean()
        levels, counts = objective.by_level(errors.detach(), drawn)
        return Losses(loss, {"loss": errors}, {"loss": loss, **levels}, counts)

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, model):
            values = validate(model, objective, validation)
            if watch is not None and (last or step % config.evaluate_every == 0):
                whole = whole_model(accelerator, model)
                if accelerator.is_main_process:
                    values |= watch(accelerator, whole, values, step)
            return values

    every = [config.validate_every] if watch is None else [config.validate_every, config.evaluate_every]
    trainer.run(loader, losses, figures, every)
    loop.save_final(accelerator, model, trainer.ema, config)
    return None


if __name__ == "__main__":
    command(main)
