"""Is it in the requested key? Chroma against key profiles."""

import mir_eval
import numpy as np

PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
QUIET = 0.02  # of the loudest frame
# Share of each degree in music of a key (Albrecht and Shanahan 2013, table 1), from the tonic on.
MAJOR = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
MINOR = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)


def estimate_key(chroma: np.ndarray) -> str | None:
    """Key whose profile correlates best with the clip's pitch classes; None for silence.

    Args:
        chroma: (12, frames) energy by pitch class, C first.

    Returns:
        Name such as "A minor" or "Bb major".
    """
    chroma = np.asarray(chroma, dtype=np.float64)
    # Each frame counts the same, so that loud notes do not decide; near-silent ones count less.
    loudest = chroma.max(axis=0, keepdims=True)
    total = (chroma / (loudest + QUIET * chroma.max() + 1e-12)).mean(axis=1)  # (12,)
    if total.std() < 1e-12:
        return None
    best = max(
        (np.corrcoef(np.roll(profile, tonic), total)[0, 1], f"{PITCH_CLASSES[tonic]} {mode}")
        for tonic in range(12)
        for mode, profile in (("major", MAJOR), ("minor", MINOR))
    )
    return best[1]


def key_right(estimate: str | None, requested: str) -> float:
    """1 if the same key, else 0."""
    return float(estimate == requested)


def key_mirex(estimate: str | None, requested: str) -> float:
    """MIREX weights: 1 same, 0.5 a fifth above, 0.3 relative, 0.2 parallel, else 0."""
    if estimate is None:
        return 0.0
    return float(mir_eval.key.weighted_score(requested, estimate))
