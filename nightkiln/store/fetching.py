"""Files looked into ahead of time, a bounded number and size at once, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

AT_ONCE = 8
BYTES_AHEAD_MAX = 32 * 2**20  # of files that wait to be taken


class Wanted(Protocol):
    """A file of the store, and how large it is."""

    @property
    def key(self) -> str: ...
    @property
    def bytes(self) -> int: ...


AnyWanted = TypeVar("AnyWanted", bound=Wanted)
AnyFound = TypeVar("AnyFound")


def looked_into(
    wanted: Iterable[AnyWanted], look: Callable[[str], AnyFound]
) -> Iterator[tuple[AnyWanted, AnyFound]]:
    """Each file with what ``look`` found under its key, in a thread; raises what that raises."""
    waiting: deque[tuple[AnyWanted, Future[AnyFound]]] = deque()
    ahead = 0
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="look") as threads:
        for one in wanted:
            waiting.append((one, threads.submit(look, one.key)))
            ahead += one.bytes
            while len(waiting) >= AT_ONCE or (ahead > BYTES_AHEAD_MAX and len(waiting) > 1):
                first, found = waiting.popleft()
                ahead -= first.bytes
                yield first, found.result()
        while waiting:
            first, found = waiting.popleft()
            yield first, found.result()
