"""Is a place in a piece like any other place in it? For loops, edits and the windows of long pieces.

At a seam two things can be wrong: the waveform steps (a click), or all that sounds changes at once (spectral flux). How
much of either is too much depends on the music, so a place is given its rank among the places of the piece itself: the
share of them that have less. Where there is no seam, ranks are spread evenly from 0 to 1. Music begins much on its
downbeats, so a place on a downbeat ranks high without any seam: compare it with other downbeats, or with real music.
"""

import numpy as np

WINDOW_S = 512 / 24000  # of the spectra that are compared: those right after a moment and right before it
HOP_S = 64 / 24000
NEAR_S = 0.03  # a place is the worst moment so near to it
EVERY_S = 0.06  # places of the piece that it is compared with
FLOOR = 1e-2  # added to magnitudes: what is weaker is silence


def flux(audio: np.ndarray, sampling_rate: int, circle: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean rise of the log spectrum at moments of (samples,), and their times in samples.

    Args:
        audio: one channel.
        sampling_rate: Hz.
        circle: whether the last sample is followed by the first.
    """
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
    """For each place (in samples) the share of the piece's moments at which less begins, 0 to 1; 1 = none more."""
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
    """For each place the share of the piece's steps from sample to sample that are smaller than the one that leads to
    sample `place`."""
    steps = np.abs(np.diff(audio, prepend=audio[-1] if circle else audio[0]))  # steps[i] leads to sample i
    order = np.sort(steps)
    return [float(np.searchsorted(order, steps[place % len(audio)]) / len(order)) for place in places]


def _distance(a: float, b: float, samples: int, circle: bool) -> float:
    apart = abs(a - b)
    return min(apart, samples - apart) if circle else apart


def detuning_cents(audio: np.ndarray, reference: np.ndarray, sampling_rate: int) -> float:
    """By how much one circle (samples,) is tuned higher than another that sounds the same, cents, up to 60.

    The shift of the logarithmic frequency axis at which their average spectra agree best. Spectra are of a quarter of a
    second, in which the harmonics of the circle itself do not stand apart.
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
