"""One call of the pipeline as a stream of news: how far it is, then what it made. It can be stopped at every step."""

import asyncio
import contextlib
import itertools
import queue
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .gate import Gate

try:  # on a Space with ZeroGPU the package lends a GPU for the time of a call; anywhere else it is not needed
    import spaces

    on_gpu = spaces.GPU
except ImportError:

    def on_gpu(function):
        return function


LOOK_S = 0.5  # how often a waiting job shows its place


class Cancelled(Exception):
    """Somebody pressed Cancel."""


@dataclass
class News:
    """How a job is getting on.

    Attributes:
        before: jobs that come first; 0 once it runs.
        step, steps: of the denoising.
        left_s: about how many seconds are left; None = not known yet.
        audio: the next chunk (channels, samples) of the first piece, of a long one while the rest is made.
        output: what the pipeline made, in the last news.
        kept: what was kept of it, see `Desk.run`.
    """

    before: int = 0
    step: int = 0
    steps: int = 0
    left_s: float | None = None
    audio: np.ndarray | None = None
    output: object = None
    kept: object = None


class Remaining:
    """How long the rest of a job takes, from the times of its steps so far.

    The first step holds what happens once, so the pace is that of the later ones; nothing is shown before they are
    worth it. The estimated end moves by a fraction of what a step changes, so that what is shown does not jump.
    """

    FIRST_STEPS, FIRST_S, SHARE = 3, 1.0, 0.25

    def __init__(self):
        self.first = self.end = None

    def after(self, now: float, done: int, total: int) -> float | None:
        """Seconds left after `done` of `total` steps at the time `now`; None = too early to tell."""
        if self.first is None:
            self.first = (now, done)
        since, begun = self.first
        if done - begun < self.FIRST_STEPS or now - since < self.FIRST_S:
            return None
        end = now + (now - since) / (done - begun) * (total - done)
        self.end = end if self.end is None else self.end + self.SHARE * (end - self.end)
        return max(0.0, self.end - now)


PIPES: dict = {"loras": {}}  # the loaded pipeline: a function on ZeroGPU is given names, not gigabytes


def call_arguments(pipe, arguments: dict) -> dict:
    """Arguments of the pipeline, from those of the page.

    Each entry of `rewrite` among them are arguments of `VivacePipeline.rewrite`, which gives the score new notes;
    `sections`, as (bars, words), become the timeline of a prompt that begins with the prompt's own words. `loras`, name
    and strength, are the adapters that play, which is set here; without it all do, each with the strength with which it
    was loaded.

    Raises:
        ValueError: an adapter that is not loaded.
    """
    given = dict(arguments)
    set_loras(pipe, given.pop("loras", None))
    sections = [(int(bars), f"{given['prompt']}, {words}") for bars, words in given.pop("sections", ())]
    if sections:
        starts = itertools.accumulate((bars for bars, _ in sections), initial=1)
        given["prompt"] = [(f"bar {start}", words) for start, (_, words) in zip(starts, sections, strict=False)]
    for one in given.pop("rewrite", ()):
        given["score"] = pipe.rewrite(given["score"], **one)
    return given


def set_loras(pipe, chosen: dict[str, float] | None) -> None:
    """Let the chosen adapters play, or all as they were loaded; see `call_arguments`."""
    loaded = PIPES["loras"]
    unknown = [name for name in chosen or {} if name not in loaded]
    if unknown:
        raise ValueError(f"loras has {unknown[0]!r}; loaded: {', '.join(loaded) or 'none'}")
    if not loaded:
        return
    playing = {name: chosen[name] for name in loaded if chosen.get(name)} if chosen else loaded
    if playing:
        pipe.enable_lora()
        pipe.set_adapters(list(playing), list(playing.values()))
    else:
        pipe.disable_lora()


@on_gpu
def work(arguments: dict, cancel: str) -> Iterator[News]:
    """Run the pipeline in a thread and tell each step; a file at `cancel` ends the denoising at the next one.

    Args:
        arguments: of the pipeline, or of `call_arguments`.
        cancel: a path.

    Raises:
        Cancelled: the file was there.
        ValueError: of the pipeline.
    """
    pipe, news, remaining = PIPES["pipe"], queue.SimpleQueue(), Remaining()
    stop, flag, latest = threading.Event(), Path(cancel), [News()]

    def step_done(pipe, step: int, timestep, tensors: dict) -> dict:
        if stop.is_set() or flag.exists():
            raise Cancelled
        done, total = step + 1, max(pipe.num_timesteps, step + 1)
        latest[0] = News(step=done, steps=total, left_s=remaining.after(time.monotonic(), done, total))
        news.put(latest[0])
        return {}

    def chunk_done(piece: int, audio: np.ndarray) -> None:
        if piece == 0:
            news.put(replace(latest[0], audio=audio))

    def run() -> None:
        try:
            callbacks = {"callback_on_step_end": step_done, "callback_on_audio": chunk_done}
            news.put(News(output=pipe(**call_arguments(pipe, arguments), **callbacks)))
        except BaseException as error:
            news.put(error)

    thread = threading.Thread(target=run, daemon=True, name="vivace-job")
    thread.start()
    try:
        while True:
            item = news.get()
            if isinstance(item, BaseException):
                raise item
            yield item
            if item.output is not None:
                return
    finally:
        stop.set()
        thread.join()


async def run_job(gate: Gate, key: str, arguments: dict, cancel: Path) -> AsyncIterator[News]:
    """Wait for a turn, then work; news all the while.

    Raises:
        Refused: too many jobs.
        Cancelled: while waiting or working.
        ValueError: of the pipeline.
    """
    async with gate.turn(key) as turn:
        while not await turn.wait(LOOK_S):
            if cancel.exists():
                raise Cancelled
            yield News(before=turn.before, left_s=turn.wait_s)
        if cancel.exists():
            raise Cancelled
        steps, pending = work(arguments, str(cancel)), None
        try:
            while True:
                pending = asyncio.ensure_future(asyncio.to_thread(next, steps, None))
                news = await asyncio.shield(pending)
                if news is None:
                    return
                yield news
        finally:  # also when the browser went away: the thread ends before the next job begins
            await uninterrupted(end_work(steps, pending, cancel))


async def end_work(steps: Iterator[News], pending: asyncio.Future, cancel: Path) -> None:
    """Stop `work` wherever it is, and wait for its thread."""
    if not pending.done():
        with contextlib.suppress(OSError):  # at the end of the page the folder may be gone
            cancel.touch()
        await asyncio.wait([pending])
    await asyncio.to_thread(steps.close)


async def uninterrupted(ending: Coroutine) -> None:
    """Wait for `ending` to its end, however often the waiting task is cancelled meanwhile."""
    task = asyncio.ensure_future(ending)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(task)
    task.result()
