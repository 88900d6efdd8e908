"""What gives a piece its sound beside the words, in a real browser on a tiny random checkpoint: LoRA adapters from the
list, and a recording whose sound is followed."""

import numpy as np
import pytest
import soundfile

from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import read_recipe
from tests.conftest import make_pipeline
from tests.helpers.browser import Visit, read, serving
from tests.pipelines.test_lora import make_lora

pytestmark = pytest.mark.browser
WORDS = "calm piano, 120 bpm, 1 bar"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_checkpoint(make_pipeline(reference=True), folder / "tiny")
    loras = [make_lora(folder / "mine", 1), make_lora(folder / "style", 2)]
    with serving(folder / "tiny", VIVACE_LORA=f"{loras[0]}:0.5, {loras[1]}") as address:
        yield address


@pytest.fixture
def visit(chromium, address):
    one = Visit(chromium, address)
    one.more()
    one.set(Seed=3)
    yield one
    one.context.close()
    assert not one.wrong, one.wrong


def made(visit: Visit, path) -> tuple[np.ndarray, dict]:
    """Samples of the next piece, and its recipe."""
    visit.generate(WORDS)
    path.write_bytes(visit.download("#deck [data-part=wav]")[1])
    return read(path.read_bytes())[0], read_recipe(path)


def test_adapters_are_chosen_from_the_list_and_typed_with_a_strength(visit, tmp_path):
    page = visit.page
    both, recipe = made(visit, tmp_path / "both.wav")
    assert [(one["name"], one["strength"]) for one in recipe["adapters"]] == [("mine", 0.5), ("style", 1.0)]
    page.locator("#loras > button").click()
    field = page.get_by_label("These alone, each with its strength")
    field.click()
    page.get_by_role("option", name="mine at 0.75").click()
    field.fill("style:0.25")
    field.press("Enter")
    for chip in ("mine at 0.75", "style at 0.25"):
        page.locator("#understood .chip", has_text=chip).wait_for()
    field.press("Escape")
    chosen, recipe = made(visit, tmp_path / "chosen.wav")
    assert [(one["name"], one["strength"]) for one in recipe["adapters"]] == [("mine", 0.75), ("style", 0.25)]
    assert both.shape == chosen.shape and not np.array_equal(both, chosen)


def test_a_piece_follows_the_sound_of_a_recording_and_keeps_it_in_its_settings(visit, tmp_path):
    page, rate = visit.page, 8000
    plain, recipe = made(visit, tmp_path / "plain.wav")
    assert recipe["arguments"].get("sounds_like") is None
    soundfile.write(tmp_path / "bells.wav", 0.3 * np.sign(np.sin(np.arange(2 * rate) / 2)), rate)
    page.locator(".field-sounds_like input[type=file]").set_input_files(tmp_path / "bells.wav")
    page.locator("#understood .chip", has_text="sound of your recording").wait_for()
    alike, recipe = made(visit, tmp_path / "alike.wav")
    assert len(recipe["arguments"]["sounds_like"]) == 8  # mean and deviation of four channels
    assert alike.shape == plain.shape and not np.array_equal(alike, plain)
    page.locator(".field-sounds_like button[aria-label=Clear]").click()
    page.locator("#understood .chip", has_text="sound of your recording").wait_for(state="detached")
    visit.tab("History")
    page.locator("#takes [data-action=restore]").first.click()
    page.locator("#understood .chip", has_text="sound of your recording").wait_for()
    again, _ = made(visit, tmp_path / "again.wav")
    assert np.array_equal(again, alike)
