"""Words and symbols -> tempo, key, meter, length, chords; and the frame grid that comes of them."""

import math

import numpy as np
import pytest
import torch

from pipelines.pipeline_vivace import (
    GRID_CHANNELS,
    KEYS,
    PITCH_CLASSES,
    frame_grid,
    parse_chord,
    parse_chords,
    parse_key,
    parse_time_signature,
    read_prompt,
    understand,
)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("slow solo piano in A minor, 72 bpm, 4 bars", {"bpm": 72, "key": "A minor", "bars": 4}),
        ("lofi at 84 bpm in C minor, 4 bars", {"bpm": 84, "key": "C minor", "bars": 4}),
        ("techno 128bpm", {"bpm": 128}),
        ("a march, tempo 120, 2/4", {"bpm": 120, "time_signature": "2/4"}),
        ("tempo of 92.5", {"bpm": 92.5}),
        ("120 beats per minute", {"bpm": 120}),
        ("clocked at 84 beats a minute", {"bpm": 84}),
        ("metronome on 66", {"bpm": 66}),
        ("BPM: 90", {"bpm": 90}),
        ("in C# minor", {"key": "C# minor"}),
        ("in c# minor", {"key": "C# minor"}),
        ("Bb major", {"key": "Bb major"}),
        ("F sharp minor", {"key": "F# minor"}),
        ("waltz in A-flat major in 3/4", {"key": "Ab major", "time_signature": "3/4"}),
        ("waltz in a flat major, strings", {"key": "Ab major"}),
        ("key of d minor", {"key": "D minor"}),
        ("in the key of a minor", {"key": "A minor"}),
        ("guitar in Em, 100 bpm", {"key": "E minor", "bpm": 100}),
        ("A minor", {"key": "A minor"}),
        ("A minor, 90 bpm", {"key": "A minor", "bpm": 90}),
        ("Solo flute. A minor at 80 bpm", {"key": "A minor", "bpm": 80}),
        ("strings, A minor harp", {"key": "A minor"}),
        ("written in G maj", {"key": "G major"}),
        ("waltz time", {}),
        ("8-bar drum loop", {"bars": 8}),
        ("four bars of oboe", {"bars": 4}),
        ("sixteen measures", {"bars": 16}),
        ("10 seconds of rain", {"duration_s": 10.0}),
        ("ambient, 30s", {"duration_s": 30.0}),
        ("12.5 sec", {"duration_s": 12.5}),
        ("a 2 minute suite", {"duration_s": 120.0}),
        # not what they seem
        ("A minor detail of a major work", {}),
        ("a major hit", {}),
        ("used in a major film", {}),
        ("a minor piano piece", {}),
        ("80s synth pop", {}),
        ("synth pop from the 90s", {}),
        ("swing of the 30s", {}),
        ("12-bar blues", {}),
        ("I Am the drummer", {}),
        ("Am F C G on guitar", {}),
        ("24/7 party", {}),
        ("one man band", {}),
        ("H minor", {}),
        ("B minute", {}),
    ],
)
def test_read_prompt(prompt, expected):
    nothing = dict.fromkeys(("bpm", "key", "time_signature", "bars", "duration_s"))
    assert read_prompt(prompt) == nothing | expected


def test_every_key_reads_back():
    assert len(KEYS) == 24 and KEYS[0] == "C major" and KEYS[19] == "A minor"
    for key in KEYS:
        assert parse_key(key) == key
        assert read_prompt(f"slow piano in {key}, soft")["key"] == key
    assert [parse_key(k) for k in ("Am", "f#", "G flat min", "E-flat major", "Cb")] == [
        "A minor", "Gb major", "Gb minor", "Eb major", "B major",
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["H minor", "A miner", "", "major", "A##", "C major minor", None, 3])
def test_bad_keys(key):
    with pytest.raises(ValueError, match=r"key is .*allowed"):
        parse_key(key)


def test_time_signatures():
    beats = {"4/4": 4, "3/4": 3, "2/4": 2, "2/2": 2, "6/8": 2, "9/8": 3, "12/8": 4, "7/8": 7, "3/8": 3, "5/4": 5}
    assert {text: parse_time_signature(text) for text in beats} == beats
    for text in ("4", "4/3", "0/4", "waltz", "16/4", "-3/4", "3/4/4"):
        with pytest.raises(ValueError, match="time_signature is"):
            parse_time_signature(text)


@pytest.mark.parametrize(
    ("symbol", "notes"),
    [
        ("C", "C E G"), ("Am", "A C E"), ("G7", "G B D F"), ("Fmaj7", "F A C E"), ("Dm7", "D F A C"),
        ("Bdim", "B D F"), ("Caug", "C E Ab"), ("Dsus2", "D E A"), ("Dsus4", "D G A"), ("C6", "C E G A"),
        ("C9", "C E G Bb D"), ("Bm7b5", "B D F A"), ("C/G", "C E G"), ("Am/F", "A C E F"), ("Bbm", "Bb Db F"),
        ("F#m7", "Gb A Db E"), ("Cb", "B Eb Gb"), ("N", ""),
    ],
)  # fmt: skip
def test_chords(symbol, notes):
    expected = np.zeros(12)
    expected[[PITCH_CLASSES.index(note) for note in notes.split()]] = 1.0
    np.testing.assert_array_equal(parse_chord(symbol), expected)


@pytest.mark.parametrize("symbol", ["H", "Cx", "C7alt", "C:", "Cmajor9x", "C/H", "A/", "", "Am:2"])
def test_bad_chords(symbol):
    with pytest.raises(ValueError, match="chords has"):
        parse_chord(symbol)


def test_progressions():
    a, f, c = parse_chord("Am"), parse_chord("F"), parse_chord("C")
    np.testing.assert_array_equal(parse_chords("Am F", 2, 6), [a, a, f, f, a, a])
    np.testing.assert_array_equal(parse_chords("Am:1 | F:2", 4, 4), [a, f, f, a])
    np.testing.assert_array_equal(parse_chords(["Am", "C:1"], 3, 5), [a, a, a, c, a])
    for chords in ("", "Am:0", "Am:1.5", "Am:x", []):
        with pytest.raises(ValueError, match="chords"):
            parse_chords(chords, 4, 8)


def test_grid_channels():
    """120 bpm and 25 frames a second: 12.5 frames a beat, so frame centres fall at (i + 0.5) / 12.5 beats."""
    chroma = np.stack([parse_chord("C"), parse_chord("N"), parse_chord("Am")])
    grid = frame_grid(100, 25.0, 120.0, 4, downbeat_s=1.0, beat_chroma=chroma, first_beat_s=0.5)
    assert grid.shape == (GRID_CHANNELS, 100) and grid.dtype == torch.float32
    times = (np.arange(100) + 0.5) / 25.0
    phase = (times - 1.0) * 2.0
    for row, harmonic in enumerate((1, 2, 4)):
        np.testing.assert_allclose(grid[2 * row], np.sin(2 * np.pi * harmonic * phase), atol=1e-5)
        np.testing.assert_allclose(grid[2 * row + 1], np.cos(2 * np.pi * harmonic * phase), atol=1e-5)
    np.testing.assert_allclose(grid[7], np.cos(2 * np.pi * phase / 4), atol=1e-5)
    assert (grid[20] == 1).all()
    sounding = ((times >= 0.5) & (times < 1.0)) | ((times >= 1.5) & (times < 2.0))  # the second beat has no chord
    np.testing.assert_array_equal(grid[21].numpy() == 1, sounding)
    np.testing.assert_array_equal(grid[8:20].sum(0).numpy() == 3, sounding)
    np.testing.assert_array_equal(grid[8:20, 13], chroma[0])


def test_grid_absent_is_zero_and_far_frames_are_exact():
    assert not frame_grid(10, 25.0).any()
    assert not frame_grid(10, 25.0, 100.0)[6:20].any()
    late = frame_grid(1_000_000, 25.0, 97.0, 3)[:, -1]
    phase = math.fmod((999_999.5 / 25.0) * 97.0 / 60.0, 1.0)
    assert late[0].item() == pytest.approx(math.sin(2 * math.pi * phase), abs=1e-6)


def length(prompt="piano", bpm=None, key=None, time_signature=None, bars=None, duration_s=None, chords=None, **more):
    return understand(prompt, bpm, key, time_signature, bars, duration_s, chords, 10.0, 600.0, **more)


def test_what_counts_when_several_are_given():
    assert length("piano").duration_s == 10.0
    assert length("piano, 12 seconds").duration_s == 12.0
    assert length("piano, 72 bpm, 4 bars").duration_s * 3 == 40  # a fraction: exact
    assert length("6/8, 60 bpm, 3 bars").duration_s == 6
    assert length("piano, 72 bpm, 4 bars", duration_s=5.0).duration_s == 5.0
    assert length("piano, 72 bpm, 4 bars", bars=2, bpm=120).duration_s == 4
    assert length("in C major", key="am").key == "A minor"
    assert length("4 bars", bpm=60, duration_s=16.0, bars=4).duration_s == 16
    assert length("piano in 3/4").beats_per_bar == 3 and length("piano").beats_per_bar is None


@pytest.mark.parametrize(
    ("given", "bpm", "reason"),
    [
        ({"prompt": "slow piano, 4 bars"}, 72, "the prompt says 'slow'"),
        ({"prompt": "very slow piano, 4 bars"}, 60, "the prompt says 'very slow'"),
        ({"prompt": "drum and bass", "bars": 2}, 172, "the prompt says 'drum and bass'"),
        ({"prompt": "energetic drum and bass", "bars": 2}, 172, "the prompt says 'drum and bass'"),
        ({"prompt": "slow techno", "bars": 2}, 72, "the prompt says 'slow'"),
        ({"prompt": "fast rock", "bars": 2}, 132, "the prompt says 'fast'"),
        ({"prompt": "a LIVELY reel", "bars": 2}, 132, "the prompt says 'lively'"),
        ({"prompt": "strings", "bars": 2}, 100, "no word of the prompt tells"),
        ({"prompt": "slowness", "chords": "Am F"}, 100, "no word of the prompt tells"),
        ({"prompt": "slow strings", "bars": 4, "duration_s": 8.0}, 120, "the bars must fill the duration"),
        ({"prompt": "slow, 90 bpm", "bars": 4}, 90, None),
        ({"prompt": "slow piano"}, None, None),
    ],
)
def test_a_tempo_is_chosen_where_bars_or_chords_need_one(given, bpm, reason):
    known = length(**given)
    assert (known.bpm, known.bpm_reason) == (bpm, reason)
    if given.get("bars") and "duration_s" not in given:
        assert float(known.duration_s) == pytest.approx(given["bars"] * 240 / known.bpm)


def test_chords_and_loops_without_a_length_fill_whole_bars():
    assert length(bpm=96, chords="Am F C G").bars == 4  # 10 s, the default
    assert length(bpm=60, chords="Am F C G").bars == 4  # 16 s: once through is the least
    assert length(bpm=120, chords="Am:2 F:2").bars == 5
    assert length(bpm=60, chords="Am:3 F:2").bars == 2  # five beats need a second bar
    assert length(bpm=100, loop=True).bars == 4 and length(loop=True).bars is None
    assert length(bpm=90, duration_s=8 / 3, loop=True).duration_s * 3 == 8
    assert length(bpm=60, chords="Am F", duration_s=4.0).bars is None  # a beat of grace for crops
    assert length(downbeat_s=-1.5).downbeat_s == -1.5 and length().downbeat_s == 0.0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"bars": 100, "duration_s": 10}, r"bpm is 2400.* \(the bars must fill the duration\)"),
        ({"bpm": 0}, "bpm is 0; allowed: numbers from 20 to 300 beats a minute"),
        ({"bpm": 900}, "bpm is 900"),
        ({"prompt": "900 bpm"}, "bpm is 900"),
        ({"bpm": "90"}, "bpm is '90'; allowed: numbers from 20"),
        ({"bpm": math.nan}, "bpm is nan"),
        ({"duration_s": 0}, "duration_s is 0; allowed: numbers from 0.5 to 600 s"),
        ({"duration_s": -3}, "duration_s is -3"),
        ({"duration_s": 1e9}, "duration_s is 1"),
        ({"duration_s": math.nan}, "duration_s is nan"),
        ({"duration_s": True}, "duration_s is True"),
        ({"bars": 0, "bpm": 90}, "bars is 0"),
        ({"bars": 1.5, "bpm": 90}, "bars is 1.5"),
        ({"bars": 9999, "bpm": 90}, r"duration_s \(9999 bars at 90 bpm\) is 26664"),
        ({"bars": 4, "bpm": 96, "duration_s": 12}, "4 bars of 4/4 at 96 bpm last 10.000 s"),
        ({"key": "H minor"}, "key is 'H minor'"),
        ({"chords": "Am F C G", "bpm": 60, "duration_s": 8}, r"chords last 16 beats \(16.000 s at 60 bpm\)"),
        ({"bpm": 90, "duration_s": 10, "loop": True}, "3.750 bars of 4/4 at 90 bpm; .* whole bars, as with bars=4"),
        ({"downbeat_s": math.nan}, "downbeat_s is nan"),
        ({"chords": "Am Hx", "bpm": 90}, "chords has 'Hx'"),
        ({"time_signature": "4"}, "time_signature is '4'"),
    ],
)
def test_bad_requests(given, words):
    with pytest.raises(ValueError, match=words) as caught:
        length(**given)
    assert "\n" not in str(caught.value)
