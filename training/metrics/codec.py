"""A published neural codec on the same clips, so that an autoencoder's figures have something to stand beside.

EnCodec (Defossez et al. 2022) with its quantiser, whole: what comes back is what so many kilobits a second carry.
"""

import numpy as np
import soxr
import torch
from transformers import EncodecModel


class Codec:
    """EnCodec, clip by clip.

    Args:
        name: folder or Hub id of an `EncodecModel`.
        kbps: bandwidth in kilobits a second; None = the most that the model has.

    Raises:
        ValueError: a bandwidth that the model does not have.
    """

    def __init__(self, name: str, kbps: float | None = None):
        self.model = EncodecModel.from_pretrained(name).eval()
        allowed = self.model.config.target_bandwidths
        if kbps is not None and kbps not in allowed:
            raise ValueError(f"codec_kbps is {kbps:g}; allowed with {name}: {', '.join(f'{k:g}' for k in allowed)}")
        self.kbps = max(allowed) if kbps is None else kbps

    @torch.no_grad()
    def reconstruct(self, audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        """A mono clip (samples,) through encoder, quantiser and decoder; same rate and length."""
        config = self.model.config
        own = soxr.resample(audio, sampling_rate, config.sampling_rate).astype(np.float32)
        own = torch.from_numpy(own)[None, None].expand(1, config.audio_channels, -1)
        decoded = self.model(own, bandwidth=self.kbps).audio_values[0].mean(0).numpy()
        back = soxr.resample(decoded, config.sampling_rate, sampling_rate).astype(np.float32)[: len(audio)]
        return np.pad(back, (0, len(audio) - len(back)))
