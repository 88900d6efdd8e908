"""A phase for magnitudes: the first guess, by phase gradients, and the fast Griffin-Lim iteration that improves it.

The phase of a spectrum of a Gaussian window is determined by its magnitude: its derivative over time is the derivative
of the log-magnitude over frequency, and the other way round. For other windows this holds nearly (Prusa, Balazs and
Sondergaard 2017, "A noniterative method for reconstruction of phase from STFT magnitude").

This file is published with every checkpoint and imports only torch and numpy.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a Hann window of `size` samples every `hop` samples.

    Frame j is centred on sample (j + 0.5) * hop, so that frames tile the clip with none to spare; those of a circle lie
    where `circle` says. A full-scale sine has magnitude 1 (0 dB).
    """

    size: int
    hop: int

    @property
    def num_bins(self) -> int:
        return self.size // 2 + 1

    def window(self, device: torch.device) -> torch.Tensor:
        return torch.hann_window(self.size, device=device, dtype=torch.float32)

    def circle(self, frames: int, samples: int) -> torch.Tensor:
        """Where each window of a circle lies, (frames, size): the frames share its samples evenly, whatever their
        number, so that a circle of any length keeps its pitch; `hop` apart where that divides it. The first and last
        windows reach below 0 and beyond `samples`: there the circle closes."""
        centres = ((torch.arange(frames, dtype=torch.float64) + 0.5) * (samples / frames)).round().long()
        return centres[:, None] + torch.arange(self.size) - self.size // 2

    def forward(self, audio: torch.Tensor, circle: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, samples) with samples a multiple of the hop -> (batch, bins, samples / hop), complex."""
        window = self.window(audio.device)
        if circle is not None:
            spectrum = torch.fft.rfft(audio[:, circle] * window).transpose(1, 2)
        else:
            edge = (self.size - self.hop) // 2
            padded = nn.functional.pad(audio, (edge, edge))
            spectrum = torch.stft(padded, self.size, self.hop, window=window, center=False, return_complex=True)
        return spectrum * (4.0 / self.size)

    def inverse(self, spectrum: torch.Tensor, circle: torch.Tensor | None = None, samples: int = 0) -> torch.Tensor:
        """Least-squares inverse (Griffin and Lim 1984, eq. 6): (batch, bins, frames) -> (batch, samples); bins that are
        not there count as zero, and a circle's length has to be given."""
        size, hop = self.size, self.hop
        edge, frames = (size - hop) // 2, spectrum.shape[-1]
        window = self.window(spectrum.device)
        pieces = torch.fft.irfft(spectrum * (size / 4.0), n=size, dim=1) * window[:, None]
        overlap = size // hop

        def overlap_add(columns: torch.Tensor) -> torch.Tensor:  # (batch, size, frames) -> (batch, samples)
            if circle is not None:
                total = columns.new_zeros(columns.shape[0], samples)
                return total.index_add_(1, circle.flatten(), columns.transpose(1, 2).flatten(1))
            total = columns.new_zeros(columns.shape[0], frames + overlap - 1, hop)
            blocks = columns.transpose(1, 2).unflatten(2, (overlap, hop))  # (batch, frames, overlap, hop)
            for k in range(overlap):
                total[:, k : k + frames] += blocks[:, :, k]
            return total.flatten(1)[:, edge : edge + frames * hop]

        weight = overlap_add(window.square()[None, :, None].expand(1, size, frames))
        return overlap_add(pieces) / (weight if circle is None else weight.clamp_min(1e-8))  # 0 only at ends of an arc

    def gradient_phase(
        self, magnitude: torch.Tensor, first: torch.Tensor, starts: list[int], places: np.ndarray, hop: float
    ) -> torch.Tensor:
        """Unit phasors (batch, bins, frames) from the gradients of log-magnitudes (batch, bins, frames).

        From frame to frame each bin turns by its own phase step; within a frame bins take over the phase of a louder
        neighbour, by the phase step between them. Every step is a sum of phasors weighted by power, so that a small
        change of the magnitudes is a small change of the phase.

        Args:
            magnitude: as `forward` gives them, their absolute values.
            first: phasors (bins, frames) from which frames that begin anew take their phase.
            starts: the frames that begin anew, ascending, 0 first; others go on from the one before. What comes before
                a start does not matter for what follows, so that a clip may be cut there.
            places: (frames,), where the frames are centred, samples.
            hop: how far apart they are on average, samples.
        """
        bins, frames = magnitude.shape[1:]
        longest = max(b - a for a, b in zip(starts, [*starts[1:], frames], strict=True))
        index = torch.tensor(starts, device=magnitude.device)[:, None] + torch.arange(longest, device=magnitude.device)
        ends = torch.tensor([*starts[1:], frames], device=magnitude.device)[:, None] - 1
        index = torch.minimum(index, ends)  # (segments, longest)
        away = torch.from_numpy(np.diff(places, prepend=0.0)).to(magnitude)[index].T[:, None, :, None]
        size = self.size
        gamma = 0.25645 * size * size  # the Gaussian nearest to a Hann window
        sizes = magnitude[:, :, index].permute(3, 0, 2, 1)  # (longest, batch, segments, bins)
        log = (sizes + 1e-5).log()
        sideways = nn.functional.pad(log.flatten(0, 1), (1, 1), mode="replicate").unflatten(0, log.shape[:2])
        step = (size / gamma / 2.0) * (sideways[..., 2:] - sideways[..., :-2])  # radians a sample
        step = step + (2.0 * math.pi / size) * torch.arange(bins, device=magnitude.device)
        later, before = log[[*range(1, longest), longest - 1]], log[[0, *range(longest - 1)]]
        across = (-gamma / (hop * size) / 2.0) * (later - before)
        across = (across[..., 1:] + across[..., :-1]) / 2.0 - math.pi
        power = sizes.square() + 1e-10
        turn = torch.polar(torch.ones_like(across), across)  # from a bin to the one above
        forth = torch.polar(power[1:], away[1:] * (step[1:] + step[:-1]) / 2.0)
        found = torch.empty(sizes.shape, dtype=turn.dtype, device=magnitude.device)
        phasor = first[:, index[:, 0]].T * power[0]
        for n in range(longest):
            if n:
                phasor = phasor * forth[n - 1]
            spread = phasor.clone()
            spread[..., 1:] += phasor[..., :-1] * turn[n]
            spread[..., :-1] += phasor[..., 1:] * turn[n].conj()
            phasor = spread / (spread.abs() + 1e-20)
            found[n] = phasor
        lengths = (ends[:, 0] - index[:, 0] + 1).tolist()
        pieces = [found[:length, :, k] for k, length in enumerate(lengths)]
        return torch.cat(pieces).permute(1, 2, 0)


@dataclass(frozen=True)
class Span:
    """Which STFT frames a decoded piece has, and where they lie.

    times: their numbers within the clip or circle, (frames,).
    frames: STFT frames of the clip or circle as a whole.
    samples: of a circle, its length; None if the frames lie in a row, `hop` apart.
    turns: of a part of a circle unrolled, how often each frame has gone round; None = the circle as a whole.
    """

    times: np.ndarray
    frames: int
    samples: int | None = None
    turns: np.ndarray | None = None

    def starts(self, period: int) -> list[int]:
        """Places in `times` where the first phase begins anew."""
        return [n for n, time in enumerate(self.times) if n == 0 or time % period == 0]

    def hop(self, stft: Stft, every: int, factor: int) -> float:
        """How far apart each `every`-th frame is from the next, in samples of a rate lower by `factor`."""
        return stft.hop if self.samples is None else round(self.samples / factor) * every / self.frames

    def places(self, stft: Stft, every: int, factor: int) -> np.ndarray:
        """On which sample each `every`-th frame is centred, at that rate; on the circle unrolled where the frames go
        round it."""
        hop = self.hop(stft, every, factor)
        places = (self.times[::every] // every + 0.5) * hop
        if self.samples is None:
            return places
        return np.round(places) + (0 if self.turns is None else round(self.samples / factor) * self.turns[::every])

    def windows(self, stft: Stft, every: int, factor: int, device: torch.device) -> tuple[torch.Tensor | None, int]:
        """For `Stft`: where the windows of each `every`-th frame of a circle lie, at a rate lower by `factor`, and how
        many samples there are; None and 0 for frames in a row. Those of a part of a circle are counted on from sample 0
        of the circle, which may lie before or behind them."""
        if self.samples is None:
            return None, 0
        length = round(self.samples / factor)
        places = stft.circle(self.frames // every, length)[torch.from_numpy(self.times[::every] // every)]
        if self.turns is None:
            return (places % length).to(device), length
        places = places + length * torch.from_numpy(self.turns[::every])[:, None]
        return places.to(device), int(places[-1, -1] - places[0, 0]) + 1

    def first(self, places: torch.Tensor | None) -> int:
        """Where the sound of windows at these places begins."""
        return 0 if places is None or self.turns is None else int(places[0, 0])
