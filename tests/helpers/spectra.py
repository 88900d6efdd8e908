"""Audio of magnitudes alone, by the search for a phase with which the autoencoder ends."""

import torch

from autoencoder.autoencoder_vivace import AutoencoderVivace, Spectra


def magnitude_to_audio(
    vae: AutoencoderVivace, magnitude: torch.Tensor, iterations: int | None = None, circle_samples: int | None = None
) -> torch.Tensor:
    """Magnitudes (batch, channels, bins, stft frames) -> audio (batch, channels, samples), or a circle of that length.
    All channels have one phase."""
    return vae._search(Spectra(magnitude.square().mean(1).sqrt(), magnitude), circle_samples, iterations)
