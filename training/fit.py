"""What the training of the evaluation's small listeners shares: spectrograms in memory, and a short run of AdamW.

Their runs last minutes on one core, so that there is no checkpoint, no EMA and no second process; training/loop.py has
those for the stages.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from training.data.clips import read_audio

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
    max_minutes: float,
    seed: int,
    label: str,
) -> tuple[int, float]:
    """Train a network with AdamW; its learning rate rises over 30 steps and falls along a cosine.

    Args:
        network: what is trained, in place; put into training mode before each step.
        batch_loss: draws a batch with the generator it is given, and returns the loss.
        max_minutes: of this process's CPU time, so that a busy machine trains no less.
        seed: of the generator.
        label: of the progress bar.

    Returns:
        Steps taken, and CPU minutes.
    """
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay)
    began, done, running = time.process_time(), 0, 0.0
    with tqdm(total=max_steps, desc=label, disable=None) as bar:
        while done < max_steps:
            # The share of the time or of the steps that is gone, whichever is more, drives the learning rate.
            gone = max(done / max_steps, (time.process_time() - began) / (60.0 * max_minutes))
            if gone >= 1.0:
                break
            for group in optimiser.param_groups:
                cosine = 0.02 + 0.49 * (1.0 + np.cos(np.pi * gone))
                group["lr"] = learning_rate * min(1.0, (done + 1) / WARMUP_STEPS) * cosine
            network.train()
            loss = batch_loss(rng)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            done, running = done + 1, 0.95 * running + 0.05 * loss.item()
            bar.update()
            bar.set_postfix(loss=f"{running / (1 - 0.95**done):.4f}")
    return done, (time.process_time() - began) / 60.0
