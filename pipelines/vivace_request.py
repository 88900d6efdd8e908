"""Arguments of a call -> one request for each piece to be made.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from .vivace_beats import find_beats
from .vivace_edit import Edit
from .vivace_exclusion import read_exclusion, share_of, unwanted_text
from .vivace_guidance import Guidance
from .vivace_noise import choose_seeds
from .vivace_prompt import BPM_RANGE, check_number, read_prompt, understand
from .vivace_theory import parse_time_signature
from .vivace_timeline import is_timeline, morph_weights, read_start, timeline_weights

CONDITIONS = ("duration_s", "bars", "bpm", "time_signature", "key", "chords", "downbeat_s")
STRENGTHS = (
    "guidance_scale", "grid_guidance_scale", "negative_guidance_scale", "guidance_rescale", "guidance_interval",
)  # fmt: skip
TONE = ("normalize", "loudness_lufs", "true_peak_dbtp", "tilt_db", "fade_in_s", "fade_out_s")


@dataclass
class Request:
    """One piece to make.

    Attributes:
        texts: what it should sound like, one text or a timeline's, without what the words exclude; None beside
            `prompt_embeds`.
        weights: (texts, frames), the share of each.
        unwanted: what it should not sound like, any number of texts; None in place of `negative_prompt_embeds`.
        unwanted_weights: (unwanted, frames), where each is kept out, 0 to 1.
        known: its conditions, see `understand`.
        samples: its length at the pipeline's sampling rate.
        frames: its length in latent frames.
        seed: of its noise.
        strengths: what `STRENGTHS` names.
        tone: what `TONE` names.
        loop: whether its end leads into its beginning.
        arguments: of the call, as they were given for this piece.
        edit: what is to be done to given audio, or None.
    """

    texts: list[str | None]
    weights: torch.Tensor
    unwanted: list[str | None]
    unwanted_weights: torch.Tensor
    known: dict
    samples: int
    frames: int
    seed: int
    strengths: dict
    tone: dict
    loop: bool
    arguments: dict
    edit: Edit | None = None

    @property
    def strength(self) -> float:
        """Noise to begin with where not kept, 1 = all noise."""
        return 1.0 if self.edit is None else self.edit.strength


def spread(name: str, value: object, count: int, shared: bool) -> list:
    """One value for each prompt, of a list with as many or of one value that is for all (`shared`: even a list)."""
    if isinstance(value, torch.Tensor) and not shared:
        value = value.tolist()
    listed = isinstance(value, (list, tuple, np.ndarray)) and not shared
    if listed and len(value) != count:
        raise ValueError(f"{name} has {len(value)} entries for {count} prompts; give one for each or for all")
    return list(value) if listed else [value] * count


def check_flag(name: str, value: object) -> None:
    """Raise a ValueError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {' '.join(str(value).split())}; allowed: True or False")


def is_list_of_pairs(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(v, (list, tuple)) for v in value)


def read_prompts(prompt, morph, num_embeds: int | None) -> list[tuple[list[float | str], list[str | None]]]:
    """(starts, texts) of each prompt; a morph has no starts.

    Raises:
        ValueError: none or several of prompt, morph and prompt_embeds, or a text that is none.
    """
    if (prompt is not None) + (morph is not None) + (num_embeds is not None) != 1:
        raise ValueError("prompt, morph and prompt_embeds: give exactly one of them (a morph is its own prompt)")
    if num_embeds is not None:
        return [([0], [None])] * num_embeds
    if morph is not None:
        if not isinstance(morph, (list, tuple)) or len(morph) != 2:
            raise ValueError(f"morph is {morph!r}; allowed: two texts, as in ('calm piano', 'drums and bass')")
        entries = [([], list(morph))]
    else:
        if not isinstance(prompt, (str, list, tuple)):
            raise ValueError(f"prompt is {prompt!r}; allowed: a text, a timeline, or a list of either")
        prompts = [prompt] if isinstance(prompt, str) or is_timeline(prompt) else list(prompt)
        if not prompts:
            raise ValueError("prompt is an empty list; give at least one text")
        entries = [
            ([start for start, _ in one], [text for _, text in one]) if is_timeline(one) else ([0], [one])
            for one in prompts
        ]
    for _, texts in entries:
        for text in texts:
            if not isinstance(text, str) or not text.strip():
                name = "prompt" if morph is None else "morph"
                raise ValueError(f"{name} is {text!r}; give a text that is not empty")
    return entries


def check_strengths(strengths: dict) -> None:
    """Raise a ValueError for a strength out of range."""
    check_number("guidance_scale", strengths["guidance_scale"], 0, 100)
    if strengths["grid_guidance_scale"] is not None:
        check_number("grid_guidance_scale", strengths["grid_guidance_scale"], 0, 100)
    check_number("negative_guidance_scale", strengths["negative_guidance_scale"], 0, 100)
    check_number("guidance_rescale", strengths["guidance_rescale"], 0, 1)
    interval = strengths["guidance_interval"]
    numbers = isinstance(interval, (list, tuple)) and all(isinstance(v, (int, float)) for v in interval)
    if not numbers or len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError(f"guidance_interval is {interval}; allowed: 0 <= low <= high <= 1")


def check_tone(tone: dict, loop: bool, max_duration_s: float) -> None:
    """Raise a ValueError for a level or tone out of range."""
    check_flag("normalize", tone["normalize"])
    check_number("tilt_db", tone["tilt_db"], -24, 24, "dB")
    check_number("true_peak_dbtp", tone["true_peak_dbtp"], -30, 0, "dBTP")
    check_number("loudness_lufs", tone["loudness_lufs"], -60, -3, "LUFS")
    for name in ("fade_in_s", "fade_out_s"):
        check_number(name, tone[name], 0, max_duration_s, "s")
        if loop and tone[name]:
            raise ValueError(f"{name} is {tone[name]} with loop=True; a loop cannot fade, set it to 0")


def make_guidance(
    requests: list[Request], eta: float, threshold: float | None, momentum: float, config, device
) -> Guidance:
    """The strengths of requests as tensors, and the weights that the checkpoint's config gives the parts."""
    rows = [item.strengths for item in requests]
    text = [row["guidance_scale"] for row in rows]
    grid = [scale if row["grid_guidance_scale"] is None else row["grid_guidance_scale"]
            for row, scale in zip(rows, text, strict=True)]  # fmt: skip
    low, high = zip(*(row["guidance_interval"] for row in rows), strict=True)
    negative = [row["negative_guidance_scale"] for row in rows]
    columns = (text, grid, [row["guidance_rescale"] for row in rows], low, high, negative)
    columns = [torch.tensor(c, dtype=torch.float32, device=device) for c in columns]
    weights = config.guidance_channels
    weights = None if weights is None else torch.tensor(weights, dtype=torch.float32, device=device)
    *columns, negative = columns
    return Guidance(*columns, eta, threshold, momentum, config.guidance_slow, weights, negative=negative)


def keep_out(texts: list[str | None], weights: torch.Tensor, negative_prompt: str | None, restate: bool) -> tuple:
    """Words of each text without what they exclude, unless the network knows such captions (`restate`); the texts to be
    kept out, each once, and where (texts, frames)."""
    if negative_prompt is not None and not isinstance(negative_prompt, str):
        raise ValueError(f"negative_prompt is {negative_prompt!r}; allowed: a text, or None")
    read = [None if text is None else read_exclusion(text) for text in texts]
    where: dict[str, torch.Tensor] = {}
    for exclusion, weight in zip(read, weights, strict=True):
        unwanted = unwanted_text(exclusion, negative_prompt)
        if unwanted is not None:
            where[unwanted] = where.get(unwanted, 0.0) + weight * share_of(unwanted)
    words = [None if one is None else one.restated if restate else one.words for one in read]
    return words, list(where), torch.stack(list(where.values())) if where else weights[:0]


def hear(edit: Edit, given: dict, prompt: str) -> dict:
    """Length, tempo and downbeat of audio that is to be edited; the latter two unless they are said.

    Raises:
        ValueError: a length that is not the audio's.
    """
    seconds = edit.audio.shape[1] / edit.rate
    for name, unit in (("duration_s", "s"), ("downbeat_s", "s")):
        if given[name] is not None:
            check_number(name, given[name], -1e6, 1e6, unit)
    if given["duration_s"] is not None and abs(given["duration_s"] - seconds) > 1e-3:
        raise ValueError(
            f"duration_s is {given['duration_s']}, but the audio and its extension last {seconds:.3f} s; leave it out"
        )
    read = read_prompt(prompt)
    bpm = read["bpm"] if given["bpm"] is None else given["bpm"]
    meter = read["time_signature"] or "4/4" if given["time_signature"] is None else given["time_signature"]
    if bpm is not None:
        check_number("bpm", bpm, *BPM_RANGE, "beats a minute")
    heard = {"duration_s": seconds, "bpm": bpm}
    if given["downbeat_s"] is not None:
        heard["downbeat_s"] = given["downbeat_s"] + edit.offset_s
    if bpm is not None and given["downbeat_s"] is not None:
        return heard
    found = find_beats(edit.given, edit.rate, bpm, parse_time_signature(meter))
    if found is not None:
        heard["bpm"] = round(found[0], 2)
        heard.setdefault("downbeat_s", found[1] + edit.offset_s)
    return heard


def make_requests(
    pipe,
    entries: list,
    per_item: dict,
    seed,
    generator,
    per_prompt: int,
    single: bool,
    edits: list,
    prompts: list,
) -> list[Request]:
    """One request for each output, `per_prompt` for each prompt.

    Args:
        pipe: the pipeline.
        entries: of `read_prompts`.
        per_item: negative_prompt, loop and what `CONDITIONS`, `STRENGTHS` and `TONE` name; each for all prompts or a
            list for each.
        seed, generator: see `choose_seeds`.
        per_prompt: pieces of each prompt.
        edits: for each prompt what is to be done to given audio, or None.
        prompts: for each what was given.
        single: whether a list of chords is one progression for all rather than one for each prompt.

    Raises:
        ValueError: for any bad argument.
    """
    check_number("num_waveforms_per_prompt", per_prompt, 1, 1000, whole=True)
    count = len(entries)
    shared = {
        "chords": single,
        "guidance_interval": not is_list_of_pairs(per_item["guidance_interval"]),
    }
    columns = {name: spread(name, value, count, shared.get(name, False)) for name, value in per_item.items()}
    seeds = choose_seeds(seed, generator, count, per_prompt)
    rate, hop, requests = pipe.vae.config.sampling_rate, pipe.vae.hop_length, []
    for i, (starts, texts) in enumerate(entries):
        strengths, tone = ({name: columns[name][i] for name in names} for names in (STRENGTHS, TONE))
        loop = columns["loop"][i]
        check_flag("loop", loop)
        check_strengths(strengths)
        check_tone(tone, loop, pipe.config.max_duration_s)
        given, edit = {name: columns[name][i] for name in CONDITIONS}, edits[i]
        if edit is not None and loop:
            raise ValueError("loop and audio: give one of them; a loop is made from words and a grid")
        if edit is not None:
            given |= hear(edit, given, ". ".join(text for text in texts if text is not None))
        known = understand(
            ". ".join(text for text in texts if text is not None),
            **given,
            default_duration_s=pipe.config.default_duration_s,
            max_duration_s=pipe.config.max_duration_s,
            loop=loop,
        )
        samples = round(known["duration_s"] * rate)  # exact for bars: the duration is a fraction
        known["duration_s"] = samples / rate
        frames = -(-samples // hop)
        if loop:  # a whole number of frames, as near as can be; the decoded circle is then brought to its exact length
            frames = max(1, round(Fraction(samples, hop)))
            known["stretch"] = samples / (frames * hop)
        if not starts:
            weights = morph_weights(frames)
        else:
            starts_s = [read_start(start, known["bpm"], known["beats_per_bar"]) for start in starts]
            weights = timeline_weights(starts_s, frames, pipe.frame_rate, known["duration_s"])
        arguments = {name: column[i] for name, column in columns.items()}
        arguments["prompt"] = prompts[i]
        words, unwanted, unwanted_weights = keep_out(
            texts, weights, columns["negative_prompt"][i], pipe.config.captions_state_absence
        )
        for w in range(per_prompt):
            own = seeds[i * per_prompt + w]
            requests.append(
                Request(
                    words, weights, unwanted, unwanted_weights, known, samples, frames, own, strengths, tone, loop,
                    arguments, edit,
                )
            )  # fmt: skip
    return requests
