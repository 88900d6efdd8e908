"""What `save_pretrained` and `push_to_hub` write beside the weights: the code that loads them, no path of a machine.

diffusers copies a remote pipeline's helper files only if the pipeline's own file names them (`from .helper import`), so
that file, and the pipeline.py that `custom_pipeline="user/name"` reads, name all of them.

diffusers runs the files of every checkpoint under the same module names, where the next checkpoint overwrites them.
Here they are copied to a folder of diffusers' module cache that is named by their digest, and the classes are those of
the copy. So checkpoints with different code work side by side in one process, each saves the code that it was loaded
with, the same code is loaded only once, and other processes find the classes by their names: pipelines, parts and
outputs can be pickled.
"""

import hashlib
import importlib
import inspect
import json
import operator
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from diffusers.utils import dynamic_modules_utils
from diffusers.utils.hub_utils import create_repo, load_or_create_model_card, populate_model_card, upload_folder

LOCAL_FACTS = ("_name_or_path", "name_or_path", "is_local", "local_files_only")  # of the machine, not the model
REMOTE = "diffusers_modules."  # where diffusers puts the code of checkpoints
SETTLED = REMOTE + "vivace_"  # and where it stays


def helper_stems(source: Path) -> list[str]:
    """Stems of the files beside `source` that it imports, found as diffusers finds them."""
    return sorted(set(re.findall(r"^\s*from\s+\.(\S+)\s+import", read_text(source), flags=re.MULTILINE)))


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def read_sources(source: Path) -> dict[str, str]:
    """Name -> text of a file and of the files beside it that it imports."""
    paths = [source, *(source.with_name(f"{stem}.py") for stem in helper_stems(source))]
    return {path.name: read_text(path) for path in paths}


def digest_of(sources: dict[str, str]) -> str:
    return hashlib.sha256("".join(sources.values()).encode()).hexdigest()[:16]


def is_settled(name: str) -> bool:
    """Whether a module's code cannot be overwritten by that of another checkpoint."""
    return not name.startswith(REMOTE) or name.startswith(SETTLED)


def settled_copy(source: Path) -> ModuleType:
    """The module of a checkpoint's file, under a name that is made of the digest of it and of what it imports.

    Other processes with the same module cache import it by that name.
    """
    sources = read_sources(source)
    package = f"{SETTLED}{digest_of(sources)}"
    name = f"{package}.{source.stem}"
    if name in sys.modules:
        return sys.modules[name]
    relative = package.replace(".", os.sep)
    dynamic_modules_utils.create_dynamic_module(relative)  # makes the package and puts the cache on the path
    folder = Path(dynamic_modules_utils.HF_MODULES_CACHE, relative)
    for file, text in sources.items():
        target = folder / file
        if not target.is_file() or read_text(target) != text:
            partial = folder / f"{secrets.token_hex(8)}.partial"  # another process may read or write it just now
            partial.write_text(text, encoding="utf-8")
            os.replace(partial, target)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def settle_pipeline(namespace: dict) -> str:
    """At the end of a pipeline's file: its classes become those of the settled copy, its helpers are forgotten.

    Args:
        namespace: `globals()` of the file.

    Returns:
        Digest of the pipeline's code.
    """
    name, source = namespace["__name__"], Path(namespace["__file__"])
    if not is_settled(name):
        copy = settled_copy(source)
        namespace.update({key: value for key, value in vars(copy).items() if not key.startswith("__")})
        for stem in helper_stems(source):
            sys.modules.pop(f"{name.rpartition('.')[0]}.{stem}", None)
    return digest_of(read_sources(source))


def settle_parts(kind: type, components: dict) -> None:
    """Give the components of a pipeline of class `kind` the classes of the settled copies of their files.

    What is left of the pipeline's own file as diffusers ran it is forgotten, so that the next checkpoint's is run.
    """
    stem = kind.__module__.rpartition(".")[2]
    for name in [name for name in sys.modules if name.endswith(f".{stem}") and not is_settled(name)]:
        del sys.modules[name]
    for part in components.values():
        name = type(part).__module__
        module = sys.modules.get(name)
        if module is None or is_settled(name):
            continue
        copy = settled_copy(Path(str(module.__file__)))
        for one in part.modules() if isinstance(part, torch.nn.Module) else [part]:
            if type(one).__module__ == name:
                one.__class__ = getattr(copy, type(one).__name__)


class Importable:
    """Pickles as a class of a settled module; where it is unpickled, diffusers' module cache is first put on the path.

    Args:
        kind: the class.
    """

    def __init__(self, kind: type):
        self.kind = kind

    def __call__(self, *args):  # pickle wants something that can be called
        return self.kind(*args)

    def __reduce__(self):
        return operator.itemgetter(1), ((CachePath(), self.kind),)  # unpickled in this order


class CachePath:
    """Pickles as the call that puts diffusers' module cache on the path."""

    def __reduce__(self):
        return dynamic_modules_utils.init_hf_modules, ()


def weights_key(name: str) -> tuple[str, ...] | None:
    """What all shards and the index of the same weights have in common, as ("model", "fp16"); None for other files."""
    words = re.sub(r"-\d+-of-\d+", "", name).split(".")
    if not {"safetensors", "bin"} & set(words):
        return None
    return tuple(word for word in words if word not in ("safetensors", "bin", "index", "json"))


@contextmanager
def written_beside(folder: Path) -> Iterator[Path]:
    """A new folder to write in; what it then holds replaces the files of the same names in `folder`.

    Weights replace all shards of the same weights; other files stay. On any error `folder` is as it was.
    """
    new = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=folder))
    try:
        fresh = scratch / "new"
        fresh.mkdir()
        yield fresh
        exchange(fresh, folder, scratch / "old")
    except BaseException:
        if new:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def exchange(fresh: Path, folder: Path, old: Path) -> None:
    """Move the files of `fresh` into `folder`, what they replace to `old`; on any error all is moved back.

    The index of the pipeline goes first and comes last: while files are of two versions, nothing can be loaded.
    """
    files = sorted((path.relative_to(fresh) for path in fresh.rglob("*") if path.is_file()), key=last_the_index)
    replaced = set(files)
    for parent, key in {(file.parent, weights_key(file.name)) for file in files}:
        if key is not None and (folder / parent).is_dir():
            replaced |= {parent / path.name for path in (folder / parent).iterdir() if weights_key(path.name) == key}
    moves = [(folder / file, old / file) for file in sorted(replaced, key=last_the_index, reverse=True)]
    moves = [(source, target) for source, target in moves if source.is_file()]
    moves += [(fresh / file, folder / file) for file in files]
    done = []
    try:
        for source, target in moves:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
            done.append((source, target))
    except BaseException:
        for source, target in reversed(done):
            os.replace(target, source)
        raise


def last_the_index(file: Path) -> tuple[bool, str]:
    """Sorting key: model_index.json after all others."""
    return file.name == "model_index.json", file.as_posix()


def ship(kind: type, folder: Path) -> list[str]:
    """Write the file of a class, and the files beside it that it imports, into `folder`; [stem, class name]."""
    source = Path(str(inspect.getsourcefile(kind)))
    for name, text in read_sources(source).items():
        (folder / name).write_text(text, encoding="utf-8")
    return [source.stem, kind.__name__]


def custom_pipeline_code(source: Path, class_name: str) -> str:
    """Text of the pipeline.py that `custom_pipeline="user/name"` reads.

    Args:
        source: the pipeline's file; every file beside it that it imports is named, so that diffusers fetches all.
        class_name: of the pipeline.
    """
    helpers = [f"from .{helper} import __doc__ as _{helper}" for helper in helper_stems(source)]
    return "\n".join([*helpers, f"from .{source.stem} import {class_name}"]) + "\n"


def check_savable(components: dict) -> None:
    """Raise a ValueError for a component with adapters, whose weights would not load into its class."""
    for part, component in components.items():
        if getattr(component, "peft_config", None):
            raise ValueError(f"{part} has adapters (LoRA); first {part}.fuse_lora() and {part}.unload_lora()")


def ship_code(kind: type, components: dict, folder: Path) -> None:
    """Beside a model_index.json just written: the code of a pipeline of class `kind` and of each component of ours."""
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index["_class_name"] = ship(kind, folder)
    stem, name = index["_class_name"]
    (folder / "pipeline.py").write_text(custom_pipeline_code(folder / f"{stem}.py", name))
    for part, component in components.items():
        own = type(getattr(component, "_orig_mod", component))  # a compiled module wraps the original
        if component is not None and own.__module__.split(".")[0] not in ("diffusers", "transformers"):
            index[part] = ship(own, folder / part)
        if index[part] == ["transformers", "TokenizersBackend"]:  # transformers' new name for the same class
            index[part][1] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    for config in (path, *folder.glob("*/*config.json")):
        values = json.loads(config.read_text())
        kept = {k: v for k, v in values.items() if k not in LOCAL_FACTS}
        if len(kept) < len(values):
            config.write_text(json.dumps(kept, indent=2) + "\n")


def push_saved(
    folder: Path,
    repo_id: str | None = None,
    private: bool | None = None,
    token: str | None = None,
    subfolder: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
):
    """Upload a pipeline that was saved, so that nothing is made on the Hub for one that cannot be.

    The one commit also removes what an older version left behind. Default weights replace all weights there, also
    variants, which would be of the older version; a variant of them replaces only its own.

    Args:
        folder: of `save_pretrained`.
        repo_id: user/name, made if it does not exist; None = the folder's name.
        private: of a new repository.
        token: of the Hub.
        subfolder: of the repository.
        commit_message, create_pr: of the commit.
    """
    repo_id = create_repo(repo_id or folder.resolve().name, exist_ok=True, private=private, token=token).repo_id
    plain = any(re.fullmatch(r"[^.]+\.safetensors", path.name) for path in folder.glob("unet/*.safetensors"))
    stale = ["*.py", *(["*.safetensors", "*.bin", "*.json"] if plain else [])]
    card = folder / "README.md"
    if not subfolder and not card.is_file():
        populate_model_card(load_or_create_model_card(repo_id, token=token)).save(card)
    return upload_folder(
        repo_id=repo_id, folder_path=folder, delete_patterns=stale, token=token, create_pr=create_pr,
        commit_message=commit_message or "Upload VivacePipeline", path_in_repo=subfolder,
    )  # fmt: skip


PUSH = ("repo_id", "private", "token", "subfolder", "commit_message", "create_pr")  # of `push_saved`


class PublishMixin:
    """Saving of a pipeline with its code, alone and to the Hub, and pickling. Comes before `DiffusionPipeline`."""

    components: dict[str, Any]

    def __reduce__(self):
        """Pickled with its parts; another process needs nothing but diffusers and the same module cache."""
        return object.__new__, (Importable(type(self)),), vars(self)

    def save_pretrained(
        self,
        save_directory: str | Path,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **kwargs,
    ) -> None:
        """Write a checkpoint with its code, as diffusers' own method with the same arguments.

        What cannot be saved is refused before anything is written, and all is written to a new folder inside
        `save_directory` and then moved into place: after any error an older checkpoint there is as it was.

        Raises:
            ValueError: a component with adapters (LoRA).
        """
        check_savable(self.components)
        folder = Path(save_directory)
        remote = {name: kwargs.pop(name) for name in PUSH if name in kwargs}
        with written_beside(folder) as fresh:
            options = {"safe_serialization": safe_serialization, "variant": variant, "max_shard_size": max_shard_size}
            super().save_pretrained(fresh, **options, **kwargs)  # type: ignore[misc]
        if push_to_hub:
            push_saved(folder, **remote)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
    ):
        """Upload the pipeline with its code, as diffusers' own method with the same arguments.

        It is first saved to a temporary folder: a repository is made only for what could be saved.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, safe_serialization=safe_serialization, variant=variant)
            return push_saved(Path(folder), repo_id, private, token, subfolder, commit_message, create_pr)

    def save_config(self, save_directory: str | Path) -> None:
        """Write model_index.json and, beside it, the code of the pipeline and of each component that is ours.

        `save_pretrained` calls this after the components are written, so what it makes loads with
        `DiffusionPipeline.from_pretrained(..., trust_remote_code=True)` where this project is not installed.
        """
        check_savable(self.components)
        super().save_config(save_directory)  # type: ignore[misc]
        ship_code(type(self), self.components, Path(save_directory))
