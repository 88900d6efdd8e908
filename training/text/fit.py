"""The training loop of both stages of the text encoder: a weighted sum of losses over batches shared by processes."""

from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator
from torch import nn
from transformers import T5EncoderModel

from training.config import RunConfig
from training.run.loop import micro_batch_size
from training.run.trainer import Losses, Trainer

BatchAt = Callable[[int, int, int], dict[str, torch.Tensor]]


def fit_text(
    accelerator: Accelerator, config: RunConfig, model: nn.Module, batch_at: BatchAt, label: str
) -> tuple[T5EncoderModel, int]:
    """Train from the run's last checkpoint, or its start, to its end.

    The model gives losses by name, each weighted by the field `NAME_weight` of the config, and its `encoder` is the
    text encoder. `batch_at` maps step, share and number of shares to the model's arguments for that share of the batch.
    Returns the encoder, fp32 on the CPU, and the number of steps it has made, in every process. Raises a ValueError for
    a batch that cannot be shared out evenly.
    """
    parts, processes = config.gradient_accumulation_steps, accelerator.num_processes
    micro_batch_size(config, processes)
    trainer = Trainer(accelerator, config, model.to(accelerator.device), (0.9, 0.98), label)
    first = trainer.resume()

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for step in range(first, config.max_steps):
            for part in range(parts):
                yield batch_at(step, part * processes + accelerator.process_index, parts * processes)

    def losses(step: int, part: int, batch: dict[str, torch.Tensor]) -> Losses:
        found = trainer.network(**batch)
        loss = sum(found[name] * getattr(config, f"{name}_weight") for name in found)
        return Losses(loss, found, {"loss": loss, **found})

    step = trainer.run(batches(), losses)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return accelerator.unwrap_model(trainer.network).encoder.float().eval().cpu(), step
