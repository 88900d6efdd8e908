"""A trained UNet told apart from real music by its own eye, and moved to where it can no longer be.

Direct discriminative optimisation (Zheng et al. 2025, https://arxiv.org/abs/2503.01103). The mean squared error has a
small network cover everything at the price of smearing it. Here the network is compared with a copy of itself as it
stood (the reference): the ratio of their likelihoods is a discriminator, and the objective is that of a GAN, with real
clips on one side and clips made by the reference on the other:

    margin(x) = beta (error_reference(x) - error(x)),   error(x): mean squared error of the prediction at one time
    loss = [softplus(-margin(real)) + own_weight softplus(margin(own))] / beta + data_weight error(real)

After each round the averaged weights become the reference and make new clips.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import loop
from training.config import RefineRun
from training.data.buckets import FRAME_WISE
from training.data.conditions import TrainingCrops
from training.files import replace_folder
from training.objective import Objective
from training.own_clips import OwnClips

Items = dict[str, torch.Tensor]


def together(first: Items, second: Items) -> Items:
    """Two batches as one, the shorter one padded with hidden frames."""
    frames = max(first["latents"].shape[2], second["latents"].shape[2])

    def padded(name: str, values: torch.Tensor) -> torch.Tensor:
        more = frames - values.shape[-1] if name in FRAME_WISE else 0
        return torch.nn.functional.pad(values, (0, more)) if more else values

    return {name: torch.cat([padded(name, first[name]), padded(name, second[name])]) for name in first}


def refinement_loss(
    before: torch.Tensor, errors: torch.Tensor, beta: float, own_weight: float, data_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of this module's docstring, a scalar, and the margins (2 items,).

    Args:
        before, errors: of the reference and of the network, (2 items,): real clips first, then own ones.
        beta: how soon a clip counts as told apart.
        own_weight, data_weight: of the own clips, and of the plain error of real ones.
    """
    margins = beta * (before - errors)
    real, own = margins.chunk(2)
    softplus = torch.nn.functional.softplus
    apart = (softplus(-real).mean() + own_weight * softplus(own).mean()) / beta
    return apart + data_weight * errors.chunk(2)[0].mean(), margins


class Refinement:
    """Reference, own clips and loss of a run, in the place of its `Objective`.

    Args:
        config, accelerator, objective: of the run.
        items: training clips.
        collate: items -> batch.
        model, ema: the network, and the average of it that becomes the reference of each round.
    """

    def __init__(
        self,
        config: RefineRun,
        accelerator: Accelerator,
        objective: Objective,
        items: TrainingCrops,
        collate: Callable[[list[Items]], Items],
        model: UNet1DConditionModel,
        ema: EMAModel,
    ):
        self.config, self.accelerator, self.objective, self.items = config, accelerator, objective, items
        self.collate, self.model, self.ema = collate, model, ema
        self.number, self.step = -1, -1
        self.reference: UNet1DConditionModel | None = None
        self.own: OwnClips | None = None

    def begin(self, step: int) -> None:
        """Before each step; at the first one of a round, or of a resumed run, make or find its reference and clips.

        Raises:
            ValueError: a resumed run whose round is gone.
        """
        self.step, number, config = step, step // self.config.round_steps, self.config
        if number == self.number:
            return
        folder = Path(config.output_dir) / "rounds" / f"{number:03d}"
        if not (folder / "unet").is_dir():
            if step % config.round_steps:
                raise ValueError(f"output_dir {config.output_dir} has no rounds/{number:03d}, which step {step} is in")
            self._keep_reference(folder)
        self.reference = UNet1DConditionModel.from_pretrained(folder / "unet").to(self.accelerator.device)
        self.reference.requires_grad_(False).eval()
        self.own = OwnClips(self.items, folder / "own", config.seed, number, config.own_clips)
        self.own.make(self.reference, self.objective.scheduler, config.own_steps, config.own_guidance, self.accelerator)
        self.number = number
        self._forget()

    def _forget(self) -> None:
        """Drop the rounds that no checkpoint goes on from: each holds weights and clips."""
        kept = loop.checkpoints(self.config.output_dir)
        if kept and self.accelerator.is_main_process:
            first = int(kept[0].name.removeprefix("step_")) // self.config.round_steps
            for folder in (Path(self.config.output_dir) / "rounds").iterdir():
                if int(folder.name) < first:
                    shutil.rmtree(folder)

    def _keep_reference(self, folder: Path) -> None:
        with loop.ema_weights(self.ema, self.model):
            if self.accelerator.is_main_process:
                partial = folder / "unet.partial"
                self.model.save_pretrained(partial)
                replace_folder(partial, folder / "unet")
        self.accelerator.wait_for_everyone()

    def draw(self, count: int, part: int) -> Items:
        """This process's own clips of an accumulation step, as many as it has real ones."""
        config, rng = self.config, loop.item_rng(self.config.seed, 10, self.step)
        drawn = torch.from_numpy(rng.integers(config.own_clips, size=config.batch_size))
        mine = loop.shard(drawn, self.accelerator, part, config)
        assert len(mine) == count, (len(mine), count)
        batch = self.collate([self.own.read(int(index)) for index in mine])
        return {name: values.to(self.accelerator.device) for name, values in batch.items()}

    def loss(
        self, network: torch.nn.Module, batch: Items, noise: torch.Tensor, timesteps: torch.Tensor, part: int
    ) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """As `Objective.loss`; the errors are those of the real clips. Own clips have times of the real ones."""
        config, count = self.config, len(noise)
        own = self.draw(count, part)
        shape = (config.batch_size, noise.shape[1], config.crop_frames)
        other = torch.randn(shape, generator=loop.torch_rng(config.seed, 11, self.step))
        other = loop.shard(other, self.accelerator, part, config)[..., : own["latents"].shape[2]].to(noise.device)
        both = together(batch, own)
        frames = both["latents"].shape[2]
        noises = [torch.nn.functional.pad(each, (0, frames - each.shape[2])) for each in (noise, other)]
        given = (both, torch.cat(noises), timesteps.repeat(2))
        with torch.no_grad():
            before = self.objective.errors(self.reference, *given)
        errors = self.objective.errors(network, *given)
        loss, margins = refinement_loss(before, errors, config.beta, config.own_weight, config.data_weight)
        real, made = margins.detach().chunk(2)
        return loss, errors[:count], {"margin_real": real.mean(), "margin_own": made.mean()}
