"""How fast the networks restore here: milliseconds a frame, useful GFLOP/s, share of the peak."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from vfilter.pipeline import restore_video
from vfilter.restorer import Restorer

SIZES = ((640, 480), (1280, 720))
MODELS = ("l4", "l8")
ROUNDS = 3
"""Timings of everything are interleaved so many times, and their median is told."""

PEAK_SIZE = 2048
"""Side of the matrices whose product stands for the machine's peak."""

CLIP = Path(__file__).resolve().parent.parent / "samples" / "camera.avi"
CLIP_FRAMES = 10


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def bench() -> dict[str, object]:
    """Measure peak, restoring alone and end to end, ready for JSON.

    Peak and GFLOP/s are of fp32 or the engine's default precision, useful FLOPs alone: halo and
    padding are not counted.
    """
    rng = np.random.default_rng(0)
    restorers = {name: Restorer(name) for name in MODELS}
    precision = restorers[MODELS[0]].engine.precision
    matrix = torch.randn(PEAK_SIZE, PEAK_SIZE).to(precision)
    work: dict[str, Callable[[], object]] = {"product": lambda: matrix @ matrix}
    for width, height in SIZES:
        luma = rng.integers(0, 256, (height, width), dtype=np.uint8)
        for name, restore in restorers.items():
            work[f"{name} {width}x{height}"] = lambda r=restore, y=luma: r.luma(y)  # type: ignore[misc]
    times: dict[str, list[float]] = {key: [] for key in work}
    for round_ in range(ROUNDS + 1):
        for key, action in work.items():
            seconds = seconds_of(action)
            if round_:  # the first round warms up
                times[key].append(seconds)
    peak = 2 * PEAK_SIZE**3 / statistics.median(times["product"]) / 1e9
    rows = []
    for width, height in SIZES:
        for name, restore in restorers.items():
            seconds = statistics.median(times[f"{name} {width}x{height}"])
            rate = restore.model.network.flop_per_pixel * width * height / seconds / 1e9
            rows.append(
                {
                    "model": name,
                    "size": f"{width}x{height}",
                    "ms_per_frame": round(seconds * 1e3, 1),
                    "fps": round(1 / seconds, 2),
                    "gflops": round(rate, 1),
                    "share_of_peak": round(rate / peak, 3),
                }
            )
    return {
        "engine": restorers[MODELS[0]].engine.description,
        "threads": torch.get_num_threads(),
        "peak_gflops": round(peak, 1),
        "restoring": rows,
        "end_to_end": [_end_to_end(name, restorers[name]) for name in MODELS],
    }


def _end_to_end(name: str, restore: Restorer) -> dict[str, object]:
    """The sample clip from file to file, and the same number of frames restored alone."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "out.mp4"
        summary = restore_video(CLIP, output, model=name, frames=CLIP_FRAMES)
    luma = np.random.default_rng(0).integers(0, 256, (480, 640), dtype=np.uint8)
    alone = seconds_of(lambda: [restore.luma(luma) for _ in range(CLIP_FRAMES)])
    return {
        "model": name,
        "fps": round(summary.frames / summary.seconds, 2),
        "times_restoring_alone": round(summary.seconds / alone, 3),
    }


def print_table(result: dict[str, object]) -> None:
    """Print `bench`'s result as Markdown, then as one line of JSON."""
    print(
        f"{result['engine']}, {result['threads']} threads, {result['peak_gflops']} GFLOP/s peak\n"
    )
    for key in ("restoring", "end_to_end"):
        rows = result[key]
        assert isinstance(rows, list)
        print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
        for row in rows:
            print("| " + " | ".join(str(value) for value in row.values()) + " |")
        print()
    print(json.dumps(result))
