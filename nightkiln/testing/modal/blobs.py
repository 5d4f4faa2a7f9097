"""Payloads that are too large for a message: put and fetched by plain HTTP, as on a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from aiohttp import web
from google.protobuf.message import Message
from modal_proto import api_pb2 as pb

from nightkiln.testing.modal.fault_kinds import Answered, Garbled
from nightkiln.testing.modal.faults import FaultPlan
from nightkiln.testing.modal.ids import Ids
from nightkiln.testing.modal.wire import Answer

HOST = "127.0.0.1"  # never anything else
BYTES_MAX = 256 * 1024 * 1024  # of one payload
SHUTDOWN_S = 0.1  # for requests that are under way


class Blobs:
    """The bucket, as an HTTP server of its own; on disk, for a night's results are many."""

    def __init__(self, folder: Path, ids: Ids, faults: FaultPlan) -> None:
        self._folder, self._ids, self._faults = folder, ids, faults
        self._expected: set[str] = set()  # ids that were given out
        self._runner: web.AppRunner | None = None
        self._url = ""

    def answers(self) -> Mapping[str, Answer]:
        return {"BlobCreate": self._create, "BlobGet": self._get}

    def __getitem__(self, blob_id: str) -> bytes:
        """Raises KeyError: nobody put it."""
        if blob_id not in self._expected or not (self._folder / blob_id).exists():
            raise KeyError(blob_id)
        return (self._folder / blob_id).read_bytes()

    async def start(self) -> None:
        self._folder.mkdir()
        application = web.Application(client_max_size=BYTES_MAX)
        application.router.add_put("/blob/{id}", self._serve_put)
        application.router.add_get("/blob/{id}", self._serve_get)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        host, port = self._runner.addresses[0][:2]
        self._url = f"http://{host}:{port}/blob"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _create(self, _request: pb.BlobCreateRequest) -> Message:
        blob_id = self._ids.new("bl")
        self._expected.add(blob_id)
        return pb.BlobCreateResponse(
            blob_ids=[blob_id],
            upload_urls=pb.UploadUrlList(items=[f"{self._url}/{blob_id}"]),
        )

    async def _get(self, request: pb.BlobGetRequest) -> Message:
        return pb.BlobGetResponse(download_url=f"{self._url}/{request.blob_id}")

    async def _serve_put(self, request: web.Request) -> web.Response:
        blob_id, content = request.match_info["id"], await request.read()
        if blob_id not in self._expected:
            return web.Response(status=HTTPStatus.FORBIDDEN, text="nobody may put this")
        for play in self._faults.striking("blob_put"):
            if isinstance(play, Answered):
                return web.Response(status=play.status, text=play.says)
        (self._folder / blob_id).write_bytes(content)
        # The SDK compares it with what it sent, as a bucket's ETag can be.
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        return web.Response(headers={"ETag": f'"{digest}"'})

    async def _serve_get(self, request: web.Request) -> web.Response:
        try:
            content = self[request.match_info["id"]]
        except KeyError:
            return web.Response(status=HTTPStatus.NOT_FOUND, text="no such key")
        for play in self._faults.striking("blob_get"):
            if isinstance(play, Answered):
                return web.Response(status=play.status, text=play.says)
            if isinstance(play, Garbled):
                return web.Response(body=content[: len(content) // 2])
        return web.Response(body=content)
