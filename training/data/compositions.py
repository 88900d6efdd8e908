"""Pieces for the composer: drawn as the scorebook draws them, without rendering, and kept as tokens.

    python -m training.data.compositions --pieces 12000 --output_dir data/compositions

Most scores are taken whole, from their first bar to their last (`WHOLE`), the others are excerpts that begin anywhere;
of both is known which bar of the score they begin with and how far it is to its end.

A folder holds one file a split, `train.safetensors` and so on, with the tokens of all pieces one after another and a
row of conditions for each; `compositions.json` says what made it.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from pipelines.composer_vivace import DENSITIES, NAMES, ROLE_COLUMNS, UNKNOWN
from pipelines.vivace_score import MidiPart, Score, Track, find_roles
from pipelines.vivace_theory import KEYS, parse_time_signature
from pipelines.vivace_tokens import chord_token, encode_score, key_shift
from training.config import command
from training.data.scorebook.build import split_of
from training.data.scorebook.captions import Facts, captions
from training.data.scorebook.harmony import chroma
from training.data.scorebook.instruments import INSTRUMENTS
from training.data.scorebook.labels import NOTE_ROLES, Settings, draw_piece, scores_of
from training.data.scorebook.piece import Piece
from training.data.scorebook.production import draw_production
from training.encode_latents import encode_texts, load_text_encoder
from training.run.checkpoints import write_json
from training.run.streams import ClipStream, clip_rng

SOURCES = {"procedural": 0.25, "folk": 0.4, "classical": 0.2, "freedoom": 0.15}
PLAYERS = tuple(INSTRUMENTS)
PIECE_S = 45.0  # music that a piece is drawn for, seconds, if it is an excerpt or made by rule
WHOLE = 0.75  # share of the scores that are taken whole


def roles_of(piece: Piece) -> list[str]:
    """The role of each track of a piece; of an ensemble the highest voice leads and the lowest is the bass."""
    if piece.source == "classical":
        voices = [k for k, track in enumerate(piece.tracks) if track.role == "voice"]
        voices.sort(key=lambda k: -float(np.median(piece.tracks[k].notes[:, 2])))
        roles = [NOTE_ROLES[track.role] for track in piece.tracks]
        for place, k in enumerate(voices):
            roles[k] = "lead" if place == 0 else "bass" if place == len(voices) - 1 else "harmony"
        return roles
    if piece.source == "freedoom":
        return find_roles([
            MidiPart(t.role, 9 if NOTE_ROLES[t.role] == "drums" else 0, 33 if t.role == "bass" else 0, list(t.notes))
            for t in piece.tracks
        ])  # fmt: skip
    return [NOTE_ROLES[track.role] for track in piece.tracks]


def score_of(piece: Piece) -> tuple[Score, list[tuple[float, int]] | None]:
    """A piece from its first downbeat on as a score in whole bars, and its chords as (quarter, token). A bar that is
    not full counts where a score ends with it."""
    bar = piece.bar_q
    end = max(float((track.notes[:, 0] + track.notes[:, 1]).max()) for track in piece.tracks if len(track.notes))
    bars, (first, total) = max(1, math.floor(end / bar + 0.05)), piece.place
    if bars + 1 == total - first and end > bars * bar + 1e-6:
        bars += 1  # the last bar of a tune with an upbeat
    tracks = []
    for track, role in zip(piece.tracks, roles_of(piece), strict=True):
        notes = track.notes[(track.notes[:, 0] >= -0.03) & (track.notes[:, 0] < bars * bar - 0.02)].copy()
        notes[:, 0] = notes[:, 0].clip(0)
        notes[:, 3] = notes[:, 3].clip(0.05, 1.0)
        if len(notes):
            tracks.append(Track(role, notes, None if role == "drums" else track.name))
    key = None if piece.tonic is None else KEYS[2 * piece.tonic + piece.minor]
    score = Score(tuple(tracks), piece.bpm, piece.meter, bars, key)
    shift, chords = key_shift(key), []
    for onset, chord in piece.chords:
        if chord is not None and onset < bars * bar:
            chords.append((max(onset, 0.0), chord_token(np.array(chroma(chord), dtype=float), chord[0] % 12, shift)))
    return score, chords or None


def caption_of(piece: Piece, rng: np.random.Generator) -> str:
    """One caption of a piece, as the scorebook writes them."""
    named = [track for track in piece.tracks if track.name not in ("drums", "percussion")]
    drums = next((track.name for track in piece.tracks if track.name in ("drums", "percussion")), None)
    melody = next((track.name for track in named if track.role == "melody"), None)
    names = tuple(dict.fromkeys(track.name for track in named))
    key = None if piece.tonic is None else KEYS[2 * piece.tonic + piece.minor]
    room = draw_production(piece.style, piece.genre, rng)[1]
    facts = Facts(
        piece.style, piece.style_words, piece.style_heldout_words, piece.genre, tuple(piece.moods), names, melody,
        drums, piece.bpm, key, piece.meter, None, room, piece.dynamics, False,
    )  # fmt: skip
    return captions(facts, 1, rng)[0][0]


def densities(tokens: np.ndarray) -> list[int]:
    """Class of each role: in how many of 16 steps, on average, a note begins; `UNKNOWN` if silent."""
    classes = []
    for role, names in ROLE_COLUMNS.items():
        columns = tokens[:, [NAMES.index(name) for name in names]]
        starts = (columns > (0 if role == "drums" else 1)).any(1).sum()
        classes.append(int(np.searchsorted(DENSITIES, starts / len(tokens) * 16.0)) if starts else UNKNOWN)
    return classes


def draw(index: int, scores: dict, settings: Settings, whole: float = WHOLE) -> dict | None:
    """Piece `index` of a set as tokens and conditions, or None where it has too little music; `whole` see `WHOLE`."""
    entire = bool(clip_rng(settings.seed, index, ClipStream.WHOLE).random() < whole)
    piece, rng = draw_piece(settings, index, scores, shares=SOURCES, whole=entire)
    if not any(len(track.notes) for track in piece.tracks):
        return None
    score, chords = score_of(piece)
    if score.bars < 4 or not score.tracks:
        return None
    tokens = encode_score(score, chords).numpy()
    players = [UNKNOWN] * 3
    for place, role in enumerate(("lead", "harmony", "bass")):
        named = [track for track in score.tracks if track.role == role and track.instrument in INSTRUMENTS]
        if named:
            players[place] = PLAYERS.index(max(named, key=lambda track: len(track.notes)).instrument)
    return {
        "tokens": tokens, "caption": caption_of(piece, rng), "work": piece.work,
        "source": tuple(SOURCES).index(piece.source),
        "row": [
            len(tokens) // score.bars, parse_time_signature(score.time_signature),
            int(piece.minor) if piece.tonic is not None else UNKNOWN,
            round(60.0 / score.quarter_s * 100),
            *(int(role in score.roles) for role in ROLE_COLUMNS), *densities(tokens), *players, *piece.place,
        ],
    }  # fmt: skip


def build(pieces: int, seed: int, output_dir: Path, text_encoder: str, whole: float = WHOLE) -> dict[str, int]:
    """Draw pieces and write the splits; the number of pieces in each."""
    sources = tuple(SOURCES)
    settings = Settings(seed, sources, 24000, 1, PIECE_S, ("",), str(output_dir))
    scores = scores_of(sources)
    rows: dict[str, list[dict]] = {"train": [], "validation": [], "test": []}
    for index in range(pieces):
        item = draw(index, scores, settings, whole)
        if item is not None:
            rows[split_of(item["work"])].append(item)
        if (index + 1) % 1000 == 0:
            print(f"{index + 1} pieces", flush=True)
    encoder, tokenizer = load_text_encoder(text_encoder)
    output_dir.mkdir(parents=True, exist_ok=True)
    for split, items in rows.items():
        if not items:
            continue
        texts = [item["caption"] for item in items]
        states = [state.float().mean(0) for state in encode_texts(encoder, tokenizer, texts)]
        values = {
            "tokens": torch.from_numpy(np.concatenate([item["tokens"] for item in items]).astype(np.uint8)),
            "lengths": torch.tensor([len(item["tokens"]) for item in items]),
            "rows": torch.tensor([item["row"] for item in items], dtype=torch.int32),
            "source": torch.tensor([item["source"] for item in items], dtype=torch.uint8),
            "text": torch.stack(states).half(),
        }
        save_file(values, output_dir / f"{split}.safetensors.partial")
        (output_dir / f"{split}.safetensors.partial").replace(output_dir / f"{split}.safetensors")
    counts = {split: len(items) for split, items in rows.items()}
    made = {"pieces": counts, "seed": seed, "whole": whole, "sources": SOURCES, "players": PLAYERS}
    write_json(output_dir / "compositions.json", made)
    return counts


class Compositions:
    """A split of a folder of compositions, cut into crops of whole bars of `steps`; shorter pieces are padded."""

    def __init__(self, folder: str, split: str, steps: int):
        path = Path(folder) / f"{split}.safetensors"
        if not path.is_file():
            raise ValueError(f"data_dir {folder}: no {path.name} there; make it with training.data.compositions")
        values = load_file(path)
        self.tokens, self.rows, self.text, self.source = (values[n] for n in ("tokens", "rows", "text", "source"))
        self.real = self.source != tuple(SOURCES).index("procedural")
        self.starts = torch.cat([torch.zeros(1, dtype=torch.long), values["lengths"].cumsum(0)])
        self.steps = steps

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """A crop with its conditions; `visible` is False where it is padded. Steps are counted from the beginning of
        the score that it is of, and `to_end` says in how many bars that one ends."""
        bar, beats, minor, bpm, *rest = self.rows[index].tolist()
        whole = self.tokens[self.starts[index] : self.starts[index + 1]]
        bars, most = len(whole) // bar, max(1, self.steps // bar)
        first = int(rng.integers(0, max(1, bars - most + 1)))
        crop = whole[first * bar : (first + most) * bar].long()
        tokens = torch.zeros(self.steps, len(NAMES), dtype=torch.long)
        tokens[: len(crop)] = crop
        visible = torch.arange(self.steps) < len(crop)
        place, total = rest[11:] or (0, 0)  # older folders do not know
        number = place + first + torch.arange(self.steps) // bar
        to_end = total - 1 - number % total if total else torch.full_like(number, UNKNOWN)
        return {
            "index": torch.tensor(index), "tokens": tokens, "visible": visible,
            "first_step": torch.tensor((place + first) * bar), "steps_per_bar": torch.tensor(bar),
            "beats": torch.tensor(beats), "minor": torch.tensor(minor), "bpm": torch.tensor(bpm / 100.0),
            "states": torch.tensor(rest[:4]), "density": torch.tensor(rest[4:8]), "players": torch.tensor(rest[8:11]),
            "text": self.text[index].float(), "to_end": to_end,
        }  # fmt: skip


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pieces", type=int, default=12000, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--whole", type=float, default=WHOLE, help="share of the scores that are taken whole")
    parser.add_argument("--output_dir", default="data/compositions", help="folder to write")
    parser.add_argument("--text_encoder", default="checkpoints/small", help="folder with text_encoder/ and tokenizer/")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    if not 0 <= options.whole <= 1:
        raise ValueError(f"whole is {options.whole}; allowed: 0 to 1")
    print(build(options.pieces, options.seed, Path(options.output_dir), options.text_encoder, options.whole))


if __name__ == "__main__":
    command(main)
