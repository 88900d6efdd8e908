"""Notes heard and compared: decoding of posteriors, matches, and the tasks that use them."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tests.conftest import make_pipeline
from training.data.notes import score_of
from training.data.sources import fetch
from training.metrics.listening import Listeners
from training.metrics.transcriber import HOP, LOWEST, RATE, Transcriber, decode, match, note_figures
from training.tasks import notes as tasks
from training.tasks.common import Bench
from training.tasks.notes import first_guess, melody_accuracy

FRAME_S = HOP / RATE


def posteriors(notes: list[tuple[int, int, int]], frames: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Of notes (first frame, last frame, pitch), as a sure network gives them."""
    sounds, begins = np.zeros((2, frames, 88), dtype=np.float32)
    for first, last, pitch in notes:
        sounds[first:last, pitch - LOWEST] = 0.9
        begins[first - 1 : first + 2, pitch - LOWEST] = (0.3, 0.8, 0.3)
    return sounds, begins


def test_sure_posteriors_are_decoded_to_their_notes():
    notes = [(10, 50, 60), (10, 90, 64), (60, 100, 60), (61, 100, 21), (120, 180, 108)]
    found = decode(*posteriors(notes))
    assert found[:, 2].tolist() == [60, 64, 60, 21, 108]
    np.testing.assert_allclose(found[:, 0] / FRAME_S, [10, 10, 60, 61, 120], atol=0.01)
    np.testing.assert_allclose(found[:, 1] / FRAME_S, [50, 90, 100, 100, 180], atol=1.01)
    np.testing.assert_allclose(found[:, 3], 0.9, atol=0.01)


def test_a_note_without_an_onset_is_found_and_short_ones_and_soft_ones_are_not():
    sounds, begins = posteriors([(10, 16, 70)])
    sounds[:, 40 - LOWEST] = 0.2  # never above the level of a note
    sounds[80:120, 50 - LOWEST] = np.linspace(0.1, 0.6, 40)  # rises slowly
    found = decode(sounds, begins)
    assert found[:, 2].tolist() == [50] and 90 < found[0, 0] / FRAME_S < 110
    assert decode(np.zeros((50, 88)), np.zeros((50, 88))).shape == (0, 4)


def test_a_short_gap_is_bridged_and_a_long_one_is_not():
    sounds, begins = posteriors([(10, 150, 60)])
    sounds[40:46, 60 - LOWEST] = 0.0
    sounds[46:60, 60 - LOWEST] = np.linspace(0.3, 0.9, 14)  # a sudden rise would be an onset
    assert len(decode(sounds, begins)) == 1
    sounds[60:80, 60 - LOWEST] = 0.0
    sounds[80:94, 60 - LOWEST] = np.linspace(0.3, 0.9, 14)
    found = decode(sounds, begins)
    np.testing.assert_allclose(found[:, 0] / FRAME_S, [10, 81], atol=1.01)
    np.testing.assert_allclose(found[:, 1] / FRAME_S, [60, 150], atol=1.01)


def test_figures_of_matches():
    asked = {
        "lead": np.array([[0.0, 0.5, 60, 0.2], [0.5, 1.0, 62, 0.5], [1.0, 1.5, 64, 0.9], [-0.2, 0.3, 70, 1.0]]),
        "bass": np.array([[0.0, 1.0, 36, 0.8]]), "drums": np.array([[0.0, 0.1, 36, 1.0]]),
    }  # fmt: skip
    heard = np.array([[0.01, 0.5, 60, 0.3], [0.52, 0.9, 62, 0.4], [1.04, 1.5, 64, 0.6], [1.5, 1.9, 90, 0.5]])
    figures = note_figures(heard, asked, 2.0)  # what rings in does not count, nor do drums
    assert figures.f1 == pytest.approx(2 * 3 / (4 + 4))
    assert figures.recall == {"lead": 1.0, "harmony": None, "bass": 0.0}
    assert figures.velocity == pytest.approx(1.0) and figures.late_ms == pytest.approx(20.0)
    late = heard + np.array([0.06, 0.0, 0.0, 0.0])
    assert note_figures(late, asked, 2.0).recall["lead"] == 0.0
    assert len(match(heard, asked["lead"] + np.array([0.0, 0.0, 1.0, 0.0]))) == 0  # a semitone off
    silent = note_figures(np.zeros((0, 4)), asked, 2.0)
    assert silent.f1 == 0.0 and silent.velocity is None and silent.late_ms is None
    assert note_figures(heard, {}, 2.0).f1 is None


def test_the_network_hears_a_rendered_tune():
    """Tones of known pitch and onset, in a clip longer than a window of the network."""
    pytest.importorskip("onnxruntime")
    if not (fetch.cache_dir() / fetch.BASIC_PITCH_WHEEL).is_file():
        pytest.skip("the wheel of basic-pitch is not in the cache")
    rate, pitches = 24000, [60, 64, 67, 72, 69, 65, 62, 59, 60, 76]
    time = np.arange(rate // 2) / rate
    tones = []
    for pitch in pitches:
        hertz = 440.0 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * k * hertz * time) / k**1.5 for k in range(1, 6))
        tones.append(0.2 * tone * np.exp(-3.0 * time) * np.minimum(1.0, time / 0.005))
    asked = {"lead": np.array([[0.5 * i, 0.5 * i + 0.45, pitch, 0.5] for i, pitch in enumerate(pitches)])}
    heard = Transcriber().notes(np.concatenate(tones), rate)
    figures = note_figures(heard, asked, 5.0)
    assert figures.recall["lead"] >= 0.9 and figures.f1 > 0.8 and abs(figures.late_ms) < 20.0


def test_another_file_in_place_of_the_wheel_is_refused(tmp_path):
    (tmp_path / fetch.BASIC_PITCH_WHEEL).write_bytes(b"PK not the wheel")
    with pytest.raises(fetch.MissingSourceError, match=r"is damaged or another file \(its checksum differs\); remove"):
        fetch.find_basic_pitch(tmp_path)


ROW = {
    "duration_s": 3.9, "bpm": 120.0, "time_signature": "4/4", "beats_per_bar": 4, "downbeat_s": 0.5,
    "beats_s": [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5], "key": "A minor", "chords": None,
}  # fmt: skip


def test_the_first_guess_is_an_instrument():
    assert first_guess({"drums": 0.9, "style:piano": 0.8, "flute": 0.3, "piano": 0.2}) == "flute"


# ---- the tasks ----------------------------------------------------------------------------------------------------


class Echo:
    """A transcriber that hears what it is told to, clip after clip."""

    def __init__(self, found: list[np.ndarray]):
        self.found = found

    def notes(self, audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        return self.found.pop(0)


class Guesses:
    def probabilities(self, audios: list[np.ndarray], sampling_rate: int) -> list[dict[str, float]]:
        return [{"flute": 0.6, "piano": 0.4, "drums": 0.9} for _ in audios]


@pytest.fixture
def noted_bench(tmp_path) -> Bench:
    """Three clips with notes, one without, and a network that plays notes. A bar of each lies from .5 to 2.5 s."""
    rows = []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", np.full(31200, 0.1), 8000)
        found = {"part": [0] * 4, "onset_s": [0.0, 0.5, 1.75, 2.6], "duration_s": [0.6, 0.25, 0.9, 0.5],
                 "pitch": [70, 60 + number, 64, 50], "velocity": [0.5, 0.5, 1.0, 0.5]}  # fmt: skip
        row = {**ROW, "path": str(tmp_path / f"{number}.wav"), "file_name": f"{number}.wav", "sampling_rate": 8000}
        row |= {"parts": [{"role": "lead", "instrument": "piano"}], "notes": found if number < 3 else None}
        rows.append(row)
    pipe = make_pipeline(instruments=("piano", "flute"))
    pipe.set_progress_bar_config(disable=True)
    return Bench(pipe, rows, [], ["slow piano"] * 4, Listeners(tagger=Guesses()), None, 0, "")


def test_a_score_holds_the_whole_bars_of_a_clip(noted_bench):
    """What rings in and what begins after the bars is left out; what sounds over their end is cut there."""
    score = score_of(noted_bench.rows[1], 1, "4/4", "Am F")
    assert (score.bpm, score.bars, score.key, score.chords) == (120.0, 1, "A minor", "Am F")
    assert score.tracks[0].role == "lead" and score.tracks[0].instrument == "piano"
    np.testing.assert_allclose(score.notes()[:, :3], [[0.0, 0.5, 61], [2.5, 1.5, 64]], atol=1 / 960)
    assert score.duration_s == 2.0


def test_the_task_compares_each_clip_with_its_own_notes(noted_bench, monkeypatch):
    """A transcriber that hears the notes asked for everywhere but without notes, where it hears none."""
    asked = [tasks.in_seconds(score)["lead"] for score in tasks.chosen(noted_bench, 96)["score"]]
    monkeypatch.setattr(tasks, "Transcriber", lambda: Echo([*asked * 3, *[np.zeros((0, 4))] * 3]))
    figures = {figure.name: figure for figure in tasks.notes(noted_bench, 96)}
    f1 = figures["onset and pitch within 50 ms, F1"]
    assert f1.value == 1.0 and f1.count == 3
    assert f1.beside == {"real clips": 1.0, "autoencoder": 1.0, "without notes": 0.0, "chance": 0.5}
    assert figures["notes of lead that are heard, share"].value == 1.0
    assert figures["notes of bass that are heard, share"].value is None
    assert figures["onset heard after onset asked, ms, mean of medians"].value == 0.0


def test_parts_alone_stems_and_a_changed_note(noted_bench, monkeypatch):
    """A transcriber that hears the lead alone, whatever plays: all of the lead, and all that leaks into the bass."""
    rows = [dict(row) for row in noted_bench.rows[:2]]
    for row in rows:
        row["parts"] = [*row["parts"], {"role": "bass", "instrument": "piano"}]
        row["notes"] = {name: [*values, *more] for (name, values), more in zip(row["notes"].items(), (
            (1, 1), (0.5, 1.5), (0.5, 0.5), (40, 43), (0.5, 0.5)), strict=True)}  # fmt: skip
    bench = replace(noted_bench, rows=rows)
    lead = [tasks.in_seconds(score)["lead"] for score in tasks.chosen(bench, 2)["score"]]
    monkeypatch.setattr(tasks, "Transcriber", lambda: Echo([*lead, *lead]))
    figures = {figure.name: figure for figure in tasks.parts(bench, 2)}
    assert figures["lead alone: its notes that are heard, share"].value == 1.0
    assert figures["lead alone: notes of other roles that are heard, share"].value == 0.0
    assert figures["bass alone: its notes that are heard, share"].value == 0.0
    assert figures["bass alone: notes of other roles that are heard, share"].value == 1.0
    assert figures["stems add up to the piece in every 16-bit sample, share"].value == 1.0
    assert figures["samples that a changed note changes outside its bar and its tail"].value == 0.0
    assert 0 < figures["log-mel distance of the sum of stems from the mix"].value < 2


def test_timbre_counts_first_guesses(noted_bench):
    every, *each = tasks.timbre(noted_bench, 1)
    assert every.value == pytest.approx(1 / 12) and every.count == 12
    assert every.beside == {"without notes": pytest.approx(1 / 12)}
    assert {figure.name.split(": ")[1]: figure.value for figure in each} == {
        name: name == "flute" for name in tasks.NAMED
    }


def test_a_network_that_plays_no_notes_is_measured_without(noted_bench, tiny_pipeline, monkeypatch):
    """As the shipped one: it names no instruments."""
    asked = [tasks.in_seconds(score)["lead"] for score in tasks.chosen(noted_bench, 96)["score"]]
    monkeypatch.setattr(tasks, "Transcriber", lambda: Echo([*asked * 2, *[np.zeros((0, 4))] * 3]))
    f1, *_ = tasks.notes(replace(noted_bench, pipe=tiny_pipeline), 96)
    assert f1.value is None and f1.beside == {"real clips": 1.0, "autoencoder": 1.0, "without notes": 0.0}


def test_data_without_notes_is_named(noted_bench):
    bare = replace(noted_bench, rows=noted_bench.rows[3:])
    assert tasks.notes(bare, 4)[0].name == "notes: no clip of the data has notes"
    assert tasks.timbre(bare, 1)[0].name == "timbre: no clip of the data has notes of a lead"


def test_the_pitch_class_of_a_lead_is_found_in_the_audio():
    rate, tones = 32000, (69.0, 72.0, 76.0)
    seconds = np.arange(rate) / rate
    audio = np.concatenate([np.sin(2 * np.pi * 440.0 * 2 ** ((pitch - 69.0) / 12.0) * seconds) for pitch in tones])
    lead = np.array([(k, k + 1.0, pitch, 0.8) for k, pitch in enumerate(tones)])
    assert melody_accuracy(audio, rate, lead) > 0.9
    assert melody_accuracy(audio, rate, np.add(lead, (0, 0, 12, 0))) > 0.9  # an octave higher is the same class
    assert melody_accuracy(audio, rate, np.add(lead, (0, 0, 1, 0))) < 0.1
    assert melody_accuracy(audio, rate, np.zeros((0, 4))) is None
