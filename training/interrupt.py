"""SIGTERM, which a scheduler sends before it kills: finish the step, write a checkpoint, leave with exit code 0."""

import signal

_asked = False


def listen() -> None:
    """Take SIGTERM as a wish from now on. Only programs do this (`training.config.command`), never a library call."""
    signal.signal(signal.SIGTERM, _ask)


def _ask(_number: int, _frame: object) -> None:
    global _asked
    _asked = True


def asked() -> bool:
    """Whether this process was asked to stop."""
    return _asked
