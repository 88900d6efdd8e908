"""The trial of latents by generation: a variant goes through all stages, and what is compared is the sound."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from benchmarks import latent_trial
from benchmarks.autoencoders import VARIANTS, Variant
from benchmarks.latent_trial import SHOWN, Judge, write_subset
from training.data.clips import read_audio, read_rows
from training.metrics.listening import Listeners

TINY = {"dim": 16, "encoder_layers": 1, "decoder_layers": 1, "latent_channels": 6, "phase_iterations": 2}


@pytest.fixture(scope="module")
def data(tiny_data, tmp_path_factory):
    """The tiny data, with eight validation clips."""
    folder = tmp_path_factory.mktemp("trial") / "data"
    shutil.copytree(tiny_data, folder)
    shutil.copytree(tiny_data / "train", folder / "validation" / "more")
    with open(folder / "validation" / "metadata.jsonl", "a") as lines:
        for line in (tiny_data / "train" / "metadata.jsonl").read_text().splitlines():
            row = json.loads(line)
            lines.write(json.dumps(row | {"file_name": f"more/{row['file_name']}"}) + "\n")
    return folder


def test_a_variant_is_trained_generated_from_and_heard(data, tiny_text_encoder, monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, "vivace", Variant(model=TINY, run={"pca_clips": 2}))
    words = {
        "variants": "vivace", "data_dir": data, "text_encoder": tiny_text_encoder, "minutes": 0.003, "batch_size": 2,
        "unet_minutes": 0.01, "unet_config": "training/configs/tiny/unet.json", "train_clips": 3, "clips": 3,
    }  # fmt: skip
    assert latent_trial.main([str(w) for name, value in words.items() for w in (f"--{name}", value)]) == 0
    printed = capsys.readouterr()
    real, row = (json.loads(line) for line in printed.err.splitlines() if line.startswith("{"))
    assert real["variant"] == "real" and real["kernel_low"] <= real["kernel"] <= real["kernel_high"]
    assert row["latents"] == "6 x 25 Hz" and row["vae_steps"] >= 1 and row["unet_steps"] >= 1
    assert row["log_mel"] > 0.0 and np.isfinite([row["ceiling"], row["kernel"]]).all()
    assert {"tempo_4pct", "beat_f", "key_exact"} <= set(row) & set(SHOWN)
    assert "| vivace | 6 x 25 Hz |" in printed.out and printed.out.splitlines()[-1].startswith("| real |")


def test_distance_tells_noise_from_the_clips_themselves(data):
    judge = Judge(str(data), 4, Listeners())
    assert len(judge.rows) == len(judge.reference) == 4
    noise = [np.random.default_rng(i).uniform(-1.0, 1.0, 48000).astype(np.float32) for i in range(4)]
    found = judge.figures(noise)
    assert found["kernel"] > 2.0 * abs(judge.distance(judge.asked.mono)["kernel"])
    assert "tempo_4pct" not in found  # nobody listened for it
    with pytest.raises(ValueError, match="clips is 7; allowed: at most 2 less than the 8 validation clips"):
        Judge(str(data), 7, Listeners())


def test_the_subset_holds_the_audio_and_labels_of_what_was_drawn(data, tmp_path):
    asked = read_rows(data, "validation")[-2:]
    write_subset(tmp_path, str(data), 4, asked)
    drawn = read_rows(tmp_path, "train")
    whole = {row["bpm"]: row for row in read_rows(data, "train")}
    assert len(drawn) == 4 and len({row["bpm"] for row in drawn}) == 4
    for row in drawn:
        assert read_audio(row).equal(read_audio(whole[row["bpm"]])) and row["beats_s"] == whole[row["bpm"]]["beats_s"]
    assert [row["bpm"] for row in read_rows(tmp_path, "validation")] == [row["bpm"] for row in asked]
    assert soundfile.info(read_rows(tmp_path, "test")[0]["path"]).frames == 48000


def test_bad_arguments_are_named(capsys):
    for words in (["--clips", "1"], ["--unet_minutes", "0"], ["--train_clips", "0"]):
        with pytest.raises(SystemExit) as stop:
            latent_trial.main(["--variants", "vivace", *words])
        assert stop.value.code == 2
    assert "must be above 0, and --clips above 1" in capsys.readouterr().err
