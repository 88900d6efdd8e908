"""Standard MIDI files <-> scores. Needs the package mido.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import importlib
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from .vivace_score import (
    MAX_BARS,
    MAX_NOTES,
    PROGRAM_NAMES,
    ROLES,
    TICKS,
    Score,
    Track,
    as_integers,
    quarters_per_bar,
    quarters_per_beat,
)
from .vivace_theory import parse_key, parse_time_signature, read_symbols

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


def _midi_track(mido, events: list[tuple[int, object]], end: int):
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
    own = {"bpm": score.bpm, "key": score.key, "chords": score.chords, "bars": score.bars}
    own["parts"] = [[track.role, track.instrument] for track in score.tracks]
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


def _most(changes: list[tuple[float, float | str]], end: float, default: float | str):
    """Of a value that changes in time, the one that holds longest, and when it changes."""
    changes = sorted(changes, key=lambda change: change[0])
    if not changes or changes[0][0] > 0:
        changes = [(0.0, default if not changes else changes[0][1]), *changes]
    share: dict = defaultdict(float)
    for (time, value), (later, _) in zip(changes, [*changes[1:], (max(end, changes[-1][0]) + 1e-6, None)], strict=True):
        share[value] += later - time
    others = [(time, value) for time, value in changes if value != changes[0][1]]
    return max(share, key=share.get), others


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
    known = isinstance(parts, list) and len(parts) >= len(content.parts)
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
        if known and name in ROLES:  # a track of ours
            role, instrument = name, words or None
        role = roles.get(number, roles.get(part.name, role))
        tracks.append(Track(role, part.notes, None if role == "drums" and not words else instrument))
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
    lowest = min(rows, key=pitch.get)
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
    lead = max(named or rest, key=prominence.get, default=None)
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
