"""The strength that serves a source of each JPEG quality best, fitted on training images.

A blind network restores by what it takes the quality for: at the ends of its range it does too
little or too much. Where the stream tells the quality, the residual is scaled by the factor of
least squared error, <residual, original - distorted> / <residual, residual>.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.data import Luma, jpeg
from vfilter.bitstream import Hints
from vfilter.restorer import Restorer
from vfilter.weights import Model

QUALITIES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95, 98, 100)
"""Where the strength is fitted: closer where it changes more."""

LARGEST = 2.0
"""Largest strength: a limit for sources far below the trained range."""


def fit_strength(model: Model, planes: Sequence[Luma]) -> dict[str, float]:
    """The factor of least squared error over `planes` by JPEG quality, 0 to `LARGEST`."""
    with Restorer(model, precision="fp32") as restorer:
        return {str(quality): _fit(restorer, planes, quality) for quality in QUALITIES}


def _fit(restorer: Restorer, planes: Sequence[Luma], quality: int) -> float:
    along, square = 0.0, 0.0
    for plane in planes:
        distorted = jpeg(plane, quality)
        residual = restorer.luma(distorted, hints=Hints()).astype(np.float64) - distorted
        along += float(np.sum(residual * (plane.astype(np.float64) - distorted)))
        square += float(np.sum(residual**2))
    return round(min(max(along / max(square, 1.0), 0.0), LARGEST), 3)
