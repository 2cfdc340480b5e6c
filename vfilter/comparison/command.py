"""The command that compares: parse, call, print.

vdeblock compare INPUT [--reference REF | --degrade CODEC:SETTING] [--report report.html]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def compare_command(
    input: Annotated[str, typer.Argument(metavar="INPUT", help="Video file.")],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", "-r", help="The pristine film, to measure quality against."),
    ] = None,
    degrade: Annotated[
        str | None,
        typer.Option(
            metavar="CODEC:SETTING",
            help="Take INPUT as pristine and compress it first: mjpeg:20, mpeg2:8, h264:32.",
        ),
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Filters of FFmpeg, and sadct, which is run here; with commas, empty for none.",
        ),
    ] = "spp,fspp,uspp,pp7,deblock,sadct",
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="NAMES", help="Models, with commas.")
    ] = "l8,l4",
    device: Annotated[
        str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:N.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
    ffmpeg: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="FFmpeg binary; by default that of imageio-ffmpeg."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", "-frames", min=1, help="Most frames to take.")
    ] = None,
    perceptual: Annotated[
        bool, typer.Option("--perceptual/--no-perceptual", help="Measure XPSNR and VMAF too.")
    ] = True,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Write a report to open in a browser.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all numbers as JSON.")
    ] = None,
    as_csv: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a film: before | after.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", "-y", help="Replace existing outputs.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors alone.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Compare our models with other filters on one film: quality, speed, pictures."""
    from vfilter.cli import _errors
    from vfilter.signals import heeding_signals

    options: dict[str, Any] = {
        "reference": reference,
        "degrade": degrade,
        "against": _names(against),
        "models": _names(model),
        "device": device,
        "precision": precision,
        "ffmpeg": ffmpeg,
        "frames": frames,
        "perceptual": perceptual,
        "report": report,
        "video": video,
        "overwrite": overwrite,
    }
    with _errors(debug=debug), heeding_signals(piped=False):
        from vfilter.comparison.results import write_text
        from vfilter.comparison.runs import check_outputs, compare

        outputs = (report, as_json, as_csv, video)
        check_outputs((input, reference), outputs, overwrite=overwrite)
        result = compare(input, **options, progress=None if quiet else _tell)
        if as_json is not None:
            write_text(as_json, result.to_json())
        if as_csv is not None:
            write_text(as_csv, result.to_csv())
        if not quiet:
            print(result.to_text())


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _tell(what: str) -> None:
    print(f"{what} ...", file=sys.stderr, flush=True)
