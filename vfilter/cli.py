"""The command line: parse, call, print, exit codes.

vdeblock INPUT OUTPUT | vdeblock models | vdeblock probe FILE
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from vfilter import __version__
from vfilter.comparison.command import compare_command
from vfilter.console import (
    ProgressKind,
    clock,
    count_of,
    file_as_json,
    make_streams_serve,
    plan_as_json,
    print_plan,
    print_summary,
    showing,
    summary_as_json,
    tell,
)
from vfilter.errors import ArgumentError, DeviceError, ModelError, OutputError, VdeblockError
from vfilter.memory import steady
from vfilter.signals import Interruption, Stopped, heeding_signals, told

RESTORE = "restore"
EPILOG = (
    "Also: vdeblock models lists the models, vdeblock probe FILE tells what a file is, "
    "vdeblock compare FILE holds the result against other filters; a file named as one of these is "
    "written ./models. Exit codes: 0 done, 1 fault of vdeblock, 2 usage, 3 input, 4 model, "
    "5 output, 6 device, 128 + n stopped by signal n, so 130 by Ctrl-C."
)

USAGE_ERROR: Any = typer.BadParameter.mro()[2]
"""ClickException, which Typer has under different names in different versions."""

MOST_PIXELS = 2**31 - 1
"""FFmpeg's own limit of the pixels of a frame."""


class Precision(StrEnum):
    """What the network computes in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"


class CommandOrFiles(TyperGroup):
    """The group whose first argument may also be the INPUT of the main command."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run a command; an error of usage is one line too."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except typer.Abort:  # what Click makes of Ctrl-C before a command has begun
            raise KeyboardInterrupt from None
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
    rich_markup_mode=None,  # importing and drawing with Rich took half of the time of --help
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line."""
    make_streams_serve()
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
        if not value >= 0 or text.count(":") > 2:
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
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT OUTPUT",
            help="Video file or folder of them, and the file or folder to write. "
            "- is stdin, or y4m on stdout.",
        ),
    ],
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write here what each of several inputs becomes."),
    ] = None,
    ending: Annotated[
        str | None,
        typer.Option(metavar="EXT", help="Container of the files of a folder, if not their own."),
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
        Precision,
        typer.Option(help="What the network computes in: int8 is fastest, and loses a little."),
    ] = Precision.auto,
    project: Annotated[
        bool,
        typer.Option(
            "--project/--no-project", help="Keep MJPEG within what its tables leave possible."
        ),
    ] = True,
    temporal: Annotated[
        bool,
        typer.Option(
            "--temporal/--no-temporal", help="Help each frame with those around it; slower."
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
    segment: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Length of what is encoded by itself, to resume at."),
    ] = 10.0,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Go on with an unfinished run without asking, or keep nothing to go on with.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first damage of the input.")
    ] = False,
    max_pixels: Annotated[
        int,
        typer.Option(min=1, max=MOST_PIXELS, help="Most pixels of a frame that is decoded."),
    ] = 8192 * 8192,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read the output back before it gets its name.")
    ] = False,
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
    if preview is not None and dry_run:
        raise typer.BadParameter("--preview writes a picture and --dry-run nothing; choose one")
    if lossless and crf is not None:
        raise typer.BadParameter("--crf and --lossless exclude each other; leave one out")
    arguments: dict[str, Any] = {
        "model": model,
        "strength": strength,
        "device": device,
        "precision": precision.value,
        "project": project,
        "temporal": temporal,
        "codec": codec,
        "crf": crf,
        "preset": preset,
        "encoder_options": _pairs(encoder_option or []),
        "pix_fmt": pix_fmt,
        "lossless": lossless,
        "start": start,
        "duration": duration,
        "frames": frames,
        "hints": hints,
    }
    means: dict[str, Any] = {
        "segment": segment,
        "strict": strict,
        "max_pixels": max_pixels,
        "verify": verify,
        "allow_loss": allow_loss,
        "overwrite": overwrite,
    }
    kind = ProgressKind.none if quiet else progress
    steady()
    with _errors(debug=debug):
        if preview is not None:
            _preview(_only(paths), preview, arguments, max_pixels, overwrite=overwrite)
            return
        folder = _folder(paths, output_dir)
        if folder is None:
            if ending is not None:
                raise typer.BadParameter("--ending is for several files; here OUTPUT has its own")
            pairs = [(paths[0], paths[1])]
        else:
            from vfilter.folders import pairs_of

            inputs = paths if output_dir is not None else paths[:1]
            found = pairs_of([Path(path) for path in inputs], folder, ending)
            pairs = [(str(path), str(target)) for path, target in found]
        if dry_run and folder is None:
            _dry_run(*pairs[0], arguments, means, resume)
            return
        if dry_run:
            failed: list[tuple[str, int]] = []
            for number, pair in enumerate(pairs, 1):
                tell(f"[{number}/{len(pairs)}] {pair[0]} -> {pair[1]}", to=sys.stdout)
                with _passing_over(failed, debug=debug):
                    _dry_run(*pair, arguments, means, resume, many=True)
            _end_with(failed)
            return
        with heeding_signals(piped=pairs[0][1] == "-") as interruption:
            options: Any = {"quiet": quiet}
            if folder is None:
                _restore(*pairs[0], arguments, means, resume, kind, interruption, **options)
            else:
                options["debug"] = debug
                _restore_all(pairs, arguments, means, resume, kind, interruption, **options)


def _only(paths: list[str]) -> str:
    """The one input of a preview."""
    if len(paths) != 1:
        raise typer.BadParameter("--preview takes one INPUT and no OUTPUT")
    return paths[0]


def _folder(paths: list[str], output_dir: Path | None) -> Path | None:
    """The folder that the outputs go to, None if it is one file into one file."""
    if "" in paths:
        raise typer.BadParameter("a name is empty")
    if output_dir is not None:
        return output_dir
    if len(paths) == 1:
        raise typer.BadParameter("OUTPUT is missing (or --preview PNG)")
    if len(paths) > 2:
        raise typer.BadParameter("several inputs need --output-dir DIR")
    if not _is_folder(paths[0]):
        return None
    if paths[1] == "-":
        raise typer.BadParameter("a folder's videos don't fit into one stream; name a folder")
    return Path(paths[1])


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        return False  # opening it tells why


def _restore(
    input: str,
    output: str,
    arguments: Mapping[str, Any],
    means: Mapping[str, Any],
    resume: bool | None,
    kind: ProgressKind,
    interruption: Interruption,
    *,
    quiet: bool,
    many: bool = False,
) -> bool:
    """Restore one file, and tell about it. Returns whether it was finished already.

    many: whether it is one of many, of which the finished ones are left as they are.
    """
    from vfilter.opening import is_pipe
    from vfilter.pipeline import Progress, restore_video
    from vfilter.segments import discard, folder_of, is_unfinished

    if _is_done(input, output, arguments, means, resume, many=many):
        discard(Path(output))
        if not quiet:
            unread = "; --verify reads back what a run writes, not this" if means["verify"] else ""
            _say(f"{output}: finished already{unread}")
        return True
    if resume is None and output != "-":
        _ask(Path(output))
    as_json = kind == ProgressKind.json
    waits = not is_pipe(input)  # there the next frame may never come
    begun = False
    with showing(kind) as show:

        def step(progress: Progress) -> None:
            nonlocal begun
            begun = True
            interruption.waits = waits
            if show is not None:
                show(progress)
            interruption.check()

        try:
            summary = restore_video(
                input,
                output,
                **arguments,
                **means,
                resume=resume is not False,
                progress=step,
                on_plan=None if quiet else plan_as_json if as_json else print_plan,
            )
        except BaseException:
            if begun and not quiet and output != "-" and is_unfinished(Path(output)):
                _say(f"{folder_of(Path(output))} keeps what is done; the same command goes on")
            raise
        finally:
            interruption.waits = False
    if as_json:
        summary_as_json(output, summary)
    elif not quiet:
        print_summary(output, summary)
    return False


def _is_done(
    input: str,
    output: str,
    arguments: Mapping[str, Any],
    means: Mapping[str, Any],
    resume: bool | None,
    *,
    many: bool,
) -> bool:
    """Whether `output` is finished already, and stays as it is."""
    from vfilter.job import is_finished

    keeps = (resume is not False or not means["overwrite"]) if many else resume
    return bool(keeps) and output != "-" and is_finished(Path(output), Path(input), arguments)


def _ask(output: Path) -> None:
    """On a terminal, ask whether to go on with an unfinished run; discard it if not."""
    from vfilter.segments import discard, is_unfinished

    if not (sys.stdin.isatty() and sys.stderr.isatty() and is_unfinished(output)):
        return
    try:
        goes_on = typer.confirm(f"{output}: go on with the unfinished run?", default=True, err=True)
    except typer.Abort:
        raise KeyboardInterrupt from None
    if not goes_on:
        discard(output)


def _restore_all(
    pairs: list[tuple[str, str]],
    arguments: Mapping[str, Any],
    means: Mapping[str, Any],
    resume: bool | None,
    kind: ProgressKind,
    interruption: Interruption,
    *,
    quiet: bool,
    debug: bool,
) -> None:
    """Restore many files, the finished ones left out, and tell in the end what failed."""
    from vfilter.folders import folder_of

    failed: list[tuple[str, int]] = []
    skipped = 0
    for number, (input, output) in enumerate(pairs, 1):
        interruption.check()
        if kind == ProgressKind.json:
            file_as_json(input, output, number, len(pairs))
        elif not quiet:
            tell(f"[{number}/{len(pairs)}] {input}")
        with _passing_over(failed, debug=debug), folder_of(Path(output)):
            skipped += _restore(
                input,
                output,
                arguments,
                means,
                resume is not False,
                kind,
                interruption,
                quiet=quiet,
                many=True,
            )
    done = len(pairs) - skipped - len(failed)
    if not quiet:
        _say(f"{count_of(done, 'file')} restored, {skipped} finished already, {len(failed)} failed")
    for message, _ in failed:
        _say(f"failed: {message}")
    _end_with(failed)


def _end_with(failed: list[tuple[str, int]]) -> None:
    """End with the exit code of the first of what failed, if anything did."""
    if failed:
        raise typer.Exit(failed[0][1])


@contextmanager
def _passing_over(failed: list[tuple[str, int]], *, debug: bool) -> Iterator[None]:
    """Tell what fails because of one file, and add its message and exit code to `failed`.

    What would fail because of each file, ends the run.
    """
    try:
        yield
    except (BrokenPipeError, ArgumentError, ModelError, DeviceError):
        raise
    except Exception as error:
        if debug and not isinstance(error, VdeblockError):
            raise
        failed.append(_told_of(error))
        _say(failed[-1][0])


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
                "part": model.part,
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
    width = max(len(model["name"]) for model in models)
    print(f"{'model':{width}} {'trained on':17} {'FLOP/pixel':>10}  gain in PSNR of luma, dB")
    for model in models:
        letter = SETTINGS.get(model["codec"], "")
        gains = [
            f"{name} "
            + "  ".join(f"{letter}{q} {found[q]:+.2f}" for q in SHOWN[name] if q in found)
            for name, found in model["gain"].items()
            if name in SHOWN
        ]
        low, high = model["quality"]
        trained = f"{model['codec']} {letter}{low}" + (f" to {high}" if low < high else "")
        cost = f"{model['flop_per_pixel']:,}"
        print(f"{model['name']:{width}} {trained:17} {cost:>10}  {'; '.join(gains)}".rstrip())
    for alias in sorted({alias for model in models for alias in model["aliases"]}):
        names = [model["name"] for model in models if alias in model["aliases"]]
        print(f"{alias} chooses by the source's codec among {', '.join(names)}")
        for model in models:
            if model["part"] and model["name"].startswith(f"{alias}-"):
                print(f"  and takes {model['name']} for {_part(model)}")


def _part(model: Mapping[str, Any]) -> str:
    """For which frames a model serves better than the one for all of its codec, for people."""
    low, high = model["part"]
    if model["codec"] == "jpeg":
        return f"JPEG of quality {low} to {high}"
    if model["codec"] == "mpeg":
        return f"a mean quantiser scale of {low / 2:g} or more"
    return f"a mean QP of {low} or more"


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
        _flush()
    except (typer.Exit, USAGE_ERROR):
        raise
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        _fail(told(number), 128 + number)
    except BrokenPipeError:
        _fail("the reader of the output has gone", 5)
    except Exception as error:
        if debug:
            raise
        _fail(*_told_of(error))


def _flush() -> None:
    """Write what was printed. Raises OutputError if that fails, BrokenPipeError as it comes."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output can't be written ({error.strerror})") from error


def _told_of(error: Exception) -> tuple[str, int]:
    """What is told of an error, and its exit code."""
    if isinstance(error, VdeblockError):
        return str(error), error.exit_code
    return f"a fault of vdeblock ({type(error).__name__}: {error}); --debug tells where", 1


def _fail(message: str, code: int) -> NoReturn:
    """Tell what is wrong and end; what nobody takes of the output goes nowhere."""
    try:
        sys.stdout.flush()
    except OSError:  # else Python fails when it does that at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _say(message)
    raise typer.Exit(code)


def _say(message: str) -> None:
    """One line on stderr, as from vdeblock."""
    tell(f"vdeblock: {message}")


RESTORING = ("model", "strength", "device", "precision", "project")
SPAN = ("start", "duration", "frames", "hints")
"""The arguments that a Restorer takes, and a Source."""


def _preview(
    input: str, picture: Path, arguments: Mapping[str, Any], max_pixels: int, *, overwrite: bool
) -> None:
    from vfilter.preview import write_preview
    from vfilter.restorer import Restorer

    reading = {key: arguments[key] for key in ("start", "hints", "temporal")}
    with Restorer(**{key: arguments[key] for key in RESTORING}) as restore:
        write_preview(
            input, picture, restore, **reading, max_pixels=max_pixels, overwrite=overwrite
        )


TRIED = 4
"""Frames that `--dry-run` restores to tell the speed."""


def _dry_run(
    input: str,
    output: str,
    arguments: Mapping[str, Any],
    means: Mapping[str, Any],
    resume: bool | None,
    *,
    many: bool = False,
) -> None:
    from av.video.frame import VideoFrame

    from vfilter.opening import is_pipe
    from vfilter.pipeline import check_target, plan_video, trial, with_means
    from vfilter.probe import compression
    from vfilter.restorer import Restorer
    from vfilter.source import Source, hints_of

    if _is_done(input, output, arguments, means, resume, many=many):
        tell(f"{output}: finished already", to=sys.stdout)
        return
    if not many or os.path.lexists(output):  # the folders of many are made
        check_target(input, output, overwrite=means["overwrite"])
    restoring = {key: arguments[key] for key in RESTORING}
    span = {key: arguments[key] for key in SPAN}
    temporal = arguments["temporal"]
    encoding = {k: v for k, v in arguments.items() if k not in (*RESTORING, *SPAN, "temporal")}
    # each run of the trial sees the same frames
    with (
        Restorer(**restoring, reuse=False) as restore,
        Source(input, **span, max_pixels=means["max_pixels"]) as source,
    ):
        plan = with_means(plan_video(source, output, **encoding), restore, source, output)
        print_plan(plan, to=sys.stdout)
        hints = hints_of(source.first)
        factor, model = restore.mean_strength(hints), restore.model_for(hints)
        low, high = model.quality
        qualities = f"{low} to {high}" if low < high else f"{low}"
        reason = "as named" if restoring["model"] == model.name else f"for {restoring['model']}"
        print(f"model: {model.name} ({reason}), trained on {model.codec} of quality {qualities}")
        if compressed := compression(input) if span["hints"] and not is_pipe(input) else "":
            print(f"source: {compressed}")
        print(f"strength: up to {factor:.2f} in the first frame ({_known(hints)})")
        if temporal and factor > 0 and model.agreement(hints) is not None:
            print("temporal: each frame is helped by those around it")
        if source.first.interlaced_frame:
            print("interlaced: each field is restored by itself")
        print(f"engine: {plan.engine}", flush=True)
        shown = (item for item in source if isinstance(item, VideoFrame))
        seconds = trial(restore, list(islice(shown, TRIED)), temporal=temporal)
        print(f"speed: about {1 / seconds:.1f} frames/s restoring alone", end="")
        frames = source.frame_count
        print(f", {frames} frames, {clock(frames * seconds)}" if frames else "")
    if plan.avoidable and not means["allow_loss"]:
        print("would stop: streams would be lost; --allow-loss goes on without them")


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
