"""The compressor in a call: off as before; recipes, streams, loops and edits keep what they promise with it."""

import numpy as np
import pytest
import torch

from pipelines.pipeline_vivace import VivacePipeline, loudness, true_peak_db
from pipelines.vivace_files import make_recipe, replay_arguments

FAST = {"num_inference_steps": 2, "seed": 3}
RATE = 8000


@pytest.fixture
def pipe(tiny_pipeline):
    """A quiet one, of which every third half second is 12 dB louder."""
    plain = tiny_pipeline.decode_latents

    def swelling(latents, loop, samples=None):
        place = 0
        for chunk in plain(latents, loop, samples):
            steps = torch.arange(place, place + chunk.shape[1]) // (RATE // 2) % 3
            place += chunk.shape[1]
            yield 0.02 * chunk * torch.where(steps == 2, 4.0, 1.0)

    tiny_pipeline.decode_latents = swelling
    return tiny_pipeline


def uneven(audio: np.ndarray) -> float:
    """Loudest half second over the median, dB."""
    power = np.square(audio[:, : audio.shape[1] // 4000 * 4000]).mean(0).reshape(-1, 4000).mean(1)
    return 10 * np.log10(power.max() / np.median(power))


def test_the_checkpoint_s_ratio_and_one_argument_to_turn_it_off(pipe):
    ask = {"prompt": "piano", "duration_s": 6.0, "loudness_lufs": -26.0, **FAST}
    off = pipe(**ask).audios[0]
    pipe.register_to_config(default_compression_ratio=4.0)
    on = pipe(**ask).audios[0]
    assert uneven(on) < uneven(off) - 4.0
    for audio in (on, off):
        assert loudness(torch.from_numpy(audio), RATE) == pytest.approx(-26.0, abs=0.2)
        assert true_peak_db(torch.from_numpy(audio)) <= -0.9
    np.testing.assert_array_equal(pipe(**ask, compression_ratio=1).audios[0], off)
    decoded = [pipe(**ask, normalize=False, compression_ratio=ratio).audios[0] for ratio in (1, 4)]
    np.testing.assert_array_equal(*decoded)
    two = pipe(**ask | {"prompt": ["piano"] * 2, "seed": [3, 3]}, compression_ratio=[1.0, 4.0]).audios
    np.testing.assert_array_equal(two, [off, on])
    assert VivacePipeline.from_pipe(pipe).config.default_compression_ratio == 4.0
    for bad in (0.5, 21, "much", True):
        with pytest.raises(ValueError, match=f"compression_ratio is {bad!r}"):
            pipe(**ask, compression_ratio=bad)


def test_replay_of_new_recipes_and_of_those_from_before(pipe, tmp_path):
    ask = {"prompt": "piano", "duration_s": 3.0, **FAST}
    old = pipe(**ask)
    old.recipes[0]["arguments"].pop("compression_ratio")
    old.save(tmp_path / "old.wav")
    pipe.register_to_config(default_compression_ratio=4.0)
    new = pipe(**ask)
    new.save(tmp_path / "new.wav")
    assert new.recipes[0]["arguments"]["compression_ratio"] == 4.0
    for name in ("old.wav", "new.wav"):
        assert pipe.replay(tmp_path / name).differences == []
    assert np.abs(new.audios[0] - old.audios[0]).max() > 0.01
    recipe = make_recipe({"prompt": "piano", "seed": 1}, None, RATE, {}, [], [])
    assert replay_arguments(recipe, None) == {"prompt": "piano", "seed": 1, "compression_ratio": 1.0}


def test_a_stream_is_the_piece_and_a_longer_one_at_one_other_gain(pipe):
    ask = {"prompt": "piano", "compression_ratio": 4.0, "loudness_lufs": -40.0, **FAST}
    whole = pipe(**ask, duration_s=12.0).audios[0]
    np.testing.assert_array_equal(np.concatenate(list(pipe.stream(**ask, duration_s=12.0)), axis=1), whole)
    whole = pipe(**ask, duration_s=47.0).audios[0]
    chunks = list(pipe.stream(**ask, duration_s=47.0))
    stream = np.concatenate(chunks, axis=1)
    assert len(chunks) > 2 and stream.shape == whole.shape
    np.testing.assert_allclose(stream * (np.linalg.norm(whole) / np.linalg.norm(stream)), whole, atol=1e-6)


def test_a_loop_has_no_seam(pipe):
    """The gain alone: as smooth across the seam as elsewhere."""
    ask = {"prompt": "piano", "bars": 2, "bpm": 97, "loop": True, **FAST}
    plain, even = (pipe(**ask, compression_ratio=ratio).audios[0].astype(np.float64) for ratio in (1, 4))
    loud = np.abs(plain) > 0.2 * np.abs(plain).max()
    gain = np.log(even[loud] / plain[loud])
    assert np.ptp(gain) > 0.3 and abs(gain[0] - gain[-1]) < 0.05


@pytest.mark.parametrize("loop", [False, True])
def test_edits_keep_what_is_outside_and_even_what_is_inside(pipe, loop):
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((1, 12 * RATE))).astype(np.float32)
    ask = {
        "prompt": "piano",
        "audio": audio,
        "sampling_rate": RATE,
        "bpm": 120,
        "downbeat_s": 0.0,
        "loop": loop,
        **FAST,
    }
    for first, last in ((3.0, 9.0), (5.0, 7.0)):
        off, on = (pipe(**ask, mask_s=[(first, last)], compression_ratio=ratio).audios[0] for ratio in (1, 4))
        inside = slice(round(first * RATE), round(last * RATE))
        for made in (off, on):
            kept = np.delete(made, np.r_[inside], axis=1)
            np.testing.assert_array_equal(kept, np.delete(audio, np.r_[inside], axis=1))
        assert uneven(on[:, inside]) < uneven(off[:, inside]) - 3.0
    off, on = (pipe(**ask | {"loop": False}, extend_s=(0, 4.0), compression_ratio=r).audios[0] for r in (1, 4))
    np.testing.assert_array_equal(on[:, : audio.shape[1]], audio)
    assert np.abs(on - off).max() > 1e-3
    nothing = [pipe(**ask, strength=0.7, normalize=False, compression_ratio=r).audios[0] for r in (1, 4)]
    np.testing.assert_array_equal(*nothing)
