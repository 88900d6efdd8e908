"""Distillation: the student learns the teacher's way, resumes bit for bit, and runs as a checkpoint of few steps."""

import numpy as np
import pytest
import torch

from pipelines.hub import load_published
from pipelines.vivace_score import Score, Track
from tests.helpers.interrupted import run_in_two
from tests.helpers.runs import log_lines, same, weights
from training import distill, export, train_unet, ways

AUDIO = {"output_type": "pt"}
SCORE = Score((Track("lead", [(0.0, 1.0, 60, 0.8), (1.0, 1.0, 64, 0.8)]),), 120.0, bars=1)


@pytest.fixture(scope="module")
def arguments(teacher, tiny_latents):
    return ["--init_from", str(teacher), "--data_dir", str(tiny_latents), "--crop_frames", "32", "--batch_size", "4",
            "--way_batches", "2", "--way_steps", "4", "--warmup_steps", "0", "--learning_rate", "1e-3", "--log_every",
            "1", "--student_steps", "4", "2", "--validate_every", "1000", "--ema_decay", "0.9", "--max_steps", "6",
            "--tracker", "null"]  # fmt: skip


@pytest.fixture(scope="module")
def run(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("distilled") / "run"
    more = ["--max_steps", "30", "--way_steps", "8", "--validate_every", "1", "--mask_probability", "0"]
    distill.main([*arguments, *more, "--output_dir", str(folder)])
    return folder


@pytest.fixture(scope="module")
def student(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "fast"
    export.main(["--run", str(run), "--output_dir", str(folder)])
    return folder


def test_a_student_starts_as_its_teacher(teacher):
    pipe = distill.load_native(str(teacher))
    unet = distill.Teacher(pipe, torch.device("cpu")).student()
    noisy, jump = torch.randn(2, 4, 16), torch.tensor([250.0, 0.0])
    with torch.no_grad():
        assert torch.equal(unet(noisy, 500.0).sample, pipe.unet(noisy, 500.0).sample)
        assert torch.equal(unet(noisy, 500.0, jump=jump).sample, pipe.unet(noisy, 500.0).sample)
        unet.jump_embedding[-1].bias.normal_()
        jumped, plain = unet(noisy, 500.0, jump=jump).sample, pipe.unet(noisy, 500.0).sample
    assert torch.equal(jumped[1], plain[1]) and not torch.allclose(jumped[0], plain[0])
    with pytest.raises(ValueError, match="jump must have shape"):
        pipe.unet(noisy, 500.0, jump=jump)


def test_a_way_is_what_the_pipeline_makes(teacher):
    """The teacher's way for the conditions of a request ends in the very latents of the pipeline."""
    pipe = distill.load_native(str(teacher))
    seen = {}

    def keep(_pipe, step, timestep, tensors):
        seen.setdefault("latents", []).append(tensors["latents"])
        return {}

    made = {}
    before = ways.Denoiser.denoise

    def denoise(self, batch, on_step, state):
        made["batch"] = batch
        return before(self, batch, on_step, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ways.Denoiser, "denoise", denoise)
        pipe("slow piano", score=SCORE, seed=1, callback_on_step_end=keep, **AUDIO)
    shown, noise = made["batch"].conditions, made["batch"].noise
    item = {
        "latents": torch.zeros_like(noise), "frame_mask": shown.visible, "mask": torch.ones(shown.visible.shape),
        "text": shown.states, "text_mask": shown.states_mask, "grid": shown.grid, "note_roll": shown.roll,
        "role_instruments": shown.players, **shown.scalars,
    }  # fmt: skip
    way, levels = distill.Teacher(pipe, torch.device("cpu")).way(item, noise, 12)
    assert levels.tolist() == pytest.approx(np.linspace(1, 0, 13).tolist(), abs=1e-6) and way.shape[1] == 13
    assert torch.equal(way[:, 0], noise)
    for place, latents in zip(way[:, 1:].unbind(1), seen["latents"], strict=True):
        assert torch.equal(place, latents)


def test_given_frames_are_where_they_are_given(teacher):
    pipe = distill.load_native(str(teacher))
    batch = {
        "latents": torch.randn(2, 4, 16), "frame_mask": torch.ones(2, 16, dtype=torch.bool),
        "mask": (torch.arange(16) >= 6).float().expand(2, 16), "text": torch.randn(2, 3, 16),
        "text_mask": torch.ones(2, 3, dtype=torch.bool), "grid": torch.zeros(2, 22, 16),
        "duration_s": torch.full((2,), torch.nan), "bpm": torch.full((2,), torch.nan),
        "key": torch.full((2,), -1), "beats_per_bar": torch.full((2,), -1),
    }  # fmt: skip
    noise = torch.randn(2, 4, 16)
    way, levels = distill.Teacher(pipe, torch.device("cpu")).way(batch, noise, 4)
    for place, level in enumerate(levels):
        expected = (1 - level) * batch["latents"] + level * noise
        torch.testing.assert_close(way[:, place, :, :6], expected[..., :6])
    assert not torch.allclose(way[:, -1, :, 6:], batch["latents"][..., 6:])


def test_the_student_comes_nearer(run):
    jumps = [line["train/loss_jumps"] for line in log_lines(run, "train/loss_jumps")]
    assert np.mean(jumps[-10:]) < 0.6 * jumps[0]
    before, *_, after = log_lines(run, "validation/4_steps")
    for steps in (4, 2):
        assert after[f"validation/{steps}_steps"] < 0.8 * before[f"validation/{steps}_steps"]
        assert after[f"validation/teacher_{steps}_steps"] == before[f"validation/teacher_{steps}_steps"] > 0.0


def test_a_run_that_goes_on_ends_with_the_same_bits(arguments, tmp_path):
    distill.main([*arguments, "--output_dir", str(tmp_path / "whole")])
    # Stopped within the ways of steps 4 to 7, which are made again.
    parts = [*arguments, "--output_dir", str(tmp_path / "parts"), "--checkpoint_every", "5"]
    run_in_two(distill.main, parts, 5)
    first = weights(tmp_path / "whole")
    assert same(first, weights(tmp_path / "parts"))
    two = [*arguments, "--output_dir", str(tmp_path / "two"), "--gradient_accumulation_steps", "2"]
    distill.main(two)
    third = weights(tmp_path / "two")
    for name in first:
        torch.testing.assert_close(first[name], third[name], rtol=1e-3, atol=1e-4)


def test_the_export_runs_everywhere_with_four_steps(student, teacher):
    pipe = load_published(student)
    pipe.set_progress_bar_config(disable=True)
    config = pipe.config
    assert (config.default_num_inference_steps, config.default_guidance_scale) == (4, 1.0)
    assert config.default_score_guidance_scale == 1.5 and pipe.unet.config.jump_guidance == 6.0
    calls = []
    hook = pipe.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append((len(args[0]), kwargs.get("jump"))), with_kwargs=True
    )
    options = {"duration_s": 1.0, "seed": 3, **AUDIO}
    plain = pipe("slow piano", **options).audios[0]
    assert [rows for rows, _ in calls] == [1] * 4
    assert [float(jump) for _, jump in calls] == pytest.approx([250.0] * 4)
    batch = pipe(["fast drums", "slow piano", "slow piano, no drums"], **options).audios
    assert torch.equal(batch[1], plain) and not torch.equal(batch[2], plain)
    assert torch.equal(pipe("slow piano, no drums", **options).audios[0], batch[2])
    calls.clear()
    strong = pipe("slow piano", guidance_scale=2.0, num_inference_steps=12, **options).audios[0]
    assert [(rows, jump) for rows, jump in calls] == [(2, None)] * 12
    mixed = pipe(["slow piano", "slow piano, no drums", "slow piano"], guidance_scale=[1.0, 1.0, 2.0],
                 num_inference_steps=12, **options).audios  # fmt: skip
    assert torch.equal(mixed[2], strong)
    assert torch.equal(mixed[0], pipe("slow piano", num_inference_steps=12, **options).audios[0])
    assert torch.equal(mixed[1], pipe("slow piano, no drums", num_inference_steps=12, **options).audios[0])
    calls.clear()
    played = pipe("slow piano", score=SCORE, seed=3, **AUDIO).audios[0]
    assert [rows for rows, _ in calls] == [1] * 4 and played.isfinite().all()
    calls.clear()
    edited = pipe("fast drums", audio=plain.numpy(), sampling_rate=config_rate(pipe), strength=0.5, seed=3, **AUDIO)
    assert [float(jump) for _, jump in calls] == pytest.approx([250.0] * 2)
    assert torch.isfinite(edited.audios[0]).all()
    kept = pipe("fast drums", audio=plain.numpy(), sampling_rate=config_rate(pipe), mask_s=[(0.4, 0.7)], **AUDIO)
    assert torch.isfinite(kept.audios[0]).all()
    looped = pipe("fast drums", bars=1, bpm=120, loop=True, seed=3, **AUDIO)
    assert torch.isfinite(looped.audios[0]).all()
    hook.remove()
    assert pipe("slow piano", duration_s=30.0, seed=1, **AUDIO).audios[0].isfinite().all()


def config_rate(pipe) -> int:
    return pipe.vae.config.sampling_rate


@pytest.mark.parametrize("changes, message", [
    (["--student_steps", "5"], "student_steps has 5; allowed: divisors of teacher_steps 12"),
    (["--init_from", "null"], "init_from is None; allowed: a checkpoint folder"),
    (["--dry_run"], "dry_run is true"),
])  # fmt: skip
def test_bad_settings_are_refused(arguments, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        distill.main([*arguments, *changes, "--output_dir", str(tmp_path / "run")])


def test_a_distilled_network_is_no_teacher_and_no_start(arguments, student, tiny_latents, tmp_path):
    with pytest.raises(ValueError, match="its network is a distilled one"):
        distill.main([*arguments, "--init_from", str(student), "--output_dir", str(tmp_path / "run")])
    with pytest.raises(ValueError, match="a distilled network, which would forget its jumps"):
        train_unet.main(["--config", "training/configs/tiny/unet.yaml", "--data_dir", str(tiny_latents),
                         "--init_from", str(student), "--output_dir", str(tmp_path / "more")])  # fmt: skip
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "config.json").write_text('{"student_steps": [4]}')
    with pytest.raises(ValueError, match="which has no final weights"):
        export.main(["--run", str(tmp_path / "unfinished"), "--output_dir", str(tmp_path / "out")])
