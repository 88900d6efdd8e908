"""Prepare, part by part: sources, decoding, fingerprints, labellers, cutting."""

import itertools
import json
import subprocess

import numpy as np
import pytest
import soundfile

from tests.helpers.synthetic_clips import RATE, clicks, tones
from training.data.prepare import decode as decoding
from training.data.prepare.cut import cut
from training.data.prepare.decode import UnreadableError, decode, find_ffmpeg, kind_of, read_tags
from training.data.prepare.fingerprint import find_duplicates, fingerprint
from training.data.prepare.labellers import estimate_chords, estimate_key, estimate_labels, load_listeners
from training.data.prepare.listing import caption_of_name, facts_of, list_folder, list_table, open_source
from training.data.prepare.settings import Settings
from training.metrics import features


@pytest.fixture(scope="module")
def listeners():
    return load_listeners("checkpoints/beat_tracker", "checkpoints/key")


def music(seed: int, seconds: float = 12.0) -> np.ndarray:
    """Random notes with overtones and some noise, (samples,)."""
    rng = np.random.default_rng(seed)
    audio = 0.002 * rng.standard_normal(int(seconds * RATE))
    for start in np.arange(0.0, seconds - 0.3, 0.25):
        time = np.arange(int(0.6 * RATE)) / RATE
        hertz = 440.0 * 2.0 ** (rng.integers(-24, 12) / 12.0)
        note = sum(np.sin(2 * np.pi * k * hertz * time) / k for k in range(1, 6)) * np.exp(-4.0 * time)
        first = int(start * RATE)
        part = audio[first : first + len(note)]
        part += 0.15 * note[: len(part)]
    return audio.astype(np.float32)


def encoded(audio: np.ndarray, form: str, rate: int = RATE, **kind) -> bytes:
    import io

    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form, **kind)
    return file.getvalue()


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_formats_are_known_by_content_and_resampled(form):
    audio = music(0, 3.0)
    content = encoded(np.stack([audio, audio * 0.5], axis=1), form)
    assert kind_of(content[:16])[0] == form
    decoded = decode(content, "song." + form.lower(), 16000, 1)
    assert decoded.source_channels == 2 and decoded.source_rate == RATE
    assert decoded.audio.shape == (1, pytest.approx(48000, abs=16000 * 0.06))
    assert "mono as stereo" not in decoded.notes


def test_m4a_goes_through_ffmpeg(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", music(1, 3.0), RATE)
    program = find_ffmpeg()
    assert program is not None, "pip install imageio-ffmpeg (it is in the dev extra)"
    subprocess.run([program, "-v", "error", "-i", tmp_path / "a.wav", tmp_path / "a.m4a"], check=True)
    content = (tmp_path / "a.m4a").read_bytes()
    decoded = decode(content, "a.m4a", RATE, 1)
    assert decoded.format == "M4A" and decoded.audio.shape[1] == pytest.approx(3 * RATE, abs=0.1 * RATE)
    again = decode(encoded(music(1, 3.0), "WAV"), "a.wav", RATE, 1)
    shift = np.correlate(decoded.audio[0, 5000:15000], again.audio[0, 5000:15000], "full").argmax() - 9999
    assert abs(shift) < 0.1 * RATE
    monkeypatch.setattr(decoding, "find_ffmpeg", lambda: None)
    with pytest.raises(UnreadableError, match="M4A needs ffmpeg, which is not installed"):
        decode(content, "a.m4a", RATE, 1)


def test_noise_reduction_lowers_the_noise_floor():
    rng = np.random.default_rng(0)
    tone = np.sin(2 * np.pi * 440 * np.arange(4 * RATE) / RATE) * (np.arange(4 * RATE) > 2 * RATE) * 0.3
    content = encoded((tone + 0.01 * rng.standard_normal(len(tone))).astype(np.float32), "WAV")
    plain, clean = (decode(content, "a.wav", RATE, 1, denoise).audio[0] for denoise in (False, True))
    quiet = slice(RATE, int(1.9 * RATE))
    assert np.std(clean[quiet]) < 0.5 * np.std(plain[quiet])
    assert np.std(clean[-RATE:]) == pytest.approx(np.std(plain[-RATE:]), rel=0.1)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"", "a.wav", "empty file"),
        (bytes(range(256)) * 40, "a.mp3", "damaged MP3"),
        (b"hello there", "a.xyz", "not an audio file"),
        (encoded(np.array([0.1, np.nan, 0.2] * 100, np.float32), "WAV", subtype="FLOAT"), "a.wav", "not finite"),
    ],
)
def test_unreadable_files_say_why_in_one_line(content, name, message):
    with pytest.raises(UnreadableError, match=message) as error:
        decode(content, name, RATE, 1)
    assert "\n" not in str(error.value)


def test_what_is_odd_about_a_file_is_noted():
    audio = music(2, 4.0)
    same = decode(encoded(np.stack([audio, audio], 1), "FLAC"), "a.wav", RATE, 1)
    assert same.notes == ["wrong extension: .wav, but it is FLAC", "mono as stereo"]
    opposite = decode(encoded(np.stack([audio, -audio], 1), "WAV"), "a.wav", RATE, 1)
    assert opposite.notes == ["channels in opposite phase: only the left was used"]
    assert np.allclose(opposite.audio[0], audio - audio.mean(), atol=1e-3)
    half = decode(encoded(np.stack([0 * audio, audio], 1), "WAV"), "a.wav", RATE, 2)
    assert half.notes == ["one channel silent: only the right was used"] and half.audio.shape[0] == 2
    offset = decode(encoded(0.5 * audio + 0.1, "WAV"), "a.wav", RATE, 1)
    assert offset.dc[0] == pytest.approx(0.1, abs=1e-3) and abs(offset.audio.mean()) < 1e-5
    assert decode(encoded(np.clip(8 * audio, -1, 1), "WAV"), "a.wav", RATE, 1).clipped > 0.02
    for form, note in (
        ("WAV", "truncated: 50 % of the file is there"),
        ("FLAC", "truncated: "),
        ("OGG", "truncated: the stream"),
    ):
        content = encoded(audio, form)
        found = decode(content[: len(content) // 2], "a." + form.lower(), RATE, 1)
        assert found.notes[0].startswith(note) and 0.9 <= found.source_s <= 2.6


def test_near_duplicates_survive_coding_gain_and_cutting():
    songs = [music(seed) for seed in range(6)]
    quieter = decode(encoded(0.3 * songs[1], "MP3"), "a.mp3", RATE, 1).audio[0]
    excerpt = decode(encoded(songs[2][3 * RATE + 1234 : 9 * RATE], "OGG"), "a.ogg", RATE, 1).audio[0]
    resampled = decode(encoded(songs[3], "WAV"), "a.wav", 16000, 1).audio[0]
    prints = [fingerprint(song, RATE) for song in [*songs, quieter, excerpt]] + [fingerprint(resampled, 16000)]
    found = find_duplicates(prints)
    assert {copy: first for copy, (first, _) in found.items()} == {6: 1, 7: 2, 8: 3}
    assert all(agreement > 0.75 for _, agreement in found.values())


def test_captions_from_names():
    assert caption_of_name("lofi beats/03 - rainy_day.mp3") == "lofi beats, rainy day"
    assert caption_of_name("track 07.wav") is None and caption_of_name("0012.flac") is None


def test_facts_are_checked():
    captions, labels, notes = facts_of(
        {
            "caption": ["a  b", "c"],
            "bpm": "fast",
            "key": "a minor",
            "time_signature": "6/8",
            "beats_s": [1, 0.5],
            "x": 1,
        }
    )
    assert captions == ["a b", "c"] and labels == {"key": "A minor", "time_signature": "6/8", "beats_per_bar": 2}
    assert notes == ["bpm 'fast' is not usable", "beats_s '[1, 0.5]' is not usable"]


def test_folder_lists_everything(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    (inside / "sub").mkdir(parents=True)
    outside.mkdir()
    for path in (inside / "a.wav", inside / "sub/b.wav", outside / "c.wav"):
        path.write_bytes(b"RIFF....WAVE")
    (inside / "hidden.dat").write_bytes(b"fLaC....")
    (inside / "a.txt").write_text("first\n\nsecond")
    (inside / "sub/b.json").write_text(json.dumps({"caption": "json one", "bpm": 90}))
    (inside / "sub/b.txt").write_bytes("d\u00e9j\u00e0".encode("latin-1"))
    (inside / "lonely.txt").write_text("x")
    (inside / "cover.jpg").write_bytes(b"x")
    (inside / "link.wav").symlink_to(outside / "c.wav")
    (inside / "folder").symlink_to(outside)
    (inside / "sub/loop").symlink_to(inside)
    (inside / "dead.wav").symlink_to("nowhere")
    listing = list_folder(inside, allow_outside=False)
    items = {item.name: item for item in listing.items}
    assert list(items) == ["a.wav", "hidden.dat", "sub/b.wav"]
    assert items["a.wav"].captions == ("first", "second")
    assert items["sub/b.wav"].captions == ("json one",) and items["sub/b.wav"].labels == {"bpm": 90.0}
    assert items["sub/b.wav"].notes == ("caption file sub/b.txt is not UTF-8; not used",)
    assert {name: fate for name, (fate, _) in listing.others.items()} == {
        "cover.jpg": "ignored", "lonely.txt": "ignored", "link.wav": "refused", "folder": "refused",
        "sub/loop/": "refused", "dead.wav": "unreadable",
    }  # fmt: skip
    assert listing.others["lonely.txt"][1] == "caption file without audio"
    allowed = [item.name for item in list_folder(inside, allow_outside=True).items]
    assert "link.wav" in allowed and "folder/c.wav" in allowed


def test_tables(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.wav").write_bytes(b"RIFF")
    (folder / "a.wav").write_bytes(b"RIFF")
    table = folder / "t.csv"
    table.write_text("file,caption,bpm,split\na.wav,nice,100,test\n../secret.wav,x,,\nb.wav,y,,\na.wav,again,,\n,z,,\n")
    listing = list_table(table, None, None, allow_outside=False)
    assert [(i.name, i.captions, i.labels, i.split) for i in listing.items] == [
        ("a.wav", ("nice",), {"bpm": 100.0}, "test")
    ]
    assert {name: fate for name, (fate, _) in listing.others.items()} == {
        "../secret.wav": "refused", "b.wav": "unreadable", "a.wav (row 4)": "duplicate", "t.csv row 5": "unreadable",
    }  # fmt: skip
    assert len(list_table(table, None, None, allow_outside=True).items) == 2
    with pytest.raises(ValueError, match=r"text_column: .* lacks 'words'; it has file, caption, bpm, split"):
        list_table(table, None, "words", False)
    table.write_text("song,words\na,b\n")
    with pytest.raises(ValueError, match=r"audio_column: .* lacks any of audio, .*; it has song, words"):
        list_table(table, None, None, False)
    table.write_bytes("file\nd\u00e9j\u00e0.wav\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is not UTF-8"):
        list_table(table, None, None, False)
    (folder / "t.jsonl").write_text('{"file": "a.wav"}\n{"file"\n')
    with pytest.raises(ValueError, match="line 2 is not JSON"):
        list_table(folder / "t.jsonl", None, None, False)


def test_a_data_set_is_streamed_without_decoding(tmp_path):
    from datasets import Audio, Dataset, DatasetDict

    content = encoded(music(0, 1.0), "FLAC")
    rows = {"audio": [{"bytes": content, "path": f"{k}.flac"} for k in range(3)], "caption": ["a", "b", "c"]}
    saved = Dataset.from_dict({**rows, "bpm": [90.0, None, 120.0]}).cast_column("audio", Audio(decode=False))
    saved.to_parquet(tmp_path / "parquet" / "train.parquet")
    DatasetDict({"train": saved, "val": saved}).save_to_disk(tmp_path / "disk")
    items = list(open_source(str(tmp_path / "parquet"), None, None, False).items)
    assert [(item.captions, item.labels, item.split) for item in items] == [
        (("a",), {"bpm": 90.0}, None), (("b",), {}, None), (("c",), {"bpm": 120.0}, None),
    ]  # fmt: skip
    assert all(item.read() == content for item in items)
    assert [i.split for i in open_source(str(tmp_path / "disk"), None, None, False).items] == ["train"] * 3 + [
        "validation"
    ] * 3
    with pytest.raises(ValueError, match=r"audio_column: .* lacks 'sound'; it has audio, caption, bpm"):
        open_source(str(tmp_path / "parquet"), "sound", None, False)
    with pytest.raises(ValueError, match="no such folder, table or data set"):
        open_source(str(tmp_path / "nowhere"), None, None, False)


def test_key_and_chords_of_plain_triads(listeners):
    beat_s = 0.5
    audio = tones(["C", "F", "G", "C"], beat_s)
    assert RATE == features.LISTEN_RATE
    key, confidence = estimate_key(np.tile(audio, 2), listeners.key)  # each half holds the whole progression
    assert key == "C major" and confidence > 0.5
    rows, names, sure = estimate_chords(features.chroma(audio), np.arange(0.0, 8.01, beat_s))
    right = [a == b for a, b in zip(names, [n for n in ("C", "F", "G", "C") for _ in range(4)], strict=True)]
    assert np.mean(right) >= 15 / 16 and sure.mean() > 0.8
    assert rows[0] == [1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert estimate_key(np.zeros(RATE, np.float32), listeners.key) == (None, 0.0)


def test_labels_of_a_clear_beat_and_of_noise(listeners):
    audio = 0.6 * tones(["C", "F", "G", "Am"], 0.5) + clicks(120.0)
    estimated = estimate_labels(audio, RATE, listeners)
    assert estimated.bpm == pytest.approx(120.0, rel=0.02)
    assert len(estimated.chords) == len(estimated.beats_s) == len(estimated.chord_symbols)
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    unsure = estimate_labels(noise, RATE, listeners)
    assert unsure.bpm is None and unsure.beats_s is None and unsure.downbeats_s is None and unsure.chords is None
    silent = estimate_labels(np.zeros(8 * RATE, np.float32), RATE, listeners)
    assert silent.bpm is None and silent.key is None and silent.confidence["beats"] == 0.0


def test_cutting_follows_stated_downbeats_exactly():
    settings = Settings(clip_s=5.0, min_s=2.0, labels=False)
    audio = np.tile(music(0), 2)[None, : 20 * RATE]
    beats = np.arange(0.7, 20.0, 0.5)
    stated = {"beats_s": beats.tolist(), "downbeats_s": beats[::4].tolist(), "key": "A minor"}
    clips = list(cut(audio, 0.2, stated, settings, None))  # 0.2 s of silence were trimmed before
    assert clips[0].start == pytest.approx(0.5 * RATE, abs=1)
    assert all(b.start == a.stop for a, b in itertools.pairwise(clips))
    for clip in clips[:-1]:
        assert clip.stop - clip.start == pytest.approx(4.0 * RATE, abs=1)  # two bars: three would be 6 s
        assert clip.labels["bpm"] == pytest.approx(120.0) and clip.labels["beats_per_bar"] == 4
        assert clip.labels["downbeats_s"] == pytest.approx([0.0, 2.0], abs=1e-3)
        assert len(clip.labels["beats_s"]) == 8 and clip.labels["key"] == "A minor"
    wobbly = stated | {"beats_s": (beats + 0.15 * (np.arange(len(beats)) % 2)).tolist()}
    assert all("beats_s" not in clip.labels for clip in cut(audio, 0.2, wobbly, settings, None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip_s": float("nan")}, "clip_s is nan; allowed: 1.0 to 600.0 seconds"),
        ({"min_s": 20.0}, "min_s is 20.0; allowed"),
        ({"loudness_lufs": 3.0}, "loudness_lufs is 3.0; allowed: -60 to -5 LUFS"),
        ({"captions": ("lyrics",)}, "captions is 'lyrics'; allowed: out of sidecar, tags, names"),
        ({"beat_tracker": "/nowhere"}, "beat_tracker /nowhere: no such folder"),
        ({"key_network": "/nowhere"}, "key_network /nowhere: no such folder"),
    ],
)
def test_settings_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        Settings(**change)


def test_tags(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.flac", "w", RATE, 1) as file:
        file.title, file.genre, file.comment = "Rain", "ambient", "soft pads and bells"
        file.write(music(0, 1.0))
    tags = read_tags((tmp_path / "a.flac").read_bytes(), "a.flac")
    assert tags["title"] == "Rain" and tags["genre"] == "ambient"
    assert read_tags(b"rubbish" * 10, "a.mp3") == {}
