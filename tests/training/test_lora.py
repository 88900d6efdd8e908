"""Training of a LoRA adapter: the network stays, the adapter resumes bit for bit and is what the pipeline loads."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipelines.hub import load_published, save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from tests.conftest import make_pipeline
from tests.helpers.runs import same
from training import export, lora, train_unet
from training.data.latents import LatentCrops
from training.encode_latents import load_text_encoder
from training.run import loop

UNET = "training/configs/tiny/unet.yaml"
REQUEST = {"prompt": "slow piano", "duration_s": 1.0, "num_inference_steps": 2, "seed": 3}


@pytest.fixture(scope="module")
def base(tiny_latents, tiny_text_encoder, tmp_path_factory):
    """A published checkpoint of the autoencoder and text encoder that made the latents, with a network of its own."""
    folder = tmp_path_factory.mktemp("base") / "tiny_base"
    encoder, tokenizer = load_text_encoder(str(tiny_text_encoder))
    vae = lora.load_autoencoder(f"{tiny_latents}/vae")
    vae.register_to_config(latents_mean=[0.0, 0.1, 0.2, 0.3], latents_std=[1.0, 2.0, 1.5, 1.2])  # not those of the data
    pipe = make_pipeline()
    pipe = VivacePipeline(vae, pipe.unet, encoder, tokenizer, pipe.scheduler, default_num_inference_steps=3)
    save_checkpoint(pipe, folder, fp16=False)
    return folder


def test_an_adapter_keeps_sounds_of_what_it_learnt_from(arguments, base, tmp_path):
    pipe = load_published(base)
    pipe.register_modules(unet=make_pipeline(reference=True).unet)
    save_checkpoint(pipe, tmp_path / "base", fp16=False)
    words = [*arguments, "--init_from", str(tmp_path / "base"), "--max_steps", "2", "--output_dir", str(tmp_path / "a")]
    train_unet.main(words)
    crops = LatentCrops(arguments[3], "train", 8)
    crops.mean, crops.std = torch.tensor([0.0, 0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 1.5, 1.2])
    sounds = lora.sounds_of(crops)
    assert len(sounds) == min(16, len(crops)) and all(len(one) == 8 for one in sounds)
    assert len(lora.sounds_of(crops, 2)) == 2
    for folder in ("final", "best"):
        pipe.unload_lora_weights()
        pipe.load_lora_weights(tmp_path / "a" / folder, adapter_name="mine")
        out = pipe(**REQUEST)
        assert out.recipes[0]["arguments"]["sounds_like"] == sounds[3 % len(sounds)]


@pytest.fixture
def arguments(base, tiny_latents):
    return ["--config", UNET, "--data_dir", str(tiny_latents), "--init_from", str(base), "--lora_rank", "2",
            "--learning_rate", "1e-2", "--lora_alpha", "4"]  # fmt: skip


def adapter(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "pytorch_lora_weights.safetensors")


def test_only_the_adapter_is_trained_saved_and_played(arguments, base, tmp_path):
    before = (base / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "run")])
    tensors = adapter(tmp_path / "run" / "final")
    assert tensors and all(".lora_" in name and name.startswith("unet.") for name in tensors)
    assert all(bool(value.any()) for name, value in tensors.items() if "lora_B" in name and "conv1" in name)
    assert [path.name for path in (tmp_path / "run" / "final").iterdir()] == ["pytorch_lora_weights.safetensors"]
    saved = load_file(loop.checkpoints(str(tmp_path / "run"))[-1] / "model.safetensors")
    assert len(saved) == len(tensors) and all(".lora_" in name for name in saved)
    assert (base / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == before
    pipe = load_published(base)
    plain = pipe(**REQUEST).audios
    pipe.load_lora_weights(tmp_path / "run" / "final")
    assert np.abs(pipe(**REQUEST).audios - plain).max() > 1e-4
    assert pipe.unet.peft_config["default_0"].lora_alpha == 4
    pipe.unload_lora_weights()
    np.testing.assert_array_equal(pipe(**REQUEST).audios, plain)


def test_a_resumed_run_ends_bitwise_like_the_uninterrupted_one(arguments, tmp_path):
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "whole")])
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "parts")])
    last = loop.checkpoints(str(tmp_path / "parts"))[-1]
    (last / "run.json").unlink()  # as if killed while it was written
    shutil.rmtree(tmp_path / "parts" / "final")
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "parts")])
    for folder in ("final", "best"):
        assert same(adapter(tmp_path / "whole" / folder), adapter(tmp_path / "parts" / folder))
    assert (tmp_path / "whole" / "best" / "best.json").read_bytes() == (
        tmp_path / "parts" / "best" / "best.json"
    ).read_bytes()


def test_two_processes_equal_one_which_may_go_on(arguments, tmp_path):
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "one")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "training.train_unet", *arguments, "--output_dir", str(tmp_path / "two")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]

    def apart() -> float:
        one, two = (adapter(tmp_path / name / "final") for name in ("one", "two"))
        return max((one[name] - two[name]).abs().max().item() for name in one)

    # Adam divides small gradients by their size, so that the order of sums shows; exactly 0 would be a single process.
    assert 0.0 < apart() < 1e-3
    (loop.checkpoints(str(tmp_path / "two"))[-1] / "run.json").unlink()
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "two")])
    assert apart() < 1e-3


def test_latents_are_standardised_as_the_checkpoint_does(base, tiny_latents):
    crops = LatentCrops(str(tiny_latents), "train", 16)
    own = crops.read(0, np.random.default_rng(0))["latents"] * crops.std[:, None] + crops.mean[:, None]
    lora.use_statistics(crops, base, str(tiny_latents))
    torch.testing.assert_close(crops.std, torch.tensor([1.0, 2.0, 1.5, 1.2]))
    raw = crops.read(0, np.random.default_rng(0))["latents"] * crops.std[:, None] + crops.mean[:, None]
    torch.testing.assert_close(raw, own)


def test_the_best_step_is_exported_with_a_card(arguments, base, tmp_path, capsys):
    run = [*arguments, "--output_dir", str(tmp_path / "run"), "--validate_every", "1", "--max_steps", "4"]
    train_unet.main(run)
    best = json.loads((tmp_path / "run" / "best" / "best.json").read_text())
    assert 1 <= best["step"] <= 4 and best["loss"] < best["base_loss"]
    out = ["--output_dir", str(tmp_path / "mine")]
    export.main(["--run", str(tmp_path / "run"), *out])
    assert f"step {best['step']}" in capsys.readouterr().out
    assert same(adapter(tmp_path / "mine"), adapter(tmp_path / "run" / "best"))
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "A LoRA adapter of tiny_base" in card and f"{best['loss']:.4f} with it" in card and str(tmp_path) not in card
    load_published(base).load_lora_weights(tmp_path / "mine")
    about = tmp_path / "run" / "best" / "best.json"
    about.write_text(json.dumps(best | {"step": 0, "loss": best["base_loss"]}))
    with pytest.raises(ValueError, match="never fell below"):
        export.main(["--run", str(tmp_path / "run"), "--output_dir", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


def test_a_base_that_changed_is_refused(arguments, base, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    run = [*arguments, "--init_from", str(copy), "--output_dir", str(tmp_path / "run"), "--max_steps", "3"]
    train_unet.main(run)
    pipe = load_published(copy)
    with torch.no_grad():
        pipe.unet.conv_in.weight.mul_(2)
    pipe.unet.save_pretrained(copy / "unet")
    with pytest.raises(ValueError, match="its network has other weights than when the run"):
        train_unet.main(run)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--init_from", "null"], "init_from is None, which has no unet/"),
        (["--init_from", "training"], "init_from is 'training', which has no unet/"),
        (["--evaluate_every", "5"], "evaluate_every is set; with lora_rank"),
    ],
)
def test_bad_settings_are_one_line(arguments, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as error:
        train_unet.main([*arguments, *changes, "--output_dir", str(tmp_path / "run")])
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / "run").exists()


def test_latents_of_another_autoencoder_are_refused(arguments, tiny_checkpoint, tmp_path):
    with pytest.raises(ValueError, match="made with another autoencoder or text encoder"):
        train_unet.main([*arguments, "--init_from", str(tiny_checkpoint), "--output_dir", str(tmp_path)])


def test_a_dry_run_writes_nothing(arguments, tmp_path, capsys):
    told = train_unet.main([*arguments, "--output_dir", str(tmp_path / "run"), "--dry_run"])
    assert 0 < told["trained"] < told["parameters"] and not (tmp_path / "run").exists()
