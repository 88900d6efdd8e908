"""Which latents are the better ones to generate: a short diffusion run on each, judged by the decoded audio.

    OMP_NUM_THREADS=1 python -m benchmarks.latent_trial --variants vivace channels_32 noise_0 > trial.md 2> trial.jsonl

Each variant of benchmarks/autoencoders.py is trained for the same CPU time on the same clips, encodes the same subset
of them (stage 2), a small UNet is trained on that for the same CPU time (stage 3), and one request a validation clip is
generated. The loss of stage 3 says nothing between latents, since each has its own targets; hence what is compared is
heard: kernel distance to real clips of the same split that were not asked for, and control figures. The row `real`
holds the figures of the clips that were asked for, `ceiling` those clips through the autoencoder alone.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.autoencoders import CONFIGS, VARIANTS, measure, run_for, table, train
from pipelines.pipeline_vivace import GRID_CHANNELS, VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import ask, encode_latents, train_unet
from training.autoencoders import load_autoencoder
from training.data.clips import read_bytes, read_rows
from training.flow import load_scheduler
from training.metrics.compare import compare
from training.metrics.embedding import load_embedder
from training.metrics.folder import load_clips
from training.metrics.kernel_distance import kernel_distance
from training.metrics.listening import Listeners, listen, load_listeners
from training.metrics.request import anchored_request, request_of_row

CROP_S = 5.12
REFERENCE_CLIPS = 256
SHOWN = ("tempo_4pct", "beat_f", "downbeat_f", "key_exact", "chord_cosine", "stated_heard", "style")


class Judge:
    """What is asked for, and what is heard in the answers.

    Args:
        data_dir: folder whose validation clips are asked for and compared with.
        clips: how many are asked for; as many others as there are, up to 256, are what the distance is taken to.
        listeners: networks that hear tempo, beats, key and tags.
    """

    def __init__(self, data_dir: str, clips: int, listeners: Listeners):
        every = read_rows(data_dir, "validation")
        if len(every) < clips + 2:
            raise ValueError(f"clips is {clips}; allowed: at most 2 less than the {len(every)} validation clips")
        order = np.random.default_rng(0).permutation(len(every))
        self.listeners, self.embedder = listeners, load_embedder("tagger")
        self.rows = [every[i] for i in order[:clips]]
        self.said = [ask.caption(row, "text", 0, index) for index, row in enumerate(self.rows)]
        self.asked = load_clips(self.rows)
        others = load_clips([every[i] for i in order[clips : clips + REFERENCE_CLIPS]], self.asked.sampling_rate)
        reference = self.embedder.embed(others.mono, self.asked.sampling_rate)
        self.mean, self.scale = reference.mean(axis=0), reference.std(axis=0).clip(1e-6)
        self.reference = (reference - self.mean) / self.scale

    def distance(self, audios: list[np.ndarray]) -> dict[str, float]:
        """Kernel distance of clips (samples,) to the reference, on its scale, with its interval."""
        embedded = (self.embedder.embed(audios, self.asked.sampling_rate) - self.mean) / self.scale
        found = kernel_distance(self.reference, embedded)
        return {"kernel": found["mean"], "kernel_low": found["low"], "kernel_high": found["high"]}

    def figures(self, audios: list[np.ndarray], real: bool = False) -> dict[str, float]:
        """Distance, and the means of the control figures; the beats of `real` clips lie where their labels say."""
        rate = self.asked.sampling_rate
        requests = [
            request_of_row(row, stated) if real else anchored_request(row, len(audio) / rate, stated)
            for row, audio, (_, stated) in zip(self.rows, audios, self.said, strict=True)
        ]
        each = compare(listen(audios, rate, self.listeners, None), requests, self.listeners.thresholds)
        values = {name: [f[name] for f in each if f[name] is not None] for name in SHOWN}
        return self.distance(audios) | {name: float(np.mean(found)) for name, found in values.items() if found}


def write_subset(folder: Path, data_dir: str, train_clips: int, validation: list[dict]) -> None:
    """A data folder of so many training clips, drawn, and the clips that are asked for (stage 2 wants a test split
    too, which nobody reads here: the first of them)."""
    every = read_rows(data_dir, "train")
    drawn = [every[i] for i in np.random.default_rng(1).permutation(len(every))[:train_clips]]
    for split, rows in (("train", drawn), ("validation", validation), ("test", validation[:1])):
        (folder / split).mkdir(parents=True)
        lines = []
        for number, row in enumerate(rows):
            name = f"{number:05d}{Path(row['file_name']).suffix}"
            (folder / split / name).write_bytes(read_bytes(row))
            lines.append(json.dumps({k: v for k, v in row.items() if k != "path"} | {"file_name": name}) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(lines))


def train_on(latents: Path, folder: Path, options: argparse.Namespace) -> tuple[UNet1DConditionModel, int]:
    """The UNet of the small size on these latents, and how many steps it made."""
    about = json.loads((latents / "latents.json").read_text())
    channels = about["latent_channels"]
    architecture = json.loads(Path(options.unet_config).read_text())
    architecture |= {"in_channels": channels, "out_channels": channels}
    architecture |= {"frame_cond_channels": GRID_CHANNELS + 1 + channels}  # the grid, the mask, what is given
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps(architecture))
    settings = {
        "model_config": folder / "model.json", "scheduler_config": CONFIGS / "scheduler.json", "data_dir": latents,
        "output_dir": folder / "run", "tracker": "null", "batch_size": 8, "log_every": 10,
        "crop_frames": round(CROP_S * about["frame_rate"]), "max_steps": 10**6, "lr_scheduler": "constant_with_warmup",
        "warmup_steps": 50, "learning_rate": 1.5e-3, "ema_decay": 0.99, "logit_mean": 0.6, "logit_std": 1.2,
        "mask_probability": 0.15, "checkpoint_every": 10**9, "checkpoint_minutes": 1e9, "validate_every": 10**9,
        "validate_clips": 8,
    }  # fmt: skip
    steps = run_for(options.unet_minutes, train_unet.main, settings)
    return UNet1DConditionModel.from_pretrained(folder / "run" / "final").eval(), steps


def pipeline_of(unet: UNet1DConditionModel, latents: Path, text_encoder_folder: str) -> VivacePipeline:
    """A pipeline of the parts that were trained."""
    text_encoder, tokenizer = encode_latents.load_text_encoder(text_encoder_folder)
    pipe = VivacePipeline(
        vae=load_autoencoder(latents / "vae").eval(),
        unet=unet,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=load_scheduler(CONFIGS / "scheduler.json"),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def trial(name: str, subset: Path, judge: Judge, options: argparse.Namespace) -> dict:
    """One variant through all stages; its row."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        folder, latents = Path(place), Path(place) / "latents"
        vae, vae_steps = train(VARIANTS[name], folder, options.data_dir, options.minutes, options.batch_size)
        settings = {"autoencoder": folder / "run" / "final", "text_encoder": options.text_encoder}
        settings |= {"data_dir": subset, "output_dir": latents}
        encode_latents.main([word for name, value in settings.items() for word in (f"--{name}", str(value))])
        unet, unet_steps = train_on(latents, folder / "unet", options)
        pipe = pipeline_of(unet, latents, options.text_encoder)
        audios = ask.generate(pipe, judge.rows, [words for words, _ in judge.said], 0, 8, 12, 2.5)
        ceiling = judge.distance(ask.reconstruct(pipe, judge.asked.mono))["kernel"]
    return {
        "variant": name,
        "latents": f"{vae.config.latent_channels} x {vae.frame_rate:g} Hz",
        "vae_steps": vae_steps,
        **{k: v for k, v in measure(vae, options.data_dir, 24).items() if k != "decoded_s_per_cpu_s"},
        "unet_steps": unet_steps,
        "ceiling": ceiling,
        **judge.figures(audios),
        "cpu_minutes": (time.process_time() - began) / 60.0,
    }


def main(argv: list[str] | None = None) -> int:
    """Command line; a row is printed when it is there, and the table at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", required=True, choices=list(VARIANTS))
    parser.add_argument("--data_dir", default="data/scorebook")
    parser.add_argument("--text_encoder", default="checkpoints/small", help="folder with text_encoder/ and tokenizer/")
    parser.add_argument("--unet_config", default=str(CONFIGS / "unet.json"), help="its channels follow the latents'")
    parser.add_argument("--minutes", type=float, default=3.0, help="of CPU time, of each autoencoder")
    parser.add_argument("--unet_minutes", type=float, default=4.0, help="of CPU time, of each UNet")
    parser.add_argument("--batch_size", type=int, default=8, help="of the autoencoder")
    parser.add_argument("--train_clips", type=int, default=600, help="that are encoded for the UNet")
    parser.add_argument("--clips", type=int, default=48, help="of the validation split, asked for")
    options = parser.parse_args(argv)
    if min(options.minutes, options.unet_minutes) <= 0 or options.train_clips < 1 or options.clips < 2:
        parser.error("--minutes, --unet_minutes and --train_clips must be above 0, and --clips above 1")
    torch.set_num_threads(1)
    judge = Judge(
        options.data_dir,
        options.clips,
        load_listeners("checkpoints/tagger", "checkpoints/beat_tracker", "checkpoints/key"),
    )
    rows = [{"variant": "real", **judge.figures(judge.asked.mono, real=True)}]
    with tempfile.TemporaryDirectory() as place:
        subset = Path(place) / "subset"
        write_subset(subset, options.data_dir, options.train_clips, judge.rows)
        print(json.dumps(rows[0]), file=sys.stderr, flush=True)
        for name in options.variants:
            rows.append(trial(name, subset, judge, options))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows[1:] + rows[:1]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
