"""Edits of given audio: kept parts stay bit for bit, strength is monotone, and borders are inaudible."""

from itertools import product

import numpy as np
import torch

from pipelines.pipeline_vivace import find_beats, resample
from training.data.clips import read_audio
from training.metrics.control import tempo_right, tempo_right_octaves
from training.metrics.reconstruction import reconstruction_figures
from training.metrics.signal import flux_ranks, step_ranks
from training.tasks.common import Bench, Figure, least, most, pairs, share

STRENGTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RATES, CHANNELS = (16000, 24000, 44100, 48000), (1, 2)
MASKS_S = ([(1.0, 2.0)], [(0.0, 0.5)], [(3.0, 4.0)], [(0.5, 1.0), (0.9, 2.0), (2.5, 2.6)])
MADE_S, BORDER_S = 2.0, 2.0
USUAL = 0.975


def source(row: dict, bench: Bench, seconds: float | None = None) -> np.ndarray:
    """A real clip (1, samples) at the pipeline's rate."""
    audio = torch.as_tensor(np.asarray(read_audio(row))).float().mean(0, keepdim=True)
    audio = resample(audio, int(row["sampling_rate"]), bench.rate).numpy()
    return audio if seconds is None else audio[:, : round(seconds * bench.rate)]


def edits(bench: Bench, count: int) -> list[Figure]:
    """Strength, inpainting and extension of real clips."""
    return strength(bench, count) + kept(bench) + borders(bench, count)


def strength(bench: Bench, count: int) -> list[Figure]:
    """How far from its input a variation is, by log-mel distance, at rising strengths."""
    far, same = [], []
    for index, row in pairs(bench.rows, max(1, count // 4)):
        audio = source(row, bench, 5.0)
        caption = bench.captions[(index + 1) % len(bench.captions)]  # another clip's, so that it differs
        made = [
            bench.pipe(caption, audio=audio, sampling_rate=bench.rate, strength=s, bpm=row["bpm"], downbeat_s=0.0,
                       seed=bench.seed + index).audios[0]
            for s in STRENGTHS
        ]  # fmt: skip
        same.append(bool((made[0] == audio).all()))
        far.append([reconstruction_figures(one, audio, bench.rate)["log_mel"] for one in made])
    rises = np.diff(np.mean(far, axis=0))
    steps = float((np.diff(far, axis=1) > 0).mean())
    means = {f"at {s:g}": float(v) for s, v in zip(STRENGTHS, np.mean(far, axis=0), strict=True)}
    return [
        least("strength 0 is the input bit for bit, share", share(same), len(same), 1),
        Figure("strength: log-mel distance to the input rises by at least, a step, mean", float(rises.min()), len(far),
               "above 0", bool((rises > 0).all()), means),
        Figure("strength: single steps that rise, share", steps, len(far) * len(rises)),
    ]  # fmt: skip


def kept(bench: Bench) -> list[Figure]:
    """Samples outside the masks, at several rates, channels and masks, must be those of the input."""
    changed, total, made, rng = 0, 0, [], np.random.default_rng(bench.seed)
    for (rate, channels), regions in zip(product(RATES, CHANNELS), MASKS_S * 2, strict=True):
        audio = (0.1 * rng.standard_normal((channels, 4 * rate))).astype(np.float32)
        out = bench.pipe("piano", audio=audio, sampling_rate=rate, mask_s=regions, seed=bench.seed).audios[0]
        inside = np.zeros(audio.shape[1], dtype=bool)
        for first, last in regions:
            inside[round(first * rate) : round(last * rate)] = True
        changed += int((out[:, ~inside] != audio[:, ~inside]).sum())
        total += int((~inside).sum()) * channels
        made.append(bool((out[:, inside] != audio[:, inside]).mean() > 0.99))
    return [
        most("inpainting: samples changed outside the masks", changed, total, 0),
        least("inpainting: all that is masked is new, share of cases", share(made), len(made), 1),
    ]


def borders(bench: Bench, count: int) -> list[Figure]:
    """Ranks of flux and step at the borders of generated parts, beside those of the same places in the input."""
    flux: dict[str, list[float]] = {"inpainting": [], "extension": [], "real": []}
    steps: dict[str, list[float]] = {"inpainting": [], "extension": []}
    exact = []
    for index, row in pairs(bench.rows, count):
        audio = source(row, bench, 6.5)
        request = {"prompt": bench.captions[index % len(bench.captions)], "bpm": row["bpm"], "seed": bench.seed + index}
        request |= {"audio": audio, "sampling_rate": bench.rate}
        first, last = (round(s * bench.rate) for s in (BORDER_S, BORDER_S + MADE_S))
        inside = bench.pipe(**request, mask_s=[(BORDER_S, BORDER_S + MADE_S)]).audios[0].mean(0)
        longer = bench.pipe(**request, extend_s=(MADE_S, MADE_S)).audios[0]
        begin = round(MADE_S * bench.rate)
        end = begin + audio.shape[1]
        exact.append(bool((longer[:, begin:end] == audio).all()))
        for name, piece, places in (
            ("inpainting", inside, [first, last]),
            ("extension", longer.mean(0), [begin, end]),
            ("real", audio.mean(0), [first, last]),
        ):
            flux[name] += flux_ranks(piece, places, bench.rate)
            if name in steps:
                steps[name] += step_ranks(piece, places)
    real = {"the input there": share([rank <= USUAL for rank in flux["real"]])}
    figures = [least("extension: the input comes back bit for bit, share", share(exact), len(exact), 1)]
    for name in steps:
        ranks, own = flux[name], steps[name]
        within = share([rank <= USUAL for rank in ranks])
        figures.append(
            least(f"{name}: flux at borders within 97.5 % of moments, share", within, len(ranks), 0.9, **real)
        )
        small = share([rank <= 0.99 for rank in own])
        figures.append(least(f"{name}: step at borders within 99 % of steps, share", small, len(own), 0.95))
    return figures


def tempo(bench: Bench, count: int) -> list[Figure]:
    """The pipeline's tempo and beat estimates for real clips, beside those of the beat tracker network."""
    right, octave, network, beats = [], [], [], []
    for _, row in pairs(bench.rows, count):
        audio = source(row, bench)
        found = find_beats(torch.from_numpy(audio), bench.rate, None, row["beats_per_bar"])
        bpm = float("nan") if found is None else found[0]
        right.append(tempo_right(bpm, row["bpm"]))
        octave.append(tempo_right_octaves(bpm, row["bpm"]))
        if bench.listeners.tracker is not None:
            network.append(tempo_right(bench.listeners.tracker.track(audio[0], bench.rate).tempo_bpm, row["bpm"]))
        if row.get("downbeat_s") is not None:
            found = find_beats(torch.from_numpy(audio), bench.rate, row["bpm"], row["beats_per_bar"])
            period = 60.0 / row["bpm"]
            off = float("inf") if found is None else (found[1] - row["downbeat_s"] + period / 2) % period - period / 2
            beats.append(abs(off) <= 0.07)
    oracle = {} if not network else {"beat tracker": float(np.mean(network))}
    return [
        least("tempo of the input, within 4 %, share", float(np.mean(right)), len(right), 0.75, **oracle),
        Figure("tempo of the input, octaves forgiven, share", float(np.mean(octave)), len(octave)),
        Figure("beat of the input, tempo given, within 70 ms, share", share(beats), len(beats)),
    ]
