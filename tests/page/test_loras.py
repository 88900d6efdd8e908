"""LoRA adapters on the page: loaded when it starts, chosen with a strength for each piece, named in the recipe."""

import numpy as np
import pytest

from page import edit_tab, roll
from page.api import add_endpoints
from page.desk import Desk
from page.generate_tab import arguments_of, blank, lora_choices
from page.jobs import PIPES, call_arguments
from page.model import load_model, wanted_loras
from page.request import read_loras
from page.sessions import Sessions
from page.takes import keep_output
from page.understood import understood
from pipelines.commands import app as command
from pipelines.commands.main import main as vivace
from pipelines.hub import save_checkpoint
from pipelines.pipeline_vivace import read_recipe
from tests.conftest import make_pipeline
from tests.pipelines.test_lora import make_lora


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tiny checkpoint and two adapters of it."""
    root = tmp_path_factory.mktemp("loras")
    save_checkpoint(make_pipeline(), root / "tiny", fp16=False)
    return root / "tiny", make_lora(root / "mine", 1), make_lora(root / "style", 2)


@pytest.fixture
def desk(folders, monkeypatch, tmp_path):
    """A page that was started with both."""
    base, mine, style = folders
    monkeypatch.setitem(PIPES, "loras", {})
    monkeypatch.setenv("VIVACE_LORA", f"{mine}:0.5, {style}")
    desk = Desk(load_model(str(base)), "tiny", Sessions(tmp_path))
    yield desk
    desk.sessions.close()


def test_the_command_hands_adapters_to_the_page(folders, monkeypatch):
    monkeypatch.setenv("VIVACE_LORA", "")
    monkeypatch.setattr(command.runpy, "run_module", lambda *_, **__: None)
    vivace(["app", "--lora", f"{folders[1]}:0.3", "--lora", "user/style"])
    assert wanted_loras() == [(str(folders[1]), 0.3), ("user/style", 1.0)]
    monkeypatch.setenv("VIVACE_LORA", "mine:loud")
    with pytest.raises(ValueError, match="VIVACE_LORA: mine:loud has the strength"):
        wanted_loras()


def test_each_piece_has_the_adapters_that_it_asks_for(desk):
    assert desk.loras == {"mine": 0.5, "style": 1.0}
    assert ("mine at 0.5", "mine:0.5") in lora_choices(desk.loras)
    config = desk.pipe.config
    form = blank(config) | {"prompt": "slow piano", "unit": "seconds", "length": 1.0, "seed": 3}

    def made(*chosen: str):
        arguments = arguments_of(form | {"loras": list(chosen)}, config)
        return desk.pipe(**call_arguments(desk.pipe, arguments))

    def playing(output) -> dict[str, float]:
        return {one["name"]: one["strength"] for one in output.recipes[0].get("adapters", [])}

    started, soft, none = made(), made("mine:0.25"), made("mine:0", "style:0")
    assert playing(started) == {"mine": 0.5, "style": 1.0}
    assert playing(soft) == {"mine": 0.25} and playing(none) == {}
    plain = make_pipeline()(**arguments_of(form, config)).audios
    assert np.array_equal(none.audios, plain)  # off is what there was before
    assert np.abs(soft.audios - plain).max() > 1e-5 < np.abs(soft.audios - started.audios).max()
    assert np.array_equal(made().audios, started.audios)  # nothing is left of another's choice
    with pytest.raises(ValueError, match="loras has 'other'; loaded: mine, style"):
        made("other:1")


def test_an_edit_and_the_roll_keep_the_adapters_of_a_piece(desk):
    session, config = desk.sessions.of("me"), desk.pipe.config
    form = blank(config) | {"prompt": "slow piano", "unit": "seconds", "length": 1.0, "seed": 3, "loras": ["mine:0.25"]}
    output = desk.pipe(**call_arguments(desk.pipe, arguments_of(form, config)))
    (take,) = keep_output(session, output, form)
    assert [(one["name"], one["strength"]) for one in read_recipe(take.path)["adapters"]] == [("mine", 0.25)]
    settings = dict.fromkeys(edit_tab.FIELDS) | {"task": "varied", "strength": 0.5, "num_waveforms_per_prompt": 1}
    arguments, _, _ = edit_tab.edit_arguments(settings | {"prompt": "piano"}, take, None, config)
    assert arguments["loras"] == {"mine": 0.25}
    edited = desk.pipe(**call_arguments(desk.pipe, arguments | {"num_inference_steps": 4}))
    assert [one["strength"] for one in edited.recipes[0]["adapters"]] == [0.25]
    chips = understood(form, arguments_of(form, config), "", config)
    assert "mine at 0.25" in chips and "LoRA adapter" in chips
    assert roll.edit_settings(take, None)["loras"] == ["mine:0.25"]


def test_bad_choices_are_one_line():
    assert read_loras(["mine:0.8", "style"]) == {"mine": 0.8, "style": 1.0} and read_loras([]) is None
    for bad in ("mine", [1], ["mine:x"], ["mine:nan"], ["mine:9"], [":1"], ["mine", "mine:0"], ["a"] * 99):
        with pytest.raises(ValueError, match="loras") as told:
            read_loras(bad)
        assert "\n" not in str(told.value)


def test_programs_are_offered_loras_only_where_there_are_some(desk, tmp_path):
    import gradio as gr

    bare = Desk(make_pipeline(), "tiny", Sessions(tmp_path / "bare"))
    for one in (bare, desk):
        with gr.Blocks():
            add_endpoints(one)
    assert "loras" in desk.endpoints["generate"] and "loras" in desk.endpoints["edit"]
    assert "loras" not in bare.endpoints["generate"]
    bare.sessions.close()
