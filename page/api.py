"""Named endpoints for programs: the arguments are the pipeline's own, by their names, with their defaults."""

import inspect

import gradio as gr

from .desk import Desk
from .jobs import Cancelled
from .request import MAX_SECONDS, pipeline_arguments
from .takes import check_upload

FORMATS = ("wav", "flac")


TEXTS = ("negative_prompt", "key", "time_signature", "chords")
WHOLE = ("bars", "seed", "num_inference_steps")
NUMBERS = ("duration_s", "bpm", "guidance_scale", "grid_guidance_scale", "tilt_db", "strength", "downbeat_s")


def hidden(kind: type, name: str, **options):
    """A component that only programs see, made when called; its value is the argument's default."""
    return lambda: kind(visible=False, label=name, **options)


COMPONENTS = {
    "prompt": hidden(gr.Textbox, "prompt"),
    "loop": hidden(gr.Checkbox, "loop", value=False),
    "audio": hidden(gr.File, "audio"),
    "num_waveforms_per_prompt": hidden(gr.Number, "num_waveforms_per_prompt", value=1, precision=0),
    "audio_format": hidden(gr.Textbox, "audio_format", value="wav"),
    "mask_s": hidden(gr.JSON, "mask_s"),
    "extend_s": hidden(gr.JSON, "extend_s"),
}
COMPONENTS |= {name: hidden(gr.Textbox, name, value=None) for name in TEXTS}
COMPONENTS |= {name: hidden(gr.Number, name, value=None, precision=0) for name in WHOLE}
COMPONENTS |= {name: hidden(gr.Number, name, value=None) for name in NUMBERS}
ASKED = set(COMPONENTS) - {"audio_format"}


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

    async def answer(request: gr.Request, asked: dict, audio_format: str) -> tuple[list[str], dict]:
        output = None
        try:
            if audio_format not in FORMATS:
                raise ValueError(f"audio_format is {str(audio_format)[:20]!r}; allowed: {', '.join(FORMATS)}")
            async for news in desk.run(request, pipeline_arguments(asked, desk.pipe.config)):
                output = news.output
        except (ValueError, Cancelled) as error:
            raise gr.Error(" ".join(str(error).split()) or "cancelled", print_exception=False) from error
        folder = desk.session(request).answer()
        paths = [str(folder / f"vivace-{seed}-{index}.{audio_format}") for index, seed in enumerate(output.seeds)]
        for index, path in enumerate(paths):
            output.save(path, index)
        known = [item | {"duration_s": float(item["duration_s"])} for item in output.conditions]
        return paths, {"seeds": output.seeds, "conditions": known}

    async def generate(
        prompt, negative_prompt=None, bars=None, duration_s=None, bpm=None, key=None, time_signature=None, chords=None,
        loop=False, num_waveforms_per_prompt=1, seed=None, num_inference_steps=None, guidance_scale=None,
        grid_guidance_scale=None, tilt_db=None, audio_format="wav", request: gr.Request = None,
    ):  # fmt: skip
        """Music from words. The first result lists the files, the second tells seeds and what was understood."""
        asked = {name: value for name, value in locals().items() if name in ASKED}
        return await answer(request, asked, audio_format)

    async def edit(
        prompt, audio, mask_s=None, extend_s=None, strength=None, negative_prompt=None, bpm=None, key=None,
        time_signature=None, chords=None, downbeat_s=None, num_waveforms_per_prompt=1, seed=None,
        num_inference_steps=None, guidance_scale=None, audio_format="wav", request: gr.Request = None,
    ):  # fmt: skip
        """Parts of `audio` made anew (`mask_s`), its ends extended (`extend_s`), or all of it varied (`strength`)."""
        asked = {name: value for name, value in locals().items() if name in ASKED}
        try:
            asked |= check_edit(audio, mask_s, extend_s)
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return await answer(request, asked, audio_format)

    def fields(function) -> list[gr.components.Component]:
        return [COMPONENTS[name]() for name in inspect.signature(function).parameters if name != "request"]

    for function in (generate, edit):
        outputs = [gr.File(visible=False, file_count="multiple", label="files"), gr.JSON(visible=False, label="about")]
        gr.Button(visible=False).click(
            function, fields(function), outputs, api_name=function.__name__, concurrency_limit=None,
            show_progress="hidden",
        )  # fmt: skip
