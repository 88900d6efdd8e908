"""What an adapter gained and lost: distances of sets of clips, requests of the pieces, and the words for it."""

import numpy as np
import pytest

from pipelines.vivace_theory import KEYS
from tests.helpers.synthetic_clips import RATE, clicks, tones
from training import gain
from training.metrics.distribution import energy_distance


def test_energy_distance_is_that_of_its_formula_and_grows_with_the_shift():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 4)), rng.normal(size=(5, 4))

    def mean(x, y):
        return np.mean([np.sqrt(((p - q) ** 2).sum()) for p in x for q in y])

    assert energy_distance(a, b) == pytest.approx(2 * mean(a, b) - mean(a, a) - mean(b, b))
    assert energy_distance(a, a) == 0.0 and energy_distance(a, b) == energy_distance(b, a)
    assert energy_distance(a, b) < energy_distance(a, b + 1.0) < energy_distance(a, b + 2.0)
    # One point against one point: twice their distance.
    assert energy_distance(np.zeros((1, 2)), np.array([[3.0, 4.0]])) == pytest.approx(10.0)
    with pytest.raises(ValueError, match="b 0; needed"):
        energy_distance(a, np.zeros((0, 4)))


def test_sound_statistics_hear_the_timbre_and_not_the_level():
    bright, dull = clicks(100.0), tones(["C", "F", "G", "Am"], 0.5)
    own, quiet, other = (gain.sound_statistics(audio, RATE) for audio in (dull, 0.1 * dull, bright))
    assert own.shape == (160,) and np.linalg.norm(own - quiet) < 0.1 < 5.0 < np.linalg.norm(own - other)
    noise = np.random.default_rng(0).normal(size=len(dull)).astype(np.float32)
    bent = np.fft.irfft(np.fft.rfft(noise) * np.linspace(0.25, 1.0, len(noise) // 2 + 1), len(noise))  # 12 dB of tilt
    even, tilted = gain.sound_statistics(noise, RATE), gain.sound_statistics(bent, RATE)
    assert 1.0 < np.linalg.norm(even - tilted) < 12.0


def test_pieces_that_move_towards_the_held_out_clips_are_counted():
    held = np.zeros((3, 2))
    vectors = {"held_out": held, "music": held + 0.1, "before": np.array([[4.0, 0.0], [0.0, 4.0]])}
    vectors["after"] = np.array([[1.0, 0.0], [0.0, 5.0]])
    figures = gain.distances(vectors)
    assert figures["nearer"] == 1 and figures["after"] < figures["before"] and figures["music"] < figures["after"]


def test_requests_take_the_words_in_turn_and_what_they_say():
    rows = [{"file_name": "a", "text": ["waltz, 3/4, 96 bpm, F major"]}, {"file_name": "b", "text": [""]}]
    made = gain.requests_of(rows, 5, seed=3)
    assert [one["file_name"] for one in made] == ["a", "b", "a", "b", "a"]
    assert (made[0]["bpm"], made[0]["key"], made[0]["time_signature"], made[0]["beats_per_bar"]) == (
        96.0, "F major", "3/4", 3
    )  # fmt: skip
    assert made[1]["prompt"] == "music" and made[1]["key"] in KEYS and 72 <= made[1]["bpm"] <= 144
    assert made[1]["bpm"] != made[3]["bpm"]
    assert gain.requests_of(rows, 2, seed=3) == made[:2] and gain.requests_of(rows, 5, seed=4) != made


def test_what_was_gained_and_lost_in_words():
    def means(before, after):
        return {"before": {"mean": before, "n": 4}, "after": {"mean": after, "n": 4}}

    figures = {
        "pieces": 4, "held_out_loss": {"before": 1.0, "after": 0.75},
        "distance": {"log_mel_db": {"before": 8.0, "after": 4.0, "music": 1.0, "nearer": 4},
                     "tagger": {"before": 0.5, "after": 0.6, "music": 0.1, "nearer": 1}},
        "control": {"tempo_4pct": means(1.0, 0.75), "beat_f": means(0.5, 0.5), "downbeat_f": means(None, None)},
    }  # fmt: skip
    gained, lost = gain.verdict(figures)
    assert gained == "held-out loss 1.00 -> 0.75 (-25 %); distance of sound, dB 8.00 -> 4.00 (-50 %)"
    assert lost == "distance of what the tagger hears 0.50 -> 0.60 (+20 %); tempo within 4 % 1.00 -> 0.75"
    lines = gain.table(figures).splitlines()
    assert len(lines) == 7 and "downbeat" not in gain.table(figures)
    assert lines[3].endswith("trained-on clips have 1.00; 4 of 4 pieces are nearer) | 8.00 | 4.00 |")
    figures |= {"distance": {}, "control": {"tempo_4pct": means(1.0, 1.0)}}
    assert gain.verdict(figures)[1] == "nothing on these 4 pieces"
