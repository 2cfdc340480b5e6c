"""What the main command prints: the plan, progress and the summary, for people or as JSON."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vfilter.pipeline import Plan, Progress, Summary


class ProgressKind(StrEnum):
    """How progress is shown on stderr."""

    bar = "bar"
    json = "json"
    none = "none"


class Telling(io.TextIOWrapper):
    """Standard error, that nobody may take any more: no reason for a run to stop."""

    def write(self, text: str) -> int:
        """Write `text` if that is possible."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is left if that is possible."""
        with suppress(OSError):
            super().flush()


def make_streams_serve() -> None:
    """Make the standard streams serve as they may come.

    One that is closed fails when it is used: its number must not become that of a file. Names of
    files may hold what a terminal can't show.
    """
    for name, mode, useless in (
        ("stdin", "r", os.O_WRONLY),
        ("stdout", "w", os.O_RDONLY),
        ("stderr", "w", os.O_RDONLY),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, useless), mode))
    with suppress(AttributeError):  # where they are replaced
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        encoding = sys.stderr.encoding
        raw = sys.stderr.detach()  # type: ignore[union-attr]
        sys.stderr = Telling(raw, encoding, "backslashreplace", line_buffering=True)


def print_plan(plan: Plan, to: Any = None) -> None:
    """Tell what happens to each stream: all with `to`, else only what is not a plain copy."""
    encoding = plan.encoding
    stream = sys.stderr if to is None else to
    if to is not None:
        options = " ".join(f"{k}={v}" for k, v in encoding.options.items())
        print(
            f"stream {plan.video}: restored, encoded by {encoding.name} as {encoding.pix_fmt}"
            + (f" ({options})" if options else ""),
            file=stream,
        )
    for note in (*encoding.notes, *plan.notes):
        print(note, file=stream)
    for other in plan.streams:
        if to is None and (other.action in ("copy", "attach") or not other.reason):
            continue
        done = {"copy": "copied", "attach": "kept as attachment", "drop": "left out"}
        action = done.get(other.action, f"converted to {other.encoder}")
        reason = f": {other.reason}" if other.reason else ""
        print(f"stream {other.index}: {other.kind} {other.codec} {action}{reason}", file=stream)


def plan_as_json(plan: Plan) -> None:
    """The plan, before anything is written."""
    encoding = plan.encoding
    keys = ("kind", "codec", "action", "encoder", "reason")
    others = [
        {"index": other.index} | {key: getattr(other, key) or None for key in keys}
        for other in plan.streams
    ]
    _print_json(
        "plan",
        video=plan.video,
        container=plan.muxer,
        encoder=encoding.codec,
        pixel_format=encoding.pix_fmt,
        encoder_options=dict(encoding.options),
        model=plan.model,
        engine=plan.engine,
        streams=others,
        lost=[other.index for other in plan.lost],
        notes=[*encoding.notes, *plan.notes],
    )


def file_as_json(input: str, output: str, number: int, total: int) -> None:
    """Which of many files is next."""
    _print_json("file", input=input, output=output, number=number, total=total)


def print_summary(output: str, summary: Summary) -> None:
    """Tell what the run did."""
    fps = summary.frames / summary.seconds if summary.seconds else 0
    parts = [f"{count_of(summary.frames, 'frame')} in {clock(summary.seconds)}"]
    if not summary.reused:
        parts[0] += f" ({fps:.1f} frames/s)"
    if summary.jpeg_quality is not None:
        parts.append("JPEG quality " + _from_to(*summary.jpeg_quality))
    if summary.quantizer is not None:
        parts.append("mean quantizer " + _from_to(*(round(q, 1) for q in summary.quantizer)))
    parts.append(f"mean strength up to {summary.strength:.2f}")
    damages = (summary.damaged, "damaged packet or frame", "damaged packets or frames")
    for count, *what in (damages, (summary.repaired, "timestamp repaired", "timestamps repaired")):
        if count:
            parts.append(count_of(count, *what))
    if summary.resized:
        parts.append(f"{count_of(summary.resized, 'frame')} scaled to the first one's size")
    if summary.moved:
        parts.append(
            f"{count_of(summary.moved, 'frame')} at another time, as {output} counts frames"
        )
    tell(f"{output}: {', '.join(parts)}")
    if summary.reused:
        tell(f"{count_of(summary.reused, 'segment')} taken from the unfinished run")
    if summary.verified:
        tell(f"read back: {summary.verified}")
    for name, count in summary.retagged.items():
        tell(
            f"{name} changes: {count_of(count, 'frame')} of {summary.frames} not as the first one, "
            "whose tag the output has"
        )


def tell(message: str, to: Any = None) -> None:
    """One line on stderr, or `to`, whatever is in the names of files."""
    print(" ".join(message.split()), file=to or sys.stderr, flush=True)


def count_of(count: int, one: str, many: str | None = None) -> str:
    """A number of things, by their name, or that of `many` of them."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def _from_to(lowest: float, highest: float) -> str:
    return f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"


def summary_as_json(output: str, summary: Summary) -> None:
    """What the run did, when the output has its name."""
    quantizer = summary.quantizer
    _print_json(
        "summary",
        output=output,
        frames=summary.frames,
        seconds=round(summary.seconds, 3),
        lost=[other.index for other in summary.plan.lost],
        damaged=summary.damaged,
        repaired=summary.repaired,
        resized=summary.resized,
        moved=summary.moved,
        retagged=dict(summary.retagged),
        jpeg_quality=summary.jpeg_quality,
        quantizer=None if quantizer is None else [round(q, 2) for q in quantizer],
        strength=round(summary.strength, 3),
        reused=summary.reused,
        verified=summary.verified or None,
    )


@contextmanager
def showing(kind: ProgressKind) -> Iterator[Callable[[Progress], None] | None]:
    """The function that shows progress on stderr, None to show none."""
    if kind == ProgressKind.json:
        yield _progress_as_json
    elif kind == ProgressKind.bar and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)

            def show(progress: Progress) -> None:
                bar.update(
                    task,
                    total=progress.total,
                    completed=progress.frames,
                    description=_progress_text(progress),
                )

            yield show
    else:
        yield None


def _progress_text(progress: Progress) -> str:
    total = "" if progress.total is None else f"/{progress.total}"
    eta = "" if progress.eta is None else f"  ETA {clock(progress.eta)}"
    return (
        f"frame {progress.frames}{total}  {progress.fps:.1f} frames/s  {progress.speed:.2f}x{eta}"
    )


def _progress_as_json(progress: Progress) -> None:
    eta = progress.eta
    _print_json(
        "progress",
        frame=progress.frames,
        total=progress.total,
        fps=round(progress.fps, 2),
        speed=round(progress.speed, 3),
        elapsed=round(progress.seconds, 2),
        eta=None if eta is None else round(eta, 1),
    )


def _print_json(kind: str, **facts: Any) -> None:
    """One object as a line on stderr."""
    print(json.dumps({"type": kind, **facts}), file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as 0:00:00, or with a decimal below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
