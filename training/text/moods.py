"""The meaning of mood words as three numbers, in which opposites that a sentence encoder mixes up lie far apart.

Sentence encoders put opposites side by side ("gloomy" and "cheerful" stand in the same sentences). So the target of the
text encoder is the teacher's embedding with three further axes, each in [-1, 1]:
    valence   unhappy, dark -1 ... +1 happy, bright
    energy    slow, quiet, still -1 ... +1 fast, loud, wild      (with valence: Russell 1980, the circumplex of affect)
    gravity   playful, light -1 ... +1 serious, solemn
Listed words have the numbers of lexicon/moods.txt, written by hand for this project; other words get them by
ridge regression from the teacher's embeddings.
"""

from collections.abc import Sequence

import torch

from training.text.lexicon import read_table

# (valence, energy, gravity) -> words of like meaning.
_GROUPS = {tuple(map(float, axes.split())): words for axes, words in read_table("moods").items()}
AXES = {word: axes for axes, words in _GROUPS.items() for word in words}
MOODS: tuple[str, ...] = tuple(AXES)


def mood_groups() -> tuple[tuple[str, ...], ...]:
    """The listed words, those of like meaning together."""
    return tuple(_GROUPS.values())


class MoodAxes:
    """Valence, energy and gravity of words and texts, from teacher embeddings (len(MOODS), width) of MOODS, in order;
    the larger `ridge` is, the nearer to 0 are unlisted words."""

    def __init__(self, listed: torch.Tensor, ridge: float = 1.0):
        self.values = torch.tensor([AXES[word] for word in MOODS])
        self.weights, self.bias = _fit(listed, self.values, ridge)
        self.fit_correlation = _cross_validated(listed, self.values, ridge)

    def words(self, words: Sequence[str], embeddings: torch.Tensor) -> torch.Tensor:
        """Axes of words alone: listed as listed, others by regression: (len(words), 3)."""
        out = (embeddings @ self.weights + self.bias).clamp(-1.0, 1.0)
        for row, word in enumerate(words):
            if word in AXES:
                out[row] = torch.tensor(AXES[word])
        return out

    def texts(self, texts: Sequence[str], words_of: Sequence[Sequence[str]], embeddings: torch.Tensor) -> torch.Tensor:
        """Axes (len(texts), 3) of texts with teacher embeddings (len(texts), width): a listed text has its own, others
        have the mean of their listed words (`words_of`), and those without any are by regression."""
        out = self.words(texts, embeddings)
        for row, (text, words) in enumerate(zip(texts, words_of, strict=True)):
            found = [AXES[word] for word in words if word in AXES]
            if found and text not in AXES:
                out[row] = torch.tensor(found).mean(0)
        return out


def extend(embeddings: torch.Tensor, axes: torch.Tensor, weight: float) -> torch.Tensor:
    """Targets: the teacher's embedding with the weighted axes appended, (n, width + 3)."""
    return torch.cat([embeddings, weight * axes], dim=-1)


def _fit(features: torch.Tensor, values: torch.Tensor, ridge: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression with an intercept: weights (width, 3), bias (3,)."""
    centre, mean = features.mean(0), values.mean(0)
    moved = features - centre
    gram = moved.T @ moved + ridge * torch.eye(features.shape[1])
    weights = torch.linalg.solve(gram, moved.T @ (values - mean))
    return weights, mean - centre @ weights


def _cross_validated(features: torch.Tensor, values: torch.Tensor, ridge: float, folds: int = 10) -> list[float]:
    """Correlation of predicted and given values on words left out of the fit, one figure an axis."""
    predicted = torch.empty_like(values)
    for fold in range(folds):
        left_out = torch.arange(len(values)) % folds == fold
        weights, bias = _fit(features[~left_out], values[~left_out], ridge)
        predicted[left_out] = features[left_out] @ weights + bias
    return [float(torch.corrcoef(torch.stack([predicted[:, axis], values[:, axis]]))[0, 1]) for axis in range(3)]
