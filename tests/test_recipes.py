"""The GPU recipe: its pieces and figures, and, slow, all of it on a CPU with minutes in seconds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser

from pipelines.hub import load_published
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from training.data.sources.fetch import find_soundfont
from training.recipes import gpu, pieces


def test_pieces_join_to_the_same_folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("a.bin", 70_000), ("sub/b.bin", 3), ("sub/deep/c.json", 0)):
        path = tmp_path / "whole" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.bytes(size))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights.tar.76-of-77").write_bytes(b"of an earlier run")
    made = pieces.split(tmp_path / "whole", tmp_path / "out", 20_000)
    assert [path.name for path in made] == [f"weights.tar.0{i}-of-0{len(made)}" for i in range(len(made))]
    assert len(made) >= 4
    assert all(path.stat().st_size <= 20_000 for path in made)
    assert sorted((tmp_path / "out").iterdir()) == made
    pieces.join(tmp_path / "out", tmp_path / "again")
    for path in (tmp_path / "whole").rglob("*"):
        again = tmp_path / "again" / path.relative_to(tmp_path / "whole")
        assert again.is_dir() if path.is_dir() else again.read_bytes() == path.read_bytes()


def test_pieces_that_are_missing_are_named(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "a").write_bytes(bytes(50_000))
    made = pieces.split(tmp_path / "whole", tmp_path / "out", 20_000)
    with pytest.raises(ValueError, match="is there already"):
        pieces.join(tmp_path / "out", tmp_path)
    made[-1].unlink()
    with pytest.raises(ValueError, match=r"needed all of weights\.tar\.00-of-NN"):
        pieces.join(tmp_path / "out", tmp_path / "new")
    with pytest.raises(ValueError, match="found none"):
        pieces.join(tmp_path / "whole", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_figures_of_a_stage():
    lines = [
        {"step": s, "train/loss": 1.0 / s, "train/items_per_s": 100.0 * s, "train/waiting": 0.01} for s in (1, 2, 4)
    ]
    lines.insert(2, {"step": 3, "validation/all": 0.5})
    figures = gpu.stage_figures(lines, flops_per_item=1e9, peak_flops=1e12)
    assert figures["items_per_s"] == 200.0 and figures["share_of_peak"] == pytest.approx(0.2)
    assert (figures["done"], figures["validation"]["step"], figures["waiting"]) == (4, 3, 0.01)


@pytest.mark.parametrize(("words", "message"), [
    (["--hours", "0"], "hours is 0.0; allowed: above 0"),
    (["--unet_minutes", "-1"], "unet_minutes is -1.0"),
    ([], "init is not given"),
    (["--init", "nowhere"], "init nowhere: no such folder"),
])  # fmt: skip
def test_bad_options_exit_with_2(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        gpu.parse(["--out", str(tmp_path), *words])
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_recipe_needs_nothing_but_the_standard_library():
    """On the machine the wheels are installed by the recipe itself."""
    code = "import sys, training.recipes.gpu; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "yaml", "transformers"} & set(eval(done.stdout))


def words_for(folder: Path, out: str, kit: Path, text_encoder: Path, **changes) -> list[str]:
    values = {
        "kit": kit, "out": folder / out, "work": folder / f"{out}_work", "size": "tiny", "text_encoder": text_encoder,
        "hours": 64 * 2 / 3600, "seed": 3, "autoencoder_minutes": 0.05, "unet_minutes": 0.05, "trial_steps": 8,
        "num_workers": 1, "evaluate_clips": 4, "peak_tflops": 0.05, "stage_args": "--validate_clips 2",
        "data_args": "--sources procedural --clip_s 2", "evaluate_args": "--train_clips 8 --paraphrases false",
    }  # fmt: skip
    return [word for name, value in (values | changes).items() for word in (f"--{name}", str(value))]


@pytest.mark.slow
def test_the_whole_recipe_on_a_cpu(tiny_text_encoder, tmp_path):
    kit = tmp_path / "kit"
    (kit / "wheels").mkdir(parents=True)
    (kit / "sources").mkdir()
    shutil.copy(find_soundfont(), kit / "sources")
    assert gpu.main(words_for(tmp_path, "first", kit, tiny_text_encoder)) == 0
    report = json.loads((tmp_path / "first" / "report.json").read_text())
    for stage in ("autoencoder", "unet"):
        row = report["stages"][stage]
        assert row["done"] > 1 and row["items_per_s"] > 0.0 and 0.0 < row["share_of_peak"] < 1.0
    assert report["machine"]["gpu"] is None and "failed" not in report
    evaluated = json.loads((tmp_path / "first" / "evaluate.json").read_text())
    assert evaluated
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == ["evaluate.json", "report.json", "run.log", "weights.tar.00-of-01"]
    # What came back is a checkpoint, and the next machine starts from it.
    pieces.main([str(tmp_path / "first"), str(tmp_path / "checkpoint")])
    audio = load_published(tmp_path / "checkpoint")("slow piano", duration_s=1.0, num_inference_steps=2).audios
    assert np.isfinite(audio).all() and np.abs(audio).max() > 0.0
    changes = {"init": tmp_path / "first", "autoencoder_minutes": 0, "evaluate_clips": 0}
    second = words_for(tmp_path, "second", kit, tiny_text_encoder, **changes)
    assert gpu.main(second) == 0
    assert json.loads((tmp_path / "second" / "report.json").read_text())["stages"].keys() == {"unet"}
    log = (tmp_path / "second" / "run.log").read_text()
    assert f"--init_from {tmp_path / 'second_work' / 'init' / 'unet'}" in log
    # The same command again goes on with what lies in the work folder: nothing is rendered or planned anew.
    assert gpu.main(second) == 0
    again = (tmp_path / "second" / "run.log").read_text()[len(log) :]
    assert "unet trial" not in again and "unet:" in again


@pytest.mark.parametrize("name", ["one_gpu", "two_cpus", "eight_gpus", "fsdp"])
def test_accelerate_reads_the_configs(name):
    path = f"training/recipes/{name}.yaml"
    config = load_config_from_file(path)  # refuses keys that it does not know
    words = launch_command_parser().parse_args(["--config_file", path, "-m", "training.train_unet", "--seed", "1"])
    assert words.training_script_args == ["--seed", "1"] and config.num_processes in (1, 2, 8)
    if name == "fsdp":
        (block,) = UNet1DConditionModel._no_split_modules
        assert config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"] == block
        assert config.fsdp_config["fsdp_version"] == 2


def test_slurm_script_is_sound():
    subprocess.run(["bash", "-n", "training/recipes/slurm.sh"], check=True)
