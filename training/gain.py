"""What an adapter gained and what it lost: pieces made without and with it, from the same seeds.

Each piece has the words of a file that was held out, and a tempo and a key that are drawn where the words name none.
The distance of the pieces to the held-out clips says what was gained, and how often the drawn tempo and key are heard
says what was lost. `training.finetune` calls it.
"""

import time
from pathlib import Path

import numpy as np

from pipelines.hub import load_native
from pipelines.vivace_reading import read_prompt
from pipelines.vivace_theory import KEYS, parse_time_signature
from training.data.clips import read_rows
from training.generate import caption, choose, generate
from training.metrics import control
from training.metrics.distribution import energy_distance, pair_distances, unit
from training.metrics.embedding import TaggerEmbedder
from training.metrics.features import compile_alone
from training.metrics.folder import load_clips
from training.metrics.listening import analyse, load_listeners
from training.metrics.reconstruction import FLOOR, mel_magnitudes
from training.metrics.request import anchored_requests
from training.run.streams import Measure, item_rng

PIECE_S = 8.0  # long enough for a tempo and a key
TEMPI = (72, 144)  # beats a minute, whole numbers
CLIPS = 48  # held-out clips to compare with, at most
BATCH = 4
NETWORKS = ("tempo_4pct", "beat_f", "downbeat_f", "key_exact", "key_mirex")
SIGNALS = ("tempo_4pct_librosa", "beat_f_librosa", "key_exact_profile", "key_mirex_profile")  # where there are none
SOUND, TAGGER = "log_mel_db", "tagger"
DISTANCES = {SOUND: "sound, dB", TAGGER: "what the tagger hears"}


def sound_statistics(audio: np.ndarray, sampling_rate: int) -> np.ndarray:
    """Mean and standard deviation over time of each mel band in dB, of audio (samples,) brought to the same level:
    (160,), scaled so that two clips which differ by 1 dB in every number have the distance 1."""
    rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    mel = mel_magnitudes(audio.astype(np.float64) / max(rms, 1e-9), sampling_rate)
    decibels = 20.0 * np.log10(np.maximum(mel, max(FLOOR * mel.max(), 1e-10)))
    return np.concatenate([decibels.mean(axis=1), decibels.std(axis=1)]) / np.sqrt(2.0 * len(decibels))


def requests_of(rows: list[dict], pieces: int, seed: int) -> list[dict]:
    """Rows of `pieces` clips to make: the words of `rows` in turn, each with a tempo and a key."""
    made = []
    for number in range(pieces):
        row, rng = rows[number % len(rows)], item_rng(seed, Measure.TEMPO_AND_KEY, number)
        text, _ = caption(row, "text", seed, number)
        read = read_prompt(text)
        bpm, key = float(rng.integers(TEMPI[0], TEMPI[1] + 1)), KEYS[int(rng.integers(len(KEYS)))]
        meter = read["time_signature"] or "4/4"
        made.append({
            "file_name": row["file_name"], "prompt": text, "bpm": read["bpm"] or bpm, "key": read["key"] or key,
            "time_signature": meter, "beats_per_bar": parse_time_signature(meter), "duration_s": PIECE_S,
        })  # fmt: skip
    return made


def distances(vectors: dict[str, np.ndarray]) -> dict:
    """Energy distances to the clips `held_out` of those made `before` and `after`, and of the `music` trained on; and
    how many of the pieces are nearer to the held-out clips after than before, on average over these."""
    held = vectors["held_out"]
    mean = {name: pair_distances(vectors[name], held).mean(axis=1) for name in ("before", "after")}
    figures = {name: energy_distance(vectors[name], held) for name in ("before", "after", "music")}
    return figures | {"nearer": int((mean["after"] < mean["before"]).sum())}


def evaluate_adapter(
    checkpoint: Path, adapter: Path, data_dir: Path, pieces: int, seed: int, listeners: dict[str, str]
) -> dict:
    """Figures of a checkpoint before and after an adapter is loaded, ready for JSON.

    Args:
        checkpoint: a published folder, which is run with the code of this checkout.
        adapter: a folder that `load_lora_weights` loads.
        data_dir: written by training.data.prepare, with the splits train and validation.
        pieces: made without and with the adapter, at least 1; piece i has the seed `seed` + i.
        listeners: folders of `tagger`, `beat_tracker` and `key`; figures of a missing one are left out.

    Returns:
        `distance`: for each of `DISTANCES` see `distances`; `control`: figure -> before and after -> mean, interval, n;
        `requests` of the pieces; `held_out_clips`, `pieces`, `piece_s`, `seed`, `wall_s`.
    """
    began = time.monotonic()
    compile_alone()
    judges = load_listeners(**listeners)
    held_rows = choose(read_rows(data_dir, "validation"), CLIPS, seed)
    rows = requests_of(held_rows, pieces, seed)
    captions = [row["prompt"] for row in rows]
    pipe = load_native(checkpoint)
    pipe.set_progress_bar_config(disable=True)
    rate = int(pipe.vae.config.sampling_rate)
    audios = {"before": generate(pipe, rows, captions, seed, BATCH)}
    pipe.load_lora_weights(adapter)
    audios["after"] = generate(pipe, rows, captions, seed, BATCH)

    facts: list = [{}] * pieces
    figures = {
        name: control.compare(
            analyse(made, rate, judges, None), anchored_requests(rows, made, rate, facts), judges.thresholds
        )
        for name, made in audios.items()
    }
    names = NETWORKS if judges.tracker is not None and judges.key is not None else SIGNALS
    held = load_clips(held_rows, rate).mono
    audios |= {"held_out": held, "music": load_clips(choose(read_rows(data_dir, "train"), len(held), seed), rate).mono}
    measured = {
        SOUND: {name: np.stack([sound_statistics(audio, rate) for audio in made]) for name, made in audios.items()}
    }
    if judges.tagger is not None:
        tagger = TaggerEmbedder(listeners["tagger"])
        measured[TAGGER] = {name: unit(tagger.embed(made, rate)) for name, made in audios.items()}
    return {
        "pieces": pieces, "piece_s": PIECE_S, "seed": seed, "held_out_clips": len(held),
        "distance": {name: distances(vectors) for name, vectors in measured.items()},
        "control": control.summaries(figures, {name: control.NAMES[name] for name in names}, seed),
        "requests": [{name: row[name] for name in ("prompt", "bpm", "key", "time_signature")} for row in rows],
        "wall_s": round(time.monotonic() - began, 1),
    }  # fmt: skip


def table(figures: dict) -> str:
    """The figures as Markdown; `held_out_loss`, with before and after, is among them."""
    pieces, loss = figures["pieces"], figures["held_out_loss"]
    lines = ["| figure | without | with the adapter |", "|---|---|---|"]
    lines.append(f"| held-out loss | {loss['before']:.4f} | {loss['after']:.4f} |")
    for name, one in figures["distance"].items():
        aside = f"trained-on clips have {one['music']:.2f}; {one['nearer']} of {pieces} pieces are nearer"
        lines.append(
            f"| distance to held-out clips, {DISTANCES[name]} ({aside}) | {one['before']:.2f} | {one['after']:.2f} |"
        )
    for name, one in figures["control"].items():
        if one["before"]["mean"] is not None and one["after"]["mean"] is not None:
            lines.append(
                f"| asked and heard: {control.NAMES[name]} | {one['before']['mean']:.2f} | {one['after']['mean']:.2f} |"
            )
    return "\n".join(lines)


def verdict(figures: dict) -> tuple[str, str]:
    """What was gained and what was lost, a line each."""
    gained, lost = [], []
    pairs = [("held-out loss", figures["held_out_loss"])]
    pairs += [(f"distance of {DISTANCES[name]}", one) for name, one in figures["distance"].items()]
    for name, one in pairs:
        change = f"{name} {one['before']:.2f} -> {one['after']:.2f}"
        if one["before"] > 0.0:
            change += f" ({100.0 * (one['after'] / one['before'] - 1.0):+.0f} %)"
        (gained if one["after"] < one["before"] else lost).append(change)
    for name, one in figures["control"].items():
        before, after = one["before"]["mean"], one["after"]["mean"]
        if before is not None and after is not None and after != before:
            (lost if after < before else gained).append(f"{control.NAMES[name]} {before:.2f} -> {after:.2f}")
    nothing = f"nothing on these {figures['pieces']} pieces"
    return "; ".join(gained) or nothing, "; ".join(lost) or nothing
