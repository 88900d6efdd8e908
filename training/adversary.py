"""The adversarial half of stage 1: discriminators with an optimiser of their own, and how their verdict is weighed.

As in EnCodec (Defossez et al. 2022, section 3.4) the discriminators learn first in each step, from output that has no
gradient; then the autoencoder meets them as they are. Everything here is kept in a checkpoint.
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
from training.trainer import FiniteCheck

FROM_DISCRIMINATORS = ("adversarial", "feature")


class Objective:
    """Named losses -> the one scalar to go backward from: their weighted sum, or shares of the gradient.

    Args:
        weights: of each loss; those that are 0 are left out.
        balance: whether weights are shares of the gradient at the output, by EnCodec's balancer. The KL term, which
            acts on the latents and not on the output, is a weighted term in either case.
        accelerator: whose processes agree on the norms of gradients.
    """

    def __init__(self, weights: dict[str, float], balance: bool, accelerator: Accelerator):
        self.weights, self.accelerator = {name: weight for name, weight in weights.items() if weight}, accelerator
        self.balancer: Balancer | None = None
        if balance:
            self.balancer = Balancer({name: weight for name, weight in self.weights.items() if name != "kl"})
            self.balancer.to(accelerator.device)

    def __call__(self, losses: dict[str, torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        """Scalar of these losses of `output`; what the discriminators have not said yet is left out.

        Raises:
            FloatingPointError: with the balancer, if a loss has a gradient that is not finite.
        """
        absent = [name for name in FROM_DISCRIMINATORS if name not in losses]
        if self.balancer is None:
            return weighted_sum(losses, {name: w for name, w in self.weights.items() if name not in absent})
        gradient = self.balancer.gradient(losses, output, absent, lambda norms: self.accelerator.reduce(norms, "mean"))
        # A scalar with that gradient at the output, so that scaling, accumulation and DDP need to know nothing of it.
        surrogate = (output * gradient).sum() / len(output)
        return surrogate + self.weights["kl"] * losses["kl"] if "kl" in self.weights else surrogate


class Adversary:
    """Discriminators, their optimiser and schedule, and whether they have won.

    Args:
        judge: scores and features of real or decoded sound, (batch, ...) -> (scores, features).
        config: of the run.
        accelerator: of the run.
        finite: looks at losses and gradients.
    """

    def __init__(self, judge: nn.Module, config: AutoencoderRun, accelerator: Accelerator, finite: FiniteCheck):
        self.config, self.accelerator, self.finite = config, accelerator, finite
        optimizer = torch.optim.AdamW(
            judge.parameters(), lr=config.discriminator_learning_rate, betas=(0.5, 0.9), weight_decay=0.0
        )
        steps = max(1, config.max_steps - config.discriminator_start)
        self.schedule = get_scheduler(
            config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=steps
        )
        self.judge, self.optimizer = accelerator.prepare(judge.to(accelerator.device), optimizer)
        self.history: list[float] = []
        self.step_loss: torch.Tensor | float = 0.0

    def answers(self, step: int) -> bool:
        """Does the autoencoder hear of the verdict in this step, or do the discriminators still learn alone?"""
        return step >= self.config.discriminator_start + self.config.discriminator_warmup_steps

    def learn(self, output: torch.Tensor, reference: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """One micro-batch of the discriminators' own training; they step when the autoencoder does.

        Raises:
            FloatingPointError: before the step, if loss or gradient is not finite.
        """
        if step < self.config.discriminator_start:
            return {}
        scores, _ = self.judge(torch.cat([reference, output.detach()]))  # one pass, as DDP wants it
        real, fake = ([s[half] for s in scores] for half in (slice(len(output)), slice(len(output), None)))
        losses = {"discriminator": discriminator_loss(real, fake)}
        self.finite.note(step, losses)
        self.accelerator.backward(losses["discriminator"])
        self.step_loss += losses["discriminator"].detach() / self.config.gradient_accumulation_steps
        if self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(self.judge.parameters(), self.config.max_grad_norm)
            if self.config.mixed_precision != "fp16":  # its scaler leaves such steps out by itself
                self.finite.note(step, {"gradient of the discriminators": norm})
        self.optimizer.step()
        self.optimizer.zero_grad()
        return losses

    def verdict(self, output: torch.Tensor, reference: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """The autoencoder's losses, of those that have a weight; none while the discriminators learn alone."""
        if not self.answers(step):
            return {}
        judge = self.accelerator.unwrap_model(self.judge).requires_grad_(False)
        scores, features = judge(output)
        losses = {}
        if self.config.adversarial_weight:
            losses["adversarial"] = generator_loss(scores)
        if self.config.feature_weight:
            with torch.no_grad():
                _, wanted = judge(reference)
            losses["feature"] = feature_loss(wanted, features)
        judge.requires_grad_(True)
        return losses

    def stepped(self, step: int) -> None:
        """After each optimiser step, of which `step` were done before: the schedule, and a look at who is winning.

        Raises:
            FloatingPointError: the discriminators have won.
        """
        if step < self.config.discriminator_start:
            return
        self.schedule.step()
        loss = torch.as_tensor(self.step_loss, device=self.accelerator.device)
        mean, self.step_loss = float(self.accelerator.reduce(loss, "mean")), 0.0
        if self.answers(step):
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
