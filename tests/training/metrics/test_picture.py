"""Pictures of samples: small, with the beats that the file's recipe tells."""

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from training.metrics.picture import MAX_BYTES, draw, grid_of, main


def test_a_sample_is_drawn_with_its_grid(tiny_pipeline, tmp_path, capsys):
    out = tiny_pipeline("slow piano, 4 bars", bpm=150, time_signature="3/4", seed=1)
    path = tmp_path / "a.flac"
    out.save(path)
    grid = grid_of(path, 4.8)
    inside = [t for t in grid.beats_s if 0 <= t < 4.8 - 1e-6]
    assert grid.bpm == 150 and np.allclose(inside, np.arange(12) * 0.4)
    assert np.allclose([t for t in grid.downbeats_s if 0 <= t < 4.8 - 1e-6], np.arange(4) * 1.2)
    assert main([str(path)]) == 0
    content = path.with_suffix(".png").read_bytes()
    assert len(content) <= MAX_BYTES and Image.open(io.BytesIO(content)).size == (800, 272)
    assert "a.png" in capsys.readouterr().out and not list(tmp_path.glob("*.partial"))
    bare = tmp_path / "bare.wav"
    soundfile.write(bare, out.audios[0].T, out.sampling_rate)
    assert grid_of(bare, 4.8).beats_s is None and draw(bare) != content  # no recipe, no beats


def test_noise_too_is_small(tmp_path):
    noise = np.random.default_rng(0).normal(size=24000 * 8) * 0.2
    soundfile.write(tmp_path / "n.flac", np.clip(noise, -1, 1), 24000)
    assert len(draw(tmp_path / "n.flac")) <= MAX_BYTES


def test_timelines_and_downbeats(tiny_pipeline, tmp_path):
    out = tiny_pipeline([(0, "piano, 120 bpm"), ("bar 2", "drums")], bars=2, downbeat_s=0.3, seed=1)
    out.save(tmp_path / "a.wav")
    downbeats = grid_of(tmp_path / "a.wav", 4.0).downbeats_s
    assert np.allclose([t for t in downbeats if 0 <= t < 4], [0.3, 2.3])


def test_files_that_will_not_do(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "b.wav", np.zeros(0), 8000)
    for name, words in (("a.wav", "cannot be read"), ("b.wav", "no samples"), ("c.wav", "cannot be read")):
        with pytest.raises(ValueError, match=words):
            draw(tmp_path / name)
