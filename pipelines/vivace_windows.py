"""Pieces of any length in constant memory: window after window, each begun by the end of the one before.

A window is given its first frames by mask, as the network was trained to go on, and shares their whole path through the
noise; its last frames, which have seen nothing of what follows, are thrown away and drawn again by the next window. The
grid, the noise and the texts are those of the whole piece, so tempo, chords and timeline run on exactly.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

from collections.abc import Iterator

WINDOW = 512  # frames; what is not longer is made in one piece
CONTEXT = 128  # frames that a window is given
REDRAWN = 32  # frames at its end that the next one draws again


def windows(frames: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, last, given, done) of each window, in frames of the piece.

    The window spans [first, last); [first, given) is given; [given, done) is new and final.
    """
    if frames <= WINDOW:
        yield 0, frames, 0, frames
        return
    first, given = 0, 0
    while True:
        last = min(first + WINDOW, frames)
        done = frames if last == frames else last - REDRAWN
        yield first, last, given, done
        if done == frames:
            return
        first, given = done - CONTEXT, done
