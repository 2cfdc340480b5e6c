"""Images as luma planes, and their degradation by JPEG, following the paper's protocol."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vfilter.bitstream import scaled_luma_table
from vfilter.encoders import open_encoder
from vfilter.luma import luma_plane

Luma = NDArray[np.uint8]

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow's decoders raise."""

SUFFIXES = {".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff"}


def luma_of_rgb(rgb: NDArray[np.uint8]) -> Luma:
    """Limited-range BT.601 luma, (H, W) uint8, of an (H, W, 3) uint8 image: MATLAB's rgb2ycbcr."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.asarray(np.rint(16 + rgb @ weights), dtype=np.uint8)


def load_folder(folder: Path, *, smallest: int = 1) -> list[Luma]:
    """Luma planes of all images in `folder`, in the order of their names.

    smallest: least side in pixels that all of them must have.
    Raises FileNotFoundError if there is no such folder or no image in it, ValueError if an image
    is broken or too small.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: name one that holds images")
    paths = image_paths(folder)
    if not paths:
        raise FileNotFoundError(f"no images in {folder}: name a folder that holds some")
    return [_load(path, smallest) for path in paths]


def image_paths(folder: Path) -> list[Path]:
    """The images in `folder`, in the order of their names."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def _load(path: Path, smallest: int) -> Luma:
    try:
        with Image.open(path) as image:
            if image.mode[:1] in "IF":
                raise ValueError("more than 8 bits a channel")
            plane = luma_of_rgb(np.asarray(image.convert("RGB")))
    except UNREADABLE as error:
        raise ValueError(f"{path} can't be read as an image ({error}): remove it") from error
    height, width = plane.shape
    if min(height, width) < smallest:
        raise ValueError(
            f"{path} is {width}x{height} pixels, smaller than the {smallest}x{smallest} that "
            "training needs: remove it, or train with smaller crops"
        )
    return plane


def training_images(data: Path, *, smallest: int = 1) -> tuple[list[Luma], list[Luma]]:
    """Luma planes to train on and to watch the training by.

    data: with BSDS500/, its train and test, 400 images in all, and every tenth of its val (paper,
        section 4); any other folder of images, all but every tenth, and these.
    smallest: least side in pixels of all of them.
    Raises FileNotFoundError and ValueError as `load_folder`.
    """
    protocol = data / "BSDS500"
    if protocol.is_dir():
        parts = [load_folder(protocol / part, smallest=smallest) for part in ("train", "test")]
        return parts[0] + parts[1], load_folder(protocol / "val", smallest=smallest)[::10]
    planes = load_folder(data, smallest=smallest)
    if len(planes) == 1:
        raise ValueError(f"{data} holds one image: training needs another to be watched by")
    return [plane for i, plane in enumerate(planes) if i % 10], planes[::10]


def origin(data: Path) -> str:
    """What those images to train on are called."""
    return "BSDS500 train and test" if (data / "BSDS500").is_dir() else data.resolve().name


def subset(planes: Sequence[Luma], size: int) -> list[Luma]:
    """`size` of `planes`, always the same ones; smaller subsets lie in the larger ones.

    Raises ValueError if there are not so many.
    """
    if not 1 <= size <= len(planes):
        raise ValueError(f"a subset of {len(planes)} images has 1 to {len(planes)}, got {size}")
    return [planes[i] for i in np.random.default_rng(0).permutation(len(planes))[:size]]


def jpeg(plane: Luma, quality: int, *, flatter: float = 0.0) -> Luma:
    """`plane` after 8-bit grayscale JPEG of `quality` (libjpeg's scale, 1 to 100).

    flatter: 0 to 1, by how much its table is not libjpeg's but a flat one of the same geometric
        mean, as other encoders' tables mostly are.
    """
    steps = np.log(scaled_luma_table(quality))
    table = np.rint(np.exp(steps + flatter * (steps.mean() - steps))).astype(int).tolist()
    buffer = io.BytesIO()
    Image.fromarray(plane).save(buffer, format="JPEG", qtables=[table])
    return np.asarray(Image.open(buffer), dtype=np.uint8)


def read_luma(path: Path, frames: int) -> list[Luma]:
    """Luma planes of the first `frames` frames of a clip, (H, W) uint8."""
    with av.open(str(path)) as container:
        return [luma_plane(f).copy() for f in islice(container.decode(video=0), frames)]


def gray_frame(plane: Luma) -> av.VideoFrame:
    """A yuv420p frame of luma `plane`, (H, W) uint8, sides even, without colour."""
    height, width = plane.shape
    codes = np.full((height * 3 // 2, width), 128, dtype=np.uint8)
    codes[:height] = plane
    return av.VideoFrame.from_ndarray(codes, format="yuv420p")


def encoded(planes: Sequence[Luma], encoder: str, options: dict[str, str]) -> io.BytesIO:
    """A Matroska file in memory of `planes`, sides even, as luma of gray 4:2:0 at 25 frames/s."""
    file = io.BytesIO()
    height, width = planes[0].shape
    with av.open(file, "w", format="matroska") as output:
        stream: Any = output.add_stream(encoder, rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        open_encoder(stream.codec_context)
        for plane in planes:
            output.mux(stream.encode(gray_frame(plane)))
        output.mux(stream.encode(None))
    file.seek(0)
    return file


def decoded(file: io.BytesIO) -> list[Luma]:
    """The luma planes of a video file in memory."""
    with av.open(file, "r") as container:
        return [luma_plane(frame).copy() for frame in container.decode(video=0)]


def halved(plane: Luma) -> Luma:
    """`plane` at half the size by averaging, which takes most of its own compression away."""
    size = (plane.shape[1] // 2, plane.shape[0] // 2)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def random_crop(planes: Sequence[Luma], size: int, rng: np.random.Generator) -> Luma:
    """A (size, size) crop of a random plane, flipped and transposed at random."""
    plane = planes[int(rng.integers(len(planes)))]
    top = rng.integers(plane.shape[0] - size + 1)
    left = rng.integers(plane.shape[1] - size + 1)
    crop = plane[top : top + size, left : left + size]
    if rng.random() < 0.5:
        crop = crop[::-1]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.5:
        crop = crop.T
    return np.ascontiguousarray(crop)
