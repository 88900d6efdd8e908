"""What a call of the pipeline returns.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from diffusers.utils import BaseOutput

from .vivace_publish import Importable
from .vivace_recipe import Weights, write_audio


@dataclass
class VivacePipelineOutput(BaseOutput):
    """Result of `VivacePipeline`.

    Attributes:
        audios: (batch, channels, samples) float32 in [-1, 1], numpy or torch; a list of (channels, samples) if the
            items differ in length; standardised latents (batch, latent_channels, frames) for `output_type="latent"`.
        sampling_rate: Hz.
        seeds: one per item; each gives its item again.
        conditions: one dict per item, what was understood: bpm (beats of the meter a minute), bpm_reason (why the
            tempo was chosen; None = it was said), beat_unit (the note that is a beat), key, time_signature, bars,
            duration_s, chords, loop, and notes: sentences on what in the words was not used as it stands.
        recipes: one dict per item, what makes it again; `recipe` adds the digest of the weights.
        differences: of a replay from its file.
        weights: of the pipeline, for their digest; not one of the values that the output holds as a tuple or dict.
    """

    weights: ClassVar[Weights | None] = None

    audios: np.ndarray | torch.Tensor | list
    sampling_rate: int
    seeds: list[int]
    conditions: list[dict]
    recipes: list[dict] | None = None
    differences: list[str] | None = None

    def __reduce__(self):
        """Pickled with complete recipes; another process needs nothing but diffusers and the same module cache."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.recipes is not None:
            values["recipes"] = [self.recipe(index) for index in range(len(self.recipes))]
        return Importable(type(self)), tuple(values.values())

    def recipe(self, index: int = 0) -> dict:
        """The recipe of one piece, which JSON can hold, with the digest of the weights.

        The digest is computed here, since it takes seconds for a large model. It is "unknown" if the weights have
        changed or were deleted in the meantime, or if they cannot be read.
        """
        one = self.recipes[index]
        if self.weights is None:
            return one
        return one | {"made_with": {"weights": self.weights.digest()} | one["made_with"]}

    def save(self, path: str | Path, index: int = 0) -> None:
        """Write one piece as .wav or .flac, 16 bit, with its recipe in the comment tag.

        Raises:
            ValueError: another ending, latents, or a file that cannot be written.
        """
        if self.recipes is None:
            raise ValueError("these are latents, or values without a recipe; only audio of a call can be saved")
        audio = torch.as_tensor(self.audios[index], device="cpu").numpy()
        write_audio(path, audio, self.sampling_rate, self.recipe(index))
