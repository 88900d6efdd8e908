"""Shards of latents: what is in one, what made it, and what of an older one still holds.

A shard has two parts, and each names in the file's metadata what it is a function of. The audio part is one of the
autoencoder's encoder and the clips; the text part is one of the text encoder and the captions. So a new text encoder,
or more captions, leaves the audio part as it was, and a new autoencoder leaves the text part: what an older shard in
the same place holds under the key that is wanted is taken from there, and only the rest is made.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pipelines.vivace_text import token_limit
from training.autoencoders import Autoencoder
from training.data.clips import read_bytes
from training.files import sync

PARTS = {
    "audio": ("latents_mean", "latents_std", "frame_offsets"),
    "text": ("text", "text_offsets", "caption_offsets"),
}
ENCODING = "1"  # to be raised when the same models make other arrays of the same clips
Arrays = dict[str, torch.Tensor]


def fingerprint(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def model_fingerprint(model: torch.nn.Module, prefix: str = "") -> str:
    """Hash of every weight and its name, of those whose name begins with `prefix`."""
    state = {name: value for name, value in model.state_dict().items() if name.startswith(prefix)}
    return fingerprint(
        *(part for name in sorted(state) for part in (name, state[name].cpu().contiguous().numpy().tobytes()))
    )


def encoder_fingerprint(vae: Autoencoder) -> str:
    """Hash of what latents depend on: the encoder's weights and the settings, not the decoder's weights.

    `freeze_encoder` of stage 1 trains a decoder alone for that reason. The statistics of the latents, which stage 2
    writes into the settings, come after them and are left out.
    """
    after = ("latents_mean", "latents_std")
    settings = {k: v for k, v in vae.config.items() if not k.startswith("_") and k not in after}
    told = json.dumps([ENCODING, type(vae).__name__, settings], sort_keys=True)
    return fingerprint(model_fingerprint(vae, "encoder"), told)


def text_encoder_fingerprint(encoder: PreTrainedModel) -> str:
    """Hash of the weights and settings of a text encoder, wherever its folder lies."""
    elsewhere = ("transformers_version", "dtype", "torch_dtype")
    settings = {k: v for k, v in encoder.config.to_dict().items() if not k.startswith("_") and k not in elsewhere}
    told = json.dumps([ENCODING, type(encoder).__name__, settings], sort_keys=True, default=str)
    return fingerprint(model_fingerprint(encoder), told)


def models_fingerprint(vae: Autoencoder, encoder: PreTrainedModel) -> str:
    """Hash of all weights of both models: which set of latents a checkpoint of stage 3 was trained on."""
    return fingerprint(model_fingerprint(vae), model_fingerprint(encoder), json.dumps(vae.config.latent_channels))


def labels_of(rows: list[dict]) -> list[dict]:
    """The rows without `path`, which says where the clip lies and nothing about it."""
    return [{k: v for k, v in row.items() if k != "path"} for row in rows]


@dataclass(frozen=True)
class Recipe:
    """What one shard is to be made from.

    Args:
        rows: of its clips (training/data/clips.py), with all captions.
        models: `models_fingerprint` of what makes it.
        keys: of each of `PARTS`, what it is a function of.
    """

    rows: list[dict]
    models: str
    keys: dict[str, str]

    def metadata(self) -> dict[str, str]:
        keys = {f"{part}_key": key for part, key in self.keys.items()}
        return {**keys, "models": self.models, "rows": json.dumps(labels_of(self.rows))}


class Recipes:
    """The recipes of a set's shards.

    Args:
        vae, encoder, tokenizer: what makes them.
    """

    def __init__(self, vae: Autoencoder, encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.models = models_fingerprint(vae, encoder)
        self.audio, self.text = encoder_fingerprint(vae), text_encoder_fingerprint(encoder)

    def __call__(self, rows: list[dict]) -> Recipe:
        texts = [text for row in rows for text in row["text"]]
        # The tokens stand for the tokenizer and its limit; the words and the clip they belong to are told besides,
        # since they decide which captions are encoded together, and how the parts are cut.
        tokens = self.tokenizer(texts, truncation=True, max_length=token_limit(self.tokenizer)).input_ids
        told = json.dumps([[row["text"] for row in rows], tokens, self.tokenizer.padding_side])
        clips = (fingerprint(read_bytes(row)) for row in rows)
        keys = {"audio": fingerprint(self.audio, *clips), "text": fingerprint(self.text, told)}
        return Recipe(rows, self.models, keys)


def write_shard(path: Path, arrays: Arrays, recipe: Recipe) -> None:
    """Write a shard under a temporary name and rename it: it is whole or absent."""
    partial = path.with_name(path.name + ".partial")
    save_file(arrays, partial, metadata=recipe.metadata())
    sync(partial)
    os.replace(partial, path)


def holds(shard: safe_open, part: str, recipe: Recipe) -> bool:
    """Whether a part of a shard is what the recipe would make."""
    return (shard.metadata() or {}).get(f"{part}_key") == recipe.keys[part]


class LatentsFolder:
    """A folder of latents whose shards may be taken as they are, or in part.

    Args:
        folder: with `<split>/<number>.safetensors`; it need not be there.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    @contextmanager
    def _opened(self, name: str) -> Iterator[safe_open | None]:
        """A shard by its place in the folder; None if it is not there or damaged, which is as good."""
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
            said, wanted = shard.metadata() or {}, recipe.metadata()
            same = all(said.get(key) == wanted[key] for key in ("models", "rows"))
            return same and all(holds(shard, part, recipe) for part in PARTS)

    def take(self, name: str, part: str, recipe: Recipe) -> Arrays | None:
        """The arrays of one of `PARTS` if the shard holds what the recipe would make, else None."""
        with self._opened(name) as shard:
            if shard is None or not holds(shard, part, recipe):
                return None
            return {array: shard.get_tensor(array) for array in PARTS[part]}
