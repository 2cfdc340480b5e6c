"""Films of what no camera saw: text, lines, flat shapes, even shades and pixel art, as on screens.

Photographs alone teach a network that an edge is soft and a plane has grain; on a good recording
of a screen or a cartoon it then takes away what nothing had spoiled.
"""

from __future__ import annotations

import string

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data import Luma

LETTERS = np.array(list(string.ascii_letters + string.digits + " " * 12 + ".,:;-()"))

FONTS = tuple(ImageFont.load_default(size) for size in (9, 11, 13, 16, 20, 28))
"""Pillow's own font, in pixels."""

LARGER = 2
"""Times that smooth drawings are drawn larger, then averaged."""

PIXELATED = 0.4
"""Share of the drawings that are pixel art."""

PIXELS = (1, 7)
"""Side of its pixels in those of the plane: at least, and less than."""


def drawn_film(size: int, frames: int, rng: np.random.Generator) -> list[Luma]:
    """`frames` planes (size, size) of a drawing: still, or scrolled by whole pixels.

    In half of them a shape moves over it by whole pixels too.
    """
    speeds = rng.integers(-4, 5, (2, 2)) * (rng.random((2, 1)) < 0.5)
    reach = 4 * frames
    sheet = drawing(size + 2 * reach, rng)
    sprite = drawing(size // 3, rng) if rng.random() < 0.5 else None
    begin = rng.integers(0, size - size // 3, 2)
    seen = []
    for time in range(frames):
        top, left = reach + speeds[0] * time
        view = sheet[top : top + size, left : left + size].copy()
        if sprite is not None:
            y, x = (begin + speeds[1] * time).clip(0, size - len(sprite))
            view[y : y + len(sprite), x : x + len(sprite)] = sprite
        seen.append(view)
    return seen


def drawing(size: int, rng: np.random.Generator) -> Luma:
    """A plane (size, size) of shapes and lines of text in random codes, smooth edged or not, or of
    pixel art."""
    if rng.random() < PIXELATED:
        return _pixel_art(size, rng)
    return _sheet(size, LARGER if rng.random() < 0.5 else 1, rng)


def _pixel_art(size: int, rng: np.random.Generator) -> Luma:
    """A plane (size, size) whose pixels are squares of several, as old games draw: shapes and text
    without smooth edges, and patches of small tiles, repeated."""
    pixel = int(rng.integers(*PIXELS))
    side = size // pixel + 2
    art = _sheet(side, 1, rng, edges="1")
    shades = rng.integers(16, 236, 8).astype(np.uint8)
    for _ in range(int(rng.integers(2, 10))):
        tile = shades[rng.integers(0, rng.integers(2, 9), 2 * (int(rng.choice([2, 4, 8, 16])),))]
        if rng.random() < 0.5:
            tile = np.hstack([tile, tile[:, ::-1]])
        patch = np.tile(tile, rng.integers(1, 6, 2))
        top, left = rng.integers(0, side, 2)
        part = art[top : top + len(patch), left : left + patch.shape[1]]
        part[:] = patch[: part.shape[0], : part.shape[1]]
    top, left = rng.integers(0, pixel, 2)
    return art.repeat(pixel, 0).repeat(pixel, 1)[top : top + size, left : left + size]


def _sheet(size: int, larger: int, rng: np.random.Generator, *, edges: str = "L") -> Luma:
    """A plane (size, size) of shapes and text, drawn `larger` times as large, then averaged.

    edges: Pillow's mode of letters: smooth, or "1".
    """
    side = size * larger
    low, high = np.sort(rng.integers(16, 236, 2))
    shade = np.linspace(low, high if rng.random() < 0.3 else low, side)
    sheet = Image.fromarray(np.rint(np.tile(shade, (side, 1))).astype(np.uint8))
    pen = ImageDraw.Draw(sheet)
    pen.fontmode = edges
    for _ in range(int(rng.integers(0, 12))):
        _shape(pen, side, larger, rng)
    if rng.random() < 0.7:
        _text(pen, side, int(rng.integers(side // 2, side)), rng)
    if larger > 1:
        sheet = sheet.resize((size, size), Image.Resampling.BOX)
    return np.array(sheet, dtype=np.uint8)


def _shape(pen: ImageDraw.ImageDraw, side: int, larger: int, rng: np.random.Generator) -> None:
    corners = rng.integers(0, side, 2)[:, None] + np.sort(rng.integers(0, side // 2, (2, 2)))
    box = [tuple(int(v) for v in corner) for corner in corners.T]
    fill, line = (int(code) for code in rng.integers(16, 236, 2))
    width = larger * int(rng.integers(0, 4))
    kind = rng.integers(4)
    if kind == 0:
        pen.rectangle(box, fill=fill, outline=line, width=width)
    elif kind == 1:
        pen.ellipse(box, fill=fill, outline=line, width=width)
    elif kind == 2:
        pen.line(box, fill=line, width=max(1, width))
    else:
        points = [tuple(int(v) for v in point) for point in rng.integers(0, side, (3, 2))]
        pen.polygon(points, fill=fill, outline=line)


def _text(pen: ImageDraw.ImageDraw, side: int, until: int, rng: np.random.Generator) -> None:
    """Lines of letters from a random height down to `until`."""
    font = FONTS[int(rng.integers(len(FONTS)))]
    height = round(font.size * 1.3)  # type: ignore[union-attr]  # the built-in font has a size
    ink = int(rng.integers(0, 256))
    left = int(rng.integers(0, side // 4))
    for top in range(int(rng.integers(0, side // 3)), until, height):
        letters = rng.choice(LETTERS, int(rng.integers(4, 40)))
        pen.text((left, top), "".join(letters), fill=ink, font=font)
