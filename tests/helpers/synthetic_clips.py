"""Clips whose tempo, beats, key and chords are known, and their rows."""

import numpy as np

RATE = 24000
SECONDS = 8.0
TRIADS = {"C": (0, 4, 7), "F": (5, 9, 0), "G": (7, 11, 2), "Am": (9, 0, 4)}


def clicks(bpm: float, shift_s: float = 0.0) -> np.ndarray:
    """A woodblock on each beat from `shift_s` on."""
    audio = np.zeros(int(SECONDS * RATE))
    tick = np.sin(2 * np.pi * 1500 * np.arange(1200) / RATE) * np.exp(-np.arange(1200) / 200)
    for time in np.arange(shift_s, SECONDS - 0.1, 60.0 / bpm):
        start = round(time * RATE)
        audio[start : start + len(tick)] += 0.7 * tick
    return audio.astype(np.float32)


def tones(progression: list[str], beat_s: float, semitones: int = 0) -> np.ndarray:
    """Each chord for four beats, sine tones with two harmonics over two octaves."""
    time = np.arange(int(SECONDS * RATE)) / RATE
    audio = np.zeros(len(time))
    bar = np.minimum((time / (4 * beat_s)).astype(int) % len(progression), len(progression) - 1)
    for index, name in enumerate(progression):
        for pitch_class in TRIADS[name]:
            for octave in (48, 60):
                hertz = 440.0 * 2 ** ((octave + pitch_class + semitones - 69) / 12)
                audio += (bar == index) * sum(np.sin(2 * np.pi * h * hertz * time) / h for h in (1, 2))
    return (0.05 * audio).astype(np.float32)


def row(bpm: float = 120.0, downbeat_s: float = 0.0, **labels) -> dict:
    """A labelled row of 8 s in 4/4 on C F G C."""
    beat_s = 60.0 / bpm
    grid = np.arange(downbeat_s % beat_s, SECONDS - 1e-6, beat_s)
    names = [("C", "F", "G", "C")[int(np.floor((b - downbeat_s) / beat_s / 4 + 1e-6)) % 4] for b in grid]
    chroma = [[int(pc in TRIADS[name]) for pc in range(12)] for name in names]
    base = {
        "file_name": "a.flac", "bpm": bpm, "time_signature": "4/4", "beats_per_bar": 4, "downbeat_s": downbeat_s,
        "beats_s": grid.tolist(), "downbeats_s": [b for b in grid if (b - downbeat_s) / beat_s % 4 < 1e-6],
        "key": "C major", "chords": chroma, "chord_symbols": names, "instruments": ["piano"], "drums": False,
        "style": "folk", "duration_s": SECONDS,
    }  # fmt: skip
    return base | labels
