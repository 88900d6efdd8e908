"""CLAP (Wu et al. 2023) as an embedder of clips.

Any folder or Hub id that holds transformers' `ClapModel` with its feature extractor, as `laion/larger_clap_music`.
Distances that two models measure are not comparable.
"""

import hashlib

import numpy as np
import soxr
import torch
from transformers import AutoFeatureExtractor, ClapModel

BATCH = 16  # windows


class ClapEmbedder:
    """A CLAP model that embeds whole clips.

    A clip is cut into windows of the length that the model hears (the last one is kept if it is at least half full, or
    the only one) and its vector is the mean of theirs, brought back to length 1. So nothing is drawn at random, as the
    feature extractor would for long clips.

    Args:
        source: local folder or Hub id.

    Raises:
        ValueError: nothing there that transformers can read.
    """

    def __init__(self, source: str):
        try:
            self.model = ClapModel.from_pretrained(source, dtype=torch.float32).eval()
            self.extractor = AutoFeatureExtractor.from_pretrained(source)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"clap {source}: not a folder or Hub id with a CLAP model ({reason})") from None
        self.name = f"CLAP {source}"
        self.card = {
            "name": self.name, "source": source, "sha256": weights_hash(self.model), "dimensions": self.dimensions,
        }  # fmt: skip

    @property
    def dimensions(self) -> int:
        return int(self.model.config.projection_dim)

    @torch.no_grad()
    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Unit vectors of clips.

        Args:
            audios: each (samples,), of any length.
            sampling_rate: Hz of all of them; another than the model's is resampled.

        Returns:
            float64 (n, d).

        Raises:
            ValueError: a clip is empty, not (samples,) or not finite.
        """
        rate = self.extractor.sampling_rate
        windows, owner = [], []
        for number, audio in enumerate(audios):
            parts = cut(prepare(audio, sampling_rate, rate, number), self.extractor.nb_max_samples)
            windows += parts
            owner += [number] * len(parts)
        total = np.zeros((len(audios), self.dimensions))
        for start in range(0, len(windows), BATCH):
            batch = self.extractor(windows[start : start + BATCH], sampling_rate=rate, return_tensors="pt")
            vectors = self.model.get_audio_features(**batch).pooler_output
            np.add.at(total, owner[start : start + BATCH], vectors.double().numpy())
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def prepare(audio: np.ndarray, sampling_rate: int, wanted_rate: int, number: int) -> np.ndarray:
    """A clip as float32 (samples,) at `wanted_rate`.

    Raises:
        ValueError: clip `number` is empty, not (samples,) or not finite.
    """
    audio = np.asarray(audio, dtype=np.float32)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"audios[{number}] has shape {audio.shape}; needed: (samples,), at least one, all finite")
    return audio if sampling_rate == wanted_rate else soxr.resample(audio, sampling_rate, wanted_rate)


def cut(audio: np.ndarray, window: int) -> list[np.ndarray]:
    """Windows of `window` samples; a last one at least half full is kept, and one that is the only one."""
    starts = range(0, max(len(audio) - window // 2, 0) + 1, window)
    return [audio[start : start + window] for start in starts]


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over names and values of the weights, in fp16, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray((value.half() if value.is_floating_point() else value).numpy()).tobytes())
    return digest.hexdigest()
