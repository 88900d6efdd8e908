"""Long pieces: seams between windows, drift of the level and memory; and prompts that change within a piece."""

import subprocess
import sys
import time

import numpy as np

from pipelines.pipeline_vivace import windows
from training.metrics.signal import flux_ranks, loudness, step_ranks
from training.tasks.common import Bench, Figure, arguments_for, bars_of, least, make, mono, most, share

SEAMS = 3  # between the windows of a piece
MEMORY_GB = 1.5
MINUTES = 10  # of the piece whose memory is measured
USUAL = 0.975
TIMELINES = (("solo piano", "rock group with drums"), ("string quartet", "techno with drums"), ("harp", "funk drums"))


def long(bench: Bench, count: int) -> list[Figure]:
    """Seams between windows, level from beginning to end, and streams."""
    rows = bench.rows[: max(1, count // 4)]
    seconds = (SEAMS + 0.5) * bench.window_s
    request = arguments_for(rows, bench.captions[: len(rows)], [bars_of(row, seconds) for row in rows])
    pieces = make(bench, request)
    flux, steps, drift, spread = [], [], [], []
    for audio in pieces:
        frames = -(-audio.shape[1] // bench.pipe.vae.hop_length)
        places = [given * bench.pipe.vae.hop_length for _, _, given, _ in windows(frames)][1:]
        flux += flux_ranks(mono(audio), places, bench.rate)
        steps += step_ranks(mono(audio), places)
        levels = [loudness(part, bench.rate) for part in np.array_split(audio, 4, axis=1)]
        drift.append(levels[-1] - levels[0] if None not in (levels[0], levels[-1]) else 0.0)
        audible = [level for level in levels if level is not None]
        spread.append(max(audible) - min(audible) if audible else 0.0)
    within = share([rank <= USUAL for rank in flux])
    small = share([rank <= 0.99 for rank in steps])
    equal, first, whole = streamed(bench, {name: values[0] for name, values in request.items()})
    peak = memory(bench)
    return [
        least("long: flux between windows within 97.5 % of moments, share", within, len(flux), 0.9),
        least("long: step between windows within 99 % of steps, share", small, len(steps), 0.95),
        most(
            "long: rise of loudness from first to last quarter, LU, mean", abs(float(np.mean(drift))), len(drift), 1.5
        ),
        Figure("long: loudest less softest quarter, LU, mean", float(np.mean(spread)), len(spread)),
        least("stream is the batch bit for bit", float(equal), 1, 1),
        Figure("stream: time to the first chunk, share of the whole time", first / whole, 1),
        most(f"memory of the process for {MINUTES} minutes streamed, GB", peak, 1, MEMORY_GB),
    ]


def streamed(bench: Bench, request: dict) -> tuple[bool, float, float]:
    """Whether the chunks equal the piece, and seconds until the first and until the last chunk.

    Levels are not normalised: a stream's gain follows from its first window, that of a call from the whole piece.
    """
    request = request | {"normalize": False}
    chunks, began, first = [], time.perf_counter(), 0.0
    for chunk in bench.pipe.stream(**request, seed=bench.seed):
        first = first or time.perf_counter() - began
        chunks.append(chunk)
    whole = time.perf_counter() - began
    out = bench.pipe(**request, seed=bench.seed).audios[0]
    together = np.concatenate(chunks, axis=1)
    return together.shape == out.shape and bool((together == out).all()), first, whole


def memory(bench: Bench) -> float:
    """Peak resident memory in GB of a process that loads the checkpoint and streams a long piece."""
    code = (
        "import sys\n"
        "from pipelines.hub import load_pipeline\n"
        "from training.run.progress import peak_resident\n"
        "pipe = load_pipeline(sys.argv[1]); pipe.set_progress_bar_config(disable=True)\n"
        "length = min(60.0 * float(sys.argv[2]), pipe.config.max_duration_s)\n"
        "samples = sum(c.shape[1] for c in pipe.stream('piano', bpm=100, duration_s=length, seed=0))\n"
        "print(peak_resident())\n"
    )
    words = [sys.executable, "-c", code, bench.checkpoint, str(MINUTES)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1e9


def texts(bench: Bench, count: int) -> list[Figure]:
    """Timelines and morphs from music without drums to music with drums: the tagger's probability before and after."""
    if bench.listeners.tagger is None:
        return [Figure("timeline: drums after their entry less before, as probability", None, 0)]
    gained: dict[str, list[float]] = {"timeline": [], "morph": []}
    for index in range(max(1, count // 4)):
        plain, drums = TIMELINES[index % len(TIMELINES)]
        shared = {"bars": 8, "bpm": 100 + 7 * (index % 5), "seed": bench.seed + index}
        made = {
            "timeline": bench.pipe([(0, plain), ("bar 5", drums)], **shared),
            "morph": bench.pipe(morph=(plain, drums), **shared),
        }
        for name, out in made.items():
            halves = np.array_split(mono(np.asarray(out.audios[0])), 2)
            before, after = bench.listeners.tagger.probabilities(halves, bench.rate)
            gained[name].append(after["drums"] - before["drums"])
    return [
        Figure(f"{name}: probability of drums, later half less earlier", float(np.mean(values)), len(values), "above 0",
               bool(np.mean(values) > 0))
        for name, values in gained.items()
    ]  # fmt: skip
