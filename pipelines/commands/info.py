"""What a checkpoint, an audio file or a MIDI file is: parts, recipe, notes, licence, figures."""

import argparse
import json
from pathlib import Path

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace info checkpoints/small
  vivace info user/vivace-small --revision v1
  vivace info out.wav --json
  vivace info tune.mid"""
MIDI = (".mid", ".midi")
AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", help="checkpoint folder, user/name on the Hub, audio file or MIDI file")
    add("--revision", help="branch, tag or commit on the Hub")
    arguments.add_json(parser)


def about_audio(path: Path) -> dict:
    """Length, format and recipe of an audio file; a file of another program has no recipe. Raises a ValueError for one
    that cannot be read."""
    from pipelines.vivace_files import find_recipe, load_soundfile

    soundfile = load_soundfile()
    try:
        with soundfile.SoundFile(str(path)) as file:
            about = {
                "file": str(path),
                "format": f"{file.format} {file.subtype}",
                "duration_s": file.frames / file.samplerate,
                "sampling_rate": file.samplerate,
                "channels": file.channels,
            }
    except (OSError, RuntimeError) as error:
        raise ValueError(f"file {str(path)!r} cannot be read ({error})") from error
    return about | {"recipe": find_recipe(path)}


def about_notes(path: Path) -> dict:
    """What a MIDI file holds, as a score that is played."""
    from pipelines.scores import about_score
    from pipelines.vivace_score import Score

    return {"file": str(path), "format": "MIDI", "score": about_score(Score.load(path))}


def score_of_audio(about: dict) -> dict:
    """The notes that an audio file plays, by its recipe."""
    from pipelines.scores import about_score, score_of_recipe

    score = score_of_recipe(about["recipe"], about["duration_s"])
    return {"score": None if score is None else about_score(score)}


def about_checkpoint(name: str, revision: str | None) -> dict:
    """What a folder or repository holds."""
    from pipelines.card import describe
    from pipelines.hub import check_checkpoint, find_checkpoint

    folder = find_checkpoint(name, revision)
    return {"checkpoint": name, **describe(folder, check_checkpoint(folder))}


def show(value: object, indent: str = "") -> list[str]:
    """Nested dicts as indented lines; what is None is left out."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"{indent}{key}", *show(item, indent + "  ")]
        elif item is not None:
            lines.append(
                f"{indent}{key:<{max(1, 24 - len(indent))}} {f'{item:.4g}' if isinstance(item, float) else item}"
            )
    return lines


def run(args: argparse.Namespace) -> int:
    path = Path(args.path)
    kind = path.suffix.lower()
    is_file = path.is_file() or kind in AUDIO + MIDI
    if is_file and not path.is_file():
        raise ValueError(f"path is {args.path!r}: no such file")
    if kind in MIDI:
        about = about_notes(path)
    else:
        about = about_audio(path) if is_file else about_checkpoint(args.path, args.revision)
    if is_file and kind not in MIDI:
        about |= score_of_audio(about)
    if args.json:
        print(json.dumps(about))
        return 0
    if is_file:
        from pipelines.scores import score_lines

        if about["score"] is not None:
            about["score"] = score_lines(about["score"])
        if about.get("recipe") is not None:  # its own text of the score is for programs
            arguments = {name: value for name, value in about["recipe"]["arguments"].items() if name != "score"}
            about["recipe"] = about["recipe"] | {"arguments": arguments}
    print("\n".join(show(about)))
    if "recipe" in about and about["recipe"] is None:
        print("no recipe: not written by Vivace, or its tags were removed")
    return 0
