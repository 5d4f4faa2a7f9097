"""Files that others bring to an object store, each under an address that is signed for it alone.

The signature covers the length and the SHA-256, so that the service itself refuses other bytes.
Whether it does is tried out before anything rests on it.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from typing import Any

import stamina

from nightkiln.blobs.s3_client import Gone, S3Client
from nightkiln.core.errors import StoreUnusable
from nightkiln.ports.uploads import INCOMING, Arrived, Signed, Weighed

CHECKSUM = "x-amz-checksum-sha256"
EXPIRES_S_MIN = 1
TRIAL_S_MAX = 20.0  # for one request of a trial
TRIAL_TRIES = 5
PASSING_STATUS_MIN = 500
TOO_MANY = 429
_GOOD = b"the bytes that were signed"
_OTHER = b"as many bytes, but others!"


class _Passing(Exception):
    """Trouble that the next try may not meet."""


class S3Uploads:
    """Uploads to one place in an object store. Safe to use from many threads."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def sign(self, key: str, weighed: Weighed, *, expires_s: float) -> Signed:
        checksum = base64.b64encode(bytes.fromhex(weighed.sha256)).decode()
        asked = {
            **self._client.named(key),
            "ContentLength": weighed.size,
            "ChecksumSHA256": checksum,
        }
        seconds = max(EXPIRES_S_MIN, int(expires_s))

        async def sign(it: Any) -> str:
            return str(
                await it.generate_presigned_url("put_object", Params=asked, ExpiresIn=seconds)
            )

        return Signed(self._client.ask(key, sign), {CHECKSUM: checksum})

    def arrived(self, key: str) -> Arrived | None:
        named = self._client.named(key)
        try:
            told = self._client.ask(key, lambda it: it.head_object(**named, ChecksumMode="ENABLED"))
        except Gone:
            return None
        checksum = told.get("ChecksumSHA256")
        sha256 = base64.b64decode(checksum).hex() if checksum else None
        return Arrived(int(told["ContentLength"]), sha256)

    def beginning(self, key: str, size_max: int) -> bytes:
        named = self._client.named(key)

        async def once(it: Any) -> bytes:
            answer = await it.get_object(**named, Range=f"bytes=0-{size_max - 1}")
            async with answer["Body"] as body:
                found: bytes = await body.read(size_max)
            return found

        return self._client.ask(key, once)

    def take(self, key: str, to: str, arrived: Arrived, *, media: str) -> None:
        source, target = self._client.named(key), self._client.named(to)
        said = {
            **target,
            "CopySource": source,
            "MetadataDirective": "REPLACE",
            "ContentType": media,
        }
        self._client.ask(to, lambda it: it.copy_object(**said), size=arrived.size)
        copied = self.arrived(to)
        if copied is None or not is_same(copied, arrived):
            raise StoreUnusable(f"{to}: the store has not copied what was brought to it")
        with suppress(StoreUnusable):  # it has its place: what is left is for ``store gc``
            self.drop(key)

    def drop(self, key: str) -> None:
        named = self._client.named(key)
        try:
            self._client.ask(key, lambda it: it.delete_object(**named))
        except Gone:
            return

    def objection(self) -> str | None:
        """Why nobody may bring anything here: tried out with a few bytes. None: they may.

        Raises:
            StoreUnusable: it could not be tried.
        """
        key = f"{INCOMING}trial-{uuid.uuid4().hex}"
        weighed = Weighed(len(_GOOD), hashlib.sha256(_GOOD).hexdigest())
        signed = self.sign(key, weighed, expires_s=TRIAL_S_MAX * TRIAL_TRIES)
        try:
            if _takes(signed, _OTHER):
                return "it takes other bytes than those whose SHA-256 was signed"
            if not _takes(signed, _GOOD):
                return "it takes nothing under a signed address with a SHA-256"
            found = self.arrived(key)
            if found is None or not is_same(found, Arrived(weighed.size, weighed.sha256)):
                return "it does not have what it took under a signed address"
        finally:
            self.drop(key)
        return None


def is_same(one: Arrived, other: Arrived) -> bool:
    """Whether it is the same content, as far as the store tells."""
    told = {one.sha256, other.sha256} - {None}
    return one.size == other.size and len(told) <= 1


def _takes(signed: Signed, body: bytes) -> bool:
    """Whether ``body`` may be put there, as a machine would put it."""
    try:
        for attempt in stamina.retry_context(
            on=_Passing, attempts=TRIAL_TRIES, timeout=None, wait_initial=0.1, wait_max=2.0
        ):
            with attempt:
                status = _put(signed, body)
    except _Passing as error:
        raise StoreUnusable(f"a signed address could not be tried: {error}") from None
    return status < 300  # noqa: PLR2004 - HTTP: all of the others are refusals


def _put(signed: Signed, body: bytes) -> int:
    request = urllib.request.Request(  # noqa: S310 - the address is our own
        signed.url, data=body, method="PUT", headers=dict(signed.headers)
    )
    try:
        with urllib.request.urlopen(request, timeout=TRIAL_S_MAX) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            if error.code >= PASSING_STATUS_MIN or error.code == TOO_MANY:
                raise _Passing(f"HTTP {error.code}") from None
            return error.code
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(type(error).__name__) from None
