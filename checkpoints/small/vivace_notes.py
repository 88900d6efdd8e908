"""The notes that a piece plays: a score given to a call, fitted to its music, as rolls and instruments of the network.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .vivace_music import Music, MusicArguments
from .vivace_prompt import read_exclusion
from .vivace_reading import MusicWords
from .vivace_score import PROGRAMS, ROLES, Score, Track, note_roll, quarters_per_bar, slice_chords
from .vivace_theory import parse_key, parse_time_signature, progression_beats

if TYPE_CHECKING:
    import torch

# What words call an instrument that has another name here. Longer ones come first.
ALIASES = {
    "double bass": "upright bass", "acoustic bass": "upright bass", "bass guitar": "electric bass",
    "rhodes": "electric piano", "strings": "string ensemble", "string section": "string ensemble",
    "brass": "brass section", "horns": "brass section", "horn": "french horn", "saxophone": "alto sax",
    "sax": "alto sax", "acoustic guitar": "steel guitar", "classical guitar": "nylon guitar", "guitar": "steel guitar",
    "pad": "warm pad", "synth": "saw lead", "vibes": "vibraphone", "chiptune": "square lead", "8-bit": "square lead",
}  # fmt: skip
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
CHORD_PROGRAMS = (*KEYS_PROGRAMS, *range(8, 16), *range(24, 32), 45, 48, 49, 50, 51, 52, 53, *range(88, 96))
BASS_PROGRAMS = (*range(32, 40), 43, 58)
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


def named_instruments(prompt: str) -> dict[str, str]:
    """Instruments that a prompt names, in their order, each with the words after it up to the next comma."""
    text = prompt.lower()
    found: dict[str, str] = {}
    names = {name: name for name in PROGRAMS} | ALIASES
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    for match in re.finditer(rf"(?<![\w-])({pattern})s?(?![\w-])", text):
        found.setdefault(names[match[1]], re.split("[,.;]", text[match.end() :])[0])
    return found


def _without(*names: str) -> re.Pattern:
    before = r"(?<![\w-])(?:no|without|minus|lacking|free of)\s+(?:(?:any|a|the)\s+)?"
    return re.compile("|".join(f"{before}{name}(?![\\w-])" for name in names), re.I)


# Words that say that a role does not play, where no instrument is named; bass and drums are read with the instruments.
ABSENT = {
    "lead": _without(r"(?:lead )?melod(?:y|ies|ic lines?)", r"leads?(?!\s+\w)"),
    "harmony": re.compile(rf"{_without('chords?', 'harmon(?:y|ies)').pattern}|\bchord-?less\b", re.I),
}


def cast(prompt: str) -> tuple[tuple[str, ...] | None, dict[str, str]]:
    """Who plays what by the words of a prompt, for music that is composed.

    "Flute lead" plays the lead, a bass the bass; of the others, instruments of chords play the harmony and the rest the
    lead, while there is room. "Solo piano" plays alone; "only bass and drums", "without drums", "no melody" and
    "chordless" are obeyed.

    Returns:
        The roles that play, None = open; and what plays a role, for those that the words name.
    """
    exclusion = read_exclusion(prompt)
    players: dict[str, str] = {}
    named = named_instruments(exclusion.words)
    for name, after in named.items():
        program = PROGRAMS[name]
        wanted = ["harmony", "lead"] if program in CHORD_PROGRAMS else ["lead", "harmony"]
        if program in BASS_PROGRAMS:
            wanted = ["bass"]
        if re.match(r"\s*(?:lead|melody|solo|tune|plays? (?:the|a) (?:lead|melody|tune))\b", after):
            wanted = ["lead", *wanted]
        role = next((role for role in wanted if role not in players), None)
        if role is not None:
            players[role] = name
    solo = re.search(r"(?<![\w-])solo\b(?!\s*$)", exclusion.words.lower()) is not None
    alone = solo and len(named) == 1
    roles = set(players)
    if exclusion.exclusive or alone:
        roles |= {role for role in ("bass", "drums") if role in exclusion.exclusive}
        if len(players) == 1 and "harmony" in players and not roles & {"bass", "drums"}:
            name = players["harmony"]
            roles |= {"lead", "harmony"} | ({"bass"} if PROGRAMS[name] in KEYS_PROGRAMS else set())
            players = dict.fromkeys(roles, name)
        elif "harmony" in roles and "lead" not in roles:
            roles.add("lead")
            players.setdefault("lead", players["harmony"])
    else:
        roles = set()
    silent = {role for role in ("bass", "drums") if role in exclusion.excluded}
    silent |= {"drums"} if exclusion.drumless else set()
    silent |= {role for role, absent in ABSENT.items() if absent.search(exclusion.words)}
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
