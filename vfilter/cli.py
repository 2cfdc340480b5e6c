"""The command line: parse, call, print, exit codes.

vdeblock INPUT OUTPUT | vdeblock models | vdeblock probe FILE
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vfilter import __version__
from vfilter.errors import VdeblockError

if TYPE_CHECKING:
    from vfilter.bitstream import Hints
    from vfilter.pipeline import Plan, Progress, Summary

RESTORE = "restore"
EPILOG = (
    "Also: [bold]vdeblock models[/] lists the models, [bold]vdeblock probe FILE[/] tells what a "
    "file is. Exit codes: 0 done, 1 fault of vdeblock, 2 usage, 3 input, 4 model, 5 output, "
    "6 device, 130 interrupted."
)


class ProgressKind(StrEnum):
    """How progress is shown on stderr."""

    bar = "bar"
    json = "json"
    none = "none"


class CommandOrFiles(TyperGroup):
    """The group whose first argument may also be the INPUT of the main command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the main command's name before arguments that start with no command's."""
        if not args or args[0] not in self.commands:
            args = [RESTORE, *(args or ["--help"])]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Leave the main command's name out of its usage line."""
        name, command, rest = super().resolve_command(ctx, args)
        if name == RESTORE:
            ctx.info_name, name = "", ctx.info_name
        return name, command, rest


app = typer.Typer(
    cls=CommandOrFiles,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 else writes its settings to stderr
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vdeblock {__version__}")
        raise typer.Exit


def _seconds(text: str) -> float:
    """Seconds of a time in FFmpeg's syntax: [[HH:]MM:]SS[.m], or a number with s, ms or us."""
    units = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
    try:
        for unit, size in units.items():
            if text.endswith(unit):
                value = float(text.removesuffix(unit)) * size
                break
        else:
            value = 0.0
            for part in text.split(":"):
                value = value * 60 + float(part)
        if not 0 <= value < float("inf") or text.count(":") > 2:
            raise ValueError(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time; write 12.5, 1:30 or 0:01:30.5") from None
    return value


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts if "=" in text.strip("="))
    if len(pairs) != len(texts):
        raise typer.BadParameter(f"write KEY=VALUE, got {' '.join(texts)}")
    return pairs


@app.command(RESTORE, epilog=EPILOG, hidden=True)
def restore_command(
    input: Annotated[str, typer.Argument(metavar="INPUT", help="Video file, - for y4m on stdin.")],
    output: Annotated[
        str | None,
        typer.Argument(metavar="OUTPUT", help="File to write, - for y4m on stdout."),
    ] = None,
    model: Annotated[
        str,
        typer.Option("--model", "-m", help="Model name (see vdeblock models), folder or file."),
    ] = "l8",
    strength: Annotated[
        float, typer.Option(min=0, max=2, help="Factor of the change; 0 changes nothing.")
    ] = 1.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    project: Annotated[
        bool,
        typer.Option(
            "--project/--no-project", help="Keep MJPEG within what its tables leave possible."
        ),
    ] = True,
    hints: Annotated[
        bool,
        typer.Option("--hints/--no-hints", help="Heed what the stream tells of its compression."),
    ] = True,
    codec: Annotated[
        str | None,
        typer.Option("--codec", "-c", help="h264, hevc, vp9, av1, ffv1 or an encoder of FFmpeg."),
    ] = None,
    crf: Annotated[
        float | None,
        typer.Option(
            "--crf", "-crf", help="Constant rate factor; the default is near-transparent."
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-preset", help="Preset of the encoder.")
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Option of the encoder; repeatable."),
    ] = None,
    pix_fmt: Annotated[
        str | None,
        typer.Option(
            "--pix-fmt", "-pix_fmt", help="Pixel format of the output, if not the input's."
        ),
    ] = None,
    lossless: Annotated[bool, typer.Option("--lossless", help="Encode without loss.")] = False,
    start: Annotated[
        float | None,
        typer.Option("--start", "-ss", metavar="TIME", parser=_seconds, help="Begin here."),
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option("--duration", "-t", metavar="TIME", parser=_seconds, help="Length to take."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", "-frames", min=1, help="Most frames to take.")
    ] = None,
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Go on without streams the output can't hold.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace an existing output.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be done; write nothing.")
    ] = False,
    preview: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Write one frame before and after, and nothing else."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    progress: Annotated[
        ProgressKind, typer.Option(help="On stderr; json is one object a line.")
    ] = ProgressKind.bar,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Restore the luma of a video that compression has spoiled; keep everything else."""
    if output is None and preview is None:
        raise typer.BadParameter("OUTPUT is missing (or --preview PNG)")
    encoding: dict[str, Any] = {
        "codec": codec,
        "crf": crf,
        "preset": preset,
        "encoder_options": _pairs(encoder_option or []),
        "pix_fmt": pix_fmt,
        "lossless": lossless,
    }
    restoring: dict[str, Any] = {
        "model": model,
        "strength": strength,
        "device": device,
        "precision": precision,
        "project": project,
    }
    with _errors(debug=debug):
        if preview is not None:
            _preview(input, preview, start, hints, overwrite, restoring)
            return
        assert output is not None
        span: dict[str, Any] = {"start": start, "duration": duration, "frames": frames}
        span["hints"] = hints
        if dry_run:
            _dry_run(input, output, span, restoring, encoding, overwrite=overwrite)
            return
        from vfilter.pipeline import restore_video

        with _progress(ProgressKind.none if quiet else progress) as show:
            summary = restore_video(
                input,
                output,
                **restoring,
                **encoding,
                **span,
                allow_loss=allow_loss,
                overwrite=overwrite,
                progress=show,
                on_plan=None if quiet or progress == ProgressKind.json else _print_plan,
            )
        if not quiet and progress == ProgressKind.bar:
            _print_summary(output, summary)


@app.command("models")
def models_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """List the models: trained range, cost per pixel, gain."""
    with _errors(debug=debug):
        from vfilter.weights import ALIASES, catalogue

        models: list[dict[str, Any]] = [
            {
                "name": model.name,
                "aliases": [alias for alias, name in ALIASES.items() if name == model.name],
                "network": model.network.name,
                "codec": model.codec,
                "quality": list(model.quality),
                "parameters": model.network.parameters,
                "flop_per_pixel": model.network.flop_per_pixel,
                "gain": model.gain,
            }
            for model in catalogue()
        ]
    if as_json:
        print(json.dumps(models, indent=2))
        return
    print(f"{'model':12} {'trained on':16} {'FLOP/pixel':>10}  gain in PSNR (LIVE1, luma)")
    for model in models:
        gains = model["gain"].get("LIVE1", {})
        text = "  ".join(f"Q{q} {gains[q]:+.2f}" for q in (10, 20, 40, 60) if q in gains)
        trained = f"{model['codec']} Q{model['quality'][0]}-Q{model['quality'][1]}"
        print(f"{model['name']:12} {trained:16} {model['flop_per_pixel']:10,}  {text} dB")
    for model in models:
        for alias in model["aliases"]:
            print(f"{alias} stands for {model['name']}.")


@app.command("probe")
def probe_command(
    file: Annotated[str, typer.Argument(metavar="FILE")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Tell what a file is: container, streams, how the video was compressed."""
    with _errors(debug=debug):
        from vfilter.probe import probe

        facts = probe(file)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    length = "unknown length" if facts["duration"] is None else f"{facts['duration']:.3f} s"
    print(f"{facts['file']}: {facts['container']}, {length}, {facts['chapters']} chapters")
    for stream in facts["streams"]:
        skipped = ("index", "type", "codec", "metadata", "restored", "disposition")
        details = [
            f"{key.replace('_', ' ')} {_plain(value)}"
            for key, value in stream.items()
            if key not in skipped and value is not None
        ]
        mark = "  <- restored" if stream.get("restored") else ""
        print(f"  {stream['index']} {stream['type']} {stream['codec']}: {', '.join(details)}{mark}")


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "-".join(dict.fromkeys(str(v) for v in value))
    return str(value)


@contextmanager
def _errors(*, debug: bool) -> Iterator[None]:
    """Turn errors into one line on stderr and their exit code."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        _fail("the reader of the output has gone", 5)
    except VdeblockError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except ValueError as error:
        if debug:
            raise
        _fail(str(error), 2)
    except Exception as error:
        if debug:
            raise
        _fail(f"a fault of vdeblock ({type(error).__name__}: {error}); --debug tells where", 1)


def _fail(message: str, code: int) -> NoReturn:
    print("vdeblock: " + " ".join(message.split()), file=sys.stderr)
    raise typer.Exit(code)


def _preview(
    input: str,
    picture: Path,
    start: float | None,
    hints: bool,
    overwrite: bool,
    restoring: dict[str, Any],
) -> None:
    from vfilter.preview import write_preview
    from vfilter.restorer import Restorer

    with Restorer(**restoring) as restore:
        write_preview(input, picture, restore, start=start, hints=hints, overwrite=overwrite)


def _dry_run(
    input: str,
    output: str,
    span: dict[str, Any],
    restoring: dict[str, Any],
    encoding: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    import numpy as np

    from vfilter.pipeline import check_target, plan_video, trial
    from vfilter.restorer import Restorer
    from vfilter.source import Source, hints_of

    check_target(input, output, overwrite=overwrite)
    with Restorer(**restoring) as restore, Source(input, **span) as source:
        plan = plan_video(source, output, **encoding)
        _print_plan(plan, to=sys.stdout)
        engine = restore.engine.description
        seconds = trial(restore, source.first)
        frames = source.frame_count
        hints = hints_of(source.first)
        factor = float(np.mean(restore.strength * restore.model.strength(hints)))
    model = restore.model
    low, high = model.quality
    reason = "as named" if restoring["model"] == model.name else f"for {restoring['model']}"
    print(f"model: {model.name} ({reason}), trained on {model.codec} of quality {low} to {high}")
    print(f"strength: {factor:.2f} ({_known(hints)})")
    print(f"engine: {engine}")
    print(f"speed: about {1 / seconds:.1f} frames/s restoring alone", end="")
    print(f", {frames} frames, {_clock(frames * seconds)}" if frames else "")
    if plan.lost:
        print("would stop: streams would be lost; --allow-loss goes on without them")


def _known(hints: Hints) -> str:
    """What the stream tells of its compression, for people."""
    if hints.luma_table is not None:
        return f"JPEG quality {hints.jpeg_quality}"
    if hints.qp is not None:
        return f"{hints.codec} with a mean quantizer of {hints.qp.mean():.1f} in the first frame"
    if hints.codec is not None:
        return f"a careful one: {hints.codec} tells no quality"
    return "the source tells no compression"


def _print_plan(plan: Plan, to: Any = None) -> None:
    """Tell what happens to each stream: all with `to`, else only what is not a plain copy."""
    encoding = plan.encoding
    stream = sys.stderr if to is None else to
    if to is not None:
        options = " ".join(f"{k}={v}" for k, v in encoding.options.items())
        print(
            f"stream {plan.video}: restored, encoded by {encoding.codec} as {encoding.pix_fmt}"
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


def _print_summary(output: str, summary: Summary) -> None:
    fps = summary.frames / summary.seconds if summary.seconds else 0
    line = f"{output}: {summary.frames} frames in {_clock(summary.seconds)} ({fps:.1f} frames/s)"
    for count, what in (
        (summary.damaged, "damaged"),
        (summary.repaired, "timestamps repaired"),
        (summary.resized, "scaled to the first frame's size"),
    ):
        if count:
            line += f", {count} {what}"
    print(line, file=sys.stderr)


@contextmanager
def _progress(kind: ProgressKind) -> Iterator[Callable[[Progress], None] | None]:
    """The function that shows progress on stderr, None to show none."""
    if kind == ProgressKind.json:
        yield _print_json
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
    eta = "" if progress.eta is None else f"  ETA {_clock(progress.eta)}"
    return (
        f"frame {progress.frames}{total}  {progress.fps:.1f} frames/s  {progress.speed:.2f}x{eta}"
    )


def _print_json(progress: Progress) -> None:
    eta = progress.eta
    print(
        json.dumps(
            {
                "frame": progress.frames,
                "total": progress.total,
                "fps": round(progress.fps, 2),
                "speed": round(progress.speed, 3),
                "elapsed": round(progress.seconds, 2),
                "eta": None if eta is None else round(eta, 1),
            }
        ),
        file=sys.stderr,
        flush=True,
    )


def _clock(seconds: float) -> str:
    """Seconds as 0:00:00, or with a decimal below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
