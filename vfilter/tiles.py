"""The residual of a plane, tile by tile, without the tiles that the plane before had already.

All tiles of a plane are of one size, so that what a pixel becomes does not depend on which tiles
are computed: an engine may sum in another order in a tile of another size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vfilter.arrays import Plane, copied, namespace
from vfilter.engines import Engine


@dataclass(frozen=True, eq=False)
class Known:
    """A plane, and what the network made of it.

    codes: (H, W) integers, 0 to the full scale; residual: (H, W) float32, in full scales.
    """

    codes: Plane
    residual: Plane


def residual_of(
    engine: Engine, codes: Plane, full: int, tile: int | None, known: Known | None
) -> Known:
    """What the network of `engine` makes of the plane `codes`, (H, W), 0 to `full`.

    tile: largest side of a tile in pixels; None for what suits the engine.
    known: the same of a plane before, of the same `full`; its residual is changed in place.
    """
    r = engine.radius
    rows, height = cuts(codes.shape[0], tile or engine.tile, engine.multiple)
    columns, width = cuts(codes.shape[1], tile or engine.tile, engine.multiple)
    corners = [(top, left) for top in rows for left in columns]
    if known is None or known.codes.shape != codes.shape:
        xp = namespace(codes)
        known = Known(codes, xp.empty(codes.shape, dtype=xp.float32, device=codes.device))
    else:
        different = codes != known.codes
        corners = [
            (top, left)
            for top, left in corners
            if different[_around(top, height, r), _around(left, width, r)].any()
        ]
    extended = _extended(codes, r, rows[-1] + height, columns[-1] + width) if corners else codes

    def inputs() -> Iterator[Plane]:
        for top, left in corners:
            part = extended[top : top + height + 2 * r, left : left + width + 2 * r]
            scaled = part / np.float32(full)
            scaled -= np.float32(0.5)
            yield scaled

    for (top, left), residual in zip(corners, engine(inputs()), strict=True):
        target = known.residual[top : top + height, left : left + width]
        target[:] = residual[: target.shape[0], : target.shape[1]]
    return Known(copied(codes) if corners else known.codes, known.residual)


def cuts(length: int, tile: int, multiple: int) -> tuple[range, int]:
    """Cut `length` pixels into equal parts of at most `tile`: their first pixels, and their size.

    The size is rounded up to a multiple of `multiple`, and the last part goes beyond the length.
    """
    count = -(-length // tile)
    size = -(-length // (count * multiple)) * multiple
    return range(0, length, size), size


def _around(first: int, size: int, radius: int) -> slice:
    """The `size` pixels from `first` on, and the radius on both sides as far as there is one."""
    return slice(max(0, first - radius), first + size + radius)


def _extended(codes: Plane, radius: int, height: int, width: int) -> Plane:
    """A plane (H, W) with edge replication: by `radius` at the top and left, and at the bottom and
    right to that beyond `height` and `width`."""
    bottom, right = radius + codes.shape[0], radius + codes.shape[1]
    shape = (height + 2 * radius, width + 2 * radius)
    extended = namespace(codes).empty(shape, dtype=codes.dtype, device=codes.device)
    extended[radius:bottom, radius:right] = codes
    extended[radius:bottom, :radius] = codes[:, :1]
    extended[radius:bottom, right:] = codes[:, -1:]
    extended[:radius] = extended[radius]
    extended[bottom:] = extended[bottom - 1]
    return extended
