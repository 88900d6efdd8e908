"""VivacePipeline: a prompt and a beat grid -> latents -> audio.

The text says what the music should sound like; the frame grid says when. The parts stand in the vivace_*.py files
beside this one, all of which it names, since only then does diffusers load them from the Hub.

This file and those are published with every checkpoint; they import only the standard library, torch, numpy, diffusers,
transformers and one another.
"""

import copy
import functools
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .composer_vivace import ComposerVivace
from .vivace_audio import LOUDNESS_LUFS, find_beats, loudness, mix_channels, resample, true_peak_db
from .vivace_checkpoint import LoraMixin, PublishMixin, settle_parts, settle_pipeline
from .vivace_compose import MusicPlan
from .vivace_files import (
    VivacePipelineOutput,
    Weights,
    adapters_of,
    check_adapters,
    compare,
    make_recipe,
    read_recipe,
    replay_arguments,
    surroundings,
    write_audio,
)
from .vivace_music import Lengths, Music, check_flag, is_timeline, read_prompts, spread, understand
from .vivace_notes import is_recording, read_score, read_sketches
from .vivace_process import (
    Conditions,
    GivenStates,
    check_process,
    encode_texts,
    latent_statistics,
    make_conditions,
    note_roll,
    text_states,
)
from .vivace_reading import read_exclusion, read_music, read_prompt
from .vivace_request import Request, check_call, choose_seeds, make_requests, prompt_for_score, read_edits, read_sounds
from .vivace_sampling import NOISE_BLOCK, WINDOW, CallState, Denoiser, Guidance, Sampler, frame_noise, windows
from .vivace_score import ROLES, Score, Track
from .vivace_stages import CallStateMixin, ComposingMixin, made_on_cpu
from .vivace_theory import (
    GRID_CHANNELS,
    KEYS,
    MAX_BEATS_PER_BAR,
    PITCH_CLASSES,
    check_number,
    frame_grid,
    parse_chord,
    parse_chords,
    parse_key,
    parse_time_signature,
    spell_key,
)
from .vivace_tokens import Draft, encode_score

__all__ = [
    "FORMAT", "GRID_CHANNELS", "KEYS", "MAX_BEATS_PER_BAR", "NOISE_BLOCK", "PITCH_CLASSES", "ROLES", "WINDOW",
    "ComposerVivace", "Conditions", "Draft", "Guidance", "Music", "MusicPlan", "Score", "Track", "VivacePipeline",
    "VivacePipelineOutput", "check_number", "choose_seeds", "encode_score", "find_beats", "frame_grid", "frame_noise",
    "is_timeline", "loudness", "note_roll", "parse_chord", "parse_chords", "parse_key", "parse_time_signature",
    "read_exclusion", "read_music", "read_prompt", "read_recipe", "resample", "spell_key", "true_peak_db", "understand",
    "windows", "write_audio",
]  # fmt: skip

FORMAT = 1  # of a checkpoint folder; a change that older code would misread raises it
PUBLIC = (  # of `Music`, what an output states
    "bpm", "bpm_reason", "beat_unit", "key", "time_signature", "bars", "duration_s", "chords", "loop", "notes",
)  # fmt: skip


def number(value: Any) -> Any:
    """A number of numpy as one of Python; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def one_line() -> Iterator[None]:
    """A ValueError that is raised in here has one line, whatever values it shows."""
    try:
        yield
    except ValueError as error:
        raise ValueError(" ".join(str(error).split())) from error


class VivacePipeline(PublishMixin, CallStateMixin, ComposingMixin, LoraMixin, DiffusionPipeline):
    """Text, tempo, meter, key and chords to music.

    `VivacePipeline(**pipe.components)` shares the parts and, as in diffusers, has the settings below at their defaults;
    `VivacePipeline.from_pipe(pipe)` keeps them.

    One pipeline may be called in several threads or tasks at once, and within a callback: what a call changes is its
    own. This does not hold for offloaded parts, which move between devices.

    Args:
        vae: autoencoder with `encode(audio).latent_dist`, `decode(latents).sample`, `hop_length`, and in its config
            `sampling_rate`, `latent_channels`, `latents_mean` and `latents_std`.
        unet: `UNet1DConditionModel`.
        text_encoder: any transformers encoder that gives `last_hidden_state`; may be None beside `prompt_embeds`.
        tokenizer: of that encoder. Without `vae` or `unet` (None) only `encode_prompt` works.
        scheduler: the one that the UNet was trained for, or one of the same process.
        composer: `ComposerVivace`, which writes the notes that the UNet plays; None = the UNet chooses them.
        default_num_inference_steps, default_guidance_scale, default_duration_s: used where a call does not say.
        default_guidance_low, default_guidance_high: likewise, the noise levels between which guidance is on.
        default_negative_guidance_scale: likewise, the strength with which what is excluded is kept out.
        default_score_guidance_scale: likewise, the strength of grid and notes where a piece plays notes; None = theirs
            and that of the words go together.
        default_apg_eta: likewise, the share kept of what guidance adds along the prediction.
        default_compression_ratio: likewise, how even the level is kept; 1 = as the network plays.
        captions_state_absence: whether the network was trained on captions that say "without drums"; a prompt that
            excludes them is then given to it in these words, too.
        max_duration_s: longest request, seconds.
        vivace_format: version of the checkpoint folder.

    Raises:
        ValueError: if the checkpoint has another format than this code reads.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["text_encoder", "tokenizer", "composer"]  # noqa: RUF012 (read by diffusers as a plain list)
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012

    def __init__(
        self,
        vae: ModelMixin,
        unet: ModelMixin,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: SchedulerMixin,
        composer: ModelMixin | None = None,
        default_num_inference_steps: int = 32,
        default_guidance_scale: float = 3.0,
        default_duration_s: float = 10.0,
        default_guidance_low: float = 0.0,
        default_guidance_high: float = 1.0,
        default_negative_guidance_scale: float = 5.0,
        default_score_guidance_scale: float | None = None,
        default_apg_eta: float = 1.0,
        default_compression_ratio: float = 1.0,
        captions_state_absence: bool = False,
        max_duration_s: float = 600.0,
        vivace_format: int = FORMAT,
    ):
        super().__init__()
        if vivace_format != FORMAT:
            raise ValueError(f"vivace_format of the checkpoint is {vivace_format}; this code reads {FORMAT}")
        self.register_modules(
            vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler, composer=composer
        )
        self.register_to_config(
            default_num_inference_steps=default_num_inference_steps, default_guidance_scale=default_guidance_scale,
            default_guidance_low=default_guidance_low, default_guidance_high=default_guidance_high,
            default_negative_guidance_scale=default_negative_guidance_scale,
            default_score_guidance_scale=default_score_guidance_scale, default_apg_eta=default_apg_eta,
            default_compression_ratio=default_compression_ratio,
            captions_state_absence=captions_state_absence,
            default_duration_s=default_duration_s, max_duration_s=max_duration_s, vivace_format=vivace_format,
        )  # fmt: skip
        settle_parts(type(self), self.components)
        self.guidance_rows: int | None = None
        self.trained_with = scheduler
        self._begin_without_calls(default_guidance_scale)

    def __copy__(self):
        """Another pipeline with the same parts."""
        other = object.__new__(type(self))
        other.__dict__.update(vars(self))
        return other

    @classmethod
    def from_pipe(cls, pipeline: DiffusionPipeline, dtype: torch.dtype | None = None, **changes):
        """A pipeline that shares the parts of another, but for the components and settings in `changes`.

        diffusers leaves out models whose class is not the annotated one, which code loaded with a checkpoint never is,
        and casts the shared ones to fp32; here all are shared, as they are unless a `dtype` is given.
        """
        shared = {name: part for name, part in pipeline.components.items() if isinstance(part, ModelMixin)}
        made = super().from_pipe(pipeline, dtype=dtype or pipeline.dtype, **shared | changes)
        if "unet" not in changes:  # a scheduler in `changes` must fit what the network was trained for
            made.trained_with = getattr(pipeline, "trained_with", made.trained_with)
        return made

    def encode_prompt(self, prompts: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states (batch, tokens, dim) and which of them are text (batch, tokens) bool.

        Raises:
            ValueError: if the pipeline was loaded without its text encoder.
        """
        return encode_texts(self.text_encoder, self.tokenizer, prompts, device)

    def enable_guidance_slicing(self, rows: int = 1) -> None:
        """Run so many rows of the network's batch at a time: less memory, more passes, the same result."""
        check_number("rows", rows, 1, 100000, whole=True)
        self.guidance_rows = int(rows)

    def disable_guidance_slicing(self) -> None:
        """Run all rows in one pass again."""
        self.guidance_rows = None

    def enable_vae_tiling(self, tile_frames: int = 256) -> None:
        """Decode in tiles of so many latent frames, but for loops: less memory, the same result."""
        self.vae.enable_tiling(tile_frames)

    def disable_vae_tiling(self) -> None:
        """Decode pieces whole again."""
        self.vae.disable_tiling()

    @made_on_cpu
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
        apg_eta: float | None = None,
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
        loop: bool | list[bool] | None = None,
        downbeat_s: float | None = None,
        audio: np.ndarray | torch.Tensor | str | Path | list | None = None,
        sampling_rate: int | None = None,
        strength: float | list[float] | None = None,
        mask_s: list[tuple[float, float]] | np.ndarray | None = None,
        extend_s: tuple[float, float] | None = None,
        normalize: bool | list[bool] = True,
        loudness_lufs: float | list[float] = LOUDNESS_LUFS,
        true_peak_dbtp: float | list[float] = -1.0,
        tilt_db: float | list[float] = 0.0,
        fade_in_s: float | list[float] = 0.0,
        fade_out_s: float | list[float] = 0.0,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...] = ("latents",),
        beat_unit: str | list[str] | None = None,
        score: Score | str | Path | list | None = None,
        parts: list[str] | list[list[str]] | None = None,
        stems: bool = False,
        compose: bool | list[bool] | None = None,
        melody: Score | str | Path | list | np.ndarray | torch.Tensor | None = None,
        form: str | list[tuple[str, int]] | None = None,
        rhythm: Score | str | Path | list | np.ndarray | torch.Tensor | None = None,
        sketch_timing: str | list[str] | None = None,
        sounds_like: str | Path | list | np.ndarray | torch.Tensor | None = None,
        sounds_like_strength: float | list[float] = 0.7,
        compression_ratio: float | list[float] | None = None,
        callback_on_audio=None,
    ) -> VivacePipelineOutput | tuple | Iterator[np.ndarray]:
        """Make music.

        Tempo, key, meter, length and loop that the prompt spells out are used unless given as arguments; what in it
        looks like one of them and is not used is told in the output's `conditions`, under "notes". The task follows
        from the arguments: words alone generate, `loop` makes a circle, `audio` with `strength`, `mask_s` or
        `extend_s` edits. What is said per prompt holds for all prompts, or is a list with one entry for each.

        Args:
            prompt: what it should sound like; or a timeline [(0, "calm piano"), ("bar 5", "drums enter")] with starts
                in seconds or bars and crossfades of 1 s; or a list of either.
            negative_prompt: what it should not sound like, per prompt; it joins what the prompt itself excludes ("rock
                without drums", "drumless", "just piano and bass"). Both have an effect where guidance is on.
            duration_s: length in seconds, 0.5 up to the checkpoint's `max_duration_s`, per prompt.
            bars: length in bars, exact to the sample, per prompt; where no tempo is said, one is chosen and told.
            bpm: beats a minute, 20 to 300, per prompt; None = as the music likes, or as heard in `audio`. A beat is the
                lower number of the meter, a quarter in 4/4 and an eighth in 7/8, but in 6/8, 9/8 and 12/8 three
                eighths, a dotted quarter, unless `beat_unit` names another note.
            time_signature: "4/4" (taken where there is a tempo), "3/4", "6/8" (two dotted beats), ..., per prompt.
            key: "A minor", "Bb major", "F#m", "D dorian" (a mode is followed as major or minor), per prompt.
            chords: "Am F C G", each one bar, "Am:2 F:2" with beats, or in Harte's notation "A:min F:maj7", repeated to
                the end, per prompt; for a single prompt also a list of symbols. See `read_progression`. The note of a
                slash, as in "C/E", sounds in the chord but not surely in the bass.
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
                adds along the predicted data (1 = all, 0 = none; None = the checkpoint's), a limit of its root mean
                square (None = none), and how much of the last step's is added (-1 to 1, 0 = none).
            num_waveforms_per_prompt: pieces of each prompt, with the seeds seed, seed + 1, ...
            generator: seeds are drawn from it (or from one per piece); `seed` is the simpler way.
            seed: one for all prompts, one per prompt or one per piece; None = at random, told in the output.
            latents: noise to start from, (pieces, latent_channels, frames of the longest piece).
            prompt_embeds, prompt_attention_mask: text states in place of `prompt`, (prompts, tokens, dim) and
                (prompts, tokens); likewise `negative_prompt_embeds`, `negative_prompt_attention_mask`.
            morph: two texts in place of `prompt`: the piece goes from the first to the second.
            loop: the end leads into the beginning, per prompt; with a tempo a whole number of bars, 120 s at most. With
                `audio` the audio is a circle and is edited as one. None = if the prompt says loop and its length allows
                one (fades make none), or as the recipe of `audio` says.
            audio: what to edit: an array or tensor (samples,) or (channels, samples) with its `sampling_rate` in Hz,
                a file, or an output of this pipeline with one piece; a list = one per prompt. The result has its rate
                and channels. Tempo, meter, key, chords, downbeat and `loop` of a file or output of ours are those of
                its recipe unless they are given or in the prompt (another tempo or meter leaves out its chords,
                downbeat and loop); of other audio tempo and downbeat are heard. What is made is as loud as what is
                kept (as the input where less than 3 s are kept; by 3 dB of make-up at most; less than 3 s beside kept
                audio have the level that the network gives them), and no true peak of it is above `true_peak_dbtp` or
                the input's own, whichever is higher.
            strength: 0 returns `audio` bit for bit, 1 ignores what is to be made anew; per prompt.
            mask_s: regions (start, end) in seconds that are made anew, or a bool for each sample; the rest of `audio`
                comes back bit for bit. A list of lists of regions = one per prompt.
            extend_s: seconds to add before and after `audio`.
            normalize: bring the level to `loudness_lufs` (LUFS), no true peak above `true_peak_dbtp` (dBTP; what that
                takes away is made up for by 3 dB at most); False = as decoded. With `audio` see there.
            tilt_db: brightness, dB from 100 Hz to 10 kHz.
            fade_in_s, fade_out_s: seconds. All of level and tone is per prompt; with `audio` only `normalize`,
                `true_peak_dbtp` and `compression_ratio` can be given.
            output_type: "np", "pt", "latent", or "stream" for an iterator over one piece, see `stream`.
            return_dict: whether to return a `VivacePipelineOutput` or its first values as a tuple.
            callback_on_step_end: called as f(pipe, step, timestep, tensors) after each step; may return tensors to
                replace. `pipe._interrupt = True` in it ends this call's loop (set elsewhere: those of all running
                calls), `pipe._guidance_scale = ...` changes the guidance of the batch from the next step on.
            callback_on_step_end_tensor_inputs: which of "latents" and "prompt_embeds" it is given; the latter are the
                negative texts, then the texts. A callback of diffusers' own classes brings its list.
            score: notes to be played, per prompt: a `Score` or the name of a MIDI file. Length, tempo, meter and key
                are the score's unless they are given or in the prompt, and the words name the sound; without a prompt
                the instruments of the score do. With `audio` of ours that has a score and no `mask_s`, `extend_s` or
                `strength`, the bars whose notes differ are made anew and the rest comes back bit for bit.
            parts: roles that are to play, out of "lead", "harmony", "bass" and "drums"; the others are silent. A list
                of lists = one for each prompt.
            stems: also make each part of the score alone, on the same noise. The piece is then their sum, bit for bit,
                and the output's `stems` has them by role.
            compose: whether the composer writes the notes, per prompt; None = if there is one and neither `score` nor
                `audio` is given. With a score it writes the roles that have no notes. What is composed is a function
                of the seed and the arguments, and is in the output's `scores` and in the recipe.
            melody: the lead, to which the rest is composed: a `Score`, the name of a MIDI file, notes as rows of onset
                and duration in quarters, pitch and velocity, or a recording of one voice that hums, sings or whistles
                (needs swift-f0): the name of an audio file, or an array with its `sampling_rate`. Its first note begins
                the first bar; where no tempo is said it is that of the recording.
            rhythm: the drums, repeated to the end: a recording of taps or of a beatbox, a `Score`, or the name of a
                MIDI file. The rest is composed to them.
            sketch_timing: of recordings given as `melody` or `rhythm`, per prompt: "grid" (the default) moves notes to
                16ths, "original" keeps them where they were played.
            form: sections of what is composed, "AABA": a letter that comes again brings its notes again, with a prime
                ("AA'BA") varied; or a list of (letter, bars).
            sounds_like: a recording of 1 to 60 s whose timbre and mix the piece is to have, but not its notes, beside
                the words: a file, an array with its `sampling_rate`, an output of this pipeline, or the numbers of
                `sound_of`; a list of them = one for each prompt. Guidance strengthens it as it does the words.
            sounds_like_strength: how far the mean colour and level of the piece are also brought to those of the
                recording, 0 to 1, per prompt; more costs clearness of the notes. Not those of single stems. Without
                `sounds_like` a LoRA adapter may bring sounds of what it learnt from, of which the seed chooses one.
            beat_unit: the note that `bpm` counts, per prompt: "half", "quarter", "eighth", "sixteenth", "dotted
                quarter", ...; None = the meter's beat, or as the prompt says ("dotted quarter = 60").
            compression_ratio: of a compressor that keeps the level steady where the level is normalised, 1 to 20, per
                prompt: so many dB above the usual level of the 6 s around become one. 1 = off, None = the
                checkpoint's.
            callback_on_audio: called as f(piece, audio) with each chunk (channels, samples) of a piece longer than one
                window, while the rest of it is made, as `stream` gives it; `piece` counts from 0. Stems have none.

        Raises:
            ValueError: one line that names the argument, its value and what is allowed.
        """
        # 1. What holds for the whole call: defaults of the checkpoint, checks, a scheduler of its own
        num_inference_steps, num_waveforms_per_prompt = number(num_inference_steps), number(num_waveforms_per_prompt)
        config = self.config
        apg_eta = number(config.default_apg_eta if apg_eta is None else apg_eta)
        apg_norm_threshold, apg_momentum = number(apg_norm_threshold), number(apg_momentum)
        sampling_rate = number(sampling_rate)
        num_inference_steps = config.default_num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance_scale = config.default_guidance_scale if guidance_scale is None else guidance_scale
        if negative_guidance_scale is None:
            negative_guidance_scale = config.default_negative_guidance_scale
        if guidance_interval is None:
            guidance_interval = (config.default_guidance_low, config.default_guidance_high)
        compression_ratio = config.default_compression_ratio if compression_ratio is None else compression_ratio
        if isinstance(callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        tensors = {
            "latents": latents, "prompt_embeds": prompt_embeds, "prompt_attention_mask": prompt_attention_mask,
            "negative_prompt_embeds": negative_prompt_embeds,
            "negative_prompt_attention_mask": negative_prompt_attention_mask,
        }  # fmt: skip
        with one_line():
            for part in ("vae", "unet", "scheduler"):
                if getattr(self, part) is None:
                    raise ValueError(f"{part} is None; without it only encode_prompt works, load the pipeline with it")
            check_call(
                num_inference_steps, num_waveforms_per_prompt, apg_eta, apg_norm_threshold, apg_momentum, tensors,
                output_type, return_dict, callback_on_step_end, callback_on_step_end_tensor_inputs,
                self._callback_tensor_inputs, callback_on_audio,
            )  # fmt: skip
            scheduler = copy.deepcopy(vars(self)["scheduler"])
            check_process(scheduler, self.trained_with)

            # 2. One request for each piece, from prompts, scores, arguments and given audio
            scores = [read_score(one) for one in score] if isinstance(score, (list, tuple)) else [read_score(score)]
            if score is not None and prompt is None and morph is None and prompt_embeds is None:
                prompt = prompt_for_score(scores, spread("audio", audio, len(scores), not isinstance(audio, list)))
            prompts = read_prompts(prompt, morph, None if prompt_embeds is None else len(prompt_embeds))
            scores = spread("score", scores if isinstance(score, (list, tuple)) else scores[0], len(prompts), False)
            lengths = Lengths(config.default_duration_s, config.max_duration_s)
            sketches = {name: read_sketches(one, name, sampling_rate) for name, one in
                        (("melody", melody), ("rhythm", rhythm))}  # fmt: skip
            numbers = self.unet.config.get("reference_channels") or 0
            sounds = read_sounds(sounds_like, sampling_rate, len(prompts), numbers)
            recorded = sounds_like is not None or any(is_recording(one, sampling_rate) for one in (melody, rhythm))
            if audio is None and recorded:
                sampling_rate = None  # it was that of a sketch, or of the sound
            edits = read_edits(scores, audio, sampling_rate, strength, mask_s, extend_s, lengths)
            per_item = {
                "negative_prompt": negative_prompt, "loop": loop, "score": scores, "parts": parts,
                "compose": compose, "form": form, **sketches, "sketch_timing": sketch_timing,
                "sounds_like": sounds,
                "duration_s": duration_s, "bars": bars, "bpm": bpm, "beat_unit": beat_unit,
                "time_signature": time_signature, "key": key, "chords": chords, "downbeat_s": downbeat_s,
                "guidance_scale": guidance_scale, "grid_guidance_scale": grid_guidance_scale,
                "negative_guidance_scale": negative_guidance_scale, "guidance_rescale": guidance_rescale,
                "guidance_interval": guidance_interval, "sounds_like_strength": sounds_like_strength,
                "normalize": normalize, "loudness_lufs": loudness_lufs, "true_peak_dbtp": true_peak_dbtp,
                "tilt_db": tilt_db, "fade_in_s": fade_in_s, "fade_out_s": fade_out_s,
                "compression_ratio": compression_ratio,
            }  # fmt: skip
            requests = make_requests(
                prompts,
                per_item,
                choose_seeds(seed, generator, len(prompts), num_waveforms_per_prompt),
                edits,
                lengths,
                self.vae.config.sampling_rate,
                self.vae.hop_length,
                restate=config.captions_state_absence,
                one_prompt=prompt is None or isinstance(prompt, str) or is_timeline(prompt),
                unwanted_states=negative_prompt_embeds is not None,
                plays_notes=bool(self.unet.config.get("note_channels")),
                composes=bool(self.unet.config.get("note_channels")) and self.composer is not None,
                score_guidance_scale=config.default_score_guidance_scale,
            )
            shape = (len(requests), self.vae.config.latent_channels, max(item.frames for item in requests))
            if latents is not None and tuple(latents.shape) != shape:
                raise ValueError(f"latents has shape {tuple(latents.shape)}; needed for this request: {shape}")
            if output_type == "stream" and len(requests) != 1:
                raise ValueError(f"stream makes one piece at a time, and {len(requests)} were asked for")
            check_flag("stems", stems)
            if stems and any(item.score is None and item.plan is None for item in requests):
                raise ValueError("stems is True without a score; stems are the parts of one: give score")
            if stems and (output_type not in ("np", "pt") or audio is not None or latents is not None):
                raise ValueError("stems is True; allowed with output_type 'np' or 'pt', without audio and latents")
            pieces = requests

        device = self._device
        state = CallState(
            max(item.strengths.guidance_scale for item in requests),
            max(item.strengths.grid_guidance_scale or 0.0 for item in requests),
            scheduler,
        )
        with self._running(state):
            # 3. Compose, where notes are to be written; then one request for each part where stems are made
            self._compose([item for item in pieces if item.plan is not None], prompt_embeds, prompt_attention_mask)
            self._encode_sounds(pieces)
            takes = [item.alone() if stems else [item] for item in pieces]
            requests = [item for own in takes for item in own]
            shape = (len(requests), *shape[1:])

            # 4. Conditions of the network: texts, grid, lengths
            states, mask = text_states(
                requests,
                GivenStates("prompt_embeds", prompt_embeds, prompt_attention_mask),
                GivenStates("negative_prompt_embeds", negative_prompt_embeds, negative_prompt_attention_mask),
                self.encode_prompt,
                self.unet.config.cross_attention_dim,
                self.unet.dtype,
                device,
            )
            instruments = self.unet.config.get("instruments") or ()
            conditions = make_conditions(requests, states, mask, shape[1], self.frame_rate, instruments, device)
            guidance = Guidance.of(requests, apg_eta, apg_norm_threshold, apg_momentum, device)

            # 5. Noise of each seed, and the latents of given audio that are kept
            noise, generators = self._draw_noise(requests, shape)
            noise = (noise if latents is None else latents.float()).to(device)
            clean, keep = self._encode_edits(requests, noise)

            # 6. Denoise
            sampler = Sampler(
                Denoiser(self.unet, scheduler, num_inference_steps, self.guidance_rows), requests, conditions, guidance,
                self.frame_rate, noise, generators, clean, keep, state,
                None if callback_on_step_end is None else self._bind_callback(callback_on_step_end, state),
                tuple(callback_on_step_end_tensor_inputs),
            )  # fmt: skip
            state.num_timesteps = sampler.count_steps()
            progress = self.progress_bar(total=state.num_timesteps)
            if output_type == "stream":
                return self._stream(requests[0], sampler, progress.update, state)
            made = sampler.latents(progress.update)

            # 7. Decode to audio, and bring it to its level
            audios: Any = []
            parts_of: list[dict] = []
            if output_type == "latent":
                rows = [torch.cat(list(chunks), dim=2)[0] for chunks in made]
                audios = [torch.nn.functional.pad(row, (0, shape[2] - row.shape[1])) for row in rows]
            else:
                decoded = iter(made)
                for place, (item, own) in enumerate(zip(pieces, takes, strict=True)):
                    if stems:
                        levelled = self._leveller(item).level_parts([self._decode(one, next(decoded)) for one in own])
                        parts_of.append(dict(zip([one.parts[0] for one in own if one.parts], levelled, strict=True)))
                        audios.append(torch.stack(list(parts_of[-1].values())).sum(0))
                    else:
                        on_audio = None if callback_on_audio is None else functools.partial(callback_on_audio, place)
                        audios.append(torch.cat(list(self._finish(item, next(decoded), on_audio=on_audio)), dim=1))
                if output_type == "np":
                    audios = [item.cpu().numpy() for item in audios]
                    parts_of = [{role: one.cpu().numpy() for role, one in own.items()} for own in parts_of]
            if len({item.shape[-1] for item in audios}) == 1:
                audios = np.stack(audios) if output_type == "np" else torch.stack(audios)

        # 8. The output, with a recipe for each piece
        edit = pieces[0].edit
        output = VivacePipelineOutput(
            audios=audios,
            sampling_rate=self.vae.config.sampling_rate if edit is None else edit.rate,
            seeds=[item.seed for item in pieces],
            conditions=[{name: getattr(item.music, name) for name in PUBLIC} for item in pieces],
        )
        if not return_dict:
            return output.to_tuple()
        if output_type != "latent":
            shared = {
                "num_inference_steps": num_inference_steps, "apg_eta": apg_eta,
                "apg_norm_threshold": apg_norm_threshold, "apg_momentum": apg_momentum, "morph": morph,
                "extend_s": extend_s, "stems": stems,
            }  # fmt: skip
            not_recorded = [
                name for name in ("latents", "prompt_embeds", "negative_prompt_embeds") if tensors[name] is not None
            ]
            if callback_on_step_end is not None:
                not_recorded.append("callback_on_step_end")
            made_with = surroundings(CODE, scheduler, self._execution_device, self.unet.dtype)
            adapters = adapters_of(self.unet)
            output.recipes = [
                make_recipe(
                    shared | item.arguments | {"seed": item.seed},
                    None if item.edit is None else item.edit.given,
                    output.sampling_rate,
                    made_with,
                    not_recorded,
                    adapters,
                )
                for item in pieces
            ]
            output.scores, output.stems = [item.score for item in pieces], parts_of or None
            output.weights = Weights.of(self.vae, self.unet, self.text_encoder)  # type: ignore[misc]
        return output

    @made_on_cpu
    def replay(self, path: str | Path, audio: np.ndarray | torch.Tensor | str | Path | None = None):
        """Make the piece in a file again from the recipe that the file carries.

        Args:
            path: a file that `VivacePipelineOutput.save` or the command line wrote.
            audio: what was edited, if the piece is an edit; the file knows only its hash.

        Returns:
            A `VivacePipelineOutput`. Its `differences` are empty if every sample is that of the file; otherwise they
            say by how much it differs, and what is not as it was: weights, versions, device, threads.

        Raises:
            ValueError: no recipe, one that cannot be played again, or other LoRA adapters than it names.
        """
        recipe = read_recipe(path)
        check_adapters(recipe, self.unet)
        output = self(**replay_arguments(recipe, audio, inspect.signature(self.__call__).parameters))
        output.differences = compare(path, output.audios[0], recipe["made_with"], output.recipe()["made_with"])
        return output

    @torch.no_grad()
    def sound_of(self, audio: np.ndarray | torch.Tensor | str | Path, sampling_rate: int | None = None) -> list[float]:
        """The timbre and the mix of a recording, in numbers that can be kept and given as `sounds_like` in its place:
        mean, then standard deviation of each latent channel.

        Args:
            audio: 1 to 60 s, as `sounds_like` of a call.
            sampling_rate: of an array.

        Raises:
            ValueError: a checkpoint whose network takes no reference, or what is wrong with the audio.
        """
        (sound,) = read_sounds([audio], sampling_rate, 1, self.unet.config.get("reference_channels") or 0)
        return self._statistics(sound)

    def _statistics(self, sound: tuple[torch.Tensor, int] | list[float]) -> list[float]:
        if isinstance(sound, list):
            return sound
        audio = resample(
            mix_channels(sound[0], self.vae.config.audio_channels), sound[1], self.vae.config.sampling_rate
        )
        latents = self.encode_audio(audio[None].to(self._device))[0]
        return [round(value, 4) for value in latent_statistics(latents, 1).tolist()]

    def _encode_sounds(self, pieces: list[Request]) -> None:
        """Statistics in place of the audio that pieces are to sound like, in the requests and their recipes. New pieces
        without such audio take a sound that an adapter brings, by their seed."""
        of_adapters, strength = self._sounds_of_adapters()
        for item in pieces:
            if of_adapters and item.sound is None and item.edit is None:
                item.sound = of_adapters[item.seed % len(of_adapters)]
                pull = strength * item.strengths.sounds_like_strength
                item.strengths = replace(item.strengths, sounds_like_strength=pull)
                item.arguments = item.arguments | {"sounds_like_strength": pull}
        sounds = {id(item.sound): item.sound for item in pieces if item.sound is not None}  # each is encoded once
        read = {key: self._statistics(sound) for key, sound in sounds.items()}
        for item in pieces:
            if item.sound is not None:
                item.sound = read[id(item.sound)]
                item.arguments = item.arguments | {"sounds_like": item.sound}

    def stream(self, *args, **kwargs) -> Iterator[np.ndarray]:
        """The piece that a call with the same arguments makes, in chunks (channels, samples) fp32, each while the next
        is still to be made. The call's `output_type` is then "stream".

        Bit for bit up to one window (`WINDOW` latent frames, 20.48 s of the published model), and of any length with
        `normalize=False`. A call brings a longer piece to its loudness as a whole; a stream cannot know what follows,
        so its first window decides, and the piece is the call's at another constant gain before the limiter.

        Raises:
            ValueError: as a call; also for several pieces.
        """
        bound = inspect.signature(self.__call__).bind(*args, **kwargs)
        yield from self(**bound.arguments | {"output_type": "stream", "return_dict": True})


def says_something(record: logging.LogRecord) -> bool:
    """False for what diffusers (0.42) says of every model that is cast and keeps no module in float32."""
    return "should be kept in float32: []" not in record.getMessage()


logging.getLogger("diffusers.models.modeling_utils").addFilter(says_something)
CODE = settle_pipeline(globals())  # digest of the code
