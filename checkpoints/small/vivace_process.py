"""The noise process of each kind of scheduler, in training as in sampling, and whether a scheduler fits a network.

Noisy latents are x = a * data + s * noise. Rectified flow (Liu et al. 2022, https://arxiv.org/abs/2209.03003): a = 1 -
sigma, s = sigma, and the network predicts noise - data. Diffusion (Ho et al. 2020, https://arxiv.org/abs/2006.11239):
a = sqrt(abar), s = sqrt(1 - abar), and it predicts the noise, or v = a * noise - s * data (Salimans and Ho 2022,
https://arxiv.org/abs/2202.00512).

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import copy
import inspect
import math
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin

FLOW = "flow_prediction"  # diffusers' name for what a rectified flow predicts


def process_of(scheduler: SchedulerMixin) -> str:
    """What a network predicts that this scheduler samples: "flow_prediction", "epsilon" or "v_prediction"."""
    diffusion = getattr(scheduler, "alphas_cumprod", None) is not None
    return scheduler.config.get("prediction_type", "epsilon") if diffusion else FLOW


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
    alpha_bars, place = scheduler.alphas_cumprod, float(timestep)
    low = min(int(place), len(alpha_bars) - 1)
    alpha_bar = float(alpha_bars[low])
    if place > low and low + 1 < len(alpha_bars):  # Heun and Euler also take steps between those of training
        ratios = [math.log((1.0 - value) / value) for value in (alpha_bar, float(alpha_bars[low + 1]))]
        alpha_bar = 1.0 / (1.0 + math.exp(ratios[0] + (place - low) * (ratios[1] - ratios[0])))
    return alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5


def noise_levels(
    scheduler: SchedulerMixin, timesteps: torch.Tensor, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(a, s) of a batch of timesteps, each (batch, 1, ...) in fp32 with the dimensions and the device of `like`."""
    levels = torch.tensor([noise_level(scheduler, timestep) for timestep in timesteps.tolist()], dtype=torch.float32)
    a, s = levels.to(like.device).view(-1, 2, *[1] * (like.ndim - 1)).unbind(1)
    return a, s


def add_noise(
    scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """Noisy latents x = a * clean + s * noise of a training batch, the shape of `clean`, fp32."""
    a, s = noise_levels(scheduler, timesteps, clean)
    return a * clean.float() + s * noise.float()


def target(
    scheduler: SchedulerMixin, clean: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """What the network must predict from `add_noise`, the shape of `clean`, fp32."""
    kind = process_of(scheduler)
    clean, noise = clean.float(), noise.float()
    if kind == FLOW:
        return noise - clean
    if kind == "epsilon":
        return noise
    a, s = noise_levels(scheduler, timesteps, clean)
    return a * noise - s * clean


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


# Whether a scheduler that was put into a pipeline samples what its network was trained for.

TRIAL: dict[str, Any] = {"steps": 20, "values": 256, "mean": 0.5, "std": 0.5}  # see `try_out`
TRIED: dict[tuple, str | None] = {}  # scheduler and process -> what is wrong with it
# Settings that make a scheduler unfit, as they should be; with each of them and then with all it is tried again.
REMEDIES = (
    {"use_dynamic_shifting": False}, {"invert_sigmas": False}, {"stochastic_sampling": False}, {"skip_prk_steps": True},
    {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False},
)  # fmt: skip


def try_out(scheduler: SchedulerMixin, trained: SchedulerMixin) -> str | None:
    """Sample a normal distribution with the best possible network for it; what is wrong, or None.

    For normal data the expectation of the data given a noisy value is a linear function of it, so no network is needed.
    Steps for another noise process, or in another order, miss the mean or the spread of the data by far; those that are
    right in the limit of many steps stay within the bounds. From noise as well as from given audio (strength 0.6).
    """
    mean, std = TRIAL["mean"], TRIAL["std"]
    noise, clean = torch.randn(
        2, 1, 1, TRIAL["values"], generator=torch.Generator().manual_seed(0), dtype=torch.float32
    )
    clean = mean + std * clean
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    options = {"generator": [torch.Generator().manual_seed(1)]} if takes_generator else {}
    before = torch.get_rng_state()
    for strength in (1.0, 0.6):
        own = copy.deepcopy(scheduler)
        timesteps = set_timesteps(own, TRIAL["steps"], strength, torch.device("cpu"))
        latents = noise * getattr(own, "init_noise_sigma", 1.0)
        if strength < 1.0:
            latents = at_level(own, clean, noise, timesteps[0])
        for timestep in timesteps:
            inputs = own.scale_model_input(latents, timestep) if hasattr(own, "scale_model_input") else latents
            a, s = noise_level(trained, timestep)
            data = mean + a * std**2 / (a**2 * std**2 + s**2) * (inputs - a * mean)
            drawn = (inputs - a * data) / max(s, 1e-4)
            targets = {FLOW: drawn - data, "epsilon": drawn, "v_prediction": a * drawn - s * data}
            latents = own.step(targets[process_of(trained)], timestep, latents, **options, return_dict=False)[0]
        if not (abs(latents.mean() - mean) < 0.3 * std and 0.5 < latents.std() / std < 1.36):
            return "its steps do not lead from noise to the data"
    return None if torch.equal(before, torch.get_rng_state()) else "it draws noise that no seed decides"


def fault_of(scheduler: SchedulerMixin, trained: SchedulerMixin) -> str | None:
    """Why a scheduler cannot sample what was trained for another one, or None."""
    taken, predicts = process_of(scheduler), process_of(trained)
    if taken != predicts:
        return f"is for prediction_type={taken!r}, but the network predicts {predicts!r}"
    steps, trained_steps = (one.config.get("num_train_timesteps") for one in (scheduler, trained))
    if steps != trained_steps:
        return f"has num_train_timesteps={steps}, but the network was trained with {trained_steps}"
    key = tuple((type(one), repr(sorted(one.config.items(), key=str))) for one in (scheduler, trained))
    if key not in TRIED:
        try:
            TRIED[key] = try_out(scheduler, trained)
        except Exception as error:  # whatever a class does that is made for something else
            TRIED[key] = f"it cannot take these steps: {type(error).__name__} {error}"
    return None if TRIED[key] is None else f"does not fit the network ({TRIED[key]})"


def advice(scheduler: SchedulerMixin, trained: SchedulerMixin) -> str:
    """Settings with which a scheduler fits, tried, or else classes that do."""
    predicts = process_of(trained)
    process = {"prediction_type": predicts, "use_flow_sigmas": predicts == FLOW}
    process["num_train_timesteps"] = trained.config.get("num_train_timesteps")
    settings = {name: value for one in REMEDIES for name, value in one.items()}
    hopeless = predicts == FLOW and "prediction_type" in scheduler.config and "use_flow_sigmas" not in scheduler.config
    for remedy in () if hopeless else (process, *REMEDIES, process | settings):
        change = {name: value for name, value in remedy.items() if scheduler.config.get(name, value) != value}
        try:
            if change and fault_of(type(scheduler).from_config(scheduler.config, **change), trained) is None:
                words = ", ".join(f"{name}={value!r}" for name, value in change.items())
                return f"{type(scheduler).__name__}.from_config(scheduler.config, {words})"
        except Exception:  # a class that does not know the setting, or refuses it
            continue
    if predicts == FLOW:
        return (
            "the checkpoint's, FlowMatchHeunDiscreteScheduler(), or DPMSolverMultistepScheduler or "
            f"UniPCMultistepScheduler with prediction_type={FLOW!r}, use_flow_sigmas=True"
        )
    return (
        "the checkpoint's, or DDIMScheduler, EulerDiscreteScheduler or DPMSolverMultistepScheduler made by from_config "
        "of the checkpoint's"
    )


def check_process(scheduler: SchedulerMixin, trained: SchedulerMixin) -> None:
    """Raise a ValueError if a scheduler was put in that does not sample the process that the network was trained for.

    Args:
        scheduler: to sample with.
        trained: the one that came with the network.
    """
    fault = fault_of(scheduler, trained)
    if fault is not None:
        name = type(scheduler).__name__
        raise ValueError(f"scheduler is a {name}, which {fault}; allowed: {advice(scheduler, trained)}")
