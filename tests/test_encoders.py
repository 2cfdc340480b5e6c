"""The encoding that is chosen: near-transparent or lossless as promised, and what it can't be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from comparison import (
    Planes,
    assert_films,
    assert_planes,
    assert_times,
    first_frame,
    planes_of,
    read_film,
)
from numpy.typing import NDArray

from vfilter import Hints, restore_video
from vfilter.bitstream import scaled_luma_table
from vfilter.encoders import choose_encoding, open_encoder, transparent_crf
from vfilter.errors import ArgumentError, OutputError

SIZE: Any = {"width": 160, "height": 128}


def with_qp(codec: str, qp: float) -> Hints:
    return Hints(codec=codec, qp=np.full((2, 3), qp, dtype=np.float32))


def of_quality(quality: int) -> Hints:
    steps = scaled_luma_table(quality).ravel()
    return Hints(codec="mjpeg", luma_table=tuple(int(step) for step in steps))


def source(path: Path, codec: str, setting: str) -> Path:
    """Pictures in H.264 of a rate factor, MPEG-4 of a scale, or JPEG of a quality."""
    if codec == "mjpeg":
        return media.camera(path, int(setting))
    if codec == "mpeg4":
        return media.video_file(path, codec, qmin=setting, qmax=setting, **SIZE)
    return media.video_file(path, codec, crf=setting, **SIZE)


def error_of(film: Sequence[Planes]) -> float:
    """Mean squared error of the luma against the pictures of the recipes."""
    height, width = film[0][0].shape
    pristine = [planes_of(media.picture(k, width, height))[0] for k in range(len(film))]
    pairs = zip(film, pristine, strict=True)
    return float(np.mean([(planes[0] - clean.astype(float)) ** 2 for planes, clean in pairs]))


@pytest.mark.parametrize("ending", ["mp4", "webm", "avi"])
@pytest.mark.parametrize(
    ("codec", "setting"),
    [
        *(("libx264", crf) for crf in ("18", "23", "28")),
        *(("mpeg4", scale) for scale in ("3", "8")),
        *(("mjpeg", quality) for quality in ("30", "80", "95")),
    ],
)
def test_the_default_costs_less_than_a_tenth_of_a_decibel(
    codec: str, setting: str, ending: str, tmp_path: Path
) -> None:
    path = source(tmp_path / f"in.{'avi' if codec == 'mjpeg' else 'mkv'}", codec, setting)
    output = tmp_path / f"out.{ending}"
    restore_video(path, output, strength=0, project=False)
    before, after = (error_of(read_film(file).planes) for file in (path, output))
    assert 10 * np.log10(after / before) < 0.1


def test_the_finer_the_source_the_finer_the_encoding() -> None:
    rising = [
        [of_quality(quality) for quality in (95, 80, 60, 40)],
        [with_qp("h264", qp) for qp in (16, 22, 27, 33)],
        [with_qp("mpeg4", 2 * scale) for scale in (2, 4, 8, 12)],
        [with_qp("mpeg2video", 2 * scale) for scale in (2, 4, 8, 12)],
        [with_qp("vp9", index) for index in (20, 60, 100, 160)],
    ]
    for hints in rising:
        factors = [transparent_crf(h) for h in hints]
        assert factors == sorted(set(factors))
        assert factors[-1] <= 12


def test_what_tells_no_quantizer_is_taken_for_a_good_h264() -> None:
    good = transparent_crf(with_qp("h264", 26))
    assert transparent_crf(Hints(codec="hevc")) == transparent_crf(Hints()) == good


@pytest.mark.parametrize(
    ("codec", "quality"),
    [
        ("h264", {"crf": "1", "qmax": "2"}),
        ("hevc", {"x265-params": "log-level=error:lossless=1"}),
        ("vp9", {"lossless": "1"}),
        ("av1", {"svtav1-params": "lossless=1"}),
    ],
)
def test_what_no_rate_factor_is_fine_enough_for(codec: str, quality: dict[str, str]) -> None:
    encoding = choose_encoding("matroska", media.picture(0), codec=codec, hints=of_quality(98))
    assert encoding.options.items() >= quality.items()
    assert codec == "h264" or "crf" not in encoding.options


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="only Linux lists threads in /proc"
)
def test_no_encoder_makes_real_time_threads() -> None:
    """libsvtav1 does where it may, as root: its own and the one that opens it."""

    def policies() -> set[int]:
        threads = Path("/proc/self/task").iterdir()
        return {os.sched_getscheduler(int(thread.name)) for thread in threads}

    before = policies()
    choose_encoding("webm", media.picture(0), codec="av1")
    context: Any = av.CodecContext.create("libsvtav1", "w")
    context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
    context.framerate, context.time_base = Fraction(25), Fraction(1, 25)
    open_encoder(context)
    assert context.is_open
    assert policies() == before


def test_a_system_that_tells_no_scheduling_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_getscheduler", refused, raising=False)
    assert choose_encoding("mp4", media.picture(0)).codec == "libx264"
    monkeypatch.delattr(os, "sched_getscheduler")
    assert choose_encoding("mp4", media.picture(0)).codec == "libx264"


@pytest.mark.parametrize("option", [{"qp": "30"}, {"b": "200k"}, {"crf": "30"}])
def test_a_quality_that_is_asked_for_is_the_one_that_counts(option: dict[str, str]) -> None:
    options = choose_encoding("mp4", media.picture(0), options=option).options
    assert options.keys() & {"crf", "qp", "b", "tune"} == option.keys()
    assert options.items() >= option.items()


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("h264", {"x264-params": "crf=30:ref=2"}),
        ("hevc", {}),
        ("hevc", {"x265-params": "ref=2"}),
        ("hevc", {"x265-params": "lossless=0"}),
        ("vp9", {"cpu-used": "8"}),
        ("av1", {}),
        ("av1", {"svtav1-params": "tune=0"}),
        ("ffv1", {"level": "1"}),
        ("rawvideo", {}),
    ],
)
def test_lossless_is_lossless_whatever_else_is_asked(
    codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    path, output = media.video_file(tmp_path / "in.mp4", **SIZE), tmp_path / "out.mkv"
    restore_video(path, output, strength=0, lossless=True, codec=codec, encoder_options=options)
    assert_films(read_film(output), read_film(path), unit=Fraction(1, 1000))


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_lossless_by_a_codec_that_has_no_such_mode_is_an_error(codec: str, tmp_path: Path) -> None:
    path = media.video_file(tmp_path / "in.mp4")
    with pytest.raises(OutputError, match=f"{codec} has no lossless mode known here; leave --code"):
        restore_video(path, tmp_path / "out.mkv", lossless=True, codec=codec)
    restore_video(path, tmp_path / "out.mkv", strength=0, lossless=True)


def test_lossless_has_no_rate_factor() -> None:
    for asked in ({"crf": 20}, {"options": {"crf": "20"}}):
        with pytest.raises(ArgumentError, match="lossless and crf exclude each other: leave one"):
            choose_encoding("mp4", media.picture(0), lossless=True, **asked)


@pytest.mark.parametrize(
    ("muxer", "wanted", "match"),
    [
        ("mp4", {"codec": "mpeg4", "crf": 20}, "mpeg4 doesn't take crf=20; leave it out"),
        ("avi", {"codec": "mpeg4", "preset": "fast"}, "mpeg4 doesn't take preset=fast"),
        ("matroska", {"codec": "ffv1", "crf": 20}, "ffv1 doesn't take crf=20"),
        ("webm", {"preset": "fast"}, "libvpx-vp9 doesn't take preset=fast"),
        ("yuv4mpegpipe", {"crf": 20}, r"raw \(y4m\) doesn't take crf=20"),
        ("webm", {"codec": "av1", "crf": 0}, "libsvtav1 takes crf from 1 on; --lossless"),
        ("mp4", {"codec": "aac"}, "aac encodes audio and not video; try h264"),
        ("mp4", {"codec": "mov_text"}, "mov_text encodes subtitle and not video"),
        ("matroska", {"pix_fmt": "pal8"}, "into matroska; name another --pix-fmt"),
        (
            "avi",
            {"codec": "h264", "lossless": True},
            "is read a frame late from AVI; leave --codec",
        ),
        ("avi", {"codec": "h264", "options": {"qp": "0"}}, "read a frame late from AVI"),
        ("avi", {"options": {"x264-params": "qp=0"}}, "read a frame late from AVI"),
    ],
)
def test_what_an_encoder_does_not_do_is_told(
    muxer: str, wanted: dict[str, Any], match: str
) -> None:
    with pytest.raises(OutputError, match=match):
        choose_encoding(muxer, media.picture(0), **wanted)


def test_y4m_is_named_for_people() -> None:
    assert choose_encoding("yuv4mpegpipe", media.picture(0)).name == "raw (y4m)"
    assert choose_encoding("mp4", media.picture(0)).name == "libx264"


def test_the_cause_of_another_encoder_is_told() -> None:
    deep = media.picture(0, 63, 47, "yuv420p12le")
    for frame, cause in (
        (media.picture(0, 63, 47), "libvpx-vp9 instead of libx264, which can't keep the odd size"),
        (deep, "ffv1 instead of libx264, which can't keep the pixel format yuv420p12le"),
    ):
        assert cause in choose_encoding("mp4", frame).notes


@pytest.mark.parametrize(
    ("pix_fmt", "muxer", "wanted", "told"),
    [
        ("yuvj422p", "mp4", {}, True),
        ("yuv444p", "mov", {}, True),
        ("yuvj422p", "mp4", {"pix_fmt": "yuv420p"}, False),
        ("yuvj422p", "matroska", {}, False),
        ("yuvj422p", "mp4", {"lossless": True}, False),
        ("yuv420p", "mp4", {}, False),
        ("gray", "mp4", {}, False),
    ],
)
def test_what_some_players_lack_is_told(
    pix_fmt: str, muxer: str, wanted: dict[str, Any], told: bool
) -> None:
    encoding = choose_encoding(muxer, media.picture(0, pix_fmt=pix_fmt), **wanted)
    assert encoding.codec == "libx264"
    assert ("--pix-fmt yuv420p" in " ".join(encoding.notes)) == told


@pytest.mark.parametrize(
    "options", [{}, {"x264-params": "ref=2"}, {"x264-params": "bframes=3:ref=2"}, {"bf": "3"}]
)
def test_h264_in_avi_is_in_time_whatever_else_is_asked(
    options: dict[str, str], tmp_path: Path
) -> None:
    path, output = media.video_file(tmp_path / "in.mp4", bf="0", **SIZE), tmp_path / "out.avi"
    restore_video(path, output, strength=0, encoder_options=options)
    before, after = read_film(path), read_film(output)
    assert_times(after.times, before.times)
    for found, wanted in zip(after.planes, before.planes, strict=True):
        assert np.abs(found[0] - wanted[0].astype(float)).mean() < 2


def test_the_bound_of_h264_in_avi_rises_with_the_picture() -> None:
    def bound(width: int, height: int) -> int:
        options = choose_encoding("avi", media.picture(0, width, height)).options["x264-params"]
        return int(dict(pair.split("=") for pair in options.split(":"))["vbv-maxrate"])

    assert bound(320, 240) == 50_000
    assert bound(3840, 2160) > 1_000_000


def test_alpha_of_packed_rgb_survives_or_is_refused(tmp_path: Path) -> None:
    """VP9 has alpha with 4:2:0 alone, which RGB becomes only where it is asked for."""
    path, output = tmp_path / "in.mkv", tmp_path / "out.webm"
    media.video_file(path, "ffv1", pix_fmt="bgra", frames=3)
    with pytest.raises(OutputError, match=r"no encoder puts bgra .* \.mkv, or another --pix"):
        restore_video(path, output, strength=0)
    restore_video(path, output, strength=0, pix_fmt="yuva420p")
    decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(output) as container:
        found = [planes_of(f)[3] for packet in container.demux() for f in decoder.decode(packet)]
    wanted = alphas(path)
    assert_planes(found, wanted, tolerance=16, why="VP9 is lossy")
    restore_video(path, tmp_path / "out.mkv", strength=0)
    assert_planes(alphas(tmp_path / "out.mkv"), wanted)


def alphas(path: Path) -> list[NDArray[Any]]:
    with av.open(path) as container:
        return [f.to_ndarray(format="bgra")[..., 3] for f in container.decode(video=0)]


LOCATIONS = ("left", "center", "topleft")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "webm", "avi", "y4m"])
@pytest.mark.parametrize("location", LOCATIONS)
def test_chroma_stays_where_it_lies(location: str, ending: str, tmp_path: Path) -> None:
    path, output = tmp_path / "in.mp4", tmp_path / f"out.{ending}"
    media.video_file(path, frames=3, chroma_sample_location=location)
    summary = restore_video(path, output, strength=0)
    assert first_frame(output).chroma == location
    assert summary.plan.encoding.notes == ()


@pytest.mark.parametrize("codec", ["hevc", "av1", "ffv1"])
@pytest.mark.parametrize("location", LOCATIONS)
def test_chroma_stays_by_other_codecs_and_from_y4m(
    location: str, codec: str, tmp_path: Path
) -> None:
    path, piped, output = (tmp_path / name for name in ("in.mkv", "in.y4m", "out.mkv"))
    media.video_file(path, frames=3, chroma_sample_location=location)
    restore_video(path, piped, strength=0)
    restore_video(piped, output, strength=0, codec=codec)
    assert first_frame(output).chroma == location


@pytest.mark.parametrize(
    ("recipe", "ending", "codec", "told"),
    [
        ("420", "mp4", "vp9", "libvpx-vp9 in mp4 can't tell that chroma lies at the center"),
        ("420", "mp4", "av1", "libsvtav1 in mp4 can't tell that chroma lies at the center"),
        ("420", "avi", "ffv1", "ffv1 in avi can't tell that chroma lies at the center"),
    ],
)
def test_a_chroma_location_that_gets_lost_is_told(
    recipe: str, ending: str, codec: str | None, told: str, tmp_path: Path
) -> None:
    path, output = tmp_path / "in.mkv", tmp_path / f"out.{ending}"
    pix_fmt = f"yuv{recipe}p"
    media.video_file(path, "ffv1", frames=3, pix_fmt=pix_fmt, chroma_sample_location="center")
    summary = restore_video(path, output, strength=0, codec=codec)
    assert told in summary.plan.encoding.notes
    assert first_frame(output).chroma != "center"


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov", "avi", "y4m"])
@pytest.mark.parametrize(
    ("codec", "source"), [("libx264", "mp4"), ("mpeg2video", "mpg"), ("ffv1", "mkv")]
)
@pytest.mark.parametrize("order", ["tff", "bff"])
def test_the_first_field_stays_first(
    order: str, codec: str, source: str, ending: str, tmp_path: Path
) -> None:
    path, output = tmp_path / f"in.{source}", tmp_path / f"out.{ending}"
    media.interlaced(path, codec, order=order)
    restore_video(path, output, strength=0)
    assert first_frame(output).field == order
    with av.open(output) as container:
        assert container.streams.video[0].codec_context.field_order == {"tff": 2, "bff": 3}[order]


def with_fields(path: Path, codec: str, height: int, pix_fmt: str) -> Path:
    """Frames of 64 by `height` pixels, their top fields first."""
    with av.open(path, "w") as output:
        options: Any = {"height": height, "pix_fmt": pix_fmt, "flags": "+ildct+ilme"}
        stream = media.add_video(output, codec, **options)
        media.fill_video(output, stream, order="tff")
    return path


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize(
    ("codec", "height", "pix_fmt"),
    [("mpeg2video", 50, "yuv420p"), ("ffv1", 50, "yuv420p10le"), ("ffv1", 51, "yuv422p")],
)
def test_fields_of_half_a_chroma_sample_come_out_unmarked_and_that_is_told(
    codec: str, height: int, pix_fmt: str, ending: str, tmp_path: Path
) -> None:
    path, output = tmp_path / "in.mkv", tmp_path / f"out.{ending}"
    with_fields(path, codec, height, pix_fmt)
    encoding = restore_video(path, output, strength=0).plan.encoding
    assert (encoding.codec, encoding.pix_fmt) == ("libx264", pix_fmt)
    muxer = "matroska" if ending == "mkv" else ending
    assert f"libx264 in {muxer} can't tell which lines are which field" in encoding.notes
    before, after = read_film(path), read_film(output)
    assert_times(after.times, before.times, unit=Fraction(1, 1000))
    for found, wanted in zip(after.planes, before.planes, strict=True):
        assert found[0].shape == wanted[0].shape == (height, media.WIDTH)
        scale = found[0].max() / 255
        assert np.abs(found[0] - wanted[0].astype(float)).mean() < 2 * scale


@pytest.mark.parametrize(
    "options", [{"x264-params": "tff=1"}, {"x264-params": "interlaced=1"}, {"flags": "+ildct"}]
)
def test_fields_of_half_a_chroma_sample_stay_unmarked_whatever_is_asked(
    options: dict[str, str], tmp_path: Path
) -> None:
    path = with_fields(tmp_path / "in.mkv", "mpeg2video", 50, "yuv420p")
    summary = restore_video(path, tmp_path / "out.mp4", strength=0, encoder_options=options)
    assert summary.frames == media.FRAMES


def test_fields_of_half_a_chroma_sample_without_loss(tmp_path: Path) -> None:
    path = with_fields(tmp_path / "in.mkv", "mpeg2video", 50, "yuv420p")
    for name, codec in (("out.mp4", "libx264"), ("out.mkv", "ffv1")):
        encoding = restore_video(path, tmp_path / name, strength=0, lossless=True).plan.encoding
        assert encoding.codec == codec
        assert ("which field" in " ".join(encoding.notes)) == (codec == "libx264")
        assert_films(read_film(tmp_path / name), read_film(path), unit=Fraction(1, 1000))


def test_half_known_mastering_displays_are_told_by_half(tmp_path: Path) -> None:
    """Luminance without primaries, as Matroska may have it, comes back as that."""
    path, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    display = "G(0,0)B(0,0)R(0,0)WP(0,0)L(10000000,50)"
    params: Any = {"x264-params": f"mastering-display={display}"}
    media.video_file(path, pix_fmt="yuv420p10le", **params)
    restore_video(path, output, strength=0)
    before, after = (read_film(file).side_data for file in (path, output))
    assert after == before
