"""Images to train on: the paper's folders, any other folder, and what is wrong with one."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import Luma, jpeg, load_folder, origin, subset, training_images
from training.recipes import RECIPES
from training.samples import Pictures, sample_batch
from vfilter.bitstream import scaled_luma_table
from vfilter.coefficients import transformed


def write_images(folder: Path, count: int, *, size: tuple[int, int] = (40, 30)) -> None:
    """`count` PNG files of one code each, three times their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("L", size, 3 * number).save(folder / f"{number:03}.png")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent: name one"):
        load_folder(tmp_path / "absent")


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here")
    with pytest.raises(FileNotFoundError, match=r"no images in .*: name a folder that holds some"):
        load_folder(tmp_path)


@pytest.mark.parametrize("kept", [0, 20, 200], ids=["empty", "header", "truncated"])
def test_broken_image(kept: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(content[:kept])
    with pytest.raises(ValueError, match=r"b\.png can't be read as an image \(.*\): remove it"):
        load_folder(tmp_path)


def test_image_of_16_bits(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png can't be read as an image \(more than 8 bits"):
        load_folder(tmp_path)


def test_image_whose_header_tells_a_giant(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    content = bytearray((tmp_path / "000.png").read_bytes())
    content[16:24] = (40000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "000.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"000\.png can't be read as an image \(Image size"):
        load_folder(tmp_path)


def test_image_smaller_than_a_crop(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    load_folder(tmp_path, smallest=30)
    with pytest.raises(
        ValueError, match=r"000\.png is 40x30 pixels, smaller than the 31x31 that training needs"
    ):
        load_folder(tmp_path, smallest=31)


def numbers(planes: list[Luma]) -> list[int]:
    """The number of each image that `write_images` wrote, by its limited-range luma."""
    return [round((int(plane[0, 0]) - 16) * 255 / 219 / 3) for plane in planes]


def test_other_folder_keeps_every_tenth_image_for_watching(tmp_path: Path) -> None:
    write_images(tmp_path, 21)
    planes, watched = training_images(tmp_path)
    assert numbers(watched) == [0, 10, 20]
    assert sorted(numbers(planes) + numbers(watched)) == list(range(21))


def test_one_image_is_too_few(tmp_path: Path) -> None:
    write_images(tmp_path, 1)
    with pytest.raises(ValueError, match="holds one image: training needs another"):
        training_images(tmp_path)


def test_folders_of_the_paper(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("test", 2), ("val", 11)):
        write_images(tmp_path / "BSDS500" / part, count)
    planes, watched = training_images(tmp_path)
    assert len(planes) == 5 and len(watched) == 2
    assert origin(tmp_path) == "BSDS500 train and test"
    assert origin(tmp_path / "BSDS500") == "BSDS500"


def test_subsets_are_fixed_and_lie_in_each_other(tmp_path: Path) -> None:
    write_images(tmp_path, 64)
    planes = load_folder(tmp_path)
    few, more = (subset(planes, size) for size in (4, 16))
    assert [id(plane) for plane in few] == [id(plane) for plane in subset(planes, 4)]
    assert {id(plane) for plane in few} < {id(plane) for plane in more}
    assert len({id(plane) for plane in subset(planes, 64)}) == 64


@pytest.mark.parametrize("size", [0, 6])
def test_subset_of_another_size(size: int, tmp_path: Path) -> None:
    write_images(tmp_path, 5)
    with pytest.raises(ValueError, match=f"has 1 to 5, got {size}"):
        subset(load_folder(tmp_path), size)


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_flatter_tables_damage_all_frequencies_alike(quality: int) -> None:
    table = scaled_luma_table(quality)
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 256, (64, 64), dtype=np.uint8)
    spectra = []
    for flatter in (0.0, 0.5, 1.0):
        missing = jpeg(plane, quality, flatter=flatter).astype(np.float32) - plane
        squares = (transformed(missing) ** 2).sum(0)
        spectra.append(squares.reshape(8, -1, 8).sum(1).ravel())
    low, high = table.argmin(), table.argmax()
    ratios = [spectrum[high] / spectrum[low] for spectrum in spectra]
    assert ratios[0] > ratios[1] > ratios[2] == pytest.approx(1, abs=0.5)


def test_foreign_tables_change_what_is_damaged_alone() -> None:
    recipe = replace(RECIPES["l8-q20"], crop=48)
    plane = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    usual = sample_batch(Pictures([plane]), recipe, 0)
    foreign = sample_batch(Pictures([plane]), replace(recipe, foreign=1.0), 0)
    assert (usual[1] == foreign[1]).all()
    assert (usual[0] != foreign[0]).flatten(1).any(1).all()
