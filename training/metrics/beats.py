"""Are the beats where they were asked for? Three figures, by how much their trackers are told of the request.

- `beat_f`: the tracker knows nothing of the request.
- `beat_f_guided`: the tracker is told the requested tempo, but not where the beats are.
- `beat_contrast`: knows the whole requested grid and asks whether notes begin on it rather than between.
"""

import librosa
import mir_eval
import numpy as np

WINDOW_S = 0.07  # a beat counts as hit within this, either side; the customary value of MIREX
TIGHTNESS = 400  # of librosa's dynamic programming: how dearly it pays for leaving the tempo
PHASES = 48  # places within a beat at which the contrast looks


def beat_f(tracked_s: np.ndarray, requested_s: np.ndarray) -> float:
    """F-measure of tracked against requested beats at 70 ms (Dixon 2001), from 0 s on; 0 where nothing was tracked.

    Prior: none beyond what the tracker had. Nothing is trimmed at the start (mir_eval's custom is 5 s), since clips
    are short and the first beat was asked for too.

    Args:
        tracked_s, requested_s: beat times in seconds, rising.
    """
    if not len(tracked_s) or not len(requested_s):
        return 0.0
    return float(mir_eval.beat.f_measure(np.asarray(requested_s), np.asarray(tracked_s), f_measure_threshold=WINDOW_S))


def guided_beats(onset: np.ndarray, frame_rate: float, bpm: float) -> np.ndarray:
    """Beats in seconds by dynamic programming (Ellis 2007) at a tempo that is told.

    Prior: the requested tempo, held tightly; the phase is the tracker's own finding.

    Args:
        onset: (frames,) onset strength.
        frame_rate: frames a second.
        bpm: requested beats a minute.
    """
    if not np.any(onset > 0.0):
        return np.zeros(0)
    hop = 100  # samples; only frame_rate = sr / hop enters
    _, frames = librosa.beat.beat_track(
        onset_envelope=onset, sr=frame_rate * hop, hop_length=hop, bpm=bpm, tightness=TIGHTNESS, trim=False
    )
    return np.asarray(frames) / frame_rate


def beat_contrast(onset: np.ndarray, frame_rate: float, requested_s: np.ndarray, bpm: float) -> float:
    """How far onset strength on the requested beats stands above that at other places within the beat.

    For a shift of the grid by a share of a beat, the onset strength at the shifted beats (the largest within 25 ms) is
    averaged. The result is the mean at shift 0 less the mean over all shifts, in standard deviations of the onset
    strength over the clip: 0 by chance, about 3 for a click on each beat and nothing else.

    Prior: the requested tempo and phase.

    Args:
        onset: (frames,) onset strength.
        frame_rate: frames a second.
        requested_s: beat times in seconds.
        bpm: requested beats a minute.
    """
    reach = max(1, round(0.025 * frame_rate))
    peaks = np.max(np.lib.stride_tricks.sliding_window_view(np.pad(onset, reach), 2 * reach + 1), axis=1)
    shifts = np.arange(PHASES) / PHASES * 60.0 / bpm  # (shifts,) seconds
    times = (np.asarray(requested_s)[None, :] + shifts[:, None]) * frame_rate
    inside = times <= len(onset) - 1
    strength = np.where(inside, np.interp(times, np.arange(len(onset)), peaks), 0.0)
    curve = strength.sum(axis=1) / np.maximum(inside.sum(axis=1), 1)  # (shifts,)
    spread = peaks.std()
    return float((curve[0] - curve.mean()) / spread) if spread > 1e-9 else 0.0
