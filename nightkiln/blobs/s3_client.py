"""One request to an object store, repeated while that may help.

The client of s3fs is asked directly, so that a request can carry its condition and its SHA-256,
and so that repeating it is decided here alone: within limits, with pauses that grow. Whoever asks
is blocked; the requests themselves are made on s3fs's own event loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
import mimetypes
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import stamina

from nightkiln.blobs.keys import check_key
from nightkiln.blobs.s3_errors import (
    GONE,
    NO_S3,
    TAKEN,
    UNEXPLAINED,
    code_of,
    explained,
    is_passing,
)
from nightkiln.blobs.s3_place import S3Access, S3Place
from nightkiln.core.errors import StoreUnusable

SMALL_BYTES = 64 * 1024  # requests of that size wait for nobody: heartbeats are among them

T = TypeVar("T")
Request: TypeAlias = Callable[[Any], Awaitable[T]]  # given the service's own client


@dataclass(frozen=True, slots=True)
class S3Limits:
    """How long, how often and how much at once."""

    transfers: int = 8  # large requests at once: so many bodies are in memory
    repeat_s: float = 45.0  # no new try of a request after so long
    tries: int = 12
    pause_s: float = 0.1  # before the second try; then twice as long each time
    pause_s_max: float = 5.0
    answer_s: float = 15.0  # for a small request, and until the first byte of a large answer
    bytes_per_s_min: float = 50_000.0  # slower than that, a transfer counts as stuck

    def attempt_s(self, size: int) -> float:
        """How long one try of a transfer may take."""
        return self.answer_s + size / self.bytes_per_s_min


class Gone(StoreUnusable):
    """There is nothing of that name."""


class Taken(StoreUnusable):
    """There is something of that name already."""


class Unexplained(StoreUnusable):
    """It is refused, and nothing says why."""


KINDS = {
    **dict.fromkeys(GONE, Gone),
    **dict.fromkeys(TAKEN, Taken),
    **dict.fromkeys(UNEXPLAINED, Unexplained),
}


class S3Client:
    """Asks one object store. Safe to use from many threads."""

    def __init__(self, place: S3Place, access: S3Access, limits: S3Limits) -> None:
        self.place = place
        self._access = access
        self.limits = limits
        self._files = access.file_system()
        logging.getLogger("stamina").setLevel(logging.ERROR)  # its retries are ours to report
        self._turns = asyncio.Semaphore(limits.transfers)
        self._repeated = stamina.AsyncRetryingCaller(
            attempts=limits.tries,
            timeout=limits.repeat_s,
            wait_initial=limits.pause_s,
            wait_max=limits.pause_s_max,
            wait_jitter=limits.pause_s,
        ).on(is_passing)

    def named(self, key: str) -> dict[str, str]:
        """What every request for ``key`` says."""
        return {"Bucket": self.place.bucket, "Key": self.place.object_key(check_key(key))}

    def content(self, key: str, data: bytes) -> dict[str, Any]:
        """What a request says that brings the whole of ``key``."""
        return {
            **self.named(key),
            "Body": data,
            "ChecksumSHA256": checksum(data),
            "ContentType": content_type(key),
        }

    def ask(self, key: str, request: Request[T], *, size: int = 0, is_repeated: bool = True) -> T:
        """What ``request`` makes of the service's own client; ``size``: bytes that it moves.

        ``is_repeated``: it is worth waiting for.

        Raises:
            Gone, Taken, Unexplained: the service says so.
            StoreUnusable: anything else that repeating did not help.
        """
        [answer] = self.ask_all(key, [request], size=size, is_repeated=is_repeated)
        return answer

    def ask_all(
        self, key: str, requests: Sequence[Request[T]], *, size: int, is_repeated: bool = True
    ) -> list[T]:
        """The same for several requests at once, each of which moves ``size`` bytes.

        Raises:
            StoreUnusable: one of them failed for good; none goes on.
        """
        from aiohttp import ClientError as TransferError
        from botocore.exceptions import BotoCoreError, ClientError
        from fsspec.asyn import sync

        try:
            answers: list[T] = sync(self._files.loop, self._all, requests, size, is_repeated)
        except (BotoCoreError, ClientError, TransferError, OSError) as error:
            what = explained(error, self.place, key, self._access.endpoint)
            raise KINDS.get(code_of(error), StoreUnusable)(what) from error
        return answers

    def no_service(self, key: str) -> StoreUnusable:
        """What to raise where something answers that is no object store."""
        said = NO_S3.format(endpoint=self._access.endpoint or "AWS")
        return StoreUnusable(f"{self.place.uri}/{key}: {said}")

    async def _all(
        self,
        requests: Sequence[Request[T]],
        size: int,
        is_repeated: bool,  # noqa: FBT001 - fsspec hands it on by its place
    ) -> list[T]:
        try:
            async with asyncio.TaskGroup() as group:
                asked = [
                    group.create_task(
                        self._repeated(self._once, each, size)
                        if is_repeated
                        else self._once(each, size)
                    )
                    for each in requests
                ]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors.exceptions[0].__cause__
        return [one.result() for one in asked]

    async def _once(self, request: Request[T], size: int) -> T:
        turn = self._turns if size > SMALL_BYTES else contextlib.nullcontext()
        async with turn, asyncio.timeout(self.limits.attempt_s(size)):
            return await request(await self._files.set_session())


def checksum(data: bytes) -> str:
    """The SHA-256 of ``data`` as the protocol writes it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def content_type(key: str) -> str:
    """What a browser takes the file for."""
    found, _ = mimetypes.guess_type(key)
    return found if found is not None else "application/octet-stream"
