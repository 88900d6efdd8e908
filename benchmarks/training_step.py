"""Training steps a second of both network stages, and the share of a step spent waiting for data.

    python -m benchmarks.training_step [--quick] [--threads 2] [--num_workers 0]

The stages are run as they are (training/train_unet.py, training/train_autoencoder.py) with the settings of
checkpoints/small and their real loaders, into a folder that is thrown away; the figures are those of their log. The
first fifth of the steps, which also set up threads and memory, is not counted. A stage whose data folder is missing is
named and left out.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.harness import Child, ChildError, machine, save

STAGES = {"autoencoder": "data/scorebook", "unet": "latents/small"}
LINES = 5  # of the log


def subject(stage: str, data_dir: str, config: str, num_workers: int, threads: int):
    """A child's `run(steps)`: train that many steps from new weights and return the figures in the log of the run."""
    from training import train_autoencoder, train_unet

    module = {"autoencoder": train_autoencoder, "unet": train_unet}[stage]

    def run(steps: int) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            output_dir = Path(folder) / "run"
            arguments = {
                "config": config, "data_dir": data_dir, "output_dir": output_dir, "max_steps": steps,
                "num_workers": num_workers, "num_threads": threads, "validate_clips": 1,
                "checkpoint_every": 10**9, "checkpoint_minutes": 1e9, "log_every": max(1, steps // LINES),
            }  # fmt: skip
            if stage == "autoencoder":
                arguments["pca_clips"] = 8  # the start of the weights, before the first step that is counted
            module.main([word for name, value in arguments.items() for word in (f"--{name}", str(value))])
            batch_size = json.loads((output_dir / "config.json").read_text())["batch_size"]
            return figures((output_dir / "log.jsonl").read_text(), batch_size)

    return run


def figures(log: str, batch_size: int) -> dict:
    """Steps a second and share of waiting from the lines of a log, of which the first is not counted."""
    lines = [line for line in map(json.loads, log.splitlines()) if "train/items_per_s" in line][1:]
    items_per_s = statistics.median(line["train/items_per_s"] for line in lines)
    return {
        "steps_per_s": items_per_s / batch_size,
        "items_per_s": items_per_s,
        "share_waiting": statistics.mean(line.get("train/waiting", 0.0) for line in lines),
    }


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
