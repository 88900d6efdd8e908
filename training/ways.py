"""What distillation and rewards share: the pipeline's way from noise to data for items of the latents, and a network
that is trained beside the one that it was."""

import copy
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn

from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_process import Conditions
from pipelines.vivace_sampling import Batch, CallState, Denoiser, Guidance
from training import lora
from training.config import AdapterRun, LatentRun
from training.data.latents import LatentCrops


def check_start(config: LatentRun) -> None:
    """Raise a ValueError unless `init_from` is a checkpoint folder."""
    if config.init_from is None or not (Path(config.init_from) / "model_index.json").is_file():
        raise ValueError(f"init_from is {config.init_from!r}; allowed: a checkpoint folder, which has model_index.json")


def crops_for(pipe: VivacePipeline, config: LatentRun, split: str) -> LatentCrops:
    """Crops of a split of `data_dir`, standardised as the network of the checkpoint `init_from` was trained on them.

    Raises:
        ValueError: the latents were made by another autoencoder or text encoder.
    """
    crops = LatentCrops(config.data_dir, split, config.crop_frames)
    if any(crops.about[name] != pipe.vae.config[name] for name in ("latents_mean", "latents_std")):
        lora.use_statistics(crops, Path(str(config.init_from)), config.data_dir)
    if pipe.unet.config.note_channels:
        crops.instruments = pipe.unet.config.instruments or []
    crops.references = bool(pipe.unet.config.reference_channels)
    return crops


class Ways:
    """The pipeline's way from noise to data for batches of `TrainingCrops` items.

    Args:
        pipe: a checkpoint.
        device: where its network is to be.
        distilled: whether its network is to be a distilled one.

    Raises:
        ValueError: a scheduler of another process than the flow, or a network that was distilled and is not to be, or
            the reverse.
    """

    def __init__(self, pipe: VivacePipeline, device: torch.device, distilled: bool = False):
        self.pipe, self.device = pipe, device
        self.unet = pipe.unet.to(device).requires_grad_(False).eval()
        if not isinstance(pipe.scheduler, FlowMatchEulerDiscreteScheduler):
            raise ValueError(
                f"init_from: its scheduler is a {type(pipe.scheduler).__name__}; allowed: "
                "FlowMatchEulerDiscreteScheduler"
            )
        if self.unet.config.jump_guidance is not None and not distilled:
            raise ValueError("init_from: its network is a distilled one; allowed: the one that it was distilled from")
        if self.unet.config.jump_guidance is None and distilled:
            raise ValueError("init_from: its network was not distilled; allowed: one of training.distill")

    def guidance(self, batch: dict[str, torch.Tensor], on: bool) -> Guidance:
        """The checkpoint's default strengths for each item, or none."""
        config, count = self.pipe.config, len(batch["latents"])

        def column(value: float) -> torch.Tensor:
            return torch.full((count,), float(value), device=self.device)

        text = column(config.default_guidance_scale if on else 1.0)
        grid = text
        if on and config.default_score_guidance_scale is not None and "note_roll" in batch:
            plays = batch["note_roll"].flatten(1).any(dim=1)
            grid = torch.where(plays, column(config.default_score_guidance_scale), text)
        low, high = column(config.default_guidance_low), column(config.default_guidance_high)
        return Guidance(text, grid, column(0.0), low, high, config.default_apg_eta, None, 0.0)

    @torch.no_grad()
    def way(
        self,
        batch: dict[str, torch.Tensor],
        noise: torch.Tensor,
        steps: int,
        unet: nn.Module | None = None,
        guided: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The latents at each place of the way, (batch, steps + 1, channels, frames) fp32, and the noise levels there,
        (steps + 1,), from 1 to 0.

        Args:
            batch: items, on the device.
            noise: of the shape of their latents.
            steps: of the way.
            unet: the network that goes it; None = the checkpoint's.
            guided: whether with the checkpoint's guidance; jumps of a student have it within.
        """
        clean, visible, given = batch["latents"], batch["frame_mask"], 1.0 - batch["mask"][:, None]
        count, frames = visible.shape
        none = torch.zeros(0, dtype=torch.long, device=self.device)
        conditions = Conditions(
            states=batch["text"],
            states_mask=batch["text_mask"],
            owner=torch.arange(count, device=self.device),
            weights=torch.ones(count, frames, device=self.device),
            unwanted_owner=none,
            unwanted_weights=torch.zeros(0, frames, device=self.device),
            grid=batch["grid"],
            edit=torch.cat([1.0 - given, clean * given], dim=1),
            scalars={name: batch[name] for name in ("duration_s", "bpm", "key", "beats_per_bar")},
            visible=visible,
            roll=batch.get("note_roll"),
            players=batch.get("role_instruments"),
            reference=batch.get("reference"),
        )
        noise, places, scheduler = noise * visible[:, None], [], copy.deepcopy(self.pipe.scheduler)
        pieces = Batch(conditions, self.guidance(batch, guided), noise, clean, given[:, 0] > 0, 1.0, False, [])

        def keep(step: int, timestep: torch.Tensor, latents: torch.Tensor, shown: Conditions) -> torch.Tensor:
            places.append(latents)
            return latents

        Denoiser(self.unet if unet is None else unet, scheduler, steps).denoise(pieces, keep, CallState(1.0))
        levels = scheduler.sigmas.to(self.device)
        way = torch.stack([noise, *places], dim=1)
        straight = torch.lerp(clean[:, None], noise[:, None], levels[:, None, None])  # of the frames that are given
        return torch.where(given[:, None] > 0, straight, way), levels


class Policy:
    """The network that is trained, the one that makes candidates, and the frozen one that both were.

    Attributes:
        model: the first.
        trained: what of it is trained: all, or the layers of an adapter.
        old: the second; `old_trained` are its layers that follow.
        base: the third.
    """

    def __init__(self, config: AdapterRun, base: UNet1DConditionModel):
        self.base, self.model = base, copy.deepcopy(base).requires_grad_(True)
        self.trained: nn.Module = self.model
        if config.lora_rank:
            self.trained = lora.add_adapter(self.model, config).to(base.device)
        self.old = copy.deepcopy(self.model).requires_grad_(False)
        self.old_trained: nn.Module = lora.adapter_layers(self.old) if config.lora_rank else self.old

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move what makes candidates towards the trained weights; `decay` is the share that it keeps."""
        for old, new in zip(self.old_trained.parameters(), self.trained.parameters(), strict=True):
            old.lerp_(new.detach(), 1.0 - decay)
