"""SIGTERM, which a scheduler sends before it kills, and Ctrl-C: finish the step, write a checkpoint, leave."""

import signal
import threading
from types import FrameType

ASKED_BY = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Takes the signals as a wish between `listen` and `ignore`, as long as there is a loop that looks at `asked`.

    A second Ctrl-C does not wait for the step to end.
    """

    def __init__(self) -> None:
        self.asked = False
        self.exit_code = 0  # of a run that was sent SIGTERM; 130 after Ctrl-C, as in a shell
        self._before: dict[signal.Signals, object] = {}

    def listen(self) -> None:
        """Python lets only the main thread handle signals; from another one this does nothing."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._ask) for number in ASKED_BY}

    def ignore(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self.asked:
                raise KeyboardInterrupt
            self.exit_code = 130
        self.asked = True


def leave_signals_to_the_parent(_worker: int) -> None:
    """In a loader's worker: Ctrl-C and a scheduler's SIGTERM reach every process of the group, and a worker that died
    of them would take the run along before it has saved. A worker ends when its parent does."""
    for number in ASKED_BY:
        signal.signal(number, signal.SIG_IGN)
