"""Drum kits of single strokes: samples of Sonic Pi, all in the public domain (CC0), in place of a SoundFont's drums.

What a kit has no sample for is played by the SoundFont.
"""

import functools
from pathlib import Path

import numpy as np
import soundfile
import soxr

from training.data.scorebook.instruments import KITS

_REAL = {
    35: "drum_bass_soft", 36: "drum_bass_hard", 38: "drum_snare_hard", 40: "drum_snare_soft",
    42: "drum_cymbal_closed", 44: "drum_cymbal_pedal", 46: "drum_cymbal_open", 49: "drum_cymbal_hard",
    57: "drum_splash_hard", 51: "drum_cymbal_soft", 41: "drum_tom_lo_hard", 43: "drum_tom_lo_hard",
    45: "drum_tom_mid_hard", 47: "drum_tom_mid_hard", 48: "drum_tom_hi_hard", 50: "drum_tom_hi_hard",
    56: "drum_cowbell",
}  # fmt: skip
# Kit -> bass drum and snare, with the cymbals and toms of the real kit.
_STROKES = {
    "real": ("drum_bass_hard", "drum_snare_hard"), "heavy": ("drum_heavy_kick", "drum_snare_hard"),
    "haus": ("bd_haus", "sn_dub"), "tek": ("bd_tek", "elec_snare"), "klub": ("bd_klub", "elec_hi_snare"),
    "808": ("bd_808", "elec_filt_snare"), "zome": ("bd_zome", "sn_zome"), "gas": ("bd_gas", "elec_mid_snare"),
    "fat": ("bd_fat", "sn_dub"), "sone": ("bd_sone", "elec_mid_snare"), "ada": ("bd_ada", "elec_lo_snare"),
}  # fmt: skip
_ACOUSTIC = ("real", "heavy")
SAMPLE_KITS = {
    name: _REAL | {36: kick, 38: snare} | ({} if name in _ACOUSTIC else {35: kick, 40: snare})
    for name, (kick, snare) in _STROKES.items()
}
# General MIDI kits that samples may replace.
_REPLACED = {"acoustic": (*KITS["standard"], *KITS["room"], *KITS["power"]),
             "electronic": (*KITS["electronic"], *KITS["808"])}  # fmt: skip
_PEAKS = {35: 0.5, 36: 0.5, 38: 0.42, 40: 0.42, 41: 0.4, 43: 0.4, 45: 0.4, 47: 0.4, 48: 0.4, 50: 0.4}
_CYMBAL_PEAK = 0.16
_CLOSING = {42: 46, 44: 46}  # a stroke that ends the sound of another


def draw_kit(program: int, rng: np.random.Generator) -> str:
    """A kit in the place of a General MIDI kit; "" for one that has no match."""
    if program in _REPLACED["electronic"]:
        names = [name for name in SAMPLE_KITS if name not in _ACOUSTIC]
    elif program in _REPLACED["acoustic"]:
        names = [*_ACOUSTIC, *_ACOUSTIC, "fat", "haus"]
    else:
        return ""
    return names[int(rng.integers(len(names)))]


@functools.lru_cache(maxsize=256)
def _stroke(path: Path, rate: int) -> np.ndarray:
    """A sample from its attack on, (samples, 2), with a peak of 1."""
    sound, own_rate = soundfile.read(path, dtype="float32", always_2d=True)
    sound = np.repeat(sound, 2, axis=1)[:, :2] if sound.shape[1] == 1 else sound[:, :2]
    if own_rate != rate:
        sound = soxr.resample(sound, own_rate, rate)
    loudness = np.abs(sound).max(axis=1)
    return sound[int(np.argmax(loudness > 0.1 * loudness.max())) :] / loudness.max()


def play_kit(
    folder: Path, kit: str, events: list[tuple[int, bool, int, int]], total: int, rate: int
) -> tuple[np.ndarray, list[tuple[int, bool, int, int]]]:
    """The strokes of a kit of `SAMPLE_KITS`, float32 (total, 2), and the events that it has no sample for. Events are
    (sample, is on, pitch, velocity) in order."""
    samples, sound = SAMPLE_KITS[kit], np.zeros((total, 2), dtype=np.float32)
    strokes = [(place, pitch, velocity) for place, on, pitch, velocity in events if on and pitch in samples]
    fade = np.linspace(1.0, 0.0, round(0.01 * rate), dtype=np.float32)[:, None]
    for number, (place, pitch, velocity) in enumerate(strokes):
        stroke = _stroke(folder / f"{samples[pitch]}.flac", rate)[: total - place]
        end = next((p for p, other, _ in strokes[number + 1 :] if _CLOSING.get(other, other) == pitch), total)
        if end - place + len(fade) < len(stroke) and pitch in _CLOSING.values():
            stroke = stroke[: end - place + len(fade)].copy()
            stroke[-len(fade) :] *= fade
        sound[place : place + len(stroke)] += velocity / 127.0 * _PEAKS.get(pitch, _CYMBAL_PEAK) * stroke
    return sound, [event for event in events if event[2] not in samples]
