"""The whole run: items in parallel, then duplicates, splits and shards, so that a killed run goes on where it was.

While it runs, `<output_dir>/.work` holds one finished item a file; `data/` appears, whole, at the end.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm

from training.data.prepare.fingerprint import find_duplicates
from training.data.prepare.items import Item, Listing
from training.data.prepare.settings import Settings
from training.data.prepare.work import do_item, load_fate, save_unreadable, start_worker
from training.data.shards import SPLITS, shard_path, write_shard
from training.files import replace_folder, write_json

AHEAD = 3  # items read ahead for each process


def build(source: str, listing: Listing, output_dir: str, settings: Settings, num_workers: int) -> dict:
    """Prepare a collection; returns the report.

    Args:
        source: what it is called in rows and report.
        listing: its items.
        output_dir, settings, num_workers: as the command has them.

    Raises:
        ValueError: `output_dir` holds something else, or nothing of the source is usable.
        OSError: the disk is full, or the like; a rerun goes on.
    """
    root = Path(output_dir)
    work = root / ".work"
    _begin(root, work, {"source": source, "settings": settings.key()})
    targets: list[Path] = []
    jobs = _jobs(listing.items, work / "items", targets)
    with tqdm(total=listing.count, desc="prepare", unit="file", disable=None, smoothing=0.05) as bar:
        if num_workers == 1:
            start_worker(settings)
            for item, target in jobs:
                if item is not None:
                    do_item(item, settings, source, target)
                bar.update()
        else:
            for _ in _parallel(jobs, settings, source, num_workers):
                bar.update()
    fates, prints = [], []
    for target in targets:
        fate, words = load_fate(target)
        fates.append(fate | {"file": target.name})
        prints.append(words)
    _mark_duplicates(fates, prints)
    _assign_splits(fates, settings)
    if not any(fate["fate"] == "kept" for fate in fates):
        write_json(root / "report.json", _report(source, fates, listing, settings))
        raise ValueError(f"source {source}: none of its {len(fates)} audio files is usable; see {root / 'report.json'}")
    partial = work / "data"
    _write_shards(fates, work, settings)
    report = _report(source, fates, listing, settings)
    for split in SPLITS:
        report["splits"][split]["shards"] = len(list((partial / "data").glob(f"{split}-*.parquet")))
    replace_folder(partial / "data", root / "data")
    write_json(root / "report.json", report)
    shutil.rmtree(work)
    return report


def _begin(root: Path, work: Path, arguments: dict) -> None:
    """Make the working folder, or take up the one of a run with the same arguments."""
    if root.exists() and not root.is_dir():
        raise ValueError(f"output_dir {root} is a file")
    about = work / "arguments.json"
    if about.is_file() and json.loads(about.read_text()) != arguments:
        raise ValueError(
            f"output_dir {root}: an unfinished run with other arguments is there; give another, or delete it"
        )
    if not work.is_dir() and (root / "data").exists() and not (root / "report.json").is_file():
        raise ValueError(f"output_dir {root}: holds a data set that prepare did not make; give another")
    (work / "items").mkdir(parents=True, exist_ok=True)
    write_json(about, arguments)


def _jobs(items: Iterable[Item], folder: Path, targets: list[Path]) -> Iterator[tuple[Item | None, Path]]:
    """Each item with the file its result goes to; None in its place where that is there already."""
    for item in items:
        if item.path is None:
            stamp = hashlib.sha256(item.content).hexdigest()
        else:  # a file that was changed since is done again
            try:
                status = os.stat(item.path)
                stamp = f"{status.st_size} {status.st_mtime_ns}"
            except OSError as error:  # deleted since it was listed: do_item says so
                stamp = str(error.errno)
        said = json.dumps([item.name, stamp, item.captions, item.labels, item.split])
        target = folder / f"{hashlib.sha256(said.encode()).hexdigest()[:24]}.json"
        targets.append(target)
        yield (None if target.is_file() else item), target


def _parallel(jobs: Iterator, settings: Settings, source: str, num_workers: int) -> Iterator[None]:
    """Run the jobs in processes, a few ahead; yields once a finished item.

    An item that kills its process (a crash inside a decoder) is found by trying those under way one by one, and is
    unreadable.
    """
    waiting: deque[tuple[Item, Path]] = deque()
    while True:
        under_way: deque[tuple[Item, Path, Future]] = deque()
        try:
            with ProcessPoolExecutor(num_workers, initializer=start_worker, initargs=(settings,)) as pool:
                for item, target in jobs:
                    if item is None:
                        yield
                        continue
                    waiting.append((item, target))
                    under_way.append((item, target, pool.submit(do_item, item, settings, source, target)))
                    if len(under_way) >= AHEAD * num_workers:
                        under_way.popleft()[2].result()
                        waiting.popleft()
                        yield
                while under_way:
                    under_way.popleft()[2].result()
                    waiting.popleft()
                    yield
                return
        except BrokenProcessPool:
            while waiting:
                item, target = waiting.popleft()
                if not target.is_file():
                    _alone(item, target, settings, source)
                yield


def _alone(item: Item, target: Path, settings: Settings, source: str) -> None:
    try:
        with ProcessPoolExecutor(1, initializer=start_worker, initargs=(settings,)) as pool:
            pool.submit(do_item, item, settings, source, target).result()
    except BrokenProcessPool:
        save_unreadable(item, "the decoder crashed on it", target)


def _mark_duplicates(fates: list[dict], prints: list[np.ndarray]) -> None:
    """Leave out what is the same recording as another; the longest stays, then the largest file, then by name."""
    kept = [i for i, fate in enumerate(fates) if fate["fate"] == "kept"]
    kept.sort(key=lambda i: (-round(fates[i]["duration_s"]), -fates[i]["bytes"], fates[i]["name"]))
    first_with: dict[str, int] = {}
    same: dict[int, tuple[int, str]] = {}
    for i in kept:
        first = first_with.setdefault(fates[i]["sha256"], i)
        if first != i:
            same[i] = (first, "the same bytes as")
    rest = [i for i in kept if i not in same]
    for place, (other, agreement) in find_duplicates([prints[i] for i in rest]).items():
        same[rest[place]] = (rest[other], f"sounds as (fingerprint agrees to {100.0 * agreement:.0f} %)")
    for i, (other, how) in same.items():
        fates[i] |= {"fate": "duplicate", "reason": f"{how} {fates[other]['name']}"}


def _assign_splits(fates: list[dict], settings: Settings) -> None:
    """A split for each kept file by the hash of its bytes, whole files only.

    With at least three files, a split whose share is not 0 is never empty: the file nearest to it by hash is taken from
    the training split.
    """
    kept = [fate for fate in fates if fate["fate"] == "kept"]
    free = sorted((fate for fate in kept if fate["split"] is None), key=lambda fate: fate["sha256"])
    edges = (settings.test_share, settings.test_share + settings.validation_share)
    for fate in free:
        place = int(fate["sha256"][:13], 16) / 16.0**13
        fate["split"] = "test" if place < edges[0] else "validation" if place < edges[1] else "train"
    for split, share in (("test", settings.test_share), ("validation", settings.validation_share)):
        train = [fate for fate in free if fate["split"] == "train"]
        if share and len(kept) >= 3 and len(train) > 1 and not any(fate["split"] == split for fate in kept):
            train[0]["split"] = split


def _write_shards(fates: list[dict], work: Path, settings: Settings) -> None:
    """Gather the items' rows into shards; one that is there is whole, and is taken as it is if the plan is the same."""
    plan = {
        split: [f["file"] for f in fates if f["fate"] == "kept" and f["split"] == split] for split in SPLITS
    }  # fmt: skip
    noted, folder = work / "plan.json", work / "data"
    if not noted.is_file() or json.loads(noted.read_text()) != plan:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        write_json(noted, plan)
    for split in SPLITS:
        rows = (
            row for name in plan[split]
            for row in pq.ParquetFile((work / "items" / name).with_suffix(".parquet")).read().to_pylist()
        )  # fmt: skip
        for number in itertools.count():
            batch = list(itertools.islice(rows, settings.shard_clips))
            if not batch:
                break
            path = shard_path(folder, split, number)
            if not path.is_file():
                write_shard(path, batch)


def _report(source: str, fates: list[dict], listing: Listing, settings: Settings) -> dict:
    """Everything that report.json and report.html hold: one entry for each file seen, sorted by name."""
    files = [{key: value for key, value in fate.items() if key != "file"} for fate in fates]
    files += [
        {"name": name, "fate": fate, "reason": reason, "notes": []} for name, (fate, reason) in listing.others.items()
    ]
    files.sort(key=lambda entry: entry["name"])
    counts: dict[str, int] = {}
    for entry in files:
        counts[entry["fate"]] = counts.get(entry["fate"], 0) + 1
    splits = {}
    for split in SPLITS:
        mine = [f for f in files if f["fate"] == "kept" and f.get("split") == split]
        splits[split] = {
            "files": len(mine), "clips": sum(f["clips"] for f in mine),
            "hours": round(sum(f["clip_seconds"] for f in mine) / 3600.0, 4),
        }  # fmt: skip
    return {
        "source": source, "settings": settings.key(), "notes": listing.notes, "fates": counts, "splits": splits,
        "files": files,
    }  # fmt: skip
