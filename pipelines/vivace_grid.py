"""The frame grid: where in the beat and in the bar each latent frame stands, and which chord sounds there.

Training builds its grids with the same function, so that both agree.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import numpy as np
import torch

GRID_CHANNELS = 22
CHORD_CHANNELS = (*range(8, 20), 21)
BEAT_HARMONICS = (1, 2, 4)


def frame_grid(
    num_frames: int,
    frame_rate: float,
    bpm: float | None = None,
    beats_per_bar: int | None = None,
    downbeat_s: float = 0.0,
    beat_chroma: np.ndarray | list | None = None,
    first_beat_s: float = 0.0,
) -> torch.Tensor:
    """What each latent frame is told: beat and bar phase, chord, and whether these are known.

    Channels: 0-5 sin, cos of 2 pi h beat_phase for h = 1, 2, 4; 6-7 sin, cos of 2 pi bar_phase; 8-19 chord chroma
    (0 or 1, C first); 20 grid known; 21 chord known. A group that is absent is zero.

    Args:
        num_frames: length of the grid.
        frame_rate: latent frames a second; frame i is centred at (i + 0.5) / frame_rate seconds.
        bpm: beats a minute, None = no grid.
        beats_per_bar: None = no bar phase.
        downbeat_s: time of a first beat of a bar, seconds; may lie outside the clip.
        beat_chroma: (beats, 12); row k sounds from first_beat_s + k * 60 / bpm for one beat; a row of zeros = unknown.
        first_beat_s: time of row 0 of `beat_chroma`, seconds.

    Returns:
        (22, num_frames) float32.
    """
    grid = np.zeros((GRID_CHANNELS, num_frames), dtype=np.float64)
    if bpm is None:
        return torch.from_numpy(grid).float()
    times = (np.arange(num_frames) + 0.5) / frame_rate  # seconds
    beats = (times - downbeat_s) * bpm / 60.0
    for row, harmonic in enumerate(BEAT_HARMONICS):
        angle = 2.0 * np.pi * ((harmonic * beats) % 1.0)
        grid[2 * row], grid[2 * row + 1] = np.sin(angle), np.cos(angle)
    if beats_per_bar is not None:
        angle = 2.0 * np.pi * ((beats / beats_per_bar) % 1.0)
        grid[6], grid[7] = np.sin(angle), np.cos(angle)
    grid[20] = 1.0
    if beat_chroma is not None and len(beat_chroma):
        chroma = np.asarray(beat_chroma, dtype=np.float64)  # (beats, 12)
        index = np.floor((times - first_beat_s) * bpm / 60.0).astype(int)
        inside = (index >= 0) & (index < len(chroma))
        grid[8:20, inside] = chroma[index[inside]].T
        grid[21] = grid[8:20].any(axis=0)
    return torch.from_numpy(grid).float()
