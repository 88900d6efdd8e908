"""An audio file -> varied, repaired or extended; what is kept comes back bit for bit."""

import argparse

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace edit --audio loop.wav --strength 0.6 --prompt "church organ" --out varied.wav
  vivace edit --audio loop.wav --mask_s 4:6 --prompt "jazz trio" --out repaired.wav
  vivace edit --audio loop.wav --extend_s 0 10 --prompt "jazz trio" --out longer.wav
  vivace edit --audio song.wav --score edited.mid --out song2.wav
  vivace edit --batch edits.jsonl --out folder
      edits.jsonl: {"audio": "loop.wav", "mask_s": [[4, 6]], "prompt": "jazz trio", "out": "repaired.wav"}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("audio").add_argument
    add("--audio", help="the file to start from; the result has its rate and channels")
    add("--strength", type=arguments.number, help="0 leaves it as it is, 1 ignores what is to be made anew")
    add("--mask_s", type=arguments.region, action="append", metavar="START:END", help="seconds to make anew")
    add("--extend_s", type=arguments.number, nargs=2, metavar=("BEFORE", "AFTER"), help="seconds to add on both sides")
    about = "whether it is a loop, edited as a circle; default: as its tags say"
    add("--loop", action=argparse.BooleanOptionalAction, help=about)
    arguments.add_words(parser)
    arguments.add_grid(parser, length=False)
    arguments.add_notes(parser, stems=False)
    arguments.add_strengths(parser)
    arguments.add_batch(parser)
    arguments.add_checkpoint(parser)
    arguments.add_lora(parser)
    arguments.add_out(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pipelines.commands.make import make

    return make(args)
