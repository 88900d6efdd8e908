"""AutoencoderVivace with bands, a stereo image, a long window and phase gradients: sound, image, tiles, old weights."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from autoencoder.autoencoder_vivace import AutoencoderVivace, Stft
from autoencoder.losses import FeatureLoss
from tests.helpers.spectra import magnitude_to_audio

RATE, HOP = 8000, 320
STEREO = {
    "sampling_rate": RATE, "audio_channels": 2, "hop_length": HOP, "stft_size": 480, "stft_hop": 160, "dim": 16,
    "encoder_layers": 2, "decoder_layers": 2, "latent_channels": 4, "phase_iterations": 3, "first_phase": "gradient",
    "fine_hertz": 1000.0, "stereo_bands": 12, "low_size": 960, "low_hertz": 400.0, "low_iterations": 2,
}  # fmt: skip


def stereo(**settings) -> AutoencoderVivace:
    """With every branch awake: at the start encoder and decoder are their linear paths, which see no neighbours."""
    torch.manual_seed(0)
    vae = AutoencoderVivace(**STEREO | settings).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    return vae


def sine(hertz: float, seconds: float = 4.0, rate: int = RATE) -> torch.Tensor:
    return 0.3 * torch.sin(2.0 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


def through_features(vae: AutoencoderVivace, audio: torch.Tensor) -> torch.Tensor:
    """Audio (channels, samples) decoded from its own features, without the network."""
    with torch.no_grad():
        spectra = vae.features_to_spectra(vae.audio_to_features(audio[None]))
        return vae._search(spectra)[0]


def loudest(audio: torch.Tensor, rate: int = RATE) -> float:
    """Frequency of the strongest partial, by a parabola through three bins of its log spectrum."""
    size = 1 << (len(audio) - 1).bit_length() + 2
    power = torch.fft.rfft(audio * torch.hann_window(len(audio)), n=size).abs().clamp_min(1e-12).log()
    k = int(power.argmax())
    low, mid, high = power[k - 1 : k + 2].tolist()
    return (k + 0.5 * (low - high) / (low - 2 * mid + high)) * rate / size


@pytest.mark.parametrize("hertz", [210.0, 441.3, 1000.0, 1234.5])
def test_phase_gradients_follow_a_sine(hertz):
    """From the magnitudes of a sine alone, without an iteration, comes that sine at its own pitch and level."""
    stft = Stft(480, 160)
    magnitude = stft.forward(sine(hertz)[None]).abs()
    first = torch.polar(torch.ones(magnitude.shape[1:]), torch.zeros(magnitude.shape[1:]))
    found = stft.inverse(
        magnitude * stft.gradient_phase(magnitude, first, [0], 160.0 * np.arange(magnitude.shape[2]), 160.0)
    )[0, 480:-480]
    assert abs(1200.0 * math.log2(loudest(found) / hertz)) < 5.0
    again = stft.forward(found[None]).abs()[0, :, 3:-3]
    distance = (again - magnitude[0, :, 6:-6]).norm() / again.norm()
    assert distance < 0.05


def test_phase_gradients_need_fewer_iterations():
    time = torch.arange(48000) / 24000
    audio = sum(
        torch.sin(2 * math.pi * f * (time + 0.003 * torch.sin(6.0 * time))) for f in (220.0, 277.2, 331.0, 880.0)
    )
    distances = {}
    for first, iterations in (("irregular", 16), ("gradient", 4), ("gradient", 0)):
        vae = AutoencoderVivace(dim=16, encoder_layers=1, decoder_layers=1, first_phase=first)
        magnitude = vae.stft.forward(0.1 * audio[None]).abs()[:, None]
        with torch.no_grad():
            decoded = magnitude_to_audio(vae, magnitude, iterations)
        distances[first, iterations] = (
            (vae.stft.forward(decoded[:, 0]).abs() - magnitude[:, 0]).norm() / magnitude.norm()
        ).item()
    assert distances["gradient", 4] < distances["irregular", 16]
    assert distances["gradient", 0] < 0.2


def test_low_notes_that_lie_close_keep_their_pitch():
    """A fifth at 110 Hz: 60 ms do not part its notes, 200 ms do. Error: share of energy 3 Hz or more beside them."""
    audio = torch.stack([sine(110.0) + sine(164.8)] * 2)
    errors = []
    for settings in ({"low_size": 1600, "low_iterations": 8}, {"low_size": 0}):
        decoded = through_features(stereo(**settings), audio)[0, RATE // 2 : -RATE // 2]
        power = torch.fft.rfft(decoded * torch.hann_window(len(decoded))).abs().square()
        hertz = torch.arange(len(power)) * RATE / len(decoded)
        near = ((hertz - 110.0).abs() < 3.0) | ((hertz - 164.8).abs() < 3.0)
        errors.append(1.0 - float(power[near].sum() / power.sum()))
    assert errors[0] < 0.15 and errors[1] > 2.0 * errors[0]


@pytest.mark.parametrize(("left", "right"), [(1.0, 1.0), (1.0, 0.25), (0.1, 1.0), (1.0, 0.0)])
def test_panning_is_kept(left, right):
    decoded = through_features(stereo(), torch.stack([left * sine(330.0), right * sine(330.0)]))[:, HOP:-HOP]
    sizes = decoded.norm(dim=1) / sine(330.0)[HOP:-HOP].norm()
    assert sizes.tolist() == pytest.approx([left, right], rel=0.06, abs=0.04)


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0])
def test_width_is_kept(width):
    """The energy of the side beside that of the mid: of noises that are the same, alike and apart in the channels."""
    torch.manual_seed(1)
    mid, side = 0.1 * torch.randn(2, 4 * RATE)
    audio = torch.stack([mid + width * side, mid - width * side])
    decoded = through_features(stereo(), audio)
    ratio = (decoded[0] - decoded[1]).norm() / (decoded[0] + decoded[1]).norm()
    assert float(ratio) == pytest.approx(width, rel=0.12, abs=0.04)


def test_both_windows_say_how_loud_low_notes_are():
    """With the long window's magnitudes 12 dB higher, a low tone is 6 dB louder and a high one as loud as before."""
    vae = stereo()
    for hertz, change in ((210.0, 6.0), (1500.0, 0.0)):
        audio = torch.stack([sine(hertz)] * 2)
        with torch.no_grad():
            spectra = vae.features_to_spectra(vae.audio_to_features(audio[None]))
            before, louder = spectra, dataclasses.replace(spectra, low=spectra.low * 10.0 ** (12.0 / 20.0))
            levels = [vae._search(one)[0, :, RATE:-RATE].square().mean().log10() * 10.0 for one in (before, louder)]
        assert float(levels[1] - levels[0]) == pytest.approx(change, abs=0.5)


def test_features_and_spectra_are_inverse():
    """Without bands the joint spectrum comes back as it was, and the image gives both channels their energy."""
    torch.manual_seed(1)
    vae = stereo(fine_hertz=None)
    audio = 0.1 * torch.randn(1, 2, 40 * HOP)
    spectra, true = vae.features_to_spectra(vae.audio_to_features(audio)), vae.stft.forward(audio[0]).abs().square()
    torch.testing.assert_close(spectra.joint[0].square(), true.mean(0), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(spectra.channels[0].abs().square().sum((1, 2)), true.sum((1, 2)), atol=0, rtol=0.01)
    assert spectra.low.shape == (1, vae.low_bins, 40)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 5000])
def test_any_length_comes_back_at_its_own_length(samples):
    vae, audio = stereo(), 0.3 * torch.randn(2, 2, samples).clamp(-1, 1)
    with torch.no_grad():
        latents = vae.encode(audio).latent_dist.mode()
        assert latents.shape == (2, 4, math.ceil(samples / HOP))
        decoded = vae(audio).sample
    assert decoded.shape == audio.shape and decoded.isfinite().all()


def test_tiles_and_streams_are_the_whole():
    vae = stereo()
    audio = 0.2 * torch.randn(2, 2, 150 * HOP)
    with torch.no_grad():
        whole = vae.encode(audio).latent_dist.mean
        decoded = vae.decode(whole).sample
        for tile in (7, 24, 50, 500):
            vae.enable_tiling(tile)
            torch.testing.assert_close(vae.encode(audio).latent_dist.mean, whole, atol=1e-5, rtol=0)
            torch.testing.assert_close(vae.decode(whole).sample, decoded, atol=1e-5, rtol=0)
        vae.disable_tiling()
        for cuts in ([1], [3, 70, 71, 120]):
            chunks = list(vae.stream_decode(iter(torch.tensor_split(whole, cuts, dim=2))))
            torch.testing.assert_close(torch.cat(chunks, dim=2), decoded, atol=1e-5, rtol=0)


@pytest.mark.parametrize("share", [0.6, 0.983, 1.0, 1.03])
def test_a_circle_of_any_length_keeps_low_pitch(share):
    vae, frames = stereo(low_iterations=8), 60
    audio = torch.stack([sine(123.0, frames * HOP / RATE)] * 2)[None]
    samples = round(frames * HOP * share)
    with torch.no_grad():
        circle = vae._search(vae.features_to_spectra(vae.audio_to_features(audio)), samples)[0]
    assert circle.shape == (2, samples)
    pieces = circle[0].repeat(2).unfold(0, RATE // 4, RATE // 8)[: samples // (RATE // 8)]
    heard = torch.tensor([loudest(piece) for piece in pieces]).median().item()
    assert abs(1200.0 * math.log2(heard / 123.0)) < 15.0
    steps = circle[0].diff(append=circle[0, :1]).abs()
    assert steps[-1] <= steps[:-1].max() * 1.01


def test_every_feature_has_a_loss_that_is_zero_for_itself():
    vae = stereo()
    loss = FeatureLoss(vae)
    features = vae.audio_to_features(0.2 * torch.randn(1, 2, 30 * HOP))
    assert set(loss.names) == {"log", "mel", "power", "image", "low"}
    assert all(float(value) == 0.0 for value in loss(features, features).values())
    other = features.clone().requires_grad_()
    sum(loss(other + 0.1 * torch.randn_like(features), features).values()).backward()
    assert (other.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"first_phase": "random"}, "first_phase is 'random'; allowed: irregular, gradient"),
        ({"fine_hertz": 5000.0}, "fine_hertz is 5000; allowed: above 0, up to half of sampling_rate"),
        ({"audio_channels": 1}, "stereo_bands is 12; allowed: 0, or with two channels up to stft_size / 16"),
        ({"low_size": 480}, "low_size is 480; allowed: 0 or a multiple of hop_length above stft_size"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(ValueError, match=words):
        AutoencoderVivace(**STEREO | settings)


def test_the_first_checkpoint_decodes_as_before():
    """The same bits as by what the decoder did before it knew of bands and gradients, written out here."""
    torch.manual_seed(0)
    first = {"sampling_rate": 24000, "audio_channels": 1, "hop_length": 960, "stft_size": 1440, "stft_hop": 480}
    vae = AutoencoderVivace(**first, latent_channels=64, dim=32, encoder_layers=1, decoder_layers=1).eval()
    latents = torch.randn(2, 64, 30, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(1440)

    def stft(audio: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(audio, (480, 480))
        return torch.stft(padded, 1440, 480, window=window, center=False, return_complex=True) * (4.0 / 1440)

    def added(columns: torch.Tensor) -> torch.Tensor:
        total = columns.new_zeros(columns.shape[0], columns.shape[2] + 2, 480)
        blocks = columns.transpose(1, 2).unflatten(2, (3, 480))
        for k in range(3):
            total[:, k : k + columns.shape[2]] += blocks[:, :, k]
        return total.flatten(1)[:, 480 : 480 + columns.shape[2] * 480]

    def istft(spectrum: torch.Tensor) -> torch.Tensor:
        pieces = torch.fft.irfft(spectrum * (1440 / 4.0), n=1440, dim=1) * window[:, None]
        return added(pieces) / added(window.square()[None, :, None].expand(1, 1440, spectrum.shape[2]))

    with torch.no_grad():
        features = vae.decode_features(latents)
        log = (features.clamp(-1.2, 1.5) - 1.0) / 2.0 * (-80.0 / -20.0)
        magnitude = (10.0**log - 10.0 ** (-80.0 / 20.0)).clamp(0.0, 2.0)
        magnitude = magnitude.unflatten(2, (1, 2, 721)).permute(0, 2, 4, 1, 3).flatten(3)
        joint, previous = magnitude.square().mean(1).sqrt(), None
        phasor = vae._first_phase(np.arange(60), latents.device).expand_as(joint)
        for _ in range(16):
            consistent = stft(istft(joint * phasor))
            moved = consistent if previous is None else consistent + 0.99 * (consistent - previous)
            phasor, previous = moved / (moved.abs() + 1e-9), consistent
        audio = istft((magnitude * phasor[:, None]).flatten(0, 1)).unflatten(0, (2, 1))
        assert torch.equal(vae.decode(latents).sample, audio)
