"""What a checkpoint or an audio file is: parts, recipe, licence, figures."""

import argparse
import json
from pathlib import Path

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace info checkpoints/small
  vivace info user/vivace-small --revision v1
  vivace info out.wav --json"""
AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("path", help="checkpoint folder, user/name on the Hub, or audio file")
    add("--revision", help="branch, tag or commit on the Hub")
    arguments.add_json(parser)


def about_audio(path: Path) -> dict:
    """Length, format and recipe of an audio file; a file of somebody else's has no recipe.

    Raises:
        ValueError: one that cannot be read.
    """
    from pipelines.vivace_audio import load_soundfile
    from pipelines.vivace_recipe import find_recipe

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
    is_audio = path.is_file() or path.suffix.lower() in AUDIO
    if is_audio and not path.is_file():
        raise ValueError(f"path is {args.path!r}: no such file")
    about = about_audio(path) if is_audio else about_checkpoint(args.path, args.revision)
    if args.json:
        print(json.dumps(about))
    else:
        print("\n".join(show(about)))
        if is_audio and about["recipe"] is None:
            print("no recipe: not written by Vivace, or its tags were removed")
    return 0
