"""Stage 2: encode clips to latents and captions to text states.

    accelerate launch -m training.encode_latents --config training/configs/small/latents.yaml

Each split becomes shards of 256 clips. A shard is written atomically and records its models and data, so that a second
run makes only what is missing and several processes can share the work. After a change of the autoencoder only the
latents are encoded again, after a change of the text encoder or the captions only the text states
(training/data/latents.py): in place or, with `reuse_from`, in another folder. Finally the autoencoder is saved beside
the shards; its config has the mean of each latent channel over the training split, and its standard deviation over
the channel's scale (`channel_scales`): what latents are divided by, before noise is added.
"""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from safetensors import safe_open
from tqdm.auto import tqdm
from transformers import AutoModelForTextEncoding, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from autoencoder.autoencoder_vivace import AutoencoderVivace
from autoencoder.classes import Autoencoder, load_autoencoder
from autoencoder.losses import FeatureLoss, WaveformLoss
from pipelines.vivace_process import token_limit
from training.config import LatentsRun, command, parse_config
from training.data.clips import read_audio, read_rows, splits_in, without_blanks
from training.data.latents import PARTS, Arrays, LatentsFolder, Recipe, Recipes, write_shard
from training.run import loop
from training.run.checkpoints import replace_folder, write_json
from training.text.rewording import reworded_captions

SHARD_CLIPS = 256
PROBE_CLIPS, PROBE_FRAMES = 8, 128
PROBE_NOISE = 0.3  # standard deviations of a channel


def load_text_encoder(folder: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The text encoder and tokenizer of a folder that has text_encoder/ and tokenizer/. Raises a ValueError if one of
    them does not exist."""
    for part in ("text_encoder", "tokenizer"):
        if not (Path(folder) / part).is_dir():
            raise ValueError(f"text_encoder {folder}: no {part}/ there; make it with training.text.train")
    encoder = AutoModelForTextEncoding.from_pretrained(Path(folder) / "text_encoder", dtype=torch.float32).eval()
    return encoder, AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")


@torch.no_grad()
def encode_texts(encoder, tokenizer, texts: list[str]) -> list[torch.Tensor]:
    """Last hidden states of each text without padding: (tokens, dim), fp16.

    A blank text has no tokens; the network then uses its null text, as for a dropped caption.
    """
    limit = token_limit(tokenizer)
    states = [torch.zeros(0, encoder.config.hidden_size, dtype=torch.float16)] * len(texts)
    order = sorted((i for i in range(len(texts)) if texts[i].strip()), key=lambda i: len(texts[i]))
    for first in range(0, len(order), 64):
        chosen = order[first : first + 64]
        inputs = tokenizer(
            [texts[i] for i in chosen], padding=True, truncation=True, max_length=limit, return_tensors="pt"
        )
        inputs = inputs.to(encoder.device)
        hidden = (
            encoder(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state.half().cpu()
        )
        mask = inputs.attention_mask.bool().cpu()
        for row, i in enumerate(chosen):
            states[i] = hidden[row, mask[row]]
    return states


@torch.no_grad()
def encode_audio(rows: list[dict], vae: Autoencoder, num_workers: int) -> Arrays:
    """The audio part of a shard: the frames of all clips, concatenated."""
    means, stds = [], []
    with ThreadPoolExecutor(max(1, num_workers)) as pool:  # decoding releases Python's lock
        for audio in pool.map(read_audio, rows) if num_workers else map(read_audio, rows):
            posterior = vae.encode(audio[None].to(vae.device)).latent_dist
            means.append(posterior.mean[0].T.cpu().half())  # (frames, channels)
            stds.append(posterior.std[0].T.cpu().half())
    return {
        "latents_mean": torch.cat(means),
        "latents_std": torch.cat(stds),
        "frame_offsets": torch.from_numpy(np.cumsum([0, *(len(m) for m in means)])),
    }


def encode_captions(rows: list[dict], encoder, tokenizer) -> Arrays:
    """The text part of a shard: the tokens of all captions, concatenated."""
    texts = encode_texts(encoder, tokenizer, [text for row in rows for text in row["text"]])
    return {
        "text": torch.cat(texts),
        "text_offsets": torch.from_numpy(np.cumsum([0, *(len(t) for t in texts)])),
        "caption_offsets": torch.from_numpy(np.cumsum([0, *(len(row["text"]) for row in rows)])),
    }


def channel_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over a split's frames, including the posterior variance."""
    total, squares, count = 0.0, 0.0, 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as shard:
            mean, std = shard.get_tensor("latents_mean").double(), shard.get_tensor("latents_std").double()
        total, squares, count = total + mean.sum(0), squares + (mean.square() + std.square()).sum(0), count + len(mean)
    mean = total / count
    return mean.tolist(), (squares / count - mean.square()).clamp_min(1e-8).sqrt().tolist()


@torch.no_grad()
def channel_scales(
    folder: Path, vae: Autoencoder, statistics: tuple[list[float], list[float]], power: float
) -> list[float]:
    """By how much each latent channel is to be larger than with the variance 1, at least 1.

    Standardised latents are alike in variance and most unlike in what hangs on them: the strongest principal components
    set the level and the colour of the sound, the weakest are hardly audible. A network errs by about as much in each
    channel, so that its levels are unsteady. A channel's importance is the squared change of what the autoencoder
    decodes (by its own training loss) when noise is added to that channel alone, over the mean of all; in a channel
    that is larger by the root of it, an error is as audible as in others.

    Args:
        folder: shards of training clips.
        vae: the autoencoder.
        statistics: of `channel_statistics`.
        power: of the importance, for the variance; 0 = all scales are 1.
    """
    mean, std = (torch.tensor(values, device=vae.device)[:, None] for values in statistics)
    spectral = isinstance(vae, AutoencoderVivace)
    loss = FeatureLoss(vae) if spectral else WaveformLoss(vae.config.sampling_rate, WaveformLoss.NAMES)

    def decoded(latents: torch.Tensor) -> torch.Tensor:
        latents = latents * std + mean
        return vae.decode_features(latents) if spectral else vae.decode(latents).sample

    paths = sorted(folder.glob("*.safetensors"))
    squares = torch.zeros(len(mean), dtype=torch.float64)
    for number in range(PROBE_CLIPS):
        with safe_open(paths[number * len(paths) // PROBE_CLIPS], framework="pt") as shard:
            offsets, every = shard.get_tensor("frame_offsets").tolist(), shard.get_tensor("latents_mean")
        clip = number % (len(offsets) - 1)
        latents = every[offsets[clip] : offsets[clip + 1]][:PROBE_FRAMES].float().T[None].to(vae.device)
        clean = (latents - mean) / std
        noise = PROBE_NOISE * torch.randn(clean.shape, generator=loop.torch_rng(0, loop.Stream.PROBE_NOISE, number))
        reference = decoded(clean)
        for channel in range(len(squares)):
            probed = clean.clone()
            probed[:, channel] += noise[:, channel].to(vae.device)
            squares[channel] += float(sum(loss(decoded(probed), reference).values())) ** 2
    return (squares / squares.mean()).pow(power / 2.0).clamp_min(1.0).tolist()


def read_splits(config: LatentsRun, sampling_rate: int, verbose: bool = True) -> dict[str, list[dict]]:
    """The rows of each split, with additional captions for training; a clip without text has the caption "". A folder
    need not have a test split. Raises a ValueError if another is missing, or a clip does not have the autoencoder's
    sampling rate."""
    splits = {}
    for split in dict.fromkeys(["train", "validation", *splits_in(config.data_dir)]):
        rows = read_rows(config.data_dir, split)
        for number, row in enumerate(rows):
            if row.get("sampling_rate") not in (None, sampling_rate):
                raise ValueError(
                    f"data_dir {config.data_dir}: {row['file_name']} of the {split} split has {row['sampling_rate']} "
                    f"Hz; needed: {sampling_rate}, as the autoencoder has (training.data.prepare resamples)"
                )
            row = without_blanks(row)
            rng = loop.item_rng(0, loop.Stream.RETELLINGS, number)
            more = reworded_captions(row, config.retellings, rng) if split == "train" else []
            rows[number] = row | {"text": [*row["text"], *more] or [""]}
        without = sum(row["text"] == [""] for row in rows)
        if without and verbose:
            print(f"note: {without} of {len(rows)} clips of the {split} split have no caption: encoded as without text")
        splits[split] = rows
    return splits


class ShardMaker:
    """Makes shards with an autoencoder and a text encoder, reusing the valid parts of existing shards; a ValueError for
    a folder in `config` that does not hold what it should."""

    def __init__(self, config: LatentsRun, device: torch.device):
        self.config, self.output = config, Path(config.output_dir)
        self.vae = load_autoencoder(config.autoencoder).eval().to(device)
        encoder, self.tokenizer = load_text_encoder(config.text_encoder)
        self.encoder = encoder.to(device)
        self.recipes = Recipes(self.vae, self.encoder, self.tokenizer)
        self.own = LatentsFolder(self.output)
        self.sources = [self.own]
        if config.reuse_from is not None:
            if not any(Path(config.reuse_from).glob("*/*.safetensors")):
                raise ValueError(f"reuse_from {config.reuse_from}: no latents there; allowed: a folder of this command")
            self.sources.append(LatentsFolder(Path(config.reuse_from)))

    def make(self, name: str, rows: list[dict]) -> Counter:
        """Make the shard `name` (such as "train/00000.safetensors") unless it is up to date. Returns the number of
        clips for which each of `PARTS` was made or kept: {"audio kept": 256, "text made": 256}."""
        recipe = self.recipes(rows)
        if self.own.is_current(name, recipe):
            return Counter({f"{part} kept": len(rows) for part in PARTS})
        arrays, counts = {}, Counter()
        for part in PARTS:
            found = (folder.take(name, part, recipe) for folder in self.sources)
            kept = next((one for one in found if one is not None), None)
            arrays |= self.encode(part, recipe) if kept is None else kept
            counts[f"{part} {'made' if kept is None else 'kept'}"] += len(rows)
        self.mark_incomplete()
        write_shard(self.output / name, arrays, recipe)
        return counts

    def encode(self, part: str, recipe: Recipe) -> Arrays:
        """The arrays of one of `PARTS`."""
        if part == "audio":
            return encode_audio(recipe.rows, self.vae, self.config.num_workers)
        return encode_captions(recipe.rows, self.encoder, self.tokenizer)

    def drop_after(self, split: str, shards: int) -> None:
        """Remove the shards of a split that an earlier run with more clips has left."""
        for stale in sorted((self.output / split).glob("*.safetensors"))[shards:]:
            self.mark_incomplete()
            stale.unlink()

    def mark_incomplete(self) -> None:
        """Prevent training on the folder while only some of its shards are new."""
        (self.output / "latents.json").unlink(missing_ok=True)

    def finish(self) -> None:
        """Save the autoencoder with the statistics of its latents, then latents.json, which marks the set complete."""
        mean, std = channel_statistics(self.output / "train")
        if self.config.importance:
            scales = channel_scales(self.output / "train", self.vae, (mean, std), self.config.importance)
            std = [value / scale for value, scale in zip(std, scales, strict=True)]
        self.vae.register_to_config(latents_mean=mean, latents_std=std)
        partial = self.output / "vae.partial"
        self.vae.save_pretrained(partial)
        replace_folder(partial, self.output / "vae")
        write_json(
            self.output / "latents.json",
            {
                "models": self.recipes.models,
                "autoencoder": self.config.autoencoder,
                "text_encoder": self.config.text_encoder,
                "frame_rate": self.vae.frame_rate,
                "latent_channels": self.vae.config.latent_channels,
                "text_dim": self.encoder.config.hidden_size,
                "text_tokens": token_limit(self.tokenizer),
                "latents_mean": mean,
                "latents_std": std,
            },
        )
        print(f"{self.output}: latents are divided by {min(std):.3f} to {max(std):.3f}")


def main(argv: list[str] | None = None) -> dict[str, Counter]:
    """Command line; returns the counts of `ShardMaker.make` for each split, over all processes."""
    config = parse_config(LatentsRun, argv)
    torch.set_num_threads(config.num_threads)
    accelerator = Accelerator()
    maker = ShardMaker(config, accelerator.device)
    splits = read_splits(config, int(maker.vae.config.sampling_rate), accelerator.is_main_process)
    accelerator.wait_for_everyone()  # all processes read the folder before one changes it
    totals = {}
    for split, rows in splits.items():
        (maker.output / split).mkdir(parents=True, exist_ok=True)
        shards = [rows[first : first + SHARD_CLIPS] for first in range(0, len(rows), SHARD_CLIPS)]
        mine = range(accelerator.process_index, len(shards), accelerator.num_processes)
        counts = Counter()
        bar = tqdm(mine, desc=f"latents {split}", unit="shard", disable=not accelerator.is_main_process)
        for number in bar:
            counts += maker.make(f"{split}/{number:05d}.safetensors", shards[number])
            bar.set_postfix(counts)
        totals[split] = sum(gather_object([counts]), Counter())
        if accelerator.is_main_process:
            print(f"{split}: {', '.join(f'{name} {clips}' for name, clips in sorted(totals[split].items()))} clips")
            maker.drop_after(split, len(shards))
    if accelerator.is_main_process:
        maker.finish()
    accelerator.wait_for_everyone()
    return totals


if __name__ == "__main__":
    command(main)
