"""Files over HTTP: ``/view`` and ``/upload/image``."""

from __future__ import annotations

import asyncio
import mimetypes
import posixpath
from email.utils import formatdate

from aiohttp import BodyPartReader, web

from nightkiln.testing.comfyui.files import FOLDERS, Files, Place, StoredFile, annotated

PART_BYTES = 256 * 1024  # written at once, so that a slow reader is felt
HUGE_BYTES = 1 << 40  # what "never stops" means
LOGIN_PAGE = "<!doctype html><title>Sign in</title><form>Please sign in to continue.</form>"


class Views:
    """Serves and takes files as ComfyUI does."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def view(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        place = Place(
            query.get("filename", ""), query.get("subfolder", ""), query.get("type", "output")
        )
        file = self._files.get(place)  # under an evil name, too, if that is what history said
        if file is None:
            place = _checked(place, has_name="filename" in query)
            file = self._files.get(place)
        if file is None:
            raise web.HTTPNotFound(text="")
        if file.fault == "html":
            return web.Response(text=LOGIN_PAGE, content_type="text/html")
        if file.fault == "huge":
            return await _endless(request)
        return await _send(request, place, file)

    async def upload(self, request: web.Request) -> web.Response:
        fields: dict[str, str] = {}
        content, filename = None, ""
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name == "image":
                filename = part.filename if part.filename is not None else ""
                content = bytes(await part.read())
            elif part.name is not None:
                fields[part.name] = await part.text()
        folder, subfolder = fields.get("type", "input"), fields.get("subfolder", "")
        if content is None or not filename or folder not in FOLDERS:
            raise web.HTTPBadRequest(text="")
        path = posixpath.normpath(posixpath.join(subfolder, filename))
        if path.startswith(("/", "..")):
            raise web.HTTPBadRequest(text="")
        lies_in, name = posixpath.split(path)
        overwrite = fields.get("overwrite") in {"true", "1"}
        kept = self._files.upload(Place(name, lies_in, folder), content, overwrite=overwrite)
        return web.json_response({"name": kept.filename, "subfolder": subfolder, "type": folder})


def _checked(place: Place, *, has_name: bool) -> Place:
    """The place as ComfyUI reads it, or its refusal."""
    if not has_name:
        raise web.HTTPNotFound(text="")
    filename, folder = annotated(place.filename, place.type)
    if not filename or filename.startswith("/") or ".." in filename or folder not in FOLDERS:
        raise web.HTTPBadRequest(text="")
    subfolder = posixpath.normpath(place.subfolder) if place.subfolder else ""
    if subfolder.startswith(("/", "..")):
        raise web.HTTPForbidden(text="")
    return Place(posixpath.basename(filename), "" if subfolder == "." else subfolder, folder)


async def _send(request: web.Request, place: Place, file: StoredFile) -> web.StreamResponse:
    try:
        stretch = request.http_range
    except ValueError:
        headers = {"Content-Range": f"bytes */{file.length}"}
        raise web.HTTPRequestRangeNotSatisfiable(headers=headers) from None
    etag = f"{int(file.modified_s * 1e9):x}-{file.length:x}"
    if request.if_none_match and any(tag.value in {etag, "*"} for tag in request.if_none_match):
        raise web.HTTPNotModified(headers={"ETag": f'"{etag}"'})
    start, stop, _ = stretch.indices(file.length)
    status, headers = 200, _headers(place, file, etag)
    if stretch.start is not None:
        if start >= file.length:
            headers = {"Content-Range": f"bytes */{file.length}"}
            raise web.HTTPRequestRangeNotSatisfiable(headers=headers)
        status = 206
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.length}"
    if stop - start <= PART_BYTES and file.fault is None:  # head and body in one piece
        body = b"".join(file.chunks)[start:stop]
        return web.Response(body=body, status=status, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = stop - start
    await response.prepare(request)
    if request.method != "HEAD":
        end = stop - (stop - start) // 2 if file.fault == "truncate" else stop
        await _write(request, response, file, start, end)
    return response


def _headers(place: Place, file: StoredFile, etag: str) -> dict[str, str]:
    guessed = mimetypes.guess_type(place.filename)[0]
    return {
        "Content-Type": guessed if guessed is not None else "application/octet-stream",
        "Content-Disposition": f'filename="{place.filename}"',
        "Accept-Ranges": "bytes",
        "ETag": f'"{etag}"',
        "Last-Modified": formatdate(file.modified_s, usegmt=True),
    }


async def _write(
    request: web.Request, response: web.StreamResponse, file: StoredFile, start: int, stop: int
) -> None:
    before = 0
    for chunk in file.chunks:
        first, last = max(start - before, 0), min(stop - before, len(chunk))
        whole = memoryview(chunk)
        for at in range(first, last, PART_BYTES):
            await response.write(whole[at : min(at + PART_BYTES, last)])
        before += len(chunk)
    if file.fault == "truncate" and request.transport is not None:
        await asyncio.sleep(0)  # what was written goes out first
        request.transport.close()


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_type = "image/png"
    response.enable_chunked_encoding()
    await response.prepare(request)
    part = bytes(PART_BYTES)
    await response.write(b"\x89PNG\r\n\x1a\n")
    for _ in range(HUGE_BYTES // PART_BYTES):
        await response.write(part)
    return response
