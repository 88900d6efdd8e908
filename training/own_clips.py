"""What a network makes of the training clips' conditions: the other half of each batch of training/refinement.py."""

from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMScheduler, SchedulerMixin
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_conditions import Conditions
from pipelines.vivace_denoise import Batch, denoise
from pipelines.vivace_guidance import Guidance
from training import loop
from training.data.conditions import TrainingCrops

PART = 16  # clips made at once and kept in one file


def sampling_scheduler(scheduler: SchedulerMixin) -> SchedulerMixin:
    """One for few steps of the same process, which keeps its own place among them."""
    kind = DDIMScheduler if isinstance(scheduler, DDPMScheduler) else type(scheduler)
    return kind.from_config(scheduler.config)


@torch.no_grad()
def sample(
    network: UNet1DConditionModel,
    scheduler: SchedulerMixin,
    batch: dict[str, torch.Tensor],
    noise: torch.Tensor,
    num_steps: int,
    guidance_scale: float,
) -> torch.Tensor:
    """Clean latents (batch, channels, frames) fp32, made by the pipeline's own loop.

    Args:
        network: whose clips are asked for.
        scheduler: of `sampling_scheduler`.
        batch: items of `TrainingCrops`; given frames stay as they are.
        noise: to begin with, of the shape of the batch's latents.
        num_steps, guidance_scale: as in the pipeline; 1 = no guidance.
    """
    count, device = len(noise), noise.device
    visible, mask = batch["frame_mask"] > 0, batch["mask"][:, None]
    told = Conditions(
        states=torch.cat([batch["text"], torch.zeros_like(batch["text"])]),
        states_mask=torch.cat([batch["text_mask"], torch.zeros_like(batch["text_mask"])]),
        owner=torch.arange(count, device=device),
        weights=torch.ones(count, noise.shape[2], device=device),
        grid=batch["grid"],
        edit=torch.cat([mask, batch["latents"] * (1.0 - mask)], dim=1),
        scalars={name: batch[name] for name in ("duration_s", "bpm", "key", "beats_per_bar")},
        visible=visible,
    )
    zero, one = torch.zeros(count, device=device), torch.ones(count, device=device)
    strength = one * guidance_scale
    pieces = Batch(
        told=told,
        guidance=Guidance(strength, strength, zero, zero, one, 1.0, None, 0.0),
        noise=noise * visible[:, None],
        clean=batch["latents"],
        keep=(batch["mask"] < 1) & visible,
        strength=1.0,
        loop=False,
        generators=[torch.Generator(device).manual_seed(row) for row in range(count)],
    )
    pipe = SimpleNamespace(unet=network, scheduler=scheduler, interrupt=False, guidance_rows=None)
    silent = SimpleNamespace(update=lambda: None)
    return denoise(pipe, pieces, num_steps, None, [], silent) * visible[:, None]


class OwnClips:
    """Clips of a network under conditions of the training clips, dropped and masked as in training.

    Clip i of a round is a function of (seed, round, i) and the network. Of each only the latents are kept; what it was
    told is read again from the clip that it was told of.

    Args:
        items: training clips.
        folder: of the round's files; what is there already is not made again.
        seed, number: of the run, and of the round.
        count: clips of a round, a multiple of 16.
    """

    def __init__(self, items: TrainingCrops, folder: Path, seed: int, number: int, count: int):
        self.items, self.folder, self.seed, self.number, self.count = items, folder, seed, number, count
        self.latents: torch.Tensor | None = None

    def told(self, index: int) -> dict[str, torch.Tensor]:
        """The training item of which clip `index` has the conditions."""
        rng = loop.item_rng(self.seed, 8, self.number, index)
        return self.items.read(int(rng.integers(len(self.items))), rng)

    def make(
        self,
        network: UNet1DConditionModel,
        scheduler: SchedulerMixin,
        num_steps: int,
        guidance_scale: float,
        accelerator: Accelerator,
    ) -> None:
        """Make what is missing, each process its share of the files, and read them all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / f"{part:05d}.safetensors" for part in range(self.count // PART)]
        mine = [part for part in range(len(paths)) if part % accelerator.num_processes == accelerator.process_index]
        scheduler = sampling_scheduler(scheduler)
        for part in tqdm(mine, desc=f"own clips, round {self.number}", disable=not accelerator.is_main_process or None):
            if paths[part].is_file():
                continue
            items = [self.told(index) for index in range(part * PART, (part + 1) * PART)]
            batch = {name: torch.stack([item[name] for item in items]).to(accelerator.device) for name in items[0]}
            noise = torch.randn(batch["latents"].shape, generator=loop.torch_rng(self.seed, 9, self.number, part))
            with accelerator.autocast():
                made = sample(network, scheduler, batch, noise.to(accelerator.device), num_steps, guidance_scale)
            partial = paths[part].with_name(paths[part].name + ".partial")
            save_file({"latents": made.half().cpu().contiguous()}, partial)
            partial.replace(paths[part])
        accelerator.wait_for_everyone()
        self.latents = torch.cat([load_file(path)["latents"] for path in paths])

    def read(self, index: int) -> dict[str, torch.Tensor]:
        """Clip `index` in the place of the training clip that it was told of."""
        return {**self.told(index), "latents": self.latents[index].float()}
