"""Random numbers that depend only on a seed and on what they are for: no generator has a state that could be lost.

The seed of a stream is (seed, what it is for, position...), so that two purposes never draw the same numbers by
accident, and item 7 of a run gets the same ones whichever process reads it, and whenever. The values of the enums are
part of what a seed means: a new purpose takes a new value, and no value changes.
"""

from enum import IntEnum, unique

import numpy as np
import torch


@unique
class Stream(IntEnum):
    """What training draws random numbers for."""

    ITEM_ORDER = 1
    ITEM = 2  # crop, posterior noise, dropped conditions, mask
    PCA_CLIPS = 3
    NOISE = 4  # of a training step, on latents
    VALIDATION_ITEM = 5
    VALIDATION_NOISE = 6
    SPECTRUM_ITEM = 7
    HELDOUT_WORDS = 11
    TEXT_ORDER = 12
    TOKEN_EMBEDDINGS = 13
    CORPUS_CAPTIONS = 14
    TAGGED_TEXTS = 15
    RETELLINGS = 16
    NEARBY_PHRASES = 17
    TELLINGS = 18
    WORD_NOISE = 19
    WAY_NOISE = 20
    JUMPS = 21
    CANDIDATES = 22
    CANDIDATE_NOISE = 23
    CHOSEN = 24
    REWARD_CLASSIFIER = 25
    PAIRS = 26
    POLISH = 27
    POLISH_NOISE = 28
    PROBE_NOISE = 31
    ADAPTER_SOUND = 32
    FAULTS = 33  # of the clips that the restorer learns from
    VALIDATION_PIECE = 90


@unique
class Measure(IntEnum):
    """What evaluations draw random numbers for."""

    ROWS = 0
    CAPTION = 1
    CHANCE = 2
    DECODED_LATENTS = 3
    SUBSETS = 7
    RESAMPLES = 8
    REFERENCE_ORDER = 9
    TEMPO_AND_KEY = 10


@unique
class ClipStream(IntEnum):
    """What the scorebook draws random numbers for, clip by clip: (seed, clip, what for, ...)."""

    PIECE = 0
    SONG = 1
    LABELS = 2
    FORM = 3
    PLAYERS = 4
    PRODUCTION = 5
    WHOLE = 6


def item_rng(seed: int, stream: Stream | Measure, *position: int) -> np.random.Generator:
    """A numpy generator that depends only on (seed, stream, position...)."""
    return np.random.default_rng(np.random.SeedSequence([seed, stream, *position]))


def clip_rng(seed: int, clip: int, stream: ClipStream, *more: int) -> np.random.Generator:
    """A numpy generator for a clip of the scorebook that depends only on (seed, clip, stream, more...)."""
    return np.random.default_rng(np.random.SeedSequence([seed, clip, stream, *more]))


def torch_rng(seed: int, stream: Stream | Measure, *position: int) -> torch.Generator:
    """A CPU torch generator that depends only on (seed, stream, position...)."""
    state = np.random.SeedSequence([seed, stream, *position]).generate_state(2)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))
