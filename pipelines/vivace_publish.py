"""What `save_pretrained` and `push_to_hub` write beside the weights: the code that loads them, no path of a machine.

diffusers copies a remote pipeline's helper files only if the pipeline's own file names them (`from .helper import`), so
that file, and the pipeline.py that `custom_pipeline="user/name"` reads, name all of them. It runs each file of each
checkpoint under one and the same module name; here the modules get names of their own as soon as they are loaded, so
that checkpoints with different code work side by side in one process and each saves the code that it was loaded with.

This file is published with every checkpoint and imports only the standard library, torch, numpy, diffusers and
transformers, and files published beside it.
"""

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from diffusers.utils.hub_utils import upload_folder

LOCAL_FACTS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")  # of the machine, not the model
REMOTE = "diffusers_modules."  # where diffusers puts the code of checkpoints
CARD = """---
library_name: diffusers
pipeline_tag: text-to-audio
tags: [music, text-to-music, vivace]
---

# {name}

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{name}", trust_remote_code=True)
out = pipe("mellow jazz piano trio", bars=8, bpm=96, key="A minor", chords="Am F C G", seed=7)
```
"""


def helper_stems(source: Path) -> list[str]:
    """Stems of the files beside `source` that it imports, found as diffusers finds them."""
    return sorted(set(re.findall(r"^\s*from\s+\.(\S+)\s+import", source.read_text(), flags=re.MULTILINE)))


def read_sources(source: Path) -> dict[str, str]:
    """Name -> text of a file and of the files beside it that it imports."""
    paths = [source, *(source.with_name(f"{stem}.py") for stem in helper_stems(source))]
    return {path.name: path.read_text() for path in paths}


def move_module(name: str, sources: dict[str, str]) -> None:
    """Give a loaded module, its classes and functions a name that the next checkpoint will not take.

    Args:
        name: of a module in `sys.modules`.
        sources: name -> text of the files that it was loaded from, kept since the next checkpoint overwrites them.
    """
    number = 1
    while f"{name}_{number}" in sys.modules:
        number += 1
    module = sys.modules.pop(name)
    module.__name__, module.__sources__ = f"{name}_{number}", sources
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) == name:
            value.__module__ = module.__name__
    sys.modules[module.__name__] = module


def settle_helpers(name: str, pipeline_file: Path) -> str:
    """Digest of the pipeline's code, at the end of loading its file: its helpers are moved.

    Args:
        name: of its module.
        pipeline_file: beside it lie the helpers.
    """
    sources = read_sources(pipeline_file)
    if name.startswith(REMOTE):
        for file in sources:
            module = f"{name.rpartition('.')[0]}.{file.removesuffix('.py')}"
            if module in sys.modules and module != name:
                move_module(module, sources)
    return hashlib.sha256("".join(sources.values()).encode()).hexdigest()[:16]


def settle_parts(parts: Iterable[object]) -> None:
    """Move the modules of a pipeline and of its components, when it is made of them."""
    for part in parts:
        module = sys.modules.get(type(part).__module__)
        if module is not None and module.__name__.startswith(REMOTE) and not hasattr(module, "__sources__"):
            move_module(module.__name__, read_sources(Path(module.__file__)))


def ship(kind: type, folder: Path) -> list[str]:
    """Write the file of a class, and the files beside it that it imports, into `folder`; [stem, class name]."""
    source = Path(inspect.getsourcefile(kind))
    sources = getattr(sys.modules[kind.__module__], "__sources__", None) or read_sources(source)
    for name, text in sources.items():
        (folder / name).write_text(text)
    return [source.stem, kind.__name__]


def custom_pipeline_code(source: Path, class_name: str) -> str:
    """Text of the pipeline.py that `custom_pipeline="user/name"` reads.

    Args:
        source: the pipeline's file; every file beside it that it imports is named, so that diffusers fetches all.
        class_name: of the pipeline.
    """
    helpers = [f"from .{helper} import __doc__ as _{helper}" for helper in helper_stems(source)]
    return "\n".join([*helpers, f"from .{source.stem} import {class_name}"]) + "\n"


def ship_code(pipe, folder: Path) -> None:
    """Beside a model_index.json just written: the code of the pipeline and of each component that is ours.

    Raises:
        ValueError: a component with adapters, whose weights would not load into its class.
    """
    for part, component in pipe.components.items():
        if getattr(component, "peft_config", None):
            raise ValueError(f"{part} has adapters (LoRA); first {part}.fuse_lora() and {part}.unload_lora()")
    path = folder / pipe.config_name
    index = json.loads(path.read_text())
    index["_class_name"] = ship(type(pipe), folder)
    stem, name = index["_class_name"]
    (folder / "pipeline.py").write_text(custom_pipeline_code(folder / f"{stem}.py", name))
    for part, component in pipe.components.items():
        kind = type(getattr(component, "_orig_mod", component))  # a compiled module wraps the original
        if component is not None and kind.__module__.split(".")[0] not in ("diffusers", "transformers"):
            index[part] = ship(kind, folder / part)
        if index[part] == ["transformers", "TokenizersBackend"]:  # transformers' new name for the same class
            index[part][1] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    for config in (path, *folder.glob("*/*config.json")):
        values = json.loads(config.read_text())
        kept = {k: v for k, v in values.items() if k not in LOCAL_FACTS}
        if len(kept) < len(values):
            config.write_text(json.dumps(kept, indent=2) + "\n")


def upload(folder: str | Path, repo_id: str, **options):
    """One commit with all of a saved pipeline, which also removes what an older version left behind.

    Args:
        folder: of `save_pretrained`.
        repo_id: user/name.
        options: token, commit_message, create_pr and path_in_repo, as huggingface_hub's `upload_folder` takes them.

    Default weights replace all weights there, also variants, which would be of the older version; a variant of them
    replaces only its own.
    """
    folder = Path(folder)
    weights = [path for path in folder.glob("*/*.safetensors") if path.parent.name == "unet"]
    plain = any(re.fullmatch(r"[^.]+\.safetensors", path.name) for path in weights)
    stale = ["*.py", *(["*.safetensors", "*.bin", "*.json"] if plain else [])]
    card = folder / "README.md"
    if not card.is_file() or "# Model Card for Model ID" in card.read_text():  # diffusers' empty form
        card.write_text(CARD.format(name=repo_id))
    return upload_folder(repo_id=repo_id, folder_path=folder, delete_patterns=stale, **options)
