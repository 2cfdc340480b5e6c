"""Pointwise shape-adaptive DCT: the deblocking filter of Foi, Katkovnik and Egiazarian.

"Pointwise shape-adaptive DCT for high-quality denoising and deblocking of grayscale and color
images", IEEE TIP 16(5), 2007. Around each pixel a region is found in which the plane hardly
changes, as far as the noise lets tell; its shape-adaptive DCT is shrunk, and the overlapping
estimates are averaged: first by hard thresholds, then once more by a Wiener filter that the first
result guides.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from vfilter.comparison.regions import Floats, estimates

DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""Steps down and right of the eight directions, around the circle."""

HARD_LENGTHS = (1, 2, 3, 5, 7, 9)
WIENER_LENGTHS = (1, 2, 3, 5, 6)
"""Pixels that a region may reach in a direction, its centre counted (the authors' settings)."""

LINES = 32
"""Lines that a thread takes at a time; fixed, so that the sums are those of any machine."""

MIXES = (-0.75, -0.70, -0.85, -0.90, -0.97, -1.0)
"""By length, how much of a kernel is a plain mean: -1 all, 0 none, a line's value at the centre."""


def sadct(luma: NDArray[np.uint8], table: Sequence[float]) -> NDArray[np.uint8]:
    """`luma` (H, W) uint8, decoded from a JPEG of luma `table`, deblocked; (H, W) uint8.

    table: the 64 steps in raster order, on the 8-bit scale; they set the strength, by
        `noise_of`. A flat one is the strength of a quantizer.
    Raises ValueError for another shape or table.
    """
    if luma.ndim != 2 or luma.dtype != np.uint8:
        raise ValueError(f"luma must be (H, W) uint8, got {luma.shape} {luma.dtype}")
    noisy = luma.astype(np.float32) / np.float32(255)
    sigma = noise_of(table)
    gamma = max(0.8, 2.4 / math.log(1 + 60 * sigma))  # the authors' threshold of the ICI rule
    first = _estimate(noisy, noisy, HARD_LENGTHS, sigma, gamma, wiener=False)
    final = _estimate(noisy, first, WIENER_LENGTHS, sigma, gamma, wiener=True)
    return np.clip(np.rint(final * 255), 0, 255).astype(np.uint8)


def noise_of(table: Sequence[float]) -> float:
    """The standard deviation of white noise for which a JPEG of luma `table` is taken, of 1.

    The authors' fit, sigma^2 = 0.69 q^1.3 on the scale of 255, q the mean of the 3x3 steps of
    lowest frequency, in the digits of their settings.
    """
    if len(table) != 64 or min(table) <= 0:
        raise ValueError(f"table must be 64 positive steps, got {table}")
    mean = float(np.mean(np.reshape(table, (8, 8))[:3, :3]))
    return float((7.65 * mean) ** 0.65 / 1150)


def _estimate(
    noisy: Floats,
    guide: Floats,
    lengths: tuple[int, ...],
    sigma: float,
    gamma: float,
    *,
    wiener: bool,
) -> Floats:
    """One pass over planes (H, W), 0 to 1. guide: the first result for the Wiener filter."""
    height, width = noisy.shape
    side = 2 * lengths[-1] - 1
    reach, bases = _reach(noisy, lengths, sigma, gamma), _bases(side)
    strip = partial(
        estimates, noisy, guide, reach, _sectors(lengths), bases, np.float32(sigma), wiener
    )
    begins = range(0, height, LINES)
    ends = [min(begin + LINES, height) for begin in begins]
    total, weights = np.zeros((2, height, width), np.float32)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for begin, (part, weight) in zip(begins, pool.map(strip, begins, ends), strict=True):
            lines = slice(max(0, begin - side // 2), begin + LINES + side // 2)
            total[lines] += part
            weights[lines] += weight
    return np.asarray(total / weights)


def _reach(plane: Floats, lengths: Sequence[int], sigma: float, gamma: float) -> NDArray[np.uint8]:
    """(8, H, W), which of `lengths` each pixel's region has in each direction.

    The longest whose mean, and those of all shorter ones, agree within `gamma` times their
    standard deviations: the rule of intersecting confidence intervals (ICI).
    """
    height, width = plane.shape
    border = lengths[-1]
    padded = np.pad(plane, border, mode="edge")
    found = np.zeros((len(DIRECTIONS), height, width), dtype=np.uint8)
    for reach, (down, right) in zip(found, DIRECTIONS, strict=True):
        along = [
            padded[border + i * down :, border + i * right :][:height, :width]
            for i in range(border)
        ]
        low = np.full(plane.shape, -np.inf, dtype=np.float32)
        high = np.full(plane.shape, np.inf, dtype=np.float32)
        for index, (length, mix) in enumerate(zip(lengths, MIXES, strict=False)):
            kernel = _kernel(length, mix)
            mean = sum(float(w) * pixels for w, pixels in zip(kernel, along, strict=False))
            doubt = np.float32(gamma * sigma * math.sqrt(float(kernel @ kernel)))
            np.maximum(low, mean - doubt, out=low)
            np.minimum(high, mean + doubt, out=high)
            reach[low <= high] = index
    return found


def _kernel(length: int, mix: float) -> NDArray[np.float64]:
    """Weights of `length` pixels in a row whose first is to be estimated.

    Between the mean of them and the value there of the line that fits them best, by `mix`.
    """
    mean = np.full(length, 1 / length)
    line = (2 * (2 * length - 1) - 6 * np.arange(length)) / (length * (length + 1))
    return np.asarray((1 + mix) * line - mix * mean)


@cache
def _sectors(lengths: tuple[int, ...]) -> NDArray[np.uint32]:
    """(8, n, n, columns), the triangle from a direction to the next by the lengths in both.

    Bits of rows by column, in a square whose centre is the pixel that the triangle begins at.
    """
    reach = lengths[-1] - 1
    side = 2 * reach + 1
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    bits = (1 << np.arange(side))[:, None]
    found = np.zeros((len(DIRECTIONS), len(lengths), len(lengths), side), dtype=np.uint32)
    for sector, i, j in np.ndindex(found.shape[:3]):
        one, other = DIRECTIONS[sector], DIRECTIONS[(sector + 1) % len(DIRECTIONS)]
        turn = one[0] * other[1] - one[1] * other[0]
        along = (down * other[1] - right * other[0]) / turn
        beside = (right * one[0] - down * one[1]) / turn
        shares = _share(along, lengths[i]) + _share(beside, lengths[j])
        found[sector, i, j] = (bits * (shares <= 1 + 1e-9)).sum(axis=0)
    return found


def _share(steps: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """`steps` in a direction as shares of the way to the last pixel; infinite outside of it."""
    ahead = np.where(steps > 0, np.inf, 0) if length == 1 else steps / (length - 1)
    return np.where(steps < 0, np.inf, ahead)


@cache
def _bases(size: int) -> Floats:
    """(size + 1, size, size): the orthonormal DCT of each length up to `size`, a row a frequency.

    Sikora and Makai, "Shape-adaptive DCT for generic coding of video", IEEE TCSVT 5(1), 1995.
    """
    bases = np.zeros((size + 1, size, size), dtype=np.float32)
    for length in range(1, size + 1):
        frequency, place = np.mgrid[:length, :length]
        waves = np.sqrt(2 / length) * np.cos(np.pi * (2 * place + 1) * frequency / (2 * length))
        waves[0] = np.sqrt(1 / length)
        bases[length, :length, :length] = waves
    return bases
