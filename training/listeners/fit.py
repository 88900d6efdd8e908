"""Shared by the listener networks: files (fp16 weights and a card in JSON), input, training data and training."""

import hashlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import soxr
import torch
from torch import nn
from tqdm import tqdm, trange

from training.config import option
from training.data.clips import read_audio, read_rows
from training.run.trainer import FiniteCheck, parameter_groups

WARMUP_STEPS = 30


@dataclass(frozen=True)
class ListenerRun:
    """What the training of every listener shares."""

    data_dir: str = option("data/scorebook", "folder of labelled clips")
    output_dir: str = option("checkpoints/listener", "folder to write")
    seed: int = option(0, "of the weights, the order of clips and the crops", at_least=0)
    max_steps: int = option(1000, "optimiser steps", above=0)
    batch_size: int = option(32, "crops an optimiser step", above=0)
    learning_rate: float = option(3e-3, "highest learning rate", above=0)
    crop_s: float = option(
        8.0, "seconds of a crop; it begins anywhere, so that the place in the clip is no clue", above=0
    )
    num_threads: int = option(1, "CPU threads", above=0)


def save_network(network: nn.Module, folder: str | Path, stem: str, card: dict) -> None:
    """Write `<stem>.safetensors` and `<stem>.json`, each atomically."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: v.half() if v.is_floating_point() else v for name, v in network.state_dict().items()}
    text = json.dumps(card, indent=1) + "\n"
    for name, data in ((f"{stem}.safetensors", safetensors.torch.save(state)), (f"{stem}.json", text.encode())):
        partial = folder / (name + ".partial")
        partial.write_bytes(data)
        partial.replace(folder / name)


def load_network(
    network_class: type[nn.Module], folder: str | Path, stem: str, arguments: tuple[str, ...]
) -> tuple[nn.Module, dict]:
    """Load a network in evaluation mode, and its card with the hash of the weights as `sha256`; `arguments` are the
    keys of the card that are arguments of the class. Raises a ValueError if files are missing or unreadable."""
    folder = Path(folder)
    try:
        card = json.loads((folder / f"{stem}.json").read_text())
        data = (folder / f"{stem}.safetensors").read_bytes()
        network = network_class(**{name: card[name] for name in arguments})
        network.load_state_dict({name: v.float() for name, v in safetensors.torch.load(data).items()}, strict=True)
    except (OSError, KeyError, json.JSONDecodeError, RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{folder}/{stem}: cannot be read ({reason}); make it with training.listeners.{stem}"
        ) from None
    return network.eval(), {**card, "sha256": hashlib.sha256(data).hexdigest()}


def clip_tensor(audio: np.ndarray, sampling_rate: int, wanted_rate: int, min_samples: int = 0) -> torch.Tensor:
    """A clip (samples,) as fp32 (1, samples) at `wanted_rate`, padded with zeros to `min_samples`."""
    if sampling_rate != wanted_rate:
        audio = soxr.resample(audio, sampling_rate, wanted_rate)
    audio = np.pad(audio, (0, max(0, min_samples - len(audio))))
    return torch.from_numpy(np.ascontiguousarray(audio, dtype=np.float32))[None]


def labelled_rows(
    data_dir: str, splits: tuple[str, ...], has_labels: Callable[[dict], bool], needed: str, sampling_rate: int
) -> dict[str, list[dict]]:
    """The rows of each split for which `has_labels` holds. Raises a ValueError if a split has no such row (`needed`
    names the labels), or one has another sampling rate."""
    kept = {split: [row for row in read_rows(data_dir, split) if has_labels(row)] for split in splits}
    if not all(kept.values()):
        raise ValueError(f"no row has {needed}")
    for row in itertools.chain(*kept.values()):
        if row["sampling_rate"] != sampling_rate:
            raise ValueError(f"{row['path']}: {row['sampling_rate']} Hz; this network is trained at {sampling_rate} Hz")
    return kept


def spectrograms(
    rows: list[dict], spectrogram: Callable[[torch.Tensor], torch.Tensor], empty: float, label: str
) -> torch.Tensor:
    """Spectrograms of whole clips, (rows, ..., frames) fp16, where `spectrogram` maps (1, samples) to (1, ..., frames)
    and the frames after the end of a shorter clip have the value `empty`."""
    made = []
    for row in tqdm(rows, desc=label, disable=None):
        made.append(spectrogram(read_audio(row).mean(dim=0, keepdim=True))[0].half())
    frames = max(one.shape[-1] for one in made)
    out = torch.full((len(made), *made[0].shape[:-1], frames), empty, dtype=torch.float16)
    for index, one in enumerate(made):
        out[index, ..., : one.shape[-1]] = one
    return out


def fit(
    network: nn.Module,
    batch_loss: Callable[[np.random.Generator], torch.Tensor],
    learning_rate: float,
    weight_decay: float,
    max_steps: int,
    seed: int,
    label: str,
) -> float:
    """Train a network with AdamW, whose learning rate rises over 30 steps and falls along a cosine.

    The network is trained in place; only its matrices and kernels are decayed. `batch_loss` draws a batch with a
    generator of the seed and returns the loss. The result depends on the seed and the number of steps, not on the speed
    of the machine. Returns CPU minutes. Raises a FloatingPointError if loss or gradient is not finite, before a step.
    """
    rng, finite = np.random.default_rng(seed), FiniteCheck(kept="nothing is written")
    optimiser = torch.optim.AdamW(parameter_groups(network, weight_decay), lr=learning_rate)
    began, running = time.process_time(), 0.0
    for done in (bar := trange(max_steps, desc=label, disable=None)):
        cosine = 0.02 + 0.49 * (1.0 + np.cos(np.pi * done / max_steps))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (done + 1) / WARMUP_STEPS) * cosine
        network.train()
        loss = batch_loss(rng)
        optimiser.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        finite.note(done, {"loss": loss, "gradient": norm})
        optimiser.step()
        running = 0.95 * running + 0.05 * loss.item()
        bar.set_postfix(loss=f"{running / (1 - 0.95 ** (done + 1)):.4f}")
    return (time.process_time() - began) / 60.0


def training_card(config: ListenerRun, rows: dict[str, list[dict]], minutes: float) -> dict:
    """The part of a card that describes the training: data, number of clips by split, steps, CPU minutes and seed."""
    return {
        "trained_on": config.data_dir,
        "clips": {split: len(kept) for split, kept in rows.items()},
        "steps": config.max_steps,
        "minutes": round(minutes, 2),
        "seed": config.seed,
        "torch": torch.__version__,
    }
