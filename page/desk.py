"""What the tabs share: the pipeline's settings, the sessions, the queue, and running a job with its status line."""

import html
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import gradio as gr

from .gate import Gate
from .jobs import PIPES, Cancelled, News, run_job
from .sessions import Session, Sessions


@dataclass
class Desk:
    """One running page.

    Attributes:
        pipe: the pipeline.
        folder: of the checkpoint, or None for one from the Hub.
        model: its name.
    """

    pipe: object
    model: str
    sessions: Sessions = field(default_factory=Sessions)
    gate: Gate = field(default_factory=Gate)
    heard: dict = field(default_factory=dict)  # examples that somebody asked for, by their place in the list

    def __post_init__(self):
        PIPES["pipe"] = self.pipe

    @staticmethod
    def key(request: gr.Request) -> str:
        """Who asks: the browser's session, or the address of a client without one."""
        return request.session_hash or f"address {request.client.host if request.client else 'unknown'}"

    def session(self, request: gr.Request) -> Session:
        return self.sessions.of(self.key(request))

    async def run(self, request: gr.Request, arguments: dict) -> AsyncIterator[News]:
        """A job of the session, cancelled with it.

        Raises:
            Refused, Cancelled, ValueError: see `run_job`.
        """
        session = self.session(request)
        with session.job() as cancel:
            async for news in run_job(self.gate, self.key(request), arguments, cancel):
                yield news


def seconds_text(seconds: float) -> str:
    """A rough time for reading: "2 s", "1 min 10 s"."""
    whole = max(1, math.ceil(seconds))
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"


def status_line(text: str = "", kind: str = "", share: float | None = None) -> str:
    """HTML of the status line, with a bar where `share` (0 to 1) says how far a job is."""
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}" aria-label="Progress"></progress>'
    role = "alert" if kind == "error" else "status"
    return f'<div class="status {kind}" role="{role}">{bar}<span>{html.escape(text)}</span></div>'


def progress_line(news: News) -> str:
    """The status line of a job on its way."""
    if news.before:
        jobs = "1 job" if news.before == 1 else f"{news.before} jobs"
        return status_line(f"Waiting: {jobs} before yours, about {seconds_text(news.left_s)}", "busy", 0.0)
    if news.step >= news.steps:
        return status_line("Turning it into sound", "busy", 1.0)
    left = f", about {seconds_text(news.left_s)} left"
    return status_line(f"Step {news.step} of {news.steps}{left}", "busy", news.step / news.steps)


def refusal(error: Exception) -> str:
    """The status line of a job that ended without sound."""
    if isinstance(error, Cancelled):
        return status_line("Cancelled", "quiet")
    return status_line(" ".join(str(error).split()), "error")
