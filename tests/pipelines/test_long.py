"""Pieces longer than a window: the same noise and grid, kept beginnings, chunks that are the whole."""

import numpy as np
import pytest
import torch

from pipelines.vivace_audio import loudness, true_peak_db
from pipelines.vivace_sampling import CONTEXT, REDRAWN, WINDOW, windows

LATENT = {"output_type": "latent"}
FAST = {"num_inference_steps": 2, "seed": 3}


def test_windows_cover_a_piece_once():
    for frames in [1, WINDOW, WINDOW + 1, WINDOW + REDRAWN, 1000, 2000, 15000]:
        made = 0
        for first, last, given, done in windows(frames):
            assert given == made and first <= given < done <= last <= frames
            assert last - first <= WINDOW and (given == 0 or given - first == CONTEXT)
            assert done == frames or last - done == REDRAWN
            made = done
        assert made == frames
    assert len(list(windows(WINDOW))) == 1


def test_what_each_window_is_told(tiny_pipeline):
    """The grid and the noise are the whole piece's; the first frames are given."""
    seen = []
    tiny_pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((args[0], kwargs)), with_kwargs=True
    )
    asked = {
        "prompt": "piano",
        "bpm": 97,
        "chords": "Am F C G",
        "duration_s": 30.0,
        "num_inference_steps": 1,
        "seed": 3,
    }
    out = tiny_pipeline(**asked, **LATENT).audios
    spans = list(windows(750))
    assert out.shape == (1, 4, 750) and len(seen) == len(spans) == 2
    (_, told), (_, later) = seen
    first, last, given, _ = spans[1]
    seen.clear()
    tiny_pipeline(**asked | {"duration_s": 20.0}, **LATENT)
    torch.testing.assert_close(told["frame_cond"][0, :22, :500], seen[0][1]["frame_cond"][0, :22])  # same as if shorter
    mask = later["frame_cond"][0, 22]
    assert not mask[: given - first].any() and mask[given - first :].all()
    torch.testing.assert_close(later["frame_cond"][0, 23:, : given - first], out[0, :, first:given])
    beats = torch.atan2(later["frame_cond"][0, 0], later["frame_cond"][0, 1]) / (2 * np.pi)
    expected = ((torch.arange(first, last) + 0.5) / 25.0 * 97 / 60) % 1.0
    torch.testing.assert_close((beats - expected + 0.5) % 1.0, torch.full_like(beats, 0.5), atol=1e-4, rtol=0)


def test_a_longer_piece_begins_as_a_shorter_one(tiny_pipeline):
    short, long = (tiny_pipeline("piano", duration_s=d, **FAST, **LATENT).audios[0] for d in (30.0, 45.0))
    done = next(windows(750))[3]
    torch.testing.assert_close(long[:, :done], short[:, :done], atol=1e-6, rtol=0)


def test_alone_as_in_a_batch_with_short_ones(tiny_pipeline):
    batch = tiny_pipeline(
        ["piano", "drums", "calm"], duration_s=[25.0, 2.0, 3.0], seed=[1, 2, 3], num_inference_steps=2
    )
    for row, (prompt, seconds) in enumerate((("piano", 25.0), ("drums", 2.0), ("calm", 3.0))):
        alone = tiny_pipeline(prompt, duration_s=seconds, seed=row + 1, num_inference_steps=2).audios[0]
        assert alone.shape == (1, round(seconds * 8000))
        np.testing.assert_allclose(batch.audios[row], alone, atol=1e-5)


def test_a_stream_is_the_piece(tiny_pipeline):
    long = {"duration_s": 47.0, "tilt_db": 3.0, "fade_in_s": 1.0, "fade_out_s": 2.0}
    for asked in ({"duration_s": 2.0}, {"duration_s": 20.4, "tilt_db": 3.0}, long | {"normalize": False}):
        whole = tiny_pipeline("piano", **asked, **FAST).audios[0]
        chunks = list(tiny_pipeline.stream("piano", **asked, **FAST))
        assert (len(chunks) > 2) == (asked["duration_s"] > 30)
        np.testing.assert_array_equal(np.concatenate(chunks, axis=1), whole)
        assert whole.shape[1] == round(asked["duration_s"] * 8000)


def test_a_long_piece_can_be_heard_while_it_is_made(tiny_pipeline):
    """A call hands on the chunks of a stream, each before the next is made, and its own result is what it was."""
    heard, steps = {0: [], 1: [], 2: []}, []

    def listen(piece: int, audio: np.ndarray) -> None:
        heard[piece].append(audio)
        steps.append(len(done))

    done = []
    asked = {"duration_s": [47.0, 25.0, 2.0], "seed": [5, 6, 7], "num_inference_steps": 2}
    words = ["piano", "drums", "calm"]
    plain = tiny_pipeline(words, **asked)
    made = tiny_pipeline(words, **asked, callback_on_audio=listen, callback_on_step_end=lambda *_: done.append(1) or {})
    assert not heard[2] and len(heard[0]) > 2 and steps[0] < steps[-1]
    for piece in (0, 1):
        np.testing.assert_array_equal(made.audios[piece], plain.audios[piece])
        stream = tiny_pipeline.stream(
            words[piece], duration_s=asked["duration_s"][piece], seed=asked["seed"][piece], num_inference_steps=2
        )
        np.testing.assert_allclose(
            np.concatenate(heard[piece], axis=1), np.concatenate(list(stream), axis=1), atol=1e-5
        )
    with pytest.raises(ValueError, match=r"callback_on_audio is 3; allowed: f\(piece, audio\)"):
        tiny_pipeline("piano", duration_s=1.0, callback_on_audio=3)


def test_the_level_of_a_long_piece_is_that_of_the_whole_and_of_a_stream_that_of_its_beginning(tiny_pipeline):
    """The scale of the latents changes on the way, as a song's sections do."""

    def swell(latents, loop, samples=None, plain=tiny_pipeline.decode_latents):
        for index, chunk in enumerate(plain(latents, loop, samples)):
            yield chunk * (1.0, 3.0, 6.0)[min(index, 2)]

    tiny_pipeline.decode_latents = swell
    asked = {"duration_s": 47.0, "loudness_lufs": -26.0, "true_peak_dbtp": -1.0, **FAST}
    whole = torch.from_numpy(tiny_pipeline("piano", **asked).audios[0])
    stream = torch.from_numpy(np.concatenate(list(tiny_pipeline.stream("piano", **asked)), axis=1))
    assert loudness(whole, 8000) == pytest.approx(-26.0, abs=0.1) and true_peak_db(whole) <= -0.9
    assert loudness(stream[:, : 15 * 8000], 8000) == pytest.approx(-26.0, abs=0.3) and loudness(stream, 8000) > -22.0
    assert true_peak_db(stream) <= -0.9
    quiet = slice(0, 10 * 8000)  # where no limiter acts: the same but for one gain
    ratio = stream[:, quiet].norm() / whole[:, quiet].norm()
    torch.testing.assert_close(stream[:, quiet] / ratio, whole[:, quiet], atol=1e-6, rtol=1e-3)


def test_a_stream_is_made_as_it_is_read(tiny_pipeline):
    passes = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args: passes.append(1))
    chunks = tiny_pipeline.stream("piano", duration_s=60.0, **FAST)
    assert not passes
    next(chunks)
    assert len(passes) == 2  # one window of two steps
    assert sum(1 for _ in chunks) >= 2 and len(passes) == 2 * len(list(windows(1500)))
    with pytest.raises(ValueError, match="one piece at a time, and 2"):
        next(tiny_pipeline.stream(["a", "b"]))
    with pytest.raises(ValueError, match="bpm is 900"):
        next(tiny_pipeline.stream("a", bpm=900))


def test_a_long_edit_makes_only_what_it_must(tiny_pipeline):
    audio = np.random.default_rng(0).standard_normal(8000 * 60).astype(np.float32) * 0.1
    frames = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args: frames.append(args[0].shape[-1]))
    out = tiny_pipeline("piano", audio=audio, sampling_rate=8000, mask_s=[(30.0, 31.0)], bpm=90, downbeat_s=0, **FAST)
    assert frames == [WINDOW] * 2  # one window, two steps
    changed = np.flatnonzero(out.audios[0, 0] != audio)
    assert changed.min() >= 30 * 8000 and changed.max() < 31 * 8000 and len(changed) > 7000


def test_interrupted(tiny_pipeline):
    def stop(pipe, step, timestep, tensors):
        pipe._interrupt = True

    out = tiny_pipeline("piano", duration_s=60.0, callback_on_step_end=stop, **FAST, **LATENT).audios
    assert out.shape == (1, 4, 1500)
    assert tiny_pipeline.num_timesteps == 2 * len(list(windows(1500)))
