"""Audio from outside: arrays, tensors and files of any rate and number of channels; its level and tone."""

import functools
import importlib
import io
import math
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

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


# Level and tone: loudness, true peak, brightness, fades. All but the choice of one gain is local, so that a stream can
# be levelled as it comes.


LOUDNESS_LUFS = -16.0  # of what is made, where a call does not say
MAX_GAIN_DB = 40.0  # of normalisation: silence stays silence
MAKE_UP_DB = 3.0  # at most so much more gain for what the limiter takes away: music is not to be crushed
CLOSE_LU, ROUNDS = 0.1, 5  # of the search for it
LOOKAHEAD_S = 0.005  # of the limiter
# The compressor: the grid of its gain, the time over which a level is taken, and that over which the usual one is, s.
STEP_S, LEVEL_S, USUAL_S = 0.005, 0.1, 6.0
KNEE_DB = 6.0  # width of the bend, half of it below the usual level
OVERSAMPLING, PEAK_TAPS = 4, 16  # of the true-peak meter, ITU-R BS.1770-4, annex 2
SECTION_S, PEAK_SECTION = 120, 2**22  # seconds and samples: longer audio is measured in sections, in bounded memory
TILT_TAPS = 1023


@functools.lru_cache(maxsize=2)  # of SECTION_S at most, see `weighted`
def weighting(sampling_rate: int, num_bins: int) -> torch.Tensor:
    """Squared magnitude of the K-weighting at `num_bins` frequencies from 0 to half the rate, (num_bins,) fp64.

    ITU-R BS.1770-4, annex 1, gives the two biquads at 48 kHz; these are the analogue prototypes that give the same
    coefficients there (De Man 2014, "Evaluation of implementations of the EBU R128 loudness measurement").
    """
    z = torch.exp(-1j * math.pi * torch.linspace(0.0, 1.0, num_bins, dtype=torch.float64))
    total = torch.ones(num_bins, dtype=torch.float64)
    for centre_hz, quality, gain_db in ((1681.974450955533, 0.7071752369554196, 3.999843853973347),
                                        (38.13547087602444, 0.5003270373238773, None)):  # fmt: skip
        k = math.tan(math.pi * centre_hz / sampling_rate)
        a0 = 1.0 + k / quality + k * k
        low = 1.0 + 2.0 * (k * k - 1.0) / a0 * z + (1.0 - k / quality + k * k) / a0 * z * z
        if gain_db is None:
            high = 1.0 - 2.0 * z + z * z
        else:
            shelf = 10.0 ** (gain_db / 20.0)
            middle = shelf**0.4996667741545416 * k / quality
            high = (shelf + middle + k * k + 2.0 * (k * k - shelf) * z + (shelf - middle + k * k) * z * z) / a0
        total = total * (high / low).abs().square()
    return total


def weighted(audio: torch.Tensor, sampling_rate: int) -> torch.Tensor:
    """K-weighted audio (channels, samples) fp64, with zero phase, which changes no power."""
    samples, section, margin = audio.shape[1], SECTION_S * sampling_rate, sampling_rate // 2
    size = min(samples, section + sampling_rate) + sampling_rate  # the filter has died away after half a second
    response = weighting(sampling_rate, size // 2 + 1).sqrt()
    parts = []
    for start in range(0, samples, section):
        end = start + section if samples > section else samples
        first = max(0, start - margin)
        spectrum = torch.fft.rfft(audio[:, first : end + margin].double(), n=size)
        part = torch.fft.irfft(spectrum * response, n=size)
        parts.append(part[:, start - first : min(end, samples) - first])
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def loudness(audio: torch.Tensor, sampling_rate: int) -> float:
    """Integrated loudness in LUFS of (channels, samples), ITU-R BS.1770-4 with both gates; silence is -inf.

    Audio shorter than a gating block of 0.4 s counts as one block.
    """
    samples = audio.shape[1]
    block, step = min(samples, round(0.4 * sampling_rate)), max(1, round(0.1 * sampling_rate))
    power = weighted(audio, sampling_rate).square().unfold(1, block, step).mean(2).sum(0)  # (blocks,)
    for floor in (-70.0, None):
        if not len(power):
            return -math.inf
        floor = 10.0 * math.log10(power.mean().item() + 1e-30) - 10.691 if floor is None else floor
        power = power[10.0 * torch.log10(power + 1e-30) - 0.691 > floor]
    return -0.691 + 10.0 * math.log10(power.mean().item()) if len(power) else -math.inf


def peaks(audio: torch.Tensor) -> torch.Tensor:
    """Largest magnitude around each sample, the curve between samples included; (channels, n) -> (n,)."""
    offsets = torch.arange(OVERSAMPLING, dtype=torch.float64)[:, None] / OVERSAMPLING
    times = torch.arange(-PEAK_TAPS // 2 + 1, PEAK_TAPS // 2 + 1, dtype=torch.float64) - offsets
    taps = torch.sinc(times) * torch.cos(math.pi * times / (PEAK_TAPS + 1)).square()
    taps = (taps / taps.sum(1, keepdim=True))[:, None].to(audio)  # (phases, 1, taps)
    padded = functional.pad(audio[:, None], (PEAK_TAPS // 2 - 1, PEAK_TAPS // 2))
    sections = range(0, audio.shape[1], PEAK_SECTION)
    parts = [padded[:, :, start : start + PEAK_SECTION + PEAK_TAPS - 1] for start in sections]
    return torch.cat([functional.conv1d(part, taps).abs().amax((0, 1)) for part in parts])


def true_peak_db(audio: torch.Tensor) -> float:
    """True peak of (channels, samples) in dBTP; silence is -inf."""
    highest = float(peaks(audio).max())
    return 20.0 * math.log10(highest) if highest > 0.0 else -math.inf


def tilt_filter(tilt_db: float, sampling_rate: int) -> torch.Tensor:
    """Taps (TILT_TAPS,) of a linear-phase filter, straight in dB over log frequency: `tilt_db` from 100 Hz to 10 kHz,
    0 dB at 1 kHz, flat below 50 Hz and above 12 kHz."""
    frequencies = torch.linspace(0.0, sampling_rate / 2, 4097, dtype=torch.float64).clamp(50.0, 12000.0)
    response = 10.0 ** (tilt_db / 2.0 * torch.log10(frequencies / 1000.0) / 20.0)
    taps = torch.fft.irfft(response.to(torch.complex128)).roll(TILT_TAPS // 2)[:TILT_TAPS]
    return taps * torch.hann_window(TILT_TAPS + 1, periodic=True, dtype=torch.float64)[1:]


def limiter_gain(need: torch.Tensor, ahead: int) -> torch.Tensor:
    """A smooth gain (n,) that is nowhere above `need` (n,), the gain from 0 to 1 that each sample may have at most.

    The smallest need within 2 * `ahead` samples is held and then averaged by a window of that reach: every value under
    the window is at most what its centre needs.
    """
    size = 2 * ahead + 1
    held = -functional.max_pool1d(-functional.pad(need[None], (2 * ahead, 2 * ahead), value=1.0), size, 1)
    window = torch.hann_window(size + 2, periodic=False, dtype=torch.float32)[1:-1].to(need)
    return functional.conv1d(held[None], (window / window.sum())[None, None])[0, 0]


def mean_around(values: torch.Tensor, half: int, loop: bool) -> torch.Tensor:
    """Mean of (n,) values over `half` neighbours on either side, in a circle or over those that there are."""
    if loop:
        values = values[torch.arange(-half, len(values) + half) % len(values)]
    padding = 0 if loop else half
    return functional.avg_pool1d(values[None], 2 * half + 1, 1, padding, count_include_pad=False)[0]


def compressor_step(sampling_rate: int) -> int:
    """Samples of a step of the compressor's gain."""
    return max(1, round(STEP_S * sampling_rate))


def compressor_reach(sampling_rate: int) -> int:
    """How many samples before and after one decide on the compressor's gain there."""
    return (round(LEVEL_S / STEP_S / 2) + round(USUAL_S / STEP_S / 2) + 2) * compressor_step(sampling_rate)


def compressor_gain(mix: torch.Tensor, sampling_rate: int, ratio: float, loop: bool) -> torch.Tensor:
    """The gain (n,), up to 1, of a compressor that keeps the level of a mix (channels, n) steady.

    Where the RMS over `LEVEL_S` exceeds the usual one of the `USUAL_S` around it, `ratio` dB of excess become one. The
    usual one is the mean in which each moment weighs by the root of its RMS, so that neither rests nor single loud
    notes move it much. There is no absolute level: the gain is the same for a louder mix, and depends on nothing beyond
    `compressor_reach` samples. It is slow beside an attack, which keeps its shape.

    Args:
        mix: audio.
        sampling_rate: Hz.
        ratio: from 1, which changes nothing.
        loop: whether the mix is a circle.
    """
    size, step = mix.shape[1], compressor_step(sampling_rate)
    count = max(1, round(size / step)) if loop else -(-size // step)
    length = size / count if loop else step  # a circle has whole steps
    edges = (torch.arange(count + 1, dtype=torch.float64) * length).round().long().clamp_max(size)
    energy = functional.pad(mix.square().mean(0).cpu().double().cumsum(0), (1, 0))[edges]
    power = energy.diff() / edges.diff()
    level = mean_around(power, round(LEVEL_S / STEP_S / 2), loop).clamp_min(1e-24).sqrt()
    half = round(USUAL_S / STEP_S / 2)
    usual = (mean_around(level, half, loop) / mean_around(level.sqrt(), half, loop)).square()
    over = 20.0 * torch.log10(level / usual)
    bent = (over + KNEE_DB / 2).clamp(0.0, KNEE_DB).square() / (2 * KNEE_DB) + (over - KNEE_DB / 2).clamp_min(0.0)
    gain = 10.0 ** ((1.0 / ratio - 1.0) * bent / 20.0)
    # Between the middles of the steps in a straight line; beyond the first and the last as there, or round the circle.
    gain = torch.cat([gain[-1:], gain, gain[:1]] if loop else [gain[:1], gain, gain[-1:]])
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / length + 0.5
    before = place.long()
    return torch.lerp(gain[before], gain[before + 1], place - before).to(mix)


class Leveller:
    """Brings audio to a level and tone, chunk by chunk.

    First a compressor, if there is one, keeps the level steady; then tone and gain; what then exceeds the limit is
    turned down by a limiter that looks ahead, so nothing is ever clipped. The gain is the one
    at which the first chunk, limited, is as loud as asked for, up to `MAKE_UP_DB` above the one that it would need
    without a limit; after `measure` it is that of all chunks together. Only then is a piece of several chunks as a
    whole as loud as asked for: without, it begins so and keeps its gain, since what follows is not known yet.

    Args:
        sampling_rate: Hz.
        total_samples: length of the whole piece.
        loudness_lufs: None = the level is left alone, and so is the peak.
        true_peak_dbtp: limit, at most 0.
        tilt_db: brightness, see `tilt_filter`.
        fade_in_s, fade_out_s: raised-cosine fades.
        loop: the piece is a circle and comes as one chunk.
        compression_ratio: see `compressor_gain`; 1 = no compressor, and none without `loudness_lufs`.
    """

    def __init__(
        self, sampling_rate: int, total_samples: int, loudness_lufs: float | None, true_peak_dbtp: float,
        tilt_db: float, fade_in_s: float, fade_out_s: float, loop: bool, compression_ratio: float = 1.0,
    ):  # fmt: skip
        self.rate, self.total, self.loop = sampling_rate, total_samples, loop
        self.target, self.limit = loudness_lufs, 10.0 ** (true_peak_dbtp / 20.0)
        self.fade_in, self.fade_out = round(fade_in_s * sampling_rate), round(fade_out_s * sampling_rate)
        self.taps = tilt_filter(tilt_db, sampling_rate) if tilt_db else None
        self.ahead = round(LOOKAHEAD_S * sampling_rate)
        self.reach = (TILT_TAPS // 2 if tilt_db else 0) + (
            2 * self.ahead + PEAK_TAPS if loudness_lufs is not None else 0
        )
        self.ratio = 1.0 if loudness_lufs is None else compression_ratio
        self.gain: float | None = None

    def _compress(self, audio: torch.Tensor, mix: torch.Tensor | None = None) -> torch.Tensor:
        """Audio (channels, n) with the compressor's gain for it, or for the `mix` that it is part of."""
        if self.ratio == 1.0:
            return audio
        return audio * compressor_gain(audio if mix is None else mix, self.rate, self.ratio, self.loop)

    def _colour(self, audio: torch.Tensor) -> torch.Tensor:
        if self.taps is None:
            return audio
        return functional.conv1d(audio[:, None], self.taps.to(audio)[None, None], padding=TILT_TAPS // 2)[:, 0]

    def choose_gain(self, audio: torch.Tensor, inside: slice) -> float:
        """The gain for coloured audio, of which the samples `inside` are to be as loud as asked for.

        By the secant: a decibel of gain adds less than one of loudness, the less the more is limited.
        """
        level, high = loudness(audio[:, inside].cpu(), self.rate), peaks(audio)
        if math.isinf(level):
            return 1.0
        least = gain_db = min(self.target - level, MAX_GAIN_DB)
        before: tuple[float, float] | None = None
        slope = 1.0
        for _ in range(ROUNDS):
            if float(high.max()) * 10.0 ** (gain_db / 20.0) <= self.limit:
                break  # nothing is taken away
            heard = loudness(self._limit(audio, 10.0 ** (gain_db / 20.0), high)[:, inside].cpu(), self.rate)
            if before is not None and gain_db != before[0]:
                slope = min(max((heard - before[1]) / (gain_db - before[0]), 0.2), 1.0)
            before, miss = (gain_db, heard), level + least - heard
            gain_db = min(max(gain_db + miss / slope, least), least + MAKE_UP_DB)
            if abs(miss) < CLOSE_LU or gain_db == before[0]:
                break
        return 10.0 ** (gain_db / 20.0)

    def measure(self, chunks: list[torch.Tensor]) -> None:
        """Choose the gain by the whole piece, before `run`; a piece of one chunk needs no more than `run`."""
        if self.target is not None and len(chunks) > 1:
            self.gain = self.choose_gain(self._colour(self._compress(torch.cat(chunks, dim=1))), slice(None))

    def _level(self, audio: torch.Tensor, inside: slice) -> torch.Tensor:
        """Compressed audio coloured, brought to its level and limited; the first decides on the gain by its samples
        `inside`."""
        audio = self._colour(audio)
        if self.target is None:
            return audio
        if self.gain is None:
            self.gain = self.choose_gain(audio, inside)
        return self._limit(audio, self.gain, peaks(audio))

    def _allowed(self, high: torch.Tensor) -> torch.Tensor:
        """The gain, up to 1, that each sample may have whose true peak is `high` (n,)."""
        return (self.limit / high.clamp_min(1e-9)).clamp_max(1.0)

    def _limit(self, audio: torch.Tensor, gain: float, high: torch.Tensor) -> torch.Tensor:
        """Audio times `gain`, turned down where its true peaks, `high` (n,) before the gain, would exceed the limit."""
        audio, need = audio * gain, self._allowed(high * gain)
        if bool((need == 1.0).all()):
            return audio
        return (audio * limiter_gain(need, self.ahead)).clamp(-1.0, 1.0)

    def _fade(self, audio: torch.Tensor, start: int) -> torch.Tensor:
        if not self.fade_in and not self.fade_out:
            return audio
        position = torch.arange(start, start + audio.shape[1], dtype=torch.float64, device=audio.device) + 0.5
        into = (position / max(self.fade_in, 1)).clamp(0.0, 1.0) if self.fade_in else torch.ones_like(position)
        left = (self.total - position) / max(self.fade_out, 1)
        out = left.clamp(0.0, 1.0) if self.fade_out else torch.ones_like(position)
        return audio * (torch.sin(math.pi / 2 * into) * torch.sin(math.pi / 2 * out)).square().to(audio)

    def _around(self, size: int, device: torch.device) -> tuple[torch.Tensor, slice]:
        """Places of a circle of `size` samples with as much of its other end as the filters reach, and the circle."""
        index = torch.arange(-self.reach, size + self.reach, device=device) % size
        return index, slice(self.reach, self.reach + size)

    def level_parts(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Parts (channels, samples) of a whole piece -> stems whose sum has the level and tone of the piece.

        At each sample all are turned by the compressor, the gain and the limiter of their sum. They are rounded to 16
        bit, so that their sum is exact, in memory as in files.
        """
        if self.ratio != 1.0:
            mix = torch.stack(parts).sum(0)
            parts = [self._compress(part, mix) for part in parts]
        size = parts[0].shape[1]
        index, inside = torch.arange(size, device=parts[0].device), slice(None)
        if self.loop:
            index, inside = self._around(size, parts[0].device)
        coloured = [self._colour(part[:, index]) for part in parts]
        turned = torch.ones_like(coloured[0][0])
        if self.target is not None:
            mix = torch.stack(coloured).sum(0)
            gain = self.choose_gain(mix, inside)
            turned = gain * limiter_gain(self._allowed(peaks(mix) * gain), self.ahead)
        stems = [self._fade((part * turned)[:, inside], 0) for part in coloured]
        return [(stem * 32768.0).round() / 32768.0 for stem in stems]

    def run(self, chunks: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Chunks (channels, n) fp32 in, chunks out, later by the reach of the filters; together as long."""
        held, known, done = None, 0, 0  # `held` begins at sample `known`; samples before `done` have been given out
        grid, reach = 1, self.reach
        if self.ratio != 1.0:
            grid, reach = compressor_step(self.rate), reach + compressor_reach(self.rate)
        for chunk in chunks:
            if self.loop:
                index, inside = self._around(chunk.shape[1], chunk.device)
                yield self._level(self._compress(chunk)[:, index], inside)[:, inside]
                return
            held = chunk if held is None else torch.cat([held, chunk], dim=1)
            ready = known + held.shape[1] - reach
            if ready > done:
                levelled = self._level(self._compress(held), slice(None))[:, done - known : ready - known]
                yield self._fade(levelled, done)
                done = ready
                drop = max(0, done - reach - known) // grid * grid  # so that the compressor's steps stay where they are
                held, known = held[:, drop:], known + drop
        if held is not None and done < known + held.shape[1]:
            yield self._fade(self._level(self._compress(held), slice(None))[:, done - known :], done)
