"""A musician's way through the page in a real browser, on checkpoints/small: words, a loop, a melody hummed into the
microphone, MIDI, muted drums, a changed note, a reload. Each step is printed with its time. Run it with
`make test-browser`."""

import time
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from pipelines.pipeline_vivace import Score
from tests.helpers.browser import DECK, DESKTOP, PHONE, Visit, browser, free_place, midi, notes, read, shipped
from tests.helpers.voice import RATE, seconds, sing, tune

pytestmark = pytest.mark.browser
WORDS = "8-bar loop at 96 bpm in A minor, lo-fi hip hop with electric piano"


@pytest.fixture(scope="module")
def hummed():
    """A tune in A minor at 96 bpm: its pitches, and the audio of a voice that hums it."""
    _, _, melody = tune("korobeiniki")
    audio, sung = sing(seconds(melody, 96), seed=3, vowel="m", transpose=-12, lead_in_s=0.6)
    return sung[:, 2].astype(int), audio


@pytest.fixture(scope="module")
def page_and_browser(hummed, tmp_path_factory):
    """The page, and a browser whose microphone hears the tune."""
    path = tmp_path_factory.mktemp("voice") / "tune.wav"
    soundfile.write(path, np.concatenate([hummed[1], np.zeros(4 * RATE, np.float32)]), RATE)
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with shipped() as address, browser(*fake, f"--use-file-for-fake-audio-capture={path}%noloop") as chromium:
        yield address, chromium


class Steps:
    """What was done and how long each step took."""

    def __init__(self):
        self.rows = []

    @contextmanager
    def step(self, text: str):
        begin = time.monotonic()
        yield
        self.rows.append((text, time.monotonic() - begin))

    def table(self, title: str) -> str:
        rows = [f"| {text} | {took:.1f} |" for text, took in self.rows]
        return "\n".join([f"\n| {title} | seconds |", "|---|---|", *rows])


def record(visit: Visit, seconds: float) -> None:
    """Hum into the microphone."""
    page = visit.page
    page.locator("#notes > button").click()
    box = page.locator(".field-melody")
    box.get_by_role("button", name="Record audio").click()
    box.get_by_role("button", name="Record", exact=True).click()
    time.sleep(seconds)
    box.get_by_role("button", name="Stop", exact=True).click()
    page.locator("#understood .chip", has_text="lead: your recording").wait_for()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_musician_makes_a_loop_hums_changes_a_note_and_finds_all_again(page_and_browser, hummed, size, capsys):
    address, chromium = page_and_browser
    pitches, voice = hummed
    steps, phone = Steps(), size is PHONE
    with steps.step("the page opens"):
        visit = Visit(chromium, address, viewport=size, has_touch=phone, permissions=["microphone"])
    page = visit.page
    page.set_default_timeout(300_000)  # five parts are made of one loop

    with steps.step("the words are read"):
        page.locator(".prompt textarea:visible").fill(WORDS)
        page.locator("#understood .chip", has_text="96 bpm").wait_for()
    chips = page.locator("#understood .chip").all_inner_texts()
    assert {"8 bars, 20.0 s", "96 bpm", "A minor", "seamless loop"} <= set(chips), chips

    before = visit.shown()
    with steps.step("Generate: the first answer"):
        page.locator("#generate").click()
        visit.wait_status("Sending|Reading|Step")
    with steps.step("the loop is there"):
        visit.wait_other(before)
    about = page.locator("#deck [data-part=about]").inner_text()
    assert all(one in about for one in ("96 bpm", "A minor", "8 bars", "20.00 s")), about
    assert page.locator("#deck [data-part=loop]").get_attribute("aria-pressed") == "true"
    samples, rate = read(visit.download("#deck [data-part=wav]")[1])
    assert len(samples) == 20 * rate
    with steps.step("it plays past its end, again from the beginning"):
        page.evaluate(f"() => {DECK}.seek(19)")
        page.locator("#deck .deck-play").click()
        page.wait_for_function(f"() => {DECK}.node && {DECK}.now() > 0.2 && {DECK}.now() < 5")
        page.locator("#deck .deck-play").click()

    with steps.step("a melody of ten seconds is hummed into the microphone"):
        record(visit, len(voice) / RATE + 0.5)
    with steps.step("the loop with this melody is there"):
        before = visit.shown()
        page.locator("#generate").click()
        visit.wait_other(before)
    with steps.step("its MIDI file is downloaded"):
        score = Score.load(midi(visit))
    lead = pitches_of(score)
    assert (score.bpm, score.bars, score.key) == (96, 8, "A minor")
    assert is_tune(lead, pitches), (lead, pitches)

    with steps.step("the drums are muted; the parts are made for it"):
        mute = page.get_by_role("button", name="Mute drums")
        mute.scroll_into_view_if_needed()
        mute.click()
        page.get_by_role("button", name="Make the parts").click()
        page.wait_for_selector("#deck .deck[data-parts*=drums]")
        visit.wait_status("Done")
    page.locator("#deck .deck-play").click()
    page.wait_for_function(f"() => {DECK}.node && {DECK}.now() > 0.1 && {DECK}.levels.drums?.gain.value === 0")
    page.locator("#deck .deck-play").click()

    made = notes(visit)
    with steps.step("a note is added and what it changes is made again"):
        lane = page.locator("canvas[data-role=bass]")
        lane.scroll_into_view_if_needed()
        place = free_place(visit, "bass", 2)
        lane.tap(position=place) if phone else lane.click(position=place)
        assert notes(visit) == made + 1 and "Bar 3 differs" in page.locator(".roll-say").inner_text()
        before = visit.shown()
        page.get_by_role("button", name="Play these notes").click()
        visit.wait_other(before)
    kept = Score.load(midi(visit))
    assert len(kept.notes()) == made + 1 and kept.bars == 8 and is_tune(pitches_of(kept), pitches)

    visit.picture(f"journey-{size['width']}")
    about = page.locator("#deck [data-part=about]").inner_text()
    with steps.step("a reload brings it all back"):
        page.reload()
        page.wait_for_selector("#deck .deck[data-parts*=drums]")
    assert page.locator("#deck [data-part=about]").inner_text() == about
    assert notes(visit) == made + 1 and Score.load(midi(visit)) == kept
    assert page.get_by_role("button", name="Mute drums").get_attribute("aria-pressed") == "true"
    assert page.locator(".prompt textarea:visible").input_value() == WORDS
    assert page.locator("#deck [data-part=loop]").get_attribute("aria-pressed") == "true"
    with steps.step("the history has all four takes"):
        visit.tab("History")
        page.wait_for_function("() => document.querySelectorAll('#takes li').length === 4")
    wide = page.evaluate("() => document.documentElement.scrollWidth")
    assert wide <= size["width"], wide
    visit.context.close()
    assert not visit.wrong, visit.wrong
    with capsys.disabled():
        print(steps.table("phone" if phone else "desktop"))


def pitches_of(score: Score) -> list[int]:
    """Pitches of the lead in their order."""
    return [int(pitch) for _, _, pitch, _ in sorted(score.notes("lead").tolist())]


def is_tune(lead: list[int], pitches: np.ndarray) -> bool:
    """Whether a lead is a tune that was hummed, in any octave, but for one note in ten."""
    found = 0
    for pitch in lead:  # in their order
        found += found < len(pitches) and (pitch - pitches[found]) % 12 == 0
    return found >= 0.9 * len(pitches)
