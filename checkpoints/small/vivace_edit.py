"""Edits of given audio: its beats, what of it is kept and what is made, and the join of both."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .vivace_audio import (
    LOOKAHEAD_S,
    PEAK_TAPS,
    Leveller,
    compressor_gain,
    fit_circle,
    limiter_gain,
    loudness,
    mix_channels,
    peaks,
    read_audio,
    resample,
    true_peak_db,
)
from .vivace_music import (
    MIN_DURATION_S,
    Lengths,
    MusicArguments,
    is_list_of_pairs,
    read_prompts,
    settle,
    spread,
    stated_tempo,
)
from .vivace_notes import arguments_of_score, changed_regions, describe, fit_score
from .vivace_reading import MusicWords
from .vivace_recipe import read_recipe
from .vivace_score import Score
from .vivace_theory import check_number, parse_time_signature

# Beats of audio with a steady beat: onsets by spectral flux, tempo by their autocorrelation at several beats'
# distance, phase and bar by what falls on them.

RATE, SIZE, HOP = 22050, 1024, 220  # Hz and samples: about 100 onset values a second
ENVELOPE_HZ = RATE / HOP
TEMPI = (50.0, 210.0)  # that are looked for
USUAL_BPM, SPREAD_OCTAVES = 110.0, 0.9  # where octaves are in doubt, the more usual one
CLEAR = 0.12  # least autocorrelation at the beat for which a tempo is believed
MIN_SECONDS = 3.0


def onsets(audio: torch.Tensor, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """How much begins at each moment, in all bands and below 160 Hz, each (n,) at ENVELOPE_HZ; mean 0, variance 1."""
    mono = resample(audio.mean(0, keepdim=True), rate, RATE)[0]
    padded = torch.nn.functional.pad(mono, (SIZE // 2, SIZE // 2))
    spectrum = torch.stft(
        padded, SIZE, HOP, window=torch.hann_window(SIZE, dtype=torch.float32), center=False, return_complex=True
    )
    level = torch.log1p(100.0 * spectrum.abs())  # (bins, n)
    rise = torch.diff(level, dim=1, prepend=level[:, :1]).clamp_min(0.0)
    out = []
    for part in (rise, rise[: round(160.0 * SIZE / RATE)]):
        flux = part.mean(0).double().numpy()
        near = np.convolve(np.pad(flux, 50, mode="reflect"), np.ones(101) / 101.0, mode="valid")
        flux = np.maximum(flux - near, 0.0)
        out.append((flux - flux.mean()) / (flux.std() + 1e-9))
    return out[0], out[1]


def tempo(envelope: np.ndarray) -> float | None:
    """Beats a minute, or None where nothing repeats clearly."""
    size = len(envelope)
    spectrum = np.abs(np.fft.rfft(envelope, 2 * size)) ** 2
    correlation = np.fft.irfft(spectrum)[:size] / np.maximum(size - np.arange(size), 1)
    tempi = np.exp(np.linspace(np.log(TEMPI[0]), np.log(TEMPI[1]), 600))
    period = ENVELOPE_HZ * 60.0 / tempi
    repeats = [np.interp(k * period, np.arange(size), correlation, right=0.0) for k in (1, 2, 3, 4)]
    prior = np.exp(-0.5 * (np.log2(tempi / USUAL_BPM) / SPREAD_OCTAVES) ** 2)
    best = int(np.argmax(np.mean(repeats, axis=0) * prior))
    if repeats[0][best] < CLEAR:
        return None
    # The whole clip decides to a fraction of a percent: the tempo whose harmonics the envelope has most of.
    near = tempi[best] * np.linspace(0.97, 1.03, 241)
    times = np.arange(size) / ENVELOPE_HZ
    found = [
        sum(abs(np.exp(-2j * np.pi * h * bpm / 60.0 * times) @ envelope) for h in (1, 2, 4)) for bpm in near
    ]  # fmt: skip
    return float(near[int(np.argmax(found))])


def find_beats(audio: torch.Tensor, rate: int, bpm: float | None, beats_per_bar: int) -> tuple[float, float] | None:
    """Tempo and the time of a first beat of a bar, seconds, of (channels, samples); None where no beat is found.

    Args:
        audio: at least `MIN_SECONDS` long, or nothing is found.
        rate: Hz.
        bpm: the tempo, or None.
        beats_per_bar: of the meter.
    """
    if audio.shape[1] < MIN_SECONDS * rate or not audio.any():
        return None
    envelope, low = onsets(audio, rate)
    bpm = tempo(envelope) if bpm is None else float(bpm)
    if bpm is None:
        return None
    period = ENVELOPE_HZ * 60.0 / bpm
    phases = np.arange(0.0, period, 0.5)
    size = len(envelope)

    def on(values: np.ndarray, first: float, step: float) -> float:
        places = np.arange(first, size, step)
        return float(np.mean(np.interp(places, np.arange(size), values))) if len(places) else -np.inf

    first = phases[int(np.argmax([on(envelope, phase, period) for phase in phases]))]
    bars = [on(envelope, first + k * period, beats_per_bar * period)
            + on(low, first + k * period, beats_per_bar * period) for k in range(beats_per_bar)]  # fmt: skip
    return bpm, float((first + int(np.argmax(bars)) * period) / ENVELOPE_HZ)


# Audio in: variations, inpainting, continuation and extension. What is kept comes back bit for bit.

SHORTEST_SOUND_S, LONGEST_SOUND_S = 1.0, 60.0  # of audio that a piece is to sound like
WORKING_LUFS = -18.0  # the training clips' level, at which audio is encoded
# Latent frames beside a border that are made anew too. The encoder sees further (7 frames, 0.28 s, in the published
# model), so the nearest kept latents still carry a little of what is replaced; training masks its clips likewise.
KEEP_MARGIN = 1
FADE_S = 0.05  # from kept to made, inside the made part
MATCH_S = 3.0  # what is made beside kept audio is brought to its level from this length on (EBU's short-term window)


@dataclass
class Edit:
    """What is to be done to one piece of audio.

    Attributes:
        audio: (channels, samples) fp32, the input, with mirrored audio where it is extended.
        rate: its sampling rate, Hz.
        mask: (samples,) bool, True = to be made.
        strength: noise to begin with, 1 = all noise.
        gain: of the input to the level at which the network works.
        offset_s: where the input begins, seconds.
        samples: how long the input is.
        loop: whether its end leads into its beginning.
        recipe: of the file or output that the input was, if it is one of ours.
        arguments: strength and mask_s as they were given, for the recipe of the result; regions in seconds.
    """

    audio: torch.Tensor
    rate: int
    mask: torch.Tensor
    strength: float
    gain: float
    offset_s: float
    samples: int
    loop: bool = False
    recipe: dict | None = None
    arguments: dict = field(default_factory=dict)

    @property
    def extended(self) -> bool:
        """Whether there is more to be made than the input is long."""
        return self.audio.shape[1] > self.samples

    @property
    def given(self) -> torch.Tensor:
        """The input alone, without its extension."""
        first = round(self.offset_s * self.rate)
        return self.audio[:, first : first + self.samples]


def read_mask(mask, samples: int, rate: int) -> torch.Tensor:
    """(samples,) bool of regions in seconds or of an array; regions that overlap are one.

    Raises:
        ValueError: regions that are no pairs, reversed, negative, empty or outside; all kept.
    """
    if isinstance(mask, (np.ndarray, torch.Tensor)) and np.asarray(mask).dtype == bool:
        given = torch.as_tensor(mask)
        if tuple(given.shape) != (samples,):
            raise ValueError(
                f"mask_s is an array of shape {tuple(given.shape)}; needed: ({samples},), one bool for each sample of "
                "the audio, True = to be made"
            )
        if not given.any():
            raise ValueError("mask_s is False everywhere: all is kept and nothing to be made")
        return given.cpu()
    if isinstance(mask, (np.ndarray, torch.Tensor)):
        mask = mask.tolist()
    if not isinstance(mask, (list, tuple)):
        raise ValueError(f"mask_s is {mask!r}; allowed: regions in seconds, as in [(4.0, 6.0)], or an array of bool")
    pairs = [tuple(region) if isinstance(region, (list, tuple, np.ndarray)) else (region,) for region in mask]
    if not pairs:
        raise ValueError("mask_s is empty; give at least one region, as in [(4.0, 6.0)]")
    out = torch.zeros(samples, dtype=torch.bool)
    for region in pairs:
        numbers = len(region) == 2 and all(isinstance(v, (int, float, np.number)) and math.isfinite(v) for v in region)
        if not numbers or not 0.0 <= region[0] < region[1]:
            raise ValueError(f"mask_s has the region {region}; allowed: (start, end) in seconds, 0 <= start < end")
        if round(region[1] * rate) > samples:  # half a sample beyond is how an end in seconds may round
            raise ValueError(f"mask_s has the region {region}, but the audio is {samples / rate:.3f} s long")
        first, last = round(region[0] * rate), round(region[1] * rate)
        out[min(first, samples - 1) : max(last, first + 1)] = True  # at least one sample
    return out


def mirrored(audio: torch.Tensor, before: int, after: int) -> torch.Tensor:
    """(channels, before + n + after): the audio, and beyond its ends its mirror image, as often as needed."""
    samples = audio.shape[1]
    index = torch.arange(-before, samples + after) % (2 * samples)
    return audio[:, torch.where(index < samples, index, 2 * samples - 1 - index)]


def make_edit(
    audio, sampling_rate, strength, mask_s, extend_s, max_duration_s: float, recipe: dict | None = None
) -> Edit:
    """Understand the arguments of an edit; whether it is a loop is decided later, with its tempo.

    Raises:
        ValueError: one line that names the argument.
    """
    if strength is None and mask_s is None and extend_s is None:
        raise ValueError("audio needs to be told what to do with it: give strength, mask_s or extend_s")
    given, rate = read_audio(audio, sampling_rate, max_duration_s)
    if strength is not None:
        check_number("strength", strength, 0, 1)
    before = after = 0
    if extend_s is not None:
        if not isinstance(extend_s, (list, tuple)) or len(extend_s) != 2:
            raise ValueError(f"extend_s is {extend_s!r}; allowed: (seconds before, seconds after), as in (0, 8)")
        for seconds in extend_s:
            check_number("extend_s", seconds, 0, max_duration_s, "s")
        before, after = (round(seconds * rate) for seconds in extend_s)
        if not before and not after:
            raise ValueError(f"extend_s is {tuple(extend_s)}; allowed: more than 0 s before or after")
        if strength not in (None, 1, 1.0):
            raise ValueError(f"strength is {strength} with extend_s; there is nothing to begin with but noise: give 1")
    samples = given.shape[1]
    inside, arguments = torch.full((samples,), mask_s is None and extend_s is None), {"strength": strength}
    if mask_s is not None:
        inside = read_mask(mask_s, samples, rate)
        arguments["mask_s"] = [[first / rate, last / rate] for first, last in borders(inside)]
    mask = torch.cat([torch.ones(before, dtype=torch.bool), inside, torch.ones(after, dtype=torch.bool)])
    gain = working_gain(given, rate)
    strength = 1.0 if strength is None else float(strength)
    audio = mirrored(given, before, after)
    return Edit(audio, rate, mask, strength, gain, before / rate, samples, recipe=recipe, arguments=arguments)


def working_gain(audio: torch.Tensor, rate: int) -> float:
    """The gain that brings audio (channels, samples) to the level at which the network works, that of its mono mix."""
    level = loudness(audio.mean(0, keepdim=True), rate)
    return 1.0 if math.isinf(level) else min(10.0 ** ((WORKING_LUFS - level) / 20.0), 1e3)


def network_input(edit: Edit, sampling_rate: int, channels: int, circle: int, margin: int) -> torch.Tensor:
    """The audio as the autoencoder takes it, (1, channels, samples).

    A loop becomes a circle of `circle` samples, a whole number of latent frames, with a `margin` of its other end on
    either side. It is resampled there, by half a frame at most: a loop of 8 s moves by up to 4 cents.
    """
    audio = mix_channels(edit.audio * edit.gain, channels)
    if not edit.loop:
        return resample(audio, edit.rate, sampling_rate)[None]
    return fit_circle(audio, circle)[:, torch.arange(-margin, circle + margin) % circle][None]


def kept_frames(edit: Edit, frames: int, frame_rate: float) -> torch.Tensor:
    """(frames,) bool: latent frames that are given, none of whose neighbours touch what is to be made."""
    mask, size, turn = edit.mask, len(edit.mask), 0
    if edit.loop:  # unrolled to three turns, of which the middle one counts
        mask, turn, frame_rate = mask.repeat(3), size, frames * edit.rate / size
    total = torch.nn.functional.pad(mask.long().cumsum(0), (1, 0))  # masked samples before each
    bounds = torch.arange(frames, dtype=torch.float64)
    first = ((bounds - KEEP_MARGIN) / frame_rate * edit.rate).floor().long() + turn
    last = ((bounds + 1 + KEEP_MARGIN) / frame_rate * edit.rate).ceil().long() + turn
    inside = bounds / frame_rate * edit.rate < size
    return (total[last.clamp(0, len(mask))] == total[first.clamp(0, len(mask))]) & inside


def borders(mask: torch.Tensor) -> list[tuple[int, int]]:
    """(first, last + 1) of each masked run of samples."""
    edges = torch.diff(torch.nn.functional.pad(mask.to(torch.int8), (1, 1)))
    return list(zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True))


def matching_gain(edit: Edit, made: torch.Tensor, limit: float) -> float:
    """The gain at which what is made, (channels, n) with the kept places in between, is as loud as what is kept, or as
    the input where little is kept. 1 for what is too short to have a level of its own beside kept audio."""
    kept, anew, enough = edit.audio[:, ~edit.mask], made[:, edit.mask], MATCH_S * edit.rate
    if kept.shape[1] and anew.shape[1] < enough:
        return 1.0
    target = loudness(kept if kept.shape[1] >= enough else edit.given, edit.rate)
    if math.isinf(target):
        return 1.0
    leveller = Leveller(edit.rate, anew.shape[1], target, 20.0 * math.log10(limit), 0.0, 0.0, 0.0, False)
    return leveller.choose_gain(anew, slice(None))


def steadied(edit: Edit, made: torch.Tensor, ratio: float) -> torch.Tensor:
    """What was made, (channels, n), through the compressor, at a gain that leaves the kept places at their level."""
    steady = made * compressor_gain(made, edit.rate, ratio, edit.loop)
    kept = ~edit.mask
    if not made[:, kept].any():
        return steady
    return steady * (made[:, kept].square().mean() / steady[:, kept].square().mean()).sqrt()


def splice(
    edit: Edit, made: torch.Tensor, sampling_rate: int, true_peak_dbtp: float | None, compression_ratio: float = 1.0
) -> torch.Tensor:
    """The input with what was made put in, (channels, samples) at the input's rate.

    What was made is steadied (`steadied`), gets the level of what is kept (`matching_gain`) and is faded in; where the
    true peaks of the two together would exceed `true_peak_dbtp`, or the input's own where that is higher, a limiter
    turns down what was made. Kept samples are those of the input.

    Args:
        edit: what was asked for.
        made: the whole piece as the autoencoder decoded it, (channels, samples) at `sampling_rate`.
        true_peak_dbtp: None = what was made keeps its own level and is limited at full scale only.
        compression_ratio: 1 = no compressor, and none without `true_peak_dbtp`.
    """
    audio, mask, samples = edit.audio, edit.mask, edit.audio.shape[1]
    made = made.cpu()
    made = fit_circle(made, samples) if edit.loop else resample(made, sampling_rate, edit.rate)[:, :samples]
    made = torch.nn.functional.pad(made, (0, samples - made.shape[1])) / edit.gain
    if made.shape[0] != audio.shape[0]:  # each channel as loud as it was
        power = audio.square().mean(1, keepdim=True)
        balance = (power / audio.mean(0, keepdim=True).square().mean().clamp_min(1e-12)).sqrt().clamp(0.0, 2.0)
        made = mix_channels(made, audio.shape[0]) * balance
    limit = 1.0
    if true_peak_dbtp is not None:
        limit = min(1.0, 10.0 ** (max(true_peak_dbtp, true_peak_db(edit.given)) / 20.0))
        if compression_ratio != 1.0:
            made = steadied(edit, made, compression_ratio)
        made = made * matching_gain(edit, made, limit)
    turn = 0
    if edit.loop and not mask.all():  # turned so that it begins with a kept sample: no run goes over the end
        turn = int((~mask).nonzero()[0])
        audio, mask, made = audio.roll(-turn, 1), mask.roll(-turn), made.roll(-turn, 1)
    out = audio.clone()
    ahead = round(LOOKAHEAD_S * edit.rate)
    reach = 2 * ahead + PEAK_TAPS
    for first, last in borders(mask):
        ends = [first > 0, last < samples or (edit.loop and first > 0)]  # whether kept audio follows there
        fade = min(round(FADE_S * edit.rate), (last - first) // 2)
        ramp = (torch.arange(fade, dtype=torch.float32) + 1.0) / (fade + 1.0)
        share = torch.ones(last - first, dtype=torch.float32)
        if fade and ends[0]:
            share[:fade] = ramp
        if fade and ends[1]:
            share[-fade:] = ramp.flip(0)
        near = torch.arange(first - reach, last + reach)  # what the limiter sees
        near = near % samples if edit.loop else near[(near >= 0) & (near < samples)]
        before = reach if edit.loop else min(first, reach)
        angle = torch.full((len(near),), math.pi / 2 if mask.all() else 0.0, dtype=torch.float32)
        angle[before : before + last - first] = share * (math.pi / 2)
        new, old = made[:, near] * angle.sin(), audio[:, near] * angle.cos()
        need = ((limit - peaks(old)) / peaks(new).clamp_min(1e-9)).clamp(0.0, 1.0)
        need[angle == 0.0] = 1.0
        mixed = (old + new * limiter_gain(need, ahead)).clamp(-1.0, 1.0)
        out[:, first:last] = mixed[:, before : before + last - first]
    return out.roll(turn, 1)


# What a call is to do with audio, and the grid and the score that the audio brings.

GRID = ("bpm", "time_signature", "key", "chords", "downbeat_s")  # what a recording or its recipe can say
BAR_MATCH = 0.03  # share by which the tempo found in a loop may be off whole bars


def open_source(source: Any, sampling_rate: int | None) -> tuple[object, int | None, dict | None]:
    """What a call is given as audio -> audio and rate as `read_audio` takes them, and the recipe if it is one of ours.

    Raises:
        ValueError: an output that holds latents or several pieces.
    """
    if isinstance(source, (str, Path)):
        try:
            return source, sampling_rate, read_recipe(source)
        except ValueError:  # no file of ours
            return source, sampling_rate, None
    if not hasattr(source, "audios") or not hasattr(source, "recipes"):
        return source, sampling_rate, None
    if source.recipes is None or len(source.audios) != 1:
        raise ValueError(
            "audio is an output of latents or of several pieces; allowed: one with one piece of audio, or a piece as "
            "audio=out.audios[0] with sampling_rate=out.sampling_rate"
        )
    if sampling_rate not in (None, source.sampling_rate):
        raise ValueError(
            f"sampling_rate is {sampling_rate}, but the output has {source.sampling_rate} Hz; leave it out"
        )
    return source.audios[0], source.sampling_rate, source.recipes[0]


def read_sounds(sounds_like: object, sampling_rate: int | None, count: int, numbers: int) -> list:
    """What each prompt is to sound like: audio (channels, samples) at the network's level with its rate, as a pair; the
    statistics of such audio; or None.

    Args:
        sounds_like: of the call: recordings as `audio` takes them, or statistics; one for all prompts, or a list.
        sampling_rate: of arrays.
        count: of the prompts.
        numbers: how many statistics the network takes, 0 = it takes none.

    Raises:
        ValueError: one line that names the argument.
    """
    if sounds_like is None:
        return [None] * count
    if not numbers:
        raise ValueError("sounds_like needs a network that takes a reference; this checkpoint's has none")
    several = isinstance(sounds_like, (list, tuple)) and not all(isinstance(one, (int, float)) for one in sounds_like)
    sources = spread("sounds_like", sounds_like, count, not several)
    read: dict[int, object] = {}
    for one in sources:
        if isinstance(one, (list, tuple)):
            if len(one) != numbers:
                raise ValueError(f"sounds_like has {len(one)} numbers; this checkpoint's network takes {numbers}")
            for value in one:
                check_number("sounds_like", value, -1000, 1000)
            read[id(one)] = [float(value) for value in one]
        elif one is not None and id(one) not in read:
            try:
                audio, rate = read_audio(*open_source(one, sampling_rate)[:2], LONGEST_SOUND_S)
            except ValueError as error:
                raise ValueError(f"sounds_like: {error}") from error
            if audio.shape[1] < SHORTEST_SOUND_S * rate or not audio.any():
                raise ValueError(
                    f"sounds_like is {audio.shape[1] / rate:.2f} s{'' if audio.any() else ' of silence'}; needed: "
                    f"{SHORTEST_SOUND_S:g} s of sound"
                )
            read[id(one)] = (audio * working_gain(audio, rate), rate)
    return [read.get(id(one)) for one in sources]


def read_edits(
    scores: list[Score | None], audio: object, sampling_rate: int | None, strength: object, mask_s: object,
    extend_s: object, lengths: Lengths,
) -> list[Edit | None]:  # fmt: skip
    """What is to be done to the audio of each prompt; None where there is none.

    With a score and nothing else that says what, it is the bars in which that differs from the score of the audio.

    Args:
        scores: of each prompt.
        lengths: of the checkpoint; the others are arguments of the call.

    Raises:
        ValueError: arguments of an edit without audio, audio of several rates, and as `make_edit`.
    """
    if audio is None:
        given = {"strength": strength, "mask_s": mask_s, "extend_s": extend_s, "sampling_rate": sampling_rate}
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name} is {value!r} without audio; it says what to do with audio")
        return [None] * len(scores)
    count = len(scores)
    sources = spread("audio", audio, count, not isinstance(audio, (list, tuple)))
    apart = isinstance(mask_s, (list, tuple)) and is_list_of_pairs(mask_s) and all(map(is_list_of_pairs, mask_s))
    masks = spread("mask_s", mask_s, count, not apart)
    strengths = spread("strength", strength, count, False)
    done: dict[tuple, Edit] = {}  # the same audio for all prompts is read once
    edits: list[Edit | None] = []
    for source, mask, own, score in zip(sources, masks, strengths, scores, strict=True):
        place = (id(source), id(mask), id(score), own if isinstance(own, (int, float)) else id(own))
        if place not in done:
            sound, rate, recipe = open_source(source, sampling_rate)
            if score is not None and mask is None and own is None and extend_s is None:
                sound, rate = read_audio(sound, rate, lengths.longest_s)  # once, for its length as for the edit
                mask = regions_of_score(score, sound, rate, recipe, lengths)
            done[place] = make_edit(sound, rate, own, mask, extend_s, lengths.longest_s, recipe)
        edits.append(done[place])
    if len({edit.rate for edit in done.values()}) > 1:
        raise ValueError("audio has files of several sampling rates; edit them in calls of their own")
    return edits


def regions_of_score(
    score: Score, audio: object, sampling_rate: int | None, recipe: dict | None, lengths: Lengths
) -> list[tuple[float, float]]:
    """Regions of audio that are to be made anew so that it plays another score.

    Raises:
        ValueError: audio that was not made from a score.
    """
    samples, rate = read_audio(audio, sampling_rate, lengths.longest_s)
    seconds = samples.shape[1] / rate
    grid = recipe_grid(recipe, seconds, lengths)
    if "score" not in grid:
        raise ValueError(
            "audio has no score of its own to compare the given one with; give mask_s, extend_s or strength to say "
            "what is to be made anew"
        )
    return changed_regions(grid["score"], score, grid["downbeat_s"], seconds, grid["loop"])


def recipe_grid(recipe: dict | None, seconds: float, lengths: Lengths) -> dict:
    """What a recipe says of its piece: those of `GRID` that it fixes, `loop`, and the `score` that it plays, if any.
    The downbeat is in its own time.

    Args:
        recipe: of `read_recipe`, or None.
        seconds: length of the audio. A piece that was cut since keeps its tempo, meter and key alone.
        lengths: of the checkpoint.
    """
    if recipe is None:
        return {}
    arguments, edited = recipe.get("arguments", {}), "audio" in recipe
    given = MusicArguments(**{one.name: arguments.get(one.name) for one in fields(MusicArguments)})
    loop = arguments.get("loop")
    if edited:  # its length is that of the audio, which the recipe does not hold
        given = replace(given, duration_s=None, bars=None)
    try:
        prompt, *_ = read_prompts(arguments.get("prompt"), arguments.get("morph"), None)
        words = prompt.words
        score = None if arguments.get("score") is None else Score.from_text(arguments["score"])
        if score is not None:
            given, _ = arguments_of_score(score, given, words)
            given = replace(given, duration_s=None, bars=None) if edited else given
        music = settle(words, given, False if edited else loop, lengths.default_s, lengths.longest_s)
        before = float((arguments.get("extend_s") or (0.0, 0.0))[0])
    except (ValueError, TypeError, LookupError):  # of another version, or made without words
        return {}
    found: dict = {
        name: getattr(music, name) for name in ("bpm", "time_signature", "key") if getattr(music, name) is not None
    }
    if edited and music.bpm_reason is not None:  # its tempo was found in the audio and not written down
        return {"key": found["key"]} if "key" in found else {}
    if not edited and abs(float(music.duration_s) - seconds) > 1e-3:
        return found
    found["loop"] = bool(loop) if edited else music.loop
    if "bpm" in found and (not edited or given.downbeat_s is not None):
        found["downbeat_s"] = music.downbeat_s + before
        if music.chords is not None:
            found["chords"] = music.chords
        if score is not None:
            music = replace(music, duration_s=seconds, downbeat_s=found["downbeat_s"], bars=None)
            found["score"] = fit_score(score, music, arguments.get("parts"))
    return found


def grid_of_audio(
    edit: Edit, given: MusicArguments, loop: bool | None, words: MusicWords, lengths: Lengths
) -> tuple[MusicArguments, bool, Score | None]:
    """Arguments for audio that is to be edited, whether it is a loop, and the score that it plays, or None.

    What is given or in the prompt comes first, then what the audio's own recipe says, and at last tempo and downbeat as
    they are found in the audio. A stated tempo or meter that is not the recipe's leaves the rest of its grid out.

    Args:
        edit: the audio and what is to be done to it.
        given: downbeat_s counts from the beginning of the given audio.
        loop: None = as the recipe says.
        words: what the prompt says.
        lengths: of the checkpoint.

    Returns:
        `given` completed, with the length of the result; downbeat_s still counts from the beginning of the audio.

    Raises:
        ValueError: a length that is not the audio's, or a loop that is to be extended.
    """
    if loop and edit.extended:
        raise ValueError("loop is True with extend_s; a loop has no end to go on from: leave one of them out")
    seconds = edit.audio.shape[1] / edit.rate
    if seconds < MIN_DURATION_S:
        raise ValueError(f"audio lasts {seconds:.3g} s; allowed: from {MIN_DURATION_S} s")
    for name in ("duration_s", "downbeat_s"):
        if getattr(given, name) is not None:
            check_number(name, getattr(given, name), -1e6, 1e6, "s")
    if given.duration_s is not None and abs(given.duration_s - seconds) > 1e-3:
        raise ValueError(
            f"duration_s is {given.duration_s}, but the audio and its extension last {seconds:.3f} s; leave it out"
        )
    recipe = recipe_grid(edit.recipe, edit.samples / edit.rate, lengths)
    grid = {name: getattr(words, name, None) if getattr(given, name) is None else getattr(given, name) for name in GRID}
    if grid["time_signature"] is not None:
        grid["time_signature"] = str(grid["time_signature"]).replace(" ", "")
    meter = grid["time_signature"] or recipe.get("time_signature") or "4/4"
    grid["bpm"], _, _ = stated_tempo(words, given.bpm, meter, given.beat_unit)
    if any(grid[name] not in (None, recipe.get(name)) for name in ("bpm", "time_signature")):
        recipe = {name: recipe[name] for name in recipe if name == "key"}
    grid = {name: recipe.get(name) if grid[name] is None else grid[name] for name in GRID}
    loop = bool(recipe.get("loop")) and not edit.extended if loop is None else loop
    if grid["bpm"] is None or grid["downbeat_s"] is None:
        beats = parse_time_signature(meter)
        found = find_beats(edit.given, edit.rate, grid["bpm"], beats)
        if found is not None and grid["bpm"] is None:
            grid["bpm"] = round(found[0], 2)
            if loop:  # whole bars, or no tempo
                bars = max(1, round(seconds * found[0] / 60.0 / beats))
                exact = bars * beats * 60.0 / seconds
                grid["bpm"] = exact if abs(exact / found[0] - 1.0) < BAR_MATCH else None
        if found is not None and grid["bpm"] is not None and grid["downbeat_s"] is None:
            grid["downbeat_s"] = found[1]
    return replace(given, **grid, duration_s=seconds, beat_unit=None), loop, recipe.get("score")


def prompt_for_score(scores: list[Score | None], sources: list) -> str | list | None:
    """A prompt where only a score is given: that of the audio that is edited, or the instruments of the score."""
    prompts = []
    for score, source in zip(scores, sources, strict=True):
        recipe = open_source(source, None)[2] or {}
        prompt = recipe.get("arguments", {}).get("prompt")
        if isinstance(prompt, list):
            prompt = [tuple(entry) for entry in prompt]
        if prompt is None and score is not None:
            prompt = describe(score)
        prompts.append(prompt)
    return prompts[0] if len(prompts) == 1 else prompts
