"""Stage 1: audio -> AutoencoderVivace.

    accelerate launch -m training.train_autoencoder --config training/configs/small/autoencoder.yaml

The network sees and predicts log spectra; the phase iteration of the decoder has no weights and is not run in training.
"""

import torch
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from autoencoder.autoencoder_vivace import AutoencoderVivace
from autoencoder.losses import SpectralLoss, weighted_sum
from training import loop
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


class Autoencoding(torch.nn.Module):
    """Features -> (predicted features, KL): one forward, so that DDP sees every parameter."""

    def __init__(self, model: AutoencoderVivace):
        super().__init__()
        self.model = model

    def forward(
        self, features: torch.Tensor, eps: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        posterior = self.model.encode_features(features)
        latents = posterior.mean + posterior.std * eps + noise
        return self.model.decode_features(latents), posterior.kl().mean()


def training_losses(
    network: torch.nn.Module,
    model: AutoencoderVivace,
    spectral: SpectralLoss,
    audio: torch.Tensor,
    draws: torch.Tensor,
    config: AutoencoderRun,
) -> dict[str, torch.Tensor]:
    """Losses of one micro-batch. `draws`: (batch, 2, latent_channels, frames) standard normal."""
    with torch.no_grad():
        features = model.audio_to_features(audio)
    predicted, kl = network(features, draws[:, 0], config.latent_noise * draws[:, 1])
    return {**spectral(predicted, features), "kl": kl}


@torch.no_grad()
def validate(model: AutoencoderVivace, spectral: SpectralLoss, config: AutoencoderRun) -> dict[str, float]:
    """Losses without noise on the first validation clips."""
    totals: dict[str, float] = {}
    rows = read_rows(config.data_dir, "validation")[: config.validate_clips]
    for row in rows:
        features = model.audio_to_features(read_audio(row)[None].to(model.device))
        posterior = model.encode_features(features)
        losses = spectral(model.decode_features(posterior.mode()), features)
        for name, value in {**losses, "kl": posterior.kl().mean()}.items():
            totals[name] = totals.get(name, 0.0) + float(value) / len(rows)
    return {f"validation/{name}": value for name, value in totals.items()}


def main(argv: list[str] | None = None) -> None:
    config = parse_config(AutoencoderRun, argv)
    accelerator = loop.start(config)
    if config.init_from:
        model = AutoencoderVivace.from_pretrained(config.init_from)
    else:
        model = AutoencoderVivace(**load_model_config(config.model_config, AutoencoderVivace))
        if config.pca_clips and not loop.checkpoints(config.output_dir):
            accelerator.print(f"linear path holds {initialise_linear_path(model, config):.1%} of the variance")
    spectral = SpectralLoss(model.num_bins, model.config.sampling_rate, model.config.floor_db).to(accelerator.device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
    )
    schedule = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
    )
    model.to(accelerator.device)
    ema = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    network = Autoencoding(model)
    network, optimizer = accelerator.prepare(torch.compile(network) if config.compile else network, optimizer)
    accelerator.register_for_checkpointing(schedule, ema)
    step = loop.resume(accelerator, config)

    data = AudioCrops(config.data_dir, "train", config.crop_frames * model.hop_length)
    loader = loop.make_loader(data, config, step, accelerator)
    progress = loop.Progress(accelerator, config, step, "autoencoder")
    weights = {"log": config.log_weight, "mel": config.mel_weight, "power": config.power_weight, "kl": config.kl_weight}
    part = 0
    shape = (config.batch_size, 2, model.config.latent_channels, config.crop_frames)
    for batch in loader:
        if part == 0:  # the whole global batch is drawn everywhere; each process takes its rows
            all_draws = torch.randn(shape, generator=loop.torch_rng(config.seed, 4, step))
        draws = loop.shard(all_draws, accelerator, part, config).to(accelerator.device)
        with accelerator.accumulate(network):
            losses = training_losses(network, model, spectral, batch["audio"].to(accelerator.device), draws, config)
            loss = weighted_sum(losses, weights)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(network.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
        part += 1
        if not accelerator.sync_gradients:
            continue
        part = 0
        if not torch.isfinite(loss):
            raise FloatingPointError(f"loss is {loss.item()} at step {step}; the last checkpoint is kept")
        step += 1
        schedule.step()
        ema.step(model.parameters())
        progress.add(step, {"loss": loss.detach(), **{k: v.detach() for k, v in losses.items()}})
        stop = step == config.max_steps or progress.out_of_time()
        if step % config.validate_every == 0 or stop:
            with loop.ema_weights(ema, model):
                progress.report(step, validate(model, spectral, config))
        if stop or progress.due(step):
            loop.save_checkpoint(accelerator, config, step)
        if stop:
            break
        progress.leave_if_asked(step)
    progress.close()
    loop.save_final(accelerator, model, ema, config)


if __name__ == "__main__":
    command(main)
