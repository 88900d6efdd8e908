"""Adversarial training: discriminators with their own optimiser; and in stage 1 the weights of all losses.

As in EnCodec (Defossez et al. 2022, section 3.4), each step first trains the discriminators on detached output and then
computes the autoencoder's adversarial losses with the updated discriminators. All state is saved in checkpoints.
"""

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from torch import nn

from autoencoder.discriminators import (
    LONG_ENOUGH,
    Balancer,
    discriminator_loss,
    feature_loss,
    generator_loss,
    saturated,
)
from autoencoder.losses import weighted_sum
from training.config import AutoencoderRun
from training.run.trainer import FiniteCheck

FROM_DISCRIMINATORS = ("adversarial", "feature")


class Objective:
    """Combines named losses into the scalar that is differentiated: a weighted sum, or balanced gradients.

    Args:
        weights: of each loss; losses with weight 0 are left out.
        balance: whether weights are shares of the gradient at the output, by EnCodec's balancer. The KL term acts on
            the latents and not on the output, so that its weight is always a factor.
        accelerator: averages the norms of gradients over processes.
    """

    def __init__(self, weights: dict[str, float], balance: bool, accelerator: Accelerator):
        self.weights, self.accelerator = {name: weight for name, weight in weights.items() if weight}, accelerator
        self.balancer: Balancer | None = None
        if balance:
            self.balancer = Balancer({name: weight for name, weight in self.weights.items() if name != "kl"})
            self.balancer.to(accelerator.device)

    def __call__(self, losses: dict[str, torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        """The scalar for these losses of `output`; adversarial losses that are not computed yet are left out. Raises a
        FloatingPointError with the balancer, if the gradient of a loss is not finite."""
        absent = [name for name in FROM_DISCRIMINATORS if name not in losses]
        if self.balancer is None:
            return weighted_sum(losses, {name: w for name, w in self.weights.items() if name not in absent})
        gradient = self.balancer.gradient(losses, output, absent, lambda norms: self.accelerator.reduce(norms, "mean"))
        # A scalar with this gradient at the output works with loss scaling, accumulation and DDP as usual.
        surrogate = (output * gradient).sum() / len(output)
        return surrogate + self.weights["kl"] * losses["kl"] if "kl" in self.weights else surrogate


class Adversary:
    """Discriminators with their optimiser and schedule, and a check for their saturation.

    `discriminator` maps real or decoded audio (batch, ...) to (scores, features).
    """

    def __init__(self, discriminator: nn.Module, config: AutoencoderRun, accelerator: Accelerator, finite: FiniteCheck):
        self.config, self.accelerator, self.finite = config, accelerator, finite
        optimizer = torch.optim.AdamW(
            discriminator.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.9), weight_decay=0.0
        )
        steps = max(1, config.max_steps - config.discriminator_start)
        self.schedule = get_scheduler(
            config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=steps
        )
        self.discriminator, self.optimizer = accelerator.prepare(discriminator.to(accelerator.device), optimizer)
        self.history: list[float] = []
        self.step_loss: torch.Tensor | float = 0.0

    def is_active(self, step: int) -> bool:
        """Whether the autoencoder has adversarial losses in this step; before that, only the discriminators train."""
        return step >= self.config.discriminator_start + self.config.discriminator_warmup_steps

    def train_discriminators(self, output: torch.Tensor, reference: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """Train the discriminators on a micro-batch; their optimiser steps when the autoencoder's does. Raises a
        FloatingPointError if loss or gradient is not finite, before the optimiser's step."""
        if step < self.config.discriminator_start:
            return {}
        scores, _ = self.discriminator(torch.cat([reference, output.detach()]))  # one pass, as DDP requires
        real, fake = ([s[half] for s in scores] for half in (slice(len(output)), slice(len(output), None)))
        return self.learn({"discriminator": discriminator_loss(real, fake)}, step)

    def learn(self, losses: dict[str, torch.Tensor], step: int) -> dict[str, torch.Tensor]:
        """Train the discriminators on their own `discriminator` loss of a micro-batch, as `train_discriminators`."""
        self.finite.note(step, losses)
        self.accelerator.backward(losses["discriminator"])
        self.step_loss += losses["discriminator"].detach() / self.config.gradient_accumulation_steps
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(self.discriminator.parameters(), self.config.max_grad_norm)
            if self.config.mixed_precision != "fp16":  # the loss scaler skips such steps
                self.finite.note(step, {"gradient of the discriminators": norm})
        self.optimizer.step()
        self.optimizer.zero_grad()
        return losses

    def losses(self, output: torch.Tensor, reference: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """The autoencoder's adversarial losses with nonzero weight; empty while only the discriminators train."""
        if not self.is_active(step):
            return {}
        discriminator = self.accelerator.unwrap_model(self.discriminator).requires_grad_(False)
        scores, features = discriminator(output)
        losses = {}
        if self.config.adversarial_weight:
            losses["adversarial"] = generator_loss(scores)
        if self.config.feature_weight:
            with torch.no_grad():
                _, wanted = discriminator(reference)
            losses["feature"] = feature_loss(wanted, features)
        discriminator.requires_grad_(True)
        return losses

    def after_step(self, step: int) -> None:
        """Advance the schedule after optimiser step number `step` (from 0), and check the discriminators' loss. Raises
        a FloatingPointError if the discriminators are saturated."""
        if step < self.config.discriminator_start:
            return
        self.schedule.step()
        loss = torch.as_tensor(self.step_loss, device=self.accelerator.device)
        mean, self.step_loss = float(self.accelerator.reduce(loss, "mean")), 0.0
        if self.is_active(step):
            self.history = [*self.history, mean][-LONG_ENOUGH:]
        if saturated(self.history):
            raise FloatingPointError(
                f"the discriminators have won: their loss was near 0 for the {LONG_ENOUGH} steps up to {step + 1}; the "
                "last checkpoint is kept; lower discriminator_learning_rate or raise discriminator_warmup_steps"
            )

    def state_dict(self) -> dict:
        return {"schedule": self.schedule.state_dict(), "history": list(self.history)}

    def load_state_dict(self, state: dict) -> None:
        self.schedule.load_state_dict(state["schedule"])
        self.history = list(state["history"])
