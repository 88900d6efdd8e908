"""Audibility of each latent channel, and the guidance that follows from it."""

import numpy as np
import pytest
import torch

from tests.conftest import make_pipeline
from training.export import audibility, guidance_channels


def test_a_channel_is_heard_as_much_as_the_decoder_makes_of_it():
    vae = make_pipeline().vae
    with torch.no_grad():
        for way in (vae.decoder_in, vae.decoder_linear):
            way.weight[:, 1] = 0.0
            way.weight[:, 2] *= 3.0
    changes = audibility(vae)
    assert changes[1] == 0.0 and changes[2] == changes.max() and (np.delete(changes, 1) > 0.0).all()
    assert (changes == audibility(vae)).all()
    vae.register_to_config(latents_std=None)
    with pytest.raises(ValueError, match="no latents_mean and latents_std"):
        audibility(vae)


def test_guidance_is_weaker_where_more_is_heard():
    changes = np.array([1.0, 4.0, 16.0])
    assert guidance_channels(changes, 0.0) == [1.0, 1.0, 1.0]
    assert guidance_channels(changes, 0.5) == [2.0, 1.0, 0.5]
    assert max(guidance_channels(np.array([0.0, 1.0]), 1.0)) < float("inf")
