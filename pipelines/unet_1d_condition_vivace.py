"""UNet1DConditionModel: predicts the noise process's target on a sequence of latent frames.

Residual convolutions at every level, attention where it is cheap. The text enters by cross-attention and, pooled, by
FiLM; four scalars (length, tempo, key, meter) enter by FiLM and as one extra cross-attention token each; what is known
for each frame (beat and bar phase, chord, what is kept when editing) enters by one zero-initialised convolution beside
the input. Everything but the noisy latents may be absent.

All work is done as (batch, channels, frames) convolutions, the pointwise ones included: on a CPU oneDNN's convolutions
run at about twice the speed of the matrix product behind `nn.Linear`. Norms act on each frame alone, so that no frame
depends on how many others there are.

This file is published with every checkpoint and imports only torch and diffusers.
"""

import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

NUM_KEYS = 24  # index = 2 * pitch class + (1 if minor), C first
MAX_BEATS_PER_BAR = 15
SCALARS = ("duration_s", "bpm", "key", "beats_per_bar")
NUM_OCTAVE_FREQUENCIES = 16


@dataclass
class UNet1DOutput(BaseOutput):
    """`sample`: prediction of shape (batch, out_channels, frames), in the dtype of the model's input."""

    sample: torch.Tensor


def hide(hidden_states: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
    """Zero the hidden frames of (batch, channels, frames); `frame_mask` is (batch, 1, frames), True = visible."""
    return hidden_states if frame_mask is None else hidden_states * frame_mask


def rotate(states: torch.Tensor) -> torch.Tensor:
    """Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864) on (batch, heads, frames, head_dim)."""
    frames, half = states.shape[-2], states.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half, device=states.device, dtype=torch.float32) / half)
    angles = torch.arange(frames, device=states.device, dtype=torch.float32)[:, None] * frequencies  # (frames, half)
    cos, sin = angles.cos().to(states.dtype), angles.sin().to(states.dtype)
    first, second = states.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class FrameNorm(nn.Module):
    """RMS norm over the channels of each frame (Zhang and Sennrich 2019), then FiLM if given; statistics in fp32."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, hidden_states: torch.Tensor, film: torch.Tensor | None = None) -> torch.Tensor:
        """`hidden_states` (batch, channels, frames); `film` (batch, 2 * channels), scale then shift."""
        mean_square = hidden_states.float().square().mean(dim=1, keepdim=True)  # (batch, 1, frames)
        hidden_states = hidden_states * torch.rsqrt(mean_square + 1e-6).to(hidden_states.dtype)
        gain = self.weight[:, None].to(hidden_states.dtype)  # (channels, 1)
        if film is None:
            return hidden_states * gain
        scale, shift = film.to(hidden_states.dtype).unsqueeze(-1).chunk(2, dim=1)  # (batch, channels, 1)
        return torch.addcmul(shift, hidden_states, gain * (1 + scale))


class ResidualBlock(nn.Module):
    """Two convolutions of three frames; the conditioning vector scales and shifts between them."""

    def __init__(self, channels: int, embedding_dim: int):
        super().__init__()
        self.norm1 = FrameNorm(channels)
        self.conv1 = nn.Conv1d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding_dim, 2 * channels)
        self.norm2 = FrameNorm(channels)
        self.conv2 = nn.Conv1d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(
        self, hidden_states: torch.Tensor, embedding: torch.Tensor, frame_mask: torch.Tensor | None
    ) -> torch.Tensor:
        update = nn.functional.silu(self.norm1(hidden_states))
        update = self.conv1(hide(update, frame_mask))
        update = nn.functional.silu(self.norm2(update, self.film(embedding)))
        return hidden_states + self.conv2(hide(update, frame_mask))


class AttentionBlock(nn.Module):
    """Self-attention over frames with rotary positions, then cross-attention to text and scalar tokens."""

    def __init__(self, channels: int, head_dim: int, context_dim: int):
        super().__init__()
        self.heads = channels // head_dim
        self.norm1 = FrameNorm(channels)
        self.to_qkv = nn.Conv1d(channels, 3 * channels, 1, bias=False)
        self.self_query_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.self_key_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.to_out = nn.Conv1d(channels, channels, 1)
        self.norm2 = FrameNorm(channels)
        self.to_q = nn.Conv1d(channels, channels, 1, bias=False)
        self.to_kv = nn.Linear(context_dim, 2 * channels, bias=False)
        self.cross_query_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.cross_key_norm = nn.RMSNorm(head_dim, eps=1e-6)
        self.to_cross_out = nn.Conv1d(channels, channels, 1)
        for layer in (self.to_out, self.to_cross_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def heads_first(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, channels, frames) -> (batch, heads, frames, head_dim)."""
        return states.unflatten(1, (self.heads, -1)).transpose(2, 3)

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor,
        context_bias: torch.Tensor,
        frame_bias: torch.Tensor | None,
    ) -> torch.Tensor:
        """`context` (batch, tokens, context_dim); biases (batch, 1, 1, keys), 0 = attend, hugely negative = do not."""
        query, key, value = map(self.heads_first, self.to_qkv(self.norm1(hidden_states)).chunk(3, dim=1))
        query, key = rotate(self.self_query_norm(query)), rotate(self.self_key_norm(key))
        hidden_states = hidden_states + self.to_out(self.attend(query, key, value, frame_bias))

        query = self.cross_query_norm(self.heads_first(self.to_q(self.norm2(hidden_states))))
        key, value = self.to_kv(context).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (2, b, h, t, d)
        return hidden_states + self.to_cross_out(self.attend(query, self.cross_key_norm(key), value, context_bias))

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        query, key = query.to(value.dtype), key.to(value.dtype)  # autocast leaves norms in fp32
        bias = None if bias is None else bias.to(value.dtype)
        output = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return output.transpose(2, 3).flatten(1, 2)  # (batch, channels, frames)


class UNetLayer(nn.Module):
    """A residual block and, at levels that have it, attention: the unit that is repeated and checkpointed."""

    def __init__(self, channels: int, embedding_dim: int, head_dim: int, context_dim: int, attention: bool):
        super().__init__()
        self.residual = ResidualBlock(channels, embedding_dim)
        self.attention = AttentionBlock(channels, head_dim, context_dim) if attention else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        embedding: torch.Tensor,
        context: torch.Tensor,
        context_bias: torch.Tensor,
        frame_mask: torch.Tensor | None,
        frame_bias: torch.Tensor | None,
    ) -> torch.Tensor:
        hidden_states = self.residual(hidden_states, embedding, frame_mask)
        if self.attention is not None:
            hidden_states = self.attention(hidden_states, context, context_bias, frame_bias)
        return hidden_states


class OctaveEmbedding(nn.Module):
    """A positive number -> token: Fourier features of its logarithm, so a semitone of tempo is a semitone anywhere."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear1 = nn.Linear(2 * NUM_OCTAVE_FREQUENCIES, dim)
        self.linear2 = nn.Linear(dim, dim)
        self.null = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(batch,) with NaN = absent -> (batch, dim)."""
        values = values.float()
        octaves = values.nan_to_num(nan=1.0).clamp(min=1e-3).log2()
        exponents = torch.linspace(-5.0, 3.0, NUM_OCTAVE_FREQUENCIES, device=values.device)
        angles = 2 * math.pi * octaves[:, None] * 2.0**exponents  # periods of 32 octaves down to 1/8
        features = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.linear1.weight.dtype)
        token = self.linear2(nn.functional.silu(self.linear1(features)))
        return torch.where(values.isnan()[:, None], self.null.to(token.dtype), token)


class UNet1DConditionModel(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """Conditional 1-D UNet over latent frames.

    Args:
        in_channels, out_channels: channels of the noisy latents and of the prediction.
        frame_cond_channels: channels of `frame_cond`; 0 builds a model without it.
        block_out_channels: width of each level; the frame rate halves from one level to the next.
        layers_per_block: layers of each level, on the way down and again on the way up; the last level has them once.
        attention: whether the layers of each level have attention.
        attention_head_dim: even, divides the width of every level with attention.
        cross_attention_dim: width of the text encoder's `last_hidden_state`.
        context_dim: width of the cross-attention tokens (text is projected to it once).
        embedding_dim: width of the conditioning vector that drives FiLM.

    Raises:
        ValueError: lists of unequal length, or a width that the heads do not divide.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks = ["UNetLayer"]  # noqa: RUF012 (read by diffusers as a plain list)
    _no_split_modules = ["UNetLayer"]  # noqa: RUF012

    @register_to_config
    def __init__(
        self,
        in_channels: int = 32,
        out_channels: int = 32,
        frame_cond_channels: int = 55,
        block_out_channels: list[int] = (160, 256, 384),
        layers_per_block: list[int] = (1, 1, 2),
        attention: list[bool] = (False, True, True),
        attention_head_dim: int = 64,
        cross_attention_dim: int = 128,
        context_dim: int = 256,
        embedding_dim: int = 384,
    ):
        super().__init__()
        widths = list(block_out_channels)
        if not widths or not len(widths) == len(layers_per_block) == len(attention):
            raise ValueError(
                "block_out_channels, layers_per_block and attention must have one entry per level, got "
                f"{len(widths)}, {len(layers_per_block)} and {len(attention)}"
            )
        for width, attends in zip(widths, attention, strict=True):
            if attention_head_dim % 2 or (attends and width % attention_head_dim):
                raise ValueError(
                    f"attention_head_dim must be even and divide {width} (block_out_channels), got {attention_head_dim}"
                )
        self.gradient_checkpointing = False
        self.frame_multiple = 2 ** (len(widths) - 1)

        self.conv_in = nn.Conv1d(in_channels, widths[0], 3, padding=1)
        self.conv_frame_cond = None
        if frame_cond_channels:
            self.conv_frame_cond = nn.Conv1d(frame_cond_channels, widths[0], 3, padding=1)
            nn.init.zeros_(self.conv_frame_cond.weight)
            nn.init.zeros_(self.conv_frame_cond.bias)

        self.time_embedding = nn.Sequential(
            nn.Linear(widths[0], embedding_dim), nn.SiLU(), nn.Linear(embedding_dim, embedding_dim)
        )
        self.text_norm = nn.RMSNorm(cross_attention_dim, eps=1e-6)
        self.text_tokens = nn.Linear(cross_attention_dim, context_dim)
        self.text_pooled = nn.Linear(cross_attention_dim, embedding_dim)
        self.null_text_token = nn.Parameter(torch.randn(context_dim) * 0.02)
        self.null_text_pooled = nn.Parameter(torch.randn(embedding_dim) * 0.02)
        self.duration_embedding = OctaveEmbedding(context_dim)
        self.bpm_embedding = OctaveEmbedding(context_dim)
        self.key_embedding = nn.Embedding(NUM_KEYS + 1, context_dim)  # row 0 = absent
        self.meter_embedding = nn.Embedding(MAX_BEATS_PER_BAR + 2, context_dim)  # row 0 = absent
        self.scalar_pooled = nn.Linear(len(SCALARS) * context_dim, embedding_dim)

        def make_layers(level: int) -> nn.ModuleList:
            return nn.ModuleList(
                UNetLayer(widths[level], embedding_dim, attention_head_dim, context_dim, attention[level])
                for _ in range(layers_per_block[level])
            )

        levels = range(len(widths) - 1)
        self.down_layers = nn.ModuleList(make_layers(level) for level in levels)
        self.downsamplers = nn.ModuleList(
            nn.Conv1d(widths[level], widths[level + 1], 4, stride=2, padding=1) for level in levels
        )
        self.mid_layers = make_layers(len(widths) - 1)
        self.upsamplers = nn.ModuleList(nn.Conv1d(widths[level + 1], widths[level], 1) for level in levels)
        self.mergers = nn.ModuleList(nn.Conv1d(2 * widths[level], widths[level], 1) for level in levels)
        self.up_layers = nn.ModuleList(make_layers(level) for level in levels)

        self.norm_out = FrameNorm(widths[0])
        self.conv_out = nn.Conv1d(widths[0], out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def embed_text(
        self, batch: int, encoder_hidden_states: torch.Tensor | None, encoder_attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens (batch, tokens + 1, context_dim), whether to attend to each, pooled text (batch, embedding_dim).

        The last token is the learned null, attended to by the items that have no text and by no other.
        """
        null_token = self.null_text_token.expand(batch, 1, -1)
        null_pooled = self.null_text_pooled.expand(batch, -1)
        if encoder_hidden_states is None:
            visible = torch.ones(batch, 1, dtype=torch.bool, device=null_token.device)
            return null_token, visible, null_pooled
        visible = torch.ones(encoder_hidden_states.shape[:2], dtype=torch.bool, device=null_token.device)
        if encoder_attention_mask is not None:
            visible = encoder_attention_mask.to(null_token.device) > 0
        text = encoder_hidden_states.to(null_token.device, self.dtype).masked_fill(~visible[..., None], 0.0)
        text = self.text_norm(text)
        count = visible.sum(dim=1, keepdim=True)  # (batch, 1)
        mean = (text * visible[..., None]).sum(dim=1) / count.clamp(min=1)
        pooled = self.text_pooled(mean)
        pooled = torch.where(count > 0, pooled, null_pooled.to(pooled.dtype))
        tokens = self.text_tokens(text)
        tokens = torch.cat([tokens, null_token.to(tokens.dtype)], dim=1)
        return tokens, torch.cat([visible, count == 0], dim=1), pooled

    def embed_scalars(self, batch: int, added_cond_kwargs: dict[str, torch.Tensor] | None) -> torch.Tensor:
        """One token per scalar, (batch, 4, context_dim)."""
        given = added_cond_kwargs or {}
        for name, value in given.items():
            if name not in SCALARS:
                raise ValueError(f"added_cond_kwargs has no entry {name!r}; allowed: {', '.join(SCALARS)}")
            if value.shape != (batch,):
                raise ValueError(f"added_cond_kwargs[{name!r}] must have shape ({batch},), got {tuple(value.shape)}")
        device = self.null_text_token.device
        absent_number = torch.full((batch,), math.nan, device=device)
        absent_index = torch.full((batch,), -1, device=device)
        tokens = (
            self.duration_embedding(given.get("duration_s", absent_number).to(device)),
            self.bpm_embedding(given.get("bpm", absent_number).to(device)),
            self.key_embedding(given.get("key", absent_index).to(device) + 1),
            self.meter_embedding(given.get("beats_per_bar", absent_index).to(device) + 1),
        )
        dtype = torch.promote_types(tokens[0].dtype, tokens[2].dtype)
        return torch.stack([token.to(dtype) for token in tokens], dim=1)

    def run_layers(self, layers: nn.ModuleList, hidden_states: torch.Tensor, *args: torch.Tensor | None) -> torch.Tensor:
        for layer in layers:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(layer, hidden_states, *args)
            else:
                hidden_states = layer(hidden_states, *args)
        return hidden_states

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        frame_cond: torch.Tensor | None = None,
        added_cond_kwargs: dict[str, torch.Tensor] | None = None,
        frame_mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet1DOutput | tuple[torch.Tensor]:
        """Predict the target of the noise process.

        Args:
            sample: noisy latents (batch, in_channels, frames), any number of frames from 1.
            timestep: (batch,) or one number, in [0, 1000].
            encoder_hidden_states: text (batch, tokens, cross_attention_dim), any number of tokens; None = no text.
            encoder_attention_mask: (batch, tokens), true = read; a row of false = no text for this item.
            frame_cond: (batch, frame_cond_channels, frames), zero where absent.
            added_cond_kwargs: `duration_s` (seconds) and `bpm` (beats a minute), float (batch,), NaN = absent;
                `key` (0..23) and `beats_per_bar` (0..15), long (batch,), -1 = absent. Missing entries are absent.
            frame_mask: (batch, frames) bool, False = padding: predicted as zero, and without influence on the others.
            return_dict: whether to return a `UNet1DOutput` or a tuple.

        Raises:
            ValueError: a shape that does not fit, or an unknown entry of `added_cond_kwargs`.
        """
        batch, frames = self.check_inputs(sample, encoder_hidden_states, encoder_attention_mask, frame_cond, frame_mask)
        dtype, device = self.dtype, sample.device

        # What is known of the whole piece: one vector for FiLM, a few tokens for cross-attention.
        timestep = torch.as_tensor(timestep, dtype=torch.float32, device=device).expand(batch)
        waves = get_timestep_embedding(timestep, self.config.block_out_channels[0], True, 0)  # fp32
        text, text_visible, pooled = self.embed_text(batch, encoder_hidden_states, encoder_attention_mask)
        scalars = self.embed_scalars(batch, added_cond_kwargs)
        embedding = self.time_embedding(waves.to(dtype)) + pooled + self.scalar_pooled(scalars.flatten(1))
        embedding = nn.functional.silu(embedding)
        context = torch.cat([text.to(scalars.dtype), scalars], dim=1)  # (batch, tokens + 1 + 4, context_dim)
        context_visible = torch.cat([text_visible, text_visible.new_ones(batch, len(SCALARS))], dim=1)
        context_bias = self.bias(context_visible)

        # Frames: padded to a whole number of coarsest frames, with the padding hidden like the caller's own.
        padding = -frames % self.frame_multiple
        if frame_mask is None and padding:
            frame_mask = torch.ones(batch, frames, dtype=torch.bool, device=device)
        masks = [None] * len(self.config.block_out_channels)
        if frame_mask is not None:
            visible = nn.functional.pad(frame_mask.to(device).bool(), (0, padding))
            sample = nn.functional.pad(sample, (0, padding)).masked_fill(~visible[:, None], 0.0)
            if frame_cond is not None:
                frame_cond = nn.functional.pad(frame_cond, (0, padding)).masked_fill(~visible[:, None], 0.0)
            masks = [visible.unflatten(1, (-1, 2**level)).any(dim=2) for level in range(len(masks))]
        frame_biases = [None if mask is None else self.bias(mask) for mask in masks]
        masks = [None if mask is None else mask[:, None] for mask in masks]  # (batch, 1, frames)

        hidden_states = self.conv_in(sample.to(dtype))
        if frame_cond is not None:
            hidden_states = hidden_states + self.conv_frame_cond(frame_cond.to(dtype))
        conditions = (embedding, context, context_bias)
        skips = []
        for level, (layers, downsample) in enumerate(zip(self.down_layers, self.downsamplers, strict=True)):
            hidden_states = self.run_layers(layers, hidden_states, *conditions, masks[level], frame_biases[level])
            skips.append(hidden_states)
            hidden_states = downsample(hide(hidden_states, masks[level]))
        hidden_states = self.run_layers(self.mid_layers, hidden_states, *conditions, masks[-1], frame_biases[-1])
        for level in reversed(range(len(skips))):
            hidden_states = self.upsamplers[level](hidden_states).repeat_interleave(2, dim=2)
            hidden_states = self.mergers[level](torch.cat([hidden_states, skips[level]], dim=1))
            hidden_states = self.run_layers(
                self.up_layers[level], hidden_states, *conditions, masks[level], frame_biases[level]
            )
        hidden_states = nn.functional.silu(self.norm_out(hidden_states))
        prediction = hide(self.conv_out(hide(hidden_states, masks[0])), masks[0])
        prediction = prediction[..., :frames].to(sample.dtype)
        return UNet1DOutput(sample=prediction) if return_dict else (prediction,)

    def bias(self, visible: torch.Tensor) -> torch.Tensor:
        """(batch, keys) bool -> (batch, 1, 1, keys); finite, so a row with nothing visible is no NaN."""
        bias = torch.zeros(visible.shape, dtype=self.dtype, device=visible.device)
        return bias.masked_fill(~visible, torch.finfo(bias.dtype).min / 2)[:, None, None]

    def check_inputs(
        self,
        sample: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        encoder_attention_mask: torch.Tensor | None,
        frame_cond: torch.Tensor | None,
        frame_mask: torch.Tensor | None,
    ) -> tuple[int, int]:
        """Shapes only (no value is read, so nothing waits for the device); returns batch and frames."""
        channels = self.config.in_channels
        if sample.ndim != 3 or sample.shape[1] != channels or sample.shape[2] < 1:
            raise ValueError(f"sample must have shape (batch, {channels}, frames >= 1), got {tuple(sample.shape)}")
        batch, _, frames = sample.shape
        cond = (batch, self.config.frame_cond_channels, frames)
        if frame_cond is not None and (frame_cond.shape != cond or self.conv_frame_cond is None):
            raise ValueError(f"frame_cond must have shape {cond}, got {tuple(frame_cond.shape)}")
        if frame_mask is not None and frame_mask.shape != (batch, frames):
            raise ValueError(f"frame_mask must have shape {(batch, frames)}, got {tuple(frame_mask.shape)}")
        if encoder_hidden_states is None:
            if encoder_attention_mask is not None:
                raise ValueError("encoder_attention_mask needs encoder_hidden_states, got None")
            return batch, frames
        shape, width = tuple(encoder_hidden_states.shape), self.config.cross_attention_dim
        if len(shape) != 3 or shape[0] != batch or shape[2] != width:
            raise ValueError(f"encoder_hidden_states must have shape ({batch}, tokens, {width}), got {shape}")
        if encoder_attention_mask is not None and tuple(encoder_attention_mask.shape) != shape[:2]:
            raise ValueError(
                f"encoder_attention_mask must have shape {shape[:2]}, got {tuple(encoder_attention_mask.shape)}"
            )
        return batch, frames
