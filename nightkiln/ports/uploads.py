"""Files that the machine that made them brings into the store by itself.

A machine says how long its file is and what its SHA-256 is. Nobody believes it: an address is
signed under which the store takes exactly those bytes, for a while, and then the store is asked
what has come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

INCOMING = "incoming/"  # what machines bring, until it has its place; nothing there is a result


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a machine says of a file. Untrusted."""

    size: int  # bytes
    sha256: str  # hex


@dataclass(frozen=True, slots=True)
class Signed:
    """An address under which one content may be put. A secret for as long as it lives."""

    url: str = field(repr=False)
    headers: Mapping[str, str]  # that have to be sent with it


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the store says of a file that has come."""

    size: int  # bytes
    sha256: str | None  # hex, as the store has computed it; None: it checks, and does not tell


class Uploads(Protocol):
    """A store that others can bring files to. Blocking; all raise ``StoreUnusable``."""

    def sign(self, key: str, weighed: Weighed, *, expires_s: float) -> Signed:
        """Where, for ``expires_s``, exactly the bytes that were weighed may be put."""

    def arrived(self, key: str) -> Arrived | None:
        """What has come under ``key``; None: nothing."""

    def beginning(self, key: str, size_max: int) -> bytes:
        """The first bytes of what has come, at most so many; there are some."""

    def take(self, key: str, to: str, arrived: Arrived, *, media: str) -> None:
        """Give what has come its place, durably, and drop ``key``; the store copies by itself."""

    def drop(self, key: str) -> None:
        """Take away what has come, if something has."""


@runtime_checkable
class CanUpload(Protocol):
    """An ``OutputHandle`` whose machine can bring the file to a signed address."""

    async def weighed(self) -> Weighed | None:
        """What the machine says of the file; None: it cannot say.

        Raises:
            WorkerLost: the machine went away.
        """

    async def upload(self, signed: Signed, *, within_s: float) -> str:
        """Have the machine put the file there; what it complains of, "" if it does not.

        That it says nothing proves nothing. Done twice is as good.

        Raises:
            WorkerLost: the machine went away.
        """
