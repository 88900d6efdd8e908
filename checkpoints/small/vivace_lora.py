"""LoRA adapters of the network: loaded, weighted, fused, saved in the ways of diffusers, and named in recipes.

An adapter adds to the output of some layers that of two narrow ones (Hu et al. 2021, https://arxiv.org/abs/2106.09685).
Its file is a safetensors file in diffusers' naming, `unet.<layer>.lora_A.weight` and `unet.<layer>.lora_B.weight`; no
code of it is run. The package peft is needed, and imported only where an adapter is loaded.
"""

import hashlib
import importlib.util
import json
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE, LoraBaseMixin, _fetch_state_dict
from diffusers.utils.hub_utils import _get_model_file

from .vivace_publish import written_beside

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


def lora_layers(unet: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """Name and module of each layer that has adapters."""
    for name, module in unet.named_modules():
        if hasattr(module, "base_layer") and hasattr(module, "lora_A"):
            yield name, module


def make_exact(unet: torch.nn.Module) -> None:
    """Give the narrow layers of adapters the network's own classes, which round alike in a batch of any size."""
    for _, module in lora_layers(unet):
        kind = type(module.get_base_layer())
        for narrow in (*module.lora_A.values(), *module.lora_B.values()):
            if type(narrow) in kind.__bases__:
                narrow.__class__ = kind


def adapters_of(unet: Any) -> list[dict]:
    """Name, strength and hash of each adapter that plays, in the order in which they are added; JSON can hold it.

    The hash, 16 hexadecimal digits of SHA-256, is of its tensors as fp32 and of its scale at strength 1. The name is
    not in it. "fused" is True of one that is fused into the weights.
    """
    digests: dict[str, Any] = {}
    found: dict[str, dict] = {}
    for layer, module in lora_layers(unet) if getattr(unet, "peft_config", None) else ():
        # Where some are fused, peft adds no others.
        playing = [] if module.disable_adapters else module.merged_adapters or module.active_adapters
        for name in dict.fromkeys(playing):
            if name not in module.lora_A:
                continue
            rank, alpha = module.r[name], module.lora_alpha[name]
            scale = alpha / (math.sqrt(rank) if module.use_rslora.get(name) else rank)
            digest = digests.setdefault(name, hashlib.sha256())
            digest.update(f"{layer} {scale!r}".encode())
            for part in (module.lora_A[name], module.lora_B[name]):
                for key, value in part.state_dict().items():
                    digest.update(key.encode())
                    digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
            fused = {"fused": True} if name in module.merged_adapters else {}
            found.setdefault(name, {"name": name, "strength": round(module.scaling[name] / scale, 6), **fused})
    return [one | {"sha256": digests[name].hexdigest()[:16]} for name, one in found.items()]


def check_adapters(recipe: dict, unet: Any) -> None:
    """Raise a ValueError if the adapters of a network are not those that a recipe names, with the same strengths."""

    def what(adapters: list[dict]) -> list[tuple]:
        return [(one.get("sha256"), one.get("strength")) for one in adapters]

    def words(adapters: list[dict]) -> str:
        told = [f"{one.get('name')} (strength {one.get('strength')}, hash {one.get('sha256')})" for one in adapters]
        return ", ".join(told) or "none"

    wanted, here = recipe.get("adapters") or [], adapters_of(unet)
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise ValueError("the recipe cannot be played again: its adapters are damaged")
    if what(wanted) != what(here):
        raise ValueError(
            f"the piece was made with the LoRA adapters {words(wanted)}; loaded are {words(here)}: load the same with "
            "load_lora_weights and set_adapters, or --lora, in that order"
        )


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
        known = {name: sounds for name, sounds in (self._adapter_sounds or {}).items() if sounds}
        strengths = {one["name"]: one["strength"] for one in adapters_of(self.unet)} if known else {}
        playing = [name for name in known if strengths.get(name, 0.0) > 0.0]
        return [sound for name in playing for sound in known[name]], min(1.0, sum(strengths[name] for name in playing))

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
            known = f"; taken: {', '.join(taken)}" if taken else ""
            wanted = "that of a loaded one" if hotswap else "a new name without dots"
            raise ValueError(f"adapter_name is {adapter_name!r}; allowed: {wanted}{known}")
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
