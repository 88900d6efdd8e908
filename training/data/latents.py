"""Latents of stage 2 with their conditions, cropped on frame borders: what stage 3 reads."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from pipelines.pipeline_vivace import GRID_CHANNELS, KEYS, frame_grid
from pipelines.vivace_text import MAX_TEXT_TOKENS


class LatentCrops:
    """Random crops of the encoded clips of one split, standardised, with labels moved along exactly.

    Args:
        latents_dir: folder written by `training.encode_latents`.
        split: train, validation or test.
        crop_frames: latent frames of a crop; shorter clips are padded and the padding is marked in `frame_mask`.

    Text states are padded to the length at which stage 2 cut them, and the padding is marked in `text_mask`.

    Raises:
        ValueError: if the folder holds no latents.
    """

    def __init__(self, latents_dir: str, split: str, crop_frames: int):
        folder = Path(latents_dir)
        shards = sorted((folder / split).glob("*.safetensors"))
        if not shards or not (folder / "latents.json").is_file():
            raise ValueError(
                f"data_dir {latents_dir}: no encoded {split} split there; make it with training.encode_latents"
            )
        self.about = json.loads((folder / "latents.json").read_text())
        self.crop_frames = crop_frames
        self.text_tokens = self.about.get("text_tokens", MAX_TEXT_TOKENS)  # older folders do not tell
        self.mean = torch.tensor(self.about["latents_mean"])
        self.std = torch.tensor(self.about["latents_std"])
        self.rows: list[dict] = []
        self.places: list[tuple[dict, int]] = []
        for path in shards:
            with safe_open(path, framework="pt") as shard:
                tensors = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 (not a dict)
                rows = json.loads(shard.metadata()["rows"])
            self.rows += rows
            self.places += [(tensors, i) for i in range(len(rows))]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """One crop: latents (C, F), frame_mask (F,), text (L, D), text_mask (L,), grid (22, F) and the scalars."""
        tensors, place = self.places[index]
        row = self.rows[index]
        first, last = (int(v) for v in tensors["frame_offsets"][place : place + 2])
        frames = min(self.crop_frames, last - first)
        offset = int(rng.integers(0, last - first - frames + 1))
        window = slice(first + offset, first + offset + frames)
        eps = torch.from_numpy(rng.standard_normal((frames, len(self.mean)), dtype=np.float32))
        raw = tensors["latents_mean"][window].float() + tensors["latents_std"][window].float() * eps
        latents = ((raw - self.mean) / self.std).T
        padding = self.crop_frames - frames
        grid = self._grid(row, offset, frames)
        text, text_mask = self._text(tensors, place, rng)
        return {
            "latents": torch.nn.functional.pad(latents, (0, padding)),
            "frame_mask": torch.arange(self.crop_frames) < frames,
            "grid": torch.nn.functional.pad(grid, (0, padding)),
            "text": text,
            "text_mask": text_mask,
            "duration_s": torch.tensor(frames / self.about["frame_rate"]),
            "bpm": torch.tensor(float("nan") if row["bpm"] is None else float(row["bpm"])),
            "key": torch.tensor(KEYS.index(row["key"]) if row["key"] in KEYS else -1),
            "beats_per_bar": torch.tensor(-1 if row["beats_per_bar"] is None else int(row["beats_per_bar"])),
        }

    def _grid(self, row: dict, offset: int, frames: int) -> torch.Tensor:
        if row["bpm"] is None or row["downbeat_s"] is None:
            return torch.zeros(GRID_CHANNELS, frames)
        rate = self.about["frame_rate"]
        chords = np.asarray(row["chords"], dtype=np.float32) if row["chords"] else None
        first_beat = row["beats_s"][0] if row["beats_s"] else 0.0
        return frame_grid(
            frames,
            rate,
            row["bpm"],
            row["beats_per_bar"],
            row["downbeat_s"] - offset / rate,
            chords,
            first_beat - offset / rate,
        )

    def _text(self, tensors: dict, place: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        first, last = (int(v) for v in tensors["caption_offsets"][place : place + 2])
        caption = int(rng.integers(first, last))
        begin, end = (int(v) for v in tensors["text_offsets"][caption : caption + 2])
        states = tensors["text"][begin:end].float()
        padding = self.text_tokens - len(states)
        mask = torch.arange(self.text_tokens) < len(states)
        return torch.nn.functional.pad(states, (0, 0, 0, padding)), mask


def random_mask(frames: int, rng: np.random.Generator) -> torch.Tensor:
    """An inpainting mask (frames,): 1 to generate, 0 given. Prefix, suffix, middle or up to three regions given."""
    mask = torch.ones(frames)
    kind = rng.integers(4)
    share = float(rng.uniform(0.1, 0.8))
    length = max(1, round(share * frames))
    if kind == 0:  # the beginning is given: continuation
        mask[:length] = 0.0
    elif kind == 1:  # the end is given
        mask[frames - length :] = 0.0
    elif kind == 2:  # both ends are given: a hole to fill
        hole = max(1, frames - length)
        begin = int(rng.integers(0, frames - hole + 1))
        mask[:] = 0.0
        mask[begin : begin + hole] = 1.0
    else:
        for _ in range(int(rng.integers(2, 4))):
            part = max(1, length // 3)
            begin = int(rng.integers(0, frames - part + 1))
            mask[begin : begin + part] = 0.0
    return mask
