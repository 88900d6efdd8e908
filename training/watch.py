"""Listening to a run while it trains: figures and demo clips of the averaged weights, and the best of them kept.

    python -m training.train_unet --config ... --evaluate_every 1000 --best_metric evaluation/tempo_4pct

The clips ask for what the first rows of the validation latents were, so that neither the data nor its audio need be at
hand. Nothing here draws from a generator that training uses: a run with evaluation ends bitwise like one without.
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
from training.metrics.listening import listen, load_listeners
from training.metrics.request import anchored_request
from training.objective import KERNEL, VALIDATION, lower_is_better
from training.run.checkpoints import recover_folder, replace_folder, write_json
from training.run.streams import Measure, item_rng

LEAST_FOR_KERNEL = 16  # clips; with fewer the estimate is all noise


@contextlib.contextmanager
def generators_kept() -> Iterator[None]:
    """Inside the block anything may be drawn; after it every global generator stands where it stood."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


def sound_writers(accelerator: Accelerator) -> list:
    """The run's trackers that take sounds and pictures, as tensorboard's writer does."""
    return [tracker.tracker for tracker in accelerator.trackers if hasattr(tracker.tracker, "add_audio")]


def picture(audio: np.ndarray, frames: int = 512) -> torch.Tensor:
    """Spectrogram of a clip (samples,) as a grey image (1, height, width) in 0 to 1; 80 dB, low notes below."""
    size = 1024
    window = torch.hann_window(size)
    hop = max(1, len(audio) // frames)
    magnitude = torch.stft(torch.from_numpy(audio), size, hop, window=window, return_complex=True).abs()
    level = 20.0 * torch.log10(magnitude.clamp_min(1e-8))
    return ((level - level.max()) / 80.0 + 1.0).clamp(0.0, 1.0).flip(0)[None]


class Watch:
    """Evaluates averaged weights and keeps the best.

    Args:
        config: the run's settings.
        crops: validation latents; their rows are what is asked for.
        scheduler: of the run.
        train: latents that are trained on; they lay out the space in which the kernel distance is taken.

    Raises:
        ValueError: the latents' autoencoder or text encoder is not there, or `best_metric` is none that this run has.
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
        said = [generate.caption(row, "text", config.seed, i) for i, row in enumerate(self.rows)]
        self.captions = [words for words, _ in said]
        self.stated = [stated for _, stated in said]
        self.listeners = load_listeners(config.tagger, config.beat_tracker, config.key_network)
        self.embedder = self.real = self.space = None
        if self.listeners.tagger is not None and len(self.rows) >= LEAST_FOR_KERNEL:
            self.embedder = load_embedder("tagger")
        names = {f"evaluation/{name}" for name in control.NAMES} | {KERNEL, VALIDATION}
        if config.best_metric not in names:
            raise ValueError(f"best_metric is {config.best_metric!r}; allowed: {', '.join(sorted(names))}")

    @torch.no_grad()
    def evaluate(self, model: UNet1DConditionModel) -> tuple[dict[str, float], list[np.ndarray]]:
        """Figures and clips (samples,) of the model as it stands; its mode and all generators are left as they were."""
        rate = int(self.vae.config.sampling_rate)
        clips = self._generate(model, slice(None), self.config.evaluate_guidance)
        with generators_kept():
            heard = listen(clips, rate, self.listeners, None)
            each = zip(self.rows, clips, self.stated, strict=True)
            asked = [anchored_request(row, len(clip) / rate, stated) for row, clip, stated in each]
            figures = self._means(compare(heard, asked, self.listeners.thresholds))
            if self.embedder is not None:
                figures[KERNEL] = self._kernel(clips, self._pipeline(model), rate)
        return figures, clips

    def _pipeline(self, model: UNet1DConditionModel) -> VivacePipeline:
        pipe = VivacePipeline(
            vae=self.vae.to(model.device),
            unet=model,
            text_encoder=self.text_encoder.to(model.device),
            tokenizer=self.tokenizer,
            # Its own, since a scheduler keeps the steps it was last set to.
            scheduler=type(self.scheduler).from_config(self.scheduler.config),
        )
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def _generate(self, model: UNet1DConditionModel, which: slice, guidance: float) -> list[np.ndarray]:
        """Clips of some of the requests; a request has the same seed at every strength of guidance."""
        config, training = self.config, model.training
        pipe = self._pipeline(model.eval())
        try:
            with generators_kept():
                return generate.generate(
                    pipe, self.rows[which], self.captions[which], config.seed, 8, config.evaluate_steps, guidance
                )
        finally:
            model.train(training)

    def _means(self, each: list[dict[str, float | None]]) -> dict[str, float]:
        values = {name: [f[name] for f in each if f.get(name) is not None] for name in control.NAMES}
        return {f"evaluation/{name}": float(np.mean(found)) for name, found in values.items() if found}

    def _kernel(self, clips: list[np.ndarray], pipe: VivacePipeline, rate: int) -> float:
        """Kernel distance to the validation clips as the autoencoder gives them back.

        It is that of training.evaluate but for its reference, which there is the clips themselves; with so few clips
        it tells a trend within one run (below 0 is noise).
        """
        if self.space is None:  # both stay what they are through the run
            count = min(SPACE_CLIPS, len(self.train))
            chosen = item_rng(self.config.seed, Measure.ROWS).permutation(len(self.train))[:count]
            self.space = Space(self._embed_latents(self.train, chosen.tolist(), pipe, rate))
            self.real = self._embed_latents(self.crops, list(range(len(self.rows))), pipe, rate)
        generated = self.embedder.embed(clips, rate)
        found = self.space.kernel_distance(self.real, generated, paired=True, seed=self.config.seed, resamples=0)
        return float(found["mean"])

    def _embed_latents(self, crops: LatentCrops, indices: list[int], pipe: VivacePipeline, rate: int) -> np.ndarray:
        """Embeddings of encoded clips, decoded, (indices, d); one at a time is held as audio."""
        vectors = []
        for index in indices:
            rng = item_rng(self.config.seed, Measure.DECODED_LATENTS, index)
            latents = crops.whole(index, rng)[None].to(pipe.device)
            (audio,) = pipe.decode_latents([latents], False)
            vectors.append(self.embedder.embed([audio.mean(dim=0).cpu().numpy()], rate))
        return np.concatenate(vectors)

    def show(self, accelerator: Accelerator, model: UNet1DConditionModel, step: int, clips: list[np.ndarray]) -> None:
        """Clips and their spectrograms with their prompts to every tracker that takes them (tensorboard does).

        Beside the clips that were evaluated, the first `demo_clips` requests at each strength of `demo_guidance`, with
        the same seeds; those are made only where a tracker takes them.
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
        """Evaluate, keep the best, show clips; the figures of the evaluation.

        Args:
            accelerator: of the run.
            model: with averaged weights, in one piece.
            validated: figures of the validation, one of which `best_metric` may be.
            step: optimiser steps that are done.
        """
        figures, clips = self.evaluate(model)
        self.keep_if_best(model, validated | figures, step)
        self.show(accelerator, model, step, clips)
        return figures

    def keep_if_best(self, model: UNet1DConditionModel, figures: dict[str, float], step: int) -> bool:
        """Write the model to `output_dir/best` if its `best_metric` is better than what lies there.

        The folder appears whole or not at all. A run that went back to an earlier checkpoint meets the same figures
        again at the same steps, so that what lies there stays right.
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
