"""Compares a trained text encoder with its teacher on held-out texts."""

from collections.abc import Sequence

import torch
from scipy.stats import spearmanr
from torch.nn.functional import normalize
from transformers import PreTrainedTokenizerFast, T5EncoderModel

from training.text.corpus import TextCorpus
from training.text.moods import MoodAxes, extend
from training.text.teacher import SentenceTeacher
from training.text.tokenizer import surface_words
from training.text.words import PROBES

# Mood words of the scorebook's captions, with the instruments and styles that a probe may mean.
CAPTION_WORDS = (
    "calm", "gentle", "happy", "cheerful", "sad", "melancholic", "dark", "mysterious", "energetic", "driving",
    "aggressive", "dramatic", "playful", "romantic", "dreamy", "solemn", "majestic", "bright", "warm", "tense",
    "relaxed", "epic", "funky", "piano", "drums", "chiptune", "jazz", "rock", "waltz",
)  # fmt: skip


@torch.no_grad()
def pooled_states(encoder: T5EncoderModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> torch.Tensor:
    """Masked mean of `last_hidden_state`, rows of norm 1: (len(texts), d_model)."""
    out = []
    for first in range(0, len(texts), 64):
        batch = tokenizer(list(texts[first : first + 64]), padding=True, truncation=True, return_tensors="pt")
        states = encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        out.append((states * mask).sum(1) / mask.sum(1))
    return normalize(torch.cat(out), dim=-1)


def compare(student: torch.Tensor, target: torch.Tensor, teacher: torch.Tensor) -> dict[str, float]:
    """Agreement of embeddings of the same n texts, rows of norm 1: student (n, d_model), target (n, width + 3), which
    is the teacher with mood axes, and the teacher alone (n, width).

    Returns:
        "top1": share of texts whose nearest other text is the target's; "top5": the target's nearest is among the
        student's five; "chance": top1 of a random ranking; "spearman": rank correlation of all pair cosines with the
        target's; "spearman_teacher": with those of the teacher alone.
    """
    count = len(student)
    own, theirs, alone = (vectors @ vectors.T for vectors in (student, target, teacher))
    row, column = torch.triu_indices(count, count, 1)
    correlations = [float(spearmanr(own[row, column], other[row, column]).statistic) for other in (theirs, alone)]
    own.fill_diagonal_(-2.0)
    theirs.fill_diagonal_(-2.0)
    nearest = theirs.argmax(-1)
    five = own.topk(min(5, count), dim=-1).indices
    return {
        "texts": count, "top1": float((five[:, 0] == nearest).float().mean()),
        "top5": float((five == nearest[:, None]).any(-1).float().mean()), "chance": 1.0 / (count - 1),
        "spearman": correlations[0], "spearman_teacher": correlations[1],
    }  # fmt: skip


def neighbours(query: torch.Tensor, words: torch.Tensor, names: Sequence[str], count: int = 3) -> list[list[str]]:
    """For each query the names of the nearest words, with cosines."""
    best = (query @ words.T).topk(min(count, len(names)), dim=-1)
    return [
        [f"{names[index]} {value:.2f}" for value, index in zip(values, indices, strict=True)]
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def report(
    encoder: T5EncoderModel,
    tokenizer: PreTrainedTokenizerFast,
    teacher: SentenceTeacher,
    corpus: TextCorpus,
    moods: MoodAxes,
    axes_weight: float,
) -> dict:
    """Size, agreement with the teacher on held-out texts and words, and the neighbours of the probe words."""
    result: dict = {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "fp16_megabytes": sum(p.numel() for p in encoder.parameters()) * 2 / 1e6,
        "vocabulary": len(tokenizer), "mood_axes_cross_validated": moods.fit_correlation,
    }  # fmt: skip
    groups = {"prompts": corpus.heldout_texts, "captions": corpus.heldout_captions, "words": corpus.heldout_words}
    for name, texts in groups.items():
        if len(texts) > 2:
            alone = teacher.embed(texts, label=name)
            axes = moods.texts(texts, [surface_words(text) for text in texts], alone)
            target = normalize(extend(alone, axes, axes_weight), dim=-1)
            result[name] = compare(pooled_states(encoder, tokenizer, texts), target, alone)
    anchors = pooled_states(encoder, tokenizer, CAPTION_WORDS)
    student = neighbours(pooled_states(encoder, tokenizer, PROBES), anchors, CAPTION_WORDS)
    taught_anchors = teacher.embed(CAPTION_WORDS, label="anchors")
    taught = neighbours(teacher.embed(PROBES, label="probes"), taught_anchors, CAPTION_WORDS)
    result["neighbours"] = {probe: {"student": student[i], "teacher": taught[i]} for i, probe in enumerate(PROBES)}
    return result


def print_report(result: dict) -> None:
    """Print the report as a table."""
    size = f"{result['parameters']:,} parameters, {result['fp16_megabytes']:.1f} MB in fp16"
    print(f"{size}, {result['vocabulary']} tokens")
    valence, energy, gravity = result["mood_axes_cross_validated"]
    print(f"mood axes of left-out words, r: valence {valence:.2f}, energy {energy:.2f}, gravity {gravity:.2f}")
    for name in ("prompts", "captions", "words"):
        if name in result:
            row = result[name]
            print(
                f"held-out {name:9s} n={row['texts']:5d}  nearest as target: top-1 {row['top1']:.3f}, "
                f"top-5 {row['top5']:.3f} (chance {row['chance']:.4f})  Spearman of cosines {row['spearman']:.3f}, "
                f"with the teacher alone {row['spearman_teacher']:.3f}"
            )
    for probe, row in result["neighbours"].items():
        print(f"{probe:12s} -> {', '.join(row['student']):48s} teacher alone: {', '.join(row['teacher'])}")
