"""Embedders: networks that turn a clip into the vector by which sets of clips are compared.

`load_embedder` gives this project's tagger (the default), musicnn or a CLAP model by name.
"""

import hashlib
import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import librosa
import numpy as np
import soxr
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoFeatureExtractor, ClapModel

from training.listeners.tagger import load_tagger

# Measured on the test split (64 clips a side, five steps each of noise, low-pass, shuffling, pitch, bit depth, clipping
# and a wrong mix of styles): the tagger's Frechet and kernel distances grow at every step, and 0.52 of a clip's five
# nearest training clips have its style (chance 0.04). The distances of musicnn-mtt, which was trained on none of our
# data, grow too (except Frechet at the strongest low-pass); its share is 0.35, and it takes seven times as long.
DEFAULT_EMBEDDER = "tagger"


class Embedder(Protocol):
    """Turns clips into vectors."""

    name: str
    card: dict  # description for reports: name, hash of the weights, training data

    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Clips (samples,) at `sampling_rate` Hz -> float64 (n, d); a ValueError for a clip that is empty, not
        (samples,) or not finite."""


def prepare(audio: np.ndarray, sampling_rate: int, wanted_rate: int, number: int) -> np.ndarray:
    """A clip as float32 (samples,) at `wanted_rate`. Raises a ValueError if clip `number` is empty, not (samples,) or
    not finite."""
    audio = np.asarray(audio, dtype=np.float32)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"audios[{number}] has shape {audio.shape}; needed: (samples,), at least one, all finite")
    return audio if sampling_rate == wanted_rate else soxr.resample(audio, sampling_rate, wanted_rate)


class TaggerEmbedder:
    """The last hidden layer of this project's tagger."""

    def __init__(self, folder: str):
        self.tagger, card = load_tagger(folder)
        self.name = card["name"]
        self.card = {key: card[key] for key in ("name", "trained_on", "sha256") if key in card} | {"source": folder}

    @torch.no_grad()
    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Clips (samples,) at `sampling_rate` Hz -> float64 (n, 160)."""
        *before, _, _ = self.tagger.head  # without the dropout and the tags
        kept: list[torch.Tensor] = []
        hook = before[-1].register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            for number, audio in enumerate(audios):
                clip = torch.from_numpy(prepare(audio, sampling_rate, self.tagger.sampling_rate, number))[None]
                self.tagger(self.tagger.spectrogram(clip))
        finally:
            hook.remove()
        return torch.cat(kept).double().numpy() if kept else np.zeros((0, before[-3].out_features))


# CLAP (Wu et al. 2023).

BATCH = 16  # windows


class ClapEmbedder:
    """A CLAP model that embeds whole clips.

    A clip is cut into windows of the model's input length (see `cut`), and its vector is the mean of theirs, normalised
    to length 1. The feature extractor would draw a random part of a long clip instead. `source`: folder or Hub id.
    Raises a ValueError if transformers cannot load a CLAP model from there.
    """

    def __init__(self, source: str):
        try:
            self.model = ClapModel.from_pretrained(source, dtype=torch.float32).eval()
            self.extractor = AutoFeatureExtractor.from_pretrained(source)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"embedder {source}: not a folder or Hub id with a CLAP model ({reason})") from None
        self.name = f"CLAP {source}"
        self.card = {
            "name": self.name, "source": source, "sha256": weights_hash(self.model), "dimensions": self.dimensions,
        }  # fmt: skip

    @property
    def dimensions(self) -> int:
        return int(self.model.config.projection_dim)

    @torch.no_grad()
    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Unit vectors of clips (samples,) at `sampling_rate` Hz: float64 (n, d)."""
        rate = self.extractor.sampling_rate
        windows, owner = [], []
        for number, audio in enumerate(audios):
            parts = cut(prepare(audio, sampling_rate, rate, number), self.extractor.nb_max_samples)
            windows += parts
            owner += [number] * len(parts)
        total = np.zeros((len(audios), self.dimensions))
        for start in range(0, len(windows), BATCH):
            batch = self.extractor(windows[start : start + BATCH], sampling_rate=rate, return_tensors="pt")
            vectors = self.model.get_audio_features(**batch).pooler_output
            np.add.at(total, owner[start : start + BATCH], vectors.double().numpy())
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)


def cut(audio: np.ndarray, window: int) -> list[np.ndarray]:
    """Windows of `window` samples; the last is dropped if it is less than half full, unless it is the only one."""
    starts = range(0, max(len(audio) - window // 2, 0) + 1, window)
    return [audio[start : start + window] for start in starts]


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over names and values of the weights, in fp16, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray((value.half() if value.is_floating_point() else value).numpy()).tobytes())
    return digest.hexdigest()


# musicnn (Pons and Serra 2019): taggers that were trained on real music and on none of our data.

RATE, HOP, WINDOW, MELS = 16000, 256, 512, 96
PATCH = 187  # frames, 3 s, as trained
TRAINED_ON = {
    "MSD": "Million Song Dataset (50 Last.fm tags; ROC-AUC 0.880 as the package states)",
    "MTT": "MagnaTagATune (50 tags; ROC-AUC 0.907 as the package states)",
}
EPSILON = 1e-3  # of TensorFlow's batch normalisation


class Musicnn(nn.Module):
    """Vertical and horizontal filters -> three convolutions over time -> maximum and mean over time -> 200 -> tags."""

    def __init__(self, tags: int = 50):
        super().__init__()
        self.timbral = nn.ModuleList(nn.Conv2d(1, 204, (7, bands)) for bands in (int(0.4 * MELS), int(0.7 * MELS)))
        self.temporal = nn.ModuleList(nn.Conv2d(1, 51, (frames, 1)) for frames in (128, 64, 32))
        width = 2 * 204 + 3 * 51
        self.middle = nn.ModuleList(nn.Conv1d(before, 64, 7, padding=3) for before in (width, 64, 64))
        pooled = 2 * (width + 3 * 64)
        self.dense = nn.Linear(pooled, 200)
        self.tags = nn.Linear(200, tags)
        sizes = [1, 204, 204, 51, 51, 51, 64, 64, 64, pooled, 200]
        self.norms = nn.ModuleList(nn.BatchNorm1d(size, eps=EPSILON) for size in sizes)

    def forward(self, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, PATCH, MELS) -> logits (batch, tags) and the layer before them (batch, 200)."""
        picture = self.norms[0](mel.flatten(1)[:, None]).view(len(mel), 1, *mel.shape[1:])
        front = []
        for number, conv in enumerate([*self.timbral, *self.temporal], start=1):
            frames = conv.kernel_size[0]
            hidden = F.relu(conv(F.pad(picture, (0, 0, (frames - 1) // 2, frames // 2))))
            # Normalisation comes before the pooling over frequency: its scale may be negative.
            shape = hidden.shape
            front.append(self.norms[number](hidden.flatten(2)).view(shape).amax(dim=3))
        layers = [torch.cat(front, dim=1)]
        for number, conv in enumerate(self.middle, start=6):
            hidden = self.norms[number](F.relu(conv(layers[-1])))
            layers.append(hidden if number == 6 else hidden + layers[-1])
        both = torch.cat(layers, dim=1)
        pooled = torch.stack([both.amax(dim=2), both.mean(dim=2)], dim=2).flatten(1)
        hidden = self.norms[10](F.relu(self.dense(self.norms[9](pooled))))
        return self.tags(hidden), hidden


def from_bundle(variables: dict[str, np.ndarray]) -> Musicnn:
    """The network with the weights of a checkpoint, whose layers TensorFlow numbers in the order of their creation.
    Raises a ValueError if a variable is missing or has another shape."""
    network = Musicnn()
    convs = [*network.timbral, *network.temporal, *network.middle]
    try:
        state = {}
        for number, conv in enumerate(convs):
            name = "conv2d" + (f"_{number}" if number else "")
            kernel = variables[f"{name}/kernel"]  # (frames, bands, 1, out)
            kernel = kernel[:, :, 0].transpose(2, 1, 0) if number >= 5 else kernel.transpose(3, 2, 0, 1)
            state[id(conv)] = kernel, variables[f"{name}/bias"]
        for name, layer in (("dense", network.dense), ("dense_1", network.tags)):
            state[id(layer)] = variables[f"{name}/kernel"].T, variables[f"{name}/bias"]
        with torch.no_grad():
            for layer in (*convs, network.dense, network.tags):
                for parameter, value in zip((layer.weight, layer.bias), state[id(layer)], strict=True):
                    if parameter.shape != value.shape:
                        raise ValueError(f"a layer has shape {value.shape}; needed: {tuple(parameter.shape)}")
                    parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
            for number, norm in enumerate(network.norms):
                name = "batch_normalization" + (f"_{number}" if number else "")
                targets = {
                    "gamma": norm.weight, "beta": norm.bias,
                    "moving_mean": norm.running_mean, "moving_variance": norm.running_var,
                }  # fmt: skip
                for key, target in targets.items():
                    target.copy_(torch.from_numpy(variables[f"{name}/{key}"]))
    except KeyError as error:
        raise ValueError(f"the checkpoint has no variable {error}; it is not musicnn's") from None
    return network.eval()


class MusicnnEmbedder:
    """The last hidden layer of musicnn, trained on "MSD" or "MTT", averaged over patches of 3 s. Raises a ValueError
    for another name, or if the package is not installed."""

    def __init__(self, trained_on: str = "MSD"):
        if trained_on not in TRAINED_ON:
            raise ValueError(f"trained_on is {trained_on!r}; allowed: {', '.join(TRAINED_ON)}")
        found = importlib.util.find_spec("musicnn")  # finds the package without importing it
        if found is None:
            raise ValueError("musicnn is not installed; pip install --no-deps musicnn")
        prefix = Path(found.submodule_search_locations[0]) / f"{trained_on}_musicnn"
        self.network = from_bundle(read_bundle(f"{prefix}/"))
        self.name = f"musicnn {trained_on} (Pons and Serra 2019)"
        self.card = {
            "name": self.name,
            "source": "PyPI package musicnn, ISC licence",
            "trained_on": TRAINED_ON[trained_on],
            "sha256": hashlib.sha256((prefix / ".data-00000-of-00001").read_bytes()).hexdigest(),
            "dimensions": self.network.dense.out_features,
        }

    @torch.no_grad()
    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Vectors of clips (samples,) at `sampling_rate` Hz: float64 (n, 200)."""
        out = np.zeros((len(audios), self.network.dense.out_features))
        for number, audio in enumerate(audios):
            patches = self.patches(prepare(audio, sampling_rate, RATE, number))
            out[number] = self.network(patches)[1].double().mean(dim=0).numpy()
        return out

    @staticmethod
    def patches(audio: np.ndarray) -> torch.Tensor:
        """(patches, PATCH, MELS) of a clip (samples,) at RATE; a shorter clip than a patch is repeated."""
        power = librosa.feature.melspectrogram(y=audio, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS)
        # The network was trained on half-precision spectrograms.
        mel = np.log10(10000.0 * power.T.astype(np.float16).astype(np.float32) + 1.0)
        if len(mel) < PATCH:
            mel = np.tile(mel, (-(-PATCH // len(mel)), 1))[:PATCH]
        count = len(mel) // PATCH
        return torch.from_numpy(mel[: count * PATCH].reshape(count, PATCH, MELS))


# musicnn's weights are a TensorFlow checkpoint, read here without TensorFlow.
#
# The index is an SSTable (LevelDB's table format: blocks of prefix-compressed keys, and a footer that points to the
# block of blocks); each value is a `BundleEntryProto` (tensorflow/core/protobuf/tensor_bundle.proto: 1 dtype, 2 shape,
# 3 shard, 4 offset, 5 size). Supported are float32 variables in one shard and uncompressed blocks, as `tf.train.Saver`
# writes for small networks.

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes
DT_FLOAT = 1


def read_bundle(prefix: str | Path) -> dict[str, np.ndarray]:
    """The float32 variables of a TensorFlow checkpoint by name; variables of other types are left out. `prefix`: path
    without `.index`, which ends in a slash if the name of the checkpoint is empty. Raises a ValueError for files that
    are missing, cut short, compressed or in several shards.
    """
    prefix = str(prefix)
    try:
        index = Path(prefix + ".index").read_bytes()
        data = Path(prefix + ".data-00000-of-00001").read_bytes()
    except OSError as error:
        raise ValueError(f"prefix {prefix}: no TensorFlow checkpoint there ({error.strerror})") from None
    if len(index) < FOOTER or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise ValueError(f"prefix {prefix}: .index is not a table of TensorFlow's, or is cut short")
    footer = index[-FOOTER:]
    place = _varint(footer, _varint(footer, 0)[1])[1]  # after the handle of the meta index
    variables = {}
    for _, handle in _entries(_block(index, footer[place:])):
        for name, value in _entries(_block(index, handle)):
            fields = dict(_fields(value))
            if not name or fields.get(1) != DT_FLOAT:  # the empty name is the header
                continue
            if fields.get(3, 0) != 0:
                raise ValueError(f"prefix {prefix}: {name.decode()} is in another shard; allowed: one shard")
            shape = [dict(_fields(dim)).get(1, 0) for number, dim in _fields(fields.get(2, b"")) if number == 2]
            start, size = fields.get(4, 0), fields.get(5, 0)
            if start + size > len(data) or size != 4 * int(np.prod(shape)):
                raise ValueError(f"prefix {prefix}: {name.decode()} does not fit its data file")
            variables[name.decode()] = np.frombuffer(data, "<f4", size // 4, start).reshape(shape).copy()
    return variables


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The base-128 number at `place`, and the place after it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _block(table: bytes, handle: bytes) -> bytes:
    """The block that a handle (offset, size) points to."""
    start, place = _varint(handle, 0)
    size, _ = _varint(handle, place)
    if table[start + size] != 0:
        raise ValueError("the checkpoint's index is compressed; allowed: uncompressed blocks")
    return table[start : start + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; each key shares a prefix with the one before."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        size, place = _varint(block, place)
        key = key[:shared] + block[place : place + fresh]
        yield key, block[place + fresh : place + fresh + size]
        place += fresh + size


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol-buffer message; fixed-width ones as bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        yield tag >> 3, value


def load_embedder(name: str) -> Embedder:
    """An embedder by name: "musicnn-msd" or "musicnn-mtt" (needs the PyPI package musicnn); "tagger"
    (checkpoints/tagger); or the folder or Hub id of a CLAP model ("laion/larger_clap_music"). Raises a ValueError if it
    cannot be loaded.
    """
    if name.startswith("musicnn-") and name[8:].upper() in TRAINED_ON:
        return MusicnnEmbedder(name[8:].upper())
    if name == "tagger":
        return TaggerEmbedder("checkpoints/tagger")
    return ClapEmbedder(name)
