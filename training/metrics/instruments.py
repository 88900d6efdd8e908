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


def stated_heard(
    probabilities: dict[str, float], stated: tuple[str, ...], thresholds: dict[str, float]
) -> float | None:
    """Share of the stated instruments that are above their threshold; None if the tagger knows none of them.

    What else plays is left to the music, so that this is a recall; a tagger that hears everything everywhere shows in
    the chance beside it and in `stated_above_absent`.
    """
    known = [name for name in stated if name in instrument_tags(probabilities)]
    if not known:
        return None
    return float(np.mean([probabilities[name] >= thresholds.get(name, 0.5) for name in known]))


def stated_above_absent(
    probabilities: dict[str, float], stated: tuple[str, ...], playing: tuple[str, ...]
) -> float | None:
    """Over the stated instruments, the mean share of instruments that do not play in the labelled clip that are less
    likely: 1 if all stated ones come first, 0.5 by chance. None if the tagger knows none of them, or no other.

    Args:
        stated: what the caption names.
        playing: all that the row says plays; those that the caption does not name neither help nor harm.
    """
    known = instrument_tags(probabilities)
    wanted = np.array([probabilities[name] for name in known if name in stated])
    absent = np.array([probabilities[name] for name in known if name not in stated and name not in playing])
    if not len(wanted) or not len(absent):
        return None
    return float(np.mean(wanted[:, None] > absent[None, :]))


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
