"""UNet1DConditionModel: predicts the noise process's target on a sequence of latent frames.

Residual convolutions at every level, attention where it is cheap. The text enters by cross-attention and, pooled, by
FiLM; four scalars (length, tempo, key, meter) enter by FiLM and as one extra cross-attention token each; what is known
for each frame (beat and bar phase, chord, what is kept when editing) enters by one zero-initialised convolution beside
the input. The notes of each role, and what plays it, enter by two more such convolutions, before the way down and
before the way up; what plays a role enters by FiLM as well, and so do statistics of the latents of a reference sound.
Everything but the noisy latents may be absent.

All work is done as (batch, channels, frames) convolutions, twice as fast as `nn.Linear` on a CPU. Norms act on each
frame alone, so that no frame depends on how many others there are.

This file is published with every checkpoint and imports only torch and diffusers.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import Tensor, nn

NUM_KEYS = 24  # index = 2 * pitch class + (1 if minor), C first
MAX_BEATS_PER_BAR = 15
SCALARS = ("duration_s", "bpm", "key", "beats_per_bar")
NUM_ROLES = 4  # lead, harmony, bass, drums: the parts of a note roll (`note_roll` in vivace_process.py)
NUM_OCTAVE_FREQUENCIES = 16
NUM_FILTER_LEVELS = 17  # noise levels that `LinearPath` has filters for


@dataclass
class UNet1DOutput(BaseOutput):
    """`sample`: prediction of shape (batch, out_channels, frames), in the dtype of the model's input."""

    sample: Tensor


def check_shape(name: str, tensor: Tensor | None, *shape: int | str) -> None:
    """Raise a ValueError unless `tensor` is None or fits `shape`, where a word stands for any size."""
    if tensor is None:
        return
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or want == size for want, size in zip(shape, tensor.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have shape ({', '.join(map(str, shape))}), got {tuple(tensor.shape)}")


def hide(hidden_states: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Zero the hidden frames of (batch, channels, frames); `frame_mask` is (batch, 1, frames), True = visible."""
    return hidden_states if frame_mask is None else hidden_states * frame_mask


def rotate(states: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021, https://arxiv.org/abs/2104.09864) on (batch, heads, frames, head_dim)."""
    frames, half = states.shape[-2], states.shape[-1] // 2
    frequencies = 10000.0 ** (-torch.arange(half, device=states.device, dtype=torch.float32) / half)
    angles = torch.arange(frames, device=states.device, dtype=torch.float32)[:, None] * frequencies  # (frames, half)
    cos, sin = angles.cos().to(states.dtype), angles.sin().to(states.dtype)
    first, second = states.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def zero(layer: nn.Conv1d | nn.Linear) -> nn.Conv1d | nn.Linear:
    """A branch that ends in a zeroed layer adds nothing at first: training starts from the identity."""
    for parameter in (layer.weight, layer.bias):
        nn.init.zeros_(parameter)
    return layer


def exact(hidden_states: Tensor) -> bool:
    """Whether an item is to have the same bits in a batch of any size: on a CPU, unless it is trained. Widths must be
    multiples of 32 for it, since torch's functions round the odd values at the end of a vector otherwise."""
    return hidden_states.device.type == "cpu" and not torch.is_grad_enabled()


class Conv(nn.Conv1d):
    """Torch leaves a single input of up to 20480 values, and kernels of one tap in small batches, to a matrix product
    that rounds otherwise than oneDNN and has half its speed (`use_mkldnn` in ATen/native/Convolution.cpp). A second
    copy of the input, and a dilation, which means nothing to one tap, take the faster way."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if not exact(hidden_states):
            return super().forward(hidden_states)
        dilation = 2 if self.kernel_size == (1,) else self.dilation
        single = len(hidden_states) == 1 and hidden_states.numel() <= 20480
        inputs = hidden_states.expand(2, -1, -1) if single else hidden_states
        output = nn.functional.conv1d(inputs, self.weight, self.bias, self.stride, self.padding, dilation)
        return output[: len(hidden_states)]


class Linear(nn.Linear):
    """A matrix product rounds by the number of its rows, a single one even by where it lies: two of each item."""

    def forward(self, values: Tensor) -> Tensor:
        if not exact(values):
            return super().forward(values)
        return torch.cat([super(Linear, self).forward(item.expand(2, *item.shape))[:1] for item in values])


class FrameNorm(nn.Module):
    """RMS norm over the channels of each frame (Zhang and Sennrich 2019), statistics in fp32."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(batch, channels, frames) in and out."""
        mean_square = hidden_states.float().square().mean(dim=1, keepdim=True)  # (batch, 1, frames)
        gain = self.weight[:, None].to(hidden_states.dtype)  # (channels, 1)
        return hidden_states * torch.rsqrt(mean_square + 1e-6).to(hidden_states.dtype) * gain


class ResidualBlock(nn.Module):
    """Two convolutions of three frames; between them the conditioning vector scales and shifts the channels (FiLM)."""

    def __init__(self, channels: int, embedding_dim: int):
        super().__init__()
        self.norm1 = FrameNorm(channels)
        self.conv1 = Conv(channels, channels, 3, padding=1)
        self.norm2 = FrameNorm(channels)
        self.film = zero(Linear(embedding_dim, 2 * channels))
        self.conv2 = zero(Conv(channels, channels, 3, padding=1))

    def forward(self, hidden_states: Tensor, embedding: Tensor, mask: Tensor | None) -> Tensor:
        update = nn.functional.silu(self.norm1(hidden_states))
        update = self.norm2(self.conv1(hide(update, mask)))
        scale, shift = self.film(embedding).to(update.dtype).unsqueeze(-1).chunk(2, dim=1)  # (batch, channels, 1)
        update = nn.functional.silu(torch.addcmul(shift, update, 1 + scale))
        return hidden_states + self.conv2(hide(update, mask))


class Attention(nn.Module):
    """Frames attend to frames (with rotary positions) or to tokens; queries and keys are normalised per head."""

    def __init__(self, channels: int, source_dim: int, head_dim: int, rotary: bool):
        super().__init__()
        self.head_dim, self.rotary = head_dim, rotary
        self.to_q = Conv(channels, channels, 1, bias=False)
        self.to_k = Conv(source_dim, channels, 1, bias=False)
        self.to_v = Conv(source_dim, channels, 1, bias=False)
        self.to_out = zero(Conv(channels, channels, 1))
        self.query_gain = nn.Parameter(torch.ones(head_dim))

    def forward(self, hidden_states: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """`source` (batch, source_dim, keys); `mask` (batch, 1, keys) bool, True = attend to this key."""
        query, key, value = (  # row by row, since norms round by where values lie, and a fused kernel reads them so
            states.unflatten(1, (-1, self.head_dim)).transpose(2, 3).contiguous()  # (batch, heads, keys, head_dim)
            for states in (self.to_q(hidden_states), self.to_k(source), self.to_v(source))
        )
        query = nn.functional.rms_norm(query, (self.head_dim,), eps=1e-6) * self.query_gain
        key = nn.functional.rms_norm(key, (self.head_dim,), eps=1e-6)
        if self.rotary:
            query, key = rotate(query), rotate(key)
        if mask is not None:  # an item without a visible key attends to all: its frames are hidden, but must not be NaN
            mask = (mask | ~mask.any(dim=2, keepdim=True))[:, None]  # (batch, 1, 1, keys)
        query, key = query.to(value.dtype), key.to(value.dtype)  # autocast leaves the norms in fp32
        output = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out(output.transpose(2, 3).flatten(1, 2))  # (batch, channels, frames)


class UNetLayer(nn.Module):
    """A residual block and, at levels that have it, attention: the unit that is repeated and checkpointed."""

    def __init__(self, channels: int, embedding_dim: int, head_dim: int, context_dim: int, attention: bool):
        super().__init__()
        self.residual = ResidualBlock(channels, embedding_dim)
        self.self_attention = self.cross_attention = None
        if attention:
            self.norm1, self.norm2 = FrameNorm(channels), FrameNorm(channels)
            self.self_attention = Attention(channels, channels, head_dim, rotary=True)
            self.cross_attention = Attention(channels, context_dim, head_dim, rotary=False)

    def forward(
        self, hidden_states: Tensor, embedding: Tensor, context: Tensor, context_mask: Tensor, frame_mask: Tensor | None
    ) -> Tensor:
        """`hidden_states` (batch, channels, frames), `embedding` (batch, dim), `context` (batch, dim, tokens)."""
        hidden_states = self.residual(hidden_states, embedding, frame_mask)
        if self.self_attention is not None:
            normed = self.norm1(hidden_states)
            hidden_states = hidden_states + self.self_attention(normed, normed, frame_mask)
            normed = self.norm2(hidden_states)
            hidden_states = hidden_states + self.cross_attention(normed, context, context_mask)
        return hidden_states


class OctaveEmbedding(nn.Module):
    """A positive number -> token: Fourier features of its logarithm, so a semitone of tempo is a semitone anywhere."""

    def __init__(self, dim: int):
        super().__init__()
        self.linear1 = Linear(2 * NUM_OCTAVE_FREQUENCIES, dim)
        self.linear2 = Linear(dim, dim)
        self.null = nn.Parameter(torch.randn(dim) * 0.02)

    def forward(self, values: Tensor) -> Tensor:
        """(batch,) with NaN = absent -> (batch, dim)."""
        values = values.float()
        octaves = values.nan_to_num(nan=1.0).clamp(min=1e-3).log2()
        exponents = torch.linspace(-5.0, 3.0, NUM_OCTAVE_FREQUENCIES, dtype=torch.float32, device=values.device)
        angles = 2 * math.pi * octaves[:, None] * 2.0**exponents  # periods of 32 octaves down to 1/8
        features = torch.cat([angles.sin(), angles.cos()], dim=1).to(self.null.dtype)  # weights may be stored in fp8
        token = self.linear2(nn.functional.silu(self.linear1(features)))
        return torch.where(values.isnan()[:, None], self.null.to(token.dtype), token)


class NotePath(nn.Module):
    """Note rolls -> features of each frame, and from them what is added before the way down and before the way up.

    What plays a role is an embedding, added for each role in all frames, and one that is added to the vector of FiLM.
    The latter and the two last convolutions are zero at first, so that a network that gains a note path predicts what
    it did before.
    """

    def __init__(self, note_channels: int, dim: int, instruments: int, channels: int, ways: int, embedding_dim: int):
        super().__init__()
        self.conv_in = Conv(note_channels, dim, 1)
        self.instruments = nn.ModuleList(nn.Embedding(instruments + 1, dim) for _ in range(NUM_ROLES))  # row 0: unknown
        for embedding in self.instruments:
            nn.init.normal_(embedding.weight, std=0.1)
        self.pooled = nn.ModuleList(nn.Embedding(instruments + 1, embedding_dim) for _ in range(NUM_ROLES))
        for embedding in self.pooled:
            nn.init.zeros_(embedding.weight)
        self.ways = nn.ModuleList(zero(Conv(dim, channels, 3, padding=1)) for _ in range(ways))

    def forward(self, note_roll: Tensor, role_instruments: Tensor, mask: Tensor | None) -> list[Tensor]:
        """(batch, note_channels, frames) and (batch, 4), -1 = unknown -> (batch, channels, frames) for each way."""
        features = self.conv_in(note_roll)
        for role, embedding in enumerate(self.instruments):
            features = features + embedding(role_instruments[:, role] + 1)[..., None].to(features.dtype)
        features = hide(nn.functional.silu(features), mask)
        return [conv(features) for conv in self.ways]

    def pool(self, role_instruments: Tensor) -> Tensor:
        """(batch, 4), -1 = unknown -> (batch, embedding_dim)."""
        return sum(embedding(role_instruments[:, role] + 1) for role, embedding in enumerate(self.pooled))


class LinearPath(nn.Module):
    """The part of the prediction that is linear in the noisy latents, past all layers.

    One filter over time for each channel at each of NUM_FILTER_LEVELS timesteps, interpolated between them. Trained on
    squared errors it becomes the Wiener filter of each channel. Without it, the layers have to carry the noise of all
    channels to the output, which costs width and leaves an error of its own: the same thought as c_skip in Karras et
    al. 2022, table 1 (https://arxiv.org/abs/2206.00364), but latents of music are far from white.
    """

    def __init__(self, channels: int, taps: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(NUM_FILTER_LEVELS, channels, taps))

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """(batch, channels, frames) in and out, in fp32; timestep (batch,) in [0, 1000]."""
        place = (timestep / 1000.0).clamp(0.0, 1.0) * (NUM_FILTER_LEVELS - 1)
        low = place.long().clamp(max=NUM_FILTER_LEVELS - 2)
        share = (place - low)[:, None, None]
        weight = self.weight.float()
        filters = (1.0 - share) * weight[low] + share * weight[low + 1]  # (batch, channels, taps)
        taps, frames = filters.shape[2], sample.shape[2]
        padded = nn.functional.pad(sample.float(), (taps // 2, taps // 2))
        # Tap by tap: a grouped convolution would round by the size of the batch.
        return sum(filters[:, :, tap, None] * padded[:, :, tap : tap + frames] for tap in range(taps))


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
        linear_taps: frames that the filters of `LinearPath` span, odd; 0 builds a model without it.
        note_channels: channels of `note_roll`, as `ROLL_CHANNELS` in vivace_process.py; 0 builds a model without notes.
        note_dim: width of the features of notes, a multiple of 32.
        instruments: names of the instruments that `role_instruments` counts, in their order.
        reference_channels: length of `reference`, twice the latents' channels; 0 builds a model without it.
        jump_guidance: guidance strength within the jumps of a distilled network (`training.distill`); None builds a
            model that makes no jumps.

    Raises:
        ValueError: lists of unequal length, a width that the heads do not divide, `linear_taps` that do not fit,
            instruments without notes, or an instrument that is named twice.
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
        block_out_channels: tuple[int, ...] = (160, 256, 384),
        layers_per_block: tuple[int, ...] = (1, 1, 2),
        attention: tuple[bool, ...] = (False, True, True),
        attention_head_dim: int = 64,
        cross_attention_dim: int = 128,
        context_dim: int = 256,
        embedding_dim: int = 384,
        linear_taps: int = 0,
        note_channels: int = 0,
        note_dim: int = 192,
        instruments: list[str] | None = None,
        reference_channels: int = 0,
        jump_guidance: float | None = None,
    ):
        super().__init__()
        if linear_taps and (linear_taps < 0 or linear_taps % 2 == 0 or in_channels != out_channels):
            raise ValueError(
                f"linear_taps must be 0 or, where in_channels equals out_channels, odd; got {linear_taps} with "
                f"{in_channels} and {out_channels} channels"
            )
        widths = list(block_out_channels)
        if not widths or not len(widths) == len(layers_per_block) == len(attention):
            sizes = f"{len(widths)}, {len(layers_per_block)} and {len(attention)}"
            raise ValueError(
                f"block_out_channels, layers_per_block and attention must have one entry per level, got {sizes}"
            )
        if attention_head_dim % 2 or any(w % attention_head_dim for w, a in zip(widths, attention, strict=True) if a):
            got = f"got {attention_head_dim} for block_out_channels {widths}"
            raise ValueError(f"attention_head_dim must be even and divide the levels with attention, {got}")
        instruments = list(instruments or ())
        if instruments and not note_channels:
            raise ValueError(f"instruments has {len(instruments)} names; allowed: none where note_channels is 0")
        if len(set(instruments)) < len(instruments):
            twice = next(name for name in instruments if instruments.count(name) > 1)
            raise ValueError(f"instruments has {twice!r} twice; allowed: each name once")
        self.gradient_checkpointing = False
        self.conv_in = Conv(in_channels, widths[0], 3, padding=1)
        frame_cond = Conv(frame_cond_channels, widths[0], 3, padding=1) if frame_cond_channels else None
        self.conv_frame_cond = None if frame_cond is None else zero(frame_cond)
        first, second = Linear(widths[0], embedding_dim), Linear(embedding_dim, embedding_dim)
        self.time_embedding = nn.Sequential(first, nn.SiLU(), second)
        self.text_tokens = Linear(cross_attention_dim, context_dim)
        self.text_pooled = Linear(cross_attention_dim, embedding_dim)
        self.null_text_token = nn.Parameter(torch.randn(context_dim) * 0.02)
        self.null_text_pooled = nn.Parameter(torch.randn(embedding_dim) * 0.02)
        self.duration_embedding = OctaveEmbedding(context_dim)
        self.bpm_embedding = OctaveEmbedding(context_dim)
        self.key_embedding = nn.Embedding(NUM_KEYS + 1, context_dim)  # row 0 = absent
        self.meter_embedding = nn.Embedding(MAX_BEATS_PER_BAR + 2, context_dim)  # row 0 = absent
        self.scalar_pooled = Linear(len(SCALARS) * context_dim, embedding_dim)

        def make_layers(level: int) -> nn.ModuleList:
            sizes = (widths[level], embedding_dim, attention_head_dim, context_dim, attention[level])
            return nn.ModuleList(UNetLayer(*sizes) for _ in range(layers_per_block[level]))

        levels, pairs = range(len(widths) - 1), list(itertools.pairwise(widths))
        self.down_layers = nn.ModuleList(make_layers(level) for level in levels)
        self.downsamplers = nn.ModuleList(Conv(fine, coarse, 4, stride=2, padding=1) for fine, coarse in pairs)
        self.mid_layers = make_layers(len(levels))
        self.upsamplers = nn.ModuleList(Conv(coarse, fine, 1) for fine, coarse in pairs)
        self.mergers = nn.ModuleList(Conv(2 * fine, fine, 1) for fine, _ in pairs)
        self.up_layers = nn.ModuleList(make_layers(level) for level in levels)

        self.norm_out = FrameNorm(widths[0])
        self.conv_out = zero(Conv(widths[0], out_channels, 3, padding=1))
        self.linear_path = LinearPath(in_channels, linear_taps) if linear_taps else None
        self.note_path = None
        if note_channels:
            ways = 2 if len(widths) > 1 else 1
            self.note_path = NotePath(note_channels, note_dim, len(instruments), widths[0], ways, embedding_dim)
        self.reference_embedding = self.jump_embedding = None
        if reference_channels:
            first, last = Linear(reference_channels, embedding_dim), zero(Linear(embedding_dim, embedding_dim))
            self.reference_embedding = nn.Sequential(first, nn.SiLU(), last)
        if jump_guidance is not None:
            first, last = Linear(widths[0], embedding_dim), zero(Linear(embedding_dim, embedding_dim))
            self.jump_embedding = nn.Sequential(first, nn.SiLU(), last)

    def embed_text(self, batch: int, text: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (batch, tokens + 1, context_dim), which to attend to (batch, tokens + 1), pooled (batch, dim).

        The last token is the learned null, attended to by the items that have no text and by no other.
        """
        null_token, null_pooled = self.null_text_token.expand(batch, 1, -1), self.null_text_pooled.expand(batch, -1)
        if text is None:
            return null_token, null_token.new_ones(batch, 1, dtype=torch.bool), null_pooled
        visible = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device) if mask is None else mask > 0
        text = text.to(null_token.dtype).masked_fill(~visible[..., None], 0.0)
        text = nn.functional.rms_norm(text, text.shape[-1:], eps=1e-6)  # encoders differ in scale
        count = visible.sum(dim=1, keepdim=True)  # (batch, 1)
        pooled = self.text_pooled(text.sum(dim=1) / count.clamp(min=1))
        pooled = torch.where(count > 0, pooled, null_pooled.to(pooled.dtype))
        tokens = self.text_tokens(text)
        tokens = torch.cat([tokens, null_token.to(tokens.dtype)], dim=1)
        return tokens, torch.cat([visible, count == 0], dim=1), pooled

    def embed_scalars(self, batch: int, given: dict[str, Tensor]) -> Tensor:
        """One token per scalar, (batch, 4, context_dim)."""
        for name, value in given.items():
            if name not in SCALARS:
                raise ValueError(f"added_cond_kwargs has no entry {name!r}; allowed: {', '.join(SCALARS)}")
            check_shape(f"added_cond_kwargs[{name!r}]", value, batch)
        no_number = torch.full((batch,), math.nan, dtype=torch.float32, device=self.null_text_token.device)
        no_index = torch.full((batch,), -1, device=self.null_text_token.device)
        duration_s, bpm = (given.get(name, no_number) for name in SCALARS[:2])
        key, meter = (given.get(name, no_index) + 1 for name in SCALARS[2:])
        tokens = [self.duration_embedding(duration_s), self.bpm_embedding(bpm)]
        tokens += [self.key_embedding(key), self.meter_embedding(meter)]
        return torch.stack([token.to(tokens[0].dtype) for token in tokens], dim=1)

    def run(self, layers: nn.ModuleList, hidden_states: Tensor, *args: Tensor | None) -> Tensor:
        for layer in layers:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states = self._gradient_checkpointing_func(layer, hidden_states, *args)
            else:
                hidden_states = layer(hidden_states, *args)
        return hidden_states

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        frame_cond: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        frame_mask: Tensor | None = None,
        note_roll: Tensor | None = None,
        role_instruments: Tensor | None = None,
        reference: Tensor | None = None,
        jump: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNet1DOutput | tuple[Tensor]:
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
            note_roll: (batch, note_channels, frames) as `note_roll` in vivace_process.py makes them; zeros, as None,
                leave every role free to play what fits.
            role_instruments: long (batch, 4), what plays lead, harmony, bass and drums: a place in `instruments` of
                the config, -1 = unknown; None = all are.
            reference: (batch, reference_channels), mean and then standard deviation over the frames of each latent
                channel of audio that this is to sound like; NaN in a row, as None, leaves the sound free.
            jump: (batch,) of a distilled network, how far the step from `timestep` goes, in [0, 1000]: the prediction
                is then the mean velocity of the guided way there. 0, as None, is the velocity at `timestep` without
                guidance.
            return_dict: whether to return a `UNet1DOutput` or a tuple.

        Raises:
            ValueError: a shape that does not fit, or an unknown entry of `added_cond_kwargs`.
        """
        config, dtype = self.config, self.dtype
        check_shape("sample", sample, "batch", config.in_channels, "frames")
        batch, _, frames = sample.shape
        if not frames:
            raise ValueError("sample must have at least 1 frame, got 0")
        check_shape("encoder_hidden_states", encoder_hidden_states, batch, "tokens", config.cross_attention_dim)
        check_shape("frame_cond", frame_cond, batch, config.frame_cond_channels, frames)
        check_shape("frame_mask", frame_mask, batch, frames)
        check_shape("note_roll", note_roll, batch, config.note_channels, frames)
        check_shape("role_instruments", role_instruments, batch, NUM_ROLES if config.note_channels else 0)
        tokens = 0 if encoder_hidden_states is None else encoder_hidden_states.shape[1]
        check_shape("encoder_attention_mask", encoder_attention_mask, batch, tokens)
        check_shape("reference", reference, batch, config.reference_channels)
        check_shape("jump", jump, batch if self.jump_embedding is not None else 0)

        # What is known of the whole piece: one vector for FiLM, a few tokens for cross-attention.
        timestep = torch.as_tensor(timestep, dtype=torch.float32, device=sample.device).expand(batch)
        waves = get_timestep_embedding(timestep, config.block_out_channels[0], True, 0).to(dtype)  # computed in fp32
        text, text_visible, pooled = self.embed_text(batch, encoder_hidden_states, encoder_attention_mask)
        scalars = self.embed_scalars(batch, added_cond_kwargs or {})
        embedding = self.time_embedding(waves) + pooled + self.scalar_pooled(scalars.flatten(1))
        if role_instruments is None:
            role_instruments = torch.full((batch, NUM_ROLES), -1, device=sample.device)
        if self.note_path is not None:
            embedding = embedding + self.note_path.pool(role_instruments).to(embedding.dtype)
        if reference is not None and self.reference_embedding is not None:
            free = reference.isnan().any(dim=1, keepdim=True)
            sound = self.reference_embedding(reference.nan_to_num().to(dtype))
            embedding = embedding + sound.masked_fill(free, 0.0)
        if jump is not None and self.jump_embedding is not None:
            waves = get_timestep_embedding(jump, config.block_out_channels[0], True, 0).to(dtype)
            embedding = embedding + self.jump_embedding(waves) * (jump > 0)[:, None]
        embedding = nn.functional.silu(embedding)
        context = torch.cat([text.to(scalars.dtype), scalars], dim=1).transpose(1, 2)  # (batch, context_dim, tokens)
        visible = torch.cat([text_visible, text_visible.new_ones(batch, len(SCALARS))], dim=1)[:, None]

        # Pad to a whole number of the coarsest frames; the padding is hidden just like the caller's own.
        levels = len(config.block_out_channels)
        padding, masks = -frames % 2 ** (levels - 1), [None] * levels
        if frame_mask is not None or padding:
            mask = sample.new_ones(batch, frames) if frame_mask is None else frame_mask
            mask = nn.functional.pad(mask > 0, (0, padding))[:, None]  # (batch, 1, frames)
            masks = [mask.unflatten(2, (-1, 2**level)).any(dim=3) for level in range(levels)]
            sample = nn.functional.pad(sample, (0, padding)).masked_fill(~mask, 0.0)
            if frame_cond is not None:
                frame_cond = nn.functional.pad(frame_cond, (0, padding)).masked_fill(~mask, 0.0)
            if note_roll is not None:
                note_roll = nn.functional.pad(note_roll, (0, padding)).masked_fill(~mask, 0.0)

        hidden_states = self.conv_in(sample.to(dtype))
        if frame_cond is not None:
            hidden_states = hidden_states + self.conv_frame_cond(frame_cond.to(dtype))
        notes = []
        if self.note_path is not None:
            if note_roll is None:
                note_roll = sample.new_zeros(batch, config.note_channels, sample.shape[2])
            notes = self.note_path(note_roll.to(dtype), role_instruments, masks[0])
            hidden_states = hidden_states + notes[0]
        conditions, skips = (embedding, context, visible), []
        for layers, downsample, mask in zip(self.down_layers, self.downsamplers, masks[:-1], strict=True):
            hidden_states = self.run(layers, hidden_states, *conditions, mask)
            skips.append(hidden_states)
            hidden_states = downsample(hide(hidden_states, mask))
        hidden_states = self.run(self.mid_layers, hidden_states, *conditions, masks[-1])
        for level in reversed(range(levels - 1)):
            hidden_states = self.upsamplers[level](hidden_states).repeat_interleave(2, dim=2)
            hidden_states = self.mergers[level](torch.cat([hidden_states, skips[level]], dim=1))
            if notes and level == 0:
                hidden_states = hidden_states + notes[1]
            hidden_states = self.run(self.up_layers[level], hidden_states, *conditions, masks[level])
        hidden_states = hide(nn.functional.silu(self.norm_out(hidden_states)), masks[0])
        prediction = self.conv_out(hidden_states)
        if self.linear_path is not None:
            prediction = prediction.float() + self.linear_path(sample, timestep)
        prediction = hide(prediction, masks[0])[..., :frames].to(sample.dtype)
        return UNet1DOutput(sample=prediction) if return_dict else (prediction,)
