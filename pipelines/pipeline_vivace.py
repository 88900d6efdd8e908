"""VivacePipeline: a prompt and a beat grid -> latents -> audio.

The text says what the music should sound like; the frame grid says when. The parts stand in the vivace_*.py files
beside this one, all of which it names, since only then does diffusers load them from the Hub.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import inspect
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin, SchedulerMixin
from diffusers.utils import BaseOutput, logging
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .vivace_grid import BEAT_HARMONICS, GRID_CHANNELS, frame_grid
from .vivace_noise import NOISE_BLOCK, choose_seeds, frame_noise
from .vivace_prompt import BPM_RANGE, MIN_DURATION_S, check_number, read_key, read_prompt, understand
from .vivace_publish import settle, ship_code
from .vivace_text import text_states
from .vivace_theory import (
    KEYS,
    MAX_BEATS_PER_BAR,
    PITCH_CLASSES,
    parse_chord,
    parse_chords,
    parse_key,
    parse_note,
    parse_time_signature,
)

__all__ = [
    "BEAT_HARMONICS", "BPM_RANGE", "FORMAT", "GRID_CHANNELS", "KEYS", "MAX_BEATS_PER_BAR", "MIN_DURATION_S",
    "NOISE_BLOCK", "PITCH_CLASSES", "VivacePipeline", "VivacePipelineOutput", "check_number", "choose_seeds",
    "frame_grid", "frame_noise", "parse_chord", "parse_chords", "parse_key", "parse_note", "parse_time_signature",
    "read_key", "read_prompt", "understand",
]  # fmt: skip

logger = logging.get_logger(__name__)

FORMAT = 1  # of a checkpoint folder; a change that older code would misread raises it
MAX_TEXT_TOKENS = 64
CODE = globals().get("CODE")  # digest of the code that ran here before, if diffusers runs this file a second time


@dataclass
class VivacePipelineOutput(BaseOutput):
    """Result of `VivacePipeline`.

    Attributes:
        audios: (batch, channels, samples) float32 in [-1, 1], numpy or torch; a list of (channels, samples) if the
            items differ in length; standardised latents (batch, latent_channels, frames) for `output_type="latent"`.
        sampling_rate: Hz.
        seeds: one per item; each gives its item again.
        conditions: one dict per item, what was understood: bpm, key, time_signature, bars, duration_s, chords.
    """

    audios: np.ndarray | torch.Tensor | list
    sampling_rate: int
    seeds: list[int]
    conditions: list[dict]


class VivacePipeline(DiffusionPipeline):
    """Text, tempo, meter, key and chords to music.

    Args:
        vae: autoencoder with `encode(audio).latent_dist`, `decode(latents).sample`, `hop_length`, and in its config
            `sampling_rate`, `latent_channels`, `latents_mean` and `latents_std`.
        unet: `UNet1DConditionModel`.
        text_encoder: any transformers encoder that gives `last_hidden_state`; may be None beside `prompt_embeds`.
        tokenizer: of that encoder.
        scheduler: the one that the UNet was trained for, or one of the same process.
        default_num_inference_steps, default_guidance_scale, default_duration_s: used where a call does not say.
        max_duration_s: longest request, seconds.
        vivace_format: version of the checkpoint folder.

    Raises:
        ValueError: if the checkpoint has another format than this code reads.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["text_encoder", "tokenizer"]  # noqa: RUF012 (read by diffusers as a plain list)
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012

    def __init__(
        self,
        vae: ModelMixin,
        unet: ModelMixin,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: SchedulerMixin,
        default_num_inference_steps: int = 32,
        default_guidance_scale: float = 3.0,
        default_duration_s: float = 10.0,
        max_duration_s: float = 600.0,
        vivace_format: int = FORMAT,
    ):
        super().__init__()
        if vivace_format != FORMAT:
            raise ValueError(f"vivace_format of the checkpoint is {vivace_format}; this code reads {FORMAT}")
        self.register_modules(vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)
        self.register_to_config(
            default_num_inference_steps=default_num_inference_steps,
            default_guidance_scale=default_guidance_scale,
            default_duration_s=default_duration_s,
            max_duration_s=max_duration_s,
            vivace_format=vivace_format,
        )
        self._guidance_scale = default_guidance_scale
        self._num_timesteps = 0
        self._interrupt = False

    @property
    def frame_rate(self) -> float:
        """Latent frames a second."""
        return self.vae.config.sampling_rate / self.vae.hop_length

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1.0

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    def encode_prompt(self, prompts: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states (batch, tokens, dim) and which of them are text (batch, tokens) bool.

        Raises:
            ValueError: if the pipeline was loaded without its text encoder.
        """
        if self.text_encoder is None or self.tokenizer is None:
            raise ValueError("prompt needs a text_encoder and a tokenizer; this pipeline has none, give prompt_embeds")
        limit = min(self.tokenizer.model_max_length, MAX_TEXT_TOKENS)
        inputs = self.tokenizer(prompts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        if any(len(ids) > limit for ids in self.tokenizer(prompts, verbose=False).input_ids):
            logger.warning(f"prompt is cut to its first {limit} tokens")
        mask = inputs.attention_mask.to(device)
        states = self.text_encoder(input_ids=inputs.input_ids.to(device), attention_mask=mask).last_hidden_state
        return states, mask.bool()

    def save_config(self, save_directory: str | Path) -> None:
        """Write model_index.json and, beside it, the code of the pipeline and of each component that is ours.

        `save_pretrained` and `push_to_hub` call this after the components are written, so what they make loads with
        `DiffusionPipeline.from_pretrained(..., trust_remote_code=True)` where this project is not installed.
        """
        super().save_config(save_directory)
        ship_code(self, Path(save_directory))

    def _requests(self, prompt, prompt_embeds, per_item: dict, seed, generator, per_prompt: int) -> list[dict]:
        """One dict per output: its prompt, conditions, sizes and seed. Raises a ValueError for any bad argument."""
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("prompt and prompt_embeds: give exactly one of them")
        single = prompt is None or isinstance(prompt, str)
        prompts = [prompt] if single else list(prompt)
        if prompt is None:
            prompts = [None] * prompt_embeds.shape[0]
        if not prompts:
            raise ValueError("prompt is an empty list; give at least one text")
        for text in prompts:
            if prompt is not None and (not isinstance(text, str) or not text.strip()):
                raise ValueError(f"prompt is {text!r}; give a text that is not empty")
        check_number("num_waveforms_per_prompt", per_prompt, 1, 1000, whole=True)

        def spread(name, value, count):
            listed = isinstance(value, (list, tuple, np.ndarray)) and not (name == "chords" and single)
            if listed and len(value) != count:
                raise ValueError(f"{name} has {len(value)} entries for {count} prompts; give one for each or for all")
            return list(value) if listed else [value] * count

        columns = {name: spread(name, value, len(prompts)) for name, value in per_item.items()}
        seeds = choose_seeds(seed, generator, len(prompts), per_prompt)
        rate, hop = self.vae.config.sampling_rate, self.vae.hop_length
        requests = []
        for i, text in enumerate(prompts):
            known = understand(
                text,
                **{name: column[i] for name, column in columns.items() if name != "negative_prompt"},
                default_duration_s=self.config.default_duration_s,
                max_duration_s=self.config.max_duration_s,
            )
            samples = round(known["duration_s"] * rate)  # exact for bars: the duration is a fraction
            known["duration_s"] = samples / rate
            item = {"text": text, "negative": columns["negative_prompt"][i], "known": known}
            item |= {"samples": samples, "frames": -(-samples // hop)}
            requests += [{**item, "seed": seeds[i * per_prompt + w]} for w in range(per_prompt)]
        return requests

    def _conditions(self, requests: list[dict], states: torch.Tensor, mask: torch.Tensor, device) -> dict:
        """Arguments of the network for twice the batch: what is asked for, then the unconditional half.

        The unconditional half has the negative text, or none, and no tempo, key, meter, length or grid, so that
        guidance strengthens whatever was asked for.
        """
        batch, frames = len(requests), max(item["frames"] for item in requests)
        frame_cond = torch.zeros(2 * batch, GRID_CHANNELS + 1 + self.vae.config.latent_channels, frames)
        frame_cond[:, GRID_CHANNELS] = 1.0  # every frame is to be generated; the latents of given frames follow
        scalars = {
            "duration_s": torch.full((2 * batch,), math.nan),
            "bpm": torch.full((2 * batch,), math.nan),
            "key": torch.full((2 * batch,), -1),
            "beats_per_bar": torch.full((2 * batch,), -1),
        }
        for row, item in enumerate(requests):
            known, chroma = item["known"], None
            bpm, beats = known["bpm"], known["beats_per_bar"]
            scalars["duration_s"][row] = item["frames"] / self.frame_rate
            if known["key"] is not None:
                scalars["key"][row] = KEYS.index(known["key"])
            if beats is not None:
                scalars["beats_per_bar"][row] = beats
            if bpm is not None:
                scalars["bpm"][row] = float(bpm)
                if known["chords"] is not None:
                    chroma = parse_chords(known["chords"], beats, math.ceil(known["duration_s"] * bpm / 60.0) + 1)
                grid = frame_grid(item["frames"], self.frame_rate, bpm, beats, beat_chroma=chroma)
                frame_cond[row, :GRID_CHANNELS, : item["frames"]] = grid
        return {
            "encoder_hidden_states": states,
            "encoder_attention_mask": mask,
            "frame_cond": frame_cond.to(device) if self.unet.config.frame_cond_channels else None,
            "added_cond_kwargs": {name: values.to(device) for name, values in scalars.items()},
        }

    def _predict(self, latents, timestep, conditions: dict, frame_mask, guided: bool, rescale: float) -> torch.Tensor:
        """Prediction of the network, (batch, latent_channels, frames) fp32, in one pass of once or twice the batch.

        Guidance: Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598). Rescale: Lin et al. 2023, section 3.4
        (https://arxiv.org/abs/2305.08891), over the frames of each item.
        """
        copies = 2 if guided else 1
        rows = copies * latents.shape[0]
        scalars = {name: values[:rows] for name, values in conditions["added_cond_kwargs"].items()}
        frame_cond = conditions["frame_cond"]
        prediction = self.unet(
            torch.cat([latents.to(self.unet.dtype)] * copies),
            timestep.float().expand(rows),
            encoder_hidden_states=conditions["encoder_hidden_states"][:rows],
            encoder_attention_mask=conditions["encoder_attention_mask"][:rows],
            frame_cond=None if frame_cond is None else frame_cond[:rows],
            added_cond_kwargs=scalars,
            frame_mask=None if frame_mask is None else torch.cat([frame_mask] * copies),
            return_dict=False,
        )[0].float()
        if not guided:
            return prediction
        conditional, unconditional = prediction.chunk(2)
        prediction = unconditional + self._guidance_scale * (conditional - unconditional)
        if rescale > 0.0:  # padding frames are zero in both, so they do not enter the ratio
            ratio = conditional.square().sum((1, 2)) / prediction.square().sum((1, 2)).clamp_min(1e-12)
            prediction = prediction * (rescale * ratio.sqrt() + 1.0 - rescale)[:, None, None]
        return prediction

    def _decode(self, latents: torch.Tensor, requests: list[dict]) -> list[torch.Tensor]:
        """Standardised latents -> one (channels, samples) fp32 per item, cut to its length, its peak at most 1.

        One item at a time: memory stays that of one, and neighbours cannot change a sample.
        """
        config, audios = self.vae.config, []
        for item, latent in zip(requests, latents, strict=True):
            latent = latent[None, :, : item["frames"]]
            if config.latents_mean is not None and config.latents_std is not None:
                mean, std = (latent.new_tensor(v)[:, None] for v in (config.latents_mean, config.latents_std))
                latent = latent * std + mean
            audio = self.vae.decode(latent.to(self.vae.dtype)).sample[0, :, : item["samples"]].float()
            audios.append(audio / audio.abs().max().clamp_min(1.0))
        return audios

    def _set_timesteps(self, num_inference_steps: int, device: torch.device) -> torch.Tensor:
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            # Equal steps from noise (1) to data (0); the scheduler's own grid spends its last step below 1 / 1000.
            sigmas = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
            self.scheduler.set_timesteps(sigmas=sigmas.tolist(), device=device)
        else:
            self.scheduler.set_timesteps(num_inference_steps, device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        return self.scheduler.timesteps

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        duration_s: float | list[float] | None = None,
        bars: int | list[int] | None = None,
        bpm: float | list[float] | None = None,
        time_signature: str | list[str] | None = None,
        key: str | list[str] | None = None,
        chords: str | list[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        num_waveforms_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        seed: int | list[int] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        loop: bool = False,
        audio: np.ndarray | torch.Tensor | None = None,
        strength: float | None = None,
        mask_s: list[tuple[float, float]] | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...] = ("latents",),
    ) -> VivacePipelineOutput | tuple:
        """Make music.

        Tempo, key, meter and length that the prompt spells out are used unless given as arguments. Arguments from
        `negative_prompt` to `chords` hold for all prompts, or are lists with one entry per prompt.

        Args:
            prompt: what it should sound like.
            negative_prompt: what it should not sound like; has an effect where guidance is on.
            duration_s: length in seconds, 0.5 up to the checkpoint's `max_duration_s`.
            bars: length in bars, exact to the sample; needs a tempo.
            bpm: beats a minute, 20 to 300; None = as the music likes.
            time_signature: "4/4" (taken where there is a tempo), "3/4", "6/8" (two dotted beats), ...
            key: "A minor", "Bb major".
            chords: "Am F C G", each one bar, or "Am:2 F:2" with beats, repeated to the end; for a single prompt also
                a list of symbols. Needs a tempo.
            num_inference_steps, guidance_scale: None = the checkpoint's. Up to 1, guidance is off and a step costs one
                pass. Guidance strengthens everything asked for: text, tempo, key, meter and chords.
            guidance_rescale: 0 to 1, brings the level of the guided prediction back to the unguided one.
            guidance_interval: noise levels (0 = data, 1 = noise) between which guidance is on.
            num_waveforms_per_prompt: pieces of each prompt, with the seeds seed, seed + 1, ...
            generator: seeds are drawn from it (or from one per piece); `seed` is the simpler way.
            seed: one for all prompts, one per prompt or one per piece; None = at random, told in the output.
            latents: noise to start from, (pieces, latent_channels, frames of the longest piece).
            prompt_embeds, prompt_attention_mask: text states in place of `prompt`, (prompts, tokens, dim) and
                (prompts, tokens); likewise `negative_prompt_embeds`, `negative_prompt_attention_mask`.
            loop, audio, strength, mask_s: of editing, which is not available yet.
            output_type: "np", "pt" or "latent".
            return_dict: whether to return a `VivacePipelineOutput` or its values as a tuple.
            callback_on_step_end: called as f(pipe, step, timestep, tensors) after each step; may return tensors to
                replace. Setting `pipe._interrupt = True` in it ends the loop.
            callback_on_step_end_tensor_inputs: which of "latents" and "prompt_embeds" (both halves) it is given.

        Raises:
            ValueError: one line that names the argument, its value and what is allowed.
        """
        editing = {"loop": loop or None, "audio": audio, "strength": strength, "mask_s": mask_s}
        for name, value in editing.items():
            if value is not None:
                raise ValueError(f"{name} is not available yet: this version generates from text, tempo and chords")
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps
        self._guidance_scale = self.config.default_guidance_scale if guidance_scale is None else guidance_scale
        check_number("num_inference_steps", num_inference_steps, 1, 1000, whole=True)
        check_number("guidance_scale", self._guidance_scale, 0, 100)
        check_number("guidance_rescale", guidance_rescale, 0, 1)
        if len(guidance_interval) != 2 or not 0 <= guidance_interval[0] <= guidance_interval[1] <= 1:
            raise ValueError(f"guidance_interval is {guidance_interval}; allowed: 0 <= low <= high <= 1")
        if output_type not in ("np", "pt", "latent"):
            raise ValueError(f"output_type is {output_type!r}; allowed: 'np', 'pt', 'latent'")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            allowed = ", ".join(self._callback_tensor_inputs)
            raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; allowed: {allowed}")
        per_item = {"negative_prompt": negative_prompt, "duration_s": duration_s, "bars": bars, "bpm": bpm}
        per_item |= {"time_signature": time_signature, "key": key, "chords": chords}
        requests = self._requests(prompt, prompt_embeds, per_item, seed, generator, num_waveforms_per_prompt)
        lengths = [item["frames"] for item in requests]
        shape = (len(requests), self.vae.config.latent_channels, max(lengths))
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"latents has shape {tuple(latents.shape)}; needed for this request: {shape}")

        self._interrupt = False
        device = self._execution_device
        try:
            positive = (prompt_embeds, prompt_attention_mask)
            negative = (negative_prompt_embeds, negative_prompt_attention_mask)
            states, mask = text_states(self, requests, num_waveforms_per_prompt, positive, negative, device)
            conditions = self._conditions(requests, states, mask, device)
            visible = torch.arange(shape[2]) < torch.tensor(lengths)[:, None]  # (batch, frames)
            frame_mask = None if visible.all() else visible.to(device)

            noise, generators = torch.zeros(shape), []
            for row, item in enumerate(requests):
                own, source = frame_noise(item["seed"], item["frames"], shape[1])
                noise[row, :, : item["frames"]] = own
                generators.append(source)
            latents = (noise if latents is None else latents.float()).to(device)
            latents = latents * getattr(self.scheduler, "init_noise_sigma", 1.0)

            timesteps = self._set_timesteps(int(num_inference_steps), device)
            takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
            step_kwargs = {"generator": generators} if takes_generator else {}
            with self.progress_bar(total=len(timesteps)) as progress:
                for step, timestep in enumerate(timesteps):
                    if self._interrupt:
                        break
                    level = float(timestep) / self.scheduler.config.num_train_timesteps
                    guided = self.do_classifier_free_guidance
                    guided = guided and guidance_interval[0] <= level <= guidance_interval[1]
                    inputs = latents
                    if hasattr(self.scheduler, "scale_model_input"):
                        inputs = self.scheduler.scale_model_input(latents, timestep)
                    prediction = self._predict(inputs, timestep, conditions, frame_mask, guided, guidance_rescale)
                    latents = self.scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
                    if callback_on_step_end is not None:
                        known = {"latents": latents, "prompt_embeds": conditions["encoder_hidden_states"]}
                        tensors = {name: known[name] for name in callback_on_step_end_tensor_inputs}
                        known |= callback_on_step_end(self, step, timestep, tensors) or {}
                        latents, conditions["encoder_hidden_states"] = known["latents"], known["prompt_embeds"]
                    progress.update()
            if not torch.isfinite(latents).all():
                raise ValueError(
                    f"the network gave values that are not finite (guidance_scale {self._guidance_scale:g}, "
                    f"{self.unet.dtype}); lower guidance_scale or load with dtype=torch.float32"
                )
            audios = latents
            if output_type != "latent":
                audios = self._decode(latents, requests)
                if output_type == "np":
                    audios = [item.cpu().numpy() for item in audios]
                if len({item["samples"] for item in requests}) == 1:
                    audios = np.stack(audios) if output_type == "np" else torch.stack(audios)
        finally:
            self.maybe_free_model_hooks()
        public = ("bpm", "key", "time_signature", "bars", "duration_s", "chords")
        output = VivacePipelineOutput(
            audios=audios,
            sampling_rate=self.vae.config.sampling_rate,
            seeds=[item["seed"] for item in requests],
            conditions=[{name: item["known"][name] for name in public} for item in requests],
        )
        return output if return_dict else output.to_tuple()


CODE = settle(Path(__file__), __package__, CODE)
