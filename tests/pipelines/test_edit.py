"""Audio in: what is kept comes back bit for bit, whatever the rate, the channels and the mask."""

import numpy as np
import pytest
import soundfile
import torch

from pipelines.vivace_audio import fit_circle, make_edit, read_mask, resample
from pipelines.vivace_sampling import kept_frames

FAST = {"num_inference_steps": 2, "seed": 1}


def sound(samples, channels=1, seed=0):
    """Noise and a tone, (channels, samples) fp32, at times beyond full scale."""
    rng = np.random.default_rng(seed)
    tone = np.sin(np.arange(samples) * 0.05 * (1 + np.arange(channels)[:, None]))
    return (0.7 * tone + 0.2 * rng.standard_normal((channels, samples))).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16001, 44100])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_what_is_kept_is_kept_bit_for_bit(tiny_pipeline, rate, channels):
    samples = rate + 17
    audio = sound(samples, channels)
    rng = np.random.default_rng(rate + channels)
    for case in range(4):
        mask = np.zeros(samples, dtype=bool)
        if case == 0:
            mask[rng.integers(samples)] = True  # one sample
        elif case == 1:
            mask[: rng.integers(1, samples)] = True  # from the first sample
        elif case == 2:
            mask[-rng.integers(1, samples) :] = True  # to the last
        else:
            for _ in range(5):
                first = rng.integers(samples)
                mask[first : first + rng.integers(1, samples // 3)] = True
        out = tiny_pipeline("piano", audio=audio, sampling_rate=rate, mask_s=mask, **FAST)
        assert out.sampling_rate == rate and out.audios.shape == (1, channels, samples)
        np.testing.assert_array_equal(out.audios[0][:, ~mask], audio[:, ~mask])
        if mask.sum() > 50 and not mask.all():
            assert (out.audios[0][:, mask] != audio[:, mask]).mean() > 0.9
            assert np.abs(out.audios[0][:, mask]).max() <= 1.0


def test_regions_in_seconds_and_their_borders(tiny_pipeline):
    audio = sound(8000)[0]
    out = tiny_pipeline("piano", audio=audio, sampling_rate=8000, mask_s=[(0.2, 0.4), (0.3, 0.5), (0.9, 1.0)], **FAST)
    changed = out.audios[0, 0] != audio
    assert not changed[:1600].any() and not changed[4000:7200].any()
    assert changed[1600:4000].mean() > 0.95 and changed[7200:].mean() > 0.95
    # The fade begins at what was there: the first made sample is nearly the old one.
    old, new = audio[1600], out.audios[0, 0, 1600]
    assert abs(new - old) < 0.1 and abs(out.audios[0, 0, 3999] - audio[3999]) < 0.1


def test_extension_keeps_the_middle(tiny_pipeline):
    audio = sound(11025, 2)
    for before, after in ((0.5, 0.0), (0.0, 1.0), (0.25, 0.75)):
        out = tiny_pipeline("piano", audio=audio, sampling_rate=11025, extend_s=(before, after), **FAST)
        first = round(before * 11025)
        assert out.audios.shape[-1] == first + 11025 + round(after * 11025)
        np.testing.assert_array_equal(out.audios[0][:, first : first + 11025], audio)
        assert np.abs(out.audios[0][:, :first]).sum() + np.abs(out.audios[0][:, first + 11025 :]).sum() > 0
        assert out.conditions[0]["duration_s"] == pytest.approx(1.0 + before + after, abs=1e-3)


def test_strength_0_is_the_input_and_1_ignores_it(tiny_pipeline):
    audio = sound(9001, 2)
    same = tiny_pipeline("piano", audio=audio, sampling_rate=16000, strength=0, seed=1)
    np.testing.assert_array_equal(same.audios[0], audio)
    others = [0.2 * sound(8000, seed=s)[0] for s in (1, 2)]  # soft enough for no limiter
    anew = [
        tiny_pipeline("piano", audio=a, sampling_rate=8000, strength=1, bpm=90, downbeat_s=0, **FAST) for a in others
    ]
    plain = tiny_pipeline("piano", bpm=90, duration_s=1.0, normalize=False, **FAST).audios[0]
    shape = [a.audios[0] / np.abs(a.audios[0]).max() for a in anew]  # each comes back at its input's level
    np.testing.assert_allclose(shape[0], shape[1], atol=1e-3)
    np.testing.assert_allclose(shape[0], plain / np.abs(plain).max(), atol=1e-3)


def test_strength_takes_its_share_of_the_steps(tiny_pipeline):
    calls = []
    tiny_pipeline.unet.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(float(args[1][0])), with_kwargs=True
    )
    tiny_pipeline("piano", audio=sound(8000), sampling_rate=8000, strength=0.4, num_inference_steps=10, seed=1)
    np.testing.assert_allclose(calls, [400, 300, 200, 100], atol=1e-3)
    assert tiny_pipeline.num_timesteps == 4
    calls.clear()
    tiny_pipeline.scheduler.register_to_config(shift=2.0)
    tiny_pipeline.scheduler.set_shift(2.0)
    tiny_pipeline("piano", audio=sound(8000), sampling_rate=8000, strength=0.4, num_inference_steps=10, seed=1)
    # 0.4 is 0.25 shifted by 2: steps are longer where there is less noise, the first stays where it is asked for.
    np.testing.assert_allclose(
        calls, [400, 1000 * 0.375 / 1.1875, 1000 * 0.25 / 1.125, 1000 * 0.125 / 1.0625], atol=1e-3
    )


def test_what_the_network_is_given(tiny_pipeline):
    """Kept frames come with their latents and without the mask; those beside a border are made anew."""
    seen = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    audio = sound(8000)
    tiny_pipeline("piano", audio=audio, sampling_rate=8000, mask_s=[(0.4, 0.8)], num_inference_steps=1, seed=1)
    told = seen[0]["frame_cond"]
    mask, given = told[0, 22], told[0, 23:]
    assert mask.tolist() == [0.0] * 9 + [1.0] * 12 + [0.0] * 4  # 25 frames of 0.04 s; 10 to 19 are masked
    assert not given[:, 9:21].any() and given[:, :9].abs().sum(0).min() > 0
    torch.testing.assert_close(told[0, 22:], told[1, 22:])  # the unconditional half knows what is kept, too
    latents = tiny_pipeline("piano", audio=audio, sampling_rate=8000, mask_s=[(0.4, 0.8)], output_type="latent", **FAST)
    torch.testing.assert_close(latents.audios[0][:, mask == 0], given[:, mask == 0], rtol=0, atol=0)


def test_files_and_batches(tiny_pipeline, tmp_path):
    audio = sound(11025, 2)
    soundfile.write(tmp_path / "in.wav", audio.T, 11025, subtype="FLOAT")
    edit = {"mask_s": [(0.3, 0.6)], **FAST}
    by_array = tiny_pipeline("piano", audio=audio, sampling_rate=11025, **edit).audios
    np.testing.assert_array_equal(tiny_pipeline("piano", audio=tmp_path / "in.wav", **edit).audios, by_array)
    np.testing.assert_array_equal(tiny_pipeline("piano", audio=str(tmp_path / "in.wav"), **edit).audios, by_array)
    tensor = torch.from_numpy(audio)
    np.testing.assert_array_equal(tiny_pipeline("piano", audio=tensor, sampling_rate=11025, **edit).audios, by_array)
    two = tiny_pipeline(
        ["piano", "drums"], audio=[audio, audio[:, :8000]], sampling_rate=11025, **edit | {"seed": [1, 2]}
    )
    np.testing.assert_allclose(two.audios[0], by_array[0], atol=1e-5)
    assert two.audios[1].shape == (2, 8000)
    whole = (audio[0] * 20000).astype(np.int16)
    kept = tiny_pipeline("piano", audio=whole, sampling_rate=11025, **edit).audios[0, 0, :3000]
    np.testing.assert_array_equal(np.round(kept * 32768).astype(np.int16), whole[:3000])


def test_resampling_is_a_band_limited_change_of_rate():
    for rate, new in ((8000, 11025), (44100, 24000), (24000, 44100), (16001, 8000)):
        times, other = np.arange(rate) / rate, np.arange(new) / new
        for hertz in (100.0, 0.4 * min(rate, new)):
            wave = torch.from_numpy(np.sin(2 * np.pi * hertz * times).astype(np.float32))[None]
            out = resample(wave, rate, new)
            assert out.shape[1] == new
            middle = slice(new // 4, 3 * new // 4)
            expected = np.sin(2 * np.pi * hertz * other)
            np.testing.assert_allclose(out[0, middle], expected[middle], atol=2e-3)
    high = torch.from_numpy(np.sin(2 * np.pi * 15000 * np.arange(44100) / 44100).astype(np.float32))[None]
    assert resample(high, 44100, 24000)[0, 3000:-3000].abs().max() < 1e-3  # above the new Nyquist frequency
    assert resample(torch.ones(2, 1), 44100, 24000).shape == (2, 1)


def test_a_circle_stays_a_circle():
    for samples, wanted in ((960, 1000), (1000, 960), (999, 1001), (500, 500)):
        turns = torch.arange(samples) / samples
        circle = (torch.sin(2 * torch.pi * 5 * turns) + 0.5 * torch.cos(2 * torch.pi * 31 * turns))[None]
        turns = torch.arange(wanted) / wanted
        expected = (torch.sin(2 * torch.pi * 5 * turns) + 0.5 * torch.cos(2 * torch.pi * 31 * turns))[None]
        torch.testing.assert_close(fit_circle(circle, wanted), expected, atol=1e-4, rtol=0)


def test_masks():
    mask = read_mask([(0.25, 0.5), (0.4, 0.6)], 100, 100)
    assert mask.nonzero()[:, 0].tolist() == list(range(25, 60))
    assert read_mask([(0.5, 0.5001)], 100, 100).sum() == 1  # at least one sample
    assert read_mask([(0.9999, 1.0)], 100, 100).nonzero().tolist() == [[99]]
    edit = make_edit(sound(100), 1000, None, [(0.05, 0.06)], None, 600.0)
    keep = kept_frames(edit, 12, 100.0)  # 10 samples a frame; the last two frames lie beyond the end
    assert keep.tolist() == [True] * 4 + [False] * 3 + [True] * 3 + [False] * 2


A = {"audio": np.zeros(8000, np.float32), "sampling_rate": 8000}
BAD = [
    ({**A}, "give strength, mask_s or extend_s"), ({**A, "strength": 1.5}, "strength is 1.5"),
    ({**A, "strength": -0.1}, "strength is -0.1"), ({**A, "mask_s": []}, "mask_s is empty"),
    ({**A, "mask_s": [(0.5, 0.2)]}, "mask_s has the region"), ({**A, "mask_s": [(-1, 0.2)]}, "mask_s has the region"),
    ({**A, "mask_s": [(0.5, 9)]}, "the audio is 1.000 s long"),
    ({**A, "mask_s": [(0.1, np.nan)]}, "mask_s has the region"),
    ({**A, "mask_s": np.zeros(8000, bool)}, "False everywhere"), ({**A, "mask_s": np.ones(9, bool)}, "array of shape"),
    ({**A, "extend_s": (0, 0)}, "more than 0 s"), ({**A, "extend_s": 4}, "extend_s is 4"),
    ({**A, "extend_s": (-1, 0)}, "extend_s is -1"),
    ({**A, "extend_s": (0, 1), "strength": 0.5}, "strength is 0.5 with"),
    ({**A, "strength": 1, "sampling_rate": None}, "sampling_rate is None"),
    ({**A, "strength": 1, "sampling_rate": 10}, "sampling_rate is 10"),
    ({**A, "extend_s": (0, 1), "loop": True}, "loop is True with extend_s"),
    ({**A, "strength": 1, "loop": True, "bpm": 97}, "a loop with a tempo has whole bars"),
    ({**A, "strength": 1, "tilt_db": 3.0}, "tilt_db is 3.0 with audio"),
    ({**A, "strength": 1, "loudness_lufs": -14}, "loudness_lufs is -14 with audio"),
    ({**A, "strength": 1, "fade_out_s": 0.5}, "fade_out_s is 0.5 with audio"),
    ({**A, "strength": 1, "duration_s": 3}, "audio and its extension"),
    ({**A, "strength": 1, "bars": 4, "bpm": 90}, "4 bars of 4/4 at 90 bpm last 10.667 s"),
    ({**A, "strength": 1, "audio": np.zeros(0, np.float32)}, "at least one sample"),
    ({**A, "strength": 1, "audio": np.full(8000, np.nan, np.float32)}, "8000 values that are not finite"),
    ({**A, "strength": 1, "audio": np.zeros((8000, 200), np.float32)}, "at most 64 channels"),
    ({**A, "strength": 1, "audio": np.zeros(8000, np.int64)}, "dtype torch.int64"),
    ({**A, "strength": 1, "audio": {"a": 1}}, "audio is a dict"),
    ({"audio": "no/such.wav", "strength": 1}, "no such file"),
    ({**A, "strength": 1, "audio": [A["audio"]] * 2}, "audio has 2 entries for 1 prompts"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_input(tiny_pipeline, given, words):
    with pytest.raises(ValueError, match=words) as caught:
        tiny_pipeline(**{"prompt": "piano", **given})
    assert "\n" not in str(caught.value)


def test_files_that_will_not_do(tiny_pipeline, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF____WAVEfmt nonsense")
    with pytest.raises(ValueError, match="cannot be read"):
        tiny_pipeline("piano", audio=tmp_path / "broken.wav", strength=1)
    with open(tmp_path / "huge.wav", "wb") as file:
        file.truncate(8 * 2**30)  # sparse: refused before a byte is read
    with pytest.raises(ValueError, match=r"of 8\.0 GiB; allowed: up to 1 GiB"):
        tiny_pipeline("piano", audio=tmp_path / "huge.wav", strength=1)
    soundfile.write(tmp_path / "long.flac", np.zeros(1000 * 700, np.float32), 1000)
    with pytest.raises(ValueError, match="of 700 s; allowed: up to 600 s"):
        tiny_pipeline("piano", audio=tmp_path / "long.flac", strength=1)


def test_a_region_may_end_where_the_audio_ends_to_half_a_sample():
    """Four bars at 122 bpm end at 7.86885 s, between two samples."""
    samples, end_s = 188852, 16 * 60.0 / 122.0
    assert samples / 24000 < end_s
    assert read_mask([(end_s / 2, end_s)], samples, 24000)[-1]
    with pytest.raises(ValueError, match=r"but the audio is 7\.869 s long"):
        read_mask([(1.0, end_s + 1 / 24000)], samples, 24000)
