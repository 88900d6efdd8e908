"""Sources of scores that are free to train on: readers, licences, downloads, and the bank made of them."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import the readers only when they are used, so that `python -m training.data.sources.fetch` needs no library."""
    if name in ("SOURCES", "load_scores"):
        from training.data.sources import load

        return getattr(load, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
