"""Reports of an evaluation: tables as text, and an HTML page with pictures and sound that needs no other files."""

import base64
import html
import io
from collections import Counter
from dataclasses import dataclass

import librosa
import numpy as np

from training.data.clips import encode_audio
from training.metrics import control
from training.metrics.request import Request
from training.metrics.summary import figures_table

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
# Columns in the order of the tables; columns without figures are left out.
CONTROL_COLUMNS = ["generated", "paraphrased", "labelled", "chance", "oracle", "reconstructed"]
SIGNAL_COLUMNS = ["audio", "generated", "oracle", "reconstructed"]


def text_report(result: dict) -> str:
    """The tables of a result of training.evaluate, with notes that explain them."""
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
        "\nown labels. paraphrased: captions in words held back from training. stated: named in the caption."
    )
    absent = [
        label for name, label in control.NAMES.items() if not any(v["n"] for v in result["control"][name].values())
    ]
    if absent:
        parts.append(f"left out, since no clip has the label or the network is missing: {'; '.join(absent)}")
    for name, kind in (("oracle_by_source", "real clips"), ("labelled_by_source", "clips")):
        if name in result and len(sources := list(result[name]["beat_f"])) > 1:
            counts = Counter(row["source"] for row in result["per_clip"])
            listed = ", ".join(f"{source} {counts[source]}" for source in sources)
            parts.append(f"{kind} by source ({listed})\n" + figures_table(result[name], control.NAMES, sources))
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
        parts.append(f"not found, their figures left out: {', '.join(result['listeners_absent'])}")
    missing = {name: count for name, count in result["missing_labels"].items() if count}
    if missing:
        parts.append(f"labels missing (figure left out for those clips): {missing}")
    if result.get("stated_known") == 0:
        parts.append("the rows do not list what each caption states: all labels of a row are taken as requested")
    if result["resampled"]:
        parts.append(f"{result['resampled']} clips were resampled to {result['sampling_rate']} Hz")
    if result["unreadable"]:
        parts.append(f"{len(result['unreadable'])} clips could not be read and were left out")
    return "\n\n".join(parts)


def distribution_text(figures: dict) -> str:
    """Distances from real music with their floor and ceiling, diversity and memorisation, as text."""
    if "left_out" in figures:
        return f"distribution: {figures['left_out']}"
    sources = [name for name in ("floor", "ceiling", "generated") if name in figures["kernel"]]

    def cell(value: dict | float | None, key: str) -> str:
        value = value.get(key) if isinstance(value, dict) else value
        return "-" if value is None else f"{value:.3f}"

    lines = [["distance from real clips", *sources]]
    for name, label, key in (
        ("frechet", "Frechet", "mean"),
        ("frechet_infinite", "Frechet, infinitely many clips", "distance"),
        ("kernel", "kernel (unbiased MMD, cubic)", "mean"),
    ):
        lines.append([label, *(cell(figures[name][source], key) for source in sources)])
    width = max(len(line[0]) for line in lines)
    text = "\n".join(line[0].ljust(width) + "".join(v.rjust(12) for v in line[1:]) for line in lines)
    counts = figures["counts"]
    unbiased = f" ({counts['generated']} for the last two, except for the floor)" if "real" in counts else ""
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


# The HTML page.

# Figures by which clips are sorted; all are best at 1.
JUDGED = ("tempo_4pct", "beat_f", "downbeat_f", "key_mirex", "chord_cosine", "stated_heard", "drums", "style")
MELS = 96
TICKS_HZ = (100, 500, 1000, 2000, 4000, 8000, 16000)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2rem auto; padding: 0 1rem; color: #222;
  background: #fff }
pre { overflow-x: auto; background: #f4f4f4; padding: 1rem; font-size: 12px; line-height: 1.35 }
article { border-top: 1px solid #ccc; padding: 1rem 0 }
h2 { font-size: 1rem; margin: 0 } img { width: 100%; height: auto } audio { width: 100% }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } pre { background: #242424 } }
"""


@dataclass(frozen=True)
class ClipPage:
    """One clip: its name, its prompt (or ""), its audio (samples,), what was requested, and its control figures."""

    name: str
    prompt: str
    audio: np.ndarray
    request: Request
    figures: dict[str, float | None]

    @property
    def obedience(self) -> float:
        """Mean of the figures in JUDGED; 1 if the clip has none of them."""
        values = [self.figures[name] for name in JUDGED if self.figures.get(name) is not None]
        return float(np.mean(values)) if values else 1.0


def html_report(text: str, clips: list[ClipPage], sampling_rate: int, most: int) -> str:
    """The HTML page: the tables `text`, and the `most` clips with the worst figures, worst first."""
    chosen = sorted(clips, key=lambda clip: clip.obedience)[:most]
    body = "\n".join(_article(clip, sampling_rate) for clip in chosen)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Vivace: evaluation</title><style>{STYLE}</style></head><body>
<h1>Evaluation</h1>
<pre>{html.escape(text)}</pre>
<h1>{len(chosen)} of {len(clips)} clips, worst first</h1>
<p>Requested beats are thin lines over the spectrogram, requested downbeats thick ones.</p>
{body}
</body></html>
"""


def _article(clip: ClipPage, sampling_rate: int) -> str:
    figures = ", ".join(f"{name} {value:.2f}" for name, value in clip.figures.items() if value is not None)
    request = clip.request
    bpm = None if request.bpm is None else f"{request.bpm:g} bpm"
    requested = ", ".join(filter(None, (bpm, request.key, request.style, *(request.stated or ()))))
    sound = _data("audio/flac", encode_audio(np.clip(clip.audio, -1.0, 1.0)[None], sampling_rate))
    picture = _data("image/png", picture_of(clip, sampling_rate))
    return f"""<article>
<h2>{html.escape(clip.name)}: {clip.obedience:.2f}</h2>
<p>{html.escape(clip.prompt)}<br><small>requested: {html.escape(requested)}<br>{html.escape(figures)}</small></p>
<img alt="waveform and spectrogram of {html.escape(clip.name)}" src="{picture}">
<audio controls preload="none" src="{sound}"></audio>
</article>"""


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture_of(clip: ClipPage, sampling_rate: int) -> bytes:
    """PNG: the waveform above the log-mel spectrogram, with the requested beats and downbeats over it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    duration_s = len(clip.audio) / sampling_rate
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    wave, spectrum = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    size = max(1, len(clip.audio) // 1500)
    parts = clip.audio[: len(clip.audio) // size * size].reshape(-1, size)
    times = (np.arange(len(parts)) + 0.5) * size / sampling_rate
    wave.fill_between(times, parts.min(axis=1), parts.max(axis=1), linewidth=0.3)
    wave.set_ylim(-1, 1)
    mel = librosa.feature.melspectrogram(y=clip.audio, sr=sampling_rate, n_fft=1024, hop_length=256, n_mels=MELS)
    level = np.maximum(librosa.power_to_db(mel, ref=max(float(mel.max()), 1e-9)), -80.0)
    spectrum.imshow(level, origin="lower", aspect="auto", extent=(0, duration_s, 0, MELS), cmap="magma")
    shown = [hertz for hertz in TICKS_HZ if hertz < sampling_rate / 2]
    centres = librosa.mel_frequencies(n_mels=MELS, fmax=sampling_rate / 2)
    spectrum.set_yticks(np.interp(shown, centres, np.arange(MELS) + 0.5), [f"{hertz}" for hertz in shown])
    for times_s, width in ((clip.request.beats_s, 0.5), (clip.request.downbeats_s, 1.4)):
        if times_s is not None:
            inside = [t for t in times_s if 0 <= t < duration_s]
            spectrum.vlines(inside, 0, MELS, colors="white", linewidth=width, alpha=0.7)
    spectrum.set_xlim(0, duration_s)
    spectrum.set_ylabel("Hz (mel)")
    spectrum.set_xlabel("seconds")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return file.getvalue()
