"""Text -> latents -> waveform: the network, the pipeline, the command line and publishing."""
