"""Scores without audio, and music without end bar by bar, with tiny random networks."""

import itertools

import numpy as np
import pytest
import torch

from pipelines.composer_vivace import ComposerVivace
from pipelines.pipeline_vivace import Score, Track, VivacePipeline, loudness
from pipelines.vivace_compose import KEPT_BARS, BarWriter, MusicPlan
from pipelines.vivace_score import slice_chords
from pipelines.vivace_theory import read_progression
from tests.conftest import make_pipeline

KNOWN = ("piano", "flute", "upright bass", "drums")


@pytest.fixture(scope="module")
def composer() -> ComposerVivace:
    torch.manual_seed(0)
    model = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16, instruments=KNOWN).eval()
    for block in model.blocks:
        torch.nn.init.normal_(block.modulation.weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def player(composer) -> VivacePipeline:
    pipe = VivacePipeline.from_pipe(make_pipeline(instruments=KNOWN), composer=composer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def same(a: Score, b: Score) -> bool:
    return a.tracks == b.tracks and (a.bars, a.key, a.bpm, a.chords) == (b.bars, b.key, b.bpm, b.chords)


def test_compose_gives_the_scores_that_a_call_plays(player, composer):
    words = {"bars": 2, "bpm": 120, "key": "A minor", "seed": 4}
    score = player.compose("solo piano, no drums", **words)[0]
    assert same(score, player("solo piano, no drums", **words, num_inference_steps=1).scores[0])
    assert "drums" not in score.roles and score.key == "A minor"
    silent = VivacePipeline.from_pipe(player, unet=make_pipeline().unet)  # its network plays no notes
    assert same(score, silent.compose("solo piano, no drums", **words)[0])
    one, two = player.compose(["piano", "flute lead"], bars=1, bpm=[90, 120], seed=[1, 2])
    assert same(two, player.compose("flute lead", bars=1, bpm=120, seed=2)[0]) and one.bpm == 90
    lead = Score((Track("lead", [(0, 1, 72, 0.8), (2.5, 0.5, 74, 0.8)]),), bars=2)
    made = player.compose("bossa", melody=lead, parts=["lead", "bass"], seed=1)[0]
    np.testing.assert_array_equal(made.notes("lead"), lead.notes("lead"))
    assert len(player.compose("piano", bars=1, num_waveforms_per_prompt=3, seed=1)) == 3


def test_bars_are_rewritten_and_the_rest_of_the_score_stays(player):
    score = player.compose("piano", bars=6, bpm=96, key="A minor", seed=4)[0]
    new = player.rewrite(score, (2, 4), "flute, 140 bpm, 2 bars", seed=5)
    assert new != score and set(new.changed_bars(score)) <= {2, 3, 4}
    assert (new.bars, new.bpm, new.key, new.chords) == (6, 96, score.key, score.chords)
    assert set(new.instruments) <= set(score.instruments)
    assert new == player.rewrite(score, [(2, 4)], "flute, 140 bpm, 2 bars", seed=5)
    assert new != player.rewrite(score, (2, 4), "flute, 140 bpm, 2 bars", seed=6)
    with pytest.raises(ValueError, match="parts has 'tuba'"):
        player.rewrite(score, (2, 4), parts=["tuba"])
    for bars, message in (((3, 9), "open_bars has"), ((2, 2), "open_bars has")):
        with pytest.raises(ValueError, match=message):
            player.rewrite(score, bars)
    with pytest.raises(ValueError, match="score is None"):
        player.rewrite(None, (0, 1))


def test_harmony_and_bass_are_written_to_new_chords_and_the_lead_stays(player):
    lead = [(q / 2, 0.5, 72 + q % 5, 0.8) for q in range(48)]  # eighths, also across the new bars
    chords = [(4 * bar, 4, pitch, 0.7) for bar in range(6) for pitch in (57, 60, 64)]
    bass = [(2 * half, 2, 33, 0.7) for half in range(12)]
    tracks = (Track("lead", lead, "flute"), Track("harmony", chords, "piano"), Track("bass", bass, "upright bass"))
    score = Score(tracks, 96, bars=6, key="A minor", chords="Am")
    new = player.rewrite(score, (2, 4), "jazz", seed=5, parts=["harmony", "bass"], chords="Am:8 Dm7:4 G7:4 Am:8")
    assert new.chords == "Am:8 Dm7:4 G7:4 Am:8" and new.roles == score.roles and new.instruments == score.instruments
    np.testing.assert_array_equal(new.notes("lead"), score.notes("lead"))
    for role in ("harmony", "bass"):
        before, after = score.notes(role), new.notes(role)
        outside = [notes[(notes[:, 0] < 8) | (notes[:, 0] >= 16)] for notes in (before, after)]
        np.testing.assert_array_equal(*outside)
        for first, allowed in ((8, {2, 5, 9, 0}), (12, {7, 11, 2, 5})):
            inside = after[(after[:, 0] >= first) & (after[:, 0] < first + 4)]
            assert role == "bass" or {int(pitch) % 12 for pitch in inside[:, 2]} <= allowed
    again = player.rewrite(score, [(2, 4)], "jazz", seed=5, parts=["bass", "harmony"], chords="Am:8 Dm7:4 G7:4 Am:8")
    assert same(new, again)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "piano", "guidance_scale": 2}, "compose has no argument 'guidance_scale'"),
        ({"prompt": "piano", "parts": ["kazoo"]}, "parts has 'kazoo'"),
        ({"prompt": "piano", "bars": 4, "form": "AAB"}, "multiple of its 3 sections"),
        ({"prompt": "piano", "num_waveforms_per_prompt": 0}, "num_waveforms_per_prompt is 0"),
        ({}, "give exactly one of them"),
    ],
)
def test_what_cannot_be_composed(player, arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        player.compose(**arguments)
    assert "\n" not in str(caught.value)


def test_without_a_composer():
    for name in ("compose", "jam"):
        with pytest.raises(ValueError, match=f"{name} needs a composer"):
            getattr(make_pipeline(), name)("piano")


def test_a_jam_goes_on_in_tempo_and_key_with_words_that_change(player):
    def bars(ahead: bool, count: int = 5):
        jam = player.jam("piano", bpm=150, key="A minor", seed=3, ahead=ahead, num_inference_steps=1)
        made = []
        for bar in jam:
            made.append(bar)
            if bar.number == 1:
                jam.prompt, jam.chords, jam.parts = "solo flute", "Dm E7", ["lead", "bass"]
            if len(made) == count:
                break
        jam.close()
        return made

    made, again, ahead = bars(False), bars(False), bars(True)
    for k, (a, b) in enumerate(zip(made, again, strict=True)):
        assert (
            a.audio.shape == (1, 8000 * 4 * 60 // 150) and np.array_equal(a.audio, b.audio) and same(a.score, b.score)
        )
        assert (a.number, a.score.bars, a.score.bpm, a.score.key) == (k, 1, 150, "A minor") and np.abs(
            a.audio
        ).max() > 0
    assert [bar.prompt for bar in made] == ["piano"] * 2 + ["solo flute"] * 3
    assert [bar.prompt for bar in ahead] == ["piano"] * 3 + ["solo flute"] * 2  # the third was being made
    assert np.array_equal(ahead[1].audio, made[1].audio)
    assert set(made[3].score.roles) <= {"lead", "bass"} and [bar.score.chords for bar in made[2:4]] == ["Dm", "E7"]


def test_a_jam_keeps_its_level_where_each_bar_is_made_louder(player, monkeypatch):
    plain = player.decode_latents
    monkeypatch.setattr(player, "decode_latents", lambda *a: (0.1 * chunk for chunk in plain(*a)))
    options = {"bpm": 120, "seed": 3, "ahead": False, "num_inference_steps": 1}
    for ratio in (1.0, 4.0):
        levels = []
        for bar in itertools.islice(player.jam("piano", compression_ratio=ratio, **options), 5):
            levels.append(loudness(torch.from_numpy(bar.audio), bar.sampling_rate))
            monkeypatch.setattr(player, "decode_latents", lambda *a: (0.5 * chunk for chunk in plain(*a)))
        assert max(levels) < levels[0] + 1.3 and levels[-1] > levels[0] - 3.0, levels
        monkeypatch.setattr(player, "decode_latents", lambda *a: (0.1 * chunk for chunk in plain(*a)))


def test_bars_that_do_not_end_on_a_sample_add_up(player):
    jam = player.jam("piano", bpm=133, time_signature="3/4", ahead=False, num_inference_steps=1)
    total = sum(bar.audio.shape[1] for bar in itertools.islice(jam, 4))
    assert total == round(4 * 3 * 60 / 133 * 8000)
    jam = player.jam("waltz in 3/4 in D minor, 140 bpm", ahead=False, num_inference_steps=1)
    assert (jam.bpm, jam.key, jam.time_signature) == (140, "D minor", "3/4")


def test_scores_alone_where_no_notes_are_played(composer):
    jam = VivacePipeline.from_pipe(make_pipeline(), composer=composer).jam("piano", seed=1, ahead=False)
    bars = list(itertools.islice(jam, 3))
    assert all(bar.audio is None for bar in bars) and any(len(bar.score.notes()) for bar in bars)
    with pytest.raises(ValueError, match="parts has 'kazoo'"):
        jam.parts = ["kazoo"]
        next(jam)
    with pytest.raises(ValueError, match="chords has 'Xm'"):
        jam.pipe.jam("piano", chords="Xm")


def test_memory_of_a_bar_writer_does_not_grow(composer):
    writer, lengths = BarWriter(composer, 1), []
    for _ in range(3 * KEPT_BARS):
        tokens = writer.next_bar(MusicPlan(1, time_signature="2/4", key="C major"), None)
        lengths.append(len(tokens) // 8)
    assert max(lengths) == 2 * KEPT_BARS and lengths[-1] <= 2 * KEPT_BARS and lengths[:3] == [1, 2, 3]


def test_chords_of_a_bar():
    def bar(chords, beats, number):
        return slice_chords(chords, beats, number * beats, (number + 1) * beats, counted=True)

    line = "Am F:2 C/E:2 G:3"
    assert [bar(line, 4, k) for k in range(4)] == ["Am:4", "F:2 C/E:2", "G:3 Am:1", "Am:3 F:1"]
    assert [bar("C:7 F:min7:2 G:maj:2", 4, k) for k in range(2)] == ["C:7:4", "F:min7:2 G:maj:2"]
    assert all(sum(n for _, n in read_progression(bar(line, 3, k), 3)) == 3 for k in range(9))
