"""What an edit promises: level and true peak of what is made, loops that stay loops, the grid of our own files."""

import json
import math

import numpy as np
import pytest
import soundfile
import torch

from pipelines.commands.main import main as vivace
from pipelines.pipeline_vivace import find_beats, loudness, read_recipe, true_peak_db
from pipelines.vivace_audio import Edit, splice
from pipelines.vivace_sampling import kept_frames

FAST = {"num_inference_steps": 2, "seed": 1}
RATE = 8000


def music(seconds: float, rate: int = RATE, channels: int = 1, level: float = 0.1) -> torch.Tensor:
    """A chord and clicks, (channels, n)."""
    times = torch.arange(round(seconds * rate)) / rate
    chord = sum(torch.sin(2 * math.pi * hertz * times) for hertz in (220.0, 277.2, 329.6))
    return (level * (chord / 3 + 4.0 * (times % 0.5 < 0.002)))[None].repeat(channels, 1)


def edit_of(audio: torch.Tensor, mask: torch.Tensor, rate: int = RATE, loop: bool = False) -> Edit:
    return Edit(audio, rate, mask, 1.0, 2.0, 0.0, audio.shape[1], loop)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("hot", [0.2, 1.0, 5.0])
def test_what_is_made_is_as_loud_as_what_is_kept_and_no_higher(hot, channels):
    """However the network's level is off, and with peaks far above the limit."""
    rng = torch.Generator().manual_seed(0)
    audio = music(12.0, channels=channels)
    made = hot * 0.1 * torch.randn(1, audio.shape[1], generator=rng)
    made[:, ::2000] += 2.5 * hot  # 28 dB above the rest
    for regions in ([(4.0, 8.0)], [(0.0, 3.5), (9.0, 12.0)], [(0.0, 12.0)]):
        mask = torch.zeros(audio.shape[1], dtype=torch.bool)
        for first, last in regions:
            mask[round(first * RATE) : round(last * RATE)] = True
        out = splice(edit_of(audio, mask), made, RATE, -1.0)
        assert torch.equal(out[:, ~mask], audio[:, ~mask])
        assert true_peak_db(out) <= max(-1.0, true_peak_db(audio)) + 0.1
        wanted = loudness(audio if mask.all() else audio[:, ~mask], RATE)
        assert loudness(out[:, mask], RATE) == pytest.approx(wanted, abs=0.3)


def test_a_fade_of_two_loud_sounds_stays_below_the_limit():
    """Both at -1.5 dB and in phase: the sum of equal-power fades alone would reach +1.5 dB."""
    tone = 0.84 * torch.sin(2 * math.pi * 440.0 * torch.arange(4 * RATE) / RATE)[None]
    mask = torch.zeros(4 * RATE, dtype=torch.bool)
    mask[RATE : 2 * RATE] = True
    out = splice(edit_of(tone, mask), 2.0 * tone, RATE, -1.0)
    assert true_peak_db(out) <= -0.9 and torch.equal(out[:, ~mask], tone[:, ~mask])
    loud = splice(edit_of(tone, mask), 2.0 * tone, RATE, None)
    assert loud.abs().max() <= 1.0 and true_peak_db(loud) > -1.0


def test_the_input_s_own_peak_may_be_reached():
    """A master at -0.2 dBTP stays as it is; what is put in goes as high, and not beyond."""
    audio = music(8.0)
    audio = audio * (10 ** (-0.2 / 20) / 10 ** (true_peak_db(audio) / 20))
    mask = torch.zeros(audio.shape[1], dtype=torch.bool)
    mask[2 * RATE : 6 * RATE] = True
    made = 3.0 * torch.randn(1, audio.shape[1], generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    out = splice(edit_of(audio, mask), made, RATE, -6.0)
    assert -1.5 < true_peak_db(out[:, mask]) <= -0.1


def test_an_edit_by_the_pipeline_keeps_level_and_peak(tiny_pipeline):
    audio = music(8.0, channels=2).numpy()
    ask = {"audio": audio, "sampling_rate": RATE, "bpm": 120, "downbeat_s": 0.0, **FAST}
    for task in ({"strength": 0.7}, {"mask_s": [(2.0, 6.0)]}, {"extend_s": (0.0, 4.0)}):
        out = torch.from_numpy(tiny_pipeline("piano", **ask, **task).audios[0])
        made = out if "strength" in task else out[:, 2 * RATE : 6 * RATE] if "mask_s" in task else out[:, 8 * RATE :]
        assert loudness(made, RATE) == pytest.approx(loudness(torch.from_numpy(audio), RATE), abs=0.3), task
        assert true_peak_db(out) <= -0.9
    plain = [tiny_pipeline("piano", **ask, strength=0.7, normalize=n).audios[0] for n in (False, True)]
    assert np.abs(plain[0] - plain[1]).max() > 1e-3
    lower = tiny_pipeline("piano", **ask, strength=0.7, true_peak_dbtp=-12.0).audios[0]
    own = true_peak_db(torch.from_numpy(audio))
    assert true_peak_db(torch.from_numpy(lower)) <= max(-12.0, own) + 0.1


def steps_at_seam(audio: np.ndarray) -> float:
    """Rank of the step from the last sample to the first among all steps."""
    steps = np.abs(np.diff(audio[0]))
    return float((steps < abs(audio[0, 0] - audio[0, -1])).mean())


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_an_edited_circle_is_a_circle(tiny_pipeline, rate):
    """No place of it is an end: what goes over the seam is edited as what does not, turned."""
    audio = music(96 * 0.04, rate).numpy()
    ask = {"sampling_rate": rate, "loop": True, "mask_s": None, **FAST}
    for seed in range(3):
        out = tiny_pipeline("piano", **ask | {"audio": audio, "strength": 0.8, "seed": seed})
        assert out.audios[0].shape == audio.shape and steps_at_seam(out.audios[0]) < 0.99
        assert out.recipes[0]["arguments"]["loop"] is True
    mask = np.zeros(audio.shape[1], bool)
    mask[: rate // 2] = mask[-rate // 2 :] = True  # one second across the seam
    out = tiny_pipeline("piano", **ask | {"audio": audio, "mask_s": mask}).audios[0]
    np.testing.assert_array_equal(out[:, ~mask], audio[:, ~mask])
    assert (out[:, mask] != audio[:, mask]).mean() > 0.95 and steps_at_seam(out) < 0.99
    seam = np.concatenate([out[0, -rate // 20 :], out[0, : rate // 20]])  # and no fade to what was there
    old = np.concatenate([audio[0, -rate // 20 :], audio[0, : rate // 20]])
    assert np.corrcoef(seam, old)[0, 1] < 0.9


def test_a_run_across_the_seam_is_one_run():
    audio = music(2.0)
    mask = torch.zeros(2 * RATE, dtype=torch.bool)
    mask[:3000] = mask[-3000:] = True
    made = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    across = splice(edit_of(audio, mask, loop=True), made, RATE, -1.0)
    turned = splice(edit_of(audio.roll(5000, 1), mask.roll(5000), loop=True), made.roll(5000, 1), RATE, -1.0)
    torch.testing.assert_close(across.roll(5000, 1), turned, atol=1e-6, rtol=0)
    keep = kept_frames(edit_of(audio, mask, loop=True), 50, 25.0)  # 320 samples a frame; 9.4 of them masked at each end
    assert keep.tolist() == [False] * 11 + [True] * 28 + [False] * 11
    ends = torch.zeros(2 * RATE, dtype=torch.bool)
    ends[-10:] = True
    assert kept_frames(edit_of(audio, ends, loop=True), 50, 25.0).tolist() == [False] + [True] * 47 + [False] * 2
    assert kept_frames(edit_of(audio, ends), 50, 25.0).tolist() == [True] * 48 + [False] * 2


@pytest.fixture
def own_loop(tiny_pipeline, tmp_path):
    path = tmp_path / "loop.wav"
    tiny_pipeline("slow piano, 97 bpm, in D minor", bars=2, chords="Dm Gm", loop=True, seed=4).save(path)
    return path


def test_our_own_files_are_edited_with_their_grid(tiny_pipeline, own_loop):
    out = tiny_pipeline("drums", audio=own_loop, strength=0.5, **FAST)
    arguments, known = out.recipes[0]["arguments"], out.conditions[0]
    assert (known["bpm"], known["key"], known["time_signature"], known["chords"]) == (97, "D minor", "4/4", "Dm Gm")
    assert known["bars"] == 2 and arguments["loop"] is True and arguments["downbeat_s"] == 0.0
    # Extended, it is no loop, and the beats begin later.
    seen = []
    tiny_pipeline.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    longer = tiny_pipeline("drums", audio=own_loop, extend_s=(0.3, 1.0), **FAST)
    assert longer.recipes[0]["arguments"]["loop"] is False and longer.conditions[0]["bpm"] == 97
    grid = seen[0]["frame_cond"][0]
    phase = (torch.atan2(grid[0], grid[1]) / (2 * math.pi)) % 1.0
    expected = (((torch.arange(len(phase)) + 0.5) / 25.0 - 0.3) * 97 / 60) % 1.0
    torch.testing.assert_close((phase - expected + 0.5) % 1.0, torch.full_like(phase, 0.5), atol=1e-4, rtol=0)


def test_what_is_said_goes_before_the_recipe(tiny_pipeline, own_loop):
    def told(prompt="drums", **asked):
        out = tiny_pipeline(prompt, audio=own_loop, **{"strength": 0.5} | asked, **FAST)
        return out.conditions[0], out.recipes[0]["arguments"]

    known, arguments = told("drums in A major", loop=False)
    assert known["key"] == "A major" and known["bpm"] == 97 and arguments["loop"] is False
    known, arguments = told(bpm=120)
    assert known["bpm"] == 120 and known["chords"] is None and arguments["loop"] is False and known["key"] == "D minor"
    known, _ = told(chords="F C")
    assert known["chords"] == "F C" and known["bpm"] == 97
    with pytest.raises(ValueError, match="loop is True with extend_s"):
        told(loop=True, extend_s=(0, 1), strength=None)


def test_an_edited_file_and_an_output_carry_it_on(tiny_pipeline, own_loop, tmp_path):
    first = tiny_pipeline("drums", audio=own_loop, mask_s=[(1.0, 2.0)], **FAST)
    first.save(tmp_path / "edited.flac")
    again = tiny_pipeline("piano", audio=tmp_path / "edited.flac", strength=0.5, **FAST)
    by_output = tiny_pipeline("piano", audio=first, strength=0.5, **FAST)
    for out in (again, by_output):
        assert out.conditions[0]["bpm"] == 97 and out.conditions[0]["chords"] == "Dm Gm"
        assert out.recipes[0]["arguments"]["loop"] is True
    by_output.save(tmp_path / "twice.wav")
    replayed = tiny_pipeline.replay(tmp_path / "twice.wav", audio=first.audios[0])
    assert replayed.differences == []
    longer = tiny_pipeline("piano", audio=own_loop, extend_s=(0.25, 0.5), **FAST)
    longer.save(tmp_path / "longer.wav")
    third = tiny_pipeline("piano", audio=tmp_path / "longer.wav", strength=0.5, **FAST).recipes[0]["arguments"]
    assert third["downbeat_s"] == 0.25 and third["bpm"] == 97 and third["loop"] is False
    two = tiny_pipeline("piano", num_waveforms_per_prompt=2, duration_s=1.0, **FAST)
    with pytest.raises(ValueError, match="audio is an output of latents or of several pieces"):
        tiny_pipeline("piano", audio=two, strength=0.5)


def test_a_file_that_was_cut_since_keeps_no_downbeat(tiny_pipeline, own_loop):
    with soundfile.SoundFile(own_loop) as file:
        comment, samples = file.comment, file.read(dtype="int16", always_2d=True)
    with soundfile.SoundFile(own_loop, "w", RATE, 1, "PCM_16") as file:
        file.comment = comment
        file.write(samples[3000:])
    out = tiny_pipeline("drums", audio=own_loop, strength=0.5, **FAST)
    assert out.conditions[0]["bpm"] == 97 and out.conditions[0]["key"] == "D minor"
    assert out.conditions[0]["chords"] is None and out.recipes[0]["arguments"]["loop"] is False


def clicks(bpm: float, seconds: float, first_s: float = 0.0, accent: int = 4) -> torch.Tensor:
    """A click on each beat, the first of each bar with a low thump."""
    times = torch.arange(round(seconds * RATE)) / RATE
    beats = (times - first_s) * bpm / 60.0
    near, down = (beats % 1.0) * 60.0 / bpm, (beats % accent) * 60.0 / bpm
    noise = torch.randn(len(times), generator=torch.Generator().manual_seed(0))
    out = 0.2 * noise * torch.exp(-near * 80) + 0.8 * torch.sin(2 * math.pi * 70 * down) * torch.exp(-down * 30)
    return (out * (times >= first_s))[None]


@pytest.mark.parametrize(
    ("bpm", "seconds", "first_s"), [(60, 3.2, 0.5), (30, 3.1, 0.7), (20, 3.0, 0.0), (100, 8.0, 0.4)]
)
def test_the_downbeat_lies_within_the_audio(bpm, seconds, first_s):
    found = find_beats(clicks(bpm, seconds, first_s), RATE, bpm, 4)
    assert found is not None and found[0] == bpm and 0.0 <= found[1] < seconds
    assert found[1] == pytest.approx(first_s, abs=0.05)


def test_a_stated_tempo_is_not_rounded_and_a_loop_heard_has_whole_bars(tiny_pipeline):
    audio = clicks(100.0163, 6.0).numpy()
    out = tiny_pipeline("piano", audio=audio, sampling_rate=RATE, strength=0.5, bpm=100.0163, **FAST)
    assert out.conditions[0]["bpm"] == 100.0163
    audio = clicks(97.0, 16 * 60.0 / 97.0).numpy()  # four bars
    out = tiny_pipeline("piano", audio=audio, sampling_rate=RATE, strength=0.5, loop=True, **FAST)
    assert out.conditions[0]["bars"] == 4 and out.conditions[0]["bpm"] == pytest.approx(97.0, abs=0.01)


def test_the_command_edits_a_loop_as_one(tiny_checkpoint, tmp_path, capsys):
    loop, out, plain = (str(tmp_path / name) for name in ("loop.flac", "out.wav", "plain.wav"))
    place = ["--checkpoint", str(tiny_checkpoint), "--prompt"]
    vivace(["generate", *place, "piano, 120 bpm, A minor", "--bars", "1", "--loop", "--out", loop])
    capsys.readouterr()
    edit = ["edit", *place, "drums", "--audio", loop, "--strength", "0.5", "--json"]
    assert vivace([*edit, "--out", out]) == 0
    understood = json.loads(capsys.readouterr().out)["understood"]
    assert (understood["bpm"], understood["key"], understood["bars"]) == (120, "A minor", 1)
    assert vivace([*edit, "--no-loop", "--out", plain]) == 0
    loops = [read_recipe(path)["arguments"]["loop"] for path in (out, plain)]
    assert loops == [True, False]
    soundfile.write(tmp_path / "none.wav", music(2.0)[0].numpy(), RATE)
    edit[edit.index(loop)] = str(tmp_path / "none.wav")
    assert vivace([*edit, "--loop", "--out", out]) == 0
    assert read_recipe(out)["arguments"]["loop"] is True
