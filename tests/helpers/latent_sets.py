"""Tiny sets of latents, changes of what they are made from, and how two sets are compared."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors import safe_open

from autoencoder.autoencoder_vivace import AutoencoderVivace
from tests.conftest import make_text_encoder
from training import encode_latents

SETTINGS = {"dim": 16, "encoder_layers": 1, "decoder_layers": 1, "latent_channels": 4, "phase_iterations": 2}
ALL_KEPT = {"audio kept": 10, "text kept": 10}  # six clips of training, two of validation, two of the test


@dataclass(frozen=True)
class Inputs:
    """What the command reads."""

    autoencoder: Path
    text_encoder: Path
    data_dir: Path

    def arguments(self, output: Path, reuse_from: Path | None) -> list[str]:
        words = {**vars(self), "output_dir": output} | ({"reuse_from": reuse_from} if reuse_from else {})
        return [str(word) for name, value in words.items() for word in (f"--{name}", value)]


def run(
    inputs: Inputs, output: Path, reuse_from: Path | None = None, shard_clips: int = 2, importance: float = 0.0
) -> dict[str, int]:
    """Clips made and kept, over all splits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode_latents, "SHARD_CLIPS", shard_clips)
        told = encode_latents.main([*inputs.arguments(output, reuse_from), "--importance", str(importance)])
    return dict(sum(told.values(), start=Counter()))


def make_autoencoder(seed: int = 0, **settings) -> AutoencoderVivace:
    torch.manual_seed(seed)
    vae = AutoencoderVivace(**SETTINGS | settings)
    torch.nn.init.normal_(vae.encoder_out.weight, std=0.1)
    return vae


def read_shard(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Its arrays and its metadata."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 (not a dict)


def contents(folder: Path) -> dict:
    """All that a set of latents holds, but the places that its models were read from."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            arrays, told = read_shard(path)
            found[name] = {"metadata": told} | {
                key: (str(value.dtype), tuple(value.shape), value.numpy().tobytes()) for key, value in arrays.items()
            }
        elif path.suffix == ".json":
            places = ("autoencoder", "text_encoder", "_name_or_path")
            found[name] = {k: v for k, v in json.loads(path.read_text()).items() if k not in places}
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def make_base(folder: Path, data_dir: Path, text_encoder: Path) -> tuple[Inputs, Path]:
    """Inputs and the set made from them."""
    make_autoencoder().save_pretrained(folder / "vae")
    inputs = Inputs(folder / "vae", text_encoder, data_dir)
    assert run(inputs, folder / "latents") == {"audio made": 10, "text made": 10}
    return inputs, folder / "latents"


# ---- changes of the inputs: each takes them and a folder for what it makes ---------------------------------------


def another_text_encoder(inputs: Inputs, folder: Path) -> Inputs:
    shutil.copytree(inputs.text_encoder, folder / "text")
    torch.manual_seed(5)
    make_text_encoder().save_pretrained(folder / "text" / "text_encoder")
    return replace(inputs, text_encoder=folder / "text")


def another_tokenizer(inputs: Inputs, folder: Path) -> Inputs:
    shutil.copytree(inputs.text_encoder, folder / "text")
    tokenizer = json.loads((folder / "text" / "tokenizer" / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["slow"], vocabulary["fast"] = vocabulary["fast"], vocabulary["slow"]
    (folder / "text" / "tokenizer" / "tokenizer.json").write_text(json.dumps(tokenizer))
    return replace(inputs, text_encoder=folder / "text")


def shorter_captions(inputs: Inputs, folder: Path) -> Inputs:
    """The tokenizer says where texts are cut."""
    shutil.copytree(inputs.text_encoder, folder / "text")
    described = folder / "text" / "tokenizer" / "tokenizer_config.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"model_max_length": 2}))
    return replace(inputs, text_encoder=folder / "text")


def weights_moved(inputs: Inputs, folder: Path, part: str) -> Inputs:
    vae = AutoencoderVivace.from_pretrained(inputs.autoencoder)
    with torch.no_grad():
        vae.get_submodule(part).weight.add_(0.01)
    vae.save_pretrained(folder / "vae")
    return replace(inputs, autoencoder=folder / "vae")


def another_encoder(inputs: Inputs, folder: Path) -> Inputs:
    return weights_moved(inputs, folder, "encoder_linear")


def another_decoder(inputs: Inputs, folder: Path) -> Inputs:
    return weights_moved(inputs, folder, "decoder_linear")


def another_setting(inputs: Inputs, folder: Path) -> Inputs:
    """The same weights, which hear a higher floor."""
    make_autoencoder(floor_db=-60.0).save_pretrained(folder / "vae")
    return replace(inputs, autoencoder=folder / "vae")


def data_changed(change: Callable[[list[dict], Path], list[dict] | None]) -> Callable[[Inputs, Path], Inputs]:
    """A change of the training split: of its rows or of the files beside them."""

    def changed(inputs: Inputs, folder: Path) -> Inputs:
        data = folder / "data"
        shutil.copytree(inputs.data_dir, data)
        place = data / "train" / "metadata.jsonl"
        rows = [json.loads(line) for line in place.read_text().splitlines()]
        rows = change(rows, data / "train") or rows
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return replace(inputs, data_dir=data)

    return changed


def rewrite(path: Path, samples: int = -1, subtype: str = "PCM_16") -> None:
    audio, rate = soundfile.read(path, frames=samples)
    soundfile.write(path, audio, rate, subtype=subtype)


def one_more_caption(rows: list[dict], _: Path) -> None:
    rows[3]["text"].append("loud jazz")


def caption_moved(rows: list[dict], _: Path) -> None:
    """The same captions in the same order, one of them now of the clip before."""
    rows[0]["text"].append(rows[1]["text"].pop(0))


CHANGES = {
    "nothing": (lambda inputs, folder: inputs, ALL_KEPT),
    "folders elsewhere": (
        lambda inputs, folder: Inputs(*(
            Path(shutil.copytree(path, folder / name)) for name, path in vars(inputs).items()
        )), ALL_KEPT,
    ),
    "text encoder": (another_text_encoder, {"audio kept": 10, "text made": 10}),
    "tokenizer": (another_tokenizer, {"audio kept": 10, "text made": 10}),
    "longest caption": (shorter_captions, {"audio kept": 10, "text made": 10}),
    "encoder": (another_encoder, {"audio made": 10, "text kept": 10}),
    "setting of the encoder": (another_setting, {"audio made": 10, "text kept": 10}),
    "decoder": (another_decoder, ALL_KEPT),
    "crop of a clip": (
        data_changed(lambda rows, at: rewrite(at / "2.flac", samples=30000)),
        {"audio made": 2, "audio kept": 8, "text kept": 10},
    ),
    "format of a clip": (
        data_changed(lambda rows, at: rewrite(at / "2.flac", subtype="PCM_24")),
        {"audio made": 2, "audio kept": 8, "text kept": 10},
    ),
    "order in a shard": (
        data_changed(lambda rows, at: [rows[1], rows[0], *rows[2:]]),
        {"audio made": 2, "audio kept": 8, "text kept": 10},
    ),
    "fewer clips": (
        data_changed(lambda rows, at: rows[:3]),
        {"audio made": 1, "audio kept": 6, "text made": 1, "text kept": 6},
    ),
    "captions of a clip": (
        data_changed(one_more_caption), {"audio kept": 10, "text made": 2, "text kept": 8},
    ),
    "whose caption it is": (
        data_changed(caption_moved), {"audio kept": 10, "text made": 2, "text kept": 8},
    ),
    "label": (data_changed(lambda rows, at: rows[0].update(bpm=91.0)), ALL_KEPT),
}  # fmt: skip
