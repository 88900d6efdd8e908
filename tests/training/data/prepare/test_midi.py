"""MIDI beside audio: read at the times of its tempo changes, aligned with rendered recordings, cut into the clips."""

import dataclasses
import json
import shutil

import mido
import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from pipelines.hub import save_checkpoint
from pipelines.vivace_score import Score, Track
from tests.conftest import make_pipeline
from training import finetune
from training.data.clips import read_audio, read_rows
from training.data.latents import LatentCrops
from training.data.notes import has_notes, note_rows
from training.data.prepare import __main__ as prepare
from training.data.prepare import listing, midi
from training.data.scorebook import build
from training.data.sources.fetch import find_soundfont

RATE, SECONDS = 24000, 24.0


def score_at(row: dict, speed: float) -> Score:
    """The notes of a row as a score whose seconds are those of the row divided by `speed`."""
    part, onset, length, pitch, velocity = note_rows(row).T.astype(np.float64)
    rows = np.column_stack([2.0 * onset / speed, 2.0 * length / speed, pitch, velocity])[onset >= 0.0]
    tracks = [
        Track(one["role"], rows[part[onset >= 0.0] == number], one["instrument"])
        for number, one in enumerate(row["parts"])
    ]
    return Score(tuple(tracks), bpm=120.0)  # a quarter is half a second


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Three rendered pieces of 24 s with drums and pitched parts, the first two with little room: row and audio
    (samples,)."""
    folder = tmp_path_factory.mktemp("book")
    build.main([
        "--hours", str(10 * SECONDS / 3600), "--seed", "3", "--clip_s", str(SECONDS), "--num_workers", "1",
        "--sampling_rate", str(RATE), "--channels", "1", "--soundfont", str(find_soundfont()), "--sources",
        "procedural", "--output_dir", str(folder),
    ])  # fmt: skip
    rows = [row for split in ("train", "validation", "test") if list(folder.glob(f"data/{split}-*")) for row in
            read_rows(folder, split)]  # fmt: skip
    found = [row for row in rows if not row["loop"] and {"drums"} < {part["role"] for part in row["parts"]}]
    works: dict[str, dict] = {}  # clips of one work may have the same notes
    for row in sorted(found, key=lambda row: row["room"] not in ("dry", "room")):
        works.setdefault(row["work"], row)
    chosen = list(works.values())[:3]
    assert len(chosen) == 3 and {row["room"] for row in chosen[:2]} <= {"dry", "room"}
    return [(row, read_audio(row)[0].numpy()) for row in chosen]


def heard(row: dict, truth: dict, begin_s: float) -> tuple[int, int, int]:
    """Notes of a clip that begins `begin_s` into the song with an onset in it; of the song there; those of the same
    role and pitch within 40 ms."""

    def listed(one: dict, moved_s: float) -> list[tuple[str, int, float]]:
        return [
            (one["parts"][int(part)]["role"], int(pitch), onset + moved_s)
            for part, onset, _, pitch, _ in note_rows(one).astype(np.float64)
            if 0.1 <= onset + moved_s < row["duration_s"] - 0.1
        ]

    found, wanted = listed(row, 0.0), listed(truth, -begin_s)
    left, hits = list(wanted), 0
    for role, pitch, onset in found:
        match = next((w for w in left if w[:2] == (role, pitch) and abs(w[2] - onset) < 0.04), None)
        if match is not None:
            left.remove(match)
            hits += 1
    return len(found), len(wanted), hits


def test_times_follow_the_tempo_changes_of_the_file(tmp_path):
    file = mido.MidiFile(ticks_per_beat=480)
    file.tracks.append(mido.MidiTrack([
        mido.MetaMessage("set_tempo", tempo=1_000_000, time=0), mido.MetaMessage("set_tempo", tempo=250_000, time=960),
    ]))  # fmt: skip
    notes = [
        message
        for pitch in (60, 62, 64)
        for message in (
            mido.Message("note_on", note=pitch, velocity=127, time=480 if pitch > 60 else 0),
            mido.Message("note_off", note=pitch, time=480),
        )
    ]
    file.tracks.append(mido.MidiTrack(notes))
    file.save(tmp_path / "a.mid")
    read = midi.read_notes(tmp_path / "a.mid")
    assert read.rows[:, 3].tolist() == [60, 62, 64]
    # Quarters 0, 2 and 4: of a second each at first, of a quarter of a second from the third on.
    assert read.rows[:, 1].tolist() == [0.0, 2.0, 2.5] and read.rows[:, 2].tolist() == [1.0, 2.25, 2.75]
    assert read.parts == [{"role": "lead", "instrument": "piano", "program": 0}]


def test_offset_and_tempo_are_found_and_a_wrong_file_is_refused(songs, tmp_path):
    (row, audio), (other, other_audio), _ = songs
    late = np.concatenate([np.zeros(round(1.37 * RATE), np.float32), audio])
    for speed in (1.0, 1.002, 0.8):
        score_at(row, speed).save(tmp_path / "a.mid")
        found = midi.align(late, RATE, midi.read_notes(tmp_path / "a.mid"))
        assert found.good and found.transposed == 0
        for file_s in (0.0, SECONDS / speed):
            assert found.time(np.array(file_s)) == pytest.approx(speed * file_s + 1.37, abs=0.04)
    early = midi.align(audio[5 * RATE :], RATE, midi.read_notes(tmp_path / "a.mid"))
    assert early.good and early.offset_s == pytest.approx(-5.0, abs=0.04)
    score_at(other, 1.0).save(tmp_path / "b.mid")
    score_at(other, 1.0).transpose(-1).save(tmp_path / "c.mid")
    notes, alignment, how = midi.notes_beside(tmp_path / "b.mid", late[None], RATE)
    assert notes is None and alignment is None and "does not fit the sound" in how
    notes, _, how = midi.notes_beside(tmp_path / "c.mid", other_audio[None], RATE)
    assert notes is None and "it would fit transposed by +1 semitones" in how
    (tmp_path / "d.mid").write_bytes(b"no MIDI at all")
    notes, _, how = midi.notes_beside(tmp_path / "d.mid", late[None], RATE)
    assert notes is None and how.startswith("notes unknown: ") and "no MIDI file" in how and str(tmp_path) not in how


def test_clips_outside_the_file_or_unconfirmed_are_unknown(songs, tmp_path):
    row, audio = songs[0]
    score_at(row, 1.0).save(tmp_path / "a.mid")
    notes = midi.read_notes(tmp_path / "a.mid")
    found = midi.align(audio, RATE, notes)
    first, last = notes.rows[:, 1].min(), notes.rows[:, 2].max()
    assert midi.clip_notes(notes, found, first, first + 8.0)["notes"]["pitch"]
    assert midi.clip_notes(notes, found, first - 2.0, first + 6.0) == {}
    assert midi.clip_notes(notes, found, last - 6.0, last + 2.0) == {}
    doubted = dataclasses.replace(found, windows=np.column_stack([found.windows[:, 0], np.zeros(len(found.windows))]))
    assert midi.clip_notes(notes, doubted, first, first + 8.0) == {}
    # A note that rings in begins before the clip; parts without a note in the clip are left out.
    middle = notes.rows[len(notes.rows) // 2]
    cut = midi.clip_notes(notes, found, *found.time(np.array([middle[1] + 0.01, middle[1] + 4.0])))
    near = np.abs(np.array(cut["notes"]["onset_s"]) + 0.01 * found.factor) < 1e-5
    assert middle[3] in np.array(cut["notes"]["pitch"])[near] and cut["notes"]["onset_s"] == sorted(
        cut["notes"]["onset_s"]
    )
    assert set(cut["notes"]["part"]) == set(range(len(cut["parts"])))


def test_a_folder_with_midi_becomes_an_adapter_trained_on_its_notes(songs, tmp_path):
    """From recordings, of which the first is late, the second faster than its file, the third beside another's file
    and a fourth beside none, to rows, latents and a run."""
    music = tmp_path / "music"
    music.mkdir()
    for number, ((_, audio), late_s, speed) in enumerate(zip(songs, (0.7, 0.0, 0.0), (1.0, 0.9, 1.0), strict=True)):
        hiss = 0.005 * np.random.default_rng(0).normal(size=round(late_s * RATE))  # no silence, which would be trimmed
        sound = np.concatenate([hiss.astype(np.float32), audio])
        soundfile.write(music / f"{number}.wav", sound, RATE)
        score_at(songs[1 if number == 2 else number][0], speed).save(music / f"{number}.mid")
    soundfile.write(music / "3.wav", songs[2][1][::-1], RATE)
    shutil.copyfile(music / "0.mid", music / "lonely.mid")
    base = tmp_path / "base"
    save_checkpoint(make_pipeline(instruments=("piano", "drums")), base, fp16=False)
    finetune.main([
        "--music", str(music), "--output_dir", str(tmp_path / "mine"), "--checkpoint", str(base), "--max_steps", "10",
        "--batch_size", "2", "--crop_frames", "32", "--lora_rank", "2", "--learning_rate", "1e-2", "--no_labels",
        "--pieces", "0",
    ])  # fmt: skip
    data = tmp_path / "mine.work" / "data"
    fates = {one["name"]: one for one in json.loads((data / "report.json").read_text())["files"]}
    assert fates["lonely.mid"]["reason"] == "MIDI file without audio"
    assert "+0.7" in fates["0.wav"]["notes"][-1] and "lengths times 0.9" in fates["1.wav"]["notes"][-1]
    assert "does not fit the sound" in fates["2.wav"]["notes"][-1] and "MIDI" not in "".join(fates["3.wav"]["notes"])
    assert fates["2.wav"]["labelled"]["notes"] == 0 < fates["0.wav"]["labelled"]["notes"]
    counts = np.zeros(3, dtype=int)
    for split in ("train", "validation"):
        rows = read_rows(data, split)
        crops = LatentCrops(str(tmp_path / "mine.work" / "latents"), split, 32)
        for index, row in enumerate(rows):
            number = int(row["work"][0])
            assert (crops.note_values(index) is not None) == has_notes(row)
            if number > 1:
                assert not has_notes(row)
            elif has_notes(row):
                begin_s = float(row["file_name"].removesuffix(".flac").rpartition("-")[2]) - (0.7 if number == 0 else 0)
                counts += heard(row, songs[number][0], begin_s)
                assert np.array_equal(crops.note_values(index), note_rows(row))
    found, wanted, hits = counts
    assert hits > 100 and hits / found > 0.95 and hits / wanted > 0.95


def test_rows_of_tables_and_data_sets_name_or_hold_their_midi(songs, tmp_path):
    """A column of MIDI files, in a table and in data sets that hold their bytes or name files within their folder; a
    file that is outside or missing is named in the report, and no row of a data set from elsewhere opens a file."""
    row, audio = songs[0]
    music = tmp_path / "music"
    (music / "notes").mkdir(parents=True)
    soundfile.write(music / "a.wav", audio, RATE)
    score_at(row, 1.0).save(music / "notes" / "other name.mid")
    score_at(row, 1.0).save(tmp_path / "outside.mid")
    named = "notes/other name.mid"
    lines = [{"file": "a.wav", "caption": "x", "MIDI": named}, {"file": "b.wav", "caption": "x", "MIDI": "gone.mid"}]
    shutil.copyfile(music / "a.wav", music / "b.wav")
    shutil.copyfile(music / "a.wav", music / "c.wav")
    lines.append({"file": "c.wav", "caption": "x", "MIDI": "../outside.mid"})
    (music / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    one, gone, outside = listing.list_table(music / "t.jsonl", None, None, False).items
    assert one.midi == str(music / named)
    assert gone.midi is None and "'gone.mid': no such file" in gone.notes[-1]
    assert outside.midi is None and "outside the table's folder" in outside.notes[-1]

    content = (music / named).read_bytes()
    sound = {"bytes": (music / "a.wav").read_bytes(), "path": None}
    rows = {"audio": [sound] * 3, "text": ["x"] * 3, "midi": [{"bytes": content, "path": None}, None, None]}
    rows["midi"][1] = {"bytes": None, "path": named}
    Dataset.from_dict(rows).cast_column("audio", Audio(decode=False)).save_to_disk(music / "disk")
    held, missing, none = listing.list_dataset(str(music / "disk"), None, None).items
    assert held.midi == content and held.labels == one.labels
    assert missing.midi is None and "MIDI bytes" in missing.notes[-1] and none.midi is None and not none.notes
    (music / "disk" / "notes").mkdir()
    shutil.copyfile(music / named, music / "disk" / named)
    _, found, _ = listing.list_dataset(str(music / "disk"), None, None).items
    assert found.midi == str(music / "disk" / named)

    prepare.main([str(music / "disk"), "--output_dir", str(tmp_path / "data"), "--no-labels"])
    report = json.loads((tmp_path / "data" / "report.json").read_text())["files"]
    assert report[0]["labelled"]["notes"] > 0 and "notes of its MIDI file" in report[0]["notes"][-1]
