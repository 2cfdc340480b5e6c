"""The shape-adaptive DCT of a region around each pixel, shrunk and put together, compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float32]

THRESHOLD = 0.925
"""Hard threshold as a share of sigma sqrt(2 ln N + 1), N the pixels of a region."""


@njit(cache=True, fastmath=True, nogil=True)
def estimates(
    noisy: Floats,
    guide: Floats,
    reach: NDArray[np.uint8],
    sectors: NDArray[np.uint32],
    bases: Floats,
    sigma: np.float32,
    wiener: bool,
    first: int,
    last: int,
) -> tuple[Floats, Floats]:
    """The estimates by the regions around the pixels of lines `first` to `last` - 1.

    Their sum (L, W), each weighted by how sure and how small it is, and the sum of the weights;
    of the L lines that these regions reach, from `first` - side // 2 on or the plane's first.
    """
    height, width = noisy.shape
    side = sectors.shape[3]
    begin, end = max(0, first - side // 2), min(height, last + side // 2)
    total = np.zeros((end - begin, width), np.float32)
    weights = np.zeros((end - begin, width), np.float32)
    shape = np.zeros(side, np.uint32)
    region, coefficients = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    guiding = np.zeros((side, side), np.float32)
    heights, widths = np.zeros(side, np.int64), np.zeros(side, np.int64)
    for y in range(first, last):
        for x in range(width):
            _shape(reach, sectors, y, x, shape)
            top, left = y - side // 2, x - side // 2
            pixels = _gather(noisy, shape, top, left, region, heights)
            mean = _transform(region, heights, pixels, bases, coefficients, widths)
            if wiener:
                _gather(guide, shape, top, left, region, heights)
                _transform(region, heights, pixels, bases, guiding, widths)
                kept = _attenuate(coefficients, guiding, widths, sigma)
            else:
                limit = THRESHOLD * float(sigma) * math.sqrt(2 * math.log(pixels) + 1)
                kept = _threshold(coefficients, widths, limit)
            _restore(coefficients, heights, widths, mean, bases, region)
            weight = np.float32(1 / ((1 + kept) * pixels))  # the mean is kept too
            _scatter(region, shape, top - begin, left, weight, total, weights)
    return total, weights


@njit(cache=True, fastmath=True, nogil=True)
def _shape(
    reach: NDArray[np.uint8],
    sectors: NDArray[np.uint32],
    y: int,
    x: int,
    shape: NDArray[np.uint32],
) -> None:
    """Write to `shape` the region of a pixel, bits of rows by column, within the plane."""
    count, height, width = reach.shape
    side = len(shape)
    first, last = max(0, side // 2 - y), min(side, side // 2 + height - y)
    rows = np.uint32((1 << last) - (1 << first))
    shape[:] = 0
    for sector in range(count):
        triangle = sectors[sector, reach[sector, y, x], reach[(sector + 1) % count, y, x]]
        for column in range(max(0, side // 2 - x), min(side, side // 2 + width - x)):
            shape[column] |= triangle[column] & rows


@njit(cache=True, fastmath=True, nogil=True)
def _gather(
    plane: Floats,
    shape: NDArray[np.uint32],
    top: int,
    left: int,
    region: Floats,
    heights: NDArray[np.int64],
) -> int:
    """Write the columns of a region to rows of `region`, without gaps; the number of pixels."""
    pixels = 0
    for column in range(len(shape)):
        height = 0
        for row in range(len(shape)):
            if (shape[column] >> np.uint32(row)) & np.uint32(1):
                region[column, height] = plane[top + row, left + column]
                height += 1
        heights[column] = height
        pixels += height
    return pixels


@njit(cache=True, fastmath=True, nogil=True)
def _transform(
    region: Floats,
    heights: NDArray[np.int64],
    pixels: int,
    bases: Floats,
    coefficients: Floats,
    widths: NDArray[np.int64],
) -> np.float32:
    """Write the DCT of a region less its mean: of each column, then of what stands in a row.

    Returns the mean. widths: how many coefficients there are in each row.
    """
    side = len(heights)
    mean = np.float32(0)
    for column in range(side):
        for row in range(heights[column]):
            mean += region[column, row]
    mean /= np.float32(pixels)
    lines = np.zeros((side, side), np.float32)
    widths[:] = 0
    for column in range(side):
        height = heights[column]
        for frequency in range(height):
            value = np.float32(0)
            for row in range(height):
                value += bases[height, frequency, row] * (region[column, row] - mean)
            lines[frequency, widths[frequency]] = value
            widths[frequency] += 1
    for row in range(side):
        width = widths[row]
        for frequency in range(width):
            value = np.float32(0)
            for column in range(width):
                value += bases[width, frequency, column] * lines[row, column]
            coefficients[row, frequency] = value
    return mean


@njit(cache=True, fastmath=True, nogil=True)
def _threshold(coefficients: Floats, widths: NDArray[np.int64], limit: float) -> float:
    """Set the coefficients within `limit` to 0; the number of the others."""
    kept = 0.0
    for row in range(len(widths)):
        for frequency in range(widths[row]):
            if abs(coefficients[row, frequency]) > limit:
                kept += 1
            else:
                coefficients[row, frequency] = 0
    return kept


@njit(cache=True, fastmath=True, nogil=True)
def _attenuate(
    coefficients: Floats, guiding: Floats, widths: NDArray[np.int64], sigma: np.float32
) -> float:
    """Multiply the coefficients by the Wiener factors of `guiding`; the sum of their squares."""
    kept = 0.0
    for row in range(len(widths)):
        for frequency in range(widths[row]):
            power = guiding[row, frequency] * guiding[row, frequency]
            factor = power / (power + sigma * sigma)
            coefficients[row, frequency] *= factor
            kept += factor * factor
    return kept


@njit(cache=True, fastmath=True, nogil=True)
def _restore(
    coefficients: Floats,
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    mean: np.float32,
    bases: Floats,
    region: Floats,
) -> None:
    """Write the region of which `coefficients` are the transform, plus `mean`."""
    side = len(heights)
    lines = np.zeros((side, side), np.float32)
    for row in range(side):
        width = widths[row]
        for frequency in range(width):
            value = coefficients[row, frequency]
            if value != 0:
                for column in range(width):
                    lines[row, column] += value * bases[width, frequency, column]
    taken = np.zeros(side, np.int64)
    for column in range(side):
        height = heights[column]
        region[column, :height] = mean
        for frequency in range(height):
            value = lines[frequency, taken[frequency]]
            taken[frequency] += 1
            for row in range(height):
                region[column, row] += value * bases[height, frequency, row]


@njit(cache=True, fastmath=True, nogil=True)
def _scatter(
    region: Floats,
    shape: NDArray[np.uint32],
    top: int,
    left: int,
    weight: np.float32,
    total: Floats,
    weights: Floats,
) -> None:
    """Add the columns of `region` to the plane `total` where they came from, with `weight`."""
    for column in range(len(shape)):
        height = 0
        for row in range(len(shape)):
            if (shape[column] >> np.uint32(row)) & np.uint32(1):
                total[top + row, left + column] += weight * region[column, height]
                weights[top + row, left + column] += weight
                height += 1
