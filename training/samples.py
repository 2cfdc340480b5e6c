"""Batches of crops, damaged and not: a function of the recipe and the step alone."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count

import numpy as np
import torch
from torch import Tensor

from training.data import Luma, jpeg, random_crop
from training.drawings import drawing, drawn_film
from training.evaluate import Pair
from training.recipes import FINEST, Recipe
from training.video import FRAMES, WINDOW, coarseness, crops_of, film, recoded, window

CROPS = 2
"""Crops that training takes of each film."""

Batch = tuple[Tensor, Tensor, Tensor]
"""Distorted and clean crops, (N, 1, H, W) float32 on the networks' scale, and the weight of each
crop's squared error, (N, 1, 1, 1) float32."""


@dataclass(frozen=True)
class Pictures:
    """What training sees: luma planes of photographs, and clips for the video codecs.

    origin: where the photographs are from, for people.
    """

    planes: Sequence[Luma]
    clips: Sequence[Sequence[Luma]] = ()
    origin: str = "unknown"

    @property
    def told(self) -> str:
        """The origin and number of the photographs."""
        return f"{self.origin}, {len(self.planes):,} photos"


def batches(
    pictures: Pictures, recipe: Recipe, start: int, *, rank: int = 0, ranks: int = 1
) -> Generator[Batch]:
    """`sample_batch` of each step from `start` on, endlessly.

    A thread makes the next one while this one is used.
    """
    make = partial(sample_batch, pictures, recipe, rank=rank, ranks=ranks)
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(make, start)
        for step in count(start + 1):
            batch = ahead.result()
            ahead = pool.submit(make, step)
            yield batch


def sample_batch(
    pictures: Pictures, recipe: Recipe, step: int, *, rank: int = 0, ranks: int = 1
) -> Batch:
    """The batch of `step`, which depends on nothing but `recipe` and `step`.

    rank, ranks: which of several equal shares of it is wanted.
    """
    jpegs = recipe.codec == "jpeg"
    sample, draws = (_jpeg_crop, recipe.batch) if jpegs else (_video_crops, recipe.batch // CROPS)
    if draws % ranks:
        raise ValueError(
            f"{draws} draws a step can't be shared evenly by {ranks} processes: "
            "choose another number of processes or batch"
        )
    crops = [
        crop
        for draw in range(rank, draws, ranks)
        for crop in sample(pictures, recipe, np.random.default_rng((recipe.seed, step, draw)))
    ]
    distorted, clean, weights = zip(*crops, strict=True)
    weight = torch.tensor(weights, dtype=torch.float32).view(-1, 1, 1, 1)
    return _to_tensor(distorted), _to_tensor(clean), weight


def _jpeg_crop(
    pictures: Pictures, recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[Luma, Luma, float]]:
    """A crop of a photograph or a drawing, damaged and not, and its weight."""
    if rng.random() < recipe.drawn:
        crop = drawing(recipe.crop, rng)
    else:
        crop = random_crop(pictures.planes, recipe.crop, rng)
    quality = sample_quality(recipe, rng)
    weight = (table_scale(recipe.qualities[0]) / table_scale(quality)) ** recipe.balance
    flatter = rng.random() if rng.random() < recipe.foreign else 0.0
    yield jpeg(crop, quality, flatter=flatter), crop, weight


def _video_crops(
    pictures: Pictures, recipe: Recipe, rng: np.random.Generator
) -> Iterator[tuple[Luma, Luma, float]]:
    """`CROPS` crops of one film, damaged and not, and their weights.

    Of the films that aren't drawn half are clips, half photographs in motion.
    """
    low, high = recipe.qualities
    frames = int(rng.integers(*FRAMES))
    if rng.random() < recipe.drawn:
        shown = drawn_film(WINDOW, frames, rng)
    elif rng.random() < 0.5 and pictures.clips:
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
    return torch.from_numpy(np.stack(crops)[:, None].astype(np.float32) / 255 - np.float32(0.5))


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
    quality: float = rng.uniform(*sorted((low**power, high**power))) ** (1 / power)
    return round(quality)


def table_scale(quality: int) -> float:
    """Percentage by which libjpeg scales its standard tables at `quality` (jpeg_quality_scaling).

    The squared error of a JPEG grows about as this scale; the loss is weighted by a small
    negative power of it (`Recipe.balance`), so that fine qualities count without ruling.
    """
    return 5000 / quality if quality < 50 else max(200 - 2 * quality, 1)
