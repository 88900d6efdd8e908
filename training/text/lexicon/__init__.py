"""Word lists: tables of "name | word, word" lines; an indented line continues the one above, # begins a comment."""

from pathlib import Path


def read_table(name: str) -> dict[str, tuple[str, ...]]:
    """The words by name of `<name>.txt` in this folder, in order."""
    lines = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    rows = (line.split("|") for line in text.strip().replace("\n  ", " ").splitlines())
    return {name.strip(): tuple(word.strip() for word in words.split(",")) for name, words in rows}
