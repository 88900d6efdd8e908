"""The composer: scores through tokens and back, what binds a piece, and its training, with a tiny random network."""

import json

import numpy as np
import pytest
import torch

from pipelines import vivace_compose, vivace_tokens
from pipelines.composer_vivace import COLUMNS, NAMES, SIZES, ComposerVivace, casting_loss
from pipelines.vivace_compose import MusicPlan, compose_scores, key_of, read_form
from pipelines.vivace_music import Music, Prompt
from pipelines.vivace_request import make_plan
from pipelines.vivace_score import ROLES, Score, Track, quarters_per_bar, quarters_per_beat
from pipelines.vivace_theory import parse_key, read_progression
from pipelines.vivace_tokens import decode_tokens, encode_score, key_shift, steps_per_bar
from tests.helpers.voice import TUNES, tune
from training import train_composer
from training.composer_families import ComposerSeq2Seq, ComposerWaveNet, write_steps
from training.data import compositions
from training.data.scorebook import arrange
from training.data.scorebook.labels import Settings, draw_piece, scores_of
from training.data.scorebook.piece import Part

TINY = {"width": 24, "layers": 2, "heads": 2, "kernel": 3, "text_dim": 8}


@pytest.fixture(scope="module")
def composer() -> ComposerVivace:
    torch.manual_seed(0)
    model = ComposerVivace(**TINY, instruments=("piano", "flute")).eval()
    for block in model.blocks:  # at the start of training the conditions have no effect
        torch.nn.init.normal_(block.modulation.weight, std=0.3)
    return model


def write(composer, seed: int = 1, **plan) -> Score:
    return compose_scores(composer, [MusicPlan(**{"bars": 8, "key": "C major"} | plan)], [seed])[0]


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


def same(a: Score, b: Score) -> bool:
    return a.tracks == b.tracks and (a.bars, a.key, a.bpm) == (b.bars, b.key, b.bpm)


def test_a_seed_gives_its_piece_alone_and_beside_others(composer):
    text = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    plans = [MusicPlan(8), MusicPlan(5, 90, "6/8"), MusicPlan(12, 120, "3/4", "D minor")]
    together = compose_scores(composer, plans, [3, 4, 5], text)
    for k, plan in enumerate(plans):
        assert same(together[k], compose_scores(composer, [plan], [3 + k], text[k : k + 1])[0])
    assert not same(together[0], compose_scores(composer, plans[:1], [7], text[:1])[0])
    assert not same(together[0], compose_scores(composer, plans[:1], [3], text[1:2])[0])
    assert together[0].key and together[2].key == "D minor"


@pytest.mark.parametrize("bars", [3, 8, 13])
def test_a_longer_piece_begins_as_the_shorter(composer, bars):
    short, long = write(composer, bars=bars), write(composer, bars=20)
    quarters = 4.0 * bars
    for role in ROLES:
        a, b = short.notes(role), long.notes(role)
        b = b[b[:, 0] < quarters]
        np.testing.assert_array_equal(a[:, [0, 2, 3]], b[:, [0, 2, 3]])
        ends_within = b[:, 0] + b[:, 1] < quarters
        np.testing.assert_array_equal(a[ends_within], b[ends_within])


CHORDS = {"4/4": "Am F:2 C/E:2 Dm7 G7/B Bbmaj7:2 A7/C#:2", "3/4": "Am F/A C:2 G/B:1 Dm", "6/8": "Em C/G:1 Am:1 B7/D#"}


@pytest.mark.parametrize("meter", CHORDS)
@pytest.mark.parametrize("key", ["A minor", "E minor"])
def test_given_chords_bind(composer, meter, key):
    score = write(composer, bars=10, time_signature=meter, key=key, chords=CHORDS[meter], parts=ROLES)
    beat, bar = float(quarters_per_beat(meter)), float(quarters_per_bar(meter))
    chords = [chord for chord, count in read_progression(CHORDS[meter], round(bar / beat)) for _ in range(count)]
    at = [chords[k % len(chords)] for k in range(round(10 * bar / beat))]
    number = {role: np.floor(score.notes(role)[:, 0] / beat + 1e-6).astype(int) for role in ROLES}
    for role in ("lead", "harmony"):
        for (onset, _, pitch, _), k in zip(score.notes(role), number[role], strict=True):
            if role == "harmony" or abs(onset / beat - k) < 1e-6:
                assert at[k].chroma[int(pitch) % 12]
    bass = {round(onset / beat, 6): int(pitch) for onset, _, pitch, _ in score.notes("bass")}
    for k, chord in enumerate(at):
        if k % round(bar / beat) == 0 or chord is not at[k - 1]:
            assert bass[float(k)] % 12 == (chord.root if chord.bass is None else chord.bass)
    assert score.chords == CHORDS[meter]


def test_chords_that_are_not_given_are_written(composer):
    score = write(composer)
    assert score.chords and sum(count for _, count in read_progression(score.chords, 4)) == 8 * 4


def test_the_key_that_is_not_given_is_that_of_the_chords_or_of_the_given_notes(composer):
    for chords, key in (
        ("Am F C G", "A minor"),
        ("Dm Bb F C", "D minor"),
        ("D A Bm G", "D major"),
        ("C F G", "C major"),
    ):
        assert write(composer, bars=4, key=None, chords=chords).key == key
    scale = Track("lead", [(k, 1, pitch, 0.8) for k, pitch in enumerate((66, 68, 69, 71, 73, 74, 73, 66))])
    for semitones, key in ((0, "F# minor"), (3, "A minor")):
        given = Score((scale,), bars=2).transpose(semitones)
        assert {write(composer, seed, bars=2, key=None, given=given).key for seed in (1, 2)} == {parse_key(key)}


def test_silent_parts_have_no_notes(composer):
    for seed in range(5):
        assert set(write(composer, seed, parts=("lead", "bass")).roles) <= {"lead", "bass"}
    assert write(composer, parts=("lead",), instruments={"lead": "flute"}).instruments == ("flute",)


def some_score(bars: int = 4) -> Score:
    lead = [(q + 0.013, 0.9, 72 + q % 5, 0.61) for q in range(4 * bars)]
    return Score((Track("lead", lead, "violin"), Track("drums", [(0.0, 0.1, 36, 1.0)])), 90, "4/4", bars)


def test_given_notes_stay_and_the_rest_is_written(composer):
    given = some_score()
    score = write(composer, bars=4, given=given, parts=ROLES)
    for role in ("lead", "drums"):
        np.testing.assert_array_equal(score.notes(role), given.notes(role))
    assert {"harmony", "bass"} <= set(score.roles) and score.tracks[0].instrument == "violin"
    longer = write(composer, bars=9, given=given, parts=ROLES)
    early = longer.notes("lead")[:, 0] < 16
    np.testing.assert_array_equal(longer.notes("lead")[early], given.notes("lead"))
    assert (~early).any()


def test_a_gap_is_filled_and_the_rest_stays(composer):
    given = some_score(6)
    score = write(composer, bars=6, given=given, open_bars=((2, 4),), parts=("lead", "drums"))
    notes, old = score.notes("lead"), given.notes("lead")
    for inside in (lambda x: x[(x[:, 0] < 8) | (x[:, 0] >= 16)],):
        np.testing.assert_array_equal(inside(notes), inside(old))
    assert len(notes) and not np.array_equal(notes, old)
    assert set(score.roles) <= {"lead", "drums"}


def test_sections_return(composer):
    a, again, b, last = (
        write(composer, bars=16, form="AABA", parts=ROLES).slice_bars(4 * k, 4 * k + 4) for k in range(4)
    )
    assert a.notes().shape == again.notes().shape and not np.array_equal(a.notes(), b.notes())
    for other in (again, last):
        np.testing.assert_array_equal(a.notes()[:, [0, 2]], other.notes()[:, [0, 2]])
    varied = write(composer, bars=16, form="AA'BA", parts=ROLES)
    one, two = ({(o, p) for o, _, p, _ in varied.slice_bars(k, k + 4).notes().tolist()} for k in (0, 4))
    assert 0.3 < len(one & two) / len(one | two) < 1.0


def test_a_section_that_returns_over_other_chords_is_written_to_them(composer):
    score = write(composer, bars=4, form="AA", chords="C C G G", parts=ROLES)
    assert all(int(pitch) % 12 in (7, 11, 2) for pitch in score.slice_bars(2, 4).notes("harmony")[:, 2])


def draft_of(composer, **plan) -> vivace_compose.Draft:
    plan = MusicPlan(**{"bars": 32, "key": "C major"} | plan)
    return vivace_compose.make_draft(composer, plan, None)


def test_bars_return_more_where_the_given_chords_return(composer):
    shares = {}
    for chords in (None, "C F G Am", "C F G Am Dm E7 A7 Bdim Eb Ab Db Gb B E A D"):
        counts = []
        for seed in range(100):
            draft, short = draft_of(composer, chords=chords), draft_of(composer, bars=18, chords=chords)
            for one in (draft, short):
                vivace_compose.choose_sources(one, 0, len(one.sources), seed)
            assert (draft.sources < np.arange(32)).all() and np.array_equal(draft.sources[:18], short.sources)
            made = np.flatnonzero(draft.sources >= 0)
            assert (draft.sources[draft.sources[made]] == -1).all()  # the first of its kind
            if chords == "C F G Am":
                assert ((made - draft.sources[made]) % 4 == 0).all()
            counts.append((draft.sources[:16] >= 0).mean())
        shares[chords] = np.mean(counts)
    free, often, never = shares.values()
    assert never < 0.1 and 0.3 < free < often - 0.02 and often < 0.6


def test_a_bar_that_returns_has_the_notes_and_over_other_chords_the_rhythm(composer, monkeypatch):
    monkeypatch.setattr(vivace_tokens, "RECALL", 1e4)
    monkeypatch.setattr(vivace_compose, "choose_sources", lambda draft, *_: draft.sources.__setitem__(slice(4, 8), 0))
    draft = draft_of(composer, bars=8, chords="C C C C C G Am C/E", parts=("lead", "harmony"))
    vivace_compose.choose_sources(draft)
    vivace_compose.write(composer, draft, 0, 128, 3)
    # On eighths, which stand in the first bar when the others are drawn.
    bars = draft.tokens.view(8, 16, -1)[:, ::2, [NAMES.index(name) for name in ("lead", "harmony0")]]
    assert torch.equal(bars[4], bars[0]) and not torch.equal(bars[1], bars[0])
    for bar in (5, 6):
        changed = bars[bar] != bars[0]
        assert changed.any() and (bars[0][changed] > 1).all()  # rests and held notes are where they were


def test_accompaniments_go_on_and_a_longer_piece_has_those_of_a_shorter_one(composer):
    shares = []
    for seed in range(100):
        draft, short = draft_of(composer), draft_of(composer, bars=18)
        for one in (draft, short):
            vivace_tokens.choose_figures(one, 0, len(one.sources), seed)
        for name in ("figures", "rhythms"):
            like, made = getattr(draft, name), np.flatnonzero(getattr(draft, name) >= 0)
            assert (like < np.arange(32)).all() and np.array_equal(like[:18], getattr(short, name))
            assert (like[like[made]] == -1).all()  # the first of its kind, which is drawn a pass earlier
        shares.append((draft.figures[2:16] >= 0).mean())
    assert 0.7 < np.mean(shares) < 0.9 and np.std(shares) > 0.05


def test_a_figure_is_the_drums_and_the_rhythm_of_the_accompaniment(composer, monkeypatch):
    monkeypatch.setattr(vivace_tokens, "RECALL", 1e4)
    draft = draft_of(composer, bars=4, chords="C G Am F", parts=ROLES)
    draft.figures[1:] = 0
    draft.tokens[4:8, NAMES.index("harmony0")] = 0  # a rest
    vivace_compose.write(composer, draft, 0, 64, 3)
    columns = {name: draft.tokens.view(4, 16, -1)[:, ::2, NAMES.index(name)] for name in NAMES}
    assert all(torch.equal(columns["kick"][bar], columns["kick"][0]) for bar in (1, 2, 3))
    rests = columns["harmony0"] == 0
    assert rests.any() and not rests.all() and torch.equal(rests[2], rests[0])  # over another chord
    assert not torch.equal(columns["lead"][1], columns["lead"][0])


def test_voices_of_the_harmony_begin_together_and_as_often_as_the_likeliest():
    place, column = torch.tensor([0, 0, 0, 0, 1]).repeat(4000), torch.tensor([3, 4, 5, 6, 2]).repeat(4000)
    place = place + 2 * torch.arange(4000).repeat_interleave(5)
    shares = torch.tensor([0.6, 0.5, 0.3, 0.1, 0.5]).repeat(4000)  # the last is not near .6
    log_p = torch.full((20000, vivace_tokens.WIDEST), -torch.inf)
    log_p[:, 0], log_p[:, 10] = torch.log(1 - shares), torch.log(shares)
    chance = torch.rand(8000, generator=torch.Generator().manual_seed(0))
    tokens = vivace_tokens.MASKS.repeat(8000, 1)
    out = log_p.clone()
    vivace_tokens.together(out, tokens, place, column, chance)
    out, log_p = out.view(4000, 5, -1), log_p.view(4000, 5, -1)
    assert torch.equal(out[:, 4], log_p[:, 4])  # the lead draws for itself
    begins = out[:, :4, 10] > -torch.inf
    assert torch.equal(begins, out[:, :4, 0].isinf()) and torch.equal(begins[:, 0], begins[:, 1])
    assert torch.equal(begins[:, 0], begins[:, 2]) and (begins[:, 0] | ~begins[:, 3]).all()
    assert abs(begins[:, 0].float().mean() - 0.6) < 0.03 and abs(begins[:, 3].float().mean() - 0.1) < 0.02


def test_the_bass_counts_its_repeats_but_not_where_a_chord_or_a_bar_begins():
    tokens = vivace_tokens.MASKS.repeat(32, 1)
    tokens[:, 0] = torch.where(torch.arange(32) < 8, 1, 9)
    tokens[0, vivace_tokens.BASS], tokens[31, vivace_tokens.BASS] = 10, 22  # an octave apart
    again = vivace_tokens.repeats(tokens, 16, torch.arange(32))
    assert (again[[0, 8, 16]] == 0).all() and (again[4, [10, 22, 34]] == 2).all()
    assert again[4].sum() == 2 * again[4, 10:].gt(0).sum()


def test_notes_become_likelier_where_a_role_is_to_be_denser_and_only_there(composer):
    for density, sign in ((1.0, -1), (8.0, 1)):
        draft = draft_of(composer, bars=4, parts=("lead", "bass"), density={"lead": density})
        may = vivace_compose.limits(draft, 0, 64)
        likely = torch.zeros(may.shape)
        likely[..., 0] = 5.0  # of a rest: a note about every fourth step
        free = torch.ones(64, len(NAMES), dtype=torch.bool)
        free[32:] = False  # made like other bars
        before = likely.clone()
        vivace_tokens.towards_density(draft, draft.tokens, likely, may, free)
        changed = likely != before
        lead = NAMES.index("lead")
        assert changed[:32, lead, 2:].all() and changed.sum() == 32 * (vivace_tokens.WIDEST - 2)
        assert (sign * (likely - before)[changed] > 0).all()
        draft.tokens[:32, lead] = 12  # as dense as can be: no step is open
        again = before.clone()
        vivace_tokens.towards_density(draft, draft.tokens, again, may, free)
        assert torch.equal(again, before)


def test_phrases_close_on_tonic_or_dominant_but_loops_do_not(composer, monkeypatch):
    monkeypatch.setattr(vivace_tokens, "CADENCE", 1e4)
    ends = {}
    for loop in (False, True):
        draft = draft_of(composer, bars=16, loop=loop, parts=ROLES)
        vivace_compose.compose(composer, draft, 5, [("", 16)], loop=loop)
        ends[loop] = (draft.tokens[[127, 255], 0].numpy() - 1) // 8
        lead = draft.tokens[252:, NAMES.index("lead")].numpy()
        if not loop:
            classes = [(token - 2) % 12 for token in lead[lead >= 2]]
            assert set(classes) <= {0, 4, 7}
    assert ends[False][0] in (0, 7) and ends[False][1] == 0 and not np.array_equal(ends[True], ends[False])


def test_forms():
    assert read_form("aa'b", 12) == [("A", 4), ("A'", 4), ("B", 4)]
    assert read_form([("verse", 5), ("chorus", 3)], 8) == [("verse", 5), ("chorus", 3)]


@pytest.mark.parametrize("meter", ["4/4", "7/8", "15/4", "2/4"])
def test_loops_close_and_meters_fit(composer, meter):
    for bars in (1, 3, 12):
        score = write(composer, bars=bars, time_signature=meter, loop=True, parts=ROLES)
        notes = score.notes("lead", "harmony", "bass")
        assert (notes[:, 0] + notes[:, 1] <= float(score.quarters) + 1e-6).all() and len(notes)
    first = write(composer, bars=2, time_signature=meter, loop=True)
    assert not same(first, write(composer, bars=2, time_signature=meter))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"form": "A" * 60}, "form has 60 sections"),
        ({"form": "AAB"}, "multiple of its 3 sections"),
        ({"form": "A1"}, "form is 'A1'"),
        ({"parts": ("kazoo",)}, "parts has 'kazoo'"),
        ({"parts": ()}, "parts is empty"),
        ({"instruments": {"solo": "flute"}}, "instruments has 'solo'"),
        ({"bars": 0}, "bars is 0"),
        ({"bars": 3, "given": some_score()}, "given notes have 4"),
        ({"time_signature": "3/4", "given": some_score()}, "given notes is 4/4"),
        ({"given": some_score(), "open_bars": ((3, 9),)}, "open_bars has"),
        ({"chords": "Xm"}, "chords has 'Xm'"),
    ],
)
def test_plans_that_cannot_be_carried_out(composer, plan, message):
    with pytest.raises(ValueError, match=message):
        write(composer, **plan)


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


def test_whole_scores_begin_with_their_first_bar_and_end_with_their_last():
    settings = Settings(0, ("folk",), 24000, 1, 30.0, ("",), "")
    tune = arrange.Score(
        "a", "", "", "", "", (arrange_part(bars=12),), "4/4", "C major", pickup_q=0.0, length_q=48.0, bpm=None
    )
    scores = {"folk": {("4/4", False): [tune]}}
    for index in range(6):
        piece, _ = draw_piece(settings, index, scores, shares={"folk": 1.0}, whole=True)
        score, _ = compositions.score_of(piece)
        assert piece.place == (0, 12) and score.bars == 12
        lead = score.notes("lead")[:, 0] // 4
        assert lead.min() == 0 and lead.max() == 11
        excerpt, _ = draw_piece(settings, index, scores, shares={"folk": 1.0})
        assert excerpt.place[1] == 12


def arrange_part(bars: int) -> Part:
    return Part("", 73, False, np.array([[2.0 * k, 1.0, 60.0 + k % 8, 0.8] for k in range(2 * bars)]))


def test_a_network_of_before_the_ends_is_not_told_of_them(composer):
    assert composer.end is None
    torch.manual_seed(0)
    told = ComposerVivace(**TINY, instruments=("piano", "flute"), ends=True).eval()
    told.load_state_dict(composer.state_dict(), strict=False)
    plan = [MusicPlan(8, key="C major")]
    assert same(compose_scores(told, plan, [1])[0], compose_scores(composer, plan, [1])[0])  # the table begins at zero
    torch.nn.init.normal_(told.end.weight)
    assert not same(compose_scores(told, plan, [1])[0], compose_scores(composer, plan, [1])[0])


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


STEPWISE = {
    "wavenet": (ComposerWaveNet, {"width": 16, "dilations": (1, 2, 4), "stacks": 1, "text_dim": 16}),
    "seq2seq": (
        ComposerSeq2Seq,
        {"width": 16, "attention_heads": 2, "layers": 1, "encoder_layers": 1, "hidden": 16, "text_dim": 16},
    ),
}


@pytest.mark.parametrize("family", STEPWISE)
def test_step_by_step_sees_only_what_precedes_and_writes_as_it_learns(family):
    torch.manual_seed(0)
    kind, settings = STEPWISE[family]
    model = kind(**settings, instruments=("piano",)).eval()
    conditions = {
        "beats": torch.tensor([4]), "minor": torch.tensor([0]), "bpm": torch.tensor([100.0]),
        "states": torch.tensor([[1, 1, 1, 0]]), "density": torch.full((1, 4), -1), "players": torch.full((1, 3), -1),
        "text": torch.randn(1, 16),
    }  # fmt: skip
    structure = torch.zeros(48, 2, dtype=torch.long)
    structure[:, 0] = torch.arange(48) // 16 * 8 + 1
    tokens = write_steps(model, structure, 16, conditions, 3)
    assert torch.equal(tokens, write_steps(model, structure, 16, conditions, 3)) and tokens.shape == (48, len(NAMES))
    assert (tokens[:, NAMES.index("kick") :] == 0).all() and torch.equal(tokens[:, :2], structure)
    place, bar = torch.tensor([0]), torch.tensor([16])
    with torch.no_grad():
        whole = model(tokens[None], place, bar, conditions)[0]
        other = tokens.clone()
        other[30:, 2:] = 0
        other[29, NAMES.index("bass") :] = 1
        changed = model(other[None], place, bar, conditions)[0]
    first = sum(SIZES[: NAMES.index("bass") + 1])  # at step 29 all up to the bass precede what was changed
    torch.testing.assert_close(whole[:29], changed[:29])
    torch.testing.assert_close(whole[29, :first], changed[29, :first])
    assert not torch.allclose(whole[30:], changed[30:])
    drawn = []  # greedy step by step = greedy with all of the past at once
    model.draw = lambda hidden, silent, generator, temperature: (drawn.append(hidden), tokens[len(drawn) - 1].clone())[
        1
    ]
    write_steps(model, structure, 16, conditions, 3)
    with torch.no_grad():
        hidden = torch.stack(drawn)
        torch.testing.assert_close(model.columns(hidden[None], tokens[None])[0], whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", STEPWISE)
def test_families_train(tiny_compositions, tmp_path, family):
    model = tmp_path / "model.json"
    model.write_text(json.dumps(STEPWISE[family][1]))
    train_composer.main([
        "--family", family, "--model_config", str(model), "--data_dir", str(tiny_compositions), "--batch_size", "4",
        "--crop_steps", "32", "--validate_pieces", "4", "--tracker", "null", "--max_steps", "2",
        "--output_dir", str(tmp_path / "run"),
    ])  # fmt: skip
    STEPWISE[family][0].from_pretrained(tmp_path / "run" / "final")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["validation/chord"] == 0 and log[-1]["validation/lead"] > 0


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


def test_the_words_say_who_plays(composer):
    """A layer fitted to the words decides about roles and instruments; what is stated wins, and seeds differ."""
    words = torch.eye(8)[:2]  # of a piano alone, and of a band
    states, players = torch.tensor([[0, 1, 0, 0], [1, 1, 1, 1]]), torch.tensor([[-1, 0, -1], [1, 0, 0]])
    conditions = {"text": words, "states": states, "players": players}
    layer = torch.nn.Linear(8, 4 + 3 * 2)
    own, composer.casting = composer.casting, layer
    try:
        optimizer = torch.optim.Adam(layer.parameters(), 0.3)
        for _ in range(60):
            optimizer.zero_grad()
            loss = casting_loss(*composer.cast(words), conditions)
            loss.backward()
            optimizer.step()
        assert loss < 0.01

        def roles(text: torch.Tensor, seed: int = 1, **plan) -> dict:
            score = compose_scores(composer, [MusicPlan(4, key="C major", **plan)], [seed], text[None])[0]
            return {track.role: track.instrument for track in score.tracks}

        assert set(roles(words[0])) <= {"harmony"} and set(roles(words[0]).values()) <= {"piano"}
        band = roles(words[1])
        assert {"lead", "drums"} <= {*band} and band["lead"] == "flute"
        assert "drums" not in roles(words[1], drums=False)
        assert roles(words[1], without=("flute",))["lead"] == "piano"
        assert roles(words[1], instruments={"lead": "piano"})["lead"] == "piano"
        assert set(roles(words[0], parts=("lead", "drums"))) <= {"lead", "drums"}
    finally:
        composer.casting = own


@pytest.mark.parametrize("name", TUNES)
def test_the_key_of_a_tune_is_found(name):
    meter, _, notes = tune(name)
    lead = Score((Track("lead", notes),), time_signature=meter)
    assert key_of(MusicPlan(4, given=lead), 0) == ("A minor" if name == "korobeiniki" else "C major")


def test_what_a_negative_prompt_names_does_not_play():
    def plan(words: str, negative: str | None = None, parts: tuple[str, ...] | None = None) -> MusicPlan:
        music = Music(8.0, bpm=120, time_signature="4/4", beats_per_bar=4)
        return make_plan(Prompt(words, [words], [0]), music, None, parts, None, negative_prompt=negative)

    assert {"piano", "honky-tonk piano"} <= {*plan("jazz trio", "piano").without}
    assert plan("jazz trio", "piano").without == plan("jazz trio, no piano").without and not plan("jazz trio").without
    assert plan("rock").drums and plan("rock", "drums, harsh noise").drums is False
    assert plan("rock with drums", "drums").drums  # the prompt asks for them
    assert plan("rock", "bass").parts == ("lead", "harmony", "drums")
    assert plan("rock", "bass", parts=("bass",)).parts == ("bass",)


def test_casting_counts_only_what_is_stated(composer):
    text = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    stated = {"text": text, "states": torch.tensor([[1, 0, 1, 0]] * 3), "players": torch.tensor([[0, 1, -1]] * 3)}
    open_ = {name: torch.full_like(value, -1) for name, value in stated.items() if name != "text"}
    assert casting_loss(*composer.cast(text), stated) > 0
    assert casting_loss(*composer.cast(text), {"text": text, **open_}) == 0
    assert casting_loss(*composer.cast(text), stated | {"text": torch.zeros(3, 8)}) == 0


def test_composing_takes_one_thread_and_gives_the_others_back(composer, monkeypatch):
    seen = []
    predict = ComposerVivace.predict_logits
    monkeypatch.setattr(
        ComposerVivace,
        "predict_logits",
        lambda self, *args, **options: (seen.append(torch.get_num_threads()), predict(self, *args, **options))[1],
    )
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        write(composer)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_velocities_are_those_of_the_drum_the_role_and_the_meter():
    rows = [(q, 0.25, 36, 0.8) for q in range(4)] + [(q / 2, 0.25, 42, 0.8) for q in range(8)]
    bass = [(float(q), 0.5, 40, 0.8) for q in range(4)]
    given = Score((Track("bass", bass), Track("drums", rows)), 100.0, bars=1, key="C major")
    score = decode_tokens(encode_score(given), "4/4", "C major", 100.0, {})
    drums, low = score.notes("drums"), score.notes("bass")
    kick, hat = (drums[drums[:, 2] == key][:, 3] for key in (36, 42))
    assert kick.min() > 1.3 * hat.max() and kick[0] > kick[1] and hat[1] < hat[2]
    assert low[0, 3] > 1.1 * low[1, 3] and drums[:, 3].min() > 0 and low[:, 3].max() <= 1
