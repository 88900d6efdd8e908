"""Reproducibility by seed, replay of saved files, and the stated loudness and peak."""

import tempfile
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from pipelines.pipeline_vivace import frame_noise
from training.metrics.signal import loudness
from training.tasks.common import BATCH, Bench, Figure, arguments_for, bars_of, least, make, most

LEVELS = (-23.0, -16.0, -12.0)  # LUFS
PEAK_DBTP = -1.0
SECONDS = 5.0


def contract(bench: Bench, count: int) -> list[Figure]:
    """Seeds, batches and recipes."""
    rows = (bench.rows * BATCH)[:BATCH]
    request = arguments_for(rows, (bench.captions * BATCH)[:BATCH], [bars_of(row, SECONDS) for row in rows])
    together = make(bench, request)
    some = range(0, BATCH, 3)
    alone = [make(bench, {k: v[i : i + 1] for k, v in request.items()}, i)[0] for i in some]
    apart = max(float(np.abs(one - together[i]).max()) for i, one in zip(some, alone, strict=True))
    channels = bench.pipe.vae.config.latent_channels
    frames = round(10 * bench.pipe.frame_rate)
    short, longer = (frame_noise(bench.seed, n, channels)[0] for n in (frames, 2 * frames))
    out = bench.pipe(["piano", "drums"], num_waveforms_per_prompt=2, seed=[3, 40], num_inference_steps=1)
    edited = bench.pipe("organ", audio=together[0], sampling_rate=bench.rate, strength=0.5, seed=1)
    plain = bench.pipe(**{k: v[0] for k, v in request.items()}, seed=5)
    loop = bench.pipe("jazz", bars=2, bpm=97, loop=True, tilt_db=2.0, seed=6)
    made = [(plain, None), (loop, None), (edited, together[0])]
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        for index, (piece, audio) in enumerate(made):
            path = Path(folder) / f"{index}.{'flac' if index % 2 else 'wav'}"
            piece.save(path)
            differences += len(bench.pipe.replay(path, audio).differences)
    return [
        most("seed: item alone against item in a batch of 8, largest difference", apart, len(alone), 1e-5),
        least("seed: 20 s begin with the noise of 10 s", float((longer[:, :frames] == short).all()), 1, 1),
        least("seed: `seeds` of a batch are returned", float(out.seeds == [3, 4, 40, 41]), 1, 1),
        most("replay of WAV, FLAC and an edit: differences", differences, len(made), 0),
    ]


def level(bench: Bench, count: int) -> list[Figure]:
    """Loudness by pyloudnorm and true peak by four-fold oversampling, independent of the pipeline's own meters."""
    rows = bench.rows[: max(1, count // 4)]
    request = arguments_for(rows, bench.captions[: len(rows)], [bars_of(row, SECONDS) for row in rows])
    off, peaks, clipped = [], [], 0
    for wanted in LEVELS:
        for audio in make(bench, request, loudness_lufs=wanted, true_peak_dbtp=PEAK_DBTP):
            measured = loudness(audio, bench.rate)
            off.append(float("nan") if measured is None else abs(measured - wanted))
            between = np.abs(resample_poly(audio, 4, 1, axis=1)).max()
            peaks.append(20.0 * float(np.log10(max(between, 1e-9))))
            clipped += int((np.abs(audio) >= 1.0).sum())
    return [
        most("level: error of the loudness, LU, median", float(np.nanmedian(off)), len(off), 0.5),
        Figure("level: error of the loudness, LU, worst (limited peaks)", float(np.nanmax(off)), len(off)),
        most("level: true peak, dBTP, worst", max(peaks), len(peaks), PEAK_DBTP + 0.2),
        most("level: samples at full scale", clipped, len(peaks), 0),
    ]
