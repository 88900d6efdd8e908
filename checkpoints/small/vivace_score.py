"""Scores: the notes of a piece by part, standard MIDI files in and out, and the note rolls that the network reads.

Time in a score is counted in quarter notes from the first beat of the first bar, in steps of 1/960 quarter, so that a
score is the same after it was saved and loaded. Reading and writing MIDI files needs the package mido.
"""

import base64
import importlib
import itertools
import json
import math
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .vivace_theory import PITCH_CLASSES, parse_key, parse_note, parse_time_signature, read_symbols

if TYPE_CHECKING:
    import torch

ROLES = ("lead", "harmony", "bass", "drums")
TICKS = 960  # to the quarter
MAX_NOTES = 50_000
MAX_BARS = 4000
MAX_TEXT = 2**24  # characters of a score's text when unpacked; `MAX_NOTES` take less than a tenth
LOWEST, HIGHEST = 21, 108  # pitches of a note roll, those of a piano
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
# What else words call them; an s may follow.
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
# General MIDI drum keys by class; keys that stand nowhere are "other".
DRUM_CLASSES = {
    "kick": (35, 36), "snare": (38, 40), "clap": (37, 39), "closed hat": (42, 44), "open hat": (46,),
    "low tom": (41, 43, 45), "high tom": (47, 48, 50), "crash": (49, 52, 55, 57), "ride": (51, 53, 59),
    "shaker": (54, 69, 70, 82), "other": (),
}  # fmt: skip
DRUM_CLASS = {key: row for row, keys in enumerate(DRUM_CLASSES.values()) for key in keys}
PITCHED = ROLES[:3]
PITCH_COUNT = HIGHEST - LOWEST + 1
STATE_CHANNELS = 2 * len(ROLES)
ROLL_CHANNELS = 2 * PITCH_COUNT * len(PITCHED) + len(DRUM_CLASSES) + STATE_CHANNELS


def quarters_per_bar(time_signature: str) -> Fraction:
    """Length of a bar in quarters: 4 for "4/4", 3 for "6/8"."""
    parse_time_signature(time_signature)
    upper, lower = (int(part) for part in time_signature.split("/"))
    return Fraction(4 * upper, lower)


def quarters_per_beat(time_signature: str) -> Fraction:
    """Length in quarters of the beat that `bpm` counts: 1 in "3/4", 3/2 in "6/8", 1/2 in "7/8"."""
    return quarters_per_bar(time_signature) / parse_time_signature(time_signature)


def tidy_notes(notes: Sequence | np.ndarray, drums: bool = False) -> np.ndarray:
    """Notes as a score keeps them.

    Args:
        notes: rows of onset and duration in quarters, MIDI pitch 0 to 127 and velocity above 0 and up to 1.
        drums: pitches are General MIDI drum keys, whose durations mean nothing: they become a 32nd.

    Returns:
        (n, 4) float64, sorted by onset, then pitch. Times are multiples of 1/960 quarter, velocities of 1/127. A note
        that begins again while it sounds ends there; of two that begin together at one pitch the louder one is kept.

    Raises:
        ValueError: a row that is no note.
    """
    rows = np.asarray(notes, dtype=np.float64).reshape(-1, 4)
    if not np.isfinite(rows).all():
        raise ValueError("notes have values that are not finite; needed: onset, duration, pitch and velocity")
    ticks = np.round(rows[:, :2] * TICKS)
    pitches, velocities = rows[:, 2], np.round(rows[:, 3] * 127.0)
    for name, bad, allowed in (
        ("an onset of {0:g} quarters", ticks[:, 0] < 0, "0 or later"),
        ("a duration of {1:g} quarters", rows[:, 1] < 0, "0 or longer"),
        ("a pitch of {2:g}", (pitches < 0) | (pitches > 127) | (pitches != np.round(pitches)), "whole, 0 to 127"),
        ("a velocity of {3:g}", (velocities < 0) | (velocities > 127), "above 0, up to 1"),
    ):
        if bad.any():
            raise ValueError(f"notes have {name.format(*rows[bad.argmax()])}; allowed: {allowed}")
    velocities = velocities.clip(1, 127)
    ticks[:, 1] = TICKS // 8 if drums else ticks[:, 1].clip(1)
    order = np.lexsort((-ticks[:, 1], -velocities, pitches, ticks[:, 0]))
    ticks, pitches, velocities = ticks[order], pitches[order], velocities[order]
    sounding: dict[float, int] = {}  # pitch -> its last row
    kept = np.ones(len(ticks), dtype=bool)
    for row, (onset, pitch) in enumerate(zip(ticks[:, 0], pitches, strict=True)):
        before = sounding.get(pitch)
        if before is not None and ticks[before, 0] == onset:
            kept[row] = False
            continue
        if before is not None:
            ticks[before, 1] = min(ticks[before, 1], onset - ticks[before, 0])
        sounding[pitch] = row
    return np.column_stack([ticks / TICKS, pitches, velocities / 127.0])[kept]


@dataclass(frozen=True, eq=False)
class Track:
    """One part of a score.

    Attributes:
        role: "lead", "harmony", "bass" or "drums"; several tracks may share one.
        notes: (n, 4) as `tidy_notes` makes them.
        instrument: what plays it, in the words of the captions ("piano"); None = open.
    """

    role: str
    notes: np.ndarray
    instrument: str | None = None

    def __post_init__(self):
        if self.role not in ROLES:
            raise ValueError(f"role is {self.role!r}; allowed: {', '.join(ROLES)}")
        notes = tidy_notes(self.notes, self.role == "drums")
        notes.flags.writeable = False
        object.__setattr__(self, "notes", notes)

    @property
    def program(self) -> int:
        """General MIDI program, 0 to 127; 0 where no instrument is named or known (for drums: the standard kit)."""
        return 0 if self.role == "drums" else PROGRAMS.get(self.instrument, 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Track):
            return NotImplemented
        same = (self.role, self.instrument) == (other.role, other.instrument)
        return same and np.array_equal(self.notes, other.notes)

    def __repr__(self) -> str:
        return f"Track({self.role!r}, {len(self.notes)} notes, {self.instrument!r})"


@dataclass(frozen=True)
class Score:
    """The notes of a piece in constant tempo and meter.

    Attributes:
        tracks: its parts; those without notes are left out.
        bpm: beats a minute, counted as the pipeline does: dotted quarters in "6/8", eighths in "7/8".
        time_signature: "4/4".
        bars: length in bars; None = as many as the notes need.
        key: "A minor", or None.
        chords: "Am F C G" as the pipeline takes them, or None.
        remarks: what could not be kept when the score was read from a file, a sentence each; not compared.
    """

    tracks: tuple[Track, ...]
    bpm: float = 100.0
    time_signature: str = "4/4"
    bars: int | None = None
    key: str | None = None
    chords: str | None = None
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self):
        strange = [type(track).__name__ for track in self.tracks if not isinstance(track, Track)]
        if strange:
            raise ValueError(f"tracks has a {strange[0]}; allowed: Track")
        tracks = tuple(track for track in self.tracks if len(track.notes))
        if not (isinstance(self.bpm, (int, float, np.number)) and 1 <= self.bpm <= 2000):
            raise ValueError(f"bpm is {self.bpm!r}; allowed: numbers from 1 to 2000")
        count = sum(len(track.notes) for track in tracks)
        if count > MAX_NOTES:
            raise ValueError(f"the score has {count} notes; allowed: at most {MAX_NOTES}")
        bar = quarters_per_bar(self.time_signature)
        last = max((track.notes[-1, 0] for track in tracks), default=0.0)
        needed = math.floor(Fraction(round(last * TICKS), TICKS) / bar) + 1
        bars = needed if self.bars is None else self.bars
        if isinstance(bars, bool) or not isinstance(bars, (int, np.integer)) or not 1 <= bars <= MAX_BARS:
            raise ValueError(f"bars of the score is {bars!r}; allowed: whole numbers from 1 to {MAX_BARS}")
        if bars < needed:
            raise ValueError(f"bars of the score is {bars}, but its last note begins in bar {needed}")
        settled = {"tracks": tracks, "bars": int(bars), "bpm": float(self.bpm), "key": self.key and parse_key(self.key)}
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def quarters(self) -> Fraction:
        """Length in quarters, of whole bars."""
        return self.bars * quarters_per_bar(self.time_signature)

    @property
    def quarter_s(self) -> float:
        """Seconds that a quarter lasts."""
        return 60.0 / self.bpm / float(quarters_per_beat(self.time_signature))

    @property
    def duration_s(self) -> float:
        """Length in seconds, of whole bars."""
        return float(self.quarters) * self.quarter_s

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles that have notes, in the order of `ROLES`."""
        playing = {track.role for track in self.tracks}
        return tuple(role for role in ROLES if role in playing)

    @property
    def instruments(self) -> tuple[str, ...]:
        """What the parts are played by, each once, in the order of the tracks."""
        named = (track.instrument or ("drums" if track.role == "drums" else None) for track in self.tracks)
        return tuple(dict.fromkeys(name for name in named if name))

    def notes(self, *roles: str) -> np.ndarray:
        """Notes (n, 4) of all tracks of these roles (of all roles if none is given), sorted by onset."""
        chosen = [track.notes for track in self.tracks if track.role in (roles or ROLES)]
        rows = np.concatenate(chosen) if chosen else np.zeros((0, 4))
        return rows[np.lexsort((rows[:, 2], rows[:, 0]))]

    def only(self, *roles: str) -> "Score":
        """The same score with the tracks of these roles alone."""
        unknown = [role for role in roles if role not in ROLES]
        if unknown:
            raise ValueError(f"parts has {unknown[0]!r}; allowed: {', '.join(ROLES)}")
        return replace(self, tracks=tuple(track for track in self.tracks if track.role in roles))

    def slice_bars(self, first: int, last: int) -> "Score":
        """Bars [first, last), counted from 0, as a score of their own: the notes that begin there, cut at its end."""
        if not 0 <= first < last <= self.bars:
            raise ValueError(f"bars [{first}, {last}) of a score of {self.bars} bars; allowed: 0 <= first < last")
        bar = float(quarters_per_bar(self.time_signature))
        start, stop = first * bar, last * bar
        tracks = []
        for track in self.tracks:
            notes = track.notes[(track.notes[:, 0] >= start) & (track.notes[:, 0] < stop)].copy()
            notes[:, 1] = np.minimum(notes[:, 1], stop - notes[:, 0])
            notes[:, 0] -= start
            tracks.append(replace(track, notes=notes))
        beats, chords = parse_time_signature(self.time_signature), self.chords
        if first:
            chords = slice_chords(chords, beats, first * beats, last * beats)
        return replace(self, tracks=tuple(tracks), bars=last - first, chords=chords)

    def transpose(self, semitones: int) -> "Score":
        """The same music higher or lower; drums stay. Notes that would leave 0 to 127 move by an octave less."""
        tracks = []
        for track in self.tracks:
            notes = track.notes.copy()
            if track.role != "drums":
                moved = notes[:, 2] + semitones
                notes[:, 2] = moved - 12.0 * np.ceil((moved - 127).clip(0) / 12) + 12.0 * np.ceil((-moved).clip(0) / 12)
            tracks.append(replace(track, notes=notes))
        key = self.key and transpose_name(self.key, semitones)
        chords = self.chords and " ".join(transpose_name(symbol, semitones) for symbol in self.chords.split())
        return replace(self, tracks=tuple(tracks), key=key, chords=chords)

    def changed_bars(self, other: "Score") -> list[int]:
        """Bars, counted from 0, in which another score of the same meter sounds otherwise: those in which a note that
        only one of them has begins or still sounds."""
        if self.time_signature != other.time_signature:
            raise ValueError(f"time_signature of the scores is {self.time_signature} and {other.time_signature}")
        bar = float(quarters_per_bar(self.time_signature))
        here, there = (
            {(track.role, track.instrument, *map(float, note)) for track in score.tracks for note in track.notes}
            for score in (self, other)
        )
        bars = set(range(min(self.bars, other.bars), max(self.bars, other.bars)))
        for *_, onset, duration, _pitch, _velocity in here ^ there:
            bars |= set(range(int(onset // bar), math.ceil((onset + duration) / bar)))
        return sorted(number for number in bars if number < max(self.bars, other.bars))

    def to_text(self) -> str:
        """The score as compressed ASCII text, for the recipe in a file's tags."""
        content = {
            "bpm": self.bpm, "time_signature": self.time_signature, "bars": self.bars, "key": self.key,
            "chords": self.chords,
            "tracks": [[t.role, t.instrument, as_integers(t.notes).ravel().tolist()] for t in self.tracks],
        }  # fmt: skip
        return base64.b85encode(zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)).decode()

    @classmethod
    def from_text(cls, text: str) -> "Score":
        """The score that `to_text` wrote.

        Raises:
            ValueError: if it is none.
        """
        try:
            content = json.loads(zlib.decompressobj().decompress(base64.b85decode(text), MAX_TEXT))
            tracks = [
                Track(role, np.reshape(flat, (-1, 4)) / (TICKS, TICKS, 1, 127), instrument)
                for role, instrument, flat in content.pop("tracks")
            ]
            return cls(tuple(tracks), **content)
        except (ValueError, KeyError, TypeError, RecursionError, zlib.error) as error:
            raise ValueError(f"score cannot be read from text ({type(error).__name__}: {error})") from error

    def save(self, path: str | os.PathLike) -> None:
        """Write a standard MIDI file (type 1): tempo, meter, key, chords as markers, and a track for each part with its
        General MIDI program. `Score.load` reads the same score from it.

        Raises:
            ValueError: if mido is not installed.
        """
        midi_files().write_midi(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike, roles: dict[str | int, str] | None = None, bpm: float | None = None):
        """Read a standard MIDI file of type 0 or 1.

        Tempo and meter of the score are those that most of the file has; notes keep their places in quarters, also
        where a file changes them, and `remarks` says so. Sustain pedals lengthen notes. Roles are found: the drum
        channel, the lowest part or one with the program of a bass, the most prominent melody, harmony for the rest.

        Args:
            path: of the file.
            roles: for tracks by name or by number (from 0, of those that have notes), what role they have.
            bpm: tempo of the score, in place of the file's.

        Raises:
            ValueError: one line that names the file: no MIDI file, truncated, of type 2, or without notes.
        """
        return midi_files().read_midi(Path(path), roles or {}, bpm)


def midi_files():
    """vivace_notes, which imports this module: diffusers follows `from .name import` without end in a circle."""
    return importlib.import_module(".vivace_notes", __package__)


def as_integers(notes: np.ndarray) -> np.ndarray:
    """Notes with times in ticks and velocities up to 127, (n, 4) int64."""
    return np.round(notes * (TICKS, TICKS, 1, 127)).astype(np.int64)


def transpose_name(name: str, semitones: int) -> str:
    """A chord symbol or the name of a key, so many semitones higher: "Am/C" by 2 is "Bm/D"."""

    def moved(match: re.Match) -> str:
        return match[1] + PITCH_CLASSES[(parse_note(match[2], match[3]) + semitones) % 12]

    return re.sub(r"(^|/)([A-G])([#b\u266f\u266d]?)(?!\.?C)", moved, name) if name[:1] != "N" else name


def slice_chords(chords: str | None, beats_per_bar: int, first: int, last: int, counted: bool = False) -> str | None:
    """What of a progression, which is repeated to the end, sounds in beats [first, last); `counted`: each chord with
    its beats, also where it lasts a bar."""
    if chords is None:
        return None
    symbols = read_symbols(chords, beats_per_bar)
    line = [place for place, (_, count) in enumerate(symbols) for _ in range(count)]
    groups = itertools.groupby(range(first, last), lambda beat: (beat // len(line), line[beat % len(line)]))
    kept = [(symbols[place][0], len(list(beats))) for (_, place), beats in groups]
    return " ".join(symbol if count == beats_per_bar and not counted else f"{symbol}:{count}" for symbol, count in kept)


def note_roll(
    score: Score | None,
    frames: int,
    frame_rate: float,
    start_s: float = 0.0,
    stretch: float = 1.0,
    free: Iterable[str] = (),
    circle: bool = False,
) -> "torch.Tensor":
    """What sounds in each latent frame, for the network.

    Channels: for lead, harmony and bass each 88 of sustain (velocity x the share of the frame in which the pitch
    sounds) and 88 of onset (velocity, split over the two nearest frames by distance, so that times finer than a frame
    survive), for drums 11 classes of onset; then two for each of the four roles: its notes are given; it is silent.
    Where a role is free to play what fits, both are 0, as all channels of its notes.

    Args:
        score: the notes; None = all roles are free.
        frames: how many.
        frame_rate: frames a second; frame i lasts from i / frame_rate to (i + 1) / frame_rate seconds.
        start_s: time of the score's beginning, seconds; may lie outside the frames.
        stretch: how many times faster than at its own tempo the score is played.
        free: roles of which nothing is said, whatever notes they have.
        circle: the frames are a loop: what rings beyond the last sounds in the first.

    Returns:
        (`ROLL_CHANNELS`, frames) float32.
    """
    free = set(ROLES if score is None else free)
    notes: dict[str, np.ndarray] = {}
    for role in ROLES if score is not None else ():
        if role not in free:
            notes[role] = score.notes(role)
            scale = score.quarter_s / stretch * frame_rate  # frames a quarter
            onset = start_s * frame_rate + notes[role][:, 0] * scale
            end = start_s * frame_rate + notes[role][:, :2].sum(1) * scale
            notes[role] = np.column_stack([onset, end, notes[role][:, 2:]])
    return events_roll(notes, frames, circle)


def role_channels(role: str) -> list[int]:
    """The channels of a note roll that belong to a role, its states last; where all are 0, the role is free.

    Raises:
        ValueError: an unknown role.
    """
    if role not in ROLES:
        raise ValueError(f"role is {role!r}; allowed: {', '.join(ROLES)}")
    place, drums = ROLES.index(role), 2 * PITCH_COUNT * len(PITCHED)
    first, last = drums, ROLL_CHANNELS - STATE_CHANNELS
    if role != "drums":
        first, last = 2 * PITCH_COUNT * place, 2 * PITCH_COUNT * (place + 1)
    state = ROLL_CHANNELS - STATE_CHANNELS + 2 * place
    return [*range(first, last), state, state + 1]


def events_roll(notes: dict[str, np.ndarray], frames: int, circle: bool = False) -> "torch.Tensor":
    """The roll of `note_roll` from notes whose times are in frames.

    Args:
        notes: for each role (n, 4): first and last moment in frames, MIDI pitch, velocity; a role without notes is
            silent, one that is not there is free.
        frames: how many.
        circle: as in `note_roll`.

    Returns:
        (`ROLL_CHANNELS`, frames) float32.
    """
    import torch  # here, so that scores are read and checked without it

    roll = np.zeros((ROLL_CHANNELS, frames), dtype=np.float64)
    for place, role in enumerate(ROLES):
        if role not in notes:
            continue
        onset, end, pitch, velocity = np.asarray(notes[role], dtype=np.float64).reshape(-1, 4).T
        roll[2 * place - STATE_CHANNELS + (not len(onset))] = 1.0
        if role == "drums":
            classes = [DRUM_CLASS.get(int(key), len(DRUM_CLASSES) - 1) for key in pitch]
            rows = 2 * PITCH_COUNT * len(PITCHED) + np.array(classes, int)
            _add_onsets(roll, rows, onset, velocity, circle)
            continue
        inside = (pitch >= LOWEST) & (pitch <= HIGHEST)
        rows = 2 * PITCH_COUNT * place + pitch[inside].astype(int) - LOWEST
        onset, end, velocity = onset[inside], end[inside], velocity[inside]
        _add_sustain(roll, rows, onset, end, velocity, circle)
        _add_onsets(roll, rows + PITCH_COUNT, onset, velocity, circle)
    return torch.from_numpy(roll.clip(0.0, 1.0)).float()


def _add_sustain(
    roll: np.ndarray, rows: np.ndarray, first: np.ndarray, last: np.ndarray, level: np.ndarray, circle: bool
) -> None:
    """Add notes that sound from frame position `first` to `last`, (n,) each: level x the share of each frame."""
    frames = roll.shape[1]
    begin, stop = np.floor(first).astype(int), np.ceil(last).astype(int)
    if circle:
        last = np.minimum(last, first + frames)
        stop = np.ceil(last).astype(int)
    else:
        begin, stop = begin.clip(0), stop.clip(max=frames)
    count = (stop - begin).clip(0)
    note = np.repeat(np.arange(len(rows)), count)  # of each pair of a note and a frame
    index = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count) + begin[note]
    share = np.minimum(index + 1, last[note]) - np.maximum(index, first[note])
    np.add.at(roll, (rows[note], index % frames), level[note] * share.clip(0.0, 1.0))


def _add_onsets(roll: np.ndarray, rows: np.ndarray, onset: np.ndarray, level: np.ndarray, circle: bool) -> None:
    """Add onsets at frame positions: each is shared by the two frames whose centres are nearest."""
    frames = roll.shape[1]
    place = onset - 0.5
    first = np.floor(place).astype(int)
    late = place - first
    for index, share in ((first, 1.0 - late), (first + 1, late)):
        index, inside = (
            (index % frames, np.ones(len(index), bool)) if circle else (index, (index >= 0) & (index < frames))
        )
        np.add.at(roll, (rows[inside], index[inside]), (level * share)[inside])
