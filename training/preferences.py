"""A user's choices: pieces of which one was preferred to another, as the page's A/B choice writes them.

A file of JSON lines, one pair a line; paths are relative to the file:

    {"prompt": "slow piano", "seed": 7, "chosen": "a.flac", "rejected": "b.flac"}

`chosen` and `rejected` are audio that this project wrote, WAV or FLAC with its recipe in the tags, from which the
conditions of each piece come (`prompt` must be that of the recipe, and `seed` is not needed); or .safetensors with
`latents` (channels, frames), standardised as the pipeline's `output_type="latent"` gives them, whose conditions are
those of `prompt` and `seed`. Other keys are ignored.

The loss is that of Diffusion-DPO (Wallace et al. 2024, https://arxiv.org/abs/2311.12908) on the errors of flow
matching, with the network that training begins from as the reference: with one noise and one noise level for both
pieces, the error of the chosen one is to fall, relative to the reference, against that of the rejected one.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pipelines.pipeline_vivace import GRID_CHANNELS, VivacePipeline
from pipelines.vivace_files import read_audio, read_recipe, replay_arguments
from pipelines.vivace_process import MAX_TEXT_TOKENS
from pipelines.vivace_sampling import CIRCLE_MARGIN
from pipelines.vivace_score import ROLES
from training import flow
from training.config import AdapterRun
from training.objective import Draws, masked_mse, predict
from training.run import loop
from training.run.trainer import Losses
from training.ways import Policy, Ways

LEVELS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)  # noise levels of a validation
Piece = dict[str, torch.Tensor]


class Stop(Exception):
    """The network was reached."""


def read_pairs(path: Path) -> list[dict]:
    """The lines of a file of pairs, with the paths of the pieces. Raises a ValueError that names the line for anything
    else."""
    pairs = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        where = f"preferences {path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where}: no JSON ({error})") from None
        if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("chosen", "rejected")):
            raise ValueError(f"{where} lacks chosen or rejected; needed: the names of two files")
        files = {name: path.parent / row[name] for name in ("chosen", "rejected")}
        missing = [str(file) for file in files.values() if not file.is_file()]
        if missing:
            raise ValueError(f"{where}: {missing[0]} does not exist")
        pairs.append(row | files | {"where": where})
    if len(pairs) < 2:
        raise ValueError(f"preferences {path} has {len(pairs)} pairs; needed: at least 2, one of them for validation")
    return pairs


def conditions_of(pipe: VivacePipeline, arguments: dict) -> Piece:
    """What the network is given for the piece that a call makes, without a leading axis and without making it: grid,
    text, text_mask and the scalars; of a network with notes also note_roll and role_instruments."""
    kept: dict = {}

    def keep(_module: nn.Module, _args: tuple, inputs: dict) -> None:
        kept.update(inputs)
        raise Stop

    hook = pipe.unet.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        pipe(**arguments, output_type="latent")
    except Stop:
        pass
    finally:
        hook.remove()
    frames = kept["frame_cond"].shape[2]
    found = {
        "grid": kept["frame_cond"][0, :GRID_CHANNELS], "text": kept["encoder_hidden_states"][0],
        "text_mask": kept["encoder_attention_mask"][0],
        **{name: value[0] for name, value in kept["added_cond_kwargs"].items()},
    }  # fmt: skip
    if pipe.unet.config.note_channels:
        roll = kept.get("note_roll")
        found["note_roll"] = torch.zeros(pipe.unet.config.note_channels, frames) if roll is None else roll[0]
        found["role_instruments"] = torch.full((len(ROLES),), -1) if roll is None else kept["role_instruments"][0]
    return {name: value.detach().cpu() for name, value in found.items()}


def piece_of(pipe: VivacePipeline, file: Path, row: dict) -> Piece:
    """The latents and the conditions of a piece, over the frames that both have. Raises a ValueError that names the
    line for a file that is neither audio with a recipe nor latents, or is of another checkpoint or an edit."""
    channels, rate = pipe.vae.config.latent_channels, pipe.vae.config.sampling_rate
    try:
        if file.suffix == ".safetensors":
            latents = load_file(file).get("latents", torch.zeros(0)).float()
            if latents.ndim != 2 or len(latents) != channels or not latents.shape[1]:
                raise ValueError(f"latents has shape {tuple(latents.shape)}; needed: ({channels}, frames)")
            arguments = {"prompt": row.get("prompt"), "duration_s": latents.shape[1] / pipe.frame_rate}
            arguments["seed"] = row.get("seed") or 0
            if not isinstance(arguments["prompt"], str):
                raise ValueError(f"prompt is {row.get('prompt')!r}; needed beside latents: a text")
        else:
            arguments = replay_arguments(read_recipe(file), None) | {"stems": False}
            if row.get("prompt") not in (None, arguments.get("prompt")):
                raise ValueError(f"prompt is {row['prompt']!r}, but that of the recipe is {arguments.get('prompt')!r}")
            if not isinstance(arguments.get("prompt"), str | None):
                raise ValueError("its prompt has several texts in time; allowed: one")
            audio, own_rate = read_audio(file, None, math.inf)
            if own_rate != rate or len(audio) != pipe.vae.config.audio_channels:
                raise ValueError(
                    f"it has {own_rate} Hz and {len(audio)} channels; needed: {rate} and "
                    f"{pipe.vae.config.audio_channels}, as of init_from"
                )
            latents = pipe.encode_audio(audio[None].to(pipe.vae.device))[0].cpu()
        found = conditions_of(pipe, arguments)
    except (ValueError, OSError, SafetensorError) as error:
        raise ValueError(f"{row['where']}: {file.name}: {error}") from None
    if found["grid"].shape[1] > latents.shape[1] + CIRCLE_MARGIN:  # a loop, which the network sees with its margins
        for name in {"grid", "note_roll"} & set(found):
            found[name] = found[name][:, CIRCLE_MARGIN:-CIRCLE_MARGIN]
    frames = min(latents.shape[1], found["grid"].shape[1])  # of a long piece its first window
    cut = {name: found[name][:, :frames] for name in ("grid", "note_roll") if name in found}
    return found | cut | {"latents": latents[:, :frames]}


class Pairs:
    """Crops of pairs of pieces, with a leading axis of 2: the chosen one and the rejected one.

    Args:
        pieces: both of each pair.
        lines: where each pair stands, for messages.
        crop_frames: latent frames of a crop; shorter pieces are padded.
        frame_rate: latent frames a second.
    """

    def __init__(self, pieces: list[tuple[Piece, Piece]], lines: list[str], crop_frames: int, frame_rate: float):
        self.pieces, self.lines, self.crop_frames, self.frame_rate = pieces, lines, crop_frames, frame_rate

    def __len__(self) -> int:
        return len(self.pieces)

    def crop(self, piece: Piece, place: float) -> Piece:
        """A crop that begins at `place`, 0 to 1, of where it may."""
        frames = min(self.crop_frames, piece["latents"].shape[1])
        offset = int(place * (piece["latents"].shape[1] - frames + 1))
        item = dict(piece)
        for name in {"latents", "grid", "note_roll"} & set(piece):
            part = piece[name][:, offset : offset + frames]
            item[name] = nn.functional.pad(part, (0, self.crop_frames - frames))
        tokens = MAX_TEXT_TOKENS - len(piece["text_mask"])
        item["text"] = nn.functional.pad(piece["text"], (0, 0, 0, tokens))
        item["text_mask"] = nn.functional.pad(piece["text_mask"], (0, tokens))
        item["duration_s"] = torch.tensor(frames / self.frame_rate)
        return item | {"frame_mask": torch.arange(self.crop_frames) < frames, "mask": torch.ones(self.crop_frames)}

    def read(self, index: int, rng: np.random.Generator) -> Piece:
        """A crop of each piece of a pair, at one place."""
        place = float(rng.random())
        both = [self.crop(piece, place) for piece in self.pieces[index]]
        return {name: torch.stack([one[name] for one in both]) for name in both[0]} | {"index": torch.tensor(index)}

    def names(self, indices: torch.Tensor) -> str:
        """The lines of some pairs, for a message."""
        return ", ".join(self.lines[index] for index in indices.tolist())


class Choices:
    """Pairs in place of rewards, for the loop and with the settings of training/reward.py."""

    figure, at_start = "loss", math.log(2.0)

    def __init__(self, config: AdapterRun, ways: Ways, policy: Policy, accelerator: Accelerator):
        self.config, self.ways, self.policy, self.accelerator = config, ways, policy, accelerator
        rows = read_pairs(Path(str(config.preferences)))
        pipe = ways.pipe.to(ways.device)
        pipe.set_progress_bar_config(disable=True)
        pieces = [tuple(piece_of(pipe, row[side], row) for side in ("chosen", "rejected")) for row in rows]
        order = loop.item_rng(config.seed, loop.Stream.PAIRS).permutation(len(rows)).tolist()
        held = min(max(1, round(config.holdout_share * len(rows))), len(rows) - 1)
        self.others, self.items = (
            Pairs([pieces[i] for i in some], [rows[i]["where"] for i in some], config.crop_frames, pipe.frame_rate)
            for some in (order[:held], order[held:])
        )
        accelerator.print(f"preferences: {len(self.items)} pairs to train on, {held} held out")

    def start(self, step: int) -> None:
        """Prepare for the steps from this one on."""
        channels = self.policy.base.config.in_channels
        self.draws = Draws(self.config, self.ways.pipe.scheduler, self.accelerator, channels, step)

    def batches(self, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """Micro-batches of pairs from a step of the run on."""
        return loop.make_loader(self.items, self.config, step, self.accelerator)

    def errors(self, network: nn.Module, batch: dict, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Errors (pairs, 2) of flow matching on the chosen and the rejected piece, with the same noise for both."""
        scheduler = self.ways.pipe.scheduler
        both = {name: value.flatten(0, 1) for name, value in batch.items() if name != "index"}
        noise, timesteps = (value.repeat_interleave(2, dim=0) for value in (noise, timesteps))
        noisy = flow.add_noise(scheduler, both["latents"], noise, timesteps)
        velocity = flow.target(scheduler, both["latents"], noise, timesteps)
        with self.accelerator.autocast():
            made = predict(network, noisy, timesteps, both)
        return masked_mse(made, velocity, both, 0.0).unflatten(0, (-1, 2))

    def margins(self, new: torch.Tensor, batch: dict, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """How much the error of the chosen piece has fallen against that of the rejected one, (pairs,), from the errors
        (pairs, 2) of a network, relative to the reference."""
        with torch.no_grad():
            change = new - self.errors(self.policy.base, batch, noise, timesteps)
        return change[:, 1] - change[:, 0]

    def losses(self, network: nn.Module, step: int, part: int, batch: dict) -> Losses:
        """Losses of a micro-batch."""
        noise, timesteps = self.draws(step, part, batch["latents"][:, 0])
        timesteps = timesteps.to(noise.device)
        new = self.errors(network, batch, noise, timesteps)
        margin, beta = self.margins(new, batch, noise, timesteps), self.config.choice_beta
        # Divided so that the gradient at the start is that of the margin, whatever beta is.
        each = 2.0 / beta * nn.functional.softplus(-beta * margin) + self.config.chosen_weight * new[:, 0]
        figures = {
            "loss": each.detach().mean(),
            "margin": margin.detach().mean(),
            "error_chosen": new[:, 0].detach().mean(),
        }
        return Losses(each.mean(), {"loss": each}, figures)

    def trial(self, batch: dict) -> torch.Tensor:
        """The loss of a micro-batch in the middle of the noise range."""
        noise = torch.randn_like(batch["latents"][:, 0])
        half = self.ways.pipe.scheduler.config.num_train_timesteps / 2.0
        timesteps = torch.full((len(noise),), half, device=noise.device)
        new = self.errors(self.policy.model, batch, noise, timesteps)
        return -self.margins(new, batch, noise, timesteps).mean()

    @torch.no_grad()
    def validate(self, unet: nn.Module) -> dict[str, float]:
        """On pairs that are not trained on, with fixed crops and noise: the mean loss (log 2 at the start), the mean
        margin, and the share of pairs whose margin is above 0."""
        found = []
        for index in range(len(self.others)):
            item = self.others.read(index, loop.item_rng(self.config.seed, loop.Stream.VALIDATION_ITEM, index))
            batch = {name: value[None].to(self.ways.device) for name, value in item.items()}
            batch = {name: value.repeat_interleave(len(LEVELS), dim=0) for name, value in batch.items()}
            generator = loop.torch_rng(self.config.seed, loop.Stream.VALIDATION_NOISE, index)
            noise = torch.randn(batch["latents"][:, 0].shape, generator=generator).to(self.ways.device)
            timesteps = self.ways.pipe.scheduler.config.num_train_timesteps * torch.tensor(LEVELS, device=noise.device)
            new = self.errors(unet, batch, noise, timesteps)
            found.append(self.margins(new, batch, noise, timesteps).mean())
        margins = torch.stack(found).double()
        return {
            "validation/loss": float(nn.functional.softplus(-self.config.choice_beta * margins).mean()),
            "validation/margin": float(margins.mean()),
            "validation/accuracy": float((margins > 0).double().mean()),
        }
