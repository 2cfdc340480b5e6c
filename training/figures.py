"""python -m training figure5 --data DIR, and figure6, figure7, figure8, paper

Many small trainings: every curve of a figure gets the same number of steps, by our recipe at a
small scale, and goes on where it was left. In a minute, into build/results:
python -m training figure6 --data DIR --steps 20
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training.data import Luma, jpeg, load_folder, subset, training_images
from training.evaluate import psnr_gain
from training.log import read_rows
from training.loop import Run, train
from training.recipes import Objective, Recipe, paper
from training.samples import Pictures
from vfilter.networks import NETWORKS
from vfilter.torch_module import TorchNetwork

QUALITIES = (10, 20, 30, 40, 50, 60)
"""JPEG qualities of figure 5 (paper, section 4)."""

SIZES = (4, 16, 64, 256, 400)
"""Training images of figure 8 (paper, section 4)."""

POINTS = 12
"""Points of a curve over iterations."""

STAGES = (1, 5, POINTS)
"""Points after which figure 7 shows the filters: those of direct mapping in the paper, 20k, 100k
and 250k of 250k."""

FILTERS = "figure7.npz"

CROPS = {"l4": (4, 96), "l8": (4, 64), "arcnn": (4, 96)}
"""Crops a step and their side in pixels, by network: as small as the noise of a step allows."""

LARGEST = max(side for _, side in CROPS.values())


@dataclass(frozen=True)
class Budget:
    """What every curve of a figure gets, and where its runs are kept.

    steps: of each training; images: of a data set, of those that a curve is measured on;
    stopped: whether to leave off after this step, the checkpoint written.
    """

    data: Path
    runs: Path
    steps: int
    images: int
    stopped: Callable[[], bool] = lambda: False

    @property
    def every(self) -> int:
        """Steps from one point of a curve to the next; the last is at the end."""
        return -(-self.steps // POINTS)

    def recipe(self, network: str, low: int, high: int, objective: Objective) -> Recipe:
        """Our recipe at a small scale, every quality of `low` to `high` as common."""
        if network not in CROPS:
            raise ValueError(f"network must be one of {', '.join(CROPS)}, got {network!r}")
        batch, crop = CROPS[network]
        return Recipe(
            network=network,
            qualities=(low, high),
            objective=objective,
            steps=self.steps,
            slope=0.0,
            balance=0.0,
            batch=batch,
            crop=crop,
            rate=1e-3 if network == "l4" else 5e-4,
            warmup=max(1, self.steps // 10),
            decay=0.5,
        )

    def run(
        self,
        name: str,
        recipe: Recipe,
        planes: Sequence[Luma],
        validation: Sequence[Luma],
        until: int | None = None,
    ) -> Run:
        """The run of a curve, as far as `until`, from where it was left.

        Raises InterruptedError if it is stopped before.
        """
        print(f"{name}, {self.steps} steps", flush=True)
        run = train(
            recipe,
            Pictures(planes),
            validation,
            self.checkpoint(name),
            save_every=self.every,
            until=until,
            stopped=self.stopped,
        )
        if run.step < (self.steps if until is None else until):
            raise InterruptedError(f"stopped at step {run.step}: the same command goes on")
        return run

    def checkpoint(self, name: str) -> Path:
        """Where the run of a curve is kept; another budget is another run."""
        return self.runs / f"{name}-{self.steps}.pt"


def figure5(budget: Budget, objective: Objective) -> list[dict[str, Any]]:
    """IPSNR in dB over JPEG quality on LIVE1 by network: L4 for one quality, and for all."""
    planes, validation = training_images(budget.data, smallest=LARGEST)
    live1 = spread(load_folder(budget.data / "LIVE1"), budget.images)
    pairs = {quality: [(jpeg(plane, quality), plane) for plane in live1] for quality in QUALITIES}
    ranges = {f"Q{quality}": (quality, quality) for quality in QUALITIES} | {"Q10-Q60": (10, 60)}
    rows = []
    for name, (low, high) in ranges.items():
        recipe = budget.recipe("l4", low, high, objective)
        run = budget.run(f"l4-{name.lower()}-{objective}", recipe, planes, validation[:2])
        gains = {q: psnr_gain(run.averaged(), some, objective) for q, some in pairs.items()}
        rows += [{"network": f"L4-{name}", "quality": q, "gain": g} for q, g in gains.items()]
    return rows


def figure6(budget: Budget, results: Path) -> list[dict[str, Any]]:
    """IPSNR in dB on BSDS500 val at quality 10 over steps, by objective; L4.

    Leaves the networks in `results` for table 5, and their first layers for figure 7.
    """
    planes, _ = training_images(budget.data, smallest=LARGEST)
    validation = spread(load_folder(budget.data / "BSDS500/val"), budget.images)
    stages = [min(points * budget.every, budget.steps) for points in STAGES]
    results.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    layers: dict[str, NDArray[np.float32]] = {}
    for objective in get_args(Objective):
        recipe = budget.recipe("l4", 10, 10, objective)
        name = f"l4-q10-{objective}-of-{budget.images}"  # how many its log is measured on
        checkpoint = budget.checkpoint(name)
        for stage in stages:
            kept = checkpoint.with_name(f"{checkpoint.stem}-at-{stage}.npy")
            run = budget.run(name, recipe, planes, validation, until=stage)
            if run.step == stage:
                np.save(kept, run.average["layers.0.weight"].numpy())
            layers[f"{objective} {stage}"] = np.load(kept)
        save_curve(run, results / f"figure6-{objective}.safetensors")
        rows += [
            {"objective": objective, "step": int(row["step"]), "gain": float(row["gain_q10"])}
            for row in read_rows(checkpoint.with_suffix(".csv"))
        ]
    np.savez_compressed(results / FILTERS, allow_pickle=False, **layers)
    return rows


def filters(results: Path) -> dict[str, dict[int, NDArray[np.float32]]]:
    """First layers (48, 1, 11, 11) by objective and step, as `figure6` left them.

    Raises FileNotFoundError if it has not run.
    """
    if not (results / FILTERS).exists():
        raise FileNotFoundError(f"there is no {results / FILTERS}: run figure6 first")
    found: dict[str, dict[int, NDArray[np.float32]]] = {}
    with np.load(results / FILTERS) as layers:
        for key in layers:
            objective, step = key.split()
            found.setdefault(objective, {})[int(step)] = layers[key]
    return found


def figure8(budget: Budget, networks: Iterable[str], quality: int) -> list[dict[str, Any]]:
    """IPSNR in dB on images of the training, the same for each number of them, and on BSDS500 val
    over their number."""
    planes, _ = training_images(budget.data, smallest=LARGEST)
    validation = _pairs(spread(load_folder(budget.data / "BSDS500/val"), budget.images), quality)
    seen = _pairs(subset(planes, min(SIZES))[: budget.images], quality)  # all subsets have these
    rows = []
    for network in networks:
        recipe = budget.recipe(network, quality, quality, "residual")
        for size in SIZES:
            some = subset(planes, size)
            run = budget.run(f"{network}-q{quality}-{size}-images", recipe, some, some[:1])
            for images, pairs in (("train", seen), ("validation", validation)):
                gain = psnr_gain(run.averaged(), pairs)
                rows.append({"network": network, "images": images, "size": size, "gain": gain})
    return rows


def first_iterations(budget: Budget) -> list[dict[str, Any]]:
    """Loss and IPSNR in dB on BSDS500 val at quality 10 as the paper's own recipe begins; L4.

    By objective, over iterations; the loss, in squared codes, is the mean since the row before.
    """
    planes, _ = training_images(budget.data, smallest=LARGEST)
    validation = spread(load_folder(budget.data / "BSDS500/val"), budget.images)
    rows: list[dict[str, Any]] = []
    for objective in get_args(Objective):
        recipe = paper(budget.recipe("l4", 10, 10, objective))
        name = f"l4-q10-{objective}-paper-of-{budget.images}"
        budget.run(name, recipe, planes, validation, until=budget.steps)
        rows += [
            {"objective": objective, "step": int(row["step"])}
            | {"loss": float(row["loss"]), "gain": float(row["gain_q10"])}
            for row in read_rows(budget.checkpoint(name).with_suffix(".csv"))
        ]
    return rows


def _pairs(planes: Sequence[Luma], quality: int) -> list[tuple[Luma, Luma]]:
    return [(jpeg(plane, quality), plane) for plane in planes]


def spread(planes: Sequence[Luma], count: int) -> list[Luma]:
    """At most `count` of `planes`, evenly over them."""
    chosen = np.linspace(0, len(planes) - 1, min(count, len(planes))).round().astype(int)
    return [planes[i] for i in chosen]


def save_curve(run: Run, path: Path) -> None:
    """Write the averaged weights of a run, with what they are, as safetensors."""
    metadata = {
        "network": run.recipe.network,
        "objective": run.recipe.objective,
        "steps": str(run.step),
    }
    save_file({k: v.contiguous() for k, v in run.average.items()}, path, metadata)


def load_curve(path: Path) -> tuple[TorchNetwork, int]:
    """The network that `save_curve` wrote, and its steps."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    module = TorchNetwork(NETWORKS[metadata["network"]])
    module.load_state_dict(load_file(path))
    return module.eval(), int(metadata["steps"])


def write_rows(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows of equal columns as CSV, floats rounded to 4 places."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
