"""Guidance: how strictly the words and the grid are followed.

Every pass of the network has a row for each text, and where guidance is on one without any condition and, if the grid
has a strength of its own, one with the grid alone. All arithmetic is in fp32.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

from dataclasses import dataclass, replace

import torch

from .vivace_conditions import ABSENT, Conditions


@dataclass
class Guidance:
    """Strengths of each item, (batch,) fp32 tensors, and the settings of adaptive projection that all share.

    Attributes:
        text: strength of the text; up to 1 = off.
        grid: strength of tempo, meter, key, length and chords; that of the text where they go together.
        rescale: 0 to 1.
        low, high: noise levels between which guidance is on.
        apg_eta, apg_norm_threshold, apg_momentum: see `project`.
    """

    text: torch.Tensor
    grid: torch.Tensor
    rescale: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    apg_eta: float
    apg_norm_threshold: float | None
    apg_momentum: float
    average: torch.Tensor | None = None

    def part(self, rows: list[int]) -> "Guidance":
        """The strengths of these items, with no memory of other steps."""
        names = ("text", "grid", "rescale", "low", "high")
        return replace(self, average=None, **{name: getattr(self, name)[rows] for name in names})

    def at(self, level: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Strengths (text, grid) at a noise level, 1 = off, each (batch, 1, 1)."""
        on = (self.low <= level) & (level <= self.high)
        text, grid = (torch.where(on, scale.clamp_min(1.0), 1.0) for scale in (self.text, self.grid))
        return text[:, None, None], grid[:, None, None]

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
            rms = extra.square().mean((1, 2), keepdim=True).sqrt()
            extra = extra * (self.apg_norm_threshold / rms.clamp_min(1e-12)).clamp_max(1.0)
        along = (extra * data).sum((1, 2), keepdim=True) / data.square().sum((1, 2), keepdim=True).clamp_min(1e-12)
        return prediction + extra - (1.0 - self.apg_eta) * along * data

    @property
    def projects(self) -> bool:
        return self.apg_eta != 1.0 or self.apg_norm_threshold is not None or self.apg_momentum != 0.0


def run_network(pipe, latents: torch.Tensor, timestep: torch.Tensor, told: Conditions, grid: bool, free: bool) -> tuple:
    """Predictions of the network, fp32: of the texts (texts, channels, frames), and, each None if not asked for, with
    the grid alone and without any condition (batch, channels, frames).

    The rows run in one pass, or a few at a time after `enable_guidance_slicing`.
    """
    batch, texts = len(latents), len(told.owner)
    every = torch.arange(batch, device=latents.device)
    parts = [told.owner] + [every] * free + [every] * grid
    item = torch.cat(parts)  # the item of each row
    text = torch.cat([torch.arange(texts, device=latents.device)] + [texts + every] * (free + grid))
    blind = torch.zeros(len(item), dtype=torch.bool, device=latents.device)
    blind[texts : texts + batch * free] = True
    scalars = {
        name: torch.where(blind, torch.full_like(values[item], ABSENT[name]), values[item])
        for name, values in told.scalars.items()
    }
    frame_cond = None
    if pipe.unet.config.frame_cond_channels:
        frame_cond = torch.cat([told.grid[item] * ~blind[:, None, None], told.edit[item]], dim=1)
    visible = None if told.visible.all() else told.visible[item]
    rows, out = pipe.guidance_rows or len(item), []
    for first in range(0, len(item), rows):
        part = slice(first, first + rows)
        out.append(
            pipe.unet(
                latents.to(pipe.unet.dtype)[item[part]],
                timestep.float().expand(len(item[part])),
                encoder_hidden_states=told.states[text[part]],
                encoder_attention_mask=told.states_mask[text[part]],
                frame_cond=None if frame_cond is None else frame_cond[part],
                added_cond_kwargs={name: values[part] for name, values in scalars.items()},
                frame_mask=None if visible is None else visible[part],
                return_dict=False,
            )[0].float()
        )
    out = torch.cat(out)
    return out[:texts], out[texts + batch * free :] if grid else None, out[texts : texts + batch] if free else None


def predict(pipe, latents: torch.Tensor, timestep: torch.Tensor, told: Conditions, guidance: Guidance, level) -> tuple:
    """Guided and conditional prediction of the network, each (batch, channels, frames) fp32, and what guidance adds.

    Guidance: Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598); with two strengths as in Brooks, Holynski and
    Efros 2023, equation 3 (https://arxiv.org/abs/2211.09800), the grid first and then the text:
    free + grid_scale (grid - free) + text_scale (full - grid). Equal strengths give the former, in two passes. Several
    texts share a frame by their weights (Bar-Tal et al. 2023, https://arxiv.org/abs/2302.08113).
    """
    text_scale, grid_scale = guidance.at(level)
    guided = bool((text_scale > 1.0).any() or (grid_scale > 1.0).any())
    apart = bool((text_scale != grid_scale).any())
    by_text, grid, free = run_network(pipe, latents, timestep, told, guided and apart, guided)
    full = torch.zeros_like(latents, dtype=torch.float32)
    full = full.index_add(0, told.owner, by_text * told.weights[:, None])
    if not guided:
        return full, full
    if apart:
        return full, free + grid_scale * (grid - free) + text_scale * (full - grid)
    return full, free + text_scale * (full - free)


def rescaled(guided: torch.Tensor, full: torch.Tensor, rescale: torch.Tensor) -> torch.Tensor:
    """Bring the level of `guided` towards that of `full`: Lin et al. 2023, section 3.4, arxiv.org/abs/2305.08891.

    Padding frames are zero in both, so they do not enter the ratio.
    """
    ratio = full.square().sum((1, 2)) / guided.square().sum((1, 2)).clamp_min(1e-12)
    return guided * (rescale * ratio.sqrt() + 1.0 - rescale)[:, None, None]
