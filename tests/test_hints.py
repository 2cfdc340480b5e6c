"""What MJPEG tells of its compression, and what the restorer makes of it."""

from __future__ import annotations

import io
import json
import math
import shutil
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from vfilter.bitstream import (
    Hints,
    jpeg_hints,
    nearest_quality,
    scaled_luma_table,
)
from vfilter.coefficients import Spectrum, evenness, restored_by_blocks, smoothness
from vfilter.errors import InputError
from vfilter.luma import luma_plane
from vfilter.pipeline import restore_video
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of
from vfilter.weights import load, trained_for

Luma = NDArray[np.uint8]

BASIS = np.cos((2 * np.arange(8) + 1) * np.arange(8)[:, None] * np.pi / 16) / 2
BASIS[0] /= np.sqrt(2)
"""The DCT of 8 values, by its definition (ITU-T T.81, A.3.3)."""

METADATA = {"network": "l4", "objective": "residual", "codec": "jpeg"}


def plane(height: int, width: int) -> Luma:
    return np.rint(media.scene(3, height, width, 0) * 255).astype(np.uint8)


def gray_jpeg(luma: Luma, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(luma).save(file, "JPEG", quality=quality)
    return file.getvalue()


def decoded(jpeg: bytes) -> Luma:
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.uint8).copy()


def error(image: Luma, original: Luma) -> float:
    return float(np.mean((image.astype(float) - original) ** 2))


def mjpeg(path: Path, jpegs: list[bytes]) -> Path:
    """An AVI of the JPEGs, which are of `media.WIDTH` x `media.HEIGHT`, at k/15 s."""
    with av.open(path, "w") as output:
        stream: Any = output.add_mux_stream(
            "mjpeg", rate=15, width=media.WIDTH, height=media.HEIGHT
        )
        stream.time_base = Fraction(1, 15)
        for index, jpeg in enumerate(jpegs):
            packet = av.Packet(jpeg)
            packet.stream, packet.time_base = stream, Fraction(1, 15)
            packet.pts = packet.dts = index
            packet.is_keyframe = True
            output.mux(packet)
    return path


@pytest.mark.parametrize("quality", [5, 10, 25, 50, 75, 90, 95, 100])
def test_libjpegs_tables_are_read_and_named(quality: int) -> None:
    hints = jpeg_hints(gray_jpeg(plane(16, 16), quality))
    assert hints.luma_table == tuple(scaled_luma_table(quality))
    assert hints.jpeg_quality == quality


def test_a_foreign_table_is_placed_by_strength() -> None:
    flat = tuple([16] * 64)
    assert 60 <= nearest_quality(flat) <= 85


@pytest.mark.parametrize("damage", [b"", b"no JPEG at all", b"\xff\xd8\xff\xdb\x00\x43\x00"])
def test_a_damaged_header_tells_nothing(damage: bytes) -> None:
    assert jpeg_hints(damage) == Hints(codec="mjpeg")


def test_a_zero_table_tells_nothing() -> None:
    jpeg = bytearray(gray_jpeg(plane(16, 16), 50))
    table = jpeg.index(b"\xff\xdb") + 5
    jpeg[table : table + 64] = bytes(64)
    assert jpeg_hints(bytes(jpeg)) == Hints(codec="mjpeg")


def test_luma_may_name_another_table_than_the_first() -> None:
    jpeg = bytearray(gray_jpeg(plane(16, 16), 50))
    jpeg[jpeg.index(b"\xff\xdb") + 4] = 2  # the table's number
    jpeg[jpeg.index(b"\xff\xc0") + 12] = 2  # the component's
    assert jpeg_hints(bytes(jpeg)).jpeg_quality == 50


def test_tables_of_16_bits_are_read() -> None:
    jpeg = gray_jpeg(plane(16, 16), 50)
    start = jpeg.index(b"\xff\xdb")
    steps = jpeg[start + 5 : start + 69]
    wide = b"\xff\xdb" + (131).to_bytes(2, "big") + b"\x10" + b"".join(bytes([0, s]) for s in steps)
    hints = jpeg_hints(jpeg[:start] + wide + jpeg[start + 69 :])
    assert hints.luma_table == tuple(scaled_luma_table(50))


@pytest.mark.filterwarnings("error")
def test_tables_of_a_size_that_nothing_decodes_are_read() -> None:
    jpeg = bytearray(gray_jpeg(plane(16, 16), 50))
    size = jpeg.index(b"\xff\xc0") + 5
    jpeg[size : size + 4] = b"\xff\xff\xff\xff"
    assert jpeg_hints(bytes(jpeg)).jpeg_quality == 50


def test_a_table_that_is_cut_off_tells_nothing() -> None:
    jpeg = gray_jpeg(plane(16, 16), 50)
    start = jpeg.index(b"\xff\xdb")
    for cut in range(start, start + 69):
        assert jpeg_hints(jpeg[:cut]) == Hints(codec="mjpeg")


def test_a_photograph_with_a_small_one_in_its_exif(tmp_path: Path) -> None:
    """Neither is it taken for two fields, nor do its Exif stop what reads other side data."""
    small = gray_jpeg(plane(12, 16), 30)
    tags = [(0x0103, 3, 6), (0x0201, 4, 56), (0x0202, 4, len(small))]  # JPEG, where, how long
    lists = [struct.pack("<H", 0), struct.pack("<IH", 14, len(tags))]
    lists += [struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags]
    exif = b"Exif\0\0II*\0" + struct.pack("<I", 8) + b"".join(lists) + struct.pack("<I", 0)
    file = io.BytesIO()
    Image.fromarray(plane(48, 64)).save(file, "JPEG", quality=80, exif=exif + small)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert file.getvalue().count(small) == 1
    with Source(tmp_path / "a.jpg") as source:
        (frame,) = (item for item in source if isinstance(item, VideoFrame))
    assert not frame.interlaced_frame
    assert hints_of(frame).jpeg_quality == 80


def test_hints_check_what_they_are_given() -> None:
    with pytest.raises(ValueError, match="64 positive steps"):
        Hints(luma_table=(1, 2, 3))
    with pytest.raises(ValueError, match="finite"):
        Hints(codec="h264", qp=np.full((2, 2), np.nan, np.float32))
    with pytest.raises(ValueError, match="positive"):
        Hints(codec="hevc", bits_per_pixel=0.0)
    given: Any = np.full(64, 16)
    assert Hints(luma_table=given) == Hints(luma_table=(16,) * 64)


def test_fields_of_one_table_tell_it_and_of_two_none() -> None:
    coarse, fine = (gray_jpeg(plane(16, 16), quality) for quality in (20, 80))
    for between in (b"", bytes(3)):
        assert jpeg_hints(coarse + between + coarse).jpeg_quality == 20
        assert jpeg_hints(coarse + between + fine) == Hints(codec="mjpeg")
    assert jpeg_hints(coarse + without_tables(fine)).jpeg_quality == 20
    assert jpeg_hints(fine + gray_jpeg(plane(8, 8), 20)).jpeg_quality == 80, "a small copy"


def test_a_table_serves_the_packets_without_one(tmp_path: Path) -> None:
    jpegs = [media.jpeg(0, 30), *(without_tables(media.jpeg(i, 30)) for i in range(1, 6))]
    with Source(mjpeg(tmp_path / "a.avi", jpegs)) as source:
        frames = [item for item in source if isinstance(item, av.VideoFrame)]
    assert [hints_of(frame).jpeg_quality for frame in frames] == [30] * 6


def test_a_film_that_was_cut_off_within_a_jpeg_is_told(tmp_path: Path) -> None:
    """FFmpeg's decoder fills the rest with gray, and says nothing."""
    jpegs = [media.jpeg(index, 90) for index in range(6)]
    whole = mjpeg(tmp_path / "whole.avi", jpegs).read_bytes()
    path = tmp_path / "a.avi"
    path.write_bytes(whole[: whole.index(jpegs[3]) + len(jpegs[3]) * 2 // 3])
    with Source(path) as source:
        assert sum(isinstance(item, av.VideoFrame) for item in source) == 4
        assert source.damaged == 1
    with Source(path, strict=True) as source, pytest.raises(InputError, match="incomplete"):
        list(source)


def without_tables(jpeg: bytes) -> bytes:
    """A JPEG without its segments of quantization tables (DQT)."""
    while (start := jpeg.find(b"\xff\xdb")) >= 0:
        length = int.from_bytes(jpeg[start + 2 : start + 4], "big")
        jpeg = jpeg[:start] + jpeg[start + 2 + length :]
    return jpeg


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize("shape", [(48, 64), (45, 61), (9, 8), (7, 30)])
@pytest.mark.parametrize("quality", [10, 40, 90])
def test_projection_brings_an_estimate_nearer(
    shape: tuple[int, int], quality: int, kind: Callable[[NDArray[Any]], Any]
) -> None:
    original = plane(*shape)
    before = decoded(gray_jpeg(original, quality))
    change = np.random.default_rng(1).normal(0, 12 / 255, shape).astype(np.float32)
    table = tuple(scaled_luma_table(quality))
    after, estimate = (
        np.asarray(restored_by_blocks(kind(before), kind(change), 1.0, None, steps))
        for steps in (table, None)
    )
    whole = np.clip(np.rint(before + 255 * change.astype(float)), 0, 255)
    assert after.dtype == np.uint8 and np.abs(estimate - whole).max() <= 1
    assert error(after, original) <= error(estimate, original)
    assert min(shape) < 10 or error(after, original) < error(estimate, original)


def test_projection_leaves_what_is_possible_alone() -> None:
    original = plane(48, 64)
    before = decoded(gray_jpeg(original, 30))
    change = (original.astype(np.float32) - before) / np.float32(255)
    after = restored_by_blocks(before, change, 1.0, None, tuple(scaled_luma_table(30)))
    assert np.abs(after.astype(int) - original).max() <= 1


def test_projection_allows_for_the_rounding_of_the_decoder() -> None:
    """Half a code beyond half a step, seen by the highest pixel of a cosine wave."""
    before = np.full((8, 8), 128, np.uint8)
    wave = np.cos((2 * np.arange(8) + 1) * np.pi / 16)
    residual = (np.outer(wave, wave) * 40 / 255).astype(np.float32)
    for step in (4, 8, 16):
        after = restored_by_blocks(before, residual, 1.0, None, (step,) * 64)
        highest = (step / 2 + 0.5) * wave[0] ** 2 / 4
        assert after.max() - 128 == round(highest)


def test_projection_leaves_blocks_that_are_not_of_the_table_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
    estimate = plane(48, 64)
    change = (estimate.astype(np.float32) - noise) / np.float32(255)
    after = restored_by_blocks(noise, change, 1.0, None, tuple(scaled_luma_table(10)))
    np.testing.assert_array_equal(after, estimate)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize("shape", [(40, 56), (8, 8), (16, 24), (264, 520)])
def test_trust_is_by_the_energy_around_each_coefficient(
    shape: tuple[int, int], kind: Callable[[NDArray[Any]], Any]
) -> None:
    """Held against the definition, block by block; in several parts where the plane is large."""
    rows, columns = (length // 8 for length in shape)
    rng = np.random.default_rng(2)
    residual = rng.normal(0, 0.02, shape).astype(np.float32)
    residual[: shape[0] // 2] *= np.float32(0.1)
    tolerated = rng.uniform(0.5, 50, 64)
    spectrum = Spectrum(kind(residual), tolerated)
    trusted = np.concatenate([np.asarray(spectrum.trusted(part)) for part in spectrum.parts])
    blocks = 255 * residual.astype(float).reshape(rows, 8, columns, 8).swapaxes(1, 2)
    coefficients = BASIS @ blocks @ BASIS.T
    squares = coefficients**2
    expected = np.empty_like(coefficients)
    for row, column in np.ndindex(rows, columns):
        around = squares[max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
        energy = 0.7 * around.mean((0, 1)) + 0.3 * squares.mean((0, 1))
        factors = 1 / np.sqrt(1 + (energy / tolerated.reshape(8, 8)) ** 2)
        expected[row, column] = factors * coefficients[row, column]
    found = 255 * trusted.reshape(rows, 8, columns, 8).swapaxes(1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize("shape", [(40, 56), (8, 8), (16, 24), (264, 520), (21, 30)])
@pytest.mark.parametrize(("dtype", "full"), [(np.uint8, 255), (np.int32, 1023)])
def test_smoothness_is_by_the_least_texture_around(
    shape: tuple[int, int], kind: Callable[[NDArray[Any]], Any], dtype: type[Any], full: int
) -> None:
    luma = np.rint(np.random.default_rng(4).normal(full / 2, full / 60, shape))
    luma[: shape[0] // 2] = full // 2
    found = smoothness(kind(luma.astype(dtype)), 20.0, full=full)
    whole = np.pad(luma, [(0, -length % 8) for length in shape], mode="symmetric") * (255 / full)
    rows, columns = (length // 8 for length in whole.shape)
    blocks = whole.reshape(rows, 8, columns, 8).swapaxes(1, 2)
    energy = ((BASIS @ blocks @ BASIS.T) ** 2)[..., 4:, 4:].mean((2, 3))
    assert found.shape == (rows, columns) and found.dtype == np.float32
    for row, column in np.ndindex(rows, columns):
        least = energy[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].min()
        assert found[row, column] == pytest.approx(1 / (1 + least / 20), rel=1e-3)


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_evenness_is_by_the_share_of_equal_neighbours(
    kind: Callable[[NDArray[Any]], Any], dtype: type[Any]
) -> None:
    luma = np.zeros((16, 21), dtype)
    luma[:8, 8:16] = np.arange(64).reshape(8, 8)
    luma[8:, 8:16] = np.arange(8) // 2  # 56 pairs down and 32 across of 112 are alike
    luma[:8, :8] = np.indices((8, 8)).sum(0) % 2 * 90  # chequered
    luma[8:, :8] = np.arange(8)  # half of the pairs
    expected = [[0, 0, 1], [(0.5 - 0.4) / 0.4, (88 / 112 - 0.4) / 0.4, 1]]
    np.testing.assert_allclose(evenness(kind(luma)), expected, rtol=1e-5)


def test_even_blocks_of_fine_h264_are_left_alone() -> None:
    """Squares of four pixels as they were drawn, taken for what two quantizers left."""
    rng = np.random.default_rng(6)
    drawn = rng.integers(16, 236, (16, 16)).astype(np.uint8).repeat(4, 0).repeat(4, 1)
    changes = []
    with Restorer("l4-h264") as restorer:
        for qp in (24, 34):
            hints = Hints(codec="h264", qp=np.full((4, 4), qp))
            changes.append(error(restorer.luma(drawn, hints=hints), drawn))
        assert restorer.model.evenness(hints) < 0.1
    assert changes[0] < 0.01 and changes[1] > 1
    model = load("l4-h264")
    assert model.evenness(Hints(codec="h264", qp=np.full((4, 4), 28))) == pytest.approx(0.5)
    fine = np.full((4, 4), 4)
    for other in (Hints(), Hints(luma_table=(8,) * 64), Hints(codec="mpeg4", qp=fine)):
        assert load("l4-jpeg").evenness(other) == 0


@pytest.mark.parametrize("deviation", [2, 4, 8])
def test_grain_that_a_fine_source_has_kept_is_left_to_it(deviation: int) -> None:
    """MPEG-4 at quantiser scale 2: how far grain is trusted, and a chequer on a plain ground."""
    rng = np.random.default_rng(5)
    hints = Hints(codec="mpeg4", qp=np.full((4, 4), 4))
    chequered = np.full((64, 64), 100, np.uint8)
    chequered[16:24, 16:24] += (np.indices((8, 8)).sum(0) % 2 * 100).astype(np.uint8)
    grain = np.rint(128 + rng.normal(0, deviation, (64, 64))).astype(np.uint8)
    model = load("l4-mpeg")
    texture = model.texture(hints)
    assert texture is not None and texture == pytest.approx(2 * 4**2 / 12)
    assert model.texture(Hints()) is None
    assert model.texture(Hints(luma_table=(8,) * 64)) is None
    assert model.texture(Hints(codec="mjpeg")) is None
    assert smoothness(grain, texture).mean() < 1.2 / (1 + deviation**2 / 2 / texture)
    assert smoothness(chequered, texture).min() == 1


def test_grain_is_left_alone_by_a_model_without_limits_too(model: Path) -> None:
    grain = np.random.default_rng(7).integers(90, 170, (64, 64), dtype=np.uint8)
    with Restorer(model) as restorer:
        told = restorer.luma(grain, hints=Hints(codec="av1"))
        blind = restorer.luma(grain)
    assert 0 < error(told, grain) < 0.5 * error(blind, grain)


@pytest.mark.parametrize("shape", [(43, 61), (6, 6), (16, 4), (7, 40), (1, 1)])
def test_blocks_that_the_border_cuts_are_mirrored(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    before = rng.integers(60, 190, shape, dtype=np.uint8)
    residual = rng.normal(0, 0.04, shape).astype(np.float32)
    tolerated = rng.uniform(5, 50, 64)
    after = restored_by_blocks(before, residual, 1.0, tolerated, None)
    width = [(0, -length % 8) for length in shape]
    whole = restored_by_blocks(
        np.pad(before, width, mode="symmetric"),
        np.pad(residual, width, mode="symmetric"),
        1.0,
        tolerated,
        None,
    )
    np.testing.assert_array_equal(after, whole[: shape[0], : shape[1]])
    assert (after != before).any() or before.size == 1


def test_strength_of_each_block() -> None:
    before = np.full((13, 22), 100, np.uint8)
    residual = np.full((13, 22), 20 / 255, np.float32)
    strength = np.array([[0, 1, 0.5], [0.25, 2, 0]], np.float32)
    after = restored_by_blocks(before, residual, strength, None, None)
    expected = 100 + np.kron(20 * strength, np.ones((8, 8)))
    np.testing.assert_array_equal(after, expected[:13, :22])
    deep = restored_by_blocks(before.astype(np.uint16), residual, strength, None, None, full=1023)
    assert deep.dtype == np.uint16 and deep[0, 8] == 100 + round(1023 * 20 / 255)


def test_frames_carry_the_table_of_their_own_packet(tmp_path: Path) -> None:
    qualities = [20, 20, 80, 80, 35]
    path = mjpeg(tmp_path / "a.avi", [media.jpeg(i, q) for i, q in enumerate(qualities)])
    with Source(path) as source:
        frames = [item for item in source if isinstance(item, av.VideoFrame)]
        assert [hints_of(frame).jpeg_quality for frame in frames] == qualities
    with Source(path, hints=False) as source:
        assert hints_of(source.first) == Hints()


def test_each_frame_gains_where_the_quality_switches(tmp_path: Path) -> None:
    """Coarse, fine, and coarse again: the strength follows from frame to frame."""
    qualities = [20, 20, 92, 92, 20]
    jpegs = [media.jpeg(index, quality) for index, quality in enumerate(qualities)]
    changed = []
    with Source(mjpeg(tmp_path / "a.avi", jpegs)) as source, Restorer("l4") as restore:
        for index, frame in enumerate(f for f in source if isinstance(f, av.VideoFrame)):
            original = np.rint(media.scene(index, media.HEIGHT, media.WIDTH, 0) * 255)
            before, after = luma_plane(frame), luma_plane(restore(frame, hints=hints_of(frame)))
            assert error(after, original) <= error(before, original)
            changed.append(error(after, before))
    assert max(changed[2:4]) < min(changed[0], changed[1], changed[4]) / 4


def test_the_encoding_is_as_fine_as_the_better_part_needs(tmp_path: Path) -> None:
    """It was chosen by the first frame, so that what was better lost by it."""
    qualities = [20] * 6 + [95] * 6
    path = mjpeg(tmp_path / "a.avi", [media.jpeg(i, q) for i, q in enumerate(qualities)])
    left = []
    for lossless in (True, False):
        restore_video(path, tmp_path / "o.mkv", model="l4", lossless=lossless, overwrite=True)
        with av.open(tmp_path / "o.mkv") as container:
            planes = [luma_plane(frame) for frame in container.decode(video=0)]
        original = [np.rint(media.scene(i, media.HEIGHT, media.WIDTH, 0) * 255) for i in range(12)]
        left.append([error(*pair) for pair in zip(planes[6:], original[6:], strict=True)])
    assert np.mean(left[1]) < 1.02 * np.mean(left[0])


@pytest.mark.parametrize(
    ("model", "codec", "told"),
    [
        ("l4", "libx264", ""),
        ("l4-jpeg", "libx264", "l4-jpeg was trained on jpeg, not on the likes of h264"),
        ("l4", "libx265", "hevc tells no quality"),
    ],
)
def test_what_the_strength_cannot_know_is_told(
    model: str, codec: str, told: str, tmp_path: Path
) -> None:
    path = media.video_file(tmp_path / "a.mkv", codec, frames=12, crf="45")  # of few bits
    plan = restore_video(path, tmp_path / "out.mkv", model=model).plan
    assert told in "; ".join(plan.notes)
    assert bool(plan.notes) == bool(told)


def test_no_engine_is_made_that_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    whole = Restorer._engine

    def counted(self: Restorer, model: Any) -> Any:
        made.append(model.name)
        return whole(self, model)

    monkeypatch.setattr(Restorer, "_engine", counted)
    restore_video(media.video_file(tmp_path / "a.mp4"), tmp_path / "out.mp4", model="l4")
    assert set(made) == {"l4-h264"}


def test_blocks_tell_their_quantizer(tmp_path: Path) -> None:
    with Source(media.video_file(tmp_path / "a.mp4", qp="30")) as source:
        hints = hints_of(source.first)
    assert hints.codec == "h264"
    assert hints.qp is not None
    assert hints.qp.shape == (media.HEIGHT // 16, media.WIDTH // 16)
    assert 20 <= hints.qp.mean() <= 34


def test_every_frame_tells_its_own_quantizers(tmp_path: Path) -> None:
    """Those of a whole picture: threads of the decoder once told of half-decoded ones."""
    path = media.video_file(
        tmp_path / "a.mkv", width=640, height=352, frames=16, bf="2", **media.ALWAYS_B
    )
    told = []
    for _ in range(4):
        with Source(path) as source:
            maps = [hints_of(item).qp for item in source if isinstance(item, VideoFrame)]
        told.append([[] if qp is None else qp.tolist() for qp in maps])
    assert all(20 <= np.min(qp) <= np.max(qp) <= 34 for qp in told[0])
    assert all(again == told[0] for again in told)


def test_quantizers_are_of_the_columns_that_are_coded(tmp_path: Path) -> None:
    shown = {}
    for crop in (0, 20):  # of 64
        path = tmp_path / f"{crop}.mkv"
        cropping = f"crop-rect=0,0,{crop},0"
        with Source(media.video_file(path, crf="26", **{"x264-params": cropping})) as source:
            assert source.first.width == media.WIDTH - crop
            shown[crop] = hints_of(source.first).qp
    np.testing.assert_array_equal(shown[20], shown[0])


def test_quantizers_of_10_bit_count_from_those_of_8(tmp_path: Path) -> None:
    means = []
    for pix_fmt in ("yuv420p", "yuv420p10le"):
        path = media.video_file(tmp_path / f"{pix_fmt}.mkv", crf="26", pix_fmt=pix_fmt)
        with Source(path) as source:
            qp = hints_of(source.first).qp
        assert qp is not None
        means.append(float(qp.mean()))
    assert abs(means[0] - means[1]) < 3


def test_frames_of_vp9_tell_one_quantizer(tmp_path: Path) -> None:
    quantizers = []
    for crf in ("10", "50"):
        path = media.video_file(tmp_path / f"{crf}.webm", "libvpx-vp9", crf=crf, b="0")
        with Source(path) as source:
            qp = hints_of(source.first).qp
        assert qp is not None and qp.shape == (1, 1)
        quantizers.append(float(qp[0, 0]))
    assert 0 < quantizers[0] < quantizers[1] < 256


@pytest.mark.parametrize(
    ("encoder", "ending"),
    [("flv", "flv"), ("rv10", "rm"), ("rv20", "rm"), ("msmpeg4v3", "avi"), ("wmv2", "avi")],
)
def test_kin_of_mpeg4_tells_its_quantizers(tmp_path: Path, encoder: str, ending: str) -> None:
    path = media.video_file(tmp_path / f"a.{ending}", encoder, qmin="7", qmax="7")
    with Source(path) as source:
        hints = hints_of(source.first)
    assert hints.qp is not None
    assert hints.qp.shape == (media.HEIGHT // 16, media.WIDTH // 16)
    assert set(hints.qp.ravel()) == {14}
    assert trained_for(hints) == "mpeg"


def test_a_file_tells_its_bits(tmp_path: Path) -> None:
    path = media.video_file(tmp_path / "a.mp4", "libx265", frames=8, crf="10")
    with av.open(str(path)) as container:
        sizes = [packet.size for packet in container.demux(video=0)]
    with Source(path) as source:
        told = hints_of(source.first).bits_per_pixel
    assert told == pytest.approx(8 * sum(sizes) / (8 * media.WIDTH * media.HEIGHT), rel=0.2)


def test_a_lossless_codec_tells_of_no_compression(tmp_path: Path) -> None:
    with Source(media.video_file(tmp_path / "a.mkv", "ffv1")) as source:
        assert hints_of(source.first) == Hints()


def test_each_block_has_its_strength(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vfilter.weights.TEXTURE", math.inf)  # not by its texture, too
    fitted = tmp_path / "fitted"
    shutil.copytree(model, fitted)
    (fitted / "metrics.json").write_text(json.dumps({"strength": {"h264": {"20": 0.0, "40": 1.0}}}))
    before = plane(45, 61)
    qp = np.full((3, 4), 20, np.float32)
    qp[:, 2:] = 40
    with Restorer(fitted, tile=16) as restore, Restorer(model) as full:
        after = restore.luma(before, hints=Hints(codec="h264", qp=qp))
        whole = full.luma(before)
        np.testing.assert_array_equal(after[:, :24], before[:, :24])
        np.testing.assert_allclose(after[:, 40:], whole[:, 40:], atol=1)  # by its DCT
        of_another_size = restore.luma(before, hints=Hints(codec="h264", qp=qp[:1]))
        half = (before + whole.astype(float)) / 2  # by the mean strength
        assert np.abs(of_another_size - half).max() <= 1
        fields = np.repeat(qp[:2], 2, axis=0)  # 64 lines, in fields of 32
        fields[:, :] = [[20], [20], [40], [40]]
        field = restore.luma(before[:32], hints=Hints(codec="h264", qp=fields))
        np.testing.assert_array_equal(field[:12], before[:12])
        np.testing.assert_allclose(field[20:], full.luma(before[:32])[20:], atol=1)
        untold = restore.model.strength(Hints(codec="hevc"))
        assert untold == pytest.approx(0.3)


def test_a_codec_without_a_curve_is_taken_for_h264(model: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted"
    shutil.copytree(model, fitted)
    (fitted / "metrics.json").write_text(
        json.dumps({"strength": {"h264": {"20": 0.2, "30": 0.7}, "hevc": {"0": 0.6}}})
    )
    with Restorer(fitted) as restore:
        told = {
            codec: restore.model.strength(Hints(codec=codec, qp=np.full((1, 1), 99, np.float32)))
            for codec in ("vp9", "mpeg4")
        }
        assert list(told.values()) == pytest.approx([0.5, 0.5])  # of QP 26
        assert restore.model.strength(Hints(codec="av1")) == pytest.approx(0.5)
        between = Hints(codec="av1", bits_per_pixel=0.5)  # of .25 to 1
        assert restore.model.strength(between) == pytest.approx(0.25)
        assert restore.model.strength(Hints(codec="hevc")) == pytest.approx(0.6)
        assert restore.model.strength(Hints(codec="prores")) == 0.0
        for bits, strength in ((0.1, 0.6), (0.5, 0.3), (2.0, 0.0)):
            hints = Hints(codec="hevc", bits_per_pixel=bits)
            assert restore.model.strength(hints) == pytest.approx(strength)


def test_mpeg_without_quantizers_is_taken_for_a_good_one(model: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted"
    shutil.copytree(model, fitted)
    curve = {"4": 0.2, "12": 0.6}
    (fitted / "metrics.json").write_text(json.dumps({"strength": {"mpeg2video": curve}}))
    with Restorer(fitted) as restore:
        for codec in ("mpeg2video", "mpeg1video", "vc1", "asv1"):
            assert restore.model.strength(Hints(codec=codec)) == pytest.approx(0.4)  # scale 4
        damaged = Hints(codec="mpeg2video", qp=np.zeros((3, 4)))
        assert restore.model.strength(damaged) == pytest.approx(0.4)


def test_strength_follows_the_quality_where_it_was_fitted(model: Path, tmp_path: Path) -> None:
    fitted = tmp_path / "fitted"
    shutil.copytree(model, fitted)
    (fitted / "metrics.json").write_text(
        json.dumps({"strength": {"mjpeg": {"20": 1.0, "60": 0.0}}})
    )
    before = decoded(gray_jpeg(plane(48, 64), 60))
    at_60 = Hints(luma_table=tuple(scaled_luma_table(60)))
    at_40 = Hints(luma_table=tuple(scaled_luma_table(40)))
    with Restorer(fitted, project=False) as restore, Restorer(fitted, strength=0.5) as half:
        np.testing.assert_array_equal(restore.luma(before, hints=at_60), before)
        np.testing.assert_array_equal(restore.luma(before, hints=at_40), half.luma(before))
        assert restore.model.strength(Hints()) == 1.0
        for codec in ("mjpeg", "amv", "mjpegb", "sp5x"):
            assert restore.model.strength(Hints(codec=codec)) == 0.0  # as of quality 80


@pytest.mark.parametrize(
    ("hints", "steps"),
    [
        (Hints(luma_table=(6,) * 64), 6),
        (Hints(luma_table=(4,) * 8 + (8,) * 56), np.array([4] * 8 + [8] * 56)),
        (Hints(codec="h264", qp=np.array([[16]])), 4),
        (Hints(codec="mpeg4", qp=np.array([[10]])), 10),
        (Hints(codec="mpeg2video", qp=np.array([[10]])), 10),
        (Hints(codec="h264", qp=np.array([[4, 10]])), 2.5**0.5),
    ],
)
def test_quantization_explains_a_twelfth_of_its_squared_step(hints: Hints, steps: Any) -> None:
    assert hints.explained_error == pytest.approx(steps**2 / 12)


def test_the_steps_of_vp9_are_those_of_its_table() -> None:
    for index, step in ((1, 8), (40, 47), (96, 104), (128, 176), (255, 1828)):  # ac_qlookup, about
        told = Hints(codec="vp9", qp=np.array([[index]])).explained_error
        assert told == pytest.approx((step / 8) ** 2 / 12, rel=0.15)


@pytest.mark.parametrize("codec", [None, "hevc", "prores"])
def test_nothing_is_explained_where_no_steps_are_told(codec: str | None) -> None:
    assert Hints(codec=codec).explained_error is None


def test_quantizers_of_damaged_frames_explain_nothing() -> None:
    damaged = Hints(codec="mpeg4", qp=np.zeros((3, 4)))
    assert damaged.explained_error is None
    with Restorer("l4") as restore:
        assert restore.luma(plane(48, 64), hints=damaged).shape == (48, 64)


def test_a_residual_beyond_what_quantization_explains_is_distrusted(
    model: Path, tmp_path: Path
) -> None:
    fitted = tmp_path / "fitted"
    shutil.copytree(model, fitted)
    limits = {"h264": 0.5, "mjpeg": 0.25}
    (fitted / "metrics.json").write_text(
        json.dumps({"strength": {"h264": {"26": 1.0}}, "limits": limits})
    )
    before = plane(48, 64)
    at = {qp: Hints(codec="h264", qp=np.full((3, 4), qp)) for qp in (2, 30, 51)}
    with Restorer(fitted) as restore, Restorer(model) as full:
        change = full.luma(before).astype(float) - before
        changes = [
            restore.luma(before, hints=hints).astype(float) - before for hints in at.values()
        ]
        sums = [float((some * change).sum() / (change**2).sum()) for some in changes]
        assert sums[0] < 0.1 < sums[2] / 2 and sums == sorted(sums)
        assert full.model.tolerated(at[2]) is None
        assert restore.model.tolerated(Hints()) is None
        told = restore.model.tolerated(at[30])
        assert told == pytest.approx(0.5 * at[30].explained_error)
        usual = restore.model.tolerated(Hints(codec="rv40"))  # as H.264 of QP 26
        assert usual == pytest.approx(restore.model.tolerated(Hints(codec="h264")))
        jpeg = restore.model.tolerated(Hints(luma_table=(6,) * 32 + (60,) * 32))
        assert jpeg == pytest.approx(np.repeat([0.75, 75], 32))
        unread = restore.model.tolerated(Hints(codec="mjpeg"))
        assert unread == pytest.approx(0.25 * scaled_luma_table(80) ** 2 / 12)


def test_texture_that_quantization_cant_have_damaged_is_left() -> None:
    """A zone plate, which a network takes for ringing throughout."""
    axis = np.arange(192.0) ** 2
    original = np.rint(127.5 + 127 * np.cos(np.add.outer(axis, axis) * np.pi / 384)).astype(
        np.uint8
    )
    with Restorer("l8") as restore:
        for quality, loss in ((60, 0.6), (80, 0.1), (90, 0.1)):
            before = decoded(gray_jpeg(original, quality))
            hints = Hints(luma_table=tuple(scaled_luma_table(quality)))
            lost = {
                name: 10 * np.log10(error(after, original) / error(before, original))
                for name, after in (
                    ("blind", restore.luma(before)),
                    ("told", restore.luma(before, hints=hints)),
                )
            }
            assert lost["blind"] > 6 and lost["told"] < loss


def test_weights_are_those_for_the_codec(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    for name in ("l4-jpeg", "l4-h264"):
        shutil.copytree(model, models / name)
    monkeypatch.setattr("vfilter.weights.models_folder", lambda: models)
    with Restorer("l4") as restore:
        chosen = {
            codec: restore.model_for(Hints(codec=codec)).name
            for codec in (None, "mjpeg", "amv", "h264", "hevc", "av1", "mpeg4", "rv20", "asv1")
        }
    assert {codec for codec, name in chosen.items() if name == "l4-h264"} == {"h264", "hevc", "av1"}
    assert set(chosen.values()) == {"l4-h264", "l4-jpeg"}  # no weights for MPEG in this folder
    for asked in ("l4-jpeg", models / "l4-jpeg"):
        with Restorer(asked) as forced:
            assert forced.model_for(Hints(codec="h264")).name == "l4-jpeg"


def test_a_network_for_one_quality_serves_where_it_fits(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    for name, fits in (("l4-jpeg", None), ("l4-q20", [16, 30]), ("l4-q40", [26, 55])):
        shutil.copytree(model, models / name)
        (models / name / "metrics.json").write_text(json.dumps({"fits": fits} if fits else {}))
    weights = load_file(models / "l4-q40/weights.safetensors")
    for name, quality in (("l4-q20", "20"), ("l4-q40", "40")):
        told = METADATA | {"quality_min": quality, "quality_max": quality}
        save_file(weights, models / name / "weights.safetensors", told)
    monkeypatch.setattr("vfilter.weights.models_folder", lambda: models)

    def chosen(restore: Restorer, quality: int) -> str:
        return restore.model_for(Hints(luma_table=tuple(scaled_luma_table(quality)))).name

    qualities = (10, 15, 16, 20, 25, 27, 30, 31, 55, 56, 90)
    with Restorer("l4") as restore:
        names = [chosen(restore, quality).removeprefix("l4-") for quality in qualities]
        untold = restore.model_for(Hints(codec="mjpeg")).name
    blind = "jpeg"
    assert names == [blind] * 2 + ["q20"] * 4 + ["q40"] * 3 + [blind] * 2
    assert untold == "l4-jpeg"
    with Restorer("l4-jpeg") as forced:
        assert chosen(forced, 20) == "l4-jpeg"


def test_a_network_for_coarse_sources_serves_their_frames(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    fits = {"l4-h264-coarse": [28, 51], "l4-mpeg-coarse": [10, 62]}
    for name in ("l4-jpeg", "l4-h264", "l4-mpeg", *fits):
        shutil.copytree(model, models / name)
        found = {"fits": fits[name]} if name in fits else {}
        (models / name / "metrics.json").write_text(json.dumps(found))
    monkeypatch.setattr("vfilter.weights.models_folder", lambda: models)

    def chosen(restore: Restorer, codec: str, *quantizers: float) -> str:
        hints = Hints(codec=codec, qp=np.array([quantizers], np.float32))
        return restore.model_for(hints).name.removeprefix("l4-")

    with Restorer("l4") as restore:
        assert chosen(restore, "h264", 20, 34) == "h264"
        assert chosen(restore, "h264", 20, 36) == "h264-coarse"
        assert chosen(restore, "mpeg4", 9) == chosen(restore, "mpeg2video", 4) == "mpeg"
        assert chosen(restore, "wmv2", 10) == chosen(restore, "mpeg2video", 62) == "mpeg-coarse"
        assert chosen(restore, "vp9", 40) == "h264"  # on a scale of its own
        assert restore.model_for(Hints(codec="h264")).name == "l4-h264"
    with Restorer("l4-h264") as forced:
        assert chosen(forced, "h264", 36) == "h264"


def test_the_restorer_projects_planes_and_fields(model: Path) -> None:
    original = plane(48, 64)
    before = decoded(gray_jpeg(original, 60))
    hints = Hints(luma_table=tuple(scaled_luma_table(60)))
    with Restorer(model) as restore, Restorer(model, project=False) as free:
        projected, unprojected = restore.luma(before, hints=hints), free.luma(before, hints=hints)
        assert error(projected, original) < error(unprojected, original)
        interlaced = np.repeat(before, 2, axis=0)
        frame = av.VideoFrame.from_ndarray(interlaced, format="gray")
        flagged = media.fields(frame, "tff")
        both = restore(flagged, hints=hints).to_ndarray()
        np.testing.assert_array_equal(both[::2], projected)
        np.testing.assert_array_equal(both[1::2], projected)
        ten_bits = restore.luma(before.astype(np.uint16), depth=10, hints=hints)
        unprojected = free.luma(before.astype(np.uint16), depth=10, hints=hints)
        np.testing.assert_array_equal(ten_bits, unprojected)  # a table is of 8 bits


def test_damaged_strengths_are_named(model: Path, tmp_path: Path) -> None:
    from vfilter.errors import ModelError

    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    for metrics in ({"strength": {"mjpeg": {"20": "strong"}}}, {"limits": {"mjpeg": 0}}):
        (broken / "metrics.json").write_text(json.dumps(metrics))
        with Restorer(broken) as restore, pytest.raises(ModelError, match="damaged"):
            restore.luma(plane(16, 16), hints=Hints(luma_table=tuple([16] * 64)))


@pytest.mark.parametrize("table", [np.full((8, 8), 16), ["a"] * 64, [None] * 64, 16, [np.inf] * 64])
def test_a_table_that_is_none_is_told(table: Any) -> None:
    with pytest.raises(ValueError, match="luma_table must be 64 positive steps, got"):
        Hints(luma_table=table)
