"""What the stages of a call do with the parts of the pipeline: compose, draw noise, encode, decode, level.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from .vivace_audio import fit_circle
from .vivace_callbacks import CallState, on_cpu
from .vivace_compose import compose_scores
from .vivace_edit import kept_frames, network_input, splice
from .vivace_level import Leveller
from .vivace_request import Request
from .vivace_sampling import CIRCLE_MARGIN, Sampler, frame_noise


def cut(chunks: Iterable[torch.Tensor], samples: int) -> Iterator[torch.Tensor]:
    """Chunks (channels, n) up to that many samples in all."""
    for chunk in chunks:
        yield chunk[:, :samples]
        samples -= chunk.shape[1]
        if samples <= 0:
            return


class StagesMixin:
    """Methods of the pipeline that its stages call, and that encode and decode audio."""

    vae: Any  # these are the pipeline's
    composer: Any
    components: dict[str, Any]
    encode_prompt: Callable
    _execution_device: torch.device
    _running: Callable

    @property
    def frame_rate(self) -> float:
        """Latent frames a second."""
        return self.vae.config.sampling_rate / self.vae.hop_length

    def _latent_scale(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the autoencoder's latents, each (latent_channels, 1)."""
        config = self.vae.config
        if config.latents_mean is None or config.latents_std is None:
            return like.new_zeros(1, 1), like.new_ones(1, 1)
        return like.new_tensor(config.latents_mean)[:, None], like.new_tensor(config.latents_std)[:, None]

    @torch.no_grad()
    def encode_audio(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio (batch, channels, samples) at the pipeline's rate -> standardised latents, fp32."""
        latents = self.vae.encode(audio.to(self.vae.dtype)).latent_dist.mode().float()
        mean, std = self._latent_scale(latents)
        return (latents - mean) / std

    @torch.no_grad()
    def decode_latents(
        self, chunks: Iterable[torch.Tensor], loop: bool, samples: int | None = None
    ) -> Iterator[torch.Tensor]:
        """Standardised latents (1, latent_channels, n) of one piece, as a list of one or in chunks as they come ->
        audio (channels, samples) fp32 in chunks. One piece at a time: neighbours cannot change a sample.

        A loop is decoded to `samples` at equal pitch if the autoencoder can, else it is stretched there, pitch and all.
        """

        def raw(latents: torch.Tensor) -> torch.Tensor:
            mean, std = self._latent_scale(latents)
            return (latents * std + mean).to(self.vae.dtype)

        if isinstance(chunks, list):
            (latents,) = chunks
            options: dict[str, Any] = {"loop": True} if loop else {}
            if loop and samples is not None and "samples" in inspect.signature(self.vae.decode).parameters:
                options["samples"] = samples
            audio = self.vae.decode(raw(latents), **options).sample[0].float()
            yield fit_circle(audio, samples) if loop and samples is not None else audio
        else:
            for audio in self.vae.stream_decode(raw(latents) for latents in chunks):
                yield audio[0].float()

    @property
    def _device(self) -> torch.device:
        """Where the parts compute: also where one is offloaded and its weights are nowhere between its runs."""
        if self._execution_device.type != "meta":
            return self._execution_device
        models = [part for part in self.components.values() if isinstance(part, torch.nn.Module)]
        hooks = [getattr(module, "_hf_hook", None) for part in models for module in part.modules()]
        devices = [one for one in (getattr(hook, "execution_device", None) for hook in hooks) if one is not None]
        weights = [one.device for part in models for one in part.parameters() if one.device.type != "meta"]
        return torch.device([*devices, *weights][0])

    def _compose(self, requests: list[Request], embeds: torch.Tensor | None, embeds_mask: torch.Tensor | None) -> None:
        """Write the notes of requests with a plan, in place. The mean of its text states is a condition of a piece."""
        if not requests:
            return
        text = self._caption_states(requests, embeds, embeds_mask)
        plans = [item.plan for item in requests if item.plan is not None]
        seeds = [item.seed for item in requests]
        for item, score in zip(requests, compose_scores(self.composer, plans, seeds, text), strict=True):
            item.play(score)

    def _caption_states(
        self, requests: list[Request], embeds: torch.Tensor | None, embeds_mask: torch.Tensor | None
    ) -> torch.Tensor:
        """(pieces, dim), the mean of each piece's text states over tokens and, by their weights, over its texts."""
        text = []
        for item in requests:
            if embeds is not None:
                states, mask = embeds[item.place][None], None if embeds_mask is None else embeds_mask[item.place][None]
            else:
                states, mask = self.encode_prompt([one for one in item.texts if one is not None], self._device)
            mask = torch.ones(states.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
            mean = (states * mask.to(states)[..., None]).sum(1) / mask.sum(1).clamp_min(1).to(states)[:, None]
            share = item.weights.sum(1) / item.weights.sum()
            text.append((mean.float().cpu() * share[:, None]).sum(0))
        return torch.stack(text)

    def _draw_noise(self, requests: list[Request], shape: tuple) -> tuple[torch.Tensor, list[torch.Generator]]:
        """Noise (pieces, latent_channels, frames) of the requests' seeds, and the generators after it."""
        noise, generators = torch.zeros(shape, dtype=torch.float32), []
        for row, item in enumerate(requests):
            noise[row, :, : item.frames], source = frame_noise(item.seed, item.frames, shape[1])
            generators.append(source)
        return noise, generators

    def _encode_edits(self, requests: list[Request], noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents of given audio, zero where there is none, and which frames are kept, (pieces, frames) bool."""
        clean, keep = torch.zeros_like(noise), torch.zeros_like(noise[:, 0], dtype=torch.bool)
        rate, channels, hop = self.vae.config.sampling_rate, self.vae.config.audio_channels, self.vae.hop_length
        for row, item in enumerate(requests):
            if item.edit is None:
                continue
            margin = CIRCLE_MARGIN if item.loop else 0
            audio = network_input(item.edit, rate, channels, item.frames * hop, margin * hop)
            encoded = self.encode_audio(audio.to(noise.device))[0]
            clean[row, :, : item.frames] = encoded[:, margin : margin + item.frames]
            keep[row, : item.frames] = kept_frames(item.edit, item.frames, self.frame_rate)
            keep[row] |= item.strength == 0.0
        return clean, keep

    def _decode(self, item: Request, latents: Iterable[torch.Tensor]) -> torch.Tensor:
        """Latents of one piece in chunks -> its audio (channels, samples) fp32 as decoded."""
        return torch.cat(list(cut(self.decode_latents(latents, item.loop, item.samples), item.samples)), dim=1)

    def _leveller(self, item: Request) -> Leveller:
        """What brings a piece to its level and tone."""
        tone, rate = item.tone, self.vae.config.sampling_rate
        return Leveller(
            rate, item.samples, tone.loudness_lufs if tone.normalize else None, tone.true_peak_dbtp, tone.tilt_db,
            tone.fade_in_s, tone.fade_out_s, item.loop,
        )  # fmt: skip

    def _finish(self, item: Request, latents: Iterable[torch.Tensor], whole: bool = True) -> Iterator[torch.Tensor]:
        """Latents of one piece in chunks -> its audio (channels, n) fp32, in chunks that together have its length.

        The gain is that of the `whole` piece, all of which is then made first; in a stream its first chunk decides.
        """
        if item.edit is not None and item.strength == 0.0:
            yield item.edit.audio
            return
        if item.edit is not None:
            ceiling = item.tone.true_peak_dbtp if item.tone.normalize else None
            yield splice(item.edit, self._decode(item, latents), self.vae.config.sampling_rate, ceiling)
            return
        leveller = self._leveller(item)
        decoded: Iterable[torch.Tensor] = cut(self.decode_latents(latents, item.loop, item.samples), item.samples)
        if whole:
            decoded = list(decoded)
            leveller.measure(decoded)
        yield from leveller.run(decoded)

    @torch.no_grad()
    def _stream(self, item: Request, sampler: Sampler, on_step: Callable, state: CallState) -> Iterator[np.ndarray]:
        """The chunks of one piece, each made when it is taken."""
        with self._running(state):
            with on_cpu():
                chunks = self._finish(item, sampler.latents(on_step)[0], whole=False)
            while True:
                with on_cpu():
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                yield chunk.cpu().numpy()
