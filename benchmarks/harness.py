"""What all benchmarks share: children whose memory is theirs alone, alternation, medians, results on disk.

A time is only ever compared with a time of the same run: the sides take turns (ours, peer, ours, peer, ...), so that
whatever else the machine does falls on both, and the ratio is the median of the ratios of the rounds.
"""

import json
import os
import platform
import selectors
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

RESULTS = Path("runs/benchmarks")


def synchronise() -> None:
    """Wait until the GPU, where there is one, has done all it was given: a clock is read after this."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def pick_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def available_memory() -> int:
    """Bytes that a new process can take: of the GPU where there is one, otherwise of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available


class ChildError(RuntimeError):
    """A child ended, failed or took too long; the message is the last line of its output."""


class Child:
    """A subject (benchmarks/child.py) in a process of its own, which answers one request at a time.

    Args:
        subject: "module:function"; the function takes `arguments` and returns the subject's `run(**request)`.
        arguments: JSON values.
        threads: CPU threads that it may use.
        timeout_s: the longest that building it or one request may take.

    Attributes:
        ready_s: seconds from starting the process until the subject was built.
        about: the subject's description of itself.
    """

    def __init__(self, subject: str, arguments: dict, threads: int, timeout_s: float = 600.0):
        self.timeout_s = timeout_s
        self.began = time.perf_counter()
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", subject, json.dumps(arguments), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if not sys.stderr.isatty() else None,
            env=environment,
        )
        if self.process.stderr is not None:  # read without waiting, so that a child never blocks on a full pipe
            os.set_blocking(self.process.stderr.fileno(), False)
        try:
            self.about = self._reply()
        except ChildError:
            self.close()
            raise
        self.ready_s = time.perf_counter() - self.began

    def call(self, **request) -> dict:
        """Send one request, wait for its answer. Raises a ChildError if the child fails, ends or exceeds
        `timeout_s`."""
        self.process.stdin.write((json.dumps(request) + "\n").encode())
        self.process.stdin.flush()
        return self._reply()

    def _reply(self) -> dict:
        deadline = time.perf_counter() + self.timeout_s
        words = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                if self.process.stderr is not None:
                    words = (words + (self.process.stderr.read() or b""))[-4000:]
                if selector.select(timeout=0.2):
                    line = self.process.stdout.readline()
                    break
                if time.perf_counter() > deadline:
                    raise ChildError(f"took longer than {self.timeout_s:g} s")
        if not line:
            code = self.process.wait()
            if self.process.stderr is not None:
                words += self.process.stderr.read() or b""
            last = (words.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise ChildError(f"killed by signal {-code} (9: out of memory)" if code < 0 else last[-300:])
        return json.loads(line)

    def close(self) -> None:
        """End the child, at once if it does not end by itself."""
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def alternate(
    sides: dict[str, Callable[[], float]], rounds: int, budget_s: float = float("inf")
) -> dict[str, list[float]]:
    """Let each side run once a round, in turn, and collect what each returns (seconds).

    Another round is begun only if one like the longest so far still fits in `budget_s`; the first always is.
    """
    found: dict[str, list[float]] = {name: [] for name in sides}
    began, longest = time.perf_counter(), 0.0
    for index in range(rounds):
        if index and time.perf_counter() - began + longest > budget_s:
            break
        start = time.perf_counter()
        for name, side in sides.items():
            found[name].append(side())
        longest = max(longest, time.perf_counter() - start)
    return found


def summary(values: list[float]) -> dict[str, float]:
    """Median, extremes and count."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}


def ratio(first: list[float], second: list[float]) -> float:
    """Median over the rounds of second / first, each from one round."""
    return statistics.median(b / a for a, b in zip(first, second, strict=True))


def machine(threads: int) -> dict:
    """What the figures were measured on."""
    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]  # fmt: skip
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else (names or [platform.machine()])[0],
        "cores": psutil.cpu_count(),
        "threads": threads,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def save(name: str, result: dict, folder: Path = RESULTS) -> Path:
    """Write one benchmark's result as it comes, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1))
    os.replace(partial, path)
    return path
