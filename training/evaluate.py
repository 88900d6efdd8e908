"""Measure a checkpoint: does it play what it is asked for, and how good is its autoencoder?

    python -m training.evaluate --checkpoint checkpoints/small --data_dir data/scorebook --split test --num_clips 64

For each chosen row the pipeline gets a caption, and the row's tempo, meter, key and chords as arguments. Every control
figure stands beside chance (the same clips against the requests of others), the oracle (the real clips against their
own labels) and the ceiling of the autoencoder (the real clips, encoded and decoded). One JSON, and a table.
"""

import json
import multiprocessing
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import soundfile

from pipelines.hub import load_published
from training import ask
from training.config import parse_config
from training.data.clips import read_rows
from training.metrics import control, provenance
from training.metrics.compare import SHUFFLES, chance, compare, summaries
from training.metrics.listening import Listeners, listen, load_listeners
from training.metrics.reconstruction import reconstruction_figures
from training.metrics.request import anchored_request, request_of_row
from training.metrics.table import figures_table

LABELS = ("bpm", "beats_s", "key", "chords", "instruments", "drums", "style")
AUTOENCODER = {
    "log_mel": "log10-mel L1 (80 bands, floor -80 dB)",
    "si_sdr_db": "SI-SDR, dB",
    "mr_stft": "multi-resolution STFT distance",
}
SIGNAL = {
    "clipped": "share of samples clipped",
    "silent": "share of silent windows",
    "dc": "DC offset",
    "peak": "peak",
    "rms_db": "RMS, dB",
    "bandwidth_hz": "bandwidth, Hz",
}
CARD = (
    "name", "sha256", "trained_on", "test_instrument_map", "test_style_top1", "test_tempo_4pct",
    "test_tempo_4pct_octaves", "test_beat_f", "test_downbeat_f",
)  # fmt: skip
COLUMNS = ["generated", "chance", "oracle", "reconstructed"]


@dataclass(frozen=True)
class EvaluateRun:
    """One evaluation."""

    checkpoint: str = "checkpoints/small"
    data_dir: str = "data/scorebook"
    split: str = "test"
    num_clips: int = 64
    seed: int = 0
    """chooses the rows and their captions, and starts the noise"""
    output: str = "runs/evaluate.json"
    audio_dir: str | None = None
    """keep the generated clips here"""
    captions: str = "text"
    """text (made from the templates of training) or text_heldout (never seen in training)"""
    tagger: str = "checkpoints/tagger"
    """folder of the tagger; without one, instruments, drums and style are left out"""
    beat_tracker: str = "checkpoints/beat_tracker"
    """folder of the beat tracker; without one, tempo and beats are librosa's alone"""
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    batch_size: int = 8
    num_workers: int = 2
    """processes that listen; 0 = none but this one"""


def check(config: EvaluateRun) -> None:
    """Raise a ValueError for a number or a word out of range."""
    if config.captions not in ("text", "text_heldout"):
        raise ValueError(f"captions is {config.captions!r}; allowed: 'text', 'text_heldout'")
    for name, low in (("num_clips", 1), ("batch_size", 1), ("num_workers", 0), ("seed", 0)):
        if getattr(config, name) < low:
            raise ValueError(f"{name} is {getattr(config, name)}; allowed: at least {low}")
    if not Path(config.checkpoint).is_dir():
        raise ValueError(f"checkpoint {config.checkpoint}: no such folder")
    if Path(config.output).is_dir():
        raise ValueError(f"output {config.output} is a folder; allowed: a file name")


def evaluate(config: EvaluateRun, pipe, listeners: Listeners, pool: Executor | None = None) -> dict:
    """Everything that the JSON holds.

    Args:
        config: what to measure.
        pipe: a VivacePipeline, or anything that is called like one.
        listeners: networks that listen.
        pool: processes that help them.

    Raises:
        ValueError: one line that says what is wrong with the data, the checkpoint or the arguments.
    """
    wall: dict[str, float] = {}
    began = time.monotonic()

    def lap(name: str) -> None:
        wall[name] = round(time.monotonic() - began - sum(wall.values()), 2)

    rows = ask.choose(read_rows(config.data_dir, config.split), config.num_clips, config.seed)
    rate = int(pipe.vae.config.sampling_rate)
    real = [ask.read_real(row, rate) for row in rows]
    lap("reading")
    captions = [ask.caption(row, config.captions, config.seed, i) for i, row in enumerate(rows)]
    generated = ask.generate(
        pipe, rows, captions, config.seed, config.batch_size, config.num_inference_steps, config.guidance_scale
    )
    lap("generating")
    rebuilt = ask.reconstruct(pipe, real)
    lap("reconstructing")
    if config.audio_dir is not None:
        folder = Path(config.audio_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for row, audio in zip(rows, generated, strict=True):
            soundfile.write(folder / f"{Path(row['file_name']).stem}.wav", audio, rate, subtype="PCM_16")

    audios = {"generated": generated, "oracle": real, "reconstructed": rebuilt}
    heard = {source: listen(clips, rate, listeners, pool) for source, clips in audios.items()}
    lap("listening")
    asked = [anchored_request(row, len(audio) / rate) for row, audio in zip(rows, generated, strict=True)]
    labels = [request_of_row(row) for row in rows]
    figures = {
        "generated": compare(heard["generated"], asked, listeners.thresholds),
        "chance": chance(heard["generated"], asked, listeners.thresholds, config.seed),
        "oracle": compare(heard["oracle"], labels, listeners.thresholds),
        "oracle_chance": chance(heard["oracle"], labels, listeners.thresholds, config.seed),
        "reconstructed": compare(heard["reconstructed"], labels, listeners.thresholds),
    }
    run = map if pool is None else pool.map
    rebuilding = list(run(reconstruction_figures, rebuilt, real, [rate] * len(rows)))
    signal = {source: [clip.features.signal for clip in clips] for source, clips in heard.items()}
    lap("comparing")
    wall["all"] = round(time.monotonic() - began, 2)
    return {
        "arguments": asdict(config),
        "clips": len(rows),
        "missing_labels": {name: sum(row.get(name) is None for row in rows) for name in LABELS},
        "control": summaries(figures, control.NAMES, config.seed),
        "autoencoder": summaries({"reconstructed": rebuilding}, AUTOENCODER, config.seed),
        "signal": summaries(signal, SIGNAL, config.seed),
        "listeners": {name: {k: card[k] for k in card if k in CARD} for name, card in listeners.cards.items()},
        "listeners_absent": list(listeners.absent),
        "chance_shuffles": min(SHUFFLES, len(rows) - 1),
        "sampling_rate": rate,
        "wall_s": wall,
        **provenance.provenance(config.checkpoint),
        "per_clip": [
            {
                "file_name": row["file_name"],
                "caption": captions[i],
                "seed": config.seed + i,
                "heard_bpm": clip.tracked.tempo_bpm if clip.tracked else None,
                "requested_bpm": row.get("bpm"),
                **{source: values[i] for source, values in figures.items() if values},
            }
            for i, (row, clip) in enumerate(zip(rows, heard["generated"], strict=True))
        ],
    }


def report(result: dict) -> str:
    """The table that is printed."""
    config = result["arguments"]
    rows = [
        f"{config['checkpoint']} on {result['clips']} clips of {config['data_dir']}/{config['split']} "
        f"({config['captions']}), seed {config['seed']}, {result['wall_s']['all']:.0f} s",
        "",
        figures_table(result["control"], control.NAMES, COLUMNS),
        "chance: requests shuffled among the clips; oracle: real clips, their own labels; interval and n: generated",
        "",
        figures_table(result["autoencoder"], AUTOENCODER, ["reconstructed"]),
        "",
        figures_table(result["signal"], SIGNAL, ["generated", "oracle", "reconstructed"]),
    ]
    for name, card in result["listeners"].items():
        own = ", ".join(f"{k.removeprefix('test_')} {v:.3f}" for k, v in card.items() if isinstance(v, float))
        rows += ["", f"{name}: {card['name']}; on the test split: {own}"]
    if result["listeners_absent"]:
        rows += ["", f"not there, their figures left out: {', '.join(result['listeners_absent'])}"]
    missing = {name: count for name, count in result["missing_labels"].items() if count}
    if missing:
        rows += ["", f"labels missing (figure left out for those clips): {missing}"]
    return "\n".join(rows)


def main(argv: list[str] | None = None) -> int:
    """Command line; bad input gives one line and exit code 2."""
    config = parse_config(EvaluateRun, argv)
    try:
        check(config)
        read_rows(config.data_dir, config.split)

        pipe = load_published(config.checkpoint)
        pipe.set_progress_bar_config(disable=True)
        # Spawned, since a fork of a process in which torch has threads may hang.
        context = multiprocessing.get_context("spawn")
        workers = ProcessPoolExecutor(config.num_workers, context) if config.num_workers else nullcontext()
        with workers as pool:
            result = evaluate(config, pipe, load_listeners(config.tagger, config.beat_tracker), pool)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    output = Path(config.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.replace(output)
    print(report(result))
    print(f"\n{output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
