"""AutoencoderVivace: audio <-> a few dozen smooth latent channels at 25 frames a second.

The latents hold what the ear follows, log-magnitude spectra, and not the phase, which for a steady tone would turn
many times between two latent frames and would have to be generated as well. The decoder predicts magnitudes and finds
a phase that agrees with them, from phase gradients or an irregular phase on, by the fast Griffin-Lim iteration
(Perraudin, Balazs and Sondergaard 2013, "A fast Griffin-Lim algorithm"), unrolled a fixed number of times. Encoder and
decoder are ConvNeXt blocks (Liu et al. 2022) at the latent rate around a linear path that starts as principal component
analysis, so training begins at the optimum of linear coding.

This file is published with every checkpoint and imports only torch, numpy and diffusers. It is one file: diffusers
loads no other file of a component from the Hub.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleckOutput, OobleckDecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn

# Bands of bins.


def widening(num_bins: int, spacing: float, fine_hertz: float | None) -> list[int]:
    """Edges of bands of bins: one bin each up to `fine_hertz`, then in proportion to the frequency."""
    edges = [0]
    while edges[-1] < num_bins:
        width = 1 if fine_hertz is None else max(1, round(edges[-1] * spacing / fine_hertz))
        edges.append(min(num_bins, edges[-1] + width))
    return edges


def mel_edges(num_bins: int, nyquist: float, bands: int) -> list[int]:
    """Edges of so many bands of bins, evenly spaced on the mel scale where they are wide enough; none for 0 bands."""
    if not bands:
        return []
    places = np.linspace(0.0, math.log10(1.0 + nyquist / 700.0), bands + 1)
    edges = np.round(700.0 * (10.0**places - 1.0) / nyquist * num_bins).astype(int)
    lowest = np.arange(bands + 1)  # a bin each at least
    return np.minimum(np.maximum.accumulate(np.maximum(edges, lowest)), num_bins - bands + lowest).tolist()


def bands_of(edges: list[int], device: torch.device) -> torch.Tensor:
    """The band of each bin, (bins,)."""
    widths = torch.tensor(edges, device=device).diff()
    return torch.arange(len(edges) - 1, device=device).repeat_interleave(widths)


def band_sums(values: torch.Tensor, edges: list[int], dim: int) -> torch.Tensor:
    """Sums over the bins of each band."""
    shape = list(values.shape)
    shape[dim] = len(edges) - 1
    return values.new_zeros(shape).index_add_(dim, bands_of(edges, values.device), values)


@dataclass(frozen=True)
class Stft:
    """Short-time Fourier transform with a Hann window of `size` samples every `hop` samples.

    Frame j is centred on sample (j + 0.5) * hop, so that frames tile the clip with none to spare; those of a circle lie
    where `circle` says. A full-scale sine has magnitude 1 (0 dB).
    """

    size: int
    hop: int

    @property
    def num_bins(self) -> int:
        return self.size // 2 + 1

    def window(self, device: torch.device) -> torch.Tensor:
        return torch.hann_window(self.size, device=device, dtype=torch.float32)

    def circle(self, frames: int, samples: int) -> torch.Tensor:
        """Where each window of a circle lies, (frames, size): the frames share its samples evenly, whatever their
        number, so that a circle of any length keeps its pitch; `hop` apart where that divides it. The first and last
        windows reach below 0 and beyond `samples`: there the circle closes."""
        centres = ((torch.arange(frames, dtype=torch.float64) + 0.5) * (samples / frames)).round().long()
        return centres[:, None] + torch.arange(self.size) - self.size // 2

    def forward(self, audio: torch.Tensor, circle: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, samples) with samples a multiple of the hop -> (batch, bins, samples / hop), complex."""
        window = self.window(audio.device)
        if circle is not None:
            spectrum = torch.fft.rfft(audio[:, circle] * window).transpose(1, 2)
        else:
            edge = (self.size - self.hop) // 2
            padded = nn.functional.pad(audio, (edge, edge))
            spectrum = torch.stft(padded, self.size, self.hop, window=window, center=False, return_complex=True)
        return spectrum * (4.0 / self.size)

    def inverse(self, spectrum: torch.Tensor, circle: torch.Tensor | None = None, samples: int = 0) -> torch.Tensor:
        """Least-squares inverse (Griffin and Lim 1984, eq. 6): (batch, bins, frames) -> (batch, samples); bins that are
        not there count as zero, and a circle's length has to be given."""
        size, hop = self.size, self.hop
        edge, frames = (size - hop) // 2, spectrum.shape[-1]
        window = self.window(spectrum.device)
        pieces = torch.fft.irfft(spectrum * (size / 4.0), n=size, dim=1) * window[:, None]
        overlap = size // hop

        def overlap_add(columns: torch.Tensor) -> torch.Tensor:  # (batch, size, frames) -> (batch, samples)
            if circle is not None:
                total = columns.new_zeros(columns.shape[0], samples)
                return total.index_add_(1, circle.flatten(), columns.transpose(1, 2).flatten(1))
            total = columns.new_zeros(columns.shape[0], frames + overlap - 1, hop)
            blocks = columns.transpose(1, 2).unflatten(2, (overlap, hop))  # (batch, frames, overlap, hop)
            for k in range(overlap):
                total[:, k : k + frames] += blocks[:, :, k]
            return total.flatten(1)[:, edge : edge + frames * hop]

        weight = overlap_add(window.square()[None, :, None].expand(1, size, frames))
        return overlap_add(pieces) / weight

    def agree(
        self, magnitude: torch.Tensor, phasor: torch.Tensor, iterations: int, momentum: float,
        circle: torch.Tensor | None, samples: int, low: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """Phasors that agree with magnitudes (batch, bins, frames), from `phasor` on; those of the lowest bins, `low`,
        stay as they are. A circle as in `inverse`.

        With P_A the projection on the magnitudes and P_C the one on spectra of real signals:
        t_n = P_C(P_A(c_(n-1))),  c_n = t_n + momentum * (t_n - t_(n-1))   (Perraudin et al. 2013, algorithm 2).
        """
        previous = None
        for iteration in range(iterations + 1):
            if low is not None:
                phasor = torch.cat([low, phasor[:, low.shape[1] :]], dim=1)
            if iteration == iterations:
                break
            consistent = self.forward(self.inverse(magnitude * phasor, circle, samples), circle)[:, : phasor.shape[1]]
            moved = consistent if previous is None else consistent + momentum * (consistent - previous)
            phasor, previous = moved / (moved.abs() + 1e-9), consistent
        return phasor

    def gradient_phase(
        self, magnitude: torch.Tensor, first: torch.Tensor, starts: list[int], places: np.ndarray, hop: float
    ) -> torch.Tensor:
        """Unit phasors (batch, bins, frames) from the gradients of log-magnitudes (batch, bins, frames).

        From frame to frame each bin turns by its own phase step; within a frame bins take over the phase of a louder
        neighbour, by the phase step between them. Every step is a sum of phasors weighted by power, so that a small
        change of the magnitudes is a small change of the phase.

        Args:
            magnitude: as `forward` gives them, their absolute values.
            first: phasors (bins, frames) from which frames that begin anew take their phase.
            starts: the frames that begin anew, ascending, 0 first; others go on from the one before. What comes before
                a start does not matter for what follows, so that a clip may be cut there.
            places: (frames,), where the frames are centred, samples.
            hop: how far apart they are on average, samples.
        """
        bins, frames = magnitude.shape[1:]
        longest = max(b - a for a, b in zip(starts, [*starts[1:], frames], strict=True))
        index = torch.tensor(starts, device=magnitude.device)[:, None] + torch.arange(longest, device=magnitude.device)
        ends = torch.tensor([*starts[1:], frames], device=magnitude.device)[:, None] - 1
        index = torch.minimum(index, ends)  # (segments, longest)
        away = torch.from_numpy(np.diff(places, prepend=0.0)).to(magnitude)[index].T[:, None, :, None]
        size = self.size
        gamma = 0.25645 * size * size  # the Gaussian nearest to a Hann window
        sizes = magnitude[:, :, index].permute(3, 0, 2, 1)  # (longest, batch, segments, bins)
        log = (sizes + 1e-5).log()
        sideways = nn.functional.pad(log.flatten(0, 1), (1, 1), mode="replicate").unflatten(0, log.shape[:2])
        step = (size / gamma / 2.0) * (sideways[..., 2:] - sideways[..., :-2])  # radians a sample
        step = step + (2.0 * math.pi / size) * torch.arange(bins, device=magnitude.device)
        later, before = log[[*range(1, longest), longest - 1]], log[[0, *range(longest - 1)]]
        across = (-gamma / (hop * size) / 2.0) * (later - before)
        across = (across[..., 1:] + across[..., :-1]) / 2.0 - math.pi
        power = sizes.square() + 1e-10
        turn = torch.polar(torch.ones_like(across), across)  # from a bin to the one above
        forth = torch.polar(power[1:], away[1:] * (step[1:] + step[:-1]) / 2.0)
        found = torch.empty(sizes.shape, dtype=turn.dtype, device=magnitude.device)
        phasor = first[:, index[:, 0]].T * power[0]
        for n in range(longest):
            if n:
                phasor = phasor * forth[n - 1]
            spread = phasor.clone()
            spread[..., 1:] += phasor[..., :-1] * turn[n]
            spread[..., :-1] += phasor[..., 1:] * turn[n].conj()
            phasor = spread / (spread.abs() + 1e-20)
            found[n] = phasor
        lengths = (ends[:, 0] - index[:, 0] + 1).tolist()
        pieces = [found[:length, :, k] for k, length in enumerate(lengths)]
        return torch.cat(pieces).permute(1, 2, 0)


@dataclass(frozen=True)
class Span:
    """Where the STFT frames of what is decoded lie.

    frames: how many there are.
    samples: of a circle, its length, which they share evenly; None if they lie in a row, `hop` apart.
    """

    frames: int
    samples: int | None = None

    def hop(self, stft: Stft, every: int, factor: int) -> float:
        """How far apart each `every`-th frame is from the next, in samples of a rate lower by `factor`."""
        return stft.hop if self.samples is None else round(self.samples / factor) * every / self.frames

    def places(self, stft: Stft, every: int, factor: int) -> np.ndarray:
        """On which sample each `every`-th frame is centred, at that rate."""
        places = (np.arange(self.frames // every) + 0.5) * self.hop(stft, every, factor)
        return places if self.samples is None else np.round(places)

    def windows(self, stft: Stft, every: int, factor: int, device: torch.device) -> tuple[torch.Tensor | None, int]:
        """For `Stft`: where the windows of each `every`-th frame of a circle lie, at a rate lower by `factor`, and how
        many samples there are; None and 0 for frames in a row."""
        if self.samples is None:
            return None, 0
        length = round(self.samples / factor)
        return (stft.circle(self.frames // every, length) % length).to(device), length


IMAGE_LIMIT = 1e-3  # share of the power below which a channel, or the side, counts as silent: -30 dB
LOW_FLOOR = 1e-4  # added to magnitudes that are compared: -80 dB
PERIOD = 48  # STFT frames after which the first phase begins anew


class DiagonalGaussian:
    """Posterior q(z | audio) = N(mean, diag(exp(logvar))) over latents of shape (batch, latent_channels, frames)."""

    def __init__(self, mean: torch.Tensor, logvar: torch.Tensor):
        self.mean = mean
        self.logvar = logvar.clamp(-12.0, 4.0)

    @property
    def std(self) -> torch.Tensor:
        return torch.exp(0.5 * self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw mean + std * eps; eps is drawn on the generator's device so that a seed means the same everywhere."""
        device = generator.device if generator is not None else self.mean.device
        eps = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * eps.to(self.mean.device)

    def mode(self) -> torch.Tensor:
        return self.mean

    def kl(self) -> torch.Tensor:
        """KL(q || N(0, 1)) in nats per latent value, shape (batch,). Kingma and Welling 2014, appendix B."""
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).mean(dim=(1, 2))


@dataclass
class Spectra:
    """What is decoded before there is a phase.

    joint: magnitudes (batch, bins, stft frames) of all channels together, for which the phase is found.
    channels: (batch, channels, bins, stft frames): what each channel has in the place of `joint`; complex if the
        channels differ in phase.
    low: magnitudes of the long window (batch, low bins, latent frames), or None.
    """

    joint: torch.Tensor
    channels: torch.Tensor
    low: torch.Tensor | None = None


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, then a pointwise MLP; (batch, frames, dim) in and out."""

    def __init__(self, dim: int, expansion: int, kernel_size: int):
        super().__init__()
        self.mix = nn.Conv1d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, dim * expansion)
        self.down = nn.Linear(dim * expansion, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mixed = self.mix(hidden_states.transpose(1, 2)).transpose(1, 2)  # (batch, frames, dim)
        update = self.down(nn.functional.gelu(self.up(self.norm(mixed)), approximate="tanh"))
        return hidden_states + self.scale * update


class AutoencoderVivace(ModelMixin, ConfigMixin):
    """Spectral autoencoder with a diagonal-Gaussian bottleneck.

    Args:
        sampling_rate: of the audio, Hz.
        audio_channels: 1 (mono) or 2 (stereo; both channels share one phase, so the image is amplitude panning).
        latent_channels: channels of the latents.
        hop_length: samples per latent frame, a multiple of `stft_hop`.
        stft_size, stft_hop: window (Hann) and hop of the short-time Fourier transform, samples.
        dim, encoder_layers, decoder_layers, expansion, kernel_size: width and depth of the ConvNeXt stacks.
        floor_db: magnitudes below this level (dB re full-scale sine) are treated as silence.
        phase_iterations, phase_momentum: of the fast Griffin-Lim iteration.
        first_phase: from which it begins: "irregular", or "gradient" (four iterations then do as well as sixteen).
        fine_hertz: above this frequency bins are gathered in bands that widen with it; None = no bands.
        stereo_bands: of stereo, bands in which the image is coded beside one spectrum of both channels together, so
            that it keeps level differences and width; 0 = a spectrum for each channel.
        low_size: window in samples, longer than `stft_size`, of further magnitudes up to `low_hertz`; it tells apart
            low notes, and so keeps them in tune; 0 = none.
        low_hertz, low_iterations: highest frequency of the long window and iterations of its phase.
        latents_mean, latents_std: per channel, set by stage 2; standardised = (latents - mean) / std.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules: list[str] = ["ConvNeXtBlock"]  # noqa: RUF012 (read by accelerate as a plain list)

    @register_to_config
    def __init__(
        self,
        sampling_rate: int = 24000,
        audio_channels: int = 1,
        latent_channels: int = 32,
        hop_length: int = 960,
        stft_size: int = 1440,
        stft_hop: int = 480,
        dim: int = 320,
        encoder_layers: int = 2,
        decoder_layers: int = 5,
        expansion: int = 3,
        kernel_size: int = 7,
        floor_db: float = -80.0,
        phase_iterations: int = 16,
        phase_momentum: float = 0.99,
        first_phase: str = "irregular",
        fine_hertz: float | None = None,
        stereo_bands: int = 0,
        low_size: int = 0,
        low_hertz: float = 500.0,
        low_iterations: int = 8,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ):
        super().__init__()
        if audio_channels not in (1, 2):
            raise ValueError(f"audio_channels is {audio_channels}; allowed: 1 (mono) or 2 (stereo)")
        if hop_length % stft_hop or stft_size % stft_hop or (stft_size - stft_hop) % 2 or stft_size < 2 * stft_hop:
            raise ValueError(
                f"hop_length {hop_length}, stft_size {stft_size} and stft_hop {stft_hop} samples do not fit: stft_hop "
                "must divide both, stft_size must be at least twice stft_hop and their difference even"
            )
        if first_phase not in ("irregular", "gradient"):
            raise ValueError(f"first_phase is {first_phase!r}; allowed: irregular, gradient")
        if fine_hertz is not None and not 0 < fine_hertz <= sampling_rate / 2:
            raise ValueError(f"fine_hertz is {fine_hertz:g}; allowed: above 0, up to half of sampling_rate, or None")
        if stereo_bands and (audio_channels != 2 or not 1 <= stereo_bands <= stft_size // 16):
            raise ValueError(
                f"stereo_bands is {stereo_bands}; allowed: 0, or with two channels up to stft_size / 16 "
                f"({stft_size // 16})"
            )
        if low_size and (low_size <= stft_size or low_size % hop_length or (low_size - hop_length) % 2):
            raise ValueError(
                f"low_size is {low_size}; allowed: 0 or a multiple of hop_length above stft_size whose difference from "
                "hop_length is even"
            )
        for name, values in (("latents_mean", latents_mean), ("latents_std", latents_std)):
            if values is not None and len(values) != latent_channels:
                raise ValueError(f"{name} has {len(values)} values; needed: one per latent channel ({latent_channels})")
        self.hop_length = hop_length
        self.tile_frames: int | None = None
        self.stft = Stft(stft_size, stft_hop)
        self.num_bins = self.stft.num_bins
        self.band_edges = widening(self.num_bins, sampling_rate / stft_size, fine_hertz)
        self.stereo_edges = mel_edges(self.num_bins, sampling_rate / 2.0, stereo_bands)
        self.low_bins, self.low_stft = 0, Stft(low_size, hop_length)
        if low_size:
            self.low_bins = round(low_hertz * low_size / sampling_rate) + 1
            common = math.gcd(stft_hop, (stft_size - stft_hop) // 2, (low_size - hop_length) // 2)
            rates = [n for n in range(1, common + 1) if common % n == 0 and sampling_rate >= 3 * n * low_hertz]
            self.low_factor = max(rates, default=1)  # by which the sampling rate is divided for the low phases
        spectra = (hop_length // stft_hop) * (len(self.band_edges) - 1)
        # features of the spectra, of the stereo image, and of the low magnitudes, in this order
        self.feature_sizes = [spectra if stereo_bands else audio_channels * spectra, 2 * stereo_bands, self.low_bins]
        features = sum(self.feature_sizes)

        self.encoder_linear = nn.Linear(features, latent_channels)
        self.encoder_in = nn.Linear(features, dim)
        self.encoder_norm_in = nn.LayerNorm(dim)
        self.encoder_blocks = nn.ModuleList([ConvNeXtBlock(dim, expansion, kernel_size) for _ in range(encoder_layers)])
        self.encoder_norm_out = nn.LayerNorm(dim)
        self.encoder_out = nn.Linear(dim, 2 * latent_channels)

        self.decoder_linear = nn.Linear(latent_channels, features)
        self.decoder_in = nn.Linear(latent_channels, dim)
        self.decoder_blocks = nn.ModuleList([ConvNeXtBlock(dim, expansion, kernel_size) for _ in range(decoder_layers)])
        self.decoder_norm_out = nn.LayerNorm(dim)
        self.decoder_out = nn.Linear(dim, features)

        # The branches start silent: at step 0 the model is its linear path.
        for head in (self.encoder_out, self.decoder_out):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        with torch.no_grad():
            self.encoder_out.bias[latent_channels:] = -6.0  # a narrow posterior to begin with

    # ---- spectra -------------------------------------------------------------------------------------------------

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.config.sampling_rate / self.hop_length

    def _level(self, magnitude: torch.Tensor) -> torch.Tensor:
        """Magnitudes on the log scale of the features: -1 is the floor (`floor_db`), +1 is full scale."""
        level = 10.0 ** (self.config.floor_db / 20.0)
        log = torch.log10(magnitude + level) * (-20.0 / self.config.floor_db)  # floor -> -1, full scale -> 0
        return 2.0 * log + 1.0

    def _unlevel(self, features: torch.Tensor) -> torch.Tensor:
        """Inverse of `_level`."""
        level = 10.0 ** (self.config.floor_db / 20.0)
        log = (features.float().clamp(-1.2, 1.5) - 1.0) / 2.0 * (self.config.floor_db / -20.0)
        return (10.0**log - level).clamp(0.0, 2.0)  # 2: the most that a window's sum allows audio in [-1, 1]

    def audio_to_features(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio (batch, audio_channels, samples) -> log spectra (batch, frames, features) on the scale of `_level`.

        One latent frame gathers hop_length / stft_hop STFT frames of each channel; with `stereo_bands` of both channels
        together, and then the levels of the stereo image. Last come the low magnitudes of the longer window.
        """
        batch, channels, samples = audio.shape
        padded = nn.functional.pad(audio.float(), (0, -samples % self.hop_length)).flatten(0, 1)
        spectrum = self.stft.forward(padded)  # (batch * channels, bins, stft frames)
        magnitude, per_frame = spectrum.abs(), self.hop_length // self.config.stft_hop
        parts = []
        if self.stereo_edges:
            spectrum, magnitude = (x.unflatten(0, (batch, channels)) for x in (spectrum, magnitude))
            power = magnitude.square()
            magnitude = power.mean(1, keepdim=True).sqrt().flatten(0, 1)
            side = (spectrum[:, 0] - spectrum[:, 1]).abs().square() / 4.0
            parts = [self._image(power[:, 0], power[:, 1], side, per_frame)]
        if len(self.band_edges) <= self.num_bins:
            widths = torch.tensor(self.band_edges, device=audio.device).diff()[:, None]
            magnitude = band_sums(magnitude, self.band_edges, 1) / widths
        log = self._level(magnitude).transpose(1, 2).unflatten(1, (-1, per_frame))  # (b * c, frames, per_frame, bands)
        parts.insert(0, log.unflatten(0, (batch, -1)).permute(0, 2, 1, 3, 4).flatten(2))
        if self.low_bins:
            low = self.low_stft.forward(padded)[:, : self.low_bins].abs().square().unflatten(0, (batch, channels))
            parts.append(self._level(low.mean(1).sqrt()).transpose(1, 2))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)

    def _image(self, left: torch.Tensor, right: torch.Tensor, side: torch.Tensor, per_frame: int) -> torch.Tensor:
        """Powers (batch, bins, stft frames) -> the stereo image (batch, frames, 2 * stereo_bands): by how much the left
        channel is louder than the right one, and the side than the mid, in units of 40 dB, limited to about 30 dB."""
        left, right, side = (
            band_sums(x.unflatten(2, (-1, per_frame)).sum(3), self.stereo_edges, 1) for x in (left, right, side)
        )
        mid, total = ((left + right) / 2.0 - side).clamp_min(0.0), left + right
        floor = 10.0 ** (self.config.floor_db / 10.0)  # where next to nothing sounds, the image is the middle
        pairs = []
        for one, other, size in ((left, right, total), (side, mid, total / 2.0)):
            least = IMAGE_LIMIT * size + floor
            pairs.append(torch.log10((one + least) / (other + least)) / 4.0)
        return torch.cat(pairs, dim=1).transpose(1, 2)

    def _gains(self, image: torch.Tensor) -> torch.Tensor:
        """Inverse of `_image`: -> factors (batch, 2, stereo_bands, frames), complex, of a joint spectrum. Their sizes
        make the level difference; the phases turn apart by what the energy of the side asks, one band to the left
        and the next to the right, so that a wide sound is no delay between the channels."""
        shares = []
        for part in image.float().clamp(-1.0, 1.0).transpose(1, 2).chunk(2, dim=1):
            ratio = 10.0 ** (4.0 * part)
            shares.append(((ratio * (1.0 + IMAGE_LIMIT) - IMAGE_LIMIT) / (1.0 + ratio)).clamp(0.0, 1.0))
        left, side = shares
        both = (left * (1.0 - left)).sqrt()
        angle = torch.acos(((1.0 - 2.0 * side) / (2.0 * both + 1e-6)).clamp(-1.0, 1.0)) / 2.0
        angle = torch.where(torch.arange(angle.shape[1], device=angle.device)[:, None] % 2 == 0, angle, -angle)
        return torch.stack([torch.polar((2.0 * left).sqrt(), angle), torch.polar((2.0 - 2.0 * left).sqrt(), -angle)], 1)

    def features_to_spectra(self, features: torch.Tensor) -> Spectra:
        """Inverse of `audio_to_features`, but for the phase: (batch, frames, features) -> `Spectra`."""
        per_frame, channels = self.hop_length // self.config.stft_hop, self.config.audio_channels
        spectra, image, low = features.split(self.feature_sizes, dim=2)
        magnitude = self._unlevel(spectra).unflatten(2, (1 if self.stereo_edges else channels, per_frame, -1))
        magnitude = magnitude.permute(0, 2, 4, 1, 3).flatten(3)  # (batch, channels, bands, frames * per_frame)
        if len(self.band_edges) <= self.num_bins:
            magnitude = magnitude[:, :, bands_of(self.band_edges, features.device)]
        if not self.stereo_edges:
            joint = magnitude.square().mean(1).sqrt()  # one phase for all channels keeps the stereo image steady
        else:
            joint = magnitude[:, 0]
            gains = self._gains(image)[:, :, bands_of(self.stereo_edges, features.device)]
            magnitude = magnitude * gains.repeat_interleave(per_frame, dim=3)
        return Spectra(joint, magnitude, self._unlevel(low).transpose(1, 2) if self.low_bins else None)

    def _first_phase(self, times: np.ndarray, device: torch.device) -> torch.Tensor:
        """A fixed irregular phase (bins, frames) as unit phasors for STFT frames by number, the same on every device.

        It repeats every PERIOD STFT frames, so a tile that starts on a multiple of that is decoded as within the whole.
        """
        bins, times = np.arange(self.num_bins)[:, None], (times % PERIOD)[None, :]
        turns = np.sin(12.9898 * bins + 78.233 * times) * 43758.5453
        phase = torch.from_numpy((2.0 * math.pi * (turns - np.floor(turns))).astype(np.float32)).to(device)
        return torch.polar(torch.ones_like(phase), phase)

    def _search(
        self, spectra: Spectra, circle_samples: int | None = None, iterations: int | None = None
    ) -> torch.Tensor:
        """The search for a phase, and the audio that it leads to."""
        span = Span(spectra.joint.shape[2], circle_samples)
        iterations = self.config.phase_iterations if iterations is None else iterations
        joint, channels, device, low = spectra.joint, spectra.channels, spectra.joint.device, None
        if spectra.low is not None:
            found = self._low_spectrum(spectra.low, span)
            low, bins = found / (found.abs() + 1e-9), found.shape[1]
            # Of the two magnitudes that the low bins have, the geometric mean is nearer to the truth than either.
            change = ((found.abs() + LOW_FLOOR) / (joint[:, :bins] + LOW_FLOOR)).clamp(0.1, 10.0).sqrt()
            joint = torch.cat([joint[:, :bins] * change, joint[:, bins:]], dim=1)
            channels = torch.cat([channels[:, :, :bins] * change[:, None], channels[:, :, bins:]], dim=2)
        circle, samples = span.windows(self.stft, 1, 1, device)
        if self.config.first_phase == "gradient":
            phasor = self._gradient_phase(self.stft, spectra.joint, span, 1, 1)
        else:
            phasor = self._first_phase(np.arange(span.frames), device).expand_as(joint)
        phasor = self.stft.agree(joint, phasor, iterations, self.config.phase_momentum, circle, samples, low)
        spectrum = channels * phasor[:, None]
        return self.stft.inverse(spectrum.flatten(0, 1), circle, samples).unflatten(0, spectrum.shape[:2])

    def _gradient_phase(self, stft: Stft, magnitude: torch.Tensor, span: Span, every: int, factor: int) -> torch.Tensor:
        """Phasors of magnitudes (batch, bins, frames) of each `every`-th frame, at a rate lower by `factor`."""
        first = self._first_phase(np.arange(0, span.frames, every), magnitude.device)[: magnitude.shape[1]]
        starts = [n // every for n in range(0, span.frames, PERIOD)]
        places, hop = span.places(stft, every, factor), span.hop(stft, every, factor)
        return stft.gradient_phase(magnitude, first, starts, places, hop)

    def _low_spectrum(self, magnitude: torch.Tensor, span: Span) -> torch.Tensor:
        """The lowest bins (batch, bins, stft frames), complex, from magnitudes (batch, low bins, latent frames) of the
        long window: the same search, at a rate that has room for little else, then analysed by the short window."""
        config, every = self.config, self.hop_length // self.config.stft_hop
        factor, device = self.low_factor, magnitude.device
        long = Stft(config.low_size // factor, self.hop_length // factor)
        short = Stft(config.stft_size // factor, config.stft_hop // factor)
        circle, samples = span.windows(long, every, factor, device)
        phasor = self._gradient_phase(long, magnitude, span, every, factor)
        phasor = long.agree(magnitude, phasor, config.low_iterations, config.phase_momentum, circle, samples)
        audio = long.inverse(magnitude * phasor, circle, samples)
        circle, _ = span.windows(short, 1, factor, device)
        found = short.forward(audio, circle)[:, : int(config.low_hertz * config.stft_size / config.sampling_rate)]
        if circle is None:
            return found
        assert span.samples is not None
        scale = span.samples / round(span.samples / factor)  # places at the low rate are rounded
        late = (span.places(self.stft, 1, 1) - span.places(short, 1, factor) * scale) / config.stft_size
        turns = 2.0 * math.pi * torch.arange(found.shape[1])[:, None] * torch.from_numpy(late)
        return found * torch.polar(torch.ones_like(turns), turns).to(found)

    # ---- latents -------------------------------------------------------------------------------------------------

    def encode_features(self, features: torch.Tensor) -> DiagonalGaussian:
        """(batch, frames, features) -> posterior over (batch, latent_channels, frames)."""
        features = features.to(self.dtype)
        hidden = self.encoder_norm_in(self.encoder_in(features))
        for block in self.encoder_blocks:
            hidden = block(hidden)
        update, logvar = self.encoder_out(self.encoder_norm_out(hidden)).chunk(2, dim=-1)
        mean = self.encoder_linear(features) + update
        return DiagonalGaussian(mean.transpose(1, 2), logvar.transpose(1, 2))

    def decode_features(self, latents: torch.Tensor) -> torch.Tensor:
        """(batch, latent_channels, frames) -> log spectra (batch, frames, features)."""
        latents = latents.to(self.dtype).transpose(1, 2)
        hidden = self.decoder_in(latents)
        for block in self.decoder_blocks:
            hidden = block(hidden)
        return self.decoder_linear(latents) + self.decoder_out(self.decoder_norm_out(hidden))

    @apply_forward_hook
    def encode(self, audio: torch.Tensor, return_dict: bool = True) -> AutoencoderOobleckOutput | tuple:
        """Audio (batch, audio_channels, samples) at the config's rate -> posterior over ceil(samples / hop) frames.

        Raises:
            ValueError: if the audio has the wrong shape or number of channels, is empty, or is not finite floats.
        """
        if audio.ndim != 3 or audio.shape[1] != self.config.audio_channels or audio.shape[2] == 0:
            raise ValueError(
                f"audio has shape {tuple(audio.shape)}; needed: (batch, {self.config.audio_channels}, samples) with at "
                f"least one sample, at {self.config.sampling_rate} Hz"
            )
        if not audio.is_floating_point() or not torch.isfinite(audio).all():
            raise ValueError(f"audio has dtype {audio.dtype} or values that are not finite; needed: floats in [-1, 1]")
        frames, tile = -(-audio.shape[2] // self.hop_length), self.tile_frames
        if tile is None or frames <= tile:
            posterior = self.encode_features(self.audio_to_features(audio))
        else:
            tiles = [self._encode_span(audio, first, min(first + tile, frames)) for first in range(0, frames, tile)]
            mean, logvar = (torch.cat([getattr(part, name) for part in tiles], 2) for name in ("mean", "logvar"))
            posterior = DiagonalGaussian(mean, logvar)
        return AutoencoderOobleckOutput(latent_dist=posterior) if return_dict else (posterior,)

    def _encode_span(self, audio: torch.Tensor, first: int, last: int) -> DiagonalGaussian:
        """The posterior of frames [first, last) within the whole, from no more samples than it depends on."""
        edge = (self.config.stft_size - self.config.stft_hop) // 2
        reach = sum(block.mix.kernel_size[0] // 2 for block in self.encoder_blocks) + -(-edge // self.hop_length)
        begin = max(0, first - reach)
        features = self.audio_to_features(audio[:, :, begin * self.hop_length : (last + reach) * self.hop_length])
        near = self.encode_features(features)
        return DiagonalGaussian(*(x[:, :, first - begin : last - begin] for x in (near.mean, near.logvar)))

    @property
    def _blocks_reach(self) -> int:
        """Latent frames on each side that the decoder's blocks see."""
        return sum(block.mix.kernel_size[0] // 2 for block in self.decoder_blocks)

    @property
    def _reach(self) -> tuple[int, int]:
        """Latent frames on each side that a decoded sample depends on, and the period of the first phase."""
        config, per_frame = self.config, self.hop_length // self.config.stft_hop
        samples = (config.phase_iterations + 1) * config.stft_size  # each iteration looks one window further
        samples += (config.low_iterations + 2) * config.low_size if self.low_bins else 0
        return self._blocks_reach + -(-samples // self.hop_length) + 1, PERIOD // math.gcd(PERIOD, per_frame)

    def _decode(self, latents: torch.Tensor, circle_samples: int | None = None) -> torch.Tensor:
        if circle_samples is None:
            return self._search(self.features_to_spectra(self.decode_features(latents)))
        margin, frames = self._reach[0], latents.shape[2]
        around = torch.arange(-margin, frames + margin, device=latents.device) % frames
        features = self.decode_features(latents[:, :, around])[:, margin : margin + frames]
        return self._search(self.features_to_spectra(features), circle_samples)

    def _decode_span(self, latents: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """The samples of frames [first, last) within the whole, from no more frames than they depend on."""
        reach, period = self._reach
        begin = max(0, first - reach) // period * period
        early = max(0, begin - self._blocks_reach)  # a phase by gradients depends on all frames since `begin`
        features = self.decode_features(latents[:, :, early : last + reach])[:, begin - early :]
        audio = self._search(self.features_to_spectra(features))
        return audio[:, :, (first - begin) * self.hop_length : (last - begin) * self.hop_length]

    def enable_tiling(self, tile_frames: int = 256) -> None:
        """Encode and decode longer clips in tiles of so many frames: memory of one tile, the same result. Circles are
        decoded whole."""
        if tile_frames < 1:
            raise ValueError(f"tile_frames is {tile_frames}; allowed: at least 1")
        self.tile_frames = tile_frames

    def disable_tiling(self) -> None:
        """Decode in one piece again."""
        self.tile_frames = None

    @apply_forward_hook
    def decode(
        self, latents: torch.Tensor, loop: bool = False, samples: int | None = None, return_dict: bool = True
    ) -> OobleckDecoderOutput | tuple:
        """Raw latents (batch, latent_channels, frames) -> audio (batch, audio_channels, frames * hop_length), float32.

        Args:
            latents: as the encoder gives them, not standardised.
            loop: whether the last frame is followed by the first: the audio is then exactly periodic.
            samples: of a loop, its length if not frames * hop_length: up to half of it more or less, at equal pitch.
            return_dict: whether to return an output with `sample` or a tuple.

        Raises:
            ValueError: if the latents have another shape or no frames, or for a length that they cannot have.
        """
        if latents.ndim != 3 or latents.shape[1] != self.config.latent_channels or latents.shape[2] == 0:
            raise ValueError(
                f"latents have shape {tuple(latents.shape)}; needed: (batch, {self.config.latent_channels}, frames) "
                "with at least one frame"
            )
        frames, tile = latents.shape[2], self.tile_frames
        whole = frames * self.hop_length
        if samples is not None and not (loop and 0.5 * whole <= samples <= 1.5 * whole):
            raise ValueError(f"samples is {samples}; allowed: with loop, from {-(-whole // 2)} to {3 * whole // 2}")
        samples = whole if samples is None else samples
        if loop or tile is None or frames <= tile:
            audio = self._decode(latents, samples if loop else None)
        else:  # filled in, since joining the tiles would hold them twice
            audio = torch.empty(
                latents.shape[0], self.config.audio_channels, samples, device=latents.device, dtype=torch.float32
            )
            for first in range(0, frames, tile):
                last = min(first + tile, frames)
                part = self._decode_span(latents, first, last)
                audio[:, :, first * self.hop_length : last * self.hop_length] = part
        return OobleckDecoderOutput(sample=audio) if return_dict else (audio,)

    @apply_forward_hook
    def stream_decode(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Audio of latents that come in chunks (batch, latent_channels, any): what `decode` gives for all of them
        together, later by the frames that a sample depends on, in constant memory."""
        reach, period = self._reach
        held, begin, done = None, 0, 0  # `held` begins at frame `begin`; frames before `done` have been given out
        for chunk in chunks:
            held = chunk if held is None else torch.cat([held, chunk], dim=2)
            ready = begin + held.shape[2] - reach
            if ready > done:
                yield self._decode_span(held, done - begin, ready - begin)
                done = ready
                drop = max(0, (done - reach) // period - -(-self._blocks_reach // period)) * period - begin
                held, begin = held[:, :, max(drop, 0) :], begin + max(drop, 0)
        if held is not None and done < begin + held.shape[2]:
            yield self._decode_span(held, done - begin, held.shape[2])

    def forward(
        self, audio: torch.Tensor, sample_posterior: bool = False, generator: torch.Generator | None = None
    ) -> OobleckDecoderOutput:
        """Encode and decode; the output has the input's length and range: `decode` alone may overshoot 1 (noise)."""
        posterior = self.encode(audio).latent_dist
        latents = posterior.sample(generator) if sample_posterior else posterior.mode()
        return OobleckDecoderOutput(sample=self.decode(latents).sample[..., : audio.shape[-1]].clamp(-1.0, 1.0))
