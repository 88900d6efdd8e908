"""Runs a stage with FSDP on CPU processes: torch's FSDP2 works there with gloo, Accelerate turns it on for GPUs alone.

torchrun --nproc_per_node 2 tests/helpers/fsdp_on_cpu.py training.train_unet --config ...
"""

import importlib
import sys

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

plain = AcceleratorState.__init__


def with_fsdp(self, *arguments, fsdp_plugin=None, **settings) -> None:
    first = not self.initialized
    plain(self, *arguments, fsdp_plugin=fsdp_plugin, **settings)
    if first:
        assert self.distributed_type == DistributedType.MULTI_CPU and fsdp_plugin is not None
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin


if __name__ == "__main__":
    AcceleratorState.__init__ = with_fsdp
    importlib.import_module(sys.argv[1]).main(sys.argv[2:])
