"""A whole evaluation of a tiny pipeline on four synthetic clips, and what it says of bad input."""

import json

import numpy as np
import pytest
import soundfile
from synthetic_clips import RATE, SECONDS, clicks, row, tones

from training import ask, evaluate, train_beat_tracker, train_tagger
from training.metrics.control import NAMES


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Four labelled clips a split: clicks over chords at four tempi, one without chords and key."""
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "validation", "test"):
        folder = root / split
        folder.mkdir()
        rows = []
        for index, bpm in enumerate((90.0, 100.0, 120.0, 140.0)):
            drums = index % 2 == 0
            audio = tones(["C", "F", "G", "C"], 60.0 / bpm) + (clicks(bpm) if drums else 0.0)
            soundfile.write(folder / f"{index}.flac", audio, RATE)
            labels = {"file_name": f"{index}.flac", "sampling_rate": RATE, "drums": drums}
            labels |= {"text": ["slow piano", "fast jazz drums"], "text_heldout": ["calm"]}
            labels |= {"instruments": ["piano", "drum machine"] if drums else ["piano"]}
            if index == 3:
                labels |= {"key": None, "chords": None, "chord_symbols": None}
            rows.append(row(bpm, **labels))
        (folder / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return root


@pytest.fixture(scope="module")
def tracker_dir(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracker")
    words = ["--data_dir", str(data_dir), "--output_dir", str(folder), "--width", "8", "--batch_size", "8"]
    assert train_beat_tracker.main([*words, "--max_steps", "40", "--learning_rate", "0.01", "--crop_s", "4"]) == 0
    return folder


@pytest.fixture(scope="module")
def tagger_dir(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger")
    words = ["--data_dir", str(data_dir), "--output_dir", str(folder)]
    assert train_tagger.main([*words, "--max_steps", "3", "--min_clips", "2", "--batch_size", "4"]) == 0
    return folder


def run(tiny_checkpoint, data_dir, *words: str) -> int:
    return evaluate.main(
        ["--checkpoint", str(tiny_checkpoint), "--data_dir", str(data_dir), "--num_workers", "0", *words]
    )


def test_end_to_end(tiny_checkpoint, data_dir, tagger_dir, tracker_dir, tmp_path, capsys):
    output, kept = tmp_path / "runs" / "e.json", tmp_path / "kept"
    words = ["--output", str(output), "--num_clips", "4", "--tagger", str(tagger_dir), "--batch_size", "3"]
    words += ["--beat_tracker", str(tracker_dir)]
    assert run(tiny_checkpoint, data_dir, *words, "--audio_dir", str(kept), "--num_inference_steps", "2") == 0
    result = json.loads(output.read_text())
    assert set(result["control"]) == set(NAMES)
    counts = {name: by_source["oracle"]["n"] for name, by_source in result["control"].items()}
    assert counts["beat_f"] == 4 and counts["key_exact"] == counts["chord_cosine"] == 3
    assert result["missing_labels"] == {
        "bpm": 0, "beats_s": 0, "key": 1, "chords": 1, "instruments": 0, "drums": 0, "style": 0
    }  # fmt: skip
    assert result["control"]["chord_cosine"]["oracle"]["mean"] > 0.8
    assert result["autoencoder"]["log_mel"]["reconstructed"]["n"] == 4
    assert len(result["checkpoint_sha256"]) == 64 and result["versions"]["librosa"] and result["wall_s"]["all"] > 0
    assert result["listeners"]["tagger"]["name"] and len(result["per_clip"]) == 4
    first = soundfile.info(kept / "0.wav")
    assert first.duration == pytest.approx(SECONDS) and len(list(kept.iterdir())) == 4
    printed = capsys.readouterr().out
    assert "oracle" in printed and "labels missing" in printed and str(output) in printed

    assert run(tiny_checkpoint, data_dir, *words, "--num_inference_steps", "2") == 0
    again = json.loads(output.read_text())
    assert again["control"] == result["control"] and again["per_clip"] == result["per_clip"]


def test_asking_is_deterministic(data_dir):
    rows = evaluate.read_rows(data_dir, "test")
    assert ask.choose(rows, 2, 5) == ask.choose(rows, 2, 5)
    assert len(ask.choose(rows, 99, 0)) == 4
    assert ask.caption(rows[0], "text", 0, 1) in rows[0]["text"]
    with pytest.raises(ValueError, match="no text_heldout"):
        ask.caption({"file_name": "a"}, "text_heldout", 0, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--split", "nowhere"], "no nowhere/metadata.jsonl"),
        (["--num_clips", "0"], "num_clips is 0"),
        (["--captions", "poems"], "captions is 'poems'"),
        (["--checkpoint", "missing/folder"], "no such folder"),
        (["--output", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_line(tiny_checkpoint, data_dir, capsys, words, said):
    assert run(tiny_checkpoint, data_dir, *words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_an_unreadable_clip_is_named(tiny_checkpoint, data_dir, tmp_path, capsys):
    folder = tmp_path / "test"
    folder.mkdir()
    (folder / "0.flac").write_bytes(b"not audio")
    (folder / "metadata.jsonl").write_text(json.dumps(row(text=["slow"], file_name="0.flac")) + "\n")
    assert run(tiny_checkpoint, tmp_path, "--output", str(tmp_path / "e.json")) == 2
    assert "0.flac: cannot be read" in capsys.readouterr().err
    assert not (tmp_path / "e.json").exists()


def test_no_tagger_leaves_instruments_out(tiny_checkpoint, data_dir, tmp_path, capsys):
    output = tmp_path / "e.json"
    words = ["--num_clips", "2", "--num_inference_steps", "1", "--captions", "text_heldout"]
    words += ["--tagger", str(tmp_path / "none"), "--beat_tracker", str(tmp_path / "none")]
    assert run(tiny_checkpoint, data_dir, *words, "--output", str(output)) == 0
    result = json.loads(output.read_text())
    assert result["listeners"] == {} and result["control"]["style"]["generated"]["n"] == 0
    assert (
        result["control"]["beat_f"]["generated"]["n"] == 0 and result["control"]["beat_f_librosa"]["oracle"]["n"] == 2
    )
    assert "left out" in capsys.readouterr().out
    assert all(np.isfinite(v["generated"]["mean"]) for v in result["signal"].values())
