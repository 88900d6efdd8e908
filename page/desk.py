"""What the tabs share: the pipeline's settings, the sessions, the queue, and running a job with its status line."""

import asyncio
import html
import logging
import math
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cached_property

import gradio as gr

from pipelines.scores import has_composer
from pipelines.vivace_files import adapters_of
from pipelines.vocabulary import known_words

from .gate import Gate
from .jobs import PIPES, Cancelled, News, run_job
from .sessions import SECRET, Session, Sessions, Take

logger = logging.getLogger(__name__)
COOKIE = "vivace"  # holds the secret by which a browser finds its pieces again; page.js makes it
FIELD_OF = {"bars": "length", "duration_s": "length", "mask_s": "task", "extend_s": "after"}  # others by their own name


@dataclass
class Desk:
    """One running page.

    Attributes:
        pipe: the pipeline.
        folder: of the checkpoint, or None for one from the Hub.
        model: its name.
        loras: name and strength of each LoRA adapter that is loaded, where a request does not say otherwise.
    """

    pipe: object
    model: str
    sessions: Sessions = field(default_factory=Sessions)
    gate: Gate = field(default_factory=Gate)
    example_outputs: dict = field(default_factory=dict)  # of examples that were played, by their index
    endpoints: dict = field(default_factory=dict)  # of programs: the names of their arguments
    loras: dict[str, float] = field(init=False)

    def __post_init__(self):
        self.loras = {one["name"]: one["strength"] for one in adapters_of(self.pipe.unet)}
        PIPES.update(pipe=self.pipe, loras=self.loras)

    @property
    def takes_reference(self) -> bool:
        """Whether the network can be given a sound to follow."""
        return bool(self.pipe.unet.config.get("reference_channels"))

    @property
    def plays_notes(self) -> bool:
        """Whether the model has note channels."""
        return bool(self.pipe.unet.config.get("note_channels"))

    @property
    def composes(self) -> bool:
        """Whether the model writes notes."""
        return self.plays_notes and has_composer(self.pipe.config)

    @cached_property
    def words(self) -> frozenset[str]:
        """Words that the text encoder knows, see `known_words`."""
        return known_words(self.pipe.tokenizer)

    @staticmethod
    def key(request: gr.Request) -> str:
        """Who asks: the browser by the secret that page.js keeps in it, a program by its session or its address."""
        secret = (request.cookies or {}).get(COOKIE, "")
        if re.fullmatch(SECRET, secret):
            return secret
        return request.session_hash or f"address {request.client.host if request.client else 'unknown'}"

    def session(self, request: gr.Request) -> Session:
        return self.sessions.of(self.key(request), request.session_hash)

    async def run(
        self, request: gr.Request, arguments: dict, keep: Callable[[Session, object], object]
    ) -> AsyncIterator[News]:
        """A job of the session, cancelled with the tab that asks for it.

        Args:
            request: of the browser.
            arguments: of the pipeline.
            keep: called with the session and the pipeline's output, while the session cannot be removed; what it
                returns is in the last news.

        Raises:
            Refused, Cancelled, ValueError: see `run_job`.
        """
        session, output = self.session(request), None
        with session.job(request.session_hash) as cancel:
            async for news in run_job(self.gate, self.key(request), arguments, cancel):
                if news.output is None:
                    yield news
                output = news.output
            yield News(output=output, kept=await asyncio.to_thread(keep, session, output))


def seconds_text(seconds: float) -> str:
    """A rough time for reading: "2 s", "25 s", "1 min 10 s"."""
    unit = 1 if seconds < 10 else 5 if seconds < 60 else 10
    whole = max(1, math.ceil(seconds / unit) * unit)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min" + f" {whole % 60} s" * (whole % 60 > 0)


def status_line(text: str = "", kind: str = "", share: float | None = None, field: str = "", note: str = "") -> str:
    """HTML of the status line.

    Args:
        text: what it says.
        kind: "busy", "quiet" or "error".
        share: 0 to 1, how far a job is; None = no bar.
        field: name of the field that an error is about, where page.js repeats it.
        note: a second line, on what was asked for.
    """
    bar = "" if share is None else f'<progress max="1" value="{share:.3f}" aria-label="Progress"></progress>'
    role, more = "alert" if kind == "error" else "status", f"<small>{html.escape(note)}</small>" if note else ""
    return (
        f'<div class="status {kind}" role="{role}" data-field="{html.escape(field)}">{bar}'
        f"<span>{html.escape(text)}</span>{more}</div>"
    )


def progress_line(news: News, note: str = "") -> str:
    """The status line of a job on its way."""
    if news.before:
        left = "" if news.left_s is None else f", about {seconds_text(news.left_s)}"
        jobs = "1 job" if news.before == 1 else f"{news.before} jobs"
        return status_line(f"Waiting: {jobs} before yours{left}", "busy", 0.0, note=note)
    if news.step >= news.steps:
        return status_line("Turning it into sound", "busy", 1.0, note=note)
    left = "" if news.left_s is None else f", about {seconds_text(news.left_s)} left"
    return status_line(f"Step {news.step} of {news.steps}{left}", "busy", news.step / news.steps, note=note)


def done_line(takes: list[Take], note: str = "") -> str:
    """The status line of what was made, with the pipeline's notes on the words, or else `note`."""
    text = "Done" if len(takes) == 1 else f"Done: {len(takes)} variations"
    return status_line(text, "quiet", note="; ".join(takes[0].conditions.get("notes", [note])))


def refusal(error: Exception) -> str:
    """The status line of a job that ended without sound; an error's first word is the argument that it is about."""
    if isinstance(error, Cancelled):
        return status_line("Cancelled", "quiet")
    if not isinstance(error, ValueError):
        logger.error("a job failed", exc_info=error)
        return status_line(f"This did not work ({type(error).__name__}); the log of the server says why", "error")
    text = " ".join(str(error).split())
    name = re.match(r"\w*", text)[0]
    return status_line(text, "error", field=FIELD_OF.get(name, name))
