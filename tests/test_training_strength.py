"""What is fitted to a trained network: where it serves, and what int8 needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.calibrate import calibrate, losses
from training.data import gray_frame, jpeg
from training.drawings import drawing, drawn_film
from training.recipes import RECIPES
from training.samples import Pictures, sample_batch
from training.sources import GRAIN, drawn_frames, gains, grainy_frames
from training.strength import QUALITIES, fit_codec, fit_jpeg, fit_quantizers
from vfilter.comparison.degrade import degrade
from vfilter.luma import luma_plane
from vfilter.networks import L4
from vfilter.weights import Model, load


def idle(model: Model) -> Model:
    """`model` with a last layer of zeros, which changes nothing."""
    last = f"layers.{len(model.network.layers) - 1}."
    weights = {k: v * (not k.startswith(last)) for k, v in model.weights.items()}
    return replace(model, name="idle", weights=weights)


def test_a_better_network_serves_from_the_lowest_quantizer_at_which_it_is_better() -> None:
    model = load("l4-mpeg")
    clips = [drawn_film(96, 8, np.random.default_rng(3))]
    low, high = fit_quantizers(model, idle(model), ["mpeg4"], clips)
    assert 0 < low < high == 62
    assert fit_quantizers(idle(model), model, ["mpeg4"], clips) == []


def test_strength_does_not_rise_towards_fine_quantizers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.strength.FEWEST", 30)
    clips = [
        drawn_film(96, 8, np.random.default_rng(4)),
        drawn_film(96, 8, np.random.default_rng(5)),
    ]
    curve, limit = fit_codec(load("l4-h264"), "h264", clips)
    factors = [curve[point] for point in sorted(curve, key=float)]
    assert len(factors) > 2 and factors == sorted(factors) and 0 < factors[-1] <= 2
    assert limit > 0


def test_strength_by_jpeg_quality() -> None:
    planes = [drawing(96, np.random.default_rng(i)) for i in range(3)]
    curve, limit = fit_jpeg(load("l4-jpeg"), planes)
    assert [int(quality) for quality in curve] == list(QUALITIES)
    assert 0 <= curve["95"] < curve["10"] <= 2 and limit > 0


def test_without_quantizers_there_is_one_strength() -> None:
    curve, limit = fit_codec(load("l4-h264"), "vp8", [drawn_film(96, 8, np.random.default_rng(6))])
    assert list(curve) == ["0"] and 0 < curve["0"] <= 2 and limit > 0


def test_calibration_is_the_highest_activation() -> None:
    model = load("l4-jpeg")
    plane = drawing(64, np.random.default_rng(1))
    weight, bias = model.weights["layers.0.weight"], model.weights["layers.0.bias"]
    highest = np.zeros(len(bias))
    for quality in (10, 40, 90):
        codes = jpeg(plane, quality).astype(np.float32) / 255 - 0.5
        windows = np.lib.stride_tricks.sliding_window_view(codes, (11, 11))
        first = np.einsum("hwij,oij->hwo", windows, weight[:, 0]) + bias
        highest = np.maximum(highest, first.max((0, 1)))
    maxima = calibrate(model, [plane])
    np.testing.assert_allclose(maxima[0], highest, atol=1e-4)
    assert [len(layer) for layer in maxima] == [layer.channels for layer in L4.layers[:-1]]


def test_what_int8_loses() -> None:
    (row,) = losses(load("l4-q20"), [drawing(96, np.random.default_rng(2))])
    assert (row["model"], row["quality"]) == ("l4-q20", 20)
    assert float(row["loss"]) == pytest.approx(float(row["gain"]) - float(row["int8"]), abs=0.002)


def test_gains_on_drawn_films() -> None:
    film = drawn_frames(2)[0]
    assert luma_plane(film[0]).shape == (320, 320)
    row = next(gains([film], "l4", ["mpeg2video"]))
    assert row["codec"] == "mpeg2video" and row["told"] == row["worst"]


@pytest.mark.parametrize("drawn", [0.0, 1.0])
def test_drawn_crops_are_none_of_the_photographs(drawn: float) -> None:
    """The photographs are of one code."""
    recipe = replace(RECIPES["l8-jpeg"], drawn=drawn, crop=48)
    photographs = [np.full((64, 64), 100, np.uint8)]
    _, clean, _ = sample_batch(Pictures(photographs), recipe, 0)
    alike = np.ptp(clean.numpy(), axis=(1, 2, 3)) == 0
    assert alike.all() if drawn == 0 else not alike.all()


def test_some_drawings_are_pixel_art() -> None:
    """All of their edges are a whole number of squares apart."""
    sides = set()
    for seed in range(24):
        plane = drawing(96, np.random.default_rng(seed)).astype(int)
        assert plane.shape == (96, 96)
        edges = [np.flatnonzero(np.diff(plane, axis=axis).any(1 - axis)) for axis in (0, 1)]
        sides.add(int(np.gcd.reduce(np.concatenate([np.diff(lines) for lines in edges]))))
    assert {1, 2, 5, 6} <= sides


def test_grainy_frames(tmp_path: Path) -> None:
    """Still, at most 320 pixels square, of even sides, and with the deviation that is told."""
    clip = tmp_path / "clip.mkv"
    degrade([gray_frame(np.full((360, 334), 120, np.uint8))] * 2, "h264", 1, clip)
    ((one, two),) = grainy_frames([clip], 2)
    planes = [luma_plane(frame).astype(float) for frame in (one, two)]
    assert [plane.shape for plane in planes] == [(320, 320)] * 2
    for plane in (planes[0] - 120, (planes[0] - planes[1]) / np.sqrt(2)):
        assert plane.std() == pytest.approx(GRAIN, rel=0.02)
        assert abs(plane.mean()) < 0.1
