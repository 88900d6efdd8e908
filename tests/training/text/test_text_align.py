"""Pairs of sentences that state the same, and an encoder tuned to read the second as the first."""

import numpy as np
import pytest
import torch
from transformers import T5EncoderModel

from tests.conftest import make_text_encoder, make_tokenizer
from training.config import parse_config
from training.text import align as align
from training.text.sentence_pairs import CONCEPTS, OtherWords, Sentence, sentence_pair
from training.text.tags import heldout_phrases

NEARBY = {0: ["pianos of the world"]}


def pairs(count: int, seed: int = 0) -> list[tuple[Sentence, Sentence, bool]]:
    rng, words = np.random.default_rng(seed), OtherWords(NEARBY)
    return [sentence_pair(rng, words) for _ in range(count)]


def test_both_name_the_same_things_where_they_say_so():
    free, carried, equal = 0, 0, 0
    for plain, other, same_sentence in pairs(600):
        numbers = [{number for _, _, number in sentence.slots} for sentence in (plain, other)]
        assert numbers[0] == numbers[1] and numbers[0], (plain, other)
        for sentence in (plain, other):
            for start, end, number in sentence.slots:
                assert sentence.body[0] <= start < end <= sentence.body[1]
                if sentence is plain:
                    assert sentence.text[start:end] in CONCEPTS[number].own
            assert not any("\ue000" <= character <= "\uf8ff" for character in sentence.text)
        free, carried, equal = free + (not same_sentence), carried + (other.body[0] > 0), equal + (plain == other)
    assert free > 200 and carried > 100 and equal > 40


def test_other_words_are_many_and_none_is_held_out():
    held = {phrase.lower() for phrase in heldout_phrases()}
    used: dict[int, set[str]] = {}
    for _, other, _ in pairs(3000):
        for start, end, number in other.slots:
            used.setdefault(number, set()).add(other.text[start:end])
    assert not held & {word.lower() for words in used.values() for word in words}
    assert "pianos of the world" in used[0]
    assert np.median([len(words) for words in used.values()]) > 15


def test_held_out_sentences_are_not_told():
    for _, other, _ in pairs(2000, seed=1):
        text = other.text.lower()
        assert not any(words in text for words in ("please make", "using", "where we hear", "in the style of")), text


def tokens(sentences: list[Sentence]):
    return make_tokenizer()(
        [sentence.text for sentence in sentences], padding=True, return_offsets_mapping=True, return_tensors="pt"
    )


def test_tokens_meet_those_that_stand_for_the_same():
    """A slot's tokens get the mean of the plain words' states, the words between theirs, politeness nothing."""
    plain = Sentence("calm piano , 120 bpm", ((5, 10, 7),), (0, 20))
    other = Sentence("play calm warm soft piano , 120 bpm", ((10, 25, 7),), (5, 35))
    codes = [align.token_codes(tokens([one]), [one], [False], [True]) for one in (plain, other)]
    states = torch.randn(1, codes[0].shape[1], 8)
    target, has = align.token_targets(states, *codes)
    words = plain.text.split()
    assert has.tolist() == [[False, *[True] * (has.shape[1] - 1)]]
    assert torch.equal(target[0, 1], states[0, 0])  # calm
    for place in (2, 3, 4):
        assert torch.equal(target[0, place], states[0, words.index("piano")])
    assert torch.equal(target[0, 5:], states[0, 2:])
    sentence = align.token_codes(tokens([other]), [other], [False], [False])
    assert ((sentence >= 0) & (sentence < len(CONCEPTS))).sum() == 3 and (sentence == -1).sum() == 5


def test_a_text_against_itself_costs_nothing(tiny_text_encoder):
    config = parse_config(align.TextAlignRun, ["--word_noise", "0", "--batch_size", "8"])
    encoder = make_text_encoder().eval()
    data = align.AlignmentData(config, encoder, make_tokenizer(), NEARBY, ["calm piano", "happy drums"])
    data.words.other = lambda rng, number: None
    batch = data.batch(0, 0, 1, torch.device("cpu"))
    with torch.no_grad():
        losses = align.Alignment(encoder, 0.0)(**batch)
    assert losses["kept"].abs() < 1e-6
    shares = [align.Alignment(encoder, 0.0)(**data.batch(0, part, 2, torch.device("cpu"))) for part in (0, 1)]
    assert all(torch.isfinite(value) for share in shares for value in share.values())


@pytest.fixture
def known_phrases(monkeypatch):
    """A run without the teacher: phrases and kept texts are given."""
    monkeypatch.setattr(align, "prepare", lambda config: (NEARBY, ["calm piano", "happy drums at 120 bpm"]))


def run(folder, text_encoder, *more: str) -> T5EncoderModel:
    words = ["--text_encoder", str(text_encoder), "--output_dir", str(folder), "--batch_size", "16", "--log_every", "1"]
    align.main([*words, "--max_steps", "40", "--learning_rate", "3e-3", "--warmup_steps", "1", *more])
    return T5EncoderModel.from_pretrained(folder / "text_encoder")


def test_it_learns_goes_on_and_ends_the_same(tiny_text_encoder, known_phrases, tmp_path):
    whole = run(tmp_path / "whole", tiny_text_encoder)
    before = T5EncoderModel.from_pretrained(tiny_text_encoder / "text_encoder")
    config = parse_config(align.TextAlignRun, ["--batch_size", "64"])
    unseen = align.AlignmentData(config, before, make_tokenizer(), NEARBY, ["calm piano"])
    batch = unseen.batch(1000, 0, 1, torch.device("cpu"))
    with torch.no_grad():
        losses = [align.Alignment(encoder.eval(), 0.0)(**batch) for encoder in (before, whole)]
    assert losses[1]["word"] < 0.95 * losses[0]["word"], losses
    run(tmp_path / "parts", tiny_text_encoder, "--max_minutes", "0.00001")
    again = run(tmp_path / "parts", tiny_text_encoder)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))
    assert torch.equal(whole.encoder.final_layer_norm.weight, before.encoder.final_layer_norm.weight)
    words = [folder / "tokenizer" / "tokenizer.json" for folder in (tiny_text_encoder, tmp_path / "whole")]
    assert words[0].read_text() == words[1].read_text()  # nothing of the last batch in it


class Teacher:
    """Embeds a text as the sum of fixed random vectors of its words: near are texts that share words."""

    def embed(self, texts, label=""):
        rows = [torch.stack([self.word(word) for word in text.lower().split()]).sum(0) for text in texts]
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)

    @staticmethod
    def word(word: str) -> torch.Tensor:
        import zlib

        return torch.randn(48, generator=torch.Generator().manual_seed(zlib.crc32(word.encode())))


def test_nearby_phrases_share_a_word_with_what_they_are_taken_for():
    found = align.nearby_phrases(Teacher(), ["marimba", "violins", "table"], 300, 0)
    assert sum(map(len, found.values())) > 100
    listed = {number: {part for text in (*c.own, *c.synonyms, *c.lexicon)
                       for part in text.lower().split()}
              for number, c in enumerate(CONCEPTS)}  # fmt: skip
    share = [bool(listed[number] & set(text.lower().split())) for number, texts in found.items() for text in texts]
    assert np.mean(share) > 0.98
    phrases = {text for texts in found.values() for text in texts}
    assert "marimba" in phrases and "violins" not in phrases and "table" not in phrases
