"""Embedders: what they return, how they are read, and that damage to music moves them, step by step."""

import struct

import numpy as np
import pytest
import torch
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from tests.conftest import make_tokenizer
from tests.helpers.synthetic_clips import RATE, tones
from training.metrics.distribution import Space, embed_clips, frechet_distance, kernel_distance
from training.metrics.embedding import (
    MAGIC,
    MELS,
    PATCH,
    ClapEmbedder,
    Musicnn,
    MusicnnEmbedder,
    cut,
    from_bundle,
    load_embedder,
    read_bundle,
)

AUDIO = {
    "num_mel_bins": 16, "spec_size": 32, "patch_size": 4, "patch_stride": [4, 4], "patch_embeds_hidden_size": 8,
    "hidden_size": 16, "depths": [1, 1], "num_hidden_layers": 2, "num_attention_heads": [1, 2], "window_size": 4,
}  # fmt: skip
TEXT = {
    "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 20, "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory) -> str:
    """A CLAP with random weights, as a Hub repository has it: 8 kHz, windows of 1 s."""
    folder = tmp_path_factory.mktemp("clap")
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = ClapConfig(projection_dim=6, text_config={**TEXT, "vocab_size": len(tokenizer)}, audio_config=AUDIO)
    ClapModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=8000, hop_length=160, max_length_s=1, fft_window_size=256,
        frequency_max=4000, truncation="rand_trunc",
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


def noise(seconds: float, rate: int = 8000, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).normal(size=round(seconds * rate))).astype(np.float32)


def test_any_clap_folder_embeds(clap_folder):
    embedder = load_embedder(clap_folder)
    vectors = embedder.embed([noise(1.0), noise(2.6, seed=1), noise(0.2, seed=2)], 8000)
    assert vectors.shape == (3, 6) and vectors.dtype == np.float64
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0)
    # Long clips are cut at fixed places: nothing is drawn at random, and a clip does not depend on its neighbours.
    assert np.allclose(embedder.embed([noise(2.6, seed=1)], 8000)[0], vectors[1], atol=1e-6)
    assert embedder.embed([], 8000).shape == (0, 6)
    assert embedder.card["sha256"] == ClapEmbedder(clap_folder).card["sha256"] and len(embedder.card["sha256"]) == 64
    assert embedder.card["source"] == clap_folder


def test_a_long_clip_is_the_mean_of_its_windows(clap_folder):
    embedder, clip = ClapEmbedder(clap_folder), noise(2.0)
    parts = embedder.embed([clip[:8000], clip[8000:]], 8000).sum(axis=0)
    assert np.allclose(embedder.embed([clip], 8000)[0], parts / np.linalg.norm(parts), atol=1e-6)
    lengths = {n: [len(w) for w in cut(np.zeros(n), 100)] for n in (1, 100, 149, 150, 250)}
    assert lengths == {1: [1], 100: [100], 149: [100], 150: [100, 50], 250: [100, 100, 50]}


def test_another_rate_is_resampled(clap_folder):
    embedder = ClapEmbedder(clap_folder)
    tone = [np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) for rate in (8000, 16000)]
    near, same = embedder.embed([tone[1]], 16000)[0], embedder.embed([tone[0]], 8000)[0]
    assert near @ same > 0.999


@pytest.mark.parametrize("clip", [np.zeros(0), np.zeros((2, 800)), np.full(8000, np.nan)])
def test_bad_clips_are_refused(clap_folder, clip):
    with pytest.raises(ValueError, match=r"audios\[0\] has shape"):
        ClapEmbedder(clap_folder).embed([clip], 8000)


def test_no_embedder_of_that_name(tmp_path):
    with pytest.raises(ValueError, match="not a folder or Hub id"):
        load_embedder(str(tmp_path))
    with pytest.raises(ValueError, match="allowed: MSD, MTT"):
        MusicnnEmbedder("XYZ")


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    """An SSTable block with prefix compression and one restart."""
    out, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (x, y) in enumerate(zip(key, before, strict=False)) if x != y), min(len(key), len(before))
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)


def write_bundle(prefix, variables: dict[str, np.ndarray], compression: int = 0) -> None:
    """What TensorFlow's BundleWriter writes for float32 variables in one shard."""
    data, entries = b"", [(b"", b"\x08\x01")]
    for name, value in sorted(variables.items()):
        shape = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(size) for size in value.shape))
        entry = (
            b"\x08\x01\x12"
            + varint(len(shape))
            + shape
            + b"\x20"
            + varint(len(data))
            + b"\x28"
            + varint(4 * value.size)
        )
        entries.append((name.encode(), entry + b"\x35\x00\x00\x00\x00"))
        data += value.astype("<f4").tobytes()
    body = block(entries)
    table = body + bytes([compression]) + b"\0\0\0\0"
    index = block([(b"z", varint(0) + varint(len(body)))])
    footer = varint(0) + varint(0) + varint(len(table)) + varint(len(index))
    table += index + b"\0" * 5 + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)
    prefix.with_name(prefix.name + ".index").write_bytes(table)
    prefix.with_name(prefix.name + ".data-00000-of-00001").write_bytes(data)


def test_tensorflow_checkpoints_are_read(tmp_path):
    rng = np.random.default_rng(0)
    wanted = {"dense/kernel": rng.normal(size=(300, 2)), "dense/bias": rng.normal(size=2), "step": np.array(3.0)}
    write_bundle(tmp_path / "model", wanted)
    found = read_bundle(tmp_path / "model")
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in wanted.items()}
    assert all(np.array_equal(found[k], v.astype(np.float32)) for k, v in wanted.items())


def test_damaged_tensorflow_checkpoints_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no TensorFlow checkpoint there"):
        read_bundle(tmp_path / "none")
    write_bundle(tmp_path / "packed", {"a": np.ones(3)}, compression=1)
    with pytest.raises(ValueError, match="compressed"):
        read_bundle(tmp_path / "packed")
    write_bundle(tmp_path / "short", {"a": np.ones(300)})
    (tmp_path / "short.data-00000-of-00001").write_bytes(b"\0" * 10)
    with pytest.raises(ValueError, match="does not fit"):
        read_bundle(tmp_path / "short")
    (tmp_path / "short.index").write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match="not a table"):
        read_bundle(tmp_path / "short")


def test_musicnn_needs_its_variables():
    with pytest.raises(ValueError, match=r"no variable 'conv2d/kernel'"):
        from_bundle({})
    assert Musicnn()(torch.zeros(2, PATCH, MELS))[1].shape == (2, 200)


@pytest.fixture(scope="module")
def music() -> list[np.ndarray]:
    """13 clips of 3.2 s of chords at many pitches and levels."""
    rng = np.random.default_rng(0)
    chords = ("C", "F", "G", "Am")
    long = [tones([str(c) for c in rng.permutation(chords)], float(rng.uniform(0.2, 0.5)), s) for s in range(-6, 7)]
    clips = [clip[: int(3.2 * RATE)] for clip in long]
    return [(clip * rng.uniform(0.5, 1.5)).astype(np.float32) for clip in clips]


@pytest.mark.parametrize("name", ["tagger", "musicnn-mtt"])
def test_noise_moves_real_embedders_step_by_step(name, music):
    """More noise, more distance: five steps, both distances."""
    embedder = load_embedder(name)
    clean = embedder.embed(music, RATE)
    space = Space(clean, components=6)
    start, rng = space.standardise(clean), np.random.default_rng(1)
    hiss = [rng.normal(size=len(clip)) * np.sqrt(np.mean(clip**2)) for clip in music]
    frechet, kernel = [], []
    for decibels in (-40, -32, -24, -16, -8):
        damaged = [(c + 10 ** (decibels / 20) * h).astype(np.float32) for c, h in zip(music, hiss, strict=True)]
        vectors = space.standardise(embed_clips(embedder, damaged, RATE).vectors)
        frechet.append(frechet_distance(space.reduce(start), space.reduce(vectors)))
        kernel.append(kernel_distance(start, vectors, resamples=10, paired=False)["mean"])
    assert np.all(np.diff(frechet) > 0) and np.all(np.diff(kernel) > 0), (frechet, kernel)
    assert len(embedder.card["sha256"]) == 64 and embedder.card["trained_on"]


def test_musicnn_hears_drums_and_strings():
    """The weights stand where they belong: a beat has the tags of a beat, held chords have not."""
    labels = {"techno": 3, "strings": 4, "drums": 5, "ambient": 10, "beat": 11}  # order of the package's MTT_LABELS
    rng, time = np.random.default_rng(0), np.arange(6 * 16000) / 16000
    kick = np.sin(2 * np.pi * 50 * time) * np.exp(-(time % 0.5) * 12)
    hat = rng.normal(size=len(time)) * np.exp(-((time + 0.25) % 0.5) * 60)
    held = sum(np.sin(2 * np.pi * f * h * time) / h for f in (130.8, 164.8, 196.0) for h in range(1, 7))
    embedder = MusicnnEmbedder("MTT")
    with torch.no_grad():
        beat, pad = (
            torch.sigmoid(embedder.network(embedder.patches(a.astype(np.float32)))[0]).mean(dim=0)
            for a in (0.5 * kick + 0.1 * hat, 0.05 * held)
        )
    for tag in ("techno", "drums", "beat"):
        assert beat[labels[tag]] > 3 * pad[labels[tag]], tag
