"""The instrument itself: known damage to a known clip moves exactly the figures that it should, step by step."""

from itertools import pairwise

import numpy as np
import pytest

from pipelines.vivace_theory import PITCH_CLASSES
from tests.helpers.synthetic_clips import RATE, SECONDS, clicks, row, tones
from training.metrics import control
from training.metrics.control import beat_f
from training.metrics.listening import Listeners, analyse, load_listeners
from training.metrics.reconstruction import log_mel_distance, reconstruction_figures, stereo_error, stft_distance
from training.metrics.request import request_of_row
from training.metrics.signal import clicks as heard_clicks
from training.metrics.signal import seam_figures, signal_figures

PROGRESSION = ["C", "F", "G", "C"]


@pytest.fixture(scope="module")
def listeners() -> Listeners:
    """Those that reports are made with."""
    return load_listeners("checkpoints/tagger", "checkpoints/beat_tracker", "checkpoints/key")


def music(bpm: float = 120.0, shift_s: float = 0.0, semitones: int = 0, progression=PROGRESSION) -> np.ndarray:
    """Clicks on the beats over four bars of chords."""
    return clicks(bpm, shift_s) + tones(progression, 60.0 / bpm, semitones)


def figures(listeners: Listeners, *audios: np.ndarray, bpm: float = 120.0) -> list[dict]:
    """Control figures of clips against the request of one of `bpm` in C major that starts on a downbeat."""
    analyses = analyse(list(audios), RATE, listeners, None)
    return [control.control_figures(clip, request_of_row(row(bpm)), listeners.thresholds) for clip in analyses]


def test_a_clip_that_does_as_asked(listeners):
    (got,) = figures(listeners, music())
    for name in ("tempo_4pct", "tempo_4pct_octaves", "key_exact", "key_mirex", "key_exact_profile"):
        assert got[name] == 1.0, name
    assert got["beat_f"] > 0.95 and got["beat_contrast"] > 2.0 and got["chord_cosine"] > 0.85


def test_100_ms_late_is_off_the_beat_at_the_right_tempo(listeners):
    on, late = figures(listeners, music(), music(shift_s=0.1))
    assert late["tempo_4pct"] == 1.0 and late["beat_f"] < 0.1 < on["beat_f"]
    assert late["beat_f_librosa"] < 0.3 and late["beat_contrast"] < 0.5 < on["beat_contrast"]


def test_a_semitone_up_is_another_key(listeners):
    (up,) = figures(listeners, music(semitones=1))
    assert up["key_exact"] == up["key_mirex"] == up["key_exact_profile"] == 0.0
    assert up["chord_cosine"] < 0.5 and up["tempo_4pct"] == 1.0 and up["beat_f"] > 0.95
    # The network knows no key better than another: it names each of the twelve.
    names = [listeners.key.listen(music(semitones=s), RATE).name for s in range(12)]
    assert names == [f"{tonic} major" for tonic in PITCH_CLASSES]


def test_tempo_doubled_is_an_octave_error(listeners):
    (double,) = figures(listeners, music(160.0), bpm=80.0)
    assert double["tempo_4pct"] == 0.0 and double["tempo_4pct_octaves"] == 1.0
    assert double["beat_f"] == pytest.approx(2 / 3, abs=0.05)  # every beat is hit, and as many between


def test_white_noise_does_nothing_as_asked(listeners):
    noise = [(0.1 * np.random.default_rng(i).normal(size=int(SECONDS * RATE))).astype(np.float32) for i in range(4)]
    got = figures(listeners, *noise)
    mean = {name: np.mean([f[name] for f in got]) for name in ("beat_f", "beat_contrast", "key_mirex", "chord_cosine")}
    assert mean["beat_f"] < 0.6 and abs(mean["beat_contrast"]) < 1.0 and mean["key_mirex"] < 0.6
    assert mean["chord_cosine"] == pytest.approx(0.5, abs=0.03)  # three notes of twelve that sound alike
    plain = signal_figures(noise[0], RATE)
    assert plain["bandwidth_hz"] == RATE / 2 and plain["rms_db"] == pytest.approx(-20.0, abs=0.1)


def test_three_decibels(listeners):
    plain = music() + 0.05  # an offset, so that nothing lies under the floor of the log-mel distance
    noise = 0.02 * np.random.default_rng(0).normal(size=len(plain))
    quiet = (plain + noise).astype(np.float64)
    loud = quiet * 10 ** (3 / 20)
    changed = reconstruction_figures(loud[None], quiet[None], RATE)
    assert changed["log_mel"] == pytest.approx(0.15, abs=2e-3) and changed["si_sdr_db"] > 100.0
    before, after = signal_figures(quiet, RATE), signal_figures(loud, RATE)
    for name in ("rms_db", "lufs"):
        assert after[name] - before[name] == pytest.approx(3.0, abs=0.01)
    for name in ("crest_db", "silent", "bandwidth_hz"):
        assert after[name] == pytest.approx(before[name])
    one, other = figures(listeners, music(), music() * np.float32(10 ** (-3 / 20)))
    for name in ("tempo_4pct", "beat_f", "key_exact", "chord_cosine", "beat_contrast"):
        assert one[name] == pytest.approx(other[name], abs=0.02), name


def test_loudness_of_the_reference_tone():
    time = np.arange(5 * 48000) / 48000
    tone = np.sin(2 * np.pi * 997 * time)
    assert signal_figures(tone, 48000)["lufs"] == pytest.approx(-3.01, abs=0.1)  # BS.1770-4, one channel at full scale
    assert signal_figures(np.stack([tone, tone]), 48000)["lufs"] == pytest.approx(0.0, abs=0.1)
    assert signal_figures(np.zeros(48000), 48000)["lufs"] is None
    assert signal_figures(tone[:1000], 48000)["lufs"] is None


def test_reconstruction_worsens_with_each_step_of_damage():
    plain = music()
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(plain))
    kinds = {
        "noise": [plain + level * noise for level in (0.0, 1e-3, 1e-2, 3e-2, 0.1)],
        "band": [low_pass(plain, share) for share in (1.0, 0.5, 0.25, 0.12, 0.06)],
        "bits": [np.round(plain * 2**bits) / 2**bits for bits in (15, 9, 7, 5, 3)],
    }
    for kind, steps in kinds.items():
        mel = [log_mel_distance(step, plain, RATE) for step in steps]
        stft = [stft_distance(step, plain) for step in steps]
        assert mel == sorted(mel) and mel[0] < 1e-3 < mel[-1], kind
        assert stft == sorted(stft), kind
    ratios = [reconstruction_figures(step[None], plain[None], RATE)["si_sdr_db"] for step in kinds["noise"]]
    assert ratios == sorted(ratios, reverse=True)


def low_pass(audio: np.ndarray, share: float) -> np.ndarray:
    """Only the lowest share of the spectrum."""
    bins = np.fft.rfft(audio)
    bins[round(share * len(bins)) :] = 0.0
    return np.fft.irfft(bins, len(audio))


def test_control_falls_with_each_step_of_disobedience(listeners):
    grid = np.asarray(row()["beats_s"])
    late = [beat_f(grid + shift, grid) for shift in (0.0, 0.06, 0.08, 0.2)]
    assert late == sorted(late, reverse=True)
    missing = [beat_f(grid[:count], grid) for count in (16, 12, 8, 4, 1)]
    assert missing == sorted(missing, reverse=True)
    # Bar after bar with another chord.
    wrong = [tones(["C"] * (4 - count) + ["F"] * count, 0.5) for count in range(5)]
    label = request_of_row(row() | {"chords": [[1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0]] * 16})
    analyses = analyse(wrong, RATE, Listeners(), None)
    cosine = [control.control_figures(clip, label)["chord_cosine"] for clip in analyses]
    assert all(a > b + 0.05 for a, b in pairwise(cosine))
    rng = np.random.default_rng(0)
    noisy = [(music() + level * rng.normal(size=len(music()))).astype(np.float32) for level in (0, 0.05, 0.2, 0.6, 2)]
    contrast = [f["beat_contrast"] for f in figures(listeners, *noisy)]
    assert contrast == sorted(contrast, reverse=True)


def test_signal_worsens_with_each_step_of_damage():
    plain = tones(PROGRESSION, 0.5)
    loud = [np.clip(gain * plain / np.abs(plain).max(), -1, 1) for gain in (0.9, 1.2, 1.5, 2.0, 4.0)]
    clipped = [signal_figures(audio, RATE)["clipped"] for audio in loud]
    assert clipped == sorted(clipped) and clipped[0] == 0.0 < clipped[1]
    silenced = []
    for share in (0.0, 0.2, 0.4, 0.6, 0.8):
        audio = plain.copy()
        audio[: round(share * len(audio))] = 0.0
        silenced.append(signal_figures(audio, RATE)["silent"])
    np.testing.assert_allclose(np.diff(silenced), 0.2, atol=0.02)
    narrow = [signal_figures(low_pass(0.1 * np.random.default_rng(0).normal(size=RATE), share), RATE)["bandwidth_hz"]
              for share in (1.0, 0.6, 0.3, 0.15, 0.07)]  # fmt: skip
    assert narrow == sorted(narrow, reverse=True)


def test_clicks_are_counted():
    plain, rng = tones(["C"], 0.5), np.random.default_rng(0)
    assert len(heard_clicks(plain, RATE)) == 0
    # Where these tones are cut to change the chord, it clicks indeed.
    np.testing.assert_allclose(heard_clicks(tones(PROGRESSION, 0.5), RATE), [2.0, 4.0, 6.0], atol=2e-4)
    for count in (1, 3, 8, 20):
        damaged = plain.copy()
        places = np.linspace(3000, len(plain) - 3000, count).astype(int)
        damaged[places] += 0.1 * rng.choice([-1.0, 1.0], size=count)
        np.testing.assert_allclose(heard_clicks(damaged, RATE), places / RATE, atol=2e-4)
        assert signal_figures(damaged, RATE)["clicks"] == pytest.approx(count / SECONDS)
    # A step of the waveform, as a bad edit leaves it, and a hit on a drum, which is none.
    step = plain.copy()
    step[50000:] += 0.3
    assert len(heard_clicks(step, RATE)) == 1
    drum = np.zeros(RATE)
    drum[8000:12000] = rng.normal(size=4000) * np.exp(-np.arange(4000) / 800) * 0.5
    assert len(heard_clicks(drum + 0.01 * rng.normal(size=RATE), RATE)) == 0


def test_seam_of_a_loop():
    time = np.arange(2 * RATE) / RATE
    circle = 0.3 * np.sin(2 * np.pi * 220 * time)  # 440 whole periods
    assert seam_figures(circle, RATE)["seam_click"] < 12.0
    assert abs(seam_figures(circle, RATE)["seam_step_db"]) < 0.5
    broken = circle[: -RATE // 440 + 3]
    assert seam_figures(broken, RATE)["seam_click"] > 12.0
    faded = circle * np.linspace(1.0, 0.1, len(circle))
    assert seam_figures(faded, RATE)["seam_step_db"] == pytest.approx(20.0, abs=1.5)


def test_stereo_image():
    left, right = tones(["C"], 0.5), tones(["F"], 0.5)
    wide = np.stack([left, 0.25 * right])
    assert stereo_error(wide, wide) == 0.0
    assert stereo_error(wide * 0.5, wide) == pytest.approx(0.0, abs=1e-3)  # louder or softer is no matter
    tilted = [stereo_error(wide * np.array([[10 ** (db / 20)], [1.0]]), wide + 0) for db in (0.0, 1.0, 2.0, 4.0, 8.0)]
    assert tilted == sorted(tilted) and tilted[0] == 0.0 < tilted[1]
    assert stereo_error(wide[::-1], wide) > 20.0
    assert stereo_error(wide[:1], wide[:1]) is None
    mixed = reconstruction_figures(wide, wide.mean(axis=0, keepdims=True), RATE)
    assert mixed["stereo_db"] is None and mixed["si_sdr_db"] > 100.0
