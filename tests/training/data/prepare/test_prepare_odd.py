"""Prepare on what people really have: odd names, odd bytes, odd tables. Each has its fate, and none ends the run."""

import json
import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from tests.helpers.synthetic_clips import RATE
from tests.training.data.prepare.test_prepare import encoded, music
from tests.training.data.prepare.test_prepare_run import FAST
from training.data.clips import SPLITS, read_rows
from training.data.prepare import build, labellers
from training.data.prepare import decode as decoding
from training.data.prepare import listing as listed
from training.data.prepare.__main__ import main
from training.data.prepare.cut import cut
from training.data.prepare.decode import UnreadableError, decode, find_ffmpeg, kind_of, read_tags
from training.data.prepare.labellers import Labels
from training.data.prepare.listing import (
    caption_of_name,
    caption_of_tags,
    facts_of,
    list_folder,
    list_table,
    open_source,
    shown,
    split_of,
    unshown,
)
from training.data.prepare.settings import Settings


def id3(*frames: tuple[str, str]) -> bytes:
    """An ID3v2.4 tag of UTF-8 text frames."""
    body = b""
    for name, text in frames:
        value = b"\x03" + text.encode()
        body += name.encode() + syncsafe(len(value)) + b"\0\0" + value
    return b"ID3\x04\0\0" + syncsafe(len(body)) + body


def syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


@pytest.fixture(scope="module")
def ffmpeg() -> str:
    program = find_ffmpeg()
    assert program is not None, "pip install imageio-ffmpeg (it is in the dev extra)"
    return program


@pytest.fixture(scope="module")
def vbr(ffmpeg, tmp_path_factory) -> bytes:
    """Eight seconds of MP3 whose bit rate varies, without the header that tells how long it is."""
    folder = tmp_path_factory.mktemp("vbr")
    audio = music(3, 8.0)
    audio[: 2 * RATE] *= 0.001  # few bits first, so that a guess by the first frames is wrong
    soundfile.write(folder / "a.wav", audio, RATE)
    words = [ffmpeg, "-v", "error", "-i", folder / "a.wav", "-q:a", "4", "-write_xing", "0", folder / "a.mp3"]
    subprocess.run(words, check=True)
    return (folder / "a.mp3").read_bytes()


def test_a_folder_of_odd_files_is_prepared_and_each_has_its_fate(tmp_path, monkeypatch):
    """NUL in tags and captions, names that are not UTF-8, files that vanish or fail when they are read."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number:02d}.wav").write_bytes(encoded(music(number, 4.0), "WAV"))
    (folder / "tagged.mp3").write_bytes(id3(("TCON", "Lo-Fi\0House\0Ambient")) + encoded(music(3, 4.0), "MP3"))
    (folder / "nul.wav").write_bytes(encoded(music(4, 4.0), "WAV"))
    (folder / "nul.txt").write_bytes(b"slow\0 piano\x07\n")
    Path(os.fsdecode(os.fsencode(folder) + b"/47_\xe9.wav")).write_bytes(encoded(music(5, 4.0), "WAV"))
    Path(os.fsdecode(os.fsencode(folder) + b"/47_\xe9.txt")).write_bytes("caf\xe9".encode("latin-1"))
    for name in ("gone.wav", "eio.wav", "strange.wav"):
        (folder / name).write_bytes(encoded(music(6, 4.0), "WAV"))
    (folder / "._00.wav").write_bytes(b"\x00\x05\x16\x07" + b"\0" * 300)
    (folder / "lfs.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    read, plain = listed.Item.read, build._trimmed

    def fails(item):
        if item.name == "gone.wav":
            os.unlink(item.path)
        if item.name == "eio.wav":
            raise OSError(5, "Input/output error", item.path)
        return read(item)

    def surprises(audio, settings):
        if len(trims) == 1:
            trims.append(0)
            raise KeyError("a fault of ours")
        trims.append(1)
        return plain(audio, settings)

    monkeypatch.setattr(listed.Item, "read", fails)
    trims = [0]
    monkeypatch.setattr(build, "_trimmed", surprises)
    report = main([str(folder), "--output_dir", str(tmp_path / "out"), *FAST])
    files = {entry["name"]: entry for entry in report["files"]}
    assert set(files) == {
        "00.wav", "01.wav", "02.wav", "tagged.mp3", "nul.wav", "47_\\xe9.wav", "gone.wav", "eio.wav", "strange.wav",
        "._00.wav", "lfs.wav",
    }  # fmt: skip
    assert files["gone.wav"]["reason"] == "no such file or directory"
    assert files["eio.wav"]["reason"] == "input/output error"
    assert [f["reason"] for f in files.values() if (f["reason"] or "").startswith("failed with")] == [
        "failed with KeyError: 'a fault of ours'"
    ]
    assert "AppleDouble" in files["._00.wav"]["reason"] and "git lfs pull" in files["lfs.wav"]["reason"]
    kept = {name: entry["captions"] for name, entry in files.items() if entry["fate"] == "kept"}
    assert kept["tagged.mp3"] == ["Lo-Fi, House, Ambient"] and kept["nul.wav"] == ["slow, piano"]
    assert kept["47_\\xe9.wav"] == [] and kept["02.wav"] == []
    assert files["47_\\xe9.wav"]["notes"][0] == "caption file 47_\\xe9.txt is not UTF-8; not used"
    rows = [row for split in SPLITS for row in read_rows(tmp_path / "out", split)]
    assert {row["work"] for row in rows} == set(kept)
    assert {row["genre"] for row in rows if row["work"] == "tagged.mp3"} == {"Lo-Fi, House, Ambient"}
    assert all(row["text"] == [""] for row in rows if row["work"].startswith(("0", "47")))
    opened = next(row["work"] for row in rows if row["work"].startswith("47"))
    assert (folder / unshown(opened)).read_bytes()[:4] == b"RIFF"
    assert "47_" in (tmp_path / "out/report.html").read_text()
    monkeypatch.undo()  # and by several processes; a folder whose own name is not UTF-8
    other = os.fsdecode(os.fsencode(tmp_path) + b"/in_\xff")
    folder.rename(other)
    report = main([other, "--output_dir", str(tmp_path / "again"), *FAST, "--num_workers", "2"])
    assert report["source"].endswith("in_\\xff") and report["fates"]["kept"] >= len(kept)


def test_names_are_shown_and_found_again():
    for raw in ("plain \u00e9\U0001f3b5", os.fsdecode(b"47_\xe9\xff.wav")):
        assert unshown(shown(raw)) == raw
        shown(raw).encode("utf-8")
    shown("half \ud83c").encode("utf-8")


def test_what_the_system_refuses_is_told(tmp_path, monkeypatch):
    """Permission denied and the like, in a folder and in a table (the tests may run as root, so it is made up)."""
    (tmp_path / "a.wav").write_bytes(b"RIFF....WAVE")
    (tmp_path / "closed.bin").write_bytes(b"fLaC....")
    (tmp_path / "a.txt").write_text("a caption")
    real_open, read_text = open, Path.read_text

    def refuses(file, *rest, **more):
        if str(file).endswith("closed.bin"):
            raise PermissionError(13, "Permission denied", file)
        return real_open(file, *rest, **more)

    def no_text(path, *rest, **more):
        if path.name == "a.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *rest, **more)

    monkeypatch.setattr("builtins.open", refuses)
    monkeypatch.setattr(Path, "read_text", no_text)
    listing = list_folder(tmp_path, allow_outside=False)
    assert listing.others == {"closed.bin": ("unreadable", "permission denied")}
    assert listing.items[0].notes == ("caption file a.txt cannot be read (permission denied); not used",)
    monkeypatch.undo()
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps({"file": name}) + "\n" for name in ("a.wav", "nul\0.wav", "x" * 300 + ".wav")))
    listing = list_table(table, None, None, False)
    assert [item.name for item in listing.items] == ["a.wav"]
    assert [fate for fate, _ in listing.others.values()] == ["unreadable"] * 2
    assert "file name too long" in [reason for _, reason in listing.others.values()]


# ---- captions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["01.wav", "Recording (2).wav", "track 03.mp3", "audio/1.wav", "wavs/02.wav", "train/0003.wav", "data/music/7.flac",
     "New Recording 5.m4a", "Neue Aufnahme 12.m4a", "my music/Untitled.wav", "valid/0001 07.wav", "A.wav", "", ".wav"],
)  # fmt: skip
def test_generic_names_are_no_captions(name):
    assert caption_of_name(name) is None


def test_names_that_describe_are_captions():
    assert caption_of_name("train/lofi beats/03 - rainy_day.mp3") == "lofi beats, rainy day"
    assert caption_of_name("music for sleeping (4).wav") == "music for sleeping"
    assert caption_of_name("audio/Calm Piano.wav") == "Calm Piano"


def test_texts_are_put_on_one_line_and_hold_no_control_characters():
    captions, labels, notes = facts_of(
        {
            "text": ["a\0b", "c\x1b[31m\td", "\ufeff e", "\ud83c f", "\0", "x\u2028y"],
            "genre": "Lo-Fi\0House",
            "key": "\0?",
        }
    )
    assert captions == ["a, b", "c [31m d", "e", "f", "x y"] and labels == {"genre": "Lo-Fi, House"}
    assert notes == ["key '?' is not usable"]
    odd = {"beats_per_bar": "inf", "bpm": 10**400, "beats_s": [0.0, float("nan")], "moods": "[" * 100_000}
    captions, labels, notes = facts_of({"text": "[" * 100_000} | odd)
    assert len(captions[0]) == 100_000 and not labels and len(notes) == len(odd)
    assert facts_of({"instruments": "piano\0drums"})[1] == {"instruments": ["piano", "drums"]}
    stated = build._stated("a house tune", {"style": "house"})
    assert stated["style"] == "house" and build._stated("a\0b", {})["style"] is None


def test_tags_of_several_values_and_broken_tags(monkeypatch):
    content = id3(("TCON", "Lo-Fi\0House"), ("TIT2", "Rain\0")) + encoded(music(0, 1.0), "MP3")
    tags = read_tags(content, "a.mp3")
    assert tags["genre"] == "Lo-Fi, House" and tags["title"] == "Rain"
    assert caption_of_tags({"genre": "Other"}) is None and caption_of_tags({"genre": "Jazz"}) == "Jazz"
    for cut_at in range(0, 60, 7):
        assert isinstance(read_tags(content[:cut_at], "a.mp3"), dict)


def test_a_data_set_without_text_has_no_captions_and_may_name_local_files(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "song.wav").write_bytes(encoded(music(0, 1.0), "WAV"))
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    sound = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    audio = [
        {"bytes": encoded(music(1, 1.0), "FLAC"), "path": "0001.flac"}, {"bytes": None, "path": "song.wav"},
        {"bytes": None, "path": "../secret.wav"}, {"bytes": None, "path": "gone.wav"}, {"bytes": None, "path": None},
    ]  # fmt: skip
    table = {"audio": pa.array(audio, sound), "text": ["", None, "x", "y", "z"]}
    pq.write_table(pa.table(table), folder / "train.parquet")
    listing = open_source(str(folder), None, None, False)
    items = list(listing.items)
    assert [item.captions for item in items] == [(), (), ("z",)] and not listing.notes
    assert [caption_of_name(item.title) for item in items] == [None, None, None]  # "song", not "train"
    assert items[1].read() == (folder / "song.wav").read_bytes()
    assert [fate for fate, _ in listing.others.values()] == ["refused", "unreadable"]
    assert items[2].content == b"" and items[2].notes == ("the row holds no audio bytes",)
    listing = open_source(str(folder), None, None, True)
    assert sum(item.path is not None for item in listing.items) == 2
    pq.write_table(pa.table({"path": ["song.wav"], "words": ["a"]}), folder / "train.parquet")
    listing = open_source(str(folder), None, None, False)
    assert [item.read()[:4] for item in listing.items] == [b"RIFF"]
    assert listing.notes[0].startswith(f"{folder} has no column of captions (text, caption,")


# ---- tables --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tabled(tmp_path):
    for number in range(1, 5):
        (tmp_path / f"{number}.wav").write_bytes(b"RIFF")

    def read(text: str, name: str = "t.csv", **arguments):
        (tmp_path / name).write_bytes(text.encode())
        return list_table(tmp_path / name, *(arguments.get(key) for key in ("audio_column", "text_column")), False)

    return read


def test_headers_are_found_whatever_their_case_and_blanks(tabled):
    listing = tabled("\ufeffFile Name, Caption,BPM , Key\n1.wav,calm,90,A minor\n")
    (item,) = listing.items
    assert item.captions == ("calm",) and item.labels == {"bpm": 90.0, "key": "A minor"} and not listing.notes
    (item,) = tabled("file,MyWords,Caption\n1.wav,mine,other\n", text_column="mywords").items
    assert item.captions == ("mine",)
    (item,) = tabled('{"File": "1.wav", "Text": "", "text": "calm"}\n', "t.jsonl").items
    assert item.captions == ("calm",)
    assert facts_of({"Caption": "a", "BPM": 90}) == (["a"], {"bpm": 90.0}, [])


def test_a_table_without_captions_is_told(tabled):
    listing = tabled("file,words,bpm\n1.wav,calm,90\n")
    assert listing.items[0].captions == () and listing.items[0].labels == {"bpm": 90.0}
    assert listing.notes == [
        "t.csv has no column of captions (text, caption, captions, description, prompt, texts), only file, words, bpm; "
        "they are taken from tags and names; --text_column names another column"
    ]


def test_broken_quotes_are_named_and_swallow_no_row(tabled):
    for text, line in (
        ('file,caption\n1.wav,"oops\n2.wav,b\n3.wav,c\n', 2),
        ('file,caption\n1.wav,a\n2.wav,"oops\n3.wav,"c"\n', 3),
    ):
        with pytest.raises(ValueError, match=rf"t\.csv line {line} is not CSV \(.*\); a quote opens and closes"):
            tabled(text)
    listing = tabled(
        'file,caption\n1.wav,"two\nlines"\n2.wav,calm, slow\n3.wav,"he said ""go"""\n4.wav,' + "x" * 200_000
    )
    assert [item.captions[0][:12] for item in listing.items] == ["two lines", "calm", 'he said "go"', "x" * 12]
    assert listing.items[0].notes == ("its row has a cell of several lines (2 to 3)",)
    assert listing.items[1].notes[0].startswith("its row has 3 cells for 2 columns")
    assert len(listing.items[3].captions[0]) == 200_000


def test_split_names(tabled):
    rows = zip(range(1, 5), ("val", "Test", " dev ", "third"), strict=True)
    items = tabled("file,caption,split\n" + "".join(f"{n}.wav,a,{split}\n" for n, split in rows)).items
    assert [item.split for item in items] == ["validation", "test", "validation", None]
    assert items[3].notes[0].startswith("split 'third' is none of train, ")
    assert split_of("") == split_of(None) == (None, []) and split_of("TRAINING")[0] == "train"


def test_json_lines_end_at_line_feeds_alone(tabled):
    listing = tabled(
        '\ufeff{"file": "1.wav", "caption": "one\u2028two"}\r\n\n{"file": "2.wav", "caption": "b"}', "t.jsonl"
    )
    assert [item.captions for item in listing.items] == [("one two",), ("b",)]


# ---- audio ---------------------------------------------------------------------------------------------------------


def test_mp3_without_a_length_are_read_to_their_end(vbr, monkeypatch):
    assert not decoding._length_told(vbr)
    decoded = decode(vbr, "a.mp3", RATE, 1)
    assert decoded.source_s == pytest.approx(8.0, abs=0.15) and not decoded.notes
    with_header = encoded(music(3, 4.0), "MP3")
    assert decoding._length_told(with_header) and decoding._length_told(id3(("TIT2", "x" * 9000)) + with_header)
    twice = decode(with_header + with_header + with_header, "a.mp3", RATE, 1)
    assert twice.source_s == pytest.approx(12.0, abs=0.4)
    monkeypatch.setattr(decoding, "find_ffmpeg", lambda: None)
    assert decode(vbr, "a.mp3", RATE, 1).notes[0].startswith("length unsure: an MP3 without a right length")


def test_wav_headers_that_were_never_finished(monkeypatch, ffmpeg):
    content = bytearray(encoded(music(4, 4.0), "WAV", subtype="PCM_16"))
    at = content.index(b"data") + 4
    unfinished = bytes(content[:4] + struct.pack("<I", 0) + content[8:at] + struct.pack("<I", 0) + content[at + 4 :])
    assert decode(unfinished, "a.wav", RATE, 1).source_s == pytest.approx(4.0, abs=0.01)
    half = struct.pack("<I", (len(content) - at) // 2)
    early = bytes(content[:4] + struct.pack("<I", len(content) // 2) + content[8:at] + half + content[at + 4 :])
    assert decode(early, "a.wav", RATE, 1).notes == ["length unsure: the header counts 50 % of the file"]
    monkeypatch.setattr(decoding, "find_ffmpeg", lambda: None)
    with pytest.raises(UnreadableError, match="damaged WAV: no samples in it"):
        decode(unfinished, "a.wav", RATE, 1)


def test_floats_above_full_scale_are_not_clipped():
    loud = 2.5 * music(5, 4.0) / np.abs(music(5, 4.0)).max()
    decoded = decode(encoded(loud, "WAV", subtype="FLOAT"), "a.wav", RATE, 1)
    assert decoded.clipped == 0.0 and np.abs(decoded.audio).max() == pytest.approx(2.5, rel=0.05)
    flat = np.clip(2.0 * loud, -1.5, 1.5)  # clipped, and then amplified
    assert decode(encoded(flat, "WAV", subtype="FLOAT"), "a.wav", RATE, 1).clipped > 0.01
    assert decode(encoded(np.clip(loud, -1, 1), "WAV", subtype="PCM_16"), "a.wav", RATE, 1).clipped > 0.01


def test_files_are_called_what_they_are(tmp_path, ffmpeg):
    flac = encoded(music(6, 1.0), "FLAC")
    tagged = id3(("TIT2", "Rain")) + flac
    assert kind_of(tagged)[0] == "FLAC" and decode(tagged, "a.flac", RATE, 1).notes == []
    assert kind_of(id3(("TIT2", "x")))[0] == "MP3"
    for content, words in (
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "AppleDouble"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 5\n",
            "a Git LFS pointer, not the file itself",
        ),
        (b"/annex/objects/SHA256E-s5--12.wav\n", "a git-annex pointer"),
        (b"\n<!DOCTYPE html><html>404", "an HTML page"),
    ):
        with pytest.raises(UnreadableError, match=words):
            decode(content, "x.wav", RATE, 1)
    words = [ffmpeg, "-v", "error", "-f", "lavfi", "-i", "color=c=red:s=32x32:d=1", str(tmp_path / "silent.mp4")]
    subprocess.run(words, check=True)
    with pytest.raises(UnreadableError, match=r"^M4A without sound$"):
        decode((tmp_path / "silent.mp4").read_bytes(), "silent.mp4", RATE, 1)


def test_labellers_are_measured_on_rows_with_some_labels_missing(monkeypatch):
    estimated = Labels(120.0, [0.0, 0.5, 1.0], [0.0], 4, None, None, None, {"beats": 1.0, "downbeats": 1.0, "key": 0.0})
    monkeypatch.setattr(labellers, "estimate_labels", lambda *arguments: estimated)
    row = {"bpm": 120.0, "beats_s": [0.0, 0.5, 1.0], "downbeats_s": None, "key": None}
    assert [name for name, _, _ in labellers.judge(row, np.zeros(9), RATE, None)] == ["tempo", "beats"]
    assert [name for name, _, _ in labellers.judge(row | {"beats_s": None}, np.zeros(9), RATE, None)] == ["tempo"]


# ---- beats ---------------------------------------------------------------------------------------------------------


def test_stated_beats_without_downbeats_are_those_of_each_clip():
    settings = Settings(clip_s=5.0, min_s=2.0, labels=False)
    audio = np.tile(music(0), 2)[None, : 12 * RATE]
    beats = np.arange(0.2, 12.0, 0.5)
    clips = list(cut(audio, 0.0, {"beats_s": beats.tolist(), "chord_symbols": ["C"] * len(beats)}, settings, None))
    assert [clip.start for clip in clips] == [0, 5 * RATE, 10 * RATE]
    for clip in clips:
        assert clip.labels["beats_s"] == pytest.approx(0.2 + 0.5 * np.arange(len(clip.labels["beats_s"])), abs=1e-3)
        assert clip.labels["bpm"] == pytest.approx(120.0) and "downbeats_s" not in clip.labels
        assert len(clip.labels["chord_symbols"]) == len(clip.labels["beats_s"]) <= 10
