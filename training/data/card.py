"""The card of a data folder: README.md, info.json and a picture of how its labels are spread."""

from collections import Counter
from pathlib import Path

from training.data import shards
from training.data.sources.fetch import SOUNDFONT_LICENSES
from training.files import write_json, write_text

LIMITS = """\
- Rendered from General MIDI banks: no voices with words, no recorded performance, no produced sound. Clips hold little
  above 8 kHz.
- Accompaniments of tunes and generated pieces follow rules; chords of scores are estimated from their notes, and beats
  whose harmony is unclear carry none. Keys of scores are the encoded or estimated key of the whole work.
- Moods follow from style, mode and tempo by rule; nobody has listened and agreed.
- Tempo is constant within a clip."""


def gather(folder: Path) -> dict[str, list[dict]]:
    """The rows of each split, without audio."""
    return {
        split: [row for p in shards.shards_of(folder, split) for row in shards.labels(p)] for split in shards.SPLITS
    }


def describe(rows: dict[str, list[dict]], arguments: dict) -> dict:
    """Counts of a set: what info.json holds."""
    every = [row for split in rows.values() for row in split]

    def count(key: str) -> dict:
        return dict(Counter(row[key] for row in every if row[key] is not None).most_common())

    return {
        "arguments": arguments,
        "clips": {split: len(found) for split, found in rows.items()},
        "works": {split: len({row["work"] for row in found}) for split, found in rows.items()},
        "hours": round(sum(row["duration_s"] for row in every) / 3600.0, 4),
        "captions": sum(len(row["text"]) + len(row["text_heldout"]) for row in every),
        "loops": sum(bool(row["loop"]) for row in every),
        "on_downbeat": sum(bool(row["starts_on_downbeat"]) for row in every),
        "instruments": dict(Counter(name for row in every for name in row["instruments"]).most_common()),
        "with_drums": sum(bool(row["drums"]) for row in every),
        "sources": count("source"), "licenses": count("license"), "soundfonts": count("soundfont"),
        "styles": count("style"), "keys": count("key"), "time_signatures": count("time_signature"),
        "soundfont_licenses": {name: SOUNDFONT_LICENSES.get(name, "given by the user") for name in
                               arguments["soundfonts"]},
    }  # fmt: skip


def draw(rows: dict[str, list[dict]], info: dict, path: Path) -> None:
    """Histograms of tempo, key, meter, style, instruments and density as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    every = [row for split in rows.values() for row in split]
    figure = Figure(figsize=(14, 13), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([["bpm", "density", "meter"], ["key"] * 3, ["style"] * 3, ["instrument"] * 3])
    axes["bpm"].hist([row["bpm"] for row in every], bins=range(45, 206, 5))
    axes["bpm"].set_title("tempo, beats a minute")
    axes["density"].hist([min(row["density"], 40.0) for row in every], bins=40)
    axes["density"].set_title("notes a second, all parts")
    counted = (("meter", info["time_signatures"]), ("key", dict(sorted(info["keys"].items()))),
               ("style", info["styles"]), ("instrument", info["instruments"]))  # fmt: skip
    for name, counts in counted:
        axes[name].bar(range(len(counts)), counts.values())
        axes[name].set_xticks(range(len(counts)), counts, rotation=0 if name == "meter" else 90, fontsize=8)
        axes[name].set_title(f"clips a {name}")
    partial = path.with_name(path.name + ".partial")
    figure.savefig(partial, format="png", dpi=70)
    partial.replace(path)


def _table(counts: dict) -> str:
    return "\n".join(["| | clips |", "|---|---|", *(f"| {name} | {number} |" for name, number in counts.items())])


def write_card(folder: Path, arguments: dict) -> dict:
    """Write README.md, info.json and histograms.png of a finished set; returns what info.json holds."""
    rows = gather(folder)
    info = describe(rows, arguments)
    draw(rows, info, folder / "histograms.png")
    banks = "\n".join(f"- {name}: {license}" for name, license in info["soundfont_licenses"].items())
    total = sum(info["clips"].values())
    write_text(folder / "README.md", f"""\
---
pretty_name: Vivace scorebook
task_categories: [text-to-audio]
---
# Vivace scorebook

{info["hours"]:.2f} hours: {total} clips of {sum(info["works"].values())} works at {arguments["sampling_rate"]} Hz
({arguments["channels"]} channel), with exact beats, downbeats, key, chords, instruments and style, and
{info["captions"]} captions. {info["loops"]} clips are whole-bar loops that repeat seamlessly; {info["on_downbeat"]}
begin on a downbeat. {", ".join(f"{split} {n}" for split, n in info["clips"].items())} clips, split by work.

`datasets.load_dataset("<this folder>")` opens it; `audio` holds FLAC bytes. `text_heldout` are paraphrases in words and
templates that no `text` uses; `stated` and `stated_heldout` tell for each caption what it says. Made by
`python -m training.data.scorebook` from the arguments in info.json; the same arguments make the same bytes.

![histograms](histograms.png)

## Sources
{_table(info["sources"])}

## Licences
{_table(info["licenses"])}

Played with:
{banks}

## Known limits
{LIMITS}
""")  # fmt: skip
    write_json(folder / "info.json", info)
    return info
