"""Shuffled rows of a data folder with their audio, one at a time, that go on exactly where they were left.

Only the rows of a few row groups are in memory, and the order follows from (seed, epoch) alone, so a position is two
numbers. The `IterableDataset` of `datasets` has a `state_dict` too, but loses the rows that lay in its shuffle buffer.
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import soundfile
import torch

from training.data.shards import shards_of


class ClipStream:
    """Endless epochs over the rows of a split.

    Row groups are shuffled, then the rows within every `mixed_groups` of them.

    Args:
        data_dir: folder with `data/<split>-*.parquet`.
        split: train, validation or test.
        seed: of the order; None = the stored order, every epoch.
        mixed_groups: row groups in memory at a time.
        rank, world: this process takes every `world`-th row, from the `rank`-th on; of an epoch whose rows cannot be
            shared out evenly the last few are left out, so that all processes stay in step.

    Raises:
        ValueError: no rows, or an argument out of range.
    """

    def __init__(
        self,
        data_dir: str | Path,
        split: str,
        seed: int | None = 0,
        mixed_groups: int = 64,
        rank: int = 0,
        world: int = 1,
    ):
        if mixed_groups < 1:
            raise ValueError(f"mixed_groups is {mixed_groups}; allowed: at least 1")
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank}; allowed: 0 to world - 1 = {world - 1}")
        self.seed, self.mixed_groups, self.rank, self.world = seed, mixed_groups, rank, world
        self.paths = shards_of(data_dir, split)
        self.groups = [  # (shard, row group, rows)
            (shard, group, footer.row_group(group).num_rows)
            for shard, footer in enumerate(pq.read_metadata(path) for path in self.paths)
            for group in range(footer.num_row_groups)
        ]
        self.rows = sum(rows for _, _, rows in self.groups)
        if self.rows < world:
            raise ValueError(
                f"data_dir {data_dir}: {self.rows} rows in data/{split}-*.parquet; needed: {world} at least"
            )
        self.shared = self.rows // world * world
        self.names = [f"{path.name} {path.stat().st_size}" for path in self.paths]
        self.epoch, self.position = 0, 0  # position: rows of this epoch that are behind, over all processes

    def state_dict(self) -> dict:
        """Where the stream stands, and what it is a stream of; the same in all processes after as many rows of each."""
        position = -(-self.position // self.world) * self.world
        return {
            "epoch": self.epoch, "position": position, "seed": self.seed, "mixed_groups": self.mixed_groups,
            "shards": list(self.names),
        }  # fmt: skip

    def load_state_dict(self, state: dict) -> None:
        """Go on as the stream that gave `state` would have, with the same number of processes.

        Raises:
            ValueError: the state is of other data or another order.
        """
        mine = self.state_dict()
        for name in ("seed", "mixed_groups", "shards"):
            if state[name] != mine[name]:
                raise ValueError(
                    f"state: {name} is {state[name]!r} in it and {mine[name]!r} here; the order would differ"
                )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])

    def __iter__(self) -> Iterator[dict]:
        """Rows as they were written, with `audio` a float32 tensor (channels, samples); without an end."""
        while True:
            for place, (table, row) in self._from(self.position):
                if place >= self.shared:
                    break
                # Moved on before the row is handed out: a state taken now does not repeat it.
                self.position = place + 1
                if place % self.world == self.rank:
                    yield _decoded(table.slice(row, 1).to_pylist()[0])
            self.epoch, self.position = self.epoch + 1, 0

    def _from(self, position: int) -> Iterator[tuple[int, tuple]]:
        """(place in the epoch, (table, row in it)) from a place on; mixes that lie before it are not read."""
        rng = np.random.default_rng([self.seed or 0, self.epoch])
        order = np.arange(len(self.groups)) if self.seed is None else rng.permutation(len(self.groups))
        begin = 0
        for first in range(0, len(order), self.mixed_groups):
            chosen = [self.groups[index] for index in order[first : first + self.mixed_groups]]
            count = sum(rows for _, _, rows in chosen)
            within = np.arange(count) if self.seed is None else rng.permutation(count)
            if begin + count > position:
                places = [(number, row) for number, (_, _, rows) in enumerate(chosen) for row in range(rows)]
                tables = [pq.ParquetFile(self.paths[shard]).read_row_group(group) for shard, group, _ in chosen]
                for place in range(max(position, begin), begin + count):
                    number, row = places[within[place - begin]]
                    yield place, (tables[number], row)
            begin += count


def _decoded(row: dict) -> dict:
    audio, _ = soundfile.read(io.BytesIO(row["audio"]["bytes"]), dtype="float32", always_2d=True)
    return row | {"audio": torch.from_numpy(np.ascontiguousarray(audio.T))}
