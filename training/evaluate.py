"""Evaluation under the paper's protocol: luma, 8-bit output, per image, then averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from training.data import Luma, jpeg
from training.recipes import Objective
from vfilter.bitstream import Hints, scaled_luma_table
from vfilter.comparison.metrics import psnr, psnr_b, ssim_gaussian, ssim_uniform
from vfilter.restorer import Restorer
from vfilter.torch_module import TorchNetwork

METRICS: dict[str, Callable[[Luma, Luma], float]] = {
    "psnr": psnr,
    "psnr_b": psnr_b,
    "ssim_uniform": ssim_uniform,
    "ssim_gaussian": ssim_gaussian,
}
"""The metrics of the paper's tables and the SSIM of later papers, by name."""


Pair = tuple[Luma, Luma]
"""A plane after compression and before."""


def scores(images: Sequence[Luma], references: Sequence[Luma]) -> dict[str, float]:
    """Mean over the images of every metric, by name; PSNR and PSNR-B in dB."""
    return {
        name: float(np.mean([metric(*pair) for pair in zip(images, references, strict=True)]))
        for name, metric in METRICS.items()
    }


def evaluate(
    restorer: Restorer, planes: Sequence[Luma], quality: int, *, hinted: bool
) -> dict[str, dict[str, float]]:
    """Scores of `planes` as JPEG of `quality`, "distorted", and after the restorer, "restored".

    hinted: whether to add "hinted", after a restorer that is told the quantization table.
    """
    distorted = [jpeg(plane, quality) for plane in planes]
    kinds = {
        "distorted": scores(distorted, planes),
        "restored": scores([restorer.luma(plane) for plane in distorted], planes),
    }
    if hinted:
        hints = Hints(luma_table=tuple(scaled_luma_table(quality).tolist()))
        kinds["hinted"] = scores([restorer.luma(plane, hints=hints) for plane in distorted], planes)
    return kinds


def psnr_gain(
    module: TorchNetwork, pairs: Sequence[Pair], objective: Objective = "residual"
) -> float:
    """IPSNR (paper, section 4): mean gain in PSNR over `pairs`, in dB, in fp32."""
    restored = ((restore(module, bad, objective), bad, good) for bad, good in pairs)
    return float(np.mean([psnr(new, good) - psnr(bad, good) for new, bad, good in restored]))


@torch.inference_mode()
def restore(module: TorchNetwork, plane: Luma, objective: Objective = "residual") -> Luma:
    """`plane`, (H, W) uint8, restored by a network of any objective, whole, at strength 1."""
    radius = module.network.radius
    codes = torch.from_numpy(plane.copy()).to(next(module.parameters()).device).float()[None, None]
    extended = torch.nn.functional.pad(codes, (radius,) * 4, mode="replicate") / 255 - 0.5
    output = module(extended.contiguous(memory_format=torch.channels_last))
    base = codes if objective == "residual" else 127.5
    restored = (base + 255 * output).round_().clamp_(0, 255)
    return np.asarray(restored[0, 0].cpu().numpy(), dtype=np.uint8)
