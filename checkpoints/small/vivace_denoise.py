"""From noise to latents: the sampling loop, over whole pieces, circles and pieces of which a part is given.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .vivace_conditions import Conditions, take_frames
from .vivace_guidance import Guidance, predict, rescaled
from .vivace_process import at_level, data_of, set_timesteps

CIRCLE_MARGIN = 64  # frames of the other end that the network sees beyond each end of a loop


@dataclass
class Batch:
    """Pieces to be denoised together.

    Attributes:
        told: what the network is told.
        guidance: how strictly it follows.
        noise: (batch, latent_channels, frames) fp32; where nothing is visible, zero.
        clean: latents to start from or to keep, likewise.
        keep: (batch, frames) bool, frames whose clean latents stay as they are; None = none.
        strength: noise to begin with where not kept, 1 = all noise.
        loop: whether the last frame is followed by the first.
        generators: one per piece, for schedulers that draw noise.
    """

    told: Conditions
    guidance: Guidance
    noise: torch.Tensor
    clean: torch.Tensor
    keep: torch.Tensor | None
    strength: float
    loop: bool
    generators: list[torch.Generator]


def circle_index(visible: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (batch, n) that show each piece with the margin of a circle around it, and which of them to show.

    A piece shorter than the margin goes round more than once. Frame 0 lands at position CIRCLE_MARGIN.
    """
    lengths = visible.sum(dim=1)
    steps = torch.arange(-CIRCLE_MARGIN, visible.shape[1] + CIRCLE_MARGIN, device=visible.device)
    return steps % lengths[:, None], steps < lengths[:, None] + CIRCLE_MARGIN


def guide(pipe, scheduler, inputs: torch.Tensor, timestep, batch: Batch, around: tuple | None, seen: Conditions):
    """The prediction for one step, (batch, channels, frames) fp32."""
    level = float(timestep) / scheduler.config.num_train_timesteps
    if around is None:
        full, guided = predict(pipe, inputs, timestep, seen, batch.guidance, level)
    else:
        full, guided = predict(pipe, take_frames(inputs, around[0]), timestep, seen, batch.guidance, level)
        frames = slice(CIRCLE_MARGIN, CIRCLE_MARGIN + inputs.shape[2])
        shown = batch.told.visible[:, None]
        full, guided = full[:, :, frames] * shown, guided[:, :, frames] * shown
    if guided is full:
        return guided
    if batch.guidance.projects:
        data = data_of(scheduler, inputs, full, timestep) * batch.told.visible[:, None]
        guided = batch.guidance.project(full, guided - full, data)
    if batch.guidance.rescale.any():
        guided = rescaled(guided, full, batch.guidance.rescale)
    strengths = batch.guidance.at(level)
    return torch.where(torch.maximum(*strengths) > 1.0, guided, full)  # other items may be guided where one is not


def denoise(pipe, scheduler, batch: Batch, num_steps: int, on_step: Callable, state) -> torch.Tensor:
    """Clean standardised latents (batch, latent_channels, frames).

    Args:
        pipe: the pipeline, of which nothing is changed.
        scheduler: of this call alone.
        batch: the pieces.
        num_steps: for the whole way from noise to data.
        on_step: called as f(step, timestep, latents, conditions) after each step; gives the latents to go on with.
        state: its `interrupt` ends the loop.
    """
    told = batch.told
    timesteps = set_timesteps(scheduler, num_steps, batch.strength, batch.noise.device)
    latents = batch.noise * getattr(scheduler, "init_noise_sigma", 1.0)
    if batch.strength < 1.0:
        latents = at_level(scheduler, batch.clean, batch.noise, timesteps[0])
    kept = None if batch.keep is None else batch.keep[:, None]
    around = circle_index(told.visible) if batch.loop else None
    seen = told.at(*around) if batch.loop else told
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    step_kwargs = {"generator": batch.generators} if takes_generator else {}
    for step, timestep in enumerate(timesteps):
        if state.interrupt:
            break
        if kept is not None:
            latents = torch.where(kept, at_level(scheduler, batch.clean, batch.noise, timestep), latents)
        inputs = latents
        if hasattr(scheduler, "scale_model_input"):
            inputs = scheduler.scale_model_input(latents, timestep)
        prediction = guide(pipe, scheduler, inputs, timestep, batch, around, seen)
        latents = scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
        latents = on_step(step, timestep, latents, seen)
    return latents if kept is None else torch.where(kept, batch.clean, latents)
