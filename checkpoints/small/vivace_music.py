"""Prompts, and the tempo, key, meter, length and chords of a piece, settled from them and the arguments of a call."""

import itertools
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from .vivace_reading import (
    BPM_RANGE,
    LONGEST,
    THINGS,
    Exclusion,
    MusicWords,
    join_words,
    read_exclusion,
    read_music,
    things_in,
)
from .vivace_score import Score, slice_chords
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

if TYPE_CHECKING:
    import torch


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
STYLE_TEMPI = {  # what players of a style usually take
    172: "drum (?:and|&|n|'n'|n') bass|drum'n'bass|dnb|jungle",
    140: "dubstep",
    138: "trance|chiptune|8-bit",
    132: "techno|swing|bebop|waltz",
    124: "house|edm|bossa nova|bossa",
    120: "rock|disco|polka|minuet",
    116: "march|jig",
    104: "funk|funky",
    96: "salsa",
    92: "blues",
    90: "hip hop|hip-hop|boom bap",
    76: "reggae|dub",
    72: "trap",
}


@dataclass
class Lengths:
    """Lengths of a checkpoint, seconds: of a piece that states none, and of the longest."""

    default_s: float
    longest_s: float


@dataclass
class MusicArguments:
    """Arguments of a call for one piece that concern its grid; None = not given. `VivacePipeline` says what they mean.

    With a given recording `downbeat_s` counts from its beginning until `make_requests` adds what is put before it.
    """

    duration_s: float | None = None
    bars: int | None = None
    bpm: float | None = None
    beat_unit: str | None = None
    time_signature: str | None = None
    key: str | None = None
    chords: str | list[str] | None = None
    downbeat_s: float | None = None


@dataclass
class Music:
    """Tempo, meter, key, length and chords of a piece; None = open.

    Attributes:
        duration_s: length in seconds; a Fraction where bars and tempo fix it.
        bpm: beats of the meter a minute.
        bpm_reason: why this tempo was chosen; None = it was given or in the prompt.
        beat_unit: name of the note that is a beat.
        key: as it was spelled; `parse_key` gives the network's name.
        time_signature: as in "3/4".
        beats_per_bar: of that meter.
        bars: length in bars.
        chords: as `read_progression` takes them.
        loop: whether the end leads into the beginning.
        downbeat_s: time of a first beat of a bar, seconds.
        notes: sentences on what in the words is not used as it stands.
        stretch: how much longer the piece is than its latent frames: a circle has a whole number of them.
    """

    duration_s: float | Fraction
    bpm: float | int | None = None
    bpm_reason: str | None = None
    beat_unit: str | None = None
    key: str | None = None
    time_signature: str | None = None
    beats_per_bar: int | None = None
    bars: int | None = None
    chords: str | None = None
    loop: bool = False
    downbeat_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    stretch: float = 1.0


def choose_bpm(
    prompt: str, beats: Fraction | None, duration_s: float | None, unread: bool = False
) -> tuple[float | int, str]:
    """A tempo where bars or chords need one and none is stated, and why it was chosen.

    Bars that must last a given time fix the tempo. Otherwise the words that composers have for tempo decide, at the
    usual metronome marks, and the style, at what its players take; of a fast word and a style the faster, of a slow
    word and a style the slower. Where there is neither it is 100: a walking pace, in the middle of most music's range.

    Args:
        prompt: the words.
        beats: that must fill `duration_s`, seconds; either may be None.
        unread: whether the words hold what may be a tempo and could not be used.
    """
    if beats is not None and duration_s is not None:
        return float(beats) * 60.0 / duration_s, "the bars must fill the duration"

    def first(table: dict[int, str]) -> list[tuple[int, str]]:
        found = (
            (bpm, re.search(rf"(?<!not )(?<!not too )(?<!not so )(?<![\w-])(?:{words})\b", prompt.lower()))
            for bpm, words in table.items()
        )
        return [(bpm, f"the prompt says {match[0]!r}") for bpm, match in found if match][:1]

    stated = first(TEMPO_WORDS) + ([] if unread else first(STYLE_TEMPI))
    if stated:
        return max(stated) if stated[0][0] >= DEFAULT_BPM else min(stated)
    return DEFAULT_BPM, "the prompt's tempo was not understood" if unread else "no word of the prompt tells"


def stated_tempo(
    words: MusicWords, bpm: float | None, time_signature: str | None, beat_unit: str | None
) -> tuple[int | float | None, Fraction | None, str | None]:
    """The tempo that is stated, by the arguments or else by the words.

    Args:
        words: what the prompt says.
        bpm: the argument: `beat_unit`s a minute.
        time_signature: the meter, None = 4/4.
        beat_unit: name of the note that `bpm` counts; None = the meter's beat, or what the words name with their tempo.

    Returns:
        Beats of the meter a minute, as a number and exactly, and a note where another note than the beat was counted;
        all None where no tempo is stated.

    Raises:
        ValueError: a tempo out of range, or an unknown `beat_unit`.
    """
    unit = parse_beat_unit(beat_unit) if beat_unit is not None else None
    if bpm is None:
        bpm = words.bpm
        if bpm is not None and words.beat_unit is not None and unit is None:
            unit = parse_beat_unit(words.beat_unit)
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
) -> Music:
    """`settle` for a prompt and the arguments of a call."""
    given = MusicArguments(duration_s, bars, bpm, beat_unit, time_signature, key, chords, downbeat_s)
    return settle(read_music(prompt or ""), given, loop, default_duration_s, max_duration_s)


def settle(
    words: MusicWords, given: MusicArguments, loop: bool | None, default_duration_s: float, max_duration_s: float,
    in_bars: bool = False,
) -> Music:  # fmt: skip
    """The music of one piece: the arguments, and what the prompt says where an argument is None.

    Bars and chords need a tempo; where none is given, `choose_bpm` takes one. Chords without a length last as long as
    the progression, as often as fits into the default duration, and a loop with a tempo has whole bars. A loop that
    only the words ask for is made where that can be; where not, the piece is no loop and a note says why.

    Args:
        words: what the prompt says.
        given: the arguments.
        loop: None = as the words say.
        default_duration_s, max_duration_s: of the checkpoint, seconds.
        in_bars: whether the piece needs a tempo, and whole bars where no length is given, as one that is composed.

    Raises:
        ValueError: a value out of range or unreadable, lengths that differ, chords that the piece is too short for, or
            a loop that is no whole number of bars.
    """
    lengths = (default_duration_s, max_duration_s, in_bars)
    if loop is None and words.loop:
        try:
            return _settle(words, given, True, *lengths)
        except ValueError as error:
            music = _settle(words, given, False, *lengths)
            music.notes.append(f"loop: the words ask for one, which this piece cannot be: {error}")
            return music
    music = _settle(words, given, bool(loop), *lengths)
    if loop is not None and words.loop is not None and words.loop != bool(loop):
        wish = "ask for a loop" if words.loop else "want no loop"
        music.notes.append(f"loop: the words {wish}, but loop={bool(loop)} is given and taken")
    return music


def _settle(
    words: MusicWords,
    given: MusicArguments,
    loop: bool,
    default_duration_s: float,
    max_duration_s: float,
    in_bars: bool,
) -> Music:
    """`settle` with `loop` decided."""
    max_duration_s = min(max_duration_s, MAX_LOOP_S) if loop else max_duration_s
    notes = list(words.notes)

    def compare(kind: str, in_words: object, value: object) -> None:
        if in_words is not None and in_words != value:
            notes.append(f"{kind}: the words say {in_words}, but {value} is taken")

    # 1. Key and meter
    key = words.key if given.key is None else spell_key(given.key)
    if given.key is not None and words.key is not None and parse_key(words.key) != parse_key(given.key):
        compare("key", words.key, key)
    meter = words.time_signature
    if given.time_signature is not None:
        meter = str(given.time_signature).replace(" ", "")
        compare("meter", words.time_signature, meter)

    # 2. The length that is given, in bars or in seconds
    bars = given.bars
    duration_s: Any = given.duration_s
    if bars is None and duration_s is None:
        bars = words.bars
        duration_s = words.duration_s if bars is None else None
    if bars is not None:
        check_number("bars", bars, 1, 10000, whole=True)
        bars = int(bars)
    if given.downbeat_s is not None:
        check_number("downbeat_s", given.downbeat_s, -max_duration_s, max_duration_s, "s")
    if duration_s is not None:
        check_number("duration_s", duration_s, MIN_DURATION_S, max_duration_s, "s")

    # 3. The tempo, which bars and chords need
    bpm: Any
    exact_bpm: Any
    bpm, exact_bpm, counted = stated_tempo(words, given.bpm, meter, given.beat_unit)
    if counted is not None:
        notes.append(counted)
    if given.bpm is not None and words.bpm is not None and bpm is not None:
        beat = beat_length(meter or "4/4")
        unit = beat if words.beat_unit is None else parse_beat_unit(words.beat_unit)
        words_bpm = float(Fraction(str(words.bpm)) * unit / beat)
        if abs(words_bpm - bpm) > 1e-6:
            compare("tempo", f"{words_bpm:g} bpm", f"{bpm:g}")
    counts_bars = bars is not None or given.chords is not None or in_bars
    if bpm is not None or counts_bars:
        meter = "4/4" if meter is None else meter
    beats_per_bar: Any = None if meter is None else parse_time_signature(meter)
    reason = None
    if bpm is None and counts_bars:
        unread = any(note.startswith("tempo:") for note in notes)
        bpm, reason = choose_bpm(
            words.prompt, None if bars is None else Fraction(bars * beats_per_bar), duration_s, unread
        )
        check_number("bpm", bpm, *BPM_RANGE, f"beats a minute ({reason})")
        exact_bpm = Fraction(str(bpm))

    def length_of(bars: int) -> Fraction:
        return Fraction(bars * beats_per_bar * 60) / exact_bpm

    # 4. The length in whole bars where something asks for them
    num_beats = 0 if given.chords is None else progression_beats(given.chords, beats_per_bar)
    if bars is None and duration_s is None and (loop or given.chords is not None or in_bars) and bpm is not None:
        unit_bars = -(-num_beats // beats_per_bar) or 1  # bars of a progression, or one
        bars = unit_bars * max(1, int(Fraction(str(default_duration_s)) / length_of(unit_bars)))
    if bars is None and loop and bpm is not None:
        bars = round(Fraction(str(duration_s)) / length_of(1))
        if bars < 1 or abs(float(length_of(bars)) - duration_s) > 1e-3:
            raise ValueError(
                f"duration_s is {duration_s}, which is {duration_s / float(length_of(1)):.3f} bars of {meter} "
                f"at {bpm:g} bpm; a loop with a tempo has whole bars, as with bars={max(bars, 1)} "
                f"({float(length_of(max(bars, 1))):.3f} s)"
            )
        duration_s = None
    if bars is not None:
        exact = Fraction(str(duration_s)) if reason and duration_s is not None else length_of(bars)
        if duration_s is not None and abs(float(exact) - duration_s) > 1e-3:
            raise ValueError(
                f"duration_s is {duration_s}, but {bars} bars of {meter} at {bpm:g} bpm last "
                f"{float(exact):.3f} s; give one of them, or equal lengths"
            )
        duration_s, name = exact, f"duration_s ({bars} bars at {bpm:g} bpm)"
        check_number(name, round(float(exact), 3), MIN_DURATION_S, max_duration_s, "s")
    duration_s = default_duration_s if duration_s is None else duration_s
    if words.bars is not None and bars is not None:
        compare("length", f"{words.bars} bars", f"{bars} bars")
    elif words.bars is not None and (bpm is None or abs(float(length_of(words.bars)) - duration_s) > 1e-3):
        compare("length", f"{words.bars} bars", f"{float(duration_s):g} s")
    if words.duration_s is not None and abs(words.duration_s - float(duration_s)) > 1e-3:
        compare("length", f"{words.duration_s:g} s", f"{float(duration_s):g} s")

    # 5. Chords, all of which must begin within the piece
    chords = given.chords
    if chords is not None:
        last_start = num_beats - progression_beats(chords, beats_per_bar, last=True)
        if last_start * 60.0 / bpm > float(duration_s) + 60.0 / bpm:
            raise ValueError(
                f"chords last {num_beats} beats ({num_beats * 60.0 / bpm:.3f} s at {bpm:g} bpm), but the piece is "
                f"{float(duration_s):.3f} s long; give fewer chords or more bars"
            )
        chords = chords if isinstance(chords, str) else " ".join(chords)
    return Music(
        duration_s=duration_s,
        bpm=bpm,
        bpm_reason=reason,
        beat_unit=None if bpm is None else beat_unit_name(beat_length(meter or "4/4")),
        key=key,
        time_signature=meter,
        beats_per_bar=beats_per_bar,
        bars=bars,
        chords=chords,
        loop=loop,
        downbeat_s=0.0 if given.downbeat_s is None else float(given.downbeat_s),
        notes=notes,
    )


# The music of a piece that plays a score or is composed.

DANCES = (("waltz|waltze|minuet|mazurka|ländler", "3/4"), ("jig|tarantella|barcarolle", "6/8"))


def meter_of(prompt: str) -> str | None:
    """The meter of the dance that the words of a prompt name, for music that is composed; None = none."""
    for words, meter in DANCES:
        if re.search(rf"(?<![\w-])(?:{words})s?(?![\w-])", prompt.lower()):
            return meter
    return None


def describe(score: Score) -> str:
    """Words for a score without a prompt: the instruments of its parts."""
    return ", ".join(score.instruments) or "instrumental music"


def arguments_of_score(score: Score, given: MusicArguments, words: MusicWords) -> tuple[MusicArguments, list[str]]:
    """Arguments completed by what a score fixes, and sentences on what in it is not used as it stands.

    Tempo, meter, key, chords and length that are given, or in the prompt, come first.
    """
    notes = list(score.remarks)

    def choose(name: str, own: str | None) -> str | None:
        stated = getattr(words, name) if getattr(given, name) is None else getattr(given, name)
        if stated is None:
            return own
        same = parse_key(str(stated)) == own if name == "key" and own is not None else stated == own
        if own is not None and not same:
            notes.append(f"score: its {name} is {own}, but {stated} is taken")
        return getattr(given, name)

    tempo = given.bpm if given.bpm is not None else words.bpm
    if tempo is not None and abs(float(tempo) - score.bpm) > 1e-6:
        notes.append(f"score: its tempo is {score.bpm:g} bpm, but {float(tempo):g} bpm is taken")
    time_signature = choose("time_signature", score.time_signature)
    key = choose("key", score.key)
    chords = given.chords if given.chords is not None else shorter_chords(score, given, words, time_signature)
    length: dict[str, Any] = {"bars": given.bars, "duration_s": given.duration_s}
    if all(value is None for value in (*length.values(), words.bars, words.duration_s)):
        length["bars"] = score.bars
    bpm = given.bpm if tempo is not None else score.bpm
    return replace(given, bpm=bpm, time_signature=time_signature, key=key, chords=chords, **length), notes


def shorter_chords(score: Score, given: MusicArguments, words: MusicWords, time_signature: str | None) -> str | None:
    """The chords of a score, as far as a length in bars that is given, or in the prompt, leaves room for them."""
    free = given.bars is None and given.duration_s is None
    bars, meter = words.bars if free else given.bars, time_signature or words.time_signature or score.time_signature
    if score.chords is None or not isinstance(bars, int) or not 1 <= bars < (score.bars or 0):
        return score.chords
    beats = parse_time_signature(meter)
    longer = progression_beats(score.chords, beats) > bars * beats
    return slice_chords(score.chords, beats, 0, bars * beats) if longer else score.chords


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


def timeline_weights(starts_s: list[float], frames: int, frame_rate: float, duration_s: float) -> "torch.Tensor":
    """Share of each text in each frame, (texts, frames): one after another, with crossfades of `CROSSFADE_S`.

    Raises:
        ValueError: a first entry that does not start at 0, entries out of order, or one that starts after the end.
    """
    import torch  # here, as in the functions below, so that words are checked without it

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


def morph_weights(frames: int) -> "torch.Tensor":
    """(2, frames): from the first text alone to the second alone, in a straight line."""
    import torch

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
    def text(self) -> str:
        """All its texts as one."""
        return ". ".join(text for text in self.texts if text is not None)

    @property
    def words(self) -> MusicWords:
        """What all its texts say of the music."""
        return read_music(self.text)

    def weights(self, music: Music, frames: int, frame_rate: float) -> "torch.Tensor":
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
        given: list[Any] = [prompt] if isinstance(prompt, str) or is_timeline(prompt) else list(prompt)
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


def share_of(unwanted: str | None) -> float:
    """How much of `negative_guidance_scale` keeps such a text out: all for drums, which most music has and which need
    the most, less for the rest, so that no more than what is named goes with it. None = a text that nobody can read.
    """
    return 1.0 if unwanted is not None and "drums" in things_in(unwanted) else 0.4


def unwanted_text(exclusion: Exclusion | None, negative_prompt: str | None) -> str | None:
    """What guidance leads away from: what a prompt excludes and what `negative_prompt` names; None if nothing.

    Instruments of the negative prompt bring their other words with them.
    """
    texts = []
    if negative_prompt is not None and negative_prompt.strip():
        texts += [THINGS[name][1] for name in things_in(negative_prompt[:LONGEST])] + [negative_prompt]
    if exclusion is not None and exclusion.unwanted is not None:
        texts.append(exclusion.unwanted)
    return join_words(texts)


def keep_out(
    texts: list, weights: "torch.Tensor", negative_prompt: str | None, restate: bool
) -> "tuple[list, list, torch.Tensor]":
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
    import torch

    exclusions = [None if text is None else read_exclusion(text) for text in texts]
    where: dict[str, torch.Tensor] = {}
    for exclusion, weight in zip(exclusions, weights, strict=True):
        unwanted = unwanted_text(exclusion, negative_prompt)
        if unwanted is not None:
            where[unwanted] = where.get(unwanted, 0.0) + weight * share_of(unwanted)
    wanted = [None if one is None else one.restated if restate else one.words for one in exclusions]
    return wanted, list(where), torch.stack(list(where.values())) if where else weights[:0]


# One value for all prompts, or one for each.


def spread(name: str, value: Any, count: int, shared: bool) -> list:
    """One value for each prompt, of a list with as many or of one value that is for all (`shared`: even a list).

    Numbers of numpy and torch become those of Python.
    """
    if callable(getattr(value, "tolist", None)) and not isinstance(value, np.generic) and not shared:
        value = value.tolist()  # of torch or numpy
    if isinstance(value, (list, tuple)) and not shared:
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
