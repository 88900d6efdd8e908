"""Names of keys, meters and chords -> numbers.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import re

import numpy as np

PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEYS = tuple(f"{note} {mode}" for note in PITCH_CLASSES for mode in ("major", "minor"))
MAX_BEATS_PER_BAR = 15
NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"": 0, "#": 1, "\u266f": 1, "sharp": 1, "b": -1, "\u266d": -1, "flat": -1}
# Semitones above the root, and the names of such a chord.
CHORD_QUALITIES = {
    (0, 4, 7): ("", "maj", "M", "major"), (0, 3, 7): ("m", "min", "-", "minor"), (0, 7): ("5",),
    (0, 4, 7, 10): ("7", "dom7"), (0, 4, 7, 11): ("maj7", "M7", "Maj7"), (0, 3, 7, 10): ("m7", "min7", "-7"),
    (0, 3, 7, 11): ("mmaj7", "mM7", "m(maj7)"), (0, 3, 6): ("dim", "o"), (0, 3, 6, 9): ("dim7", "o7"),
    (0, 3, 6, 10): ("m7b5", "min7b5"), (0, 4, 8): ("aug", "+"), (0, 2, 7): ("sus2",), (0, 5, 7): ("sus4", "sus"),
    (0, 5, 7, 10): ("7sus4", "7sus"), (0, 4, 7, 9): ("6", "maj6"), (0, 3, 7, 9): ("m6", "min6"),
    (0, 2, 4, 7): ("add9",), (0, 2, 4, 7, 10): ("9",), (0, 2, 4, 7, 11): ("maj9", "M9"),
    (0, 2, 3, 7, 10): ("m9", "min9"),
}  # fmt: skip
QUALITY_INTERVALS = {name: intervals for intervals, names in CHORD_QUALITIES.items() for name in names}
NO_CHORD = ("N", "NC", "N.C.")


def parse_note(letter: str, accidental: str) -> int:
    """Pitch class 0..11 (C = 0) of a letter and "#", "b", "sharp", "flat" or ""."""
    return (NATURALS[letter.upper()] + ACCIDENTALS[accidental.strip(" -").lower()]) % 12


def parse_key(text: str) -> str:
    """Name in `KEYS` of "A minor", "am", "C# major", "F sharp min", "Bb".

    Raises:
        ValueError: if it is no key.
    """
    match = re.fullmatch(
        r"\s*([A-Ga-g])([ -]?(?:sharp|flat)|[#b\u266f\u266d])?[ -]*(major|minor|maj|min|m|M)?\s*", str(text)
    )
    if match is None:
        raise ValueError(
            f"key is {text!r}; allowed: a note from A to G, optionally # or b, then major or minor, as in 'Bb major'"
        )
    letter, accidental, mode = match.groups()
    minor = mode in ("minor", "min", "m")
    return f"{PITCH_CLASSES[parse_note(letter, accidental or '')]} {'minor' if minor else 'major'}"


def parse_time_signature(text: str) -> int:
    """Beats in a bar: 4 for "4/4", 2 for "6/8", where the beat is the dotted quarter.

    Raises:
        ValueError: if it is no time signature.
    """
    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(2|4|8|16)\s*", str(text))
    upper = int(match[1]) if match else 0
    if upper and int(match[2]) >= 8 and upper > 3 and upper % 3 == 0:  # compound meter: three to the beat
        upper //= 3
    if not 1 <= upper <= MAX_BEATS_PER_BAR:
        raise ValueError(
            f"time_signature is {text!r}; allowed: at most {MAX_BEATS_PER_BAR} beats and a unit of 2, 4, 8 or 16, as "
            "in '4/4', '3/4' or '6/8'"
        )
    return upper


def parse_chord(symbol: str) -> np.ndarray:
    """Chroma (12,) of 0 and 1, C first, of "Am", "F#maj7", "C/G"; "N" (no chord) is all zero.

    Raises:
        ValueError: if it is no chord.
    """
    chroma = np.zeros(12)
    if symbol in NO_CHORD:
        return chroma
    match = re.fullmatch(r"([A-G])([#b\u266f\u266d]?)([^/]*)(?:/([A-G])([#b\u266f\u266d]?))?", symbol)
    if match is None or match[3] not in QUALITY_INTERVALS:
        raise ValueError(
            f"chords has {symbol!r}; allowed: a root from A to G, optionally # or b, a quality such as m, 7, maj7, m7, "
            "dim, aug, sus2, sus4, 6 or 9 and optionally a bass, as in 'Am', 'F#m7' or 'C/G'; N for none"
        )
    root = parse_note(match[1], match[2])
    chroma[[(root + interval) % 12 for interval in QUALITY_INTERVALS[match[3]]]] = 1.0
    if match[4]:
        chroma[parse_note(match[4], match[5])] = 1.0
    return chroma


def read_progression(chords: str | list[str], beats_per_bar: int) -> list[tuple[np.ndarray, int]]:
    """Chroma (12,) and beats of each chord of a progression.

    Args:
        chords: "Am F C G" gives each chord one bar; "Am:2 F:2" counts beats. A list of symbols means the same.
        beats_per_bar: beats that a chord without a count lasts.

    Raises:
        ValueError: no chord, one that cannot be read, or a count that is not a whole number of beats from 1.
    """
    if not isinstance(chords, (str, list, tuple, np.ndarray)):
        raise ValueError(f"chords is {chords!r}; allowed: a text as in 'Am F C G', or a list of symbols")
    symbols = re.split(r"[\s,|]+", chords.strip(" ,|\t\n")) if isinstance(chords, str) else [str(c) for c in chords]
    progression = []
    for symbol in symbols:
        name, colon, count = symbol.strip().partition(":")
        if colon and not (count.isdigit() and 1 <= int(count) <= 1000):
            raise ValueError(f"chords has {symbol!r}; after the colon stands a whole number of beats, 1 to 1000")
        progression.append((parse_chord(name), int(count) if colon else beats_per_bar))
    if not progression:
        raise ValueError("chords is empty; give at least one chord, as in 'Am F C G', or None")
    return progression


def progression_beats(chords: str | list[str], beats_per_bar: int, last: bool = False) -> int:
    """Beats that a progression lasts, or its last chord alone. Raises as `read_progression`."""
    counts = [count for _, count in read_progression(chords, beats_per_bar)]
    return counts[-1] if last else sum(counts)


def parse_chords(chords: str | list[str], beats_per_bar: int, num_beats: int) -> np.ndarray:
    """Chroma of each beat, (num_beats, 12), of a progression that starts on the first downbeat and repeats.

    Raises:
        ValueError: as `read_progression`.
    """
    rows = [chroma for chroma, count in read_progression(chords, beats_per_bar) for _ in range(count)]
    return np.stack([rows[beat % len(rows)] for beat in range(num_beats)])
