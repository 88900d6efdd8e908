"""Files of the small networks that evaluation listens with: weights in fp16, and a card in JSON beside them."""

import hashlib
import json
from pathlib import Path

import safetensors.torch
from torch import nn


def save_network(network: nn.Module, folder: str | Path, stem: str, card: dict) -> None:
    """Write `<stem>.safetensors` and `<stem>.json`, each complete or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: v.half() if v.is_floating_point() else v for name, v in network.state_dict().items()}
    text = json.dumps(card, indent=1) + "\n"
    for name, data in ((f"{stem}.safetensors", safetensors.torch.save(state)), (f"{stem}.json", text.encode())):
        partial = folder / (name + ".partial")
        partial.write_bytes(data)
        partial.replace(folder / name)


def load_network(
    network_class: type[nn.Module], folder: str | Path, stem: str, arguments: tuple[str, ...]
) -> tuple[nn.Module, dict]:
    """A network in evaluation mode, and its card, to which the hash of its weights is added as `sha256`.

    Args:
        network_class: what to build.
        arguments: keys of the card that are its arguments.

    Raises:
        ValueError: files missing or unreadable.
    """
    folder = Path(folder)
    try:
        card = json.loads((folder / f"{stem}.json").read_text())
        data = (folder / f"{stem}.safetensors").read_bytes()
        network = network_class(**{name: card[name] for name in arguments})
        network.load_state_dict({name: v.float() for name, v in safetensors.torch.load(data).items()}, strict=True)
    except (OSError, KeyError, json.JSONDecodeError, RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{folder}/{stem}: cannot be read ({reason}); make it with training.train_{stem}") from None
    return network.eval(), {**card, "sha256": hashlib.sha256(data).hexdigest()}
