"""The `vivace` command line as users meet it: what it writes, what it says, and how it refuses."""

import functools
import importlib.metadata
import inspect
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from page import model
from pipelines import hub
from pipelines.commands import doctor, make
from pipelines.commands.jobs import OWN
from pipelines.commands.main import main as vivace
from pipelines.commands.main import make_parser
from pipelines.pipeline_vivace import VivacePipeline, read_recipe

# Of the pipeline, but objects that no command line can hold, or what a command decides itself.
BEYOND = {
    "self", "generator", "latents", "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds",
    "negative_prompt_attention_mask", "sampling_rate", "output_type", "return_dict", "callback_on_step_end",
    "callback_on_audio",
    "callback_on_step_end_tensor_inputs",
}  # fmt: skip
HEAVY = ("torch", "numpy", "diffusers", "transformers", "huggingface_hub", "soundfile", "tqdm")


@pytest.fixture
def call(tiny_checkpoint, tmp_path, run_vivace):
    """Run the command in this process: call(*arguments) -> (exit code, stdout, stderr)."""
    given = ["generate", "--checkpoint", tiny_checkpoint, "--out", tmp_path / "out.wav", "--prompt", "slow piano"]
    return functools.partial(run_vivace, *given)


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
        (["--out", "nowhere/at/all.wav"], "out is 'nowhere/at/all.wav'"), (["--out", "song.aac"], "ends in .wav"),
        (["--checkpoint", "tests/no-such"], "checkpoint tests/no-such: no such folder"),
        (["--device", "tpu"], "device is 'tpu'"),
        (["--tempo", "90"], "there is no argument --tempo"), (["--morph", "a", "b"], "give exactly one"),
        (["--at", "soon", "drums"], "at is 'soon'"), (["--device", "cuda:7"], "device is 'cuda:7'"),
        (["--skip_existing"], "skip_existing needs batch"),
        (["--num_waveforms_per_prompt", "0"], "whole numbers from 1"),
        (["--out", "m" * 300 + ".wav"], "which cannot be written (File name too long)"),
        (["--out", "m" * 250 + ".wav", "--num_waveforms_per_prompt", "2"], "File name too long"),
        (["--out", "a\0b.wav"], "null byte"), (["--revision", "v1"], "revision is 'v1'"),
        (["--dtype", "int8"], "--dtype"),
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
    assert code == 1 and said == "" and "No space left on device" in errors and errors.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    assert (tmp_path / "out.wav").read_text() == "precious"


def test_as_a_program(tiny_checkpoint, tmp_path):
    """Truncated weights, in a process of its own: exit code 2, one line, no traceback, no file."""
    broken = tmp_path / "broken"
    shutil.copytree(tiny_checkpoint, broken)
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    command = [
        sys.executable,
        "-m",
        "pipelines.commands.main",
        "generate",
        "--prompt",
        "piano",
        "--checkpoint",
        str(broken),
    ]
    command += ["--out", str(tmp_path / "out.wav")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "diffusion_pytorch_model.safetensors is truncated" in done.stderr
    assert not (tmp_path / "out.wav").exists()


def test_arguments_have_the_names_of_the_pipeline():
    _, commands = make_parser()
    named = {name: {action.dest for action in commands[name]._actions} - {"help", *OWN} for name in commands}
    of_pipeline = set(inspect.signature(VivacePipeline.__call__).parameters)
    roles = {"roles"}  # with which the command reads the file of `score` or `melody`
    assert named["generate"] | named["edit"] == (of_pipeline - BEYOND) | roles
    assert {"audio", "strength", "mask_s", "extend_s"} == named["edit"] - named["generate"]


def test_help_is_light_and_tells_units_and_examples(capsys):
    for command in ("generate", "edit", "replay", "midi", "info", "app", "serve", "doctor"):
        with pytest.raises(SystemExit) as stopped:
            vivace([command, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        assert f"  vivace {command} " in text and "examples:" in text, command
        if command == "generate":
            assert "seconds" in text and "beats a minute" in text and "LUFS" in text
    heavy = f"loaded = [name for name in {HEAVY} if name in sys.modules]; assert loaded == [], loaded"
    code = f"import sys, pipelines.commands.main as main\nmain.make_parser()[0].format_help()\n{heavy}"
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0, done.stderr
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 0.5, f"{spent} s of processor time"


def test_a_wrong_argument_is_refused_before_torch_is_imported(tiny_checkpoint, tmp_path):
    words = [
        "generate",
        "slow piano",
        "--key",
        "H",
        "--checkpoint",
        str(tiny_checkpoint),
        "--out",
        str(tmp_path / "a.wav"),
    ]
    code = "import sys, pipelines.commands.main as main\n"
    code += f"try: main.main({words!r})\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "False\n" and done.stderr.startswith("error: key is 'H'")


@pytest.mark.parametrize(
    "words, told",
    [
        (["genrate", "piano"], "there is no command genrate; did you mean generate?"),
        (["generate", "piano", "--promt", "x"], "there is no argument --promt; did you mean --prompt?"),
        (["generate", "--time-signatur=3/4"], "there is no argument --time_signatur; did you mean --time_signature?"),
        (["zzz"], "there is no command zzz; see vivace --help"),
        (["generate", "piano", "--prompt", "flute"], "prompt is given twice: 'piano' and 'flute'"),
        (["generate", "piano", "--out", "-", "--num-waveforms-per-prompt", "2"], "out is '-', which takes one piece"),
    ],
)
def test_names_that_there_are_not(words, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        vivace(words)
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith(f"error: {told}")


def test_the_prompt_stands_alone_or_comes_by_a_pipe_and_the_audio_goes_on(tiny_checkpoint, tmp_path):
    """As a person types it: dashes in names, the prompt without its name, the file to another program."""
    given = ["--checkpoint", str(tiny_checkpoint), "--seed", "7", "--no-loop", "--time-signature", "3/4", "--bpm=90"]
    assert vivace(["generate", "slow piano", *given, "--bars", "1", "--out", str(tmp_path / "a.wav")]) == 0
    command = [sys.executable, "-m", "pipelines.commands.main", "generate", "-", *given, "--bars", "1", "--out", "-"]
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, input=b"slow piano\n", capture_output=True, env=surroundings)
    assert done.returncode == 0 and b"understood  90 bpm, 3/4, 1 bars" in done.stderr
    assert done.stdout == (tmp_path / "a.wav").read_bytes()


@pytest.mark.parametrize("kind", ["mp3", "ogg"])
def test_compressed_files_carry_the_recipe_and_nearly_the_sound(call, tmp_path, kind, tiny_checkpoint, capsys):
    same = ("--seed", "7", "--bars", "2", "--bpm", "100")
    assert call(*same)[0] == 0 and call(*same, "--out", str(tmp_path / f"out.{kind}"))[0] == 0
    wav, lossy = (soundfile.read(tmp_path / f"out.{end}")[0] for end in ("wav", kind))
    assert np.corrcoef(wav, lossy[: len(wav)])[0, 1] > 0.9
    assert read_recipe(tmp_path / f"out.{kind}")["arguments"]["seed"] == 7
    assert vivace(["replay", str(tmp_path / f"out.{kind}"), "--checkpoint", str(tiny_checkpoint)]) == 1
    assert "hold no exact samples" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        vivace(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == importlib.metadata.version("vivace-music")


def test_several_pieces_of_one_prompt(call, tmp_path):
    code, said, _ = call("--seed", "7", "--num_waveforms_per_prompt", "2", "--json")
    pieces = [json.loads(line) for line in said.splitlines()]
    assert code == 0 and [piece["seed"] for piece in pieces] == [7, 8]
    assert [piece["file"] for piece in pieces] == [str(tmp_path / f"out_{i}.wav") for i in (1, 2)]
    assert all(soundfile.info(piece["file"]).duration == piece["duration_s"] == 2.0 for piece in pieces)
    assert pieces[0]["understood"]["bpm"] is None and pieces[0]["device"] == "cpu"


@pytest.fixture
def batch(tiny_checkpoint, tmp_path, run_vivace):
    """Run a batch of these rows: batch(command, rows, *arguments) -> (exit code, stdout, stderr)."""

    def run(command, rows, *arguments):
        file = tmp_path / "requests.jsonl"
        text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
        file.write_bytes(text.encode())
        place = ["--checkpoint", tiny_checkpoint, "--out", tmp_path / "many"]
        return run_vivace(command, "--batch", file, *place, *arguments)

    return run


def test_a_batch_is_its_lines_one_by_one(batch, call, tmp_path):
    rows = [
        {"bars": 1, "bpm": 120, "out": "first.flac"},
        "\n",
        {"prompt": [[0, "slow piano"], ["bar 2", "drums"]], "bars": 2, "bpm": 120, "seed": 3, "num_inference_steps": 2},
    ]
    code, said, errors = batch("generate", rows, "--prompt", "slow piano", "--seed", "7", "--json")
    assert code == 0 and errors == ""
    pieces = [json.loads(line) for line in said.splitlines()]
    assert [piece["file"] for piece in pieces] == [str(tmp_path / "many" / n) for n in ("first.flac", "0003.wav")]
    assert [piece["seed"] for piece in pieces] == [7, 3]
    call("--prompt", "slow piano", "--bars", "1", "--bpm", "120", "--seed", "7", "--out", str(tmp_path / "alone.flac"))
    assert (tmp_path / "alone.flac").read_bytes() == (tmp_path / "many" / "first.flac").read_bytes()
    stamp = (tmp_path / "many" / "first.flac").stat().st_mtime_ns
    (tmp_path / "many" / "0003.wav").unlink()
    code, said, _ = batch("generate", rows, "--prompt", "slow piano", "--seed", "7", "--skip_existing")
    assert code == 0 and said.startswith("0003.wav  4.000 s  seed 3  120 bpm") and said.count("\n") == 1
    assert (tmp_path / "many" / "first.flac").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "tempo": 9}, "there is no argument 'tempo'"), ({"prompt": "a", "barz": 9}, "mean 'bars'"),
        ({"prompt": "a", "bars": "four"}, "bars is 'four'"), ({"prompt": "a", "bpm": 9}, "bpm is 9"),
        ({"bars": 4}, "prompt and morph"), ({"prompt": ["a", "b"]}, "prompt is ['a', 'b']"), ("[]\n", "no object"),
        ("{\n", "no JSON"), ({"prompt": "a", "out": "../a.wav"}, "without a folder"), ({"prompt": 4}, "prompt is 4"),
        ({"prompt": "a", "out": "ok.wav"}, "as in line 1"), ({"prompt": "a", "key": 4}, "key is 4; allowed: text"),
        ({"prompt": "a", "checkpoint": "x"}, "there is no argument 'checkpoint'"),
        ({"prompt": "a", "out": "m" * 300 + ".wav"}, "File name too long"),
    ],
    ids=str,
)  # fmt: skip
def test_a_batch_with_a_bad_line_makes_nothing(batch, tmp_path, row, words):
    code, said, errors = batch("generate", [{"prompt": "fine", "out": "ok.wav"}, row])
    assert code == 2 and said == "" and errors.count("\n") == 1
    assert errors.startswith("error: requests.jsonl, line 2: ") and words in errors
    assert [path.name for path in tmp_path.iterdir()] == ["requests.jsonl"]


def test_a_line_that_fails_does_not_stop_the_others(batch, tmp_path):
    soundfile.write(tmp_path / "given.wav", 0.1 * np.sin(np.arange(16000) * 0.1), 8000)
    given = {"audio": str(tmp_path / "given.wav"), "prompt": "drums", "seed": 1}
    rows = [given | {"mask_s": [[1, 9]]}, given | {"mask_s": [[1, 1.5]]}]
    code, said, errors = batch("edit", rows, "--json")
    assert code == 1 and "requests.jsonl, line 1: mask_s has the region (1, 9)" in errors.replace("[1, 9]", "(1, 9)")
    (piece,) = (json.loads(line) for line in said.splitlines())
    before, after = (soundfile.read(name, dtype="int16")[0] for name in (given["audio"], piece["file"]))
    np.testing.assert_array_equal(before[:8000], after[:8000])
    assert (before[8000:12000] != after[8000:12000]).any()


def test_half_a_character_stops_only_its_own_line(batch, call, tmp_path):
    rows = [{"prompt": "a", "bars": 1}, '{"prompt": "flute \\ud83c", "bars": 1}\n', {"prompt": "b", "bars": 1}]
    rows.append('{"prompt": "c", "negative_prompt": "\\udfff", "bars": 1}\n')
    code, said, errors = batch("generate", rows, "--json")
    assert code == 1 and [json.loads(line)["file"][-8:] for line in said.splitlines()] == ["0001.wav", "0003.wav"]
    second, fourth = errors.splitlines()
    assert second.startswith("error: requests.jsonl, line 2: prompt is 'flute \\ud83c', whose") and "half" in second
    assert fourth.startswith("error: requests.jsonl, line 4: negative_prompt is '\\udfff', whose")
    code, said, errors = call("--prompt", "piano \udce9")
    assert code == 2 and errors.startswith("error: prompt is 'piano \\udce9', whose") and errors.count("\n") == 1


def test_a_batch_with_a_mark_line_separators_and_an_unforeseen_error(batch, tmp_path, monkeypatch):
    text = "slow\u2028piano\x85solo"
    rows = [
        "\ufeff" + json.dumps({"prompt": text, "seed": 1}, ensure_ascii=False) + "\r\n",
        {"prompt": "two", "seed": 2},
    ]
    real = make.write

    def fail_once(out, index, path, *more):
        if path.name == "0002.wav":
            raise TypeError("unforeseen")
        return real(out, index, path, *more)

    monkeypatch.setattr(make, "write", fail_once)
    code, said, errors = batch("generate", [*rows, {"prompt": "three", "seed": 3}])
    assert code == 1 and [line[:8] for line in said.splitlines()] == ["0001.wav", "0003.wav"]
    assert errors == "error: requests.jsonl, line 2: TypeError('unforeseen')\n"
    assert read_recipe(tmp_path / "many" / "0001.wav")["arguments"]["prompt"] == text


def test_a_batch_whose_folder_cannot_be_made_is_refused_first(batch, tmp_path):
    (tmp_path / "file").write_text("")
    code, said, errors = batch("generate", [{"prompt": "a"}], "--out", str(tmp_path / "file" / "many"))
    assert code == 2 and said == "" and "is no folder that can be written to" in errors


def test_a_name_that_is_no_text_is_written_and_told(call, tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    code, said, errors = call("--seed", "1", "--out", str(tmp_path / name))
    assert code == 0 and errors == "" and (tmp_path / name).is_file() and "caf" in said


def test_edits_need_audio_and_a_task(capsys, tiny_checkpoint, tmp_path):
    soundfile.write(tmp_path / "given.wav", np.zeros(8000), 8000)
    place = ["edit", "--checkpoint", str(tiny_checkpoint), "--prompt", "drums", "--out", str(tmp_path / "out.wav")]
    for arguments, words in (
        ([], "audio is missing"), (["--audio", "no.wav"], "no such file"), (["--mask_s", "4"], "give start:end"),
        (["--audio", str(tmp_path / "given.wav")], "strength, mask_s, extend_s: give one"),
    ):  # fmt: skip
        extra = ["--strength", "0.5"] if arguments == ["--audio", "no.wav"] else []
        with pytest.raises(SystemExit) as stopped:
            vivace([*place, *arguments, *extra])
        errors = capsys.readouterr().err
        assert stopped.value.code == 2 and words in errors and errors.count("\n") == 1


def test_replay_says_what_differs(call, tiny_checkpoint, tmp_path, capsys):
    call("--seed", "7")
    audio, rate = soundfile.read(tmp_path / "out.wav")
    place = ["--checkpoint", str(tiny_checkpoint)]
    assert vivace(["replay", str(tmp_path / "out.wav"), *place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "replayed": str(tmp_path / "out.wav"), "equal": True, "differences": []
    }  # fmt: skip
    with soundfile.SoundFile(tmp_path / "out.wav") as file:
        comment = file.comment
    with soundfile.SoundFile(tmp_path / "louder.wav", "w", rate, 1, "PCM_16") as file:
        file.comment = comment
        file.write(np.clip(1.5 * audio, -1, 1))
    assert vivace(["replay", str(tmp_path / "louder.wav"), *place]) == 1
    assert "samples differ by up to" in capsys.readouterr().out
    soundfile.write(tmp_path / "foreign.wav", audio, rate)
    with pytest.raises(SystemExit) as stopped:
        vivace(["replay", str(tmp_path / "foreign.wav"), *place])
    assert stopped.value.code == 2 and "has no recipe" in capsys.readouterr().err


def test_info_of_a_checkpoint_and_of_audio(call, tiny_checkpoint, tmp_path, capsys):
    call("--seed", "7")
    assert vivace(["info", str(tmp_path / "out.wav"), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["recipe"]["arguments"]["seed"] == 7 and about["format"] == "WAV PCM_16" and about["duration_s"] == 2.0
    assert vivace(["info", str(tiny_checkpoint), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert about["licence"] == "apache-2.0" and about["sampling_rate"] == 8000 and about["channels"] == 1
    assert about["parts"]["vae"]["stored_as"] == "F16" and about["parts"]["unet"]["class"] == "UNet1DConditionModel"
    assert about["parameters"] == sum(part["parameters"] for part in about["parts"].values()) > 1000
    with pytest.raises(SystemExit) as stopped:
        vivace(["info", "nowhere.wav"])
    assert stopped.value.code == 2 and "no such file" in capsys.readouterr().err


def test_the_default_is_never_looked_up_on_the_hub(tmp_path, monkeypatch, capsys):
    """Whoever takes its name there must not be run: not even with --trust."""

    def asked(*args, **kwargs):
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", asked)
    for module in (hub, model):
        monkeypatch.setattr(module, "ROOT", tmp_path)  # as for an installed package
    monkeypatch.chdir(tmp_path)
    place = ["generate", "--prompt", "piano"]
    for more, words in (
        ([], "checkpoint checkpoints/small: no such folder, neither here nor in the source"),
        (["--trust"], "checkpoint checkpoints/small: no such folder, neither"),
        (["--trust", "--checkpoint", "checkpoints/small"], "checkpoint checkpoints/small: no such folder"),
        (["--trust", "--checkpoint", "checkpoints/mine"], "checkpoint checkpoints/mine: no such folder"),
        (["--checkpoint", "user/name"], "checkpoint user/name: no such folder; user/name on the Hub is Python code"),
    ):
        with pytest.raises(SystemExit) as stopped:
            vivace([*place, *more])
        errors = capsys.readouterr().err
        assert stopped.value.code == 2 and words in errors and errors.count("\n") == 1
    with pytest.raises(ValueError, match=r"checkpoints/small: no such folder"):
        model.load_model("checkpoints/small")
    assert vivace(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("lacking: checkpoint\n")
    (tmp_path / "checkpoints" / "small").mkdir(parents=True)
    (tmp_path / "checkpoints" / "small" / "model_index.json").write_text("{}")
    assert vivace(["doctor"]) == 0


def test_doctor_advises_what_can_be_done_without_the_source(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "SOURCE", False)
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda name: ["torch>=2.6", 'no-such-library>=3; extra == "train"']
    )
    vivace(["doctor"])
    said = capsys.readouterr().out
    assert 'extra train    lacks no-such-library   -> pip install "no-such-library>=3"' in said
    assert "-e" not in said.split("extra train")[1].splitlines()[0]


@pytest.mark.parametrize(
    ("package", "itself", "fits"),
    [
        ("2.14.1", "2.14.1+cu130", True), ("2.13.0+cpu", "2.13.0+cpu", True), ("2.14.0.dev20261101+cu130", None, True),
        ("2.6", "2.6.0a0+git1234", True), ("2.5.1+cu121", "2.5.1+cu121", False), ("2.5.1", "2.5.1+rocm6", False),
    ],
)  # fmt: skip
def test_doctor_takes_any_build_of_torch(capsys, monkeypatch, package, itself, fits):
    """The registry's metadata leaves out the build (+cu130) that the library itself names."""
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: package if name == "torch" else real(name))
    monkeypatch.setattr(torch, "__version__", itself or package)
    code = vivace(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    rows = {one["name"]: one for one in told["rows"]}
    assert rows["torch"]["value"] == f"{package} (needs >=2.6)"
    assert f"torch {itself or package}," in rows["device cpu"]["value"]
    assert (code, told["lacking"]) == ((0, []) if fits else (1, ["torch"]))


def test_doctor_tells_what_is_missing(capsys, monkeypatch):
    code = vivace(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    rows = {one["name"]: one for one in told["rows"]}
    assert code == 0 and told["lacking"] == []
    assert rows["torch"]["value"].startswith(importlib.metadata.version("torch"))
    assert torch.__version__ in rows["device cpu"]["value"] and "thread" in rows["device cpu"]["value"]
    monkeypatch.setitem(sys.modules, "soundfile", None)
    assert vivace(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "pip install soundfile" in said and said.endswith("lacking: audio files\n")


def test_what_was_not_understood_is_printed(call, tmp_path):
    code, printed, _ = call(
        "--prompt", "house at 124, in F#m, 1 bar loop", "--seed", "1", "--out", str(tmp_path / "a.wav")
    )  # fmt: skip
    assert code == 0 and "F# minor, 4/4, 1 bars, loop\n" in printed
    assert (
        "the prompt's tempo was not understood" in printed and "\nnote        tempo: 'at 124' may be a tempo" in printed
    )
