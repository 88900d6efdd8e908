"""The analysis of one clip, computed once and shared by all metrics; it does not use what was requested."""

from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import soxr
from filelock import FileLock
from huggingface_hub import constants

from training.metrics.signal import signal_figures

LISTEN_RATE = 24000  # Hz; other clips are resampled to it
ONSET_RATE = 100  # frames a second of the onset strength
START_BPM = 120.0  # centre of the tempo prior, log-normal with one octave of spread (librosa's)
TIGHTNESS = 400  # librosa's penalty for leaving the tempo in beat tracking
HOP = 100  # samples; librosa needs one, but only the frame rate matters for an onset envelope
CHROMA_RATE = 25  # frames a second
LOWEST = "C3"  # of four octaves; below, partials are too close to tell semitones apart
CHROMA_OCTAVES = 4


@dataclass(frozen=True)
class ClipFeatures:
    """Signal features of one clip."""

    duration_s: float  # length in seconds
    onset: np.ndarray  # (frames,) onset strength, at ONSET_RATE
    tempo_bpm: float  # estimate, NaN where there is no onset
    beats_s: np.ndarray  # tracked beats in seconds
    chroma: np.ndarray  # (12, frames) magnitude by pitch class, C first, A = 440 Hz, at CHROMA_RATE
    signal: dict[str, float | None]  # figures of `signal_figures`


@dataclass(frozen=True)
class Rhythm:
    """Estimated tempo in beats a minute, and the times of beats and downbeats in seconds."""

    tempo_bpm: float
    beats_s: np.ndarray
    downbeats_s: np.ndarray


@dataclass(frozen=True)
class ClipAnalysis:
    """Signal features of one clip and the estimates of the listener networks."""

    features: ClipFeatures  # signal features, which need no network
    rhythm: Rhythm | None = None  # tempo and beats; None without a beat tracker
    tags: dict[str, float] | None = None  # probability of each tag; None without a tagger
    key: str | None = None  # "A minor"; None for silence, or without a key network
    has_key_network: bool = False  # whether there was a key network


def clip_features(audio: np.ndarray, sampling_rate: int) -> ClipFeatures:
    """The signal features of one clip, (samples,) or (channels, samples) in [-1, 1] at `sampling_rate` Hz. Raises a
    ValueError for audio of another shape, empty or not finite."""
    figures = signal_figures(audio, sampling_rate)
    audio = np.atleast_2d(audio).mean(axis=0, dtype=np.float32)
    duration_s = len(audio) / sampling_rate
    if sampling_rate != LISTEN_RATE:
        audio = soxr.resample(audio, sampling_rate, LISTEN_RATE)
    onset = onset_strength(audio)
    tempo, beats = track(onset)
    return ClipFeatures(duration_s, onset, tempo, beats, chroma(audio), figures)


def compile_alone() -> None:
    """Have librosa's functions compiled that `clip_features` needs, by one process at a time.

    numba keeps what it compiles in files beside the library. Two processes that write their index at once can mix the
    entries up, and every process that loads such an entry later crashes.
    """
    folder = Path(constants.HF_HOME)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "vivace-librosa.lock"):
        clip_features(np.random.default_rng(0).normal(0.0, 0.1, 2 * LISTEN_RATE).astype(np.float32), LISTEN_RATE)


def onset_strength(audio: np.ndarray) -> np.ndarray:
    """(frames,) rise of the log-mel spectrum from frame to frame, summed over bands (Boeck and Widmer 2013)."""
    hop = LISTEN_RATE // ONSET_RATE
    mel = librosa.feature.melspectrogram(y=audio, sr=LISTEN_RATE, n_fft=1024, hop_length=hop, n_mels=96, fmax=11000)
    # Without `center`, which would move the peaks 40 ms behind the onsets: mel frames are centred already.
    decibels = librosa.power_to_db(mel, ref=np.max)
    return librosa.onset.onset_strength(S=decibels, sr=LISTEN_RATE, hop_length=hop, center=False)


def track(onset: np.ndarray) -> tuple[float, np.ndarray]:
    """Tempo (beats a minute) and beats (seconds) by librosa: autocorrelation tempogram, then dynamic programming.

    The prior makes tempi near 120 likelier.
    """
    if not np.any(onset > 0.0):
        return float("nan"), np.zeros(0)
    tempo = float(
        librosa.feature.tempo(onset_envelope=onset, sr=ONSET_RATE * HOP, hop_length=HOP, start_bpm=START_BPM)[0]
    )
    return tempo, beats_at_tempo(onset, tempo)


def beats_at_tempo(onset: np.ndarray, bpm: float) -> np.ndarray:
    """Beats in seconds by dynamic programming (Ellis 2007) at a given tempo (beats a minute), which is held tightly, of
    onset strength (frames,) at ONSET_RATE."""
    if not np.any(onset > 0.0):
        return np.zeros(0)
    _, frames = librosa.beat.beat_track(
        onset_envelope=onset, sr=ONSET_RATE * HOP, hop_length=HOP, bpm=bpm, tightness=TIGHTNESS, trim=False
    )
    return np.asarray(frames) / ONSET_RATE


def chroma(audio: np.ndarray) -> np.ndarray:
    """(12, frames) constant-Q magnitude folded into pitch classes, four octaves from C3, tuning fixed at A = 440 Hz."""
    return librosa.feature.chroma_cqt(
        y=audio,
        sr=LISTEN_RATE,
        hop_length=LISTEN_RATE // CHROMA_RATE,
        fmin=librosa.note_to_hz(LOWEST),
        n_octaves=CHROMA_OCTAVES,
        tuning=0.0,
        norm=None,
    )
