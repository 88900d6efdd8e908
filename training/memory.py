"""The most memory that this process has held."""

from pathlib import Path

import torch


def peak_resident() -> int:
    """Bytes resident in RAM at most so far.

    `VmHWM` where there is one, and not `ru_maxrss`: Linux carries the latter over from the parent through fork and
    exec, so that a child of a large process seems large.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_memory() -> int:
    """Bytes held at most so far: of the GPU where it is used, otherwise resident."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    return peak_resident()
