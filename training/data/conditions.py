"""Latent crops as stage 3 trains on them: conditions dropped, inpainting masks drawn."""

import numpy as np
import torch

from training.config import UNetRun
from training.data.latents import LatentCrops, random_mask


class TrainingCrops:
    """Latent crops with conditions dropped and inpainting masks drawn, each by the item's own generator."""

    def __init__(self, crops: LatentCrops, config: UNetRun):
        self.crops, self.config = crops, config

    def __len__(self) -> int:
        return len(self.crops)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        item = self.crops.read(index, rng)
        config = self.config
        drop_all = rng.random() < config.all_dropout
        if drop_all or rng.random() < config.text_dropout:
            item["text_mask"] = torch.zeros_like(item["text_mask"])
        if config.token_dropout > 0.0:
            kept = torch.from_numpy(rng.random(len(item["text_mask"])) >= config.token_dropout)
            item["text_mask"] = item["text_mask"] & kept
        if config.text_noise > 0.0:
            noise = rng.standard_normal(item["text"].shape, dtype=np.float32)
            item["text"] = item["text"] + config.text_noise * torch.from_numpy(noise)
        for name, absent in (("duration_s", float("nan")), ("bpm", float("nan")), ("key", -1), ("beats_per_bar", -1)):
            if drop_all or rng.random() < config.scalar_dropout:
                item[name] = torch.full_like(item[name], absent)
        if drop_all or rng.random() < config.grid_dropout:
            item["grid"] = torch.zeros_like(item["grid"])
        elif rng.random() < config.chord_dropout:
            item["grid"][8:20] = 0.0
            item["grid"][21] = 0.0
        item["mask"] = torch.ones(len(item["frame_mask"]))
        visible = int(item["frame_mask"].sum())
        if rng.random() < config.mask_probability and visible > 1:
            item["mask"][:visible] = random_mask(visible, rng)
        item["index"] = torch.tensor(index)
        return item

    def names(self, indices: torch.Tensor) -> str:
        """The file names of some items, for a message."""
        found = [self.crops.rows[i].get("file_name", f"row {i}") for i in indices.tolist()]
        return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
