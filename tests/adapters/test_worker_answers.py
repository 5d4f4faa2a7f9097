"""What a worker, or whatever sits at its address, may answer, and how slowly."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from nightkiln.comfy import ComfyWorker
from nightkiln.comfy_answers import ViewName
from nightkiln.comfy_http import ComfyServer, Unanswered, parsed
from nightkiln.core.errors import BadOutput, RenderFailed, StoreUnusable, WorkerLost
from nightkiln.core.model import AttemptId, BoundJob, JobId
from nightkiln.wire import Wire

SLOW_S = 5.5  # a model is being loaded; a healthy server's event loop may take four times as long
FILE = ViewName("9", "a.png", "", "output")
JOB = BoundJob(JobId("1" * 64), {"1": {"class_type": "SaveImage", "inputs": {}}})


def answer(body: bytes, *headers: str) -> bytes:
    head = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", "connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def server(bytes_of: Callable[[bytes], Awaitable[bytes]]) -> AsyncIterator[ComfyServer]:
    """A server that says ``bytes_of(request)``, whatever that is, and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with aclosing_writer(writer):
            request = await reader.readuntil(b"\r\n\r\n")
            writer.write(await bytes_of(request))
            await writer.drain()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        async with aclosing(ComfyServer(Wire(f"http://127.0.0.1:{port}"))) as there:
            yield there


@asynccontextmanager
async def aclosing_writer(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    except ConnectionError:
        pass  # the client has hung up, which is what some of these answers are for
    finally:
        writer.close()


@asynccontextmanager
async def saying(body: bytes) -> AsyncIterator[ComfyServer]:
    async def same(request: bytes) -> bytes:
        del request
        return body

    async with server(same) as there:
        yield there


async def test_a_busy_server_that_takes_its_time_is_waited_for(tmp_path: Path) -> None:
    async def slow(request: bytes) -> bytes:
        await asyncio.sleep(SLOW_S)
        if b"POST /prompt" in request:
            return answer(b'{"prompt_id": "p", "number": 1, "node_errors": {}}')
        return answer(b"{}")

    async with server(slow) as there:
        worker = ComfyWorker(there._wire)
        _, history, ticket = await asyncio.gather(
            there.download(FILE, tmp_path / "out", is_echo=False),
            there.history("p"),
            worker.submit(JOB, AttemptId("night-1-0000001")),
        )

    assert (tmp_path / "out").read_bytes() == b"{}"
    assert (history, bool(ticket)) == (None, True)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 300_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_counts_as_no_answer(said: bytes, tmp_path: Path) -> None:
    async with saying(said) as there:
        with pytest.raises(Unanswered):
            await there.exchange("GET", "/queue")
        with pytest.raises((BadOutput, WorkerLost)):
            await there.download(FILE, tmp_path / "out", is_echo=False)


async def test_a_packed_answer_is_never_unpacked() -> None:
    bomb = gzip.compress(b"0" * 20_000_000)
    async with saying(answer(bomb, "content-encoding: gzip")) as there:
        with pytest.raises(WorkerLost, match="no JSON"):
            await there.history("p")


async def test_a_packed_file_is_stored_as_it_came(tmp_path: Path) -> None:
    bomb = gzip.compress(b"0" * 20_000_000)
    async with saying(answer(bomb, "content-encoding: gzip")) as there:
        await there.download(FILE, tmp_path / "out", is_echo=False)

    assert (tmp_path / "out").read_bytes() == bomb


@pytest.mark.parametrize("depth", [300, 900, 100_000])
def test_json_that_is_nested_for_ever_is_no_answer(depth: int) -> None:
    with pytest.raises(WorkerLost):
        parsed(b'{"error": ' + b"[" * depth + b"]" * depth + b"}")


def test_large_but_flat_json_is_an_answer() -> None:
    graph = {str(n): {"class_type": "X", "inputs": {"a": ["1", 0]}} for n in range(2000)}

    assert parsed(json.dumps(graph).encode()) == graph


@pytest.mark.parametrize("said", [b"\xff\xfe", b"{'single': 1}", b"1" * 5000, b"\x00"])
def test_bytes_that_are_no_json_are_no_answer(said: bytes) -> None:
    with pytest.raises(WorkerLost, match="no JSON"):
        parsed(said)


async def test_a_connection_that_is_reset_in_mid_file_is_tried_again(tmp_path: Path) -> None:
    tries: list[bytes] = []

    async def second_time_whole(request: bytes) -> bytes:
        tries.append(request)
        whole = answer(b"0123456789")
        return whole if len(tries) > 1 else whole[:-5]

    async with server(second_time_whole) as there:
        await there.download(FILE, tmp_path / "out", is_echo=False)

    assert (tmp_path / "out").read_bytes() == b"0123456789"


async def test_a_file_that_is_not_there_is_no_reason_to_lose_the_worker(tmp_path: Path) -> None:
    gone = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
    async with saying(gone) as there:
        with pytest.raises(RenderFailed, match="404"):
            await there.download(FILE, tmp_path / "out", is_echo=False)


@pytest.mark.parametrize("size", [10, 300_000, 10_000_000])
async def test_a_file_of_any_size_arrives_as_it_was_sent(size: int, tmp_path: Path) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "out").write_bytes(b"left by an earlier try")
    async with saying(answer(data)) as there:
        await there.download(FILE, tmp_path / "out", is_echo=False)

    assert (tmp_path / "out").read_bytes() == data


@pytest.mark.parametrize("size", [10, 10_000_000])
async def test_a_full_disk_is_told_with_the_folder_and_what_to_do(size: int) -> None:
    async with saying(answer(bytes(size))) as there:
        with pytest.raises(StoreUnusable, match=r"/dev/full: No space left.*free some space"):
            await there.download(FILE, Path("/dev/full"), is_echo=False)


async def test_a_staging_folder_that_has_gone_is_the_stores_trouble(tmp_path: Path) -> None:
    async with saying(answer(b"0123456789")) as there:
        with pytest.raises(StoreUnusable, match="gone"):
            await there.download(FILE, tmp_path / "gone" / "out", is_echo=False)
