"""Ours and the rivals run over one film: what came of each, timed and measured alike."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from vfilter.bitstream import QP_CODECS
from vfilter.comparison.ffmpeg import Cost, FFmpeg
from vfilter.comparison.films import Film, frames_of, luma_bytes
from vfilter.comparison.measure import Clip, measured, perceptual_scores
from vfilter.comparison.results import Run
from vfilter.comparison.rivals import BY_QUANTIZER, FFMPEG, RIVALS, guessed, table_qp
from vfilter.comparison.shots import Shots
from vfilter.comparison.sweep import Trial, sample_of, sweep
from vfilter.errors import InputError
from vfilter.luma import luma_plane
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of

AS_TYPED = "as typed"
"""The variant of a filter of FFmpeg without settings, with what the stream tells."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What the runs of one comparison share.

    clean: the pristine film, if there is one; limit: most frames, or None for all.
    perceptual: FFmpeg's filters that measure too.
    """

    ffmpeg: FFmpeg
    folder: Path
    source: Film
    clean: Film | None
    limit: int | None
    perceptual: tuple[str, ...]
    shots: Shots

    @property
    def reference(self) -> Clip | None:
        """The luma of the pristine film."""
        return None if self.clean is None else self.clean.clip


def _measured(bench: Bench, clip: Clip) -> dict[str, list[float]]:
    """The metrics of `clip`, all that this comparison has."""
    scores = measured(clip, bench.source.clip, bench.reference)
    if bench.reference is not None:
        scores |= perceptual_scores(
            bench.ffmpeg, bench.perceptual, clip, bench.reference, bench.source.rate, bench.folder
        )
    return scores


def run_untouched(bench: Bench) -> Run:
    """The film itself: what FFmpeg makes of it without a filter, decoding alone."""
    target = bench.folder / "null.y"
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
        scores=_measured(bench, bench.source.clip),
        cost=cost,
        notes=tuple(notes),
    )


def run_ours(bench: Bench, model: str | Path, device: str, precision: str) -> Run:
    """A run of ours: decoding and restoring, as FFmpeg's are decoding and filtering."""
    with Restorer(model, device=device, precision=precision) as restore:
        clip, cost = _timed(bench, lambda frames: map(luma_bytes, restore.film(frames)))
        with Source(bench.source.path, frames=1) as source:
            told = hints_of(source.first)
        used, engine = restore.model_for(told).name, restore.engine_for(told).description
    bench.shots.choose(clip)
    run = Run(
        name=str(model),
        family="ours",
        variant=used,
        command=f"vdeblock INPUT OUTPUT --model {model}",
        scores=_kept(bench, str(model), clip),
        cost=cost,
        notes=(f"on {engine}",),
    )
    return run


def _timed(
    bench: Bench, restored: Callable[[Iterable[VideoFrame]], Iterable[bytes]]
) -> tuple[Clip, Cost]:
    """The luma that `restored` makes of frames, and what that took with decoding."""
    target = bench.folder / "here.y"
    path, clip = bench.source.path, bench.source.clip
    with Source(path, frames=1) as source:
        deque(restored([source.first]), maxlen=0)  # loads what it needs
    began, began_cpu = time.perf_counter(), time.process_time()
    with Source(path, frames=bench.limit) as source, target.open("wb") as file:
        file.writelines(restored(frames_of(source)))
    cost = Cost(seconds=time.perf_counter() - began, cpu_seconds=time.process_time() - began_cpu)
    return Clip.of(target, clip.height, clip.width), cost


def _kept(bench: Bench, name: str, clip: Clip) -> dict[str, list[float]]:
    """The scores of what the run `name` made; its pictures are kept, its file is not."""
    bench.shots.keep(name, clip)
    scores = _measured(bench, clip)
    clip.path.unlink()
    return scores


def run_rival(bench: Bench, name: str, variant: str, chain: str) -> Run:
    """A run of a rival; without scores if it failed."""
    return (_run_filter if name in FFMPEG else _run_sadct)(bench, name, variant, chain)


def chains(bench: Bench, name: str, trials: list[Trial]) -> Iterator[tuple[str, str]]:
    """What is run of the rival `name`: what a run shows, and the filter; adds to `trials`."""
    rival = RIVALS[name]
    if rival.typed is not None:
        yield AS_TYPED, rival.typed
    table = bench.source.hints.luma_table
    if rival.table is not None and table is not None:
        qp = table_qp(table)
        variant = f"quantizer of the JPEG table, {qp}" if name in FFMPEG else "by the JPEG table"
        yield variant, rival.table.format(qp=qp)
    if bench.reference is not None:
        damaged, clean = sample_of(bench.source.clip.planes), sample_of(bench.reference.planes)
        filtered = bench.ffmpeg.filtered if name in FFMPEG else _sadct_planes
        best, tried = sweep(name, damaged, clean, filtered)
        trials += tried
        for label, chain in best.items():
            yield f"best of a sweep{', ' + label if label else ''}", chain
    elif table is not None:
        for chain in guessed(name, table_qp(table)):
            yield "settings for this JPEG table", chain


def _run_filter(bench: Bench, name: str, variant: str, chain: str) -> Run:
    """A run of a filter of FFmpeg."""
    target = bench.folder / "rival.y"
    arguments = _arguments(bench, chain, target.name, typed=variant == AS_TYPED)
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
    untold = variant == AS_TYPED and name in BY_QUANTIZER and bench.source.codec not in QP_CODECS
    notes, failed = _accidents(clip, bench.source, untold=untold)
    scores = _kept(bench, chain, clip)
    return Run(**told, scores=scores, cost=cost, notes=notes, failed=failed)


def _run_sadct(bench: Bench, name: str, variant: str, chain: str) -> Run:
    """A run of SA-DCT here: with each frame's JPEG table, or with one step."""
    from vfilter.comparison.sadct import sadct

    first = bench.source.hints.luma_table

    def restored(frame: VideoFrame) -> bytes:
        table = hints_of(frame).luma_table or first
        return sadct(luma_plane(frame), _steps(chain) or table or ()).tobytes()

    clip, cost = _timed(bench, lambda frames: map(restored, frames))
    steps = _steps(chain)
    table = "each frame's own" if steps is None else f"{steps[:1]} * 64"
    return Run(
        name=chain,
        family=name,
        variant=variant,
        command=f"vfilter.comparison.sadct.sadct(luma, table), table {table}",
        scores=_kept(bench, chain, clip),
        cost=cost,
        notes=("not FFmpeg's: written here from its paper",),
    )


def _sadct_planes(planes: NDArray[np.uint8], chain: str) -> NDArray[np.uint8]:
    """Planes (N, H, W) after SA-DCT with the step that `chain` names."""
    from vfilter.comparison.sadct import sadct

    return np.stack([sadct(plane, _steps(chain) or ()) for plane in planes])


def _steps(chain: str) -> list[float] | None:
    """The table of equal steps that SA-DCT's `chain` names; None where it takes the frame's."""
    step = chain.removeprefix("sadct=step=")
    return None if step == chain else [float(step)] * 64


def _accidents(clip: Clip, source: Film, *, untold: bool) -> tuple[tuple[str, ...], bool]:
    """What went wrong in the output of a filter, and whether it is unfit to be judged by.

    untold: whether it lacked a quantizer.
    """
    black = sum(
        int(plane.max() == 0 and before.max() > 0)
        for plane, before in zip(clip.planes, source.clip.planes, strict=True)
    )
    if black:
        return (f"{black} of {clip.frames} frames came out black: no run to judge it by",), True
    if _apart(clip, source.clip) == 0:
        reason = "" if not untold else f": FFmpeg's {source.codec} decoder tells it no quantizer"
        return (f"returned its input unchanged{reason}",), False
    return (), False


def _apart(clip: Clip, other: Clip) -> int:
    """Most codes that a pixel of two clips lies apart."""
    pairs = zip(clip.planes, other.planes, strict=True)
    return max(int(np.abs(a.astype(np.int16) - b).max()) for a, b in pairs)


def _arguments(bench: Bench, chain: str, target: str, *, typed: bool) -> list[str]:
    """The arguments that make FFmpeg write the film's luma after `chain` to `target`, in one pass.

    typed: give the filter what the stream tells and leave the pixels as they are; otherwise
        full-range formats are named like limited ones, which uspp insists on; no code changes.
    """
    film = bench.source
    path = film.path.name if film.path.parent == bench.folder else film.path
    return [
        *(("-export_side_data", "venc_params") if typed else ()),
        *("-noautorotate", "-i", f"file:{path}", "-map", f"0:{film.index}"),
        *("-vf", f"{chain if typed else f'format={film.format},{chain}'},extractplanes=y"),
        *(("-frames:v", str(bench.limit)) if bench.limit is not None else ()),
        *("-fps_mode", "passthrough", "-f", "rawvideo", "-y", target),
    ]


def _output(bench: Bench, path: Path) -> Clip:
    """The luma of what FFmpeg wrote to `path`.

    Raises InputError if it is another number of frames than we decode.
    """
    source = bench.source
    clip = Clip.of(path, source.clip.height, source.clip.width)
    if clip.frames != source.clip.frames:
        raise InputError(
            f"{source.path}: FFmpeg decodes {clip.frames} frames of it and we "
            f"{source.clip.frames}; it may be damaged: cut out a part that is not"
        )
    return clip
