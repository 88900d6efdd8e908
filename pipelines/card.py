"""The model card of a checkpoint folder, made from the folder itself: parts, licence, figures, samples, usage.

What a person wrote of data, training and limits ("notes") stands below the marker line and outlives every rewriting.
"""

import hashlib
import json
from pathlib import Path

PARTS = ("vae", "unet", "text_encoder", "composer")  # the last of some checkpoints alone
FIGURES = "figures.json"
MARKER = "<!-- Above: written by the program from this folder. Below: notes, kept as they are. -->"
# Figures of training.evaluate that the card shows.
CONTROL = {
    "tempo_4pct": "tempo within 4 %",
    "beat_f": "beat F-measure, 70 ms",
    "downbeat_f": "downbeat F-measure, 70 ms",
    "key_exact": "key",
    "chord_cosine": "chord chroma cosine a beat",
    "stated_heard": "instruments that the caption names, share heard",
    "style": "style, first guess",
}
COLUMNS = {"generated": "generated", "paraphrased": "paraphrased", "chance": "chance", "oracle": "real clips"}
CARD = """
# {name}

Text to music that is in time, in key and reproducible. {parameters:.1f} M parameters, {rate} Hz, {channels}.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{source}", trust_remote_code=True)
out = pipe("mellow jazz piano trio", bars=8, bpm=96, key="A minor", chords="Am F C G", seed=7)
out.audios, out.sampling_rate, out.seeds, out.conditions
out.save("trio.wav")  # needs soundfile
```

Needs torch >= 2.6, diffusers >= 0.42 and transformers >= 5; the code travels with the weights. Weights in half
precision: `variant="fp16"`.{offline}

| part | class | parameters |
|---|---|---|
{parts}
{figures}{samples}"""


OFFLINE = """ Without network diffusers 0.42 cannot load code from its cache, but it can from a folder:
`DiffusionPipeline.from_pretrained(snapshot_download("{source}"), trust_remote_code=True)`, with
`from huggingface_hub import snapshot_download`."""


def folder_hash(folder: Path) -> str | None:
    """SHA-256 over the names and contents of all weights and configs below a folder; None if there are none.

    What the program writes about a checkpoint, the fp16 variant, and the restorer, which makes no music, are not of it.
    """
    files = [p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json") and p.is_file()]
    files = sorted(p for p in files if p.name != FIGURES and ".fp16." not in p.name and p.parent.name != "restorer")
    if not files:
        return None
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_figures(evaluation: str | Path) -> dict:
    """What a card keeps of the JSON of `training.evaluate`.

    Raises:
        ValueError: another file.
    """
    try:
        values = json.loads(Path(evaluation).read_text())
        asked, control = values["arguments"], values["control"]
        figures = {
            "commit": values["commit"],
            "checkpoint_sha256": values["checkpoint_sha256"],
            "seed": asked["seed"],
            "data": Path(asked["data_dir"]).name,
            "split": asked["split"],
            "clips": values["clips"],
            "control": {
                name: {kind: control[name][kind]["mean"] for kind in COLUMNS if kind in control[name]}
                for name in CONTROL
                if name in control
            },
        }
        far = values.get("distribution") or {}
        if "frechet_infinite" in far:
            figures["frechet_infinite"] = {kind: one["distance"] for kind, one in far["frechet_infinite"].items()}
        if "kernel" in far:
            figures["kernel"] = {kind: one["mean"] for kind, one in far["kernel"].items()}
        return figures
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"figures is {str(evaluation)!r}, which is no result of training.evaluate ({type(error).__name__}: {error})"
        ) from error


def figures_table(figures: dict | None) -> str:
    """Markdown of what `read_figures` gives."""
    if not figures:
        return ""

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.2f}"

    rows = [f"| {' | '.join(['', *COLUMNS.values()])} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for name, row in figures["control"].items():
        rows.append(f"| {' | '.join([CONTROL[name], *(cell(row.get(kind)) for kind in COLUMNS)])} |")
    far = [f"{words} {figures[name]['generated']:.2f} (other real clips {figures[name]['floor']:.2f}, "
           f"through the autoencoder {figures[name]['ceiling']:.2f})"
           for name, words in (("frechet_infinite", "Frechet distance"), ("kernel", "kernel distance"))
           if name in figures]  # fmt: skip
    return (
        f"\n## Figures\n\n{figures['clips']} clips of {figures['data']}, split {figures['split']}, seed "
        f"{figures['seed']}, commit `{figures['commit']}`, by `training.evaluate`. *Chance*: the same audio "
        "against the requests of other clips.\n\n" + "\n".join(rows) + "\n" + (f"\n{'; '.join(far)}.\n" if far else "")
    )


def samples_table(samples: list[dict]) -> str:
    """Markdown of pieces in the folder `samples/`, each with the request that makes it again."""
    if not samples:
        return ""
    lines = [f"- [{row['file']}]({row['file']}): `{row['prompt']}`, seed {row['seed']}" for row in samples]
    return "\n## Samples\n\nMade with these weights; each file carries its recipe.\n\n" + "\n".join(lines) + "\n"


def describe(folder: Path, index: dict) -> dict:
    """Parts, sizes, licence and figures of a checkpoint.

    Args:
        folder: one that `check_checkpoint` passed.
        index: its model_index.json.
    """
    from safetensors import safe_open

    parts = {}
    for part in (name for name in PARTS if (index.get(name) or [None])[0]):
        files = [p for p in sorted((folder / part).glob("*.safetensors")) if ".fp16" not in p.name]
        count = 0
        kinds: set[str] = set()
        for path in files:
            with safe_open(path, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (no dict)
                    view = tensors.get_slice(key)
                    size = 1
                    for length in view.get_shape():
                        size *= length
                    count, kinds = count + size, kinds | {view.get_dtype()}
        parts[part] = {
            "class": index[part][1], "parameters": count, "stored_as": ", ".join(sorted(kinds)),
            "megabytes": sum(p.stat().st_size for p in files) / 1e6,
            "fp16_variant": any(".fp16." in p.name for p in (folder / part).iterdir()),
        }  # fmt: skip
    config = json.loads((folder / "vae" / "config.json").read_text())
    figures = folder / FIGURES
    return {
        "licence": front_matter(folder).get("license"),
        "sampling_rate": config["sampling_rate"],
        "channels": config["audio_channels"],
        "parameters": sum(part["parameters"] for part in parts.values()),
        "parts": parts,
        "scheduler": index["scheduler"][1],
        "defaults": {name: value for name, value in index.items() if name.startswith(("default_", "max_"))},
        "made_with": {"diffusers": index.get("_diffusers_version")},
        "figures": json.loads(figures.read_text()) if figures.is_file() else None,
    }


def front_matter(folder: Path) -> dict:
    """The YAML head of a folder's README.md; empty if there is none."""
    from huggingface_hub import ModelCard

    path = folder / "README.md"
    try:
        return ModelCard.load(path).data.to_dict() if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"checkpoint {folder}: README.md has a head that cannot be read ({error})") from error


def read_notes(folder: Path) -> str:
    """What a person wrote in a folder's card: below the marker, or from the first heading of a card without one."""
    path = folder / "README.md"
    text = path.read_text() if path.is_file() else ""
    if MARKER in text:
        return text.partition(MARKER)[2].strip()
    _, heading, rest = text.partition("\n## ")
    return f"## {rest}".strip() if heading else ""


def write_card(
    folder: Path, index: dict, name: str, notes: str = "", licence: str | None = None, samples: list[dict] | None = None
) -> None:
    """Write README.md.

    Args:
        folder: a checkpoint.
        index: its model_index.json.
        name: title, and what is loaded in the usage: user/name, or the name of a local folder.
        notes: Markdown on data, training and limits.
        licence: Hub's name of the weights' licence; None = as the card there says, else apache-2.0.
        samples: file, prompt and seed of each piece in samples/.
    """
    from huggingface_hub import ModelCard, ModelCardData

    about, head = describe(folder, index), front_matter(folder)
    hub = "/" in name and not name.startswith("checkpoints/")
    head |= {"license": licence or head.get("license") or "apache-2.0", "library_name": "diffusers"}
    head["pipeline_tag"] = "text-to-audio"
    head["tags"] = sorted({*head.get("tags", []), "music", "text-to-music", "vivace"})
    rows = [f"| {part} | {row['class']} | {row['parameters'] / 1e6:.2f} M |" for part, row in about["parts"].items()]
    body = CARD.format(
        name=name,
        source=name if hub else f"./{name}",  # or it could be taken for a repository of somebody else's
        parameters=about["parameters"] / 1e6,
        rate=about["sampling_rate"],
        offline=OFFLINE.format(source=name) if hub else "",
        channels={1: "mono", 2: "stereo"}.get(about["channels"], f"{about['channels']} channels"),
        parts="\n".join([*rows, f"| scheduler | {about['scheduler']} | |"]),
        figures=figures_table(about["figures"]),
        samples=samples_table(samples or []),
    )
    card = ModelCard(f"---\n{ModelCardData(**head).to_yaml()}\n---\n{body}\n{MARKER}\n\n{notes.strip()}\n")
    (folder / "README.md").write_text(str(card))
