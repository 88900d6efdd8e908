"""What the fields or a client ask for -> arguments of the pipeline, within the limits of a page that many share."""

import math
import os
import re
from pathlib import Path

from pipelines.pipeline_vivace import Score, check_number, parse_key, read_prompt
from pipelines.scores import has_composer, is_composed, music_of
from pipelines.vivace_music import Music
from pipelines.vivace_notes import read_melody
from pipelines.vivace_score import read_parts

MAX_PROMPT = 2000  # characters
MAX_SECONDS = 120.0  # of one piece
MAX_VARIATIONS = 4
MAX_STEPS = 100
MAX_SECTIONS = 26
MAX_SEED = 2**31 - 1
MAX_LORAS, MAX_STRENGTH = 16, 4.0
TEXTS = ("prompt", "negative_prompt", "key", "time_signature", "chords")
MAX_SCORE_BYTES = 2**20
EDIT = ("audio", "strength", "mask_s", "extend_s", "downbeat_s")
SHORT = 60  # characters of a value in a message


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}... ({len(text)} characters)"


def check_text(name: str, value: object) -> str | None:
    """A text without what is not printed, or None for an empty one.

    Raises:
        ValueError: no text, or one that is too long.
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_PROMPT:
        raise ValueError(f"{name} is {shown(value)}; allowed: a text of up to {MAX_PROMPT} characters")
    return " ".join("".join(c for c in value if c.isprintable() or c.isspace()).split()) or None


def check_seed(seed: object) -> int | None:
    """A seed, None for one at random; -1 also means at random."""
    if seed is None or seed == -1:
        return None
    check_number("seed", seed, 0, MAX_SEED, whole=True)
    return int(seed)


def read_score(path: str | Score, argument: str = "score") -> Score:
    """The score of an uploaded MIDI file, or a score as it is; `argument`: what it was sent as.

    Raises:
        ValueError: one line: a file that is gone or too large, or no MIDI file.
    """
    if isinstance(path, Score):
        return path
    name = Path(path).name
    if not os.path.isfile(path):
        raise ValueError(f"{argument} is not there any more; upload it again")
    if os.path.getsize(path) > MAX_SCORE_BYTES:
        size = MAX_SCORE_BYTES // 2**10
        raise ValueError(f"{argument} {name!r} has more than {size} KiB; allowed: MIDI files up to that")
    try:
        return Score.load(path)
    except ValueError as error:
        text = str(error).replace(repr(str(path)), repr(name))
        raise ValueError(re.sub("^score", argument, text)) from error


def read_sections(text: object) -> list[tuple[int, str]]:
    """Bars and words of each section, one a line: "8 verse, soft piano", "8 bars: chorus, brass".

    Raises:
        ValueError: one line: no text, or what is no section.
    """
    if not isinstance(text, str) or len(text) > MAX_PROMPT:
        raise ValueError(f"sections is {shown(text)}; allowed: a text of up to {MAX_PROMPT} characters")
    lines, rows = [line for line in text.splitlines() if line.strip()], []
    for line in lines:
        match = re.fullmatch(r"\s*(\d{1,3})\s*(?:bars?\b)?[\s:,]*(\S.*)", line)
        if match is None or int(match[1]) < 1:
            raise ValueError(f"sections has {shown(line)}; allowed: bars and words, as in '8 verse, soft piano'")
        rows.append((int(match[1]), check_text("sections", match[2]) or ""))
    if len(rows) > MAX_SECTIONS:
        raise ValueError(f"sections has {len(rows)} lines; allowed: up to {MAX_SECTIONS}")
    return rows


def read_loras(value: object) -> dict[str, float] | None:
    """Name and strength of each LoRA adapter that is to play, of a list like ["mine:0.8", "style"]; None if it's empty.

    Raises:
        ValueError: one line: no such list, or what is no name and strength.
    """
    if not value:
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value) or len(value) > MAX_LORAS:
        raise ValueError(f"loras is {shown(value)}; allowed: names and strengths, as in ['mine:0.8']")
    chosen: dict[str, float] = {}
    for one in value:
        name, _, strength = one.strip().partition(":")
        try:
            number = float(strength or 1.0)
        except ValueError:
            number = math.nan
        if not name or not abs(number) <= MAX_STRENGTH or name in chosen:
            raise ValueError(
                f"loras has {shown(one)}; allowed: each name once, strengths up to {MAX_STRENGTH:g}, as in mine:0.8"
            )
        chosen[name] = number
    return chosen


def form_of(rows: list[tuple[int, str]]) -> list[tuple[str, int]] | None:
    """The form of sections, of which those with the same name before a comma have the same notes, and with other words
    behind it some new ones; None where no name comes twice."""
    names = [re.sub(r"\W*\d*$", "", words.split(",")[0]).lower() for _, words in rows]
    letters = {name: chr(ord("A") + place) for place, name in enumerate(dict.fromkeys(names))}
    first = {name: words for name, (_, words) in reversed(list(zip(names, rows, strict=True)))}
    form = [
        (letters[name] + "'" * (words.lower() != first[name].lower()), bars)
        for name, (bars, words) in zip(names, rows, strict=True)
    ]
    return form if len(letters) < len(rows) else None


def pipeline_arguments(values: dict, config) -> dict:
    """Arguments for one prompt; those that are None or an empty text are left to the pipeline.

    Args:
        values: by the names of the pipeline's arguments; sections is a text, see `read_sections`, which
            `jobs.call_arguments` turns into a prompt; score and melody are the path of a MIDI file or a `Score`,
            or anything else that stands for one that is still to come.
        config: of the pipeline.

    Raises:
        ValueError: one line that names the argument, its value and what is allowed.
    """
    values = {name: None if isinstance(value, str) and not value else value for name, value in values.items()}
    out = {name: check_text(name, values.get(name)) for name in TEXTS}
    score, melody = (
        read_score(value, name) if isinstance(value, str) else value
        for name, value in ((name, values.get(name)) for name in ("score", "melody"))
    )
    if isinstance(melody, Score):
        melody = read_melody(melody)
    if score is not None and melody is not None:
        raise ValueError("melody and score: give one of them; a score with its lead alone is a melody")
    if out["prompt"] is None and score is None:
        raise ValueError("prompt is empty; say what the music should sound like, as in 'slow solo piano'")
    for name in ("bpm", "duration_s", "guidance_scale", "grid_guidance_scale", "tilt_db", "downbeat_s"):
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ValueError(f"{name} is {shown(value)}; allowed: a number")
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; allowed: a finite number")
        out[name] = value
    for name, low, high in (
        ("bars", 1, 1000),
        ("num_waveforms_per_prompt", 1, MAX_VARIATIONS),
        ("num_inference_steps", 1, MAX_STEPS),
    ):
        if values.get(name) is not None:
            check_number(name, values[name], low, high, whole=True)
            out[name] = int(values[name])
    sections = read_sections(values.get("sections") or "")
    if sections:
        bars, whole = sum(bars for bars, _ in sections), out.get("bars")
        if out["duration_s"] is not None or whole not in (None, bars):
            length = f"bars is {whole}" if whole else f"duration_s is {out['duration_s']:g}"
            raise ValueError(f"sections has {bars} bars in all, but {length}; leave one of them out")
        out |= {"sections": sections, "bars": bars}
    out["seed"] = check_seed(values.get("seed"))
    out["score"], out["melody"], out["parts"] = score, melody, values.get("parts") or None
    out["loras"], out["sounds_like"] = read_loras(values.get("loras")), values.get("sounds_like")
    read_parts(out["parts"], score if isinstance(score, Score) else None)
    for name in ("loop", "normalize", "stems"):
        if values.get(name) is not None:
            if not isinstance(values[name], bool):
                raise ValueError(f"{name} is {shown(values[name])}; allowed: true or false")
            out[name] = values[name]
    out |= {name: values[name] for name in EDIT if values.get(name) is not None}
    if sections and has_composer(config) and score is None and melody is None:
        out["form"] = form_of(sections)
    written = is_composed(out, has_composer(config))
    if out.get("stems") and score is None and not written:
        raise ValueError("stems needs score: stems are its parts")
    if out.get("audio") is None:
        music_asked(out, config)
    return {name: value for name, value in out.items() if value is not None}


def music_asked(arguments: dict, config) -> Music | None:
    """The music of a piece as the pipeline settles it; None where its melody is a recording, which is read with it.

    Raises:
        ValueError: what the pipeline would refuse.
    """
    notes = arguments.get("melody") if arguments.get("score") is None else arguments["score"]
    if notes is not None and not isinstance(notes, Score):
        return None
    longest_s, written = min(config.max_duration_s, MAX_SECONDS), is_composed(arguments, has_composer(config))
    return music_of(arguments.get("prompt") or "", arguments, notes, config.default_duration_s, longest_s, written)


def overridden(arguments: dict) -> str:
    """Where an argument contradicts what the prompt says, one line that tells which of them counts; "" elsewhere."""
    read, differences = read_prompt(arguments.get("prompt") or ""), []

    def differ(name: str, words: object) -> bool:
        value = arguments.get(name)
        if value is None or words is None:
            return False
        return parse_key(value) != parse_key(words) if name == "key" else value != words

    for name, unit in (("bpm", " bpm"), ("key", ""), ("time_signature", "")):
        if differ(name, read[name]):
            differences.append(f"{arguments[name]}{unit}, not {read[name]}{unit}")
    lengths = {"bars": "{:g} bars", "duration_s": "{:g} s"}
    field = next((name for name in lengths if arguments.get(name) is not None), None)
    stated = next((name for name in lengths if read[name] is not None), None)
    if field and stated and (field != stated or differ(field, read[stated])):
        differences.append(f"{lengths[field].format(arguments[field])}, not {lengths[stated].format(read[stated])}")
    return f"The fields count before the words: {'; '.join(differences)}" if differences else ""


def short_title(text: object) -> str:
    """A line of up to 80 characters of what was typed; "" of anything else."""
    return " ".join("".join(c for c in text if c.isprintable()).split())[:80] if isinstance(text, str) else ""


def file_name(title: str, seed: int | None, taken: object = ()) -> str:
    """A name for a downloaded file that every system takes: words of the title and the seed."""
    words = re.findall(r"[a-z0-9]+", title.lower())[:6] or ["piece"]
    stem = "-".join(words)[:60] + ("" if seed is None else f"-{seed}")
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}"
    return name
