"""Scores: exact through MIDI files, told apart from what is no score, and laid out in frames as they sound."""

import base64
import io
import math
import zlib

import mido
import numpy as np
import pytest
import symusic
import torch

from pipelines.vivace_process import (  # fmt: skip
    DRUM_CLASSES,
    HIGHEST,
    LOWEST,
    PITCH_COUNT,
    ROLL_CHANNELS,
    STATE_CHANNELS,
    note_roll,
)
from pipelines.vivace_score import MAX_NOTES, ROLES, TICKS, Score, Track, quarters_per_bar, tidy_notes  # fmt: skip
from pipelines.vivace_theory import PROGRAM_NAMES, PROGRAMS  # fmt: skip

METERS = ("4/4", "3/4", "6/8", "7/8", "2/2", "5/4", "12/8")


def draw_score(seed: int) -> Score:
    """A random score of one to six parts."""
    rng = np.random.default_rng(seed)
    meter, bars = METERS[seed % len(METERS)], int(rng.integers(1, 9))
    end = float(bars * quarters_per_bar(meter))
    tracks = []
    for role in rng.permutation([*ROLES, "harmony", "lead"])[: rng.integers(1, 7)]:
        count = int(rng.integers(1, 60))
        notes = np.column_stack([
            rng.uniform(0, end - 0.01, count), rng.exponential(0.5, count), rng.integers(0, 128, count),
            rng.uniform(0.01, 1, count),
        ])  # fmt: skip
        instrument = None if rng.random() < 0.3 or role == "drums" else str(rng.choice(list(PROGRAMS)))
        tracks.append(Track(str(role), notes, instrument))
    key = None if rng.random() < 0.3 else str(rng.choice(["A minor", "Bb major", "F# minor", "Eb minor", "Db major"]))
    chords = None if rng.random() < 0.3 else "Am F:2 C/G N"
    return Score(tuple(tracks), float(rng.uniform(21, 299)), meter, bars, key, chords)


def midi_file(tracks, division=480, kind=1, tempo=500000) -> mido.MidiFile:
    """A MIDI file of (channel, program, [(onset, length, pitch, velocity) in quarters]) for each track."""
    file = mido.MidiFile(type=kind, ticks_per_beat=division)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)] if tempo else []))
    for channel, program, notes in tracks:
        events = [(0, mido.Message("program_change", channel=channel, program=program))]
        for onset, length, pitch, velocity in notes:
            on = mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)
            events += [(round(onset * division), on)]
            events += [(round((onset + length) * division), on.copy(velocity=0))]
        track, now = mido.MidiTrack(), 0
        for time, message in sorted(events, key=lambda event: (event[0], getattr(event[1], "velocity", 0) > 0)):
            track.append(message.copy(time=time - now))
            now = time
        file.tracks.append(track)
    return file


def scale(start=60, count=8, step=0.5):
    return [(k * step, step, start + k, 80) for k in range(count)]


def lead(*arguments, **options) -> Track:
    return Track("lead", [(onset, length, pitch, 0.8) for onset, length, pitch, _ in scale(*arguments, **options)])


@pytest.mark.parametrize("text", [b'{"tracks": [], "bars": 1' + b" " * 2**25 + b"}", b"[" * 2**20])
def test_a_hostile_text_is_no_score(text):
    """What unpacks to far more than any score, and what is nested too deep."""
    with pytest.raises(ValueError, match="cannot be read from text"):
        Score.from_text(base64.b85encode(zlib.compress(text)).decode())


@pytest.mark.parametrize("seed", range(14))
def test_a_score_is_the_same_after_it_was_saved(tmp_path, seed):
    score = draw_score(seed)
    score.save(tmp_path / "tune.mid")
    assert Score.load(tmp_path / "tune.mid") == score
    assert Score.from_text(score.to_text()) == score
    assert list(tmp_path.iterdir()) == [tmp_path / "tune.mid"]


@pytest.mark.parametrize("seed", range(7))
def test_another_library_reads_the_same_notes(tmp_path, seed):
    score = draw_score(seed)
    score.save(tmp_path / "tune.mid")
    other = symusic.Score(tmp_path / "tune.mid")
    assert other.ticks_per_quarter == TICKS
    rows = sorted((n.time, n.duration, n.pitch, n.velocity) for track in other.tracks for n in track.notes)
    ours = np.round(score.notes() * (TICKS, TICKS, 1, 127)).astype(int)
    assert rows == sorted(map(tuple, ours.tolist()))
    assert math.isclose(other.tempos[0].qpm, 60.0 / score.quarter_s, rel_tol=1e-4)
    meter = other.time_signatures[0]
    assert f"{meter.numerator}/{meter.denominator}" == score.time_signature
    pitched = {(track.program, track.is_drum) for track in other.tracks}
    assert pitched == {(track.program, track.role == "drums") for track in score.tracks}


def test_files_of_another_library_are_read(tmp_path):
    other = symusic.Score(480)
    other.tempos.append(symusic.Tempo(0, qpm=96))
    other.time_signatures.append(symusic.TimeSignature(0, 3, 4))
    for program, is_drum, pitch in ((73, False, 76), (0, False, 60), (33, False, 40), (0, True, 38)):
        track = symusic.Track(name="", program=program, is_drum=is_drum)
        chord = (0, 4, 7) if program == 0 and not is_drum else (0,)
        for k in range(12):
            for step in chord:
                track.notes.append(symusic.Note(480 * k, 240, pitch + step, 90))
        other.tracks.append(track)
    other.dump_midi(tmp_path / "other.mid")
    score = Score.load(tmp_path / "other.mid")
    assert (score.bpm, score.time_signature, score.bars, score.remarks) == (96.0, "3/4", 4, ())
    assert {t.role: t.instrument for t in score.tracks} == {
        "lead": "flute", "harmony": "piano", "bass": "electric bass", "drums": None
    }  # fmt: skip
    assert len(score.notes("harmony")) == 36 and score.instruments == ("flute", "piano", "electric bass", "drums")


def test_types_divisions_and_running_status_give_the_same_score(tmp_path):
    tracks = [(0, 73, scale()), (1, 33, scale(36)), (9, 0, [(k, 0.25, 36, 100) for k in range(4)])]
    reference = None
    for name, division, kind in (("a", 480, 1), ("b", 96, 1), ("c", 10080, 1), ("d", 24, 1)):
        midi_file(tracks, division, kind).save(tmp_path / f"{name}.mid")
        score = Score.load(tmp_path / f"{name}.mid")
        reference = reference or score
        assert score == reference
    # Type 0: all channels in one track. By hand, with running status (one status byte for several notes).
    body = bytes([0, 0xC0, 73, 0, 0xC1, 33, 0, 0xC9, 0])
    events = sorted(
        (round(t * 48), on, channel, pitch, velocity if on else 0)
        for channel, _, notes in tracks
        for onset, length, pitch, velocity in notes
        for t, on in ((onset, 1), (onset + length, 0))
    )
    now, last = 0, None
    for time, _, channel, pitch, velocity in events:
        status = bytes([0x90 | channel]) if channel != last else b""
        body += bytes([time - now]) + status + bytes([pitch, velocity])
        now, last = time, channel
    body += bytes([0, 0xFF, 0x2F, 0])
    data = b"MThd" + (6).to_bytes(4, "big") + b"\0\0" + b"\0\1" + (48).to_bytes(2, "big")
    data += b"MTrk" + len(body).to_bytes(4, "big") + body
    (tmp_path / "zero.mid").write_bytes(data)
    assert Score.load(tmp_path / "zero.mid") == reference


def test_pedal_program_changes_and_hanging_notes(tmp_path):
    message = mido.Message
    track = mido.MidiTrack([
        message("program_change", program=0), message("control_change", control=64, value=127),
        message("note_on", note=60, velocity=80), message("note_off", note=60, time=240),
        message("note_on", note=64, velocity=80, time=240), message("note_off", note=64, time=240),
        message("control_change", control=64, value=0, time=1200), message("program_change", program=73),
        message("note_on", note=72, velocity=80), message("note_on", note=72, velocity=0, time=480),
        message("note_on", note=74, velocity=80), mido.MetaMessage("end_of_track", time=480),
    ])  # fmt: skip
    file = mido.MidiFile(ticks_per_beat=480, type=0)
    file.tracks.append(track)
    file.save(tmp_path / "pedal.mid")
    score = Score.load(tmp_path / "pedal.mid")
    assert score.remarks == ("1 notes have no end; they end with their track",)
    notes = {int(pitch): (onset, length) for onset, length, pitch, _ in score.notes()}
    assert notes == {60: (0, 4), 64: (1, 3), 72: (4, 1), 74: (5, 1)}
    assert {track.instrument for track in score.tracks} == {"piano", "flute"}


def test_changing_tempo_and_meter_are_reported(tmp_path):
    file = midi_file([(0, 0, scale(count=32))], tempo=None)
    conductor = [(0, "set_tempo", {"tempo": 500000}), (0, "time_signature", {"numerator": 3, "denominator": 4})]
    conductor += [(12 * 480, "set_tempo", {"tempo": 400000}), (3 * 480, "time_signature", {"numerator": 4})]
    now = 0
    for time, kind, values in sorted(conductor, key=lambda row: row[0]):
        file.tracks[0].append(mido.MetaMessage(kind, time=time - now, **values))
        now = time
    file.save(tmp_path / "changes.mid")
    score = Score.load(tmp_path / "changes.mid")
    assert (score.bpm, score.time_signature) == (120.0, "4/4")
    assert [remark.split(" at ")[0] for remark in score.remarks] == [
        "the meter changes to 4/4", "the tempo changes to 150"
    ]  # fmt: skip
    assert Score.load(tmp_path / "changes.mid", bpm=90).remarks == score.remarks[:1]


def test_roles_can_be_stated(tmp_path):
    midi_file([(0, 0, scale(72)), (1, 0, scale(60))]).save(tmp_path / "two.mid")
    assert [track.role for track in Score.load(tmp_path / "two.mid").tracks] == ["lead", "harmony"]
    score = Score.load(tmp_path / "two.mid", roles={0: "harmony", 1: "bass"})
    assert [track.role for track in score.tracks] == ["harmony", "bass"]
    with pytest.raises(ValueError, match=r"role is 'kazoo'; allowed: lead, harmony, bass, drums"):
        Score.load(tmp_path / "two.mid", roles={0: "kazoo"})


def test_notes_are_put_in_order():
    rows = [(1, 4, 60, 0.5), (0, 2, 60, 0.5), (1, 1, 60, 0.9), (2, 0, 64, 0.0001)]
    assert tidy_notes(rows).tolist() == [
        [0, 1, 60, round(0.5 * 127) / 127], [1, 1, 60, round(0.9 * 127) / 127], [2, 1 / TICKS, 64, 1 / 127]
    ]  # fmt: skip
    for row, word in (((-1, 1, 60, 1), "onset"), ((0, -1, 60, 1), "duration"), ((0, 1, 128, 1), "pitch"),
                      ((0, 1, -1, 1), "pitch"), ((0, 1, 60.5, 1), "pitch"), ((0, 1, 60, 2), "velocity"),
                      ((0, np.nan, 60, 1), "finite")):  # fmt: skip
        with pytest.raises(ValueError, match=word):
            tidy_notes([row])


def test_bars_and_lengths():
    score = Score((lead(count=9),), bpm=96)
    assert (score.bars, score.quarters, score.duration_s) == (2, 8, 5.0)
    assert Score((lead(),), bpm=60, time_signature="6/8").duration_s == pytest.approx(4.0)
    assert Score((lead(),), bpm=120, time_signature="7/8", bars=2).duration_s == pytest.approx(7.0)
    with pytest.raises(ValueError, match="its last note begins in bar 2"):
        Score((lead(count=9),), bars=1)
    with pytest.raises(ValueError, match="at most 50000"):
        Score(
            (
                Track(
                    "lead",
                    np.tile([0.0, 0.1, 60, 1], (MAX_NOTES + 1, 1)) + np.arange(MAX_NOTES + 1)[:, None] * [0.2, 0, 0, 0],
                ),
            )
        )


def test_slices_put_together_are_the_whole():
    score = draw_score(7)
    bar = float(quarters_per_bar(score.time_signature))
    parts = [score.slice_bars(k, k + 1) for k in range(score.bars)]
    joined = np.concatenate([part.notes() + np.array([k * bar, 0, 0, 0]) for k, part in enumerate(parts)])
    assert np.allclose(np.sort(joined[:, 0]), np.sort(score.notes()[:, 0]))
    assert all(part.bars == 1 and part.bpm == score.bpm for part in parts)
    with pytest.raises(ValueError, match="first < last"):
        score.slice_bars(2, 2)


def test_a_slice_has_the_chords_of_its_bars():
    score = Score((), bars=8, chords="Am F:2 G:2 C")
    for first, last, chords in ((0, 2, "Am F:2 G:2 C"), (1, 3, "F:2 G:2 C"), (2, 5, "C Am F:2 G:2"), (3, 4, "Am")):
        assert score.slice_bars(first, last).chords == chords
    assert Score((), time_signature="3/4", bars=4, chords="Dm7:6 G7").slice_bars(1, 3).chords == "Dm7 G7"


def test_transposed_there_and_back():
    score = draw_score(3)
    assert score.transpose(5).transpose(-5) == score or score.notes()[:, 2].max() > 122
    up = Score((lead(), Track("drums", [(0, 1, 36, 1)])), key="A minor", chords="Am F:2 C/G N.C. Bbmaj7")
    assert up.transpose(2).chords == "Bm G:2 D/A N.C. Cmaj7" and up.transpose(2).key == "B minor"
    assert (up.transpose(2).notes("lead")[:, 2] == up.notes("lead")[:, 2] + 2).all()
    assert up.transpose(2).notes("drums").tolist() == up.notes("drums").tolist()
    high = Score((Track("lead", [(0, 1, 120, 1)]),)).transpose(10)
    assert high.notes()[0, 2] == 118


def test_changed_bars():
    score = Score((lead(count=32), Track("bass", [(4 * k, 4, 40, 1) for k in range(4)])))
    notes = score.tracks[0].notes.copy()
    notes[9, 2] += 1  # bar 1
    edited = Score((Track("lead", notes), score.tracks[1]))
    assert score.changed_bars(edited) == [1] == edited.changed_bars(score)
    assert score.changed_bars(score) == []
    longer = np.array([(4 * k, 6 if k == 1 else 4, 40, 1) for k in range(4)])
    longer = np.concatenate([longer[:2], longer[3:]])  # the note of bar 2 is gone, that of bar 1 rings into it
    assert score.changed_bars(Score((score.tracks[0], Track("bass", longer)))) == [1, 2]


def test_instruments_have_programs():
    assert len(PROGRAM_NAMES) == 128
    for name, program in PROGRAMS.items():
        assert PROGRAM_NAMES[program] == name or name in ("ukulele", "mandolin", "sine lead")


BROKEN = {
    "empty": b"", "text": b"hello, this is no MIDI file", "header only": b"MThd\0\0\0\6\0\1\0\1\1\xe0",
    "riff": b"RIFF\0\0\0\0WAVE", "short": b"MThd\0\0",
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path, name):
    path = tmp_path / "broken.mid"
    path.write_bytes(BROKEN[name])
    with pytest.raises(ValueError, match=r"^score '.*broken\.mid': ") as caught:
        Score.load(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_score(tmp_path):
    midi_file([(0, 0, [])]).save(tmp_path / "silent.mid")
    two = midi_file([(0, 0, scale())])
    two.type = 2
    two.save(tmp_path / "two.mid")
    midi_file([(0, 0, [(k / 8, 1 / 16, 60, 90) for k in range(MAX_NOTES + 1)])]).save(tmp_path / "many.mid")
    for name, words in (
        ("silent", "has no notes"),
        ("two", "type 2"),
        ("many", "50001 notes"),
        ("none", "no such file"),
    ):
        with pytest.raises(ValueError, match=words):
            Score.load(tmp_path / f"{name}.mid")


def test_damaged_bytes_give_a_score_or_one_line(tmp_path):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    midi_file([(0, 73, scale()), (1, 33, scale(36)), (9, 0, scale(36))]).save(file=buffer)
    whole = buffer.getvalue()
    read = 0
    for number in range(200):
        data = bytearray(whole)
        if number % 2:
            data = data[: rng.integers(0, len(data))]
        for _ in range(rng.integers(1, 6)):
            if data:
                data[rng.integers(0, len(data))] = rng.integers(0, 256)
        path = tmp_path / "damaged.mid"
        path.write_bytes(bytes(data))
        try:
            score = Score.load(path)
        except ValueError as error:
            assert str(error).startswith(f"score {str(path)!r}: ") and "\n" not in str(error)
        else:
            read += 1
            assert np.isfinite(score.notes()).all() and len(score.notes())
    assert 10 < read < 190


# Note rolls.


def test_a_roll_holds_each_note():
    score = Score((Track("lead", [(0, 1, 60, 1.0), (1.5, 0.5, 64, 0.5)]), Track("drums", [(1, 0.1, 38, 1.0)])), bpm=60)
    roll = note_roll(score, 100, 25.0)
    assert roll.shape == (ROLL_CHANNELS, 100) and roll.dtype == torch.float32
    sustain, onset = roll[60 - LOWEST], roll[PITCH_COUNT + 60 - LOWEST]
    assert torch.equal(sustain, torch.tensor([1.0] * 25 + [0.0] * 75))
    assert onset[0] == 0.5 and onset[1:].sum() == 0  # half of an onset at the very start lies before the first frame
    later = roll[PITCH_COUNT + 64 - LOWEST]  # at 1.5 s = frame position 37.5: the middle of frame 37
    assert later[37] == pytest.approx(64 / 127) and later.sum() == later[37]
    assert roll[64 - LOWEST, 37] == pytest.approx(32 / 127) and roll[64 - LOWEST, 38] == pytest.approx(64 / 127)
    drums = roll[2 * PITCH_COUNT * 3 :][: len(DRUM_CLASSES)]
    assert drums.sum() == 1.0 and drums[list(DRUM_CLASSES).index("snare"), 24:26].tolist() == [0.5, 0.5]
    states = roll[-STATE_CHANNELS:, 0].tolist()
    assert states == [1, 0, 0, 1, 0, 1, 1, 0]  # lead and drums given, harmony and bass silent


def test_times_finer_than_a_frame_survive():
    for time in np.linspace(0.1, 1.9, 23):
        score = Score((Track("lead", [(time, 0.5, 70, 1.0)]),), bpm=60)
        onset = note_roll(score, 75, 25.0)[PITCH_COUNT + 70 - LOWEST].double()
        centres = (torch.arange(75, dtype=torch.float64) + 0.5) / 25.0
        assert abs(float((onset * centres).sum() / onset.sum()) - score.notes()[0, 0]) < 1e-6


def test_free_roles_say_nothing_and_pieces_of_a_roll_are_those_of_the_whole():
    score = draw_score(13)
    roll = note_roll(score, 200, 25.0, free=("bass",))
    rows = slice(2 * 2 * PITCH_COUNT, 3 * 2 * PITCH_COUNT)
    assert not roll[rows].any() and roll[-STATE_CHANNELS + 4 : -STATE_CHANNELS + 6].sum() == 0
    assert torch.equal(note_roll(None, 10, 25.0), torch.zeros(ROLL_CHANNELS, 10))
    whole = note_roll(score, 200, 25.0)
    assert torch.allclose(note_roll(score, 60, 25.0, start_s=-100 / 25.0), whole[:, 100:160], atol=1e-5)
    assert torch.equal(
        note_roll(score, 200, 25.0, stretch=2.0)[:, :50] > 0,
        note_roll(Score(score.tracks, score.bpm * 2, score.time_signature, score.bars), 200, 25.0)[:, :50] > 0,
    )


def test_a_circle_rings_on():
    score = Score((Track("lead", [(0, 1, 60, 1.0), (3.5, 1, 72, 1.0)]),), bpm=60, bars=1)
    roll = note_roll(score, 100, 25.0, circle=True)
    assert roll[72 - LOWEST, :12].tolist() == [1.0] * 12 and roll[72 - LOWEST, 12] == 0.5
    assert roll[PITCH_COUNT + 60 - LOWEST, 99] == 0.5  # half of the first onset lies before the seam
    assert HIGHEST - LOWEST + 1 == PITCH_COUNT
