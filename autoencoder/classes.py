"""The two autoencoder classes, by the `_class_name` of their config; a config without one is AutoencoderVivace's."""

import json
from pathlib import Path

from autoencoder.autoencoder_encodec import AutoencoderEncodec
from autoencoder.autoencoder_vivace import AutoencoderVivace

Autoencoder = AutoencoderVivace | AutoencoderEncodec
CLASSES = {kind.__name__: kind for kind in (AutoencoderVivace, AutoencoderEncodec)}


def autoencoder_class(config_file: str | Path) -> type[Autoencoder]:
    """The class that a JSON config names. Raises a ValueError if it is none of the two."""
    name = json.loads(Path(config_file).read_text()).get("_class_name", AutoencoderVivace.__name__)
    if name not in CLASSES:
        raise ValueError(f"{config_file}: _class_name is {name!r}; allowed: {', '.join(CLASSES)}")
    return CLASSES[name]


def load_autoencoder(folder: str | Path) -> Autoencoder:
    """The autoencoder that `save_pretrained` wrote to `folder`. Raises a ValueError if there is none."""
    if not Path(folder, "config.json").is_file():
        raise ValueError(f"autoencoder {folder}: no config.json there; make it with training.train_autoencoder")
    return autoencoder_class(Path(folder) / "config.json").from_pretrained(folder)
