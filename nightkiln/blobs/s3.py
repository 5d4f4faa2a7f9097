"""Files in an object store, there whole or not at all, each with the checksum of what was sent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from nightkiln.blobs.keys import is_key
from nightkiln.blobs.s3_client import Gone, S3Client, S3Limits, Taken, Unexplained
from nightkiln.blobs.s3_parts import SIZE_MIN, call_off_left, put_parts
from nightkiln.blobs.s3_place import S3Access, S3Place
from nightkiln.blobs.s3_uploads import S3Uploads
from nightkiln.core.errors import StoreUnusable
from nightkiln.disk import trouble
from nightkiln.ports.blobs import Entry

CREATED_AS = "nightkiln-created-as"  # tells whose creation an object is
LINK_S_MAX = 7 * 24 * 3600.0  # what the signature of an address allows
PAGES_MAX = 1_000_000  # of a listing, a thousand names each
IMAGES = "images/"  # where large files are
GET_BYTES = 2**30  # what is allowed for where nobody knows how much will come


class S3Blobs:
    """Blobs under one prefix of a bucket. Safe to use from many threads."""

    def __init__(self, place: S3Place, access: S3Access, *, limits: S3Limits | None = None) -> None:
        self.place = place
        self._client = S3Client(place, access, limits if limits is not None else S3Limits())
        self.uploads = S3Uploads(self._client)

    def put(self, key: str, data: bytes | Path) -> None:
        if isinstance(data, Path):
            self._put_file(key, data)
        else:
            self._put_bytes(key, data)

    def create(self, key: str, data: bytes) -> bool:
        mine = uuid.uuid4().hex
        said = {**self._client.content(key, data), "Metadata": {CREATED_AS: mine}}
        try:
            self._client.ask(key, lambda it: it.put_object(**said, IfNoneMatch="*"), size=len(data))
        except Taken:
            # An earlier try may have been carried out and its answer lost; aiohttp, too, sends a
            # PUT once more on its own when a kept connection breaks. Then it is ours.
            named = self._client.named(key)
            there = self._client.ask(key, lambda it: it.head_object(**named))
            return bool(there.get("Metadata", {}).get(CREATED_AS) == mine)
        return True

    def get(self, key: str) -> bytes:
        named = self._client.named(key)

        async def once(it: Any) -> bytes:
            async with asyncio.timeout(self._client.limits.answer_s):
                answer = await it.get_object(**named, ChecksumMode="ENABLED")
            async with answer["Body"] as body:
                if "ETag" not in answer:  # the page of some web server
                    raise self._client.no_service(key)
                found: bytes = await body.read()
            return found

        try:
            return self._client.ask(key, once, size=GET_BYTES)
        except Gone:
            raise KeyError(key) from None

    def size(self, key: str) -> int | None:
        named = self._client.named(key)
        try:
            return int(self._client.ask(key, lambda it: it.head_object(**named))["ContentLength"])
        except Gone:
            return None
        except Unexplained:
            self._client.ask(key, partial(_first_byte, named))  # which is told why
            raise

    def list(self, prefix: str) -> Iterator[str]:
        for entry in self.entries(prefix):
            yield entry.key

    def entries(self, prefix: str) -> Iterator[Entry]:
        begins = len(self.place.object_key(""))
        asked = {"Bucket": self.place.bucket, "Prefix": self.place.object_key(prefix)}
        for _ in range(PAGES_MAX):
            page = self._client.ask(prefix, partial(_page, asked))
            for found in page.get("Contents", ()):
                key = found["Key"][begins:]
                # What others have put there is none of a store's: a console's idea of a folder.
                # Asked for what begins with "a//", SeaweedFS tells of "a/b", too.
                if is_key(key) and key.startswith(prefix):
                    yield Entry(key, int(found["Size"]), found["LastModified"].timestamp())
            if not page.get("IsTruncated"):
                return
            asked = {**asked, "ContinuationToken": page.get("NextContinuationToken", "")}
        raise StoreUnusable(f"{self.place.uri}/{prefix}: the list of what is there has no end")

    def remove(self, key: str) -> None:
        named = self._client.named(key)
        try:
            self._client.ask(key, lambda it: it.delete_object(**named))
        except Gone:
            return

    def link(self, key: str, *, expires_s: float) -> str:
        named, seconds = self._client.named(key), int(min(expires_s, LINK_S_MAX))

        async def sign(it: Any) -> str:
            return str(
                await it.generate_presigned_url("get_object", Params=named, ExpiresIn=seconds)
            )

        return self._client.ask(key, sign)

    def sweep(self, *, now_s: float) -> int:
        """Call off large files that a crash left half brought more than a day ago; how many.

        They are invisible, and paid for. Nothing else in the bucket is looked at.

        Raises:
            StoreUnusable: the credentials may not list or call them off, or the service cannot.
        """
        return call_off_left(self._client, IMAGES, now_s=now_s)

    def _put_bytes(self, key: str, data: bytes) -> None:
        said = self._client.content(key, data)
        self._client.ask(key, lambda it: it.put_object(**said), size=len(data))

    def _put_file(self, key: str, path: Path) -> None:
        try:
            with path.open("rb") as file:
                size = path.stat().st_size
                if size < SIZE_MIN:
                    self._put_bytes(key, file.read())
                else:
                    put_parts(self._client, key, file, size)
            path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnusable(trouble(error, path)) from error


async def _page(asked: dict[str, str], it: Any) -> dict[str, Any]:
    page: dict[str, Any] = await it.list_objects_v2(**asked)
    return page


async def _first_byte(named: dict[str, str], it: Any) -> None:
    answer = await it.get_object(**named, Range="bytes=0-0")
    async with answer["Body"] as body:
        await body.read()
