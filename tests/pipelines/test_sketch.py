"""From a sketch: sung tunes become notes, beatboxed loops drums, in the tempo that is given or their own."""

import sys

import mir_eval
import numpy as np
import pytest
import soundfile
import torch

from pipelines.composer_vivace import ComposerVivace
from pipelines.pipeline_vivace import Score, Track, VivacePipeline
from pipelines.vivace_music import MusicArguments
from pipelines.vivace_notes import (
    Sketch,
    on_steps,
    read_sketch,
    repeated,
    settle_sketches,
    transcribe_rhythm,
    transcribe_voice,
)
from pipelines.vivace_reading import MusicWords
from tests.conftest import make_pipeline
from tests.helpers.voice import RATE, TUNES, beatbox, seconds, sing, tune

VOICES = (
    {}, {"vowel": "m", "transpose": -12}, {"vowel": "o", "vibrato_cents": 50}, {"vowel": "m", "vibrato_cents": 30},
    {"transpose": -7, "breath": 0.05}, {"whistle": True, "transpose": 12},
    {"vowel": "o", "transpose": -5, "slide_s": 0.12}, {"vowel": "m", "transpose": -12, "late_s": 0.02},
)  # fmt: skip
KEYS = {"kick": 36, "snare": 38, "hat": 42}
LOOPS = {
    "rock": (100, "kick:0 hat:.5 snare:1 hat:1.5 kick:2 kick:2.5 snare:3 hat:3.5"),
    "house": (124, "kick:0 hat:.5 kick:1 hat:1.5 kick:2 hat:2.5 kick:3 hat:3.5"),
    "funk": (106, "kick:0 hat:.25 hat:.5 snare:1 kick:1.5 hat:1.75 hat:2.25 kick:2.5 snare:3 snare:3.75"),
}


def loop(name: str, bars: int = 2) -> tuple[float, list[tuple[float, str]]]:
    bpm, text = LOOPS[name]
    hits = [(float(word.split(":")[1]), word.split(":")[0]) for word in text.split()]
    return bpm, [(time + 4 * bar, kind) for bar in range(bars) for time, kind in hits]


@pytest.fixture(scope="module")
def heard() -> dict:
    """For each tune what is sung and the sketch that is found."""
    found = {}
    for number, (name, voice) in enumerate(zip(TUNES, VOICES, strict=True)):
        _, bpm, notes = tune(name)
        audio, sung = sing(seconds(notes, bpm), number, **voice)
        found[name] = (sung, transcribe_voice(torch.from_numpy(audio)[None], RATE))
    return found


def f1(wanted: np.ndarray, found: np.ndarray, tolerance: float) -> float:
    """Of onset and pitch, of two lists of onset, duration, pitch."""
    spans = [np.column_stack([rows[:, 0], rows[:, :2].sum(1)]) for rows in (wanted, found)]
    hertz = [440.0 * 2 ** ((rows[:, 2] - 69) / 12) for rows in (wanted, found)]
    return mir_eval.transcription.precision_recall_f1_overlap(
        spans[0], hertz[0], spans[1], hertz[1], onset_tolerance=tolerance, pitch_tolerance=50, offset_ratio=None
    )[2]


def test_eight_sung_tunes_become_notes(heard):
    for name, (sung, sketch) in heard.items():
        notes = sketch.notes.copy()
        moved = np.round((np.median(notes[:, 2]) - np.median(sung[:, 2])) / 12) * 12
        assert bool(moved) == bool(sketch.remarks), name
        notes[:, 2] -= moved
        wanted = np.column_stack([sung[:, 0], sung[:, 1] - sung[:, 0], sung[:, 2]])
        assert f1(wanted, notes, 0.05) >= 0.9, name


@pytest.mark.parametrize("given", [True, False])
def test_tunes_get_their_tempo_and_their_steps(heard, given):
    for name, (_, sketch) in heard.items():
        meter, bpm, notes = tune(name)
        score = sketch.score(meter, bpm if given else None)
        assert abs(score.bpm - bpm) <= 1 and score.roles == ("lead",)
        found = score.notes()
        found[:, 2] += np.median(notes[:, 2]) - np.median(found[:, 2])
        assert f1(notes, found, 0.01) >= 0.9, name
        assert score.bars * float(notes[0, 0] + 4 if meter == "4/4" else 3) >= notes[-1, 0], name


def test_a_voice_out_of_tune_and_a_tempo_that_it_was_not_sung_in(heard):
    _, bpm, notes = tune("ode to joy")
    audio, _ = sing(seconds(notes + np.array([0, 0, 0.4, 0]), bpm), 1)
    sketch = transcribe_voice(torch.from_numpy(audio)[None], RATE)
    assert len(set(sketch.notes[:, 2] - notes[:, 2])) == 1
    score = sketch.score("4/4", 77)
    assert score.bpm == 77 and np.array_equal(score.notes()[:, 0], notes[:, 0])
    assert "recorded at about 104 bpm" in " ".join(score.remarks)
    loose = sketch.score("4/4", 104, timing="original").notes()
    assert np.abs(loose[:, 0] - notes[:, 0]).max() < 0.1 and (loose[:, 0] != notes[:, 0]).any()


def test_steps_go_along_with_a_player():
    steps = np.array([0, 4, 8, 10, 12, 14, 15, 16, 20, 24, 28, 30, 32, 36, 40, 42, 44, 48])
    places = steps * np.linspace(1.0, 0.94, len(steps)) + np.random.default_rng(0).normal(0, 0.12, len(steps))
    assert np.array_equal(on_steps(places - places[0], (1, 2, 4)), steps)


@pytest.mark.parametrize("name", LOOPS)
def test_beatboxed_loops_become_drums(name):
    bpm, hits = loop(name)
    audio, times = beatbox([(time * 60 / bpm, kind) for time, kind in hits], 1, late_s=0.012)
    sketch = transcribe_rhythm(torch.from_numpy(audio)[None], RATE)
    assert mir_eval.onset.f_measure(np.sort(times), sketch.notes[:, 0], window=0.05)[0] >= 0.95
    for given in (bpm, None):
        score = sketch.score("4/4", given)
        assert abs(score.bpm - bpm) <= 1 and score.bars == 2
        wanted = {(time, KEYS[kind]) for time, kind in hits}
        found = {(time, key) for time, _, key, _ in score.notes("drums").tolist()}
        assert len(wanted & found) >= 0.9 * max(len(wanted), len(found))


def test_taps_that_sound_alike_are_kick_and_snare():
    taps = [(time * 0.5, "snare") for time in (0, 1, 1.5, 2, 3, 4, 5, 5.5, 6, 7, 8)]  # the last one ends the loop
    audio, _ = beatbox(taps, 3)
    sketch = read_sketch(audio, "rhythm", RATE)
    score = settle_sketches(None, sketch, None, MusicArguments(bpm=120), MusicWords())[1]
    assert score.bars == 2 and score.bpm == 120
    assert score.notes()[:, 2].tolist() == [36, 38, 36, 36, 38] * 2
    longer = repeated(score, 20.0)
    assert longer.bars == 5 and np.array_equal(longer.slice_bars(4, 5).notes(), score.slice_bars(0, 1).notes())


@pytest.fixture(scope="module")
def composing() -> VivacePipeline:
    torch.manual_seed(0)
    composer = ComposerVivace(width=16, layers=1, heads=2, text_dim=16, instruments=("flute", "piano")).eval()
    pipe = make_pipeline(instruments=("flute", "piano", "drums"))
    return VivacePipeline(**pipe.components | {"composer": composer}, default_num_inference_steps=2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with hum.wav, "Ode to Joy" at 104 bpm, and tap.flac, the funk loop at 106 bpm."""
    folder = tmp_path_factory.mktemp("sketches")
    _, bpm, notes = tune("ode to joy")
    soundfile.write(folder / "hum.wav", sing(seconds(notes, bpm), 0)[0], RATE)
    bpm, hits = loop("funk")
    soundfile.write(folder / "tap.flac", beatbox([(time * 60 / bpm, kind) for time, kind in hits], 1)[0], RATE)
    return folder


def test_the_rest_is_composed_to_a_hum_and_a_rhythm(composing, files, tmp_path):
    out = composing("piano", melody=files / "hum.wav", rhythm=str(files / "tap.flac"), key="C major", seed=1)
    (score,) = out.scores
    _, bpm, notes = tune("ode to joy")
    assert (score.bpm, score.bars) == (bpm, 4)
    assert np.array_equal(score.notes("lead")[:, (0, 2)], notes[:, (0, 2)])
    drums = score.notes("drums")
    assert set(drums[:, 2]) == {36, 38, 42} and np.array_equal(drums[drums[:, 0] < 8, 2], drums[drums[:, 0] >= 8, 2])
    assert any(note.startswith("melody: its tempo") for note in out.conditions[0]["notes"])
    out.save(tmp_path / "a.wav")
    assert composing.replay(tmp_path / "a.wav").differences == []
    audio, rate = soundfile.read(files / "hum.wav")
    same = composing.compose("piano", melody=str(files / "hum.wav"), key="C major", seed=1)[0]
    array = composing("piano", melody=audio, sampling_rate=rate, key="C major", seed=1).scores[0]
    assert array == same and np.array_equal(same.notes("lead")[:, 0], notes[:, 0])
    alone = composing.compose("funk", rhythm=files / "tap.flac", bars=5, seed=2)[0]
    assert alone.bars == 5 and alone.bpm == 106 and alone.notes("drums")[-1, 0] > 16
    two = composing.compose(["piano", "piano"], melody=[files / "hum.wav", Score((Track("lead", [(0, 1, 60, 0.5)]),))])
    assert [one.bars for one in two] == [4, 1]


def test_bad_sketches(composing, files, monkeypatch):
    hum, tap = str(files / "hum.wav"), str(files / "tap.flac")
    lead = Score((Track("lead", [(0, 1, 60, 0.5)]),))
    for arguments, words in (
        ({"melody": "none.wav"}, "melody is 'none.wav': no such file"),
        ({"melody": np.zeros(RATE), "sampling_rate": RATE}, "melody has no voice"),
        ({"melody": torch.zeros(9)}, "melody: sampling_rate is None"),
        ({"rhythm": torch.zeros(RATE), "sampling_rate": RATE}, "rhythm has no hit"),
        ({"rhythm": lead}, "rhythm has the parts lead; needed: drums"),
        ({"rhythm": tap, "score": lead}, "rhythm and score: give one of them"),
        ({"melody": hum, "sketch_timing": "loose"}, "sketch_timing is 'loose'; allowed: grid, original"),
        ({"melody": lead, "sketch_timing": "grid"}, "sketch_timing is 'grid'; it needs"),
        ({"sampling_rate": RATE}, "sampling_rate is 22050 without audio"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            composing("piano", **arguments)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="rhythm needs a composer"):
        make_pipeline(instruments=("flute", "drums"))("piano", rhythm=tap)
    monkeypatch.setitem(sys.modules, "swift_f0", None)
    with pytest.raises(ValueError, match="pip install swift-f0"):
        read_sketch(hum, "melody")
    assert isinstance(read_sketch(tap, "rhythm"), Sketch)
