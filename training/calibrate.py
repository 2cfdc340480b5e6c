"""The highest activations of a network, up to which int8 has its codes, by channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data import Luma, jpeg, load_folder
from training.drawings import drawing
from vfilter.bitstream import Hints, scaled_luma_table
from vfilter.comparison.metrics import psnr
from vfilter.restorer import Restorer
from vfilter.torch_module import TorchNetwork
from vfilter.weights import Model

SIDE = 200
DRAWN = 20
"""Side of the planes that the networks are shown, in pixels, and how many are drawings."""

QUALITIES = (10, 40, 90)
"""JPEG qualities of what the networks are shown, those for video too."""

LOSSES = (10, 20, 40, 60, 90)
"""JPEG qualities at which the loss is measured."""


def shown(data: Path) -> list[Luma]:
    """Corners of every eighth training image under `data`, and drawings.

    (H, W) uint8 luma, sides at most `SIDE`.
    """
    photos = [plane[:SIDE, :SIDE] for plane in load_folder(data / "BSDS500/train")[::8]]
    return photos + [drawing(SIDE, np.random.default_rng(i)) for i in range(DRAWN)]


def calibrate(model: Model, planes: Sequence[Luma]) -> list[list[float]]:
    """The highest activation of each channel of each layer but the last over `planes`, as JPEG.

    planes: (H, W) uint8, sides above twice the network's radius. Activations are of luma as code /
    255 - 0.5, after the bias and ReLU.
    The very highest, so that nothing that was seen is cut off: taking the 0.9999 quantile gained
    0.005 dB on photographs, and cut what drawings reach.
    """
    module = TorchNetwork(model.network)
    module.load_state_dict({name: torch.tensor(array) for name, array in model.weights.items()})
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
    maxima = [torch.zeros(layer.channels) for layer in model.network.layers[:-1]]

    def keep(index: int, output: Tensor) -> None:
        maxima[index] = torch.maximum(maxima[index], output.amax((0, 2, 3)))

    for index, layer in enumerate(list(module.layers)[:-1]):
        layer.register_forward_hook(lambda _, __, output, index=index: keep(index, output))
    with torch.inference_mode():
        for plane in planes:
            codes = np.stack([jpeg(plane, quality) for quality in QUALITIES])[:, None]
            luma = torch.from_numpy(codes.astype(np.float32) / 255 - 0.5)
            module(luma.contiguous(memory_format=torch.channels_last))
    return [[round(float(highest), 4) for highest in layer] for layer in maxima]


def losses(model: Model, planes: Sequence[Luma]) -> Iterator[dict[str, Any]]:
    """PSNR in dB that int8 loses over `planes` by JPEG quality, the tables told, and its gain.

    planes: (H, W) uint8, originals. The rows' numbers are text of three digits.
    """
    own, last = model.quality
    with Restorer(model) as usual, Restorer(model, precision="int8") as coarse:
        for quality in LOSSES if own < last else (own,):
            hints = Hints(luma_table=tuple(scaled_luma_table(quality).tolist()))
            scores = []
            for plane in planes:
                damaged = jpeg(plane, quality)
                restored = (r.luma(damaged, hints=hints) for r in (usual, coarse))
                scores.append([psnr(found, plane) for found in (damaged, *restored)])
            before, after, int8 = np.mean(scores, axis=0)
            yield {
                **{"model": model.name, "quality": quality, "gain": f"{after - before:.3f}"},
                **{"int8": f"{int8 - before:.3f}", "loss": f"{after - int8:.3f}"},
            }
