"""A saved pipeline is a checkpoint that others can load: with its code, without this repository, again and again."""

import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file

from pipelines.hub import ROOT, check_checkpoint, load_native, load_published, save_checkpoint
from pipelines.pipeline_vivace import VivacePipeline
from tests.conftest import make_pipeline

HELPERS = ["composer_vivace.py", *(path.name for path in (ROOT / "pipelines").glob("vivace_*.py"))]
# As a stranger: neither this repository nor anything beyond torch, diffusers and transformers can be imported.
STRANGER = """
import sys
for name in ("app", "autoencoder", "pipelines", "training", "accelerate", "datasets", "soundfile", "peft", "scipy"):
    sys.modules[name] = None
import numpy as np
from diffusers import DiffusionPipeline
pipe = DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
pipe.set_progress_bar_config(disable=True)
assert {p.dtype for c in (pipe.unet, pipe.vae, pipe.text_encoder) for p in c.parameters()} == {pipe.unet.dtype}
out = pipe("slow piano, 100 bpm, 1 bars", chords="Am", seed=7)
np.save(sys.argv[2], out.audios)
pipe.save_pretrained(sys.argv[3])
print(type(pipe).__module__, pipe.unet.dtype)
"""


def load_as_a_stranger(folder, tmp_path, name):
    """Audio that a clean process makes from `folder`; it saves the pipeline again as `tmp_path / name`."""
    home = tmp_path / f"home-{name}"
    home.mkdir()
    command = [sys.executable, "-I", "-c", STRANGER, str(folder), str(tmp_path / "audio.npy"), str(tmp_path / name)]
    env = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    module, dtype = done.stdout.split()
    assert re.fullmatch(r"diffusers_modules\.vivace_[0-9a-f]{16}\.pipeline_vivace", module) and dtype == "torch.float32"
    return np.load(tmp_path / "audio.npy")


def test_a_stranger_loads_it_saves_it_and_loads_that(tiny_checkpoint, tmp_path):
    here = load_native(tiny_checkpoint)
    expected = here("slow piano, 100 bpm, 1 bars", chords="Am", seed=7).audios
    first = load_as_a_stranger(tiny_checkpoint, tmp_path, "again")
    np.testing.assert_allclose(first, expected, atol=1e-5)
    second = load_as_a_stranger(tmp_path / "again", tmp_path, "once more")
    np.testing.assert_allclose(second, expected, atol=1e-5)
    check_checkpoint(tmp_path / "once more")
    for path in (tmp_path / "once more").rglob("*.json"):  # nothing of this machine
        text = path.read_text()
        assert str(tmp_path) not in text and "name_or_path" not in text and "local_files_only" not in text, path


def test_layout(tiny_checkpoint):
    names = sorted(str(path.relative_to(tiny_checkpoint)) for path in tiny_checkpoint.rglob("*") if path.is_file())
    assert names == sorted([
        "LICENSE", "README.md", "model_index.json", "pipeline.py", "pipeline_vivace.py", *HELPERS,
        "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/unet_1d_condition_vivace.py",
        "vae/autoencoder_vivace.py",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
    ])  # fmt: skip
    index = json.loads((tiny_checkpoint / "model_index.json").read_text())
    assert index["_class_name"] == ["pipeline_vivace", "VivacePipeline"] and index["vivace_format"] == 1
    assert index["unet"] == ["unet_1d_condition_vivace", "UNet1DConditionModel"]
    assert index["default_num_inference_steps"] == 3 and index["default_duration_s"] == 2.0
    card = (tiny_checkpoint / "README.md").read_text()
    assert card.startswith("---\n") and "\nlicense: apache-2.0\n" in card and "trust_remote_code=True" in card
    assert 'from_pretrained("./tiny", trust_remote_code=True)' in card and "snapshot_download" not in card


def test_weights_are_half_in_the_file_and_full_when_loaded(tiny_checkpoint):
    for path in tiny_checkpoint.rglob("*.safetensors"):
        assert {t.dtype for t in load_file(path).values() if t.is_floating_point()} == {torch.float16}, path
    for pipe in (load_native(tiny_checkpoint), load_published(tiny_checkpoint)):
        for model in (pipe.vae, pipe.unet, pipe.text_encoder):
            assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
            assert not model.training
    assert isinstance(load_native(tiny_checkpoint), VivacePipeline)


def test_a_checkpoint_with_settings_that_this_code_has_no_more(tiny_checkpoint, tmp_path, caplog):
    """As the first one, whose guidance was weighed: it loads, and what is ignored is named."""
    folder = tmp_path / "old"
    shutil.copytree(tiny_checkpoint, folder)
    index = json.loads((folder / "model_index.json").read_text())
    old = {"guidance_slow": 1.5, "guidance_channels": [1.2, 1.0, 0.9, 1.0]}
    (folder / "model_index.json").write_text(json.dumps(index | old))
    logger = logging.getLogger("diffusers")
    caplog.set_level(logging.WARNING, "diffusers")  # the command line says nothing of it
    plain = load_native(tiny_checkpoint)("piano", seed=1).audios
    for load in (load_native, load_published):
        caplog.clear()
        logger.propagate = True
        try:
            pipe = load(folder)
        finally:
            logger.propagate = False
        assert "guidance_slow" in caplog.text and "guidance_channels" in caplog.text, load
        np.testing.assert_array_equal(pipe("piano", seed=1).audios, plain)


def test_saving_again_replaces_and_refuses_what_is_not_a_checkpoint(tmp_path):
    pipe = make_pipeline()
    (tmp_path / "ours").mkdir()
    for notes in ("first", "second"):
        save_checkpoint(pipe, tmp_path / "ours", notes=notes, fp16=False)
    assert "second" in (tmp_path / "ours" / "README.md").read_text()
    native = load_native(tmp_path / "ours")
    np.testing.assert_array_equal(native("piano", seed=1).audios, pipe("piano", seed=1).audios)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.txt").write_text("two years")
    with pytest.raises(ValueError, match="no checkpoint"):
        save_checkpoint(pipe, tmp_path / "theirs")
    with torch.no_grad():
        pipe.unet.conv_in.weight[0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="weight is not finite or beyond"):
        save_checkpoint(pipe, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]
    check_checkpoint(tmp_path / "ours")


def spoil(folder, what):
    """Damage a checkpoint in one way."""
    index = folder / "model_index.json"
    if what == "no folder":
        shutil.rmtree(folder)
    elif what == "other version":
        index.write_text(index.read_text().replace('"vivace_format": 1', '"vivace_format": 2'))
    elif what == "truncated":
        weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif what == "empty weights":
        (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    elif what == "broken json":
        index.write_text(index.read_text()[:40])
    elif what == "other sizes":
        config = folder / "unet" / "config.json"
        config.write_text(config.read_text().replace('"context_dim": 16', '"context_dim": 24'))
    else:
        (folder / what).unlink()


DAMAGE = {
    "no folder": "no such folder", "other version": "vivace_format is 2; this version of the program reads 1",
    "truncated": "unet/diffusion_pytorch_model.safetensors is truncated or damaged",
    "empty weights": "vae/diffusion_pytorch_model.safetensors is truncated", "broken json": "model_index.json cannot",
    "other sizes": "cannot be loaded", "model_index.json": "no model_index.json",
    "text_encoder/model.safetensors": "text_encoder/model.safetensors is missing",
    "unet/config.json": "unet/config.json cannot be read",
    "tokenizer/tokenizer.json": "tokenizer/tokenizer.json cannot",
    "vae/autoencoder_vivace.py": "vae/autoencoder_vivace.py is missing",
    "vivace_theory.py": "vivace_theory.py is missing",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_checkpoints_are_named(tiny_checkpoint, tmp_path, what):
    folder = tmp_path / "small"
    shutil.copytree(tiny_checkpoint, folder)
    spoil(folder, what)
    with pytest.raises(ValueError, match=r"checkpoint .*small: ") as caught:
        load_published(folder)
    assert DAMAGE[what] in str(caught.value)


CHANGES = {  # file -> (what a version has, what the other has instead)
    "vivace_sampling.py": ("manual_seed(seed)", "manual_seed(seed + 1)"),
    "pipeline_vivace.py": ("sampling_rate=self.vae.config", "sampling_rate=1 + self.vae.config"),
    "unet/unet_1d_condition_vivace.py": ("UNet1DOutput(sample=prediction)", "UNet1DOutput(sample=-prediction)"),
    "vae/autoencoder_vivace.py": (
        "(ModelMixin, ConfigMixin):",
        "(ModelMixin, ConfigMixin):\n    other_version = True\n",
    ),
}


@pytest.mark.parametrize("options", [{}, {"custom_pipeline": "pipeline"}], ids=["plain", "custom_pipeline"])
def test_two_versions_side_by_side(tiny_checkpoint, tmp_path, options):
    """Each keeps its own code, whatever is loaded after it, is pickled with it, and saves it."""
    other = tmp_path / "other"
    shutil.copytree(tiny_checkpoint, other)
    for name, (before, after) in CHANGES.items():
        text = (other / name).read_text()
        assert before in text, name
        (other / name).write_text(text.replace(before, after))

    def load(folder):
        pipe = DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True, **options)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    first = load(tiny_checkpoint)
    alone = first("piano", seed=7)
    second = load(other)
    third = load(tiny_checkpoint)
    changed = second("piano", seed=7)
    for pipe in (first, third):
        again = pipe("piano", seed=7)
        np.testing.assert_array_equal(again.audios, alone.audios)
        assert again.sampling_rate == 8000 and not hasattr(pipe.vae, "other_version")
        assert pickle.loads(pickle.dumps(again)).seeds == [7]
    assert changed.sampling_rate == 8001 and second.vae.other_version
    assert np.abs(changed.audios - alone.audios).max() > 0.01
    for pipe, folder in ((first, tiny_checkpoint), (second, other)):
        pipe.save_pretrained(tmp_path / "again")
        for name in CHANGES:
            assert (tmp_path / "again" / name).read_text() == (folder / name).read_text(), name
    assert isinstance(pickle.loads(pickle.dumps(second.unet)), type(second.unet))


def test_a_checkpoint_of_a_checkout_runs_the_source(tiny_checkpoint, tmp_path):
    """And one that lies elsewhere runs the code that it carries."""
    for name in ("pipelines", "autoencoder"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for place in ("checkpoints/small", "elsewhere/small"):
        shutil.copytree(tiny_checkpoint, tmp_path / place)
    for file, method in (
        ("autoencoder/autoencoder_vivace.py", "AutoencoderVivace.decode"),
        ("pipelines/unet_1d_condition_vivace.py", "UNet1DConditionModel.forward"),
        ("pipelines/pipeline_vivace.py", "VivacePipeline.encode_prompt"),
    ):
        note = f"\n_before = {method}\n{method} = lambda *a, **k: print('source of {method}') or _before(*a, **k)\n"
        with open(tmp_path / file, "a", encoding="utf-8") as source:
            source.write(note)
    program = (
        "from pipelines.commands.main import main\n"
        "for place in ('elsewhere/small', 'checkpoints/small'):\n"
        "    main(['generate', '--prompt', 'piano', '--seed', '7', '--checkpoint', place, '--out', place + '.wav'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = [sys.executable, "-c", program]
    printed = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True).stdout
    elsewhere, checkout = re.split(r"file +elsewhere/small.wav\n", printed)
    assert "source of" not in elsewhere
    assert len({line for line in checkout.splitlines() if line.startswith("source of")}) == 3
    one, other = (soundfile.read(tmp_path / f"{place}/small.wav")[0] for place in ("elsewhere", "checkpoints"))
    np.testing.assert_array_equal(one, other)
