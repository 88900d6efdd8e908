"""A folder that is a Space as it stands: the page, the code it needs, and a checkpoint or the id of one.

    python -m space.export my-space                                # with checkpoints/small inside
    python -m space.export my-space --checkpoint checkpoints/mine
    python -m space.export my-space --model user/name              # weights stay on the Hub

Upload it with `hf upload user/name my-space --repo-type space`, or start it here: `cd my-space && python app.py`.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODEL_FILE = "MODEL"  # one line, a folder or a Hub id; page/model.py reads it where VIVACE_MODEL is not set
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ATTRIBUTES = "*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
CARD = """---
title: {title}
emoji: 🎼
colorFrom: indigo
colorTo: yellow
sdk: gradio
sdk_version: {gradio}
python_version: "3.12"
app_file: app.py
license: apache-2.0
short_description: Text to music that is in time and in key
{models}---

# {title}

Words, tempo, bars and chords become music; parts of it can be made anew, extended and varied. The model is
`{model}`; the variable `VIVACE_MODEL` of the Space, a Hub id or a folder, takes its place.

The page has endpoints with the argument names of the pipeline (About tab, or `/gradio_api/info`):

```python
from gradio_client import Client

files, about = Client("user/space").predict(prompt="calm jazz trio", bars=4, bpm=96, api_name="/generate")
```
"""


def requirements() -> str:
    """What `pip install` needs: the dependencies of the project and of its page, from pyproject.toml.

    Gradio is left out: a Space installs the version that its card names.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["app"]]
    return "\n".join(line for line in wanted if not line.startswith("gradio")) + "\n"


def check_output(output_dir: Path) -> None:
    """Raise a ValueError for a place that holds something else than an earlier export."""
    if output_dir.is_file():
        raise ValueError(f"output_dir is {str(output_dir)!r}, a file; give a folder that is new, empty or an export")
    if output_dir.is_dir() and any(output_dir.iterdir()) and not (output_dir / MODEL_FILE).is_file():
        raise ValueError(f"output_dir is {str(output_dir)!r}, which holds other files; give a new folder")
    if not output_dir.parent.is_dir():
        raise ValueError(f"output_dir is {str(output_dir)!r}; the folder it is to lie in must exist")


def export_space(
    output_dir: str | Path, checkpoint: str | Path | None = None, model: str | None = None, title: str = "Vivace"
) -> Path:
    """Write a self-contained Space folder, whole or not at all; an earlier export there is replaced.

    Args:
        output_dir: folder to write.
        checkpoint: folder of the model that goes along; without it and `model`, checkpoints/small.
        model: Hub id "user/name" of the model, in place of `checkpoint`.
        title: of the Space.

    Returns:
        `output_dir`.

    Raises:
        ValueError: both `checkpoint` and `model`, a bad id, a damaged checkpoint, or a folder with other files.
    """
    from pipelines.hub import check_checkpoint

    if checkpoint is not None and model is not None:
        raise ValueError(f"checkpoint is {str(checkpoint)!r} and model is {model!r}; give one of them")
    if model is not None and not HUB_ID.fullmatch(model):
        raise ValueError(f"model is {model!r}; allowed: a Hub id, as in 'user/name'")
    if not title.strip() or "\n" in title or ":" in title:
        raise ValueError(f"title is {title!r}; allowed: one line without a colon")
    output_dir = Path(output_dir).absolute()
    check_output(output_dir)
    source = None if model is not None else Path(ROOT / "checkpoints/small" if checkpoint is None else checkpoint)
    if source is not None:
        check_checkpoint(source)
        name = re.sub(r"[^\w.-]", "-", source.resolve().name)
    partial = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.", dir=output_dir.parent))
    ignore = shutil.ignore_patterns("__pycache__", ".*", "*.partial")
    try:
        shutil.copyfile(ROOT / "app.py", partial / "app.py")
        shutil.copyfile(ROOT / "LICENSE", partial / "LICENSE")
        for package in ("page", "pipelines"):
            shutil.copytree(ROOT / package, partial / package, ignore=ignore)
        if source is not None:
            shutil.copytree(source, partial / "checkpoints" / name, ignore=ignore)
        shown = model if source is None else f"checkpoints/{name}"
        models = f"models:\n- {model}\npreload_from_hub:\n- {model}\n" if source is None else ""
        card = CARD.format(title=title, gradio=version("gradio"), model=shown, models=models)
        (partial / MODEL_FILE).write_text(shown + "\n")
        (partial / "README.md").write_text(card)
        (partial / "requirements.txt").write_text(requirements())
        (partial / ".gitattributes").write_text(ATTRIBUTES)
        partial.chmod(0o755)
        old = partial.with_name(partial.name + ".old")
        if output_dir.exists():
            os.replace(output_dir, old)
        os.replace(partial, output_dir)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output_dir


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m space.export", description=__doc__.splitlines()[0])
    parser.add_argument("output_dir", help="folder to write")
    parser.add_argument("--checkpoint", help="folder of the model that goes along (default: checkpoints/small)")
    parser.add_argument("--model", help="Hub id of the model, in place of --checkpoint")
    parser.add_argument("--title", default="Vivace", help="of the Space")
    args = parser.parse_args(argv)
    try:
        folder = export_space(args.output_dir, args.checkpoint, args.model, args.title)
    except (ValueError, OSError) as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB, model {(folder / MODEL_FILE).read_text().strip()}")


if __name__ == "__main__":
    main()
