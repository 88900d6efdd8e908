"""The scorebook: exact labels, same bytes again, splits by work, loops, bad input. Renders a few clips."""

import json
import signal
import subprocess
import sys
import time

import datasets
import numpy as np
import pytest

from pipelines.vivace_theory import parse_time_signature
from tests.helpers.note_timing import lag_s, note_rows, outside_at_the_seam, plucked
from training.data import clips
from training.data.clips import read_audio, read_rows
from training.data.scorebook import build
from training.data.scorebook.captions import (
    DRUMS_ALONE,
    DRUMS_ALONE_HELDOUT,
    NO_BASS,
    NO_BASS_HELDOUT,
    NO_CHORDS,
    NO_CHORDS_HELDOUT,
    NO_DRUMS,
    NO_DRUMS_HELDOUT,
    NO_MELODY,
    NO_MELODY_HELDOUT,
)
from training.data.scorebook.drumkits import SAMPLE_KITS
from training.data.scorebook.instruments import INSTRUMENTS
from training.data.scorebook.labels import loop_s, other_players, row_of
from training.data.scorebook.styles import STYLES
from training.data.sources.fetch import find_soundfont, find_soundfonts


def options(folder, **changes):
    values = {
        "hours": 12 / 3600,
        "seed": 3,
        "clip_s": 2,
        "num_workers": 1,
        "sampling_rate": 24000,
        "channels": 1,
        "soundfont": find_soundfont(),
        "sources": "procedural",
    }
    return [
        word for key, value in (values | {"output_dir": folder} | changes).items() for word in (f"--{key}", str(value))
    ]


def read(folder):
    rows = {}
    for split in clips.SPLITS:
        for path in clips.shards_of(folder, split):
            for row in clips.labels(path):
                audio = read_audio(row).numpy()
                rows[row["seed"][1]] = row | {"split": split, "samples": audio}
    return rows


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("book")
    build.main(options(folder, hours=48 / 3600, clip_s=8, seed=40))
    return folder


def test_rows_are_complete_and_audio_is_sound(book):
    rows = read(book)
    assert sorted(rows) == list(range(6))
    for row in rows.values():
        audio = row["samples"][0]
        assert row["sampling_rate"] == 24000 and len(audio) == round(row["duration_s"] * 24000)
        assert row["loop"] or row["duration_s"] == 8
        assert np.abs(audio).max() <= 0.701 and -30 < 20 * np.log10(audio.std()) < -12
        assert len(row["text"]) == len(row["stated"]) == 8 and len(set(row["text"])) == len(row["text"])
        assert len(row["text_heldout"]) == len(row["stated_heldout"]) == 4 and not set(row["text"]) & set(
            row["text_heldout"]
        )
        assert all(name in INSTRUMENTS for name in row["instruments"]) and row["parts"]
        assert row["melody_instrument"] is None or row["melody_instrument"] in row["instruments"]
        assert row["split"] == build.split_of(row["work"])
        assert row["style"] in STYLES and row["license"] and row["soundfont"] == "FluidR3Mono_GM"
        assert len(row["roles"]) == len(row["instruments"]) and row["density"] > 0
        assert row["starts_on_downbeat"] == (row["downbeat_s"] < 1e-6)


def test_beats_are_exact(book):
    for row in read(book).values():
        beat_s = 60 / row["bpm"]
        beats, downbeats = np.array(row["beats_s"]), np.array(row["downbeats_s"])
        assert np.allclose(np.diff(beats), beat_s, atol=2e-6)
        assert np.allclose(np.diff(downbeats), beat_s * row["beats_per_bar"], atol=2e-6)
        assert 0 <= beats[0] < beat_s and 0 <= downbeats[0] < beat_s * row["beats_per_bar"]
        assert abs(downbeats[0] - row["downbeat_s"]) < 1e-6 and 0 <= row["duration_s"] - beats[-1] <= beat_s + 1e-6
        assert len(row["chords"]) == len(row["chord_symbols"]) == len(beats)
        for chroma, name in zip(row["chords"], row["chord_symbols"], strict=True):
            assert len(chroma) == 12 and set(chroma) <= {0, 1} and (sum(chroma) >= 3) == bool(name)


def test_sound_begins_on_the_beats(book):
    """The rise of energy near labelled beats is well above the rise half-way to the next ones' middle."""
    near, between = [], []
    for row in read(book).values():
        audio, rate = row["samples"][0], row["sampling_rate"]
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


def folder_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "data").iterdir())}


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(build, "SHARD_CLIPS", 2)


def test_same_seed_same_bytes_alone_or_in_parallel_or_in_parts(tmp_path, small_shards):
    build.main(options(tmp_path / "a"))
    build.main(options(tmp_path / "b", num_workers=2))
    build.main(options(tmp_path / "c", shard="1/2"))
    assert not (tmp_path / "c" / "info.json").exists()  # the other half is missing
    build.main(options(tmp_path / "c", shard="0/2"))
    whole = folder_bytes(tmp_path / "a")
    assert len(whole) >= 3 and whole == folder_bytes(tmp_path / "b") == folder_bytes(tmp_path / "c")
    assert json.loads((tmp_path / "c" / "info.json").read_text())["clips"] == {
        split: len([r for r in read(tmp_path / "a").values() if r["split"] == split]) for split in clips.SPLITS
    }
    assert (tmp_path / "c" / "histograms.png").read_bytes()[:4] == b"\x89PNG"


def test_lost_shard_alone_is_made_again_and_a_set_can_grow(tmp_path, small_shards):
    build.main(options(tmp_path, hours=8 / 3600))
    before = folder_bytes(tmp_path)
    kept, lost = (clips.shard_path(tmp_path, "train", number) for number in (0, 1))
    written = kept.stat().st_mtime_ns
    lost.unlink()
    (tmp_path / ".shards" / "00001").unlink()
    build.main(options(tmp_path, hours=12 / 3600))
    after = folder_bytes(tmp_path)
    assert {name: after[name] for name in before} == before and len(read(tmp_path)) == 6
    assert kept.stat().st_mtime_ns == written


def test_killed_in_the_middle_no_partial_shard_is_readable_and_a_rerun_completes(tmp_path):
    words = [sys.executable, "-m", "training.data.scorebook", *options(tmp_path / "killed", hours=1000 / 3600)]
    script = "from training.data.scorebook import build\nbuild.SHARD_CLIPS = 2\nbuild.main()"
    process = subprocess.Popen([sys.executable, "-c", script, *words[3:]], stderr=subprocess.DEVNULL)
    try:
        while len(clips.shards_of(tmp_path / "killed", "train")) < 2:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for path in (tmp_path / "killed" / "data").glob("*.parquet"):
        clips.labels(path)  # whole, or an exception
    done = len(clips.shards_of(tmp_path / "killed", "train"))
    assert 2 <= done < 250


def test_one_split_alone_is_the_same_as_in_the_whole_set(book, tmp_path):
    build.main(options(tmp_path, hours=48 / 3600, clip_s=8, seed=40, splits="validation"))
    alone, whole = clips.shards_of(tmp_path, "validation"), clips.shards_of(book, "validation")
    assert len(alone) == len(whole) == 1 and alone[0].read_bytes() == whole[0].read_bytes()
    assert not clips.shards_of(tmp_path, "train")


def test_datasets_opens_the_folder_without_decoding(book, tmp_path):
    loaded = datasets.load_dataset(str(book), cache_dir=str(tmp_path))
    rows = read(book)
    assert sum(len(part) for part in loaded.values()) == len(rows)
    row = loaded["train"][0]
    assert row["audio"]["bytes"][:4] == b"fLaC" and row["text"] == rows[row["seed"][1]]["text"]


def test_a_crop_is_a_part_of_the_clip(book):
    row = read_rows(book, "train")[0]
    whole, part = read_audio(row), read_audio(row, 1000, 500)
    assert part.shape == (1, 500) and (part == whole[:, 1000:1500]).all()


def test_rows_are_refused_with_a_key_that_is_no_column(tmp_path):
    with pytest.raises(ValueError, match="row has tempo; allowed: audio, "):
        clips.write_shard(tmp_path / "data" / "train-00000.parquet", [{"tempo": 3}])
    assert not list(tmp_path.rglob("*.parquet*"))


def test_other_arguments_do_not_mix(tmp_path):
    build.main(options(tmp_path, hours=2 / 3600))
    with pytest.raises(ValueError, match="other arguments"):
        build.main(options(tmp_path, hours=2 / 3600, seed=4))
    with pytest.raises(ValueError, match="holds a set of 1 clips, which cannot become one of 2"):
        build.main(options(tmp_path, hours=4 / 3600))


@pytest.fixture(scope="module")
def loops():
    """Twelve loops of different pieces as the command draws them: (row, audio (channels, samples))."""
    settings = build.check_arguments(build.parse_arguments(options("x", clip_s=6, channels=2)))[0]
    indices = [i for i in range(400) if build.draw_form(settings, i)[1]]
    made = [build.make_clip(settings, {}, index)[1] for index in indices if index == build.first_setting(index)][:12]
    assert 20 < len(indices) < 60  # a tenth
    return [(row, scorebook_audio(row)) for row in made]


def scorebook_audio(row):
    import io

    import soundfile

    return soundfile.read(io.BytesIO(row["audio"]["bytes"]), always_2d=True)[0].T


def test_loops_are_whole_bars_from_a_downbeat(loops):
    for row, audio in loops:
        bars = row["duration_s"] * row["bpm"] / 60 / row["beats_per_bar"]
        assert row["loop"] and row["starts_on_downbeat"] and abs(bars - round(bars)) < 1e-4
        assert audio.shape == (2, round(row["duration_s"] * 24000)) and 3 <= row["duration_s"] <= 6 * 1.3 + 1e-3


def test_the_end_of_a_loop_leads_into_its_beginning(loops):
    """Across the seam a loop moves as it does inside."""
    outside = []
    for _, audio in loops:
        outside += outside_at_the_seam(audio)
    assert np.mean(outside) <= 0.05


def test_a_loop_that_is_cut_elsewhere_has_a_seam(loops):
    """The measure above is not blind: without its last tenth of a second a loop is out of it."""
    changed = 0
    for _, audio in loops:
        mono = audio.mean(axis=0)[: -24000 // 10]
        twice, hop, size = np.tile(mono, 2), 240, 1024
        frames = np.lib.stride_tricks.sliding_window_view(twice, size)[::hop] * np.hanning(size)
        whole = np.lib.stride_tricks.sliding_window_view(np.tile(audio.mean(axis=0), 2), size)[::hop] * np.hanning(size)
        seam = (len(mono) - size // 2) // hop
        changed += not np.allclose(np.abs(np.fft.rfft(frames[seam])), np.abs(np.fft.rfft(whole[seam])), atol=1e-3)
    assert changed >= 10


@pytest.mark.parametrize(("bpm", "meter", "bars"), [(120, "4/4", 4), (60, "4/4", 2), (48, "4/4", 2), (200, "2/4", 16)])
def test_loop_lengths_are_powers_of_two_near_the_clip(bpm, meter, bars):
    piece = generated(bpm, meter)
    assert loop_s(piece, 10.0, 24000) == pytest.approx(bars * parse_time_signature(meter) * 60 / bpm, abs=1e-4)


def generated(bpm, meter):
    from training.data.scorebook.arrange import generated_piece

    piece = generated_piece(0, 2.0, np.random.default_rng(0))
    piece.bpm, piece.meter = float(bpm), meter
    return piece


def test_split_by_work():
    splits = [build.split_of(f"work/{k}") for k in range(3000)]
    assert 0.88 < splits.count("train") / 3000 < 0.92
    assert 0.03 < splits.count("validation") / 3000 < 0.055 and 0.045 < splits.count("test") / 3000 < 0.075


def test_stereo_and_other_rate(tmp_path):
    build.main(options(tmp_path, hours=2 / 3600, channels=2, sampling_rate=44100, soundfont=find_soundfonts()[1]))
    row = read(tmp_path)[0]
    audio = row["samples"]
    assert (
        row["sampling_rate"] == 44100
        and audio.shape == (2, round(row["duration_s"] * 44100))
        and np.abs(audio[0] - audio[1]).max() > 1e-3
    )
    assert row["soundfont"] == "MuseScore_General_Lite"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hours": 0}, "hours 0"), ({"hours": "nan"}, "hours nan"), ({"hours": -3}, "hours -3"),
        ({"sources": "essen"}, "sources 'essen'"),
        ({"soundfont": "/nowhere/x.sf2"}, "soundfont '/nowhere/x.sf2'"), ({"soundfont": __file__},
            "not a SoundFont"),
        ({"channels": 3}, "channels 3"), ({"clip_s": "nan"}, "clip_s nan"), ({"num_workers": 0},
            "num_workers 0"),
        ({"sampling_rate": 5}, "sampling_rate 5"), ({"seed": -1}, "seed -1"), ({"shard": "2/2"}, "shard '2/2'"),
        ({"splits": "test,train"}, "splits 'test,train'"),
        ({"drum_samples": "/nowhere"}, "drum_samples '/nowhere': a folder with drum_bass_hard.flac is needed"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(tmp_path, change, words):
    with pytest.raises(ValueError, match=words) as caught:
        build.main(options(tmp_path / "out", **change))
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_from_the_command_line_an_error_is_one_line(tmp_path):
    words = [sys.executable, "-m", "training.data.scorebook", *options(tmp_path / "out", hours=0)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.strip() == "error: hours 0.0: must be above 0 and at most 1000"


def test_damaged_soundfont_is_one_line(tmp_path):
    damaged = tmp_path / "damaged.sf2"
    damaged.write_bytes(b"RIFF\x10\0\0\0sfbkJUNK")
    with pytest.raises(ValueError, match=r"damaged\.sf2"):
        build.main(options(tmp_path / "out", soundfont=damaged))


# ---- notes ----------------------------------------------------------------------------------------------------------


def test_players_change_and_roles_are_left_out():
    settings = build.Settings(5, ("procedural",), 44100, 2, 10.0, ("x.sf2",), "none", "samples")
    few, sampled, works, absent = 0, 0, {}, set()
    for index in range(80):
        piece, _ = build.draw_piece(settings, build.first_setting(index), {})
        before = {t.role for t in piece.tracks}
        first_names = [t.name for t in piece.tracks]
        build.set_players(piece, settings, index)
        few += {t.role for t in piece.tracks} != before
        works.setdefault(piece.work, []).append((index, build.draw_form(settings, index)[1]))
        if index != build.first_setting(index) and {t.role for t in piece.tracks} == before:
            pitched = [(a, t.name) for a, t in zip(first_names, piece.tracks, strict=True) if t.name in INSTRUMENTS]
            assert all(a != b for a, b in pitched)
        for track in piece.tracks:
            assert not track.kit or (track.role == "drums" and track.kit in SAMPLE_KITS)
            sampled += bool(track.kit)
            low, high = track.notes[:, 2].min(initial=127), track.notes[:, 2].max(initial=0)
            if track.name in INSTRUMENTS and index != build.first_setting(index):
                assert low >= INSTRUMENTS[track.name].low - 12 and high <= INSTRUMENTS[track.name].high + 12
        row = row_of(piece, piece.tracks, np.full((2, 10), 0.1), 44100, 10.0, (5, index), False, "x")
        names = {t.name for t in piece.tracks}
        if names == {"drums"}:
            assert row["key"] is None and not any(row["chord_symbols"])
        stated = row["stated"] + row["stated_heldout"]
        for text, said in zip(row["text"] + row["text_heldout"], stated, strict=True):
            if any(words in text for words in (*NO_BASS, *NO_BASS_HELDOUT)):
                assert not {t.role for t in piece.tracks} & {"bass", "voice"}
                absent.add("bass")
            if any(words in text for words in (*NO_CHORDS, *NO_CHORDS_HELDOUT)):
                assert not {t.role for t in piece.tracks} & {"chords", "arpeggio", "pad", "voice"}
                absent.add("chords")
            if any(f" {words}" in f" {text}" for words in (*NO_MELODY, *NO_MELODY_HELDOUT)):  # not "piano melody"
                assert not {t.role for t in piece.tracks} & {"melody", "voice", "arpeggio"}
                absent.add("melody")
            if any(words in text for words in (*NO_DRUMS, *NO_DRUMS_HELDOUT)):
                assert not names & {"drums", "percussion"}
            alone = any(words in text for words in (*DRUMS_ALONE, *DRUMS_ALONE_HELDOUT))
            if alone and not said["instruments"]:  # "piano and drums only" names what else plays
                assert names <= {"drums", "percussion"}
    assert few >= 0.15 * 80 and sampled >= 5 and absent == {"bass", "chords", "melody"}
    assert sorted(len(clips_of) for clips_of in works.values()) == [2] * 16 + [3] * 16
    for clips_of in works.values():
        numbers, loops = zip(*clips_of, strict=True)
        assert list(numbers) == list(range(numbers[0], numbers[0] + len(numbers))) and len(set(loops)) == 1


def test_the_third_setting_has_unusual_players_in_reach():
    rng = np.random.default_rng(0)
    usual = {i.name for i in other_players("bass", 0, rng)}
    third = {i.name for i in other_players("bass", 2, rng)}
    assert {"piano", "cello", "tuba", "trombone"} <= third and not third & {"flute", "whistle", "timpani"}
    assert usual & third and third - usual
    assert {"string ensemble", "tuba", "church organ", "glockenspiel"} <= {
        i.name for i in other_players("melody", 2, rng)
    }


def test_notes_are_where_the_audio_has_them(book):
    differences = []
    for row in read(book).values():
        rows, rate = note_rows(row), row["sampling_rate"]
        assert rows[:, 1].tolist() == sorted(rows[:, 1]) and ((rows[:, 4] > 0) & (rows[:, 4] <= 1)).all()
        assert ((rows[:, 1] < row["duration_s"]) & (rows[:, 1] + rows[:, 2] > 0)).all()
        assert set(rows[:, 0]) == set(range(len(row["parts"])))
        assert {p["role"] for p in row["parts"]} <= {"lead", "harmony", "bass", "drums"}
        assert {p["instrument"] for p in row["parts"]} - {"drums"} == set(row["instruments"])
        onsets = rows[rows[:, 1] >= 0, 1]
        real = lag_s(row["samples"][0], onsets, rate)
        differences.append(real - lag_s(plucked(rows, row["duration_s"], rate), onsets, rate))
    assert abs(np.median(differences)) <= 0.005


def test_labelled_pitches_are_in_the_spectrum(book):
    found, others = [], []
    for row in read(book).values():
        rate = row["sampling_rate"]
        lead = [k for k, part in enumerate(row["parts"]) if part["role"] == "lead"]
        for part, onset, length, pitch, _ in note_rows(row):
            if part not in lead or length < 0.25 or onset < 0 or onset + 0.25 > row["duration_s"]:
                continue
            piece = row["samples"][0][round(onset * rate) :][: rate // 4] * np.hanning(rate // 4)
            power = np.square(np.abs(np.fft.rfft(piece, 4 * rate)))

            def near(at, power=power):
                f = 440 * 2 ** ((at - 69) / 12)
                return power[round(4 * f * 0.985) : round(4 * f * 1.015)].max()

            found.append(max(near(pitch), near(pitch + 12)))
            others.append(max(near(pitch + 1), near(pitch + 13)))
    assert len(found) >= 10 and np.mean(np.array(found) > np.array(others)) > 0.9
