"""Fetches outputs from the store, several ahead, and lets none through that is not what it was."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from nightkiln.export.plan import Row
from nightkiln.ports.blobs import Blobs

AHEAD_MAX = 16  # outputs asked for and not handed out: an object store answers late
AHEAD_BYTES_MAX = 64_000_000  # of them together, unless one alone has more


@dataclass(frozen=True, slots=True)
class Damaged:
    """Why an output is not exported."""

    what: str


def copies(rows: Iterable[Row], blobs: Blobs) -> Iterator[tuple[Row, bytes | Damaged]]:
    """Every row in order, with its bytes if they have the size and the sha256 that it names.

    Raises:
        StoreUnusable: the store does not answer.
    """
    ahead: deque[tuple[Row, Future[bytes | Damaged]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(AHEAD_MAX, thread_name_prefix="export")
    try:
        for row in rows:
            while ahead and (len(ahead) >= AHEAD_MAX or held + row.size > AHEAD_BYTES_MAX):
                first, future = ahead.popleft()
                held -= first.size
                yield first, future.result()
                del future  # or its bytes would stay until the next one is handed out
            ahead.append((row, pool.submit(copy, row, blobs)))
            held += row.size
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
            del future
    finally:
        pool.shutdown(cancel_futures=True)


def copy(row: Row, blobs: Blobs) -> bytes | Damaged:
    """The verified bytes of one output, or what is wrong with it."""
    try:
        data = blobs.get(row.uri)
    except KeyError:
        return Damaged("it is not in the store")
    if len(data) != row.size:
        return Damaged(f"it has {len(data)} bytes, its row says {row.size}")
    found = hashlib.sha256(data).hexdigest()
    if found != row.sha256:
        return Damaged(f"its sha256 is {found}, its row says {row.sha256}")
    return data
