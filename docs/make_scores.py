"""Sixteen pieces, not chosen: docs/samples/composed/*.mid and *.ogg, docs/samples/composed.png, and players for them
in docs/samples/index.html; docs/samples/chain.webp, the way of one piece from words to sound.

python docs/make_scores.py --composer runs/small/composer/final        # or `make scores COMPOSER=folder`

Seed k has the k-th style of the scorebook as its words, and nothing else: 16 bars, the key is the seed's.
"""

import argparse
import html
import re
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipelines.hub import load_pipeline  # noqa: E402
from pipelines.scores import load_composer  # noqa: E402
from pipelines.vivace_score import Score, quarters_per_bar  # noqa: E402
from training.data.scorebook.styles import STYLES  # noqa: E402

COLORS = {"harmony": "#9ab8d8", "bass": "#3a7d44", "lead": "#c0392b", "drums": "#555555"}
BARS = 16
CHAIN = "mellow jazz trio with piano and upright bass, 96 bpm, 4 bars, A minor"
SMALLER = 0.85  # of Vorbis, 0 to 1: about 70 kbit/s


def draw(scores: list[Score], titles: list[str], path: Path) -> None:
    """Piano rolls as small multiples: pitch over bars, drums below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 13), dpi=80, layout="constrained")
    for place, (score, title) in enumerate(zip(scores, titles, strict=True)):
        axes = figure.add_subplot(4, 4, place + 1)
        draw_roll(axes, score)
        axes.set_xticks(range(0, score.bars + 1, 4))
        axes.set_title(title, fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))


def draw_roll(axes, score: Score) -> None:
    """One piano roll: pitch over bars, drums below."""
    bar = float(quarters_per_bar(score.time_signature))
    for role, color in COLORS.items():
        onset, length, pitch, _ = score.notes(role).T
        if role == "drums":
            rows = np.unique(pitch)
            axes.scatter(onset / bar, 22 + 1.5 * np.searchsorted(rows, pitch), s=1.5, c=color, marker="s", lw=0)
        else:
            axes.hlines(pitch, onset / bar, (onset + 0.92 * length) / bar, colors=color, lw=1.6)
    axes.set(xlim=(0, score.bars), ylim=(20, 96), xticks=range(score.bars + 1), yticks=range(36, 97, 12))
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.tick_params(labelsize=7, length=2)


def draw_chain(pipe, prompt: str, path: Path) -> None:
    """The whole way of one piece on a page: words, score, latents at three noise levels, spectrogram."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = []

    def keep(pipe, step: int, timestep: torch.Tensor, values: dict) -> dict:
        places.append(values["latents"][0].float().numpy().copy())
        return {}

    made = pipe(prompt, seed=0, callback_on_step_end=keep)
    score, audio, rate = made.scores[0], made.audios[0], made.sampling_rate
    figure = Figure(figsize=(12, 13), dpi=80, layout="constrained")
    rows = figure.subplots(5, 1, height_ratios=[3, 1.5, 1.5, 1.5, 3])
    draw_roll(rows[0], score)
    understood = f"{score.bars} bars of {score.time_signature}, {score.bpm:g} bpm, {score.key}"
    names = ", ".join(f"{track.instrument or track.role} ({track.role})" for track in score.tracks)
    rows[0].set_title(f"\u201c{prompt}\u201d is understood as {understood};\ncomposed for {names}", fontsize=9)
    last = len(places) - 1
    for axes, step in zip(rows[1:4], [0, last // 2, last], strict=True):
        axes.imshow(places[step], aspect="auto", cmap="RdBu", vmin=-3, vmax=3, interpolation="nearest")
        title = f"latents after {step + 1} of {last + 1} steps: {len(places[step])} channels over frames"
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7, length=2)
    rows[4].specgram(audio.mean(0) + 1e-6, NFFT=2048, Fs=rate, noverlap=1536, cmap="magma", vmin=-140, vmax=-40)
    rows[4].set(ylim=(0, 10000), xlim=(0, audio.shape[1] / rate))
    rows[4].tick_params(labelsize=7, length=2)
    rows[4].set_title(f"the decoded piece, {len(audio)} channels at {rate} Hz: Hz over seconds", fontsize=9)
    FigureCanvasAgg(figure).print_webp(str(path))


def write_vorbis(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write (samples, channels) as a small file, in blocks: libsndfile ends the program with a minute of Vorbis."""
    with soundfile.SoundFile(
        path, "w", rate, audio.shape[1], "VORBIS", format="OGG", compression_level=SMALLER
    ) as file:
        for first in range(0, len(audio), rate):
            file.write(audio[first : first + rate])


def list_pieces(titles: list[str], page: Path) -> None:
    """Put a player for each piece between the marks of the page of samples."""
    players = [
        f"<article>\n  <h2>{html.escape(title)}</h2>\n"
        f'  <audio controls preload="none" src="composed/{seed:02d}.ogg"></audio>\n'
        f'  <p><a href="composed/{seed:02d}.mid">MIDI</a></p>\n</article>'
        for seed, title in enumerate(titles)
    ]
    begin, end = "<!-- pieces -->", "<!-- end of pieces -->"
    text = re.sub(f"{begin}.*{end}", lambda _: "\n".join([begin, *players, end]), page.read_text(), flags=re.DOTALL)
    page.write_text(text)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--composer", default="runs/small/composer/final", help="folder of composer weights")
    parser.add_argument(
        "--checkpoint", default="checkpoints/small", help="folder that reads the words and plays the notes"
    )
    parser.add_argument("--output_dir", default="docs/samples", help="folder to write to")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    pipe = load_pipeline(options.checkpoint)
    pipe = pipe.from_pipe(pipe, composer=load_composer(pipe, options.composer))
    folder = Path(options.output_dir)
    (folder / "composed").mkdir(parents=True, exist_ok=True)
    styles = list(STYLES)[:16]
    scores = [pipe.compose(style, bars=BARS, seed=seed)[0] for seed, style in enumerate(styles)]
    titles, plays = [], bool(pipe.unet.config.get("note_channels"))
    for seed, (style, score) in enumerate(zip(styles, scores, strict=True)):
        score.save(folder / "composed" / f"{seed:02d}.mid")
        titles.append(f"{seed}: {style}, {score.key}, {score.time_signature}, {score.bpm:g} bpm")
        if plays:
            played = pipe(style, score=score, seed=seed)
            write_vorbis(folder / "composed" / f"{seed:02d}.ogg", played.audios[0].T, played.sampling_rate)
    draw(scores, titles, folder / "composed.png")
    if plays:
        draw_chain(pipe, CHAIN, folder / "chain.webp")
    if plays and (folder / "index.html").is_file():
        list_pieces(titles, folder / "index.html")


if __name__ == "__main__":
    main()
