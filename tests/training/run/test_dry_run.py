"""What a dry run tells is right, and it leaves nothing behind."""

import json

import pytest
import torch
from torch import nn

from training import train_autoencoder, train_unet
from training.run import dry_run

AUTOENCODER = "training/configs/tiny/autoencoder.yaml"
UNET = "training/configs/tiny/unet.yaml"


def test_cost_of_a_layer_whose_cost_is_known():
    model = nn.Linear(64, 32)
    model.bias.requires_grad_(False)
    rows = torch.randn(8, 64)
    cost = dry_run.measure(model, lambda: model(rows).square().mean(), averages=2)
    assert (cost.parameters, cost.trained) == (64 * 32 + 32, 64 * 32)
    # fp32: weights and two averages of all, gradient and two moments of what is trained
    assert cost.state_bytes == 4 * (3 * (64 * 32 + 32) + 3 * 64 * 32)
    assert cost.activation_bytes == 4 * (8 * 64 + 8 * 32)  # the input, and the output that is squared
    assert cost.flops == 2 * 2 * 8 * 64 * 32  # forward, and the gradient of the weights; the input needs none
    assert cost.seconds > 0.0 and model.weight.grad is None


def test_attention_is_counted_on_the_cpu():
    query = nn.Parameter(torch.randn(2, 4, 16, 8))
    holder = nn.ParameterList([query])
    cost = dry_run.measure(holder, lambda: nn.functional.scaled_dot_product_attention(query, query, query).sum())
    forward = 2 * 2 * (2 * 4 * 16 * 16 * 8)
    assert cost.flops in (forward * 3, forward * 3.5)  # the backward pass of a fused kernel makes the scores anew


def test_dry_run_tells_the_cost_and_writes_nothing(tiny_latents, tmp_path, capsys):
    run = tmp_path / "run"
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--output_dir", str(run), "--dry_run"]
    result = train_unet.main(arguments)
    out = capsys.readouterr().out
    assert json.loads(out.splitlines()[-1]) == result
    assert "6 clips; 1.5 steps an epoch, 4.0 epochs in 6 steps" in out
    assert "batch        4 = 1 processes x 1 accumulation steps x 4: latents (4, 4, 16)" in out
    assert result["flops"] == 4 * result["flops_per_item"] > 0 and result["activation_bytes"] > 0
    assert not run.exists()
    train_unet.main(arguments[:-1])  # and the run that follows begins at step 0
    assert json.loads((run / "log.jsonl").read_text().splitlines()[0])["step"] == 1


def test_stage_1_tells_its_cost_too(tiny_data, tmp_path):
    arguments = ["--config", AUTOENCODER, "--data_dir", str(tiny_data), "--output_dir", str(tmp_path / "run")]
    result = train_autoencoder.main([*arguments, "--dry_run"])
    assert result["items"] == 6 and result["flops_per_item"] > 0 and not (tmp_path / "run").exists()


def test_less_time_means_fewer_steps(tiny_latents, tmp_path):
    arguments = ["--config", UNET, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path), "--dry_run"]
    result = train_unet.main([*arguments, "--max_steps", "1000000", "--max_minutes", "1"])
    assert 0 < result["steps_in_time"] < 1000000
    assert result["minutes"] == pytest.approx(1.0, abs=0.05)
