"""`vivace compose` and `vivace arrange`: words and melodies to MIDI files, what is shown and refused."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pipelines.composer_vivace import ComposerVivace
from pipelines.hub import load_native, load_pipeline, load_published, save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.vivace_score import Score, Track
from tests.conftest import make_pipeline
from tests.helpers.voice import RATE, beatbox, seconds, sing, tune

LEAD = [(0.0, 1.0, 72, 0.8), (1.5, 0.5, 74, 0.8), (4.25, 2.0, 76, 0.8)]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders of a checkpoint that composes and plays, of one that does neither, and of a composer alone."""
    folder = tmp_path_factory.mktemp("published")
    torch.manual_seed(0)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16, instruments=("flute", "piano")).eval()
    player = make_pipeline(instruments=("flute", "piano", "drums"))
    save_checkpoint(VivacePipeline.from_pipe(player, composer=composer), folder / "composer")
    save_checkpoint(make_pipeline(), folder / "plain")
    composer.save_pretrained(folder / "alone")
    return folder


@pytest.fixture
def call(checkpoints, tmp_path, run_vivace):
    """Run a command: call(*words) -> (exit code, stdout, stderr)."""
    Score((Track("lead", LEAD), Track("bass", [(0.0, 4.0, 40, 0.7)])), 120, bars=2).save(tmp_path / "tune.mid")

    def run(command, *words, checkpoint="composer"):
        return run_vivace(command, "--checkpoint", checkpoints / checkpoint, *words)

    return run


def test_a_composer_is_loaded_with_its_checkpoint(checkpoints):
    for load in (load_native, load_published):
        assert load(checkpoints / "composer").composer.config.width == 24
        assert load(checkpoints / "plain").composer is None


def test_words_become_a_midi_file(call, tmp_path):
    asked = ["--prompt", "solo piano, no drums", "--bars", 2, "--bpm", 120, "--key", "A minor", "--seed", 3]
    code, said, errors = call("compose", *asked, "--out", tmp_path / "a.mid", "--json")
    assert (code, errors) == (0, "")
    piece, score = json.loads(said), Score.load(tmp_path / "a.mid")
    assert piece["file"] == str(tmp_path / "a.mid") and piece["seed"] == 3 and piece["score"]["bars"] == 2
    assert (score.bars, score.bpm, score.key) == (2, 120, "A minor") and "drums" not in score.roles
    assert piece["score"]["notes"] == len(score.notes()) > 0
    code, said, _ = call("compose", *asked, "--out", tmp_path / "b.mid")
    assert "2 bars, 120 bpm, 4/4, A minor, seed 3: lead (piano)" in said
    assert (tmp_path / "a.mid").read_bytes() == (tmp_path / "b.mid").read_bytes()
    asked += ["--num_waveforms_per_prompt", 2, "--audio", "flac"]
    assert call("compose", *asked, "--out", tmp_path / "c.mid")[0] == 0
    assert Score.load(tmp_path / "c_1.mid") == score != Score.load(tmp_path / "c_2.mid")
    assert soundfile.info(tmp_path / "c_2.flac").frames == 4 * 8000


def test_a_batch_of_scores(call, tmp_path):
    lines = [
        {"prompt": "piano", "bars": 1, "seed": 1, "out": "one.mid", "audio": "wav"},
        {"prompt": "flute", "bars": 2},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ["--batch", tmp_path / "list.jsonl", "--out", tmp_path / "made", "--json"]
    code, said, _ = call("compose", *words)
    assert code == 0 and [json.loads(line)["score"]["bars"] for line in said.splitlines()] == [1, 2]
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"one.mid", "one.wav", "0002.mid"}
    (tmp_path / "made" / "one.wav").unlink()
    assert len(call("compose", *words, "--skip_existing")[1].splitlines()) == 1


def test_a_melody_is_arranged(call, tmp_path, checkpoints):
    words = [tmp_path / "tune.mid", "--style", "bossa", "--chords", "Am F", "--parts", "lead", "bass", "harmony"]
    assert call("arrange", *words, "--seed", 1)[0] == 0
    score = Score.load(tmp_path / "tune.arranged.mid")
    assert score.roles == ("lead", "harmony", "bass") and (score.bpm, score.bars, score.chords) == (120, 2, "Am F")
    np.testing.assert_allclose(score.notes("lead"), Score.load(tmp_path / "tune.mid").notes("lead"))
    assert {int(pitch) % 12 for pitch in score.notes("harmony")[:, 2]} <= {9, 0, 4, 5}
    words = [tmp_path / "tune.mid", "--style", "bossa", "--roles", "track 2=lead", "lead=harmony"]
    own = ["--composer", checkpoints / "alone"]
    assert call("arrange", *words, "--out", tmp_path / "low.mid", *own, checkpoint="plain")[0] == 0
    assert Score.load(tmp_path / "low.mid").notes("lead")[0, 2] == 40


@pytest.mark.parametrize(
    ("words", "checkpoint", "message"),
    [
        (["compose", "--prompt", "piano"], "plain", "compose needs a checkpoint with a composer"),
        (["compose", "--prompt", "piano", "--out", "a.wav"], "composer", "ends in .mid"),
        (["compose", "--prompt", "piano", "--parts", "kazoo"], "composer", "parts has 'kazoo'"),
        (["compose", "--prompt", "piano", "--form", "A" * 60, "--bars", "60"], "composer", "form has 60 sections"),
        (["compose", "--prompt", "piano", "--chords", "Xm"], "composer", "chords has 'Xm'"),
        (["compose"], "composer", "prompt and morph: give exactly one"),
        (["compose", "--prompt", "piano", "--composer", "nowhere"], "plain", "composer is 'nowhere'"),
        (["compose", "--prompt", "piano", "--roles", "Piano=lead"], "composer", "roles needs melody"),
        (["compose", "--prompt", "piano", "--melody", "none.mid"], "composer", "no such file"),
        (["arrange", "tune.mid", "--style", "bossa", "--roles", "track 9=lead"], "composer", "names track 9; it has 1"),
        (["arrange", "tune.mid", "--style", "bossa", "--roles", "2=kazoo"], "composer", "roles has '2=kazoo'"),
        (["arrange", "tune.mid", "--style", "bossa", "--out", "tune.mid"], "composer", "would write over melody"),
        (["arrange", "tune.mid"], "composer", "--style"),
        (["arrange", "tune.mid", "--style", "x", "--audio", "--composer", "y"], "plain", "audio needs a network"),
        (["generate", "--prompt", "x", "--roles", "1=lead"], "composer", "roles needs score or melody"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(call, tmp_path, monkeypatch, words, checkpoint, message):
    monkeypatch.chdir(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, said, errors = call(*words, checkpoint=checkpoint)
    assert code == 2 and said == "" and errors.count("\n") == 1 and message in errors
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_roles_of_a_score_that_is_played(call, tmp_path):
    words = ["--score", tmp_path / "tune.mid", "--prompt", "piano", "--roles", "lead=harmony", "--midi", "--seed", 1]
    assert call("generate", *words, "--out", tmp_path / "song.wav")[0] == 0
    assert Score.load(tmp_path / "song.mid").roles == ("harmony", "bass")


def test_the_scores_of_the_docs_are_printed(checkpoints, tmp_path):
    spec = importlib.util.spec_from_file_location("make_scores", Path(__file__).parents[3] / "docs" / "make_scores.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = ["--composer", str(checkpoints / "alone"), "--checkpoint", str(checkpoints / "plain")]
    module.main([*words, "--output_dir", str(tmp_path)])
    scores = [Score.load(path) for path in sorted((tmp_path / "composed").iterdir())]
    assert len(scores) == 16 and all(score.bars == 16 for score in scores)
    assert (tmp_path / "composed.png").read_bytes().startswith(b"\x89PNG")
    module.draw_chain(load_pipeline(checkpoints / "composer"), "calm piano, 120 bpm, 1 bar", tmp_path / "chain.webp")
    assert (tmp_path / "chain.webp").read_bytes()[8:12] == b"WEBP"


def test_a_hum_and_a_beatbox(call, tmp_path):
    _, bpm, notes = tune("ode to joy")
    soundfile.write(tmp_path / "hum.wav", sing(seconds(notes, bpm), 0)[0], RATE)
    hits = [(0.5 * k, ("kick", "hat", "snare", "hat")[k % 4]) for k in range(8)]
    soundfile.write(tmp_path / "tap.wav", beatbox(hits, 1)[0], RATE)
    asked = ["--style", "piano", "--seed", 1, "--rhythm", tmp_path / "tap.wav", "--json"]
    code, said, errors = call("arrange", tmp_path / "hum.wav", *asked)
    assert (code, errors) == (0, "")
    score = Score.load(tmp_path / "hum.arranged.mid")
    assert score.bpm == bpm and np.array_equal(score.notes("lead")[:, (0, 2)], notes[:, (0, 2)])
    assert score.notes("drums")[:, 2].tolist() == [36, 42, 38, 42] * 4
    assert "melody: its tempo is taken as 104 bpm" in json.loads(said)["score"]["remarks"][0]
    asked = ["--prompt", "funk, 120 bpm", "--bars", 3, "--rhythm", tmp_path / "tap.wav", "--seed", 1, "--midi"]
    code, said, errors = call("generate", *asked, "--num_inference_steps", 1, "--out", tmp_path / "a.wav")
    assert (code, errors) == (0, "") and len(Score.load(tmp_path / "a.mid").notes("drums")) == 12
    for more, words in (
        (["--rhythm", tmp_path / "none.wav"], "rhythm is"), (["--sketch_timing", "grid"], "sketch_timing is 'grid'"),
        (["--melody", tmp_path / "a.wav"], "out would write over melody"),
    ):  # fmt: skip
        code, _, errors = call("generate", "--prompt", "funk", *more, "--out", tmp_path / "a.wav")
        assert code == 2 and words in errors and errors.count("\n") == 1
