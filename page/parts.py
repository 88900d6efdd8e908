"""Looks and the components that are drawn by the page's own scripts; nothing is fetched from elsewhere."""

import html
from pathlib import Path

import gradio as gr

from .desk import status_line

STATIC = Path(__file__).resolve().parent / "static"
SCRIPTS = ("page.js", "sound.js", "roll.js", "deck.js", "takes.js")
SANS = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "DejaVu Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]

# name: (light, dark)
COLOURS = {
    "body_background_fill": ("#faf8f4", "#161714"),
    "background_fill_primary": ("#ffffff", "#1e201c"),
    "background_fill_secondary": ("#f3efe8", "#232520"),
    "body_text_color": ("#25231f", "#ece8de"),
    "body_text_color_subdued": ("#6a655b", "#a8a294"),
    "block_background_fill": ("transparent", "transparent"),
    "block_label_background_fill": ("transparent", "transparent"),
    "block_label_text_color": ("#4a463e", "#c9c3b4"),
    "block_title_text_color": ("#4a463e", "#c9c3b4"),
    "block_info_text_color": ("#6a655b", "#a8a294"),
    "border_color_primary": ("#ded8cc", "#383a33"),
    "border_color_accent": ("#1d6b60", "#74c9b8"),
    "color_accent_soft": ("#dcebe7", "#26403a"),
    "input_background_fill": ("#ffffff", "#1e201c"),
    "input_background_fill_focus": ("#ffffff", "#1e201c"),
    "input_border_color": ("#cdc6b8", "#45473f"),
    "input_border_color_focus": ("#1d6b60", "#74c9b8"),
    "input_placeholder_color": ("#6f695e", "#9a9486"),
    "button_primary_background_fill": ("#1d6b60", "#74c9b8"),
    "button_primary_background_fill_hover": ("#17574e", "#8bd6c7"),
    "button_primary_text_color": ("#ffffff", "#10201c"),
    "button_primary_border_color": ("#1d6b60", "#74c9b8"),
    "button_secondary_background_fill": ("#ffffff", "#262822"),
    "button_secondary_background_fill_hover": ("#f3efe8", "#31342c"),
    "button_secondary_text_color": ("#25231f", "#ece8de"),
    "button_secondary_border_color": ("#cdc6b8", "#45473f"),
    "button_cancel_background_fill": ("#ffffff", "#262822"),
    "button_cancel_background_fill_hover": ("#fbeae5", "#40261f"),
    "button_cancel_text_color": ("#9c3218", "#f0a38d"),
    "button_cancel_border_color": ("#d8a393", "#7a4436"),
    "checkbox_background_color": ("#ffffff", "#1e201c"),
    "checkbox_background_color_selected": ("#1d6b60", "#74c9b8"),
    "checkbox_border_color": ("#b5ad9d", "#5a5c52"),
    "checkbox_border_color_selected": ("#1d6b60", "#74c9b8"),
    "checkbox_label_background_fill": ("#ffffff", "#1e201c"),
    "checkbox_label_background_fill_selected": ("#dcebe7", "#26403a"),
    "checkbox_label_text_color": ("#25231f", "#ece8de"),
    "checkbox_label_text_color_selected": ("#123f39", "#d7f0ea"),
    "checkbox_label_border_color": ("#cdc6b8", "#45473f"),
    "slider_color": ("#1d6b60", "#74c9b8"),
    "link_text_color": ("#1d6b60", "#74c9b8"),
    "link_text_color_hover": ("#17574e", "#8bd6c7"),
    "table_border_color": ("#ded8cc", "#383a33"),
    "table_even_background_fill": ("#ffffff", "#1e201c"),
    "table_odd_background_fill": ("#f8f5ef", "#232520"),
}

DECK = """
<section class="deck deck-empty" tabindex="0" aria-label="Player. Space plays, arrows move a beat, L loops, M clicks.">
  <div class="deck-none"><span class="deck-idle">@empty@</span><span class="deck-soon">It appears here when it is
    made.</span></div>
  <div class="deck-body">
    <div class="deck-chips" data-part="chips" role="group" aria-label="Takes"></div>
    <div class="deck-scroll" data-part="scroll"><div class="deck-wide" data-part="wide">
      <div class="deck-view" data-part="view">
        <canvas class="deck-wave" data-part="wave" role="img" aria-label="Waveform with beats and bars"></canvas>
        <canvas class="deck-spec" data-part="spec" role="img" aria-label="Spectrogram"></canvas>
      </div>
      <div class="roll" data-part="roll" hidden></div>
      <div class="deck-region" data-part="region" hidden></div>
      <div class="deck-head" data-part="head"></div>
    </div></div>
    <div data-part="tools" hidden></div>
    <div class="deck-bar">
      <button type="button" class="deck-play" data-part="play" aria-label="Play"></button>
      <button type="button" class="deck-toggle" data-part="loop" aria-pressed="false">Loop</button>
      <button type="button" class="deck-toggle" data-part="click" title="A click on each beat (M)" aria-pressed="false"
        >Click</button><input type="range" min="0" max="1" step="0.05" value="0.4" data-part="volume"
        aria-label="Volume of the click" hidden>
      <span class="deck-zoom"><button type="button" data-part="wider" aria-label="Show more of it">&minus;</button>
        <button type="button" data-part="closer" aria-label="Show it larger">+</button></span>
      <span class="deck-time" data-part="time"></span>
      <span class="deck-links"><a data-part="wav">WAV</a><a data-part="flac">FLAC</a>
        <a data-part="mp3">MP3</a><a data-part="ogg">OGG</a>
        <a data-part="mid">MIDI</a><a data-part="zip">Stems</a></span>
    </div>
    <div class="deck-pick">
      <label>From <input type="number" step="0.05" min="0" data-part="from" aria-label="Region from, seconds"></label>
      <label>to <input type="number" step="0.05" min="0" data-part="to" aria-label="Region to, seconds"> s</label>
      <label>Snap to <select data-part="snap"><option value="beat">beats</option><option value="bar">bars</option>
        <option value="off">nothing</option></select></label>
      <button type="button" class="deck-toggle" data-part="clear">Clear</button>
    </div>
    <p class="deck-about" data-part="about"></p>
  </div>
</section>
"""
BEGIN = "() => window.vivaceBegin('{}')"  # the first sign of life, from the browser itself


def theme() -> gr.themes.Base:
    """System typefaces and two palettes, paper and night."""
    looks = gr.themes.Base(font=SANS, font_mono=MONO, radius_size="sm", spacing_size="md", text_size="md")
    colours = {name: pair[0] for name, pair in COLOURS.items()}
    colours |= {f"{name}_dark": pair[1] for name, pair in COLOURS.items()}
    return looks.set(
        block_border_width="0px", color_accent="#1d6b60", block_shadow="none", block_padding="0px",
        block_label_text_weight="500", input_border_width="1px", button_border_width="1px", checkbox_border_width="1px",
        checkbox_label_border_width="1px", checkbox_label_padding="6px 12px", layout_gap="18px", form_gap_width="18px",
        block_title_text_weight="500", button_large_radius="6px", input_shadow="none", input_shadow_focus="none",
        **colours,
    )  # fmt: skip


def head() -> str:
    """The page's scripts, in the page itself."""
    return "".join(f"<script>{(STATIC / name).read_text()}</script>" for name in SCRIPTS)


def css() -> str:
    return (STATIC / "page.css").read_text()


def deck(empty: str, elem_id: str, roll: bool = False, composes: bool = False) -> gr.HTML:
    """A player; its value is `takes.deck_value`, and the region chosen in it is there too.

    With a piano `roll` its event `act` carries an action, the id of a piece, its notes and the region; new notes are
    written where the model `composes`.
    """
    trigger = f", trigger, {str(composes).lower()}); /* 'act' */" if roll else ")"
    return gr.HTML(
        value={"tracks": []}, html_template=DECK.replace("@empty@", html.escape(empty)),
        js_on_load=f"window.vivaceDeck(element, props, watch{trigger}", apply_default_css=False, elem_id=elem_id,
    )  # fmt: skip


def status_box(elem_id: str, cancel_id: str) -> tuple[gr.HTML, gr.Button]:
    """A status line and the Cancel button beside it."""
    with gr.Row(elem_classes="status-row"):
        status = gr.HTML(
            status_line(), js_on_load="window.vivaceStatus(element, watch)", apply_default_css=False, elem_id=elem_id
        )
        cancel = gr.Button(
            "Cancel", variant="stop", elem_classes="cancel", visible=False, elem_id=cancel_id, size="sm", scale=0,
            min_width=90,
        )  # fmt: skip
    return status, cancel


def number(name: str, label: str, **options) -> gr.Number:
    """A number field that is handed on as it is: what is allowed is checked, and told in words, with the request.

    It is empty to begin with: its value is an empty text then, since Gradio shows None as 0.
    """
    return gr.Number(label=label, elem_classes=f"field-{name}", **({"value": ""} | options))


def takes_list() -> gr.HTML:
    """The list of a session's pieces; its event `act` carries an id and an action."""
    return gr.HTML(
        value={"takes": [], "total": 0},
        html_template='<p class="takes-note"></p><ul class="takes" aria-label="Pieces of this session"></ul>',
        js_on_load="window.vivaceTakes(element, props, trigger, watch); /* 'act' */",
        apply_default_css=False,
        elem_id="takes",
    )
