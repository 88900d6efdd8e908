"""Generate: words, a grid and a seed -> up to four pieces."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import gradio as gr

from pipelines.pipeline_vivace import KEYS, ROLES
from pipelines.scores import has_composer

from .desk import Desk, done_line, progress_line, refusal, status_line
from .examples import EXAMPLES
from .parts import BEGIN, deck, number, status_box
from .request import MAX_PROMPT, MAX_STEPS, MAX_VARIATIONS, music_asked, overridden, pipeline_arguments
from .sessions import Session
from .takes import beginning, check_upload, deck_value, keep_output
from .understood import understood

METERS = ["4/4", "3/4", "2/4", "5/4", "7/8", "6/8", "12/8"]
FIELDS = (
    "prompt", "negative_prompt", "unit", "length", "bpm", "key", "time_signature", "chords", "loop",
    "num_waveforms_per_prompt", "seed", "num_inference_steps", "guidance_scale", "grid_guidance_scale", "tilt_db",
    "score", "notes_as", "hum", "parts", "stems", "sections", "sounds_like", "loras",
)  # fmt: skip


GRID = ("length", "bpm", "key", "time_signature", "chords", "loop")  # fields that the words may stand for
STRENGTHS = (1.0, 0.75, 0.5, 0.25, 0.0)  # of a LoRA adapter
UNSET = "as in the words"  # what an untouched field of the request says


def blank(config) -> dict:
    """The settings of an untouched form: nothing that the words do not say."""
    return dict.fromkeys(FIELDS) | {
        "prompt": "", "negative_prompt": "", "unit": "bars", "key": "", "time_signature": "", "chords": "",
        "loop": False, "num_waveforms_per_prompt": 1,
        "num_inference_steps": config.default_num_inference_steps,
        "guidance_scale": config.default_guidance_scale, "tilt_db": 0, "notes_as": "score", "parts": [], "stems": False,
        "sections": "", "loras": [],
    }  # fmt: skip


def arguments_of(settings: dict, config) -> dict:
    """The form's settings as arguments of the pipeline.

    Raises:
        ValueError: see `pipeline_arguments`.
    """
    arguments = dict(settings)
    unit, length = arguments.pop("unit"), arguments.pop("length")
    arguments["bars" if unit == "bars" else "duration_s"] = length
    arguments["loop"] = arguments["loop"] or None  # the words may say it too
    arguments["tilt_db"] = arguments["tilt_db"] or None
    arguments["stems"] = arguments["stems"] or None
    hum = arguments.pop("hum")
    if arguments.pop("notes_as") == "melody":
        arguments["melody"] = arguments.pop("score")
    if hum:
        if arguments.get("melody"):
            raise ValueError("melody is given twice, as a MIDI file and as a recording; take one of them away")
        check_upload(hum, "melody")
        arguments["melody"] = Path(hum)  # the pipeline reads it
    if arguments["sounds_like"]:
        check_upload(arguments["sounds_like"], "sounds_like")
        arguments["sounds_like"] = Path(arguments["sounds_like"])
    return pipeline_arguments(arguments, config)


def lora_choices(loras: dict[str, float]) -> list[tuple[str, str]]:
    """Label and value of what the list of adapters offers: each at a few strengths and its own, and off."""
    return [
        (f"{name} at {strength:g}" if strength else f"{name} off", f"{name}:{strength:g}")
        for name, own in loras.items()
        for strength in sorted({own, *STRENGTHS}, reverse=True)
    ]


def form(desk: Desk) -> dict[str, gr.components.Component]:
    """The fields, by their names; those for notes are seen where the model plays them."""
    config, notes = desk.pipe.config, desk.plays_notes
    first, fields = blank(config), {}
    fields["prompt"] = gr.Textbox(
        label="What should it sound like?", value=EXAMPLES[0][1], lines=2, max_lines=6,
        placeholder="style, instruments, tempo, key, length", max_length=MAX_PROMPT,
        elem_classes=["prompt", "field-prompt"],
    )  # fmt: skip
    said = gr.HTML(
        "", js_on_load="window.vivaceChips(element, trigger); /* 'act' */", apply_default_css=False,
        elem_id="understood",
    )  # fmt: skip
    with gr.Row(elem_classes="tight"):
        fields["length"] = number("length", "Length", placeholder=UNSET, min_width=150, elem_id="length")
        fields["unit"] = gr.Radio(["bars", "seconds"], label="Unit", value="bars", min_width=215, scale=2)
    with gr.Row(elem_classes="tight"):
        fields["bpm"] = number("bpm", "Tempo, bpm", placeholder=UNSET, min_width=150)
        fields["key"] = gr.Dropdown(
            [(UNSET, ""), *((key, key) for key in KEYS)], label="Key", value="", min_width=150,
            elem_classes="field-key",
        )  # fmt: skip
        fields["time_signature"] = gr.Dropdown(
            [(UNSET, ""), *((meter, meter) for meter in METERS)],
            label="Meter", value="", min_width=150, elem_classes="field-time_signature",
        )  # fmt: skip
    fields["chords"] = gr.Textbox(
        label="Chords", value="", placeholder=UNSET, info="as in Am F C G: one a bar, repeated; Am:2 F:2 with beats",
        max_length=MAX_PROMPT, elem_classes="field-chords",
    )  # fmt: skip
    with gr.Row(elem_classes="tight"):
        fields["loop"] = gr.Checkbox(label="Seamless loop", value=False, min_width=140, elem_classes="field-loop")
        fields["num_waveforms_per_prompt"] = gr.Slider(
            1, MAX_VARIATIONS, 1, step=1, label="Variations", buttons=[], min_width=160
        )
    with gr.Accordion("Sections", open=False, elem_classes="more"):
        fields["sections"] = gr.Textbox(
            label="Bars and words, one section a line", value="", lines=4, max_lines=12, max_length=MAX_PROMPT,
            placeholder="4 intro, solo piano\n8 verse, soft drums\n8 chorus, brass\n8 verse, soft drums",
            info="each joins the words above; the same name brings the same notes again", elem_classes="field-sections",
        )  # fmt: skip
    with gr.Accordion("Notes", open=False, visible=notes, elem_classes="more", elem_id="notes"):
        fields["score"] = gr.File(
            label="MIDI file (drop it anywhere on the page)", file_types=[".mid", ".midi"], height=124,
            elem_id="score", elem_classes="field-score",
        )  # fmt: skip
        fields["notes_as"] = gr.Radio(
            [("Play all its notes", "score"), ("Its melody; the rest is composed", "melody")], label="What it is",
            value="score", visible=has_composer(config), elem_id="notes-as",
        )  # fmt: skip
        fields["hum"] = gr.Audio(
            label="Or hum, whistle or play a melody", sources=["upload", "microphone"], type="filepath",
            visible=has_composer(config), elem_classes="field-melody",
        )  # fmt: skip
        fields["parts"] = gr.CheckboxGroup(
            list(ROLES), label="Only these parts", info="none chosen: all", elem_classes="field-parts"
        )
        fields["stems"] = gr.Checkbox(
            label="Also each part alone (stems)", value=False, info="to mute, solo and mix them; takes longer",
            elem_classes="field-stems",
        )  # fmt: skip
    with gr.Accordion("More", open=False, elem_classes="more") as more:
        fields["negative_prompt"] = gr.Textbox(
            label="What it should not sound like", value="", max_length=MAX_PROMPT, elem_classes="field-negative_prompt"
        )
        fields["sounds_like"] = gr.Audio(
            label="A recording whose sound it is to have, not its notes", sources=["upload", "microphone"],
            type="filepath", visible=desk.takes_reference, elem_classes="field-sounds_like",
        )  # fmt: skip
        fields["seed"] = number(
            "seed", "Seed", placeholder="a new one each time", info="the same seed and settings give the same piece"
        )
        fields["guidance_scale"] = gr.Slider(
            0, 10, first["guidance_scale"], step=0.1, label="Guidance", info="how strictly to follow the request",
            buttons=["reset"],
        )  # fmt: skip
        fields["grid_guidance_scale"] = number(
            "grid_guidance_scale", "Guidance by tempo, key and chords", placeholder="the same as Guidance",
            info="how strictly to follow these alone, 0 to 10",
        )  # fmt: skip
        fields["num_inference_steps"] = gr.Slider(
            1, MAX_STEPS, first["num_inference_steps"], step=1, label="Steps", buttons=["reset"]
        )
        fields["tilt_db"] = gr.Slider(-12, 12, 0, step=0.5, label="Brightness, dB", buttons=["reset"])
    with gr.Accordion("LoRA adapters", open=False, visible=bool(desk.loras), elem_classes="more", elem_id="loras"):
        started = ", ".join(f"{name} at {strength:g}" for name, strength in desk.loras.items())
        fields["loras"] = gr.Dropdown(
            lora_choices(desk.loras), label="These alone, each with its strength", value=[], multiselect=True,
            allow_custom_value=True, info=f"none chosen: {started}; other strengths can be typed, as in name:0.6",
            elem_classes="field-loras",
        )  # fmt: skip
    show_understood(fields, said, desk)
    return fields | {"more": more}


def show_understood(fields: dict[str, gr.components.Component], said: gr.HTML, desk: Desk) -> None:
    """Keep the chips below the words up to date, and let a chip that was set by hand go back to the words."""
    config = desk.pipe.config

    def read(*values) -> str:
        settings, arguments, wrong = dict(zip(FIELDS, values, strict=True)), None, ""
        try:
            arguments = arguments_of(settings, config)
        except ValueError as error:
            wrong = str(error)
        return understood(settings, arguments, wrong, config, desk.words)

    def clear(event: gr.EventData):
        field = (event._data or {}).get("field")
        return {fields[field]: blank(config)[field]} if field in GRID else {said: gr.skip()}

    quick = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    shown = [
        fields[name]
        for name in ("prompt", *GRID, "unit", "score", "notes_as", "hum", "sections", "sounds_like", "loras")
    ]
    gr.on(
        [field.change for field in shown], read, [fields[name] for name in FIELDS], said, trigger_mode="always_last",
        **quick,
    )  # fmt: skip
    fields["score"].upload(  # the example that the page begins with says nothing of somebody's own notes
        lambda prompt: "" if prompt == EXAMPLES[0][1] else prompt, fields["prompt"], fields["prompt"], **quick
    )
    said.act(clear, None, [said, *(fields[name] for name in GRID)], **quick)


def make_tab(desk: Desk) -> SimpleNamespace:
    """The tab's components; `done` are the events after which a new piece may be in the history."""
    config = desk.pipe.config
    with gr.Row(equal_height=False, elem_classes="desk"):
        with gr.Column(scale=5, min_width=300):
            fields = form(desk)
            more = fields.pop("more")
            go = gr.Button("Generate", variant="primary", elem_classes="go", elem_id="generate")
            with gr.Row(elem_classes="examples"):
                examples = [gr.Button(name, size="sm", min_width=60) for name, *_ in EXAMPLES]
        with gr.Column(scale=7, min_width=300, elem_classes="outcome"):
            status, cancel = status_box("status", "cancel")
            empty = "Press Generate, or Enter in the text field. The examples below it are made at once."
            player = deck(empty, "deck", roll=desk.plays_notes, composes=desk.composes)
            to_edit = gr.Button("Edit this piece", visible=False, size="sm", elem_id="to-edit")
    order = [fields[name] for name in FIELDS]
    idle = {go: gr.update(interactive=True), cancel: gr.update(visible=False)}
    busy = {go: gr.update(interactive=False), cancel: gr.update(visible=True)}

    async def make(settings: dict, request: gr.Request, place: int | None = None):
        """Updates while a piece is made and when it is done."""
        yield {status: status_line("Reading the request", "busy", 0.0), **busy}
        chunks, folder, session = [], None, desk.session(request)
        try:
            arguments, output = arguments_of(settings, config), desk.example_outputs.get(place)
            note, music = overridden(arguments), music_asked(arguments, config)

            def keep(session, output):
                return keep_output(session, output, settings, loop=arguments.get("loop", False))

            if output is None:
                async for news in desk.run(request, arguments, keep):
                    if news.output is None:
                        yield {status: progress_line(news, note)}
                    if news.audio is not None and music is not None:
                        folder = folder or session.answer()
                        chunks.append(news.audio)
                        begun = beginning(folder, chunks, desk.pipe.vae.config.sampling_rate, music, settings)
                        yield {player: begun, to_edit: gr.update(visible=False)}
                takes = news.kept
                if place is not None:
                    desk.example_outputs[place] = news.output
            else:
                with session.job():
                    takes = await asyncio.to_thread(keep, session, output)
        except Exception as error:
            yield {status: refusal(error), **(last_made(session) if chunks else {}), **idle}
            return
        yield {status: done_line(takes, note), player: deck_value(takes, roll=True) | {"goes_on": bool(chunks)},
               to_edit: gr.update(visible=True), **idle}  # fmt: skip

    async def from_form(request: gr.Request, *values):
        async for update in make(dict(zip(FIELDS, values, strict=True)), request):
            yield update

    def example(place: int):
        async def play(request: gr.Request):
            """The example's words are left in the form, its seed is not."""
            _, prompt, seed = EXAMPLES[place]
            settings = blank(config) | {"prompt": prompt}
            yield {fields[name]: settings[name] for name in FIELDS}
            async for update in make(settings | {"seed": seed}, request, place):
                yield update

        return play

    def last_made(session: Session) -> dict:
        takes = list(session.takes.values())[-1:]
        return {player: deck_value(takes, roll=True), to_edit: gr.update(visible=bool(takes))}

    def newest(request: gr.Request):
        """After a reload the player shows again what was made last, and the form the words that were last in it."""
        session = desk.session(request)
        settings = [take.settings for take in session.takes.values() if take.settings and "task" not in take.settings]
        words = next((one for one in reversed(settings) if not one.get("score")), {})
        kept = {fields[name]: words[name] for name in ("prompt", *GRID, "unit", "sections") if name in words}
        return last_made(session) | kept

    outputs = [status, player, to_edit, go, cancel]
    options = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    begin = {"fn": None, "outputs": status, "js": BEGIN.format("status"), "show_progress": "hidden"}
    go.click(**begin)
    done = [go.click(from_form, order, outputs, **options)]
    for place, button in enumerate(examples):
        button.click(**begin)
        done.append(button.click(example(place), None, [*outputs, *order], **options))
    cancel.click(canceller(desk), None, None, queue=False, api_visibility="private", show_progress="hidden")
    return SimpleNamespace(
        fields=fields, order=order, more=more, player=player, to_edit=to_edit, done=done, status=status, newest=newest,
        go=go, cancel=cancel,
    )  # fmt: skip


def canceller(desk: Desk):
    """The handler of a Cancel button."""

    def cancel(request: gr.Request) -> None:
        desk.session(request).cancel(request.session_hash)

    return cancel
