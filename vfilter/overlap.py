"""Overlap: reading ahead of the restoration and writing behind it, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

END = object()


def ahead(items: Iterable[Item], count: int) -> Generator[Item, None, None]:
    """Each of `items`, made by a thread that is at most `count` of them ahead.

    An error of `items` is raised where its item was due.
    """
    iterator = iter(items)
    pool = ThreadPoolExecutor(1, "reading")
    try:
        coming = deque(pool.submit(next, iterator, END) for _ in range(count))
        while (item := coming.popleft().result()) is not END:
            coming.append(pool.submit(next, iterator, END))
            yield item  # type: ignore[misc]  # what is not END is an Item
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def behind(count: int) -> Iterator[Callable[..., Future[None]]]:
    """A function that calls its first argument with the others, later, in order, in a thread.

    At most `count` calls wait. An error of a call is raised by a later one, or at the end; those
    after it are not made.
    """
    pool = ThreadPoolExecutor(1, "behind")
    waiting: deque[Future[None]] = deque()
    failed = False

    def attempt(function: Callable[..., None], *arguments: object) -> None:
        nonlocal failed
        if failed:
            return
        try:
            function(*arguments)
        except BaseException:
            failed = True
            raise

    def call(function: Callable[..., None], *arguments: object) -> Future[None]:
        made = pool.submit(attempt, function, *arguments)
        waiting.append(made)
        while len(waiting) > count or (waiting and waiting[0].done()):
            waiting.popleft().result()
        return made

    try:
        yield call
        while waiting:
            waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
