"""Projection of restored luma onto what a JPEG's quantization table leaves possible.

A JPEG tells of each DCT coefficient in which interval it was: k + 1/2 steps above and below. The
original lies in all these intervals, which together are a convex set, so moving a restored plane to
the nearest point of that set can only bring it closer to the original (Zakhor, "Iterative
procedures for reduction of blocking effects in transform image coding", IEEE TCSVT 2(1), 1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vfilter.arrays import Plane, like, namespace

BLOCK = 8
"""Side of a block in pixels (ITU-T T.81)."""

LEVEL = 128
"""What a JPEG subtracts from 8-bit samples before its DCT (ITU-T T.81, A.3.1)."""

ROUNDING = 0.5
"""Codes by which a coefficient of the original may lie outside its interval: a sample of the
decoded plane is off by at most 1/2, its 64 together by 0.3 in the mean in each coefficient."""

CONSISTENT = 2.0
"""Most codes by which a coefficient of the decoded plane may miss a multiple of its step. In
blocks that miss one by more (clipped ones, or not of this table) nothing is known."""


FAR = 1e6
"""Codes that no coefficient reaches: the reach around a coefficient of which nothing is known."""

PART = (24, 512)
"""Lines and columns worked on at a time, which stay in cache: nearly twice as fast as a 640x480
plane at once (measured). 64 blocks side by side are the most that OpenBLAS multiplies by 64x64 in
a single thread; its threads would wait for the cores that the engine or an encoder holds."""


def project(restored: Plane, decoded: Plane, table: Sequence[int]) -> Plane:
    """`restored` with the coefficients of its blocks moved into their intervals.

    restored, decoded: (H, W) uint8, full-range luma after and before restoration, both arrays or
        both tensors of one device; blocks start at the top left corner, those cut by the right or
        lower border stay.
    table: the 64 steps of the luma quantization table in raster order.
    Returns (H, W) uint8: `restored`, changed in place.
    """
    height, width = (length // BLOCK * BLOCK for length in decoded.shape)
    if not height or not width:
        return restored
    steps = like(np.array(table, np.float32), decoded)
    for top, left in product(range(0, height, PART[0]), range(0, width, PART[1])):
        part = (slice(top, min(top + PART[0], height)), slice(left, min(left + PART[1], width)))
        restored[part] = _projected(restored[part], decoded[part], steps)
    return restored


def _projected(restored: Plane, decoded: Plane, steps: Plane) -> Plane:
    """`project` for planes of whole blocks; the result is rounded, float32."""
    xp = namespace(decoded)
    basis = like(_basis(), decoded)
    transposed = like(_transposed(), decoded)  # in memory too, else the products take three times
    before = _blocks(decoded) @ transposed
    after = _blocks(restored) @ transposed
    centre = (before / steps).round() * steps
    unknown = (abs(before - centre) > CONSISTENT).any(axis=-1, keepdims=True)
    reach = steps / 2 + np.float32(ROUNDING) + unknown * np.float32(FAR)
    moved = xp.minimum(xp.maximum(after, centre - reach), centre + reach)
    return _plane(moved @ basis, decoded.shape)


def _blocks(plane: Plane) -> Plane:
    """The blocks of a plane (H, W), (H / 8, W / 8, 64), level-shifted samples, float32."""
    height, width = plane.shape
    tiles = plane.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).swapaxes(1, 2)
    return tiles.reshape(height // BLOCK, width // BLOCK, BLOCK * BLOCK) - np.float32(LEVEL)


def _plane(blocks: Plane, shape: tuple[int, int]) -> Plane:
    """The inverse of `_blocks`, rounded to codes, float32."""
    height, width = shape
    tiles = (blocks + LEVEL).round().clip(0, 255)
    tiles = tiles.reshape(height // BLOCK, width // BLOCK, BLOCK, BLOCK).swapaxes(1, 2)
    return tiles.reshape(height, width)


@cache
def _basis() -> NDArray[np.float32]:
    """The two-dimensional DCT-II as a (64, 64) matrix of orthonormal rows (ITU-T T.81, A.3.3)."""
    sample = np.arange(BLOCK)
    transform = np.cos((2 * sample + 1) * sample[:, None] * np.pi / (2 * BLOCK))
    transform *= np.sqrt(2 / BLOCK)
    transform[0] /= np.sqrt(2)
    return np.kron(transform, transform).astype(np.float32)


@cache
def _transposed() -> NDArray[np.float32]:
    """`_basis` transposed in memory."""
    return np.ascontiguousarray(_basis().T)
