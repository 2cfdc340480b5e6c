"""Where the time of a film goes, and how soon its first frame is there, for `bench`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from av import VideoFrame

from vfilter.memory import steady
from vfilter.pipeline import restore_video
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of
from vfilter.temporal import Temporal

EMPTY = """import typer
app = typer.Typer()
@app.command()
def main(name: str = "") -> None: pass
app()
"""
"""A Typer program that does nothing."""


def stages(model: str, clip: Path, frames: int) -> list[dict[str, Any]]:
    """What each stage of restoring `clip` costs by itself, in milliseconds a frame of a core's
    time: a profile that counts the threads of libraries too.

    The first stage is the whole at strength 0, so it encodes frames as they were decoded.
    """
    steady()
    with tempfile.TemporaryDirectory() as folder, Restorer(model) as restore:
        with Source(clip, frames=frames) as source:
            given = [item for item in source if isinstance(item, VideoFrame)]
        copying = partial(restore_video, clip, Path(folder, "out.mp4"), model=model)
        planes = [restore.luma_of(frame, hints=hints_of(frame)) for frame in given]

        def network() -> None:
            for frame in given:
                restore.luma_of(frame, hints=hints_of(frame))

        def neighbours() -> None:
            temporal = Temporal(restore, lambda frame: None)
            for frame, plane in zip(given, planes, strict=True):
                temporal.add(frame, plane, hints_of(frame))
            temporal.end()

        costs = {
            "decoding, encoding, muxing": processor_time(
                partial(copying, strength=0, frames=frames, overwrite=True)
            ),
            "network": processor_time(network),
            "neighbours": processor_time(neighbours),
        }
    whole = sum(costs.values())
    return [
        {
            "model": model,
            "stage": stage,
            "core_ms": round(1e3 * seconds / len(given), 1),
            "share": round(seconds / whole, 3),
        }
        for stage, seconds in costs.items()
    ]


def processor_time(work: Callable[[], object]) -> float:
    """Seconds of processor time, of all threads, that `work` takes: the least of two runs."""
    took = []
    for _ in range(2):
        time.sleep(0.2)  # so that no thread of what ran before still waits awake
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def start(model: str, clip: Path, rounds: int) -> dict[str, Any]:
    """Seconds until the help is there, beside an empty Typer program's, and until one frame of
    `clip` is written; medians of interleaved runs."""
    ours = [sys.executable, "-m", "vfilter"]
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder, "out.mp4"))
        commands = {
            "empty": [sys.executable, "-c", EMPTY, "--help"],
            "help": [*ours, "--help"],
            "frame": [*ours, str(clip), output, "-m", model, "--frames", "1", "-y", "-q"],
        }
        told: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, command in commands.items():
                told[name].append(_wall_time(command))
    took = {name: statistics.median(seconds[1:]) for name, seconds in told.items()}
    return {
        "model": model,
        "help_s": round(took["help"], 2),
        "help_times_empty_typer": round(took["help"] / took["empty"], 2),
        "one_frame_s": round(took["frame"], 2),
    }


def _wall_time(command: Sequence[str]) -> float:
    """Seconds that a process takes."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
