"""The notes that a piece plays: of a score, of a hummed line or of a tapped rhythm; and who plays them."""

import importlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .vivace_audio import ENVELOPE_HZ, onsets, resample
from .vivace_files import read_audio
from .vivace_music import Music, MusicArguments, meter_of, stated_tempo
from .vivace_reading import SILENCED, Exclusion, MusicWords
from .vivace_score import ROLES, Score, Track, quarters_per_bar, quarters_per_beat
from .vivace_theory import INSTRUMENT_WORDS, PROGRAMS


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


# Who plays, by the words of a prompt.

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


TAIL_S = 0.4  # after a changed bar, in which its notes still ring


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


# From a sketch: a hummed, sung or whistled line becomes the lead of a score, a tapped or beatboxed rhythm its drums.
# Pitch and notes of a voice are found by swift-f0 (https://arxiv.org/abs/2508.18440), an optional package that holds
# its weights; onsets of a rhythm by spectral flux. What is found is in seconds (`Sketch`) until the tempo is settled.

SOUNDS = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".webm", ".caf", ".wma")
TIMINGS = ("grid", "original")
MAX_SECONDS = 300.0
VOICE_RATE = 16000  # Hz, of swift-f0
SHORTEST_S, FAINTEST_DB = 0.06, 30.0  # a shorter note, or one so far below the louder ones, is none
LEAD_RANGE = (58, 82)  # a line whose middle lies outside moves there by octaves
TEMPI = np.exp(np.linspace(math.log(45.0), math.log(210.0), 1600))  # beats a minute that are looked for
USUAL_BPM, SPREAD_OCTAVES = 100.0, 0.6
LEVELS = (0.4, 0.35, 0.25)  # how much onsets on beats, eighths and 16ths count for a tempo
FITTING, SLACK = 1.5, 0.06  # advantage of a tempo that fills the given bars; how far from a given one a voice may be
CLEARLY = 0.25  # so much better another tempo must fit than the given one
# Of the choice of steps: how much later or earlier than the one before an onset may well be, in steps and as a share of
# the time between them; costs of eighths and of 16ths beside the beats, and of being late; steps that it may be off.
JITTER, DRIFT, WEAK, FAR, REACH = 0.25, 0.03, (0.7, 2.0), 0.1, 10
GAP_S, ONSET, FAINTEST = 0.07, 1.0, 0.2  # between two hits; least height of an onset, in deviations and of the highest
KICK, SNARE, HAT = 36, 38, 42  # General MIDI
BORDERS_HZ = (500.0, 4500.0)  # of the centres of their spectra


@dataclass(frozen=True, eq=False)
class Sketch:
    """What a recording plays, before it has a tempo.

    Attributes:
        role: "lead" or "drums".
        notes: (n, 4) onset and duration in seconds, MIDI pitch, velocity; sorted by onset.
        remarks: sentences on what was changed.
    """

    role: str
    notes: np.ndarray
    remarks: tuple[str, ...] = ()

    def score(
        self, time_signature: str, bpm: float | None = None, bars: int | None = None, timing: str = "grid"
    ) -> Score:
        """Its notes in bars, the first one on the first beat.

        Args:
            time_signature: of the bars.
            bpm: beats of the meter a minute; None = the tempo that the onsets fit best.
            bars: that it most likely fills, where `bpm` is None.
            timing: "grid" puts onsets and ends on 16ths, along with a player who gets faster or slower, and takes a
                recording that is clearly in another tempo than `bpm` from that one into `bpm`; "original" keeps
                onsets and durations.
        """
        beat = float(quarters_per_beat(time_signature))
        levels = (1, round(2 * beat), round(4 * beat))
        times, weights, remarks = self.notes[:, 0], self.notes[:, 3], list(self.remarks)
        fit = tempo_fit(times, weights, levels)
        wish = np.exp(-0.5 * (np.log2(TEMPI / USUAL_BPM) / SPREAD_OCTAVES) ** 2)
        if bars is not None:
            filled = self.notes[:, :2].sum(1).max() - times[0]
            bar_s = 60.0 / TEMPI * float(quarters_per_bar(time_signature)) / beat
            wish = np.where((filled > (bars - 1) * bar_s) & (filled < (bars + 0.1) * bar_s), FITTING, 1.0) * wish
        likely = int(np.argmax(fit * wish))
        played = TEMPI[likely]
        if bpm is not None:
            near = np.abs(np.log(TEMPI / bpm)) < SLACK
            close = int(np.argmax(np.where(near, fit, -1.0)))
            if timing == "original" or not near.any():
                played = bpm
            elif fit[likely] - fit[close] < CLEARLY:
                played = TEMPI[close]
            else:
                remarks.append(f"{self.name}: recorded at about {played:.0f} bpm, played at {bpm:g} bpm")
        else:
            bpm = float(round(played))
            remarks.append(f"{self.name}: its tempo is taken as {bpm:g} bpm; bpm says it")
        if timing == "original":
            rows = self.notes * (beat * played / 60.0, beat * played / 60.0, 1.0, 1.0)
            rows[:, 0] -= rows[0, 0]
        else:
            rows = self._steps(60.0 / played / levels[2], levels) * (0.25, 0.25, 1.0, 1.0)
        bar = float(quarters_per_bar(time_signature))
        if self.role == "drums" and len(rows) > 1 and rows[-1, 0] >= bar and abs((rows[-1, 0] + 0.1) % bar) < 0.2:
            rows = rows[:-1]  # the first beat after a loop ends it
        end = rows[-1, 0] + 0.01 if self.role == "drums" else rows[:, :2].sum(1).max() - 0.5
        count = max(1, math.ceil(max(end, rows[-1, 0] + 0.01) / bar))
        return Score(
            (Track(self.role, rows),), bpm=bpm, time_signature=time_signature, bars=count, remarks=tuple(remarks)
        )

    @property
    def name(self) -> str:
        """The argument that it was given as."""
        return "rhythm" if self.role == "drums" else "melody"

    def _steps(self, step_s: float, levels: tuple[int, ...]) -> np.ndarray:
        """Notes with onset and duration in whole steps of about `step_s` seconds, that go along with the player."""
        times = self.notes[:, 0]
        turn = np.exp(2j * np.pi * (times - times[0]) / step_s) @ self.notes[:, 3]
        steps = on_steps((times - times[0]) / step_s - np.angle(turn) / (2 * np.pi), levels)
        length = np.maximum(1, np.round(self.notes[:, 1] / step_s))
        length[:-1] = np.minimum(length[:-1], np.diff(steps))
        return np.column_stack([steps - steps[0], length, self.notes[:, 2:]])


def on_steps(places: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """Whole steps (n,), rising, for onsets at `places` (n,) in steps: the ones of least cost.

    A cost are changes of how late an onset is against its step, by the distance to the onset before, and steps beside
    the beats and the eighths (`levels`: beats, eighths and 16ths of a beat). How late all are may change slowly.
    """
    reach = np.arange(-REACH, REACH + 1)
    base, parts = np.round(places).astype(int), levels[2]
    cost = np.where(base[0] + reach == 0, 0.0, np.inf)
    back = np.zeros((len(places), len(reach)), dtype=int)
    for k in range(1, len(places)):
        before, here = base[k - 1] + reach, base[k] + reach
        late = (places[k] - here)[:, None] - (places[k - 1] - before)
        loose = JITTER**2 + (DRIFT * (places[k] - places[k - 1])) ** 2
        weak = np.where(here % parts == 0, 0.0, np.where(here % (parts // levels[1]) == 0, *WEAK))
        total = cost + late**2 / loose + np.where(here[:, None] > before, 0.0, np.inf)
        back[k] = total.argmin(1)
        cost = total.min(1) + weak + FAR * (places[k] - here) ** 2
    path = [int(cost.argmin())]
    for k in range(len(places) - 1, 0, -1):
        path.append(int(back[k, path[-1]]))
    return base + reach[path[::-1]]


def tempo_fit(times: np.ndarray, weights: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
    """How well onsets (n,) in seconds lie on beats, and on their parts `levels`, at each of `TEMPI`; 0 to 1."""
    turns = TEMPI[:, None] / 60.0 * times
    parts = [np.abs(np.exp(2j * np.pi * level * turns) @ weights) for level in levels]
    return sum(share * part for share, part in zip(LEVELS, parts, strict=True)) / weights.sum()


def load_tracker() -> Any:
    """The package swift_f0.

    Raises:
        ValueError: if it, or the onnxruntime that it needs, is not installed.
    """
    try:
        return importlib.import_module("swift_f0")
    except ImportError as error:
        raise ValueError(
            f"melody is a recording, whose notes are found by swift-f0: pip install swift-f0 ({error})"
        ) from error


def transcribe_voice(audio: torch.Tensor, rate: int) -> Sketch:
    """The line of one voice in (channels, samples), in tune with itself and in the range of a lead.

    Raises:
        ValueError: swift-f0 is not installed, or nothing sings.
    """
    tracker = load_tracker()
    mono = resample(audio.mean(0, keepdim=True), rate, VOICE_RATE)[0]
    peak = float(mono.abs().max())
    track = tracker.SwiftF0(threads=1, spin=False).detect((mono * (0.5 / max(peak, 1e-9))).numpy(), VOICE_RATE)
    level = track.loudness_db
    rows = []
    for note in tracker.segment_notes(track):
        inside = level[(track.timestamps >= note.start) & (track.timestamps < note.end)]
        rows.append((note.start, note.end - note.start, 69.0 + 12.0 * math.log2(note.pitch_hz / 440.0), inside.mean()))
    found = np.array(rows, dtype=np.float64).reshape(-1, 4)
    if len(found):
        loud = np.quantile(found[:, 3], 0.8)
        found = found[(found[:, 1] >= SHORTEST_S) & (found[:, 3] > loud - FAINTEST_DB)]
    if peak < 1e-4 or not len(found):
        raise ValueError("melody has no voice that is found; needed: one line that is hummed, sung or whistled")
    turn = np.exp(2j * np.pi * found[:, 2]) @ found[:, 1] / found[:, 1].sum()
    if abs(turn) > 0.3:  # by how much the whole line is above or below concert pitch
        found[:, 2] -= np.angle(turn) / (2 * np.pi)
    found[:, 2] = np.floor(found[:, 2] + 0.5)
    middle = np.repeat(found[:, 2], np.maximum(1, np.round(found[:, 1] / 0.05)).astype(int))
    octaves = math.ceil((LEAD_RANGE[0] - np.median(middle)) / 12) if np.median(middle) < LEAD_RANGE[0] else 0
    octaves = -math.ceil((np.median(middle) - LEAD_RANGE[1]) / 12) if np.median(middle) > LEAD_RANGE[1] else octaves
    found[:, 2] += 12 * octaves
    found[:, 3] = np.clip(0.8 + (found[:, 3] - np.median(found[:, 3])) / 30.0, 0.3, 1.0)
    where = f"{abs(octaves)} octave{'s' * (abs(octaves) > 1)} {'higher' if octaves > 0 else 'lower'}"
    return Sketch("lead", found, (f"melody: played {where} than recorded",) if octaves else ())


def transcribe_rhythm(audio: torch.Tensor, rate: int) -> Sketch:
    """The hits in (channels, samples) as kick, snare and hat by the centres of their spectra. Where all sound alike, as
    taps on a desk do, they cannot be told from one another: all are snares until `kick_and_snare`.

    Raises:
        ValueError: nothing is hit.
    """
    envelope = np.maximum(*onsets(audio, rate))
    reach = round(GAP_S / 2 * ENVELOPE_HZ)
    highest = np.lib.stride_tricks.sliding_window_view(np.pad(envelope, reach), 2 * reach + 1).max(1)
    places = np.flatnonzero((envelope == highest) & (envelope > ONSET))
    heights = envelope[places]
    places = places[heights > FAINTEST * heights.max()] if len(places) else places
    if float(audio.abs().max()) < 1e-4 or not len(places):
        raise ValueError("rhythm has no hit that is found; needed: taps, claps or a beatbox")
    mono = audio.mean(0)
    size = round(0.05 * rate)
    hertz = np.fft.rfftfreq(size, 1.0 / rate)
    rows = []
    for place in places:
        start = round(place / ENVELOPE_HZ * rate)
        piece = torch.nn.functional.pad(mono[start : start + size], (0, size))[:size].double().numpy()
        power = np.abs(np.fft.rfft(piece * np.hanning(2 * size)[size:])) ** 2
        rows.append((place / ENVELOPE_HZ, 0.1, hertz @ power / max(power.sum(), 1e-20), np.sqrt(power.sum())))
    found = np.array(rows)
    found[:, 3] = np.clip((found[:, 3] / found[:, 3].max()) ** 0.5, 0.3, 1.0)
    centre = np.log2(np.maximum(found[:, 2], 20.0))
    kinds = np.searchsorted(np.log2(BORDERS_HZ), centre)
    if len(set(kinds)) == 1 and np.ptp(centre) > 1.0:  # two sounds between the same borders
        order = np.sort(centre)
        gap = int(np.diff(order).argmax())
        kinds = (centre > order[gap : gap + 2].mean()).astype(int)
    alike = len(set(kinds)) == 1
    found[:, 2] = SNARE if alike else np.array([KICK, SNARE, HAT])[kinds]
    return Sketch("drums", found)


def kick_and_snare(score: Score) -> Score:
    """Drums of one kind as a kick and a snare: the snare takes those on every second beat."""
    notes = score.notes("drums").copy()
    if set(notes[:, 2]) == {SNARE}:
        beat = float(quarters_per_beat(score.time_signature))
        number = notes[:, 0] / beat
        back = (np.abs(number - np.round(number)) < 0.13) & (np.round(number) % 2 == 1)
        notes[~back, 2] = KICK
    return replace(score, tracks=(Track("drums", notes),))


def is_recording(value: object, sampling_rate: int | None) -> bool:
    """Whether a melody or a rhythm is a recording: the name of an audio file, or an array beside its rate."""
    if isinstance(value, (str, os.PathLike)):
        return Path(value).suffix.lower() in SOUNDS
    return isinstance(value, torch.Tensor) or (sampling_rate is not None and isinstance(value, np.ndarray))


def read_sketch(value: object, name: str, sampling_rate: int | None = None) -> Score | Sketch | None:
    """What a call is given as `name`, "melody" or "rhythm": a recording as a `Sketch`; a `Score` or the name of a MIDI
    file as the score of its lead, or its drums; rows of notes as a melody.

    Raises:
        ValueError: one line that names the argument.
    """
    if value is None or isinstance(value, Sketch):
        return value
    try:
        if is_recording(value, sampling_rate):
            rate = None if isinstance(value, (str, os.PathLike)) else sampling_rate
            audio, own = read_audio(str(value) if isinstance(value, os.PathLike) else value, rate, MAX_SECONDS)
            return transcribe_voice(audio, own) if name == "melody" else transcribe_rhythm(audio, own)
        if name == "melody":
            return read_melody(value)
        score = read_score(value)
    except ValueError as error:
        text = re.sub("^(score|audio)", name, str(error))
        raise ValueError(text if name in text else f"{name}: {text}") from error
    assert score is not None
    if "drums" not in score.roles:
        raise ValueError(f"rhythm has the parts {', '.join(score.roles) or 'none'}; needed: drums")
    return score.only("drums")


def read_sketches(value: Any, name: str, sampling_rate: int | None = None) -> Any:
    """`read_sketch` of one, or of each in a list of recordings, scores and file names."""
    kinds = (str, os.PathLike, Score, Sketch)
    several = isinstance(value, (list, tuple))
    if several and any(isinstance(one, kinds) or is_recording(one, sampling_rate) for one in value):
        return [read_sketch(one, name, sampling_rate) for one in value]
    return read_sketch(value, name, sampling_rate)


def settle_sketches(
    melody: Score | Sketch | None, rhythm: Score | Sketch | None, timing: object, given: MusicArguments,
    words: MusicWords,
) -> tuple[Score | None, Score | None]:  # fmt: skip
    """A melody and a rhythm as scores, in the tempo and meter that are given, or in the prompt, or else their own.

    Raises:
        ValueError: an unknown `timing`, or one without a recording; a tempo out of range.
    """
    if timing is not None and (not isinstance(timing, str) or timing not in TIMINGS):
        raise ValueError(f"sketch_timing is {timing!r}; allowed: {', '.join(TIMINGS)}")
    if timing is not None and not isinstance(melody, Sketch) and not isinstance(rhythm, Sketch):
        raise ValueError(f"sketch_timing is {timing!r}; it needs a melody or a rhythm that is a recording")
    fixed = next((one for one in (melody, rhythm) if isinstance(one, Score)), None)
    stated = given.time_signature or words.time_signature
    meter = str(stated or (fixed.time_signature if fixed else meter_of(words.prompt) or "4/4")).replace(" ", "")
    bars = given.bars if given.bars is not None else None if given.duration_s is not None else words.bars

    def settled(one: Score | Sketch | None) -> Score | None:
        if not isinstance(one, Sketch):
            return one
        bpm = stated_tempo(words, given.bpm, meter, given.beat_unit)[0]
        bpm = fixed.bpm if bpm is None and fixed is not None else bpm
        score = one.score(meter, bpm, bars, timing or "grid")
        return kick_and_snare(score) if one.role == "drums" else score

    return settled(melody), settled(rhythm)


def joined(lead: Score | None, drums: Score | None) -> Score | None:
    """A melody, a rhythm or both as one score; beside a melody the rhythm is repeated to its end."""
    if lead is None or drums is None:
        return lead or drums
    tracks = (*lead.tracks, *repeated(drums, float(lead.quarters)).tracks)
    return replace(lead, tracks=tracks, remarks=(*lead.remarks, *drums.remarks))


def repeated(score: Score, quarters: float) -> Score:
    """A score that is repeated up to a length in quarters, or cut there."""
    own = float(score.quarters)
    tracks = []
    for track in score.tracks:
        rows = np.concatenate([track.notes + np.array([own * k, 0, 0, 0]) for k in range(math.ceil(quarters / own))])
        tracks.append(replace(track, notes=rows[rows[:, 0] < quarters - 1e-6]))
    return replace(
        score, tracks=tuple(tracks), bars=math.ceil(quarters / float(quarters_per_bar(score.time_signature)))
    )
