"""Scores in calls: played, in parts, as stems that add up, edited note by note, saved and made again."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from pipelines.composer_vivace import ComposerVivace
from pipelines.pipeline_vivace import ROLES, Score, Track, VivacePipeline, note_roll
from pipelines.vivace_notes import cast, drums_of
from pipelines.vivace_process import STATE_CHANNELS, instruments_of
from pipelines.vivace_reading import read_exclusion
from tests.conftest import make_pipeline

KNOWN = ("piano", "electric piano", "flute", "upright bass", "drums")


def tune(bars: int = 2, bpm: float = 120.0, lead: int = 72, **more) -> Score:
    """Two or more bars of three parts; each bar has the same notes."""
    lines = {"lead": [(q, 0.5, lead + q, 0.9) for q in range(4)], "bass": [(0.0, 2.0, 40, 0.7), (2.0, 2.0, 43, 0.7)]}
    lines["drums"] = [(0.0, 0.1, 36, 0.8), (1.0, 0.1, 38, 0.8), (2.0, 0.1, 36, 0.8)]
    names = {"lead": "flute", "bass": "upright bass", "drums": None}
    tracks = tuple(
        Track(role, [(q + 4 * bar, *rest) for bar in range(bars) for q, *rest in notes], names[role])
        for role, notes in lines.items()
    )
    return Score(tracks, bpm, bars=bars, **more)


def two_pitched() -> Score:
    """A piece whose lead became its harmony."""
    lead, *rest = tune().tracks
    return replace(tune(), tracks=(replace(lead, role="harmony"), *rest))


@pytest.fixture(scope="module")
def shared() -> VivacePipeline:
    return make_pipeline(instruments=KNOWN)


@pytest.fixture
def pipe(shared, monkeypatch) -> VivacePipeline:
    """A pipeline whose network's inputs are kept in `inputs`, one dict a pass."""
    inputs = []
    hook = shared.unet.register_forward_pre_hook(lambda _, args, kwargs: inputs.append(kwargs), with_kwargs=True)
    shared.__dict__["inputs"] = inputs
    yield shared
    hook.remove()


def test_a_score_is_played(pipe):
    score = tune(key="A minor")
    out = pipe("piano", score=score, seed=1)
    assert out.audios.shape[-1] == 4.0 * 8000 and out.conditions[0]["bpm"] == 120 and out.conditions[0]["bars"] == 2
    assert out.conditions[0]["key"] == "A minor" and out.scores == [score]
    roll = pipe.inputs[0]["note_roll"]
    torch.testing.assert_close(roll[0], note_roll(score, 100, 25.0))
    assert not roll[1].any()  # the row without conditions
    other = pipe("piano", score=tune(lead=60), seed=1)
    assert not np.array_equal(out.audios, other.audios) and pipe("piano", bars=2, bpm=120).scores == [None]


def test_words_say_how_the_notes_sound(pipe):
    """With two strengths, the pass between has the notes and not the words; of a piece without notes, the words."""
    strengths = {"guidance_scale": 3.0, "grid_guidance_scale": 2.0, "num_inference_steps": 1}
    flute = replace(tune(), tracks=(replace(tune().tracks[0], instrument="flute"),))
    for score, bars in ((flute, None), (None, 2)):
        pipe("piano", score=score, bars=bars, bpm=120, key="A minor", seed=1, **strengths)
        passed = pipe.inputs[-1]
        words = passed["encoder_attention_mask"].any(1)
        beats = passed["frame_cond"][:, :22].flatten(1).any(1)
        if score is not None:
            assert words.tolist() == [True, False, False] and beats.tolist() == [True, False, True]
            assert passed["note_roll"].flatten(1).any(1).tolist() == [True, False, True]
            assert (passed["role_instruments"][1:] == -1).all()
        else:
            assert words.tolist() == [True, False, True] and beats.tolist() == [True, False, False]


def test_the_chords_of_a_score_end_with_a_shorter_piece(pipe):
    score = tune(bars=4, key="A minor", chords="Am F C G:2 E:2")
    for arguments in ({"prompt": "piano, 2 bars"}, {"prompt": "piano", "bars": 2}):
        out = pipe(**arguments, score=score, seed=1)
        assert out.conditions[0]["chords"] == "Am F" and out.scores[0].tracks == score.slice_bars(0, 2).tracks
    assert pipe("piano", score=score, seed=1).conditions[0]["chords"] == score.chords
    assert pipe("piano", score=score, bars=2, chords="Dm", seed=1).conditions[0]["chords"] == "Dm"


def test_dances_that_are_composed_have_their_meter(pipe):
    torch.manual_seed(1)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16).eval()
    made = VivacePipeline.from_pipe(pipe, composer=composer)
    for words, meter in (("slow waltzes", "3/4"), ("jig", "6/8"), ("a waltz in 4/4", "4/4"), ("jigsaw", "4/4")):
        assert made.compose(words, bars=1, seed=1)[0].time_signature == meter
    assert made.compose("waltz", bars=1, time_signature="5/4", seed=1)[0].time_signature == "5/4"


def test_what_is_given_comes_first(pipe):
    out = pipe("piano in C minor", score=tune(key="A minor"), bpm=60, seed=1)
    assert out.scores[0].bpm == 60 and out.audios.shape[-1] == 8 * 8000
    about = out.conditions[0]["notes"]
    assert any("120 bpm" in note for note in about) and any("A minor" in note for note in about)
    short, long = (pipe("piano", score=tune(), bars=bars) for bars in (1, 3))
    assert short.scores[0] == tune(1) and long.scores[0] == tune() and long.audios.shape[-1] == 6 * 8000
    assert not pipe.inputs[-1]["note_roll"][0, :, 101:].any()  # free after the end of the notes


def test_a_midi_file(pipe, tmp_path):
    tune().save(tmp_path / "tune.mid")
    out = pipe("music box", score=tmp_path / "tune.mid", seed=3)
    assert np.array_equal(out.audios, pipe("music box", score=tune(), seed=3).audios)
    alone = pipe(score=str(tmp_path / "tune.mid"), seed=3)
    assert alone.recipes[0]["arguments"]["prompt"] == "flute, upright bass, drums"


def test_batches_loops_and_streams(pipe):
    scores = [tune(), tune(lead=60)]
    both = pipe(["piano", "flute"], score=scores, seed=[1, 2])
    for row, prompt in enumerate(("piano", "flute")):
        alone = pipe(prompt, score=scores[row], seed=row + 1)
        assert np.array_equal(alone.audios[0], both.audios[row]) and both.scores[row] == scores[row]
    shared = pipe(["piano", "flute"], score=tune(), seed=1)
    assert shared.scores == [tune(), tune()]
    loop = pipe("piano", score=tune(), loop=True, seed=1)
    assert loop.conditions[0]["loop"] and loop.audios.shape[-1] == 32000
    chunks = np.concatenate(list(pipe.stream("piano", score=tune(), seed=1)), axis=1)
    assert np.array_equal(chunks, pipe("piano", score=tune(), seed=1).audios[0])


def test_longer_than_a_window(pipe):
    score = tune(14)
    out = pipe("piano", score=score, seed=1, num_inference_steps=1)
    roll = note_roll(score, 700, 25.0)
    assert out.audios.shape[-1] == 28 * 8000 and len(pipe.inputs) == 2
    torch.testing.assert_close(pipe.inputs[0]["note_roll"][0], roll[:, :512])
    torch.testing.assert_close(pipe.inputs[1]["note_roll"][0], roll[:, 512 - 32 - 128 :])


def states(roll: torch.Tensor) -> dict:
    """given, silent or free, by role."""
    pairs = roll[-STATE_CHANNELS:, 10].reshape(len(ROLES), 2).tolist()
    names = {(1.0, 0.0): "given", (0.0, 1.0): "silent", (0.0, 0.0): "free"}
    return dict(zip(ROLES, (names[tuple(pair)] for pair in pairs), strict=True))


def test_parts(pipe):
    out = pipe("piano", score=tune(), parts=["bass", "drums"], seed=1)
    assert out.scores[0].roles == ("bass", "drums") and out.scores[0] == tune().only("bass", "drums")
    assert states(pipe.inputs[0]["note_roll"][0]) == dict.fromkeys(("lead", "harmony"), "silent") | dict.fromkeys(
        ("bass", "drums"), "given"
    )
    pipe.inputs.clear()
    pipe("piano", bars=1, bpm=120, parts=["lead"])
    assert states(pipe.inputs[0]["note_roll"][0]) == {"lead": "free"} | dict.fromkeys(ROLES[1:], "silent")
    each = pipe(["a", "b"], bars=1, bpm=120, parts=[["lead"], ["bass", "lead"]], seed=1)
    assert [one["arguments"]["parts"] for one in each.recipes] == [["lead"], ["bass", "lead"]]


@pytest.mark.parametrize(
    "more",
    [
        {}, {"loop": True}, {"normalize": False}, {"tilt_db": 3.0, "fade_out_s": 0.5}, {"compression_ratio": 4.0},
        {"compression_ratio": 4.0, "loop": True},
    ],
)  # fmt: skip
def test_stems_add_up(pipe, tmp_path, more):
    out = pipe("piano", score=tune(), stems=True, seed=4, **more)
    stems = out.stems[0]
    assert tuple(stems) == ("lead", "bass", "drums")
    assert np.array_equal(sum(stems.values()), out.audios[0])
    assert not np.array_equal(stems["lead"], stems["bass"])
    if "normalize" in more:
        return
    out.save(tmp_path / "song.wav", midi=True, stems=True)
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"song.wav", "song.mid", "song.lead.wav", "song.bass.wav", "song.drums.wav"}
    read = {name: soundfile.read(tmp_path / name, dtype="int16")[0].astype(int) for name in files - {"song.mid"}}
    assert np.array_equal(read.pop("song.wav"), sum(read.values()))
    assert Score.load(tmp_path / "song.mid") == out.scores[0]
    again = pipe.replay(tmp_path / "song.wav")
    assert again.differences == [] and set(again.stems[0]) == set(stems)


def test_stems_are_the_parts(pipe):
    """A stem before levels is what the part alone gives, on the noise of the whole."""
    out = pipe("piano", score=tune(), stems=True, seed=4, normalize=False)
    alone = pipe("piano", score=tune(), parts=["bass"], seed=4, normalize=False).audios[0]
    np.testing.assert_allclose(out.stems[0]["bass"], alone, atol=2.0**-15)


def test_edit_by_notes(pipe, tmp_path):
    out = pipe("piano", score=tune(4), seed=5)
    notes = [list(row) for row in out.scores[0].tracks[0].notes]
    notes[5][2] += 7  # in bar 2
    changed = Score((Track("lead", notes, "flute"), *out.scores[0].tracks[1:]), 120, bars=4)
    rate = out.sampling_rate
    out.save(tmp_path / "a.wav")
    for source in (out, tmp_path / "a.wav"):
        pipe.inputs.clear()
        new = pipe(audio=source, score=changed, seed=6)
        old = soundfile.read(tmp_path / "a.wav")[0][None] if source != out else out.audios[0]
        assert new.scores == [changed] and new.recipes[0]["arguments"]["prompt"] == "piano"
        bar2 = slice(2 * rate, round(4.4 * rate))
        np.testing.assert_array_equal(np.delete(new.audios[0], bar2, axis=1), np.delete(old, bar2, axis=1).astype("f4"))
        assert not np.array_equal(new.audios[0][:, bar2], old[:, bar2])
        torch.testing.assert_close(pipe.inputs[0]["note_roll"][0], note_roll(changed, 200, 25.0))
    new.save(tmp_path / "b.wav")
    assert pipe.replay(tmp_path / "b.wav", tmp_path / "a.wav").differences == []
    with pytest.raises(ValueError, match="nothing is to be made anew"):
        pipe(audio=out, score=out.scores[0])
    with pytest.raises(ValueError, match="bpm=100"):
        pipe(audio=out, score=tune(4, bpm=100))
    plain = pipe("piano", bars=2, bpm=120, seed=1)
    with pytest.raises(ValueError, match="no score of its own"):
        pipe(audio=plain, score=tune())


def test_edits_keep_the_score(pipe):
    """Other edits of our own audio play its notes on, and are free where it has none."""
    out = pipe("piano", score=tune(), seed=5)
    pipe.inputs.clear()
    other = pipe("flute", audio=out, strength=1.0, seed=6)
    assert other.scores == out.scores
    torch.testing.assert_close(pipe.inputs[0]["note_roll"][0], note_roll(tune(), 100, 25.0))
    pipe.inputs.clear()
    longer = pipe("flute", audio=out, extend_s=(2.0, 2.0), seed=6)
    roll = pipe.inputs[0]["note_roll"][0]
    torch.testing.assert_close(roll[:, 50:150], note_roll(tune(), 100, 25.0))
    assert (
        not roll[:, :50].any()
        and not roll[:, 150:].any()
        and longer.scores[0].notes().tolist() == tune().notes().tolist()
    )


def test_what_plays_the_roles(pipe):
    score = tune()
    assert instruments_of(score, "calm music", KNOWN) == [2, -1, 3, -1]
    assert instruments_of(score, "electric piano and flute", KNOWN) == [2, -1, -1, -1]
    assert instruments_of(score, "music for piano", KNOWN) == [-1, -1, -1, -1]
    assert instruments_of(score.only("lead"), "music for pianos", KNOWN) == [0, -1, -1, -1]
    pipe("calm music", score=score, seed=1)
    assert pipe.inputs[-1]["role_instruments"].tolist()[0] == [2, -1, 3, -1]


def test_strength_of_the_notes(tiny_pipeline):
    own = make_pipeline(instruments=KNOWN)
    own.register_to_config(default_score_guidance_scale=1.5)
    out = own("piano", score=tune(), seed=1, guidance_scale=2.5)
    assert np.array_equal(
        out.audios, own("piano", score=tune(), seed=1, guidance_scale=2.5, grid_guidance_scale=1.5).audios
    )
    assert out.recipes[0]["arguments"]["grid_guidance_scale"] is None
    with pytest.raises(ValueError, match="score needs a network that plays notes"):
        tiny_pipeline("piano", score=tune())
    with pytest.raises(ValueError, match="parts needs a network that plays notes"):
        tiny_pipeline("piano", parts=["bass"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"score": 5}, "score is a int"),
        ({"score": "nowhere.mid"}, "nowhere.mid"),
        ({"score": tune(), "parts": ["kazoo"]}, "'kazoo'"),
        ({"score": tune(), "parts": ["harmony"]}, "the score has: lead, bass, drums"),
        ({"score": tune(), "parts": []}, "parts is"),
        ({"stems": True}, "without a score"),
        ({"score": tune(bpm=960.0)}, "960"),
        ({"score": [tune()] * 3}, "3"),
        ({"score": tune(), "stems": True, "output_type": "latent"}, "stems"),
        ({"score": tune(bars=4000 // 8, bpm=60)}, "duration_s"),
        ({"score": tune(), "stems": 3}, "stems is 3"),
    ],
)
def test_bad_scores(pipe, arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        pipe("piano", **arguments)
    assert "\n" not in str(error.value)


# With a composer.


@pytest.fixture(scope="module")
def composing() -> VivacePipeline:
    pipe = make_pipeline(instruments=KNOWN)
    torch.manual_seed(0)
    composer = ComposerVivace(width=16, layers=1, heads=2, text_dim=16, instruments=KNOWN)
    with torch.no_grad():
        for parameter in composer.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return VivacePipeline(**pipe.components | {"composer": composer.eval()}, default_num_inference_steps=2)


def test_words_are_composed(composing):
    out = composing("calm piano", bars=4, bpm=100, seed=3)
    (score,) = out.scores
    assert score.bars == 4 and score.bpm == 100 and score.notes().size and score.key == out.conditions[0]["key"]
    assert out.conditions[0]["chords"] == score.chords is not None
    other = composing("calm piano", bars=4, bpm=100, seed=4)
    assert other.scores[0] != score and not np.array_equal(other.audios, out.audios)
    plain = composing("calm piano", bars=4, bpm=100, seed=3, compose=False)
    assert plain.scores == [None] and not np.array_equal(plain.audios, out.audios)
    slow = composing("slow drone", seed=1)  # no length: whole bars at a tempo of the words
    assert slow.conditions[0]["bars"] == slow.scores[0].bars and slow.conditions[0]["bpm"] == 60


def test_composed_alone_beside_others_and_again(composing, tmp_path):
    both = composing(["piano", "funk"], bars=2, bpm=120, seed=[1, 2], key="A minor")
    for row, prompt in enumerate(("piano", "funk")):
        alone = composing(prompt, bars=2, bpm=120, seed=row + 1, key="A minor")
        assert alone.scores[0] == both.scores[row] and np.array_equal(alone.audios[0], both.audios[row])
    both.save(tmp_path / "a.wav", 1, midi=True)
    again = composing.replay(tmp_path / "a.wav")
    assert again.differences == [] and again.scores == [both.scores[1]]
    assert Score.load(tmp_path / "a.mid") == both.scores[1]
    stems = composing("funk", bars=2, bpm=120, seed=2, key="A minor", stems=True)
    assert stems.scores == [both.scores[1]] and np.array_equal(sum(stems.stems[0].values()), stems.audios[0])


def test_what_is_asked_of_the_composer(composing):
    def score(prompt="music", **more) -> Score:
        return composing(prompt, **{"bars": 4, "bpm": 120, "seed": 5, "output_type": "np"} | more).scores[0]

    assert set(score("only bass and drums").roles) <= {"bass", "drums"}
    assert "drums" not in score("jazz without drums").roles and score(parts=["lead"]).roles in {("lead",), ()}
    chords = score(chords="Am F", key="A minor").chords.split()
    assert chords[:2] == ["Am", "F"]
    melody = tune().only("lead")
    for given in (melody, [(q, 0.5, p, v) for q, _, p, v in melody.notes().tolist()]):
        led = score(melody=given, bars=2)
        assert np.array_equal(led.notes("lead"), melody.notes("lead"))
    full = score(score=tune().only("bass"), compose=True, bars=2)
    assert np.array_equal(full.notes("bass"), tune().notes("bass"))
    same = score(form="AA", bars=4)
    first, last = same.slice_bars(0, 2), same.slice_bars(2, 4)
    assert len(same.changed_bars(same)) == 0 and np.array_equal(
        first.notes("lead")[:, :3:2], last.notes("lead")[:, :3:2]
    )
    assert score(loop=True).bars == 4


def test_the_one_pitched_part_beside_drums_is_the_melody(composing):
    riff = tune().only("bass", "drums")
    led = composing("piano", melody=riff, bars=2, bpm=120.0, num_inference_steps=2, seed=0).scores[0]
    assert np.array_equal(led.notes("lead"), riff.notes("bass"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"form": "A" * 60, "bars": 60}, "form has 60 sections"),
        ({"form": "AB", "bars": 3}, "form is 'AB' with 3 bars"),
        ({"form": 5}, "form is 5"),
        ({"melody": 5}, "melody is a int"),
        ({"melody": [(0, 1)]}, "melody cannot be read"),
        ({"melody": tune().only("drums")}, "melody has the parts drums"),
        ({"melody": two_pitched()}, "melody has the parts harmony, bass, drums"),
        ({"melody": tune(), "score": tune()}, "melody and score"),
        ({"melody": tune(), "compose": False}, "compose is False"),
        ({"compose": "yes"}, "compose is yes"),
        ({"parts": ["kazoo"]}, "'kazoo'"),
    ],
)
def test_bad_plans(composing, arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        composing("piano", **arguments)
    assert "\n" not in str(error.value)


def test_without_a_composer(pipe):
    for name, value in (("compose", True), ("melody", tune()), ("form", "AABA")):
        with pytest.raises(ValueError, match=f"{name} needs a composer"):
            pipe("piano", **{name: value})


@pytest.mark.parametrize(
    ("prompt", "parts", "players"),
    [
        ("solo piano", ("lead", "harmony", "bass"), {"lead": "piano", "harmony": "piano", "bass": "piano"}),
        ("only bass and drums", ("bass", "drums"), {}),
        ("jazz trio without drums", ("lead", "harmony", "bass"), {}),
        ("just piano and bass", ("lead", "harmony", "bass"), {"lead": "piano", "harmony": "piano"}),
        ("flute lead, jazz trio with piano", None, {"lead": "flute", "harmony": "piano"}),
        ("unaccompanied violin", ("lead",), {"lead": "violin"}),
        (
            "waltz for accordion and double bass",
            None,
            {"lead": "accordion", "harmony": "accordion", "bass": "upright bass"},
        ),
        ("violin, cello and grand piano", None, {"lead": "violin", "harmony": "piano", "bass": "cello"}),
        ("piano and cello", None, {"lead": "cello", "harmony": "piano"}),
        ("thumb piano / baritone saxophone", None, {"lead": "kalimba", "bass": "baritone sax"}),
        ("funk with horns and crunchy guitar", None, {"lead": "brass section", "harmony": "overdriven guitar"}),
        ("cello lead over a glassy pad", None, {"lead": "cello", "harmony": "glass pad"}),
        ("only low bassoon, in Db major", ("lead",), {"lead": "bassoon"}),
        ("unaccompanied cembalo, chordless, without bass", ("lead",), {"lead": "harpsichord"}),
        ("double bass and nothing else", ("bass",), {"bass": "upright bass"}),
        ("chill vibes", None, {}),
        (
            "guitar and saxophone, no bass",
            ("lead", "harmony", "drums"),
            {"harmony": "steel guitar", "lead": "alto sax"},
        ),
        ("drums only", ("drums",), {}),
        ("techno", None, {}),
        ("unaccompanied flute, chordless", ("lead",), {"lead": "flute"}),
        ("solo piano, no melody", ("harmony", "bass"), {"harmony": "piano", "bass": "piano"}),
        ("funk without any chords", ("lead", "bass", "drums"), {}),
        ("ambient pads, without a lead", ("harmony", "bass", "drums"), {"harmony": "warm pad"}),
        (
            "rock without lead guitar, no key changes",
            None,
            {"lead": "steel guitar", "harmony": "steel guitar"},
        ),
        ("rock, minus the melody", ("harmony", "bass", "drums"), {}),
        ("funk, don't use any chords", ("lead", "bass", "drums"), {}),
        ("flute melody over chords", None, {"lead": "flute"}),
    ],
)
def test_who_plays_by_the_words(prompt, parts, players):
    assert cast(read_exclusion(prompt)) == (parts, players)


def test_words_that_leave_no_part(composing):
    with pytest.raises(ValueError, match=r"prompt is 'no melody.*which excludes every part"):
        composing("no melody, no chords, no bass, no drums")


@pytest.mark.parametrize(
    ("words", "drums"),
    [
        ("calm string quartet", False),
        ("jazz quartet", True),
        ("music box lullaby", False),
        ("lofi hip hop with electric piano", True),
        ("baroque harpsichord with a house beat", True),
        ("slow piano", None),
    ],
)
def test_drums_by_the_words(words, drums):
    assert drums_of(words) is drums
