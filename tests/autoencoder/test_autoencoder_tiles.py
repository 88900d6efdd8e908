"""AutoencoderVivace in tiles: encoded and decoded, what comes out is that of the whole."""

import pytest
import torch

from autoencoder.autoencoder_vivace import AutoencoderVivace

TINY = {
    "sampling_rate": 8000, "hop_length": 320, "stft_size": 480, "stft_hop": 160, "dim": 16, "encoder_layers": 2,
    "decoder_layers": 2, "latent_channels": 4, "phase_iterations": 3,
}  # fmt: skip
TILES = (1, 7, 24, 50, 500)


def tiny(**settings) -> AutoencoderVivace:
    """With every branch awake: at the start encoder and decoder are their linear paths, which see no neighbours."""
    torch.manual_seed(0)
    vae = AutoencoderVivace(**TINY | settings).eval()
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.add_(0.03 * torch.randn(parameter.shape))
    return vae


@pytest.mark.parametrize("settings", [{}, {"audio_channels": 2}, {"stft_size": 960, "kernel_size": 3}])
def test_encoded_and_decoded_tiles_are_the_whole(settings):
    vae = tiny(**settings)
    for frames, less in ((1, 0), (8, 319), (51, 1), (120, 0)):
        audio = 0.2 * torch.randn(2, vae.config.audio_channels, frames * 320 - less)
        vae.disable_tiling()
        with torch.no_grad():
            whole = vae.encode(audio).latent_dist
            decoded = vae.decode(whole.mean).sample
            for tile in TILES:
                vae.enable_tiling(tile)
                tiled = vae.encode(audio).latent_dist
                torch.testing.assert_close(tiled.mean, whole.mean, atol=1e-5, rtol=0)
                torch.testing.assert_close(tiled.std, whole.std, atol=1e-5, rtol=0)
                torch.testing.assert_close(vae.decode(whole.mean).sample, decoded, atol=1e-5, rtol=0)


def test_a_tile_sees_no_further_than_it_must():
    """The context is what a sample depends on: with less of it tiles would differ from the whole."""
    vae = tiny()
    latents = 0.3 * torch.randn(1, 4, 120)  # no louder than audio may be, where magnitudes are cut
    with torch.no_grad():
        whole, near = vae.decode(latents).sample, latents.clone()
        near[:, :, 60 + vae._reach[0] :] += 1.0
        assert torch.allclose(vae.decode(near).sample[:, :, : 60 * 320], whole[:, :, : 60 * 320], atol=1e-6)
        near = latents.clone()
        near[:, :, 60 + vae._blocks_reach] += 1.0
        assert not torch.allclose(vae.decode(near).sample[:, :, : 60 * 320], whole[:, :, : 60 * 320], atol=1e-4)
