"""Latents on disk: the shards that stage 2 writes, and the crops of them on which stage 3 trains.

A shard has an audio part (latents) and a text part (states of captions), and its metadata holds a key for each: a hash
of everything that the part depends on. The audio part depends on the autoencoder's encoder and the clips, the text part
on the text encoder and the captions. So after a change of one of them, the other part of an older shard is reused.
Labels and notes need no model and are always those of the data: labels in the metadata, notes as arrays.
"""

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autoencoder.classes import Autoencoder
from pipelines.pipeline_vivace import GRID_CHANNELS, KEYS, frame_grid
from pipelines.vivace_process import MAX_TEXT_TOKENS, latent_statistics, token_limit
from training.config import LatentRun
from training.data.clips import read_bytes
from training.data.notes import (
    bar_numbers,
    drop_notes,
    frames_roll,
    has_notes,
    instrument_index,
    instruments_by_role,
    note_rows,
    notes_by_role,
)
from training.run.checkpoints import sync

PARTS = {"audio": ("latents_mean", "latents_std", "frame_offsets"), "text": ("text", "text_offsets", "caption_offsets")}
REFERENCE_FRAMES = 50  # the shortest part of a clip that another is to sound like
ENCODING = "1"  # version: raised when the same models make other arrays from the same clips
Arrays = dict[str, torch.Tensor]


def fingerprint(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def weights_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """Hash of weights and their names, in whatever order they are."""
    return fingerprint(
        *(part for name in sorted(state) for part in (name, state[name].cpu().contiguous().numpy().tobytes()))
    )


def model_fingerprint(model: torch.nn.Module, prefix: str = "") -> str:
    """Hash of every weight and its name, of those whose name begins with `prefix`."""
    return weights_fingerprint({name: value for name, value in model.state_dict().items() if name.startswith(prefix)})


def encoder_fingerprint(vae: Autoencoder) -> str:
    """Hash of the encoder's weights and the settings, on which latents depend; the decoder's weights do not matter.

    `freeze_encoder` of stage 1 trains a decoder alone for that reason. The statistics of the latents, which stage 2
    writes into the settings, come after them and are left out.
    """
    after = ("latents_mean", "latents_std")
    settings = {k: v for k, v in vae.config.items() if not k.startswith("_") and k not in after}
    description = json.dumps([ENCODING, type(vae).__name__, settings], sort_keys=True)
    return fingerprint(model_fingerprint(vae, "encoder"), description)


def text_encoder_fingerprint(encoder: PreTrainedModel) -> str:
    """Hash of the weights and settings of a text encoder, wherever its folder lies."""
    elsewhere = ("transformers_version", "dtype", "torch_dtype")
    settings = {k: v for k, v in encoder.config.to_dict().items() if not k.startswith("_") and k not in elsewhere}
    description = json.dumps([ENCODING, type(encoder).__name__, settings], sort_keys=True, default=str)
    return fingerprint(model_fingerprint(encoder), description)


def models_fingerprint(vae: Autoencoder, encoder: PreTrainedModel) -> str:
    """Hash of all weights of both models: which set of latents a checkpoint of stage 3 was trained on."""
    return fingerprint(model_fingerprint(vae), model_fingerprint(encoder), json.dumps(vae.config.latent_channels))


def labels_of(rows: list[dict]) -> list[dict]:
    """The rows without `path`, which is a place on this machine and no property of the clip, and without their notes,
    which are arrays of the shard; a row with unknown notes has no parts."""
    kept = [{k: v for k, v in row.items() if k not in ("path", "notes")} for row in rows]
    for label, row in zip(kept, rows, strict=True):
        if "parts" in row and not has_notes(row):
            label["parts"] = None
    return kept


def note_arrays(rows: list[dict]) -> Arrays:
    """The notes of a shard's clips (`note_rows`), concatenated; nothing if no clip has any."""
    if not any(map(has_notes, rows)):
        return {}
    notes = [note_rows(row) for row in rows]
    offsets = np.cumsum([0, *map(len, notes)])
    return {"notes": torch.from_numpy(np.concatenate(notes)), "note_offsets": torch.from_numpy(offsets)}


@dataclass(frozen=True)
class Recipe:
    """The inputs from which one shard is made: rows of its clips with all captions, `models_fingerprint` of what makes
    it, and for each of `PARTS` a hash of everything that it depends on."""

    rows: list[dict]
    models: str
    keys: dict[str, str]

    def metadata(self) -> dict[str, str]:
        keys = {f"{part}_key": key for part, key in self.keys.items()}
        notes = {name: array.numpy().tobytes() for name, array in note_arrays(self.rows).items()}
        of_notes = {"notes": fingerprint(*notes.values())} if notes else {}
        return {**keys, **of_notes, "models": self.models, "rows": json.dumps(labels_of(self.rows))}


class Recipes:
    """The recipes of the shards that an autoencoder, a text encoder and a tokenizer make."""

    def __init__(self, vae: Autoencoder, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.models = models_fingerprint(vae, encoder)
        self.audio, self.text = encoder_fingerprint(vae), text_encoder_fingerprint(encoder)

    def __call__(self, rows: list[dict]) -> Recipe:
        texts = [text for row in rows for text in row["text"]]
        # The tokens represent the tokenizer and its limit. The captions of each clip are hashed too, because they
        # decide which are encoded together, and how the parts are cut.
        tokens = self.tokenizer(texts, truncation=True, max_length=token_limit(self.tokenizer)).input_ids
        captions = json.dumps([[row["text"] for row in rows], tokens, self.tokenizer.padding_side])
        clips = (fingerprint(read_bytes(row)) for row in rows)
        keys = {"audio": fingerprint(self.audio, *clips), "text": fingerprint(self.text, captions)}
        return Recipe(rows, self.models, keys)


def write_shard(path: Path, arrays: Arrays, recipe: Recipe) -> None:
    """Write a shard under a temporary name and rename it: it is whole or absent."""
    partial = path.with_name(path.name + ".partial")
    save_file(arrays | note_arrays(recipe.rows), partial, metadata=recipe.metadata())
    sync(partial)
    os.replace(partial, path)


def holds(shard: safe_open, part: str, recipe: Recipe) -> bool:
    """Whether a part of a shard is what the recipe would make."""
    return (shard.metadata() or {}).get(f"{part}_key") == recipe.keys[part]


class LatentsFolder:
    """A folder with `<split>/<number>.safetensors`, which need not exist; its shards may be taken whole or in part."""

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def _opened(self, name: str) -> Iterator[safe_open | None]:
        """A shard by its place in the folder; None if it is missing or damaged."""
        try:
            shard = safe_open(self.folder / name, framework="pt")
        except (FileNotFoundError, SafetensorError):
            yield None
            return
        with shard:
            yield shard

    def is_current(self, name: str, recipe: Recipe) -> bool:
        """Whether the shard is what the recipe would make."""
        with self._opened(name) as shard:
            if shard is None:
                return False
            stored, wanted = shard.metadata() or {}, recipe.metadata()
            same = all(stored.get(key) == wanted.get(key) for key in ("models", "rows", "notes"))
            return same and all(holds(shard, part, recipe) for part in PARTS)

    def take(self, name: str, part: str, recipe: Recipe) -> Arrays | None:
        """The arrays of one of `PARTS` if the shard holds what the recipe would make, else None."""
        with self._opened(name) as shard:
            if shard is None or not holds(shard, part, recipe):
                return None
            return {array: shard.get_tensor(array) for array in PARTS[part]}


# ---- crops of latents with their conditions -------------------------------------------------------------------------


def row_grid(row: dict, offset: int, frames: int, frame_rate: float) -> torch.Tensor:
    """The frame grid (22, frames) of a crop that begins `offset` frames after its clip. If only the beats are known, it
    has beats without bar phases."""
    barred = row["downbeat_s"] is not None
    if row["bpm"] is None or not (barred or row["beats_s"]):
        return torch.zeros(GRID_CHANNELS, frames)
    chords = np.asarray(row["chords"], dtype=np.float32) if row["chords"] else None
    first_beat = row["beats_s"][0] if row["beats_s"] else 0.0
    return frame_grid(
        frames,
        frame_rate,
        row["bpm"],
        row["beats_per_bar"] if barred else None,
        (row["downbeat_s"] if barred else first_beat) - offset / frame_rate,
        chords,
        first_beat - offset / frame_rate,
    )


def row_scalars(row: dict, seconds: float) -> dict[str, torch.Tensor]:
    """Length, tempo, key and meter of a clip as the network reads them; NaN and -1 where unknown."""
    return {
        "duration_s": torch.tensor(seconds),
        "bpm": torch.tensor(float("nan") if row["bpm"] is None else float(row["bpm"])),
        "key": torch.tensor(KEYS.index(row["key"]) if row["key"] in KEYS else -1),
        "beats_per_bar": torch.tensor(-1 if row["beats_per_bar"] is None else int(row["beats_per_bar"])),
    }


class LatentCrops:
    """Random crops of the encoded clips of one split, standardised, with labels moved along exactly.

    Args:
        latents_dir: folder written by `training.encode_latents`.
        split: train, validation or test.
        crop_frames: latent frames of a crop; shorter clips are padded and the padding is marked in `frame_mask`.
        instruments: the list of a network that plays notes; None = crops without notes.

    Text states are padded to the length at which stage 2 cut them, and the padding is marked in `text_mask`.

    Raises:
        ValueError: if the folder holds no latents.
    """

    def __init__(self, latents_dir: str, split: str, crop_frames: int, instruments: Sequence[str] | None = None):
        folder = Path(latents_dir)
        shards = sorted((folder / split).glob("*.safetensors"))
        if not shards or not (folder / "latents.json").is_file():
            raise ValueError(
                f"data_dir {latents_dir}: no encoded {split} split there; make it with training.encode_latents"
            )
        self.folder, self.about = folder, json.loads((folder / "latents.json").read_text())
        self.crop_frames, self.instruments = crop_frames, instruments
        self.references = False  # whether items have a `reference`: statistics of another part of the clip
        self.text_tokens = self.about.get("text_tokens", MAX_TEXT_TOKENS)  # absent in older folders
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

    def whole(self, index: int, rng: np.random.Generator) -> torch.Tensor:
        """The standardised latents of one clip from its beginning to its end, (C, F)."""
        crops = copy.copy(self)  # the same latents, not read again
        crops.crop_frames = self.frames(index)
        return crops.read(index, rng)["latents"]

    def frames(self, index: int) -> int:
        """Latent frames of one clip."""
        tensors, place = self.places[index]
        return int(tensors["frame_offsets"][place + 1] - tensors["frame_offsets"][place])

    def note_values(self, index: int) -> np.ndarray | None:
        """Notes of one clip as `note_rows` gives them; None if they are unknown."""
        tensors, place = self.places[index]
        if "notes" not in tensors or self.rows[index].get("parts") is None:
            return None
        first, last = (int(v) for v in tensors["note_offsets"][place : place + 2])
        return tensors["notes"][first:last].numpy()

    def about_notes(self) -> str:
        """How many clips have notes, and which instruments are not in the network's list, in one line."""
        with_notes = [row for index, row in enumerate(self.rows) if self.note_values(index) is not None]
        line = f"{len(with_notes)} of {len(self)} clips have notes"
        names = {part.get("instrument") for row in with_notes for part in row["parts"]} - {
            None,
            *(self.instruments or ()),
        }
        return line + (f"; unknown to the network: {', '.join(sorted(names))}" if names else "")

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """One crop: latents (C, F), frame_mask (F,), text (L, D), text_mask (L,), grid (22, F) and the scalars; for a
        network with notes also note_roll (547, F) and role_instruments (4,), with `references` reference (2 C,)."""
        return self.read_at(index, rng)[0]

    def read_at(self, index: int, rng: np.random.Generator) -> tuple[dict[str, torch.Tensor], np.ndarray]:
        """The crop of `read`, and the bar of each of its visible frames, (frames,) int."""
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
        grid = row_grid(row, offset, frames, self.about["frame_rate"])
        text, text_mask = self._text(tensors, place, rng)
        bars = bar_numbers(row, offset, frames, self.about["frame_rate"])
        reference = self._reference(tensors["latents_mean"][first:last], rng)
        return self._notes(index, offset, frames) | reference | {
            "latents": torch.nn.functional.pad(latents, (0, padding)),
            "frame_mask": torch.arange(self.crop_frames) < frames,
            "grid": torch.nn.functional.pad(grid, (0, padding)),
            "text": text,
            "text_mask": text_mask,
            **row_scalars(row, frames / self.about["frame_rate"]),
        }, bars

    def _notes(self, index: int, offset: int, frames: int) -> dict[str, torch.Tensor]:
        """Entries of a crop's notes; all roles are free where they are unknown."""
        if self.instruments is None:
            return {}
        values, row = self.note_values(index), self.rows[index]
        notes = names = None
        if values is not None:
            notes, names = notes_by_role(row, values), instruments_by_role(row, values)
        roll = frames_roll(notes, offset, frames, self.about["frame_rate"])
        roll = torch.nn.functional.pad(roll, (0, self.crop_frames - frames))
        return {"note_roll": roll, "role_instruments": instrument_index(names, self.instruments)}

    def _reference(self, latents: torch.Tensor, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """The entry `reference`, of a random part of a clip's latents (frames, C)."""
        if not self.references:
            return {}
        frames = int(rng.integers(min(len(latents), REFERENCE_FRAMES), len(latents) + 1))
        first = int(rng.integers(0, len(latents) - frames + 1))
        return {"reference": latent_statistics((latents[first : first + frames].float() - self.mean) / self.std, 0)}

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


class TrainingCrops:
    """Latent crops with conditions dropped and inpainting masks drawn, each by the item's own generator."""

    def __init__(self, crops: LatentCrops, config: LatentRun):
        self.crops, self.config = crops, config

    def __len__(self) -> int:
        return len(self.crops)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        item, bars = self.crops.read_at(index, rng)
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
        if "note_roll" in item:
            drop_notes(item, bars, config, drop_all, rng)
        if "reference" in item and (drop_all or rng.random() < config.reference_dropout):
            item["reference"] = torch.full_like(item["reference"], float("nan"))
        item["index"] = torch.tensor(index)
        return item

    def names(self, indices: torch.Tensor) -> str:
        """The file names of some items, for a message."""
        found = [self.crops.rows[i].get("file_name", f"row {i}") for i in indices.tolist()]
        return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
