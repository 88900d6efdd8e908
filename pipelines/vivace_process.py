"""The noise process as sampling needs it, for the scheduler that the pipeline carries.

x = a * data + s * noise. Rectified flow: a = 1 - sigma, s = sigma, the network predicts noise - data. Diffusion:
a = sqrt(abar), s = sqrt(1 - abar), it predicts the noise, or v = a * noise - s * data.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin

FLOW = "flow_prediction"  # diffusers' name for what a rectified flow predicts


def process_of(scheduler: SchedulerMixin) -> str:
    """What a network predicts that this scheduler samples: "flow_prediction", "epsilon" or "v_prediction"."""
    return scheduler.config.prediction_type if hasattr(scheduler, "alphas_cumprod") else FLOW


def check_process(scheduler: SchedulerMixin, trained: str) -> None:
    """Raise a ValueError if a scheduler was put in that takes the network's prediction for something else."""
    taken = process_of(scheduler)
    if taken != trained:
        flow = ", use_flow_sigmas=True" if trained == FLOW else ""
        raise ValueError(
            f"scheduler is a {type(scheduler).__name__} for prediction_type={taken!r}, but the network predicts "
            f"{trained!r}; allowed: one made with prediction_type={trained!r}{flow}, or the checkpoint's"
        )


def set_timesteps(scheduler: SchedulerMixin, num_steps: int, strength: float, device: torch.device) -> torch.Tensor:
    """Timesteps from noise (or, below strength 1, from data with as much noise as that) to data.

    Flow begins at sigma = strength with its share of the steps, at least one; diffusion skips the first steps of all.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        steps = max(1, round(num_steps * strength))
        # Equal steps from noise (1) to data (0); the scheduler's own grid spends its last step below 1 / 1000. It
        # shifts them (s -> shift s / (1 + (shift - 1) s)), which must leave the first where `strength` says.
        first = strength / (scheduler.config.shift - (scheduler.config.shift - 1.0) * strength)
        sigmas = np.linspace(first, first / steps, steps)
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
    if process_of(scheduler) == FLOW:
        sigma = float(timestep) / scheduler.config.num_train_timesteps
        return 1.0 - sigma, sigma
    alpha_bar = float(scheduler.alphas_cumprod[int(timestep)])
    return alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5


def data_of(scheduler: SchedulerMixin, noisy: torch.Tensor, prediction: torch.Tensor, timestep) -> torch.Tensor:
    """The clean latents that a prediction implies, fp32; `noisy` as the network saw them."""
    a, s = noise_level(scheduler, timestep)
    if process_of(scheduler) == FLOW:
        return noisy - s * prediction
    if process_of(scheduler) == "epsilon":
        return (noisy - s * prediction) / max(a, 1e-4)
    return a * noisy - s * prediction


def at_level(scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timestep) -> torch.Tensor:
    """Clean latents with the noise of a timestep, as the scheduler's `step` takes them; after the last step (None) the
    clean latents themselves."""
    if timestep is None:
        return clean
    a, s = noise_level(scheduler, timestep)
    mixed = a * clean + s * noise
    explodes = float(getattr(scheduler, "init_noise_sigma", 1.0)) > 1.0  # x = data + sigma * noise, as Euler's
    return mixed / a if explodes else mixed
