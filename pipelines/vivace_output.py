"""What a call of the pipeline returns.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.utils import BaseOutput

from .vivace_recipe import write_audio


@dataclass
class VivacePipelineOutput(BaseOutput):
    """Result of `VivacePipeline`.

    Attributes:
        audios: (batch, channels, samples) float32 in [-1, 1], numpy or torch; a list of (channels, samples) if the
            items differ in length; standardised latents (batch, latent_channels, frames) for `output_type="latent"`.
        sampling_rate: Hz.
        seeds: one per item; each gives its item again.
        conditions: one dict per item, what was understood: bpm, bpm_reason (why the tempo was chosen; None = it was
            said), key, time_signature, bars, duration_s, chords.
        recipes: one dict per item, what makes it again.
        differences: of a replay from its file.
    """

    audios: np.ndarray | torch.Tensor | list
    sampling_rate: int
    seeds: list[int]
    conditions: list[dict]
    recipes: list[dict] | None = None
    differences: list[str] | None = None

    def save(self, path: str | Path, index: int = 0) -> None:
        """Write one piece as .wav or .flac, 16 bit, with its recipe in the comment tag.

        Raises:
            ValueError: another ending, latents, or a file that cannot be written.
        """
        if self.recipes is None:
            raise ValueError("these are latents, or values without a recipe; only audio of a call can be saved")
        audio = torch.as_tensor(self.audios[index], device="cpu").numpy()
        write_audio(path, audio, self.sampling_rate, self.recipes[index])
