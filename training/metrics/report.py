"""An evaluation as text."""

from collections import Counter

from training.metrics import control
from training.metrics.table import figures_table

AUTOENCODER = {
    "log_mel": "log10-mel L1 (80 bands, floor -80 dB)",
    "si_sdr_db": "SI-SDR, dB",
    "mr_stft": "multi-resolution STFT distance",
    "stereo_db": "stereo image error, dB",
}
SIGNAL = {
    "clipped": "share of samples clipped",
    "silent": "share of silent windows",
    "clicks": "clicks a second",
    "dc": "DC offset",
    "peak": "peak",
    "rms_db": "RMS, dB",
    "lufs": "loudness, LUFS",
    "bandwidth_hz": "bandwidth, Hz",
    "seam_click": "loops: jump at the seam (above 12 it clicks)",
    "seam_step_db": "loops: rise of level over the seam, dB",
}
# In the order in which they stand in a table; those without figures are left out.
CONTROL_COLUMNS = ["generated", "paraphrased", "labelled", "chance", "oracle", "reconstructed"]
SIGNAL_COLUMNS = ["audio", "generated", "oracle", "reconstructed"]


def text_report(result: dict) -> str:
    """The tables of a result of training.evaluate, and what has to be known to read them."""
    config = result["arguments"]
    about = f"{config['checkpoint']} on {config['data_dir']}/{config['split']}"
    if config["audio_dir"] is not None:
        against = "" if config["reference_dir"] is None else f" against {config['reference_dir']}"
        about = config["audio_dir"] + against
    parts = [f"{about}: {result['clips']} clips, seed {config['seed']}, {result['wall_s']['all']:.0f} s"]
    columns = [c for c in CONTROL_COLUMNS if any(c in by_source for by_source in result["control"].values())]
    parts.append(
        figures_table(result["control"], control.NAMES, columns)
        + "\ninterval and n: of the first column. chance: requests shuffled among the clips. oracle: real clips, their"
        "\nown labels. paraphrased: asked in words held back from training. stated: what the caption used names."
    )
    absent = [
        words for name, words in control.NAMES.items() if not any(v["n"] for v in result["control"][name].values())
    ]
    if absent:
        parts.append(f"left out, since no clip has the label or no network listened: {'; '.join(absent)}")
    for name, words in (("oracle_by_source", "real clips"), ("labelled_by_source", "clips")):
        if name in result and len(sources := list(result[name]["beat_f"])) > 1:
            counts = Counter(row["source"] for row in result["per_clip"])
            told = ", ".join(f"{source} {counts[source]}" for source in sources)
            parts.append(f"{words} by source ({told})\n" + figures_table(result[name], control.NAMES, sources))
    if result.get("autoencoder"):
        sources = {source for by_source in result["autoencoder"].values() for source in by_source}
        parts.append(figures_table(result["autoencoder"], AUTOENCODER, sorted(sources, reverse=True)))
    parts.append(figures_table(result["signal"], SIGNAL, [c for c in SIGNAL_COLUMNS if c in result["signal"]["peak"]]))
    if result.get("distribution"):
        parts.append(distribution_text(result["distribution"]))
    for name, card in result["listeners"].items():
        own = ", ".join(f"{k.removeprefix('test_')} {v:.3f}" for k, v in card.items() if isinstance(v, float))
        parts.append(f"{name}: {card['name']}, {card.get('sha256', '')[:12]}; on its test split: {own}")
    if result["listeners_absent"]:
        parts.append(f"not there, their figures left out: {', '.join(result['listeners_absent'])}")
    missing = {name: count for name, count in result["missing_labels"].items() if count}
    if missing:
        parts.append(f"labels missing (figure left out for those clips): {missing}")
    if result.get("stated_known") == 0:
        parts.append("these rows do not tell what each caption states: all that a row says is taken as asked for")
    if result["resampled"]:
        parts.append(f"{result['resampled']} clips were resampled to {result['sampling_rate']} Hz")
    if result["unreadable"]:
        parts.append(f"{len(result['unreadable'])} clips could not be read and were left out")
    return "\n\n".join(parts)


def distribution_text(figures: dict) -> str:
    """Distances from real music, beside floor and ceiling, diversity, memorisation."""
    if "left_out" in figures:
        return f"distribution: {figures['left_out']}"
    sources = [name for name in ("floor", "ceiling", "generated") if name in figures["kernel"]]

    def cell(value: dict | float | None, key: str) -> str:
        value = value.get(key) if isinstance(value, dict) else value
        return "-" if value is None else f"{value:.3f}"

    lines = [["distance from real clips", *sources]]
    for name, words, key in (
        ("frechet", "Frechet", "mean"),
        ("frechet_infinite", "Frechet, infinitely many clips", "distance"),
        ("kernel", "kernel (unbiased MMD, cubic)", "mean"),
    ):
        lines.append([words, *(cell(figures[name][source], key) for source in sources)])
    width = max(len(line[0]) for line in lines)
    text = "\n".join(line[0].ljust(width) + "".join(v.rjust(12) for v in line[1:]) for line in lines)
    counts = figures["counts"]
    unbiased = f" ({counts['generated']} for the last two, but for the floor)" if "real" in counts else ""
    text += (
        f"\nembedder: {figures['embedder']['name']}; {counts['compared']} clips a side{unbiased}; "
        "floor: other real clips; ceiling: the real clips through the autoencoder"
    )
    diversity = figures["diversity"]
    text += "\ndiversity (Vendi score): " + ", ".join(f"{name} {d['vendi']:.1f}" for name, d in diversity.items())
    if "memorisation" in figures:
        copied = figures["memorisation"]
        text += (
            f"\nmemorisation: {copied['share_nearer']:.3f} of generated clips are nearer to one of {counts['train']} "
            f"training clips than 95 % of test clips are (0.05 if nothing is copied); AUC {copied['auc']:.3f} (0.5)"
        )
    for name, reason in figures["missing"].items():
        text += f"\n{name} left out: {reason}"
    return text
