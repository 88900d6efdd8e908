"""Edits of given audio: its beats, what of it is kept and what is made, and the join of both.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from .vivace_audio import fit_circle, mix_channels, read_audio, resample
from .vivace_level import LOOKAHEAD_S, PEAK_TAPS, Leveller, limiter_gain, loudness, peaks, true_peak_db
from .vivace_theory import check_number

# Beats of audio with a steady beat: onsets by spectral flux, tempo by their autocorrelation at several beats'
# distance, phase and bar by what falls on them.

RATE, SIZE, HOP = 22050, 1024, 220  # Hz and samples: about 100 onset values a second
ENVELOPE_HZ = RATE / HOP
TEMPI = (50.0, 210.0)  # that are looked for
USUAL_BPM, SPREAD_OCTAVES = 110.0, 0.9  # where octaves are in doubt, the more usual one
CLEAR = 0.12  # least autocorrelation at the beat for which a tempo is believed
MIN_SECONDS = 3.0


def onsets(audio: torch.Tensor, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """How much begins at each moment, in all bands and below 160 Hz, each (n,) at ENVELOPE_HZ; mean 0, variance 1."""
    mono = resample(audio.mean(0, keepdim=True), rate, RATE)[0]
    padded = torch.nn.functional.pad(mono, (SIZE // 2, SIZE // 2))
    spectrum = torch.stft(
        padded, SIZE, HOP, window=torch.hann_window(SIZE, dtype=torch.float32), center=False, return_complex=True
    )
    level = torch.log1p(100.0 * spectrum.abs())  # (bins, n)
    rise = torch.diff(level, dim=1, prepend=level[:, :1]).clamp_min(0.0)
    out = []
    for part in (rise, rise[: round(160.0 * SIZE / RATE)]):
        flux = part.mean(0).double().numpy()
        near = np.convolve(np.pad(flux, 50, mode="reflect"), np.ones(101) / 101.0, mode="valid")
        flux = np.maximum(flux - near, 0.0)
        out.append((flux - flux.mean()) / (flux.std() + 1e-9))
    return out[0], out[1]


def tempo(envelope: np.ndarray) -> float | None:
    """Beats a minute, or None where nothing repeats clearly."""
    size = len(envelope)
    spectrum = np.abs(np.fft.rfft(envelope, 2 * size)) ** 2
    correlation = np.fft.irfft(spectrum)[:size] / np.maximum(size - np.arange(size), 1)
    tempi = np.exp(np.linspace(np.log(TEMPI[0]), np.log(TEMPI[1]), 600))
    period = ENVELOPE_HZ * 60.0 / tempi
    repeats = [np.interp(k * period, np.arange(size), correlation, right=0.0) for k in (1, 2, 3, 4)]
    prior = np.exp(-0.5 * (np.log2(tempi / USUAL_BPM) / SPREAD_OCTAVES) ** 2)
    best = int(np.argmax(np.mean(repeats, axis=0) * prior))
    if repeats[0][best] < CLEAR:
        return None
    # The whole clip decides to a fraction of a percent: the tempo whose harmonics the envelope has most of.
    near = tempi[best] * np.linspace(0.97, 1.03, 241)
    times = np.arange(size) / ENVELOPE_HZ
    found = [
        sum(abs(np.exp(-2j * np.pi * h * bpm / 60.0 * times) @ envelope) for h in (1, 2, 4)) for bpm in near
    ]  # fmt: skip
    return float(near[int(np.argmax(found))])


def find_beats(audio: torch.Tensor, rate: int, bpm: float | None, beats_per_bar: int) -> tuple[float, float] | None:
    """Tempo and the time of a first beat of a bar, seconds, of (channels, samples); None where no beat is found.

    Args:
        audio: at least `MIN_SECONDS` long, or nothing is found.
        rate: Hz.
        bpm: the tempo, or None.
        beats_per_bar: of the meter.
    """
    if audio.shape[1] < MIN_SECONDS * rate or not audio.any():
        return None
    envelope, low = onsets(audio, rate)
    bpm = tempo(envelope) if bpm is None else float(bpm)
    if bpm is None:
        return None
    period = ENVELOPE_HZ * 60.0 / bpm
    phases = np.arange(0.0, period, 0.5)
    size = len(envelope)

    def on(values: np.ndarray, first: float, step: float) -> float:
        places = np.arange(first, size, step)
        return float(np.mean(np.interp(places, np.arange(size), values))) if len(places) else -np.inf

    first = phases[int(np.argmax([on(envelope, phase, period) for phase in phases]))]
    bars = [on(envelope, first + k * period, beats_per_bar * period)
            + on(low, first + k * period, beats_per_bar * period) for k in range(beats_per_bar)]  # fmt: skip
    return bpm, float((first + int(np.argmax(bars)) * period) / ENVELOPE_HZ)


# Audio in: variations, inpainting, continuation and extension. What is kept comes back bit for bit.

WORKING_LUFS = -18.0  # the training clips' level, at which audio is encoded
# Latent frames beside a border that are made anew too. The encoder sees further (7 frames, 0.28 s, in the published
# model), so the nearest kept latents still carry a little of what is replaced; training masks its clips likewise.
KEEP_MARGIN = 1
FADE_S = 0.05  # from kept to made, inside the made part
MATCH_S = 3.0  # what is made beside kept audio is brought to its level from this length on (EBU's short-term window)


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
        loop: whether its end leads into its beginning.
        recipe: of the file or output that the input was, if it is one of ours.
        arguments: strength and mask_s as they were given, for the recipe of the result; regions in seconds.
    """

    audio: torch.Tensor
    rate: int
    mask: torch.Tensor
    strength: float
    gain: float
    offset_s: float
    samples: int
    loop: bool = False
    recipe: dict | None = None
    arguments: dict = field(default_factory=dict)

    @property
    def extended(self) -> bool:
        """Whether there is more to be made than the input is long."""
        return self.audio.shape[1] > self.samples

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


def make_edit(
    audio, sampling_rate, strength, mask_s, extend_s, max_duration_s: float, recipe: dict | None = None
) -> Edit:
    """Understand the arguments of an edit; whether it is a loop is decided later, with its tempo.

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
    inside, arguments = torch.full((samples,), mask_s is None and extend_s is None), {"strength": strength}
    if mask_s is not None:
        inside = read_mask(mask_s, samples, rate)
        arguments["mask_s"] = [[first / rate, last / rate] for first, last in borders(inside)]
    mask = torch.cat([torch.ones(before, dtype=torch.bool), inside, torch.ones(after, dtype=torch.bool)])
    level = loudness(given.mean(0, keepdim=True), rate)  # the network works on its mono mix
    gain = 1.0 if math.isinf(level) else 10.0 ** ((WORKING_LUFS - level) / 20.0)
    strength = 1.0 if strength is None else float(strength)
    audio = mirrored(given, before, after)
    return Edit(audio, rate, mask, strength, min(gain, 1e3), before / rate, samples, recipe=recipe, arguments=arguments)


def network_input(edit: Edit, sampling_rate: int, channels: int, circle: int, margin: int) -> torch.Tensor:
    """The audio as the autoencoder takes it, (1, channels, samples).

    A loop becomes a circle of `circle` samples, a whole number of latent frames, with a `margin` of its other end on
    either side. It is resampled there, by half a frame at most: a loop of 8 s moves by up to 4 cents.
    """
    audio = mix_channels(edit.audio * edit.gain, channels)
    if not edit.loop:
        return resample(audio, edit.rate, sampling_rate)[None]
    return fit_circle(audio, circle)[:, torch.arange(-margin, circle + margin) % circle][None]


def kept_frames(edit: Edit, frames: int, frame_rate: float) -> torch.Tensor:
    """(frames,) bool: latent frames that are given, none of whose neighbours touch what is to be made."""
    mask, size, turn = edit.mask, len(edit.mask), 0
    if edit.loop:  # unrolled to three turns, of which the middle one counts
        mask, turn, frame_rate = mask.repeat(3), size, frames * edit.rate / size
    total = torch.nn.functional.pad(mask.long().cumsum(0), (1, 0))  # masked samples before each
    bounds = torch.arange(frames, dtype=torch.float64)
    first = ((bounds - KEEP_MARGIN) / frame_rate * edit.rate).floor().long() + turn
    last = ((bounds + 1 + KEEP_MARGIN) / frame_rate * edit.rate).ceil().long() + turn
    inside = bounds / frame_rate * edit.rate < size
    return (total[last.clamp(0, len(mask))] == total[first.clamp(0, len(mask))]) & inside


def borders(mask: torch.Tensor) -> list[tuple[int, int]]:
    """(first, last + 1) of each masked run of samples."""
    edges = torch.diff(torch.nn.functional.pad(mask.to(torch.int8), (1, 1)))
    return list(zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True))


def matching_gain(edit: Edit, made: torch.Tensor, limit: float) -> float:
    """The gain at which what is made, (channels, n) with the kept places in between, is as loud as what is kept, or as
    the input where little is kept. 1 for what is too short to have a level of its own beside kept audio."""
    kept, anew, enough = edit.audio[:, ~edit.mask], made[:, edit.mask], MATCH_S * edit.rate
    if kept.shape[1] and anew.shape[1] < enough:
        return 1.0
    target = loudness(kept if kept.shape[1] >= enough else edit.given, edit.rate)
    if math.isinf(target):
        return 1.0
    leveller = Leveller(edit.rate, anew.shape[1], target, 20.0 * math.log10(limit), 0.0, 0.0, 0.0, False)
    return leveller.choose_gain(anew, slice(None))


def splice(edit: Edit, made: torch.Tensor, sampling_rate: int, true_peak_dbtp: float | None) -> torch.Tensor:
    """The input with what was made put in, (channels, samples) at the input's rate.

    What was made gets the level of what is kept (`matching_gain`) and is faded in; where the true peaks of the two
    together would exceed `true_peak_dbtp`, or the input's own where that is higher, a limiter turns down what was made.
    Kept samples are those of the input.

    Args:
        edit: what was asked for.
        made: the whole piece as the autoencoder decoded it, (channels, samples) at `sampling_rate`.
        true_peak_dbtp: None = what was made keeps its own level and is limited at full scale only.
    """
    audio, mask, samples = edit.audio, edit.mask, edit.audio.shape[1]
    made = made.cpu()
    made = fit_circle(made, samples) if edit.loop else resample(made, sampling_rate, edit.rate)[:, :samples]
    made = torch.nn.functional.pad(made, (0, samples - made.shape[1])) / edit.gain
    if made.shape[0] != audio.shape[0]:  # each channel as loud as it was
        power = audio.square().mean(1, keepdim=True)
        balance = (power / audio.mean(0, keepdim=True).square().mean().clamp_min(1e-12)).sqrt().clamp(0.0, 2.0)
        made = mix_channels(made, audio.shape[0]) * balance
    limit = 1.0
    if true_peak_dbtp is not None:
        limit = min(1.0, 10.0 ** (max(true_peak_dbtp, true_peak_db(edit.given)) / 20.0))
        made = made * matching_gain(edit, made, limit)
    turn = 0
    if edit.loop and not mask.all():  # turned so that it begins with a kept sample: no run goes over the end
        turn = int((~mask).nonzero()[0])
        audio, mask, made = audio.roll(-turn, 1), mask.roll(-turn), made.roll(-turn, 1)
    out = audio.clone()
    ahead = round(LOOKAHEAD_S * edit.rate)
    reach = 2 * ahead + PEAK_TAPS
    for first, last in borders(mask):
        ends = [first > 0, last < samples or (edit.loop and first > 0)]  # whether kept audio follows there
        fade = min(round(FADE_S * edit.rate), (last - first) // 2)
        ramp = (torch.arange(fade, dtype=torch.float32) + 1.0) / (fade + 1.0)
        share = torch.ones(last - first, dtype=torch.float32)
        if fade and ends[0]:
            share[:fade] = ramp
        if fade and ends[1]:
            share[-fade:] = ramp.flip(0)
        near = torch.arange(first - reach, last + reach)  # what the limiter sees
        near = near % samples if edit.loop else near[(near >= 0) & (near < samples)]
        before = reach if edit.loop else min(first, reach)
        angle = torch.full((len(near),), math.pi / 2 if mask.all() else 0.0, dtype=torch.float32)
        angle[before : before + last - first] = share * (math.pi / 2)
        new, old = made[:, near] * angle.sin(), audio[:, near] * angle.cos()
        need = ((limit - peaks(old)) / peaks(new).clamp_min(1e-9)).clamp(0.0, 1.0)
        need[angle == 0.0] = 1.0
        mixed = (old + new * limiter_gain(need, ahead)).clamp(-1.0, 1.0)
        out[:, first:last] = mixed[:, before : before + last - first]
    return out.roll(turn, 1)
