"""`vivace`: generate, compose, arrange, edit, replay, midi, info, publish, doctor.

Exit codes: 0 done; 1 the work failed (disk, network, memory, a library that is missing); 2 bad input; 130 interrupted.
Every error is one line on stderr that begins with "error: ".
"""

import argparse
import os
import sys
from typing import NoReturn

from pipelines.commands import arrange, compose, doctor, edit, generate, info, midi, publish, replay

COMMANDS = (generate, compose, arrange, edit, replay, midi, info, publish, doctor)
EPILOG = """examples:
  vivace generate --prompt "slow solo piano in A minor, 72 bpm, 4 bars" --out out.wav
  vivace compose --prompt "slow waltz for accordion" --bars 16 --out waltz.mid
  vivace edit --audio out.wav --mask_s 4:6 --prompt "jazz trio" --out repaired.wav
  vivace replay out.wav
  vivace midi song.wav
  vivace doctor

exit codes: 0 done, 1 the work failed, 2 bad input; an error is one line on stderr"""


def stop(message: object, code: int) -> NoReturn:
    """One line on stderr, then the exit code."""
    print("error: " + " ".join(str(message).split()), file=sys.stderr)
    raise SystemExit(code)


class Parser(argparse.ArgumentParser):
    """argparse prints its usage before an error; here an error is one line."""

    def error(self, message: str) -> NoReturn:
        stop(message, 2)


def make_parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    about = "Text to music that is in time, in key and reproducible."
    parser = Parser(prog="vivace", description=about, epilog=EPILOG, formatter_class=style)
    commands = parser.add_subparsers(metavar="command", required=True)
    for module in COMMANDS:
        name = module.__name__.rpartition(".")[2]
        about = module.__doc__.splitlines()[0]
        command = commands.add_parser(
            name, help=about, description=about, epilog=module.EXAMPLES, formatter_class=style, allow_abbrev=False
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit code. What is refused or fails raises SystemExit with the code."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold what is no text
    args = make_parser().parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # beside a busy process, threads that spin cost more than one
    try:
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
