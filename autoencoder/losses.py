"""Losses of the autoencoder: named scalars, weighted by the run's config.

Rendered music holds little above 5 kHz, so a plain mean over linear bins would mostly score the noise floor. Bands are
therefore weighted by how densely hearing covers them, and logs are floored with the model's own floor (-80 dB).
"""

import itertools
import math

import torch
from torch import nn


def mel_filterbank(num_bins: int, sampling_rate: int, num_mels: int) -> torch.Tensor:
    """Triangular filters (num_mels, num_bins), evenly spaced on the mel scale (O'Shaughnessy 1987), from 20 Hz."""

    def mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    nyquist = sampling_rate / 2.0
    edges = torch.linspace(mel(20.0), mel(nyquist), num_mels + 2, dtype=torch.float64)
    edges = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    frequencies = torch.linspace(0.0, nyquist, num_bins, dtype=torch.float64)
    # Low filters are narrower than a bin; widening them to one bin keeps every filter non-empty.
    width = torch.clamp(edges[1:] - edges[:-1], min=nyquist / (num_bins - 1))
    rising = (frequencies[None] - edges[1:-1, None]) / width[:-1, None] + 1.0
    falling = 1.0 - (frequencies[None] - edges[1:-1, None]) / width[1:, None]
    filters = torch.clamp(torch.minimum(rising, falling), min=0.0)
    return (filters / filters.sum(1, keepdim=True)).float()


class SpectralLoss(nn.Module):
    """Distances between log spectra (batch, frames, features) as `AutoencoderVivace` lays them out.

    Args:
        num_bins: bins of one spectrum; features is a multiple of it.
        floor_db: level of feature -1 (feature +1 is full scale).
        num_mels: bands of the mel distance.
        audio_channels: of stereo, mel and power compare mid and side too. Both channels of the decoder have one phase,
            so that these are half the sum, and half the absolute difference, of their magnitudes.
        edges: of bands in which bins are gathered, each with the mean magnitude of its bins; None = each bin is one.

    There is no complex distance: the phase that the decoder finds by iteration has no weights, and agrees with the
    magnitudes and not with the phase of the original, so that such a distance would only add noise to the gradient.
    """

    def __init__(
        self,
        num_bins: int,
        sampling_rate: int,
        floor_db: float,
        num_mels: int = 80,
        audio_channels: int = 1,
        edges: list[int] | None = None,
    ):
        super().__init__()
        self.floor_db, self.audio_channels = floor_db, audio_channels
        frequencies = torch.linspace(0.0, sampling_rate / 2.0, num_bins)
        weight = 1.0 / (frequencies + 300.0)  # roughly the density of bands on the mel scale
        mel = mel_filterbank(num_bins, sampling_rate, num_mels)
        if edges is not None:
            weight, mel = (
                torch.stack([x[..., low:high].sum(-1) for low, high in itertools.pairwise(edges)], -1)
                for x in (weight, mel)
            )
        self.register_buffer("band_weight", weight / weight.mean(), persistent=False)
        self.register_buffer("mel", mel, persistent=False)

    def magnitude(self, features: torch.Tensor) -> torch.Tensor:
        """Features -> linear magnitude plus the floor, (batch, frames, spectra, bins); of stereo with mid and side."""
        decades = (features.float().clamp(-1.5, 1.5) - 1.0) * (self.floor_db / -40.0)
        sizes = (10.0**decades).unflatten(-1, (-1, self.band_weight.shape[0]))
        if self.audio_channels == 1:
            return sizes
        left, right = sizes.chunk(2, dim=2)
        floor = 10.0 ** (self.floor_db / 20.0)
        return torch.cat([sizes, (left + right) / 2.0, (left - right).abs() / 2.0 + floor], dim=2)

    def forward(self, predicted: torch.Tensor, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return {"log", "mel", "power"}, each a scalar in fp32; zero when predicted equals reference.

        log: mean weighted |difference| of features; one feature unit is -floor_db / 2 decibels (40 dB by default).
        mel: mean |difference| of log10 mel magnitudes, in decades (20 dB).
        power: mean weighted |difference| of magnitude ** 0.3 (loudness grows about so: Stevens 1957).
        """
        difference = (predicted.float() - reference.float()).abs().unflatten(-1, (-1, self.band_weight.shape[0]))
        ours, theirs = self.magnitude(predicted), self.magnitude(reference)
        return {
            "log": (difference * self.band_weight).mean(),
            "mel": ((ours @ self.mel.T).log10() - (theirs @ self.mel.T).log10()).abs().mean(),
            "power": ((ours**0.3 - theirs**0.3).abs() * self.band_weight).mean(),
        }


class FeatureLoss(nn.Module):
    """Distances between all features of an `AutoencoderVivace`: its spectra, its stereo image, its low magnitudes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        config = model.config
        channels = 1 if model.stereo_edges else config.audio_channels
        self.spectral = SpectralLoss(
            model.num_bins, config.sampling_rate, config.floor_db, audio_channels=channels, edges=model.band_edges
        )
        self.sizes = model.feature_sizes
        further = [name for name, size in zip(("image", "low"), self.sizes[1:], strict=True) if size]
        self.names = ("log", "mel", "power", *further)
        if self.sizes[1]:  # share of each band of bins in each band of the image
            narrow, wide = (torch.tensor(edges) for edges in (model.band_edges, model.stereo_edges))
            shared = torch.minimum(narrow[1:, None], wide[None, 1:]) - torch.maximum(narrow[:-1, None], wide[None, :-1])
            self.register_buffer("shares", shared.clamp_min(0) / wide.diff(), persistent=False)

    def forward(self, predicted: torch.Tensor, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        """`SpectralLoss` of the spectra, and:

        image: mean |difference| of the stereo image in units of 40 dB, weighted by the loudness of its band.
        low: mean |difference| of the low magnitudes in units of 40 dB, weighted by their loudness.
        """
        ours, theirs = (x.float().split(self.sizes, dim=2) for x in (predicted, reference))
        losses = self.spectral(ours[0], theirs[0])
        bands = self.spectral.band_weight.shape[0]
        loudness = ((theirs[0] + 1.0) / 2.0).unflatten(2, (-1, bands)).mean(2)  # 0 at the floor, 1 at full scale
        for name, place in (("image", 1), ("low", 2)):
            if self.sizes[place]:
                weight = (loudness @ self.shares).repeat(1, 1, 2) if name == "image" else (theirs[2] + 1.0) / 2.0
                losses[name] = ((ours[place] - theirs[place]).abs() * weight).mean()
        return losses


class WaveformLoss(nn.Module):
    """Distances between waveforms (batch, channels, samples), for autoencoders that give audio and not spectra.

    Stereo is compared as left, right, mid and side, so that a wrong image costs as much as a wrong sound.

    Args:
        wanted: of "mel", "stft" and "waveform", the ones to compute; the others cost nothing.
        floor_db: level (dB re full-scale sine) below which log-mel magnitudes count as silence.
        windows: of the STFTs, samples; hops are a quarter.
    """

    NAMES = ("mel", "stft", "waveform")

    def __init__(
        self,
        sampling_rate: int,
        wanted: tuple[str, ...] = NAMES,
        floor_db: float = -80.0,
        windows: tuple[int, ...] = (2048, 1024, 512, 256, 128),
    ):
        super().__init__()
        unknown = sorted(set(wanted) - set(self.NAMES))
        if unknown:
            raise ValueError(f"wanted has {unknown}; allowed: {', '.join(self.NAMES)}")
        self.wanted, self.windows, self.level = tuple(wanted), windows, 10.0 ** (floor_db / 20.0)
        for window in windows:
            bins = window // 2 + 1
            weight = 1.0 / (torch.linspace(0.0, sampling_rate / 2.0, bins) + 300.0)
            self.register_buffer(f"band_{window}", (weight / weight.mean())[:, None], persistent=False)
            mel = mel_filterbank(bins, sampling_rate, min(80, window // 16))
            self.register_buffer(f"mel_{window}", mel, persistent=False)

    def spectrum(self, audio: torch.Tensor, window: int) -> torch.Tensor:
        """(batch, channels, samples) -> complex (batch * channels, bins, frames); a full-scale sine has magnitude 1."""
        flat = nn.functional.pad(audio.flatten(0, 1), (window // 2, window // 2))
        hann = torch.hann_window(window, device=audio.device)
        return torch.stft(flat, window, window // 4, window=hann, center=False, return_complex=True) * (4.0 / window)

    def forward(self, predicted: torch.Tensor, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the wanted losses, scalars in fp32, zero when predicted equals reference.

        mel: mean |difference| of log10 mel magnitudes, in decades (20 dB), over all windows.
        stft: distance of magnitudes relative to the reference's (Arik et al. 2018, spectral convergence), by band.
        waveform: mean |difference| of samples.
        """
        predicted, reference = predicted.float(), reference.float()
        if reference.shape[1] == 2:
            predicted, reference = (torch.cat([x, mid_side(x)], dim=1) for x in (predicted, reference))
        losses = {}
        if "waveform" in self.wanted:
            losses["waveform"] = (predicted - reference).abs().mean()
        spectral = [name for name in self.wanted if name != "waveform"]
        sums = dict.fromkeys(spectral, 0.0)
        for window in self.windows if spectral else ():
            ours, theirs = self.spectrum(predicted, window), self.spectrum(reference, window)
            band = getattr(self, f"band_{window}")
            # |z| has no gradient at 0, where digital silence is; the smallest power keeps it finite
            sizes = [(z.real.square() + z.imag.square() + 1e-14).sqrt() for z in (ours, theirs)]
            if "mel" in self.wanted:
                filters = getattr(self, f"mel_{window}")
                logs = [(filters @ size + self.level).log10() for size in sizes]
                sums["mel"] = sums["mel"] + (logs[0] - logs[1]).abs().mean()
            scale = (band * (sizes[1] + self.level)).norm()
            if "stft" in self.wanted:
                sums["stft"] = sums["stft"] + (band * (sizes[0] - sizes[1])).norm() / scale
        return {**losses, **{name: value / len(self.windows) for name, value in sums.items()}}


def mid_side(audio: torch.Tensor) -> torch.Tensor:
    """Left and right (batch, 2, samples) -> mid and side, each half their sum and difference."""
    left, right = audio[:, :1], audio[:, 1:]
    return torch.cat([left + right, left - right], dim=1) / 2.0


def weighted_sum(losses: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    """Sum of the losses that have a weight other than zero."""
    return sum(weight * losses[name] for name, weight in weights.items() if weight)
