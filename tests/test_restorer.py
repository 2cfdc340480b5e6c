"""Restoration of planes and frames: tiles, types, depths, fields, devices."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from comparison import assert_planes, planes_of
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from vfilter.engines import ENGINES, Engine, installed, make
from vfilter.errors import ModelError
from vfilter.luma import luma_depth, luma_plane
from vfilter.networks import L4, L8, Network
from vfilter.restorer import Restorer
from vfilter.torch_engine import TorchEngine
from vfilter.torch_module import TorchNetwork
from vfilter.weights import Model

SUMS = "the order of floating point sums can turn a rounding"

BOTH = pytest.mark.parametrize("network", [L4, L8], ids=lambda network: network.name)


def random_model(network: Network) -> Model:
    """A model with random weights (He), whose residual is some codes high."""
    rng = np.random.default_rng(0)
    last = len(network.layers) - 1
    weights = {}
    for name, shape in network.shapes.items():
        deviation = np.sqrt(2 / np.prod(shape[1:])) if name.endswith("weight") else 0.03
        factor = 0.15 if name == f"layers.{last}.weight" else 1
        weights[name] = (factor * rng.normal(0, deviation, shape)).astype(np.float32)
    return Model(
        name="random",
        network=network,
        weights=weights,
        objective="residual",
        codec="jpeg",
        quality=(10, 60),
    )


def assert_codes(actual: NDArray[Any], expected: NDArray[Any], *, tolerance: int = 0) -> None:
    """Fail unless dtypes and shapes are equal and codes are within `tolerance`."""
    assert actual.dtype == expected.dtype
    why = SUMS if tolerance else "the same sums give the same bytes"
    assert_planes([actual], [expected], tolerance=tolerance, why=why)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that runs on the processor."""
    name: str = request.param
    if not installed(name):
        pytest.skip(f"{name} is not installed: pip install vdeblock[openvino]")
    return name


@pytest.fixture(scope="module")
def restore() -> Iterator[Restorer]:
    """L4 with random weights, by PyTorch in fp32, in tiles of at most 24 pixels."""
    with plain(random_model(L4), tile=24) as restorer:
        yield restorer


def plain(model: Model, *, engine: str = "torch", **options: Any) -> Restorer:
    """A restorer in fp32 on the processor."""
    return Restorer(model, device="cpu", engine=engine, precision="fp32", **options)


def codes(*shape: int, depth: int = 8) -> NDArray[Any]:
    """Waves and grain over the whole range, so that clipping is met too."""
    grain = np.random.default_rng(0).uniform(-1, 1, shape)
    plane = (np.sin(np.linspace(0, 9, shape[-1])) + grain) / 4 + 0.5
    luma: NDArray[Any] = np.rint(plane * (2**depth - 1))
    return luma.astype(np.uint8 if depth == 8 else np.uint16)


def whole(model: Model, y: NDArray[Any], depth: int, strength: float = 1.0) -> NDArray[Any]:
    """What the design says restored luma is, for one plane at once."""
    full, r = 2**depth - 1, model.network.radius
    module = TorchNetwork(model.network)
    module.load_state_dict({name: torch.tensor(array) for name, array in model.weights.items()})
    luma = torch.tensor(np.pad(y, r, mode="edge").astype(np.float32) / full - 0.5)
    with torch.inference_mode():
        residual = module(luma[None, None])[0, 0].numpy().astype(np.float64)
    restored: NDArray[Any] = np.clip(np.rint(y + strength * full * residual), 0, full)
    return restored.astype(y.dtype)


@BOTH
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 5), (24, 24), (25, 49), (61, 83)])
def test_tiles_give_what_the_whole_plane_gives(
    network: Network, shape: tuple[int, int], engine: str
) -> None:
    model, y = random_model(network), codes(*shape)
    expected = whole(model, y, 8)
    assert np.abs(expected.astype(int) - y).mean() > 1
    for tile in (24, 1000):
        with plain(model, engine=engine, tile=tile) as restore:
            assert_codes(restore.luma(y), expected, tolerance=1)


@pytest.mark.parametrize("depth", [9, 10, 12, 16])
def test_depths(depth: int, engine: str) -> None:
    y = codes(30, 41, depth=depth)
    with plain(random_model(L4), engine=engine, tile=24) as restore:
        restored = restore.luma(y, depth=depth)
    # One 8-bit code is 2^(depth - 8) of these; sums in fp32 differ by far less than that.
    assert_codes(
        restored,
        whole(random_model(L4), y, depth),
        tolerance=1 if depth < 12 else 2 ** (depth - 11),
    )


@pytest.mark.parametrize("strength", [0.5, 2])
def test_strength_scales_the_residual(strength: float) -> None:
    y = codes(30, 41)
    with plain(random_model(L4), strength=strength) as restore:
        assert_codes(restore.luma(y), whole(random_model(L4), y, 8, strength), tolerance=1)


def test_strength_zero_is_a_copy_without_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(TorchEngine, "__call__")
    with plain(random_model(L4), strength=0) as restore:
        y = codes(9, 9)
        copy = restore.luma(y)
        assert np.array_equal(copy, y) and not np.shares_memory(copy, y)
        tensor = torch.from_numpy(y)
        assert restore.luma(tensor).data_ptr() != tensor.data_ptr()


def test_planes_are_independent(restore: Restorer) -> None:
    stack = codes(3, 30, 41)
    restored = restore.luma(stack)
    for plane, y in zip(restored, stack, strict=True):
        assert_codes(plane, restore.luma(y))


@pytest.mark.parametrize(
    "view",
    [
        lambda y: y[::2],
        lambda y: y[1::2, ::3],
        lambda y: y[::-1, ::-1],
        lambda y: y.T,
        lambda y: y[:, 3:17],
        lambda y: np.broadcast_to(y[:1], y.shape),
    ],
    ids=["lines", "steps", "reversed", "transposed", "cropped", "broadcast"],
)
def test_strided_views(view: Callable[[NDArray[Any]], NDArray[Any]], restore: Restorer) -> None:
    y = view(codes(40, 60))
    expected = restore.luma(np.array(y, order="C"))
    assert_codes(restore.luma(y), expected)
    if min(y.strides) > 0:
        assert_codes(restore.luma(torch.from_numpy(y)).numpy(), expected)


def test_read_only_input_is_left_alone(restore: Restorer) -> None:
    y = codes(20, 20)
    before = y.copy()
    y.flags.writeable = False
    restored = restore.luma(y)
    assert_codes(y, before)
    assert restored.flags.writeable and not np.shares_memory(restored, y)


@pytest.mark.parametrize("depth", [8, 10])
def test_tensors_give_what_arrays_give(depth: int, restore: Restorer) -> None:
    y = codes(2, 20, 31, depth=depth)
    tensor = torch.from_numpy(y)
    restored = restore.luma(tensor, depth=depth)
    assert (restored.shape, restored.dtype, restored.device) == (
        y.shape,
        tensor.dtype,
        tensor.device,
    )
    assert restored.data_ptr() != tensor.data_ptr()
    assert_codes(restored.numpy(), restore.luma(y, depth=depth))


def test_same_input_gives_the_same_bytes(restore: Restorer) -> None:
    y = codes(50, 70)
    assert_codes(restore.luma(y), restore.luma(y))


@pytest.mark.parametrize("name", ["yuv420p", "yuvj422p", "gray", "nv12", "yuv420p10le", "p010le"])
def test_frame_keeps_all_but_luma(name: str, restore: Restorer) -> None:
    frame = random_frame(name)
    restored = restore(frame)
    assert restored.format.name == name
    assert (restored.pts, restored.time_base) == (frame.pts, frame.time_base)
    expected = restore.luma(luma_plane(frame), depth=luma_depth(frame))
    assert_codes(luma_plane(restored), expected)
    assert_planes(chroma(restored), chroma(frame))


def random_frame(name: str, width: int = 38, height: int = 26) -> av.VideoFrame:
    """A frame of random codes."""
    frame = av.VideoFrame(width, height, name)
    rng = np.random.default_rng(0)
    depth = frame.format.components[0].bits
    for plane in frame.planes:
        view = np.frombuffer(memoryview(plane), np.uint8 if depth == 8 else np.uint16)
        words = rng.integers(0, 2**depth, view.shape)
        view[:] = words << 6 if name == "p010le" else words
    frame.pts, frame.time_base = 7, Fraction(1, 25)
    return frame


def chroma(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """All planes but the first, without the padding of their lines."""
    return [plane[:, : frame.width] for plane in planes_of(frame)[1:]]


def test_fields_are_planes_of_their_own(restore: Restorer) -> None:
    frame = interlaced(random_frame("yuv420p", height=27))
    assert frame.interlaced_frame
    y, restored = luma_plane(frame), restore(frame)
    assert restored.interlaced_frame
    assert_codes(luma_plane(restored)[0::2], restore.luma(y[0::2]))
    assert_codes(luma_plane(restored)[1::2], restore.luma(y[1::2]))


def test_interlaced_frame_of_one_line(restore: Restorer) -> None:
    frame = interlaced(random_frame("gray", height=1))
    assert_codes(luma_plane(restore(frame)), restore.luma(luma_plane(frame)))


def interlaced(frame: av.VideoFrame) -> av.VideoFrame:
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("setfield", "tff"), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def test_plane_through_dlpack(restore: Restorer) -> None:
    frame = random_frame("yuv420p")
    restored = restore.luma(from_dlpack(frame.planes[0]))
    assert_codes(restored.numpy(), restore.luma(luma_plane(frame)))


@pytest.mark.parametrize("name", ["nv12", "p010le"])
def test_cuda_frame_with_a_stand_in(
    name: str, restore: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a CUDA frame, its memory that of the processor: no GPU is needed for it."""
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    frame = random_frame(name)
    stand_in: Any = SimpleNamespace(
        format=SimpleNamespace(name="cuda"),
        sw_format=frame.format,
        planes=frame.planes,
        interlaced_frame=False,
        pts=frame.pts,
        time_base=frame.time_base,
    )
    restored = restore(stand_in)
    assert (restored.pts, restored.time_base) == (frame.pts, frame.time_base)
    expected = restore.luma(luma_plane(frame), depth=luma_depth(frame))
    assert_codes(luma_plane(restored), expected)
    assert_planes(chroma(restored), chroma(frame))


def test_cuda_frame_of_another_format(restore: Restorer) -> None:
    stand_in: Any = SimpleNamespace(
        format=SimpleNamespace(name="cuda"), sw_format=SimpleNamespace(name="yuv444p")
    )
    with pytest.raises(ValueError, match="CUDA frames must be nv12, p010le, p016le, got yuv444p"):
        restore(stand_in)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@BOTH
def test_cuda_gives_what_the_processor_gives(network: Network) -> None:
    y = codes(2, 600, 700)
    with (
        Restorer(random_model(network), device="cuda") as on_cuda,
        Restorer(random_model(network), device="cpu", precision="fp32") as on_cpu,
    ):
        expected = on_cpu.luma(y)
        assert_codes(on_cuda.luma(y), expected, tolerance=1)
        tensor = torch.from_numpy(y).cuda()
        restored = on_cuda.luma(tensor)
        assert restored.device == tensor.device
        assert_codes(restored.cpu().numpy(), expected, tolerance=1)


def test_loads_models_by_name_and_path() -> None:
    with Restorer(device="cpu") as restore:
        assert restore.model.name == "l8-jpeg"
    folder = restore.model.folder
    assert folder is not None
    with Restorer(folder, device="cpu") as restore:
        assert restore.model.network is L8
    with pytest.raises(ModelError, match="unknown model 'l9'"):
        Restorer("l9")


def test_threads_take_turns(engine: str) -> None:
    planes = [codes(60, 70)[:, ::step] for step in (1, -1)] * 20
    with plain(random_model(L4), engine=engine, tile=24) as restore:
        expected = [restore.luma(y) for y in planes[:2]] * 20
        with ThreadPoolExecutor(4) as pool:
            for actual, wanted in zip(pool.map(restore.luma, planes), expected, strict=True):
                assert_codes(actual, wanted)


def test_threads_share_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Network] = []

    def slowly(network: Network, *arguments: Any, **given: Any) -> Engine:
        made.append(network)
        time.sleep(0.1)
        return make(network, *arguments, **given)

    monkeypatch.setattr("vfilter.restorer.make", slowly)
    with plain(random_model(L4), engine="torch") as restore, ThreadPoolExecutor(4) as pool:
        list(pool.map(restore.luma, [codes(30, 41)] * 4))
    assert len(made) == 1


def test_pickled_for_another_process(engine: str) -> None:
    y = codes(30, 41)
    with plain(random_model(L4), engine=engine) as restore:
        expected = restore.luma(y)
        with pickle.loads(pickle.dumps(restore)) as other:
            assert_codes(other.luma(y), expected)
    with pytest.raises(ValueError, match="the restorer is closed"):
        pickle.loads(pickle.dumps(restore)).luma(y)


def test_closed() -> None:
    with plain(random_model(L4)) as restore:
        pass
    with pytest.raises(ValueError, match="the restorer is closed: make a new one"):
        restore.luma(codes(3, 3))


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan")])
def test_strength_out_of_range(strength: float) -> None:
    with pytest.raises(ValueError, match=f"strength must be 0 to 2, got {strength}"):
        Restorer(random_model(L4), strength=strength)


@pytest.mark.parametrize("tile", [0, -8])
def test_tile_out_of_range(tile: int) -> None:
    with pytest.raises(ValueError, match=f"tile must be positive, got {tile}"):
        Restorer(random_model(L4), tile=tile)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((4, 4), np.float32), "luma must be uint8 or uint16, got float32"),
        (np.zeros((4, 4), ">u2"), "luma must be uint8 or uint16, got >u2"),
        (torch.zeros(4, 4), "luma must be uint8 or uint16, got float32"),
        ([[1, 2]], "luma must be a NumPy array or a PyTorch tensor, got list"),
    ],
)
def test_wrong_types(y: Any, message: str, restore: Restorer) -> None:
    with pytest.raises(TypeError, match=message):
        restore.luma(y)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (2, 0, 4), (0, 4, 4), (1, 1, 4, 4)])
def test_wrong_shapes(shape: tuple[int, ...], restore: Restorer) -> None:
    with pytest.raises(ValueError, match=r"luma must be \(H, W\) or \(N, H, W\) .* got shape \("):
        restore.luma(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("dtype", "depth", "message"),
    [
        ("uint8", 10, "depth of uint8 luma must be 8, got 10"),
        ("uint16", None, "depth of uint16 luma must be 9 to 16, got None"),
        ("uint16", 8, "depth of uint16 luma must be 9 to 16, got 8"),
        ("uint16", 17, "depth of uint16 luma must be 9 to 16, got 17"),
    ],
)
def test_wrong_depths(dtype: str, depth: int | None, message: str, restore: Restorer) -> None:
    with pytest.raises(ValueError, match=message):
        restore.luma(np.zeros((4, 4), dtype), depth=depth)


def test_a_matrix_is_no_plane(restore: Restorer) -> None:
    """NumPy's can't have the three axes of planes."""
    matrix: Any = np.zeros((4, 4), np.uint8).view(np.matrix)
    with pytest.raises(TypeError, match="must be a NumPy array or a PyTorch tensor, got matrix"):
        restore.luma(matrix)
