"""All of Vivace on one GPU machine without a network: data, three stages, evaluation, weights in small pieces.

Here, once (.cache is ignored by git):       python -m training.recipes.kit --output_dir .cache/gpu
There, with the working tree and .cache/gpu, in under 10 minutes:

    python3 -m training.recipes.gpu --kit .cache/gpu --out "$OUT" --size small --init checkpoints/small \
        --hours 10 --autoencoder_minutes 1.5 --unet_minutes 4.5

Back here:                                   python -m training.recipes.pieces <what came back> checkpoints/gpu

To see what share of the GPU's peak the base size reaches (its weights are 60 pieces, more than may come back):

    python3 -m training.recipes.gpu --kit .cache/gpu --out "$OUT" --size base --init checkpoints/small \
        --new_autoencoder --new_unet --hours 2 --data_args "--sampling_rate 44100 --channels 2" \
        --autoencoder_minutes 1 --unet_minutes 3 --evaluate_clips 0

Starts, compilation and evaluation take about three minutes more than the stages. `--autoencoder_minutes 0` keeps the
autoencoder of `--init`. Each stage first makes a few steps to see how fast the machine is, and then plans as many as
fit into its minutes, so that the learning rate ends where it should. With `--calls 3` the plan spans three calls; while
the machine is kept, the next call by the same command goes on from the work folder (where that was lost, give what came
back as `--init`). In `--out`: run.log, report.json (samples a second, share of the GPU's bf16 peak, waiting, losses),
evaluate.json, weights.tar.00-of-02 ... of at most 15 MiB.

Only the standard library is imported here: everything else is in the kit, for the processes that this one starts.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from training.recipes import pieces

H200_BF16_FLOPS = 989e12  # dense, by the vendor's datasheet
ON_A_GPU = "--mixed_precision bf16 --compile true"
PLANNED = 0.92  # of a stage's minutes go into steps; the rest into validation and checkpoints


class Failed(RuntimeError):
    """A step ended with an error; its output is in the log."""


class Recipe:
    """The steps, with their times and figures in `report`.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.out, self.work = Path(options.out), Path(options.work)
        self.out.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(parents=True, exist_ok=True)
        self.environment = dict(os.environ, PYTHONUNBUFFERED="1", TOKENIZERS_PARALLELISM="false")
        self.report: dict = {"options": vars(options), "seconds": {}, "stages": {}}

    # ---- running ----------------------------------------------------------------------------------------------------

    def run(self, name: str, words: list[str]) -> str:
        """Start a module of ours, wait, keep its output in the log; returns what it printed to stdout.

        Raises:
            Failed: it did not end with 0.
        """
        began = time.monotonic()
        print(f"{name}: {shlex.join(words)}", flush=True)
        with open(self.out / "run.log", "a") as log:
            log.write(f"\n== {name}: {shlex.join(words)}\n")
            log.flush()
            done = subprocess.run(
                [sys.executable, "-m", *words], stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
            )
            log.write(done.stdout)
        self.report["seconds"][name] = round(self.report["seconds"].get(name, 0.0) + time.monotonic() - began, 1)
        self.save_report()
        if done.returncode:
            raise Failed(f"{name} ended with {done.returncode}; see run.log")
        return done.stdout

    def save_report(self) -> None:
        partial = self.out / "report.json.partial"
        partial.write_text(json.dumps(self.report, indent=2) + "\n")
        os.replace(partial, self.out / "report.json")

    # ---- the steps --------------------------------------------------------------------------------------------------

    def unpack_kit(self) -> None:
        """Install the wheels beside, not into, the machine's Python; SoundFont and scores are found where they lie."""
        kit = Path(self.options.kit)
        wheels = sorted((kit / "wheels").glob("*.whl"))
        site = (self.work / "site").resolve()
        if wheels and not site.is_dir():
            words = ["pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
            self.run("wheels", [*words, "--target", str(site), *map(str, wheels)])
        paths = [str(site)] if wheels else []
        self.environment["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [os.environ.get("PYTHONPATH")])])
        if any((kit / "sources").glob("*")):
            self.environment["VIVACE_CACHE"] = str((kit / "sources").resolve())
        self.fonts = [path for ending in ("sf2", "sf3") for path in sorted((kit / "sources").glob(f"*.{ending}"))]
        told = self.run("machine", ["training.recipes.machine"])
        self.report["machine"] = json.loads(told.splitlines()[-1])

    def render(self) -> None:
        words = ["training.data.scorebook", "--hours", str(self.options.hours), "--seed", str(self.options.seed)]
        words += ["--output_dir", str(self.work / "data"), "--num_workers", str(self.options.num_workers)]
        words += [word for font in self.fonts for word in ("--soundfont", str(font))]
        self.run("render", [*words, *shlex.split(self.options.data_args)])

    def train(self, stage: str, module: str, minutes: float, words: list[str]) -> None:
        """Train one stage for `minutes`, by a plan that is made on the first call."""
        run = self.work / stage
        words = [module, "--config", f"training/configs/{self.options.size}/{stage}.yaml", *words]
        words += shlex.split(self.options.stage_args) + shlex.split(getattr(self.options, f"{stage}_args"))
        plan_file = self.work / f"{stage}_plan.json"
        if plan_file.is_file():
            plan = json.loads(plan_file.read_text())
        else:
            plan = self.plan(stage, words, minutes)
            plan_file.write_text(json.dumps(plan))
        limits = [
            "--max_steps",
            str(plan["steps"]),
            "--max_minutes",
            str(minutes),
            "--log_every",
            str(plan["log_every"]),
        ]
        self.run(stage, [*words, "--output_dir", str(run), *limits, "--validate_every", str(plan["validate_every"])])
        self.report["stages"][stage] = plan | stage_figures(
            read_log(run / "log.jsonl"), plan["flops_per_item"], self.options.peak_tflops * 1e12
        )
        self.save_report()

    def plan(self, stage: str, words: list[str], minutes: float) -> dict:
        """How many steps fit: the cost of one by a dry run, the speed by a few real ones (compiled, if the run is)."""
        count = self.options.trial_steps
        trial = self.work / f"{stage}_trial"
        told = self.run(f"{stage} dry run", [*words, "--output_dir", str(trial), "--dry_run"])
        cost = json.loads(told.splitlines()[-1])
        settings = ["--max_steps", str(count), "--log_every", str(max(1, count // 4)), "--validate_clips", "1"]
        self.run(f"{stage} trial", [*words, "--output_dir", str(trial), *settings])
        speeds = [line["train/items_per_s"] for line in read_log(trial / "log.jsonl") if "train/items_per_s" in line]
        batch_size = json.loads((trial / "config.json").read_text())["batch_size"]
        shutil.rmtree(trial)
        steps = max(1, int(PLANNED * 60.0 * minutes * self.options.calls * speeds[-1] / batch_size))
        return {
            "steps": steps, "batch_size": batch_size, "log_every": max(1, steps // 200),
            "validate_every": max(1, steps // 10), "parameters": cost["parameters"],
            "flops_per_item": cost["flops_per_item"],
        }  # fmt: skip

    def weights_to_start_from(self) -> Path | None:
        """The folder of `--init`, joined from its pieces if it came back in such."""
        if self.options.init is None:
            return None
        folder = Path(self.options.init)
        if pieces.find(folder):
            joined = self.work / "init"
            if not joined.is_dir():
                pieces.join(folder, joined)
            return joined
        return folder

    def __call__(self) -> None:
        """All of it."""
        options, work = self.options, self.work
        self.unpack_kit()
        self.render()
        before = self.weights_to_start_from()
        text_encoder = str(options.text_encoder or before)
        loader = ["--num_workers", str(min(8, options.num_workers))]
        if options.autoencoder_minutes:
            start = ["--init_from", str(before / "vae")] if before and not options.new_autoencoder else []
            words = ["--data_dir", str(work / "data"), *start, *loader]
            self.train("autoencoder", "training.train_autoencoder", options.autoencoder_minutes, words)
            autoencoder = work / "autoencoder" / "final"
        else:
            autoencoder = before / "vae"
        words = ["training.encode_latents", "--autoencoder", str(autoencoder), "--text_encoder", text_encoder]
        words += ["--num_workers", str(options.num_workers)]
        self.run("encode", [*words, "--data_dir", str(work / "data"), "--output_dir", str(work / "latents")])
        if options.unet_minutes:
            start = ["--init_from", str(before / "unet")] if before and not options.new_unet else []
            words = ["--data_dir", str(work / "latents"), *start, *loader]
            self.train("unet", "training.train_unet", options.unet_minutes, words)
            self.publish(work / "unet" / "final", text_encoder)

    def publish(self, unet: Path, text_encoder: str) -> None:
        """The checkpoint folder, fp16, in pieces, and its figures."""
        folder = self.work / "checkpoint"
        words = ["training.export", "--unet", str(unet), "--latents", str(self.work / "latents")]
        words += ["--scheduler_config", f"training/configs/{self.options.size}/scheduler.json"]
        self.run("export", [*words, "--text_encoder", text_encoder, "--output_dir", str(folder)])
        made = pieces.split(folder, self.out)
        self.report["pieces"] = {path.name: path.stat().st_size for path in made}
        if not self.options.evaluate_clips:
            return
        words = ["training.evaluate", "--checkpoint", str(folder), "--data_dir", str(self.work / "data")]
        words += ["--num_clips", str(self.options.evaluate_clips), "--output", str(self.out / "evaluate.json")]
        words += ["--num_workers", str(min(8, self.options.num_workers)), *shlex.split(self.options.evaluate_args)]
        print(self.run("evaluate", words))


def read_log(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def stage_figures(lines: list[dict], flops_per_item: float, peak_flops: float) -> dict:
    """What a stage's log says of its speed and of what it learned.

    Args:
        lines: of log.jsonl, oldest first.
        flops_per_item: forward and backward.
        peak_flops: of the device, FLOP/s.
    """
    trained = [line for line in lines if "train/items_per_s" in line]
    validated = [line for line in lines if any(name.startswith("validation/") for name in line)]
    speed = statistics.median(line["train/items_per_s"] for line in trained)
    figures = {
        "done": lines[-1]["step"],
        "items_per_s": speed,
        "share_of_peak": speed * flops_per_item / peak_flops,
        "waiting": statistics.median(line.get("train/waiting", 0.0) for line in trained),
        "first": trained[0],
        "last": trained[-1],
    }
    return figures | ({"validation": validated[-1]} if validated else {})


def table(report: dict) -> str:
    lines = [
        "| stage | parameters | steps | samples/s | share of peak | waiting | loss first, last |",
        "|---" * 7 + "|",
    ]
    for name, row in report["stages"].items():
        lines.append(
            f"| {name} | {row['parameters'] / 1e6:.1f} M | {row['done']} of {row['steps']} | {row['items_per_s']:.0f} "
            f"| {row['share_of_peak']:.2%} | {row['waiting']:.1%} "
            f"| {row['first']['train/loss']:.3f}, {row['last']['train/loss']:.3f} |"
        )
    seconds = ", ".join(f"{name} {value:.0f}" for name, value in report["seconds"].items())
    return "\n".join([*lines, f"seconds: {seconds}"])


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kit", default=".cache/gpu", help="folder of training.recipes.kit")
    parser.add_argument("--out", required=True, help="what comes back")
    parser.add_argument("--work", default="runs/gpu", help="data, latents and runs; kept between calls")
    parser.add_argument("--size", default="small", help="folder of training/configs")
    parser.add_argument("--init", help="earlier weights: a checkpoint folder, or the pieces of one")
    parser.add_argument("--new_autoencoder", action="store_true", help="do not start from that of --init")
    parser.add_argument("--new_unet", action="store_true")
    parser.add_argument("--text_encoder", help="folder; default: that of --init")
    parser.add_argument("--hours", type=float, default=10.0, help="of rendered music")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autoencoder_minutes", type=float, default=1.5, help="0 = keep that of --init")
    parser.add_argument("--unet_minutes", type=float, default=4.5, help="0 = none")
    parser.add_argument("--calls", type=int, default=1, help="how many calls like this one a stage's schedule spans")
    parser.add_argument("--trial_steps", type=int, default=40, help="steps that tell the machine's speed")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count())
    parser.add_argument("--evaluate_clips", type=int, default=32, help="0 = none")
    parser.add_argument("--peak_tflops", type=float, default=H200_BF16_FLOPS / 1e12)
    parser.add_argument("--stage_args", default=ON_A_GPU, help="settings of both stages")
    parser.add_argument("--autoencoder_args", default="", help='more settings, as in "--batch_size 128"')
    parser.add_argument("--unet_args", default="")
    parser.add_argument("--data_args", default="")
    parser.add_argument("--evaluate_args", default="")
    options = parser.parse_args(words)
    for name in ("hours", "calls", "trial_steps", "num_workers", "peak_tflops"):
        if not getattr(options, name) > 0:
            parser.error(f"{name} is {getattr(options, name)}; allowed: above 0")
    for name in ("autoencoder_minutes", "unet_minutes", "evaluate_clips"):
        if getattr(options, name) < 0:
            parser.error(f"{name} is {getattr(options, name)}; allowed: at least 0")
    if options.init is None and (options.text_encoder is None or not options.autoencoder_minutes):
        parser.error("init is not given; needed for the text encoder, and for the autoencoder unless it is trained")
    if options.init is not None and not Path(options.init).is_dir():
        parser.error(f"init {options.init}: no such folder")
    return options


def main(words: list[str] | None = None) -> int:
    """Run it; whatever was done is in `--out` even if a step fails."""
    recipe = Recipe(parse(words))
    code = 0
    try:
        recipe()
    except Failed as error:
        recipe.report["failed"] = str(error)
        lines = (recipe.out / "run.log").read_text().splitlines()
        print("\n".join([*lines[-25:], f"error: {error}"]), file=sys.stderr)
        code = 2
    recipe.save_report()
    print(table(recipe.report))
    return code


if __name__ == "__main__":
    sys.exit(main())
