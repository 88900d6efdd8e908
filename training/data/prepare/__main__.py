"""Turn a collection of recordings into rows to train on.

    python -m training.data.prepare my_music --output_dir data/mine

SOURCE is a folder, a .csv, .tsv or .jsonl table, or a Hugging Face data set (an id, or a local folder). Killed at any
moment, the same command goes on where it was.
"""

import argparse
import dataclasses
import os
from pathlib import Path

from training.config import command
from training.data.prepare.build import build
from training.data.prepare.listing import open_source, shown
from training.data.prepare.report import write_html
from training.data.prepare.settings import Settings


def parse_arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line, which has an option for each of `Settings`."""
    parser = argparse.ArgumentParser(
        prog="training.data.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="folder, .csv/.tsv/.jsonl table, or data set (owner/name or a local folder)")
    parser.add_argument("--output_dir", required=True, help="folder for data/, report.html and report.json")
    for field in dataclasses.fields(Settings):
        settings = {"default": field.default, "help": field.metadata["help"]}
        if isinstance(field.default, bool):
            settings["action"] = argparse.BooleanOptionalAction if field.default else "store_true"
        elif isinstance(field.default, tuple):
            settings["default"] = ",".join(field.default)
        elif field.default is not None:
            settings["type"] = type(field.default)
        parser.add_argument(f"--{field.name}", **settings)
    parser.add_argument("--audio_column", default=None, help="of a table or data set; default: the usual names")
    parser.add_argument("--text_column", default=None, help="of captions, likewise")
    parser.add_argument("--allow_outside", action="store_true", help="follow links and entries that leave SOURCE")
    parser.add_argument("--num_workers", type=int, default=os.cpu_count(), help="processes")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> dict:
    """Prepare SOURCE; returns the report. Raises a ValueError if an argument is wrong, or nothing of the source is
    usable."""
    arguments = vars(parse_arguments(words))
    if not 1 <= arguments["num_workers"] <= 256:
        raise ValueError(f"num_workers is {arguments['num_workers']}; allowed: 1 to 256")
    output, source = Path(arguments["output_dir"]), arguments["source"]
    if Path(source).is_dir() and output.resolve().is_relative_to(Path(source).resolve()):
        raise ValueError(f"output_dir {output}: lies within the source, which is never written to; give another")
    places = tuple(place.strip() for place in arguments["captions"].split(",") if place.strip())
    settings = Settings(**{name: arguments[name] for name in Settings.__dataclass_fields__} | {"captions": places})
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
