"""How good are the labellers? Their accuracy and coverage on clips whose truth is known.

    python -m training.data.prepare.measure --data_dir data/scorebook --split test

Accuracy counts the labelled clips only; coverage is the share that got a label. "All" is what the accuracy would be if
every clip were labelled.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from training.config import command
from training.data.clips import read_audio, read_rows
from training.data.prepare.labellers import NOTES, THRESHOLDS, Ears, hear, hear_chords, load_ears
from training.files import write_json
from training.metrics import features
from training.metrics.beats import beat_f
from training.metrics.key import key_right
from training.metrics.tempo import tempo_right

EVERYTHING = dict.fromkeys(THRESHOLDS, 0.0)
NAMES = {
    "tempo": ("beats", "tempo within 4 %"),
    "beats": ("beats", "beat F at 70 ms"),
    "downbeats": ("downbeats", "downbeat F at 70 ms"),
    "key": ("key", "key, exact"),
    "chords": ("chords", "chord of a beat: root and third"),
    "chord_notes": ("chords", "chord of a beat: its notes are in the truth"),
}


def judge(row: dict, audio: np.ndarray, sampling_rate: int, ears: Ears) -> list[tuple[str, float, float]]:
    """(label, confidence, how right) of everything heard in one clip, whatever its confidence."""
    heard = hear(audio, sampling_rate, ears, EVERYTHING)
    sure, found = heard.confidence, []
    if row["bpm"] is not None and heard.bpm is not None:
        found.append(("tempo", sure["beats"], tempo_right(heard.bpm, row["bpm"])))
        if row["beats_s"] is not None:
            found.append(("beats", sure["beats"], beat_f(np.array(heard.beats_s), np.array(row["beats_s"]))))
        if heard.downbeats_s is not None and row["downbeats_s"] is not None:
            passed = sure["downbeats"] if sure["beats"] >= THRESHOLDS["beats"] else 0.0  # given only with beats
            right = beat_f(np.array(heard.downbeats_s), np.array(row["downbeats_s"]))
            found.append(("downbeats", passed, right))
    if row["key"] is not None and heard.key is not None:
        found.append(("key", sure["key"], key_right(heard.key, row["key"])))
    return found


def judge_chords(row: dict, audio: np.ndarray, sampling_rate: int) -> list[tuple[str, float, float]]:
    """The same of each beat's chord, on the true beats, so that it is chords that are measured."""
    if not row["chords"] or not row["beats_s"]:
        return []
    borders = np.append(np.asarray(row["beats_s"]), row["duration_s"])
    rows, names, sure = hear_chords(features.chroma(audio), borders)
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
    """Root and third of a symbol, with the labellers' names: "F#maj7" -> "Gb", "Dm7b5" -> "Dm"."""
    flat = {"C#": "Db", "D#": "Eb", "F#": "Gb", "G#": "Ab", "A#": "Bb", "Cb": "B", "Fb": "E", "E#": "F", "B#": "C"}
    root = symbol[:2] if symbol[1:2] in ("#", "b") else symbol[:1]
    quality = symbol[len(root) :].split("/")[0]
    minor = quality.startswith(("m", "dim", "o", "-")) and not quality.startswith("maj")
    root = flat.get(root, root)
    return (root if root in NOTES else "?") + ("m" if minor else "")


def summary(found: list[tuple[str, float, float]], clips: int) -> dict[str, dict]:
    """Accuracy at the threshold, coverage, accuracy without a threshold, and how many were judged."""
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
    parser = argparse.ArgumentParser(prog="training.data.prepare.measure", description=__doc__.split("\n")[0])
    parser.add_argument("--data_dir", default="data/scorebook")
    parser.add_argument("--split", default="test")
    parser.add_argument("--beat_tracker", default="checkpoints/beat_tracker")
    parser.add_argument("--key_network", default="checkpoints/key")
    parser.add_argument("--max_clips", type=int, default=None, help="the first so many")
    parser.add_argument("--output", default=None, help="JSON file for the figures and every judgement")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    ears = load_ears(arguments.beat_tracker, arguments.key_network)
    rows = read_rows(arguments.data_dir, arguments.split)[: arguments.max_clips]
    found = []
    for row in tqdm(rows, desc="labellers", unit="clip", disable=None):
        audio = read_audio(row).mean(dim=0).numpy()
        found += judge(row, audio, row["sampling_rate"], ears)
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
