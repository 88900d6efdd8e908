"""Whole evaluations: of a tiny pipeline on four synthetic clips, of folders, of pairs of folders, and of bad input."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.helpers.synthetic_clips import RATE, SECONDS, clicks, row, tones
from training import evaluate, generate, sweep
from training.config import command
from training.data.clips import read_rows
from training.listeners import beat_tracker, key, tagger
from training.metrics.control import NAMES
from training.metrics.folder import folder_rows, load_clips


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Four labelled clips a split: clicks over chords at four tempi, one without chords and key."""
    root = tmp_path_factory.mktemp("data")
    for split in ("train", "validation", "test"):
        folder = root / split
        folder.mkdir()
        rows = []
        for index, bpm in enumerate((90.0, 100.0, 120.0, 140.0)):
            drums = index % 2 == 0
            audio = tones(["C", "F", "G", "C"], 60.0 / bpm) + (clicks(bpm) if drums else 0.0)
            soundfile.write(folder / f"{index}.flac", audio, RATE)
            labels = {"file_name": f"{index}.flac", "sampling_rate": RATE, "drums": drums}
            labels |= {"text": ["slow piano", "fast jazz drums"], "text_heldout": ["calm"]}
            labels |= {"instruments": ["piano", "drum machine"] if drums else ["piano"]}
            if index == 3:
                labels |= {"key": None, "chords": None, "chord_symbols": None}
            rows.append(row(bpm, **labels))
        (folder / "metadata.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return root


@pytest.fixture(scope="module")
def listeners(data_dir, tmp_path_factory) -> list[str]:
    """Arguments for listeners trained for a few steps on those clips."""
    root = tmp_path_factory.mktemp("listeners")
    words = ["--data_dir", str(data_dir), "--output_dir"]
    short = ["--max_steps", "3", "--batch_size", "4"]
    beats = ["--max_steps", "40", "--learning_rate", "0.01", "--crop_s", "4", "--width", "8", "--batch_size", "8"]
    beat_tracker.main([*words, str(root / "beats"), *beats])
    tagger.main([*words, str(root / "tagger"), *short, "--min_clips", "2"])
    key.main([*words, str(root / "key"), *short, "--width", "4"])
    names = {"tagger": "tagger", "beat_tracker": "beats", "key": "key"}
    return [word for name, folder in names.items() for word in (f"--{name}", str(root / folder))]


@pytest.fixture(scope="module")
def audio_dir(tmp_path_factory) -> Path:
    """Six plain files of three rates, one of them stereo and one of them broken, without labels."""
    folder = tmp_path_factory.mktemp("plain")
    for index, rate in enumerate((24000, 24000, 24000, 48000, 8000)):
        audio = clicks(80.0 + 20.0 * index)[: 4 * RATE : RATE // rate if rate < RATE else 1]
        audio = np.repeat(audio, 2) if rate > RATE else audio
        soundfile.write(folder / f"{index}.wav", np.stack([audio, audio]).T if index == 0 else audio, rate)
    (folder / "broken.flac").write_bytes(b"not audio")
    (folder / "notes.txt").write_text("no audio either")
    return folder


def run(*words: object) -> int:
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as stop:
        command(lambda: evaluate.main([str(word) for word in ("--num_workers", 0, *words)]))
    return stop.value.code


class Page(HTMLParser):
    """Every address that a page refers to, and the kinds of its elements."""

    def __init__(self, text: str):
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "data", "action")]


def test_checkpoint(tiny_checkpoint, data_dir, listeners, tmp_path, capsys):
    output, kept, page = tmp_path / "runs" / "e.json", tmp_path / "kept", tmp_path / "page" / "e.html"
    words = ["--checkpoint", tiny_checkpoint, "--data_dir", data_dir, "--output", output, "--num_clips", 4, *listeners]
    words += ["--batch_size", 3, "--num_inference_steps", 2]
    assert run(*words, "--save_audio", kept, "--html", page, "--html_clips", 2) == 0
    result = json.loads(output.read_text())
    assert set(result["control"]) == set(NAMES)
    counts = {name: by_source["oracle"]["n"] for name, by_source in result["control"].items()}
    assert counts["beat_f"] == 4 and counts["key_exact"] == counts["chord_cosine"] == 3
    assert all(by_source["generated"]["n"] == by_source["paraphrased"]["n"] for by_source in result["control"].values())
    assert result["missing_labels"] == {
        "bpm": 0, "beats_s": 0, "key": 1, "chords": 1, "instruments": 0, "drums": 0, "style": 0
    }  # fmt: skip
    assert result["control"]["chord_cosine"]["oracle"]["mean"] > 0.8
    assert result["oracle_by_source"]["beat_f"]["unknown"]["n"] == 4
    assert result["autoencoder"]["log_mel"]["reconstructed"]["n"] == 4
    assert result["signal"]["lufs"]["generated"]["n"] > 0 and result["unreadable"] == {}
    assert "no clips of other works" in result["distribution"]["left_out"]
    assert len(result["checkpoint_sha256"]) == 64 and result["versions"]["librosa"] and result["wall_s"]["all"] > 0
    assert len(result["per_clip"]) == 4 and result["stated_known"] == 0
    assert set(result["listeners"]) == {"tagger", "tracker", "key"}
    assert all(len(card["sha256"]) == 64 and card["name"] for card in result["listeners"].values())
    printed = capsys.readouterr().out
    for expected in ("oracle", "labels missing", "do not list what each caption states", str(output), str(page)):
        assert expected in printed

    text = page.read_text()
    look = Page(text)
    assert "2 of 4 clips" in text and look.tags.count("article") == look.tags.count("audio") == 2
    assert all(address.startswith("data:") for address in look.addresses) and len(look.addresses) == 4
    assert not re.search(r"https?://|@import|url\(", text)  # complete in itself
    pictures = [a.split(",")[1] for a in look.addresses if a.startswith("data:image/png")]
    assert all(Image.open(io.BytesIO(base64.b64decode(p))).width > 600 for p in pictures)
    sounds = [a.split(",")[1] for a in look.addresses if a.startswith("data:audio/flac")]
    assert all(soundfile.info(io.BytesIO(base64.b64decode(s))).duration == SECONDS for s in sounds)

    # What was kept tells what was asked of it: measured as a folder, it gets the same figures, but for 16 bits.
    again = tmp_path / "again.json"
    assert run("--audio_dir", kept, "--output", again, *listeners) == 0
    folder = json.loads(again.read_text())
    for name in ("beat_f", "key_exact_profile", "chord_cosine", "stated_heard", "drums", "beat_contrast"):
        one, other = result["control"][name]["generated"], folder["control"][name]["labelled"]
        assert one["n"] == other["n"] and one["mean"] == pytest.approx(other["mean"], abs=0.02), name

    assert run(*words) == 0
    repeated = json.loads(output.read_text())
    assert repeated["control"] == result["control"] and repeated["per_clip"] == result["per_clip"]


def test_plain_files_without_labels(audio_dir, tmp_path, capsys, listeners):
    output = tmp_path / "e.json"
    assert run("--audio_dir", audio_dir, "--output", output, *listeners) == 1  # one file is broken
    result = json.loads(output.read_text())
    assert list(result["unreadable"]) == ["broken.flac"] and result["clips"] == 5
    assert result["sampling_rate"] == 24000 and result["resampled"] == 2
    assert result["missing_labels"]["bpm"] == 5
    assert all(not source["n"] for by_source in result["control"].values() for source in by_source.values())
    assert result["signal"]["peak"]["audio"]["n"] == 5
    printed = capsys.readouterr()
    for expected in ("left out, since no clip has the label", "'bpm': 5", "2 clips were resampled to 24000 Hz"):
        assert expected in printed.out
    assert "broken.flac" in printed.err


def test_two_folders(data_dir, listeners, tmp_path, capsys):
    """A folder against itself is at no distance; the halves of the reference give the floor."""
    made = tmp_path / "made"
    made.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        audio = tones(["C", "F"], 0.5)[: 2 * RATE] + 0.1 * rng.normal(size=2 * RATE)
        soundfile.write(made / f"{index}.wav", audio, RATE)
    output = tmp_path / "e.json"
    words = ["--audio_dir", made, "--output", output, *listeners, "--embedder"]
    assert run(*words, "tagger", "--reference_dir", made) == 2
    error = capsys.readouterr().err.strip()
    assert "too few for a covariance; needed:" in error and len(error.splitlines()) == 1
    assert not output.exists()


def test_two_folders_with_enough_clips(tmp_path, listeners):
    """Noise of two colours: as many clips as a covariance of their few directions needs."""
    rng = np.random.default_rng(0)
    for name, gain in (("one", 1.0), ("other", 0.5)):
        (tmp_path / name).mkdir()
        for index in range(56):
            audio = 0.1 * rng.normal(size=RATE // 2)
            soundfile.write(tmp_path / name / f"{index}.wav", gain * np.cumsum(audio) / 50 + audio, RATE)
    output = tmp_path / "e.json"
    words = ["--audio_dir", tmp_path / "one", "--reference_dir", tmp_path / "other", "--output", output]
    code = run(*words, "--tagger", "none", "--beat_tracker", "none", "--key", "none")
    assert code == 0
    result = json.loads(output.read_text())
    assert result["autoencoder"]["si_sdr_db"]["reconstructed"]["n"] == 56  # names are alike
    assert {"floor", "generated"} <= set(result["distribution"]["frechet"])
    assert result["distribution"]["embedder"]["name"] and result["listeners"] == {}
    assert result["control"]["tempo_4pct"]["labelled"]["n"] == 0


def test_rows_and_rates_of_folders(data_dir, audio_dir, tmp_path):
    assert folder_rows(data_dir) == read_rows(data_dir, "test")
    with pytest.raises(ValueError, match="has train, validation, test"):
        folder_rows(data_dir, "demo")
    assert len(folder_rows(data_dir / "test")) == 4 and folder_rows(data_dir / "test")[0]["bpm"] == 90.0
    clips = load_clips(folder_rows(audio_dir), 16000)
    assert clips.sampling_rate == 16000 and clips.resampled == 5 and clips.audios[0].shape == (2, 4 * 16000)
    assert all(audio.shape[1] == 4 * 16000 for audio in clips.audios)
    # A row may be wrong about its file's rate; the file is asked.
    lying = [row | {"sampling_rate": 8000} for row in folder_rows(audio_dir)[:2]]
    assert load_clips(lying).sampling_rate == 24000


def test_asking_is_deterministic(data_dir):
    rows = read_rows(data_dir, "test")
    assert generate.choose(rows, 2, 5) == generate.choose(rows, 2, 5)
    assert len(generate.choose(rows, 99, 0)) == 4
    text, stated = generate.caption(rows[0], "text", 0, 1)
    assert text in rows[0]["text"] and stated is None
    telling = rows[0] | {"stated": [{"instruments": ["piano"]}, {"instruments": []}]}
    text, stated = generate.caption(telling, "text", 0, 1)
    assert stated == telling["stated"][telling["text"].index(text)]
    meters = ({"time_signature": "6/8", "beats_per_bar": 2}, {"beats_per_bar": 3}, {})
    assert [generate.meter_of(labels) for labels in meters] == ["6/8", "3/4", None]
    with pytest.raises(ValueError, match="no text_heldout"):
        generate.caption({"file_name": "a"}, "text_heldout", 0, 0)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "nowhere"], "nowhere"),
        (["--num_clips", "0"], "num_clips is 0"),
        (["--html_clips", "0"], "html_clips is 0"),
        (["--checkpoint", "missing/folder"], "no such folder"),
        (["--reference_dir", "somewhere"], "without audio_dir"),
        (["--audio_dir", "missing/folder"], "no such folder"),
        (["--audio_dir", "page"], "no audio in it"),
        (["--output", "."], "is a folder"),
        (["--html", "."], "is a folder"),
    ],
)
def test_bad_input_is_one_line(tiny_checkpoint, data_dir, capsys, words, expected):
    assert run("--checkpoint", tiny_checkpoint, "--data_dir", data_dir, *words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and expected in lines[0]


def test_own_music_without_paraphrases_captions_or_bars(tiny_checkpoint, data_dir, tmp_path, capsys):
    """What `prepare` makes of one's own files: no text_heldout, perhaps no text, beats without downbeats."""
    for split, count in (("test", 3), ("train", 1)):
        shutil.copytree(data_dir / split, tmp_path / "data" / split)
        rows = [json.loads(line) for line in (data_dir / split / "metadata.jsonl").read_text().splitlines()][:count]
        for number, own in enumerate(rows):
            own |= {"text_heldout": None, "downbeat_s": None, "downbeats_s": None, "time_signature": None}
            own |= {"beats_per_bar": None, "text": [[""], [], ["slow piano"]][number], "work": f"{number}.wav"}
        place = tmp_path / "data" / split / "metadata.jsonl"
        place.write_text("".join(json.dumps(own) + "\n" for own in rows))
    words = ["--checkpoint", tiny_checkpoint, "--data_dir", tmp_path / "data", "--output", tmp_path / "e.json"]
    words += ["--num_inference_steps", 1, "--tagger", "none", "--beat_tracker", "none", "--key", "none"]
    assert run(*words, "--num_clips", 2) == 0
    result, noted = json.loads((tmp_path / "e.json").read_text()), capsys.readouterr().err
    captions = {"0.flac": "music", "1.flac": "music", "2.flac": "slow piano"}
    assert all(clip["caption"] == captions[clip["file_name"]] for clip in result["per_clip"])
    assert "note: no paraphrases: 0 of 2 clips have some in text_heldout" in noted
    assert "note: no distribution: no training clips to lay out the space with (1 in the train split)" in noted
    assert "paraphrased" not in result["control"]["chord_cosine"]
    assert result["control"]["chord_cosine"]["generated"]["n"] == 2  # chords are asked for from the first beat
    shutil.rmtree(tmp_path / "data" / "train")
    shutil.copytree(data_dir / "train", tmp_path / "data" / "train")
    assert run(*words, "--num_clips", 2) == 0
    noted = capsys.readouterr().err
    assert (
        "note: clips to compare: 1, too few for the kernel distance (needed: 2), Frechet distance (needed: 5)" in noted
    )


def test_too_few_clips_are_told_before_they_are_listened_to(data_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "analyse", lambda *arguments: pytest.fail("analysed first"))
    words = ["--audio_dir", data_dir / "test", "--reference_dir", data_dir / "test", "--output", tmp_path / "e.json"]
    assert run(*words, "--tagger", "none", "--beat_tracker", "none", "--key", "none") == 2
    assert "4 clips and 4 reference clips are too few for a covariance; needed: 5 clips" in capsys.readouterr().err


def test_an_unreadable_clip_is_named(tiny_checkpoint, data_dir, tmp_path, capsys):
    folder = tmp_path / "test"
    folder.mkdir()
    (folder / "0.flac").write_bytes(b"not audio")
    lines = [json.dumps(row(text=["slow"], text_heldout=["calm"], file_name=f"{i}.flac")) + "\n" for i in range(2)]
    (folder / "metadata.jsonl").write_text(lines[0])
    words = ["--checkpoint", tiny_checkpoint, "--data_dir", tmp_path, "--output", tmp_path / "e.json"]
    assert run(*words) == 2
    assert "none of 1 clips can be read; the first is 0.flac" in capsys.readouterr().err
    assert not (tmp_path / "e.json").exists()
    # One of two: it is left out, the figures are those of the other, and the exit code tells.
    (folder / "1.flac").write_bytes((data_dir / "test" / "1.flac").read_bytes())
    (folder / "metadata.jsonl").write_text("".join(lines))
    quick = ["--num_inference_steps", 1, "--tagger", "none", "--beat_tracker", "none", "--key", "none"]
    assert run(*words, *quick) == 1
    assert "left out: 0.flac" in capsys.readouterr().err
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["clips"] == 1 and list(result["unreadable"]) == ["0.flac"]


def test_without_listeners_their_figures_are_left_out(tiny_checkpoint, data_dir, tmp_path, capsys):
    output, none = tmp_path / "e.json", tmp_path / "none"
    words = ["--checkpoint", tiny_checkpoint, "--data_dir", data_dir, "--num_clips", 2, "--num_inference_steps", 1]
    words += ["--tagger", none, "--beat_tracker", none, "--key", none, "--paraphrases", "false", "--output", output]
    assert run(*words) == 0
    result = json.loads(output.read_text())
    assert result["listeners"] == {} and len(result["listeners_absent"]) == 3
    for name in ("style", "beat_f", "key_exact"):
        assert result["control"][name]["generated"]["n"] == 0
    assert result["control"]["beat_f_librosa"]["oracle"]["n"] == 2
    assert "paraphrased" not in result["control"]["beat_f_librosa"]
    assert "figures left out" in capsys.readouterr().out
    assert all(np.isfinite(v["generated"]["mean"]) for v in result["signal"].values() if v["generated"]["n"])


def sweep_of(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        command(lambda: sweep.main([str(word) for word in words]))
    return ended.value.code


def test_a_sweep_measures_each_setting_once_and_goes_on(tiny_checkpoint, data_dir, listeners, tmp_path, capsys):
    lines, picture = tmp_path / "sweep.jsonl", tmp_path / "curve.png"
    words = ["--checkpoint", tiny_checkpoint, "--data_dir", data_dir, "--num_clips", 4, "--output", lines, *listeners]
    words = [str(word) for word in (*words, "--captions", "text", "text_heldout")]
    first = sweep.main([*words, "--steps", "1", "--guidance", "1", "2"])
    assert [(row["captions"], row["guidance"]) for row in first] == [
        ("text", 1.0), ("text", 2.0), ("text_heldout", 1.0), ("text_heldout", 2.0)
    ]  # fmt: skip
    before = lines.read_text()
    capsys.readouterr()
    second = sweep.main([*words, "--steps", "1", "2", "--guidance", "2", "--picture", str(picture)])
    assert capsys.readouterr().out.count("steps") == 2  # what was measured before is not measured again
    other = sweep.main([*words, "--steps", "1", "--guidance", "2", "--scheduler", "UniPCMultistepScheduler",
                        "--interval", "0.2:0.9"])  # fmt: skip
    assert len(other) == 8
    assert len(second) == 6 and lines.read_text().startswith(before)
    assert all(0 <= row["tempo_4pct"] <= 1 and row["music_s_per_cpu_s"] > 0 for row in second)
    assert Image.open(picture).width > 400


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--steps", "0"], "steps is [0]"),
        (["--guidance", "-1"], "guidance is [-1.0]"),
        (["--captions", "words"], "text_heldout"),
        (["--interval", "0.5"], "interval is '0.5'"),
        (["--scheduler", "Magic"], "scheduler is 'Magic'"),
        (["--num_clips", "1"], "num_clips is 1"),
        (["--checkpoint", "missing/folder"], "no such folder"),
    ],
)
def test_a_sweep_refuses_what_is_out_of_range(tiny_checkpoint, capsys, words, expected):
    assert sweep_of("--checkpoint", tiny_checkpoint, *words) == 2
    assert expected in capsys.readouterr().err
