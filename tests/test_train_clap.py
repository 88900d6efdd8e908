"""Training of the small CLAP: killed and started again it ends with the same weights, and what it writes is read."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from training import loop, train_clap
from training.metrics.embedding import load_embedder


def arguments(folder: Path, data: Path, text_encoder: Path) -> list[str]:
    return ["--config", "training/configs/tiny/clap.yaml", "--data_dir", str(data), "--text_encoder",
            str(text_encoder), "--output_dir", str(folder / "run"), "--export_dir", str(folder / "clap")]  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "clap" / "model.safetensors")


def test_a_stopped_run_ends_with_the_same_weights(tiny_data, tiny_text_encoder, tmp_path, monkeypatch):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_clap.main(arguments(whole, tiny_data, tiny_text_encoder))

    def stop(progress: loop.Progress, step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.Progress, "leave_if_asked", stop)
        with pytest.raises(KeyboardInterrupt):
            train_clap.main(arguments(broken, tiny_data, tiny_text_encoder))
    assert not (broken / "clap").exists()
    train_clap.main(arguments(broken, tiny_data, tiny_text_encoder))
    one, other = weights(whole), weights(broken)
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

    embedder = load_embedder(str(whole / "clap"))
    assert embedder.embed([np.ones(24000, dtype=np.float32)], 24000).shape == (1, 6)
    card = json.loads((whole / "clap" / "clap.json").read_text())
    assert card["steps"] == 4 and card["clips"] == 6 and card["test_retrieval_text"]["n"] == 2
    assert {v.dtype for v in one.values() if v.is_floating_point()} == {torch.float16}
    # The mark in front, which the text tower pools, came along with the tokenizer.
    ids = embedder.tokenizer("slow piano")["input_ids"]
    assert ids[0] == ids[-1] == embedder.tokenizer.eos_token_id


def test_training_brings_pairs_together(tiny_data, tiny_text_encoder):
    """Overfit to four pairs: the loss falls below half that of a guess, which is log 4."""
    config = train_clap.parse_config(train_clap.ClapRun, arguments(Path("unused"), tiny_data, tiny_text_encoder))
    torch.manual_seed(0)
    tokenizer = train_clap.make_tokenizer(str(tiny_text_encoder))
    network = train_clap.Contrast(train_clap.make_model(config, tokenizer))
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # at a width of 8 it would drown four pairs
    words = tokenizer(["slow", "fast", "calm", "loud"], return_tensors="pt")
    mel = -50.0 + 30.0 * torch.randn(4, 1, 1, 64).expand(4, 1, 251, 64) + torch.randn(4, 1, 251, 64)
    optimiser, losses = torch.optim.AdamW(network.parameters(), lr=3e-3), []
    for _ in range(150):
        loss = network(mel, words["input_ids"], words["attention_mask"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * np.log(4) < losses[0]


def test_bad_settings_are_one_line(tiny_data, tiny_text_encoder, tmp_path):
    good = arguments(tmp_path, tiny_data, tiny_text_encoder)
    with pytest.raises(ValueError, match="max_text_tokens is 30; allowed: up to 18"):
        train_clap.main([*good, "--max_text_tokens", "30"])
    with pytest.raises(ValueError, match="no tokenizer/ there"):
        train_clap.main([*good, "--text_encoder", str(tmp_path), "--output_dir", str(tmp_path / "other")])
