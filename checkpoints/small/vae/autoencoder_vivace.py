"""AutoencoderVivace: audio <-> a few dozen smooth latent channels at 25 frames a second.

The latents hold what the ear follows, log-magnitude spectra, and not the phase, which for a steady tone would turn
many times between two latent frames and would have to be generated as well. The decoder predicts magnitudes and finds
a phase that agrees with them by the fast Griffin-Lim iteration (Perraudin, Balazs and Sondergaard 2013, "A fast
Griffin-Lim algorithm"), unrolled a fixed number of times. Encoder and decoder are ConvNeXt blocks (Liu et al. 2022) at
the latent rate around a linear path that starts as principal component analysis, so training begins at the optimum of
linear coding.

This file is published with every checkpoint and imports only torch, numpy and diffusers.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn


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
class AutoencoderVivaceOutput(BaseOutput):
    """`latent_dist`: posterior over raw (not standardised) latents of shape (batch, latent_channels, frames)."""

    latent_dist: DiagonalGaussian


@dataclass
class AudioDecoderOutput(BaseOutput):
    """`sample`: audio of shape (batch, audio_channels, samples) in about [-1, 1]."""

    sample: torch.Tensor


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
        for name, values in (("latents_mean", latents_mean), ("latents_std", latents_std)):
            if values is not None and len(values) != latent_channels:
                raise ValueError(f"{name} has {len(values)} values; needed: one per latent channel ({latent_channels})")
        self.hop_length = hop_length
        self.tile_frames: int | None = None
        self.num_bins = stft_size // 2 + 1
        features = audio_channels * (hop_length // stft_hop) * self.num_bins

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

    def _window(self, like: torch.Tensor) -> torch.Tensor:
        return torch.hann_window(self.config.stft_size, device=like.device, dtype=torch.float32)

    def _circle(self, frames: int, samples: int) -> torch.Tensor:
        """Where each window of a circle lies, (stft frames, stft_size): the frames share its samples evenly, whatever
        their number, so that a circle of any length keeps its pitch; `stft_hop` apart where that divides it. The first
        and last windows reach below 0 and beyond `samples`: there the circle closes."""
        size = self.config.stft_size
        centres = ((torch.arange(frames, dtype=torch.float64) + 0.5) * (samples / frames)).round().long()
        return centres[:, None] + torch.arange(size) - size // 2

    def _stft(self, audio: torch.Tensor, circle: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, samples) with samples a multiple of stft_hop -> (batch, bins, samples / stft_hop), complex.

        STFT frame j is centred on sample (j + 0.5) * stft_hop, so that frames tile the clip with none to spare; those
        of a circle lie where `_circle` says. A full-scale sine has magnitude 1 (0 dB).
        """
        size, hop, window = self.config.stft_size, self.config.stft_hop, self._window(audio)
        if circle is not None:
            spectrum = torch.fft.rfft(audio[:, circle] * window).transpose(1, 2)
        else:
            edge = (size - hop) // 2
            padded = nn.functional.pad(audio, (edge, edge))
            spectrum = torch.stft(padded, size, hop, window=window, center=False, return_complex=True)
        return spectrum * (4.0 / size)

    def _istft(self, spectrum: torch.Tensor, circle: torch.Tensor | None = None, samples: int = 0) -> torch.Tensor:
        """Least-squares inverse of `_stft` (Griffin and Lim 1984, eq. 6): (batch, bins, frames) -> (batch, samples);
        a circle's length has to be told."""
        size, hop = self.config.stft_size, self.config.stft_hop
        edge, frames = (size - hop) // 2, spectrum.shape[-1]
        window = self._window(spectrum)
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
        return overlap_add(pieces) / (weight if circle is None else weight.clamp_min(1e-8))  # 0 only at ends of an arc

    def audio_to_features(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio (batch, audio_channels, samples) -> log spectra (batch, frames, features) in about [-1, 1].

        -1 is the floor (`floor_db`), +1 is full scale. One latent frame gathers hop_length / stft_hop STFT frames.
        """
        batch, channels, samples = audio.shape
        padded = nn.functional.pad(audio.float(), (0, -samples % self.hop_length))
        magnitude = self._stft(padded.flatten(0, 1)).abs()  # (batch * channels, bins, stft frames)
        level = 10.0 ** (self.config.floor_db / 20.0)
        log = torch.log10(magnitude + level) * (-20.0 / self.config.floor_db)  # floor -> -1, full scale -> 0
        per_frame = self.hop_length // self.config.stft_hop
        log = (2.0 * log + 1.0).transpose(1, 2).unflatten(1, (-1, per_frame))  # (b * c, frames, per_frame, bins)
        return log.unflatten(0, (batch, channels)).permute(0, 2, 1, 3, 4).flatten(2)

    def features_to_magnitude(self, features: torch.Tensor) -> torch.Tensor:
        """Inverse of the log scale: (batch, frames, features) -> magnitudes (batch, channels, bins, stft frames)."""
        channels, per_frame = self.config.audio_channels, self.hop_length // self.config.stft_hop
        level = 10.0 ** (self.config.floor_db / 20.0)
        log = (features.float().clamp(-1.2, 1.5) - 1.0) / 2.0 * (self.config.floor_db / -20.0)
        magnitude = (10.0**log - level).clamp(0.0, 2.0)  # 2: the most that a window's sum allows audio in [-1, 1]
        magnitude = magnitude.unflatten(2, (channels, per_frame, self.num_bins))
        return magnitude.permute(0, 2, 4, 1, 3).flatten(3)  # (batch, channels, bins, frames * per_frame)

    def _first_phase(self, times: np.ndarray, device: torch.device) -> torch.Tensor:
        """A fixed irregular phase (bins, frames) as unit phasors for STFT frames by number, the same on every device.

        It repeats every 48 STFT frames, so a tile that starts on a multiple of that is decoded as within the whole.
        """
        bins, times = np.arange(self.num_bins)[:, None], (times % 48)[None, :]
        turns = np.sin(12.9898 * bins + 78.233 * times) * 43758.5453
        phase = torch.from_numpy((2.0 * math.pi * (turns - np.floor(turns))).astype(np.float32)).to(device)
        return torch.polar(torch.ones_like(phase), phase)

    def magnitude_to_audio(
        self, magnitude: torch.Tensor, iterations: int | None = None, circle_samples: int | None = None
    ) -> torch.Tensor:
        """Magnitudes (batch, channels, bins, stft frames) -> audio (batch, channels, samples) by fast Griffin-Lim.

        With `circle_samples` the last frame is followed by the first, and the audio is a circle of that length.

        With P_A the projection on the given magnitudes and P_C the one on spectra of real signals:
        t_n = P_C(P_A(c_(n-1))),  c_n = t_n + momentum * (t_n - t_(n-1))   (Perraudin et al. 2013, algorithm 2).
        """
        frames = magnitude.shape[3]
        circle = None if circle_samples is None else self._circle(frames, circle_samples) % circle_samples
        return self._find_phase(magnitude, np.arange(frames), iterations, circle, circle_samples or 0)

    def _find_phase(
        self,
        magnitude: torch.Tensor,
        times: np.ndarray,
        iterations: int | None = None,
        circle: torch.Tensor | None = None,
        samples: int = 0,
    ) -> torch.Tensor:
        """The iteration, for STFT frames of these numbers, whose windows lie one after the other or as told."""
        iterations = self.config.phase_iterations if iterations is None else iterations
        batch, channels = magnitude.shape[:2]
        circle = None if circle is None else circle.to(magnitude.device)
        joint = magnitude.square().mean(1).sqrt()  # one phase for all channels keeps the stereo image steady
        phasor = self._first_phase(times, magnitude.device).expand_as(joint)
        previous = None
        for _ in range(iterations):
            consistent = self._stft(self._istft(joint * phasor, circle, samples), circle)
            moved = (
                consistent if previous is None else consistent + self.config.phase_momentum * (consistent - previous)
            )
            phasor = moved / (moved.abs() + 1e-9)
            previous = consistent
        spectrum = magnitude * phasor[:, None]
        return self._istft(spectrum.flatten(0, 1), circle, samples).unflatten(0, (batch, channels))

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
    def encode(self, audio: torch.Tensor, return_dict: bool = True) -> AutoencoderVivaceOutput | tuple:
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
        return AutoencoderVivaceOutput(latent_dist=posterior) if return_dict else (posterior,)

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
        config = self.config
        samples = (config.phase_iterations + 1) * config.stft_size  # each iteration looks one window further
        per_frame = self.hop_length // config.stft_hop
        return self._blocks_reach + -(-samples // self.hop_length) + 1, 48 // math.gcd(48, per_frame)

    def _decode(self, latents: torch.Tensor, circle_samples: int | None = None) -> torch.Tensor:
        if circle_samples is None:
            return self.magnitude_to_audio(self.features_to_magnitude(self.decode_features(latents)))
        frames, margin = latents.shape[2], self._reach[0]
        around = torch.arange(-margin, frames + margin, device=latents.device) % frames
        features = self.decode_features(latents[:, :, around])[:, margin : margin + frames]
        return self.magnitude_to_audio(self.features_to_magnitude(features), circle_samples=circle_samples)

    def _decode_span(self, latents: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """The samples of frames [first, last) within the whole, from no more frames than they depend on."""
        reach, period = self._reach
        begin = max(0, first - reach) // period * period
        audio = self._decode(latents[:, :, begin : last + reach])
        return audio[:, :, (first - begin) * self.hop_length : (last - begin) * self.hop_length]

    def _decode_arc(self, latents: torch.Tensor, first: int, last: int, samples: int) -> tuple[int, torch.Tensor]:
        """Of a circle of so many samples, those of frames [first, last), and where they begin."""
        config, frames, blocks = self.config, latents.shape[2], self._blocks_reach
        reach = -(-(config.phase_iterations + 1) * config.stft_size * frames // samples) + 1
        begin, end = first - reach, last + reach  # on the circle unrolled, more than once if it is short
        around = torch.arange(begin - blocks, end + blocks, device=latents.device) % frames
        features = self.decode_features(latents[:, :, around])[:, blocks : blocks + end - begin]
        per_frame = self.hop_length // config.stft_hop
        turns, times = np.divmod(np.arange(begin * per_frame, end * per_frame), frames * per_frame)
        windows = self._circle(frames * per_frame, samples)[times] + samples * torch.from_numpy(turns)[:, None]
        start = int(windows[0, 0])
        magnitude = self.features_to_magnitude(features)
        audio = self._find_phase(magnitude, times, None, windows - start, int(windows[-1, -1]) - start + 1)
        low, high = (round(edge * samples / frames) for edge in (first, last))
        return low, audio[:, :, low - start : high - start]

    def enable_tiling(self, tile_frames: int = 256) -> None:
        """Encode and decode longer clips in tiles of so many frames: memory of one tile, the same result."""
        if tile_frames < 1:
            raise ValueError(f"tile_frames is {tile_frames}; allowed: at least 1")
        self.tile_frames = tile_frames

    def disable_tiling(self) -> None:
        """Decode in one piece again."""
        self.tile_frames = None

    @apply_forward_hook
    def decode(
        self, latents: torch.Tensor, loop: bool = False, samples: int | None = None, return_dict: bool = True
    ) -> AudioDecoderOutput | tuple:
        """Raw latents (batch, latent_channels, frames) -> audio (batch, audio_channels, frames * hop_length), float32.

        Args:
            latents: as the encoder gives them, not standardised.
            loop: whether the last frame is followed by the first: the audio is then exactly periodic.
            samples: of a loop, its length if not frames * hop_length: up to half of it more or less, at equal pitch.
            return_dict: whether to return an `AudioDecoderOutput` or a tuple.

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
        if tile is None or frames <= tile:
            audio = self._decode(latents, samples if loop else None)
        else:  # filled in, since joining the tiles would hold them twice
            audio = torch.empty(
                latents.shape[0], self.config.audio_channels, samples, device=latents.device, dtype=torch.float32
            )
            for first in range(0, frames, tile):
                last = min(first + tile, frames)
                if loop:
                    start, part = self._decode_arc(latents, first, last, samples)
                else:
                    start, part = first * self.hop_length, self._decode_span(latents, first, last)
                audio[:, :, start : start + part.shape[2]] = part
        return AudioDecoderOutput(sample=audio) if return_dict else (audio,)

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
                drop = max(0, done - reach) // period * period - begin
                held, begin = held[:, :, max(drop, 0) :], begin + max(drop, 0)
        if held is not None and done < begin + held.shape[2]:
            yield self._decode_span(held, done - begin, held.shape[2])

    def forward(
        self, audio: torch.Tensor, sample_posterior: bool = False, generator: torch.Generator | None = None
    ) -> AudioDecoderOutput:
        """Encode and decode; the output has the input's length and range: `decode` alone may overshoot 1 (noise)."""
        posterior = self.encode(audio).latent_dist
        latents = posterior.sample(generator) if sample_posterior else posterior.mode()
        return AudioDecoderOutput(sample=self.decode(latents).sample[..., : audio.shape[-1]].clamp(-1.0, 1.0))
