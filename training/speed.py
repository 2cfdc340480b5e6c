"""python -m training speed: how long the networks take for a megapixel, beside the paper's."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from training.paper import PAPER_SPEED
from vfilter.networks import NETWORKS, Network
from vfilter.restorer import Restorer
from vfilter.torch_module import TorchNetwork
from vfilter.weights import OBJECTIVE, Model

SIDE = 1000
"""Side in pixels of the plane that is restored, a megapixel as the paper has it."""


def milliseconds(network: Network, side: int, rounds: int) -> tuple[float, str]:
    """Median time to restore a plane (side, side) by a network of this size, after a first round.

    Its weights are random: they don't matter for the time. Returns what ran it, too.
    """
    module = TorchNetwork(network)
    model = Model(
        name=network.name,
        network=network,
        weights={name: value.numpy() for name, value in module.state_dict().items()},
        objective=OBJECTIVE,
        codec="unknown",
        quality=(0, 0),
    )
    plane = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    times = []
    with Restorer(model, reuse=False) as restorer:
        for _ in range(rounds + 1):
            started = time.perf_counter()
            restorer.luma(plane)
            times.append(1e3 * (time.perf_counter() - started))
        engine = restorer.engine.description
    return statistics.median(times[1:]), engine


def speed(side: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of the speed table by network: ours here, the paper's on a GeForce GTX 780.

    FLOP a pixel over milliseconds a megapixel are GFLOP/s.
    """
    rows = []
    megapixels = side**2 / 1e6
    for network in NETWORKS.values():
        took, engine = milliseconds(network, side, rounds)
        took /= megapixels
        theirs, flop = PAPER_SPEED.get(network.name, (None, None))
        rows.append(
            {
                "network": network.name.upper(),
                "engine": engine,
                "ms_per_megapixel": round(took),
                "flop_per_pixel": network.flop_per_pixel,
                "gflop_per_s": round(network.flop_per_pixel / took, 1),
                "paper_ms_per_megapixel": theirs,
                "paper_flop_per_pixel": flop,
                "paper_gflop_per_s": theirs and flop and round(flop / theirs, 1),
            }
        )
    return rows
