"""Scores on the command line: MIDI files in and out, parts, stems, edits by notes, what is shown and refused."""

import json

import mido
import numpy as np
import pytest
import soundfile

from pipelines.hub import save_checkpoint
from pipelines.vivace_score import Score, Track
from tests.conftest import make_pipeline

BAR = 2 * 8000  # samples of a bar of 4/4 at 120 bpm


def tune(bars: int = 2, bpm: float = 120.0, lead: int = 72) -> Score:
    lines = {"lead": [(q, 0.5, lead + q, 0.9) for q in range(4)], "bass": [(0.0, 2.0, 40, 0.7), (2.0, 2.0, 43, 0.7)]}
    lines["drums"] = [(0.0, 0.1, 36, 0.8), (2.0, 0.1, 38, 0.8)]
    names = {"lead": "flute", "bass": "upright bass", "drums": None}
    return Score(
        tuple(
            Track(role, [(q + 4 * bar, *rest) for bar in range(bars) for q, *rest in notes], names[role])
            for role, notes in lines.items()
        ),
        bpm,
        bars=bars,
    )


@pytest.fixture(scope="module")
def player(tmp_path_factory):
    """A checkpoint whose network plays notes."""
    folder = tmp_path_factory.mktemp("published") / "player"
    save_checkpoint(make_pipeline(instruments=("flute", "upright bass", "drums")), folder)
    return folder


@pytest.fixture
def call(player, tmp_path, run_vivace):
    """Run a command: call(*words) -> (exit code, stdout, stderr); those that load a model load the player."""
    tune().save(tmp_path / "tune.mid")

    def run(command, *words):
        place = ["--checkpoint", player] if command in ("generate", "edit", "replay") else []
        return run_vivace(command, *place, *words)

    return run


def samples(path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0].astype(int)


def test_a_score_becomes_a_song_its_notes_and_its_stems(call, tmp_path):
    song = tmp_path / "song.wav"
    asked = ["--score", tmp_path / "tune.mid", "--parts", "bass", "drums", "--midi", "--stems", "--seed", 1]
    code, said, errors = call("generate", *asked, "--out", song, "--json")
    assert (code, errors) == (0, "")
    piece = json.loads(said)
    assert piece["file"] == str(song) and piece["midi"] == str(tmp_path / "song.mid")
    assert piece["stems"] == {role: str(tmp_path / f"song.{role}.wav") for role in ("bass", "drums")}
    assert np.array_equal(samples(song), sum(samples(name) for name in piece["stems"].values()))
    assert len(samples(song)) == 2 * BAR and piece["understood"]["bpm"] == 120
    assert Score.load(piece["midi"]) == tune().only("bass", "drums")

    code, said, _ = call("replay", song, "--out", tmp_path / "again.wav", "--json")
    again = json.loads(said)
    assert code == 0 and again["equal"] and np.array_equal(samples(again["file"]), samples(song))
    for role, name in again["stems"].items():
        assert np.array_equal(samples(name), samples(piece["stems"][role]))

    assert call("midi", song)[0] == 2  # song.mid is there
    code, said, _ = call("midi", song, "--out", tmp_path / "notes.mid")
    assert code == 0 and "2 bars, 120 bpm, 8 notes: bass, drums" in said
    assert Score.load(tmp_path / "notes.mid") == tune().only("bass", "drums")


def test_a_batch_of_scores(call, tmp_path):
    rows = [{"score": str(tmp_path / "tune.mid"), "seed": 1, "stems": True, "midi": True, "out": "a.wav"}]
    rows.append({"prompt": "slow piano", "duration_s": 1, "seed": 1, "parts": ["lead"]})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, said, errors = call("generate", "--batch", tmp_path / "rows.jsonl", "--out", tmp_path / "many", "--json")
    assert (code, errors) == (0, "")
    assert [sorted(set(json.loads(line)) & {"midi", "stems"}) for line in said.splitlines()] == [["midi", "stems"], []]
    names = {"a.wav", "a.mid", "a.lead.wav", "a.bass.wav", "a.drums.wav", "0002.wav"}
    assert {path.name for path in (tmp_path / "many").iterdir()} == names
    for out, words in (({"out": "a.flac"}, "writes 'a.mid', as in line 1"), ({"out": "a.bass.wav"}, "'a.bass.wav'")):
        (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, [rows[0], rows[0] | out])))
        code, _, errors = call("generate", "--batch", tmp_path / "rows.jsonl", "--out", tmp_path / "none")
        assert code == 2 and words in errors and not (tmp_path / "none").exists()


def test_an_edit_by_notes(call, tmp_path):
    tune(3).save(tmp_path / "tune.mid")
    place = ["--score", tmp_path / "tune.mid", "--prompt", "slow piano", "--seed", 1]
    assert call("generate", *place, "--out", tmp_path / "a.wav")[0] == 0
    assert call("midi", tmp_path / "a.wav", "--out", tmp_path / "edited.mid")[0] == 0
    score = Score.load(tmp_path / "edited.mid")
    notes = score.tracks[0].notes.copy()
    notes[5, 2] += 5  # in the second bar
    Score((Track("lead", notes, "flute"), *score.tracks[1:]), 120, bars=3).save(tmp_path / "edited.mid")
    asked = ["--audio", tmp_path / "a.wav", "--score", tmp_path / "edited.mid", "--seed", 2, "--midi"]
    code, said, errors = call("edit", *asked, "--out", tmp_path / "b.wav", "--json")
    assert (code, errors) == (0, "") and Score.load(json.loads(said)["midi"]) == Score.load(tmp_path / "edited.mid")
    before, after = samples(tmp_path / "a.wav"), samples(tmp_path / "b.wav")
    new = slice(BAR, 2 * BAR + round(0.4 * 8000))
    assert np.array_equal(np.delete(before, new), np.delete(after, new)) and (before[new] != after[new]).any()
    code, _, errors = call("edit", *asked[:2], "--score", tmp_path / "tune.mid", "--out", tmp_path / "c.wav")
    assert code == 2 and "nothing is to be made anew" in errors


def test_info_shows_the_notes(call, tmp_path):
    place = ["--score", tmp_path / "tune.mid", "--prompt", "slow piano"]
    call("generate", *place, "--parts", "lead", "--out", tmp_path / "a.flac")
    code, said, _ = call("info", tmp_path / "tune.mid", "--json")
    score = json.loads(said)["score"]
    assert code == 0 and (score["bars"], score["bpm"], score["notes"]) == (2, 120, 16)
    assert score["parts"][0] == {"role": "lead", "instrument": "flute", "notes": 8, "lowest": 72, "highest": 75}
    assert score["parts"][2] == {"role": "drums", "instrument": None, "notes": 4}
    code, said, _ = call("info", tmp_path / "a.flac", "--json")
    about = json.loads(said)
    assert [part["role"] for part in about["score"]["parts"]] == ["lead"]
    assert Score.from_text(about["recipe"]["arguments"]["score"]) == tune()
    for name, words in (("tune.mid", "bass (upright bass), 4 notes, E2 to G2"), ("a.flac", "lead (flute), 8 notes")):
        code, said, _ = call("info", tmp_path / name)
        assert code == 0 and words in said and max(map(len, said.splitlines())) < 200
    call("generate", "--prompt", "slow piano", "--out", tmp_path / "b.wav")
    assert json.loads(call("info", tmp_path / "b.wav", "--json")[1])["score"] is None
    code, _, errors = call("midi", tmp_path / "b.wav")
    assert code == 2 and "has no score in its recipe" in errors


def broken(kind: str, path) -> None:
    """Write a file that cannot be played."""
    whole = path.with_name("tune.mid").read_bytes()
    if kind == "text":
        path.write_text("do re mi")
    elif kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "fast":
        tune(bpm=960.0).save(path)
    elif kind == "long":
        Score((Track("lead", [(4 * 3999, 1, 60, 0.5)]),), bpm=26.6).save(path)
    else:
        file = mido.MidiFile(type=2 if kind == "type 2" else 1)
        file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500000)]))
        if kind == "type 2":
            file.tracks[0] += [mido.Message("note_on", note=60, velocity=9), mido.Message("note_off", note=60, time=9)]
        file.save(path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "no MIDI file"), ("truncated", "damaged MIDI file"), ("empty", "no MIDI file"),
        ("no notes", "has no notes"), ("type 2", "of type 2"), ("fast", "bpm is 960.0; allowed: numbers from 20"),
        ("long", "is 36090.226; allowed: numbers from 0.5 to 600 s"),
    ],
)  # fmt: skip
def test_broken_scores_are_refused_in_one_line(call, tmp_path, monkeypatch, kind, words):
    monkeypatch.setattr("pipelines.hub.load_pipeline", None)  # all this comes before a model is loaded
    broken(kind, tmp_path / "bad.mid")
    code, said, errors = call("generate", "--score", tmp_path / "bad.mid", "--out", tmp_path / "out.wav")
    assert code == 2 and said == "" and errors.count("\n") == 1 and words in errors, errors
    assert not (tmp_path / "out.wav").exists()
    if kind not in ("fast", "long"):
        code, said, errors = call("info", tmp_path / "bad.mid")
        assert code == 2 and said == "" and errors.count("\n") == 1 and words in errors and "bad.mid" in errors


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--score", "nowhere.mid"], "score 'nowhere.mid': no such file"),
        (["--score", "tune.musicxml"], "training.data.sources.to_midi"),
        (["--score", "TUNE", "--parts", "kazoo"], "parts has 'kazoo'; allowed: lead, harmony, bass, drums"),
        (["--score", "TUNE", "--parts", "harmony"], "the score has: lead, bass, drums"),
        (["--prompt", "piano", "--stems"], "stems needs score"), (["--prompt", "piano", "--midi"], "midi needs score"),
        (["--score", "TUNE", "--midi", "--out", "TUNE.wav"], "midi would write over score"),
    ],
)  # fmt: skip
def test_what_cannot_be_played_is_refused_in_one_line(call, tmp_path, monkeypatch, asked, words):
    monkeypatch.setattr("pipelines.hub.load_pipeline", None)
    asked = [word.replace("TUNE.wav", str(tmp_path / "tune.wav")) for word in asked]
    asked = [word.replace("TUNE", str(tmp_path / "tune.mid")) for word in asked]
    code, said, errors = call("generate", "--out", tmp_path / "out.wav", *asked)
    assert code == 2 and said == "" and errors.count("\n") == 1 and words in errors, errors
    assert [path.name for path in tmp_path.iterdir()] == ["tune.mid"]


def test_a_checkpoint_without_notes_says_so(call, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.hub.load_pipeline", None)
    for asked in (["--score", tmp_path / "tune.mid"], ["--prompt", "piano", "--parts", "bass"]):
        place = ["--checkpoint", tiny_checkpoint, "--out", tmp_path / "out.wav"]
        code, _, errors = call("generate", *asked, *place)
        assert code == 2 and errors.count("\n") == 1 and "needs a network that plays notes" in errors
