"""Files of any kind: what libsndfile cannot read, or reads too short, goes through ffmpeg or is refused in words."""

import struct
import subprocess

import numpy as np
import pytest
import soundfile
import torch

from pipelines import vivace_files
from pipelines.vivace_files import find_ffmpeg, mp3_seconds, read_file

RATE, SECONDS = 44100, 8.0
PARTS = ((2, 9), (20, 78))  # tenths of a second of the two parts of `sound`


def sound() -> np.ndarray:
    """Noise, then a soft tone: an encoder of variable bit rate spends most on the beginning."""
    audio = 0.3 * np.random.default_rng(0).standard_normal(round(SECONDS * RATE)).clip(-3.0, 3.0)
    audio[RATE:] = 0.1 * np.sin(np.arange(len(audio) - RATE) * 0.05)
    return audio.astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    soundfile.write(folder / "in.wav", sound(), RATE)
    program = find_ffmpeg()
    assert program is not None, "pip install imageio-ffmpeg (it is in the dev extra)"
    for name, words in {
        "bare.mp3": ["-c:a", "libmp3lame", "-q:a", "4", "-write_xing", "0", "-id3v2_version", "0"],
        "xing.mp3": ["-c:a", "libmp3lame", "-q:a", "4"],
        "constant.mp3": ["-c:a", "libmp3lame", "-b:a", "96k", "-write_xing", "0"],
        "old.mp3": ["-c:a", "libmp3lame", "-q:a", "4", "-ar", "22050", "-ac", "1"],
        "phone.m4a": ["-c:a", "aac"],
        "browser.webm": ["-c:a", "libopus"],
    }.items():
        subprocess.run([program, "-v", "error", "-i", folder / "in.wav", *words, folder / name], check=True)
    content = bytearray((folder / "in.wav").read_bytes())
    place = content.index(b"data")
    content[4:8] = content[place + 4 : place + 8] = struct.pack("<I", 0)
    (folder / "died.wav").write_bytes(content)
    return folder


def test_frames_are_counted(files):
    for name in ("bare.mp3", "xing.mp3", "constant.mp3", "old.mp3"):
        assert mp3_seconds((files / name).read_bytes()) == pytest.approx(SECONDS, abs=0.15), name
    assert mp3_seconds(b"") == mp3_seconds(b"ID3") == mp3_seconds((files / "in.wav").read_bytes()) == 0.0


@pytest.mark.parametrize("name", ["bare.mp3", "xing.mp3", "constant.mp3", "phone.m4a", "browser.webm", "died.wav"])
def test_all_of_a_file_is_read(files, name):
    samples, rate = read_file(files / name, 600.0)
    assert samples.shape[1] / rate == pytest.approx(SECONDS, abs=0.15)
    loud, soft = (samples[:, first * rate // 10 : last * rate // 10].square().mean().sqrt() for first, last in PARTS)
    assert loud == pytest.approx(0.3, rel=0.2) and soft == pytest.approx(0.0707, rel=0.1)
    if name == "died.wav":
        torch.testing.assert_close(samples[0], torch.from_numpy(sound()), atol=1e-4, rtol=0)


def test_what_libsndfile_would_take_for_less(files):
    """The premise: by its own count, most of this file is lost."""
    assert soundfile.info(files / "bare.mp3").duration < 0.7 * SECONDS


def test_without_ffmpeg_it_is_said(files, monkeypatch):
    monkeypatch.setattr(vivace_files, "find_ffmpeg", lambda: None)
    for name in ("phone.m4a", "browser.webm", "died.wav", "bare.mp3"):
        with pytest.raises(ValueError, match="without ffmpeg: pip install imageio-ffmpeg") as caught:
            read_file(files / name, 600.0)
        assert "\n" not in str(caught.value)
    assert read_file(files / "xing.mp3", 600.0)[1] == read_file(files / "constant.mp3", 600.0)[1] == RATE


def test_too_long_is_refused_however_it_is_read(files):
    for name in ("in.wav", "bare.mp3", "phone.m4a", "browser.webm", "died.wav"):
        with pytest.raises(ValueError, match="allowed: up to 5 s"):
            read_file(files / name, 5.0)


def test_a_playlist_opens_no_other_file(files):
    (files / "list.m4a").write_text(f"ffconcat version 1.0\nfile '{files / 'in.wav'}'\n")
    (files / "list.mp3").write_text(f"#EXTM3U\n#EXTINF:8,\nfile://{files / 'in.wav'}\n#EXT-X-ENDLIST\n")
    for name in ("list.m4a", "list.mp3"):
        with pytest.raises(ValueError, match="cannot be read"):
            read_file(files / name, 600.0)
