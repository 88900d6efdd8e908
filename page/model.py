"""Which model the page plays, and loading it."""

import os
from pathlib import Path

from pipelines.hub import find_checkpoint, load_published, pick_device

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = "checkpoints/small"


def model_name() -> str:
    """The variable VIVACE_MODEL, else the file MODEL beside app.py (an exported Space has one), else the small one."""
    told = os.environ.get("VIVACE_MODEL", "").strip()
    if not told and (ROOT / "MODEL").is_file():
        told = (ROOT / "MODEL").read_text().strip()
    return told or DEFAULT


def find_folder(name: str) -> Path | None:
    """The folder that a name means, as it is or beside app.py; None for a Hub id."""
    for path in (Path(name), ROOT / name):
        if path.is_dir():
            return path
    return None


def load_model(name: str):
    """A pipeline from a folder or from the Hub, or from its cache offline, on the GPU if there is one.

    Only a model that the owner of the page named is loaded with its code; no visitor can name one.

    Raises:
        ValueError: one line that names the model.
    """
    folder = find_folder(name)
    if folder is None:
        if name == DEFAULT:  # never looked up on the Hub, where anybody may hold that name
            raise ValueError(f"model {name!r}: no such folder; VIVACE_MODEL names another folder or a Hub id")
        try:
            folder = find_checkpoint(name)
        except (OSError, ValueError) as error:
            cause = " ".join(str(error).split())
            raise ValueError(f"model {name!r}: no such folder, and the Hub does not give it ({cause})") from error
    pipe = load_published(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(pick_device("auto"))
