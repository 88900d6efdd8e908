"""Stage 2: clips -> latents and text states, once.

    accelerate launch -m training.encode_latents --config training/configs/small/latents.yaml

Each split becomes shards of 256 clips; a shard appears only when it is whole and names what made it, so a second run
does what is missing, several processes share the work, and a new autoencoder or text encoder makes new shards. At the
end the autoencoder is saved beside the shards with the mean and standard deviation of each latent channel over the
training split in its config.
"""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm
from transformers import AutoModelForTextEncoding, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from training import loop
from training.autoencoders import Autoencoder, load_autoencoder
from training.config import LatentsRun, command, parse_config
from training.data.clips import read_audio, read_bytes, read_rows
from training.text_retelling import retellings

SHARD_CLIPS = 256


def fingerprint(*parts: str | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def model_fingerprint(model: torch.nn.Module) -> str:
    """Hash of every weight and its name."""
    state = model.state_dict()
    return fingerprint(
        *(part for name in sorted(state) for part in (name, state[name].cpu().contiguous().numpy().tobytes()))
    )


def load_text_encoder(folder: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The text encoder and tokenizer of a folder that has text_encoder/ and tokenizer/.

    Raises:
        ValueError: if one of them is not there.
    """
    for part in ("text_encoder", "tokenizer"):
        if not (Path(folder) / part).is_dir():
            raise ValueError(f"text_encoder {folder}: no {part}/ there; make it with training.train_text_encoder")
    encoder = AutoModelForTextEncoding.from_pretrained(Path(folder) / "text_encoder", dtype=torch.float32).eval()
    return encoder, AutoTokenizer.from_pretrained(Path(folder) / "tokenizer")


@torch.no_grad()
def encode_texts(encoder, tokenizer, texts: list[str], max_tokens: int) -> list[torch.Tensor]:
    """Last hidden states of each text without its padding: (tokens, dim), fp16."""
    states: list[torch.Tensor | None] = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    for first in range(0, len(order), 64):
        chosen = order[first : first + 64]
        inputs = tokenizer(
            [texts[i] for i in chosen], padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
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
def encode_shard(rows: list[dict], vae: Autoencoder, encoder, tokenizer, config: LatentsRun) -> dict[str, torch.Tensor]:
    """Ragged arrays of one shard: frames of all clips end to end, tokens of all captions end to end."""
    means, stds = [], []
    with ThreadPoolExecutor(max(1, config.num_workers)) as pool:  # decoding does not hold Python's lock
        for audio in pool.map(read_audio, rows) if config.num_workers else map(read_audio, rows):
            posterior = vae.encode(audio[None].to(vae.device)).latent_dist
            means.append(posterior.mean[0].T.cpu().half())  # (frames, channels)
            stds.append(posterior.std[0].T.cpu().half())
    texts = encode_texts(encoder, tokenizer, [text for row in rows for text in row["text"]], config.max_text_tokens)
    return {
        "latents_mean": torch.cat(means),
        "latents_std": torch.cat(stds),
        "frame_offsets": torch.from_numpy(np.cumsum([0, *(len(m) for m in means)])),
        "text": torch.cat(texts),
        "text_offsets": torch.from_numpy(np.cumsum([0, *(len(t) for t in texts)])),
        "caption_offsets": torch.from_numpy(np.cumsum([0, *(len(row["text"]) for row in rows)])),
    }


def check_captions(rows: list[dict], data_dir: str, split: str) -> None:
    """Every clip needs a caption: a network that learns from clips without words does not learn to follow words.

    Raises:
        ValueError: naming the first clips that have none.
    """
    silent = [
        row.get("file_name", f"row {number}") for number, row in enumerate(rows) if not any(row.get("text") or [])
    ]
    if silent:
        some = ", ".join(silent[:3]) + (", ..." if len(silent) > 3 else "")
        raise ValueError(
            f"data_dir {data_dir}: {len(silent)} of {len(rows)} clips of the {split} split have no caption in `text` "
            f"({some}); training.data.prepare writes one for each"
        )


def tell_if_models_changed(output: Path, models: str) -> None:
    """Say why shards that are there will be made anew."""
    about = output / "latents.json"
    before = json.loads(about.read_text())["models"] if about.is_file() else models
    if before != models:
        print(f"{output}: made with another autoencoder or text encoder ({before}, now {models}); all is encoded anew")


def shard_is_current(path: Path, key: str) -> bool:
    if not path.is_file():
        return False
    with safe_open(path, framework="pt") as shard:
        return shard.metadata().get("key") == key


def channel_statistics(folder: Path) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over all frames of a split, posterior variance included."""
    total, squares, count = 0.0, 0.0, 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as shard:
            mean, std = shard.get_tensor("latents_mean").double(), shard.get_tensor("latents_std").double()
        total, squares, count = total + mean.sum(0), squares + (mean.square() + std.square()).sum(0), count + len(mean)
    mean = total / count
    return mean.tolist(), (squares / count - mean.square()).clamp_min(1e-8).sqrt().tolist()


def main(argv: list[str] | None = None) -> None:
    config = parse_config(LatentsRun, argv)
    torch.set_num_threads(config.num_threads)
    accelerator = Accelerator()
    vae = load_autoencoder(config.autoencoder).eval().to(accelerator.device)
    encoder, tokenizer = load_text_encoder(config.text_encoder)
    encoder.to(accelerator.device)
    models = fingerprint(model_fingerprint(vae), model_fingerprint(encoder), json.dumps(vae.config.latent_channels))
    output = Path(config.output_dir)
    if accelerator.is_main_process:
        tell_if_models_changed(output, models)
    splits = {split: read_rows(config.data_dir, split) for split in ("train", "validation", "test")}
    for split, rows in splits.items():
        check_captions(rows, config.data_dir, split)
    splits["train"] = [
        row | {"text": row["text"] + retellings(row, config.retellings, loop.item_rng(0, 16, number))}
        for number, row in enumerate(splits["train"])
    ]
    for split, rows in splits.items():
        folder = output / split
        folder.mkdir(parents=True, exist_ok=True)
        shards = [rows[first : first + SHARD_CLIPS] for first in range(0, len(rows), SHARD_CLIPS)]
        mine = range(accelerator.process_index, len(shards), accelerator.num_processes)
        for number in tqdm(mine, desc=f"latents {split}", unit="shard", disable=not accelerator.is_main_process):
            path = folder / f"{number:05d}.safetensors"
            key = fingerprint(
                models,
                *(
                    part
                    for row in shards[number]
                    for part in (
                        read_bytes(row),
                        json.dumps({k: v for k, v in row.items() if k != "path"}),
                    )
                ),
            )
            if shard_is_current(path, key):
                continue
            tensors = encode_shard(shards[number], vae, encoder, tokenizer, config)
            partial = path.with_name(path.name + ".partial")
            labels = json.dumps([{k: v for k, v in row.items() if k != "path"} for row in shards[number]])
            save_file(tensors, partial, metadata={"key": key, "models": models, "rows": labels})
            os.replace(partial, path)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            for stale in sorted(folder.glob("*.safetensors"))[len(shards) :]:
                stale.unlink()
    if accelerator.is_main_process:
        mean, std = channel_statistics(output / "train")
        vae.register_to_config(latents_mean=mean, latents_std=std)
        partial = output / "vae.partial"
        vae.save_pretrained(partial)
        loop.replace_folder(partial, output / "vae")
        loop.write_json(
            output / "latents.json",
            {
                "models": models,
                "autoencoder": config.autoencoder,
                "text_encoder": config.text_encoder,
                "frame_rate": vae.frame_rate,
                "latent_channels": vae.config.latent_channels,
                "text_dim": encoder.config.hidden_size,
                "latents_mean": mean,
                "latents_std": std,
            },
        )
        print(f"{output}: channel std {min(std):.3f} to {max(std):.3f}")
    accelerator.wait_for_everyone()


if __name__ == "__main__":
    command(main)
