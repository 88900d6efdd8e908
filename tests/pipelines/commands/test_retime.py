"""`vivace retime`: other audio is stretched to the sample, pieces with a score are played anew."""

import json

import numpy as np
import pytest
import soundfile
from peft import LoraConfig, get_peft_model_state_dict

from pipelines.commands.main import main as vivace
from pipelines.hub import save_checkpoint
from pipelines.vivace_files import find_ffmpeg, read_recipe
from pipelines.vivace_score import Score, Track
from tests.conftest import make_pipeline

RATE = 22050


def clicks(bpm: float, beats: int, hertz: float = 440.0) -> np.ndarray:
    """A tone of 90 ms on each beat, (samples,)."""
    audio, time = np.zeros(round(beats * 60 / bpm * RATE)), np.arange(2000) / RATE
    for beat in range(beats):
        first = round(beat * 60 / bpm * RATE)
        audio[first : first + 2000] += 0.5 * np.exp(-60 * time) * np.sin(2 * np.pi * hertz * time)
    return audio


def retime(capsys, *words) -> dict:
    assert vivace(["retime", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.skipif(find_ffmpeg() is None, reason="no ffmpeg")
def test_a_loop_of_somebody_else_is_stretched_and_stays_one(tmp_path, capsys):
    soundfile.write(tmp_path / "a.wav", np.stack([clicks(96, 8), clicks(96, 8)], axis=1), RATE)
    done = retime(capsys, tmp_path / "a.wav", "--bpm", "120", "--loop", "--out", tmp_path / "b.wav")
    assert done["way"] == "stretched" and done["from_bpm"] == pytest.approx(96.0)
    audio, rate = soundfile.read(tmp_path / "b.wav")
    assert rate == RATE and audio.shape == (4 * RATE, 2)
    power = np.square(audio[:, 0]).reshape(8, -1)  # one row a beat
    early = power[:, : RATE // 10].sum(axis=1) + np.roll(power[:, -RATE // 50 :].sum(axis=1), 1)
    assert (early > 0.9 * power.sum(axis=1)).all() and early.min() > 0.5 * early.max()  # the first beat as the others


@pytest.mark.skipif(find_ffmpeg() is None, reason="no ffmpeg")
def test_a_key_is_a_number_of_semitones(tmp_path, capsys):
    time = np.arange(2 * RATE) / RATE
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440.0 * time), RATE)
    words = ("--from_key", "A minor", "--key", "Bm", "--out", tmp_path / "b.wav")
    assert retime(capsys, tmp_path / "a.wav", *words)["semitones"] == 2
    audio, _ = soundfile.read(tmp_path / "b.wav")
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio))))
    assert len(audio) == 2 * RATE and spectrum.argmax() / 2.0 == pytest.approx(493.88, abs=1.0)


def test_a_piece_with_a_score_is_played_anew(tmp_path, capsys):
    """At the new tempo and in the new key, as long as its bars, with the seed that it had."""
    save_checkpoint(make_pipeline(instruments=("piano",)), tmp_path / "model")
    pipe = make_pipeline(instruments=("piano",))
    pipe.set_progress_bar_config(disable=True)
    notes = [[beat, 1.0, 57 + beat, 0.8] for beat in range(8)]
    score = Score((Track("lead", notes, "piano"),), bpm=100.0, bars=2, key="A minor", chords="Am Dm")
    pipe("slow piano", score=score, seed=7).save(tmp_path / "a.wav")
    words = ("--bpm", "125", "--key", "C minor", "--checkpoint", tmp_path / "model", "--out", tmp_path / "b.wav")
    done = retime(capsys, tmp_path / "a.wav", *words)
    assert done["way"] == "played anew" and done["seed"] == 7
    audio, rate = soundfile.read(tmp_path / "b.wav")
    assert len(audio) == round(2 * 4 * 60 / 125 * rate)
    played = Score.from_text(read_recipe(tmp_path / "b.wav")["arguments"]["score"])
    assert played.bpm == 125.0 and played.key == "C minor"
    np.testing.assert_array_equal(played.notes()[:, 2], score.notes()[:, 2] + 3)
    np.testing.assert_allclose(played.notes()[:, 0], score.notes()[:, 0])


def test_a_piece_with_a_lora_is_played_anew_with_it_alone(tmp_path, capsys):
    save_checkpoint(make_pipeline(instruments=("piano",)), tmp_path / "model")
    pipe = make_pipeline(instruments=("piano",))
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "conv1"], init_lora_weights=False), "default")
    config = pipe.unet.peft_config["default"].to_dict()
    layers = get_peft_model_state_dict(pipe.unet, adapter_name="default")
    pipe.save_lora_weights(tmp_path / "style", layers, unet_lora_adapter_metadata=config)
    score = Score((Track("lead", [[beat, 1.0, 60, 0.8] for beat in range(4)], "piano"),), bpm=100.0, bars=1)
    pipe("slow piano", score=score, seed=7).save(tmp_path / "a.wav")
    words = ("--bpm", "125", "--checkpoint", tmp_path / "model", "--out", tmp_path / "b.wav")
    with pytest.raises(SystemExit) as stopped:
        retime(capsys, tmp_path / "a.wav", *words)
    assert stopped.value.code == 2 and "made with the LoRA adapters default" in capsys.readouterr().err
    assert not (tmp_path / "b.wav").exists()
    assert retime(capsys, tmp_path / "a.wav", *words, "--lora", tmp_path / "style")["way"] == "played anew"
    (one,), (other,) = (read_recipe(tmp_path / name)["adapters"] for name in ("a.wav", "b.wav"))
    assert (one["sha256"], one["strength"]) == (other["sha256"], other["strength"])


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "bpm, key: give one of them"), (["--bpm", "5"], "bpm is 5; allowed: numbers from 20 to 300"),
        (["--key", "H"], "key is 'H'"), (["--key", "Am"], "from_key is missing"),
        (["--key", "Am", "--from_key", "C major"], "key is 'A minor', but the file is in C major"),
        (["--bpm", "120"], "from_bpm is missing: no beat was heard"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(tmp_path, words, told, capsys):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(SystemExit) as stopped:
        vivace(["retime", str(tmp_path / "a.wav"), *words, "--out", str(tmp_path / "b.wav")])
    errors = capsys.readouterr().err
    assert stopped.value.code == 2 and errors.startswith(f"error: {told}") and errors.count("\n") == 1
    assert not (tmp_path / "b.wav").exists()
