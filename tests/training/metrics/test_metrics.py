"""Each metric at its known answer."""

import dataclasses
import json
import time

import numpy as np
import pytest
import torch

from pipelines.vivace_theory import PITCH_CLASSES
from tests.helpers.synthetic_clips import RATE, SECONDS, clicks, row, tones
from training.listeners import beat_tracker, key
from training.listeners.beat_tracker import RATE as RATE_OF_BEATS
from training.listeners.beat_tracker import BeatTracker, best_grid, first_beats
from training.listeners.fit import fit, save_network
from training.listeners.key import KeyNetwork, key_names, load_key_network
from training.listeners.tagger import Tagger, load_tagger
from training.metrics import control, reconstruction, signal
from training.metrics.control import chance, compare, summaries
from training.metrics.features import CHROMA_RATE, ONSET_RATE, ClipAnalysis, ClipFeatures, beats_at_tempo, clip_features
from training.metrics.listening import load_listeners
from training.metrics.request import anchored_request, chords_text, request_of_row
from training.metrics.summary import figures_table, summarise


@pytest.fixture(scope="module")
def click_90() -> ClipFeatures:
    return clip_features(clicks(90.0), RATE)


@pytest.fixture(scope="module")
def click_120() -> ClipFeatures:
    return clip_features(clicks(120.0), RATE)


@pytest.fixture(scope="module")
def in_c() -> ClipFeatures:
    return clip_features(tones(["C", "F", "G", "C"], 0.5), RATE)


def test_tempo_of_clicks(click_90, click_120):
    assert control.tempo_right(click_90.tempo_bpm, 90.0) == 1.0
    assert control.tempo_right(click_120.tempo_bpm, 120.0) == 1.0
    assert control.tempo_right(click_120.tempo_bpm, 90.0) == 0.0


def test_tempo_tolerance_and_octaves():
    assert control.tempo_right(103.9, 100.0) == 1.0 and control.tempo_right(104.1, 100.0) == 0.0
    assert control.tempo_right(200.0, 100.0) == 0.0
    assert [control.tempo_right_octaves(bpm, 90.0) for bpm in (180.0, 45.0, 270.0, 30.0, 135.0)] == [1, 1, 1, 1, 0]
    assert control.tempo_right_octaves(float("nan"), 90.0) == 0.0


def test_beats_of_clicks(click_90, click_120):
    for found, bpm in ((click_90, 90.0), (click_120, 120.0)):
        grid = np.asarray(row(bpm)["beats_s"])
        assert control.beat_f(found.beats_s, grid) > 0.9
        assert control.beat_f(beats_at_tempo(found.onset, bpm), grid) > 0.9


def test_a_shift_lowers_beats():
    grid = np.arange(0.0, 8.0, 0.5)
    assert control.beat_f(grid, grid) == 1.0
    assert control.beat_f(grid + 0.05, grid) == 1.0
    assert control.beat_f(grid + 0.1, grid) == 0.0
    assert control.beat_f(grid[::2], grid) == pytest.approx(2 / 3)
    assert control.beat_f(np.zeros(0), grid) == 0.0


def test_contrast_is_high_on_the_grid_only(click_120):
    grid = np.asarray(row(120.0)["beats_s"])
    contrasts = [control.beat_contrast(click_120.onset, ONSET_RATE, grid + shift, 120.0) for shift in (0.0, 0.1, 0.25)]
    assert contrasts[0] > 2.0 and contrasts[1] < 0.5 and contrasts[2] < 0.5
    assert control.beat_contrast(np.zeros(800), ONSET_RATE, grid, 120.0) == 0.0
    noise = [np.abs(np.random.default_rng(i).normal(size=800)) for i in range(40)]
    assert abs(np.mean([control.beat_contrast(n, ONSET_RATE, grid, 120.0) for n in noise])) < 0.5


def test_figures_fall_as_clicks_drown_in_noise():
    rng = np.random.default_rng(0)
    grid, plain = row(120.0), clicks(120.0)
    values = []
    for level in (0.0, 0.02, 0.1, 0.5, 2.0):
        noisy = (plain + level * rng.normal(size=len(plain))).astype(np.float32)
        values.append(
            control.control_figures(ClipAnalysis(clip_features(noisy, RATE)), request_of_row(grid))["beat_contrast"]
        )
    assert values == sorted(values, reverse=True)
    assert values[0] > 2.0 and values[-1] < 1.0


def test_key_and_a_semitone_up(in_c):
    assert control.estimate_key(in_c.chroma) == "C major"
    higher = clip_features(tones(["C", "F", "G", "C"], 0.5, semitones=1), RATE)
    assert control.estimate_key(higher.chroma) == "Db major"
    assert control.estimate_key(np.zeros((12, 10))) is None


def test_key_scores():
    assert [control.key_right(k, "C major") for k in ("C major", "G major", None)] == [1.0, 0.0, 0.0]
    weights = [control.key_mirex(k, "C major") for k in ("C major", "G major", "A minor", "C minor", "Gb major", None)]
    assert weights == [1.0, 0.5, 0.3, 0.2, 0.0, 0.0]
    for tonic in PITCH_CLASSES:  # mir_eval must know every spelling that a row may have
        assert control.key_mirex(f"{tonic} minor", f"{tonic} minor") == 1.0


def test_chord_cosine_of_pure_triads(in_c):
    labels = request_of_row(row(120.0))
    pure = np.zeros((12, round(SECONDS * CHROMA_RATE)))
    for start, chord in zip(labels.beats_s, labels.chroma, strict=True):
        pure[:, round(start * CHROMA_RATE) :] = chord[:, None]
    exact = control.chord_cosine(pure, CHROMA_RATE, labels.beats_s, 120.0, labels.chroma)
    assert exact > 0.99
    found = control.chord_cosine(in_c.chroma, CHROMA_RATE, labels.beats_s, 120.0, labels.chroma)
    wrong = control.chord_cosine(in_c.chroma, CHROMA_RATE, labels.beats_s, 120.0, np.roll(labels.chroma, 6, axis=1))
    assert found > 0.85 and wrong < 0.4
    assert control.chord_cosine(pure, CHROMA_RATE, labels.beats_s, 120.0, np.zeros_like(labels.chroma)) is None


def test_features_of_another_sampling_rate():
    found = clip_features(clicks(120.0)[::3], 8000)
    assert found.duration_s == pytest.approx(SECONDS)
    assert control.tempo_right_octaves(found.tempo_bpm, 120.0) == 1.0


def beat_logits(bpm: float, first_s: float, frames: int = 400) -> np.ndarray:
    """Logits of a confident tracker for a grid: 2 on a beat, 0 a frame beside it, -5 elsewhere."""
    logits = np.full(frames, -5.0)
    centres = np.round(np.arange(first_s, frames / RATE_OF_BEATS - 0.04, 60.0 / bpm) * RATE_OF_BEATS).astype(int)
    logits[np.maximum(centres - 1, 0)] = logits[centres + 1] = 0.0
    logits[centres] = 2.0
    return logits


@pytest.mark.parametrize("bpm", [57.0, 90.0, 120.0, 178.0])
def test_best_grid_finds_tempo_and_phase(bpm):
    heard_bpm, frames = best_grid(beat_logits(bpm, 0.2))
    assert control.tempo_right(heard_bpm, bpm) == 1.0
    assert control.beat_f(frames / RATE_OF_BEATS, np.arange(0.2, 8.0, 60.0 / bpm)) > 0.95


def test_downbeats_of_three():
    grid = beat_logits(120.0, 0.0)
    _, frames = best_grid(grid)
    first = first_beats(beat_logits(40.0, 0.5), frames)
    assert np.flatnonzero(first).tolist() == [1, 4, 7, 10, 13]


def test_beat_tracker_on_silence_and_its_files(tmp_path):
    torch.manual_seed(0)
    tracker = BeatTracker(width=4)
    found = tracker.track(np.zeros(RATE), RATE)
    assert np.isfinite(found.tempo_bpm) and (np.diff(found.beats_s) > 0).all()
    save_network(tracker, tmp_path, "beat_tracker", {"width": 4, "name": "none"})
    listeners = load_listeners(str(tmp_path / "none"), str(tmp_path), str(tmp_path / "none"))
    assert listeners.tagger is None and listeners.key is None and len(listeners.absent) == 2
    again = listeners.tracker.track(clicks(120.0)[::3], 8000)
    assert again.tempo_bpm > 0 and set(again.downbeats_s) <= set(again.beats_s)


def test_instrument_figures():
    tags = {"drums": 0.9, "style:folk": 0.2, "style:rock": 0.7, "piano": 0.8, "flute": 0.6, "harp": 0.1}
    assert control.instrument_f1(tags, ("piano", "flute"), {}) == 1.0
    assert control.instrument_f1(tags, ("piano",), {}) == pytest.approx(2 / 3)
    assert control.instrument_f1(tags, ("piano",), {"flute": 0.7}) == 1.0
    assert control.instrument_f1(tags, ("kazoo",), {}) is None
    assert control.instrument_ranking(tags, ("piano", "flute")) == 1.0
    assert control.instrument_ranking(tags, ("harp",)) == pytest.approx(1 / 3)
    assert control.instrument_ranking(tags, ("kazoo",)) is None
    assert control.style_right(tags, "rock") == 1.0 and control.style_right(tags, "folk") == 0.0
    assert control.style_right(tags, "zydeco") is None
    assert control.drums_right(tags, True, {}) == 1.0
    assert control.drums_right(tags, True, {"drums": 0.95}) == 0.0
    # Only the instruments of the caption are requested; others that play neither help nor harm.
    assert control.stated_recall(tags, ("piano",), {}) == 1.0
    assert control.stated_recall(tags, ("piano", "harp"), {}) == 0.5
    assert control.stated_recall(tags, ("kazoo",), {}) is None
    assert control.stated_above_absent(tags, ("flute",), ("flute", "piano")) == 1.0
    assert control.stated_above_absent(tags, ("flute",), ("flute",)) == 0.5
    assert control.stated_above_absent(tags, ("harp",), ("harp",)) == 0.0
    assert control.stated_above_absent(tags, ("piano", "flute", "harp"), ()) is None


def test_only_what_the_caption_states_is_asked():
    labels = row(instruments=["piano", "flute"], drums=True, style="folk")
    facts = {"instruments": ["flute"], "drums": None, "style": None, "moods": [], "bpm": True, "key": False}
    named = request_of_row(labels, facts)
    assert named.stated == ("flute",) and named.instruments == ("piano", "flute")
    assert named.drums is None and named.style is None and named.key == "C major"
    nothing = anchored_request(labels, SECONDS, facts | {"instruments": ["drums"], "drums": True})
    assert nothing.stated is None and nothing.drums is True
    # Without a list of facts, all labels of a row are taken as requested.
    assert request_of_row(labels).stated == ("piano", "flute") and request_of_row(labels).style == "folk"


def test_key_network_is_equivariant_and_deaf_to_loudness(tmp_path):
    torch.manual_seed(0)
    network = KeyNetwork(width=4)
    pitch = torch.zeros(1, 3, 72, 20)
    pitch[:, :, 30:40] = torch.rand(1, 3, 10, 20)
    with torch.no_grad():
        network.eval()
        plain, higher = (network(p).view(2, 12) for p in (pitch, pitch.roll(2, dims=2)))
    # All but the edges of the range, which the first convolutions feel as silence.
    assert (plain.roll(2, dims=1) - higher).abs().max() < 0.3 * plain.std()
    clip = tones(["C", "F", "G", "C"], 0.5)
    one, other = network.listen(clip, RATE), network.listen(0.1 * clip, RATE)
    assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    assert sum(one.probabilities.values()) == pytest.approx(1.0) and list(one.probabilities) == key_names()
    assert network.listen(np.zeros(RATE), RATE) is None
    assert network.listen(clip[: RATE // 10], RATE).name in key_names()  # shorter than a window
    save_network(network, tmp_path, "key", {"width": 4})
    assert load_key_network(tmp_path)[0].listen(clip, RATE).probabilities == pytest.approx(one.probabilities, abs=2e-3)


def test_transposed_spectrograms_keep_their_label():
    names = key_names()
    pitch = torch.zeros(40, 3, 72, 4)
    pitch[:, 1, 36] = 1.0  # C5 alone
    moved, label = key.augment(pitch, torch.full((40,), names.index("C minor")), np.random.default_rng(0))
    found = moved[:, 1].mean(dim=2).argmax(dim=1) % 12
    assert [names[i] for i in label.tolist()] == [f"{PITCH_CLASSES[p]} minor" for p in found.tolist()]
    assert len(set(label.tolist())) > 6


def test_beat_targets_follow_the_stretch():
    labels = row(120.0)
    plain = beat_tracker.beat_target(labels, 0.0, 1.0, 200)
    assert np.flatnonzero(plain[0] == 1.0).tolist() == [0, 25, 50, 75, 100, 125, 150, 175]
    assert np.flatnonzero(plain[1] == 1.0).tolist() == [0, 100]
    # A second of the crop holds 1.25 s of the clip: the beats come sooner; the crop starts on the second beat.
    faster = beat_tracker.beat_target(labels, 0.5, 1.25, 100)
    assert np.flatnonzero(faster[0] == 1.0).tolist() == [0, 20, 40, 60, 80]
    assert faster[0, 1] == faster[0, 19] == 0.5


def test_fit_follows_its_steps_and_not_the_clock(monkeypatch):
    """A machine a thousand times as slow trains the same network to the bit."""
    goal, networks = torch.tensor([[1.0, -2.0]]), []
    for hurry in (1.0, 1000.0):
        clock = time.process_time
        monkeypatch.setattr(time, "process_time", lambda clock=clock, hurry=hurry: hurry * clock())
        torch.manual_seed(0)
        network = torch.nn.Linear(2, 1)

        def loss(rng: np.random.Generator, network=network) -> torch.Tensor:
            batch = torch.from_numpy(rng.normal(size=(16, 2)).astype(np.float32))
            return torch.nn.functional.mse_loss(network(batch), batch @ goal.T)

        assert fit(network, loss, 0.05, 0.0, 300, 0, "test") < hurry
        assert network.weight.detach() == pytest.approx(goal, abs=0.02)
        networks.append(network)
    assert all(torch.equal(a, b) for a, b in zip(*(n.parameters() for n in networks), strict=True))


def test_fit_stops_before_a_step_that_is_not_finite():
    network = torch.nn.Linear(2, 1)
    before = network.weight.detach().clone()
    with pytest.raises(FloatingPointError, match="loss, gradient not finite after step 0; nothing is written"):
        fit(network, lambda rng: network(torch.ones(1, 2)).sum() * float("nan"), 0.05, 0.0, 5, 0, "test")
    assert torch.equal(network.weight, before)


def test_si_sdr():
    rng = np.random.default_rng(0)
    music, noise = rng.normal(size=50000), rng.normal(size=50000)
    assert reconstruction.si_sdr(music, music) == 120.0
    assert reconstruction.si_sdr(0.3 * music, music) == pytest.approx(120.0, abs=1.0)
    half = noise * np.linalg.norm(music) / np.linalg.norm(noise) * 10 ** (-3 / 20)
    assert reconstruction.si_sdr(music + half, music) == pytest.approx(3.0, abs=0.1)
    assert reconstruction.si_sdr(noise, music) < -20.0
    with pytest.raises(ValueError, match="estimate has shape"):
        reconstruction.si_sdr(music[1:], music)


def test_spectral_distances_grow_with_noise():
    rng = np.random.default_rng(0)
    music = tones(["C", "F"], 0.5)[: 2 * RATE]
    assert reconstruction.reconstruction_figures(music[None], music[None], RATE)["log_mel"] == 0.0
    noisy = [music + level * rng.normal(size=len(music)) for level in (0.0, 1e-3, 1e-2, 1e-1)]
    mel = [reconstruction.log_mel_distance(n, music, RATE) for n in noisy]
    stft = [reconstruction.stft_distance(n, music) for n in noisy]
    assert mel == sorted(mel) and stft == sorted(stft) and stft[0] == 0.0
    quieter = reconstruction.log_mel_distance(10 ** (-1 / 20) * (music + 1e-1), music + 1e-1, RATE)
    assert quieter <= 0.05 + 1e-6  # 1 dB is 0.05 where nothing lies under the floor


def test_signal():
    time = np.arange(RATE) / RATE
    sine = 0.5 * np.sin(2 * np.pi * 440 * time)
    plain = signal.signal_figures(sine, RATE)
    assert plain["rms_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert plain["clipped"] == plain["silent"] == 0.0 and abs(plain["dc"]) < 1e-6
    assert signal.signal_figures(np.clip(4 * sine, -1, 1), RATE)["clipped"] > 0.5
    assert signal.signal_figures(sine + 0.1, RATE)["dc"] == pytest.approx(0.1, abs=1e-6)
    assert signal.signal_figures(np.concatenate([sine, np.zeros(RATE)]), RATE)["silent"] == pytest.approx(0.5)
    noise = np.random.default_rng(0).normal(size=RATE)
    assert signal.signal_figures(0.1 * noise, RATE)["bandwidth_hz"] == pytest.approx(RATE / 2)
    narrow = np.convolve(noise, np.sinc(np.arange(-200, 201) / 6) / 6 * np.hanning(401), "same")  # 2 kHz
    assert 1800 < signal.signal_figures(0.1 * narrow, RATE)["bandwidth_hz"] < 3500
    assert signal.signal_figures(np.stack([sine, np.zeros(RATE)]), RATE)["peak"] == plain["peak"]
    for bad in (np.zeros((2, 5, 1)), np.zeros(0), np.array([np.nan])):
        with pytest.raises(ValueError, match="audio has"):
            signal.signal_figures(bad, RATE)


def test_bootstrap():
    rng = np.random.default_rng(0)
    summary = summarise(rng.normal(2.0, 1.0, size=400))
    assert summary["n"] == 400 and summary["low"] < 2.0 < summary["high"]
    assert summary["high"] - summary["low"] == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert summarise([1.0, None, float("nan")]) == {"mean": 1.0, "low": 1.0, "high": 1.0, "n": 1}
    assert summarise([None]) == {"mean": None, "low": None, "high": None, "n": 0}
    assert summarise([1.0, 2.0, 4.0], seed=3) == summarise([1.0, 2.0, 4.0], seed=3)
    with pytest.raises(ValueError, match="level is 2"):
        summarise([1.0], level=2)


def test_requests_are_anchored_on_a_downbeat():
    late = row(120.0, downbeat_s=1.0)  # two beats of the bar before stand first
    late["chord_symbols"] = ["G", "G", *late["chord_symbols"][2:]]
    request = anchored_request(late, SECONDS)
    assert request.beats_s[0] == 0.0 and request.downbeats_s[1] == pytest.approx(2.0)
    np.testing.assert_array_equal(request.chroma[0], late["chords"][2])
    assert chords_text(late).startswith("C:4 F:4 G:4") and chords_text(late).endswith("G:2")
    assert chords_text(row(chord_symbols=[""] * 16)) is None
    assert chords_text(row(chord_symbols=["", "", "C", "C"] * 4)).startswith("N:2 C:2")


def test_missing_labels_leave_figures_out(click_120):
    nothing = dict.fromkeys(row(), None) | {"duration_s": SECONDS}
    for request in (request_of_row(nothing), anchored_request(nothing, SECONDS)):
        assert set(control.control_figures(ClipAnalysis(click_120), request).values()) == {None}
    only_key = control.control_figures(ClipAnalysis(click_120), request_of_row(nothing | {"key": "C major"}))
    found = {name for name, value in only_key.items() if value is not None}
    assert found == {"key_exact_profile", "key_mirex_profile"}  # no network listened


def test_chance_lies_below(click_90, click_120, in_c):
    third = dataclasses.replace(in_c, onset=click_90.onset[::-1].copy())
    clips = [ClipAnalysis(click_90), ClipAnalysis(click_120), ClipAnalysis(third)]
    requests = [request_of_row(row(90.0)), request_of_row(row(120.0)), request_of_row(row(70.0))]
    own = summaries({"own": compare(clips, requests, {})}, control.NAMES, 0)
    shuffled = chance(clips, requests, {}, seed=0)
    others = summaries({"chance": shuffled}, control.NAMES, 0)
    assert own["tempo_4pct_librosa"]["own"]["mean"] >= 2 / 3 > others["tempo_4pct_librosa"]["chance"]["mean"]
    assert own["beat_f_librosa"]["own"]["mean"] > others["beat_f_librosa"]["chance"]["mean"] + 0.25
    assert shuffled == chance(clips, requests, {}, seed=0)
    assert chance(clips[:1], requests[:1], {}, seed=0) == []


def test_table():
    summary = summarise([0.5, 1.0])
    text = figures_table({"a": {"x": summary, "y": summarise([])}}, {"a": "words", "b": "none"}, ["x", "y"])
    assert "words" in text and "0.750" in text and "none" not in text
    assert "empty" not in figures_table({"c": {"x": summarise([])}}, {"c": "empty"}, ["x"])


def test_tagger_round_trip(tmp_path):
    torch.manual_seed(0)
    tagger = Tagger(["drums", "style:folk", "piano"], width=4)
    clip = [clicks(120.0)]
    before = tagger.probabilities(clip, RATE)[0]
    shape = {"tags": tagger.tags, "sampling_rate": tagger.sampling_rate, "width": tagger.width}
    save_network(tagger, tmp_path, "tagger", {**shape, "thresholds": {"piano": 0.4}})
    loaded, card = load_tagger(tmp_path)
    assert card["thresholds"] == {"piano": 0.4} and len(card["sha256"]) == 64
    assert loaded.probabilities(clip, RATE)[0] == pytest.approx(before, abs=2e-3)
    # Loudness is no clue.
    assert loaded.probabilities([0.3 * clip[0]], RATE)[0] == pytest.approx(before, abs=2e-2)
    (tmp_path / "tagger.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="cannot be read"):
        load_tagger(tmp_path)
    (tmp_path / "tagger.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match="cannot be read"):
        load_tagger(tmp_path)
