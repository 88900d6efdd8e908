"""The streaming loader: every row once an epoch, in an order of its seed, and on exactly from where it was left."""

import io
import itertools

import numpy as np
import pytest
import soundfile

from training.data.shards import shard_path, write_shard
from training.data.stream import ClipStream


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """37 rows in three shards; the audio of row k is k / 100."""
    root = tmp_path_factory.mktemp("stream")
    rows = []
    for k in range(37):
        file = io.BytesIO()
        soundfile.write(file, np.full((50 + k, 1), k / 100), 8000, format="FLAC")
        rows.append(
            {"audio": {"bytes": file.getvalue(), "path": f"{k}.flac"}, "duration_s": k / 8000, "text": [str(k)]}
        )
    for number, (first, last) in enumerate(((0, 15), (15, 33), (33, 37))):
        write_shard(shard_path(root, "train", number), rows[first:last])
    return root


def taken(stream: ClipStream, count: int) -> list[int]:
    return [int(row["text"][0]) for row in itertools.islice(stream, count)]


def test_every_row_once_an_epoch_with_its_audio(folder):
    stream = ClipStream(folder, "train", seed=1, mixed_groups=3)
    rows = list(itertools.islice(stream, 37))
    numbers = [int(row["text"][0]) for row in rows]
    assert sorted(numbers) == list(range(37)) and numbers != list(range(37))
    for number, row in zip(numbers, rows, strict=True):
        assert row["audio"].shape == (1, 50 + number)
        assert row["audio"].mean().item() == pytest.approx(number / 100, abs=1e-4)
    second = taken(stream, 37)
    assert sorted(second) == list(range(37)) and second != numbers
    assert taken(ClipStream(folder, "train", seed=None), 40) == [*range(37), 0, 1, 2]
    assert taken(ClipStream(folder, "train", seed=2, mixed_groups=3), 37) != numbers


@pytest.mark.parametrize("left_at", [0, 1, 5, 12, 36, 37, 38, 70])
def test_goes_on_exactly(folder, left_at):
    whole = taken(ClipStream(folder, "train", seed=3, mixed_groups=2), 100)
    stream = ClipStream(folder, "train", seed=3, mixed_groups=2)
    assert taken(stream, left_at) == whole[:left_at]
    again = ClipStream(folder, "train", seed=3, mixed_groups=2)
    again.load_state_dict(stream.state_dict())
    assert taken(again, 100 - left_at) == whole[left_at:]


def test_processes_share_an_epoch_and_go_on(folder):
    def streams():
        return [ClipStream(folder, "train", seed=4, mixed_groups=2, rank=rank, world=4) for rank in range(4)]

    mine = streams()
    whole = [taken(stream, 20) for stream in mine]
    assert len({n for part in whole for n in part[:9]}) == 36  # 9 rounds of 4; the 37th row waits for another epoch
    mine = streams()
    assert [taken(stream, 7) for stream in mine] == [part[:7] for part in whole]
    states = [stream.state_dict() for stream in mine]
    assert all(state == states[0] for state in states)
    again = streams()
    for stream in again:
        stream.load_state_dict(states[0])
    assert [taken(stream, 13) for stream in again] == [part[7:] for part in whole]


def test_states_of_something_else_are_refused(folder, tmp_path):
    state = ClipStream(folder, "train", seed=1).state_dict()
    with pytest.raises(ValueError, match="seed is 1 in it and 2 here"):
        ClipStream(folder, "train", seed=2).load_state_dict(state)
    with pytest.raises(ValueError, match="0 rows in data/test"):
        ClipStream(folder, "test")
    with pytest.raises(ValueError, match="rank is 2; allowed: 0 to world - 1 = 1"):
        ClipStream(folder, "train", rank=2, world=2)
