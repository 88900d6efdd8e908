"""A checkpoint folder: written whole with its code, checked before it is read, loaded with its code or the source.

The folder is what would be on the Hub: model_index.json, one folder per component with its weights (fp16 safetensors,
loaded as fp32) and its code, the pipeline's code, LICENSE and a model card. `VivacePipeline.save_pretrained` ships the
code; this module adds the rest.
"""

import importlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pipelines.card import write_card

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = "checkpoints/small"
WEIGHTS = {"vae": "diffusion_pytorch_model", "unet": "diffusion_pytorch_model", "text_encoder": "model"}
LOAD_ERRORS = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError)


def halve(path: Path) -> None:
    """Rewrite the floats of a safetensors file as fp16.

    Raises:
        ValueError: if a value does not fit, which in fp16 is 65504.
    """
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensors[name] = tensor.to(torch.float16)
            if not torch.isfinite(tensors[name]).all():
                raise ValueError(f"{path.name}: {name} is not finite or beyond fp16's 65504; save with fp16=False")
    save_file(tensors, path, metadata={"format": "pt"})


def save_checkpoint(pipe, folder: str | Path, notes: str = "", fp16: bool = True) -> None:
    """Write a whole checkpoint folder, or nothing: it is made beside the target and renamed.

    Args:
        pipe: a `VivacePipeline` in fp32.
        folder: an existing checkpoint there is replaced.
        notes: Markdown for the model card.
        fp16: store the weights in half precision; they are loaded as fp32.

    Raises:
        ValueError: a folder that is no checkpoint is in the way, or weights that fp16 cannot hold.
    """
    folder = Path(folder).resolve()
    if folder.exists() and any(folder.iterdir()) and not (folder / "model_index.json").is_file():
        raise ValueError(f"folder is {folder}, which holds something that is no checkpoint; give a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=folder.name + ".", suffix=".partial", dir=folder.parent))
    try:
        pipe.save_pretrained(partial)
        if fp16:
            for path in sorted(partial.rglob("*.safetensors")):
                halve(path)
        shutil.copyfile(ROOT / "LICENSE", partial / "LICENSE")
        write_card(partial, json.loads((partial / "model_index.json").read_text()), folder.name, notes)
        partial.chmod(0o755)
        old = partial.with_suffix(".old")
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(partial, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def local_folder(name: str | Path | None) -> Path | None:
    """The folder that a name means, None if there is none; no name means the default, first that of this project."""
    places = [ROOT / DEFAULT, Path(DEFAULT)] if name is None else [Path(name)]
    return next((place for place in places if place.is_dir()), None)


def is_repository(name: str | Path | None) -> bool:
    """Whether a name would be looked up on the Hub: never one in "checkpoints/", where this project keeps its own, as
    anybody could take the name "checkpoints" there."""
    if name is None or str(name).startswith("checkpoints/") or Path(name).is_dir() or Path(name).parent.is_dir():
        return False
    return re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) is not None


def check_trust(name: str | Path | None, trust: bool) -> None:
    """Raise a ValueError for a checkpoint from the Hub whose code nobody consented to run; nothing is downloaded."""
    if is_repository(name) and not trust:
        raise ValueError(
            f"checkpoint {name}: no such folder; {name} on the Hub is Python code that would be downloaded and run "
            "here: give --trust if you trust its owner"
        )


def find_checkpoint(name: str | Path | None, revision: str | None = None, variant: str | None = None) -> Path:
    """A checkpoint's folder: `name` itself, or what user/name on the Hub holds, downloaded or from the cache.

    Nothing of it is run. Before it is loaded, see `check_trust`.

    diffusers 0.42 asks the Hub for the code of a repository even when all of it is cached, of a folder it does not:
    this is also how to load offline.

    Args:
        name: folder, or user/name; None = the default, which is never looked up on the Hub.
        revision: branch, tag or commit on the Hub.
        variant: which weight files, as in "fp16"; None = the default ones.

    Raises:
        ValueError: no such folder, repository or revision, or no right to read it.
        OSError: the Hub cannot be reached, or a download broke off; what is complete stays in the cache.
    """
    folder, where = local_folder(name), f"checkpoint {DEFAULT if name is None else name}"
    if folder is not None:
        if revision is not None:
            raise ValueError(f"revision is {revision!r}, but {where} is a folder; revisions are of the Hub")
        return folder
    if not is_repository(name):
        hint = ", neither here nor in the source; give --checkpoint a folder" if name is None else ""
        raise ValueError(f"{where}: no such folder{hint}")
    from huggingface_hub import errors, snapshot_download

    weights = f"*.{variant}*safetensors" if variant else "*.safetensors"
    wanted = ["*.json", "*.py", "LICENSE", "README.md", weights]
    unwanted = [] if variant else ["*.fp16*safetensors"]
    try:
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=wanted, ignore_patterns=unwanted))
    except errors.RevisionNotFoundError as error:
        raise ValueError(f"{where}: no such folder, and the Hub's repository has no revision {revision!r}") from error
    except errors.RepositoryNotFoundError as error:
        raise ValueError(f"{where}: no such folder, and no repository of that name that you may read") from error
    except errors.LocalEntryNotFoundError as error:
        raise OSError(f"{where}: no such folder; the Hub cannot be reached and the cache lacks it ({error})") from error
    except (OSError, errors.HTTPError) as error:
        raise OSError(f"{where}: the download failed; give the command again to go on ({error})") from error


def find_loras(wanted: list[tuple[str, float]]) -> list[tuple[str, Path, float]]:
    """A name for each adapter, its file, and its strength.

    Args:
        wanted: folder, file or user/name on the Hub, and strength, of each.

    Raises:
        ValueError, OSError: see `vivace_checkpoint.find_lora`.
    """
    if not wanted:
        return []
    from pipelines.vivace_checkpoint import check_peft, find_lora

    check_peft()
    found: dict[str, tuple[Path, float]] = {}
    for given, strength in wanted:
        path = find_lora(given)
        stem = re.sub(r"\W", "_", path.stem if Path(given).is_file() else Path(given).resolve().name) or "lora"
        names = (stem if number == 1 else f"{stem}_{number}" for number in range(1, len(wanted) + 1))
        found[next(name for name in names if name not in found)] = (path, strength)
    return [(name, path, strength) for name, (path, strength) in found.items()]


def add_loras(pipe, loras: list[tuple[str, Path, float]], checkpoint: str | Path):
    """The pipeline with these adapters of `find_loras`, all of which play.

    Raises:
        ValueError: one of another network, or a checkpoint whose code has no adapters.
    """
    if not loras:
        return pipe
    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(f"checkpoint {checkpoint}: its code is older than LoRA adapters; save it again with this one")
    for name, path, _ in loras:
        pipe.load_lora_weights(path, adapter_name=name)
    pipe.set_adapters([name for name, *_ in loras], [strength for *_, strength in loras])
    return pipe


def pick_device(name: str) -> str:
    """A torch device name; "auto" takes a GPU if there is one.

    Raises:
        ValueError: if there is no such device here.
    """
    import torch

    here = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    if name == "auto":
        return here[-1]
    kind, colon, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if kind not in here or (colon and not (number.isdigit() and int(number) < count)):
        raise ValueError(f"device is {name!r}; available here: auto, {', '.join(here)}")
    return name


def quiet_libraries() -> None:
    """Loading says nothing: no progress bars, no notes on optional packages."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def read_index(folder: str | Path) -> dict | None:
    """The content of model_index.json, read without torch; None where it is missing, damaged or of another pipeline,
    of which `check_checkpoint` tells."""
    try:
        index = json.loads((Path(folder) / "model_index.json").read_text())
    except (OSError, ValueError):
        return None
    return index if isinstance(index, dict) and {"default_duration_s", "max_duration_s"} <= set(index) else None


def check_checkpoint(folder: str | Path) -> dict:
    """Read model_index.json and look at every file that loading needs.

    Returns:
        The content of model_index.json.

    Raises:
        ValueError: one line: no such folder, no checkpoint, another format, a file missing, truncated or unreadable.
    """
    from safetensors import SafetensorError, safe_open

    from pipelines.pipeline_vivace import FORMAT
    from pipelines.vivace_checkpoint import helper_stems

    folder = Path(folder)

    def read_json(path: Path) -> dict:
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"checkpoint {folder}: {path.relative_to(folder)} cannot be read ({error})") from error

    if not folder.is_dir():
        raise ValueError(f"checkpoint {folder}: no such folder")
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"checkpoint {folder}: no model_index.json there; give a folder made by save_pretrained")
    index = read_json(folder / "model_index.json")
    version = index.get("vivace_format")
    if version != FORMAT:
        raise ValueError(f"checkpoint {folder}: vivace_format is {version}; this version of the program reads {FORMAT}")
    for part, stem in WEIGHTS.items():
        read_json(folder / part / "config.json")
        paths = sorted((folder / part).glob(f"{stem}*.safetensors"))
        if not paths:
            raise ValueError(f"checkpoint {folder}: {part}/{stem}.safetensors is missing")
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    file.keys()
            except (OSError, SafetensorError) as error:
                raise ValueError(
                    f"checkpoint {folder}: {path.relative_to(folder)} is truncated or damaged ({error})"
                ) from error
    for name in ("scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"):
        read_json(folder / name)
    for part in ("vae", "unet"):
        code = folder / part / f"{index[part][0]}.py"
        if not code.is_file():
            raise ValueError(f"checkpoint {folder}: {part}/{code.name} is missing")
    pipeline = folder / f"{index['_class_name'][0]}.py"
    if not pipeline.is_file():
        raise ValueError(f"checkpoint {folder}: {pipeline.name} is missing")
    for stem in helper_stems(pipeline):
        if not (folder / f"{stem}.py").is_file():
            raise ValueError(f"checkpoint {folder}: {stem}.py is missing")
    return index


def load_published(folder: str | Path, variant: str | None = None, dtype: str = "float32"):
    """A pipeline with the code that the folder carries, as any user loads it, after `check_checkpoint`.

    Args:
        folder: a checkpoint.
        variant: which weight files, as in "fp16"; None = the default ones.
        dtype: "float32", "float16" or "bfloat16", of the loaded weights.

    Raises:
        ValueError: one line that names the folder.
    """
    check_checkpoint(folder)
    import torch
    from diffusers import DiffusionPipeline

    options = {"variant": variant, "dtype": getattr(torch, dtype), "trust_remote_code": True}
    try:  # an absolute path: what looks like "user/name" could otherwise be taken for a repository on the Hub
        with loading_alone():
            return DiffusionPipeline.from_pretrained(str(Path(folder).resolve()), **options)
    except LOAD_ERRORS as error:
        raise ValueError(f"checkpoint {folder}: cannot be loaded ({type(error).__name__}: {error})") from error


def loading_alone():
    """A file lock that all processes of a machine share.

    diffusers copies a folder's code to one place of its cache and imports it there: of two processes that load
    different versions at once, one may import a file of the other, or half of one.
    """
    from diffusers.utils.constants import HF_MODULES_CACHE
    from filelock import FileLock

    folder = Path(HF_MODULES_CACHE)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "vivace.lock")


def source_class(stem: str, name: str) -> type | None:
    """A published class from this checkout: of the file `<stem>.py` in one of its folders; None if there is none."""
    for path in ROOT.glob(f"*/{stem}.py"):
        return getattr(importlib.import_module(f"{path.parent.name}.{stem}"), name, None)
    return None


def load_native(folder: str | Path, variant: str | None = None, dtype: str = "float32"):
    """A pipeline with the code of this checkout instead of the folder's copies, after `check_checkpoint`.

    Args:
        folder, variant, dtype: as of `load_published`.

    Raises:
        ValueError: one line that names the folder, also if the checkout lacks a class of it.
    """
    index = check_checkpoint(folder)
    import diffusers
    import torch
    import transformers

    from pipelines.pipeline_vivace import VivacePipeline

    libraries = {"diffusers": diffusers, "transformers": transformers}
    components: dict[str, Any] = {}
    try:
        for part in ("vae", "unet", "text_encoder", "tokenizer", "scheduler", "composer"):
            if part == "composer" and not (index.get(part) or [None])[0]:
                components[part] = None
                continue
            library, name = index[part]
            kind = getattr(libraries[library], name) if library in libraries else source_class(library, name)
            if kind is None:
                raise ValueError(f"{part} is a {name}, which is not in this checkout")
            options = {"variant": variant, "dtype": getattr(torch, dtype)} if part in (*WEIGHTS, "composer") else {}
            load = kind.from_pretrained  # type: ignore[union-attr]
            components[part] = load(Path(folder).resolve() / part, **options)
        others = {name: value for name, value in index.items() if name not in components and not name.startswith("_")}
        settings, *_ = VivacePipeline.extract_init_dict(others)  # warns of those that this code does not have
        return VivacePipeline(**components, **settings)
    except LOAD_ERRORS as error:
        raise ValueError(f"checkpoint {folder}: cannot be loaded ({type(error).__name__}: {error})") from error


def load_pipeline(folder: str | Path, variant: str | None = None, dtype: str = "float32"):
    """A pipeline with the code that its checkpoint is meant to run with.

    A checkpoint in `checkpoints/` of this checkout runs the source, so that a change there is what runs; any other runs
    the code that it carries. Arguments and errors are those of `load_published`.
    """
    mine = Path(folder).resolve().is_relative_to(ROOT / "checkpoints")
    index = check_checkpoint(folder) if mine else {}
    native = mine and all(source_class(*index[part]) for part in ("vae", "unet"))
    return (load_native if native else load_published)(folder, variant, dtype)
