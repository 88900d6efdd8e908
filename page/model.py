"""Which model the page plays, and loading it."""

import os
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def model_name() -> str:
    """The variable VIVACE_MODEL, else the file MODEL beside app.py (an exported Space has one), else the small one."""
    told = os.environ.get("VIVACE_MODEL", "").strip()
    if not told and (ROOT / "MODEL").is_file():
        told = (ROOT / "MODEL").read_text().strip()
    return told or "checkpoints/small"


def find_folder(name: str) -> Path | None:
    """The folder that a name means, as it is or beside app.py; None for a Hub id."""
    for path in (Path(name), ROOT / name):
        if path.is_dir():
            return path
    return None


def load_model(name: str):
    """A pipeline from a folder or from the Hub, on the GPU if there is one.

    Raises:
        ValueError: one line that names the model.
    """
    from diffusers import DiffusionPipeline

    from pipelines.hub import load_published

    folder = find_folder(name)
    if folder is not None:
        pipe = load_published(folder)
    else:
        try:
            pipe = DiffusionPipeline.from_pretrained(name, trust_remote_code=True)
        except (OSError, ValueError, RuntimeError, ImportError) as error:
            cause = " ".join(str(error).split())
            raise ValueError(f"model {name!r}: no such folder, and the Hub does not give it ({cause})") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if torch.cuda.is_available() else "cpu")
