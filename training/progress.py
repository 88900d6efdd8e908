"""What a run tells of itself: one line, a log file, the tracker; when it must save, and when it must stop."""

import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from training.config import RunConfig
from training.interrupt import Interruption
from training.memory import peak_resident


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
        self.began = self.saved = self.mark = time.monotonic()
        self.interruption = Interruption()
        self.interruption.listen()
        self.sums: dict[str, torch.Tensor | float] = {}
        self.counts: dict[str, float] = {}
        self.steps_s: list[float] = []
        self.waited_s = 0.0

    def batches(self, loader: Iterable[dict]) -> Iterator[dict]:
        """The loader's batches; the time spent waiting for them is told as `train/waiting`, a share of the steps'."""
        batches = iter(loader)
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited_s += time.monotonic() - asked
            yield batch

    def collect(self, values: dict[str, torch.Tensor | float], counts: dict[str, float] | None = None) -> None:
        """Figures of a part of a step in this process; their means are told with those of `add`.

        Args:
            values: by name.
            counts: how many things a value is the sum of, for those where it is not one.
        """
        for name, value in values.items():  # kept where they are: a GPU is not waited for
            self.sums[name] = self.sums.get(name, 0.0) + (value.detach() if isinstance(value, torch.Tensor) else value)
            self.counts[name] = self.counts.get(name, 0.0) + (counts or {}).get(name, 1.0)

    def add(self, step: int, values: dict[str, torch.Tensor | float]) -> None:
        """Count one optimiser step, of which `step` are done now; every `log_every` steps the means go to the bar and
        the tracker."""
        self.bar.update(1)
        self.steps_s.append(time.monotonic() - self.mark)
        self.collect(values)
        if step % self.config.log_every == 0:
            means = self._means()
            rate = self.config.batch_size / statistics.median(self.steps_s)
            shown = {k: f"{v:.4f}" for k, v in means.items()} | {"items/s": f"{rate:.1f}"}
            self.bar.set_postfix(shown | {"GB": f"{peak_memory_gb(self.accelerator):.1f}"}, refresh=False)
            told = {f"train/{name}": value for name, value in means.items()} | {"train/items_per_s": rate}
            if self.waited_s:
                told["train/waiting"] = self.waited_s / sum(self.steps_s)
            self.report(step, told)
            self.sums, self.counts, self.steps_s, self.waited_s = {}, {}, [], 0.0
        self.mark = time.monotonic()

    def _means(self) -> dict[str, float]:
        """Over the steps since the last line and over all processes; what none of them had is left out."""
        names = sorted(self.sums)
        totals = torch.tensor([[float(self.sums[n]), self.counts[n]] for n in names], dtype=torch.float64)
        if self.accelerator.num_processes > 1:
            totals = self.accelerator.reduce(totals.to(self.accelerator.device, torch.float32), "sum").double().cpu()
        return {n: (total / count).item() for n, (total, count) in zip(names, totals, strict=True) if count}

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

    def asked_to_leave(self) -> bool:
        """Was any process sent SIGTERM or Ctrl-C? All processes get the same answer.

        Called last in a step: what was done since `add` (evaluation, a checkpoint) is no time of the next step.
        """
        self.mark = time.monotonic()
        return self._together(self.interruption.asked)

    def leave(self, step: int) -> None:
        """End the program, in all processes, after a checkpoint was written."""
        self.close()
        self.accelerator.end_training()
        if self.accelerator.is_main_process:
            print(f"stopped after step {step}, saved; the same command goes on from there", file=sys.stderr)
        raise SystemExit(self.interruption.exit_code)

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
    return peak_resident() / 1e9
