"""One film, restored by us and by the other filters, measured alike."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame

from vfilter.bitstream import QP_CODECS, Hints
from vfilter.comparison.degrade import degrade as write_degraded
from vfilter.comparison.degrade import parse_degradation
from vfilter.comparison.ffmpeg import Cost, FFmpeg
from vfilter.comparison.measure import Clip, measured, perceptual_scores
from vfilter.comparison.results import Comparison, Run
from vfilter.comparison.rivals import (
    RIVALS,
    Trial,
    guessed,
    parse_rivals,
    sample_of,
    sweep,
    table_qp,
)
from vfilter.comparison.shots import Shots
from vfilter.errors import ArgumentError, InputError
from vfilter.luma import luma_depth, luma_plane
from vfilter.restorer import Restorer
from vfilter.source import STANDARD_STREAM, Source, hints_of

PLANAR = ("yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuv410p", "yuv440p")
"""Pixel formats, less the j of full range, that all of the filters take."""

LEAST = 16
"""Least pixels across and down: a macroblock, and more than the windows of SSIM."""

RATES_APART = Fraction(1, 1000)
"""Share by which two frame rates may differ and be told as one: 29.97 and 30000/1001."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Film:
    """A film whose luma is in `clip`. index: of its stream; format: of its pixels, less the j.

    hints: of its first frame; full_range: whether it is tagged so.
    """

    path: Path
    clip: Clip
    index: int
    rate: Fraction
    format: str
    codec: str
    hints: Hints
    full_range: bool


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the runs of one comparison share. limit: most frames, or None for all."""

    ffmpeg: FFmpeg
    folder: Path
    source: Film
    reference: Clip | None
    limit: int | None
    perceptual: tuple[str, ...]
    shots: Shots


def compare(
    input: str | Path,
    *,
    reference: str | Path | None = None,
    degrade: str | None = None,
    against: Sequence[str] = tuple(RIVALS),
    models: Sequence[str | Path] = ("l8",),
    device: str = "auto",
    precision: str = "auto",
    ffmpeg: str | Path | None = None,
    frames: int | None = None,
    perceptual: bool = True,
    report: str | Path | None = None,
    video: str | Path | None = None,
    overwrite: bool = False,
    progress: Say | None = None,
) -> Comparison:
    """Restore `input` with our models and with filters of FFmpeg, and measure them all.

    reference: the pristine film, against which quality is measured.
    degrade: "CODEC:SETTING", such as "mjpeg:20" (`vfilter.comparison.degrade`): take `input` as
        pristine, compress it so, and restore that. Without either nothing is said of quality.
    against: names of filters; models: as `Restorer` takes them.
    ffmpeg: the binary that the filters run in, by default that of imageio-ffmpeg.
    frames: the most frames from the beginning.
    perceptual: whether to measure XPSNR and VMAF too, as far as the binary has them.
    report: an HTML file to write; video: a film, left half before, right half after.
    overwrite: whether these may exist; progress: called with what is being done.
    Raises InputError, ModelError, OutputError and DeviceError, and ArgumentError for arguments
    that make no sense.
    """
    from vfilter.comparison.report import write_report
    from vfilter.comparison.split import write_split
    from vfilter.pipeline import check_target

    _check_arguments(input, reference, degrade, models)
    rivals = parse_rivals(against)
    for output in (report, video):
        if output is not None:
            check_target(input, output, overwrite=overwrite)
    say: Say = progress or (lambda _: None)
    binary = FFmpeg(ffmpeg)
    binary.require(rivals)
    with TemporaryDirectory(prefix="vdeblock-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        say("reading")
        source, clean = _material(input, reference, degrade, frames, folder)
        has = ("xpsnr", "libvmaf") if perceptual and clean is not None else ()
        bench = Bench(
            ffmpeg=binary,
            folder=folder,
            source=source,
            reference=None if clean is None else clean.clip,
            limit=frames,
            perceptual=tuple(name for name in has if name in binary.filters),
            shots=Shots(source.clip, None if clean is None else clean.clip),
        )
        runs, trials = _all_runs(bench, rivals, models, device, precision, say)
        result = Comparison(
            input=str(input),
            reference=None if reference is None else str(reference),
            degraded=degrade,
            width=source.clip.width,
            height=source.clip.height,
            frames=source.clip.frames,
            rate=source.rate,
            codec=source.codec,
            runs=tuple(runs),
            trials=tuple(trials),
            versions=_versions(binary),
            machine=_machine(),
            notes=tuple(_notes(source, clean, degrade)),
        )
        if video is not None:
            say(f"writing {video}")
            _add_sound(binary, source, input, degrade)
            write_split(source.path, video, models[0], device, precision, frames)
        if report is not None:
            say(f"writing {report}")
            is_full = (source if degrade is None or clean is None else clean).full_range
            write_report(report, result, bench.shots, source.path, full_range=is_full)
    return result


def _check_arguments(
    input: str | Path,
    reference: str | Path | None,
    degrade: str | None,
    models: Sequence[str | Path],
) -> None:
    if reference is not None and degrade is not None:
        raise ArgumentError(
            f"reference {reference} and degrade {degrade} exclude each other: with degrade the "
            "input is the reference; leave one out"
        )
    if degrade is not None:
        parse_degradation(degrade)
    if not models:
        raise ArgumentError("models is empty: name at least one")
    for path in (input, reference):
        if str(path) == STANDARD_STREAM:
            raise ArgumentError("a comparison reads its files several times; name a file, not -")


def _material(
    input: str | Path,
    reference: str | Path | None,
    degrade: str | None,
    limit: int | None,
    folder: Path,
) -> tuple[Film, Film | None]:
    """The film to restore, and the pristine one if there is one.

    Raises InputError if they don't fit together.
    """
    if degrade is not None:
        codec, setting = parse_degradation(degrade)
        path = folder / ("degraded.avi" if codec == "mjpeg" else "degraded.mkv")
        clean = _degraded(input, path, codec, setting, limit)
        return _read(path, folder / "source.y", None), clean
    source = _read(input, folder / "source.y", limit)
    if reference is None:
        return source, None
    clean = _read(reference, folder / "reference.y", limit, hints=False)
    _check_alike(source, clean)
    return source, clean


def _degraded(input: str | Path, path: Path, codec: str, setting: int, limit: int | None) -> Film:
    """`input` as pristine film; what it becomes as `codec` at `setting` is written to `path`."""
    target = path.with_name("reference.y")
    with Source(input, frames=limit, hints=False) as source, target.open("wb") as file:

        def pristine() -> Iterator[VideoFrame]:
            for frame in _frames(source):
                file.write(_luma_bytes(frame))
                yield frame

        write_degraded(pristine(), codec, setting, path, rate=source.rate)
        size = source.first.height, source.first.width
        return _film(source, input, Clip.of(target, *size))


def _read(path: str | Path, target: Path, limit: int | None, *, hints: bool = True) -> Film:
    """The film at `path`, whose luma is written to `target`."""
    with Source(path, frames=limit, hints=hints) as source:
        _check_format(source)
        with target.open("wb") as file:
            for frame in _frames(source):
                file.write(_luma_bytes(frame))
        return _film(source, path, Clip.of(target, source.first.height, source.first.width))


def _film(source: Source, path: str | Path, clip: Clip) -> Film:
    first = source.first
    return Film(
        path=Path(path).absolute(),
        clip=clip,
        index=source.video.index,
        rate=source.rate,
        format=first.format.name.replace("yuvj", "yuv"),
        codec=source.video.codec_context.codec.canonical_name,
        hints=hints_of(first),
        full_range=first.format.name.startswith("yuvj") or int(first.color_range) == 2,
    )


def _frames(source: Source) -> Iterator[VideoFrame]:
    _check_format(source)
    return (item for item in source if isinstance(item, VideoFrame))


def _check_format(source: Source) -> None:
    """Raise InputError unless all of the filters take what `source` has."""
    first = source.first
    if luma_depth(first) != 8 or first.format.name.replace("yuvj", "yuv") not in PLANAR:
        raise InputError(
            f"{source.name}: pixels are {first.format.name}, but not all of the filters take "
            f"others than {', '.join(PLANAR)}; convert it to one of these first"
        )
    if min(first.width, first.height) < LEAST:
        raise InputError(
            f"{source.name}: {first.width}x{first.height} is too small to measure; "
            f"sides must be {LEAST} pixels or more"
        )


def _luma_bytes(frame: VideoFrame) -> bytes:
    """The luma of an 8-bit frame, line after line."""
    return luma_plane(frame).tobytes()


def _check_alike(source: Film, clean: Film) -> None:
    """Raise InputError unless the reference `clean` is of the size, rate and length of `source`."""
    pairs = {
        "size": [f"{film.clip.width}x{film.clip.height}" for film in (clean, source)],
        "length": [f"{film.clip.frames} frames" for film in (clean, source)],
    }
    if abs(clean.rate - source.rate) > RATES_APART * source.rate:
        pairs["frame rate"] = [f"{float(film.rate):.3f} frames/s" for film in (clean, source)]
    for what, (one, other) in pairs.items():
        if one != other:
            raise InputError(
                f"{clean.path}: the reference has another {what} than the input: {one} and "
                f"{other}; both must be the same film"
            )


def _all_runs(
    bench: Bench,
    rivals: Sequence[str],
    models: Sequence[str | Path],
    device: str,
    precision: str,
    say: Say,
) -> tuple[list[Run], list[Trial]]:
    """The runs, ours first after the film itself, and what was tried in sweeps."""
    runs = [_untouched(bench)]
    for model in models:
        say(f"restoring with {model}")
        runs.append(_ours(bench, model, device, precision))
    trials: list[Trial] = []
    for name in rivals:
        say(f"running {name}" if bench.reference is None else f"sweeping the settings of {name}")
        for variant, chain in _chains(bench, name, trials):
            say(f"running {chain}")
            runs.append(_rival(bench, name, variant, chain))
    return runs, trials


def _measured(bench: Bench, path: Path, clip: Clip) -> dict[str, list[float]]:
    """The metrics of `clip`, all that this comparison has."""
    scores = measured(clip, bench.source.clip, bench.reference)
    if bench.reference is not None:
        scores |= perceptual_scores(
            bench.ffmpeg, bench.perceptual, clip, bench.reference, bench.source.rate, bench.folder
        )
    return scores


def _untouched(bench: Bench) -> Run:
    """The film itself: what FFmpeg makes of it without a filter, decoding alone."""
    target = bench.folder / "null.yuv"
    arguments = _arguments(bench, "null", target.name, typed=False)
    cost = bench.ffmpeg.run(arguments, bench.folder)
    clip = _output(bench, target)
    apart = _apart(clip, bench.source.clip)
    target.unlink()
    notes = [] if not apart else [f"FFmpeg decodes it up to {apart} codes otherwise than PyAV"]
    return Run(
        name="source",
        family="source",
        variant="decoded alone",
        command=bench.ffmpeg.command(arguments),
        scores=_measured(bench, target, bench.source.clip),
        cost=cost,
        notes=tuple(notes),
    )


def _ours(bench: Bench, model: str | Path, device: str, precision: str) -> Run:
    """A run of ours: decoding and restoring, as FFmpeg's are decoding and filtering."""
    target = bench.folder / "ours.y"
    path = bench.source.path
    with Restorer(model, device=device, precision=precision) as restore:
        with Source(path, frames=1) as source:
            restore(source.first, hints=hints_of(source.first))  # loads what the engine needs
            used = restore.model_for(hints_of(source.first)).name
        began, began_cpu = time.perf_counter(), time.process_time()
        with Source(path, frames=bench.limit) as source, target.open("wb") as file:
            for frame in _frames(source):
                file.write(_luma_bytes(restore(frame, hints=hints_of(frame))))
        cost = Cost(
            seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - began_cpu
        )
        engine = restore.engine.description
    clip = Clip.of(target, bench.source.clip.height, bench.source.clip.width)
    name = str(model)
    bench.shots.choose(clip)
    bench.shots.keep(name, clip)
    run = Run(
        name=name,
        family="ours",
        variant=used,
        command=f"vdeblock INPUT OUTPUT --model {model}",
        scores=_measured(bench, target, clip),
        cost=cost,
        notes=(f"on {engine}",),
    )
    target.unlink()
    return run


def _chains(bench: Bench, name: str, trials: list[Trial]) -> Iterator[tuple[str, str]]:
    """What is run of the rival `name`: what a run shows, and the filter; adds to `trials`."""
    rival = RIVALS[name]
    yield "as typed", rival.typed
    table = bench.source.hints.luma_table
    if rival.table is not None and table is not None:
        qp = table_qp(table)
        yield f"quantizer of the JPEG table, {qp}", rival.table.format(qp=qp)
    if bench.reference is not None:
        damaged, clean = sample_of(bench.source.clip.planes), sample_of(bench.reference.planes)
        best, tried = sweep(bench.ffmpeg, name, damaged, clean)
        trials += tried
        for label, chain in best.items():
            yield f"best of a sweep{', ' + label if label else ''}", chain
    elif table is not None:
        for chain in guessed(name, table_qp(table)):
            yield "settings for this JPEG table", chain


def _rival(bench: Bench, name: str, variant: str, chain: str) -> Run:
    """A run of a filter of FFmpeg; without scores if it failed."""
    target = bench.folder / "rival.yuv"
    arguments = _arguments(bench, chain, target.name, typed=variant == "as typed")
    told: dict[str, Any] = {
        "name": chain,
        "family": name,
        "variant": variant,
        "command": bench.ffmpeg.command(arguments),
    }
    try:
        cost = bench.ffmpeg.run(arguments, bench.folder)
    except InputError as error:
        reason = str(error).partition(" (command:")[0]
        if name == "uspp" and bench.source.full_range:
            reason += "; uspp takes no full-range (yuvj) pixels, which format= before it mends"
        return Run(**told, scores={}, cost=None, notes=(reason,), failed=True)
    clip = _output(bench, target)
    notes, failed = _accidents(clip, bench.source)
    bench.shots.keep(chain, clip)
    scores = _measured(bench, target, clip)
    target.unlink()
    return Run(**told, scores=scores, cost=cost, notes=notes, failed=failed)


def _accidents(clip: Clip, source: Film) -> tuple[tuple[str, ...], bool]:
    """What went wrong in the output of a filter, and whether it is unfit to be judged by."""
    black = sum(
        int(plane.max() == 0 and before.max() > 0)
        for plane, before in zip(clip.planes, source.clip.planes, strict=True)
    )
    if black:
        return (f"{black} of {clip.frames} frames came out black: no run to judge it by",), True
    if _apart(clip, source.clip) == 0:
        tells = source.codec in QP_CODECS
        reason = "" if tells else f": FFmpeg's {source.codec} decoder tells it no quantizer"
        return (f"returned its input unchanged{reason}",), False
    return (), False


def _apart(clip: Clip, other: Clip) -> int:
    """Most codes that a pixel of two clips lies apart."""
    pairs = zip(clip.planes, other.planes, strict=True)
    return max(int(np.abs(a.astype(np.int16) - b).max()) for a, b in pairs)


def _arguments(bench: Bench, chain: str, target: str, *, typed: bool) -> list[str]:
    """The arguments that make FFmpeg write the film after `chain` to `target`, in one pass.

    typed: give the filter what the stream tells and leave the pixels as they are; otherwise
        full-range formats are named like limited ones, which uspp insists on; no code changes.
    """
    film = bench.source
    path = film.path.name if film.path.parent == bench.folder else film.path
    return [
        *(("-export_side_data", "venc_params") if typed else ()),
        *("-noautorotate", "-i", f"file:{path}", "-map", f"0:{film.index}"),
        *("-vf", chain if typed else f"format={film.format},{chain}"),
        *(("-frames:v", str(bench.limit)) if bench.limit is not None else ()),
        *("-fps_mode", "passthrough", "-f", "rawvideo", "-y", target),
    ]


def _output(bench: Bench, path: Path) -> Clip:
    """The luma of what FFmpeg wrote to `path`.

    Raises InputError if it is another number of frames than we decode.
    """
    source = bench.source
    height, width = source.clip.height, source.clip.width
    blank = VideoFrame(width, height, source.format)
    stride = sum(plane.width * plane.height for plane in blank.planes)
    clip = Clip.of(path, height, width, stride)
    if clip.frames != source.clip.frames:
        raise InputError(
            f"{source.path}: FFmpeg decodes {clip.frames} frames of it and we "
            f"{source.clip.frames}; it may be damaged: cut out a part that is not"
        )
    return clip


def _add_sound(ffmpeg: FFmpeg, source: Film, input: str | Path, degrade: str | None) -> None:
    """Give a film that we degraded the sound of the pristine one, so that its video has it."""
    if degrade is None:
        return
    both = source.path.with_name(f"sounding{source.path.suffix}")
    inputs = ("-i", f"file:{source.path}", "-i", f"file:{Path(input).absolute()}")
    streams = ("-map", "0:v", "-map", "1:a?", "-c", "copy", "-shortest")
    ffmpeg.run([*inputs, *streams, "-y", both.name], source.path.parent)
    both.replace(source.path)


def _notes(source: Film, clean: Film | None, degrade: str | None) -> Iterator[str]:
    """What a reader must know of the material."""
    if clean is None:
        yield (
            "There is no reference, so nothing here tells which is better: blockiness and change "
            "say only what a filter did, and a blur has the least blocks of all."
        )
    elif degrade is None and source.full_range != clean.full_range:
        yield (
            "Input and reference are tagged with different ranges (full and limited); their "
            "codes are compared as they are, so a converted range would spoil every number."
        )
    if clean is not None:
        yield (
            "The sweep chooses each filter's setting by its PSNR against the reference, which "
            "nobody has outside a test: it shows the filter at its best."
        )
    if source.codec not in QP_CODECS:
        yield (
            f"FFmpeg's {source.codec} decoder tells filters no quantizer. As typed, without qp=, "
            "spp, fspp and uspp then do nothing or fail, and pp7 may give black frames."
        )


def _versions(ffmpeg: FFmpeg) -> dict[str, str]:
    import torch

    from vfilter import __version__

    return {
        "vdeblock": __version__,
        "FFmpeg of the filters": ffmpeg.version,
        "PyTorch": torch.__version__,
        "PyAV": av.__version__,
        "Python": platform.python_version(),
    }


def _machine() -> dict[str, str]:
    import os

    import torch

    facts = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        facts["GPU"] = torch.cuda.get_device_name()
    return facts


def _processor() -> str:
    """The processor's name, as far as the system tells one."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
