"""Scores: the notes of a piece by part, from and to standard MIDI files.

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
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from .vivace_theory import (
    PITCH_CLASSES,
    PROGRAM_NAMES,
    PROGRAMS,
    parse_key,
    parse_note,
    parse_time_signature,
    read_symbols,
)

ROLES = ("lead", "harmony", "bass", "drums")
TICKS = 960  # to the quarter
MAX_NOTES = 50_000
MAX_BARS = 4000
MAX_TEXT = 2**24  # characters of a score's text when unpacked; `MAX_NOTES` take less than a tenth


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
        write_midi(self, Path(path))

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
        return read_midi(Path(path), roles or {}, bpm)


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


def read_parts(parts: object, score: Score | None) -> tuple[str, ...] | None:
    """The roles that are to play, in the order of `ROLES`; None = all.

    Raises:
        ValueError: no list, an unknown role, none at all, or one that a given score does not have.
    """
    if parts is None:
        return None
    names = [parts] if isinstance(parts, str) else parts
    if not isinstance(names, (list, tuple)) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"parts is {parts!r}; allowed: a list of {', '.join(ROLES)}")
    unknown = [name for name in names if name not in ROLES]
    if unknown:
        raise ValueError(f"parts has {unknown[0]!r}; allowed: {', '.join(ROLES)}")
    missing = [name for name in names if score is not None and name not in score.roles]
    if score is not None and missing:
        raise ValueError(f"parts has {missing[0]!r}; the score has: {', '.join(score.roles) or 'no notes'}")
    return tuple(role for role in ROLES if role in names)


# Standard MIDI files <-> scores. Needs the package mido.


DRUM_CHANNEL = 9
RELEASE = 0.25  # quarters by which the last notes may ring beyond the last bar
TAG = "vivace "  # begins the text event of our own files


def load_mido():
    """The library for MIDI files, needed for them alone.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return importlib.import_module("mido")
    except ImportError as error:
        raise ValueError(f"reading and writing MIDI files needs mido: pip install mido ({error})") from error


def _midi_key(key: str) -> str:
    """A key in the words of a MIDI key signature, which has no D# major and the like: "Am", "Gb"."""
    note, mode = key.split()
    minor = {"Db": "C#", "Gb": "F#", "Ab": "G#"}
    return f"{minor.get(note, note)}m" if mode == "minor" else note


def _midi_track(mido, events: list[tuple[int, Any]], end: int):
    """A track of events at times in ticks; at one time ends of notes come before their beginnings."""
    events = sorted(events, key=lambda event: (event[0], getattr(event[1], "type", "") == "note_on"))
    track, now = mido.MidiTrack(), 0
    for time, message in events:
        track.append(message.copy(time=time - now))
        now = time
    track.append(mido.MetaMessage("end_of_track", time=max(end - now, 0)))
    return track


def midi_of(score: Score):
    """The score as a `mido.MidiFile`."""
    mido = load_mido()
    end = round(float(score.quarters) * TICKS)
    upper, lower = (int(part) for part in score.time_signature.split("/"))
    tempo = round(1e6 * score.quarter_s)
    own = {
        "bpm": score.bpm, "key": score.key, "chords": score.chords, "bars": score.bars,
        "parts": [[track.role, track.instrument] for track in score.tracks],
    }  # fmt: skip
    conductor = [
        (0, mido.MetaMessage("text", text=TAG + json.dumps(own))),
        (0, mido.MetaMessage("time_signature", numerator=upper, denominator=lower)),
        (0, mido.MetaMessage("set_tempo", tempo=min(tempo, 2**24 - 1))),
    ]
    if score.key:
        conductor.append((0, mido.MetaMessage("key_signature", key=_midi_key(score.key))))
    beat = float(quarters_per_beat(score.time_signature))
    onset = 0
    for symbol, count in read_symbols(score.chords, parse_time_signature(score.time_signature)) if score.chords else ():
        if onset * beat * TICKS < end:
            conductor.append((round(onset * beat * TICKS), mido.MetaMessage("marker", text=symbol)))
        onset += count
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS, charset="latin-1")
    file.tracks.append(_midi_track(mido, conductor, end))
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    pitched = 0
    for track in score.tracks:
        channel = DRUM_CHANNEL if track.role == "drums" else channels[pitched % len(channels)]
        pitched += track.role != "drums"
        name = f"{track.role}: {track.instrument}" if track.instrument else track.role
        events = [(0, mido.MetaMessage("track_name", name=name))]
        events.append((0, mido.Message("program_change", channel=channel, program=track.program)))
        for onset, length, pitch, velocity in as_integers(track.notes).tolist():
            events.append((onset, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
            events.append((onset + length, mido.Message("note_off", channel=channel, note=pitch, velocity=64)))
        file.tracks.append(_midi_track(mido, events, end))
    return file


def write_midi(score: Score, path: Path) -> None:
    """Write a score as a file, whole or not at all; see `Score.save`."""
    file = midi_of(score)
    partial = path.with_name(f".{os.getpid()}.partial")
    try:
        file.save(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@dataclass
class MidiPart:
    """Notes of one channel, track and program of a MIDI file; times in quarters."""

    name: str
    channel: int
    program: int
    notes: list[tuple[float, float, int, float]] = field(default_factory=list)


@dataclass
class _MidiContent:
    """What a MIDI file holds; times in quarters."""

    parts: list[MidiPart]
    tempos: list[tuple[float, float]]  # quarters a minute from a time on
    meters: list[tuple[float, str]]
    key: str | None
    own: dict
    end: float
    remarks: list[str]


def read_midi(path: Path, roles: dict[str | int, str], bpm: float | None) -> Score:
    """The score of a file; see `Score.load`."""
    mido = load_mido()
    try:
        if not path.is_file():
            raise ValueError("no such file")
        with open(path, "rb") as stream:
            if stream.read(4) != b"MThd":
                raise ValueError("no MIDI file; allowed: standard MIDI files of type 0 or 1 (.mid)")
        file = mido.MidiFile(path, charset="latin-1", clip=True)
        if file.type == 2:
            raise ValueError("a MIDI file of type 2 (patterns apart from each other); allowed: type 0 or 1")
        if file.ticks_per_beat <= 0:
            raise ValueError("times in frames of film (SMPTE); allowed: ticks of a quarter")
        return _settle(_collect(file), roles, bpm)
    except ValueError as error:
        raise ValueError(f"score {str(path)!r}: {error}") from error
    except Exception as error:  # mido raises what it stumbles over: EOFError, OSError, IndexError, KeySignatureError
        reason = "ends too early" if isinstance(error, EOFError) else " ".join(str(error).split())
        raise ValueError(f"score {str(path)!r}: a damaged MIDI file ({reason or type(error).__name__})") from error


def _collect(file) -> _MidiContent:
    """Parts, tempos and meters of a `mido.MidiFile`."""
    content = _MidiContent([], [], [], None, {}, 0.0, [])
    parts: dict[tuple[int, int, int], MidiPart] = {}
    hanging = 0
    for number, track in enumerate(file.tracks):
        name, now = "", 0
        programs: dict[int, int] = defaultdict(int)
        pedal: dict[int, bool] = defaultdict(bool)
        sounding: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
        held: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)  # by the pedal, key let go

        def end(channel: int, pitch: int, notes: list, time: float, number=number, programs=programs) -> None:
            place = (number, channel, programs[channel])
            if place not in parts:
                parts[place] = MidiPart("", channel, programs[channel])
            part = parts[place]
            part.notes.extend((onset, time - onset, pitch, velocity) for onset, velocity in notes)
            notes.clear()

        for message in track:
            now += message.time
            time = now / file.ticks_per_beat
            if message.type == "set_tempo":
                content.tempos.append((time, 60e6 / max(message.tempo, 1)))
            elif message.type == "time_signature":
                content.meters.append((time, f"{message.numerator}/{message.denominator}"))
            elif message.type == "key_signature" and content.key is None:
                content.key = parse_key(message.key)
            elif message.type == "track_name" and not name:
                name = message.name.strip()
            elif message.type == "text" and message.text.startswith(TAG) and not content.own:
                content.own = _read_own(message.text)
            elif message.type == "program_change":
                for channel, pitch in [place for place in sounding if place[0] == message.channel]:
                    end(channel, pitch, sounding[channel, pitch], time)
                programs[message.channel] = message.program
            elif message.type == "control_change" and message.control == 64:
                pedal[message.channel] = message.value >= 64
                if message.value < 64:
                    for channel, pitch in [place for place in held if place[0] == message.channel]:
                        end(channel, pitch, held[channel, pitch], time)
            elif message.type in ("note_on", "note_off"):
                place = (message.channel, message.note)
                if message.type == "note_on" and message.velocity:
                    end(*place, held[place], time)
                    sounding[place].append((time, message.velocity / 127.0))
                elif sounding[place]:
                    first = sounding[place].pop(0)
                    if pedal[message.channel]:
                        held[place].append(first)
                    else:
                        end(*place, [first], time)
        time = now / file.ticks_per_beat
        content.end = max(content.end, time)
        hanging += sum(map(len, sounding.values()))
        for notes in (sounding, held):
            for place, rows in notes.items():
                end(*place, rows, time)
        for part in (part for place, part in parts.items() if place[0] == number):
            part.name = name
    content.parts = [part for part in parts.values() if part.notes]
    if hanging:
        content.remarks.append(f"{hanging} notes have no end; they end with their track")
    return content


def _read_own(text: str) -> dict:
    """What our own files say of themselves; nothing where it cannot be read."""
    try:
        own = json.loads(text.removeprefix(TAG))
    except ValueError:
        return {}
    return own if isinstance(own, dict) else {}


def _most(changes: Sequence[tuple[float, Any]], end: float, default: Any):
    """Of a value that changes in time, the one that holds longest, and when it changes."""
    changes = sorted(changes, key=lambda change: change[0])
    if not changes or changes[0][0] > 0:
        changes = [(0.0, default if not changes else changes[0][1]), *changes]
    share: dict = defaultdict(float)
    for (time, value), (later, _) in zip(changes, [*changes[1:], (max(end, changes[-1][0]) + 1e-6, None)], strict=True):
        share[value] += later - time
    others = [(time, value) for time, value in changes if value != changes[0][1]]
    return max(share, key=share.__getitem__), others


def _settle(content: _MidiContent, roles: dict, bpm: float | None) -> Score:
    """The score of what a MIDI file holds."""
    if not content.parts:
        raise ValueError("has no notes")
    count = sum(len(part.notes) for part in content.parts)
    if count > MAX_NOTES:
        raise ValueError(f"has {count} notes; allowed: at most {MAX_NOTES}")
    remarks = list(content.remarks)
    meter, changes = _most(content.meters, content.end, "4/4")
    bar = quarters_per_bar(meter)
    if changes:
        remarks.append(
            f"the meter changes to {changes[0][1]} at quarter {changes[0][0]:g}; bars are counted in {meter}"
        )
    quarter_bpm, changes = _most(content.tempos, content.end, 120.0)
    beat = quarters_per_beat(meter)
    file_bpm = quarter_bpm / float(beat)
    own = content.own
    stated = own.get("bpm")
    if isinstance(stated, (int, float)) and abs(stated / file_bpm - 1) < 1e-5:
        file_bpm = float(stated)  # MIDI rounds a tempo to whole microseconds a quarter
    elif abs(file_bpm - round(file_bpm)) < 1e-3:
        file_bpm = float(round(file_bpm))
    if changes and bpm is None:
        start, other = changes[0]
        remarks.append(
            f"the tempo changes to {other / float(beat):.4g} at quarter {start:g}; all is {file_bpm:.4g} bpm"
        )
    parts = own.get("parts")
    is_ours = isinstance(parts, list) and len(parts) >= len(content.parts)
    names = [part.name for part in content.parts]
    for key in roles:
        if key not in names and (not isinstance(key, int) or not 0 <= key < len(names)):
            listed = ", ".join(f"{k} {name!r}" for k, name in enumerate(names[:16], 1))
            raise ValueError(f"roles names track {key + 1 if isinstance(key, int) else key!r}; it has {listed}")
    found = find_roles(content.parts)
    tracks = []
    for number, (part, role) in enumerate(zip(content.parts, found, strict=True)):
        instrument = None if role == "drums" else PROGRAM_NAMES[part.program]
        name, _, words = part.name.partition(": ")
        if is_ours and name in ROLES:  # a track of ours
            role, instrument = name, words or None
        role = roles.get(number, roles.get(part.name, role))
        tracks.append(Track(role, np.array(part.notes), None if role == "drums" and not words else instrument))
    last = max(track.notes[-1, 0] for track in tracks)
    needed = math.floor(Fraction(round(last * TICKS), TICKS) / bar) + 1
    ends = max((track.notes[:, 0] + track.notes[:, 1]).max() for track in tracks)
    bars = max(needed, math.ceil((ends - RELEASE) / float(bar)))
    if isinstance(own.get("bars"), int) and needed <= own["bars"] <= MAX_BARS:
        bars = own["bars"]
    key = own.get("key") if isinstance(own.get("key"), str) else content.key
    chords = own.get("chords") if isinstance(own.get("chords"), str) else None
    return Score(tuple(tracks), file_bpm if bpm is None else bpm, meter, bars, key, chords, tuple(remarks))


def find_roles(parts: Sequence[MidiPart]) -> list[str]:
    """What each part of a file plays: drums by channel, bass by program or as the lowest part, lead by prominence.

    Prominent is what is high, loud, mostly one note at a time, and plays much. A single part is the lead if it mostly
    has one note at a time, else harmony.
    """
    roles = ["drums" if part.channel == DRUM_CHANNEL else "" for part in parts]
    rows = {number: np.array(part.notes) for number, part in enumerate(parts) if not roles[number]}
    if not rows:
        return roles
    pitch = {number: float(np.median(notes[:, 2])) for number, notes in rows.items()}
    single = {number: _share_single(notes) for number, notes in rows.items()}
    for number in rows:
        if 32 <= parts[number].program <= 39 or re.search(r"\bbass\b", parts[number].name, flags=re.IGNORECASE):
            roles[number] = "bass"
    lowest = min(rows, key=pitch.__getitem__)
    if "bass" not in roles and len(rows) > 1 and pitch[lowest] < 52 and single[lowest] > 0.7:
        roles[lowest] = "bass"
    rest = [number for number in rows if not roles[number]]
    named = [n for n in rest if re.search(r"melod|lead|vocal|voice|solo|sing", parts[n].name, flags=re.IGNORECASE)]
    most = max((len(rows[number]) for number in rest), default=1)
    prominence = {
        number: 2.0 * single[number]
        + pitch[number] / 24.0
        + float(rows[number][:, 3].mean())
        + 0.5 * len(rows[number]) / most
        for number in rest
    }
    lead = max(named or rest, key=prominence.__getitem__, default=None)
    for number in rest:
        roles[number] = "lead" if number == lead and (single[number] > 0.5 or number in named) else "harmony"
    return roles


def _share_single(notes: np.ndarray) -> float:
    """Share of the notes of a part that begin alone, while at most the end of another still sounds."""
    notes = notes[np.argsort(notes[:, 0], kind="stable")]
    if len(notes) < 2:
        return 1.0
    onset, end = notes[:, 0], notes[:, 0] + notes[:, 1]
    before = np.maximum.accumulate(end)[:-1]  # when all before have ended
    overlap = (before - onset[1:]) / notes[1:, 1].clip(1e-6)
    return float(np.concatenate([[True], (overlap < 0.5) & (np.diff(onset) > 1e-3)]).mean())
