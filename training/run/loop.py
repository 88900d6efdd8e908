"""Start and end of a training run, and its random numbers and order of items.

Every random draw of a run is a pure function of (seed, step, item), so that no generator's state must be saved. A run
that is killed and started again by the same command reads the same items with the same crops and noise, and N processes
together draw the same numbers as a single one.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, Dataset, Sampler

from training.config import RunConfig, StageRun
from training.run.checkpoints import checkpoints, data_dir_of, provenance, replace_folder, write_json
from training.run.progress import leave_signals_to_the_parent
from training.run.sharding import is_sharded, reshard, whole_model
from training.run.streams import Stream, item_rng, torch_rng

__all__ = [
    "Shuffled",
    "StepSampler",
    "Stream",
    "check_output_dir",
    "checkpoints",
    "ema_weights",
    "item_rng",
    "make_loader",
    "replace_folder",
    "save_final",
    "shard",
    "start",
    "torch_rng",
    "write_json",
]


def micro_batch_size(config: RunConfig, processes: int) -> int:
    """Number of items in a micro-batch, that is in one process at one accumulation step. Raises a ValueError if the
    batch cannot be divided evenly."""
    micro = config.batch_size // (config.gradient_accumulation_steps * processes)
    if micro * config.gradient_accumulation_steps * processes != config.batch_size or micro == 0:
        raise ValueError(
            f"batch_size {config.batch_size} is not a multiple of gradient_accumulation_steps x processes "
            f"({config.gradient_accumulation_steps} x {processes})"
        )
    return micro


class StepSampler(Sampler[list[int]]):
    """Yields the positions of this process for each micro-batch from step `start_step` on.

    Position p of the run reads item `order(p)`: epoch p // n, shuffled by (seed, epoch). The positions of one
    optimiser step are split over accumulation steps and processes, whose number does not change the batch.
    """

    def __init__(self, config: RunConfig, start_step: int, rank: int, world_size: int):
        self.config, self.start_step, self.rank, self.world_size = config, start_step, rank, world_size
        self.micro = micro_batch_size(config, world_size)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.config.max_steps):
            for part in range(self.config.gradient_accumulation_steps):
                first = step * self.config.batch_size + (part * self.world_size + self.rank) * self.micro
                yield list(range(first, first + self.micro))

    def __len__(self) -> int:
        return (self.config.max_steps - self.start_step) * self.config.gradient_accumulation_steps


class Shuffled(Dataset):
    """Maps a position of the run to an item in an order that `seed` determines, read with the position's own generator.

    `items` is any sequence with `read(index, rng) -> dict of tensors`.
    """

    def __init__(self, items, seed: int):
        self.items, self.seed = items, seed
        self._epoch, self._order = -1, None

    def _item(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.items))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, item_rng(self.seed, Stream.ITEM_ORDER, epoch).permutation(len(self.items))
        return int(self._order[offset])

    def __getitem__(self, position: int) -> dict:
        return self.items.read(self._item(position), item_rng(self.seed, Stream.ITEM, position))


def make_loader(items, config: StageRun, start_step: int, accelerator: Accelerator) -> DataLoader:
    """A loader of this process's micro-batches from `start_step` on. Raises a ValueError if there are fewer items than
    processes, or the batch cannot be divided evenly."""
    if len(items) < accelerator.num_processes:
        raise ValueError(f"data_dir {config.data_dir}: {len(items)} clips for {accelerator.num_processes} processes")
    sampler = StepSampler(config, start_step, accelerator.process_index, accelerator.num_processes)
    return DataLoader(
        Shuffled(items, config.seed),
        batch_sampler=sampler,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        worker_init_fn=leave_signals_to_the_parent,
        pin_memory=accelerator.device.type == "cuda",
    )


def shard(whole: torch.Tensor, accelerator: Accelerator, part: int, config: RunConfig) -> torch.Tensor:
    """This process's rows, at accumulation step `part`, of a tensor drawn for the whole batch."""
    micro = whole.shape[0] // (config.gradient_accumulation_steps * accelerator.num_processes)
    first = (part * accelerator.num_processes + accelerator.process_index) * micro
    return whole[first : first + micro]


def start(config: RunConfig, write: bool = True, may_shard: bool = False) -> Accelerator:
    """Set threads and seed, make the accelerator and, if `write`, the run folder with the resolved config and the
    trackers. `may_shard` says whether the stage supports a model that FSDP has sharded. Raises a ValueError if the
    folder holds other files, or FSDP is used for a stage that does not support it.
    """
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.tracker if write else None,
        project_dir=config.output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )
    if is_sharded(accelerator) and not may_shard:
        raise ValueError("distributed_type is FSDP; allowed: for stage 3 alone (the other models fit on one GPU)")
    if not write:
        return accelerator
    if accelerator.is_main_process:
        Path(config.output_dir).mkdir(parents=True, exist_ok=True)
        check_output_dir(config.output_dir)
        described = {**dataclasses.asdict(config), "made_with": provenance(data_dir_of(config))}
        write_json(Path(config.output_dir) / "config.json", described)
    accelerator.wait_for_everyone()
    if config.tracker:
        settings = {k: str(v) if isinstance(v, list) else v for k, v in dataclasses.asdict(config).items()}
        accelerator.init_trackers("logs", config={k: v for k, v in settings.items() if v is not None})
    return accelerator


def check_output_dir(output_dir: str) -> None:
    """Raise a ValueError for a folder that holds other files than a run, so that none of them is overwritten."""
    names = sorted(path.name for path in Path(output_dir).iterdir())
    if names and not {"config.json", "checkpoints"} & set(names):
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ValueError(f"output_dir {output_dir} holds {some} and no run; give a new or empty folder")


class ema_weights:
    """Context in which a model has its averaged weights; the trained ones are restored after it."""

    def __init__(self, ema: EMAModel, model: torch.nn.Module):
        self.ema, self.model = ema, model

    def __enter__(self) -> None:
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())

    def __exit__(self, *_: object) -> None:
        reshard(self.model)
        self.ema.restore(self.model.parameters())


def save_final(
    accelerator: Accelerator,
    model: torch.nn.Module,
    ema: EMAModel,
    config: RunConfig,
    trained: torch.nn.Module | None = None,
    save: Callable[[torch.nn.Module, Path], None] | None = None,
) -> None:
    """Save the averaged weights to `output_dir/final` and end the run.

    `trained` is the part of the model that `ema` averages (None = all of it); `save` writes the model to a folder
    (None = its `save_pretrained`).
    """
    with ema_weights(ema, model if trained is None else trained):
        whole = whole_model(accelerator, model)
        if accelerator.is_main_process:
            final = Path(config.output_dir) / "final"
            partial = final.with_name("final.partial")
            if save is None:
                whole.save_pretrained(partial)
            else:
                save(whole, partial)
            replace_folder(partial, final)
    accelerator.wait_for_everyone()
    accelerator.end_training()
