"""Rewards: how far made pieces are what was asked for.

Each reward is a function of `Pieces` that gives one number a piece, the more the better, or NaN where nothing was asked
that it could measure; `REWARDS` has them by name. They are plain signal processing on the decoded audio, or a small
classifier on latents. None of the networks that judge in the evaluation (tagger, beat tracker, key, transcriber) takes
part, so that what they find of a gain is no consequence of having been trained towards.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import nn

from pipelines.pipeline_vivace import VivacePipeline
from pipelines.vivace_process import LOWEST, PITCH_COUNT, PITCHED
from training.data.latents import LatentCrops
from training.listeners.tagger import average_precision, tag_names, targets
from training.metrics.control import STYLE
from training.run.streams import Stream, item_rng

PITCH_WINDOW_S, ONSET_WINDOW_S = 0.19, 0.05
CHROMA_HZ = (80.0, 2000.0)  # below, semitones cannot be told apart; above, partials lie too close
LEVEL_WINDOW_S = 0.1
EVEN_DB = 6.0  # loudest window over the median that costs nothing
LOUDNESS_DB, LOUDNESS_FREE_DB = -18.0, 6.0  # of the training clips, in dB of full scale, and what costs nothing around


@dataclass
class Pieces:
    """Made pieces, and what was asked for.

    Attributes:
        pipe: decodes them.
        latents: (groups, candidates, channels, frames) standardised; those of a group have the same conditions.
        items: the conditions of each group, as `LatentCrops` gives them, with a leading axis of groups.
        rows: the labels of the clip that each group's conditions are from.
        classifier: of instruments; None if no reward needs it.
    """

    pipe: VivacePipeline
    latents: torch.Tensor
    items: dict[str, torch.Tensor]
    rows: list[dict]
    classifier: "Classifier | None" = None
    rate: int = field(init=False)

    def __post_init__(self):
        self.rate = int(self.pipe.vae.config.sampling_rate)

    @cached_property
    def frames(self) -> list[int]:
        """Frames of the pieces of each group."""
        return [int(count) for count in self.items["frame_mask"].sum(dim=1)]

    @cached_property
    def audio(self) -> list[list[torch.Tensor]]:
        """Of each group the candidates, each (channels, samples) on the CPU."""
        return [
            [next(iter(self.pipe.decode_latents([one[None, :, :frames]], False))).cpu() for one in group]
            for group, frames in zip(self.latents, self.frames, strict=True)
        ]

    def each(self, measure: Callable[[int, torch.Tensor], float]) -> torch.Tensor:
        """measure(group, audio) of each piece, (groups, candidates)."""
        return torch.tensor([[measure(group, one) for one in own] for group, own in enumerate(self.audio)])

    def magnitudes(self, group: int, audio: torch.Tensor, window_s: float, parts: int = 1) -> torch.Tensor:
        """Magnitudes (bins, frames * parts) in windows around the middle of each latent frame, or of parts of it."""
        hop, size = self.pipe.vae.hop_length // parts, 2 ** round(math.log2(window_s * self.rate))
        left, columns = size // 2 - hop // 2, self.frames[group] * parts
        mono = audio.mean(dim=0)[: columns * hop]
        right = (columns - 1) * hop + size - left - len(mono)
        padded = nn.functional.pad(mono, (left, max(right, 0)))
        window = torch.hann_window(size)
        return torch.stft(padded, size, hop, window=window, center=False, return_complex=True).abs()[:, :columns]


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Pearson's correlation of two tensors of one shape; 0 if the first does not vary, NaN if the second does not."""
    first, second = (one.double() - one.double().mean() for one in (first, second))
    if not second.any():
        return float("nan")
    return float((first * second).sum() / (first.norm() * second.norm()).clamp_min(1e-12))


def pitch_classes(bins: int, rate: int) -> torch.Tensor:
    """What each frequency of a spectrum counts for each pitch class, (12, bins), C first, A = 440 Hz."""
    hertz = torch.arange(1, bins) * rate / (2.0 * (bins - 1))
    pitch = 69.0 + 12.0 * torch.log2(hertz / 440.0)
    nearest = pitch.round()
    weight = (1.0 - 2.0 * (pitch - nearest).abs()) * ((hertz >= CHROMA_HZ[0]) & (hertz <= CHROMA_HZ[1]))
    table = torch.zeros(12, bins)
    table[nearest.long() % 12, torch.arange(1, bins)] = weight
    return table


def beyond_mean(chroma: torch.Tensor) -> torch.Tensor:
    """Chroma (12, frames) less the mean of each frame, which noise and drums have in all classes."""
    return chroma - chroma.mean(dim=0)


def notes(pieces: Pieces) -> torch.Tensor:
    """Whether the asked notes sound: correlation of the audio's chroma with that of the note roll, and of its rise with
    the onsets of the roll, half and half."""
    if "note_roll" not in pieces.items:
        return torch.full(pieces.latents.shape[:2], float("nan"))
    wanted = []
    for roll, frames in zip(pieces.items["note_roll"].cpu(), pieces.frames, strict=True):
        both = roll[: 2 * PITCH_COUNT * len(PITCHED), :frames].unflatten(0, (len(PITCHED), 2, PITCH_COUNT)).amax(dim=0)
        chroma = torch.zeros(2, 12, frames).index_add(1, (torch.arange(PITCH_COUNT) + LOWEST) % 12, both)
        chroma[1, :, 1:] += chroma[1, :, :-1].clone()  # a window reaches into the next frame
        wanted.append(chroma)

    def measure(group: int, audio: torch.Tensor) -> float:
        magnitude = pieces.magnitudes(group, audio, PITCH_WINDOW_S)
        chroma = (pitch_classes(len(magnitude), pieces.rate) @ magnitude).sqrt()
        rise = torch.diff(chroma, dim=1, prepend=chroma[:, :1]).clamp_min(0.0)
        sustained, begun = (beyond_mean(one) for one in wanted[group])
        return 0.5 * correlation(beyond_mean(chroma), sustained) + 0.5 * correlation(beyond_mean(rise), begun)

    return pieces.each(measure)


def grid(pieces: Pieces) -> torch.Tensor:
    """Whether onsets are on the asked beats: correlation of the onset strength with pulses at beats, half and quarter
    beats, which are the cosines of the frame grid."""

    def measure(group: int, audio: torch.Tensor) -> float:
        parts = 4 if pieces.pipe.vae.hop_length % 4 == 0 else 1
        level = torch.log1p(100.0 * pieces.magnitudes(group, audio, ONSET_WINDOW_S, parts))
        rise = torch.diff(level, dim=1, prepend=level[:, :1]).clamp_min(0.0).mean(dim=0)
        pulses = pieces.items["grid"][group, [1, 3, 5], : pieces.frames[group]].cpu().sum(dim=0)
        return correlation(rise.unflatten(0, (-1, parts)).sum(dim=1), pulses)

    return pieces.each(measure)


def level(pieces: Pieces) -> torch.Tensor:
    """Evenness and loudness, in dB and never above 0: minus what the loudest 100 ms have over the median beyond 6 dB,
    minus what the level is off that of the training clips beyond 6 dB."""
    size = round(LEVEL_WINDOW_S * pieces.rate)

    def measure(group: int, audio: torch.Tensor) -> float:
        power = audio.square().mean(dim=0)
        windows = power[: max(1, len(power) // size) * size].unfold(0, min(size, len(power)), min(size, len(power)))
        decibels = 10.0 * torch.log10(windows.mean(dim=1) + 1e-6)
        uneven = float(decibels.max() - decibels.median())
        off = abs(10.0 * math.log10(float(power.mean()) + 1e-6) - LOUDNESS_DB)
        return -max(uneven - EVEN_DB, 0.0) - max(off - LOUDNESS_FREE_DB, 0.0)

    return pieces.each(measure)


def diversity(pieces: Pieces) -> torch.Tensor:
    """How far a piece is from the others of its group: mean of the root-mean-square distances of their latents."""
    latents = pieces.latents.float() * pieces.items["frame_mask"][:, None, None].to(pieces.latents.device)
    values = torch.tensor(pieces.frames, device=latents.device)[:, None, None] * latents.shape[2]
    apart = torch.cdist(latents.flatten(2), latents.flatten(2)) / values.sqrt()
    others = latents.shape[1] - 1
    return (apart.sum(dim=2) / others if others else apart.sum(dim=2) * float("nan")).cpu()


def instruments(pieces: Pieces) -> torch.Tensor:
    """Whether the instruments of the clip sound, and no others: log likelihood by a classifier on latents, the mean
    over those that play plus the mean over those that do not."""
    classifier = pieces.classifier
    assert classifier is not None
    logits = classifier(pieces.latents.flatten(0, 1).cpu(), pieces.items["frame_mask"].cpu(), pieces.latents.shape[1])
    truth = targets(pieces.rows, classifier.tags).repeat_interleave(pieces.latents.shape[1], dim=0)
    likelihood = nn.functional.logsigmoid(torch.where(truth == 1.0, logits, -logits))
    sides = [torch.where(truth == side, likelihood, torch.nan).nanmean(dim=1) for side in (0.0, 1.0)]
    found = torch.where(truth.isfinite().any(dim=1), torch.stack(sides).nansum(dim=0), torch.nan)
    return found.unflatten(0, pieces.latents.shape[:2])


REWARDS: dict[str, Callable[[Pieces], torch.Tensor]] = {
    "notes": notes, "instruments": instruments, "level": level, "grid": grid, "diversity": diversity,
}  # fmt: skip


def read_rewards(words: list[str]) -> dict[str, float]:
    """Weights by name, which sum to 1, from words such as "notes" or "level=0.5". Raises a ValueError for an unknown
    name, a name that is given twice, or a weight that is not above 0."""
    weights: dict[str, float] = {}
    for word in words:
        name, _, weight = word.partition("=")
        try:
            value = float(weight or 1.0)
        except ValueError:
            value = math.nan
        if name not in REWARDS or name in weights or not 0.0 < value < math.inf:
            raise ValueError(
                f"rewards has {word!r}; allowed: {', '.join(REWARDS)}, each once, with a weight above 0 as in level=0.5"
            )
        weights[name] = value
    return {name: value / sum(weights.values()) for name, value in weights.items()}


def advantages(scores: dict[str, torch.Tensor], weights: dict[str, float]) -> torch.Tensor:
    """How much better each candidate is than its group, (groups, candidates): each reward in standard deviations from
    the group's mean, their weighted sum, and that again in its own standard deviations. What is NaN or the same for all
    of a group counts for nothing."""

    def normal(values: torch.Tensor) -> torch.Tensor:
        values = values.double()
        apart = values - values.mean(dim=1, keepdim=True)
        spread = apart.square().mean(dim=1, keepdim=True).sqrt()
        return torch.where(spread > 1e-8, apart / spread.clamp_min(1e-8), 0.0).nan_to_num(0.0)

    return normal(torch.stack([weight * normal(scores[name]) for name, weight in weights.items()]).sum(dim=0)).float()


# The classifier of the reward `instruments`.

HIDDEN, STEPS, BATCH, LEARNING_RATE, DROPOUT, MIN_CLIPS = 256, 600, 128, 2e-3, 0.3, 12


class Classifier(nn.Module):
    """Instruments and drums of a piece from the mean and the standard deviation of its latents.

    Args:
        channels: of the latents.
        tags: names of what it finds.
    """

    def __init__(self, channels: int, tags: list[str]):
        super().__init__()
        self.tags = tags
        self.layers = nn.Sequential(
            nn.BatchNorm1d(2 * channels), nn.Linear(2 * channels, HIDDEN), nn.GELU(), nn.Dropout(DROPOUT),
            nn.Linear(HIDDEN, len(tags)),
        )  # fmt: skip

    @staticmethod
    def features(latents: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """(rows, 2 * channels) of latents (rows, channels, frames), of which `visible` (rows, frames) count."""
        weight = visible[:, None].float()
        count = weight.sum(dim=2)
        mean = (latents * weight).sum(dim=2) / count
        variance = ((latents - mean[:, :, None]).square() * weight).sum(dim=2) / count
        return torch.cat([mean, variance.clamp_min(1e-6).log()], dim=1)

    @torch.no_grad()
    def forward(self, latents: torch.Tensor, visible: torch.Tensor, candidates: int = 1) -> torch.Tensor:
        """Logits (rows, tags); `visible` has a row for each group of so many candidates."""
        return self.layers(self.features(latents.float(), visible.repeat_interleave(candidates, dim=0)))


def fit_classifier(crops: LatentCrops, others: LatentCrops, seed: int) -> tuple[Classifier, dict[str, float]]:
    """A classifier trained on half of the clips of `crops`, and its figures on `others`.

    Its seed and its clips are not those of the tagger that judges. Raises a ValueError if the clips have no labels of
    instruments, or each instrument is in too few of them.
    """
    rng = item_rng(seed, Stream.REWARD_CLASSIFIER)
    half = np.sort(rng.permutation(len(crops))[: -(-len(crops) // 2)])
    rows = [crops.rows[index] for index in half]
    fewest = min(MIN_CLIPS, max(1, len(rows) // 3))
    tags = [tag for tag in tag_names(rows, fewest) if not tag.startswith(STYLE)] if rows else []
    truth = targets(rows, tags)
    if not (truth == 1.0).any():
        raise ValueError("rewards has 'instruments', but the clips of data_dir have no labels of instruments or drums")

    def read(source: LatentCrops, indices: np.ndarray) -> torch.Tensor:
        items = [source.read(int(index), rng) for index in indices]
        return Classifier.features(*(torch.stack([item[name] for item in items]) for name in ("latents", "frame_mask")))

    state = torch.get_rng_state()
    torch.manual_seed(int(rng.integers(2**31)))
    classifier = Classifier(len(crops.mean), tags)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    inputs = torch.stack([read(crops, half) for _ in range(3)])  # three crops of each clip
    for _ in range(STEPS):
        which = rng.integers(len(half), size=min(BATCH, 2 * len(half)))
        labels = truth[which]
        logits = classifier.layers(inputs[rng.integers(3, size=len(which)), which])
        known = torch.isfinite(labels)
        loss = nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    torch.set_rng_state(state)
    classifier.eval().requires_grad_(False)
    found = classifier.layers(read(others, np.arange(len(others)))).numpy()
    right = targets(others.rows, tags).numpy()
    precise = [average_precision(found[:, place], right[:, place]) for place in range(len(tags))]
    values = [one for one in precise if one is not None]
    return classifier, {"tags": float(len(tags)), "average_precision": float(np.mean(values)) if values else math.nan}
