"""Evaluation while training: it changes nothing of the run, tells figures, shows clips and keeps the best weights."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from tests.helpers.runs import log_lines, same, weights
from training import train_unet
from training import watch as watch_module
from training.config import UNetRun, parse_config
from training.data import latents as latents_module
from training.data.latents import LatentCrops
from training.flow import load_scheduler
from training.metrics.listening import Listeners
from training.objective import KERNEL, lower_is_better
from training.run import loop
from training.watch import Watch, generators_kept, picture

UNET = "training/configs/tiny/unet.yaml"


@pytest.fixture(scope="module")
def runs(tiny_latents, tiny_text_encoder, tmp_path_factory):
    """The same run without and with evaluation, the second with a tracker."""
    folder = tmp_path_factory.mktemp("watched")
    shared = ["--config", UNET, "--data_dir", str(tiny_latents), "--checkpoint_every", "2", "--keep_checkpoints", "9"]
    watched = ["--evaluate_every", "2", "--evaluate_clips", "2", "--evaluate_steps", "2", "--tracker", "tensorboard",
               "--demo_clips", "1", "--text_encoder", str(tiny_text_encoder), "--tagger", "none",
               "--beat_tracker", "none", "--key_network", "none"]  # fmt: skip
    train_unet.main([*shared, "--output_dir", str(folder / "plain")])
    train_unet.main([*shared, *watched, "--output_dir", str(folder / "watched")])
    return folder, [*shared, *watched]


def test_evaluation_changes_nothing_of_the_run(runs):
    folder, _ = runs
    assert same(weights(folder / "plain"), weights(folder / "watched"))
    for step in (2, 4, 6):
        a, b = (folder / name / "checkpoints" / f"step_{step:08d}" for name in ("plain", "watched"))
        assert same(load_file(a / "model.safetensors"), load_file(b / "model.safetensors"))
        states = [torch.load(f / "random_states_0.pkl", weights_only=False) for f in (a, b)]
        assert torch.equal(states[0]["torch_manual_seed"], states[1]["torch_manual_seed"])


def test_figures_are_logged_and_the_best_lies_whole(runs):
    folder, _ = runs
    evaluated = {line["step"]: line for line in log_lines(folder / "watched", "evaluation/chord_cosine")}
    assert sorted(evaluated) == [2, 4, 6]
    assert all(-1.0 <= line["evaluation/chord_cosine"] <= 1.0 for line in evaluated.values())
    best = json.loads((folder / "watched" / "best" / "best.json").read_text())
    assert best["metric"] == "validation/all"
    assert best["value"] == min(line["validation/all"] for line in evaluated.values())
    assert best["value"] == evaluated[best["step"]]["validation/all"]
    model = UNet1DConditionModel.from_pretrained(folder / "watched" / "best")
    if best["step"] == 6:
        assert same(dict(model.state_dict()), weights(folder / "watched"))
    assert not (folder / "watched" / "best.partial").exists() and not (folder / "watched" / "best.old").exists()
    assert not (folder / "plain" / "best").exists()


def test_tracker_gets_clips_spectrograms_and_prompts(runs):
    folder, _ = runs
    events = EventAccumulator(str(folder / "watched" / "logs"), size_guidance={"audio": 0, "images": 0}).Reload()
    assert [e.step for e in events.Audio("demo/0")] == [2, 4, 6]
    assert events.Audio("demo/1")[0].sample_rate == 24000
    assert len(events.Images("demo/1_spectrogram")) == 3
    assert [e.step for e in events.Audio("demo/0_guidance_1")] == [2, 4, 6]
    assert "demo/0_guidance_4_spectrogram" in events.Tags()["images"]
    assert "demo/1_guidance_4" not in events.Tags()["audio"]  # one demo is asked for
    sounds = [events.Audio(f"demo/0{name}")[-1].encoded_audio_string for name in ("", "_guidance_1", "_guidance_4")]
    assert len(set(sounds)) == 3


def test_a_resumed_watched_run_ends_like_the_plain_one_and_keeps_its_best(runs):
    folder, arguments = runs
    before = json.loads((folder / "watched" / "best" / "best.json").read_text())
    for late in loop.checkpoints(str(folder / "watched"))[1:]:
        (late / "run.json").unlink()  # as if killed after step 2
    (folder / "watched" / "best.partial").mkdir()  # and while writing the best
    train_unet.main([*arguments, "--output_dir", str(folder / "watched")])
    assert same(weights(folder / "plain"), weights(folder / "watched"))
    assert json.loads((folder / "watched" / "best" / "best.json").read_text()) == before


def test_best_is_kept_only_when_better(runs, tiny_latents, tmp_path):
    folder, arguments = runs
    crops = train_unet.LatentCrops(str(tiny_latents), "validation", 16)
    config = parse_config(
        UNetRun, [*arguments, "--output_dir", str(tmp_path), "--best_metric", "evaluation/chord_cosine"]
    )
    watch = Watch(config, crops, load_scheduler(config.scheduler_config), crops)
    model = UNet1DConditionModel.from_pretrained(folder / "plain" / "final")
    metric = "evaluation/chord_cosine"
    values = [(0.5, True), (0.4, False), (float("nan"), False), (0.6, True), (0.6, False)]
    assert [watch.keep_if_best(model, {metric: v}, i) for i, (v, _) in enumerate(values)] == [
        kept for _, kept in values
    ]
    assert not watch.keep_if_best(model, {}, 9)
    assert json.loads((tmp_path / "best" / "best.json").read_text())["step"] == 3


def watch_of(arguments: list, latents, output, *more: str) -> Watch:
    config = parse_config(UNetRun, [*arguments, "--output_dir", str(output), *more])
    validation, train = (LatentCrops(str(latents), split, 16) for split in ("validation", "train"))
    return Watch(config, validation, load_scheduler(config.scheduler_config), train)


def test_killed_between_two_renames_the_best_comes_back(runs, tiny_latents, tmp_path, monkeypatch):
    folder, arguments = runs
    watch = watch_of(arguments, tiny_latents, tmp_path, "--best_metric", "validation/all")
    model = UNet1DConditionModel.from_pretrained(folder / "plain" / "final")
    assert watch.keep_if_best(model, {"validation/all": 0.5}, 1)
    rename = Path.rename

    def killed(self, target):
        if self.name == "best.partial":
            raise KeyboardInterrupt  # as good as a kill: nothing of ours runs after it
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "rename", killed)
        watch.keep_if_best(model, {"validation/all": 0.4}, 2)
    assert not (tmp_path / "best").exists()
    again = watch_of(arguments, tiny_latents, tmp_path, "--best_metric", "validation/all")
    assert not again.keep_if_best(model, {"validation/all": 0.6}, 1)  # worse than what was there
    assert json.loads((tmp_path / "best" / "best.json").read_text())["value"] == 0.5
    assert again.keep_if_best(model, {"validation/all": 0.4}, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best"]


class Levels:
    """Embeds a clip by the levels of its quarters; counts clips."""

    name, card = "levels", {}

    def __init__(self):
        self.clips = 0

    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        self.clips += len(audios)
        return np.array([[np.log(np.std(part) + 1e-4) for part in np.array_split(audio, 4)] for audio in audios])


def test_real_clips_are_decoded_once_and_latents_read_once(runs, tiny_latents, tmp_path, monkeypatch):
    folder, arguments = runs
    monkeypatch.setattr(watch_module, "LEAST_FOR_KERNEL", 2)
    monkeypatch.setattr(watch_module, "load_embedder", lambda name: Levels())
    monkeypatch.setattr(watch_module, "load_listeners", lambda *_: Listeners(tagger=object()))
    monkeypatch.setattr(watch_module, "analyse", lambda *_: [])
    monkeypatch.setattr(watch_module, "compare", lambda *_: [])
    watch = watch_of(arguments, tiny_latents, tmp_path)
    model = UNet1DConditionModel.from_pretrained(folder / "plain" / "final")
    monkeypatch.setattr(latents_module, "safe_open", None)  # would fail if a shard were read
    first, clips = watch.evaluate(model)
    assert watch.embedder.clips == 6 + 2 + 2  # training and validation clips, and what was made
    second, _ = watch.evaluate(model)
    assert watch.embedder.clips == 6 + 2 + 2 + 2 and second == first
    own = Levels().embed(clips, 8000)
    space = watch.space
    assert first[KERNEL] == space.kernel_distance(watch.real, own, paired=True, resamples=0)["mean"]
    whole = watch.crops.whole(0, np.random.default_rng(0))
    assert whole.shape == (4, 50) and watch.crops.read(0, np.random.default_rng(0))["latents"].shape == (4, 16)


def test_metrics_know_which_way_is_better():
    assert lower_is_better("validation/all") and lower_is_better(KERNEL)
    assert not lower_is_better("evaluation/tempo_4pct")


def test_unknown_metric_is_refused_before_training(runs, tmp_path):
    _, arguments = runs
    with pytest.raises(ValueError, match="best_metric is 'evaluation/tempo'; allowed: evaluation/beat_contrast"):
        train_unet.main([*arguments, "--output_dir", str(tmp_path / "x"), "--best_metric", "evaluation/tempo"])


def test_generators_stand_where_they_stood():
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with generators_kept():
        random.random(), np.random.rand(5), torch.rand(7)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_picture_shows_a_tone_where_it_is():
    rate = 16000
    tone = np.sin(2 * np.pi * 4000 * np.arange(2 * rate) / rate).astype(np.float32)
    image = picture(tone)
    assert image.min() >= 0.0 and image.max() == 1.0
    row = int(image[0].mean(dim=1).argmax())
    assert row == pytest.approx(image.shape[1] - 1 - 4000 / rate * 1024, abs=1)  # low notes below
