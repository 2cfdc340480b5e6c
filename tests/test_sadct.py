"""SA-DCT: its region, its transform, and the gain that its authors' settings give."""

from __future__ import annotations

from pathlib import Path

import media
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data import Luma, jpeg, load_folder
from training.evaluate import scores
from vfilter.bitstream import scaled_luma_table
from vfilter.comparison import sadct as module
from vfilter.comparison.metrics import psnr
from vfilter.comparison.sadct import noise_of, sadct

TABLE = scaled_luma_table(10).tolist()


def scene(height: int = 72, width: int = 88) -> Luma:
    return (media.scene(0, height, width, seed=0) * 255).astype(np.uint8)


def test_a_flat_plane_stays_as_it_is() -> None:
    for code in (0, 100, 255):
        plane = np.full((17, 20), code, dtype=np.uint8)
        assert (sadct(plane, TABLE) == plane).all()


def test_an_edge_stays_and_the_noise_beside_it_goes() -> None:
    """Regions end at the edge: it is no less steep, and 8 codes of noise become less than 1."""
    clean = np.full((48, 64), 60.0)
    clean[:, 32:] = 190
    noisy = clean + np.random.default_rng(0).normal(0, 8, clean.shape)
    restored = sadct(noisy.round().astype(np.uint8), [30] * 64)
    assert np.std(restored - clean) < 1
    assert (restored[:, 32].astype(int) - restored[:, 31] > 120).all()


def test_a_jpeg_gains_what_was_measured() -> None:
    clean = scene()
    damaged = jpeg(clean, 10)
    gain = psnr(sadct(damaged, TABLE), clean) - psnr(damaged, clean)
    assert gain == pytest.approx(0.236, abs=0.005)


@pytest.mark.parametrize("lines", [8, 100])
def test_strips_make_no_difference(lines: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = jpeg(scene(), 20)
    expected = sadct(plane, TABLE).astype(int)
    monkeypatch.setattr(module, "LINES", lines)
    # the order of the sums is another, in single precision
    assert np.abs(sadct(plane, TABLE) - expected).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (17, 3)])
def test_small_planes(shape: tuple[int, int]) -> None:
    plane = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    assert sadct(plane, TABLE).shape == shape


def test_the_strength_is_that_of_the_authors_fit() -> None:
    """Sigma^2 = 0.69 q^1.3 on the scale of 255, to the digits of their settings."""
    for step in (1, 5, 40):
        assert (255 * noise_of([step] * 64)) ** 2 == pytest.approx(0.69 * step**1.3, rel=0.01)


@pytest.mark.parametrize(
    ("plane", "table", "told"),
    [
        (np.zeros((2, 8, 8), np.uint8), TABLE, r"must be \(H, W\) uint8, got \(2, 8, 8\) uint8"),
        (np.zeros((8, 8)), TABLE, r"got \(8, 8\) float64"),
        (np.zeros((8, 8), np.uint8), TABLE[:63], "64 positive steps"),
        (np.zeros((8, 8), np.uint8), [0] * 64, "64 positive steps"),
    ],
)
def test_what_is_no_plane_or_table(plane: NDArray[np.uint8], table: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        sadct(plane, table)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quality", "row"), [(10, [25.418, 24.356, 0.7919]), (20, [27.531, 25.795, 0.8752])]
)
def test_the_first_images_of_live1(data: Path, quality: int, row: list[float]) -> None:
    """As measured here; on all 29 it is 28.60/27.94/.8087 and 30.75/29.71/.8777."""
    planes = load_folder(data / "LIVE1")[:2]
    table = scaled_luma_table(quality).tolist()
    found = scores([sadct(jpeg(plane, quality), table) for plane in planes], planes)
    assert [found["psnr"], found["psnr_b"]] == pytest.approx(row[:2], abs=0.005)
    assert found["ssim_uniform"] == pytest.approx(row[2], abs=0.0005)
