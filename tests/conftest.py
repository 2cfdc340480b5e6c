"""What several tests share: a model that needs no training, and the folder of odd files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from vfilter.networks import L4


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Planes of these sizes are restored faster by one thread, most of all on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_real_time_threads() -> Iterator[None]:
    """Every test leaves to the scheduler what it was: else those after it may stop the machine."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: L4 with seeded random weights, whose residual is some codes high."""
    folder = tmp_path_factory.mktemp("random-l4")
    rng = np.random.default_rng(4)
    weights = {
        name: (
            rng.normal(0, np.sqrt(1 / np.prod(shape[1:])), shape)
            if len(shape) == 4
            else np.full(shape, 0.01)
        ).astype(np.float32)
        for name, shape in L4.shapes.items()
    }
    metadata = {
        "network": "l4",
        "objective": "residual",
        "codec": "jpeg",
        "quality_min": "10",
        "quality_max": "60",
    }
    save_file(weights, folder / "weights.safetensors", metadata)
    (folder / "metrics.json").write_text(json.dumps({}))
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of development data: VDEBLOCK_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("VDEBLOCK_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no development data in {folder}: set VDEBLOCK_DATA to its folder")
    return folder
