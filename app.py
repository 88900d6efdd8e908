"""A page in the browser: words, tempo, bars and chords -> music. Talks only to a pipeline.

python app.py            # checkpoints/small, or the folder or Hub id in VIVACE_MODEL
"""

import gradio as gr
import numpy as np

from page.model import load_model, model_name
from pipelines.generate import quiet_libraries
from pipelines.pipeline_vivace import BPM_RANGE, KEYS

EXAMPLES = [
    ["slow solo piano in A minor, 72 bpm, 4 bars", ""],
    ["calm jazz trio with piano, upright bass and drums, 96 bpm, 4 bars", "Am F C G"],
    ["lively folk dance for flute and guitar in G major, 6/8, 100 bpm, 8 bars", ""],
]


def optional(value: float | str | None) -> float | str | None:
    """An empty field, or 0 in a number field, means: not said."""
    return value if value and str(value).strip() else None


def describe(conditions: dict, seed: int) -> str:
    """What was understood, as one line of Markdown."""
    words = [f"{conditions['bpm']:g} bpm"] if conditions["bpm"] is not None else []
    words += [f"(tempo chosen: {conditions['bpm_reason']})"] if conditions["bpm_reason"] is not None else []
    words += [conditions[name] for name in ("key", "time_signature") if conditions[name] is not None]
    words += [f"{conditions['bars']} bars"] if conditions["bars"] is not None else []
    words += [f"chords {conditions['chords']}"] if conditions["chords"] is not None else []
    return f"**Understood:** {', '.join(words) or 'the words only'}; {conditions['duration_s']:.2f} s; seed {seed}"


def make_app(pipe) -> gr.Blocks:
    """The page around a pipeline object."""

    def generate(
        prompt, negative_prompt, bars, duration_s, bpm, key, time_signature, chords, loop, seed, steps, guidance,
        grid_guidance, tilt_db,
        progress=gr.Progress(),  # noqa: B008 (gradio finds it by this default)
    ):  # fmt: skip
        def show(pipe, step, timestep, tensors):
            progress((step + 1, pipe.num_timesteps), desc="Generating")

        try:
            out = pipe(
                prompt or "",
                negative_prompt=optional(negative_prompt),
                bars=optional(bars),
                duration_s=optional(duration_s),
                bpm=optional(bpm),
                key=optional(key),
                time_signature=optional(time_signature),
                chords=optional(chords),
                loop=loop,
                seed=None if seed is None or seed < 0 else seed,
                num_inference_steps=steps,
                guidance_scale=guidance,
                grid_guidance_scale=optional(grid_guidance),
                tilt_db=tilt_db,
                callback_on_step_end=show,
            )
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error
        samples = np.clip((out.audios[0].T * 32768.0).round(), -32768, 32767).astype(
            np.int16
        )  # gradio would renormalise floats
        return (out.sampling_rate, samples), describe(out.conditions[0], out.seeds[0]), out.seeds[0]

    config = pipe.config
    with gr.Blocks(title="Vivace") as page:
        gr.Markdown(
            "# Vivace\nText to music that is in time and in key. Tempo, key, meter and bars may stand in the prompt."
        )
        with gr.Row():
            with gr.Column():
                prompt = gr.Textbox(label="Prompt", value=EXAMPLES[0][0], lines=2)
                with gr.Row():
                    bars = gr.Number(label="Bars", value=0, minimum=0, precision=0, info="0 = not said")
                    duration_s = gr.Number(label="Seconds", value=0, minimum=0, info="0 = not said")
                    bpm = gr.Number(label="Tempo", value=0, minimum=0, info=f"{BPM_RANGE[0]:g} to {BPM_RANGE[1]:g} bpm")
                with gr.Row():
                    key = gr.Dropdown(["", *KEYS], label="Key", value="")
                    meter = gr.Dropdown(["", "4/4", "3/4", "2/4", "6/8"], label="Meter", value="")
                    chords = gr.Textbox(label="Chords", value="", placeholder="Am F C G", info="one a bar, or Am:2 F:2")
                loop = gr.Checkbox(label="Loop", value=False, info="the end leads into the beginning")
                with gr.Accordion("More", open=False):
                    negative = gr.Textbox(label="Not like", value="")
                    seed = gr.Number(label="Seed", value=-1, precision=0, info="-1 = at random")
                    steps = gr.Slider(1, 100, config.default_num_inference_steps, step=1, label="Steps")
                    guidance = gr.Slider(0, 10, config.default_guidance_scale, step=0.1, label="Guidance")
                    grid_guidance = gr.Slider(
                        0, 10, 0, step=0.1, label="Guidance by tempo, key and chords", info="0 = as above"
                    )
                    tilt = gr.Slider(-12, 12, 0, step=0.5, label="Brightness, dB")
                button = gr.Button("Generate", variant="primary")
            with gr.Column():
                audio = gr.Audio(label="Music", format="wav", buttons=["download"])
                understood = gr.Markdown()
                used_seed = gr.Number(label="Seed used", precision=0, interactive=False)
        fields = [prompt, negative, bars, duration_s, bpm, key, meter, chords, loop, seed, steps, guidance]
        fields += [grid_guidance, tilt]
        button.click(generate, fields, [audio, understood, used_seed], api_name="generate")
        prompt.submit(generate, fields, [audio, understood, used_seed], api_visibility="private")
        gr.Examples(EXAMPLES, [prompt, chords], cache_examples=False)
    return page


def main() -> None:
    quiet_libraries()
    try:
        pipe = load_model(model_name())
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    make_app(pipe).queue().launch()


if __name__ == "__main__":
    main()
