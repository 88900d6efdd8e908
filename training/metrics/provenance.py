"""Which code, libraries and weights a figure comes from."""

import importlib.metadata
import platform
import time
from pathlib import Path

from pipelines.card import folder_hash
from training.run.checkpoints import git_commit

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "librosa", "mir_eval", "pyloudnorm", "soundfile")


class Clock:
    """Wall time of the parts of a run, seconds."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._began = time.monotonic()

    def lap(self, name: str) -> None:
        """The part that ends now, and began where the one before ended."""
        self.parts[name] = round(time.monotonic() - self._began - sum(self.parts.values()), 2)

    def total(self) -> dict[str, float]:
        """All parts, and `all`."""
        return self.parts | {"all": round(time.monotonic() - self._began, 2)}


def provenance(checkpoint: str | Path) -> dict:
    """`versions`, `commit` (with "+" where files differ from it; None outside a repository), `checkpoint_sha256`."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {"versions": versions, "commit": git_commit(), "checkpoint_sha256": folder_hash(Path(checkpoint))}
