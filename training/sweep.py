"""Compare numbers of steps, guidance scales and schedulers by control figures and speed, on validation clips.

    OMP_NUM_THREADS=1 python -m training.sweep --checkpoint checkpoints/small --steps 4 6 8 12 20 --guidance 1.5 2.5 3.5

Each setting is one line on the screen and in `--output`; a second run continues where the first one stopped, and
`--picture` draws quality over speed. A checkpoint's default settings are chosen with this on the validation split and
measured by `training.evaluate` on the test split.
"""

import itertools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from tqdm import tqdm

from pipelines.card import folder_hash
from pipelines.hub import load_pipeline
from training import generate
from training.config import command, option, parse_config
from training.data.clips import read_rows
from training.flow import FLOW, prediction_type
from training.metrics.control import compare
from training.metrics.distribution import SPACE_CLIPS, Space
from training.metrics.embedding import DEFAULT_EMBEDDER, load_embedder
from training.metrics.folder import load_clips
from training.metrics.listening import analyse, load_listeners
from training.metrics.request import anchored_requests
from training.metrics.summary import summarise
from training.run.checkpoints import write_text

FIGURES = {
    "tempo_4pct": "tempo", "beat_f": "beat F", "downbeat_f": "downbeat F", "key_exact": "key", "chord_cosine": "chords",
    "stated_heard": "instruments", "drums": "drums", "style": "style",
}  # fmt: skip
KERNEL = "kernel_distance"  # as in training.evaluate: paired, in the space of the training clips
OWN = "own"
SETTING = ("captions", "scheduler", "interval", "steps", "guidance")


@dataclass(frozen=True)
class SweepRun:
    """Measure a checkpoint at every combination of sampling settings."""

    checkpoint: str = option("checkpoints/small", "a published folder")
    steps: list[int] = option([4, 6, 8, 12, 20], "inference steps", at_least=1)
    guidance: list[float] = option([2.5], "guidance scales", at_least=0.0)
    interval: list[str] = option(["0:1"], "noise levels between which guidance is on, LOW:HIGH")
    scheduler: list[str] = option(
        [OWN], "classes of diffusers that can be made from the checkpoint's scheduler, or own: that itself"
    )
    captions: list[str] = option(
        ["text"], "captions in the words of training, or in words that it never saw", choices=("text", "text_heldout")
    )
    data_dir: str = option("data/scorebook", "folder of clips with captions")
    split: str = option("validation", "split of data_dir")
    num_clips: int = option(64, "clips a setting", at_least=2)
    seed: int = option(0, "chooses the rows and their captions, and starts the noise", at_least=0)
    batch_size: int = option(8, "clips made at once", at_least=1)
    output: str = option(
        "runs/sweep.jsonl", "a line a setting; what it holds of this checkpoint and these clips is not measured again"
    )
    picture: str | None = option(
        None, "PNG: the figures over the speed, for the first of captions, schedulers and intervals"
    )
    tagger: str = option("checkpoints/tagger", "folder of the tagger")
    beat_tracker: str = option("checkpoints/beat_tracker", "folder of the beat tracker")
    key: str = option("checkpoints/key", "folder of the key network")


def check(config: SweepRun) -> None:
    """Raise a ValueError for a setting out of range."""
    for interval in config.interval:
        bounds_of(interval)
    unknown = [name for name in config.scheduler if name != OWN and not hasattr(diffusers, name)]
    if unknown:
        raise ValueError(f"scheduler is {unknown[0]!r}; allowed: {OWN!r} or a scheduler class of diffusers")
    if not Path(config.checkpoint).is_dir():
        raise ValueError(f"checkpoint {config.checkpoint}: no such folder")


def bounds_of(interval: str) -> tuple[float, float]:
    """The two noise levels of "LOW:HIGH"."""
    try:
        low, high = (float(part) for part in interval.split(":"))
    except ValueError:
        low, high = 1.0, 0.0
    if not 0.0 <= low < high <= 1.0:
        raise ValueError(f"interval is {interval!r}; allowed: LOW:HIGH with 0 <= LOW < HIGH <= 1, as in 0.2:0.9")
    return low, high


def sampler(name: str, own):
    """Another scheduler of diffusers for the noise process of the checkpoint's own."""
    # Schedulers that also support diffusion need two settings for a flow; those named FlowMatch lack them.
    flow = {"prediction_type": FLOW, "use_flow_sigmas": True} if prediction_type(own) == FLOW else {}
    kind = getattr(diffusers, name)
    return kind.from_config(own.config, **({} if name.startswith("FlowMatch") else flow))


class Measurement:
    """The clips to request, and the networks that measure the generated ones."""

    def __init__(self, config: SweepRun, pipe):
        self.config, self.rate, self.scheduler = config, int(pipe.vae.config.sampling_rate), pipe.scheduler
        rate = self.rate
        rows = generate.choose(read_rows(config.data_dir, config.split), config.num_clips, config.seed)
        self.clips = load_clips(rows, rate)
        self.listeners = load_listeners(config.tagger, config.beat_tracker, config.key)
        self.embedder = load_embedder(DEFAULT_EMBEDDER)
        self.real = self.embedder.embed(self.clips.mono, rate)
        train = load_clips(generate.choose(read_rows(config.data_dir, "train"), SPACE_CLIPS, config.seed), rate)
        self.space = Space(self.embedder.embed(train.mono, rate))

    def measure(self, pipe, captions: str, scheduler: str, interval: str, steps: int, guidance: float) -> dict:
        """The figures of one setting: means over the clips, seconds of music a CPU second, and kernel distance."""
        config, rows = self.config, self.clips.rows
        texts, stated = generate.draw_captions(rows, config.seed, captions)
        pipe.scheduler = self.scheduler if scheduler == OWN else sampler(scheduler, self.scheduler)
        began = time.process_time()
        audios = generate.generate(
            pipe, rows, texts, config.seed, config.batch_size, steps, guidance,
            guidance_interval=bounds_of(interval),
        )  # fmt: skip
        spent = time.process_time() - began
        requests = anchored_requests(rows, audios, self.rate, stated)
        figures = compare(analyse(audios, self.rate, self.listeners, None), requests, self.listeners.thresholds)
        summary = {name: summarise((f.get(name) for f in figures), config.seed) for name in FIGURES}
        made = self.embedder.embed(audios, self.rate)
        return {
            "music_s_per_cpu_s": round(sum(map(len, audios)) / self.rate / spent, 3),
            KERNEL: self.space.kernel_distance(self.real, made, paired=True, seed=config.seed, resamples=0)["mean"],
            **{name: summary[name]["mean"] for name in FIGURES},
            "intervals": {name: (summary[name]["low"], summary[name]["high"]) for name in FIGURES},
        }


def line_of(row: dict) -> str:
    """One measured setting as text."""
    figures = " ".join(
        f"{label} {row[name]:.3f}" if row[name] is not None else f"{label} -" for name, label in FIGURES.items()
    )
    sampler = "" if row["scheduler"] == OWN else f" {row['scheduler']}"
    return (
        f"{row['captions']:12s}{sampler} steps {row['steps']:3d} guidance {row['guidance']:4.1f} on {row['interval']}: "
        f"{row['music_s_per_cpu_s']:6.1f} s/s  kernel distance {row[KERNEL]:6.3f}  {figures}"
    )


def read_lines(path: Path) -> list[dict]:
    """The rows of a file, empty if it does not exist."""
    return [json.loads(line) for line in path.read_text().split("\n") if line] if path.is_file() else []


def draw(rows: list[dict], path: Path) -> None:
    """Plot quality over speed: a line for each figure, with a point for each number of steps at its best guidance."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    steps = sorted({row["steps"] for row in rows})
    speed = [np.mean([row["music_s_per_cpu_s"] for row in rows if row["steps"] == count]) for count in steps]
    for name, label in FIGURES.items():
        best = [max(row[name] or 0.0 for row in rows if row["steps"] == count) for count in steps]
        axes.plot(speed, best, marker="o", label=label)
    for count, rate in zip(steps, speed, strict=True):
        axes.annotate(f"{count} steps", (rate, 1.02), ha="center", fontsize=8)
    axes.set_ylim(0, 1.08)
    axes.set_xlabel("seconds of music a second of one CPU thread")
    axes.set_ylabel("share right, F or cosine")
    axes.legend(loc="lower left", ncols=2, fontsize=8)
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", dpi=100)
    os.replace(partial, path)


def main(argv: list[str] | None = None) -> list[dict]:
    """Measure the missing settings; returns the rows of this checkpoint and these clips."""
    config = parse_config(SweepRun, argv)
    check(config)
    pipe = load_pipeline(config.checkpoint)
    pipe.set_progress_bar_config(disable=True)
    path = Path(config.output)
    subject = {
        "checkpoint_sha256": folder_hash(Path(config.checkpoint)), "split": config.split, "seed": config.seed,
        "num_clips": config.num_clips,
    }  # fmt: skip
    before = read_lines(path)
    # Rows of older versions, whose distance has another name, are measured again.
    rows = [row for row in before if KERNEL in row and all(row.get(name) == value for name, value in subject.items())]
    done = {tuple(row[name] for name in SETTING) for row in rows}
    every = itertools.product(*(getattr(config, name) for name in SETTING))
    wanted = [setting for setting in every if setting not in done]
    measurement = Measurement(config, pipe) if wanted else None
    for setting in tqdm(wanted, desc="settings", disable=None):
        with torch.inference_mode():
            row = {**subject, **dict(zip(SETTING, setting, strict=True)), **measurement.measure(pipe, *setting)}
        rows.append(row)
        before.append(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(line) + "\n" for line in before))
        print(line_of(row), flush=True)
    if config.picture is not None and rows:
        drawn = {name: getattr(config, name)[0] for name in SETTING if name not in ("steps", "guidance")}
        draw([row for row in rows if drawn.items() <= row.items()], Path(config.picture))
    return rows


if __name__ == "__main__":
    command(main)
