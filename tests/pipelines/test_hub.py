"""Push and pull against a Hub on loopback: what a stranger loads is what was published, and failures break nothing."""

import importlib
import json
import os
import subprocess
import sys

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import constants, hf_api
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load, load_file

from pipelines.commands import publish as publish_command
from pipelines.commands.main import main as vivace
from pipelines.hub import check_checkpoint, find_checkpoint, load_published, save_checkpoint
from tests.conftest import make_pipeline
from tests.helpers.minihub import READER, WRITER, MiniHub
from training import train_unet

REQUEST = {"prompt": "slow piano, 100 bpm, 1 bars", "chords": "Am", "seed": 7}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A fresh Hub that this process and its children talk to, with the right to write and a cache of its own."""
    with MiniHub() as server:
        cache = tmp_path / "cache"
        for name, value in {
            "HF_ENDPOINT": server.url, "HF_TOKEN": WRITER, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        # The library reads its environment when it is imported.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # whatever the shell says; so do the children
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        yield server


@pytest.fixture
def publish(tiny_checkpoint, run_vivace):
    """`vivace publish` in this process: publish(*arguments, source=...) -> (exit code, what it told, stderr)."""

    def run(*arguments, source=tiny_checkpoint, repo="user/tiny"):
        code, said, errors = run_vivace("publish", source, "--repo", repo, "--samples", "0", "--json", *arguments)
        return code, json.loads(said.splitlines()[-1]) if said and code == 0 else None, errors

    return run


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_published_files_are_the_checkpoint_with_variant_and_card(hub, publish, tiny_checkpoint):
    code, told, errors = publish("--tag", "v1", "--private", "--samples", "1")
    assert code == 0 and errors == "" and told["tag"] == "v1" and told["repo"] == "user/tiny"
    there, here = hub.files("user/tiny"), files_of(tiny_checkpoint)
    assert {name: there[name] for name in here if name != "README.md"} == {
        name: content for name, content in here.items() if name != "README.md"
    }
    assert set(there) - set(here) == {
        ".gitattributes", "samples/1.flac", "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors",
    }  # fmt: skip
    card = there["README.md"].decode()
    assert 'from_pretrained("user/tiny", trust_remote_code=True)' in card and "license: apache-2.0" in card
    assert "[samples/1.flac](samples/1.flac)" in card and there["samples/1.flac"].startswith(b"fLaC")
    assert hub.repositories["model", "user/tiny"].private
    assert hub.repositories["model", "user/tiny"].tags == {"v1": told["commit"]}
    code, _, errors = publish("--tag", "v1")
    assert code == 2 and "tag is 'v1', which user/tiny has already" in errors
    assert len(hub.repositories["model", "user/tiny"].commits) == 2


STRANGER = """
import json, sys
for name in ("app", "autoencoder", "page", "pipelines", "training", "accelerate", "datasets", "soundfile", "peft"):
    sys.modules[name] = None
import numpy as np
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download
audio = {}
for name, options in json.loads(sys.argv[1]).items():
    repo = options.pop("repo", "user/tiny")
    pipe = DiffusionPipeline.from_pretrained(repo, trust_remote_code=True, **options)
    pipe.set_progress_bar_config(disable=True)
    audio[name] = pipe("slow piano, 100 bpm, 1 bars", chords="Am", seed=7).audios
pipe.push_to_hub("user/again")  # as loaded from the Hub: the code travels again
again = DiffusionPipeline.from_pretrained("user/again", trust_remote_code=True)
again.set_progress_bar_config(disable=True)
audio["again"] = again("slow piano, 100 bpm, 1 bars", chords="Am", seed=7).audios
np.savez(sys.argv[2], **audio)
"""


def test_strangers_pull_by_id_tag_commit_and_variant_and_push_again(hub, publish, tmp_path):
    """In one clean process, so that several versions also live side by side."""
    pipe = make_pipeline()
    first = pipe(**REQUEST).audios
    save_checkpoint(pipe, tmp_path / "one", fp16=False)
    old = publish("--tag", "v1", source=tmp_path / "one")[1]["commit"]
    for parameter in pipe.unet.parameters():
        parameter.data.mul_(1.1)
    second = pipe(**REQUEST).audios
    assert np.abs(first - second).max() > 0.01
    save_checkpoint(pipe, tmp_path / "two", fp16=False)
    publish(source=tmp_path / "two")
    wanted = {"main": {}, "tag": {"revision": "v1"}, "commit": {"revision": old}, "half": {"variant": "fp16"}}
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-I", "-c", STRANGER, json.dumps(wanted), str(tmp_path / "audio.npz")]
    env = {name: value for name, value in os.environ.items() if name.startswith("HF_")}
    env |= {"HF_HOME": str(home), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    audio = np.load(tmp_path / "audio.npz")
    np.testing.assert_allclose(audio["main"], second, atol=1e-5)
    np.testing.assert_allclose(audio["tag"], first, atol=1e-5)
    np.testing.assert_array_equal(audio["commit"], audio["tag"])
    assert 0 < np.abs(audio["half"] - audio["main"]).max() < 0.2
    np.testing.assert_allclose(audio["again"], audio["half"], atol=1e-5)
    halves = [path for method, path in hub.requests if method == "GET" and path.endswith(".fp16.safetensors")]
    assert len(halves) == 3
    for name, content in hub.files("user/again").items():
        assert str(home).encode() not in content and str(tmp_path).encode() not in content, name


def test_publishing_again_leaves_nothing_of_the_old_version(hub, publish, tmp_path):
    publish()
    repository = hub.repositories["model", "user/tiny"]
    extra = {
        "vivace_older.py": b"",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors": b"",
        "paper.pdf": b"kept",
    }
    repository.commit(hub.files("user/tiny") | extra)
    publish()
    assert set(extra) & set(hub.files("user/tiny")) == {"paper.pdf"}
    hub.repositories["model", "user/tiny"].commit(hub.files("user/tiny") | extra)
    make_pipeline().push_to_hub("user/tiny")
    left = set(hub.files("user/tiny"))
    assert set(extra) & left == {"paper.pdf"} and not any("fp16" in name for name in left)  # of other weights now
    make_pipeline().push_to_hub("user/tiny", variant="fp16")
    assert {"unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"} <= set(
        hub.files("user/tiny")
    )


def test_offline_from_the_cache(hub, publish, monkeypatch):
    publish("--tag", "v1")
    online = load_published(find_checkpoint("user/tiny", "v1"))(**REQUEST).audios
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    count = len(hub.requests)
    with pytest.raises((OSError, ValueError)):  # diffusers 0.42 asks the Hub for code that is in the cache
        DiffusionPipeline.from_pretrained("user/tiny", revision="v1", trust_remote_code=True)
    patterns = {"ignore_patterns": ["*.fp16.safetensors", ".gitattributes"]}
    folder = huggingface_hub.snapshot_download("user/tiny", revision="v1", **patterns)  # the way round
    DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    np.testing.assert_array_equal(load_published(find_checkpoint("user/tiny", "v1"))(**REQUEST).audios, online)
    with pytest.raises(OSError, match="the cache lacks it"):
        find_checkpoint("user/tiny", "v2")
    with pytest.raises(OSError, match="the cache lacks it"):
        find_checkpoint("user/tiny", "v1", variant="fp16")
    assert len(hub.requests) == count


def test_who_may_not_write_is_told_and_nothing_is_made(hub, publish, monkeypatch):
    for token, status in ((READER, 403), ("", 401)):
        monkeypatch.setenv("HF_TOKEN", token)
        code, told, errors = publish()
        assert code == 1 and told is None and errors.count("\n") == 1
        assert f"refuses to write to user/tiny ({status}); log in" in errors
    assert hub.repositories == {}


def test_missing_repository_revision_and_right(hub, publish, monkeypatch, capsys):
    publish("--private")
    for name, revision, words in (
        ("user/none", None, "no repository of that name"), ("user/tiny", "v9", "has no revision 'v9'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            find_checkpoint(name, revision)
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(SystemExit) as stopped:
        vivace(["info", "user/tiny"])
    errors = capsys.readouterr().err
    assert stopped.value.code == 2 and "no repository of that name that you may read" in errors
    assert errors.count("\n") == 1


def test_code_from_the_hub_is_run_only_with_consent(hub, publish, tmp_path, capsys):
    publish()
    count, out = len(hub.requests), tmp_path / "out.wav"
    make = ["--prompt", "slow piano", "--bars", "1", "--bpm", "120", "--seed", "7", "--out", str(out)]
    for command in (["generate", *make], ["edit", "--prompt", "piano"], ["replay", "docs/samples/text.flac"]):
        with pytest.raises(SystemExit) as stopped:
            vivace([*command, "--checkpoint", "user/tiny"])
        errors = capsys.readouterr().err
        assert stopped.value.code == 2 and "give --trust if you trust its owner" in errors and errors.count("\n") == 1
    assert len(hub.requests) == count and not out.exists()
    assert vivace(["generate", *make, "--checkpoint", "user/tiny", "--trust"]) == 0 and out.is_file()


def test_what_cannot_be_saved_makes_no_repository(hub, tmp_path, monkeypatch):
    pipe = make_pipeline()
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    for push in (pipe.push_to_hub, lambda name: pipe.save_pretrained(tmp_path / "a", push_to_hub=True, repo_id=name)):
        with pytest.raises(ValueError, match="unet has adapters"):
            push("user/mine")
    pipe = make_pipeline()
    monkeypatch.setattr(pipe.scheduler, "save_pretrained", None)  # fails once the weights are written
    with pytest.raises(TypeError):
        pipe.push_to_hub("user/mine")
    assert hub.repositories == {} and list(tmp_path.iterdir()) == []


def test_saving_and_pushing_at_once_keeps_the_card_that_is_there(hub, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("# My own card")
    make_pipeline().save_pretrained(str(tmp_path / "mine"), push_to_hub=True, repo_id="user/mine", private=True)
    there = hub.files("user/mine")
    assert there["README.md"] == b"# My own card" and hub.repositories["model", "user/mine"].private
    assert there["model_index.json"] == (tmp_path / "mine" / "model_index.json").read_bytes()


def test_an_interrupted_upload_changes_nothing(hub, publish, tmp_path, monkeypatch):
    publish("--tag", "v1")
    before = hub.files("user/tiny")
    pipe = make_pipeline()
    pipe.unet.conv_in.weight.data.mul_(2)
    save_checkpoint(pipe, tmp_path / "new")
    hub.upload_fault = True
    code, told, errors = publish("--tag", "v2", source=tmp_path / "new")
    assert code == 1 and told is None and "nothing was changed there, try again" in errors and errors.count("\n") == 1
    assert hub.files("user/tiny") == before and list(hub.repositories["model", "user/tiny"].tags) == ["v1"]
    hub.upload_fault = False
    assert publish("--tag", "v2", source=tmp_path / "new")[0] == 0
    assert hub.files("user/tiny") != before and set(hub.repositories["model", "user/tiny"].tags) == {"v1", "v2"}


def test_a_truncated_download_is_told_and_goes_on(hub, publish, monkeypatch):
    publish()
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits between its tries
    hub.download_fault = "unet/diffusion_pytorch_model.safetensors"
    with pytest.raises(OSError, match="user/tiny: the download failed; give the command again to go on"):
        find_checkpoint("user/tiny")
    cache = constants.HF_HUB_CACHE
    whole = [
        path for path, _, names in os.walk(cache) for name in names if name == "diffusion_pytorch_model.safetensors"
    ]
    assert all("unet" not in path for path in whole)
    hub.download_fault = None
    folder = find_checkpoint("user/tiny")
    check_checkpoint(folder)
    np.testing.assert_array_equal(
        (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes(),
        hub.files("user/tiny")["unet/diffusion_pytorch_model.safetensors"],
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--samples", "9"], "samples is 9; allowed: whole numbers from 0 to 3"),
        (["--figures", "pyproject.toml"], "no result of training.evaluate"),
        (["--dry_run", "tests"], "dry_run is 'tests', which exists"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_is_refused_before_the_hub_is_asked(hub, publish, arguments, words):
    code, told, errors = publish(*arguments)
    assert code == 2 and told is None and words in errors and errors.count("\n") == 1 and hub.requests == []


def test_names_that_are_none(hub, publish):
    for repo in ("tiny", "a/b/c", "user/..", "user name/x"):
        code, _, errors = publish(repo=repo)
        assert code == 2 and errors.count("\n") == 1, repo
    assert publish(source="tests")[0] == 2 and hub.requests == []


def test_figures_belong_to_the_weights(hub, publish, tiny_checkpoint, tmp_path):
    from training.metrics.provenance import provenance

    one = {"generated": {"mean": 0.987}, "chance": {"mean": 0.1}, "oracle": {"mean": 0.9}}
    result = {
        **provenance(tiny_checkpoint), "arguments": {"seed": 3, "data_dir": "data/book", "split": "test"}, "clips": 64,
        "control": {"tempo_4pct": one}, "commit": "abc123",
    }  # fmt: skip
    (tmp_path / "evaluate.json").write_text(json.dumps(result))
    assert publish("--figures", str(tmp_path / "evaluate.json"))[0] == 0
    card = hub.files("user/tiny")["README.md"].decode()
    assert "| tempo within 4 % | 0.99 |  | 0.10 | 0.90 |" in card and "seed 3, commit `abc123`" in card
    (tmp_path / "evaluate.json").write_text(json.dumps(result | {"checkpoint_sha256": "0"}))
    code, _, errors = publish("--figures", str(tmp_path / "evaluate.json"))
    assert code == 2 and "measured other weights" in errors


def test_notes_and_licence_outlive_publishing(hub, publish, tmp_path):
    save_checkpoint(make_pipeline(), tmp_path / "mine", notes="## Data\n\nMy own piano.")
    publish("--license", "cc-by-4.0", source=tmp_path / "mine")
    folder = find_checkpoint("user/tiny")
    publish(source=folder, repo="user/copy")
    card = hub.files("user/copy")["README.md"].decode()
    assert card.count("## Data\n\nMy own piano.") == 1 and "license: cc-by-4.0" in card and "# user/copy" in card
    assert huggingface_hub.ModelCard(card).data.library_name == "diffusers"


def test_a_run_is_exported_first_and_the_page_goes_along(hub, publish, tiny_latents, tmp_path, monkeypatch):
    def in_this_process(module, *words):
        importlib.import_module(module).main(list(words))

    monkeypatch.setattr(publish_command, "run_module", in_this_process)
    config = ["--config", "training/configs/tiny/unet.yaml", "--max_steps", "1", "--tracker", "null"]
    train_unet.main([*config, "--data_dir", str(tiny_latents), "--output_dir", str(tmp_path / "run")])
    code, told, errors = publish("--space", source=tmp_path / "run")
    assert code == 0, errors
    trained = load_file(tmp_path / "run" / "final" / "diffusion_pytorch_model.safetensors")
    there = load(hub.files("user/tiny")["unet/diffusion_pytorch_model.safetensors"])
    assert set(there) == set(trained)
    for name, tensor in trained.items():
        torch.testing.assert_close(there[name].float(), tensor, atol=1e-3, rtol=1e-3)
    page = hub.files("user/tiny-demo", "space")
    assert {"app.py", "requirements.txt", "README.md"} <= set(page) and b"sdk: gradio" in page["README.md"]
    assert page["MODEL"].decode().strip() == "user/tiny" and told["space"].endswith("/spaces/user/tiny-demo")
    (tmp_path / "run" / "final" / "config.json").unlink()
    code, _, errors = publish(source=tmp_path / "run")
    assert code == 2 and "no final weights" in errors


def test_a_lora_is_pushed_and_loaded_elsewhere_with_the_same_bits(hub, tiny_checkpoint, tmp_path, capsys):
    pipe = load_published(tiny_checkpoint)
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "conv1"], init_lora_weights=False), "default")
    config = pipe.unet.peft_config["default"].to_dict()
    layers = get_peft_model_state_dict(pipe.unet, adapter_name="default")
    pipe.save_lora_weights(tmp_path / "style", layers, unet_lora_adapter_metadata=config)
    huggingface_hub.create_repo("user/style")
    huggingface_hub.upload_folder(repo_id="user/style", folder_path=tmp_path / "style")
    there, here = load_published(tiny_checkpoint), load_published(tiny_checkpoint)
    there.load_lora_weights("user/style")
    here.load_lora_weights(tmp_path / "style")
    np.testing.assert_array_equal(there(**REQUEST).audios, here(**REQUEST).audios)
    words = ["generate", "piano", "--duration_s", "1", "--checkpoint", str(tiny_checkpoint)]
    assert vivace([*words, "--lora", "user/style:0.5", "--out", str(tmp_path / "a.wav")]) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        vivace([*words, "--lora", "user/none", "--out", str(tmp_path / "b.wav")])
    error = capsys.readouterr().err.strip()
    assert stop.value.code == 1 and "error: lora user/none: no such folder, and not on the Hub" in error
    assert len(error.splitlines()) == 1
