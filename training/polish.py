"""Adversarial polish: a distilled network learns from real clips what its few steps and its guidance got wrong.

    python -m training.polish --init_from checkpoints/fast --data_dir latents/small --output_dir runs/small/polished
    python -m training.export --run runs/small/polished --output_dir checkpoints/polished

This is adversarial relativistic-contrastive post-training (Novack et al. 2025, https://arxiv.org/abs/2505.08175) for a
network that jumps (training.distill). In each step the network goes its own way from noise, as in the pipeline, to a
place of it, and jumps once more. A discriminator, a copy of the network with one output a frame, compares where it
arrives with a real clip under the same conditions and at the same noise level: it learns to rate the real one higher,
frame by frame, and the network to be rated higher than it (relativistic pairs, Jolicoeur-Martineau 2018,
https://arxiv.org/abs/1807.00734). The discriminator also learns to rate a real clip higher with its own words than with
another's, so that what it asks of the network is not only to sound real but to be what the words say.

An anchor, the squared distance of the velocities from those of the network that training began from, keeps what
guidance brought, and with no jump the network's own way of many steps.
"""

import copy
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import softplus

from pipelines import vivace_process
from pipelines.hub import load_native
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training.config import LatentRun, command, option, parse_config
from training.data.latents import LatentCrops, TrainingCrops
from training.objective import held_out, masked_mse, predict
from training.run import loop
from training.run.adversary import Adversary
from training.run.trainer import Losses, Trainer
from training.ways import Ways, check_start, crops_for

OF_WORDS = ("text", "text_mask", "role_instruments")  # what the contrastive loss takes from another item


@dataclass(frozen=True)
class PolishRun(LatentRun):
    """Train a distilled network against a discriminator of real and generated latents."""

    output_dir: str = "runs/small/polished"
    init_from: str | None = option(None, "checkpoint folder of training.distill whose network is trained")
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    ema_decay: float = 0.99
    student_steps: list[int] = option(
        [4, 6, 2],
        "numbers of steps from noise to data that are trained, equally often; the first becomes the default of the "
        "exported checkpoint",
        above=0,
    )
    adversarial_weight: float = option(1.0, "weight of the loss against the discriminator", above=0)
    contrastive_weight: float = option(
        1.0, "weight of the discriminator's loss for real clips with another's words", at_least=0
    )
    anchor_weight: float = option(1.0, "weight of the squared distance from the velocities of init_from", at_least=0)
    plain_share: float = option(
        0.25, "share of a batch, more of it, on which the network keeps its velocity without a jump", above=0, at_most=1
    )
    discriminator_learning_rate: float = option(2e-4, "highest learning rate of the discriminator", above=0)
    discriminator_start: int = option(0, "steps before the discriminator is trained", at_least=0)
    discriminator_warmup_steps: int = option(
        50, "steps that the discriminator learns before the network is trained against it", at_least=0
    )


def make_discriminator(unet: UNet1DConditionModel) -> UNet1DConditionModel:
    """A copy of a network that rates each frame: (batch, 1, frames), 0 at first."""
    config = {**unet.config, "out_channels": 1, "linear_taps": 0, "jump_guidance": None}
    made = UNet1DConditionModel.from_config(config)
    kept = {name: value for name, value in unet.state_dict().items() if name in made.state_dict()}
    kept |= {name: value for name, value in made.state_dict().items() if name.startswith("conv_out.")}
    made.load_state_dict(kept)
    return made.to(unet.device).train()


class Way:
    """The network's own way to a place that is drawn, and the jump from there.

    All processes draw the numbers of the whole batch and take their own rows; they depend on the seed and the step.
    """

    def __init__(self, config: PolishRun, ways: Ways, accelerator: Accelerator):
        self.config, self.ways, self.accelerator = config, ways, accelerator
        self.shape = (config.batch_size, ways.unet.config.in_channels, config.crop_frames)

    def noise(self, step: int, part: int, number: int) -> torch.Tensor:
        generator = loop.torch_rng(self.config.seed, loop.Stream.POLISH_NOISE, step, number)
        noise = torch.randn(self.shape, generator=generator)
        return loop.shard(noise, self.accelerator, part, self.config).to(self.ways.device)

    def begin(self, unet: nn.Module, step: int, part: int, batch: dict) -> dict[str, torch.Tensor]:
        """The items with `noisy`, latents where a jump begins, and as fractions of the noise range, (batch,): `level`,
        the noise there, and `end`, that where it ends."""
        rng = loop.item_rng(self.config.seed, loop.Stream.POLISH, step)
        steps = int(rng.choice(self.config.student_steps))  # of the whole batch, which goes its way together
        places = torch.from_numpy(rng.integers(steps, size=self.config.batch_size))
        place = loop.shard(places, self.accelerator, part, self.config).to(self.ways.device)
        with self.accelerator.autocast():
            way, levels = self.ways.way(batch, self.noise(step, part, 0), steps, unet, guided=False)
        each = torch.arange(len(place), device=self.ways.device)
        return batch | {"noisy": way[each, place], "level": levels[place], "end": levels[place + 1]}

    def rated(self, step: int, part: int, batch: dict, end: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the discriminator compares: where the network arrived, the real clips, both with as much noise as there
        or, where there was none left, with some that is drawn; and the noise level (batch,)."""
        rng = loop.item_rng(self.config.seed, loop.Stream.POLISH, step, 1)
        drawn = torch.from_numpy(rng.uniform(0.0, 0.5, size=self.config.batch_size)).float()
        some = loop.shard(drawn, self.accelerator, part, self.config).to(end.device)
        done = batch["end"] <= 0.0
        level = torch.where(done, some, batch["end"])
        mine, real = (self.noise(step, part, number) for number in (1, 2))
        column = level[:, None, None]
        made = torch.where(done[:, None, None], torch.lerp(end, mine, column), end)
        return made, torch.lerp(batch["latents"], real, column), level


def mean_over_frames(values: torch.Tensor, batch: dict) -> torch.Tensor:
    """(batch, 1, frames) -> (batch,): the mean over the visible frames that are to be generated."""
    weight = batch["frame_mask"] * batch["mask"]
    return (values[:, 0].float() * weight).sum(1) / weight.sum(1).clamp_min(1.0)


def other_words(batch: dict) -> dict:
    """The items with the words and the instruments of their neighbours."""
    return batch | {name: batch[name].roll(1, dims=0) for name in OF_WORDS if name in batch}


class Validation:
    """How far the ends are from those of the network that training began from, from the same noise, and how far the
    mean and deviation of each latent channel, over the clips, are from those of real clips."""

    def __init__(self, config: PolishRun, ways: Ways, crops: LatentCrops, accelerator: Accelerator):
        self.config, self.ways, self.accelerator = config, ways, accelerator
        self.batches = list(held_out(crops, config, ways.device))
        self.ends = {steps: self.made(ways.unet, steps) for steps in config.student_steps}
        self.real = self.moments([batch["latents"] for batch, _ in self.batches])

    def made(self, unet: nn.Module, steps: int) -> list[torch.Tensor]:
        with self.accelerator.autocast():
            return [self.ways.way(batch, noise, steps, unet, guided=False)[0][:, -1] for batch, noise in self.batches]

    def moments(self, latents: list[torch.Tensor]) -> torch.Tensor:
        """Mean and deviation over the frames of a clip: (clips, 2 channels)."""
        clips = []
        for made, (batch, _) in zip(latents, self.batches, strict=True):
            for clip, visible in zip(made, batch["frame_mask"] > 0, strict=True):
                clips.append(vivace_process.latent_statistics(clip[:, visible], 1))
        return torch.stack(clips)

    def __call__(self, unet: nn.Module) -> dict[str, float]:
        figures = {}
        for steps, ends in self.ends.items():
            made = self.made(unet, steps)
            errors = [masked_mse(*pair, batch, 0.0) for *pair, (batch, _) in zip(made, ends, self.batches, strict=True)]
            figures[f"validation/moved_{steps}_steps"] = float(torch.cat(errors).mean())
            for name, some in (("", made), ("start_", ends)):
                away = (self.moments(some).mean(0) - self.real.mean(0)).square().mean()
                figures[f"validation/{name}moments_{steps}_steps"] = float(away)
        return figures


def main(argv: list[str] | None = None) -> None:
    config = parse_config(PolishRun, argv)
    check_start(config)
    if config.dry_run:
        raise ValueError("dry_run is true; allowed: false for the polish")
    accelerator = loop.start(config)
    ways = Ways(load_native(config.init_from), accelerator.device, distilled=True)
    items = TrainingCrops(crops_for(ways.pipe, config, "train"), config)
    model = copy.deepcopy(ways.unet).requires_grad_(True).train()
    trainer = Trainer(
        accelerator, config, model, (0.5, 0.99), "polish",
        network=torch.compile(model) if config.compile else model, ema_decay=config.ema_decay, names=items.names,
    )  # fmt: skip
    adversary = Adversary(make_discriminator(ways.unet), config, accelerator, trainer.finite)
    accelerator.register_for_checkpointing(adversary)
    step = trainer.resume()
    validation = Validation(config, ways, crops_for(ways.pipe, config, "validation"), accelerator)
    way = Way(config, ways, accelerator)
    count = ways.pipe.scheduler.config.num_train_timesteps

    def rate(network: nn.Module, latents: torch.Tensor, level: torch.Tensor, batch: dict) -> torch.Tensor:
        return predict(network, latents, count * level, batch)

    def losses(step: int, part: int, batch: dict) -> Losses:
        with torch.no_grad():
            jumps = way.begin(model, step, part, batch)
        jumps["jump"] = count * (jumps["level"] - jumps["end"])
        column = (jumps["level"] - jumps["end"])[:, None, None]
        with accelerator.autocast():
            velocity = predict(trainer.network, jumps["noisy"], count * jumps["level"], jumps).float()
        end = jumps["noisy"] - column * velocity
        made, real, level = way.rated(step, part, jumps, end)
        with accelerator.autocast():
            network, seen = adversary.discriminator, torch.cat([real, made.detach(), real])
            three = {name: torch.cat([batch[name]] * 2 + [other_words(batch)[name]]) for name in batch}
            of_real, of_made, of_others = rate(network, seen, level.repeat(3), three).chunk(3)
        apart = mean_over_frames(softplus(of_made - of_real), batch).mean()
        wrong = mean_over_frames(softplus(of_others - of_real), batch).mean()
        found = adversary.learn({"discriminator": apart + config.contrastive_weight * wrong}, step)
        logged = found | {"discriminator_real": apart.detach(), "discriminator_words": wrong.detach()}
        few = slice(max(1, round(config.plain_share * len(velocity))))
        plain = {name: value[few] for name, value in jumps.items()}
        plain |= {"jump": torch.zeros_like(plain["jump"]), "level": plain["level"].clamp_max(0.999)}
        with torch.no_grad(), accelerator.autocast():
            kept = predict(ways.unet, jumps["noisy"], count * jumps["level"], jumps).float()
            own = predict(ways.unet, plain["noisy"], count * plain["level"], plain).float()
        with accelerator.autocast():
            still = predict(trainer.network, plain["noisy"], count * plain["level"], plain).float()
        errors = masked_mse(velocity, kept, batch, 0.0)
        stays = masked_mse(still, own, plain, 0.0)
        total = config.anchor_weight * (errors.mean() + stays.mean())
        logged |= {"anchor": errors.detach().mean(), "anchor_plain": stays.detach().mean()}
        if adversary.is_active(step):
            judge = accelerator.unwrap_model(adversary.discriminator).requires_grad_(False)
            with accelerator.autocast():
                with torch.no_grad():
                    of_real = rate(judge, real, level, batch)
                of_made = rate(judge, made, level, batch)
            judge.requires_grad_(True)
            against = mean_over_frames(softplus(of_real - of_made), batch)
            logged["adversarial"] = against.detach().mean()
            total = total + config.adversarial_weight * against.mean()
        return Losses(total, {"loss": errors}, {"loss": total.detach(), **logged})

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, model):
            return validation(model)

    loader = loop.make_loader(items, config, step, accelerator)
    trainer.run(
        loader, losses, figures, [config.validate_every], adversary.after_step, [adversary.discriminator]
    )  # fmt: skip
    loop.save_final(accelerator, model, trainer.ema, config)


if __name__ == "__main__":
    command(main)
