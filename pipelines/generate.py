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


def region(text: str) -> tuple[float, float]:
    """ "4:6.5" -> (4, 6.5)."""
    first, colon, last = text.partition(":")
    if not colon:
        raise argparse.ArgumentTypeError(f"{text} is no region; give start:end in seconds, as in 4:6.5")
    return number(first), number(last)


def make_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m pipelines.generate", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--prompt", help="what it should sound like; tempo, key, bars are read from it")
    add("--at", nargs=2, action="append", metavar=("START", "PROMPT"), help="from there on: seconds, or 'bar 5'")
    add("--morph", nargs=2, metavar=("FROM", "TO"), help="from one prompt to another, in place of --prompt")
    add("--negative_prompt", help="what it should not sound like")
    add("--out", default="out.wav", help="file to write, .wav or .flac (16 bit; default out.wav)")
    add("--checkpoint", default="checkpoints/small", help="folder of the model")
    add("--seed", type=int, help="the same seed gives the same file; default: at random, printed")
    add("--duration_s", type=number, help="length in seconds")
    add("--bars", type=int, help="length in bars, exact to the sample")
    add("--bpm", type=number, help="tempo, beats a minute, 20 to 300")
    add("--time_signature", help="3/4, 6/8, ...; 4/4 where there is a tempo")
    add("--key", help="'A minor', 'Bb major'")
    add("--chords", help="'Am F C G', one a bar, or 'Am:2 F:2' with beats; repeated")
    add("--downbeat_s", type=number, help="time of a first beat of a bar; default 0, or heard in --audio")
    add("--loop", action="store_true", help="the end leads into the beginning")
    add("--audio", help="a file to start from; give --strength, --mask_s or --extend_s with it")
    add("--strength", type=number, help="0 leaves --audio as it is, 1 ignores it")
    add("--mask_s", type=region, action="append", metavar="START:END", help="make this part anew; may be repeated")
    add("--extend_s", type=number, nargs=2, metavar=("BEFORE", "AFTER"), help="seconds to add on both sides")
    add("--num_inference_steps", type=int, help="more is finer and slower")
    add("--guidance_scale", type=number, help="how strictly to follow the request; up to 1 = off")
    add("--grid_guidance_scale", type=number, help="the same for tempo, key, meter and chords alone")
    add("--loudness_lufs", type=number, help="integrated loudness, default -16")
    add("--tilt_db", type=number, help="brightness: dB from 100 Hz to 10 kHz")
    add("--fade_in_s", type=number, help="seconds")
    add("--fade_out_s", type=number, help="seconds")
    add("--replay", metavar="FILE", help="make a file of this program again, from the recipe in its tags")
    add("--device", default="auto", help="auto, cpu, cuda or mps")
    return parser


def read_request(args: argparse.Namespace) -> dict:
    """The arguments for the pipeline; what was not said is left to it.

    Raises:
        ValueError: no prompt, an empty one, or two.
    """
    if (args.prompt is None) == (args.morph is None):
        raise ValueError("prompt and morph: give exactly one of them, as in --prompt 'slow solo piano'")
    if args.prompt is not None and not args.prompt.strip():
        raise ValueError("prompt is empty; describe the music, as in 'slow solo piano'")
    own = ("at", "out", "checkpoint", "device", "replay")
    request = {name: value for name, value in vars(args).items() if name not in own and value is not None}
    if args.at:
        if args.prompt is None:
            raise ValueError("at needs prompt: what the piece begins with")
        later = [(start if "bar" in start else number(start), text) for start, text in args.at]
        request["prompt"] = [(0, args.prompt), *later]
    return request


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
    if args.replay is not None:
        said = [name for name, value in vars(args).items() if value not in (None, False)]
        unfit = sorted(set(said) - {"replay", "audio", "out", "checkpoint", "device"})
        if unfit:
            raise ValueError(f"replay takes its arguments from the file; leave out {', '.join(unfit)}")
    request = {} if args.replay is not None else read_request(args)
    path = check_output(args.out)
    quiet_libraries()
    from pipelines.hub import check_checkpoint, load_published
    from pipelines.pipeline_vivace import check_number, read_recipe, understand

    if args.replay is not None:
        read_recipe(args.replay)
    index = check_checkpoint(args.checkpoint)
    if args.audio is None and args.replay is None:  # what can be refused is refused before anything is loaded
        names = ("bpm", "key", "time_signature", "bars", "duration_s", "chords", "downbeat_s")
        understand(
            args.prompt,
            **{name: getattr(args, name) for name in names},
            default_duration_s=index["default_duration_s"],
            max_duration_s=index["max_duration_s"],
            loop=args.loop,
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
    out = pipe(**request) if args.replay is None else pipe.replay(args.replay, args.audio)
    took_s = time.perf_counter() - begin
    out.save(path)
    known, samples = out.conditions[0], out.audios[0].shape[1]
    heard = [f"{known['bpm']:g} bpm"] if known["bpm"] is not None else []
    heard += [f"({known['bpm_reason']})"] if known["bpm_reason"] is not None else []
    heard += [known[name] for name in ("key", "time_signature") if known[name] is not None]
    heard += [f"{known['bars']} bars"] if known["bars"] is not None else []
    heard += [f"chords {known['chords']}"] if known["chords"] is not None else []
    print(f"file        {path}")
    print(f"length      {samples / out.sampling_rate:.3f} s, {out.sampling_rate} Hz, {len(out.audios[0])} channel(s)")
    print(f"seed        {out.seeds[0]}")
    print(f"understood  {', '.join(heard) if heard else 'no tempo, key, meter or bars'}")
    print(f"speed       {took_s:.1f} s on {device}, {known['duration_s'] / took_s:.1f} x real time")
    if args.replay is not None:
        print(f"replay      {'; '.join(out.differences) if out.differences else 'equal to the file, bit for bit'}")


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
