"""One call of the pipeline: its arguments understood, then its pieces made.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

from collections.abc import Iterable, Iterator
from types import SimpleNamespace

import torch

from .vivace_conditions import make_conditions
from .vivace_denoise import Batch, denoise
from .vivace_edit import Edit, kept_frames, make_edit, network_input, splice
from .vivace_exclusion import share_of
from .vivace_level import Leveller
from .vivace_noise import frame_noise
from .vivace_process import check_process, steps_of
from .vivace_prompt import check_number
from .vivace_request import (
    CONDITIONS,
    STRENGTHS,
    TONE,
    is_list_of_pairs,
    make_guidance,
    make_requests,
    read_prompts,
    spread,
)
from .vivace_text import text_states
from .vivace_timeline import is_timeline
from .vivace_windows import windows

TENSORS = ("latents", "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds",
           "negative_prompt_attention_mask")  # fmt: skip


def check_settings(pipe, asked: SimpleNamespace) -> None:
    """Raise a ValueError for a setting that is none of a single piece's."""
    for name in TENSORS:
        value = getattr(asked, name)
        if value is not None and not isinstance(value, torch.Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}; allowed: a torch.Tensor")
    check_number("num_inference_steps", asked.num_inference_steps, 1, 1000, whole=True)
    check_number("apg_eta", asked.apg_eta, 0, 1)
    check_number("apg_momentum", asked.apg_momentum, -1, 1)
    if asked.apg_norm_threshold is not None:
        check_number("apg_norm_threshold", asked.apg_norm_threshold, 1e-3, 1000)
    if asked.output_type not in ("np", "pt", "latent"):
        raise ValueError(f"output_type is {asked.output_type!r}; allowed: 'np', 'pt', 'latent'")
    allowed = ", ".join(pipe._callback_tensor_inputs)
    wanted = asked.callback_on_step_end_tensor_inputs
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(
            f"callback_on_step_end_tensor_inputs is {' '.join(str(wanted).split())}; allowed: a list of {allowed}"
        )
    unknown = set(wanted) - set(pipe._callback_tensor_inputs)
    if unknown:
        raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; allowed: {allowed}")


class Call:
    """The requests of one call, and what making them needs.

    Args:
        pipe: the pipeline.
        arguments: all arguments of its `__call__` by name.

    Attributes:
        asked: the arguments, defaults of the checkpoint filled in.
        requests: one per piece, see `vivace_request.Request`.

    Raises:
        ValueError: one line that names an argument, its value and what is allowed.
    """

    def __init__(self, pipe, arguments: dict):
        self.pipe, self.asked = pipe, SimpleNamespace(**arguments)
        try:
            self._understand()
        except ValueError as error:
            raise ValueError(" ".join(str(error).split())) from error  # one line, whatever was given

    def _understand(self) -> None:
        """Read all arguments."""
        asked, pipe = self.asked, self.pipe
        if asked.num_inference_steps is None:
            asked.num_inference_steps = pipe.config.default_num_inference_steps
        if asked.guidance_scale is None:
            asked.guidance_scale = pipe.config.default_guidance_scale
        if asked.guidance_interval is None:
            asked.guidance_interval = (pipe.config.default_guidance_low, pipe.config.default_guidance_high)
        if asked.negative_guidance_scale is None:
            asked.negative_guidance_scale = pipe.config.default_negative_guidance_scale
        check_settings(pipe, asked)
        check_process(pipe.scheduler, pipe.process)
        embeds = asked.prompt_embeds
        entries = read_prompts(asked.prompt, asked.morph, None if embeds is None else len(embeds))
        per_item = {name: getattr(asked, name) for name in ("negative_prompt", "loop", *CONDITIONS, *STRENGTHS, *TONE)}
        single = asked.prompt is None or isinstance(asked.prompt, str) or is_timeline(asked.prompt)
        prompts = [asked.prompt] * len(entries) if single else list(asked.prompt)
        per_prompt = asked.num_waveforms_per_prompt
        edits = self._edits(len(entries))
        self.requests = make_requests(
            pipe, entries, per_item, asked.seed, asked.generator, per_prompt, single, edits, prompts
        )
        if asked.negative_prompt_embeds is not None:
            for item in self.requests:
                item.unwanted, item.unwanted_weights = [None], torch.full((1, item.frames), share_of(None))
        shape = (len(self.requests), pipe.vae.config.latent_channels, max(item.frames for item in self.requests))
        if asked.latents is not None and tuple(asked.latents.shape) != shape:
            raise ValueError(f"latents has shape {tuple(asked.latents.shape)}; needed for this request: {shape}")
        self.shape, self.device = shape, pipe._execution_device
        self.told = self.guidance = self.noise = None
        self.generators: list[torch.Generator] = []

    def _edits(self, count: int) -> list[Edit | None]:
        """What is to be done to the audio of each prompt."""
        asked, limit = self.asked, self.pipe.config.max_duration_s
        if asked.audio is None:
            for name in ("strength", "mask_s", "extend_s", "sampling_rate"):
                if getattr(asked, name) is not None:
                    raise ValueError(f"{name} is {getattr(asked, name)!r} without audio; it says what to do with audio")
            return [None] * count
        many = isinstance(asked.audio, (list, tuple))
        sources = spread("audio", asked.audio, count, not many)
        masks = asked.mask_s
        apart = is_list_of_pairs(masks) and all(is_list_of_pairs(regions) for regions in masks)
        masks = spread("mask_s", masks, count, not apart)
        strengths = spread("strength", asked.strength, count, False)
        done: dict[tuple, Edit] = {}  # the same audio for all prompts is read once
        edits = []
        for source, mask, strength in zip(sources, masks, strengths, strict=True):
            place = (id(source), id(mask), strength if isinstance(strength, (int, float)) else id(strength))
            if place not in done:
                done[place] = make_edit(source, asked.sampling_rate, strength, mask, asked.extend_s, limit)
            edits.append(done[place])
        if len({edit.rate for edit in edits}) > 1:
            raise ValueError("audio has files of several sampling rates; edit them in calls of their own")
        return edits

    def prepare(self) -> None:
        """Encode the texts and the audio, lay out the conditions, draw the noise."""
        asked, pipe = self.asked, self.pipe
        positive = (asked.prompt_embeds, asked.prompt_attention_mask)
        negative = (asked.negative_prompt_embeds, asked.negative_prompt_attention_mask)
        per_prompt = asked.num_waveforms_per_prompt
        states, mask = text_states(pipe, self.requests, per_prompt, positive, negative, self.device)
        self.told = make_conditions(self.requests, states, mask, self.shape[1], pipe.frame_rate, self.device)
        projection = (asked.apg_eta, asked.apg_norm_threshold, asked.apg_momentum)
        self.guidance = make_guidance(self.requests, *projection, pipe.config, self.device)
        noise, self.generators = torch.zeros(self.shape), []
        for row, item in enumerate(self.requests):
            own, source = frame_noise(item.seed, item.frames, self.shape[1])
            noise[row, :, : item.frames] = own
            self.generators.append(source)
        self.noise = (noise if asked.latents is None else asked.latents.float()).to(self.device)
        self.clean = torch.zeros_like(self.noise)
        self.keep = torch.zeros(self.shape[0], self.shape[2], dtype=torch.bool, device=self.device)
        for row, item in enumerate(self.requests):
            if item.edit is not None:
                rate, channels = pipe.vae.config.sampling_rate, pipe.vae.config.audio_channels
                clean = pipe.encode_audio(network_input(item.edit, rate, channels).to(self.device))[0]
                self.clean[row, :, : item.frames] = clean[:, : item.frames]
                self.keep[row, : item.frames] = kept_frames(item.edit, item.frames, pipe.frame_rate)
        self.windows = [
            [(0, item.frames, 0, item.frames)] if item.loop else list(windows(item.frames)) for item in self.requests
        ]
        runs = [rows[0] for rows in self.batches()]
        runs += [row for row, spans in enumerate(self.windows) if len(spans) > 1 for _ in spans]
        steps = [steps_of(pipe.scheduler, asked.num_inference_steps, self.requests[row].strength) for row in runs]
        pipe._num_timesteps = sum(steps)

    def batches(self) -> list[list[int]]:
        """Short pieces that are made together: alike in strength and in whether they are circles. What is wanted as it
        is, is not made.

        On a CPU also alike in length and in that of their texts: an item of a batch then has the bits that it has
        alone, since nothing is padded for it. On a GPU fewer, larger batches matter more than the last bits.
        """
        alike: dict[tuple, list[int]] = {}
        for row, item in enumerate(self.requests):
            if len(self.windows[row]) == 1 and item.strength > 0.0:
                shape = ()
                if self.device.type == "cpu":
                    shape = self.told.part([row], 0, item.frames).states.shape[1], item.frames
                alike.setdefault((item.loop, item.strength, *shape), []).append(row)
        return list(alike.values())

    @property
    def sampling_rate(self) -> int:
        """Of the result, Hz: with audio that of the audio."""
        edit = self.requests[0].edit
        return self.pipe.vae.config.sampling_rate if edit is None else edit.rate

    def _denoise(self, rows: list[int], first: int, last: int, progress) -> torch.Tensor:
        """Frames [first, last) of pieces, (rows, latent_channels, last - first); what is kept is in `self.clean`.

        Raises:
            ValueError: if they are not finite.
        """
        asked, pipe = self.asked, self.pipe
        keep, clean = self.keep[rows, first:last], self.clean[rows, :, first:last]
        if keep.all():
            return clean
        told = self.told.part(rows, first, last)
        given = keep[:, None].float()
        told.edit = torch.cat([1.0 - given, clean * given], dim=1)
        if last - first < self.told.visible[rows].sum(1).max():  # a window is as long as it is, whatever the piece
            told.scalars["duration_s"] = torch.full_like(
                told.scalars["duration_s"], (last - first) / self.pipe.frame_rate
            )
        noise, sources = self.noise[rows, :, first:last], [self.generators[row] for row in rows]
        batch = Batch(
            told,
            self.guidance.part(rows),
            noise,
            clean,
            keep if keep.any() else None,
            self.requests[rows[0]].strength,
            self.requests[rows[0]].loop,
            sources,
        )
        wanted = list(asked.callback_on_step_end_tensor_inputs)
        latents = denoise(pipe, batch, asked.num_inference_steps, asked.callback_on_step_end, wanted, progress)
        if not torch.isfinite(latents).all():
            raise ValueError(
                f"the network gave values that are not finite (guidance_scale {asked.guidance_scale}, "
                f"{pipe.unet.dtype}); lower guidance_scale or load with dtype=torch.float32"
            )
        return latents

    def _chunks(self, row: int, progress) -> Iterator[torch.Tensor]:
        """Latents of one piece (1, latent_channels, n), window after window."""
        for first, last, given, done in self.windows[row]:
            self.keep[row, first:given] = True
            latents = self._denoise([row], first, last, progress)
            self.clean[row, :, given:done] = latents[0, :, given - first : done - first]
            yield latents[:, :, given - first : done - first]
            if self.pipe.interrupt:
                return

    def latents(self) -> list[Iterable[torch.Tensor]]:
        """For each piece its latents (1, latent_channels, n) in chunks: short pieces are made here, in batches, long
        ones as their chunks are asked for."""
        progress = self.pipe.progress_bar(total=self.pipe.num_timesteps)
        made = {}
        for rows in self.batches():
            longest = max(self.requests[row].frames for row in rows)
            for row, latents in zip(rows, self._denoise(rows, 0, longest, progress), strict=True):
                made[row] = [latents[None, :, : self.requests[row].frames]]
        return [made.get(row, self._chunks(row, progress)) for row in range(len(self.requests))]

    def audio(self, row: int, latents: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """One piece (channels, n) fp32, in chunks that together have its length."""
        pipe, item = self.pipe, self.requests[row]
        if item.edit is not None:
            if item.strength == 0.0:
                yield item.edit.audio
                return
            made = torch.cat(list(pipe.decode_latents(latents, False)), dim=1)[:, : item.samples]
            yield splice(item.edit, made, pipe.vae.config.sampling_rate)
            return
        tone = item.tone
        leveller = Leveller(
            pipe.vae.config.sampling_rate, item.samples, tone["loudness_lufs"] if tone["normalize"] else None,
            tone["true_peak_dbtp"], tone["tilt_db"], tone["fade_in_s"], tone["fade_out_s"], item.loop,
        )  # fmt: skip
        decoded = pipe.decode_latents(latents, item.loop, item.samples)
        yield from leveller.run(cut(decoded, item.samples))


def cut(chunks: Iterable[torch.Tensor], samples: int) -> Iterator[torch.Tensor]:
    """Chunks (channels, n) up to that many samples in all."""
    for chunk in chunks:
        yield chunk[:, :samples]
        samples -= chunk.shape[1]
        if samples <= 0:
            return
