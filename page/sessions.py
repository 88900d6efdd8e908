"""Who made what: the pieces of each browser session, in a folder of its own with a name that cannot be guessed.

The page serves these folders by their path; whoever does not know the random name of a folder gets nothing from it, and
a session only ever gets its own. Memory and disk are bounded: so many pieces a session, so many sessions, and on a
page that strangers share a session that nobody touches is removed. A session with a running job is never removed. On
one's own machine the pieces of a browser stay on disk, and are found again when the page is started again.
"""

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

MAX_TAKES = 40  # of one session on a shared page; then the oldest goes
MAX_OWN_TAKES = 400  # on one's own machine
MAX_REMOVED = 20  # removed pieces that can be brought back
MAX_SESSIONS = 200
IDLE_S = 3600.0  # without a request
MAX_ANSWERS = 8  # folders of one session with files on their way to a program
LEFT_S = 600.0  # after the browser has gone: it may come back, as a phone does
NAME_BYTES = 24  # of the random name of a folder
SECRET = r"[0-9a-f]{32}"  # by which a browser finds its pieces again; page.js makes it
LIST = "takes.json"  # of the pieces, in the folder of a session that is kept


def takes_folder() -> Path | None:
    """Where the pieces are kept on one's own machine: the variable VIVACE_TAKES, else the user's folder for data. None
    where the variable is empty."""
    home = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    name = os.environ.get("VIVACE_TAKES", str(Path(home) / "vivace" / "takes"))
    return Path(name).expanduser() if name else None


@dataclass
class Take:
    """One piece: made here or uploaded.

    Attributes:
        id: random.
        kind: "made", "loop", "anew", "extended", "varied" or "uploaded".
        title: its prompt, or the name of the uploaded file.
        name: for a downloaded file, without ending.
        path: 16-bit WAV; beside it the same as FLAC.
        seconds: length.
        settings: of the fields that made it; None for an upload.
        conditions: what the pipeline understood.
        seed: of its noise; None for an upload.
        grid: bpm, beats_per_bar and downbeat_s, or None where no beat is known.
        made: stretches (start, end) in seconds that an edit made anew.
        loop: whether it is a circle.
        label: the name that it was given; "" = none, its title stands for it.
        star: whether it is a favourite.
    """

    id: str
    kind: str
    title: str
    name: str
    path: Path
    seconds: float
    settings: dict | None = None
    conditions: dict | None = None
    seed: int | None = None
    grid: dict | None = None
    made: list[tuple[float, float]] = field(default_factory=list)
    loop: bool = False
    label: str = ""
    star: bool = False

    @property
    def called(self) -> str:
        return self.label or self.title

    @property
    def flac(self) -> Path:
        return self.path.with_suffix(".flac")

    @property
    def midi(self) -> Path | None:
        """Its notes, where they are known."""
        path = self.path.with_suffix(".mid")
        return path if path.is_file() else None

    @property
    def stems(self) -> Path | None:
        """A zip of its parts, where it was made with stems."""
        path = self.path.with_suffix(".zip")
        return path if path.is_file() else None


class Session:
    """The pieces of one visitor, newest last.

    Attributes:
        folder: holds their files; gone with the session.
        takes: by id.
        removed: pieces that were removed and can be brought back, with their place in `takes`, newest last.
        pair: ids that are compared as A and B.
        tabs: of the browser that are open.
        jobs: for each running job a file whose being there ends it, since on ZeroGPU a job is another process, and
            the tab that started it. While there is one, the session stays.
    """

    def __init__(self, folder: Path, max_takes: int = MAX_TAKES, kept: bool = False):
        self.folder, self.max_takes, self.kept = folder, max_takes, kept
        self.folder.mkdir(mode=0o700, exist_ok=kept)
        self.takes: OrderedDict[str, Take] = OrderedDict()
        self.removed: list[tuple[int, Take]] = []
        self.pair: dict[str, str] = {}
        self.tabs: set[str] = set()
        self.jobs: dict[Path, str | None] = {}
        self.answers: list[Path] = []
        self.until = math.inf
        if kept:
            self._load()

    def _load(self) -> None:
        """The pieces that are on disk."""
        try:
            rows = json.loads((self.folder / LIST).read_text())
            takes = [Take(**row | {"path": self.folder / row["path"]}) for row in rows]
        except (OSError, ValueError, TypeError, KeyError):  # there are none, or not in this form
            return
        self.takes.update((take.id, take) for take in takes if take.path.is_file() and take.flac.is_file())

    def _save(self) -> None:
        """Write what `_load` reads."""
        if not self.kept:
            return
        rows = [asdict(take) | {"path": str(take.path.relative_to(self.folder))} for take in self.takes.values()]
        partial = self.folder / f"{LIST}.partial"
        partial.write_text(json.dumps(rows, default=float))  # lengths are fractions
        os.replace(partial, self.folder / LIST)

    @contextmanager
    def job(self, tab: str | None = None) -> Iterator[Path]:
        """The file that cancels a job, for the time of that job and of keeping what it made."""
        path = self.folder / f"cancel-{secrets.token_hex(8)}"
        self.jobs[path] = tab
        try:
            yield path
        finally:
            del self.jobs[path]
            path.unlink(missing_ok=True)

    def cancel(self, tab: str | None = None) -> None:
        """End the jobs of a tab at their next step; None = of all tabs."""
        for path, owner in list(self.jobs.items()):
            if tab is None or owner == tab:
                path.touch()

    def new_path(self, name: str) -> tuple[str, Path]:
        """An id and the path of the WAV for it; browsers download it under the last part of that path."""
        take_id = secrets.token_hex(8)
        (self.folder / take_id).mkdir()
        return take_id, self.folder / take_id / f"{name}.wav"

    def answer(self) -> Path:
        """A new folder for files that are handed to a program at once; the oldest such folder goes."""
        folder = self.folder / f"answer-{secrets.token_hex(8)}"
        folder.mkdir()
        self.answers.append(folder)
        while len(self.answers) > MAX_ANSWERS:
            shutil.rmtree(self.answers.pop(0), ignore_errors=True)
        return folder

    def add(self, take: Take) -> None:
        self.takes[take.id] = take
        while len(self.takes) > self.max_takes:
            _, oldest = self.takes.popitem(last=False)
            self.pair = {slot: other for slot, other in self.pair.items() if other != oldest.id}
            shutil.rmtree(oldest.path.parent, ignore_errors=True)
        self._save()

    def remove(self, take_id: str) -> None:
        """Take a piece out of the list; `undo` brings it back, its files stay until `MAX_REMOVED` others went too."""
        if take_id not in self.takes:
            return
        self.removed.append((list(self.takes).index(take_id), self.takes.pop(take_id)))
        self.pair = {slot: other for slot, other in self.pair.items() if other != take_id}
        while len(self.removed) > MAX_REMOVED:
            shutil.rmtree(self.removed.pop(0)[1].path.parent, ignore_errors=True)
        self._save()

    def undo(self) -> Take | None:
        """Bring back the piece that was removed last, to where it stood."""
        if not self.removed:
            return None
        place, take = self.removed.pop()
        order = list(self.takes.values())
        order.insert(place, take)
        self.takes = OrderedDict((other.id, other) for other in order)
        self._save()
        return take

    def change(self, take: Take, **values: object) -> None:
        """Set attributes of a piece, and keep them."""
        for name, value in values.items():
            setattr(take, name, value)
        self._save()

    def find(self, take_id: object) -> Take:
        """A piece of this session.

        Raises:
            ValueError: an id that is none of its.
        """
        take = self.takes.get(take_id) if isinstance(take_id, str) else None
        if take is None:
            raise ValueError("the piece is not in this session's history; make or upload one first")
        return take


class Sessions:
    """All sessions of a running page.

    Args:
        root: folder for their folders; None = a new temporary one.
        max_sessions: beyond that the longest untouched goes, one without pieces before one with some.
        own: the page serves its owner's machine only: pieces stay until the page ends, and more of them.
        kept: folder for the pieces of browsers, which stay there beyond the end of the page; in place of `root`.
            Where another page uses it, or it cannot be written, it is as None.
    """

    def __init__(
        self, root: Path | None = None, max_sessions: int = MAX_SESSIONS, own: bool = False, kept: Path | None = None
    ):
        self.claim = None if kept is None else claimed(kept)
        self.kept = kept if self.claim is not None else None
        root = self.kept if root is None else root
        self.root = Path(tempfile.mkdtemp(prefix="vivace-page-")) if root is None else root
        self.max_sessions, self.own = max_sessions, own
        self.idle_s, self.left_s = (math.inf, math.inf) if own else (IDLE_S, LEFT_S)
        self.max_takes = MAX_OWN_TAKES if own else MAX_TAKES
        self.lock = threading.Lock()
        self.known: OrderedDict[str, Session] = OrderedDict()

    def of(self, key: str, tab: str | None = None) -> Session:
        """The session of a key that the browser made up, new if there is none; it counts as touched.

        Args:
            key: of the session.
            tab: of the browser that asks.
        """
        with self.lock:
            self._sweep()
            session = self.known.pop(key, None) or self._open(key)
            session.until = time.monotonic() + self.idle_s
            if tab is not None:
                session.tabs.add(tab)
            self.known[key] = session
            idle = [other for other, held in self.known.items() if other != key and not held.jobs]
            idle.sort(key=lambda other: bool(self.known[other].takes))  # programs, which keep nothing here, go first
            for other in idle[: max(0, len(self.known) - self.max_sessions)]:
                self._drop(other)
            return session

    def leave(self, key: str, tab: str | None = None) -> None:
        """A tab was closed: its jobs end; what the session made stays a while after the last of its tabs."""
        with self.lock:
            session = self.known.get(key)
            if session is not None:
                session.tabs.discard(tab)
                session.cancel(tab)
                if not session.tabs:
                    session.until = min(session.until, time.monotonic() + self.left_s)
            self._sweep()

    def close(self) -> None:
        """Remove everything that is not kept."""
        with self.lock:
            for key in list(self.known):
                self._drop(key)
            if self.claim is None:
                shutil.rmtree(self.root, ignore_errors=True)
            else:
                self.claim.release()

    def _open(self, key: str) -> Session:
        """A new session, or that of a browser as it is on disk; programs have no secret and keep nothing."""
        kept = self.kept is not None and re.fullmatch(SECRET, key) is not None
        name = hashlib.sha256(key.encode()).hexdigest()[:32] if kept else secrets.token_urlsafe(NAME_BYTES)
        return Session(self.root / name, self.max_takes, kept)

    def _drop(self, key: str) -> None:
        session = self.known.pop(key)
        gone = [take.path.parent for _, take in session.removed] + session.answers
        for folder in gone if session.kept and session.takes else [session.folder]:
            shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self) -> None:
        now = time.monotonic()
        for key in [key for key, session in self.known.items() if session.until < now and not session.jobs]:
            self._drop(key)


def claimed(folder: Path) -> FileLock | None:
    """A lock on a folder, which is made; None where another process has it, or it cannot be written."""
    lock = FileLock(folder / "lock")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return lock.acquire(timeout=0).lock
    except (OSError, Timeout):
        return None
