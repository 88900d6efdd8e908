"""The notes that a piece plays: scores and MIDI files, fitted to its music, as rolls and instruments of the network."""

import importlib
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .vivace_music import Music, MusicArguments
from .vivace_reading import SILENCED, Exclusion, MusicWords
from .vivace_score import (
    INSTRUMENT_WORDS,
    MAX_BARS,
    MAX_NOTES,
    PROGRAM_NAMES,
    PROGRAMS,
    ROLES,
    TICKS,
    Score,
    Track,
    as_integers,
    note_roll,
    quarters_per_bar,
    quarters_per_beat,
    slice_chords,
)
from .vivace_theory import parse_key, parse_time_signature, progression_beats, read_symbols

if TYPE_CHECKING:
    import torch

DANCES = (("waltz|waltze|minuet|mazurka|ländler", "3/4"), ("jig|tarantella|barcarolle", "6/8"))
# Words of music that has drums, and of music that has none, unless other words say so. Where both stand, the first.
WITH_DRUMS = (
    r"beats?|blues|bossa(?: nova)?|boom bap|chiptune|8-bit|disco|dnb|drum\W?(?:and|n|&)\W?bass|dub|dubstep|edm|funky?|"
    r"groovy?|hip\W?hop|house|jazz|jungle|latin|lo-?fi|march|metal|polka|pop|punk|reggae|rock|salsa|samba|ska|swing|"
    r"techno|trance|trap"
)
WITHOUT_DRUMS = (
    r"a cappella|ambient|baroque|chamber music|choir|choral|chorale|classical|drone|du[oe]t?s?|étude|etude|fugue|hymn|"
    r"lullaby|meditati(?:on|ve)|music box|nocturne|prelude|requiem|serenade|sonata|"
    r"(?:string|brass|wind|woodwind|saxophone|sax|flute|guitar) (?:trio|quartet|quintet)"
)
KEYS_PROGRAMS = (*range(8), *range(16, 24), 46)  # two hands: they play a bass line as well
CHORD_PROGRAMS = (*KEYS_PROGRAMS, *range(8, 16), *range(24, 32), 45, 48, 49, 50, 51, 52, 53)
PAD_PROGRAMS = (*range(88, 96),)  # they play chords alone
BASS_PROGRAMS = (*range(32, 40), 43, 58)
LOW_PROGRAMS = (42, 67, 70)  # beside another lead they play the bass
MELODIC_PROGRAMS = tuple({*range(128)} - {*CHORD_PROGRAMS, *PAD_PROGRAMS, *BASS_PROGRAMS, *LOW_PROGRAMS})
TAIL_S = 0.4  # after a changed bar, in which its notes still ring


def read_score(score: object) -> Score | None:
    """What a call is given as its score: a `Score`, or the name of a MIDI file.

    Raises:
        ValueError: anything else, or a file that is not read.
    """
    if score is None or isinstance(score, Score):
        return score
    if hasattr(score, "tracks") and hasattr(score, "to_text"):  # a Score of another copy of this code
        return replace(Score.from_text(score.to_text()), remarks=tuple(getattr(score, "remarks", ())))
    if isinstance(score, (str, os.PathLike)):
        return Score.load(score)
    raise ValueError(f"score is a {type(score).__name__}; allowed: a Score, or the name of a MIDI file")


def read_melody(melody: object) -> Score | None:
    """What a call is given as its melody, as the lead of a score: notes, a `Score`, or the name of a MIDI file.

    Of a score it is the lead, or the only part that has pitches. Notes are rows of onset and duration in quarters,
    pitch and velocity; without a velocity they have 0.8.

    Raises:
        ValueError: anything else, or a score without a lead that has several pitched parts, or none.
    """
    if melody is None:
        return None
    if isinstance(melody, (list, tuple, np.ndarray)):
        try:
            notes = [(*row, 0.8) if len(row) == 3 else tuple(row) for row in melody]
            return Score((Track("lead", np.asarray(notes, dtype=np.float64)),))
        except (TypeError, ValueError) as error:
            raise ValueError(f"melody cannot be read as rows of onset, duration, pitch, velocity ({error})") from error
    try:
        score = read_score(melody)
    except ValueError as error:
        raise ValueError(re.sub("^score", "melody", str(error))) from error
    assert score is not None
    if "lead" in score.roles:
        return score.only("lead")
    pitched = [role for role in score.roles if role != "drums"]
    if len(pitched) != 1:
        have = ", ".join(score.roles) or "none"
        raise ValueError(f"melody has the parts {have}; needed: a lead, or a single part with pitches")
    return replace(score, tracks=tuple(replace(track, role="lead") for track in score.only(*pitched).tracks))


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


NAMES = {name: name for name in PROGRAMS} | {word: name for name, words in INSTRUMENT_WORDS.items() for word in words}
LEADS = re.compile(r"\s*(?:lead|melody|solo|tune|plays? (?:the|a) (?:lead|melody|tune))\b")
LONGEST_FIRST = sorted(NAMES, key=len, reverse=True)
NAMED = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, LONGEST_FIRST))})s?(?![\w-])")


def named_instruments(prompt: str) -> dict[str, str]:
    """Instruments that a prompt names, in their order, each with the words after it up to the next comma."""
    text = prompt.lower()
    found: dict[str, str] = {}
    for match in NAMED.finditer(text):
        found.setdefault(NAMES[match[1]], re.split("[,.;]", text[match.end() :])[0])
    return found


def cast(exclusion: Exclusion) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """Who plays what by the words of a prompt and by what they exclude, for music that is composed.

    "Flute lead" plays the lead, a bass the bass. Of the others, the first that plays single notes has the lead and the
    first of chords the harmony, or both where no other is named. "Solo piano" plays alone; "only bass and drums",
    "without drums", "no melody" and "chordless" are obeyed.

    Returns:
        The roles that play, None = open; and what plays a role, for those that the words name.
    """
    named = named_instruments(exclusion.words)
    left = list(named)

    def first(*groups: Sequence[int]) -> str | None:
        """The first instrument that is left of the first group that has one."""
        name = next((name for group in groups for name in left if PROGRAMS[name] in group), None)
        if name is not None:
            left.remove(name)
        return name

    leads = [name for name, after in named.items() if LEADS.match(after)]
    found = {"lead": first([PROGRAMS[name] for name in leads], MELODIC_PROGRAMS, LOW_PROGRAMS, CHORD_PROGRAMS)}
    found["bass"] = first(BASS_PROGRAMS, LOW_PROGRAMS)
    found["harmony"] = first(PAD_PROGRAMS, CHORD_PROGRAMS, MELODIC_PROGRAMS, LOW_PROGRAMS)
    if found["harmony"] is None and PROGRAMS.get(found["lead"] or "") in CHORD_PROGRAMS:
        found["harmony"] = found["lead"]
    players = {role: name for role, name in found.items() if name is not None}
    solo = re.search(r"(?<![\w-])solo\b(?!\s*$)", exclusion.words.lower()) is not None
    roles = set(players)
    if exclusion.exclusive or (solo and len(named) == 1):
        roles |= {role for role in ("bass", "drums") if role in exclusion.exclusive}
        if roles == {"lead", "harmony"} and PROGRAMS[players["lead"]] in KEYS_PROGRAMS and len(named) == 1:
            players["bass"] = players["lead"]
            roles.add("bass")
    else:
        roles = set()
    silent: set[str] = {role for role in ("bass", "drums") if role in exclusion.excluded}
    silent |= {"drums"} if exclusion.drumless else set()
    silent |= {role for role, words in SILENCED.items() if words.search(exclusion.words)}
    parts = tuple(role for role in ROLES if role not in silent and (role in roles or not roles))
    return (parts if roles or silent else None), {role: name for role, name in players.items() if role not in silent}


def drums_of(prompt: str) -> bool | None:
    """Whether music of the words of a prompt has drums; None = the words leave it open."""
    words = prompt.lower()
    for pattern, answer in ((WITH_DRUMS, True), (WITHOUT_DRUMS, False)):
        if re.search(rf"(?<![\w-])(?:{pattern})(?![\w-])", words):
            return answer
    return None


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


def fit_score(score: Score, music: Music, parts: tuple[str, ...] | None) -> Score:
    """The score as a piece plays it: in its tempo, meter, key and chords, these parts alone, and cut at its end."""
    assert music.bpm is not None and music.time_signature is not None
    bars = score.bars if music.time_signature == score.time_signature else None
    fitted = replace(
        score, bpm=float(music.bpm), time_signature=music.time_signature, bars=bars, key=music.key, chords=music.chords
    )
    bar_s = float(quarters_per_bar(music.time_signature)) * fitted.quarter_s
    longest = music.bars or max(1, math.ceil((float(music.duration_s) - music.downbeat_s) / bar_s - 1e-6))
    fitted = fitted.slice_bars(0, min(longest, fitted.bars or longest))
    return fitted if parts is None else fitted.only(*parts)


def rolls(
    score: Score | None, parts: tuple[str, ...] | None, music: Music, frames: int, frame_rate: float
) -> "torch.Tensor | None":
    """The note roll (`ROLL_CHANNELS`, frames) of a piece; None where all roles are free to play what fits.

    Roles outside `parts` are silent. Before and after its score, a piece is free in what is played.
    """
    if score is None:
        if parts is None:
            return None
        return note_roll(Score(()), frames, frame_rate, free=parts)
    roll = note_roll(score, frames, frame_rate, music.downbeat_s / music.stretch, music.stretch, circle=music.loop)
    if not music.loop:
        first = music.downbeat_s * frame_rate
        times = np.arange(frames) + 0.5
        roll[:, np.flatnonzero((times < first) | (times > first + score.duration_s * frame_rate))] = 0.0
    return roll


def instruments_of(score: Score | None, prompt: str, known: Sequence[str]) -> list[int]:
    """What plays each role, as places in the network's list `known`; -1 = unknown.

    Where the prompt names instruments of that list, it decides: the score's count only where the prompt names them too,
    and a single instrument plays a single pitched part. Else the instruments of the score's tracks count.
    """
    named = [name for name in known if re.search(rf"(?<![\w-]){re.escape(name)}s?(?![\w-])", prompt.lower())]
    named = [name for name in named if not any(name != longer and name in longer for longer in named)]
    players: dict[str, str] = {}
    for track in () if score is None else score.tracks:
        if track.instrument is not None and (not named or track.instrument in named):
            players.setdefault(track.role, track.instrument)
    pitched = [] if score is None else [role for role in score.roles if role != "drums"]
    if len(pitched) == 1 and len(named) == 1 and named[0] != "drums":
        players.setdefault(pitched[0], named[0])
    return [known.index(players[role]) if players.get(role) in known else -1 for role in ROLES]


def changed_regions(
    before: Score, after: Score, downbeat_s: float, duration_s: float, loop: bool
) -> list[tuple[float, float]]:
    """Regions in seconds of a piece in which another score than its own sounds otherwise: the bars in which a changed
    note begins or sounds, and a moment after them, in which they ring.

    Args:
        before, after: what the piece plays, and what it is to play.
        downbeat_s: where the scores begin in the piece.
        duration_s: of the piece.
        loop: whether what rings at its end rings on at its beginning.

    Raises:
        ValueError: scores of other tempo, meter or length, or equal ones.
    """
    for name in ("bpm", "time_signature", "bars"):
        if getattr(before, name) != getattr(after, name):
            raise ValueError(
                f"score has {name}={getattr(after, name)}, but the audio was made with {getattr(before, name)}; "
                "give mask_s, extend_s or strength to say what is to be made anew"
            )
    bars = before.changed_bars(after)
    if not bars:
        raise ValueError("score has the notes of the audio; nothing is to be made anew")
    return regions_of_bars(before, bars, downbeat_s, duration_s, loop)


def regions_of_bars(
    score: Score, bars: Sequence[int], downbeat_s: float, duration_s: float, loop: bool
) -> list[tuple[float, float]]:
    """Regions in seconds of these bars of a score, counted from 0, each with a moment after it, in which they ring.
    Arguments are those of `changed_regions`."""
    bar_s = float(quarters_per_bar(score.time_signature)) * score.quarter_s
    regions = []
    for bar in bars:
        start, end = downbeat_s + bar * bar_s, downbeat_s + (bar + 1) * bar_s + TAIL_S
        if start < duration_s:
            regions.append((max(start, 0.0), min(end, duration_s)))
        if loop and end > duration_s:
            regions.append((0.0, end - duration_s))
    return regions


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
