"""The composer: compositions -> ComposerVivace, by masked diffusion.

    python -m training.data.compositions --output_dir data/compositions
    python -m training.train_composer --config training/configs/small/composer.yaml

Part of the tokens of a crop is masked and the network finds them from the rest (Austin et al. 2021,
https://arxiv.org/abs/2107.03006). The masked part is drawn as a composer meets it: any tokens, whole parts, spans of
bars, all that follows a place, or all.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from pipelines.composer_vivace import NAMES, ROLE_COLUMNS, SIZES, STRUCTURE, ComposerVivace, casting_loss, masked_loss
from training.composer_families import ComposerSeq2Seq, ComposerWaveNet, StepComposer
from training.config import StageRun, command, load_model_config, option, parse_config
from training.data.compositions import PLAYERS, Compositions
from training.run import loop
from training.run.trainer import Losses, Trainer

FAMILIES = {"masked": ComposerVivace, "wavenet": ComposerWaveNet, "seq2seq": ComposerSeq2Seq}
CONDITIONS = ("beats", "minor", "bpm", "states", "density", "players", "text", "to_end")


@dataclass(frozen=True)
class ComposerRun(StageRun):
    """Train the composer on compositions."""

    model_config: str = "training/configs/small/composer.json"
    data_dir: str = "data/compositions"
    output_dir: str = "runs/small/composer"
    family: str = option(
        "masked",
        "network: ComposerVivace, or one that writes step after step",
        choices=("masked", "wavenet", "seq2seq"),
    )
    crop_steps: int = option(256, "16ths of a crop, a multiple of the network's patch", above=0)
    condition_dropout: float = option(
        0.25, "share of items that lack a condition, each on its own", at_least=0, at_most=1
    )
    validate_every: int = option(500, "steps between validations", above=0, free=True)
    validate_pieces: int = option(96, "pieces of a validation", above=0)


def draw_mask(visible: torch.Tensor, bar: int, rng: np.random.Generator) -> torch.Tensor:
    """Which tokens (steps, columns) of a crop are masked; at least one, none where it is padded."""
    steps, kind = int(visible.sum()), rng.random()
    share = math.cos(rng.random() * math.pi / 2)  # few tokens seldom, most often many, as sampling meets them
    mask = torch.from_numpy(rng.random((len(visible), len(NAMES))) < share)
    if kind < 0.25:  # whole parts, with the others given
        chosen = [name for names in ROLE_COLUMNS.values() if rng.random() < 0.5 for name in names]
        columns = torch.zeros(len(NAMES), dtype=torch.bool)
        columns[[NAMES.index(name) for name in chosen]] = True
        columns[: len(STRUCTURE)] = bool(rng.random() < 0.3)
        mask &= columns
    elif kind < 0.45:  # a span of bars
        bars = max(1, steps // bar)
        first = int(rng.integers(bars))
        last = int(rng.integers(first, bars)) + 1
        span = torch.zeros(len(visible), dtype=torch.bool)
        span[first * bar : last * bar] = True
        mask &= span[:, None]
    elif kind < 0.7:  # all after a bar
        mask[: int(rng.integers(0, max(1, steps // bar))) * bar] = False
    if rng.random() < 0.5:  # chords and feel are given
        mask[:, : len(STRUCTURE)] = False
    mask &= visible[:, None]
    if not mask.any():
        mask[int(rng.integers(steps)), 2 + int(rng.integers(len(NAMES) - 2))] = True
    return mask


class MaskedCompositions:
    """Crops with drawn masks (see `draw_mask`) and dropped conditions; with `notes` all notes are masked, no chords."""

    def __init__(self, crops: Compositions, dropout: float, notes: bool = False):
        self.crops, self.dropout, self.notes = crops, dropout, notes

    def __len__(self) -> int:
        return len(self.crops)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        item = self.crops.read(index, rng)
        item["masked"] = draw_mask(item["visible"], int(item["steps_per_bar"]), rng)
        if self.notes:
            item["masked"] = item["visible"][:, None] & (torch.arange(len(NAMES)) >= len(STRUCTURE))
        item["masked"] &= item["tokens"] < torch.tensor(SIZES)  # unknown chords stay masked and do not count
        for name in ("beats", "minor", "bpm", "states", "density", "players"):
            gone = torch.from_numpy(np.array(rng.random(item[name].shape) < self.dropout))
            item[name] = torch.where(gone, torch.full_like(item[name], -1), item[name])
        if rng.random() < self.dropout:
            item["to_end"] = torch.full_like(item["to_end"], -1)
        if rng.random() < self.dropout:
            item["text"] = torch.zeros_like(item["text"])
        return item


def predict(
    network: torch.nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Sums of the loss and numbers of masked tokens of a batch, each (columns,); and the loss of who plays."""
    tokens, chosen = batch["tokens"], batch["masked"]
    conditions = {name: batch[name] for name in CONDITIONS}
    grid = (batch["first_step"], batch["steps_per_bar"], conditions, batch["visible"])
    if isinstance(getattr(network, "module", network), StepComposer):  # that one sees only what precedes
        return *masked_loss(network(tokens, *grid), tokens, chosen), None
    hidden = torch.where(chosen, torch.tensor(SIZES, device=tokens.device), tokens)
    logits, *who = network(hidden, *grid, with_cast=True)
    return *masked_loss(logits, tokens, chosen), casting_loss(*who, conditions)


@torch.no_grad()
def validate(model: torch.nn.Module, items: MaskedCompositions, count: int, batch_size: int = 16) -> dict[str, float]:
    """Mean loss of a masked token in nats, of all, of real scores and of pieces by rule, and by column."""
    device = next(model.parameters()).device
    sums = {name: torch.zeros(2, len(NAMES)) for name in ("all", "real", "rules")}
    model.eval()
    for first in range(0, min(count, len(items)), batch_size):
        rows = range(first, min(first + batch_size, count, len(items)))
        read = [items.read(k, loop.item_rng(0, loop.Stream.VALIDATION_PIECE, k)) for k in rows]
        real = items.crops.real[first : first + len(read)]
        for name, chosen in (("real", real), ("rules", ~real)):
            part = [item for item, take in zip(read, chosen.tolist(), strict=True) if take]
            if part:
                batch = {key: torch.stack([item[key] for item in part]).to(device) for key in part[0]}
                found = torch.stack([value.float().cpu() for value in predict(model, batch)[:2]])
                sums[name] += found
                sums["all"] += found
    model.train()
    figures = {f"validation/{name}": float(v[0].sum() / v[1].sum().clamp_min(1)) for name, v in sums.items()}
    loss, tokens = sums["all"]
    return figures | {
        f"validation/{name}": float(a / b.clamp_min(1)) for name, a, b in zip(NAMES, loss, tokens, strict=True)
    }


def main(argv: list[str] | None = None) -> None:
    config = parse_config(ComposerRun, argv)
    accelerator = loop.start(config)
    family = FAMILIES[config.family]
    settings = {"instruments": PLAYERS} | load_model_config(config.model_config, family)
    if config.init_from:  # what older weights lack begins anew
        added = {"ends": True} if settings.get("ends") else {}
        model = family.from_pretrained(config.init_from, low_cpu_mem_usage=False, **added)
    else:
        model = family(**settings)
    if config.family == "masked" and config.crop_steps % model.config.patch:
        raise ValueError(f"crop_steps is {config.crop_steps}; allowed: multiples of the patch, {model.config.patch}")
    crops = {name: Compositions(config.data_dir, name, config.crop_steps) for name in ("train", "validation")}
    items = {
        name: MaskedCompositions(part, config.condition_dropout * (name == "train"), config.family != "masked")
        for name, part in crops.items()
    }
    model = model.to(accelerator.device)
    accelerator.print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {len(crops['train'])} pieces"
    )
    trainer = Trainer(accelerator, config, model, (0.9, 0.98), "composer", ema_decay=config.ema_decay)
    loader = loop.make_loader(items["train"], config, trainer.resume(), accelerator)

    def losses(step: int, part: int, batch: dict[str, torch.Tensor]) -> Losses:
        with accelerator.autocast():
            sums, counts, casting = predict(trainer.network, batch)
        parts = {"loss": sums.sum() / counts.sum()} | ({} if casting is None else {"casting": casting})
        return Losses(torch.stack([*parts.values()]).sum(), parts, parts)

    def figures(step: int, last: bool) -> dict[str, float]:
        with loop.ema_weights(trainer.ema, model):
            return validate(model, items["validation"], config.validate_pieces)

    trainer.run(loader, losses, figures, [config.validate_every])
    loop.save_final(accelerator, model, trainer.ema, config)


if __name__ == "__main__":
    command(main)
