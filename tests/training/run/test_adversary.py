"""The adversarial half of stage 1: who learns what and when, resumed bitwise, and what stops a run that collapses."""

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from autoencoder.discriminators import MultiBandDiscriminator
from tests.helpers.runs import log_lines, same, weights
from training import train_autoencoder
from training.config import AutoencoderRun, parse_config
from training.run import adversary, loop

CONFIG = ["--config", "training/configs/tiny/autoencoder.yaml"]
ENCODEC = ["--model_config", "training/configs/tiny/autoencoder_encodec.json"]
ADVERSARIAL = [
    "--adversarial_weight", "1", "--feature_weight", "2", "--discriminator_filters", "4",
    "--discriminator_start", "1", "--discriminator_warmup_steps", "2",
]  # fmt: skip


def train(data, folder, *more: str) -> dict[str, torch.Tensor]:
    train_autoencoder.main([*CONFIG, "--data_dir", str(data), "--output_dir", str(folder), *more])
    return weights(folder)


@pytest.mark.parametrize("more", [[], ENCODEC], ids=["vivace", "encodec"])
def test_balanced_adversarial_run_resumes_bitwise(tiny_data, tmp_path, more):
    more = [*ADVERSARIAL, *more, "--balance", "--mixed_precision", "bf16"]
    whole = train(tiny_data, tmp_path, *more)
    lines = log_lines(tmp_path, "train/kl")
    assert ["train/discriminator" in line for line in lines] == [False] + 5 * [True]
    assert ["train/adversarial" in line for line in lines] == 3 * [False] + 3 * [True]
    assert ["train/feature" in line for line in lines] == 3 * [False] + 3 * [True]
    saved = loop.checkpoints(str(tmp_path))
    judges = [load_file(path / "model_1.safetensors") for path in saved]
    assert judges[0].keys() == judges[1].keys() and any(not torch.equal(judges[0][k], judges[1][k]) for k in judges[0])
    (saved[-1] / "run.json").unlink()  # killed while writing the last checkpoint
    parts = train(tiny_data, tmp_path, *more)
    assert same(whole, parts)
    again = load_file(loop.checkpoints(str(tmp_path))[-1] / "model_1.safetensors")
    assert all(torch.equal(judges[1][name], again[name]) for name in again)


@pytest.mark.parametrize("more", [[], ENCODEC], ids=["vivace", "encodec"])
def test_a_frozen_encoder_keeps_its_weights(tiny_data, tmp_path, more):
    first = train(tiny_data, tmp_path / "first", *more, "--max_steps", "1")
    start = ["--init_from", str(tmp_path / "first" / "final"), "--freeze_encoder", "--learning_rate", "0.01"]
    second = train(tiny_data, tmp_path / "second", *start, *ADVERSARIAL, "--ema_decay", "0.5")
    kept = {name for name in first if torch.equal(first[name], second[name])}
    assert kept >= {name for name in first if name.startswith("encoder")}
    assert {name for name in first if name.startswith("decoder")} - kept


def test_without_weights_there_are_no_discriminators(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(train_autoencoder, "MultiBandDiscriminator", None)  # would fail if called
    train(tiny_data, tmp_path, "--max_steps", "3")
    assert not (loop.checkpoints(str(tmp_path))[-1] / "model_1.safetensors").exists()


def test_accumulated_steps_are_those_of_the_whole_batch(tiny_data, tmp_path):
    one = train(tiny_data, tmp_path / "one", *ADVERSARIAL, "--max_steps", "3")
    two = train(tiny_data, tmp_path / "two", *ADVERSARIAL, "--max_steps", "3", "--gradient_accumulation_steps", "2")
    assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)
    a, b = (
        float(torch.tensor([line["train/discriminator"] for line in log_lines(tmp_path / n, "train/kl")[1:]]).sum())
        for n in ("one", "two")
    )
    assert a == pytest.approx(b, rel=0.01)


def test_a_collapse_is_named_and_stops_with_the_last_checkpoint(tiny_data, tmp_path, monkeypatch):
    monkeypatch.setattr(adversary, "discriminator_loss", lambda real, fake: 0.0 * real[0].sum())
    monkeypatch.setattr(adversary, "LONG_ENOUGH", 2)
    monkeypatch.setattr(adversary, "saturated", lambda history: len(history) >= 2 and max(history) < 1e-3)
    with pytest.raises(FloatingPointError, match=r"discriminators have won.* up to 5; the last checkpoint is kept"):
        train(tiny_data, tmp_path, *ADVERSARIAL)
    assert [path.name for path in loop.checkpoints(str(tmp_path))] == ["step_00000003"]


def test_a_discriminator_that_is_not_finite_takes_no_step(tiny_data, tmp_path, monkeypatch):
    plain = adversary.discriminator_loss
    monkeypatch.setattr(adversary, "discriminator_loss", lambda real, fake: plain(real, fake) * float("nan"))
    stepped = []
    monkeypatch.setattr(adversary.Adversary, "after_step", lambda self, step: stepped.append(step))
    with pytest.raises(FloatingPointError, match="discriminator not finite after step 1"):
        train(tiny_data, tmp_path, *ADVERSARIAL)
    assert stepped == [0]


def test_the_balanced_scalar_has_the_balanced_gradient():
    objective = adversary.Objective({"near": 3.0, "far": 1.0, "kl": 0.5, "adversarial": 9.0}, True, Accelerator())
    output, mean = torch.randn(2, 5, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    losses = {"near": 1e-3 * output[:, 0].sum(), "far": 1e3 * output[:, 1].sum(), "kl": mean.square()}
    objective(losses, output).backward()
    expected = torch.zeros(2, 5)
    expected[:, 0], expected[:, 1] = 0.75 / 2, 0.25 / 2  # shares among those that are there, mean over the batch
    torch.testing.assert_close(output.grad, expected, atol=1e-5, rtol=1e-4)
    assert float(mean.grad) == pytest.approx(0.5 * 2 * 2.0)


def test_bands_are_judged_apart():
    torch.manual_seed(0)
    judge = MultiBandDiscriminator(audio_channels=2, num_bins=100, filters=4)
    features = torch.randn(3, 6, 2 * 2 * 100)  # two channels, two STFT frames each
    scores, found = judge(features)
    assert [s.shape[:3] for s in scores] == 4 * [(3, 1, 12)] and [len(f) for f in found] == 4 * [5]
    treble = features.clone().unflatten(2, (4, 100))
    treble[..., 50:] += 1.0
    later = judge(treble.flatten(2))[0]
    assert all(torch.equal(a, b) for a, b in zip(scores[:3], later[:3], strict=True))
    assert not torch.equal(scores[3], later[3])


def test_bad_settings_are_named(tiny_data, tmp_path, capsys):
    with pytest.raises(SystemExit):
        parse_config(AutoencoderRun, ["--adversarial_weight", "-1"])
    assert "adversarial_weight is -1.0; allowed: at least 0" in capsys.readouterr().err


def test_the_tracker_gets_pairs(tiny_data, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tiny_data, tmp_path, "--tracker", "tensorboard", "--max_steps", "1")
    events = EventAccumulator(str(next((tmp_path / "logs").rglob("events.out*")).parent), size_guidance={"audio": 0})
    events.Reload()
    assert set(events.Tags()["audio"]) == {f"demo/{i}_{name}" for i in (0, 1) for name in ("original", "decoded")}
    assert set(events.Tags()["images"]) == {f"demo/{i}_original_above_decoded" for i in (0, 1)}
