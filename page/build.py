"""The whole page around a pipeline."""

import gradio as gr
from starlette.middleware import Middleware

from . import about_tab, api, edit_tab, generate_tab, history_tab, roll
from .desk import Desk
from .front import Front
from .takes import MAX_UPLOAD_BYTES

CACHE_S = (60, 900)  # look every minute for files of Gradio's own cache that are older than a quarter of an hour


def make_app(desk: Desk) -> gr.Blocks:
    """The page with its endpoints; `launch_options` go with it."""
    with gr.Blocks(title="Vivace", delete_cache=CACHE_S, analytics_enabled=False) as page:
        gr.HTML(
            '<header class="mast"><h1>Vivace</h1><p>Music from words, in time and in key</p></header>',
            apply_default_css=False,
        )
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab("Generate", id="generate"):
                make = generate_tab.make_tab(desk)
            with gr.Tab("Edit", id="edit"):
                edit = edit_tab.make_tab(desk)
            with gr.Tab("History", id="history") as history_page:
                history = history_tab.make_tab(desk)
            with gr.Tab("About", id="about"):
                about_tab.make_tab(desk)
        if desk.plays_notes:
            make.done.append(roll.wire(desk, make))
        history_tab.wire(desk, tabs, make, edit, history)
        history_page.select(history.refresh, history.search, history.listing, **history.quick)  # of all tabs
        page.load(history.refresh, history.search, history.listing, **history.quick)
        page.load(make.newest, None, [make.player, make.to_edit, *make.order], **history.quick)
        api.add_endpoints(desk)

        def leave(request: gr.Request) -> None:
            desk.sessions.leave(desk.key(request), request.session_hash)

        page.unload(leave)
    return page


def launch_options(desk: Desk) -> dict:
    """Arguments of `launch`: looks, limits, and the folder whose unguessable subfolders are served."""
    from .parts import css, head, theme

    return {
        "theme": theme(), "css": css(), "head": head(), "allowed_paths": [str(desk.sessions.root)],
        "max_file_size": MAX_UPLOAD_BYTES, "footer_links": ["api"], "ssr_mode": False, "show_error": True,
        "enable_monitoring": False, "pwa": False, "mcp_server": False,
        "app_kwargs": {"middleware": [Middleware(Front, desk=desk)]},
    }  # fmt: skip
