"""What is wrong with a waveform as such: clipping, silence, offset, level, missing treble."""

from itertools import pairwise

import numpy as np

CLIP_LEVEL = 0.999  # of full scale
SILENCE_DB = -60.0  # RMS of a 50 ms window
BANDWIDTH_DB = -60.0  # below the strongest band


def signal_figures(audio: np.ndarray, sampling_rate: int) -> dict[str, float]:
    """Figures of one clip.

    Args:
        audio: (samples,) in [-1, 1].
        sampling_rate: Hz.

    Returns:
        `peak` (0 to 1), `rms_db` (dB of full scale), `crest_db`, `dc` (mean), `clipped` (share of samples in runs of at
        least three at full scale), `silent` (share of 50 ms windows below -60 dB), `bandwidth_hz` (highest frequency
        whose long-term third-octave level is within 60 dB of the strongest band).

    Raises:
        ValueError: not one-dimensional, empty, or with values that are not finite.
    """
    if audio.ndim != 1 or not len(audio):
        raise ValueError(f"audio has shape {audio.shape}; needed: (samples,) with at least one sample")
    if not np.isfinite(audio).all():
        raise ValueError("audio has values that are not finite")
    audio = audio.astype(np.float64)
    peak, rms = float(np.abs(audio).max()), float(np.sqrt(np.mean(audio**2)))
    full = np.abs(audio) >= CLIP_LEVEL
    # A single sample may touch full scale unharmed; a flat top is three or more.
    runs = full[:-2] & full[1:-1] & full[2:] if len(audio) > 2 else np.zeros(0, bool)
    flat = np.zeros(len(audio), bool)
    for shift in range(3):
        flat[shift : shift + len(runs)] |= runs
    window = max(1, round(0.05 * sampling_rate))
    parts = audio[: len(audio) // window * window].reshape(-1, window) if len(audio) >= window else audio[None]
    levels = 20.0 * np.log10(np.sqrt(np.mean(parts**2, axis=1)) + 1e-12)
    return {
        "peak": peak,
        "rms_db": 20.0 * np.log10(rms + 1e-9),
        "crest_db": 20.0 * np.log10((peak + 1e-9) / (rms + 1e-9)),
        "dc": float(audio.mean()),
        "clipped": float(flat.mean()),
        "silent": float((levels < SILENCE_DB).mean()),
        "bandwidth_hz": _bandwidth(audio, sampling_rate),
    }


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
