"""An audio file -> at another tempo or in another key: its notes played anew where it has them, else stretched."""

import argparse
import io
import json
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from pipelines.commands import arguments
from pipelines.commands.jobs import check_output

EXAMPLES = """examples:
  vivace retime loop.wav --bpm 120 --out faster.wav
  vivace retime song.wav --key "C minor" --out lower.wav
  vivace retime drums.wav --from_bpm 96 --bpm 104 --loop --out drums104.wav

a file that Vivace made from a score is played anew, other audio is stretched by ffmpeg's rubberband"""
TIMEOUT_S = 600.0
LONGEST_S = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", help="audio file")
    add("--bpm", type=arguments.number, help="the tempo that it is to have, beats a minute, 20 to 300")
    add("--key", help="the key that it is to have, as in 'C minor'")
    add("--from_bpm", type=arguments.number, help="its tempo; default: as its tags say, or as heard")
    add("--from_key", help="its key; default: as its tags say")
    add(
        "--loop", action=argparse.BooleanOptionalAction,
        help="whether its end leads into its beginning; default: as its tags say",
    )  # fmt: skip
    arguments.add_checkpoint(parser)
    arguments.add_lora(parser)
    arguments.add_out(parser)
    arguments.add_json(parser)


def run(args: argparse.Namespace) -> int:
    from pipelines.vivace_theory import check_number, parse_key

    if args.bpm is None and args.key is None:
        raise ValueError("bpm, key: give one of them, what the audio is to have")
    for name in ("bpm", "from_bpm"):
        if getattr(args, name) is not None:
            check_number(name, getattr(args, name), 20, 300)
    keys = {name: parse_key(value) for name in ("key", "from_key") if (value := getattr(args, name)) is not None}
    if not Path(args.file).is_file():
        raise ValueError(f"file is {args.file!r}: no such file")
    out = check_output(args.out or "out.wav")
    from pipelines.vivace_files import find_recipe, read_audio
    from pipelines.vivace_music import Lengths
    from pipelines.vivace_request import recipe_grid

    audio, rate = read_audio(args.file, None, LONGEST_S)
    try:
        recipe = find_recipe(args.file)
    except ValueError:  # a format that libsndfile does not read has none
        recipe = None
    grid = recipe_grid(recipe, audio.shape[1] / rate, Lengths(LONGEST_S, LONGEST_S))
    loop = grid.get("loop", False) if args.loop is None else args.loop
    bpm = source_tempo(args, grid, audio, rate, loop)
    semitones = interval(keys, grid)
    if recipe is not None and "score" in grid and "audio" not in recipe and not {"from_bpm", "from_key"} & given(args):
        return play(args, out, recipe, grid, semitones)
    begin = time.perf_counter()
    ratio = 1.0 if args.bpm is None else args.bpm / bpm
    made = stretch(audio.numpy(), rate, ratio, semitones, loop)
    from pipelines.vivace_files import write_audio

    write_audio(out, made, rate)
    piece = {
        "file": str(out), "way": "stretched", "from_bpm": bpm, "bpm": args.bpm or bpm, "semitones": semitones,
        "loop": loop, "duration_s": made.shape[1] / rate, "took_s": round(time.perf_counter() - begin, 3),
    }  # fmt: skip
    print(json.dumps(piece) if args.json else "\n".join(f"{name:<12}{value}" for name, value in piece.items()))
    return 0


def given(args: argparse.Namespace) -> set[str]:
    return {name for name, value in vars(args).items() if value is not None}


def source_tempo(args: argparse.Namespace, grid: dict, audio, rate: int, loop: bool) -> float | None:
    """The tempo of the file; None where it matters to nothing. That of a loop is such that it has whole beats. Raises a
    ValueError if it is needed, not given and not found."""
    known = args.from_bpm or grid.get("bpm")
    if known is not None or args.bpm is None:
        return known
    from pipelines.vivace_audio import find_beats

    found = find_beats(audio, rate, None, 4)
    if found is None:
        raise ValueError("from_bpm is missing: no beat was heard in the file, so that its tempo has to be given")
    seconds = audio.shape[1] / rate
    return max(1, round(seconds * found[0] / 60.0)) * 60.0 / seconds if loop else found[0]


def interval(keys: dict[str, str], grid: dict) -> int:
    """Semitones from the key of the file to the one that it is to have, at most six up or down. Raises a ValueError if
    the first is unknown, or one is minor and the other major."""
    if "key" not in keys:
        return 0
    from pipelines.vivace_theory import KEYS

    there, wanted = keys.get("from_key") or grid.get("key"), keys["key"]
    if there is None:
        raise ValueError("from_key is missing: the file's tags do not say its key, so that it has to be given")
    if there.split()[1] != wanted.split()[1]:
        raise ValueError(f"key is {wanted!r}, but the file is in {there}; allowed: another {there.split()[1]} key")
    return (KEYS.index(wanted) // 2 - KEYS.index(there) // 2 + 6) % 12 - 6


def play(args: argparse.Namespace, out: Path, recipe: dict, grid: dict, semitones: int) -> int:
    """Play the score of a file anew, with the words, the seed and everything else of its recipe."""
    from pipelines.commands.make import load, report, write
    from pipelines.vivace_files import check_adapters, replay_arguments
    from pipelines.vivace_score import transpose_name

    request = replay_arguments(recipe, None)
    ratio = 1.0 if args.bpm is None else grid["bpm"] / args.bpm
    request["bpm"] = args.bpm or grid["bpm"]
    request["score"] = replace(request["score"].transpose(semitones), bpm=request["bpm"])
    if grid.get("key") is not None:
        request["key"] = transpose_name(grid["key"], semitones)
    if request.get("chords") is not None:
        request["chords"] = " ".join(transpose_name(symbol, semitones) for symbol in request["chords"].split())
    for name in ("duration_s", "downbeat_s"):
        if request.get(name) is not None and "bars" not in request:
            request[name] *= ratio
    if isinstance(request.get("prompt"), list):
        request["prompt"] = [
            (start if isinstance(start, str) else start * ratio, text) for start, text in request["prompt"]
        ]
    pipe, device = load(args)
    check_adapters(recipe, pipe.unet)
    begin = time.perf_counter()
    made = pipe(**request)
    piece = write(made, 0, out, time.perf_counter() - begin, device) | {"way": "played anew"}
    print(json.dumps(piece) if args.json else report(piece) + "\nway         its notes were played anew")
    return 0


def stretch(audio, rate: int, ratio: float, semitones: int, loop: bool):
    """Audio (channels, samples) `ratio` times as fast and so many semitones higher, by ffmpeg's rubberband filter; a
    loop stays one, since it is stretched three times in a row and the second is kept. Raises a RuntimeError if there is
    no ffmpeg, or one without the filter.
    """
    import numpy as np

    from pipelines.vivace_files import find_ffmpeg, load_soundfile

    program, soundfile = find_ffmpeg(), load_soundfile()
    if program is None:
        raise RuntimeError("stretching needs ffmpeg: pip install imageio-ffmpeg")
    content = io.BytesIO()
    soundfile.write(content, np.tile(audio.T, (3 if loop else 1, 1)), rate, format="WAV", subtype="FLOAT")
    words = f"rubberband=tempo={ratio:.9f}:pitch={2.0 ** (semitones / 12):.9f}:pitchq=quality:channels=together"
    command = [program, "-v", "error", "-nostdin", "-f", "wav", "-i", "pipe:0", "-af", words, "-c:a", "pcm_f32le"]
    try:
        done = subprocess.run(
            [*command, "-f", "wav", "pipe:1"], input=content.getvalue(), capture_output=True, timeout=TIMEOUT_S
        )
        if done.returncode or not done.stdout:
            raise RuntimeError((done.stderr.decode(errors="replace").strip().splitlines() or ["no audio"])[-1][:200])
        made, _ = soundfile.read(io.BytesIO(done.stdout), dtype="float32", always_2d=True)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"ffmpeg cannot stretch the audio ({error})") from error
    length = round(audio.shape[1] / ratio)
    made = np.pad(made, ((0, max(0, (2 if loop else 1) * length - len(made))), (0, 0)))
    return made[length : 2 * length].T if loop else made[:length].T
