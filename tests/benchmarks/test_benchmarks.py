"""The benchmarks measure what they say: known answers for the harness, published sizes for the peers."""

import argparse
import json
import time

import pytest
import torch

from benchmarks import generation, growth, harness, roofline, training_step
from benchmarks.harness import Child, ChildError, alternate, ratio, summary
from benchmarks.peers import PEERS, count
from benchmarks.random_weights import cheap_weights

MB = 1 << 20


def test_sides_take_turns_and_the_budget_ends_the_rounds():
    order = []
    sides = {name: lambda name=name: order.append(name) or float(len(order)) for name in ("ours", "peer")}
    found = alternate(sides, 3)
    assert order == ["ours", "peer"] * 3
    assert found == {"ours": [1.0, 3.0, 5.0], "peer": [2.0, 4.0, 6.0]}
    once = alternate({"slow": lambda: time.sleep(0.02) or 1.0}, 50, budget_s=0.0)
    assert once == {"slow": [1.0]}


def test_medians_and_ratios_at_known_answers():
    assert summary([5.0, 1.0, 3.0]) == {"median": 3.0, "min": 1.0, "max": 5.0, "runs": 3}
    # The machine was ten times slower in the second round, for both: the ratio does not see it.
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.5]) == 2.0
    with pytest.raises(ValueError):
        ratio([1.0], [1.0, 2.0])


def test_memory_is_the_childs_own_and_its_words_are_kept():
    ballast = bytearray(b"x") * (400 * MB)  # held here; a child started by this process must not be charged for it
    with Child("tests.helpers.benchmark_subjects:holder", {"megabytes": 10}, 1) as small:
        small_peak = small.call()["peak_memory"]
        assert small.ready_s > 0.0
    with Child("tests.helpers.benchmark_subjects:holder", {"megabytes": 210}, 1) as large:
        answer = large.call()
        assert answer["held"] == 210 * MB
        assert answer["peak_memory"] - small_peak == pytest.approx(200 * MB, abs=40 * MB)
        with pytest.raises(ChildError, match="ValueError: on purpose"):
            large.call(error="on purpose")
    assert len(ballast) == 400 * MB


def test_a_child_that_takes_too_long_is_ended():
    with Child("tests.helpers.benchmark_subjects:holder", {"megabytes": 1}, 1) as child:
        child.timeout_s = 0.3
        with pytest.raises(ChildError, match=r"longer than 0\.3 s"):
            child.call(sleep_s=60.0)
        began = time.perf_counter()
    assert time.perf_counter() - began < 20.0
    assert child.process.poll() is not None


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests:.")


@pytest.mark.parametrize("name", PEERS)
def test_peers_have_their_published_size(name):
    with torch.device("meta"):
        counts = count(PEERS[name].parts(False))
    for part, millions in PEERS[name].published.items():
        assert counts[part] / 1e6 == pytest.approx(millions, rel=PEERS[name].tolerance), part


def test_musicgen_small_is_300_million_without_cross_attention():
    """Its name counts the decoder's layers as a plain transformer; those that look at the text come on top."""
    with torch.device("meta"):
        layers = PEERS["MusicGen-small"].parts(False)["network"].model.decoder.layers
    counted = sum(p.numel() for name, p in layers.named_parameters() if "encoder_attn" not in name)
    assert counted / 1e6 == pytest.approx(300.0, rel=0.01)


def test_ace_step_is_2_4_billion_with_the_tokenizers_that_text_to_music_does_not_run():
    from diffusers.pipelines.ace_step.modeling_ace_step import AceStepAudioTokenDetokenizer, AceStepAudioTokenizer

    with torch.device("meta"):
        parts = PEERS["ACE-Step 1.5 turbo"].parts(False)
        whole = {"tokenizer": AceStepAudioTokenizer(), "detokenizer": AceStepAudioTokenDetokenizer()}
    whole |= {name: parts[name] for name in ("network", "condition_encoder")}
    assert count(whole)["sum"] / 1e9 == pytest.approx(2.4, rel=0.01)


def test_cheap_weights_are_ordinary_numbers_and_leave_no_trace():
    before = torch.nn.init.kaiming_uniform_
    with cheap_weights():
        layer = torch.nn.Linear(1024, 2048)
    assert torch.nn.init.kaiming_uniform_ is before
    assert layer.weight.std().item() == pytest.approx(1024**-0.5, rel=0.02)
    assert layer.weight.abs().max() < 1.0 and layer.weight.isfinite().all()
    assert layer(torch.randn(8, 1024)).std().item() == pytest.approx(1.0, rel=0.1)


def test_estimate_adds_passes_at_the_median_distance():
    answer = {"seconds": 10.0, "between_passes": [2.0, 2.0, 7.0]}
    assert generation.extended(answer, 4, 14) == 30.0
    assert generation.extended(answer, 4, 4) == 10.0


@pytest.mark.slow
def test_a_peer_that_fails_or_does_not_fit_is_named_and_the_rest_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(harness.save, "__defaults__", (tmp_path,))
    options = generation.parse(
        ["--tiny", "--quick", "--threads", "1", "--duration_s", "1", "--peers", "Stable Audio 3 small", "AudioLDM 2"]
    )
    monkeypatch.setitem(vars(options), "checkpoint", "checkpoints/small")
    real = generation.compare

    def compare(name: str, given: argparse.Namespace) -> dict:
        if name == "AudioLDM 2":
            return real(name, argparse.Namespace(**{**vars(given), "tiny": False, "max_memory_gb": 2.0}))
        return real(name, given)

    monkeypatch.setattr(generation, "compare", compare)
    result = generation.run(options)
    assert "allowed 2 GB" in result["not_run"]["AudioLDM 2"] and "weights are 4." in result["not_run"]["AudioLDM 2"]
    row = result["peers"]["Stable Audio 3 small"]
    assert row["peer_audio"] == {"audio_s": 1.0, "sampling_rate": 44100, "channels": 2}
    assert row["default_steps"] == {"ours": 6, "peer": 8} and not row["estimated"]
    assert row["seconds"]["ours"]["median"] > 0.0 and row["peak_memory_gb"]["ours"] > 0.1
    assert json.loads((tmp_path / "generation.json").read_text())["peers"].keys() == {"Stable Audio 3 small"}
    assert "not run" in generation.table(result)


def test_roofline_counts_flops_exactly(monkeypatch, tmp_path):
    monkeypatch.setattr(harness.save, "__defaults__", (tmp_path,))
    left, right = torch.randn(30, 40), torch.randn(40, 50)
    assert roofline.counted(lambda: left @ right) == 2 * 30 * 40 * 50
    fast = roofline.rate(lambda: time.sleep(0.01), 1000, 0.05)()
    assert 1000 / 0.02 < fast <= 1000 / 0.01
    result = roofline.run(roofline.parse(["--quick", "--threads", "1", "--duration_s", "1", "--size", "256"]))
    assert result["parts"]["gemm"]["share_of_gemm"] == 1.0
    assert 0.0 < result["parts"]["unet"]["share_of_gemm"] < 5.0
    assert "decoder" in roofline.table(result)


@pytest.mark.slow
def test_growth_tells_length_time_and_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(harness.save, "__defaults__", (tmp_path,))
    result = growth.run(growth.parse(["--lengths_s", "1", "9999", "--steps", "1", "--threads", "1", "--quick"]))
    assert result["lengths"]["1"]["audio_s"] == pytest.approx(1.0, abs=0.01)
    assert "9999" in result["not_run"]["9999"]  # longer than the checkpoint makes: named with the pipeline's words


def test_waiting_share_at_a_known_answer():
    lines = [(1.0, 0.9), (16.0, 0.2), (16.0, 0.3)]  # the first is not counted
    log = "".join(json.dumps({"train/items_per_s": rate, "train/waiting": share}) + "\n" for rate, share in lines)
    found = training_step.figures(log + '{"validation/all": 1.0}\n', 16)
    assert found == {"steps_per_s": 1.0, "items_per_s": 16.0, "share_waiting": pytest.approx(0.25)}


def test_training_step_runs_the_real_stage(tiny_latents):
    run = training_step.subject("unet", str(tiny_latents), "training/configs/tiny/unet.yaml", 0, 1)
    found = run(steps=6)
    assert 0.0 <= found["share_waiting"] < 1.0 and found["steps_per_s"] > 0.0
