"""What the fields or a client ask for -> arguments of the pipeline, within the limits of a page that many share."""

import math
import re

from pipelines.pipeline_vivace import check_number, parse_key, read_prompt, understand

MAX_PROMPT = 2000  # characters
MAX_SECONDS = 120.0  # of one piece
MAX_VARIATIONS = 4
MAX_STEPS = 100
MAX_SEED = 2**31 - 1
TEXTS = ("prompt", "negative_prompt", "key", "time_signature", "chords")
CONDITIONS = ("bpm", "key", "time_signature", "bars", "duration_s", "chords")
EDIT = ("audio", "strength", "mask_s", "extend_s", "downbeat_s")
SHORT = 60  # characters of a value in a message


def shown(value: object) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}... ({len(text)} characters)"


def check_text(name: str, value: object) -> str | None:
    """A text without what is not printed, or None for an empty one.

    Raises:
        ValueError: no text, or one that is too long.
    """
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > MAX_PROMPT:
        raise ValueError(f"{name} is {shown(value)}; allowed: a text of up to {MAX_PROMPT} characters")
    return " ".join("".join(c for c in value if c.isprintable() or c.isspace()).split()) or None


def check_seed(seed: object) -> int | None:
    """A seed, None for one at random; -1 also means at random."""
    if seed is None or seed == -1:
        return None
    check_number("seed", seed, 0, MAX_SEED, whole=True)
    return int(seed)


def pipeline_arguments(values: dict, config) -> dict:
    """Arguments for one prompt; those that are None or an empty text are left to the pipeline.

    Args:
        values: by the names of the pipeline's arguments.
        config: of the pipeline.

    Raises:
        ValueError: one line that names the argument, its value and what is allowed.
    """
    values = {name: None if isinstance(value, str) and not value else value for name, value in values.items()}
    out = {name: check_text(name, values.get(name)) for name in TEXTS}
    if out["prompt"] is None:
        raise ValueError("prompt is empty; say what the music should sound like, as in 'slow solo piano'")
    for name in ("bpm", "duration_s", "guidance_scale", "grid_guidance_scale", "tilt_db", "downbeat_s"):
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise ValueError(f"{name} is {shown(value)}; allowed: a number")
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{name} is {value}; allowed: a finite number")
        out[name] = value
    for name, low, high in (
        ("bars", 1, 1000),
        ("num_waveforms_per_prompt", 1, MAX_VARIATIONS),
        ("num_inference_steps", 1, MAX_STEPS),
    ):
        if values.get(name) is not None:
            check_number(name, values[name], low, high, whole=True)
            out[name] = int(values[name])
    out["seed"] = check_seed(values.get("seed"))
    for name in ("loop", "normalize"):
        if values.get(name) is not None:
            if not isinstance(values[name], bool):
                raise ValueError(f"{name} is {shown(values[name])}; allowed: true or false")
            out[name] = values[name]
    out |= {name: values[name] for name in EDIT if values.get(name) is not None}
    if out.get("audio") is None:
        understand(
            out["prompt"],
            **{name: out.get(name) for name in (*CONDITIONS, "downbeat_s")},
            default_duration_s=config.default_duration_s,
            max_duration_s=min(config.max_duration_s, MAX_SECONDS),
            loop=out.get("loop"),
        )
    return {name: value for name, value in out.items() if value is not None}


def overridden(arguments: dict) -> str:
    """Where an argument contradicts what the prompt says, one line that tells which of them counts; "" elsewhere."""
    read, differences = read_prompt(arguments["prompt"]), []

    def differ(name: str, words: object) -> bool:
        value = arguments.get(name)
        if value is None or words is None:
            return False
        return parse_key(value) != parse_key(words) if name == "key" else value != words

    for name, unit in (("bpm", " bpm"), ("key", ""), ("time_signature", "")):
        if differ(name, read[name]):
            differences.append(f"{arguments[name]}{unit}, not {read[name]}{unit}")
    lengths = {"bars": "{:g} bars", "duration_s": "{:g} s"}
    field = next((name for name in lengths if arguments.get(name) is not None), None)
    stated = next((name for name in lengths if read[name] is not None), None)
    if field and stated and (field != stated or differ(field, read[stated])):
        differences.append(f"{lengths[field].format(arguments[field])}, not {lengths[stated].format(read[stated])}")
    return f"The fields count before the words: {'; '.join(differences)}" if differences else ""


def file_name(title: str, seed: int | None, taken: object = ()) -> str:
    """A name for a downloaded file that every system takes: words of the title and the seed."""
    words = re.findall(r"[a-z0-9]+", title.lower())[:6] or ["piece"]
    stem = "-".join(words)[:60] + ("" if seed is None else f"-{seed}")
    name, count = stem, 1
    while name in taken:
        count += 1
        name = f"{stem}-{count}"
    return name
