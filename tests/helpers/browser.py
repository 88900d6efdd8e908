"""Chromium for the tests of the page: a server, a browser, and one visitor of the page."""

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import ROOT

DECK = "document.querySelector('#deck .deck').parentElement.deck"
MODEL = Path(os.environ.get("VIVACE_MODEL", ROOT / "checkpoints/small"))
START_S, WAIT_MS = 180, 60_000
DESKTOP, PHONE = {"width": 1240, "height": 860}, {"width": 390, "height": 844}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def serving(model: Path, **variables: str) -> Iterator[str]:
    """The address of the page as `python app.py` starts it with a checkpoint, and more environment variables."""
    port = free_port()
    given = os.environ | {"VIVACE_TAKES": "", "GRADIO_SERVER_PORT": str(port), "VIVACE_MODEL": str(model)} | variables
    server = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=given, stdout=subprocess.DEVNULL)
    try:
        for _ in range(2 * START_S):
            assert server.poll() is None, "the page ended while starting"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


@contextlib.contextmanager
def shipped() -> Iterator[str]:
    """The address of the page on the shipped checkpoint, or of one that runs already at VIVACE_PAGE."""
    if "VIVACE_PAGE" in os.environ:
        yield os.environ["VIVACE_PAGE"]
        return
    with serving(MODEL) as address:
        yield address


@contextlib.contextmanager
def browser(*options: str) -> Iterator:
    """Chromium, with more of its own options."""
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        options = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required", *options)
        one = driver.chromium.launch(executable_path=shutil.which("chromium"), args=[*options])
        yield one
        one.close()


@pytest.fixture(scope="module")
def chromium():
    with browser() as one:
        yield one


class Visit:
    """One visitor's browser session, and what went wrong in it."""

    def __init__(self, chromium, address: str, **options):
        self.context = chromium.new_context(accept_downloads=True, **({"viewport": DESKTOP} | options))
        self.context.set_default_timeout(WAIT_MS)
        self.page, self.address, self.wrong = self.context.new_page(), address, []
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self.check_request)
        self.page.goto(address)
        self.page.wait_for_selector("#generate")

    def check_request(self, request) -> None:
        """Nothing comes from elsewhere."""
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.wrong.append(f"asked for {request.url}")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def field(self, label: str):
        named = self.page.locator("label", has=self.page.get_by_text(label, exact=True))
        return named.locator("input, textarea").locator("visible=true").first

    def set(self, **values) -> None:
        """Fill visible fields; `_` in a name stands for a space."""
        for name, value in values.items():
            box = self.field(name.replace("_", " "))
            box.fill(str(value))
            box.blur()

    def more(self) -> None:
        self.page.locator(".more > button:visible", has_text="More").first.click()

    def wait_status(self, text: str, where: str = "#status") -> str:
        self.page.wait_for_function(
            "([where, text]) => new RegExp(text).test(document.querySelector(where).innerText)", arg=[where, text]
        )
        return self.page.locator(where).inner_text()

    def generate(self, prompt: str, **values) -> None:
        self.set(**values)
        box = self.page.locator(".prompt textarea:visible")
        box.fill(prompt)
        before = self.shown()
        box.press("Enter")
        self.wait_other(before)

    def shown(self) -> str | None:
        """The piece in the player of the Generate tab."""
        return self.page.locator("#deck .deck").get_attribute("data-ready")

    def wait_other(self, before: str | None) -> None:
        """Wait for another piece in it."""
        self.page.wait_for_function(
            "(before) => ![undefined, before].includes(document.querySelector('#deck .deck').dataset.ready)",
            arg=before,
        )
        self.wait_status("Done")

    def download(self, selector: str) -> tuple[str, bytes]:
        with self.page.expect_download() as waiting:
            self.page.locator(selector).first.click()
        return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()

    def picture(self, name: str) -> None:
        folder = os.environ.get("VIVACE_SCREENSHOTS")
        if folder:
            time.sleep(0.6)  # fades of the page
            self.page.mouse.move(0, 0)
            self.page.screenshot(path=Path(folder) / f"{name}.png")


def notes(visit: Visit) -> int:
    """How many notes the piano roll has."""
    return int(visit.page.locator("#deck [data-part=roll]").get_attribute("data-notes"))


def free_place(visit: Visit, role: str, bar: int) -> dict:
    """A place in a lane, within a bar that is counted from 0, on which there is no note."""
    x, y = visit.page.evaluate(
        f"""([role, bar]) => {{
          const {{ roll }} = {DECK}, lane = roll.lanes.find((one) => one.role === role);
          const frame = lane.canvas.getBoundingClientRect();
          for (let step = 0; step < 12; step++)
            for (let row = lane.rows.length - 1.5; row > 0; row--) {{
              const x = roll.pixel((bar + (step + 0.5) / 16) * roll.score.bar, frame.width);
              const y = (1 - row / lane.rows.length) * frame.height;
              if (!lane.at({{ clientX: frame.x + x, clientY: frame.y + y }}).note) return [x, y];
            }}
        }}""",
        [role, bar],
    )
    return {"x": x, "y": y}


def midi(visit: Visit) -> Path:
    """The downloaded MIDI file."""
    with visit.page.expect_download() as waiting:
        visit.page.locator("#deck [data-part=mid]").click()
    path = waiting.value.path()
    return path.rename(path.with_suffix(".mid"))


def read(content: bytes) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)
