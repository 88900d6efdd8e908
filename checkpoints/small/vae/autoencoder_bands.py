"""Bands of the bins of a spectrum, as edges: band k has the bins from edges[k] up to edges[k + 1].

This file is published with every checkpoint and imports only torch and numpy.
"""

import math

import numpy as np
import torch


def widening(num_bins: int, spacing: float, fine_hertz: float | None) -> list[int]:
    """Edges of bands of bins: one bin each up to `fine_hertz`, then in proportion to the frequency."""
    edges = [0]
    while edges[-1] < num_bins:
        width = 1 if fine_hertz is None else max(1, round(edges[-1] * spacing / fine_hertz))
        edges.append(min(num_bins, edges[-1] + width))
    return edges


def mel_edges(num_bins: int, nyquist: float, bands: int) -> list[int]:
    """Edges of so many bands of bins, evenly spaced on the mel scale where they are wide enough; none for 0 bands."""
    if not bands:
        return []
    places = np.linspace(0.0, math.log10(1.0 + nyquist / 700.0), bands + 1)
    edges = np.round(700.0 * (10.0**places - 1.0) / nyquist * num_bins).astype(int)
    lowest = np.arange(bands + 1)  # a bin each at least
    return [
        int(edge) for edge in np.minimum(np.maximum.accumulate(np.maximum(edges, lowest)), num_bins - bands + lowest)
    ]


def bands_of(edges: list[int], device: torch.device) -> torch.Tensor:
    """The band of each bin, (bins,)."""
    widths = torch.tensor(edges, device=device).diff()
    return torch.arange(len(edges) - 1, device=device).repeat_interleave(widths)


def band_sums(values: torch.Tensor, edges: list[int], dim: int) -> torch.Tensor:
    """Sums over the bins of each band."""
    shape = list(values.shape)
    shape[dim] = len(edges) - 1
    return values.new_zeros(shape).index_add_(dim, bands_of(edges, values.device), values)
