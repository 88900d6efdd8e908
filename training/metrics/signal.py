"""Metrics of a waveform alone: level, clipping, silence, offset, clicks, bandwidth, and seams within a piece.

`signal_figures` and `seam_figures` are those of a report; the ranks at the end compare a position in a piece (the seam
of a loop, the border of an edit or of a window) with all other positions.
"""

import math
from itertools import pairwise

import numpy as np
import pyloudnorm
from scipy.ndimage import uniform_filter1d

CLIP_LEVEL = 0.999  # of full scale
SILENCE_DB = -60.0  # RMS of a 50 ms window
BANDWIDTH_DB = -60.0  # below the strongest band
LOUDNESS_BLOCK_S = 0.4  # of ITU-R BS.1770; shorter clips have no loudness
CLICK_RATIO = 12.0  # of a fourth difference to its RMS around
CLICK_FLOOR = 0.02  # weaker fourth differences are inaudible
CLICK_NEAR_S, CLICK_FAR_S = 0.0003, 0.008  # range of the surroundings, before or after, whichever is louder
CLICK_MERGE_S = 0.005  # jumps closer together count as one click


def signal_figures(audio: np.ndarray, sampling_rate: int) -> dict[str, float | None]:
    """Figures of one clip, (samples,) or (channels, samples) in [-1, 1] at `sampling_rate` Hz.

    Returns:
        `peak` (0 to 1), `rms_db` (dB of full scale), `lufs` (integrated loudness by ITU-R BS.1770-4; None under 0.4 s
        or if nothing passes the gate), `crest_db`, `dc` (largest mean of a channel, as a magnitude), `clipped`
        (share of samples in runs of at least three at full scale), `silent` (share of 50 ms windows below -60 dB),
        `clicks` (a second), `bandwidth_hz` (highest frequency whose long-term third-octave level is within 60 dB of
        the strongest band).

    Raises:
        ValueError: of another shape, empty, or with values that are not finite.
    """
    audio = _checked(audio)
    peak, rms = float(np.abs(audio).max()), float(np.sqrt(np.mean(audio**2)))
    window = max(1, round(0.05 * sampling_rate))
    mono = audio.mean(axis=0)
    power = np.mean(audio**2, axis=0)
    parts = power[: len(power) // window * window].reshape(-1, window) if len(power) >= window else power[None]
    return {
        "peak": peak,
        "rms_db": 20.0 * np.log10(rms + 1e-9),
        "lufs": loudness(audio, sampling_rate),
        "crest_db": 20.0 * np.log10((peak + 1e-9) / (rms + 1e-9)),
        "dc": float(np.abs(audio.mean(axis=1)).max()),
        "clipped": float(np.mean([_flat_tops(channel).mean() for channel in audio])),
        "silent": float((10.0 * np.log10(parts.mean(axis=1) + 1e-12) < SILENCE_DB).mean()),
        "clicks": len(clicks(audio, sampling_rate)) / (audio.shape[1] / sampling_rate),
        "bandwidth_hz": _bandwidth(mono, sampling_rate),
    }


def loudness(audio: np.ndarray, sampling_rate: int) -> float | None:
    """Integrated loudness in LUFS of (channels, samples); None under 0.4 s or if nothing passes the gate."""
    if audio.shape[1] < LOUDNESS_BLOCK_S * sampling_rate or not np.any(audio):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(pyloudnorm.Meter(sampling_rate).integrated_loudness(audio.T))
    return value if math.isfinite(value) else None


def clicks(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Times in seconds at which the waveform jumps briefly.

    A sample is a click if the fourth difference, which passes only the highest frequencies, exceeds 12 times its RMS
    both in the 8 ms before and in the 8 ms after. The onset of a drum is followed by loud samples and does not count.
    """
    ratio = np.max([_jump_ratio(channel, sampling_rate) for channel in _checked(audio)], axis=0)
    places = np.flatnonzero(ratio > CLICK_RATIO)
    if not len(places):
        return np.zeros(0)
    first = np.concatenate([[True], np.diff(places) > CLICK_MERGE_S * sampling_rate])
    return places[first] / sampling_rate


def seam_figures(audio: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Metrics of the seam between the end and the start of a clip when it is repeated.

    Returns:
        `seam_click` (the ratio of `clicks` within 1 ms of the seam: above 12 it clicks; 0 if inaudible) and
        `seam_step_db` (level of the 50 ms after the seam minus that of the 50 ms before, dB, floored at -60 dB of full
        scale; music that starts on a downbeat and fades out has a rise too, so compare with real loops).

    Raises:
        ValueError: as `signal_figures`.
    """
    audio = _checked(audio)
    half = audio.shape[1] // 2
    turned = np.roll(audio, half, axis=1)  # the seam lies before sample `half`
    reach = max(2, round(0.001 * sampling_rate))
    near = slice(max(half - reach, 0), half + reach)
    window = min(max(1, round(0.05 * sampling_rate)), audio.shape[1])
    after, before = (np.sqrt(np.mean(part**2)) for part in (audio[:, :window], audio[:, -window:]))
    return {
        "seam_click": float(max(_jump_ratio(channel, sampling_rate)[near].max() for channel in turned)),
        "seam_step_db": 20.0 * math.log10(max(after, 1e-3) / max(before, 1e-3)),
    }


def _checked(audio: np.ndarray) -> np.ndarray:
    """(channels, samples) float64."""
    if audio.ndim not in (1, 2) or not audio.size:
        raise ValueError(f"audio has shape {audio.shape}; needed: (samples,) or (channels, samples), not empty")
    if not np.isfinite(audio).all():
        raise ValueError("audio has values that are not finite")
    return np.atleast_2d(audio).astype(np.float64)


def _flat_tops(channel: np.ndarray) -> np.ndarray:
    """(samples,) bool: within a run of three or more samples at full scale."""
    full = np.abs(channel) >= CLIP_LEVEL
    runs = full[:-2] & full[1:-1] & full[2:] if len(channel) > 2 else np.zeros(0, bool)
    flat = np.zeros(len(channel), bool)
    for shift in range(3):
        flat[shift : shift + len(runs)] |= runs
    return flat


def _jump_ratio(channel: np.ndarray, sampling_rate: int) -> np.ndarray:
    """(samples,) magnitude of the fourth difference over the louder of its RMS before and after; 0 below the floor."""
    if len(channel) < 8:
        return np.zeros(len(channel))
    jump = np.pad(np.diff(channel, 4), (2, 2))
    near, far = (max(1, round(s * sampling_rate)) for s in (CLICK_NEAR_S, CLICK_FAR_S))
    near = max(near, 5)  # a jump affects its four neighbours, which are left out
    length = max(far - near, 1)
    power = uniform_filter1d(jump**2, length, mode="nearest")
    shift = near + length // 2
    edged = np.pad(power, shift, mode="edge")
    before, after = edged[: len(power)], edged[2 * shift :]
    around = np.sqrt(np.maximum(np.maximum(before, after), 1e-16))
    return np.where(np.abs(jump) >= CLICK_FLOOR, np.abs(jump) / around, 0.0)


def _bandwidth(audio: np.ndarray, sampling_rate: int) -> float:
    """Upper edge in Hz of the highest third-octave band within BANDWIDTH_DB of the strongest; 0 for silence."""
    size = 2048
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, (0, max(0, size - len(audio)))), size)[:: size // 2]
    power = np.mean(np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2, axis=0)  # (bins,)
    frequencies = np.fft.rfftfreq(size, 1.0 / sampling_rate)
    edges = np.geomspace(100.0, sampling_rate / 2.0, 1 + int(3 * np.log2(sampling_rate / 200.0)))
    levels = np.array([power[(frequencies >= low) & (frequencies < high)].mean() for low, high in pairwise(edges)])
    if levels.max() <= 1e-12:
        return 0.0
    return float(edges[1:][levels > levels.max() * 10.0 ** (BANDWIDTH_DB / 10.0)].max())


# Ranks of a position within its piece, for the seams of loops, edits and the windows of long pieces.

WINDOW_S = 512 / 24000  # of the spectra right before and right after a moment, which are compared
HOP_S = 64 / 24000
NEAR_S = 0.03  # the flux of a position is the largest within this distance
EVERY_S = 0.06  # spacing of the positions that it is compared with
FLOOR = 1e-2  # added to magnitudes, so that weaker ones count as silence


def flux(audio: np.ndarray, sampling_rate: int, circle: bool) -> tuple[np.ndarray, np.ndarray]:
    """Spectral flux: mean rise of the log spectrum at moments of (samples,), and the times of these moments in samples;
    on a circle the last sample is followed by the first."""
    window, hop = round(WINDOW_S * sampling_rate), max(1, round(HOP_S * sampling_rate))
    lag = -(-window // hop)  # hops until windows no longer overlap
    margin = 2 * window + round(NEAR_S * sampling_rate) if circle else 0
    if margin:
        audio = audio[np.arange(-margin, len(audio) + margin) % len(audio)]
    if len(audio) < window + (lag + 1) * hop:
        return np.zeros(0), np.zeros(0)
    pieces = np.lib.stride_tricks.sliding_window_view(audio, window)[::hop]
    level = np.log10(np.abs(np.fft.rfft(pieces * np.hanning(window), axis=1)) + FLOOR)
    rise = np.maximum(level[lag:] - level[:-lag], 0.0).mean(axis=1)
    return rise, np.arange(len(rise)) * hop + (window + lag * hop) / 2 - margin


def flux_ranks(audio: np.ndarray, places: list[float], sampling_rate: int, circle: bool = False) -> list[float]:
    """For each place (in samples) the share of the piece's positions with a smaller flux, 0 to 1."""
    rise, times = flux(audio, sampling_rate, circle)
    near = NEAR_S * sampling_rate

    def worst(place: float) -> float:
        found = rise[np.abs(times - place) <= near]
        return float(found.max()) if len(found) else 0.0

    inner = np.arange(near, len(audio) - near, EVERY_S * sampling_rate)
    if not circle:
        inner = inner[(inner >= times.min(initial=np.inf)) & (inner <= times.max(initial=0.0))]
    clear = [p for p in inner if all(_distance(p, place, len(audio), circle) > 2 * near for place in places)]
    usual = np.array([worst(place) for place in clear])
    return [float((usual < worst(place)).mean()) if len(usual) else 0.0 for place in places]


def step_ranks(audio: np.ndarray, places: list[int], circle: bool = False) -> list[float]:
    """For each place the share of the steps between neighbouring samples that are smaller than the step to it."""
    steps = np.abs(np.diff(audio, prepend=audio[-1] if circle else audio[0]))  # steps[i] leads to sample i
    order = np.sort(steps)
    return [float(np.searchsorted(order, steps[place % len(audio)]) / len(order)) for place in places]


def _distance(a: float, b: float, samples: int, circle: bool) -> float:
    apart = abs(a - b)
    return min(apart, samples - apart) if circle else apart


def detuning_cents(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """By how many cents a loop (samples,) is tuned higher than a reference loop with the same music, -60 to 60.

    This is the shift of the logarithmic frequency axis at which their average spectra agree best. The spectra are taken
    over a quarter of a second, too short to resolve the harmonics of the loop's own period.
    """
    size = sampling_rate // 4
    pitches = 150.0 * 2.0 ** (np.arange(4 * 1200) / 1200.0)  # a cent apart, four octaves
    pitches = pitches[pitches < 0.45 * sampling_rate]

    def spectrum(circle: np.ndarray) -> np.ndarray:
        circle = circle[np.arange(len(circle) + size) % len(circle)]
        pieces = np.lib.stride_tricks.sliding_window_view(circle, size)[:: size // 4]
        power = np.mean(np.abs(np.fft.rfft(pieces * np.hanning(size), n=8 * size, axis=1)) ** 2, axis=0)
        level = np.interp(pitches, np.arange(len(power)) * sampling_rate / (8 * size), power)
        return np.log(level + 1e-4 * level.max() + 1e-20)

    ours, theirs = spectrum(audio), spectrum(reference)
    shifts, edge = np.arange(-60, 61), 100
    agreement = [
        np.corrcoef(theirs[edge:-edge], ours[edge + k : len(ours) - edge + k])[0, 1] for k in shifts
    ]  # fmt: skip
    best = int(np.clip(np.argmax(agreement), 1, len(shifts) - 2))
    left, middle, right = agreement[best - 1 : best + 2]
    return float(shifts[best] + (left - right) / (2.0 * (left - 2.0 * middle + right) - 1e-12))
