"""Schedulers, timesteps, noisy latents and targets of training, and the linear path's start.

The noise levels, which sampling shares, are in pipelines/vivace_process.py: rectified flow with
`FlowMatchEulerDiscreteScheduler` (timesteps as in Esser et al. 2024, https://arxiv.org/abs/2403.03206), diffusion with
`DDPMScheduler`, `DDIMScheduler` or `DPMSolverMultistepScheduler`.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    schedulers,
)
from torch.quasirandom import SobolEngine

from pipelines.unet_1d_condition_vivace import NUM_FILTER_LEVELS, UNet1DConditionModel
from pipelines.vivace_process import FLOW, noise_level, process_of
from training.data.latents import LatentCrops
from training.run import loop

DIFFUSION_SCHEDULERS = (DDPMScheduler, DDIMScheduler, DPMSolverMultistepScheduler)
UNIFORM_MARGIN = 1e-6  # keeps sigma off 0 and 1, where the logit is infinite
SPECTRUM_CLIPS = 1000
SPECTRUM_POINTS = 256  # at least, so that short crops also give filters of any length


def load_scheduler(path: str) -> SchedulerMixin:
    """Build the diffusers scheduler that the JSON names in `_class_name`.

    Raises:
        ValueError: it names none.
    """
    values = json.loads(Path(path).read_text())
    name = values.pop("_class_name", None)
    if name is None or not hasattr(schedulers, name):
        raise ValueError(f"{path}: _class_name is {name!r}; allowed: a scheduler of diffusers, as DDPMScheduler")
    return getattr(schedulers, name)(**values)


def prediction_type(scheduler: SchedulerMixin) -> str:
    """What the network predicts: FLOW, "epsilon" or "v_prediction".

    Raises:
        ValueError: the scheduler or one of its settings is not supported.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        if config.invert_sigmas:
            raise ValueError(f"scheduler: {name} must have invert_sigmas=False (sigma 1 is noise), got True")
        return FLOW
    if not isinstance(scheduler, DIFFUSION_SCHEDULERS):
        allowed = ", ".join(kind.__name__ for kind in (FlowMatchEulerDiscreteScheduler, *DIFFUSION_SCHEDULERS))
        raise ValueError(f"scheduler: {name} is not supported; allowed: {allowed}")
    if config.prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"scheduler: prediction_type of {name} must be epsilon or v_prediction, got {config.prediction_type!r}"
        )
    if config.get("clip_sample", False):  # the default of DDPM and DDIM; standardised latents exceed [-1, 1]
        raise ValueError(f"scheduler: {name} must have clip_sample=False, since latents are not images, got True")
    return process_of(scheduler)


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


class UniformSampler:
    """Points in (0, 1) from a scrambled Sobol sequence, so that every batch covers the interval evenly.

    The state is the number of points drawn, from which a resumed run continues. Global random state is not used.

    Args:
        seed: of the scrambling.
    """

    def __init__(self, seed: int):
        self.engine = SobolEngine(dimension=1, scramble=True, seed=seed)

    def draw(self, batch_size: int) -> torch.Tensor:
        """The next points, (batch_size,) fp64."""
        points = self.engine.draw(batch_size, dtype=torch.float64)[:, 0]
        return points.clamp(UNIFORM_MARGIN, 1.0 - UNIFORM_MARGIN)

    def state_dict(self) -> dict[str, int]:
        return {"num_drawn": self.engine.num_generated}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after `num_drawn` points."""
        self.engine.reset()
        self.engine.fast_forward(state["num_drawn"])


def sample_timesteps(
    scheduler: SchedulerMixin,
    batch_size: int,
    sampler: UniformSampler,
    logit_mean: float = 0.0,
    logit_std: float = 1.0,
) -> torch.Tensor:
    """Timesteps of a training batch, (batch_size,) on the CPU.

    Rectified flow: fp32, 1000 sigma with logit(sigma) normal of mean `logit_mean` and deviation `logit_std`, which
    favours the middle of the range, where the task is hard. Diffusion: uniform integers, int64; the two arguments must
    keep their defaults.

    Raises:
        ValueError: `logit_std` not above 0, or logit arguments for a diffusion scheduler.
    """
    kind = prediction_type(scheduler)
    if not logit_std > 0:
        raise ValueError(f"logit_std must be > 0, got {logit_std}")
    if kind != FLOW and (logit_mean, logit_std) != (0.0, 1.0):
        raise ValueError(f"logit_mean and logit_std apply to rectified flow only, got {logit_mean} and {logit_std}")
    points, count = sampler.draw(batch_size), scheduler.config.num_train_timesteps
    if kind == FLOW:
        sigma = torch.sigmoid(logit_mean + logit_std * torch.special.ndtri(points))  # ndtri: inverse normal CDF
        return (count * sigma).float()
    return (count * points).long()


# The start of a new UNet's linear path (`linear_taps`): the best linear filters for the latents.


def power_spectrum(crops: LatentCrops, seed: int) -> torch.Tensor:
    """Power spectrum of each latent channel, (channels, frequencies up to half the frame rate); white noise has 1."""
    total, norm = 0.0, 0.0
    points = max(SPECTRUM_POINTS, crops.crop_frames + crops.crop_frames % 2)
    for index in range(0, len(crops), max(1, len(crops) // SPECTRUM_CLIPS)):
        item = crops.read(index, loop.item_rng(seed, loop.Stream.SPECTRUM_ITEM, index))
        visible = int(item["frame_mask"].sum())
        window = torch.zeros(crops.crop_frames)
        window[:visible] = torch.hann_window(visible + 2, periodic=False)[1:-1]
        total = total + torch.fft.rfft(item["latents"].float() * window, points).abs().square()
        norm += float(window.square().sum())
    return total / norm


def wiener_filters(power: torch.Tensor, scheduler: SchedulerMixin, taps: int) -> torch.Tensor:
    """Filters of `LinearPath`, (NUM_FILTER_LEVELS, channels, taps): the best linear prediction of the target.

    For x_t = a x + s eps and a target p eps + q x, where x has the power S(f) and eps the power 1, the best filter is
    (p s + q a S) / (s^2 + a^2 S) (Wiener 1949); its response is cut to `taps` with a window.

    Args:
        power: from `power_spectrum`.
        scheduler: that of the noise process.
        taps: odd, less than twice the number of frequencies minus 2.
    """
    one, none = torch.ones(1, 1), torch.zeros(1, 1)
    last = scheduler.config.num_train_timesteps
    times = torch.linspace(0, last, NUM_FILTER_LEVELS).clamp(1e-3 * last, last - 1e-3 * last)
    window = torch.hann_window(2 * taps + 1, periodic=False)[taps // 2 + 1 :][:taps]
    filters = []
    for time in times.split(1):
        a, s = noise_levels(scheduler, time, one)
        p, q = (target(scheduler, *pair, time) for pair in ((none, one), (one, none)))
        response = (p * s + q * a * power) / (s * s + a * a * power)
        whole = torch.fft.irfft(response)  # centred on frame 0
        filters.append(whole.roll(taps // 2, dims=1)[:, :taps] * window)
    return torch.stack(filters)


@torch.no_grad()
def start_linear_path(model: UNet1DConditionModel, scheduler: SchedulerMixin, crops: LatentCrops, seed: int) -> None:
    """Set the linear path of a network to the filters for these latents, in place."""
    weight = model.linear_path.weight
    weight.copy_(wiener_filters(power_spectrum(crops, seed), scheduler, weight.shape[2]))
