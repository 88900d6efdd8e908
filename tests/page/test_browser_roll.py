"""The piano roll in a real browser, on a tiny random checkpoint that composes: notes are changed, played and mixed."""

import time
import zipfile
from io import BytesIO

import numpy as np
import pytest
import soundfile
import torch

from pipelines.composer_vivace import ComposerVivace
from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import ROLES, Score, Track, VivacePipeline
from tests.conftest import make_pipeline
from tests.helpers.browser import DECK, DESKTOP, PHONE, Visit, free_place, midi, notes, read, serving

pytestmark = pytest.mark.browser
WORDS = "slow piano, bass and drums, 4 bars, 120 bpm, A minor"
RATE = 8000


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    torch.manual_seed(0)
    composer = ComposerVivace(width=24, layers=1, heads=2, kernel=3, text_dim=16).eval()
    pipe = VivacePipeline.from_pipe(make_pipeline(2, instruments=("piano", "flute", "drums")), composer=composer)
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(pipe, folder)
    with serving(folder) as address:
        yield address


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visit(chromium, address, request):
    one = Visit(chromium, address, viewport=request.param, has_touch=request.param is PHONE)
    yield one
    one.context.close()
    assert not one.wrong, one.wrong


def press(visit: Visit, name: str, label: str) -> None:
    """A button below the roll, and wait for what it makes, which stands beside the piece before."""
    before = visit.shown()
    visit.page.get_by_role("button", name=name).click()
    visit.wait_other(before)
    chips = visit.page.locator("#deck [data-part=chips] button")
    assert chips.all_inner_texts() == ["Before", label] and chips.nth(1).get_attribute("aria-pressed") == "true"


def test_notes_are_seen_changed_played_and_mixed(visit):
    page = visit.page
    visit.generate(WORDS)
    roll = page.locator("#deck [data-part=roll]")
    assert roll.is_visible() and page.locator("#deck [data-part=spec]").is_hidden()
    assert [lane.get_attribute("data-role") for lane in page.locator(".roll-lane").all()] == list(ROLES)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= page.viewport_size["width"]
    made, before = notes(visit), read(visit.download("#deck [data-part=wav]")[1])[0]
    assert made == len(Score.load(midi(visit)).notes())

    # a note is added by a click in bar 3, seen, taken back and brought back
    lane = page.locator("canvas[data-role=lead]")
    lane.scroll_into_view_if_needed()
    place = free_place(visit, "lead", 2)
    lane.tap(position=place) if page.viewport_size == PHONE else lane.click(position=place)
    assert notes(visit) == made + 1 and "Bar 3 differs" in page.locator(".roll-say").inner_text()
    page.get_by_role("button", name="Undo").click()
    assert notes(visit) == made and page.get_by_role("button", name="Play these notes").is_disabled()
    page.get_by_role("button", name="Redo").click()
    press(visit, "Play these notes", "New notes")
    after = read(visit.download("#deck [data-part=wav]")[1])[0]
    assert np.array_equal(before[: 4 * RATE], after[: 4 * RATE]) and not np.array_equal(before, after)
    assert notes(visit) == made + 1 == len(Score.load(midi(visit)).notes())

    # mute needs the parts, which are made on request and then are silent alone
    mute = page.get_by_role("button", name="Mute drums")
    mute.click()
    page.get_by_role("button", name="Make the parts").click()
    page.wait_for_selector("#deck .deck[data-parts*=drums]")
    assert mute.get_attribute("aria-pressed") == "true"
    page.locator("#deck .deck-play").click()
    page.wait_for_function(f"() => {DECK}.node && {DECK}.now() > 0.1")
    levels = page.evaluate(f"() => Object.entries({DECK}.levels).map(([role, level]) => [role, level.gain.value])")
    assert dict(levels)["drums"] == 0 and sum(level for _, level in levels) == len(levels) - 1
    place = page.evaluate(f"() => {DECK}.now() / {DECK}.duration")
    left = page.locator("#deck [data-part=head]").evaluate("(head) => parseFloat(head.style.left) / 100")
    assert abs(left - place) < 0.2
    mute.click()
    time.sleep(0.1)
    assert page.evaluate(f"() => {DECK}.levels.drums.gain.value") > 0.9
    page.locator("#deck .deck-play").click()
    name, packed = visit.download("#deck [data-part=zip]")
    with zipfile.ZipFile(BytesIO(packed)) as content:
        parts = [read(content.read(one))[0].astype(int) for one in content.namelist()]
    mix = read(visit.download("#deck [data-part=wav]")[1])[0]
    assert name.endswith(".zip") and np.array_equal(sum(parts), mix)
    visit.picture(f"score-{page.viewport_size['width']}")


def test_the_beats_click(visit):
    page = visit.page
    visit.generate(WORDS)
    button, slider = page.locator("#deck [data-part=click]"), page.get_by_label("Volume of the click")
    assert button.get_attribute("aria-pressed") == "false" and slider.is_hidden()
    page.locator("#deck .deck").focus()
    page.keyboard.press("m")
    assert button.get_attribute("aria-pressed") == "true" and slider.is_visible()
    page.keyboard.press("Space")
    page.wait_for_function(f"() => {DECK}.node && {DECK}.clickLevel.gain.value > 0.3")
    onsets = page.evaluate(
        f"""() => {{ const [samples] = {DECK}.sound.clicks.channels, found = [];
             samples.forEach((v, i) => Math.abs(v) > 0.3 && !(i - found.at(-1) < 1000) && found.push(i));
             return found; }}"""
    )
    assert len(onsets) == 16 and np.abs(np.array(onsets) / RATE - np.arange(16) / 2).max() < 0.002  # 120 bpm
    slider.fill("0.1")
    page.wait_for_function(f"() => Math.abs({DECK}.clickLevel.gain.value - 0.1) < 0.01")
    button.click()
    page.wait_for_function(f"() => {DECK}.node && {DECK}.clickLevel.gain.value < 0.01")
    assert (
        slider.is_hidden()
        and page.evaluate("() => document.documentElement.scrollWidth") <= page.viewport_size["width"]
    )


def test_a_note_is_dragged_lengthened_moved_by_keys_and_deleted(chromium, address):
    visit = Visit(chromium, address)
    page = visit.page
    visit.generate(WORDS)
    made, lane = notes(visit), page.locator("canvas[data-role=bass]")
    lane.scroll_into_view_if_needed()
    lane.evaluate(f"() => {{ const {{ roll }} = {DECK}; roll.change(() => roll.notes.splice(0)); }}")
    page.get_by_role("button", name="Undo").click()
    assert notes(visit) == made
    lane.click(position=free_place(visit, "bass", 2))

    def chosen() -> list[int]:
        return page.evaluate(f"() => {{ const note = {DECK}.roll.chosen; return [note.on, note.length, note.pitch]; }}")

    def drag(share: float, x: float, y: float) -> None:
        """From a place of the chosen note on, by so many pixels."""
        left, top, wide, high = page.evaluate(
            f"""() => {{ const {{ roll }} = {DECK}, lane = roll.lanes.find((one) => one.role === "bass");
                 const box = lane.box(roll.chosen), frame = lane.canvas.getBoundingClientRect();
                 return [frame.x + box.x, frame.y + box.y, box.width, box.height]; }}"""
        )
        page.mouse.move(left + share * wide, top + high / 2)
        page.mouse.down()
        page.mouse.move(left + share * wide + x, top + high / 2 + y, steps=5)
        page.mouse.up()

    page.get_by_label("Grid of the notes").select_option("1/4")
    on, length, pitch = chosen()
    beat = lane.bounding_box()["width"] / 16
    drag(0.3, 2 * beat, 30)
    moved = chosen()
    assert moved[0] - on in (1920, 1680, 2160) and moved[0] % 960 == 0 and moved[2] < pitch and moved[1] == length
    drag(0.95, 2 * beat, 0)
    assert chosen()[0] == moved[0] and chosen()[1] > length and (chosen()[0] + chosen()[1]) % 960 == 0
    lane.press("ArrowUp")
    lane.press("ArrowLeft")
    assert chosen()[2] == moved[2] + 1 and chosen()[0] == moved[0] - 960
    lane.press("Control+z")
    lane.press("Control+z")
    lane.press(".")
    lane.press("Delete")
    assert notes(visit) == made
    page.locator("#deck [data-part=closer]").click()
    assert page.locator("#deck [data-part=wide]").evaluate("(box) => box.style.width") == "200%"
    visit.context.close()
    assert not visit.wrong, visit.wrong


def test_a_chord_is_typed_over_and_harmony_and_bass_follow_it(visit):
    page = visit.page
    visit.generate(WORDS)
    old = Score.load(midi(visit))
    third = page.get_by_label("Chords of bar 3")
    play, before = page.get_by_role("button", name="Play these notes"), third.input_value()
    assert before and page.get_by_label("Chords of bar 4").is_visible()
    third.fill("Xm")
    third.press("Enter")
    said = page.locator(".roll-wrong")
    said.wait_for()
    assert "Bar 3: chords has 'Xm'; allowed: a root from A to G" in said.inner_text()
    assert third.get_attribute("aria-invalid") == "true" and play.is_disabled()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= page.viewport_size["width"]
    chord = "F#m7b5" if before != "F#m7b5" else "Dm7"
    third.fill(chord)
    third.press("Enter")
    said.wait_for(state="hidden")
    told, follow = page.locator(".roll-bar .roll-say").inner_text(), {"harmony", "bass"} & set(old.roles)
    assert told.startswith("Bar 3 differs from what you hear") and ("harmony and bass will follow" in told) == bool(
        follow
    )
    page.get_by_role("button", name="Undo").click()
    assert third.input_value() == "Xm"
    page.get_by_role("button", name="Redo").click()
    said.wait_for(state="hidden")
    press(visit, "Play these notes", "New notes")
    new = Score.load(midi(visit))
    assert page.get_by_label("Chords of bar 3").input_value() == chord
    assert set(new.changed_bars(old)) <= {2, 3} and np.array_equal(new.notes("lead"), old.notes("lead"))


def test_sections_and_a_recording_are_understood(visit, tmp_path):
    page = visit.page
    page.locator(".more > button:visible", has_text="Sections").click()
    lines, words = page.get_by_label("Bars and words, one section a line"), page.locator(".prompt textarea:visible")
    words.fill("calm, 120 bpm")
    lines.fill("verse")
    page.locator("#understood", has_text="sections has 'verse'; allowed: bars and words").wait_for()
    lines.fill("1 intro, solo piano\n2 verse, jazz\n1 intro, solo piano")
    page.locator("#understood .chip", has_text="bars 2 to 3: verse, jazz").wait_for()
    visit.generate("calm, 120 bpm")
    assert "4 bars" in page.locator("#deck [data-part=about]").inner_text() and Score.load(midi(visit)).bars == 4
    lines.fill("")
    soundfile.write(tmp_path / "hum.wav", 0.3 * np.sin(np.arange(2 * RATE) / 5), RATE)
    page.locator("#notes > button").click()
    page.locator(".field-melody input[type=file]").set_input_files(tmp_path / "hum.wav")
    page.locator("#understood .chip", has_text="lead: your recording").wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_new_notes_in_chosen_bars_and_another_sound(chromium, address):
    visit = Visit(chromium, address)
    page = visit.page
    visit.generate(WORDS)
    before, old = read(visit.download("#deck [data-part=wav]")[1])[0], Score.load(midi(visit))
    button = page.get_by_role("button", name="New notes for these bars")
    assert button.is_disabled()
    view = page.locator("#deck [data-part=view]").bounding_box()
    page.mouse.move(view["x"] + 0.51 * view["width"], view["y"] + 60)
    page.mouse.down()
    page.mouse.move(view["x"] + 0.74 * view["width"], view["y"] + 60, steps=4)
    page.mouse.up()
    page.mouse.move(view["x"] + 0.75 * view["width"], view["y"] + 60)  # the end of the region is drawn on and back
    page.mouse.down()
    page.mouse.move(view["x"] + 0.99 * view["width"], view["y"] + 60, steps=4)
    page.mouse.up()
    assert page.evaluate(f"() => {DECK}.region") == [4, 8]
    page.mouse.down()
    page.mouse.move(view["x"] + 0.76 * view["width"], view["y"] + 60, steps=4)
    page.mouse.up()
    assert page.evaluate(f"() => {DECK}.region") == [4, 6]
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("Space")  # plays the region, again and again where the loop is on
    page.wait_for_function(f"() => {DECK}.node && {DECK}.now() > 4.05")
    page.locator("#deck [data-part=loop]").click()
    page.wait_for_function(f"() => {DECK}.nodes[0].loop && {DECK}.nodes[0].loopEnd === 6")
    time.sleep(2.2)
    assert 4 <= page.evaluate(f"() => {DECK}.now()") < 6
    page.locator("#deck .deck-play").click()
    press(visit, "New notes for these bars", "New bars")
    after, new = read(visit.download("#deck [data-part=wav]")[1])[0], Score.load(midi(visit))
    assert np.array_equal(before[: 4 * RATE], after[: 4 * RATE]) and not np.array_equal(before, after)
    assert set(new.changed_bars(old)) <= {2, 3} and new != old
    page.locator(".prompt textarea:visible").fill("loud jazz")
    press(visit, "Other sound, same notes", "New sound")
    assert Score.load(midi(visit)).tracks == new.tracks
    assert "loud jazz" in page.locator("#deck [data-part=about]").inner_text()
    visit.context.close()
    assert not visit.wrong, visit.wrong


def test_the_words_are_read_while_they_are_typed_and_a_dropped_midi_file_is_taken(chromium, address, tmp_path):
    visit = Visit(chromium, address)
    page = visit.page
    words = page.locator(".prompt textarea:visible")
    example = words.input_value()
    assert "72 bpm" in example
    words.fill("4-bar loop at 96 bpm in A minor, lo-fi with electric piano")
    chips = page.locator("#understood .chip")
    page.locator("#understood .chip", has_text="96 bpm").wait_for()
    assert [chip.inner_text() for chip in chips.all()][:3] == ["4 bars, 10.0 s", "96 bpm", "A minor"]
    visit.set(**{"Tempo,_bpm": 120})
    page.locator("#understood .chip", has_text="120 bpm set by hand, not 96 bpm").wait_for()
    page.locator("#understood [data-clear=bpm]").click()
    page.locator("#understood .chip.words", has_text="96 bpm").wait_for()
    assert visit.field("Tempo, bpm").input_value() == ""
    page.locator("#understood [data-field=key]").click()
    assert page.evaluate("() => document.activeElement.closest('.field-key') !== null")
    words.fill("slow pinano, <b>kazoo</b>")
    page.locator("#understood .chip.unknown", has_text="kazoo unknown word").wait_for()
    page.get_by_role("button", name="piano?").click()
    page.locator("#understood .chip.unknown", has_text="pinano").wait_for(state="detached")
    assert words.input_value() == "slow piano, <b>kazoo</b>"
    Score((Track("lead", [(q, 1, 60 + q, 0.8) for q in range(8)], "flute"),), 120).save(tmp_path / "tune.mid")
    words.fill(example)  # which would say another tempo and length
    page.evaluate(
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "tune.mid", { type: "audio/midi" }));
          document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data }));
        }""",
        list((tmp_path / "tune.mid").read_bytes()),
    )
    page.get_by_text("lead (8 notes)").wait_for()
    page.locator("#understood .chip", has_text="120 bpm from the notes").wait_for()
    assert words.input_value() == ""
    page.get_by_text("Its melody; the rest is composed").click()
    visit.generate("slow piano", Length="")
    score = Score.load(midi(visit))
    assert [pitch for _, _, pitch, _ in score.notes("lead")] == [60 + q for q in range(8)] and len(score.roles) > 1
    visit.context.close()
    assert not visit.wrong, visit.wrong


def test_the_first_bars_play_while_the_rest_is_made(chromium, address):
    visit = Visit(chromium, address)
    page = visit.page
    page.locator(".more > button:visible", has_text="Sections").click()
    page.get_by_label("Bars and words, one section a line").fill("8 intro, solo piano\n16 verse, jazz\n8 intro, piano")
    page.evaluate(
        f"""() => {{
          window.there = [];
          const deck = {DECK};
          new MutationObserver(() => {{
            const {{ coming }} = deck.root.dataset;
            if (coming && there.at(-1) !== Number(coming)) there.push(Number(coming));
            if (there.length === 1 && !deck.node) deck.play();
          }}).observe(deck.root, {{ attributes: true, attributeFilter: ["data-coming"] }});
        }}"""
    )
    before = visit.shown()
    page.locator(".prompt textarea:visible").fill("calm, 120 bpm")
    page.locator("#generate").click()
    page.wait_for_function(f"() => {DECK}.node && {DECK}.track.coming && {DECK}.now() > 0.1")
    assert "s can be played, the rest is being made" in page.locator("#deck [data-part=about]").inner_text()
    page.wait_for_function("() => document.querySelector('#deck [data-part=time]').innerText.includes('intro')")
    assert page.locator("#deck [data-part=wav]").is_hidden() and page.evaluate(f"() => {DECK}.duration") == 64
    visit.wait_other(before)
    assert page.evaluate(f"() => Boolean({DECK}.node)") and 0.1 < page.evaluate(f"() => {DECK}.now()") < 60
    there = page.evaluate("() => there")
    assert len(there) > 1 and there == sorted(there) and 15 < there[0] < 21 and there[-1] <= 64
    assert len(read(visit.download("#deck [data-part=wav]")[1])[0]) == 64 * RATE and notes(visit) > 0
    page.locator("#deck .deck-play").click()
    page.evaluate(f"() => {DECK}.seek(40)")
    assert page.locator("#deck [data-part=time]").inner_text().endswith("bar 21, beat 1  ·  verse")
    visit.context.close()
    assert not visit.wrong, visit.wrong
