"""Start a new UNet's linear path (`linear_taps`) from what a linear filter can know of latents.

`training.train_unet` does so by itself.
"""

import torch
from diffusers import SchedulerMixin

from pipelines.unet_1d_condition_vivace import NUM_FILTER_LEVELS, UNet1DConditionModel
from training import flow, loop
from training.data.latents import LatentCrops

SPECTRUM_CLIPS = 1000
SPECTRUM_POINTS = 256  # at least, so that short crops too give filters of any length


def power_spectrum(crops: LatentCrops, seed: int) -> torch.Tensor:
    """Power of each latent channel, where white noise has 1, (channels, frequencies from 0 to half the frame rate)."""
    total, norm = 0.0, 0.0
    points = max(SPECTRUM_POINTS, crops.crop_frames + crops.crop_frames % 2)
    for index in range(0, len(crops), max(1, len(crops) // SPECTRUM_CLIPS)):
        item = crops.read(index, loop.item_rng(seed, 7, index))
        visible = int(item["frame_mask"].sum())
        window = torch.zeros(crops.crop_frames)
        window[:visible] = torch.hann_window(visible + 2, periodic=False)[1:-1]
        total = total + torch.fft.rfft(item["latents"].float() * window, points).abs().square()
        norm += float(window.square().sum())
    return total / norm


def wiener_filters(power: torch.Tensor, scheduler: SchedulerMixin, taps: int) -> torch.Tensor:
    """Filters of `LinearPath`, (NUM_FILTER_LEVELS, channels, taps): the best linear prediction of the target.

    With x_t = a x + s eps and a target p eps + q x, where x has the power S(f) and eps the power 1, it is the filter
    (p s + q a S) / (s^2 + a^2 S) (Wiener 1949), whose response is cut to `taps` by a window.

    Args:
        power: of `power_spectrum`.
        scheduler: of the process.
        taps: odd, below twice the number of frequencies less 2.
    """
    one, none = torch.ones(1, 1), torch.zeros(1, 1)
    last = scheduler.config.num_train_timesteps
    times = torch.linspace(0, last, NUM_FILTER_LEVELS).clamp(1e-3 * last, last - 1e-3 * last)
    window = torch.hann_window(2 * taps + 1, periodic=False)[taps // 2 + 1 :][:taps]
    filters = []
    for time in times.split(1):
        a, s = flow.coefficients(scheduler, time, one)
        p, q = (flow.target(scheduler, *pair, time) for pair in ((none, one), (one, none)))
        response = (p * s + q * a * power) / (s * s + a * a * power)
        whole = torch.fft.irfft(response)  # around frame 0
        filters.append(whole.roll(taps // 2, dims=1)[:, :taps] * window)
    return torch.stack(filters)


@torch.no_grad()
def start_linear_path(model: UNet1DConditionModel, scheduler: SchedulerMixin, crops: LatentCrops, seed: int) -> None:
    """Give the linear path of a network the filters for these latents, in place."""
    weight = model.linear_path.weight
    weight.copy_(wiener_filters(power_spectrum(crops, seed), scheduler, weight.shape[2]))
