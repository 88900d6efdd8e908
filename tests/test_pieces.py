"""Chords found for a tune, and scores that become pieces in every key, on their bars."""

from dataclasses import replace

import numpy as np
import pytest

from training.data import harmony
from training.data.adapt import excerpt, polyphony_piece, song_piece, tune_piece, usable
from training.data.grooves import BAR_Q
from training.data.instruments import of_program
from training.data.score import Part, Score


def test_harmony():
    assert harmony.symbol((9, "m7")) == "Am7" and np.flatnonzero(harmony.chroma((9, "m7"))).tolist() == [
        0,
        4,
        7,
        9,
    ]
    assert harmony.chroma(None) == [0] * 12 and harmony.parse_key("F# minor") == (6, True)
    scale = np.array([[k * 1.0, 1.0, p, 0.8] for k, p in enumerate([60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60])])
    assert harmony.estimate_key(scale)[:2] == (0, False)
    tune = np.array([[0, 4, 60, 1], [4, 4, 71, 1], [8, 2, 64, 1], [10, 2, 60, 1]], dtype=float)
    chords = harmony.harmonise(tune, 0.0, 4.0, 3, 0, False)
    assert chords[0] == chords[2] == (0, "") and chords[1] == (7, "")
    triad = np.array([[0, 2, p, 1] for p in (50, 57, 65)], dtype=float)
    assert harmony.chord_per_beat(triad, 0.0, 1.0, 3) == [(2, "m"), (2, "m"), None]
    assert of_program(40).name == "violin" and of_program(76).name == "pan flute"
    with pytest.raises(ValueError, match="program 128"):
        of_program(128)


def score(parts, meter="3/4", key="D dorian"):
    bar_q = BAR_Q[meter]
    return Score(
        "tune/1",
        "A tune",
        "traditional",
        "test",
        "public domain",
        tuple(parts),
        meter,
        key,
        1.0,
        1.0 + 6 * bar_q,
        None,
    )


def line(centre, step_q=1.0, total_q=19.0, seed=0):
    count = int(total_q / step_q)
    pitches = centre + np.random.default_rng(seed).choice([0, 2, 3, 5, 7, 9, 10], count)
    return np.stack([np.arange(count) * step_q, np.full(count, step_q), pitches, np.full(count, 0.8)], axis=1)


def test_scores_become_pieces_in_all_keys():
    tune = score([Part("", None, False, line(62, 0.5))])
    fugue = score([Part("", None, False, line(38 + 12 * k, seed=k)) for k in range(3)])
    drums = Part("", None, True, np.array([[k, 0.2, 36.0, 0.9] for k in range(19)]))
    song = score([Part("", 30, False, line(50)), Part("", 33, False, line(38)), drums])
    assert usable(tune) and usable(fugue) and usable(song)
    assert not usable(replace(tune, time_signature="5/8")) and not usable(replace(tune, length_q=7.0))
    tonics = set()
    for seed in range(40):
        for make, given in ((tune_piece, tune), (polyphony_piece, fugue), (song_piece, song)):
            piece = make(given, 10.0, np.random.default_rng(seed))
            tonics.add(piece.tonic)
            assert 48 <= piece.bpm <= 200 and piece.minor and piece.work == "tune/1" and piece.tracks
            end_q = piece.start_q + piece.quarters(10.0)
            last = max(float((t.notes[:, 0] + t.notes[:, 1]).max()) for t in piece.tracks if len(t.notes))
            assert piece.start_q >= 0 and last > end_q - 2 * piece.bar_q
            for track in piece.tracks:
                assert np.isfinite(track.notes).all() and (track.notes[:, 1] > 0).all()
                assert (track.notes[:, 2] > 20).all() and (track.notes[:, 2] < 110).all()
    assert tonics == set(range(12))


def test_downbeats_of_a_score_stay_downbeats():
    """A score whose first beats alone are loud keeps them on whole bars of the piece, pickup or not."""
    notes = np.array([[k, 0.9, 72.0 if (k - 1) % 3 == 0 else 60.0, 0.8] for k in range(19)], dtype=float)
    for seed in range(8):
        cut = excerpt(score([Part("", None, False, notes)]), 4, np.random.default_rng(seed))[0]
        assert len(cut) and np.allclose(cut[cut[:, 2] == 72, 0] % 3.0, 0.0)
