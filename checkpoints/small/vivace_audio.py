"""Audio from outside: arrays, tensors and files of any rate and number of channels.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import importlib
import io
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import torch

MAX_FILE_BYTES = 2**30
MAX_CHANNELS = 64
RATES = (1000, 768000)  # Hz
FFMPEG_TIMEOUT_S = 600.0
# What ffmpeg may take a file for: none of those that name further files to be opened, as playlists do.
FFMPEG_FORMATS = "mov,matroska,webm,mp3,aac,ac3,asf,wav,w64,aiff,au,caf,flac,ogg,ape,wv,amr"
MP3_KBPS = {  # of layer III by version: MPEG 1, and MPEG 2 and 2.5
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the version's two bits


def load_soundfile():
    """The soundfile library, needed for files alone.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        return importlib.import_module("soundfile")
    except (ImportError, OSError) as error:
        raise ValueError(f"reading and writing audio files needs soundfile: pip install soundfile ({error})") from error


def find_ffmpeg() -> str | None:
    """Path of an ffmpeg, on the PATH or of the package imageio-ffmpeg; None if there is none."""
    path = shutil.which("ffmpeg")
    if path is not None:
        return path
    try:
        return importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # no package, or one without its program
        return None


def mp3_seconds(content: bytes) -> float:
    """Length of the MP3 frames (layer III) that follow one another from the beginning of a file, by counting them.

    A header (Xing, VBRI) can be wrong or missing, and libsndfile then guesses by the bit rate of the first frame.
    ISO/IEC 11172-3, 2.4.1.3 and 2.4.2.3.
    """
    place, seconds = 0, 0.0
    while content[place : place + 3] == b"ID3" and len(content) >= place + 10:
        a, b, c, d = content[place + 6 : place + 10]
        place += 10 + (a << 21 | b << 14 | c << 7 | d)
    while place + 4 <= len(content):
        first, second, third = content[place : place + 3]
        version, layer, rate, kbps = second >> 3 & 3, second >> 1 & 3, third >> 2 & 3, third >> 4
        if first != 255 or second < 224 or version == 1 or layer != 1 or rate == 3 or kbps in (0, 15):
            break
        hertz, samples = MP3_HZ[version][rate], 1152 if version == 3 else 576
        place += samples // 8 * 1000 * MP3_KBPS[version == 3][kbps] // hertz + (third >> 1 & 1)
        seconds += samples / hertz
    return seconds


def read_with_ffmpeg(path: str | Path, max_duration_s: float, reason: str) -> tuple[torch.Tensor, int]:
    """(channels, samples) fp32 and the rate of a file that libsndfile cannot read, and why it cannot.

    Raises:
        ValueError: no ffmpeg, a file that it cannot read either, or one that is too long.
    """
    program = find_ffmpeg()
    if program is None:
        raise ValueError(
            f"audio is {str(path)!r}, which cannot be read ({reason}) without ffmpeg: pip install imageio-ffmpeg, or "
            "give a WAV or FLAC file"
        )
    words = [
        program,
        "-v",
        "error",
        "-nostdin",
        "-format_whitelist",
        FFMPEG_FORMATS,
        "-protocol_whitelist",
        "file,pipe",
    ]
    words += ["-i", f"file:{path}", "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav"]
    words += [] if np.isinf(max_duration_s) else ["-t", f"{max_duration_s + 1.0:g}"]
    try:
        done = subprocess.run([*words, "pipe:1"], capture_output=True, timeout=FFMPEG_TIMEOUT_S)
        if done.returncode or not done.stdout:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no audio in it"]
            raise RuntimeError(f"{reason}; ffmpeg: {lines[-1][:200]}")
        samples, rate = load_soundfile().read(io.BytesIO(done.stdout), dtype="float32", always_2d=True)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"audio is {str(path)!r}, which cannot be read ({error})") from error
    if len(samples) > max_duration_s * rate:
        raise ValueError(
            f"audio is {str(path)!r} of more than {max_duration_s:g} s; allowed: up to {max_duration_s:g} s"
        )
    return torch.from_numpy(np.ascontiguousarray(samples.T)), rate


def read_file(path: str | Path, max_duration_s: float) -> tuple[torch.Tensor, int]:
    """(channels, samples) fp32 and the rate of an audio file.

    libsndfile reads WAV, FLAC, OGG, MP3 and AIFF. What it cannot read (M4A, WebM), and what has no length in its header
    (a WAV whose recorder was stopped, an MP3 of variable bit rate without a Xing header) goes through ffmpeg.

    Raises:
        ValueError: no such file, one that is too large or too long (told by its header, before it is read), damaged, or
            in need of an ffmpeg that is not there.
    """
    soundfile = load_soundfile()
    if not os.path.isfile(path):
        raise ValueError(f"audio is {str(path)!r}: no such file")
    size = os.path.getsize(path)
    if size > MAX_FILE_BYTES:
        raise ValueError(
            f"audio is {str(path)!r} of {size / 2**30:.1f} GiB; allowed: up to {MAX_FILE_BYTES / 2**30:g} GiB"
        )
    try:
        about = soundfile.info(str(path))
    except (OSError, RuntimeError) as error:
        return read_with_ffmpeg(path, max_duration_s, str(error))
    counted = mp3_seconds(Path(path).read_bytes()) if about.format == "MP3" else 0.0
    seconds = counted or about.duration
    if seconds > max_duration_s:
        raise ValueError(f"audio is {str(path)!r} of {seconds:.0f} s; allowed: up to {max_duration_s:g} s")
    if not about.frames or counted > 1.02 * about.duration + 0.1:
        return read_with_ffmpeg(path, max_duration_s, "its header does not say how long it is")
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"audio is {str(path)!r}, which cannot be read ({error})") from error
    return torch.from_numpy(np.ascontiguousarray(samples.T)), rate


def read_audio(source: object, sampling_rate: int | None, max_duration_s: float) -> tuple[torch.Tensor, int]:
    """(channels, samples) fp32 on the CPU and the sampling rate of what a user gives as audio.

    Args:
        source: a path, or an array or tensor (samples,) or (channels, samples), floats or 16- or 32-bit integers.
        sampling_rate: of an array; for a file its own.
        max_duration_s: longest allowed.

    Raises:
        ValueError: one line that says what is wrong with it.
    """
    if isinstance(source, (str, Path)):
        samples, rate = read_file(source, max_duration_s)
        if sampling_rate not in (None, rate):
            raise ValueError(f"sampling_rate is {sampling_rate}, but the file has {rate} Hz; leave sampling_rate out")
    else:
        if not isinstance(source, (np.ndarray, torch.Tensor)):
            raise ValueError(f"audio is a {type(source).__name__}; allowed: a path, a numpy array or a torch tensor")
        whole = isinstance(sampling_rate, (int, np.integer)) and not isinstance(sampling_rate, bool)
        if not whole or not RATES[0] <= sampling_rate <= RATES[1]:
            raise ValueError(
                f"sampling_rate is {sampling_rate}; an array of audio needs its own, a whole number of Hz from "
                f"{RATES[0]} to {RATES[1]}"
            )
        rate = int(sampling_rate)
        samples = source.detach().cpu() if isinstance(source, torch.Tensor) else torch.from_numpy(np.array(source))
        if samples.dtype in (torch.int16, torch.int32):
            samples = samples.double() / float(2 ** (15 if samples.dtype == torch.int16 else 31))
        if not samples.is_floating_point():
            raise ValueError(f"audio has dtype {samples.dtype}; allowed: floats in [-1, 1], int16 or int32")
        samples = samples.float()
    samples = samples[None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or samples.shape[1] == 0 or not 1 <= samples.shape[0] <= MAX_CHANNELS:
        raise ValueError(
            f"audio has shape {tuple(samples.shape)}; needed: (samples,) or (channels, samples), with at least one "
            f"sample and at most {MAX_CHANNELS} channels"
        )
    if not torch.isfinite(samples).all():
        bad = int((~torch.isfinite(samples)).sum())
        raise ValueError(f"audio has {bad} values that are not finite; allowed: floats in [-1, 1]")
    if samples.shape[1] / rate > max_duration_s:
        raise ValueError(f"audio is {samples.shape[1] / rate:.0f} s long; allowed: up to {max_duration_s:g} s")
    return samples.contiguous(), rate


def resample(audio: torch.Tensor, rate: int, new_rate: int) -> torch.Tensor:
    """(channels, n) at `rate` -> (channels, ceil(n * new_rate / rate)) at `new_rate`, by its spectrum.

    The ends are mirrored into a margin, so that neither rings into the other; the last 4 % below the lower of the two
    Nyquist frequencies are faded, so that the cut does not ring.
    """
    if rate == new_rate:
        return audio
    samples = audio.shape[1]
    wanted = -(-samples * new_rate // rate)
    margin = rate // 4  # a quarter of a second
    step = rate // np.gcd(rate, new_rate)
    before = -(-margin // step) * step  # so that sample 0 falls on a new sample
    after = margin + (-(before + samples + margin)) % step
    index = torch.arange(-before, samples + after).abs()
    index = index % (2 * samples)
    index = torch.where(index < samples, index, 2 * samples - 1 - index)
    longer = audio[:, index]
    size, new_size = longer.shape[1], longer.shape[1] * new_rate // rate
    spectrum = torch.fft.rfft(longer)
    bins = min(size, new_size) // 2 + 1
    fade = torch.ones(bins, dtype=torch.float32)
    width = max(1, bins // 25)
    fade[-width:] = torch.linspace(0.5 * torch.pi, 0.0, width, dtype=torch.float32).sin()
    kept = torch.zeros(audio.shape[0], new_size // 2 + 1, dtype=spectrum.dtype)
    kept[:, :bins] = spectrum[:, :bins] * fade
    first = before * new_rate // rate
    return torch.fft.irfft(kept, n=new_size)[:, first : first + wanted] * (new_size / size)


def fit_circle(audio: torch.Tensor, samples: int) -> torch.Tensor:
    """A circle of audio (channels, n) -> the same circle in `samples` samples: still exactly periodic.

    Its pitch moves by 1200 log2(n / samples) cents.
    """
    if audio.shape[1] == samples:
        return audio
    spectrum = torch.fft.rfft(audio)
    bins = min(audio.shape[1], samples) // 2 + 1
    kept = torch.zeros(audio.shape[0], samples // 2 + 1, dtype=spectrum.dtype, device=audio.device)
    kept[:, :bins] = spectrum[:, :bins]
    if min(audio.shape[1], samples) % 2 == 0:
        kept[:, bins - 1] = 0.0  # the Nyquist bin of one length is an ordinary one of the other
    return torch.fft.irfft(kept, n=samples) * (samples / audio.shape[1])


def mix_channels(audio: torch.Tensor, channels: int) -> torch.Tensor:
    """(any, n) -> (channels, n): as it is, or its mean in each channel."""
    return audio if audio.shape[0] == channels else audio.mean(0, keepdim=True).expand(channels, -1)
