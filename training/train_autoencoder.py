"""Stage 1: audio -> an autoencoder, AutoencoderVivace or AutoencoderEncodec by the `_class_name` of its config.

    accelerate launch -m training.train_autoencoder --config training/configs/small/autoencoder.yaml

AutoencoderVivace sees and predicts log spectra; the phase iteration of its decoder has no weights and is not run in
training. AutoencoderEncodec is trained from waveform to waveform.
"""

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from autoencoder.autoencoder_encodec import AutoencoderEncodec
from autoencoder.autoencoder_vivace import AutoencoderVivace
from autoencoder.losses import SpectralLoss, WaveformLoss, weighted_sum
from training import dry_run, loop
from training.autoencoders import autoencoder_class, load_autoencoder
from training.config import AutoencoderRun, command, load_model_config, parse_config
from training.data.clips import AudioCrops, read_audio, read_rows


@torch.no_grad()
def initialise_linear_path(model: AutoencoderVivace, config: AutoencoderRun) -> float:
    """Set the linear path to whitened principal components of the log spectra of `pca_clips` clips.

    Returns the share of variance that the components hold.
    """
    rows = read_rows(config.data_dir, "train")
    chosen = loop.item_rng(config.seed, 3).choice(len(rows), min(config.pca_clips, len(rows)), replace=False)
    total, outer, count = 0.0, 0.0, 0
    for index in chosen:
        features = model.audio_to_features(read_audio(rows[index])[None])[0].double()
        total, outer, count = total + features.sum(0), outer + features.T @ features, count + len(features)
    mean = total / count
    covariance = outer / count - torch.outer(mean, mean)
    values, vectors = torch.linalg.eigh(covariance)
    channels = model.config.latent_channels
    vectors, scale = vectors[:, -channels:], values[-channels:].clamp_min(1e-6).sqrt()
    model.encoder_linear.weight.copy_((vectors / scale).T)
    model.encoder_linear.bias.copy_(-(mean @ vectors) / scale)
    model.decoder_linear.weight.copy_(vectors * scale)
    model.decoder_linear.bias.copy_(mean)
    return float(values[-channels:].sum() / values.sum())


class SpectralAutoencoding(torch.nn.Module):
    """Audio -> losses between log spectra: one forward, so that DDP sees every parameter."""

    def __init__(self, model: AutoencoderVivace, config: AutoencoderRun):
        super().__init__()
        self.model = model
        self.loss = SpectralLoss(model.num_bins, model.config.sampling_rate, model.config.floor_db)
        self.weights = {"log": config.log_weight, "mel": config.mel_weight, "power": config.power_weight}

    def forward(self, audio: torch.Tensor, eps: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of audio (batch, channels, samples); eps, noise: (batch, latent_channels, frames)."""
        with torch.no_grad():
            features = self.model.audio_to_features(audio)
        posterior = self.model.encode_features(features)
        predicted = self.model.decode_features(posterior.mean + posterior.std * eps + noise)
        with torch.autocast(audio.device.type, enabled=False):
            return {**self.loss(predicted, features), "kl": posterior.kl().mean()}


class WaveformAutoencoding(torch.nn.Module):
    """Audio -> losses between waveforms, for an autoencoder that decodes to them directly."""

    def __init__(self, model: AutoencoderEncodec, config: AutoencoderRun):
        super().__init__()
        self.model = model
        weights = {name: getattr(config, f"{name}_weight") for name in WaveformLoss.NAMES}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.loss = WaveformLoss(model.config.sampling_rate, tuple(self.weights))

    def forward(self, audio: torch.Tensor, eps: torch.Tensor, noise: torch.Tensor) -> dict[str, torch.Tensor]:
        """Losses of audio (batch, channels, samples); eps, noise: (batch, latent_channels, frames)."""
        posterior = self.model.encode(audio).latent_dist
        decoded = self.model.decode(posterior.mean + posterior.std * eps + noise).sample[..., : audio.shape[-1]]
        with torch.autocast(audio.device.type, enabled=False):
            return {**self.loss(decoded, audio), "kl": posterior.kl().mean()}


@torch.no_grad()
def validate(network: SpectralAutoencoding | WaveformAutoencoding, config: AutoencoderRun) -> dict[str, float]:
    """Losses without noise on the first validation clips."""
    totals: dict[str, float] = {}
    rows = read_rows(config.data_dir, "validation")[: config.validate_clips]
    silent = torch.zeros((), device=network.model.device)
    for row in rows:
        for name, value in network(read_audio(row)[None].to(network.model.device), silent, silent).items():
            totals[name] = totals.get(name, 0.0) + float(value) / len(rows)
    return {f"validation/{name}": value for name, value in totals.items()}


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
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
    )
    schedule = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
    )
    model.to(accelerator.device)
    ema = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    kind = SpectralAutoencoding if isinstance(model, AutoencoderVivace) else WaveformAutoencoding
    plain = network = kind(model, config).to(accelerator.device)
    data = AudioCrops(config.data_dir, "train", config.crop_frames * model.hop_length)
    weights = {**plain.weights, "kl": config.kl_weight}
    if config.dry_run:
        silent = torch.zeros((), device=accelerator.device)

        def loss_of(batch: dict) -> torch.Tensor:
            with accelerator.autocast():
                return weighted_sum(plain(batch["audio"], silent, silent), weights)

        return dry_run.tell(accelerator, config, model, data, loss_of)
    network, optimizer = accelerator.prepare(torch.compile(network) if config.compile else network, optimizer)
    accelerator.register_for_checkpointing(schedule, ema)
    step = loop.resume(accelerator, config)

    loader = loop.make_loader(data, config, step, accelerator)
    progress = loop.Progress(accelerator, config, step, "autoencoder")
    part = 0
    shape = (config.batch_size, 2, model.config.latent_channels, config.crop_frames)
    for batch in progress.batches(loader):
        if part == 0:  # the whole global batch is drawn everywhere; each process takes its rows
            all_draws = torch.randn(shape, generator=loop.torch_rng(config.seed, 4, step))
        draws = loop.shard(all_draws, accelerator, part, config).to(accelerator.device)
        with accelerator.accumulate(network):
            losses = network(batch["audio"].to(accelerator.device), draws[:, 0], config.latent_noise * draws[:, 1])
            loss = weighted_sum(losses, weights)
            if not torch.isfinite(loss):  # before the step, so that neither weights nor EMA see it
                bad = [name for name, value in losses.items() if not torch.isfinite(value)] or ["their sum"]
                raise FloatingPointError(f"{', '.join(bad)} not finite after step {step}; the last checkpoint is kept")
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(network.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        part += 1
        if not accelerator.sync_gradients:
            continue
        part = 0
        step += 1
        schedule.step()
        ema.step(model.parameters())
        progress.add(step, {"loss": loss.detach(), **{k: v.detach() for k, v in losses.items()}})
        stop = step == config.max_steps or progress.out_of_time()
        if step % config.validate_every == 0 or stop:
            with loop.ema_weights(ema, model):
                progress.report(step, validate(plain, config))
        if stop or progress.due(step):
            loop.save_checkpoint(accelerator, config, step)
        if stop:
            break
        progress.leave_if_asked(step)
    progress.close()
    loop.save_final(accelerator, model, ema, config)
    return None


if __name__ == "__main__":
    command(main)
