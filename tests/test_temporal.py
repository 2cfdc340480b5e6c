"""What the frames around add to a frame."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import av
import cv2
import media
import numpy as np
import pytest
from av.video.frame import PictureType
from numpy.typing import NDArray
from safetensors.numpy import save_file
from typer.testing import CliRunner

from training.data import gray_frame
from training.strength import AGREEMENTS, fit_agreements
from vfilter.bitstream import Hints, scaled_luma_table
from vfilter.cli import app
from vfilter.coefficients import CONSISTENT
from vfilter.comparison.degrade import degrade
from vfilter.errors import ModelError
from vfilter.luma import luma_plane
from vfilter.networks import L4
from vfilter.overlap import behind
from vfilter.pipeline import restore_video
from vfilter.preview import write_preview
from vfilter.restorer import Restorer
from vfilter.source import Source, hints_of
from vfilter.temporal import SHARES, Temporal, added, moved
from vfilter.weights import load

Luma = NDArray[np.uint8]

QUALITY = 30
TOLD = Hints(luma_table=tuple(scaled_luma_table(QUALITY).tolist()))
METRICS: dict[str, dict[str, Any]] = {
    "strength": {"mjpeg": {"10": 1.0, "95": 1.0}, "h264": {"0": 1.0}},
    "limits": {"mjpeg": 0.56},
    "agreements": {"mjpeg": 2.0},
}


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose network changes nothing, so that all that changes is by the neighbours."""
    return silent(tmp_path_factory.mktemp("still"), METRICS)


def silent(folder: Path, metrics: dict[str, Any]) -> Path:
    """A model in `folder` all of whose weights are zeros."""
    weights = {name: np.zeros(shape, np.float32) for name, shape in L4.shapes.items()}
    told = {"network": "l4", "objective": "residual", "codec": "jpeg"}
    told |= {"quality_min": "50", "quality_max": "50"}
    save_file(weights, folder / "weights.safetensors", told)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def pan(count: int, height: int = 96, width: int = 128, step: float = 2.5) -> list[Luma]:
    """A view (height, width) that pans to the right over a picture."""
    rng = np.random.default_rng(0)
    wide = cv2.resize(
        rng.random((height // 6, width // 3)).astype(np.float32) * 255,
        (width * 2, height),
        interpolation=cv2.INTER_CUBIC,
    )
    views = []
    for index in range(count):
        shift = np.array([[1, 0, -step * index], [0, 1, 0]])
        view = cv2.warpAffine(wide, shift, (width * 2, height), flags=cv2.INTER_CUBIC)
        views.append(np.clip(np.rint(view[:, width // 2 :][:, :width]), 0, 255).astype(np.uint8))
    return views


def compressed(planes: Sequence[Luma], quality: int = QUALITY) -> list[Luma]:
    """What a JPEG of `quality` makes of each."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return [cv2.imdecode(cv2.imencode(".jpg", p, options)[1], cv2.IMREAD_GRAYSCALE) for p in planes]


def frame_of(plane: NDArray[Any], format: str = "gray") -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(plane, format=format)


def finished(
    model: Path, frames: Sequence[av.VideoFrame], hints: Hints = TOLD, **arguments: Any
) -> list[NDArray[Any]]:
    """The luma of the frames with what those around them add."""
    done: list[NDArray[Any]] = []
    with Restorer(model, **arguments) as restore:
        temporal = Temporal(restore, lambda frame: done.append(luma_plane(frame)))
        for frame in frames:
            temporal.add(frame, restore.luma_of(frame, hints=hints), hints)
        temporal.end()
    return done


def helped(
    model: Path, planes: Sequence[NDArray[Any]], hints: Hints = TOLD, **arguments: Any
) -> list[NDArray[Any]]:
    """The planes with what those around them add."""
    formats = ("gray" if plane.dtype == np.uint8 else "gray10le" for plane in planes)
    frames = [frame_of(*pair) for pair in zip(planes, formats, strict=True)]
    return finished(model, frames, hints, **arguments)


def error(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.mean((one.astype(float) - other) ** 2))


def test_neighbours_help_where_the_picture_moves(still: Path) -> None:
    clean = pan(6)
    damaged = compressed(clean)
    found = helped(still, damaged)
    for before, after, original in zip(damaged, found, clean, strict=True):
        assert error(after, original) < 0.8 * error(before, original)
    ends, middle = error(found[0], clean[0]), error(found[2], clean[2])
    assert middle < ends, "two neighbours on each side are more than two on one"


def test_a_frame_alone_stays_as_it_is(still: Path) -> None:
    (damaged,) = compressed(pan(1))
    (found,) = helped(still, [damaged])
    assert np.array_equal(found, damaged)


def test_frames_that_are_the_same_stay_as_they_are(still: Path) -> None:
    (damaged,) = compressed(pan(1))
    for found in helped(still, [damaged] * 5):
        assert np.array_equal(found, damaged)


def test_a_repeated_frame_doesnt_hide_those_beyond_it(still: Path) -> None:
    clean = pan(4)
    damaged = compressed(clean)
    found = helped(still, [damaged[0], damaged[1], damaged[1], damaged[2]])
    assert error(found[1], clean[1]) < 0.9 * error(damaged[1], clean[1])


def test_nothing_comes_across_a_cut(still: Path) -> None:
    before, after = compressed(pan(3)), compressed([255 - p[::-1] for p in pan(3)])
    found = helped(still, before + after)
    alone = helped(still, before) + helped(still, after)
    for one, other in zip(found, alone, strict=True):
        assert error(one, other) < 0.5


def test_what_is_only_in_one_frame_stays_there(still: Path) -> None:
    planes = compressed(pan(5), 80)
    flash = planes[2].copy()
    flash[40:56, 40:56] = 255
    told = Hints(luma_table=tuple(scaled_luma_table(80).tolist()))
    found = helped(still, [*planes[:2], flash, *planes[3:]], told, project=False)
    assert (found[2][42:54, 42:54] > 250).all()
    for index in (1, 3):
        assert error(found[index][40:56, 40:56], planes[index][40:56, 40:56]) < 4


def test_a_helped_frame_is_within_what_its_table_leaves_possible(tmp_path: Path) -> None:
    eager = silent(tmp_path, METRICS | {"agreements": {"mjpeg": 1e6}, "limits": {}})
    damaged = compressed([*pan(3), *(255 - plane[::-1] for plane in pan(2))])
    steps = np.array(TOLD.luma_table).reshape(8, 8)

    def outside(plane: NDArray[Any]) -> float:
        """By how many codes a coefficient is out of its interval at most."""
        found = 0.0
        for top, left in product(range(0, plane.shape[0], 8), range(0, plane.shape[1], 8)):
            block = np.s_[top : top + 8, left : left + 8]
            was, now = (cv2.dct(p[block].astype(float) - 128) for p in (damaged[2], plane))
            apart = abs(now - np.round(was / steps) * steps) - steps / 2
            if abs(was - np.round(was / steps) * steps).max() <= CONSISTENT:
                found = max(found, apart.max())
        return found

    # the codes are rounded, and those at the ends cut
    assert outside(helped(eager, damaged)[2]) < 4
    assert outside(helped(eager, damaged, project=False)[2]) > 40


@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_strength_is_for_neighbours_too(still: Path, strength: float) -> None:
    damaged = compressed(pan(3))
    whole, part = helped(still, damaged), helped(still, damaged, strength=strength)
    assert error(part[1], damaged[1]) <= 2 * strength * error(whole[1], damaged[1])


def test_frames_of_which_nothing_is_known_are_passed_on_at_once(still: Path) -> None:
    done: list[av.VideoFrame] = []
    planes = compressed(pan(4))
    with Restorer(still) as restore:
        temporal = Temporal(restore, done.append)
        for number, plane in enumerate(planes):
            temporal.add(frame_of(plane), plane, Hints())
            assert len(done) == number + 1
        temporal.add(frame_of(planes[0]), planes[0], TOLD)
        temporal.add(frame_of(planes[1]), planes[1], Hints())
    assert len(done) == 6
    for frame, plane in zip(done, [*planes, planes[0], planes[1]], strict=True):
        assert np.array_equal(luma_plane(frame), plane)


def test_frames_are_finished_in_order_with_what_came_with_them(still: Path) -> None:
    done: list[tuple[int, str]] = []
    with Restorer(still) as restore:
        temporal = Temporal(restore, lambda frame, more: done.append((frame.pts, more)))
        for number, plane in enumerate(compressed(pan(7))):
            frame = frame_of(plane)
            frame.pts = number
            temporal.add(frame, plane, TOLD, f"no {number}")
            assert len(done) == max(0, number + 1 - len(SHARES))
        temporal.end()
    assert done == [(number, f"no {number}") for number in range(7)]


def test_what_comes_after_the_end_is_no_neighbour(still: Path) -> None:
    planes = compressed(pan(6))
    done: list[NDArray[Any]] = []
    with Restorer(still) as restore:
        temporal = Temporal(restore, lambda frame: done.append(luma_plane(frame)))
        for number, plane in enumerate(planes):
            if number == 3:
                temporal.end()
            temporal.add(frame_of(plane), plane, TOLD)
        temporal.end()
    for one, other in zip(done, helped(still, planes[:3]) + helped(still, planes[3:]), strict=True):
        assert np.array_equal(one, other)


def test_fields_are_helped_by_those_of_their_parity(still: Path) -> None:
    planes = compressed(pan(5))
    pairs = zip(planes, planes[::-1], strict=True)
    woven = [np.stack(pair, axis=1).reshape(192, 128) for pair in pairs]
    done = finished(still, [media.fields(frame_of(plane), "tff") for plane in woven])
    first, second = helped(still, planes), helped(still, planes[::-1])
    for frame, one, two in zip(done, first, second, strict=True):
        assert np.array_equal(frame[::2], one)
        assert np.array_equal(frame[1::2], two)


def test_whole_frames_are_no_neighbours_of_fields(still: Path) -> None:
    planes = compressed(pan(4))
    orders = ("prog", "prog", "tff", "prog")
    frames = [media.fields(frame_of(p), order) for p, order in zip(planes, orders, strict=True)]
    done = finished(still, frames)
    assert np.array_equal(done[2], planes[2])
    assert np.array_equal(done[3], planes[3])


def test_ten_bits_are_helped_as_eight_are(tmp_path: Path) -> None:
    planes = compressed(pan(5))
    hints = Hints(codec="h264", qp=np.full((6, 8), 34))
    metrics = METRICS | {"agreements": {"h264": 4.0}, "limits": {"h264": 0.5}}
    folder = silent(tmp_path, metrics)
    eight = helped(folder, planes, hints)
    ten = helped(folder, [plane.astype(np.uint16) * 4 for plane in planes], hints)
    assert error(eight[2], planes[2]) > 1
    for one, other in zip(eight, ten, strict=True):
        assert np.abs(other / 4 - one).max() <= 1.1


def test_a_film_may_change_its_size(still: Path) -> None:
    planes = compressed(pan(4))
    mixed = [planes[0], planes[1][:48], planes[2].astype(np.uint16) * 4, planes[3]]
    for found, plane in zip(helped(still, mixed), mixed, strict=True):
        assert np.array_equal(found, plane)


@pytest.mark.parametrize(
    ("height", "width"), [(1, 1), (2, 300), (15, 17), (16, 16), (24, 240), (31, 320), (32, 33)]
)
def test_small_frames(still: Path, height: int, width: int) -> None:
    planes = [p[:height, :width] for p in compressed(pan(4, 64, 320))]
    found = helped(still, planes)
    assert [plane.shape for plane in found] == [(height, width)] * 4


@pytest.mark.parametrize("height", [96, 95])
@pytest.mark.parametrize("width", [128, 127])
def test_a_moved_plane(height: int, width: int) -> None:
    plane = pan(1)[0][:height, :width]
    motion = np.zeros((2, 48, 64), np.float32)
    motion[0], motion[1] = 1.5, -1
    whole = moved(plane, motion, slice(0, height))
    assert np.array_equal(whole[2:, :-3], plane[:-2, 3:])
    assert np.array_equal(whole[0, :-3], plane[0, 3:]), "edges are repeated"
    motion += np.random.default_rng(0).normal(0, 1, motion.shape)
    whole = moved(plane, motion, slice(0, height))
    for lines in (slice(0, 9), slice(9, 30), slice(60, height)):
        assert np.array_equal(moved(plane, motion, lines), whole[lines])


def test_motion_is_that_of_squares_of_four_pixels() -> None:
    """Each square's is where its middle is, and pixels between are between."""
    columns = np.tile(np.arange(128, dtype=np.float32), (96, 1))
    motion = np.zeros((2, 48, 64), np.float32)
    motion[0] = np.arange(64) / 4
    found = moved(columns, motion, slice(0, 96))[:, 2:60] - columns[:, 2:60]
    assert found == pytest.approx(np.tile((np.arange(2, 60) - 0.5) / 4, (96, 1)), abs=0.05)


@pytest.mark.parametrize(("apart", "weight"), [(0, 0.5), (2, 0.25), (20, 0.5 / (1 + 100**1.5))])
def test_what_is_added(apart: float, weight: float) -> None:
    plane = np.full((20, 30), 100, np.uint8)
    other = np.full((20, 30), 100 + apart, np.float32)
    change = added(plane, [(0.5, other)], agreement=4.0)
    assert change == pytest.approx(np.full((20, 30), apart * weight / (1 + weight)), abs=1e-4)


def test_planes_that_are_the_same_but_for_a_corner() -> None:
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (96, 128)).astype(np.uint8)
    other = plane.astype(np.float32)
    other[:40, :40] = rng.uniform(0, 255, (40, 40))
    assert np.isfinite(added(plane, [(0.5, other)], agreement=1e-3)).all()


@pytest.mark.parametrize(("away", "factor"), [(2, 0.95), (3, 0.98)])
def test_a_frame_further_away_helps_too(away: int, factor: float, still: Path) -> None:
    clean = pan(away + 1)
    damaged = compressed(clean)
    near, further = helped(still, damaged[:-1])[0], helped(still, damaged)[0]
    assert error(further, clean[0]) < factor * error(near, clean[0])


def test_strips_leave_no_seam(still: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = compressed(pan(3))
    whole = helped(still, damaged)
    for lines in (7, 16, 1000):
        monkeypatch.setattr("vfilter.temporal.LINES", lines)
        assert all(map(np.array_equal, helped(still, damaged), whole))


def test_both_ways_are_found_from_one_search(still: Path) -> None:
    clean = pan(2)
    damaged = compressed(clean)
    found = helped(still, damaged)
    left = [error(f, c) / error(d, c) for f, d, c in zip(found, damaged, clean, strict=True)]
    assert max(left) < 0.85
    assert abs(left[0] - left[1]) < 0.05


def test_a_frame_that_it_was_predicted_from_tells_less(still: Path) -> None:
    damaged = compressed(pan(3))

    def changed(types: Sequence[PictureType], index: int) -> float:
        """How much the others change the frame at `index`."""
        frames = [frame_of(plane) for plane in damaged[: len(types)]]
        for frame, kind in zip(frames, types, strict=True):
            frame.pict_type = kind
        return error(finished(still, frames)[index], damaged[index])

    i, p, b = PictureType.I, PictureType.P, PictureType.B
    free = changed((i, i), 1)
    assert changed((i, p), 1) < 0.8 * free, "it was predicted from the one before"
    assert changed((i, p), 0) == changed((i, i), 0), "the one after was predicted from it"
    assert changed((b, p), 0) < 0.8 * changed((i, i), 0), "B frames are, from both sides"
    assert changed((b, p), 1) == free, "nothing is from a B frame"
    assert changed((i, i), 1) == changed((PictureType.NONE,) * 2, 1)
    assert changed((i, PictureType.S), 1) == changed((i, p), 1), "as P frames are"
    assert changed((p, p, p), 2) < changed((p, i, p), 2), "nothing is from beyond an I frame"


@pytest.mark.parametrize("temporal", [False, True])
def test_grain_that_a_film_has_kept_is_left_to_it(temporal: bool, tmp_path: Path) -> None:
    """A still picture with grain, by MPEG-4 at quantiser scale 2."""
    rng = np.random.default_rng(6)
    picture = pan(1)[0].astype(float)
    grainy = [picture + rng.normal(0, 4, picture.shape) for _ in range(5)]
    clean = [np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in grainy]
    degrade(map(gray_frame, clean), "mpeg4", 2, tmp_path / "f.mkv")
    with Source(tmp_path / "f.mkv") as source, Restorer("l8") as restore:
        frames = [item for item in source if isinstance(item, av.VideoFrame)]
        one_by_one = (restore(frame, hints=hints_of(frame)) for frame in frames)
        restored = list(restore.film(frames) if temporal else one_by_one)
    before, after = (
        sum(error(luma_plane(frame), plane) for frame, plane in zip(film, clean, strict=True))
        for film in (frames, restored)
    )
    assert after < 1.03 * before


def test_a_film_by_the_command_is_that_of_the_restorer(still: Path, tmp_path: Path) -> None:
    path, output = media.camera(tmp_path / "in.avi"), tmp_path / "out.mkv"
    restore_video(path, output, model=still, lossless=True)
    with Source(path) as source, Restorer(still) as restore:
        frames = [item for item in source if isinstance(item, av.VideoFrame)]
        expected = [luma_plane(frame) for frame in restore.film(frames)]
        source_too = [luma_plane(frame) for frame in restore.film([av.Packet(1), *frames])]
        assert all(map(np.array_equal, expected, source_too)), "what is no frame is passed over"
        alone = [luma_plane(restore(frame, hints=hints_of(frame))) for frame in frames]
    with av.open(output) as container:
        found = [luma_plane(frame) for frame in container.decode(video=0)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(expected[3], alone[3])

    restore_video(path, output, model=still, lossless=True, temporal=False, overwrite=True)
    with av.open(output) as container:
        for frame, other in zip(container.decode(video=0), alone, strict=True):
            assert np.array_equal(luma_plane(frame), other)


def test_a_film_left_early_leaves_no_thread(still: Path) -> None:
    before = threading.active_count()
    with Restorer(still) as restore:
        film = restore.film(map(gray_frame, pan(6)))
        next(film)
        assert threading.active_count() == before + 1
        film.close()
    assert threading.active_count() == before


def test_a_film_is_of_frames(model: Path) -> None:
    with Restorer(model) as restore, pytest.raises(TypeError, match=r"the path 'in\.mp4'"):
        next(restore.film("in.mp4"))  # type: ignore[arg-type]


def test_raw_frames_come_out_one_by_one(still: Path) -> None:
    given: list[av.VideoFrame] = []

    def frames() -> Iterator[av.VideoFrame]:
        for plane in pan(4):
            given.append(gray_frame(plane))
            yield given[-1]

    with Restorer(still) as restore:
        assert [len(given) for _ in restore.film(frames())] == [1, 2, 3, 4]


def test_nothing_is_done_behind_an_error() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        if number == 1:
            raise MemoryError("no more")
        done.append(number)

    with pytest.raises(MemoryError, match="no more"), behind(5) as later:
        for number in range(4):
            later(work, number)
    assert done == [0]


def test_an_error_beside_the_network_is_the_film_s(
    still: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(Temporal, "_helped", broken)
    with (
        Source(media.camera(tmp_path / "in.avi")) as source,
        Restorer(still) as restore,
        pytest.raises(MemoryError, match="no more"),
    ):
        list(restore.film(source))


def test_no_segment_depends_on_another(still: Path, tmp_path: Path) -> None:
    path, output = media.camera(tmp_path / "in.avi"), tmp_path / "out.mkv"
    for resume in (True, False):
        restore_video(
            path,
            output,
            model=still,
            lossless=True,
            segment=0.35,
            resume=resume,
            overwrite=True,
        )
        with av.open(output) as container:
            found = [luma_plane(frame) for frame in container.decode(video=0)]
        with Source(path) as source, Restorer(still) as restore:
            frames = [item for item in source if isinstance(item, av.VideoFrame)]
            parts: dict[int, list[av.VideoFrame]] = {}
            for frame in frames:
                assert frame.pts is not None
                parts.setdefault(int(frame.pts * source.time_base / 0.35), []).append(frame)
            wanted = [luma_plane(f) for part in parts.values() for f in restore.film(part)]
        assert len(parts) > 1
        for one, other in zip(found, wanted, strict=True):
            assert np.array_equal(one, other)


def test_a_preview_is_helped_by_the_frames_after(still: Path, tmp_path: Path) -> None:
    path, picture = media.camera(tmp_path / "in.avi"), tmp_path / "look.png"
    shown = []
    for temporal in (True, False):
        with Restorer(still) as restore:
            write_preview(path, picture, restore, start=0, temporal=temporal, overwrite=True)
        shown.append(cv2.imread(str(picture)))
    assert not np.array_equal(*shown)


@pytest.mark.parametrize("option", [[], ["--no-temporal"], ["--no-hints"], ["--strength", "0"]])
def test_a_dry_run_tells_of_it(still: Path, tmp_path: Path, option: list[str]) -> None:
    path = media.camera(tmp_path / "in.avi")
    result = CliRunner().invoke(app, [str(path), "out.mp4", "-m", str(still), "--dry-run", *option])
    assert result.exit_code == 0
    assert ("helped by those around it" in result.stdout) == (not option)


def test_agreement_grows_with_the_step(still: Path, tmp_path: Path) -> None:
    model = load(still)
    for quality in (20, 80):
        table = scaled_luma_table(quality)
        told = Hints(luma_table=tuple(table.tolist()))
        factor = METRICS["agreements"]["mjpeg"]
        explained = np.exp(np.log(table**2 / 12).mean())
        assert model.agreement(told) == pytest.approx(factor * explained ** (2 / 3))
    assert model.agreement(Hints()) is None
    assert load(silent(tmp_path, {})).agreement(TOLD) is None


def test_how_far_neighbours_are_to_agree_is_fitted(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.strength.training_clips", lambda _: [])
    monkeypatch.setattr("training.strength.QUALITIES", (10, 20, 40, 60))
    model = load("l4-q20")
    found = fit_agreements(model, data)
    assert found.keys() == {"mjpeg"} and found["mjpeg"] in AGREEMENTS
    monkeypatch.setattr("training.strength.AGREEMENTS", (1e-9,))
    assert fit_agreements(model, data) == {}, "where nothing is gained there is none"


@pytest.mark.parametrize("agreements", [[], {"mjpeg": 0}, {"mjpeg": "wide"}])
def test_damaged_agreements(tmp_path: Path, agreements: object) -> None:
    model = load(silent(tmp_path, METRICS | {"agreements": agreements}))
    with pytest.raises(ModelError, match=r"metrics of .* are damaged"):
        model.agreement(TOLD)
