"""How much `vivace restore` gives back of clips that were spoilt in eight known ways.

    python -m benchmarks.restoration [--clips FOLDER ...] [--seconds 5]

For each way: in how many clips the fault is found, in how many the log-mel distance to the clean clip falls, and its
median and the signal-to-distortion ratio (SI-SDR) before and after. For noise also what a spectral gate does that has
a profile of the noise, without a network.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from autoencoder.autoencoder_vivace import Stft
from pipelines.restore import Restored, load_restorer, restore
from pipelines.vivace_audio import loudness
from pipelines.vivace_files import read_audio
from training.data import faults
from training.metrics.reconstruction import log_mel_distance, si_sdr

SAMPLES = Path(__file__).resolve().parent.parent / "docs" / "samples"
WAYS = ("dc", "hum", "clicks", "clipping", "quiet")
BY_NETWORK = {"noise": {"snr_db": 10.0}, "reverb": {}, "band": {"hertz": 8000.0}}


def spoil(audio: np.ndarray, rate: int, way: str, seed: int) -> np.ndarray:
    """A clean clip (channels, samples) spoilt in one of `WAYS` or `BY_NETWORK`.

    dc: .02 to .1 of full scale. hum: 50 or 60 Hz with 9 overtones, together up to -36 to -24 dBFS. clicks: three a
    second in a channel, 1 to 12 samples long, half to all of the peak. clipping: the highest 1 to 4 % of the samples
    cut. quiet: -30 LUFS. noise: steady, of any colour, 10 dB below the clip. reverb: .3 to 2 s, 9 dB softer to 3 dB
    louder than the direct sound. band: nothing above 8 kHz. These three as in training/data/faults.py.
    """
    rng = np.random.default_rng(seed)
    size = audio.shape[1]
    if way in BY_NETWORK:
        return faults.FAULTS[way](audio, rate, rng, **BY_NETWORK[way])(audio)
    if way == "dc":
        return audio + rng.choice([-1.0, 1.0]) * rng.uniform(0.02, 0.1)
    if way == "hum":
        mains = rng.choice([50.0, 60.0]) + rng.uniform(-0.05, 0.05)
        time_s, hum = np.arange(size) / rate, np.zeros(size)
        for k in range(1, 11):
            hum += rng.uniform(0.2, 1.0) / k * np.sin(2 * np.pi * (k * mains * time_s + rng.random()))
        return audio + hum / np.abs(hum).max() * 10 ** (rng.uniform(-36.0, -24.0) / 20)
    if way == "clicks":
        out = audio.copy()
        for channel in out:
            for start in rng.integers(0, size - 20, max(1, round(3 * size / rate))):
                length = int(rng.integers(1, 13))
                shape = rng.choice([-1.0, 1.0]) * np.exp(-np.arange(length) / 3.0) * rng.uniform(0.5, 1.0)
                channel[start : start + length] += shape * np.abs(audio).max()
        return out
    if way == "clipping":
        top = np.quantile(np.abs(audio), 1.0 - rng.uniform(0.01, 0.04))
        return audio.clip(-top, top)
    return audio * 10 ** ((-30.0 - loudness(torch.from_numpy(audio), rate)) / 20)


def gate(audio: np.ndarray, rate: int) -> np.ndarray:
    """Noise lowered by a spectral gate, as editors have it: the profile is the mean power of each bin over the quietest
    tenth of the frames; what is less than twice as strong falls, by 20 dB at most."""
    stft = Stft(2048, 512)
    padded = torch.nn.functional.pad(torch.from_numpy(audio).float(), (0, -audio.shape[1] % 512))
    spectrum = stft.forward(padded)
    power = spectrum.abs().square()
    quiet = power.sum((0, 1)).argsort()[: max(1, power.shape[2] // 10)]
    profile = power[:, :, quiet].mean(2, keepdim=True)
    gains = (1.0 - 2.0 * profile / (power + 1e-12)).clamp(0.01, 1.0).sqrt()
    gains = torch.nn.functional.avg_pool2d(gains[:, None], (5, 5), 1, 2, count_include_pad=False)[:, 0]
    return stft.inverse(spectrum * gains)[:, : audio.shape[1]].numpy()


def compare(clips: list[tuple[np.ndarray, int]], way: str, repair: Callable) -> dict:
    """Figures of one way over clips (channels, samples) with rates; `repair` takes both and gives a `Restored`."""
    rows, began, seconds = [], time.process_time(), 0.0
    for seed, (clean, rate) in enumerate(clips):
        bad = spoil(clean, rate, way, seed).astype(np.float32)
        made = repair(bad, rate)
        good = made.audio.numpy()
        seconds += clean.shape[1] / rate

        def mean(measure, other: np.ndarray, clean: np.ndarray = clean) -> float:
            return float(np.mean([measure(a, b) for a, b in zip(other, clean, strict=True)]))

        mel = [mean(lambda a, b, rate=rate: log_mel_distance(a, b, rate), one) for one in (bad, good)]
        rows.append((bool(made.done), *mel, mean(si_sdr, bad), mean(si_sdr, good)))
    table = np.array(rows, dtype=np.float64)
    names = ("log_mel_before", "log_mel_after", "si_sdr_before", "si_sdr_after")
    return {
        "clips": len(rows), "found": float(table[:, 0].mean()), "nearer": float((table[:, 2] < table[:, 1]).mean()),
        **dict(zip(names, np.median(table[:, 1:], axis=0).tolist(), strict=True)),
        "times_real_time": seconds / (time.process_time() - began),
    }  # fmt: skip


def read_clips(folders: list[str], seconds: float) -> list[tuple[np.ndarray, int]]:
    """The first seconds of the left channel of all audio files of folders."""
    files = sorted(path for folder in folders for path in Path(folder).iterdir() if path.suffix in (".flac", ".wav"))
    if not files:
        raise SystemExit(f"clips {folders}: no .flac or .wav file there")
    found = (read_audio(path, None, 600.0) for path in files)
    return [(audio[:1, : round(seconds * rate)].numpy(), rate) for audio, rate in found]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", default=[str(SAMPLES)], help="folders of clean .flac or .wav files")
    parser.add_argument("--seconds", type=float, default=5.0, help="how much of each clip is used")
    parser.add_argument("--checkpoint", help="folder with the restorer; default checkpoints/small")
    parser.add_argument(
        "--ways", nargs="+", default=[*WAYS, *BY_NETWORK], help="how they are spoilt; default: all ways"
    )
    options = parser.parse_args(argv)
    clips = read_clips(options.clips, options.seconds)
    restorer = load_restorer(None, None, options.checkpoint)

    def whole(audio: np.ndarray, rate: int) -> Restored:
        return restore(audio, rate, figures=False, restorer=restorer)

    def drier(audio: np.ndarray, rate: int) -> Restored:  # reverb is not looked for
        return restore(audio, rate, to="drier", only=(), figures=False, restorer=restorer)

    def gated(audio: np.ndarray, rate: int) -> Restored:
        return Restored(torch.from_numpy(gate(audio, rate)), rate, ["gate"])

    count = len(clips)
    clips = [(clean, rate) for clean, rate in clips if np.array_equal(whole(clean, rate).audio.numpy(), clean)]
    print(f"{len(clips)} of {count} clips come back bit for bit; the others are not clean, and left out\n", flush=True)
    print("| | found | nearer to the clean clip | log-mel before, after | SI-SDR before, after, dB |")
    print("|---|---|---|---|---|")
    runs = [(way, way, drier if way == "reverb" else whole) for way in options.ways]
    runs += [("noise, by a spectral gate", "noise", gated)] if "noise" in options.ways else []
    for name, way, repair in runs:
        found = compare(clips, way, repair)
        print(
            f"| {name} | {found['found']:.2f} | {found['nearer']:.2f} | {found['log_mel_before']:.3f}, "
            f"{found['log_mel_after']:.3f} | {found['si_sdr_before']:.1f}, {found['si_sdr_after']:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
