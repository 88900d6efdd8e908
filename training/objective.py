"""The loss of stage 3: the network's inputs and target, and validation."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import SchedulerMixin
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_score import ROLES
from training import flow
from training.config import LatentRun
from training.data.latents import LatentCrops
from training.data.notes import role_channels
from training.run import loop

VALIDATION, KERNEL = "validation/all", "evaluation/kernel_distance_to_reconstructions"
NOISE_LEVELS = ("low", "middle", "high")  # thirds of the noise range


def lower_is_better(metric: str) -> bool:
    """Whether a figure is better when lower: losses and distances are, control figures are not."""
    return metric.startswith("validation/") or metric == KERNEL


def attention_kernel(device: torch.device) -> AbstractContextManager:
    """In here attention is computed by the kernel that trains fastest on a device. On a CPU the backward pass of the
    fused one takes three times as long as that of plain products."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def predict(network: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, batch: dict) -> torch.Tensor:
    """Network output for a batch of `TrainingCrops` items, with the same inputs as in the pipeline.

    `jump` is of a distilled network, see there.
    """
    mask = batch["mask"][:, None]
    frame_cond = torch.cat([batch["grid"], mask, batch["latents"] * (1.0 - mask)], dim=1)
    scalars = {name: batch[name] for name in ("duration_s", "bpm", "key", "beats_per_bar")}
    more = {name: batch[name] for name in ("note_roll", "role_instruments", "reference", "jump") if name in batch}
    with attention_kernel(noisy.device):
        return network(
            noisy,
            timesteps,
            batch["text"],
            encoder_attention_mask=batch["text_mask"],
            frame_cond=frame_cond,
            added_cond_kwargs=scalars,
            frame_mask=batch["frame_mask"],
            **more,
            return_dict=False,
        )[0]


def masked_mse(prediction: torch.Tensor, target: torch.Tensor, batch: dict, given_weight: float) -> torch.Tensor:
    """Squared error of each item, (batch,) fp32, over visible frames; given frames have the weight `given_weight`."""
    weight = batch["frame_mask"] * (given_weight + (1.0 - given_weight) * batch["mask"])  # (batch, frames)
    error = (prediction.float() - target.float()).square().mean(dim=1)
    return (error * weight).sum(1) / weight.sum(1).clamp_min(1e-8)


class Objective:
    """Error of each item for the network's target under a scheduler; a ValueError if that is not supported."""

    def __init__(self, scheduler: SchedulerMixin, config: LatentRun):
        self.scheduler, self.config = scheduler, config
        flow.prediction_type(scheduler)

    def errors(
        self, network: torch.nn.Module, batch: dict, noise: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Squared error of each item, (batch,) fp32; noise has the shape of the batch's latents."""
        noisy = flow.add_noise(self.scheduler, batch["latents"], noise, timesteps)
        target = flow.target(self.scheduler, batch["latents"], noise, timesteps)
        return masked_mse(predict(network, noisy, timesteps, batch), target, batch, self.config.given_weight)

    def levels(self, timesteps: torch.Tensor) -> torch.Tensor:
        """Index into NOISE_LEVELS of each timestep, (batch,) long."""
        share = timesteps / self.scheduler.config.num_train_timesteps
        return (len(NOISE_LEVELS) * share).long().clamp(max=len(NOISE_LEVELS) - 1)

    def by_level(self, errors: torch.Tensor, timesteps: torch.Tensor) -> tuple[dict, dict]:
        """Sums of errors (batch,) by noise level, on their device, and the number of items of each level. The timesteps
        (batch,) are on the CPU, which avoids waiting for a GPU."""
        sums, counts, levels = {}, {}, self.levels(timesteps)
        for index, name in enumerate(NOISE_LEVELS):
            chosen = levels == index
            sums[f"loss_{name}"] = (errors * chosen.to(errors.device)).sum()
            counts[f"loss_{name}"] = float(chosen.sum())
        return sums, counts


class Draws:
    """Noise and timesteps of each step. Every process draws them for the whole batch and takes its own rows.

    They are therefore independent of the number of processes and accumulation steps, and of where a run was resumed.
    `channels` are those of the latents; `step` is the first step, and the others follow in order.
    """

    def __init__(
        self, config: LatentRun, scheduler: SchedulerMixin, accelerator: Accelerator, channels: int, step: int
    ):
        self.config, self.scheduler, self.accelerator = config, scheduler, accelerator
        self.shape = (config.batch_size, channels, config.crop_frames)
        self.points = flow.UniformSampler(config.seed)
        self.points.load_state_dict({"num_drawn": step * config.batch_size})
        self.step, self.noise, self.times = step - 1, None, None

    def __call__(self, step: int, part: int, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise of the shape of `clean`, on its device, and timesteps (rows,) on the CPU.

        Args:
            step: the step of the last call, or the next one.
            part: index of the accumulation step.
            clean: this process's latents (rows, channels, frames).
        """
        config = self.config
        if step != self.step:
            self.step = step
            self.noise = torch.randn(self.shape, generator=loop.torch_rng(config.seed, loop.Stream.NOISE, step))
            self.times = flow.sample_timesteps(
                self.scheduler, config.batch_size, self.points, config.logit_mean, config.logit_std
            )
        noise = loop.shard(self.noise, self.accelerator, part, config).to(clean.device)
        return noise, loop.shard(self.times, self.accelerator, part, config)


def keep_roles(batch: dict, *roles: str) -> dict:
    """The batch with the notes and instruments of these roles alone; the others are free."""
    roll, instruments = torch.zeros_like(batch["note_roll"]), torch.full_like(batch["role_instruments"], -1)
    for role in roles:
        channels, place = role_channels(role), ROLES.index(role)
        roll[:, channels] = batch["note_roll"][:, channels]
        instruments[:, place] = batch["role_instruments"][:, place]
    return {**batch, "note_roll": roll, "role_instruments": instruments}


def held_out(
    crops: LatentCrops, config: LatentRun, device: torch.device
) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """Fixed crops of the first `validate_clips` clips, all to be generated, and noise for them, 16 at a time."""
    for first in range(0, min(config.validate_clips, len(crops)), 16):
        indices = range(first, min(first + 16, config.validate_clips, len(crops)))
        items = [crops.read(i, loop.item_rng(config.seed, loop.Stream.VALIDATION_ITEM, i)) for i in indices]
        batch = {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}
        batch["mask"] = torch.ones(batch["latents"].shape[0], batch["latents"].shape[2], device=device)
        generator = loop.torch_rng(config.seed, loop.Stream.VALIDATION_NOISE, first)
        yield batch, torch.randn(batch["latents"].shape, generator=generator).to(device)


@torch.no_grad()
def validate(model: UNet1DConditionModel, objective: Objective, crops: LatentCrops) -> dict[str, float]:
    """Loss on fixed validation crops with fixed noise and timesteps, in total and by noise level.

    `validation/no_grid` is the loss without the frame grid; the difference shows how much the network uses it. With
    notes, `validation/no_notes` is the loss with every role free, and `validation/only_lead` that with the lead alone
    given, the others free. A reference is given in `validation/reference` alone.
    """
    device, config = model.device, objective.config
    sums: dict[str, list[float]] = {"all": [], "no_grid": [], **{name: [] for name in NOISE_LEVELS}}
    times = flow.UniformSampler(config.seed)
    for batch, noise in held_out(crops, config, device):
        timesteps = flow.sample_timesteps(objective.scheduler, len(noise), times)
        variants = {}
        if "reference" in batch:
            variants["reference"] = batch
            batch = {name: value for name, value in batch.items() if name != "reference"}
        errors = objective.errors(model, batch, noise, timesteps.to(device)).tolist()
        variants["no_grid"] = {**batch, "grid": torch.zeros_like(batch["grid"])}
        if "note_roll" in batch:
            variants["no_notes"] = keep_roles(batch)
            variants |= {f"only_{role}": keep_roles(batch, role) for role in ROLES}
        for name, variant in variants.items():
            losses = objective.errors(model, variant, noise, timesteps.to(device)).tolist()
            sums.setdefault(name, []).extend(losses)
        for level, error in zip(objective.levels(timesteps).tolist(), errors, strict=True):
            sums["all"].append(error)
            sums[NOISE_LEVELS[level]].append(error)
    return {f"validation/{name}": float(np.mean(values)) for name, values in sums.items() if values}
