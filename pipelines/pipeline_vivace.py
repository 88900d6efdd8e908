"""VivacePipeline: a prompt and a beat grid -> latents -> audio.

The text says what the music should sound like; the frame grid says when. The parts stand in the vivace_*.py files
beside this one, all of which it names, since only then does diffusers load them from the Hub.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .vivace_audio import fit_circle, resample
from .vivace_beats import find_beats
from .vivace_call import Call
from .vivace_conditions import Conditions
from .vivace_denoise import CIRCLE_MARGIN
from .vivace_edit import Edit
from .vivace_exclusion import Exclusion, read_exclusion
from .vivace_grid import BEAT_HARMONICS, GRID_CHANNELS, frame_grid
from .vivace_guidance import Guidance
from .vivace_level import loudness, true_peak_db
from .vivace_noise import NOISE_BLOCK, choose_seeds, frame_noise
from .vivace_output import VivacePipelineOutput
from .vivace_process import noise_level, process_of
from .vivace_prompt import BPM_RANGE, MIN_DURATION_S, check_number, read_key, read_prompt, understand
from .vivace_publish import settle_helpers, settle_parts, ship_code, upload
from .vivace_recipe import compare, make_recipe, read_recipe, replay_arguments, surroundings, write_audio
from .vivace_request import Request
from .vivace_text import encode_texts
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
from .vivace_timeline import CROSSFADE_S, is_timeline
from .vivace_windows import WINDOW, windows

__all__ = [
    "BEAT_HARMONICS", "BPM_RANGE", "CIRCLE_MARGIN", "CROSSFADE_S", "FORMAT", "GRID_CHANNELS", "KEYS",
    "MAX_BEATS_PER_BAR", "MIN_DURATION_S", "NOISE_BLOCK", "PITCH_CLASSES", "WINDOW", "Conditions", "Edit",
    "Exclusion", "Guidance", "Request", "VivacePipeline", "VivacePipelineOutput", "check_number", "choose_seeds",
    "find_beats", "frame_grid", "frame_noise", "is_timeline", "loudness", "noise_level", "parse_chord",
    "parse_chords", "parse_key", "parse_note", "parse_time_signature", "read_exclusion", "read_key", "read_prompt",
    "read_recipe", "resample", "true_peak_db", "understand", "windows", "write_audio",
]  # fmt: skip

FORMAT = 1  # of a checkpoint folder; a change that older code would misread raises it
PUBLIC = ("bpm", "bpm_reason", "key", "time_signature", "bars", "duration_s", "chords")  # conditions the user is told


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
        default_guidance_low, default_guidance_high: likewise, the noise levels between which guidance is on.
        default_negative_guidance_scale: likewise, the strength with which what is excluded is kept out.
        guidance_slow, guidance_channels: how much guidance acts on what lasts, and on each latent channel, beside
            `guidance_scale`; 1 and None = on all alike. See `Guidance.weighed`.
        captions_state_absence: whether the network was trained on captions that say "without drums"; a prompt that
            excludes them is then given to it in these words, too.
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
        default_guidance_low: float = 0.0,
        default_guidance_high: float = 1.0,
        default_negative_guidance_scale: float = 5.0,
        guidance_slow: float = 1.0,
        guidance_channels: list[float] | None = None,
        captions_state_absence: bool = False,
        max_duration_s: float = 600.0,
        vivace_format: int = FORMAT,
    ):
        super().__init__()
        if vivace_format != FORMAT:
            raise ValueError(f"vivace_format of the checkpoint is {vivace_format}; this code reads {FORMAT}")
        if guidance_channels is not None and len(guidance_channels) != vae.config.latent_channels:
            raise ValueError(
                f"guidance_channels has {len(guidance_channels)} values; needed: one for each of the "
                f"{vae.config.latent_channels} latent channels, or None"
            )
        self.register_modules(vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)
        self.register_to_config(
            default_num_inference_steps=default_num_inference_steps, default_guidance_scale=default_guidance_scale,
            default_guidance_low=default_guidance_low, default_guidance_high=default_guidance_high,
            default_negative_guidance_scale=default_negative_guidance_scale,
            guidance_slow=guidance_slow, guidance_channels=guidance_channels,
            captions_state_absence=captions_state_absence,
            default_duration_s=default_duration_s, max_duration_s=max_duration_s, vivace_format=vivace_format,
        )  # fmt: skip
        settle_parts([self, *self.components.values()])
        self.guidance_rows, self.process = None, process_of(scheduler)
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

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, dtype: torch.dtype | None = None, **changes):
        """A pipeline that shares the parts of another, but for the components and settings in `changes`.

        diffusers leaves out models whose class is not the annotated one, which code loaded with a checkpoint never is,
        and casts the shared ones to fp32; here all are shared, as they are unless a `dtype` is given.
        """
        shared = {name: part for name, part in pipeline.components.items() if isinstance(part, ModelMixin)}
        return super().from_pipe(pipeline, dtype=dtype or pipeline.dtype, **shared | changes)

    def encode_prompt(self, prompts: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states (batch, tokens, dim) and which of them are text (batch, tokens) bool.

        Raises:
            ValueError: if the pipeline was loaded without its text encoder.
        """
        return encode_texts(self, prompts, device)

    def save_config(self, save_directory: str | Path) -> None:
        """Write model_index.json and, beside it, the code of the pipeline and of each component that is ours.

        `save_pretrained` and `push_to_hub` call this after the components are written, so what they make loads with
        `DiffusionPipeline.from_pretrained(..., trust_remote_code=True)` where this project is not installed.
        """
        super().save_config(save_directory)
        ship_code(self, Path(save_directory))

    def _upload_folder(self, working_dir, repo_id, token=None, commit_message=None, create_pr=False, subfolder=None):
        """What `push_to_hub` and `save_pretrained(push_to_hub=True)` end with; see `vivace_publish.upload`."""
        message = commit_message or "Upload VivacePipeline"
        options = {"token": token, "commit_message": message, "create_pr": create_pr, "path_in_repo": subfolder}
        return upload(working_dir, repo_id, **options)

    def enable_guidance_slicing(self, rows: int = 1) -> None:
        """Run so many rows of the network's batch at a time: less memory, more passes, the same result."""
        check_number("rows", rows, 1, 100000, whole=True)
        self.guidance_rows = int(rows)

    def disable_guidance_slicing(self) -> None:
        """Run all rows in one pass again."""
        self.guidance_rows = None

    def enable_vae_tiling(self, tile_frames: int = 256) -> None:
        """Decode in tiles of so many latent frames: less memory, the same result."""
        self.vae.enable_tiling(tile_frames)

    def disable_vae_tiling(self) -> None:
        """Decode pieces whole again."""
        self.vae.disable_tiling()

    def _latent_scale(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the autoencoder's latents, each (latent_channels, 1)."""
        config = self.vae.config
        if config.latents_mean is None or config.latents_std is None:
            return like.new_zeros(1, 1), like.new_ones(1, 1)
        return like.new_tensor(config.latents_mean)[:, None], like.new_tensor(config.latents_std)[:, None]

    @torch.no_grad()
    def encode_audio(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio (batch, channels, samples) at the pipeline's rate -> standardised latents, fp32."""
        latents = self.vae.encode(audio.to(self.vae.dtype)).latent_dist.mode().float()
        mean, std = self._latent_scale(latents)
        return (latents - mean) / std

    @torch.no_grad()
    def decode_latents(
        self, chunks: Iterable[torch.Tensor], loop: bool, samples: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Standardised latents (1, latent_channels, n) of one piece, as a list of one or in chunks as they come ->
        audio (channels, samples) fp32 in chunks. One piece at a time: neighbours cannot change a sample.

        A loop is decoded to `samples` at equal pitch if the autoencoder can, else it is stretched there, pitch and all.
        """

        def raw(latents: torch.Tensor) -> torch.Tensor:
            mean, std = self._latent_scale(latents)
            return (latents * std + mean).to(self.vae.dtype)

        if isinstance(chunks, list):
            (latents,) = chunks
            options = {"loop": True} if loop else {}
            if loop and samples is not None and "samples" in inspect.signature(self.vae.decode).parameters:
                options["samples"] = samples
            audio = self.vae.decode(raw(latents), **options).sample[0].float()
            yield fit_circle(audio, samples) if loop and samples is not None else audio
        else:
            for audio in self.vae.stream_decode(raw(latents) for latents in chunks):
                yield audio[0].float()

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
        guidance_scale: float | list[float] | None = None,
        grid_guidance_scale: float | list[float] | None = None,
        negative_guidance_scale: float | list[float] | None = None,
        guidance_rescale: float | list[float] = 0.0,
        guidance_interval: tuple[float, float] | list[tuple[float, float]] | None = None,
        apg_eta: float = 1.0,
        apg_norm_threshold: float | None = None,
        apg_momentum: float = 0.0,
        num_waveforms_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        seed: int | list[int] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        morph: tuple[str, str] | None = None,
        loop: bool | list[bool] = False,
        downbeat_s: float | None = None,
        audio: np.ndarray | torch.Tensor | str | Path | list | None = None,
        sampling_rate: int | None = None,
        strength: float | list[float] | None = None,
        mask_s: list[tuple[float, float]] | np.ndarray | None = None,
        extend_s: tuple[float, float] | None = None,
        normalize: bool | list[bool] = True,
        loudness_lufs: float | list[float] = -16.0,
        true_peak_dbtp: float | list[float] = -1.0,
        tilt_db: float | list[float] = 0.0,
        fade_in_s: float | list[float] = 0.0,
        fade_out_s: float | list[float] = 0.0,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...] = ("latents",),
    ) -> VivacePipelineOutput | tuple:
        """Make music.

        Tempo, key, meter and length that the prompt spells out are used unless given as arguments. The task follows
        from the arguments: words alone generate, `loop` makes a circle, `audio` with `strength`, `mask_s` or
        `extend_s` edits. What is said per prompt holds for all prompts, or is a list with one entry for each.

        Args:
            prompt: what it should sound like; or a timeline [(0, "calm piano"), ("bar 5", "drums enter")] with starts
                in seconds or bars and crossfades of 1 s; or a list of either.
            negative_prompt: what it should not sound like, per prompt; it joins what the prompt itself excludes ("rock
                without drums", "drumless", "just piano and bass"). Both have an effect where guidance is on.
            duration_s: length in seconds, 0.5 up to the checkpoint's `max_duration_s`, per prompt.
            bars: length in bars, exact to the sample, per prompt; where no tempo is said, one is chosen and told.
            bpm: beats a minute, 20 to 300, per prompt; None = as the music likes, or as heard in `audio`.
            time_signature: "4/4" (taken where there is a tempo), "3/4", "6/8" (two dotted beats), ..., per prompt.
            key: "A minor", "Bb major", per prompt.
            chords: "Am F C G", each one bar, or "Am:2 F:2" with beats, repeated to the end, per prompt; for a single
                prompt also a list of symbols.
            downbeat_s: time of a first beat of a bar in seconds, per prompt; None = 0, or as heard in `audio`.
            num_inference_steps: None = the checkpoint's.
            guidance_scale: strength of all that is asked for, per prompt; None = the checkpoint's, up to 1 = off, a
                step then costs one pass.
            grid_guidance_scale: strength of tempo, key, meter, length and chords, per prompt; `guidance_scale` is
                then that of the words. None = they go together; apart they cost a third pass.
            negative_guidance_scale: how strongly what is excluded is kept out, per prompt; None = the checkpoint's, 0 =
                not at all. Where something is excluded a step costs one more pass.
            guidance_rescale: 0 to 1, brings the level of the guided prediction back to the unguided one, per prompt.
            guidance_interval: noise levels (0 = data, 1 = noise) with guidance, per prompt; None = the checkpoint's.
            apg_eta, apg_norm_threshold, apg_momentum: adaptive projected guidance: the share kept of what guidance
                adds along the predicted data (1 = all, 0 = none), a limit of its root mean square (None = none), and
                how much of the last step's is added (-1 to 1, 0 = none).
            num_waveforms_per_prompt: pieces of each prompt, with the seeds seed, seed + 1, ...
            generator: seeds are drawn from it (or from one per piece); `seed` is the simpler way.
            seed: one for all prompts, one per prompt or one per piece; None = at random, told in the output.
            latents: noise to start from, (pieces, latent_channels, frames of the longest piece).
            prompt_embeds, prompt_attention_mask: text states in place of `prompt`, (prompts, tokens, dim) and
                (prompts, tokens); likewise `negative_prompt_embeds`, `negative_prompt_attention_mask`.
            morph: two texts in place of `prompt`: the piece goes from the first to the second.
            loop: the end leads into the beginning, per prompt; with a tempo a whole number of bars, 120 s at most.
            audio: what to edit: an array or tensor (samples,) or (channels, samples) with its `sampling_rate` in Hz,
                or a file; a list = one per prompt. The result has its rate, channels and level.
            strength: 0 returns `audio` bit for bit, 1 ignores what is to be made anew; per prompt.
            mask_s: regions (start, end) in seconds that are made anew, or a bool for each sample; the rest of `audio`
                comes back bit for bit. A list of lists of regions = one per prompt.
            extend_s: seconds to add before and after `audio`.
            normalize: bring the level to `loudness_lufs` (LUFS), no true peak above `true_peak_dbtp` (dBTP; what that
                takes away is made up for by 3 dB at most); False = as decoded. Of several windows the first decides.
            tilt_db: brightness, dB from 100 Hz to 10 kHz.
            fade_in_s, fade_out_s: seconds. All of level and tone is per prompt.
            output_type: "np", "pt" or "latent".
            return_dict: whether to return a `VivacePipelineOutput` or its first values as a tuple.
            callback_on_step_end: called as f(pipe, step, timestep, tensors) after each step; may return tensors to
                replace. Setting `pipe._interrupt = True` in it ends the loop.
            callback_on_step_end_tensor_inputs: which of "latents" and "prompt_embeds" (both halves) it is given.

        Raises:
            ValueError: one line that names the argument, its value and what is allowed.
        """
        arguments = {name: value for name, value in locals().items() if name != "self"}
        call = Call(self, arguments)
        self._interrupt = False
        self._guidance_scale = max(item.strengths["guidance_scale"] for item in call.requests)
        try:
            call.prepare()
            latents = call.latents()
            if output_type == "latent":
                rows = [torch.cat(list(chunks), dim=2)[0] for chunks in latents]
                pad = torch.nn.functional.pad
                audios = torch.stack([pad(row, (0, call.shape[2] - row.shape[1])) for row in rows])
            else:
                audios = [torch.cat(list(call.audio(row, chunks)), dim=1) for row, chunks in enumerate(latents)]
                if output_type == "np":
                    audios = [item.cpu().numpy() for item in audios]
                if len({item.shape[-1] for item in audios}) == 1:
                    audios = np.stack(audios) if output_type == "np" else torch.stack(audios)
        finally:
            self.maybe_free_model_hooks()
        output = VivacePipelineOutput(
            audios=audios,
            sampling_rate=call.sampling_rate,
            seeds=[item.seed for item in call.requests],
            conditions=[{name: item.known[name] for name in PUBLIC} for item in call.requests],
        )
        if not return_dict:
            return output.to_tuple()
        if output_type != "latent":
            made_with = surroundings(self, CODE)
            output.recipes = [make_recipe(call, row, made_with) for row in range(len(call.requests))]
        return output

    def replay(self, path: str | Path, audio: np.ndarray | torch.Tensor | str | Path | None = None):
        """Make the piece in a file again from the recipe that the file carries.

        Args:
            path: a .wav or .flac that `VivacePipelineOutput.save` or the command line wrote.
            audio: what was edited, if the piece is an edit; the file knows only its hash.

        Returns:
            A `VivacePipelineOutput`. Its `differences` are empty if every sample is that of the file; otherwise they
            say by how much it differs, and what is not as it was: weights, versions, device, threads.

        Raises:
            ValueError: no recipe, or one that cannot be played again.
        """
        recipe = read_recipe(path)
        output = self(**replay_arguments(recipe, audio))
        made_with = output.recipes[0]["made_with"]
        output.differences = compare(path, output.audios[0], recipe["made_with"], made_with)
        return output

    @torch.no_grad()
    def stream(self, *args, **kwargs) -> Iterator[np.ndarray]:
        """The piece that a call with the same arguments makes, bit for bit, in chunks (channels, samples) fp32, each
        while the next is still to be made.

        Raises:
            ValueError: as a call; also for several pieces.
        """
        bound = inspect.signature(self.__call__).bind(*args, **kwargs)
        bound.apply_defaults()
        call = Call(self, dict(bound.arguments))
        if len(call.requests) != 1:
            raise ValueError(f"stream makes one piece at a time, and {len(call.requests)} were asked for")
        self._interrupt = False
        try:
            call.prepare()
            for chunk in call.audio(0, call.latents()[0]):
                yield chunk.cpu().numpy()
        finally:
            self.maybe_free_model_hooks()


CODE = settle_helpers(__name__, Path(__file__))  # digest of the code
