"""A file that Vivace wrote -> the same piece, made again from the recipe in its tags, and compared."""

import argparse

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace replay out.wav                                 is it still made, sample for sample?
  vivace replay repaired.wav --audio loop.wav --out again.wav

exit code 1 if the samples differ; the differences in weights, versions and device are then printed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", help=".wav or .flac with a recipe")
    add("--audio", help="what was edited, if the piece is an edit: the recipe knows only its hash")
    add("--out", help="file to write, beside it the stems that it had; default: none, only compare")
    arguments.add_checkpoint(parser)
    arguments.add_lora(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pipelines.commands.make import make_again

    return make_again(args)
