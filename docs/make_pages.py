"""Writes the two pages that are made from the code: docs/reference.md and docs/styles-and-instruments.md.

python docs/make_pages.py        # or `make docs`; a test fails while a page differs from the code
"""

import inspect
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from autoencoder.autoencoder_vivace import AutoencoderVivace  # noqa: E402
from pipelines.pipeline_vivace import VivacePipeline, VivacePipelineOutput  # noqa: E402
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel  # noqa: E402
from training.data.scorebook.arrange import ENSEMBLES  # noqa: E402
from training.data.scorebook.instruments import DRUM_WORDS, INSTRUMENTS  # noqa: E402
from training.data.scorebook.styles import STYLES  # noqa: E402

NOTE = "<!-- Made by `make docs` (docs/make_pages.py) from the code; edit the docstrings, not this page. -->\n"
METHODS = (
    "replay", "stream", "compose", "rewrite", "jam", "encode_audio", "save_pretrained", "push_to_hub", "from_pipe",
    "load_lora_weights", "set_adapters", "fuse_lora", "unfuse_lora", "unload_lora_weights", "save_lora_weights",
    "enable_vae_tiling", "disable_vae_tiling", "enable_guidance_slicing", "disable_guidance_slicing",
)  # fmt: skip
SECTION = re.compile(r"(Args|Returns|Raises|Attributes|Yields):")


def sections(docstring: str | None) -> dict[str, str]:
    """A docstring in Google's style -> its parts: "" is the text before the first heading."""
    parts, name = {"": []}, ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        heading = SECTION.fullmatch(line)
        if heading:
            name = heading[1]
            parts[name] = []
        else:
            parts[name].append(line)
    return {name: inspect.cleandoc("\n".join(lines)).strip() for name, lines in parts.items()}


def entries(text: str) -> list[tuple[str, str]]:
    """The lines `name, other: text` of an Args or Attributes part, each with the lines that go on below it."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        begins = re.match(r"([\w, ]+): (.*)", line)
        if begins and not line.startswith(" "):
            found.append((begins[1], begins[2]))
        else:
            name, before = found[-1]
            found[-1] = name, f"{before} {line.strip()}"
    return found


def described(text: str) -> list[str]:
    """Rows of a Markdown table without defaults."""
    cell = [(name, what.replace("|", "\\|")) for name, what in entries(text)]
    return ["| name | meaning |", "|---|---|", *(f"| {code(name)} | {what} |" for name, what in cell)]


def code(names: str) -> str:
    return ", ".join(f"`{name.strip()}`" for name in names.split(","))


def default(parameter: inspect.Parameter) -> str:
    return "" if parameter.default is parameter.empty else f"`{parameter.default!r}`"


def arguments(function) -> list[str]:
    """A table of a function's arguments: name, default, meaning.

    Raises:
        ValueError: an argument that the docstring does not describe, or a described one that does not exist.
    """
    parameters = {name: one for name, one in inspect.signature(function).parameters.items() if name != "self"}
    rows, seen = ["| argument | default | meaning |", "|---|---|---|"], []
    for names, what in entries(sections(function.__doc__)["Args"]):
        listed = [name.strip() for name in names.split(",")]
        seen += listed
        unknown = set(listed) - set(parameters)
        if unknown:
            raise ValueError(f"{function.__qualname__}: the docstring describes {unknown}, which are no arguments")
        text = what.replace("|", "\\|")
        rows.append(f"| {code(names)} | {', '.join(default(parameters[name]) for name in listed)} | {text} |")
    for name in [name for name in parameters if name not in seen]:  # described in the text of another
        where = [names for names, what in entries(sections(function.__doc__)["Args"]) if f"`{name}`" in what]
        if not where:
            raise ValueError(f"{function.__qualname__}: the docstring lacks {name}")
        rows.append(f"| `{name}` | {default(parameters[name])} | see {code(where[0])} |")
    return rows


def prose(text: str) -> list[str]:
    return [text, ""] if text else []


def raises(parts: dict[str, str]) -> list[str]:
    """The Returns and Raises parts as sentences."""
    lines = []
    if "Returns" in parts:
        lines += [f"Returns: {' '.join(parts['Returns'].split())}", ""]
    if "Raises" in parts:
        lines += [f"Raises {' '.join(parts['Raises'].split())}", ""]
    return lines


def signature(function) -> str:
    """A call without annotations."""
    parameters = [one for name, one in inspect.signature(function).parameters.items() if name not in ("self", "cls")]
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return str(inspect.Signature(bare))


def method(name: str) -> list[str]:
    function = getattr(VivacePipeline, name)
    parts = sections(function.__doc__)
    lines = [f"### `pipe.{name}{signature(function)}`", "", *prose(parts[""])]
    if "Args" in parts:
        lines += [*described(parts["Args"]), ""]
    return lines + raises(parts)


def reference() -> str:
    """docs/reference.md."""
    call = sections(VivacePipeline.__call__.__doc__)
    about = sections(VivacePipeline.__doc__)
    output = sections(VivacePipelineOutput.__doc__)
    lines = [
        "# Python reference", "", NOTE,
        "```python",
        "from diffusers import DiffusionPipeline",
        "",
        'pipe = DiffusionPipeline.from_pretrained("./checkpoints/small", trust_remote_code=True)',
        'out = pipe("mellow jazz trio with piano and upright bass", bars=4, bpm=96, seed=7)',
        'out.save("trio.wav")',
        "```", "",
        "The command line has the same names: `vivace generate --help`, `vivace edit --help`.", "",
        "## `pipe(...)`", "", *prose(call[""]), *arguments(VivacePipeline.__call__), "", *raises(call),
        "## The output: `VivacePipelineOutput`", "", *prose(output[""]), *described(output["Attributes"]), "",
    ]  # fmt: skip
    for name in ("save", "recipe"):
        function = getattr(VivacePipelineOutput, name)
        parts = sections(function.__doc__)
        lines += [f"### `out.{name}{signature(function)}`", "", *prose(parts[""]), *raises(parts)]
    lines += ["## Other methods of the pipeline", ""]
    for name in METHODS:
        lines += method(name)
    lines += ["## The parts of the pipeline", "", *prose(about[""]), *described(about["Args"]), ""]
    for model in (UNet1DConditionModel, AutoencoderVivace):
        parts = sections(model.__doc__)
        lines += [f"### `{model.__name__}`", "", *prose(parts[""])]
        if "Args" in parts:
            lines += [*described(parts["Args"]), ""]
    return "\n".join(lines).rstrip() + "\n"


def styles_and_instruments() -> str:
    """docs/styles-and-instruments.md."""
    families: dict[str, list] = {}
    for instrument in INSTRUMENTS.values():
        families.setdefault(instrument.family, []).append(instrument)
    lines = [
        "# Styles and instruments that the shipped model was trained on", "", NOTE,
        "These names, and the other words beside them, stand in the captions that `checkpoints/small` was trained on.",
        'Use them in a prompt: "bossa nova with nylon guitar and flute". Other words are understood less surely: see',
        "[evaluation.md](evaluation.md). Drums are asked for by "
        f"{', '.join(DRUM_WORDS[:-1])} or {DRUM_WORDS[-1]}.", "",
        f"## {len(STYLES)} styles with an accompaniment", "",
        "Tempo and meter are those of the training pieces in that style. Others can be asked for.", "",
        "| style | other words | tempo, bpm | meters |", "|---|---|---|---|",
        *(f"| {style.name} | {others(style.name, style.words)} | {style.tempo[0]} to {style.tempo[1]} | "
          f"{', '.join(style.meters)} |" for style in STYLES.values()), "",
        f"## {len(ENSEMBLES)} groups that play scores", "",
        "| group | other words |", "|---|---|",
        *(f"| {group.name} | {others(group.name, group.words)} |" for group in ENSEMBLES), "",
        "Three more style words come from the scores themselves: folk tune, game soundtrack, game rock.", "",
        f"## {len(INSTRUMENTS)} instruments", "",
        "| family | instrument | other words |", "|---|---|---|",
        *(f"| {family} | {one.name} | {others(one.name, one.words)} |" for family, members in families.items()
          for one in members),
    ]  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def others(name: str, words: tuple[str, ...]) -> str:
    return ", ".join(word for word in words if word != name)


PAGES = {"reference.md": reference, "styles-and-instruments.md": styles_and_instruments}


def main() -> None:
    for name, make in PAGES.items():
        (ROOT / "docs" / name).write_text(make())


if __name__ == "__main__":
    main()
