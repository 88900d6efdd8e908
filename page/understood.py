"""What is understood of a request while it is typed: chips, each from the words, set by hand or chosen."""

import html
from pathlib import Path

from pipelines.pipeline_vivace import ROLES, Score, parse_key, read_exclusion, read_music
from pipelines.scores import has_composer, is_composed
from pipelines.vivace_music import Music
from pipelines.vivace_notes import cast, named_instruments
from pipelines.vocabulary import nearest_word, unknown_words

from .request import music_asked, read_score

FROM = {"words": "from your words", "field": "set by hand", "notes": "from the notes", "chosen": "chosen"}


def chip(text: str, source: str, field: str = "", more: str = "") -> str:
    """HTML of one chip.

    Args:
        text: what is understood.
        source: of `FROM`.
        field: of the form, to which the chip leads.
        more: said behind it.
    """
    text = text if len(text) <= 40 else f"{text[:37]}..."
    note = "" if source == "words" else more or FROM[source]
    small = f" <small>{html.escape(note)}</small>" if note else ""
    label, shown = html.escape(f"{text}, {more or FROM[source]}"), html.escape(text)
    if not field:
        return f'<li class="chip {source}"><span title="{label}">{shown}{small}</span></li>'
    clear = f'<button type="button" data-clear="{field}" aria-label="{shown}: back to the words">&times;</button>'
    return (
        f'<li class="chip {source}"><button type="button" data-field="{field}" aria-label="{label}">{shown}{small}'
        f"</button>{clear if source == 'field' else ''}</li>"
    )


def grid_chips(settings: dict, arguments: dict, music: Music) -> list[str]:
    """Tempo, key, meter, length, chords and loop."""
    words = read_music(arguments.get("prompt") or "")
    has_notes = isinstance(arguments.get("score") or arguments.get("melody"), Score)
    texts = {
        "bpm": None if music.bpm is None else f"{float(music.bpm):g} bpm", "key": music.key,
        "time_signature": music.time_signature, "chords": music.chords, "loop": "seamless loop" if music.loop else None,
        "length": f"{music.bars} bar{'s' * (music.bars != 1)}, {float(music.duration_s):.1f} s" if music.bars
        else f"{float(music.duration_s):g} s",
    }  # fmt: skip
    said = {
        "bpm": words.bpm and f"{words.bpm:g} bpm", "key": words.key, "time_signature": words.time_signature,
        "chords": None, "loop": words.loop,
        "length": f"{words.bars} bars" if words.bars else words.duration_s and f"{words.duration_s:g} s",
    }  # fmt: skip
    out = []
    for field in ("length", "bpm", "key", "time_signature", "chords", "loop"):
        text, stated = texts[field], said[field]
        if text is None:
            continue
        by_hand = settings[field] not in (None, "", False)
        source = "field" if by_hand else "words" if stated else "notes" if has_notes else "chosen"
        if field == "length" and arguments.get("sections"):
            out.append(chip(text, "field", more="of the sections"))
            continue
        more = ""
        if by_hand and isinstance(stated, str):
            same = parse_key(stated) == parse_key(text) if field == "key" else text.startswith(stated)
            more = FROM["field"] if same else f"{FROM['field']}, not {stated}"
        elif source == "chosen" and field == "bpm" and music.bpm_reason:
            more = music.bpm_reason.replace("no word of the prompt tells", "chosen")
        out.append(chip(text, source, field, more))
    return out


def part_chips(arguments: dict, composed: bool) -> list[str]:
    """Who plays what by the words, and what they exclude."""
    prompt = arguments.get("prompt") or ""
    exclusion = read_exclusion(prompt)
    roles, players = cast(exclusion) if composed else (None, {})
    named = [name for name in named_instruments(exclusion.words) if name not in players.values()]
    lines = [chip(f"{role}: {name}", "words") for role, name in players.items()]
    lines += [chip(name, "words") for name in named]
    if roles is not None and set(roles) != set(ROLES) - set(exclusion.excluded):  # a few alone
        lines += [chip(role, "words") for role in roles if role not in players]
    return lines + [chip(f"no {name}", "words") for name in exclusion.excluded]


def unknown_chip(word: str, known: frozenset[str]) -> str:
    """A word that the text encoder does not know, with a button for the one that may be meant."""
    near = nearest_word(word, known)
    swap = near and f'<button type="button" data-swap="{html.escape(word)}" data-near="{near}">{near}?</button>'
    return (
        f'<li class="chip unknown"><span title="The model was not taught this word, and can only guess at it.">'
        f"{html.escape(word)} <small>unknown word</small></span>{swap or ''}</li>"
    )


def understood(settings: dict, arguments: dict | None, wrong: str, config, words: frozenset[str] = frozenset()) -> str:
    """HTML of the chips and of what in the words is not used as it stands.

    Args:
        settings: of the form.
        arguments: of the pipeline that they become; None where they are `wrong`.
        wrong: why.
        config: of the pipeline.
        words: of the text encoder; others are marked, where there are any.
    """
    if arguments is None:
        empty = not (settings["prompt"] or "").strip()
        return "" if empty else f'<p class="chips-note">{html.escape(wrong)}</p>'
    composed = is_composed(arguments, has_composer(config))
    hum = isinstance(arguments.get("melody"), Path)  # is read with the piece
    music = music_asked(arguments | {"melody": None} if hum else arguments, config)
    chips = grid_chips(settings, arguments, music) + part_chips(arguments, composed)
    chips += [chip("lead: your recording", "notes", more="read when the piece is made")] if hum else []
    chips += [chip("sound of your recording", "field")] if arguments.get("sounds_like") else []
    for name, strength in (arguments.get("loras") or {}).items():
        chips.append(chip(f"{name} at {strength:g}" if strength else f"{name} off", "field", more="LoRA adapter"))
    bar, said = 1, arguments.get("prompt") or ""
    for bars, section in arguments.get("sections", ()):
        chips.append(chip(f"bars {bar} to {bar + bars - 1}: {section}", "field", more=FROM["field"]))
        bar, said = bar + bars, f"{said} {section}"
    chips += [unknown_chip(word, words) for word in unknown_words(said, words)]
    own = [note for note in music.notes if ": the words say" not in note]  # what a field overrides stands in its chip
    if isinstance(settings["score"], str):
        own += notes_in(read_score(settings["score"]))
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in own)
    return f'<ul class="chips" aria-label="Understood">{"".join(chips)}</ul><ul class="chips-note">{notes}</ul>'


def notes_in(score: Score) -> list[str]:
    """A sentence on the notes of a MIDI file."""
    parts = [f"{role} ({len(score.notes(role))} notes)" for role in score.roles]
    return [f"the MIDI file has {score.bars} bars at {score.bpm:g} bpm: {', '.join(parts)}", *score.remarks]
