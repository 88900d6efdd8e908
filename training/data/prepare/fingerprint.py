"""Which files are the same recording? Fingerprints that survive re-encoding, gain and cutting.

After Haitsma and Kalker, "A Highly Robust Audio Fingerprinting System" (ISMIR 2002): 32 bits a frame, each the sign of
the change, in time and between neighbouring bands, of the energy in 33 bands from 300 to 2,000 Hz. Gain cancels in the
sign; coding noise turns few bits. Two files are compared where some of their words are equal, by the share of bits
that differ at that offset: about a half for different music.
"""

import numpy as np
import soxr

RATE = 5512  # Hz
WINDOW = 2048  # samples: 0.37 s
HOP = 128  # samples: 23 ms
BANDS = 33
ERROR_RATE = 0.30  # of the bits; the paper's threshold is 0.35, for 3 s of audio
OVERLAP = 0.8  # of the shorter file must agree
INDEX_EVERY = 4  # one in INDEX_EVERY words of the stored side is indexed
COMMON = 200  # words found more often than this are ignored (a held tone, silence)
CANDIDATES = 8  # offsets of a pair that are compared in full
SHORTEST = 64  # words (1.5 s); shorter files are not compared


def fingerprint(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """(words,) uint32 of audio (samples,)."""
    audio = soxr.resample(audio.astype(np.float32), sampling_rate, RATE, quality="MQ")
    if len(audio) < WINDOW + HOP:
        return np.zeros(0, np.uint32)
    edges = np.geomspace(300.0, 2000.0, BANDS + 1) * WINDOW / RATE
    borders = np.unique(np.round(edges).astype(int))
    window = np.hanning(WINDOW).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(audio, WINDOW)[::HOP]
    energy = np.empty((len(frames), len(borders) - 1))
    for first in range(0, len(frames), 1024):  # a long file would not fit at once
        power = np.abs(np.fft.rfft(frames[first : first + 1024] * window, axis=1)) ** 2
        energy[first : first + 1024] = np.add.reduceat(power, borders, axis=1)[:, :-1]
    slope = energy[:, :-1] - energy[:, 1:]  # (frames, bands - 1)
    bits = (slope[1:] - slope[:-1]) > 0.0
    return (bits.astype(np.uint64) << np.arange(bits.shape[1], dtype=np.uint64)).sum(axis=1).astype(np.uint32)


def find_duplicates(prints: list[np.ndarray]) -> dict[int, tuple[int, float]]:
    """Which recordings are in an earlier one of the list, in the order of preference: place of a duplicate -> (place of
    the first of its group, which stays, share of bits that agree)."""
    words = [p[::INDEX_EVERY] for p in prints]
    owner = np.repeat(np.arange(len(prints)), [len(w) for w in words])
    position = np.concatenate([np.arange(len(w)) * INDEX_EVERY for w in words]) if words else np.zeros(0, int)
    stored = np.concatenate(words) if words else np.zeros(0, np.uint32)
    order = np.argsort(stored, kind="stable")
    stored, owner, position = stored[order], owner[order], position[order]
    found: dict[int, tuple[int, float]] = {}
    for place, mine in enumerate(prints):
        if len(mine) < SHORTEST:
            continue
        first, last = np.searchsorted(stored, mine, "left"), np.searchsorted(stored, mine, "right")
        count = np.where(last - first <= COMMON, last - first, 0)
        at = np.repeat(np.arange(len(mine)), count)
        hits = np.repeat(first - np.concatenate([[0], np.cumsum(count)[:-1]]), count) + np.arange(count.sum())
        earlier = owner[hits] < place
        hits, at = hits[earlier], at[earlier]
        best = _best_match(mine, prints, owner[hits], position[hits] - at, found)
        if best is not None:
            found[place] = best
    return found


def _best_match(
    mine: np.ndarray, prints: list[np.ndarray], owners: np.ndarray, offsets: np.ndarray, found: dict
) -> tuple[int, float] | None:
    """The earlier print, not itself a duplicate, that this one agrees with most; None below the thresholds."""
    best = None
    for other in np.unique(owners):
        if other in found or len(prints[other]) < SHORTEST:
            continue
        votes, counts = np.unique(offsets[owners == other], return_counts=True)
        for offset in votes[np.argsort(counts)[::-1][:CANDIDATES]]:
            agreement = _agreement(mine, prints[other], int(offset))
            if agreement >= 1.0 - ERROR_RATE and (best is None or agreement > best[1]):
                best = (int(other), agreement)
    return best


def _agreement(mine: np.ndarray, other: np.ndarray, offset: int) -> float:
    """Share of equal bits where `mine` laid at `offset` of `other` overlaps it; 0 if too little overlaps."""
    first, last = max(0, -offset), min(len(mine), len(other) - offset)
    if last - first < OVERLAP * min(len(mine), len(other)):
        return 0.0
    differing = np.bitwise_count(mine[first:last] ^ other[first + offset : last + offset]).sum()
    return 1.0 - float(differing) / (32.0 * (last - first))
