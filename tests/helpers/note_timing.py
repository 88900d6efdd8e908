"""Measures of rendered clips: where notes begin in the audio, and whether a loop has a seam."""

import numpy as np


def note_rows(row):
    notes = row["notes"]
    return np.array([notes[name] for name in ("part", "onset_s", "duration_s", "pitch", "velocity")]).T


def onset_strength(audio, rate, hop):
    """Rise of the log spectrum, summed over frequency; frame k is centred k * hop samples after the start."""
    size = 512
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, size // 2), size)[::hop] * np.hanning(size)
    spectrum = np.log1p(1000.0 * np.abs(np.fft.rfft(frames)))
    return np.maximum(0.0, np.diff(spectrum, axis=0)).sum(axis=1)


def lag_s(audio, onsets, rate):
    """By how much the audio's onsets are later than those stated: the best match within 60 ms, to 2 ms."""
    hop = round(0.002 * rate)
    strength = onset_strength(audio, rate, hop)
    train = np.zeros(len(strength))
    places = np.round(onsets * rate / hop - 0.5).astype(int)
    np.add.at(train, places[(places >= 0) & (places < len(train))], 1.0)
    train = np.convolve(train, np.hanning(7), "same")
    lags = np.arange(-30, 31)
    scores = [np.dot(np.roll(train, lag), strength) for lag in lags]
    return lags[int(np.argmax(scores))] * hop / rate


def plucked(rows, seconds, rate):
    """Synthetic notes of known onset: three partials that decay, at the labelled times and pitches."""
    audio = np.zeros(round(seconds * rate) + rate)
    for _, onset, length, pitch, velocity in rows:
        time_s = np.arange(round(min(length, 0.5) * rate)) / rate
        wave = sum(np.sin(2 * np.pi * k * 440 * 2 ** ((pitch - 69) / 12) * time_s) / k for k in (1, 2, 3))
        first = round(max(onset, 0.0) * rate)
        audio[first : first + len(wave)] += (0.1 * velocity * wave * np.exp(-6 * time_s))[: len(audio) - first]
    return audio[: round(seconds * rate)]


def outside_at_the_seam(audio):
    """Whether a loop (channels, samples) moves at its seam as it does nowhere inside: in its waveform, and in short
    spectra of two passes in a row."""
    mono = audio.mean(axis=0)
    steps = np.abs(np.diff(mono))
    twice, hop, size = np.tile(mono, 2), 240, 1024
    frames = np.lib.stride_tricks.sliding_window_view(twice, size)[::hop] * np.hanning(size)
    flux = np.maximum(np.diff(np.log(1e-3 + np.abs(np.fft.rfft(frames))), axis=0), 0).mean(axis=1)
    seam = (len(mono) - size // 2) // hop
    beats = np.array([flux[max(0, k - 3) : k + 3].max() for k in range(len(flux))])
    return [
        abs(mono[0] - mono[-1]) > np.quantile(steps, 0.999),
        flux[seam - 3 : seam + 3].max() > np.quantile(beats, 0.995),
    ]
