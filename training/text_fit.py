"""The loop of both trainings of the text encoder: AdamW on the sum of weighted losses, resumable."""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from torch import nn
from transformers import T5EncoderModel

from training import loop
from training.config import RunConfig


def fit_text(
    accelerator: Accelerator,
    config: RunConfig,
    model: nn.Module,
    batch_at: Callable[[int], dict[str, torch.Tensor]],
    label: str,
) -> tuple[T5EncoderModel, int]:
    """Train from the run's last checkpoint, or its start, to its end.

    Args:
        accelerator: of `loop.start`.
        config: the run; its field `NAME_weight` is the weight of the loss NAME.
        model: gives losses by name; its `encoder` is the text encoder.
        batch_at: keyword arguments of the model at a step, for this process.
        label: of the progress bar.

    Returns:
        The encoder, fp32 on the CPU, and the number of steps it has made. Every process returns.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, config.learning_rate, (0.9, 0.98), weight_decay=config.weight_decay)
    schedule = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    accelerator.register_for_checkpointing(schedule)
    step = saved = loop.resume(accelerator, config)
    progress = loop.Progress(accelerator, config, step, label)
    while step < config.max_steps and not progress.out_of_time():
        losses = model(**{name: value.to(accelerator.device) for name, value in batch_at(step).items()})
        loss = sum(losses[name] * getattr(config, f"{name}_weight") for name in losses)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        progress.add(step, {"loss": loss.detach(), **{name: value.detach() for name, value in losses.items()}})
        if progress.due(step):
            loop.save_checkpoint(accelerator, config, step)
            saved = step
        progress.leave_if_asked(step)
    if saved != step:
        loop.save_checkpoint(accelerator, config, step)
    progress.close()
    accelerator.wait_for_everyone()
    return accelerator.unwrap_model(model).encoder.float().eval().cpu(), step
