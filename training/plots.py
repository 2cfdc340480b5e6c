"""The pictures of the figures, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from training.data import Luma

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 8
"""Filters in a row of a mosaic."""

LOWEST = -1.5
"""IPSNR in dB at which a picture ends; direct mapping begins far below."""


def figure(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` x `columns` axes, row by row; sides in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as NewFigure

    drawn = NewFigure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(drawn)
    axes = drawn.subplots(rows, columns, squeeze=False)
    return drawn, [axes[row][column] for row in range(rows) for column in range(columns)]


def lines(
    rows: Sequence[Mapping[str, Any]], by: str, x: str, path: Path, title: str, *, ticks: bool
) -> None:
    """A curve of `gain` over `x` for each value of `by`; ticks: whether only at the points of x."""
    drawn, (axes,) = figure(1, 1, 6.4, 4.0)
    for name in dict.fromkeys(row[by] for row in rows):
        points = [(row[x], row["gain"]) for row in rows if row[by] == name]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=str(name))
    if ticks:
        axes.set_xticks(sorted({row[x] for row in rows}))
    axes.set(xlabel=x, ylabel="IPSNR [dB]")
    axes.set_title(title, fontsize=9)
    axes.set_ylim(bottom=max(LOWEST, axes.get_ylim()[0]))
    _finish(axes)
    drawn.savefig(path)


def dataset_size(rows: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """Figure 8: train and validation gain over the number of images, by network."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    drawn, panels = figure(1, len(networks), 3.6 * len(networks), 3.4)
    for axes, network in zip(panels, networks, strict=True):
        for images in ("validation", "train"):
            chosen = [r for r in rows if (r["network"], r["images"]) == (network, images)]
            axes.plot(
                [r["size"] for r in chosen], [r["gain"] for r in chosen], marker="o", label=images
            )
        axes.set_xscale("log", base=4)
        axes.set_xticks([r["size"] for r in chosen], [str(r["size"]) for r in chosen], fontsize=7)
        axes.minorticks_off()
        axes.set(xlabel="dataset size", ylabel="IPSNR [dB]", title=network.upper())
        _finish(axes)
    drawn.suptitle(title, fontsize=9)
    drawn.savefig(path)


def _finish(axes: Axes) -> None:
    axes.axhline(0, color="gray", linewidth=0.6)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def crops(panels: Mapping[str, Luma], path: Path, title: str) -> None:
    """Panels of luma, (H, W) uint8, side by side under their names, each pixel three times."""
    drawn, row = figure(1, len(panels), 3.2 * len(panels), 3.9)
    for axes, (name, plane) in zip(row, panels.items(), strict=True):
        axes.imshow(plane, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.set_axis_off()
    drawn.suptitle(title, fontsize=10)
    drawn.savefig(path, dpi=140)


def first_layers(
    found: Mapping[str, Mapping[int, NDArray[np.float32]]], path: Path, title: str
) -> None:
    """Figure 7: the first layer's filters, a row by objective, a column by step."""
    stages = list(next(iter(found.values())))
    drawn, panels = figure(len(found), len(stages), 3.0 * len(stages), 2.5 * len(found))
    shown = [
        (objective, step, weights)
        for objective, by_step in found.items()
        for step, weights in by_step.items()
    ]
    for axes, (objective, step, weights) in zip(panels, shown, strict=True):
        axes.imshow(mosaic(weights), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(f"{objective}, {step} steps", fontsize=8)
        axes.set_axis_off()
    drawn.suptitle(title, fontsize=9)
    drawn.savefig(path)


def mosaic(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filters (N, 1, K, K) side by side, each from its least weight, 0, to its greatest, 1."""
    count, _, side, _ = weights.shape
    rows = -(-count // COLUMNS)
    sheet = np.ones((rows * (side + 1) + 1, COLUMNS * (side + 1) + 1), np.float32)
    for i, kernel in enumerate(weights[:, 0]):
        top, left = (1 + place * (side + 1) for place in divmod(i, COLUMNS))
        low, high = kernel.min(), kernel.max()
        sheet[top : top + side, left : left + side] = (kernel - low) / max(high - low, 1e-12)
    return sheet
