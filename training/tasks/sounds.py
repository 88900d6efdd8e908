"""Reference sounds: whether pieces come nearer to the timbre and mix of a recording of other music."""

import numpy as np
import soxr

from training.data.clips import read_audio
from training.metrics.features import LISTEN_RATE
from training.metrics.reconstruction import mel_magnitudes
from training.tasks.common import PIECE_S, Bench, Figure, arguments_for, bars_of, least, make, mono, share


def colour(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """The mean level of each mel band of audio (samples,) in dB, less their mean, so that loudness does not count."""
    audio = soxr.resample(audio.astype(np.float32), sampling_rate, LISTEN_RATE)
    levels = 20.0 * np.log10(mel_magnitudes(audio, LISTEN_RATE).mean(axis=1) + 1e-6)
    return levels - levels.mean()


def sounds(bench: Bench, count: int) -> list[Figure]:
    """Pieces made with the words of one clip and the sound of another; beside them the same without it, and the
    distance from a third clip (chance)."""
    if not bench.pipe.unet.config.get("reference_channels", 0):
        return [Figure("sounds: this checkpoint's network takes no reference", None, 0)]
    rows = bench.rows[:count]
    if len(rows) < 3:
        return [Figure("sounds: fewer than 3 clips", None, 0)]
    arguments = arguments_for(rows, bench.captions[: len(rows)], [bars_of(row, PIECE_S) for row in rows])
    clips = [(read_audio(row).numpy(), int(row["sampling_rate"])) for row in [*rows[1:], rows[0]]]
    numbers = [bench.pipe.sound_of(*clip) for clip in clips]
    wanted = [colour(mono(audio), rate) for audio, rate in clips]
    made = {
        name: [colour(mono(audio), bench.rate) for audio in make(bench, arguments | more)]
        for name, more in (("with", {"sounds_like": numbers}), ("without", {}))
    }

    def distances(pieces: list[np.ndarray], references: list[np.ndarray]) -> list[float]:
        return [float(np.abs(one - other).mean()) for one, other in zip(pieces, references, strict=True)]

    near, free = distances(made["with"], wanted), distances(made["without"], wanted)
    chance = distances(made["with"], [*wanted[1:], wanted[0]])
    means = {name: float(np.mean(values)) for name, values in (("without", free), ("another reference", chance))}
    nearer = share([one < other for one, other in zip(near, free, strict=True)])
    return [
        Figure("sound: difference of mel bands from the reference, dB", float(np.mean(near)), len(near), beside=means),
        least("sound: pieces nearer to the reference than without it, share", nearer, len(near), 0.9),
    ]
