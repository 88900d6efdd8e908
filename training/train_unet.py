"""Stage 3: latents -> UNet1DConditionModel.

    accelerate launch -m training.train_unet --config training/configs/small/unet.yaml

The process (noise, target) follows the scheduler named in `scheduler_config`; training/flow.py holds its equations.
"""

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import schedulers as diffusers_schedulers
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import flow, loop
from training.config import UNetRun, command, load_model_config, parse_config
from training.data.latents import LatentCrops, random_mask


def load_scheduler(path: str):
    """Build the diffusers scheduler that the JSON names in `_class_name`."""
    values = json.loads(Path(path).read_text())
    scheduler_class = getattr(diffusers_schedulers, values.pop("_class_name"))
    return scheduler_class(**values)


class TrainingCrops:
    """Latent crops with conditions dropped and inpainting masks drawn, each by the item's own generator."""

    def __init__(self, crops: LatentCrops, config: UNetRun):
        self.crops, self.config = crops, config

    def __len__(self) -> int:
        return len(self.crops)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        item = self.crops.read(index, rng)
        config, frames = self.config, item["latents"].shape[1]
        drop_all = rng.random() < config.all_dropout
        if drop_all or rng.random() < config.text_dropout:
            item["text_mask"] = torch.zeros_like(item["text_mask"])
        for name, absent in (("duration_s", float("nan")), ("bpm", float("nan")), ("key", -1), ("beats_per_bar", -1)):
            if drop_all or rng.random() < config.scalar_dropout:
                item[name] = torch.full_like(item[name], absent)
        if drop_all or rng.random() < config.grid_dropout:
            item["grid"] = torch.zeros_like(item["grid"])
        elif rng.random() < config.chord_dropout:
            item["grid"][8:20] = 0.0
            item["grid"][21] = 0.0
        masked = rng.random() < config.mask_probability
        item["mask"] = random_mask(frames, rng) if masked else torch.ones(frames)
        return item


def predict(network: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, batch: dict) -> torch.Tensor:
    """Network output for a batch of `TrainingCrops` items; every condition in the place the pipeline puts it."""
    mask = batch["mask"][:, None]
    frame_cond = torch.cat([batch["grid"], mask, batch["latents"] * (1.0 - mask)], dim=1)
    scalars = {name: batch[name] for name in ("duration_s", "bpm", "key", "beats_per_bar")}
    return network(
        noisy,
        timesteps,
        batch["text"],
        encoder_attention_mask=batch["text_mask"],
        frame_cond=frame_cond,
        added_cond_kwargs=scalars,
        frame_mask=batch["frame_mask"],
        return_dict=False,
    )[0]


def masked_mse(prediction: torch.Tensor, target: torch.Tensor, batch: dict, given_weight: float) -> torch.Tensor:
    """Squared error per item, (batch,), over visible frames; given frames count `given_weight`. In fp32."""
    weight = batch["frame_mask"] * (given_weight + (1.0 - given_weight) * batch["mask"])  # (batch, frames)
    error = (prediction.float() - target.float()).square().mean(dim=1)
    return (error * weight).sum(1) / weight.sum(1).clamp_min(1e-8)


@torch.no_grad()
def validate(model: UNet1DConditionModel, scheduler, crops: LatentCrops, config: UNetRun) -> dict[str, float]:
    """Loss on fixed validation crops, fixed noise, fixed times; in thirds of the noise range.

    `validation/no_grid` is the loss without the frame grid: the gap says how much the network listens to it.
    """
    device = model.device
    sums: dict[str, list[float]] = {"all": [], "low": [], "middle": [], "high": [], "no_grid": []}
    times = flow.UniformSampler(config.seed)
    for first in range(0, min(config.validate_clips, len(crops)), 16):
        indices = range(first, min(first + 16, config.validate_clips, len(crops)))
        items = [crops.read(i, loop.item_rng(config.seed, 5, i)) for i in indices]
        batch = {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}
        batch["mask"] = torch.ones(batch["latents"].shape[0], batch["latents"].shape[2], device=device)
        timesteps = flow.sample_timesteps(scheduler, len(indices), times).to(device)
        levels = timesteps / scheduler.config.num_train_timesteps
        noise = torch.randn(batch["latents"].shape, generator=loop.torch_rng(config.seed, 6, first)).to(device)
        noisy = flow.add_noise(scheduler, batch["latents"], noise, timesteps)
        target = flow.target(scheduler, batch["latents"], noise, timesteps)
        errors = masked_mse(predict(model, noisy, timesteps, batch), target, batch, 1.0)
        without = {**batch, "grid": torch.zeros_like(batch["grid"])}
        sums["no_grid"] += masked_mse(predict(model, noisy, timesteps, without), target, batch, 1.0).tolist()
        for level, error in zip(levels.tolist(), errors.tolist(), strict=True):
            sums["all"].append(error)
            sums[("low", "middle", "high")[min(int(3 * level), 2)]].append(error)
    return {f"validation/{name}": float(np.mean(values)) for name, values in sums.items() if values}


def main(argv: list[str] | None = None) -> None:
    config = parse_config(UNetRun, argv)
    accelerator = loop.start(config)
    scheduler = load_scheduler(config.scheduler_config)
    crops = LatentCrops(config.data_dir, "train", config.crop_frames)
    if config.init_from:
        model = UNet1DConditionModel.from_pretrained(config.init_from)
    else:
        model = UNet1DConditionModel(**load_model_config(config.model_config, UNet1DConditionModel))
    if model.config.in_channels != crops.about["latent_channels"]:
        raise ValueError(
            f"in_channels is {model.config.in_channels}; the latents in {config.data_dir} have "
            f"{crops.about['latent_channels']} channels"
        )
    accelerator.print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(crops)} clips")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    schedule = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
    )
    model.to(accelerator.device)
    ema = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    network, optimizer = accelerator.prepare(torch.compile(model) if config.compile else model, optimizer)
    accelerator.register_for_checkpointing(schedule, ema)
    step = loop.resume(accelerator, config)

    loader = loop.make_loader(TrainingCrops(crops, config), config, step, accelerator)
    validation = LatentCrops(config.data_dir, "validation", config.crop_frames)
    watch = None
    if config.evaluate_every is not None:
        from training.watch import Watch  # the listeners' libraries take seconds to load

        watch = Watch(config, validation, scheduler)
    progress = loop.Progress(accelerator, config, step, "unet")
    times = flow.UniformSampler(config.seed)
    times.load_state_dict({"num_drawn": step * config.batch_size})
    part = 0
    for batch in loader:
        batch = {name: value.to(accelerator.device) for name, value in batch.items()}
        if part == 0:  # the whole global batch is drawn everywhere; each process takes its rows
            shape = (config.batch_size, *batch["latents"].shape[1:])
            all_noise = torch.randn(shape, generator=loop.torch_rng(config.seed, 4, step))
            all_times = flow.sample_timesteps(scheduler, config.batch_size, times, config.logit_mean, config.logit_std)
        noise = loop.shard(all_noise, accelerator, part, config).to(accelerator.device)
        timesteps = loop.shard(all_times, accelerator, part, config).to(accelerator.device)
        with accelerator.accumulate(network):
            noisy = flow.add_noise(scheduler, batch["latents"], noise, timesteps)
            target = flow.target(scheduler, batch["latents"], noise, timesteps)
            with accelerator.autocast():
                prediction = predict(network, noisy, timesteps, batch)
            loss = masked_mse(prediction, target, batch, config.given_weight).mean()
            accelerator.backward(loss)
            norm = None
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(network.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        part += 1
        if not accelerator.sync_gradients:
            continue
        part = 0
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}; the last checkpoint is kept")
        step += 1
        schedule.step()
        ema.step(model.parameters())
        progress.add(step, {"loss": loss.detach(), "grad_norm": norm})
        stop = step == config.max_steps or progress.out_of_time()
        due = watch is not None and (step % config.evaluate_every == 0 or stop)
        if step % config.validate_every == 0 or stop or due:
            with loop.ema_weights(ema, model):
                figures = validate(model, scheduler, validation, config)
                if due and accelerator.is_main_process:
                    heard, clips = watch.evaluate(model)
                    figures |= heard
                    watch.show(accelerator, step, clips)
                    watch.keep_if_best(model, figures, step)
                progress.report(step, figures)
            accelerator.wait_for_everyone()
        if stop or progress.due(step):
            loop.save_checkpoint(accelerator, config, step)
        if stop:
            break
        progress.leave_if_asked(step)
    progress.close()
    loop.save_final(accelerator, model, ema, config)


if __name__ == "__main__":
    command(main)
