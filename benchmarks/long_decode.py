"""Memory of long clips: decodes latents of some minutes in tiles and prints the peak memory of the process.

    OMP_NUM_THREADS=1 python -m benchmarks.long_decode --autoencoder checkpoints/small/vae --minutes 60

The figure is of the whole process: interpreter, libraries, weights, latents and the decoded audio.
"""

import argparse
import json
import time

import torch

from autoencoder.classes import load_autoencoder
from training.run.progress import peak_resident


def measure(folder: str, minutes: float, tile_frames: int) -> dict[str, float]:
    """Decode random latents; seconds of audio, CPU seconds, and the process's peak memory before and after in GB."""
    vae = load_autoencoder(folder).eval()
    vae.enable_tiling(tile_frames)
    frames = round(minutes * 60.0 * vae.frame_rate)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, vae.config.latent_channels, frames, generator=generator)
    before, began = peak_resident() / 1e9, time.process_time()
    with torch.no_grad():
        audio = vae.decode(latents).sample
    return {
        "audio_s": audio.shape[2] / vae.config.sampling_rate,
        "cpu_s": time.process_time() - began,
        "peak_before_gb": before,
        "peak_gb": peak_resident() / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--autoencoder", default="checkpoints/small/vae", help="folder of weights")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the audio")
    parser.add_argument("--tile_frames", type=int, default=256, help="latent frames of a tile")
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error(f"--minutes is {options.minutes}; allowed: above 0")
    print(json.dumps(measure(options.autoencoder, options.minutes, options.tile_frames), indent=1))


if __name__ == "__main__":
    main()
