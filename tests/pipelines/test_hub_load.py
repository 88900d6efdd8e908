"""Loading a published checkpoint in the ways of diffusers: precision, parts, LoRA; and the way round what it cannot."""

import os
import re
import shutil
import tomllib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from diffusers import AutoModel, DiffusionPipeline
from packaging.requirements import Requirement
from peft import LoraConfig

from pipelines import vivace_checkpoint
from pipelines.hub import load_published, loading_alone, save_checkpoint
from tests.conftest import ROOT, make_pipeline
from tests.versions import ENDS

REQUEST = {"prompt": "slow piano", "bars": 1, "bpm": 120, "seed": 7}


def load(folder, **options):
    pipe = DiffusionPipeline.from_pretrained(str(folder), trust_remote_code=True, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_precision_by_dtype_and_by_its_older_name(tiny_checkpoint):
    full = load(tiny_checkpoint)(**REQUEST).audios
    for options in ({"dtype": torch.bfloat16}, {"torch_dtype": torch.bfloat16}):
        pipe = load(tiny_checkpoint, **options)
        assert {p.dtype for p in pipe.unet.parameters()} == {torch.bfloat16}
        audio = pipe(**REQUEST).audios
        assert audio.dtype == np.float32 and np.isfinite(audio).all() and np.abs(audio).max() > 0.05
    mixed = load(tiny_checkpoint, dtype={"unet": torch.bfloat16, "default": torch.float32})
    assert mixed.unet.dtype == torch.bfloat16 and mixed.vae.dtype == torch.float32
    assert mixed(**REQUEST).audios.shape == full.shape


def test_two_processes_do_not_load_code_at_once(tiny_checkpoint):
    """The cache holds one version of a folder's files at a time."""
    with ThreadPoolExecutor(1) as pool:
        with loading_alone():
            loading = pool.submit(load_published, tiny_checkpoint)
            with pytest.raises(TimeoutError):
                loading.result(timeout=1.0)
        assert loading.result(timeout=120.0).unet is not None


def test_code_is_not_run_without_leave(tiny_checkpoint):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(str(tiny_checkpoint))


def test_one_part_alone(tiny_checkpoint):
    """AutoModel does not find the class of a part of a pipeline's folder; the class of the loaded part does."""
    pipe = load(tiny_checkpoint)
    with pytest.raises((ValueError, OSError, AttributeError)):
        AutoModel.from_pretrained(str(tiny_checkpoint), subfolder="unet", trust_remote_code=True)
    unet = type(pipe.unet).from_pretrained(str(tiny_checkpoint), subfolder="unet")
    for name, tensor in unet.state_dict().items():
        assert torch.equal(tensor, pipe.unet.state_dict()[name]), name


def test_another_part_is_put_in_after_loading(tiny_checkpoint):
    """diffusers looks for the library of a part that it is given and knows none of ours: set it afterwards."""
    pipe, other = load(tiny_checkpoint), load(tiny_checkpoint)
    other.unet.conv_in.weight.data.mul_(2)
    with pytest.raises(ValueError, match="not one of the libraries"):
        load(tiny_checkpoint, unet=other.unet)
    pipe.unet = other.unet
    np.testing.assert_array_equal(pipe(**REQUEST).audios, other(**REQUEST).audios)


@pytest.fixture
def adapted(tiny_checkpoint):
    """A published pipeline with a LoRA that is heard."""
    pipe = load(tiny_checkpoint)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
    torch.manual_seed(0)
    pipe.unet.add_adapter(config, adapter_name="mine")
    return pipe


def test_lora_is_trained_saved_and_loaded_on_a_published_pipeline(adapted, tiny_checkpoint, tmp_path):
    """By the methods of the network; those of the pipeline are tested in test_lora.py."""
    plain = load(tiny_checkpoint)
    heard = adapted(**REQUEST).audios
    assert np.abs(heard - plain(**REQUEST).audios).max() > 1e-3
    trained = {name for name, p in adapted.unet.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    adapted.unet.save_lora_adapter(tmp_path, adapter_name="mine")
    plain.unet.load_lora_adapter(str(tmp_path), prefix=None, use_safetensors=True)
    np.testing.assert_allclose(plain(**REQUEST).audios, heard, atol=1e-5)
    plain.unet.disable_adapters()
    np.testing.assert_allclose(plain(**REQUEST).audios, load(tiny_checkpoint)(**REQUEST).audios, atol=1e-6)


def test_a_lora_is_fused_before_saving(adapted, tmp_path):
    heard = adapted(**REQUEST).audios
    with pytest.raises(ValueError, match=r"unet has adapters .*fuse_lora"):
        save_checkpoint(adapted, tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []
    adapted.unet.fuse_lora()
    adapted.unet.unload_lora()
    save_checkpoint(adapted, tmp_path / "mine", fp16=False)
    np.testing.assert_allclose(load_published(tmp_path / "mine")(**REQUEST).audios, heard, atol=1e-4)


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_cannot_be_saved_leaves_the_folder_as_it_was(adapted, tiny_checkpoint, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(tiny_checkpoint, mine)
    (mine / "notes.txt").write_text("mine")
    before = files_of(mine)
    for save in (adapted.save_pretrained, adapted.save_config):
        with pytest.raises(ValueError, match=r"unet has adapters .*fuse_lora"):
            save(mine)
    assert files_of(mine) == before
    with pytest.raises(ValueError, match="unet has adapters"):
        adapted.save_pretrained(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    np.testing.assert_array_equal(load(mine)(**REQUEST).audios, load(tiny_checkpoint)(**REQUEST).audios)


@pytest.mark.parametrize("where", ["text_encoder", "scheduler", "code", "moving"])
def test_an_error_while_saving_leaves_the_folder_as_it_was(tiny_checkpoint, tmp_path, monkeypatch, where):
    mine, pipe = tmp_path / "mine", make_pipeline()
    shutil.copytree(tiny_checkpoint, mine)
    before, moved, real = files_of(mine), [], os.replace

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    def fail_later(source, target):
        moved.append(target)
        if len(moved) == 20:
            raise OSError(28, "No space left on device")
        real(source, target)

    if where == "moving":
        monkeypatch.setattr(os, "replace", fail_later)
    elif where == "code":
        monkeypatch.setattr(vivace_checkpoint, "custom_pipeline_code", fail)
    else:
        monkeypatch.setattr(getattr(pipe, where), "save_pretrained", fail)
    for folder in (mine, tmp_path / "new"):
        moved.clear()
        with pytest.raises((KeyboardInterrupt, OSError)):
            pipe.save_pretrained(folder)
    assert files_of(mine) == before and [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_saving_replaces_the_same_weights_and_keeps_other_files(tmp_path):
    pipe = make_pipeline()
    (tmp_path / "notes.txt").write_text("mine")
    pipe.save_pretrained(tmp_path, variant="fp16")
    pipe.save_pretrained(tmp_path, max_shard_size=20_000)
    assert len(list((tmp_path / "unet").glob("diffusion_pytorch_model-*-of-*.safetensors"))) > 1
    pipe.unet.conv_in.weight.data.mul_(2)
    pipe.save_pretrained(tmp_path)
    weights = sorted(path.name for path in (tmp_path / "unet").iterdir() if "diffusion" in path.name)
    assert weights == ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"]
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".partial")]
    np.testing.assert_array_equal(load(tmp_path)(**REQUEST).audios, pipe(**REQUEST).audios)
    load(tmp_path, variant="fp16")


def test_a_plain_install_writes_audio_and_midi():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {"soundfile", "mido"} <= {Requirement(one).name for one in stated}


def test_oldest_tested_versions_are_the_stated_ones():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = {Requirement(one).name: next(iter(Requirement(one).specifier)).version for one in stated}
    for one in ENDS["oldest"]:
        name, version = one.split("==")
        assert re.sub(r"(\.0)+$", "", version) == re.sub(r"(\.0)+$", "", lowest[name]), name
