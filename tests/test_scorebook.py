"""The scorebook: exact labels, same bytes again, splits by work, captions, bad input. Renders a few short
clips."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from training.data import harmony, scorebook
from training.data.adapt import excerpt, polyphony_piece, song_piece, tune_piece, usable
from training.data.caption_words import MOOD_HELDOUT
from training.data.captions import Facts, captions, heldout_captions, tempo_words
from training.data.grooves import BAR_Q
from training.data.instruments import DRUM_HELDOUT_WORDS, DRUM_WORDS, INSTRUMENTS, of_program
from training.data.score import Part, Score
from training.data.sources.fetch import find_soundfont
from training.data.styles import STYLES


def options(folder, **changes):
    values = {
        "hours": 12 / 3600,
        "seed": 3,
        "clip_s": 2,
        "num_workers": 1,
        "soundfont": find_soundfont(),
        "sources": "procedural",
    }
    return [
        word for key, value in (values | {"output_dir": folder} | changes).items() for word in (f"--{key}", str(value))
    ]


def read(folder):
    rows = {}
    for split in scorebook.SPLITS:
        for line in (folder / split / "metadata.jsonl").read_text().splitlines():
            row = json.loads(line)
            rows[row["seed"][1]] = row | {"split": split, "path": folder / split / row["file_name"]}
    return rows


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    assert scorebook.main(options(folder, hours=48 / 3600, clip_s=8)) == 0
    return folder


def test_rows_are_complete_and_audio_is_sound(book):
    rows = read(book)
    assert sorted(rows) == list(range(6))
    for row in rows.values():
        audio, rate = soundfile.read(row["path"])
        assert rate == row["sampling_rate"] == 24000 and len(audio) == 8 * 24000 and audio.ndim == 1
        assert np.abs(audio).max() <= 0.701 and -30 < 20 * np.log10(audio.std()) < -12
        assert len(row["text"]) >= 4 and len(set(row["text"])) == len(row["text"])
        assert len(row["text_heldout"]) >= 2 and not set(row["text"]) & set(row["text_heldout"])
        assert all(name in INSTRUMENTS for name in row["instruments"]) and row["instruments"]
        assert row["melody_instrument"] is None or row["melody_instrument"] in row["instruments"]
        assert row["split"] == scorebook.split_of(row["work"])
        assert row["style"] in STYLES and row["license"]


def test_beats_are_exact(book):
    for row in read(book).values():
        beat_s = 60 / row["bpm"]
        beats, downbeats = np.array(row["beats_s"]), np.array(row["downbeats_s"])
        assert np.allclose(np.diff(beats), beat_s, atol=2e-6)
        assert np.allclose(np.diff(downbeats), beat_s * row["beats_per_bar"], atol=2e-6)
        assert 0 <= beats[0] < beat_s and 0 <= downbeats[0] < beat_s * row["beats_per_bar"]
        assert abs(downbeats[0] - row["downbeat_s"]) < 1e-6 and 0 <= 8 - beats[-1] <= beat_s + 1e-6
        assert len(row["chords"]) == len(row["chord_symbols"]) == len(beats)
        for chroma, name in zip(row["chords"], row["chord_symbols"], strict=True):
            assert len(chroma) == 12 and set(chroma) <= {0, 1} and (sum(chroma) >= 3) == bool(name)


def test_sound_begins_on_the_beats(book):
    """The rise of energy near labelled beats is well above the rise half-way to the next ones' middle."""
    near, between = [], []
    for row in read(book).values():
        audio, rate = soundfile.read(row["path"])
        hop = rate // 100
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, (hop, hop)), 2 * hop)[::hop]
        spectrum = np.log(1e-4 + np.abs(np.fft.rfft(frames * np.hanning(2 * hop))))
        flux = np.maximum(np.diff(spectrum, axis=0), 0).mean(axis=1)
        times = (np.arange(len(flux)) + 1) / 100
        beat_s = 60 / row["bpm"]
        phase = ((times - row["downbeat_s"]) / beat_s + 0.5) % 1 - 0.5
        near.append(flux[np.abs(phase * beat_s) < 0.035].mean())
        between.append(flux[(np.abs(phase) > 0.12) & (np.abs(phase) < 0.22)].mean())
    assert np.mean(near) > 1.4 * np.mean(between)


def test_same_seed_same_bytes_alone_or_in_parallel(tmp_path):
    assert scorebook.main(options(tmp_path / "a")) == 0
    assert scorebook.main(options(tmp_path / "b", num_workers=2)) == 0
    first, second = read(tmp_path / "a"), read(tmp_path / "b")
    assert list(first) and sorted(first) == sorted(second)
    for index, row in first.items():
        assert row["path"].read_bytes() == second[index]["path"].read_bytes()
        assert {k: v for k, v in row.items() if k != "path"} == {k: v for k, v in second[index].items() if k != "path"}
    # A lost clip alone is made again, the same, and finished ones are kept.
    row = first[4]
    before, kept = row["path"].read_bytes(), first[5]["path"].stat().st_mtime_ns
    row["path"].unlink()
    assert scorebook.main(options(tmp_path / "a")) == 0
    assert row["path"].read_bytes() == before and first[5]["path"].stat().st_mtime_ns == kept
    assert not list((tmp_path / "a").rglob("*.partial"))


def test_other_arguments_do_not_mix(tmp_path, capsys):
    assert scorebook.main(options(tmp_path, hours=2 / 3600)) == 0
    assert scorebook.main(options(tmp_path, hours=2 / 3600, seed=4)) == 2
    assert "other arguments" in capsys.readouterr().err


def test_split_by_work():
    splits = [scorebook.split_of(f"work/{k}") for k in range(3000)]
    assert 0.88 < splits.count("train") / 3000 < 0.92
    assert 0.03 < splits.count("validation") / 3000 < 0.055 and 0.045 < splits.count("test") / 3000 < 0.075


def test_stereo_and_other_rate(tmp_path):
    assert scorebook.main(options(tmp_path, hours=2 / 3600, channels=2, sampling_rate=44100)) == 0
    audio, rate = soundfile.read(read(tmp_path)[0]["path"])
    assert rate == 44100 and audio.shape == (88200, 2) and np.abs(audio[:, 0] - audio[:, 1]).max() > 1e-3


def facts(**changes):
    values = dict(
        style_words=("house", "deep house"), style_heldout_words=("club groove",), genre="electronic",
        moods=("happy", "driving"),
        instruments=("piano", "synth bass"), melody="piano", drums="drums", bpm=124.0, key="A minor",
        time_signature="4/4",
        bars=4, room="room", dynamics="medium",
    )  # fmt: skip
    return Facts(**(values | changes))


def test_captions_say_numbers_now_and_then_and_keep_paraphrases_apart():
    texts, held = [], []
    for seed in range(150):
        texts += captions(facts(), 6, np.random.default_rng(seed))
        held += heldout_captions(facts(), 3, np.random.default_rng(seed))
    share = lambda word: sum(word in t for t in texts) / len(texts)  # noqa: E731
    assert 0.25 < share("124") < 0.55 and 0.12 < share("A minor") < 0.4 and 0.05 < share("4/4") + share("4 bars") < 0.35
    assert not set(texts) & set(held) and len(set(texts)) > 300
    assert all("club groove" not in t for t in texts) and all("house" not in t for t in held)
    solo = captions(facts(instruments=("harp",), melody="harp", drums=None), 6, np.random.default_rng(0))
    assert len(solo) == 6 and not any("drum" in t or "percussion" in t for t in solo)


def test_heldout_words_are_disjoint():
    for instrument in INSTRUMENTS.values():
        assert not set(instrument.words) & set(instrument.heldout_words) and instrument.low < instrument.high
    trained = (
        {w for i in INSTRUMENTS.values() for w in i.words}
        | {w for s in STYLES.values() for w in s.words}
        | set(DRUM_WORDS)
    )
    held = {w for i in INSTRUMENTS.values() for w in i.heldout_words} | {
        w for s in STYLES.values() for w in s.heldout_words
    }
    assert not trained & (held | set(DRUM_HELDOUT_WORDS))
    moods = {mood for style in STYLES.values() for mood in style.moods}
    assert moods <= set(MOOD_HELDOUT) and not moods & set(MOOD_HELDOUT.values())
    for bpm in (60, 90, 110, 130, 170):
        assert not set(tempo_words(bpm)) & set(tempo_words(bpm, heldout=True))


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
            assert 55 <= piece.bpm <= 180 and piece.minor and piece.work == "tune/1" and piece.tracks
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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hours": 0}, "hours 0"), ({"hours": "nan"}, "hours nan"), ({"hours": -3}, "hours -3"),
        ({"sources": "essen"}, "sources 'essen'"),
        ({"soundfont": "/nowhere/x.sf2"}, "soundfont /nowhere/x.sf2"), ({"soundfont": __file__},
            "not a SoundFont"),
        ({"channels": 3}, "channels 3"), ({"clip_s": "nan"}, "clip_s nan"), ({"num_workers": 0},
            "num_workers 0"),
        ({"sampling_rate": 5}, "sampling_rate 5"), ({"seed": -1}, "seed -1"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, capsys, change, words):
    assert scorebook.main(options(tmp_path / "out", **change)) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and "\n" not in error and not (tmp_path / "out").exists()


def test_damaged_soundfont_is_one_line(tmp_path, capfd):
    damaged = tmp_path / "damaged.sf2"
    damaged.write_bytes(b"RIFF\x10\0\0\0sfbkJUNK")
    assert scorebook.main(options(tmp_path / "out", soundfont=damaged)) == 2
    error = capfd.readouterr().err.strip()
    assert "damaged.sf2" in error and "\n" not in error
