"""Bar lines as written -> downbeats at pickup + k * bar, which is what every later stage counts on.

Bars of real scores are short at pickups and at repeats in mid-bar, and now and then plainly wrong.
"""

from collections.abc import Sequence

import numpy as np

_EPS = 1e-4


def align_bars(durations: Sequence[float], bar_q: float) -> tuple[np.ndarray, float, float, int]:
    """Place measures in time so that whole bars begin on downbeats.

    Two short measures that make up a bar (a pickup and the bar it borrows from, on either side of a repeat) stay
    together. Elsewhere a short measure gets a rest: before it if it looks like a pickup, else after it. A measure that
    is too long keeps its notes and the next begins at the next downbeat.

    `durations` are the lengths of the measures as written, and `bar_q` that of a bar, in quarters. Returns the start of
    each measure (n,), pickup_q, length_q up to the end of the last bar, and how many measures were repaired.
    """
    starts = np.zeros(len(durations))
    repaired = 0
    pickup = durations[0] if durations and durations[0] < bar_q - _EPS else 0.0
    position = phase = 0.0
    for k, duration in enumerate(durations):
        if k == 0 and pickup:
            position = pickup
            continue
        last = k == len(durations) - 1
        if phase > _EPS and phase + duration > bar_q + _EPS:  # the end of a strain, and no pickup after it
            position += bar_q - phase
            phase = 0.0
            repaired += 1
        if phase <= _EPS and duration < bar_q - _EPS and not last and duration > _EPS:
            following = durations[k + 1]
            if duration + following > bar_q + _EPS and duration <= bar_q / 2 + _EPS:  # a pickup out of nowhere
                position += bar_q - duration
                phase = bar_q - duration
                repaired += 1
        starts[k] = position
        position += duration
        phase += duration
        whole = round(phase / bar_q)
        if whole >= 1 and abs(phase - whole * bar_q) < _EPS:
            position += whole * bar_q - phase
            phase = 0.0
        elif phase > bar_q:
            missing = bar_q * np.ceil(phase / bar_q) - phase
            position += missing
            phase = 0.0
            repaired += 1
    length = position + (bar_q - phase if phase > _EPS else 0.0)
    return starts, float(pickup), float(length), repaired
