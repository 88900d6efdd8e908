"""What is heard in a clip, computed once and shared by all metrics. Nothing here knows what was requested."""

from dataclasses import dataclass

import librosa
import numpy as np
import soxr

from training.metrics.signal import signal_figures

LISTEN_RATE = 24000  # Hz; other clips are resampled, so that all are heard alike
ONSET_RATE = 100  # frames a second of the onset strength
START_BPM = 120.0  # centre of the tempo prior, log-normal with one octave of spread (librosa's)
TIGHTNESS = 400  # of the dynamic-programming beat tracker
CHROMA_RATE = 25  # frames a second
LOWEST = "C3"  # of four octaves; below, partials are too close to tell semitones apart
CHROMA_OCTAVES = 4


@dataclass(frozen=True)
class ClipFeatures:
    """One clip as the metrics see it.

    Attributes:
        duration_s: length in seconds.
        onset: (frames,) onset strength, at ONSET_RATE.
        tempo_bpm: estimate, NaN where there is no onset.
        beats_s: tracked beats in seconds.
        chroma: (12, frames) magnitude by pitch class, C first, A = 440 Hz, at CHROMA_RATE.
        signal: figures of `signal_figures`.
    """

    duration_s: float
    onset: np.ndarray
    tempo_bpm: float
    beats_s: np.ndarray
    chroma: np.ndarray
    signal: dict[str, float | None]


@dataclass(frozen=True)
class Tracked:
    """What was heard: beats a minute, and times in seconds."""

    tempo_bpm: float
    beats_s: np.ndarray
    downbeats_s: np.ndarray


@dataclass(frozen=True)
class Heard:
    """One clip.

    Attributes:
        features: what needs no network.
        tracked: tempo and beats; None = no tracker listened.
        tags: probability a tag; None = no tagger listened.
        key: "A minor"; None in silence, or if no key network listened.
        key_listened: whether one did.
    """

    features: ClipFeatures
    tracked: Tracked | None = None
    tags: dict[str, float] | None = None
    key: str | None = None
    key_listened: bool = False


def clip_features(audio: np.ndarray, sampling_rate: int) -> ClipFeatures:
    """Listen to one clip.

    Args:
        audio: (samples,) or (channels, samples) in [-1, 1].
        sampling_rate: Hz.

    Raises:
        ValueError: audio that is of another shape, empty or not finite.
    """
    figures = signal_figures(audio, sampling_rate)
    audio = np.atleast_2d(audio).mean(axis=0, dtype=np.float32)
    duration_s = len(audio) / sampling_rate
    if sampling_rate != LISTEN_RATE:
        audio = soxr.resample(audio, sampling_rate, LISTEN_RATE)
    onset = onset_strength(audio)
    tempo, beats = track(onset)
    return ClipFeatures(duration_s, onset, tempo, beats, chroma(audio), figures)


def onset_strength(audio: np.ndarray) -> np.ndarray:
    """(frames,) rise of the log-mel spectrum from frame to frame, summed over bands (Boeck and Widmer 2013)."""
    hop = LISTEN_RATE // ONSET_RATE
    mel = librosa.feature.melspectrogram(y=audio, sr=LISTEN_RATE, n_fft=1024, hop_length=hop, n_mels=96, fmax=11000)
    # Without `center`, which would move the peaks 40 ms behind the onsets: mel frames are centred already.
    decibels = librosa.power_to_db(mel, ref=np.max)
    return librosa.onset.onset_strength(S=decibels, sr=LISTEN_RATE, hop_length=hop, center=False)


def track(onset: np.ndarray) -> tuple[float, np.ndarray]:
    """Tempo (beats a minute) and beats (seconds) by librosa: autocorrelation tempogram, then dynamic programming.

    Prior: tempi near 120 are likelier; nothing of the request.
    """
    if not np.any(onset > 0.0):
        return float("nan"), np.zeros(0)
    hop = 100  # only the frame rate enters
    rate = ONSET_RATE * hop
    tempo = float(librosa.feature.tempo(onset_envelope=onset, sr=rate, hop_length=hop, start_bpm=START_BPM)[0])
    _, frames = librosa.beat.beat_track(
        onset_envelope=onset, sr=rate, hop_length=hop, bpm=tempo, tightness=TIGHTNESS, trim=False
    )
    return tempo, np.asarray(frames) / ONSET_RATE


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
