"""The training loop: steps over random crops, resumable to the bit."""

from __future__ import annotations

import io
import math
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.data import Luma
from training.evaluate import Pair, psnr_gain
from training.log import Log
from training.objectives import blocking_effect, centre, dissimilarity, initialize, loss
from training.processes import ALONE, Place
from training.recipes import Recipe
from training.samples import Batch, Pictures, batches, damaged_pairs
from vfilter.errors import ModelError
from vfilter.networks import NETWORKS, Network
from vfilter.torch_module import TorchNetwork
from vfilter.weights import load, models_folder

LOG_EVERY = 50
"""Steps between two lines of progress."""

FIXED = ("network", "codec", "objective", "initialization", "optimizer")
"""What a run can't change when it goes on from a checkpoint."""


DAMAGED = (
    *(RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError),
    pickle.UnpicklingError,
)
"""What reading a file raises that is no checkpoint, or one of other code."""

STATE = {"recipe", "step", "seconds", "module", "average", "optimizer"}
"""What a checkpoint holds at least: older ones lack the rest."""


class Run:
    """One training run: module, averaged weights, optimizer and the step they have reached.

    Every batch is a function of the recipe and the step, so the step is all of the random state.
    losses: of the steps since the log's last row; photos: what it has seen, for people.
    bfloat16: whether products are in bfloat16 (autocast); None for what the device has of its own.
    """

    def __init__(
        self, recipe: Recipe, place: Place = ALONE, *, bfloat16: bool | None = None
    ) -> None:
        self.recipe = recipe
        self.place = place
        self.bfloat16 = place.bfloat16 if bfloat16 is None else bfloat16
        self.network: Network = NETWORKS[recipe.network]
        self.step = 0
        self.seconds = 0.0
        self.losses: list[float] = []
        self.photos = "unknown photos"
        self.module = TorchNetwork(self.network)
        initialize(self.module, recipe.initialization, torch.Generator().manual_seed(recipe.seed))
        self.module.to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
        self.average = _copied(self.module.state_dict())
        self.optimizer = _optimizer(recipe, self.module)
        self._parallel: nn.Module | None = None

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one stays until the new one is complete.

        Raises OSError if it can't be written, for lack of space for one.
        """
        state = {
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "photos": self.photos,
            "device": self.place.device.type,
            "module": self.module.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        temporary = path.with_suffix(".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(buffer.getvalue())
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(
                f"the checkpoint of step {self.step} can't be written to {path} "
                f"({error.strerror}): make room and run again; the one before it is kept"
            ) from error

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of a run that is alike in what is `FIXED`.

        Raises ValueError if the checkpoint is of another one or damaged.
        """
        state = read_checkpoint(path, self.place.device)
        held = Recipe(**state["recipe"])
        for name in FIXED:
            was, wanted = getattr(held, name), getattr(self.recipe, name)
            if was != wanted:
                raise ValueError(
                    f"{path} holds {was}, not {wanted}: name another folder of checkpoints, "
                    "or remove it to begin anew"
                )
        self.module.load_state_dict(state["module"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.losses = state.get("losses", [])

    def begin_with(self, path: Path) -> None:
        """Take the averaged weights of another run's checkpoint, of the same network and objective;
        where there is none, those of the shipped model of its name.

        Raises FileNotFoundError if there is neither, ValueError if it is of another one.
        """
        what: tuple[str, str]
        if path.exists():
            state = read_checkpoint(path, self.place.device)
            held, weights = Recipe(**state["recipe"]), state["average"]
            what = (held.network, held.objective)
        else:
            try:
                model = load(models_folder() / path.stem)
            except ModelError:
                raise FileNotFoundError(
                    f"there is no {path} to begin with: train {path.stem} first"
                ) from None
            what = (model.network.name, model.objective)
            weights = {
                name: torch.from_numpy(weight.copy()).to(self.place.device)
                for name, weight in model.weights.items()
            }
        asked = (self.recipe.network, self.recipe.objective)
        for was, wanted in zip(what, asked, strict=True):
            if was != wanted:
                raise ValueError(
                    f"{path} holds {was}, not {wanted}: name another folder of checkpoints"
                )
        self.module.load_state_dict(weights)
        self.average = _copied(weights)

    def advance(self, batch: Batch) -> tuple[float, float]:
        """One step on this process's share of its batch.

        Returns the loss in squared 8-bit codes (weighted) and the gradient norm.
        """
        self._set_rate(self.recipe.learning_rate(self.step))
        error = self._error(batch)
        self.optimizer.zero_grad(set_to_none=True)
        error.backward()  # type: ignore[no-untyped-call]  # stubs
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return self.place.mean(error.detach()) * 255**2, float(norm)

    def _set_rate(self, rate: float) -> None:
        factors = (1.0, self.recipe.last)
        for group, factor in zip(self.optimizer.param_groups, factors, strict=False):
            group["lr"] = rate * factor

    def _error(self, batch: Batch) -> Tensor:
        device = self.place.device
        distorted, clean, weight = (tensor.to(device) for tensor in batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            output = self.parallel(distorted.contiguous(memory_format=torch.channels_last))
        radius = self.network.radius
        before, after = centre(distorted, radius), centre(clean, radius)
        output = output.float()
        error = loss(self.recipe.objective, output, before, after, weight)
        image = before + output if self.recipe.objective == "residual" else output
        if self.recipe.blocking:
            error = error + self.recipe.blocking * blocking_effect(image, -radius)
        if self.recipe.similarity:
            error = error + self.recipe.similarity * dissimilarity(image, after)
        return error

    @property
    def parallel(self) -> nn.Module:
        """The module, which shares its gradients with the other processes if there are any."""
        if self.place.ranks == 1:
            return self.module
        if self._parallel is None:
            self._parallel = nn.parallel.DistributedDataParallel(self.module)
        return self._parallel

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.recipe.ema, self.step / (self.step + 10))
        for name, value in self.module.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def averaged(self) -> TorchNetwork:
        """The network with the averaged weights."""
        module = TorchNetwork(self.network)
        module.load_state_dict(self.average)
        module.to(self.place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs
        return module.eval()


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}


def _optimizer(recipe: Recipe, module: TorchNetwork) -> torch.optim.Optimizer:
    """The recipe's optimizer; the last layer is a group of its own where its rate is another."""
    *body, weight, bias = module.parameters()
    groups = [[*body, weight, bias]] if recipe.last == 1 else [body, [weight, bias]]
    parameters = [{"params": group} for group in groups]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        parameters, lr=recipe.rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def read_checkpoint(path: Path, device: torch.device = ALONE.device) -> dict[str, Any]:
    """What `Run.save` wrote.

    Raises ValueError if the file is damaged.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or not state.keys() >= STATE:
            raise ValueError("something of a training is missing")
        network = NETWORKS[Recipe(**state["recipe"]).network]
        for weights in (state["module"], state["average"]):
            TorchNetwork(network).load_state_dict(weights)
    except DAMAGED as error:
        raise ValueError(f"{path} is damaged or no checkpoint: remove it to begin anew") from error
    return state


def open_run(
    recipe: Recipe, checkpoint: Path, place: Place = ALONE, *, bfloat16: bool | None = None
) -> Run:
    """The run of a checkpoint, or where there is none a new one, by `recipe.start`."""
    run = Run(recipe, place, bfloat16=bfloat16)
    if checkpoint.exists():
        run.load(checkpoint)
    elif recipe.start is not None:
        run.begin_with(checkpoint.with_name(f"{recipe.start}.pt"))
    return run


def train(
    recipe: Recipe,
    pictures: Pictures,
    validation: Sequence[Luma],
    checkpoint: Path,
    *,
    bfloat16: bool | None = None,
    save_every: int = 500,
    until: int | None = None,
    tensorboard: Path | None = None,
    place: Place = ALONE,
    stopped: Callable[[], bool] = lambda: False,
) -> Run:
    """Train by `recipe`, going on from `checkpoint` where there is one.

    Every `save_every` steps writes the checkpoint and the PSNR gain in dB on `validation` at
    three qualities into the CSV log beside it.
    bfloat16: as of `Run`;
    until: step at which to leave off, of the recipe's; tensorboard: folder of its events;
    stopped: whether to leave off after this step, the checkpoint written; of several processes all
        do when one is to.
    """
    run = open_run(recipe, checkpoint, place, bfloat16=bfloat16)
    run.photos = pictures.told
    last = min(recipe.steps, recipe.steps if until is None else until)
    log = Log(checkpoint.with_suffix(".csv"), tensorboard) if place.first else None
    low, high = recipe.qualities
    qualities = sorted({low, (low + high) // 2, high})
    pairs = {quality: damaged_pairs(recipe, validation, quality) for quality in qualities}
    norms: deque[float] = deque(maxlen=LOG_EVERY)
    first, before = run.step, run.seconds  # an earlier machine may have been a faster one
    with closing(batches(pictures, recipe, run.step, rank=place.rank, ranks=place.ranks)) as made:
        while run.step < last and not place.any(stopped()):
            started = time.perf_counter()
            error, norm = run.advance(next(made))
            run.seconds += time.perf_counter() - started
            run.losses.append(error)
            norms.append(norm)
            if not math.isfinite(error):
                raise ValueError(f"the loss is {error} at step {run.step}: choose a lower rate")
            if log is not None and run.step % LOG_EVERY == 0:
                left = (last - run.step) * (run.seconds - before) / (run.step - first)
                _show_progress(run, norms, left, last, log)
            if log is not None and (run.step % save_every == 0 or run.step == last):
                error, run.losses = float(np.mean(run.losses)), []
                run.save(checkpoint)
                _evaluate(run, error, pairs, log)
    if log is not None and run.losses:
        run.save(checkpoint)
    return run


def _show_progress(run: Run, norms: Iterable[float], left: float, last: int, log: Log) -> None:
    """Print a line about the latest steps, with `left` seconds to go, and tell TensorBoard."""
    error, norm = float(np.mean(run.losses[-LOG_EVERY:])), float(np.median(list(norms)))
    print(
        f"step {run.step}/{last}  loss {error:.2f}  gradient {norm:.4f}  ETA {left / 60:.0f} min",
        flush=True,
    )
    rate = run.recipe.learning_rate(run.step - 1)
    log.scalars(run.step, {"loss": error, "gradient": norm, "rate": rate})


def _evaluate(run: Run, error: float, pairs: Mapping[int, Sequence[Pair]], log: Log) -> None:
    """Measure the averaged weights on `pairs`, by quality, and log the gains."""
    module = run.averaged()
    gains = {
        quality: psnr_gain(module, some, run.recipe.objective) for quality, some in pairs.items()
    }
    columns = {f"gain_q{quality}": round(gain, 4) for quality, gain in gains.items()}
    log.row(run.step, {"seconds": round(run.seconds), "loss": round(error, 3)} | columns)
    log.scalars(run.step, columns)
    print("gain " + "  ".join(f"Q{q} {gain:+.3f}" for q, gain in gains.items()), flush=True)
