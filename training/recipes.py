"""What a training run depends on besides its images: the recipes of the models, and the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from training.video import WINDOW
from vfilter.networks import NETWORKS

Objective = Literal["residual", "direct", "edge"]
"""What the network's output is held against (`training.objectives`)."""

Initialization = Literal["symmetric", "plain"]
Optimizer = Literal["adamw", "sgd"]

FINEST = 95
"""Highest JPEG quality that training shows a network."""

LEAST = 16
"""Side in pixels of the output in which there are a block's boundaries and windows of SSIM."""

PAPER_RATES: dict[Objective, tuple[float, float]] = {
    "direct": (0.4, 5e-7),
    "residual": (8.0, 5e-7),
    "edge": (0.05, 5e-4),
}
"""Learning rate and weight decay by objective, for the mean of the squared error over the output
pixels on a scale of 0 to 1 (paper, section 4 and its note 2)."""

PAPER_CROPS = {"l4": (64, 64), "l8": (4, 128), "arcnn": (64, 64)}
"""Patches in a batch, and their side in pixels, by network (paper, section 4)."""

PAPER_STEPS = 250_000
PAPER_HALVING = 50_000
"""Iterations of the paper, and those after which it halves the learning rate."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a run depends on besides its images.

    codec: "jpeg", or a codec of `training.video.recoded`.
    qualities: lowest and highest JPEG quality of the main range (`training.samples`), or setting
        of a video codec, from which it is drawn evenly (H.264) or evenly in its logarithm.
    start: name of the model that the weights are taken from, of its checkpoint or, where there is
        none, as shipped; None for new ones.
    fine: share of the crops compressed above that range, up to `FINEST`, so that the
        network learns to leave good sources alone.
        This, `slope` and `foreign` are for JPEG alone.
    slope: power by which low qualities of the main range are commoner; 1 is as many per octave.
    foreign: share of the crops whose table is flatter than libjpeg's (`training.data.jpeg`), evenly
        from not at all to flat.
    drawn: share of the films, for JPEG of the crops, that are drawn (`training.drawings`).
    balance: power by which crops of finer quality weigh more: 0 is plain squared error, which
        they hardly move; with 0.5 quality 10 fell behind (training/LOG.md).
    blocking: what PSNR-B's blocking effect counts beside the squared error, 0.36 being as in PSNR-B
        itself on images of 321 lines; for JPEG alone, whose crops are compressed as images of
        their own and so begin with a block. Of several processes each has its own share's.
    similarity: what 1 - SSIM counts beside it; at 0.002 about as much as the error at quality 10.
    crop: side of the training crops in pixels; batch: crops per step, of all processes together.
    rate: peak learning rate, held until the last `decay` share of `steps`, then falling
        linearly to zero; so a run can be lengthened from any checkpoint before that share.
    halving: steps after which the rate is halved, again and again, in place of that; None for it.
    last: factor of the rate in the last layer.
    momentum: of SGD; AdamW has its own.
    clip: largest gradient norm.
    ema: decay per step of the averaged weights, which are what is evaluated and shipped.
    """

    network: str
    codec: str = "jpeg"
    qualities: tuple[int, int]
    steps: int
    start: str | None = None
    fine: float = 0.0
    slope: float = 1.0
    foreign: float = 0.0
    drawn: float = 0.0
    balance: float = 0.25
    blocking: float = 0.0
    similarity: float = 0.0
    crop: int = 96
    batch: int = 8
    objective: Objective = "residual"
    initialization: Initialization = "symmetric"
    optimizer: Optimizer = "adamw"
    rate: float = 5e-4
    warmup: int = 200
    decay: float = 0.4
    halving: int | None = None
    last: float = 1.0
    momentum: float = 0.9
    clip: float = 0.01
    weight_decay: float = 1e-4
    ema: float = 0.999
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("network", self.network, tuple(NETWORKS))
        _check_choice("codec", self.codec, ("jpeg", "h264", "mpeg"))
        _check_choice("objective", self.objective, get_args(Objective))
        _check_choice("initialization", self.initialization, get_args(Initialization))
        _check_choice("optimizer", self.optimizer, get_args(Optimizer))
        if self.crop <= 2 * self.radius:
            raise ValueError(f"crop must be above {2 * self.radius} pixels, got {self.crop}")
        if (self.blocking or self.similarity) and self.crop < 2 * self.radius + LEAST:
            raise ValueError(
                f"crop must be {2 * self.radius + LEAST} pixels at least for what counts beside "
                f"the squared error, got {self.crop}"
            )
        if self.blocking and self.codec != "jpeg":
            raise ValueError(f"blocking is for crops of JPEG, not of {self.codec}")
        if self.codec != "jpeg" and self.crop > WINDOW:
            raise ValueError(f"crop must be {WINDOW} at most for {self.codec}, got {self.crop}")
        if self.steps < 0:
            raise ValueError(f"steps must be 0 or more, got {self.steps}")
        if not self.rate > 0:
            raise ValueError(f"rate must be positive, got {self.rate}")
        if self.batch < 1:
            raise ValueError(f"batch must be positive, got {self.batch}")

    @property
    def radius(self) -> int:
        """Pixels that a crop loses on each side in the network."""
        return NETWORKS[self.network].radius

    def learning_rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 0."""
        if self.halving is not None:
            return float(self.rate * 0.5 ** (step // self.halving))
        rising = (step + 1) / self.warmup
        falling = (self.steps - step) / (self.decay * self.steps)
        return self.rate * min(1.0, rising, falling)


def _check_choice(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{what} must be one of {', '.join(choices)}, got {value!r}")


def paper(recipe: Recipe) -> Recipe:
    """`recipe`'s network, quality and objective by the paper's recipe (section 4).

    The paper names no momentum; 0.9 is the usual one. It has no averaged weights and no limit of
    the gradient.
    """
    rate, weight_decay = PAPER_RATES[recipe.objective]
    batch, crop = PAPER_CROPS[recipe.network]
    return replace(
        recipe,
        start=None,
        fine=0.0,
        slope=1.0,
        foreign=0.0,
        drawn=0.0,
        balance=0.0,
        blocking=0.0,
        similarity=0.0,
        batch=batch,
        crop=crop,
        optimizer="sgd",
        rate=rate,
        weight_decay=weight_decay,
        steps=PAPER_STEPS,
        halving=PAPER_HALVING,
        last=0.1,
        clip=math.inf,
        ema=0.0,
    )


RECIPES = {
    "l8-jpeg": Recipe(
        network="l8", qualities=(10, 60), fine=0.2, foreign=0.25, drawn=0.15, steps=36000
    ),
    "l4-jpeg": Recipe(
        network="l4",
        qualities=(10, 60),
        fine=0.1,
        slope=2.0,
        drawn=0.15,
        balance=0.0,
        steps=17000,
        batch=4,
        rate=1e-3,
    ),
}
"""By name of the model; those for video codecs and for one JPEG quality follow."""

RECIPES |= {
    name: Recipe(
        network=name[:2],
        codec=codec,
        qualities=settings,
        drawn=0.15 if name.startswith("l4") else 0.2,
        start=start,
        steps=steps,
        decay=0.25 if name in ("l8-h264-coarse", "l8-mpeg", "l8-mpeg-coarse") else 0.5,
        batch=8 if name.startswith("l8") else 4,
        rate=5e-4 if name.startswith("l8") else 1e-3,
    )
    for name, codec, settings, start, steps in (
        ("l8-h264", "h264", (18, 42), "l8-jpeg", 21000),
        ("l8-h264-coarse", "h264", (25, 41), "l8-h264", 45500),
        ("l8-mpeg", "mpeg", (2, 31), "l8-jpeg", 13000),
        ("l8-mpeg-coarse", "mpeg", (5, 31), "l8-mpeg", 34500),
        ("l4-h264", "h264", (18, 42), "l4-jpeg", 20000),
        ("l4-mpeg", "mpeg", (2, 31), "l4-jpeg", 20000),
    )
}

RECIPES |= {
    f"l8-q{quality}": Recipe(
        network="l8",
        qualities=(quality, quality),
        start=start,
        balance=0.0,
        blocking=0.08 if quality == 20 else 0.0,
        steps=18000 if quality == 20 else 15000,
    )
    for quality, start in ((20, "l8-jpeg"), (10, "l8-q20"))
}
RECIPES |= {
    f"l4-q{quality}": Recipe(
        network="l4",
        qualities=(quality, quality),
        start="l4-jpeg",
        balance=0.0,
        similarity=1e-3 if quality == 10 else 0.0,
        steps=53000 if quality == 10 else 16000,
        rate=1e-3,
    )
    for quality in (10, 20, 30, 40, 50, 60)
}
RECIPES |= {
    f"arcnn-q{quality}": Recipe(
        network="arcnn",
        qualities=(quality, quality),
        balance=0.0,
        blocking=0.05 if quality == 10 else 0.0,
        similarity=1e-3 if quality == 10 else 0.0,
        steps=16000 if quality == 10 else 8000,
        batch=4,
        rate=1e-3,
    )
    for quality in (10, 20)
}
