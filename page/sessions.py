"""Who made what: the pieces of each browser session, in a folder of its own with a name that cannot be guessed.

The page serves these folders by their path; whoever does not know the random name of a folder gets nothing from it, and
a session is only ever told its own. Memory and disk are bounded: so many pieces a session, so many sessions, and a
session that nobody touches is removed.
"""

import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

MAX_TAKES = 40  # of one session; then the oldest goes
MAX_SESSIONS = 200
IDLE_S = 3600.0  # without a request
MAX_ANSWERS = 8  # folders of one session with files on their way to a program
LEFT_S = 600.0  # after the browser has gone: it may come back, as a phone does
NAME_BYTES = 24  # of the random name of a folder


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

    @property
    def flac(self) -> Path:
        return self.path.with_suffix(".flac")


class Session:
    """The pieces of one visitor, newest last.

    Attributes:
        folder: holds their files; gone with the session.
        takes: by id.
        pair: ids that are compared as A and B.
        jobs: for each running job a file whose being there ends it: on ZeroGPU a job is another process.
    """

    def __init__(self, root: Path):
        self.folder = root / secrets.token_urlsafe(NAME_BYTES)
        self.folder.mkdir(mode=0o700)
        self.takes: OrderedDict[str, Take] = OrderedDict()
        self.pair: dict[str, str] = {}
        self.jobs: set[Path] = set()
        self.answers: list[Path] = []
        self.until = time.monotonic() + IDLE_S

    @contextmanager
    def job(self) -> Iterator[Path]:
        """The file that cancels a job, for the time of that job."""
        path = self.folder / f"cancel-{secrets.token_hex(8)}"
        self.jobs.add(path)
        try:
            yield path
        finally:
            self.jobs.discard(path)
            path.unlink(missing_ok=True)

    def cancel(self) -> None:
        """End all jobs of this session at their next step."""
        for path in list(self.jobs):
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
        while len(self.takes) > MAX_TAKES:
            self.remove(next(iter(self.takes)))

    def remove(self, take_id: str) -> None:
        take = self.takes.pop(take_id, None)
        if take is not None:
            shutil.rmtree(take.path.parent, ignore_errors=True)
        self.pair = {slot: other for slot, other in self.pair.items() if other != take_id}

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
    """

    def __init__(self, root: Path | None = None, max_sessions: int = MAX_SESSIONS):
        self.root = Path(tempfile.mkdtemp(prefix="vivace-page-")) if root is None else root
        self.max_sessions = max_sessions
        self.lock = threading.Lock()
        self.known: OrderedDict[str, Session] = OrderedDict()

    def of(self, key: str) -> Session:
        """The session of a key that the browser made up, new if there is none; it counts as touched."""
        with self.lock:
            self._sweep()
            session = self.known.pop(key, None) or Session(self.root)
            session.until = time.monotonic() + IDLE_S
            self.known[key] = session
            while len(self.known) > self.max_sessions:  # programs, which keep nothing here, go first
                others = [other for other in self.known if other != key]
                self._drop(next((other for other in others if not self.known[other].takes), others[0]))
            return session

    def leave(self, key: str) -> None:
        """The browser has gone; what it made stays a while."""
        with self.lock:
            session = self.known.get(key)
            if session is not None:
                session.until = min(session.until, time.monotonic() + LEFT_S)
                session.cancel()
            self._sweep()

    def close(self) -> None:
        """Remove everything."""
        with self.lock:
            self.known.clear()
            shutil.rmtree(self.root, ignore_errors=True)

    def _drop(self, key: str) -> None:
        shutil.rmtree(self.known.pop(key).folder, ignore_errors=True)

    def _sweep(self) -> None:
        now = time.monotonic()
        for key in [key for key, session in self.known.items() if session.until < now]:
            self._drop(key)
