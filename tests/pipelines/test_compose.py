"""The composer: scores through tokens and back, what binds a piece, and its training, with a tiny random network."""

import json

import numpy as np
import pytest
import torch

from pipelines.compose import (
    Plan,
    blank,
    chord_classes,
    compose,
    decode_tokens,
    encode_score,
    key_shift,
    progression_tokens,
    steps_per_bar,
)  # fmt: skip
from pipelines.composer_vivace import (
    COLUMNS,
    FIRST_PITCH,
    HOLD,
    LOWEST_PITCH,
    NAMES,
    REST,
    ROLE_COLUMNS,
    SIZES,
    ComposerVivace,
)  # fmt: skip
from pipelines.vivace_score import Score, Track
from training import train_composer
from training.data import compositions
from training.data.scorebook.labels import Settings, draw_piece, scores_of

TINY = {"width": 24, "layers": 2, "heads": 2, "kernel": 3, "text_dim": 8}


@pytest.fixture(scope="module")
def composer() -> ComposerVivace:
    torch.manual_seed(0)
    return ComposerVivace(**TINY, instruments=("piano", "flute")).eval()


def column(tokens: torch.Tensor, name: str) -> torch.Tensor:
    return tokens[:, NAMES.index(name)]


def plan_of(bars: int, meter: str = "4/4", chords: str | None = None, states=(1, 1, 1, 1)) -> Plan:
    bar = steps_per_bar(meter)
    tokens = blank(bars, bar, states)
    if chords is not None:
        for onset, token in progression_tokens(Score((), 100, meter, bars, None, chords), 0):
            tokens[round(onset * 4) :, 0] = token
    return Plan(tokens, bar, bar / {"4/4": 4, "3/4": 3, "6/8": 2}[meter], states=states)


def test_scores_by_rule_come_back():
    settings = Settings(0, ("procedural",), 24000, 1, 30.0, ("",), "")
    scores = scores_of(("procedural",))
    kept = total = 0
    for index in range(12):
        score, chords = compositions.score_of(draw_piece(settings, index, scores)[0])
        tokens = encode_score(score, chords)
        assert (tokens < torch.tensor(SIZES)).all() and len(tokens) == score.bars * steps_per_bar(score.time_signature)
        again = decode_tokens(tokens, score.time_signature, score.key, score.bpm, {})
        assert again.bars == score.bars and set(again.roles) == set(score.roles)
        for role in ("lead", "bass", "drums"):
            there = again.notes(role)[:, 0]
            for onset in score.notes(role)[:, 0]:
                kept += bool(abs(there - onset).min() * score.quarter_s <= 0.02)
                total += 1
    assert kept / total > 0.9  # lightly swung eighths lie between the straight and the triplet grid


@pytest.mark.parametrize("key", [None, "A minor", "F# minor", "Bb major"])
def test_a_score_on_the_grid_comes_back_whole(key):
    lead = [(0, 1, 69, 0.8), (1, 1 / 3, 71, 0.8), (4 / 3, 1 / 3, 72, 0.8), (5 / 3, 1 / 3, 74, 0.8), (2, 2, 76, 0.8)]
    harmony = [(0, 2, pitch, 0.7) for pitch in (57, 60, 64)] + [(2, 2, pitch, 0.7) for pitch in (53, 57, 60)]
    drums = [(0, 0.1, 36, 0.9), (1, 0.1, 38, 0.9), (2, 0.1, 42, 0.9), (3, 0.1, 49, 0.9)]
    parts = (("lead", lead), ("harmony", harmony), ("bass", [(0, 4, 45, 0.8)]), ("drums", drums))
    score = Score(tuple(Track(role, notes) for role, notes in parts), 96, "4/4", 1, key, "Am:2 F:2")
    again = decode_tokens(encode_score(score), "4/4", key, 96, {})
    for role, _ in parts:
        np.testing.assert_allclose(again.notes(role)[:, [0, 2]], score.notes(role)[:, [0, 2]], atol=1 / 960)
    assert again.chords == "Am:2 F:2" and -6 <= key_shift(key) <= 5


def test_a_seed_gives_its_piece_and_a_longer_one_begins_as_the_shorter(composer):
    first, second, longer, other = plan_of(8), plan_of(8), plan_of(20), plan_of(8)
    for plan, seed in ((first, 3), (second, 3), (longer, 3), (other, 4)):
        compose(composer, plan, seed, passes=4)
        assert (plan.tokens < torch.tensor(SIZES)).all()
    assert torch.equal(first.tokens, second.tokens) and torch.equal(first.tokens, longer.tokens[: len(first.tokens)])
    assert not torch.equal(first.tokens, other.tokens)


@pytest.mark.parametrize("meter", ["4/4", "3/4", "6/8"])
def test_given_chords_bind(composer, meter):
    plan = plan_of(6, meter, "Am F C G7 Dm Em")
    chords = plan.tokens[:, 0].clone()
    compose(composer, plan, 1, passes=4)
    assert torch.equal(plan.tokens[:, 0], chords)
    for step, token in enumerate(chords.tolist()):
        classes = chord_classes(token)
        for name in ("lead", *ROLE_COLUMNS["harmony"]):
            note = int(column(plan.tokens, name)[step])
            if note >= FIRST_PITCH and (name != "lead" or step % plan.bar % plan.beat == 0):
                assert (note - FIRST_PITCH + LOWEST_PITCH[name]) % 12 in classes
        if step % plan.bar == 0:
            note = int(column(plan.tokens, "bass")[step])
            assert note >= FIRST_PITCH and (note - FIRST_PITCH + LOWEST_PITCH["bass"]) % 12 == classes[0]


def test_silent_parts_have_no_notes_and_given_notes_stay(composer):
    plan = plan_of(4, states=(1, 0, 1, 0))
    plan.tokens[: plan.bar, NAMES.index("lead")] = torch.tensor([20] + [HOLD] * (plan.bar - 1))
    given = column(plan.tokens, "lead")[: plan.bar].clone()
    compose(composer, plan, 2, passes=4)
    assert torch.equal(column(plan.tokens, "lead")[: plan.bar], given)
    for role in ("harmony", "drums"):
        assert all((column(plan.tokens, name) == REST).all() for name in ROLE_COLUMNS[role])
    assert decode_tokens(plan.tokens, "4/4", "C major", 100, {}).roles == ("lead", "bass")


def test_sections_return(composer):
    plan = plan_of(8)
    compose(composer, plan, 5, form=[("A", 2), ("A", 2), ("B", 2), ("A", 2)], vary=0.0, passes=4)
    a, again, b, last = plan.tokens.split(2 * plan.bar)
    assert torch.equal(a, again) and torch.equal(a, last) and not torch.equal(a, b)
    varied = plan_of(8)
    compose(composer, varied, 5, form=[("A", 2), ("A", 2), ("B", 2), ("A", 2)], vary=0.3, passes=4)
    a, again, *_ = varied.tokens.split(2 * varied.bar)
    assert 0.5 < (a == again).float().mean() < 1.0


def test_meters_that_have_no_whole_eighths_are_refused():
    assert steps_per_bar("7/8") == 14 and steps_per_bar("6/8") == 12
    with pytest.raises(ValueError, match="whole eighths"):
        steps_per_bar("7/16")


@pytest.fixture(scope="module")
def tiny_compositions(tmp_path_factory, tiny_text_encoder):
    folder = tmp_path_factory.mktemp("compositions")
    shares, compositions.SOURCES = compositions.SOURCES, {"procedural": 1.0}
    try:
        counts = compositions.build(90, 0, folder, str(tiny_text_encoder))
    finally:
        compositions.SOURCES = shares
    assert counts["train"] and counts["validation"]
    return folder


def test_training_goes_on_where_it_stopped(tiny_compositions, tmp_path):
    model = tmp_path / "model.json"
    model.write_text(json.dumps(TINY | {"text_dim": 16}))
    words = [
        "--model_config", str(model), "--data_dir", str(tiny_compositions), "--batch_size", "4", "--crop_steps", "64",
        "--validate_every", "2", "--checkpoint_every", "2", "--validate_pieces", "4", "--tracker", "null",
    ]  # fmt: skip
    train_composer.main([*words, "--output_dir", str(tmp_path / "whole"), "--max_steps", "4"])
    stopped = [*words, "--output_dir", str(tmp_path / "stopped"), "--max_steps", "4"]
    train_composer.main([*stopped, "--max_minutes", "1e-9"])
    train_composer.main(stopped)
    one, two = (ComposerVivace.from_pretrained(tmp_path / name / "final") for name in ("whole", "stopped"))
    assert one.config.instruments == list(compositions.PLAYERS) or tuple(one.config.instruments) == compositions.PLAYERS
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    log = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert any("validation/lead" in line for line in log)


def test_masks_leave_something_to_find():
    visible = torch.arange(64) < 48
    shares = []
    for seed in range(200):
        mask = train_composer.draw_mask(visible, 16, np.random.default_rng(seed))
        assert mask.any() and not mask[48:].any() and mask.shape == (64, len(COLUMNS))
        shares.append(float(mask[:48].float().mean()))
    assert min(shares) < 0.1 and max(shares) > 0.6


def test_missing_data_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"make it with training\.data\.compositions"):
        compositions.Compositions(str(tmp_path), "train", 64)
