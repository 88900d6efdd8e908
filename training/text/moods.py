"""What mood words mean to a listener: three numbers that a sentence encoder mixes up.

Sentence encoders put opposites side by side ("gloomy" and "cheerful" stand in the same sentences). So the target of the
text encoder is the teacher's embedding with three further axes, each in [-1, 1]:
    valence   unhappy, dark -1 ... +1 happy, bright
    energy    slow, quiet, still -1 ... +1 fast, loud, wild      (with valence: Russell 1980, the circumplex of affect)
    gravity   playful, light -1 ... +1 serious, solemn
Listed words have the numbers below, written by hand for this project; other words get them by ridge regression from
the teacher's embeddings.
"""

from collections.abc import Sequence

import torch

# (valence, energy, gravity): words
_GROUPS: dict[tuple[float, float, float], str] = {
    (0.5, -1.0, 0.1): """
        calm, peaceful, serene, tranquil, soothing, relaxing, relaxed, restful, quiet, still, placid, unwinding""",
    (0.5, -0.7, -0.2): """
        mellow, chill, chilled, laid-back, easygoing, carefree, breezy, lazy, comforting, cozy, unhurried""",
    (0.5, -0.8, 0.1): """
        gentle, soft, tender, delicate, fragile, lullaby, sweet, loving, intimate, warm, hushed""",
    (0.3, -0.8, 0.0): """
        dreamy, sleepy, drowsy, floating, weightless, airy, hazy, misty, moonlit, ambient, hypnotic""",
    (0.2, -0.8, 0.5): """
        meditative, contemplative, pensive, reflective, thoughtful, introspective, patient, slow, spacious""",
    (0.5, -0.3, 0.2): """
        romantic, sensual, passionate, heartfelt, sincere, touching, moving, emotional, sentimental, poignant""",
    (-0.3, -0.5, 0.3): """
        nostalgic, wistful, bittersweet, longing, yearning, autumnal, rainy, blue""",
    (-0.9, -0.7, 0.6): """
        sad, sorrowful, melancholic, melancholy, mournful, tearful, heartbroken, lonely, depressing, weeping,
        depressed, unhappy, miserable, grieving, sorrow, grief""",
    (-0.9, -0.6, 0.9): """
        desolate, bleak, gloomy, somber, sombre, grave, funereal, tragic, despairing, hopeless, dismal, dreary""",
    (-0.8, 0.0, 0.8): """
        dark, brooding, moody, ominous, sinister, evil, black, nocturnal, foreboding, grim""",
    (-0.7, 0.1, 0.4): """
        creepy, spooky, eerie, haunting, ghostly, scary, unsettling, disturbing, haunted, uncanny""",
    (-0.9, 0.7, 0.6): """
        frightening, terrifying, horrifying, nightmarish, menacing, threatening, terror, horror""",
    (-0.6, 0.5, 0.4): """
        tense, suspenseful, anxious, nervous, uneasy, paranoid, agitated, restless, urgent, fearful, worried""",
    (-0.1, -0.3, 0.5): """
        mysterious, enigmatic, mystical, strange, surreal, otherworldly, alien, foggy, exotic""",
    (0.6, -0.4, 0.4): """
        magical, enchanting, ethereal, celestial, heavenly, angelic, glowing, shimmering, beautiful, graceful,
        elegant, lovely, wondrous""",
    (0.3, -0.5, 1.0): """
        solemn, sacred, holy, spiritual, reverent, devout, prayerful, dignified, ceremonial""",
    (0.6, 0.3, 0.9): """
        majestic, noble, regal, royal, stately, grand, grandiose, monumental, ceremonious""",
    (0.6, 0.8, 0.7): """
        epic, heroic, triumphant, victorious, glorious, proud, patriotic, powerful, bold, inspiring, cinematic""",
    (0.0, 0.6, 0.6): """
        dramatic, intense, strong, martial, militant, forceful, stormy, theatrical""",
    (-0.7, 1.0, 0.5): """
        aggressive, angry, furious, violent, brutal, savage, raging, fierce, hostile, rage, fury, hateful""",
    (-0.3, 1.0, 0.0): """
        wild, chaotic, frantic, frenzied, hectic, manic, crazy, harsh, abrasive, noisy, hysterical""",
    (0.3, 1.0, 0.0): """
        energetic, vigorous, driving, dynamic, explosive, thunderous, fast, loud, banger, rapid, racing,
        pounding, frenetic, pumping, hard""",
    (0.8, 0.8, -0.3): """
        lively, vibrant, spirited, upbeat, exuberant, exciting, euphoric, ecstatic, partying, bouncy, danceable""",
    (0.9, 0.3, 0.0): """
        uplifting, hopeful, optimistic, positive, encouraging, motivational, confident, grateful, bright, sunny,
        radiant, summery, springlike""",
    (1.0, 0.5, -0.4): """
        happy, cheerful, joyful, joyous, jubilant, merry, jolly, gleeful, elated, festive, celebratory,
        delighted""",
    (0.7, 0.4, -1.0): """
        playful, whimsical, quirky, funny, humorous, comical, silly, goofy, mischievous, cheeky, cute,
        childlike, lighthearted, cartoonish, cheesy""",
    (0.6, 0.5, -0.5): """
        groovy, funky, catchy, swinging, sassy, cool, slick, jazzy, soulful, stylish""",
    (0.6, -0.3, 0.0): """
        smooth, charming, innocent, pastoral, rustic, organic, natural, bluesy, classy, sophisticated, refined""",
    (-0.3, 0.6, 0.0): """
        gritty, dirty, rough, edgy, rebellious, defiant, raw, distorted, bitter, jealous""",
    (0.5, 0.7, 0.0): """
        adventurous, tropical, psychedelic, trippy, brisk, quick, speedy, hurried""",
    (-0.5, -0.4, 0.5): """
        cold, icy, frozen, sterile, detached, numb, wintry, hollow, mechanical, grey""",
    (-0.4, -0.7, 0.1): """
        bored, tired, weary, exhausted, sluggish, dragging, sick, guilty, ashamed, woozy, timid, shy""",
}
AXES: dict[str, tuple[float, float, float]] = {
    " ".join(word.split()): axes for axes, words in _GROUPS.items() for word in words.split(",")
}
MOODS: tuple[str, ...] = tuple(AXES)


def mood_groups() -> tuple[tuple[str, ...], ...]:
    """The listed words, those of like meaning together."""
    return tuple(tuple(" ".join(word.split()) for word in words.split(",")) for words in _GROUPS.values())


class MoodAxes:
    """Valence, energy and gravity of words and texts.

    Args:
        listed: (len(MOODS), width) teacher embeddings of MOODS, in order.
        ridge: strength of the regression; larger = unlisted words nearer to 0.
    """

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
        """Axes of texts: the mean of their listed words; by regression for those without any.

        Args:
            texts: texts; one that is itself listed has its own axes.
            words_of: the words of each text.
            embeddings: (len(texts), width) teacher embeddings.

        Returns:
            (len(texts), 3).
        """
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
