"""Guidance: how strictly the words and the grid are followed.

Every pass of the network has a row for each text, and where guidance is on one without any condition, if the grid has
a strength of its own, one with the words alone, and one for each text that is to be kept out. All arithmetic is in
fp32.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

from dataclasses import dataclass, replace

import torch

from .vivace_conditions import ABSENT, Conditions
from .vivace_grid import CHORD_CHANNELS

SLOW_FRAMES = 121  # of the moving average; half of it is less than the margin that a loop is shown with


def total(values: torch.Tensor) -> torch.Tensor:
    """Sum of each item, (batch, 1, 1); item by item, since the order of adding depends on the shape."""
    return torch.stack([item.sum() for item in values])[:, None, None]


def slow_part(values: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Moving average over the visible frames, at the ends over those that there are.

    Args:
        values: (batch, channels, frames), zero where nothing is visible.
        visible: (batch, frames) bool.
    """
    half = SLOW_FRAMES // 2
    sums, counts = (
        torch.nn.functional.avg_pool1d(x, SLOW_FRAMES, stride=1, padding=half)
        for x in (values, visible[:, None].float())
    )
    return sums / counts.clamp_min(0.5 / SLOW_FRAMES) * visible[:, None]


@dataclass
class Guidance:
    """Strengths of each item, (batch,) fp32 tensors, and the settings of adaptive projection that all share.

    Attributes:
        text: strength of the text; up to 1 = off.
        grid: strength of tempo, meter, key, length and chords; that of the text where they go together.
        rescale: 0 to 1.
        low, high: noise levels between which guidance is on.
        apg_eta, apg_norm_threshold, apg_momentum: see `project`.
        slow, channels: see `weighed`; channels (latent_channels,) fp32.
        negative: strength of the texts to be kept out, (batch,) fp32; None = 0.
    """

    text: torch.Tensor
    grid: torch.Tensor
    rescale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    apg_eta: float
    apg_norm_threshold: float | None
    apg_momentum: float
    slow: float = 1.0
    channels: torch.Tensor | None = None
    average: torch.Tensor | None = None
    negative: torch.Tensor | None = None

    def part(self, rows: list[int]) -> "Guidance":
        """The strengths of these items, with no memory of other steps."""
        names = ("text", "grid", "rescale", "low", "high", *(["negative"] if self.negative is not None else []))
        return replace(self, average=None, **{name: getattr(self, name)[rows] for name in names})

    def at(self, level: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Strengths (text, grid) at a noise level, 1 = off, each (batch, 1, 1)."""
        on = (self.low <= level) & (level <= self.high)
        text, grid = (torch.where(on, scale.clamp_min(1.0), 1.0) for scale in (self.text, self.grid))
        return text[:, None, None], grid[:, None, None]

    def weighed(self, extra: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """What guidance adds, (batch, channels, frames), with each part of it in its own strength.

        One strength for all is too much for some parts and too little for others (Sadat et al. 2025, section 4,
        https://arxiv.org/abs/2506.19713, where they are bands of an image): here `slow` multiplies what lasts, as
        timbre and level do, beside what changes from note to note, and `channels` each channel of the latents.
        """
        if self.channels is not None:
            extra = extra * self.channels[:, None]
        return extra if self.slow == 1.0 else extra + (self.slow - 1.0) * slow_part(extra, visible)

    def project(self, prediction: torch.Tensor, extra: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
        """Adaptive projected guidance (Sadat, Hilliges and Weber 2024, https://arxiv.org/abs/2410.02416).

        Data predictions are an affine function of the network's, with one factor for all values, so the directions
        may be compared in either space; the part along the predicted data, which oversaturates, is scaled by eta.

        Args:
            prediction: conditional prediction (batch, channels, frames).
            extra: what guidance would add to it.
            data: the clean latents that `prediction` implies.
        """
        if self.apg_momentum:
            extra = extra if self.average is None else extra + self.apg_momentum * self.average
            self.average = extra
        if self.apg_norm_threshold is not None:  # of the root mean square, in standard deviations of the latents
            rms = (total(extra.square()) / extra[0].numel()).sqrt()
            extra = extra * (self.apg_norm_threshold / rms.clamp_min(1e-12)).clamp_max(1.0)
        along = total(extra * data) / total(data.square()).clamp_min(1e-12)
        return prediction + extra - (1.0 - self.apg_eta) * along * data

    @property
    def projects(self) -> bool:
        return self.apg_eta != 1.0 or self.apg_norm_threshold is not None or self.apg_momentum != 0.0


def run_network(
    pipe, latents: torch.Tensor, timestep: torch.Tensor, told: Conditions, words: bool, free: bool, unwanted: bool
) -> tuple:
    """Predictions of the network, fp32: with everything (texts, channels, frames) and, None if not asked for, without
    any condition (batch, channels, frames), with the words alone (texts, channels, frames), and with unwanted texts,
    tempo, meter and length (unwanted, channels, frames). The last know no key and no chords, so that what leads away
    from them leads into these: led away from a text in its own key, music loses the key too.

    The rows run in one pass, or a few at a time after `enable_guidance_slicing`.
    """
    batch, texts, device = len(latents), len(told.owner), latents.device
    every, each = torch.arange(batch, device=device), torch.arange(texts, device=device)
    others = torch.arange(texts, len(told.states), device=device)
    counts = [texts, batch * free, texts * words, len(others) * unwanted]
    # The item of each row, and its text; that of rows without any is masked.
    item = torch.cat([told.owner] + [every] * free + [told.owner] * words + [told.unwanted_owner] * unwanted)
    text = torch.cat([each] + [0 * every] * free + [each] * words + [others] * unwanted)
    kind = torch.arange(4, device=device).repeat_interleave(torch.tensor(counts, device=device))
    blind = (kind == 1) | (kind == 2)  # to tempo, key, meter, length and grid
    keyless = blind | (kind == 3)
    read = told.states_mask[text] & (kind != 1)[:, None]
    scalars = {
        name: torch.where(
            keyless if name == "key" else blind, torch.full_like(values[item], ABSENT[name]), values[item]
        )
        for name, values in told.scalars.items()
    }
    frame_cond = None
    if pipe.unet.config.frame_cond_channels:
        grid = told.grid[item] * ~blind[:, None, None]
        grid[:, CHORD_CHANNELS] *= ~keyless[:, None, None]
        frame_cond = torch.cat([grid, told.edit[item]], dim=1)
    visible = None if told.visible.all() else told.visible[item]
    rows, out = pipe.guidance_rows or len(item), []
    for first in range(0, len(item), rows):
        part = slice(first, first + rows)
        out.append(
            pipe.unet(
                latents.to(pipe.unet.dtype)[item[part]],
                timestep.float().expand(len(item[part])),
                encoder_hidden_states=told.states[text[part]],
                encoder_attention_mask=read[part],
                frame_cond=None if frame_cond is None else frame_cond[part],
                added_cond_kwargs={name: values[part] for name, values in scalars.items()},
                frame_mask=None if visible is None else visible[part],
                return_dict=False,
            )[0].float()
        )
    made = torch.cat(out).split(counts)
    return made[0], *(part if asked else None for part, asked in zip(made[1:], (free, words, unwanted), strict=True))


def predict(pipe, latents: torch.Tensor, timestep: torch.Tensor, told: Conditions, guidance: Guidance, level) -> tuple:
    """Guided and conditional prediction of the network, each (batch, channels, frames) fp32, and what guidance adds.

    Guidance: Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598). With two strengths as in Brooks, Holynski and
    Efros 2023, equation 3 (https://arxiv.org/abs/2211.09800), the words first and then, given the words, the grid:
    free + text_scale (words - free) + grid_scale (full - words). In this order a strong text does not pull the music
    off its grid. Equal strengths give the former, in two passes. Several texts share a frame by their weights (Bar-Tal
    et al. 2023, https://arxiv.org/abs/2302.08113).

    What is to be kept out is led away from in the same way, given the beats: + negative_scale (full - unwanted), where
    its texts have a weight (the negation of Liu et al. 2022, equation 12, https://arxiv.org/abs/2206.01714, from the
    wanted words instead of from none).
    """
    text_scale, grid_scale = guidance.at(level)
    guided = bool((text_scale > 1.0).any() or (grid_scale > 1.0).any())
    apart = bool((text_scale != grid_scale).any())
    negative = guided and len(told.unwanted_owner) > 0 and guidance.negative is not None
    full, free, words, unwanted = run_network(pipe, latents, timestep, told, guided and apart, guided, negative)

    def together(by_text: torch.Tensor) -> torch.Tensor:
        nothing = torch.zeros(latents.shape, device=latents.device)
        return nothing.index_add(0, told.owner, by_text * told.weights[:, None])

    full = together(full)
    if not guided:
        return full, full
    out = free + text_scale * (full - free)
    if apart:
        words = together(words)
        two = free + text_scale * (words - free) + grid_scale * (full - words)
        out = torch.where(text_scale == grid_scale, out, two)  # rounded as where no item has two strengths
    if guidance.slow != 1.0 or guidance.channels is not None:
        out = full + guidance.weighed(out - full, told.visible)
    if negative:
        away = (full[told.unwanted_owner] - unwanted) * told.unwanted_weights[:, None]
        away = away * guidance.negative[told.unwanted_owner, None, None]
        nothing = torch.zeros(latents.shape, device=latents.device)
        out = out + guidance.weighed(nothing.index_add(0, told.unwanted_owner, away), told.visible)
    return full, out


def rescaled(guided: torch.Tensor, full: torch.Tensor, rescale: torch.Tensor) -> torch.Tensor:
    """Bring the level of `guided` towards that of `full`: Lin et al. 2023, section 3.4, arxiv.org/abs/2305.08891.

    Padding frames are zero in both, so they do not enter the ratio.
    """
    ratio = total(full.square()) / total(guided.square()).clamp_min(1e-12)
    rescale = rescale[:, None, None]
    return guided * (rescale * ratio.sqrt() + 1.0 - rescale)
