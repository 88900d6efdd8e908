"""History: the pieces of this session, to search, hear, compare, take up again and download."""

from types import SimpleNamespace

import gradio as gr

from . import edit_tab, generate_tab
from .desk import Desk, status_line
from .parts import deck, takes_list
from .takes import deck_value, history_value, link, rename, zip_takes

MORE = "() => window.vivaceMore()"  # of takes.js
DOWNLOAD = """(url) => {
  if (!url) return;
  const link = document.createElement("a");
  link.href = url;
  link.download = "vivace.zip";
  link.click();
}"""


def make_tab(desk: Desk) -> SimpleNamespace:
    """The tab's components; `refresh` shows what has been made since."""
    with gr.Row(elem_classes="tight history-bar"):
        search = gr.Textbox(
            label="Search",
            placeholder="piano, 96 bpm, favourite",
            max_length=200,
            elem_id="search",
        )
        pack = gr.Button("Download all as zip", size="sm", elem_id="zip", scale=0, min_width=170)
    address = gr.Textbox(visible=False)
    with gr.Row(elem_classes="status-row"):
        status = gr.HTML(status_line(), apply_default_css=False, elem_id="history-status")
        undo = gr.Button("Undo", visible=False, size="sm", scale=0, min_width=90, elem_id="undo")
    player = deck("Play a piece, or mark two as A and B to compare them from the same moment on.", "compare")
    listing = takes_list()

    def refresh(search: str, request: gr.Request) -> dict:
        return history_value(desk.session(request), search)

    def zipped(search: str, request: gr.Request):
        """The address of a zip of what the search shows."""
        session = desk.session(request)
        shown = [session.find(row["id"]) for row in history_value(session, search)["takes"]]
        if not shown:
            return {status: status_line("There is nothing to download yet", "error"), address: ""}
        return {
            address: link(zip_takes(session, shown)),
            status: status_line(f"{len(shown)} files in the zip", "quiet"),
        }

    quick = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    search.change(refresh, search, listing, **quick)
    pack.click(zipped, search, [address, status], **quick).then(None, address, None, js=DOWNLOAD)
    return SimpleNamespace(
        search=search, listing=listing, player=player, status=status, undo=undo, refresh=refresh, quick=quick
    )


def wire(desk: Desk, tabs: gr.Tabs, make: SimpleNamespace, edit: SimpleNamespace, history: SimpleNamespace) -> None:
    """What the history does to the other tabs, and they to it."""

    async def act(search: str, request: gr.Request, event: gr.EventData):
        """A button beside a piece. On the event loop, so that two presses are answered in their order."""
        session, data = desk.session(request), event._data or {}
        action = data.get("action")
        try:
            take = session.find(data.get("id"))
        except ValueError as error:
            return {history.status: status_line(str(error), "error"), history.listing: history_value(session, search)}
        out = {history.status: status_line(), history.undo: gr.update(visible=action == "remove")}
        if action == "play":
            out[history.player] = deck_value([take])
        elif action == "edit":
            out |= {edit.source: deck_value([take], selectable=True), tabs: gr.Tabs(selected="edit")}
        elif action == "restore" and take.settings is not None:
            out |= restore(session, take)
        elif action == "more" and take.settings is not None and "task" not in take.settings:  # MORE presses Generate
            out |= restore(session, take) | {make.fields["seed"]: "", make.status: status_line()}
        elif action == "star":
            session.change(take, star=not take.star)
        elif action == "rename":
            rename(session, take, data.get("text"))
        elif action in ("a", "b"):
            session.pair[action] = take.id
            pair = [(slot.upper(), session.find(session.pair[slot])) for slot in ("a", "b") if slot in session.pair]
            out[history.player] = deck_value([other for _, other in pair], [label for label, _ in pair])
        elif action == "remove":
            session.remove(take.id)
            out[history.status] = status_line(f"Removed: {take.called}", "quiet")
        return out | {history.listing: history_value(session, search)}

    def restore(session, take) -> dict:
        """All settings back into the form that made the piece."""
        if "task" not in take.settings:
            settings = generate_tab.blank(desk.pipe.config) | take.settings  # of before there were all of the fields
            out = {make.fields[name]: settings[name] for name in generate_tab.FIELDS}
            note = "Settings restored; Generate makes this piece again"
            return out | {
                make.more: gr.update(open=True),
                tabs: gr.Tabs(selected="generate"),
                make.status: status_line(note, "quiet"),
            }
        out = {edit.fields[name]: take.settings.get(name) for name in edit_tab.FIELDS}
        source = session.takes.get(take.settings["source"])
        note = "Settings restored, but the original is no longer in the history"
        if source is not None:
            note = "Settings restored; Make the change makes this piece again"
            out[edit.source] = deck_value([source], selectable=True) | {"region": take.settings["region"]}
        return out | {
            edit.more: gr.update(open=True),
            tabs: gr.Tabs(selected="edit"),
            edit.status: status_line(note, "quiet"),
        }

    async def bring_back(search: str, request: gr.Request):
        """The piece that was removed last stands where it stood."""
        session = desk.session(request)
        take = session.undo()
        text = "There is nothing to bring back" if take is None else f"Brought back: {take.called}"
        return {
            history.status: status_line(text, "quiet"), history.listing: history_value(session, search),
            history.undo: gr.update(visible=bool(session.removed)),
        }  # fmt: skip

    def send(value: dict, request: gr.Request):
        """The piece in the player goes to Edit."""
        tracks, current = value.get("tracks", []), int(value.get("current", 0))
        take = desk.session(request).find(tracks[min(max(current, 0), len(tracks) - 1)]["id"])
        return {edit.source: deck_value([take], selectable=True), tabs: gr.Tabs(selected="edit")}

    outputs = [history.status, history.undo, history.player, history.listing, tabs, edit.source, edit.status]
    outputs += [make.status, make.more, edit.more, *make.order, *edit.order]
    acted = history.listing.act(act, history.search, outputs, trigger_mode="multiple", **history.quick)
    acted.then(None, None, None, js=MORE)
    history.undo.click(bring_back, history.search, [history.status, history.listing, history.undo], **history.quick)
    make.to_edit.click(send, make.player, [edit.source, tabs], **history.quick)
    for event in (*make.done, *edit.done):
        event.then(history.refresh, history.search, history.listing, **history.quick)
