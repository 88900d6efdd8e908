"""Harmony of the scorebook: chords as (root, quality), the key of notes, drawn progressions, chords for a melody, and
chords recognised in notes. Names of keys and pitch classes are those of pipelines/vivace_theory.py."""

import numpy as np

from pipelines.vivace_theory import CHORD_PROFILES, PITCH_CLASSES

QUALITIES = {
    "": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "maj7": (0, 4, 7, 11), "m7": (0, 3, 7, 10), "dim": (0, 3, 6),
    "m7b5": (0, 3, 6, 10), "sus4": (0, 5, 7), "sus2": (0, 2, 7), "6": (0, 4, 7, 9), "m6": (0, 3, 7, 9),
    "add9": (0, 2, 4, 7), "9": (0, 2, 4, 7, 10), "m9": (0, 2, 3, 7, 10), "maj9": (0, 2, 4, 7, 11), "aug": (0, 4, 8),
}  # fmt: skip
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10)

# (pitch class of the root, key of `QUALITIES`); None stands for "no chord".
Chord = tuple[int, str]


def symbol(chord: Chord | None) -> str:
    """ "Am7" for (9, "m7"); "" for None."""
    return "" if chord is None else PITCH_CLASSES[chord[0] % 12] + chord[1]


def pitch_classes(chord: Chord) -> tuple[int, ...]:
    """Pitch classes of a chord, root first."""
    return tuple((chord[0] + i) % 12 for i in QUALITIES[chord[1]])


def chroma(chord: Chord | None) -> list[int]:
    """Twelve 0/1 values, C first; all zero for None."""
    present = set() if chord is None else set(pitch_classes(chord))
    return [int(p in present) for p in range(12)]


def estimate_key(notes: np.ndarray) -> tuple[int, bool, float]:
    """Key of notes (n, 4) by the Krumhansl profiles on durations: (tonic, is minor, lead of its correlation over
    that of the second best key)."""
    weights = np.bincount(notes[:, 2].astype(int) % 12, weights=np.minimum(notes[:, 1], 4.0), minlength=12)
    if weights.sum() <= 0.0 or weights.std() < 1e-9:
        return 0, False, 0.0
    scores = []
    for profile in CHORD_PROFILES:
        scores += [float(np.corrcoef(weights, np.roll(profile, tonic))[0, 1]) for tonic in range(12)]
    order = np.argsort(scores)[::-1]
    return int(order[0] % 12), bool(order[0] >= 12), scores[order[0]] - scores[order[1]]


# Chords by Roman numeral: (semitones above the tonic, quality). Progressions below have one chord a bar.
_MAJOR = {
    "I": (0, ""), "ii": (2, "m"), "iii": (4, "m"), "IV": (5, ""), "V": (7, ""), "vi": (9, "m"), "bVII": (10, ""),
    "iv": (5, "m"), "bVI": (8, ""), "II": (2, ""), "V7": (7, "7"), "I7": (0, "7"), "IV7": (5, "7"),
}  # fmt: skip
_MINOR = {
    "i": (0, "m"), "ii": (2, "dim"), "III": (3, ""), "iv": (5, "m"), "v": (7, "m"), "V": (7, ""), "VI": (8, ""),
    "VII": (10, ""), "bII": (1, ""), "IV": (5, ""), "V7": (7, "7"), "i7": (0, "m7"),
}  # fmt: skip
_MAJOR_LINES = (
    "I V vi IV", "I vi IV V", "vi IV I V", "I IV V IV", "I IV vi V", "I iii IV V", "I V IV V", "ii V I vi",
    "I vi ii V", "I bVII IV I", "IV V iii vi", "I V vi iii IV I IV V", "I I IV V", "I IV I V", "vi V IV V",
    "IV I V vi", "I iv I V", "I II IV I", "I7 I7 I7 I7 IV7 IV7 I7 I7 V7 IV7 I7 V7", "I ii IV V", "ii IV I V",
    "I iii vi IV",
)  # fmt: skip
_MINOR_LINES = (
    "i VI III VII", "i iv v i", "i VII VI VII", "i VI VII i", "i iv VII III", "i VII VI V", "i III VII iv",
    "i i iv V", "VI VII i i", "i v VI iv", "iv i V i", "i VI iv V", "i III iv VI", "i bII i VII", "i IV i IV",
    "i VII i VII", "i7 i7 i7 i7 iv iv i7 i7 VI V7 i7 V7", "i iv i V", "VI iv i V", "i III VI VII",
)  # fmt: skip
_SEVENTHS = {
    "": ("maj7", "maj7", "add9", "6", "maj9"), "m": ("m7", "m7", "m9", "m6"), "7": ("7", "9"), "dim": ("m7b5",),
}  # fmt: skip


def progression(rng: np.random.Generator, tonic: int, minor: bool, bars: int, sevenths: float) -> list[Chord]:
    """Draw a progression and repeat it, one chord a bar; `sevenths` is the probability that it has sevenths and the
    like."""
    line = str(rng.choice(_MINOR_LINES if minor else _MAJOR_LINES)).split()
    table = _MINOR if minor else _MAJOR
    chords = [((tonic + table[s][0]) % 12, table[s][1]) for s in line]
    if rng.random() < sevenths:
        # A major seventh on V, or on the VII of a minor key, would leave the key.
        small = {(tonic + 7) % 12, (tonic + 10) % 12}
        chords = [(r, "7" if r in small and q == "" else str(rng.choice(_SEVENTHS.get(q, (q,))))) for r, q in chords]
    elif rng.random() < 0.2:
        chords = [(r, str(rng.choice(["add9", "sus2", ""])) if q == "" else q) for r, q in chords]
    return [chords[i % len(chords)] for i in range(bars)]


def _diatonic(tonic: int, minor: bool) -> list[tuple[Chord, float]]:
    """Chords of a key and a bonus for how usual each is."""
    if minor:
        steps = [(0, "m", 0.5), (5, "m", 0.25), (7, "", 0.3), (7, "m", 0.1), (10, "", 0.2), (3, "", 0.2), (8, "", 0.2)]
    else:
        steps = [(0, "", 0.5), (5, "", 0.3), (7, "", 0.35), (9, "m", 0.1), (2, "m", 0.1), (4, "m", -0.1)]
    return [(((tonic + s) % 12, q), bonus) for s, q, bonus in steps]


def harmonise(melody: np.ndarray, first_q: float, unit_q: float, count: int, tonic: int, minor: bool) -> list[Chord]:
    """Chords under a tune: the best path over the chords of the key (Viterbi), one chord per unit.

    The melody is (n, 4): onset and duration in quarters, pitch, velocity; `count` units (bars or halves of one) of
    `unit_q` quarters begin at `first_q`.
    """
    candidates = _diatonic(tonic, minor)
    fit = np.zeros((count, len(candidates)))
    for k in range(count):
        start, end = first_q + k * unit_q, first_q + (k + 1) * unit_q
        share = np.clip(np.minimum(melody[:, 0] + melody[:, 1], end) - np.maximum(melody[:, 0], start), 0.0, None)
        share = share * np.where(np.abs(melody[:, 0] - start) < 1e-3, 1.8, 1.0)
        weights = np.bincount(melody[:, 2].astype(int) % 12, weights=share, minlength=12) / unit_q
        for c, (chord, bonus) in enumerate(candidates):
            fit[k, c] = 2.0 * sum(weights[p] for p in pitch_classes(chord)) + bonus
    step = np.zeros((len(candidates), len(candidates)))
    for i, (a, _) in enumerate(candidates):
        for j, (b, _) in enumerate(candidates):
            moves = (b[0] - a[0]) % 12
            step[i, j] = 0.15 if i == j else {5: 0.35, 7: 0.25, 2: 0.1, 10: 0.1}.get(moves, 0.0)
    best, back = fit[0].copy(), []
    for k in range(1, count):
        total = best[:, None] + step
        back.append(np.argmax(total, axis=0))
        best = total.max(axis=0) + fit[k]
    path = [int(np.argmax(best))]
    for choice in reversed(back):
        path.append(int(choice[path[-1]]))
    return [candidates[c][0] for c in reversed(path)]


def chord_per_beat(notes: np.ndarray, first_q: float, beat_q: float, count: int) -> list[Chord | None]:
    """Chord of each beat: the template nearest to the durations of the pitch classes; None if none is near."""
    templates = [((root, q), np.array(chroma((root, q)), dtype=float))
                 for q in ("", "m", "7", "dim", "m7", "maj7") for root in range(12)]  # fmt: skip
    chords: list[Chord | None] = []
    for k in range(count):
        start, end = first_q + k * beat_q, first_q + (k + 1) * beat_q
        share = np.clip(np.minimum(notes[:, 0] + notes[:, 1], end) - np.maximum(notes[:, 0], start), 0.0, None)
        weights = np.bincount(notes[:, 2].astype(int) % 12, weights=share, minlength=12)
        if (weights > 0.05 * beat_q).sum() < 2:
            chords.append(None)
            continue
        weights = weights / np.linalg.norm(weights)
        lowest = notes[share > 0.5 * beat_q]
        bass = int(lowest[np.argmin(lowest[:, 2]), 2]) % 12 if len(lowest) else -1
        scores = [float(weights @ t) / np.linalg.norm(t) + (0.06 if c[0] == bass else 0.0)
                  - (0.05 if len(QUALITIES[c[1]]) > 3 else 0.0) for c, t in templates]  # fmt: skip
        top = int(np.argmax(scores))
        chords.append(templates[top][0] if scores[top] > 0.8 else None)
    return chords
