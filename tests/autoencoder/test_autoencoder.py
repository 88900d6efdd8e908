"""AutoencoderVivace: lengths, spectra, phase, posterior, stereo, files, bad input."""

import math

import pytest
import torch

from autoencoder.autoencoder_vivace import AutoencoderVivace, DiagonalGaussian
from tests.helpers.spectra import magnitude_to_audio

TINY = {"dim": 16, "encoder_layers": 1, "decoder_layers": 1, "latent_channels": 4}


@pytest.fixture
def vae() -> AutoencoderVivace:
    torch.manual_seed(0)
    return AutoencoderVivace(**TINY).eval()


def tone(samples: int, hertz: float = 440.0, rate: int = 24000) -> torch.Tensor:
    return 0.5 * torch.sin(2.0 * math.pi * hertz * torch.arange(samples) / rate)[None, None]


@pytest.mark.parametrize("samples", [1, 479, 480, 960, 961, 5000, 24000])
def test_any_length_comes_back_at_its_own_length(vae, samples):
    audio = torch.randn(2, 1, samples).clamp(-1, 1)
    with torch.no_grad():
        latents = vae.encode(audio).latent_dist.mode()
        assert latents.shape == (2, 4, math.ceil(samples / 960))
        assert vae.decode(latents).sample.shape == (2, 1, latents.shape[2] * 960)
        assert vae(audio).sample.shape == audio.shape


def test_stft_inverts_to_float_precision(vae):
    audio = torch.randn(2, 9600)
    assert torch.allclose(vae.stft.inverse(vae.stft.forward(audio)), audio, atol=1e-5)


def test_full_scale_sine_is_zero_db(vae):
    spectrum = vae.stft.forward(2.0 * tone(9600, hertz=1000.0)[0]).abs()
    assert spectrum[..., 5:-5].max().item() == pytest.approx(1.0, abs=0.01)


def test_features_and_magnitudes_are_inverse_and_floored(vae):
    audio = tone(9600)
    features = vae.audio_to_features(audio)
    assert features.shape == (1, 10, 2 * vae.num_bins)
    magnitude = vae.features_to_spectra(features).channels.abs()
    assert torch.allclose(magnitude[:, 0], vae.stft.forward(audio[:, 0]).abs(), atol=1e-5)
    assert torch.allclose(vae.audio_to_features(torch.zeros(1, 1, 960)), torch.tensor(-1.0), atol=1e-5)


def test_phase_iteration_agrees_with_the_magnitudes(vae):
    """Spectral convergence falls with iterations and ends near the signal, without the phase being given."""
    time = torch.arange(48000) / 24000
    audio = sum(0.1 * torch.sin(2 * math.pi * f * time) for f in (220.0, 277.2, 330.0, 880.0))[None, None]
    magnitude = vae.stft.forward(audio[:, 0]).abs()[:, None]

    def distance(iterations: int) -> float:
        decoded = magnitude_to_audio(vae, magnitude, iterations)
        return ((vae.stft.forward(decoded[:, 0]).abs() - magnitude[:, 0]).norm() / magnitude.norm()).item()

    far, near, nearest = distance(0), distance(4), distance(16)
    assert far > near > nearest
    assert nearest < 0.2


def test_decoding_is_repeatable_and_shifts_with_its_period(vae):
    """Latents moved by 24 frames (48 STFT frames, the period of the first phase) give the audio moved as much."""
    latents = torch.randn(1, 4, 96)
    with torch.no_grad():
        whole = vae.decode(latents).sample
        assert torch.equal(whole, vae.decode(latents).sample)
        later = vae.decode(latents[:, :, 24:]).sample
    context = 40 * 960  # past the receptive field of the blocks and the phase iteration
    assert torch.allclose(whole[..., 24 * 960 + context :], later[..., context:], atol=1e-4)


def test_posterior():
    posterior = DiagonalGaussian(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5))
    assert torch.allclose(posterior.kl(), torch.zeros(2))
    generator = torch.Generator().manual_seed(0)
    first = posterior.sample(generator)
    assert torch.equal(first, posterior.sample(torch.Generator().manual_seed(0)))
    assert DiagonalGaussian(torch.ones(1, 3, 5), torch.zeros(1, 3, 5)).kl().item() == pytest.approx(0.5)


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    vae = AutoencoderVivace(**TINY)
    with torch.no_grad():  # wake the silent branches
        vae.encoder_out.weight.normal_()
        vae.decoder_out.weight.normal_()
    features = vae.audio_to_features(torch.randn(2, 1, 9600) * 0.1)
    posterior = vae.encode_features(features)
    (vae.decode_features(posterior.sample()) - features).square().mean().add(posterior.kl().mean()).backward()
    silent = [name for name, p in vae.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_stereo_keeps_an_amplitude_panned_image():
    vae = AutoencoderVivace(audio_channels=2, **TINY).eval()
    mono = tone(48000, 330.0)
    stereo = torch.cat([mono, 0.25 * mono], dim=1)
    magnitude = vae.stft.forward(stereo.flatten(0, 1)).abs().unflatten(0, (1, 2))
    decoded = magnitude_to_audio(vae, magnitude)[..., 4800:-4800]
    left, right = decoded[0]
    assert (right.norm() / left.norm()).item() == pytest.approx(0.25, rel=0.02)
    assert torch.corrcoef(torch.stack([left, right]))[0, 1] > 0.99
    assert vae(stereo).sample.shape == stereo.shape


def test_saved_weights_load_equal(vae, tmp_path):
    vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    vae.save_pretrained(tmp_path)
    loaded = AutoencoderVivace.from_pretrained(tmp_path).eval()
    latents = torch.randn(1, 4, 8)
    with torch.no_grad():
        assert torch.equal(vae.decode(latents).sample, loaded.decode(latents).sample)
    assert loaded.config.latents_std == [1.0] * 4


@pytest.mark.parametrize(
    "audio",
    [
        torch.zeros(1, 2, 960),
        torch.zeros(1, 1, 0),
        torch.zeros(1, 960),
        torch.zeros(1, 1, 960, dtype=torch.int16),
        torch.full((1, 1, 960), float("nan")),
        torch.full((1, 1, 960), float("inf")),
    ],
)
def test_bad_audio_is_named(vae, audio):
    with pytest.raises(ValueError, match="audio has"):
        vae.encode(audio)


def test_bad_latents_and_sizes_are_named(vae):
    with pytest.raises(ValueError, match="latents have shape"):
        vae.decode(torch.zeros(1, 5, 3))
    with pytest.raises(ValueError, match="stft_hop"):
        AutoencoderVivace(hop_length=1000)
    with pytest.raises(ValueError, match="audio_channels is 3"):
        AutoencoderVivace(audio_channels=3)


@pytest.mark.parametrize(
    "audio",
    [
        torch.zeros(1, 1, 9600),
        torch.nn.functional.pad(torch.ones(1, 1, 1), (4800, 4799)),
        torch.rand(1, 1, 9600) * 2 - 1,
        2.0 * tone(9600, 20.0),
        2.0 * tone(9600, 11000.0),
    ],
)
def test_extremes_stay_finite(vae, audio):
    with torch.no_grad():
        decoded = vae(audio).sample
        direct = magnitude_to_audio(vae, vae.stft.forward(audio[:, 0]).abs()[:, None])
    assert torch.isfinite(decoded).all()
    # The waveform's crest may change with its phase, its power may not.
    assert direct.square().mean().sqrt().item() == pytest.approx(audio.square().mean().sqrt().item(), rel=0.3, abs=0.01)


SHIPPED_SECONDS = torch.arange(88200) / 44100.0
SECONDS = torch.arange(48000) / 24000


@pytest.mark.parametrize(
    ("audio", "peak"),
    [
        (torch.zeros(88200), 0.005),
        (torch.nn.functional.pad(torch.ones(1), (44100, 44099)), 1.0),
        (torch.rand(88200, generator=torch.Generator().manual_seed(0)) * 2 - 1, 2.5),
        (torch.sin(2 * math.pi * 20.0 * SHIPPED_SECONDS), 1.25),
        (torch.sin(2 * math.pi * 11000.0 * SHIPPED_SECONDS), 1.0),
        (torch.sign(torch.sin(2 * math.pi * 440.0 * SHIPPED_SECONDS)), 6.0),
    ],
    ids=["silence", "click", "full-scale noise", "20 Hz", "11 kHz", "full-scale square wave"],
)
@pytest.mark.parametrize("side", ["both", "left"])
def test_what_is_no_music_does_not_blow_up_the_shipped_weights(audio, peak, side):
    """None of it is like what they were trained on. `decode` may overshoot, encoding and decoding in one call not."""
    vae = AutoencoderVivace.from_pretrained("checkpoints/small/vae").eval()
    mean, std = (torch.tensor(values)[None, :, None] for values in (vae.config.latents_mean, vae.config.latents_std))
    audio = torch.stack([audio, audio if side == "both" else torch.zeros_like(audio)])[None]
    with torch.no_grad():
        latents = vae.encode(audio).latent_dist.mode()
        decoded, whole = vae.decode(latents).sample, vae(audio).sample
    # Latents are divided by a fifth of the deviation where most hangs on a channel (`channel_scales`), elsewhere by it.
    assert ((latents - mean) / std).abs().max() < 20.0
    assert decoded.isfinite().all() and decoded.abs().max() < peak
    assert whole.abs().max() <= 1.0 and torch.equal(whole, decoded.clamp(-1.0, 1.0)[..., : whole.shape[-1]])


def test_no_bin_is_louder_than_audio_can_be(vae):
    """The largest magnitude of audio in [-1, 1] is 2, at 0 Hz, and is kept; louder features give no more."""
    features = vae.audio_to_features(torch.ones(1, 1, 9600))
    kept = vae.features_to_spectra(features).channels.abs()
    assert kept[..., 2:-2].amax().item() == pytest.approx(2.0, rel=1e-3)
    assert vae.features_to_spectra(features + 5.0).channels.abs().amax() == 2.0
