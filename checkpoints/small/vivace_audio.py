"""Sound as a signal: its rate, level, tone and beats; what of given audio is kept and what is made, and their join."""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from .vivace_files import read_audio
from .vivace_theory import check_number


def resample(audio: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """(channels, n) at `rate` -> (channels, ceil(n * new_rate / rate)) at `new_rate`, by its spectrum.

    The ends are mirrored into a margin, so that neither rings into the other; the last 4 % below the lower of the two
    Nyquist frequencies are faded, so that the cut does not ring.
    """
    if rate == new_rate:
        return audio
    samples = audio.shape[1]
    wanted = -(-samples * new_rate // rate)
    margin = rate // 4  # a quarter of a second
    step = rate // np.gcd(rate, new_rate)
    before = -(-margin // step) * step  # so that sample 0 falls on a new sample
    after = margin + (-(before + samples + margin)) % step
    index = torch.arange(-before, samples + after).abs()
    index = index % (2 * samples)
    index = torch.where(index < samples, index, 2 * samples - 1 - index)
    longer = audio[:, index]
    size, new_size = longer.shape[1], longer.shape[1] * new_rate // rate
    spectrum = torch.fft.rfft(longer)
    bins = min(size, new_size) // 2 + 1
    fade = torch.ones(bins, dtype=torch.float32)
    width = max(1, bins // 25)
    fade[-width:] = torch.linspace(0.5 * torch.pi, 0.0, width, dtype=torch.float32).sin()
    kept = torch.zeros(audio.shape[0], new_size // 2 + 1, dtype=spectrum.dtype)
    kept[:, :bins] = spectrum[:, :bins] * fade
    first = before * new_rate // rate
    return torch.fft.irfft(kept, n=new_size)[:, first : first + wanted] * (new_size / size)


def fit_circle(audio: torch.Tensor, samples: int) -> torch.Tensor:
    """A circle of audio (channels, n) -> the same circle in `samples` samples: still exactly periodic.

    Its pitch moves by 1200 log2(n / samples) cents.
    """
    if audio.shape[1] == samples:
        return audio
    spectrum = torch.fft.rfft(audio)
    bins = min(audio.shape[1], samples) // 2 + 1
    kept = torch.zeros(audio.shape[0], samples // 2 + 1, dtype=spectrum.dtype, device=audio.device)
    kept[:, :bins] = spectrum[:, :bins]
    if min(audio.shape[1], samples) % 2 == 0:
        kept[:, bins - 1] = 0.0  # the Nyquist bin of one length is an ordinary one of the other
    return torch.fft.irfft(kept, n=samples) * (samples / audio.shape[1])


def mix_channels(audio: torch.Tensor, channels: int) -> torch.Tensor:
    """(any, n) -> (channels, n): as it is, or its mean in each channel."""
    return audio if audio.shape[0] == channels else audio.mean(0, keepdim=True).expand(channels, -1)


# Level and tone: loudness, true peak, brightness, fades. All but the choice of one gain is local, so that a stream can
# be levelled as it comes.


LOUDNESS_LUFS = -16.0  # of what is made, where a call does not say
MAX_GAIN_DB = 40.0  # of normalisation: silence stays silence
MAKE_UP_DB = 3.0  # at most so much more gain for what the limiter takes away: music is not to be crushed
CLOSE_LU, ROUNDS = 0.1, 5  # of the search for it
LOOKAHEAD_S = 0.005  # of the limiter
# The compressor: the grid of its gain, the time over which a level is taken, and that over which the usual one is, s.
STEP_S, LEVEL_S, USUAL_S = 0.005, 0.1, 6.0
KNEE_DB = 6.0  # width of the bend, half of it below the usual level
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


def mean_around(values: torch.Tensor, half: int, loop: bool) -> torch.Tensor:
    """Mean of (n,) values over `half` neighbours on either side, in a circle or over those that there are."""
    if loop:
        values = values[torch.arange(-half, len(values) + half) % len(values)]
    padding = 0 if loop else half
    return functional.avg_pool1d(values[None], 2 * half + 1, 1, padding, count_include_pad=False)[0]


def compressor_step(sampling_rate: int) -> int:
    """Samples of a step of the compressor's gain."""
    return max(1, round(STEP_S * sampling_rate))


def compressor_reach(sampling_rate: int) -> int:
    """How many samples before and after one decide on the compressor's gain there."""
    return (round(LEVEL_S / STEP_S / 2) + round(USUAL_S / STEP_S / 2) + 2) * compressor_step(sampling_rate)


def compressor_gain(mix: torch.Tensor, sampling_rate: int, ratio: float, loop: bool) -> torch.Tensor:
    """The gain (n,), up to 1, of a compressor that keeps the level of a mix (channels, n) steady.

    Where the RMS over `LEVEL_S` exceeds the usual one of the `USUAL_S` around it, `ratio` dB of excess become one. The
    usual one is the mean in which each moment weighs by the root of its RMS, so that neither rests nor single loud
    notes move it much. There is no absolute level: the gain is the same for a louder mix, and depends on nothing beyond
    `compressor_reach` samples. It is slow beside an attack, which keeps its shape.

    Args:
        mix: audio.
        sampling_rate: Hz.
        ratio: from 1, which changes nothing.
        loop: whether the mix is a circle.
    """
    size, step = mix.shape[1], compressor_step(sampling_rate)
    count = max(1, round(size / step)) if loop else -(-size // step)
    length = size / count if loop else step  # a circle has whole steps
    edges = (torch.arange(count + 1, dtype=torch.float64) * length).round().long().clamp_max(size)
    energy = functional.pad(mix.square().mean(0).cpu().double().cumsum(0), (1, 0))[edges]
    power = energy.diff() / edges.diff()
    level = mean_around(power, round(LEVEL_S / STEP_S / 2), loop).clamp_min(1e-24).sqrt()
    half = round(USUAL_S / STEP_S / 2)
    usual = (mean_around(level, half, loop) / mean_around(level.sqrt(), half, loop)).square()
    over = 20.0 * torch.log10(level / usual)
    bent = (over + KNEE_DB / 2).clamp(0.0, KNEE_DB).square() / (2 * KNEE_DB) + (over - KNEE_DB / 2).clamp_min(0.0)
    gain = 10.0 ** ((1.0 / ratio - 1.0) * bent / 20.0)
    # Between the middles of the steps in a straight line; beyond the first and the last as there, or round the circle.
    gain = torch.cat([gain[-1:], gain, gain[:1]] if loop else [gain[:1], gain, gain[-1:]])
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / length + 0.5
    before = place.long()
    return torch.lerp(gain[before], gain[before + 1], place - before).to(mix)


class Leveller:
    """Brings audio to a level and tone, chunk by chunk.

    First a compressor, if there is one, keeps the level steady; then tone and gain; what then exceeds the limit is
    turned down by a limiter that looks ahead, so nothing is ever clipped. The gain is the one
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
        compression_ratio: see `compressor_gain`; 1 = no compressor, and none without `loudness_lufs`.
    """

    def __init__(
        self, sampling_rate: int, total_samples: int, loudness_lufs: float | None, true_peak_dbtp: float,
        tilt_db: float, fade_in_s: float, fade_out_s: float, loop: bool, compression_ratio: float = 1.0,
    ):  # fmt: skip
        self.rate, self.total, self.loop = sampling_rate, total_samples, loop
        self.target, self.limit = loudness_lufs, 10.0 ** (true_peak_dbtp / 20.0)
        self.fade_in, self.fade_out = round(fade_in_s * sampling_rate), round(fade_out_s * sampling_rate)
        self.taps = tilt_filter(tilt_db, sampling_rate) if tilt_db else None
        self.ahead = round(LOOKAHEAD_S * sampling_rate)
        self.reach = (TILT_TAPS // 2 if tilt_db else 0) + (
            2 * self.ahead + PEAK_TAPS if loudness_lufs is not None else 0
        )
        self.ratio = 1.0 if loudness_lufs is None else compression_ratio
        self.gain: float | None = None

    def _compress(self, audio: torch.Tensor, mix: torch.Tensor | None = None) -> torch.Tensor:
        """Audio (channels, n) with the compressor's gain for it, or for the `mix` that it is part of."""
        if self.ratio == 1.0:
            return audio
        return audio * compressor_gain(audio if mix is None else mix, self.rate, self.ratio, self.loop)

    def _colour(self, audio: torch.Tensor) -> torch.Tensor:
        if self.taps is None:
            return audio
        return functional.conv1d(audio[:, None], self.taps.to(audio)[None, None], padding=TILT_TAPS // 2)[:, 0]

    def choose_gain(self, audio: torch.Tensor, inside: slice) -> float:
        """The gain for coloured audio, of which the samples `inside` are to be as loud as asked for.

        By the secant: a decibel of gain adds less than one of loudness, the less the more is limited.
        """
        assert self.target is not None
        level, high = loudness(audio[:, inside].cpu(), self.rate), peaks(audio)
        if math.isinf(level):
            return 1.0
        least = gain_db = min(self.target - level, MAX_GAIN_DB)
        before: tuple[float, float] | None = None
        slope = 1.0
        for _ in range(ROUNDS):
            if float(high.max()) * 10.0 ** (gain_db / 20.0) <= self.limit:
                break  # nothing is taken away
            reached = loudness(self._limit(audio, 10.0 ** (gain_db / 20.0), high)[:, inside].cpu(), self.rate)
            if before is not None and gain_db != before[0]:
                slope = min(max((reached - before[1]) / (gain_db - before[0]), 0.2), 1.0)
            before, miss = (gain_db, reached), level + least - reached
            gain_db = min(max(gain_db + miss / slope, least), least + MAKE_UP_DB)
            if abs(miss) < CLOSE_LU or gain_db == before[0]:
                break
        return 10.0 ** (gain_db / 20.0)

    def measure(self, chunks: list[torch.Tensor]) -> None:
        """Choose the gain by the whole piece, before `run`; a piece of one chunk needs no more than `run`."""
        if self.target is not None and len(chunks) > 1:
            self.gain = self.choose_gain(self._colour(self._compress(torch.cat(chunks, dim=1))), slice(None))

    def _level(self, audio: torch.Tensor, inside: slice) -> torch.Tensor:
        """Compressed audio coloured, brought to its level and limited; the first decides on the gain by its samples
        `inside`."""
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

        At each sample all are turned by the compressor, the gain and the limiter of their sum. They are rounded to 16
        bit, so that their sum is exact, in memory as in files.
        """
        if self.ratio != 1.0:
            mix = torch.stack(parts).sum(0)
            parts = [self._compress(part, mix) for part in parts]
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
        held, begin, done = None, 0, 0  # `held` begins at sample `begin`; samples before `done` have been given out
        grid, reach = 1, self.reach
        if self.ratio != 1.0:
            grid, reach = compressor_step(self.rate), reach + compressor_reach(self.rate)
        for chunk in chunks:
            if self.loop:
                index, inside = self._around(chunk.shape[1], chunk.device)
                yield self._level(self._compress(chunk)[:, index], inside)[:, inside]
                return
            held = chunk if held is None else torch.cat([held, chunk], dim=1)
            ready = begin + held.shape[1] - reach
            if ready > done:
                levelled = self._level(self._compress(held), slice(None))[:, done - begin : ready - begin]
                yield self._fade(levelled, done)
                done = ready
                drop = max(0, done - reach - begin) // grid * grid  # so that the compressor's steps stay where they are
                held, begin = held[:, drop:], begin + drop
        if held is not None and done < begin + held.shape[1]:
            yield self._fade(self._level(self._compress(held), slice(None))[:, done - begin :], done)


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
    gain = working_gain(given, rate)
    strength = 1.0 if strength is None else float(strength)
    audio = mirrored(given, before, after)
    return Edit(audio, rate, mask, strength, gain, before / rate, samples, recipe=recipe, arguments=arguments)


def working_gain(audio: torch.Tensor, rate: int) -> float:
    """The gain that brings audio (channels, samples) to the level at which the network works, that of its mono mix."""
    level = loudness(audio.mean(0, keepdim=True), rate)
    return 1.0 if math.isinf(level) else min(10.0 ** ((WORKING_LUFS - level) / 20.0), 1e3)


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


def steadied(edit: Edit, made: torch.Tensor, ratio: float) -> torch.Tensor:
    """What was made, (channels, n), through the compressor, at a gain that leaves the kept places at their level."""
    steady = made * compressor_gain(made, edit.rate, ratio, edit.loop)
    kept = ~edit.mask
    if not made[:, kept].any():
        return steady
    return steady * (made[:, kept].square().mean() / steady[:, kept].square().mean()).sqrt()


def splice(
    edit: Edit, made: torch.Tensor, sampling_rate: int, true_peak_dbtp: float | None, compression_ratio: float = 1.0
) -> torch.Tensor:
    """The input with what was made put in, (channels, samples) at the input's rate.

    What was made is steadied (`steadied`), gets the level of what is kept (`matching_gain`) and is faded in; where the
    true peaks of the two together would exceed `true_peak_dbtp`, or the input's own where that is higher, a limiter
    turns down what was made. Kept samples are those of the input.

    Args:
        edit: what was asked for.
        made: the whole piece as the autoencoder decoded it, (channels, samples) at `sampling_rate`.
        true_peak_dbtp: None = what was made keeps its own level and is limited at full scale only.
        compression_ratio: 1 = no compressor, and none without `true_peak_dbtp`.
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
        if compression_ratio != 1.0:
            made = steadied(edit, made, compression_ratio)
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
