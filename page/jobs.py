"""One call of the pipeline as a stream of news: how far it is, then what it made. It can be stopped at every step."""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from .gate import Gate

try:  # on a Space with ZeroGPU the package lends a GPU for the time of a call; anywhere else it is not needed
    import spaces

    on_gpu = spaces.GPU
except ImportError:

    def on_gpu(function):
        return function


LOOK_S = 0.5  # how often a waiting job tells its place


class Cancelled(Exception):
    """Somebody pressed Cancel."""


@dataclass
class News:
    """How a job is getting on.

    Attributes:
        before: jobs that come first; 0 once it runs.
        step, steps: of the denoising.
        left_s: about how many seconds are left.
        output: what the pipeline made, in the last news.
    """

    before: int = 0
    step: int = 0
    steps: int = 0
    left_s: float = 0.0
    output: object = None


PIPES: dict[str, object] = {}  # the loaded pipeline: a function on ZeroGPU is given names, not gigabytes


@on_gpu
def work(arguments: dict, cancel: str) -> Iterator[News]:
    """Run the pipeline in a thread and tell each step; a file at `cancel` ends the denoising at the next one.

    Raises:
        Cancelled: the file was there.
        ValueError: of the pipeline.
    """
    pipe, news, begin = PIPES["pipe"], queue.SimpleQueue(), time.monotonic()
    stop, flag = threading.Event(), Path(cancel)

    def step_done(pipe, step: int, timestep, tensors: dict) -> dict:
        if stop.is_set() or flag.exists():
            raise Cancelled
        done, total = step + 1, max(pipe.num_timesteps, step + 1)
        left = (time.monotonic() - begin) / done * (total - done)
        news.put(News(step=done, steps=total, left_s=left))
        return {}

    def run() -> None:
        try:
            news.put(News(output=pipe(**arguments, callback_on_step_end=step_done)))
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
            if not pending.done():
                cancel.touch()
                await asyncio.wait([pending])
            await asyncio.to_thread(steps.close)
