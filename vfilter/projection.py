"""Projection of restored luma onto what a JPEG's quantization table leaves possible.

A JPEG tells of each DCT coefficient in which interval it was: k + 1/2 steps above and below. The
original lies in all these intervals, which together are a convex set, so moving a restored plane to
the nearest point of that set can only bring it closer to the original (Zakhor, "Iterative
procedures for reduction of blocking effects in transform image coding", IEEE TCSVT 2(1), 1992).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

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


def project(restored: Tensor, decoded: Tensor, table: Sequence[int]) -> Tensor:
    """`restored` with the coefficients of its blocks moved into their intervals.

    restored, decoded: (H, W) uint8, full-range luma after and before restoration, of one device;
        blocks start at the top left corner, those cut by the right or lower border stay.
    table: the 64 steps of the luma quantization table in raster order.
    Returns (H, W) uint8.
    """
    height, width = (length // BLOCK * BLOCK for length in decoded.shape)
    if not height or not width:
        return restored
    basis = _basis(decoded.device)
    steps = torch.as_tensor(table, dtype=torch.float32, device=decoded.device)
    before = _blocks(decoded[:height, :width]) @ basis.T
    after = _blocks(restored[:height, :width]) @ basis.T
    centre = (before / steps).round_().mul_(steps)
    known = (before - centre).abs_().amax(dim=1, keepdim=True) <= CONSISTENT
    reach = steps / 2 + ROUNDING
    moved = torch.minimum(torch.maximum(after, centre - reach), centre + reach)
    blocks = torch.where(known, moved, after) @ basis
    projected = restored.clone()
    projected[:height, :width] = _plane(blocks, height, width)
    return projected


def _blocks(plane: Tensor) -> Tensor:
    """The blocks of a plane (H, W), whole ones, as rows of 64 level-shifted samples, float32."""
    height, width = plane.shape
    tiles = plane.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(1, 2)
    return tiles.reshape(-1, BLOCK * BLOCK).float() - LEVEL


def _plane(blocks: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `_blocks`, rounded to codes, uint8."""
    tiles = (blocks + LEVEL).round_().clamp_(0, 255).to(torch.uint8)
    tiles = tiles.view(height // BLOCK, width // BLOCK, BLOCK, BLOCK).transpose(1, 2)
    return tiles.reshape(height, width)


@cache
def _basis(device: torch.device) -> Tensor:
    """The two-dimensional DCT-II as a (64, 64) matrix of orthonormal rows (ITU-T T.81, A.3.3)."""
    row = [
        [math.cos((2 * x + 1) * u * math.pi / (2 * BLOCK)) for x in range(BLOCK)]
        for u in range(BLOCK)
    ]
    transform = torch.tensor(row) * math.sqrt(2 / BLOCK)
    transform[0] /= math.sqrt(2)
    return torch.kron(transform, transform).to(device)
