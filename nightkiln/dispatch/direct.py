"""The way of files that machines bring into the store by themselves.

The machine weighs its file, an address is signed for exactly that content, the machine puts it
there, and the store says what has come. Whatever goes wrong up to then only means that the file
comes through this computer, like any other. Who was given forms has posted its file before anybody
asked: then a copy of it counts, which no form reaches. Then its first bytes are looked at, and of
some files every pixel: of bytes read back from the store, and drawn so that no machine can tell
which.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from nightkiln.core.errors import BadOutput, StoreUnusable
from nightkiln.core.model import AttemptId, Fault, Output, OutputFacts
from nightkiln.disk import trouble
from nightkiln.glimpse import BEGINNING_BYTES, glimpse
from nightkiln.ports.blobs import Blobs
from nightkiln.ports.uploads import (
    INCOMING,
    Arrived,
    CanUpload,
    Form,
    HasPosted,
    Uploads,
    Weighed,
)
from nightkiln.ports.worker import OutputHandle
from nightkiln.verify import BYTES_MAX, inspect

DECODED_EVERY = 16  # of what trusted machines bring, one file in so many
SECRET_BYTES = 16
ASKS_MAX = 8  # requests to the store at once
UPLOAD_S_MIN = 60.0  # for a small file; then its address is worth nothing any more
UPLOAD_BYTES_PER_S_MIN = 50_000.0  # slower than that, an upload counts as stuck

T = TypeVar("T")


@dataclass(slots=True)
class Direct:
    """Has machines bring files, and looks at what has come."""

    uploads: Uploads
    blobs: Blobs
    # Machines know the names of their attempts: drawn by those alone, they knew what is looked at.
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(SECRET_BYTES), repr=False)
    # Of their own: a store that is slow must not keep heartbeats from getting a thread.
    _askers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(ASKS_MAX, "direct"), repr=False
    )
    _trying: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    _verdict: list[str | None] = field(default_factory=list)  # on forms; empty: not tried yet

    def samples(self, key: str) -> bool:
        """Whether what comes under ``key`` is decoded, however far its machine is trusted."""
        drawn = hashlib.sha256(self.secret + key.encode()).digest()
        return int.from_bytes(drawn[:8], "big") % DECODED_EVERY == 0

    async def form_objection(self) -> str | None:
        """Why no forms are given out for this store; tried out once. None: they are.

        Raises:
            StoreUnusable: it could not be tried.
        """
        async with self._trying:
            if not self._verdict:
                self._verdict.append(await self._asked(self.uploads.form_objection))
            return self._verdict[0]

    async def forms(self, keys: Sequence[str], *, expires_s: float) -> list[Form]:
        """One for each of what will be looked at under ``keys``."""
        signs = [
            partial(self.uploads.form, posted_as(key, n), size_max=BYTES_MAX, expires_s=expires_s)
            for n, key in enumerate(keys)
        ]
        return [await self._asked(sign) for sign in signs]

    async def posted(self, handle: HasPosted, key: str) -> Weighed | str:
        """Set aside under ``key`` what a machine has posted: what it is, or why it does not count.

        Raises:
            StoreUnusable: the store cannot be asked.
        """
        posted = handle.posted
        if isinstance(posted, str):
            return posted
        source, weighed = posted_as(key, posted.number), posted.weighed
        arrived = await self._asked(partial(self.uploads.set_aside, source, key))
        if arrived is None:
            return "nothing has come"
        # A form lets any bytes in, so here the store has to tell what they are.
        if (arrived.size, arrived.sha256) != (weighed.size, weighed.sha256):
            self.drop([source, key])
            return "something else has come"
        return weighed

    async def bring(self, handle: CanUpload, key: str) -> Weighed | str:
        """Have a machine bring its file to ``key``: what has come, or why nothing that counts.

        Raises:
            WorkerLost: the machine went away.
            StoreUnusable: the store cannot be asked.
        """
        weighed = await handle.weighed()
        if weighed is None:
            return "it cannot say what it has made"
        if not 0 < weighed.size <= BYTES_MAX:
            return f"a file of {weighed.size} bytes"
        within_s = UPLOAD_S_MIN + weighed.size / UPLOAD_BYTES_PER_S_MIN
        sign = partial(self.uploads.sign, key, weighed, expires_s=within_s)
        complaint = await handle.upload(await self._asked(sign), within_s=within_s)
        arrived = await self._asked(partial(self.uploads.arrived, key))
        if arrived is None:
            return complaint or "nothing has come"
        if arrived.size != weighed.size or arrived.sha256 not in {None, weighed.sha256}:
            self.drop([key])
            return "something else has come"
        return weighed

    async def look(
        self, key: str, weighed: Weighed, *, here: Path | None, blank_is_fault: bool
    ) -> OutputFacts:
        """What has come under ``key``; an image is decoded if there is a place for it ``here``.

        Raises:
            BadOutput: it is none that counts.
            StoreUnusable: the store, or our own disk, does not take part.
        """
        return await self._asked(partial(self._look, key, weighed, here, blank_is_fault))

    def _look(
        self,
        key: str,
        weighed: Weighed,
        here: Path | None,
        blank_is_fault: bool,  # noqa: FBT001
    ) -> OutputFacts:
        beginning = self.uploads.beginning(key, BEGINNING_BYTES)
        facts = glimpse(beginning, size=weighed.size, sha256=weighed.sha256)
        if here is None or not facts.media.startswith("image/"):
            return facts
        try:
            here.write_bytes(self.blobs.get(key))
            seen = inspect(here, blank_is_fault=blank_is_fault)
        except OSError as error:
            raise StoreUnusable(trouble(error, here)) from error
        except KeyError as error:
            raise StoreUnusable(f"{key}: it has come, and is gone") from error
        finally:
            with suppress(OSError):
                here.unlink(missing_ok=True)
        if seen.sha256 != weighed.sha256:
            said = "the store has other bytes than those whose SHA-256 was signed"
            raise BadOutput(said, fault=Fault.MACHINE, kind="checksum")
        return seen

    def take(self, key: str, output: Output) -> None:
        """Give what has come its place in the store; durable when this returns. Blocking."""
        facts = output.facts
        self.uploads.take(key, output.uri, Arrived(facts.size, facts.sha256), media=facts.media)

    def drop(self, keys: Sequence[str]) -> None:
        """Have what will not be kept removed, some time; what stays is for ``store gc``."""
        for key in keys:
            self._askers.submit(self._dropped, key)

    def _dropped(self, key: str) -> None:
        with suppress(StoreUnusable):
            self.uploads.drop(key)

    async def _asked(self, question: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._askers, question)


def keys_of(attempt_id: AttemptId, count: int) -> list[str]:
    """Where what machines bring of an attempt is looked at, by the order of its files."""
    return [f"{INCOMING}{attempt_id}/{n}" for n in range(count)]


def posted_by(handle: OutputHandle, key: str) -> str | None:
    """Where a machine says that it has posted what will be looked at under ``key``."""
    posted = handle.posted if isinstance(handle, HasPosted) else ""
    return posted_as(key, posted.number) if not isinstance(posted, str) else None


def posted_as(key: str, number: int) -> str:
    """The key of a form, beside the one under which what was posted is looked at."""
    return f"{key.rpartition('/')[0]}/{number}-posted"
