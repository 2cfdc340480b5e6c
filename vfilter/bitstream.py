"""What the stream tells about its compression: JPEG quantization tables."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# ITU-T T.81, table K.1 (luminance), in raster order
STANDARD_LUMA_TABLE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)


def luma_table(jpeg: bytes) -> NDArray[np.int64] | None:
    """The luma quantization table of a JPEG image, 64 steps in raster order, or None."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            tables = getattr(image, "quantization", {})
    except (OSError, SyntaxError, ValueError):
        return None
    table = np.array(tables.get(0, ()), dtype=np.int64)
    return table if table.size == 64 and table.min() > 0 else None


def jpeg_quality(jpeg: bytes) -> int | None:
    """The nearest IJG quality of a JPEG image, 1 to 100, None if its table can't be read."""
    table = luma_table(jpeg)
    return None if table is None else nearest_quality(table)


def nearest_quality(table: NDArray[np.int64]) -> int:
    """The quality of the IJG scale, 1 to 100, whose luma table is nearest to `table`.

    Nearest in the mean ratio of steps, so that tables of other encoders are placed by strength.
    """
    ratios = [np.abs(np.log(table / scaled_luma_table(q))).mean() for q in range(1, 101)]
    return int(np.argmin(ratios)) + 1


def scaled_luma_table(quality: int) -> NDArray[np.int64]:
    """The standard luma table at `quality`, 1 to 100, as libjpeg scales it (jpeg_set_quality)."""
    if not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    steps = (np.array(STANDARD_LUMA_TABLE, dtype=np.int64) * scale + 50) // 100
    return np.clip(steps, 1, 255)
