"""From a folder of one's own files to a published folder that plays, by the commands of docs/own-music.md; slow."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pipelines.hub import load_published
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from tests.conftest import ROOT
from tests.helpers.latent_sets import make_autoencoder
from tests.helpers.synthetic_clips import RATE, clicks, tones
from training import encode_latents, export, train_unet
from training.data.clips import SPLITS, read_rows
from training.data.latents import LatentCrops
from training.data.prepare import __main__ as prepare

# As in docs/own-music.md ("The commands"); the first step of each stage is enough here, hence the words that are added.
COMMANDS = {
    "training.data.prepare": "my_music --output_dir data/mine",
    "training.train_autoencoder": "--config training/configs/small/autoencoder.yaml --init_from checkpoints/small/vae "
    "--data_dir data/mine --output_dir runs/mine_autoencoder",
    "training.encode_latents": "--data_dir data/mine --output_dir latents/mine --autoencoder checkpoints/small/vae "
    "--text_encoder checkpoints/small",
    "training.train_unet": "--config training/configs/small/unet.yaml --data_dir latents/mine --output_dir runs/mine",
    "training.export": "--unet runs/mine/final --latents latents/mine --text_encoder checkpoints/small "
    "--output_dir checkpoints/mine",
    "training.evaluate": "--checkpoint checkpoints/mine --data_dir data/mine",
}
SHORT = {
    "training.data.prepare": "--num_workers 1",
    "training.train_autoencoder": "--max_steps 2 --batch_size 2 --validate_clips 1 --tracker null",
    "training.train_unet": "--max_steps 3 --batch_size 4 --validate_clips 2 --log_every 1",
    "training.evaluate": "--num_clips 2 --num_inference_steps 1 --num_workers 0",
}
LISTEN = """
import sys
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
out = pipe("slow piano", duration_s=2.0, num_inference_steps=2, seed=1)
assert not {"training", "pipelines", "autoencoder"} & set(sys.modules), "the repository was imported"
print(out.audios.shape, out.sampling_rate, float(abs(out.audios).max()))
"""


def documented_commands() -> dict[str, str]:
    """Module -> arguments of the commands in the first block of the page on one's own music."""
    section = (ROOT / "docs" / "own-music.md").read_text().split("## The commands", 1)[1].split("\n#", 1)[0]
    lines = re.findall(r"```\n(.*?)```", section, flags=re.DOTALL)[0].replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("python -m ")]
    return {line[2]: " ".join(line[3:]) for line in words}


def test_the_page_has_these_commands():
    said = documented_commands()
    assert {"training.data.prepare", "training.encode_latents", "training.train_unet"} <= set(said)
    for module, arguments in said.items():
        assert arguments == COMMANDS[module], module


def write_music(folder: Path) -> None:
    """Twenty different files, half of them with a caption beside them."""
    folder.mkdir()
    for number in range(20):
        bpm = 80.0 + 4.0 * number
        chords = (["C", "F", "G", "C"], ["Am", "F", "C", "G"])[number % 2]
        audio = 0.5 * clicks(bpm) + tones(chords, 60.0 / bpm, number % 7)
        noise = 0.01 * np.random.default_rng(number).standard_normal(len(audio))
        soundfile.write(folder / f"song {number}.flac", audio + noise, RATE)
        if number % 2:
            (folder / f"song {number}.txt").write_text(f"a calm tune for clicks and tones, number {number}")


def test_files_without_any_caption_become_a_checkpoint(tiny_text_encoder, tmp_path):
    """Every stage in turn on `01.wav` and the like, whose beats are heard and whose bars may not be."""
    (tmp_path / "music").mkdir()
    for number in range(1, 4):
        audio = 0.5 * clicks(100.0 + 10.0 * number) + tones(["C", "F", "G", "Am"], 0.5, number)
        soundfile.write(tmp_path / "music" / f"0{number}.wav", audio, RATE)
    report = prepare.main([str(tmp_path / "music"), "--output_dir", str(tmp_path / "data"), "--num_workers", "1"])
    assert report["fates"] == {"kept": 3}
    assert all("no caption found; trained as without text" in entry["notes"] for entry in report["files"])
    rows = [row for split in SPLITS for row in read_rows(tmp_path / "data", split)]
    assert all(row["text"] == [""] for row in rows)
    assert any(row["bpm"] is not None and row["beats_s"] for row in rows)

    make_autoencoder().save_pretrained(tmp_path / "vae")
    latents = ["--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path / "latents")]
    encode_latents.main([*latents, "--autoencoder", str(tmp_path / "vae"), "--text_encoder", str(tiny_text_encoder)])
    for split in SPLITS:
        crops = LatentCrops(str(tmp_path / "latents"), split, crop_frames=16)
        for index, row in enumerate(crops.rows):
            item = crops.read(index, np.random.default_rng(0))
            assert not item["text_mask"].any() and bool(item["grid"][20].all()) == (row["bpm"] is not None)

    run = ["--config", "training/configs/tiny/unet.yaml", "--data_dir", str(tmp_path / "latents")]
    run += ["--output_dir", str(tmp_path / "run"), "--max_steps", "2", "--batch_size", "1"]
    train_unet.main([*run, "--text_dropout", "0", "--all_dropout", "0"])
    trained = UNet1DConditionModel.from_pretrained(tmp_path / "run" / "final").state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in trained.values())
    export.main(["--run", str(tmp_path / "run"), "--output_dir", str(tmp_path / "checkpoint")])
    pipe = load_published(str(tmp_path / "checkpoint"))
    assert np.isfinite(pipe("slow piano", duration_s=1.0, num_inference_steps=1, seed=1).audios).all()


@pytest.mark.slow
def test_twenty_files_become_a_checkpoint_that_plays(tmp_path):
    write_music(tmp_path / "my_music")
    (tmp_path / "checkpoints").mkdir()
    shipped = [f"checkpoints/{path.name}" for path in (ROOT / "checkpoints").iterdir()]
    for name in ("autoencoder", "pipelines", "training", *shipped):
        (tmp_path / name).symlink_to(ROOT / name)
    for module, arguments in COMMANDS.items():
        words = [*shlex.split(arguments), *shlex.split(SHORT.get(module, ""))]
        done = subprocess.run([sys.executable, "-m", module, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, (module, done.stderr[-2000:])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = [sys.executable, "-c", LISTEN, str(tmp_path / "checkpoints" / "mine")]
    done = subprocess.run(words, cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith(f"(1, 1, {2 * RATE}) {RATE}") and float(done.stdout.split()[-1]) > 0.0
