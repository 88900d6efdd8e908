"""Autoencoders side by side: each is trained for the same CPU time on the same clips, then measured on unseen ones.

    OMP_NUM_THREADS=1 python -m benchmarks.autoencoders --minutes 5 --variants vivace encodec
    OMP_NUM_THREADS=1 python -m benchmarks.autoencoders --phases 8 16 32 --autoencoder checkpoints/small/vae

The clock is the process's CPU time, so that other work on the machine does not favour one of them. The first lines tell
which class and which latents reconstruct best for their cost; how well latents are generated is another question.
`--recordings` adds the distances on music that no SoundFont played. `--phases` measures weights as they are with other
numbers of phase iterations, without training.
"""

import argparse
import json
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from autoencoder.classes import Autoencoder, load_autoencoder
from training import train_autoencoder
from training.data.clips import read_audio, read_rows
from training.metrics.reconstruction import reconstruction_figures
from training.run.progress import Progress

CONFIGS = Path("training/configs/small")


@dataclass(frozen=True)
class Variant:
    """An architecture with changes to it, and settings of the run."""

    base: str = "autoencoder.json"
    model: dict = field(default_factory=dict)
    run: dict = field(default_factory=dict)


VARIANTS = {
    "vivace": Variant(),
    "encodec": Variant("autoencoder_encodec.json", run={"crop_frames": 64}),  # 50 Hz: the same seconds
    "channels_16": Variant(model={"latent_channels": 16}),
    "channels_32": Variant(model={"latent_channels": 32}),
    "rate_75": Variant(model={"hop_length": 588}, run={"crop_frames": 96}),
    "noise_0": Variant(run={"latent_noise": 0.0}),
    "noise_0.3": Variant(run={"latent_noise": 0.3}),
    "kl_0": Variant(run={"kl_weight": 0.0}),
    "kl_0.01": Variant(run={"kl_weight": 0.01}),
}


def run_for(minutes: float, stage: Callable[[list[str]], object], settings: dict[str, object]) -> int:
    """Run a training stage for `minutes` of this process's CPU time, its start included; returns its number of steps.

    `stage` is its `main`, which takes the words of a command line, and `settings` are those of the run, with
    `output_dir`.
    """
    end = time.process_time() + 60.0 * minutes
    with unittest.mock.patch.object(Progress, "out_of_time", lambda self: time.process_time() > end):
        stage([word for name, value in settings.items() for word in (f"--{name}", str(value))])
    lines = (Path(str(settings["output_dir"])) / "log.jsonl").read_text().splitlines()
    return json.loads(lines[-1])["step"]


def train(variant: Variant, folder: Path, data_dir: str, minutes: float, batch_size: int) -> tuple[Autoencoder, int]:
    """Train for `minutes` of CPU time, the start of the weights included; returns the model and its number of steps."""
    channels = len(read_audio(read_rows(data_dir, "train")[0]))
    architecture = json.loads((CONFIGS / variant.base).read_text()) | {"audio_channels": channels}
    if channels == 1 and "stereo_bands" in architecture:
        architecture["stereo_bands"] = 0
    architecture |= variant.model
    (folder / "model.json").write_text(json.dumps(architecture))
    settings = {
        "model_config": folder / "model.json", "data_dir": data_dir, "output_dir": folder / "run", "tracker": "null",
        "batch_size": batch_size, "crop_frames": 32, "max_steps": 10**6, "lr_scheduler": "constant_with_warmup",
        "warmup_steps": 20, "ema_decay": 0.98, "pca_clips": 40, "checkpoint_every": 10**9, "checkpoint_minutes": 1e9,
        "validate_every": 10**9, "validate_clips": 4, "learning_rate": 1e-3,
    } | variant.run  # fmt: skip
    steps = run_for(minutes, train_autoencoder.main, settings)
    return load_autoencoder(folder / "run" / "final").eval(), steps


@torch.no_grad()
def measure(vae: Autoencoder, data_dir: str, clips: int) -> dict[str, float]:
    """Reconstruction of `clips` test clips, and seconds of audio decoded in a second of CPU time."""
    every = read_rows(data_dir, "test")
    chosen = np.random.default_rng(0).permutation(len(every))[:clips]
    figures, seconds, spent = [], 0.0, 0.0
    for index in chosen:
        audio = read_audio(every[index])
        latents = vae.encode(audio[None]).latent_dist.mode()
        began = time.process_time()
        decoded = vae.decode(latents).sample[0, :, : audio.shape[1]]
        spent, seconds = spent + time.process_time() - began, seconds + audio.shape[1] / vae.config.sampling_rate
        figures.append(reconstruction_figures(decoded.numpy(), audio.numpy(), vae.config.sampling_rate))
    means = {name: float(np.mean([f[name] for f in figures])) for name in ("log_mel", "mr_stft")}
    return means | {"decoded_s_per_cpu_s": seconds / spent}


def trained_row(name: str, options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        vae, steps = train(VARIANTS[name], Path(folder), options.data_dir, options.minutes, options.batch_size)
    crop_s = VARIANTS[name].run.get("crop_frames", 32) / vae.frame_rate
    return {
        "variant": name,
        "parameters": sum(p.numel() for p in vae.parameters()),
        "latents": f"{vae.config.latent_channels} x {vae.frame_rate:g} Hz",
        "steps": steps,
        "trained_s_per_cpu_s": steps * options.batch_size * crop_s / (60.0 * options.minutes),
        **measure(vae, options.data_dir, options.clips),
        **heard_elsewhere(vae, options),
    }


def heard_elsewhere(vae: Autoencoder, options: argparse.Namespace) -> dict[str, float]:
    """The same distances on clips of another kind than those of the training, if there are any."""
    if options.recordings is None:
        return {}
    figures = measure(vae, options.recordings, options.clips)
    return {f"{name}_recordings": figures[name] for name in ("log_mel", "mr_stft")}


def phase_row(iterations: int, options: argparse.Namespace) -> dict:
    vae = load_autoencoder(options.autoencoder).eval()
    vae.register_to_config(phase_iterations=iterations)
    figures = measure(vae, options.data_dir, options.clips)
    return {"variant": f"{iterations} phase iterations", **figures, **heard_elsewhere(vae, options)}


def table(rows: list[dict]) -> str:
    """Markdown; a row leaves empty what it does not have."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[f"{v:.3f}" if isinstance(v := row.get(name, ""), float) else str(v) for name in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(argv: list[str] | None = None) -> int:
    """Command line; a row is printed when it is there, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="*", default=[], choices=list(VARIANTS), help="architectures to train")
    parser.add_argument("--phases", nargs="*", type=int, default=[], help="Griffin-Lim iterations to compare")
    parser.add_argument("--autoencoder", default="checkpoints/small/vae", help="weights for --phases")
    parser.add_argument("--data_dir", default="data/scorebook", help="folder of clips")
    parser.add_argument("--recordings", help="folder of training.data.prepare; its test split is measured besides")
    parser.add_argument("--minutes", type=float, default=5.0, help="minutes of CPU time of each training")
    parser.add_argument("--batch_size", type=int, default=8, help="clips a training step")
    parser.add_argument("--clips", type=int, default=24, help="clips of the test split")
    options = parser.parse_args(argv)
    if options.minutes <= 0 or options.clips < 1 or min(options.phases, default=1) < 1:
        parser.error("--minutes, --clips and --phases must be above 0")
    if not options.variants and not options.phases:
        parser.error(f"give --phases, or --variants of {', '.join(VARIANTS)}")
    torch.set_num_threads(1)
    rows = []
    for name in options.variants:
        rows.append(trained_row(name, options))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    for iterations in options.phases:
        rows.append(phase_row(iterations, options))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
