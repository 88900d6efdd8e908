"""From a piece to audio with tinysoundfont: each part alone, levelled by its role, mixed, put in a room."""

from pathlib import Path

import numpy as np
import soxr
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import butter as butterworth
from scipy.signal import fftconvolve, lfilter, sosfilt

from training.data.piece import Piece, Track

_ROLE_DB = {"melody": 0.0, "voice": 0.0, "chords": -5.0, "arpeggio": -6.0, "bass": -4.0, "pad": -9.0,
    "drums": -2.0,
            "percussion": -7.0}  # fmt: skip
INAUDIBLE_DB = -26.0  # a part this far under the loudest is not named in the labels
PEAK = 0.7
_RMS_DB = {"soft": -20.0, "medium": -18.0, "loud": -16.5}
_ROOMS = {"room": (0.45, 0.20), "hall": (1.6, 0.22), "cathedral": (3.0, 0.28)}  # decay time s, wet share
_PREROLL_S = 1.0  # music before the clip, so that it begins in the middle of sounds
_FRESH_PREROLL_S = 0.15  # room for slow attacks that are started before their beat


class SilenceError(ValueError):
    """Nothing sounds in a clip."""


class Renderer:
    """Holds a loaded SoundFont and renders pieces with it; one for each process.

    Args:
        soundfont: path of an .sf2 or .sf3 file with a General MIDI bank.
        sampling_rate: Hz of the result. Parts are rendered at twice that up to 32 kHz, because tinysoundfont
            interpolates linearly and leaves images near the top.
        channels: 1 or 2.

    Raises:
        ValueError: if the SoundFont cannot be read or a number is out of range.
    """

    def __init__(self, soundfont: str | Path, sampling_rate: int = 24000, channels: int = 1):
        import tinysoundfont  # here so that labels can be read without it

        if not 8000 <= sampling_rate <= 96000:
            raise ValueError(f"sampling_rate {sampling_rate}: must be within 8000 and 96000 Hz")
        if channels not in (1, 2):
            raise ValueError(f"channels {channels}: must be 1 or 2")
        if not Path(soundfont).is_file():
            raise ValueError(f"soundfont {soundfont}: no such file")
        self.sampling_rate = sampling_rate
        self.channels = channels
        self.rate = 2 * sampling_rate if sampling_rate <= 32000 else sampling_rate
        self.synth = tinysoundfont.Synth(samplerate=self.rate)
        try:
            self.font = self.synth.sfload(str(soundfont))
        except (RuntimeError, tinysoundfont.SoundFontException) as error:
            raise ValueError(f"soundfont {soundfont}: not a readable SoundFont ({error})") from None

    def part(self, piece: Piece, track: Track, clip_s: float, preroll_s: float, rng: np.random.Generator) -> np.ndarray:
        """One part alone: float32 (samples, 2) at `self.rate`, from `preroll_s` before the clip to its
        end."""
        events = _events(piece, track, clip_s, preroll_s, self.rate, rng)
        drums = track.preset[0] == 128
        channel = 9 if drums else 0
        self.synth.program_select(channel, self.font, *track.preset, drums)
        total = round((preroll_s + clip_s) * self.rate)
        buffer = memoryview(bytearray(total * 8))
        place = 0
        for sample, on, pitch, velocity in events:
            if sample > place:
                self.synth.generate_simple(sample - place, buffer[place * 8 : sample * 8])
                place = sample
            if on:
                self.synth.noteon(channel, pitch, velocity)
            else:
                self.synth.noteoff(channel, pitch)
        if total > place:
            self.synth.generate_simple(total - place, buffer[place * 8 :])
        # sounds_off fades over about 50 ms and would be heard in what is rendered next.
        self.synth.sounds_off(channel)
        self.synth.generate_simple(round(0.15 * self.rate))
        return np.frombuffer(buffer, dtype=np.float32).reshape(-1, 2)

    def render(self, piece: Piece, clip_s: float, rng: np.random.Generator) -> tuple[np.ndarray, list[Track]]:
        """The whole clip.

        Returns:
            audio float32 (channels, samples) with its peak at most 0.7, and the tracks that can be heard in
            it.

        Raises:
            SilenceError: if nothing sounds.
        """
        preroll_s = _FRESH_PREROLL_S if piece.fresh else _PREROLL_S
        cut = round(preroll_s * self.rate)
        mix = np.zeros((round((preroll_s + clip_s) * self.rate), self.channels))
        levels: list[tuple[float, Track]] = []
        for track in piece.tracks:
            sound = self.part(piece, track, clip_s, preroll_s, rng)
            mono = sound.mean(axis=1)
            level, loudness = _active_rms(mono, self.rate), _rms(mono[cut:])
            gain_db = _ROLE_DB[track.role] + rng.uniform(-2.0, 2.0)
            pan = 0.0 if track.role in ("melody", "bass", "drums") else rng.uniform(-0.6, 0.6)
            if level < 1e-6 or loudness < 1e-7:
                continue
            gain = 10.0 ** (gain_db / 20.0) / level
            levels.append((loudness * gain, track))
            if self.channels == 1:
                mix[:, 0] += gain * mono
            else:
                angle = (pan + 1.0) * np.pi / 4.0
                mix += gain * np.sqrt(2.0) * sound * np.array([np.cos(angle), np.sin(angle)])
        if not levels:
            raise SilenceError(f"piece {piece.work}: nothing sounds in the clip")
        mix = soxr.resample(mix, self.rate, self.sampling_rate) if self.rate != self.sampling_rate else mix
        # Some pads carry a constant offset.
        mix = sosfilt(butterworth(2, 25.0, "highpass", fs=self.sampling_rate, output="sos"), mix, axis=0)
        mix = _in_room(mix, piece.room, self.sampling_rate, rng)
        samples = round(clip_s * self.sampling_rate)
        mix = mix[round(preroll_s * self.sampling_rate) :][:samples]
        mix = np.pad(mix, ((0, samples - len(mix)), (0, 0)))
        loudest = max(level for level, _ in levels)
        heard = [track for level, track in levels if level > loudest * 10.0 ** (INAUDIBLE_DB / 20.0)]
        return _level(mix, _RMS_DB[piece.dynamics], self.sampling_rate).T.astype(np.float32), heard


def _events(
    piece: Piece, track: Track, clip_s: float, preroll_s: float, rate: int, rng: np.random.Generator
) -> list[tuple[int, bool, int, int]]:
    """Note events (sample, is on, pitch, velocity) of one part, in the order in which they happen."""
    starts = piece.seconds(track.notes[:, 0])
    ends = piece.seconds(track.notes[:, 0] + track.notes[:, 1])
    spread = 0.0 if track.role in ("drums", "percussion") else 0.004
    shift = np.clip(rng.normal(0.0, 1.0, len(starts)), -2.0, 2.0) * spread - track.attack_s
    events = []
    for start, end, move, (_, _, pitch, velocity) in zip(starts, ends, shift, track.notes, strict=True):
        if start >= clip_s or end <= -preroll_s + 0.03:
            continue
        if piece.fresh and start < -1e-6 and end < 0.25:
            continue  # too little of it is left
        start = max(start, 0.0) if piece.fresh else start
        first = round((max(start + move, -preroll_s) + preroll_s) * rate)
        last = max(first + round(0.03 * rate), round((end + move + preroll_s) * rate))
        strength = 127.0 * min(1.0, float(velocity)) ** 1.6  # tinysoundfont's velocity law is shallower than usual
        events.append((first, True, int(pitch), max(1, round(strength))))
        events.append((last, False, int(pitch), 0))
    total = round((preroll_s + clip_s) * rate)
    return sorted((e for e in events if e[0] < total), key=lambda e: (e[0], e[1], e[2]))


def _rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if audio.size else 0.0


def _active_rms(audio: np.ndarray, rate: int) -> float:
    """RMS over the 50-ms pieces within 25 dB of the loudest, so that rests do not count."""
    size = rate // 20
    power = np.square(audio[: len(audio) // size * size], dtype=np.float64).reshape(-1, size).mean(axis=1)
    if power.max(initial=0.0) <= 0.0:
        return 0.0
    return float(np.sqrt(power[power > power.max() * 10.0**-2.5].mean()))


def _in_room(mix: np.ndarray, room: str, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Add the reverberation of a room: decaying noise, darker with time."""
    if room == "dry":
        return mix
    decay_s, wet = _ROOMS[room]
    length = round(1.2 * decay_s * rate)
    envelope = 10.0 ** (-3.0 * np.arange(length) / (decay_s * rate))
    response = rng.standard_normal((length, mix.shape[1])) * envelope[:, None]
    response = lfilter([0.35], [1.0, -0.65], response, axis=0)
    response[: round(0.012 * rate)] = 0.0
    response /= np.sqrt(np.square(response).sum(axis=0))
    tail = fftconvolve(mix, response, axes=0)[: len(mix)]
    return mix + wet * tail * (_rms(mix) / max(_rms(tail), 1e-9)) ** 0.5


def _level(mix: np.ndarray, rms_db: float, rate: int) -> np.ndarray:
    """Bring a mix to an RMS, with its peak held at 0.7 by a look-ahead limiter of at most 6 dB."""
    peak = float(np.abs(mix).max())
    gain = min(10.0 ** (rms_db / 20.0) / _rms(mix), 2.0 * PEAK / peak)
    mix = mix * gain
    need = np.minimum(1.0, PEAK / np.maximum(np.abs(mix).max(axis=1), 1e-9))
    reach = round(0.004 * rate)
    hold = minimum_filter1d(need, 2 * reach + 1)
    mix = mix * uniform_filter1d(hold, reach)[:, None]
    return np.clip(mix * min(1.0, PEAK / max(float(np.abs(mix).max()), 1e-9)), -PEAK, PEAK)
