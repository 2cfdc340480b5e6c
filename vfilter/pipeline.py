"""The main path: from packet to packet through the Restorer."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from vfilter.bitstream import Hints
from vfilter.encoders import Y4M, Encoding, choose_encoding
from vfilter.errors import ArgumentError, OutputError
from vfilter.job import identity, job_of, mark, own_weights, weights_digest
from vfilter.overlap import ahead, behind
from vfilter.probe import best_hints
from vfilter.restorer import Restorer
from vfilter.segments import Segments, check_idle, discard
from vfilter.sink import Sink, muxer_of, untold
from vfilter.source import MAX_PIXELS, STANDARD_STREAM, Source, hints_of, own_quantizers, pts_of
from vfilter.streams import StreamPlan, chroma_location, plan_streams
from vfilter.temporal import Temporal
from vfilter.verify import Record
from vfilter.weights import trained_for

SEGMENT = 10.0
"""Seconds of a segment by default: what a run that is cut short has to do again at most. Each
begins with a key frame, which encoders make every 10 s by themselves (x264: 250 frames)."""

WAITING = 4
"""Frames and packets that are read ahead of the restoration, and that wait to be written."""

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is. frames: done; total: expected, None if unknown; seconds: elapsed.

    kept: how many of the frames an unfinished run had left; keeping: seconds that they took.
    """

    frames: int
    total: int | None
    seconds: float
    media_seconds: float
    kept: int = 0
    keeping: float = 0.0

    @property
    def fps(self) -> float:
        """Frames per second so far, of those that are restored."""
        working = self.seconds - self.keeping
        return (self.frames - self.kept) / working if working > 0 else 0.0

    @property
    def speed(self) -> float:
        """Seconds of video per second of work."""
        return self.media_seconds / self.frames * self.fps if self.frames else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds to go, None if the number of frames or the speed is unknown."""
        if self.total is None or not self.fps:
            return None
        return max(0, self.total - self.frames) / self.fps


SHORTEST, LONGEST = 0.1, 1_000_000
"""Seconds of a segment."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does to each stream, known before anything is written.

    video: number of the restored stream; muxer: FFmpeg's name of the output's container.
    notes: what the user should know besides.
    model: name of the model for the first frame; engine: what runs it, for people.
    piped: whether the output is a pipe.
    """

    video: int
    muxer: str
    encoding: Encoding
    streams: list[StreamPlan]
    notes: tuple[str, ...] = ()
    model: str = ""
    engine: str = ""
    piped: bool = False

    @property
    def resumable(self) -> bool:
        """Whether segments can be kept: of frames encoded to bytes that are packets' alone.

        Alpha is beside VP9's bytes; y4m's frames are not encoded.
        """
        alpha = self.encoding.codec == "libvpx-vp9" and self.encoding.pix_fmt.startswith("yuva")
        return not (self.piped or self.muxer == Y4M or alpha)

    @property
    def lost(self) -> list[StreamPlan]:
        """The streams that the output can't hold; a pipe is chosen for the frames alone."""
        if self.piped:
            return []
        return [plan for plan in self.streams if plan.action == "drop" and plan.reason]

    @property
    def avoidable(self) -> list[StreamPlan]:
        """Those of the lost streams that another container might hold."""
        return [plan for plan in self.lost if not plan.unavoidable]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    seconds: that it took.
    damaged, repaired (times), resized: frames or packets it concerned.
    moved: frames off by more than half a frame in a container that counts frames (AVI, y4m).
    retagged: by what a frame is tagged with (interlacing, colours, HDR), the frames where that is
        not as in the first one, while the output is tagged as that throughout.
    jpeg_quality: lowest and highest nearest IJG quality of a frame, None if none told it.
    quantizer: lowest and highest mean quantizer of a frame on its codec's own scale, or None.
    strength: mean factor of the change by what the stream tells (`Model.strength`).
    reused: segments that an unfinished run had left.
    verified: what was found to be right when the output was read back; empty if it wasn't read.
    """

    plan: Plan
    frames: int
    seconds: float
    damaged: int = 0
    repaired: int = 0
    resized: int = 0
    moved: int = 0
    retagged: Mapping[str, int] = field(default_factory=dict)
    jpeg_quality: tuple[int, int] | None = None
    quantizer: tuple[float, float] | None = None
    strength: float = 1.0
    reused: int = 0
    verified: str = ""


class Tally:
    """What the frames of a run told of their compression, and how strongly they were changed."""

    def __init__(self) -> None:
        self._qualities: set[int] = set()
        self._quantizers: set[float] = set()
        self._strengths: list[float] = []

    def add(self, hints: Hints, strength: float) -> None:
        """Count a frame that came with `hints` and was changed by `strength` on average."""
        self._strengths.append(strength)
        if hints.jpeg_quality is not None:
            self._qualities.add(hints.jpeg_quality)
        elif hints.qp is not None:
            self._quantizers.add(float(own_quantizers(hints).mean()))

    @property
    def jpeg_quality(self) -> tuple[int, int] | None:
        """Lowest and highest nearest IJG quality."""
        return _range(self._qualities)

    @property
    def quantizer(self) -> tuple[float, float] | None:
        """Lowest and highest mean quantizer of a frame."""
        return _range(self._quantizers)

    @property
    def strength(self) -> float:
        """Mean strength, 0 before the first frame."""
        return float(np.mean(self._strengths or [0.0]))


def _range(values: set[Number]) -> tuple[Number, Number] | None:
    return (min(values), max(values)) if values else None


def restore_video(
    input: str | Path,
    output: str | Path,
    *,
    model: str | Path = "l8",
    strength: float = 1.0,
    device: str = "auto",
    precision: str = "auto",
    project: bool = True,
    temporal: bool = True,
    hints: bool = True,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    encoder_options: Mapping[str, str] | None = None,
    pix_fmt: str | None = None,
    lossless: bool = False,
    start: float | None = None,
    duration: float | None = None,
    frames: int | None = None,
    segment: float = SEGMENT,
    resume: bool = True,
    strict: bool = False,
    max_pixels: int = MAX_PIXELS,
    verify: bool = False,
    allow_loss: bool = False,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
) -> Summary:
    """Restore the luma of the video in `input` and write it with all else it holds to `output`.

    model: a name of the catalogue, a model folder or a .safetensors file.
    strength: factor of the change, 0 to 2; times that for the source's quality, with hints.
    hints: whether to heed what the stream tells of its compression.
    project: whether to keep within what a JPEG's quantization table leaves possible.
    temporal: whether frames of a known source are helped by those around them.
    start, duration: the range to restore, in seconds; frames: the most frames.
    codec, crf, preset, encoder_options, pix_fmt, lossless: how to encode; by default nearly
        transparent, with an encoder that keeps size, subsampling and depth.
    segment: seconds of the parts that are encoded by themselves and kept in a folder beside the
        output until it is complete; resume: whether to keep such parts, and to go on with those
        of an unfinished run of the same job.
    strict: whether damage of the input is an error; max_pixels: most pixels of a frame.
    verify: whether to read the output back before it gets its name.
    allow_loss: go on without the streams that the output can't hold; a pipe ("-") takes the
        frames alone and needs no leave.
    progress: called after each frame; on_plan: called once, before anything is written.
    Raises InputError, ModelError, OutputError and DeviceError (see `vfilter.errors`), and
    ValueError for an argument out of range.
    """
    if not SHORTEST <= segment <= LONGEST:
        raise ArgumentError(f"segment must be {SHORTEST} to {LONGEST:,} seconds, got {segment}")
    if verify and str(output) == STANDARD_STREAM:
        raise ArgumentError("standard output can't be read back; verify needs a named output")
    check_target(input, output, overwrite=overwrite)
    restoring: dict[str, Any] = {
        "model": model,
        "device": device,
        "precision": precision,
        "strength": strength,
        "project": project,
    }
    encoding: dict[str, Any] = {
        "codec": codec,
        "crf": crf,
        "preset": preset,
        "encoder_options": dict(encoder_options or {}),
        "pix_fmt": pix_fmt,
        "lossless": lossless,
    }
    span: dict[str, Any] = {"start": start, "duration": duration, "frames": frames, "hints": hints}
    with ExitStack() as stack:
        restore = stack.enter_context(Restorer(**restoring))
        source = stack.enter_context(Source(input, **span, strict=strict, max_pixels=max_pixels))
        plan = with_means(plan_video(source, output, **encoding), restore, source, output)
        if on_plan is not None:
            on_plan(plan)
        if plan.avoidable and not allow_loss:
            lost = lost_text(plan.avoidable)
            raise OutputError(f"{output}: {lost}; --allow-loss goes on without")
        files = not plan.piped and Path(input).is_file()
        known = identity(Path(input)) if files else {}
        arguments = restoring | encoding | span | {"temporal": temporal}
        segments = None
        if resume and files and plan.resumable:
            means = {"segment": segment, "engine": plan.engine, "encoding": str(plan.encoding)}
            means["weights"] = weights_digest(restore.model_for(hints_of(source.first)))
            segments = stack.enter_context(Segments(Path(output), job_of(known, arguments) | means))
        elif files:
            check_idle(Path(output))
        record = Record(lossless=lossless) if verify else None

        def seal(complete: Path) -> None:
            if record is not None:
                try:
                    record.check(complete)
                except OutputError:
                    if segments is not None:  # else the same command would end the same way
                        segments.forget()
                    raise
            check_target(input, output, overwrite=overwrite)  # in case it came meanwhile
            if files:
                mark(complete, known, arguments | own_weights(restore.model))

        sink = Sink(output, source, plan.encoding, plan.streams, segments, record, seal)
        part = Fraction(segment)
        summary = _restore(source, restore, sink, segments, part, plan, progress, temporal=temporal)
    if files:
        discard(Path(output))
    return replace(summary, verified=record.verdict if record is not None else "")


def _restore(
    source: Source,
    restore: Restorer,
    sink: Sink,
    segments: Segments | None,
    segment: Fraction,
    plan: Plan,
    progress: Callable[[Progress], None] | None,
    *,
    temporal: bool,
) -> Summary:
    """Everything in `source` into `sink`, the frames restored, `segment` seconds at a time."""
    began = latest = time.perf_counter()
    count = part = kept = 0
    keeping = 0.0
    tally = Tally()
    helped = Temporal(restore, sink.write)
    total = source.frame_count
    piped = source.pipe is not None  # in a thread, reading it could not be interrupted
    items = (item for item in source) if piped else ahead(source, WAITING)
    with sink, closing(items), behind(WAITING) as write:
        for item in items:
            if isinstance(item, Packet):
                write(sink.copy, item)
                continue
            told = hints_of(item)
            shown = pts_of(item) * source.time_base
            until = shown + item.duration * source.time_base
            if int(shown / segment) != part:
                write(helped.end)  # so that no segment depends on another
                part = int(shown / segment)
            number = 0 if segments is None else part
            is_kept = segments is not None and segments.has(number)
            if is_kept:
                write(sink.keep, item, number)
            elif temporal:
                write(helped.add, item, restore.luma_of(item, hints=told), told, number)
            else:
                write(sink.write, restore(item, hints=told), number)
            tally.add(told, restore.mean_strength(told))
            count += 1
            now = time.perf_counter()
            if is_kept:
                kept, keeping = kept + 1, keeping + now - latest
            latest = now
            if progress is not None:
                progress(
                    Progress(
                        frames=count,
                        total=total,
                        seconds=now - began,
                        media_seconds=float(until),
                        kept=kept,
                        keeping=keeping,
                    )
                )
        write(helped.end)
    return Summary(
        plan=plan,
        frames=count,
        seconds=time.perf_counter() - began,
        damaged=source.damaged + sink.damaged,
        repaired=source.repaired,
        resized=source.resized,
        moved=sink.moved,
        retagged=source.retagged,
        jpeg_quality=tally.jpeg_quality,
        quantizer=tally.quantizer,
        strength=tally.strength,
        reused=0 if segments is None else segments.reused,
    )


def plan_video(
    source: Source,
    output: str | Path,
    *,
    codec: str | None = None,
    crf: float | None = None,
    preset: str | None = None,
    encoder_options: Mapping[str, str] | None = None,
    pix_fmt: str | None = None,
    lossless: bool = False,
) -> Plan:
    """What `restore_video` with the same arguments does to each stream of `source`.

    Raises OutputError if no encoder fits.
    """
    muxer = muxer_of(output)
    encoding = choose_encoding(
        muxer,
        source.first,
        codec=codec,
        crf=crf,
        preset=preset,
        pix_fmt=pix_fmt,
        lossless=lossless,
        options=encoder_options,
        hints=best_hints(source),
        sample_aspect_ratio=source.sample_aspect_ratio,
        chroma_location=chroma_location(source.video),
    )
    streams = plan_streams(muxer, source.others)
    return Plan(
        video=source.video.index,
        muxer=muxer,
        encoding=encoding,
        streams=streams,
        notes=untold(muxer, source, streams),
    )


def with_means(plan: Plan, restore: Restorer, source: Source, output: str | Path) -> Plan:
    """`plan` with what restores the first frame of `source` and what is to be known of that, and
    whether `output` is a pipe."""
    told = hints_of(source.first)
    model = restore.model_for(told)
    notes = list(plan.notes)
    if told.codec is not None and restore.mean_strength(told) > 0:
        if model.codec != trained_for(told):
            notes.append(
                f"{model.name} was trained on {model.codec}, not on the likes of {told.codec}: "
                "good sources lose by it; --model l4 or l8 chooses by the source"
            )
        elif told.luma_table is None and told.qp is None:
            notes.append(f"{told.codec} tells no quality: a careful strength is taken")
    return replace(
        plan,
        model=model.name,
        engine=restore.engine_for(told).description,
        piped=str(output) == STANDARD_STREAM,
        notes=tuple(notes),
    )


def trial(restore: Restorer, frames: Sequence[VideoFrame], *, temporal: bool) -> float:
    """Seconds that restoring each of `frames` takes: the better of two runs after a first frame."""
    restore(frames[0], hints=hints_of(frames[0]))
    times = []
    for _ in range(2):
        began = time.perf_counter()
        if temporal:
            deque(restore.film(frames), maxlen=0)
        else:
            for frame in frames:
                restore(frame, hints=hints_of(frame))
        times.append(time.perf_counter() - began)
    return min(times) / len(frames)


def lost_text(plans: Sequence[StreamPlan]) -> str:
    """One line naming streams that are lost and why."""
    return "; ".join(
        f"stream {lost.index} ({lost.kind}, {lost.codec}) is lost: {lost.reason}" for lost in plans
    )


def check_target(input: str | Path, output: str | Path, *, overwrite: bool) -> None:
    """Refuse an output that is the input, exists already, or has no folder to be in.

    Raises OutputError, or ArgumentError where input and output are one file.
    """
    if str(output) == STANDARD_STREAM:
        return
    target = Path(output)
    if str(input) != STANDARD_STREAM and _are_one(Path(input), target):
        raise ArgumentError(f"{output}: input and output are the same file; name another output")
    try:
        target.resolve()
    except RuntimeError as error:
        raise OutputError(f"{output}: is a link in a loop; name another file") from error
    try:
        if target.is_dir():
            raise OutputError(f"{output}: is a folder; name a file")
        if target.exists() and not target.is_file():
            raise OutputError(f"{output}: is a pipe or a device; name a file, or - for stdout")
        if target.exists() and not overwrite:
            raise OutputError(f"{output}: exists already; --overwrite replaces it")
        if not target.parent.is_dir():
            raise OutputError(f"{output}: no folder {target.parent}; make it first")
    except OSError as error:
        raise OutputError(f"{output}: can't be written ({error.strerror})") from error
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"{output}: folder {target.parent} is not writable")


def _are_one(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file."""
    try:
        return one.samefile(other)
    except OSError:
        return False  # one isn't there, or can't be reached
