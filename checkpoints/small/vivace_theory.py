"""Names of keys, meters, notes, chords and instruments -> numbers, and the frame grid that the network reads.

The grid says of each latent frame where in the beat and in the bar it stands and which chord sounds. Training builds
its grids with the same function, so that both agree.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEYS = tuple(f"{note} {mode}" for note in PITCH_CLASSES for mode in ("major", "minor"))
MAX_BEATS_PER_BAR = 15
NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"": 0, "#": 1, "\u266f": 1, "sharp": 1, "b": -1, "\u266d": -1, "flat": -1}

# The third decides: the network knows keys as a tonic and major or minor, and training takes modes for them likewise.
MINOR_MODES = ("minor", "natural minor", "harmonic minor", "melodic minor", "dorian", "phrygian", "aeolian", "locrian")
MAJOR_MODES = ("major", "ionian", "lydian dominant", "lydian", "mixolydian", "phrygian dominant")
MODE_NAMES = {"maj": "major", "ma": "major", "dur": "major", "min": "minor", "mi": "minor", "moll": "minor"}
MODE = "|".join(sorted((*MINOR_MODES, *MAJOR_MODES, "maj", "dur", "min", "moll"), key=len, reverse=True)).replace(
    " ", r"[\s-]+"
)
TONIC = (
    r"(?P<note>[A-Ha-h])(?P<accidental>(?i:[\s-]?(?:sharp|flat))(?![a-z])|[#b\u266f\u266d]"
    rf"|B(?=[\s:_-]*(?i:{MODE})\b)|(?i:is|es|s)(?=[\s-]*(?i:dur|moll)\b))?"
)

BEAT_UNITS = {
    "half": Fraction(1, 2), "dotted half": Fraction(3, 4), "quarter": Fraction(1, 4), "dotted quarter": Fraction(3, 8),
    "eighth": Fraction(1, 8), "dotted eighth": Fraction(3, 16), "sixteenth": Fraction(1, 16),
}  # fmt: skip
BRITISH_NOTES = {"minim": "half", "crotchet": "quarter", "semiquaver": "sixteenth", "quaver": "eighth"}

NO_CHORD = ("N", "NC", "N.C.", "N.C")
TRIADS = {"maj": (0, 4, 7), "min": (0, 3, 7), "dim": (0, 3, 6), "hdim": (0, 3, 6, 10), "aug": (0, 4, 8)}
TRIAD_NAMES = {
    "": "maj", "major": "maj", "ma": "maj", "MA": "maj", "M": "maj", "dom": "maj", "m": "min", "minor": "min",
    "mi": "min", "-": "min", "o": "dim", "+": "aug",
}  # fmt: skip
DEGREES = {1: 0, 2: 2, 3: 4, 4: 5, 5: 7, 6: 9, 7: 11, 9: 2, 11: 5, 13: 9}  # semitones in the major scale
EXTENSIONS = {"6": (9,), "69": (9, 2), "7": (), "9": (2,), "11": (2, 5), "13": (2, 9)}  # beside triad and seventh
QUALITY = re.compile(
    r"(?P<triad>major|minor|maj|min|hdim|dim|aug|dom|MA|ma|mi|M|m|-|o|\+)?(?P<seventh>maj|M)?"
    r"(?P<extension>69|6|7|9|11|13)?(?P<changes>(?:sus[24]?|add[#b]?(?:2|4|6|9|11|13)|[#b](?:5|9|11|13)|\+|no[35])*)"
)
SIGNS = str.maketrans({"\u266f": "#", "\u266d": "b", "\u2212": "-", "\u2013": "-", "\u00b0": "o", "\u00ba": "o",
                       "\u0394": "^", "\u2206": "^", "\u25b3": "^", "\u00d8": "\u00f8"})  # fmt: skip
HARTE_NUMBERS = (5, 6, 7, 9, 11, 13)  # qualities in Harte's notation that could also be counts of beats
SEPARATORS = r"(?:[\s;|]|,(?![^()]*\))|-?>|\u2192|(?<!\S)-(?!\S)|-(?=[A-G]))+"  # of chords; "C-7" is one chord


def check_number(name: str, value: float, low: float, high: float, unit: str = "", whole: bool = False) -> None:
    """Raise a ValueError unless `value` is a number in [low, high], and a whole one if asked.

    A number in a text ("96") is none: it is named in quotes.
    """
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (whole and value != int(value)):
        kind = "whole numbers" if whole else "numbers"
        shown = " ".join((repr(str(value)) if isinstance(value, str) else str(value)).split())  # an array has lines
        raise ValueError(f"{name} is {shown}; allowed: {kind} from {low:g} to {high:g}{unit and ' ' + unit}")


def parse_note(letter: str, accidental: str) -> int:
    """Pitch class 0..11 (C = 0) of a letter and "#", "b", "sharp", "flat" or ""."""
    return (NATURALS[letter.upper()] + ACCIDENTALS[accidental.strip(" -").lower()]) % 12


def spell_key(text: str) -> str:
    """A key as it is spelled, in one form: "F# minor" of "f sharp min", "Bb major" of "B\u266d", "D dorian".

    Any case and the usual short forms are taken: "Am", "A MINOR", "C:min", "key of C", "a-Moll" and "Fis-Dur" (German,
    where H is B and B is Bb), and as a whole text the codes of the Camelot wheel ("8A" is A minor).

    Raises:
        ValueError: if it is no key.
    """
    plain = " ".join(str(text).split())
    wheel = re.fullmatch(r"0?([1-9]|1[0-2])([ABab])", plain)
    if wheel is not None:
        minor = wheel[2] in "Aa"
        return KEYS[2 * ((7 * (int(wheel[1]) - 8) + 9 * minor) % 12) + minor]
    plain = re.sub(r"^(?i:(?:in )?(?:the )?key(?: of| is| ?[:=])?|in) ?(?=[A-Ha-h])", "", plain)
    match = re.fullmatch(rf"{TONIC}[\s:_-]*(?:(?P<mode>(?i:{MODE}|mi|ma))|(?P<m>[mM]))?(?i: (?:key|scale))?", plain)
    name = None if match is None else _tonic(match["note"], match["accidental"] or "", (match["mode"] or "").lower())
    if match is None or name is None:
        raise ValueError(
            f"key is {text!r}; allowed: a note from A to G, optionally # or b, then major or minor or a church mode, "
            "as in 'Bb major', 'F#m' or 'D dorian'"
        )
    mode = " ".join(re.split(r"[\s-]+", (match["mode"] or "").lower()))
    return f"{name} {MODE_NAMES.get(mode, mode) or ('minor' if match['m'] == 'm' else 'major')}"


def _tonic(note: str, accidental: str, mode: str) -> str | None:
    """Name of a tonic, as in "F#"; None for an H that is not German."""
    note, accidental = note.upper(), accidental.lower().strip(" -")
    if mode in ("dur", "moll"):  # German names of notes
        if accidental == "" and note in "BH":
            return {"B": "Bb", "H": "B"}[note]
        if accidental == "s" and note not in "AE":
            return None
        note, accidental = "B" if note == "H" else note, {"is": "#", "es": "b", "s": "b"}.get(accidental, accidental)
    sign = {"sharp": "#", "\u266f": "#", "flat": "b", "\u266d": "b"}.get(accidental, accidental)
    return None if note == "H" else note + sign


def parse_key(text: str) -> str:
    """Name in `KEYS`, which is what the network knows, of any spelling that `spell_key` reads; a mode is taken for
    minor or major by its third.

    Raises:
        ValueError: if it is no key.
    """
    tonic, _, mode = spell_key(text).partition(" ")
    return f"{PITCH_CLASSES[parse_note(tonic[0], tonic[1:])]} {'minor' if mode in MINOR_MODES else 'major'}"


def parse_time_signature(text: str) -> int:
    """Beats in a bar: 4 for "4/4", 2 for "6/8", where the beat is the dotted quarter.

    Raises:
        ValueError: if it is no time signature.
    """
    return _meter(text)[0]


def beat_length(time_signature: str) -> Fraction:
    """Length of a meter's beat as a share of a whole note: 1/4 for "3/4", 3/8 for "6/8", 1/8 for "7/8"."""
    return _meter(time_signature)[1]


def _meter(text: str) -> tuple[int, Fraction]:
    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(2|4|8|16)\s*", str(text))
    upper, beat = (int(match[1]), Fraction(1, int(match[2]))) if match else (0, Fraction(1, 4))
    if match and int(match[2]) >= 8 and upper > 3 and upper % 3 == 0:  # compound meter: three to the beat
        upper, beat = upper // 3, 3 * beat
    if not 1 <= upper <= MAX_BEATS_PER_BAR:
        raise ValueError(
            f"time_signature is {text!r}; allowed: at most {MAX_BEATS_PER_BAR} beats and a unit of 2, 4, 8 or 16, as "
            "in '4/4', '3/4' or '6/8'"
        )
    return upper, beat


def parse_beat_unit(text: str) -> Fraction:
    """Length of a note as a share of a whole note: of "quarter", "dotted quarter", "crotchet", "1/4".

    Raises:
        ValueError: if it is none of `BEAT_UNITS`.
    """
    name = re.sub(r"[\s-]*notes?$", "", " ".join(str(text).lower().replace("-", " ").split()))
    for british, american in BRITISH_NOTES.items():
        name = re.sub(rf"\b{british}$", american, name)
    if re.fullmatch(r"[13]/(?:2|4|8|16)", name) and Fraction(name) in BEAT_UNITS.values():
        return Fraction(name)
    if name not in BEAT_UNITS:
        raise ValueError(f"beat_unit is {text!r}; allowed: {', '.join(BEAT_UNITS)}")
    return BEAT_UNITS[name]


def beat_unit_name(length: Fraction) -> str:
    """Name in `BEAT_UNITS` of a note's length as a share of a whole note."""
    return next(name for name, value in BEAT_UNITS.items() if value == length)


@dataclass(frozen=True)
class Chord:
    """A chord symbol that was read.

    Attributes:
        symbol: as it was written.
        root: pitch class, 0 = C; None for no chord.
        intervals: semitones above the root, without the bass.
        bass: pitch class of the lowest note where the symbol names one, as in "C/E", else None.
    """

    symbol: str
    root: int | None = None
    intervals: tuple[int, ...] = ()
    bass: int | None = None

    @property
    def chroma(self) -> np.ndarray:
        """(12,) of 0 and 1, C first, the bass among them; all zero for no chord."""
        chroma = np.zeros(12)
        if self.root is not None:
            chroma[[(self.root + interval) % 12 for interval in self.intervals]] = 1.0
        if self.bass is not None:
            chroma[self.bass] = 1.0
        return chroma


def read_quality(text: str) -> tuple[int, ...] | None:
    """Semitones above the root of what follows it in a chord symbol ("m7", "maj9", "7#9", "6/9"); None if unknown.

    An eleventh takes the place of the major third, which is hardly played beside it; a thirteenth goes without the
    eleventh.
    """
    text = re.sub(r"[(),\s]", "", text.translate(SIGNS)).replace("6/9", "69")
    text = re.sub(r"\^(?!\d)", "^7", re.sub("(?i:maj)", "maj", text)).replace("^", "maj").replace("\u00f8", "hdim")
    match = QUALITY.fullmatch(text)
    if text == "5":
        return (0, 7)
    if match is None or (match["seventh"] and match["extension"] in (None, "6", "69")):
        return None
    name, extension = match["triad"] or "", match["extension"]
    triad = TRIAD_NAMES.get(name, name)
    notes = {*TRIADS[triad], *EXTENSIONS.get(extension, ())}
    if extension in ("7", "9", "11", "13"):
        large = match["seventh"] or name in ("maj", "major", "ma", "MA", "M")
        notes.add(11 if large else 9 if triad == "dim" else 10)
    if extension == "11":
        notes.discard(4)
    for kind, sign, degree in re.findall(r"(sus|add|no|)([#b+]?)(\d*)", match["changes"]):
        step = (DEGREES[int(degree or 5)] + {"#": 1, "+": 1, "b": -1, "": 0}[sign]) % 12
        if kind == "sus":
            notes = notes - {3, 4} | {2 if degree == "2" else 5}
        elif kind == "no":
            notes -= {3, 4} if degree == "3" else {6, 7, 8}
        elif kind == "add" or degree not in ("", "5"):
            notes.add(step)
        elif sign:
            notes = notes - {7} | {step}
    return tuple(sorted(notes))


def read_chord(symbol: str) -> Chord:
    """The chord of "Am", "F#maj7", "C/G", "B\u00f8", "bb7"; in Harte's notation of "C:min7", "A:min/b3"; "N" is none.

    Raises:
        ValueError: if it is no chord.
    """
    plain = symbol.strip().replace("6/9", "69")
    if plain.upper() in NO_CHORD:
        return Chord(symbol)
    match = re.fullmatch(r"([A-Ga-g])([#b\u266f\u266d]?)(:?)([^/:]*)(?:/([^/]+))?", plain)
    intervals = read_quality(match[4]) if match is not None and (match[4] or not match[3]) else None
    if match is not None and intervals is not None:
        root, bass = parse_note(match[1], match[2]), None
        if match[5] is None:
            return Chord(symbol, root, intervals)
        note = re.fullmatch(r"([A-Ga-g])([#b\u266f\u266d]?)", match[5])
        degree = re.fullmatch(r"([#b]?)([1-79]|11|13)", match[5]) if match[3] else None  # Harte's basses are degrees
        if note is not None:
            bass = parse_note(note[1], note[2])
        elif degree is not None:
            bass = (root + DEGREES[int(degree[2])] + ACCIDENTALS[degree[1]]) % 12
        if bass is not None:
            return Chord(symbol, root, intervals, bass)
    raise ValueError(
        f"chords has {symbol!r}; allowed: a root from A to G, optionally # or b, a quality such as m, 7, maj7, m7, "
        "dim, aug, sus2, sus4, 6, 9, 13, 7#9 or m7b5 and optionally a bass, as in 'Am', 'F#m7' or 'C/G'; N for none"
    )


def parse_chord(symbol: str) -> np.ndarray:
    """Chroma (12,) of 0 and 1, C first, of a symbol that `read_chord` reads; "N" (no chord) is all zero.

    Raises:
        ValueError: if it is no chord.
    """
    return read_chord(symbol).chroma


def read_progression(chords: str | list[str], beats_per_bar: int) -> list[tuple[Chord, int]]:
    """Each chord of a progression and the beats that it lasts, see `read_symbols`."""
    return [(read_chord(name), count) for name, count in read_symbols(chords, beats_per_bar)]


def read_symbols(chords: str | list[str], beats_per_bar: int) -> list[tuple[str, int]]:
    """Each symbol of a progression, as it is written, and the beats that it lasts.

    Args:
        chords: "Am F C G", "am - F - C - G" or "Am | F | C | G" gives each chord one bar; "Am:2 F:2" counts beats;
            "C:min7 F:7" is Harte's notation, one bar each, "C:min7:2" with beats. A list of symbols means the same.
            Where a number after a bare root can be both, as in "C:7 F:7", it is a quality if the progression has
            another quality after a colon, or if all such numbers are qualities and none is a length that fits the bar
            (up to a bar, or whole bars); else it counts beats.
        beats_per_bar: beats that a chord without a count lasts.

    Raises:
        ValueError: no chord, or a count that is not a whole number of beats from 1.
    """
    if not isinstance(chords, (str, list, tuple, np.ndarray)):
        raise ValueError(f"chords is {chords!r}; allowed: a text as in 'Am F C G', or a list of symbols")
    symbols = [str(symbol).strip() for symbol in chords] if not isinstance(chords, str) else [
        symbol for symbol in re.split(SEPARATORS, re.sub("[\u2013\u2014]", "-", chords)) if symbol
    ]  # fmt: skip
    harte, progression = is_harte(symbols, beats_per_bar), []
    for symbol in symbols:
        name, colon, count = symbol.rpartition(":")
        if not colon or (harte and ":" not in name and not (count.isdigit() and int(count) not in HARTE_NUMBERS)):
            name, colon, count = symbol, "", str(beats_per_bar)
        if not (count.isdigit() and 1 <= int(count) <= 1000):
            raise ValueError(f"chords has {symbol!r}; after the colon stands a whole number of beats, 1 to 1000")
        progression.append((name, int(count)))
    if not progression:
        raise ValueError("chords is empty; give at least one chord, as in 'Am F C G', or None")
    return progression


def is_harte(symbols: list[str], beats_per_bar: int) -> bool:
    """Whether what stands after a root and a colon is a quality, as in "C:7 F:min7", and not a number of beats."""
    parts = [symbol.split(":") for symbol in symbols if ":" in symbol]
    bare = [re.fullmatch(r"[A-Ga-g][#b\u266f\u266d]?", part[0]) is not None for part in parts]
    if any(root and (len(part) > 2 or not part[1][:1].isdigit()) for root, part in zip(bare, parts, strict=True)):
        return True
    numbers = [int(part[1]) if part[1].isdigit() else 0 for part in parts]
    fits = [number <= beats_per_bar or number % beats_per_bar == 0 for number in numbers]
    return bool(parts) and all(bare) and set(numbers) <= set(HARTE_NUMBERS) and not any(fits)


# Share of each pitch class in music of a key, from its tonic on: major, minor (Albrecht and Shanahan 2013, table 1).
KEY_PROFILES = (
    (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081),
    (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052),
)
# How well each fits a key (Krumhansl and Kessler 1982): for chords, of which each tone counts once.
CHORD_PROFILES = (
    (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
)


def nearest_key(weights: np.ndarray, profiles: tuple = KEY_PROFILES) -> str:
    """The key whose profile is most like the weights (12,) of pitch classes."""
    fits = [np.corrcoef(weights, np.roll(profiles[k % 2], k // 2))[0, 1] for k in range(len(KEYS))]
    return KEYS[int(np.argmax(np.nan_to_num(fits, nan=-1.0)))]


def key_of_chords(chords: str | list[str], beats_per_bar: int) -> str:
    """The key that a progression is most likely in: its chords count with their beats, more so the first one's root."""
    line, weights = read_progression(chords, beats_per_bar), np.zeros(12)
    for k, (chord, beats) in enumerate(line):
        if chord.root is not None:
            weights += beats * (np.asarray(chord.chroma) > 0)
            weights[chord.root] += beats * (0.3 + (k == 0) + 0.3 * (k == len(line) - 1))
    return nearest_key(weights, CHORD_PROFILES)


def progression_beats(chords: str | list[str], beats_per_bar: int, last: bool = False) -> int:
    """Beats that a progression lasts, or its last chord alone. Raises as `read_progression`."""
    counts = [count for _, count in read_progression(chords, beats_per_bar)]
    return counts[-1] if last else sum(counts)


def parse_chords(chords: str | list[str], beats_per_bar: int, num_beats: int) -> np.ndarray:
    """Chroma of each beat, (num_beats, 12), of a progression that starts on the first downbeat and repeats.

    Raises:
        ValueError: as `read_progression`.
    """
    rows = [chord.chroma for chord, count in read_progression(chords, beats_per_bar) for _ in range(count)]
    return np.stack([rows[beat % len(rows)] for beat in range(num_beats)])


# The frame grid: where in the beat and in the bar each latent frame stands, and which chord sounds there.

GRID_CHANNELS = 22
CHORD_CHANNELS = (*range(8, 20), 21)
BEAT_HARMONICS = (1, 2, 4)


def frame_grid(
    num_frames: int,
    frame_rate: float,
    bpm: float | None = None,
    beats_per_bar: int | None = None,
    downbeat_s: float = 0.0,
    beat_chroma: np.ndarray | list | None = None,
    first_beat_s: float = 0.0,
) -> "torch.Tensor":
    """What the network gets for each latent frame: beat and bar phase, chord, and whether there are some.

    Channels: 0-5 sin, cos of 2 pi h beat_phase for h = 1, 2, 4; 6-7 sin, cos of 2 pi bar_phase; 8-19 chord chroma
    (0 or 1, C first); 20 grid known; 21 chord known. A group that is absent is zero.

    Args:
        num_frames: length of the grid.
        frame_rate: latent frames a second; frame i is centred at (i + 0.5) / frame_rate seconds.
        bpm: beats a minute, None = no grid.
        beats_per_bar: None = no bar phase.
        downbeat_s: time of a first beat of a bar, seconds; may lie outside the clip.
        beat_chroma: (beats, 12); row k sounds from first_beat_s + k * 60 / bpm for one beat; a row of zeros = unknown.
        first_beat_s: time of row 0 of `beat_chroma`, seconds.

    Returns:
        (22, num_frames) float32.
    """
    import torch  # here, so that words and numbers are checked without it

    grid = np.zeros((GRID_CHANNELS, num_frames), dtype=np.float64)
    if bpm is None:
        return torch.from_numpy(grid).float()
    times = (np.arange(num_frames) + 0.5) / frame_rate  # seconds
    beats = (times - downbeat_s) * bpm / 60.0
    for row, harmonic in enumerate(BEAT_HARMONICS):
        angle = 2.0 * np.pi * ((harmonic * beats) % 1.0)
        grid[2 * row], grid[2 * row + 1] = np.sin(angle), np.cos(angle)
    if beats_per_bar is not None:
        angle = 2.0 * np.pi * ((beats / beats_per_bar) % 1.0)
        grid[6], grid[7] = np.sin(angle), np.cos(angle)
    grid[20] = 1.0
    if beat_chroma is not None and len(beat_chroma):
        chroma = np.asarray(beat_chroma, dtype=np.float64)  # (beats, 12)
        index = np.floor((times - first_beat_s) * bpm / 60.0).astype(int)
        inside = (index >= 0) & (index < len(chroma))
        grid[8:20, inside] = chroma[index[inside]].T
        grid[21] = grid[8:20].any(axis=0)
    return torch.from_numpy(grid).float()


# Instruments by General MIDI program, in the words of the captions; rare programs have the name of a near one.
PROGRAM_NAMES = tuple(re.split(r",\s*", """
piano, piano, electric piano, honky-tonk piano, electric piano, electric piano, harpsichord, clavinet,
celesta, glockenspiel, music box, vibraphone, marimba, xylophone, tubular bells, dulcimer,
organ, organ, organ, church organ, reed organ, accordion, harmonica, bandoneon,
nylon guitar, steel guitar, jazz guitar, electric guitar, muted guitar, overdriven guitar, distorted guitar,
electric guitar, upright bass, electric bass, electric bass, fretless bass, slap bass, electric bass, synth bass,
synth bass, violin, viola, cello, contrabass, tremolo strings, pizzicato strings, harp, timpani,
string ensemble, string ensemble, synth strings, synth strings, choir, voice oohs, synth voice, brass section,
trumpet, trombone, tuba, muted trumpet, french horn, brass section, synth brass, synth brass,
soprano sax, alto sax, tenor sax, baritone sax, oboe, english horn, bassoon, clarinet,
piccolo, flute, recorder, pan flute, pan flute, pan flute, whistle, ocarina,
square lead, saw lead, calliope, calliope, saw lead, synth voice, saw lead, saw lead,
bell synth, warm pad, saw lead, choir pad, glass pad, sweep pad, choir pad, sweep pad,
bell synth, warm pad, bell synth, bell synth, bell synth, sweep pad, warm pad, bell synth,
sitar, banjo, banjo, koto, kalimba, bagpipes, fiddle, oboe,
glockenspiel, xylophone, steel drums, xylophone, timpani, timpani, timpani, piano,
piano, piano, piano, piano, piano, piano, piano, piano
""".strip()))  # fmt: skip
PROGRAMS = {"ukulele": 24, "mandolin": 25, "sine lead": 80}
PROGRAMS |= {name: program for program, name in reversed(list(enumerate(PROGRAM_NAMES)))}
# What else prompts call them; an s may follow. The captions' words are in training/data/scorebook/instruments.txt: some
# of them are too common in prompts ("vibes", "voices"), and prompts have words that no caption has.
INSTRUMENT_WORDS = {
    name: tuple(words.split(", "))
    for name, words in (
        line.split(": ")
        for line in """
piano: grand piano, acoustic piano, upright piano, concert grand
honky-tonk piano: honky tonk piano, honky-tonk, saloon piano, barroom piano, detuned piano, tack piano
electric piano: rhodes, fender rhodes, wurlitzer, wurli, e-piano
harpsichord: cembalo, clavecin, spinet
clavinet: clav
celesta: celeste
glockenspiel: glock, orchestra bell
music box: musical box, toy box
tubular bells: tubular bell, chime, church bell
dulcimer: hammered dulcimer, cimbalom
organ: hammond, hammond organ, drawbar organ, electric organ, b3 organ
church organ: pipe organ, cathedral organ
reed organ: harmonium, pump organ, parlor organ
accordion: squeezebox, piano accordion, button accordion
harmonica: mouth organ, mouth harp, blues harp
bandoneon: bandoneón, tango accordion, concertina
nylon guitar: classical guitar, nylon-string guitar, nylon string guitar, spanish guitar, flamenco guitar
steel guitar: guitar, acoustic guitar, folk guitar, steel-string guitar
ukulele: uke
jazz guitar: mellow guitar, hollow-body guitar, archtop guitar
electric guitar: clean guitar, clean electric guitar, telecaster, stratocaster
muted guitar: palm-muted guitar, funk guitar
overdriven guitar: overdrive guitar, crunchy guitar, gritty guitar, driven guitar
distorted guitar: distortion guitar, heavy guitar, fuzz guitar, metal guitar
upright bass: double bass, acoustic bass, stand-up bass, standup bass
electric bass: bass guitar, fingered bass, e-bass
slap bass: slapped bass
synth bass: synthesizer bass, electronic bass, moog bass, bass synth, sub bass, 808 bass
fiddle: folk fiddle
cello: violoncello
contrabass: bowed bass, bowed double bass, arco bass
pizzicato strings: pizzicato, plucked strings
string ensemble: strings, string section, string orchestra
tremolo strings: trembling strings
synth strings: synthesizer strings, string machine, string synth
choir: vocal choir, choir aah, chorus of voices
voice oohs: oohs, ooh voice, backing oohs
trombone: slide trombone
tuba: brass bass, sousaphone
muted trumpet: trumpet with mute, trumpet with a mute
french horn: horn
brass section: brass, brass ensemble, horn section, horns
synth brass: synthesizer brass, analog brass
soprano sax: soprano saxophone
alto sax: alto saxophone, saxophone, sax
tenor sax: tenor saxophone
baritone sax: baritone saxophone, bari sax
english horn: cor anglais
bassoon: fagott
piccolo: piccolo flute, fife
pan flute: panpipe, pan pipe
whistle: tin whistle, penny whistle, irish whistle
ocarina: clay flute
square lead: square wave, pulse lead, 8-bit lead, chip lead, nes lead, chiptune, 8-bit
saw lead: sawtooth lead, saw synth, synth lead, supersaw, synth
sine lead: sine wave, sine wave synth
calliope: steam organ, fairground organ, carousel organ
synth voice: vox synth, synth vocal, vocoder
warm pad: synth pad, soft pad, analog pad, pad
choir pad: space voice, halo pad, choir synth
glass pad: bowed glass, glassy pad, crystal pad
sweep pad: sweeping pad, filter sweep
bell synth: synth bell, shimmering synth, fm bell, digital bell
kalimba: thumb piano, mbira
bagpipes: bagpipe, highland pipe
steel drums: steel drum, steelpan, steel pan
timpani: kettledrum, timp
""".strip().splitlines()
    )
}
