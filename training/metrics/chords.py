"""Does each beat sound like the chord that was asked for?"""

import numpy as np


def chord_cosine(
    chroma: np.ndarray, frame_rate: float, beats_s: np.ndarray, bpm: float, requested: np.ndarray
) -> float | None:
    """Mean over beats of the cosine between the chroma heard during the beat and the requested chord.

    1 if exactly the chord's notes sound, equally strong; about 0.5 for a wrong chord, since energy is never negative.

    Args:
        chroma: (12, frames) energy by pitch class, C first.
        frame_rate: frames a second; frame i is centred at i / frame_rate seconds.
        beats_s: (beats,) in seconds; each lasts 60 / bpm.
        bpm: beats a minute.
        requested: (beats, 12) of 0 and 1; rows of zeros are left out.

    Returns:
        None if no chord was requested or the clip has no frame within a beat that has one.
    """
    cosines = []
    for start, wanted in zip(beats_s, requested, strict=True):
        first, last = np.ceil(np.array([start, start + 60.0 / bpm]) * frame_rate).astype(int)
        heard = chroma[:, max(first, 0) : last].mean(axis=1) if last > max(first, 0) < chroma.shape[1] else None
        if heard is None or not np.any(wanted):
            continue
        size = np.linalg.norm(heard) * np.linalg.norm(wanted)
        cosines.append(float(heard @ wanted / size) if size > 1e-12 else 0.0)
    return float(np.mean(cosines)) if cosines else None
