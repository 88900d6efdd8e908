"""What stage 3 minimises: weights of frames, padded batches, hidden and blurred conditions."""

import shutil

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import default_collate

from autoencoder.classes import load_autoencoder
from tests.conftest import make_pipeline
from training.config import UNetRun
from training.data.latents import LatentCrops, TrainingCrops
from training.objective import Objective, channel_weights, masked_mse

UNET = ["--config", "training/configs/tiny/unet.yaml"]
FRAME_WISE = ("latents", "frame_mask", "grid", "mask")  # entries of an item whose last axis is frames
FRAMES = (3, 5, 9, 16, 20, 50)  # of the training clips of `ragged_latents`


def weights(folder, name: str = "final") -> dict[str, torch.Tensor]:
    return load_file(folder / name / "diffusion_pytorch_model.safetensors")


def difference(first: dict, second: dict) -> float:
    return max((first[name] - second[name]).abs().max().item() for name in first)


@pytest.fixture(scope="module")
def ragged_latents(tiny_latents, tmp_path_factory):
    """The tiny latents with the training clips cut to different lengths."""
    folder = tmp_path_factory.mktemp("ragged") / "latents"
    shutil.copytree(tiny_latents, folder)
    path = folder / "train" / "00000.safetensors"
    with safe_open(path, framework="pt") as shard:
        metadata = shard.metadata()
    tensors = load_file(path)
    starts = tensors["frame_offsets"][:-1].tolist()
    for name in ("latents_mean", "latents_std"):
        tensors[name] = torch.cat([tensors[name][s : s + n] for s, n in zip(starts, FRAMES, strict=True)])
    tensors["frame_offsets"] = torch.from_numpy(np.cumsum([0, *FRAMES]))
    save_file(tensors, path, metadata=metadata)
    return folder


def test_given_frames_weigh_little_and_padding_nothing():
    target = torch.zeros(1, 2, 4)
    prediction = torch.tensor([[[1.0, 2.0, 3.0, 100.0]] * 2])
    batch = {"frame_mask": torch.tensor([[True, True, True, False]]), "mask": torch.tensor([[0.0, 1.0, 1.0, 1.0]])}
    assert masked_mse(prediction, target, batch, 0.1) == pytest.approx((0.1 * 1 + 4 + 9) / 2.1)
    assert masked_mse(prediction, target, batch, 1.0) == pytest.approx((1 + 4 + 9) / 3)


def test_errors_count_by_what_hangs_on_their_channel(tiny_latents, tmp_path):
    folder = tmp_path / "latents"
    shutil.copytree(tiny_latents, folder)
    model = load_autoencoder(folder / "vae")
    with torch.no_grad():  # channel 1 is not decoded at all, channel 2 twice as strongly as before
        for layer in (model.decoder_linear, model.decoder_in):
            layer.weight[:, 1] = 0.0
            layer.weight[:, 2] *= 2.0
    before = channel_weights(LatentCrops(str(folder), "train", 32), 1.0)
    model.save_pretrained(folder / "vae")
    crops = LatentCrops(str(folder), "train", 32)
    whole, half, none = (channel_weights(crops, share) for share in (1.0, 0.5, 0.0))
    assert whole[1] == 0.0 and before[1] > 0.0 and whole[2] > before[2]
    assert whole.mean() == pytest.approx(1.0) and torch.equal(none, torch.ones(4))
    torch.testing.assert_close(half, 0.5 + 0.5 * whole)
    batch = {"frame_mask": torch.ones(1, 1), "mask": torch.ones(1, 1)}
    error = masked_mse(torch.tensor([[[0.0], [3.0], [1.0], [0.0]]]), torch.zeros(1, 4, 1), batch, 1.0, whole)
    assert error == pytest.approx(float(whole[2]) / 4)


def test_error_and_gradient_do_not_depend_on_padding(ragged_latents):
    torch.manual_seed(0)
    items = TrainingCrops(LatentCrops(str(ragged_latents), "train", 32), UNetRun(mask_probability=1.0))
    objective = Objective(FlowMatchEulerDiscreteScheduler(), UNetRun())
    model = make_pipeline().unet
    noise, results = torch.randn(3, 4, 32), []
    chosen = [items.read(i, np.random.default_rng(i)) for i in (1, 2, 3)]
    for frames in (32, 16, 20):
        cut = [{k: v[..., :frames] if k in FRAME_WISE else v for k, v in item.items()} for item in chosen]
        batch = default_collate(cut)
        assert batch["latents"].shape == (3, 4, frames) and batch["grid"].shape[2] == frames
        errors = objective.errors(model, batch, noise[..., :frames], torch.tensor([100.0, 500.0, 900.0]))
        model.zero_grad()
        errors.mean().backward()
        results.append((errors.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    for errors, gradients in results[1:]:
        torch.testing.assert_close(errors, results[0][0], rtol=1e-5, atol=1e-6)
        assert difference(gradients, results[0][1]) < 1e-5


def test_masks_lie_within_what_is_visible(ragged_latents):
    items = TrainingCrops(LatentCrops(str(ragged_latents), "train", 32), UNetRun(mask_probability=1.0))
    for seed in range(60):
        item = items.read(seed % 6, np.random.default_rng(seed))
        visible = item["mask"][: FRAMES[seed % 6]]
        assert set(visible.tolist()) == {0.0, 1.0} and bool((item["mask"][FRAMES[seed % 6] :] == 1.0).all())


def test_words_are_hidden_and_blurred_as_much_as_asked(ragged_latents):
    crops = LatentCrops(str(ragged_latents), "train", 32)
    whole = {"text_dropout": 0.0, "all_dropout": 0.0}
    plain, changed = (
        TrainingCrops(crops, UNetRun(**whole, **extra)) for extra in ({}, {"token_dropout": 0.3, "text_noise": 0.5})
    )
    total, kept, noise = 0, 0, []
    for seed in range(400):
        one, other = (items.read(seed % 6, np.random.default_rng(seed)) for items in (plain, changed))
        assert not (other["text_mask"] & ~one["text_mask"]).any()  # no token is added
        total, kept = total + int(one["text_mask"].sum()), kept + int(other["text_mask"].sum())
        noise.append((other["text"] - one["text"])[one["text_mask"]].flatten())
    assert kept / total == pytest.approx(0.7, abs=0.04)
    assert torch.cat(noise).std().item() == pytest.approx(0.5, rel=0.05)
