"""Measure a checkpoint, or any audio: how well it follows requests, how close it is to real music, and its signal.

    python -m training.evaluate --checkpoint checkpoints/small --data_dir data/scorebook --split test --num_clips 64
    python -m training.evaluate --audio_dir generated                         # audio with or without labels
    python -m training.evaluate --audio_dir data/scorebook --split test       # how accurate the listener networks are
    python -m training.evaluate --audio_dir generated --reference_dir real    # two folders
    python -m training.evaluate --checkpoint checkpoints/small --tasks all    # the features of the pipeline

A checkpoint generates, for each chosen row, from a caption and the row's tempo, meter, key and chords. Every control
figure is reported beside chance (the same clips against the requests of others), the oracle (the real clips against
their own labels) and the ceiling of the autoencoder (the real clips, encoded and decoded). The results are a JSON file,
tables and, with `--html`, a page with pictures and sound. The exit code is 1 if clips could not be read.
"""

import multiprocessing
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pipelines.composer_vivace import ComposerVivace
from pipelines.hub import load_pipeline
from training import generate
from training.config import command, option, parse_config
from training.data.clips import is_blank, read_rows
from training.metrics import control, provenance
from training.metrics.control import SHUFFLES, by_source, chance, compare, summaries
from training.metrics.distribution import (
    SPACE_CLIPS,
    check_enough,
    distribution_figures,
    embed_clips,
    folder_figures,
    too_few,
)
from training.metrics.embedding import DEFAULT_EMBEDDER, Embedder, load_embedder
from training.metrics.features import ClipAnalysis, compile_alone
from training.metrics.folder import Clips, folder_rows, load_clips
from training.metrics.listening import Listeners, analyse, load_listeners
from training.metrics.reconstruction import Codec, reconstruction_figures
from training.metrics.report import AUTOENCODER, SIGNAL, ClipPage, html_report, text_report
from training.metrics.request import anchored_requests, request_of_row
from training.metrics.signal import seam_figures
from training.run.checkpoints import write_json, write_text
from training.run.streams import Measure, item_rng
from training.tasks.common import Bench
from training.tasks.run import choose_tasks, markdown, run_tasks

LABELS = ("bpm", "beats_s", "key", "chords", "instruments", "drums", "style")
CARD = (
    "name", "sha256", "trained_on", "test_instrument_map", "test_style_top1", "test_tempo_4pct",
    "test_tempo_4pct_octaves", "test_beat_f", "test_downbeat_f", "test_key_exact", "test_key_mirex",
)  # fmt: skip
PARAPHRASES = "text_heldout"
NAMES_BY_SOURCE = ("tempo_4pct", "beat_f", "downbeat_f", "key_exact", "chord_cosine", "stated_heard", "drums", "style")


@dataclass(frozen=True)
class EvaluateRun:
    """Measure a checkpoint, or a folder of audio."""

    checkpoint: str = option("checkpoints/small", "a published folder; not used with audio_dir")
    audio_dir: str | None = option(
        None, "measure this audio instead: a data folder, a folder with metadata.jsonl, or plain audio files"
    )
    reference_dir: str | None = option(
        None, "compare audio_dir with this folder: distribution, and reconstruction where file names are alike"
    )
    data_dir: str = option(
        "data/scorebook", "folder of clips with captions: what is asked for, and what is compared with"
    )
    split: str = option("test", "split of data_dir, and of audio_dir and reference_dir where these are data folders")
    num_clips: int = option(64, "clips to measure", at_least=1)
    seed: int = option(0, "chooses the rows and their captions, and starts the noise", at_least=0)
    output: str | None = option(None, "JSON file to write; null = runs/evaluate.json, of tasks runs/tasks.json")
    html: str | None = option(None, "also write a page with pictures and sound, complete in itself")
    html_clips: int = option(12, "clips on the page, those that obey least first", at_least=1)
    save_audio: str | None = option(None, "folder to keep the generated clips in")
    paraphrases: bool = option(
        True, "measure a second time with words and templates that training never saw, where the data has such captions"
    )
    tagger: str = option(
        "checkpoints/tagger", "folder of the tagger; without one, instruments, drums and style are left out"
    )
    beat_tracker: str = option(
        "checkpoints/beat_tracker", "folder of the beat tracker; without one, tempo and beats are librosa's alone"
    )
    key: str = option(
        "checkpoints/key", "folder of the key network; without one, keys are those of a chroma profile alone"
    )
    embedder: str = option(
        DEFAULT_EMBEDDER,
        "what distributions are measured with: tagger, musicnn-mtt, musicnn-msd, or the folder or Hub id of a CLAP",
    )
    codec: str | None = option(
        None, "folder or Hub id of an EnCodec, whose quantised reconstruction is measured beside the autoencoder's"
    )
    codec_kbps: float | None = option(None, "bandwidth of that codec; null = the most that it has", above=0)
    train_clips: int = option(SPACE_CLIPS, "training clips among which copies are looked for", at_least=2)
    num_inference_steps: int | None = option(None, "null = the checkpoint's default", at_least=1)
    guidance_scale: float | None = option(None, "null = the checkpoint's default", at_least=0)
    batch_size: int = option(8, "clips made at once", at_least=1)
    num_workers: int = option(2, "processes that analyse audio; 0 = none but this one", at_least=0)
    tasks: str | None = option(
        None,
        "measure what the pipeline promises instead (loops, edits, long pieces, ...): all, or names with commas "
        "between (training/tasks)",
    )
    composer: str | None = option(
        None, "of tasks: folder of composer weights to measure in place of the checkpoint's composer"
    )
    compositions: str = option("data/compositions", "of tasks: folder written by training.data.compositions")
    quick: int | None = option(None, "of tasks: so many clips each, at least 1, in place of the full number")


def check(config: EvaluateRun) -> None:
    """Raise a ValueError for options that do not go together, and for folders that are not there."""
    if config.audio_dir is None and not Path(config.checkpoint).is_dir():
        raise ValueError(f"checkpoint {config.checkpoint}: no such folder")
    if config.reference_dir is not None and config.audio_dir is None:
        raise ValueError(f"reference_dir is {config.reference_dir} without audio_dir; give the folder to compare")
    if config.tasks is not None and config.audio_dir is not None:
        raise ValueError(f"tasks is {config.tasks!r} with audio_dir; give a checkpoint alone")
    if config.tasks is not None:
        choose_tasks(config.tasks)
    if config.quick is not None and (config.tasks is None or config.quick < 1):
        raise ValueError(f"quick is {config.quick}; allowed: with tasks, at least 1")
    for name in ("output", "html"):
        if getattr(config, name) is not None and Path(getattr(config, name)).is_dir():
            raise ValueError(f"{name} {getattr(config, name)} is a folder; allowed: a file name")


def evaluate_checkpoint(
    config: EvaluateRun, pipe, listeners: Listeners, embedder: Embedder, pool: Executor | None = None
) -> tuple[dict, list[ClipPage]]:
    """The results of a checkpoint for the JSON, and its clips for the page.

    `pipe` is a VivacePipeline, or any callable with the same arguments; `pool` are processes that compute signal
    features. Raises a ValueError if the data, the checkpoint or the options cannot be used.
    """
    clock, rate = provenance.Clock(), int(pipe.vae.config.sampling_rate)
    all_rows = read_rows(config.data_dir, config.split)
    clips = load_clips(generate.choose(all_rows, config.num_clips, config.seed), rate)
    rows, real = clips.rows, clips.mono
    clock.lap("reading")
    sets, notes = distribution_rows(config, all_rows, rows)
    captions, stated = {}, {}
    captions["generated"], stated["generated"] = generate.draw_captions(rows, config.seed)
    paraphrased = sum(any(not is_blank(text) for text in row.get(PARAPHRASES) or []) for row in rows)
    if config.paraphrases and paraphrased < len(rows):
        notes.append(f"no paraphrases: {paraphrased} of {len(rows)} clips have some in {PARAPHRASES}")
    for note in notes:  # printed before the slow part
        print(f"note: {note}", file=sys.stderr)
    if config.paraphrases and paraphrased == len(rows):
        captions["paraphrased"], stated["paraphrased"] = generate.draw_captions(rows, config.seed, PARAPHRASES)
    settings = (config.seed, config.batch_size, config.num_inference_steps, config.guidance_scale)
    audios = {source: generate.generate(pipe, rows, texts, *settings) for source, texts in captions.items()}
    clock.lap("generating")
    audios |= {"oracle": real, "reconstructed": generate.reconstruct(pipe, real)}
    clock.lap("reconstructing")
    if config.save_audio is not None:
        generate.save_clips(
            config.save_audio, rows, captions["generated"], stated["generated"], audios["generated"], rate
        )

    analyses = {source: analyse(sounds, rate, listeners, pool) for source, sounds in audios.items()}
    clock.lap("listening")
    labels = list(map(request_of_row, rows, stated["generated"]))
    requests = {source: anchored_requests(rows, audios[source], rate, facts) for source, facts in stated.items()}
    figures = {source: compare(analyses[source], requests[source], listeners.thresholds) for source in captions}
    figures |= {
        "chance": chance(analyses["generated"], requests["generated"], listeners.thresholds, config.seed),
        "oracle": compare(analyses["oracle"], labels, listeners.thresholds),
        "oracle_chance": chance(analyses["oracle"], labels, listeners.thresholds, config.seed),
        "reconstructed": compare(analyses["reconstructed"], labels, listeners.thresholds),
    }
    run = map if pool is None else pool.map
    rebuilt = {"reconstructed": audios["reconstructed"]}
    if config.codec is not None:
        codec = Codec(config.codec, config.codec_kbps)
        rebuilt["codec"] = [codec.reconstruct(audio, rate) for audio in real]
    rebuilding = {
        name: list(run(reconstruction_figures, [a[None] for a in sounds], [a[None] for a in real], [rate] * len(rows)))
        for name, sounds in rebuilt.items()
    }
    clock.lap("comparing")
    distribution = checkpoint_distribution(config, embedder, sets, rows, audios, rate)
    clock.lap("distribution")
    result = {
        "clips": len(rows),
        "control": summaries(figures, control.NAMES, config.seed),
        "oracle_by_source": by_source(figures["oracle"], rows, NAMES_BY_SOURCE, config.seed),
        "autoencoder": summaries(rebuilding, AUTOENCODER, config.seed),
        "signal": signal_summaries(analyses, {"oracle": clips}, config.seed),
        "distribution": distribution,
        "notes": notes,
        "chance_shuffles": min(SHUFFLES, len(rows) - 1),
        "stated_known": sum(facts is not None for facts in stated["generated"]),
        **common(config, clips, listeners, clock),
        **provenance.provenance(config.checkpoint),
    }
    texts = captions["generated"]
    result["per_clip"] = [
        per_clip(row, clip, i, figures) | {"caption": text, "seed": config.seed + i}
        for i, (row, text, clip) in enumerate(zip(rows, texts, analyses["generated"], strict=True))
    ]
    names = [row["file_name"] for row in rows]
    return result, list(map(ClipPage, names, texts, audios["generated"], requests["generated"], figures["generated"]))


def distribution_rows(
    config: EvaluateRun, all_rows: list[dict], rows: list[dict]
) -> tuple[tuple[list[dict], list[dict]] | str, list[str]]:
    """Rows of real clips of other works and of training clips, or the reason why there is no distribution; and notes
    for the user."""
    works, chosen = {row.get("work") for row in rows}, {row["file_name"] for row in rows}
    others = [r for r in all_rows if r["file_name"] not in chosen and (r.get("work") not in works or None in works)]
    if not others:
        left_out = f"no clips of other works in the {config.split} split, so that there is no floor"
        return left_out, [f"no distribution: {left_out}"]
    try:
        train = generate.choose(read_rows(config.data_dir, "train"), config.train_clips, config.seed)
    except ValueError as error:
        train, reason = [], str(error)
    else:
        reason = f"{len(train)} in the train split"
    if len(train) < 2:
        left_out = f"no training clips to lay out the space with ({reason})"
        return left_out, [f"no distribution: {left_out}"]
    missing = too_few(min(len(rows), len(others)), len(train))
    return (generate.choose(others, len(rows), config.seed), train), [missing] if missing else []


def checkpoint_distribution(
    config: EvaluateRun,
    embedder: Embedder,
    real: tuple[list[dict], list[dict]] | str,
    rows: list[dict],
    audios: dict,
    rate: int,
) -> dict:
    """Distances of the generated clips from the real ones, with their floor: real clips of other works.

    `real` is from `distribution_rows`; if it is a reason, the result holds it as `left_out`. `audios` are clips
    (samples,) of `rows` by source, at `rate` Hz.
    """
    if isinstance(real, str):
        return {"left_out": real}
    other, train = (load_clips(kept, rate) for kept in real)
    names = [row["file_name"] for row in rows]
    sets = [(audios["oracle"], names), (other.mono, [row["file_name"] for row in other.rows])]
    sets += [(audios["reconstructed"], names), (audios["generated"], names)]
    sets += [(train.mono, [row["file_name"] for row in train.rows])]
    embedded = [embed_clips(embedder, sounds, rate, file_names) for sounds, file_names in sets]
    return distribution_figures(embedder, *embedded, seed=config.seed)


def evaluate_folder(
    config: EvaluateRun, listeners: Listeners, embedder: Embedder, pool: Executor | None = None
) -> tuple[dict, list[ClipPage]]:
    """The same for the audio of a folder: control figures for its labels, signal, and distance from a reference folder.
    Raises a ValueError for no audio, or too few clips for a distance between distributions."""
    clock = provenance.Clock()
    measured = folder_rows(config.audio_dir, config.split)
    if config.reference_dir is not None:  # before the slow part
        check_enough(len(measured), len(folder_rows(config.reference_dir, config.split)))
    clips = load_clips(measured)
    rate, rows = clips.sampling_rate, clips.rows
    analyses = analyse(clips.audios, rate, listeners, pool)
    clock.lap("listening")
    labels = [request_of_row(row, stated_of(row)) for row in rows]
    figures = {
        "labelled": compare(analyses, labels, listeners.thresholds),
        "chance": chance(analyses, labels, listeners.thresholds, config.seed),
    }
    result = {
        "clips": len(rows),
        "control": summaries(figures, control.NAMES, config.seed),
        "labelled_by_source": by_source(figures["labelled"], rows, NAMES_BY_SOURCE, config.seed),
        "signal": signal_summaries({"audio": analyses}, {"audio": clips}, config.seed),
        "stated_known": sum(stated_of(row) is not None for row in rows),
        "chance_shuffles": min(SHUFFLES, len(rows) - 1),
        **provenance.provenance(config.audio_dir),
    }
    if config.reference_dir is not None:
        reference = load_clips(folder_rows(config.reference_dir, config.split), rate)
        names = [np.array([row["file_name"] for row in side.rows]) for side in (reference, clips)]
        result["distribution"] = folder_figures(
            embedder,
            *(embed_clips(embedder, side.mono, rate) for side in (clips, reference)),
            config.seed,
            names[0][:, None] == names[1],
        )
        by_name = {row["file_name"]: audio for row, audio in zip(reference.rows, reference.audios, strict=True)}
        pairs = [
            (a, by_name[r["file_name"]]) for r, a in zip(rows, clips.audios, strict=True) if r["file_name"] in by_name
        ]
        shortest = [min(a.shape[1], b.shape[1]) for a, b in pairs]
        rebuilding = [
            reconstruction_figures(a[:, :n], b[:, :n], rate) for (a, b), n in zip(pairs, shortest, strict=True)
        ]
        result["autoencoder"] = summaries({"reconstructed": rebuilding}, AUTOENCODER, config.seed)
        clips.unreadable.update(reference.unreadable)
        clock.lap("reference")
    result |= common(config, clips, listeners, clock)
    result["per_clip"] = [
        per_clip(row, clip, i, figures) for i, (row, clip) in enumerate(zip(rows, analyses, strict=True))
    ]
    names = [row["file_name"] for row in rows]
    texts = [" / ".join(row.get("text") or []) for row in rows]
    return result, list(map(ClipPage, names, texts, clips.mono, labels, figures["labelled"]))


def signal_summaries(analyses: dict[str, list[ClipAnalysis]], labelled: dict[str, Clips], seed: int) -> dict:
    """Signal figures by source, with seam figures for the clips that are labelled as loops.

    `analyses` maps sources to analysed clips, and `labelled` some of them to the same clips with labels of their audio.
    """
    figures = {source: [clip.features.signal for clip in clips] for source, clips in analyses.items()}
    for source, clips in labelled.items():
        for index, (row, audio) in enumerate(zip(clips.rows, clips.audios, strict=True)):
            if row.get("loop"):
                figures[source][index] = figures[source][index] | seam_figures(audio, clips.sampling_rate)
    return summaries(figures, SIGNAL, seed)


def stated_of(row: dict) -> dict | None:
    """The facts that a row's caption states; None unless it has one caption, since the one that was used is unknown."""
    stated = row.get("stated") or []
    return stated[0] if len(stated) == 1 else None


def per_clip(row: dict, clip: ClipAnalysis, index: int, figures: dict[str, list[dict]]) -> dict:
    """The entry of one clip in the JSON."""
    return {
        "file_name": row["file_name"],
        "source": row.get("source") or "unknown",
        "heard_bpm": clip.rhythm.tempo_bpm if clip.rhythm else None,
        "heard_key": clip.key,
        "requested_bpm": row.get("bpm"),
        "requested_key": row.get("key"),
        **{source: values[index] for source, values in figures.items() if values},
    }


def common(config: EvaluateRun, clips: Clips, listeners: Listeners, clock: provenance.Clock) -> dict:
    """The part of the JSON that both kinds of evaluation share."""
    return {
        "arguments": asdict(config),
        "sampling_rate": clips.sampling_rate,
        "unreadable": clips.unreadable,
        "resampled": clips.resampled,
        "missing_labels": {name: sum(row.get(name) is None for row in clips.rows) for name in LABELS},
        "listeners": {name: {k: card[k] for k in card if k in CARD} for name, card in listeners.cards.items()},
        "listeners_absent": list(listeners.absent),
        "wall_s": clock.total(),
    }


def measure_tasks(config: EvaluateRun, listeners: Listeners, pool: Executor | None) -> int:
    """Measure the features of the pipeline: a table and a JSON file. The exit code is 1 if a figure misses its goal."""
    names, clock = choose_tasks(config.tasks), provenance.Clock()
    every = read_rows(config.data_dir, config.split)
    labelled = [row for row in every if row.get("bpm") and row.get("beats_per_bar") and row.get("key")]
    if not labelled:
        raise ValueError(f"data_dir {config.data_dir}: no row of {config.split} has tempo, meter and key")
    rows = [labelled[i] for i in item_rng(config.seed, Measure.ROWS).permutation(len(labelled))]
    captions, _ = generate.draw_captions(rows, config.seed)
    loops = [row for row in every if row.get("loop")]
    pipe = load_pipeline(config.checkpoint)
    pipe.set_progress_bar_config(disable=True)
    composer = ComposerVivace.from_pretrained(config.composer) if config.composer else getattr(pipe, "composer", None)
    bench = Bench(
        pipe, rows, loops, captions, listeners, pool, config.seed, config.checkpoint, composer, config.compositions
    )
    tasks = run_tasks(bench, names, config.quick)
    clock.lap("measuring")
    result = {"tasks": tasks, "arguments": asdict(config), "wall_s": clock.total()}
    output = Path(config.output or "runs/tasks.json")
    output.parent.mkdir(parents=True, exist_ok=True)
    write_json(output, result | provenance.provenance(config.checkpoint))
    missed = [f["name"] for done in tasks.values() for f in done["figures"] if f["met"] is False]
    print(f"{markdown(tasks)}\n\n{output}, {result['wall_s']['all']:.0f} s")
    print(f"not met: {'; '.join(missed) if missed else 'nothing'}")
    return 1 if missed else 0


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    config = parse_config(EvaluateRun, argv)
    check(config)
    listeners = load_listeners(config.tagger, config.beat_tracker, config.key)
    embedder = None if config.tasks is not None else load_embedder(config.embedder)
    # Spawned, since a fork of a process with torch's threads may hang.
    context = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(config.num_workers, context, compile_alone) if config.num_workers else nullcontext()
    with workers as pool:
        if config.tasks is not None:
            return measure_tasks(config, listeners, pool)
        if config.audio_dir is not None:
            result, pages = evaluate_folder(config, listeners, embedder, pool)
        else:
            read_rows(config.data_dir, config.split)  # fails early if it is missing
            pipe = load_pipeline(config.checkpoint)
            pipe.set_progress_bar_config(disable=True)
            result, pages = evaluate_checkpoint(config, pipe, listeners, embedder, pool)
    output = config.output or "runs/evaluate.json"
    for path in filter(None, (output, config.html)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_json(Path(output), result)
    text = text_report(result)
    if config.html is not None:
        write_text(Path(config.html), html_report(text, pages, result["sampling_rate"], config.html_clips))
    print(f"{text}\n\n{output}" + (f"\n{config.html}" if config.html else ""))
    for name, reason in result["unreadable"].items():
        print(f"left out: {name}: {reason}", file=sys.stderr)
    return 1 if result["unreadable"] else 0


if __name__ == "__main__":
    command(main)
