"""SIGTERM, which a scheduler sends before it kills: finish the step, write a checkpoint, leave with exit code 0."""

import signal
import threading
from types import FrameType


class Interruption:
    """Takes SIGTERM as a wish between `listen` and `ignore`, as long as there is a loop that looks at `asked`."""

    def __init__(self) -> None:
        self.asked = False
        self._before: object = None

    def listen(self) -> None:
        """Python lets only the main thread handle signals; from another one this does nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def ignore(self) -> None:
        """Give the signal back to whoever had it."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
