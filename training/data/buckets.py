"""Clips of different length in one run: batches of like lengths, padded to the longest of them and no further."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.data import default_collate

WINDOW = 64  # batches among which items are sorted by length
FRAME_WISE = ("latents", "frame_mask", "grid", "mask")  # entries of an item whose last axis is frames


class LengthBuckets:
    """The lengths that batches are padded to: 1/n, 2/n, ... of `crop_frames`, so that kernels see few shapes.

    Args:
        lengths: frames of each item.
        crop_frames: the longest.
        count: n; 1 pads every batch to `crop_frames`.

    Raises:
        ValueError: more buckets than frames.
    """

    def __init__(self, lengths: Sequence[int], crop_frames: int, count: int):
        if not 1 <= count <= crop_frames:
            raise ValueError(f"length_buckets is {count}; allowed: 1 to crop_frames = {crop_frames}")
        self.edges = np.array([-(-crop_frames * (index + 1) // count) for index in range(count)])
        self.bucket = np.searchsorted(self.edges, np.minimum(lengths, crop_frames))  # (items,)

    def collate(self, items: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """A batch, cut after the first length that holds all of its visible frames."""
        longest = max(int(item["frame_mask"].sum()) for item in items)
        frames = int(self.edges[np.searchsorted(self.edges, longest)])
        cut = [{k: v[..., :frames] if k in FRAME_WISE else v for k, v in item.items()} for item in items]
        return default_collate(cut)


class Regrouped:
    """Positions of a run in another order: within each WINDOW of batches those of like lengths share a batch.

    Each position is still read once, so that an epoch remains an epoch, and the order is a function of the position
    alone: a killed run finds it again, and the number of processes has no part in it.

    Args:
        bucket: of each item, (items,).
        batch_size: of the whole step.
        item_at: position -> item.
        rng_of: window -> the generator that shuffles its batches.
    """

    def __init__(
        self,
        bucket: np.ndarray,
        batch_size: int,
        item_at: Callable[[int], int],
        rng_of: Callable[[int], np.random.Generator],
    ):
        self.bucket, self.batch_size, self.item_at, self.rng_of = bucket, batch_size, item_at, rng_of
        self._window, self._order = -1, None

    def __call__(self, position: int) -> int:
        """The position that is read in the place of this one."""
        size = WINDOW * self.batch_size
        window, offset = divmod(position, size)
        if window != self._window:
            buckets = [self.bucket[self.item_at(window * size + place)] for place in range(size)]
            batches = np.argsort(buckets, kind="stable").reshape(WINDOW, self.batch_size)
            self._window, self._order = window, self.rng_of(window).permutation(batches).reshape(-1)
        return window * size + int(self._order[offset])
