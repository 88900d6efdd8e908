"""From the arguments of a call to one request for each piece.

First what concerns tempo, key, meter and length: words and arguments together (`understand`). Then the requests: what
holds for all pieces is spread over them, given audio brings the grid of its recipe or is listened to, and every value
is checked.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from .vivace_conditions import check_text, is_timeline, morph_weights, read_start, timeline_weights
from .vivace_edit import Edit, find_beats
from .vivace_exclusion import read_exclusion, share_of, unwanted_text
from .vivace_level import LOUDNESS_LUFS
from .vivace_reading import BPM_RANGE, Music, read_music
from .vivace_recipe import read_recipe
from .vivace_sampling import Guidance, choose_seeds
from .vivace_theory import (
    beat_length,
    beat_unit_name,
    check_number,
    parse_beat_unit,
    parse_key,
    parse_time_signature,
    progression_beats,
    spell_key,
)

MIN_DURATION_S = 0.5
MAX_LOOP_S = 120.0  # a circle is made in one piece
DEFAULT_BPM = 100
TEMPO_WORDS = {  # the metronome's usual marks; the first word found decides
    60: "very slow|largo|larghetto|grave|lento|drone|ambient",
    152: "very fast|presto|prestissimo|vivace|frantic|frenetic|breakneck|furious",
    72: "slow|slowly|adagio|ballad|lullaby|calm|peaceful|gentle|relaxed|sleepy|solemn|mournful",
    132: "fast|quick|allegro|lively|upbeat|up-tempo|uptempo|energetic|driving|brisk",
    88: "andante|mid-tempo|midtempo|down-tempo|downtempo|laid-back|lofi|lo-fi",
    112: "moderato|moderate|allegretto",
}


def choose_bpm(
    prompt: str, beats: Fraction | None, duration_s: float | None, unread: bool = False
) -> tuple[float | int, str]:
    """A tempo where bars or chords need one and none is said, and why it was chosen.

    Bars that must last a given time fix the tempo. Otherwise the words that composers have for tempo decide, at the
    usual metronome marks, and 100 where there are none: a walking pace, in the middle of most music's range.

    Args:
        prompt: the words.
        beats: that must fill `duration_s`, seconds; either may be None.
        unread: whether the words hold what may be a tempo and could not be used.
    """
    if beats is not None and duration_s is not None:
        return float(beats) * 60.0 / duration_s, "the bars must fill the duration"
    for bpm, words in TEMPO_WORDS.items():
        found = re.search(rf"(?<!not )(?<!not too )(?<!not so )\b(?:{words})\b", prompt.lower())
        if found:
            return bpm, f"the prompt says {found[0]!r}"
    return DEFAULT_BPM, "the prompt's tempo was not understood" if unread else "no word of the prompt tells"


def stated_tempo(
    music: Music, bpm: float | None, time_signature: str | None, beat_unit: str | None
) -> tuple[int | float | None, Fraction | None, str | None]:
    """The tempo that is said, by the arguments or else by the words.

    Args:
        music: what the words say.
        bpm: the argument: `beat_unit`s a minute.
        time_signature: the meter, None = 4/4.
        beat_unit: name of the note that `bpm` counts; None = the meter's beat, or what the words name with their tempo.

    Returns:
        Beats of the meter a minute, as a number and exactly, and a note where another note than the beat was counted;
        all None where no tempo is said.

    Raises:
        ValueError: a tempo out of range, or an unknown `beat_unit`.
    """
    words = bpm is None
    bpm = music.bpm if words else bpm
    unit = parse_beat_unit(beat_unit) if beat_unit is not None else None
    if words and music.bpm is not None and music.beat_unit is not None and unit is None:
        unit = parse_beat_unit(music.beat_unit)
    if bpm is None:
        return None, None, None
    beat = beat_length(time_signature or "4/4")
    if unit is None or unit == beat:
        check_number("bpm", bpm, *BPM_RANGE, "beats a minute")
        return bpm, Fraction(str(bpm)), None
    check_number("bpm", bpm, 1, 10000, "beats a minute")
    exact = Fraction(str(bpm)) * unit / beat
    value = int(exact) if exact.denominator == 1 else float(exact)
    counted = f"{bpm:g} {beat_unit_name(unit)} notes a minute in {time_signature or '4/4'}"
    check_number("bpm", value, *BPM_RANGE, f"beats a minute ({counted})")
    return value, exact, f"tempo: {counted} are {value:g} beats a minute ({beat_unit_name(beat)} notes)"


def understand(
    prompt: str | None,
    bpm: float | None,
    key: str | None,
    time_signature: str | None,
    bars: int | None,
    duration_s: float | None,
    chords: str | list[str] | None,
    default_duration_s: float,
    max_duration_s: float,
    loop: bool | None = False,
    downbeat_s: float | None = None,
    beat_unit: str | None = None,
) -> dict:
    """The conditions of one item: the arguments, and what the prompt says where an argument is None.

    Bars and chords need a tempo; where none is said, `choose_bpm` takes one. Chords without a length last as long as
    the progression, as often as fits into the default duration, and a loop with a tempo has whole bars. A loop that
    only the words ask for is made where that can be; where not, the piece is no loop and a note says why.

    Returns:
        `bpm` (beats of the meter a minute), `bpm_reason` (why it was chosen, None = it was said), `beat_unit` (the note
        that is a beat), `key` (as it was spelled; `parse_key` gives the network's name), `time_signature`,
        `beats_per_bar`, `bars`, `duration_s` (a float, or a Fraction where bars and tempo fix it), `chords`, `loop`,
        `downbeat_s`; None = unknown. `notes`: a list of sentences, what in the words is not used as it stands.

    Raises:
        ValueError: a value out of range or unreadable, lengths that differ, chords that the piece is too short for, or
            a loop that is no whole number of bars.
    """
    music = read_music(prompt or "")
    given = (bpm, key, time_signature, bars, duration_s, chords, default_duration_s, max_duration_s)
    if loop is None and music.loop:
        try:
            return _settle(prompt or "", music, *given, True, downbeat_s, beat_unit)
        except ValueError as error:
            known = _settle(prompt or "", music, *given, False, downbeat_s, beat_unit)
            known["notes"].append(f"loop: the words ask for one, which this piece cannot be: {error}")
            return known
    known = _settle(prompt or "", music, *given, bool(loop), downbeat_s, beat_unit)
    if loop is not None and music.loop is not None and music.loop != bool(loop):
        said = "ask for a loop" if music.loop else "want no loop"
        known["notes"].append(f"loop: the words {said}, but loop={bool(loop)} is given and taken")
    return known


def _settle(
    prompt: str, music: Music, bpm, key, time_signature, bars, duration_s, chords, default_duration_s: float,
    max_duration_s: float, loop: bool, downbeat_s, beat_unit,
) -> dict:  # fmt: skip
    """`understand` of words that were read, and with `loop` decided."""
    max_duration_s = min(max_duration_s, MAX_LOOP_S) if loop else max_duration_s
    notes = list(music.notes)

    def taken(kind: str, words: object, value: object) -> None:
        if words is not None and words != value:
            notes.append(f"{kind}: the words say {words}, but {value} is taken")

    said_key, said_meter = key, time_signature
    key = music.key if key is None else spell_key(key)
    if said_key is not None and music.key is not None and parse_key(music.key) != parse_key(key):
        taken("key", music.key, key)
    time_signature = music.time_signature if time_signature is None else str(time_signature).replace(" ", "")
    if said_meter is not None:
        taken("meter", music.time_signature, time_signature)
    said_length = bars is not None or duration_s is not None
    if not said_length:
        bars = music.bars
        duration_s = music.duration_s if bars is None else None
    if bars is not None:
        check_number("bars", bars, 1, 10000, whole=True)
        bars = int(bars)
    if downbeat_s is not None:
        check_number("downbeat_s", downbeat_s, -max_duration_s, max_duration_s, "s")
    if duration_s is not None:
        check_number("duration_s", duration_s, MIN_DURATION_S, max_duration_s, "s")
    said_bpm = bpm
    bpm, exact_bpm, counted = stated_tempo(music, bpm, time_signature, beat_unit)
    notes += [counted] if counted is not None else []
    if said_bpm is not None and music.bpm is not None:
        unit = None if music.beat_unit is None else parse_beat_unit(music.beat_unit)
        beat = beat_length(time_signature or "4/4")
        words_bpm = float(Fraction(str(music.bpm)) * (unit or beat) / beat)
        if abs(words_bpm - bpm) > 1e-6:
            taken("tempo", f"{words_bpm:g} bpm", f"{bpm:g}")
    if bpm is not None or bars is not None or chords is not None:
        time_signature = "4/4" if time_signature is None else time_signature
    beats_per_bar = None if time_signature is None else parse_time_signature(time_signature)
    reason = None
    if bpm is None and (bars is not None or chords is not None):
        unread = any(note.startswith("tempo:") for note in notes)
        bpm, reason = choose_bpm(prompt, bars and Fraction(bars * beats_per_bar), duration_s, unread)
        check_number("bpm", bpm, *BPM_RANGE, f"beats a minute ({reason})")
        exact_bpm = Fraction(str(bpm))

    def length_of(bars: int) -> Fraction:
        return Fraction(bars * beats_per_bar * 60) / exact_bpm

    num_beats = 0 if chords is None else progression_beats(chords, beats_per_bar)
    if bars is None and duration_s is None and (loop or chords is not None) and bpm is not None:
        unit = -(-num_beats // beats_per_bar) or 1  # bars of a progression, or one
        bars = unit * max(1, int(Fraction(str(default_duration_s)) / length_of(unit)))
    if bars is None and loop and bpm is not None:
        bars = round(Fraction(str(duration_s)) / length_of(1))
        if bars < 1 or abs(float(length_of(bars)) - duration_s) > 1e-3:
            raise ValueError(
                f"duration_s is {duration_s}, which is {duration_s / float(length_of(1)):.3f} bars of {time_signature} "
                f"at {bpm:g} bpm; a loop with a tempo has whole bars, as with bars={max(bars, 1)} "
                f"({float(length_of(max(bars, 1))):.3f} s)"
            )
        duration_s = None
    if bars is not None:
        exact = length_of(bars)
        if reason and duration_s is not None:
            exact = Fraction(str(duration_s))
        if duration_s is not None and abs(float(exact) - duration_s) > 1e-3:
            raise ValueError(
                f"duration_s is {duration_s}, but {bars} bars of {time_signature} at {bpm:g} bpm last "
                f"{float(exact):.3f} s; give one of them, or equal lengths"
            )
        duration_s, name = exact, f"duration_s ({bars} bars at {bpm:g} bpm)"
        check_number(name, round(float(exact), 3), MIN_DURATION_S, max_duration_s, "s")
    duration_s = default_duration_s if duration_s is None else duration_s
    if music.bars is not None and bars is not None:
        taken("length", f"{music.bars} bars", f"{bars} bars")
    elif music.bars is not None and (bpm is None or abs(float(length_of(music.bars)) - duration_s) > 1e-3):
        taken("length", f"{music.bars} bars", f"{float(duration_s):g} s")
    if music.duration_s is not None and abs(music.duration_s - float(duration_s)) > 1e-3:
        taken("length", f"{music.duration_s:g} s", f"{float(duration_s):g} s")
    if chords is not None:
        last_start = num_beats - progression_beats(chords, beats_per_bar, last=True)
        if last_start * 60.0 / bpm > float(duration_s) + 60.0 / bpm:
            raise ValueError(
                f"chords last {num_beats} beats ({num_beats * 60.0 / bpm:.3f} s at {bpm:g} bpm), but the piece is "
                f"{float(duration_s):.3f} s long; give fewer chords or more bars"
            )
        chords = chords if isinstance(chords, str) else " ".join(chords)
    return {
        "bpm": bpm,
        "bpm_reason": reason,
        "beat_unit": None if bpm is None else beat_unit_name(beat_length(time_signature)),
        "key": key,
        "time_signature": time_signature,
        "beats_per_bar": beats_per_bar,
        "bars": bars,
        "duration_s": duration_s,
        "chords": chords,
        "loop": loop,
        "downbeat_s": 0.0 if downbeat_s is None else float(downbeat_s),
        "notes": notes,
    }


# Arguments of a call -> one request for each piece to be made.

CONDITIONS = ("duration_s", "bars", "bpm", "beat_unit", "time_signature", "key", "chords", "downbeat_s")
STRENGTHS = (
    "guidance_scale", "grid_guidance_scale", "negative_guidance_scale", "guidance_rescale", "guidance_interval",
)  # fmt: skip
GRID = ("bpm", "time_signature", "key", "chords", "downbeat_s")  # of CONDITIONS, those that audio can tell
BAR_MATCH = 0.03  # share by which the tempo heard in a loop may be off whole bars
TONE = ("normalize", "loudness_lufs", "true_peak_dbtp", "tilt_db", "fade_in_s", "fade_out_s")


@dataclass
class Request:
    """One piece to make.

    Attributes:
        texts: what it should sound like, one text or a timeline's, without what the words exclude; None beside
            `prompt_embeds`.
        weights: (texts, frames), the share of each.
        unwanted: what it should not sound like, any number of texts; None in place of `negative_prompt_embeds`.
        unwanted_weights: (unwanted, frames), where each is kept out, 0 to 1.
        known: its conditions, see `understand`.
        samples: its length at the pipeline's sampling rate.
        frames: its length in latent frames.
        seed: of its noise.
        strengths: what `STRENGTHS` names.
        tone: what `TONE` names.
        loop: whether its end leads into its beginning.
        arguments: of the call, as they were given for this piece.
        edit: what is to be done to given audio, or None.
    """

    texts: list[str | None]
    weights: torch.Tensor
    unwanted: list[str | None]
    unwanted_weights: torch.Tensor
    known: dict
    samples: int
    frames: int
    seed: int
    strengths: dict
    tone: dict
    loop: bool
    arguments: dict
    edit: Edit | None = None

    @property
    def strength(self) -> float:
        """Noise to begin with where not kept, 1 = all noise."""
        return 1.0 if self.edit is None else self.edit.strength


def spread(name: str, value: object, count: int, shared: bool) -> list:
    """One value for each prompt, of a list with as many or of one value that is for all (`shared`: even a list).

    Numbers of numpy and torch become those of Python.
    """
    if isinstance(value, torch.Tensor) and not shared:
        value = value.tolist()
    listed = isinstance(value, (list, tuple, np.ndarray)) and not shared
    if listed and len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries for {count} prompts; give one for each or for all")
    values = list(value) if listed else [value] * count
    return [one.item() if isinstance(one, np.generic) else one for one in values]


def check_flag(name: str, value: object) -> None:
    """Raise a ValueError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {' '.join(str(value).split())}; allowed: True or False")


def is_list_of_pairs(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(v, (list, tuple)) for v in value)


def read_prompts(prompt, morph, num_embeds: int | None) -> list[tuple[list[float | str], list[str | None]]]:
    """(starts, texts) of each prompt; a morph has no starts.

    Raises:
        ValueError: none or several of prompt, morph and prompt_embeds, or a text that is none.
    """
    if (prompt is not None) + (morph is not None) + (num_embeds is not None) != 1:
        raise ValueError("prompt, morph and prompt_embeds: give exactly one of them (a morph is its own prompt)")
    if num_embeds is not None:
        return [([0], [None])] * num_embeds
    if morph is not None:
        if not isinstance(morph, (list, tuple)) or len(morph) != 2:
            raise ValueError(f"morph is {morph!r}; allowed: two texts, as in ('calm piano', 'drums and bass')")
        entries = [([], list(morph))]
    else:
        if not isinstance(prompt, (str, list, tuple)):
            raise ValueError(f"prompt is {prompt!r}; allowed: a text, a timeline, or a list of either")
        prompts = [prompt] if isinstance(prompt, str) or is_timeline(prompt) else list(prompt)
        if not prompts:
            raise ValueError("prompt is an empty list; give at least one text")
        entries = [
            ([start for start, _ in one], [text for _, text in one]) if is_timeline(one) else ([0], [one])
            for one in prompts
        ]
    for _, texts in entries:
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                name = "prompt" if morph is None else "morph"
                raise ValueError(f"{name} is {text!r}; give a text that is not empty")
            check_text("prompt" if morph is None else "morph", text)
    return entries


def check_strengths(strengths: dict) -> None:
    """Raise a ValueError for a strength out of range."""
    check_number("guidance_scale", strengths["guidance_scale"], 0, 100)
    if strengths["grid_guidance_scale"] is not None:
        check_number("grid_guidance_scale", strengths["grid_guidance_scale"], 0, 100)
    check_number("negative_guidance_scale", strengths["negative_guidance_scale"], 0, 100)
    check_number("guidance_rescale", strengths["guidance_rescale"], 0, 1)
    interval = strengths["guidance_interval"]
    numbers = isinstance(interval, (list, tuple)) and all(isinstance(v, (int, float)) for v in interval)
    if not numbers or len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"guidance_interval is {interval}; allowed: 0 <= low <= high <= 1")


def check_tone(tone: dict, loop: bool, max_duration_s: float) -> None:
    """Raise a ValueError for a level or tone out of range."""
    check_flag("normalize", tone["normalize"])
    check_number("tilt_db", tone["tilt_db"], -24, 24, "dB")
    check_number("true_peak_dbtp", tone["true_peak_dbtp"], -30, 0, "dBTP")
    check_number("loudness_lufs", tone["loudness_lufs"], -60, -3, "LUFS")
    for name in ("fade_in_s", "fade_out_s"):
        check_number(name, tone[name], 0, max_duration_s, "s")
        if loop and tone[name]:
            raise ValueError(f"{name} is {tone[name]} with loop=True; a loop cannot fade, set it to 0")


def check_edit_tone(tone: dict) -> None:
    """Raise a ValueError for a level or tone that an edit cannot have: what is kept is not to be changed."""
    plain = {"loudness_lufs": LOUDNESS_LUFS, "tilt_db": 0, "fade_in_s": 0, "fade_out_s": 0}
    for name, value in plain.items():
        if tone[name] != value:
            raise ValueError(
                f"{name} is {tone[name]} with audio; an edit has the level and the tone of its audio: leave it out"
            )


def make_guidance(
    requests: list[Request], eta: float, threshold: float | None, momentum: float, config, device
) -> Guidance:
    """The strengths of requests as tensors, and the weights that the checkpoint's config gives the parts."""
    rows = [item.strengths for item in requests]
    text = [row["guidance_scale"] for row in rows]
    grid = [scale if row["grid_guidance_scale"] is None else row["grid_guidance_scale"]
            for row, scale in zip(rows, text, strict=True)]  # fmt: skip
    low, high = zip(*(row["guidance_interval"] for row in rows), strict=True)
    negative = [row["negative_guidance_scale"] for row in rows]
    columns = (text, grid, [row["guidance_rescale"] for row in rows], low, high, negative)
    columns = [torch.tensor(c, dtype=torch.float32, device=device) for c in columns]
    weights = config.guidance_channels
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device)
    *columns, negative = columns
    return Guidance(*columns, eta, threshold, momentum, config.guidance_slow, weights, negative=negative)


def keep_out(texts: list[str | None], weights: torch.Tensor, negative_prompt: str | None, restate: bool) -> tuple:
    """Words of each text without what they exclude, unless the network knows such captions (`restate`); the texts to be
    kept out, each once, and where (texts, frames)."""
    if negative_prompt is not None and not isinstance(negative_prompt, str):
        raise ValueError(f"negative_prompt is {negative_prompt!r}; allowed: a text, or None")
    read = [None if text is None else read_exclusion(text) for text in texts]
    where: dict[str, torch.Tensor] = {}
    for exclusion, weight in zip(read, weights, strict=True):
        unwanted = unwanted_text(exclusion, negative_prompt)
        if unwanted is not None:
            where[unwanted] = where.get(unwanted, 0.0) + weight * share_of(unwanted)
    words = [None if one is None else one.restated if restate else one.words for one in read]
    return words, list(where), torch.stack(list(where.values())) if where else weights[:0]


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


def recipe_grid(recipe: dict | None, seconds: float, config) -> dict:
    """What a recipe says of its piece: those of `GRID` that are known, and `loop`. The downbeat is in its own time.

    Args:
        recipe: of `read_recipe`, or None.
        seconds: length of the audio. A piece that was cut since keeps its tempo, meter and key alone.
        config: of the pipeline.
    """
    if recipe is None:
        return {}
    arguments, edited = recipe.get("arguments", {}), "audio" in recipe
    told = {name: arguments.get(name) for name in CONDITIONS}
    loop = arguments.get("loop")
    if edited:  # its length is that of the audio, which the recipe does not hold
        told |= {"duration_s": None, "bars": None}
    try:
        (_, texts), *_ = read_prompts(arguments.get("prompt"), arguments.get("morph"), None)
        lengths = {"default_duration_s": config.default_duration_s, "max_duration_s": config.max_duration_s}
        known = understand(". ".join(texts), **told, **lengths, loop=False if edited else loop)
        before = float((arguments.get("extend_s") or (0.0, 0.0))[0])
    except (ValueError, TypeError, LookupError):  # of another version, or made without words
        return {}
    found = {name: known[name] for name in ("bpm", "time_signature", "key") if known[name] is not None}
    if edited and known["bpm_reason"] is not None:  # its tempo was heard and not written down
        return {"key": found["key"]} if "key" in found else {}
    if not edited and abs(float(known["duration_s"]) - seconds) > 1e-3:
        return found
    found["loop"] = bool(loop) if edited else known["loop"]
    if "bpm" in found and (not edited or told["downbeat_s"] is not None):
        found["downbeat_s"] = known["downbeat_s"] + before
        if known["chords"] is not None:
            found["chords"] = known["chords"]
    return found


def hear(edit: Edit, given: dict, loop: bool | None, prompt: str, config) -> tuple[dict, bool]:
    """Conditions of audio that is to be edited, and whether it is a loop.

    What is given or in the prompt comes first, then what the audio's own recipe says, and at last tempo and downbeat as
    they are heard. A stated tempo or meter that is not the recipe's leaves the rest of its grid out.

    Args:
        edit: the audio and what is to be done to it.
        given: arguments of `CONDITIONS`; downbeat_s counts from the beginning of the given audio.
        loop: None = as the recipe says.
        prompt: its words.
        config: of the pipeline.

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
    for name, unit in (("duration_s", "s"), ("downbeat_s", "s")):
        if given[name] is not None:
            check_number(name, given[name], -1e6, 1e6, unit)
    if given["duration_s"] is not None and abs(given["duration_s"] - seconds) > 1e-3:
        raise ValueError(
            f"duration_s is {given['duration_s']}, but the audio and its extension last {seconds:.3f} s; leave it out"
        )
    music, told = read_music(prompt), recipe_grid(edit.recipe, edit.samples / edit.rate, config)
    known = {name: getattr(music, name, None) if given[name] is None else given[name] for name in GRID}
    if known["time_signature"] is not None:
        known["time_signature"] = str(known["time_signature"]).replace(" ", "")
    meter = known["time_signature"] or told.get("time_signature") or "4/4"
    bpm, _, _ = stated_tempo(music, given["bpm"], meter, given["beat_unit"])
    known["bpm"] = bpm
    if any(known[name] not in (None, told.get(name)) for name in ("bpm", "time_signature")):
        told = {name: told[name] for name in told if name == "key"}
    known = {name: told.get(name) if known[name] is None else known[name] for name in GRID}
    loop = bool(told.get("loop")) and not edit.extended if loop is None else loop
    bpm = known["bpm"]
    if bpm is None or known["downbeat_s"] is None:
        beats = parse_time_signature(meter)
        found = find_beats(edit.given, edit.rate, bpm, beats)
        if found is not None and bpm is None:
            known["bpm"] = round(found[0], 2)
            if loop:  # whole bars, or no tempo
                bars = max(1, round(seconds * found[0] / 60.0 / beats))
                exact = bars * beats * 60.0 / seconds
                known["bpm"] = exact if abs(exact / found[0] - 1.0) < BAR_MATCH else None
        if found is not None and known["bpm"] is not None and known["downbeat_s"] is None:
            known["downbeat_s"] = found[1]
    return given | known | {"duration_s": seconds, "beat_unit": None}, loop


def make_requests(
    pipe,
    entries: list,
    per_item: dict,
    seed,
    generator,
    per_prompt: int,
    single: bool,
    edits: list,
    prompts: list,
) -> list[Request]:
    """One request for each output, `per_prompt` for each prompt.

    Args:
        pipe: the pipeline.
        entries: of `read_prompts`.
        per_item: negative_prompt, loop and what `CONDITIONS`, `STRENGTHS` and `TONE` name; each for all prompts or a
            list for each.
        seed, generator: see `choose_seeds`.
        per_prompt: pieces of each prompt.
        edits: for each prompt what is to be done to given audio, or None.
        prompts: for each what was given.
        single: whether a list of chords is one progression for all rather than one for each prompt.

    Raises:
        ValueError: for any bad argument.
    """
    check_number("num_waveforms_per_prompt", per_prompt, 1, 1000, whole=True)
    count = len(entries)
    shared = {
        "chords": single,
        "guidance_interval": not is_list_of_pairs(per_item["guidance_interval"]),
    }
    columns = {name: spread(name, value, count, shared.get(name, False)) for name, value in per_item.items()}
    seeds = choose_seeds(seed, generator, count, per_prompt)
    rate, hop, requests = pipe.vae.config.sampling_rate, pipe.vae.hop_length, []
    for i, (starts, texts) in enumerate(entries):
        strengths, tone = ({name: columns[name][i] for name in names} for names in (STRENGTHS, TONE))
        loop = columns["loop"][i]
        if loop is not None:
            check_flag("loop", loop)
        elif edits[i] is None and (tone["fade_in_s"] or tone["fade_out_s"]):
            loop = False  # the words alone make no loop of these
        negative = columns["negative_prompt"][i]
        if negative is not None and not isinstance(negative, str):
            raise ValueError(f"negative_prompt is {negative!r}; allowed: a text, or a list with one for each prompt")
        check_strengths(strengths)
        check_tone(tone, loop, pipe.config.max_duration_s)
        given, edit = {name: columns[name][i] for name in CONDITIONS}, edits[i]
        arguments = {name: column[i] for name, column in columns.items()}
        if edit is not None:
            check_edit_tone(tone)
            words = ". ".join(text for text in texts if text is not None)
            given, loop = hear(edit, given, loop, words, pipe.config)
            edit, arguments["loop"] = replace(edit, loop=loop), loop
            arguments |= {name: given[name] for name in (*GRID, "beat_unit")}  # what its recipe need not find out again
            if given["downbeat_s"] is not None:
                given["downbeat_s"] += edit.offset_s
        known = understand(
            ". ".join(text for text in texts if text is not None),
            **given,
            default_duration_s=pipe.config.default_duration_s,
            max_duration_s=pipe.config.max_duration_s,
            loop=loop,
        )
        samples = round(known["duration_s"] * rate)  # exact for bars: the duration is a fraction
        known["duration_s"] = samples / rate
        frames, loop = -(-samples // hop), known["loop"]
        if loop:  # a whole number of frames, as near as can be; the decoded circle is then brought to its exact length
            frames = max(1, round(Fraction(samples, hop)))
            known["stretch"] = samples / (frames * hop)
        if not starts:
            weights = morph_weights(frames)
        else:
            starts_s = [read_start(start, known["bpm"], known["beats_per_bar"]) for start in starts]
            weights = timeline_weights(starts_s, frames, pipe.frame_rate, known["duration_s"])
        if isinstance(columns["negative_prompt"][i], str):
            check_text("negative_prompt", columns["negative_prompt"][i])
        arguments["prompt"] = prompts[i]
        words, unwanted, unwanted_weights = keep_out(
            texts, weights, columns["negative_prompt"][i], pipe.config.captions_state_absence
        )
        for w in range(per_prompt):
            own = seeds[i * per_prompt + w]
            requests.append(
                Request(
                    words, weights, unwanted, unwanted_weights, known, samples, frames, own, strengths, tone, loop,
                    arguments, edit,
                )
            )  # fmt: skip
    return requests
