"""What is added to luma, coefficient by coefficient of its 8x8 DCT.

A residual is trusted as far as quantization explains it. Where it has more energy at a frequency,
in the blocks around, than quantization can have left there, most of it is texture, grain or text
that the network takes for damage, and the less of it is added (`Spectrum`); likewise where the
decoded plane has kept grain, of which nobody can tell what is missing (`smoothness`), or what was
drawn, of which nothing is (`evenness`).

A JPEG, whose blocks these are, tells more: of each coefficient in which interval it was, k + 1/2
steps above and below. The original lies in all these intervals, which together are a convex set,
so moving a restored plane to the nearest point of that set can only bring it closer to the original
(Zakhor, "Iterative procedures for reduction of blocking effects in transform image coding", IEEE
TCSVT 2(1), 1992).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vfilter.arrays import Plane, is_tensor, like, namespace, returned

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

PART = 1 << 16
"""Pixels of an array worked on at a time, which stay in cache (measured)."""

NEAR = 2
"""Blocks on each side whose energy counts for the trust in one; `Spectrum.trusted` adds up five."""

LOCAL = 0.7
"""The share of the blocks around in that energy; the rest is the mean of the plane, since that of
25 values alone is uncertain."""

EVEN = (0.4, 0.8)
"""Shares of a block's pixels that equal those beside them, below and above which it is not even at
all, and wholly (measured: training/LOG.md)."""


def restored_by_blocks(
    decoded: Plane,
    residual: Plane,
    strength: float | NDArray[np.float32],
    tolerated: NDArray[np.float64] | None,
    table: Sequence[int] | None,
    *,
    full: int = 255,
) -> Plane:
    """`decoded` + `strength` * `residual` as far as it is trusted, within the intervals of `table`.

    decoded: (H, W), luma codes of 0 to `full`; the blocks start at the top left corner.
    residual: (H, W) float32, in full scales.
    strength: of the plane, or of each of its blocks, (ceil(H / 8), ceil(W / 8)).
    tolerated: as of `Spectrum`; None for full trust.
    table: the 64 steps of a JPEG's luma quantization table, of 8 bits, in raster order; None for no
        projection.
    Blocks that the right or lower border cuts are completed by mirroring, after which they are
    mostly not consistent with the table, hence not projected.
    Arrays both, or tensors of one device. Returns new memory of the type of `decoded`.
    """
    height, width = decoded.shape
    if height % BLOCK or width % BLOCK:
        decoded, residual = _extended(decoded), _extended(residual)
    xp = namespace(decoded)
    restored = xp.empty_like(decoded)
    spectrum = Spectrum(residual, tolerated)
    factors = np.broadcast_to(np.float32(full) * np.asarray(strength, np.float32), spectrum.shape)
    by_row = like(np.repeat(factors, BLOCK, axis=1)[:, None], decoded)
    steps = None if table is None else like(_repeated(table, spectrum.shape[1]), decoded)
    for rows in spectrum.parts:
        lines = slice(rows.start * BLOCK, rows.stop * BLOCK)
        change = spectrum.trusted(rows)
        change *= by_row[rows]
        sums = _restored(decoded[lines], change, steps)
        xp.round(sums, out=sums)
        xp.clip(sums, 0, full, out=sums)
        restored[lines] = sums
    return restored[:height, :width]


class Spectrum:
    """The coefficients of a residual, and how far they are trusted.

    The factor of each is 1 / sqrt(1 + (energy / tolerated)^2), the energy being the mean square of
    the coefficients of its frequency: by `LOCAL` in the blocks around, else in the plane. So the
    best factors fall, measured on JPEG, H.264 and MPEG-4 of any quality (training/LOG.md).

    residual: (H, W) float32, array or tensor, sides whole blocks, in full scales.
    tolerated: of each frequency in raster order, (64,), in squared codes of 8 bits; None for full
        trust.
    shape: how many rows and columns of blocks; parts: the rows, in slices that stay in cache.
    """

    def __init__(self, residual: Plane, tolerated: NDArray[np.float64] | None) -> None:
        rows, columns = self.shape = residual.shape[0] // BLOCK, residual.shape[1] // BLOCK
        width, beside = columns * BLOCK, NEAR * BLOCK
        self.parts = _parts(residual)
        padded = namespace(residual).zeros(
            (rows + 2 * NEAR, BLOCK, width + 2 * beside),
            dtype=residual.dtype,
            device=residual.device,
        )
        self._padded = padded
        self._inner = padded[NEAR : NEAR + rows, :, beside : beside + width]
        for part in self.parts:
            self._inner[part] = transformed(residual[part.start * BLOCK : part.stop * BLOCK])
        self._scales: tuple[Plane, Plane, Plane] | None = None
        if tolerated is not None:
            self._scales = self._scaled(tolerated / 255**2)

    def _scaled(self, tolerated: NDArray[np.float64]) -> tuple[Plane, Plane, Plane]:
        """What turns sums of squares of blocks around into energies by `tolerated`, (64,), float32:
        factors of each row, (rows, 1, 1), and of each column, (8, W), and what the plane adds,
        (8, W)."""
        rows, columns = self.shape
        squares = sum((self._inner[part] ** 2).sum(0) for part in self.parts)
        of_frequency = squares.reshape(BLOCK, columns, BLOCK).sum(1).tolist()
        mean = np.array(of_frequency) / (rows * columns * tolerated.reshape(BLOCK, BLOCK))
        by_column = _repeated(LOCAL / tolerated, columns) / np.repeat(_around(columns), BLOCK)
        scales = 1 / _around(rows)[:, None, None], by_column, _repeated((1 - LOCAL) * mean, columns)
        by_row, by_column, added = (like(x.astype(np.float32), self._inner) for x in scales)
        return by_row, by_column, added

    def trusted(self, rows: slice) -> Plane:
        """The coefficients of `rows` of blocks times their factors, (rows, 8, W) float32."""
        change = self._inner[rows]
        if self._scales is None:
            return change * 1
        width = change.shape[2]
        by_row, by_column, added = self._scales
        squares = self._padded[rows.start : rows.stop + 2 * NEAR] ** 2
        pairs = squares[:-1] + squares[1:]
        down = pairs[:-3] + pairs[2:-1]
        down += squares[4:]
        pairs = down[..., :-BLOCK] + down[..., BLOCK:]
        energy = pairs[..., :width] + pairs[..., 2 * BLOCK : width + 2 * BLOCK]
        energy += down[..., 4 * BLOCK :]
        energy *= by_row[rows]
        energy *= by_column
        energy += added
        energy *= energy
        energy += 1
        return change / namespace(change).sqrt(energy, out=energy)


def kept(
    plane: Plane, texture: float | None, even: float, *, full: int = 255
) -> float | NDArray[np.float32]:
    """How far what is added to each block of a plane is trusted by what the plane has kept.

    texture: as of `smoothness`; None for full trust. even: how far even blocks are not trusted, 0
        to 1 (`evenness`).
    Returns 0 to 1, one or (ceil(H / 8), ceil(W / 8)) float32.
    """
    trust = 1.0 if texture is None else smoothness(plane, texture, full=full)
    return trust * (1 - np.float32(even) * evenness(plane)) if even else trust


def evenness(plane: Plane) -> NDArray[np.float32]:
    """How even the blocks of a plane are, 0 to 1, by the share of their pixels that equal the ones
    beside or below them (`EVEN`): a coarse step leaves ringing about an edge, so that nothing was
    taken where all else is even.

    plane: (H, W), array or tensor, luma codes as they were decoded or restored.
    Returns (ceil(H / 8), ceil(W / 8)) float32.
    """
    if plane.shape[0] % BLOCK or plane.shape[1] % BLOCK:
        plane = _extended(plane)
    xp = namespace(plane)
    alike = xp.zeros_like(plane, dtype=xp.uint8)  # by pixel, those beside and below it in its block
    alike[:, :-1] = plane[:, 1:] == plane[:, :-1]
    alike[:, BLOCK - 1 :: BLOCK] = 0
    down = plane[1:] == plane[:-1]
    down[BLOCK - 1 :: BLOCK] = False
    alike[:-1] += down
    by_column = alike.reshape(-1, BLOCK, plane.shape[1]).sum(1, dtype=xp.uint8)
    counts = by_column.reshape(len(by_column), -1, BLOCK).sum(2, dtype=xp.uint8)
    alike = returned(counts, np.empty(0)) / (2 * BLOCK * (BLOCK - 1))
    low, high = EVEN
    return np.asarray(np.clip((alike - low) / (high - low), 0, 1), np.float32)


def smoothness(plane: Plane, texture: float, *, full: int = 255) -> NDArray[np.float32]:
    """How far what is added to each block of a plane is trusted by the texture around it.

    1 / (1 + energy / texture), the energy being the mean square of a block's 16 highest
    frequencies, the least of its own and of the blocks beside it: grain is in all of them, an edge
    is not.

    plane: (H, W), array or tensor, luma codes of 0 to `full`, as it was decoded or restored.
    texture: in squared codes of 8 bits (`vfilter.weights.Model.texture`).
    Returns (ceil(H / 8), ceil(W / 8)) float32, 0 to 1.
    """
    import cv2

    if plane.shape[0] % BLOCK or plane.shape[1] % BLOCK:
        plane = _extended(plane)
    basis, transposed = (like(matrix, plane) for matrix in _basis())
    half, width = BLOCK // 2, plane.shape[1]
    energies = []
    for part in _parts(plane):
        lines = plane[part.start * BLOCK : part.stop * BLOCK] * np.float32(255 / full)
        across = lines.reshape(-1, width, BLOCK) @ transposed[:, half:]
        finest = basis[half:] @ across.reshape(-1, BLOCK, width // 2)
        squares = (finest**2).sum(1)
        energies.append(squares.reshape(-1, width // BLOCK, half).sum(2) / half**2)
    energy = returned(namespace(plane).concatenate(energies), np.empty(0, np.float32))
    return np.asarray(1 / (1 + cv2.erode(energy, np.ones((3, 3), np.uint8)) / texture), np.float32)


def _extended(plane: Plane) -> Plane:
    """A plane (H, W) mirrored beyond its right and lower borders to whole blocks."""
    rows, columns = (
        like(np.pad(np.arange(length), (0, -length % BLOCK), mode="symmetric"), plane)
        for length in plane.shape
    )
    return plane[rows][:, columns]


def _parts(plane: Plane) -> list[slice]:
    """The rows of blocks of a plane (H, W), sides whole blocks, in slices that stay in cache; those
    of a tensor in one."""
    rows = plane.shape[0] // BLOCK
    step = max(1, rows if is_tensor(plane) else PART // max(BLOCK * plane.shape[1], 1))
    return [slice(row, min(row + step, rows)) for row in range(0, rows, step)]


def _around(count: int) -> NDArray[np.int64]:
    """For each of `count` blocks in a row how many there are at most `NEAR` away, itself too."""
    block = np.arange(count)
    return np.minimum(block + NEAR, count - 1) - np.maximum(block - NEAR, 0) + 1


def _restored(decoded: Plane, change: Plane, steps: Plane | None) -> Plane:
    """Lines of whole blocks of `restored_by_blocks`, (H, W) float32.

    change: by how much their coefficients change, in codes, and steps, (8, W): as `transformed`.
    """
    if steps is None:
        sums = _plane(change)
        sums += decoded
        return sums
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
    sums = _plane(centre)
    sums += LEVEL
    return sums


def transformed(plane: Plane) -> Plane:
    """The DCT of the blocks of a plane (H, W) of whole ones, float32.

    Returns (H / 8, 8, W): rows of blocks, vertical frequency, then by block the horizontal ones.
    """
    basis, transposed = (like(matrix, plane) for matrix in _basis())
    width = plane.shape[1]
    across = plane.reshape(-1, width, BLOCK) @ transposed  # in products too small for threads
    return basis @ across.reshape(-1, BLOCK, width)


def _plane(coefficients: Plane) -> Plane:
    """The inverse of `transformed`."""
    basis, transposed = (like(matrix, coefficients) for matrix in _basis())
    width = coefficients.shape[2]
    across = transposed @ coefficients
    return (across.reshape(-1, width, BLOCK) @ basis).reshape(-1, width)


def _repeated(of_frequency: Sequence[int] | NDArray[Any], columns: int) -> NDArray[Any]:
    """64 values in raster order as `transformed` has the frequencies of `columns` blocks, (8, W)
    float32."""
    square = np.asarray(of_frequency, dtype=np.float32).reshape(BLOCK, BLOCK)
    return np.tile(square, (1, columns))


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
