"""MusicXML and ABC files -> MIDI files that `vivace generate --score` takes.

    python -m training.data.sources.to_midi tune.musicxml --out tune.mid

Of an ABC file with several tunes --tune names one by its number. The longest stretch of constant meter is kept, of at
least four bars; its upbeat stands at the end of a bar of rest.
"""

import argparse
from pathlib import Path

from pipelines import vivace_score
from pipelines.vivace_score import MidiPart, Track, find_roles
from pipelines.vivace_theory import PROGRAM_NAMES
from training.config import command
from training.data.scorebook.piece import Score, bar_q
from training.data.sources.abc import read_abc
from training.data.sources.musicxml import read_musicxml

DRUMS = 9  # channel


def read_score(path: Path, tune: int | None) -> Score:
    """The score of a file. Raises a ValueError of one line: no such file, or one that is not read."""
    if not path.is_file():
        raise ValueError(f"file {str(path)!r}: no such file")
    if path.suffix.lower() != ".abc":
        try:
            return read_musicxml(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"file {str(path)!r}: {error}") from error
    tunes = dict(read_abc(path.read_text(encoding="utf-8", errors="replace")))
    if tune is not None and tune not in tunes:
        raise ValueError(f"tune is {tune}; the file has: {', '.join(map(str, tunes)) or 'none'}")
    found = next(iter(tunes.values()), "no tune (X:) in it") if tune is None else tunes[tune]
    if isinstance(found, str):
        raise ValueError(f"file {str(path)!r}: {found}")
    return found


def playable(score: Score) -> vivace_score.Score:
    """The score with roles, in whole bars from a first downbeat."""
    bar = bar_q(score.time_signature)
    shift = -score.pickup_q % bar
    parts = [
        MidiPart(part.name, DRUMS if part.is_drums else 0, part.program or 0, [tuple(row) for row in part.notes])
        for part in score.parts
    ]
    tracks = []
    for part, role in zip(parts, find_roles(parts), strict=True):
        notes = [(onset + shift, *rest) for onset, *rest in part.notes]
        tracks.append(Track(role, notes, None if role == "drums" else PROGRAM_NAMES[part.program]))
    return vivace_score.Score(tuple(tracks), score.bpm or 100.0, score.time_signature, key=score.key)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="MusicXML (.musicxml, .xml, .mxl) or ABC (.abc)")
    parser.add_argument("--out", type=Path, help="file to write, .mid; default: the name of the file")
    parser.add_argument("--tune", type=int, help="number (X:) of a tune of an ABC file; default: its first")
    args = parser.parse_args(words)
    out = args.out or args.file.with_suffix(".mid")
    score = playable(read_score(args.file, args.tune))
    score.save(out)
    print(f"{out}  {score.bars} bars of {score.time_signature}, {score.bpm:g} bpm: {', '.join(score.roles)}")


if __name__ == "__main__":
    command(main)
