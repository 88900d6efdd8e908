"""Generate clips from the captions and labels of rows, and pass real clips through a pipeline's autoencoder."""

import json
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


NO_CAPTION = "music"  # the prompt of a clip without a caption; it requests nothing that is measured


def choose(rows: list[dict], count: int, seed: int) -> list[dict]:
    """`count` rows drawn without replacement, or all of them, in file order."""
    picked = item_rng(seed, Measure.ROWS).permutation(len(rows))[:count]
    return [rows[i] for i in sorted(picked)]


def caption(row: dict, field: str, seed: int, index: int) -> tuple[str, dict | None]:
    """Draw one of the row's captions, with the facts that it states (None if the row does not list them).

    A row without a caption in `text` gets `NO_CAPTION`, which states nothing. `field` is "text" or "text_heldout"; seed
    and index determine the draw. Raises a ValueError if the row has no caption in `text_heldout`.
    """
    texts = row.get(field) or []
    written = [number for number, text in enumerate(texts) if not is_blank(text)]
    if not written:
        if field == "text":
            return NO_CAPTION, {}
        raise ValueError(f"{row['file_name']}: the row has no {field}")
    number = written[int(item_rng(seed, Measure.CAPTION, index).integers(len(written)))]
    stated = row.get(field.replace("text", "stated"))
    return texts[number], stated[number] if stated else None


def draw_captions(rows: list[dict], seed: int, field: str = "text") -> tuple[list[str], list[dict | None]]:
    """`caption` of each row: the texts, and the facts that each states."""
    drawn = [caption(row, field, seed, index) for index, row in enumerate(rows)]
    return [text for text, _ in drawn], [stated for _, stated in drawn]


def meter_of(row: dict) -> str | None:
    """The row's meter; if it has only beats a bar, as `prepare` estimates them, they are taken as quarters."""
    count = row.get("beats_per_bar")
    return row.get("time_signature") or (f"{count}/4" if count else None)


def text_requests(rows: list[dict], captions: list[str]) -> dict[str, list]:
    """Arguments of the pipeline for the rows' captions, lengths, tempi, meters, keys and chords; one value a row."""
    return {
        "prompt": captions,
        "duration_s": [float(row["duration_s"]) for row in rows],
        "bpm": [row.get("bpm") for row in rows],
        "time_signature": [meter_of(row) for row in rows],
        "key": [row.get("key") for row in rows],
        "chords": [chords_text(row) if row.get("bpm") is not None else None for row in rows],
        "loop": [False] * len(rows),  # also for captions that mention a loop: the length is the row's
    }


def generate(
    pipe,
    rows: list[dict],
    captions: list[str],
    seed: int = 0,
    batch_size: int = 8,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
) -> list[np.ndarray]:
    """A clip (samples,) for each row, at the pipeline's sampling rate.

    Args:
        pipe: a VivacePipeline, or any callable with the same arguments.
        rows: labels to generate from.
        captions: the prompt of each row.
        seed: clip i has the seed `seed` + i.
        num_inference_steps, guidance_scale, guidance_interval: None = the checkpoint's.
    """
    shared = {
        "num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale,
        "guidance_interval": guidance_interval,
    }  # fmt: skip
    audios = []
    for start in tqdm(range(0, len(rows), batch_size), desc="generating", unit="batch", disable=None):
        part = slice(start, start + batch_size)
        requests = text_requests(rows[part], captions[part])
        requests["seed"] = list(range(seed + start, seed + start + len(rows[part])))
        if len(rows[part]) == 1:  # a list of chord texts for one prompt would be one progression
            requests = {name: values[0] for name, values in requests.items()}
        out = pipe(**requests, **shared)
        audios += [np.asarray(audio, dtype=np.float32).mean(axis=0) for audio in out.audios]
    return audios


def save_clips(
    folder: str | Path,
    rows: list[dict],
    captions: list[str],
    stated: list[dict | None],
    audios: list[np.ndarray],
    rate: int,
) -> None:
    """Write generated clips as WAV, with their requests in metadata.jsonl, for `training.evaluate --audio_dir`.

    `stated` are the facts that each caption states; audios are (samples,) at `rate` Hz. The folder is created if it
    does not exist.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for row, text, facts, audio in zip(rows, captions, stated, audios, strict=True):
        name, request = f"{Path(row['file_name']).stem}.wav", anchored_request(row, len(audio) / rate)
        soundfile.write(folder / name, np.clip(audio, -1.0, 1.0), rate, subtype="PCM_16")
        grid = {key: None if times is None else np.asarray(times).tolist() for key, times in (
            ("beats_s", request.beats_s), ("downbeats_s", request.downbeats_s), ("chords", request.chroma)
        )}  # fmt: skip
        line = {"file_name": name, "text": [text], "stated": None if facts is None else [facts]}
        line |= {"duration_s": len(audio) / rate, "sampling_rate": rate, "downbeat_s": 0.0, **grid}
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
