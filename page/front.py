"""What stands before Gradio: the check of programs' requests, MP3 and OGG files when they are asked for, what is wrong
with a chord of the piano roll, and the page's description for link previews."""

import asyncio
import contextlib
import json
import re
from pathlib import Path
from urllib.parse import parse_qs

from pipelines.pipeline_vivace import MAX_BEATS_PER_BAR

from .api import check_call
from .desk import Desk
from .notes import read_bar
from .takes import make_lossy

LOSSY = re.compile(r".*/gradio_api/file=(.+\.(?:mp3|ogg))")
CALL = re.compile(r".*/gradio_api/call/(v2/)?([^/]+)/?")
MAX_BAR = 100  # characters of the chords of a bar
MAX_BODY = 2**20  # bytes of a request of a program; files are uploaded, not sent in it
DESCRIPTION = b"Text to music, in time and in key: words, tempo, bars and chords become pieces and seamless loops."
PREVIEW = (  # of Gradio's own page
    (rb"Click to try out the app!", DESCRIPTION),
    (rb'(title" content=)"Gradio"', rb'\1"Vivace"'),
    (rb'<meta\s+(property="og:|name="twitter:)(image|creator|url)"\s+content="[^"]*"\s*/>', b""),
    (rb'(description"\s+content=)""', rb'\1"' + DESCRIPTION + rb'"'),
)


class Front:
    """ASGI middleware."""

    def __init__(self, app, desk: Desk):
        self.app, self.desk = app, desk

    async def __call__(self, scope, receive, send) -> None:
        call = CALL.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
        if call and scope["method"] == "POST":
            await self.check(call[2], bool(call[1]), scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"].endswith("/vivace/chords"):
            await answer(send, 200, chords_fault(scope["query_string"]))
        elif scope["type"] == "http" and scope["method"] == "GET" and scope["path"] in ("", "/"):
            await self.describe(scope, receive, send)
        else:
            await self.write_lossy(scope)
            await self.app(scope, receive, send)

    async def write_lossy(self, scope) -> None:
        """Write the MP3 or OGG file that is asked for, if it is that of a piece."""
        asked = LOSSY.fullmatch(scope.get("path", "")) if scope["type"] == "http" else None
        if asked and Path(asked[1]).resolve().is_relative_to(self.desk.sessions.root.resolve()):
            with contextlib.suppress(ValueError):  # then the file is not found
                await asyncio.to_thread(make_lossy, Path(asked[1]))

    async def check(self, name: str, by_name: bool, scope, receive, send) -> None:
        """Hand a program's request on, or answer with status 4xx and one line that says what is allowed."""
        body, more, began = b"", True, False
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
            if len(body) > MAX_BODY:
                await answer(send, 413, f"the request has more than {MAX_BODY} bytes; files are uploaded")
                return
        if name not in self.desk.endpoints:
            await answer(send, 404, f"there is no endpoint /{name}; there are /{', /'.join(self.desk.endpoints)}")
            return
        try:
            values = json.loads(body)
            if not isinstance(values, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError):
            await answer(send, 400, 'the request is no JSON object, as in {"prompt": "slow solo piano"}')
            return
        try:
            if by_name:
                check_call(self.desk, name, values)
        except ValueError as error:
            await answer(send, 422, " ".join(str(error).split()))
            return
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again():
            return given.pop() if given else await receive()

        async def note(message):
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, again, note)
        except Exception:
            if began:
                raise
            await answer(send, 400, "the request cannot be read; /gradio_api/info says how to ask")

    async def describe(self, scope, receive, send) -> None:
        """The page, with its own description in place of Gradio's."""
        start, body = None, b""

        async def collect(message):
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            for pattern, text in PREVIEW:
                body = re.sub(pattern, text, body)
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
            await send(start | {"headers": headers})
            await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, collect)


def chords_fault(query: bytes) -> str:
    """What is wrong with the chords `bar` of a bar of `beats`, as in bar=Dm7&beats=4; "" where nothing is."""
    given = {name: values[0] for name, values in parse_qs(query.decode("latin-1")).items()}
    try:
        beats = int(given.get("beats", "4"))
        if 1 <= beats <= MAX_BEATS_PER_BAR:
            read_bar(given.get("bar", "")[:MAX_BAR], beats)
    except ValueError as error:
        return " ".join(str(error).split())
    return ""


async def answer(send, status: int, text: str) -> None:
    """A short JSON answer."""
    body = json.dumps({"error": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
