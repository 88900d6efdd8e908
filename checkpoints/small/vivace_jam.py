"""What a pipeline does with its composer beside a call: scores without audio, and music without end, bar by bar.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .composer_vivace import ComposerVivace
from .vivace_callbacks import made_on_cpu
from .vivace_compose import (
    RETURN_BARS,
    MusicPlan,
    choose_distance,
    fill_cast,
    key_of,
    make_draft,
    mix,
    one_thread,
    write,
)
from .vivace_edit import FADE_S, Lengths, prompt_for_score
from .vivace_level import LOUDNESS_LUFS
from .vivace_notes import read_parts, read_score
from .vivace_prompt import is_timeline, read_prompts, spread
from .vivace_request import PER_ITEM, Request, choose_seeds, make_requests
from .vivace_score import Score, quarters_per_bar, quarters_per_beat
from .vivace_sketch import read_sketches
from .vivace_theory import SEPARATORS, check_number, is_harte, parse_time_signature, read_progression
from .vivace_tokens import decode_tokens, steps_per_bar

MUSIC = (
    "duration_s", "bars", "bpm", "beat_unit", "time_signature", "key", "chords", "downbeat_s", "loop", "parts",
    "melody", "rhythm", "sketch_timing", "form",
)  # fmt: skip
TAIL_S = 0.06  # made after each bar, to be faded into the next one
KEPT_BARS = 16  # of which a jam drops the older ones when it has twice as many: phrases are of 16 bars at most


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


class ComposingMixin:
    """Methods of the pipeline that need a composer."""

    vae: Any  # these are the pipeline's
    unet: Any
    composer: Any
    config: Any
    _caption_states: Callable
    _compose: Callable
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
            "normalize": True, "loudness_lufs": LOUDNESS_LUFS, "true_peak_dbtp": -1.0, "tilt_db": 0.0,
            "fade_in_s": 0.0, "fade_out_s": 0.0,
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


def bar_chords(chords: str, beats: int, number: int) -> str:
    """What of a progression sounds in a bar, counted from its first: "Am:2 F:2"."""
    symbols = [one for one in re.split(SEPARATORS, re.sub("[\u2013\u2014]", "-", chords)) if one]
    lengths = [count for _, count in read_progression(chords, beats)]
    line = [k for k, length in enumerate(lengths) for _ in range(length)]
    here = [line[(number * beats + beat) % len(line)] for beat in range(beats)]
    runs: list[list[int]] = []
    for k in here:
        if runs and runs[-1][0] == k and len(symbols) > 1:
            runs[-1][1] += 1
        else:
            runs.append([k, 1])
    parts = 2 if is_harte(symbols, beats) else 1  # "C:min7" may have beats behind it, too
    return " ".join(f"{':'.join(symbols[k].split(':')[:parts])}:{count}" for k, count in runs)


class BarWriter:
    """Writes a piece bar by bar with a composer, each bar with what precedes it in view; its memory does not grow.

    Args:
        composer: the network.
        seed: of the draws.
    """

    def __init__(self, composer: ComposerVivace, seed: int):
        self.composer, self.seed = composer, seed
        self.first = self.number = 0  # of the first bar that is kept, and of the next one
        self.tokens: torch.Tensor | None = None  # (steps, columns) of the bars that are kept
        self.distance: int | None = None  # how far back these `RETURN_BARS` find what they are made like

    @torch.no_grad()
    @one_thread()
    def next_bar(self, plan: MusicPlan, text: torch.Tensor | None) -> torch.Tensor:
        """Write a bar by a plan of one bar with its key, in the meter of those before; tokens (steps, columns) of the
        bars that are kept, the new one last."""
        bar = steps_per_bar(plan.time_signature)
        draft = make_draft(self.composer, plan, text)
        before = 0
        if self.tokens is not None:
            if len(self.tokens) == 2 * KEPT_BARS * bar:
                self.tokens, self.first = self.tokens[KEPT_BARS * bar :], self.first + KEPT_BARS
            before = len(self.tokens)
            draft.tokens = torch.cat([self.tokens, draft.tokens])
            draft.classes = np.concatenate([np.ones((before, 12), dtype=bool), draft.classes])
            draft.bass = np.concatenate([np.full(before, -1), draft.bass])
            draft.changes = np.concatenate([np.zeros(before, dtype=bool), draft.changes])
            draft.sources = np.full(before // bar + 1, -1)
        place = before // bar
        if self.number % RETURN_BARS == 0:
            draws = np.random.default_rng(mix(self.seed, self.number, 1)).random(2)
            self.distance = choose_distance(draft, 0, place, place + 1, draws)
        if self.distance is not None:
            draft.sources[place] = place - self.distance
        write(self.composer, draft, before, before + bar, mix(self.seed, self.first, 2))
        self.tokens, self.number = draft.tokens, self.number + 1
        return self.tokens


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
        chords = self.chords and bar_chords(self.chords, self.beats, number - self.chords_since[1])
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
            made = self.pipe(prompt, **options, **shared).audios[0][:, self.audio.shape[1] :]
            fade = round(FADE_S * self.rate)  # in which an edit fades in what it makes
            ramp = (np.arange(fade, dtype=np.float32) + 1.0) / (fade + 1.0)
            made[:, :fade] += self.tail[:, :fade] * (1.0 - ramp)
        made, self.tail = made[:, : end - begin], made[:, end - begin :]
        self.heard.append(made.shape[1])
        whole = made if self.audio is None else np.concatenate([self.audio, made], axis=1)
        self.heard = self.heard[-self.context_bars :]
        self.audio = whole[:, -sum(self.heard) :]
        return made
