"""Audio in: variations, inpainting, continuation and extension. What is kept comes back bit for bit.

The result has the sampling rate and channels of the input, so that keeping is exact: the network works at its own rate,
and only what it made is resampled and faded in, inside the part that was to be made.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from .vivace_audio import mix_channels, read_audio, resample
from .vivace_level import loudness
from .vivace_prompt import check_number

WORKING_LUFS = -18.0  # the training clips' level, at which audio is encoded
KEEP_MARGIN = 1  # latent frames beside a border that are made anew, since the encoder sees across it
FADE_S = 0.05  # from kept to made, inside the made part


@dataclass
class Edit:
    """What is to be done to one piece of audio.

    Attributes:
        audio: (channels, samples) fp32, the input, with mirrored audio where it is extended.
        rate: its sampling rate, Hz.
        mask: (samples,) bool, True = to be made.
        strength: noise to begin with, 1 = all noise.
        gain: of the input to the level at which the network works.
        offset_s: where the input begins, seconds.
        samples: how long the input is.
    """

    audio: torch.Tensor
    rate: int
    mask: torch.Tensor
    strength: float
    gain: float
    offset_s: float
    samples: int

    @property
    def given(self) -> torch.Tensor:
        """The input alone, without its extension."""
        first = round(self.offset_s * self.rate)
        return self.audio[:, first : first + self.samples]


def read_mask(mask, samples: int, rate: int) -> torch.Tensor:
    """(samples,) bool of regions in seconds or of an array; regions that overlap are one.

    Raises:
        ValueError: regions that are no pairs, reversed, negative, empty or outside; all kept.
    """
    if isinstance(mask, (np.ndarray, torch.Tensor)) and np.asarray(mask).dtype == bool:
        given = torch.as_tensor(mask)
        if tuple(given.shape) != (samples,):
            raise ValueError(
                f"mask_s is an array of shape {tuple(given.shape)}; needed: ({samples},), one bool for each sample of "
                "the audio, True = to be made"
            )
        if not given.any():
            raise ValueError("mask_s is False everywhere: all is kept and nothing to be made")
        return given.cpu()
    if isinstance(mask, (np.ndarray, torch.Tensor)):
        mask = mask.tolist()
    if not isinstance(mask, (list, tuple)):
        raise ValueError(f"mask_s is {mask!r}; allowed: regions in seconds, as in [(4.0, 6.0)], or an array of bool")
    pairs = [tuple(region) if isinstance(region, (list, tuple, np.ndarray)) else (region,) for region in mask]
    if not pairs:
        raise ValueError("mask_s is empty; give at least one region, as in [(4.0, 6.0)]")
    out = torch.zeros(samples, dtype=torch.bool)
    for region in pairs:
        numbers = len(region) == 2 and all(isinstance(v, (int, float, np.number)) and math.isfinite(v) for v in region)
        if not numbers or not 0.0 <= region[0] < region[1]:
            raise ValueError(f"mask_s has the region {region}; allowed: (start, end) in seconds, 0 <= start < end")
        if round(region[1] * rate) > samples:  # half a sample beyond is how an end in seconds may round
            raise ValueError(f"mask_s has the region {region}, but the audio is {samples / rate:.3f} s long")
        first, last = round(region[0] * rate), round(region[1] * rate)
        out[min(first, samples - 1) : max(last, first + 1)] = True  # at least one sample
    return out


def mirrored(audio: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """(channels, before + n + after): the audio, and beyond its ends its mirror image, as often as needed."""
    samples = audio.shape[1]
    index = torch.arange(-before, samples + after) % (2 * samples)
    return audio[:, torch.where(index < samples, index, 2 * samples - 1 - index)]


def make_edit(audio, sampling_rate, strength, mask_s, extend_s, max_duration_s: float) -> Edit:
    """Understand the arguments of an edit.

    Raises:
        ValueError: one line that names the argument.
    """
    if strength is None and mask_s is None and extend_s is None:
        raise ValueError("audio needs to be told what to do with it: give strength, mask_s or extend_s")
    given, rate = read_audio(audio, sampling_rate, max_duration_s)
    if strength is not None:
        check_number("strength", strength, 0, 1)
    before = after = 0
    if extend_s is not None:
        if not isinstance(extend_s, (list, tuple)) or len(extend_s) != 2:
            raise ValueError(f"extend_s is {extend_s!r}; allowed: (seconds before, seconds after), as in (0, 8)")
        for seconds in extend_s:
            check_number("extend_s", seconds, 0, max_duration_s, "s")
        before, after = (round(seconds * rate) for seconds in extend_s)
        if not before and not after:
            raise ValueError(f"extend_s is {tuple(extend_s)}; allowed: more than 0 s before or after")
        if strength not in (None, 1, 1.0):
            raise ValueError(f"strength is {strength} with extend_s; there is nothing to begin with but noise: give 1")
    samples = given.shape[1]
    inside = torch.full((samples,), mask_s is None and extend_s is None)
    if mask_s is not None:
        inside = read_mask(mask_s, samples, rate)
    mask = torch.cat([torch.ones(before, dtype=torch.bool), inside, torch.ones(after, dtype=torch.bool)])
    level = loudness(given.mean(0, keepdim=True), rate)  # as the network will hear it
    gain = 1.0 if math.isinf(level) else 10.0 ** ((WORKING_LUFS - level) / 20.0)
    strength = 1.0 if strength is None else float(strength)
    return Edit(mirrored(given, before, after), rate, mask, strength, min(gain, 1e3), before / rate, samples)


def network_input(edit: Edit, sampling_rate: int, channels: int) -> torch.Tensor:
    """The audio as the autoencoder takes it, (1, channels, samples)."""
    return mix_channels(resample(edit.audio * edit.gain, edit.rate, sampling_rate), channels)[None]


def kept_frames(edit: Edit, frames: int, frame_rate: float) -> torch.Tensor:
    """(frames,) bool: latent frames that are given, none of whose neighbours touch what is to be made."""
    total = torch.nn.functional.pad(edit.mask.long().cumsum(0), (1, 0))  # masked samples before each
    bounds = torch.arange(frames, dtype=torch.float64)
    first = ((bounds - KEEP_MARGIN) / frame_rate * edit.rate).floor().long().clamp(0, len(edit.mask))
    last = ((bounds + 1 + KEEP_MARGIN) / frame_rate * edit.rate).ceil().long().clamp(0, len(edit.mask))
    inside = bounds / frame_rate * edit.rate < len(edit.mask)
    return (total[last] == total[first]) & inside


def borders(mask: torch.Tensor) -> list[tuple[int, int]]:
    """(first, last + 1) of each masked run of samples."""
    edges = torch.diff(torch.nn.functional.pad(mask.to(torch.int8), (1, 1)))
    return list(zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True))


def splice(edit: Edit, made: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """The input with what was made put in, (channels, samples) at the input's rate.

    Args:
        edit: what was asked for.
        made: the whole piece as the autoencoder decoded it, (channels, samples) at `sampling_rate`.
    """
    audio, samples = edit.audio, edit.audio.shape[1]
    made = resample(made.cpu(), sampling_rate, edit.rate)[:, :samples]
    made = torch.nn.functional.pad(made, (0, samples - made.shape[1])) / edit.gain
    if made.shape[0] != audio.shape[0]:  # each channel as loud as it was
        power = audio.square().mean(1, keepdim=True)
        balance = (power / audio.mean(0, keepdim=True).square().mean().clamp_min(1e-12)).sqrt().clamp(0.0, 2.0)
        made = mix_channels(made, audio.shape[0]) * balance
    made = made / made.abs().max().clamp_min(1.0)
    out = audio.clone()
    for first, last in borders(edit.mask):
        fade = min(round(FADE_S * edit.rate), (last - first) // 2)
        share = torch.ones(last - first, dtype=torch.float32)
        ramp = (torch.arange(fade, dtype=torch.float32) + 1.0) / (fade + 1.0)
        if fade and first > 0:
            share[:fade] = ramp
        if fade and last < samples:
            share[-fade:] = ramp.flip(0)
        part = slice(first, last)
        angle = share * (math.pi / 2)
        out[:, part] = (made[:, part] * angle.sin() + audio[:, part] * angle.cos()).clamp(-1.0, 1.0)
    return out
