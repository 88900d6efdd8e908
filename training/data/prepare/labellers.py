"""Estimates tempo, beats, downbeats, key and chords of audio, each with a confidence; uncertain labels are left out.

Confidence is agreement: an estimate that is the same in parts of the clip, and when it is played faster or slower, is
likely right (Holzapfel et al., "Selective sampling for beat tracking evaluation", IEEE TASLP 2012, on agreement).
`python -m training.data.prepare.labellers` prints the accuracy of each label above its threshold, and its coverage.
"""

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import soxr
import torch
from tqdm import tqdm

from pipelines.vivace_theory import PITCH_CLASSES, read_chord
from training.config import command
from training.data.clips import read_audio, read_rows
from training.listeners.beat_tracker import BeatTracker, load_beat_tracker
from training.listeners.key import KeyNetwork, load_key_network
from training.metrics import features
from training.metrics.control import beat_f, key_right, tempo_right
from training.metrics.features import CHROMA_RATE, LISTEN_RATE
from training.run.checkpoints import write_json

# Confidence from which a label is given. Chosen on the scorebook's validation split.
THRESHOLDS = {"beats": 0.90, "downbeats": 0.60, "key": 0.60, "chords": 0.75}
SPEED = 1.12  # of the repeated estimates, and its inverse
SAME_TEMPO = 0.03
JOINED = 0.4  # difference of contrast from which two bars of two beats are one of four
PART = 0.7  # of the clip: length of the two parts, at its beginning and its end, with estimates of their own
STAY = 0.6  # probability that the chord of a beat is that of the one before
SHARPNESS = 40.0  # of a chord's likelihood in the cosine with its triad


@dataclass(frozen=True)
class Listeners:
    """The networks that estimate beats and key."""

    beats: BeatTracker
    key: KeyNetwork


@dataclass(frozen=True)
class Labels:
    """The estimated labels of a clip; None = unknown. Times in seconds from its start."""

    # bpm, beats_s: an even grid; both or neither
    bpm: float | None
    beats_s: list[float] | None
    # downbeats_s, beats_per_bar: both or neither, and only with beats
    downbeats_s: list[float] | None
    beats_per_bar: int | None
    key: str | None  # as "A minor"
    chords: list[list[int]] | None  # (beats, 12) of 0 and 1, a row of zeros where unknown; None without beats
    chord_symbols: list[str] | None  # a name a beat, "N" where unknown
    # 0 to 1 of beats, downbeats, key and (mean) chords, whether above the threshold or not
    confidence: dict[str, float]


def load_listeners(beat_tracker: str, key: str) -> Listeners:
    """The networks in two folders; a ValueError if they cannot be read."""
    return Listeners(load_beat_tracker(beat_tracker)[0], load_key_network(key)[0])


def estimate_labels(
    audio: np.ndarray, sampling_rate: int, listeners: Listeners, thresholds: dict[str, float] | None = None
) -> Labels:
    """The labels of audio (samples,) of a few bars."""
    limits = THRESHOLDS if thresholds is None else thresholds
    if sampling_rate != LISTEN_RATE:
        audio = soxr.resample(audio.astype(np.float32), sampling_rate, LISTEN_RATE)
    duration_s = len(audio) / LISTEN_RATE
    chroma = features.chroma(audio)
    bpm, beats, downbeats, confidence = estimate_beats(audio, listeners.beats)
    if len(beats):
        downbeats, change = bars_by_harmony(chroma, beats, downbeats)
        confidence["downbeats"] *= change
    key, confidence["key"] = estimate_key(audio, listeners.key)
    sure_of_beats = confidence["beats"] >= limits["beats"]
    bars = sure_of_beats and confidence["downbeats"] >= limits["downbeats"] and len(downbeats) > 1
    rows, symbols, sure = (
        estimate_chords(chroma, np.append(beats, duration_s)) if sure_of_beats else (None, None, np.zeros(0))
    )
    if sure_of_beats:
        confidence["chords"] = float(sure.mean()) if len(sure) else 0.0
        unsure = sure < limits["chords"]
        rows = [[0] * 12 if hidden else row for row, hidden in zip(rows, unsure, strict=True)]
        symbols = ["N" if hidden else name for name, hidden in zip(symbols, unsure, strict=True)]
    return Labels(
        bpm=round(bpm, 3) if sure_of_beats else None,
        beats_s=beats.round(6).tolist() if sure_of_beats else None,
        downbeats_s=downbeats.round(6).tolist() if bars else None,
        beats_per_bar=_beats_per_bar(beats, downbeats) if bars else None,
        key=key if confidence["key"] >= limits["key"] else None,
        chords=rows,
        chord_symbols=symbols,
        confidence={name: round(value, 3) for name, value in confidence.items()},
    )


def estimate_beats(audio: np.ndarray, tracker: BeatTracker) -> tuple[float, np.ndarray, np.ndarray, dict[str, float]]:
    """Tempo, beats and downbeats (seconds) of audio (samples,) at LISTEN_RATE, and the agreement of several estimates.

    The estimate is repeated with the clip played faster and slower, which shifts it against any tempo that the tracker
    prefers, and in two parts. The confidence of beats is the mean of the F-measures at 70 ms of the faster and the
    slower estimate against the plain one, and of the share of parts with the same tempo.
    """
    whole = tracker.track(audio, LISTEN_RATE)
    beats, downbeats = np.asarray(whole.beats_s), np.asarray(whole.downbeats_s)
    if len(beats) < 3 or not np.any(np.abs(audio) > 1e-4):
        return 0.0, np.zeros(0), np.zeros(0), {"beats": 0.0, "downbeats": 0.0}
    agree, bars = [], []
    for speed in (SPEED, 1.0 / SPEED):
        other = tracker.track(soxr.resample(audio, LISTEN_RATE * speed, LISTEN_RATE), LISTEN_RATE)
        agree.append(beat_f(other.beats_s * speed, beats))
        bars.append(beat_f(other.downbeats_s * speed, downbeats))
    length = round(PART * len(audio))
    same_tempo = []
    for start in (0, len(audio) - length):
        part = tracker.track(audio[start : start + length], LISTEN_RATE)
        begin_s, end_s = start / LISTEN_RATE, (start + length) / LISTEN_RATE
        same_tempo.append(abs(part.tempo_bpm / whole.tempo_bpm - 1.0) < SAME_TEMPO)
        bars.append(beat_f(part.downbeats_s + begin_s, downbeats[(downbeats >= begin_s) & (downbeats < end_s)]))
    confidence = {"beats": float(np.mean([*agree, np.mean(same_tempo)])), "downbeats": float(np.mean(bars))}
    return float(whole.tempo_bpm), beats, downbeats, confidence


def bars_by_harmony(chroma: np.ndarray, beats: np.ndarray, downbeats: np.ndarray) -> tuple[np.ndarray, float]:
    """Downbeats confirmed, or bars of two beats joined to four, by where the harmony changes.

    Chords change on downbeats more than elsewhere (Goto, "An audio-based real-time beat tracking system", 2001). The
    contrast of a way to count is the mean change of chroma from the beat before on its downbeats less that on the other
    beats, in standard deviations.

    Returns:
        Downbeats in seconds, and a confidence from 0 to 1: how far the contrast lies above that of the same bar counted
        from another beat; at two standard deviations it is 1.
    """
    index = np.abs(beats[:, None] - downbeats[None, :]).argmin(axis=0)
    bar = round(float(np.median(np.diff(index)))) if len(index) > 1 else 0
    if not 2 <= bar <= 4 or len(beats) < 2 * bar:
        return downbeats, 0.0
    # Rooted, so that a louder note on a downbeat is no change of harmony.
    means = np.sqrt(beat_chroma(chroma, np.append(beats, 2.0 * beats[-1] - beats[-2])))
    means /= np.linalg.norm(means, axis=1, keepdims=True) + 1e-9
    change = 1.0 - (means[1:] * means[:-1]).sum(axis=1)
    change = np.append(np.median(change), change)  # unknown before the first beat
    place = np.arange(len(beats))

    def contrast(beats_per_bar: int, first: int) -> float:
        on = place % beats_per_bar == first
        return float((change[on].mean() - change[~on].mean()) / (change.std() + 1e-9))

    first = int(index[0]) % bar
    if bar == 2 and len(beats) >= 8 and abs(contrast(4, first) - contrast(4, first + 2)) > JOINED:
        bar, first = 4, max((first, first + 2), key=lambda beat: contrast(4, beat))
    margin = contrast(bar, first) - max(contrast(bar, beat) for beat in range(bar) if beat != first)
    return beats[place % bar == first], float(np.clip(margin / 2.0, 0.0, 1.0))


def _beats_per_bar(beats: np.ndarray, downbeats: np.ndarray) -> int:
    return max(1, round(float(np.median(np.diff(downbeats)) / np.median(np.diff(beats)))))


def estimate_key(audio: np.ndarray, network: KeyNetwork) -> tuple[str | None, float]:
    """Key of audio (samples,) at LISTEN_RATE, and its mean probability in the two halves of the clip."""
    whole = network.listen(audio, LISTEN_RATE)
    if whole is None:
        return None, 0.0
    halves = (network.listen(part, LISTEN_RATE) for part in np.array_split(audio, 2))
    return whole.name, float(np.mean([half.probabilities[whole.name] if half else 0.0 for half in halves]))


def estimate_chords(chroma: np.ndarray, borders_s: np.ndarray) -> tuple[list[list[int]], list[str], np.ndarray]:
    """The triad of each beat, by a hidden Markov model over beats whose states are the 24 major and minor triads.

    The chroma is (12, frames), and `borders_s` (beats + 1,) where each beat begins and the last ends. Returns chroma
    rows (beats, 12), names, and posterior probabilities (beats,).
    """
    templates = np.zeros((24, 12))
    for state, (mode, tonic) in enumerate(itertools.product(range(2), range(12))):
        templates[state, [tonic, (tonic + 4 - mode) % 12, (tonic + 7) % 12]] = 1.0
    names = [PITCH_CLASSES[s % 12] + ("" if s < 12 else "m") for s in range(24)]
    means = beat_chroma(chroma, borders_s)
    # A chord with more energy than its triad is as likely as before: cosine, not correlation.
    size = np.linalg.norm(means, axis=1, keepdims=True) * np.sqrt(3.0)
    likelihood = np.exp(SHARPNESS * (means @ templates.T / np.maximum(size, 1e-9)))  # (beats, 24)
    moves = librosa.sequence.transition_loop(24, STAY)
    posterior = _posterior(likelihood / likelihood.sum(axis=1, keepdims=True), moves)
    best = posterior.argmax(axis=1)
    return templates[best].astype(int).tolist(), [names[state] for state in best], posterior.max(axis=1)


def beat_chroma(chroma: np.ndarray, borders_s: np.ndarray) -> np.ndarray:
    """(beats, 12): the mean of a chroma (12, frames) over each beat."""
    frames = np.round(np.asarray(borders_s) * CHROMA_RATE).astype(int)
    means = np.zeros((len(frames) - 1, 12))
    for beat, (first, last) in enumerate(itertools.pairwise(frames)):
        part = chroma[:, max(first, 0) : max(last, first + 1)]
        if part.shape[1]:
            means[beat] = part.mean(axis=1)
    return means


def _posterior(likelihood: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """(beats, states) probability of each state given all beats: forward-backward (Rabiner 1989, section III)."""
    forward, backward = np.empty_like(likelihood), np.ones_like(likelihood)
    state = np.full(likelihood.shape[1], 1.0 / likelihood.shape[1])
    for beat, observed in enumerate(likelihood):
        state = (state @ moves if beat else state) * observed
        state = state / state.sum()
        forward[beat] = state
    for beat in range(len(likelihood) - 2, -1, -1):
        step = moves @ (likelihood[beat + 1] * backward[beat + 1])
        backward[beat] = step / step.sum()
    both = forward * backward
    return both / both.sum(axis=1, keepdims=True)


# ---- accuracy and coverage of the labels, on clips whose labels are given -------------------------------------------

EVERYTHING = dict.fromkeys(THRESHOLDS, 0.0)
NAMES = {
    "tempo": ("beats", "tempo within 4 %"),
    "beats": ("beats", "beat F at 70 ms"),
    "downbeats": ("downbeats", "downbeat F at 70 ms"),
    "key": ("key", "key, exact"),
    "chords": ("chords", "chord of a beat: root and third"),
    "chord_notes": ("chords", "chord of a beat: its notes are in the truth"),
}


def judge(row: dict, audio: np.ndarray, sampling_rate: int, listeners: Listeners) -> list[tuple[str, float, float]]:
    """(label, confidence, score from 0 to 1) of each estimate for one clip, whatever its confidence."""
    estimated = estimate_labels(audio, sampling_rate, listeners, EVERYTHING)
    sure, found = estimated.confidence, []
    if row["bpm"] is not None and estimated.bpm is not None:
        found.append(("tempo", sure["beats"], tempo_right(estimated.bpm, row["bpm"])))
        if row["beats_s"] is not None:
            found.append(("beats", sure["beats"], beat_f(np.array(estimated.beats_s), np.array(row["beats_s"]))))
        if estimated.downbeats_s is not None and row["downbeats_s"] is not None:
            passed = sure["downbeats"] if sure["beats"] >= THRESHOLDS["beats"] else 0.0  # given only with beats
            right = beat_f(np.array(estimated.downbeats_s), np.array(row["downbeats_s"]))
            found.append(("downbeats", passed, right))
    if row["key"] is not None and estimated.key is not None:
        found.append(("key", sure["key"], key_right(estimated.key, row["key"])))
    return found


def judge_chords(row: dict, audio: np.ndarray, sampling_rate: int) -> list[tuple[str, float, float]]:
    """The same for the chord of each beat, on the given beats, so that errors of beats do not count."""
    if not row["chords"] or not row["beats_s"]:
        return []
    if sampling_rate != LISTEN_RATE:
        audio = soxr.resample(audio.astype(np.float32), sampling_rate, LISTEN_RATE)
    borders = np.append(np.asarray(row["beats_s"]), row["duration_s"])
    rows, names, sure = estimate_chords(features.chroma(audio), borders)
    found = []
    for chroma, name, confidence, truth, symbol in zip(
        rows, names, sure, row["chords"], row["chord_symbols"], strict=True
    ):
        if not any(truth):
            continue
        found.append(("chord_notes", float(confidence), float(all(t for c, t in zip(chroma, truth, strict=True) if c))))
        if symbol not in (None, "", "N"):
            found.append(("chords", float(confidence), float(_triad(symbol) == name)))
    return found


def _triad(symbol: str) -> str:
    """Root and third of a symbol, as the labels name them: "F#maj7" -> "Gb", "Dm7b5" -> "Dm"; "?" if unreadable."""
    try:
        chord = read_chord(symbol)
    except ValueError:
        return "?"
    return PITCH_CLASSES[chord.root] + ("m" if 3 in chord.intervals and 4 not in chord.intervals else "")


def summary(found: list[tuple[str, float, float]], clips: int) -> dict[str, dict]:
    """Of each label: accuracy above its threshold, coverage, accuracy of all estimates, and the number of estimates."""
    out = {}
    for name, (threshold, words) in NAMES.items():
        values = np.array([(sure, right) for label, sure, right in found if label == name])
        if not len(values):
            continue
        given = values[:, 0] >= THRESHOLDS[threshold]
        out[name] = {
            "figure": words, "threshold": THRESHOLDS[threshold],
            "accuracy": float(values[given, 1].mean()) if given.any() else None,
            "coverage": float(given.mean()), "accuracy_of_all": float(values[:, 1].mean()), "judged": len(values),
            "clips": clips,
        }  # fmt: skip
    return out


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.data.prepare.labellers", description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", default="data/scorebook", help="folder of labelled clips")
    parser.add_argument("--split", default="test", help="split of data_dir")
    parser.add_argument("--beat_tracker", default="checkpoints/beat_tracker", help="folder of the beat tracker")
    parser.add_argument("--key_network", default="checkpoints/key", help="folder of the key network")
    parser.add_argument("--max_clips", type=int, default=None, help="the first so many")
    parser.add_argument("--output", default=None, help="JSON file for the figures and every judgement")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    listeners = load_listeners(arguments.beat_tracker, arguments.key_network)
    rows = read_rows(arguments.data_dir, arguments.split)[: arguments.max_clips]
    found = []
    for row in tqdm(rows, desc="labellers", unit="clip", disable=None):
        audio = read_audio(row).mean(dim=0).numpy()
        found += judge(row, audio, row["sampling_rate"], listeners)
        found += judge_chords(row, audio, row["sampling_rate"])
    figures = summary(found, len(rows))
    print(f"| label | threshold | accuracy where given | coverage | accuracy of all | judged |\n|{'---|' * 6}")
    for values in figures.values():
        accuracy = "-" if values["accuracy"] is None else f"{values['accuracy']:.3f}"
        print(
            f"| {values['figure']} | {values['threshold']} | {accuracy} | {values['coverage']:.3f} | "
            f"{values['accuracy_of_all']:.3f} | {values['judged']} |"
        )
    if arguments.output:
        write_json(Path(arguments.output), {"figures": figures, "judged": found})


if __name__ == "__main__":
    command(main)
