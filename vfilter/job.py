"""What a run depends on, by which an unfinished or a finished output is known again."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vfilter import __version__
from vfilter.opening import unreadable
from vfilter.weights import Model, load, models_folder

ENDS = 1 << 20
"""Bytes at the begin and at the end of an input by which it is known again."""

MARK = "user.vdeblock.job"
"""The extended attribute of an output that holds the hash of its job, where there are such."""

COARSEST = 2_000_000_000
"""Nanoseconds of the coarsest times of files (FAT)."""


def job_of(input: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of the input, version, and the arguments of a run, ready for JSON."""
    settings = {key: _plain(value) for key, value in arguments.items()}
    return {"version": __version__, "input": input} | settings


def identity(path: Path) -> dict[str, Any]:
    """What a file is known by: name, size in bytes, time of change, hash of begin and end.

    The name is that of the file alone, so that a folder may be moved. Raises InputError if it
    can't be read.
    """
    try:
        told = path.stat()
        with path.open("rb") as file:
            ends = file.read(ENDS)
            file.seek(max(0, told.st_size - ENDS))
            ends += file.read(ENDS)
    except OSError as error:
        raise unreadable(path, error) from error
    digest = hashlib.sha256(ends).hexdigest()
    return {"name": path.name, "size": told.st_size, "mtime": told.st_mtime_ns, "ends": digest}


def weights_digest(model: Model) -> str:
    """SHA-256 of the weights of `model`, as hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(model.weights):
        digest.update(name.encode() + model.weights[name].tobytes())
    return digest.hexdigest()


def own_weights(model: Model) -> dict[str, str]:
    """What a mark holds of a model's weights: of those that aren't shipped, as other weights may
    come under their name, the digest; the shipped ones serve by name, of whatever version."""
    shipped = model.folder is not None and model.folder.parent == models_folder()
    return {} if shipped else {"weights": weights_digest(model)}


def mark(output: Path, input: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Give a complete output its input's time of change, and its job, where the file system can.

    input: its identity when the run began; it may have changed or gone since.
    arguments: of the run, and the `own_weights` of its model.
    """
    with suppress(OSError):
        os.utime(output, ns=(output.stat().st_atime_ns, input["mtime"]))
    if hasattr(os, "setxattr"):
        with suppress(OSError):
            os.setxattr(output, MARK, _digest(input, arguments, output.stat().st_size))


def is_finished(output: Path, input: Path, arguments: Mapping[str, Any]) -> bool:
    """Whether `output` is what a run with `arguments` made of `input`, of whatever version.

    Where the file system holds no marks, an output that has the input's time and is no copy of it
    is taken for that. Raises ModelError if there is no such model as `arguments` name.
    """
    try:
        told, source = output.stat(), input.stat()
        if not (stat.S_ISREG(told.st_mode) and stat.S_ISREG(source.st_mode)):
            return False
        if hasattr(os, "getxattr"):
            marked = os.getxattr(output, MARK)
            job = {**arguments, **own_weights(load(arguments["model"]))}
            return marked == _digest(identity(input), job, told.st_size)
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            return False  # it isn't there, or not marked
    alike = abs(told.st_mtime_ns - source.st_mtime_ns) < COARSEST
    return alike and told.st_size != source.st_size


def _digest(input: Mapping[str, Any], arguments: Mapping[str, Any], size: int) -> bytes:
    """What a finished output of `size` bytes is known by, as hexadecimal digits."""
    job = {key: _plain(value) for key, value in arguments.items()}
    job |= {"input": input, "size": size}
    return hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest().encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)
