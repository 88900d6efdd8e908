"""Cuts a file into clips: whole bars from downbeat to downbeat where these are known, else equal pieces."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from pipelines.vivace_theory import parse_chord
from training.data.prepare.labellers import Labels, Listeners, estimate_labels
from training.data.prepare.settings import Settings

SLACK_S = 3.0  # looked past clip_s for the downbeat on which a clip may end
STEADY_S = 0.05  # stated beats may lie this far from an even grid; the network's grid is even
TIMED = ("beats_s", "downbeats_s", "chord_symbols")  # labels of the whole file that no clip may have as they are
SILENT = 1e-3  # RMS (-60 dB) under which a clip is silent


@dataclass(frozen=True)
class Clip:
    """Samples [start, stop) of the file, the row keys known of them, and the confidence of the estimated ones."""

    start: int
    stop: int
    labels: dict
    confidence: dict[str, float] = field(default_factory=dict)


def cut(
    audio: np.ndarray, offset_s: float, stated: dict, settings: Settings, listeners: Listeners | None
) -> Iterator[Clip]:
    """Clips of a file, first to last, silent ones included.

    The audio (channels, samples) begins `offset_s` seconds into the original, of which `stated` are the labels of the
    source; without listeners these alone are used.
    """
    rate, total = settings.sampling_rate, audio.shape[1]
    length, shortest = round(settings.clip_s * rate), round(settings.min_s * rate)
    beats = np.asarray(stated.get("beats_s", [])) - offset_s
    downbeats = np.asarray(stated.get("downbeats_s", [])) - offset_s
    start = 0
    while total - start >= shortest:
        if len(downbeats) or len(beats):
            begin, stop = _between(downbeats, start / rate, settings, total / rate)
            begin, stop = round(begin * rate), min(round(stop * rate), total)
            labels, confidence = _of_source(stated, beats, downbeats, begin / rate, stop / rate), {}
        elif listeners is None:
            begin, stop = start, min(start + length, total)
            labels, confidence = {k: v for k, v in stated.items() if k not in TIMED}, {}
        else:
            begin, stop, labels, confidence = _by_estimate(audio, start, stated, settings, listeners)
        if stop - begin < shortest:
            return
        yield Clip(begin, stop, labels, confidence)
        start = stop


def _between(downbeats: np.ndarray, after_s: float, settings: Settings, total_s: float) -> tuple[float, float]:
    """The first downbeat from a time on, and the last within clip_s of it; even pieces where there are none."""
    ahead = downbeats[(downbeats >= after_s - 1e-3) & (downbeats <= total_s)]
    if len(ahead) < 2 or ahead[0] - after_s > settings.clip_s:
        return after_s, min(after_s + settings.clip_s, total_s)
    if ahead[0] - after_s >= settings.min_s:  # an upbeat this long is a clip of its own
        return after_s, float(ahead[0])
    fitting = ahead[(ahead > ahead[0]) & (ahead <= ahead[0] + settings.clip_s + 1e-3)]
    if not len(fitting) or fitting[-1] - ahead[0] < settings.min_s:
        return float(ahead[0]), min(float(ahead[0]) + settings.clip_s, total_s)
    return float(ahead[0]), float(fitting[-1])


def _of_source(stated: dict, beats: np.ndarray, downbeats: np.ndarray, begin_s: float, stop_s: float) -> dict:
    """Stated labels of the seconds from `begin_s` to `stop_s`; beats off an even grid are unknown."""
    labels = {k: v for k, v in stated.items() if k not in (*TIMED, "bpm")}
    inside = (beats >= begin_s - 1e-3) & (beats < stop_s - 1e-3)
    mine = beats[inside] - begin_s
    if len(mine) < 3:
        return labels | ({"bpm": stated["bpm"]} if "bpm" in stated else {})
    slope, first = np.polyfit(np.arange(len(mine)), mine, 1)
    if np.abs(mine - (first + slope * np.arange(len(mine)))).max() > STEADY_S:
        return labels
    bars = downbeats[(downbeats >= begin_s - 1e-3) & (downbeats < stop_s - 1e-3)] - begin_s
    labels |= {"bpm": round(60.0 / slope, 3), "beats_s": np.maximum(mine, 0.0).round(6).tolist()}
    if len(downbeats):
        labels["downbeats_s"] = np.maximum(bars, 0.0).round(6).tolist()
    if "beats_per_bar" not in labels and len(bars) > 1:
        labels["beats_per_bar"] = max(1, round(float(np.median(np.diff(bars)) / slope)))
    symbols = stated.get("chord_symbols")
    if symbols is not None and len(symbols) == len(beats):
        labels["chord_symbols"] = [name for name, kept in zip(symbols, inside, strict=True) if kept]
        labels["chords"] = [parse_chord(name).astype(int).tolist() for name in labels["chord_symbols"]]
    return labels


def _by_estimate(
    audio: np.ndarray, start: int, stated: dict, settings: Settings, listeners: Listeners
) -> tuple[int, int, dict, dict]:
    """The next clip from `start` on, cut on estimated downbeats."""
    rate, total = settings.sampling_rate, audio.shape[1]
    window = audio[:, start : min(start + round((settings.clip_s + SLACK_S) * rate), total)].mean(axis=0)
    estimated = estimate_labels(window, rate, listeners)
    if "bpm" in stated and estimated.bpm is not None and abs(estimated.bpm / stated["bpm"] - 1.0) > 0.04:
        estimated = estimate_labels(
            window, rate, listeners, dict.fromkeys(estimated.confidence, 2.0)
        )  # the source contradicts it: leave all out
    begin_s, stop_s = 0.0, min(settings.clip_s, len(window) / rate)
    if estimated.downbeats_s is not None and len(estimated.downbeats_s) > 1:
        begin_s, stop_s = _between(np.asarray(estimated.downbeats_s), 0.0, settings, len(window) / rate)
    begin, stop = start + round(begin_s * rate), min(start + round(stop_s * rate), total)
    of_file = {k: v for k, v in stated.items() if k not in TIMED}
    return begin, stop, _moved(estimated, begin_s, stop_s) | of_file, estimated.confidence


def _moved(estimated: Labels, begin_s: float, stop_s: float) -> dict:
    """The labels of a window, for the clip from `begin_s` to `stop_s` of it."""
    labels: dict = {"bpm": estimated.bpm, "key": estimated.key, "beats_per_bar": estimated.beats_per_bar}
    if estimated.beats_s is None:
        return labels
    keep = [k for k, time in enumerate(estimated.beats_s) if begin_s - 1e-3 <= time < stop_s - 1e-3]
    labels["beats_s"] = [round(max(0.0, estimated.beats_s[k] - begin_s), 6) for k in keep]
    labels["chords"] = [estimated.chords[k] for k in keep]
    labels["chord_symbols"] = [estimated.chord_symbols[k] for k in keep]
    if estimated.downbeats_s is not None:
        inside = [time for time in estimated.downbeats_s if begin_s - 1e-3 <= time < stop_s - 1e-3]
        labels["downbeats_s"] = [round(max(0.0, time - begin_s), 6) for time in inside]
    return labels


def is_silent(audio: np.ndarray) -> bool:
    """Whether a clip's RMS is below -60 dB."""
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) < SILENT
