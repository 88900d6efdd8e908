"""Which code, library versions and weights produced a figure, and how long each part of a run took."""

import importlib.metadata
import platform
import time
from pathlib import Path

from pipelines.card import folder_hash
from training.run.checkpoints import git_commit

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "librosa", "mir_eval", "pyloudnorm", "soundfile")


class Clock:
    """Wall time in seconds of each part of a run."""

    def __init__(self) -> None:
        self.parts: dict[str, float] = {}
        self._began = time.monotonic()

    def lap(self, name: str) -> None:
        """Record the time since the previous lap under `name`."""
        self.parts[name] = round(time.monotonic() - self._began - sum(self.parts.values()), 2)

    def total(self) -> dict[str, float]:
        """The times of all parts, and their total under `all`."""
        return self.parts | {"all": round(time.monotonic() - self._began, 2)}


def provenance(checkpoint: str | Path) -> dict:
    """`versions`, `commit` (with "+" if tracked files differ; None outside a repository), `checkpoint_sha256`."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {"versions": versions, "commit": git_commit(), "checkpoint_sha256": folder_hash(Path(checkpoint))}
