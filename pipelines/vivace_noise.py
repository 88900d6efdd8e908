"""Seeds and noise: one seed gives the same music alone, in any batch and on any device.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import numpy as np
import torch

from .vivace_prompt import check_number

NOISE_BLOCK = 16  # frames; torch's CPU normals begin alike at any length only in multiples of 16 values


def frame_noise(seed: int, num_frames: int, channels: int) -> tuple[torch.Tensor, torch.Generator]:
    """Normal noise (channels, num_frames) of a seed, drawn on the CPU frame by frame, and the generator after it.

    A longer request begins with the noise of a shorter one, and the same seed gives the same noise in any batch.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-num_frames // NOISE_BLOCK)
    noise = torch.randn((blocks * NOISE_BLOCK, channels), generator=generator, dtype=torch.float32)
    return noise[:num_frames].T.contiguous(), generator


def choose_seeds(
    seed: int | list[int] | None,
    generator: torch.Generator | list[torch.Generator] | None,
    num_prompts: int,
    per_prompt: int,
) -> list[int]:
    """One seed per output, from `seed` or `generator` (one or a list), else from torch's global generator.

    Raises:
        ValueError: both are given, a number of entries that fits neither prompts nor outputs, or no seed.
    """
    total = num_prompts * per_prompt
    if seed is not None and generator is not None:
        raise ValueError("seed and generator: give at most one of them")
    if seed is None:
        many = isinstance(generator, (list, tuple))
        if many and len(generator) != total:
            raise ValueError(f"generator has {len(generator)} entries for {total} outputs; give one or one for each")
        sources = generator if many else [generator] * total
        for source in sources:
            if source is not None and not isinstance(source, torch.Generator):
                raise ValueError(f"generator is a {type(source).__name__}; allowed: a torch.Generator, or one for each")
        return [
            int(torch.randint(2**31, (1,), generator=source, device=None if source is None else source.device))
            for source in sources
        ]
    given = list(seed) if isinstance(seed, (list, tuple, np.ndarray)) else [seed] * num_prompts
    for value in given:
        check_number("seed", value, 0, 2**62, whole=True)
    if len(given) == num_prompts:
        return [int(value) + w for value in given for w in range(per_prompt)]
    if len(given) != total:
        raise ValueError(f"seed has {len(given)} entries for {total} outputs; give one for each, or one")
    return [int(value) for value in given]
