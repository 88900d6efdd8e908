"""What the words or a negative prompt exclude is not heard, and the rest is still in time and in key."""

import numpy as np

from training.metrics.control import compare
from training.metrics.listening import analyse
from training.metrics.request import Request
from training.metrics.summary import summarise
from training.tasks.common import Bench, Figure, make, mono, most, share

# Music that has drums, or a piano, unless somebody says otherwise; and ways of saying so.
OF_DRUMS = ("rock band", "jazz piano and bass", "piano ballad", "funk groove", "pop song with electric guitar")
NO_DRUMS = ("{} without drums", "{}, no drums", "drumless {}", "{} minus the drums", "{}, no percussion", "")
OF_PIANO = ("jazz trio", "slow jazz", "ballad with strings", "ragtime", "blues")
NO_PIANO = ("{} without piano", "{}, no piano", "")
ALLOWED = 0.05  # of clips
KEYS, TEMPI = ("A minor", "C major", "E minor", "F major"), (92, 104, 118)
BARS = 4


def exclusions(bench: Bench, count: int) -> list[Figure]:
    """Share of clips in which drums, and a piano, are heard although they are excluded, beside the same clips without
    the exclusion; and tempo and key of both."""
    figures = []
    for name, prompts, ways in (("drums", OF_DRUMS, NO_DRUMS), ("piano", OF_PIANO, NO_PIANO)):
        plain = [prompts[i % len(prompts)] for i in range(count)]
        ways = [ways[i % len(ways)] for i in range(count)]
        bpm, key = ([values[i % len(values)] for i in range(count)] for values in (TEMPI, KEYS))
        asked = {"prompt": plain, "bars": [BARS] * count, "bpm": bpm, "key": key}
        without = asked | {
            "prompt": [way.format(text) if way else text for way, text in zip(ways, plain, strict=True)],
            "negative_prompt": [None if way else name for way in ways],
        }
        heard = {
            source: analyse([mono(audio) for audio in make(bench, request)], bench.rate, bench.listeners, bench.pool)
            for source, request in (("excluded", without), ("not excluded", asked))
        }
        threshold = bench.listeners.thresholds.get(name, 0.5)
        there = {
            source: share([clip.tags[name] >= threshold for clip in clips if clip.tags is not None])
            for source, clips in heard.items()
        }
        figures.append(most(f"{name} excluded and yet heard, share", there["excluded"], count, ALLOWED, **other(there)))
        requests = [
            Request(bpm=tempo, key=tonic, beats_s=np.arange(4 * BARS) * 60.0 / tempo)
            for tempo, tonic in zip(bpm, key, strict=True)
        ]
        right = {source: compare(clips, requests, bench.listeners.thresholds) for source, clips in heard.items()}
        for figure, called in (("tempo_4pct", "tempo within 4 %"), ("key_exact", "key")):
            means = {s: summarise((one[figure] for one in found), bench.seed)["mean"] for s, found in right.items()}
            figures.append(Figure(f"{name} excluded: {called}", means["excluded"], count, beside=other(means)))
    return figures


def other(values: dict[str, float | None]) -> dict[str, float]:
    """What stands beside a figure."""
    return {source: value for source, value in values.items() if source != "excluded" and value is not None}
