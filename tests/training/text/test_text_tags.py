"""Tagged texts: every tag is named, nothing of the held-out words is read, a step's texts are its own."""

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from training.data.scorebook.captions import MOOD_HELDOUT, Stated
from training.data.scorebook.instruments import INSTRUMENTS
from training.text.sentence_pairs import CONCEPTS
from training.text.tags import STYLE_NAMES, TAGS, TaggedPrompts, heldout_phrases, stated_target, tagged_batch
from training.text.train import Distillation
from training.text.words import DRUMS, INSTRUMENT_LEXICON, INSTRUMENT_SYNONYMS, STYLE_LEXICON, STYLE_SYNONYMS


def named(target: torch.Tensor) -> set[str]:
    return {TAGS[place] for place in target.nonzero().flatten().tolist()}


def test_every_instrument_and_style_has_words_of_its_own():
    assert set(INSTRUMENT_SYNONYMS) == set(INSTRUMENTS)
    assert set(STYLE_SYNONYMS) == set(STYLE_NAMES)
    for table in (INSTRUMENT_SYNONYMS, STYLE_SYNONYMS):
        assert all(len(words) >= 3 and all(words) for words in table.values())


def test_no_word_is_one_that_the_tests_hold_out():
    words = {word for table in (INSTRUMENT_SYNONYMS, STYLE_SYNONYMS) for words in table.values() for word in words}
    own = {word for instrument in INSTRUMENTS.values() for word in instrument.words}
    assert not (words | set(DRUMS)) & heldout_phrases() - own
    moods = set(TaggedPrompts(0).moods) - set(MOOD_HELDOUT)
    assert not moods & set(MOOD_HELDOUT.values())


def test_the_long_lists_are_long_and_have_no_word_that_only_the_tests_use():
    held = {phrase.lower() for phrase in heldout_phrases()}
    sayings = {text.lower() for c in CONCEPTS for text in (*c.own, *c.synonyms)}
    known = {part for text in sayings for part in text.split()}
    only = {part for phrase in held for part in phrase.split()} - known
    for table, short in ((INSTRUMENT_LEXICON, INSTRUMENT_SYNONYMS), (STYLE_LEXICON, STYLE_SYNONYMS)):
        assert list(table) == list(short)
        words = [word for words in table.values() for word in words]
        assert min(map(len, table.values())) >= 30 and len(words) == len(set(words))
        assert not held & set(words) and not [word for word in words if only & set(word.split())]
        assert not set(words) & {word for words in short.values() for word in words}
        # Nor a whole held-out phrase with something before or behind it, but for those that the short lists have too.
        others = {phrase for phrase in held if not any(text in phrase or phrase in text for text in sayings)}
        assert not [word for word in words if any(f" {phrase} " in f" {word} " for phrase in others)]


def test_prompts_carry_the_tags_of_their_words():
    prompts = TaggedPrompts(3)
    for _ in range(300):
        text, target = prompts.tagged()
        assert "without" not in text and not text.startswith("no drums")
        for tag in named(target):
            kind, _, name = tag.partition(":")
            words = {
                "instrument": lambda name: prompts.instruments[name], "style": lambda name: prompts.styles[name],
                "mood": lambda name: [word for word, moods in prompts.moods.items() if name in moods],
                "drums": lambda _: prompts.instruments["drums"],
            }[kind](name)  # fmt: skip
            assert any(word in text for word in words), (text, tag)


def test_stated_becomes_tags_and_what_is_unknown_is_left_out():
    said = Stated(instruments=["piano", "no such thing"], drums=True, style="lo-fi", moods=["calm", "unheard-of"])
    assert named(stated_target(said)) == {"instrument:piano", "drums", "style:lo-fi", "mood:calm"}
    assert not named(stated_target(Stated(drums=False)))


def test_a_step_has_its_own_texts():
    texts, targets = tagged_batch(16, 0, 5)
    again, same = tagged_batch(16, 0, 5)
    assert texts == again and torch.equal(targets, same)
    assert texts != tagged_batch(16, 0, 6)[0] and texts != tagged_batch(16, 1, 5)[0]
    assert targets.shape == (16, len(TAGS)) and targets.sum() > 16 and targets.max() == 1.0


def test_the_tag_loss_reaches_the_encoder_and_can_be_learnt():
    torch.manual_seed(0)
    config = T5Config(vocab_size=12, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, dropout_rate=0.0)
    model = Distillation(T5EncoderModel(config), 8)
    ids = torch.arange(2, 10).reshape(4, 2)
    target = torch.zeros(4, len(TAGS))
    target[range(4), range(4)] = 1.0
    batch = {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "place": torch.zeros_like(ids),
        "target": torch.randn(4, 8), "word_target": torch.randn(4, 1, 8),
        "tag_ids": ids, "tag_mask": torch.ones_like(ids), "tag_target": target,
    }  # fmt: skip
    assert "tags" not in model(**{name: value for name, value in batch.items() if not name.startswith("tag_")})
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    first = model(**batch)["tags"].item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = model(**batch)["tags"]
        loss.backward()
        optimizer.step()
    assert model.encoder.get_input_embeddings().weight.grad.abs().sum() > 0
    assert first == pytest.approx(len(TAGS) * 0.69, rel=0.3) and loss.item() < 0.05 * first
