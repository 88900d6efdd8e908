"""A melody, as MIDI or hummed -> the same melody with chords, bass and drums, in the style that the words name."""

import argparse
from pathlib import Path

from pipelines.commands import arguments, compose
from pipelines.commands.jobs import Job, check_file, check_output

EXAMPLES = """examples:
  vivace arrange tune.mid --style bossa --out bossa.mid
  vivace arrange tune.mid --style "string quartet, no drums" --chords "C Am Dm G7" --seed 3 --out quartet.mid
  vivace arrange band.mid --roles "track 2=lead" --style "funk, slap bass" --audio --out funk.mid
  vivace arrange hum.wav --style "string quartet" --bpm 90 --out quartet.mid

the notes of the melody stay as they are; of a file with several parts the lead is taken"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    about = "or a recording of one voice (needs swift-f0)"
    add("file", help=f"MIDI file with the melody, the lead of several parts or the only one; {about}")
    add(
        "--style",
        required=True,
        metavar="WORDS",
        help="style, instruments and what is left out, as a prompt says it",
    )
    arguments.add_grid(parser, length=True)
    compose.add_piece(parser)
    arguments.add_sketch(parser.add_argument_group("sketch").add_argument, melody=False)
    compose.add_model(parser)
    add("--out", help="file to write, .mid; default: tune.arranged.mid for tune.mid")
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    out = check_output(args.out or str(Path(args.file).with_suffix(".arranged.mid")), compose.FORMATS)
    own = ("file", "style", "out", "composer", *arguments.MODEL, "json", "run")
    request = {name: value for name, value in vars(args).items() if name not in own and value is not None}
    job = Job({"prompt": args.style, "melody": args.file} | request, out)
    for path in (*job.paths, *compose.audio_files(job)):
        check_file(path)
    args.batch = None
    return compose.write_scores(args, [job])
