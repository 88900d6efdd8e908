"""Recordings made better: DC, mains hum, clipping, clicks and level by exact means; noise, a narrow band and, on
request, reverb by the network (pipelines/restorer.py); tone on request.

Each fault is looked for first and touched only where it is found, so that a clean recording comes back as it was.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pipelines.restorer import FOLDER, NOISE_DB, Restorer, find_edge
from pipelines.vivace_audio import LOUDNESS_LUFS, TILT_TAPS, Leveller, loudness, tilt_filter, true_peak_db
from pipelines.vivace_files import write_audio

REPAIRS = ("dc", "clipping", "clicks", "hum", "noise", "band", "level")
BY_NETWORK = {"noise", "band"}
DC_FLOOR, DC_SURE = 1e-3, 10.0  # of full scale; times the error of the mean that music itself makes
PEAK_DBTP = -1.0  # of what is brought to a level, or is louder than full scale after a repair
QUIET_LUFS = -23.0  # quieter recordings are brought to LOUDNESS_LUFS

MAINS_HZ, OFF_HZ = (50.0, 60.0), 0.1
HARMONICS, TONES = 16, 3  # multiples that are looked for; how many make hum, one of the first three among them
HUM_WINDOW_S, HUM_MIN_S = 8.0, 4.0  # in which hum is one steady tone; shorter recordings are not searched
HUM_FLOOR = 1e-7  # power of a tone, -70 dBFS; what is fainter is not heard
HUM_OVER_DB, HUM_STEADY = 10.0, 0.7  # above what is beside it in the spectrum; how constant phase and level are

# Samples of a flat top, how many such make a recording clipped, how flat they are.
RUN, RUNS, FLAT = 3, 6, 4e-4
BLOCK, MARGIN, ORDER, ROUNDS = 4096, 512, 64, 3  # of declipping

CLICK_ORDER, CLICK_BLOCK = 32, 8192
AROUND_S, CORE_S = 0.025, 0.0015  # where a click's prediction error must stand out, and its own length
STANDS_OUT = 5.0  # times the largest error around it
LONGEST_S = 0.0005  # of a click: the hits of drums that nothing else tells from one are longer

BANDS = 1000.0 * 2.0 ** (np.arange(-15, 13) / 3)  # third octaves, 31 Hz to 16 kHz
MATCH_DB = 9.0  # at most so much of a match
BROAD_TAPS = 8191
SHADES = {  # dB at frequencies in Hz, straight between them over their logarithm
    "warmer": ((120, 2.5), (400, 1.0), (2000, 0.0), (8000, -2.5)),
    "thinner": ((120, -4.0), (300, -1.5), (1000, 0.0)),
}
TILTS = {"brighter": 4.0, "darker": -4.0}  # dB from 100 Hz to 10 kHz
AMOUNTS = {"slightly": 0.5, "a bit": 0.5, "a little": 0.5, "much": 2.0, "a lot": 2.0}
SIDES = {"wider": 1.5, "narrower": 0.5, "mono": 0.0}  # of what differs between left and right
ASKED = {"drier": "reverb", "less reverb": "reverb", "cleaner": "noise", "less noise": "noise"}


@dataclass
class Restored:
    """A recording and what was done to it.

    Attributes:
        audio: (channels, samples) fp32.
        sampling_rate: Hz.
        done: a sentence for each thing that was found and changed; empty = every sample is as it was.
        left: sentences on what was asked for and is not done.
        before, after: figures, see `measure`.
    """

    audio: torch.Tensor
    sampling_rate: int
    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    before: dict = field(default_factory=dict)
    after: dict = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write a file, .wav or .flac (16 bit), .mp3 or .ogg; a ValueError for another ending."""
        write_audio(path, self.audio.numpy(), self.sampling_rate)


def measure(audio: torch.Tensor, rate: int) -> dict:
    """Figures of (channels, samples): loudness (LUFS), true peak (dBTP), DC (largest mean of a channel, of full scale),
    hum (dBFS, None = none is found), clipped (share of samples) and clicks (number)."""
    hum = [level for channel in audio for _, level in find_hum(channel.double().numpy(), rate)]
    clipped = [find_clipped(channel.double().numpy()).any(0).mean() for channel in audio]
    return {
        "loudness_lufs": loudness(audio, rate), "true_peak_dbtp": true_peak_db(audio),
        "dc": float(audio.double().mean(1).abs().max()), "hum_dbfs": 10 * math.log10(sum(hum)) if hum else None,
        "clipped": float(np.mean(clipped)),
        "clicks": sum(len(find_clicks(channel.double().numpy(), rate)) for channel in audio),
    }  # fmt: skip


# DC and hum


def find_dc(signal: np.ndarray, rate: int) -> list[float] | None:
    """The mean of (samples,), if it is more than the means of half seconds, which differ, would make by chance."""
    size = max(1, min(rate // 2, len(signal) // 2))
    parts = signal[: len(signal) // size * size].reshape(-1, size).mean(1)
    mean, error = signal.mean(), parts.std() / math.sqrt(len(parts))
    return [float(mean)] if abs(mean) > max(DC_FLOOR, DC_SURE * error) else None


def find_hum(signal: np.ndarray, rate: int) -> list[tuple[float, float]]:
    """Frequency and power of each tone of mains hum in (samples,): steady tones at multiples of one frequency near 50
    or 60 Hz. None where there are fewer than `TONES`."""
    if len(signal) < HUM_MIN_S * rate:
        return []
    size = len(signal)
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(size), 4 * size)) ** 2
    step = rate / (4 * size)

    def over(hertz: float) -> float:
        """How far the spectrum at a frequency is above what is 1.5 to 5 Hz beside it, dB."""
        place = round(hertz / step)
        near, far = round(1.5 / step), round(5.0 / step)
        beside = np.concatenate([spectrum[max(0, place - far) : place - near], spectrum[place + near : place + far]])
        return 10 * math.log10((spectrum[place] + 1e-30) / (beside.mean() + 1e-30))

    best: tuple[float, float] = (0.0, 0.0)
    for mains in MAINS_HZ:
        for hertz in np.arange(mains - OFF_HZ, mains + OFF_HZ + 1e-9, 0.01):
            total = sum(min(max(over(k * hertz), 0.0), 40.0) for k in (1, 2, 3, 4, 6))
            best = max(best, (total, float(hertz)))
    found = []
    for k in range(1, HARMONICS + 1):
        hertz = k * best[1]
        if hertz > 0.45 * rate or over(hertz) < HUM_OVER_DB:
            continue
        steady, power = steadiness(signal, rate, hertz)
        if steady > HUM_STEADY and power > HUM_FLOOR:
            found.append((hertz, power))
    return found if len(found) >= TONES and found[0][0] < 3.5 * best[1] else []


def steadiness(signal: np.ndarray, rate: int, hertz: float) -> tuple[float, float]:
    """How constant a tone is from second to second, 0 to 1 (its mean over them against the mean of its size), and its
    power."""
    size = rate
    count = len(signal) // size
    turn = np.exp(-2j * np.pi * hertz * np.arange(count * size) / rate) * np.tile(np.hanning(size), count)
    parts = (signal[: count * size] * turn).reshape(count, size).sum(1) / (size / 2)
    return float(abs(parts.mean()) / np.abs(parts).mean()), float(0.5 * abs(parts.mean()) ** 2)


def remove_hum(signal: np.ndarray, rate: int, tones: list[tuple[float, float]]) -> np.ndarray:
    """(samples,) without these tones, each fitted by least squares in windows of `HUM_WINDOW_S` that fade over."""
    size = min(len(signal), round(HUM_WINDOW_S * rate))
    hop = size // 2
    out, weight = np.zeros(len(signal)), np.zeros(len(signal))
    starts = [*range(0, len(signal) - size, hop), len(signal) - size]
    for start in starts:
        time = np.arange(start, start + size) / rate
        window = np.hanning(size + 2)[1:-1]
        columns = [wave(2 * np.pi * hertz * time) for hertz, _ in tones for wave in (np.cos, np.sin)]
        basis = np.stack(columns, axis=1) * window[:, None]
        share = np.linalg.solve(basis.T @ basis, basis.T @ (signal[start : start + size] * window))
        out[start : start + size] += basis @ share
        weight[start : start + size] += window
    return signal - out / weight


# Clipping and clicks: samples are found, and drawn anew from those around them


def predictor(signal: np.ndarray, order: int) -> np.ndarray:
    """Coefficients (order + 1,) of the prediction error of (samples,), by its autocorrelation."""
    size = len(signal)
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(size), 2 * size)) ** 2
    lags = np.fft.irfft(spectrum)[: order + 1]
    lags[0] = lags[0] * (1.0 + 1e-9) + 1e-12
    matrix = lags[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
    return np.concatenate([[1.0], -np.linalg.solve(matrix, lags[1:])])


def fill(signal: np.ndarray, unknown: np.ndarray, error: np.ndarray) -> np.ndarray:
    """(samples,) whose `unknown` samples make the prediction error least (Janssen, Veldhuis and Vries 1986)."""
    places, order = np.flatnonzero(unknown), len(error) - 1
    lags = np.correlate(error, error, "full")[order:]
    filled = np.where(unknown, 0.0, signal)
    known = np.convolve(filled, np.concatenate([lags[:0:-1], lags]), mode="same")
    apart = np.abs(np.subtract.outer(places, places))
    matrix = np.where(apart <= order, lags[np.minimum(apart, order)], 0.0)
    matrix[np.diag_indices(len(places))] += 1e-9 * lags[0]
    filled[places] = np.linalg.solve(matrix, -known[places])
    return filled


def find_clipped(signal: np.ndarray) -> np.ndarray:
    """Which of (samples,) lie on a flat top, and on a flat bottom, (2, samples) bool; none where there are only a few,
    as a limiter leaves them."""
    found = np.zeros((2, len(signal)), dtype=bool)
    for row, side in enumerate((signal, -signal)):
        top = side.max()
        if top < 1e-3:
            continue
        flat = np.concatenate([[False], side >= top * (1.0 - FLAT), [False]])
        edges = np.flatnonzero(np.diff(flat.astype(int)))
        runs = edges.reshape(-1, 2)[np.diff(edges.reshape(-1, 2))[:, 0] >= RUN]
        if len(runs) >= RUNS:
            for first, last in runs:
                found[row, first:last] = True
            found[row] |= flat[1:-1]
    return found


def declip(signal: np.ndarray, clipped: np.ndarray) -> np.ndarray:
    """(samples,) with its `clipped` tops and bottoms drawn beyond the level at which they were cut, block by block."""
    out = signal.copy()
    for start in range(0, len(signal), BLOCK):
        here = slice(max(0, start - MARGIN), min(len(signal), start + BLOCK + MARGIN))
        tops, bottoms = clipped[:, here]
        unknown = tops | bottoms
        if not unknown.any() or len(unknown) < 4 * ORDER:
            continue
        part = out[here]
        for _ in range(ROUNDS):
            part = fill(part, unknown, predictor(part, ORDER))
            part = np.where(tops, np.maximum(part, signal[here]), part)
            part = np.where(bottoms, np.minimum(part, signal[here]), part)
        limit = 3.0 * np.abs(signal[here]).max()
        out[here] = part.clip(-limit, limit)
    return out


def find_clicks(signal: np.ndarray, rate: int) -> list[tuple[int, int]]:
    """Spans (first, last) of (samples,) that are clicks: so short, and so badly predicted from what precedes them, that
    nothing within 25 ms on either side comes near. Attacks of notes go on, and are none."""
    size = len(signal)
    if size < 4 * CLICK_ORDER or not np.abs(signal).max() > 0:
        return []
    error = np.zeros(size)
    for start in range(0, size, CLICK_BLOCK):
        first, last = max(0, start - CLICK_ORDER), min(size, start + CLICK_BLOCK)
        part = signal[max(0, last - CLICK_BLOCK - CLICK_ORDER) : last]
        if np.abs(part).max() > 0:
            found = np.convolve(signal[first:last], predictor(part, CLICK_ORDER))[: last - first]
            error[start:last] = np.abs(found[start - first :])
    around, core = round(AROUND_S * rate), round(CORE_S * rate)
    error[: 2 * CLICK_ORDER] = error[-CLICK_ORDER:] = 0.0
    high = np.lib.stride_tricks.sliding_window_view(np.pad(error, core), 2 * core + 1).max(1)
    spans, floor = [], 1e-4 * np.abs(signal).max()
    for place in np.flatnonzero((error == high) & (error > floor)):
        before = error[max(0, place - around) : max(0, place - core)]
        after = error[place + core : place + around]
        if len(before) < core or len(after) < core or error[place] < STANDS_OUT * max(before.max(), after.max()):
            continue
        near = error[place - core : place + core + 1] > 0.1 * error[place]
        reach = np.flatnonzero(near) - core + place
        if reach[-1] - reach[0] < max(LONGEST_S * rate, 8):
            spans.append((int(reach[0]) - 1, int(reach[-1]) + 2))
    return spans


def remove_clicks(signal: np.ndarray, rate: int, spans: list[tuple[int, int]]) -> np.ndarray:
    """(samples,) with these spans drawn anew from 50 ms around each."""
    out, reach = signal.copy(), max(round(0.05 * rate), 8 * CLICK_ORDER)
    for first, last in spans:
        here = slice(max(0, first - reach), min(len(out), last + reach))
        unknown = np.zeros(here.stop - here.start, dtype=bool)
        unknown[first - here.start : last - here.start] = True
        part = np.where(unknown, 0.0, out[here])
        for _ in range(2):
            part = fill(part, unknown, predictor(part, CLICK_ORDER))
        out[first:last] = part[unknown]
    return out


# Tone


def filtered(audio: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """(channels, samples) through a filter of linear phase, in place in time."""
    size = audio.shape[1] + len(taps) - 1
    spectrum = torch.fft.rfft(audio.double(), n=size) * torch.fft.rfft(taps.double(), n=size)
    first = len(taps) // 2
    return torch.fft.irfft(spectrum, n=size)[:, first : first + audio.shape[1]].float()


def equaliser(hertz: np.ndarray, gains_db: np.ndarray, rate: int) -> torch.Tensor:
    """Taps of a filter of linear phase with these gains, straight between the frequencies over their logarithm."""
    frequencies = np.maximum(np.linspace(0.0, rate / 2, 2 * BROAD_TAPS + 1), 1.0)
    response = 10.0 ** (np.interp(np.log(frequencies), np.log(hertz), gains_db) / 20.0)
    taps = np.roll(np.fft.irfft(response), BROAD_TAPS // 2)[:BROAD_TAPS]
    return torch.from_numpy(taps * np.hanning(BROAD_TAPS + 2)[1:-1])


def band_levels(audio: torch.Tensor, rate: int) -> np.ndarray:
    """Level of each of `BANDS` over the whole recording, dB; NaN for those above its range."""
    spectrum = torch.fft.rfft(audio.double(), dim=1).abs().square().sum(0).numpy()
    edges = BANDS[:, None] * 2.0 ** (np.array([-1, 1]) / 6) / rate * audio.shape[1]
    levels = [spectrum[round(low) : round(high) + 1].sum() for low, high in edges]
    return np.where(0.42 * rate > BANDS, 10 * np.log10(np.maximum(levels, 1e-20)), np.nan)


def match(audio: torch.Tensor, rate: int, like: torch.Tensor, like_rate: int) -> np.ndarray:
    """Gains in dB at `BANDS` that bring the long-term spectrum of a recording to that of another, but for its level;
    none is above `MATCH_DB`, and bands that neither fills stay as they are."""
    own, wanted = band_levels(audio, rate), band_levels(like, like_rate)
    filled = (own > np.nanmax(own) - 60) & (wanted > np.nanmax(wanted) - 60)  # NaN compares as False
    if not filled.any():
        return np.zeros(len(BANDS))
    gains = np.interp(np.arange(len(BANDS)), np.flatnonzero(filled), (wanted - own)[filled])
    gains -= np.average(gains[filled], weights=10 ** ((own[filled] - np.nanmax(own)) / 20))
    smooth = np.convolve(np.pad(gains, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    return smooth.clip(-MATCH_DB, MATCH_DB)


def shade(audio: torch.Tensor, rate: int, word: str, amount: float) -> torch.Tensor:
    """Audio that is brighter, darker, warmer, thinner, wider, narrower or mono, by an amount."""
    if word in TILTS:
        tilt_db = min(max(TILTS[word] * amount, -12.0), 12.0)
        return filtered(audio, tilt_filter(tilt_db, rate)) if audio.shape[1] > TILT_TAPS else audio
    if word in SHADES:
        hertz, gains = np.array(SHADES[word]).T
        return filtered(audio, equaliser(hertz, gains * amount, rate))
    middle = audio.mean(0, keepdim=True)
    return middle + (audio - middle) * SIDES[word] ** amount


def read_wishes(words: str | None) -> tuple[list[tuple[str, float]], dict[str, float], dict[str, float]]:
    """ "drier, much brighter, -14 LUFS" -> shades with their amounts, "lufs" and "dbtp", and faults that are to be
    treated even where they are not found, with amounts.

    Raises:
        ValueError: a word that means nothing here, or a level out of range.
    """
    shades: list[tuple[str, float]] = []
    levels: dict[str, float] = {}
    asked: dict[str, float] = {}
    known = "|".join((*TILTS, *SHADES, *SIDES, *ASKED))
    for wish in (part.strip().lower() for part in re.split("[,;]| and ", words or "")):
        level = re.fullmatch(r"(-?\d+(?:\.\d+)?) ?(lufs|dbtp)", wish)
        tone = re.fullmatch(rf"(?:({'|'.join(AMOUNTS)}) )?({known})", wish)
        if level is not None:
            low, high = (-60.0, -3.0) if level[2] == "lufs" else (-30.0, 0.0)
            if not low <= float(level[1]) <= high:
                raise ValueError(f"to has {wish!r}; allowed: {low:g} to {high:g} {level[2]}")
            levels[level[2]] = float(level[1])
        elif tone is not None and tone[2] in ASKED:
            asked[ASKED[tone[2]]] = AMOUNTS.get(tone[1] or "", 1.0)
        elif tone is not None:
            shades.append((tone[2], AMOUNTS.get(tone[1] or "", 1.0)))
        elif wish:
            raise ValueError(f"to has {wish!r}; allowed: {known.replace('|', ', ')}, -14 LUFS, -1 dBTP")
    return shades, levels, asked


def load_restorer(
    to: str | None,
    only: Sequence[str] | None,
    checkpoint: str | None = None,
    revision: str | None = None,
    variant: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
) -> Restorer | None:
    """The restorer of a checkpoint if a call of `restore` has work for one.

    Args:
        to, only: of the call; where neither names a fault that needs it (`only` None = any repair), a checkpoint
            without a restorer gives None.
        checkpoint, revision, variant, dtype, device: see `vivace.load`; to be trusted by now.

    Raises:
        ValueError: a checkpoint without a restorer, where a wish or a repair needs one; or no checkpoint.
    """
    from pipelines import hub

    _, _, asked = read_wishes(to)
    if not asked and only is not None and not BY_NETWORK & {*only}:
        return None
    folder = hub.find_checkpoint(checkpoint, revision, variant)
    if not asked and only is None and not (folder / FOLDER).is_dir():
        return None
    return Restorer.load(folder, variant, dtype, hub.pick_device(device))


def restore(
    audio: torch.Tensor | np.ndarray,
    sampling_rate: int,
    to: str | None = None,
    like: tuple[torch.Tensor, int] | None = None,
    only: tuple[str, ...] = REPAIRS,
    figures: bool = True,
    restorer: Restorer | None = None,
) -> Restored:
    """Repair a recording, and change its tone and level as asked for.

    Args:
        audio: (channels, samples), floats of full scale 1.
        sampling_rate: Hz.
        to: words for tone and level, see `read_wishes`.
        like: another recording (channels, samples) and its rate, whose long-term spectrum is matched in third octaves.
        only: which of `REPAIRS` are made where their fault is found. "level" lifts a recording that is quieter than
            `QUIET_LUFS`.
        figures: whether to measure before and after, which takes half of the time.
        restorer: treats noise, reverb and a narrow band; None = they are left alone.

    Returns:
        A `Restored`. Without a finding and a wish, its samples are those that were given.

    Raises:
        ValueError: an unknown repair or wish, or one that needs a restorer where there is none.
    """
    for name in only:
        if name not in REPAIRS:
            raise ValueError(f"only has {name!r}; allowed: {', '.join(REPAIRS)}")
    shades, levels, asked = read_wishes(to)
    if asked and restorer is None:
        raise ValueError(f"to asks for less {' and '.join(asked)}, for which a checkpoint with restorer/ is needed")
    sound = torch.as_tensor(audio).float()
    made = Restored(sound, sampling_rate, before=measure(sound, sampling_rate) if figures else {})
    channels = [channel.double().numpy() for channel in sound]

    def repair(name: str, find: Callable, mend: Callable, say: Callable) -> None:
        found = [find(channel) for channel in channels] if name in only else []
        touched = [one is not None and np.size(one) > 0 for one in found]
        if any(touched):
            made.done.append(f"{name}: {say([one for one, is_in in zip(found, touched, strict=True) if is_in])}")
            channels[:] = [mend(c, one) if is_in else c for c, one, is_in in zip(channels, found, touched, strict=True)]

    def clipped(channel: np.ndarray) -> np.ndarray | None:
        found = find_clipped(channel)
        return found if found.any() else None

    rate = sampling_rate
    # Clicks first: they may stand above the level at which the rest is cut, and a top that was drawn may look like one.
    repair("clicks", lambda c: find_clicks(c, rate), lambda c, spans: remove_clicks(c, rate, spans),
           lambda found: f"{sum(map(len, found))} drawn anew, by linear prediction")  # fmt: skip
    repair("clipping", clipped, declip, lambda found: f"{sum(int(one.sum()) for one in found)} samples of cut tops "
           "drawn beyond them, by linear prediction")  # fmt: skip
    repair("dc", lambda c: find_dc(c, rate), lambda c, one: c - one[0],
           lambda found: f"{max((one[0] for one in found), key=abs):+.4f} of full scale taken away")  # fmt: skip
    repair("hum", lambda c: find_hum(c, rate), lambda c, tones: remove_hum(c, rate, tones),
           lambda found: f"{len(found[0])} steady tones from {found[0][0][0]:.2f} Hz taken away")  # fmt: skip
    if made.done:
        made.audio = sound = torch.from_numpy(np.stack(channels)).float()
    if restorer is not None:
        made.audio = sound = treat(sound, rate, only, asked, restorer, made)
    elif BY_NETWORK & {*only}:
        made.left.append("noise, band: not looked for, since the checkpoint has no restorer/")
    before = loudness(sound, rate)
    for word, amount in shades:
        sound = shade(sound, rate, word, amount)
        made.done.append(f"{word}: {'by ' + format(amount, 'g') + ' times the usual' if amount != 1 else 'done'}")
    if like is not None:
        gains = match(sound, rate, *like)
        sound = filtered(sound, equaliser(BANDS, gains, rate))
        made.done.append(f"like: third octaves moved by {gains.min():+.1f} to {gains.max():+.1f} dB")
    made.audio = set_level(sound, rate, before, levels, "level" in only, made)
    made.after = measure(made.audio, rate) if figures and made.done else made.before
    return made


def treat(
    sound: torch.Tensor, rate: int, only: Sequence[str], asked: dict[str, float], restorer: Restorer, made: Restored
) -> torch.Tensor:
    """Audio without the noise and the narrow band that are found in it, and without what is asked for, by the network.
    Reverb is part of the music as often as not, and is not looked for."""
    level = restorer.noise_db(sound, rate) if "noise" in only else 0.0
    edge = find_edge(sound, rate) if "band" in only else None
    for name, found in (("noise", level > NOISE_DB), ("reverb", False)):
        if found or name in asked:
            what = f"found ({level:.1f} dB)" if found else "asked for"
            made.done.append(f"{name}: {what}; the spectra lowered by the network")
            sound = restorer.treat(sound, rate, name, amount=asked.get(name, 1.0))
    if edge is not None:
        made.done.append(f"band: it ends at {edge:.0f} Hz; what is above made by the network")
        sound = restorer.treat(sound, rate, "band", edge)
    return sound


def set_level(
    sound: torch.Tensor, rate: int, before: float, levels: dict[str, float], lift: bool, made: Restored
) -> torch.Tensor:
    """Audio at the level that is asked for, or lifted from quietness, or as loud as `before` its tone was changed;
    always within full scale where anything was done."""
    target, limit = levels.get("lufs"), levels.get("dbtp", PEAK_DBTP)
    if target is None and lift and -60.0 < before < QUIET_LUFS:
        target = LOUDNESS_LUFS
    ceiling = limit if "dbtp" in levels else 0.0
    loud = ("dbtp" in levels or made.done) and true_peak_db(sound) > ceiling
    if target is None and (made.audio is not sound or loud) and math.isfinite(before):
        target = before
    if target is None:
        return sound
    leveller = Leveller(rate, sound.shape[1], target, limit, 0.0, 0.0, 0.0, False)
    levelled = torch.cat(list(leveller.run([sound])), dim=1)
    made.done.append(f"level: brought to {loudness(levelled, rate):.1f} LUFS, true peak up to {limit:g} dBTP")
    return levelled
