"""HTTP with a ComfyUI server: bounded answers, bounded patience, files that arrive whole.

The one place where a call is repeated. Only what is safe to send twice is repeated here, within the
deadline of one verb; what is lost after that is the scheduler's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import stamina

from nightkiln import comfy_answers as answers
from nightkiln.core.errors import BadOutput, RenderFailed, StoreUnusable, WorkerLost
from nightkiln.core.model import Fault, InputFile
from nightkiln.disk import trouble, write_all
from nightkiln.verify import BYTES_MAX
from nightkiln.wire import ANSWER_S_MAX, Wire

LOST_AFTER_S = 8.0  # without any answer: the worker is gone
JSON_BYTES_MAX = 64 * 1024 * 1024
DIGITS_MAX = 20  # of a length in a header
NESTING_MAX = 200  # lists and objects inside one another, in JSON from a stranger
UPLOAD_BYTES_PER_S_MIN = 100_000  # slower than this is as good as gone
DOWNLOADS_MAX = 3  # of one file that breaks off
DOWNLOAD_BYTES_PER_S_MIN = 10_000  # a drop now and then keeps no attempt waiting for ever
PIECE_BYTES = 4 * 1024 * 1024  # of a download, written at once, off the event loop
SMALL_BYTES = 256 * 1024  # what is less is sooner written than handed to a thread


class ComfyServer:
    """The endpoints that we use, in our words."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def aclose(self) -> None:
        """Hang up."""
        await self._wire.aclose()

    async def queue(self) -> tuple[frozenset[str], frozenset[str]]:
        """Ids of prompts that run, and that wait."""
        return answers.queued_ids(await self.call("GET", "/queue"))

    async def history(self, ticket: str) -> Any:
        """The finished prompt's entry; None while it is not finished, or unknown."""
        answer = await self.call("GET", f"/history/{ticket}")
        return answer.get(ticket) if isinstance(answer, dict) else None

    async def upload(self, file: InputFile) -> str:
        """Send an input file under its digest; the name to bind for it.

        Raises:
            RenderFailed: the file has gone or changed, or the answer makes no sense.
            WorkerLost: no answer.
        """
        content = await asyncio.to_thread(planned_content, file)
        answer = await self.call(
            "POST",
            "/upload/image",
            files={"image": (file.sha256 + file.suffix, content)},
            data={"subfolder": "nightkiln", "type": "input"},
            timeout_s=max(ANSWER_S_MAX, len(content) / UPLOAD_BYTES_PER_S_MIN),
        )
        return answers.uploaded_name(answer)

    async def call(
        self, method: str, path: str, *, timeout_s: float = ANSWER_S_MAX, **arguments: Any
    ) -> Any:
        """One idempotent call, repeated while the worker does not answer, then WorkerLost."""

        async def call() -> Any:
            status, content = await self.exchange(method, path, timeout_s=timeout_s, **arguments)
            if status >= 400:  # noqa: PLR2004
                raise WorkerLost(f"{method} {path} answered HTTP {status}")
            return parsed(content) if content else None

        return await until_answered(call, within_s=LOST_AFTER_S)

    async def exchange(
        self, method: str, path: str, *, timeout_s: float = ANSWER_S_MAX, **arguments: Any
    ) -> tuple[int, bytes]:
        """One request; status and bounded body.

        Raises:
            Unanswered: no answer, or the server's own trouble (HTTP 5xx).
            WorkerLost: an answer without end.
        """
        content = bytearray()
        await self._wire.ready()
        try:
            # Each piece has its own limit; all of them together have one, too.
            async with (
                asyncio.timeout(ANSWER_S_MAX + timeout_s),
                self._wire.stream(method, path, timeout_s=timeout_s, **arguments) as response,
            ):
                async for chunk in response.aiter_raw():
                    content += chunk
                    if len(content) > JSON_BYTES_MAX:
                        raise WorkerLost(f"{method} {path} answers without end")
        except (httpx.TransportError, TimeoutError) as error:
            is_refused = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise Unanswered(
                f"{method} {path}: {error!r}", may_have_arrived=not is_refused
            ) from error
        if response.status_code >= 500:  # noqa: PLR2004
            raise Unanswered(f"{method} {path} answered HTTP {response.status_code}")
        return response.status_code, bytes(content)

    async def download(self, name: answers.ViewName, path: Path, *, is_echo: bool) -> None:
        """Fetch one output file to ``path``; a broken transfer is begun again.

        Raises:
            RenderFailed: it is gone, too large, or never came whole.
            WorkerLost: the worker does not answer.
            StoreUnusable: our own disk does not take it.
        """
        try:
            status = await self._download_once(name, path)
        except _Broken:
            status = await self._download_again(name, path)
        if status == 404 and is_echo:  # noqa: PLR2004
            # The cache answers with a file that is gone; empty it, so that the next try renders.
            await self.call("POST", "/free", json={"free_memory": True, "unload_models": False})
        if status != 200:  # noqa: PLR2004
            raise RenderFailed(
                f"an output file could not be fetched: HTTP {status}",
                fault=Fault.MACHINE,
                kind="missing_file",
            )

    async def _download_again(self, name: answers.ViewName, path: Path) -> int:
        caller = stamina.AsyncRetryingCaller(
            attempts=DOWNLOADS_MAX - 1, timeout=None, wait_initial=0.05, wait_max=1.0
        )
        return await caller.on(_Broken)(self._download_once, name, path)

    async def _download_once(self, name: answers.ViewName, path: Path) -> int:
        """Status of ``GET /view``; at 200 the file is at ``path``."""
        params = {"filename": name.filename, "subfolder": name.subfolder, "type": name.folder}
        await self._wire.ready()
        try:
            async with self._wire.stream("GET", "/view", params=params) as response:
                if response.status_code == 200:  # noqa: PLR2004
                    await _write(response, path)
                return response.status_code
        except (httpx.TimeoutException, httpx.ConnectError) as error:
            raise WorkerLost(f"the worker went away during a download: {error!r}") from error
        except httpx.TransportError as error:  # whoever has died refuses the next connection
            raise _Broken(
                f"an output file broke off: {error!r}", fault=Fault.MACHINE, kind="truncated"
            ) from error


class Unanswered(Exception):
    """No answer, so nothing is known; ask again."""

    def __init__(self, message: str, *, may_have_arrived: bool = True) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


class _Broken(BadOutput):
    """A transfer that ended early; worth another try before the file is blamed."""


async def until_answered(call: Callable[[], Awaitable[Any]], *, within_s: float) -> Any:
    """Repeat one idempotent verb while nobody answers; then the worker is lost."""
    # Nearly every call is answered at once; only the others pay for the machinery of retries.
    with contextlib.suppress(Unanswered):
        return await call()
    caller = stamina.AsyncRetryingCaller(
        attempts=None, timeout=within_s, wait_initial=0.1, wait_max=2.0
    )
    try:
        return await caller.on(Unanswered)(call)
    except Unanswered as error:
        raise WorkerLost(f"the worker does not answer: {error}") from error


def parsed(content: bytes) -> Any:
    """JSON of an answer; what answers anything else is no ComfyUI, or is not one any more."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WorkerLost("the worker answered no JSON: not a ComfyUI?") from error
    # Whoever prints such an answer would run out of stack. Most have not even so many brackets.
    if content.count(b"[") + content.count(b"{") > NESTING_MAX and _is_deep(answer):
        raise WorkerLost(f"the worker answered JSON of more than {NESTING_MAX} levels")
    return answer


def _is_deep(answer: Any) -> bool:
    level = [answer]
    for _ in range(NESTING_MAX):
        below: list[Any] = []
        for value in level:
            below += value.values() if isinstance(value, dict) else value
        level = [value for value in below if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def planned_content(file: InputFile) -> bytes:
    """What was hashed when the night was planned; the job's id promises these very bytes."""
    try:
        with Path(file.path).open("rb") as opened:
            content = opened.read(file.size + 1)  # enough to see that it has grown
    except OSError as error:
        said = f"input file {file.path} cannot be read: {error.strerror or error}"
        raise RenderFailed(said, fault=Fault.JOB, kind="input") from error
    if hashlib.sha256(content).hexdigest() != file.sha256:
        said = (
            f"input file {file.path} has changed since the night was planned; give the same "
            "command again to render what it holds now"
        )
        raise RenderFailed(said, fault=Fault.JOB, kind="input")
    return content


async def _write(response: httpx.Response, path: Path) -> None:
    """Stream a body to a file, whole or not at all as far as its length tells."""
    announced = _announced(response)
    received, piece, is_first = 0, bytearray(), True
    now_s = asyncio.get_running_loop().time
    begun_s = now_s()
    async for chunk in response.aiter_raw():
        received += len(chunk)
        if max(received, announced) > BYTES_MAX:
            said = f"an output file of more than {BYTES_MAX} bytes"
            raise BadOutput(said, fault=Fault.MACHINE, kind="too_large")
        if received < (now_s() - begun_s - ANSWER_S_MAX) * DOWNLOAD_BYTES_PER_S_MIN:
            said = f"the worker sends fewer than {DOWNLOAD_BYTES_PER_S_MIN} bytes a second"
            raise WorkerLost(said)
        piece += chunk
        if len(piece) >= PIECE_BYTES:
            await asyncio.to_thread(_put, path, piece, is_first)
            piece, is_first = bytearray(), False
    if len(piece) <= SMALL_BYTES:
        _put(path, piece, is_first)
    else:
        await asyncio.to_thread(_put, path, piece, is_first)


def _announced(response: httpx.Response) -> int:
    """How long the body is going to be; 0 if that is not told, or makes no sense."""
    told = response.headers.get("content-length", "")
    return int(told) if told.isdecimal() and len(told) < DIGITS_MAX else 0


def _put(path: Path, piece: bytearray, is_first: bool) -> None:  # noqa: FBT001
    """Begin a file with a piece of it, or add one.

    It is opened anew for each: a thread that outlives its cancelled download must not write
    under a number that means another file by then.
    """
    flags = os.O_CREAT | os.O_TRUNC if is_first else os.O_APPEND
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o644)
        try:
            write_all(file, piece)
        finally:
            os.close(file)
    except OSError as error:
        raise StoreUnusable(trouble(error, path)) from error
