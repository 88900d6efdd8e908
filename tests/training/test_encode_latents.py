"""Stage 2: what of an older set is kept, what is made, and that the result is always as from scratch."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from autoencoder.autoencoder_encodec import AutoencoderEncodec
from autoencoder.autoencoder_vivace import AutoencoderVivace
from pipelines.vivace_process import encode_texts
from tests.helpers.latent_sets import (
    ALL_KEPT,
    CHANGES,
    Inputs,
    another_encoder,
    another_text_encoder,
    contents,
    data_changed,
    make_autoencoder,
    make_base,
    read_shard,
    run,
)
from training import encode_latents
from training.data.clips import read_rows
from training.data.latents import LatentCrops


@pytest.fixture(scope="module")
def base(tiny_data, tiny_text_encoder, tmp_path_factory) -> tuple[Inputs, Path]:
    """Inputs and the set made from them; copy the set before changing it."""
    return make_base(tmp_path_factory.mktemp("base"), tiny_data, tiny_text_encoder)


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_kept_and_what_is_made_give_what_a_run_from_scratch_gives(change, base, tmp_path):
    inputs, latents = base
    make, expected = CHANGES[change]
    changed = make(inputs, tmp_path)
    run(changed, tmp_path / "scratch")
    before = contents(latents)
    assert run(changed, tmp_path / "other", reuse_from=latents) == expected
    assert contents(latents) == before  # what is reused stays as it is
    shutil.copytree(latents, tmp_path / "in_place")
    assert run(changed, tmp_path / "in_place") == expected
    scratch = contents(tmp_path / "scratch")
    assert len([name for name in scratch if name.startswith("train/")]) == (2 if change == "fewer clips" else 3)
    assert contents(tmp_path / "other") == scratch
    assert contents(tmp_path / "in_place") == scratch
    assert (scratch == before) == (change in ("nothing", "folders elsewhere"))


def test_channels_are_as_large_as_what_hangs_on_them(base, tmp_path):
    inputs, _ = base
    model = make_autoencoder(7)
    with torch.no_grad():  # channel 1 is not decoded at all, channel 2 much more strongly than before
        for layer in (model.decoder_linear, model.decoder_in):
            layer.weight[:, 1] = 0.0
            layer.weight[:, 2] *= 30.0
    model.save_pretrained(tmp_path / "vae")
    changed = replace(inputs, autoencoder=tmp_path / "vae")
    run(changed, tmp_path / "whole", importance=1.0)
    run(changed, tmp_path / "half", importance=0.5)
    run(changed, tmp_path / "alike")
    whole, half, alike = (LatentCrops(str(tmp_path / name), "train", 32).std for name in ("whole", "half", "alike"))
    scales = alike / whole
    assert scales[1] == pytest.approx(1.0) and scales[2] == scales.max() and 1.2 < float(scales[2]) <= 2.0
    assert float(scales.min()) >= 1.0 - 1e-6
    torch.testing.assert_close((alike / half)[2], scales[2].sqrt(), rtol=1e-5, atol=0)


def mark(folder: Path, array: str) -> None:
    """Move an array of every shard by one, under the same keys: what is kept can be told from what is made."""
    for path in folder.glob("*/0*.safetensors"):
        arrays, told = read_shard(path)
        save_file(arrays | {array: arrays[array] + 1}, path, metadata=told)


@pytest.mark.parametrize("array, change", [("latents_mean", another_encoder), ("text", another_text_encoder)])
def test_kept_arrays_are_those_of_the_older_shards_and_made_ones_are_not(array, change, base, tmp_path):
    inputs, latents = base
    shutil.copytree(latents, tmp_path / "marked")
    mark(tmp_path / "marked", array)
    name = "train/00001.safetensors"
    marked, plain = contents(tmp_path / "marked")[name][array], contents(latents)[name][array]
    assert marked != plain
    run(inputs, tmp_path / "same", reuse_from=tmp_path / "marked")
    assert contents(tmp_path / "same")[name][array] == marked
    changed = change(inputs, tmp_path)
    run(changed, tmp_path / "scratch")
    run(changed, tmp_path / "changed", reuse_from=tmp_path / "marked")
    assert contents(tmp_path / "changed") == contents(tmp_path / "scratch")


def test_the_folder_itself_comes_before_another(base, tmp_path):
    """A run on two older folders takes from each what holds: here all audio from one and all texts from the other."""
    inputs, latents = base
    run(another_encoder(inputs, tmp_path), tmp_path / "output")
    retold = another_text_encoder(inputs, tmp_path)
    run(replace(retold, autoencoder=tmp_path / "vae"), tmp_path / "output")
    assert run(retold, tmp_path / "output", reuse_from=latents) == ALL_KEPT
    run(retold, tmp_path / "scratch")
    assert contents(tmp_path / "output") == contents(tmp_path / "scratch")


def test_a_second_run_writes_no_shard(base, tmp_path):
    inputs, latents = base
    shutil.copytree(latents, tmp_path / "latents")
    before = {path: path.stat().st_ino for path in (tmp_path / "latents").glob("*/0*.safetensors")}
    run(inputs, tmp_path / "latents")
    assert {path: path.stat().st_ino for path in before} == before and len(before) == 5


class Killed(Exception):
    pass


def test_an_interrupted_run_goes_on_and_nobody_trains_on_half_of_it(base, tmp_path, monkeypatch):
    inputs, latents = base
    retold = another_text_encoder(inputs, tmp_path)
    run(retold, tmp_path / "scratch")
    shutil.copytree(latents, tmp_path / "latents")
    plain, calls = encode_latents.encode_texts, []

    def dies(*arguments):
        calls.append(len(arguments[2]))
        if len(calls) == 3:
            raise Killed
        return plain(*arguments)

    monkeypatch.setattr(encode_latents, "encode_texts", dies)
    with pytest.raises(Killed):
        run(retold, tmp_path / "latents")
    (tmp_path / "latents" / "train" / "00002.safetensors.partial").write_bytes(b"the disk was full")
    with pytest.raises(ValueError, match="no encoded train split there; make it with"):
        LatentCrops(str(tmp_path / "latents"), "train", crop_frames=50)
    assert run(retold, tmp_path / "latents") == {"audio kept": 10, "text made": 6, "text kept": 4}
    assert calls == [4] * (3 + 3)  # four captions a shard: two shards before, none of them again
    assert contents(tmp_path / "latents") == contents(tmp_path / "scratch")
    assert len(LatentCrops(str(tmp_path / "latents"), "train", crop_frames=50)) == 6


def test_a_damaged_shard_is_made_anew(base, tmp_path):
    inputs, latents = base
    shutil.copytree(latents, tmp_path / "latents")
    shard = tmp_path / "latents" / "train" / "00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert run(inputs, tmp_path / "latents") == {"audio made": 2, "audio kept": 8, "text made": 2, "text kept": 8}
    assert contents(tmp_path / "latents") == contents(latents)


def test_clips_without_a_caption_are_encoded_as_without_text(base, tmp_path, capsys):
    """No tokens, for which the network has its null text; captions beside blank ones are as in a run without these."""
    inputs, latents = base

    def silenced(rows: list[dict], _: Path) -> None:
        rows[0]["text"], rows[1]["text"] = [], [" "]  # the first shard has no text at all
        rows[3]["text"].insert(1, "")
        del rows[4]["text"]

    run(data_changed(silenced)(inputs, tmp_path), tmp_path / "latents")
    assert "note: 3 of 6 clips of the train split have no caption" in capsys.readouterr().out
    crops = LatentCrops(str(tmp_path / "latents"), "train", crop_frames=50)
    plain = LatentCrops(str(latents), "train", crop_frames=50)
    for index in range(6):
        mine, other = (c.read(index, np.random.default_rng(index)) for c in (crops, plain))
        assert mine["text_mask"].any() == (index not in (0, 1, 4))
        assert mine["latents"].equal(other["latents"])
        if index not in (0, 1, 4):
            assert mine["text"].equal(other["text"]) and mine["text_mask"].equal(other["text_mask"])


def test_beats_without_bars_are_a_grid_without_a_bar_phase(base, tmp_path):
    inputs, latents = base

    def unbarred(rows: list[dict], _: Path) -> None:
        rows[0]["downbeat_s"] = None
        rows[1] |= {"downbeat_s": None, "beats_s": None}

    run(data_changed(unbarred)(inputs, tmp_path), tmp_path / "latents")
    crops = LatentCrops(str(tmp_path / "latents"), "train", crop_frames=30)
    plain = LatentCrops(str(latents), "train", crop_frames=30)
    mine, whole = (c.read(0, np.random.default_rng(0))["grid"] for c in (crops, plain))
    assert whole[6:8].any() and not mine[6:8].any()
    others = [channel for channel in range(22) if channel not in (6, 7)]  # beats, chords, and that both are known
    assert torch.allclose(mine[others], whole[others], atol=1e-5) and mine[20].all() and mine[21].any()
    assert not crops.read(1, np.random.default_rng(0))["grid"].any()


def test_rows_by_hand_need_a_file_name_alone(base, tmp_path):
    """What a row lacks is unknown; a BOM, an empty line and U+2028 in a text are no fault."""
    inputs, _ = base
    data = tmp_path / "data"
    shutil.copytree(inputs.data_dir, data)
    lines = ['{"file_name": "0.flac"}', "", '{"file_name": "1.flac", "text": "slow\u2028piano", "bpm": 90}']
    (data / "train" / "metadata.jsonl").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    first, second = read_rows(data, "train")
    assert first["duration_s"] == 2.0 and first["sampling_rate"] == 24000 and first["key"] is None
    assert second["text"] == ["slow\u2028piano"] and second["bpm"] == 90
    run(replace(inputs, data_dir=data), tmp_path / "latents")
    crops = LatentCrops(str(tmp_path / "latents"), "train", crop_frames=50)
    items = [crops.read(index, np.random.default_rng(0)) for index in range(2)]
    assert [bool(item["text_mask"].any()) for item in items] == [False, True]
    assert items[0]["bpm"].isnan() and items[1]["bpm"] == 90 and items[0]["key"] == -1
    (data / "train" / "metadata.jsonl").write_text('{"file": "0.flac"}\n')
    with pytest.raises(ValueError, match=r"metadata\.jsonl line 1 has no file_name"):
        read_rows(data, "train")


def test_another_sampling_rate_is_named_before_anything_is_encoded(base, tmp_path):
    def rate_moved(rows: list[dict], _: Path) -> None:
        rows[2]["sampling_rate"] = 44100

    changed = data_changed(rate_moved)(base[0], tmp_path)
    with pytest.raises(ValueError, match=r"2\.flac of the train split has 44100 Hz; needed: 24000"):
        run(changed, tmp_path / "latents")
    assert not list((tmp_path / "latents").rglob("*.safetensors"))


def test_a_folder_without_latents_is_named(base, tmp_path):
    with pytest.raises(ValueError, match=r"reuse_from .*none: no latents there; allowed: a folder of this command"):
        run(base[0], tmp_path / "latents", reuse_from=tmp_path / "none")
    assert not (tmp_path / "latents").exists()


@pytest.mark.slow
def test_two_processes_share_the_work_and_count_together(base, tmp_path):
    inputs, _ = base
    run(inputs, tmp_path / "before", shard_clips=256)  # as the processes have it
    retold = another_text_encoder(inputs, tmp_path)
    run(retold, tmp_path / "scratch", shard_clips=256)
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    words += ["training.encode_latents", *retold.arguments(tmp_path / "latents", tmp_path / "before")]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[:3] == [
        f"{split}: audio kept {clips}, text made {clips} clips"
        for split, clips in (("train", 6), ("validation", 2), ("test", 2))
    ]
    assert contents(tmp_path / "latents") == contents(tmp_path / "scratch")


# ---- what the keys rest on ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [AutoencoderVivace, AutoencoderEncodec])
def test_latents_depend_on_no_weight_but_the_encoder_s(kind):
    torch.manual_seed(0)
    vae = make_autoencoder() if kind is AutoencoderVivace else AutoencoderEncodec(num_filters=2, latent_channels=4)
    vae.eval()
    audio = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (1, 1, 9600)).astype(np.float32))
    with torch.no_grad():
        before = vae.encode(audio).latent_dist.mean
        for name, value in vae.named_parameters():
            if not name.startswith("encoder"):
                value.add_(1.0)
        assert vae.encode(audio).latent_dist.mean.equal(before)
        for name, value in vae.named_parameters():
            if name.startswith("encoder"):
                value.add_(0.1)
        assert not vae.encode(audio).latent_dist.mean.equal(before)


@pytest.mark.parametrize("words", [8, 50, 80])
def test_training_reads_as_many_tokens_of_a_caption_as_the_pipeline(words, base, tmp_path):
    """Up to the tokenizer's limit of 64, in the same states."""
    inputs, _ = base
    caption = " ".join(["slow", "calm", "jazz", "piano", "drums"][i % 5] for i in range(words))
    run(data_changed(lambda rows, at: [row | {"text": [caption]} for row in rows])(inputs, tmp_path), tmp_path / "made")
    item = LatentCrops(str(tmp_path / "made"), "train", 16).read(0, np.random.default_rng(0))
    parts = encode_latents.load_text_encoder(str(inputs.text_encoder))
    with torch.no_grad():
        states, mask = encode_texts(*parts, [caption], torch.device("cpu"))
    assert int(item["text_mask"].sum()) == int(mask.sum()) == min(words, 64)
    torch.testing.assert_close(item["text"][item["text_mask"]], states[0], atol=2e-3, rtol=2e-3)
