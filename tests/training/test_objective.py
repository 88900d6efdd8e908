"""What stage 3 minimises: weights of frames, padded batches, hidden and blurred conditions."""

import shutil

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.utils.data import default_collate

from tests.conftest import make_pipeline
from training.config import UNetRun
from training.data.latents import LatentCrops, TrainingCrops
from training.objective import Objective, masked_mse

UNET = ["--config", "training/configs/tiny/unet.yaml"]
FRAME_WISE = ("latents", "frame_mask", "grid", "mask")  # entries of an item whose last axis is frames
FRAMES = (3, 5, 9, 16, 20, 50)  # of the training clips of `ragged_latents`


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


def test_a_reference_is_another_part_of_the_clip_or_free(ragged_latents):
    crops = LatentCrops(str(ragged_latents), "train", 32)
    assert "reference" not in crops.read(5, np.random.default_rng(0))
    crops.references = True
    whole = crops.whole(5, np.random.default_rng(0))  # 50 frames, of which a reference has at least as many
    reference = crops.read(5, np.random.default_rng(1))["reference"]
    torch.testing.assert_close(
        reference[:4], whole.mean(1), atol=0.1, rtol=0.1
    )  # the latter with the posterior's noise
    torch.testing.assert_close(reference[4:], whole.std(1, correction=0), atol=0.1, rtol=0.2)
    items = TrainingCrops(crops, UNetRun(all_dropout=0.0, reference_dropout=0.3))
    free = [bool(items.read(5, np.random.default_rng(k))["reference"].isnan().all()) for k in range(300)]
    assert np.mean(free) == pytest.approx(0.3, abs=0.08)


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
