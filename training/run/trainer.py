"""The training loop that all stages share; each stage passes in what differs.

A stage builds its model and passes functions for the losses of a micro-batch and for validation. The loop handles
accumulation of micro-batches, the check that losses and gradients are finite, clipping, the optimiser and its schedule,
averaged weights, logs, checkpoints and resumption.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn
from torch.distributed.tensor import DTensor

from training.config import RunConfig
from training.run.checkpoints import resume, save_checkpoint
from training.run.progress import Progress
from training.run.sharding import keep_average, make_average

# Layers whose weights are decayed. Biases, gains of norms, embeddings, null tokens and the linear filters that a
# network starts from are not, since 0 is no better value for them.
DECAYED = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The trained parameters of a model for an optimiser: matrices and kernels with weight decay, the others without.

    With weight normalisation, both the direction and the length of a kernel are decayed.
    """
    decayed = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, DECAYED)
        for name, parameter in module.named_parameters()
        if "weight" in name
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) in decayed], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in decayed], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class FiniteCheck:
    """Stops a run whose losses or gradients are not finite, without waiting for a GPU.

    On a CPU, values are checked at once, before the optimiser's step. On a GPU their flags are copied to the host
    asynchronously and checked in the next step; `settle`, called before anything is written, waits for them.

    Args:
        names: maps indices of items to their names, for the message; None if items have no names.
        kept: end of the message, which states what the run leaves behind.
    """

    def __init__(self, names: Callable[[torch.Tensor], str] | None = None, kept: str = "the last checkpoint is kept"):
        self.names, self.kept = names, kept
        self.pending: deque = deque()

    def note(self, step: int, values: dict[str, torch.Tensor], items: torch.Tensor | None = None) -> None:
        """Check values now (CPU) or in the next step (GPU).

        Args:
            step: number of completed optimiser steps.
            values: by name, one for each item or one for the whole batch.
            items: indices of the batch's items, on the CPU.

        Raises:
            FloatingPointError: values are not finite; the message names them and their items.
        """
        self.settle(before=step)
        for name, value in values.items():
            flags, arrived = torch.isfinite(value.detach()), None
            if flags.is_cuda:
                flags = flags.to("cpu", non_blocking=True)
                arrived = torch.cuda.Event()
                arrived.record()
            self.pending.append((step, name, flags, items, arrived))
        if self.pending and self.pending[-1][-1] is None:
            self.settle()

    def settle(self, before: int | None = None) -> None:
        """Check all noted values, or those noted before a step; raises as `note` does."""
        bad: list[str] = []
        while self.pending and (before is None or self.pending[0][0] < before):
            step, name, flags, items, arrived = self.pending.popleft()
            if arrived is not None:
                arrived.synchronize()
            if not flags.all():
                named = ""
                if items is not None and self.names is not None:
                    named = f" on {self.names(items[~flags] if flags.ndim else items)}"
                bad.append((step, name, named))
        if bad:
            step, _, named = bad[0]
            what = ", ".join(dict.fromkeys(name for other, name, _ in bad if other == step))
            raise FloatingPointError(f"{what} not finite after step {step}{named}; {self.kept}")


@dataclass
class Losses:
    """The losses of one micro-batch."""

    loss: torch.Tensor  # scalar that is differentiated
    checked: dict[str, torch.Tensor]
    """values that must be finite, by name: one for each item or one for the whole micro-batch"""
    logged: dict[str, torch.Tensor]
    """figures for the log, by name; their means over micro-batches, steps and processes are logged"""
    counts: dict[str, float] = field(default_factory=dict)
    """number of terms of each figure that is a sum; 1 for the others"""


class Trainer:
    """A model with its optimiser, schedule and averaged weights, and the loop that trains it.

    Args:
        model: on its device.
        betas: of AdamW.
        label: of the progress bar.
        network: module around the model for the forward pass; None = the model itself.
        ema_decay: decay of the averaged weights; None = no averaging.
        names: see `FiniteCheck`.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        config: RunConfig,
        model: nn.Module,
        betas: tuple[float, float],
        label: str,
        network: nn.Module | None = None,
        ema_decay: float | None = None,
        names: Callable[[torch.Tensor], str] | None = None,
    ):
        self.accelerator, self.config, self.model, self.label = accelerator, config, model, label
        groups = parameter_groups(model, config.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
        self.schedule = get_scheduler(
            config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
        )
        self.network, self.optimizer = accelerator.prepare(model if network is None else network, optimizer)
        self.ema: EMAModel | None = None
        accelerator.register_for_checkpointing(self.schedule)
        if ema_decay is not None:
            self.ema = make_average(model, ema_decay)
            keep_average(accelerator, self.ema)
        self.finite = FiniteCheck(names)
        self.step = 0

    def resume(self) -> int:
        """Load the run's last checkpoint if it has one; returns the number of completed steps."""
        self.step = resume(self.accelerator, self.config)
        return self.step

    def run(
        self,
        batches: Iterable[dict[str, torch.Tensor]],
        losses: Callable[[int, int, dict[str, torch.Tensor]], Losses],
        validate: Callable[[int, bool], dict[str, float]] | None = None,
        validate_every: Iterable[int] = (),
        after_step: Callable[[int], None] | None = None,
        more: Iterable[nn.Module] = (),
    ) -> int:
        """Train until the last step, the time limit or a stop signal.

        Returns the number of completed optimiser steps.

        Args:
            batches: micro-batches of this process from `step` on, `gradient_accumulation_steps` a step.
            losses: called with the number of completed optimiser steps, the index of the micro-batch within the step,
                and the micro-batch on the device.
            validate: called with the number of completed steps and whether this is the last one, at every multiple of
                each of `validate_every` and at the end; returns figures for the log.
            after_step: called after each optimiser step with the number of steps completed before it.
            more: other networks that `losses` trains with their own optimisers, for accumulation.
        """
        accelerator, config = self.accelerator, self.config
        progress = Progress(accelerator, config, self.step, self.label)
        part, validate_every, saved = 0, tuple(validate_every), self.step
        for batch in progress.batches(batches) if self.step < config.max_steps else ():
            items = batch.get("index")
            batch = {name: value.to(accelerator.device, non_blocking=True) for name, value in batch.items()}
            with accelerator.accumulate(self.network, *more):
                done = losses(self.step, part, batch)
                self.finite.note(self.step, done.checked, items)
                accelerator.backward(done.loss)
                norm = None
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
                    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
                    if accelerator.scaler is None:  # a loss scaler skips such steps itself
                        self.finite.note(self.step, {"gradient": norm}, items)
                self.optimizer.step()
                self.optimizer.zero_grad()
            progress.collect(done.logged, done.counts)
            part += 1
            if not accelerator.sync_gradients:
                continue
            part = 0
            if after_step is not None:
                after_step(self.step)
            self.step += 1
            self.schedule.step()
            if self.ema is not None:
                self.ema.step(self.model.parameters())
            progress.add(self.step, {"grad_norm": norm})
            stop = self.step == config.max_steps or progress.out_of_time()
            if validate is not None and (stop or any(self.step % every == 0 for every in validate_every)):
                self.finite.settle()
                progress.report(self.step, validate(self.step, stop))
                accelerator.wait_for_everyone()
            if stop or progress.due(self.step):
                self._save()
                saved = self.step
            if stop:
                break
            if progress.stop_requested():
                if saved != self.step:
                    self._save()
                progress.leave(self.step)
        progress.close()
        return self.step

    def _save(self) -> None:
        self.finite.settle()
        save_checkpoint(self.accelerator, self.config, self.step)
