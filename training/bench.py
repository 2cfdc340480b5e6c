"""How fast the networks restore here, from the processor's peak to files, beside what others run.

python -m training bench --output build/bench.json, and bench-plot, which draws what that holds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from training.contenders import (
    PEAK_SIDE,
    PRODUCTS,
    eager,
    engine_alone,
    onnx_runtime,
    ours,
    product,
    spp_seconds,
)
from training.data import Luma
from training.footprint import footprint, make_clip
from training.plots import figure
from training.stages import stages
from training.tables import plain
from vfilter.comparison.ffmpeg import FFmpeg
from vfilter.engines import ENGINES, installed, native_precision
from vfilter.pipeline import restore_video
from vfilter.restorer import Restorer
from vfilter.source import Source
from vfilter.weights import load

SIZES = ((640, 480), (1280, 720), (1920, 1080))
QUICK_SIZES = ((160, 96),)
MODELS = ("l4", "l8")

ROUNDS = 5
PATIENCE = 2.0
"""Timings are interleaved so many times after a first, and their median is told; seconds after
which one is not run again."""

QUICK = 0.5
"""Seconds below which a run is done twice, and the second one counts: the first one meets the
caches of what ran before, and its threads, which wait awake."""

MOVING = 0.1
"""Share of the tiles that change in the clip of reuse."""

LENGTHS = (100, 1000)
QUICK_LENGTHS = (3, 6)
"""Frames of the clips whose peak of memory is compared."""

CLIP = Path(__file__).resolve().parent.parent / "samples" / "camera.avi"

EAGER = "PyTorch eager, whole frame"

PARTS = ("restoring", "end_to_end", "stages", "start", "reuse", "memory")

EMPTY = """import typer
app = typer.Typer()
@app.command()
def main(name: str = "") -> None: pass
app()
"""
"""A Typer program that does nothing."""

Row = dict[str, Any]


def bench(part: str, *, quick: bool = False) -> dict[str, Any]:
    """The measurements of one of `PARTS`, ready for JSON.

    quick: of small planes and few frames, to see it work.
    Raises ValueError if there is no such part.
    """
    sizes = QUICK_SIZES if quick else SIZES
    match part:
        case "restoring":
            return restoring(sizes, native_precision(), rounds=1 if quick else ROUNDS)
        case "end_to_end":
            return {part: [end_to_end(model, 2 if quick else 30) for model in MODELS]}
        case "stages":
            frames = 2 if quick else 12
            return {part: [row for model in MODELS for row in stages(model, CLIP, frames)]}
        case "start":
            return {part: start(1 if quick else 5)}
        case "reuse":
            size = sizes[len(sizes) // 2]
            return {part: [reuse(model, *size, frames=4 if quick else 10) for model in MODELS]}
        case "memory":
            return {part: memory(sizes, QUICK_LENGTHS if quick else LENGTHS)}
        case _:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part}")


def machine() -> Row:
    """The processor, and what computes on it."""
    from importlib.metadata import version

    processor = "unknown"
    if installed("openvino"):
        import openvino

        processor = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has = [
        name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if capabilities.get(name)
    ]
    names = ("torch", "openvino", "onnxruntime", "av")
    versions = {name: version(name) for name in names if installed(name)}
    return {"processor": processor, "cores": os.cpu_count(), "has": has, "versions": versions}


def restoring(sizes: Sequence[tuple[int, int]], native: str, rounds: int) -> dict[str, Any]:
    """Peaks in GFLOP/s by precision, and a row for each contender, model and size."""
    precisions = sorted({"fp32", native})
    seconds: dict[tuple[str, ...], Callable[[], float]] = {
        ("product", precision): partial(seconds_of, product(precision)) for precision in precisions
    }
    pictures = {f"{w}x{h}": noise(h, w) for w, h in sizes}
    for model in MODELS:
        works = list(contenders(model, precisions))
        for size, y in pictures.items():  # an engine alone right after what wraps it
            for name, precision, work in works:
                seconds[name, precision, model, size] = partial(seconds_of, partial(work, y))
    for size, y in pictures.items():
        seconds["FFmpeg spp=6", "", "", size] = partial(spp_seconds, FFmpeg(), y)
    took = interleaved(seconds, rounds, PATIENCE)
    flop = PRODUCTS * 2 * PEAK_SIDE**3
    peak = {p: round(flop / took["product", p] / 1e9, 1) for p in precisions}
    rows = [row_of(key, took, peak) for key in took if key[0] != "product"]
    return {"peak_gflops": peak, "restoring": rows}


def contenders(
    model: str, precisions: Sequence[str]
) -> Iterable[tuple[str, str, Callable[[Luma], object]]]:
    """Name, precision and work of all that restores a plane."""
    loaded = load(model)
    for name in filter(installed, ENGINES):
        for precision in [*precisions, *(["int8"] if name == "openvino" else [])]:
            restore = ours(loaded, name, precision)
            yield f"ours, {name}", precision, restore.luma
            if precision == precisions[0]:
                alone = partial(engine_alone, restore.engine)
                yield f"{name} alone", precision, lambda y, alone=alone: alone(y.shape)  # type: ignore[misc]
    yield EAGER, "fp32", eager(loaded)
    yield "ONNX Runtime, whole frame", "fp32", onnx_runtime(loaded)


def row_of(
    key: tuple[str, ...], took: Mapping[tuple[str, ...], float], peak: Mapping[str, float]
) -> Row:
    """A row of the table of restoring; GFLOP/s are of useful work, no halo and no padding.

    took: seconds of all rows. "times_eager": the speed relative to that of PyTorch's eager mode;
    "share_of_engine": that of a restorer relative to that of its engine alone.
    """
    name, precision, model, size = key
    seconds = took[key]
    row: Row = {"by": name, "precision": precision, "model": model, "size": size}
    row |= {"ms": round(1e3 * seconds, 1), "fps": round(1 / seconds, 2)}
    if not model:
        return row
    width, height = map(int, size.split("x"))
    rate = load(model).network.flop_per_pixel * width * height / seconds / 1e9
    row["gflops"] = round(rate, 1)
    if precision in peak:
        row["share_of_peak"] = round(rate / peak[precision], 3)
    row["times_eager"] = round(took[EAGER, "fp32", model, size] / seconds, 2)
    if alone := took.get((f"{name.removeprefix('ours, ')} alone", *key[1:])):
        row["share_of_engine"] = round(alone / seconds, 3)
    return row


def interleaved(
    timings: Mapping[tuple[str, ...], Callable[[], float]],
    rounds: int,
    patience: float = float("inf"),
) -> dict[tuple[str, ...], float]:
    """The median of what each of `timings` tells in seconds, in `rounds` rounds after a first.

    Of what takes less than `QUICK` the second of two runs counts. What has taken more than
    `patience` after the first, which warms up, is not run again.
    """
    told: dict[tuple[str, ...], list[float]] = {key: [] for key in timings}
    for _ in range(rounds + 1):
        for key, timing in timings.items():
            if sum(told[key][1:]) <= patience:
                seconds = timing()
                told[key].append(timing() if seconds < QUICK else seconds)
    return {key: statistics.median(values[1:]) for key, values in told.items()}


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def noise(*shape: int) -> Luma:
    """Random codes: what they are doesn't matter for the time."""
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def end_to_end(model: str, frames: int) -> Row:
    """The sample clip, 640x480, from file to file, and its frames restored alone."""

    def to_file(folder: str) -> float:
        output = Path(folder, "out.mp4")
        return restore_video(CLIP, output, model=model, frames=frames, overwrite=True).seconds

    with tempfile.TemporaryDirectory() as folder, Restorer(model) as restore:
        with Source(CLIP, frames=frames) as source:
            given = [item for item in source if isinstance(item, av.VideoFrame)]
        alone = partial(seconds_of, lambda: deque(restore.film(given), maxlen=0))
        took = interleaved({("file",): partial(to_file, folder), ("alone",): alone}, rounds=2)
    whole, part = took["file",], took["alone",]
    return {
        "model": model,
        "frames": len(given),
        "fps": round(len(given) / whole, 2),
        "fps_restoring_alone": round(len(given) / part, 2),
        "times_restoring_alone": round(whole / part, 3),
    }


def start(rounds: int) -> list[Row]:
    """Seconds until the help is there, beside that of an empty Typer program, and until one frame
    of the sample clip is written, by processes of their own."""
    ours = [sys.executable, "-m", "vfilter"]
    with tempfile.TemporaryDirectory() as folder:
        written = [str(CLIP), str(Path(folder, "out.mp4")), "--frames", "1", "-y", "-q"]
        lines = {
            "empty": [sys.executable, "-c", EMPTY, "--help"],
            "--help": [*ours, "--help"],
        }
        lines |= {f"one frame, {model}": [*ours, *written, "-m", model] for model in MODELS}
        run = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
        took = interleaved(
            {(what,): partial(seconds_of, partial(run, line)) for what, line in lines.items()},
            rounds,
        )
    rows: list[Row] = [{"what": what, "seconds": round(took[what,], 2)} for what in lines]
    rows[1]["times_empty"] = round(took["--help",] / took["empty",], 2)
    return rows


def reuse(model: str, width: int, height: int, frames: int) -> Row:
    """A clip of which `MOVING` of the tiles change in each frame, with reuse and without."""
    with Restorer(model, device="cpu") as on, Restorer(model, device="cpu", reuse=False) as off:
        clip = moving(width, height, frames, on.engine.tile)
        planes = {restore: [restore.luma(y) for y in clip] for restore in (on, off)}
        same = all(np.array_equal(a, b) for a, b in zip(planes[on], planes[off], strict=True))
        seconds = interleaved(
            {
                (name,): partial(seconds_of, partial(restored, restore, clip))
                for name, restore in (("on", on), ("off", off))
            },
            rounds=2,
        )
        changing = [noise(height, width) + np.uint8(k) for k in range(4)]
        cost = interleaved(
            {
                (name,): partial(seconds_of, partial(restored, restore, changing))
                for name, restore in (("on", on), ("off", off))
            },
            rounds=3,
        )
    return {
        "model": model,
        "size": f"{width}x{height}",
        "static": 1 - MOVING,
        "times_faster": round(seconds["off",] / seconds["on",], 2),
        "identical": same,
        "cost_where_all_changes": round(cost["on",] / cost["off",] - 1, 4),
    }


def restored(restore: Restorer, clip: Iterable[Luma]) -> None:
    """All planes of `clip` through `restore`."""
    for y in clip:
        restore.luma(y)


def moving(width: int, height: int, frames: int, tile: int) -> list[Luma]:
    """Planes of noise, of which a strip that `MOVING` of the tiles see is new in each."""
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (height, width), dtype=np.uint8)
    clip = []
    for _ in range(frames):
        plane = plane.copy()
        side = -(-height // -(-height // tile))  # lines of a row of tiles
        wide = max(1, int(MOVING * width * height / side))
        plane[side // 4 : side // 2, : min(wide, width) - tile // 4] = rng.integers(0, 256)
        clip.append(plane)
    return clip


def memory(sizes: Sequence[tuple[int, int]], lengths: Sequence[int]) -> list[Row]:
    """Peak memory in MB by frame size, all of the frame changing, and by the clip's length.

    "times_shortest": the peak relative to that of the shortest of these lengths.
    """
    cases = [(size, lengths[0] // 10 or 1, False) for size in sizes]
    cases += [(sizes[-1], frames, True) for frames in lengths]
    rows: list[Row] = []
    for (width, height), frames, static in cases:
        with tempfile.TemporaryDirectory() as folder:
            clip = make_clip(Path(folder, "clip.mp4"), width, height, frames, static=static)
            peak = footprint("l8", clip)
        rows.append(
            {
                "model": "l8",
                "size": f"{width}x{height}",
                "frames": frames,
                "content": "nearly static" if static else "changing",
                "peak_mb": peak,
            }
        )
    for row in rows[len(sizes) :]:
        row["times_shortest"] = round(row["peak_mb"] / rows[len(sizes)]["peak_mb"], 3)
    return rows


def print_table(result: Mapping[str, Any]) -> None:
    """Print `bench`'s result as Markdown."""
    print(json.dumps(result["machine"]))
    for name in PARTS:
        if name == "restoring" and "peak_gflops" in result:
            print("Peak in GFLOP/s:", json.dumps(result["peak_gflops"]))
        if rows := result.get(name):
            print(f"\n{plain(rows)}", end="")


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Frames a second over the frame's size, a line for each contender, a panel for each model."""
    rows = [row for row in result["restoring"] if "alone" not in row["by"]]
    drawn, panels = figure(1, len(MODELS), 4.4 * len(MODELS), 4.2)
    for axes, model in zip(panels, MODELS, strict=True):
        chosen = [row for row in rows if row["model"] in (model, "")]
        for by, precision in dict.fromkeys((row["by"], row["precision"]) for row in chosen):
            points = [r for r in chosen if (r["by"], r["precision"]) == (by, precision)]
            axes.plot(
                [r["size"] for r in points],
                [r["fps"] for r in points],
                marker="o",
                label=f"{by} {precision}".strip(),
            )
        axes.set(yscale="log", ylabel="frames/s", title=model)
        axes.grid(alpha=0.3, which="both")
    handles, labels = panels[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=7)
    drawn.savefig(path, dpi=100)
