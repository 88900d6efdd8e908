"""Tempo, key, meter and length, from the words of a prompt and from arguments.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import re
from fractions import Fraction

import numpy as np

from .vivace_theory import parse_key, parse_time_signature, progression_beats

BPM_RANGE = (20.0, 300.0)  # beats a minute
MIN_DURATION_S = 0.5
MAX_LOOP_S = 120.0  # a circle is made in one piece
DEFAULT_BPM = 100
TEMPO_WORDS = {  # the metronome's usual marks; the first word found decides
    60: "very slow|largo|grave|lento|drone|ambient",
    152: "very fast|presto|vivace|frantic|frenetic|breakneck|furious",
    72: "slow|slowly|adagio|ballad|lullaby|calm|peaceful|gentle|relaxed|sleepy|solemn|mournful",
    132: "fast|quick|allegro|lively|upbeat|energetic|driving|brisk",
    88: "andante|mid-tempo|midtempo|laid-back|lofi|lo-fi",
    112: "moderato|moderate",
}
NUMBER_WORDS = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "sixteen",
]  # fmt: skip
NUMBERS = dict(zip(NUMBER_WORDS, [*range(1, 13), 16], strict=True))
COUNT = rf"(\d{{1,4}}|{'|'.join(NUMBER_WORDS)})"
DECIMAL = r"(\d+(?:\.\d+)?)"
BPM_PATTERNS = (
    rf"\b{DECIMAL}[\s-]*(?:bpm|beats (?:per|a) minute)\b",
    rf"\bbpm\s*(?:of|is|=|:)?\s*{DECIMAL}\b",
    rf"\b(?:tempo|metronome)\s*(?:of|is|on|at|=|:)?\s*{DECIMAL}\b",
)
KEY_PATTERN = re.compile(
    r"(?P<lead>\b(?:in|key of|key:)\s+(?:the key of\s+)?)?(?<![\w#'\u266f\u266d-])(?P<note>[A-Ga-g])"
    r"(?P<accidental>[ -](?:sharp|flat)\b|(?:sharp|flat)\b|[#b\u266f\u266d])?"
    r"(?:[ -]*(?P<mode>major|minor|maj|min)\b|(?P<m>m)\b)"
)
NOT_AN_ARTICLE = re.compile(r"\s*(?:$|[.,;:!?()\d/-]|(?:at|with|and|for|on|key|scale|tonality|mode)\b)")


def read_key(prompt: str) -> str | None:
    """The first key in a prompt; "a minor detail" and "A major hit" hold none.

    A lower-case a, or an A that begins a sentence, may be an article: it is a note only when what follows the mode is
    no noun (the end, punctuation, a number, "at", "with", ...), and a lower-case a also needs "in" or "key of" before.
    "Am" is a key only after "in" or "key of"; elsewhere it is a chord.
    """
    for match in KEY_PATTERN.finditer(prompt):
        lead, note, accidental = match["lead"], match["note"], match["accidental"]
        if match["m"] and not lead:
            continue
        if note in "Aa" and not accidental and not match["m"]:
            starts_sentence = re.search(r"(?:^|[.!?])\s*$", prompt[: match.start()]) is not None
            if (note == "a" or (starts_sentence and not lead)) and not NOT_AN_ARTICLE.match(prompt[match.end() :]):
                continue
            if note == "a" and not lead:
                continue
        return parse_key(f"{note}{accidental or ''} {match['mode'] or 'minor'}")
    return None


def read_prompt(prompt: str) -> dict[str, float | int | str | None]:
    """Tempo, key, meter and length that a prompt spells out; what it does not say is None.

    Returns:
        `bpm` (beats a minute), `key` (a name in `KEYS`), `time_signature` ("3/4"), `bars` and `duration_s`. Numbers
        are returned as written and not checked.
    """
    text = prompt.lower()
    bpm = next((match for match in (re.search(pattern, text) for pattern in BPM_PATTERNS) if match), None)
    meter = re.search(r"(?<![\d/])(\d{1,2})/(2|4|8|16)(?![\d/])", text)
    bars = re.search(rf"\b{COUNT}[\s-]*(?:bars?|measures?)\b(?![\s-]*blues)", text)  # "12-bar blues" is a form
    seconds = re.search(rf"\b{DECIMAL}[\s-]*(?:seconds?|secs?)\b", text)
    # "30s" is a length, "80s synth pop" and "the 30s" are decades.
    short = re.search(r"(?<!the )(?<![\w.'])(\d{1,2}|[1-5]\d\d)s(?=\s*(?:$|[.,;)]|long\b|loop\b|clip\b))", text)
    minutes = re.search(rf"\b{DECIMAL}[\s-]*(?:minutes?|mins?)\b", text)
    duration_s = None
    if seconds:
        duration_s = float(seconds[1])
    elif short and int(short[1]) not in (50, 60, 70, 80, 90):
        duration_s = float(short[1])
    elif minutes:
        duration_s = 60.0 * float(minutes[1])
    bpm_value = None if bpm is None else float(bpm[1])
    return {
        "bpm": int(bpm_value) if bpm_value is not None and bpm_value.is_integer() else bpm_value,
        "key": read_key(prompt),
        "time_signature": meter and meter[0],
        "bars": bars and (int(bars[1]) if bars[1].isdigit() else NUMBERS[bars[1]]),
        "duration_s": duration_s,
    }


def check_number(name: str, value: float, low: float, high: float, unit: str = "", whole: bool = False) -> None:
    """Raise a ValueError unless `value` is a number in [low, high], and a whole one if asked."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (whole and value != int(value)):
        kind = "whole numbers" if whole else "numbers"
        value = " ".join(str(value).split())  # an array has lines
        raise ValueError(f"{name} is {value}; allowed: {kind} from {low:g} to {high:g}{unit and ' ' + unit}")


def choose_bpm(prompt: str, beats: Fraction | None, duration_s: float | None) -> tuple[float, str]:
    """A tempo where bars or chords need one and none is said, and why it was chosen.

    Bars that must last a given time fix the tempo. Otherwise the words that composers have for tempo decide, at the
    usual metronome marks, and 100 where there are none: a walking pace, in the middle of most music's range.
    """
    if beats is not None and duration_s is not None:
        return float(beats) * 60.0 / duration_s, "the bars must fill the duration"
    for bpm, words in TEMPO_WORDS.items():
        found = re.search(rf"\b(?:{words})\b", prompt.lower())
        if found:
            return bpm, f"the prompt says {found[0]!r}"
    return DEFAULT_BPM, "no word of the prompt tells"


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
    loop: bool = False,
    downbeat_s: float | None = None,
) -> dict:
    """The conditions of one item: the arguments, and what the prompt says where an argument is None.

    Bars and chords need a tempo; where none is said, `choose_bpm` takes one. Chords without a length last as long as
    the progression, as often as fits into the default duration, and a loop with a tempo has whole bars.

    Returns:
        `bpm`, `bpm_reason` (why it was chosen, None = it was said), `key`, `time_signature`, `beats_per_bar`, `bars`,
        `duration_s` (a float, or a Fraction where bars and tempo fix it), `chords`, `downbeat_s`; None = unknown.

    Raises:
        ValueError: a value out of range or unreadable, lengths that differ, chords that the piece is too short for, or
            a loop that is no whole number of bars.
    """
    max_duration_s = min(max_duration_s, MAX_LOOP_S) if loop else max_duration_s
    read = read_prompt(prompt or "")
    bpm, reason = (read["bpm"] if bpm is None else bpm), None
    key = read["key"] if key is None else parse_key(key)
    time_signature = read["time_signature"] if time_signature is None else str(time_signature).replace(" ", "")
    if bars is None and duration_s is None:
        bars = read["bars"]
        duration_s = read["duration_s"] if bars is None else None
    if bars is not None:
        check_number("bars", bars, 1, 10000, whole=True)
        bars = int(bars)
    if downbeat_s is not None:
        check_number("downbeat_s", downbeat_s, -max_duration_s, max_duration_s, "s")
    if duration_s is not None:
        check_number("duration_s", duration_s, MIN_DURATION_S, max_duration_s, "s")
    if bpm is not None or bars is not None or chords is not None:
        time_signature = "4/4" if time_signature is None else time_signature
    beats_per_bar = None if time_signature is None else parse_time_signature(time_signature)
    if bpm is None and (bars is not None or chords is not None):
        bpm, reason = choose_bpm(prompt or "", bars and Fraction(bars * beats_per_bar), duration_s)
    if bpm is not None:
        check_number("bpm", bpm, *BPM_RANGE, "beats a minute" + (f" ({reason})" if reason else ""))

    def length_of(bars: int) -> Fraction:
        return Fraction(bars * beats_per_bar * 60) / Fraction(str(bpm))

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
        "key": key,
        "time_signature": time_signature,
        "beats_per_bar": beats_per_bar,
        "bars": bars,
        "duration_s": duration_s,
        "chords": chords,
        "downbeat_s": 0.0 if downbeat_s is None else float(downbeat_s),
    }
