"""Notes heard in audio, by basic-pitch's network, and how well they match the notes that were asked for.

The network is that of Bittner et al. 2022 (https://arxiv.org/abs/2203.09893), 230 KB, as Spotify publishes it in the
wheel of basic-pitch (Apache-2.0). It is run by onnxruntime; decoding follows basic_pitch/note_creation.py. Windows are
laid a whole number of frames apart, so that frame times need no correction.
"""

import zipfile
from dataclasses import dataclass

import numpy as np
import soxr
from scipy.signal import argrelmax
from scipy.stats import spearmanr

from pipelines.vivace_score import PITCHED
from training.data.sources.fetch import find_basic_pitch

RATE, HOP, LOWEST = 22050, 256, 21  # Hz; samples a frame; MIDI pitch of the first of 88 lines
WINDOW = 2 * RATE - HOP  # samples that the network reads at once, 172 frames
EDGE = 15  # frames at each end of a window that a neighbour hears better
STEP = 172 - 2 * EDGE
ONSET_LEVEL, FRAME_LEVEL = 0.5, 0.3
SHORTEST, BRIDGED = 11, 11  # frames that a note must exceed, and that a gap within one may not reach
TOLERANCE_S = 0.05
MODEL = "basic_pitch/saved_models/icassp_2022/nmp.onnx"


class Transcriber:
    """The network, loaded from the wheel in the cache, which is downloaded if it is not there.

    Raises:
        ValueError: onnxruntime is not installed.
        MissingSourceError: the wheel cannot be downloaded.
    """

    def __init__(self):
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("notes are heard with onnxruntime; install it: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with zipfile.ZipFile(find_basic_pitch()) as wheel:
            self.session = onnxruntime.InferenceSession(wheel.read(MODEL), options, ["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def posteriors(self, audio: np.ndarray, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
        """How likely each pitch sounds, and begins, in each frame: two (frames, 88), of mono audio (samples,)."""
        audio = soxr.resample(audio.astype(np.float32), sampling_rate, RATE)
        frames = -(-len(audio) // HOP)
        count = -(-frames // STEP)
        padded = np.pad(audio, (EDGE * HOP, (count - 1) * STEP * HOP + WINDOW))
        windows = np.stack([padded[i * STEP * HOP :][:WINDOW] for i in range(count)])[..., None]
        names = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]
        found = (
            self.session.run(names, {self.input: window[None].astype(np.float32)}) for window in windows
        )  # one by one, so that a clip's notes do not depend on its length
        sounds, begins = zip(*found, strict=True)
        return tuple(np.concatenate([part[0, EDGE:-EDGE] for part in parts])[:frames] for parts in (sounds, begins))

    def notes(self, audio: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Notes (n, 4) heard in mono audio: onset and end in seconds, MIDI pitch, strength 0 to 1."""
        return decode(*self.posteriors(audio, sampling_rate))


def decode(sounds: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Notes of the posteriors: from each peak of onsets to where the pitch fades, then what still sounds.

    Args:
        sounds, begins: (frames, 88).

    Returns:
        (n, 4), sorted by onset: onset and end in seconds, MIDI pitch, mean of `sounds` within the note.
    """
    frames = len(sounds)
    # Rises of what sounds are onsets too, scaled to the strongest onset.
    rise = np.minimum(*(sounds - np.pad(sounds, ((n, 0), (0, 0)))[:frames] for n in (1, 2))).clip(0.0)
    rise[:2] = 0.0
    begins = np.maximum(begins, begins.max() * rise / max(float(rise.max()), 1e-9))
    peaks = np.zeros_like(begins)
    peaks[argrelmax(begins, axis=0)] = begins[argrelmax(begins, axis=0)]
    left = np.pad(sounds, ((0, 0), (1, 1))).astype(np.float64)  # a line beside the first and the last
    notes = []

    def fades(start: int, line: int, step: int) -> int:
        """The first frame from `start` on in this direction where the pitch has faded."""
        frame = end = start
        while 0 <= frame < frames - 1 and abs(frame - end) < BRIDGED:
            if left[frame, line] >= FRAME_LEVEL:
                end = frame + step
            frame += step
        return end

    def take(first: int, last: int, line: int) -> None:
        if last - first > SHORTEST:
            notes.append(
                (first * HOP / RATE, last * HOP / RATE, line - 1 + LOWEST, sounds[first:last, line - 1].mean())
            )

    for first, pitch in reversed(np.argwhere(peaks >= ONSET_LEVEL).tolist()):  # later ones end earlier ones
        last = fades(first + 1, pitch + 1, 1)
        if last - first > SHORTEST:
            take(first, last, pitch + 1)
            left[first:last, pitch : pitch + 3] = 0.0
    while left[:, 1:-1].max(initial=0.0) > FRAME_LEVEL:
        middle, pitch = np.unravel_index(left[:, 1:-1].argmax(), (frames, 88))
        first, last = fades(middle, pitch + 1, -1) + 1, fades(middle, pitch + 1, 1)
        take(first, last, pitch + 1)
        left[max(0, first - 1) : max(last, middle + 1), pitch : pitch + 3] = 0.0
    return np.array(sorted(notes)).reshape(-1, 4)


@dataclass(frozen=True)
class NoteFigures:
    """How notes heard match notes asked for, each value None where there is nothing to compare.

    Attributes:
        f1: of onset (within 50 ms) and pitch (within a quarter tone), all roles together.
        recall: share of the notes of lead, harmony and bass that are heard.
        velocity: rank correlation of strength heard and velocity asked, over the notes that match.
        late_ms: median of onset heard less onset asked, over the notes that match.
    """

    f1: float | None
    recall: dict[str, float | None]
    velocity: float | None
    late_ms: float | None


def match(heard: np.ndarray, asked: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (asked, heard) of notes of like onset and pitch, as many as can be."""
    from mir_eval.transcription import match_notes
    from mir_eval.util import midi_to_hz

    if not len(heard) or not len(asked):
        return []
    times = [np.column_stack([notes[:, 0], np.maximum(notes[:, 1], notes[:, 0] + 0.01)]) for notes in (asked, heard)]
    return match_notes(
        times[0], midi_to_hz(asked[:, 2]), times[1], midi_to_hz(heard[:, 2]), TOLERANCE_S, offset_ratio=None
    )


def note_figures(heard: np.ndarray, asked: dict[str, np.ndarray], duration_s: float) -> NoteFigures:
    """Compare notes heard with those asked for; only those that begin within the clip count, and no drums.

    Args:
        heard: from `Transcriber.notes`.
        asked: for each role (n, 4): onset and end in seconds, pitch, velocity.
        duration_s: length of the clip.
    """
    inside = {}
    for role in PITCHED:
        notes = asked.get(role, np.zeros((0, 4)))
        inside[role] = notes[(notes[:, 0] >= 0.0) & (notes[:, 0] < duration_s - TOLERANCE_S)]
    every = np.concatenate(list(inside.values()))
    pairs = np.array(match(heard, every), dtype=int).reshape(-1, 2)
    recall = {role: len(match(heard, notes)) / len(notes) if len(notes) else None for role, notes in inside.items()}
    velocity = late = None
    if len(pairs):
        late = float(np.median(heard[pairs[:, 1], 0] - every[pairs[:, 0], 0]) * 1000.0)
    strengths = every[pairs[:, 0], 3], heard[pairs[:, 1], 3]
    if len(pairs) > 2 and all(np.ptp(values) > 0 for values in strengths):
        velocity = float(spearmanr(*strengths).statistic)
    f1 = 2.0 * len(pairs) / (len(heard) + len(every)) if len(every) else None
    return NoteFigures(f1, recall, velocity, late)
