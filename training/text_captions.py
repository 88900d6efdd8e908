"""Captions for the text encoder: those of the scorebook where it is made, and such as it would write, without audio."""

from pathlib import Path

from training.data.captions import Facts, captions, heldout_captions
from training.data.clips import read_rows
from training.data.instruments import INSTRUMENTS
from training.data.styles import STYLES
from training.loop import item_rng
from training.text_moods import MOODS
from training.text_words import GENRES


def scorebook_captions(data_dir: str, split: str, key: str, count: int) -> list[str]:
    """The first captions of a scorebook split.

    Args:
        data_dir: scorebook folder; one that does not exist gives no captions.
        split: "train", "validation" or "test".
        key: "text" or "text_heldout".
        count: at most so many.

    Returns:
        Captions, each once.
    """
    found: dict[str, None] = {}
    for row in read_rows(data_dir, split) if Path(data_dir).is_dir() else []:
        found.update(dict.fromkeys(row.get(key) or []))
        if len(found) >= count:
            break
    return list(found)[:count]


def imagined_captions(count: int, seed: int, heldout: bool = False) -> list[str]:
    """Captions of clips that were never rendered: random styles, moods, instruments, tempos and keys.

    Args:
        count: number of captions.
        seed: seed of the draws.
        heldout: the paraphrases that the scorebook keeps for tests.

    Returns:
        Captions, each once; a little fewer than `count` where two came out alike.
    """
    styles, names = list(STYLES.values()), list(INSTRUMENTS)
    write = heldout_captions if heldout else captions
    out: dict[str, None] = {}
    for number in range(count):
        rng = item_rng(seed, 14, int(heldout), number)
        style = styles[int(rng.integers(len(styles)))]
        # A third are pieces of no style of the tables, as clips of scores are.
        classical = rng.random() < 0.33
        genre = GENRES[int(rng.integers(len(GENRES)))]
        moods = style.moods if rng.random() < 0.5 else tuple(MOODS[int(k)] for k in rng.integers(len(MOODS), size=2))
        players = tuple(names[int(k)] for k in rng.choice(len(names), int(rng.integers(1, 5)), replace=False))
        facts = Facts(
            style=genre if classical else style.name,
            style_words=(genre,) if classical else style.words,
            style_heldout_words=(genre,) if classical else style.heldout_words,
            genre=genre if classical else style.genre,
            moods=moods, instruments=players, melody=players[0] if rng.random() < 0.8 else None,
            drums=(None, "drums", "percussion")[int(rng.integers(3))], bpm=float(rng.integers(45, 200)),
            key=f"{('C', 'Db', 'D', 'Eb', 'E', 'F', 'Gb', 'G', 'Ab', 'A', 'Bb', 'B')[int(rng.integers(12))]} "
            f"{('major', 'minor')[int(rng.integers(2))]}" if rng.random() < 0.8 else None,
            time_signature=("4/4", "4/4", "3/4", "2/4", "6/8")[int(rng.integers(5))],
            bars=int(rng.integers(2, 13)) if rng.random() < 0.4 else None,
            room=("dry", "room", "hall", "cathedral")[int(rng.integers(4))],
            dynamics=("soft", "medium", "loud")[int(rng.integers(3))], complete=True,
        )  # fmt: skip
        out.update((text, None) for text, _ in write(facts, 1, rng))
    return list(out)
