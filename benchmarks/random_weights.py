"""Random weights of a large model in little time.

Speed does not depend on the weights' values as long as they are ordinary numbers (denormals and NaN are slow), but
drawing a billion normal numbers takes longer than what is measured. So a table of them is drawn once and copied.
"""

import contextlib
import math
from collections.abc import Iterator

import torch
from transformers import initialization as transformers_initialization

DRAWN = ("uniform_", "normal_", "trunc_normal_", "xavier_uniform_", "xavier_normal_", "kaiming_uniform_",
         "kaiming_normal_")  # fmt: skip
TABLE = 1 << 20


@contextlib.contextmanager
def cheap_weights() -> Iterator[None]:
    """Inside the block the drawing functions of `torch.nn.init` copy from a table instead, at 1/sqrt(fan-in)."""
    table = torch.randn(TABLE, generator=torch.Generator().manual_seed(0))

    def fill(tensor: torch.Tensor, *_args, **_settings) -> torch.Tensor:
        if tensor.device.type == "meta":
            return tensor
        scale = 1.0 / math.sqrt(max(tensor[0].numel(), 1)) if tensor.dim() > 1 else 0.02
        with torch.no_grad():
            flat, scaled = tensor.view(-1), table * scale
            for begin in range(0, flat.numel(), TABLE):
                piece = flat[begin : begin + TABLE]
                piece.copy_(scaled[: piece.numel()])
        return tensor

    places = [vars(torch.nn.init), transformers_initialization.TORCH_INIT_FUNCTIONS]
    kept = [{name: place[name] for name in DRAWN if name in place} for place in places]
    try:
        for place, names in zip(places, kept, strict=True):
            place.update({name: fill for name in names})
        yield
    finally:
        for place, names in zip(places, kept, strict=True):
            place.update(names)
