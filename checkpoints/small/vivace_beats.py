"""Tempo, beat and downbeat of given audio, so that what is made anew stays on its grid.

A plain estimate for audio with a steady beat: onsets by spectral flux, tempo by their autocorrelation at several beats'
distance, phase and bar by what falls on them.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import numpy as np
import torch

from .vivace_audio import resample

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
    heard = [np.interp(k * period, np.arange(size), correlation, right=0.0) for k in (1, 2, 3, 4)]
    prior = np.exp(-0.5 * (np.log2(tempi / USUAL_BPM) / SPREAD_OCTAVES) ** 2)
    best = int(np.argmax(np.mean(heard, axis=0) * prior))
    if heard[0][best] < CLEAR:
        return None
    # The whole clip decides to a fraction of a percent: the tempo whose harmonics the envelope has most of.
    near = tempi[best] * np.linspace(0.97, 1.03, 241)
    times = np.arange(size) / ENVELOPE_HZ
    found = [
        sum(abs(np.exp(-2j * np.pi * h * bpm / 60.0 * times) @ envelope) for h in (1, 2, 4)) for bpm in near
    ]  # fmt: skip
    return float(near[int(np.argmax(found))])


def find_beats(audio: torch.Tensor, rate: int, bpm: float | None, beats_per_bar: int) -> tuple[float, float] | None:
    """Tempo and the time of a first beat of a bar, seconds, of (channels, samples); None where no beat is heard.

    Args:
        audio: at least `MIN_SECONDS` long, or nothing is found.
        rate: Hz.
        bpm: the tempo if it is known.
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
