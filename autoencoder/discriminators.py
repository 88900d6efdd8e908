"""Adversarial training of an autoencoder: STFT discriminators, their losses, and the balancer of gradients.

All three are EnCodec's (Defossez et al. 2022, sections 3.4 and "Balancer"). STFTs and discriminators work in fp32. An
autoencoder that predicts magnitudes and no waveform is judged by those, band by band.
"""

from collections.abc import Callable, Collection

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class PatchScores(nn.Module):
    """Convolutions over (frames, bins) that score every patch: dilated over time, stride 2 over frequency.

    `inputs` are the channels of the spectra, `filters` those of every hidden layer; EnCodec's first stride is 1.
    """

    def __init__(self, inputs: int, filters: int, first_stride: int = 1):
        super().__init__()

        def conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, dilation: int = 1) -> nn.Module:
            padding = ((kernel[0] - 1) * dilation // 2, kernel[1] // 2)
            return weight_norm(nn.Conv2d(inputs, outputs, kernel, (1, stride), padding, (dilation, 1)))

        self.layers = nn.ModuleList([
            conv(inputs, filters, (3, 9), stride=first_stride),
            *(conv(filters, filters, (3, 9), stride=2, dilation=dilation) for dilation in (1, 2, 4)),
            conv(filters, filters, (3, 3)),
        ])  # fmt: skip
        self.last = conv(filters, 1, (3, 3))

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(batch, inputs, frames, bins) -> (scores, one per patch, and the features of each layer)."""
        features = []
        for layer in self.layers:
            hidden = nn.functional.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.last(hidden), features


class STFTDiscriminator(PatchScores):
    """Scores patches of the complex STFT with one Hann window (samples), whose hop is a quarter of it."""

    def __init__(self, audio_channels: int, window: int, filters: int = 32):
        super().__init__(2 * audio_channels, filters)
        self.window = window

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(batch, audio_channels, samples) -> (scores, one per patch, and the features of each layer)."""
        window = torch.hann_window(self.window, device=audio.device)
        short = max(0, self.window - audio.shape[-1])
        flat = nn.functional.pad(audio.float().flatten(0, 1), (0, short))
        spectrum = torch.stft(
            flat, self.window, self.window // 4, window=window, center=False, normalized=True, return_complex=True
        )
        spectrum = spectrum.unflatten(0, audio.shape[:2]).transpose(2, 3)  # (batch, channels, frames, bins)
        return super().forward(torch.cat([spectrum.real, spectrum.imag], dim=1))


class MultiScaleSTFTDiscriminator(nn.Module):
    """One `STFTDiscriminator` for each window size."""

    def __init__(self, audio_channels: int = 1, windows: tuple[int, ...] = (1024, 2048, 512), filters: int = 32):
        super().__init__()
        self.scales = nn.ModuleList([STFTDiscriminator(audio_channels, window, filters) for window in windows])

    def forward(self, audio: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        """Scores and features of every scale; autocast is off, since STFTs lose quiet partials in half precision."""
        with torch.autocast(audio.device.type, enabled=False):
            judged = [scale(audio) for scale in self.scales]
        return [scores for scores, _ in judged], [features for _, features in judged]


class MultiBandDiscriminator(nn.Module):
    """One `PatchScores` for each band of log spectra, as `AutoencoderVivace` lays them out.

    It takes the place of the STFT discriminators where an autoencoder predicts magnitudes and no waveform. Bands apart
    (as in DAC: Kumar et al. 2023) keep the treble, where most music is silent, from deciding for the rest. `edges` are
    those of the bands, as shares of the bins.
    """

    def __init__(
        self,
        audio_channels: int,
        num_bins: int,
        filters: int = 32,
        edges: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0),
    ):
        super().__init__()
        self.audio_channels, self.num_bins = audio_channels, num_bins
        self.edges = [round(edge * num_bins) for edge in edges]
        self.bands = nn.ModuleList([PatchScores(audio_channels, filters, first_stride=2) for _ in self.edges[1:]])

    def forward(self, features: torch.Tensor) -> tuple[list[torch.Tensor], list[list[torch.Tensor]]]:
        """(batch, frames, features) -> scores and features of every band, in fp32."""
        with torch.autocast(features.device.type, enabled=False):
            spectra = features.float().unflatten(2, (self.audio_channels, -1, self.num_bins))
            spectra = spectra.transpose(1, 2).flatten(2, 3)  # (batch, channels, stft frames, bins)
            spans = zip(self.bands, self.edges[:-1], self.edges[1:], strict=True)
            judged = [band(spectra[..., low:high]) for band, low, high in spans]
        return [scores for scores, _ in judged], [found for _, found in judged]


def discriminator_loss(real: list[torch.Tensor], fake: list[torch.Tensor]) -> torch.Tensor:
    """Hinge: real scores above 1 and fake ones below -1 cost nothing. Mean over scales."""
    terms = [
        nn.functional.relu(1.0 - r).mean() + nn.functional.relu(1.0 + f).mean() for r, f in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def generator_loss(fake: list[torch.Tensor]) -> torch.Tensor:
    """Hinge of the generator, max(0, 1 - score), mean over scales."""
    return torch.stack([nn.functional.relu(1.0 - scores).mean() for scores in fake]).mean()


def feature_loss(real: list[list[torch.Tensor]], fake: list[list[torch.Tensor]]) -> torch.Tensor:
    """Mean over layers of mean |real - fake| / mean |real|; no gradient goes to the real side."""
    terms = [
        (r.detach() - f).abs().mean() / r.detach().abs().mean().clamp_min(1e-8)
        for real_scale, fake_scale in zip(real, fake, strict=True)
        for r, f in zip(real_scale, fake_scale, strict=True)
    ]
    return torch.stack(terms).mean()


class Balancer(nn.Module):
    """Weights that say which share of the gradient each loss has, whatever the scale of the loss.

    With g_i the gradient of loss i with respect to the model's output and |g_i| a moving average of its norm, the
    output receives sum_i R * w_i / sum_j w_j * g_i / |g_i| (EnCodec, equation 5). Averages are buffers, so that a
    resumed run goes on with them.

    Args:
        weights: share of each loss; those that are 0 are left out and cost nothing.
        total_norm: R.
        decay: of the moving average, which is unbiased: sum of decay^k * norm over sum of decay^k.
    """

    def __init__(self, weights: dict[str, float], total_norm: float = 1.0, decay: float = 0.999):
        super().__init__()
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.total_norm, self.decay = total_norm, decay
        self.register_buffer("sums", torch.zeros(len(self.weights), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(len(self.weights), dtype=torch.float64))

    def gradient(
        self,
        losses: dict[str, torch.Tensor],
        output: torch.Tensor,
        leave_out: Collection[str] = (),
        average: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The balanced gradient with respect to `output`, of its shape; call `output.backward(gradient)` with it.

        Args:
            losses: scalars by name, computed from `output`.
            leave_out: losses that have a weight and are not there yet; the others share the whole.
            average: mean of a tensor over the processes of a run, so that all have the same weights; None = alone.

        Raises:
            KeyError: if a loss that has a weight is missing.
            FloatingPointError: if a loss has a gradient that is not finite; the message names it.
        """
        active = [(i, name, w) for i, (name, w) in enumerate(self.weights.items()) if name not in leave_out]
        gradients = [torch.autograd.grad(losses[name], output, retain_graph=True)[0] for _, name, _ in active]
        norms = torch.stack([g.flatten(1).norm(dim=1).mean() if g.ndim > 1 else g.norm() for g in gradients])
        if average is not None:
            norms = average(norms)
        share = self.total_norm / sum(weight for _, _, weight in active)
        balanced = torch.zeros_like(output)
        for (i, name, weight), gradient, norm in zip(active, gradients, norms.double(), strict=True):
            if not torch.isfinite(norm):
                raise FloatingPointError(f"loss {name} has a gradient that is not finite (value {losses[name].item()})")
            self.sums[i] = self.decay * self.sums[i] + norm
            self.counts[i] = self.decay * self.counts[i] + 1.0
            usual = self.sums[i] / self.counts[i]
            balanced = balanced + gradient * (share * weight / (usual + 1e-12)).to(gradient.dtype)
        return balanced


LONG_ENOUGH = 200  # steps without a usable gradient


def saturated(history: list[float], length: int = LONG_ENOUGH, limit: float = 1e-3) -> bool:
    """Whether the discriminator's loss stayed below `limit` for the last `length` steps: it has won, and its hinge
    gives the autoencoder no usable gradient any more."""
    return len(history) >= length and max(history[-length:]) < limit
