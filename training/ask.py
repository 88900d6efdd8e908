"""Ask a pipeline for what rows of a test split describe, and pass the real clips through its autoencoder."""

import numpy as np
import torch
from tqdm import tqdm

from training.metrics.request import chords_text


def choose(rows: list[dict], count: int, seed: int) -> list[dict]:
    """`count` rows drawn without replacement, or all of them, in file order."""
    picked = np.random.default_rng([seed, 0]).permutation(len(rows))[:count]
    return [rows[i] for i in sorted(picked)]


def caption(row: dict, captions: str, seed: int, index: int) -> tuple[str, dict | None]:
    """One of the row's captions, drawn, and what it states (None where the row does not tell).

    Args:
        row: of training/data/clips.py.
        captions: "text" or "text_heldout".
        seed, index: what it is drawn from.

    Raises:
        ValueError: it has none.
    """
    texts = row.get(captions) or []
    if not texts:
        raise ValueError(f"{row['file_name']}: the row has no {captions}")
    number = int(np.random.default_rng([seed, 1, index]).integers(len(texts)))
    stated = row.get(captions.replace("text", "stated"))
    return texts[number], stated[number] if stated else None


def generate(
    pipe,
    rows: list[dict],
    captions: list[str],
    seed: int = 0,
    batch_size: int = 8,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
) -> list[np.ndarray]:
    """A clip (samples,) for each row, at the pipeline's sampling rate.

    Args:
        pipe: a VivacePipeline, or anything that is called like one.
        rows: what to ask for: duration, and tempo, meter, key and chords where the row has them.
        captions: the prompt of each row.
        seed: clip i has the seed `seed` + i.
        num_inference_steps, guidance_scale: None = the checkpoint's.
    """
    audios = []
    for start in tqdm(range(0, len(rows), batch_size), desc="generating", unit="batch", disable=None):
        part = rows[start : start + batch_size]
        requests = {
            "prompt": captions[start : start + batch_size],
            "duration_s": [float(row["duration_s"]) for row in part],
            "bpm": [row.get("bpm") for row in part],
            "time_signature": [row.get("time_signature") for row in part],
            "key": [row.get("key") for row in part],
            "chords": [chords_text(row) if row.get("bpm") is not None else None for row in part],
            "seed": [seed + start + i for i in range(len(part))],
        }
        if len(part) == 1:  # a list of chords for one prompt would be read as one progression
            requests = {name: values[0] for name, values in requests.items()}
        out = pipe(**requests, num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
        audios += [np.asarray(audio, dtype=np.float32).mean(axis=0) for audio in out.audios]
    return audios


def reconstruct(pipe, audios: list[np.ndarray]) -> list[np.ndarray]:
    """Each clip through the pipeline's autoencoder (mode of the posterior), same length."""
    out = []
    with torch.no_grad():
        for audio in tqdm(audios, desc="reconstructing", disable=None):
            channels = pipe.vae.config.audio_channels
            batch = torch.from_numpy(audio)[None, None].expand(1, channels, -1).to(pipe.vae.device, pipe.vae.dtype)
            decoded = pipe.vae.decode(pipe.vae.encode(batch).latent_dist.mode()).sample
            out.append(decoded[0, :, : len(audio)].float().mean(dim=0).cpu().numpy())
    return out
