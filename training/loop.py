"""What the three stages share: order of samples, randomness, EMA, checkpoints, logs.

Everything random in a run is a pure function of (seed, step, item): there is no generator whose state could be lost.
So a run that is killed and started again by the same command reads the same samples with the same crops and the same
noise, and N processes together draw what one process would.
"""

import dataclasses
import json
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm.auto import tqdm

from training.config import RunConfig
from training.files import data_fingerprint, provenance, replace_folder, write_json
from training.interrupt import Interruption


def item_rng(seed: int, *position: int) -> np.random.Generator:
    """A numpy generator that depends only on (seed, position...)."""
    return np.random.default_rng(np.random.SeedSequence([seed, *position]))


def torch_rng(seed: int, *position: int) -> torch.Generator:
    """A CPU torch generator that depends only on (seed, position...)."""
    state = np.random.SeedSequence([seed, *position]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


class StepSampler(Sampler[list[int]]):
    """Yields, for each micro-batch from `start` on, the positions that belong to this process.

    Position p of the run reads item `order(p)`: epoch p // n, shuffled by (seed, epoch). Positions of one optimiser
    step are split over accumulation steps and processes, so the global batch is the same for any number of processes.
    """

    def __init__(self, config: RunConfig, start_step: int, rank: int, world_size: int):
        micro = config.batch_size // (config.gradient_accumulation_steps * world_size)
        if micro * config.gradient_accumulation_steps * world_size != config.batch_size or micro == 0:
            raise ValueError(
                f"batch_size {config.batch_size} is not a multiple of gradient_accumulation_steps x processes "
                f"({config.gradient_accumulation_steps} x {world_size})"
            )
        self.config, self.start_step, self.rank, self.world_size, self.micro = (
            config,
            start_step,
            rank,
            world_size,
            micro,
        )

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.start_step, self.config.max_steps):
            for part in range(self.config.gradient_accumulation_steps):
                first = step * self.config.batch_size + (part * self.world_size + self.rank) * self.micro
                yield list(range(first, first + self.micro))

    def __len__(self) -> int:
        return (self.config.max_steps - self.start_step) * self.config.gradient_accumulation_steps


class Shuffled(Dataset):
    """Maps a position of the run to `items[order(position)]`, read with a generator of its own.

    `items` is any sequence with `read(index, rng) -> dict of tensors`.
    """

    def __init__(self, items, seed: int):
        self.items, self.seed = items, seed
        self._epoch, self._order = -1, None

    def __getitem__(self, position: int) -> dict:
        epoch, offset = divmod(position, len(self.items))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, item_rng(self.seed, 1, epoch).permutation(len(self.items))
        return self.items.read(int(self._order[offset]), item_rng(self.seed, 2, position))


def make_loader(items, config: RunConfig, start_step: int, accelerator: Accelerator) -> DataLoader:
    sampler = StepSampler(config, start_step, accelerator.process_index, accelerator.num_processes)
    return DataLoader(
        Shuffled(items, config.seed),
        batch_sampler=sampler,
        num_workers=config.num_workers,
        persistent_workers=config.num_workers > 0,
        pin_memory=accelerator.device.type == "cuda",
    )


def shard(whole: torch.Tensor, accelerator: Accelerator, part: int, config: RunConfig) -> torch.Tensor:
    """This process's rows, at accumulation step `part`, of a tensor drawn for the whole global batch."""
    micro = whole.shape[0] // (config.gradient_accumulation_steps * accelerator.num_processes)
    first = (part * accelerator.num_processes + accelerator.process_index) * micro
    return whole[first : first + micro]


def start(config: RunConfig) -> Accelerator:
    """Threads, seed, accelerator, run folder with the resolved config."""
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.tracker,
        project_dir=config.output_dir,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=False)],
    )
    if accelerator.is_main_process:
        Path(config.output_dir).mkdir(parents=True, exist_ok=True)
        check_output_dir(config.output_dir)
        described = {**dataclasses.asdict(config), "made_with": provenance(config.data_dir)}
        write_json(Path(config.output_dir) / "config.json", described)
    accelerator.wait_for_everyone()
    if config.tracker:
        accelerator.init_trackers("logs", config={k: v for k, v in dataclasses.asdict(config).items() if v is not None})
    return accelerator


def check_output_dir(output_dir: str) -> None:
    """Refuse a folder that holds something else than a run, so that nothing foreign is overwritten or mixed in.

    Raises:
        ValueError: naming a few of the files that are there.
    """
    names = sorted(path.name for path in Path(output_dir).iterdir())
    if names and not {"config.json", "checkpoints"} & set(names):
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ValueError(f"output_dir {output_dir} holds {some} and no run; give a new or empty folder")


# ---- checkpoints ---------------------------------------------------------------------------------------------------


def checkpoints(output_dir: str) -> list[Path]:
    """Complete checkpoints, oldest first."""
    folder = Path(output_dir) / "checkpoints"
    return sorted(p for p in folder.glob("step_*") if p.name[5:].isdigit() and (p / "run.json").is_file())


def save_checkpoint(accelerator: Accelerator, config: RunConfig, step: int) -> None:
    """Weights, EMA, optimiser, schedule and scaler of `step`, in a folder that appears only when it is complete.

    Raises:
        OSError: if it cannot be written, as on a full disk; the checkpoints before it are untouched.
    """
    final = Path(config.output_dir) / "checkpoints" / f"step_{step:08d}"
    partial = final.with_name(final.name + ".partial")
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    accelerator.wait_for_everyone()
    try:
        accelerator.save_state(str(partial))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            about = {"step": step, "config": dataclasses.asdict(config), "data": data_fingerprint(config.data_dir)}
            write_json(partial / "run.json", about)
            replace_folder(partial, final)
    except Exception as error:  # torch and safetensors each raise an error of their own for a full disk
        shutil.rmtree(partial, ignore_errors=True)
        raise OSError(
            f"the checkpoint of step {step} could not be written to {final.parent} ({error}); earlier ones are kept"
        ) from error
    if accelerator.is_main_process:
        for stale in checkpoints(config.output_dir)[: -config.keep_checkpoints]:
            shutil.rmtree(stale)
    accelerator.wait_for_everyone()


# Settings that may differ between a run and its continuation: they change when and where, not what is computed.
FREE = frozenset({
    "max_minutes", "num_threads", "num_workers", "log_every", "checkpoint_every", "checkpoint_minutes",
    "keep_checkpoints", "tracker", "validate_every", "evaluate_every", "evaluate_clips",
    "evaluate_steps", "evaluate_guidance", "best_metric", "text_encoder", "tagger", "beat_tracker", "key_network",
    "compile", "output_dir", "data_dir", "force",
})  # fmt: skip


def resume(accelerator: Accelerator, config: RunConfig) -> int:
    """Load the newest complete checkpoint; return the step to go on from (0 for a new run).

    Raises:
        ValueError: if that checkpoint was made with other settings that change the result, or on other data, and
            `config.force` is not set.
    """
    found = checkpoints(config.output_dir)
    if not found:
        return 0
    saved = json.loads((found[-1] / "run.json").read_text())
    now = dataclasses.asdict(config)
    changed = [
        f"{k} was {saved['config'].get(k)!r}, is {now[k]!r}"
        for k in now
        if k not in FREE and saved["config"].get(k) != now[k]
    ]
    data = data_fingerprint(config.data_dir)
    if saved.get("data", data) != data:
        changed.append(f"the data was {saved['data']} ({saved['config'].get('data_dir')}), is {data} in data_dir")
    if changed and not config.force:
        raise ValueError(
            f"output_dir {config.output_dir} holds a run with other settings ({'; '.join(changed)}); choose another "
            "output_dir, the same settings, or --force to go on all the same"
        )
    accelerator.load_state(str(found[-1]))
    return int(saved["step"])


class ema_weights:
    """The averaged weights inside the block, the trained ones after it."""

    def __init__(self, ema: EMAModel, model: torch.nn.Module):
        self.ema, self.model = ema, model

    def __enter__(self) -> None:
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())

    def __exit__(self, *_: object) -> None:
        self.ema.restore(self.model.parameters())


def save_final(accelerator: Accelerator, model: torch.nn.Module, ema: EMAModel, config: RunConfig) -> None:
    """EMA weights to `output_dir/final`."""
    if accelerator.is_main_process:
        final = Path(config.output_dir) / "final"
        partial = final.with_name("final.partial")
        with ema_weights(ema, model):
            model.save_pretrained(partial)
        replace_folder(partial, final)
    accelerator.wait_for_everyone()
    accelerator.end_training()


class Progress:
    """One line: step, loss, items a second, time left; the same figures to the tracker. Also keeps the time."""

    def __init__(self, accelerator: Accelerator, config: RunConfig, first_step: int, description: str):
        self.accelerator, self.config = accelerator, config
        self.bar = tqdm(
            total=config.max_steps,
            initial=first_step,
            desc=description,
            unit="step",
            disable=not accelerator.is_main_process,
            mininterval=5.0,
            dynamic_ncols=True,
        )
        self.began = self.saved = time.monotonic()
        self.interruption = Interruption()
        self.interruption.listen()
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, step: int, values: dict[str, torch.Tensor | float]) -> None:
        """Count one optimiser step; every `log_every` steps the means go to the bar and the tracker."""
        self.bar.update(1)
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        if step % self.config.log_every == 0:
            means = {name: total / self.count for name, total in self.sums.items()}
            shown = {k: f"{v:.4f}" for k, v in means.items()} | {"GB": f"{peak_memory_gb(self.accelerator):.1f}"}
            self.bar.set_postfix(shown, refresh=False)
            self.report(step, {f"train/{name}": value for name, value in means.items()})
            self.sums, self.count = {}, 0

    def report(self, step: int, values: dict[str, float]) -> None:
        if self.config.tracker:
            self.accelerator.log(values, step=step)
        if self.accelerator.is_main_process:
            with open(Path(self.config.output_dir) / "log.jsonl", "a") as log:
                minutes = round((time.monotonic() - self.began) / 60.0, 3)
                log.write(json.dumps({"step": step, "minutes": minutes, **values}) + "\n")

    def due(self, step: int) -> bool:
        """Is a checkpoint due? All processes get the same answer."""
        late = time.monotonic() - self.saved > 60.0 * self.config.checkpoint_minutes
        answer = step % self.config.checkpoint_every == 0 or self._together(late)
        if answer:
            self.saved = time.monotonic()
        return answer

    def leave_if_asked(self, step: int) -> None:
        """Where any process was sent SIGTERM: write a checkpoint and end the program with exit code 0, in all."""
        if not self._together(self.interruption.asked):
            return
        save_checkpoint(self.accelerator, self.config, step)
        self.close()
        self.accelerator.end_training()
        raise SystemExit(0)

    def out_of_time(self) -> bool:
        """Has `max_minutes` passed, by the clock of any process?"""
        limit = self.config.max_minutes
        return limit is not None and self._together(time.monotonic() - self.began > 60.0 * limit)

    def _together(self, mine: bool) -> bool:
        """What any process says, told to all: they stop and save at the same step."""
        if self.accelerator.num_processes == 1:
            return mine
        flag = torch.tensor([float(mine)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item() > 0)

    def close(self) -> None:
        self.interruption.ignore()
        self.bar.close()


def peak_memory_gb(accelerator: Accelerator) -> float:
    """The most memory this process has held so far: of its GPU, or resident in RAM where it has none."""
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_allocated(accelerator.device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
