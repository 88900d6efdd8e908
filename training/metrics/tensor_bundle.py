"""Reads the variables of a TensorFlow checkpoint (`.index` and `.data-00000-of-00001`) without TensorFlow.

The index is an SSTable (LevelDB's table format: blocks of prefix-compressed keys, and a footer that says where the
block of blocks is); each value is a `BundleEntryProto` (tensorflow/core/protobuf/tensor_bundle.proto: 1 dtype, 2 shape,
3 shard, 4 offset, 5 size). Float32 variables in one shard and uncompressed blocks are read: what `tf.train.Saver`
writes for a small network.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MAGIC = 0xDB4775248B80FB57
FOOTER = 48  # bytes
DT_FLOAT = 1


def read_bundle(prefix: str | Path) -> dict[str, np.ndarray]:
    """Variables by name, float32; those of other types are left out.

    Args:
        prefix: path without `.index`; may end in a slash, as that of a checkpoint whose name is empty.

    Raises:
        ValueError: files missing, cut short, compressed or in several shards.
    """
    prefix = str(prefix)
    try:
        index = Path(prefix + ".index").read_bytes()
        data = Path(prefix + ".data-00000-of-00001").read_bytes()
    except OSError as error:
        raise ValueError(f"prefix {prefix}: no TensorFlow checkpoint there ({error.strerror})") from None
    if len(index) < FOOTER or struct.unpack("<Q", index[-8:])[0] != MAGIC:
        raise ValueError(f"prefix {prefix}: .index is not a table of TensorFlow's, or is cut short")
    footer = index[-FOOTER:]
    place = _varint(footer, _varint(footer, 0)[1])[1]  # behind the handle of the meta index
    variables = {}
    for _, handle in _entries(_block(index, footer[place:])):
        for name, value in _entries(_block(index, handle)):
            fields = dict(_fields(value))
            if not name or fields.get(1) != DT_FLOAT:  # the empty name is the header
                continue
            if fields.get(3, 0) != 0:
                raise ValueError(f"prefix {prefix}: {name.decode()} is in another shard; allowed: one shard")
            shape = [dict(_fields(dim)).get(1, 0) for number, dim in _fields(fields.get(2, b"")) if number == 2]
            start, size = fields.get(4, 0), fields.get(5, 0)
            if start + size > len(data) or size != 4 * int(np.prod(shape)):
                raise ValueError(f"prefix {prefix}: {name.decode()} does not fit its data file")
            variables[name.decode()] = np.frombuffer(data, "<f4", size // 4, start).reshape(shape).copy()
    return variables


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A base-128 number at `place`, and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


def _block(table: bytes, handle: bytes) -> bytes:
    """The block that a handle (offset, size) points at."""
    start, place = _varint(handle, 0)
    size, _ = _varint(handle, place)
    if table[start + size] != 0:
        raise ValueError("the checkpoint's index is compressed; allowed: uncompressed blocks")
    return table[start : start + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a block; each key shares a prefix with the one before."""
    (restarts,) = struct.unpack("<I", block[-4:])
    end, place, key = len(block) - 4 * (restarts + 1), 0, b""
    while place < end:
        shared, place = _varint(block, place)
        fresh, place = _varint(block, place)
        size, place = _varint(block, place)
        key = key[:shared] + block[place : place + fresh]
        yield key, block[place + fresh : place + fresh + size]
        place += fresh + size


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values of a protocol-buffer message; fixed-width ones as bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(message, place)
        else:
            size = {1: 8, 5: 4}.get(kind)
            if size is None:
                size, place = _varint(message, place)
            value, place = message[place : place + size], place + size
        yield tag >> 3, value
