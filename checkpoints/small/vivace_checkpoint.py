"""Checkpoints: saved and published with the code that loads them, and LoRA adapters.

diffusers copies a remote pipeline's helper files only if the pipeline's own file names them (`from .helper import`), so
that file, and the pipeline.py that `custom_pipeline="user/name"` reads, name all of them.

diffusers runs the files of every checkpoint under the same module names, where the next checkpoint overwrites them.
Here they are copied to a folder of diffusers' module cache that is named by their digest, and the classes are those of
the copy. So checkpoints with different code work side by side in one process, each saves the code that it was loaded
with, the same code is loaded only once, and other processes find the classes by their names: pipelines, parts and
outputs can be pickled.
"""

import hashlib
import importlib.util
import inspect
import json
import math
import os
import re
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE, LoraBaseMixin, _fetch_state_dict
from diffusers.utils import dynamic_modules_utils
from diffusers.utils.hub_utils import (
    _get_model_file,
    create_repo,
    load_or_create_model_card,
    populate_model_card,
    upload_folder,
)

from .vivace_files import Importable, adapters_of, lora_layers

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


# LoRA adapters of the network: loaded, weighted, fused and saved in the ways of diffusers. An adapter adds to the
# output of some layers that of two narrow ones (Hu et al. 2021, https://arxiv.org/abs/2106.09685). Its file is a
# safetensors file in diffusers' naming, `unet.<layer>.lora_A.weight` and `unet.<layer>.lora_B.weight`; no code of it is
# run. The package peft is needed, and imported only where an adapter is loaded.

PREFIX = "unet"  # of the names in a file
# Of peft's LoraConfig, what a file keeps: what decides the result, and no setting that another version may not have.
CONFIG = ("r", "lora_alpha", "target_modules", "rank_pattern", "alpha_pattern", "use_rslora", "lora_bias")
SOUNDS = "sounds.statistics"  # of its metadata: JSON of numbers as `sounds_like` takes them, of what it learnt from


def check_peft() -> None:
    """Raise an ImportError, one line, if peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise ImportError("LoRA adapters need the package peft, which is not installed: pip install peft")


def find_lora(name: str | Path, weight_name: str | None = None, **hub: Any) -> Path:
    """The safetensors file of an adapter.

    Args:
        name: folder, safetensors file, or user/name on the Hub.
        weight_name: of the file in it; None = the only one of a folder, or pytorch_lora_weights.safetensors.
        hub: revision, token, subfolder, cache_dir and so on, as diffusers takes them.

    Raises:
        ValueError: one line: no such folder or file, or none that can be chosen.
        OSError: the Hub cannot be reached, or does not have it.
    """
    path = Path(name)
    if path.is_dir():
        path = path / (hub.get("subfolder") or "")
        found = sorted(file.name for file in path.glob("*.safetensors"))
        if weight_name is None and LORA_WEIGHT_NAME_SAFE not in found and len(found) == 1:
            weight_name = found[0]
        path = path / (weight_name or LORA_WEIGHT_NAME_SAFE)
        if not path.is_file():
            there = f"there are {', '.join(found)}; choose with weight_name" if found else "no safetensors file there"
            raise ValueError(f"lora {name}: {path.name} is missing ({there})")
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ValueError(f"lora {name}: {path.name} is no safetensors file; allowed: safetensors alone")
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(name)) or path.parent.is_dir():
        raise ValueError(f"lora {name}: no such folder or file; give one, or user/name on the Hub")
    try:
        return Path(_get_model_file(str(name), weights_name=weight_name or LORA_WEIGHT_NAME_SAFE, **hub))
    except OSError as error:
        raise OSError(f"lora {name}: no such folder, and not on the Hub ({' '.join(str(error).split())})") from error


def read_lora(path: Path) -> tuple[dict[str, torch.Tensor], dict | None]:
    """Tensors of a safetensors file by name, and the config that diffusers keeps in its metadata.

    Raises:
        ValueError: a damaged file.
    """
    try:
        return _fetch_state_dict(
            str(path), weight_name=None, use_safetensors=True, local_files_only=True, cache_dir=None,
            force_download=False, proxies=None, token=None, revision=None, subfolder=None, user_agent=None,
            allow_pickle=False,
        )  # fmt: skip
    except Exception as error:  # of safetensors, which has an error of its own
        raise ValueError(f"lora {path}: cannot be read ({' '.join(str(error).split())})") from error


def check_fit(state: dict[str, torch.Tensor], unet: torch.nn.Module, what: str) -> None:
    """Raise a ValueError that names the first tensor which is not one of an adapter of this network."""
    layers = dict(unet.named_modules())
    if not state:
        raise ValueError(f"{what}: it holds no tensors")
    for name, value in state.items():
        match = re.fullmatch(rf"{PREFIX}\.(.+)\.lora_([AB])\.(weight|bias)", name)
        if match is None:
            raise ValueError(f"{what}: {name} is no LoRA in diffusers' naming, as {PREFIX}.<layer>.lora_A.weight is")
        layer = layers.get(match[1])
        weight = getattr(getattr(layer, "base_layer", layer), "weight", None)
        if weight is None:
            raise ValueError(f"{what}: {name} does not fit; this network has no layer {match[1]}")
        if match[3] == "bias":
            continue
        # The layer has (outputs, inputs, taps), A (rank, inputs, taps), B (outputs, rank, 1).
        is_a, shape = match[2] == "A", tuple(weight.shape)
        if value.shape[1:] != shape[1:] if is_a else value.shape[:1] != shape[:1]:
            raise ValueError(
                f"{what}: {name} has shape {tuple(value.shape)}, which does not fit {shape} of this network's layer"
            )
        other = state.get(f"{PREFIX}.{match[1]}.lora_{'B' if is_a else 'A'}.weight")
        if other is None or (other.shape[1] != len(value) if is_a else value.shape[1] != len(other)):
            raise ValueError(f"{what}: {name} lacks its other half, lora_{'B' if is_a else 'A'} of the same rank")


def read_sounds_of(metadata: dict | None, unet: torch.nn.Module, what: str) -> list[list[float]]:
    """Take the sounds that an adapter brings out of its metadata. Raises a ValueError if they are damaged or for a
    network that takes other statistics."""
    text = (metadata or {}).pop(SOUNDS, None)
    if text is None:
        return []
    try:
        sounds = [[float(value) for value in one] for one in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what}: its sounds are damaged ({error})") from error
    numbers = unet.config.get("reference_channels") or 0
    wrong = [len(one) for one in sounds if len(one) != numbers or not all(map(math.isfinite, one))]
    if wrong:
        raise ValueError(f"{what}: its sounds have {wrong[0]} numbers; this network takes {numbers} finite ones")
    return sounds


def make_exact(unet: torch.nn.Module) -> None:
    """Give the narrow layers of adapters the network's own classes, which round alike in a batch of any size."""
    for _, module in lora_layers(unet):
        kind = type(module.get_base_layer())
        for narrow in (*module.lora_A.values(), *module.lora_B.values()):
            if type(narrow) in kind.__bases__:
                narrow.__class__ = kind


def check_unfused(unet: torch.nn.Module) -> None:
    """Raise a ValueError if adapters are fused: peft then neither adds others nor weighs those anew."""
    fused = {name for _, module in lora_layers(unet) for name in module.merged_adapters}
    if fused:
        raise ValueError(
            f"the adapters {', '.join(sorted(fused))} are fused; first unfuse_lora(), or unload_lora_weights()"
        )


class LoraMixin(LoraBaseMixin):
    """`load_lora_weights`, `set_adapters`, `fuse_lora` and so on, as pipelines of diffusers have them.

    `get_active_adapters`, `get_list_adapters`, `delete_adapters`, `disable_lora` and `enable_lora` are diffusers'.
    """

    _lora_loadable_modules = [PREFIX]  # noqa: RUF012 (read by diffusers as a plain list)
    unet_name = PREFIX
    unet: Any
    _adapter_sounds: dict[str, list[list[float]]] | None = None

    def _sounds_of_adapters(self) -> tuple[list[list[float]], float]:
        """The sounds of the adapters that play, and their summed strength, at most 1."""
        sounds = {name: own for name, own in (self._adapter_sounds or {}).items() if own}
        strengths = {one["name"]: one["strength"] for one in adapters_of(self.unet)} if sounds else {}
        playing = [name for name in sounds if strengths.get(name, 0.0) > 0.0]
        return [sound for name in playing for sound in sounds[name]], min(1.0, sum(strengths[name] for name in playing))

    @classmethod
    def lora_state_dict(
        cls,
        pretrained_model_name_or_path_or_dict: str | Path | dict,
        return_lora_metadata: bool = False,
        **options: Any,
    ) -> Any:
        """Tensors of an adapter by name, and with `return_lora_metadata` also its config, which may be None.

        Args:
            pretrained_model_name_or_path_or_dict: as of `load_lora_weights`.
            return_lora_metadata: whether to return both.
            options: weight_name, revision, token, subfolder and so on, see `find_lora`.
        """
        given = pretrained_model_name_or_path_or_dict
        state, metadata = (dict(given), None) if isinstance(given, dict) else read_lora(find_lora(given, **options))
        return (state, metadata) if return_lora_metadata else state

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path | dict,
        adapter_name: str | None = None,
        hotswap: bool = False,
        **options: Any,
    ) -> None:
        """Load an adapter, which then plays alone at strength 1 until `set_adapters` says otherwise.

        Args:
            pretrained_model_name_or_path_or_dict: folder, safetensors file, user/name on the Hub, or tensors by name.
            adapter_name: what it is called from then on; None = default_0, default_1, ...
            hotswap: whether to replace the tensors of the adapter of that name in place.
            options: weight_name, revision, token, subfolder and so on, see `find_lora`.

        Raises:
            ValueError: one line: no such folder, a damaged file, an adapter of another network (the first tensor that
                does not fit is named), a name that is taken, or adapters that are fused. Nothing is
                then loaded.
            OSError: the Hub cannot be reached, or does not have it.
            ImportError: peft is not installed.
        """
        check_peft()
        check_unfused(self.unet)
        taken = list(getattr(self.unet, "peft_config", None) or {})
        if adapter_name is not None and (not adapter_name or "." in adapter_name or (adapter_name in taken) != hotswap):
            others = f"; taken: {', '.join(taken)}" if taken else ""
            wanted = "that of a loaded one" if hotswap else "a new name without dots"
            raise ValueError(f"adapter_name is {adapter_name!r}; allowed: {wanted}{others}")
        given = pretrained_model_name_or_path_or_dict
        what = "lora" if isinstance(given, dict) else f"lora {given}"
        state, metadata = self.lora_state_dict(given, return_lora_metadata=True, **options)
        check_fit(state, self.unet, what)
        sounds = read_sounds_of(metadata, self.unet, what)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # stacking is meant
            try:
                self.unet.load_lora_adapter(
                    state, prefix=PREFIX, adapter_name=adapter_name, metadata=metadata, hotswap=hotswap, _pipeline=self
                )
            except (RuntimeError, TypeError, KeyError, ValueError) as error:  # metadata that the tensors do not fit
                if not taken:
                    self.unet.unload_lora()
                raise ValueError(f"{what}: cannot be loaded ({' '.join(str(error).split())})") from error
        make_exact(self.unet)
        self.unet.eval()
        name = adapter_name or next(name for name in self.unet.peft_config if name not in taken)
        self._adapter_sounds = (self._adapter_sounds or {}) | {name: sounds}

    def set_adapters(self, adapter_names: list[str] | str, adapter_weights: float | list[float] | None = None) -> None:
        """Let these adapters play, added up in this order, each with its strength.

        Args:
            adapter_names: of `load_lora_weights`.
            adapter_weights: strengths, one for all or one for each; 1 = as trained, 0 = not at all, None = 1.

        Raises:
            ValueError: no adapter of that name, a strength that is not a finite number, or adapters that are fused.
        """
        check_peft()
        check_unfused(self.unet)
        names = [adapter_names] if isinstance(adapter_names, str) else list(adapter_names)
        one_each = isinstance(adapter_weights, (list, tuple))
        weights: list[Any] = list(adapter_weights) if one_each else [adapter_weights] * len(names)  # type: ignore[arg-type]
        for weight in weights:
            number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
            if weight is not None and not (number and math.isfinite(weight)):
                raise ValueError(f"adapter_weights has {weight!r}; allowed: a finite number for each adapter")
        loaded = list(getattr(self.unet, "peft_config", None) or {})
        missing = [name for name in names if name not in loaded]
        if missing:
            raise ValueError(f"adapter_names has {missing[0]!r}; loaded: {', '.join(loaded) or 'none'}")
        if len(names) != len(weights):
            raise ValueError(f"adapter_weights has {len(weights)} numbers for {len(names)} adapters; give one for each")
        super().set_adapters(names, weights)

    def fuse_lora(
        self,
        components: list[str] | tuple[str, ...] = (PREFIX,),
        lora_scale: float = 1.0,
        safe_fusing: bool = False,
        adapter_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the adapters that play to the network's weights: the same sound up to rounding, at the speed without.

        The weights as they were are kept for `unfuse_lora`. Arguments are diffusers'.
        """
        check_peft()
        for _, module in lora_layers(self.unet):
            if not module.merged_adapters:
                module.weight_before = module.get_base_layer().weight.detach().clone()
        super().fuse_lora(list(components), lora_scale, safe_fusing, adapter_names, **kwargs)

    def unfuse_lora(self, components: list[str] | tuple[str, ...] = (PREFIX,), **kwargs: Any) -> None:
        """Take fused adapters out of the weights again, which then have the bits that they had before."""
        check_peft()
        super().unfuse_lora(list(components), **kwargs)
        with torch.no_grad():
            for _, module in lora_layers(self.unet):
                before = vars(module).pop("weight_before", None)
                if before is not None:
                    module.get_base_layer().weight.copy_(before)

    def unload_lora_weights(self) -> None:
        """Forget all adapters: the network is again what it was, except for what was fused into its weights."""
        check_peft()
        super().unload_lora_weights()
        self._merged_adapters: set[str] = set()

    @classmethod
    def save_lora_weights(
        cls,
        save_directory: str | Path,
        unet_lora_layers: dict[str, torch.Tensor] | None = None,
        is_main_process: bool = True,
        weight_name: str | None = None,
        save_function: Any = None,
        safe_serialization: bool = True,
        unet_lora_adapter_metadata: dict | None = None,
        sounds: list[list[float]] | None = None,
    ) -> None:
        """Write an adapter as a folder that `load_lora_weights` loads, whole or not at all.

        Args:
            save_directory: folder; an adapter there is replaced.
            unet_lora_layers: of `peft.get_peft_model_state_dict(pipe.unet, adapter_name=...)`.
            is_main_process: other processes write nothing.
            weight_name: of the file; None = pytorch_lora_weights.safetensors.
            save_function, safe_serialization: only diffusers' own safetensors are allowed.
            unet_lora_adapter_metadata: of `pipe.unet.peft_config[name].to_dict()`; without it, the scale of an adapter
                whose alpha is not its rank is lost.
            sounds: statistics of recordings, as `sound_of` gives them. A piece that is made with the adapter is to
                sound like one of them, which its seed chooses, where its call has no `sounds_like`.

        Raises:
            ValueError: no tensors, or another format.
        """
        if not unet_lora_layers:
            raise ValueError("unet_lora_layers is empty; give peft.get_peft_model_state_dict(pipe.unet)")
        if save_function is not None or not safe_serialization:
            raise ValueError("safe_serialization must be True and save_function None: only safetensors are written")
        if not is_main_process:
            return
        kept = {key: value for key, value in (unet_lora_adapter_metadata or {}).items() if key in CONFIG}
        kept = {key: sorted(value) if isinstance(value, set) else value for key, value in kept.items()}
        layers = {name: value.detach().cpu().contiguous() for name, value in unet_lora_layers.items()}
        part, _, name = SOUNDS.partition(".")
        about = {PREFIX: kept or None, part: {name: json.dumps(sounds)} if sounds else None}
        with written_beside(Path(save_directory)) as folder:
            cls._save_lora_weights(
                folder,
                {PREFIX: layers},
                {PREFIX: kept or None, **about},
                weight_name=weight_name or LORA_WEIGHT_NAME_SAFE,
            )
