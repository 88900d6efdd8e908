"""Waveform <-> latents: the autoencoder and what it is trained with."""
