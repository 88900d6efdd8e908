"""The noise process as sampling needs it, for the scheduler that the pipeline carries.

x = a * data + s * noise. Rectified flow: a = 1 - sigma, s = sigma, the network predicts noise - data. Diffusion:
a = sqrt(abar), s = sqrt(1 - abar), it predicts the noise, or v = a * noise - s * data.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin


def steps_of(scheduler: SchedulerMixin, num_steps: int, strength: float) -> int:
    """Steps that `set_timesteps` will give."""
    return max(1, round(num_steps * strength)) * getattr(scheduler, "order", 1)


def set_timesteps(scheduler: SchedulerMixin, num_steps: int, strength: float, device: torch.device) -> torch.Tensor:
    """Timesteps from noise (or, below strength 1, from data with as much noise as that) to data.

    Flow begins at sigma = strength with its share of the steps, at least one; diffusion skips the first steps of all.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        steps = max(1, round(num_steps * strength))
        # Equal steps from noise (1) to data (0); the scheduler's own grid spends its last step below 1 / 1000.
        sigmas = np.linspace(strength, strength / steps, steps)
        scheduler.set_timesteps(sigmas=sigmas.tolist(), device=device)
        return scheduler.timesteps
    scheduler.set_timesteps(num_steps, device=device)
    steps = max(1, round(num_steps * strength))
    first = (num_steps - steps) * getattr(scheduler, "order", 1)
    if first and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def noise_level(scheduler: SchedulerMixin, timestep: torch.Tensor | float) -> tuple[float, float]:
    """(a, s) at a timestep."""
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        sigma = float(timestep) / scheduler.config.num_train_timesteps
        return 1.0 - sigma, sigma
    alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])
    return alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5


def data_of(scheduler: SchedulerMixin, noisy: torch.Tensor, prediction: torch.Tensor, timestep) -> torch.Tensor:
    """The clean latents that a prediction implies, fp32."""
    a, s = noise_level(scheduler, timestep)
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return noisy - s * prediction
    if scheduler.config.prediction_type == "epsilon":
        return (noisy - s * prediction) / max(a, 1e-4)
    return a * noisy - s * prediction


def at_level(scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timestep) -> torch.Tensor:
    """Clean latents with the noise of a timestep; after the last step (None) the clean latents themselves."""
    if timestep is None:
        return clean
    a, s = noise_level(scheduler, timestep)
    return a * clean + s * noise
