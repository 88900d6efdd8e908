"""Distillation: the network of a checkpoint learns to go several of its own guided steps at once.

    python -m training.distill --init_from checkpoints/mine --data_dir latents/small --output_dir runs/small/distilled
    python -m training.export --run runs/small/distilled --output_dir checkpoints/fast

The teacher is the network of the checkpoint, frozen. It goes its way from noise to data in `teacher_steps` steps just
as the pipeline does it, with the checkpoint's guidance and with the frames that are given. The student, a copy with an
embedding of how far a step goes, learns the mean velocity between two places of such a way: (x_s - x_r) / (s - r).
This is progressive distillation (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512; of guidance, Meng et al. 2023,
https://arxiv.org/abs/2210.03142), with all numbers of steps in one network as in shortcut models (Frans et al. 2024,
https://arxiv.org/abs/2410.12557). Where it makes no jump, the student keeps the teacher's velocity, so that with a
`guidance_scale` it is still what the teacher was.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import default_collate

from pipelines.hub import load_native, save_checkpoint
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import flow
from training.config import LatentRun, command, option, parse_config
from training.data.latents import LatentCrops, TrainingCrops
from training.objective import Draws, held_out, masked_mse, predict
from training.run import loop
from training.run.trainer import Losses, Trainer
from training.ways import Ways, check_start, crops_for


@dataclass(frozen=True)
class DistillRun(LatentRun):
    """Distil the network of a checkpoint into one that needs fewer steps and no second pass for guidance."""

    output_dir: str = "runs/small/distilled"
    init_from: str | None = option(None, "checkpoint folder with the teacher, from which the student starts")
    teacher_steps: int = option(12, "steps of the teacher from noise to data", above=0)
    student_steps: list[int] = option(
        [4, 6, 2],
        "numbers of steps that the student learns, equally often, each a divisor of teacher_steps; the first becomes "
        "the default of the exported checkpoint",
        above=0,
    )
    plain_share: float = option(
        0.25, "share of a batch in which the student keeps the teacher's velocity without guidance", at_least=0, below=1
    )
    way_batches: int = option(4, "batches of the teacher's ways to learn from at a time", above=0)
    way_steps: int = option(60, "optimiser steps after which these are made anew", above=0)


class Teacher(Ways):
    """The network of a checkpoint, frozen, and its way from noise to data."""

    def student(self) -> UNet1DConditionModel:
        """A copy of the network that has jumps, which are at first the teacher's steps without guidance."""
        scale = float(self.pipe.config.default_guidance_scale)
        model = UNet1DConditionModel.from_config(self.unet.config, jump_guidance=scale)
        model.load_state_dict(model.state_dict() | self.unet.state_dict())
        return model


class Jumps:
    """Micro-batches of jumps along ways of the teacher, from a step of the run on.

    Every process draws the numbers of the whole batch and takes its own rows. The ways of `way_steps` steps are made
    from what only depends on the seed and the step, so that a run that goes on makes the same ones again.
    """

    def __init__(self, config: DistillRun, teacher: Teacher, items: TrainingCrops, accelerator: Accelerator, step: int):
        self.config, self.teacher, self.accelerator, self.step = config, teacher, accelerator, step
        self.shape = (config.batch_size, teacher.unet.config.in_channels, config.crop_frames)
        self.first = step // config.way_steps * config.way_batches
        ahead = replace(config, max_steps=(config.max_steps // config.way_steps + 1) * config.way_batches)
        self.loader = loop.make_loader(items, ahead, self.first, accelerator)

    def ways(self) -> Iterator[dict[int, dict[str, torch.Tensor]]]:
        """For each accumulation step the items and their ways, with a leading axis of `way_batches`."""
        config, batches, first = self.config, iter(self.loader), self.first
        while True:
            made: dict[int, list[dict]] = {part: [] for part in range(config.gradient_accumulation_steps)}
            for number in range(first, first + config.way_batches):
                generator = loop.torch_rng(config.seed, loop.Stream.WAY_NOISE, number)
                noise = torch.randn(self.shape, generator=generator)
                for part, done in made.items():
                    batch = {name: value.to(self.teacher.device) for name, value in next(batches).items()}
                    rows = loop.shard(noise, self.accelerator, part, config).to(self.teacher.device)
                    with self.accelerator.autocast():
                        batch["way"], self.levels = self.teacher.way(batch, rows, config.teacher_steps)
                    done.append(batch)
            yield {part: default_collate(done) for part, done in made.items()}
            first += config.way_batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """The items, with `noisy`, their latents where a jump begins, `velocity`, its mean velocity, `timestep` and
        `jump`, where it begins and how far it goes."""
        config, ways, made = self.config, self.ways(), None
        count = self.teacher.pipe.scheduler.config.num_train_timesteps
        for step in range(self.step, config.max_steps):
            if made is None or step % config.way_steps == 0:
                made = next(ways)
            rng = loop.item_rng(config.seed, loop.Stream.JUMPS, step)
            which = rng.integers(config.way_batches, size=config.batch_size)
            length = config.teacher_steps // rng.choice(config.student_steps, size=config.batch_size)
            # Half of the jumps begin where a way in as many equal steps has one, the others anywhere.
            on_grid = length * rng.integers(config.teacher_steps // length)
            anywhere = rng.integers(config.teacher_steps - length + 1)
            begin = np.where(rng.random(config.batch_size) < 0.5, on_grid, anywhere)
            drawn = torch.from_numpy(np.stack([which, begin, begin + length], axis=1))
            for part, pool in made.items():
                rows = loop.shard(drawn, self.accelerator, part, config).to(self.teacher.device)
                (which_way, start, end), each = rows.unbind(1), torch.arange(len(rows), device=self.teacher.device)
                batch = {name: value[which_way, each] for name, value in pool.items()}
                way, (s, r) = batch.pop("way"), (self.levels[start], self.levels[end])
                batch["noisy"] = way[each, start]
                batch["velocity"] = (way[each, start] - way[each, end]) / (s - r)[:, None, None]
                yield batch | {"timestep": count * s, "jump": count * (s - r), "index": batch["index"].cpu()}


class Validation:
    """How far the student's ends are from the teacher's, from the same noise, for the same held-out clips."""

    def __init__(self, config: DistillRun, teacher: Teacher, crops: LatentCrops, accelerator: Accelerator):
        self.config, self.teacher, self.accelerator, self.batches = config, teacher, accelerator, []
        for batch, noise in held_out(crops, config, teacher.device):
            with accelerator.autocast():
                end = teacher.way(batch, noise, config.teacher_steps)[0][:, -1]
            self.batches.append((batch, noise, end))

    def __call__(self, unet: UNet1DConditionModel, guided: bool, name: str) -> dict[str, float]:
        """Mean squared distance at each number of steps, by the name of its figure."""
        figures = {}
        for steps in self.config.student_steps:
            errors: list[float] = []
            for batch, noise, end in self.batches:
                with self.accelerator.autocast():
                    made = self.teacher.way(batch, noise, steps, unet, guided)[0][:, -1]
                errors += masked_mse(made, end, batch, 0.0).tolist()
            figures[f"validation/{name}{steps}_steps"] = float(np.mean(errors))
        return figures


def export(run: Path, output_dir: Path, notes: str = "") -> None:
    """Write the checkpoint that a finished run began from with the student in place of the teacher.

    Raises:
        ValueError: the run is not finished.
    """
    if not (run / "final" / "config.json").is_file():
        raise ValueError(f"run is {str(run)!r}, which has no final weights; give its command again to finish it")
    config = json.loads((run / "config.json").read_text())
    pipe = load_native(config["init_from"])
    pipe.register_modules(unet=UNet1DConditionModel.from_pretrained(run / "final"))
    pipe.register_to_config(default_num_inference_steps=config["student_steps"][0], default_guidance_scale=1.0)
    save_checkpoint(pipe, output_dir, notes)


def check(config: DistillRun) -> None:
    """Raise a ValueError for settings that do not go together."""
    check_start(config)
    wrong = [steps for steps in config.student_steps if config.teacher_steps % steps]
    if wrong:
        raise ValueError(f"student_steps has {wrong[0]}; allowed: divisors of teacher_steps {config.teacher_steps}")
    if config.dry_run:
        raise ValueError("dry_run is true; allowed: false for distillation")


def main(argv: list[str] | None = None) -> None:
    config = parse_config(DistillRun, argv)
    check(config)
    accelerator = loop.start(config)
    teacher = Teacher(load_native(config.init_from), accelerator.device)
    crops = crops_for(teacher.pipe, config, "train")
    items = TrainingCrops(crops, config)
    model = teacher.student().to(accelerator.device)
    trainer = Trainer(
        accelerator, config, model, (0.9, 0.99), "distill",
        network=torch.compile(model) if config.compile else model, ema_decay=config.ema_decay, names=items.names,
    )  # fmt: skip
    step = trainer.resume()
    others = crops_for(teacher.pipe, config, "validation")
    validation = Validation(config, teacher, others, accelerator)
    before = validation(teacher.unet, True, "teacher_")
    draws = Draws(config, teacher.pipe.scheduler, accelerator, teacher.unet.config.in_channels, step)
    places = torch.arange(config.batch_size + 1) * config.plain_share
    plain_rows = places[1:].floor() > places[:-1].floor()

    def losses(step: int, part: int, batch: dict) -> Losses:
        noise, timesteps = draws(step, part, batch["latents"])
        plain = loop.shard(plain_rows, accelerator, part, config).to(accelerator.device)
        timesteps, few = timesteps.to(accelerator.device), {name: value[plain] for name, value in batch.items()}
        few["jump"] = torch.zeros_like(few["jump"])
        few["noisy"] = flow.add_noise(teacher.pipe.scheduler, few["latents"], noise[plain], timesteps[plain])
        few["timestep"] = timesteps[plain]
        with accelerator.autocast():
            if len(few["jump"]):
                with torch.no_grad():
                    own = {name: value for name, value in few.items() if name != "jump"}
                    few["velocity"] = predict(teacher.unet, few["noisy"], few["timestep"], own).float()
            for name in ("jump", "noisy", "timestep", "velocity"):
                batch[name][plain] = few[name].to(batch[name])
            made = predict(trainer.network, batch["noisy"], batch["timestep"], batch)
        errors = masked_mse(made, batch["velocity"], batch, config.given_weight)
        counts = {"loss_jumps": float((~plain).sum()), "loss_plain": float(plain.sum())}
        sums = {"loss_jumps": errors.detach()[~plain].sum(), "loss_plain": errors.detach()[plain].sum()}
        return Losses(errors.mean(), {"loss": errors}, {"loss": errors.detach().mean(), **sums}, counts)

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, model):
            return before | validation(model, False, "")

    trainer.run(Jumps(config, teacher, items, accelerator, step), losses, figures, [config.validate_every])
    loop.save_final(accelerator, model, trainer.ema, config)


if __name__ == "__main__":
    command(main)
