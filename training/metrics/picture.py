"""Draw audio files: waveform and spectrogram as PNG, with beats and bars if the file has a recipe.

    python -m training.metrics.picture docs/samples/loop.flac docs/samples/text.flac

writes docs/samples/loop.png and text.png, at most 60 kB each.
"""

import argparse
import io
import os
import sys
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from pipelines.pipeline_vivace import read_recipe, understand
from training.config import command
from training.metrics.report import ClipPage, picture_of
from training.metrics.request import Request

MAX_BYTES = 60_000
COLOURS = (64, 32, 16, 8)  # of the palette, tried in this order until the file is small enough
GRID_ARGUMENTS = ("bpm", "beat_unit", "key", "time_signature", "bars", "duration_s", "chords", "downbeat_s")


def grid_of(path: Path, duration_s: float) -> Request:
    """The beats and downbeats that the recipe of a file requested; empty without a recipe or a tempo."""
    try:
        arguments = read_recipe(path)["arguments"]
    except ValueError:
        return Request()
    prompt = arguments.get("prompt") or ""
    text = prompt if isinstance(prompt, str) else ". ".join(entry[1] for entry in prompt)
    given = {name: arguments.get(name) for name in GRID_ARGUMENTS}
    given |= {"duration_s": duration_s, "bars": None, "chords": None}
    music = understand(text, **given, default_duration_s=duration_s, max_duration_s=duration_s)
    if music.bpm is None:
        return Request()
    period = 60.0 / music.bpm
    first = music.downbeat_s % (period * music.beats_per_bar) - period * music.beats_per_bar
    beats = first + period * np.arange(round((duration_s - first) / period) + 1)
    return Request(bpm=music.bpm, beats_s=beats, downbeats_s=beats[:: music.beats_per_bar])


def draw(path: Path) -> bytes:
    """The picture of one file, PNG. Raises a ValueError if the file cannot be read or is empty."""
    try:
        audio, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"file {str(path)!r} cannot be read ({error})") from error
    if not len(audio):
        raise ValueError(f"file {str(path)!r} has no samples")
    clip = ClipPage(path.stem, "", audio.mean(axis=1), grid_of(path, len(audio) / rate), {})
    whole = Image.open(io.BytesIO(picture_of(clip, rate))).convert("RGB")
    for colours in COLOURS:
        file = io.BytesIO()
        whole.quantize(colours, dither=Image.Dither.NONE).save(file, format="PNG", optimize=True)
        if file.tell() <= MAX_BYTES:
            break
    return file.getvalue()


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.metrics.picture", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help=".flac or .wav; each picture lies beside its file")
    for path in parser.parse_args(sys.argv[1:] if argv is None else argv).files:
        picture = path.with_suffix(".png")
        partial = picture.with_name(picture.name + ".partial")
        partial.write_bytes(draw(path))
        os.replace(partial, picture)
        print(f"{picture}  {picture.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    command(main)
