"""What runs the networks: both engines alike, the choice between them, no work done twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from comparison import assert_planes
from numpy.typing import NDArray

from vfilter import engines
from vfilter.bitstream import Hints
from vfilter.engines import (
    ENGINES,
    cache_folder,
    choose,
    choose_device,
    choose_precision,
    fastest,
    make,
)
from vfilter.errors import DeviceError, ModelError
from vfilter.luma import luma_plane
from vfilter.networks import NETWORKS, Network
from vfilter.restorer import Restorer
from vfilter.torch_engine import TorchEngine
from vfilter.torch_module import TorchNetwork
from vfilter.weights import load

SAMPLE = Path(__file__).resolve().parents[1] / "samples" / "camera.avi"
IMPORTS = """
import sys
from vfilter.cli import main
try:
    main()
finally:
    print("|".join(sys.modules))
"""


@pytest.fixture(autouse=True)
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for the outcomes of trials."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engines, "cache_folder", lambda: tmp_path / "cache" / "vdeblock")
    fastest.cache_clear()
    yield tmp_path / "cache" / "vdeblock"
    fastest.cache_clear()


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """A part of a real frame, (180, 200), as a camera compressed it."""
    with av.open(SAMPLE) as container:
        frame = next(container.decode(video=0))
    return np.array(luma_plane(frame)[100:280, 200:400])


def weights(network: Network) -> dict[str, NDArray[np.float32]]:
    """Random weights (He)."""
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(
            0, np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.03, shape
        ).astype(np.float32)
        for name, shape in network.shapes.items()
    }


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
def test_engines_compute_the_network(network: Network, engine: str) -> None:
    given = weights(network)
    module = TorchNetwork(network)
    module.load_state_dict({name: torch.tensor(array) for name, array in given.items()})
    run = make(network, given, engines=(engine,), device="cpu", precision="fp32")
    side = 2 * run.radius
    rng = np.random.default_rng(1)
    tiles = [rng.random((side + 12, side + 20), np.float32) - np.float32(0.5) for _ in range(5)]
    with torch.inference_mode():
        expected = [module(torch.from_numpy(tile)[None, None])[0, 0].numpy() for tile in tiles]
    deviation = float(np.std(expected))
    count = 0
    for residual, wanted in zip(run(iter(tiles)), expected, strict=True):
        assert (residual.shape, residual.dtype) == ((12, 20), np.float32)
        np.testing.assert_allclose(residual, wanted, atol=1e-5 * deviation, rtol=1e-4)
        count += 1
    assert count == len(tiles)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_left_in_the_middle_goes_on_right(engine: str) -> None:
    network = NETWORKS["l4"]
    run = make(network, weights(network), engines=(engine,), device="cpu", precision="fp32")
    side = 2 * run.radius + 16
    tiles = [np.full((side, side), value, np.float32) for value in (-0.5, 0, 0.25, 0.5)]
    expected = [residual.copy() for residual in run(tiles)]
    next(iter(run(tiles)))  # and never asked for the others
    for residual, wanted in zip(run(tiles[::-1]), expected[::-1], strict=True):
        np.testing.assert_array_equal(residual, wanted)


@pytest.mark.parametrize("name", ["l4-jpeg", "l8-jpeg", "l8-h264", "l8-mpeg"])
def test_engines_and_precisions_are_within_a_code(name: str, picture: NDArray[np.uint8]) -> None:
    picture = picture[:90, :110]
    restored = {}
    for engine in ENGINES:
        for precision in ("fp32", "bf16"):
            with Restorer(name, device="cpu", engine=engine, precision=precision) as restore:
                restored[engine, precision] = restore.luma(picture)
    reference = restored["torch", "fp32"]
    assert np.abs(reference.astype(int) - picture).max() > 3
    for (_, precision), luma in restored.items():
        why = f"sums in another order, and products in {precision}, turn roundings"
        assert_planes([luma], [reference], tolerance=1, why=why)


@pytest.mark.parametrize("engine", ENGINES)
def test_tilings_are_within_a_code(engine: str, picture: NDArray[np.uint8]) -> None:
    planes = []
    for tile in (None, 48, 1000):
        with Restorer("l8", device="cpu", engine=engine, tile=tile) as restore:
            planes.append(restore.luma(picture))
    for plane in planes[1:]:
        assert_planes([plane], planes[:1], tolerance=1, why="other tiles, other sums")


class Counting:
    """An engine that counts the tiles it is given."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.tiles = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def __call__(self, tiles: Iterable[Any]) -> Iterator[Any]:
        def counted() -> Iterator[Any]:
            for tile in tiles:
                self.tiles += 1
                yield tile

        return self._engine(counted())


def counting(restore: Restorer) -> Counting:
    """The restorer's engine, which counts from now on."""
    engine = Counting(restore.engine)
    restore._engines = {restore.model.name: engine}  # type: ignore[dict-item]
    return engine


@pytest.mark.parametrize("engine", ENGINES)
def test_unchanged_tiles_are_not_computed_again(engine: str, picture: NDArray[np.uint8]) -> None:
    clip = moving(picture)
    options = {"device": "cpu", "engine": engine, "precision": "fp32", "tile": 40}
    with Restorer("l4", **options) as restore, Restorer("l4", **options, reuse=False) as full:
        few, all_ = counting(restore), counting(full)
        counts = []
        for y in clip:
            before = few.tiles
            restored = restore.luma(y)
            counts.append(few.tiles - before)
            assert_planes([restored], [full.luma(y)], tolerance=0, why="the same tiles")
            restored[:] = 0  # the caller's own memory
    assert all_.tiles == 25 * len(clip)
    assert counts == [25, 0, 4, 1, 25, 0]


def moving(picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """A clip of 25 tiles of 36x40 that holds, changes beside a corner and inside, and cuts.

    The pixel at (72, 80) is the first of a tile and in the halo of three others; that at (90, 60)
    is more than L4's radius, 9, from all other tiles.
    """
    corner = picture.copy()
    corner[72, 80] ^= 1
    inside = corner.copy()
    inside[90, 60] ^= 1
    cut = picture[::-1].copy()
    return [picture, picture.copy(), corner, inside, cut, cut.copy()]


def test_known_planes_of_another_size_or_depth_are_of_no_use(picture: NDArray[np.uint8]) -> None:
    codes = picture[:60, :60].astype(np.uint16)
    with (
        Restorer("l4", device="cpu", engine="torch", precision="fp32") as restore,
        Restorer("l4", device="cpu", engine="torch", precision="fp32", reuse=False) as full,
    ):
        for y, depth in [
            (codes, 10), (codes, 12), (codes, 10), (codes[:30], 10), (codes, 10), (codes[:, :7], 9)
        ]:  # fmt: skip
            expected = full.luma(y, depth=depth)
            assert_planes([restore.luma(y, depth=depth)], [expected], tolerance=0, why="the same")


def test_an_error_on_the_way_leaves_nothing_half_known(
    picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = picture[:80, :80], picture[100:180, 100:180]
    with Restorer("l4", device="cpu", engine="torch", precision="fp32", tile=40) as restore:
        right = restore.luma(first)
        engine = restore.engine
        broken = Counting(engine)
        restore._engines = {restore.model.name: broken}  # type: ignore[dict-item]

        def failing(tiles: Iterable[Any]) -> Iterator[Any]:
            yield next(iter(engine(tiles)))
            raise MemoryError

        monkeypatch.setattr(Counting, "__call__", lambda _, tiles: failing(tiles))
        with pytest.raises(MemoryError):
            restore.luma(second)
        restore._engines = {restore.model.name: engine}
        assert_planes([restore.luma(first)], [right], tolerance=0, why="computed again")


def test_strength_and_projection_are_applied_to_known_tiles_too(
    picture: NDArray[np.uint8],
) -> None:
    table = (16,) * 64
    with Restorer("l4", device="cpu", engine="torch", precision="fp32") as restore:
        plain = restore.luma(picture)
        projected = restore.luma(picture, hints=Hints(luma_table=table))
    with Restorer("l4", device="cpu", engine="torch", precision="fp32", reuse=False) as full:
        expected = full.luma(picture, hints=Hints(luma_table=table))
    assert_planes([projected], [expected], tolerance=0, why="the residual alone is kept")
    assert (projected != plain).any()


def test_the_trial_decides_and_is_remembered(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = NETWORKS["l4"]
    trials = []

    def trial(_: Network, names: tuple[str, ...], precision: str) -> dict[str, float]:
        trials.append((names, precision))
        return {name: 1e-9 * (9 - index) for index, name in enumerate(names)}

    monkeypatch.setattr(engines, "trial", trial)
    for _ in range(2):
        assert fastest(network, ENGINES, "fp32") == "torch"
        fastest.cache_clear()  # as in another process
    assert trials == [(ENGINES, "fp32")]
    [path] = remembered.iterdir()
    assert path.read_text().splitlines()[0] == "torch"
    assert fastest(network, ENGINES, "bf16") == "torch" and len(trials) == 2
    assert fastest(network, ENGINES[:1], "fp32") == ENGINES[0] and len(trials) == 3
    monkeypatch.setattr(engines, "_platform", lambda: ("another processor",))
    fastest.cache_clear()
    assert fastest(network, ENGINES, "fp32") == "torch" and len(trials) == 4


@pytest.mark.parametrize("damage", ["", "an engine of the future\n", "\xff\xfe"])
def test_a_damaged_memory_is_renewed(
    damage: str, remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "trial", lambda _, names, __: dict.fromkeys(names, 1.0))
    network = NETWORKS["l4"]
    chosen = fastest(network, ENGINES, "fp32")
    [path] = remembered.iterdir()
    path.write_bytes(damage.encode("latin-1"))
    fastest.cache_clear()
    assert fastest(network, ENGINES, "fp32") == chosen
    assert path.read_text().splitlines()[0] == chosen


def test_a_folder_that_cannot_be_made_is_no_error(
    remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "trial", lambda _, names, __: dict.fromkeys(names, 1.0))
    remembered.parent.write_text("a file where a folder should be")
    assert fastest(NETWORKS["l4"], ENGINES, "fp32") == ENGINES[0]


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    folder = cache_folder()
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() == folder, "the variable is enough"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(engines, "cache_folder", cache_folder)
    monkeypatch.setattr(engines, "trial", lambda _, names, __: dict.fromkeys(names, 1.0))
    assert fastest(NETWORKS["l4"], ENGINES, "fp32") == ENGINES[0]


def test_pytorch_computes_alike_whatever_its_defaults() -> None:
    network, tile = NETWORKS["l4"], np.zeros((40, 40), np.float32)
    made = partial(TorchEngine, network, weights(network), precision="fp32")
    [expected] = made()([tile])
    generator = torch.get_rng_state()
    torch.set_default_dtype(torch.bfloat16)
    torch.set_default_device("meta")
    try:
        [found] = made()([tile])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    np.testing.assert_array_equal(found, expected)
    assert torch.equal(torch.get_rng_state(), generator)


def test_the_trial_times_every_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "TRIAL_PIXELS", 256**2)
    monkeypatch.setattr(engines, "TRIAL_ROUNDS", 1)
    seconds = engines.trial(NETWORKS["l4"], ENGINES, "fp32")
    assert tuple(seconds) == ENGINES
    assert all(1e-9 < value < 1e-3 for value in seconds.values())


def test_choice_of_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_cuda_driver", lambda: False)
    assert choose("auto", "auto", "fp32") == (ENGINES, "cpu", "fp32")
    assert choose("openvino", "auto", "fp32") == (("openvino",), "cpu", "fp32")
    assert choose("torch", "cpu", "bf16") == (("torch",), "cpu", "bf16")
    with pytest.raises(ValueError, match="engine must be auto, openvino, torch, got 'onnx'"):
        choose("onnx", "cpu", "fp32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose("auto", "cuda", "auto") == (("torch",), "cuda", "fp16")
    with pytest.raises(DeviceError, match="engine openvino has no device cuda: use cpu, or"):
        choose("openvino", "cuda", "fp16")


def test_without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "installed", lambda engine: engine == "torch")
    assert choose("auto", "cpu", "fp32") == (("torch",), "cpu", "fp32")
    assert choose_precision("auto", "cpu") in ("fp32", "bf16")
    with pytest.raises(DeviceError, match=r"openvino is not installed: pip install vdeblock\[op"):
        choose("openvino", "cpu", "fp32")


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "has_cuda_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    for name in ("cuda", "cuda:1"):
        with pytest.raises(DeviceError, match=f"device {name} is not available: .* use cpu, or"):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(DeviceError, match="device cuda:2 is not available: use cuda:0 to cuda:1"):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", ""])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(ValueError, match=f"device must be auto, cpu, cuda or cuda:N, got '{name}'"):
        choose_device(name)


def test_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in ("fp32", "bf16"):
        monkeypatch.setattr(engines, "native_precision", lambda native=native: native)
        assert choose_precision("auto", "cpu") == native
        assert choose_precision("bf16", "cpu") == "bf16"
    assert choose_precision("auto", "cuda") == "fp16"
    assert choose_precision("fp32", "cuda") == "fp32"
    with pytest.raises(DeviceError, match="precision fp16 needs CUDA: use fp32 or bf16"):
        choose_precision("fp16", "cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(DeviceError, match="device cuda has no bf16: use fp16 or fp32"):
        choose_precision("bf16", "cuda")
    with pytest.raises(ValueError, match=r"precision must be auto, .*, fp16, int8, got 'int4'"):
        choose_precision("int4", "cpu")
    assert choose_precision("int8", "cpu") == "int8"
    with pytest.raises(DeviceError, match="precision int8 is for the processor: use fp16 on cuda"):
        choose_precision("int8", "cuda")
    assert choose("auto", "cpu", "int8") == (("openvino",), "cpu", "int8")
    with pytest.raises(DeviceError, match=r"int8 needs OpenVINO: pip install vdeblock\[openvino\]"):
        choose("torch", "cpu", "int8")


@pytest.mark.parametrize("name", ["l4-jpeg", "l8-jpeg"])
def test_evened_weights_give_the_same_residual(name: str, picture: NDArray[np.uint8]) -> None:
    from vfilter.openvino_engine import evened

    model = load(name)
    maxima = model.maxima_for("int8")
    assert maxima is not None
    even = evened(model.network, model.weights, maxima)
    assert not np.allclose(even["layers.1.weight"], model.weights["layers.1.weight"])
    luma = torch.from_numpy(picture / np.float32(255) - np.float32(0.5))[None, None]
    found = []
    for given in (model.weights, even):
        module = TorchNetwork(model.network)
        module.load_state_dict({name: torch.tensor(array) for name, array in given.items()})
        with torch.inference_mode():
            found.append(module(luma).numpy())
    np.testing.assert_allclose(found[1], found[0], atol=2e-6)


@pytest.mark.parametrize("name", ["l4-jpeg", "l4-mpeg"])
def test_int8_keeps_smooth_pictures(name: str) -> None:
    """Their activations are far below the highest: unevened they are off by .21 and .28 codes."""
    side = 128 + 2 * NETWORKS["l4"].radius
    y, x = np.mgrid[:side, :side] / side
    sky = np.rint(180 - 90 * np.hypot(x - 0.5, y - 0.2)) / 255 - 0.5
    residuals = []
    for precision in ("fp32", "int8"):
        with Restorer(name, device="cpu", engine="openvino", precision=precision) as restore:
            (residual,) = restore.engine([sky.astype(np.float32)])
            residuals.append(255 * residual)
    assert 0 < np.abs(residuals[1] - residuals[0]).mean() < 0.17


@pytest.mark.parametrize("name", ["l4-jpeg", "l8-jpeg", "l8-h264"])
def test_int8_is_close(name: str, picture: NDArray[np.uint8]) -> None:
    with (
        Restorer(name, device="cpu", precision="fp32") as exact,
        Restorer(name, device="cpu", precision="int8") as coarse,
    ):
        assert coarse.engine.description == "OpenVINO on cpu, int8"
        wanted, found = (r.luma(picture).astype(int) for r in (exact, coarse))
    assert np.abs(wanted - picture).mean() > 0.5
    assert 0 < np.abs(found - wanted).mean() < 0.25


def test_int8_needs_calibration() -> None:
    with (
        Restorer("arcnn-q20", device="cpu", precision="int8") as restore,
        pytest.raises(ModelError, match="arcnn-q20 was not calibrated for int8: take another"),
    ):
        restore.luma(np.zeros((40, 40), np.uint8))


def test_engines_agree_on_what_the_processor_has() -> None:
    from vfilter import openvino_engine, torch_engine

    assert openvino_engine.native_precision() == torch_engine.native_precision()


def modules_of(*arguments: str) -> set[str]:
    """The modules that the command with these arguments imports."""
    command = [sys.executable, "-c", IMPORTS, *arguments]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(ran.stdout.splitlines()[-1].split("|"))


def test_help_imports_nothing_heavy() -> None:
    heavy = {"av", "cv2", "numpy", "openvino", "PIL", "torch"}
    assert not heavy & modules_of("--help")


def test_openvino_runs_without_torch(
    tmp_path: Path, remembered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "trial", lambda _, names, __: dict.fromkeys(names, 1.0))
    _, _, precision = choose("auto", "cpu", "auto")
    assert fastest(NETWORKS["l4"], ENGINES, precision) == ENGINES[0]  # leaves its memory
    modules = modules_of(
        str(SAMPLE), str(tmp_path / "out.mp4"), "--model", "l4", "--device", "cpu", "--frames", "1"
    )
    assert "openvino" in modules and "torch" not in modules
    assert not any(name.startswith("openvino_telemetry") for name in modules)
    assert (tmp_path / "out.mp4").is_file()


def test_pytorch_computes_alike_within_autocast() -> None:
    network = NETWORKS["l4"]
    tile = np.random.default_rng(1).uniform(-0.5, 0.5, (40, 40)).astype(np.float32)
    engine = TorchEngine(network, weights(network), precision="fp32")
    [expected] = engine([tile])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        [found] = engine([tile])
    np.testing.assert_array_equal(found, expected)
