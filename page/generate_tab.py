"""Generate: words, a grid and a seed -> up to four pieces."""

import asyncio
from types import SimpleNamespace

import gradio as gr

from pipelines.pipeline_vivace import BPM_RANGE, KEYS

from .desk import Desk, progress_line, refusal, status_line
from .examples import EXAMPLES
from .jobs import Cancelled
from .parts import deck
from .request import MAX_PROMPT, MAX_SEED, MAX_STEPS, MAX_VARIATIONS, pipeline_arguments
from .takes import deck_value, keep_output

METERS = ["4/4", "3/4", "2/4", "5/4", "7/8", "6/8", "12/8"]
FIELDS = (
    "prompt", "negative_prompt", "unit", "length", "bpm", "key", "time_signature", "chords", "loop",
    "num_waveforms_per_prompt", "seed", "num_inference_steps", "guidance_scale", "grid_guidance_scale", "tilt_db",
)  # fmt: skip


def blank(config) -> dict:
    """The settings of an untouched form."""
    return dict.fromkeys(FIELDS) | {
        "prompt": "", "negative_prompt": "", "unit": "bars", "key": "", "time_signature": "", "chords": "",
        "loop": False, "seed": -1, "grid_guidance_scale": 0, "num_waveforms_per_prompt": 1,
        "num_inference_steps": config.default_num_inference_steps,
        "guidance_scale": config.default_guidance_scale, "tilt_db": 0,
    }  # fmt: skip


def arguments_of(settings: dict, config) -> dict:
    """The form's settings as arguments of the pipeline.

    Raises:
        ValueError: see `pipeline_arguments`.
    """
    asked = dict(settings)
    unit, length = asked.pop("unit"), asked.pop("length")
    asked["bars" if unit == "bars" else "duration_s"] = length
    for name in ("bars", "duration_s", "bpm", "grid_guidance_scale", "tilt_db"):
        asked[name] = asked.get(name) or None  # an empty number field, or 0 in it, means: not said
    return pipeline_arguments(asked, config)


def form(config) -> dict[str, gr.components.Component]:
    """The fields, by their names."""
    first, fields = blank(config), {}
    fields["prompt"] = gr.Textbox(
        label="What should it sound like?", value=EXAMPLES[0][1]["prompt"], lines=2, max_lines=6,
        placeholder="slow solo piano in A minor, 72 bpm, 4 bars", max_length=MAX_PROMPT, elem_classes="prompt",
    )  # fmt: skip
    with gr.Row(elem_classes="tight"):
        fields["length"] = gr.Number(
            label="Length", value=4, minimum=0, placeholder="as said", min_width=80, elem_id="length"
        )
        fields["unit"] = gr.Radio(["bars", "seconds"], label="Unit", value="bars", min_width=215, scale=2)
    with gr.Row(elem_classes="tight"):
        fields["bpm"] = gr.Number(
            label="Tempo, bpm", value=72, placeholder=f"{BPM_RANGE[0]:g} to {BPM_RANGE[1]:g}", min_width=90
        )
        fields["key"] = gr.Dropdown([("any", ""), *((key, key) for key in KEYS)], label="Key", value="", min_width=110)
        fields["time_signature"] = gr.Dropdown(
            [("as said", ""), *((meter, meter) for meter in METERS)],
            label="Meter", value="", min_width=110,
        )  # fmt: skip
    fields["chords"] = gr.Textbox(
        label="Chords", value="", placeholder="Am F C G", info="one a bar, or Am:2 F:2 with beats; repeated",
        max_length=MAX_PROMPT,
    )  # fmt: skip
    with gr.Row(elem_classes="tight"):
        fields["loop"] = gr.Checkbox(label="Seamless loop", value=False, min_width=140)
        fields["num_waveforms_per_prompt"] = gr.Slider(
            1, MAX_VARIATIONS, 1, step=1, label="Variations", buttons=[], min_width=140
        )
    with gr.Accordion("More", open=False, elem_classes="more"):
        fields["negative_prompt"] = gr.Textbox(label="What it should not sound like", value="", max_length=MAX_PROMPT)
        fields["seed"] = gr.Number(
            label="Seed", value=-1, precision=0, minimum=-1, maximum=MAX_SEED,
            info="the same seed and settings give the same piece; -1 is at random",
        )  # fmt: skip
        fields["guidance_scale"] = gr.Slider(
            0, 10, first["guidance_scale"], step=0.1, label="Guidance", info="how strictly to follow the request",
            buttons=["reset"],
        )  # fmt: skip
        fields["grid_guidance_scale"] = gr.Number(
            label="Guidance by tempo, key and chords", value=0, minimum=0, maximum=10, info="0 is as above"
        )
        fields["num_inference_steps"] = gr.Slider(
            1, MAX_STEPS, first["num_inference_steps"], step=1, label="Steps", buttons=["reset"]
        )
        fields["tilt_db"] = gr.Slider(-12, 12, 0, step=0.5, label="Brightness, dB", buttons=["reset"])
    return fields


def make_tab(desk: Desk) -> SimpleNamespace:
    """The tab's components; `done` are the events after which a new piece may be in the history."""
    config = desk.pipe.config
    with gr.Row(equal_height=False, elem_classes="desk"):
        with gr.Column(scale=5, min_width=300):
            fields = form(config)
            with gr.Row(elem_classes="tight"):
                go = gr.Button("Generate", variant="primary", elem_classes="go", elem_id="generate")
                cancel = gr.Button("Cancel", variant="stop", elem_classes="cancel", visible=False, elem_id="cancel")
            with gr.Row(elem_classes="examples"):
                examples = [gr.Button(name, size="sm", min_width=60) for name, _ in EXAMPLES]
        with gr.Column(scale=7, min_width=300):
            status = gr.HTML(status_line(), elem_id="status")
            player = deck("Press Generate, or Enter in the text field. An example below plays at once.", "deck")
            to_edit = gr.Button("Edit this piece", visible=False, size="sm", elem_id="to-edit")
    order = [fields[name] for name in FIELDS]
    idle = {go: gr.update(interactive=True), cancel: gr.update(visible=False)}

    async def make(settings: dict, request: gr.Request, place: int | None = None):
        """Updates while a piece is made and when it is done."""
        yield {status: status_line("Reading the request", "busy", 0.0), go: gr.update(interactive=False),
               cancel: gr.update(visible=True)}  # fmt: skip
        try:
            arguments, output = arguments_of(settings, config), desk.heard.get(place)
            if output is None:
                async for news in desk.run(request, arguments):
                    if news.output is None:
                        yield {status: progress_line(news)}
                    output = news.output
                if place is not None:
                    desk.heard[place] = output
            kind = "loop" if settings["loop"] else "made"
            takes = await asyncio.to_thread(keep_output, desk.session(request), output, settings, kind)
        except (ValueError, Cancelled) as error:
            yield {status: refusal(error), **idle}
            return
        done = "Done" if len(takes) == 1 else f"Done: {len(takes)} variations"
        yield {status: status_line(done, "quiet"), player: deck_value(takes), to_edit: gr.update(visible=True), **idle}

    async def from_form(request: gr.Request, *values):
        async for update in make(dict(zip(FIELDS, values, strict=True)), request):
            yield update

    def example(place: int):
        async def play(request: gr.Request):
            settings = blank(config) | EXAMPLES[place][1]
            yield {fields[name]: settings[name] for name in FIELDS}
            async for update in make(settings, request, place):
                yield update

        return play

    outputs = [status, player, to_edit, go, cancel]
    options = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
    done = [go.click(from_form, order, outputs, **options)]
    for place, button in enumerate(examples):
        done.append(button.click(example(place), None, [*outputs, *order], **options))
    cancel.click(canceller(desk), None, None, queue=False, api_visibility="private", show_progress="hidden")
    return SimpleNamespace(fields=fields, order=order, player=player, to_edit=to_edit, done=done, status=status)


def canceller(desk: Desk):
    """The handler of a Cancel button."""

    def cancel(request: gr.Request) -> None:
        desk.session(request).cancel()

    return cancel
