"""The page under load: many clients at once on loopback, some of which misbehave.

    python -m benchmarks.load --clients 50 --minutes 3

Every request has to end in audio or in a refusal that says why. The server keeps its files for seconds instead of
minutes here, so that one run sees them go. Results are printed as a table and written to runs/benchmarks/load.json.
"""

import argparse
import asyncio
import io
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
import soundfile

from benchmarks.harness import RESULTS

KEEP_S, IDLE_S = 90, 60  # lifetimes in this run of Gradio's copies and of an idle session
ANSWER_S = 240.0
PROMPTS = ("slow solo piano", "calm jazz trio", "funk groove with drums", "church organ", "folk dance for flute")
NAMES = (
    "loop.wav",
    "../../../etc/passwd.wav",
    "a;$(touch x).wav",
    "<img src=x>.wav",
    "x" * 300 + ".wav",
    "\u202ewav.exe.wav",
)
# The order of the endpoints' arguments, as /gradio_api/info lists it.
GENERATE = ("prompt", "negative_prompt", "bars", "duration_s", "bpm", "key", "time_signature", "chords", "loop",
            "num_waveforms_per_prompt", "seed", "num_inference_steps", "guidance_scale", "grid_guidance_scale",
            "tilt_db", "audio_format")  # fmt: skip
EDIT = ("prompt", "audio", "mask_s", "extend_s", "strength", "negative_prompt", "bpm", "key", "time_signature",
        "chords", "downbeat_s", "num_waveforms_per_prompt", "seed", "num_inference_steps", "guidance_scale",
        "audio_format")  # fmt: skip
DEFAULTS = {"loop": False, "num_waveforms_per_prompt": 1, "audio_format": "wav"}
BAD = (
    {"prompt": "piano " * 17000}, {"prompt": ""}, {"prompt": "piano", "bpm": 1e9},
    {"prompt": "piano", "duration_s": 1e6},
    {"prompt": "piano", "num_inference_steps": 10**6}, {"prompt": "piano", "chords": "<script>alert(1)</script>"},
    {"prompt": "piano", "key": "H dur"}, {"prompt": "piano", "num_waveforms_per_prompt": 1000},
    {"prompt": "piano", "audio_format": "../../x"}, {"prompt": ["a"] * 1000},
)  # fmt: skip


@dataclass
class Book:
    """What happened."""

    ends: Counter = field(default_factory=Counter)  # (kind of request, kind of end)
    times: dict[int, list[float]] = field(default_factory=dict)  # client -> seconds of its good answers
    odd: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)  # of files that clients got

    def note(self, kind: str, end: str, detail: str = "") -> None:
        self.ends[kind, end] += 1
        if end == "wrong" and len(self.odd) < 20:
            self.odd.append(f"{kind}: {detail[:300]}")


class Visitor:
    """One client with a session of its own."""

    def __init__(self, number: int, address: str, book: Book, until: float):
        self.number, self.address, self.book, self.until = number, address, book, until
        self.dice = random.Random(number)
        self.key = f"load{number:03d}{self.dice.randrange(16**8):08x}"
        self.http = httpx.AsyncClient(timeout=ANSWER_S, limits=httpx.Limits(max_connections=None))

    async def ask(self, endpoint: str, order: tuple[str, ...], arguments: dict, leave_after_s: float | None = None):
        """("complete", data) or ("error", message) of an endpoint, or None after leaving."""
        data = [arguments.get(name, DEFAULTS.get(name)) for name in order]
        body = {"data": data, "session_hash": self.key}
        answer = await self.http.post(f"{self.address}/gradio_api/call/{endpoint}", json=body)
        if answer.status_code != 200:
            return "error", f"{answer.status_code}: {answer.text[:200]}"
        event, name, end = answer.json()["event_id"], "", ("error", "the stream ended without an answer")
        begin = time.monotonic()
        async with self.http.stream("GET", f"{self.address}/gradio_api/call/{endpoint}/{event}") as lines:
            async for line in lines.aiter_lines():
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: ") and name in ("complete", "error"):
                    end = name, json.loads(line[6:])
                if leave_after_s is not None and time.monotonic() - begin > leave_after_s:
                    return None
        return end  # read to its end: the server treats an earlier close as the client's leaving

    async def ask_together(self, requests: list[dict]) -> list[tuple[str, object]]:
        """The ends of several requests of one session at a time, by one stream, as a browser does."""
        config = (await self.http.get(f"{self.address}/config")).json()
        (place,) = (item["id"] for item in config["dependencies"] if item["api_name"] == "generate")
        open_events, ends = set(), []
        for arguments in requests:
            data = [arguments.get(name, DEFAULTS.get(name)) for name in GENERATE]
            body = {"data": data, "session_hash": self.key, "fn_index": place}
            answer = await self.http.post(f"{self.address}/gradio_api/queue/join", json=body)
            if answer.status_code != 200:
                ends.append(("error", answer.text))
            else:
                open_events.add(answer.json()["event_id"])
        address = f"{self.address}/gradio_api/queue/data?session_hash={self.key}"
        async with self.http.stream("GET", address) as lines:
            async for line in lines.aiter_lines():
                message = json.loads(line[6:]) if line.startswith("data: ") else {}
                if message.get("msg") == "process_completed" and message["event_id"] in open_events:
                    open_events.discard(message["event_id"])
                    output = message["output"]
                    ends.append(("complete", output["data"]) if message["success"] else ("error", output))
        return ends + [("error", "the stream ended without an answer")] * len(open_events)

    async def settle(self, kind: str, arguments: dict, order: tuple[str, ...] = GENERATE, good: bool = True) -> None:
        """Send one request and note its result."""
        begin = time.monotonic()
        end = await self.ask("generate" if order is GENERATE else "edit", order, arguments)
        await self.judge(kind, end, begin, good)

    async def judge(self, kind: str, end: tuple[str, object], begin: float, good: bool = True) -> None:
        """Note the result of a request."""
        name, data = end
        if name == "complete":
            content = (await self.http.get(data[0][0]["url"])).content
            try:
                samples, _ = soundfile.read(io.BytesIO(content))
            except RuntimeError as error:
                return self.book.note(kind, "wrong", f"no audio: {error}")
            self.book.paths.append(data[0][0]["path"])
            fine = good and np.abs(samples).max() > 0.01
            self.book.note(kind, "audio" if fine else "wrong", f"audio where none was due, or silence: {data[1]}")
            self.book.times.setdefault(self.number, []).append(time.monotonic() - begin)
            return None
        message = data.get("error", "") if isinstance(data, dict) else str(data)
        clear = isinstance(message, str) and 5 < len(message) < 400 and "\n" not in message
        busy = (
            clear and good and ("at a time" in message or "jobs are waiting" in message or "queue" in message.lower())
        )
        right = clear and (busy or not good)
        self.book.note(kind, "told to wait" if busy else "refused" if right else "wrong", str(data))
        return None

    def piece(self) -> dict:
        arguments = {
            "prompt": self.dice.choice(PROMPTS),
            "bpm": self.dice.choice((80, 96, 120)),
            "seed": self.dice.randrange(9999),
        }
        return arguments | {"bars": self.dice.choice((1, 2, 4)), "loop": self.dice.random() < 0.2}

    async def edit(self) -> None:
        wav, rate = io.BytesIO(), 22050
        tone = 0.3 * np.sin(2 * np.pi * 220 * np.arange(3 * rate) / rate)
        soundfile.write(wav, tone, rate, format="WAV")
        name = self.dice.choice(NAMES)
        answer = await self.http.post(f"{self.address}/gradio_api/upload", files={"files": (name, wav.getvalue())})
        if answer.status_code != 200:
            return self.book.note("edit", "refused" if answer.status_code < 500 else "wrong", answer.text)
        file = {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
        await self.settle("edit", {"prompt": "strings", "audio": file, "mask_s": [[1, 2]], "seed": 1}, EDIT)
        return None

    async def snoop(self) -> None:
        """Request files that must not be served."""
        some = self.dice.choice(self.book.paths or ["/tmp/x/y.wav"])
        above = str(Path(some).parent), str(Path(some).parents[1])
        for path in (*above, "/etc/passwd", f"{some}/../../../../../../../etc/passwd", "app.py", "/proc/self/environ"):
            answer = await self.http.get(f"{self.address}/gradio_api/file={path}")
            self.book.note(
                "snoop", "refused" if answer.status_code in (403, 404) else "wrong", f"{path} {answer.status_code}"
            )
        big = await self.http.post(f"{self.address}/gradio_api/upload", files={"files": ("big.wav", bytes(40 * 2**20))})
        self.book.note("upload of 40 MB", "refused" if big.status_code == 413 else "wrong", f"{big.status_code}")

    async def run(self) -> None:
        """Requests until the time is up; the first client requests eight pieces at a time."""
        try:
            while time.monotonic() < self.until:
                if self.number == 0:
                    begin = time.monotonic()
                    for end in await self.ask_together([self.piece() for _ in range(8)]):
                        await self.judge("greedy", end, begin)
                    await asyncio.sleep(1)
                    continue
                choice = self.dice.random()
                if choice < 0.70:
                    await self.settle("generate", self.piece())
                elif choice < 0.80:
                    await self.edit()
                elif choice < 0.90:
                    await self.settle("bad input", self.dice.choice(BAD), good=False)
                elif choice < 0.96:
                    await self.ask("generate", GENERATE, self.piece(), leave_after_s=self.dice.uniform(0, 3))
                    self.book.note("left half way", "left")
                    self.key += "x"  # a client that comes back has a new session
                else:
                    await self.snoop()
        finally:
            await self.http.aclose()


def count_files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


async def watch(server: psutil.Process, folder: Path, book: Book) -> None:
    while True:
        book.memory.append(server.memory_info().rss)
        book.files.append(await asyncio.to_thread(count_files, folder))
        await asyncio.sleep(1)


async def load(address: str, clients: int, seconds: float, server: psutil.Process, folder: Path) -> Book:
    book, until = Book(), time.monotonic() + seconds
    watcher = asyncio.create_task(watch(server, folder, book))
    await asyncio.gather(*(Visitor(number, address, book, until).run() for number in range(clients)))
    await asyncio.sleep(max(KEEP_S, IDLE_S) + 15)
    await Visitor(clients, address, book, 0).settle("afterwards", {"prompt": PROMPTS[0], "bars": 1, "bpm": 120})
    await asyncio.sleep(2)
    watcher.cancel()
    return book


def serve(model: str) -> None:
    """The page as app.py starts it, with files kept for seconds."""
    from page import build, sessions
    from page.desk import Desk
    from page.model import load_model
    from pipelines.hub import quiet_libraries

    quiet_libraries()
    build.CACHE_S, sessions.IDLE_S = (5, KEEP_S), IDLE_S
    desk = Desk(load_model(model), model, sessions.Sessions(Path(tempfile.mkdtemp(dir=os.environ["GRADIO_TEMP_DIR"]))))
    build.make_app(desk).queue(default_concurrency_limit=None, max_size=400).launch(**build.launch_options(desk))


def report(book: Book, clients: int, wall_s: float) -> dict:
    """Print the table; returns its figures."""
    kinds = sorted({kind for kind, _ in book.ends})
    ends = ("audio", "refused", "told to wait", "left", "wrong")
    print(f"{'request':<18}" + "".join(f"{end:>14}" for end in ends))
    for kind in kinds:
        print(f"{kind:<18}" + "".join(f"{book.ends[kind, end] or '':>14}" for end in ends))
    polite = {number: times for number, times in book.times.items() if 0 < number < clients}
    counts = np.array([len(polite.get(number, [])) for number in range(1, clients)])
    waits = np.concatenate([np.array(times) for times in polite.values()]) if polite else np.zeros(1)
    quantiles = (np.median(waits), np.quantile(waits, 0.95), waits.max())
    figures = {
        "clients": clients, "wall_s": round(wall_s, 1),
        "wrong": sum(n for (_, end), n in book.ends.items() if end == "wrong"),
        "pieces_a_minute": round(60 * len(book.paths) / wall_s, 1),
        "pieces_of_a_client_min_median_max": [int(counts.min()), float(np.median(counts)), int(counts.max())],
        "pieces_of_the_greedy_client": len(book.times.get(0, [])),
        "fairness_jain": round(float(counts.sum() ** 2 / (len(counts) * (counts**2).sum() + 1e-9)), 3),
        "answer_s_median_p95_max": [round(float(v), 1) for v in quantiles],
        "memory_mb_begin_peak_end": [round(v / 1e6) for v in (book.memory[0], max(book.memory), book.memory[-1])],
        "files_peak_end": [max(book.files), book.files[-1]],
    }  # fmt: skip
    for name, value in figures.items():
        print(f"{name:<36}{value}")
    for line in book.odd:
        print("wrong:", line)
    return figures | {"ends": {f"{kind}, {end}": n for (kind, end), n in sorted(book.ends.items())}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=50, help="clients at once")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long they send requests")
    parser.add_argument("--model", default="checkpoints/small", help="folder or Hub id")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.model)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        given = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": folder}
        command = [sys.executable, "-m", "benchmarks.load", "--serve", "--model", args.model]
        server = subprocess.Popen(command, env=given, stdout=subprocess.DEVNULL)
        try:
            while True:
                if server.poll() is not None:
                    raise SystemExit("error: the page ended while starting")
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.5)
            begin, address = time.monotonic(), f"http://127.0.0.1:{port}"
            watched = psutil.Process(server.pid)
            book = asyncio.run(load(address, args.clients, 60 * args.minutes, watched, Path(folder)))
            figures = report(book, args.clients, time.monotonic() - begin)
        finally:
            server.terminate()
            server.wait(20)
    RESULTS.mkdir(parents=True, exist_ok=True)
    partial = RESULTS / "load.json.partial"
    partial.write_text(json.dumps(figures, indent=1))
    os.replace(partial, RESULTS / "load.json")
    raise SystemExit(1 if figures["wrong"] else 0)


if __name__ == "__main__":
    main()
