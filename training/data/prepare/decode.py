"""Audio files of any kind -> samples at the wanted rate, with what was seen on the way.

libsndfile reads WAV, FLAC, OGG, MP3, AIFF; the rest (M4A ...) goes through ffmpeg, on the PATH or out of the
`imageio-ffmpeg` package. Files are read block by block, so that a long one costs only its own resampled length.
"""

import io
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from training.metrics.signal import CLIP_LEVEL

BLOCK_S = 1.0  # read at a time; what a damaged file loses at most before its fault
FFMPEG_TIMEOUT_S = 1800.0
DENOISE = "afftdn=nr=20:tn=1:tr=1"  # up to 20 dB, noise floor tracked
AUDIO_SUFFIXES = frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64"}
    | {".rf64", ".m4a", ".mp4", ".aac", ".wma", ".ape", ".wv", ".ac3", ".mka", ".webm", ".alac"}
)
# First bytes of a file -> what it is, and the suffixes under which it is usually found.
MAGIC = (
    (rb"RIFF....WAVE|RF64....WAVE", "WAV", (".wav", ".wave", ".rf64")),
    (rb"fLaC", "FLAC", (".flac",)),
    (rb"OggS", "OGG", (".ogg", ".oga", ".opus")),
    (rb"ID3|\xff[\xe2-\xe7\xf2-\xff]", "MP3", (".mp3", ".mp2")),
    (rb"FORM....AIF[FC]", "AIFF", (".aif", ".aiff", ".aifc")),
    (rb"....ftyp", "M4A", (".m4a", ".mp4", ".alac", ".aac", ".mov")),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "AAC", (".aac",)),
)
THROUGH_FFMPEG = frozenset({"M4A", "AAC"})


class UnreadableError(Exception):
    """This file cannot be decoded; the message says why in one line."""


@dataclass
class Decoded:
    """One file.

    Attributes:
        audio: (channels, samples) float32 at the wanted rate.
        format: by content, e.g. "MP3".
        source_rate, source_channels: of the file.
        source_s: seconds decoded.
        clipped: share of samples on flat tops of three or more at full scale, before resampling.
        dc: mean of each channel (source channels), which has been taken out.
        notes: what is odd but no reason to leave the file out.
    """

    audio: np.ndarray
    format: str
    source_rate: int
    source_channels: int
    source_s: float
    clipped: float
    dc: tuple[float, ...]
    notes: list[str] = field(default_factory=list)


def kind_of(head: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Format by the first bytes, and its usual suffixes; None if not known."""
    for pattern, name, suffixes in MAGIC:
        if re.match(pattern, head, re.DOTALL):
            return name, suffixes
    return None


def find_ffmpeg() -> str | None:
    """Path of an ffmpeg that runs, or None."""
    path = shutil.which("ffmpeg")
    if path is not None:
        return path
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:  # the package is there without its binary
        return None


def decode(content: bytes, name: str, sampling_rate: int, channels: int, denoise: bool = False) -> Decoded:
    """Decode a file.

    Args:
        content: the whole file.
        name: for its suffix only.
        sampling_rate, channels: of the result.
        denoise: through ffmpeg's `afftdn` filter (spectral subtraction of a tracked noise floor).

    Raises:
        UnreadableError: not audio, damaged from the start, or in need of an ffmpeg that is not there.
    """
    if not content:
        raise UnreadableError("empty file")
    suffix = Path(name).suffix.lower()
    kind = kind_of(content[:16])
    notes = []
    if kind is not None and suffix and suffix not in kind[1]:
        notes.append(f"wrong extension: {suffix}, but it is {kind[0]}")
    label = kind[0] if kind else suffix.lstrip(".").upper() or "unknown"
    if denoise or label in THROUGH_FFMPEG:
        content = _through_ffmpeg(content, label, denoise)
    try:
        decoded = _read(content, label, sampling_rate, channels)
    except soundfile.LibsndfileError as error:
        if kind is None and suffix not in AUDIO_SUFFIXES:
            raise UnreadableError("not an audio file") from None
        if label in THROUGH_FFMPEG or denoise or find_ffmpeg() is None:
            raise UnreadableError(f"damaged {label}: {_reason(error)}") from None
        # ffmpeg reads what libsndfile does not (Opus of odd rates, MP3 after rubbish), or says better why not.
        decoded = _read(_through_ffmpeg(content, label, False), label, sampling_rate, channels)
    decoded.notes[:0] = [*notes, *_cut_off(content, label)]
    return decoded


def _cut_off(content: bytes, label: str) -> list[str]:
    """A note where a WAV or OGG file ends before its own end, which libsndfile passes over."""
    declared = int.from_bytes(content[4:8], "little") + 8
    if label == "WAV" and content[:4] == b"RIFF" and len(content) < 0.98 * declared and declared < 2**32:
        return [f"truncated: {100.0 * len(content) / declared:.0f} % of the file is there"]
    page = content.rfind(b"OggS")  # RFC 3533: bit 2 of the header type marks the last page of a stream
    if label == "OGG" and 0 <= page < len(content) - 6 and not content[page + 5] & 4:
        return ["truncated: the stream has no last page"]
    return []


def _reason(error: soundfile.LibsndfileError) -> str:
    return " ".join(str(error.error_string).split()).rstrip(".")


def _through_ffmpeg(content: bytes, label: str, denoise: bool) -> bytes:
    """The audio as WAV in float32."""
    program = find_ffmpeg()
    if program is None:
        what = "noise reduction needs" if denoise else f"{label} needs"
        raise UnreadableError(f"{what} ffmpeg, which is not installed (apt install ffmpeg, pip install imageio-ffmpeg)")
    words = [program, "-v", "error", "-nostdin", "-i", "pipe:0", "-vn", "-map", "0:a:0"]
    words += ["-af", DENOISE] if denoise else []
    # M4A with its index at the end cannot be read from a pipe, so the file goes through a temporary one.
    with tempfile.NamedTemporaryFile(suffix=f".{label.lower()}") as file:
        file.write(content)
        file.flush()
        words[words.index("pipe:0")] = file.name
        try:
            done = subprocess.run(
                [*words, "-f", "wav", "-c:a", "pcm_f32le", "pipe:1"], capture_output=True, timeout=FFMPEG_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            raise UnreadableError(f"damaged {label}: ffmpeg gave no end within {FFMPEG_TIMEOUT_S:.0f} s") from None
    if done.returncode or len(done.stdout) < 64:
        lines = done.stderr.decode(errors="replace").replace(file.name, "file").strip().splitlines() or [
            "no audio in it"
        ]
        raise UnreadableError(f"damaged {label}: {lines[-1][:200]}")
    return done.stdout


def _read(content: bytes, label: str, sampling_rate: int, channels: int) -> Decoded:
    parts: list[np.ndarray] = []
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        count, rate = file.channels, file.samplerate
        if not 1 <= count <= 32 or not 1000 <= rate <= 768_000:
            raise UnreadableError(f"damaged {label}: says {count} channels at {rate} Hz")
        stream = soxr.ResampleStream(rate, sampling_rate, count, dtype="float32", quality="HQ")
        seen = flat = 0
        total, energy, product = np.zeros(count), np.zeros(count), 0.0
        notes, broken = [], None
        block_frames = int(BLOCK_S * rate)
        while True:
            try:
                block = file.read(block_frames, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError as error:
                broken = _reason(error)
                break
            if not len(block):
                break
            if not np.isfinite(block).all():
                raise UnreadableError(f"damaged {label}: samples that are not finite")
            seen += len(block)
            flat += _flat(block)
            total += block.sum(axis=0, dtype=np.float64)
            energy += np.square(block, dtype=np.float64).sum(axis=0)
            product += float(np.dot(block[:, 0].astype(np.float64), block[:, 1])) if count == 2 else 0.0
            parts.append(stream.resample_chunk(block))
        expected = file.frames
        if not seen:
            raise UnreadableError(f"damaged {label}: {broken or 'no samples in it'}")
        parts.append(stream.resample_chunk(np.zeros((0, count), np.float32), last=True))
    if broken or (0 < expected < 2**62 and seen < 0.98 * expected):
        notes.append(f"truncated: {seen / rate:.1f} of {expected / rate:.1f} s" + (f" ({broken})" if broken else ""))
    dc = total / seen
    audio = np.concatenate(parts).T - dc[:, None].astype(np.float32)
    audio = _mix(audio, channels, energy / seen - dc**2, product / seen - (dc[0] * dc[1] if count == 2 else 0.0), notes)
    return Decoded(audio, label, rate, count, seen / rate, flat / (seen * count), tuple(dc.tolist()), notes)


def _flat(block: np.ndarray) -> int:
    """Samples of (frames, channels) that lie within runs of three at full scale."""
    full = np.abs(block) >= CLIP_LEVEL
    if len(block) < 3 or not full.any():
        return 0
    runs = full[:-2] & full[1:-1] & full[2:]
    flat = np.zeros_like(full)
    for shift in range(3):
        flat[shift : shift + len(runs)] |= runs
    return int(flat.sum())


def _mix(audio: np.ndarray, channels: int, power: np.ndarray, product: float, notes: list[str]) -> np.ndarray:
    """(source channels, samples) -> (channels, samples), with a note where stereo is not what it seems."""
    if len(audio) == 2:
        left, right = power
        louder = int(right > left)
        if max(left, right) < 1e-12:
            pass  # silent altogether: not this function's finding
        elif min(left, right) <= 1e-6 * max(left, right):
            notes.append(f"one channel silent: only the {('left', 'right')[louder]} was used")
            audio = audio[louder : louder + 1]
        else:
            correlation = product / np.sqrt(left * right)
            if correlation > 0.9999 and abs(left / right - 1.0) < 0.01:
                notes.append("mono as stereo")
            elif correlation < -0.9:
                notes.append("channels in opposite phase: only the left was used")
                audio = audio[:1]
    elif len(audio) > 2:
        notes.append(f"{len(audio)} channels mixed down")
        audio = audio.mean(axis=0, keepdims=True)
    if channels == 1:
        audio = audio.mean(axis=0, keepdims=True)
    return np.ascontiguousarray(np.repeat(audio, channels, axis=0) if len(audio) < channels else audio)


def read_tags(content: bytes, name: str) -> dict[str, str]:
    """Tags that a file carries (title, artist, album, genre, comment, bpm, initial_key), as far as they can be read."""
    from tinytag import TinyTag, TinyTagException

    try:
        found = TinyTag.get(filename=name, file_obj=io.BytesIO(content), duration=False)
    except (TinyTagException, ValueError, KeyError, OSError, json.JSONDecodeError):
        return {}
    tags = {key: getattr(found, key) for key in ("title", "artist", "album", "genre", "comment", "composer")}
    for key in ("bpm", "initial_key", "license"):
        tags[key] = (found.other.get(key) or [None])[0]
    return {key: str(value).strip() for key, value in tags.items() if value not in (None, "") and str(value).strip()}
