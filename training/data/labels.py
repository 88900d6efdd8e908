"""The row of a clip: everything that is known of what was rendered, as labels and as captions."""

import math

import numpy as np

from training.data.captions import Facts, captions, heldout_captions
from training.data.harmony import Chord, chroma, key_name, symbol
from training.data.piece import Piece, Track


def row_of(
    piece: Piece,
    heard: list[Track],
    audio: np.ndarray,
    sampling_rate: int,
    clip_s: float,
    seed: tuple[int, int],
) -> dict:
    """All labels of a rendered clip.

    Args:
        heard: tracks loud enough to be named.
        audio: (channels, samples).
        seed: seed of the set and index of the clip; captions are drawn from them.
    """
    rng = np.random.default_rng(np.random.SeedSequence([*seed, 2]))
    beat_s = 60.0 / piece.bpm
    first_bar = math.ceil(piece.start_q / piece.bar_q - 1e-9)
    downbeat_s = float(piece.seconds(first_bar * piece.bar_q))
    bar_s = beat_s * piece.beats_per_bar
    back = math.floor(downbeat_s / beat_s + 1e-9)
    beats = [downbeat_s + k * beat_s for k in range(-back, math.ceil(clip_s / beat_s) + 1)]
    beats = [max(0.0, b) for b in beats if b < clip_s - 1e-6]
    downbeats = [b for b in (downbeat_s + k * bar_s for k in range(math.ceil(clip_s / bar_s) + 1)) if b < clip_s - 1e-6]
    chords = [_chord_at(piece, b) for b in beats]
    names = list(dict.fromkeys(t.name for t in heard if t.name not in ("drums", "percussion")))
    melody = next((t.name for t in heard if t.role == "melody"), None)
    drums = next((t.name for t in heard if t.role in ("drums", "percussion")), None)
    bars = clip_s / bar_s
    key = None if piece.tonic is None else key_name(piece.tonic, piece.minor)
    facts = Facts(
        piece.style_words, piece.style_heldout_words, piece.genre, tuple(piece.moods), tuple(names), melody,
        drums, piece.bpm,
        key, piece.meter, round(bars) if abs(bars - round(bars)) < 0.02 and downbeat_s < 1e-6 else None,
        piece.room, piece.dynamics,
    )  # fmt: skip
    return {
        "file_name": f"{seed[1]:06d}.flac", "text": captions(facts, 6, rng),
        "text_heldout": heldout_captions(facts, 3, rng),
        "duration_s": clip_s, "sampling_rate": sampling_rate, "bpm": piece.bpm, "time_signature": piece.meter,
        "beats_per_bar": piece.beats_per_bar, "downbeat_s": downbeat_s, "beats_s": [round(b,
            6) for b in beats],
        "downbeats_s": [round(b, 6) for b in downbeats], "key": key, "chords": [chroma(c) for c in chords],
        "chord_symbols": [symbol(c) for c in chords], "instruments": names, "melody_instrument": melody,
        "drums": drums == "drums", "percussion": drums is not None, "style": piece.style,
        "genre": piece.genre,
        "moods": piece.moods, "dynamics": piece.dynamics, "room": piece.room, "work": piece.work,
        "title": piece.title,
        "composer": piece.composer, "source": piece.source, "license": piece.license, "seed": list(seed),
        "peak": round(float(np.abs(audio).max()), 4),
        "rms_db": round(20.0 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-9), 2),
    }  # fmt: skip


def _chord_at(piece: Piece, seconds: float) -> Chord | None:
    """The chord that sounds at a time after the start of the clip; None where unknown."""
    onset_q = piece.start_q + piece.quarters(seconds) + 1e-6
    chord = None
    for start, candidate in piece.chords:
        if start > onset_q:
            break
        chord = candidate
    return chord
