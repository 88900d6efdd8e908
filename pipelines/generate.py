"""`python -m pipelines.generate`: the older name of `vivace generate`, `vivace edit` and `vivace replay`."""

import sys

from pipelines.commands.main import main as vivace
from pipelines.hub import quiet_libraries

__all__ = ["main", "quiet_libraries"]


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    command = "replay" if "--replay" in argv else "edit" if "--audio" in argv else "generate"
    return vivace([command, *(word for word in argv if word != "--replay")])


if __name__ == "__main__":
    sys.exit(main())
