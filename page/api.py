"""Named endpoints for programs: the arguments are the pipeline's own, by their names, with their defaults."""

import inspect

import gradio as gr

from .desk import Desk
from .jobs import Cancelled
from .request import MAX_SECONDS, pipeline_arguments, shown
from .sessions import Session
from .takes import check_upload

FORMATS = ("wav", "flac", "mp3", "ogg")
NOTES = ("score", "parts", "stems", "midi")  # of a model that plays notes


# name: (kind, description for the API panel, an example)
ARGUMENTS = {
    "prompt": (gr.Textbox, "What it should sound like. Tempo, key, meter and length in it are followed, unless an "
               "argument says otherwise.", "calm jazz trio with piano, 96 bpm, 4 bars"),
    "negative_prompt": (gr.Textbox, "What it should not sound like.", None),
    "bars": (gr.Number, "Length in bars, a whole number. None = as in the words.", 4),
    "duration_s": (gr.Number, f"Length in seconds, in place of bars: 0.5 to {MAX_SECONDS:g}. None = as in the words.",
                   None),
    "bpm": (gr.Number, "Tempo in beats a minute, 20 to 300. None = as in the words.", 96),
    "key": (gr.Textbox, "As in 'A minor' or 'Bb major'. None = as in the words.", "A minor"),
    "time_signature": (gr.Textbox, "As in '4/4', '3/4' or '6/8'. None = as in the words.", None),
    "chords": (gr.Textbox, "As in 'Am F C G', each one bar, or 'Am:2 F:2' with beats; repeated to the end.", None),
    "loop": (gr.Checkbox, "Whether the end leads into the beginning. None = as in the words.", None),
    "audio": (gr.File, "What to edit: WAV, FLAC, OGG, MP3, AIFF, M4A or WebM, as handle_file('loop.wav').", None),
    "mask_s": (gr.JSON, "Regions [start, end] in seconds to make anew; the rest stays bit for bit.", [[4.0, 6.0]]),
    "extend_s": (gr.JSON, "Seconds to add [before, after] the audio.", None),
    "strength": (gr.Number, "How much of all the audio is made anew: 0 leaves it as it is, 1 leaves nothing.", None),
    "downbeat_s": (gr.Number, "Time in seconds of a first beat of a bar in the audio. None = as heard there.", None),
    "num_waveforms_per_prompt": (gr.Number, "Pieces to make, 1 to 4, with the seeds seed, seed + 1, ...", 1),
    "seed": (gr.Number, "The same seed and arguments give the same piece. None = at random; it is in the answer.", 7),
    "num_inference_steps": (gr.Number, "Steps, 1 to 100. None = the model's.", None),
    "guidance_scale": (gr.Number, "How strictly to follow the request. None = the model's, up to 1 = off.", None),
    "grid_guidance_scale": (gr.Number, "How strictly to follow tempo, key, meter, length and chords. None = as "
                            "guidance_scale.", None),
    "tilt_db": (gr.Number, "Brightness: dB from 100 Hz to 10 kHz.", None),
    "score": (gr.File, "MIDI file with the notes to play, as handle_file('tune.mid'); of an edit, what the audio is to "
              "play: the bars that differ are made anew.", None),
    "melody": (gr.File, "MIDI file whose lead is the melody; the rest is composed to it.", None),
    "parts": (gr.JSON, "Play these alone: lead, harmony, bass, drums. None = all.", ["bass", "drums"]),
    "stems": (gr.Checkbox, "Whether to give each part of the score alone too; their sum is the piece.", False),
    "midi": (gr.Checkbox, "Whether to give the notes as MIDI files too, where they are known.", False),
    "loras": (gr.JSON, "LoRA adapters that play, each with its strength; 0 = off. None = as the page was started.",
              ["mine:0.8"]),
    "audio_format": (gr.Textbox, "wav, flac, mp3 or ogg.", "wav"),
}  # fmt: skip
ADAPTED = ("loras",)  # of one with LoRA adapters
COMPOSED = ("melody",)  # of one that writes them, too
WHOLE = ("bars", "seed", "num_inference_steps", "num_waveforms_per_prompt")
DEFAULTS = {"num_waveforms_per_prompt": 1, "audio_format": "wav", "stems": False, "midi": False}
ASKED = set(ARGUMENTS) - {"audio_format", "midi"}


def argument(name: str) -> gr.components.Component:
    """A component that only programs see. What they send is handed on as it is and checked with the request."""
    kind, description, example = ARGUMENTS[name]
    block = kind(visible=False, label=name, value=DEFAULTS.get(name))
    block.value = DEFAULTS.get(name)  # a checkbox too can be None
    info = block.api_info() | ({"type": "integer"} if name in WHOLE else {})
    block.api_info = block.api_info_as_input = lambda: info | {"additional_description": description}
    if kind is not gr.File:
        block.preprocess = lambda payload: payload
        block.example_payload = block.example_value = lambda: example
    return block


def check_format(audio_format: object) -> None:
    """Raise a ValueError for a file format that is not written."""
    if audio_format not in FORMATS:
        raise ValueError(f"audio_format is {shown(audio_format)}; allowed: {', '.join(FORMATS)}")


def check_call(desk: Desk, name: str, values: dict) -> None:
    """Raise a ValueError, in words, for a call by name that cannot come to anything."""
    allowed = desk.endpoints[name]
    for key in values:
        if key not in allowed:
            raise ValueError(f"{shown(key)} is no argument of /{name}; allowed: {', '.join(allowed)}")
    for key in ("prompt", "audio"):
        if key in allowed and values.get(key) is None:
            raise ValueError(f"{key} is missing; /{name} needs it")
    check_format(values.get("audio_format", "wav"))
    pipeline_arguments({key: value for key, value in values.items() if key in ASKED}, desk.pipe.config)


def check_edit(audio: str | None, mask_s: object, extend_s: object) -> dict:
    """The arguments that an edit needs.

    Raises:
        ValueError: no audio, one that will not do, or an extension beyond what the page allows.
    """
    if not audio:
        raise ValueError("audio is missing; give a file, as in handle_file('loop.wav')")
    check_upload(audio)
    ends = extend_s or (0, 0)
    if not isinstance(ends, (list, tuple)) or not all(isinstance(v, (int, float)) and v <= MAX_SECONDS for v in ends):
        raise ValueError(f"extend_s is {str(extend_s)[:60]}; allowed: two numbers of up to {MAX_SECONDS:g} s")
    if mask_s is not None and (not isinstance(mask_s, list) or len(mask_s) > 100):
        raise ValueError("mask_s is no list of up to 100 regions, as in [[4.0, 6.0]]")
    return {"audio": str(audio), "mask_s": mask_s, "extend_s": extend_s}


def add_endpoints(desk: Desk) -> None:
    """`/generate` and `/edit`; both give the files and what was understood."""

    async def answer(
        request: gr.Request, values: dict, audio_format: str, midi: bool = False
    ) -> tuple[list[str], dict]:
        def keep(session: Session, output) -> list[str]:
            folder = session.answer()
            paths = [str(folder / f"vivace-{seed}-{index}.{audio_format}") for index, seed in enumerate(output.seeds)]
            for index, path in enumerate(paths):
                scores, stems = (getattr(output, name, None) for name in ("scores", "stems"))
                beside = {"midi": midi is True and scores and scores[index], "stems": stems}
                output.save(path, index, **{name: True for name, wanted in beside.items() if wanted})
            return paths + sorted(str(path) for path in folder.iterdir() if str(path) not in paths)

        try:
            check_format(audio_format)
            async for news in desk.run(request, pipeline_arguments(values, desk.pipe.config), keep):
                output, paths = news.output, news.kept
        except (ValueError, Cancelled) as error:
            raise gr.Error(" ".join(str(error).split()) or "cancelled", print_exception=False) from error
        conditions = [item | {"duration_s": float(item["duration_s"])} for item in output.conditions]
        return paths, {"seeds": output.seeds, "conditions": conditions}

    async def generate(
        prompt, negative_prompt=None, bars=None, duration_s=None, bpm=None, key=None, time_signature=None, chords=None,
        loop=None, num_waveforms_per_prompt=1, seed=None, num_inference_steps=None, guidance_scale=None,
        grid_guidance_scale=None, tilt_db=None, audio_format="wav", score=None, parts=None, stems=False, midi=False,
        melody=None, loras=None, request: gr.Request = None,
    ):  # fmt: skip
        """Music from words. The first result lists the files, pieces first, the second tells seeds and what was
        understood."""
        values = {name: value for name, value in locals().items() if name in ASKED}
        return await answer(request, values, audio_format, midi)

    async def edit(
        prompt, audio, mask_s=None, extend_s=None, strength=None, negative_prompt=None, bpm=None, key=None,
        time_signature=None, chords=None, downbeat_s=None, num_waveforms_per_prompt=1, seed=None,
        num_inference_steps=None, guidance_scale=None, audio_format="wav", score=None, midi=False,
        loras=None, request: gr.Request = None,
    ):  # fmt: skip
        """Parts of `audio` made anew (`mask_s`), its ends extended (`extend_s`), or all of it varied (`strength`)."""
        values = {name: value for name, value in locals().items() if name in ASKED}
        try:
            values |= check_edit(audio, mask_s, extend_s)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return await answer(request, values, audio_format, midi)

    for function in (generate, edit):
        names = [name for name in inspect.signature(function).parameters if name != "request"]
        names = [name for name in names if desk.plays_notes or name not in NOTES]
        names = [name for name in names if desk.composes or name not in COMPOSED]
        names = [name for name in names if desk.loras or name not in ADAPTED]
        desk.endpoints[function.__name__] = names
        outputs = [gr.File(visible=False, file_count="multiple", label="files"), gr.JSON(visible=False, label="about")]
        gr.Button(visible=False).click(
            function, [argument(name) for name in names], outputs, api_name=function.__name__, concurrency_limit=None,
            show_progress="hidden",
        )  # fmt: skip
