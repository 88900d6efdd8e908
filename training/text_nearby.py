"""Phrases that the teacher takes for a known instrument or style: words without a label, labelled by it.

The lists name up to some hundred words for each thing. The teacher has read far more; a phrase counts as naming a thing
if a linear classifier of the teacher's embeddings, fitted on the listed words, and the nearest listed word agree on it,
and that word is near. What has a word that only held-out captions use is not looked at.
"""

from collections.abc import Sequence

import torch

from training.loop import item_rng
from training.text_tags import heldout_phrases
from training.text_teacher import SentenceTeacher
from training.text_tellings import CONCEPTS
from training.text_words import GENRES, INSTRUMENTS, MOODS, SCENES, SOUNDS, TEMPOS

_NEAR = 0.6  # cosine with the nearest listed word
_FRAMES = {
    "instrument": ("{}", "a {} melody", "a calm tune on the {}", "{} and drums in a jazz piece at 120 bpm",
                   "slow rock with {} in C major"),
    "style": ("{}", "{} music", "a happy {} track with piano", "{} with violin and drums at 100 bpm",
              "a slow {} in A minor"),
}  # fmt: skip
_LISTS = {"instrument": INSTRUMENTS, "style": GENRES}


def fit_classifier(
    embeddings: torch.Tensor, labels: torch.Tensor, classes: int, steps: int = 400
) -> tuple[torch.Tensor, torch.Tensor]:
    """Multinomial logistic regression with weight decay: weight (classes, width) and bias (classes,), by Adam."""
    weight = torch.zeros(classes, embeddings.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], 0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = embeddings @ weight.T + bias
        (torch.nn.functional.cross_entropy(logits, labels) + 1e-3 * weight.square().sum()).backward()
        optimizer.step()
    return weight.detach(), bias.detach()


def nearby_phrases(teacher: SentenceTeacher, words: Sequence[str], pairs: int, seed: int) -> dict[int, list[str]]:
    """Phrases for each concept (number in `CONCEPTS`): single words, listed names, and random pairs of words.

    Args:
        teacher: embeds and so judges them.
        words: words of its vocabulary, nearest to music first.
        pairs: pairs of words for each kind of concept.
        seed: draws the pairs.
    """
    held = {phrase.lower() for phrase in heldout_phrases()}
    open_words = {part for concept in CONCEPTS for text in (*concept.own, *concept.synonyms) for part in text.split()}
    held_words = {part for phrase in held for part in phrase.split()} - {word.lower() for word in open_words}
    other = {word for entries in (MOODS, SOUNDS, SCENES, TEMPOS) for word in entries}

    def allowed(text: str) -> bool:
        return text not in other and text.lower() not in held and held_words.isdisjoint(text.lower().split())

    found: dict[int, list[str]] = {}
    for kind, frames in _FRAMES.items():
        numbers = [place for place, concept in enumerate(CONCEPTS) if concept.kind == kind and concept.name != "drums"]
        listed = [
            (word, label)
            for label, number in enumerate(numbers)
            for word in dict.fromkeys((*CONCEPTS[number].own, *CONCEPTS[number].synonyms))
        ]
        long = [(word, label) for label, number in enumerate(numbers) for word in CONCEPTS[number].lexicon]
        texts = [(frame.format(word), label) for word, label in listed for frame in frames]
        texts += [(frames[place % len(frames)].format(word), label) for place, (word, label) in enumerate(long)]
        framed = teacher.embed([text for text, _ in texts], label=f"framed_{kind}")
        mean, std = framed.mean(0), framed.std(0) + 1e-6
        labels = torch.tensor([label for _, label in texts])
        weight, bias = fit_classifier((framed - mean) / std, labels, len(numbers))
        listed += long

        parts = list(dict.fromkeys(part for word, _ in listed for part in word.split() if len(part) > 1))
        before = list(dict.fromkeys([*words[:2500], *parts, *SOUNDS]))
        rng = item_rng(seed, 17, len(numbers))
        drawn = [
            f"{first[int(rng.integers(len(first)))]} {parts[int(rng.integers(len(parts)))]}"
            for number in range(pairs)
            for first in ((parts if number % 5 < 2 else before),)
        ]
        candidates = [text for text in dict.fromkeys([*words, *_LISTS[kind], *drawn]) if allowed(text)]
        embedded = teacher.embed(candidates, label=f"candidates_{kind}")
        chosen = ((embedded - mean) / std @ weight.T + bias).argmax(-1)
        names = teacher.embed([word for word, _ in listed], label=f"listed_{kind}")
        cosine, nearest = (embedded @ names.T).max(-1)
        agreed = (cosine > _NEAR) & (chosen == torch.tensor([label for _, label in listed])[nearest])
        for place in agreed.nonzero()[:, 0].tolist():
            found.setdefault(numbers[int(chosen[place])], []).append(candidates[place])
    return found
