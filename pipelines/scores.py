"""Scores for the command line and the page: what can be refused before a model is loaded, and what a score holds."""

import json
from dataclasses import fields
from pathlib import Path

from pipelines.vivace_music import Lengths, Music, MusicArguments, settle
from pipelines.vivace_notes import arguments_of_score
from pipelines.vivace_reading import read_music
from pipelines.vivace_score import Score
from pipelines.vivace_theory import PITCH_CLASSES

NOTATION = (".musicxml", ".mxl", ".xml", ".abc")
LONGEST = Lengths(600.0, 600.0)  # for a recipe, which does not hold the lengths of its checkpoint, seconds


def plays_notes(folder: str | Path) -> bool:
    """Whether the network of a checkpoint folder has note channels."""
    try:
        config = json.loads((Path(folder) / "unet" / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return bool(config.get("note_channels"))


def load_score(path: object, name: str = "score") -> Score:
    """The score of a MIDI file that the argument `name` names.

    Raises:
        ValueError: one line: no text, no such file, or one that is no MIDI file of type 0 or 1 with notes.
    """
    if not isinstance(path, str):
        raise ValueError(f"{name} is {path!r}; allowed: the name of a MIDI file")
    if Path(path).suffix.lower() in NOTATION:
        raise ValueError(
            f"{name} is {path!r}; allowed: a MIDI file (MusicXML and ABC become one by "
            "`python -m training.data.sources.to_midi`)"
        )
    return Score.load(path)


def music_of(text: str, arguments: dict, score: Score | None, default_s: float, longest_s: float) -> Music:
    """The music of one piece, as the pipeline settles it.

    Args:
        text: all words of its prompt.
        arguments: of the pipeline; those that are missing or None are left to the words and the score.
        score: the notes that it plays, or None.
        default_s, longest_s: lengths of the checkpoint, seconds.

    Raises:
        ValueError: what the pipeline would refuse.
    """
    words = read_music(text)
    given = MusicArguments(**{one.name: arguments.get(one.name) for one in fields(MusicArguments)})
    if score is not None:
        given, _ = arguments_of_score(score, given, words)
    return settle(words, given, arguments.get("loop"), default_s, longest_s)


def score_of_recipe(recipe: dict | None, seconds: float) -> Score | None:
    """The score that a file plays, by its recipe; None for one without.

    Args:
        recipe: of `find_recipe`.
        seconds: length of the file. One that was cut since has the score that its recipe was given.

    Raises:
        ValueError: a damaged score.
    """
    from pipelines.vivace_edit import recipe_grid  # loads torch, without which scores are read and checked

    text = (recipe or {}).get("arguments", {}).get("score")
    if text is None:
        return None
    given = Score.from_text(text)
    return recipe_grid(recipe, seconds, LONGEST).get("score", given)


def about_score(score: Score) -> dict:
    """What a score holds, which JSON can hold: its grid, and role, instrument, number of notes and range of each part.

    Pitches are MIDI numbers; those of drums mean classes and have no range.
    """
    parts = []
    for track in score.tracks:
        part = {"role": track.role, "instrument": track.instrument, "notes": len(track.notes)}
        if track.role != "drums":
            part |= {"lowest": int(track.notes[:, 2].min()), "highest": int(track.notes[:, 2].max())}
        parts.append(part)
    return {
        "bars": score.bars, "bpm": score.bpm, "time_signature": score.time_signature, "key": score.key,
        "chords": score.chords, "duration_s": score.duration_s, "notes": sum(part["notes"] for part in parts),
        "parts": parts, "remarks": list(score.remarks),
    }  # fmt: skip


def pitch_name(pitch: int) -> str:
    """60 -> "C4"."""
    return f"{PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}"


def score_lines(about: dict) -> dict:
    """`about_score` for reading: a line for each part."""
    lines = {name: value for name, value in about.items() if name not in ("parts", "remarks")}
    for number, part in enumerate(about["parts"], 1):
        span = f", {pitch_name(part['lowest'])} to {pitch_name(part['highest'])}" if "lowest" in part else ""
        player = f" ({part['instrument']})" if part["instrument"] else ""
        lines[f"part {number}"] = f"{part['role']}{player}, {part['notes']} notes{span}"
    return lines | {f"note {number}": remark for number, remark in enumerate(about["remarks"], 1)}
