"""The pictures of a restored file: codes, times and tags, for each kind of input and container."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from comparison import (
    Film,
    assert_films,
    assert_planes,
    assert_times,
    planes_of,
    read_film,
    read_sound,
    read_tracks,
)
from PIL import Image

from vfilter import Restorer, restore_video
from vfilter.encoders import SELDOM_SHOWN
from vfilter.errors import ArgumentError, InputError, OutputError
from vfilter.luma import luma_plane, planar
from vfilter.source import Source, hints_of

Recipe = Callable[[Path], Path]

MILLISECOND = Fraction(1, 1000)


def film(codec: str, **options: Any) -> Recipe:
    return partial(media.video_file, codec=codec, **options)


ALPHA: Any = {"pix_fmt": "yuva420p", "auto-alt-ref": "0", "cpu-used": "8"}

INPUTS: dict[str, tuple[str, Recipe]] = {
    "camera": ("avi", media.camera),
    "b-frames": ("mp4", media.phone),
    "uneven": ("mkv", media.uneven),
    "divx": ("avi", film("mpeg4", qscale="3")),
    "divx-b-frames": ("avi", film("mpeg4", qscale="3", bf="2")),
    "h264-in-avi": ("avi", film("libx264", bf="0")),
    "top-first": ("mkv", media.interlaced),
    "bottom-first": ("mp4", partial(media.interlaced, order="bff")),
    "mpeg2-fields": ("mpg", partial(media.interlaced, codec="mpeg2video")),
    "rotated": ("mp4", media.rotated),
    "anamorphic": ("mp4", media.anamorphic),
    "tagged": ("mp4", media.tagged),
    "full-range": ("mp4", media.full_range),
    "hdr10": ("mkv", media.hdr10),
    "broadcast": ("ts", media.broadcast),
    "y4m": ("y4m", media.y4m),
    "10-bit-422": ("mkv", film("ffv1", pix_fmt="yuv422p10le")),
    "12-bit": ("mkv", film("ffv1", pix_fmt="yuv420p12le")),
    "16-bit": ("mkv", film("ffv1", pix_fmt="yuv444p16le")),
    "411": ("mkv", film("ffv1", pix_fmt="yuv411p")),
    "odd-size": ("avi", film("mpeg4", qscale="3", width=63, height=47)),
    "odd-height": ("mkv", film("ffv1", pix_fmt="yuv420p10le", height=47)),
    "gray": ("mkv", film("ffv1", pix_fmt="gray")),
    "gray-12": ("mkv", film("ffv1", pix_fmt="gray12le")),
    "alpha": ("mkv", film("ffv1", pix_fmt="yuva420p")),
    "rgb-10": ("mkv", film("ffv1", pix_fmt="gbrp10le")),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the input of a name, once."""
    folder = tmp_path_factory.mktemp("inputs")

    def make(name: str) -> Path:
        ending, recipe = INPUTS[name]
        path = folder / f"{name}.{ending}"
        return path if path.exists() else recipe(path)

    return make


def zeroed(given: Film) -> Film:
    """`given` with its first frame at 0."""
    times = [time - given.times[0] for time in given.times]
    return Film(**{**vars(given), "times": times})


def limited_if_untold(tags: dict[str, Any]) -> dict[str, Any]:
    """`tags` with limited range where none is told: what players take it for."""
    return {**tags, "range": tags["range"] or 1}


@pytest.mark.parametrize("name", INPUTS)
def test_lossless_without_strength_keeps_every_code_time_and_tag(
    name: str, inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    path = inputs(name)
    summary = restore_video(path, tmp_path / "out.mkv", strength=0, lossless=True)
    before, after = read_film(path), read_film(tmp_path / "out.mkv")
    assert summary.frames == len(before.times)
    assert_films(zeroed(after), zeroed(before), unit=MILLISECOND)
    expected = limited_if_untold(before.tags)
    if summary.plan.encoding.codec == "ffv1":
        expected |= {"sample aspect ratio": None}  # FFV1 has it in its frames, unseen by PyAV
    assert limited_if_untold(after.tags) == expected
    assert after.interlaced == before.interlaced
    assert after.side_data == before.side_data


@pytest.mark.parametrize("ending", ["mp4", "mov", "avi", "webm", "ts", "y4m"])
@pytest.mark.parametrize("name", ["camera", "b-frames", "full-range", "top-first"])
def test_every_container_takes_lossless_pictures(
    name: str, ending: str, inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    restore_video(inputs(name), output, strength=0, lossless=True, allow_loss=True)
    before, after = read_film(inputs(name)), read_film(output)
    assert_films(zeroed(after), zeroed(before), unit=MILLISECOND)
    assert after.tags["size"] == before.tags["size"]
    assert after.tags["format"] == before.tags["format"]


TELLING = ("tagged", "full-range", "rotated", "anamorphic", "hdr10", "top-first", "bottom-first")


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("name", TELLING)
def test_h264_keeps_the_tags(
    name: str, ending: str, inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    summary = restore_video(inputs(name), output, strength=0, preset="ultrafast")
    before, after = read_film(inputs(name)), read_film(output)
    assert summary.plan.encoding.notes == ()
    assert limited_if_untold(after.tags) == limited_if_untold(before.tags)
    assert after.interlaced == before.interlaced
    assert after.side_data == before.side_data


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_hdr10_metadata_survives(codec: str, inputs: Callable[[str], Path], tmp_path: Path) -> None:
    preset = "12" if codec == "av1" else "ultrafast"
    output = tmp_path / "out.mkv"
    restore_video(inputs("hdr10"), output, strength=0, codec=codec, preset=preset)
    before, after = read_film(inputs("hdr10")).side_data, read_film(output).side_data
    assert after["CONTENT_LIGHT_LEVEL"] == before["CONTENT_LIGHT_LEVEL"]
    found, wanted = (ratios_of(data["MASTERING_DISPLAY_METADATA"]) for data in (after, before))
    # AV1 codes chromaticities in 16 bits of fraction and the lowest light in 14.
    assert np.allclose(found, wanted, rtol=0, atol=1e-4)


def ratios_of(mastering_display: bytes) -> Any:
    numbers = np.frombuffer(mastering_display, np.int32)[:20].reshape(10, 2)
    return numbers[:, 0] / numbers[:, 1]


@pytest.mark.parametrize(
    ("name", "ending", "told"),
    [
        ("rotated", "avi", "can't tell rotation"),
        ("top-first", "webm", "can't tell which lines are which field"),
        ("full-range", "avi", "can't tell that the range is full"),
        ("hdr10", "avi", "can't tell HDR metadata"),
        ("anamorphic", "webm", "can't tell the shape of pixels"),
    ],
)
def test_a_tag_that_gets_lost_is_told(
    name: str, ending: str, told: str, inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    lossless = ending == "avi"
    summary = restore_video(
        inputs(name), tmp_path / f"out.{ending}", strength=0, lossless=lossless, frames=2
    )
    assert told in " ".join(summary.plan.encoding.notes)


@pytest.mark.parametrize("name", ["camera", "b-frames", "hdr10", "odd-size", "alpha", "y4m"])
def test_the_network_changes_luma_as_the_restorer_does_and_nothing_else(
    name: str, inputs: Callable[[str], Path], tmp_path: Path, model: Path
) -> None:
    output = tmp_path / "out.mkv"
    restore_video(inputs(name), output, model=model, precision="fp32", lossless=True, hints=False)
    before, after = read_film(inputs(name)), read_film(output)
    depth = {"hdr10": 10}.get(name)
    assert_times(zeroed(after).times, zeroed(before).times, unit=MILLISECOND)
    with Restorer(model, precision="fp32") as restore:
        for (luma, *chroma), (old, *old_chroma) in zip(after.planes, before.planes, strict=True):
            assert_planes(chroma, old_chroma, why="chroma is not touched")
            assert_planes([luma], [restore.luma(old, depth=depth)], why="the engine is the same")
            assert np.abs(luma.astype(int) - old.astype(int)).mean() > 0.5


@pytest.mark.parametrize("name", ["camera", "b-frames", "divx", "top-first", "mpeg2-fields"])
def test_what_the_stream_tells_is_heeded_frame_by_frame(
    name: str, inputs: Callable[[str], Path], tmp_path: Path, model: Path
) -> None:
    path, output = inputs(name), tmp_path / "out.mkv"
    restore_video(path, output, model=model, precision="fp32", lossless=True)
    with Source(path) as source, Restorer(model, precision="fp32") as restore:
        frames = [item for item in source if isinstance(item, av.VideoFrame)]
        expected = [planes_of(restore(frame, hints=hints_of(frame))) for frame in frames]
        told = hints_of(frames[0])
    assert told.luma_table is not None or told.qp is not None
    for found, wanted in zip(read_film(output).planes, expected, strict=True):
        assert_planes(found, wanted)


def test_interlaced_frames_are_restored_field_by_field(
    inputs: Callable[[str], Path], tmp_path: Path, model: Path
) -> None:
    path, output = inputs("top-first"), tmp_path / "out.mkv"
    restore_video(path, output, model=model, precision="fp32", lossless=True, hints=False)
    with Restorer(model, precision="fp32") as restore:
        for after, before in zip(read_film(output).planes, read_film(path).planes, strict=True):
            for field in (0, 1):
                assert_planes([after[0][field::2]], [restore.luma(before[0][field::2])])


def test_rgb_comes_out_with_its_luma_restored(
    inputs: Callable[[str], Path], tmp_path: Path, model: Path
) -> None:
    path, output = inputs("rgb-10"), tmp_path / "out.mkv"
    restore_video(path, output, model=model, precision="fp32", lossless=True)
    with av.open(path) as container, Restorer(model, precision="fp32") as restore:
        expected = [planes_of(restore(frame)) for frame in container.decode(video=0)]
    for found, wanted in zip(read_film(output).planes, expected, strict=True):
        assert_planes(found, wanted)


@pytest.mark.parametrize("pix_fmt", ["rgb24", "rgba", "gray"])
def test_png_pictures_keep_their_colours(pix_fmt: str, tmp_path: Path) -> None:
    path, output = tmp_path / "in.mov", tmp_path / "out.mkv"
    media.video_file(path, "png", pix_fmt=pix_fmt)
    restore_video(path, output, strength=0, lossless=True)
    for found, wanted in zip(rgba(output), rgba(path), strict=True):
        assert_planes([found], [wanted])


def rgba(path: Path) -> list[Any]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]


def test_alpha_of_webm_survives(tmp_path: Path) -> None:
    path, output, again = (tmp_path / name for name in ("in.webm", "out.webm", "again.mkv"))
    media.video_file(path, "libvpx-vp9", **ALPHA)
    restore_video(path, output, strength=0, lossless=True)
    restore_video(output, again, strength=0, lossless=True)
    assert read_film(again).tags["format"] == "yuva420p"
    for found, wanted in zip(read_film(again).planes, vp9_with_alpha(path), strict=True):
        assert_planes(found, wanted)


def vp9_with_alpha(path: Path) -> list[Any]:
    decoder: Any = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(path) as container:
        return [planes_of(f) for packet in container.demux() for f in decoder.decode(packet)]


@pytest.mark.parametrize(
    ("name", "ending", "codec", "pix_fmt"),
    [
        ("camera", "mp4", "libx264", "yuv422p"),
        ("camera", "avi", "libx264", "yuv422p"),
        ("camera", "webm", "libvpx-vp9", "yuv422p"),
        ("hdr10", "mp4", "libx264", "yuv420p10le"),
        ("hdr10", "webm", "libsvtav1", "yuv420p10le"),
        ("10-bit-422", "mov", "libx264", "yuv422p10le"),
        ("12-bit", "mkv", "libx265", "yuv420p12le"),
        ("16-bit", "mkv", "ffv1", "yuv444p16le"),
        ("411", "mp4", "ffv1", "yuv411p"),
        ("odd-size", "mp4", "libvpx-vp9", "yuv420p"),
        ("odd-size", "mov", "mpeg4", "yuv420p"),
        ("odd-size", "avi", "libvpx-vp9", "yuv420p"),
        ("odd-height", "mp4", "libsvtav1", "yuv420p10le"),
        ("gray", "mp4", "libx264", "gray"),
        ("alpha", "webm", "libvpx-vp9", "yuva420p"),
        ("alpha", "mp4", "ffv1", "yuva420p"),
        ("rgb-10", "mp4", "libx264", "yuv444p10le"),
    ],
)
def test_the_encoder_keeps_size_subsampling_and_depth(
    name: str, ending: str, codec: str, pix_fmt: str, inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    summary = restore_video(inputs(name), output, strength=0)
    encoding = summary.plan.encoding
    assert (encoding.codec, encoding.pix_fmt) == (codec, pix_fmt)
    others = {"libx264", "libvpx-vp9" if ending == "webm" or name == "alpha" else "libx264"}
    notes = [n for n in encoding.notes if "chroma lies" not in n and n != SELDOM_SHOWN]
    assert bool(notes) == (codec not in others or name == "rgb-10")
    before, after = read_film(inputs(name)), read_film(output)
    assert after.tags["size"] == before.tags["size"]
    assert_times(zeroed(after).times, zeroed(before).times, unit=MILLISECOND)
    if name not in ("rgb-10", "gray"):
        means = [np.mean([p[0].mean() for p in f.planes]) for f in (after, before)]
        assert means[0] == pytest.approx(means[1], rel=0.01)


def test_the_encoder_of_an_odd_size_is_told(inputs: Callable[[str], Path], tmp_path: Path) -> None:
    summary = restore_video(inputs("odd-size"), tmp_path / "out.mp4", strength=0, frames=1)
    assert summary.plan.encoding.notes == (
        "libvpx-vp9 instead of libx264, which can't keep the odd size",
    )


@pytest.mark.parametrize(
    ("name", "ending", "wanted", "match"),
    [
        ("odd-size", "mov", {"lossless": True}, "no lossless encoder puts yuv420p at 63x47 into"),
        ("alpha", "mov", {}, "name an output ending in .mkv"),
        ("12-bit", "webm", {}, "no encoder puts yuv420p12le at 64x48 into webm"),
        ("rgb-10", "mp4", {"codec": "vp9"}, "leave --codec out"),
        ("odd-size", "mp4", {"codec": "h264"}, "encoder h264 can't put yuv420p at 63x47 into mp4"),
        ("camera", "mp4", {"codec": "nonsense"}, "no encoder named 'nonsense'; try h264"),
        ("camera", "mp4", {"encoder_options": {"qp": "low"}}, "libx264 doesn't take qp=low"),
        ("camera", "mp4", {"encoder_options": {"bff": "1"}}, "libx264 doesn't take bff=1"),
        ("camera", "ts", {"codec": "ffv1"}, "encoder ffv1 can't put yuv422p at 64x48 into mpegts"),
    ],
)
def test_what_no_encoder_can_do_is_an_error(
    name: str,
    ending: str,
    wanted: dict[str, Any],
    match: str,
    inputs: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(OutputError, match=match):
        restore_video(inputs(name), tmp_path / f"out.{ending}", **wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("ending", "wanted", "match"),
    [
        ("mkv", {"preset": "swift"}, "preset of libx264 must be ultrafast, .*; got swift"),
        ("mkv", {"crf": 180}, "crf of libx264 must be 0 to 51, got 180"),
        ("webm", {"crf": 70}, "crf of libvpx-vp9 must be 0 to 63, got 70"),
        ("mkv", {"encoder_options": {"crf": "fine"}}, "crf of libx264 must be 0 to 51, got fine"),
    ],
)
def test_what_no_encoder_knows_is_an_argument_error(
    ending: str,
    wanted: dict[str, Any],
    match: str,
    inputs: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(ArgumentError, match=match):
        restore_video(inputs("camera"), tmp_path / f"out.{ending}", **wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["mkv", "mp4", "mov"])
def test_uneven_times_and_durations_stay(
    ending: str, inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    restore_video(inputs("uneven"), output, strength=0, allow_loss=True)
    after = read_film(output)
    assert [time / MILLISECOND for time in after.times] == list(media.VFR_TIMES)
    assert after.durations[-1] == read_film(inputs("uneven")).durations[-1]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "avi", "webm"])
@pytest.mark.parametrize("name", ["camera", "b-frames", "divx"])
def test_the_length_stays(
    name: str, ending: str, inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    restore_video(inputs(name), output, strength=0, allow_loss=True)
    # sound that is encoded anew ends with a whole frame: 1024 samples of AAC, 960 of Opus
    assert length_of(output) == pytest.approx(length_of(inputs(name)), abs=0.1)


def length_of(path: Path) -> float:
    with av.open(path) as container:
        return (container.duration or 0) / 1_000_000


def test_odd_sizes_from_a_fine_clock_fit_into_mov(tmp_path: Path) -> None:
    """MPEG-4 Part 2 counts in at most 65535 ticks a second, MPEG-TS in 90000."""
    path, output = tmp_path / "in.ts", tmp_path / "out.mov"
    media.video_file(path, "mpeg4", qscale="3", width=63, height=47)
    summary = restore_video(path, output, strength=0)
    assert summary.plan.encoding.codec == "mpeg4"
    assert_times(read_film(output).times, [Fraction(k, 25) for k in range(media.FRAMES)])


def test_avi_holds_uneven_times_on_a_fine_grid(
    inputs: Callable[[str], Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.avi"
    restore_video(inputs("uneven"), output, strength=0, lossless=True, allow_loss=True)
    times = [time * MILLISECOND for time in media.VFR_TIMES]
    assert_times(read_film(output).times, times, unit=Fraction(1, 200))


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov", "avi"])
def test_sixty_frames_of_thousandths_stay_apart(ending: str, tmp_path: Path) -> None:
    """Matroska rounds 60 frames per second to 0, 17, 33 ms; no two may fall together."""
    path, output = tmp_path / "in.mkv", tmp_path / f"out.{ending}"
    with av.open(path, "w") as container:
        stream = media.add_video(container, "ffv1", unit=MILLISECOND, rate=60)
        media.fill_video(container, stream, [round(k * 1000 / 60) for k in range(30)])
    restore_video(path, output, strength=0, lossless=True)
    assert_times(
        read_film(output).times, [Fraction(k, 60) for k in range(30)], unit=Fraction(9, 1000)
    )


def test_same_job_gives_the_same_pictures(
    inputs: Callable[[str], Path], tmp_path: Path, model: Path
) -> None:
    films = []
    for name in ("one.mkv", "two.mkv"):
        restore_video(inputs("camera"), tmp_path / name, model=model, lossless=True)
        films.append(read_film(tmp_path / name))
    assert_films(*films)


def test_progress_counts_every_frame(inputs: Callable[[str], Path], tmp_path: Path) -> None:
    seen: list[Any] = []
    restore_video(inputs("camera"), tmp_path / "out.mp4", strength=0, progress=seen.append)
    assert [step.frames for step in seen] == list(range(1, media.FRAMES + 1))
    assert {step.total for step in seen} == {media.FRAMES}
    assert seen[-1].media_seconds == pytest.approx(media.FRAMES / 15)
    assert seen[-1].eta == 0
    assert seen[-1].fps > 0 and seen[-1].speed > 0


@pytest.mark.parametrize("quality", [30, 90])
def test_luma_survives_the_default_encoding(quality: int, tmp_path: Path) -> None:
    """The default is near-transparent: 43 dB, an error of 1.8 codes, even on this noise."""
    path, output = media.camera(tmp_path / "in.avi", quality), tmp_path / "out.mp4"
    restore_video(path, output, strength=0)
    errors = [
        np.mean((a[0].astype(float) - b[0]) ** 2)
        for a, b in zip(read_film(output).planes, read_film(path).planes, strict=True)
    ]
    assert 10 * np.log10(255**2 / np.mean(errors)) > 43


def test_a_change_of_interlacing_is_told(tmp_path: Path) -> None:
    path = tmp_path / "in.mkv"
    with av.open(path, "w") as container:
        stream = media.add_video(container, "ffv1")
        for index in range(6):
            frame = media.fields(media.picture(index), "tff" if index >= 4 else "prog")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    summary = restore_video(path, tmp_path / "out.mkv", strength=0)
    assert summary.retagged == {"interlacing": 2}


def test_a_change_of_matrix_is_told(tmp_path: Path) -> None:
    """Two films after each other in one stream, as a broadcast has them."""
    path = tmp_path / "in.h264"
    parts = []
    for matrix in (1, 6):
        part = tmp_path / f"{matrix}.h264"
        with av.open(part, "w") as container:
            stream = media.add_video(container, bf="0")
            stream.codec_context.colorspace = matrix
            media.fill_video(container, stream, range(3))
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))
    summary = restore_video(path, tmp_path / "out.mkv", strength=0, preset="ultrafast")
    assert (summary.frames, summary.retagged) == (6, {"colour matrix": 3})


def test_the_summary_tells_what_was_met(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "in.avi"
    with av.open(path, "w") as container:
        stream: Any = container.add_mux_stream("mjpeg", rate=15, width=64, height=48)
        stream.time_base = Fraction(1, 15)
        for index, quality in enumerate((30, 60, 45)):
            packet: Any = av.Packet(media.jpeg(index, quality))
            packet.stream, packet.pts, packet.dts = stream, index, index
            packet.time_base, packet.is_keyframe = Fraction(1, 15), True
            container.mux(packet)
    summary = restore_video(path, tmp_path / "a.mkv", model=model, strength=0.5)
    assert (summary.jpeg_quality, summary.quantizer, summary.strength) == ((30, 60), None, 0.5)
    path = media.video_file(tmp_path / "b.avi", "mpeg4", qmin="7", qmax="7")
    summary = restore_video(path, tmp_path / "b.mkv", model=model, strength=0)
    assert (summary.jpeg_quality, summary.quantizer, summary.strength) == (None, (7, 7), 0)


@pytest.mark.parametrize(("polarity", "second", "told"), [(1, 40, 40), (2, 40, 40), (1, 70, None)])
def test_two_fields_in_one_packet_are_one_frame(
    polarity: int, second: int, told: int | None, tmp_path: Path, model: Path
) -> None:
    """MJPEG of capture cards (Open DML AVI): JPEGs of half the height, marked by APP0 "AVI1"."""
    path = tmp_path / "in.avi"
    with av.open(path, "w") as container:
        stream: Any = container.add_mux_stream("mjpeg", rate=25, width=64, height=96)
        stream.time_base = Fraction(1, 25)
        for index in range(4):
            fields = (media.jpeg(2 * index, 40), media.jpeg(2 * index + 1, second if index else 40))
            order = (polarity, 3 - polarity)
            packet: Any = av.Packet(
                b"".join(field_coded(f, p) for f, p in zip(fields, order, strict=True))
            )
            packet.stream, packet.pts, packet.dts = stream, index, index
            packet.time_base, packet.is_keyframe = Fraction(1, 25), True
            container.mux(packet)
    with Source(path) as source:
        frames = [item for item in source if isinstance(item, av.VideoFrame)]
    assert [(f.height, hints_of(f).jpeg_quality) for f in frames] == [(96, 40)] + [(96, told)] * 3
    assert all(frame.interlaced_frame for frame in frames)
    assert [frame.pts for frame in frames] == [0, 1, 2, 3]
    for index, frame in enumerate(frames):
        first = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
        first = first.reshape(-1, frame.planes[0].line_size)[1:96:2, :64]
        image = Image.open(io.BytesIO(media.jpeg(2 * index, 40)))
        wanted = np.asarray(image.convert("YCbCr"))[..., 0]
        assert_planes([first], [wanted], tolerance=12, why="Pillow comes here by way of RGB")
    summary = restore_video(path, tmp_path / "out.mkv", model=model)
    assert (summary.frames, summary.damaged) == (4, 0)
    assert summary.jpeg_quality == (40, 40)
    assert all(read_film(tmp_path / "out.mkv").interlaced)


def field_coded(jpeg: bytes, polarity: int) -> bytes:
    """`jpeg` with the marker APP0 "AVI1" of a field, odd (1) or even (2), after its SOI."""
    return jpeg[:2] + b"\xff\xe0\x00\x10AVI1" + bytes([polarity]) + bytes(9) + jpeg[2:]


@pytest.mark.parametrize("decoding_times", [True, False])
def test_times_out_of_order_are_those_of_decoding_or_close_after_each_other(
    decoding_times: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where a decoder puts out two frames in the wrong order."""
    path = media.video_file(tmp_path / "in.mkv", "ffv1", frames=6)
    decode = Source._decode

    def swapped(self: Source, packet: Any) -> list[av.VideoFrame]:
        frames = decode(self, packet)
        for frame in frames:
            frame.pts = {80: 120, 120: 80}.get(frame.pts or 0, frame.pts)
            if not decoding_times:
                frame.dts = None
        return frames

    monkeypatch.setattr(Source, "_decode", swapped)
    with Source(path) as source:
        times = [item.pts for item in source if isinstance(item, av.VideoFrame)]
    repaired = [0, 40, 80, 120, 160, 200] if decoding_times else [0, 40, 120, 121, 160, 200]
    assert (times, source.repaired) == (repaired, 2 if decoding_times else 1)


def test_frames_are_shown_for_a_millisecond_at_least(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In mp4 a last frame of a tick of 1/90000 s would not be shown."""
    path = media.broadcast(tmp_path / "in.ts")
    decode = Source._decode

    def short(self: Source, packet: Any) -> list[av.VideoFrame]:
        frames = decode(self, packet)
        for frame in frames:
            frame.duration = 1
        return frames

    monkeypatch.setattr(Source, "_decode", short)
    with Source(path) as source:
        lengths = [f.duration * source.time_base for f in source if isinstance(f, av.VideoFrame)]
    assert lengths == [Fraction(1, 1000)] * media.FRAMES


def test_recordings_that_were_joined_go_on(tmp_path: Path) -> None:
    """Their times begin anew; 0.48 s of film each, and sound."""
    path, output = media.broadcast(tmp_path / "in.ts"), tmp_path / "out.mkv"
    path.write_bytes(path.read_bytes() * 3)
    summary = restore_video(path, output, strength=0, preset="ultrafast")
    assert (summary.frames, summary.repaired) == (3 * media.FRAMES, 2)
    apart = [b - a for a, b in pairwise(read_film(output).times)]
    # what is shifted may be up to a packet of sound (21 ms) off
    assert all(Fraction(19, 1000) <= step <= Fraction(62, 1000) for step in apart)
    sound = [time for time, _ in read_tracks(output)[0].times if time is not None]
    assert max(b - a for a, b in pairwise(sound)) <= Fraction(43, 1000)
    assert sound[-1] > Fraction(14, 10)


@pytest.mark.parametrize(("layout", "rate"), [("mono", 48000), ("stereo", 44100)])
def test_sound_whose_layout_or_rate_changes_is_converted(
    layout: str, rate: int, tmp_path: Path
) -> None:
    """A tone twice, as in stereo of 48 kHz and otherwise, where one programme follows another."""
    path, output = tmp_path / "in.ts", tmp_path / "out.webm"
    parts = [tmp_path / "first.ts", tmp_path / "second.ts"]
    for part, (channels, hertz) in zip(parts, [("stereo", 48000), (layout, rate)], strict=True):
        media.talkie(part, "ac3", layout=channels, rate=hertz)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    summary = restore_video(path, output, strength=0, encoder_options={"cpu-used": "8"})
    assert [plan.encoder for plan in summary.plan.streams] == ["libopus"]
    assert summary.frames == 2 * media.FRAMES
    times, (sound, *_) = read_sound(output)
    assert all(Fraction(19, 1000) <= b - a <= Fraction(21, 1000) for a, b in pairwise(times[1:]))
    length = 48000 * media.FRAMES // media.RATE
    first, second = sound[:length], sound[length : 2 * length]
    assert len(sound) >= 2 * length
    assert alikeness(first, second) > 0.9


def alikeness(sound: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    """Correlation of two sounds of one length, -1 to 1, where they fit best."""
    spectra = [np.fft.rfft(np.pad(s, (0, len(s)))) for s in (sound, other)]
    fit = np.fft.irfft(spectra[0] * spectra[1].conj())
    return float(fit.max() / (np.linalg.norm(sound) * np.linalg.norm(other)))


class Failing(io.BytesIO):
    """Bytes behind which reading fails, as on a disk or a network mount."""

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        if not found:
            raise OSError(errno.EIO, "Input/output error")
        return found


def test_an_input_whose_reading_fails_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = Failing(media.y4m(tmp_path / "in.y4m").read_bytes()[:40000])
    monkeypatch.setattr(sys, "stdin", type("Standard", (), {"buffer": content}))
    with pytest.raises(InputError, match=r"^-: reading failed .Input/output error.; check its"):
        restore_video("-", tmp_path / "out.mkv", strength=0)
    assert {path.name for path in tmp_path.iterdir()} == {"in.y4m"}


def test_a_file_whose_reading_fails_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """FFmpeg tells it as the end of the file; what follows the last packet is read to know."""
    path = media.camera(tmp_path / "in.avi")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    restore_video(path, tmp_path / "truncated.mkv", strength=0)
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda p, *a, **k: Failing(whole[:20]) if p == path else opened(p, *a, **k)
    )
    with pytest.raises(InputError, match=r"in\.avi: reading failed .Input/output error."):
        restore_video(path, tmp_path / "out.mkv", strength=0)
    assert {path.name for path in tmp_path.iterdir()} == {"in.avi", "truncated.mkv"}


def test_codes_outside_limited_range_survive(tmp_path: Path) -> None:
    path, output = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(path, "w") as container:
        stream = media.add_video(container, "ffv1")
        frame = media.picture(0)
        memory = np.frombuffer(memoryview(frame.planes[0]), np.uint8)
        memory[...] = np.arange(memory.size) % 256
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(path) as container:
        luma = luma_plane(planar(next(container.decode(video=0))))
        assert (luma.min(), luma.max()) == (0, 255)
    restore_video(path, output, strength=0, lossless=True)
    assert_films(read_film(output), read_film(path))
