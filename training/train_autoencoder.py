"""Stage 1: audio -> an autoencoder, AutoencoderVivace or AutoencoderEncodec by the `_class_name` of its config.

    accelerate launch -m training.train_autoencoder --config training/configs/small/autoencoder.yaml

AutoencoderVivace sees and predicts log spectra; the phase iteration of its decoder has no weights and is not run in
training. AutoencoderEncodec is trained from waveform to waveform. With `adversarial_weight` or `feature_weight`
discriminators are trained beside either (training/adversary.py).
"""

import torch
from accelerate import Accelerator

from autoencoder.autoencoder_vivace import AutoencoderVivace
from training import dry_run, loop
from training.adversary import Adversary, Objective
from training.autoencoders import Autoencoder, autoencoder_class, load_autoencoder
from training.autoencoding import autoencoding, initialise_linear_path, validate
from training.config import AutoencoderRun, command, load_model_config, parse_config
from training.data.clips import AudioCrops, read_audio, read_rows
from training.trainer import Losses, Trainer
from training.watch import picture, sound_writers


class Draws:
    """What is drawn at random in each step: for the whole batch in every process, of which each takes its rows.

    Args:
        config, accelerator: of the run.
        channels: of the latents.
    """

    def __init__(self, config: AutoencoderRun, accelerator: Accelerator, channels: int):
        self.config, self.accelerator, self.step, self.drawn = config, accelerator, -1, None
        self.shape = (config.batch_size, 2, channels, config.crop_frames)

    def __call__(self, step: int, part: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Normal noise for the posterior and for the latents, (rows, channels, frames) each, on the device."""
        if step != self.step:
            self.step = step
            self.drawn = torch.randn(self.shape, generator=loop.torch_rng(self.config.seed, 4, step))
        rows = loop.shard(self.drawn, self.accelerator, part, self.config).to(self.accelerator.device)
        return rows[:, 0], rows[:, 1]


@torch.no_grad()
def show(accelerator: Accelerator, model: Autoencoder, config: AutoencoderRun, step: int) -> None:
    """Validation clips as they are and decoded, and their spectrograms one above the other, to the tracker."""
    writers = sound_writers(accelerator)
    if not writers:
        return
    for index, row in enumerate(read_rows(config.data_dir, "validation")[: config.demo_clips]):
        audio = read_audio(row)
        decoded = model(audio[None].to(model.device)).sample[0].float().cpu().clamp(-1.0, 1.0)
        pair = {"original": audio, "decoded": decoded}
        pictures = torch.cat([picture(sound.mean(0).numpy()) for sound in pair.values()], dim=1)
        for writer in writers:
            for name, sound in pair.items():
                writer.add_audio(f"demo/{index}_{name}", sound.mean(0, True), step, sample_rate=row["sampling_rate"])
            writer.add_image(f"demo/{index}_original_above_decoded", pictures, step)


def main(argv: list[str] | None = None) -> dict | None:
    """Train; a dry run returns its figures."""
    config = parse_config(AutoencoderRun, argv)
    accelerator = loop.start(config, write=not config.dry_run)
    if config.init_from:
        model = load_autoencoder(config.init_from)
    else:
        kind = autoencoder_class(config.model_config)
        model = kind(**load_model_config(config.model_config, kind))
        spectral = isinstance(model, AutoencoderVivace)
        if spectral and config.pca_clips and not config.dry_run and not loop.checkpoints(config.output_dir):
            accelerator.print(f"linear path holds {initialise_linear_path(model, config):.1%} of the variance")
    model.to(accelerator.device)
    plain = autoencoding(model, config).to(accelerator.device)
    data = AudioCrops(config.data_dir, "train", config.crop_frames * model.hop_length)
    read_rows(config.data_dir, "validation")  # if it is missing, that is told before hours are spent
    weights = {**plain.weights, "kl": 0.0 if config.freeze_encoder else config.kl_weight}
    weights |= {"adversarial": config.adversarial_weight, "feature": config.feature_weight}
    objective = Objective(weights, config.balance, accelerator)
    if config.dry_run:
        silent = torch.zeros((), device=accelerator.device)

        def loss_of(batch: dict) -> torch.Tensor:
            with accelerator.autocast():
                done = plain(batch["audio"], silent, silent)
            return objective(done.losses, done.output)

        return dry_run.tell(accelerator, config, model, data, loss_of)
    trainer = Trainer(
        accelerator, config, model, (0.9, 0.95), "autoencoder",
        network=torch.compile(plain) if config.compile else plain, ema_decay=config.ema_decay,
    )  # fmt: skip
    if objective.balancer is not None:
        accelerator.register_for_checkpointing(objective.balancer)
    adversary = None
    if config.adversarial_weight or config.feature_weight:
        judge = plain.discriminator(config.discriminator_filters)
        adversary = Adversary(judge, config, accelerator, trainer.finite)
        accelerator.register_for_checkpointing(adversary)
    step = trainer.resume()
    draws = Draws(config, accelerator, model.config.latent_channels)

    def losses(step: int, part: int, batch: dict) -> Losses:
        eps, noise = draws(step, part)
        output, reference, found = trainer.network(batch["audio"], eps, config.latent_noise * noise)
        trainer.finite.note(step, found)  # before the discriminators learn from what came out
        told = {}
        if adversary is not None:
            told = adversary.learn(output, reference, step)
            found |= adversary.verdict(output, reference, step)
        loss = objective(found, output)
        summed = {} if config.balance else {"loss": loss}  # a balanced scalar means nothing by itself
        return Losses(loss, {**found, "the sum of the losses": loss}, summed | found | told)

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, model):
            if accelerator.is_main_process:
                show(accelerator, model, config, step)
            return validate(plain, config)

    after_step, more = (None, []) if adversary is None else (adversary.stepped, [adversary.judge])
    loader = loop.make_loader(data, config, step, accelerator)
    trainer.run(loader, losses, figures, [config.validate_every], after_step, more)
    loop.save_final(accelerator, model, trainer.ema, config)
    return None


if __name__ == "__main__":
    command(main)
