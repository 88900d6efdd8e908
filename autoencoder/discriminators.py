"""Adversarial training of an autoencoder: STFT discriminators, their losses, and the balancer of gradients.

All three are EnCodec's (Defossez et al. 2022, sections 3.4 and "Balancer"). STFTs and discriminators work in fp32.
"""

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


class STFTDiscriminator(nn.Module):
    """Convolutions over the complex STFT at one resolution, stride 2 over frequency, dilated over time.

    Args:
        audio_channels: of the audio that is judged.
        window: samples of the Hann window; its hop is a quarter of it.
        filters: channels of every hidden layer.
    """

    def __init__(self, audio_channels: int, window: int, filters: int = 32):
        super().__init__()
        self.window = window

        def conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, dilation: int = 1) -> nn.Module:
            padding = ((kernel[0] - 1) * dilation // 2, kernel[1] // 2)
            return weight_norm(nn.Conv2d(inputs, outputs, kernel, (1, stride), padding, (dilation, 1)))

        self.layers = nn.ModuleList([
            conv(2 * audio_channels, filters, (3, 9)),
            *(conv(filters, filters, (3, 9), stride=2, dilation=dilation) for dilation in (1, 2, 4)),
            conv(filters, filters, (3, 3)),
        ])  # fmt: skip
        self.last = conv(filters, 1, (3, 3))

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """(batch, audio_channels, samples) -> (scores, one per patch, and the features of each layer)."""
        window = torch.hann_window(self.window, device=audio.device)
        short = max(0, self.window - audio.shape[-1])
        flat = nn.functional.pad(audio.float().flatten(0, 1), (0, short))
        spectrum = torch.stft(
            flat, self.window, self.window // 4, window=window, center=False, normalized=True, return_complex=True
        )
        hidden = spectrum.unflatten(0, audio.shape[:2]).transpose(2, 3)  # (batch, channels, frames, bins)
        hidden = torch.cat([hidden.real, hidden.imag], dim=1)
        features = []
        for layer in self.layers:
            hidden = nn.functional.leaky_relu(layer(hidden), 0.2)
            features.append(hidden)
        return self.last(hidden), features


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

    def gradient(self, losses: dict[str, torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        """The balanced gradient with respect to `output`, of its shape; call `output.backward(gradient)` with it.

        Raises:
            KeyError: if a loss that has a weight is missing.
            FloatingPointError: if a loss has a gradient that is not finite; the message names it.
        """
        share = self.total_norm / sum(self.weights.values())
        balanced = torch.zeros_like(output)
        for i, (name, weight) in enumerate(self.weights.items()):
            (gradient,) = torch.autograd.grad(losses[name], output, retain_graph=True)
            norm = gradient.flatten(1).norm(dim=1).mean().double() if gradient.ndim > 1 else gradient.norm().double()
            if not torch.isfinite(norm):
                raise FloatingPointError(f"loss {name} has a gradient that is not finite (value {losses[name].item()})")
            self.sums[i] = self.decay * self.sums[i] + norm
            self.counts[i] = self.decay * self.counts[i] + 1.0
            average = self.sums[i] / self.counts[i]
            balanced = balanced + gradient * (share * weight / (average + 1e-12)).to(gradient.dtype)
        return balanced


def saturated(history: list[float], length: int = 200, limit: float = 1e-3) -> bool:
    """Whether the discriminator's loss stayed below `limit` for the last `length` steps: it has won, and its hinge
    gives the autoencoder no usable gradient any more."""
    return len(history) >= length and max(history[-length:]) < limit
