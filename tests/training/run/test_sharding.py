"""FSDP: two processes train in pieces what one trains whole, resume bitwise, and neither holds all of it."""

import os
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator

from tests.helpers.runs import log_lines, same, weights
from training import train_autoencoder, train_unet
from training.run import loop
from training.run.sharding import is_sharded, whole_model

UNET = ["--config", "training/configs/tiny/unet.yaml"]
FSDP = {
    "ACCELERATE_USE_CPU": "true", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_TRANSFORMER_CLS_TO_WRAP": "UNetLayer",
    "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false", "PYTHONPATH": ".",
}  # fmt: skip


def train_in_pieces(*arguments: str) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*launch, "tests/helpers/fsdp_on_cpu.py", "training.train_unet", *UNET, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, env=dict(os.environ) | FSDP)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_fsdp_trains_like_one_process_and_resumes_bitwise(tiny_latents, tmp_path):
    data = ["--data_dir", str(tiny_latents), "--max_steps", "4", "--output_dir"]
    train_unet.main([*UNET, *data, str(tmp_path / "one")])
    train_in_pieces(*data, str(tmp_path / "two"))
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert max((one[name] - two[name]).abs().max().item() for name in one) < 1e-4
    for name in ("one", "two"):
        assert "validation/all" in log_lines(tmp_path / name)[-1]
    train_in_pieces(*data, str(tmp_path / "parts"), "--max_minutes", "1e-6")
    assert loop.checkpoints(str(tmp_path / "parts"))[-1].name == "step_00000001"
    train_in_pieces(*data, str(tmp_path / "parts"))
    parts = weights(tmp_path / "parts")
    assert same(two, parts)
    # Each process wrote its half of weights, optimiser and averages.
    folder = loop.checkpoints(str(tmp_path / "two"))[-1]
    whole = sum(value.numel() * 4 for value in two.values())
    for name, times in (("pytorch_model_fsdp_0", 1), ("optimizer_0", 2), ("averages", 1)):
        sizes = [path.stat().st_size for path in sorted((folder / name).glob("*.distcp"))]
        assert len(sizes) == 2 and max(sizes) < 0.8 * sum(sizes) and sum(sizes) > times * whole


def test_other_stages_refuse_to_be_cut(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "is_sharded", lambda accelerator: True)
    arguments = ["--config", "training/configs/tiny/autoencoder.yaml", "--data_dir", str(tiny_data)]
    with pytest.raises(ValueError, match="distributed_type is FSDP; allowed: for stage 3 alone"):
        train_autoencoder.main([*arguments, "--output_dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_one_process_holds_the_model_itself():
    accelerator, model = Accelerator(cpu=True), torch.nn.Linear(2, 2)
    assert not is_sharded(accelerator) and whole_model(accelerator, model) is model
