"""The loop that all stages share: which weights decay, what is logged, and how it stops at what is not finite."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from autoencoder.autoencoder_encodec import AutoencoderEncodec
from autoencoder.autoencoder_vivace import AutoencoderVivace
from autoencoder.discriminators import MultiBandDiscriminator, MultiScaleSTFTDiscriminator
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from tests.conftest import make_text_encoder
from tests.helpers.runs import log_lines
from training import train_autoencoder, train_unet
from training.config import parse_config
from training.listeners.beat_tracker import BeatTracker
from training.listeners.key import KeyNetwork
from training.listeners.tagger import Tagger
from training.run.trainer import FiniteCheck, parameter_groups
from training.text import align, train

TINY = Path("training/configs/tiny")


def described(kind: type, name: str, **more) -> nn.Module:
    values = json.loads((TINY / name).read_text())
    return kind(**{key: value for key, value in values.items() if not key.startswith("_")} | more)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "unet": lambda: described(UNet1DConditionModel, "unet.json", linear_taps=3),
    "autoencoder": lambda: described(AutoencoderVivace, "autoencoder.json"),
    "encodec": lambda: described(AutoencoderEncodec, "autoencoder_encodec.json"),
    "bands": lambda: MultiBandDiscriminator(1, 100, 4),
    "scales": lambda: MultiScaleSTFTDiscriminator(1, filters=4),
    "text encoder": lambda: train.Distillation(make_text_encoder(), 24),
    "alignment": lambda: align.Alignment(make_text_encoder(), 0.1),
    "tagger": lambda: Tagger(["drums", "piano"]),
    "beat tracker": BeatTracker,
    "key": KeyNetwork,
}
# Of each model all parameters whose name ends so are kernels or matrices; whatever else there is must stay.
STAYS = ("bias", "gain", "scale", "null", "null_text_token", "null_text_pooled", "norm.weight", "linear_path.weight",
         "embedding.weight", "shared.weight", "relative_attention_bias.weight", "layer_norm.weight")  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_matrices_decay_and_nothing_else(name):
    """One step of each group's optimiser without a gradient: what is no matrix stays to the bit."""
    torch.manual_seed(0)
    model = MODELS[name]()
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.5), lr=0.1)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(before)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = set()
    for key, value in model.named_parameters():
        if torch.equal(value, before[key]):
            # Zero-initialised matrices stay 0 either way.
            assert before[key].count_nonzero() == 0 or value.ndim < 2 or key.endswith(STAYS), key
        else:
            torch.testing.assert_close(value, 0.95 * before[key])
            decayed.add(key)
    assert decayed and not [key for key in decayed if key.endswith(STAYS)]
    assert all(before[key].ndim >= 2 for key in decayed)


def test_what_is_frozen_is_in_no_group():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3)).requires_grad_(False)
    model[0].weight.requires_grad_(True)
    (group,) = parameter_groups(model, 0.1)
    assert group["params"][0] is model[0].weight and len(group["params"]) == 1


def test_a_gain_without_gradient_stays_through_a_run(tiny_latents, tmp_path, monkeypatch):
    """The null embedding of the tempo gets no gradient where every clip's tempo is told."""
    arguments = ["--config", str(TINY / "unet.yaml"), "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path)]
    started = []
    build = train_unet.build

    def built(*given) -> UNet1DConditionModel:
        model = build(*given)
        started.append({key: value.detach().clone() for key, value in model.named_parameters()})
        return model

    monkeypatch.setattr(train_unet, "build", built)
    quiet = ["--scalar_dropout", "0", "--all_dropout", "0", "--text_dropout", "0"]
    train_unet.main([*arguments, *quiet, "--weight_decay", "10", "--learning_rate", "1e-2", "--ema_decay", "0"])
    ended = dict(UNet1DConditionModel.from_pretrained(tmp_path / "final").named_parameters())
    unmoved = [key for key in ended if key.endswith("null") and torch.equal(ended[key], started[0][key])]
    assert unmoved, [key for key in ended if key.endswith("null")]


class OnAGpu(torch.Tensor):
    """A tensor that says it is on a GPU, whose values come to the host only when its event is waited for."""

    @property
    def is_cuda(self) -> bool:
        return True


class Event:
    waited: ClassVar[list["Event"]] = []

    def record(self) -> None:
        pass

    def synchronize(self) -> None:
        Event.waited.append(self)


def test_a_gpu_is_looked_at_a_step_later_and_before_anything_is_written(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(Event, "waited", [])
    good, bad = (torch.tensor(values).as_subclass(OnAGpu) for values in ([1.0, 2.0], [1.0, float("nan")]))
    names = lambda items: ", ".join(f"{int(i)}.flac" for i in items)  # noqa: E731
    check = FiniteCheck(names)
    for _ in range(3):  # the micro-batches of one step: nothing is waited for
        check.note(0, {"loss": good}, torch.tensor([4, 7]))
    assert Event.waited == []
    check.note(1, {"loss": bad}, torch.tensor([4, 7]))
    assert len(Event.waited) == 3  # those of the step before
    with pytest.raises(FloatingPointError, match=r"^loss not finite after step 1 on 7\.flac; the last checkpoint is"):
        check.note(2, {"loss": good})
    check = FiniteCheck()
    check.note(1, {"a": bad, "b": good, "c": bad.sum()})
    with pytest.raises(FloatingPointError, match=r"^a, c not finite after step 1; the last checkpoint is kept"):
        check.settle()


def test_a_cpu_is_looked_at_at_once():
    with pytest.raises(FloatingPointError, match=r"^loss not finite after step 5; the last checkpoint"):
        FiniteCheck().note(5, {"loss": torch.tensor(float("inf"))})


def test_stage_1_tells_the_mean_of_all_micro_batches(tiny_data, tmp_path):
    """Without noise the log of a first step is that of the whole batch, however it is cut."""
    arguments = ["--config", str(TINY / "autoencoder.yaml"), "--data_dir", str(tiny_data), "--max_steps", "1"]
    train_autoencoder.main([*arguments, "--output_dir", str(tmp_path / "one")])
    train_autoencoder.main([*arguments, "--output_dir", str(tmp_path / "four"), "--gradient_accumulation_steps", "4"])
    (one,), (four,) = log_lines(tmp_path / "one", "train/loss"), log_lines(tmp_path / "four", "train/loss")
    assert one.keys() == four.keys() and one["train/grad_norm"] > 0
    for name in ("train/loss", "train/log", "train/mel", "train/power", "train/kl", "train/grad_norm"):
        assert four[name] == pytest.approx(one[name], rel=1e-4), name


@pytest.fixture
def phrases(monkeypatch):
    monkeypatch.setattr(align, "prepare", lambda config: ({0: ["pianos"]}, ["calm piano", "jazz"]))


def run_alignment(text_encoder, folder, *more: str) -> list[dict]:
    words = ["--text_encoder", str(text_encoder), "--output_dir", str(folder), "--batch_size", "8", "--log_every", "1"]
    align.main([*words, "--max_steps", "3", "--warmup_steps", "1", *more])
    return log_lines(folder, "train/loss")


def test_the_text_encoder_accumulates(tiny_text_encoder, phrases, tmp_path, monkeypatch):
    """Four micro-batches make one step, of their mean gradient, and the log tells of all of them."""
    seen = []
    batch = align.AlignmentData.batch

    def counted(self, step, share, shares, device):
        seen.append((step, share, shares))
        return batch(self, step, share, shares, device)

    monkeypatch.setattr(align.AlignmentData, "batch", counted)
    told = run_alignment(
        tiny_text_encoder, tmp_path / "four", "--gradient_accumulation_steps", "4", "--word_noise", "0"
    )
    assert len(told) == 3 and seen == [(step, share, 4) for step in range(3) for share in range(4)]
    one = run_alignment(tiny_text_encoder, tmp_path / "one", "--word_noise", "0")
    # The mean over texts is the same however they are shared out; those over tokens weigh texts otherwise.
    assert told[0]["train/sentence"] == pytest.approx(one[0]["train/sentence"], rel=1e-4)
    assert told[0]["train/grad_norm"] == pytest.approx(one[0]["train/grad_norm"], rel=0.3)
    with pytest.raises(ValueError, match="batch_size 8 is not a multiple of gradient_accumulation_steps x processes"):
        run_alignment(tiny_text_encoder, tmp_path / "three", "--gradient_accumulation_steps", "3")


def test_the_text_encoder_stops_at_what_is_not_finite(tiny_text_encoder, phrases, tmp_path, monkeypatch):
    plain = align.mean_pool
    monkeypatch.setattr(align, "mean_pool", lambda *given: plain(*given) * float("nan"))
    with pytest.raises(FloatingPointError, match="sentence not finite after step 0; the last checkpoint is kept"):
        run_alignment(tiny_text_encoder, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("option", ["ema_decay", "compile", "num_workers", "crop_frames"])
@pytest.mark.parametrize("kind", [train.TextEncoderRun, align.TextAlignRun])
def test_the_text_encoder_takes_no_option_without_effect(kind, option, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_config(kind, [f"--{option}", "1"])
    assert stop.value.code == 2 and option in capsys.readouterr().err
