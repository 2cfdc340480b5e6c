"""YUV4MPEG2 files with the shape of their pixels, which FFmpeg's muxer can't be told from here."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

UNKNOWN_ASPECT = b" A0:0"


class Y4mFile:
    """A file that FFmpeg's y4m muxer writes to, by name or standard output.

    aspect: width by height of a pixel, put into the header; None leaves it unknown.
    """

    def __init__(self, path: Path | None, aspect: Fraction | None) -> None:
        self._file = sys.stdout.buffer if path is None else path.open("wb")
        self._named = path is not None
        self._aspect = aspect

    def write(self, data: bytes) -> int:
        """Write `data`; the header is in the first."""
        known = bytes(data)
        if self._aspect is not None:
            shape = f" A{self._aspect.numerator}:{self._aspect.denominator}"
            known = known.replace(UNKNOWN_ASPECT, shape.encode(), 1)
            self._aspect = None
        self._file.write(known)
        return len(data)

    def close(self) -> None:
        """Close a named file; flush standard output."""
        if self._named:
            self._file.close()
        else:
            self._file.flush()
