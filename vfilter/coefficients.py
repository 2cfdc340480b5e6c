"""Restored luma of JPEG frames, coefficient by coefficient, on the grid of their blocks.

The residual is weighed by frequency: how far it can be trusted depends on what the step of each
coefficient explains (`Model.trust`). Then the sum is projected onto what the quantization table
leaves possible: a JPEG tells of each DCT coefficient in which interval it was, k + 1/2 steps above
and below. The original lies in all these intervals, which together are a convex set, so moving a
restored plane to the nearest point of that set can only bring it closer to the original (Zakhor,
"Iterative procedures for reduction of blocking effects in transform image coding", IEEE TCSVT 2(1),
1992).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfilter.arrays import Plane, is_tensor, like, namespace

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

PART = 1 << 15
"""Pixels of an array worked on at a time, which stay in cache, and are few enough for OpenBLAS to
multiply in a single thread: more would wait for the cores that the engine or an encoder holds."""

Factors = Callable[[NDArray[np.float64]], NDArray[Any]]
"""The factor of the residual at each of 64 frequencies, by its mean squares there."""


def restored_by_blocks(
    decoded: Plane,
    residual: Plane,
    factors_of: Factors,
    table: Sequence[int] | None,
    *,
    full: int = 255,
) -> Plane:
    """`decoded` + `residual`, weighed by frequency and within the intervals of `table`.

    decoded: (H, W), full-range luma codes of 0 to `full`; blocks start at the top left corner.
    residual: (H, W) float32, what to add, in full scales.
    factors_of: (64,) in raster order from the mean squares, (64,), of the coefficients of the
        residual's whole blocks, of the orthonormal DCT, in squared full scales. The mean of the
        factors, as the squares weigh them, serves what blocks the right or lower border cuts.
    table: the 64 steps of the luma quantization table in raster order, in codes of 8 bits; None for
        no projection.
    Arrays both, or tensors of one device. Returns new memory of the type of `decoded`.
    """
    xp = namespace(decoded)
    height, width = (length // BLOCK * BLOCK for length in decoded.shape)
    pixels = height * width if is_tensor(decoded) else PART
    lines = max(BLOCK, pixels // max(width, 1) // BLOCK * BLOCK)
    parts = [(slice(y, min(y + lines, height)), slice(width)) for y in range(0, height, lines)]
    changes = [transformed(residual[part]) for part in parts]
    squares = np.zeros((BLOCK, BLOCK))
    for change in changes:
        squares += summed_by_frequency(change * change)
    squares /= max(1, height * width // BLOCK**2)
    factors = factors_of(squares.ravel())
    mean = full * float(np.average(factors, weights=squares.ravel() + 1e-12))
    restored = xp.empty_like(decoded)
    for border in (np.s_[height:], np.s_[:height, width:]):
        restored[border] = (decoded[border] + mean * residual[border]).round().clip(0, full)
    scaled = like(_repeated(full * factors, width), decoded)
    steps = None if table is None else like(_repeated(table, width), decoded)
    for part, change in zip(parts, changes, strict=True):
        change *= scaled
        restored[part] = _restored(decoded[part], change, steps).round().clip(0, full)
    return restored


def _restored(decoded: Plane, change: Plane, steps: Plane | None) -> Plane:
    """Lines of whole blocks of `restored_by_blocks`, (H, W) float32.

    change: by how much their coefficients change, in codes, and steps, (8, W): as `transformed`.
    """
    if steps is None:
        return _plane(change) + decoded
    beside = transformed(decoded - np.float32(LEVEL))
    centre = (beside / steps).round()
    centre *= steps
    beside -= centre
    reach = steps / 2 + np.float32(ROUNDING)
    unknown = abs(beside) > CONSISTENT
    if unknown.any():
        blocks = unknown.reshape(-1, BLOCK, unknown.shape[-1] // BLOCK, BLOCK)
        blocks |= blocks.any(3).any(1)[:, None, :, None]
        reach = reach + unknown * np.float32(FAR)
    beside += change
    xp = namespace(decoded)
    centre += xp.minimum(xp.maximum(beside, -reach), reach)
    return _plane(centre) + LEVEL


def transformed(plane: Plane) -> Plane:
    """The DCT of the blocks of a plane (H, W) of whole ones, float32.

    Returns (H / 8, 8, W): rows of blocks, vertical frequency, then by block the horizontal ones.
    """
    basis, transposed = (like(matrix, plane) for matrix in _basis())
    across = plane.reshape(-1, BLOCK) @ transposed
    return basis @ across.reshape(-1, BLOCK, plane.shape[1])


def summed_by_frequency(products: Plane) -> NDArray[np.float64]:
    """Sums over the blocks, (8, 8), of what is laid out as `transformed` does it."""
    columns = products.sum(0).reshape(BLOCK, -1, BLOCK)
    return np.asarray(columns.sum(1).tolist(), dtype=np.float64)


def _plane(coefficients: Plane) -> Plane:
    """The inverse of `transformed`."""
    basis, transposed = (like(matrix, coefficients) for matrix in _basis())
    across = transposed @ coefficients
    return (across.reshape(-1, BLOCK) @ basis).reshape(-1, coefficients.shape[-1])


def _repeated(of_frequency: Sequence[int] | NDArray[Any], width: int) -> NDArray[Any]:
    """64 values in raster order as `transformed` has the frequencies, (8, width) float32."""
    square = np.asarray(of_frequency, dtype=np.float32).reshape(BLOCK, BLOCK)
    return np.tile(square, (1, width // BLOCK))


@cache
def _basis() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The DCT-II as a matrix of orthonormal rows (ITU-T T.81, A.3.3), and that transposed in
    memory."""
    sample = np.arange(BLOCK)
    transform = np.cos((2 * sample + 1) * sample[:, None] * np.pi / (2 * BLOCK))
    transform *= np.sqrt(2 / BLOCK)
    transform[0] /= np.sqrt(2)
    basis = transform.astype(np.float32)
    return basis, np.ascontiguousarray(basis.T)
