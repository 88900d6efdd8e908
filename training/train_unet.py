"""Stage 3: latents -> UNet1DConditionModel.

    accelerate launch -m training.train_unet --config training/configs/small/unet.yaml

The scheduler in `scheduler_config` defines the noise process and the target (training/flow.py).
"""

import functools
from pathlib import Path

import torch
from torch import nn

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_process import ROLL_CHANNELS
from training import lora
from training.config import UNetRun, command, load_model_config, parse_config
from training.data.latents import LatentCrops, TrainingCrops
from training.flow import load_scheduler, start_linear_path
from training.objective import Draws, Objective, validate
from training.run import dry_run, loop
from training.run.sharding import whole_model
from training.run.trainer import Losses, Trainer
from training.watch import Watch

NOTE_SETTINGS = ("note_channels", "note_dim", "instruments")
LATENT_SETTINGS = ("in_channels", "out_channels", "frame_cond_channels")


def load_start(config: UNetRun, latent_channels: int) -> UNet1DConditionModel:
    """The network of `init_from`: a folder of one, or a checkpoint folder with unet/.

    One without notes, or without a reference, gains those of `model_config`, if that has some, and predicts at first
    what it did without. One for the latents of another autoencoder begins with new first and last layers where
    `model_config` has `latent_channels`, and keeps the rest.

    Raises:
        ValueError: it has no model.
    """
    folder = Path(config.init_from)
    folder = folder if (folder / "config.json").is_file() else folder / "unet"
    if not (folder / "config.json").is_file():  # diffusers would look for it on the Hub
        raise ValueError(f"init_from {config.init_from}: no folder with a model's config.json")
    model = UNet1DConditionModel.from_pretrained(folder)
    sizes = load_model_config(config.model_config, UNet1DConditionModel)
    if model.config.jump_guidance is not None:
        raise ValueError(
            f"init_from {config.init_from}: a distilled network, which would forget its jumps; train the one that it "
            "was distilled from, and distil that again"
        )
    names = [] if model.config.note_channels or not sizes.get("note_channels") else [*NOTE_SETTINGS]
    if sizes.get("in_channels") == latent_channels != model.config.in_channels:
        names += [*LATENT_SETTINGS, "linear_taps"]
    if sizes.get("reference_channels") and not model.config.reference_channels:
        names.append("reference_channels")
    if not names:
        return model
    grown = UNet1DConditionModel.from_config(model.config, **{name: sizes[name] for name in names if name in sizes})
    old, new = model.state_dict(), grown.state_dict()
    if "in_channels" in names and model.conv_frame_cond is not None and grown.conv_frame_cond is not None:
        # The frames of the latents that are kept come after everything else.
        name, shared = "conv_frame_cond.weight", model.config.frame_cond_channels - model.config.in_channels
        new[name][:, :shared] = old[name][:, :shared]
    fresh = ("conv_in.", "conv_out.", "linear_path.") if "in_channels" in names else ()
    fits = {n: v for n, v in old.items() if n in new and v.shape == new[n].shape and not n.startswith(fresh)}
    grown.load_state_dict(new | fits)
    return grown


def build(config: UNetRun, crops: LatentCrops) -> UNet1DConditionModel:
    """The network, new or from `init_from`.

    Raises:
        ValueError: its channels differ from those of the latents or of note rolls, or `init_from` has no model.
    """
    if config.lora_rank:
        model = UNet1DConditionModel.from_pretrained(lora.check(config) / "unet")
    elif config.init_from:
        model = load_start(config, crops.about["latent_channels"])
    else:
        model = UNet1DConditionModel(**load_model_config(config.model_config, UNet1DConditionModel))
    if model.config.in_channels != crops.about["latent_channels"]:
        raise ValueError(
            f"in_channels is {model.config.in_channels}; the latents in {config.data_dir} have "
            f"{crops.about['latent_channels']} channels"
        )
    if model.config.note_channels not in (0, ROLL_CHANNELS):
        raise ValueError(f"note_channels is {model.config.note_channels}; allowed: 0 or {ROLL_CHANNELS}")
    # Zero in a new network, and where `init_from` was for other latents.
    empty = model.linear_path is not None and not model.linear_path.weight.any()
    if empty and not config.dry_run and not config.lora_rank:
        start_linear_path(model, load_scheduler(config.scheduler_config), crops, config.seed)
    return model


def main(argv: list[str] | None = None) -> dict | None:
    """Train; a dry run returns its measurements."""
    config = parse_config(UNetRun, argv)
    if config.lora_rank:
        lora.check(config)
        if config.evaluate_every is not None:
            raise ValueError(
                "evaluate_every is set; with lora_rank allowed: null (best/ is the one with the lowest loss)"
            )
    accelerator = loop.start(config, write=not config.dry_run, may_shard=not config.lora_rank)
    scheduler = load_scheduler(config.scheduler_config)
    objective = Objective(scheduler, config)
    crops = LatentCrops(config.data_dir, "train", config.crop_frames)
    items = TrainingCrops(crops, config)
    model = build(config, crops)
    trained: nn.Module = model
    if config.lora_rank:
        lora.use_statistics(crops, lora.check(config), config.data_dir)
        if accelerator.is_main_process and not config.dry_run:
            lora.note_base(model, config)
        trained = lora.add_adapter(model, config)
    model = model.to(accelerator.device)
    if model.config.note_channels:
        crops.instruments = model.config.instruments or []
    crops.references = bool(model.config.reference_channels)
    if config.dry_run:

        def loss_of(batch: dict) -> torch.Tensor:
            timesteps = torch.full((len(batch["index"]),), scheduler.config.num_train_timesteps // 2)
            with accelerator.autocast():
                return objective.errors(
                    model, batch, torch.randn_like(batch["latents"]), timesteps.to(accelerator.device)
                ).mean()

        return dry_run.report(accelerator, config, model, items, loss_of)
    accelerator.print(f"{sum(p.numel() for p in trained.parameters()) / 1e6:.2f} M parameters, {len(crops)} clips")
    if crops.instruments is not None:
        accelerator.print(f"data_dir {config.data_dir}: {crops.about_notes()}")
    trainer = Trainer(
        accelerator, config, trained, (0.9, 0.99), "unet",
        network=torch.compile(model) if config.compile else model, ema_decay=config.ema_decay, names=items.names,
    )  # fmt: skip
    if config.lora_rank:
        lora.keep_in_checkpoints(accelerator, model)
    step = trainer.resume()
    loader = loop.make_loader(items, config, step, accelerator)
    validation = LatentCrops(config.data_dir, "validation", config.crop_frames, crops.instruments)
    validation.mean, validation.std, validation.references = crops.mean, crops.std, crops.references
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
        with loop.ema_weights(trainer.ema, trained):
            values = validate(model, objective, held_out)
            if config.lora_rank and accelerator.is_main_process:
                best.keep(model, values[lora.METRIC], step)
            if watch is not None and (last or step % config.evaluate_every == 0):
                whole = whole_model(accelerator, model)
                if accelerator.is_main_process:
                    values |= watch(accelerator, whole, values, step)
            return values

    held_out = lora.Repeated(validation, config.validate_clips) if config.lora_rank else validation
    save = None
    if config.lora_rank:
        save = functools.partial(lora.save_adapter, sounds=lora.sounds_of(crops) if crops.references else None)
    best = lora.Best(Path(config.output_dir), save=save)
    if config.lora_rank and step == 0:
        figures(0, False)
    every = [config.validate_every] if watch is None else [config.validate_every, config.evaluate_every]
    trainer.run(loader, losses, figures, every)
    loop.save_final(accelerator, model, trainer.ema, config, trained, save)
    return None


if __name__ == "__main__":
    command(main)
