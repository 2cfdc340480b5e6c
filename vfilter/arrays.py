"""Planes as NumPy arrays or PyTorch tensors: what the two don't spell alike.

PyTorch is never imported for an array.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = Any
"""A NumPy array, or a PyTorch tensor on any device; most of their methods are spelled alike."""


def is_tensor(plane: object) -> bool:
    """Whether `plane` is a PyTorch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(plane, torch.Tensor)


def namespace(plane: Plane) -> Any:
    """The package that `plane` is of, whose functions have the names of the array API standard."""
    return sys.modules["torch" if is_tensor(plane) else "numpy"]


def like(array: NDArray[Any] | np.floating[Any], plane: Plane) -> Plane:
    """`array` of the kind of `plane`, on its device."""
    return namespace(plane).asarray(array, device=plane.device)


def unchanged_precision(plane: Plane) -> AbstractContextManager[Any]:
    """Within it products of what is of the kind of `plane` are as without `torch.autocast`."""
    if not is_tensor(plane):
        return nullcontext()
    autocast: AbstractContextManager[Any] = namespace(plane).autocast(
        plane.device.type, enabled=False
    )
    return autocast


def copied(plane: Plane) -> Plane:
    """The same codes in new memory, contiguous."""
    return (
        np.array(plane, order="C") if isinstance(plane, np.ndarray) else plane.clone().contiguous()
    )


def moved(plane: Plane, device: str) -> Plane:
    """A plane for an engine: an array on "cpu", else a tensor on that CUDA device, of a type that
    PyTorch computes with there: uint16 as int32."""
    if device == "cpu":
        return plane.cpu().numpy() if is_tensor(plane) else plane
    import torch

    tensor = plane if is_tensor(plane) else torch.from_numpy(np.array(plane, order="C"))
    return tensor.to(device, torch.int32 if tensor.dtype == torch.uint16 else tensor.dtype)


def returned(plane: Plane, origin: Plane) -> Plane:
    """`plane` of the kind and the type of `origin`, on its device."""
    if is_tensor(origin):
        return namespace(origin).asarray(plane, device=origin.device).to(origin.dtype)
    return plane.cpu().numpy().astype(origin.dtype) if is_tensor(plane) else plane
