"""Audio files, and the recipe of a piece in their tags: everything that makes it again; and what a call returns.

Audio from outside may be an array, a tensor or a file of any rate and number of channels.
"""

import hashlib
import importlib
import io
import json
import math
import operator
import os
import platform
import secrets
import shutil
import struct
import subprocess
import weakref
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import diffusers
import numpy as np
import torch
import transformers
from diffusers import SchedulerMixin
from diffusers.utils import BaseOutput, dynamic_modules_utils

from .vivace_score import Score

MAX_FILE_BYTES = 2**30
MAX_CHANNELS = 64
RATES = (1000, 768000)  # Hz
FFMPEG_TIMEOUT_S = 600.0
# What ffmpeg may take a file for: none of those that name further files to be opened, as playlists do.
FFMPEG_FORMATS = "mov,matroska,webm,mp3,aac,ac3,asf,wav,w64,aiff,au,caf,flac,ogg,ape,wv,amr"
MP3_KBPS = {  # of layer III by version: MPEG 1, and MPEG 2 and 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the version's two bits


def load_soundfile():
    """The soundfile library, needed for files alone.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:
        raise ValueError(f"reading and writing audio files needs soundfile: pip install soundfile ({error})") from error


def find_ffmpeg() -> str | None:
    """Path of an ffmpeg, on the PATH or of the package imageio-ffmpeg; None if there is none."""
    path = shutil.which("ffmpeg")
    if path is not None:
        return path
    try:
        return importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # no package, or one without its program
        return None


def mp3_seconds(content: bytes) -> float:
    """Length of the MP3 frames (layer III) that follow one another from the beginning of a file, by counting them.

    A header (Xing, VBRI) can be wrong or missing, and libsndfile then guesses by the bit rate of the first frame.
    ISO/IEC 11172-3, 2.4.1.3 and 2.4.2.3.
    """
    place, seconds = 0, 0.0
    while content[place : place + 3] == b"ID3" and len(content) >= place + 10:
        a, b, c, d = content[place + 6 : place + 10]
        place += 10 + (a << 21 | b << 14 | c << 7 | d)
    while place + 4 <= len(content):
        first, second, third = content[place : place + 3]
        version, layer, rate, kbps = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3, third >> 4
        if first != 255 or second < 224 or version == 1 or layer != 1 or rate == 3 or kbps in (0, 15):
            break
        hertz, samples = MP3_HZ[version][rate], 1152 if version == 3 else 576
        place += samples // 8 * 1000 * MP3_KBPS[version == 3][kbps] // hertz + (third >> 1 & 1)
        seconds += samples / hertz
    return seconds


def read_with_ffmpeg(path: str | Path, max_duration_s: float, reason: str) -> tuple[torch.Tensor, int]:
    """(channels, samples) fp32 and the rate of a file that libsndfile cannot read, and why it cannot.

    Raises:
        ValueError: no ffmpeg, a file that it cannot read either, or one that is too long.
    """
    program = find_ffmpeg()
    if program is None:
        raise ValueError(
            f"audio is {str(path)!r}, which cannot be read ({reason}) without ffmpeg: pip install imageio-ffmpeg, or "
            "give a WAV or FLAC file"
        )
    words = [program, "-v", "error", "-nostdin", "-format_whitelist", FFMPEG_FORMATS]
    words += ["-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
    words += ["-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav"]
    words += [] if np.isinf(max_duration_s) else ["-t", f"{max_duration_s + 1.0:g}"]
    try:
        done = subprocess.run([*words, "pipe:1"], capture_output=True, timeout=FFMPEG_TIMEOUT_S)
        if done.returncode or not done.stdout:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no audio in it"]
            raise RuntimeError(f"{reason}; ffmpeg: {lines[-1][:200]}")
        samples, rate = load_soundfile().read(io.BytesIO(done.stdout), dtype="float32", always_2d=True)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"audio is {str(path)!r}, which cannot be read ({error})") from error
    if len(samples) > max_duration_s * rate:
        raise ValueError(
            f"audio is {str(path)!r} of more than {max_duration_s:g} s; allowed: up to {max_duration_s:g} s"
        )
    return torch.from_numpy(np.ascontiguousarray(samples.T)), rate


def read_file(path: str | Path, max_duration_s: float) -> tuple[torch.Tensor, int]:
    """(channels, samples) fp32 and the rate of an audio file.

    libsndfile reads WAV, FLAC, OGG, MP3 and AIFF. What it cannot read (M4A, WebM), and what has no length in its header
    (a WAV whose recorder was stopped, an MP3 of variable bit rate without a Xing header) goes through ffmpeg.

    Raises:
        ValueError: no such file, one that is too large or too long (by its header, before it is read), damaged, or
            in need of an ffmpeg that is not there.
    """
    soundfile = load_soundfile()
    if not os.path.isfile(path):
        raise ValueError(f"audio is {str(path)!r}: no such file")
    size = os.path.getsize(path)
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"audio is {str(path)!r} of {size / 2**30:.1f} GiB; allowed: up to {MAX_FILE_BYTES / 2**30:g} GiB"
        )
    try:
        about = soundfile.info(str(path))
    except (OSError, RuntimeError) as error:
        return read_with_ffmpeg(path, max_duration_s, str(error))
    counted = mp3_seconds(Path(path).read_bytes()) if about.format == "MP3" else 0.0
    seconds = counted or about.duration
    if seconds > max_duration_s:
        raise ValueError(f"audio is {str(path)!r} of {seconds:.0f} s; allowed: up to {max_duration_s:g} s")
    if not about.frames or counted > 1.02 * about.duration + 0.1:
        return read_with_ffmpeg(path, max_duration_s, "its header does not say how long it is")
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"audio is {str(path)!r}, which cannot be read ({error})") from error
    return torch.from_numpy(np.ascontiguousarray(samples.T)), rate


def read_audio(source: object, sampling_rate: int | None, max_duration_s: float) -> tuple[torch.Tensor, int]:
    """(channels, samples) fp32 on the CPU and the sampling rate of what a user gives as audio.

    Args:
        source: a path, or an array or tensor (samples,) or (channels, samples), floats or 16- or 32-bit integers.
        sampling_rate: of an array; for a file its own.
        max_duration_s: longest allowed.

    Raises:
        ValueError: one line that says what is wrong with it.
    """
    if isinstance(source, (str, Path)):
        samples, rate = read_file(source, max_duration_s)
        if sampling_rate not in (None, rate):
            raise ValueError(f"sampling_rate is {sampling_rate}, but the file has {rate} Hz; leave sampling_rate out")
    else:
        if not isinstance(source, (np.ndarray, torch.Tensor)):
            raise ValueError(f"audio is a {type(source).__name__}; allowed: a path, a numpy array or a torch tensor")
        whole = isinstance(sampling_rate, (int, np.integer)) and not isinstance(sampling_rate, bool)
        if sampling_rate is None or not whole or not RATES[0] <= sampling_rate <= RATES[1]:
            raise ValueError(
                f"sampling_rate is {sampling_rate}; an array of audio needs its own, a whole number of Hz from "
                f"{RATES[0]} to {RATES[1]}"
            )
        rate = int(sampling_rate)
        samples = source.detach().cpu() if isinstance(source, torch.Tensor) else torch.from_numpy(np.array(source))
        if samples.dtype in (torch.int16, torch.int32):
            samples = samples.double() / float(2 ** (15 if samples.dtype == torch.int16 else 31))
        if not samples.is_floating_point():
            raise ValueError(f"audio has dtype {samples.dtype}; allowed: floats in [-1, 1], int16 or int32")
        samples = samples.float()
    samples = samples[None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or samples.shape[1] == 0 or not 1 <= samples.shape[0] <= MAX_CHANNELS:
        raise ValueError(
            f"audio has shape {tuple(samples.shape)}; needed: (samples,) or (channels, samples), with at least one "
            f"sample and at most {MAX_CHANNELS} channels"
        )
    if not torch.isfinite(samples).all():
        bad = int((~torch.isfinite(samples)).sum())
        raise ValueError(f"audio has {bad} values that are not finite; allowed: floats in [-1, 1]")
    if samples.shape[1] / rate > max_duration_s:
        raise ValueError(f"audio is {samples.shape[1] / rate:.0f} s long; allowed: up to {max_duration_s:g} s")
    return samples.contiguous(), rate


# Files that are written, and the recipes in them.

# By ending: format and subtype of libsndfile. The last two lose a little and cannot be compared sample for sample.
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
}
BLOCK = 2**16  # frames written at once; libsndfile's Vorbis encoder takes its stack for all of them
UNKNOWN = "unknown"  # digest of weights that cannot be computed
LONG = 2**16  # bytes of a comment; libsndfile leaves out those of a WAV header of more than 100 kB
RECIPE = "vivace recipe "  # what the comment tag begins with


class Weights:
    """Digest of the weights of a pipeline's models, which is computed when it is first needed.

    It keeps no weights in memory. Moving them, as offloading does, or casting them is no change: what counts is which
    parameters they are and how often each was written to.

    Args:
        models: autoencoder, network and text encoder; None for one that is missing.
    """

    latest: ClassVar[weakref.WeakKeyDictionary] = weakref.WeakKeyDictionary()  # network -> Weights

    def __init__(self, models: list[torch.nn.Module | None]):
        try:
            self.models = [weakref.ref(model) for model in models if model is not None]
            self.stamp, self.found = self._stamp(), None
        except Exception:  # parts of another kind, whose parameters cannot be asked: the music matters more
            self.models, self.stamp, self.found = [], [], UNKNOWN

    @classmethod
    def of(cls, vae: torch.nn.Module, unet: torch.nn.Module, text_encoder: torch.nn.Module | None) -> "Weights":
        """Those of a pipeline; the same object as long as they do not change, so that they are read once."""
        now = cls([vae, unet, text_encoder])
        before = cls.latest.get(unet)
        if before is None or not before.is_as(now.stamp):
            cls.latest[unet] = now
        return cls.latest[unet]

    def is_as(self, stamp: list) -> bool:
        """Whether a stamp is of the same weights; tensors are compared by identity, since == compares their values."""
        return len(stamp) == len(self.stamp) and all(
            one is other and writes == others for (one, writes), (other, others) in zip(stamp, self.stamp, strict=True)
        )

    def _stamp(self) -> list:
        """What changes when the weights do; weak references, since a new tensor may take the place of an old one."""
        models = [model() for model in self.models]
        values = [value for model in models if model is not None for value in model.parameters()]
        return [(weakref.ref(value), 0 if value.is_inference() else value._version) for value in values]

    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all weights as fp32, whatever file or precision they came from.

        "unknown" if they have changed since this was made, or cannot be read: offloaded to a meta device, quantised.
        """
        if self.found is None:
            models = [model() for model in self.models]
            if any(model is None for model in models) or not self.is_as(self._stamp()):
                return UNKNOWN
            try:
                self.found = weights_hash(models)
            except Exception:  # whatever a library has made of the tensors
                self.found = UNKNOWN
        return self.found


def weights_hash(models: list[torch.nn.Module]) -> str:
    """Digest of all weights of models as fp32, without LoRA adapters, which a recipe names by themselves."""
    digest = hashlib.sha256()
    for model in models:
        state = {k.replace(".base_layer.", "."): v for k, v in model.state_dict().items() if ".lora_" not in k}
        for key, value in sorted(state.items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def plain(value: object) -> Any:
    """An argument as JSON can hold it: numpy's and torch's numbers and arrays become those of Python."""
    if isinstance(value, (np.generic, np.ndarray, torch.Tensor)):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def surroundings(code: str, scheduler: SchedulerMixin, device: torch.device, dtype: torch.dtype) -> dict:
    """What else decides the last bit, beside the weights: code, versions, device and threads."""
    return {
        "code": code,
        "scheduler": type(scheduler).__name__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "numpy": np.__version__,
        "machine": platform.machine(),
        "device": device.type,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def audio_hash(audio: torch.Tensor) -> str:
    return hashlib.sha256(audio.contiguous().numpy().tobytes()).hexdigest()[:16]


def make_recipe(
    arguments: dict,
    audio: torch.Tensor | None,
    sampling_rate: int,
    made_with: dict,
    not_recorded: list[str],
    adapters: list[dict],
) -> dict:
    """The recipe of one piece, which JSON can hold.

    Args:
        arguments: of the call that makes this piece alone.
        audio: what was edited, (channels, samples), or None.
        sampling_rate: of it, Hz.
        made_with: see `surroundings`.
        not_recorded: names of arguments that no recipe can hold, such as tensors.
        adapters: the LoRA adapters that played, see `adapters_of`.
    """
    recipe = {"arguments": plain(arguments), "made_with": made_with}
    if adapters:
        recipe["adapters"] = adapters
    if audio is not None:
        recipe["audio"] = {"sha256": audio_hash(audio), "sampling_rate": sampling_rate}
    if not_recorded:
        recipe["not_recorded"] = not_recorded
    return recipe


def sixteen_bit(audio: np.ndarray) -> np.ndarray:
    """(channels, samples) floats -> (samples, channels) int16, as reading them divides: 16 bit in, the same out."""
    return np.clip((np.asarray(audio, dtype=np.float64).T * 32768.0).round(), -32768, 32767).astype("int16")


def write_audio(path: str | Path, audio: np.ndarray, sampling_rate: int, recipe: dict | None = None) -> None:
    """Write (channels, samples) floats as 16 bit with the recipe in the comment tag, under another name, then rename.

    Raises:
        ValueError: another ending than those of `FORMATS`, or a file that cannot be written.
    """
    soundfile, path = load_soundfile(), Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"path is {str(path)!r}; allowed: a file name that ends in {', '.join(FORMATS)}")
    samples = sixteen_bit(audio)
    partial = path.with_name(f".{secrets.token_hex(4)}.partial")  # no longer than the shortest names
    kind, subtype = FORMATS[path.suffix.lower()]
    options = {"samplerate": sampling_rate, "channels": samples.shape[1], "subtype": subtype, "format": kind}
    comment = "" if recipe is None else RECIPE + json.dumps(recipe, separators=(",", ":"))
    apart = kind == "WAV" and len(comment) > LONG
    try:
        with soundfile.SoundFile(partial, "w", **options) as file:
            if recipe is not None:
                prompt = recipe["arguments"].get("prompt")
                title = prompt if isinstance(prompt, str) else "Vivace"
                file.title = title[:1000].encode(errors="replace").decode()
                file.software = "Vivace"
                if not apart:
                    file.comment = comment
            for first in range(0, len(samples), BLOCK):
                file.write(samples[first : first + BLOCK])
        if apart:
            append_comment(partial, comment)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"out is {str(path)!r}, which cannot be written ({error})") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def append_comment(path: Path, comment: str) -> None:
    """Add a LIST chunk with a comment to a RIFF WAVE file."""
    text = comment.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    with open(path, "r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"\0" * (file.tell() % 2))
        file.write(struct.pack("<4sI4s4sI", b"LIST", len(text) + 12, b"INFO", b"ICMT", len(text)) + text)
        size = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", size))


def read_comment(path: str | Path) -> str:
    """The comment tag of an audio file, of any length: libsndfile gives none of 2,046 bytes or more from a WAV.

    Raises:
        ValueError: a file that cannot be read.
    """
    soundfile = load_soundfile()
    try:
        with soundfile.SoundFile(str(path)) as file:
            if file.comment or file.format != "WAV":
                return file.comment
        with open(path, "rb") as file:
            return find_comment(file)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"file {str(path)!r} cannot be read ({error})") from error


def find_comment(file: BinaryIO) -> str:
    """The comment in the LIST chunk of a RIFF WAVE file; "" if there is none."""
    if file.read(12)[:4] != b"RIFF":
        return ""
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name != b"LIST":
            file.seek(size + size % 2, os.SEEK_CUR)
            continue
        data, place = file.read(size + size % 2), 4
        while data[:4] == b"INFO" and place + 8 <= len(data):
            name, size = struct.unpack_from("<4sI", data, place)
            if name == b"ICMT":
                return data[place + 8 : place + 8 + size].partition(b"\0")[0].decode(errors="replace")
            place += 8 + size + size % 2
    return ""


def find_recipe(path: str | Path) -> dict | None:
    """The recipe in an audio file, None if it has none.

    Raises:
        ValueError: no such file, one that is no audio, or a damaged recipe.
    """
    if not os.path.isfile(path):
        raise ValueError(f"file {str(path)!r}: no such file")
    comment = read_comment(path)
    if not comment.startswith(RECIPE):
        return None
    try:
        recipe = json.loads(comment.removeprefix(RECIPE))
    except ValueError as error:
        raise ValueError(f"file {str(path)!r} has a damaged recipe ({error})") from error
    for part in ("arguments", "made_with"):
        if not isinstance(recipe, dict) or not isinstance(recipe.get(part), dict):
            raise ValueError(f"file {str(path)!r} has a damaged recipe (no {part})")
    return recipe


def read_recipe(path: str | Path) -> dict:
    """The recipe in an audio file.

    Raises:
        ValueError: as `find_recipe`, and a file without a recipe.
    """
    recipe = find_recipe(path)
    if recipe is None:
        raise ValueError(f"file {str(path)!r} has no recipe: Vivace did not write it, or its tags were removed")
    return recipe


def replay_arguments(recipe: dict, audio: object, allowed: Collection[str] | None = None) -> dict:
    """Arguments of the call that makes the piece again.

    Args:
        recipe: of `read_recipe`.
        audio: what was given to be edited, if anything was.
        allowed: names of the arguments that there are; None = not checked.

    Raises:
        ValueError: a piece that needs more than its recipe, or other audio than was edited; a recipe with unknown
            arguments, as of a later version, or without the seed.
    """
    # Older recipes: there was no compressor, and a sound was a condition of the network alone.
    older = {"compression_ratio": 1.0}
    if recipe["arguments"].get("sounds_like") is not None:
        older["sounds_like_strength"] = 0.0
    arguments = older | recipe["arguments"]
    if "not_recorded" in recipe:
        raise ValueError(f"the recipe cannot be played again: made with {', '.join(recipe['not_recorded'])}")
    unknown = [] if allowed is None else sorted(set(arguments) - set(allowed))
    if unknown:
        raise ValueError(f"the recipe cannot be played again: this version has no argument {', '.join(unknown)}")
    if "seed" not in arguments:
        raise ValueError("the recipe cannot be played again: it has no seed")
    prompt = arguments.get("prompt")
    if isinstance(prompt, list):
        if not all(isinstance(entry, list) for entry in prompt):
            raise ValueError(f"the recipe cannot be played again: its prompt is {prompt!r}")
        arguments["prompt"] = [tuple(entry) for entry in prompt]
    if arguments.get("score") is not None:
        arguments["score"] = Score.from_text(arguments["score"])
    wanted = recipe.get("audio")
    if wanted is None and audio is not None:
        raise ValueError("audio is given, but the piece was made without")
    if wanted is not None:
        if not isinstance(wanted, dict) or not {"sha256", "sampling_rate"} <= set(wanted):
            raise ValueError("the recipe cannot be played again: it does not say which audio was edited")
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
    kind = Path(path).suffix.lower()
    if kind in FORMATS and FORMATS[kind][1] != "PCM_16":
        return [f"{kind} files hold no exact samples, so that there is nothing to compare"]
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


def lora_layers(unet: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Name and module of each layer that has adapters."""
    for name, module in unet.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            yield name, module


def adapters_of(unet: Any) -> list[dict]:
    """Name, strength and hash of each adapter that plays, in the order in which they are added; JSON can hold it.

    The hash, 16 hexadecimal digits of SHA-256, is of its tensors as fp32 and of its scale at strength 1. The name is
    not in it. "fused" is True of one that is fused into the weights.
    """
    digests: dict[str, Any] = {}
    found: dict[str, dict] = {}
    for layer, module in lora_layers(unet) if getattr(unet, "peft_config", None) else ():
        # Where some are fused, peft adds no others.
        playing = [] if module.disable_adapters else module.merged_adapters or module.active_adapters
        for name in dict.fromkeys(playing):
            if name not in module.lora_A:
                continue
            rank, alpha = module.r[name], module.lora_alpha[name]
            scale = alpha / (math.sqrt(rank) if module.use_rslora.get(name) else rank)
            digest = digests.setdefault(name, hashlib.sha256())
            digest.update(f"{layer} {scale!r}".encode())
            for part in (module.lora_A[name], module.lora_B[name]):
                for key, value in part.state_dict().items():
                    digest.update(key.encode())
                    digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
            fused = {"fused": True} if name in module.merged_adapters else {}
            found.setdefault(name, {"name": name, "strength": round(module.scaling[name] / scale, 6), **fused})
    return [one | {"sha256": digests[name].hexdigest()[:16]} for name, one in found.items()]


def check_adapters(recipe: dict, unet: Any) -> None:
    """Raise a ValueError if the adapters of a network are not those that a recipe names, with the same strengths."""

    def what(adapters: list[dict]) -> list[tuple]:
        return [(one.get("sha256"), one.get("strength")) for one in adapters]

    def words(adapters: list[dict]) -> str:
        named = [f"{one.get('name')} (strength {one.get('strength')}, hash {one.get('sha256')})" for one in adapters]
        return ", ".join(named) or "none"

    wanted, here = recipe.get("adapters") or [], adapters_of(unet)
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise ValueError("the recipe cannot be played again: its adapters are damaged")
    if what(wanted) != what(here):
        raise ValueError(
            f"the piece was made with the LoRA adapters {words(wanted)}; loaded are {words(here)}: load the same with "
            "load_lora_weights and set_adapters, or --lora, in that order"
        )


class Importable:
    """Pickles as a class of a settled module; where it is unpickled, diffusers' module cache is first put on the path.

    Args:
        kind: the class.
    """

    def __init__(self, kind: type):
        self.kind = kind

    def __call__(self, *args):  # pickle wants something that can be called
        return self.kind(*args)

    def __reduce__(self):
        return operator.itemgetter(1), ((CachePath(), self.kind),)  # unpickled in this order


class CachePath:
    """Pickles as the call that puts diffusers' module cache on the path."""

    def __reduce__(self):
        return dynamic_modules_utils.init_hf_modules, ()


@dataclass
class VivacePipelineOutput(BaseOutput):
    """Result of `VivacePipeline`.

    Attributes:
        audios: (batch, channels, samples) float32 in [-1, 1], numpy or torch; a list of (channels, samples) if the
            items differ in length; standardised latents (batch, latent_channels, frames) for `output_type="latent"`.
        sampling_rate: Hz.
        seeds: one per item; each gives its item again.
        conditions: one dict per item, what was understood: bpm (beats of the meter a minute), bpm_reason (why the
            tempo was chosen; None = it was said), beat_unit (the note that is a beat), key, time_signature, bars,
            duration_s, chords, loop, and notes: sentences on what in the words was not used as it stands.
        recipes: one dict per item, what makes it again; `recipe` adds the digest of the weights.
        differences: of a replay from its file.
        scores: one per item: the notes that it plays, a `Score`; None where the network chose them.
        stems: one dict per item, role -> audio (channels, samples) of that part alone; None unless asked for.
        weights: of the pipeline, for their digest; not one of the values that the output holds as a tuple or dict.
    """

    weights: ClassVar[Any] = None  # `Weights`, set by a call; no field, so that the output has none as a tuple or dict

    audios: np.ndarray | torch.Tensor | list
    sampling_rate: int
    seeds: list[int]
    conditions: list[dict]
    recipes: list[dict] | None = None
    differences: list[str] | None = None
    scores: list[Score | None] | None = None
    stems: list[dict] | None = None

    def __reduce__(self):
        """Pickled with complete recipes; another process needs nothing but diffusers and the same module cache."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.recipes is not None:
            values["recipes"] = [self.recipe(index) for index in range(len(self.recipes))]
        return Importable(type(self)), tuple(values.values())

    def recipe(self, index: int = 0) -> dict:
        """The recipe of one piece, which JSON can hold, with the digest of the weights.

        The digest is computed here, since it takes seconds for a large model. It is "unknown" if the weights have
        changed or were deleted in the meantime, or if they cannot be read.
        """
        one = (self.recipes or [])[index]
        if self.weights is None:
            return one
        return one | {"made_with": {"weights": self.weights.digest()} | one["made_with"]}

    def save(self, path: str | Path, index: int = 0, midi: bool = False, stems: bool = False) -> None:
        """Write one piece with its recipe in the comment tag, as .wav or .flac (16 bit), .mp3 or .ogg.

        Args:
            path: of the file.
            index: of the piece.
            midi: whether to write its score beside it, to the same name with .mid.
            stems: whether to write its stems beside it: song.wav has song.bass.wav and so on.

        Raises:
            ValueError: another ending, latents, a piece without score or stems, or a file that cannot be written.
        """
        score = None if self.scores is None else self.scores[index]
        if midi and score is None:
            raise ValueError("midi is True, but this piece has no score")
        if stems and not self.stems:
            raise ValueError("stems is True, but the piece was made without; call the pipeline with stems=True")
        if self.recipes is None:
            raise ValueError("these are latents, or values without a recipe; only audio of a call can be saved")
        audio = torch.as_tensor(self.audios[index], device="cpu").numpy()
        write_audio(path, audio, self.sampling_rate, self.recipe(index))
        path = Path(path)
        if midi and score is not None:
            score.save(path.with_suffix(".mid"))
        for role, stem in (self.stems[index] if stems and self.stems else {}).items():
            write_audio(
                path.with_suffix(f".{role}{path.suffix}"),
                torch.as_tensor(stem, device="cpu").numpy(),
                self.sampling_rate,
            )
