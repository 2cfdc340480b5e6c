"""compare: one film, restored by us and by the other filters, measured alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from vfilter.bitstream import QP_CODECS
from vfilter.comparison.bench import Bench, chains, run_ours, run_rival, run_untouched
from vfilter.comparison.degrade import parse_degradation
from vfilter.comparison.ffmpeg import FFmpeg
from vfilter.comparison.films import Film, read_films
from vfilter.comparison.machine import machine, versions
from vfilter.comparison.report import write_report
from vfilter.comparison.results import Comparison, Run
from vfilter.comparison.rivals import FFMPEG, RIVALS, parse_rivals
from vfilter.comparison.shots import Shots
from vfilter.comparison.split import with_sound, write_split
from vfilter.comparison.sweep import Trial
from vfilter.errors import ArgumentError, InputError
from vfilter.opening import is_pipe
from vfilter.pipeline import check_target
from vfilter.probe import compression
from vfilter.sink import muxer_of
from vfilter.source import STANDARD_STREAM

Say = Callable[[str], None]

VMAF_MORE_THAN = 16
"""Pixels across and down of which libvmaf needs more; with as many it crashes (measured)."""


def compare(
    input: str | Path,
    *,
    reference: str | Path | None = None,
    degrade: str | None = None,
    against: Sequence[str] = tuple(RIVALS),
    models: Sequence[str | Path] = ("l8", "l4"),
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
    """Restore `input` with our models and with other filters, and measure them all.

    reference: the pristine film, against which quality is measured.
    degrade: "CODEC:SETTING", such as "mjpeg:20" (`vfilter.comparison.degrade`): take `input` as
        pristine, compress it so, and restore that. Without either nothing is said of quality.
    against: names of filters (`vfilter.comparison.rivals.RIVALS`).
    models: as `Restorer` takes them.
    ffmpeg: the binary that the filters run in, by default that of imageio-ffmpeg.
    frames: the most frames from the beginning.
    perceptual: whether to measure XPSNR and VMAF too, as far as the binary has them.
    report: an HTML file to write; video: a film, left half before, right half after.
    overwrite: whether these may exist; progress: called with what is being done.
    Raises InputError, ModelError, OutputError and DeviceError, and ArgumentError for arguments
    that make no sense.
    """
    _check_arguments(input, reference, degrade, models)
    rivals = parse_rivals(against)
    check_outputs((input, reference), (report, video), overwrite=overwrite)
    if video is not None:
        muxer_of(video)
    say: Say = progress or (lambda _: None)
    binary = FFmpeg(ffmpeg)
    _require(binary, rivals)
    with TemporaryDirectory(prefix="vdeblock-", ignore_cleanup_errors=True) as folder:
        say("reading")
        films = read_films(input, reference, degrade, frames, Path(folder))
        bench = _bench(binary, Path(folder), films, frames, perceptual=perceptual)
        runs, trials = _all_runs(bench, rivals, models, device, precision, say)
        result = Comparison(
            input=str(input),
            reference=None if reference is None else str(reference),
            degraded=degrade,
            width=bench.source.clip.width,
            height=bench.source.clip.height,
            frames=bench.source.clip.frames,
            rate=bench.source.rate,
            codec=bench.source.codec,
            runs=tuple(runs),
            trials=tuple(trials),
            versions=versions(binary),
            machine=machine(),
            notes=tuple(_notes(bench, rivals, degrade, runs)),
        )
        if video is not None:
            say(f"writing {video}")
            film = bench.source.path
            sounding = film if degrade is None else with_sound(binary, film, input)
            tags = (bench.source if degrade is None else bench.clean or bench.source).tags
            write_split(sounding, video, models[0], device, precision, frames, tags)
        if report is not None:
            say(f"writing {report}")
            shown = bench.source if degrade is None else bench.clean or bench.source
            is_full = shown.full_range
            write_report(report, result, bench.shots, bench.source.path, full_range=is_full)
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
        if path is not None and is_pipe(path):
            raise ArgumentError(
                f"a comparison reads its files several times; name a file, not {path}"
            )


def check_outputs(
    inputs: Sequence[str | Path | None],
    outputs: Sequence[str | Path | None],
    *,
    overwrite: bool,
) -> None:
    """Refuse outputs that are no new files; what is None is not asked for.

    Raises OutputError, and ArgumentError where one is an input, standard output, or another one.
    """
    named = [output for output in outputs if output is not None]
    for output in named:
        if str(output) == STANDARD_STREAM:
            raise ArgumentError("a comparison writes files; name one, not -")
        for input in inputs:
            if input is not None:
                check_target(input, output, overwrite=overwrite)
    places = [Path(output).resolve() for output in named]
    for output, place in zip(named, places, strict=True):
        if places.count(place) > 1:
            raise ArgumentError(f"two outputs have the name {output}; give each its own")


def _require(ffmpeg: FFmpeg, rivals: Sequence[str]) -> None:
    """Raise InputError unless all of `rivals` can be run."""
    ffmpeg.require([name for name in rivals if name in FFMPEG])
    if "sadct" in rivals and find_spec("numba") is None:
        raise InputError(
            "sadct needs the package numba; pip install 'vdeblock[compare]' brings it, or leave "
            "sadct out of --against"
        )


def _bench(
    ffmpeg: FFmpeg,
    folder: Path,
    films: tuple[Film, Film | None],
    limit: int | None,
    *,
    perceptual: bool,
) -> Bench:
    source, clean = films
    wanted = ["xpsnr", "libvmaf"] if perceptual and clean is not None else []
    if min(source.clip.width, source.clip.height) <= VMAF_MORE_THAN:
        wanted = wanted[:1]
    return Bench(
        ffmpeg=ffmpeg,
        folder=folder,
        source=source,
        clean=clean,
        limit=limit,
        perceptual=tuple(name for name in wanted if name in ffmpeg.filters),
        shots=Shots(source.clip, None if clean is None else clean.clip),
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
    runs = [run_untouched(bench)]
    for model in models:
        say(f"restoring with {model}")
        runs.append(run_ours(bench, model, device, precision))
    trials: list[Trial] = []
    for name in rivals:
        say(f"running {name}" if bench.reference is None else f"sweeping the settings of {name}")
        for variant, chain in chains(bench, name, trials):
            say(f"running {chain}")
            runs.append(run_rival(bench, name, variant, chain))
    return runs, trials


def _notes(
    bench: Bench, rivals: Sequence[str], degrade: str | None, runs: Sequence[Run]
) -> Iterator[str]:
    """What a reader must know of the material."""
    source, clean = bench.source, bench.clean
    if told := compression(source.path):
        yield f"What the stream tells of its compression: {told}."
    if clean is None:
        yield (
            "There is no reference, so nothing here tells which is better: blockiness and change "
            "say only what a filter did, and a blur has the least blocks of all."
        )
        if "sadct" in rivals and source.hints.luma_table is None:
            yield (
                f"sadct is left out: it takes its strength from a JPEG's table, and {source.codec} "
                "has none; with a reference its best strength is swept."
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
        psnrs = [run.scores["psnr"] for run in runs if run.scores]
        frames = source.clip.frames
        if 0 < (exact := int(np.isinf(psnrs).any(axis=0).sum())) < frames:
            yield (
                f"{exact} of {frames} frames equal the reference in the film or in a run; as their "
                "PSNR is infinite, the means leave them out."
            )
    if source.codec not in QP_CODECS:
        yield (
            f"FFmpeg's {source.codec} decoder tells filters no quantizer. As typed, without qp=, "
            "spp, fspp and uspp then do nothing or fail, and pp7 may give black frames."
        )
