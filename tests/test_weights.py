"""Models load by name and by path, and a file that does not fit says why."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from vfilter.bitstream import Hints
from vfilter.errors import ModelError
from vfilter.networks import L4
from vfilter.weights import ALIASES, catalogue, load, models_folder

METADATA = {
    "network": "l4",
    "objective": "residual",
    "codec": "jpeg",
    "quality_min": "10",
    "quality_max": "60",
}


def zeros() -> dict[str, NDArray[np.float32]]:
    return {name: np.zeros(shape, np.float32) for name, shape in L4.shapes.items()}


def write(
    folder: Path,
    *,
    tensors: dict[str, NDArray[Any]] | None = None,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A model folder of L4 with all-zero weights, unless told otherwise."""
    tensors = zeros() if tensors is None else tensors
    folder.mkdir(parents=True, exist_ok=True)
    metadata = METADATA if metadata is None else metadata
    (folder / "weights.safetensors").write_bytes(save(tensors, metadata))
    return folder


def without(key: str) -> dict[str, str]:
    return {k: v for k, v in METADATA.items() if k != key}


def test_folder_and_file(tmp_path: Path) -> None:
    folder = write(tmp_path / "mine", metadata={**METADATA, "steps": "7", "commit": "abc"})
    model = load(folder)
    assert (model.name, model.network, model.quality) == ("mine", L4, (10, 60))
    assert (model.codec, model.objective, model.folder) == ("jpeg", "residual", folder)
    assert (model.steps, model.commit, model.version) == ("7", "abc", "unknown")
    assert {name: array.shape for name, array in model.weights.items()} == L4.shapes
    assert model.gain == {}
    assert load(str(folder / "weights.safetensors")).name == "weights"


def test_shipped_models_load_by_name_and_alias() -> None:
    models = catalogue()
    assert [model.name for model in models] == sorted(p.parent.name for p in shipped())
    for model in models:
        assert load(model.name).network == model.network
        assert all(array.dtype == np.float32 for array in model.weights.values())
    for alias, name in ALIASES.items():
        if name in [model.name for model in models]:
            assert load(alias).name == name


def shipped() -> list[Path]:
    return list(models_folder().glob("*/weights.safetensors"))


def test_installed_models_go_before_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "vfilter"
    package.mkdir()
    monkeypatch.setattr("vfilter.weights.__file__", str(package / "weights.py"))
    assert models_folder() == tmp_path / "models"
    write(package / "models/l4-jpeg")
    assert models_folder() == package / "models"
    assert [model.name for model in catalogue()] == ["l4-jpeg"]
    assert load("l4").name == "l4-jpeg"


def test_gain_is_read_from_the_metrics(tmp_path: Path) -> None:
    row = {"distorted": {"psnr": 27.5}, "restored": {"psnr": 28.75}}
    metrics = {"results": {"LIVE1": {"10": row}}}
    folder = write(tmp_path)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    assert load(folder).gain == {"LIVE1": {10: 1.25}}


@pytest.mark.parametrize("text", ["{", "[1]", '{"results": {"LIVE1": {"10": {}}}}'])
def test_damaged_metrics(tmp_path: Path, text: str) -> None:
    model = load(write(tmp_path))
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ModelError, match=r"damaged .*: delete"):
        _ = model.gain
    (tmp_path / "metrics.json").unlink()
    assert load(tmp_path).gain == {}


@pytest.mark.parametrize(
    "curve", ["{}", '{"20": NaN}', '{"nan": 1}', '{"20": -1}', '{"20": Infinity}']
)
def test_damaged_strengths(tmp_path: Path, curve: str) -> None:
    model = load(write(tmp_path))
    (tmp_path / "metrics.json").write_text(f'{{"strength": {{"mjpeg": {curve}}}}}')
    with pytest.raises(ModelError, match=r"are damaged .*: delete"):
        model.strength(Hints(codec="mjpeg"))


@pytest.mark.parametrize("text", ["[1]", '{"maxima": [1, 2, 3]}', '{"maxima": [[1], [NaN]]}'])
def test_damaged_maxima(tmp_path: Path, text: str) -> None:
    model = load(write(tmp_path))
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(ModelError, match=r"damaged .*: delete"):
        model.maxima_for("int8")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"unknown model 'l9': name one of .*l8-jpeg") as caught:
        load("l9")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "no/such/folder", "l8-jpeg/"])
def test_what_is_neither_name_nor_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"unknown model|there is no file"):
        load(name)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"there is no file .*absent\.safetensors: check"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(ModelError, match=r"there is no file .*weights\.safetensors: check"):
        load(tmp_path)


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_truncated(tmp_path: Path, length: int) -> None:
    path = write(tmp_path) / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelError, match="is truncated or not a safetensors file"):
        load(path)


def test_pickle_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x80\x02cbuiltins\nprint\n(X\x02\x00\x00\x00hitR." + bytes(64))
    with pytest.raises(ModelError, match="is truncated or not a safetensors file"):
        load(path)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "does not say which network it is: its metadata must have the key 'network'"),
        ({**METADATA, "network": "l5"}, "is of the unknown network 'l5': use a model of l4, l8"),
        ({**METADATA, "objective": "direct"}, "was trained for the objective 'direct'"),
        (without("objective"), "has no 'objective' in its metadata"),
        (without("codec"), "has no 'codec' in its metadata"),
        (without("quality_min"), "has no 'quality_min' in its metadata"),
        ({**METADATA, "quality_max": "best"}, "has quality_max 'best' in its metadata, not an int"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(write(tmp_path, metadata=metadata))


def test_missing_tensor(tmp_path: Path) -> None:
    tensors = zeros()
    del tensors["layers.1.bias"]
    with pytest.raises(ModelError, match=r"lacks the tensors layers\.1\.bias: use a model made"):
        load(write(tmp_path, tensors=tensors))


def test_extra_tensor(tmp_path: Path) -> None:
    tensors = {**zeros(), "layers.4.bias": np.zeros(1, np.float32)}
    with pytest.raises(ModelError, match=r"has the unknown tensors layers\.4\.bias"):
        load(write(tmp_path, tensors=tensors))


def test_tensors_of_another_network(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="lacks the tensors"):
        load(write(tmp_path, metadata={**METADATA, "network": "l8"}))


def test_wrong_shape(tmp_path: Path) -> None:
    tensors = {**zeros(), "layers.3.weight": np.zeros((1, 64, 3, 3), np.float32)}
    message = r"has layers\.3\.weight of shape \(1, 64, 3, 3\), not \(1, 64, 5, 5\)"
    with pytest.raises(ModelError, match=message):
        load(write(tmp_path, tensors=tensors))


def test_wrong_dtype(tmp_path: Path) -> None:
    tensors = {name: array.astype(np.float16) for name, array in zeros().items()}
    with pytest.raises(ModelError, match=r"has layers\.0\.weight as F16, not F32"):
        load(write(tmp_path, tensors=tensors))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    tensors = zeros()
    tensors["layers.2.weight"][3, 4, 1, 1] = value
    with pytest.raises(ModelError, match=r"has NaN or infinity in layers\.2\.weight"):
        load(write(tmp_path, tensors=tensors))


def test_needs_no_torch() -> None:
    code = "import sys, vfilter.weights; vfilter.weights.catalogue(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
