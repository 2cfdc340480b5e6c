"""What a comparison found, as data: JSON, CSV, and a table for the terminal."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vfilter.comparison.ffmpeg import Cost
from vfilter.comparison.sweep import Trial
from vfilter.errors import OutputError
from vfilter.sink import part_of

TITLES = {
    "psnr": "PSNR dB",
    "psnr_b": "PSNR-B dB",
    "ssim_uniform": "SSIM 8x8",
    "ssim_gaussian": "SSIM Gaussian",
    "xpsnr": "XPSNR dB",
    "vmaf": "VMAF",
    "flicker": "flicker",
    "blockiness": "blockiness",
    "change": "change",
}
"""By metric, the head of its column."""

DIGITS = {"ssim_uniform": 4, "ssim_gaussian": 4}
"""Decimals shown, where not 2."""

LESS_IS_BETTER = ("flicker",)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One filter over the whole film.

    family: "source", "ours" or the name of the rival; variant: what this run of it shows.
    scores: by metric a value for each frame; empty if it failed.
    cost: None if it failed; notes: what a reader must know of it.
    failed: whether nothing came of it by which to judge the filter.
    """

    name: str
    family: str
    variant: str
    command: str
    scores: Mapping[str, Sequence[float]]
    cost: Cost | None
    notes: tuple[str, ...] = ()
    failed: bool = False

    def mean(self, metric: str) -> float:
        """The mean of a metric over the frames that it is told for; not a number if for none."""
        told = [value for value in self.scores.get(metric, ()) if not math.isnan(value)]
        return float(np.mean(told)) if told else math.nan

    def fps(self, frames: int) -> float:
        """Frames per second of a film of `frames`; not a number if it failed or took no time."""
        if self.cost is None or not self.cost.seconds:
            return math.nan
        return frames / self.cost.seconds


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One film, restored in several ways.

    degraded: how `input` was compressed for it ("mjpeg:20"), None if it is compared as it is.
    rate: frames per second; codec: of what was restored.
    runs: the film itself first, then ours, then the rivals'; trials: the settings swept.
    """

    input: str
    reference: str | None
    degraded: str | None
    width: int
    height: int
    frames: int
    rate: Fraction
    codec: str
    runs: tuple[Run, ...]
    trials: tuple[Trial, ...]
    versions: Mapping[str, str]
    machine: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def has_reference(self) -> bool:
        """Whether quality was measured."""
        return "psnr" in self.runs[0].scores

    @property
    def metrics(self) -> list[str]:
        """The metrics that were measured, in the order of `TITLES`."""
        return [name for name in TITLES if name in self.runs[0].scores]

    @property
    def families(self) -> list[str]:
        """The names of the rivals."""
        return [
            f for f in dict.fromkeys(r.family for r in self.runs) if f not in ("source", "ours")
        ]

    def mean(self, run: Run, metric: str) -> float:
        """The mean of a metric over the frames where it is finite in all runs; all, if none is.

        One frame that equals the original, as black ones do, would make a mean of PSNR infinite.
        """
        values = [other.scores[metric] for other in self.runs if metric in other.scores]
        common = np.isfinite(values).all(axis=0)
        if metric not in run.scores or not common.any():
            return run.mean(metric)
        return float(np.asarray(run.scores[metric])[common].mean())

    def best(self, family: str) -> Run | None:
        """The run of a rival with the highest PSNR; without a reference its last.

        None if all failed.
        """
        runs = [run for run in self.runs if run.family == family and not run.failed]
        if not runs:
            return None
        return max(runs, key=lambda run: self.mean(run, "psnr")) if self.has_reference else runs[-1]

    @property
    def headline(self) -> list[Run]:
        """The film itself, each model of ours, and each rival at its best."""
        first = [run for run in self.runs if run.family in ("source", "ours")]
        best = [self.best(family) for family in self.families]
        return first + [run for run in best if run is not None]

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON; None where a number is none or infinite."""
        facts = asdict(self) | {"rate": str(self.rate)}
        for run, told in zip(self.runs, facts["runs"], strict=True):
            told["scores"] = {k: [_finite(v) for v in values] for k, values in run.scores.items()}
            told["overall"] = {name: _finite(self.mean(run, name)) for name in run.scores}
            told["fps"] = _finite(run.fps(self.frames))
        for trial in facts["trials"]:
            trial["psnr"] = _finite(trial["psnr"])
        return facts

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_csv(self) -> str:
        """A row for each run: means over the frames, and what it cost."""
        heads = ["run", "family", "variant", *self.metrics, "fps", "seconds", "cpu_seconds"]
        rows = []
        for run in self.runs:
            times = (None, None) if run.cost is None else (run.cost.seconds, run.cost.cpu_seconds)
            means = [_finite(self.mean(run, name)) for name in self.metrics]
            fps = _finite(run.fps(self.frames))
            told = [run.name, run.family, run.variant, *means, fps, *times]
            rows.append([*told, "; ".join(run.notes)])
        return _csv([*heads, "notes"], rows)

    def frames_csv(self) -> str:
        """A row for each frame of each run that did not fail."""
        rows = [
            [run.name, number, *(_finite(run.scores[name][number]) for name in self.metrics)]
            for run in self.runs
            if run.scores
            for number in range(self.frames)
        ]
        return _csv(["run", "frame", *self.metrics], rows)

    def to_text(self) -> str:
        """A table for the terminal, with the command lines and notes under it."""
        heads = ["", *(TITLES[name] for name in self.metrics), "frames/s", "CPU s"]
        rows = [heads, *(self.row(run) for run in self.runs)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        commands = [f"{label(run)}: {run.command}" for run in self.runs]
        notes = [f"{label(run)}: {note}" for run in self.runs for note in run.notes]
        return "\n".join([*lines, "", *commands, "", *self.notes, *notes])

    def row(self, run: Run) -> list[str]:
        """The cells of a run in a table: name, metrics, frames per second, CPU seconds."""
        cpu = math.nan if run.cost is None else run.cost.cpu_seconds
        means = [shown(self.mean(run, name), DIGITS.get(name, 2)) for name in self.metrics]
        return [label(run), *means, shown(run.fps(self.frames), 1), shown(cpu, 3)]


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, which has its name only when it is complete.

    What of a file's name is no text is written as its number. Raises OutputError.
    """
    part = part_of(Path(path))
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: can't be written ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)


def label(run: Run) -> str:
    """What a run is called in tables and pictures."""
    return run.name if run.family in ("source", "ours") else f"{run.family}, {run.variant}"


def shown(value: float, digits: int) -> str:
    """A number for people: a dash if it is none."""
    if math.isnan(value):
        return "-"
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _csv(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return file.getvalue()
