"""An audio file that Vivace made from a score -> its notes as a MIDI file, without making anything again."""

import argparse
import json
from pathlib import Path

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace midi song.wav                      writes song.mid
  vivace midi song.wav --out notes.mid

edit the notes in any program, then: vivace edit --audio song.wav --score notes.mid --out song2.wav"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", help=".wav or .flac with a recipe")
    add("--out", help="file to write, .mid; default: the name of the file, where none of that name is there yet")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pipelines.commands.info import about_audio
    from pipelines.commands.jobs import check_place
    from pipelines.scores import about_score, score_of_recipe

    about = about_audio(Path(args.file))
    score = score_of_recipe(about["recipe"], about["duration_s"])
    if score is None:
        raise ValueError(f"file {args.file!r} has no score in its recipe")
    out = Path(args.file).with_suffix(".mid") if args.out is None else Path(args.out)
    if out.suffix.lower() not in (".mid", ".midi"):
        raise ValueError(f"out is {args.out!r}; allowed: a file name that ends in .mid")
    if args.out is None and out.exists():
        raise ValueError(f"out would be {str(out)!r}, which is there; give out to say that it may be replaced")
    check_place(out)
    score.save(out)
    held = about_score(score)
    if args.json:
        print(json.dumps({"file": str(out), "score": held}))
    else:
        print(f"{out}  {held['bars']} bars, {held['bpm']:g} bpm, {held['notes']} notes: {', '.join(score.roles)}")
    return 0
