"""Command line: a prompt becomes an audio file.

    python -m pipelines.generate --prompt "slow solo piano in A minor, 72 bpm, 4 bars" --seed 7 --out out.wav

Every error is one line on stderr and exit code 2; the file appears whole or not at all.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import NoReturn

FORMATS = {".wav": "WAV", ".flac": "FLAC"}


def fail(message: object) -> NoReturn:
    """One line on stderr, exit code 2."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """argparse prints its usage before an error; here an error is one line."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def number(text: str) -> float:
    """A finite number; whole ones as int, so that they are shown as written."""
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return int(value) if value.is_integer() else value


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m pipelines.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", required=True, help="what it should sound like; tempo, key, bars are read from it")
    parser.add_argument("--negative_prompt", help="what it should not sound like")
    parser.add_argument("--out", default="out.wav", help="file to write, .wav or .flac (16 bit; default out.wav)")
    parser.add_argument("--checkpoint", default="checkpoints/small", help="folder of the model")
    parser.add_argument("--seed", type=int, help="the same seed gives the same file; default: at random, printed")
    parser.add_argument("--duration_s", type=number, help="length in seconds")
    parser.add_argument("--bars", type=int, help="length in bars, exact to the sample; needs a tempo")
    parser.add_argument("--bpm", type=number, help="tempo, beats a minute, 20 to 300")
    parser.add_argument("--time_signature", help="3/4, 6/8, ...; 4/4 where there is a tempo")
    parser.add_argument("--key", help="'A minor', 'Bb major'")
    parser.add_argument("--chords", help="'Am F C G', one a bar, or 'Am:2 F:2' with beats; repeated; needs a tempo")
    parser.add_argument("--num_inference_steps", type=int, help="more is finer and slower")
    parser.add_argument("--guidance_scale", type=number, help="how strictly to follow the request; up to 1 = off")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    return parser


def check_output(out: str) -> Path:
    """The path to write to.

    Raises:
        ValueError: another ending than .wav or .flac, or a place that cannot be written.
    """
    path = Path(out)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"out is {out!r}; allowed: a file name that ends in .wav or .flac")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ValueError(f"out is {out!r}; its folder must exist and be writable, and it must not be a folder itself")
    return path


def write_audio(path: Path, audio, sampling_rate: int) -> None:
    """Write (channels, samples) floats as 16 bit under another name, then rename.

    Raises:
        ValueError: if the file cannot be written.
    """
    import soundfile

    samples = (audio.T * 32767.0).round().astype("int16")  # rounded here, so that WAV and FLAC hold the same
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        soundfile.write(partial, samples, sampling_rate, subtype="PCM_16", format=FORMATS[path.suffix.lower()])
        os.replace(partial, path)
    except (OSError, soundfile.SoundFileError) as error:
        raise ValueError(f"out is {str(path)!r}, which cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def pick_device(name: str) -> str:
    """A torch device name; "auto" takes a GPU if there is one.

    Raises:
        ValueError: if there is no such device here.
    """
    import torch

    here = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    if name == "auto":
        return here[-1]
    if name.split(":")[0] not in here:
        raise ValueError(f"device is {name!r}; available here: auto, {', '.join(here)}")
    return name


def quiet_libraries() -> None:
    """Loading says nothing: no progress bars, no notes on optional packages."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def run(args: argparse.Namespace) -> None:
    """Check everything, load, generate, write, report.

    Raises:
        ValueError: any argument, file or checkpoint that will not do.
    """
    # Beside any busy process, threads that spin at barriers make two cores slower than one.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not args.prompt.strip():
        raise ValueError("prompt is empty; describe the music, as in 'slow solo piano'")
    path = check_output(args.out)
    quiet_libraries()
    from pipelines.hub import check_checkpoint, load_published
    from pipelines.pipeline_vivace import check_number, understand

    index = check_checkpoint(args.checkpoint)
    wanted = {name: getattr(args, name) for name in ("bpm", "key", "time_signature", "bars", "duration_s", "chords")}
    understand(
        args.prompt,
        **wanted,
        default_duration_s=index["default_duration_s"],
        max_duration_s=index["max_duration_s"],
    )
    if args.num_inference_steps is not None:
        check_number("num_inference_steps", args.num_inference_steps, 1, 1000, whole=True)
    if args.guidance_scale is not None:
        check_number("guidance_scale", args.guidance_scale, 0, 100)
    if args.seed is not None:
        check_number("seed", args.seed, 0, 2**62, whole=True)
    device = pick_device(args.device)

    pipe = load_published(args.checkpoint).to(device)
    pipe.set_progress_bar_config(disable=not sys.stderr.isatty(), leave=False)
    begin = time.perf_counter()
    out = pipe(
        args.prompt,
        negative_prompt=args.negative_prompt,
        num_inference_steps=args.num_inference_steps,
        guidance_scale=args.guidance_scale,
        seed=args.seed,
        **wanted,
    )
    took_s = time.perf_counter() - begin
    write_audio(path, out.audios[0], out.sampling_rate)
    known = out.conditions[0]
    heard = [f"{known['bpm']:g} bpm"] if known["bpm"] is not None else []
    heard += [known[name] for name in ("key", "time_signature") if known[name] is not None]
    heard += [f"{known['bars']} bars"] if known["bars"] is not None else []
    heard += [f"chords {known['chords']}"] if known["chords"] is not None else []
    print(f"file        {path}")
    print(f"length      {known['duration_s']:.3f} s, {out.sampling_rate} Hz, {len(out.audios[0])} channel(s)")
    print(f"seed        {out.seeds[0]}")
    print(f"understood  {', '.join(heard) if heard else 'no tempo, key, meter or bars'}")
    print(f"speed       {took_s:.1f} s on {device}, {known['duration_s'] / took_s:.1f} x real time")


def main(argv: list[str] | None = None) -> None:
    args = make_parser().parse_args(argv)
    try:
        run(args)
    except (ValueError, OSError, RuntimeError, ImportError, MemoryError) as error:
        fail(error)
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
