"""Stage 1: audio -> an autoencoder, AutoencoderVivace or AutoencoderEncodec by the `_class_name` of its config.

    accelerate launch -m training.train_autoencoder --config training/configs/small/autoencoder.yaml

AutoencoderVivace sees and predicts log spectra; the phase iteration of its decoder has no weights and is not run in
training. AutoencoderEncodec is trained from waveform to waveform. With `adversarial_weight` or `feature_weight`
discriminators are trained beside either (training/adversary.py).
"""

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from autoencoder.autoencoder_vivace import AutoencoderVivace
from training import dry_run, loop
from training.adversary import Adversary, Objective, check_finite
from training.autoencoders import Autoencoder, autoencoder_class, load_autoencoder
from training.autoencoding import autoencoding, initialise_linear_path, validate
from training.config import AutoencoderRun, command, load_model_config, parse_config
from training.data.clips import AudioCrops, read_audio, read_rows
from training.watch import picture, sound_writers


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
    plain = network = autoencoding(model, config).to(accelerator.device)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=config.learning_rate,
        betas=(0.9, 0.95),
        weight_decay=config.weight_decay,
    )
    schedule = get_scheduler(
        config.lr_scheduler, optimizer, num_warmup_steps=config.warmup_steps, num_training_steps=config.max_steps
    )
    ema = EMAModel(model.parameters(), decay=config.ema_decay, use_ema_warmup=True, power=0.75)
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
    network, optimizer = accelerator.prepare(torch.compile(network) if config.compile else network, optimizer)
    accelerator.register_for_checkpointing(schedule, ema)
    if objective.balancer is not None:
        accelerator.register_for_checkpointing(objective.balancer)
    adversary = None
    if config.adversarial_weight or config.feature_weight:
        adversary = Adversary(plain.discriminator(config.discriminator_filters), config, accelerator)
        accelerator.register_for_checkpointing(adversary)
    learning = [network] if adversary is None else [network, adversary.judge]
    step = loop.resume(accelerator, config)

    loader = loop.make_loader(data, config, step, accelerator)
    progress = loop.Progress(accelerator, config, step, "autoencoder")
    part = 0
    shape = (config.batch_size, 2, model.config.latent_channels, config.crop_frames)
    for batch in progress.batches(loader):
        if part == 0:  # the whole global batch is drawn everywhere; each process takes its rows
            all_draws = torch.randn(shape, generator=loop.torch_rng(config.seed, 4, step))
        draws = loop.shard(all_draws, accelerator, part, config).to(accelerator.device)
        with accelerator.accumulate(*learning):
            audio = batch["audio"].to(accelerator.device)
            output, reference, losses = network(audio, draws[:, 0], config.latent_noise * draws[:, 1])
            check_finite(losses, step)
            told = {}
            if adversary is not None:
                told = adversary.learn(output, reference, step)
                losses |= adversary.verdict(output, reference, step)
                check_finite(losses, step)
            loss = objective(losses, output)
            check_finite({"the sum of the losses": loss}, step)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                norm = accelerator.clip_grad_norm_(network.parameters(), config.max_grad_norm)
                if config.mixed_precision != "fp16":  # its scaler leaves such steps out by itself
                    check_finite({"the gradient": norm}, step)
            optimizer.step()
            optimizer.zero_grad()
        part += 1
        if not accelerator.sync_gradients:
            continue
        part = 0
        if adversary is not None:
            adversary.stepped(step)
        step += 1
        schedule.step()
        ema.step(model.parameters())
        summed = {} if config.balance else {"loss": loss.detach()}  # a balanced scalar means nothing by itself
        progress.add(step, summed | {name: value.detach() for name, value in (losses | told).items()})
        stop = step == config.max_steps or progress.out_of_time()
        if step % config.validate_every == 0 or stop:
            with loop.ema_weights(ema, model):
                progress.report(step, validate(plain, config))
                if accelerator.is_main_process:
                    show(accelerator, model, config, step)
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
