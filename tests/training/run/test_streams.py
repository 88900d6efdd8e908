"""Random streams: named, each with a value of its own, and bits that do not change."""

import ast

import numpy as np
import torch

from tests.conftest import ROOT
from training.run.streams import ClipStream, Measure, Stream, item_rng, torch_rng

NAMED = tuple(kind.__name__ for kind in (Stream, Measure, ClipStream))


def calls(*names: str) -> list[tuple[str, ast.Call]]:
    """Where a function of one of these names is called in training/."""
    found = []
    for path in sorted((ROOT / "training").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            called = getattr(node.func, "attr", getattr(node.func, "id", None)) if isinstance(node, ast.Call) else None
            if called in names:
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node))
    return found


def is_named(node: ast.expr) -> bool:
    """Whether an expression is a member of an enum of streams."""
    return isinstance(node, ast.Attribute) and ast.unparse(node.value).rpartition(".")[2] in NAMED


def test_every_stream_is_named():
    drawn = calls("item_rng", "torch_rng")
    assert len(drawn) > 20
    for place, call in drawn:
        assert is_named(call.args[1]), f"{place}: {ast.unparse(call)}; the second argument is a Stream or a Measure"


def test_no_seed_is_put_together_of_bare_numbers():
    made = calls("default_rng", "SeedSequence")
    lists = [(place, part) for place, call in made for part in call.args if isinstance(part, ast.List)]
    assert len(lists) >= 4
    for place, part in lists:
        if not place.startswith("training/run/streams.py"):
            assert any(map(is_named, part.elts)), f"{place}: {ast.unparse(part)} names no stream"
    for place, call in calls("clip_rng"):
        assert any(map(is_named, call.args)), f"{place}: {ast.unparse(call)} names no stream"


def test_each_purpose_is_drawn_for_in_one_way():
    """Two purposes under one name would draw the same numbers; the noise of a step, and what validations
    read, are those of several stages, which never draw in one run."""
    used = [(ast.unparse(call.args[1]).rpartition(".")[2], place.partition(":")[0]) for place, call in
            calls("item_rng", "torch_rng")]  # fmt: skip
    shared = {name for name, place in used if len({other for found, other in used if found == name}) > 1}
    assert shared == {"NOISE", "ROWS", "VALIDATION_ITEM", "VALIDATION_NOISE"}
    assert {name for name, _ in used} == {*Stream.__members__, *Measure.__members__}


def test_bits_are_those_of_the_numbers_before_they_had_names():
    assert {stream.name: stream.value for stream in Stream} == {
        "ITEM_ORDER": 1, "ITEM": 2, "PCA_CLIPS": 3, "NOISE": 4, "VALIDATION_ITEM": 5, "VALIDATION_NOISE": 6,
        "SPECTRUM_ITEM": 7, "HELDOUT_WORDS": 11, "TEXT_ORDER": 12, "TOKEN_EMBEDDINGS": 13, "CORPUS_CAPTIONS": 14,
        "TAGGED_TEXTS": 15, "RETELLINGS": 16, "NEARBY_PHRASES": 17, "TELLINGS": 18, "WORD_NOISE": 19,
        "WAY_NOISE": 20, "JUMPS": 21, "CANDIDATES": 22, "CANDIDATE_NOISE": 23, "CHOSEN": 24,
        "REWARD_CLASSIFIER": 25, "PAIRS": 26, "POLISH": 27, "POLISH_NOISE": 28, "PROBE_NOISE": 31,
        "ADAPTER_SOUND": 32, "FAULTS": 33, "VALIDATION_PIECE": 90,
    }  # fmt: skip
    numpy_drawn = item_rng(3, Stream.ITEM, 5).integers(2**62, size=4)
    assert numpy_drawn.tolist() == np.random.default_rng([3, 2, 5]).integers(2**62, size=4).tolist()
    state = np.random.SeedSequence([3, 4, 5]).generate_state(2)
    plain = torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))
    assert torch.equal(torch.randn(4, generator=torch_rng(3, Stream.NOISE, 5)), torch.randn(4, generator=plain))
