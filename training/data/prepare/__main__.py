"""Turn a collection of recordings into rows to train on.

    python -m training.data.prepare my_music --output_dir data/mine

SOURCE is a folder, a .csv, .tsv or .jsonl table, or a Hugging Face data set (an id, or a local folder). Killed at any
moment, the same command goes on where it was.
"""

import argparse
import os
from pathlib import Path

from training.config import command
from training.data.prepare.build import build
from training.data.prepare.listing import open_source, shown
from training.data.prepare.report import write_html
from training.data.prepare.settings import Settings


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line; a setting's default is that of `Settings`."""
    parser = argparse.ArgumentParser(
        prog="training.data.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder, .csv/.tsv/.jsonl table, or data set (owner/name or a local folder)")
    parser.add_argument("--output_dir", required=True, help="folder for data/, report.html and report.json")
    parser.add_argument(
        "--sampling_rate", type=int, default=Settings.sampling_rate, help="of the clips, Hz: 8000 to 96000"
    )
    parser.add_argument("--channels", type=int, default=Settings.channels, help="1 (mono) or 2 (stereo)")
    parser.add_argument("--clip_s", type=float, default=Settings.clip_s, help="longest clip, seconds: 1 to 600")
    parser.add_argument("--min_s", type=float, default=Settings.min_s, help="shortest clip and file, seconds")
    parser.add_argument(
        "--loudness_lufs",
        type=float,
        default=Settings.loudness_lufs,
        help="LUFS of each file: -60 to -5; nan leaves levels",
    )
    parser.add_argument("--trim", action=argparse.BooleanOptionalAction, default=True, help="cut silence off both ends")
    parser.add_argument("--denoise", action="store_true", help="noise reduction by ffmpeg's afftdn")
    parser.add_argument(
        "--max_clipped", type=float, default=Settings.max_clipped, help="largest share of clipped samples: 0 to 1"
    )
    parser.add_argument(
        "--labels",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="estimate tempo, beats, key and chords from the audio",
    )
    parser.add_argument("--beat_tracker", default=Settings.beat_tracker, help="folder of the trained tracker")
    parser.add_argument("--key_network", default=Settings.key_network, help="folder of the trained key network")
    parser.add_argument(
        "--captions", default=",".join(Settings.captions), help="where to look, in this order: sidecar, tags, names"
    )
    parser.add_argument("--license", default=None, help="of files whose row names none")
    parser.add_argument(
        "--validation_share", type=float, default=Settings.validation_share, help="share of files: 0 to 0.5"
    )
    parser.add_argument("--test_share", type=float, default=Settings.test_share, help="share of files: 0 to 0.4")
    parser.add_argument("--shard_clips", type=int, default=Settings.shard_clips, help="clips of a parquet file")
    parser.add_argument("--audio_column", default=None, help="of a table or data set; default: the usual names")
    parser.add_argument("--text_column", default=None, help="of captions, likewise")
    parser.add_argument("--allow_outside", action="store_true", help="follow links and entries that leave SOURCE")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> dict:
    """Prepare SOURCE; returns the report.

    Raises:
        ValueError: an argument is wrong, or nothing of the source is usable.
    """
    arguments = vars(parse_arguments(words))
    if not 1 <= arguments["num_workers"] <= 256:
        raise ValueError(f"num_workers is {arguments['num_workers']}; allowed: 1 to 256")
    output, source = Path(arguments["output_dir"]), arguments["source"]
    if Path(source).is_dir() and output.resolve().is_relative_to(Path(source).resolve()):
        raise ValueError(f"output_dir {output}: lies within the source, which is never written to; give another")
    names = Settings.__dataclass_fields__
    places = tuple(place.strip() for place in arguments["captions"].split(",") if place.strip())
    settings = Settings(**{name: arguments[name] for name in names} | {"captions": places})
    listing = open_source(source, arguments["audio_column"], arguments["text_column"], arguments["allow_outside"])
    report = build(shown(source), listing, str(output), settings, arguments["num_workers"])
    write_html(output / "report.html", report)
    for fate, count in sorted(report["fates"].items()):
        print(f"{count:6d} {fate}")
    for split, part in report["splits"].items():
        print(f"{split}: {part['clips']} clips of {part['files']} files, {part['hours']:.3f} hours")
        if not part["clips"]:
            print(f"note: no {split} split; training wants train and validation, which three usable files give")
    for note in report["notes"]:
        print(f"note: {note}")
    print(f"every file's fate: {shown(str(output / 'report.html'))}")
    return report


if __name__ == "__main__":
    command(main)
