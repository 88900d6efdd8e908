"""CLAP (Wu et al. 2023) as a listener: one vector a clip and one a caption, in the same space.

Any folder or Hub id that holds transformers' `ClapModel` with tokenizer and feature extractor: the small one of
checkpoints/clap, `laion/larger_clap_music` where the Hub is at hand. Scores of two models are not comparable.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import soxr
import torch
from transformers import AutoFeatureExtractor, AutoTokenizer, ClapModel

CARD_FILE = "clap.json"
BATCH = 16  # windows


class ClapEmbedder:
    """A CLAP model that embeds whole clips.

    A clip is cut into windows of the length that the model hears (the last one is kept if it is at least half full, or
    the only one) and its vector is the mean of theirs, brought back to length 1. So nothing is drawn at random, as the
    feature extractor would for long clips.

    Args:
        source: local folder or Hub id.

    Raises:
        ValueError: nothing there that transformers can read.
    """

    def __init__(self, source: str):
        try:
            self.model = ClapModel.from_pretrained(source, dtype=torch.float32).eval()
            self.extractor = AutoFeatureExtractor.from_pretrained(source)
            self.tokenizer = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(f"clap {source}: not a folder or Hub id with a CLAP model ({reason})") from None
        card = Path(source) / CARD_FILE
        known = json.loads(card.read_text()) if card.is_file() else {"name": f"CLAP {source}"}
        self.card = {**known, "source": source, "sha256": weights_hash(self.model), "dimensions": self.dimensions}
        self.name = self.card["name"]

    @property
    def dimensions(self) -> int:
        return int(self.model.config.projection_dim)

    @torch.no_grad()
    def embed(self, audios: list[np.ndarray], sampling_rate: int) -> np.ndarray:
        """Unit vectors of clips.

        Args:
            audios: each (samples,), of any length.
            sampling_rate: Hz of all of them; another than the model's is resampled.

        Returns:
            float64 (n, d).

        Raises:
            ValueError: a clip is empty, not (samples,) or not finite.
        """
        rate = self.extractor.sampling_rate
        windows, owner = [], []
        for number, audio in enumerate(audios):
            parts = cut(prepare(audio, sampling_rate, rate, number), self.extractor.nb_max_samples)
            windows += parts
            owner += [number] * len(parts)
        total = np.zeros((len(audios), self.dimensions))
        for start in range(0, len(windows), BATCH):
            batch = self.extractor(windows[start : start + BATCH], sampling_rate=rate, return_tensors="pt")
            vectors = self.model.get_audio_features(**batch).pooler_output
            np.add.at(total, owner[start : start + BATCH], vectors.double().numpy())
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> np.ndarray:
        """Unit vectors of captions, float64 (n, d)."""
        longest = int(self.model.config.text_config.max_position_embeddings) - 2
        out = []
        for start in range(0, len(texts), 64):
            words = self.tokenizer(
                texts[start : start + 64], padding=True, truncation=True, max_length=min(longest, 77),
                return_tensors="pt", return_token_type_ids=False,
            )  # fmt: skip
            out.append(self.model.get_text_features(**words).pooler_output.double().numpy())
        return np.concatenate(out) if out else np.zeros((0, self.dimensions))


def prepare(audio: np.ndarray, sampling_rate: int, wanted_rate: int, number: int) -> np.ndarray:
    """A clip as float32 (samples,) at `wanted_rate`.

    Raises:
        ValueError: clip `number` is empty, not (samples,) or not finite.
    """
    audio = np.asarray(audio, dtype=np.float32)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise ValueError(f"audios[{number}] has shape {audio.shape}; needed: (samples,), at least one, all finite")
    return audio if sampling_rate == wanted_rate else soxr.resample(audio, sampling_rate, wanted_rate)


def cut(audio: np.ndarray, window: int) -> list[np.ndarray]:
    """Windows of `window` samples; a last one at least half full is kept, and one that is the only one."""
    starts = range(0, max(len(audio) - window // 2, 0) + 1, window)
    return [audio[start : start + window] for start in starts]


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over names and values of the weights, in fp16, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0")
        digest.update(np.ascontiguousarray((value.half() if value.is_floating_point() else value).numpy()).tobytes())
    return digest.hexdigest()


def retrieval_figures(audio: np.ndarray, text: np.ndarray) -> dict:
    """How often a clip is among the first k found for its own caption, and the other way round.

    Args:
        audio, text: (n, d) unit vectors; row i belongs to row i. Captions that several clips could have count as
            misses, so that even a perfect listener stays below 1.

    Returns:
        `text_to_audio`, `audio_to_text`: {"r1", "r5", "r10", "median_rank"}; `chance`: k / n and (n + 1) / 2;
        `score`, `score_chance`: mean cosine of pairs that belong together, and of all others; `n`.

    Raises:
        ValueError: shapes that differ, or fewer than 2 rows.
    """
    if audio.shape != text.shape or audio.ndim != 2 or len(audio) < 2:
        raise ValueError(f"audio has shape {audio.shape}, text {text.shape}; needed: equal, (n, d), n at least 2")
    similar = audio @ text.T
    count, own = len(similar), np.diag(similar)

    def ranks(table: np.ndarray) -> dict[str, float]:
        # Ties count half, so that vectors that are all alike stand at chance.
        higher, equal = (table > own[:, None]).sum(axis=1), (table == own[:, None]).sum(axis=1) - 1
        rank = 1.0 + higher + 0.5 * equal
        return {**{f"r{k}": float(np.mean(rank <= k)) for k in (1, 5, 10)}, "median_rank": float(np.median(rank))}

    return {
        "audio_to_text": ranks(similar),
        "text_to_audio": ranks(similar.T),
        "chance": {**{f"r{k}": min(k / count, 1.0) for k in (1, 5, 10)}, "median_rank": (count + 1) / 2.0},
        "score": float(own.mean()),
        "score_chance": float((similar.sum() - own.sum()) / (count * (count - 1))),
        "n": count,
    }
