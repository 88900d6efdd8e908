"""Repairs: what is spoilt comes nearer to the clean clip, what is clean stays bit for bit."""

import json

import numpy as np
import pytest
import soundfile
import torch

import vivace
from benchmarks.restoration import SAMPLES, WAYS, spoil
from pipelines.restore import MATCH_DB, band_levels, fill, match, measure, predictor, restore
from pipelines.vivace_audio import loudness, true_peak_db
from tests.helpers.synthetic_clips import RATE, tones
from training.metrics.reconstruction import log_mel_distance, si_sdr


@pytest.fixture(scope="module")
def clean() -> tuple[np.ndarray, int]:
    """4.5 s of a piece of ours, (2, samples), and its rate."""
    audio, rate = soundfile.read(SAMPLES / "chords.flac", dtype="float32", always_2d=True, frames=198450)
    return audio.T.copy(), rate


def test_what_is_clean_comes_back(clean):
    audio, rate = clean
    made = restore(audio, rate)
    assert made.done == [] and made.before == made.after and np.array_equal(made.audio.numpy(), audio)
    # What resembles a fault: a steady bass note a semitone below 50 Hz with overtones, short attacks, silence.
    time = np.arange(6 * RATE) / RATE
    bass = sum(np.sin(2 * np.pi * k * 48.999 * time) / k for k in range(1, 8)) * 0.1
    ticks = np.zeros(len(time))
    for start in range(0, len(time) - 4000, 9000):
        ticks[start : start + 4000] += np.random.default_rng(start).standard_normal(4000) * np.exp(
            -np.arange(4000) / 300
        )
    for sound in (bass + 0.1 * ticks, np.zeros(3 * RATE), 0.1 * np.sign(np.sin(2 * np.pi * 220 * time))):
        assert restore(sound[None].astype(np.float32), RATE, only=("dc", "hum", "clicks")).done == []


@pytest.mark.parametrize("way", WAYS)
def test_each_fault_is_found_and_alone_repaired(clean, way):
    audio, rate = clean
    bad = spoil(audio, rate, way, 6).astype(np.float32)
    made = restore(bad, rate)
    name = "level" if way == "quiet" else way
    assert [line.split(":")[0] for line in made.done] == [name]
    distances = [np.mean([log_mel_distance(a, b, rate) for a, b in zip(x, audio, strict=True)])
                 for x in (bad, made.audio.numpy())]  # fmt: skip
    assert distances[1] < (0.5 if way in ("quiet", "dc") else 0.8) * distances[0]
    if way not in ("quiet", "dc"):
        ratios = [np.mean([si_sdr(a, b) for a, b in zip(x, audio, strict=True)]) for x in (bad, made.audio.numpy())]
        assert ratios[1] > ratios[0] + 2
    if way == "quiet":
        assert abs(made.after["loudness_lufs"] + 16) < 0.2 and made.before["loudness_lufs"] < -29.9
    if way == "clicks":
        assert made.after["clicks"] < 0.2 * made.before["clicks"]
    untouched = restore(
        bad, rate, only=tuple(one for one in ("dc", "clipping", "clicks", "hum", "level") if one != name)
    )
    assert np.array_equal(untouched.audio.numpy(), bad)


@pytest.mark.parametrize("seed", range(4))
def test_a_drawn_top_is_no_click(clean, seed):
    audio, rate = clean
    made = restore(spoil(audio, rate, "clipping", seed).astype(np.float32), rate, figures=False)
    assert [line.split(":")[0] for line in made.done] == ["clipping"]


def test_missing_samples_are_drawn_anew():
    time = np.arange(4000) / 8000
    wave = np.sin(2 * np.pi * 441 * time) + 0.5 * np.sin(2 * np.pi * 1234 * time + 1)
    unknown = np.zeros(4000, dtype=bool)
    unknown[2000:2010] = True
    drawn = fill(np.where(unknown, 0.0, wave), unknown, predictor(wave, 32))
    assert np.abs(drawn - wave)[unknown].max() < 0.05 and np.array_equal(drawn[~unknown], wave[~unknown])


def test_wishes(clean):
    audio, rate = clean
    loud = loudness(torch.from_numpy(audio), rate)

    def tilt(sound: torch.Tensor) -> float:
        levels = band_levels(sound, rate)
        return float(levels[24] - levels[6])  # 8 kHz against 125 Hz

    flat = tilt(torch.from_numpy(audio))
    for words, low, high in (("brighter", 2, 6), ("slightly darker", -3, -0.8), ("warmer", -7, -3)):
        made = restore(audio, rate, to=words)
        assert low < tilt(made.audio) - flat < high and abs(loudness(made.audio, rate) - loud) < 0.2, words
    made = restore(audio, rate, to="mono, -20 LUFS, -3 dBTP")
    assert torch.equal(made.audio[0], made.audio[1]) and abs(made.after["loudness_lufs"] + 20) < 0.2
    assert true_peak_db(made.audio) <= -2.9 and len(made.left) == 1 and "noise, band" in made.left[0]
    sides = [float((sound[0] - sound[1]).square().mean()) for sound in (torch.from_numpy(audio),
             restore(audio, rate, to="wider", only=("dc",)).audio)]  # fmt: skip
    assert sides[1] > 1.5 * sides[0]
    for words, message in (
        ("loud", "to has 'loud'"), ("-1 LUFS", "to has '-1 lufs'; allowed: -60 to -3"),
        ("much drier", "to asks for less reverb, for which"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            restore(audio, rate, to=words)
    with pytest.raises(ValueError, match="only has 'wow'"):
        restore(audio, rate, only=("wow",))


def test_the_spectrum_of_a_reference(clean):
    audio, rate = clean
    like = torch.from_numpy(tones(["C", "F"], 0.5))[None]
    sound = torch.from_numpy(audio)
    gains = match(sound, rate, like, RATE)
    assert np.abs(gains).max() <= MATCH_DB and np.abs(match(sound, rate, sound, rate)).max() < 1e-9
    darker = restore(audio, rate, to="much darker", only=("dc",)).audio
    made = restore(darker, rate, like=(sound, rate), only=("dc",))

    def apart(other: torch.Tensor) -> float:
        one, two = band_levels(other, rate), band_levels(sound, rate)
        heard = two > np.nanmax(two) - 40
        return float(np.std((one - two)[heard]))

    assert apart(made.audio) < 0.3 * apart(darker)


def test_the_command(clean, tiny_checkpoint, tmp_path, run_vivace):
    audio, rate = clean
    soundfile.write(tmp_path / "clean.wav", audio.T, rate, subtype="PCM_24")
    soundfile.write(tmp_path / "dc.wav", (audio + 0.05).T, rate)
    code, said, _ = run_vivace("restore", tmp_path / "clean.wav", "--out", tmp_path / "same.wav")
    assert code == 0 and "nothing: no fault is found" in said and "LUFS" in said
    assert (tmp_path / "same.wav").read_bytes() == (tmp_path / "clean.wav").read_bytes()
    code, said, _ = run_vivace("restore", tmp_path / "dc.wav", "--out", tmp_path / "b.flac", "--json")
    about = json.loads(said)
    assert code == 0 and len(about["done"]) == 1 and about["before"]["dc"] > 0.04 > 1e-4 > about["after"]["dc"]
    assert abs(soundfile.read(tmp_path / "b.flac")[0].mean()) < 1e-4
    for words, message in (
        ((tmp_path / "none.wav",), "file is"), ((tmp_path / "dc.wav", "--like", "none.wav"), "like is 'none.wav'"),
        ((tmp_path / "dc.wav", "--out", "a.txt"), "out is 'a.txt'"), ((tmp_path / "dc.wav", "--to", "loud"), "to has"),
        ((tmp_path / "dc.wav", "--to", "drier", "--checkpoint", tiny_checkpoint), "it has no restorer/"),
        ((tmp_path / "dc.wav", "--only", "noise", "--checkpoint", tiny_checkpoint), "it has no restorer/"),
    ):  # fmt: skip
        code, _, errors = run_vivace("restore", *words)
        assert code == 2 and message in errors and errors.count("\n") == 1


def test_in_python_without_a_network(clean, tmp_path):
    audio, rate = clean[0][:, :88200], clean[1]
    soundfile.write(tmp_path / "dc.wav", (audio + 0.05).T, rate, subtype="FLOAT")
    made = vivace.restore(tmp_path / "dc.wav", to="darker")
    by_hand = restore((audio + 0.05).astype(np.float32), rate, to="darker")
    assert made.done == by_hand.done and np.array_equal(made.audio.numpy(), by_hand.audio.numpy())
    made.save(tmp_path / "better.flac")
    kept, kept_rate = soundfile.read(tmp_path / "better.flac")
    assert kept_rate == rate and np.abs(kept.T - made.audio.numpy()).max() < 1e-3
    same = vivace.restore(audio, rate, only=["hum"])
    assert same.done == [] and np.array_equal(same.audio.numpy(), audio)
    liked = vivace.restore(audio, rate, like=(tones(["C", "F"], 0.5), RATE), only=[])
    assert liked.done[0].startswith("like: third octaves moved")
    for call, message in (
        (lambda: vivace.restore(tmp_path / "none.wav"), "audio is"),
        (lambda: vivace.restore(audio), "sampling_rate is None"),
        (lambda: vivace.restore(audio, rate, like="none.wav"), "like: audio is 'none.wav'"),
        (lambda: vivace.restore(audio, rate, only=["wow"]), "only has 'wow'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_figures():
    silent = measure(torch.zeros(1, RATE), RATE)
    assert silent["clicks"] == 0 and silent["hum_dbfs"] is None and silent["loudness_lufs"] == -np.inf
