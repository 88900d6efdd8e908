"""Prepare as a command: every file's fate, what comes out, and that no interruption leaves something half done."""

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT
from tests.helpers.synthetic_clips import RATE
from tests.training.data.prepare.test_prepare import encoded, music
from training.config import command
from training.data.clips import SPLITS, read_audio, read_rows
from training.data.prepare import build as building
from training.data.prepare.__main__ import main
from training.data.prepare.build import _assign_splits, do_item
from training.data.prepare.settings import Settings
from training.metrics.signal import loudness

FAST = ["--no-labels", "--num_workers", "1", "--clip_s", "5", "--min_s", "2"]


def write_collection(folder: Path) -> None:
    """Six good songs, and one of each kind of broken file."""
    folder.mkdir()
    for number in range(6):
        (folder / f"song_{'abcdef'[number]}.flac").write_bytes(encoded(music(number), "FLAC"))
    good = music(0)
    files = {
        "noise.mp3": bytes(range(256)) * 40, "empty.wav": b"", "short.wav": encoded(good[:RATE], "WAV"),
        "silent.wav": encoded(0 * good, "WAV"), "clipped.wav": encoded(np.clip(9 * music(7), -1, 1), "WAV"),
        "offset.wav": encoded(0.4 * music(8) + 0.1, "WAV"), "copy.flac": encoded(good, "FLAC"),
        "quiet_copy.mp3": encoded(0.2 * music(1), "MP3"), "stereo.wav": encoded(np.stack([music(9)] * 2, 1), "WAV"),
        "named_wrongly.wav": encoded(music(10), "OGG"), "cut_off.flac": encoded(music(11), "FLAC")[:120_000],
        "cover.jpg": b"\xff\xd8junk", "lonely.txt": b"nobody", "song_a.txt": b"a first caption\na second",
        "song_b.txt": "m\u00e9lodie".encode("latin-1"),
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "outside.flac").symlink_to(folder.parent / "elsewhere.flac")
    (folder.parent / "elsewhere.flac").write_bytes(encoded(music(12), "FLAC"))


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepare")
    write_collection(root / "in")
    before = hashes(root / "in")
    report = main([str(root / "in"), "--output_dir", str(root / "out"), "--license", "CC0", *FAST])
    assert hashes(root / "in") == before  # originals are never touched
    return root, report


def test_every_file_has_its_fate(prepared):
    root, report = prepared
    files = {entry["name"]: entry for entry in report["files"]}
    assert set(files) == {path.name for path in (root / "in").iterdir()} - {"song_a.txt", "song_b.txt"}
    assert {name: entry["fate"] for name, entry in files.items() if not name.startswith("song")} == {
        "noise.mp3": "unreadable", "empty.wav": "unreadable", "short.wav": "too short", "silent.wav": "silent",
        "clipped.wav": "clipped", "offset.wav": "kept", "copy.flac": "kept", "quiet_copy.mp3": "duplicate",
        "stereo.wav": "kept", "named_wrongly.wav": "kept", "cut_off.flac": "kept", "cover.jpg": "ignored",
        "lonely.txt": "ignored", "outside.flac": "refused",
    }  # fmt: skip
    assert files["song_a.flac"]["reason"] == "the same bytes as copy.flac"  # of equal ones the first by name stays
    assert files["quiet_copy.mp3"]["reason"].endswith("song_b.flac")
    notes = {name: " ".join(entry["notes"]) for name, entry in files.items()}
    assert "DC offset of 0.100 taken out" in notes["offset.wav"] and "mono as stereo" in notes["stereo.wav"]
    assert "wrong extension: .wav, but it is OGG" in notes["named_wrongly.wav"] and "truncated" in notes["cut_off.flac"]
    assert "song_b.txt is not UTF-8" in notes["song_b.flac"]
    page = (root / "out/report.html").read_text()
    assert all(name in page for name in files) and json.loads((root / "out/report.json").read_text()) == report


def test_rows_are_those_that_training_reads(prepared):
    root, report = prepared
    works: dict[str, set] = {}
    for split in SPLITS:
        rows = read_rows(root / "out", split)
        assert len(rows) == report["splits"][split]["clips"]
        works[split] = {row["work"] for row in rows}
        for row in rows:
            audio = read_audio(row)
            assert audio.shape == (1, round(row["duration_s"] * row["sampling_rate"])) and row["sampling_rate"] == RATE
            assert 2.0 <= row["duration_s"] <= 5.0 and row["license"] == "CC0"
            assert row["bpm"] is None and row["beats_s"] is None and row["key"] is None and row["chords"] is None
            assert len(row["text"]) == len(row["stated"]) >= 1
            assert abs(audio.mean()) < 1e-3  # the offset is gone
    assert not works["train"] & works["test"] and not works["train"] & works["validation"]
    levels = [loudness(read_audio(row).numpy(), RATE) for row in read_rows(root / "out", "train")]
    assert np.median(levels) == pytest.approx(-18.0, abs=1.5)


def test_plain_datasets_opens_it(prepared, tmp_path):
    from datasets import load_dataset

    root, report = prepared
    loaded = load_dataset(str(root / "out"), cache_dir=str(tmp_path))
    assert {split: part.num_rows for split, part in loaded.items()} == {
        split: part["clips"] for split, part in report["splits"].items()
    }
    assert loaded["train"][0]["audio"]["bytes"][:4] == b"fLaC"


def test_splits_are_of_files_by_content_and_never_empty():
    def assigned(count):
        fates = [{"fate": "kept", "split": None, "sha256": hashlib.sha256(b"%d" % k).hexdigest()} for k in range(count)]
        _assign_splits(fates, Settings(labels=False, test_share=0.1, validation_share=0.1))
        return [fate["split"] for fate in fates]

    many = assigned(2000)
    assert many[:500] == assigned(2000)[:500]
    assert 140 < many.count("test") < 260 and 140 < many.count("validation") < 260
    assert sorted(assigned(3)) == ["test", "train", "validation"] and "train" in assigned(2)


def test_bad_input_is_one_line(prepared, tmp_path):
    root, _ = prepared
    done = subprocess.run(
        [sys.executable, "-m", "training.data.prepare", "nowhere", "--output_dir", tmp_path / "o", "--no-labels"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert (
        done.returncode == 2
        and done.stderr == "error: source nowhere: no such folder, table or data set (owner/name)\n"
    )
    with pytest.raises(ValueError, match="lies within the source, which is never written to"):
        main([str(root / "in"), "--output_dir", str(root / "in/out"), *FAST])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.wav").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="none of its 1 audio files is usable; see"):
        main([str(tmp_path / "bad"), "--output_dir", str(tmp_path / "o2"), *FAST])
    assert json.loads((tmp_path / "o2/report.json").read_text())["fates"] == {"unreadable": 1}


def forked(words: list[str], file_limit: int | None = None) -> multiprocessing.Process:
    """The command in a process of its own, without the seconds of importing; exit code 2 after an OSError."""

    def run():
        if file_limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        command(lambda: main(words))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def words_of(source: Path, output: Path) -> list[str]:
    return [str(source), "--output_dir", str(output), "--license", "CC0", *FAST]


def readable_shards(output: Path) -> list[Path]:
    return list((output / "data").glob("*")) if (output / "data").exists() else []


def test_killed_at_any_moment_a_rerun_ends_the_same(prepared, tmp_path):
    root, _ = prepared
    for after in (1, 9):  # finished items
        running = forked(words_of(root / "in", tmp_path / "out"))
        while running.is_alive() and len(list((tmp_path / "out/.work/items").glob("*.json"))) < after:
            time.sleep(0.002)
        os.kill(running.pid, signal.SIGKILL)
        running.join()
        assert running.exitcode == -signal.SIGKILL and not readable_shards(tmp_path / "out")
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/.work/items").glob("*.json")}
    assert len(finished) >= 9
    main(words_of(root / "in", tmp_path / "out"))
    assert hashes(tmp_path / "out/data") == hashes(root / "out/data")
    assert not (tmp_path / "out/.work").exists()


def test_a_full_disk_is_one_line_and_a_rerun_completes(prepared, tmp_path, capfd):
    root, _ = prepared
    running = forked(words_of(root / "in", tmp_path / "out"), file_limit=600_000)
    running.join()
    printed = capfd.readouterr().err
    assert running.exitcode == 2 and "error: " in printed.splitlines()[-1], printed
    assert not readable_shards(tmp_path / "out")
    main(words_of(root / "in", tmp_path / "out"))
    assert hashes(tmp_path / "out/data") == hashes(root / "out/data")


def crash_on_song_c(item, *rest):
    if item.name == "song_c.flac":
        os._exit(139)
    do_item(item, *rest)


def test_a_file_that_kills_its_process_is_reported(prepared, tmp_path, monkeypatch):
    root, report = prepared
    monkeypatch.setattr(building, "do_item", crash_on_song_c)
    got = main([str(root / "in"), "--output_dir", str(tmp_path / "out"), *FAST, "--num_workers", "2"])
    files = {entry["name"]: entry for entry in got["files"]}
    assert files["song_c.flac"]["reason"] == "the decoder crashed on it"
    assert got["fates"]["kept"] == report["fates"]["kept"] - 1


def test_a_table_carries_its_labels_and_splits(tmp_path):
    beats = [round(0.5 * k, 3) for k in range(24)]
    rows = []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", music(20 + number), RATE)
        rows.append({
            "file": f"{number}.wav", "caption": "calm piano at 120 bpm", "bpm": 120, "beats_s": beats,
            "downbeats_s": beats[::4], "key": "c minor", "instruments": ["piano"], "chord_symbols": ["Cm"] * 24,
            "split": ("train", "train", "validation", "test")[number],
        })  # fmt: skip
    (tmp_path / "songs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    main([str(tmp_path / "songs.jsonl"), "--output_dir", str(tmp_path / "out"), *FAST])
    (row, *_) = read_rows(tmp_path / "out", "test")
    assert row["work"] == "3.wav" and row["bpm"] == pytest.approx(120.0) and row["key"] == "C minor"
    assert row["duration_s"] == pytest.approx(4.0, abs=1e-3) and row["downbeats_s"] == pytest.approx(
        [0.0, 2.0], abs=1e-3
    )
    assert row["starts_on_downbeat"] is True and row["chords"][0] == [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert row["stated"][0]["bpm"] is True and row["stated"][0]["instruments"] == ["piano"]
