"""Notes of a recording from a MIDI file beside it: the file is aligned with the sound, and its notes become labels.

The file has to hold all that plays. Its notes may begin earlier or later than in the recording, and all be faster or
slower by one factor; a performance whose tempo drifts against the file is refused, and so is another transposition.
Onsets are compared (after Ewert, Mueller and Grosche 2009, "High resolution audio synchronization using chroma onset
features"): those of each pitch class in the chroma, and the onset strength of all, with what the file states. Windows
of the recording confirm the result where their own best offset is that of the whole, and the file's pitches fit.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import scipy.fft
import soxr
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from pipelines.vivace_score import Score, load_mido
from training.data.notes import FIELDS
from training.metrics.features import LISTEN_RATE, ONSET_RATE, onset_strength

FRAME_RATE = 50  # frames a second of what is compared
BLUR_S = 0.02  # standard deviation of an onset of the file
WINDOW, LOWEST_HZ, HIGHEST_HZ = 4096, 80.0, 2000.0  # samples of a spectrum, and what of it goes into the chroma
LOUD = 10.0  # of the logarithm of the chroma: more counts what is quiet as much as what is loud
RISE = 3  # frames before and after an onset between which the chroma rises
NEAR = 0.004  # the factor is looked for within this of 1 first
FAR = 2.0  # and then between this and its inverse, by an excerpt
EVEN = 0.95  # of the best correlation: a factor of exactly 1 is taken where it has this much
EXCERPT_S, TRIED = 40.0, 3  # and the best factors of it are tried on all
DRIFT_S = 0.04  # by which neighbouring factors of the excerpt differ at its end; half of it for the whole
JUDGED_S, STEP_S = 8.0, 2.0  # windows that confirm the alignment
FEWEST = 6  # onsets by which a window is judged
LAG_S, CLOSE_S = 0.3, 0.04  # a window's own offset is looked for within the first and has to lie within the second
# Correlation of the whole and of a window: the right files of rendered songs have .3 to .6, others up to .3, where they
# happen to have the same rhythm. Their pitches have up to 4.4 standard deviations, transposed ones of the same song up
# to 6.3, right ones 7 to 29 in 24 s (5 and 1 in two of 18, with much room) and 20 to 40 in a minute.
LEAST, LEAST_OF_WINDOW, LEAST_PITCH = 0.16, 0.12, 6.5
# Correlation of a window's pitch classes: as they are, of that in the best transposition, where that is clear at all.
LEAST_OF_PITCH, CLEAR_PITCH = 0.7, 0.1
CONFIRMED = 0.6  # share of windows
EARLY_S = 0.01  # by which the recording's features come before its onsets, measured on rendered songs
RING_S = 1.0  # a clip may begin this long before the file's first note, and end this long after its last


@dataclass(frozen=True)
class Notes:
    """Notes of a MIDI file: `parts` as in a row; by onset (n, 5) part, onset and end in seconds, pitch, velocity."""

    parts: list[dict]
    rows: np.ndarray


def read_notes(path: str | Path) -> Notes:
    """The notes of a file, at the times of its own tempo changes. Raises a ValueError if it cannot be read."""
    score = Score.load(path)
    mido = load_mido()
    file = mido.MidiFile(path, charset="latin-1", clip=True)
    changes = []
    for track in file.tracks:
        now = 0
        for message in track:
            now += message.time
            if message.type == "set_tempo":
                changes.append((now / file.ticks_per_beat, message.tempo / 1e6))
    changes = [(0.0, 0.5), *sorted(changes, key=lambda change: change[0])]  # a quarter lasts half a second at first
    quarters, lengths = np.array(changes).T
    seconds = np.concatenate([[0.0], np.cumsum(np.diff(quarters) * lengths[:-1])])

    def time(quarter: np.ndarray) -> np.ndarray:
        place = np.searchsorted(quarters, quarter, side="right") - 1
        return seconds[place] + (quarter - quarters[place]) * lengths[place]

    parts, rows = [], []
    for number, track in enumerate(score.tracks):
        instrument = track.instrument or ("drums" if track.role == "drums" else None)
        parts.append({"role": track.role, "instrument": instrument, "program": track.program})
        onset, length, pitch, velocity = track.notes.T
        rows.append(np.column_stack([np.full(len(onset), number), time(onset), time(onset + length), pitch, velocity]))
    every = np.concatenate(rows)
    return Notes(parts, every[np.lexsort((every[:, 3], every[:, 1]))])


@dataclass(frozen=True)
class Alignment:
    """Time in the recording = `factor` * time in the file + `offset_s`."""

    factor: float
    offset_s: float
    correlation: float  # of the onsets of the whole, 0 by chance, 1 where nothing else sounds
    pitch: float  # correlation of the pitch classes here, in standard deviations over other times and keys
    transposed: int  # semitones up by which the file's pitches would fit clearly better, else 0
    windows: np.ndarray  # (n, 2): middle in seconds of the recording, and whether it confirms; those judged alone

    def time(self, seconds: np.ndarray) -> np.ndarray:
        return self.factor * seconds + self.offset_s

    @property
    def confirmed(self) -> float:
        """Share of the judged windows that confirm."""
        return float(self.windows[:, 1].mean()) if len(self.windows) else 0.0

    @property
    def good(self) -> bool:
        fits = self.correlation >= LEAST and self.pitch >= LEAST_PITCH
        return fits and self.confirmed >= CONFIRMED and self.transposed == 0


def sound_onsets(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """(13, frames) of audio (samples,): rise of each pitch class, C first, and onset strength, with quiet passages
    raised to the level of loud ones."""
    if sampling_rate != LISTEN_RATE:
        audio = soxr.resample(audio.astype(np.float32), sampling_rate, LISTEN_RATE)
    hop = LISTEN_RATE // FRAME_RATE
    spectrum = np.abs(librosa.stft(audio, n_fft=WINDOW, hop_length=hop))
    bank = librosa.filters.chroma(sr=LISTEN_RATE, n_fft=WINDOW, tuning=0.0, octwidth=None, norm=None)
    hertz = librosa.fft_frequencies(sr=LISTEN_RATE, n_fft=WINDOW)
    bank[:, (hertz < LOWEST_HZ) | (hertz > HIGHEST_HZ)] = 0.0
    chroma = bank @ spectrum
    chroma = np.log1p(LOUD * chroma / max(float(chroma.max()), 1e-9))
    wide = np.pad(chroma, ((0, 0), (RISE, RISE)), mode="edge")
    rise = np.maximum(wide[:, 2 * RISE :] - wide[:, : -2 * RISE], 0.0)
    step, frames = ONSET_RATE // FRAME_RATE, rise.shape[1]
    onset = onset_strength(audio)[: step * frames]
    onset = np.pad(onset, (0, step * frames - len(onset))).reshape(frames, step).max(axis=1)

    def even(rows: np.ndarray) -> np.ndarray:
        level = uniform_filter1d(rows.mean(axis=0), 4 * FRAME_RATE, mode="constant")
        return rows / (level + 0.1 * level.max() + 1e-9)

    return np.concatenate([even(rise), even(onset[None])]).astype(np.float32)


def _drums(notes: Notes) -> np.ndarray:
    """Whether each note is one of drums, (n,)."""
    return np.array([part["role"] == "drums" for part in notes.parts])[notes.rows[:, 0].astype(int)]


def file_onsets(notes: Notes, times: np.ndarray, frames: int) -> np.ndarray:
    """The same of a file's notes, whose onsets lie at `times` in seconds from the first frame; (13, frames)."""
    rolls = np.zeros((13, frames), dtype=np.float32)
    place = np.round(times * FRAME_RATE).astype(int)
    inside = (place >= 0) & (place < frames)
    strength = np.sqrt(notes.rows[:, 4]).astype(np.float32)
    pitched = inside & ~_drums(notes)
    np.maximum.at(rolls, (notes.rows[pitched, 3].astype(int) % 12, place[pitched]), strength[pitched])
    np.maximum.at(rolls[12], place[inside], strength[inside])
    return gaussian_filter1d(rolls, BLUR_S * FRAME_RATE, axis=1, mode="constant")


def _unit(rows: np.ndarray) -> np.ndarray:
    """Rises of pitch classes beside those of all at that time, and the last row, each with half of the energy of 1 in
    all, and without their means over time."""
    rows = np.concatenate([rows[:12] - rows[:12].mean(axis=0), rows[12:]])
    rows -= rows.mean(axis=1, keepdims=True)
    rows[:12] /= max(float(np.linalg.norm(rows[:12])), 1e-9)
    rows[12:] /= max(float(np.linalg.norm(rows[12:])), 1e-9)
    return rows / np.sqrt(2.0)


def best_offsets(sound: np.ndarray, notes: Notes, factors: np.ndarray) -> list[tuple[float, float, float]]:
    """Correlation of notes with `sound` (`sound_onsets`) at their best offset, factor and this offset in seconds, for
    each factor; the best first."""
    first, edge = notes.rows[0, 1], round(4.0 * BLUR_S * FRAME_RATE)
    times = notes.rows[:, 1] - first
    longest = int(factors.max() * times[-1] * FRAME_RATE) + 2 * edge + 1
    size = scipy.fft.next_fast_len(sound.shape[1] + longest, real=True)
    spectrum, found = scipy.fft.rfft(_unit(sound), size), []
    for factor in factors:
        frames = int(factor * times[-1] * FRAME_RATE) + 2 * edge + 1
        rolls = _unit(file_onsets(notes, factor * times + edge / FRAME_RATE, frames))
        correlation = scipy.fft.irfft((spectrum * np.conj(scipy.fft.rfft(rolls, size))).sum(axis=0), size)
        place = int(correlation.argmax())
        before, peak, after = correlation[place - 1], correlation[place], correlation[(place + 1) % size]
        bend = before - 2.0 * peak + after
        moved = place + edge + (0.5 * (before - after) / bend if bend < 0.0 else 0.0)  # the top of a parabola
        if place >= sound.shape[1]:  # the first notes lie before the recording
            moved -= size
        found.append((float(peak), float(factor), float(moved / FRAME_RATE + EARLY_S - factor * first)))
    return sorted(found, reverse=True)


def confirmations(sound: np.ndarray, notes: Notes, factor: float, offset_s: float) -> np.ndarray:
    """Middle of each window with enough onsets, and whether it confirms an alignment; see `Alignment`.

    It does if its own best offset is near, and the file's pitches do not fit much better in another transposition.
    """
    reach, length = round(LAG_S * FRAME_RATE), round(JUDGED_S * FRAME_RATE)
    times = factor * notes.rows[:, 1] + offset_s - EARLY_S
    rolls = file_onsets(notes, times + LAG_S, sound.shape[1] + 2 * reach)  # a frame of it lies `reach` later
    lags, judged = np.arange(-reach, reach + 1), []
    onsets = np.round(times * FRAME_RATE)
    for start in range(0, max(1, sound.shape[1] - length // 2), round(STEP_S * FRAME_RATE)):
        part = _unit(sound[:, start : start + length])
        inside = (onsets >= start) & (onsets < start + part.shape[1])
        if len(np.unique(onsets[inside])) < FEWEST:
            continue
        moved = [_unit(rolls[:, start + reach - lag :][:, : part.shape[1]]) for lag in lags]
        values = np.array([float((part * rows).sum()) for rows in moved])
        close = np.flatnonzero(np.abs(lags) <= CLOSE_S * FRAME_RATE)
        own = int(close[values[close].argmax()])
        turned = _turned(part, moved[own])
        sure = values[own] >= max(LEAST_OF_WINDOW, 0.9 * values.max())
        sure &= turned[0] >= LEAST_OF_PITCH * turned.max() or turned.max() < CLEAR_PITCH
        judged.append(((start + 0.5 * part.shape[1]) / FRAME_RATE, sure))
    return np.array(judged, dtype=float).reshape(-1, 2)


def _turned(sound: np.ndarray, rolls: np.ndarray) -> np.ndarray:
    """Correlation of the pitch classes of two of `_unit` with the second one up by 0 to 11 semitones."""
    return np.array([float((sound[:12] * np.roll(rolls[:12], step, axis=0)).sum()) for step in range(12)])


def pitch_evidence(sound: np.ndarray, rolls: np.ndarray) -> tuple[float, int]:
    """Correlation of the pitch classes of a recording and a file aligned with it, in standard deviations of what other
    offsets and transpositions have; and the semitones up by which it is clearly better here, else 0."""
    sound, rolls = _unit(sound)[:12], _unit(rolls)[:12]
    size = scipy.fft.next_fast_len(2 * sound.shape[1], real=True)
    spectra = scipy.fft.rfft(sound, size), np.conj(scipy.fft.rfft(rolls, size))
    others = np.stack([
        scipy.fft.irfft((spectra[0] * np.roll(spectra[1], step, axis=0)).sum(axis=0), size) for step in range(12)
    ])  # fmt: skip
    reach = sound.shape[1] // 2  # beyond, less than half of the two meet
    spread = float(np.concatenate([others[:, :reach], others[:, -reach:]], axis=1).std())
    turned = others[:, 0]
    clearly = turned[0] < LEAST_OF_PITCH * turned.max() and turned.max() >= LEAST_PITCH * spread
    return float(turned[0]) / max(spread, 1e-9), int(turned.argmax()) if clearly else 0


def align(audio: np.ndarray, sampling_rate: int, notes: Notes) -> Alignment:
    """Where the notes of a file lie in audio (samples,); it is `good` or not."""
    sound = sound_onsets(audio, sampling_rate)
    length_s = max(float(notes.rows[-1, 1] - notes.rows[0, 1]), 1.0)

    def judged(found: tuple[float, float, float]) -> Alignment:
        peak, factor, offset_s = found
        times = factor * notes.rows[:, 1] + offset_s
        pitch, transposed = pitch_evidence(sound, file_onsets(notes, times - EARLY_S, sound.shape[1]))
        if _drums(notes).all():
            pitch, transposed = float("inf"), 0
        return Alignment(factor, offset_s, peak, pitch, transposed, confirmations(sound, notes, factor, offset_s))

    def near(factor: float, within: float) -> tuple[float, float, float]:
        count = int(np.ceil(2.0 * within * length_s / DRIFT_S))
        found = best_offsets(sound, notes, factor * (1.0 + np.linspace(-within, within, 2 * count + 1)))
        even = [one for one in found if one[1] == 1.0 and one[0] >= EVEN * found[0][0]]
        return (even or found)[0]

    plain = judged(near(1.0, NEAR))
    if plain.good:
        return plain
    onsets = notes.rows[:, 1]
    ends = np.searchsorted(onsets, onsets + EXCERPT_S)
    densest = int((ends - np.arange(len(onsets))).argmax())
    excerpt = Notes(notes.parts, notes.rows[densest : ends[densest]])
    step = DRIFT_S / EXCERPT_S
    count = int(np.ceil(np.log(FAR) / step))
    found, tried = best_offsets(sound, excerpt, np.exp(step * np.arange(-count, count + 1))), []
    for _, factor, _ in found:
        if all(abs(factor / other - 1.0) > 4.0 * step for other in tried):
            tried.append(factor)
        if len(tried) == TRIED:
            break
    return max((plain, *(judged(near(factor, 2.0 * step)) for factor in tried)), key=lambda one: one.correlation)


def notes_beside(
    midi: str | Path | bytes, audio: np.ndarray, sampling_rate: int
) -> tuple[Notes | None, Alignment | None, str]:
    """Notes of a MIDI file (or its content) and where they lie in audio (channels, samples), both None where they are
    not used; and a line for the report that says how it went."""
    if isinstance(midi, bytes):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "notes.mid")
            path.write_bytes(midi)
            return notes_beside(path, audio, sampling_rate)
    try:
        notes = read_notes(midi)
    except ValueError as error:
        reason = str(error).partition(": ")[2]
        return None, None, f"notes unknown: its MIDI file cannot be used ({reason})"
    found = align(audio.mean(axis=0), sampling_rate, notes)
    figures = f"correlation {found.correlation:.2f}, {100.0 * found.confirmed:.0f} % of {len(found.windows)} windows"
    if np.isfinite(found.pitch):
        figures += f", pitches {found.pitch:.1f} deviations"
    if not found.good:
        if found.correlation >= LEAST and found.transposed:
            figures += f"; it would fit transposed by {(found.transposed + 5) % 12 - 5:+d} semitones"
        needed = f"needed: {LEAST}, {100.0 * CONFIRMED:.0f} %, {LEAST_PITCH:g}"
        return None, None, f"notes unknown: its MIDI file does not fit the sound ({figures}; {needed})"
    return notes, found, (
        f"notes of its MIDI file: {found.offset_s:+.2f} s, lengths times {found.factor:.4f} ({figures})"
    )  # fmt: skip


def clip_notes(notes: Notes, found: Alignment, begin_s: float, stop_s: float) -> dict:
    """The columns `parts` and `notes` of the seconds from `begin_s` to `stop_s` of the recording; empty, so that they
    are unknown, where the file has begun not yet or no more, or half of the clip's windows do not confirm."""
    onset, end = found.time(notes.rows[:, 1]), found.time(notes.rows[:, 2])
    inside = (found.windows[:, 0] >= begin_s) & (found.windows[:, 0] < stop_s)
    unsure = inside.any() and found.windows[inside, 1].mean() < 0.5
    if unsure or begin_s < onset.min() - RING_S or stop_s > end.max() + RING_S:
        return {}
    sounding = (onset < stop_s) & (end > begin_s)
    part, pitch, velocity = (notes.rows[sounding, column] for column in (0, 3, 4))
    onset, length = onset[sounding] - begin_s, (end - onset)[sounding]
    order = np.lexsort((pitch, onset))
    playing, part = np.unique(part[order].astype(int), return_inverse=True)
    columns = (part, onset[order].round(6), length[order].round(6), pitch[order].astype(int), velocity[order].round(6))
    return {
        "parts": [notes.parts[number] for number in playing],
        "notes": {name: values.tolist() for name, values in zip(FIELDS, columns, strict=True)},
    }
