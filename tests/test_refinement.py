"""A UNet against its own clips: the loss, how the clips are made, and runs of it that are cut and shared out."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training import loop, refine_unet, train_unet
from training.config import RefineRun
from training.data.conditions import TrainingCrops
from training.data.latents import LatentCrops
from training.objective import predict
from training.own_clips import OwnClips, sample, sampling_scheduler
from training.refinement import refinement_loss, together

CONFIG = "training/configs/tiny/unet.yaml"
SMALL = ["--round_steps", "3", "--own_clips", "16", "--own_steps", "2"]


@pytest.fixture(scope="module")
def trained(tiny_latents, tmp_path_factory):
    """A tiny UNet after a few steps."""
    folder = tmp_path_factory.mktemp("unet")
    train_unet.main(["--config", CONFIG, "--data_dir", str(tiny_latents), "--output_dir", str(folder)])
    return folder / "final"


@pytest.fixture
def arguments(trained, tiny_latents):
    return ["--config", CONFIG, "--init_from", str(trained), "--data_dir", str(tiny_latents), *SMALL]


@pytest.fixture
def items(tiny_latents):
    return TrainingCrops(LatentCrops(str(tiny_latents), "train", 16), RefineRun(crop_frames=16, mask_probability=0.5))


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "final" / "diffusion_pytorch_model.safetensors")


def batch_of(items: TrainingCrops, count: int) -> dict[str, torch.Tensor]:
    read = [items.read(index, np.random.default_rng(index)) for index in range(count)]
    return {name: torch.stack([item[name] for item in read]) for name in read[0]}


def test_the_loss_is_that_of_the_paper():
    before, errors = torch.tensor([0.7, 0.7, 0.5, 0.5]), torch.tensor([0.69, 0.72, 0.55, 0.5]).requires_grad_()
    loss, margins = refinement_loss(before, errors, beta=20.0, own_weight=2.0, data_weight=0.5)
    assert torch.allclose(margins, torch.tensor([0.2, -0.4, -1.0, 0.0]), atol=1e-5)
    real = (math.log1p(math.exp(-0.2)) + math.log1p(math.exp(0.4))) / 2
    own = (math.log1p(math.exp(-1.0)) + math.log(2.0)) / 2
    assert loss.item() == pytest.approx((real + 2.0 * own) / 20.0 + 0.5 * 0.705, rel=1e-5)
    loss.backward()
    assert (errors.grad[:2] > 0).all() and (errors.grad[2:] < 0).all()  # less error on real ones, more on own ones
    assert errors.grad[1] > errors.grad[0]  # one that is taken for an own one counts more
    at_rest, _ = refinement_loss(before, before, beta=20.0, own_weight=1.0, data_weight=0.0)
    assert at_rest.item() == pytest.approx(2.0 * math.log(2.0) / 20.0, rel=1e-5)


def test_own_clips_are_what_the_samplers_equations_give(trained, items):
    network = UNet1DConditionModel.from_pretrained(trained).eval()
    batch = batch_of(items, 4)
    batch["mask"][:] = 1.0
    noise = torch.randn(batch["latents"].shape, generator=torch.Generator().manual_seed(0))
    nothing = {**batch, "text_mask": torch.zeros_like(batch["text_mask"]), "grid": torch.zeros_like(batch["grid"])}
    for name, absent in (("duration_s", math.nan), ("bpm", math.nan), ("key", -1), ("beats_per_bar", -1)):
        nothing[name] = torch.full_like(batch[name], absent)
    scheduler = FlowMatchEulerDiscreteScheduler()
    for scale in (1.0, 3.0):
        made = sample(network, scheduler, batch, noise, 4, scale)
        expected = noise.clone()
        with torch.no_grad():
            for step in range(4):  # Euler's method on v = free + scale (full - free)
                time = torch.full((4,), 1000.0 * (1.0 - step / 4))
                full, free = (predict(network, expected, time, told) for told in (batch, nothing))
                expected = expected - (free + scale * (full - free)) / 4
        assert torch.allclose(made, expected, atol=1e-4)


def test_given_frames_stay_and_padding_is_silent(trained, items):
    network = UNet1DConditionModel.from_pretrained(trained).eval()
    batch = batch_of(items, 4)
    batch["mask"][:, :5] = 0.0
    batch["frame_mask"][0, 12:] = False
    made = sample(network, FlowMatchEulerDiscreteScheduler(), batch, torch.randn(batch["latents"].shape), 2, 2.0)
    assert torch.equal(made[:, :, :5], batch["latents"][:, :, :5])
    assert not made[0, :, 12:].any() and made[1, :, 12:].any()


def test_a_scheduler_of_a_thousand_steps_is_sampled_in_few():
    kept = {"prediction_type": "v_prediction", "clip_sample": False}
    assert isinstance(sampling_scheduler(DDPMScheduler(**kept)), DDIMScheduler)
    assert sampling_scheduler(DDPMScheduler(**kept)).config.prediction_type == "v_prediction"


def test_clips_of_a_round_are_the_same_when_some_have_to_be_made_again(trained, items, tmp_path):
    network, scheduler = UNet1DConditionModel.from_pretrained(trained).eval(), FlowMatchEulerDiscreteScheduler()

    def make(number: int) -> OwnClips:
        own = OwnClips(items, tmp_path / str(number), 0, number, 32)
        own.make(network, scheduler, 2, 1.0, Accelerator(cpu=True))
        return own

    first = make(1)
    files = sorted((tmp_path / "1").iterdir())
    written = files[0].stat().st_mtime_ns
    files[1].unlink()
    again, other = make(1), make(2)
    assert torch.equal(first.latents, again.latents) and files[0].stat().st_mtime_ns == written
    assert not torch.equal(first.latents, other.latents)
    item, told = again.read(20), items.read(*drawn(items, 1, 20))
    assert item.keys() == told.keys() and torch.equal(item["latents"], again.latents[20].float())
    assert all(torch.equal(item[name].nan_to_num(), told[name].nan_to_num()) for name in item if name != "latents")


def drawn(items: TrainingCrops, number: int, index: int) -> tuple[int, np.random.Generator]:
    rng = loop.item_rng(0, 8, number, index)
    return int(rng.integers(len(items))), rng


def test_batches_of_other_lengths_are_put_together(items):
    long, short = batch_of(items, 2), batch_of(items, 3)
    for name in ("latents", "frame_mask", "grid", "mask"):
        short[name] = short[name][..., :10]
    both = together(long, short)
    assert both["latents"].shape[0] == 5 and both["latents"].shape[2] == 16
    assert not both["frame_mask"][2:, 10:].any() and both["frame_mask"][:2].all()


def test_a_run_that_is_cut_in_a_round_ends_like_a_whole_one(arguments, tmp_path):
    whole, parts = (["--output_dir", str(tmp_path / name)] for name in ("whole", "parts"))
    refine_unet.main([*arguments, "--checkpoint_every", "2", *whole])
    refine_unet.main([*arguments, "--checkpoint_every", "2", *parts])
    for last in loop.checkpoints(str(tmp_path / "parts"))[-1:]:
        (last / "run.json").unlink()  # as if it had been killed while it wrote: goes on from step 4, in round 1
    refine_unet.main([*arguments, "--checkpoint_every", "2", *parts])
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert sorted(path.name for path in (tmp_path / "whole" / "rounds").iterdir()) == ["000", "001"]
    first, second = (
        UNet1DConditionModel.from_pretrained(tmp_path / "whole" / "rounds" / n / "unet") for n in ("000", "001")
    )
    assert not torch.equal(first.conv_in.weight, second.conv_in.weight)


def test_rounds_that_no_checkpoint_goes_on_from_are_dropped(arguments, tmp_path):
    more = ["--round_steps", "2", "--max_steps", "8", "--checkpoint_every", "2", "--keep_checkpoints", "1"]
    refine_unet.main([*arguments, *more, "--output_dir", str(tmp_path)])
    assert sorted(path.name for path in (tmp_path / "rounds").iterdir()) == ["003"]


def test_two_processes_and_two_parts_equal_one(arguments, tmp_path):
    arguments = [*arguments, "--max_steps", "3", "--output_dir"]
    refine_unet.main([*arguments, str(tmp_path / "one")])
    refine_unet.main([*arguments, str(tmp_path / "parts"), "--gradient_accumulation_steps", "2"])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "training.refine_unet"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(
        [*command, *arguments, str(tmp_path / "two")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    one = weights(tmp_path / "one")
    for name in ("parts", "two"):
        other = weights(tmp_path / name)
        assert 0.0 < max((one[key] - other[key]).abs().max().item() for key in one) < 1e-3


def test_real_and_own_clips_come_apart(arguments, tmp_path):
    more = [
        "--round_steps",
        "60",
        "--max_steps",
        "60",
        "--learning_rate",
        "3e-3",
        "--own_clips",
        "64",
        "--log_every",
        "20",
    ]
    refine_unet.main([*arguments, *more, "--output_dir", str(tmp_path)])
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    apart = [line["train/margin_real"] - line["train/margin_own"] for line in lines if "train/margin_own" in line]
    assert len(apart) == 3 and apart[-1] > max(apart[0], 0.2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--init_from", "null"], "init_from is not given"),
        (["--dry_run", "true"], "dry_run is true"),
        (["--min_snr_gamma", "5"], "min_snr_gamma is 5; allowed: null"),
    ],
)
def test_what_does_not_apply_is_said(words, said, arguments, tmp_path):
    with pytest.raises(ValueError, match=said):
        refine_unet.main([*arguments, *words, "--output_dir", str(tmp_path)])


def test_a_round_that_is_gone_is_said(arguments, tmp_path):
    refine_unet.main([*arguments, "--max_steps", "6", "--max_minutes", "1e-6", "--output_dir", str(tmp_path)])
    assert [path.name for path in loop.checkpoints(str(tmp_path))] == ["step_00000001"]
    (tmp_path / "rounds").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="has no rounds/000, which step 1 is in"):
        refine_unet.main([*arguments, "--max_steps", "6", "--output_dir", str(tmp_path)])


def test_own_clips_come_in_whole_files(capsys):
    with pytest.raises(SystemExit):
        refine_unet.main(["--own_clips", "40"])
    assert "own_clips is 40; allowed: a multiple of 16" in capsys.readouterr().err
