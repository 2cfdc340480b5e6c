"""Objectives, initializations and recipes: the paper's equations, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel
from torch import Tensor

from training.__main__ import choose
from training.data import Luma, jpeg
from training.loop import Run
from training.objectives import SOBEL, blocking_effect, centre, dissimilarity, initialize, loss
from training.recipes import PAPER_RATES, RECIPES, Recipe, paper
from training.samples import Pictures, sample_batch
from training.units import activity, highest_rates, saturation, shares
from vfilter.comparison import metrics
from vfilter.networks import L4, L8
from vfilter.torch_module import TorchNetwork

ONES = torch.ones(2, 1, 1, 1)

TINY = Recipe(network="l4", qualities=(10, 10), steps=3, crop=32, batch=2, warmup=2)


@pytest.fixture
def images() -> tuple[Tensor, Tensor, Tensor]:
    """Output, distorted and clean, (2, 1, 9, 8), of noise."""
    output, distorted, clean = torch.rand(3, 2, 1, 9, 8, generator=torch.Generator().manual_seed(3))
    return output, distorted, clean


@pytest.fixture
def planes() -> list[Luma]:
    y, x = np.mgrid[:48, :56]
    return [
        np.rint(100 + 60 * np.sin(x / (3 + k)) * np.cos(y / 5)).astype(np.uint8) for k in (0, 1)
    ]


def test_residual_is_what_direct_mapping_is_of_the_sum(
    images: tuple[Tensor, Tensor, Tensor],
) -> None:
    output, distorted, clean = images
    direct = loss("direct", output + distorted, distorted, clean, ONES)
    assert loss("residual", output, distorted, clean, ONES) == pytest.approx(direct.item())
    assert direct == pytest.approx(((output + distorted - clean) ** 2).mean().item())


def test_edges_are_those_of_the_sobel_filters(images: tuple[Tensor, Tensor, Tensor]) -> None:
    output, distorted, clean = images
    expected = 0.0
    for error in (output - clean)[:, 0].double().numpy():
        squares = [sobel(error, axis)[1:-1, 1:-1] ** 2 for axis in (0, 1)]
        expected += np.mean(squares[0] + squares[1]) / 2
    edge, direct = (loss(kind, output, distorted, clean, ONES) for kind in ("edge", "direct"))
    assert (edge - direct).item() == pytest.approx(expected, rel=1e-5)


def test_edges_do_not_see_an_offset(images: tuple[Tensor, Tensor, Tensor]) -> None:
    _, distorted, clean = images
    assert loss("edge", clean + 0.5, distorted, clean, ONES).item() == pytest.approx(0.25)


def test_weights_are_of_crops(images: tuple[Tensor, Tensor, Tensor]) -> None:
    output, distorted, clean = images
    weight = torch.tensor([2.0, 0.0]).view(2, 1, 1, 1)
    for kind in ("residual", "edge"):
        first = loss(kind, output[:1], distorted[:1], clean[:1], ONES[:1])
        whole = loss(kind, output, distorted, clean, weight)
        assert whole.item() == pytest.approx(first.item(), rel=1e-6)


def test_sobel_filters_are_one_turned() -> None:
    assert torch.equal(SOBEL[0, 0].T, SOBEL[1, 0])


def test_the_blocking_effect_is_that_of_psnr_b(planes: list[Luma]) -> None:
    plane = jpeg(planes[0][:48, :48], 10)
    batch = torch.from_numpy(plane[None, None] / np.float32(255) - 0.5)
    found = 3 / np.log2(48) * 255**2 * blocking_effect(batch, 0).item()
    assert found == pytest.approx(metrics.blocking_effect(plane), rel=0.01) and found > 1
    assert blocking_effect(batch, 8) == blocking_effect(batch, 0)
    shifted = blocking_effect(batch[..., 3:, 3:], -3).item()
    assert shifted == pytest.approx(blocking_effect(batch, 0).item(), rel=0.1)
    assert blocking_effect(batch, 4) == 0, "nothing is in the middle of blocks"


def test_dissimilarity_is_what_ssim_lacks(planes: list[Luma]) -> None:
    batches = []
    for quality in (10, 100):
        stack = np.stack([jpeg(plane, quality) for plane in planes])
        batches.append(torch.from_numpy(stack[:, None] / np.float32(255) - 0.5))
    pairs = [(jpeg(plane, 10), jpeg(plane, 100)) for plane in planes]
    expected = 1 - np.mean([metrics.ssim_uniform(*pair) for pair in pairs])
    assert dissimilarity(*batches).item() == pytest.approx(expected, rel=1e-3)
    assert expected > 0.01


@pytest.mark.parametrize("field", ["blocking", "similarity"])
def test_a_step_heeds_what_counts_beside_the_squared_error(planes: list[Luma], field: str) -> None:
    plain = replace(TINY, crop=48, steps=40, rate=1e-3)
    distorted, clean, weight = sample_batch(Pictures(planes), plain, 0)
    left = []
    for recipe in (plain, replace(plain, **{field: 1.0})):
        run = Run(recipe)
        for _ in range(recipe.steps):
            run.advance((distorted, clean, weight))
        before, after = (centre(batch, L4.radius) for batch in (distorted, clean))
        image = before + run.module(distorted).detach()
        of = {"blocking": blocking_effect(image, -L4.radius)}
        of["similarity"] = dissimilarity(image, after)
        left.append(of[field].item())
    assert left[1] < 0.95 * left[0]


def test_what_counts_beside_the_squared_error_wants_room() -> None:
    with pytest.raises(ValueError, match="crop must be 34 pixels at least"):
        replace(TINY, similarity=1.0)
    with pytest.raises(ValueError, match="blocking is for crops of JPEG, not of h264"):
        replace(TINY, crop=48, codec="h264", blocking=1.0)


def test_the_paper_has_the_squared_error_alone() -> None:
    for name in ("l4-q10", "l8-q20"):
        chosen = choose(name, "ours", "direct", "symmetric", None, None, None)
        for recipe in (chosen, paper(RECIPES[name])):
            assert (recipe.blocking, recipe.similarity, recipe.start) == (0, 0, None)
    assert (paper(RECIPES["l8-jpeg"]).foreign, paper(RECIPES["l4-jpeg"]).slope) == (0, 1)


@pytest.mark.parametrize("network", [L4, L8], ids=["l4", "l8"])
def test_initializations_differ_in_the_means_of_the_filters(network) -> None:  # type: ignore[no-untyped-def]
    modules = {}
    for kind in ("symmetric", "plain"):
        modules[kind] = TorchNetwork(network)
        initialize(modules[kind], kind, torch.Generator().manual_seed(0))
    for i in range(len(network.layers) - 1):
        symmetric, plain = (modules[k].layers[i].weight for k in ("symmetric", "plain"))
        means = plain.mean(dim=(1, 2, 3), keepdim=True)
        assert means.abs().min() > 1e-6
        torch.testing.assert_close(symmetric, plain - means)
    last = len(network.layers) - 1
    assert torch.equal(*(modules[k].layers[last].weight for k in ("symmetric", "plain")))


@pytest.mark.parametrize("objective", ["direct", "edge"])
def test_objectives_train(objective: str, planes: list[Luma]) -> None:
    run = Run(replace(TINY, objective=objective, steps=40))
    batches = (sample_batch(Pictures(planes), run.recipe, step) for step in range(12))
    losses = [run.advance(batch)[0] for batch in batches]
    assert losses[-1] < 0.8 * losses[0]


def test_recipe_of_the_paper() -> None:
    recipe = paper(replace(RECIPES["l4-q20"], objective="direct"))
    assert (recipe.batch, recipe.crop) == (64, 64)
    assert (recipe.rate, recipe.weight_decay) == PAPER_RATES["direct"] == (0.4, 5e-7)
    rates = [recipe.learning_rate(step) for step in (0, 49_999, 50_000, 249_999)]
    assert rates == [0.4, 0.4, 0.2, 0.025]
    assert (paper(RECIPES["l8-q20"]).batch, paper(RECIPES["l8-q20"]).crop) == (4, 128)


def test_recipe_of_the_paper_is_sgd(planes: list[Luma]) -> None:
    """Two steps of momentum, by hand; the last layer at a tenth of the rate."""
    recipe = replace(paper(RECIPES["l4-q10"]), batch=2, crop=32, weight_decay=0.0)
    run = Run(recipe, bfloat16=False)
    names = [name for name, _ in run.module.named_parameters()]
    expected = {name: value.detach().clone() for name, value in run.module.named_parameters()}
    velocity = {name: torch.zeros_like(value) for name, value in expected.items()}
    for _ in range(2):
        run.advance(sample_batch(Pictures(planes), recipe, run.step))
        for name, value in run.module.named_parameters():
            assert value.grad is not None
            velocity[name] = 0.9 * velocity[name] + value.grad
            rate = 0.8 if name in names[-2:] else 8.0
            expected[name] -= rate * velocity[name]
            torch.testing.assert_close(value.detach(), expected[name])
            assert torch.equal(run.average[name], value)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("network", "l9", "network must be one of l4, l8, arcnn, got 'l9'"),
        ("codec", "avs", "codec must be one of jpeg, h264, mpeg, got 'avs'"),
        ("objective", "ssim", "objective must be one of residual, direct, edge, got 'ssim'"),
        ("initialization", "he", "initialization must be one of symmetric, plain, got 'he'"),
        ("optimizer", "lion", "optimizer must be one of adamw, sgd, got 'lion'"),
        ("crop", 18, "crop must be above 18 pixels, got 18"),
        ("batch", 0, "batch must be positive, got 0"),
        ("steps", -1, "steps must be 0 or more, got -1"),
    ],
)
def test_recipe_checks_itself(field: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **{field: value})  # type: ignore[arg-type]


def test_units_that_are_dead_and_always_on(planes: list[Luma]) -> None:
    module = TorchNetwork(L4)
    initialize(module, "symmetric", torch.Generator().manual_seed(0))
    with torch.no_grad():
        module.layers[1].bias[:16] = -100
        module.layers[1].bias[16:48] = 100
    found = shares(activity(module, planes))
    assert len(found) == 3
    assert found[1][0] >= 16 / 64 and found[1][1] >= 32 / 64
    assert found[0][1] < 0.5


def test_symmetric_initialization_does_not_see_the_offset_of_the_input(planes: list[Luma]) -> None:
    module = TorchNetwork(L4)
    initialize(module, "symmetric", torch.Generator().manual_seed(0))
    for a, b in zip(activity(module, planes), activity(module, planes, offset=0.0), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=0)


def test_rows_of_the_experiment(planes: list[Luma]) -> None:
    rows = list(saturation(TINY, Pictures(planes), planes))
    assert {row["when"] for row in rows} == {"start", "start, 0 to 1", "step 3"}
    assert len(rows) == 2 * 3 * 3
    rates = list(highest_rates(replace(TINY, steps=2), Pictures(planes)))
    assert {row["initialization"] for row in rates} == {"symmetric", "plain"}
