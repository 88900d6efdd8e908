"""What the training of the evaluation's small listeners shares: spectrograms in memory, and a short run of AdamW.

Their runs last minutes on one core, so that there is no checkpoint, no EMA and no second process; training/trainer.py
has those for the stages.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from tqdm import tqdm, trange

from training.data.clips import read_audio
from training.trainer import FiniteCheck, parameter_groups

WARMUP_STEPS = 30


def pictures(rows: list[dict], spectrogram: Callable[[torch.Tensor], torch.Tensor], empty: float, label: str):
    """Spectrograms of whole clips, fp16, of the shape that `spectrogram` gives without its batch; frames come last.

    Args:
        rows: clips.
        spectrogram: (1, samples) -> (1, ..., frames).
        empty: value of the frames behind the end of a shorter clip.
        label: of the progress bar.

    Returns:
        (rows, ..., frames).
    """
    made = []
    for row in tqdm(rows, desc=label, disable=None):
        made.append(spectrogram(read_audio(row).mean(dim=0, keepdim=True))[0].half())
    frames = max(picture.shape[-1] for picture in made)
    out = torch.full((len(made), *made[0].shape[:-1], frames), empty, dtype=torch.float16)
    for index, picture in enumerate(made):
        out[index, ..., : picture.shape[-1]] = picture
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
    """Train a network with AdamW; its learning rate rises over 30 steps and falls along a cosine.

    Everything follows the seed and the number of steps: a busy machine trains the same network, later.

    Args:
        network: what is trained, in place; put into training mode before each step.
        batch_loss: draws a batch with the generator it is given, and returns the loss.
        learning_rate, weight_decay: of AdamW; matrices and kernels alone decay.
        max_steps: how many are made.
        seed: of the generator.
        label: of the progress bar.

    Returns:
        CPU minutes.

    Raises:
        FloatingPointError: loss or gradient is not finite; the network has not made that step.
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
