"""What the buttons below the piano roll do: play the notes as they were changed, the same notes in another sound, new
notes in some bars, and each part on its own."""

import secrets
from dataclasses import dataclass, field, replace

import gradio as gr

from pipelines.pipeline_vivace import Score
from pipelines.scores import has_composer
from pipelines.vivace_notes import regions_of_bars

from . import edit_tab, generate_tab
from .desk import Desk, done_line, progress_line, refusal, status_line
from .notes import bars_in, notes_of, read_bars, read_notes
from .parts import BEGIN
from .request import MAX_SEED, overridden, pipeline_arguments
from .sessions import Session, Take
from .takes import deck_value, keep_output

LABELS = {"notes": "New notes", "sound": "New sound", "rewrite": "New bars", "parts": "In parts"}  # by action


@dataclass
class Job:
    """What is to be made of a piece.

    Attributes:
        settings: with which the history makes it again: of the generate tab, or of the edit tab for an edit.
        arguments: of the pipeline, see `jobs.work`.
        task: "notes" for an edit, None for a piece that is made as a whole.
        grid: beats of an edit.
        made: stretches in seconds that an edit makes anew.
    """

    settings: dict
    arguments: dict
    task: str | None = None
    grid: dict | None = None
    made: list = field(default_factory=list)


def whole_settings(take: Take, score: Score, config, **changes) -> dict:
    """Settings of the generate tab that make all of a piece with these notes."""
    own = take.settings or {}
    settings = generate_tab.blank(config) | {"prompt": own.get("prompt") or ""}
    if "task" not in own:
        settings |= {name: own[name] for name in settings if name in own}
    whole = abs(score.duration_s - take.seconds) < 1e-3
    settings |= {"unit": "bars", "length": score.bars} if whole else {"unit": "seconds", "length": take.seconds}
    settings["sections"] = settings["sections"] if whole else ""
    settings |= {"bpm": score.bpm, "key": score.key or "", "chords": "", "score": score, "notes_as": "score"}
    settings |= {"hum": None, "loras": own.get("loras") or []}
    settings |= {"parts": [], "num_waveforms_per_prompt": 1, "stems": take.stems is not None, "seed": take.seed}
    return settings | changes


def edit_settings(take: Take, score: Score) -> dict:
    """Settings of the edit tab that change the notes of a piece."""
    own = take.settings or {}
    settings = dict.fromkeys(edit_tab.FIELDS) | {name: own.get(name) for name in ("prompt", "negative_prompt")}
    settings |= {"task": "notes", "score": score, "seed": take.seed, "num_waveforms_per_prompt": 1}
    settings |= {"unit": "bars", "guidance_scale": own.get("guidance_scale"), "loras": own.get("loras")}
    return settings | {"source": take.id, "region": None}


def make_job(
    action: object, take: Take, tracks: object, region: list[float] | None, prompt: str, config, chords: object = None
) -> Job:
    """What a button asks for.

    Bars with other chords than before get a new harmony and bass where there is a composer. A piece without stems is
    edited: bars whose notes and chords are the same stay bit for bit. A piece with stems is made again part by part,
    from the same noise: parts whose notes are the same stay but for the level.

    Args:
        action: of `LABELS`.
        take: the piece.
        tracks: its notes as they were changed, see `read_notes`.
        region: seconds that are chosen, for "rewrite".
        prompt: words for "sound".
        config: of the pipeline.
        chords: of each bar, see `read_bars`; None = as they are.

    Raises:
        ValueError: one line.
    """
    found = notes_of(take)
    if action not in LABELS or found is None:
        raise ValueError(f"action is {action!r}; allowed, for a piece with notes: {', '.join(LABELS)}")
    before, downbeat_s = found
    score = read_notes(before, tracks)
    progression, other = (before.chords, []) if chords is None else read_bars(chords, before)
    score = replace(score, chords=progression)
    words = (take.settings or {}).get("prompt") or None
    rewrite, bars = [], {*other, *before.changed_bars(score)}
    follow = [role for role in ("harmony", "bass") if role in score.roles]
    if other and follow and has_composer(config):
        rewrite.append({"bars": [(bar, bar + 1) for bar in other], "parts": follow})
    if action == "rewrite":
        if not has_composer(config):
            raise ValueError("rewrite needs a composer; this checkpoint has none")
        chosen = bars_in(score, downbeat_s, region)
        rewrite.append({"bars": chosen})
        bars |= {*range(*chosen)}
    made = regions_of_bars(score, sorted(bars), downbeat_s, take.seconds, take.loop)
    if action in ("sound", "parts") or take.stems:
        changes = {"sound": {"prompt": prompt, "seed": None}, "parts": {"stems": True}}.get(action, {})
        if not bars and not changes:
            raise ValueError("score has the notes of the audio; nothing is to be made anew")
        settings = whole_settings(take, score, config, **changes)
        job = Job(settings, generate_tab.arguments_of(settings, config), made=[] if changes else made)
    else:
        settings = edit_settings(take, score)
        if not (rewrite or other):
            arguments, grid, made = edit_tab.edit_arguments(settings, take, None, config)
            return Job(settings, arguments, "notes", grid, made)
        own = {name: settings[name] for name in ("prompt", "negative_prompt", "seed", "guidance_scale", "loras")}
        own |= {name: getattr(score, name) for name in ("bpm", "time_signature", "key")}
        own |= {"audio": str(take.path), "mask_s": made, "score": score}
        job = Job(settings, pipeline_arguments(own, config), "notes", take.grid, made)
    if rewrite:
        shared = {"prompt": words, "seed": secrets.randbelow(MAX_SEED), "loop": take.loop}
        job.arguments["rewrite"] = [shared | one for one in rewrite]
    return job


def wire(desk: Desk, make) -> gr.events.Dependency:
    """The buttons of the player on the generate tab; the event after which a new piece may be in the history."""
    config, status, player = desk.pipe.config, make.status, make.player
    idle = {make.go: gr.update(interactive=True), make.cancel: gr.update(visible=False)}
    busy = {make.go: gr.update(interactive=False), make.cancel: gr.update(visible=True)}

    async def act(prompt: str, request: gr.Request, event: gr.EventData):
        """Updates while the piece is made and when it is done; it stands beside the one before."""
        yield {status: status_line("Reading the notes", "busy", 0.0), **busy}
        data, session = event._data or {}, desk.session(request)
        try:
            take, region = edit_tab.chosen(session, {"tracks": [data], "region": data.get("region")})
            action = data.get("action")
            job = make_job(action, take, data.get("notes"), region, prompt, config, data.get("chords"))
            note = overridden(job.arguments) if action == "sound" else ""

            def keep(session: Session, output) -> list[Take]:
                return keep_output(session, output, job.settings, job.task, job.grid, job.made, take.loop)

            async for news in desk.run(request, job.arguments, keep):
                if news.output is None:
                    yield {status: progress_line(news, note)}
            takes = news.kept
        except Exception as error:
            yield {status: refusal(error), **idle}
            return
        shown = deck_value([take, *takes], ["Before", LABELS[action]], roll=True) | {"current": 1}
        yield {status: done_line(takes, note), player: shown, **idle}

    player.act(None, None, status, js=BEGIN.format("status"), show_progress="hidden")
    return player.act(
        act, make.fields["prompt"], [status, player, make.go, make.cancel], api_visibility="private",
        show_progress="hidden", concurrency_limit=None,
    )  # fmt: skip
