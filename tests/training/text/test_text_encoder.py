"""Text encoder: tokenizer, distillation, resume, the shipped weights."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from tests.conftest import ROOT
from training.run.progress import Progress
from training.text import train
from training.text.corpus import TEMPLATES, PromptGrammar, TokenizedTexts, epoch_batches, training_texts
from training.text.moods import AXES, MOODS, MoodAxes
from training.text.teacher import SentenceTeacher, find_teacher, spelled_out
from training.text.tokenizer import build_tokenizer, surface_words
from training.text.words import INSTRUMENT_WORDS

SHIPPED = ROOT / "checkpoints" / "small"
WORDS = ("slow", "fast", "piano", "guitar", "calm", "lo", "fi", "bit", "bpm", "minor", "major", "dark", "music")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer(WORDS, [word for mood in MOODS for word in surface_words(mood)], pieces=120)


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory) -> Path:
    """A random BERT of 16 channels with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    words = [word for mood in MOODS[:120] for word in surface_words(mood)]
    own = build_tokenizer(words, words, pieces=80)
    # A teacher's vocabulary has bare words; here they are pieces of several letters.
    own.save_pretrained(folder)
    config = BertConfig(vocab_size=len(own), hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=32, initializer_range=0.5)  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def run(teacher: Path, output: Path, *more: str) -> dict:
    return train.main(
        ["--config", str(ROOT / "training/configs/tiny/text_encoder.yaml"), "--teacher", str(teacher),
         "--model_config", str(ROOT / "training/configs/tiny/text_encoder.json"), "--output_dir", str(output), *more]
    )  # fmt: skip


# ---- tokenizer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "slow piano", "Zbigniew's quxified prompt", "na\u00efve caf\u00e9", "\u97f3\u697d \U0001f3b5",
    "\u043c\u0443\u0437\u044b\u043a\u0430", "F\u266f / B\u266d", "@@@ ### \\ ~",
    "\t\n slow \u00a0 fast", "<0x41>", "a" * 200,
])  # fmt: skip
def test_nothing_is_unknown(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert ids[-1] == tokenizer.eos_token_id and len(ids) > 1


def test_numbers_are_single_digits_and_come_back(tokenizer):
    ids = tokenizer("piano 127 bpm").input_ids
    assert [t for t in tokenizer.convert_ids_to_tokens(ids) if t.isdigit()] == ["1", "2", "7"]
    for number in (1, 40, 96, 127, 200, 2026):
        text = f"slow piano {number} bpm"
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_words_are_whole_and_case_does_not_count(tokenizer):
    assert tokenizer("SLOW Piano").input_ids == tokenizer("slow piano").input_ids
    assert len(tokenizer("slow piano").input_ids) == 3
    assert tokenizer("lo-fi").input_ids[0] == tokenizer("lo fi").input_ids[0]


def test_empty_text_is_the_end_token_and_long_text_is_cut(tokenizer):
    assert tokenizer("").input_ids == [tokenizer.eos_token_id]
    assert len(tokenizer("slow " * 500, truncation=True).input_ids) == 64


def test_tokens_do_not_depend_on_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = "Calm guitar, 92.5 bpm in F# minor \u266b"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert (again.model_max_length, again.pad_token_id) == (64, tokenizer.pad_token_id)


# ---- texts ----------------------------------------------------------------------------------------------------------


def test_grammar_is_seeded_and_fills_every_slot():
    texts = training_texts(300, 2, ["river"], seed=3)
    assert texts == training_texts(300, 2, ["river"], seed=3) != training_texts(300, 2, ["river"], seed=4)
    assert not [text for text in texts if "{" in text or "}" in text]
    grammar = PromptGrammar(0)
    assert all(grammar.fill(template) for template in TEMPLATES)


def test_teacher_reads_explanations_of_whole_words():
    assert spelled_out("Adagio for keys") == "slow for piano keyboard"
    assert spelled_out("keyboards in disadagio") == "keyboards in disadagio"
    assert all(len(axes) == 3 and max(map(abs, axes)) <= 1 for axes in AXES.values())


def test_listed_words_keep_their_axes():
    vectors = torch.randn(len(MOODS), 8, generator=torch.Generator().manual_seed(0))
    moods = MoodAxes(vectors)
    values = moods.words(["calm", "unlisted"], vectors[:2])
    assert values[0].tolist() == pytest.approx(AXES["calm"])
    mixed = moods.texts(["calm angry piano"], [["calm", "angry", "piano"]], vectors[:1])
    assert mixed[0].tolist() == pytest.approx([(a + b) / 2 for a, b in zip(AXES["calm"], AXES["angry"], strict=True)])


def test_an_epoch_reads_every_text_once():
    lengths = [3 + i % 7 for i in range(203)]
    batches = epoch_batches(lengths, 8, seed=1, epoch=2)
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows)) == 200 and all(len(batch) == 8 for batch in batches)
    assert batches == epoch_batches(lengths, 8, seed=1, epoch=2) != epoch_batches(lengths, 8, seed=1, epoch=3)


def test_each_token_knows_its_word(tokenizer):
    texts = TokenizedTexts(["calm guitar 90", "slow"], tokenizer)
    batch = texts.batch([0, 1])
    tokens = tokenizer.convert_ids_to_tokens(texts.ids[0])
    assert texts.words[:2] == ["calm", "guitar"] and texts.words[-1] == "slow"
    assert [place for place, token in zip(texts.places[0], tokens, strict=True) if token.isdigit()] == [-1, -1]
    assert batch["word"].tolist() == [[0, 1], [2, -1]]
    assert batch["attention_mask"].sum(1).tolist() == [len(texts.ids[0]), 2]


# ---- model and training ---------------------------------------------------------------------------------------------


def test_padding_does_not_change_the_states(tokenizer):
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    encoder = T5EncoderModel(config).eval()
    alone = tokenizer("slow piano", return_tensors="pt")
    padded = tokenizer(["slow piano", "a very long prompt about guitars"], padding=True, return_tensors="pt")
    with torch.no_grad():
        one = encoder(alone.input_ids, alone.attention_mask).last_hidden_state[0]
        two = encoder(padded.input_ids, padded.attention_mask).last_hidden_state[0, : one.shape[0]]
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_distillation_lowers_the_loss_and_resumes_bitwise(teacher_folder, tmp_path, monkeypatch):
    whole = run(teacher_folder, tmp_path / "whole", "--log_every", "5")
    log = [line for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines() if "train/loss" in line]
    first, last = (float(line.split('"train/loss": ')[1].split(",")[0]) for line in (log[0], log[-1]))
    assert last < 0.8 * first
    assert whole["step"] == 30 and all(math.isfinite(whole["prompts"][k]) for k in ("top1", "spearman"))

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "out_of_time", lambda self: self.bar.n >= 13)
        assert run(teacher_folder, tmp_path / "parts")["step"] == 13
    assert run(teacher_folder, tmp_path / "parts")["step"] == 30
    one, two = (T5EncoderModel.from_pretrained(tmp_path / name / "text_encoder") for name in ("whole", "parts"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))

    script = (
        "import sys; from transformers import PreTrainedTokenizerFast as P, T5EncoderModel as T;"
        "f = sys.argv[1]; assert 'training' not in sys.modules;"
        "t = P.from_pretrained(f + '/tokenizer'); m = T.from_pretrained(f + '/text_encoder');"
        "s = m(**t('calm 90 bpm', return_tensors='pt')).last_hidden_state;"
        "print(s.shape[-1], s.dtype, float((s.pow(2).mean(-1) - 1).abs().max()) < 1e-2)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "whole")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.split() == ["16", "torch.float32", "True"]


def test_embeddings_are_cached_and_normalised(teacher_folder, tmp_path):
    teacher = SentenceTeacher(str(teacher_folder), tmp_path)
    texts = ["calm", "a slow and calm piano", "dark"]
    vectors = teacher.embed(texts)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3))
    teacher.model = None
    assert torch.equal(teacher.embed(texts), vectors)


def test_no_teacher_is_one_line(monkeypatch):
    monkeypatch.setattr("training.text.teacher.PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="--teacher") as error:
        find_teacher(None)
    assert "\n" not in str(error.value)
    assert find_teacher("folder") == "folder"


# ---- the shipped weights --------------------------------------------------------------------------------------------


def test_shipped_encoder_puts_words_in_their_place():
    tokenizer = PreTrainedTokenizerFast.from_pretrained(SHIPPED / "tokenizer")
    encoder = T5EncoderModel.from_pretrained(SHIPPED / "text_encoder").float().eval()

    def cosine(one: str, other: str) -> float:
        batch = tokenizer([one, other], padding=True, return_tensors="pt")
        with torch.no_grad():
            states = encoder(batch.input_ids, batch.attention_mask).last_hidden_state
        mask = batch.attention_mask[..., None]
        return torch.nn.functional.cosine_similarity(*((states * mask).sum(1) / mask.sum(1)), dim=0).item()

    for word, near, far in (
        ("peaceful", "calm", "aggressive"), ("gloomy", "dark", "cheerful"), ("spooky", "mysterious", "happy"),
        ("haunting", "dark", "playful"), ("groovy", "funky", "solemn"), ("furious", "aggressive", "calm"),
        ("8-bit", "chiptune", "waltz"), ("chill", "relaxed", "epic"), ("lullaby", "gentle", "driving"),
        ("banger", "energetic", "calm"), ("presto", "fast", "slow"), ("adagio", "slow", "fast"),
    ):  # fmt: skip
        assert cosine(word, near) > cosine(word, far) + 0.05, (word, near, far)
    assert sum(p.numel() for p in encoder.parameters()) < 4e6
    for instrument in INSTRUMENT_WORDS:
        assert tokenizer.unk_token_id not in tokenizer(instrument).input_ids
