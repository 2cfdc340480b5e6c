"""Where the time of a film goes, for `bench`."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from av import VideoFrame

from vfilter.memory import steady
from vfilter.pipeline import restore_video
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of
from vfilter.temporal import Temporal


def stages(model: str, clip: Path, frames: int) -> list[dict[str, Any]]:
    """What each stage of restoring `clip` costs by itself, in milliseconds a frame of a core's
    time: a profile that counts the threads of libraries too.

    The first stage is the whole at strength 0, so it encodes frames as they were decoded.
    """
    steady()
    with tempfile.TemporaryDirectory() as folder, Restorer(model) as restore:
        with Source(clip, frames=frames) as source:
            given = [item for item in source if isinstance(item, VideoFrame)]
        planes = [restore.luma_of(frame, hints=hints_of(frame)) for frame in given]

        def copying() -> None:
            output = Path(folder, "out.mp4")
            restore_video(clip, output, model=model, strength=0, frames=frames, overwrite=True)

        def restoring() -> None:
            for frame in given:
                restore.luma_of(frame, hints=hints_of(frame))

        def again() -> None:
            """Frames whose tiles are known, so that no network is run."""
            for _ in given:
                restore.luma_of(given[-1], hints=hints_of(given[-1]))

        def neighbours() -> None:
            temporal = Temporal(restore, lambda frame: None)
            for frame, plane in zip(given, planes, strict=True):
                temporal.add(frame, plane, hints_of(frame))
            temporal.end()

        costs = {
            "decoding, encoding, muxing": processor_time(copying),
            "network": processor_time(restoring),
            "strength of its change": processor_time(again),
            "neighbours": processor_time(neighbours),
        }
    costs["network"] -= costs["strength of its change"]
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
