"""About: which checkpoint plays, its card, licence and figures, the keys and the endpoints."""

from pathlib import Path

import gradio as gr

from pipelines.card import front_matter

from .desk import Desk
from .model import find_folder

KEYS = """### Keys

| key | where | what it does |
|---|---|---|
| Enter, Ctrl + Enter | prompt, anywhere | make the piece or the change |
| Shift + Enter | prompt | a new line |
| Esc | anywhere | cancel |
| Space | anywhere but in a field | play and pause |
| Left, Right | player | a beat back or forward |
| Shift + Left, Right | player in Edit | shrink or grow the region by a beat |
| L, Home, 1 to 4 | player | loop on or off, to the beginning, another take |
| M | player | a click on each beat, on or off |
| comma, full stop | notes of a part | the note before, the next one |
| arrows, Shift + arrows | chosen note | move it; make it longer or shorter |
| Enter, Delete | notes of a part | a new note at the playhead; remove the chosen one |
| Ctrl + Z, Ctrl + Y | notes of a part | undo, redo |
"""
API = """### From a program

Endpoints with the argument names of the pipeline; [gradio_api/info](gradio_api/info) describes
them all, and so does "Use via API" below on a wide screen.

```python
from gradio_client import Client, handle_file

client = Client(URL)
files, about = client.predict(prompt="calm jazz trio", bars=4, bpm=96, seed=7, api_name="/generate")
files, about = client.predict(prompt="flute", audio=handle_file(files[0]), mask_s=[[2, 4]], api_name="/edit")
```

```sh
ID=$(curl -s $URL/gradio_api/call/v2/generate -H 'Content-Type: application/json' \\
     -d '{"prompt": "calm jazz trio", "bars": 4, "bpm": 96}' | cut -d'"' -f4)
curl -sN $URL/gradio_api/call/generate/$ID
```
"""


SHARED = """### Yours alone

What you make and upload here is kept for this browser only, can be heard by nobody else, and is removed an hour after
your last action, or ten minutes after you close the page.
"""
OWN = """### Yours alone

What you make and upload here is found again by this browser, after a reload too, until the page's server ends.
"""
KEPT = """### Yours alone

What you make and upload here is found again by this browser, also when the page is started again. It is in the folder
`{folder}`; what you remove in the history is deleted there when the page ends. The variable `VIVACE_TAKES` names
another folder, an empty one keeps nothing.
"""


def card(folder: Path | None) -> str:
    """The checkpoint's card without its front matter."""
    path = None if folder is None else folder / "README.md"
    if path is None or not path.is_file():
        return "The checkpoint has no card here."
    text = path.read_text()
    if text.startswith("---"):
        text = text.split("---", 2)[-1]
    return text.strip().replace("\n# ", "\n### ").removeprefix("# ").strip()


def licence(folder: Path | None) -> str:
    """Of the weights, from the card's front matter."""
    head = {} if folder is None else front_matter(folder)
    return head.get("license") or "see the model's card"


def parts(pipe, folder: Path | None) -> str:
    """What is loaded."""
    config = pipe.vae.config
    total = sum(p.numel() for name in ("vae", "unet", "text_encoder") for p in getattr(pipe, name).parameters())
    channels = {1: "mono", 2: "stereo"}.get(config.audio_channels, f"{config.audio_channels} channels")
    facts = {
        "licence": licence(folder),
        "parameters": f"{total / 1e6:.1f} million",
        "sound": f"{config.sampling_rate / 1000:g} kHz, {channels}",
        "latents": f"{config.latent_channels} channels, {pipe.frame_rate:g} frames a second",
        "steps, guidance": f"{pipe.config.default_num_inference_steps}, {pipe.config.default_guidance_scale:g}",
        "runs on": str(pipe.device),
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])


def make_tab(desk: Desk) -> None:
    folder = find_folder(desk.model)
    with gr.Row(equal_height=False, elem_classes="desk about"):
        with gr.Column(scale=7, min_width=300):
            words = card(folder).removeprefix(f"{desk.model}\n")  # a card that begins with the name says it twice
            gr.Markdown(f"## {desk.model}\n\n{parts(desk.pipe, folder)}\n\n{words}")
        with gr.Column(scale=5, min_width=300):
            kept = desk.sessions.kept
            gr.Markdown(KEPT.format(folder=kept) if kept else OWN if desk.sessions.own else SHARED)
            gr.Markdown(KEYS)
            gr.Markdown(API)
