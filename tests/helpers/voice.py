"""Tunes sung, hummed or whistled by a synthetic voice, and rhythms tapped or beatboxed, whose notes are certain."""

import numpy as np

RATE = 22050
# Tunes in the public domain: meter, beats a minute, and notes as pitch:quarters.
TUNES = {
    "ode to joy": ("4/4", 104, "64:1 64:1 65:1 67:1 67:1 65:1 64:1 62:1 60:1 60:1 62:1 64:1 64:1.5 62:.5 62:2"),
    "twinkle": ("4/4", 96, "60:1 60:1 67:1 67:1 69:1 69:1 67:2 65:1 65:1 64:1 64:1 62:1 62:1 60:2"),
    "frere jacques": ("4/4", 112, "60:1 62:1 64:1 60:1 60:1 62:1 64:1 60:1 64:1 65:1 67:2 64:1 65:1 67:2 "
                                  "67:.5 69:.5 67:.5 65:.5 64:1 60:1"),
    "saints": ("4/4", 120, "60:1 64:1 65:1 67:5 60:1 64:1 65:1 67:5 60:1 64:1 65:1 67:2 64:2 60:2 64:2 62:4"),
    "yankee doodle": ("4/4", 108, "60:.5 60:.5 62:.5 64:.5 60:.5 64:.5 62:1 60:.5 60:.5 62:.5 64:.5 60:1 59:1 "
                                  "60:.5 60:.5 62:.5 64:.5 65:.5 64:.5 62:.5 60:.5 59:.5 55:.5 57:.5 59:.5 60:1 60:1"),
    "silent night": ("3/4", 92, "67:1.5 69:.5 67:1 64:3 67:1.5 69:.5 67:1 64:3 74:2 74:1 71:3 72:2 72:1 67:3"),
    "barbara allen": ("3/4", 84, "60:1 64:.5 65:.5 67:1 65:.5 64:.5 62:1 60:1 62:2 64:.5 67:.5 72:1 72:1 71:1 67:2"),
    "korobeiniki": ("4/4", 126, "76:1 71:.5 72:.5 74:1 72:.5 71:.5 69:1 69:.5 72:.5 76:1 74:.5 72:.5 71:1.5 72:.5 "
                                "74:1 76:1 72:1 69:1 69:2"),
}  # fmt: skip
FORMANTS = {"a": (730, 1090, 2440), "o": (570, 840, 2410), "m": (270, 1000, 2200)}


def tune(name: str) -> tuple[str, float, np.ndarray]:
    """Meter, tempo and notes (n, 4) in quarters as those of a score, velocity 0.8."""
    meter, bpm, text = TUNES[name]
    pairs = np.array([[float(part) for part in word.split(":")] for word in text.split()])
    onsets = pairs[:, 1].cumsum() - pairs[:, 1]
    return meter, float(bpm), np.column_stack([onsets, pairs[:, 1], pairs[:, 0], np.full(len(pairs), 0.8)])


def sing(
    notes: np.ndarray,
    seed: int,
    vowel: str = "a",
    transpose: int = 0,
    vibrato_cents: float = 40.0,
    slide_s: float = 0.08,
    breath: float = 0.02,
    whistle: bool = False,
    late_s: float = 0.0,
    lead_in_s: float = 0.4,
) -> tuple[np.ndarray, np.ndarray]:
    """Notes (n, 4) in seconds -> mono audio at `RATE`, and the notes (n, 3) as sung: onset and end in seconds, pitch.

    Args:
        seed: of what differs from note to note: 15 cents of tune, 1.5 dB of level, vibrato of 5 to 6 Hz.
        vowel: of `FORMANTS`.
        vibrato_cents: depth to either side, reached 0.2 s after a note begins.
        slide_s: from a note to the next one, centred on the onset, where no breath is taken between them.
        breath: level of the noise beside the voice.
        whistle: a sine with a little noise in place of harmonics.
        late_s: standard deviation of the onsets.
        lead_in_s: silence at the beginning.
    """
    rng = np.random.default_rng(seed)
    onset = notes[:, 0] + rng.normal(0.0, late_s, len(notes)) - notes[0, 0] + lead_in_s
    end = np.append(np.minimum(notes[:-1, 0] + notes[:-1, 1], notes[1:, 0]), notes[-1, :2].sum()) - notes[0, 0]
    end = np.minimum(end + lead_in_s, np.append(onset[1:], np.inf))
    sung = np.column_stack([onset, end, notes[:, 2] + transpose])
    size = int((end[-1] + 0.4) * RATE)
    time = np.arange(size) / RATE
    tuned = sung[:, 2] + rng.normal(0.0, 0.15, len(notes))
    place = np.clip(np.searchsorted(onset, time, side="right") - 1, 0, None)
    pitch = tuned[place].copy()
    for k in range(1, len(notes)):
        if onset[k] - end[k - 1] < 0.03:
            near = np.abs(time - onset[k]) < slide_s / 2
            share = 0.5 - 0.5 * np.cos(np.pi * (time[near] - onset[k] + slide_s / 2) / slide_s)
            pitch[near] = tuned[k - 1] + share * (tuned[k] - tuned[k - 1])
    since = np.maximum(time - onset[place], 0.0)
    rate = rng.uniform(5.0, 6.0, len(notes))[place]
    pitch += vibrato_cents / 100 * np.clip(since / 0.2, 0, 1) * np.sin(2 * np.pi * rate * since)
    hertz = 440.0 * 2 ** ((pitch - 69) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / RATE
    level = np.zeros(size)
    for k, (first, last, _) in enumerate(sung):
        inside = (time >= first) & (time < last)
        again = k + 1 < len(sung) and sung[k + 1, 2] == sung[k, 2]  # a repeated note: the voice closes for a moment
        close = 0.06 if again else 0.03 if k + 1 == len(sung) or onset[k + 1] - last > 0.03 else 0.0
        rise = np.clip((time[inside] - first) / 0.03, 0, 1) if close or k == 0 or sung[k - 1, 2] == sung[k, 2] else 1.0
        fall = np.clip((last - time[inside]) / close, 0, 1) if close else 1.0
        level[inside] = np.maximum(rise * fall, 0.03 if again else 0.0) * 10 ** (rng.normal(0, 1.5) / 20)
    level = np.convolve(level, np.hanning(441) / np.hanning(441).sum(), mode="same")  # 20 ms
    voice = np.sin(phase) if whistle else np.zeros(size)
    for harmonic in range(1, 0 if whistle else 25):
        at = harmonic * hertz
        gain = sum(1.0 / (1.0 + ((at - centre) / (80 + 0.1 * centre)) ** 2) for centre in FORMANTS[vowel]) + 0.05
        voice += np.where(at < 0.45 * RATE, gain / harmonic, 0.0) * np.sin(harmonic * phase)
    voice *= level / np.abs(voice).max()
    noise = rng.standard_normal(size) * (0.3 + 0.7 * level)
    return (0.5 * voice + 0.5 * breath * noise).astype(np.float32), sung


def seconds(notes: np.ndarray, bpm: float) -> np.ndarray:
    """Notes in quarters, as in seconds at a tempo of quarters."""
    return notes * (60.0 / bpm, 60.0 / bpm, 1.0, 1.0)


def hit(kind: str, rng: np.random.Generator) -> np.ndarray:
    """One beatboxed sound: "kick", "snare" or "hat"."""
    time = np.arange(int(0.2 * RATE)) / RATE
    noise = rng.standard_normal(len(time))
    if kind == "kick":  # a lip burst: a falling tone and little noise
        return np.sin(2 * np.pi * (60 * time + 3.0 * (1 - np.exp(-time / 0.02)))) * np.exp(-time / 0.06)
    bright = np.convolve(noise, [0.5, -1.0, 0.5], mode="same")
    if kind == "hat":  # "ts"
        return 0.5 * bright * np.exp(-time / 0.03)
    body = np.convolve(noise, np.hanning(9) / np.hanning(9).sum(), mode="same")
    return (1.2 * body + 0.15 * bright + 0.4 * np.sin(2 * np.pi * 190 * time)) * np.exp(-time / 0.06)  # "pf", "ka"


def beatbox(hits: list[tuple[float, str]], seed: int, late_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Hits (seconds, kind) -> mono audio at `RATE`, and the times as played."""
    rng = np.random.default_rng(seed)
    times = np.array([time for time, _ in hits]) + rng.normal(0.0, late_s, len(hits)) + 0.3
    audio = np.zeros(int((times.max() + 0.6) * RATE))
    for time, (_, kind) in zip(times, hits, strict=True):
        sound = hit(kind, rng) * 10 ** (rng.normal(0, 1.5) / 20)
        start = round(time * RATE)
        audio[start : start + len(sound)] += sound
    audio += 0.002 * rng.standard_normal(len(audio))
    return (0.6 * audio / np.abs(audio).max()).astype(np.float32), times
