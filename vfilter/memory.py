"""How the C library gives and keeps memory: parameters of glibc's allocator."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_PERTURB = -6
"""Numbers of parameters (mallopt(3))."""

LARGE = 4 * 2**20
"""Bytes of a block of its own: x264's of a frame at 1920x1080 has 9 MB."""

KEPT = 64 * 2**20
"""Bytes at the heap's end that are kept: smaller planes between two frames come from there. Given
back each time and taken anew, they cost a fifth of the time of what neighbours add."""


def mallopt(parameter: int, value: int) -> None:
    """Set a parameter of glibc's allocator; nothing where the C library is another."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if setter := getattr(library, "mallopt", None):
        setter(parameter, value)


def steady() -> None:
    """Have memory come as zeros, blocks of `LARGE` and more go back as soon as they are freed, and
    others not.

    x264 reads memory that it never wrote: opened a second time in a process, it made other bytes of
    the same small frames in each run. And encoders that come and go leave holes: before neighbours
    helped (`vfilter.temporal`), at 1920x1080 1,000 frames took 852 MB where 100 took 773, and so
    935 and 928, as zeros are memory that is used; it is 1134 and 1153 MB with neighbours.
    Neither cost time when that was measured.
    """
    mallopt(M_PERTURB, 0xFF)  # new memory is filled with the complement
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_TRIM_THRESHOLD, KEPT)
