"""The log of a run: a CSV file, and TensorBoard where it is installed and asked for."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Log:
    """Rows by step in `path`, whose columns may grow, and scalars by step for TensorBoard.

    tensorboard: folder of the events; None for none.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        self.path = path
        self._events = None if tensorboard is None else _events(tensorboard)

    def row(self, step: int, values: Mapping[str, float]) -> None:
        """Write the row of `step` in place of those from there on, which a resumed run repeats.

        Raises OSError if it can't be written, the rows before being kept, ValueError if the file is
        none of these.
        """
        try:
            rows = [row for row in read_rows(self.path) if int(row["step"]) < step]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is no log of a training: remove it") from error
        rows.append({"step": str(step)} | {name: str(value) for name, value in values.items()})
        columns = list(dict.fromkeys(name for row in rows for name in row))
        temporary = self.path.with_suffix(".csv.tmp")
        try:
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="")
                writer.writeheader()
                writer.writerows(rows)
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise OSError(
                f"the row of step {step} can't be written to {self.path} ({error.strerror}): "
                "make room and run again"
            ) from error

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of `step` for TensorBoard alone."""
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
            self._events.flush()


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _events(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        print("no events for TensorBoard: the package tensorboard is not installed", flush=True)
        return None
    return SummaryWriter(folder)
