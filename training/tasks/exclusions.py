"""Whether what the prompt or a negative prompt excludes is absent, and tempo and key are still right."""

import numpy as np

from training.metrics.control import compare
from training.metrics.folder import load_clips
from training.metrics.listening import analyse
from training.metrics.request import Request
from training.metrics.summary import summarise
from training.tasks.common import Bench, Figure, make, mono, most, share

# Prompts for music that has drums, or a piano, unless these are excluded; and wordings that exclude them.
OF_DRUMS = ("rock band", "jazz piano and bass", "piano ballad", "funk groove", "pop song with electric guitar")
NO_DRUMS = ("{} without drums", "{}, no drums", "drumless {}", "{} minus the drums", "{}, no percussion", "")
OF_PIANO = ("jazz trio", "slow jazz", "ballad with strings", "ragtime", "blues")
NO_PIANO = ("{} without piano", "{}, no piano", "")
ALLOWED = 0.05  # of clips
KEYS, TEMPI = ("A minor", "C major", "E minor", "F major"), (92, 104, 118)
BARS = 4


def exclusions(bench: Bench, count: int) -> list[Figure]:
    """Share of clips in which the tagger finds drums, or a piano, although they are excluded, beside the same clips
    without the exclusion, and beside real clips that have none; and tempo and key of the first two."""
    figures = []
    for name, prompts, wordings in (("drums", OF_DRUMS, NO_DRUMS), ("piano", OF_PIANO, NO_PIANO)):
        plain = [prompts[i % len(prompts)] for i in range(count)]
        wordings = [wordings[i % len(wordings)] for i in range(count)]
        bpm, key = ([values[i % len(values)] for i in range(count)] for values in (TEMPI, KEYS))
        plain_request = {"prompt": plain, "bars": [BARS] * count, "bpm": bpm, "key": key}
        without = plain_request | {
            "prompt": [words.format(text) if words else text for words, text in zip(wordings, plain, strict=True)],
            "negative_prompt": [None if words else name for words in wordings],
        }
        analyses = {
            source: analyse([mono(audio) for audio in make(bench, request)], bench.rate, bench.listeners, bench.pool)
            for source, request in (("excluded", without), ("not excluded", plain_request))
        }
        rows = [row for row in bench.rows if row.get("instruments") and not plays(row, name)][:count]
        real = load_clips(rows, bench.rate).mono if rows else []
        analyses["real clips without"] = analyse(real, bench.rate, bench.listeners, bench.pool)
        threshold = bench.listeners.thresholds.get(name, 0.5)
        present = {
            source: share([clip.tags[name] >= threshold for clip in clips if clip.tags is not None])
            for source, clips in analyses.items()
        }
        label = f"{name} excluded and yet heard, share"
        figures.append(most(label, present["excluded"], count, ALLOWED, **beside(present)))
        requests = [
            Request(bpm=tempo, key=tonic, beats_s=np.arange(4 * BARS) * 60.0 / tempo)
            for tempo, tonic in zip(bpm, key, strict=True)
        ]
        scores = {
            source: compare(analyses[source], requests, bench.listeners.thresholds)
            for source in ("excluded", "not excluded")
        }
        for figure, called in (("tempo_4pct", "tempo within 4 %"), ("key_exact", "key")):
            means = {s: summarise((one[figure] for one in found), bench.seed)["mean"] for s, found in scores.items()}
            figures.append(Figure(f"{name} excluded: {called}", means["excluded"], count, beside=beside(means)))
    return figures


def plays(row: dict, name: str) -> bool:
    """Whether a clip has drums, or an instrument of this name."""
    return bool(row.get("drums")) if name == "drums" else name in row["instruments"]


def beside(values: dict[str, float | None]) -> dict[str, float]:
    """What stands beside a figure."""
    return {source: value for source, value in values.items() if source != "excluded" and value is not None}
