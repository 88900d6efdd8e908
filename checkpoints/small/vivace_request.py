"""From the arguments of a call to one request for each piece: prompts and timelines, seeds, and checks of every value.

What holds for all pieces is spread over them; audio that is edited brings the grid of its recipe, or its beats are
found.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .vivace_audio import LOUDNESS_LUFS, Edit, find_beats, make_edit, working_gain
from .vivace_compose import MusicPlan, read_form
from .vivace_files import read_audio, read_recipe
from .vivace_music import (
    MIN_DURATION_S,
    Lengths,
    Music,
    MusicArguments,
    Prompt,
    arguments_of_score,
    check_flag,
    check_text,
    describe,
    is_list_of_pairs,
    keep_out,
    meter_of,
    read_prompts,
    settle,
    share_of,
    spread,
    stated_tempo,
)
from .vivace_notes import cast, changed_regions, drums_of, fit_score, joined, repeated, settle_sketches
from .vivace_reading import LONGEST, MusicWords, read_exclusion, things_in
from .vivace_score import ROLES, Score, quarters_per_bar, read_parts
from .vivace_theory import PROGRAMS, check_number, parse_time_signature


@dataclass
class Strengths:
    """How strictly one piece follows its conditions; `VivacePipeline` says what each does."""

    guidance_scale: float
    grid_guidance_scale: float | None
    negative_guidance_scale: float
    guidance_rescale: float
    guidance_interval: tuple[float, float]
    sounds_like_strength: float

    def check(self) -> None:
        """Raise a ValueError for a value out of range."""
        check_number("guidance_scale", self.guidance_scale, 0, 100)
        if self.grid_guidance_scale is not None:
            check_number("grid_guidance_scale", self.grid_guidance_scale, 0, 100)
        check_number("negative_guidance_scale", self.negative_guidance_scale, 0, 100)
        check_number("guidance_rescale", self.guidance_rescale, 0, 1)
        check_number("sounds_like_strength", self.sounds_like_strength, 0, 1)
        interval = self.guidance_interval
        numbers = isinstance(interval, (list, tuple)) and all(isinstance(v, (int, float)) for v in interval)
        if not numbers or len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError(f"guidance_interval is {interval}; allowed: 0 <= low <= high <= 1")


@dataclass
class Tone:
    """Level and tone of one piece; `VivacePipeline` says what each does."""

    normalize: bool
    loudness_lufs: float
    true_peak_dbtp: float
    tilt_db: float
    fade_in_s: float
    fade_out_s: float
    compression_ratio: float

    def check(self, loop: bool | None, max_duration_s: float) -> None:
        """Raise a ValueError for a value out of range."""
        check_flag("normalize", self.normalize)
        check_number("tilt_db", self.tilt_db, -24, 24, "dB")
        check_number("true_peak_dbtp", self.true_peak_dbtp, -30, 0, "dBTP")
        check_number("loudness_lufs", self.loudness_lufs, -60, -3, "LUFS")
        check_number("compression_ratio", self.compression_ratio, 1, 20)
        for name, seconds in (("fade_in_s", self.fade_in_s), ("fade_out_s", self.fade_out_s)):
            check_number(name, seconds, 0, max_duration_s, "s")
            if loop and seconds:
                raise ValueError(f"{name} is {seconds} with loop=True; a loop cannot fade, set it to 0")

    def check_for_edit(self) -> None:
        """Raise a ValueError for what an edit cannot have: what is kept is not to be changed."""
        plain = {"loudness_lufs": LOUDNESS_LUFS, "tilt_db": 0, "fade_in_s": 0, "fade_out_s": 0}
        for name, value in plain.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name} is {getattr(self, name)} with audio; an edit has the level and the tone of its audio: "
                    "leave it out"
                )


@dataclass
class Request:
    """One piece to make.

    Attributes:
        texts: what it should sound like, one text or a timeline's, without what the words exclude; None beside
            `prompt_embeds`.
        weights: (texts, frames), the share of each.
        unwanted: what it should not sound like, any number of texts; None in place of `negative_prompt_embeds`.
        unwanted_weights: (unwanted, frames), where each is kept out, 0 to 1.
        music: its tempo, key, meter, length and chords.
        samples: its length at the pipeline's sampling rate.
        frames: its length in latent frames.
        seed: of its noise.
        strengths: of its conditions.
        tone: its level and tone.
        arguments: of the call, as they were given for this piece: what its recipe holds.
        edit: what is to be done to given audio, or None.
        score: the notes that are played, in the tempo and the length of the piece; None = those that fit.
        parts: roles that play; None = all.
        place: of its prompt among those of the call.
        plan: what is to be composed before it is played, or None.
        sound: what it is to sound like, of `read_sounds`: audio with its rate, statistics, or None.
    """

    texts: list[str | None]
    weights: torch.Tensor
    unwanted: list[str | None]
    unwanted_weights: torch.Tensor
    music: Music
    samples: int
    frames: int
    seed: int
    strengths: Strengths
    tone: Tone
    arguments: dict
    edit: Edit | None = None
    score: Score | None = None
    parts: tuple[str, ...] | None = None
    place: int = 0
    plan: MusicPlan | None = None
    sound: Any = None

    @property
    def strength(self) -> float:
        """Noise to begin with where not kept, 1 = all noise."""
        return 1.0 if self.edit is None else self.edit.strength

    @property
    def loop(self) -> bool:
        """Whether its end leads into its beginning."""
        return self.music.loop

    def play(self, score: Score) -> None:
        """Take what was composed as the score, with its key and chords, as if it had been given."""
        written = {"score": score.to_text(), "compose": False, **dict.fromkeys((*SKETCH, "form"))}
        self.arguments = self.arguments | written
        self.music = replace(self.music, key=self.music.key or score.key, chords=score.chords)
        self.score, self.plan = fit_score(score, self.music, self.parts), None

    def alone(self) -> list["Request"]:
        """Each part of its score as a request of its own, with the same seed; none is brought to the mean sound of a
        whole piece.

        Raises:
            ValueError: if it has no score.
        """
        if self.score is None:
            raise ValueError("stems is True without a score; stems are the parts of one: give score")
        strengths = replace(self.strengths, sounds_like_strength=0.0)
        return [
            replace(self, score=self.score.only(role), parts=(role,), strengths=strengths) for role in self.score.roles
        ]


SKETCH = ("melody", "rhythm", "sketch_timing")
PER_ITEM = (
    "negative_prompt", "loop", "score", "parts", "compose", "form", *SKETCH, "sounds_like",
    *(one.name for kind in (MusicArguments, Strengths, Tone) for one in fields(kind)),
)  # fmt: skip


def choose_seeds(
    seed: Any,
    generator: Any,
    num_prompts: int,
    per_prompt: int,
) -> list[int]:
    """One seed per output, from `seed` (an int or several) or `generator` (one or several), else from torch's global
    generator.

    Raises:
        ValueError: both are given, a number of entries that fits neither prompts nor outputs, or no seed.
    """
    total = num_prompts * per_prompt
    if seed is not None and generator is not None:
        raise ValueError("seed and generator: give at most one of them")
    if seed is None:
        if isinstance(generator, (list, tuple)) and len(generator) != total:
            raise ValueError(f"generator has {len(generator)} entries for {total} outputs; give one or one for each")
        sources = list(generator) if isinstance(generator, (list, tuple)) else [generator] * total
        for source in sources:
            if source is not None and not isinstance(source, torch.Generator):
                raise ValueError(f"generator is a {type(source).__name__}; allowed: a torch.Generator, or one for each")
        return [
            int(torch.randint(2**31, (1,), generator=source, device=None if source is None else source.device))
            for source in sources
        ]
    given = list(seed) if isinstance(seed, (list, tuple, np.ndarray)) else [seed] * num_prompts
    for value in given:
        check_number("seed", value, 0, 2**62, whole=True)
    if len(given) == num_prompts:
        return [int(value) + w for value in given for w in range(per_prompt)]
    if len(given) != total:
        raise ValueError(f"seed has {len(given)} entries for {total} outputs; give one for each, or one")
    return [int(value) for value in given]


def check_call(
    num_inference_steps: int, num_waveforms_per_prompt: int, apg_eta: float,
    apg_norm_threshold: float | None, apg_momentum: float, tensors: dict, output_type: str, return_dict: bool,
    callback_on_step_end: object, callback_on_step_end_tensor_inputs: object,
    callback_tensors: list[str], callback_on_audio: object = None,
) -> None:  # fmt: skip
    """Raise a ValueError for arguments that hold for the whole call.

    Args:
        tensors: arguments that are tensors, by name; the others are those of the call.
        callback_tensors: names that callback_on_step_end_tensor_inputs may hold.
    """
    for name, value in tensors.items():
        if value is not None and not isinstance(value, torch.Tensor):
            raise ValueError(f"{name} is a {type(value).__name__}; allowed: a torch.Tensor")
        if value is not None and name.endswith("embeds") and value.ndim != 3:
            raise ValueError(f"{name} has shape {tuple(value.shape)}; needed: (prompts, tokens, dim)")
    check_number("num_inference_steps", num_inference_steps, 1, 1000, whole=True)
    check_number("num_waveforms_per_prompt", num_waveforms_per_prompt, 1, 1000, whole=True)
    check_number("apg_eta", apg_eta, 0, 1)
    check_number("apg_momentum", apg_momentum, -1, 1)
    if apg_norm_threshold is not None:
        check_number("apg_norm_threshold", apg_norm_threshold, 1e-3, 1000)
    if not isinstance(output_type, str) or output_type not in ("np", "pt", "latent", "stream"):
        raise ValueError(f"output_type is {output_type!r}; allowed: 'np', 'pt', 'latent', 'stream'")
    check_flag("return_dict", return_dict)
    if callback_on_step_end is not None and not callable(callback_on_step_end):
        raise ValueError(f"callback_on_step_end is {callback_on_step_end!r}; allowed: f(pipe, step, timestep, tensors)")
    if callback_on_audio is not None and not callable(callback_on_audio):
        raise ValueError(f"callback_on_audio is {callback_on_audio!r}; allowed: f(piece, audio)")
    wanted, allowed = callback_on_step_end_tensor_inputs, ", ".join(callback_tensors)
    if not isinstance(wanted, (list, tuple)) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(f"callback_on_step_end_tensor_inputs is {wanted}; allowed: a list of {allowed}")
    unknown = [name for name in wanted if name not in callback_tensors]
    if unknown:
        raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; allowed: {allowed}")


def make_plan(
    prompt: Prompt, music: Music, kept: Score | None, parts: tuple[str, ...] | None, form: object,
    repeat: bool = False, negative_prompt: str | None = None,
) -> MusicPlan:  # fmt: skip
    """What is to be composed for a piece.

    Args:
        prompt: whose words name instruments, and what does not play.
        music: tempo, meter, key, chords and length.
        kept: notes that are given and stay.
        parts: roles that play; None = those of the words.
        form: sections.
        repeat: whether the given notes are repeated to the end.
        negative_prompt: names what does not play either, unless the prompt names it.

    Raises:
        ValueError: the words exclude every part, or the form is none.
    """
    assert music.bpm is not None and music.time_signature is not None and music.beats_per_bar is not None
    exclusion = read_exclusion(prompt.text)
    own, instruments = cast(exclusion)
    avoided = {*things_in((negative_prompt or "")[:LONGEST])} - {*exclusion.named}
    without = tuple(name for name in PROGRAMS if {*things_in(name)} & {*exclusion.excluded, *avoided})
    drums = drums_of(exclusion.words)
    if "drums" in {*exclusion.named, *avoided}:
        drums = "drums" in exclusion.named
    if own is not None or "bass" in avoided:
        own = tuple(role for role in (ROLES if own is None else own) if role not in avoided)
    if own == () and parts is None:
        raise ValueError(f"prompt is {prompt.text!r}, which excludes every part; needed: one that plays")
    bar_s = music.beats_per_bar * 60.0 / music.bpm
    bars = music.bars or max(1, math.ceil((float(music.duration_s) - music.downbeat_s) / bar_s - 1e-6))
    if kept is not None and repeat:
        kept = repeated(kept, bars * float(quarters_per_bar(music.time_signature)))
    given = None if kept is None else fit_score(kept, replace(music, bars=bars), None)
    parts = own if parts is None else parts
    if parts is not None and given is not None:
        parts = tuple(role for role in ROLES if role in {*parts, *given.roles})
    if isinstance(form, (list, tuple)):
        form = [tuple(section) for section in form]
    elif form is not None and not isinstance(form, str):
        raise ValueError(f"form is {form!r}; allowed: letters, as in 'AABA', or a list of (letter, bars)")
    plan = MusicPlan(
        bars=bars, bpm=float(music.bpm), time_signature=music.time_signature, key=music.key, chords=music.chords,
        parts=parts, drums=drums, instruments=instruments, without=without, given=given, form=form, loop=music.loop,
    )  # fmt: skip
    read_form(plan.form, plan.bars)
    return plan


def make_requests(
    prompts: list[Prompt],
    per_item: Mapping[str, object],
    seeds: list[int],
    edits: list[Edit | None],
    lengths: Lengths,
    sampling_rate: int,
    hop_length: int,
    restate: bool = False,
    one_prompt: bool = False,
    unwanted_states: bool = False,
    plays_notes: bool = False,
    composes: bool = False,
    score_guidance_scale: float | None = None,
) -> list[Request]:
    """One request for each output.

    Args:
        prompts: of `read_prompts`.
        per_item: what `PER_ITEM` names, each for all prompts or a list for each.
        seeds: of each output; the first ones are for the first prompt.
        edits: for each prompt what is to be done to given audio, or None.
        lengths: of the checkpoint.
        sampling_rate, hop_length: of the autoencoder, Hz and samples a latent frame.
        restate: whether the network knows captions that say what is absent.
        one_prompt: whether a list of chords is one progression for all, rather than a progression for each prompt.
        unwanted_states: whether text states are given in place of what is to be kept out.
        plays_notes: whether the network has note channels.
        composes: whether there is a composer.
        score_guidance_scale: strength of grid and notes where a piece plays notes and none is given.

    Raises:
        ValueError: for any bad argument.
    """
    count, requests = len(prompts), []
    shared = {
        "chords": one_prompt,
        "guidance_interval": not is_list_of_pairs(per_item["guidance_interval"]),
        "parts": not is_list_of_pairs(per_item["parts"]),
        "form": count == 1 or is_list_of_pairs(per_item["form"]),
    }
    columns = {name: spread(name, value, count, shared.get(name, False)) for name, value in per_item.items()}
    for i, prompt in enumerate(prompts):
        own = {name: column[i] for name, column in columns.items()}
        given = MusicArguments(**{one.name: own[one.name] for one in fields(MusicArguments)})
        strengths = Strengths(**{one.name: own[one.name] for one in fields(Strengths)})
        tone = Tone(**{one.name: own[one.name] for one in fields(Tone)})
        loop, negative, edit, words, score = own["loop"], own["negative_prompt"], edits[i], prompt.words, own["score"]
        parts = read_parts(own["parts"], score)
        remarks: list[str] = []
        if not plays_notes and (score is not None or parts is not None):
            name = "parts" if score is None else "score"
            raise ValueError(f"{name} needs a network that plays notes; this checkpoint's has no note channels")
        if loop is not None:
            check_flag("loop", loop)
        elif edit is None and (tone.fade_in_s or tone.fade_out_s):
            loop = False  # the words alone make no loop of these
        if negative is not None and not isinstance(negative, str):
            raise ValueError(f"negative_prompt is {negative!r}; allowed: a text, or a list with one for each prompt")
        strengths.check()
        tone.check(loop, lengths.longest_s)
        arguments = own | {"prompt": prompt.given, "strength": None}
        for name in ("compose", "form", *SKETCH):
            if own[name] is not None and own[name] is not False and not composes:
                raise ValueError(f"{name} needs a composer and a network that plays notes; this checkpoint has none")
            if own[name] is not None and edit is not None:
                raise ValueError(f"{name} is given with audio; what is composed is a new piece: leave one of them out")
        if own["compose"] is not None:
            check_flag("compose", own["compose"])
        if own["compose"] is False and any(own[name] is not None for name in ("melody", "rhythm", "form")):
            raise ValueError("compose is False, but melody, rhythm or form is given; they say what to compose")
        for name in ("melody", "rhythm"):
            if own[name] is not None and score is not None:
                part = "lead" if name == "melody" else "drums"
                raise ValueError(f"{name} and score: give one of them; a score with its {part} alone is a {name}")
        composed = edit is None and composes and own["compose"] is not False
        composed = composed and (score is None or own["compose"] is True or own["form"] is not None)
        kept = score
        if score is None:
            kept = joined(*settle_sketches(own["melody"], own["rhythm"], own["sketch_timing"], given, words))
        if kept is not None:
            given, remarks = arguments_of_score(kept, given, words)
            if edit is not None:
                given = replace(given, bars=own["bars"], duration_s=own["duration_s"])
        elif composed and given.time_signature is None and words.time_signature is None:
            given = replace(given, time_signature=meter_of(prompt.text))
        if edit is not None:
            tone.check_for_edit()
            given, loop, before = grid_of_audio(edit, given, loop, words, lengths)
            score = before if score is None and plays_notes else score
            edit = replace(edit, loop=loop)
            arguments |= edit.arguments | {"loop": loop}
            arguments |= {name: getattr(given, name) for name in (*GRID, "beat_unit")}  # a replay need not find them
            if given.downbeat_s is not None:
                given = replace(given, downbeat_s=given.downbeat_s + edit.offset_s)
        music = settle(words, given, loop, lengths.default_s, lengths.longest_s, composed)
        samples = round(music.duration_s * sampling_rate)  # exact for bars: the duration is a fraction
        frames, stretch = -(-samples // hop_length), 1.0
        if music.loop:  # a whole number of frames, as near as can be; the decoded circle gets its exact length
            frames = max(1, round(Fraction(samples, hop_length)))
            stretch = samples / (frames * hop_length)
        music = replace(music, duration_s=samples / sampling_rate, stretch=stretch)
        arguments["score"] = None if score is None else score.to_text()
        plan = None
        if composed:
            repeat = own["rhythm"] is not None and own["melody"] is None
            plan = make_plan(prompt, music, kept, parts, own["form"], repeat, negative)
            score, parts = None, plan.parts if parts is not None else None
        if score is not None:
            score = fit_score(score, music, parts)
        if score_guidance_scale is not None and strengths.grid_guidance_scale is None and (score or parts or plan):
            strengths = replace(strengths, grid_guidance_scale=score_guidance_scale)
        music.notes.extend(remarks)
        weights = prompt.weights(music, frames, sampling_rate / hop_length)
        if negative is not None:
            check_text("negative_prompt", negative)
        wanted, unwanted, unwanted_weights = keep_out(prompt.texts, weights, negative, restate)
        if unwanted_states:
            unwanted, unwanted_weights = [None], torch.full((1, frames), share_of(None))
        for seed in seeds[i * len(seeds) // count : (i + 1) * len(seeds) // count]:
            requests.append(
                Request(
                    wanted, weights, unwanted, unwanted_weights, music, samples, frames, seed, strengths, tone,
                    arguments, edit, score, parts, i, plan, own["sounds_like"],
                )
            )  # fmt: skip
    return requests


# What a call is to do with audio, and the grid and the score that the audio brings.

GRID = ("bpm", "time_signature", "key", "chords", "downbeat_s")  # what a recording or its recipe can say
BAR_MATCH = 0.03  # share by which the tempo found in a loop may be off whole bars
SHORTEST_SOUND_S, LONGEST_SOUND_S = 1.0, 60.0  # of audio that a piece is to sound like


def open_source(source: Any, sampling_rate: int | None) -> tuple[object, int | None, dict | None]:
    """What a call is given as audio -> audio and rate as `read_audio` takes them, and the recipe if it is one of ours.

    Raises:
        ValueError: an output that holds latents or several pieces.
    """
    if isinstance(source, (str, Path)):
        try:
            return source, sampling_rate, read_recipe(source)
        except ValueError:  # no file of ours
            return source, sampling_rate, None
    if not hasattr(source, "audios") or not hasattr(source, "recipes"):
        return source, sampling_rate, None
    if source.recipes is None or len(source.audios) != 1:
        raise ValueError(
            "audio is an output of latents or of several pieces; allowed: one with one piece of audio, or a piece as "
            "audio=out.audios[0] with sampling_rate=out.sampling_rate"
        )
    if sampling_rate not in (None, source.sampling_rate):
        raise ValueError(
            f"sampling_rate is {sampling_rate}, but the output has {source.sampling_rate} Hz; leave it out"
        )
    return source.audios[0], source.sampling_rate, source.recipes[0]


def read_sounds(sounds_like: object, sampling_rate: int | None, count: int, numbers: int) -> list:
    """What each prompt is to sound like: audio (channels, samples) at the network's level with its rate, as a pair; the
    statistics of such audio; or None.

    Args:
        sounds_like: of the call: recordings as `audio` takes them, or statistics; one for all prompts, or a list.
        sampling_rate: of arrays.
        count: of the prompts.
        numbers: how many statistics the network takes, 0 = it takes none.

    Raises:
        ValueError: one line that names the argument.
    """
    if sounds_like is None:
        return [None] * count
    if not numbers:
        raise ValueError("sounds_like needs a network that takes a reference; this checkpoint's has none")
    several = isinstance(sounds_like, (list, tuple)) and not all(isinstance(one, (int, float)) for one in sounds_like)
    sources = spread("sounds_like", sounds_like, count, not several)
    read: dict[int, object] = {}
    for one in sources:
        if isinstance(one, (list, tuple)):
            if len(one) != numbers:
                raise ValueError(f"sounds_like has {len(one)} numbers; this checkpoint's network takes {numbers}")
            for value in one:
                check_number("sounds_like", value, -1000, 1000)
            read[id(one)] = [float(value) for value in one]
        elif one is not None and id(one) not in read:
            try:
                audio, rate = read_audio(*open_source(one, sampling_rate)[:2], LONGEST_SOUND_S)
            except ValueError as error:
                raise ValueError(f"sounds_like: {error}") from error
            if audio.shape[1] < SHORTEST_SOUND_S * rate or not audio.any():
                raise ValueError(
                    f"sounds_like is {audio.shape[1] / rate:.2f} s{'' if audio.any() else ' of silence'}; needed: "
                    f"{SHORTEST_SOUND_S:g} s of sound"
                )
            read[id(one)] = (audio * working_gain(audio, rate), rate)
    return [read.get(id(one)) for one in sources]


def read_edits(
    scores: list[Score | None], audio: object, sampling_rate: int | None, strength: object, mask_s: object,
    extend_s: object, lengths: Lengths,
) -> list[Edit | None]:  # fmt: skip
    """What is to be done to the audio of each prompt; None where there is none.

    With a score and nothing else that says what, it is the bars in which that differs from the score of the audio.

    Args:
        scores: of each prompt.
        lengths: of the checkpoint; the others are arguments of the call.

    Raises:
        ValueError: arguments of an edit without audio, audio of several rates, and as `make_edit`.
    """
    if audio is None:
        given = {"strength": strength, "mask_s": mask_s, "extend_s": extend_s, "sampling_rate": sampling_rate}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is {value!r} without audio; it says what to do with audio")
        return [None] * len(scores)
    count = len(scores)
    sources = spread("audio", audio, count, not isinstance(audio, (list, tuple)))
    apart = isinstance(mask_s, (list, tuple)) and is_list_of_pairs(mask_s) and all(map(is_list_of_pairs, mask_s))
    masks = spread("mask_s", mask_s, count, not apart)
    strengths = spread("strength", strength, count, False)
    done: dict[tuple, Edit] = {}  # the same audio for all prompts is read once
    edits: list[Edit | None] = []
    for source, mask, own, score in zip(sources, masks, strengths, scores, strict=True):
        place = (id(source), id(mask), id(score), own if isinstance(own, (int, float)) else id(own))
        if place not in done:
            sound, rate, recipe = open_source(source, sampling_rate)
            if score is not None and mask is None and own is None and extend_s is None:
                sound, rate = read_audio(sound, rate, lengths.longest_s)  # once, for its length as for the edit
                mask = regions_of_score(score, sound, rate, recipe, lengths)
            done[place] = make_edit(sound, rate, own, mask, extend_s, lengths.longest_s, recipe)
        edits.append(done[place])
    if len({edit.rate for edit in done.values()}) > 1:
        raise ValueError("audio has files of several sampling rates; edit them in calls of their own")
    return edits


def regions_of_score(
    score: Score, audio: object, sampling_rate: int | None, recipe: dict | None, lengths: Lengths
) -> list[tuple[float, float]]:
    """Regions of audio that are to be made anew so that it plays another score.

    Raises:
        ValueError: audio that was not made from a score.
    """
    samples, rate = read_audio(audio, sampling_rate, lengths.longest_s)
    seconds = samples.shape[1] / rate
    grid = recipe_grid(recipe, seconds, lengths)
    if "score" not in grid:
        raise ValueError(
            "audio has no score of its own to compare the given one with; give mask_s, extend_s or strength to say "
            "what is to be made anew"
        )
    return changed_regions(grid["score"], score, grid["downbeat_s"], seconds, grid["loop"])


def recipe_grid(recipe: dict | None, seconds: float, lengths: Lengths) -> dict:
    """What a recipe says of its piece: those of `GRID` that it fixes, `loop`, and the `score` that it plays, if any.
    The downbeat is in its own time.

    Args:
        recipe: of `read_recipe`, or None.
        seconds: length of the audio. A piece that was cut since keeps its tempo, meter and key alone.
        lengths: of the checkpoint.
    """
    if recipe is None:
        return {}
    arguments, edited = recipe.get("arguments", {}), "audio" in recipe
    given = MusicArguments(**{one.name: arguments.get(one.name) for one in fields(MusicArguments)})
    loop = arguments.get("loop")
    if edited:  # its length is that of the audio, which the recipe does not hold
        given = replace(given, duration_s=None, bars=None)
    try:
        prompt, *_ = read_prompts(arguments.get("prompt"), arguments.get("morph"), None)
        words = prompt.words
        score = None if arguments.get("score") is None else Score.from_text(arguments["score"])
        if score is not None:
            given, _ = arguments_of_score(score, given, words)
            given = replace(given, duration_s=None, bars=None) if edited else given
        music = settle(words, given, False if edited else loop, lengths.default_s, lengths.longest_s)
        before = float((arguments.get("extend_s") or (0.0, 0.0))[0])
    except (ValueError, TypeError, LookupError):  # of another version, or made without words
        return {}
    found: dict = {
        name: getattr(music, name) for name in ("bpm", "time_signature", "key") if getattr(music, name) is not None
    }
    if edited and music.bpm_reason is not None:  # its tempo was found in the audio and not written down
        return {"key": found["key"]} if "key" in found else {}
    if not edited and abs(float(music.duration_s) - seconds) > 1e-3:
        return found
    found["loop"] = bool(loop) if edited else music.loop
    if "bpm" in found and (not edited or given.downbeat_s is not None):
        found["downbeat_s"] = music.downbeat_s + before
        if music.chords is not None:
            found["chords"] = music.chords
        if score is not None:
            music = replace(music, duration_s=seconds, downbeat_s=found["downbeat_s"], bars=None)
            found["score"] = fit_score(score, music, arguments.get("parts"))
    return found


def grid_of_audio(
    edit: Edit, given: MusicArguments, loop: bool | None, words: MusicWords, lengths: Lengths
) -> tuple[MusicArguments, bool, Score | None]:
    """Arguments for audio that is to be edited, whether it is a loop, and the score that it plays, or None.

    What is given or in the prompt comes first, then what the audio's own recipe says, and at last tempo and downbeat as
    they are found in the audio. A stated tempo or meter that is not the recipe's leaves the rest of its grid out.

    Args:
        edit: the audio and what is to be done to it.
        given: downbeat_s counts from the beginning of the given audio.
        loop: None = as the recipe says.
        words: what the prompt says.
        lengths: of the checkpoint.

    Returns:
        `given` completed, with the length of the result; downbeat_s still counts from the beginning of the audio.

    Raises:
        ValueError: a length that is not the audio's, or a loop that is to be extended.
    """
    if loop and edit.extended:
        raise ValueError("loop is True with extend_s; a loop has no end to go on from: leave one of them out")
    seconds = edit.audio.shape[1] / edit.rate
    if seconds < MIN_DURATION_S:
        raise ValueError(f"audio lasts {seconds:.3g} s; allowed: from {MIN_DURATION_S} s")
    for name in ("duration_s", "downbeat_s"):
        if getattr(given, name) is not None:
            check_number(name, getattr(given, name), -1e6, 1e6, "s")
    if given.duration_s is not None and abs(given.duration_s - seconds) > 1e-3:
        raise ValueError(
            f"duration_s is {given.duration_s}, but the audio and its extension last {seconds:.3f} s; leave it out"
        )
    recipe = recipe_grid(edit.recipe, edit.samples / edit.rate, lengths)
    grid = {name: getattr(words, name, None) if getattr(given, name) is None else getattr(given, name) for name in GRID}
    if grid["time_signature"] is not None:
        grid["time_signature"] = str(grid["time_signature"]).replace(" ", "")
    meter = grid["time_signature"] or recipe.get("time_signature") or "4/4"
    grid["bpm"], _, _ = stated_tempo(words, given.bpm, meter, given.beat_unit)
    if any(grid[name] not in (None, recipe.get(name)) for name in ("bpm", "time_signature")):
        recipe = {name: recipe[name] for name in recipe if name == "key"}
    grid = {name: recipe.get(name) if grid[name] is None else grid[name] for name in GRID}
    loop = bool(recipe.get("loop")) and not edit.extended if loop is None else loop
    if grid["bpm"] is None or grid["downbeat_s"] is None:
        beats = parse_time_signature(meter)
        found = find_beats(edit.given, edit.rate, grid["bpm"], beats)
        if found is not None and grid["bpm"] is None:
            grid["bpm"] = round(found[0], 2)
            if loop:  # whole bars, or no tempo
                bars = max(1, round(seconds * found[0] / 60.0 / beats))
                exact = bars * beats * 60.0 / seconds
                grid["bpm"] = exact if abs(exact / found[0] - 1.0) < BAR_MATCH else None
        if found is not None and grid["bpm"] is not None and grid["downbeat_s"] is None:
            grid["downbeat_s"] = found[1]
    return replace(given, **grid, duration_s=seconds, beat_unit=None), loop, recipe.get("score")


def prompt_for_score(scores: list[Score | None], sources: list) -> str | list | None:
    """A prompt where only a score is given: that of the audio that is edited, or the instruments of the score."""
    prompts = []
    for score, source in zip(scores, sources, strict=True):
        recipe = open_source(source, None)[2] or {}
        prompt = recipe.get("arguments", {}).get("prompt")
        if isinstance(prompt, list):
            prompt = [tuple(entry) for entry in prompt]
        if prompt is None and score is not None:
            prompt = describe(score)
        prompts.append(prompt)
    return prompts[0] if len(prompts) == 1 else prompts
