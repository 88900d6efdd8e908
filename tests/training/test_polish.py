"""Adversarial polish: a distilled network comes nearer to real clips, resumes bit for bit, and stays what it was."""

import numpy as np
import pytest
import torch

from pipelines.hub import load_native, load_published, save_checkpoint
from tests.helpers.interrupted import run_in_two
from tests.helpers.runs import log_lines, same, weights
from training import distill, export, polish
from training.data.latents import TrainingCrops
from training.ways import crops_for


@pytest.fixture(scope="module")
def student(teacher, tmp_path_factory):
    """What distillation begins with: the teacher's network with jumps."""
    folder = tmp_path_factory.mktemp("students") / "fast"
    pipe = load_native(str(teacher))
    pipe.register_modules(unet=distill.Teacher(pipe, torch.device("cpu")).student())
    pipe.register_to_config(default_num_inference_steps=4, default_guidance_scale=1.0)
    save_checkpoint(pipe, folder, fp16=False)
    return folder


@pytest.fixture(scope="module")
def arguments(student, tiny_latents):
    return ["--init_from", str(student), "--data_dir", str(tiny_latents), "--crop_frames", "32", "--batch_size", "4",
            "--warmup_steps", "0", "--learning_rate", "2e-3", "--discriminator_learning_rate", "4e-3", "--log_every",
            "1", "--student_steps", "2", "4", "--validate_every", "1000", "--ema_decay", "0.9", "--max_steps", "6",
            "--discriminator_warmup_steps", "2", "--tracker", "null"]  # fmt: skip


def test_a_discriminator_rates_each_frame_with_the_network_that_it_judges(student):
    unet = load_native(str(student)).unet
    judge = polish.make_discriminator(unet)
    rated = judge(torch.randn(2, 4, 16), 500.0).sample
    assert rated.shape == (2, 1, 16) and not rated.any()
    rest = [name for name in judge.state_dict() if not name.startswith("conv_out.")]
    assert all(torch.equal(judge.state_dict()[name], unet.state_dict()[name]) for name in rest)


def test_what_is_compared_is_equally_noisy(student, tiny_latents):
    """Where the network arrived is compared with a real clip at that very noise level; clean latents with some."""
    config = polish.PolishRun(
        init_from=str(student), data_dir=str(tiny_latents), crop_frames=32, batch_size=64, student_steps=[2]
    )
    ways = polish.Ways(load_native(str(student)), torch.device("cpu"), distilled=True)
    accelerator = polish.Accelerator()
    items = TrainingCrops(crops_for(ways.pipe, config, "train"), config)
    batch = torch.utils.data.default_collate([items.read(i % 4, np.random.default_rng(i)) for i in range(64)])
    way = polish.Way(config, ways, accelerator)
    begun = way.begin(ways.unet, 0, 0, batch)
    assert sorted(set(begun["level"].tolist())) == [0.5, 1.0]
    torch.testing.assert_close(begun["end"], begun["level"] - 0.5)
    made, real, level = way.rated(0, 0, begun, begun["latents"])
    late = begun["end"] > 0
    assert torch.equal(level[late], begun["end"][late]) and torch.equal(made[late], begun["latents"][late])
    assert 0.0 <= level[~late].min() < level[~late].max() <= 0.5
    noise = (real - (1 - level[:, None, None]) * begun["latents"]) / level[:, None, None].clamp_min(1e-3)
    assert noise.std() == pytest.approx(1.0, abs=0.05)
    assert not torch.allclose(made[~late], real[~late])  # the noise is another one


def test_words_of_another_item():
    batch = {"text": torch.arange(3.0), "note_roll": torch.arange(3.0), "role_instruments": torch.arange(3)}
    other = polish.other_words(batch)
    assert other["text"].tolist() == [2.0, 0.0, 1.0] == other["role_instruments"].tolist()
    assert other["note_roll"].tolist() == [0.0, 1.0, 2.0]


def test_the_network_comes_nearer_to_real_clips(arguments, tmp_path):
    run = tmp_path / "run"
    polish.main([*arguments, "--max_steps", "240", "--learning_rate", "1e-3", "--anchor_weight", "0.01",
                 "--mask_probability", "0", "--validate_every", "240", "--output_dir", str(run)])  # fmt: skip
    figures = log_lines(run, "validation/moments_4_steps")[0]
    for steps in (2, 4):
        before, after = (figures[f"validation/{name}moments_{steps}_steps"] for name in ("start_", ""))
        assert after < 0.8 * before  # five seeds: 0.28 to 0.75 of it
        assert figures[f"validation/moved_{steps}_steps"] > 0.0
    learnt = [line["train/discriminator_real"] for line in log_lines(run, "train/discriminator_real")]
    assert learnt[0] == pytest.approx(np.log(2.0), abs=1e-4) and min(learnt) < 0.6


def test_the_anchor_keeps_what_was(arguments, tmp_path):
    moved = {}
    for weight in ("0", "1000"):
        run = tmp_path / weight
        polish.main([*arguments, "--max_steps", "12", "--anchor_weight", weight, "--validate_every", "12",
                     "--output_dir", str(run)])  # fmt: skip
        moved[weight] = log_lines(run, "validation/moved_4_steps")[0]["validation/moved_4_steps"]
    assert moved["1000"] < 0.5 * moved["0"]


def test_a_run_that_goes_on_ends_with_the_same_bits(arguments, tmp_path):
    polish.main([*arguments, "--output_dir", str(tmp_path / "whole")])
    parts = [*arguments, "--output_dir", str(tmp_path / "parts"), "--checkpoint_every", "3"]
    run_in_two(polish.main, parts, 3)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_export_is_a_checkpoint_of_few_steps(arguments, tmp_path):
    polish.main([*arguments, "--output_dir", str(tmp_path / "run")])
    export.main(["--run", str(tmp_path / "run"), "--output_dir", str(tmp_path / "out")])
    pipe = load_published(tmp_path / "out")
    assert (pipe.config.default_num_inference_steps, pipe.config.default_guidance_scale) == (2, 1.0)
    polished = weights(tmp_path / "run")
    assert torch.equal(pipe.unet.state_dict()["conv_in.weight"].float(), polished["conv_in.weight"].half().float())
    audio = pipe("slow piano", duration_s=1.0, seed=3, output_type="pt").audios[0]
    assert audio.isfinite().all()


@pytest.mark.parametrize("changes, message", [
    (["--init_from", "null"], "init_from is None; allowed: a checkpoint folder"),
    (["--dry_run"], "dry_run is true"),
])  # fmt: skip
def test_bad_settings_are_refused(arguments, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        polish.main([*arguments, *changes, "--output_dir", str(tmp_path / "run")])


def test_only_a_distilled_network_is_polished(arguments, teacher, tmp_path):
    with pytest.raises(ValueError, match="its network was not distilled"):
        polish.main([*arguments, "--init_from", str(teacher), "--output_dir", str(tmp_path / "run")])
