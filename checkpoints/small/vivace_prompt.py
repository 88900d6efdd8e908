"""Tempo, key, meter and length, from the words of a prompt and from arguments.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import re
from fractions import Fraction

import numpy as np

from .vivace_theory import parse_chords, parse_key, parse_time_signature

BPM_RANGE = (20.0, 300.0)  # beats a minute
MIN_DURATION_S = 0.5
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
        raise ValueError(f"{name} is {value}; allowed: {kind} from {low:g} to {high:g}{unit and ' ' + unit}")


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
) -> dict:
    """The conditions of one item: the arguments, and what the prompt says where an argument is None.

    Returns:
        `bpm`, `key`, `time_signature`, `beats_per_bar`, `bars`, `duration_s` (a float, or a Fraction where bars and
        tempo fix it), `chords`; None = unknown, but for `duration_s`.

    Raises:
        ValueError: a value out of range or unreadable, bars or chords without a tempo, or two lengths that differ.
    """
    read = read_prompt(prompt or "")
    bpm = read["bpm"] if bpm is None else bpm
    key = read["key"] if key is None else parse_key(key)
    time_signature = read["time_signature"] if time_signature is None else str(time_signature).replace(" ", "")
    if bpm is not None:
        check_number("bpm", bpm, *BPM_RANGE, "beats a minute")
        time_signature = "4/4" if time_signature is None else time_signature
    beats_per_bar = None if time_signature is None else parse_time_signature(time_signature)
    if bars is None and duration_s is None:
        bars = read["bars"]
        duration_s = read["duration_s"] if bars is None else None
    if bars is not None:
        check_number("bars", bars, 1, 10000, whole=True)
        if bpm is None:
            raise ValueError(f"bars is {bars} and needs a tempo: give bpm, or write it in the prompt, as in '90 bpm'")
        exact = Fraction(int(bars) * beats_per_bar * 60) / Fraction(str(bpm))
        if duration_s is not None and abs(float(exact) - duration_s) > 1e-3:
            raise ValueError(
                f"duration_s is {duration_s}, but {int(bars)} bars of {time_signature} at {bpm:g} bpm last "
                f"{float(exact):.3f} s; give one of them, or equal lengths"
            )
        duration_s, bars, name = exact, int(bars), f"duration_s ({int(bars)} bars at {bpm:g} bpm)"
        check_number(name, round(float(exact), 3), MIN_DURATION_S, max_duration_s, "s")
    else:
        duration_s = default_duration_s if duration_s is None else duration_s
        check_number("duration_s", duration_s, MIN_DURATION_S, max_duration_s, "s")
    if chords is not None:
        if bpm is None:
            raise ValueError(f"chords is {chords!r} and needs a tempo: give bpm, or write it in the prompt")
        parse_chords(chords, beats_per_bar, 1)
        chords = chords if isinstance(chords, str) else " ".join(chords)
    return {
        "bpm": bpm,
        "key": key,
        "time_signature": time_signature,
        "beats_per_bar": beats_per_bar,
        "bars": bars,
        "duration_s": duration_s,
        "chords": chords,
    }
