"""A reference sound: what it changes, what a recipe holds of it, and bad ones."""

import numpy as np
import pytest
import soundfile
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from pipelines.composer_vivace import ComposerVivace
from pipelines.pipeline_vivace import Score, Track, VivacePipeline
from pipelines.vivace_process import data_of, with_data
from tests.conftest import make_pipeline
from tests.helpers.voice import RATE as VOICE_RATE
from tests.helpers.voice import beatbox

RATE = 8000
CALL = {"bars": 1, "bpm": 120.0, "seed": 3}


@pytest.fixture(scope="module")
def pipe() -> VivacePipeline:
    return make_pipeline(instruments=("piano", "drums"), reference=True)


def noise(seed: int = 0, seconds: float = 1.5) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE)).astype(np.float32)


def hum(hertz: float = 110.0, seconds: float = 1.5) -> np.ndarray:
    return (0.2 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_it_changes_the_piece_and_another_changes_it_otherwise(pipe):
    free, low, hiss = (
        pipe("piano", **CALL, **more).audios[0]
        for more in ({}, *({"sounds_like": one, "sampling_rate": RATE} for one in (hum(), noise())))
    )
    assert free.shape == low.shape == hiss.shape
    for one, other in ((free, low), (free, hiss), (low, hiss)):
        assert np.abs(one - other).max() > 1e-3


def test_its_level_its_rate_and_its_channels_do_not_matter(pipe):
    plain = np.array(pipe.sound_of(hum(), RATE))
    twice = np.repeat(hum(), 2)  # at twice the rate
    for audio, rate in ((3.0 * hum(), RATE), (np.stack([hum(), hum()]), RATE), (twice, 2 * RATE)):
        assert np.abs(np.array(pipe.sound_of(audio, rate)) - plain).max() < 0.1
    assert np.abs(np.array(pipe.sound_of(noise(), RATE)) - plain).max() > 0.3


def test_a_file_an_output_and_numbers_give_the_same_bits(pipe, tmp_path):
    soundfile.write(tmp_path / "hum.wav", hum(), RATE, subtype="FLOAT")
    numbers = pipe.sound_of(hum(), RATE)
    assert len(numbers) == 8 and numbers == pipe.sound_of(tmp_path / "hum.wav")
    made = [
        pipe("piano", **CALL, **more).audios[0]
        for more in (
            {"sounds_like": str(tmp_path / "hum.wav")}, {"sounds_like": numbers},
            {"sounds_like": hum(), "sampling_rate": RATE},
        )
    ]  # fmt: skip
    assert all(np.array_equal(made[0], one) for one in made[1:])
    out = pipe("piano", **CALL)
    assert pipe.sound_of(out) == pipe.sound_of(out.audios[0], out.sampling_rate)


def test_each_prompt_may_have_its_own(pipe):
    numbers = pipe.sound_of(hum(), RATE)
    both = pipe(["piano", "drums"], **CALL, sounds_like=[numbers, None]).audios
    alone = pipe("piano", **CALL, sounds_like=numbers).audios[0], pipe("drums", **CALL).audios[0]
    assert np.array_equal(both[0], alone[0]) and np.array_equal(both[1], alone[1])


@pytest.mark.parametrize("more", [{}, {"loop": True}, {"duration_s": 30.0, "bars": None}])
def test_the_mean_of_the_latents_is_that_of_the_recording(pipe, more):
    """Of short pieces, circles, and pieces of several windows; the network has 8 numbers, 4 of them means."""
    numbers, call = [2.0, -1.0, 0.5, 0.0, 1.0, 1.0, 1.0, 1.0], CALL | {"num_inference_steps": 4} | more
    means = {}
    for strength in (0.0, 0.5, 1.0):
        latents = pipe(
            "piano", **call, sounds_like=numbers, sounds_like_strength=strength, output_type="latent"
        ).audios[0]
        means[strength] = np.abs(np.asarray(latents.mean(-1)) - np.array(numbers[:4])).mean()
    assert means[1.0] < means[0.5] < means[0.0] and means[1.0] < 0.6 * means[0.0]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow"])
def test_a_prediction_has_the_data_that_it_is_given(kind):
    scheduler = (
        FlowMatchEulerDiscreteScheduler()
        if kind == "flow"
        else DDIMScheduler(prediction_type=kind, beta_schedule="scaled_linear")
    )
    noisy, prediction, change = (torch.randn(2, 4, 6) for _ in range(3))
    for timestep in (50.0, 400.0, 900.0):
        before = data_of(scheduler, noisy, prediction, timestep)
        after = data_of(scheduler, noisy, with_data(scheduler, prediction, change, timestep), timestep)
        torch.testing.assert_close(after, before + change, rtol=1e-3, atol=1e-3)


def test_a_recipe_makes_it_again_without_the_recording(pipe, tmp_path):
    out = pipe("piano", **CALL, sounds_like=hum(), sampling_rate=RATE)
    assert out.recipe()["arguments"]["sounds_like"] == pipe.sound_of(hum(), RATE)
    out.save(tmp_path / "piece.wav")
    assert not pipe.replay(tmp_path / "piece.wav").differences
    old = pipe("piano", **CALL, sounds_like=hum(), sampling_rate=RATE, sounds_like_strength=0.0)
    old.recipes[0]["arguments"].pop("sounds_like_strength")  # as of before there was one
    old.save(tmp_path / "old.wav")
    assert not pipe.replay(tmp_path / "old.wav").differences


def test_a_tapped_rhythm_and_a_sound_share_the_rate(pipe):
    torch.manual_seed(0)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16, instruments=("piano",)).eval()
    composing = VivacePipeline.from_pipe(pipe, composer=composer)
    taps = beatbox([(0.5 * k, "kick") for k in range(4)], 0)[0]
    sound = np.tile(hum(), VOICE_RATE // RATE)
    out = composing("piano", bars=1, bpm=120.0, seed=1, rhythm=taps, sounds_like=sound, sampling_rate=VOICE_RATE)
    assert out.recipe()["arguments"]["sounds_like"] == pipe.sound_of(sound, VOICE_RATE)


def test_with_a_score_its_parts_and_in_an_edit(pipe):
    score = Score((Track("lead", [(0.0, 1.0, 72, 0.8)]), Track("drums", [(0.0, 0.2, 36, 0.9)])), 120.0, bars=1)
    numbers = pipe.sound_of(noise(), RATE)
    out = pipe("piano", score=score, stems=True, seed=1, sounds_like=numbers)
    assert np.array_equal(sum(out.stems[0].values()), out.audios[0])
    assert np.abs(out.audios[0] - pipe("piano", score=score, stems=True, seed=1).audios[0]).max() > 1e-3
    audio = hum(seconds=2.0)
    edited = pipe("piano", audio=audio, sampling_rate=RATE, mask_s=[(0.5, 1.0)], seed=1, sounds_like=numbers).audios[0]
    assert np.array_equal(edited[0, : RATE // 4], audio[: RATE // 4])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sounds_like": hum(seconds=0.5), "sampling_rate": RATE}, "sounds_like is 0.50 s; needed: 1 s of sound"),
        ({"sounds_like": np.zeros(RATE, "f4"), "sampling_rate": RATE}, "sounds_like is 1.00 s of silence"),
        ({"sounds_like": hum()}, "sounds_like: sampling_rate is None"),
        ({"sounds_like": "nothing.wav"}, "sounds_like: "),
        ({"sounds_like": [0.5] * 7}, "sounds_like has 7 numbers; this checkpoint's network takes 8"),
        ({"sounds_like": [float("nan")] * 8}, "sounds_like is nan"),
        ({"sounds_like": [hum(), hum()], "sampling_rate": RATE}, "sounds_like has 2 entries for 1 prompts"),
        ({"sounds_like": 5}, "sounds_like: audio is a int"),
        ({"sounds_like_strength": 1.5}, "sounds_like_strength is 1.5"),
    ],
)
def test_bad_sounds_are_named(pipe, given, words):
    with pytest.raises(ValueError, match=words):
        pipe("piano", **CALL, **given)


def test_a_network_without_a_reference_says_so():
    with pytest.raises(ValueError, match="sounds_like needs a network that takes a reference"):
        make_pipeline()("piano", **CALL, sounds_like=[0.0] * 8)
