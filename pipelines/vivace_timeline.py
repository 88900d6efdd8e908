"""Several texts in one piece: a timeline of prompts, or a morph from one to another.

At each frame the texts share the prediction by their weights, so that each also keeps its own pooled text, which
attention with a mask over one joint text could not give it.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import itertools
import re

import torch

CROSSFADE_S = 1.0  # between two texts of a timeline, centred on the second one's start


def is_timeline(prompt: object) -> bool:
    """Whether a prompt is a list of (start, text) pairs."""
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and not isinstance(entry[0], (list, tuple))
        and (not isinstance(entry[0], str) or re.fullmatch(r"\s*bar\s.*", entry[0]) is not None)
        for entry in prompt
    )  # fmt: skip


def read_start(start: float | str, bpm: float | None, beats_per_bar: int | None) -> float:
    """Seconds of a timeline's entry: a number, or "bar 5", whose start counts from bar 1.

    Raises:
        ValueError: neither of them, or bars without a tempo.
    """
    if isinstance(start, str):
        match = re.fullmatch(r"\s*bar\s+(\d{1,5})\s*", start)
        if match is None or int(match[1]) < 1:
            raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds, or a bar from 1, as in 'bar 5'")
        if bpm is None:
            raise ValueError(f"prompt starts an entry at {start!r}, which needs a tempo: give bpm")
        return (int(match[1]) - 1) * beats_per_bar * 60.0 / bpm
    if isinstance(start, bool) or not isinstance(start, (int, float)) or not start >= 0:
        raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds from 0, or a bar, as in 'bar 5'")
    return float(start)


def timeline_weights(starts_s: list[float], frames: int, frame_rate: float, duration_s: float) -> torch.Tensor:
    """Share of each text in each frame, (texts, frames): one after another, with crossfades of `CROSSFADE_S`.

    Raises:
        ValueError: a first entry that does not start at 0, entries out of order, or one that starts after the end.
    """
    if starts_s[0] != 0:
        raise ValueError(f"prompt's first entry starts at {starts_s[0]:g} s; it must start at 0 (or 'bar 1')")
    for before, start in itertools.pairwise(starts_s):
        if start <= before:
            raise ValueError(f"prompt has an entry at {start:g} s after one at {before:g} s; they must be in order")
    if starts_s[-1] >= duration_s:
        raise ValueError(f"prompt has an entry at {starts_s[-1]:g} s, but the piece is {duration_s:g} s long")
    times = (torch.arange(frames, dtype=torch.float64) + 0.5) / frame_rate
    entered = [((times - start) / CROSSFADE_S + 0.5).clamp(0.0, 1.0) for start in starts_s[1:]]
    entered = torch.stack([torch.ones_like(times), *entered, torch.zeros_like(times)])
    return (entered[:-1] - entered[1:]).float()  # what an entry has gained, less what the next one has


def morph_weights(frames: int) -> torch.Tensor:
    """(2, frames): from the first text alone to the second alone, in a straight line."""
    share = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    return torch.stack([1.0 - share, share]).float()
