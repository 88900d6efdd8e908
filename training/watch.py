"""Evaluate a run while it trains: figures and demo clips of the averaged weights, of which the best are kept.

    python -m training.train_unet --config ... --evaluate_every 1000 --best_metric evaluation/tempo_4pct

The captions and labels of the first validation latents are requested, so that the data set itself is not needed. The
global random generators are restored afterwards, so that a run with evaluation gives the same bits as one without.
"""

import contextlib
import dataclasses
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import SchedulerMixin

from autoencoder.classes import load_autoencoder
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import generate
from training.config import UNetRun
from training.data.latents import LatentCrops
from training.encode_latents import load_text_encoder
from training.metrics import control
from training.metrics.control import compare
from training.metrics.distribution import SPACE_CLIPS, Space
from training.metrics.embedding import load_embedder
from training.metrics.listening import analyse, load_listeners
from training.metrics.request import anchored_requests
from training.objective import KERNEL, VALIDATION, lower_is_better
from training.run.checkpoints import recover_folder, replace_folder, write_json
from training.run.streams import Measure, item_rng

LEAST_FOR_KERNEL = 16  # clips; with fewer the estimate is too noisy


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Restore the states of the global random generators after the block."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def sound_writers(accelerator: Accelerator) -> list:
    """The run's trackers that accept audio and images, as tensorboard's writer does."""
    return [tracker.tracker for tracker in accelerator.trackers if hasattr(tracker.tracker, "add_audio")]


def picture(audio: np.ndarray, frames: int = 512) -> torch.Tensor:
    """Spectrogram of a clip (samples,) as a grey image (1, height, width) in 0 to 1, with a range of 80 dB."""
    size = 1024
    window = torch.hann_window(size)
    hop = max(1, len(audio) // frames)
    magnitude = torch.stft(torch.from_numpy(audio), size, hop, window=window, return_complex=True).abs()
    level = 20.0 * torch.log10(magnitude.clamp_min(1e-8))
    return ((level - level.max()) / 80.0 + 1.0).clamp(0.0, 1.0).flip(0)[None]


class Watch:
    """Evaluates averaged weights and keeps the best.

    Args:
        config, scheduler: of the run.
        crops: validation latents, whose captions and labels are requested.
        train: training latents, which define the space of the kernel distance.

    Raises:
        ValueError: the latents' autoencoder or text encoder does not exist, or `best_metric` is unknown.
    """

    def __init__(self, config: UNetRun, crops: LatentCrops, scheduler: SchedulerMixin, train: LatentCrops):
        self.config, self.crops, self.train = config, crops, train
        self.scheduler = scheduler
        self.rows = crops.rows[: config.evaluate_clips]
        folder = Path(config.data_dir) / "vae"
        if not folder.is_dir():
            raise ValueError(f"data_dir {config.data_dir}: no vae/ there; make it with training.encode_latents")
        self.vae = load_autoencoder(folder).eval()
        self.text_encoder, self.tokenizer = load_text_encoder(config.text_encoder or crops.about["text_encoder"])
        self.captions, self.stated = generate.draw_captions(self.rows, config.seed)
        self.listeners = load_listeners(config.tagger, config.beat_tracker, config.key_network)
        self.embedder = self.real = self.space = None
        if self.listeners.tagger is not None and len(self.rows) >= LEAST_FOR_KERNEL:
            self.embedder = load_embedder("tagger")
        names = {f"evaluation/{name}" for name in control.NAMES} | {KERNEL, VALIDATION}
        if config.best_metric not in names:
            raise ValueError(f"best_metric is {config.best_metric!r}; allowed: {', '.join(sorted(names))}")

    @torch.no_grad()
    def evaluate(self, model: UNet1DConditionModel) -> tuple[dict[str, float], list[np.ndarray]]:
        """Figures and clips (samples,) of the model; its training mode and the random generators are restored."""
        rate = int(self.vae.config.sampling_rate)
        clips = self._generate(model, slice(None), self.config.evaluate_guidance)
        with generators_kept():
            analyses = analyse(clips, rate, self.listeners, None)
            requests = anchored_requests(self.rows, clips, rate, self.stated)
            figures = self._means(compare(analyses, requests, self.listeners.thresholds))
            if self.embedder is not None:
                figures[KERNEL] = self._kernel(clips, self._pipeline(model), rate)
        return figures, clips

    def _pipeline(self, model: UNet1DConditionModel) -> VivacePipeline:
        pipe = VivacePipeline(
            vae=self.vae.to(model.device),
            unet=model,
            text_encoder=self.text_encoder.to(model.device),
            tokenizer=self.tokenizer,
            # A copy, since a scheduler stores its current timesteps.
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _generate(self, model: UNet1DConditionModel, which: slice, guidance: float) -> list[np.ndarray]:
        """Clips of some of the requests; each has the same seed at every guidance scale."""
        config, training = self.config, model.training
        pipe = self._pipeline(model.eval())
        try:
            with generators_kept():
                return generate.generate(
                    pipe, self.rows[which], self.captions[which], config.seed, 8, config.evaluate_steps, guidance
                )
        finally:
            model.train(training)

    def _means(self, figures: list[dict[str, float | None]]) -> dict[str, float]:
        values = {name: [f[name] for f in figures if f.get(name) is not None] for name in control.NAMES}
        return {f"evaluation/{name}": float(np.mean(found)) for name, found in values.items() if found}

    def _kernel(self, clips: list[np.ndarray], pipe: VivacePipeline, rate: int) -> float:
        """Kernel distance to the validation clips after the autoencoder.

        training.evaluate measures the distance to the clips themselves instead. With few clips this shows only the
        trend within a run; values below 0 are noise.
        """
        if self.space is None:  # computed once a run
            count = min(SPACE_CLIPS, len(self.train))
            chosen = item_rng(self.config.seed, Measure.ROWS).permutation(len(self.train))[:count]
            self.space = Space(self._embed_latents(self.train, chosen.tolist(), pipe, rate))
            self.real = self._embed_latents(self.crops, list(range(len(self.rows))), pipe, rate)
        generated = self.embedder.embed(clips, rate)
        found = self.space.kernel_distance(self.real, generated, paired=True, seed=self.config.seed, resamples=0)
        return float(found["mean"])

    def _embed_latents(self, crops: LatentCrops, indices: list[int], pipe: VivacePipeline, rate: int) -> np.ndarray:
        """Embeddings of decoded latents, (indices, d); one clip at a time is held as audio."""
        vectors = []
        for index in indices:
            rng = item_rng(self.config.seed, Measure.DECODED_LATENTS, index)
            latents = crops.whole(index, rng)[None].to(pipe.device)
            (audio,) = pipe.decode_latents([latents], False)
            vectors.append(self.embedder.embed([audio.mean(dim=0).cpu().numpy()], rate))
        return np.concatenate(vectors)

    def show(self, accelerator: Accelerator, model: UNet1DConditionModel, step: int, clips: list[np.ndarray]) -> None:
        """Send clips, their spectrograms and prompts to every tracker that accepts them (tensorboard does).

        These are the evaluated clips, and the first `demo_clips` requests at each guidance scale in `demo_guidance`
        with the same seeds, which are generated only for such trackers.
        """
        writers = sound_writers(accelerator)
        if not writers:
            return
        demos = {f"demo/{index}": clip for index, clip in enumerate(clips)}
        for scale in self.config.demo_guidance if self.config.demo_clips else ():
            made = self._generate(model, slice(self.config.demo_clips), scale)
            demos |= {f"demo/{index}_guidance_{scale:g}": clip for index, clip in enumerate(made)}
        rate = int(self.vae.config.sampling_rate)
        for writer in writers:
            for name, clip in demos.items():
                writer.add_audio(name, torch.from_numpy(clip)[None], step, sample_rate=rate)
                writer.add_image(f"{name}_spectrogram", picture(clip), step)
            for index, caption in enumerate(self.captions):
                writer.add_text(f"demo/{index}_prompt", caption, step)

    def __call__(
        self, accelerator: Accelerator, model: UNet1DConditionModel, validated: dict[str, float], step: int
    ) -> dict[str, float]:
        """Evaluate, keep the best weights, show clips; returns the figures of the evaluation.

        The model has averaged weights and is not sharded; `validated` are the figures of the validation, of which
        `best_metric` may be one, after `step` optimiser steps.
        """
        figures, clips = self.evaluate(model)
        self.keep_if_best(model, validated | figures, step)
        self.show(accelerator, model, step, clips)
        return figures

    def keep_if_best(self, model: UNet1DConditionModel, figures: dict[str, float], step: int) -> bool:
        """Write the model to `output_dir/best` if its `best_metric` is better than that of the model there.

        The folder is replaced in one step. A run that resumes from an earlier checkpoint reaches the same figures at
        the same steps, so that the folder stays valid.
        """
        metric = self.config.best_metric
        value = figures.get(metric)
        if value is None or not np.isfinite(value):
            return False
        final = Path(self.config.output_dir) / "best"
        recover_folder(final)
        if (final / "best.json").is_file():
            kept = json.loads((final / "best.json").read_text())
            better = value < kept["value"] if lower_is_better(metric) else value > kept["value"]
            if kept["metric"] == metric and not better:
                return False
        partial = final.with_name("best.partial")
        shutil.rmtree(partial, ignore_errors=True)
        model.save_pretrained(partial)
        about = {"metric": metric, "value": value, "step": step, "figures": figures}
        write_json(partial / "best.json", {**about, "config": dataclasses.asdict(self.config)})
        replace_folder(partial, final)
        return True
