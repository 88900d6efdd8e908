"""From the arguments of a call to one request for each piece: prompts and timelines, seeds, and checks of every value.

What holds for all pieces is spread over them; audio that is edited brings the grid of its recipe, or its beats are
found.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from .vivace_edit import Edit, find_beats, make_edit
from .vivace_exclusion import read_exclusion, share_of, unwanted_text
from .vivace_level import LOUDNESS_LUFS
from .vivace_music import MIN_DURATION_S, Music, MusicArguments, settle, stated_tempo
from .vivace_reading import MusicWords, read_music
from .vivace_recipe import read_recipe
from .vivace_theory import check_number, parse_time_signature

GRID = ("bpm", "time_signature", "key", "chords", "downbeat_s")  # what a recording or its recipe can say
BAR_MATCH = 0.03  # share by which the tempo found in a loop may be off whole bars


@dataclass
class Strengths:
    """How strictly one piece follows its conditions; `VivacePipeline` says what each does."""

    guidance_scale: float
    grid_guidance_scale: float | None
    negative_guidance_scale: float
    guidance_rescale: float
    guidance_interval: tuple[float, float]

    def check(self) -> None:
        """Raise a ValueError for a value out of range."""
        check_number("guidance_scale", self.guidance_scale, 0, 100)
        if self.grid_guidance_scale is not None:
            check_number("grid_guidance_scale", self.grid_guidance_scale, 0, 100)
        check_number("negative_guidance_scale", self.negative_guidance_scale, 0, 100)
        check_number("guidance_rescale", self.guidance_rescale, 0, 1)
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

    def check(self, loop: bool | None, max_duration_s: float) -> None:
        """Raise a ValueError for a value out of range."""
        check_flag("normalize", self.normalize)
        check_number("tilt_db", self.tilt_db, -24, 24, "dB")
        check_number("true_peak_dbtp", self.true_peak_dbtp, -30, 0, "dBTP")
        check_number("loudness_lufs", self.loudness_lufs, -60, -3, "LUFS")
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

    @property
    def strength(self) -> float:
        """Noise to begin with where not kept, 1 = all noise."""
        return 1.0 if self.edit is None else self.edit.strength

    @property
    def loop(self) -> bool:
        """Whether its end leads into its beginning."""
        return self.music.loop


PER_ITEM = (
    "negative_prompt", "loop", *(one.name for kind in (MusicArguments, Strengths, Tone) for one in fields(kind)),
)  # fmt: skip


# One value for all prompts, or one for each.


def spread(name: str, value: object, count: int, shared: bool) -> list:
    """One value for each prompt, of a list with as many or of one value that is for all (`shared`: even a list).

    Numbers of numpy and torch become those of Python.
    """
    if isinstance(value, torch.Tensor) and not shared:
        value = value.tolist()
    if isinstance(value, (list, tuple, np.ndarray)) and not shared:
        if len(value) != count:
            raise ValueError(f"{name} has {len(value)} entries for {count} prompts; give one for each or for all")
        values = list(value)
    else:
        values = [value] * count
    return [one.item() if isinstance(one, np.generic) else one for one in values]


def check_flag(name: str, value: object) -> None:
    """Raise a ValueError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {' '.join(str(value).split())}; allowed: True or False")


def is_list_of_pairs(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(v, (list, tuple)) for v in value)


def choose_seeds(
    seed: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    num_prompts: int,
    per_prompt: int,
) -> list[int]:
    """One seed per output, from `seed` or `generator` (one or a list), else from torch's global generator.

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


# Prompts, of which each is a text, a timeline or a morph. Several texts share each frame by their weights.

CROSSFADE_S = 1.0  # between two texts of a timeline, centred on the second one's start


def is_timeline(prompt: object) -> bool:
    """Whether a prompt is a list of (start, text) pairs."""
    return isinstance(prompt, (list, tuple)) and len(prompt) > 0 and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and not isinstance(entry[0], (list, tuple))
        and (not isinstance(entry[0], str) or re.fullmatch(r"\s*bar\s.*", entry[0]) is not None)
        for entry in prompt
    )  # fmt: skip


def read_start(start: float | str, bpm: float | None, beats_per_bar: int | None) -> float:
    """Seconds of a timeline's entry: a number, or "bar 5", whose start counts from bar 1.

    Raises:
        ValueError: neither of them, or bars without a tempo.
    """
    if isinstance(start, str):
        match = re.fullmatch(r"\s*bar\s+(\d{1,5})\s*", start)
        if match is None or int(match[1]) < 1:
            raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds, or a bar from 1, as in 'bar 5'")
        if bpm is None or beats_per_bar is None:
            raise ValueError(f"prompt starts an entry at {start!r}, which needs a tempo: give bpm")
        return (int(match[1]) - 1) * beats_per_bar * 60.0 / bpm
    if isinstance(start, bool) or not isinstance(start, (int, float)) or not start >= 0:
        raise ValueError(f"prompt starts an entry at {start!r}; allowed: seconds from 0, or a bar, as in 'bar 5'")
    return float(start)


def timeline_weights(starts_s: list[float], frames: int, frame_rate: float, duration_s: float) -> torch.Tensor:
    """Share of each text in each frame, (texts, frames): one after another, with crossfades of `CROSSFADE_S`.

    Raises:
        ValueError: a first entry that does not start at 0, entries out of order, or one that starts after the end.
    """
    if starts_s[0] != 0:
        raise ValueError(f"prompt's first entry starts at {starts_s[0]:g} s; it must start at 0 (or 'bar 1')")
    for before, start in itertools.pairwise(starts_s):
        if start <= before:
            raise ValueError(f"prompt has an entry at {start:g} s after one at {before:g} s; they must be in order")
    if starts_s[-1] >= duration_s:
        raise ValueError(f"prompt has an entry at {starts_s[-1]:g} s, but the piece is {duration_s:g} s long")
    times = (torch.arange(frames, dtype=torch.float64) + 0.5) / frame_rate
    entries = [((times - start) / CROSSFADE_S + 0.5).clamp(0.0, 1.0) for start in starts_s[1:]]
    entered = torch.stack([torch.ones_like(times), *entries, torch.zeros_like(times)])
    return (entered[:-1] - entered[1:]).float()  # what an entry has gained, less what the next one has


def morph_weights(frames: int) -> torch.Tensor:
    """(2, frames): from the first text alone to the second alone, in a straight line."""
    share = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
    return torch.stack([1.0 - share, share]).float()


def check_text(name: str, text: str) -> None:
    """Raise a ValueError for half of a character, as of an emoji that was cut: a text of it cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is {text!a}, whose {text[error.start]!a} is half of a character; give whole ones"
        ) from error


@dataclass
class Prompt:
    """One prompt of a call.

    Attributes:
        given: the argument itself: a text, a timeline, or None.
        texts: its texts; [None] where text states are given in their place.
        starts: of each text, seconds or "bar 5"; none for a morph.
    """

    given: object
    texts: list
    starts: list

    @property
    def words(self) -> MusicWords:
        """What all its texts say of the music."""
        return read_music(". ".join(text for text in self.texts if text is not None))

    def weights(self, music: Music, frames: int, frame_rate: float) -> torch.Tensor:
        """Share of each text in each frame, (texts, frames)."""
        if not self.starts:
            return morph_weights(frames)
        starts_s = [read_start(start, music.bpm, music.beats_per_bar) for start in self.starts]
        return timeline_weights(starts_s, frames, frame_rate, float(music.duration_s))


def read_prompts(prompt: object, morph: object, num_embeds: int | None) -> list[Prompt]:
    """The prompts of a call.

    Raises:
        ValueError: none or several of prompt, morph and prompt_embeds, or a text that is none.
    """
    if (prompt is not None) + (morph is not None) + (num_embeds is not None) != 1:
        raise ValueError("prompt, morph and prompt_embeds: give exactly one of them (a morph is its own prompt)")
    if num_embeds is not None:
        return [Prompt(None, [None], [0])] * num_embeds
    if morph is not None:
        if not isinstance(morph, (list, tuple)) or len(morph) != 2:
            raise ValueError(f"morph is {morph!r}; allowed: two texts, as in ('calm piano', 'drums and bass')")
        prompts = [Prompt(None, list(morph), [])]
    else:
        if not isinstance(prompt, (str, list, tuple)):
            raise ValueError(f"prompt is {prompt!r}; allowed: a text, a timeline, or a list of either")
        given = [prompt] if isinstance(prompt, str) or is_timeline(prompt) else list(prompt)
        if not given:
            raise ValueError("prompt is an empty list; give at least one text")
        prompts = [
            Prompt(one, [text for _, text in one], [start for start, _ in one])
            if is_timeline(one)
            else Prompt(one, [one], [0])
            for one in given
        ]
    name = "prompt" if morph is None else "morph"
    for text in (text for one in prompts for text in one.texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{name} is {text!r}; give a text that is not empty")
        check_text(name, text)
    return prompts


def keep_out(
    texts: list, weights: torch.Tensor, negative_prompt: str | None, restate: bool
) -> tuple[list, list, torch.Tensor]:
    """What the texts and a negative prompt exclude.

    Args:
        texts: of a prompt.
        weights: (texts, frames), the share of each.
        negative_prompt: a text, or None.
        restate: whether the network knows captions that say what is absent.

    Returns:
        The texts without what they exclude (with `restate` said as captions say it), the texts to be kept out, each
        once, and where, (unwanted, frames).
    """
    exclusions = [None if text is None else read_exclusion(text) for text in texts]
    where: dict[str, torch.Tensor] = {}
    for exclusion, weight in zip(exclusions, weights, strict=True):
        unwanted = unwanted_text(exclusion, negative_prompt)
        if unwanted is not None:
            where[unwanted] = where.get(unwanted, 0.0) + weight * share_of(unwanted)
    wanted = [None if one is None else one.restated if restate else one.words for one in exclusions]
    return wanted, list(where), torch.stack(list(where.values())) if where else weights[:0]


# Audio that is to be edited: what is done to it, and the grid that it brings.


def open_source(source: object, sampling_rate: int | None) -> tuple[object, int | None, dict | None]:
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


def read_edits(
    count: int, audio: object, sampling_rate: int | None, strength: object, mask_s: object, extend_s: object,
    max_duration_s: float,
) -> list[Edit | None]:  # fmt: skip
    """What is to be done to the audio of each of `count` prompts; None where there is none.

    Raises:
        ValueError: arguments of an edit without audio, audio of several rates, and as `make_edit`.
    """
    if audio is None:
        given = {"strength": strength, "mask_s": mask_s, "extend_s": extend_s, "sampling_rate": sampling_rate}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is {value!r} without audio; it says what to do with audio")
        return [None] * count
    sources = spread("audio", audio, count, not isinstance(audio, (list, tuple)))
    apart = isinstance(mask_s, (list, tuple)) and is_list_of_pairs(mask_s) and all(map(is_list_of_pairs, mask_s))
    masks = spread("mask_s", mask_s, count, not apart)
    strengths = spread("strength", strength, count, False)
    done: dict[tuple, Edit] = {}  # the same audio for all prompts is read once
    edits: list[Edit | None] = []
    for source, mask, own in zip(sources, masks, strengths, strict=True):
        place = (id(source), id(mask), own if isinstance(own, (int, float)) else id(own))
        if place not in done:
            sound, rate, recipe = open_source(source, sampling_rate)
            done[place] = make_edit(sound, rate, own, mask, extend_s, max_duration_s, recipe)
        edits.append(done[place])
    if len({edit.rate for edit in done.values()}) > 1:
        raise ValueError("audio has files of several sampling rates; edit them in calls of their own")
    return edits


@dataclass
class Lengths:
    """Lengths of a checkpoint, seconds: of a piece that states none, and of the longest."""

    default_s: float
    longest_s: float


def recipe_grid(recipe: dict | None, seconds: float, lengths: Lengths) -> dict:
    """What a recipe says of its piece: those of `GRID` that it fixes, and `loop`. The downbeat is in its own time.

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
        music = settle(prompt.words, given, False if edited else loop, lengths.default_s, lengths.longest_s)
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
    return found


def grid_of_audio(
    edit: Edit, given: MusicArguments, loop: bool | None, words: MusicWords, lengths: Lengths
) -> tuple[MusicArguments, bool]:
    """Arguments for audio that is to be edited, and whether it is a loop.

    What is given or in the prompt comes first, then what the audio's own recipe says, and at last tempo and downbeat as
    they are found in the audio. A stated tempo or meter that is not the recipe's leaves the rest of its grid out.

    Args:
        edit: the audio and what is to be done to it.
        given: downbeat_s counts from the beginning of the given audio.
        loop: None = as the recipe says.
        words: what the prompt says.
        lengths: of the checkpoint.

    Returns:
        `given` completed, with the length of the result. downbeat_s still counts from the beginning of the audio.

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
    return replace(given, **grid, duration_s=seconds, beat_unit=None), loop


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

    Raises:
        ValueError: for any bad argument.
    """
    count, requests = len(prompts), []
    shared = {
        "chords": one_prompt,
        "guidance_interval": not is_list_of_pairs(per_item["guidance_interval"]),
    }
    columns = {name: spread(name, value, count, shared.get(name, False)) for name, value in per_item.items()}
    for i, prompt in enumerate(prompts):
        own = {name: column[i] for name, column in columns.items()}
        given, strengths, tone = (
            kind(**{one.name: own[one.name] for one in fields(kind)}) for kind in (MusicArguments, Strengths, Tone)
        )
        loop, negative, edit, words = own["loop"], own["negative_prompt"], edits[i], prompt.words
        if loop is not None:
            check_flag("loop", loop)
        elif edit is None and (tone.fade_in_s or tone.fade_out_s):
            loop = False  # the words alone make no loop of these
        if negative is not None and not isinstance(negative, str):
            raise ValueError(f"negative_prompt is {negative!r}; allowed: a text, or a list with one for each prompt")
        strengths.check()
        tone.check(loop, lengths.longest_s)
        arguments = own | {"prompt": prompt.given, "strength": None}
        if edit is not None:
            tone.check_for_edit()
            given, loop = grid_of_audio(edit, given, loop, words, lengths)
            edit = replace(edit, loop=loop)
            arguments |= edit.arguments | {"loop": loop}
            arguments |= {name: getattr(given, name) for name in (*GRID, "beat_unit")}  # a replay need not find them
            if given.downbeat_s is not None:
                given = replace(given, downbeat_s=given.downbeat_s + edit.offset_s)
        music = settle(words, given, loop, lengths.default_s, lengths.longest_s)
        samples = round(music.duration_s * sampling_rate)  # exact for bars: the duration is a fraction
        frames, stretch = -(-samples // hop_length), 1.0
        if music.loop:  # a whole number of frames, as near as can be; the decoded circle gets its exact length
            frames = max(1, round(Fraction(samples, hop_length)))
            stretch = samples / (frames * hop_length)
        music = replace(music, duration_s=samples / sampling_rate, stretch=stretch)
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
                    arguments, edit,
                )
            )  # fmt: skip
    return requests
