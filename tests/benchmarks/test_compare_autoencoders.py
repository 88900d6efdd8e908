"""The comparison of autoencoders: every variant is one that can be trained, and a row holds what was measured."""

import dataclasses
import json

import pytest

from autoencoder.classes import autoencoder_class
from benchmarks import autoencoders
from benchmarks.autoencoders import CONFIGS, VARIANTS, Variant
from training.config import AutoencoderRun, load_model_config

TINY = {"dim": 16, "encoder_layers": 1, "decoder_layers": 1, "latent_channels": 4, "phase_iterations": 2}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_trainable_and_hear_equally_much(name):
    variant = VARIANTS[name]
    kind = autoencoder_class(CONFIGS / variant.base)
    model = kind(**load_model_config(str(CONFIGS / variant.base), kind) | variant.model)
    assert set(variant.run) <= {f.name for f in dataclasses.fields(AutoencoderRun)}
    assert variant.run.get("crop_frames", 32) / model.frame_rate == pytest.approx(1.28)


def test_trained_by_cpu_time_and_measured(tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(VARIANTS, "vivace", Variant(model=TINY, run={"pca_clips": 4}))
    words = ["--data_dir", str(tiny_data), "--minutes", "0.005", "--batch_size", "4", "--clips", "1"]
    assert autoencoders.main(["--variants", "vivace", "--recordings", str(tiny_data), *words]) == 0
    printed = capsys.readouterr()
    row = json.loads(next(line for line in printed.err.splitlines() if line.startswith("{")))
    assert row["steps"] >= 1 and row["latents"] == "4 x 25 Hz" and row["log_mel"] > 0 and row["mr_stft"] > 0
    assert row["trained_s_per_cpu_s"] == pytest.approx(row["steps"] * 4 * 1.28 / 0.3)
    assert row["log_mel_recordings"] == row["log_mel"] and row["mr_stft_recordings"] == row["mr_stft"]  # the same clips
    assert f"| {row['parameters']} | 4 x 25 Hz |" in printed.out


def test_the_table_leaves_empty_what_a_row_does_not_have():
    lines = autoencoders.table([{"variant": "a", "steps": 3}, {"variant": "b", "log_mel": 0.12345}]).splitlines()
    assert lines[0] == "| variant | steps | log_mel |" and lines[2:] == ["| a | 3 |  |", "| b |  | 0.123 |"]


def test_bad_arguments_are_named(capsys):
    for words in ([], ["--phases", "0"], ["--variants", "vivace", "--minutes", "0"]):
        with pytest.raises(SystemExit) as stop:
            autoencoders.main(words)
        assert stop.value.code == 2
    assert "give --phases, or --variants of vivace" in capsys.readouterr().err
