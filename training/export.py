"""Export of a checkpoint as a shipped model: weights, metrics, model card, table of all models."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import save

from training.data import Luma
from training.evaluate import evaluate
from training.loop import Recipe
from vfilter.restorer import Restorer
from vfilter.weights import METRICS, OBJECTIVE, WEIGHTS, Model, load

QUALITIES = (10, 20, 30, 40, 50, 60, 80, 90)
"""JPEG qualities of the evaluation: the paper's six (section 4) and two of good sources."""

SETS = {"LIVE1": "LIVE1", "BSDS500 val": "BSDS500/val"}
"""Data sets of the paper's tables 3 and 4 and their folders."""

PROTOCOL = (
    "Limited-range BT.601 luma, 8-bit grayscale JPEG (libjpeg), 8-bit outputs, whole images, "
    "mean over the images; SSIM with a uniform 8x8 window (the paper's) and with the 11x11 "
    "Gaussian window; computed in fp32"
)

FINEST = 95
"""Highest JPEG quality of the crops that `Recipe.fine` adds."""

VERSION = "1"
"""Of the exported weights; counts up when a shipped name gets weights of another recipe."""

PAPER = {
    "LIVE1": {
        10: {"L4": "29.08 / 28.71 / .824"},
        20: {"L4": "31.42 / 30.83 / .890", "L8": "31.51 / 30.92 / .891"},
    },
    "BSDS500 val": {
        10: {"L4": "28.75 / 28.29 / .800"},
        20: {"L4": "30.90 / 30.13 / .871", "L8": "30.99 / 30.19 / .872"},
    },
}
"""PSNR / PSNR-B / SSIM 8x8 of the paper's tables 3 and 4, of networks for that quality alone."""


def write_weights(checkpoint: Mapping[str, Any], name: str, folder: Path) -> None:
    """Write the averaged weights of a loaded checkpoint, with metadata, into `folder`."""
    recipe = Recipe(**checkpoint["recipe"])
    low, high = recipe.qualities
    metadata = {
        "name": name,
        "network": recipe.network,
        "objective": OBJECTIVE,
        "codec": "jpeg",
        "quality_min": str(low),
        "quality_max": str(FINEST if recipe.fine > 0 else high),
        "steps": str(checkpoint["step"]),
        "commit": commit(),
        "version": VERSION,
    }
    arrays = {
        key: value.float().contiguous().numpy() for key, value in checkpoint["average"].items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS).write_bytes(save(arrays, metadata))


def commit() -> str:
    """Git hash of the checked-out training code; "unknown" outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--verify", "-q", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return result.stdout.strip() or "unknown"
