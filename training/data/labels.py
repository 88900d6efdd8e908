"""The row of a clip: everything that is known of what was rendered, as labels and as captions."""

import math
from dataclasses import asdict

import numpy as np

from training.data.captions import Facts, captions, heldout_captions
from training.data.harmony import Chord, chroma, key_name, symbol
from training.data.piece import Piece, Track

CAPTIONS, HELDOUT_CAPTIONS = 8, 4  # of a clip


def row_of(
    piece: Piece,
    heard: list[Track],
    audio: np.ndarray,
    sampling_rate: int,
    clip_s: float,
    seed: tuple[int, int],
    loop: bool,
    soundfont: str,
) -> dict:
    """All labels of a rendered clip, but for its audio.

    Args:
        heard: tracks loud enough to be named.
        audio: (channels, samples).
        clip_s: length of the clip in seconds.
        seed: seed of the set and index of the clip; captions are drawn from them.
        loop: whether the clip repeats seamlessly.
        soundfont: name of the bank that it was played with.
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
    named = [t for t in heard if t.name not in ("drums", "percussion")]
    roles = {t.name: t.role for t in reversed(named)}  # of an instrument with several parts, the first
    names = list(dict.fromkeys(t.name for t in named))
    melody = next((t.name for t in heard if t.role == "melody"), None)
    drums = next((t.name for t in heard if t.role in ("drums", "percussion")), None)
    bars = clip_s / bar_s
    key = None if piece.tonic is None else key_name(piece.tonic, piece.minor)
    on_downbeat = downbeat_s < 1e-6
    facts = Facts(
        piece.style, piece.style_words, piece.style_heldout_words, piece.genre, tuple(piece.moods), tuple(names),
        melody, drums, piece.bpm, key, piece.meter,
        round(bars) if abs(bars - round(bars)) < 0.02 and on_downbeat else None, piece.room, piece.dynamics, loop,
        complete=len(heard) == len(piece.tracks),
    )  # fmt: skip
    texts, heldout = captions(facts, CAPTIONS, rng), heldout_captions(facts, HELDOUT_CAPTIONS, rng)
    return {
        "text": [text for text, _ in texts], "stated": [asdict(said) for _, said in texts],
        "text_heldout": [text for text, _ in heldout], "stated_heldout": [asdict(said) for _, said in heldout],
        "duration_s": clip_s, "sampling_rate": sampling_rate, "bpm": piece.bpm, "time_signature": piece.meter,
        "beats_per_bar": piece.beats_per_bar, "downbeat_s": downbeat_s, "beats_s": [round(b, 6) for b in beats],
        "downbeats_s": [round(b, 6) for b in downbeats], "starts_on_downbeat": on_downbeat, "loop": loop, "key": key,
        "chords": [chroma(c) for c in chords], "chord_symbols": [symbol(c) for c in chords], "instruments": names,
        "roles": [roles[name] for name in names], "melody_instrument": melody, "drums": drums == "drums",
        "percussion": drums is not None, "complete": facts.complete, "style": piece.style, "genre": piece.genre,
        "moods": piece.moods,
        "dynamics": piece.dynamics, "density": _density(piece, heard, clip_s), "room": piece.room,
        "soundfont": soundfont, "work": piece.work, "title": piece.title, "composer": piece.composer,
        "source": piece.source, "license": piece.license, "seed": list(seed),
        "peak": round(float(np.abs(audio).max()), 4),
        "rms_db": round(20.0 * math.log10(float(np.sqrt(np.mean(np.square(audio)))) + 1e-9), 2),
    }  # fmt: skip


def _density(piece: Piece, heard: list[Track], clip_s: float) -> float:
    """Notes that begin in the clip, of all heard parts together, a second."""
    starts = np.concatenate([piece.seconds(track.notes[:, 0]) for track in heard])
    return round(float(((starts >= 0.0) & (starts < clip_s)).sum() / clip_s), 2)


def _chord_at(piece: Piece, seconds: float) -> Chord | None:
    """The chord that sounds at a time after the start of the clip; None where unknown."""
    onset_q = piece.start_q + piece.quarters(seconds) + 1e-6
    chord = None
    for start, candidate in piece.chords:
        if start > onset_q:
            break
        chord = candidate
    return chord
