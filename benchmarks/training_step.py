"""Training steps a second of both network stages, and the share of a step spent waiting for data.

    python -m benchmarks.training_step [--quick] [--threads 2] [--num_workers 0]

The stages are run as they are (training/train_unet.py, training/train_autoencoder.py) with the settings of
checkpoints/small and their real loaders, into a folder that is thrown away; a wrapper around the loader reads the
clock before and after each batch. The first steps, which also set up threads and memory, are not counted. A stage
whose data folder is missing is named and left out.
"""

import argparse
import statistics
import tempfile
import time
import unittest.mock
from pathlib import Path

from benchmarks.harness import Child, ChildError, machine, save, synchronise

STAGES = {"autoencoder": "data/scorebook", "unet": "latents/small"}
UNCOUNTED = 3


class TimedLoader:
    """A loader that records when each batch was requested and received."""

    def __init__(self, loader):
        self.loader = loader
        self.requested: list[float] = []
        self.received: list[float] = []

    def __iter__(self):
        batches = iter(self.loader)
        while True:
            synchronise()
            self.requested.append(time.perf_counter())
            batch = next(batches, None)
            if batch is None:
                return
            self.received.append(time.perf_counter())
            yield batch


def figures(requested: list[float], received: list[float], batch_size: int, uncounted: int = UNCOUNTED) -> dict:
    """Steps a second and share of waiting from the times at which batches were requested and received (seconds).

    Raises:
        ValueError: if fewer than two steps are left to count.
    """
    starts, ends = requested[uncounted:], received[uncounted:]
    if len(ends) < 2 or len(starts) < 2:
        raise ValueError(f"{len(received)} steps were run; at least {uncounted + 2} are needed")
    steps = min(len(starts) - 1, len(ends))
    wall = [starts[i + 1] - starts[i] for i in range(steps)]
    waits = [ends[i] - starts[i] for i in range(steps)]
    middle = statistics.median(wall)
    return {
        "steps_per_s": 1.0 / middle,
        "items_per_s": batch_size / middle,
        "share_waiting": sum(waits) / sum(wall),
        "steps": steps,
    }


def subject(stage: str, data_dir: str, config: str, num_workers: int, threads: int):
    """A child's `run(steps)`: train that many steps from new weights and return the figures."""
    from training import train_autoencoder, train_unet
    from training.run import loop

    module = {"autoencoder": train_autoencoder, "unet": train_unet}[stage]
    made: list[TimedLoader] = []
    plain = loop.make_loader
    batch_sizes: list[int] = []

    def make_loader(items, config, *more):
        batch_sizes.append(config.batch_size)
        made.append(TimedLoader(plain(items, config, *more)))
        return made[-1]

    def run(steps: int) -> dict:
        made.clear()
        with unittest.mock.patch.object(loop, "make_loader", make_loader), tempfile.TemporaryDirectory() as folder:
            arguments = {
                "config": config, "data_dir": data_dir, "output_dir": f"{folder}/run", "max_steps": steps,
                "num_workers": num_workers, "num_threads": threads, "validate_clips": 1,
                "checkpoint_every": 10**9, "checkpoint_minutes": 1e9, "log_every": 10**9,
            }  # fmt: skip
            if stage == "autoencoder":
                arguments["pca_clips"] = 8  # the start of the weights, before the first step that is counted
            module.main([word for name, value in arguments.items() for word in (f"--{name}", str(value))])
        return figures(made[0].requested, made[0].received, batch_sizes[-1])

    return run


def run(options: argparse.Namespace) -> dict:
    result = {"machine": machine(options.threads), "num_workers": options.num_workers, "stages": {}, "not_run": {}}
    for stage, default in STAGES.items():
        data_dir = getattr(options, f"{stage}_data") or default
        if not Path(data_dir).is_dir():
            result["not_run"][stage] = f"no folder {data_dir}; see the README on preparing data"
            continue
        arguments = {
            "stage": stage, "data_dir": data_dir, "config": f"training/configs/{options.size}/{stage}.yaml",
            "num_workers": options.num_workers, "threads": options.threads,
        }  # fmt: skip
        try:
            with Child("benchmarks.training_step:subject", arguments, options.threads, options.timeout_s) as child:
                runs = [child.call(steps=options.steps) for _ in range(1 if options.quick else 3)]
        except (ChildError, OSError) as error:
            result["not_run"][stage] = str(error)
            continue
        middle = {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        result["stages"][stage] = {**middle, "runs": len(runs), "peak_memory_gb": middle.pop("peak_memory") / 1e9}
        save("training_step", result)
    save("training_step", result)
    return result


def table(result: dict) -> str:
    lines = ["| stage | steps a second | items a second | waiting for data | peak memory |", "|---|---|---|---|---|"]
    for stage, row in result["stages"].items():
        lines.append(
            f"| {stage} | {row['steps_per_s']:.2f} | {row['items_per_s']:.1f} | {row['share_waiting']:.1%} "
            f"| {row['peak_memory_gb']:.2f} GB |"
        )
    lines += [f"| {stage} | not run: {reason} | | | |" for stage, reason in result["not_run"].items()]
    return "\n".join(lines)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", help="folder of training/configs")
    parser.add_argument("--autoencoder_data", help="folder of clips, in place of data/scorebook")
    parser.add_argument("--unet_data", help="folder of latents, in place of latents/small")
    parser.add_argument("--steps", type=int, default=25, help="steps that are timed")
    parser.add_argument("--num_workers", type=int, default=0, help="data-loader processes")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--timeout_s", type=float, default=300.0, help="longest measurement, seconds")
    parser.add_argument("--quick", action="store_true", help="once each")
    return parser.parse_args(argv)


if __name__ == "__main__":
    print(table(run(parse())))
