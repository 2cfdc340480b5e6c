"""The command line: parse, call, print, exit codes.

vdeblock INPUT OUTPUT | vdeblock models | vdeblock probe FILE
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vfilter import __version__
from vfilter.comparison.command import compare_command
from vfilter.errors import VdeblockError

if TYPE_CHECKING:
    from vfilter.pipeline import Plan, Progress, Summary

RESTORE = "restore"
EPILOG = (
    "Also: [bold]vdeblock models[/] lists the models, [bold]vdeblock probe FILE[/] tells what a "
    "file is, [bold]vdeblock compare FILE[/] holds the result against other filters; a file named "
    "as one of these is written ./models. Exit codes: 0 done, "
    "1 fault of vdeblock, 2 usage, 3 input, 4 model, 5 output, 6 device, 128 + n stopped by "
    "signal n, so 130 by Ctrl-C."
)

USAGE_ERROR: Any = typer.BadParameter.mro()[2]
"""ClickException, which Typer has under different names in different versions."""

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that stop a run in order; not all systems have all of them."""


class Stopped(KeyboardInterrupt):
    """A signal that stops the run; number: which."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Precision(StrEnum):
    """What the network computes in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class ProgressKind(StrEnum):
    """How progress is shown on stderr."""

    bar = "bar"
    json = "json"
    none = "none"


class CommandOrFiles(TyperGroup):
    """The group whose first argument may also be the INPUT of the main command."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command; an error of usage is one line too."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except USAGE_ERROR as error:
            _say(f"{error.format_message()} (see vdeblock --help)")
            code = error.exit_code
        if standalone_mode:
            sys.exit(code)
        return code

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
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what a terminal can't show
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
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


def _device(text: str) -> str:
    """The name of a device."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise typer.BadParameter(f"device must be auto, cpu, cuda or cuda:N, got {text!r}")
    return text


def _pixel_format(text: str) -> str:
    """A pixel format by FFmpeg's name."""
    from av.video.format import VideoFormat

    try:
        return str(VideoFormat(text).name)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no pixel format of FFmpeg; write yuv420p, yuv422p10le or another"
        ) from None


def _pairs(texts: list[str]) -> dict[str, str]:
    """Options of the encoder, of which the last of a name counts; a value may be empty."""
    for text in texts:
        if not text.partition("=")[0] or "=" not in text:
            raise typer.BadParameter(
                f"write KEY=VALUE, got {text}", param_hint="'--encoder-option'"
            )
    return dict(text.partition("=")[::2] for text in texts)


@app.command(RESTORE, epilog=EPILOG, hidden=True)
def restore_command(
    input: Annotated[str, typer.Argument(metavar="INPUT", help="Video file, - for stdin.")],
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
    device: Annotated[
        str, typer.Option(metavar="NAME", parser=_device, help="auto, cpu, cuda or cuda:N.")
    ] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="What the network computes in.")
    ] = Precision.auto,
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
            *("--pix-fmt", "-pix_fmt"),
            metavar="NAME",
            parser=_pixel_format,
            help="Pixel format of the output, if not the input's.",
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
    if preview is not None and dry_run:
        raise typer.BadParameter("--preview writes a picture and --dry-run nothing; choose one")
    if lossless and crf is not None:
        raise typer.BadParameter("--crf and --lossless exclude each other; leave one out")
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
        "precision": precision.value,
        "project": project,
    }
    with _errors(debug=debug), _signals(piped=output == "-"):
        if preview is not None:
            _preview(input, preview, start, hints, overwrite, restoring)
            return
        assert output is not None
        span: dict[str, Any] = {"start": start, "duration": duration, "frames": frames}
        span["hints"] = hints
        allowed: dict[str, Any] = {"overwrite": overwrite, "allow_loss": allow_loss}
        if dry_run:
            _dry_run(input, output, span, restoring, encoding, **allowed)
            return
        from vfilter.pipeline import restore_video

        kind = ProgressKind.none if quiet else progress
        as_json = kind == ProgressKind.json
        with _progress(kind) as show:
            summary = restore_video(
                input,
                output,
                **restoring,
                **encoding,
                **span,
                **allowed,
                progress=show,
                on_plan=None if quiet else _plan_as_json if as_json else _print_plan,
            )
        if as_json:
            _summary_as_json(output, summary)
        elif not quiet:
            _print_summary(output, summary)


@app.command("models")
def models_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """List the models: trained range, cost per pixel, gain."""
    with _errors(debug=debug):
        from vfilter.weights import ALIASES, TRAINED, catalogue

        models: list[dict[str, Any]] = [
            {
                "name": model.name,
                "aliases": [a for a in ALIASES if model.name in {f"{a}-{c}" for c in TRAINED}],
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
        else:
            _print_models(models)


SETTINGS = {"jpeg": "Q", "h264": "crf ", "mpeg": "q "}
"""How a setting is written by the codec that a model is trained on."""

SHOWN = {"LIVE1": (10, 20, 40, 60), "h264": (34, 28, 23, 18), "mpeg4": (12, 6, 3)}
"""The gains that are listed, by data set, or by codec of clips."""


def _print_models(models: list[dict[str, Any]]) -> None:
    print(f"{'model':10} {'trained on':17} {'FLOP/pixel':>10}  gain in PSNR of luma, dB")
    for model in models:
        letter = SETTINGS.get(model["codec"], "")
        gains = [
            f"{name} "
            + "  ".join(f"{letter}{q} {found[q]:+.2f}" for q in SHOWN[name] if q in found)
            for name, found in model["gain"].items()
            if name in SHOWN
        ]
        low, high = model["quality"]
        trained = f"{model['codec']} {letter}{low} to {high}"
        cost = f"{model['flop_per_pixel']:,}"
        print(f"{model['name']:10} {trained:17} {cost:>10}  {'; '.join(gains)}".rstrip())
    for alias in sorted({alias for model in models for alias in model["aliases"]}):
        names = [model["name"] for model in models if alias in model["aliases"]]
        print(f"{alias} chooses by the source's codec among {', '.join(names)}.")


app.command("compare")(compare_command)


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
        else:
            _print_facts(facts)


def _print_facts(facts: dict[str, Any]) -> None:
    from vfilter.probe import compression_text

    length = "unknown length" if facts["duration"] is None else f"{facts['duration']:.3f} s"
    print(f"{facts['file']}: {facts['container']}, {length}, {facts['chapters']} chapters")
    for stream in facts["streams"]:
        skipped = ("index", "type", "codec", "metadata", "restored", "disposition", "quantizer")
        details = [
            f"{key.replace('_', ' ')} {_plain(value)}"
            for key, value in stream.items()
            if key not in skipped and not key.startswith("jpeg_quality") and value is not None
        ]
        if compression := compression_text(stream):
            details.append(compression)
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
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        _fail(_stopped_by(number), 128 + number)
    except BrokenPipeError:
        with suppress(OSError):  # else Python fails when it flushes what nobody takes
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail("the reader of the output has gone", 5)
    except VdeblockError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except Exception as error:
        if debug:
            raise
        _fail(f"a fault of vdeblock ({type(error).__name__}: {error}); --debug tells where", 1)


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    raise typer.Exit(code)


def _say(message: str) -> None:
    """One line on stderr."""
    print("vdeblock: " + " ".join(message.split()), file=sys.stderr, flush=True)


def _stopped_by(number: int) -> str:
    return "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


@contextmanager
def _signals(*, piped: bool) -> Iterator[None]:
    """Make the signals that stop a run raise `Stopped`, once, so that no temporary file is left.

    piped: whether the output is a pipe. Then nothing is to be tidied, and the run may be stuck in
    writing, where nothing can be raised: it ends at once.
    """

    def stop(number: int, _: object) -> None:
        for known in before:
            signal.signal(known, signal.SIG_IGN)
        if piped:
            _say(_stopped_by(number))
            os._exit(128 + number)
        raise Stopped(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
        heeded = (n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN)  # not in nohup
        before |= {number: signal.signal(number, stop) for number in heeded}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    allow_loss: bool,
) -> None:
    from vfilter.pipeline import check_target, mean_strength, plan_video, trial, with_means
    from vfilter.restorer import Restorer
    from vfilter.source import Source, hints_of

    check_target(input, output, overwrite=overwrite)
    with Restorer(**restoring) as restore, Source(input, **span) as source:
        plan = with_means(plan_video(source, output, **encoding), restore, source, output)
        _print_plan(plan, to=sys.stdout)
        seconds = trial(restore, source.first)
        frames = source.frame_count
        hints = hints_of(source.first)
        factor = mean_strength(restore, hints)
        model = restore.model_for(hints)
        first = _known(hints)
        interlaced = source.first.interlaced_frame
    low, high = model.quality
    reason = "as named" if restoring["model"] == model.name else f"for {restoring['model']}"
    print(f"model: {model.name} ({reason}), trained on {model.codec} of quality {low} to {high}")
    if compression := _compression(input) if span["hints"] else "":
        print(f"source: {compression}")
    print(f"strength: {factor:.2f} in the first frame ({first})")
    if interlaced:
        print("interlaced: each field is restored by itself")
    print(f"engine: {plan.engine}")
    print(f"speed: about {1 / seconds:.1f} frames/s restoring alone", end="")
    print(f", {frames} frames, {_clock(frames * seconds)}" if frames else "")
    if plan.lost and not allow_loss:
        print("would stop: streams would be lost; --allow-loss goes on without them")


def _compression(input: str) -> str:
    """How the video of a file was compressed, over its length; nothing of a pipe."""
    from vfilter.probe import compression_text, probe

    if input == "-":
        return ""
    return next(compression_text(s) for s in probe(input)["streams"] if s.get("restored"))


def _known(hints: Any) -> str:
    """What the stream tells of the compression of a frame with `hints`, for people."""
    from vfilter.source import own_quantizers

    if hints.luma_table is not None:
        return f"JPEG quality {hints.jpeg_quality}"
    if hints.qp is not None:
        return f"{hints.codec}, mean quantizer {own_quantizers(hints).mean():.1f}"
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


def _plan_as_json(plan: Plan) -> None:
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


def _print_summary(output: str, summary: Summary) -> None:
    fps = summary.frames / summary.seconds if summary.seconds else 0
    parts = [f"{_count(summary.frames, 'frame')} in {_clock(summary.seconds)} ({fps:.1f} frames/s)"]
    if summary.jpeg_quality is not None:
        parts.append("JPEG quality " + _from_to(*summary.jpeg_quality))
    if summary.quantizer is not None:
        parts.append("mean quantizer " + _from_to(*(round(q, 1) for q in summary.quantizer)))
    parts.append(f"mean strength {summary.strength:.2f}")
    damages = (summary.damaged, "damaged packet or frame", "damaged packets or frames")
    for count, *what in (damages, (summary.repaired, "timestamp repaired", "timestamps repaired")):
        if count:
            parts.append(_count(count, *what))
    if summary.resized:
        parts.append(f"{_count(summary.resized, 'frame')} scaled to the first one's size")
    if summary.moved:
        parts.append(f"{_count(summary.moved, 'frame')} at another time, as {output} counts frames")
    print(f"{output}: {', '.join(parts)}", file=sys.stderr)
    for name, count in summary.retagged.items():
        print(
            f"{name} changes: {_count(count, 'frame')} of {summary.frames} not as the first one, "
            "whose tag the output has",
            file=sys.stderr,
        )


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"


def _from_to(lowest: float, highest: float) -> str:
    return f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"


def _summary_as_json(output: str, summary: Summary) -> None:
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
    )


@contextmanager
def _progress(kind: ProgressKind) -> Iterator[Callable[[Progress], None] | None]:
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
    eta = "" if progress.eta is None else f"  ETA {_clock(progress.eta)}"
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


def _clock(seconds: float) -> str:
    """Seconds as 0:00:00, or with a decimal below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


if __name__ == "__main__":
    main()
