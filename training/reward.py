"""Rewards: the network of a checkpoint, or a LoRA adapter for it, learns to make what rewards rate higher.

    python -m training.reward --init_from checkpoints/mine --data_dir latents/small --output_dir runs/small/reward
    python -m training.reward --init_from checkpoints/mine --preferences pairs.jsonl --lora_rank 8 --output_dir runs/ab
    python -m training.export --run runs/small/reward --output_dir checkpoints/better

In each round, conditions of training clips are drawn, and for each of them several candidates are made just as the
pipeline makes them. The rewards (training/rewards.py) say how much better each candidate is than its group. `method`
says what is learnt from that:

- nft, DiffusionNFT (Zheng et al. 2025, https://arxiv.org/abs/2509.16117): no more than the flow's forward process is
  needed. With v the velocity towards a candidate, v_old that of the network which made it, v+ = v_old + beta (v_new -
  v_old) and v- = v_old - beta (v_new - v_old), the loss is r |v+ - v|^2 + (1 - r) |v- - v|^2, where r, the probability
  that a candidate is a good one, rises with its advantage over its group. Errors are those of the velocity, as in stage
  3, and are not weighted by their own size as there. What makes the next candidates follows the trained weights slowly.
- expert, expert iteration: flow matching on the best candidate of each group.

A part of each batch is plain stage 3, real clips with dropped conditions, so that the unconditional branch, and with it
guidance, stays what it was. With `preferences`, pairs of pieces in place of rewards: training/preferences.py.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from pipelines.hub import load_native, save_checkpoint
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import flow, lora
from training.config import AdapterRun, command, option, parse_config
from training.data.latents import TrainingCrops
from training.objective import Draws, held_out, masked_mse, predict
from training.preferences import Choices
from training.rewards import REWARDS, Classifier, Pieces, advantages, fit_classifier, read_rewards
from training.run import dry_run, loop
from training.run.trainer import Losses, Trainer
from training.ways import Policy, Ways, check_start, crops_for


@dataclass(frozen=True)
class RewardRun(AdapterRun):
    """Train the network of a checkpoint, or a LoRA adapter for it, towards rewards or towards a user's choices."""

    output_dir: str = "runs/small/reward"
    init_from: str | None = option(None, "checkpoint folder whose network is trained")
    learning_rate: float = 1e-4
    ema_decay: float = 0.98
    validate_clips: int = 16
    validate_every: int = 50
    method: str = option(
        "nft",
        "what is learnt from a group: nft (DiffusionNFT) or expert (the best candidate)",
        choices=("nft", "expert"),
    )
    rewards: list[str] = option(
        ["notes", "instruments", "level", "diversity=0.3"],
        f"what is rewarded, with a weight as in level=0.5 or with weight 1: {', '.join(REWARDS)} (training/rewards.py)",
    )
    groups: int = option(16, "conditions of a round", above=0)
    candidates: int = option(6, "pieces made for each of them", at_least=2)
    round_steps: int = option(50, "optimiser steps of a round", above=0)
    sampling_steps: int | None = option(None, "steps from noise to data; null = the checkpoint's default", above=0)
    guided: bool = option(True, "make candidates with the checkpoint's guidance")
    plain_share: float = option(0.25, "share of a batch that is stage 3 on real clips", at_least=0, below=1)
    beta: float = option(1.0, "nft: how far v+ and v- lie from the velocity of before, 1 = v+ is the new one", above=0)
    advantage_range: float = option(
        2.0,
        "nft: standard deviations from the group's mean at which a candidate is surely good, or surely not",
        above=0,
    )
    old_decay: float = option(
        0.5,
        "share of themselves that the weights which make candidates keep after a round; 0 = none, so the trained ones",
        at_least=0,
        below=1,
    )
    anchor_weight: float = option(
        0.0, "weight of the squared distance of velocities from those of init_from, at candidates", at_least=0
    )
    validate_candidates: int = option(2, "pieces of each clip of a validation", above=0)
    preferences: str | None = option(
        None, "JSON lines of pairs of pieces of which one was chosen (training/preferences.py), in place of rewards"
    )
    choice_beta: float = option(
        500.0, "preferences: how sharply a pair counts as learnt; more = smaller changes suffice", above=0
    )
    chosen_weight: float = option(
        0.1, "preferences: weight of plain flow matching on what was chosen, so that it gets no less likely", at_least=0
    )
    holdout_share: float = option(
        0.2, "preferences: share of pairs, at least one, that only validation reads", above=0, below=1
    )


class Rounds:
    """Candidates made in rounds and rated, and what is learnt from them, for the loop of `main`.

    Candidates depend on the seed, the round and the weights that make them, which are in the run's checkpoints; so a
    run that goes on within a round makes the same ones again.
    """

    figure, at_start = "reward", 0.0

    def __init__(self, config: RewardRun, ways: Ways, policy: Policy, accelerator: Accelerator):
        self.config, self.ways, self.policy, self.accelerator = config, ways, policy, accelerator
        self.crops, self.others = (crops_for(ways.pipe, config, split) for split in ("train", "validation"))
        self.items, self.weights = TrainingCrops(self.crops, config), read_rewards(config.rewards)
        self.steps = config.sampling_steps or ways.pipe.config.default_num_inference_steps
        self.classifier: Classifier | None = None
        if "instruments" in self.weights:
            self.classifier, about = fit_classifier(self.crops, self.others, config.seed)
            accelerator.print(
                f"rewards: instruments by a classifier of {about['tags']:.0f}, mean average precision "
                f"{about['average_precision']:.3f} on the validation split"
            )
        ways.pipe.vae.to(ways.device)
        places = torch.arange(config.batch_size + 1) * config.plain_share
        self.plain = places[1:].floor() > places[:-1].floor()
        self.round: dict[str, torch.Tensor] = {}  # figures of the present one

    def make(self, unet: nn.Module, batch: dict[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
        """Candidates (groups, candidates, channels, frames) of a batch of conditions, from noise of that shape."""
        made, count = [], noise.shape[1]
        together = max(1, self.config.batch_size // count)
        for first in range(0, len(noise), together):
            own = {name: value[first : first + together] for name, value in batch.items()}
            own = {name: value.repeat_interleave(count, dim=0) for name, value in own.items()}
            begin = noise[first : first + together].flatten(0, 1)
            with self.accelerator.autocast():
                places, _ = self.ways.way(own, begin, self.steps, unet, self.config.guided)
            made.append(places[:, -1].unflatten(0, (-1, count)))
        return torch.cat(made)

    def rate(self, latents: torch.Tensor, batch: dict[str, torch.Tensor], rows: list[dict]) -> dict[str, torch.Tensor]:
        """Rewards by name, each (groups, candidates) on the CPU."""
        pieces = Pieces(self.ways.pipe, latents, batch, rows, self.classifier)
        with torch.no_grad():
            return {name: REWARDS[name](pieces) for name in self.weights}

    def begin(self, number: int) -> dict[str, torch.Tensor]:
        """The conditions of a round, with `made`, its candidates, and `better`, how much each is than its group."""
        config, device = self.config, self.ways.device
        rng = loop.item_rng(config.seed, loop.Stream.CANDIDATES, number)
        which = rng.permutation(len(self.crops))[: config.groups]
        items = [self.crops.read(int(index), rng) | {"index": torch.tensor(int(index))} for index in which]
        pool = {name: torch.stack([item[name] for item in items]).to(device) for name in items[0]}
        pool["mask"] = torch.ones(pool["frame_mask"].shape, device=device)
        generator = loop.torch_rng(config.seed, loop.Stream.CANDIDATE_NOISE, number)
        shape = (len(which), config.candidates, *pool["latents"].shape[1:])
        made = self.make(self.policy.old, pool, torch.randn(shape, generator=generator).to(device))
        scores = self.rate(made, pool, [self.crops.rows[index] for index in which])
        better = advantages(scores, self.weights)
        best = better.argmax(dim=1, keepdim=True)
        self.round = {}
        for name, values in scores.items():
            for what, some in (("reward", values), ("best", values.gather(1, best))):
                if some.isfinite().any():
                    self.round[f"{what}_{name}"] = some.nanmean()
        return pool | {"made": made, "better": better.to(device)}

    def batches(self, step: int) -> Iterator[dict[str, torch.Tensor]]:
        """Micro-batches from a step of the run on: items of stage 3, most of them replaced by candidates, with `good`,
        the probability that a candidate is one; it is NaN of real clips."""
        config, pool = self.config, None
        loader = iter(loop.make_loader(self.items, config, step, self.accelerator))
        for now in range(step, config.max_steps):
            if now % config.round_steps == 0 and now > 0:
                self.policy.follow(config.old_decay)
            if pool is None or now % config.round_steps == 0:
                pool = self.begin(now // config.round_steps)
            rng = loop.item_rng(config.seed, loop.Stream.CHOSEN, now)
            group = torch.from_numpy(rng.integers(len(pool["made"]), size=config.batch_size))
            candidate = torch.from_numpy(rng.integers(config.candidates, size=config.batch_size))
            if config.method == "expert":
                candidate = pool["better"].argmax(dim=1).cpu()[group]
            drawn = torch.stack([group, candidate, self.plain.long()], dim=1)
            for part in range(config.gradient_accumulation_steps):
                batch = {name: value.to(self.ways.device) for name, value in next(loader).items()}
                which, chosen, plain = loop.shard(drawn, self.accelerator, part, config).unbind(1)
                rows = plain == 0
                which, chosen = which[rows].to(self.ways.device), chosen[rows].to(self.ways.device)
                for name in batch:
                    source = pool["made"][which, chosen] if name == "latents" else pool[name][which]
                    batch[name][rows] = source.to(batch[name])
                batch["good"] = torch.full((len(rows),), float("nan"), device=self.ways.device)
                good = 0.5 + 0.5 * (pool["better"][which, chosen] / config.advantage_range).clamp(-1.0, 1.0)
                batch["good"][rows] = good.to(batch["good"])
                yield batch | {"index": batch["index"].cpu()}

    def errors(self, network: nn.Module, batch: dict, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Loss of each item, (batch,) fp32."""
        config, scheduler, good = self.config, self.ways.pipe.scheduler, batch["good"]
        noisy = flow.add_noise(scheduler, batch["latents"], noise, timesteps)
        velocity = flow.target(scheduler, batch["latents"], noise, timesteps)
        rows = ~good.isnan()
        few = {name: value[rows] for name, value in batch.items()}

        def of(unet: nn.Module) -> torch.Tensor:
            with torch.no_grad(), self.accelerator.autocast():
                return predict(unet, noisy[rows], timesteps[rows], few).float()

        with self.accelerator.autocast():
            new = predict(network, noisy, timesteps, batch).float()
        errors = masked_mse(new, velocity, batch, config.given_weight)
        if config.method == "nft" and rows.any():
            old = of(self.policy.old)
            step = config.beta * (new[rows] - old)
            plus, minus = (masked_mse(old + way, velocity[rows], few, 0.0) for way in (step, -step))
            own = (good[rows] * plus + (1.0 - good[rows]) * minus) / config.beta
            errors = errors.masked_scatter(rows, own)
        if config.anchor_weight and rows.any():
            apart = masked_mse(new[rows], of(self.policy.base), few, 0.0)
            errors = errors.masked_scatter(rows, errors[rows] + config.anchor_weight * apart)
        return errors

    def start(self, step: int) -> None:
        """Prepare for the steps from this one on."""
        channels = self.policy.base.config.in_channels
        self.draws = Draws(self.config, self.ways.pipe.scheduler, self.accelerator, channels, step)
        self.validate = Validation(self)

    def losses(self, network: nn.Module, step: int, part: int, batch: dict) -> Losses:
        """Losses of a micro-batch."""
        noise, timesteps = self.draws(step, part, batch["latents"])
        errors = self.errors(network, batch, noise, timesteps.to(noise.device))
        plain, found = batch["good"].isnan(), errors.detach()
        sums = {"loss_plain": found[plain].sum(), "loss_candidates": found[~plain].sum()}
        counts = {"loss_plain": float(plain.sum()), "loss_candidates": float((~plain).sum())}
        return Losses(errors.mean(), {"loss": errors}, {"loss": found.mean(), **sums, **self.round}, counts)

    def trial(self, batch: dict) -> torch.Tensor:
        """The loss of a micro-batch in the middle of the noise range, as if all items were candidates."""
        half = self.ways.pipe.scheduler.config.num_train_timesteps / 2.0
        timesteps = torch.full((len(batch["latents"]),), half, device=self.ways.device)
        batch = batch | {"good": torch.full_like(timesteps, 0.7)}
        return self.errors(self.policy.model, batch, torch.randn_like(batch["latents"]), timesteps).mean()


class Validation:
    """Rewards of pieces for held-out conditions from fixed noise, beside those of the network that training began from.

    `validation/reward` is the weighted sum over the rewards of the gain in standard deviations over the pieces of that
    network; it is 0 at the start. `validation/reward_error` is the standard error of its mean over clips.
    """

    def __init__(self, rounds: Rounds):
        self.rounds, self.batches = rounds, []
        config, first = rounds.config, 0
        for batch, noise in held_out(rounds.others, config, rounds.ways.device):
            noises = [noise]
            for number in range(1, config.validate_candidates):
                generator = loop.torch_rng(config.seed, loop.Stream.VALIDATION_NOISE, first, number)
                noises.append(torch.randn(noise.shape, generator=generator).to(noise.device))
            rows = rounds.others.rows[first : first + len(noise)]
            self.batches.append((batch, torch.stack(noises, dim=1), rows))
            first += len(noise)
        self.before = self.scores(rounds.policy.base)

    def scores(self, unet: nn.Module) -> dict[str, np.ndarray]:
        """Rewards by name, each (clips, candidates)."""
        parts = [self.rounds.rate(self.rounds.make(unet, *one[:2]), one[0], one[2]) for one in self.batches]
        return {name: torch.cat([part[name] for part in parts]).double().numpy() for name in parts[0]}

    def __call__(self, unet: nn.Module) -> dict[str, float]:
        """Figures by name."""
        figures, gain = {}, 0.0
        for name, after in self.scores(unet).items():
            before = self.before[name]
            if np.isfinite(before).any():
                spread = max(float(np.nanstd(before)), 1e-8)
                gain = gain + self.rounds.weights[name] * np.nan_to_num((after - before) / spread).mean(axis=1)
                figures[f"validation/{name}"] = float(np.nanmean(after))
        gain = np.zeros(1) + gain
        error = float(gain.std(ddof=1) / len(gain) ** 0.5) if len(gain) > 1 else 0.0
        return figures | {"validation/reward": float(gain.mean()), "validation/reward_error": error}


def export(run: Path, output_dir: Path, notes: str = "") -> dict:
    """Write the checkpoint that a finished run began from with its best network; returns the content of best.json.
    Raises a ValueError if the run is not finished, or was never better than at its start."""
    about, _ = lora.finished(run)
    pipe = load_native(json.loads((run / "config.json").read_text())["init_from"])
    pipe.register_modules(unet=UNet1DConditionModel.from_pretrained(lora.Best(run).folder))
    save_checkpoint(pipe, output_dir, notes)
    return about


def check(config: RewardRun) -> None:
    """Raise a ValueError for settings that do not go together."""
    check_start(config)
    if config.lora_rank:
        lora.check(config)
    if config.preferences is None:
        read_rewards(config.rewards)
    elif not Path(config.preferences).is_file():
        raise ValueError(f"preferences {config.preferences}: no such file")


def main(argv: list[str] | None = None) -> dict | None:
    """Train; a dry run returns its measurements."""
    config = parse_config(RewardRun, argv)
    check(config)
    if config.preferences is not None:
        config = replace(config, data_dir=config.preferences)  # whose content a run that goes on must find the same
    accelerator = loop.start(config, write=not config.dry_run)
    if accelerator.num_processes > 1:
        raise ValueError(f"num_processes is {accelerator.num_processes}; allowed: 1, which makes and rates candidates")
    ways = Ways(load_native(config.init_from), accelerator.device)
    if config.lora_rank and not config.dry_run:
        lora.note_base(ways.unet, config)
    policy = Policy(config, ways.unet)
    stage = (Rounds if config.preferences is None else Choices)(config, ways, policy, accelerator)
    if config.dry_run:
        if isinstance(stage, Rounds):
            began = time.perf_counter()
            stage.begin(0)
            accelerator.print(f"round        {time.perf_counter() - began:.0f} s to make and rate its candidates")
        return dry_run.report(accelerator, config, policy.model, stage.items, stage.trial)
    network = torch.compile(policy.model) if config.compile else policy.model
    trainer = Trainer(
        accelerator, config, policy.trained, (0.9, 0.99), "reward", network=network, ema_decay=config.ema_decay,
        names=stage.items.names,
    )  # fmt: skip
    if config.lora_rank:
        lora.keep_in_checkpoints(accelerator, policy.model)
    accelerator.register_for_checkpointing(policy.old_trained)
    step = trainer.resume()
    stage.start(step)
    save = lora.save_adapter if config.lora_rank else lambda model, folder: model.save_pretrained(folder)
    best = lora.Best(Path(config.output_dir), stage.figure, save)
    if step == 0:
        best.keep(policy.model, stage.at_start, 0)

    def losses(step: int, part: int, batch: dict) -> Losses:
        return stage.losses(trainer.network, step, part, batch)

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, policy.trained):
            values = stage.validate(policy.model)
            best.keep(policy.model, values[f"validation/{stage.figure}"], step)
        return values

    trainer.run(stage.batches(step), losses, figures, [config.validate_every])
    loop.save_final(accelerator, policy.model, trainer.ema, config, policy.trained, save)
    return None


if __name__ == "__main__":
    command(main)
