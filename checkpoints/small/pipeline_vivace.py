"""VivacePipeline: a prompt and a beat grid -> latents -> audio.

The text says what the music should sound like; the frame grid says when. For each latent frame the network is told
where in the beat and in the bar it stands and which chord sounds. The first half of this file turns tempo, meter, key,
chords and the words of the prompt into those numbers; training imports the same functions, so that both agree.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers.
"""

import inspect
import json
import math
import re
import shutil
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, ModelMixin, SchedulerMixin
from diffusers.utils import BaseOutput, logging
from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.get_logger(__name__)

FORMAT = 1  # of a checkpoint folder; a change that older code would misread raises it
GRID_CHANNELS = 22
BEAT_HARMONICS = (1, 2, 4)
PITCH_CLASSES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
KEYS = tuple(f"{note} {mode}" for note in PITCH_CLASSES for mode in ("major", "minor"))
BPM_RANGE = (20.0, 300.0)  # beats a minute
MIN_DURATION_S = 0.5
MAX_BEATS_PER_BAR = 15
MAX_TEXT_TOKENS = 64
NOISE_BLOCK = 16  # frames; torch's CPU normals begin alike at any length only in multiples of 16 values

NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"": 0, "#": 1, "\u266f": 1, "sharp": 1, "b": -1, "\u266d": -1, "flat": -1}
# Semitones above the root, and the names of such a chord.
CHORD_QUALITIES = {
    (0, 4, 7): ("", "maj", "M", "major"), (0, 3, 7): ("m", "min", "-", "minor"), (0, 7): ("5",),
    (0, 4, 7, 10): ("7", "dom7"), (0, 4, 7, 11): ("maj7", "M7", "Maj7"), (0, 3, 7, 10): ("m7", "min7", "-7"),
    (0, 3, 7, 11): ("mmaj7", "mM7", "m(maj7)"), (0, 3, 6): ("dim", "o"), (0, 3, 6, 9): ("dim7", "o7"),
    (0, 3, 6, 10): ("m7b5", "min7b5"), (0, 4, 8): ("aug", "+"), (0, 2, 7): ("sus2",), (0, 5, 7): ("sus4", "sus"),
    (0, 5, 7, 10): ("7sus4", "7sus"), (0, 4, 7, 9): ("6", "maj6"), (0, 3, 7, 9): ("m6", "min6"),
    (0, 2, 4, 7): ("add9",), (0, 2, 4, 7, 10): ("9",), (0, 2, 4, 7, 11): ("maj9", "M9"),
    (0, 2, 3, 7, 10): ("m9", "min9"),
}  # fmt: skip
QUALITY_INTERVALS = {name: intervals for intervals, names in CHORD_QUALITIES.items() for name in names}
NO_CHORD = ("N", "NC", "N.C.")
LOCAL_FACTS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")  # of the machine, not the model


# ---- numbers that condition the network ------------------------------------------------------------------------------


def frame_grid(
    num_frames: int,
    frame_rate: float,
    bpm: float | None = None,
    beats_per_bar: int | None = None,
    downbeat_s: float = 0.0,
    beat_chroma: np.ndarray | list | None = None,
    first_beat_s: float = 0.0,
) -> torch.Tensor:
    """What each latent frame is told: beat and bar phase, chord, and whether these are known.

    Channels: 0-5 sin, cos of 2 pi h beat_phase for h = 1, 2, 4; 6-7 sin, cos of 2 pi bar_phase; 8-19 chord chroma
    (0 or 1, C first); 20 grid known; 21 chord known. A group that is absent is zero.

    Args:
        num_frames: length of the grid.
        frame_rate: latent frames a second; frame i is centred at (i + 0.5) / frame_rate seconds.
        bpm: beats a minute, None = no grid.
        beats_per_bar: None = no bar phase.
        downbeat_s: time of a first beat of a bar, seconds; may lie outside the clip.
        beat_chroma: (beats, 12); row k sounds from first_beat_s + k * 60 / bpm for one beat; a row of zeros = unknown.
        first_beat_s: time of row 0 of `beat_chroma`, seconds.

    Returns:
        (22, num_frames) float32.
    """
    grid = np.zeros((GRID_CHANNELS, num_frames), dtype=np.float64)
    if bpm is None:
        return torch.from_numpy(grid).float()
    times = (np.arange(num_frames) + 0.5) / frame_rate  # seconds
    beats = (times - downbeat_s) * bpm / 60.0
    for row, harmonic in enumerate(BEAT_HARMONICS):
        angle = 2.0 * np.pi * ((harmonic * beats) % 1.0)
        grid[2 * row], grid[2 * row + 1] = np.sin(angle), np.cos(angle)
    if beats_per_bar is not None:
        angle = 2.0 * np.pi * ((beats / beats_per_bar) % 1.0)
        grid[6], grid[7] = np.sin(angle), np.cos(angle)
    grid[20] = 1.0
    if beat_chroma is not None and len(beat_chroma):
        chroma = np.asarray(beat_chroma, dtype=np.float64)  # (beats, 12)
        index = np.floor((times - first_beat_s) * bpm / 60.0).astype(int)
        inside = (index >= 0) & (index < len(chroma))
        grid[8:20, inside] = chroma[index[inside]].T
        grid[21] = grid[8:20].any(axis=0)
    return torch.from_numpy(grid).float()


def parse_note(letter: str, accidental: str) -> int:
    """Pitch class 0..11 (C = 0) of a letter and "#", "b", "sharp", "flat" or ""."""
    return (NATURALS[letter.upper()] + ACCIDENTALS[accidental.strip(" -").lower()]) % 12


def parse_key(text: str) -> str:
    """Name in `KEYS` of "A minor", "am", "C# major", "F sharp min", "Bb".

    Raises:
        ValueError: if it is no key.
    """
    match = re.fullmatch(
        r"\s*([A-Ga-g])([ -]?(?:sharp|flat)|[#b\u266f\u266d])?[ -]*(major|minor|maj|min|m|M)?\s*", str(text)
    )
    if match is None:
        raise ValueError(
            f"key is {text!r}; allowed: a note from A to G, optionally # or b, then major or minor, as in 'Bb major'"
        )
    letter, accidental, mode = match.groups()
    minor = mode in ("minor", "min", "m")
    return f"{PITCH_CLASSES[parse_note(letter, accidental or '')]} {'minor' if minor else 'major'}"


def parse_time_signature(text: str) -> int:
    """Beats in a bar: 4 for "4/4", 2 for "6/8", where the beat is the dotted quarter.

    Raises:
        ValueError: if it is no time signature.
    """
    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(2|4|8|16)\s*", str(text))
    upper = int(match[1]) if match else 0
    if upper and int(match[2]) >= 8 and upper > 3 and upper % 3 == 0:  # compound meter: three to the beat
        upper //= 3
    if not 1 <= upper <= MAX_BEATS_PER_BAR:
        raise ValueError(
            f"time_signature is {text!r}; allowed: at most {MAX_BEATS_PER_BAR} beats and a unit of 2, 4, 8 or 16, as "
            "in '4/4', '3/4' or '6/8'"
        )
    return upper


def parse_chord(symbol: str) -> np.ndarray:
    """Chroma (12,) of 0 and 1, C first, of "Am", "F#maj7", "C/G"; "N" (no chord) is all zero.

    Raises:
        ValueError: if it is no chord.
    """
    chroma = np.zeros(12)
    if symbol in NO_CHORD:
        return chroma
    match = re.fullmatch(r"([A-G])([#b\u266f\u266d]?)([^/]*)(?:/([A-G])([#b\u266f\u266d]?))?", symbol)
    if match is None or match[3] not in QUALITY_INTERVALS:
        raise ValueError(
            f"chords has {symbol!r}; allowed: a root from A to G, optionally # or b, a quality such as m, 7, maj7, m7, "
            "dim, aug, sus2, sus4, 6 or 9 and optionally a bass, as in 'Am', 'F#m7' or 'C/G'; N for none"
        )
    root = parse_note(match[1], match[2])
    chroma[[(root + interval) % 12 for interval in QUALITY_INTERVALS[match[3]]]] = 1.0
    if match[4]:
        chroma[parse_note(match[4], match[5])] = 1.0
    return chroma


def parse_chords(chords: str | list[str], beats_per_bar: int, num_beats: int) -> np.ndarray:
    """Chroma of each beat, (num_beats, 12), of a progression that starts on the first downbeat and repeats.

    Args:
        chords: "Am F C G" gives each chord one bar; "Am:2 F:2" counts beats. A list of symbols means the same.
        beats_per_bar: beats that a chord without a count lasts.
        num_beats: rows to make.

    Raises:
        ValueError: no chord, one that cannot be read, or a count that is not a whole number of beats from 1.
    """
    symbols = re.split(r"[\s,|]+", chords.strip(" ,|\t\n")) if isinstance(chords, str) else [str(c) for c in chords]
    rows = []
    for symbol in symbols:
        name, colon, count = symbol.strip().partition(":")
        if colon and not (count.isdigit() and 1 <= int(count) <= 1000):
            raise ValueError(f"chords has {symbol!r}; after the colon stands a whole number of beats, 1 to 1000")
        rows += [parse_chord(name)] * (int(count) if colon else beats_per_bar)
    if not rows:
        raise ValueError("chords is empty; give at least one chord, as in 'Am F C G', or None")
    return np.stack([rows[beat % len(rows)] for beat in range(num_beats)])


# ---- reading the prompt ----------------------------------------------------------------------------------------------

NUMBER_WORDS = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "sixteen",
]  # fmt: skip
NUMBERS = dict(zip(NUMBER_WORDS, [*range(1, 13), 16], strict=True))
COUNT = rf"(\d{{1,4}}|{'|'.join(NUMBER_WORDS)})"
DECIMAL = r"(\d+(?:\.\d+)?)"
BPM_PATTERNS = (
    rf"\b{DECIMAL}[\s-]*(?:bpm|beats (?:per|a) minute)\b",
    rf"\bbpm\s*(?:of|is|=|:)?\s*{DECIMAL}\b",
    rf"\b(?:tempo|metronome)\s*(?:of|is|on|at|=|:)?\s*{DECIMAL}\b",
)
KEY_PATTERN = re.compile(
    r"(?P<lead>\b(?:in|key of|key:)\s+(?:the key of\s+)?)?(?<![\w#'\u266f\u266d-])(?P<note>[A-Ga-g])"
    r"(?P<accidental>[ -](?:sharp|flat)\b|(?:sharp|flat)\b|[#b\u266f\u266d])?"
    r"(?:[ -]*(?P<mode>major|minor|maj|min)\b|(?P<m>m)\b)"
)
NOT_AN_ARTICLE = re.compile(r"\s*(?:$|[.,;:!?()\d/-]|(?:at|with|and|for|on|key|scale|tonality|mode)\b)")


def read_key(prompt: str) -> str | None:
    """The first key in a prompt; "a minor detail" and "A major hit" hold none.

    A lower-case a, or an A that begins a sentence, may be an article: it is a note only when what follows the mode is
    no noun (the end, punctuation, a number, "at", "with", ...), and a lower-case a also needs "in" or "key of" before.
    "Am" is a key only after "in" or "key of"; elsewhere it is a chord.
    """
    for match in KEY_PATTERN.finditer(prompt):
        lead, note, accidental = match["lead"], match["note"], match["accidental"]
        if match["m"] and not lead:
            continue
        if note in "Aa" and not accidental and not match["m"]:
            starts_sentence = re.search(r"(?:^|[.!?])\s*$", prompt[: match.start()]) is not None
            if (note == "a" or (starts_sentence and not lead)) and not NOT_AN_ARTICLE.match(prompt[match.end() :]):
                continue
            if note == "a" and not lead:
                continue
        return parse_key(f"{note}{accidental or ''} {match['mode'] or 'minor'}")
    return None


def read_prompt(prompt: str) -> dict[str, float | int | str | None]:
    """Tempo, key, meter and length that a prompt spells out; what it does not say is None.

    Returns:
        `bpm` (beats a minute), `key` (a name in `KEYS`), `time_signature` ("3/4"), `bars` and `duration_s`. Numbers
        are returned as written and not checked.
    """
    text = prompt.lower()
    bpm = next((match for match in (re.search(pattern, text) for pattern in BPM_PATTERNS) if match), None)
    meter = re.search(r"(?<![\d/])(\d{1,2})/(2|4|8|16)(?![\d/])", text)
    bars = re.search(rf"\b{COUNT}[\s-]*(?:bars?|measures?)\b(?![\s-]*blues)", text)  # "12-bar blues" is a form
    seconds = re.search(rf"\b{DECIMAL}[\s-]*(?:seconds?|secs?)\b", text)
    # "30s" is a length, "80s synth pop" and "the 30s" are decades.
    short = re.search(r"(?<!the )(?<![\w.'])(\d{1,2}|[1-5]\d\d)s(?=\s*(?:$|[.,;)]|long\b|loop\b|clip\b))", text)
    minutes = re.search(rf"\b{DECIMAL}[\s-]*(?:minutes?|mins?)\b", text)
    duration_s = None
    if seconds:
        duration_s = float(seconds[1])
    elif short and int(short[1]) not in (50, 60, 70, 80, 90):
        duration_s = float(short[1])
    elif minutes:
        duration_s = 60.0 * float(minutes[1])
    bpm_value = None if bpm is None else float(bpm[1])
    return {
        "bpm": int(bpm_value) if bpm_value is not None and bpm_value.is_integer() else bpm_value,
        "key": read_key(prompt),
        "time_signature": meter and meter[0],
        "bars": bars and (int(bars[1]) if bars[1].isdigit() else NUMBERS[bars[1]]),
        "duration_s": duration_s,
    }


def check_number(name: str, value: float, low: float, high: float, unit: str = "", whole: bool = False) -> None:
    """Raise a ValueError unless `value` is a number in [low, high], and a whole one if asked."""
    number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not number or not low <= value <= high or (whole and value != int(value)):
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(f"{name} is {value}; allowed: {kind} from {low:g} to {high:g}{unit and ' ' + unit}")


def understand(
    prompt: str | None,
    bpm: float | None,
    key: str | None,
    time_signature: str | None,
    bars: int | None,
    duration_s: float | None,
    chords: str | list[str] | None,
    default_duration_s: float,
    max_duration_s: float,
) -> dict:
    """The conditions of one item: the arguments, and what the prompt says where an argument is None.

    Returns:
        `bpm`, `key`, `time_signature`, `beats_per_bar`, `bars`, `duration_s` (a float, or a Fraction where bars and
        tempo fix it), `chords`; None = unknown, but for `duration_s`.

    Raises:
        ValueError: a value out of range or unreadable, bars or chords without a tempo, or two lengths that differ.
    """
    read = read_prompt(prompt or "")
    bpm = read["bpm"] if bpm is None else bpm
    key = read["key"] if key is None else parse_key(key)
    time_signature = read["time_signature"] if time_signature is None else str(time_signature).replace(" ", "")
    if bpm is not None:
        check_number("bpm", bpm, *BPM_RANGE, "beats a minute")
        time_signature = "4/4" if time_signature is None else time_signature
    beats_per_bar = None if time_signature is None else parse_time_signature(time_signature)
    if bars is None and duration_s is None:
        bars = read["bars"]
        duration_s = read["duration_s"] if bars is None else None
    if bars is not None:
        check_number("bars", bars, 1, 10000, whole=True)
        if bpm is None:
            raise ValueError(f"bars is {bars} and needs a tempo: give bpm, or write it in the prompt, as in '90 bpm'")
        exact = Fraction(int(bars) * beats_per_bar * 60) / Fraction(str(bpm))
        if duration_s is not None and abs(float(exact) - duration_s) > 1e-3:
            raise ValueError(
                f"duration_s is {duration_s}, but {int(bars)} bars of {time_signature} at {bpm:g} bpm last "
                f"{float(exact):.3f} s; give one of them, or equal lengths"
            )
        duration_s, bars, name = exact, int(bars), f"duration_s ({int(bars)} bars at {bpm:g} bpm)"
        check_number(name, round(float(exact), 3), MIN_DURATION_S, max_duration_s, "s")
    else:
        duration_s = default_duration_s if duration_s is None else duration_s
        check_number("duration_s", duration_s, MIN_DURATION_S, max_duration_s, "s")
    if chords is not None:
        if bpm is None:
            raise ValueError(f"chords is {chords!r} and needs a tempo: give bpm, or write it in the prompt")
        parse_chords(chords, beats_per_bar, 1)
        chords = chords if isinstance(chords, str) else " ".join(chords)
    return {
        "bpm": bpm,
        "key": key,
        "time_signature": time_signature,
        "beats_per_bar": beats_per_bar,
        "bars": bars,
        "duration_s": duration_s,
        "chords": chords,
    }


def frame_noise(seed: int, num_frames: int, channels: int) -> tuple[torch.Tensor, torch.Generator]:
    """Normal noise (channels, num_frames) of a seed, drawn on the CPU frame by frame, and the generator after it.

    A longer request begins with the noise of a shorter one, and the same seed gives the same noise in any batch.
    """
    generator = torch.Generator().manual_seed(seed)
    blocks = -(-num_frames // NOISE_BLOCK)
    noise = torch.randn((blocks * NOISE_BLOCK, channels), generator=generator, dtype=torch.float32)
    return noise[:num_frames].T.contiguous(), generator


# ---- the pipeline ----------------------------------------------------------------------------------------------------


@dataclass
class VivacePipelineOutput(BaseOutput):
    """Result of `VivacePipeline`.

    Attributes:
        audios: (batch, channels, samples) float32 in [-1, 1], numpy or torch; a list of (channels, samples) if the
            items differ in length; standardised latents (batch, latent_channels, frames) for `output_type="latent"`.
        sampling_rate: Hz.
        seeds: one per item; each gives its item again.
        conditions: one dict per item, what was understood: bpm, key, time_signature, bars, duration_s, chords.
    """

    audios: np.ndarray | torch.Tensor | list
    sampling_rate: int
    seeds: list[int]
    conditions: list[dict]


class VivacePipeline(DiffusionPipeline):
    """Text, tempo, meter, key and chords to music.

    Args:
        vae: autoencoder with `encode(audio).latent_dist`, `decode(latents).sample`, `hop_length`, and in its config
            `sampling_rate`, `latent_channels`, `latents_mean` and `latents_std`.
        unet: `UNet1DConditionModel`.
        text_encoder: any transformers encoder that gives `last_hidden_state`; may be None beside `prompt_embeds`.
        tokenizer: of that encoder.
        scheduler: the one that the UNet was trained for, or one of the same process.
        default_num_inference_steps, default_guidance_scale, default_duration_s: used where a call does not say.
        max_duration_s: longest request, seconds.
        vivace_format: version of the checkpoint folder.

    Raises:
        ValueError: if the checkpoint has another format than this code reads.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"
    _optional_components = ["text_encoder", "tokenizer"]  # noqa: RUF012 (read by diffusers as a plain list)
    _callback_tensor_inputs = ["latents", "prompt_embeds"]  # noqa: RUF012

    def __init__(
        self,
        vae: ModelMixin,
        unet: ModelMixin,
        text_encoder: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        scheduler: SchedulerMixin,
        default_num_inference_steps: int = 32,
        default_guidance_scale: float = 3.0,
        default_duration_s: float = 10.0,
        max_duration_s: float = 600.0,
        vivace_format: int = FORMAT,
    ):
        super().__init__()
        if vivace_format != FORMAT:
            raise ValueError(f"vivace_format of the checkpoint is {vivace_format}; this code reads {FORMAT}")
        self.register_modules(vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler)
        self.register_to_config(
            default_num_inference_steps=default_num_inference_steps,
            default_guidance_scale=default_guidance_scale,
            default_duration_s=default_duration_s,
            max_duration_s=max_duration_s,
            vivace_format=vivace_format,
        )
        self._guidance_scale = default_guidance_scale
        self._num_timesteps = 0
        self._interrupt = False

    @property
    def frame_rate(self) -> float:
        """Latent frames a second."""
        return self.vae.config.sampling_rate / self.vae.hop_length

    @property
    def guidance_scale(self) -> float:
        return self._guidance_scale

    @property
    def do_classifier_free_guidance(self) -> bool:
        return self._guidance_scale > 1.0

    @property
    def num_timesteps(self) -> int:
        return self._num_timesteps

    @property
    def interrupt(self) -> bool:
        return self._interrupt

    def encode_prompt(self, prompts: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Text states (batch, tokens, dim) and which of them are text (batch, tokens) bool.

        Raises:
            ValueError: if the pipeline was loaded without its text encoder.
        """
        if self.text_encoder is None or self.tokenizer is None:
            raise ValueError("prompt needs a text_encoder and a tokenizer; this pipeline has none, give prompt_embeds")
        limit = min(self.tokenizer.model_max_length, MAX_TEXT_TOKENS)
        inputs = self.tokenizer(prompts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
        if any(len(ids) > limit for ids in self.tokenizer(prompts, verbose=False).input_ids):
            logger.warning(f"prompt is cut to its first {limit} tokens")
        mask = inputs.attention_mask.to(device)
        states = self.text_encoder(input_ids=inputs.input_ids.to(device), attention_mask=mask).last_hidden_state
        return states, mask.bool()

    def save_config(self, save_directory: str | Path) -> None:
        """Write model_index.json and, beside it, the code of the pipeline and of each component that is ours.

        `save_pretrained` and `push_to_hub` call this after the components are written, so what they make loads with
        `DiffusionPipeline.from_pretrained(..., trust_remote_code=True)` where this project is not installed.
        """
        super().save_config(save_directory)
        folder = Path(save_directory)

        def ship(kind: type, target: Path) -> list[str]:
            source = Path(inspect.getsourcefile(kind))
            if source.resolve() != (target / source.name).resolve():
                shutil.copyfile(source, target / source.name)
            return [source.stem, kind.__name__]

        index = json.loads((folder / self.config_name).read_text())
        index["_class_name"] = ship(type(self), folder)
        stem, name = index["_class_name"]
        (folder / "pipeline.py").write_text(f"from .{stem} import {name}\n")  # read by custom_pipeline="user/name"
        for part, component in self.components.items():
            kind = type(getattr(component, "_orig_mod", component))  # a compiled module wraps the original
            if component is not None and kind.__module__.split(".")[0] not in ("diffusers", "transformers"):
                index[part] = ship(kind, folder / part)
            if index[part] == ["transformers", "TokenizersBackend"]:  # transformers' new name for the same class
                index[part][1] = "PreTrainedTokenizerFast"
        (folder / self.config_name).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
        for path in (folder / self.config_name, *folder.glob("*/*config.json")):  # no path of this machine goes out
            values = json.loads(path.read_text())
            kept = {k: v for k, v in values.items() if k not in LOCAL_FACTS}
            if len(kept) < len(values):
                path.write_text(json.dumps(kept, indent=2) + "\n")

    def _requests(self, prompt, prompt_embeds, per_item: dict, seed, generator, per_prompt: int) -> list[dict]:
        """One dict per output: its prompt, conditions, sizes and seed. Raises a ValueError for any bad argument."""
        if (prompt is None) == (prompt_embeds is None):
            raise ValueError("prompt and prompt_embeds: give exactly one of them")
        single = prompt is None or isinstance(prompt, str)
        prompts = [prompt] if single else list(prompt)
        if prompt is None:
            prompts = [None] * prompt_embeds.shape[0]
        if not prompts:
            raise ValueError("prompt is an empty list; give at least one text")
        for text in prompts:
            if prompt is not None and (not isinstance(text, str) or not text.strip()):
                raise ValueError(f"prompt is {text!r}; give a text that is not empty")
        check_number("num_waveforms_per_prompt", per_prompt, 1, 1000, whole=True)

        def spread(name, value, count):
            listed = isinstance(value, (list, tuple, np.ndarray)) and not (name == "chords" and single)
            if listed and len(value) != count:
                raise ValueError(f"{name} has {len(value)} entries for {count} prompts; give one for each or for all")
            return list(value) if listed else [value] * count

        columns = {name: spread(name, value, len(prompts)) for name, value in per_item.items()}
        total = len(prompts) * per_prompt
        seeds = self._seeds(seed, generator, len(prompts), per_prompt, total)
        rate, hop = self.vae.config.sampling_rate, self.vae.hop_length
        requests = []
        for i, text in enumerate(prompts):
            known = understand(
                text,
                **{name: column[i] for name, column in columns.items() if name != "negative_prompt"},
                default_duration_s=self.config.default_duration_s,
                max_duration_s=self.config.max_duration_s,
            )
            samples = round(known["duration_s"] * rate)  # exact for bars: the duration is a fraction
            known["duration_s"] = samples / rate
            item = {"text": text, "negative": columns["negative_prompt"][i], "known": known}
            item |= {"samples": samples, "frames": -(-samples // hop)}
            requests += [{**item, "seed": seeds[i * per_prompt + w]} for w in range(per_prompt)]
        return requests

    def _seeds(self, seed, generator, prompts: int, per_prompt: int, total: int) -> list[int]:
        """One seed per output, from `seed` or `generator` (one or a list), else from torch's global generator."""
        if seed is not None and generator is not None:
            raise ValueError("seed and generator: give at most one of them")
        if seed is None:
            many = isinstance(generator, (list, tuple))
            if many and len(generator) != total:
                raise ValueError(
                    f"generator has {len(generator)} entries for {total} outputs; give one or one for each"
                )
            sources = generator if many else [generator] * total
            return [
                int(torch.randint(2**31, (1,), generator=source, device=None if source is None else source.device))
                for source in sources
            ]
        given = list(seed) if isinstance(seed, (list, tuple, np.ndarray)) else [seed] * prompts
        for value in given:
            check_number("seed", value, 0, 2**62, whole=True)
        if len(given) == prompts:
            return [int(value) + w for value in given for w in range(per_prompt)]
        if len(given) != total:
            raise ValueError(f"seed has {len(given)} entries for {total} outputs; give one for each, or one")
        return [int(value) for value in given]

    def _text(self, requests: list[dict], per_prompt: int, embeds: tuple, negative_embeds: tuple, device) -> tuple:
        """States (2 * batch, tokens, dim) and masks (2 * batch, tokens) of the wanted texts, then of the unwanted."""
        wanted, unwanted = [item["text"] for item in requests], [item["negative"] for item in requests]
        texts = list(dict.fromkeys(text for text in wanted + unwanted if text is not None and text.strip()))
        encoded = self.encode_prompt(texts, device) if texts else None

        def branch(names: list[str | None], given: tuple, argument: str) -> tuple[torch.Tensor, torch.Tensor]:
            states, mask = given
            if states is not None:
                mask = torch.ones(states.shape[:2], dtype=torch.bool) if mask is None else mask.bool()
                if states.ndim != 3 or mask.shape != states.shape[:2] or len(states) * per_prompt != len(names):
                    raise ValueError(
                        f"{argument} has shape {tuple(states.shape)} and a mask of {tuple(mask.shape)}; needed: "
                        f"(prompts, tokens, dim) and (prompts, tokens) for {len(names) // per_prompt} prompts"
                    )
                return states.to(device).repeat_interleave(per_prompt, 0), mask.to(device).repeat_interleave(
                    per_prompt, 0
                )
            if encoded is None:  # no text at all, and nothing to learn its width from but the network
                width = self.unet.config.cross_attention_dim
                no_text = torch.zeros(len(names), 1, width, device=device)
                return no_text, torch.zeros(len(names), 1, dtype=torch.bool, device=device)
            rows = [texts.index(name) if name in texts else None for name in names]
            present = torch.tensor([row is not None for row in rows], device=device)
            rows = [row or 0 for row in rows]
            return encoded[0][rows], encoded[1][rows] & present[:, None]

        branches = branch(wanted, embeds, "prompt_embeds"), branch(unwanted, negative_embeds, "negative_prompt_embeds")
        tokens = max(mask.shape[1] for _, mask in branches)
        pad = torch.nn.functional.pad
        states = [pad(states.to(self.unet.dtype), (0, 0, 0, tokens - states.shape[1])) for states, _ in branches]
        return torch.cat(states), torch.cat([pad(mask, (0, tokens - mask.shape[1])) for _, mask in branches])

    def _conditions(self, requests: list[dict], states: torch.Tensor, mask: torch.Tensor, device) -> dict:
        """Arguments of the network for twice the batch: what is asked for, then the unconditional half.

        The unconditional half has the negative text, or none, and no tempo, key, meter, length or grid, so that
        guidance strengthens whatever was asked for.
        """
        batch, frames = len(requests), max(item["frames"] for item in requests)
        frame_cond = torch.zeros(2 * batch, GRID_CHANNELS + 1 + self.vae.config.latent_channels, frames)
        frame_cond[:, GRID_CHANNELS] = 1.0  # every frame is to be generated; the latents of given frames follow
        scalars = {
            "duration_s": torch.full((2 * batch,), math.nan),
            "bpm": torch.full((2 * batch,), math.nan),
            "key": torch.full((2 * batch,), -1),
            "beats_per_bar": torch.full((2 * batch,), -1),
        }
        for row, item in enumerate(requests):
            known, chroma = item["known"], None
            bpm, beats = known["bpm"], known["beats_per_bar"]
            scalars["duration_s"][row] = item["frames"] / self.frame_rate
            if known["key"] is not None:
                scalars["key"][row] = KEYS.index(known["key"])
            if beats is not None:
                scalars["beats_per_bar"][row] = beats
            if bpm is not None:
                scalars["bpm"][row] = float(bpm)
                if known["chords"] is not None:
                    chroma = parse_chords(known["chords"], beats, math.ceil(known["duration_s"] * bpm / 60.0) + 1)
                grid = frame_grid(item["frames"], self.frame_rate, bpm, beats, beat_chroma=chroma)
                frame_cond[row, :GRID_CHANNELS, : item["frames"]] = grid
        return {
            "encoder_hidden_states": states,
            "encoder_attention_mask": mask,
            "frame_cond": frame_cond.to(device) if self.unet.config.frame_cond_channels else None,
            "added_cond_kwargs": {name: values.to(device) for name, values in scalars.items()},
        }

    def _predict(self, latents, timestep, conditions: dict, frame_mask, guided: bool, rescale: float) -> torch.Tensor:
        """Prediction of the network, (batch, latent_channels, frames) fp32, in one pass of once or twice the batch.

        Guidance: Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598). Rescale: Lin et al. 2023, section 3.4
        (https://arxiv.org/abs/2305.08891), over the frames of each item.
        """
        copies = 2 if guided else 1
        rows = copies * latents.shape[0]
        scalars = {name: values[:rows] for name, values in conditions["added_cond_kwargs"].items()}
        frame_cond = conditions["frame_cond"]
        prediction = self.unet(
            torch.cat([latents.to(self.unet.dtype)] * copies),
            timestep.float().expand(rows),
            encoder_hidden_states=conditions["encoder_hidden_states"][:rows],
            encoder_attention_mask=conditions["encoder_attention_mask"][:rows],
            frame_cond=None if frame_cond is None else frame_cond[:rows],
            added_cond_kwargs=scalars,
            frame_mask=None if frame_mask is None else torch.cat([frame_mask] * copies),
            return_dict=False,
        )[0].float()
        if not guided:
            return prediction
        conditional, unconditional = prediction.chunk(2)
        prediction = unconditional + self._guidance_scale * (conditional - unconditional)
        if rescale > 0.0:  # padding frames are zero in both, so they do not enter the ratio
            ratio = conditional.square().sum((1, 2)) / prediction.square().sum((1, 2)).clamp_min(1e-12)
            prediction = prediction * (rescale * ratio.sqrt() + 1.0 - rescale)[:, None, None]
        return prediction

    def _decode(self, latents: torch.Tensor, requests: list[dict]) -> list[torch.Tensor]:
        """Standardised latents -> one (channels, samples) fp32 per item, cut to its length, its peak at most 1.

        One item at a time: memory stays that of one, and neighbours cannot change a sample.
        """
        config, audios = self.vae.config, []
        for item, latent in zip(requests, latents, strict=True):
            latent = latent[None, :, : item["frames"]]
            if config.latents_mean is not None and config.latents_std is not None:
                mean, std = (latent.new_tensor(v)[:, None] for v in (config.latents_mean, config.latents_std))
                latent = latent * std + mean
            audio = self.vae.decode(latent.to(self.vae.dtype)).sample[0, :, : item["samples"]].float()
            audios.append(audio / audio.abs().max().clamp_min(1.0))
        return audios

    def _set_timesteps(self, num_inference_steps: int, device: torch.device) -> torch.Tensor:
        if isinstance(self.scheduler, FlowMatchEulerDiscreteScheduler):
            # Equal steps from noise (1) to data (0); the scheduler's own grid spends its last step below 1 / 1000.
            sigmas = np.linspace(1.0, 1.0 / num_inference_steps, num_inference_steps)
            self.scheduler.set_timesteps(sigmas=sigmas.tolist(), device=device)
        else:
            self.scheduler.set_timesteps(num_inference_steps, device=device)
        self._num_timesteps = len(self.scheduler.timesteps)
        return self.scheduler.timesteps

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        negative_prompt: str | list[str] | None = None,
        duration_s: float | list[float] | None = None,
        bars: int | list[int] | None = None,
        bpm: float | list[float] | None = None,
        time_signature: str | list[str] | None = None,
        key: str | list[str] | None = None,
        chords: str | list[str] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        num_waveforms_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        seed: int | list[int] | None = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        prompt_attention_mask: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        loop: bool = False,
        audio: np.ndarray | torch.Tensor | None = None,
        strength: float | None = None,
        mask_s: list[tuple[float, float]] | None = None,
        output_type: str = "np",
        return_dict: bool = True,
        callback_on_step_end=None,
        callback_on_step_end_tensor_inputs: list[str] | tuple[str, ...] = ("latents",),
    ) -> VivacePipelineOutput | tuple:
        """Make music.

        Tempo, key, meter and length that the prompt spells out are used unless given as arguments. Arguments from
        `negative_prompt` to `chords` hold for all prompts, or are lists with one entry per prompt.

        Args:
            prompt: what it should sound like.
            negative_prompt: what it should not sound like; has an effect where guidance is on.
            duration_s: length in seconds, 0.5 up to the checkpoint's `max_duration_s`.
            bars: length in bars, exact to the sample; needs a tempo.
            bpm: beats a minute, 20 to 300; None = as the music likes.
            time_signature: "4/4" (taken where there is a tempo), "3/4", "6/8" (two dotted beats), ...
            key: "A minor", "Bb major".
            chords: "Am F C G", each one bar, or "Am:2 F:2" with beats, repeated to the end; for a single prompt also
                a list of symbols. Needs a tempo.
            num_inference_steps, guidance_scale: None = the checkpoint's. Up to 1, guidance is off and a step costs one
                pass. Guidance strengthens everything asked for: text, tempo, key, meter and chords.
            guidance_rescale: 0 to 1, brings the level of the guided prediction back to the unguided one.
            guidance_interval: noise levels (0 = data, 1 = noise) between which guidance is on.
            num_waveforms_per_prompt: pieces of each prompt, with the seeds seed, seed + 1, ...
            generator: seeds are drawn from it (or from one per piece); `seed` is the simpler way.
            seed: one for all prompts, one per prompt or one per piece; None = at random, told in the output.
            latents: noise to start from, (pieces, latent_channels, frames of the longest piece).
            prompt_embeds, prompt_attention_mask: text states in place of `prompt`, (prompts, tokens, dim) and
                (prompts, tokens); likewise `negative_prompt_embeds`, `negative_prompt_attention_mask`.
            loop, audio, strength, mask_s: of editing, which is not available yet.
            output_type: "np", "pt" or "latent".
            return_dict: whether to return a `VivacePipelineOutput` or its values as a tuple.
            callback_on_step_end: called as f(pipe, step, timestep, tensors) after each step; may return tensors to
                replace. Setting `pipe._interrupt = True` in it ends the loop.
            callback_on_step_end_tensor_inputs: which of "latents" and "prompt_embeds" (both halves) it is given.

        Raises:
            ValueError: one line that names the argument, its value and what is allowed.
        """
        editing = {"loop": loop or None, "audio": audio, "strength": strength, "mask_s": mask_s}
        for name, value in editing.items():
            if value is not None:
                raise ValueError(f"{name} is not available yet: this version generates from text, tempo and chords")
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps
        self._guidance_scale = self.config.default_guidance_scale if guidance_scale is None else guidance_scale
        check_number("num_inference_steps", num_inference_steps, 1, 1000, whole=True)
        check_number("guidance_scale", self._guidance_scale, 0, 100)
        check_number("guidance_rescale", guidance_rescale, 0, 1)
        if len(guidance_interval) != 2 or not 0 <= guidance_interval[0] <= guidance_interval[1] <= 1:
            raise ValueError(f"guidance_interval is {guidance_interval}; allowed: 0 <= low <= high <= 1")
        if output_type not in ("np", "pt", "latent"):
            raise ValueError(f"output_type is {output_type!r}; allowed: 'np', 'pt', 'latent'")
        unknown = set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs)
        if unknown:
            allowed = ", ".join(self._callback_tensor_inputs)
            raise ValueError(f"callback_on_step_end_tensor_inputs has {', '.join(unknown)}; allowed: {allowed}")
        per_item = {"negative_prompt": negative_prompt, "duration_s": duration_s, "bars": bars, "bpm": bpm}
        per_item |= {"time_signature": time_signature, "key": key, "chords": chords}
        requests = self._requests(prompt, prompt_embeds, per_item, seed, generator, num_waveforms_per_prompt)
        lengths = [item["frames"] for item in requests]
        shape = (len(requests), self.vae.config.latent_channels, max(lengths))
        if latents is not None and tuple(latents.shape) != shape:
            raise ValueError(f"latents has shape {tuple(latents.shape)}; needed for this request: {shape}")

        self._interrupt = False
        device = self._execution_device
        try:
            positive = (prompt_embeds, prompt_attention_mask)
            negative = (negative_prompt_embeds, negative_prompt_attention_mask)
            states, mask = self._text(requests, num_waveforms_per_prompt, positive, negative, device)
            conditions = self._conditions(requests, states, mask, device)
            visible = torch.arange(shape[2]) < torch.tensor(lengths)[:, None]  # (batch, frames)
            frame_mask = None if visible.all() else visible.to(device)

            noise, generators = torch.zeros(shape), []
            for row, item in enumerate(requests):
                own, source = frame_noise(item["seed"], item["frames"], shape[1])
                noise[row, :, : item["frames"]] = own
                generators.append(source)
            latents = (noise if latents is None else latents.float()).to(device)
            latents = latents * getattr(self.scheduler, "init_noise_sigma", 1.0)

            timesteps = self._set_timesteps(int(num_inference_steps), device)
            takes_generator = "generator" in inspect.signature(self.scheduler.step).parameters
            step_kwargs = {"generator": generators} if takes_generator else {}
            with self.progress_bar(total=len(timesteps)) as progress:
                for step, timestep in enumerate(timesteps):
                    if self._interrupt:
                        break
                    level = float(timestep) / self.scheduler.config.num_train_timesteps
                    guided = self.do_classifier_free_guidance
                    guided = guided and guidance_interval[0] <= level <= guidance_interval[1]
                    inputs = latents
                    if hasattr(self.scheduler, "scale_model_input"):
                        inputs = self.scheduler.scale_model_input(latents, timestep)
                    prediction = self._predict(inputs, timestep, conditions, frame_mask, guided, guidance_rescale)
                    latents = self.scheduler.step(prediction, timestep, latents, **step_kwargs, return_dict=False)[0]
                    if callback_on_step_end is not None:
                        known = {"latents": latents, "prompt_embeds": conditions["encoder_hidden_states"]}
                        tensors = {name: known[name] for name in callback_on_step_end_tensor_inputs}
                        known |= callback_on_step_end(self, step, timestep, tensors) or {}
                        latents, conditions["encoder_hidden_states"] = known["latents"], known["prompt_embeds"]
                    progress.update()
            if not torch.isfinite(latents).all():
                raise ValueError(
                    f"the network gave values that are not finite (guidance_scale {self._guidance_scale:g}, "
                    f"{self.unet.dtype}); lower guidance_scale or load with dtype=torch.float32"
                )
            audios = latents
            if output_type != "latent":
                audios = self._decode(latents, requests)
                if output_type == "np":
                    audios = [item.cpu().numpy() for item in audios]
                if len({item["samples"] for item in requests}) == 1:
                    audios = np.stack(audios) if output_type == "np" else torch.stack(audios)
        finally:
            self.maybe_free_model_hooks()
        public = ("bpm", "key", "time_signature", "bars", "duration_s", "chords")
        output = VivacePipelineOutput(
            audios=audios,
            sampling_rate=self.vae.config.sampling_rate,
            seeds=[item["seed"] for item in requests],
            conditions=[{name: item["known"][name] for name in public} for item in requests],
        )
        return output if return_dict else output.to_tuple()
