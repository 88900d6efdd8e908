"""Stage 3: latents -> UNet1DConditionModel.

    accelerate launch -m training.train_unet --config training/configs/small/unet.yaml

The process (noise, target) follows the scheduler named in `scheduler_config`; training/flow.py holds its equations.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch.distributed.tensor import DTensor

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import dry_run, loop
from training.config import UNetRun, command, load_model_config, parse_config
from training.data.buckets import LengthBuckets
from training.data.conditions import TrainingCrops
from training.data.latents import LatentCrops
from training.flow import load_scheduler
from training.linear_path import start_linear_path
from training.objective import VALIDATION, Draws, Objective, lower_is_better, validate
from training.sharding import keep_averages, make_averages, whole_model
from training.watch import Watch

Hear = Callable[[EMAModel, dict[str, float]], dict[str, float]]  # called in every process


def build(config: UNetRun, crops: LatentCrops) -> UNet1DConditionModel:
    """The network, new or from `init_from`.

    Raises:
        ValueError: it takes other latents than the folder has, or there is nothing in `init_from`.
    """
    if config.init_from:
        if not Path(config.init_from, "config.json").is_file():  # a name on the Hub would be looked for otherwise
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


def check_finite(values: torch.Tensor, what: str, step: int, batch: dict, items: TrainingCrops) -> None:
    """Stop before the optimiser's step, so that neither weights nor averages see what is not finite.

    Args:
        values: one an item of the batch (the items that are not finite are named), or one for all of it.

    Raises:
        FloatingPointError: naming the batch's items.
    """
    bad = ~torch.isfinite(values.detach()).cpu()
    if bad.any():
        named = items.names(batch["index"].cpu()[bad] if bad.ndim else batch["index"].cpu())
        raise FloatingPointError(f"{what} not finite after step {step} on {named}; the last checkpoint is kept")


def figures_of(
    emas: list[EMAModel], model: UNet1DConditionModel, objective: Objective, crops: LatentCrops, hear: Hear | None
) -> list[dict[str, float]]:
    """Validation figures of each set of averaged weights and, with `hear`, those of its clips."""
    figures = []
    for ema in emas:
        with loop.ema_weights(ema, model):
            found = validate(model, objective, crops)
            figures.append(found if hear is None else found | hear(ema, found))
    return figures


def choose(figures: list[dict[str, float]], metric: str) -> int:
    """Which set of averaged weights is the best by `metric`, or by the validation loss where that was not heard.

    The main process, which alone hears clips, tells the others.
    """
    if not all(metric in found for found in figures):
        metric = VALIDATION
    values = [found[metric] if lower_is_better(metric) else -found[metric] for found in figures]
    (best,) = broadcast_object_list([int(np.argmin(values))])
    return best


def main(argv: list[str] | None = None) -> dict | None:
    """Train; a dry run returns its figures."""
    config = parse_config(UNetRun, argv)
    accelerator = loop.start(config, write=not config.dry_run, may_shard=True)
    scheduler = load_scheduler(config.scheduler_config)
    objective = Objective(scheduler, config)
    crops = LatentCrops(config.data_dir, "train", config.crop_frames)
    items = TrainingCrops(crops, config)
    buckets = LengthBuckets(items.lengths(), config.crop_frames, config.length_buckets)
    model = build(config, crops).to(accelerator.device)
    if config.dry_run:

        def loss_of(batch: dict) -> torch.Tensor:
            timesteps = torch.full((len(batch["index"]),), scheduler.config.num_train_timesteps // 2)
            with accelerator.autocast():
                return objective.errors(
                    model, batch, torch.randn_like(batch["latents"]), timesteps.to(accelerator.device)
                ).mean()

        averages = 1 if config.second_ema_decay is None else 2
        return dry_run.tell(accelerator, config, model, items, loss_of, averages, buckets.collate)
    accelerator.print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(crops)} clips")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    schedule = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
    )
    network, optimizer = accelerator.prepare(torch.compile(model) if config.compile else model, optimizer)
    decays = [config.ema_decay] if config.second_ema_decay is None else [config.ema_decay, config.second_ema_decay]
    emas = make_averages(model, decays)
    accelerator.register_for_checkpointing(schedule)
    keep_averages(accelerator, emas)
    step = loop.resume(accelerator, config)

    loader = loop.make_loader(items, config, step, accelerator, buckets)
    validation = LatentCrops(config.data_dir, "validation", config.crop_frames)
    watch = None if config.evaluate_every is None else Watch(config, validation, scheduler)

    def hear(ema: EMAModel, found: dict[str, float]) -> dict[str, float]:
        whole = whole_model(accelerator, model)
        if not accelerator.is_main_process:
            return {}
        heard, clips = watch.evaluate(whole)
        watch.keep_if_best(whole, found | heard, step)
        if ema is emas[0]:
            watch.show(accelerator, whole, step, clips)
        return heard

    progress = loop.Progress(accelerator, config, step, "unet")
    draws = Draws(config, scheduler, accelerator, crops.about["latent_channels"], step)
    part, figures = 0, None
    for batch in progress.batches(loader):
        batch = {name: value.to(accelerator.device) for name, value in batch.items()}
        noise, drawn = draws(step, part, batch["latents"])
        timesteps = drawn.to(accelerator.device)
        with accelerator.accumulate(network):
            with accelerator.autocast():
                errors = objective.errors(network, batch, noise, timesteps)
            check_finite(errors, "loss", step, batch, items)
            loss = (errors * objective.weights(timesteps)).mean()
            accelerator.backward(loss)
            norm = None
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(network.parameters(), config.max_grad_norm)
                norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
                if accelerator.scaler is None:  # a scaler looks for itself, and leaves such a step out
                    check_finite(norm, "gradient", step, batch, items)
            optimizer.step()
            optimizer.zero_grad()
        progress.collect({"loss": loss})
        progress.collect(*objective.by_level(errors.detach(), drawn))
        part += 1
        if not accelerator.sync_gradients:
            continue
        part = 0
        step += 1
        schedule.step()
        for ema in emas:
            ema.step(model.parameters())
        progress.add(step, {"grad_norm": norm})
        stop = step == config.max_steps or progress.out_of_time()
        due = watch is not None and (step % config.evaluate_every == 0 or stop)
        if step % config.validate_every == 0 or stop or due:
            figures = figures_of(emas, model, objective, validation, hear if due else None)
            told = dict(figures[0])
            if len(emas) == 2:
                told |= {f"{name}_second_ema": value for name, value in figures[1].items()}
            progress.report(step, told)
            accelerator.wait_for_everyone()
        if stop or progress.due(step):
            loop.save_checkpoint(accelerator, config, step)
        if stop:
            break
        progress.leave_if_asked(step)
    progress.close()
    best = 0
    if len(emas) == 2:
        if figures is None:  # nothing was left to do but this
            figures = figures_of(emas, model, objective, validation, None if watch is None else hear)
        best = choose(figures, config.best_metric)
        progress.report(step, {"final/ema_decay": decays[best]})
    loop.save_final(accelerator, model, emas[best], config)
    return None


if __name__ == "__main__":
    command(main)
