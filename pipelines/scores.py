"""Scores for the command line and the page: what can be refused before a model is loaded, and what a score holds."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from pipelines.vivace_music import Lengths, Music, MusicArguments, arguments_of_score, meter_of, settle
from pipelines.vivace_reading import read_music
from pipelines.vivace_score import ROLES, Score
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


def has_composer(index: Mapping) -> bool:
    """Whether a checkpoint has a composer, by its model_index.json or its pipeline's config."""
    return any(index.get("composer") or ())


def is_composed(arguments: dict, composes: bool) -> bool:
    """Whether the pipeline writes notes for these arguments, where it has a composer and plays notes if `composes`."""
    asked = arguments.get("compose")
    free = arguments.get("score") is None or asked is True or arguments.get("form") is not None
    return composes and free and asked is not False and arguments.get("audio") is None


def read_roles(roles: object) -> dict[str | int, str]:
    """["track 2=lead", "Piano=harmony"] as `Score.load` takes them: tracks by name, or by number from 0.

    Raises:
        ValueError: another form, or an unknown role.
    """
    allowed = f"a track's name or number with one of {', '.join(ROLES)}, as in 'track 2=lead'"
    if not isinstance(roles, list) or not all(isinstance(one, str) for one in roles):
        raise ValueError(f"roles is {roles!r}; allowed: a list, each {allowed}")
    found: dict[str | int, str] = {}
    for one in roles:
        track, _, role = (part.strip() for part in one.rpartition("="))
        number = re.fullmatch(r"(?:track\s*)?(\d+)", track, flags=re.IGNORECASE)
        if not track or role not in ROLES or (number and int(number[1]) < 1):
            raise ValueError(f"roles has {one!r}; allowed: {allowed}, numbers from 1 as `vivace info` shows them")
        found[int(number[1]) - 1 if number else track] = role
    return found


def load_score(path: object, name: str = "score", roles: object = None) -> Score:
    """The score of a MIDI file that the argument `name` names; `roles` as of `read_roles`.

    Raises:
        ValueError: one line: no text, no such file, one that is no MIDI file of type 0 or 1 with notes, or roles of
            tracks that it does not have.
    """
    if not isinstance(path, str):
        raise ValueError(f"{name} is {path!r}; allowed: the name of a MIDI file")
    if Path(path).suffix.lower() in NOTATION:
        raise ValueError(
            f"{name} is {path!r}; allowed: a MIDI file (MusicXML and ABC become one by "
            "`python -m training.data.sources.to_midi`)"
        )
    return Score.load(path, None if roles is None else read_roles(roles))


def load_sketches(request: dict, text: str, roles: object = None) -> Score | None:
    """The notes of `melody` and `rhythm` of a request, names of MIDI files or recordings, together; None for neither.
    In the request scores take their place, so that a recording is listened to once.

    Args:
        text: all words of the prompt.
        roles: of the tracks of a MIDI file, as of `read_roles`.

    Raises:
        ValueError: one line that names the argument.
    """
    names = [name for name in ("melody", "rhythm") if request.get(name) is not None]
    timing = request.pop("sketch_timing", None)
    if not names and timing is None:
        return None
    from pipelines.vivace_notes import is_recording, joined, read_sketch, settle_sketches  # loads torch

    found: dict = {}
    for name in names:
        file = request[name]
        found[name] = read_sketch(file if is_recording(file, None) else load_score(file, name, roles), name)
    given = MusicArguments(**{one.name: request.get(one.name) for one in fields(MusicArguments)})
    pair = settle_sketches(found.get("melody"), found.get("rhythm"), timing, given, read_music(text))
    request |= {name: one for name, one in zip(("melody", "rhythm"), pair, strict=True) if one is not None}
    return joined(*pair)


def load_composer(pipe, folder: str):
    """The composer in a folder, as a part of this pipeline.

    Raises:
        ValueError: none there, or one for another text encoder.
    """
    from pipelines.composer_vivace import ComposerVivace

    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"composer is {folder!r}; allowed: a folder with config.json and weights of a ComposerVivace")
    composer = ComposerVivace.from_pretrained(folder).eval()
    width = pipe.text_encoder.config.d_model
    if composer.config.text_dim != width:
        raise ValueError(f"composer reads text states of {composer.config.text_dim}; the checkpoint's have {width}")
    return composer


def music_of(
    text: str, arguments: dict, score: Score | None, default_s: float, longest_s: float, composed: bool = False
) -> Music:
    """The music of one piece, as the pipeline settles it.

    Args:
        text: all words of its prompt.
        arguments: of the pipeline; those that are missing or None are left to the words and the score.
        score: the notes that it plays, or of what is composed those that are given, or None.
        default_s, longest_s: lengths of the checkpoint, seconds.
        composed: whether its notes are written, see `is_composed`.

    Raises:
        ValueError: what the pipeline would refuse.
    """
    words = read_music(text)
    given = MusicArguments(**{one.name: arguments.get(one.name) for one in fields(MusicArguments)})
    if score is not None:
        given, _ = arguments_of_score(score, given, words)
    elif composed and given.time_signature is None and words.time_signature is None:
        given = replace(given, time_signature=meter_of(text))
    music = settle(words, given, arguments.get("loop"), default_s, longest_s, composed)
    if composed and isinstance(arguments.get("form"), str) and music.bars is not None:
        from pipelines.vivace_compose import read_form  # loads torch

        read_form(arguments["form"], music.bars)
    return music


def score_of_recipe(recipe: dict | None, seconds: float) -> Score | None:
    """The score that a file plays, by its recipe; None for one without.

    Args:
        recipe: of `find_recipe`.
        seconds: length of the file. One that was cut since has the score that its recipe was given.

    Raises:
        ValueError: a damaged score.
    """
    from pipelines.vivace_request import recipe_grid  # loads torch, without which scores are read and checked

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
