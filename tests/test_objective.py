"""What stage 3 minimises: weights of frames and noise levels, paired noise, padded batches, two averages."""

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import make_pipeline
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training import flow, loop, train_unet
from training.config import UNetRun
from training.data.buckets import WINDOW, LengthBuckets
from training.data.conditions import TrainingCrops
from training.data.latents import LatentCrops
from training.objective import Objective, masked_mse

UNET = ["--config", "training/configs/tiny/unet.yaml"]
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


def test_error_and_gradient_do_not_depend_on_padding(ragged_latents):
    torch.manual_seed(0)
    items = TrainingCrops(LatentCrops(str(ragged_latents), "train", 32), UNetRun(mask_probability=1.0))
    objective = Objective(FlowMatchEulerDiscreteScheduler(), UNetRun())
    model = make_pipeline().unet
    noise, results = torch.randn(3, 4, 32), []
    chosen = [items.read(i, np.random.default_rng(i)) for i in (1, 2, 3)]
    for count, frames in ((1, 32), (2, 16), (32, 16)):
        batch = LengthBuckets(items.lengths(), 32, count).collate(chosen)
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
    said, kept, noise = 0, 0, []
    for seed in range(400):
        one, other = (items.read(seed % 6, np.random.default_rng(seed)) for items in (plain, changed))
        assert not (other["text_mask"] & ~one["text_mask"]).any()  # nothing is said that was not
        said, kept = said + int(one["text_mask"].sum()), kept + int(other["text_mask"].sum())
        noise.append((other["text"] - one["text"])[one["text_mask"]].flatten())
    assert kept / said == pytest.approx(0.7, abs=0.04)
    assert torch.cat(noise).std().item() == pytest.approx(0.5, rel=0.05)


def test_batches_are_of_like_lengths_and_every_position_is_read_once():
    lengths = np.random.default_rng(0).integers(1, 101, 500)
    buckets = LengthBuckets(lengths.tolist(), 100, 4)
    assert buckets.edges.tolist() == [25, 50, 75, 100]

    class Items:
        def __len__(self):
            return len(lengths)

        def read(self, index, rng):
            return index

    order = loop.Shuffled(Items(), 0, buckets.bucket, 8)
    read = [order[position] for position in range(2 * WINDOW * 8)]
    plain = loop.Shuffled(Items(), 0)
    assert sorted(read[: WINDOW * 8]) == sorted(plain[position] for position in range(WINDOW * 8))
    batches = lengths[np.array(read)].reshape(-1, 8)
    padded = [8 * buckets.edges[np.searchsorted(buckets.edges, batch.max())] for batch in batches]
    assert batches.sum() / sum(padded) > 0.75  # 0.5 where all are padded to 100
    assert len({int(batch.max() - 1) // 25 for batch in batches[:12]}) > 1  # batches are shuffled, not sorted
    again = loop.Shuffled(Items(), 0, buckets.bucket, 8)
    assert [again[p] for p in (700, 3, 701)] == [read[700], read[3], read[701]]  # from anywhere, as after a kill


def test_one_bucket_changes_nothing():
    class Items(list):
        def read(self, index, rng):
            return index, rng.random()

    items = Items(range(50))
    bucket = LengthBuckets([7] * 50, 10, 1).bucket
    plain, regrouped = loop.Shuffled(items, 3), loop.Shuffled(items, 3, bucket, 4)
    assert sorted(plain[p] for p in range(256)) == sorted(regrouped[p] for p in range(256))


@pytest.mark.parametrize("settings", [
    ["--length_buckets", "4", "--batch_size", "2"],
    ["--pair_noise", "2"],
    ["--length_buckets", "2", "--second_ema_decay", "0.5", "--pair_noise", "4", "--num_workers", "1"],
], ids=["buckets", "pairs", "all"])  # fmt: skip
def test_options_resume_bitwise(settings, ragged_latents, tmp_path):
    arguments = [*UNET, "--data_dir", str(ragged_latents), "--output_dir", str(tmp_path), *settings]
    train_unet.main(arguments)
    whole = weights(tmp_path)
    (loop.checkpoints(str(tmp_path))[-1] / "run.json").unlink()
    train_unet.main(arguments)
    assert difference(whole, weights(tmp_path)) == 0.0


def test_paired_noise_and_buckets_do_not_depend_on_how_a_batch_is_split(ragged_latents, tmp_path):
    arguments = [*UNET, "--data_dir", str(ragged_latents), "--max_steps", "3", "--pair_noise", "2"]
    arguments += ["--length_buckets", "4", "--output_dir"]
    train_unet.main([*arguments, str(tmp_path / "one")])
    train_unet.main([*arguments, str(tmp_path / "two"), "--gradient_accumulation_steps", "2"])
    assert difference(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-4
    with pytest.raises(ValueError, match="pair_noise is 3; it must divide the 4 items"):
        train_unet.main([*arguments, str(tmp_path / "three"), "--pair_noise", "3"])


def test_pairing_in_groups_shortens_the_paths_and_keeps_the_noise():
    clean, noise = torch.randn(8, 2, 3), torch.randn(8, 2, 3)
    paired = flow.pair_noise_in_groups(clean, noise, 4)
    for part in (slice(0, 4), slice(4, 8)):
        assert sorted(paired[part].flatten(1).sum(1).tolist()) == sorted(noise[part].flatten(1).sum(1).tolist())
    assert (paired - clean).square().sum() < (noise - clean).square().sum()


def test_min_snr_weighs_the_loss_of_ddpm_and_is_refused_for_flow(tiny_latents, tmp_path):
    scheduler = DDPMScheduler(prediction_type="epsilon", clip_sample=False)
    objective = Objective(scheduler, UNetRun(min_snr_gamma=5.0))
    timesteps = torch.tensor([10, 999])
    snr = scheduler.alphas_cumprod[timesteps] / (1 - scheduler.alphas_cumprod[timesteps])
    torch.testing.assert_close(objective.weights(timesteps), torch.stack([5.0 / snr[0], torch.tensor(1.0)]))
    described = tmp_path / "ddpm.json"
    described.write_text(json.dumps({"_class_name": "DDPMScheduler", "clip_sample": False}))
    arguments = [*UNET, "--data_dir", str(tiny_latents), "--scheduler_config", str(described), "--output_dir"]
    train_unet.main([*arguments, str(tmp_path / "plain")])
    train_unet.main([*arguments, str(tmp_path / "weighed"), "--min_snr_gamma", "5"])
    assert difference(weights(tmp_path / "plain"), weights(tmp_path / "weighed")) > 0.0
    with pytest.raises(ValueError, match="min_snr_gamma is 5; it applies to epsilon and v_prediction only"):
        train_unet.main([*UNET, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path / "flow"),
                         "--min_snr_gamma", "5"])  # fmt: skip


def test_the_better_of_two_averages_is_kept(tiny_latents, tmp_path):
    arguments = [*UNET, "--data_dir", str(tiny_latents), "--learning_rate", "1e-2", "--ema_decay", "0.0"]
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "none")])
    train_unet.main([*arguments, "--output_dir", str(tmp_path / "two"), "--second_ema_decay", "0.9"])
    last = [json.loads(line) for line in (tmp_path / "two" / "log.jsonl").read_text().splitlines()][-2:]
    first, second = (last[0][f"validation/all{suffix}"] for suffix in ("", "_second_ema"))
    assert first != second and last[1]["final/ema_decay"] == (0.0 if first < second else 0.9)
    same = difference(weights(tmp_path / "none"), weights(tmp_path / "two")) == 0.0
    assert same == (first < second)


def test_choice_follows_the_metric():
    figures = [{"validation/all": 1.0, "evaluation/key": 0.5}, {"validation/all": 0.9, "evaluation/key": 0.4}]
    assert train_unet.choose(figures, "validation/all") == 1
    assert train_unet.choose(figures, "evaluation/key") == 0
    assert train_unet.choose(figures, "evaluation/tempo_4pct") == 1  # not heard: by the validation loss


def test_more_buckets_than_frames_are_refused():
    with pytest.raises(ValueError, match="length_buckets is 9; allowed: 1 to crop_frames = 8"):
        LengthBuckets([4], 8, 9)
