"""Which model the page plays, and loading it: what its owner names, never what a visitor sends."""

import argparse
import os
import re
from pathlib import Path

from pipelines.commands.arguments import adapter
from pipelines.hub import DEFAULT, add_loras, find_checkpoint, find_loras, load_pipeline, pick_device

ROOT = Path(__file__).resolve().parent.parent


def model_name() -> str:
    """The variable VIVACE_MODEL, else the file MODEL beside app.py (an exported Space has one), else the small one."""
    name = os.environ.get("VIVACE_MODEL", "").strip()
    if not name and (ROOT / "MODEL").is_file():
        name = (ROOT / "MODEL").read_text().strip()
    return name or DEFAULT


def wanted_loras() -> list[tuple[str, float]]:
    """LoRA adapters and strengths of the variable VIVACE_LORA, with commas between, as in "mine:0.8, user/style".

    Raises:
        ValueError: a strength that is no number.
    """
    words = [word.strip() for word in re.split(r"[,\n]", os.environ.get("VIVACE_LORA", "")) if word.strip()]
    try:
        return [adapter(word) for word in words]
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"VIVACE_LORA: {error}") from error


def find_folder(name: str) -> Path | None:
    """The folder that a name means, beside app.py or as it is; None for a Hub id."""
    for path in (ROOT / name, Path(name)):
        if path.is_dir():
            return path
    return None


def load_model(name: str):
    """A pipeline from a folder or from the Hub, also offline from its cache, on the GPU if there is one, with the LoRA
    adapters of `wanted_loras`.

    Raises:
        ValueError: one line that names the model.
        OSError: likewise, where the Hub cannot be reached.
        ImportError: likewise, where there are adapters and peft is not installed.
    """
    folder = find_folder(name) or find_checkpoint(name)
    loras = find_loras(wanted_loras())
    pipe = add_loras(load_pipeline(folder), loras, folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(pick_device("auto"))
