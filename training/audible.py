"""How much of each latent channel is heard? What a small change of it does to the decoded sound.

The channels of a trained autoencoder carry about as much variance each, and very different shares of what is heard: of
the 64 of checkpoints/small the one that is heard most moves the log-mel spectrum four times as far as the faintest.
"""

import librosa
import numpy as np
import torch

from training.autoencoders import Autoencoder

MOVE = 0.3  # of a channel's standard deviation
CLIPS, FRAMES, MELS, FLOOR = 2, 128, 80, 1e-6


def log_mel(audio: torch.Tensor, sampling_rate: int) -> np.ndarray:
    """(batch, channels, samples) -> dB (batch, channels, MELS, frames)."""
    power = librosa.feature.melspectrogram(
        y=audio.cpu().float().numpy(), sr=sampling_rate, n_fft=1024, hop_length=256, n_mels=MELS
    )
    return 10.0 * np.log10(power + FLOOR)


@torch.no_grad()
def audibility(vae: Autoencoder, seed: int = 0) -> np.ndarray:
    """Mean squared change of the log-mel spectrum, dB^2, when one channel moves at random by `MOVE`, (channels,) fp64.

    The latents that are moved are noise of the channels' own means and deviations: no data is needed, and for
    checkpoints/small what they tell agrees with what real ones do (their logarithms correlate by .99).

    Raises:
        ValueError: an autoencoder without the statistics of its latents, which stage 2 writes.
    """
    if vae.config.latents_mean is None or vae.config.latents_std is None:
        raise ValueError("the autoencoder has no latents_mean and latents_std; training.encode_latents writes them")
    generator, config = torch.Generator().manual_seed(seed), vae.config
    mean, std = (torch.tensor(values)[:, None] for values in (config.latents_mean, config.latents_std))
    latents = mean + std * torch.randn(CLIPS, len(std), FRAMES, generator=generator)
    moves = MOVE * torch.randn(CLIPS, FRAMES, generator=generator)
    before, changes = log_mel(vae.decode(latents).sample, config.sampling_rate), []
    for channel in range(len(std)):
        moved = latents.clone()
        moved[:, channel] += std[channel] * moves
        after = log_mel(vae.decode(moved).sample, config.sampling_rate)
        changes.append(np.mean((after - before) ** 2, dtype=np.float64))
    return np.array(changes)


def guidance_channels(heard: np.ndarray, balance: float) -> list[float]:
    """Factors of guidance: what is heard of a channel, over its geometric mean, to the power of -`balance`."""
    heard = np.maximum(heard, 1e-12)
    return [round(float(factor), 4) for factor in (heard / np.exp(np.log(heard).mean())) ** -balance]
