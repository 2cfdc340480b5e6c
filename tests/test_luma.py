"""The luma plane of frames of every pixel format, there and back."""

from __future__ import annotations

import hashlib
import io
import re
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from av.video.format import VideoFormat, names  # type: ignore[attr-defined]
from av.video.frame import PictureType
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from vfilter.errors import InputError
from vfilter.luma import EXPANDED, luma_depth, luma_plane, planar, with_luma

WIDTH, HEIGHT = 37, 23  # odd, and lines get padding

OUT_OF_REACH = re.compile("bayer|xyz|.*f(16|32)[lb]e$|(x2...10|xv30|v30x|y21.)be$")
HIGH_BITS = re.compile("p[024]1[02]|y21[02]|xv36|.*msb")


def is_supported(name: str) -> bool:
    bits = [component.bits for component in VideoFormat(name).components] or [0]
    in_range = min(bits) >= 8 and max(bits) <= 16
    return name in EXPANDED or (in_range and not OUT_OF_REACH.match(name))


SUPPORTED = sorted(filter(is_supported, names))
UNSUPPORTED = sorted(set(names) - set(SUPPORTED))
RGB = [name for name in SUPPORTED if VideoFormat(name).is_rgb and name not in EXPANDED]
GRAY_ALPHA = ["ya8", "ya16le", "ya16be"]
YUV = sorted({*SUPPORTED} - {*RGB} - {*EXPANDED} - {*GRAY_ALPHA})  # and gray
ONE_PLANE_PER_CHANNEL = [
    name
    for name in SUPPORTED
    if all(
        i == c.plane
        for i, c in enumerate(sorted(VideoFormat(name).components, key=lambda c: c.plane))
    )
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def lines_of(frame: av.VideoFrame, plane: int = 0) -> NDArray[np.uint8]:
    """The bytes of a plane with its padding, (lines, line size); writing goes to the frame."""
    memory = np.frombuffer(memoryview(frame.planes[plane]), np.uint8)
    return memory.reshape(-1, frame.planes[plane].line_size or memory.size)


def samples_of(frame: av.VideoFrame, plane: int = 0) -> NDArray[Any]:
    """The samples of a plane with its padding, (lines, samples), byte order as in the frame."""
    if frame.format.components[0].bits == 8:
        return lines_of(frame, plane)
    return lines_of(frame, plane).view(">u2" if frame.format.is_big_endian else "<u2")


def shift_of(frame: av.VideoFrame) -> int:
    """Bits below the codes in the samples of the frame."""
    depth = frame.format.components[0].bits
    return 16 - depth if HIGH_BITS.match(frame.format.name) else 0


def codes_of(frame: av.VideoFrame) -> list[NDArray[np.int64]]:
    """The codes of each plane of a frame that has a plane for every channel."""
    return [
        samples_of(frame, i)[:, : plane.width].astype(np.int64) >> shift_of(frame)
        for i, plane in enumerate(frame.planes)
    ]


def random_frame(name: str, rng: np.random.Generator) -> av.VideoFrame:
    """A frame of noise, padding included, with no code above the depth."""
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    depth = frame.format.components[0].bits
    for i in range(len(frame.planes)):
        memory = lines_of(frame, i)
        memory[...] = rng.integers(0, 256, memory.shape, dtype=np.uint8)
        if depth > 8 and name not in EXPANDED:
            samples = samples_of(frame, i)
            samples[...] = samples >> (16 - depth) << shift_of(frame)
    return frame


def random_luma(frame: av.VideoFrame, rng: np.random.Generator) -> NDArray[Any]:
    """Noise to give to `with_luma`; for RGB mild enough not to clip everywhere."""
    old = luma_plane(frame)
    top = (1 << luma_depth(frame)) - 1
    if not planar(frame).format.is_rgb:
        return rng.integers(0, top, old.shape, endpoint=True).astype(old.dtype)
    change = rng.integers(-top // 8, top // 8, old.shape)
    return np.clip(old + change, 0, top).astype(old.dtype)


def swscale(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """The frame as swscale converts it between full-range formats."""
    return frame.reformat(
        format=name, src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.JPEG, threads=1
    )


def green_blue_red(frame: av.VideoFrame) -> NDArray[np.int64]:
    """The codes of the three channels, (3, H, W), as swscale finds them."""
    if not frame.format.name.startswith("gbr"):
        frame = swscale(frame, "gbrp" if luma_depth(frame) == 8 else "gbrp16le")
    return np.array(codes_of(frame)[:3])


def filtered(frame: av.VideoFrame, name: str, options: str = "") -> list[av.VideoFrame]:
    """What the FFmpeg filter makes of the frame: itself changed, or nothing."""
    graph = av.filter.Graph()
    source = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base or 1),
    )
    graph.link_nodes(source, graph.add(name, options or None), graph.add("buffersink"))
    graph.configure()
    graph.vpush(frame)
    try:
        return [graph.vpull()]
    except (BlockingIOError, EOFError):
        return []


def h264_clip(rng: np.random.Generator) -> bytes:
    """12 frames of 64x48 of noise on the move, one I frame, then P and B frames, in Matroska."""
    scene = rng.integers(0, 256, (48, 64 + 24), dtype=np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=25, options={"g": "12", "bf": "2", "qp": "30"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(12):
            frame = av.VideoFrame.from_ndarray(scene[:, 2 * i : 2 * i + 64].copy(), format="gray")
            output.mux(stream.encode(frame.reformat(format="yuv420p")))
        output.mux(stream.encode(None))
    return file.getvalue()


def digest(frame: av.VideoFrame) -> str:
    return hashlib.md5(b"".join(c.tobytes() for c in codes_of(frame))).hexdigest()


@pytest.mark.parametrize("name", SUPPORTED)
def test_luma_has_the_size_and_depth_of_the_frame(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    luma = luma_plane(frame)
    assert luma.shape == (HEIGHT, WIDTH)
    assert luma.dtype == (np.uint8 if luma_depth(frame) == 8 else np.uint16)
    assert luma.dtype.isnative
    assert 8 <= luma_depth(frame) <= 16
    assert luma.max() >> luma_depth(frame) == 0


@pytest.mark.parametrize("name", YUV)
def test_luma_is_what_swscale_finds(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    np.testing.assert_array_equal(luma_plane(frame), codes_of(planar(frame))[0])


@pytest.mark.parametrize("name", GRAY_ALPHA)
def test_gray_with_alpha(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    np.testing.assert_array_equal(luma_plane(frame), samples_of(frame)[:, : 2 * WIDTH : 2])
    luma = random_luma(frame, rng)
    restored = samples_of(with_luma(frame, luma))[:, : 2 * WIDTH]
    np.testing.assert_array_equal(restored[:, ::2], luma)
    np.testing.assert_array_equal(restored[:, 1::2], samples_of(frame)[:, 1 : 2 * WIDTH : 2])


@pytest.mark.parametrize("name", ["yuv420p", "nv12", "gray", "yuv420p10le", "yuva420p", "yuyv422"])
def test_luma_is_a_read_only_view_where_it_can_be(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    luma = luma_plane(frame)
    first = luma[0, 0]
    samples_of(frame)[0, 0] ^= 1
    assert luma[0, 0] == first ^ 1
    with pytest.raises(ValueError, match="read-only"):
        luma[0, 0] = 0


@pytest.mark.parametrize("name", YUV)
def test_new_luma_leaves_chroma_and_alpha(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    luma = random_luma(frame, rng)
    restored = with_luma(frame, luma)
    assert restored.format.name == name
    np.testing.assert_array_equal(luma_plane(restored), luma)
    after, before = codes_of(planar(restored)), codes_of(planar(frame))
    np.testing.assert_array_equal(after[0], luma)
    for new, old in zip(after[1:], before[1:], strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_same_luma_gives_the_same_frame(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    same = with_luma(frame, luma_plane(frame))
    expected = planar(frame) if name in EXPANDED else frame
    size = luma_plane(expected).dtype.itemsize
    for i in range(len(expected.planes)):
        used = size * sum(c.width for c in expected.format.components if c.plane == i)
        np.testing.assert_array_equal(lines_of(same, i)[:, :used], lines_of(expected, i)[:, :used])


@pytest.mark.parametrize("name", SUPPORTED)
def test_the_frame_given_is_left_alone(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    before = [bytes(plane) for plane in frame.planes]
    with_luma(frame, random_luma(frame, rng))
    assert [bytes(plane) for plane in frame.planes] == before


@pytest.mark.parametrize("name", RGB)
def test_rgb_changes_by_the_change_of_luma(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    old, new = luma_plane(frame), random_luma(frame, rng)
    top = (1 << luma_depth(frame)) - 1
    restored = with_luma(frame, new)
    expected = np.clip(green_blue_red(frame) + (new - old.astype(np.int64)), 0, top)
    np.testing.assert_array_equal(green_blue_red(restored), expected)
    unclipped = ((expected > 0) & (expected < top)).all(axis=0)
    assert unclipped.mean() > 0.5
    np.testing.assert_array_equal(luma_plane(restored)[unclipped], new[unclipped])


@pytest.mark.parametrize("name", ["rgba", "bgra", "argb", "rgb0", "0bgr", "rgba64le", "bgra64be"])
def test_alpha_of_packed_rgb_is_untouched(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    restored = with_luma(frame, random_luma(frame, rng))
    alpha = slice(min(name.find(c) % 9 for c in "a0"), 4 * WIDTH, 4)
    np.testing.assert_array_equal(samples_of(restored)[:, alpha], samples_of(frame)[:, alpha])


@pytest.mark.parametrize("name", ["gbrap", "gbrap10le", "gbrap16be"])
def test_alpha_of_planar_rgb_is_untouched(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    restored = with_luma(frame, random_luma(frame, rng))
    np.testing.assert_array_equal(codes_of(restored)[3], codes_of(frame)[3])


@pytest.mark.parametrize(
    ("height", "matrix", "weights"),
    [
        (576, 2, (0.299, 0.587, 0.114)),
        (578, 2, (0.2126, 0.7152, 0.0722)),
        (576, 1, (0.2126, 0.7152, 0.0722)),
        (578, 5, (0.299, 0.587, 0.114)),
        (578, 6, (0.299, 0.587, 0.114)),
    ],
)
@pytest.mark.parametrize("name", ["rgb24", "rgb48le"])
def test_luma_of_rgb_is_weighted_by_matrix_or_size(
    name: str,
    height: int,
    matrix: int,
    weights: tuple[float, float, float],
    rng: np.random.Generator,
) -> None:
    frame = av.VideoFrame(16, height, name)
    frame.colorspace = matrix
    samples = samples_of(frame)
    samples[...] = rng.integers(0, np.iinfo(samples.dtype).max, samples.shape, endpoint=True)
    exact = samples[:, : 3 * 16].reshape(height, 16, 3) @ np.array(weights)
    # Half a code for rounding, a little for weights of 16 bits
    np.testing.assert_allclose(luma_plane(frame), exact, atol=0.51 if name == "rgb24" else 1.1)


@pytest.mark.parametrize("name", ["rgb24", "gbrp10le", "rgb48le", "bgra64be"])
def test_gray_rgb_has_its_own_code_for_luma(name: str) -> None:
    frame = av.VideoFrame(64, 16, name)
    depth = luma_depth(frame)
    for i in range(len(frame.planes)):
        samples_of(frame, i)[...] = np.linspace(0, (1 << depth) - 1, 16, dtype=int)[:, None]
    np.testing.assert_array_equal(luma_plane(frame)[:, 0], samples_of(frame)[:, 0])


def test_p010_gives_codes_of_10_bits() -> None:
    frame = av.VideoFrame(16, 16, "p010le")
    samples_of(frame)[...] = 1023 << 6
    assert luma_depth(frame) == 10
    assert np.all(luma_plane(frame) == 1023)
    restored = with_luma(frame, np.full((16, 16), 5, np.uint16))
    assert np.all(samples_of(restored)[:, :16] == 5 << 6)


def test_palette_comes_back_as_bgra(rng: np.random.Generator) -> None:
    frame = random_frame("pal8", rng)
    palette = np.frombuffer(memoryview(frame.planes[1]), np.uint8).reshape(256, 4)
    indices = lines_of(frame)[:, :WIDTH]
    restored = with_luma(frame, luma_plane(frame))
    assert restored.format.name == "bgra"
    colours = lines_of(restored)[:, : 4 * WIDTH].reshape(HEIGHT, WIDTH, 4)
    np.testing.assert_array_equal(colours, palette[indices])


@pytest.mark.parametrize("name", ["yuv420p", "yuv420p10le", "rgb24"])
def test_bottom_up_frames(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    luma = luma_plane(frame)
    (flipped,) = filtered(frame, "vflip")
    assert flipped.planes[0].line_size < 0
    np.testing.assert_array_equal(luma_plane(flipped), luma[::-1])
    assert luma_plane(flipped).strides[0] > 0
    restored = with_luma(flipped, luma_plane(flipped))
    np.testing.assert_array_equal(luma_plane(restored), luma[::-1])


def test_properties_are_kept(rng: np.random.Generator) -> None:
    frame = random_frame("yuv420p10le", rng)
    frame.pts, frame.dts, frame.duration, frame.time_base = 7, 6, 3, Fraction(1, 90000)
    frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 9, 1, 16, 9
    frame.pict_type = PictureType.I
    (frame,) = filtered(frame, "setfield", "tff")
    restored = with_luma(frame, random_luma(frame, rng))
    for name in ("pts", "dts", "duration", "time_base", "colorspace", "color_range", "color_trc"):
        assert getattr(restored, name) == getattr(frame, name), name
    assert restored.pts == 7
    assert restored.color_primaries == 9
    assert restored.interlaced_frame
    assert filtered(restored, "select", "eq(interlace_type,TOPFIRST)")
    assert restored.pict_type == PictureType.NONE
    assert frame.pict_type == PictureType.I


@pytest.mark.parametrize("name", ["yuv420p", "yuvj420p", "gray", "rgb24", "gbrp10le"])
@pytest.mark.parametrize("color_range", [0, 1, 2])
def test_any_matrix_and_range_tag_is_kept(
    name: str, color_range: int, rng: np.random.Generator
) -> None:
    frame = random_frame(name, rng)
    frame.color_range = color_range
    for matrix in range(18):
        frame.colorspace = matrix
        restored = with_luma(frame, luma_plane(frame))
        assert (restored.colorspace, restored.color_range) == (matrix, color_range)


def test_a_frame_without_times_stays_without(rng: np.random.Generator) -> None:
    frame = random_frame("yuv420p", rng)
    restored = with_luma(frame, luma_plane(frame))
    assert (restored.pts, restored.dts, restored.time_base) == (None, None, None)


def test_side_data_and_metadata_are_kept(rng: np.random.Generator) -> None:
    with av.open(io.BytesIO(h264_clip(rng)), "r") as clip:
        clip.streams.video[0].codec_context.options = {"flags2": "+export_mvs"}
        frame = list(clip.decode(video=0))[1]
    (frame,) = filtered(frame, "metadata", "mode=add:key=scene:value=harbour")
    restored = with_luma(frame, luma_plane(frame))
    vectors = frame.side_data["MOTION_VECTORS"]
    assert len(vectors) > 0
    assert bytes(restored.side_data["MOTION_VECTORS"]) == bytes(vectors)
    assert restored.metadata == {"scene": "harbour"}


@pytest.mark.parametrize("threads", ["NONE", "FRAME"])
def test_the_decoder_does_not_see_the_new_luma(threads: str, rng: np.random.Generator) -> None:
    file = h264_clip(rng)
    with av.open(io.BytesIO(file), "r") as clip:
        frames = list(clip.decode(video=0))
    assert {frame.pict_type for frame in frames} == {PictureType.I, PictureType.P, PictureType.B}
    with av.open(io.BytesIO(file), "r") as clip:
        clip.streams.video[0].thread_type = threads
        digests = []
        for frame in clip.decode(video=0):
            digests.append(digest(frame))
            with_luma(frame, np.zeros_like(luma_plane(frame)))
            with_luma(planar(frame), np.zeros_like(luma_plane(frame)))
    assert digests == [digest(frame) for frame in frames]


@pytest.mark.parametrize("subsampling", ["420", "422", "444", "440", "411"])
@pytest.mark.parametrize("color_range", [0, 1, 2])
def test_planar_relabels_yuvj(subsampling: str, color_range: int, rng: np.random.Generator) -> None:
    frame = random_frame(f"yuvj{subsampling}p", rng)
    frame.color_range, frame.colorspace, frame.pts = color_range, 5, 3
    relabelled = planar(frame)
    assert relabelled.format.name == f"yuv{subsampling}p"
    assert (relabelled.color_range, relabelled.colorspace, relabelled.pts) == (2, 5, 3)
    assert (frame.color_range, frame.colorspace) == (color_range, 5)
    for after, before in zip(codes_of(relabelled), codes_of(frame), strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("nv12", "yuv420p"),
        ("nv21", "yuv420p"),
        ("nv16", "yuv422p"),
        ("nv24", "yuv444p"),
        ("nv42", "yuv444p"),
        ("nv20le", "yuv422p10le"),
        ("p010le", "yuv420p10le"),
        ("p010be", "yuv420p10le"),
        ("p016le", "yuv420p16le"),
        ("p210le", "yuv422p10le"),
        ("p412le", "yuv444p12le"),
    ],
)
def test_planar_deinterleaves(
    name: str, target: str, color_range: int, rng: np.random.Generator
) -> None:
    frame = random_frame(name, rng)
    frame.color_range = color_range
    separate = planar(frame)
    assert (separate.format.name, separate.color_range) == (target, color_range)
    luma, *chroma = codes_of(separate)
    width, height = chroma[0].shape[::-1]
    pairs = samples_of(frame, 1)[:height, : 2 * width].astype(np.int64) >> shift_of(frame)
    if name in ("nv21", "nv42"):
        chroma.reverse()
    np.testing.assert_array_equal(luma, luma_plane(frame))
    np.testing.assert_array_equal(chroma[0], pairs[:, ::2])
    np.testing.assert_array_equal(chroma[1], pairs[:, 1::2])


def test_planar_is_the_same_each_time(rng: np.random.Generator) -> None:
    # swscale's slice threads, were they on, would now and then damage lines of this width
    frame = random_frame("p010le", rng)
    assert {digest(planar(frame)) for _ in range(200)} == {digest(planar(frame))}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("yuyv422", "yuv422p"),
        ("y210le", "yuv422p10le"),
        ("vuya", "yuva444p"),
        ("xv36be", "yuv444p12le"),
        ("uyyvyy411", "yuv411p"),
        ("yuv420p10be", "yuv420p10le"),
        ("gray16be", "gray16le"),
        ("rgb48be", "rgb48le"),
        ("pal8", "bgra"),
        ("rgb555le", "rgb24"),
    ],
)
def test_planar_unpacks(name: str, target: str, rng: np.random.Generator) -> None:
    assert planar(random_frame(name, rng)).format.name == target


@pytest.mark.parametrize("name", [n for n in ONE_PLANE_PER_CHANNEL if n.endswith("be")])
def test_planar_swaps_bytes_only(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    for after, before in zip(codes_of(planar(frame)), codes_of(frame), strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", ["yuv420p", "yuva444p12le", "gray", "gray10le", "gbrp", "rgb24"])
def test_planar_gives_planar_frames_back(name: str, rng: np.random.Generator) -> None:
    frame = random_frame(name, rng)
    assert planar(frame) is frame


@pytest.mark.parametrize(
    "luma",
    [
        np.zeros((HEIGHT, WIDTH + 1), np.uint8),
        np.zeros((HEIGHT, WIDTH, 1), np.uint8),
        np.zeros((HEIGHT, WIDTH), np.uint16),
        np.zeros((HEIGHT, WIDTH), np.float32),
    ],
)
def test_luma_of_another_shape_or_type_is_refused(luma: NDArray[Any]) -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    received = re.escape(f"got {luma.dtype} of shape {luma.shape}")
    with pytest.raises(ValueError, match=rf"must be uint8 of shape \(23, 37\), {received}"):
        with_luma(frame, luma)


@pytest.mark.parametrize("name", [n for n in UNSUPPORTED if VideoFormat(n).components])
def test_unsupported_formats_are_named_with_a_remedy(name: str) -> None:
    frame = av.VideoFrame(WIDTH, HEIGHT, name)
    lines_of(frame)[...] = 0
    for use in (luma_plane, luma_depth, planar, lambda f: with_luma(f, np.zeros((1, 1)))):
        with pytest.raises(InputError, match=f"pixel format {name} .* ffmpeg -i") as raised:
            use(frame)
    remedy = re.search("-pix_fmt (\\S+)", str(raised.value))
    assert remedy is not None
    assert remedy[1] in SUPPORTED


@pytest.mark.parametrize("name", ["bayer_rggb8", "xyz12le", "gbrpf32le", "grayf32le", "rgb444le"])
def test_the_remedy_for_unsupported_formats_works(name: str) -> None:
    frame = av.VideoFrame(64, 48, name)
    lines_of(frame)[...] = 0
    with pytest.raises(InputError) as raised:
        luma_plane(frame)
    remedy = re.search("-pix_fmt (\\S+)", str(raised.value))
    assert remedy is not None
    assert luma_plane(swscale(frame, remedy[1])).shape == (48, 64)


def test_frames_on_a_device_are_refused() -> None:
    class DeviceFrame:
        format = VideoFormat("cuda")

    with pytest.raises(InputError, match=r"pixel format cuda .* without hardware acceleration"):
        luma_plane(DeviceFrame())  # type: ignore[arg-type]
