"""The notes in audio as basic-pitch's network transcribes them, and how well they match the notes that were requested.

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

from pipelines.vivace_process import PITCHED
from training.data.sources.fetch import find_basic_pitch

RATE, HOP, LOWEST = 22050, 256, 21  # Hz; samples a frame; MIDI pitch of the first of 88 lines
WINDOW = 2 * RATE - HOP  # samples that the network reads at once, 172 frames
EDGE = 15  # frames at each end of a window that the next window has further from its own end
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
        """Notes (n, 4) of mono audio: onset and end in seconds, MIDI pitch, strength 0 to 1."""
        return decode(*self.posteriors(audio, sampling_rate))


def decode(sounds: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Notes of the posteriors (frames, 88): from each peak of onsets to where the pitch fades, then what still sounds.
    (n, 4), sorted by onset: onset and end in seconds, MIDI pitch, mean of `sounds` within the note."""
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
    """How transcribed notes match requested ones; a value is None where there is nothing to compare."""

    f1: float | None  # of onset (within 50 ms) and pitch (within a quarter tone), all roles together
    recall: dict[str, float | None]  # share of the requested notes of lead, harmony and bass that are transcribed
    velocity: float | None  # rank correlation of transcribed strength and requested velocity, over the notes that match
    late_ms: float | None  # median of transcribed less requested onset, over the notes that match


def match(found: np.ndarray, wanted: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (place in `wanted`, place in `found`) of notes of like onset and pitch, as many as can be."""
    from mir_eval.transcription import match_notes
    from mir_eval.util import midi_to_hz

    if not len(found) or not len(wanted):
        return []
    times = [np.column_stack([notes[:, 0], np.maximum(notes[:, 1], notes[:, 0] + 0.01)]) for notes in (wanted, found)]
    return match_notes(
        times[0], midi_to_hz(wanted[:, 2]), times[1], midi_to_hz(found[:, 2]), TOLERANCE_S, offset_ratio=None
    )


def note_figures(found: np.ndarray, requested: dict[str, np.ndarray], duration_s: float) -> NoteFigures:
    """Compare transcribed notes with requested ones; only those that begin within the clip count, and no drums.

    `found` is from `Transcriber.notes`; the requested ones are (n, 4) of each role: onset and end in seconds, pitch,
    velocity.
    """
    inside = {}
    for role in PITCHED:
        notes = requested.get(role, np.zeros((0, 4)))
        inside[role] = notes[(notes[:, 0] >= 0.0) & (notes[:, 0] < duration_s - TOLERANCE_S)]
    every = np.concatenate(list(inside.values()))
    pairs = np.array(match(found, every), dtype=int).reshape(-1, 2)
    recall = {role: len(match(found, notes)) / len(notes) if len(notes) else None for role, notes in inside.items()}
    velocity = late = None
    if len(pairs):
        late = float(np.median(found[pairs[:, 1], 0] - every[pairs[:, 0], 0]) * 1000.0)
    strengths = every[pairs[:, 0], 3], found[pairs[:, 1], 3]
    if len(pairs) > 2 and all(np.ptp(values) > 0 for values in strengths):
        velocity = float(spearmanr(*strengths).statistic)
    f1 = 2.0 * len(pairs) / (len(found) + len(every)) if len(every) else None
    return NoteFigures(f1, recall, velocity, late)
