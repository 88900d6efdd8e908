"""Audio files of any kind -> samples at the wanted rate, with notes on what was odd.

libsndfile reads WAV, FLAC, OGG, MP3, AIFF; the rest (M4A ...) goes through ffmpeg, on the PATH or out of the
`imageio-ffmpeg` package. Files are read block by block, so that a long one costs only its own resampled length.
"""

import io
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from pipelines.vivace_files import find_ffmpeg
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
# First bytes of what is often found under the name of an audio file, and what to say of it.
NO_AUDIO = (
    (rb"\x00\x05\x16\x07", "macOS's notes on a file of this name (AppleDouble), no audio"),
    (
        rb"version https://git-lfs\.github\.com/spec/",
        "a Git LFS pointer, not the file itself; `git lfs pull` fetches it",
    ),
    (
        rb"(?:\.\./)*(?:\.git|/)?/?annex/objects/",
        "a git-annex pointer, not the file itself; `git annex get` fetches it",
    ),
    (rb"\s*(?i:<!doctype html|<html)", "an HTML page, no audio"),
)
SAME_LEVEL = 1e-4  # of full scale: samples on a flat top differ by no more
PCM = frozenset({"WAV", "AIFF", "AIFC", "RF64", "W64", "CAF", "AU"})  # where "FLOAT" is what was recorded
HINTS = ("To ignore this", "Error opening output", "Conversion failed", "Failed to set value", "Error parsing")


def clean(text: str) -> str:
    """A text on one line: values with NUL between them (as in ID3v2.4) get commas, other control characters and runs
    of blanks become one blank, and halves of surrogate pairs go, which no UTF-8 can hold."""
    values = re.sub(r"[\ud800-\udfff\ufeff]", "", text).split("\0")
    values = [" ".join(re.sub(r"[\x01-\x1f\x7f-\x9f]", " ", value).split()) for value in values]
    return ", ".join(value for value in values if value)


class UnreadableError(Exception):
    """This file cannot be decoded; the message says why in one line."""


class NothingInItError(UnreadableError):
    """A file that opens and has no samples, as far as its header tells."""


@dataclass
class Decoded:
    """One file."""

    audio: np.ndarray  # (channels, samples) float32 at the wanted rate
    format: str  # by content, such as "MP3"
    # source_rate, source_channels: of the file
    source_rate: int
    source_channels: int
    source_s: float  # seconds decoded
    # share of samples on flat tops of three or more at full scale, before resampling. Samples stored as floats may go
    # above full scale without a flat top, and are not clipped then.
    clipped: float
    dc: tuple[float, ...]  # mean of each channel (source channels), which has been taken out
    notes: list[str] = field(default_factory=list)  # what is odd but no reason to leave the file out


def _id3_size(content: bytes) -> int:
    """Bytes of the ID3v2 tags at the beginning; MP3 have them, and some FLAC and WAV."""
    start = 0
    while content[start : start + 3] == b"ID3" and len(content) >= start + 10:
        size = 0
        for byte in content[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if content[start + 5] & 0x10 else 0)
    return start


def kind_of(head: bytes) -> tuple[str, tuple[str, ...]] | None:
    """Format by the first bytes (16 at least), and its usual suffixes; None if not known. Of a file that begins with an
    ID3v2 tag, what follows that is looked at if it is there."""
    start = _id3_size(head)
    for first in (head[start : start + 16], head[:16]):
        for pattern, name, suffixes in MAGIC:
            if re.match(pattern, first, re.DOTALL):
                return name, suffixes
    return None


def decode(content: bytes, name: str, sampling_rate: int, channels: int, denoise: bool = False) -> Decoded:
    """Decode the content of a file to a sampling rate and a number of channels; of its name only the suffix counts.
    `denoise`: through ffmpeg's `afftdn` filter (spectral subtraction of a tracked noise floor). Raises an
    UnreadableError if it is not audio, damaged from the start, or in need of an ffmpeg that is missing.
    """
    if not content:
        raise UnreadableError("empty file")
    for pattern, words in NO_AUDIO:
        if re.match(pattern, content[:512]):
            raise UnreadableError(words)
    suffix = Path(name).suffix.lower()
    kind = kind_of(content)
    notes = []
    if kind is not None and suffix and suffix not in kind[1]:
        notes.append(f"wrong extension: {suffix}, but it is {kind[0]}")
    label = clean(kind[0] if kind else suffix.lstrip(".").upper()) or "unknown"
    converted = denoise or label in THROUGH_FFMPEG
    if label == "MP3" and not converted and not _length_told(content):
        # libsndfile guesses the length of such a file by its first frames, and reads no more than that.
        converted = find_ffmpeg() is not None
        if not converted:
            notes.append("length unsure: an MP3 without a right length in its header, and no ffmpeg to read it through")
    stored = _through_ffmpeg(content, label, denoise) if converted else content
    try:
        decoded = _read(stored, label, sampling_rate, channels)
    except (soundfile.LibsndfileError, NothingInItError) as error:
        if kind is None and suffix not in AUDIO_SUFFIXES:
            raise UnreadableError("not an audio file") from None
        if converted or find_ffmpeg() is None:
            what = str(error) if isinstance(error, NothingInItError) else f"damaged {label}: {_reason(error)}"
            raise UnreadableError(what) from None
        # ffmpeg reads what libsndfile does not (Opus of odd rates, MP3 after rubbish, a WAV whose recorder died before
        # it wrote the length), or says better why not.
        decoded = _read(_through_ffmpeg(content, label, False), label, sampling_rate, channels)
    decoded.notes[:0] = [*notes, *_cut_off(content, label)]
    return decoded


def _length_told(content: bytes) -> bool:
    """Whether the first frame of an MP3 is a header (Xing, Info or VBRI) whose length fits the file."""
    start = _id3_size(content)
    sync = re.compile(rb"\xff[\xe2-\xe7\xf2-\xff]").search(content, start, start + 4096)
    if sync is None:
        return False
    frame = content[sync.start() : sync.start() + 256]
    found = re.search(rb"Xing|Info|VBRI", frame[:48])
    if found is None:
        return False
    if found[0] == b"VBRI":
        size = int.from_bytes(frame[found.start() + 10 : found.start() + 14], "big")
    else:
        flags = int.from_bytes(frame[found.start() + 4 : found.start() + 8], "big")  # 1: frames follow, 2: bytes follow
        if not flags & 1:
            return False
        size = int.from_bytes(frame[found.start() + 12 : found.start() + 16], "big") if flags & 2 else 0
    # Two files put end to end have the length of the first; tags at the end are no more than 2 % and 4 kB.
    return not size or len(content) - sync.start() <= 1.02 * size + 4096


def _cut_off(content: bytes, label: str) -> list[str]:
    """A note where a WAV or OGG file is longer or shorter than it says, which libsndfile passes over."""
    declared = int.from_bytes(content[4:8], "little") + 8
    if label == "WAV" and content[:4] == b"RIFF" and len(content) < 0.98 * declared and declared < 2**32:
        return [f"truncated: {100.0 * len(content) / declared:.0f} % of the file is there"]
    if label == "WAV" and content[:4] == b"RIFF" and 8 < declared < 0.98 * len(content) < 2**32:
        return [f"length unsure: the header counts {100.0 * declared / len(content):.0f} % of the file"]
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
    with tempfile.NamedTemporaryFile(suffix="." + re.sub(r"\W", "", label.lower())[:8]) as file:
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
        raise UnreadableError(_complaint(done.stderr.decode(errors="replace").replace(file.name, "file"), label))
    return done.stdout


def _complaint(stderr: str, label: str) -> str:
    """The reason that ffmpeg gives, in one line, without its hints on options."""
    if "matches no streams" in stderr or "does not contain any stream" in stderr:
        return f"{label} without sound"
    lines = [re.sub(r"^\[[^\]]*\] *", "", line).strip() for line in stderr.splitlines()]
    lines = [line for line in lines if line and not line.startswith(HINTS)]
    return f"damaged {label}: {clean(lines[-1])[:200] if lines else 'no audio in it'}"


def _read(content: bytes, label: str, sampling_rate: int, channels: int) -> Decoded:
    parts: list[np.ndarray] = []
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        count, rate = file.channels, file.samplerate
        if not 1 <= count <= 32 or not 1000 <= rate <= 768_000:
            raise UnreadableError(f"damaged {label}: says {count} channels at {rate} Hz")
        stream = soxr.ResampleStream(rate, sampling_rate, count, dtype="float32", quality="HQ")
        above = label in PCM and file.subtype in ("FLOAT", "DOUBLE")
        frames = flat = 0
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
            frames += len(block)
            flat += _flat(block, above)
            total += block.sum(axis=0, dtype=np.float64)
            energy += np.square(block, dtype=np.float64).sum(axis=0)
            product += float(np.dot(block[:, 0].astype(np.float64), block[:, 1])) if count == 2 else 0.0
            parts.append(stream.resample_chunk(block))
        expected = file.frames
        if not frames:
            raise NothingInItError(f"damaged {label}: {broken or 'no samples in it'}")
        parts.append(stream.resample_chunk(np.zeros((0, count), np.float32), last=True))
    if broken or (0 < expected < 2**62 and frames < 0.98 * expected):
        notes.append(f"truncated: {frames / rate:.1f} of {expected / rate:.1f} s" + (f" ({broken})" if broken else ""))
    dc = total / frames
    audio = np.concatenate(parts).T - dc[:, None].astype(np.float32)
    audio = _mix(
        audio, channels, energy / frames - dc**2, product / frames - (dc[0] * dc[1] if count == 2 else 0.0), notes
    )
    return Decoded(audio, label, rate, count, frames / rate, flat / (frames * count), tuple(dc.tolist()), notes)


def _flat(block: np.ndarray, above: bool) -> int:
    """Number of samples of (frames, channels) within runs of three at full scale; if samples may be `above` it, runs
    count only if they stay at one level."""
    full = np.abs(block) >= CLIP_LEVEL
    if len(block) < 3 or not full.any():
        return 0
    runs = full[:-2] & full[1:-1] & full[2:]
    if above:
        level = np.abs(np.diff(block, axis=0)) <= SAME_LEVEL
        runs &= level[:-1] & level[1:]
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
    from tinytag import TinyTag

    try:
        found = TinyTag.get(filename=name, file_obj=io.BytesIO(content), duration=False)
    except Exception:  # a parser of unknown bytes may raise anything: then there are no tags
        return {}
    tags = {}
    for key in ("title", "artist", "album", "genre", "comment", "composer", "bpm", "initial_key", "license"):
        values = [getattr(found, key, None), *(found.other.get(key) or [])]
        values = [text for text in (clean(str(value)) for value in values if value is not None) if text]
        if values:  # of several, as a list of genres, all; of what can be but one, the first
            tags[key] = ", ".join(dict.fromkeys(values)) if key in ("artist", "genre", "composer") else values[0]
    return tags
