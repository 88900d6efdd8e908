"""Start the UNet's linear path from what a linear filter can know of latents, in a new network or beside a trained one.

    python -m training.linear_path --unet runs/small/unet/final --data_dir latents/small --output_dir runs/small/linear
    accelerate launch -m training.train_unet --config ... --init_from runs/small/linear

A new network with `linear_taps` starts from these filters by itself (training/train_unet.py). A trained one has learned
to carry the noise through its layers; its last layer is fitted anew, by least squares, to what the filters leave over,
and some thousand steps of training do the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import SchedulerMixin
from torch.utils.data import default_collate

from pipelines.unet_1d_condition_vivace import NUM_FILTER_LEVELS, UNet1DConditionModel
from training import flow, loop
from training.config import UNetRun, command, parse_config
from training.data.conditions import TrainingCrops
from training.data.latents import LatentCrops
from training.objective import predict

SPECTRUM_CLIPS = 1000
SPECTRUM_POINTS = 256  # at least, so that short crops too give filters of any length


@dataclass(frozen=True)
class LinearPathRun(UNetRun):
    """A run of stage 3 whose latents, conditions and noise levels the last layer is fitted on."""

    unet: str = "runs/small/unet/final"
    """folder of the trained network"""
    output_dir: str = "runs/small/unet_linear"
    linear_taps: int = 33
    """frames that the filters span, odd"""
    fit_batches: int = 300


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


@torch.no_grad()
def fit_last_layer(model: UNet1DConditionModel, batches: int, batch_of: Callable[[int], tuple]) -> None:
    """Set `conv_out` to what predicts best, by least squares, what the linear path leaves of the target.

    Args:
        model: changed in place.
        batches: how many to fit on.
        batch_of: number -> batch of `TrainingCrops`, noisy latents, timesteps and target.
    """
    conv, inputs = model.conv_out, []
    hook = conv.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    size = conv.weight[0].numel() + 1
    gram, moments = torch.zeros(size, size, dtype=torch.double), torch.zeros(size, len(conv.weight), dtype=torch.double)
    for number in range(batches):
        batch, noisy, timesteps, target = batch_of(number)
        visible = batch["frame_mask"].bool()
        predict(model, noisy, timesteps, batch)
        rest = target - model.linear_path(noisy * visible[:, None], timesteps)
        wide = torch.nn.functional.pad(inputs.pop()[..., : noisy.shape[2]], (1, 1)).unfold(2, 3, 1)
        rows = wide.transpose(1, 2).flatten(2)[visible].double()  # (visible frames, 3 * width)
        rows = torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)
        gram += rows.T @ rows
        moments += rows.T @ rest.transpose(1, 2)[visible].double()
    hook.remove()
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(size, dtype=torch.double)
    found = torch.linalg.solve(gram + ridge, moments)
    conv.weight.copy_(found[:-1].T.unflatten(1, conv.weight.shape[1:]))
    conv.bias.copy_(found[-1])


def main(argv: list[str] | None = None) -> None:
    config = parse_config(LinearPathRun, argv)
    if not Path(config.unet, "config.json").is_file():
        raise ValueError(f"unet {config.unet!r}: no folder with a model's config.json")
    old = UNet1DConditionModel.from_pretrained(config.unet)
    if config.linear_taps < 1 or old.config.linear_taps:
        raise ValueError(
            f"linear_taps is {config.linear_taps} for {config.unet}, which has {old.config.linear_taps}; allowed: an "
            "odd number, beside a network that has none"
        )
    model = UNet1DConditionModel.from_config({**old.config, "linear_taps": config.linear_taps}).eval()
    model.load_state_dict(old.state_dict(), strict=False)
    scheduler = flow.load_scheduler(config.scheduler_config)
    crops = LatentCrops(config.data_dir, "train", config.crop_frames)
    items, points = TrainingCrops(crops, config), flow.UniformSampler(config.seed)
    start_linear_path(model, scheduler, crops, config.seed)

    def batch_of(number: int):
        chosen = loop.item_rng(config.seed, 8, number).integers(len(items), size=config.batch_size)
        batch = default_collate([items.read(int(i), loop.item_rng(config.seed, 9, int(i))) for i in chosen])
        timesteps = flow.sample_timesteps(scheduler, len(chosen), points, config.logit_mean, config.logit_std)
        noise = torch.randn(batch["latents"].shape, generator=loop.torch_rng(config.seed, 10, number))
        noisy = flow.add_noise(scheduler, batch["latents"], noise, timesteps)
        return batch, noisy, timesteps, flow.target(scheduler, batch["latents"], noise, timesteps)

    fit_last_layer(model, config.fit_batches, batch_of)
    partial = Path(config.output_dir + ".partial")
    model.save_pretrained(partial)
    loop.replace_folder(partial, Path(config.output_dir))
    print(
        f"{config.output_dir}: filters of {config.linear_taps} frames; last layer fitted, {config.fit_batches} batches"
    )


if __name__ == "__main__":
    command(main)
