"""Large files go to an object store in parts, each with its checksum, a few at once."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import IO, Any

from nightkiln.blobs.s3_client import Gone, S3Client, checksum, content_type
from nightkiln.core.errors import StoreUnusable

SIZE_MIN = 16 * 2**20  # smaller files go in one piece
PART_BYTES = 8 * 2**20
PARTS_MAX = 10_000  # more are not allowed
AT_ONCE = 2  # of one file: so many parts are in memory
LEFT_S = 24 * 3600.0  # nobody brings one file for a day
LISTS_MAX = 100  # of what was left, a thousand each; what there is more waits for the next time


def put_parts(client: S3Client, key: str, file: IO[bytes], size: int) -> None:
    """Bring ``file`` of ``size`` bytes under ``key``: all of it, or nothing.

    Raises:
        StoreUnusable: it could not be brought.
        OSError: the file could not be read.
    """
    upload = {**client.named(key), "UploadId": _begin(client, key)}
    try:
        parts = _bring(client, key, file, upload, max(PART_BYTES, -(-size // PARTS_MAX)))
        _end(client, key, upload, parts)
    except BaseException:
        # What was brought is invisible, and is paid for until it is called off.
        with contextlib.suppress(StoreUnusable):
            client.ask(key, lambda it: it.abort_multipart_upload(**upload))
        raise


def _begin(client: S3Client, key: str) -> str:
    said = {**client.named(key), "ChecksumAlgorithm": "SHA256", "ContentType": content_type(key)}
    begun = client.ask(key, lambda it: it.create_multipart_upload(**said))
    return str(begun["UploadId"])


def _bring(
    client: S3Client, key: str, file: IO[bytes], upload: dict[str, str], part_bytes: int
) -> list[dict[str, Any]]:
    brought: list[dict[str, Any]] = []
    while True:
        bodies = [body for _ in range(AT_ONCE) if (body := file.read(part_bytes))]
        if not bodies:
            return brought
        requests = [
            partial(_bring_one, {**upload, "PartNumber": number}, body, checksum(body))
            for number, body in enumerate(bodies, len(brought) + 1)
        ]
        brought += client.ask_all(key, requests, size=part_bytes)


async def _bring_one(said: dict[str, Any], body: bytes, sha256: str, it: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await it.upload_part(**said, Body=body, ChecksumSHA256=sha256)
    return answer


def _end(client: S3Client, key: str, upload: dict[str, str], brought: list[dict[str, Any]]) -> None:
    fields = ("ETag", "ChecksumSHA256")
    parts = [
        {"PartNumber": number, **{name: part[name] for name in fields if name in part}}
        for number, part in enumerate(brought, 1)
    ]
    tries = 0

    async def once(it: Any) -> None:
        nonlocal tries
        tries += 1
        await it.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    try:
        client.ask(key, once)
    except Gone:
        if tries == 1:
            raise
        # The answer to an earlier try was lost: the upload is gone since it has become the file.
        client.ask(key, lambda it: it.head_object(**client.named(key)))


def call_off_left(client: S3Client, prefix: str, *, now_s: float) -> int:
    """Call off what was begun under ``prefix`` more than a day ago and never ended; how many.

    Nobody waits for it while the service fails: the next one calls off what this one left.

    Raises:
        StoreUnusable: it cannot be listed, or called off.
    """
    place, called_off = client.place, 0
    asked = {"Bucket": place.bucket, "Prefix": place.object_key(prefix)}
    for _ in range(LISTS_MAX):
        page = client.ask(prefix, partial(_list, asked), is_repeated=False)
        for left in page.get("Uploads", ()):
            if now_s - left["Initiated"].timestamp() > LEFT_S:
                named = {"Bucket": place.bucket, "Key": left["Key"], "UploadId": left["UploadId"]}
                with contextlib.suppress(Gone):  # another run has been faster
                    client.ask(prefix, partial(_call_off, named), is_repeated=False)
                called_off += 1
        if not page.get("IsTruncated"):
            break
        markers = {"KeyMarker": "NextKeyMarker", "UploadIdMarker": "NextUploadIdMarker"}
        asked |= {name: page[said] for name, said in markers.items() if page.get(said)}
    return called_off


async def _list(asked: dict[str, str], it: Any) -> dict[str, Any]:
    page: dict[str, Any] = await it.list_multipart_uploads(**asked)
    return page


async def _call_off(named: dict[str, str], it: Any) -> None:
    await it.abort_multipart_upload(**named)
