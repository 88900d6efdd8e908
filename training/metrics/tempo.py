"""Was the requested tempo played? The estimate knows nothing of the request."""

TOLERANCE = 0.04  # of the requested tempo, as in MIREX
OCTAVES = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)


def tempo_right(estimate_bpm: float, requested_bpm: float) -> float:
    """1 if the estimate is within 4 % of the request, else 0 (Gouyon et al. 2006, accuracy 1)."""
    return float(abs(estimate_bpm - requested_bpm) <= TOLERANCE * requested_bpm)


def tempo_right_octaves(estimate_bpm: float, requested_bpm: float) -> float:
    """The same where counting twice, half, three times or a third of the beats is forgiven (accuracy 2)."""
    return max(tempo_right(estimate_bpm, factor * requested_bpm) for factor in OCTAVES)
