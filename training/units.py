"""python -m training units --data DIR: what the symmetric initialization is good for

How many units of each layer are dead or always on, and the highest learning rate that converges,
with and without it (paper, section 3). In seconds, into build/results: --steps 5 --rate-steps 5
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from training.data import Luma
from training.loop import Run
from training.objectives import centre, loss
from training.recipes import Initialization, Recipe, paper
from training.samples import Batch, Pictures, batches
from vfilter.torch_module import TorchNetwork

SELDOM = 0.01
"""A unit is dead that is above zero at less than this share of the pixels, and always on that is
not above zero at less than it."""

RATES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Learning rates that are tried, around the paper's 8."""

DIVERGED = 10.0
"""Times the loss of a residual of 0 at which a run is given up."""

TAIL = 10
"""Steps at a run's end whose mean loss tells whether it converged."""


def activity(module: TorchNetwork, planes: Sequence[Luma], offset: float = 0.5) -> list[Tensor]:
    """By hidden layer, the share of pixels of `planes` at which each unit is above zero.

    offset: what is taken from code / 255; 0.5 is the networks' scale.
    """
    counts: list[Tensor] = []
    shares: dict[int, list[Tensor]] = {}
    hooks = [
        layer.register_forward_hook(
            lambda _, __, output, k=k: shares.setdefault(k, []).append(
                (output > 0).float().mean(dim=(0, 2, 3))
            )
        )
        for k, layer in enumerate(list(module.layers)[:-1])
    ]
    with torch.inference_mode():
        for plane in planes:
            module(torch.from_numpy(plane.copy()).float()[None, None] / 255 - offset)
    for hook in hooks:
        hook.remove()
    for k in sorted(shares):
        counts.append(torch.stack(shares[k]).mean(dim=0))
    return counts


def shares(activities: Sequence[Tensor]) -> list[tuple[float, float]]:
    """By layer, the shares of units that are dead and that are always on."""
    return [
        (float((a < SELDOM).float().mean()), float((a > 1 - SELDOM).float().mean()))
        for a in activities
    ]


def saturation(
    recipe: Recipe, pictures: Pictures, planes: Sequence[Luma]
) -> Iterator[dict[str, Any]]:
    """Dead and always-on units by layer, at the start and after the recipe's steps.

    "start, 0 to 1" is with luma that is not centred, which the networks do not see here but may
    have in the paper.
    """
    for kind in get_args(Initialization):
        run = Run(replace(recipe, initialization=kind))
        found = {
            "start": shares(activity(run.module, planes)),
            "start, 0 to 1": shares(activity(run.module, planes, offset=0.0)),
        }
        with closing(batches(pictures, run.recipe, 0)) as made:
            for batch in islice(made, recipe.steps):
                run.advance(batch)
        found[f"step {run.step}"] = shares(activity(run.module, planes))
        for when, layers in found.items():
            for k, (dead, always) in enumerate(layers, start=1):
                yield {"network": recipe.network, "initialization": kind, "when": when} | {
                    "layer": k,
                    "dead": dead,
                    "always_on": always,
                }


def by_layer(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows of `saturation`, the layers side by side: percent dead / percent always on."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        key = (row["initialization"], row["when"])
        start = {"initialization": key[0], "when": key[1]}
        cell = f"{row['dead']:.0%} / {row['always_on']:.0%}"
        found.setdefault(key, start)[f"layer {row['layer']}"] = cell
    return list(found.values())


def by_rate(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows of `highest_rates`, the rates side by side; a rate after one that diverged: "-"."""
    rates = sorted({row["rate"] for row in rows})
    return [
        {"initialization": kind}
        | {
            f"{rate:g}": next(
                (
                    f"{row['loss']:.2f}" if math.isfinite(row["loss"]) else "diverged"
                    for row in rows
                    if (row["initialization"], row["rate"]) == (kind, rate)
                ),
                "-",
            )
            for rate in rates
        }
        for kind in dict.fromkeys(row["initialization"] for row in rows)
    ]


def highest_rates(recipe: Recipe, pictures: Pictures) -> Iterator[dict[str, Any]]:
    """The loss that the paper's SGD ends at, relative to doing nothing, by initialization and rate.

    It stops at the first rate that diverges.
    """
    for kind in get_args(Initialization):
        for rate in RATES:
            sgd = replace(
                paper(recipe),
                initialization=kind,
                rate=rate,
                steps=recipe.steps,
                batch=recipe.batch,
                crop=recipe.crop,
            )
            ended = _end(sgd, pictures)
            yield {"network": recipe.network, "initialization": kind, "rate": rate, "loss": ended}
            if not math.isfinite(ended):
                break


def _end(recipe: Recipe, pictures: Pictures) -> float:
    """The mean loss of a run's last steps relative to a residual of 0; infinite if it diverged."""
    run = Run(recipe)
    losses: list[float] = []
    with closing(batches(pictures, recipe, 0)) as made:
        for batch in islice(made, recipe.steps):
            losses.append(run.advance(batch)[0] / _nothing(batch, run.network.radius))
            if not losses[-1] < DIVERGED:
                return math.inf
    return float(np.mean(losses[-TAIL:]))


def _nothing(batch: Batch, radius: int) -> float:
    """The loss of a residual of 0 on a batch, in squared 8-bit codes."""
    distorted, clean, weight = batch
    before, after = centre(distorted, radius), centre(clean, radius)
    return loss("residual", torch.zeros_like(before), before, after, weight).item() * 255**2
