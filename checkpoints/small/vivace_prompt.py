"""Tempo, key, meter and length, from the words of a prompt and from arguments.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import re
from fractions import Fraction

import numpy as np

from .vivace_reading import BPM_RANGE, Music, read_music
from .vivace_theory import (
    beat_length,
    beat_unit_name,
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


def check_number(name: str, value: float, low: float, high: float, unit: str = "", whole: bool = False) -> None:
    """Raise a ValueError unless `value` is a number in [low, high], and a whole one if asked.

    A number in a text ("96") is none: it is named in quotes.
    """
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (whole and value != int(value)):
        kind = "whole numbers" if whole else "numbers"
        value = " ".join((repr(str(value)) if isinstance(value, str) else str(value)).split())  # an array has lines
        raise ValueError(f"{name} is {value}; allowed: {kind} from {low:g} to {high:g}{unit and ' ' + unit}")


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
