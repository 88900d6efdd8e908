"""The tasks of `training.evaluate --tasks`: ranks at known seams, and all of them on a tiny pipeline."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from tests.helpers.synthetic_clips import RATE, clicks, row, tones
from tests.training.test_evaluate import run
from training.data.clips import read_rows
from training.metrics.signal import detuning_cents, flux_ranks, step_ranks
from training.tasks import long
from training.tasks.common import Bench, progression, request_of
from training.tasks.run import TASKS, choose_tasks
from training.tasks.sounds import sounds


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=int(seconds * RATE)) * 0.1


def tone(samples: int, hertz: float) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)


def test_a_place_like_any_other_ranks_like_any_other():
    ranks = [flux_ranks(noise(2.0, seed), [0], RATE, circle=True)[0] for seed in range(30)]
    steps = [step_ranks(noise(0.5, seed), [0], circle=True)[0] for seed in range(200)]
    for found in (ranks, steps):
        assert 0.3 < np.mean(found) < 0.7 and np.std(found) > 0.2


def test_a_seam_ranks_first():
    quiet, loud = noise(2.0), noise(2.0, 1) * 0.01
    assert flux_ranks(np.concatenate([loud, quiet]), [2 * RATE], RATE) == [1.0]
    hum = tone(RATE, 200.3)  # not a whole number of turns
    assert step_ranks(hum, [0], circle=True)[0] > 0.999 and step_ranks(tone(RATE, 200.0), [0], circle=True)[0] <= 1.0
    jumped = np.concatenate([hum[:9000], -hum[9000:]])
    assert step_ranks(jumped, [9000])[0] > 0.999
    # Only rises count, and places that are looked at are not compared with themselves.
    assert flux_ranks(np.concatenate([quiet, loud]), [2 * RATE], RATE)[0] < 1.0
    twice = np.concatenate([loud, quiet, loud, quiet])
    assert flux_ranks(twice, [2 * RATE, 6 * RATE], RATE) == [1.0, 1.0]


@pytest.mark.parametrize("cents", [-25, -4, 0, 7, 33])
def test_detuning(cents):
    chord = sum(tone(2 * RATE, hertz) for hertz in (220.0, 277.5, 330.0, 660.0))
    moved = sum(tone(2 * RATE, hertz * 2 ** (cents / 1200)) for hertz in (220.0, 277.5, 330.0, 660.0))
    assert detuning_cents(moved, chord, RATE) == pytest.approx(cents, abs=2)


def test_requests_of_parts():
    clip = row(120.0)
    assert progression(clip, 6) == "C:4 F:2" and progression(clip, 100) == "C:4 F:4 G:4 C:4"
    assert progression(clip | {"chord_symbols": None}, 6) is None
    part = request_of(clip, progression(clip, 8), 8, first_beat=6)
    assert part.downbeats_s.tolist() == [1.0, 3.0] and part.beats_s[:3].tolist() == [0.0, 0.5, 1.0]
    fa, do = ([int(pc in notes) for pc in range(12)] for notes in ((5, 9, 0), (0, 4, 7)))
    assert part.chroma.tolist() == [fa] * 2 + [do] * 4 + [fa] * 2  # beats 6 and 7, then from the beginning again


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Three labelled clips, one of which is a loop."""
    root = tmp_path_factory.mktemp("data")
    (root / "test").mkdir()
    lines = []
    for index, bpm in enumerate((96.0, 120.0, 150.0)):
        audio = tones(["C", "F", "G", "C"], 60.0 / bpm) + clicks(bpm)
        soundfile.write(root / "test" / f"{index}.flac", audio, RATE)
        labels = {"file_name": f"{index}.flac", "sampling_rate": RATE, "loop": index == 1, "text": ["slow piano"]}
        lines.append(json.dumps(row(bpm, **labels)) + "\n")
    (root / "test" / "metadata.jsonl").write_text("".join(lines))
    return root


class Copyist:
    """Returns what it is to sound like, or else a click track."""

    def __init__(self):
        self.unet = SimpleNamespace(config={"reference_channels": 8})
        self.vae = SimpleNamespace(config=SimpleNamespace(sampling_rate=RATE))

    def sound_of(self, audio, sampling_rate):
        return np.asarray(audio)

    def __call__(self, prompt, sounds_like=None, **_):
        return SimpleNamespace(audios=[clicks(120.0)[None] for _ in prompt] if sounds_like is None else sounds_like)


def test_distance_from_a_reference_sound(data_dir):
    rows = read_rows(str(data_dir), "test")
    bench = Bench(Copyist(), rows, [], ["piano"] * 3, None, None, 0, "")
    distance, nearer = sounds(bench, 3)
    assert distance.value == pytest.approx(0.0, abs=1e-6) and nearer.value == 1.0 and nearer.met
    assert distance.beside["without"] > 1.0 and distance.beside["another reference"] > 0.0
    assert sounds(replace(bench, rows=rows[:2]), 3)[0].value is None


@pytest.mark.slow
def test_every_task_gives_figures(tiny_checkpoint, data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(long, "MINUTES", 0.2)
    output = tmp_path / "new" / "tasks.json"
    absent = [word for name in ("tagger", "beat_tracker", "key") for word in (f"--{name}", tmp_path / "no")]
    words = ["--checkpoint", tiny_checkpoint, "--data_dir", data_dir, "--output", output, *absent]
    code = run(*words, "--tasks", "all", "--quick", 2)
    result, printed = json.loads(output.read_text()), capsys.readouterr().out
    assert list(result["tasks"]) == list(TASKS) and all(done["figures"] for done in result["tasks"].values())
    figures = {f["name"]: f for done in result["tasks"].values() for f in done["figures"]}
    for promised in (
        "bars x tempo x meter, plain and loop: exact to the sample, share",
        "strength 0 is the input bit for bit, share",
        "inpainting: samples changed outside the masks",
        "extension: the input comes back bit for bit, share",
        "stream is the batch bit for bit",
        "seed: 20 s begin with the noise of 10 s",
        "seed: `seeds` of a batch are returned",
        "replay of WAV, FLAC and an edit: differences",
        "level: samples at full scale",
        "guidance off: rows of the network a step",
    ):  # hold for any weights
        assert figures[promised]["met"], figures[promised]
        assert f"| {promised} |" in printed
    assert figures["plain: tempo within 4 %"]["value"] is None  # nobody listened
    missed = [name for name, figure in figures.items() if figure["met"] is False]
    assert code == bool(missed) and f"not met: {'; '.join(missed) or 'nothing'}" in printed


def test_a_task_of_choice(tiny_checkpoint, data_dir, tmp_path, capsys):
    words = ["--checkpoint", tiny_checkpoint, "--data_dir", data_dir, "--output", tmp_path / "t.json", "--tagger", "no"]
    words += ["--beat_tracker", "no", "--key", "no"]
    assert run(*words, "--tasks", "texts,tempo", "--quick", 1) in (0, 1)
    tasks = json.loads((tmp_path / "t.json").read_text())["tasks"]
    assert list(tasks) == ["texts", "tempo"] and tasks["texts"]["figures"][0]["value"] is None
    assert tasks["tempo"]["figures"][0]["count"] == 1 and "| tempo | tempo of the input" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--tasks", "loops,lops"], "tasks has 'lops'; allowed: all, or some of lengths, control, loops"),
        (["--tasks", "all", "--quick", "0"], "quick is 0; allowed: with tasks, at least 1"),
        (["--quick", "3"], "quick is 3; allowed: with tasks"),
        (["--tasks", "all", "--audio_dir", "x"], "tasks is 'all' with audio_dir"),
    ],
)
def test_bad_input(tiny_checkpoint, words, error, capsys):
    assert run("--checkpoint", tiny_checkpoint, *words) == 2
    assert error in capsys.readouterr().err
    assert choose_tasks("loops, tempo") == ["loops", "tempo"]
