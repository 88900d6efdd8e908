"""The bank: every free score there is, read once and kept in the cache."""

import argparse
import re
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from training.data.scorebook.piece import Score, load_bank, save_bank, split_meter
from training.data.sources.abc import read_abc
from training.data.sources.fetch import cache_dir, find_freedoom, find_music21
from training.data.sources.freedoom import read_freedoom
from training.data.sources.licences import forbidden_words, licence_of
from training.data.sources.musicxml import MusicXmlError, read_musicxml, xml_of

SOURCES = ("folk", "classical", "freedoom")
BANK_VERSION = 3  # to be raised whenever a reader changes what it reads
_CORPUS = "music21/corpus/"
_INCIPIT = 16  # intervals by which two settings of a tune are recognised
_COMPOSERS = {
    "bach": "Johann Sebastian Bach", "beethoven": "Ludwig van Beethoven", "haydn": "Joseph Haydn",
    "mozart": "Wolfgang Amadeus Mozart", "handel": "George Frideric Handel", "cpebach": "Carl Philipp Emanuel Bach",
    "schumann_robert": "Robert Schumann", "verdi": "Giuseppe Verdi",
    "corelli": "Arcangelo Corelli", "weber": "Carl Maria von Weber", "lusitano": "Vicente Lusitano",
    "liliuokalani": "Liliuokalani", "johnson_j_r": "J. Rosamond Johnson",
}  # fmt: skip


def load_scores(sources: Sequence[str] = SOURCES) -> list[Score]:
    """All scores of some sources, in a fixed order; built on the first call, then read from the cache (`cache_dir`).

    Exact duplicates are left out; further settings of a tune carry the work_id of the first one.

    Raises:
        ValueError: for an unknown source.
        MissingSourceError: if a source is not here and cannot be downloaded.
    """
    unknown = [s for s in sources if s not in SOURCES]
    if unknown or not sources:
        raise ValueError(f"sources {list(sources)!r}: must be out of {', '.join(SOURCES)}")
    scores: list[Score] = []
    for source in SOURCES:
        if source not in sources:
            continue
        bank = cache_dir() / f"scores-{source}-v{BANK_VERSION}.npz"
        if not bank.is_file():
            save_bank(bank, build_source(source))
        scores += load_bank(bank)
    return scores


def build_source(source: str) -> list[Score]:
    """Read one source from its files, without the bank."""
    if source == "freedoom":
        return merge_duplicates(read_freedoom(find_freedoom()))
    ending = (".abc",) if source == "folk" else (".mxl", ".xml")
    with zipfile.ZipFile(find_music21()) as wheel:
        names = sorted(n for n in wheel.namelist() if n.startswith(_CORPUS) and n.endswith(ending))
        return merge_duplicates([s for n in names for s in _read(n.removeprefix(_CORPUS), wheel.read(n))])


def _read(path: str, data: bytes) -> Iterator[Score]:
    """Scores of one file of the corpus that its licence and its readers let through."""
    license_text = licence_of(path)
    if license_text is None:
        return
    collection, stem = path.split("/", 1)[0], path.rsplit(".", 1)[0]
    if not path.endswith(".abc"):
        try:
            if not forbidden_words(_text(xml_of(data))):
                score = read_musicxml(data)
                title = stem.split("/", 1)[1].replace("/", " ") if score.title == "untitled" else score.title
                composer = _COMPOSERS.get(collection, score.composer)
                yield replace(
                    score, work_id=stem, title=title, composer=composer, collection=collection, license=license_text
                )
        except MusicXmlError:
            pass  # counted by the difference between files and scores; see `python -m training.data.sources.load`
        return
    text = _text(data)
    if forbidden_words(text):
        return
    one_per_file = text.count("\nX:") + text.startswith("X:") == 1
    book = collection if collection == "oneills1850" else stem
    for number, score in read_abc(text):
        if isinstance(score, Score):
            work_id = stem if one_per_file else f"{book}/{number:04d}"
            yield replace(score, work_id=work_id, collection=collection, license=license_text)


def merge_duplicates(scores: Sequence[Score]) -> list[Score]:
    """Leave out what is there already, and let settings of one tune share a work_id.

    Out: a second score of the same work_id (two transcriptions of one number of a book), and a one-part score whose
    first sixteen intervals from the first downbeat and whose meter class are those of an earlier one. Shared work_id:
    one-part scores of the same title and meter class, and polyphony whose top part begins alike (two harmonisations of
    a chorale, a movement in two files).
    """
    kept: list[Score] = []
    ids: set[str] = set()
    owner: dict[tuple, str] = {}
    for score in scores:
        single = len(score.parts) == 1
        alike = [("incipit", single, _meter_class(score), incipit(score))] if incipit(score) else []
        same = owner.get(alike[0]) if alike else None
        if score.work_id in ids or (single and same):
            continue
        ids.add(score.work_id)
        if single and _plain_title(score.title):
            alike.append(("title", _meter_class(score), _plain_title(score.title)))
        work_id = next((owner[a] for a in alike if a in owner), score.work_id)
        for a in alike:
            owner.setdefault(a, work_id)
        kept.append(score if work_id == score.work_id else replace(score, work_id=work_id))
    return kept


def incipit(score: Score) -> tuple[int, ...]:
    """First sixteen intervals (semitones) of the highest part's top line from the first downbeat; () if shorter."""
    pitched = [p.notes for p in score.parts if not p.is_drums]
    top = max(pitched, key=lambda notes: float(notes[:, 2].mean()))
    top = top[top[:, 0] >= score.pickup_q - 1e-6]
    last_of_onset = np.append(top[1:, 0] > top[:-1, 0] + 1e-6, True)[: len(top)]
    line = top[last_of_onset, 2][: _INCIPIT + 1].astype(int)
    return tuple(np.diff(line).tolist()) if len(line) > _INCIPIT else ()


def _meter_class(score: Score) -> str:
    upper, lower = split_meter(score.time_signature)
    return "duple" if upper in (2, 4) and lower in (2, 4, 8) else f"{upper}/{lower}"


def _plain_title(title: str) -> str:
    """Title without case, punctuation, articles and the dance it names; "" if nothing is left."""
    words = re.sub(r"[^a-z ]", "", title.lower().replace("-", " ")).split()
    idle = {"the", "a", "an", "reel", "jig", "hornpipe", "strathspey", "clog", "march", "of", "air", "slip", "untitled"}
    return " ".join(w for w in words if w not in idle)


def _text(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def main() -> int:
    """Print what the bank holds: scores, works, notes and quarters per collection."""
    parser = argparse.ArgumentParser(prog="training.data.sources.load", description=main.__doc__)
    parser.add_argument("--sources", default=",".join(SOURCES), help="comma-separated (default: %(default)s)")
    arguments = parser.parse_args()
    began = time.perf_counter()
    try:
        scores = load_scores([s for s in arguments.sources.split(",") if s])
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seconds = time.perf_counter() - began
    print(f"{'collection':22}{'scores':>8}{'works':>8}{'notes':>10}{'quarters':>10}{'keys':>7}  meters")
    for name in dict.fromkeys(s.collection for s in scores):
        some = [s for s in scores if s.collection == name]
        meters = Counter(s.time_signature for s in some).most_common(4)
        print(
            f"{name:22}{len(some):8}{len({s.work_id for s in some}):8}"
            f"{sum(len(p.notes) for s in some for p in s.parts):10}{sum(s.length_q for s in some):10.0f}"
            f"{sum(s.key is not None for s in some) / len(some):7.0%}  {' '.join(f'{m}:{n}' for m, n in meters)}"
        )
    print(f"{len(scores)} scores of {len({s.work_id for s in scores})} works in {seconds:.2f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
