"""Progress of a training run: logs, time limits, interruption by signals, and peak memory."""

import json
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import torch
from accelerate import Accelerator
from tqdm.auto import tqdm

from training.config import RunConfig


def peak_resident() -> int:
    """Peak resident memory of this process in bytes.

    On Linux this is `VmHWM`, since `ru_maxrss` includes the peak of the parent process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_memory() -> int:
    """Peak memory in bytes: of the GPU if it is used, otherwise resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return peak_resident()


STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)  # sent by a job scheduler before it kills, and by Ctrl-C


class Interruption:
    """Between `install` and `restore`, a stop signal sets `requested`, so that the loop can save before it stops.

    A second Ctrl-C interrupts at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self.exit_code = 0  # after SIGTERM; 130 after Ctrl-C, as in a shell
        self._before: dict[signal.Signals, object] = {}

    def install(self) -> None:
        """Handle the signals; does nothing outside the main thread, as Python requires."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in STOP_SIGNALS}

    def restore(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _request(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.requested:
                raise KeyboardInterrupt
            self.exit_code = 130
        self.requested = True


def leave_signals_to_the_parent(_worker: int) -> None:
    """Ignore stop signals in a loader's worker.

    They reach every process of the group, and a worker that dies would end the run before it has saved. Workers end
    with their parent.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class Progress:
    """Reports a run's figures in a progress bar, a log file and the tracker, and decides when to save and stop."""

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
        self.interruption.install()
        self.sums: dict[str, torch.Tensor | float] = {}
        self.counts: dict[str, float] = {}
        self.steps_s: list[float] = []
        self.waited_s = 0.0

    def batches(self, loader: Iterable[dict]) -> Iterator[dict]:
        """The loader's batches; the share of time spent waiting for them is logged as `train/waiting`."""
        batches = iter(loader)
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited_s += time.monotonic() - began
            yield batch

    def collect(self, values: dict[str, torch.Tensor | float], counts: dict[str, float] | None = None) -> None:
        """Collect figures of a micro-batch of this process; `add` logs their means. `counts` holds the number of terms
        of each value that is a sum."""
        for name, value in values.items():  # kept on their device, which avoids waiting for a GPU
            self.sums[name] = self.sums.get(name, 0.0) + (value.detach() if isinstance(value, torch.Tensor) else value)
            self.counts[name] = self.counts.get(name, 0.0) + (counts or {}).get(name, 1.0)

    def add(self, step: int, values: dict[str, torch.Tensor | float]) -> None:
        """Count one optimiser step; `step` are completed now. Every `log_every` steps the means are logged."""
        self.bar.update(1)
        self.steps_s.append(time.monotonic() - self.mark)
        self.collect(values)
        if step % self.config.log_every == 0:
            means = self._means()
            rate = self.config.batch_size / statistics.median(self.steps_s)
            shown = {k: f"{v:.4f}" for k, v in means.items()} | {"items/s": f"{rate:.1f}"}
            self.bar.set_postfix(shown | {"GB": f"{peak_memory() / 1e9:.1f}"}, refresh=False)
            logged = {f"train/{name}": value for name, value in means.items()} | {"train/items_per_s": rate}
            if self.waited_s:
                logged["train/waiting"] = self.waited_s / sum(self.steps_s)
            self.report(step, logged)
            self.sums, self.counts, self.steps_s, self.waited_s = {}, {}, [], 0.0
        self.mark = time.monotonic()

    def _means(self) -> dict[str, float]:
        """Means over the steps since the last line and over all processes."""
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
        """Whether a checkpoint is due; the same in all processes."""
        late = time.monotonic() - self.saved > 60.0 * self.config.checkpoint_minutes
        answer = step % self.config.checkpoint_every == 0 or self._any_process(late)
        if answer:
            self.saved = time.monotonic()
        return answer

    def stop_requested(self) -> bool:
        """Whether any process got SIGTERM or Ctrl-C; the same in all processes.

        Call this last in a step, since it restarts the clock for the next step, which then excludes evaluation and
        saving.
        """
        self.mark = time.monotonic()
        return self._any_process(self.interruption.requested)

    def leave(self, step: int) -> None:
        """End the program in all processes; call this after a checkpoint is written."""
        self.close()
        self.accelerator.end_training()
        if self.accelerator.is_main_process:
            print(f"stopped after step {step}, saved; the same command goes on from there", file=sys.stderr)
        raise SystemExit(self.interruption.exit_code)

    def out_of_time(self) -> bool:
        """Whether `max_minutes` have passed in any process."""
        limit = self.config.max_minutes
        return limit is not None and self._any_process(time.monotonic() - self.began > 60.0 * limit)

    def _any_process(self, mine: bool) -> bool:
        """Whether `mine` is true in any process, so that all stop and save at the same step."""
        if self.accelerator.num_processes == 1:
            return mine
        flag = torch.tensor([float(mine)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item() > 0)

    def close(self) -> None:
        self.interruption.restore()
        self.bar.close()
