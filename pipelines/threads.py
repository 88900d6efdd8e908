"""How many threads torch computes with on a CPU: as many as there are cores with nothing else to do.

Threads of one operation wait for each other, so that beside busy processes torch's own choice, all cores, can take 10
to 20 times as long as one thread. The last bit of a piece can depend on the number, which is why a replay takes that of
its recipe.
"""

import os
from collections.abc import Mapping

VARIABLE = "OMP_NUM_THREADS"


def usable_cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def busy_cores() -> float | None:
    """Processes that ran or waited to run in the last minute, on average; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def choose_threads(
    own: int, cores: int, busy: float | None, asked: int | None = None, environment: Mapping[str, str] = os.environ
) -> tuple[int, str]:
    """Number of threads, and why.

    Args:
        own: what torch takes by itself.
        cores: see `usable_cores`.
        busy: see `busy_cores`.
        asked: number that the user gave.
        environment: variables; one that is set there, torch has followed.
    """
    if asked is not None:
        return asked, "as asked for"
    if environment.get(VARIABLE, "").strip():
        return own, f"{VARIABLE} is set"
    if cores <= 2:
        return 1, f"{cores} core{'s' * (cores > 1)}: a second thread gains little and loses much beside other work"
    free = cores if busy is None else max(1, int(cores - busy))
    if free < own:
        return free, f"{busy:.1f} of {cores} cores are busy"
    return own, f"{cores} cores"


def set_threads(asked: int | None = None) -> int:
    """Have torch compute with the chosen number of threads; that number."""
    import torch

    number, _ = choose_threads(torch.get_num_threads(), usable_cores(), busy_cores(), asked)
    if number != torch.get_num_threads():
        torch.set_num_threads(number)
    return number
