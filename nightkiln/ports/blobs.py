"""Where files are kept: a local folder, an object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One file as a listing shows it."""

    key: str
    size: int  # bytes
    modified_s: float  # epoch seconds, by the clock of the place


class Blobs(Protocol):
    """Eight verbs over keys such as ``images/night/ab/x.png``; blocking, so called off the loop.

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
        """Keys that start with ``prefix``.

        Those of one folder come sorted; of folders, some object stores have an order of their own
        (SeaweedFS has ``night/`` before ``night-2/``).
        """

    def entries(self, prefix: str) -> Iterator[Entry]:
        """What ``list`` names, with sizes and times; what goes meanwhile may be left out."""

    def remove(self, key: str) -> None:
        """Take ``key`` away, durably; nothing happens when it is not there."""

    def link(self, key: str, *, expires_s: float) -> str:
        """An address that a browser can show; where it can end, it ends after ``expires_s``."""
