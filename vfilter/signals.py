"""The signals that stop a run: the first one after the frame in work, the second one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPPING = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that stop a run in order; not all systems have all of them."""


class Stopped(KeyboardInterrupt):
    """A signal that stops the run; number: which."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def told(self) -> str:
        """What happened, for people."""
        return told(self.number)


class Interruption:
    """Whether a signal has asked the run to stop.

    While it `waits`, as it does between the frames of a run that can be gone on with, the first
    signal waits for the next `check`; else, and the second one, it raises `Stopped`.
    """

    def __init__(self) -> None:
        self.waits = False
        self._asked: int | None = None

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self._asked is not None:
            raise Stopped(self._asked)

    def ask(self, number: int) -> None:
        """Signal `number` has come."""
        if not self.waits or self._asked is not None:
            raise Stopped(number)
        self._asked = number
        print(
            f"vdeblock: {told(number)}: stopping after this frame; once more stops at once",
            file=sys.stderr,
            flush=True,
        )


def told(number: int) -> str:
    """What signal `number` did, for people."""
    return "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"


@contextmanager
def heeding_signals(*, piped: bool) -> Iterator[Interruption]:
    """Let the signals that stop a run do so in order, so that nothing half-done is left.

    piped: whether the output is a pipe. Then nothing is to be tidied, and the run may be stuck in
    writing, where nothing can be raised: it ends at once.
    """
    interruption = Interruption()
    before: dict[int, Any] = {}

    def stop(number: int, _: object) -> None:
        if piped:
            print(f"vdeblock: {told(number)}", file=sys.stderr, flush=True)
            os._exit(128 + number)
        try:
            interruption.ask(number)
        except Stopped:
            for known in before:  # should tidying get stuck, the next one ends it
                signal.signal(known, signal.SIG_DFL)
            raise

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in STOPPING if hasattr(signal, name)]
        heeded = (n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN)  # not in nohup
        before |= {number: signal.signal(number, stop) for number in heeded}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
