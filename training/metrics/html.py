"""An evaluation as one page that holds all it shows: tables, pictures and sound, without network or other files."""

import base64
import html
import io
from dataclasses import dataclass

import librosa
import numpy as np

from training.data.shards import encode_audio
from training.metrics.request import Request

# Higher is better and 1 is best: what a clip is judged by.
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
    """One clip: its name, the prompt ("" for none), (samples,) audio, what was asked, and its control figures."""

    name: str
    prompt: str
    audio: np.ndarray
    request: Request
    figures: dict[str, float | None]

    @property
    def obedience(self) -> float:
        """Mean of the figures that it is judged by; 1 where there is none."""
        known = [self.figures[name] for name in JUDGED if self.figures.get(name) is not None]
        return float(np.mean(known)) if known else 1.0


def html_report(text: str, clips: list[ClipPage], sampling_rate: int, most: int) -> str:
    """The page.

    Args:
        text: tables.
        clips: all clips; the `most` that obey least are shown, worst first.
        sampling_rate: Hz.
    """
    chosen = sorted(clips, key=lambda clip: clip.obedience)[:most]
    body = "\n".join(_article(clip, sampling_rate) for clip in chosen)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Vivace: evaluation</title><style>{STYLE}</style></head><body>
<h1>Evaluation</h1>
<pre>{html.escape(text)}</pre>
<h1>{len(chosen)} of {len(clips)} clips, those that obey least first</h1>
<p>Requested beats are thin lines over the spectrogram, requested downbeats thick ones.</p>
{body}
</body></html>
"""


def _article(clip: ClipPage, sampling_rate: int) -> str:
    figures = ", ".join(f"{name} {value:.2f}" for name, value in clip.figures.items() if value is not None)
    request = clip.request
    bpm = None if request.bpm is None else f"{request.bpm:g} bpm"
    asked = ", ".join(filter(None, (bpm, request.key, request.style, *(request.stated or ()))))
    sound = _data("audio/flac", encode_audio(np.clip(clip.audio, -1.0, 1.0)[None], sampling_rate))
    picture = _data("image/png", picture_of(clip, sampling_rate))
    return f"""<article>
<h2>{html.escape(clip.name)}: {clip.obedience:.2f}</h2>
<p>{html.escape(clip.prompt)}<br><small>asked: {html.escape(asked)}<br>{html.escape(figures)}</small></p>
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
