"""A folder of one's own music -> a LoRA adapter of a published checkpoint, in one command.

    python -m training.finetune --music my_music --output_dir mine      # as `vivace finetune my_music --out mine`

It runs the stages in turn: prepare, encode, train, export (docs/own-music.md). Each goes on where it was when the same
command is given again; what they write lies in a folder beside the result. The step with the lowest loss on files that
are not trained on is what is exported; where that loss never falls, nothing is. At the end pieces are made without and
with the adapter, which say what was gained and what was lost (training/gain.py).
"""

import dataclasses
import json
import os
from pathlib import Path

import torch
from safetensors.torch import load_file

from pipelines.hub import DEFAULT, ROOT, find_checkpoint
from training import encode_latents, export, gain, train_unet
from training.config import command, option, parse_config
from training.data.latents import weights_fingerprint
from training.data.prepare import __main__ as prepare
from training.lora import WEIGHTS, Best, finished, load_autoencoder
from training.run.checkpoints import write_json

VALIDATIONS = 10  # of a run
FIGURES = "figures.json"


@dataclasses.dataclass(frozen=True)
class FinetuneRun:
    """Train a LoRA adapter on a folder of music, with or without captions."""

    music: str | None = option(None, "folder of audio files, table or data set, as training.data.prepare takes it")
    output_dir: str = option("mine", "folder of the adapter to write")
    work_dir: str | None = option(None, "folder of what the stages write; null = output_dir with .work after it")
    checkpoint: str = option(DEFAULT, "folder, or user/name on the Hub, of what the adapter is for")
    lora_rank: int = option(8, "rank of the adapter: more learns more, and overfits sooner", at_least=1, at_most=1024)
    max_steps: int = option(300, "optimiser steps", above=0)
    max_minutes: float | None = option(None, "stop training after this much wall time", above=0)
    batch_size: int = option(8, "clips an optimiser step", above=0)
    crop_frames: int = option(128, "latent frames of the longest item", above=0)
    learning_rate: float = option(3e-3, "highest learning rate", above=0)
    validation_share: float = option(0.15, "share of files that are held out to choose the step", above=0, at_most=0.5)
    labels: bool = option(True, "estimate tempo, beats, key and chords from the audio")
    pieces: int = option(
        8, "pieces made without and with the adapter to say what was gained and lost; 0 = none", at_least=0, at_most=256
    )
    seed: int = option(0, "of the order of items, of crops and of noise, and of the pieces", at_least=0)
    num_threads: int = option(1, "CPU threads of encoding and training", above=0)
    num_workers: int = option(1, "processes that prepare files", above=0)
    dry_run: bool = option(False, "prepare and encode, say what was found and how long training takes, and stop")


def local(name: str) -> str:
    """A checkpoint's folder of this checkout, wherever the command runs."""
    return name if Path(name).exists() else str(ROOT / name)


def prepare_words(config: FinetuneRun, work: Path, rate: int, channels: int) -> list[str]:
    """Arguments of training.data.prepare."""
    words = [str(config.music), "--output_dir", str(work / "data"), "--sampling_rate", str(rate)]
    words += ["--channels", str(channels), "--validation_share", str(config.validation_share), "--test_share", "0"]
    words += ["--num_workers", str(config.num_workers)]
    listeners = {"--beat_tracker": local("checkpoints/beat_tracker"), "--key_network": local("checkpoints/key")}
    if config.labels and all(Path(folder).is_dir() for folder in listeners.values()):
        return words + [word for pair in listeners.items() for word in pair]
    if config.labels:
        print("note: no beat tracker and key network here, so that tempo, beats, key and chords stay unknown")
    return [*words, "--no-labels"]


def train_words(config: FinetuneRun, work: Path, checkpoint: Path) -> list[str]:
    """Arguments of training.train_unet."""
    settings = {
        "init_from": checkpoint, "data_dir": work / "latents", "output_dir": work / "run",
        "scheduler_config": checkpoint / "scheduler" / "scheduler_config.json",
        "lora_rank": config.lora_rank, "max_steps": config.max_steps, "batch_size": config.batch_size,
        "crop_frames": config.crop_frames, "learning_rate": config.learning_rate, "seed": config.seed,
        "num_threads": config.num_threads, "warmup_steps": min(20, config.max_steps // 5), "ema_decay": 0.98,
        "validate_every": max(1, config.max_steps // VALIDATIONS), "tracker": "null",
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return words if config.max_minutes is None else [*words, "--max_minutes", str(config.max_minutes)]


def evaluate(config: FinetuneRun, checkpoint: Path, work: Path) -> dict:
    """Held-out loss and, with `pieces`, the figures of `gain.evaluate_adapter`; those of an earlier call of the same
    command are kept in `work_dir`."""
    run, kept = work / "run", work / FIGURES
    best = Best(run).read()
    figures: dict = {"held_out_loss": {"before": best["base_loss"], "after": best["loss"]}, "step": best["step"]}
    if not config.pieces:
        return figures
    # Not of the file: the order of its metadata differs from save to save.
    adapter = weights_fingerprint(load_file(run / "best" / WEIGHTS))
    about = {"adapter": adapter, "pieces": config.pieces, "seed": config.seed}
    before = json.loads(kept.read_text()) if kept.is_file() else {}
    if all(before.get(name) == value for name, value in about.items()):
        return before
    print(f"evaluates    {config.pieces} pieces without and with the adapter (--pieces 0 leaves this out)", flush=True)
    torch.set_num_threads(config.num_threads)
    listeners = {name: local(f"checkpoints/{name}") for name in ("tagger", "beat_tracker", "key")}
    figures |= about | gain.evaluate_adapter(
        checkpoint, run / "best", work / "data", config.pieces, config.seed, listeners
    )
    write_json(kept, figures)
    return figures


def main(argv: list[str] | None = None) -> dict | None:
    """Command line; returns the content of best.json, or the measurements of a dry run. Raises a ValueError if an
    argument is wrong, nothing of the music is usable, or nothing would be gained."""
    config = parse_config(FinetuneRun, argv)
    if config.music is None:
        raise ValueError("music is missing: give a folder of audio files, as in --music my_music")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("finetune runs in one process; on several GPUs give the stages one by one (docs/own-music.md)")
    output = Path(config.output_dir)
    work = Path(config.work_dir or f"{config.output_dir}.work")
    checkpoint = find_checkpoint(None if config.checkpoint == DEFAULT else config.checkpoint)
    vae = load_autoencoder(f"{checkpoint}/vae").config

    report = prepare.main(prepare_words(config, work, vae.sampling_rate, vae.audio_channels))
    kept, held = (report["splits"][split] for split in ("train", "validation"))
    if not kept["clips"] or not held["clips"]:
        raise ValueError(f"music {config.music}: {report['fates'].get('kept', 0)} usable files; allowed: 3 or more")
    encode_latents.main(
        ["--data_dir", str(work / "data"), "--output_dir", str(work / "latents"), "--autoencoder", f"{checkpoint}/vae",
         "--text_encoder", str(checkpoint), "--num_threads", str(config.num_threads)]
    )  # fmt: skip
    words = train_words(config, work, checkpoint)
    cost = train_unet.main([*words, "--dry_run"])
    print(
        f"found        {kept['files']} files to train on, {60.0 * kept['hours']:.1f} minutes in {kept['clips']} clips; "
        f"{held['files']} held out, {60.0 * held['hours']:.1f} minutes\n"
        f"will take    about {cost['minutes']:.0f} minutes for {cost['steps_in_time']} steps; the folder {work} can be "
        "removed afterwards",
        flush=True,
    )
    if config.dry_run:
        return cost
    train_unet.main(words)
    finished(work / "run")  # nothing is made of a run that gained nothing
    figures = evaluate(config, checkpoint, work)
    notes = f"- Music: {kept['files']} files, {60.0 * kept['hours']:.1f} minutes; {held['files']} more were held out\n"
    if config.pieces:
        notes += (
            f"\n{config.pieces} pieces of {figures['piece_s']:g} s, made without and with the adapter from the same "
            f"seeds, with the words of the held-out files ({FIGURES}):\n\n{gain.table(figures)}\n"
        )
    work.joinpath("notes.md").write_text(notes)
    export.main(["--run", str(work / "run"), "--output_dir", str(output), "--notes", str(work / "notes.md")])
    write_json(output / FIGURES, figures)
    best = Best(work / "run").read()
    print(
        f"held-out     loss {best['base_loss']:.4f} without the adapter, {best['loss']:.4f} with it at step "
        f"{best['step']} of {config.max_steps}, the lowest of {VALIDATIONS + 1} validations"
    )
    if config.pieces:
        gained, lost = gain.verdict(figures)
        print(f"{gain.table(figures)}\ngained       {gained}\nlost         {lost}\nfigures      {output / FIGURES}")
    print(f'try it       vivace generate "slow piano" --lora {output} --checkpoint {config.checkpoint}')
    return best


if __name__ == "__main__":
    command(main)
