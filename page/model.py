"""Which model the page plays, and loading it: what its owner names, never what a visitor sends."""

import os
from pathlib import Path

from pipelines.hub import DEFAULT, find_checkpoint, load_pipeline, pick_device

ROOT = Path(__file__).resolve().parent.parent


def model_name() -> str:
    """The variable VIVACE_MODEL, else the file MODEL beside app.py (an exported Space has one), else the small one."""
    name = os.environ.get("VIVACE_MODEL", "").strip()
    if not name and (ROOT / "MODEL").is_file():
        name = (ROOT / "MODEL").read_text().strip()
    return name or DEFAULT


def find_folder(name: str) -> Path | None:
    """The folder that a name means, beside app.py or as it is; None for a Hub id."""
    for path in (ROOT / name, Path(name)):
        if path.is_dir():
            return path
    return None


def load_model(name: str):
    """A pipeline from a folder or from the Hub, also offline from its cache, on the GPU if there is one.

    Raises:
        ValueError: one line that names the model.
        OSError: likewise, where the Hub cannot be reached.
    """
    folder = find_folder(name) or find_checkpoint(name)
    pipe = load_pipeline(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(pick_device("auto"))
