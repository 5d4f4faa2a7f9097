"""Files that others bring to an object store, each under an address that is signed for it alone.

The signature covers the length and the SHA-256, so that the service itself refuses other bytes.
A form, which is given out before there is a file, only says how long it may be: the service sees
that the SHA-256 which comes along is right, and tells it. Whether it does all that is tried out
before anything rests on it.
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

from nightkiln.blobs.s3_client import Gone, S3Client, checksum
from nightkiln.core.errors import StoreUnusable
from nightkiln.ports.uploads import INCOMING, Arrived, Form, Signed, Weighed

CHECKSUM = "x-amz-checksum-sha256"
ALGORITHM = {"x-amz-checksum-algorithm": "SHA256"}
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
        signed = base64.b64encode(bytes.fromhex(weighed.sha256)).decode()
        asked = {
            **self._client.named(key),
            "ContentLength": weighed.size,
            "ChecksumSHA256": signed,
        }
        seconds = max(EXPIRES_S_MIN, int(expires_s))

        async def sign(it: Any) -> str:
            return str(
                await it.generate_presigned_url("put_object", Params=asked, ExpiresIn=seconds)
            )

        return Signed(self._client.ask(key, sign), {CHECKSUM: signed})

    def form(self, key: str, *, size_max: int, expires_s: float) -> Form:
        said = {
            **self._client.named(key),
            "Fields": dict(ALGORITHM),
            "Conditions": [
                dict(ALGORITHM),
                ["content-length-range", 1, size_max],
                ["starts-with", f"${CHECKSUM}", ""],
            ],
            "ExpiresIn": max(EXPIRES_S_MIN, int(expires_s)),
        }

        async def sign(it: Any) -> Form:
            made = await it.generate_presigned_post(**said)
            return Form(str(made["url"]), dict(made["fields"]))

        return self._client.ask(key, sign)

    def set_aside(self, key: str, to: str) -> Arrived | None:
        said = {**self._client.named(to), "CopySource": self._client.named(key)}
        try:
            self._client.ask(to, lambda it: it.copy_object(**said))
        except Gone:
            return None
        return self.arrived(to)

    def arrived(self, key: str) -> Arrived | None:
        named = self._client.named(key)
        try:
            told = self._client.ask(key, lambda it: it.head_object(**named, ChecksumMode="ENABLED"))
        except Gone:
            return None
        sum_told = told.get("ChecksumSHA256")
        sha256 = base64.b64decode(sum_told).hex() if sum_told else None
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
            if _takes(_put(signed, _OTHER)):
                return "it takes other bytes than those whose SHA-256 was signed"
            if not _takes(_put(signed, _GOOD)):
                return "it takes nothing under a signed address with a SHA-256"
            found = self.arrived(key)
            if found is None or not is_same(found, Arrived(weighed.size, weighed.sha256)):
                return "it does not have what it took under a signed address"
        finally:
            self.drop(key)
        return None

    def form_objection(self) -> str | None:
        name = uuid.uuid4().hex
        key, aside = f"{INCOMING}trial-{name}-posted", f"{INCOMING}trial-{name}"
        form = self.form(key, size_max=len(_GOOD), expires_s=TRIAL_S_MAX * TRIAL_TRIES)
        try:
            if _takes(_post(form, _OTHER, said=_GOOD)):
                return "it takes other bytes than those whose SHA-256 is posted with them"
            if _takes(_post(form, _GOOD + _OTHER)):
                return "it takes more bytes than a form allows"
            if not _takes(_post(form, _GOOD)):
                return "it takes nothing that is posted with a form"
            if self.set_aside(key, aside) != Arrived(len(_GOOD), hashlib.sha256(_GOOD).hexdigest()):
                return "it does not tell the SHA-256 of what was posted"
        finally:
            self.drop(key)
            self.drop(aside)
        return None


def is_same(one: Arrived, other: Arrived) -> bool:
    """Whether it is the same content, as far as the store tells."""
    told = {one.sha256, other.sha256} - {None}
    return one.size == other.size and len(told) <= 1


def _takes(request: urllib.request.Request) -> bool:
    """Whether the service takes that, as from a machine."""
    try:
        for attempt in stamina.retry_context(
            on=_Passing, attempts=TRIAL_TRIES, timeout=None, wait_initial=0.1, wait_max=2.0
        ):
            with attempt:
                status = _status(request)
    except _Passing as error:
        raise StoreUnusable(f"a signed address could not be tried: {error}") from None
    return status < 300  # noqa: PLR2004 - HTTP: all of the others are refusals


def _put(signed: Signed, body: bytes) -> urllib.request.Request:
    return urllib.request.Request(  # noqa: S310 - the address is our own
        signed.url, data=body, method="PUT", headers=dict(signed.headers)
    )


def _post(form: Form, body: bytes, *, said: bytes | None = None) -> urllib.request.Request:
    """``said``: of which the SHA-256 comes along, if not of ``body``."""
    fields = {**form.fields, CHECKSUM: checksum(said if said is not None else body)}
    border = uuid.uuid4().hex
    parts = [
        f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts.append(f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n')
    return urllib.request.Request(  # noqa: S310 - the address is our own
        form.url,
        data="".join(parts).encode() + body + f"\r\n--{border}--\r\n".encode(),
        method="POST",
        headers={"content-type": f"multipart/form-data; boundary={border}"},
    )


def _status(request: urllib.request.Request) -> int:
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
