"""AutoencoderEncodec: the SEANet encoder and decoder of EnCodec around continuous latents.

Defossez, Copet, Synnaeve and Adi 2022, "High Fidelity Neural Audio Compression". The layers are those of transformers'
`EncodecModel`, so its weights load as they are; a diagonal-Gaussian bottleneck, or none, takes the quantiser's place.
The contract is that of AutoencoderVivace.

This file is published with every checkpoint and imports only torch, diffusers and transformers.
"""

import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_oobleck import AutoencoderOobleckOutput, OobleckDecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from transformers import EncodecConfig, EncodecModel
from transformers.models.encodec.modeling_encodec import EncodecDecoder, EncodecEncoder

LOOP_MARGIN = 128  # frames that the LSTM gets before a loop begins: by then it has forgotten its zero start


class Posterior:
    """q(z | audio) over latents (batch, latent_channels, frames); without a log variance it is the mean alone."""

    def __init__(self, mean: torch.Tensor, logvar: torch.Tensor | None):
        self.mean = mean
        self.logvar = None if logvar is None else logvar.clamp(-12.0, 4.0)

    @property
    def std(self) -> torch.Tensor:
        return torch.zeros_like(self.mean) if self.logvar is None else torch.exp(0.5 * self.logvar)

    def sample(self, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw mean + std * eps; eps is drawn on the generator's device so that a seed means the same everywhere."""
        if self.logvar is None:
            return self.mean
        device = generator.device if generator is not None else self.mean.device
        eps = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + self.std * eps.to(self.mean.device)

    def mode(self) -> torch.Tensor:
        return self.mean

    def kl(self) -> torch.Tensor:
        """KL(q || N(0, 1)) in nats per latent value, shape (batch,); zero where there is no variance to speak of."""
        if self.logvar is None:
            return self.mean.new_zeros(self.mean.shape[0])
        return 0.5 * (self.mean.square() + self.logvar.exp() - 1.0 - self.logvar).mean(dim=(1, 2))


def lstm_stream(layer: nn.Module, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """What an LSTM of EnCodec, which is added to its input, makes of (batch, dim, frames) that come in chunks."""
    state = None
    for chunk in chunks:
        steps = chunk.permute(2, 0, 1)
        update, state = layer.lstm(steps, state)
        yield (steps + update).permute(1, 2, 0)


def streamed(
    function: Callable, chunks: Iterable[torch.Tensor], reach: int, step_in: int = 1, step_out: int = 1
) -> Iterator[torch.Tensor]:
    """Apply a `function` of limited reach to a signal that comes in chunks, each output given once, as of the whole.

    Args:
        function: turns (batch, channels, n * step_in) into (batch, other channels, n * step_out).
        chunks: the signal in pieces, in steps of the input.
        reach: output frame i depends on input frames [i - reach, i + reach] only.
        step_in, step_out: steps of one frame, before and after.
    """
    held, begin, done = None, 0, 0  # `held` begins at frame `begin`; frames before `done` have been given out
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=2)
        ready = begin + held.shape[2] // step_in - reach
        if ready > done:
            yield function(held)[..., (done - begin) * step_out : (ready - begin) * step_out]
            done, start = ready, max(0, ready - reach)
            held, begin = held[:, :, (start - begin) * step_in :], start
    if held is not None and held.shape[2] > (done - begin) * step_in:
        yield function(held)[..., (done - begin) * step_out :]


class AutoencoderEncodec(ModelMixin, ConfigMixin):
    """SEANet autoencoder.

    Args:
        sampling_rate: of the audio, Hz.
        audio_channels: 1 (mono) or 2 (stereo).
        latent_channels: channels of the latents.
        num_filters: channels at the audio's rate; they double with each downsampling.
        num_residual_layers: residual blocks at each rate, dilated by `dilation_growth_rate` to the power of 0, 1, ...
        upsampling_ratios: of the decoder, in its order; their product is the hop length in samples.
        norm_type: "weight_norm", or "time_group_norm" (EnCodec 48 kHz; it looks at the whole clip).
        kernel_size, last_kernel_size, residual_kernel_size, compress, num_lstm_layers, use_conv_shortcut: as EnCodec's.
        use_causal_conv: whether no sample depends on later ones.
        variational: whether the encoder predicts a variance for each latent; EnCodec's does not.
        latents_mean, latents_std: per channel, set by stage 2; standardised = (latents - mean) / std.

    Raises:
        ValueError: for a value that no EnCodec has.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules: list[str] = ["EncodecResnetBlock"]  # noqa: RUF012 (read by accelerate as a plain list)

    @register_to_config
    def __init__(
        self,
        sampling_rate: int = 24000,
        audio_channels: int = 1,
        latent_channels: int = 128,
        num_filters: int = 32,
        num_residual_layers: int = 1,
        upsampling_ratios: list[int] = (8, 5, 4, 2),
        norm_type: str = "weight_norm",
        kernel_size: int = 7,
        last_kernel_size: int = 7,
        residual_kernel_size: int = 3,
        dilation_growth_rate: int = 2,
        use_causal_conv: bool = True,
        compress: int = 2,
        num_lstm_layers: int = 2,
        use_conv_shortcut: bool = True,
        variational: bool = True,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ):
        super().__init__()
        if audio_channels not in (1, 2):
            raise ValueError(f"audio_channels is {audio_channels}; allowed: 1 (mono) or 2 (stereo)")
        if norm_type not in ("weight_norm", "time_group_norm"):
            raise ValueError(f"norm_type is {norm_type!r}; allowed: 'weight_norm', 'time_group_norm'")
        for name, values in (("latents_mean", latents_mean), ("latents_std", latents_std)):
            if values is not None and len(values) != latent_channels:
                raise ValueError(f"{name} has {len(values)} values; needed: one per latent channel ({latent_channels})")
        self.hop_length = math.prod(upsampling_ratios)
        self.tile_frames: int | None = None
        network = EncodecConfig(
            audio_channels=audio_channels, hidden_size=latent_channels, num_filters=num_filters,
            num_residual_layers=num_residual_layers, upsampling_ratios=list(upsampling_ratios), norm_type=norm_type,
            kernel_size=kernel_size, last_kernel_size=last_kernel_size, residual_kernel_size=residual_kernel_size,
            dilation_growth_rate=dilation_growth_rate, use_causal_conv=use_causal_conv, compress=compress,
            num_lstm_layers=num_lstm_layers, use_conv_shortcut=use_conv_shortcut,
        )  # fmt: skip
        self.decoder = EncodecDecoder(network)
        network.hidden_size *= 2 if variational else 1
        self.encoder = EncodecEncoder(network)

    @property
    def frame_rate(self) -> float:
        """Latent frames per second."""
        return self.config.sampling_rate / self.hop_length

    @classmethod
    def from_encodec(cls, source: nn.Module | str) -> "AutoencoderEncodec":
        """The encoder and decoder of an EnCodec, without its quantiser.

        Networks are equal, chunking is not: EnCodec 48 kHz cuts audio into seconds and divides each by its loudness,
        which latents alone cannot carry; here the clip goes through as one, as it is.

        Args:
            source: transformers' `EncodecModel`, the `encodec` package's, or a folder or Hub name of the former.

        Raises:
            ValueError: if `source` is something else.
        """
        if isinstance(source, str):
            source = EncodecModel.from_pretrained(source)
        state = {k: v for k, v in source.state_dict().items() if k.startswith(("encoder.", "decoder."))}
        if hasattr(source, "config") and getattr(source.config, "model_type", None) == "encodec":
            known = set(inspect.signature(cls.__init__).parameters) & set(source.config.to_dict())
            settings = {name: getattr(source.config, name) for name in known}
            settings["latent_channels"] = source.config.hidden_size
        elif hasattr(source, "encoder") and hasattr(source.encoder, "n_filters"):
            state = {rename_encodec(name): value for name, value in state.items()}
            settings = {
                "sampling_rate": source.sample_rate,
                "audio_channels": source.channels,
                "latent_channels": source.encoder.dimension,
                "num_filters": source.encoder.n_filters,
                "num_residual_layers": source.encoder.n_residual_layers,
                "upsampling_ratios": source.decoder.ratios,
                "norm_type": "time_group_norm" if "encoder.layers.0.norm.weight" in state else "weight_norm",
                "use_causal_conv": source.encoder.model[0].causal,
            }
        else:
            raise ValueError(
                f"source is a {type(source).__name__}; allowed: transformers' EncodecModel, the encodec package's, "
                "a folder or a Hub name"
            )
        settings["upsampling_ratios"] = list(settings["upsampling_ratios"])
        model = cls(**settings, variational=False)
        model.load_state_dict(state)
        return model.eval()

    # ---- reach, tiles, streams ---------------------------------------------------------------------------------

    @property
    def _reach(self) -> int:
        """Latent frames on each side that a frame or sample depends on through the convolutions, the LSTM apart."""
        config, samples, rate = self.config, 0, 1  # `rate`: samples of one step
        dilations = sum(config.dilation_growth_rate**i for i in range(config.num_residual_layers))
        for ratio in reversed(config.upsampling_ratios):
            samples += (config.residual_kernel_size - 1) * dilations * rate
            rate *= ratio
            samples += 2 * rate
        ends = config.kernel_size + config.last_kernel_size
        return -(-(samples + ends) // self.hop_length) + ends

    def _encode_stream(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        lstm = len(self.encoder.layers) - 3
        before, after = nn.Sequential(*self.encoder.layers[:lstm]), nn.Sequential(*self.encoder.layers[lstm + 1 :])
        frames = streamed(before, chunks, self._reach, step_in=self.hop_length)
        return streamed(after, lstm_stream(self.encoder.layers[lstm], frames), self._reach)

    def _decode_stream(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        first, lstm, *rest = self.decoder.layers
        hidden = lstm_stream(lstm, streamed(first, chunks, self._reach))
        return streamed(nn.Sequential(*rest), hidden, self._reach, step_out=self.hop_length)

    def _check_local(self, what: str) -> None:
        if self.config.norm_type == "time_group_norm":
            raise ValueError(f"{what} needs norm_type 'weight_norm'; 'time_group_norm' looks at the whole clip at once")

    def enable_tiling(self, tile_frames: int = 256) -> None:
        """Encode and decode longer clips in tiles of so many frames: memory of one tile, the same result.

        Raises:
            ValueError: if tiles are shorter than a frame, or the network's norm needs the whole clip.
        """
        if tile_frames < 1:
            raise ValueError(f"tile_frames is {tile_frames}; allowed: at least 1")
        self._check_local("enable_tiling")
        self.tile_frames = tile_frames

    def disable_tiling(self) -> None:
        """Work in one piece again."""
        self.tile_frames = None

    @apply_forward_hook
    def stream_decode(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Audio of latents that come in chunks (batch, latent_channels, any): what `decode` gives for all of them
        together, later by the frames that a sample depends on, in constant memory."""
        self._check_local("stream_decode")
        return self._decode_stream(chunk.to(self.dtype) for chunk in chunks)

    # ---- latents -----------------------------------------------------------------------------------------------

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
        audio = audio.to(self.dtype)
        if self.tile_frames is None:
            hidden = self.encoder(audio)
        else:
            hidden = torch.cat(list(self._encode_stream(audio.split(self.tile_frames * self.hop_length, 2))), dim=2)
        mean, logvar = hidden.chunk(2, dim=1) if self.config.variational else (hidden, None)
        posterior = Posterior(mean, logvar)
        return AutoencoderOobleckOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(
        self, latents: torch.Tensor, loop: bool = False, return_dict: bool = True
    ) -> OobleckDecoderOutput | tuple:
        """Raw latents (batch, latent_channels, frames) -> audio (batch, audio_channels, frames * hop_length), float32.

        Args:
            latents: as the encoder gives them, not standardised.
            loop: whether the last frame is followed by the first: the audio is then periodic, up to what the LSTM
                still remembers of the time before the last `LOOP_MARGIN` frames.
            return_dict: whether to return an output with `sample` or a tuple.

        Raises:
            ValueError: if the latents have another shape or no frames.
        """
        if latents.ndim != 3 or latents.shape[1] != self.config.latent_channels or latents.shape[2] == 0:
            raise ValueError(
                f"latents have shape {tuple(latents.shape)}; needed: (batch, {self.config.latent_channels}, frames) "
                "with at least one frame"
            )
        frames, latents, margin = latents.shape[2], latents.to(self.dtype), LOOP_MARGIN if loop else 0
        if loop:
            around = torch.arange(-margin, frames + self._reach, device=latents.device) % frames
            latents = latents[:, :, around]
        if self.tile_frames is None:
            audio = self.decoder(latents)
        else:
            audio = torch.cat(list(self._decode_stream(latents.split(self.tile_frames, 2))), dim=2)
        audio = audio[..., margin * self.hop_length : (margin + frames) * self.hop_length].float()
        return OobleckDecoderOutput(sample=audio) if return_dict else (audio,)

    def forward(
        self, audio: torch.Tensor, sample_posterior: bool = False, generator: torch.Generator | None = None
    ) -> OobleckDecoderOutput:
        """Encode and decode; the output has the input's length."""
        posterior = self.encode(audio).latent_dist
        latents = posterior.sample(generator) if sample_posterior else posterior.mode()
        return OobleckDecoderOutput(sample=self.decode(latents).sample[..., : audio.shape[-1]])


def rename_encodec(name: str) -> str:
    """The `encodec` package's name of a weight -> transformers' and ours."""
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    name = re.sub(r"\.conv(?:tr)?\.(conv|norm)(?:tr)?\.", r".\1.", name)
    return re.sub(r"weight_([gv])$", lambda m: f"parametrizations.weight.original{'gv'.index(m[1])}", name)
