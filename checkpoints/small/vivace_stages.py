"""What the pipeline can do beside its call: its stages, the state of a running call, scores without audio, jams."""

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import SchedulerMixin

from .vivace_audio import FADE_S, LOUDNESS_LUFS, Leveller, fit_circle, loudness, splice
from .vivace_compose import BarWriter, MusicPlan, compose_scores, fill_cast, key_of, mix
from .vivace_music import Lengths, is_timeline, read_prompts, spread
from .vivace_notes import read_score, read_sketches
from .vivace_request import PER_ITEM, Request, choose_seeds, make_requests, prompt_for_score
from .vivace_sampling import CIRCLE_MARGIN, CallState, Sampler, frame_noise, kept_frames, network_input
from .vivace_score import Score, quarters_per_bar, quarters_per_beat, read_parts, slice_chords
from .vivace_theory import check_number, parse_time_signature, read_progression
from .vivace_tokens import decode_tokens, steps_per_bar


def cut(chunks: Iterable[torch.Tensor], samples: int) -> Iterator[torch.Tensor]:
    """Chunks (channels, n) up to that many samples in all."""
    for chunk in chunks:
        yield chunk[:, :samples]
        samples -= chunk.shape[1]
        if samples <= 0:
            return


class StagesMixin:
    """Methods of the pipeline that its stages call, and that encode and decode audio."""

    vae: Any  # these are the pipeline's
    composer: Any
    components: dict[str, Any]
    encode_prompt: Callable
    _execution_device: torch.device
    _running: Callable

    @property
    def frame_rate(self) -> float:
        """Latent frames a second."""
        return self.vae.config.sampling_rate / self.vae.hop_length

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
            options: dict[str, Any] = {"loop": True} if loop else {}
            if loop and samples is not None and "samples" in inspect.signature(self.vae.decode).parameters:
                options["samples"] = samples
            audio = self.vae.decode(raw(latents), **options).sample[0].float()
            yield fit_circle(audio, samples) if loop and samples is not None else audio
        else:
            for audio in self.vae.stream_decode(raw(latents) for latents in chunks):
                yield audio[0].float()

    @property
    def _device(self) -> torch.device:
        """Where the parts compute: also where one is offloaded and its weights are nowhere between its runs."""
        if self._execution_device.type != "meta":
            return self._execution_device
        models = [part for part in self.components.values() if isinstance(part, torch.nn.Module)]
        hooks = [getattr(module, "_hf_hook", None) for part in models for module in part.modules()]
        devices = [one for one in (getattr(hook, "execution_device", None) for hook in hooks) if one is not None]
        weights = [one.device for part in models for one in part.parameters() if one.device.type != "meta"]
        return torch.device([*devices, *weights][0])

    def _compose(self, requests: list[Request], embeds: torch.Tensor | None, embeds_mask: torch.Tensor | None) -> None:
        """Write the notes of requests with a plan, in place. The mean of its text states is a condition of a piece."""
        if not requests:
            return
        text = self._caption_states(requests, embeds, embeds_mask)
        plans = [item.plan for item in requests if item.plan is not None]
        seeds = [item.seed for item in requests]
        for item, score in zip(requests, compose_scores(self.composer, plans, seeds, text), strict=True):
            item.play(score)

    def _caption_states(
        self, requests: list[Request], embeds: torch.Tensor | None, embeds_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(pieces, dim), the mean of each piece's text states over tokens and, by their weights, over its texts."""
        text = []
        for item in requests:
            if embeds is not None:
                states, mask = embeds[item.place][None], None if embeds_mask is None else embeds_mask[item.place][None]
            else:
                states, mask = self.encode_prompt([one for one in item.texts if one is not None], self._device)
            mask = torch.ones(states.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
            mean = (states * mask.to(states)[..., None]).sum(1) / mask.sum(1).clamp_min(1).to(states)[:, None]
            share = item.weights.sum(1) / item.weights.sum()
            text.append((mean.float().cpu() * share[:, None]).sum(0))
        return torch.stack(text)

    def _draw_noise(self, requests: list[Request], shape: tuple) -> tuple[torch.Tensor, list[torch.Generator]]:
        """Noise (pieces, latent_channels, frames) of the requests' seeds, and the generators after it."""
        noise, generators = torch.zeros(shape, dtype=torch.float32), []
        for row, item in enumerate(requests):
            noise[row, :, : item.frames], source = frame_noise(item.seed, item.frames, shape[1])
            generators.append(source)
        return noise, generators

    def _encode_edits(self, requests: list[Request], noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of given audio, zero where there is none, and which frames are kept, (pieces, frames) bool."""
        clean, keep = torch.zeros_like(noise), torch.zeros_like(noise[:, 0], dtype=torch.bool)
        rate, channels, hop = self.vae.config.sampling_rate, self.vae.config.audio_channels, self.vae.hop_length
        for row, item in enumerate(requests):
            if item.edit is None:
                continue
            margin = CIRCLE_MARGIN if item.loop else 0
            audio = network_input(item.edit, rate, channels, item.frames * hop, margin * hop)
            encoded = self.encode_audio(audio.to(noise.device))[0]
            clean[row, :, : item.frames] = encoded[:, margin : margin + item.frames]
            keep[row, : item.frames] = kept_frames(item.edit, item.frames, self.frame_rate)
            keep[row] |= item.strength == 0.0
        return clean, keep

    def _decode(self, item: Request, latents: Iterable[torch.Tensor]) -> torch.Tensor:
        """Latents of one piece in chunks -> its audio (channels, samples) fp32 as decoded."""
        return torch.cat(list(cut(self.decode_latents(latents, item.loop, item.samples), item.samples)), dim=1)

    def _leveller(self, item: Request) -> Leveller:
        """What brings a piece to its level and tone."""
        tone, rate = item.tone, self.vae.config.sampling_rate
        return Leveller(
            rate, item.samples, tone.loudness_lufs if tone.normalize else None, tone.true_peak_dbtp, tone.tilt_db,
            tone.fade_in_s, tone.fade_out_s, item.loop, tone.compression_ratio,
        )  # fmt: skip

    def _finish(
        self, item: Request, latents: Iterable[torch.Tensor], whole: bool = True, on_audio: Callable | None = None
    ) -> Iterator[torch.Tensor]:
        """Latents of one piece in chunks -> its audio (channels, n) fp32, in chunks that together have its length.

        The gain is that of the `whole` piece, all of which is then made first, and `on_audio` called meanwhile with
        each chunk as a stream has it; in a stream the first chunk decides on the gain.
        """
        if item.edit is not None and item.strength == 0.0:
            yield item.edit.audio
            return
        if item.edit is not None:
            ceiling = item.tone.true_peak_dbtp if item.tone.normalize else None
            ratio, rate = item.tone.compression_ratio, self.vae.config.sampling_rate
            yield splice(item.edit, self._decode(item, latents), rate, ceiling, ratio)
            return
        leveller = self._leveller(item)
        decoded: Iterable[torch.Tensor] = cut(self.decode_latents(latents, item.loop, item.samples), item.samples)
        if whole and on_audio is not None and not isinstance(latents, list):  # it comes in several chunks
            now, decoded = itertools.tee(decoded)
            for chunk in self._leveller(item).run(now):
                on_audio(chunk.cpu().numpy())
        if whole:
            decoded = list(decoded)
            leveller.measure(decoded)
        yield from leveller.run(decoded)

    @torch.no_grad()
    def _stream(self, item: Request, sampler: Sampler, on_step: Callable, state: CallState) -> Iterator[np.ndarray]:
        """The chunks of one piece, each made when it is taken."""
        with self._running(state):
            with on_cpu():
                chunks = self._finish(item, sampler.latents(on_step)[0], whole=False)
            while True:
                with on_cpu():
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                yield chunk.cpu().numpy()


# The state of a running call, and how callbacks and other threads reach it through the pipeline.


# (pipeline, state) of each call in whose callback the running code is.
CALLBACKS: ContextVar[tuple[tuple[object, CallState], ...]] = ContextVar("vivace_callbacks", default=())


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


class CallStateMixin:
    """Properties of a pipeline that read and change the call in whose callback the running code is.

    A pipeline may be called in several threads or tasks at once, and within a callback: what a call changes is its own.
    """

    maybe_free_model_hooks: Callable  # of DiffusionPipeline

    def _begin_without_calls(self, guidance_scale: float) -> None:
        """Set up a new pipeline, which no call has used."""
        self.latest_state = CallState(guidance_scale)  # of the call that began last
        self.running_states: set[CallState] = set()

    @property
    def scheduler(self) -> SchedulerMixin:
        """The pipeline's scheduler; in a callback the copy that its call steps with."""
        state = self._state_in_callback
        return vars(self)["scheduler"] if state is None else state.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: SchedulerMixin) -> None:
        vars(self)["scheduler"] = scheduler

    @property
    def _state_in_callback(self) -> CallState | None:
        """Of the call in whose callback the running code is; None outside of callbacks."""
        return next((state for pipe, state in reversed(CALLBACKS.get()) if pipe is self), None)

    @property
    def _state(self) -> CallState:
        """In a callback that of its call, else that of the call that began last."""
        return self._state_in_callback or self.latest_state

    @property
    def guidance_scale(self) -> float:
        return self._state.guidance_scale

    @property
    def _guidance_scale(self) -> float:
        """What diffusers' callbacks set: the guidance of all pieces of the batch, from the next step on."""
        return self._state.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, scale: float) -> None:
        self._state.guidance_scale = scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return max(self._state.guidance_scale, self._state.grid_guidance_scale) > 1.0

    @property
    def num_timesteps(self) -> int:
        return self._state.num_timesteps

    @property
    def interrupt(self) -> bool:
        return self._state.interrupt

    @property
    def _interrupt(self) -> bool:
        """What diffusers' callbacks set to end their call; set elsewhere it ends all calls that are running."""
        return self._state.interrupt

    @_interrupt.setter
    def _interrupt(self, interrupt: bool) -> None:
        inside = self._state_in_callback
        for state in [self.latest_state, *self.running_states] if inside is None else [inside]:
            state.interrupt = bool(interrupt)

    @contextmanager
    def _running(self, state: CallState) -> Iterator[None]:
        """While a call runs, `_interrupt` set from outside of its callbacks reaches it as well."""
        self.latest_state = state
        self.running_states.add(state)
        try:
            yield
        finally:
            self.running_states.discard(state)
            self.maybe_free_model_hooks()

    def _bind_callback(self, function: Callable, state: CallState) -> Callable:
        """A user's callback as f(step, timestep, tensors), in which the pipeline's properties are those of its call."""

        def run(step: int, timestep: torch.Tensor, tensors: dict) -> dict | None:
            token = CALLBACKS.set((*CALLBACKS.get(), (self, state)))
            try:
                return function(self, step, timestep, tensors)
            finally:
                CALLBACKS.reset(token)

        return run


# What a pipeline does with its composer: scores without audio, and music without end, bar by bar.


MUSIC = (
    "duration_s", "bars", "bpm", "beat_unit", "time_signature", "key", "chords", "downbeat_s", "loop", "parts",
    "melody", "rhythm", "sketch_timing", "form",
)  # fmt: skip
LOUDER_LU = 1.0  # than the first bar of a jam no bar is by more
TAIL_S = 0.06  # made after each bar, to be faded into the next one


@dataclass
class Bar:
    """A bar of a jam.

    Attributes:
        number: counted from 0.
        score: its notes; what rings on ends at its end.
        audio: (channels, samples), None where the network plays no notes. Bars follow each other without a seam.
        sampling_rate: of the audio.
        prompt: the words that it was made with.
    """

    number: int
    score: Score
    audio: np.ndarray | None
    sampling_rate: int
    prompt: str


class ComposingMixin(StagesMixin):
    """Methods of the pipeline that need a composer."""

    unet: Any  # these are the pipeline's
    config: Any
    __call__: Callable

    def _check_composer(self, name: str) -> None:
        for part in ("composer", "vae"):
            if getattr(self, part) is None:
                raise ValueError(f"{name} needs a {part}; this pipeline has none")

    def _requests_to_compose(self, prompt, seeds: int | list[int] | None, count: int, music: dict) -> list[Request]:
        """Requests whose plans are to be composed, one for each piece."""
        unknown = sorted(set(music) - {*MUSIC, "score"})
        if unknown:
            raise ValueError(f"compose has no argument {unknown[0]!r}; allowed: {', '.join(sorted((*MUSIC, 'score')))}")
        config, given = self.config, music.get("score")
        scores = [read_score(one) for one in (given if isinstance(given, (list, tuple)) else [given])]
        if prompt is None and given is not None:
            prompt = prompt_for_score(scores, [None] * len(scores))
        prompts = read_prompts(prompt, None, None)
        per_item = dict.fromkeys(PER_ITEM) | {name: music[name] for name in MUSIC if name in music}
        per_item |= {
            "score": spread("score", scores if isinstance(given, (list, tuple)) else scores[0], len(prompts), False),
            "compose": True, **{name: read_sketches(music.get(name), name) for name in ("melody", "rhythm")},
            "guidance_scale": 1.0,
            "negative_guidance_scale": 0.0, "guidance_rescale": 0.0, "guidance_interval": (0.0, 1.0),
            "sounds_like_strength": 0.7,
            "normalize": True, "loudness_lufs": LOUDNESS_LUFS, "true_peak_dbtp": -1.0, "tilt_db": 0.0,
            "fade_in_s": 0.0, "fade_out_s": 0.0, "compression_ratio": 1.0,
        }  # fmt: skip
        return make_requests(
            prompts,
            per_item,
            choose_seeds(seeds, None, len(prompts), count),
            [None] * len(prompts),
            Lengths(config.default_duration_s, config.max_duration_s),
            self.vae.config.sampling_rate,
            self.vae.hop_length,
            one_prompt=prompt is None or isinstance(prompt, str) or is_timeline(prompt),
            plays_notes=True,
            composes=True,
        )

    @made_on_cpu
    @torch.no_grad()
    def compose(
        self,
        prompt: str | list[str] | None = None,
        num_waveforms_per_prompt: int = 1,
        seed: int | list[int] | None = None,
        **music,
    ) -> list[Score]:
        """The scores that a call with the same arguments composes and plays, without audio; the network that plays them
        is not needed.

        Args:
            prompt: as of a call.
            num_waveforms_per_prompt: scores for each prompt.
            seed: as of a call.
            music: `duration_s`, `bars`, `bpm`, `beat_unit`, `time_signature`, `key`, `chords`, `downbeat_s`, `loop`,
                `parts`, `melody`, `rhythm`, `sketch_timing`, `form` and `score` as of a call.

        Returns:
            A score for each piece; its `remarks` say what of the request is not used as it stands.

        Raises:
            ValueError: one line that names the argument, its value and what is allowed; no composer.
        """
        self._check_composer("compose")
        check_number("num_waveforms_per_prompt", num_waveforms_per_prompt, 1, 1000, whole=True)
        requests = self._requests_to_compose(prompt, seed, num_waveforms_per_prompt, music)
        self._compose(requests, None, None)
        return [replace(item.score, remarks=tuple(item.music.notes)) for item in requests if item.score is not None]

    @made_on_cpu
    @torch.no_grad()
    def rewrite(
        self,
        score: Score | str | Path,
        bars: tuple[int, int] | list[tuple[int, int]],
        prompt: str | None = None,
        seed: int | None = None,
        loop: bool = False,
        parts: list[str] | None = None,
        chords: str | None = None,
    ) -> Score:
        """A score with new notes in some of its bars, written to what stands around them, in its key and chords.

        Args:
            score: a `Score`, or the name of a MIDI file.
            bars: (first, last), counted from 0, the last one not included; or a list of such pairs.
            prompt: words that the composer follows; None = the instruments of the score.
            seed: of the notes; None = at random.
            loop: whether the end of the score leads to its beginning.
            parts: the roles that get new notes, of those that the score has; None = all. The others stay.
            chords: a progression from the first bar on, in place of that of the score; None = that of the score.

        Returns:
            The score in the same tempo, meter, length and instruments. A note from before that rings into these bars
            stays.

        Raises:
            ValueError: one line that names the argument, its value and what is allowed; no composer.
        """
        self._check_composer("rewrite")
        given = read_score(score)
        if given is None:
            raise ValueError("score is None; allowed: a Score, or the name of a MIDI file")
        music = {name: getattr(given, name) for name in ("bars", "bpm", "time_signature", "key", "chords")}
        music |= {"score": given, "parts": list(given.roles), "loop": loop}
        music["chords"] = given.chords if chords is None else chords
        opened = read_parts(parts, given)
        (request,) = self._requests_to_compose(prompt, seed, 1, music)
        assert request.plan is not None
        spans: Any = (bars,) if isinstance(bars, tuple) else tuple(tuple(span) for span in bars)
        request.plan = replace(request.plan, given=given, open_bars=spans, open_parts=opened, instruments={})
        self._compose([request], None, None)
        assert request.score is not None
        return replace(given, tracks=request.score.tracks, chords=music["chords"])

    def jam(
        self,
        prompt: str,
        bpm: float | None = None,
        key: str | None = None,
        time_signature: str | None = None,
        chords: str | None = None,
        parts: list[str] | None = None,
        seed: int = 0,
        context_bars: int = 2,
        ahead: bool = True,
        **options,
    ) -> "Jam":
        """Music without end, a bar at a time, in one tempo and key. Memory does not grow.

            jam = pipe.jam("mellow jazz trio", bpm=96, key="A minor", seed=7)
            for bar in jam:
                play(bar.audio, bar.sampling_rate)
                if bar.number == 7:
                    jam.prompt, jam.chords = "funk, slap bass", "Am7 D7"

        `prompt`, `chords` and `parts` of the jam may be changed at any time. The next bar is made in a thread while the
        last one plays, so a change is heard in the bar after it; with `ahead=False` in the next one. Same arguments and
        changes at the same bars give the same bars.

        Args:
            prompt: what it should sound like.
            bpm, key, time_signature: of all bars; None = as the first words say, or as in a call, and the key that of
                the chords, else the seed's choice.
            chords: a progression, repeated from the bar on in which it was set; None = the composer writes them.
            parts: the roles that play; None = those of the words.
            seed: of notes and sound.
            context_bars: bars before the next one that the network hears; more joins better and takes longer.
            ahead: whether the next bar is made while the last one plays.
            options: of a call, such as `num_inference_steps` or `guidance_scale`.

        Returns:
            An iterator of `Bar`. Where the network plays no notes, its bars have scores alone.

        Raises:
            ValueError: one line that names the argument; no composer.
        """
        self._check_composer("jam")
        check_number("context_bars", context_bars, 1, 16, whole=True)
        check_number("seed", seed, 0, 2**62, whole=True)
        return Jam(self, prompt, bpm, key, time_signature, chords, parts, seed, context_bars, ahead, options)


class Jam(Iterator[Bar]):
    """Bars without end; see `ComposingMixin.jam`."""

    def __init__(self, pipe, prompt, bpm, key, time_signature, chords, parts, seed, context_bars, ahead, options):
        self.pipe, self.prompt, self.parts, self.options = pipe, prompt, parts, options
        self.bpm, self.key, self.time_signature = bpm, key, time_signature
        self.seed, self.context_bars = seed, context_bars
        self.writer = BarWriter(pipe.composer, seed)
        self.rate = pipe.vae.config.sampling_rate
        self.plays = bool(pipe.unet is not None and pipe.unet.config.get("note_channels"))
        self.audio: np.ndarray | None = None  # of the bars that the network hears
        self.heard: list[int] = []  # their lengths, samples
        self.tail: np.ndarray | None = None  # what follows them
        self.level: float | None = None  # LUFS, of the first bar
        self.chords_since: tuple[str | None, int] = (None, 0)
        self.chords = chords
        music = self._request(0, None).music
        self.bpm, self.time_signature = music.bpm, music.time_signature
        plan = MusicPlan(1, time_signature=self.time_signature, key=music.key, chords=chords)
        self.key = key_of(plan, seed)
        self.beats = parse_time_signature(self.time_signature)
        if chords is not None:
            read_progression(chords, self.beats)
        self.worker = ThreadPoolExecutor(1) if ahead else None
        self.pending: Future | None = None

    def _request(self, number: int, chords: str | None) -> Request:
        if not isinstance(self.prompt, str):
            raise ValueError(f"prompt is {self.prompt!r}; allowed: text")
        music = {"bpm": self.bpm, "key": self.key, "time_signature": self.time_signature, "chords": chords}
        return self.pipe._requests_to_compose(
            self.prompt, mix(self.seed, number, 3) >> 2, 1, music | {"bars": 1, "parts": self.parts, "loop": False}
        )[0]

    def __next__(self) -> Bar:
        if self.worker is None:
            return self._make(*self._said())
        if self.pending is None:
            self.pending = self.worker.submit(self._make, *self._said())
        made = self.pending.result()
        self.pending = self.worker.submit(self._make, *self._said())
        return made

    def close(self) -> None:
        """End the thread; the bar that it makes is dropped."""
        if self.worker is not None:
            self.worker.shutdown(wait=True, cancel_futures=True)
            self.worker = self.pending = None

    def _said(self) -> tuple[int, str, Request]:
        """Number, words and request of the next bar, as they are now."""
        number = self.writer.number
        if self.chords != self.chords_since[0]:
            self.chords_since = (self.chords, number)
        first = (number - self.chords_since[1]) * self.beats
        chords = self.chords and slice_chords(self.chords, self.beats, first, first + self.beats, counted=True)
        return number, self.prompt, self._request(number, chords)

    @made_on_cpu
    @torch.no_grad()
    def _make(self, number: int, prompt: str, request: Request) -> Bar:
        assert request.plan is not None
        text = self.pipe._caption_states([request], None, None)[0]
        plan = fill_cast(self.pipe.composer, request.plan, text, self.writer.seed)
        bar = steps_per_bar(self.time_signature)
        tokens = self.writer.next_bar(plan, text)

        def score(bars: int) -> Score:
            last = tokens[-bars * bar :]
            return decode_tokens(last, plan.time_signature, plan.key, plan.bpm, {**plan.instruments})

        audio = self._play(number, prompt, score) if self.plays else None
        return Bar(number, score(1), audio, self.rate, prompt)

    def _play(self, number: int, prompt: str, score: Callable[[int], Score]) -> np.ndarray:
        """The audio of the next bar, which goes on from that of those before."""
        beats = quarters_per_bar(self.time_signature) / quarters_per_beat(self.time_signature)
        bar_s = 60 * beats / Fraction(self.bpm)
        begin, end = (round(bar_s * k * self.rate) for k in (number, number + 1))
        notes = replace(score(len(self.heard) + 1), chords=None)
        shared = {"bpm": self.bpm, "key": self.key, "time_signature": self.time_signature, "score": notes}
        shared |= {"seed": mix(self.seed, number, 4) >> 2, "parts": None} | self.options
        seconds = (end - begin) / self.rate + TAIL_S
        if self.audio is None or self.tail is None:
            made = self.pipe(prompt, duration_s=seconds, **shared).audios[0]
        else:
            options = {"audio": self.audio, "sampling_rate": self.rate, "extend_s": (0.0, seconds), "downbeat_s": 0.0}
            made = self._held(self.pipe(prompt, **options, **shared).audios[0][:, self.audio.shape[1] :])
            fade = round(FADE_S * self.rate)  # in which an edit fades in what it makes
            ramp = (np.arange(fade, dtype=np.float32) + 1.0) / (fade + 1.0)
            made[:, :fade] += self.tail[:, :fade] * (1.0 - ramp)
        if self.level is None and self.options.get("normalize", True) and made.any():
            self.level = loudness(torch.from_numpy(made), self.rate)
        made, self.tail = made[:, : end - begin], made[:, end - begin :]
        self.heard.append(made.shape[1])
        whole = made if self.audio is None else np.concatenate([self.audio, made], axis=1)
        self.heard = self.heard[-self.context_bars :]
        self.audio = whole[:, -sum(self.heard) :]
        return made

    def _held(self, made: np.ndarray) -> np.ndarray:
        """A bar at the jam's level: what goes on from loud music tends to be louder, and the next bar more so."""
        if self.level is None:
            return made
        excess_db = loudness(torch.from_numpy(made), self.rate) - self.level - LOUDER_LU
        return made * np.float32(10.0 ** (-max(excess_db, 0.0) / 20.0))
