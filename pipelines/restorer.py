"""Recordings made better by the network: noise, reverb and a narrow band, with the restorer of a checkpoint.

A restorer is an adapter with which the network turns the latents of a recording into those of the same without faults
(training/train_restorer.py). Of noise and reverb only the sizes of the spectra are taken from it: as a gain, at most 1,
of the recording's own spectra, so that its phases stay and nothing is added. What a narrow band lacks is decoded, and
added above the band alone.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipelines.vivace_audio import loudness, mix_channels, resample
from pipelines.vivace_theory import GRID_CHANNELS

FAULTS = ("noise", "reverb", "band")
FOLDER = "restorer"  # of a checkpoint
LEVEL = 0.5  # noise level as which the network takes what is spoilt
LOUDNESS_LUFS = -20.0  # to which a recording is brought for the network, where it is not within RANGE_LUFS
RANGE_LUFS = (-30.0, -12.0)
BLOCK, OVERLAP = 512, 32  # latent frames that are treated at once, and that two share
FLOOR = 1e-4  # magnitude, -80 dB, below which a gain says nothing
LEAST = 0.02  # gain
NOISE_DB = 2.0  # by which the network must want to lower the spectra for noise to be found
NOISE_POWER = 0.6  # 1 would be the Wiener filter, which is too strong where music is soft
ABOVE = 0.5  # how much of what the network makes above a narrow band is added: less than all errs less often
EDGE_DB, HIGHEST_EDGE = 30.0, 14000.0  # of a narrow band; Hz
EDGE_WIDTH = 0.03  # share of its edge over which what is decoded is faded in


def latent_scale(vae: nn.Module, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of an autoencoder's latents, each (channels, 1)."""
    return like.new_tensor(vae.config.latents_mean)[:, None], like.new_tensor(vae.config.latents_std)[:, None]


def encode(vae: nn.Module, audio: torch.Tensor) -> torch.Tensor:
    """Audio (batch, channels, samples) -> standardised latents."""
    mean, std = latent_scale(vae, audio)
    return (vae.encode(audio).latent_dist.mode() - mean) / std


def without(unet: nn.Module, latents: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Latents (batch, channels, frames) without the faults that are asked for, (batch, 3) of 0 and 1, in one step."""
    config = unet.module.config if hasattr(unet, "module") else unet.config
    given = latents.new_zeros(len(latents), config.frame_cond_channels, latents.shape[2])
    given[:, : len(FAULTS)] = asked[:, :, None]  # in the place of the beat, which is not known
    given[:, GRID_CHANNELS] = 1.0  # all is to be made
    noisy = (1.0 - LEVEL) * latents
    return noisy - LEVEL * unet(noisy, 1000.0 * LEVEL, frame_cond=given, return_dict=False)[0]


class Restorer:
    """The autoencoder of a checkpoint, and its network with the restorer in its weights."""

    def __init__(self, vae: nn.Module, unet: nn.Module):
        self.vae, self.unet = vae.eval(), unet.eval()

    @classmethod
    def load(
        cls, folder: str | Path, variant: str | None = None, dtype: str = "float32", device: str = "cpu"
    ) -> "Restorer":
        """The restorer of a checkpoint folder.

        Raises:
            ValueError: one line: no checkpoint, one without a restorer, or whose restorer is for other weights.
        """
        from pipelines.hub import load_pipeline
        from pipelines.vivace_checkpoint import check_fit, read_lora

        path = Path(folder) / FOLDER / "pytorch_lora_weights.safetensors"
        if not path.is_file():
            raise ValueError(
                f"checkpoint {folder}: it has no {FOLDER}/, which takes away noise, reverb and a narrow band"
            )
        pipe = load_pipeline(folder, variant, dtype)
        state, about = read_lora(path)
        check_fit(state, pipe.unet, f"checkpoint {folder}, {FOLDER}/")
        scale = about["unet.lora_alpha"] / about["unet.r"] if about else 1.0
        layers = dict(pipe.unet.named_modules())
        for name in [one for one in state if ".lora_A." in one]:  # added to the weights, for which peft is not needed
            narrow, wide = state[name].float(), state[name.replace("lora_A", "lora_B")].float()
            weight = layers[name.removeprefix("unet.").removesuffix(".lora_A.weight")].weight
            weight.data += scale * (wide.flatten(1) @ narrow.flatten(1)).view_as(weight)
        return cls(pipe.vae.to(device), pipe.unet.to(device))

    def blocks(self, audio: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Where each block of (channels, samples) begins, and its samples, filled up to whole frames."""
        hop = self.vae.hop_length
        padded = nn.functional.pad(audio, (0, -audio.shape[1] % hop))
        frames = padded.shape[1] // hop
        for first in range(0, max(frames - OVERLAP, 1), BLOCK - OVERLAP):
            yield first * hop, padded[:, first * hop : (first + BLOCK) * hop]

    @torch.no_grad()
    def look(self, block: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Magnitudes (channels, bins, STFT frames) of a block (channels, samples) as it is and without a fault, and the
        latents without it. Both are decoded, so that what the autoencoder itself changes is in neither."""
        vae = self.vae
        latents = encode(vae, block[None].to(vae.device))
        asked = latents.new_tensor([[float(name == one) for one in FAULTS]])
        mean, std = latent_scale(vae, latents)
        raw = [values * std + mean for values in (latents, without(self.unet, latents, asked))]
        before, after = (vae.features_to_spectra(vae.decode_features(one)).channels.abs()[0] for one in raw)
        return before, after, raw[1]

    def own(self, sound: torch.Tensor, rate: int) -> tuple[torch.Tensor, float]:
        """A recording in the autoencoder's rate and channels, and the factor that brought it to a level."""
        config = self.vae.config
        own = mix_channels(resample(sound, rate, config.sampling_rate), config.audio_channels)
        level = loudness(own, config.sampling_rate)
        if not np.isfinite(level) or RANGE_LUFS[0] <= level <= RANGE_LUFS[1]:
            return own, 1.0
        factor = 10.0 ** ((LOUDNESS_LUFS - level) / 20.0)
        return own * factor, factor

    def noise_db(self, sound: torch.Tensor, rate: int) -> float:
        """By how many dB the network would lower the spectra of a recording (channels, samples) for their noise."""
        looks = (self.look(block, "noise") for _, block in self.blocks(self.own(sound, rate)[0]))
        return float(np.mean([-20.0 * float(fall(*one[:2]).log10().mean()) for one in looks]))

    def treat(
        self, sound: torch.Tensor, rate: int, name: str, edge: float | None = None, amount: float = 1.0
    ) -> torch.Tensor:
        """A recording (channels, samples) without a fault.

        Args:
            sound: any number of channels; more than two are treated one by one.
            rate: Hz.
            name: of `FAULTS`.
            edge: where its band ends, Hz; of "band" alone.
            amount: of noise and reverb: 0.5 = half of the dB.
        """
        if len(sound) not in (1, self.vae.config.audio_channels):
            return torch.cat([self.treat(one[None], rate, name, edge, amount) for one in sound])
        own, factor = self.own(sound, rate)
        hop = self.vae.hop_length
        made, weight = torch.zeros_like(own), torch.zeros(own.shape[1])
        for start, block in self.blocks(own):
            here = slice(start, min(start + block.shape[1], own.shape[1]))
            done = self.treat_block(block, name, edge, amount)[:, : here.stop - start]
            fade = torch.arange(1, done.shape[1] + 1) / (OVERLAP * hop)
            ramp = torch.ones(done.shape[1])
            ramp = torch.minimum(ramp, fade) if start else ramp
            ramp = torch.minimum(ramp, fade.flip(0)) if here.stop < own.shape[1] else ramp
            made[:, here] += done * ramp
            weight[here] += ramp
        # What changes is added, so that what lies beyond the autoencoder's rate stays.
        change = resample((made / weight - own) / factor, self.vae.config.sampling_rate, rate)[:, : sound.shape[1]]
        return sound + mix_channels(change, len(sound))

    @torch.no_grad()
    def treat_block(self, block: torch.Tensor, name: str, edge: float | None, amount: float) -> torch.Tensor:
        """See `treat`; of a block of whole frames."""
        before, after, raw = self.look(block, name)
        if edge is None:
            spectra = self.vae.stft.forward(block.to(before))
            gains = noise_gains(before, after) if name == "noise" else reverb_gains(before, after, spectra.abs())
            return self.vae.stft.inverse(spectra * gains**amount).cpu()
        above = self.vae.decode(raw).sample[0].cpu()
        hertz = torch.fft.rfftfreq(above.shape[1], 1.0 / self.vae.config.sampling_rate)
        faded = ABOVE * torch.fft.rfft(above) * ((hertz / edge - 1.0) / EDGE_WIDTH).clamp(0.0, 1.0)
        return block + torch.fft.irfft(faded, n=above.shape[1])


def fall(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Factors, at most 1, from one to the other of magnitudes."""
    return ((after + FLOOR) / (before + FLOOR)).clamp(LEAST, 1.0)


def noise_gains(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Gains for steady noise, of magnitudes (channels, bins, frames) with it and without: the Wiener filter to a power,
    in which the power of the noise is the median over time of what differs."""
    music = after.square()
    noise = (before.square() - music).clamp_min(0.0).median(2, keepdim=True).values
    noise = nn.functional.avg_pool2d(noise, (9, 1), 1, (4, 0), count_include_pad=False)
    return ((music / (music + noise + FLOOR**2)) ** NOISE_POWER).clamp(LEAST, 1.0)


def reverb_gains(before: torch.Tensor, after: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Gains for reverb, of decoded magnitudes with it and without, and those that are there, which have finer detail:
    a mean of the two falls that over validation clips was always an improvement."""
    return fall(before, after) ** 0.7 * fall(there, after) ** 0.3


def find_edge(sound: torch.Tensor, rate: int) -> float | None:
    """Where the band of (channels, samples) ends, Hz, if that is below `HIGHEST_EDGE` and all above is `EDGE_DB` lower
    than the quarter octave below; else None."""
    size = 4096
    if sound.shape[1] < 4 * size or rate < 2.4 * HIGHEST_EDGE:
        return None
    parts = sound[:, : sound.shape[1] // size * size].reshape(-1, size) * torch.hann_window(size)
    power = torch.fft.rfft(parts).abs().square().mean(0)
    edges = 2000.0 * 2.0 ** (np.arange(0, 43) / 12)  # to 22.6 kHz
    edges = np.append(edges[edges < 0.46 * rate], 0.46 * rate)
    places = np.round(edges / rate * size).astype(int)
    levels = np.array([10.0 * float((power[a:b].mean() + 1e-20).log10()) for a, b in itertools.pairwise(places)])
    falls = [levels[k - 3 : k].mean() - levels[k + 1 :].max() for k in range(3, len(levels) - 2)]
    k = int(np.argmax(falls))
    return float(edges[k + 3]) if falls[k] > EDGE_DB and edges[k + 3] < HIGHEST_EDGE else None
