"""Quality metrics of a luma plane against its pristine original, as the paper measures them.

All take two arrays (H, W) of equal shape on the 8-bit scale (0 to 255) and return a float.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8] | NDArray[np.float64]

PEAK = 255.0
"""Largest code of the 8-bit scale, the peak in PSNR and the L of SSIM."""

BLOCK = 8
"""Side of a coding block in pixels (JPEG, ITU-T T.81)."""


def mse(image: Plane, reference: Plane) -> float:
    """Mean squared error, in squared codes."""
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    difference = image.astype(np.float64) - reference.astype(np.float64)
    return float(np.mean(difference * difference))


def psnr(image: Plane, reference: Plane) -> float:
    """Peak signal-to-noise ratio in dB; infinite for equal planes."""
    return _decibel(mse(image, reference))


def psnr_b(image: Plane, reference: Plane) -> float:
    """PSNR with a penalty for steps at block boundaries, in dB.

    Yim and Bovik, "Quality assessment of deblocked images", IEEE TIP 20(1), 2011; boundary
    counts without rounding, for blocks of 8x8 starting at the top left corner.
    """
    return _decibel(mse(image, reference) + blocking_effect(image))


def blocking_effect(image: Plane) -> float:
    """Blocking effect factor (BEF) of a plane, in squared codes (Yim and Bovik 2011)."""
    height, width = image.shape
    plane = image.astype(np.float64)
    across = np.diff(plane, axis=1) ** 2
    down = np.diff(plane, axis=0) ** 2
    boundary = across[:, BLOCK - 1 :: BLOCK].sum() + down[BLOCK - 1 :: BLOCK].sum()
    inside = across.sum() + down.sum() - boundary
    boundaries = height * (width / BLOCK - 1) + width * (height / BLOCK - 1)
    others = height * (width - 1) + width * (height - 1) - boundaries
    if boundaries <= 0 or others <= 0:
        return 0.0
    at_boundary, elsewhere = boundary / boundaries, inside / others
    if at_boundary <= elsewhere:
        return 0.0
    weight = math.log2(BLOCK) / math.log2(min(height, width))
    return float(weight * (at_boundary - elsewhere))


def ssim_uniform(image: Plane, reference: Plane) -> float:
    """Mean SSIM with a uniform 8x8 window and population variances: the paper's variant.

    Wang et al., "Image quality assessment", IEEE TIP 13(4), 2004, equation 13; valid area only.
    """
    return _ssim(image, reference, np.full(8, 1 / 8))


def ssim_gaussian(image: Plane, reference: Plane) -> float:
    """Mean SSIM with the 11x11 Gaussian window of sigma 1.5; valid area only.

    Wang et al., "Image quality assessment", IEEE TIP 13(4), 2004, equation 13.
    """
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    return _ssim(image, reference, window / window.sum())


def _decibel(error: float) -> float:
    return math.inf if error == 0 else 10 * math.log10(PEAK * PEAK / error)


def _ssim(image: Plane, reference: Plane, window: NDArray[np.float64]) -> float:
    """Mean SSIM over the window positions that lie within the plane; `window` is separable."""
    size = len(window)
    if min(image.shape) < size:
        raise ValueError(f"planes of {image.shape} are smaller than the {size}x{size} window")
    if image.shape != reference.shape:
        raise ValueError(f"shapes differ: {image.shape} and {reference.shape}")
    before = (size - 1) // 2

    def local_mean(plane: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth = cv2.sepFilter2D(plane, cv2.CV_64F, window, window, anchor=(before, before))
        height, width = plane.shape
        valid = smooth[before : before + height - size + 1, before : before + width - size + 1]
        return np.asarray(valid, dtype=np.float64)

    x, y = image.astype(np.float64), reference.astype(np.float64)
    mean_x, mean_y = local_mean(x), local_mean(y)
    variances = local_mean(x * x) - mean_x**2 + local_mean(y * y) - mean_y**2
    covariance = local_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    denominator = (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    return float(np.mean(numerator / denominator))


STILL = 2.0
"""Codes that the local mean of the original's change may reach in what counts as static."""

STILL_SHARE = 0.01
"""Least share of static pixels for which flicker is told."""


def flicker(image: Plane, before: Plane, reference: Plane, reference_before: Plane) -> float:
    """Variance of the change of the error from the frame before, where nothing moves.

    In squared codes; static is where the mean absolute change of the original over 8x8 pixels is
    below `STILL`. Not a number where less than `STILL_SHARE` of the frame is static.
    """
    planes = [p.astype(np.float64) for p in (image, before, reference, reference_before)]
    now, then, original, original_then = planes
    change = cv2.blur(np.abs(original - original_then), (BLOCK, BLOCK))
    still = change < STILL
    if still.mean() < STILL_SHARE:
        return math.nan
    return float(np.var(((now - original) - (then - original_then))[still]))
