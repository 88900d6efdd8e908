"""Words, tempo, key, chords and notes -> an audio file."""

import argparse

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace generate "slow solo piano in A minor, 72 bpm, 4 bars" --seed 7 --out out.wav
  vivace generate "funk groove" --bars 8 --bpm 96 --key "A minor" --loop --out loop.flac
  vivace generate --prompt "calm piano, 80 bpm" --at "bar 5" "drums and bass enter" --bars 16 --out story.wav
  vivace generate --score tune.mid --prompt "music box" --parts lead bass --midi --stems --out song.wav
  vivace generate "slow piano" --lora my_style:0.8 --lora user/name --out styled.wav
  vivace generate --batch requests.jsonl --out folder --json
      requests.jsonl: {"prompt": "solo flute", "bars": 4, "bpm": 90, "seed": 1, "out": "flute.wav"}"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_prompt(parser)
    arguments.add_words(parser)
    arguments.add_grid(parser, length=True)
    arguments.add_notes(parser, stems=True)
    arguments.add_strengths(parser)
    arguments.add_sound(parser)
    arguments.add_batch(parser)
    arguments.add_checkpoint(parser)
    arguments.add_lora(parser)
    arguments.add_out(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pipelines.commands.make import make

    return make(args)
