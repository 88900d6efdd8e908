"""Key of a score as its source states it, checked against its notes; None where they disagree."""

import numpy as np

from pipelines.vivace_theory import KEYS, NATURALS
from training.data.scorebook.harmony import estimate_key

# Mode -> (is minor, fifths of the signature relative to the major key of the same tonic).
MODES = {
    "maj": (False, 0), "ion": (False, 0), "mix": (False, -1), "lyd": (False, 1), "min": (True, -3), "aeo": (True, -3),
    "dor": (True, -2), "phr": (True, -4), "loc": (True, -5),
}  # fmt: skip
_MARGIN = 0.06  # of the Krumhansl correlation over the next best key: below it, the estimate alone is not trusted


def tonic_of(name: str) -> int:
    """Pitch class of "F#", "Bb", ..."""
    return (NATURALS[name[0]] + name.count("#") - name[1:].count("b")) % 12


def fifths_of(tonic: str, mode: str) -> int:
    """Sharps (positive) or flats of the signature of a tonic in one of `MODES`."""
    major = (tonic_of(tonic[0]) * 7 + 5) % 12 - 5 + 7 * (tonic.count("#") - tonic[1:].count("b"))
    if tonic[0] == "F":
        major = -1 + 7 * (tonic.count("#") - tonic[1:].count("b"))
    return major + MODES[mode][1]


def tune_key(tonic: str, mode: str, stated: bool, notes: np.ndarray) -> str | None:
    """Key of a tune from its K: field.

    Args:
        tonic: letter with accidental.
        mode: one of `MODES`; modes count as minor or major by their third.
        stated: the field names the mode. A bare letter often only gives the signature, so then the last note or the
            Krumhansl estimate has to agree.
        notes: (n, 4).
    """
    pitch_class, minor = tonic_of(tonic), MODES[mode][0]
    if mode == "loc":
        return None
    if not stated and int(notes[-1, 2]) % 12 != pitch_class and estimate_key(notes)[:2] != (pitch_class, minor):
        return None
    return KEYS[2 * pitch_class + minor]


def score_key(fifths: int, notes: np.ndarray) -> str | None:
    """Key of polyphony from its signature, its last bass note and the Krumhansl estimate on its notes (n, 4)."""
    tonic, minor, margin = estimate_key(notes)
    ends = notes[:, 0] + notes[:, 1]
    final_bass = int(notes[ends > ends.max() - 0.01, 2].min()) % 12
    major_tonic = 7 * fifths % 12
    by_signature = (tonic, minor) in ((major_tonic, False), ((major_tonic + 9) % 12, True))
    if tonic == final_bass or (by_signature and margin > _MARGIN):
        return KEYS[2 * tonic + minor]
    return None
