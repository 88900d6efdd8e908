"""musicnn (Pons and Serra 2019): taggers of real music, as an embedding that no data of ours has shaped.

The network is theirs, built again in torch; the weights are those of the PyPI package `musicnn` (ISC licence, Music
Technology Group, Universitat Pompeu Fabra), read from where pip put it. The package asks for TensorFlow and an old
numpy that reading its weights does not need: `pip install --no-deps musicnn`.
"""

import hashlib
import importlib.util
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training.metrics.clap import prepare
from training.metrics.tensor_bundle import read_bundle

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
    """The network with the weights of a checkpoint; TensorFlow numbers its layers in the order they were made.

    Raises:
        ValueError: a variable is missing or has another shape.
    """
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
    """The layer before the tags, averaged over patches of 3 s.

    Args:
        trained_on: "MSD" or "MTT".

    Raises:
        ValueError: another name, or the package is not installed.
    """

    def __init__(self, trained_on: str = "MSD"):
        if trained_on not in TRAINED_ON:
            raise ValueError(f"trained_on is {trained_on!r}; allowed: {', '.join(TRAINED_ON)}")
        found = importlib.util.find_spec("musicnn")  # its __init__ is empty: nothing of TensorFlow is imported
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
        """Vectors of clips, each (samples,) at `sampling_rate` Hz: float64 (n, 200).

        Raises:
            ValueError: a clip is empty, not (samples,) or not finite.
        """
        out = np.zeros((len(audios), self.network.dense.out_features))
        for number, audio in enumerate(audios):
            patches = self.patches(prepare(audio, sampling_rate, RATE, number))
            out[number] = self.network(patches)[1].double().mean(dim=0).numpy()
        return out

    @staticmethod
    def patches(audio: np.ndarray) -> torch.Tensor:
        """(patches, PATCH, MELS) of a clip (samples,) at RATE; one shorter than a patch is repeated, as in training."""
        power = librosa.feature.melspectrogram(y=audio, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS)
        # The weights were made from half-precision spectrograms.
        mel = np.log10(10000.0 * power.T.astype(np.float16).astype(np.float32) + 1.0)
        if len(mel) < PATCH:
            mel = np.tile(mel, (-(-PATCH // len(mel)), 1))[:PATCH]
        count = len(mel) // PATCH
        return torch.from_numpy(mel[: count * PATCH].reshape(count, PATCH, MELS))
