"""Stage 1: audio -> an autoencoder, AutoencoderVivace or AutoencoderEncodec by the `_class_name` of its config.

accelerate launch -m training.train_autoencoder --config training/configs/small/autoencoder.yaml
"""

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import nn

from autoencoder.autoencoder_encodec import AutoencoderEncodec
from autoencoder.autoencoder_vivace import AutoencoderVivace
from autoencoder.classes import Autoencoder, autoencoder_class, load_autoencoder
from autoencoder.discriminators import MultiBandDiscriminator, MultiScaleSTFTDiscriminator
from autoencoder.losses import FeatureLoss, WaveformLoss
from training.config import AutoencoderRun, command, load_model_config, parse_config
from training.data.clips import AudioCrops, read_audio, read_rows
from training.run import dry_run, loop
from training.run.adversary import Adversary, Objective
from training.run.trainer import Losses, Trainer
from training.watch import picture, sound_writers

PCA_VALUES = 2**27  # most values of the spectra for the principal components: half a GB


class Autoencoded(NamedTuple):
    """Output and reference in fp32, in the form that the discriminators take, and losses by name."""

    output: torch.Tensor
    reference: torch.Tensor
    losses: dict[str, torch.Tensor]


class SpectralAutoencoding(nn.Module):
    """Audio -> losses between log spectra, in one forward pass as DDP requires."""

    def __init__(self, model: AutoencoderVivace, config: AutoencoderRun):
        super().__init__()
        self.model, self.frozen = model, config.freeze_encoder
        self.loss = FeatureLoss(model)
        self.weights = {name: getattr(config, f"{name}_weight") for name in self.loss.names}

    def discriminator(self, filters: int) -> nn.Module:
        """A discriminator of spectra, since no weights of the model determine the phase of the waveform."""
        return MultiBandDiscriminator(self.model.config.audio_channels, self.model.num_bins, filters)

    def forward(self, audio: torch.Tensor, eps: torch.Tensor, noise: torch.Tensor) -> Autoencoded:
        """Audio is (batch, channels, samples); eps and noise are (batch, latent_channels, frames)."""
        with torch.no_grad():
            features = self.model.audio_to_features(audio)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            posterior = self.model.encode_features(features)
        predicted = self.model.decode_features(posterior.mean + posterior.std * eps + noise).float()
        with torch.autocast(audio.device.type, enabled=False):
            return Autoencoded(
                predicted, features, {**self.loss(predicted, features), "kl": posterior.kl().float().mean()}
            )


class WaveformAutoencoding(nn.Module):
    """Audio -> losses between waveforms, for an autoencoder that decodes to waveforms."""

    def __init__(self, model: AutoencoderEncodec, config: AutoencoderRun):
        super().__init__()
        self.model, self.frozen = model, config.freeze_encoder
        weights = {name: getattr(config, f"{name}_weight") for name in WaveformLoss.NAMES}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.loss = WaveformLoss(model.config.sampling_rate, tuple(self.weights))

    def discriminator(self, filters: int) -> nn.Module:
        """EnCodec's discriminator of complex STFTs, which includes the phase."""
        return MultiScaleSTFTDiscriminator(self.model.config.audio_channels, filters=filters)

    def forward(self, audio: torch.Tensor, eps: torch.Tensor, noise: torch.Tensor) -> Autoencoded:
        """Audio is (batch, channels, samples); eps and noise are (batch, latent_channels, frames)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            posterior = self.model.encode(audio).latent_dist
        decoded = self.model.decode(posterior.mean + posterior.std * eps + noise).sample[..., : audio.shape[-1]].float()
        with torch.autocast(audio.device.type, enabled=False):
            return Autoencoded(decoded, audio, {**self.loss(decoded, audio), "kl": posterior.kl().float().mean()})


Autoencoding = SpectralAutoencoding | WaveformAutoencoding


def autoencoding(model: Autoencoder, config: AutoencoderRun) -> Autoencoding:
    """The forward pass for a model of either class; with `freeze_encoder` its encoder is not trained."""
    if config.freeze_encoder:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(not name.startswith("encoder"))
    kind = SpectralAutoencoding if isinstance(model, AutoencoderVivace) else WaveformAutoencoding
    return kind(model, config)


@torch.no_grad()
def log_spectra(model: AutoencoderVivace, rows: list[dict]) -> torch.Tensor:
    """Log spectra of clips, (frames, features), from evenly spaced frames if all would exceed PCA_VALUES."""
    most = max(1, PCA_VALUES // model.encoder_linear.in_features // len(rows))
    kept = []
    for row in rows:
        features = model.audio_to_features(read_audio(row)[None])[0]
        places = torch.linspace(0, len(features) - 1, min(most, len(features))).round().long()
        kept.append(features[places])
    return torch.cat(kept)


@torch.no_grad()
def initialise_linear_path(model: AutoencoderVivace, config: AutoencoderRun) -> float:
    """Set the linear path to whitened principal components of the log spectra of `pca_clips` clips.

    Only the leading components are computed, by randomised subspace iteration (Halko, Martinsson and Tropp 2011,
    algorithm 4.4); all of them would take minutes at the 6,148 features of the base size.

    Returns the share of variance that the components hold.
    """
    rows = read_rows(config.data_dir, "train")
    found, needed = len(read_audio(rows[0])), model.config.audio_channels
    if found != needed:
        raise ValueError(f"data_dir {config.data_dir}: clips have {found} channels; needed by model_config: {needed}")
    chosen = loop.item_rng(config.seed, loop.Stream.PCA_CLIPS).choice(
        len(rows), min(config.pca_clips, len(rows)), replace=False
    )
    spectra = log_spectra(model, [rows[index] for index in chosen])
    channels, frames = model.config.latent_channels, len(spectra)
    mean = spectra.mean(0)
    spectra -= mean
    # Twice the components that are kept; zeros are added if there are fewer frames than that.
    size = min(2 * channels, spectra.shape[1])
    spectra = torch.nn.functional.pad(spectra, (0, 0, 0, max(0, size - frames)))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        _, values, vectors = torch.svd_lowrank(spectra, q=size, niter=8)
    vectors, values = vectors[:, :channels].flip(1), values[:channels].flip(0)  # the strongest is the last channel
    scale = (values / frames**0.5).clamp_min(1e-3)
    model.encoder_linear.weight.copy_((vectors / scale).T)
    model.encoder_linear.bias.copy_(-(mean @ vectors) / scale)
    model.decoder_linear.weight.copy_(vectors * scale)
    model.decoder_linear.bias.copy_(mean)
    return float(values.double().square().sum() / spectra.double().square().sum())


@torch.no_grad()
def validate(network: Autoencoding, config: AutoencoderRun) -> dict[str, float]:
    """Losses without noise on the first validation clips."""
    totals: dict[str, float] = {}
    rows = read_rows(config.data_dir, "validation")[: config.validate_clips]
    silent = torch.zeros((), device=network.model.device)
    for row in rows:
        for name, value in network(read_audio(row)[None].to(network.model.device), silent, silent).losses.items():
            totals[name] = totals.get(name, 0.0) + float(value) / len(rows)
    return {f"validation/{name}": value for name, value in totals.items()}


class Draws:
    """Noise of each step, with the latents' number of channels. Every process draws it for the whole batch and takes
    its own rows."""

    def __init__(self, config: AutoencoderRun, accelerator: Accelerator, channels: int):
        self.config, self.accelerator, self.step, self.drawn = config, accelerator, -1, None
        self.shape = (config.batch_size, 2, channels, config.crop_frames)

    def __call__(self, step: int, part: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Normal noise for the posterior and for the latents, (rows, channels, frames) each, on the device."""
        if step != self.step:
            self.step = step
            self.drawn = torch.randn(self.shape, generator=loop.torch_rng(self.config.seed, loop.Stream.NOISE, step))
        rows = loop.shard(self.drawn, self.accelerator, part, self.config).to(self.accelerator.device)
        return rows[:, 0], rows[:, 1]


@torch.no_grad()
def show(accelerator: Accelerator, model: Autoencoder, config: AutoencoderRun, step: int) -> None:
    """Send validation clips, original and decoded, and both spectrograms to the trackers."""
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
    """Train; a dry run returns its measurements."""
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
    read_rows(config.data_dir, "validation")  # fails early if it is missing
    weights = {**plain.weights, "kl": 0.0 if config.freeze_encoder else config.kl_weight}
    weights |= {"adversarial": config.adversarial_weight, "feature": config.feature_weight}
    objective = Objective(weights, config.balance, accelerator)
    if config.dry_run:
        silent = torch.zeros((), device=accelerator.device)

        def loss_of(batch: dict) -> torch.Tensor:
            with accelerator.autocast():
                done = plain(batch["audio"], silent, silent)
            return objective(done.losses, done.output)

        return dry_run.report(accelerator, config, model, data, loss_of)
    trainer = Trainer(
        accelerator, config, model, (0.9, 0.95), "autoencoder",
        network=torch.compile(plain) if config.compile else plain, ema_decay=config.ema_decay,
    )  # fmt: skip
    if objective.balancer is not None:
        accelerator.register_for_checkpointing(objective.balancer)
    adversary = None
    if config.adversarial_weight or config.feature_weight:
        discriminator = plain.discriminator(config.discriminator_filters)
        adversary = Adversary(discriminator, config, accelerator, trainer.finite)
        accelerator.register_for_checkpointing(adversary)
    step = trainer.resume()
    draws = Draws(config, accelerator, model.config.latent_channels)

    def micro_batch(step: int, part: int, batch: dict) -> Losses:
        eps, noise = draws(step, part)
        output, reference, losses = trainer.network(batch["audio"], eps, config.latent_noise * noise)
        trainer.finite.note(step, losses)  # before the discriminators are trained on the output
        logged = {}
        if adversary is not None:
            logged = adversary.train_discriminators(output, reference, step)
            losses |= adversary.losses(output, reference, step)
        loss = objective(losses, output)
        total = {} if config.balance else {"loss": loss}  # a balanced loss has no meaningful value
        return Losses(loss, {**losses, "the sum of the losses": loss}, total | losses | logged)

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, model):
            if accelerator.is_main_process:
                show(accelerator, model, config, step)
            return validate(plain, config)

    after_step, more = (None, []) if adversary is None else (adversary.after_step, [adversary.discriminator])
    loader = loop.make_loader(data, config, step, accelerator)
    trainer.run(loader, micro_batch, figures, [config.validate_every], after_step, more)
    loop.save_final(accelerator, model, trainer.ema, config)
    return None


if __name__ == "__main__":
    command(main)
