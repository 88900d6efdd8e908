"""From a folder of audio to a LoRA adapter in one command."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file

from pipelines.commands import finetune as command
from pipelines.commands.main import main as vivace
from pipelines.hub import load_published, save_checkpoint
from tests.conftest import make_pipeline
from tests.helpers.runs import same
from tests.helpers.synthetic_clips import RATE, clicks, tones
from training import finetune, gain
from training.run import loop


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "tiny"
    save_checkpoint(make_pipeline(), folder, fp16=False)
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """Four files, one with a caption."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(4):
        audio = 0.5 * clicks(100.0 + 10.0 * number) + tones(["C", "F", "G", "Am"], 0.5, number)
        soundfile.write(folder / f"0{number}.wav", audio, RATE)
    (folder / "00.txt").write_text("slow piano")
    return folder


def words(music, base, out, *more: str) -> list[str]:
    return ["--music", str(music), "--output_dir", str(out), "--checkpoint", str(base), "--max_steps", "10",
            "--batch_size", "2", "--crop_frames", "32", "--lora_rank", "2", "--learning_rate", "1e-2", "--no_labels",
            "--pieces", "2", *more]  # fmt: skip


def test_a_folder_becomes_an_adapter_and_a_stopped_run_goes_on(music, base, tmp_path, capsys):
    out = tmp_path / "mine"
    cost = finetune.main(words(music, base, out, "--dry_run"))
    said = capsys.readouterr().out
    assert cost["steps_in_time"] == 10 and "will take    about" in said and "held out" in said
    assert not out.exists() and not (tmp_path / "mine.work" / "run").exists()
    best = finetune.main(words(music, base, out))
    said = capsys.readouterr().out
    assert 1 <= best["step"] <= 10 and best["loss"] < best["base_loss"]
    assert (
        f"loss {best['base_loss']:.4f} without the adapter, {best['loss']:.4f} with it at step {best['step']}" in said
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "figures.json", "pytorch_lora_weights.safetensors"
    ]  # fmt: skip
    card, figures = (out / "README.md").read_text(), json.loads((out / "figures.json").read_text())
    assert "- Music: 3 files" in card and str(tmp_path) not in card
    assert gain.table(figures) in card and gain.table(figures) in said
    assert all(
        f"{name:<13}{line}" in said for name, line in zip(("gained", "lost"), gain.verdict(figures), strict=True)
    )
    assert figures["held_out_loss"] == {"before": best["base_loss"], "after": best["loss"]}
    assert [one["prompt"] for one in figures["requests"]] == ["music"] * 2  # the captioned file is trained on
    for name in ("log_mel_db", "tagger"):
        assert figures["distance"][name]["before"] != figures["distance"][name]["after"]
    for name in ("tempo_4pct", "beat_f", "key_mirex"):
        assert figures["control"][name]["before"]["n"] == figures["control"][name]["after"]["n"] == 2
    pipe = load_published(base)
    plain = pipe("slow piano", duration_s=1.0, seed=1).audios
    pipe.load_lora_weights(out)
    assert np.abs(pipe("slow piano", duration_s=1.0, seed=1).audios - plain).max() > 1e-4

    first = load_file(out / "pytorch_lora_weights.safetensors")
    run = tmp_path / "mine.work" / "run"
    (loop.checkpoints(str(run))[-1] / "run.json").unlink()  # as if killed while it was written
    shutil.rmtree(run / "final")
    shutil.rmtree(out)
    assert finetune.main(words(music, base, out)) == best
    said = capsys.readouterr().out
    assert "audio kept" in said and "evaluates " not in said  # the figures are of this adapter
    assert json.loads((out / "figures.json").read_text()) == figures
    again = load_file(out / "pytorch_lora_weights.safetensors")
    assert same(again, first)


def test_bad_input_is_one_line(music, base, tmp_path, capsys, monkeypatch):
    with pytest.raises(ValueError, match="music is missing"):
        finetune.main([])
    (tmp_path / "few").mkdir()
    for name in ("00.wav", "01.wav"):
        shutil.copyfile(music / name, tmp_path / "few" / name)
    with pytest.raises(ValueError, match="2 usable files; allowed: 3 or more"):
        finetune.main(words(tmp_path / "few", base, tmp_path / "x"))
    monkeypatch.setattr(command, "NEEDED", ("no_such_package",))
    for given, code, message in [
        (tmp_path / "none", 2, "no such folder"),
        (music, 1, "finetune needs no_such_package"),
    ]:
        with pytest.raises(SystemExit) as stop:
            vivace(["finetune", str(given), "--out", str(tmp_path / "x")])
        assert stop.value.code == code and message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_command_hands_its_options_on(music, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        command.subprocess, "run", lambda words: ran.append(words) or type("Done", (), {"returncode": 3})
    )
    assert (
        vivace(
            ["finetune", str(music), "--out", "m", "--max_steps", "7", "--pieces", "0", "--dry_run", "--threads", "2"]
        )
        == 3
    )
    config = finetune.parse_config(finetune.FinetuneRun, ran[0][3:])
    assert (config.music, config.output_dir, config.max_steps, config.pieces) == (str(music), "m", 7, 0)
    assert config.dry_run and config.num_threads == 2 and json.dumps(config.checkpoint) == '"checkpoints/small"'
