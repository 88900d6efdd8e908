"""The recipe of a piece: everything that makes it again, carried in the tags of its audio file.

A recipe holds the arguments, the seed, the versions and a hash of the weights, and nothing private: audio that was
given stands in it by its hash alone.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import hashlib
import json
import os
import platform
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers

from .vivace_audio import load_soundfile, read_audio
from .vivace_edit import borders

FORMATS = {".wav": "WAV", ".flac": "FLAC"}
RECIPE = "vivace recipe "  # what the comment tag begins with
# Of the whole call, not of one piece; those of one piece are in its request.
SHARED = (
    "num_inference_steps", "apg_eta", "apg_norm_threshold", "apg_momentum", "morph", "extend_s",
)  # fmt: skip
BEYOND = ("latents", "prompt_embeds", "negative_prompt_embeds", "callback_on_step_end")  # what no tag can hold


def weights_hash(pipe) -> str:
    """Digest of all weights as fp32, whatever file or precision they came from; again only after they have changed."""
    models = [getattr(pipe, name) for name in ("vae", "unet", "text_encoder")]
    tensors = [item for model in models if model is not None for item in sorted(model.state_dict().items())]
    stamp = [(value.data_ptr(), value._version) for _, value in tensors]
    if getattr(pipe, "_weights_stamp", None) != stamp:
        digest = hashlib.sha256()
        for key, value in tensors:
            digest.update(key.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
        pipe._weights_stamp, pipe._weights_hash = stamp, digest.hexdigest()[:16]
    return pipe._weights_hash


def surroundings(pipe, code: str) -> dict:
    """What else decides the last bit: weights, code, versions, device and threads."""
    return {
        "weights": weights_hash(pipe),
        "code": code,
        "scheduler": type(pipe.scheduler).__name__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "device": pipe._execution_device.type,
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def audio_hash(audio: torch.Tensor) -> str:
    return hashlib.sha256(audio.contiguous().numpy().tobytes()).hexdigest()[:16]


def make_recipe(call, row: int, made_with: dict) -> dict:
    """The recipe of one piece of a call (`vivace_call.Call`); JSON can hold it."""
    asked, item = call.asked, call.requests[row]
    arguments = {name: getattr(asked, name) for name in SHARED} | item.arguments | {"seed": item.seed}
    recipe = {"arguments": arguments, "made_with": made_with}
    arguments["strength"] = None if item.edit is None or asked.strength is None else item.strength
    if item.edit is not None:
        recipe["audio"] = {"sha256": audio_hash(item.edit.given), "sampling_rate": item.edit.rate}
        if asked.mask_s is not None:
            first = round(item.edit.offset_s * item.edit.rate)
            inside = item.edit.mask[first : first + item.edit.samples]
            arguments["mask_s"] = [[a / item.edit.rate, b / item.edit.rate] for a, b in borders(inside)]
    beyond = [name for name in BEYOND if getattr(asked, name) is not None]
    if beyond:
        recipe["not_recorded"] = beyond
    return recipe


def sixteen_bit(audio: np.ndarray) -> np.ndarray:
    """(channels, samples) floats -> (samples, channels) int16, as reading them divides: 16 bit in, the same out."""
    return np.clip((np.asarray(audio, dtype=np.float64).T * 32768.0).round(), -32768, 32767).astype("int16")


def write_audio(path: str | Path, audio: np.ndarray, sampling_rate: int, recipe: dict | None = None) -> None:
    """Write (channels, samples) floats as 16 bit with the recipe in the comment tag, under another name, then rename.

    Raises:
        ValueError: another ending than .wav or .flac, or a file that cannot be written.
    """
    soundfile, path = load_soundfile(), Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"path is {str(path)!r}; allowed: a file name that ends in .wav or .flac")
    samples = sixteen_bit(audio)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    options = {"samplerate": sampling_rate, "channels": samples.shape[1], "subtype": "PCM_16"}
    try:
        with soundfile.SoundFile(partial, "w", format=FORMATS[path.suffix.lower()], **options) as file:
            if recipe is not None:
                prompt = recipe["arguments"].get("prompt")
                file.title = prompt if isinstance(prompt, str) else "Vivace"
                file.software = "Vivace"
                file.comment = RECIPE + json.dumps(recipe, separators=(",", ":"))
            file.write(samples)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"out is {str(path)!r}, which cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def read_recipe(path: str | Path) -> dict:
    """The recipe in an audio file.

    Raises:
        ValueError: no such file, one that is no audio, or one without a recipe.
    """
    soundfile = load_soundfile()
    if not os.path.isfile(path):
        raise ValueError(f"file {str(path)!r}: no such file")
    try:
        with soundfile.SoundFile(str(path)) as file:
            comment = file.comment
    except (OSError, RuntimeError) as error:
        raise ValueError(f"file {str(path)!r} cannot be read ({error})") from error
    if not comment.startswith(RECIPE):
        raise ValueError(f"file {str(path)!r} has no recipe; only files that Vivace wrote can be played again")
    try:
        return json.loads(comment.removeprefix(RECIPE))
    except ValueError as error:
        raise ValueError(f"file {str(path)!r} has a damaged recipe ({error})") from error


def replay_arguments(recipe: dict, audio: object) -> dict:
    """Arguments of the call that makes the piece again.

    Args:
        recipe: of `read_recipe`.
        audio: what was given to be edited, if anything was.

    Raises:
        ValueError: a piece that needs more than its recipe, or other audio than was edited.
    """
    arguments = dict(recipe["arguments"])
    if "not_recorded" in recipe:
        raise ValueError(f"the recipe cannot be played again: made with {', '.join(recipe['not_recorded'])}")
    prompt = arguments.get("prompt")
    if isinstance(prompt, list):
        arguments["prompt"] = [tuple(entry) for entry in prompt]
    wanted = recipe.get("audio")
    if wanted is None and audio is not None:
        raise ValueError("audio is given, but the piece was made without")
    if wanted is not None:
        if audio is None:
            raise ValueError("audio is needed: the piece was made from audio, which its file does not hold")
        rate = None if isinstance(audio, (str, Path)) else wanted["sampling_rate"]
        samples, rate = read_audio(audio, rate, float("inf"))
        if audio_hash(samples) != wanted["sha256"] or rate != wanted["sampling_rate"]:
            raise ValueError("audio is not what the piece was made from: its samples or its rate differ")
        arguments |= {"audio": samples, "sampling_rate": rate}
    return arguments


def compare(path: str | Path, audio: np.ndarray, made_with: dict, now: dict) -> list[str]:
    """What keeps a replay from being its file: nothing, if every 16-bit sample is equal."""
    soundfile = load_soundfile()
    there, _ = soundfile.read(str(path), dtype="int16", always_2d=True)
    here = sixteen_bit(audio)
    if there.shape == here.shape and (there == here).all():
        return []
    differences = [
        f"{name} was {made_with.get(name)}, is {now[name]}" for name in now if made_with.get(name) != now[name]
    ]
    if there.shape != here.shape:
        return [f"the length was {len(there)} samples, is {len(here)}", *differences]
    worst = int(np.abs(there.astype(int) - here.astype(int)).max())
    return [f"samples differ by up to {worst} of 32768", *differences]
