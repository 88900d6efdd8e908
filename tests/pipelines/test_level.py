"""Loudness against the standard's own numbers; limits, tilt and fades; the same in chunks as in one."""

import math

import numpy as np
import pytest
import torch

from pipelines import vivace_audio
from pipelines.vivace_audio import (
    MAKE_UP_DB,
    MAX_GAIN_DB,
    Leveller,
    compressor_gain,
    compressor_reach,
    loudness,
    peaks,
    true_peak_db,
    weighting,
)


def tone(hertz, seconds, rate, level_db=0.0, phase=0.0):
    times = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (10 ** (level_db / 20) * torch.sin(2 * math.pi * hertz * times + phase)).float()[None]


def level(
    audio, rate=24000, loudness_lufs=-16.0, peak=-1.0, tilt=0.0, into=0.0, out=0.0, loop=False, cuts=(), ratio=1.0
):
    leveller = Leveller(rate, audio.shape[1], loudness_lufs, peak, tilt, into, out, loop, ratio)
    return torch.cat(list(leveller.run(torch.tensor_split(audio, list(cuts), dim=1))), dim=1)


def test_loudness_is_that_of_the_standard():
    """EBU Tech 3341: a stereo 1 kHz tone at -23 dBFS is -23 LUFS, a tone in one channel 3 dB less; gates as stated."""
    for rate in (24000, 44100, 48000):
        one = tone(1000.0, 20, rate, -23.0)
        assert loudness(one.expand(2, -1), rate) == pytest.approx(-23.0, abs=0.1)
        assert loudness(one, rate) == pytest.approx(-26.01, abs=0.1)
        parts = [tone(1000.0, s, rate, d) for s, d in ((10, -72.0), (10, -36.0), (60, -23.0), (10, -36.0), (10, -72.0))]
        assert loudness(torch.cat(parts, 1).expand(2, -1), rate) == pytest.approx(-23.0, abs=0.1)  # case 4
    assert loudness(torch.zeros(1, 48000), 48000) == -math.inf
    assert math.isfinite(loudness(tone(1000.0, 0.1, 24000), 24000))


def test_the_weighting_is_the_tabulated_one_at_48_khz():
    """ITU-R BS.1770-4, tables 1 and 2."""
    z = torch.exp(-1j * math.pi * torch.linspace(0, 1, 200, dtype=torch.float64))
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    torch.testing.assert_close(weighting(48000, 200), (shelf * high).abs().square(), atol=1e-6, rtol=1e-5)


def test_true_peaks_lie_between_samples():
    wave = tone(12000.0, 0.1, 48000, 0.0, math.pi / 4)  # every sample at 0.707
    assert wave.abs().max() < 0.71 and true_peak_db(wave[:, 100:-100]) == pytest.approx(0.0, abs=0.4)
    assert true_peak_db(torch.zeros(1, 100)) == -math.inf
    assert (peaks(wave) >= wave.abs()[0] - 1e-6).all()


def test_it_is_as_loud_as_asked_and_never_clips():
    rng = np.random.default_rng(0)
    music = torch.from_numpy(rng.standard_normal((2, 5 * 24000)).astype(np.float32)) * 0.01
    for target in (-30.0, -20.0):
        assert loudness(level(music, loudness_lufs=target), 24000) == pytest.approx(target, abs=0.1)
    for spikes in (0.2, 0.9, 5.0):
        spiky = music.clone()
        spiky[:, ::4000] += spikes
        out = level(spiky, loudness_lufs=-14.0)
        assert out.abs().max() <= 1.0 and true_peak_db(out) <= -0.9
    torch.testing.assert_close(level(music, loudness_lufs=None), music, rtol=0, atol=0)
    assert not level(torch.zeros(1, 9600)).any()


def test_chunks_give_what_one_gives():
    """Only the gain may differ, as it is the first chunk's; here all chunks are alike."""
    times = torch.arange(48000) / 24000
    music = (torch.sin(2 * math.pi * 300 * times) * (1 + (times % 0.1 < 0.01) * 3))[None].float() * 0.3
    for settings in ({}, {"tilt": 6.0}, {"into": 0.5, "out": 0.7}, {"loudness_lufs": None, "tilt": -3.0}):
        whole = level(music, **settings)
        parts = level(music, cuts=(24000, 24100, 30000), **settings)
        assert parts.shape == whole.shape == music.shape
        difference = 20 * torch.log10(parts.abs().sum() / whole.abs().sum())
        assert abs(difference) < 0.2
        torch.testing.assert_close(parts * 10 ** (-difference / 20), whole, atol=0.02, rtol=0)
    again = [level(music, cuts=(24000, 24100, 30000), tilt=6.0) for _ in range(2)]
    torch.testing.assert_close(again[0], again[1], rtol=0, atol=0)


def test_tilt_is_straight_in_decibels():
    for tilt in (6.0, -12.0):
        for hertz in (100.0, 316.2, 1000.0, 3162.0, 10000.0):
            before = tone(hertz, 1.0, 24000, -30.0)
            after = level(before, loudness_lufs=None, tilt=tilt)
            gain = 20 * torch.log10(after[:, 6000:-6000].norm() / before[:, 6000:-6000].norm())
            assert gain == pytest.approx(tilt / 2 * math.log10(hertz / 1000), abs=0.35), hertz


def test_fades():
    out = level(torch.full((1, 24000), 0.5), loudness_lufs=None, into=0.25, out=0.5)
    assert out[0, 0] < 1e-4 and out[0, -1] < 1e-4 and (out[0, :6000].diff() > -1e-6).all()
    torch.testing.assert_close(out[0, 6001:11999], torch.full((5998,), 0.5))
    assert (out[0, 12000:].diff() < 1e-6).all()


def test_a_circle_is_levelled_as_a_circle():
    circle = tone(50.0, 1.0, 24000)  # whole periods
    circle[:, 23990:] *= 4.0
    out = level(circle, loop=True, tilt=3.0)
    turned = level(circle.roll(5000, 1), loop=True, tilt=3.0).roll(-5000, 1)
    torch.testing.assert_close(out, turned, atol=2e-3, rtol=0)


def drums(rate=24000, seconds=6.0):
    """Kick, snare and hat at 120 bpm: short attacks far above the mean."""
    rng, times = np.random.default_rng(0), np.arange(round(0.25 * rate)) / rate
    kick = np.sin(2 * np.pi * (50 * times + 8 * (1 - np.exp(-30 * times)))) * np.exp(-12 * times)
    snare, hat = (rng.standard_normal(len(times)) * np.exp(-fall * times) for fall in (25, 90))
    out = np.zeros(round(seconds * rate))
    for step in range(int(seconds * 4) - 1):
        at = round(step * rate / 4)
        out[at : at + len(times)] += (kick, 0.1 * hat, 0.5 * snare, 0.1 * hat)[step % 4]
    return torch.from_numpy(0.2 * out).float()[None]


def plucked(rate=24000, seconds=6.0):
    """Strings by Karplus and Strong 1983, struck three times a second."""
    rng, out = np.random.default_rng(1), np.zeros(round(seconds * rate))
    for note in range(int(seconds * 3)):
        period, at = round(rate / (110.0 * 2 ** (note * 5 % 12 / 12))), note * rate // 3
        string = np.zeros(len(out) - at)
        string[:period] = rng.uniform(-1, 1, min(period, len(string)))[: len(string)]
        for turn in range(period, min(len(string), 60 * period), period):
            last = string[turn - period : turn]
            new = 0.985 * 0.5 * (last + np.roll(last, 1))
            string[turn : turn + period] = new[: len(string) - turn]
        out[at:] += string
    return torch.from_numpy(0.1 * out).float()[None]


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("clip", [drums, plucked])
def test_what_the_limiter_takes_is_given_back(clip, loop):
    music = clip()
    for target in (-23.0, -18.0, -14.0):
        out = level(music, loudness_lufs=target, loop=loop)
        plain = music * 10 ** ((target - loudness(music, 24000)) / 20)
        assert true_peak_db(out) <= -0.9
        excess = true_peak_db(plain) + 1.0  # what the limit would take off the highest peak
        gain = Leveller(24000, music.shape[1], target, -1.0, 0.0, 0.0, 0.0, loop)
        list(gain.run([music]))
        more = 20 * math.log10(gain.gain * float(music.abs().max() / plain.abs().max()))
        assert -0.01 <= more <= MAKE_UP_DB + 0.01  # never crushed by more than is stated
        if excess <= 0.0:
            assert more == pytest.approx(0.0, abs=0.01)
        if more < MAKE_UP_DB - 0.01:
            assert loudness(out, 24000) == pytest.approx(target, abs=0.2), (target, excess)
        else:
            assert loudness(out, 24000) < target + 0.2


def test_limited_clips_miss_their_level_without_make_up():
    """The clips of the test above are peaky enough: the gain of the target alone leaves them too soft."""
    for clip, target in ((drums, -16.0), (plucked, -14.0)):
        music = clip()
        gain = 10 ** ((target - loudness(music, 24000)) / 20)
        leveller = Leveller(24000, music.shape[1], target, -1.0, 0.0, 0.0, 0.0, False)
        soft = leveller._limit(music, gain, peaks(music))
        assert loudness(soft, 24000) < target - 0.25
        assert abs(loudness(level(music, loudness_lufs=target), 24000) - target) < 0.2


def test_level_of_next_to_nothing():
    for size in (1, 2, 100):
        one = level(torch.full((1, size), 0.5), peak=-1.0)
        assert one.shape == (1, size) and torch.isfinite(one).all() and one.abs().max() <= 1.0
        assert not level(torch.zeros(2, size)).any()
    quiet = drums() * 0.02
    out = level(quiet, loudness_lufs=-10.0)
    torch.testing.assert_close(out, quiet * 10 ** (MAX_GAIN_DB / 20))  # the most that is added, and no make-up


def test_the_first_chunk_decides():
    """A stream and the same chunks at once have one gain, that of the first chunk's limited loudness."""
    music = drums()
    parts = level(music, loudness_lufs=-18.0, cuts=(48000, 90000))
    again = level(music, loudness_lufs=-18.0, cuts=(48000, 120000))
    torch.testing.assert_close(parts, again, atol=1e-6, rtol=0)
    assert loudness(parts[:, :48000], 24000) == pytest.approx(-18.0, abs=0.3)


def test_long_audio_is_measured_in_sections(monkeypatch):
    """In sections of 2 s and 10,000 samples as in one, and the weighting kept is no longer than a section."""
    music = torch.cat([drums() * 0.2, plucked(), drums()], dim=1)[:, :-1234]
    level_db, high = loudness(music, 24000), peaks(music)
    monkeypatch.setattr(vivace_audio, "SECTION_S", 2)
    monkeypatch.setattr(vivace_audio, "PEAK_SECTION", 10000)
    sizes, plain = [], vivace_audio.weighting
    monkeypatch.setattr(vivace_audio, "weighting", lambda rate, bins: sizes.append(bins) or plain(rate, bins))
    assert loudness(music, 24000) == pytest.approx(level_db, abs=1e-6) and sizes == [2 * 24000 + 1]
    torch.testing.assert_close(peaks(music), high, atol=1e-6, rtol=0)


def test_the_gain_of_the_whole_is_known_before_the_first_chunk():
    """Soft, then loud: measured first, the whole is as loud as asked for, in the same chunks."""
    music = torch.cat([drums() * 0.1, drums()], dim=1)
    chunks = list(torch.tensor_split(music, [6 * 24000], dim=1))
    leveller = Leveller(24000, music.shape[1], -20.0, -1.0, 2.0, 0.0, 0.0, False)
    leveller.measure(chunks)
    whole = torch.cat(list(leveller.run(chunks)), dim=1)
    assert loudness(whole, 24000) == pytest.approx(-20.0, abs=0.2) and true_peak_db(whole) <= -0.9
    assert loudness(level(music, loudness_lufs=-20.0, tilt=2.0, cuts=(6 * 24000,)), 24000) > -17.0


def uneven(seconds=12.0, rate=8000, every=4):
    """Notes of half a second with attacks, of which each fourth is 12 dB too loud; stereo."""
    note = torch.arange(rate // 2) / rate
    shape = torch.sin(2 * math.pi * 220 * note) * torch.exp(-2 * note) * (note / 0.002).clamp_max(1.0)
    loud = [4.0 if k % every == every - 1 else 1.0 for k in range(int(2 * seconds))]
    return 0.05 * torch.cat([gain * shape for gain in loud])[None] * torch.tensor([[1.0], [0.5]])


def over_median(audio, rate=8000):
    """dB of the loudest 100 ms over the median."""
    size = rate // 10
    power = audio[:, : audio.shape[1] // size * size].square().mean(0).unflatten(0, (-1, size)).mean(1)
    return 10 * math.log10(power.max() / power.median())


def test_the_compressor_evens_what_is_too_loud_and_keeps_attacks():
    music = uneven()
    plain, even = level(music, 8000), level(music, 8000, ratio=4.0)
    assert over_median(plain) > 13.5 and over_median(even) < 8.1
    assert loudness(even, 8000) == pytest.approx(-16.0, abs=0.2) and true_peak_db(even) <= -0.9
    torch.testing.assert_close(even[1], 0.5 * even[0], atol=1e-6, rtol=1e-5)  # left and right alike
    for start in range(3 * 4000, music.shape[1], 4 * 4000):  # crest within 100 ms of a loud note's attack
        before, after = (one[0, start : start + 800] for one in (music, even))
        crest = [float(one.abs().max() / one.square().mean().sqrt()) for one in (before, after)]
        assert crest[0] < crest[1] < 1.2 * crest[0]  # the gain comes down behind the attack
    torch.testing.assert_close(level(music, 8000, None, ratio=4.0), music, rtol=0, atol=0)  # as decoded


def test_the_compressor_leaves_steady_levels_and_rests_alone():
    """Whatever the level, music after a rest begins as it goes on, and a decay stays one."""
    steady = tone(440.0, 10, 8000, -20.0)
    gain = compressor_gain(steady, 8000, 4.0, False)
    assert gain.max() - gain.min() < 5e-3 and 20 * math.log10(gain.min()) > -0.6
    rest = torch.cat([steady, torch.zeros(1, 5 * 8000), steady], dim=1)
    assert 20 * math.log10(compressor_gain(rest, 8000, 4.0, False).min()) > -1.0
    assert compressor_gain(torch.zeros(2, 8000), 8000, 4.0, False).isfinite().all()
    for scale in (1e-3, 30.0):
        louder = compressor_gain(scale * uneven(), 8000, 4.0, False)
        torch.testing.assert_close(louder, compressor_gain(uneven(), 8000, 4.0, False), atol=1e-5, rtol=0)


def test_the_compressor_reaches_no_further_than_it_says():
    music, reach = uneven(20.0), compressor_reach(8000)
    other = music.clone()
    other[:, 80000:] *= 8.0
    gains = [compressor_gain(one, 8000, 4.0, False) for one in (music, other)]
    assert torch.equal(gains[0][: 80000 - reach], gains[1][: 80000 - reach])
    assert not torch.equal(gains[0][: 80000 - reach // 2], gains[1][: 80000 - reach // 2])


@pytest.mark.parametrize("cuts", [(60000,), (40001, 50007, 130123), tuple(range(1001, 160000, 10011))])
def test_chunks_are_compressed_as_the_whole(cuts):
    music = uneven(20.0)
    whole, parts = Leveller(8000, 160000, -30.0, -1.0, 0.0, 0.0, 0.0, False, 4.0), []
    chunks = list(torch.tensor_split(music, cuts, dim=1))
    whole.measure([*chunks])
    for given in ([music], chunks):
        leveller = Leveller(8000, 160000, -30.0, -1.0, 0.0, 0.0, 0.0, False, 4.0)
        leveller.gain = whole.gain
        parts.append(torch.cat(list(leveller.run(given)), dim=1))
    torch.testing.assert_close(parts[1], parts[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [8000, 47999, 12 * 8000 - 77])
def test_a_circle_is_compressed_as_a_circle(size):
    """Wherever it begins, and without a step at its seam: the gain moves there as slowly as elsewhere."""
    circle = uneven(13.0, every=3)[:, :size].clone()
    gain = compressor_gain(circle, 8000, 4.0, True)
    turned = compressor_gain(circle.roll(9000, 1), 8000, 4.0, True).roll(-9000)
    torch.testing.assert_close(gain, turned, atol=2e-2, rtol=0)
    assert abs(gain[0] - gain[-1]) <= gain.diff().abs().max() + 1e-6
    assert gain.diff().abs().max() < 2e-3  # a sample


@pytest.mark.parametrize("loop", [False, True])
def test_stems_share_the_compressor_of_their_sum(loop):
    music = uneven()
    parts = [music, 0.1 * tone(330.0, 12, 8000).expand(2, -1)]
    stems = Leveller(8000, music.shape[1], -20.0, -1.0, 2.0, 0.0, 0.0, loop, 4.0).level_parts(parts)
    mix = level(sum(parts), 8000, -20.0, tilt=2.0, loop=loop, ratio=4.0)
    torch.testing.assert_close(sum(stems), mix, atol=2 * 2.0**-16 + 1e-6, rtol=0)
    lone = level(parts[1], 8000, -20.0, tilt=2.0, loop=loop, ratio=4.0)
    assert (stems[1] / lone)[0, 100:-100].std() > 0.05  # not by its own level, which is steady


def test_one_level_of_compression_for_all_rates():
    for rate in (1000, 8000, 44100):
        out = level(uneven(rate=rate), rate=rate, ratio=4.0)
        assert over_median(out, rate) == pytest.approx(8.05, abs=0.05)
    for size in (1, 2, 79, 100):
        for loop in (False, True):
            assert level(torch.full((1, size), 0.5), rate=8000, loop=loop, ratio=4.0).isfinite().all()
