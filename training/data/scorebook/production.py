"""What happens to a piece after its parts are played: panning, effects, loudness; one of seven production profiles.

Effects are vectorised numpy and scipy, none delays the sound, and what varies with time repeats with the period that is
given, so that a loop still closes. The profile is drawn by the style of the piece and is stated in captions.
"""

from dataclasses import dataclass

import numpy as np
import soxr
from scipy.fft import irfft, next_fast_len, rfft
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from scipy.signal import butter, lfilter, sosfilt

from training.data.scorebook.piece import Piece

PEAK = 0.7
_RMS_DB = {"soft": -20.0, "medium": -18.0, "loud": -16.5}
DRY_SHARE = 1.0 / 3.0
_UNUSUAL_SHARE = 0.15  # of the others: any profile, whatever the style
_KICKS = (35, 36)  # General MIDI keys


@dataclass(frozen=True)
class Profile:
    """Ranges of settings, drawn for each clip; 0 leaves an effect out."""

    rooms: tuple[str, ...]  # kinds of reverberation, keys of `_ROOMS`
    pan: tuple[float, float] = (0.3, 0.7)  # how far from the middle parts stand, 0 to 1
    width: tuple[float, float] = (1.0, 1.0)  # of the stereo image; 0 is mono, 1 leaves it as it is
    ratio: tuple[float, float] = (1.0, 1.0)  # of the compressor
    # level of the mix against that at which saturation becomes plain; None for no saturation
    drive_db: tuple[float, float] | None = None
    chorus: tuple[float, float] = (0.0, 0.0)  # level of the chorus on chords, arpeggios and pads
    echo: tuple[float, float] = (0.0, 0.0)  # level of an echo on tunes and arpeggios, in time with the beat
    duck: tuple[float, float] = (0.0, 0.0)  # by how much the kick turns the other parts down, 0 to 1
    # low_hz, high_hz: limits of the band
    low_hz: tuple[float, float] = (0.0, 0.0)
    high_hz: tuple[float, float] = (0.0, 0.0)
    wow_s: tuple[float, float] = (0.0, 0.0)  # largest shift in time by the wow and flutter of a tape, seconds
    hiss_db: tuple[float, float] | None = None  # level of noise in dB of full scale; None for none
    crackle: tuple[float, float] = (0.0, 0.0)  # clicks of a record a second
    louder_db: float = 0.0  # loudness above that of the other profiles


PROFILES = {
    "dry": Profile(("dry",)),
    "room": Profile(("room",), ratio=(1.2, 2.0)),
    "hall": Profile(("hall",), pan=(0.5, 0.9)),
    "club": Profile(
        ("room",), ratio=(3.0, 5.0), drive_db=(-15.0, -10.0), chorus=(0.2, 0.5), echo=(0.12, 0.28), duck=(0.55, 0.8),
        louder_db=2.5,
    ),
    "lo-fi": Profile(
        ("dry", "room"), pan=(0.1, 0.4), width=(0.2, 0.6), ratio=(2.0, 3.5), drive_db=(-11.0, -5.0),
        low_hz=(50.0, 110.0), high_hz=(2800.0, 6000.0), wow_s=(0.0004, 0.0008), hiss_db=(-58.0, -48.0),
        crackle=(2.0, 14.0),
    ),
    "tape": Profile(
        ("dry", "room"), pan=(0.3, 0.6), width=(0.7, 1.0), ratio=(1.5, 2.5), drive_db=(-10.0, -4.0),
        low_hz=(30.0, 45.0), high_hz=(8000.0, 13000.0), wow_s=(0.0002, 0.0005), hiss_db=(-66.0, -58.0),
    ),
    "arena": Profile(
        ("arena",), pan=(0.6, 1.0), width=(1.1, 1.4), ratio=(2.5, 4.0), drive_db=(-16.0, -11.0), chorus=(0.3, 0.6),
        echo=(0.08, 0.18), louder_db=2.0,
    ),
}  # fmt: skip
# Room -> ranges of the decay time in seconds, the level against the direct sound, and the first silence in seconds.
_ROOMS = {
    "room": ((0.3, 0.7), (0.18, 0.32), (0.004, 0.012)), "hall": ((1.4, 2.2), (0.3, 0.5), (0.012, 0.03)),
    "cathedral": ((2.6, 3.6), (0.45, 0.65), (0.02, 0.04)), "arena": ((2.0, 2.8), (0.35, 0.5), (0.03, 0.05)),
}  # fmt: skip
# How much of a role is sent to the reverberation.
_SENDS = {"bass": 0.2, "drums": 0.5, "percussion": 0.7}
# Style or genre -> weights of room, hall, club, lo-fi, tape, arena.
_WEIGHTS = {
    "lo-fi": (1, 0, 0, 8, 2, 0), "electronic": (1, 1, 8, 1, 1, 1), "hip hop": (1, 0, 4, 2, 2, 1),
    "rock": (3, 1, 0, 1, 2, 4), "funk": (4, 0, 1, 1, 3, 1), "disco": (2, 0, 4, 0, 2, 2), "latin": (5, 1, 1, 1, 2, 0),
    "reggae": (3, 0, 1, 1, 4, 0), "jazz": (6, 1, 0, 1, 2, 0), "blues": (5, 0, 0, 1, 4, 1), "pop": (3, 2, 0, 1, 2, 2),
    "classical": (3, 7, 0, 0, 0, 0), "choral": (2, 8, 0, 0, 0, 0), "baroque": (4, 6, 0, 0, 0, 0),
    "orchestral": (1, 7, 0, 0, 0, 2), "march": (3, 4, 0, 0, 1, 2), "ambient": (0, 7, 1, 2, 2, 0),
    "game music": (2, 0, 3, 3, 1, 1), "folk": (6, 1, 0, 1, 2, 0), "children": (4, 2, 0, 2, 2, 0),
}  # fmt: skip
_OTHERS = (3, 2, 1, 1, 2, 1)
_CATHEDRAL_GENRES = ("ambient", "orchestral", "choral", "classical")


def draw_production(style: str, genre: str, rng: np.random.Generator) -> tuple[str, str]:
    """A profile by the style of a piece, and the room it is heard in: dry, room, hall or cathedral."""
    names = [name for name in PROFILES if name != "dry"]
    weights = np.array(_WEIGHTS.get(style, _WEIGHTS.get(genre, _OTHERS)), dtype=float)
    weights = (1.0 - _UNUSUAL_SHARE) * weights / weights.sum() + _UNUSUAL_SHARE / len(names)
    name = "dry" if rng.random() < DRY_SHARE else names[int(rng.choice(len(names), p=weights))]
    rooms = PROFILES[name].rooms
    room = rooms[int(rng.integers(len(rooms)))]
    if name == "hall" and genre in _CATHEDRAL_GENRES and rng.random() < 0.35:
        room = "cathedral"
    return name, "hall" if name == "arena" else room


@dataclass
class Stem:
    """A part as it is played, alone."""

    role: str  # of its track
    gain: float  # factor that brings it to its level in the mix
    sound: np.ndarray  # (samples, 2)
    kicks_s: np.ndarray  # times of the strokes of its bass drum, seconds from the first sample


def kicks_of(notes: np.ndarray) -> np.ndarray:
    """Onsets of the bass drum among notes (n, 4) of a drum part."""
    return notes[np.isin(notes[:, 2], _KICKS), 0]


def produce(
    stems: list[Stem], piece: Piece, rates: tuple[int, int], channels: int, period: int, rng: np.random.Generator
) -> np.ndarray:
    """The mix of all parts with the effects of a piece's profile, (channels, samples), before its loudness is set.

    Args:
        rates: of the stems and of the result, Hz.
        period: samples of the result after which everything that varies repeats.
    """
    profile, rate, beat_s = PROFILES[piece.production], rates[1], 60.0 / piece.bpm
    draw = {name: rng.uniform(*limits) for name, limits in vars(profile).items()
            if isinstance(limits, tuple) and isinstance(limits[0], float)}  # fmt: skip
    buses = _mix(stems, draw, beat_s, rates[0], channels, rng)
    if rates[0] != rate:
        joined = soxr.resample(np.concatenate(list(buses.values())).T, *rates).T
        buses = dict(zip(buses, np.split(np.ascontiguousarray(joined), len(buses)), strict=True))
    # Some pads carry a constant offset.
    mix = _filtered(buses["mix"], 2, 25.0, "highpass", rate)
    sent = buses.get("sent", mix)
    if draw["chorus"]:
        mix = mix + draw["chorus"] * chorus(buses["chorus"], rate, period, rng)
    if draw["echo"]:
        echoes = draw["echo"] * echo(buses["echo"], rate, beat_s * float(rng.choice([0.5, 0.75, 1.0])))
        mix, sent = mix + echoes, sent + echoes
    if piece.room != "dry":
        mix = reverberate(mix, sent, "arena" if piece.production == "arena" else piece.room, rate, rng)
    if draw["ratio"] > 1.0:
        mix = compress(mix, rate, draw["ratio"])
    if "drive_db" in draw:
        mix = saturate(mix, draw["drive_db"])
    for limit, kind in (("low_hz", "highpass"), ("high_hz", "lowpass")):
        if 0.0 < draw[limit] < 0.45 * rate:
            mix = _filtered(mix, 2, draw[limit], kind, rate)
    if draw["wow_s"]:
        mix = wow(mix, rate, draw["wow_s"], period, rng)
    if channels == 2 and draw["width"] != 1.0:
        middle = mix.mean(axis=0)
        mix = middle + draw["width"] * (mix - middle)
    return _with_noise(mix, rate, draw, period, rng)


def _mix(
    stems: list[Stem], draw: dict[str, float], beat_s: float, rate: int, channels: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """The parts in their places, and what goes to the effects: mix, sent, chorus and echo, each (channels, samples)."""
    total = len(stems[0].sound)
    names = ("mix", "sent", *(name for name in ("chorus", "echo") if draw[name]))
    buses = {name: np.zeros((channels, total)) for name in names}
    kicks = np.concatenate([stem.kicks_s for stem in stems]) if draw["duck"] else np.zeros(0)
    ducking = duck(kicks, total, rate, draw["duck"], beat_s) if len(kicks) else None
    for stem in stems:
        pan = 0.0 if stem.role in ("melody", "bass", "drums") else draw["pan"] * rng.uniform(-1.0, 1.0)
        angle = (pan + 1.0) * np.pi / 4.0
        sides = (np.sqrt(2.0) * np.cos(angle), np.sqrt(2.0) * np.sin(angle))
        left, right = stem.sound.T.astype(np.float64)
        sound = np.stack([left * sides[0], right * sides[1]] if channels == 2 else [0.5 * (left + right)]) * stem.gain
        if ducking is not None and stem.role not in ("drums", "percussion"):
            sound *= ducking
        buses["mix"] += sound
        buses["sent"] += _SENDS.get(stem.role, 1.0) * sound
        for name, roles in (("chorus", ("chords", "arpeggio", "pad")), ("echo", ("melody", "arpeggio"))):
            if name in buses and stem.role in roles:
                buses[name] += sound
    return buses


# ---- effects --------------------------------------------------------------------------------------------------------


def _filtered(sound: np.ndarray, order: int, hz: float | list[float], kind: str, rate: int) -> np.ndarray:
    return sosfilt(butter(order, hz, kind, fs=rate, output="sos"), sound)


def duck(kicks_s: np.ndarray, total: int, rate: int, depth: float, beat_s: float) -> np.ndarray:
    """Gain (total,) that falls by `depth` at each kick, within 3 ms before it, and rises again within a beat."""
    fall, rise = round(0.003 * rate), round(min(0.9 * beat_s, 0.45) * rate)
    shape = np.concatenate([np.linspace(0.0, 1.0, fall), (0.5 + 0.5 * np.cos(np.linspace(0.0, np.pi, rise)))])
    shape = 1.0 - depth * shape
    gain = np.ones(total)
    for kick in kicks_s:
        first = round(kick * rate) - fall
        begin, end = max(first, 0), min(first + len(shape), total)
        if begin < end:
            gain[begin:end] = np.minimum(gain[begin:end], shape[begin - first : end - first])
    return gain


def _read_at(sound: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """`sound` (samples,) `delay` samples earlier at each sample, by cubic interpolation; its ends are repeated."""
    place = np.arange(len(sound)) - delay
    whole = np.floor(place)
    part, whole = place - whole, whole.astype(np.int64)
    a, b, c, d = (sound.take(whole + k, mode="clip") for k in (-1, 0, 1, 2))
    return b + 0.5 * part * (c - a + part * (2.0 * a - 5.0 * b + 4.0 * c - d + part * (3.0 * (b - c) + d - a)))


def _wave(hz: float, samples: int, rate: int, period: int, phase: float) -> np.ndarray:
    """A sine near `hz` that repeats after `period` samples."""
    cycles = max(1, round(hz * period / rate))
    return np.sin(2.0 * np.pi * cycles / period * np.arange(samples) + 2.0 * np.pi * phase)


def chorus(sound: np.ndarray, rate: int, period: int, rng: np.random.Generator) -> np.ndarray:
    """A copy 8 to 20 ms later whose pitch swings, another one in each channel."""
    copies = []
    for channel in sound:
        swing = _wave(rng.uniform(0.4, 1.1), len(channel), rate, period, rng.random())
        copies.append(_read_at(channel, (rng.uniform(0.011, 0.017) + 0.0025 * swing) * rate))
    return np.stack(copies)


def echo(sound: np.ndarray, rate: int, after_s: float) -> np.ndarray:
    """Repetitions every `after_s` seconds, each softer by half and, in stereo, on the other side."""
    mono = _filtered(sound.mean(axis=0), 1, [180.0, min(5000.0, 0.45 * rate)], "bandpass", rate)
    echoes = np.zeros_like(sound)
    for number in range(1, 6):
        late = round(number * after_s * rate)
        if late >= len(mono):
            break
        for side, channel in enumerate(echoes):
            channel[late:] += 0.5 ** (number - 1) * (0.35 if (number + side) % 2 else 1.0) * mono[:-late]
    return echoes


def reverberate(mix: np.ndarray, sent: np.ndarray, room: str, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Add the reverberation of what is sent: decaying noise, in which what is high decays faster."""
    decay_s, wet, first_s = (rng.uniform(*limits) for limits in _ROOMS[room])
    length = round(1.1 * decay_s * rate)
    noise = rng.standard_normal((len(mix), length), dtype=np.float32)
    dark = lfilter([0.3], [1.0, -0.7], noise)
    slow = np.exp(np.log(1e-3) / (decay_s * rate) * np.arange(length))
    response = (slow * dark + 0.6 * slow**3 * (noise - dark)).astype(np.float32)
    response[:, : round(first_s * rate)] = 0.0
    samples = sent.shape[1]
    size = next_fast_len(samples + length - 1, real=True)
    tail = irfft(rfft(sent.astype(np.float32), size) * rfft(response, size), size)[:, :samples]
    return mix + wet * level_of(mix) / max(level_of(tail), 1e-9) * tail


def compress(mix: np.ndarray, rate: int, ratio: float, attack_s: float = 0.006, release_s: float = 0.18) -> np.ndarray:
    """A compressor of peaks above the RMS, all channels alike.

    The level of pieces of 32 samples rises at once and falls by 20 dB in `release_s`; its gain is smoothed over
    `attack_s`.
    """
    size, samples = 32, mix.shape[1]
    pieces = -(-samples // size)
    peaks = np.pad(np.abs(mix).max(axis=0), (0, pieces * size - samples)).reshape(pieces, size).max(axis=1)
    slope = 20.0 * size / (release_s * rate) * np.arange(pieces)
    level_db = np.maximum.accumulate(20.0 * np.log10(peaks + 1e-9) + slope) - slope
    over_db = np.maximum(0.0, level_db - 20.0 * np.log10(max(level_of(mix), 1e-9)))
    keep = np.exp(-size / (attack_s * rate))
    gain_db = lfilter([1.0 - keep], [1.0, -keep], (1.0 / ratio - 1.0) * over_db)
    return mix * np.interp(np.arange(samples), size * np.arange(pieces) + size / 2.0, 10.0 ** (gain_db / 20.0))


def saturate(mix: np.ndarray, drive_db: float) -> np.ndarray:
    """Soft limits, not quite the same above and below, as of tape and valves."""
    drive = 10.0 ** (drive_db / 20.0) / max(level_of(mix), 1e-9)
    bias = 0.12
    return (np.tanh(drive * mix + bias) - np.tanh(bias)) / drive


def wow(mix: np.ndarray, rate: int, most_s: float, period: int, rng: np.random.Generator) -> np.ndarray:
    """Shift in time by at most `most_s` to and fro: slowly as a warped record does, and quickly as a worn motor."""
    slow = _wave(rng.uniform(0.4, 1.2), mix.shape[1], rate, period, rng.random())
    quick = _wave(rng.uniform(5.0, 8.0), mix.shape[1], rate, period, rng.random())
    delay = (0.85 * slow + 0.15 * quick) * most_s * rate
    return np.stack([_read_at(channel, delay) for channel in mix])


def _with_noise(
    mix: np.ndarray, rate: int, draw: dict[str, float], period: int, rng: np.random.Generator
) -> np.ndarray:
    """Add hiss and crackle at levels of a clip of medium loudness."""
    if "hiss_db" not in draw:
        return mix
    noise = 10.0 ** (draw["hiss_db"] / 20.0) * rng.standard_normal((len(mix), period))
    if draw["crackle"]:
        clicks = rng.integers(period, size=round(draw["crackle"] * period / rate))
        noise[:, clicks] += 0.02 * rng.laplace(0.0, 1.0, len(clicks))
    noise = np.take(noise, np.arange(mix.shape[1]), axis=1, mode="wrap")
    full = level_of(mix) * 10.0 ** (-_RMS_DB["medium"] / 20.0)
    return mix + full * _filtered(noise, 1, [300.0, min(7000.0, 0.45 * rate)], "bandpass", rate)


def level_of(audio: np.ndarray) -> float:
    """Root mean square."""
    flat = audio.reshape(-1)
    return float(np.sqrt(np.dot(flat, flat) / flat.size)) if flat.size else 0.0


def set_level(mix: np.ndarray, piece: Piece, rate: int, loop: bool) -> np.ndarray:
    """Bring a mix to the RMS of its dynamics and profile, its peak held at 0.7 by a look-ahead limiter of at most 6 dB.

    The limiter of a loop looks ahead from its end to its beginning.
    """
    peak = float(np.abs(mix).max())
    rms_db = _RMS_DB[piece.dynamics] + PROFILES[piece.production].louder_db
    mix = mix * min(10.0 ** (rms_db / 20.0) / level_of(mix), 2.0 * PEAK / peak)
    need = np.minimum(1.0, PEAK / np.maximum(np.abs(mix).max(axis=0), 1e-9))
    reach, edge = round(0.004 * rate), "wrap" if loop else "reflect"
    hold = minimum_filter1d(need, 2 * reach + 1, mode=edge)
    mix = mix * uniform_filter1d(hold, reach, mode=edge)
    return np.clip(mix * min(1.0, PEAK / max(float(np.abs(mix).max()), 1e-9)), -PEAK, PEAK)
