"""The page in a real browser: Chromium, headless, on checkpoints/small. Run with `make test-browser`.

`VIVACE_SCREENSHOTS=docs/page` also keeps pictures of the tabs there.
"""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parent.parent
START_S, WAIT_MS = 180, 60_000
DESKTOP, PHONE = {"width": 1240, "height": 860}, {"width": 390, "height": 844}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address():
    """The page as `python app.py` starts it, or one that runs already at VIVACE_PAGE."""
    if "VIVACE_PAGE" in os.environ:
        yield os.environ["VIVACE_PAGE"]
        return
    port = free_port()
    given = os.environ | {"GRADIO_SERVER_PORT": str(port), "VIVACE_MODEL": str(ROOT / "checkpoints/small")}
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


@pytest.fixture(scope="module")
def chromium():
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield browser
        browser.close()


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
        self.page.locator(".more button:visible").first.click()

    def wait_status(self, text: str, where: str = "#status") -> str:
        self.page.wait_for_function(
            "([where, text]) => new RegExp(text).test(document.querySelector(where).innerText)", arg=[where, text]
        )
        return self.page.locator(where).inner_text()

    def generate(self, prompt: str, **values) -> None:
        self.set(**values)
        box = self.page.locator(".prompt textarea:visible")
        box.fill(prompt)
        box.press("Enter")
        self.page.wait_for_selector("#cancel:visible")
        self.wait_status("Done")
        self.page.wait_for_selector("#deck .deck[data-ready]")

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


@pytest.fixture
def visit(chromium, address):
    one = Visit(chromium, address)
    yield one
    one.context.close()
    assert not one.wrong, one.wrong


def read(content: bytes) -> tuple[np.ndarray, int]:
    return soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)


def test_typed_words_become_a_file_that_plays(visit):
    visit.generate("calm jazz trio", Length=2, **{"Tempo,_bpm": 120})
    name, wav = visit.download("#deck [data-part=wav]")
    samples, rate = read(wav)
    assert re.fullmatch(r"calm-jazz-trio-\d+\.wav", name)
    assert len(samples) == 4 * rate  # two bars of four beats at 120 bpm
    assert np.abs(samples).max() > 3000 and np.abs(np.diff(samples[:, 0].astype(int))).max() > 0
    name, flac = visit.download("#deck [data-part=flac]")
    assert name.endswith(".flac") and np.array_equal(read(flac)[0], samples)
    shown = visit.page.locator("#deck [data-part=about]").inner_text()
    assert "120 bpm" in shown and "2 bars" in shown
    visit.picture("generate")


def test_the_player_plays_and_loops_without_a_gap(visit):
    page = visit.page
    page.get_by_text("Seamless loop").click()
    visit.generate("funk groove with drums", Length=2, **{"Tempo,_bpm": 130})
    _, wav = visit.download("#deck [data-part=wav]")
    samples = read(wav)[0][:, 0] / 32768.0
    three = page.evaluate(
        """async () => {
          const bytes = await (await fetch(document.querySelector("#deck [data-part=wav]").href)).arrayBuffer();
          return Array.from(await vivaceSound.renderLoop(vivaceSound.readWav(bytes), 3));
        }"""
    )
    # What is sent to the speakers is the file three times over, sample for sample.
    assert np.array_equal(np.float32(three), np.tile(np.float32(samples), 3))
    steps = np.abs(np.diff(np.tile(samples, 2)))
    seam = steps[len(samples) - 1]
    assert seam <= np.quantile(steps, 0.999), (seam, np.quantile(steps, 0.999))
    assert page.locator("#deck [data-part=loop]").get_attribute("aria-pressed") == "true"
    page.locator("#deck .deck").focus()
    page.keyboard.press("Space")
    length = len(samples) / 24000
    page.wait_for_function("() => document.querySelector('#deck .deck-play').dataset.playing === 'true'")
    time.sleep(length + 1.0)  # past the end: still playing, from the beginning again
    assert page.locator("#deck .deck-play").get_attribute("aria-label") == "Pause"
    now = page.evaluate("() => document.querySelector('#deck .deck').parentElement.deck?.now() ?? -1")
    assert -1 <= now < length
    page.keyboard.press("Space")
    assert page.locator("#deck .deck-play").get_attribute("aria-label") == "Play"


def test_cancel_ends_the_job_and_the_next_one_starts_at_once(visit):
    visit.more()
    visit.page.get_by_label("number input for Steps").fill("100")
    visit.set(Length=40, **{"Tempo,_bpm": 100})
    visit.page.locator(".prompt textarea:visible").fill("slow solo piano")
    visit.page.keyboard.press("Control+Enter")
    visit.wait_status(r"Step \d+ of \d+, about .* left")
    visit.picture("progress")
    visit.page.keyboard.press("Escape")
    begin = time.monotonic()
    visit.wait_status("Cancelled")
    assert time.monotonic() - begin < 20
    assert visit.page.locator("#deck .deck-empty").count() == 1
    visit.page.get_by_label("number input for Steps").fill("4")
    visit.generate("slow solo piano", Length=1)


def test_a_region_is_made_anew_and_the_rest_is_untouched(visit):
    page = visit.page
    visit.generate("jazz trio", Length=4, **{"Tempo,_bpm": 120})
    before, rate = read(visit.download("#deck [data-part=wav]")[1])
    page.locator("#to-edit").click()
    page.wait_for_selector("#source .deck[data-ready]:visible")
    box = page.locator("#source [data-part=view]").bounding_box()
    page.mouse.move(box["x"] + 0.26 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.49 * box["width"], box["y"] + 60, steps=6)
    page.mouse.up()
    assert [page.locator(f"#source [data-part={end}]").input_value() for end in ("from", "to")] == ["2.00", "4.00"]
    page.locator("#apply").click()
    visit.wait_status("Done", "#edit-status")
    page.wait_for_selector("#result .deck[data-ready]:visible")
    chips = page.locator("#result [data-part=chips] button").all_inner_texts()
    assert chips == ["Original", "Result"]
    assert page.locator("#result [data-part=chips] [aria-pressed=true]").inner_text() == "Result"  # plays what changed
    page.wait_for_function(
        """() => { const at = (id) => document.querySelector(`${id} [data-part=wav]`).href;
                   return at("#result") !== at("#source"); }"""
    )
    after, _ = read(visit.download("#result [data-part=wav]")[1])
    inside = slice(2 * rate, 4 * rate)
    assert len(after) == len(before) and not np.array_equal(after[inside], before[inside])
    assert np.array_equal(np.delete(after, np.s_[inside], axis=0), np.delete(before, np.s_[inside], axis=0))
    visit.picture("edit")


def test_an_upload_is_extended(visit, tmp_path):
    rate = 16000
    t = np.arange(3 * rate) / rate
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(2 * np.pi * 220 * t), rate)
    (tmp_path / "fake.wav").write_bytes(b"<script>alert(1)</script>" * 400)
    page = visit.page
    visit.tab("Edit")
    page.locator("#upload input[type=file], input[type=file]").first.set_input_files(tmp_path / "fake.wav")
    assert "cannot be read" in visit.wait_status("audio", "#edit-status")
    page.locator("#upload input[type=file], input[type=file]").first.set_input_files(tmp_path / "tone.wav")
    page.wait_for_selector("#source .deck[data-ready]:visible")
    page.get_by_label("Extend").check()
    page.get_by_label("Add after").fill("2")
    page.locator("#apply").locator("xpath=ancestor::*[contains(@class,'column')][1]").get_by_label("seconds").check()
    page.locator(".prompt textarea:visible").fill("soft strings")
    page.locator("#apply").click()
    visit.wait_status("Done", "#edit-status")
    page.wait_for_function("() => document.querySelector('#result [data-part=time]').innerText.includes('0:05.0')")
    samples, got = read(visit.download("#result [data-part=wav]")[1])
    assert got == rate and len(samples) == 5 * rate


def test_history_finds_restores_compares_and_packs(visit, chromium, address):
    page = visit.page
    visit.generate("calm church organ", Length=1, Chords="Am F", **{"Tempo,_bpm": 90})
    visit.generate("lively flute <b>and</b> guitar", Length=2, Chords="", **{"Tempo,_bpm": 110})
    visit.tab("History")
    rows = page.locator("#takes li")
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 2")
    assert "lively flute <b>and</b> guitar" in rows.nth(0).inner_text()  # text, not markup
    page.locator("#search textarea, #search input").fill("organ 90")
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 1")
    page.locator("#search textarea, #search input").fill("")
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 2")
    page.evaluate(  # A and B with no pause between them
        """() => { const rows = document.querySelectorAll("#takes li");
                   rows[0].querySelector("[data-action=a]").click();
                   rows[1].querySelector("[data-action=b]").click(); }"""
    )
    page.wait_for_function("() => document.querySelectorAll('#compare [data-part=chips] button').length === 2")
    page.locator("#compare [data-part=chips] button").nth(1).click()
    page.wait_for_function("() => document.querySelector('#compare [data-part=about]').innerText.includes('organ')")
    visit.picture("history")
    name, packed = visit.download("#zip")
    with zipfile.ZipFile(io.BytesIO(packed)) as content:
        assert name == "vivace.zip" and len(content.namelist()) == 2
        lengths = sorted(len(read(content.read(item))[0]) for item in content.namelist())
    assert lengths == [round(24000 * 4 * 60 / 90), round(24000 * 8 * 60 / 110)]
    rows.nth(1).locator("[data-action=restore]").click()
    visit.wait_status("restored")
    visit.field("Chords").wait_for()
    assert visit.field("Chords").input_value() == "Am F"
    assert visit.field("Tempo, bpm").input_value() == "90"
    assert visit.page.locator(".prompt textarea:visible").input_value() == "calm church organ"
    first = read(visit_file(visit, 1))[0]
    page.locator("#generate").click()
    visit.wait_status("Done")
    again = read(visit.download("#deck [data-part=wav]")[1])[0]
    assert np.array_equal(again, first)  # the same settings and seed, the same piece
    other = Visit(chromium, address)
    other.tab("History")
    assert other.page.locator("#takes li").count() == 0
    assert "Nothing yet" in other.page.locator(".takes-note").inner_text()
    other.context.close()
    assert not other.wrong


def visit_file(visit: Visit, row: int) -> bytes:
    """The WAV of a row of the history, without leaving the tab."""
    address = visit.page.locator("#takes li").nth(row).locator("a").first.evaluate("link => link.href")
    return visit.context.request.get(address).body()


def test_an_example_plays_at_once(visit):
    visit.page.get_by_role("button", name="Slow piano").click()
    visit.wait_status("Done")
    visit.page.wait_for_selector("#deck .deck[data-ready]")
    assert "A minor" in visit.page.locator("#deck [data-part=about]").inner_text()
    # Its words stay, its seed does not: the next press brings another piece.
    assert visit.field("Tempo, bpm").input_value() == ""
    assert visit.page.locator(".prompt textarea:visible").input_value() == "slow solo piano in A minor, 72 bpm, 4 bars"
    visit.more()
    assert visit.field("Seed").input_value() == ""


def test_the_words_of_a_fresh_page_are_followed(visit):
    page, words = visit.page, "8-bar loop at 96 bpm in A minor, lo-fi hip hop with electric piano"
    page.locator(".prompt textarea:visible").fill(words)
    page.locator("#generate").click()
    page.wait_for_selector("#status .busy", timeout=1000)
    assert "Press Generate" not in page.locator("#deck").inner_text()
    visit.wait_status("Done")
    page.wait_for_selector("#deck .deck[data-ready]")
    assert "96 bpm, A minor, 4/4, 8 bars, 20.00 s" in page.locator("#deck [data-part=about]").inner_text()
    assert page.locator("#deck [data-part=loop]").get_attribute("aria-pressed") == "true"
    visit.generate(words, Length=1, **{"Tempo,_bpm": 120})
    assert "the words say 96 bpm, but 120 is taken" in page.locator("#status").inner_text()


def test_a_reload_keeps_the_pieces_and_a_removal_can_be_undone(visit):
    page = visit.page
    visit.generate("calm piano, 1 bar, 120 bpm")
    page.reload()
    page.wait_for_selector("#deck .deck[data-ready]")
    assert "calm piano" in page.locator("#deck [data-part=about]").inner_text()
    second = visit.context.new_page()
    second.goto(visit.address)
    second.wait_for_selector("#deck .deck[data-ready]")
    second.close()
    visit.tab("History")
    page.locator("#takes [data-action=remove]").click()
    page.wait_for_selector("#undo:visible")
    assert page.locator("#takes li").count() == 0 and "Removed: calm piano" in visit.wait_status(
        "Removed", "#history-status"
    )
    page.locator("#undo").click()
    page.wait_for_selector("#takes li")
    assert page.locator("#undo:visible").count() == 0


def test_the_edit_tab_lives_after_a_removal(visit, tmp_path):
    page = visit.page
    visit.generate("calm piano, 1 bar, 120 bpm")
    visit.tab("History")
    page.locator("#takes [data-action=remove]").click()
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 0")
    visit.tab("Edit")
    assert "Upload a file" in page.locator("#source").inner_text()
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(np.arange(32000) / 10), 16000)
    page.locator("#upload input[type=file], input[type=file]").first.set_input_files(tmp_path / "tone.wav")
    page.wait_for_selector("#source .deck[data-ready]:visible")


def test_the_api_panel_describes_the_arguments(visit):
    page = visit.context.new_page()  # what Gradio's panel asks for in vain is not counted
    page.goto(visit.address)
    page.get_by_role("button", name="Use via API").click()
    page.get_by_text("The same seed and arguments give the same piece").first.wait_for()


def test_bad_input_is_told_in_the_page(visit):
    visit.set(**{"Tempo,_bpm": 1000})
    visit.page.locator(".prompt textarea:visible").fill("piano")
    visit.page.locator(".prompt textarea:visible").press("Enter")
    said = visit.wait_status("bpm is 1000")
    assert "20 to 300" in said and visit.page.locator("#status [role=alert]").count() == 1
    line = visit.page.locator(".field-bpm .field-error")
    assert "bpm is 1000" in line.inner_text()
    red, green, blue = map(int, re.findall(r"\d+", line.evaluate("line => getComputedStyle(line).color"))[:3])
    assert red > green + 60 and red > blue + 60
    visit.generate("piano, 1 bar", **{"Tempo,_bpm": 120})
    assert visit.page.locator(".field-error").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_every_tab_without_sideways_scrolling(chromium, address, scheme):
    visit = Visit(chromium, address, viewport=PHONE, color_scheme=scheme, has_touch=True)
    visit.set(Length=2, **{"Tempo,_bpm": 96})
    visit.page.locator("#generate").click()
    visit.page.wait_for_selector("#status .busy")
    in_sight = "() => { const b = document.querySelector('#status .status').getBoundingClientRect();"
    visit.page.wait_for_function(in_sight + " return b.top >= 0 && b.bottom <= innerHeight - 100; }")
    visit.wait_status("Done")
    visit.page.wait_for_selector("#deck .deck[data-ready]")
    assert len({tab.bounding_box()["y"] for tab in visit.page.get_by_role("tab").locator("visible=true").all()}) == 1
    for name in ("Generate", "Edit", "History", "About"):
        visit.tab(name)
        time.sleep(0.3)
        wide = visit.page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= PHONE["width"], (name, wide)
        small = visit.page.evaluate(
            """() => [...document.querySelectorAll("button, a, select")].filter((item) => item.offsetParent
                 && item.getBoundingClientRect().height < 18).map((item) => item.outerHTML.slice(0, 90))"""
        )
        assert not [item for item in small if "range" not in item and "radio" not in item and "check" not in item], (
            small
        )
        visit.picture(f"phone-{scheme}-{name.lower()}")
    visit.context.close()
    assert not visit.wrong, visit.wrong


def test_dark_and_about(chromium, address):
    visit = Visit(chromium, address, color_scheme="dark")
    visit.generate("calm piano", Length=4, **{"Tempo,_bpm": 96})
    background = visit.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert sum(int(v) for v in re.findall(r"\d+", background)[:3]) < 150, background
    visit.picture("generate-dark")
    visit.tab("About")
    visit.page.get_by_text("24 kHz, mono").wait_for()
    text = visit.page.locator("body").inner_text()
    assert "checkpoints/small" in text and "apache" in text.lower() and "24 kHz" in text
    visit.picture("about")
    visit.context.close()
    assert not visit.wrong, visit.wrong
