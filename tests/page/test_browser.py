"""The page in a real browser: Chromium, headless, on checkpoints/small. Run with `make test-browser`.

`VIVACE_MODEL` names the folder of another checkpoint, and `VIVACE_SCREENSHOTS=docs/page` keeps pictures of the tabs
there.
"""

import io
import json
import re
import time
import zipfile

import numpy as np
import pytest
import soundfile

from pipelines.pipeline_vivace import understand
from tests.helpers.browser import DESKTOP, MODEL, PHONE, Visit, read, shipped

pytestmark = pytest.mark.browser
RATE = json.loads((MODEL / "vae/config.json").read_text())["sampling_rate"]


@pytest.fixture(scope="module")
def address():
    with shipped() as address:
        yield address


@pytest.fixture
def visit(chromium, address):
    one = Visit(chromium, address)
    yield one
    one.context.close()
    assert not one.wrong, one.wrong


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
    length = len(samples) / RATE
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
    page.locator("#result [data-part=chips] button").nth(1).click()
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
    page.locator("#result [data-part=chips] button").nth(1).click()
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
    rows.nth(0).locator("[data-action=a]").click()
    page.wait_for_selector("#takes [data-action=a][aria-pressed=true]")
    rows.nth(1).locator("[data-action=b]").click()
    page.wait_for_function("() => document.querySelectorAll('#compare [data-part=chips] button').length === 2")
    page.locator("#compare [data-part=chips] button").nth(1).click()
    page.wait_for_function("() => document.querySelector('#compare [data-part=about]').innerText.includes('organ')")
    visit.picture("history")
    name, packed = visit.download("#zip")
    with zipfile.ZipFile(io.BytesIO(packed)) as content:
        assert name == "vivace.zip" and len(content.namelist()) == 2
        lengths = sorted(len(read(content.read(item))[0]) for item in content.namelist())
    assert lengths == [round(RATE * 4 * 60 / 90), round(RATE * 8 * 60 / 110)]
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


def test_pieces_get_names_and_stars_and_others_like_them(visit):
    page = visit.page
    visit.generate("calm piano", Length=1, **{"Tempo,_bpm": 120})
    visit.generate("calm organ", Length=1, **{"Tempo,_bpm": 120})
    before = visit.shown()
    visit.tab("History")
    rows = page.locator("#takes li")
    name = rows.nth(1).get_by_role("textbox", name="Name of the piece")
    name.click()
    page.keyboard.press("Control+A")
    page.keyboard.type("Opening <i>theme</i>")
    page.keyboard.press("Enter")
    rows.nth(1).get_by_role("link", name="Download WAV: Opening <i>theme</i>").wait_for()
    star = rows.nth(1).get_by_role("button", name="Favourite")
    assert star.inner_text() == "\u2606" and star.get_attribute("aria-pressed") == "false"
    star.click()
    page.locator("#takes [data-action=star][aria-pressed=true]").wait_for()
    page.reload()
    visit.tab("History")
    page.locator("#search textarea, #search input").fill("favourite")
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 1")
    assert "Opening <i>theme</i>" in rows.nth(0).inner_text()
    rows.nth(0).get_by_role("button", name="More like this").click()
    page.wait_for_function(
        "(before) => ![undefined, before].includes(document.querySelector('#deck .deck').dataset.ready)", arg=before
    )
    visit.wait_status("Done")
    about = page.locator("#deck [data-part=about]").inner_text()
    assert about.startswith("calm piano") and "120 bpm" in about and "1 bar" in about
    visit.tab("History")
    page.locator("#search textarea, #search input").fill("calm piano")
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 2")
    seeds = [re.search(r"seed (\d+)", text)[1] for text in page.locator(".take-about").all_inner_texts()]
    assert len(set(seeds)) == 2


def visit_file(visit: Visit, row: int) -> bytes:
    """The WAV of a row of the history, without leaving the tab."""
    address = visit.page.locator("#takes li").nth(row).locator("a").first.evaluate("link => link.href")
    return visit.context.request.get(address).body()


def test_an_example_plays_at_once(visit):
    visit.page.get_by_role("button", name="Slow piano").click()
    visit.wait_status("Done")
    visit.page.wait_for_selector("#deck .deck[data-ready]")
    assert "A minor" in visit.page.locator("#deck [data-part=about]").inner_text()
    assert visit.field("Tempo, bpm").input_value() == ""  # its words say it
    assert "72 bpm" in visit.page.locator("#deck [data-part=about]").inner_text()


WORDS = "8-bar loop at 96 bpm in A minor, lo-fi hip hop with electric piano"


@pytest.mark.parametrize("first", [None, "Funk loop"])
def test_the_page_obeys_the_words(visit, first):
    """On a fresh page, and after an example, whose settings and seed are not left behind."""
    page = visit.page
    if first is not None:
        page.get_by_role("button", name=first).click()
        visit.wait_status("Done")
        page.wait_for_selector("#deck .deck[data-ready]")
    box = page.locator(".prompt textarea:visible")
    box.fill(WORDS)
    page.locator("#generate").click()
    page.wait_for_function("() => document.querySelector('#deck [data-part=about]').innerText.includes('lo-fi')")
    visit.wait_status("Done")
    about = page.locator("#deck [data-part=about]").inner_text()
    assert all(part in about for part in ("96 bpm", "A minor", "8 bars", "20.00 s")), about
    assert not re.search(r"seed (21|7)\b", about) and "taken" not in page.locator("#status").inner_text()
    looped = page.locator("#deck [data-part=loop]").get_attribute("aria-pressed") == "true"
    assert looped == bool(understand(WORDS, *[None] * 6, 10.0, 120.0, loop=None).loop)


def test_a_field_against_the_words_counts_and_the_page_says_so(visit):
    visit.set(**{"Tempo,_bpm": 120})
    visit.generate("slow piano, 72 bpm, 1 bar")
    told = visit.page.locator("#status").inner_text()
    assert "120" in told and "72 bpm" in told
    assert "120 bpm" in visit.page.locator("#deck [data-part=about]").inner_text()


def test_the_page_says_at_once_that_it_works_and_shows_it(chromium, address):
    """Before the server has answered, on a phone, and on a desktop with More open."""
    for options in ({"viewport": PHONE, "has_touch": True}, {"viewport": {"width": 1240, "height": 700}}):
        visit = Visit(chromium, address, **options)
        page = visit.page
        visit.more()
        page.wait_for_timeout(300)
        page.route("**/gradio_api/queue/join*", lambda route: (time.sleep(1), route.continue_()))
        page.evaluate("""() => { window.seen = []; document.getElementById('generate').addEventListener('click', () => {
            const begin = performance.now(), look = () => {
              const text = document.querySelector('#status').innerText;
              if (text) window.seen.push([performance.now() - begin, text]); else requestAnimationFrame(look); };
            look(); }) }""")
        page.locator("#generate").click()
        page.wait_for_function("() => window.seen.length")
        waited, text = page.evaluate("() => window.seen[0]")
        assert "Sending" in text and waited < 200, (waited, text)
        assert page.locator("#deck .deck-idle").is_hidden() and page.locator("#deck .deck-soon").is_visible()
        page.wait_for_function(
            """() => ["#status", "#deck"].every((id) => {
                 const box = document.querySelector(id).getBoundingClientRect();
                 return box.top >= 0 && box.top < innerHeight - 60; })"""
        )
        visit.wait_status("Done")
        assert page.locator("#deck").bounding_box()["y"] < options["viewport"]["height"]
        visit.context.close()
        assert not visit.wrong, visit.wrong


def test_a_reload_and_a_second_tab_show_the_same_pieces(visit):
    page = visit.page
    visit.generate("calm piano, 120 bpm, 1 bar")
    page.reload()
    page.wait_for_selector("#deck .deck[data-ready]")
    assert "calm piano" in page.locator("#deck [data-part=about]").inner_text()
    visit.tab("History")
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 1")
    second = visit.context.new_page()
    second.goto(visit.address)
    second.get_by_role("tab", name="History", exact=True).click()
    second.wait_for_function("() => document.querySelectorAll('#takes li').length === 1")
    visit.tab("Generate")
    visit.generate("calm flute, 120 bpm, 1 bar")
    second.get_by_role("tab", name="Generate", exact=True).click()
    second.get_by_role("tab", name="History", exact=True).click()
    second.wait_for_function("() => document.querySelectorAll('#takes li').length === 2")
    second.close()
    visit.generate("calm organ, 120 bpm, 1 bar")  # the other tab's end does not end this one's work


def test_edit_works_after_a_removal_that_came_first_and_remove_has_an_undo(visit, tmp_path):
    page = visit.page
    visit.generate("calm piano, 120 bpm, 1 bar")
    visit.tab("History")
    page.locator("#takes [data-action=remove]").click()
    visit.wait_status("Removed: calm piano", "#history-status")
    assert page.locator("#takes li").count() == 0
    visit.tab("Edit")
    rate = 16000
    soundfile.write(tmp_path / "tone.wav", 0.3 * np.sin(np.arange(2 * rate) / 9), rate)
    page.locator("#upload input[type=file], input[type=file]").first.set_input_files(tmp_path / "tone.wav")
    page.wait_for_selector("#source .deck[data-ready]:visible")
    visit.tab("History")
    page.locator("#undo").click()
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 2")
    assert "calm piano" in page.locator("#takes li").nth(1).inner_text()
    assert page.locator("#undo").is_hidden()
    assert len(read(visit_file(visit, 1))[0]) == 2 * RATE


def test_a_then_b_at_once_compares_both_and_the_result_of_a_change_is_what_plays(visit):
    page = visit.page
    for words in ("calm piano", "calm organ"):
        visit.generate(f"{words}, 120 bpm, 1 bar")
    visit.tab("History")
    page.wait_for_function("() => document.querySelectorAll('#takes li').length === 2")
    page.evaluate("""() => { document.querySelectorAll('#takes [data-action=a]')[0].click();
                             document.querySelectorAll('#takes [data-action=b]')[1].click(); }""")
    page.wait_for_function("() => document.querySelectorAll('#takes [aria-pressed=true]').length === 2")
    page.wait_for_function("() => document.querySelectorAll('#compare [data-part=chips] button').length === 2")
    page.locator("#takes [data-action=edit]").first.click()
    page.wait_for_selector("#source .deck[data-ready]:visible")
    page.get_by_label("Vary all").check()
    page.locator("#apply").click()
    visit.wait_status("Done", "#edit-status")
    page.wait_for_selector("#result .deck[data-ready]:visible")
    pressed = page.locator("#result [data-part=chips] [aria-pressed=true]").all_inner_texts()
    assert pressed == ["Result"]
    at = [page.locator(f"{deck} [data-part=wav]").get_attribute("href") for deck in ("#result", "#source")]
    assert at[0] != at[1]


def test_shift_enter_makes_a_new_line(visit):
    box = visit.page.locator(".prompt textarea:visible")
    box.fill("calm")
    box.press("Shift+Enter")
    box.type("piano")
    assert box.input_value() == "calm\npiano" and visit.page.locator("#status").inner_text() == ""


CONTRAST = """(item) => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let paper = item;
  while (paper && (parse(getComputedStyle(paper).backgroundColor)[3] ?? 1) === 0) paper = paper.parentElement;
  const [a, b] = [getComputedStyle(item).color, getComputedStyle(paper).backgroundColor].map((c) => light(parse(c)));
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_an_error_is_a_coloured_box_at_its_field(chromium, address, scheme, size):
    visit = Visit(chromium, address, viewport=size, color_scheme=scheme)
    page = visit.page
    visit.more()
    visit.set(Seed="1.5")
    visit.more()
    page.locator("#generate").click()
    line = page.locator(".field-seed .field-error")
    line.wait_for()  # More has been opened for it
    assert "seed is 1.5; allowed: whole numbers" in line.inner_text()
    for item in (line, page.locator("#status .status.error span")):
        red, green, blue = map(int, re.findall(r"\d+", item.evaluate("(item) => getComputedStyle(item).color"))[:3])
        assert red > 1.3 * max(green, blue) and item.evaluate(CONTRAST) >= 4.5
    page.wait_for_function(
        """() => { const box = document.querySelector(".field-error").getBoundingClientRect();
                   return box.top >= 0 && box.bottom <= innerHeight; }"""
    )
    visit.set(Seed="")
    visit.generate("calm piano, 120 bpm, 1 bar")
    assert page.locator(".field-error").count() == 0
    visit.context.close()
    assert not visit.wrong, visit.wrong


def test_unset_fields_say_the_same_and_about_can_be_read(visit):
    page = visit.page
    shown = [visit.field(name).get_attribute("placeholder") for name in ("Length", "Tempo, bpm", "Chords")]
    shown += [page.get_by_label(name).first.input_value() for name in ("Key", "Meter")]
    assert shown == ["as in the words"] * 5
    visit.tab("About")
    page.wait_for_selector(".about pre code")
    for item in page.locator(".about pre code span").all():
        assert item.evaluate(CONTRAST) >= 4.5, item.inner_text()
    for item in page.locator(".about pre code").all():
        assert item.evaluate("(item) => item.scrollWidth <= item.clientWidth + 1")
    broken = page.evaluate(
        """() => [...document.querySelectorAll(".about th, .about td")].filter((cell) => {
             const range = document.createRange();
             range.selectNodeContents(cell);
             const lines = new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size;
             return lines > (cell.innerText.trim().split(/\\s+/).length || 1);
           }).map((cell) => cell.innerText)"""
    )
    assert not broken, broken
    address = page.get_by_role("link", name="gradio_api/info").evaluate("link => link.href")
    assert "/generate" in visit.context.request.get(address).json()["named_endpoints"]
    page.locator("footer .show-api").click()
    page.get_by_text("How strictly to follow the request").first.wait_for()
    assert "Hello!!" not in page.locator("body").inner_text()
    visit.wrong.clear()  # Gradio's own panel looks for things that this page does not have


@pytest.mark.parametrize("width", [390, 820])
def test_nothing_is_cut_off_on_narrow_screens(chromium, address, width):
    visit = Visit(chromium, address, viewport={"width": width, "height": 1000})
    page = visit.page
    tops = {round(tab.bounding_box()["y"]) for tab in page.get_by_role("tab").all() if tab.is_visible()}
    assert len(tops) == 1 and page.get_by_role("tab", name="About", exact=True).is_visible()
    assert page.locator(".more > button:visible").first.bounding_box()["height"] >= 40
    assert page.locator("footer").inner_text().strip(" \n") in ("", "Use via API")
    end = page.locator("[data-testid=max-value]").first
    if end.is_visible():
        slider = page.locator(".slider_input_container").first.bounding_box()
        place = end.bounding_box()
        assert place["x"] + place["width"] <= slider["x"] + slider["width"] + 1
    visit.more()
    page.get_by_text("Brightness, dB").first.wait_for()
    visit.context.close()
    assert not visit.wrong, visit.wrong


def test_bad_input_is_told_in_the_page(visit):
    visit.set(**{"Tempo,_bpm": 1000})
    visit.page.locator(".prompt textarea:visible").fill("piano")
    visit.page.locator(".prompt textarea:visible").press("Enter")
    said = visit.wait_status("bpm is 1000")
    assert "20 to 300" in said and visit.page.locator("#status [role=alert]").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_every_tab_without_sideways_scrolling(chromium, address, scheme):
    visit = Visit(chromium, address, viewport=PHONE, color_scheme=scheme, has_touch=True)
    visit.generate("calm piano", Length=2, **{"Tempo,_bpm": 96})
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
    name = f"{MODEL.parent.name}/{MODEL.name}"
    visit.page.wait_for_function("name => document.body.innerText.includes(name)", arg=name)
    text = visit.page.locator("body").inner_text()
    assert "apache" in text.lower() and f"{RATE / 1000:g} kHz" in text
    visit.picture("about")
    visit.context.close()
    assert not visit.wrong, visit.wrong
