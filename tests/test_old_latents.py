"""Sets of latents from before their parts had keys: kept as far as their one key proves them, and no further."""

import json
import shutil
from pathlib import Path

import pytest
from latent_sets import ALL_KEPT, CHANGES, Inputs, contents, make_base, read_shard, run
from safetensors.torch import save_file

from autoencoder.autoencoder_vivace import AutoencoderVivace
from training import encode_latents
from training.data.clips import read_rows
from training.data.latent_shards import fingerprint, models_fingerprint


@pytest.fixture(scope="module")
def base(tiny_data, tiny_text_encoder, tmp_path_factory) -> tuple[Inputs, Path]:
    """Inputs and the set made from them; copy the set before changing it."""
    return make_base(tmp_path_factory.mktemp("base"), tiny_data, tiny_text_encoder)


def to_old_form(folder: Path, inputs: Inputs) -> None:
    """Name in every shard what was named until November 2026: one key of models, clips and labels together."""
    vae = AutoencoderVivace.from_pretrained(inputs.autoencoder)
    encoder, _ = encode_latents.load_text_encoder(str(inputs.text_encoder))
    models = models_fingerprint(vae, encoder)
    for split in ("train", "validation", "test"):
        rows = read_rows(inputs.data_dir, split)
        for path in sorted((folder / split).glob("*.safetensors")):
            first = 2 * int(path.stem)
            told = [{k: v for k, v in row.items() if k != "path"} for row in rows[first : first + 2]]
            clips = [Path(row["path"]).read_bytes() for row in rows[first : first + 2]]
            pairs = zip(clips, told, strict=True)
            key = fingerprint(models, *(part for clip, row in pairs for part in (clip, json.dumps(row))))
            save_file(read_shard(path)[0], path, metadata={"key": key, "models": models, "rows": json.dumps(told)})


@pytest.fixture(scope="module")
def old(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "latents"
    shutil.copytree(base[1], folder)
    to_old_form(folder, base[0])
    return folder


# An old key tells both models together, so that another decoder too costs a new text part; never the audio part.
AUDIO_KEPT = {"audio kept": 10, "text made": 10}
OLD = {
    "nothing": ALL_KEPT, "folders elsewhere": ALL_KEPT, "text encoder": AUDIO_KEPT, "longest caption": AUDIO_KEPT,
    "encoder": {"audio made": 10, "text made": 10}, "setting of the encoder": {"audio made": 10, "text made": 10},
    "decoder": AUDIO_KEPT, "captions of a clip": {"audio kept": 10, "text made": 2, "text kept": 8},
    "whose caption it is": {"audio kept": 10, "text made": 2, "text kept": 8}, "label": ALL_KEPT,
    "crop of a clip": {"audio made": 2, "audio kept": 8, "text kept": 10},
    "format of a clip": {"audio made": 2, "audio kept": 8, "text kept": 10},
    "order in a shard": {"audio made": 2, "audio kept": 8, "text kept": 10},
    "fewer clips": {"audio made": 1, "audio kept": 6, "text made": 1, "text kept": 6},
}  # fmt: skip


@pytest.mark.parametrize("change", OLD)
def test_old_sets_are_kept_as_far_as_their_key_proves_them(change, base, old, tmp_path):
    changed = CHANGES[change][0](base[0], tmp_path)
    run(changed, tmp_path / "scratch")
    shutil.copytree(old, tmp_path / "in_place")
    assert run(changed, tmp_path / "in_place") == OLD[change]
    assert run(changed, tmp_path / "other", reuse_from=old) == OLD[change]
    assert contents(tmp_path / "other") == contents(tmp_path / "scratch")
    if change in ("nothing", "folders elsewhere"):
        assert contents(tmp_path / "in_place") == contents(old)  # a finished set is not touched
        return
    here, there = contents(tmp_path / "in_place"), contents(tmp_path / "scratch")
    assert here.keys() == there.keys()
    for name, wanted in there.items():
        if name.startswith(("train", "validation", "test")):  # one that is as wanted keeps its old key
            assert here[name].pop("metadata")["rows"] == wanted.pop("metadata")["rows"]
        assert here[name] == wanted


@pytest.mark.parametrize("lost", ["latents.json", "vae", "statistics", "key"])
def test_an_old_set_that_proves_nothing_gives_nothing(lost, base, old, tmp_path):
    shutil.copytree(old, tmp_path / "old")
    if lost == "latents.json":
        (tmp_path / "old" / "latents.json").unlink()
    elif lost == "vae":
        shutil.rmtree(tmp_path / "old" / "vae")
    elif lost == "statistics":  # vae/ was written by a run that was killed before it wrote latents.json
        config = tmp_path / "old" / "vae" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"latents_mean": [0.0] * 4}))
    else:
        for path in (tmp_path / "old").glob("*/0*.safetensors"):
            arrays, told = read_shard(path)
            save_file(arrays, path, metadata=told | {"key": "retold"})
    told = run(base[0], tmp_path / "new", reuse_from=tmp_path / "old")
    assert told["audio made"] == 10 and "audio kept" not in told
    assert contents(tmp_path / "new") == contents(base[1])
