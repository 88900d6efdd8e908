"""The three stages as a user runs them, tiny, on audio made here: files, resume, processes, config."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

from autoencoder.autoencoder_vivace import AutoencoderVivace
from autoencoder.classes import load_autoencoder
from tests.helpers.runs import log_lines, same, weights
from training import flow, objective, train_autoencoder, train_unet
from training.config import AutoencoderRun, UNetRun, parse_config
from training.data.latents import LatentCrops, random_mask
from training.run import loop

AUTOENCODER = "training/configs/tiny/autoencoder.yaml"
UNET = "training/configs/tiny/unet.yaml"


def test_latents_are_standardised_and_labels_move_with_the_crop(tiny_latents):
    crops = LatentCrops(str(tiny_latents), "train", crop_frames=50)
    frames = torch.cat([crops.read(i, np.random.default_rng(i))["latents"] for i in range(6)], dim=1)
    assert frames.mean(dim=1).abs().max() < 0.1
    assert (frames.std(dim=1) - 1.0).abs().max() < 0.1
    short = LatentCrops(str(tiny_latents), "train", crop_frames=20)
    whole, part = crops.read(0, np.random.default_rng(0)), short.read(0, np.random.default_rng(3))
    offset = int(np.random.default_rng(3).integers(0, 31))
    assert torch.allclose(part["grid"], whole["grid"][:, offset : offset + 20], atol=1e-5)
    assert part["duration_s"] == pytest.approx(0.8)
    vae = AutoencoderVivace.from_pretrained(tiny_latents / "vae")
    assert len(vae.config.latents_std) == 4


@pytest.mark.parametrize("stage", ["autoencoder", "unet"])
def test_resumed_run_ends_bitwise_like_the_uninterrupted_one(stage, tiny_data, tiny_latents, tmp_path):
    module, config, source = {
        "autoencoder": (train_autoencoder, AUTOENCODER, tiny_data), "unet": (train_unet, UNET, tiny_latents),
    }[stage]  # fmt: skip
    arguments = ["--config", config, "--data_dir", str(source)]
    module.main([*arguments, "--output_dir", str(tmp_path / "whole")])
    module.main([*arguments, "--output_dir", str(tmp_path / "parts")])
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    # Take the second run back to step 3, as if it had been killed while writing the last checkpoint.
    last = loop.checkpoints(str(tmp_path / "parts"))[-1]
    (last / "run.json").unlink()
    module.main([*arguments, "--output_dir", str(tmp_path / "parts")])
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_two_processes_equal_one(tiny_latents, tmp_path):
    """Global batch, noise and times do not depend on the number of processes; only summation order does."""
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--max_steps", "3", "--output_dir"]
    train_unet.main([*arguments, str(tmp_path / "one")])
    # `accelerate launch --cpu --num_processes 2` starts one process without mpirun (accelerate 1.15).
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "training.train_unet"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    arguments_of_two = [*arguments, str(tmp_path / "two")]
    done = subprocess.run([*command, *arguments_of_two], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    # Exactly 0 would mean that one process had done it all.
    assert 0.0 < max((one[name] - two[name]).abs().max().item() for name in one) < 1e-4


def test_accumulation_equals_one_batch(tiny_latents, tmp_path):
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--max_steps", "3", "--output_dir"]
    train_unet.main([*arguments, str(tmp_path / "one")])
    train_unet.main([*arguments, str(tmp_path / "two"), "--gradient_accumulation_steps", "2"])
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-4


def test_log_tells_loss_by_noise_level_gradient_and_speed(tiny_latents, tmp_path):
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--max_steps", "4", "--log_every", "4"]
    train_unet.main([*arguments, "--gradient_accumulation_steps", "2", "--output_dir", str(tmp_path)])
    (logged,) = log_lines(tmp_path, "train/loss")
    times = flow.sample_timesteps(FlowMatchEulerDiscreteScheduler(), 16, flow.UniformSampler(0)) / 1000
    counts = {"low": (times < 1 / 3).sum(), "high": (times >= 2 / 3).sum()}
    counts["middle"] = 16 - counts["low"] - counts["high"]
    # The plain mean over all 16 items is that of the levels, each as often as it was drawn.
    whole = sum(logged[f"train/loss_{name}"] * int(count) for name, count in counts.items()) / 16
    assert logged["train/loss"] == pytest.approx(whole, rel=1e-5)
    assert logged["train/grad_norm"] > 0.0 and logged["train/items_per_s"] > 0.0 and 0.0 < logged["train/waiting"] < 1.0


def test_what_is_not_finite_stops_before_the_step_and_names_the_clip(tiny_latents, tmp_path, monkeypatch):
    plain, steps = objective.Objective.errors, []

    def failing(self, network, batch, *given):
        errors = plain(self, network, batch, *given)
        steps.append("index" in batch)  # validation reads clips without it
        return torch.where(batch["index"] == 5, float("nan"), errors) if sum(steps) > 3 and steps[-1] else errors

    monkeypatch.setattr(objective.Objective, "errors", failing)
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path)]
    with pytest.raises(FloatingPointError, match=r"loss not finite after step [345] on 5\.flac; the last checkpoint"):
        train_unet.main([*arguments, "--max_steps", "20"])
    assert [path.name for path in loop.checkpoints(str(tmp_path))] == ["step_00000003"]
    saved = load_file(tmp_path / "checkpoints" / "step_00000003" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_a_gradient_that_is_not_finite_stops_too(tiny_latents, tmp_path, monkeypatch):
    plain = objective.Objective.errors
    monkeypatch.setattr(objective.Objective, "errors", lambda self, *given: 1e38 * plain(self, *given))
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path)]
    with pytest.raises(FloatingPointError, match=r"gradient not finite after step 0 on \d\.flac, \d\.flac"):
        train_unet.main([*arguments, "--learning_rate", "1e-3"])


def test_null_on_the_command_line_is_null():
    arguments = ["--tracker", "null", "--max_minutes=null", "--init_from", "a", "--init_from", "b"]
    config = parse_config(UNetRun, arguments)
    assert (config.tracker, config.max_minutes, config.init_from) == (None, None, "b")
    assert parse_config(UNetRun, ["--tracker", "null", "--tracker", "wandb"]).tracker == "wandb"
    with pytest.raises(SystemExit):
        parse_config(UNetRun, ["--batch_size", "null"])


def test_more_processes_than_clips_are_refused():
    class Two:
        num_processes, process_index, device = 4, 0, torch.device("cpu")

    with pytest.raises(ValueError, match="data_dir latents/small: 3 clips for 4 processes"):
        loop.make_loader([0, 1, 2], UNetRun(), 0, Two())


def test_checkpoint_from_before_a_setting_existed_goes_on(tiny_latents, tmp_path):
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path)]
    train_unet.main([*arguments, "--max_minutes", "1e-6"])
    state = loop.checkpoints(str(tmp_path))[-1] / "run.json"
    saved = json.loads(state.read_text())
    del saved["config"]["logit_mean"], saved["config"]["given_weight"]
    state.write_text(json.dumps(saved))
    with pytest.raises(ValueError, match=r"\(given_weight was 0\.1, is 0\.2\)"):
        train_unet.main([*arguments, "--given_weight", "0.2"])
    train_unet.main(arguments)
    assert loop.checkpoints(str(tmp_path))[-1].name == "step_00000006"


def test_ddpm_trains_by_its_scheduler(tiny_latents, tmp_path):
    scheduler = tmp_path / "ddpm.json"
    scheduler.write_text('{"_class_name": "DDPMScheduler", "prediction_type": "v_prediction", "clip_sample": false}')
    train_unet.main(["--config", UNET, "--data_dir", str(tiny_latents), "--scheduler_config", str(scheduler),
                     "--output_dir", str(tmp_path / "run")])  # fmt: skip
    assert weights(tmp_path / "run")


def test_masks_of_every_kind_leave_something_to_do():
    for seed in range(200):
        mask = random_mask(50, np.random.default_rng(seed))
        assert set(mask.tolist()) == {0.0, 1.0}


def test_step_sampler_splits_the_same_batch():
    config = UNetRun(batch_size=8, gradient_accumulation_steps=2, max_steps=3)
    whole = [p for batch in loop.StepSampler(UNetRun(batch_size=8, max_steps=3), 0, 0, 1) for p in batch]
    parts = [p for rank in (0, 1) for batch in loop.StepSampler(config, 0, rank, 2) for p in batch]
    assert sorted(parts) == whole == list(range(24))
    with pytest.raises(ValueError, match="batch_size 8"):
        loop.StepSampler(UNetRun(batch_size=8), 0, 0, 3)


def test_every_epoch_reads_every_item_once():
    class Items:
        def __len__(self):
            return 7

        def read(self, index, rng):
            return index

    order = loop.Shuffled(Items(), seed=0)
    first, second = [order[p] for p in range(7)], [order[p] for p in range(7, 14)]
    assert sorted(first) == sorted(second) == list(range(7))
    assert first != second


def test_yaml_then_command_line(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("learning_rate: 3e-4\nbatch_size: 8\n")
    config = parse_config(UNetRun, ["--config", str(path), "--batch_size", "4"])
    assert (config.learning_rate, config.batch_size) == (3e-4, 4)


@pytest.mark.parametrize(("text", "argument", "message"), [
    ("learning_rat: 1e-3", [], "did you mean 'learning_rate'"),
    ("batch_size: 0", [], "batch_size is 0; allowed: above 0"),
    ("text_dropout: 1.5", [], "text_dropout is 1.5; allowed: 0 to 1"),
    ("seed: 1", ["--mixed_precision", "fp8"], "mixed_precision is 'fp8'"),
    ("seed: 1", ["--learning_rat", "1"], "learning_rat"),
])  # fmt: skip
def test_bad_settings_exit_with_one_line(tmp_path, capsys, text, argument, message):
    path = tmp_path / "run.yaml"
    path.write_text(text + "\n")
    with pytest.raises(SystemExit) as stop:
        parse_config(UNetRun, ["--config", str(path), *argument])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_resume_with_other_settings_is_refused(tiny_data, tmp_path):
    arguments = ["--config", AUTOENCODER, "--data_dir", str(tiny_data), "--output_dir", str(tmp_path)]
    train_autoencoder.main(arguments)
    with pytest.raises(ValueError, match="learning_rate was"):
        train_autoencoder.main([*arguments, "--learning_rate", "0.5"])
    assert parse_config(AutoencoderRun, ["--seed", "3"]).seed == 3


def test_an_output_folder_with_other_things_is_refused(tiny_latents, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"output_dir .* holds thesis\.tex and no run; give a new or empty folder"):
        train_unet.main(["--config", UNET, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(("name", "text", "message"), [
    ("scheduler_config", '{"_class_name": "DDPMSchedule"}', r"s\.json: _class_name is 'DDPMSchedule'; allowed"),
    ("scheduler_config", "{}", "_class_name is None"),
    ("init_from", "", r"init_from .*s\.json: no folder with a model's config\.json"),
])  # fmt: skip
def test_wrong_parts_are_named(name, text, message, tiny_latents, tmp_path):
    (tmp_path / "s.json").write_text(text)
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(ValueError, match=message):
        train_unet.main([*arguments, f"--{name}", str(tmp_path / "s.json")])


def test_missing_data_is_named(tiny_data, tmp_path):
    folders = ["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(ValueError, match=r"train/metadata\.jsonl is there"):
        train_autoencoder.main(["--config", AUTOENCODER, *folders])
    with pytest.raises(ValueError, match="no encoded train split"):
        train_unet.main(["--config", UNET, *folders])
    shutil.copytree(tiny_data / "train", tmp_path / "train")
    with pytest.raises(ValueError, match=r"validation/metadata\.jsonl is there"):  # not at the end of the run
        train_autoencoder.main(["--config", AUTOENCODER, *folders])
    with pytest.raises(ValueError, match=r"autoencoder .*run/final: no config\.json there"):
        load_autoencoder(tmp_path / "run" / "final")


def test_resume_on_the_latents_of_another_autoencoder_is_refused(tiny_latents, tmp_path):
    latents = tmp_path / "latents"
    shutil.copytree(tiny_latents, latents)
    arguments = ["--config", UNET, "--data_dir", str(latents), "--output_dir", str(tmp_path / "run")]
    train_unet.main([*arguments, "--max_minutes", "1e-6"])
    about = json.loads((latents / "latents.json").read_text())
    (latents / "latents.json").write_text(json.dumps(about | {"models": "0" * 16}))
    with pytest.raises(ValueError, match=r"the data was .*, is .* in data_dir.*--force"):
        train_unet.main(arguments)
    (latents / "latents.json").write_text(json.dumps(about | {"latent_channels": 8}))
    with pytest.raises(ValueError, match=r"in_channels is 4; the latents in .* have 8 channels"):
        train_unet.main(arguments)


def test_from_the_command_line_an_error_is_one_line(tmp_path):
    run = [sys.executable, "-m", "training.train_unet", "--config", UNET, "--data_dir", str(tmp_path)]
    done = subprocess.run([*run, "--output_dir", str(tmp_path / "run")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "no encoded train split" in done.stderr and "Traceback" not in done.stderr
