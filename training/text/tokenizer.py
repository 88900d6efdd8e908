"""The tokenizer of the shipped text encoder: lower-case whole words, pieces of words, single digits, bytes.

A Unigram model (Kudo 2018) whose vocabulary is put together rather than learnt as a whole: every wanted word is one
token and always wins; pieces counted in the teacher's vocabulary spell the other words; bytes spell the rest, so no
text gives `<unk>`. Digits stand alone, so that "127" is read as 1, 2, 7 and not as a rare word.
"""

import functools
import math
from collections import Counter
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
WORD_START = "\u2581"
# Above the score of any pair of pieces, so that a word of the vocabulary is never split.
WORD_SCORE = -1.0
BYTE_SCORE = -30.0
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def _splitting(tokenizer: Tokenizer) -> None:
    """Set how text is cleaned and cut: at spaces, around punctuation ("lo-fi" shares "lo"), before every digit."""
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace("\u266f", "#"), normalizers.Replace("\u266d", "b"), normalizers.NFKD(),
        normalizers.StripAccents(), normalizers.Lowercase(),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Punctuation("isolated"),
        pre_tokenizers.Metaspace(replacement=WORD_START, prepend_scheme="always"),
        pre_tokenizers.Digits(individual_digits=True),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace(WORD_START, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip


def learn_pieces(corpus: Sequence[str], size: int) -> dict[str, float]:
    """The single letters and the `size` substrings that spell the most letters of the words of the corpus, with their
    log-probabilities; those at the start of a word begin with the word mark.

    Counting instead of expectation maximisation, because the trainer of the tokenizers library gives slightly other
    scores at each run, and the same command must give the same tokenizer.
    """
    counts: Counter[str] = Counter(_ALPHABET + WORD_START)
    for word in corpus:
        marked = WORD_START + word
        for start in range(len(marked)):
            counts.update(marked[start:end] for end in range(start + 1, min(start + 8, len(marked)) + 1))
    longer = [piece for piece in counts if len(piece.removeprefix(WORD_START)) > 1 and counts[piece] > 1]
    longer.sort(key=lambda piece: (-counts[piece] * len(piece), piece))
    kept = [*dict.fromkeys(_ALPHABET + WORD_START), *longer[:size]]
    total = sum(counts[piece] for piece in kept)
    return {piece: math.log(counts[piece] / total) for piece in kept}


@functools.cache
def _splitter() -> Tokenizer:
    """A tokenizer for its cutting only."""
    tokenizer = Tokenizer(models.Unigram())
    _splitting(tokenizer)
    return tokenizer


def surface_words(text: str) -> list[str]:
    """The words of a text as the tokenizer cuts it: lower case, without punctuation and digits."""
    splitter = _splitter()
    cut = splitter.pre_tokenizer.pre_tokenize_str(splitter.normalizer.normalize_str(text))
    words = (piece.removeprefix(WORD_START) for piece, _ in cut)
    return [word for word in words if any(character.isalpha() for character in word)]


def build_tokenizer(
    words: Sequence[str], piece_corpus: Sequence[str], pieces: int = 1500, max_length: int = 64
) -> PreTrainedTokenizerFast:
    """A tokenizer that ends every text with `</s>`: lower-case `words` are one token each, and so many `pieces` for
    everything else are learnt from `piece_corpus`."""
    learnt = learn_pieces(piece_corpus, pieces)
    floor = min(learnt.values())
    vocabulary: dict[str, float] = {token: 0.0 for token in SPECIAL_TOKENS}
    vocabulary |= {WORD_START + word: WORD_SCORE for word in dict.fromkeys(words)}
    for character in "#/,.-':;!?&()+":
        vocabulary.setdefault(WORD_START + character, floor)
    for piece, score in learnt.items():
        # Pairs of pieces must stay below a whole word, hence the clamp.
        vocabulary.setdefault(piece, min(score, WORD_SCORE - 1.0))
    vocabulary |= {f"<0x{byte:02X}>": BYTE_SCORE for byte in range(256)}

    tokenizer = Tokenizer(models.Unigram(list(vocabulary.items()), SPECIAL_TOKENS.index("<unk>"), byte_fallback=True))
    _splitting(tokenizer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", SPECIAL_TOKENS.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=max_length, padding_side="right",
        clean_up_tokenization_spaces=False, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
