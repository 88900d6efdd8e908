"""Text to music in three lines:

    import vivace
    out = vivace.generate("mellow jazz trio, 96 bpm, 4 bars", seed=7)
    out.save("trio.wav")

`load` gives the pipeline itself, `restore` repairs a recording, `Score` and `Track` hold notes. Nothing heavy is
imported before it is used.
"""

import importlib
from collections.abc import Sequence
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


def restore(
    audio: Any,
    sampling_rate: int | None = None,
    to: str | None = None,
    like: Any = None,
    only: Sequence[str] | None = None,
    checkpoint: str | None = None,
    trust: bool = False,
) -> Any:
    """A recording with its faults repaired, and in another tone or level.

        vivace.restore("demo.wav", to="warmer, -14 LUFS").save("better.wav")

    Args:
        audio: a file, or an array or tensor (samples,) or (channels, samples).
        sampling_rate: of an array, Hz.
        to: words for tone and level, as of `vivace restore --to`.
        like: a file, or (array, sampling rate), of a recording whose long-term spectrum is matched.
        only: the repairs to make where their fault is found: "dc", "clipping", "clicks", "hum", "noise", "band",
            "level"; None = all. A network is loaded for noise, band and reverb alone.
        checkpoint, trust: as of `load`, of what has that network.

    Returns:
        `audio`, `sampling_rate`, `done` and `left` (sentences), `before` and `after` (figures), `save`. Without a fault
        and a wish, `audio` is what was given.

    Raises:
        ValueError: audio that cannot be read, an unknown repair or wish, or a checkpoint that cannot do it.
    """
    from pipelines import hub
    from pipelines import restore as repairs
    from pipelines.vivace_files import read_audio

    sound, rate = read_audio(audio, sampling_rate, float("inf"))
    if like is not None:
        source, like_rate = like if isinstance(like, tuple) else (like, None)
        try:
            like = read_audio(source, like_rate, float("inf"))
        except ValueError as error:
            raise ValueError(f"like: {error}") from error
    hub.check_trust(checkpoint, trust)
    restorer = repairs.load_restorer(to, only, checkpoint)
    return repairs.restore(sound, rate, to, like, repairs.REPAIRS if only is None else tuple(only), restorer=restorer)


def __getattr__(name: str) -> Any:
    if name in ("Score", "Track"):
        return getattr(importlib.import_module("pipelines.vivace_score"), name)
    raise AttributeError(f"module 'vivace' has no attribute {name!r}")
