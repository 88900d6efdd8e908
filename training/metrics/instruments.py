"""Are the requested instruments, drums and style heard? Figures from the probabilities of a tagger."""

import numpy as np

STYLE = "style:"
DRUMS = "drums"


def instrument_tags(probabilities: dict[str, float]) -> list[str]:
    """The instruments a tagger knows: its tags but for drums and styles."""
    return [name for name in probabilities if name != DRUMS and not name.startswith(STYLE)]


def instrument_f1(
    probabilities: dict[str, float], requested: tuple[str, ...], thresholds: dict[str, float]
) -> float | None:
    """F1 of the instruments above their threshold against the requested ones; None if the tagger knows none of them."""
    known = instrument_tags(probabilities)
    wanted = {name for name in requested if name in known}
    if not wanted:
        return None
    heard = {name for name in known if probabilities[name] >= thresholds.get(name, 0.5)}
    return 2.0 * len(wanted & heard) / (len(wanted) + len(heard))


def instrument_ranking(probabilities: dict[str, float], requested: tuple[str, ...]) -> float | None:
    """Label-ranking average precision (Tsoumakas et al. 2010): over requested instruments, the mean share of requested
    ones among those ranked at least as high. 1 if all requested ones come first. None if the tagger knows none."""
    known = instrument_tags(probabilities)
    scores = np.array([probabilities[name] for name in known])
    wanted = np.array([name in requested for name in known])
    if not wanted.any():
        return None
    above = scores[None, :] >= scores[wanted][:, None]  # (wanted, known)
    return float(np.mean((above & wanted).sum(axis=1) / above.sum(axis=1)))


def style_right(probabilities: dict[str, float], requested: str) -> float | None:
    """1 if the likeliest style is the requested one; None if the tagger does not know it."""
    styles = {name: value for name, value in probabilities.items() if name.startswith(STYLE)}
    if STYLE + requested not in styles:
        return None
    return float(max(styles, key=styles.get) == STYLE + requested)


def drums_right(probabilities: dict[str, float], requested: bool, thresholds: dict[str, float]) -> float | None:
    """1 if drums are heard when asked for, and not when not; None if the tagger has no such tag."""
    if DRUMS not in probabilities:
        return None
    return float((probabilities[DRUMS] >= thresholds.get(DRUMS, 0.5)) == requested)
