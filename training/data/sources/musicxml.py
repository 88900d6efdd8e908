"""A compact reader of MusicXML scores (.xml, .musicxml, .mxl): pitches, times, parts, meter and key signature.

All voices of a part are merged, ties are joined, grace and cue notes and unpitched percussion are passed over, repeats
are not played twice. Of a piece that changes meter or key signature the longest stretch without a change is taken.
"""

import io
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass, field

import numpy as np

from training.data.scorebook.piece import Part, Score, bar_q, beat_q, score_notes, split_meter
from training.data.sources.bars import align_bars
from training.data.sources.keys import score_key

_VELOCITY = 0.7
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_WORST_SHARE = 0.15  # of bars repaired
_FEWEST_BARS = 4


class MusicXmlError(ValueError):
    """A file that this reader refuses."""


@dataclass
class _Note:
    """One written note inside its measure, times in quarters."""

    onset: float
    duration: float
    pitch: int
    starts_tie: bool
    stops_tie: bool


@dataclass
class _Measure:
    """One measure of one part, and the signatures valid in it."""

    meter: str | None
    fifths: int | None
    notes: list[_Note] = field(default_factory=list)
    length: float = 0.0


def xml_of(data: bytes) -> bytes:
    """The MusicXML text in a file's bytes: of a plain file itself, of an .mxl its score. Raises a MusicXmlError for an
    archive without a score."""
    if not data.startswith(b"PK"):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [n for n in archive.namelist() if n.endswith((".xml", ".musicxml")) and not n.startswith("META-INF")]
        if not names:
            raise MusicXmlError("archive without a score")
        return archive.read(names[0])


def read_musicxml(data: bytes) -> Score:
    """Score of a MusicXML file, compressed or not; work_id, collection and license are "", and the composer is
    "unknown" if not stated. Raises a MusicXmlError if it is not part-wise MusicXML, has no fixed meter or is too short
    or too irregular.
    """
    try:
        root = ET.fromstring(xml_of(data))
    except (ET.ParseError, zipfile.BadZipFile) as error:
        raise MusicXmlError(f"not MusicXML: {error}") from error
    if root.tag != "score-partwise":
        raise MusicXmlError(f"root {root.tag!r}: only score-partwise is read")
    tempo: list[float] = []
    parts = [_read_part(part, tempo) for part in root.findall("part")]
    if not parts or not any(m.notes for part in parts for m in part):
        raise MusicXmlError("no notes")
    first, last = _longest_stretch(parts)
    parts = [part[first:last] for part in parts]
    head = parts[0][0]
    if head.meter is None or last - first < _FEWEST_BARS:
        raise MusicXmlError("no meter, or fewer than four bars of one meter")
    written = [max((p[k].length for p in parts if k < len(p)), default=0.0) for k in range(last - first)]
    starts, pickup, length, repaired = align_bars(written, bar_q(head.meter))
    if repaired > max(1.0, _WORST_SHARE * len(written)):
        raise MusicXmlError(f"{repaired} of {len(written)} bars out of shape")
    names = _part_names(root)
    programs = _programs(root)
    result = []
    for element, part in zip(root.findall("part"), parts, strict=True):
        rows = _rows(part, starts)
        if rows:
            identity = element.get("id", "")
            result.append(Part(names.get(identity, ""), programs.get(identity), False, score_notes(rows)))
    if not result:
        raise MusicXmlError("no notes in its longest stretch of one meter")
    notes = np.concatenate([p.notes for p in result])
    title = root.findtext("work/work-title") or root.findtext("movement-title") or "untitled"
    composer = next((c.text for c in root.iter("creator") if c.get("type") == "composer" and c.text), "unknown")
    return Score(
        work_id="", title=" ".join(title.split()), composer=" ".join(composer.split()), collection="", license="",
        parts=tuple(result), time_signature=head.meter,
        key=score_key(head.fifths, notes) if head.fifths is not None else None, pickup_q=pickup, length_q=length,
        bpm=tempo[0] / beat_q(head.meter) if tempo else None,
    )  # fmt: skip


def _read_part(part: ET.Element, tempo: list[float]) -> list[_Measure]:
    """Measures of a part; sounding pitches. The first playback tempo (quarters a minute) is added to `tempo`."""
    measures = []
    divisions, meter, fifths, transpose = 1.0, None, None, 0
    for element in part.findall("measure"):
        now = onset = reach = 0.0
        notes: list[_Note] = []
        for child in element:
            if child.tag == "attributes":
                divisions = float(child.findtext("divisions") or divisions)
                meter = _meter(child.find("time"), meter)
                shift = child.find("transpose")
                if shift is not None:
                    transpose = int(float(shift.findtext("chromatic") or 0)) + 12 * int(
                        shift.findtext("octave-change") or 0
                    )
                written = child.findtext("key/fifths")
                if written is not None:
                    fifths = _sounding_fifths(int(written), transpose)
            elif child.tag == "note":
                if child.find("grace") is not None or child.find("cue") is not None:
                    continue
                duration = float(child.findtext("duration") or 0) / divisions
                if child.find("chord") is None:
                    onset = now
                    now += duration
                    reach = max(reach, now)
                pitch = child.find("pitch")
                if pitch is not None and duration > 0:
                    ties = {tie.get("type") for tie in child.findall("tie")}
                    notes.append(_Note(onset, duration, _midi(pitch) + transpose, "start" in ties, "stop" in ties))
            elif child.tag in ("backup", "forward"):
                step = float(child.findtext("duration") or 0) / divisions
                now = max(0.0, now + (step if child.tag == "forward" else -step))
                reach = max(reach, now)
            if child.tag in ("sound", "direction") and not tempo:
                sound = child if child.tag == "sound" else child.find("sound")
                value = sound.get("tempo") if sound is not None else None
                if value and float(value) > 0:
                    tempo.append(float(value))
        measures.append(_Measure(meter, fifths, notes, reach))
    return measures


def _meter(element: ET.Element | None, before: str | None) -> str | None:
    """Meter of a <time> element; None where it is not a plain fraction."""
    if element is None:
        return before
    meter = f"{element.findtext('beats', '').strip()}/{element.findtext('beat-type', '').strip()}"
    try:
        split_meter(meter)
    except ValueError:
        return None
    return meter


def _sounding_fifths(written: int, transpose: int) -> int:
    """Signature at sounding pitch of a transposing part, from -6 to 6."""
    if not transpose % 12:
        return written
    return (written + 7 * transpose + 6) % 12 - 6


def _midi(pitch: ET.Element) -> int:
    octave, alter = int(pitch.findtext("octave")), float(pitch.findtext("alter") or 0)
    return 12 * (octave + 1) + _STEPS[pitch.findtext("step")] + round(alter)


def _longest_stretch(parts: list[list[_Measure]]) -> tuple[int, int]:
    """First and last (exclusive) index of the longest run of measures of one meter and signature."""
    reference = max(parts, key=len)
    labels = [(m.meter, m.fifths) for m in reference]
    best, first = (0, 0), 0
    for k in range(1, len(labels) + 1):
        if k == len(labels) or labels[k] != labels[first]:
            if labels[first][0] is not None and k - first > best[1] - best[0]:
                best = first, k
            first = k
    return best


def _rows(part: list[_Measure], starts: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Notes of a part (onset_q, duration_q, pitch, velocity), ties joined, unisons of two voices kept once."""
    rows: dict[tuple[float, int], list[float]] = {}
    open_ties: dict[int, list[float]] = {}
    for measure, start in zip(part, starts, strict=False):
        for note in sorted(measure.notes, key=lambda n: n.onset):
            begin = float(start) + note.onset
            held = open_ties.pop(note.pitch, None) if note.stops_tie else None
            if held is not None and abs(held[0] + held[1] - begin) < 1e-3:
                row = held
                row[1] = begin + note.duration - row[0]
            else:
                row = rows.setdefault((round(begin, 4), note.pitch), [begin, 0.0])
                row[1] = max(row[1], note.duration)
            if note.starts_tie:
                open_ties[note.pitch] = row
    return [(row[0], row[1], float(pitch), _VELOCITY) for (_, pitch), row in rows.items() if 0 <= pitch <= 127]


def _part_names(root: ET.Element) -> dict[str, str]:
    return {
        p.get("id", ""): " ".join((p.findtext("part-name") or "").split()) for p in root.findall("part-list/score-part")
    }


def _programs(root: ET.Element) -> dict[str, int]:
    """0-based General MIDI programs by part; none if all parts carry the editor's default, program 1."""
    programs = {}
    for part in root.findall("part-list/score-part"):
        value = part.findtext("midi-instrument/midi-program")
        if value and value.strip().isdigit() and 1 <= int(value) <= 128:
            programs[part.get("id", "")] = int(value) - 1
    return programs if any(programs.values()) else {}
