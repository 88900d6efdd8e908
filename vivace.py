"""Text to music in three lines:

    import vivace
    out = vivace.generate("mellow jazz trio, 96 bpm, 4 bars", seed=7)
    out.save("trio.wav")

`load` gives the pipeline itself, `Score` and `Track` hold notes. Nothing heavy is imported before it is used.
"""

import importlib
from functools import cache
from typing import Any


def load(
    checkpoint: str | None = None,
    trust: bool = False,
    revision: str | None = None,
    variant: str | None = None,
    device: str = "auto",
    dtype: str = "float32",
) -> Any:
    """A `VivacePipeline`, ready to be called.

    Args:
        checkpoint: a folder, or user/name on the Hub; None = the one that comes with the package.
        trust: consent to run the code of a checkpoint from the Hub.
        revision: branch, tag or commit on the Hub.
        variant: of the weight files, as in "fp16".
        device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        dtype: "float32", "float16" or "bfloat16".

    Raises:
        ValueError: no such checkpoint, one that is damaged, or one from the Hub without `trust`.
        OSError: the Hub cannot be reached.
    """
    from pipelines import hub

    hub.check_trust(checkpoint, trust)
    folder = hub.find_checkpoint(checkpoint, revision, variant)
    hub.check_checkpoint(folder)
    return hub.load_pipeline(folder, variant, dtype).to(hub.pick_device(device))


@cache
def _default() -> Any:
    return load()


def generate(prompt: Any = None, **arguments: Any) -> Any:
    """Music from words, by the checkpoint that comes with the package, which is loaded by the first call and kept.

    Args:
        prompt: what it should sound like; tempo, key, meter and length are read from it.
        arguments: as of a pipeline's call: bars, bpm, key, chords, loop, seed, score and so on.

    Returns:
        The output of the pipeline: `audios`, `sampling_rate`, `save`.
    """
    return _default()(prompt, **arguments)


def __getattr__(name: str) -> Any:
    if name in ("Score", "Track"):
        return getattr(importlib.import_module("pipelines.vivace_score"), name)
    raise AttributeError(f"module 'vivace' has no attribute {name!r}")
