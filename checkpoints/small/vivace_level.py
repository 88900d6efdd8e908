"""Level and tone: loudness, true peak, brightness, fades. All but the choice of one gain is local, so that a stream can
be levelled as it comes.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import functools
import math
from collections.abc import Iterable, Iterator

import torch
from torch.nn import functional

LOUDNESS_LUFS = -16.0  # of what is made, where a call does not say
MAX_GAIN_DB = 40.0  # of normalisation: silence stays silence
MAKE_UP_DB = 3.0  # at most so much more gain for what the limiter takes away: music is not to be crushed
CLOSE_LU, ROUNDS = 0.1, 5  # of the search for it
LOOKAHEAD_S = 0.005  # of the limiter
OVERSAMPLING, PEAK_TAPS = 4, 16  # of the true-peak meter, ITU-R BS.1770-4, annex 2
SECTION_S, PEAK_SECTION = 120, 2**22  # seconds and samples: longer audio is measured in sections, in bounded memory
TILT_TAPS = 1023


@functools.lru_cache(maxsize=2)  # of SECTION_S at most, see `weighted`
def weighting(sampling_rate: int, num_bins: int) -> torch.Tensor:
    """Squared magnitude of the K-weighting at `num_bins` frequencies from 0 to half the rate, (num_bins,) fp64.

    ITU-R BS.1770-4, annex 1, gives the two biquads at 48 kHz; these are the analogue prototypes that give the same
    coefficients there (De Man 2014, "Evaluation of implementations of the EBU R128 loudness measurement").
    """
    z = torch.exp(-1j * math.pi * torch.linspace(0.0, 1.0, num_bins, dtype=torch.float64))
    total = torch.ones(num_bins, dtype=torch.float64)
    for centre_hz, quality, gain_db in ((1681.974450955533, 0.7071752369554196, 3.999843853973347),
                                        (38.13547087602444, 0.5003270373238773, None)):  # fmt: skip
        k = math.tan(math.pi * centre_hz / sampling_rate)
        a0 = 1.0 + k / quality + k * k
        low = 1.0 + 2.0 * (k * k - 1.0) / a0 * z + (1.0 - k / quality + k * k) / a0 * z * z
        if gain_db is None:
            high = 1.0 - 2.0 * z + z * z
        else:
            shelf = 10.0 ** (gain_db / 20.0)
            middle = shelf**0.4996667741545416 * k / quality
            high = (shelf + middle + k * k + 2.0 * (k * k - shelf) * z + (shelf - middle + k * k) * z * z) / a0
        total = total * (high / low).abs().square()
    return total


def weighted(audio: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """K-weighted audio (channels, samples) fp64, with zero phase, which changes no power."""
    samples, section, margin = audio.shape[1], SECTION_S * sampling_rate, sampling_rate // 2
    size = min(samples, section + sampling_rate) + sampling_rate  # the filter has died away after half a second
    response = weighting(sampling_rate, size // 2 + 1).sqrt()
    parts = []
    for start in range(0, samples, section):
        end = start + section if samples > section else samples
        first = max(0, start - margin)
        spectrum = torch.fft.rfft(audio[:, first : end + margin].double(), n=size)
        part = torch.fft.irfft(spectrum * response, n=size)
        parts.append(part[:, start - first : min(end, samples) - first])
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def loudness(audio: torch.Tensor, sampling_rate: int) -> float:
    """Integrated loudness in LUFS of (channels, samples), ITU-R BS.1770-4 with both gates; silence is -inf.

    Audio shorter than a gating block of 0.4 s counts as one block.
    """
    samples = audio.shape[1]
    block, step = min(samples, round(0.4 * sampling_rate)), max(1, round(0.1 * sampling_rate))
    power = weighted(audio, sampling_rate).square().unfold(1, block, step).mean(2).sum(0)  # (blocks,)
    for floor in (-70.0, None):
        if not len(power):
            return -math.inf
        floor = 10.0 * math.log10(power.mean().item() + 1e-30) - 10.691 if floor is None else floor
        power = power[10.0 * torch.log10(power + 1e-30) - 0.691 > floor]
    return -0.691 + 10.0 * math.log10(power.mean().item()) if len(power) else -math.inf


def peaks(audio: torch.Tensor) -> torch.Tensor:
    """Largest magnitude around each sample, the curve between samples included; (channels, n) -> (n,)."""
    offsets = torch.arange(OVERSAMPLING, dtype=torch.float64)[:, None] / OVERSAMPLING
    times = torch.arange(-PEAK_TAPS // 2 + 1, PEAK_TAPS // 2 + 1, dtype=torch.float64) - offsets
    taps = torch.sinc(times) * torch.cos(math.pi * times / (PEAK_TAPS + 1)).square()
    taps = (taps / taps.sum(1, keepdim=True))[:, None].to(audio)  # (phases, 1, taps)
    padded = functional.pad(audio[:, None], (PEAK_TAPS // 2 - 1, PEAK_TAPS // 2))
    sections = range(0, audio.shape[1], PEAK_SECTION)
    parts = [padded[:, :, start : start + PEAK_SECTION + PEAK_TAPS - 1] for start in sections]
    return torch.cat([functional.conv1d(part, taps).abs().amax((0, 1)) for part in parts])


def true_peak_db(audio: torch.Tensor) -> float:
    """True peak of (channels, samples) in dBTP; silence is -inf."""
    highest = float(peaks(audio).max())
    return 20.0 * math.log10(highest) if highest > 0.0 else -math.inf


def tilt_filter(tilt_db: float, sampling_rate: int) -> torch.Tensor:
    """Taps (TILT_TAPS,) of a linear-phase filter, straight in dB over log frequency: `tilt_db` from 100 Hz to 10 kHz,
    0 dB at 1 kHz, flat below 50 Hz and above 12 kHz."""
    frequencies = torch.linspace(0.0, sampling_rate / 2, 4097, dtype=torch.float64).clamp(50.0, 12000.0)
    response = 10.0 ** (tilt_db / 2.0 * torch.log10(frequencies / 1000.0) / 20.0)
    taps = torch.fft.irfft(response.to(torch.complex128)).roll(TILT_TAPS // 2)[:TILT_TAPS]
    return taps * torch.hann_window(TILT_TAPS + 1, periodic=True, dtype=torch.float64)[1:]


def limiter_gain(need: torch.Tensor, ahead: int) -> torch.Tensor:
    """A smooth gain (n,) that is nowhere above `need` (n,), the gain from 0 to 1 that each sample may have at most.

    The smallest need within 2 * `ahead` samples is held and then averaged by a window of that reach: every value under
    the window is at most what its centre needs.
    """
    size = 2 * ahead + 1
    held = -functional.max_pool1d(-functional.pad(need[None], (2 * ahead, 2 * ahead), value=1.0), size, 1)
    window = torch.hann_window(size + 2, periodic=False, dtype=torch.float32)[1:-1].to(need)
    return functional.conv1d(held[None], (window / window.sum())[None, None])[0, 0]


class Leveller:
    """Brings audio to a level and tone, chunk by chunk.

    What exceeds the limit is turned down by a limiter that looks ahead, so nothing is ever clipped. The gain is the one
    at which the first chunk, limited, is as loud as asked for, up to `MAKE_UP_DB` above the one that it would need
    without a limit; after `measure` it is that of all chunks together. Only then is a piece of several chunks as a
    whole as loud as asked for: without, it begins so and keeps its gain, since what follows is not known yet.

    Args:
        sampling_rate: Hz.
        total_samples: length of the whole piece.
        loudness_lufs: None = the level is left alone, and so is the peak.
        true_peak_dbtp: limit, at most 0.
        tilt_db: brightness, see `tilt_filter`.
        fade_in_s, fade_out_s: raised-cosine fades.
        loop: the piece is a circle and comes as one chunk.
    """

    def __init__(
        self, sampling_rate: int, total_samples: int, loudness_lufs: float | None, true_peak_dbtp: float,
        tilt_db: float, fade_in_s: float, fade_out_s: float, loop: bool,
    ):  # fmt: skip
        self.rate, self.total, self.loop = sampling_rate, total_samples, loop
        self.target, self.limit = loudness_lufs, 10.0 ** (true_peak_dbtp / 20.0)
        self.fade_in, self.fade_out = round(fade_in_s * sampling_rate), round(fade_out_s * sampling_rate)
        self.taps = tilt_filter(tilt_db, sampling_rate) if tilt_db else None
        self.ahead = round(LOOKAHEAD_S * sampling_rate)
        self.reach = (TILT_TAPS // 2 if tilt_db else 0) + (
            2 * self.ahead + PEAK_TAPS if loudness_lufs is not None else 0
        )
        self.gain: float | None = None

    def _colour(self, audio: torch.Tensor) -> torch.Tensor:
        if self.taps is None:
            return audio
        return functional.conv1d(audio[:, None], self.taps.to(audio)[None, None], padding=TILT_TAPS // 2)[:, 0]

    def choose_gain(self, audio: torch.Tensor, inside: slice) -> float:
        """The gain for coloured audio, of which the samples `inside` are to be as loud as asked for.

        By the secant: a decibel of gain adds less than one of loudness, the less the more is limited.
        """
        level, high = loudness(audio[:, inside].cpu(), self.rate), peaks(audio)
        if math.isinf(level):
            return 1.0
        least = gain_db = min(self.target - level, MAX_GAIN_DB)
        before: tuple[float, float] | None = None
        slope = 1.0
        for _ in range(ROUNDS):
            if float(high.max()) * 10.0 ** (gain_db / 20.0) <= self.limit:
                break  # nothing is taken away
            heard = loudness(self._limit(audio, 10.0 ** (gain_db / 20.0), high)[:, inside].cpu(), self.rate)
            if before is not None and gain_db != before[0]:
                slope = min(max((heard - before[1]) / (gain_db - before[0]), 0.2), 1.0)
            before, miss = (gain_db, heard), level + least - heard
            gain_db = min(max(gain_db + miss / slope, least), least + MAKE_UP_DB)
            if abs(miss) < CLOSE_LU or gain_db == before[0]:
                break
        return 10.0 ** (gain_db / 20.0)

    def measure(self, chunks: list[torch.Tensor]) -> None:
        """Choose the gain by the whole piece, before `run`; a piece of one chunk needs no more than `run`."""
        if self.target is not None and len(chunks) > 1:
            self.gain = self.choose_gain(self._colour(torch.cat(chunks, dim=1)), slice(None))

    def _level(self, audio: torch.Tensor, inside: slice) -> torch.Tensor:
        """Audio coloured, brought to its level and limited; the first decides on the gain by its samples `inside`."""
        audio = self._colour(audio)
        if self.target is None:
            return audio
        if self.gain is None:
            self.gain = self.choose_gain(audio, inside)
        return self._limit(audio, self.gain, peaks(audio))

    def _allowed(self, high: torch.Tensor) -> torch.Tensor:
        """The gain, up to 1, that each sample may have whose true peak is `high` (n,)."""
        return (self.limit / high.clamp_min(1e-9)).clamp_max(1.0)

    def _limit(self, audio: torch.Tensor, gain: float, high: torch.Tensor) -> torch.Tensor:
        """Audio times `gain`, turned down where its true peaks, `high` (n,) before the gain, would exceed the limit."""
        audio, need = audio * gain, self._allowed(high * gain)
        if bool((need == 1.0).all()):
            return audio
        return (audio * limiter_gain(need, self.ahead)).clamp(-1.0, 1.0)

    def _fade(self, audio: torch.Tensor, start: int) -> torch.Tensor:
        if not self.fade_in and not self.fade_out:
            return audio
        position = torch.arange(start, start + audio.shape[1], dtype=torch.float64, device=audio.device) + 0.5
        into = (position / max(self.fade_in, 1)).clamp(0.0, 1.0) if self.fade_in else torch.ones_like(position)
        left = (self.total - position) / max(self.fade_out, 1)
        out = left.clamp(0.0, 1.0) if self.fade_out else torch.ones_like(position)
        return audio * (torch.sin(math.pi / 2 * into) * torch.sin(math.pi / 2 * out)).square().to(audio)

    def _around(self, size: int, device: torch.device) -> tuple[torch.Tensor, slice]:
        """Places of a circle of `size` samples with as much of its other end as the filters reach, and the circle."""
        index = torch.arange(-self.reach, size + self.reach, device=device) % size
        return index, slice(self.reach, self.reach + size)

    def level_parts(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Parts (channels, samples) of a whole piece -> stems whose sum has the level and tone of the piece.

        At each sample all are turned by the gain and the limiter of their sum. They are rounded to 16 bit, so that
        their sum is exact, in memory as in files.
        """
        size = parts[0].shape[1]
        index, inside = torch.arange(size, device=parts[0].device), slice(None)
        if self.loop:
            index, inside = self._around(size, parts[0].device)
        coloured = [self._colour(part[:, index]) for part in parts]
        turned = torch.ones_like(coloured[0][0])
        if self.target is not None:
            mix = torch.stack(coloured).sum(0)
            gain = self.choose_gain(mix, inside)
            turned = gain * limiter_gain(self._allowed(peaks(mix) * gain), self.ahead)
        stems = [self._fade((part * turned)[:, inside], 0) for part in coloured]
        return [(stem * 32768.0).round() / 32768.0 for stem in stems]

    def run(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Chunks (channels, n) fp32 in, chunks out, later by the reach of the filters; together as long."""
        held, known, done = None, 0, 0  # `held` begins at sample `known`; samples before `done` have been given out
        for chunk in chunks:
            if self.loop:
                index, inside = self._around(chunk.shape[1], chunk.device)
                yield self._level(chunk[:, index], inside)[:, inside]
                return
            held = chunk if held is None else torch.cat([held, chunk], dim=1)
            ready = known + held.shape[1] - self.reach
            if ready > done:
                levelled = self._level(held, slice(None))[:, done - known : ready - known]
                yield self._fade(levelled, done)
                done = ready
                drop = max(0, done - self.reach - known)
                held, known = held[:, drop:], known + drop
        if held is not None and done < known + held.shape[1]:
            yield self._fade(self._level(held, slice(None))[:, done - known :], done)
