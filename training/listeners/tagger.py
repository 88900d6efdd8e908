"""The tagger: a small network for the instruments, drums and style of a clip.

    python -m training.listeners.tagger

It is trained on the scorebook, so that its scores cannot be compared with those of other taggers. Every report has its
name, its hash and its own precision on the test split.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import librosa
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from training.config import command, option, parse_config
from training.data.clips import read_rows
from training.listeners.fit import (
    ListenerRun,
    clip_tensor,
    fit,
    load_network,
    save_network,
    spectrograms,
    training_card,
)
from training.metrics.control import DRUMS, STYLE

WINDOW = 1024  # samples
MELS = 64
RATE = 31.25  # frames a second
OWN_THRESHOLD = 8  # clips of the validation split that a tag needs for its own threshold


class Tagger(nn.Module):
    """Log-mel spectrogram -> four convolutions -> mean and maximum over time -> a logit for each tag.

    Args:
        tags: names: "drums", "style:..." and instruments.
        sampling_rate: Hz of its input.
        width: channels of the first convolution.
    """

    def __init__(self, tags: list[str], sampling_rate: int = 24000, width: int = 24):
        super().__init__()
        self.tags, self.sampling_rate, self.width = list(tags), sampling_rate, width
        self.hop = round(sampling_rate / RATE)
        widths = [1, width, 2 * width, 3 * width, 4 * width]
        self.blocks = nn.ModuleList()
        for before, after in pairwise(widths):
            self.blocks.append(nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after)))
        # Only time is pooled, since the frequencies of its energy identify an instrument.
        self.head = nn.Sequential(
            nn.Dropout(0.3), nn.Linear(2 * widths[-1] * (MELS // 16), 160), nn.ReLU(), nn.Dropout(0.2),
            nn.Linear(160, len(self.tags)),
        )  # fmt: skip
        self.register_buffer("filters", _mel_filters(sampling_rate), persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def spectrogram(self, audio: torch.Tensor) -> torch.Tensor:
        """(batch, samples) -> log-mel (batch, MELS, frames) relative to the loudest value of each clip."""
        bins = torch.stft(audio, WINDOW, self.hop, window=self.window, return_complex=True).abs()
        mel = torch.log10((self.filters @ bins).clamp_min(1e-4)) + 4.0  # 0 = -80 dB
        loud = mel.amax(dim=(1, 2), keepdim=True)
        return (mel - loud).clamp_min(-3.5) / 2.0 + 1.0

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """(batch, MELS, frames) -> logits (batch, tags)."""
        hidden = mel[:, None]
        for block in self.blocks:
            hidden = F.max_pool2d(F.relu(block(hidden)), 2)
        pooled = torch.cat([hidden.mean(-1), hidden.amax(-1)], dim=1).flatten(1)
        return self.head(pooled)

    @torch.no_grad()
    def probabilities(self, audios: list[np.ndarray], sampling_rate: int) -> list[dict[str, float]]:
        """Probability of each tag for each clip (samples,), resampled if necessary."""
        self.eval()
        out = []
        for audio in audios:
            clip = clip_tensor(audio, sampling_rate, self.sampling_rate)
            values = torch.sigmoid(self(self.spectrogram(clip)))[0].tolist()
            out.append(dict(zip(self.tags, values, strict=True)))
        return out


def load_tagger(folder: str) -> tuple[Tagger, dict]:
    """A tagger and its card; a ValueError if they cannot be read."""
    return load_network(Tagger, folder, "tagger", ("tags", "sampling_rate", "width"))


def _mel_filters(sampling_rate: int) -> torch.Tensor:
    """(MELS, bins) triangular filters, 40 Hz to half the sampling rate."""
    return torch.from_numpy(librosa.filters.mel(sr=sampling_rate, n_fft=WINDOW, n_mels=MELS, fmin=40.0)).float()


# Training, on the scorebook's train split.


@dataclass(frozen=True)
class TaggerRun(ListenerRun):
    """Train the tagger of instruments, drums and styles."""

    output_dir: str = "checkpoints/tagger"
    max_steps: int = 1200
    crop_s: float = 5.0
    min_clips: int = option(12, "an instrument or style in fewer training clips than this is no tag", at_least=1)


def tag_names(rows: list[dict], min_clips: int) -> list[str]:
    """The tags to train: "drums", and the styles and instruments of at least `min_clips` rows."""
    instruments = Counter(name for row in rows for name in row.get("instruments") or [])
    styles = Counter(row["style"] for row in rows if row.get("style"))
    kept = sorted(name for name, count in instruments.items() if count >= min_clips)
    return [DRUMS, *(STYLE + name for name in sorted(styles) if styles[name] >= min_clips), *kept]


def targets(rows: list[dict], tags: list[str]) -> torch.Tensor:
    """(rows, tags) of 0 and 1, NaN for missing labels."""
    table = torch.full((len(rows), len(tags)), float("nan"))
    for index, row in enumerate(rows):
        present = set(row.get("instruments") or [])
        for column, tag in enumerate(tags):
            if tag == DRUMS:
                labelled, value = row.get("drums") is not None, bool(row.get("drums"))
            elif tag.startswith(STYLE):
                labelled, value = bool(row.get("style")), row.get("style") == tag[len(STYLE) :]
            else:
                labelled, value = row.get("instruments") is not None, tag in present
            if labelled:
                table[index, column] = float(value)
    return table


def augment(mel: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Vary the recording, (batch, MELS, frames): a smooth filter, a low-pass filter, noise and a masked stripe."""
    for clip in mel:
        knots = rng.normal(0.0, 0.12, size=5)
        clip += torch.from_numpy(np.interp(np.linspace(0, 4, MELS), np.arange(5), knots)).float()[:, None]
        if rng.random() < 0.3:  # low-pass filter, as of a codec
            clip[int(rng.integers(MELS * 5 // 8, MELS)) :] = clip.min()
        clip += float(rng.uniform(0.0, 0.06)) * torch.from_numpy(rng.normal(size=tuple(clip.shape)).astype(np.float32))
        if rng.random() < 0.3:
            start = int(rng.integers(0, MELS - 6))
            clip[start : start + int(rng.integers(2, 7))] = clip.mean()
    return mel.clamp(-0.75, 1.3)


def scores(tagger: Tagger, mel: torch.Tensor) -> torch.Tensor:
    """Probabilities (clips, tags) of whole clips."""
    tagger.eval()
    with torch.no_grad():
        return torch.cat([torch.sigmoid(tagger(part.float())) for part in mel.split(16)])


def average_precision(score: np.ndarray, truth: np.ndarray) -> float | None:
    """Area under the precision-recall curve; None without positives. NaN in `truth` is ignored."""
    labelled = np.isfinite(truth)
    score, truth = score[labelled], truth[labelled] > 0.5
    if not truth.any():
        return None
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    return float(np.mean((hits / np.arange(1, len(hits) + 1))[truth[order]]))


def best_threshold(score: np.ndarray, truth: np.ndarray, fewest: int = 1, otherwise: float = 0.5) -> float:
    """The threshold with the largest F1; `otherwise` if there are fewer positives than `fewest`."""
    labelled = np.isfinite(truth)
    score, truth = score[labelled], truth[labelled] > 0.5
    if truth.sum() < fewest:
        return otherwise
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(truth[order])
    f1 = 2.0 * hits / (np.arange(1, len(hits) + 1) + truth.sum())
    return float(score[order][np.argmax(f1)])


def train(config: TaggerRun) -> dict:
    """Train, choose thresholds, measure, save; returns the card. Raises a ValueError if there are no rows, or none with
    tags."""
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    rows = {split: read_rows(config.data_dir, split) for split in ("train", "validation", "test")}
    tags = tag_names(rows["train"], config.min_clips)
    if len(tags) < 2:
        raise ValueError(f"data_dir {config.data_dir}: no tag stands in {config.min_clips} clips of the train split")
    tagger = Tagger(tags, rows["train"][0]["sampling_rate"])
    mel = {split: spectrograms(kept, tagger.spectrogram, 0.0, f"{split} spectrograms") for split, kept in rows.items()}
    truth = {split: targets(split_rows, tags) for split, split_rows in rows.items()}
    share = torch.nanmean(truth["train"], dim=0).clamp(1e-3, 1 - 1e-3)
    tagger.head[-1].bias.data = torch.logit(share)
    frames = mel["train"].shape[2]
    crop = min(round(config.crop_s * RATE), frames)

    def batch_loss(rng: np.random.Generator) -> torch.Tensor:
        pick = rng.integers(0, len(mel["train"]), size=config.batch_size)
        starts = rng.integers(0, frames - crop + 1, size=config.batch_size)
        batch = torch.stack([mel["train"][i, :, s : s + crop] for i, s in zip(pick, starts, strict=True)]).float()
        wanted = truth["train"][pick]
        logits = tagger(augment(batch, rng))
        loss = F.binary_cross_entropy_with_logits(logits, wanted.nan_to_num(), reduction="none")
        return (loss * wanted.isfinite()).sum() / wanted.isfinite().sum()

    minutes = fit(tagger, batch_loss, config.learning_rate, 0.02, config.max_steps, config.seed, "tagger")
    card = measure(tagger, mel, truth)
    card |= training_card(config, rows, minutes)
    shape = {"tags": tagger.tags, "sampling_rate": tagger.sampling_rate, "width": tagger.width}
    save_network(tagger, config.output_dir, "tagger", {**shape, **card})
    return card


def measure(tagger: Tagger, mel: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> dict:
    """Thresholds from the validation split and average precisions from the test split."""
    chosen, tested = scores(tagger, mel["validation"]).numpy(), scores(tagger, mel["test"]).numpy()
    is_instrument = [tag != DRUMS and not tag.startswith(STYLE) for tag in tagger.tags]
    # Rare instruments share one threshold, since a few clips cannot determine one for each.
    instruments = truth["validation"].numpy()[:, is_instrument]
    shared = best_threshold(chosen[:, is_instrument].ravel(), instruments.ravel())
    thresholds, precision = {}, {}
    for column, tag in enumerate(tagger.tags):
        labels = truth["validation"][:, column].numpy()
        thresholds[tag] = round(best_threshold(chosen[:, column], labels, OWN_THRESHOLD, shared), 4)
        precision[tag] = average_precision(tested[:, column], truth["test"][:, column].numpy())
    styles = [c for c, tag in enumerate(tagger.tags) if tag.startswith(STYLE)]
    measured = [precision[tag] for tag, keep in zip(tagger.tags, is_instrument, strict=True) if keep]
    measured = [value for value in measured if value is not None]
    share = torch.nanmean(truth["test"], dim=0).numpy()[is_instrument]
    card = {
        "name": "Vivace scorebook tagger (small CNN on log-mel)",
        "test_instrument_map": float(np.mean(measured)) if measured else None,
        "test_instrument_map_chance": float(np.mean(share[share > 0])) if (share > 0).any() else None,
        "test_average_precision": {tag: v if v is None else round(v, 4) for tag, v in precision.items()},
        "thresholds": thresholds,
    }
    if styles:
        wanted = truth["test"][:, styles].numpy()
        named = np.nan_to_num(wanted).sum(axis=1) > 0
        right = tested[:, styles].argmax(axis=1) == np.nan_to_num(wanted).argmax(axis=1)
        card["test_style_top1"] = float(right[named].mean()) if named.any() else None
    return card


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    config = parse_config(TaggerRun, argv)
    card = train(config)
    print(f"{config.output_dir}: instrument mAP {card['test_instrument_map']:.3f} on test "
          f"(chance {card['test_instrument_map_chance']:.3f}), style top-1 {card.get('test_style_top1')}")  # fmt: skip


if __name__ == "__main__":
    command(main)
