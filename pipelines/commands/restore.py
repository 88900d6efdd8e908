"""A recording -> the same with its faults repaired, by exact means or by the network; and in another tone or level."""

import argparse
import json
import os
import shutil
from pathlib import Path

from pipelines.commands import arguments

EXAMPLES = """examples:
  vivace restore in.wav --out better.wav
  vivace restore in.wav --to "brighter, -14 LUFS, -1 dBTP" --out better.wav
  vivace restore demo.mp3 --like reference.flac --out better.flac
  vivace restore in.wav --to "less noise, slightly drier" --out better.wav
  vivace restore in.wav --only dc hum --out better.wav
  vivace restore in.wav                     only says what it would do

what is clean comes back as it was; noise, a narrow band and, on request, reverb are left to the network"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", help="recording, .wav, .flac, .mp3, .ogg")
    add(
        "--to", metavar="WORDS", help="tone and level, as in 'warmer, slightly brighter, -14 LUFS, -1 dBTP': brighter, "
        "darker, warmer, thinner, wider, narrower, mono; 'drier' and 'less noise', which are done even "
        "where no noise is found",
    )  # fmt: skip
    add(
        "--like", metavar="FILE", help="recording whose long-term spectrum is matched in third octaves, by 9 dB at most"
    )
    add(
        "--only", nargs="+", metavar="REPAIR", help="make these alone, where their fault is found: dc, clipping, "
        "clicks, hum, noise, band, level; default: all",
    )  # fmt: skip
    add("--out", help="file to write, .wav or .flac (16 bit), .mp3, .ogg; default: none, and only the report")
    arguments.add_json(parser)
    arguments.add_checkpoint(parser)


def run(args: argparse.Namespace) -> int:
    from pipelines.commands.jobs import check_output

    out = None if args.out is None else check_output(args.out)
    from pipelines import hub
    from pipelines.restore import REPAIRS, load_restorer, restore
    from pipelines.threads import set_threads
    from pipelines.vivace_files import read_audio

    try:
        audio, rate = read_audio(args.file, None, float("inf"))
    except ValueError as error:
        raise ValueError(str(error).replace("audio is", "file is", 1)) from error
    try:
        like = None if args.like is None else read_audio(args.like, None, float("inf"))
    except ValueError as error:
        raise ValueError(str(error).replace("audio is", "like is", 1)) from error
    hub.check_trust(args.checkpoint, args.trust)
    hub.quiet_libraries()
    set_threads(args.threads)
    where = (args.checkpoint, args.revision, args.variant, args.dtype, args.device)
    restorer = load_restorer(args.to, args.only, *where)
    made = restore(audio, rate, args.to, like, tuple(args.only or REPAIRS), restorer=restorer)
    if out is not None:
        same = out.exists() and out.samefile(args.file)
        if not made.done and out.suffix.lower() == Path(args.file).suffix.lower():
            if not same:
                partial = out.with_name(f".{out.name}.partial")
                shutil.copyfile(args.file, partial)
                os.replace(partial, out)
        else:
            made.save(out)
    about = {"file": args.out, "done": made.done, "not_done": made.left, "before": made.before, "after": made.after}
    print(json.dumps(about) if args.json else report(about))
    return 0


def report(about: dict) -> str:
    lines = [f"done        {line}" for line in about["done"]] or ["done        nothing: no fault is found"]
    lines += [f"not done    {line}" for line in about["not_done"]]
    names = {
        "loudness_lufs": ("loudness", "{:.1f} LUFS"), "true_peak_dbtp": ("true peak", "{:.1f} dBTP"),
        "dc": ("DC", "{:.5f}"), "hum_dbfs": ("hum", "{:.1f} dBFS"), "clipped": ("clipped", "{:.4%}"),
        "clicks": ("clicks", "{:d}"),
    }  # fmt: skip
    for key, (name, form) in names.items():
        figures = [
            "none" if about[when][key] is None else form.format(about[when][key]) for when in ("before", "after")
        ]
        lines.append(f"{name:<11} {' -> '.join(dict.fromkeys(figures))}")
    return "\n".join(lines + ([] if about["file"] is None else [f"file        {about['file']}"]))
