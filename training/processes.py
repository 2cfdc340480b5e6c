"""torchrun --nproc-per-node 2 -m training train NAME --data DIR: training by several processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from vfilter.torch_engine import native_precision


@dataclass(frozen=True)
class Place:
    """Where a process stands among all that train together, and what it computes on."""

    device: torch.device
    rank: int = 0
    ranks: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that evaluates, logs and writes checkpoints."""
        return self.rank == 0

    @property
    def bfloat16(self) -> bool:
        """Whether the device has products of bfloat16 of its own."""
        if self.device.type == "cuda":
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return native_precision() == "bf16"

    def mean(self, value: Tensor) -> float:
        """The mean of a scalar over all processes."""
        if self.ranks > 1:
            dist.all_reduce(value)
        return value.item() / self.ranks

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set in any of the processes."""
        return self.mean(torch.tensor(float(flag), device=self.device)) > 0


ALONE = Place(torch.device("cpu"))


@contextmanager
def processes() -> Iterator[Place]:
    """The place of this process by the environment that torchrun sets; alone without it.

    On CUDA each process has a GPU of its own, by its local rank, and they talk by NCCL; on
    processors by Gloo. All must see the same folder of checkpoints.
    """
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu")
    if "WORLD_SIZE" not in os.environ:
        yield Place(device)
        return
    if cuda:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Place(device, dist.get_rank(), dist.get_world_size())
        dist.barrier()
    finally:
        dist.destroy_process_group()
