"""The songs of Freedoom: MIDI lumps inside its two WAD files, with programs, drums and tempo."""

import hashlib
import io
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import mido
import numpy as np

from training.data.scorebook.piece import Part, Score, bar_q, beat_q, score_notes
from training.data.sources.keys import score_key
from training.data.sources.licences import FREEDOOM

_DRUM_CHANNEL = 9
_SHORTEST_Q = 0.05  # drum hits are often written with next to no length
_FEWEST_BARS = 8
# Share of onsets within 1/48 quarter of a sixteenth or a triplet. Nine songs converted from MUS lumps carry a made-up
# tempo (95 bpm) and score 0.26, which is chance; eight played in by hand score 0.4 to 0.7. Their beats would be wrong.
_ON_GRID = 0.75


def song_lumps(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the music lumps of a WAD that are MIDI files; today's Freedoom has no other kind. Raises a
    ValueError if the file is not a WAD."""
    data = path.read_bytes()
    if data[:4] not in (b"IWAD", b"PWAD") or len(data) < 12:
        raise ValueError(f"freedoom {str(path)!r}: not a WAD file")
    count, directory = struct.unpack("<ii", data[4:12])
    if count < 0 or directory < 12 or directory + 16 * count > len(data):
        raise ValueError(f"freedoom {str(path)!r}: truncated WAD file")
    for k in range(count):
        start, size, name = struct.unpack("<ii8s", data[directory + 16 * k : directory + 16 * k + 16])
        text = name.rstrip(b"\0").decode("ascii", "replace")
        if text.startswith("D_") and data[start : start + 4] == b"MThd":
            yield text, data[start : start + size]


def read_freedoom(paths: list[Path]) -> list[Score]:
    """Scores of all songs of freedoom1.wad and freedoom2.wad; a song that is in both is read once."""
    scores, seen = [], set()
    for path in paths:
        for name, data in song_lumps(path):
            digest = hashlib.sha256(data).hexdigest()
            if digest in seen:
                continue
            seen.add(digest)
            score = read_midi(data, f"freedoom/{path.stem}/{name.lower()}")
            if score is not None:
                scores.append(score)
    return scores


def read_midi(data: bytes, work_id: str) -> Score | None:
    """Score of a standard MIDI file; its longest stretch of one meter. None if that is shorter than eight bars.

    The meter is what the file states, else 4/4; the tempo is the one that holds longest, in beats per minute. Also None
    where the notes do not follow the beats of the file.
    """
    midi = mido.MidiFile(file=io.BytesIO(data), clip=True)
    per_q = float(midi.ticks_per_beat)
    notes: dict[tuple[int, int], list[tuple[float, float, float, float]]] = defaultdict(list)
    tempos, meters, end = [], [], 0.0
    program = [0] * 16
    sounding: dict[tuple[int, int], list[tuple[float, int, int]]] = defaultdict(list)
    now = 0
    for message in mido.merge_tracks(midi.tracks):
        now += message.time
        time_q = now / per_q
        if message.type == "set_tempo":
            tempos.append((time_q, mido.tempo2bpm(message.tempo)))
        elif message.type == "time_signature":
            meters.append((time_q, f"{message.numerator}/{message.denominator}"))
        elif message.type == "program_change":
            program[message.channel] = message.program
        elif message.type == "note_on" and message.velocity > 0:
            sounding[message.channel, message.note].append((time_q, message.velocity, program[message.channel]))
        elif message.type in ("note_off", "note_on") and sounding[message.channel, message.note]:
            onset, velocity, voice = sounding[message.channel, message.note].pop(0)
            row = (onset, max(_SHORTEST_Q, time_q - onset), float(message.note), velocity / 127.0)
            notes[message.channel, 0 if message.channel == _DRUM_CHANNEL else voice].append(row)
            end = max(end, time_q)
    first, last, meter = _longest_meter(meters, end)
    if last - first < _FEWEST_BARS * bar_q(meter) or _grid_share(notes.values()) < _ON_GRID:
        return None
    parts = []
    for (channel, voice), rows in sorted(notes.items()):
        inside = [(o - first, min(d, last - o), p, v) for o, d, p, v in rows if first - 1e-6 <= o < last - 1e-6]
        if inside:
            drums = channel == _DRUM_CHANNEL
            parts.append(Part("drums" if drums else "", voice, drums, score_notes(inside)))
    pitched = [p.notes for p in parts if not p.is_drums]
    if not pitched:
        return None
    all_notes = np.concatenate(pitched)
    length = max(float((p.notes[:, 0] + p.notes[:, 1]).max()) for p in parts)
    bars = np.ceil(length / bar_q(meter) - 1e-6)
    return Score(
        work_id=work_id, title=work_id.rsplit("/", 1)[-1].upper(), composer="Freedoom contributors",
        collection="freedoom", license=FREEDOOM, parts=tuple(parts), time_signature=meter,
        key=score_key(_no_signature(all_notes), all_notes), pickup_q=0.0, length_q=float(bars * bar_q(meter)),
        bpm=_main_tempo(tempos, end) / beat_q(meter),
    )  # fmt: skip


def _grid_share(parts: Iterable[list[tuple[float, float, float, float]]]) -> float:
    """Share of onsets that are near a sixteenth or an eighth triplet."""
    onsets = np.array([row[0] for rows in parts for row in rows])
    if not len(onsets):
        return 0.0
    off = np.minimum(*(np.abs(onsets * k - np.round(onsets * k)) / k for k in (4, 3)))
    return float(np.mean(off < 1 / 48))


def _no_signature(notes: np.ndarray) -> int:
    """A signature that fits the notes best, since MIDI files rarely state theirs: fifths from -5 to 6."""
    weights = np.bincount(notes[:, 2].astype(int) % 12, weights=notes[:, 1], minlength=12)
    scale = np.isin(np.arange(12), (0, 2, 4, 5, 7, 9, 11)).astype(float)
    return max(range(-5, 7), key=lambda fifths: float(weights @ np.roll(scale, 7 * fifths % 12)))


def _longest_meter(meters: list[tuple[float, str]], end: float) -> tuple[float, float, str]:
    """(from, to, meter) of the longest stretch of one meter; 4/4 until the first is stated."""
    changes = [(0.0, "4/4")]
    for time_q, meter in meters:
        if time_q <= 1e-6:
            changes[0] = (0.0, meter)
        elif meter != changes[-1][1]:
            changes.append((time_q, meter))
    spans = [(a, b, meter) for (a, meter), (b, _) in zip(changes, [*changes[1:], (end, "")], strict=True)]
    return max(spans, key=lambda span: span[1] - span[0])


def _main_tempo(tempos: list[tuple[float, float]], end: float) -> float:
    """Quarters a minute that hold for most of the song; 120, the default of MIDI, if none is stated."""
    held: dict[float, float] = defaultdict(float)
    for k, (time_q, value) in enumerate(tempos):
        until = tempos[k + 1][0] if k + 1 < len(tempos) else end
        held[round(value, 2)] += max(0.0, until - time_q)
    return max(held, key=lambda value: held[value]) if held else 120.0
