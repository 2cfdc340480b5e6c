"""Ctrl-C and requests to end: a training leaves after the step, its checkpoint written."""

from __future__ import annotations

import signal
from collections.abc import Callable


def stop_flag(*, insistent: bool = True) -> Callable[[], bool]:
    """Whether Ctrl-C or a request to end has come.

    insistent: whether a second one ends at once; torchrun passes on those that come to all anyway.
    """
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        if insistent:
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return lambda: bool(stopped)
