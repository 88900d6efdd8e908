"""What the network changes of a recording: gains of its spectra, and what lies above a narrow band; nothing else."""

import numpy as np
import pytest
import torch

from pipelines import restorer
from pipelines.restore import load_restorer, restore
from pipelines.restorer import NOISE_DB, NOISE_POWER, Restorer, find_edge, without
from tests.conftest import make_pipeline
from training.data import faults
from training.metrics.reconstruction import log_mel_distance

RATE = 8000  # of the tiny autoencoder


class Known(Restorer):
    """A restorer that knows by how many dB each fault lowers the spectra."""

    def __init__(self, fall_db: dict[str, float]):
        pipe = make_pipeline(audio_channels=2)
        super().__init__(pipe.vae, pipe.unet)
        self.fall_db = fall_db

    def look(self, block, name):
        *_, raw = super().look(block, name)
        before = torch.ones(2, self.vae.num_bins, block.shape[1] // self.vae.config.stft_hop)
        return before, 10 ** (-self.fall_db.get(name, 0.0) / 20) * before, raw


@pytest.fixture
def music() -> torch.Tensor:
    """3.3 s, two channels."""
    time = np.arange(round(3.3 * RATE)) / RATE
    rng = np.random.default_rng(0)
    tones = [
        sum(np.sin(2 * np.pi * f * time + p) * np.exp(-3 * (time % 0.7)) for f in (220, 660, 1320)) for p in (0, 1)
    ]
    return torch.from_numpy(0.1 * np.stack(tones) + 1e-3 * rng.standard_normal((2, len(time)))).float()


def test_without_takes_only_what_is_asked_into_account():
    unet = make_pipeline().unet
    latents = torch.randn(2, 4, 30, generator=torch.Generator().manual_seed(0))
    some, others = torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.tensor([[0.0, 1.0, 0.0]] * 2)
    with torch.no_grad():
        one, other = without(unet, latents, some), without(unet, latents, others)
        alone = without(unet, latents[:1], some[:1])
    assert one.shape == latents.shape and not torch.equal(one, other)
    torch.testing.assert_close(one[:1], alone)


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_gain_is_all_that_changes_block_by_block(channels, music, monkeypatch):
    sound = torch.cat([music, music[:1] * 0.5])[:channels]
    monkeypatch.setattr(restorer, "BLOCK", 20)
    monkeypatch.setattr(restorer, "OVERLAP", 6)
    torch.testing.assert_close(Known({}).treat(sound, RATE, "noise"), sound, atol=1e-5, rtol=0)
    torch.testing.assert_close(Known({"reverb": -60.0}).treat(sound, RATE, "reverb"), sound, atol=1e-5, rtol=0)
    for amount in (1.0, 0.5, 2.0):  # of a power of 1 the noise is what the music is not: the filter is its share
        made = Known({"noise": 3.0}).treat(sound, RATE, "noise", amount=amount)
        torch.testing.assert_close(made, 10 ** (-0.3 * NOISE_POWER * amount) * sound, atol=1e-3, rtol=0)


def test_what_lies_above_the_autoencoders_rate_stays():
    time = torch.arange(2 * 32000) / 32000
    high = 0.1 * torch.sin(2 * torch.pi * 12000 * time)[None]
    made = Known({"noise": 6.0}).treat(high + 0.1 * torch.sin(2 * torch.pi * 500 * time), 32000, "noise")
    spectrum = torch.fft.rfft(made).abs()[0] / (0.1 * len(time) / 2)
    assert abs(spectrum[24000] - 1) < 1e-3 and abs(spectrum[1000] - 10 ** (-0.6 * NOISE_POWER)) < 0.02


def test_only_what_lies_above_the_edge_is_added(music):
    treated = Known({}).treat(music, RATE, "band", 2000.0)
    change = torch.fft.rfft((treated - music) * torch.hann_window(music.shape[1])).abs()
    edge = round(2000 * music.shape[1] / RATE)
    assert change[:, : edge - 200].max() < 1e-2 * change[:, edge + 500 :].max()


def test_the_end_of_a_narrow_band_is_found():
    rng = np.random.default_rng(1)
    wide = rng.standard_normal((2, 3 * 44100)) * np.exp(-3 * (np.arange(3 * 44100) / 44100 % 0.5))
    wide = faults.filtered(wide, lambda f: 1 / (1 + (f / 2000) ** 2), 44100)
    assert find_edge(torch.from_numpy(wide).float(), 44100) is None
    for hertz in (3000.0, 8000.0, 12000.0):
        narrow = faults.band(wide, 44100, rng, hertz=hertz)(wide)
        found = find_edge(torch.from_numpy(narrow).float(), 44100)
        assert found is not None and 0.88 * hertz < found < 1.06 * hertz
    assert find_edge(torch.zeros(1, 3 * 44100), 44100) is None and find_edge(torch.ones(1, 1000), 44100) is None


def test_what_is_found_is_treated_and_nothing_else(music):
    sound = music.numpy()
    for known, names in (({"noise": 9.0, "reverb": 9.0}, ["noise"]), ({"noise": 0.5, "reverb": 9.0}, [])):
        made = restore(sound, RATE, only=("noise", "band"), figures=False, restorer=Known(known))
        assert [line.split(":")[0] for line in made.done if "level" not in line] == names and made.left == []
        assert bool(names) != np.array_equal(made.audio.numpy(), sound)
    assert np.array_equal(restore(sound, RATE, figures=False, only=(), restorer=Known({"noise": 9.0})).audio, sound)
    made = restore(sound, RATE, to="slightly drier", figures=False, only=(), restorer=Known({"reverb": 2.0}))
    assert "reverb: asked for" in made.done[0] and made.left == []
    assert restore(sound, RATE, figures=False).left == [
        "noise, band: not looked for, since the checkpoint has no restorer/"
    ]
    assert load_restorer("brighter", ("dc", "hum"), "no folder") is None  # nothing is loaded


def test_a_network_that_is_right_brings_a_noisy_clip_nearer(music):
    clean = music.numpy().astype(np.float64)
    noisy = faults.noise(clean, RATE, np.random.default_rng(3), snr_db=5.0)(clean)

    class Right(Known):
        def look(self, block, name):
            before, after = (self.vae.stft.forward(part).abs() for part in (block, self.truth))
            return before, after, None

    right = Right({})
    right.truth = torch.nn.functional.pad(music, (0, -music.shape[1] % right.vae.hop_length))
    assert right.noise_db(torch.from_numpy(noisy).float(), RATE) > NOISE_DB
    made = right.treat(torch.from_numpy(noisy).float(), RATE, "noise").numpy()
    pairs = [
        (log_mel_distance(a, c, RATE), log_mel_distance(b, c, RATE)) for a, b, c in zip(noisy, made, clean, strict=True)
    ]
    assert all(after < 0.5 * before for before, after in pairs)
