"""python -m training demo --data DIR: train L4 from nothing for a minute, and see what it gains."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from training.data import Luma, jpeg
from training.evaluate import psnr_gain, restore, scores
from training.loop import train
from training.recipes import Recipe
from training.samples import Pictures

QUALITY = 20

RECIPE = Recipe(
    network="l4",
    qualities=(QUALITY, QUALITY),
    balance=0.0,
    steps=300,
    batch=4,
    crop=64,
    rate=1e-3,
    warmup=30,
    decay=0.5,
)


def demo(
    planes: Sequence[Luma],
    validation: Sequence[Luma],
    recipe: Recipe = RECIPE,
    *,
    seconds: float = 90.0,
) -> float:
    """Train by `recipe` for at most `seconds`, print what it does, return the gain in dB.

    planes, validation: images to train on, and those that the gain is told for.
    """
    ends = time.perf_counter() + seconds
    with TemporaryDirectory() as folder:
        run = train(
            recipe,
            Pictures(planes),
            validation[:2],
            Path(folder) / "demo.pt",
            save_every=100,
            stopped=lambda: time.perf_counter() > ends,
        )
    module = run.averaged()
    pairs = [(jpeg(plane, QUALITY), plane) for plane in validation]
    before = scores([bad for bad, _ in pairs], validation)
    after = scores([restore(module, bad) for bad, _ in pairs], validation)
    print(f"\n{len(validation)} images that L4 has not seen, JPEG of quality {QUALITY}:")
    for name, unit in (("psnr", " dB"), ("psnr_b", " dB"), ("ssim_uniform", "")):
        print(f"{name:<13} {before[name]:.4f} -> {after[name]:.4f}{unit}")
    return psnr_gain(module, pairs)
