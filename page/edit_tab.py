"""Edit: a piece of this session or an upload; a region made anew, either end extended, or the whole varied."""

import math
from pathlib import Path
from types import SimpleNamespace

import gradio as gr

from pipelines.pipeline_vivace import read_prompt
from pipelines.vivace_music import Lengths
from pipelines.vivace_request import open_source, regions_of_score

from .desk import Desk, done_line, progress_line, refusal, status_line
from .generate_tab import canceller
from .parts import BEGIN, deck, number, status_box
from .request import MAX_PROMPT, MAX_SECONDS, MAX_VARIATIONS, pipeline_arguments, read_score, shown
from .sessions import Session, Take
from .takes import deck_value, keep_output, keep_upload

TASKS = [("Redo region", "anew"), ("Extend", "extended"), ("Vary all", "varied")]
NOTES = ("Change notes", "notes")  # where the network plays notes
FIELDS = (
    "task", "prompt", "negative_prompt", "unit", "before", "after", "strength", "score", "num_waveforms_per_prompt",
    "seed", "guidance_scale",
)  # fmt: skip
STRENGTH = 0.6  # of a variation that is still recognised


def chosen(session: Session, value: object) -> tuple[Take, list[float] | None]:
    """The piece in the player and the region chosen there; what the browser says of them is checked.

    Raises:
        ValueError: no piece of this session.
    """
    value = value if isinstance(value, dict) else {}
    tracks = value.get("tracks")
    first = tracks[0] if isinstance(tracks, list) and tracks and isinstance(tracks[0], dict) else {}
    take = session.find(first.get("id"))
    region = value.get("region")
    numbers = isinstance(region, list) and len(region) == 2 and all(isinstance(v, (int, float)) for v in region)
    return take, [float(v) for v in region] if numbers and all(map(math.isfinite, region)) else None


def in_seconds(name: str, amount: float | None, unit: str, take: Take) -> float:
    """A length of the form in seconds.

    Raises:
        ValueError: bars where no tempo is known, or out of range.
    """
    if not amount:
        return 0.0
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise ValueError(f"{name} is {shown(amount)}; allowed: a number")
    if unit == "bars":
        if take.grid is None:
            raise ValueError(f"{name} is {amount:g} bars, but no beat is known of this piece; give seconds")
        amount = amount * take.grid["beats_per_bar"] * 60.0 / take.grid["bpm"]
    if not 0 <= amount <= MAX_SECONDS:
        raise ValueError(f"{name} is {amount:g} s; allowed: 0 to {MAX_SECONDS:g} s")
    return float(amount)


def edit_arguments(settings: dict, take: Take, region: list[float] | None, config) -> tuple[dict, dict | None, list]:
    """Arguments of the pipeline, the beats of the result, and the stretches that are made anew.

    Of the settings `score` is a `Score` or the name of a MIDI file.

    Raises:
        ValueError: one line.
    """
    conditions, grid, task = take.conditions or {}, take.grid, settings["task"]
    own_fields = ("task", "unit", "before", "after", "strength", "score")
    arguments = {name: settings[name] for name in FIELDS if name not in own_fields}
    read = read_prompt(settings["prompt"] or "")  # the new words come before the conditions of the piece
    own = {name: conditions.get(name) for name in ("key", "time_signature")} | (
        {} if grid is None else {"bpm": grid["bpm"]}
    )
    arguments["loras"] = (take.settings or {}).get("loras")  # an edit sounds as the piece does
    arguments |= {"audio": str(take.path)} | {name: value for name, value in own.items() if read[name] is None}
    if "bpm" in arguments:
        arguments["downbeat_s"] = grid["downbeat_s"]
    made = []
    if task == "anew":
        if region is None:
            raise ValueError("no region is chosen; drag over the waveform, or type From and To below it")
        arguments |= {"mask_s": [tuple(region)], "chords": conditions.get("chords")}
        made = [tuple(region)]
    elif task == "extended":
        before, after = (in_seconds(name, settings[name], settings["unit"], take) for name in ("before", "after"))
        if not before and not after:
            raise ValueError("before and after are 0; say how much to add on at least one side")
        if before + take.seconds + after > MAX_SECONDS:
            raise ValueError(f"the piece would last {before + take.seconds + after:.1f} s; allowed: {MAX_SECONDS:g} s")
        arguments["extend_s"] = (before, after)
        arguments["chords"] = None if before else conditions.get("chords")
        ends = [(0.0, before), (before + take.seconds, before + take.seconds + after)]
        made = [(first, last) for first, last in ends if last > first]
        if grid is not None:
            bar = grid["beats_per_bar"] * 60.0 / grid["bpm"]
            grid = grid | {"downbeat_s": (grid["downbeat_s"] + before) % bar}
    elif task == "varied":
        arguments |= {"strength": settings["strength"], "chords": conditions.get("chords")}
    elif task == "notes":
        if not settings.get("score"):
            raise ValueError("score is missing: the MIDI file of the piece, with the notes as they are to be")
        score = read_score(settings["score"])
        arguments = {name: value for name, value in arguments.items() if name != "downbeat_s"}
        grid_of_score = {name: getattr(score, name) for name in ("bpm", "time_signature", "key")}
        arguments |= {"score": score} | grid_of_score  # before the words; the rest comes with the piece's file
        lengths = Lengths(config.default_duration_s, MAX_SECONDS)
        made = regions_of_score(score, *open_source(str(take.path), None), lengths)
    else:
        raise ValueError(f"task is {task!r}; allowed: {', '.join(name for _, name in [*TASKS, NOTES])}")
    return pipeline_arguments(arguments, config), grid, made


def form(config, notes: bool) -> dict[str, gr.components.Component]:
    """The fields, by their names; `notes`: whether the network plays them."""
    fields = {}
    fields["task"] = gr.Radio([*TASKS, NOTES] if notes else TASKS, label="What to do", value="anew", elem_id="task")
    fields["prompt"] = gr.Textbox(
        label="What should the new part sound like?", lines=2, max_lines=6, max_length=MAX_PROMPT,
        placeholder="as before, with a flute", elem_classes=["prompt", "field-prompt"],
    )  # fmt: skip
    with gr.Row(visible=False, elem_classes="tight") as extent:
        fields["before"] = number("before", "Add before", value=0, min_width=80)
        fields["after"] = number("after", "Add after", value=4, min_width=80)
        fields["unit"] = gr.Radio(["bars", "seconds"], label="Unit", value="bars", min_width=215, scale=2)
    with gr.Row(visible=False) as amount:
        fields["strength"] = gr.Slider(
            0,
            1,
            STRENGTH,
            step=0.05,
            label="Strength",
            info="0 leaves all as it is, 1 leaves nothing",
            buttons=["reset"],
        )
    fields["score"] = gr.File(
        label="MIDI file: the piece's own, downloaded from the history and changed", file_types=[".mid", ".midi"],
        height=110, visible=False, elem_classes="field-score",
    )  # fmt: skip
    fields["task"].change(
        lambda task: [gr.update(visible=task == name) for name in ("extended", "varied", "notes")],
        fields["task"], [extent, amount, fields["score"]], queue=False, api_visibility="private",
        show_progress="hidden",
    )  # fmt: skip
    with gr.Accordion("More", open=False, elem_classes="more") as more:
        fields["negative_prompt"] = gr.Textbox(
            label="What it should not sound like", value="", max_length=MAX_PROMPT, elem_classes="field-negative_prompt"
        )
        fields["num_waveforms_per_prompt"] = gr.Slider(1, MAX_VARIATIONS, 1, step=1, label="Variations", buttons=[])
        fields["seed"] = number("seed", "Seed", placeholder="a new one each time")
        fields["guidance_scale"] = gr.Slider(
            0, 10, config.default_guidance_scale, step=0.1, label="Guidance", buttons=["reset"]
        )
    return fields | {"more": more}


def make_tab(desk: Desk) -> SimpleNamespace:
    """The tab's components."""
    config = desk.pipe.config
    with gr.Row(elem_classes="tight", elem_id="bring"):
        gr.HTML("<p>Choose a piece in the history, or upload one.</p>", apply_default_css=False)
        upload = gr.UploadButton(
            "Upload audio", file_types=[".wav", ".flac", ".mp3", ".ogg", ".aiff", ".m4a", ".webm"], size="sm",
            elem_id="upload", scale=0, min_width=150,
        )  # fmt: skip
    source = deck("Upload a file, or choose Edit beside a piece in the history.", "source")
    with gr.Row(equal_height=False, elem_classes="desk"):
        with gr.Column(scale=5, min_width=300):
            fields = form(config, desk.plays_notes)
            more = fields.pop("more")
            go = gr.Button("Make the change", variant="primary", elem_classes="go", elem_id="apply")
        with gr.Column(scale=7, min_width=300, elem_classes="outcome"):
            status, cancel = status_box("edit-status", "edit-cancel")
            result = deck("The result appears here, beside the original for comparison.", "result")
            further = gr.Button("Go on from the result", visible=False, size="sm")
    order = [fields[name] for name in FIELDS]
    idle = {go: gr.update(interactive=True), cancel: gr.update(visible=False)}

    def receive(path: str, request: gr.Request):
        """An uploaded file becomes a piece of the session."""
        try:
            take = keep_upload(desk.session(request), path, Path(path).name)
        except ValueError as error:
            return {status: refusal(error)}
        return {source: deck_value([take], selectable=True), status: status_line("Uploaded", "quiet")}

    async def from_form(request: gr.Request, value: dict, *values):
        """Updates while the change is made."""
        settings, session = dict(zip(FIELDS, values, strict=True)), desk.session(request)
        yield {status: status_line("Listening to the original", "busy", 0.0), go: gr.update(interactive=False),
               cancel: gr.update(visible=True)}  # fmt: skip
        try:
            take, region = chosen(session, value)
            settings["prompt"] = settings["prompt"] or (take.title if take.settings else "")
            arguments, grid, made = edit_arguments(settings, take, region, config)
            settings |= {"source": take.id, "region": region, "loras": (take.settings or {}).get("loras")}

            def keep(session, output):
                loop = take.loop and settings["task"] != "extended"
                return keep_output(session, output, settings, settings["task"], grid, made, loop)

            async for news in desk.run(request, arguments, keep):
                if news.output is None:
                    yield {status: progress_line(news)}
            takes = news.kept
        except Exception as error:
            yield {status: refusal(error), **idle}
            return
        labels = ["Original", *(f"Result {i + 1}" if len(takes) > 1 else "Result" for i in range(len(takes)))]
        shown = deck_value([take, *takes], labels) | {"current": 1}
        yield {status: done_line(takes), result: shown, further: gr.update(visible=True), **idle}

    def go_on(value: dict, request: gr.Request):
        """The result that is chosen in the player becomes the original."""
        tracks, current = value.get("tracks", []), value.get("current", 1)
        take = desk.session(request).find(tracks[min(max(int(current), 1), len(tracks) - 1)]["id"])
        return deck_value([take], selectable=True)

    quick = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    go.click(None, None, status, js=BEGIN.format("edit-status"), show_progress="hidden")
    received = upload.upload(receive, upload, [source, status], **(quick | {"queue": True}))
    done = go.click(
        from_form, [source, *order], [status, result, further, go, cancel],
        api_visibility="private", show_progress="hidden", concurrency_limit=None,
    )  # fmt: skip
    further.click(go_on, result, source, **quick)
    cancel.click(canceller(desk), None, None, **quick)
    return SimpleNamespace(fields=fields, order=order, more=more, source=source, done=[done, received], status=status)
