"""One call of the pipeline: its arguments understood, then its pieces made.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from .vivace_conditions import Conditions, is_timeline, make_conditions, text_states
from .vivace_edit import Edit, kept_frames, make_edit, network_input, splice
from .vivace_exclusion import share_of
from .vivace_level import Leveller
from .vivace_request import (
    CONDITIONS,
    STRENGTHS,
    TONE,
    check_flag,
    is_list_of_pairs,
    make_guidance,
    make_requests,
    open_source,
    read_prompts,
    spread,
)
from .vivace_sampling import CIRCLE_MARGIN, Batch, Guidance, check_process, denoise, frame_noise, set_timesteps, windows
from .vivace_theory import check_number

TENSORS = ("latents", "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds",
           "negative_prompt_attention_mask")  # fmt: skip
CALLS: ContextVar[tuple["Call", ...]] = ContextVar("vivace_calls", default=())  # whose callbacks this code runs in


@dataclass(eq=False)
class CallState:
    """What a callback reads and changes of its call through the pipeline's properties.

    Attributes:
        guidance_scale: the largest of the call's pieces; what a callback sets holds for the rest of its batch.
        grid_guidance_scale: the largest that was given, 0 = none.
        num_timesteps: steps that the call will take.
        interrupt: whether to take no further step.
    """

    guidance_scale: float
    grid_guidance_scale: float = 0.0
    num_timesteps: int = 0
    interrupt: bool = False


def on_cpu() -> AbstractContextManager:
    """In here new tensors are made on the CPU, as the code expects, also after `torch.set_default_device`."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


def made_on_cpu(function: Callable) -> Callable:
    """A function whose body runs in `on_cpu`."""

    @functools.wraps(function)
    def run(*args, **kwargs):
        with on_cpu():
            return function(*args, **kwargs)

    return run


def execution_device(pipe) -> torch.device:
    """Where the parts compute: also where one is offloaded and its weights are nowhere between its runs."""
    if pipe._execution_device.type != "meta":
        return pipe._execution_device
    models = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    hooks = [getattr(module, "_hf_hook", None) for part in models for module in part.modules()]
    devices = [hook.execution_device for hook in hooks if getattr(hook, "execution_device", None) is not None]
    weights = [one.device for part in models for one in part.parameters() if one.device.type != "meta"]
    return torch.device([*devices, *weights][0])


def current_call(pipe) -> "Call | None":
    """The call of this pipeline in whose callback the running code is, or None outside of callbacks."""
    return next((call for call in reversed(CALLS.get()) if call.pipe is pipe), None)


def check_settings(pipe, asked: SimpleNamespace) -> None:
    """Raise a ValueError for a setting that is none of a single piece's."""
    for name in TENSORS:
        value = getattr(asked, name)
        if value is not None and not isinstance(value, torch.Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}; allowed: a torch.Tensor")
        if value is not None and name.endswith("embeds") and value.ndim != 3:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; needed: (prompts, tokens, dim)")
    check_number("num_inference_steps", asked.num_inference_steps, 1, 1000, whole=True)
    check_number("apg_eta", asked.apg_eta, 0, 1)
    check_number("apg_momentum", asked.apg_momentum, -1, 1)
    if asked.apg_norm_threshold is not None:
        check_number("apg_norm_threshold", asked.apg_norm_threshold, 1e-3, 1000)
    if not isinstance(asked.output_type, str) or asked.output_type not in ("np", "pt", "latent"):
        raise ValueError(f"output_type is {asked.output_type!r}; allowed: 'np', 'pt', 'latent'")
    check_flag("return_dict", asked.return_dict)
    if asked.callback_on_step_end is not None and not callable(asked.callback_on_step_end):
        raise ValueError(
            f"callback_on_step_end is {asked.callback_on_step_end!r}; allowed: f(pipe, step, timestep, tensors)"
        )
    allowed = ", ".join(pipe._callback_tensor_inputs)
    wanted = asked.callback_on_step_end_tensor_inputs
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(
            f"callback_on_step_end_tensor_inputs is {' '.join(str(wanted).split())}; allowed: a list of {allowed}"
        )
    unknown = [name for name in wanted if name not in pipe._callback_tensor_inputs]
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
        scheduler: a copy of the pipeline's, so that calls in several threads do not share its step counter.
        state: what callbacks may change; nothing that a call changes is kept in the pipeline.

    Raises:
        ValueError: one line that names an argument, its value and what is allowed.
    """

    def __init__(self, pipe, arguments: dict):
        self.pipe = pipe
        self.asked = SimpleNamespace(
            **{name: value.item() if isinstance(value, np.generic) else value for name, value in arguments.items()}
        )
        try:
            self._understand()
        except ValueError as error:
            raise ValueError(" ".join(str(error).split())) from error  # one line, whatever was given
        strengths = [item.strengths for item in self.requests]
        self.state = CallState(
            max(one["guidance_scale"] for one in strengths), max(one["grid_guidance_scale"] or 0.0 for one in strengths)
        )

    @contextmanager
    def running(self):
        """While the call runs, `_interrupt` set from outside of its callbacks reaches it as well."""
        self.pipe.latest_state = self.state
        self.pipe.running_states.add(self.state)
        try:
            yield
        finally:
            self.pipe.running_states.discard(self.state)
            self.pipe.maybe_free_model_hooks()

    def _understand(self) -> None:
        """Read all arguments."""
        asked, pipe = self.asked, self.pipe
        for part in ("vae", "unet", "scheduler"):
            if getattr(pipe, part) is None:
                raise ValueError(f"{part} is None; without it only encode_prompt works, load the pipeline with it")
        if asked.num_inference_steps is None:
            asked.num_inference_steps = pipe.config.default_num_inference_steps
        if asked.guidance_scale is None:
            asked.guidance_scale = pipe.config.default_guidance_scale
        if asked.guidance_interval is None:
            asked.guidance_interval = (pipe.config.default_guidance_low, pipe.config.default_guidance_high)
        if isinstance(asked.callback_on_step_end, (PipelineCallback, MultiPipelineCallbacks)):
            asked.callback_on_step_end_tensor_inputs = asked.callback_on_step_end.tensor_inputs
        if asked.negative_guidance_scale is None:
            asked.negative_guidance_scale = pipe.config.default_negative_guidance_scale
        check_settings(pipe, asked)
        self.scheduler = copy.deepcopy(vars(pipe)["scheduler"])  # in a callback `pipe.scheduler` is that of its call
        check_process(self.scheduler, pipe.trained_with)
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
        self.shape, self.device = shape, execution_device(pipe)
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
                sound, rate, recipe = open_source(source, asked.sampling_rate)
                done[place] = make_edit(sound, rate, strength, mask, asked.extend_s, limit, recipe)
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
        self.guidance = self._guidance(self.requests)
        noise, self.generators = torch.zeros(self.shape, dtype=torch.float32), []
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
                hop, margin = pipe.vae.hop_length, CIRCLE_MARGIN if item.loop else 0
                heard = network_input(item.edit, rate, channels, item.frames * hop, margin * hop)
                clean = pipe.encode_audio(heard.to(self.device))[0]
                self.clean[row, :, : item.frames] = clean[:, margin : margin + item.frames]
                self.keep[row, : item.frames] = kept_frames(item.edit, item.frames, pipe.frame_rate)
                self.keep[row] |= item.strength == 0.0
        self.windows = [
            [(0, item.frames, 0, item.frames)] if item.loop else list(windows(item.frames)) for item in self.requests
        ]
        self.state.num_timesteps = self._count_steps()

    def _guidance(self, requests: list) -> Guidance:
        asked = self.asked
        projection = (asked.apg_eta, asked.apg_norm_threshold, asked.apg_momentum)
        return make_guidance(requests, *projection, self.pipe.config, self.device)

    def _count_steps(self) -> int:
        """Steps of all batches and windows; those in which everything is kept take none."""
        runs = [(rows[0], self.keep[rows, : self._longest(rows)].all()) for rows in self.batches()]
        for row, spans in enumerate(self.windows):
            if len(spans) > 1:
                runs += [(row, self.keep[row, given:last].all()) for _, last, given, _ in spans]
        strengths = [self.requests[row].strength for row, kept in runs if not kept]
        steps = self.asked.num_inference_steps
        counts = {one: len(set_timesteps(self.scheduler, steps, one, self.device)) for one in set(strengths)}
        return sum(counts[one] for one in strengths)

    def _longest(self, rows: list[int]) -> int:
        return max(self.requests[row].frames for row in rows)

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
        self.state.guidance_scale = max(item.strengths["guidance_scale"] for item in self.requests)

        def on_step(step: int, timestep: torch.Tensor, latents: torch.Tensor, seen: Conditions) -> torch.Tensor:
            progress.update()
            if asked.callback_on_step_end is None:
                return latents
            return self._call_back(rows, batch, step, timestep, latents, seen)

        latents = denoise(pipe, self.scheduler, batch, asked.num_inference_steps, on_step, self.state)
        if not torch.isfinite(latents).all():
            raise ValueError(
                f"the network gave values that are not finite (guidance_scale {asked.guidance_scale}, "
                f"{pipe.unet.dtype}); lower guidance_scale or load with dtype=torch.float32"
            )
        return latents

    def _call_back(self, rows: list[int], batch: Batch, step: int, timestep, latents, seen: Conditions) -> torch.Tensor:
        """Run the user's callback after a step and take over what it changes: the latents, which are returned, the text
        states in `seen`, and the guidance of `batch`.

        As in diffusers the text states are given as (negative texts, texts), and the texts alone may be returned.

        Raises:
            ValueError: tensors of another shape.
        """
        asked, texts, scale = self.asked, len(seen.owner), self.state.guidance_scale
        known = {"latents": latents}
        if "prompt_embeds" in asked.callback_on_step_end_tensor_inputs:
            known["prompt_embeds"] = torch.cat([seen.states[texts:], seen.states[:texts]])
        tensors = {name: known[name] for name in asked.callback_on_step_end_tensor_inputs}
        token = CALLS.set((*CALLS.get(), self))
        try:
            changed = asked.callback_on_step_end(self.pipe, step, timestep, tensors) or {}
        finally:
            CALLS.reset(token)
        embeds, allowed = changed.get("prompt_embeds", known.get("prompt_embeds")), [tuple(seen.states.shape)]
        allowed.append((texts, *allowed[0][1:]))
        new_latents = changed.get("latents", latents)
        for name, value, shapes in (
            ("latents", new_latents, [tuple(latents.shape)]), ("prompt_embeds", embeds, allowed),
        ):  # fmt: skip
            if value is not None and (not isinstance(value, torch.Tensor) or tuple(value.shape) not in shapes):
                told = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                raise ValueError(f"callback_on_step_end returned {name} of {told}; allowed: shape {shapes[0]}")
        if embeds is not None and embeds is not known.get("prompt_embeds"):
            negative = embeds[:-texts] if len(embeds) > texts else seen.states[texts:]
            seen.states = torch.cat([embeds[-texts:].to(seen.states), negative.to(seen.states)])
        if self.state.guidance_scale != scale:
            check_number("guidance_scale", self.state.guidance_scale, 0, 100)
            own = [self.requests[row] for row in rows]
            own = [replace(one, strengths=one.strengths | {"guidance_scale": self.state.guidance_scale}) for one in own]
            batch.guidance = replace(self._guidance(own), average=batch.guidance.average)
        return new_latents

    def _chunks(self, row: int, progress) -> Iterator[torch.Tensor]:
        """Latents of one piece (1, latent_channels, n), window after window."""
        for first, last, given, done in self.windows[row]:
            self.keep[row, first:given] = True
            latents = self._denoise([row], first, last, progress)
            self.clean[row, :, given:done] = latents[0, :, given - first : done - first]
            yield latents[:, :, given - first : done - first]
            if self.state.interrupt:
                return

    def latents(self) -> list[Iterable[torch.Tensor]]:
        """For each piece its latents (1, latent_channels, n) in chunks: short pieces are made here, in batches, long
        ones as their chunks are asked for."""
        progress = self.pipe.progress_bar(total=self.state.num_timesteps)
        made = {}
        for rows in self.batches():
            for row, latents in zip(rows, self._denoise(rows, 0, self._longest(rows), progress), strict=True):
                made[row] = [latents[None, :, : self.requests[row].frames]]
        return [made.get(row, self._chunks(row, progress)) for row in range(len(self.requests))]

    def audio(self, row: int, latents: Iterable[torch.Tensor], whole: bool = True) -> Iterator[torch.Tensor]:
        """One piece (channels, n) fp32, in chunks that together have its length.

        The gain is that of the `whole` piece, all of which is then made first; in a stream its first chunk decides.
        """
        pipe, item = self.pipe, self.requests[row]
        tone = item.tone
        if item.edit is not None:
            if item.strength == 0.0:
                yield item.edit.audio
                return
            decoded = pipe.decode_latents(latents, item.loop, item.samples)
            made = torch.cat(list(cut(decoded, item.samples)), dim=1)
            ceiling = tone["true_peak_dbtp"] if tone["normalize"] else None
            yield splice(item.edit, made, pipe.vae.config.sampling_rate, ceiling)
            return
        leveller = Leveller(
            pipe.vae.config.sampling_rate, item.samples, tone["loudness_lufs"] if tone["normalize"] else None,
            tone["true_peak_dbtp"], tone["tilt_db"], tone["fade_in_s"], tone["fade_out_s"], item.loop,
        )  # fmt: skip
        decoded = cut(pipe.decode_latents(latents, item.loop, item.samples), item.samples)
        if whole:
            decoded = list(decoded)
            leveller.measure(decoded)
        yield from leveller.run(decoded)


def cut(chunks: Iterable[torch.Tensor], samples: int) -> Iterator[torch.Tensor]:
    """Chunks (channels, n) up to that many samples in all."""
    for chunk in chunks:
        yield chunk[:, :samples]
        samples -= chunk.shape[1]
        if samples <= 0:
            return
