"""One try at one address."""

from __future__ import annotations

import http
import http.client
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from provision.machine import free_bytes
from provision.plan import Model, Stopped, Trouble
from provision.status import Status

CHUNK_BYTES = 1024 * 1024
SILENCE_S_MAX = 30.0  # of a connection
WORTH_REPEATING = frozenset({408, 416, 425, 429, 500, 502, 503, 504})


class Unavailable(Exception):
    """The address gave nothing, or not all, this time."""


class Refused(Exception):
    """The address will give nothing any more, for the reason of this HTTP status."""

    def __init__(self, code: int) -> None:
        super().__init__(f"HTTP {code}")
        self.code = code


def size_of(path: Path) -> int:
    """Its bytes; none if it is not there."""
    return path.stat().st_size if path.exists() else 0


def download(
    address: str, model: Model, part: Path, *, status: Status, stop: threading.Event
) -> None:
    """Append to ``part`` what it lacks.

    Raises:
        Unavailable: try again later; what came so far is kept.
        Refused: only another address helps.
        Trouble: nothing helps.
    """
    start = size_of(part)
    if model.bytes is not None and start == model.bytes:
        return
    if not address.startswith(("https://", "http://")):
        raise Trouble("download", f"{model.path}: its address is not one of the web")
    headers = {"User-Agent": "nightkiln", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - looked at above
    try:
        with urllib.request.urlopen(request, timeout=SILENCE_S_MAX) as reply:  # noqa: S310
            _take(reply, model, part, start=start, status=status, stop=stop)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()  # longer than the file is by now
        if error.code in WORTH_REPEATING:
            raise Unavailable(f"HTTP {error.code}") from error
        raise Refused(error.code) from error
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(str(error)) from error


def _take(
    reply: Any, model: Model, part: Path, *, start: int, status: Status, stop: threading.Event
) -> None:
    """Write what comes behind what there is; an answer without that range begins anew."""
    if not str(reply.headers.get("Content-Range", "")).startswith(f"bytes {start}-"):
        start = 0
    length = reply.headers.get("Content-Length")
    total = start + int(length) if length is not None else model.bytes
    if model.bytes is not None and total != model.bytes:
        raise Trouble("checksum", f"{model.path} has not the size that the catalog names")
    _check_room(part.parent, model, (total if total is not None else 0) - start)
    status.change(model.path, state="loading", done=start, total=total)
    with part.open("ab" if start else "wb", buffering=0) as file:
        while chunk := reply.read(CHUNK_BYTES):
            if stop.is_set():
                raise Stopped
            _write(file, chunk)
            status.received(model.path, len(chunk))
            start += len(chunk)
            if total is not None and start > total:
                raise Trouble("checksum", f"{model.path} has not the size that the catalog names")
    if total is not None and start < total:
        raise Unavailable("the connection ended early")


def _check_room(folder: Path, model: Model, needed: int) -> None:
    """Before it is paid for, where the address is the first to say how large the file is."""
    if needed > free_bytes(folder):
        raise Trouble("disk", f"the disk is too small for {model.path}")


def _write(file: Any, chunk: bytes) -> None:
    """A disk that is full is another matter than a line that breaks, though both are OSErrors."""
    try:
        left = memoryview(chunk)
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise Trouble("disk", f"the disk cannot be written: {error.strerror}") from error
