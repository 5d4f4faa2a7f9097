"""Files that the machine that made them brings into the store by itself.

A machine says how long its file is and what its SHA-256 is. Nobody believes it: an address is
signed under which the store takes exactly those bytes, for a while, and then the store is asked
what has come.

Who cannot be asked between rendering and bringing is given forms before: each lets any content be
posted under one key. So what has come is copied to where no form reaches, and only the copy counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

from nightkiln.core.model import AttemptId, BoundJob, Ticket

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
class Form:
    """With it one file may be posted, with its SHA-256. A secret for as long as it lives."""

    url: str = field(repr=False)
    fields: Mapping[str, str] = field(repr=False)


# One for each file, in order, that live for so many seconds.
Forms: TypeAlias = Callable[[float], Awaitable[Sequence[Form]]]


@dataclass(frozen=True, slots=True)
class Posted:
    """What a machine says that it has posted with one of its forms. Untrusted."""

    number: int  # of the form
    weighed: Weighed


@dataclass(frozen=True, slots=True)
class Arrived:
    """What the store says of a file that has come."""

    size: int  # bytes
    sha256: str | None  # hex, as the store has computed it; None: it checks, and does not tell


class Uploads(Protocol):
    """A store that others can bring files to. Blocking; all raise ``StoreUnusable``."""

    def sign(self, key: str, weighed: Weighed, *, expires_s: float) -> Signed:
        """Where, for ``expires_s``, exactly the bytes that were weighed may be put."""

    def form(self, key: str, *, size_max: int, expires_s: float) -> Form:
        """With what, for ``expires_s``, a file of at most so many bytes may be posted."""

    def form_objection(self) -> str | None:
        """Why no forms may be given out: tried out with a few bytes. None: they may."""

    def set_aside(self, key: str, to: str) -> Arrived | None:
        """Copy what was posted to where no form reaches: what the copy is; None: there is none."""

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


@runtime_checkable
class HasPosted(Protocol):
    """An ``OutputHandle`` whose machine was given forms, and is not asked any more."""

    @property
    def posted(self) -> Posted | str:
        """What the machine says that it has posted, or why it could not."""


@runtime_checkable
class TakesForms(Protocol):
    """A ``Worker`` that is told with a job where to bring what it makes."""

    @property
    def no_forms(self) -> str:
        """Why it takes none, for people; "": it does."""

    async def submit_with(self, job: BoundJob, attempt_id: AttemptId, forms: Forms) -> Ticket:
        """``submit``, with forms that are signed once it is known how long they have to live."""
