"""How a training keeps memory: a step takes and frees the same large blocks again."""

from __future__ import annotations

from vfilter.memory import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, mallopt


def keep_freed_memory() -> None:
    """Have glibc keep what is freed, so that the next step needn't have its pages cleared anew.

    Steps of L8 on a processor took 0.083 s in place of 0.106 (measured).
    """
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
