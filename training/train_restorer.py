"""The restorer: an adapter with which the network takes noise, reverb and a narrow band out of recordings.

    python -m training.train_restorer --config training/configs/small/restorer.yaml

The pairs cost nothing: clips, and the same clips spoilt (training/data/faults.py). The network is given the latents of
a spoilt clip in place of noisy ones, and which faults to take away; it learns to give those of the clip without them,
in one step. Where a clip has several faults, it learns to take away each of them alone, and to leave a clip alone that
does not have what it is asked for. `final` is the folder that a checkpoint has as `restorer`.
"""

import functools
import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from autoencoder.autoencoder_vivace import AutoencoderVivace
from autoencoder.classes import Autoencoder, load_autoencoder
from pipelines.restorer import FAULTS, FOLDER, encode, without
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_audio import mix_channels
from training import lora
from training.config import StageRun, command, option, parse_config
from training.data import faults
from training.data.clips import read_audio, read_rows
from training.data.latents import encoder_fingerprint
from training.objective import attention_kernel
from training.run import loop
from training.run.trainer import Losses, Trainer

# Of a network that is told no words and no notes, the layers that matter.
LAYERS = r"conv_in|conv_frame_cond|conv_out|.*\.conv[12]|.*\.self_attention\.to_\w+|(down|up)samplers\.\d+|mergers\.\d+"
SHARD_CLIPS = 32


@dataclass(frozen=True)
class RestorerRun(StageRun):
    """Train the restorer of a checkpoint on clips and the same clips spoilt."""

    init_from: str | None = option("checkpoints/small", "checkpoint folder that the restorer is for")
    output_dir: str = "runs/small/restorer"
    pairs_dir: str = option(
        "latents/restorer", "folder for the latents of clips and spoilt clips, made once", free=True
    )
    train_clips: int = option(700, "clips that are spoilt for training, spread over the data", above=0)
    validate_clips: int = option(64, "clips that are spoilt for validation", above=0)
    clip_frames: int = option(128, "latent frames of each", above=0)
    crop_frames: int = option(64, "latent frames of an item", above=0)
    lora_rank: int = option(32, "rank of the adapter", at_least=1, at_most=1024)
    lora_alpha: float | None = option(
        None, "scale of the adapter times its rank; null = the rank, which makes 1", above=0
    )
    validate_every: int = option(500, "steps between validations", above=0, free=True)
    install: bool = option(False, "copy the result into the checkpoint folder, as its restorer/", free=True)


def subsets(names: list[str]) -> list[tuple[str, ...]]:
    """All subsets, the empty one first, the whole last."""
    return [some for size in range(len(names) + 1) for some in itertools.combinations(names, size)]


def code(names: tuple[str, ...]) -> int:
    """A set of faults as a number."""
    return sum(1 << FAULTS.index(name) for name in names)


def spoilt(row: dict, samples: int, rng: np.random.Generator) -> list[tuple[int, np.ndarray]]:
    """A part of a clip with every subset of the faults that are drawn for it, and their numbers; all within full
    scale, at a random level."""
    rate = row["sampling_rate"]
    total = round(row["duration_s"] * rate)
    start = int(rng.integers(0, max(total - samples, 0) + 1))
    clean = read_audio(row, start, min(samples, total)).numpy().astype(np.float64)
    clean = np.pad(clean, ((0, 0), (0, samples - clean.shape[1])))
    drawn = faults.draw(clean, rate, rng)
    made = []
    for names in subsets([*drawn]):
        audio = clean
        for name in names:
            audio = drawn[name](audio)
        made.append((code(names), audio))
    peak = max(np.abs(audio).max() for _, audio in made)
    level = 10.0 ** (rng.uniform(-12.0, 0.0) / 20.0) / max(peak, 1.0)
    return [(number, (level * audio).astype(np.float32)) for number, audio in made]


@torch.no_grad()
def make_pairs(config: RestorerRun, vae: Autoencoder, split: str, count: int) -> None:
    """Write the latents of clips with all subsets of their faults, shard by shard; shards that are there stay.

    Raises:
        ValueError: clips and an autoencoder that do not fit, or a folder of pairs of other clips or settings.
    """
    folder = Path(config.pairs_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(config.data_dir, split)
    if not isinstance(vae, AutoencoderVivace):
        raise ValueError(f"init_from {config.init_from}: its autoencoder is no AutoencoderVivace, which has magnitudes")
    if rows[0]["sampling_rate"] != vae.config.sampling_rate:
        raise ValueError(
            f"data_dir {config.data_dir}: clips of {rows[0]['sampling_rate']} Hz; the autoencoder "
            f"of {config.init_from} takes {vae.config.sampling_rate} Hz"
        )
    made_of = {name: getattr(config, name) for name in ("seed", "train_clips", "validate_clips", "clip_frames")}
    made_of["encoder"], about_pairs = encoder_fingerprint(vae), folder / "pairs.json"
    if not about_pairs.is_file():
        loop.write_json(about_pairs, made_of)
    elif json.loads(about_pairs.read_text()) != made_of:
        raise ValueError(f"pairs_dir {folder}: pairs of other settings, or of another autoencoder; give a new folder")
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    bar = tqdm(range(0, len(places), SHARD_CLIPS), desc=f"pairs {split}", unit="shard")
    for first in bar:
        path = folder / f"{split}-{first // SHARD_CLIPS:04d}.safetensors"
        if path.is_file():
            continue
        latents, about = [], []
        for place in places[first : first + SHARD_CLIPS].tolist():
            rng = loop.item_rng(config.seed, loop.Stream.FAULTS, place)
            for number, audio in spoilt(rows[place], config.clip_frames * vae.hop_length, rng):
                audio = mix_channels(torch.from_numpy(audio), vae.config.audio_channels)
                latents.append(encode(vae, audio[None].to(vae.device))[0].half().cpu())
                about.append((place, number))
        partial = path.with_suffix(".partial")
        save_file({"latents": torch.stack(latents), "about": torch.tensor(about)}, partial)
        partial.replace(path)


class Pairs:
    """Items of two crops of a clip, `latents` with faults and `target` with fewer, and `asked`, which are to go."""

    def __init__(self, config: RestorerRun, split: str):
        shards = [load_file(path) for path in sorted(Path(config.pairs_dir).glob(f"{split}-*.safetensors"))]
        self.latents = torch.cat([shard["latents"] for shard in shards])
        self.clips: dict[int, dict[int, int]] = {}
        for place, (clip, number) in enumerate(torch.cat([shard["about"] for shard in shards]).tolist()):
            self.clips.setdefault(clip, {})[number] = place
        self.order, self.frames = [*self.clips], config.crop_frames

    def __len__(self) -> int:
        return len(self.order)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """An item: half of the time with all faults of the clip; mostly asked for one at least that it has."""
        there = self.clips[self.order[index]]
        given = max(there) if rng.random() < 0.5 else int(rng.choice([*there]))
        while True:
            asked = int(rng.integers(1, 1 << len(FAULTS)))
            if asked & given or rng.random() < 0.3:
                break
        first = int(rng.integers(0, max(self.latents.shape[2] - self.frames, 0) + 1))
        pair = [self.latents[there[one], :, first : first + self.frames].float() for one in (given, given & ~asked)]
        flags = torch.tensor([float(asked >> place & 1) for place in range(len(FAULTS))])
        return {"latents": pair[0], "target": pair[1], "asked": flags, "given": torch.tensor(given)}


def distances(latents: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Of each item (batch,) the error: absolute where it is large, squared below half a standard deviation."""
    return nn.functional.smooth_l1_loss(latents.float(), target, beta=0.5, reduction="none").mean((1, 2))


def errors(network: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """`distances` of what the network makes of a batch."""
    with attention_kernel(batch["latents"].device):
        found = without(network, batch["latents"], batch["asked"])
    return distances(found, batch["target"])


@torch.no_grad()
def validate(model: UNet1DConditionModel, items: Pairs) -> dict[str, float]:
    """The error on fixed crops, as it is and, `before`, that of the latents as they are given; and for clips with one
    fault that is asked for, and for those with none of it (`kept`)."""
    read = [items.read(k % len(items), loop.item_rng(0, loop.Stream.VALIDATION_ITEM, k)) for k in range(2 * len(items))]
    rows: dict[str, list[float]] = {}
    for first in range(0, len(read), 16):
        batch = {name: torch.stack([item[name] for item in read[first : first + 16]]) for name in read[0]}
        batch = {name: value.to(model.device) for name, value in batch.items()}
        before = distances(batch["latents"], batch["target"])
        places = torch.arange(len(FAULTS), device=model.device)
        there = (batch["given"][:, None] >> places & 1) * batch["asked"]
        for error, old, some in zip(errors(model, batch).tolist(), before.tolist(), there.tolist(), strict=True):
            names = [name for name, is_there in zip(FAULTS, some, strict=True) if is_there]
            for name in ("all", names[0] if len(names) == 1 else "several" if names else "kept"):
                rows.setdefault(f"validation/{name}", []).append(error)
                rows.setdefault(f"validation/{name}_before", []).append(old)
    return {name: float(np.mean(values)) for name, values in sorted(rows.items())}


def main(argv: list[str] | None = None) -> None:
    config = parse_config(RestorerRun, argv)
    folder = lora.check(config)
    accelerator = loop.start(config)
    if accelerator.is_main_process:
        vae = load_autoencoder(f"{folder}/vae").to(accelerator.device)
        for split, count in (("train", config.train_clips), ("validation", config.validate_clips)):
            make_pairs(config, vae, split, count)
    accelerator.wait_for_everyone()
    items = {split: Pairs(config, split) for split in ("train", "validation")}
    model = UNet1DConditionModel.from_pretrained(folder / "unet")
    if accelerator.is_main_process:
        lora.note_base(model, config)
    trained = lora.add_adapter(model, config, LAYERS)
    model = model.to(accelerator.device)
    accelerator.print(
        f"{sum(p.numel() for p in trained.parameters()) / 1e6:.2f} M parameters, {len(items['train'])} clips"
    )
    trainer = Trainer(
        accelerator, config, trained, (0.9, 0.99), "restorer",
        network=torch.compile(model) if config.compile else model, ema_decay=config.ema_decay,
    )  # fmt: skip
    lora.keep_in_checkpoints(accelerator, model)
    loader = loop.make_loader(items["train"], config, trainer.resume(), accelerator)

    def losses(step: int, part: int, batch: dict[str, torch.Tensor]) -> Losses:
        with accelerator.autocast():
            found = errors(trainer.network, batch)
        return Losses(found.mean(), {"loss": found}, {"loss": found.mean().detach()})

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, trained):
            return validate(model, items["validation"])

    trainer.run(loader, losses, figures, [config.validate_every])
    loop.save_final(accelerator, model, trainer.ema, config, trained, functools.partial(lora.save_adapter, half=True))
    if config.install and accelerator.is_main_process:
        shutil.copytree(Path(config.output_dir) / "final", folder / FOLDER, dirs_exist_ok=True)


if __name__ == "__main__":
    command(main)
