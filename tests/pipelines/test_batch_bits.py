"""On a CPU a piece has the same bits alone and in any batch, with the shipped weights and with random ones."""

import numpy as np
import pytest
import torch

from pipelines.hub import load_native
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel

EIGHT = {
    "prompt": [
        "piano", "funk groove with electric bass, electric piano and drums", "harp and flute", "slow drums",
        "a very long text about a string quartet that plays a calm and slow waltz in an old and large house by the sea",
        "techno", "bossa nova with nylon guitar", [(0, "calm piano"), (0.5, "rock group with drums")],
    ],
    "negative_prompt": [None, "drums", "", "loud piano", None, "strings, loud and fast, out of tune", None, "harp"],
    "duration_s": [1.0, 1.0, 1.3, 1.0, 1.0, 1.0, 1.3, 1.0],
    "bpm": [100, 90, None, 100, 120.5, 240, 80, 100],
    "key": ["A minor", None, "C major", None, "Bb major", None, "D minor", None],
    "chords": ["Am", None, None, None, "Bb:1 F:1", None, None, "C:1"],
    "guidance_scale": [2.5, 3.0, 2.5, 1.0, 4.0, 2.5, 1.0, 2.0],
    "grid_guidance_scale": [None, None, None, None, 2.0, None, None, None],
    "guidance_rescale": [0.0, 0.5, 0.0, 0.0, 0.7, 0.0, 0.0, 0.0],
    "loop": [False, False, False, False, False, True, False, False],
    "seed": [7, 8, 9, 10, 11, 12, 13, 14],
}  # fmt: skip
STEPS = {"num_inference_steps": 2}


@pytest.fixture(scope="module")
def shipped() -> VivacePipeline:
    pipe = load_native("checkpoints/small")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def some(*rows: int) -> dict:
    return {name: [values[row] for row in rows] for name, values in EIGHT.items()}


def alone(pipe, row: int, **more) -> np.ndarray:
    return pipe(**{name: values[row] for name, values in EIGHT.items()}, **STEPS, **more).audios[0]


def check(pipe, **more):
    """Batches of 2, 3 and 8, of pieces that differ in everything that may differ."""
    expected = [alone(pipe, row, **more) for row in range(8)]
    for rows in ((0, 1), (1, 0), (3, 0, 4), range(8)):
        made = pipe(**some(*rows), **STEPS, **more).audios
        for row, audio in zip(rows, made, strict=True):
            np.testing.assert_array_equal(audio, expected[row], err_msg=f"piece {row} of {list(rows)}")


def test_random_weights(tiny_pipeline):
    sizes = {
        "block_out_channels": [32, 64],
        "attention_head_dim": 16,
        "context_dim": 32,
        "embedding_dim": 32,
        "linear_taps": 33,
    }
    tiny_pipeline.unet = UNet1DConditionModel.from_config(tiny_pipeline.unet.config, **sizes).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in tiny_pipeline.unet.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    check(tiny_pipeline)
    check(tiny_pipeline, apg_eta=0.3, apg_norm_threshold=1.0, apg_momentum=-0.4)


def test_shipped_weights(shipped):
    check(shipped)


def test_guidance_row_by_row(shipped):
    """The passes of guidance, in one or each on its own."""
    whole = shipped(**some(0, 1, 3), **STEPS).audios
    shipped.enable_guidance_slicing()
    try:
        sliced = shipped(**some(0, 1, 3), **STEPS).audios
    finally:
        shipped.disable_guidance_slicing()
    np.testing.assert_array_equal(sliced, whole)


def test_texts(shipped):
    texts = [text for text in EIGHT["prompt"] if isinstance(text, str)]
    states, read = shipped.encode_prompt(texts, torch.device("cpu"))
    for row, text in enumerate(texts):
        own, _ = shipped.encode_prompt([text], torch.device("cpu"))
        assert torch.equal(own[0], states[row, : own.shape[1]]) and int(read[row].sum()) == own.shape[1]


def test_many_pieces_are_still_one_batch(tiny_pipeline):
    rows = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    tiny_pipeline(["piano", "slow drums", "calm"], duration_s=1.0, seed=[1, 2, 3], **STEPS)
    assert rows == [6, 6]
