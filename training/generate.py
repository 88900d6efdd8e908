"""Ask a pipeline for what rows of a test split describe, and pass the real clips through its autoencoder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from training.data.clips import is_blank
from training.metrics.request import anchored_request, chords_text
from training.run.checkpoints import write_text
from training.run.streams import Measure, item_rng

KEPT = ("bpm", "time_signature", "beats_per_bar", "key", "instruments", "drums", "style", "work", "license")


def choose(rows: list[dict], count: int, seed: int) -> list[dict]:
    """`count` rows drawn without replacement, or all of them, in file order."""
    picked = item_rng(seed, Measure.ROWS).permutation(len(rows))[:count]
    return [rows[i] for i in sorted(picked)]


NO_CAPTION = "music"  # the prompt for a clip without a caption: it asks for nothing that could be measured


def caption(row: dict, captions: str, seed: int, index: int) -> tuple[str, dict | None]:
    """One of the row's captions, drawn, and what it states (None where the row does not tell).

    A row without a caption in `text` is asked for by `NO_CAPTION`, which states nothing.

    Args:
        row: of training/data/clips.py.
        captions: "text" or "text_heldout".
        seed, index: what it is drawn from.

    Raises:
        ValueError: it has no paraphrase in `text_heldout`.
    """
    texts = row.get(captions) or []
    written = [number for number, text in enumerate(texts) if not is_blank(text)]
    if not written:
        if captions == "text":
            return NO_CAPTION, {}
        raise ValueError(f"{row['file_name']}: the row has no {captions}")
    number = written[int(item_rng(seed, Measure.CAPTION, index).integers(len(written)))]
    stated = row.get(captions.replace("text", "stated"))
    return texts[number], stated[number] if stated else None


def meter_of(row: dict) -> str | None:
    """The row's meter; that of a row with beats a bar alone, as `prepare` hears them, is in quarters."""
    count = row.get("beats_per_bar")
    return row.get("time_signature") or (f"{count}/4" if count else None)


def text_requests(rows: list[dict], captions: list[str]) -> dict[str, list]:
    """Arguments of the pipeline for music from words, tempo, meter, key and chords; one value a row."""
    return {
        "prompt": captions,
        "duration_s": [float(row["duration_s"]) for row in rows],
        "bpm": [row.get("bpm") for row in rows],
        "time_signature": [meter_of(row) for row in rows],
        "key": [row.get("key") for row in rows],
        "chords": [chords_text(row) if row.get("bpm") is not None else None for row in rows],
        "loop": [False] * len(rows),  # a caption that says loop is asked for like the others, by its length
    }


# What can be asked for: name -> (rows, their captions) -> arguments of the pipeline, one value a row.
TASKS: dict[str, Callable[[list[dict], list[str]], dict[str, list]]] = {"text": text_requests}


def generate(
    pipe,
    rows: list[dict],
    captions: list[str],
    seed: int = 0,
    batch_size: int = 8,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    task: str = "text",
    guidance_interval: tuple[float, float] | None = None,
) -> list[np.ndarray]:
    """A clip (samples,) for each row, at the pipeline's sampling rate.

    Args:
        pipe: a VivacePipeline, or anything that is called like one.
        rows: what to ask for.
        captions: the prompt of each row.
        seed: clip i has the seed `seed` + i.
        num_inference_steps, guidance_scale, guidance_interval: None = the checkpoint's.
        task: of TASKS; how rows become requests.
    """
    shared = {
        "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
        "guidance_interval": guidance_interval,
    }  # fmt: skip
    audios = []
    for start in tqdm(range(0, len(rows), batch_size), desc="generating", unit="batch", disable=None):
        part = slice(start, start + batch_size)
        requests = TASKS[task](rows[part], captions[part])
        requests["seed"] = list(range(seed + start, seed + start + len(rows[part])))
        if len(rows[part]) == 1:  # a list of chords for one prompt would be read as one progression
            requests = {name: values[0] for name, values in requests.items()}
        out = pipe(**requests, **shared)
        audios += [np.asarray(audio, dtype=np.float32).mean(axis=0) for audio in out.audios]
    return audios


def save_clips(
    folder: str | Path, rows: list[dict], said: list[tuple[str, dict | None]], audios: list[np.ndarray], rate: int
) -> None:
    """Generated clips as WAV, and a metadata.jsonl that holds what was asked of each, for `training.evaluate
    --audio_dir`.

    Args:
        rows: what was asked for.
        said: caption of each, and what it states.
        audios: (samples,) of each, at `rate` Hz.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for row, (text, stated), audio in zip(rows, said, audios, strict=True):
        name, request = f"{Path(row['file_name']).stem}.wav", anchored_request(row, len(audio) / rate)
        soundfile.write(folder / name, np.clip(audio, -1.0, 1.0), rate, subtype="PCM_16")
        asked = {key: None if times is None else np.asarray(times).tolist() for key, times in (
            ("beats_s", request.beats_s), ("downbeats_s", request.downbeats_s), ("chords", request.chroma)
        )}  # fmt: skip
        line = {"file_name": name, "text": [text], "stated": None if stated is None else [stated]}
        line |= {"duration_s": len(audio) / rate, "sampling_rate": rate, "downbeat_s": 0.0, **asked}
        lines.append(json.dumps(line | {key: row.get(key) for key in KEPT}) + "\n")
    write_text(folder / "metadata.jsonl", "".join(lines))


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
