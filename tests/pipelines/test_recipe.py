"""A file carries what makes it again, in standard tags, and nothing private."""

import gc
import json
from types import SimpleNamespace

import accelerate
import numpy as np
import pytest
import soundfile
import torch

from pipelines import vivace_files
from pipelines.commands.main import main as vivace
from pipelines.pipeline_vivace import read_recipe, write_audio
from tests.conftest import make_pipeline

ASKED = {
    "prompt": "slow piano", "negative_prompt": "loud", "bars": 1, "bpm": 97, "chords": "Am:1 F:3", "key": "A minor",
    "guidance_scale": 3.0, "grid_guidance_scale": 2.0, "guidance_interval": (0.1, 0.9), "apg_eta": 0.5, "tilt_db": 2.0,
    "fade_out_s": 0.5, "seed": 11,
}  # fmt: skip


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_file_is_made_again_bit_for_bit(tiny_pipeline, tmp_path, ending):
    path = tmp_path / f"song.{ending}"
    tiny_pipeline(**ASKED).save(path)
    again = tiny_pipeline.replay(path)
    assert again.differences == [] and again.seeds == [11]
    again.save(tmp_path / f"again.{ending}")
    assert (tmp_path / f"again.{ending}").read_bytes() == path.read_bytes()
    with soundfile.SoundFile(path) as file:  # standard tags that any player shows
        assert file.title == "slow piano" and "Vivace" in file.software
    recipe = read_recipe(path)
    assert recipe["arguments"]["bpm"] == 97 and recipe["arguments"]["seed"] == 11
    assert recipe["made_with"]["torch"] == torch.__version__ and len(recipe["made_with"]["weights"]) == 16
    assert str(tmp_path) not in json.dumps(recipe) and "/" not in json.dumps(recipe["made_with"])


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": [(0, "slow piano"), (0.7, "fast drums")], "duration_s": 1.5},
        {"prompt": None, "morph": ("slow", "fast"), "duration_s": 1.0},
        {"prompt": "Gr\u00fc\u00dfe, \u266b", "normalize": False, "duration_s": 0.7},
        {"prompt": "piano", "chords": ["Am", "F:2"], "bpm": 200},
    ],
)
def test_other_requests_are_made_again(tiny_pipeline, tmp_path, asked):
    tiny_pipeline(**asked, seed=3).save(tmp_path / "a.wav")
    assert tiny_pipeline.replay(tmp_path / "a.wav").differences == []


def test_each_piece_of_a_batch_has_its_own(tiny_pipeline, tmp_path):
    out = tiny_pipeline(["piano", "drums"], bpm=[100, 120], bars=1, seed=[5, 9], num_waveforms_per_prompt=2)
    assert [recipe["arguments"]["seed"] for recipe in out.recipes] == [5, 6, 9, 10] == out.seeds
    out.save(tmp_path / "third.flac", 2)
    again = tiny_pipeline.replay(tmp_path / "third.flac")
    assert again.conditions[0] == out.conditions[2]
    np.testing.assert_allclose(again.audios[0], out.audios[2], atol=1e-4)


def test_edits_need_their_audio(tiny_pipeline, tmp_path):
    audio = np.random.default_rng(0).standard_normal((2, 11025)).astype(np.float32) * 0.1
    mask = np.zeros(11025, bool)
    mask[4001:6003] = True
    for edit in ({"mask_s": mask}, {"strength": 0.5}, {"extend_s": (0.1, 0.5), "mask_s": [(0.2, 0.3)]}):
        tiny_pipeline("piano", audio=audio, sampling_rate=11025, seed=1, **edit).save(tmp_path / "edit.wav")
        assert tiny_pipeline.replay(tmp_path / "edit.wav", audio=audio).differences == []
    with pytest.raises(ValueError, match="audio is needed"):
        tiny_pipeline.replay(tmp_path / "edit.wav")
    with pytest.raises(ValueError, match="audio is not what the piece was made from"):
        tiny_pipeline.replay(tmp_path / "edit.wav", audio=audio[:, :-1])
    soundfile.write(tmp_path / "secret name.wav", audio.T, 11025, subtype="FLOAT")
    tiny_pipeline("piano", audio=tmp_path / "secret name.wav", strength=0.5, seed=1).save(tmp_path / "edit.wav")
    assert "secret" not in (tmp_path / "edit.wav").read_bytes().decode("latin1")
    assert tiny_pipeline.replay(tmp_path / "edit.wav", audio=tmp_path / "secret name.wav").differences == []


def test_it_says_what_differs(tiny_pipeline, tmp_path):
    tiny_pipeline(**ASKED).save(tmp_path / "song.wav")
    other = make_pipeline()
    with torch.no_grad():
        other.unet.conv_out.bias.add_(0.3)
    said = " ".join(other.replay(tmp_path / "song.wav").differences)
    assert "samples differ by up to" in said and "weights was" in said and "torch" not in said
    audio, rate = soundfile.read(tmp_path / "song.wav", dtype="float32", always_2d=True)
    write_audio(tmp_path / "cut.wav", audio[:-10].T, rate, read_recipe(tmp_path / "song.wav"))
    assert "the length was" in tiny_pipeline.replay(tmp_path / "cut.wav").differences[0]


def test_what_cannot_be_played_again(tiny_pipeline, tmp_path):
    soundfile.write(tmp_path / "plain.wav", np.zeros(100), 8000)
    (tmp_path / "text.wav").write_text("no audio")
    for path, words in (("plain.wav", "has no recipe"), ("text.wav", "cannot be read"), ("none.wav", "no such file")):
        with pytest.raises(ValueError, match=words):
            tiny_pipeline.replay(tmp_path / path)
    states, mask = tiny_pipeline.encode_prompt(["piano"], torch.device("cpu"))
    tiny_pipeline(prompt_embeds=states, prompt_attention_mask=mask).save(tmp_path / "embeds.wav")
    with pytest.raises(ValueError, match="made with prompt_embeds"):
        tiny_pipeline.replay(tmp_path / "embeds.wav")
    with pytest.raises(ValueError, match="latents"):
        tiny_pipeline("piano", output_type="latent").save(tmp_path / "latents.wav")
    with pytest.raises(ValueError, match=r"ends in \.wav, \.flac, \.mp3, \.ogg"):
        tiny_pipeline("piano").save(tmp_path / "song.aac")


LENGTHS = {1400: "a little over what libsndfile reads from a WAV", 30000: "more than it writes into one"}


@pytest.mark.parametrize("words", LENGTHS, ids=str)
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_recipe_of_any_length_is_read(tiny_pipeline, tmp_path, capsys, ending, words):
    path, prompt = tmp_path / f"song.{ending}", "piano " * words
    tiny_pipeline(prompt, seed=1, duration_s=0.5, num_inference_steps=1).save(path)
    assert read_recipe(path)["arguments"]["prompt"] == prompt
    assert tiny_pipeline.replay(path).differences == []
    assert soundfile.info(path).frames == 4000
    assert vivace(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["arguments"]["seed"] == 1


def test_a_comment_that_libsndfile_wrote_is_read_whole(tiny_pipeline, tmp_path):
    """As files of older versions hold it: in the header, before the samples."""
    recipe = {"arguments": {"prompt": "\u00e4" * 3000, "seed": 1}, "made_with": {}}
    with soundfile.SoundFile(tmp_path / "old.wav", "w", 8000, 1, "PCM_16") as file:
        file.comment = "vivace recipe " + json.dumps(recipe)
        file.write(np.zeros(101))
    with soundfile.SoundFile(tmp_path / "old.wav") as file:
        assert file.comment == ""  # else this test shows nothing
    assert read_recipe(tmp_path / "old.wav") == recipe


def test_damaged_and_foreign_recipes_are_refused_in_one_line(tiny_pipeline, tmp_path):
    path, good = tmp_path / "a.wav", {"prompt": "piano", "seed": 1}
    for recipe, words in (
        ([], "damaged recipe"), ({"made_with": {}}, "no arguments"), ({"arguments": good}, "no made_with"),
        ({"arguments": good | {"swing": 1}, "made_with": {}}, "this version has no argument swing"),
        ({"arguments": {"prompt": "piano"}, "made_with": {}}, "it has no seed"),
        ({"arguments": good | {"prompt": [1]}, "made_with": {}}, "its prompt is"),
        ({"arguments": good | {"prompt": None}, "made_with": {}}, "give exactly one"),
        ({"arguments": good, "made_with": {}, "audio": {}}, "does not say which audio"),
    ):  # fmt: skip
        with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as file:
            file.comment = "vivace recipe " + json.dumps(recipe)
            file.write(np.zeros(100))
        with pytest.raises(ValueError, match=words) as caught:
            tiny_pipeline.replay(path)
        assert "\n" not in str(caught.value)


def test_numbers_of_numpy_and_torch_are_those_of_python(tiny_pipeline, tmp_path):
    given = {
        "bars": np.int64(1), "bpm": np.array([96.5], np.float32), "seed": np.int64(3), "tilt_db": np.float32(2.5),
        "loop": np.bool_(False), "num_inference_steps": np.int32(2), "apg_eta": np.float32(0.25),
        "guidance_scale": torch.tensor([2.0]), "fade_in_s": np.float16(0.25),
    }  # fmt: skip
    out = tiny_pipeline("piano", **given)
    out.save(tmp_path / "a.wav")
    json.dumps(out.conditions)
    again = {name: np.asarray(value).reshape(-1)[0].item() for name, value in given.items()}
    np.testing.assert_array_equal(tiny_pipeline("piano", **again).audios, out.audios)
    assert tiny_pipeline.replay(tmp_path / "a.wav").differences == []
    audio = np.random.default_rng(0).standard_normal(8000).astype(np.float32) * 0.1
    edit = {"audio": audio, "sampling_rate": np.int64(8000), "seed": 1}
    for one in ({"strength": np.float32(0.5)}, {"extend_s": (np.float32(0), np.float64(0.5))}):
        tiny_pipeline("piano", **edit, **one).save(tmp_path / "a.wav")
        assert tiny_pipeline.replay(tmp_path / "a.wav", audio=audio).differences == []


def test_weights_are_read_once_and_only_when_a_piece_is_saved(tiny_pipeline, tmp_path, monkeypatch):
    read = []
    real = vivace_files.weights_hash
    monkeypatch.setattr(vivace_files, "weights_hash", lambda models: read.append(1) or real(models))

    def saved(out):
        out.save(tmp_path / "a.wav")
        return read_recipe(tmp_path / "a.wav")["made_with"]["weights"]

    first, second = tiny_pipeline("piano", seed=1), tiny_pipeline("piano", seed=2)
    assert read == []
    plain = saved(first)
    assert len(plain) == 16 and saved(second) == plain and read == [1]
    for parameter in tiny_pipeline.unet.parameters():  # as offloading moves them
        parameter.data = parameter.data.clone()
    assert saved(tiny_pipeline("piano", seed=1)) == plain and read == [1]
    before = tiny_pipeline("piano", seed=1)
    with torch.no_grad():
        tiny_pipeline.unet.conv_out.bias.add_(0.3)
    assert saved(first) == plain  # known before the change
    changed = tiny_pipeline("piano", seed=1)
    assert saved(changed) not in (plain, "unknown") and saved(before) in (plain, "unknown")
    old = tiny_pipeline.unet.conv_out.weight  # another tensor in its place, while the old one lives
    tiny_pipeline.unet.conv_out.weight = torch.nn.Parameter(2 * old)
    assert saved(tiny_pipeline("piano", seed=1)) not in (plain, saved(changed), "unknown")
    strange = SimpleNamespace(vae=object(), unet=None, text_encoder=None)  # nothing that has parameters
    assert vivace_files.Weights(strange).digest() == "unknown"
    other = make_pipeline()
    orphan = other("piano", seed=1)
    del other
    gc.collect()
    assert saved(orphan) == "unknown"  # an output does not keep a model in memory


def test_parts_that_cannot_be_read_do_not_take_the_piece_with_them(tiny_pipeline, tmp_path):
    whole = tiny_pipeline("piano", seed=1).audios
    accelerate.cpu_offload(tiny_pipeline.unet, torch.device("cpu"))
    assert next(tiny_pipeline.unet.parameters()).is_meta
    out = tiny_pipeline("piano", seed=1)
    out.save(tmp_path / "offloaded.wav")
    np.testing.assert_array_equal(out.audios, whole)
    assert read_recipe(tmp_path / "offloaded.wav")["made_with"]["weights"] == "unknown"
    assert tiny_pipeline.replay(tmp_path / "offloaded.wav").differences == []
    other = make_pipeline()
    other.text_encoder = torch.ao.quantization.quantize_dynamic(other.text_encoder, {torch.nn.Linear}, torch.qint8)
    other("piano", seed=1).save(tmp_path / "quantised.wav")
    assert read_recipe(tmp_path / "quantised.wav")["made_with"]["weights"] == "unknown"


def test_a_name_may_be_as_long_as_the_disk_takes_it(tiny_pipeline, tmp_path):
    path = tmp_path / ("m" * 251 + ".wav")
    tiny_pipeline("piano", seed=1, duration_s=0.5).save(path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert tiny_pipeline.replay(path).differences == []


def test_the_command_plays_it_again(tiny_checkpoint, tmp_path, capsys):
    first, second = tmp_path / "first.flac", tmp_path / "second.flac"
    place = ["--checkpoint", str(tiny_checkpoint)]
    timeline = ["--prompt", "slow piano, 120 bpm, 2 bars", "--at", "bar 2", "fast drums", "--tilt_db", "1"]
    assert vivace(["generate", *place, *timeline, "--out", str(first)]) == 0
    capsys.readouterr()
    assert vivace(["replay", str(first), *place, "--out", str(second)]) == 0
    assert "replay      equal to the file, bit for bit" in capsys.readouterr().out
    assert first.read_bytes() == second.read_bytes()
    with pytest.raises(SystemExit):
        vivace(["replay", str(first), *place, "--bpm", "90"])
    assert "there is no argument --bpm" in capsys.readouterr().err
    vivace(["edit", *place, "--prompt", "piano", "--audio", str(first), "--mask_s", "1:2", "--out", str(second)])
    (kept, rate), (edited, _) = soundfile.read(first, dtype="int16"), soundfile.read(second, dtype="int16")
    assert len(kept) == len(edited) == 4 * rate
    np.testing.assert_array_equal(kept[:rate], edited[:rate])
    np.testing.assert_array_equal(kept[2 * rate :], edited[2 * rate :])
