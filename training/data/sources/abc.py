"""A compact reader of ABC notation: single-voice tunes as they stand in the folk collections.

Read: K (with modes) M L Q T C X, accidentals, octaves, lengths, tuplets, broken rhythm, ties, chords, rests, fields in
the body. Passed over: grace notes, decorations, chord symbols, words. Repeats are not played twice. A tune with several
voices, without a fixed meter, or with more than one bar in seven out of shape is refused; a change of meter or key ends
the tune there.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from training.data.scorebook.piece import Part, Score, bar_q, beat_q, score_notes, split_meter
from training.data.sources.bars import align_bars
from training.data.sources.keys import MODES, fifths_of, tune_key

_VELOCITY = 0.7  # the tunes state no dynamics
_LENGTH = r"(?P<{0}n>\d*)(?P<{0}s>/*)(?P<{0}d>\d*)"
_NOTE = r"[\^_=]*[A-Ga-g][,']*"
_TOKEN = re.compile(
    r'"[^"\n]*"|![^!\n|]*!|\+[^+\n|]+\+|\{[^}]*\}'
    r"|\[(?P<field>[A-Za-z]):(?P<value>[^\]]*)\]"
    rf"|\[(?P<chord>(?:[.~uvTHLMPSO]*{_NOTE}\d*/*\d*-?\s*)+)\]{_LENGTH.format('c')}"
    r"|(?P<bar>(?::*\|[|:\]]*|::+|\[\|)(?:\s*\[?\d[\d,\-.]*)?|\[\d[\d,\-]*)"
    r"|\(\s*(?P<p>\d)(?::(?P<q>\d?))?(?::(?P<r>\d?))?"
    r"|(?P<broken><+|>+)"
    rf"|(?P<note>{_NOTE}){_LENGTH.format('n')}"
    rf"|(?P<rest>[zx]){_LENGTH.format('r')}"
    r"|(?P<bars>Z\d*)|(?P<tie>-)|(?P<overlay>&)|(?P<newline>\n)|."
)
_FIELD = re.compile(r"([A-Za-z]):(?![|:\]])(.*)")
_KEY = re.compile(r"([A-G])([#b]?)\s*([A-Za-z]*)")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_WORST_SHARE = 1 / 7  # of bars repaired


class AbcError(ValueError):
    """A tune that this reader refuses."""


@dataclass
class _Event:
    """A note, chord or rest; `pitches` maps (letter, octave) to MIDI pitch."""

    pitches: dict[tuple[str, int], int]
    duration: Fraction
    tied: bool = False


@dataclass
class _State:
    """State of the reader within the body of a tune."""

    signature: dict[str, int]
    unit: Fraction  # of a quarter
    compound: bool
    bar_length: Fraction
    measures: list[list[_Event]] = field(default_factory=lambda: [[]])
    accidentals: dict[str, int] = field(default_factory=dict)
    stretch: Fraction = Fraction(1)  # what a broken rhythm left for the next note
    tuplet: tuple[Fraction, int] = (Fraction(1), 0)


def read_abc(text: str) -> Iterator[tuple[int, Score | str]]:
    """Tunes of an ABC file, each of which starts with an X: field: (number in X:, score), or (number, reason) for a
    refused tune. work_id, collection and license are ""."""
    for block in re.split(r"(?m)^(?=X:)", text):
        if block.startswith("X:"):
            number = re.match(r"X:\s*(\d+)", block)
            index = int(number.group(1)) if number else 0
            try:
                yield index, _read_tune(block)
            except AbcError as error:
                yield index, str(error)


def _read_tune(block: str) -> Score:
    header: dict[str, str] = {}
    lines = block.splitlines()
    body_from = len(lines)
    for k, raw in enumerate(lines):
        line = raw.split("%", 1)[0].strip()
        match = _FIELD.match(line)
        if match:
            header.setdefault(match.group(1), match.group(2).strip())
            if match.group(1) == "K":
                body_from = k + 1
                break
    if body_from == len(lines):
        raise AbcError("no K: field or no music")
    meter = parse_meter(header.get("M", ""))
    tonic, mode, stated = parse_key_field(header.get("K", ""))
    state = _State(
        signature=_signature(fifths_of(tonic, mode)),
        unit=_unit(header.get("L"), meter),
        compound=split_meter(meter)[1] == 8 and split_meter(meter)[0] % 3 == 0,
        bar_length=Fraction(4 * split_meter(meter)[0], split_meter(meter)[1]),
    )
    _read_body(lines[body_from:], state, meter, (tonic, mode))
    measures = [m for m in state.measures if m]
    durations = [float(sum(e.duration for e in m)) for m in measures]
    starts, pickup, length, repaired = align_bars(durations, bar_q(meter))
    if len(measures) < 4 or repaired > max(1.0, _WORST_SHARE * len(measures)):
        raise AbcError(f"{repaired} of {len(measures)} bars out of shape")
    notes = score_notes(_rows(measures, starts))
    if len(notes) < 8:
        raise AbcError("fewer than eight notes")
    return Score(
        work_id="", title=tidy_title(header.get("T", "untitled")), composer=header.get("C") or "traditional",
        collection="", license="", parts=(Part("melody", None, False, notes),), time_signature=meter,
        key=tune_key(tonic, mode, stated, notes), pickup_q=pickup, length_q=length, bpm=_tempo(header.get("Q"), meter),
    )  # fmt: skip


def _read_body(lines: list[str], state: _State, meter: str, key: tuple[str, str]) -> None:
    """Fill `state.measures` from the music lines; stops at a change of meter or key."""
    voices: set[str] = set()

    def apply_field(name: str, value: str) -> bool:
        """Apply a field in the body; False where the tune changes meter or key and has to end."""
        value = value.split("%", 1)[0].strip()
        if name == "V":
            voices.add(value.split()[0] if value else "")
            if len(voices) > 1:
                raise AbcError("several voices")
        elif name == "L":
            state.unit = _unit(value, meter)
        elif name == "M":
            return parse_meter(value) == meter
        elif name == "K":
            return not value or parse_key_field(value)[:2] == key
        return True

    for raw in lines:
        line = raw.split("%", 1)[0].rstrip().rstrip("\\")
        match = _FIELD.match(line)
        if match:
            if not apply_field(match.group(1), match.group(2)):
                return
            continue
        overlay = False
        for token in _TOKEN.finditer(line):
            if token["field"]:
                if not apply_field(token["field"], token["value"]):
                    return
            elif token["overlay"]:
                overlay = True
            elif token["bar"]:
                overlay = False
                state.measures.append([])
                state.accidentals.clear()
            elif not overlay:
                _take(token, state)


def _take(token: re.Match[str], state: _State) -> None:
    """Apply one musical token."""
    measure = state.measures[-1]
    if token["note"] or token["rest"] or token["chord"]:
        kind = "n" if token["note"] else "r" if token["rest"] else "c"
        duration = state.unit * _length(token[kind + "n"], token[kind + "s"], token[kind + "d"])
        pitches: dict[tuple[str, int], int] = {}
        if kind == "n":
            pitches = dict([_pitch(token["note"], state)])
        elif kind == "c":
            inner = list(re.finditer(rf"({_NOTE})(\d*)(/*)(\d*)", token["chord"]))
            pitches = dict(_pitch(m.group(1), state) for m in inner)
            duration *= _length(*inner[0].group(2, 3, 4))
        factor, left = state.tuplet
        if left:
            duration *= factor
            state.tuplet = (factor, left - 1)
        tied = kind == "c" and "-" in token["chord"]
        measure.append(_Event(pitches, duration * state.stretch, tied))
        state.stretch = Fraction(1)
    elif token["broken"] and measure:
        short = Fraction(1, 2 ** len(token["broken"]))
        first, second = (2 - short, short) if token["broken"][0] == ">" else (short, 2 - short)
        measure[-1].duration *= first
        state.stretch = second
    elif token["p"]:
        p = int(token["p"])
        default = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, 3 if state.compound else 2)
        if p:
            state.tuplet = (Fraction(int(token["q"] or default), p), int(token["r"] or p))
    elif token["tie"]:
        event = measure[-1] if measure else next((m[-1] for m in reversed(state.measures) if m), None)
        if event:
            event.tied = True
    elif token["bars"]:
        count = int(token["bars"][1:] or 1)
        for _ in range(count - 1):
            state.measures[-1].append(_Event({}, state.bar_length))
            state.measures.append([])
        state.measures[-1].append(_Event({}, state.bar_length))


def _pitch(text: str, state: _State) -> tuple[tuple[str, int], int]:
    """((letter, octave), MIDI pitch) of a note such as "^c'" under the signature and the accidentals of the bar."""
    marks = re.match(r"[\^_=]*", text).group(0)
    letter = text[len(marks)]
    octave = 5 + letter.islower() + text.count("'") - text.count(",")
    step = letter.upper()
    previous = next((m[-1] for m in reversed(state.measures) if m), None)
    if marks:
        state.accidentals[step] = marks.count("^") - marks.count("_")
    elif previous and previous.tied and (step, octave) in previous.pitches:
        return (step, octave), previous.pitches[step, octave]  # a tie carries its accidental over the bar line
    alter = state.accidentals.get(step, state.signature.get(step, 0))
    pitch = 12 * octave + _STEPS[step] + alter
    if not 0 <= pitch <= 127:
        raise AbcError(f"note {text!r} out of range")
    return (step, octave), pitch


def _rows(measures: list[list[_Event]], starts) -> list[tuple[float, float, float, float]]:
    """Notes (onset_q, duration_q, pitch, velocity) with ties between neighbours of one pitch joined."""
    rows: list[list[float]] = []
    open_ties: dict[int, int] = {}
    for measure, start in zip(measures, starts, strict=True):
        onset = Fraction(0)
        for event in measure:
            still: dict[int, int] = {}
            begin, end = float(start) + float(onset), float(start) + float(onset + event.duration)
            for pitch in event.pitches.values():
                if pitch in open_ties:
                    row = open_ties[pitch]
                    rows[row][1] = end - rows[row][0]
                else:
                    row = len(rows)
                    rows.append([begin, end - begin, pitch, _VELOCITY])
                if event.tied:
                    still[pitch] = row
            open_ties = still
            onset += event.duration
    return [tuple(row) for row in rows if row[1] > 0]


def _length(upper: str, slashes: str, lower: str) -> Fraction:
    """Multiple of the unit length in "3/2", "/", "//", "2", ""."""
    number = Fraction(int(upper or 1))
    if not slashes:
        return number
    below = int(lower) if lower else 2 ** len(slashes)
    if not below:
        raise AbcError("a length divided by 0")
    return number / below


def _unit(text: str | None, meter: str) -> Fraction:
    """Unit note length in quarters: L:, or by the meter 1/16 (below 3/4) or 1/8."""
    match = re.match(r"(\d+)/(\d+)", text or "")
    if match and int(match.group(2)):
        return Fraction(4 * int(match.group(1)), int(match.group(2)))
    upper, lower = split_meter(meter)
    return Fraction(1, 4) if upper / lower < 0.75 else Fraction(1, 2)


def _signature(fifths: int) -> dict[str, int]:
    order = "FCGDAEB"
    if fifths >= 0:
        return {order[k % 7]: 1 + k // 7 for k in range(fifths)}
    return {order[6 - k % 7]: -1 - k // 7 for k in range(-fifths)}


def parse_meter(text: str) -> str:
    """ "C" -> "4/4", "C|" -> "2/2", "6/8" -> "6/8". Raises an AbcError if there is no fixed meter."""
    text = text.split("%", 1)[0].replace(" ", "")
    if text in ("C", "c"):
        return "4/4"
    if text in ("C|", "c|"):
        return "2/2"
    try:
        split_meter(text)
    except ValueError:
        raise AbcError(f"meter {text!r}") from None
    return text


def parse_key_field(text: str) -> tuple[str, str, bool]:
    """ "Edor" -> ("E", "dor", True), "G" -> ("G", "maj", False). Raises an AbcError if it is not a key, such as "HP" or
    "none"."""
    match = _KEY.match(text.split("%", 1)[0].strip())
    if not match:
        raise AbcError(f"key {text!r}")
    word = match.group(3)
    mode = "maj" if word in ("", "M") else "min" if word == "m" else word[:3].lower()
    if mode not in MODES:
        raise AbcError(f"key {text!r}")
    return match.group(1) + match.group(2), mode, bool(word)


def _tempo(text: str | None, meter: str) -> float | None:
    """Beats per minute of "1/4=104" in the beat of the meter; None if absent or in another form."""
    match = re.match(r'\s*(?:"[^"]*"\s*)?(\d+)/(\d+)\s*=\s*(\d+)', text or "")
    if not match or not int(match.group(2)):
        return None
    return 4.0 * int(match.group(1)) / int(match.group(2)) * int(match.group(3)) / beat_q(meter)


def tidy_title(text: str) -> str:
    """ "BAG OF MEAL, THE" -> "The Bag Of Meal"; other titles as they are."""
    text = re.sub(r"\s+", " ", text).strip().rstrip(".")
    match = re.fullmatch(r"(.+), (the|an?)", text, flags=re.IGNORECASE)
    text = f"{match.group(2)} {match.group(1)}" if match else text
    return re.sub(r"[A-Za-z']+", lambda m: m.group(0).capitalize(), text) if text.isupper() else text
