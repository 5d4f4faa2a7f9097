"""Where files are kept: a local folder, an object store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol


class Blobs(Protocol):
    """Five verbs over keys such as ``images/night/ab/x.png``; blocking, so called off the loop.

    Keys are ours: relative, ``/``-separated, without ``..``. All raise
    ``StoreUnusable`` when the place cannot be read or written.
    """

    def put(self, key: str, data: bytes | Path) -> None:
        """Write durably; a key is written whole or not at all, the last writer wins.

        A ``Path`` is a finished local file that may be moved instead of copied.
        """

    def create(self, key: str, data: bytes) -> bool:
        """Write durably unless ``key`` exists, in one step; False if it does."""

    def get(self, key: str) -> bytes:
        """The bytes under ``key``.

        Raises:
            KeyError: there are none.
        """

    def size(self, key: str) -> int | None:
        """How many bytes there are under ``key``; None if there are none."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with ``prefix``, sorted."""
