"""The command line as users meet it: what it writes, what it says, and how it refuses."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from pipelines import generate


@pytest.fixture
def call(tiny_checkpoint, tmp_path, capsys):
    """Run the command in this process: call(*arguments) -> (exit code, stdout, stderr)."""

    def run(*arguments):
        code = 0
        given = ["--checkpoint", str(tiny_checkpoint), "--out", str(tmp_path / "out.wav"), "--prompt", "slow piano"]
        try:
            generate.main([*given, *arguments])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


def test_it_writes_what_it_says(call, tmp_path):
    code, said, errors = call("--prompt", "slow solo piano in A minor, 72 bpm, 4 bars", "--seed", "7")
    assert code == 0 and errors == ""
    audio, rate = soundfile.read(tmp_path / "out.wav")
    assert rate == 8000 and len(audio) == round(4 * 4 * 60 / 72 * 8000) and np.abs(audio).max() > 0
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert lines["file"] == str(tmp_path / "out.wav") and lines["seed"] == "7"
    assert lines["length"] == "13.333 s, 8000 Hz, 1 channel(s)"
    assert lines["understood"] == "72 bpm, A minor, 4/4, 4 bars"
    assert lines["speed"].endswith("x real time")


def test_the_same_seed_gives_the_same_bytes(call, tmp_path):
    for name in ("a.wav", "b.wav", "a.flac", "b.flac"):
        assert call("--seed", "7", "--out", str(tmp_path / name))[0] == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes()
    np.testing.assert_array_equal(soundfile.read(tmp_path / "a.wav")[0], soundfile.read(tmp_path / "a.flac")[0])
    said = dict(line.split(maxsplit=1) for line in call()[1].splitlines())
    first = (tmp_path / "out.wav").read_bytes()
    assert call("--seed", said["seed"])[0] == 0 and (tmp_path / "out.wav").read_bytes() == first


def test_every_argument_arrives(call):
    code, said, _ = call(
        "--negative_prompt", "loud", "--bars", "2", "--bpm", "120", "--time_signature", "3/4", "--key", "bb major",
        "--chords", "Bb F:3", "--num_inference_steps", "2", "--guidance_scale", "1.5", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    assert "understood  120 bpm, Bb major, 3/4, 2 bars, chords Bb F:3" in said and "length      3.000 s" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", " "], "prompt is empty"), (["--duration_s", "0"], "duration_s is 0; allowed: numbers from 0.5"),
        (["--duration_s", "-3"], "duration_s is -3"), (["--duration_s", "1e9"], "duration_s is 1000000000"),
        (["--duration_s", "nan"], "duration_s: nan is not a finite number"),
        (["--bars", "4", "--duration_s", "99"], "bpm is 9.69"),
        (["--bpm", "0"], "bpm is 0; allowed: numbers from 20 to 300"),
        (["--bpm", "900"], "bpm is 900"), (["--key", "H minor"], "key is 'H minor'"),
        (["--bpm", "90", "--chords", "Am Qx"], "chords has 'Qx'"), (["--time_signature", "waltz"], "time_signature is"),
        (["--num_inference_steps", "0"], "num_inference_steps is 0"), (["--guidance_scale", "nan"], "guidance_scale"),
        (["--guidance_scale", "inf"], "guidance_scale"), (["--seed", "-1"], "seed is -1"), (["--seed", "x"], "--seed"),
        (["--out", "nowhere/at/all.wav"], "out is 'nowhere/at/all.wav'"), (["--out", "song.mp3"], "ends in .wav"),
        (["--checkpoint", "no/such"], "checkpoint no/such: no such folder"), (["--device", "tpu"], "device is 'tpu'"),
        (["--tempo", "90"], "unrecognized arguments"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_refusals_are_one_line(call, tmp_path, arguments, words):
    code, said, errors = call(*arguments)
    assert code == 2 and said == ""
    assert errors.startswith("error: ") and errors.count("\n") == 1 and words in errors
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_leaves_nothing(call, tmp_path, monkeypatch):
    (tmp_path / "out.wav").write_text("precious")

    def full_disk(file, samples):
        raise OSError("No space left on device")

    monkeypatch.setattr(soundfile.SoundFile, "write", full_disk)
    code, said, errors = call()
    assert code == 2 and said == "" and "No space left on device" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    assert (tmp_path / "out.wav").read_text() == "precious"


def test_as_a_program(tiny_checkpoint, tmp_path):
    """Truncated weights, in a process of its own: exit code 2, one line, no traceback, no file."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint, broken)
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    command = [sys.executable, "-m", "pipelines.generate", "--prompt", "piano", "--checkpoint", str(broken)]
    command += ["--out", str(tmp_path / "out.wav")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "diffusion_pytorch_model.safetensors is truncated" in done.stderr
    assert not (tmp_path / "out.wav").exists()
