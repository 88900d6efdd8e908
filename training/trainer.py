"""The training loop that all stages share; each stage passes in what differs.

A stage makes its model, says what the losses of a micro-batch are and what is to be told at a validation; the loop owns
micro-batches and their accumulation, the check that losses and gradients are finite, clipping, the optimiser and its
schedule, averaged weights, logs, checkpoints, and where a stopped run goes on.
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

from training.checkpoints import resume, save_checkpoint
from training.config import RunConfig
from training.progress import Progress
from training.sharding import keep_average, make_average

# What weight decay is for: layers that multiply by a matrix or a kernel. Their biases, the gains of norms, embeddings,
# null tokens and the linear filters that a network starts from would only be pulled towards 0, no better a value.
DECAYED = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The trained parameters of a model for an optimiser: matrices and kernels with weight decay, the others without.

    With weight normalisation a kernel is a direction and a length; both count as the kernel's.
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

    On a CPU values are looked at as they are noted, so before the optimiser's step. On a GPU their flags travel to the
    host meanwhile and are looked at in the next step; `settle`, called before anything is written, waits for them.

    Args:
        names: indices of items -> their names, for the message; None if items have none.
        kept: end of the message: what the run leaves behind.
    """

    def __init__(self, names: Callable[[torch.Tensor], str] | None = None, kept: str = "the last checkpoint is kept"):
        self.names, self.kept = names, kept
        self.pending: deque = deque()

    def note(self, step: int, values: dict[str, torch.Tensor], items: torch.Tensor | None = None) -> None:
        """Look at values, or have them looked at in the next step.

        Args:
            step: optimiser steps that are done.
            values: by name, each one an item or one for all of the batch.
            items: indices of the batch's items, on the CPU.

        Raises:
            FloatingPointError: naming what is not finite, and the items.
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
        """Look at what was noted, or at what was noted before a step.

        Raises:
            FloatingPointError: as `note`.
        """
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
    """Of one micro-batch."""

    loss: torch.Tensor
    """scalar to go backward from"""
    checked: dict[str, torch.Tensor]
    """what must be finite, by name: each one an item or one for all of the micro-batch"""
    told: dict[str, torch.Tensor]
    """figures for the log, by name; their means over micro-batches, steps and processes are told"""
    counts: dict[str, float] = field(default_factory=dict)
    """how many things a figure is the sum of, for those where it is not one"""


class Trainer:
    """A model with its optimiser, schedule and averaged weights, and the loop that trains it.

    Args:
        accelerator, config: of `loop.start`.
        model: whose parameters are trained and averaged, on its device.
        betas: of AdamW.
        label: of the progress bar.
        network: what the forward pass calls, holding the model; None = the model itself.
        ema_decay: of the averaged weights; None = none are kept.
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
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas)
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
        """Go back to the run's last checkpoint, if it has one; the number of steps that are done."""
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
        """Train to the end of the run, or until its time is over or it is asked to stop.

        Args:
            batches: micro-batches of this process from `step` on, `gradient_accumulation_steps` a step.
            losses: optimiser steps that are done, number of the micro-batch in this one, micro-batch on the device ->
                its losses.
            validate: optimiser steps that are done, whether this is the last -> figures for the log. Called at every
                multiple of each of `validate_every` and at the end.
            after_step: called with the number of steps that were done before each one.
            more: other networks that `losses` trains with optimisers of their own, for accumulation.

        Returns:
            Optimiser steps that are done.
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
                    if accelerator.scaler is None:  # a scaler looks for itself, and leaves such a step out
                        self.finite.note(self.step, {"gradient": norm}, items)
                self.optimizer.step()
                self.optimizer.zero_grad()
            progress.collect(done.told, done.counts)
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
            if progress.asked_to_leave():
                if saved != self.step:
                    self._save()
                progress.leave(self.step)
        progress.close()
        return self.step

    def _save(self) -> None:
        self.finite.settle()
        save_checkpoint(self.accelerator, self.config, self.step)
