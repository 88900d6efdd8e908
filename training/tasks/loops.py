"""Loops: the seam between the last sample and the first, and tuning."""

import numpy as np

from training.data.clips import read_audio
from training.metrics.control import beat_f
from training.metrics.features import beats_at_tempo, clip_features
from training.metrics.signal import detuning_cents, flux_ranks, step_ranks
from training.tasks.common import Bench, Figure, arguments_for, least, make, mono, most, pairs, share

BARS = (1, 2, 4)
OFF_BEAT = 0.37  # of a beat: a position without onsets
USUAL = 0.975  # rank up to which a moment is inconspicuous
SMALL_STEP = 0.99
TUNED = 12  # loops whose tuning is measured


def loops(bench: Bench, count: int) -> list[Figure]:
    """Loops of 1, 2 and 4 bars, the same pieces not looped, and real loops, each repeated."""
    numbered = list(pairs(bench.rows, count))
    rows = [row for _, row in numbered]
    captions = [bench.captions[index % len(bench.captions)] for index, _ in numbered]
    request = arguments_for(rows, captions, [BARS[index % len(BARS)] for index, _ in numbered])
    late = {"downbeat_s": [OFF_BEAT * 60.0 / row["bpm"] for row in rows]}
    looped = [mono(audio) for audio in make(bench, request, loop=True)]
    off_beat = [mono(audio) for audio in make(bench, request | late, loop=True)]
    cut = [mono(audio) for audio in make(bench, request | late)]
    real = [(mono(np.asarray(read_audio(row))), row) for row in bench.loops]

    def within(circles: list[np.ndarray]) -> float | None:
        return share([flux_ranks(audio, [0], bench.rate, circle=True)[0] <= USUAL for audio in circles])

    def peaked(circles: list[np.ndarray], rate: int) -> float | None:
        return share([flux_ranks(audio, [0], rate, circle=True)[0] < 1.0 for audio in circles])

    steps = [step_ranks(audio, [0], circle=True)[0] <= SMALL_STEP for audio in looped]
    open_steps = [step_ranks(audio, [0], circle=True)[0] <= SMALL_STEP for audio in cut]
    found = {"real loops": peaked([audio for audio, _ in real], int(real[0][1]["sampling_rate"]))} if real else {}
    ours, inner = played_twice(looped, rows, bench.rate)
    cents, moved = tuning(bench, {name: values[:TUNED] for name, values in request.items()})
    few = min(TUNED, count)
    return [
        least("seam off the beat: flux within 97.5 % of moments, share", within(off_beat), count, 0.95,
              **{"not looped": within(cut)}),
        Figure("seam on the downbeat: not the moment of the largest flux, share", peaked(looped, bench.rate), count,
               beside=found),
        least("seam: sample step within 99 % of the piece's, share", share(steps), count, 0.95,
              **{"not looped": share(open_steps)}),
        least("played twice: beats about the seam within 70 ms", ours, count, 0.95 * inner, **{"elsewhere": inner}),
        most("tuning off by, cents, worst", cents, few, 10.0, **{"if resampled": moved}),
    ]  # fmt: skip


def played_twice(circles: list[np.ndarray], rows: list[dict], rate: int) -> tuple[float, float]:
    """Beat F of librosa's tracker at the requested tempo over two repetitions: near the seam, and elsewhere."""
    about, elsewhere = [], []
    for audio, row in zip(circles, rows, strict=True):
        period, seconds = 60.0 / row["bpm"], len(audio) / rate
        tracked = beats_at_tempo(clip_features(np.tile(audio, 2), rate).onset, row["bpm"])
        grid = np.arange(round(2 * seconds / period)) * period
        for out, near in ((about, True), (elsewhere, False)):
            requested, found = (times[(np.abs(times - seconds) <= 2.5 * period) == near] for times in (grid, tracked))
            if len(requested):
                out.append(beat_f(found, requested))
    return float(np.mean(about)), float(np.mean(elsewhere)) if elsewhere else 0.0


def tuning(bench: Bench, request: dict[str, list]) -> tuple[float, float]:
    """Worst detuning in cents of loops against the same latents decoded to whole frames, and the worst that resampling
    to the same length would give."""
    pipe, worst, moved = bench.pipe, 0.0, 0.0
    for index in range(len(request["prompt"])):
        one = {name: values[index] for name, values in request.items()} | {"loop": True, "seed": bench.seed + index}
        latents = pipe(**one, output_type="latent")
        samples = round(latents.conditions[0]["duration_s"] * bench.rate)
        circle = pipe.vae.hop_length * latents.audios.shape[-1]
        plain, fitted = (
            next(iter(pipe.decode_latents([latents.audios], True, length)))[0].cpu().numpy()
            for length in (circle, samples)
        )
        worst = max(worst, abs(detuning_cents(fitted, plain, bench.rate)))
        moved = max(moved, abs(1200.0 * np.log2(circle / samples)))
    return worst, float(moved)
