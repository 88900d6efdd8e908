"""The restorer: pairs of clips and spoilt clips, its run, what it leaves in a checkpoint."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from autoencoder.classes import load_autoencoder
from pipelines.restorer import FOLDER, Restorer
from training import train_restorer
from training.data import faults
from training.run import loop
from training.train_restorer import Pairs, RestorerRun, code, subsets

RATE = 24000


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture
def arguments(teacher, tiny_data, pairs):
    sizes = {"train_clips": 6, "validate_clips": 2, "clip_frames": 24, "crop_frames": 16, "batch_size": 4}
    sizes |= {"lora_rank": 4, "max_steps": 30, "checkpoint_every": 15, "learning_rate": 1e-2, "warmup_steps": 0}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    return [*words, "--init_from", str(teacher), "--data_dir", str(tiny_data), "--pairs_dir", str(pairs),
            "--weight_decay", "0", "--ema_decay", "0.5"]  # fmt: skip


def test_faults_are_what_they_say():
    clean = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)[None] * np.ones((2, 1))
    rng = np.random.default_rng(0)
    noisy = faults.noise(clean, RATE, rng, snr_db=10.0)(clean)
    assert abs(10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2)) - 10) < 1e-6
    narrow = faults.band(noisy, RATE, rng, hertz=3000.0)(noisy)
    power = np.abs(np.fft.rfft(narrow[0])) ** 2
    assert power[2 * 3500 :].max() < 1e-12 * power.max() and np.abs(np.fft.rfft(noisy[0])[2 * 3500 :]).max() > 1.0
    click = np.zeros((1, 2 * RATE))
    click[0, 100] = 1.0
    wet = faults.reverb(click, RATE, rng, rt60_s=0.5)(click)
    assert wet[0, 100] >= 0.99 and not wet[0, :100].round(9).any()
    early, late = (np.mean(wet[0, round(a * RATE) :][: RATE // 20] ** 2) for a in (0.1, 0.4))
    assert 15 < 10 * np.log10(early / late) < 80  # falls by 36 dB in .3 s, sooner where it is high
    seen = [set(faults.draw(clean, RATE, np.random.default_rng(seed))) for seed in range(40)]
    assert set().union(*seen) == set(faults.FAULTS) and {len(one) for one in seen} == {1, 2, 3}


def test_a_run_learns_resumes_and_is_what_a_checkpoint_has(arguments, teacher, pairs, tmp_path):
    train_restorer.main([*arguments, "--output_dir", str(tmp_path / "whole")])
    made = {path.name: path.stat().st_mtime_ns for path in pairs.iterdir()}
    lines = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    figures = [line for line in lines if "validation/all" in line]
    assert figures[-1]["validation/all"] > 0 and "validation/all_before" in figures[-1]
    train_restorer.main([*arguments, "--output_dir", str(tmp_path / "parts")])
    (loop.checkpoints(str(tmp_path / "parts"))[-1] / "run.json").unlink()  # as if killed while it was written
    shutil.rmtree(tmp_path / "parts" / "final")
    folder = tmp_path / "checkpoint"
    shutil.copytree(teacher, folder)
    train_restorer.main([*arguments, "--output_dir", str(tmp_path / "parts"), "--init_from", str(teacher)])
    assert {path.name: path.stat().st_mtime_ns for path in pairs.iterdir()} == made
    with pytest.raises(ValueError, match=r"pairs_dir .* give a new folder"):
        train_restorer.main([*arguments, "--output_dir", str(tmp_path / "other"), "--clip_frames", "31"])
    one, two = (
        load_file(tmp_path / name / "final" / "pytorch_lora_weights.safetensors") for name in ("whole", "parts")
    )
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert all(value.dtype == torch.float16 for value in one.values())
    with pytest.raises(ValueError, match=r"it has no restorer/"):
        Restorer.load(folder)
    shutil.copytree(tmp_path / "whole" / "final", folder / FOLDER)
    restorer = Restorer.load(folder)
    plain = load_file(teacher / "unet" / "diffusion_pytorch_model.safetensors")["conv_in.weight"]
    assert not torch.equal(restorer.unet.conv_in.weight, plain)
    # Its error on what it learnt from is lower than that of the network without it.
    items = Pairs(RestorerRun(pairs_dir=str(pairs), crop_frames=16), "train")
    read = [items.read(k % 6, np.random.default_rng(k)) for k in range(24)]
    batch = {name: torch.stack([item[name] for item in read]) for name in read[0]}
    restorer.unet.requires_grad_(False)
    adapted = float(train_restorer.errors(restorer.unet, batch).mean())
    restorer.unet.load_state_dict(load_file(teacher / "unet" / "diffusion_pytorch_model.safetensors"))
    assert adapted < 0.9 * float(train_restorer.errors(restorer.unet, batch).mean())


def test_pairs(teacher, tiny_data, pairs):
    config = RestorerRun(
        init_from=str(teacher), data_dir=str(tiny_data), pairs_dir=str(pairs), train_clips=6, validate_clips=2,
        clip_frames=24, crop_frames=16,
    )  # fmt: skip
    train_restorer.make_pairs(config, load_autoencoder(f"{teacher}/vae"), "train", 6)
    assert subsets(["noise", "band"]) == [(), ("noise",), ("band",), ("noise", "band")] and code(("noise", "band")) == 5
    items = Pairs(config, "train")
    for seed in range(30):
        item = items.read(seed % len(items), np.random.default_rng(seed))
        flags = sum(int(value) << place for place, value in enumerate(item["asked"]))
        same = torch.equal(item["latents"], item["target"])
        assert flags and same == (int(item["given"]) & flags == 0)
