"""What is said per prompt: loops, strength, level and tone, each as it is alone; and values of every kind that no
argument takes."""

import inspect

import numpy as np
import pytest
import torch

from pipelines import pipeline_vivace
from pipelines.pipeline_vivace import VivacePipeline, loudness, read_recipe

TWO = {"prompt": ["piano", "drums"], "bpm": 120, "bars": 2}


def test_loops_beside_pieces(tiny_pipeline):
    rows = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    batch = tiny_pipeline(**TWO, loop=[True, False], seed=[1, 2])
    assert rows == [2] * 6  # three guided steps each
    assert tiny_pipeline.num_timesteps == 6
    for row, (prompt, loop) in enumerate((("piano", True), ("drums", False))):
        alone = tiny_pipeline(prompt, bpm=120, bars=2, loop=loop, seed=row + 1).audios[0]
        np.testing.assert_allclose(batch.audios[row], alone, atol=2e-4)
        assert batch.recipes[row]["arguments"]["loop"] is loop


def test_strengths(tiny_pipeline, tmp_path):
    audio = (0.3 * np.sin(np.arange(8000) * 0.1)).astype(np.float32)
    edit = {"audio": audio, "sampling_rate": 8000}
    batch = tiny_pipeline(["piano", "drums", "jazz"], **edit, strength=[0.0, 0.4, 1.0], seed=[1, 2, 3])
    np.testing.assert_array_equal(batch.audios[0, 0], audio)
    for row, (prompt, strength) in enumerate((("piano", 0.0), ("drums", 0.4), ("jazz", 1.0))):
        alone = tiny_pipeline(prompt, **edit, strength=strength, seed=row + 1).audios[0]
        np.testing.assert_allclose(batch.audios[row], alone, atol=1e-5)
        batch.save(tmp_path / "a.wav", row)
        assert read_recipe(tmp_path / "a.wav")["arguments"]["strength"] == strength
        again = tiny_pipeline.replay(tmp_path / "a.wav", audio)
        np.testing.assert_allclose(again.audios[0], batch.audios[row], atol=1e-5)


def test_levels_and_tones(tiny_pipeline):
    batch = tiny_pipeline(
        **TWO, seed=[1, 1], loudness_lufs=[-30.0, -20.0], tilt_db=[0.0, 6.0], fade_in_s=[0.0, 0.5], fade_out_s=0.1
    )
    levels = [loudness(torch.from_numpy(audio), 8000) for audio in batch.audios]
    assert levels[0] == pytest.approx(-30, abs=1.0) and levels[1] == pytest.approx(-20, abs=1.5)
    assert np.abs(batch.audios[1, 0, :40]).max() < 0.1 * np.abs(batch.audios[1]).max()
    raw = tiny_pipeline(**TWO, seed=[1, 2], normalize=[False, True])
    alone = tiny_pipeline("piano", bpm=120, bars=2, seed=1, normalize=False).audios[0]
    np.testing.assert_allclose(raw.audios[0], alone, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"loop": [True]}, "loop has 1 entries for 2 prompts"), ({"loop": "yes"}, "loop is yes; allowed: True or"),
        ({"loop": [True, False], "fade_in_s": 1}, "fade_in_s is 1 with loop=True"),
        ({"normalize": [1, 2]}, "normalize is 1; allowed: True or False"),
        ({"loudness_lufs": [-16, 3]}, "loudness_lufs is 3"), ({"tilt_db": ["a", 1]}, "tilt_db is 'a'"),
    ],
)  # fmt: skip
def test_bad_lists(tiny_pipeline, given, words):
    with pytest.raises(ValueError, match=words):
        tiny_pipeline(**TWO, **given)


AUDIO = {"audio": np.full(8000, 0.1, np.float32), "sampling_rate": 8000}
BASES = ({}, AUDIO | {"mask_s": [(0.2, 0.5)]}, AUDIO | {"strength": 0.5}, {"bpm": 100, "bars": 1, "loop": True})
OWN = ("self", "return_dict", "callback_on_step_end")
ARGUMENTS = [name for name in inspect.signature(VivacePipeline.__call__).parameters if name not in OWN]
ODD = [
    5, -1, 0, True, "x", "", [], [1], [[1]], (), {}, float("nan"), float("inf"), 1e308, None, b"x", object(),
    np.zeros((2, 2)), torch.zeros(3), ["a", "b"], [(0, 1)], [(1, 0)], [(0,)], 2**70, "9" * 50, np.float32(2.5), [None],
]  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENTS)
def test_no_value_of_any_kind_is_a_traceback(tiny_pipeline, monkeypatch, name):
    """It is understood, or refused in one line, before any work is done."""
    understood = RuntimeError("understood")

    def stop(*args):
        raise understood

    monkeypatch.setattr(pipeline_vivace, "text_states", stop)
    for base in BASES:
        for value in ODD:
            arguments = {"prompt": "piano"} | base | {name: value}
            if name in ("morph", "prompt_embeds"):
                del arguments["prompt"]
            try:
                tiny_pipeline(**arguments)
            except ValueError as error:
                assert "\n" not in str(error), arguments
            except RuntimeError as error:
                assert error is understood, arguments
