"""LoRA adapters on a pipeline: loaded, weighted, stacked, fused, unloaded, saved, and named in recipes."""

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from pipelines import vivace_checkpoint, vivace_files
from pipelines.commands.main import main as vivace
from pipelines.hub import load_published
from pipelines.pipeline_vivace import VivacePipeline, read_recipe
from tests.conftest import make_pipeline

REQUEST = {"prompt": "slow piano", "duration_s": 1.0, "num_inference_steps": 2, "seed": 3, "output_type": "latent"}
LAYERS = ["to_q", "to_k", "to_v", "to_out", "conv1", "conv2", "film"]


def make_lora(folder, seed: int, rank: int = 2, alpha: int = 4, layers=LAYERS, sounds=None):
    """A random adapter of the tiny network as a folder, of one that takes references if it brings sounds."""
    unet = make_pipeline(reference=bool(sounds)).unet
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers, init_lora_weights=False))
    VivacePipeline.save_lora_weights(
        folder, get_peft_model_state_dict(unet, adapter_name="default"),
        unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        sounds=sounds,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def loras(tmp_path_factory):
    """Two adapters of different rank, scale and layers."""
    folder = tmp_path_factory.mktemp("loras")
    return make_lora(folder / "one", 1), make_lora(folder / "two", 2, rank=3, alpha=2, layers=["to_q", "conv1", "film"])


@pytest.fixture
def pipe(loras):
    """The tiny pipeline with both."""
    pipe = make_pipeline()
    pipe.load_lora_weights(loras[0], adapter_name="one")
    pipe.load_lora_weights(str(loras[1]), adapter_name="two")
    return pipe


def made(pipe) -> np.ndarray:
    return pipe(**REQUEST).audios


def with_weights(change: dict[str, float], loras) -> np.ndarray:
    """The output of a plain network to whose weights the products of the adapters' tensors are added here."""
    pipe = make_pipeline()
    for folder, (scale, strength) in zip(loras, change.values(), strict=True):
        tensors = load_file(folder / "pytorch_lora_weights.safetensors")
        for name, lower in tensors.items():
            if ".lora_A." not in name:
                continue
            weight = pipe.unet.get_submodule(name.removeprefix("unet.").removesuffix(".lora_A.weight")).weight
            upper = tensors[name.replace("lora_A", "lora_B")].flatten(1)
            product = (upper @ lower.flatten(1)).reshape(weight.shape)
            weight.data += strength * scale * product
    return made(pipe)


def test_two_stacked_equal_two_fused_equal_their_sum(pipe, loras):
    plain = made(make_pipeline())
    strengths = {"one": 0.8, "two": -0.5}
    pipe.set_adapters(list(strengths), list(strengths.values()))
    assert pipe.get_active_adapters() == ["one", "two"] and pipe.get_list_adapters() == {"unet": ["one", "two"]}
    stacked = made(pipe)
    assert np.abs(stacked - plain).max() > 1e-2
    by_hand = with_weights({"one": (4 / 2, 0.8), "two": (2 / 3, -0.5)}, loras)
    np.testing.assert_allclose(stacked, by_hand, atol=2e-5)
    pipe.fuse_lora()
    np.testing.assert_allclose(made(pipe), stacked, atol=2e-5)
    assert pipe.num_fused_loras == 2 and all(one["fused"] for one in vivace_files.adapters_of(pipe.unet))
    for call in (lambda: pipe.set_adapters("one", 0.1), lambda: pipe.load_lora_weights(loras[0], adapter_name="more")):
        with pytest.raises(ValueError, match="adapters one, two are fused; first unfuse_lora"):
            call()
    pipe.unfuse_lora()
    np.testing.assert_array_equal(made(pipe), stacked)
    pipe.unload_lora_weights()
    np.testing.assert_array_equal(made(pipe), plain)
    assert not hasattr(pipe.unet, "peft_config")


def test_strengths_scale(pipe, loras):
    plain = made(make_pipeline())
    pipe.set_adapters("one", 0.0)
    np.testing.assert_allclose(made(pipe), plain, atol=1e-6)
    pipe.set_adapters("one", 0.5)
    np.testing.assert_allclose(made(pipe), with_weights({"one": (2.0, 0.5)}, loras[:1]), atol=2e-5)
    pipe.set_adapters(["one", "two"])  # 1 each
    np.testing.assert_allclose(made(pipe), with_weights({"one": (2.0, 1.0), "two": (2 / 3, 1.0)}, loras), atol=2e-5)
    pipe.disable_lora()
    np.testing.assert_array_equal(made(pipe), plain)
    pipe.enable_lora()
    pipe.delete_adapters("two")
    assert pipe.get_list_adapters() == {"unet": ["one"]}


def test_what_was_loaded_last_plays_alone_and_can_be_swapped(pipe, loras):
    assert pipe.get_active_adapters() == ["two"]
    np.testing.assert_allclose(made(pipe), with_weights({"two": (2 / 3, 1.0)}, loras[1:]), atol=2e-5)
    pipe.unload_lora_weights()
    pipe.load_lora_weights(loras[0], adapter_name="mine")
    one = made(pipe)
    tensors = load_file(loras[0] / "pytorch_lora_weights.safetensors")
    state = {name: value * (1.5 if ".lora_B." in name else 1.0) for name, value in tensors.items()}
    with pytest.raises(ValueError, match="adapter_name is 'other'; allowed: that of a loaded one; taken: mine"):
        pipe.load_lora_weights(loras[0], adapter_name="other", hotswap=True)
    pipe.load_lora_weights(loras[0], adapter_name="mine", hotswap=True)
    np.testing.assert_array_equal(made(pipe), one)
    pipe.unload_lora_weights()
    pipe.load_lora_weights(state, adapter_name="tensors")  # without the metadata of a file the scale is 1
    np.testing.assert_allclose(made(pipe), with_weights({"one": (1.5, 1.0)}, loras[:1]), atol=2e-5)


def test_a_fused_network_is_saved_after_unloading(pipe, tmp_path):
    pipe.set_adapters("one", 0.7)
    heard = made(pipe)
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert pipe.num_fused_loras == 0
    pipe.save_pretrained(tmp_path)
    np.testing.assert_allclose(made(load_published(tmp_path)), heard, atol=2e-5)


def test_the_same_bits_where_it_is_loaded_elsewhere(pipe, loras, tiny_checkpoint, tmp_path):
    """On a published pipeline, whose classes are those that its folder carries; and from a file."""
    native, published = load_published(tiny_checkpoint), load_published(tiny_checkpoint)
    native.load_lora_weights(loras[0], adapter_name="mine")
    layers = get_peft_model_state_dict(native.unet, adapter_name="mine")
    metadata = native.unet.peft_config["mine"].to_dict()
    type(native).save_lora_weights(tmp_path / "again", layers, unet_lora_adapter_metadata=metadata)
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["pytorch_lora_weights.safetensors"]
    published.load_lora_weights(tmp_path / "again" / "pytorch_lora_weights.safetensors")
    np.testing.assert_array_equal(made(native), made(published))
    assert vivace_files.adapters_of(native.unet)[0]["sha256"] == vivace_files.adapters_of(published.unet)[0]["sha256"]


def test_a_piece_is_the_same_alone_and_in_a_batch(pipe):
    pipe.set_adapters(["one", "two"], [0.8, 0.3])
    options = {"duration_s": 1.0, "output_type": "latent"}
    many = pipe(["slow piano", "fast drums", "jazz"], seed=[3, 4, 5], **options).audios
    for row, prompt in enumerate(["slow piano", "fast drums", "jazz"]):
        np.testing.assert_array_equal(pipe(prompt, seed=3 + row, **options).audios[0], many[row])


def test_a_recipe_names_the_adapters_and_replay_wants_them(pipe, loras, tmp_path):
    plain = make_pipeline()
    plain("slow piano", duration_s=1.0, seed=1).save(tmp_path / "plain.wav")
    pipe.set_adapters(["one", "two"], [0.8, 0.5])
    pipe("slow piano", duration_s=1.0, seed=1).save(tmp_path / "styled.wav")
    recipe = read_recipe(tmp_path / "styled.wav")
    assert [(one["name"], one["strength"]) for one in recipe["adapters"]] == [("one", 0.8), ("two", 0.5)]
    assert recipe["made_with"]["weights"] == read_recipe(tmp_path / "plain.wav")["made_with"]["weights"]
    assert "adapters" not in read_recipe(tmp_path / "plain.wav")
    assert pipe.replay(tmp_path / "styled.wav").differences == []
    with pytest.raises(ValueError, match=r"LoRA adapters one \(strength 0.8, hash \w{16}\), two .*; loaded are none"):
        plain.replay(tmp_path / "styled.wav")
    with pytest.raises(ValueError, match=r"LoRA adapters none; loaded are one \(strength 0.8"):
        pipe.replay(tmp_path / "plain.wav")
    pipe.set_adapters(["one", "two"], [0.8, 0.6])
    with pytest.raises(ValueError, match=r"two \(strength 0.5, .*loaded are .*two \(strength 0.6"):
        pipe.replay(tmp_path / "styled.wav")
    other = make_pipeline()  # the same by other names
    for folder, name in zip(loras, ("a", "b"), strict=True):
        other.load_lora_weights(folder, adapter_name=name)
    other.set_adapters(["a", "b"], [0.8, 0.5])
    assert other.replay(tmp_path / "styled.wav").differences == []
    with torch.no_grad():
        next(value for name, value in other.unet.named_parameters() if "lora_B.b" in name).mul_(1.1)
    with pytest.raises(ValueError, match="made with the LoRA adapters"):
        other.replay(tmp_path / "styled.wav")


def test_an_adapter_brings_sounds_of_which_the_seed_chooses(tmp_path):
    sounds = [[round(0.1 * (k + n), 4) for k in range(8)] for n in range(3)]
    folder = make_lora(tmp_path / "lora", 1, sounds=sounds)
    pipe, request = make_pipeline(reference=True), REQUEST | {"output_type": "np"}
    pipe.load_lora_weights(folder, adapter_name="mine")
    out = pipe(**request | {"seed": 4})
    assert out.recipes[0]["arguments"]["sounds_like"] == sounds[1]
    np.testing.assert_array_equal(out.audios, pipe(**request | {"seed": 4}, sounds_like=sounds[1]).audios)
    out.save(tmp_path / "piece.wav")
    assert pipe.replay(tmp_path / "piece.wav").differences == []
    many = pipe(["slow piano", "fast drums"], duration_s=1.0, num_inference_steps=2, seed=[5, 4])
    assert [one["arguments"]["sounds_like"] for one in many.recipes] == [sounds[2], sounds[1]]
    pipe.set_adapters("mine", 0.5)  # the sound, too, by half
    half = pipe(**request)
    assert half.recipes[0]["arguments"]["sounds_like_strength"] == pytest.approx(0.35)
    own = pipe(**request, sounds_like=sounds[2])
    assert own.recipes[0]["arguments"]["sounds_like"] == sounds[2]
    assert own.recipes[0]["arguments"]["sounds_like_strength"] == 0.7
    edited = pipe("slow piano", audio=half, strength=0.5, seed=1, num_inference_steps=2)
    assert edited.recipes[0]["arguments"]["sounds_like"] is None
    pipe.set_adapters("mine", 0.0)
    assert pipe(**request).recipes[0]["arguments"]["sounds_like"] is None
    pipe.unload_lora_weights()
    np.testing.assert_array_equal(pipe(**request).audios, make_pipeline(reference=True)(**request).audios)
    with pytest.raises(ValueError, match="its sounds have 8 numbers; this network takes 0"):
        make_pipeline().load_lora_weights(folder)
    tensors = load_file(folder / "pytorch_lora_weights.safetensors")
    tensors = {name.removeprefix("unet."): value for name, value in tensors.items()}
    VivacePipeline.save_lora_weights(tmp_path / "odd", tensors, sounds="loud")
    with pytest.raises(ValueError, match="its sounds are damaged"):
        pipe.load_lora_weights(tmp_path / "odd")


def test_the_commands_load_adapters(tiny_checkpoint, loras, tmp_path, capsys):
    words = ["--checkpoint", str(tiny_checkpoint), "--json"]
    asked = ["generate", "slow piano", "--duration_s", "1", "--seed", "3", *words]
    stacked = ["--lora", f"{loras[0]}:0.8", "--lora", str(loras[1])]
    assert vivace([*asked, *stacked, "--out", str(tmp_path / "styled.wav")]) == 0
    recipe = read_recipe(tmp_path / "styled.wav")
    assert [(one["name"], one["strength"]) for one in recipe["adapters"]] == [("one", 0.8), ("two", 1.0)]
    assert vivace(["replay", str(tmp_path / "styled.wav"), *words, *stacked]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["equal"]
    for command, message in [
        (["replay", str(tmp_path / "styled.wav"), *words], "made with the LoRA adapters one (strength 0.8"),
        ([*asked, "--lora", f"{loras[0]}:loud"], "has the strength 'loud'; allowed: a number"),
        ([*asked, "--lora", str(tmp_path / "none")], f"lora {tmp_path / 'none'}: no such folder or file"),
    ]:
        with pytest.raises(SystemExit) as stop:
            vivace([*command, *(["--out", str(tmp_path / "x.wav")] if command[0] == "generate" else [])])
        error = capsys.readouterr().err.strip()
        assert stop.value.code == 2 and message in error and len(error.splitlines()) == 1, error
    assert not (tmp_path / "x.wav").exists()


def test_what_a_server_keeps_is_by_adapter(tiny_checkpoint, loras, monkeypatch):
    from pipelines.commands import make
    from pipelines.commands.main import parse

    monkeypatch.setattr(make, "keep", {})
    words = ["generate", "piano", "--checkpoint", str(tiny_checkpoint), "--threads", "1"]
    plain, one = (make.load(parse([*words, *more]))[0] for more in ([], ["--lora", f"{loras[0]}:0.5"]))
    again = make.load(parse([*words, "--lora", f"{loras[0]}:0.5"]))[0]
    assert one is again and one is not plain and len(make.keep) == 2
    assert not vivace_files.adapters_of(plain.unet) and vivace_files.adapters_of(one.unet)[0]["strength"] == 0.5


def test_bad_input_is_one_line_and_loads_nothing(loras, tmp_path, monkeypatch):
    pipe, tensors = make_pipeline(), load_file(loras[0] / "pytorch_lora_weights.safetensors")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.safetensors").write_bytes(b"no tensors")
    (tmp_path / "pickle.bin").write_bytes(b"")
    name = next(name for name in tensors if "to_k" in name and "lora_A" in name)
    wide = tensors | {name: torch.zeros(2, 99, 1)}
    save_file({"lora_unet_down.alpha": torch.zeros(1)}, tmp_path / "kohya.safetensors")
    for given, message in [
        (tmp_path / "none", "no such folder or file"),
        (tmp_path / "empty", "pytorch_lora_weights.safetensors is missing"),
        (tmp_path / "damaged.safetensors", "cannot be read"),
        (tmp_path / "pickle.bin", "safetensors alone"),
        (tmp_path / "kohya.safetensors", "lora_unet_down.alpha is no LoRA"),
        (wide, rf"{name} has shape \(2, 99, 1\), which does not fit \(16, 16, 1\)"),
        ({"unet.nothing.lora_A.weight": torch.zeros(2, 4)}, "unet.nothing.lora_A.weight does not fit; .*no layer"),
        ({name: tensors[name]}, f"{name} lacks its other half"),
        ({}, "holds no tensors"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            pipe.load_lora_weights(given)
        assert len(str(error.value).splitlines()) == 1
    assert not hasattr(pipe.unet, "peft_config")
    pipe.load_lora_weights(loras[0], adapter_name="one")
    for call, message in [
        (lambda: pipe.load_lora_weights(loras[0], adapter_name="one"), "adapter_name is 'one'"),
        (lambda: pipe.load_lora_weights(loras[0], adapter_name="a.b"), "adapter_name is 'a.b'"),
        (lambda: pipe.set_adapters("two"), "'two'; loaded: one"),
        (lambda: pipe.set_adapters("one", "loud"), "adapter_weights has 'loud'"),
        (lambda: pipe.set_adapters("one", float("nan")), "adapter_weights has nan"),
        (lambda: pipe.set_adapters(["one"], [1.0, 2.0]), "2 numbers for 1 adapters"),
        (lambda: pipe.save_lora_weights(tmp_path / "x"), "unet_lora_layers is empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    monkeypatch.setattr(vivace_checkpoint.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install peft"):
        make_pipeline().load_lora_weights(loras[0])
