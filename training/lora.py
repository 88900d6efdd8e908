"""Train a LoRA adapter of a published network instead of the network itself.

    python -m training.train_unet --init_from checkpoints/small --lora_rank 8 --data_dir latents/mine \\
        --scheduler_config checkpoints/small/scheduler/scheduler_config.json --output_dir runs/mine

All weights of the checkpoint stay as they are. The run's folder `final` is what `pipe.load_lora_weights` loads, and
`best` the same at the validation with the lowest loss; `best/best.json` has that loss, and that without the adapter.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn

from autoencoder.classes import load_autoencoder
from pipelines.pipeline_vivace import VivacePipeline
from pipelines.unet_1d_condition_vivace import UNet1DConditionModel
from pipelines.vivace_checkpoint import check_peft, written_beside
from pipelines.vivace_files import lora_layers, weights_hash
from pipelines.vivace_process import latent_statistics
from training.config import AdapterRun
from training.data.latents import LatentCrops, models_fingerprint
from training.encode_latents import load_text_encoder
from training.run.checkpoints import recover_folder, replace_folder, write_json
from training.run.streams import Stream, item_rng

# Of each layer of the network: its attention, its convolutions and what scales and shifts between them.
LAYERS = ["to_q", "to_k", "to_v", "to_out", "conv1", "conv2", "film"]
WEIGHTS = "pytorch_lora_weights.safetensors"
NAME = "default"  # of the adapter while it is trained
METRIC = "validation/all"
CARD = """---
library_name: diffusers
pipeline_tag: text-to-audio
tags: [music, text-to-music, vivace, lora]{base_line}
---

# {name}

A LoRA adapter of {base} for Vivace.

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("{base}", trust_remote_code=True)
pipe.load_lora_weights("{name}", adapter_name="mine")
pipe.set_adapters("mine", 0.8)
pipe("slow piano, 8 bars", seed=7).save("out.wav")
```

- Base: {base}, network weights {sha256}
- Rank {rank}, {steps} of {max_steps} steps trained on {items}; the step is that with the best held-out {figure}
- Held-out {figure}: {before:.4f} without the adapter, {after:.4f} with it
{notes}"""


def check(config: AdapterRun) -> Path:
    """The checkpoint folder of a run with `lora_rank`. Raises a ValueError if `init_from` is no whole checkpoint, or
    peft is missing."""
    try:
        check_peft()
    except ImportError as error:
        raise ValueError(f"lora_rank is {config.lora_rank}: {error}") from error
    folder = Path(config.init_from or "")
    parts = ("unet", "vae", "text_encoder")
    missing = [part for part in parts if config.init_from is None or not (folder / part / "config.json").is_file()]
    if missing:
        raise ValueError(
            f"init_from is {config.init_from!r}, which has no {missing[0]}/; with lora_rank give the checkpoint folder "
            "that the adapter is for"
        )
    return folder


def use_statistics(crops: LatentCrops, folder: Path, data_dir: str) -> None:
    """Standardise latents, in place, with the statistics of the checkpoint, on which its network was trained. Raises a
    ValueError if the latents were made by another autoencoder or text encoder."""
    vae = load_autoencoder(f"{folder}/vae")
    if crops.about["models"] != models_fingerprint(vae, load_text_encoder(str(folder))[0]):
        raise ValueError(
            f"data_dir {data_dir}: its latents were made with another autoencoder or text encoder than those of "
            f"{folder}; make them with training.encode_latents --autoencoder {folder}/vae --text_encoder {folder}"
        )
    if vae.config.latents_mean is not None:
        crops.mean, crops.std = torch.tensor(vae.config.latents_mean), torch.tensor(vae.config.latents_std)


def add_adapter(model: UNet1DConditionModel, config: AdapterRun, layers: list[str] | str = LAYERS) -> nn.ModuleList:
    """Add a new adapter to a network, all of whose own weights are then left alone; the layers that are trained.

    It changes nothing at first: the second of each pair of layers is zero.
    """
    from peft import LoraConfig

    alpha = config.lora_rank if config.lora_alpha is None else config.lora_alpha
    torch.manual_seed(config.seed)  # a run that goes on makes the same one
    model.add_adapter(LoraConfig(r=config.lora_rank, lora_alpha=alpha, target_modules=layers), NAME)
    return adapter_layers(model)


def adapter_layers(model: UNet1DConditionModel) -> nn.ModuleList:
    """The layers of the adapter of a network."""
    return nn.ModuleList(part[NAME] for _, layer in lora_layers(model) for part in (layer.lora_A, layer.lora_B))


def keep_in_checkpoints(accelerator: Accelerator, model: UNet1DConditionModel) -> None:
    """Let the run's checkpoints hold the adapter alone, without the weights that are not trained."""

    def save(_models: list, weights: list, _folder: str) -> None:
        weights[:] = [{name: value for name, value in one.items() if ".lora_" in name} for one in weights]

    def load(models: list, folder: str) -> None:
        models.clear()  # accelerate would look for all weights
        state = load_file(Path(folder) / "model.safetensors")
        # Wrappers of several processes and of torch.compile put their name before.
        state = {name.removeprefix("module.").removeprefix("_orig_mod."): value for name, value in state.items()}
        trained = {name for name in model.state_dict() if ".lora_" in name}
        if set(state) != trained:
            raise ValueError(f"{folder}: its adapter has other layers than that of this run")
        model.load_state_dict(state, strict=False)

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def note_base(model: UNet1DConditionModel, config: AdapterRun) -> None:
    """Write what the adapter is for to `output_dir/base.json`, or compare with what a run there was for. Raises a
    ValueError if the checkpoint has other weights than when the run began, and `force` is not set."""
    path = Path(config.output_dir) / "base.json"
    about = {"checkpoint": config.init_from, "unet_sha256": weights_hash([model])}
    if path.is_file() and not config.force:
        before = json.loads(path.read_text())
        if before["unet_sha256"] != about["unet_sha256"]:
            raise ValueError(
                f"init_from {config.init_from}: its network has other weights than when the run in "
                f"{config.output_dir} began; choose another output_dir, or --force to go on all the same"
            )
    write_json(path, about)


def sounds_of(crops: LatentCrops, count: int = 16) -> list[list[float]]:
    """Sounds of a split, as `pipe.sound_of` gives those of audio: means over at most `count` runs of neighbouring
    clips, which mostly are of one file."""
    rng = item_rng(0, Stream.ADAPTER_SOUND, 0)
    clips = torch.stack([latent_statistics(crops.whole(index, rng), 1) for index in range(len(crops))])
    groups = np.array_split(np.arange(len(crops)), min(count, len(crops)))
    return [[round(value, 4) for value in clips[group].mean(0).tolist()] for group in groups]


def save_adapter(
    model: UNet1DConditionModel, folder: Path, sounds: list[list[float]] | None = None, half: bool = False
) -> None:
    """Write the adapter of a network as a folder that `load_lora_weights` loads, with sounds that it brings; with
    `half` in fp16."""
    from peft import get_peft_model_state_dict

    state = get_peft_model_state_dict(model, adapter_name=NAME)
    VivacePipeline.save_lora_weights(
        folder,
        {name: value.half() if half else value for name, value in state.items()},
        unet_lora_adapter_metadata=model.peft_config[NAME].to_dict(),
        sounds=sounds,
    )


class Repeated:
    """`count` crops of few clips, each clip several times with other crops and noise, for a steady loss."""

    def __init__(self, crops: LatentCrops, count: int):
        self.crops, self.count = crops, count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """See `LatentCrops.read`."""
        return self.crops.read(index % len(self.crops), rng)


class Best:
    """Keeps the adapter with the lowest validation loss, or other weights by another figure, in `output_dir/best`.

    A run that goes on from an earlier checkpoint reaches the same figures at the same steps, so that the folder stays
    valid; a new run replaces it.

    Args:
        run: `output_dir`.
        figure: "loss", of which the lowest is kept, or "reward", of which the highest is.
        save: writes what is kept of a network to a folder; None = its adapter.
    """

    def __init__(self, run: Path, figure: str = "loss", save: Callable[[nn.Module, Path], None] | None = None):
        self.folder, self.figure, self.save = run / "best", figure, save_adapter if save is None else save

    def read(self) -> dict | None:
        """Content of best.json: step, loss, base_loss, or step, reward, base_reward."""
        recover_folder(self.folder)
        path = self.folder / "best.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def keep(self, model: UNet1DConditionModel, value: float, step: int) -> None:
        """Write the weights if their figure is better than that of those there; at step 0 always."""
        before, sign = None if step == 0 else self.read(), 1.0 if self.figure == "loss" else -1.0
        if before is not None and sign * value >= sign * before[self.figure]:
            return
        partial = self.folder.with_name("best.partial")
        shutil.rmtree(partial, ignore_errors=True)
        self.save(model, partial)
        base = value if before is None else before[f"base_{self.figure}"]
        write_json(partial / "best.json", {"step": step, self.figure: value, f"base_{self.figure}": base})
        replace_folder(partial, self.folder)


def base_name(checkpoint: str) -> str:
    """A checkpoint as others would call it: user/name where it lies in the cache of the Hub, else its folder's name."""
    cached = re.search(r"models--([^/]+)--([^/]+)/snapshots", checkpoint)
    return f"{cached[1]}/{cached[2]}" if cached else Path(checkpoint).resolve().name


def finished(run: Path) -> tuple[dict, str]:
    """Content of best.json of a finished run, and the name of its figure. Raises a ValueError if the run is not
    finished, or was never better than at its start."""
    if not (run / "final").is_dir():
        raise ValueError(f"run is {str(run)!r}, which is not finished; give its command again to finish it")
    about = Best(run).read()
    figure = "reward" if about is not None and "reward" in about else "loss"
    if about is None or about["step"] == 0:
        what = "reward never rose above" if figure == "reward" else "loss never fell below"
        raise ValueError(
            f"run {run}: the held-out {what} that at the start, so that nothing would be gained; train on more, at "
            "another learning_rate, or for more steps"
        )
    return about, figure


def export(run: Path, output_dir: Path, notes: str = "") -> dict:
    """Write the best adapter of a finished run, with a card, as a folder that can be loaded and uploaded; returns the
    content of its best.json. Raises a ValueError if the run is not finished, or was never better than at its start."""
    best, (about, figure) = Best(run), finished(run)
    config, base = (json.loads((run / name).read_text()) for name in ("config.json", "base.json"))
    name = base_name(base["checkpoint"])
    text = CARD.format(
        name=output_dir.resolve().name, base=name, base_line=f"\nbase_model: {name}" if "/" in name else "",
        sha256=base["unet_sha256"], rank=config["lora_rank"], steps=about["step"], max_steps=config["max_steps"],
        items="choices" if config.get("preferences") else f"{len(LatentCrops(config['data_dir'], 'train', 1))} clips",
        figure=figure, before=about[f"base_{figure}"], after=about[figure], notes=notes,
    )  # fmt: skip
    with written_beside(output_dir) as folder:
        shutil.copyfile(best.folder / WEIGHTS, folder / WEIGHTS)
        (folder / "README.md").write_text(text)
    return about
