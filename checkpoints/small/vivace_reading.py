"""What the words of a prompt say: tempo, meter, key, chords, length and loop, and what they exclude."""

import re
from dataclasses import dataclass, field
from fractions import Fraction

from .vivace_theory import (
    BRITISH_NOTES,
    INSTRUMENT_WORDS,
    MODE,
    PROGRAMS,
    TONIC,
    beat_unit_name,
    parse_beat_unit,
    parse_key,
    parse_time_signature,
    read_chord,
    spell_key,
)

BPM_RANGE = (20.0, 300.0)  # beats a minute


@dataclass
class MusicWords:
    """What a prompt says; what it does not say is None. Numbers are as written and not checked.

    Attributes:
        prompt: its text.
        bpm: tempo in `beat_unit`s a minute; of a range ("120-128 bpm") the middle.
        beat_unit: the note that `bpm` counts where the words name one ("dotted quarter = 60"), else None: the meter's
            beat.
        time_signature: as in "3/4".
        key: as spelled, in the form of `spell_key`.
        bars: length in bars; of a range the first number.
        duration_s: length in seconds; of a range the middle.
        loop: True for "loop", False for "no loop".
        notes: one sentence, "<what>: ...", for each thing in the words that looks like one of the above or like chords
            and is not used, or not as it stands.
    """

    prompt: str = ""
    bpm: float | int | None = None
    beat_unit: str | None = None
    time_signature: str | None = None
    key: str | None = None
    bars: int | None = None
    duration_s: float | None = None
    loop: bool | None = None
    notes: list[str] = field(default_factory=list)


# Numbers in words are made digits before anything else is read.
UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
VALUES = {name: value for value, name in enumerate([*UNITS, *TEENS], 1)}
VALUES |= {name: 10 * value for value, name in enumerate(TENS, 2)} | {"a": 1, "and": 0, "hundred": 100}
_UNIT, _TEEN, _TEN = ("|".join(names) for names in (UNITS, TEENS, TENS))
_SMALL = rf"(?:(?:{_TEN})(?:[\s-](?:{_UNIT})\b)?|{_TEEN}|{_UNIT})"
NUMBER_WORDS = re.compile(
    rf"\b(?:(?:a|{_UNIT})[\s-]hundred(?:[\s-](?:and[\s-])?{_SMALL})?|(?:one|two)[\s-](?:(?:{_TEN})"
    rf"(?:[\s-](?:{_UNIT})\b)?)|{_SMALL})\b",
    re.IGNORECASE,
)

# 1,200 is a thousand and two hundred, 90,5 is ninety and a half.
NUMBER = r"(?>\d{1,3}(?:,\d{3})+(?!\d)|\d{1,9}(?:[.,]\d{1,9})?)(?!\d)"
SPAN = rf"(?:(?P<low>{NUMBER})\s*(?:-|to\b|and\b|or\b)\s*)?(?P<number>{NUMBER})"
ALONE = r"(?<![\w.])(?<!\d/)"  # no digits, letter or fraction before a number
PER_MINUTE = r"(?:b\.\s?p\.\s?m\b\.?|bpms?\b|beats\s*(?:per|a|/)\s*min(?:ute)?\b)"
NOTE_NAMES = "|".join(["half", "quarter", "eighth", "sixteenth", *BRITISH_NOTES])
BEAT_UNIT = (
    rf"(?P<unit>[\u2669\u266a]\s?\.?|(?:dotted[\s-])?(?:{NOTE_NAMES})(?:[\s-]notes?)?|(?<![\d/])[13]/(?:2|4|8|16))"
)
NOT_A_TEMPO = r"(?!\s*/\s*\d|[\s-]*(?:bars?|measures?|beats|seconds?|secs?|minutes?|mins?|s)\b)"
TEMPO = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?:(?:tempo|bpm)\s*[:=]?\s*)?{BEAT_UNIT}\s*(?:=|\bis\b|:)\s*{SPAN}(?:\s*{PER_MINUTE})?",
        rf"(?:\bbetween\s+)?{ALONE}{SPAN}(?:\s*|-){PER_MINUTE}",
        rf"(?<![a-z])(?:(?:{PER_MINUTE}|tempo\b|metronome(?:\s+mark(?:ing)?)?\b|m\.\s?m\.)[\s(:)=-]{{0,4}}){{1,3}}"
        rf"(?:(?:of|is|on|at|to|set|around|about|roughly|between|approx\.?|ca?\.|~)\s*){{0,3}}{SPAN}{NOT_A_TEMPO}\)?",
    )
]
NO_TEMPO = {  # what looks like a tempo, and why it is none
    re.compile(rf"(?<![a-z\d]){PER_MINUTE}", re.IGNORECASE): "has no number that could be read",
    re.compile(r"\bat\s+(?:[4-9]\d|1\d\d|2[0-4]\d)(?=\s*(?:$|[,;.!\n)](?!\d)))", re.IGNORECASE): "may be a tempo; "
    "write bpm after it",
}

NOT_A_METER = re.compile(  # after it: the fraction is the value of a note, or counts something else
    r"(?:th|nd|rd)?[\s-]*(?:notes?|triplets?|dotted|t\b|d\b|hi-?hats?|hats?|delays?|echo\w*|arp\w*|rolls?|snares?|"
    r"kicks?|quantiz\w+|steps?|dozen|cups?|inch\w*|swing|pulses?|tones?|speed|tempo|size|scale)\b",
    re.IGNORECASE,
)
COUNTED = re.compile(
    r"(?:track|part|take|disc|song|no\.?|number|volume|vol\.?|page|chapter|movement|side|scene|level|#)\s*$",
    re.IGNORECASE,
)
METER = re.compile(r"(?<![\d/.,])(\d{1,2})\s?/\s?(2|4|8|16)(?![\d/]|\.\d)")
METER_WORD = re.compile(r"[\s-]*(?:time|meter|metre)\b", re.IGNORECASE)
METER_NAMES = {
    re.compile(r"(?<![\w-])(\d{1,2})[\s-](2|4|8|16)(?=[\s-](?:time|meter|metre)\b)", re.IGNORECASE): None,
    re.compile(r"\bcommon[\s-]time\b", re.IGNORECASE): "4/4",
    re.compile(r"\bcut[\s-]time\b|\balla breve\b", re.IGNORECASE): "2/2",
}

# Before a length: it tells where something is; after it: of what it is the length.
PLACED = re.compile(
    r"\b(?:after|every|each|first|last|next|final|until|within|over|per|for the|at|from)\s+$", re.IGNORECASE
)
AFTER_A_LENGTH = re.compile(
    r"(?:[\s-]*|\s+of\s+)(?:intros?|outros?|verses?|chorus(?:es)?|bridges?|fills?|phrases?|turnarounds?|pick-?ups?|"
    r"fade\w*|reverb\w*|delays?|echo\w*|decays?|tails?|releases?|attacks?|rolls?|build-?ups?|risers?)\b",
    re.IGNORECASE,
)
A_FORM = re.compile(r"[\s-]*(?:blues|form)\b", re.IGNORECASE)  # "12-bar blues"
BARS = re.compile(rf"{ALONE}{SPAN}[\s-]*(?:bars?|measures?|takte?n?)\b", re.IGNORECASE)
SECONDS = r"(?:seconds?|secs?)\b"
TIMES = re.compile(
    rf"{ALONE}(?:(?P<clock_m>\d{{1,2}}):(?P<clock_s>[0-5]\d)(?![:\d]|\s*[ap]\.?m\b|\s*o'clock)"
    rf"|(?P<prime_m>\d{{1,2}})'\s?(?P<prime_s>[0-5]\d)(?:\"|''|(?!\w))"
    rf"|(?:{SPAN}[\s-]*(?P<minutes>minutes?\b|mins?\b\.?|m(?=\s?\d{{1,2}}\s?s))(?P<half>\s+and\s+a\s+half\b)?"
    rf"(?:\s*(?:,|and|&)?\s*(?P<more>{NUMBER})[\s-]*(?:{SECONDS}|s\b))?)"
    rf"|(?:(?P<seconds_low>{NUMBER})\s*(?:-|to\b)\s*)?(?P<seconds>{NUMBER})[\s-]*{SECONDS}"
    rf"|(?P<short>\d{{1,3}}) ?s(?=\s*(?:$|[.,;)|]|long\b|loop\b|clip\b)))",
    re.IGNORECASE,
)
DECADES = (50, 60, 70, 80, 90)  # "80s" is no length
THE = re.compile(r"\bthe\s+$", re.IGNORECASE)  # "the 30s"
MAX_CLOCK = 10  # minutes; "23:59" is a time of day

NO_LOOP = re.compile(
    r"\b(?:no|not(?:\s+(?:a|to|be))*|non|never|without(?:\s+an?)?|don'?t|doesn'?t)[\s-]+(?:\w+\s+)?loop(?:s|ed|able|ing)?\b"
    r"|\bunloop(?:ed|able)\b",
    re.IGNORECASE,
)
LOOP = re.compile(
    r"(?<!\btape )(?<![\w-])loop(?:ed|able|-able|ing)?(?!\w|-(?:based|pedal|station)|\s+(?:pedal|station|based))"
    r"|\bseamless(?:ly)?\b",
    re.IGNORECASE,
)
NOT_THIS_LOOP = re.compile(  # a loop within the music
    r"\b(?:over|with|using|behind|under|atop|in)\s+(?:an?|the)\s+(?:[\w-]+\s+){0,3}$", re.IGNORECASE
)

CHORD = (
    r"[A-G][#b\u266f\u266d]?(?:maj|min|dim|aug|sus|add|[mM\u00b0\u00f8\u0394+#b\d():-])*(?:/[A-G][#b\u266f\u266d]?)?"
)
CHORD_RUN = re.compile(
    rf"(?<![\w'#/&-]){CHORD}(?:(?:\s*[,|>\u2192-]+\s*|\s+){CHORD}(?![\w#'&]))+(?!\s*(?i:{MODE}|sharp|flat)\b)"
)
LEAD = (
    r"(?P<lead>(?<![\w-])(?i:(?:in\s+)?(?:the\s+)?key(?:\s+signature)?(?:\s+(?:of|is)\b|\s*[:=]|(?=\s+[A-G]))\s*"
    r"(?:in\s+)?|in\s+))?"
)
KEY = re.compile(
    rf"{LEAD}(?<![\w#'\u266f\u266d-]){TONIC}"
    rf"(?:(?P<separator>[\s:-]*)(?P<mode>(?i:{MODE}))\b|(?P<m>m)(?![\w#'])|(?P<alone>)(?![\w#'\u266f\u266d+/&-]))"
)
# What may follow a mode or a lone note where a noun would make it an article or something else.
END = re.compile(r"\s*(?:$|[.,;:!?()|\n\d/-]|(?i:at|with|and|for|on|over|but)\b)")
SCALE = re.compile(r"\s*(?i:scale)\b")
STARTS_SENTENCE = re.compile(r"(?:^|[.!?])\s*$")
APART = re.compile(r"(?:^|[,;:.!?(|\n/])\s*$")
TRANSPOSING = re.compile(r"\b(?i:clarinets?|trumpets?|cornets?|horns?|flugelhorns?|sax\w*)\s+in\s+$")
NEAR = 80  # characters before a place that are looked at
NO_KEY = {
    re.compile(r"\bH[\s-]*(?i:minor|major|maj|min)\b"): "is no key; the German H is B",
    re.compile(r"\b(?i:an?|some)\s+(?i:minor|major)\s+(?i:key|mode|tonality)\b"): "names no note",
    re.compile(r"\b(?i:key\s*[:=])\s*[^\s,;.|]+"): "is no key that is known",
    re.compile(r"\b(?i:key\s+of)\s+[A-Za-z](?![\w'])(?:\s*(?:#|\u266f|\u266d))*"): "is no key that is known",
    re.compile(
        r"\b[A-G][#b\u266f\u266d]?\s+(?i:(?:blues|whole[\s-]tone|octatonic|chromatic|diminished)\s+scale|pentatonic)\b"
    ): "is no key that is known",
    re.compile(r"(?:(?<=[,;|\n])|^)\s*[A-G][#b\u266f\u266d](?=\s*(?:$|[,;|\n]))"): "may be a key; write it as in "
    "'key: Eb'",
    re.compile(r"(?<!\bI )(?<![\w'#/-])[A-G][#b\u266f\u266d]?m\b(?!')"): "may be a key or a chord; write it as in "
    "'key: Am', or give it as chords",
}  # fmt: skip


def read_music(prompt: str) -> MusicWords:
    """What a prompt says of tempo, meter, length, loop and key; see `MusicWords`.

    Of several tempos, meters, lengths or keys the first is taken, and the others are noted.
    """
    return _Reader(prompt).music


def read_prompt(prompt: str) -> dict[str, float | int | str | None]:
    """`bpm`, `key`, `time_signature`, `bars` and `duration_s` of `read_music`; what a prompt does not say is None."""
    music = read_music(prompt)
    return {name: getattr(music, name) for name in ("bpm", "key", "time_signature", "bars", "duration_s")}


def plain_text(prompt: str) -> str:
    """A prompt with numbers in digits ("ninety-six" is 96, "a hundred and twenty" 120) and one kind of hyphen."""
    text = re.sub(r"[^\S\n]+", " ", re.sub("[\u2010-\u2015\u2212]", "-", prompt)).replace("\u2019", "'")
    text = NUMBER_WORDS.sub(lambda match: str(_value(match[0])), text)
    text = re.sub(r"\b(\d+) and a half(?=[\s-]minutes?)", r"\1.5", text)
    text = re.sub(r"\ba minute(?= (?:and a half|long|of)\b)", "1 minute", text)
    return re.sub(r"\bhalf a minute\b", "30 seconds", text)


def _value(words: str) -> int:
    total = 0
    for word in re.split(r"[\s-]+", words.lower()):
        value = VALUES[word]
        if value == 100 or (20 <= value < 100 and 0 < total < 10):  # "one hundred", "one twenty"
            total *= 100
        total += 0 if value == 100 else value
    return total


def _number(text: str) -> Fraction:
    thousands = re.fullmatch(r"\d{1,3}(?:,\d{3})+", text) is not None
    return Fraction(text.replace(",", "") if thousands else text.replace(",", "."))


def _as_number(value: Fraction) -> int | float:
    return int(value) if value.denominator == 1 else float(value)


def _quoted(text: str) -> str:
    return repr(" ".join(text.split()))


class _Reader:
    """Reads one prompt, one kind of thing after another; what was read is struck out with bars ("|")."""

    def __init__(self, prompt: str):
        self.text, self.music = plain_text(prompt), MusicWords(prompt)
        self.notes: dict[str, None] = {}
        self.tempo()
        self.meter()
        self.bars()
        self.duration()
        self.loop()
        self.chords()
        self.key()
        self.music.notes = list(self.notes)

    def note(self, kind: str, text: str) -> None:
        self.notes[f"{kind}: {text}"] = None

    def strike(self, spans: list[tuple[int, int]]) -> None:
        """Strike out parts of the text, (start, end) each, in order."""
        pieces, done = [], 0
        for start, end in spans:
            pieces += [self.text[done:start], "|" * (end - start)]
            done = end
        self.text = "".join([*pieces, self.text[done:]])

    def before(self, place: int) -> str:
        """What stands shortly before a place; a long text is not looked through again for each hit."""
        return self.text[max(0, place - NEAR) : place]

    def first(self, kind: str, found: list[tuple[int, str, object]]) -> object | None:
        """The value of the first hit, (place, words, value) each; others that differ are noted."""
        found = sorted(found, key=lambda hit: hit[0])
        for _, words, value in found[1:]:
            if value != found[0][2]:
                self.note(kind, f"{_quoted(words)} is not used beside {_quoted(found[0][1])}, which comes first")
        return found[0][2] if found else None

    def middle(self, kind: str, words: str, low: str | None, high: str, limits: tuple[float, float]) -> Fraction:
        """A number, or the middle of a range within limits."""
        value = _number(high)
        if low is None or not limits[0] <= _number(low) < value <= limits[1]:
            return value
        middle = (_number(low) + value) / 2
        self.note(kind, f"{_quoted(words)} is a range; its middle, {float(middle):g}, is taken")
        return middle

    def tempo(self) -> None:
        found = []
        for pattern in TEMPO:
            spans = []
            for match in pattern.finditer(self.text):
                unit, words = match.groupdict().get("unit"), match[0].strip(" ()")
                bpm = _as_number(self.middle("tempo", words, match["low"], match["number"], BPM_RANGE))
                found.append((match.start(), words, (bpm, unit and _unit_name(unit))))
                spans.append(match.span())
            self.strike(spans)
        for pattern, reason in NO_TEMPO.items():
            for match in pattern.finditer(self.text):
                self.note("tempo", f"{_quoted(match[0])} {reason}")
        self.music.bpm, self.music.beat_unit = self.first("tempo", found) or (None, None)

    def meter(self) -> None:
        found, spans = [], []
        for match in METER.finditer(self.text):
            meter = f"{match[1]}/{match[2]}"
            if COUNTED.search(self.before(match.start())) or NOT_A_METER.match(self.text, match.end()):
                continue
            if int(match[1]) == 1:  # a quarter or a sixteenth is a note
                if METER_WORD.match(self.text, match.end()):
                    self.note("meter", f"{_quoted(match[0])} is taken for the value of a note")
                continue
            try:
                parse_time_signature(meter)
            except ValueError:
                self.note("meter", f"{_quoted(match[0])} is no meter that is known")
                continue
            found.append((match.start(), match[0], meter))
            spans.append(match.span())
        self.strike(spans)
        for pattern, meter in METER_NAMES.items():
            for match in pattern.finditer(self.text):
                found.append((match.start(), match[0], meter or f"{match[1]}/{match[2]}"))
        self.music.time_signature = self.first("meter", found)

    def part(self, match: re.Match) -> bool:
        """Whether a length is that of a part or an effect, or a place; which is noted."""
        after = AFTER_A_LENGTH.match(self.text, match.end())
        if after is None and not PLACED.search(self.before(match.start())):
            return False
        words = match[0] + (after[0] if after else "")
        self.note("length", f"{_quoted(words)} is taken for a part or a place, not for the length of the piece")
        return True

    def bars(self) -> None:
        found, spans = [], []
        for match in BARS.finditer(self.text):
            number = _number(match["low"] or match["number"])
            spans.append(match.span())
            if A_FORM.match(self.text, match.end()) or self.part(match):
                continue
            if number.denominator != 1:
                self.note("length", f"{_quoted(match[0])} is no whole number of bars")
                continue
            found.append((match.start(), match[0], int(number)))
            if match["low"]:
                self.note("length", f"{_quoted(match[0])} is a range; its first number is taken")
        self.strike(spans)
        self.music.bars = self.first("length", found)

    def duration(self) -> None:
        found, spans = [], []
        for match in TIMES.finditer(self.text):
            decade = match["short"] and int(match["short"]) in DECADES and " " not in match[0]
            if decade or (match["short"] and THE.search(self.before(match.start()))):
                continue
            spans.append(match.span())
            if self.part(match):
                continue
            if match["clock_m"] and int(match["clock_m"]) > MAX_CLOCK:
                self.note("length", f"{_quoted(match[0])} is taken for a time of day")
                continue
            found.append((match.start(), match[0], float(self.seconds(match))))
        self.strike(spans)
        self.music.duration_s = self.first("length", found)

    def seconds(self, match: re.Match) -> Fraction:
        for kind in ("clock", "prime"):
            if match[f"{kind}_m"]:
                return 60 * Fraction(match[f"{kind}_m"]) + Fraction(match[f"{kind}_s"])
        if match["minutes"]:
            minutes = self.middle("length", match[0], match["low"], match["number"], (0, 1000))
            return 60 * (minutes + (Fraction(1, 2) if match["half"] else 0)) + _number(match["more"] or "0")
        if match["short"]:
            return Fraction(match["short"])
        return self.middle("length", match[0], match["seconds_low"], match["seconds"], (0, 100000))

    def loop(self) -> None:
        if NO_LOOP.search(self.text) is not None:
            self.music.loop = False
            return
        for match in LOOP.finditer(self.text):
            if match[0][0] in "sS" or not NOT_THIS_LOOP.search(self.before(match.start())):
                self.music.loop = True
                return

    def chords(self) -> None:
        spans = []
        for match in CHORD_RUN.finditer(self.text):
            symbols = set(re.findall(CHORD, match[0]))
            only_letters = all(re.fullmatch("[A-G]", symbol) for symbol in symbols)
            if (only_letters and len(symbols) < 3) or re.search(r"\bI\s+$", self.before(match.start())):
                continue  # "A B A form", "I Am A Rock"
            try:
                for symbol in symbols:
                    read_chord(symbol)
            except ValueError:
                continue
            self.note("chords", f"{_quoted(match[0])} in the words are not followed; give them as chords")
            spans.append(match.span())
        self.strike(spans)

    def key(self) -> None:
        found, spans = [], []
        shouted = self.text == self.text.upper()  # then an article cannot be told by its case
        for match in KEY.finditer(self.text):
            start = match.start("note")
            words = self.text[start : match.end()].strip()
            if not self.is_key(match, shouted):
                continue
            try:
                found.append((start, words, spell_key(words)))
            except ValueError:  # H minor
                continue
            spans.append((start, start + len(words)))
        self.strike(spans)
        key = self.first("key", found)
        if key is not None and key.partition(" ")[2] not in ("major", "minor"):
            self.note("key", f"{key!r} is followed as {parse_key(key).partition(' ')[2]}, by its third")
        for pattern, reason in NO_KEY.items():
            for match in pattern.finditer(self.text):
                if "|" not in match[0]:
                    self.note("key", f"{_quoted(match[0])} {reason}")
        self.music.key = key

    def is_key(self, match: re.Match, shouted: bool) -> bool:
        """Whether what looks like a key is one, and no article, chord, letter or unit: "a minor detail" and "A major
        hit" hold none.

        A lower-case a, or an A that begins a sentence, may be an article: it is a note only when what follows the mode
        is no noun (the end, punctuation, a number, "at", "with", ...). "Am" is a key after "in" or "key" and where it
        stands alone between commas; elsewhere it may be a chord, and more chords beside it make it one. A note alone is
        a major key after "key of" or "key:", and after "in" where no noun follows.
        """
        lead, note, accidental = (match["lead"] or "").lower(), match["note"], match["accidental"]
        before, ends = self.before(match.start("note")), END.match(self.text, match.end()) is not None
        apart = APART.search(before) is not None
        if match["mode"]:
            if note not in "Aa" or accidental or "key" in lead or re.search(r"[:-]", match["separator"]):
                return True
            if match["mode"].lower() in ("dur", "moll"):
                return True
            if note == "a" or shouted:
                return (bool(lead) or apart) and ends
            article = STARTS_SENTENCE.search(before) is not None and not lead
            return not article or ends or SCALE.match(self.text, match.end()) is not None
        if match["m"]:
            if "key" in lead or (lead and (note.isupper() or ends)):
                return True
            return note.isupper() and (bool(accidental) or (apart and ends))
        if "key" in lead:
            return note.isupper() or ends
        if not lead or not ends or note.islower() or (note == "A" and shouted):
            return False
        if TRANSPOSING.search(before):
            self.note("key", f"{_quoted(match[0])} may name the instrument; write the key as in 'key: Eb'")
            return False
        return True


def _unit_name(words: str) -> str:
    """Name of the note that a tempo counts, in the form of `BEAT_UNITS`."""
    signs = {"\u2669": "quarter", "\u266a": "eighth"}
    if words[0] in signs:
        return ("dotted " if words.endswith(".") else "") + signs[words[0]]
    return beat_unit_name(parse_beat_unit(words))


# What a prompt excludes: "rock band without drums", "just piano and bass". A text encoder puts "no drums" beside
# "drums", so that naming what is not wanted asks for it. Such phrases are taken out of the prompt, and what they name
# is kept apart as a text that guidance leads away from (`vivace_sampling`).

STYLES = ("chiptune", "8-bit")  # words for instruments that exclude none
# name | what prompts call it, a regular expression | what guidance leads away from when it is excluded. Several words
# for one thing lead away from it far more surely than one. More special things come first.
_TABLE = r"""
steel drums | steel ?(?:drums?|pans?) | steel drums, steelpan, steel pan
drums | (?:bass|kick|snare) drums?|drums?(?:[ -](?:kits?|sets?|machines?|loops?|tracks?|beats?))?|drummers?|drumming|percussions?|percussive|percussionists?|beats?(?! (?:per|a) minute)|cymbals?|hi-?hats?|snares?|kick|rhythm section | drum kit, drums, percussion, a beat, drum solo, brushes, ride cymbal
electric piano | electric pianos?|e-?pianos?|rhodes|wurlitzer | electric piano, rhodes, e-piano
piano | (?:grand |acoustic |upright )?pianos?|pianists? | piano, grand piano, acoustic piano
organ | (?:church |pipe |hammond |reed )?organs? | organ, hammond organ, church organ
keyboard | keys|keyboards? | piano, electric piano, organ
harpsichord | harpsichords? | harpsichord, cembalo
bass | (?:upright |electric |acoustic |double |slap |synth |sub |fretless )?bass(?! (?:clarinet|trombone|flute))(?:es|lines?| lines?| guitars?)?|bassists? | electric bass, upright bass, synth bass, bass guitar
distorted guitar | (?:distorted|overdriven|heavy|fuzz) guitars? | distorted guitar, overdriven guitar, distortion guitar
guitar | (?:acoustic |electric |nylon |steel |jazz |clean |classical |muted )?guitars?|guitarists? | electric guitar, acoustic guitar, distorted guitar, jazz guitar
voice | (?:lead |backing )?vocals?|voices?|singing|singers?|choirs?|lyrics|chants? | choir, choir aahs, voice oohs, synth voice
violin | violins?|fiddles? | violin, solo violin, fiddle
viola | violas? | viola, solo viola
cello | cell(?:os?|i) | cello, solo cello
strings | (?:string (?:sections?|ensembles?|orchestra|pads?)|strings(?! attached)) | string ensemble, strings, string section
harp | harps? | harp, concert harp
trumpet | trumpets? | trumpet, bright trumpet, muted trumpet
trombone | trombones? | trombone, solo trombone
horn | (?:french )?horns? | french horn, horn, horns
brass | brass(?: sections?)? | brass section, brass, trumpet, trombone
saxophone | (?:(?:alto|tenor|soprano|baritone) )?sax(?:es|ophones?)? | alto sax, tenor sax, saxophone, sax
clarinet | (?:bass )?clarinets? | clarinet, solo clarinet
oboe | oboes? | oboe, plaintive oboe
bassoon | bassoons? | bassoon, low bassoon
flute | (?:pan )?flutes?|piccolos? | flute, concert flute, pan flute
woodwinds | wood ?winds? | flute, oboe, clarinet, bassoon
accordion | accordions? | accordion, squeezebox, bandoneon
harmonica | harmonicas? | harmonica, mouth organ
vibraphone | vibraphones? | vibraphone, vibes
marimba | marimbas?|xylophones? | marimba, xylophone
bells | (?:tubular )?bells|glockenspiels?|chimes | glockenspiel, bells, tubular bells
banjo | banjos? | banjo, bluegrass banjo
mandolin | mandolins? | mandolin, mandolins
ukulele | ukuleles? | ukulele
sitar | sitars? | sitar, indian sitar
pad | (?:synth )?pads? | warm pad, synth pad, sweep pad
synthesizer | synth(?:s|esi[sz]ers?)?(?: leads?)?|(?:saw|square|sine)(?: leads?| waves?)? | saw lead, square lead, synth lead, synth bass, warm pad
"""  # noqa: E501
THINGS = {}
for _line in _TABLE.strip().splitlines():
    # An alternative of a pattern has no spaces around it, a column has.
    _name, _pattern, _words = (part.strip() for part in _line.split(" | "))
    THINGS[_name] = (_pattern, _words)
_LONGER = []
for _name in PROGRAMS:  # the instruments that are missing, and other words for those that are not
    _words = (_name, *INSTRUMENT_WORDS.get(_name, ()))
    _thing = next((thing for thing, (pattern, _) in THINGS.items() if re.search(rf"\b(?:{pattern})$", _name)), _name)
    _pattern, _away = THINGS.get(_thing, ("", ", ".join(_words)))
    _new = [rf"{word}s?" for word in _words if word not in STYLES and not re.fullmatch(_pattern, word)]
    THINGS[_thing] = ("|".join([*_new, _pattern]).strip("|"), _away)
    _LONGER += _new
_THING = "|".join([*sorted(_LONGER, key=len, reverse=True), *(pattern for pattern, _ in THINGS.values())])
_THING = f"(?:{_THING})"
LONGEST = 1000  # characters of a prompt that are read; the text encoder reads fewer
_ARTICLE = r"(?:(?:any|the|a|an|all|more|of|live|electronic|kind of|sort of|your|other) ){0,3}"
_ITEM = rf"(?:{_ARTICLE}{_THING}\b(?![-']))"
_SOUND = r"(?:(?:low|high|bright|dark|soft|warm|mellow|muted|quiet|gentle|plaintive|smooth|funky|single|lone) ){0,2}"
_AGAIN_NO = r"(?:no |without |with no )"
_JOIN = rf"(?:\s?[&/+]\s?|\s+(?:and|or|nor)\s+{_AGAIN_NO}?|\s?,\s?(?:and |or |nor )?{_AGAIN_NO})"
# After "no" a comma ends what is refused ("no drums, piano and harp"), after "without" it may go on ("without drums,
# piano and harp").
_FEW = rf"{_ITEM}(?:{_JOIN}{_ITEM}){{0,8}}"
_MANY, _ALL = (
    rf"{item}(?:(?:\s?,\s?{item}){{1,8}}\s?,?\s+(?:and|or|nor)\s+{item}|{_JOIN}{item}){{0,8}}"
    for item in (_ITEM, rf"(?:{_ARTICLE}{_SOUND}{_ITEM})")
)
_PART = r"\s+(?:solos?|fills?|rolls?|breaks?|riffs?|intros?|drops?)\b"
_LOUD = r"(?:(?:too|very|so|loud|heavy|big|hard|busy|harsh|aggressive|fast|many|much) ){1,3}"
_LINK = r"(?:\b(?:but|and|with|has|have|having|using|there (?:is|are|should be)) ){0,3}"
_DO_NOT = r"(?:do not|don'?t|should not|shouldn'?t)(?: (?:use|want|add|include|play|have|need|put in|contain|be)){0,3}"
_NO = rf"(?:no|not|zero|neither|{_DO_NOT})"
_WITHOUT = (
    r"(?:without|w/o|sans|minus|except(?: for)?|excluding|lacking|free of|devoid of|leav(?:e|ing) out|omit(?:ting)?"
    r"|avoid(?:ing)?|remov(?:e|ing)|skip(?:ping)?|instead of|rather than|in place of|(?:all|any|every)(?:thing)? but)"
)
_BEFORE = r"(?<![\w'-])"
_REFUSED = tuple(
    re.compile(
        rf"[,;]?\s{{0,2}}{_BEFORE}{_LINK}(?P<no>{no})\s+(?P<loud>{_LOUD})?(?P<list>{things})(?P<part>{_PART})?", re.I
    )
    for no, things in ((_NO, _FEW), (_WITHOUT, _MANY))
)
_NEVER_WITHOUT = re.compile(rf"\b(?:never|not|nothing|isn'?t|ain'?t)\s+without\s+(?={_ITEM})", re.I)
_LACKING = re.compile(rf"{_BEFORE}(?P<list>{_THING})(?:[ -]?less|-free)\b ?", re.I)
_ALONE = (
    re.compile(
        rf"{_BEFORE}(?<!not )(?<!n't )(?:only|just|nothing but|unaccompanied)\s+(?P<list>{_ALL})(?!{_PART})", re.I
    ),
    re.compile(rf"{_BEFORE}(?P<list>{_ALL}),?\s+(?P<how>only|alone|unaccompanied|(?:and|with) nothing else)\b", re.I),
)
# Roles that do not play, in words that name no instrument; bass and drums are among the instruments.
SILENCED = {
    role: re.compile(
        rf"{_BEFORE}(?:(?:{_NO}|{_WITHOUT})\s+{_ARTICLE}(?:{names})(?![\w-])|(?:{names})(?:[ -]?less|-free)\b)", re.I
    )
    for role, names in {
        "lead": r"(?:lead )?melod(?:y|ies|ic lines?)|leads?(?!\s+\w)",
        "harmony": "chords?|harmon(?:y|ies)",
    }.items()
}
_CHOIR = re.compile(r"\ba[ -]?capp?ell?a\b", re.I)
_INSTRUMENTAL = re.compile(r"(?:^|[,;]) ?(?:purely |fully |all )?instrumental(?: only| version)? ?(?=$|[,;.])", re.I)


@dataclass(frozen=True)
class Exclusion:
    """A prompt with what it excludes taken out.

    Attributes:
        words: what is left, which says what the music should sound like; may be empty.
        excluded: names in `THINGS` of what is not to play.
        exclusive: names of what alone is to play, as in "just piano and bass"; empty = not stated.
        named: names that `words` has.
    """

    words: str
    excluded: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    @property
    def drumless(self) -> bool:
        return "drums" in self.excluded or (bool(self.exclusive) and "drums" not in {*self.exclusive, *self.named})

    @property
    def restated(self) -> str:
        """The words, and that there are no drums as training captions say it (training/data/scorebook/captions.py)."""
        return f"{self.words}, without drums".strip(" ,") if self.drumless else self.words

    @property
    def unwanted(self) -> str | None:
        """The text that guidance leads away from, in which nothing is that the words ask for; None if nothing is
        excluded."""
        kept = {*self.exclusive, *self.named} - {*self.excluded}
        # Where only some things are wanted it is drums that come in uninvited; to lead away from a list of all other
        # instruments weakens the wanted ones and no other.
        names = [*self.excluded, *(["drums"] if self.drumless else [])]
        parts = ", ".join(THINGS[name][1] for name in names).split(", ")
        return join_words(part for part in parts if not kept & set(things_in(part)))


def join_words(texts) -> str | None:
    """Texts with commas in one, each part once; None if there is none."""
    parts = [part.strip() for text in texts for part in text.split(",")]
    return ", ".join(dict.fromkeys(part for part in parts if part)) or None


def things_in(text: str) -> tuple[str, ...]:
    """Names in `THINGS` of what a text names, each once, in order."""
    found = []
    for match in re.finditer(rf"(?<![\w-]){_THING}\b", text, re.I):
        found.append(next(name for name, (pattern, _) in THINGS.items() if re.fullmatch(pattern, match[0], re.I)))
    return tuple(dict.fromkeys(found))


def tidy(text: str) -> str:
    """A text out of which phrases were taken: no comma, bracket or connecting word stands alone."""
    text = re.sub(r"\(\s*\)|\b(?:and|with|but)\s*(?=$|[.,;])", "", re.sub(r"\s+", " ", text))
    text = re.sub(r"\s+(?=[,;.])", "", text)
    text = re.sub(r"[,;]+(?=[,;.]|$)|(?:^|(?<=[.]))\s*[,;.]+", "", text)
    return re.sub(r"\s+", " ", text).strip(" ,;")


def read_exclusion(prompt: str) -> Exclusion:
    """What a prompt excludes, and its words without that. A prompt that excludes nothing keeps its words as they are.

    "Without", "no", "minus", "instead of", "drumless", "not X" and their like exclude instruments and groups of them;
    "only", "just", "alone", "nothing but" and "unaccompanied" exclude drums that are not named; "a cappella" likewise,
    of voices; "instrumental", if it stands by itself, voices. "No loud drums" and "no guitar solo" exclude no
    instrument, but the words go. "Solo piano" stays as it is, since captions say it so and the network knows it;
    neither does "piano solo" exclude anything. Other things that a prompt is without ("without reverb") stay.
    """
    excluded, exclusive = [], []

    def refuse(match: re.Match) -> str:
        if match["loud"] and match["no"].lower() == "not":  # "not too loud drums" are drums
            return match[0]
        if not match["loud"] and not match["part"]:
            excluded.extend(things_in(match["list"]))
        return " "

    def lack(match: re.Match) -> str:
        excluded.extend(things_in(match["list"]))
        return ""

    def alone(match: re.Match) -> str:
        names = things_in(match["list"])
        exclusive.extend(names)
        if len(names) > 1 or names[0] == "drums":
            return match["list"]
        if match.groupdict().get("how", "").lower() == "alone":
            return match[0]  # in the captions' own words, as below
        return "solo " + re.sub(rf"^{_ARTICLE}", "", match["list"], flags=re.I)

    text = _LACKING.sub(lack, _NEVER_WITHOUT.sub("with ", prompt[:LONGEST]))
    for pattern in _REFUSED:
        text = pattern.sub(refuse, text)
    for pattern in _ALONE:
        text = pattern.sub(alone, text)
    if _CHOIR.search(text):
        exclusive.append("voice")
        text = _CHOIR.sub("" if "voice" in things_in(text) else "choir", text)
    words = prompt
    if text != prompt[:LONGEST]:
        words = tidy(text + prompt[LONGEST:])
        words = words[:1].upper() + words[1:] if prompt[:1].isupper() else words
    named = things_in(words[:LONGEST])
    if _INSTRUMENTAL.search(words) and "voice" not in named:
        excluded.append("voice")
    return Exclusion(words, tuple(dict.fromkeys(excluded)), tuple(dict.fromkeys(exclusive)), named)
