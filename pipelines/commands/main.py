"""`vivace`: generate, compose, arrange, edit, restore, retime, replay, midi, finetune, info, app, serve, publish and
doctor.

Exit codes: 0 done; 1 the work failed (disk, network, memory, a library that is missing); 2 bad input; 130 interrupted.
Every error is one line on stderr that begins with "error: ".
"""

import argparse
import difflib
import functools
import importlib
import importlib.metadata
import os
import re
import sys
from typing import NoReturn

from pipelines.commands import serve

NAMES = (
    "generate", "compose", "arrange", "edit", "restore", "retime", "replay", "midi", "finetune", "info", "app", "serve",
    "publish", "doctor",
)  # fmt: skip
COMMANDS = tuple(importlib.import_module(f"pipelines.commands.{name}") for name in NAMES)
EPILOG = """examples:
  vivace generate "slow solo piano in A minor, 72 bpm, 4 bars" --out out.wav
  vivace compose "slow waltz for accordion" --bars 16 --out waltz.mid
  vivace edit --audio out.wav --mask_s 4:6 --prompt "jazz trio" --out repaired.wav
  vivace restore demo.wav --out better.wav
  vivace replay out.wav
  vivace midi song.wav
  vivace finetune my_music --out mine
  vivace app
  vivace serve
  vivace doctor

exit codes: 0 done, 1 the work failed, 2 bad input; an error is one line on stderr"""


def stop(message: object, code: int) -> NoReturn:
    """One line on stderr, then the exit code."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(code)


class Parser(argparse.ArgumentParser):
    """argparse prints its usage before an error; here an error is one line, with the nearest name that there is."""

    def error(self, message: str) -> NoReturn:
        stop(message, 2)


def tidy(words: list[str]) -> list[str]:
    """Options as they are named here: --time-signature is --time_signature, and --no_loop is --no-loop."""
    end = words.index("--") if "--" in words else len(words)

    def one(word: str) -> str:
        name, equals, value = word.partition("=")
        return re.sub("^--no_", "--no-", "--" + name[2:].replace("-", "_")) + equals + value

    return [one(word) if re.match("--[a-z]", word) else word for word in words[:end]] + words[end:]


def version() -> str:
    try:
        return importlib.metadata.version("vivace-music")
    except importlib.metadata.PackageNotFoundError:
        return "not installed: run from its source"


def nearest(word: str, names: list[str], kind: str) -> str:
    """What to say of a name that there is not."""
    close = difflib.get_close_matches(word, names, n=1)
    return f"there is no {kind} {word}" + (f"; did you mean {close[0]}?" if close else "; see vivace --help")


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of a command. Raises a ValueError for a command or an option that does not exist, with the one of
    the most similar name."""
    parser, commands = make_parser()
    words = tidy(argv)
    if words and not words[0].startswith("-") and words[0] not in commands:
        raise ValueError(nearest(words[0], [*commands], "command"))
    args, rest = parser.parse_known_args(words)
    if rest:
        known = re.findall(r"--[\w-]+", commands[words[0]].format_usage())
        raise ValueError(nearest(rest[0].partition("=")[0], known, "argument"))
    return args


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and that of each command by its name."""
    style = argparse.RawDescriptionHelpFormatter
    about = "Text to music that is in time, in key and reproducible."
    parser = Parser(prog="vivace", description=about, epilog=EPILOG, formatter_class=style)
    parser.add_argument("--version", action="version", version=version())
    commands = parser.add_subparsers(metavar="command", required=True)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        about = module.__doc__.splitlines()[0]
        command = commands.add_parser(
            name, help=about, description=about, epilog=module.EXAMPLES, formatter_class=style, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=functools.partial(serve.run, main=main) if module is serve else module.run)
    return parser, commands.choices


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit code. What is refused or fails raises SystemExit with the code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what is no text
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # beside a busy process, threads that spin cost more than one
    argv = sys.argv[1:] if argv is None else argv
    try:
        code = serve.hand_over(argv)
        if code is not None:
            return code
        args = parse(argv)
        return args.run(args)
    except ValueError as error:
        stop(error, 2)
    except BrokenPipeError:  # `vivace info ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except (OSError, RuntimeError, ImportError, MemoryError) as error:
        stop(str(error) or type(error).__name__, 1)
    except KeyboardInterrupt:
        print("interrupted; no unfinished file is left", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    sys.exit(main())
