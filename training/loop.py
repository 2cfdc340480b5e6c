"""The training loop: AdamW over random crops, resumable to the bit."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data import Luma, jpeg, random_crop
from training.evaluate import Pair, psnr_gain
from training.video import FRAMES, WINDOW, coarseness, crops_of, film, recoded, window
from vfilter.networks import NETWORKS, Network
from vfilter.torch_module import TorchNetwork

EMA = 0.999
"""Decay per step of the averaged weights, which are what is evaluated and shipped."""

FINEST = 95
"""Highest JPEG quality that training shows a network."""

CROPS = 2
"""Crops that training takes of each film."""

LOG_EVERY = 50
"""Steps between two lines of the log."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a run depends on besides its images.

    codec: "jpeg", or a codec of `training.video.recoded`.
    qualities: lowest and highest JPEG quality of the main range (`sample_quality`), or setting of
        a video codec, from which it is drawn evenly (H.264) or evenly in its logarithm.
    start: name of the model whose checkpoint the weights are taken from; None for new ones.
    fine: share of the crops compressed above that range, up to `FINEST`, so that the
        network learns to leave good sources alone.
        This and `slope` are for JPEG alone.
    slope: power by which low qualities of the main range are commoner; 1 is as many per octave.
    balance: power by which crops of finer quality weigh more: 0 is plain squared error, which
        they hardly move; with 0.5 quality 10 fell behind (training/LOG.md).
    crop: side of the training crops in pixels; batch: crops per step.
    rate: peak learning rate, held until the last `decay` share of `steps`, then falling
        linearly to zero; so a run can be lengthened from any checkpoint before that share.
    clip: largest gradient norm.
    """

    network: str
    codec: str = "jpeg"
    qualities: tuple[int, int]
    steps: int
    start: str | None = None
    fine: float = 0.0
    slope: float = 1.0
    balance: float = 0.25
    crop: int = 96
    batch: int = 8
    rate: float = 5e-4
    warmup: int = 200
    decay: float = 0.4
    clip: float = 0.01
    weight_decay: float = 1e-4
    seed: int = 0

    def learning_rate(self, step: int) -> float:
        """The learning rate of `step`, counted from 0."""
        rising = (step + 1) / self.warmup
        falling = (self.steps - step) / (self.decay * self.steps)
        return self.rate * min(1.0, rising, falling)


def initialize(module: TorchNetwork, generator: torch.Generator) -> None:
    """Symmetric initialization (paper, section 3): Xavier, then every filter made zero-mean.

    The last layer is a Gaussian of lower variation, so that the residual starts near zero.
    """
    last = len(module.layers) - 1
    for i, layer in enumerate(module.layers):
        weight = layer.weight
        assert isinstance(weight, Tensor) and isinstance(layer.bias, Tensor)
        torch.nn.init.zeros_(layer.bias)
        if i == last:
            torch.nn.init.normal_(weight, std=1e-3, generator=generator)
            continue
        torch.nn.init.xavier_normal_(weight, generator=generator)
        with torch.no_grad():
            weight -= weight.mean(dim=(1, 2, 3), keepdim=True)


@dataclass(frozen=True)
class Pictures:
    """What training sees: luma planes of photographs, and clips for the video codecs."""

    planes: Sequence[Luma]
    clips: Sequence[Sequence[Luma]] = ()


def sample_batch(pictures: Pictures, recipe: Recipe, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """The batch of `step`, which depends on nothing but `recipe` and `step`.

    Returns distorted and clean crops, (N, 1, H, W) float32 on the networks' scale, and the
    weight of each crop's squared error, (N, 1, 1, 1) float32.
    """
    rng = np.random.default_rng((recipe.seed, step))
    sample = _jpeg_crops if recipe.codec == "jpeg" else _video_crops
    distorted, clean, weights = zip(*sample(pictures, recipe, rng), strict=True)
    weight = torch.tensor(weights, dtype=torch.float32).view(-1, 1, 1, 1)
    return _to_tensor(distorted), _to_tensor(clean), weight


def _jpeg_crops(
    pictures: Pictures, recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[Luma, Luma, float]]:
    """Crops for one step, damaged and not, and their weights."""
    low, _ = recipe.qualities
    for _ in range(recipe.batch):
        crop = random_crop(pictures.planes, recipe.crop, rng)
        quality = sample_quality(recipe, rng)
        weight = (table_scale(low) / table_scale(quality)) ** recipe.balance
        yield jpeg(crop, quality), crop, weight


def _video_crops(
    pictures: Pictures, recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[Luma, Luma, float]]:
    """Crops for one step, damaged and not, and their weights; `CROPS` of each film."""
    low, high = recipe.qualities
    for _ in range(recipe.batch // CROPS):
        frames = int(rng.integers(*FRAMES))
        if rng.random() < 0.5 and pictures.clips:
            clip = pictures.clips[int(rng.integers(len(pictures.clips)))]
            shown = window(clip, WINDOW, frames, rng)
        else:
            plane = pictures.planes[int(rng.integers(len(pictures.planes)))]
            shown = film(plane, WINDOW, frames, rng)
        if recipe.codec == "h264":
            setting = rng.uniform(low, high)
        else:
            setting = float(round(math.exp(rng.uniform(math.log(low), math.log(high)))))
        damaged = recoded(shown, recipe.codec, round(setting, 1), rng)
        finest, this = (coarseness(recipe.codec, value) for value in (low, setting))
        for _ in range(CROPS):
            yield *crops_of(shown, damaged, recipe.crop, rng), (finest / this) ** recipe.balance


def damaged_pairs(recipe: Recipe, planes: Sequence[Luma], setting: int) -> list[Pair]:
    """Planes, damaged and not, by which a run is watched: of films, the sixth frame."""
    if recipe.codec == "jpeg":
        return [(jpeg(plane, setting), plane) for plane in planes]
    pairs = []
    for index, plane in enumerate(planes):
        rng = np.random.default_rng((index, setting))
        shown = film(plane, WINDOW, 8, rng)
        pairs.append((recoded(shown, recipe.codec, setting, rng)[5], shown[5]))
    return pairs


def _to_tensor(crops: Sequence[Luma]) -> Tensor:
    """(N, 1, H, W) float32 on the networks' scale of N uint8 crops (H, W)."""
    return torch.from_numpy(np.stack(crops)[:, None]).float() / 255 - 0.5


def sample_quality(recipe: Recipe, rng: np.random.Generator) -> int:
    """A JPEG quality q of the main range, its density as q**-slope, or by `recipe.fine` above it.

    Low qualities differ more from step to step and are the harder ones to restore.
    """
    low, high = recipe.qualities
    if rng.random() < recipe.fine:
        return int(rng.integers(high + 1, FINEST + 1))
    power = 1.0 - recipe.slope
    if power == 0:
        return round(math.exp(rng.uniform(math.log(low), math.log(high))))
    quality: float = rng.uniform(high**power, low**power) ** (1 / power)
    return round(quality)


def table_scale(quality: int) -> float:
    """Percentage by which libjpeg scales its standard tables at `quality` (jpeg_quality_scaling).

    The squared error of a JPEG grows about as this scale; the loss is weighted by a small
    negative power of it (`Recipe.balance`), so that fine qualities count without ruling.
    """
    return 5000 / quality if quality < 50 else max(200 - 2 * quality, 1)


class Run:
    """One training run: module, averaged weights, optimizer and the step they have reached."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.network: Network = NETWORKS[recipe.network]
        self.step = 0
        self.seconds = 0.0
        self.module = TorchNetwork(self.network)
        initialize(self.module, torch.Generator().manual_seed(recipe.seed))
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
        self.average = {k: v.detach().clone() for k, v in self.module.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.module.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
        )

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is complete."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "recipe": asdict(self.recipe),
                "step": self.step,
                "seconds": self.seconds,
                "module": self.module.state_dict(),
                "average": self.average,
                "optimizer": self.optimizer.state_dict(),
            },
            temporary,
        )
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same network.

        Raises ValueError if the checkpoint is of another network.
        """
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["recipe"]["network"] != self.recipe.network:
            raise ValueError(
                f"{path} holds {state['recipe']['network']}, not {self.recipe.network}"
            )
        self.module.load_state_dict(state["module"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.seconds = state["seconds"]

    def begin_with(self, path: Path) -> None:
        """Take the averaged weights of another run's checkpoint, of the same network."""
        self.average = torch.load(path, weights_only=True)["average"]
        self.module.load_state_dict(self.average)
        self.average = {k: v.detach().clone() for k, v in self.average.items()}

    def advance(self, pictures: Pictures, *, bfloat16: bool = False) -> tuple[float, float]:
        """One step. Returns the loss in squared 8-bit codes (weighted) and the gradient norm."""
        started = time.perf_counter()
        rate = self.recipe.learning_rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        distorted, clean, weight = sample_batch(pictures, self.recipe, self.step)
        radius = self.network.radius
        target = (clean - distorted)[..., radius:-radius, radius:-radius]
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            residual = self.module(distorted.contiguous(memory_format=torch.channels_last))
        loss = (weight * (residual.float() - target) ** 2).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA, self.step / (self.step + 10))
        with torch.no_grad():
            for name, value in self.module.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)
        self.seconds += time.perf_counter() - started
        return loss.item() * 255**2, float(norm)

    def averaged(self) -> TorchNetwork:
        """The network with the averaged weights."""
        module = TorchNetwork(self.network)
        module.load_state_dict(self.average)
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
        return module.eval()


def train(
    recipe: Recipe,
    pictures: Pictures,
    validation: Sequence[Luma],
    checkpoint: Path,
    *,
    bfloat16: bool = False,
    save_every: int = 500,
) -> Run:
    """Train by `recipe`, going on from `checkpoint` where there is one.

    Every `save_every` steps writes the checkpoint and the PSNR gain in dB on `validation` at
    three qualities into the CSV log beside it.
    """
    run = Run(recipe)
    if checkpoint.exists():
        run.load(checkpoint)
    elif recipe.start is not None:
        run.begin_with(checkpoint.with_name(f"{recipe.start}.pt"))
    low, high = recipe.qualities
    qualities = sorted({low, (low + high) // 2, high})
    pairs = {quality: damaged_pairs(recipe, validation, quality) for quality in qualities}
    log = checkpoint.with_suffix(".csv")
    losses: list[float] = []
    norms: list[float] = []
    while run.step < recipe.steps:
        loss, norm = run.advance(pictures, bfloat16=bfloat16)
        losses.append(loss)
        norms.append(norm)
        if run.step % LOG_EVERY == 0:
            left = (recipe.steps - run.step) * run.seconds / run.step
            print(
                f"step {run.step}/{recipe.steps}  loss {np.mean(losses):.2f}  "
                f"gradient {np.median(norms):.4f}  ETA {left / 60:.0f} min",
                flush=True,
            )
        if run.step % save_every == 0 or run.step == recipe.steps:
            module = run.averaged()
            gains = [psnr_gain(module, pairs[quality]) for quality in qualities]
            _append(
                log,
                ["step", "seconds", "loss", *(f"gain_q{q}" for q in qualities)],
                [run.step, round(run.seconds), round(float(np.mean(losses)), 3)]
                + [round(gain, 4) for gain in gains],
            )
            print(
                "gain "
                + "  ".join(f"Q{q} {g:+.3f}" for q, g in zip(qualities, gains, strict=True)),
                flush=True,
            )
            losses, norms = [], []
            run.save(checkpoint)
    return run


def _append(path: Path, header: Sequence[str], row: Sequence[object]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(header)
        writer.writerow(row)
