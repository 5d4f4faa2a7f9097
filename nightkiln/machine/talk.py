"""Commands run on a machine whose answers cannot be trusted: their length, time and letters."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import asyncssh

ANSWER_BYTES_MAX = 256 * 1024
COMPLAINT_BYTES_MAX = 4 * 1024
READ_BYTES = 64 * 1024
SAID_LETTERS_MAX = 200
_NOT_PRINTED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\s]+")


class Endless(Exception):
    """More came back than anybody asked for."""


class Cut(Exception):
    """The connection ended before the command did."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command left."""

    status: int  # 0: as it should be
    answer: bytes
    complaint: str

    @property
    def text(self) -> str:
        """The answer; what is no UTF-8 is replaced, control characters but newlines are gone."""
        decoded = self.answer.decode(errors="replace")
        return "\n".join(plain(line, ANSWER_BYTES_MAX) for line in decoded.split("\n"))


def plain(text: str, letters_max: int = SAID_LETTERS_MAX) -> str:
    """A stranger's words on one line, of bounded length, that do nothing to a terminal."""
    return _NOT_PRINTED.sub(" ", text).strip()[:letters_max]


async def run_once(
    connection: asyncssh.SSHClientConnection,
    command: str,
    *,
    pieces: Iterable[bytes] | AsyncIterator[bytes] = (),
    bytes_max: int = ANSWER_BYTES_MAX,
) -> Ran:
    """Run one command with ``pieces`` as its input. The caller bounds the time.

    Raises:
        Endless: more than ``bytes_max`` came back.
        Cut: the connection ended, or the machine opens no session.
    """
    try:
        process = await connection.create_process(command, encoding=None)
    except (asyncssh.Error, OSError) as error:
        raise Cut(str(error)) from error
    try:
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(_read(process.stdout, bytes_max))
            complaint = group.create_task(_read(process.stderr, COMPLAINT_BYTES_MAX))
            group.create_task(_write(process.stdin, pieces))
        await process.wait_closed()
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors
    except (asyncssh.Error, OSError) as error:
        raise Cut(str(error)) from error
    finally:
        process.channel.abort()
    if process.exit_status is None:
        raise Cut("no exit status")
    said = plain(complaint.result().decode(errors="replace"))
    return Ran(process.exit_status, answer.result(), said)


async def _read(stream: asyncssh.SSHReader[bytes], bytes_max: int) -> bytes:
    held = bytearray()
    while piece := await stream.read(READ_BYTES):
        held += piece
        if len(held) > bytes_max:
            raise Endless
    return bytes(held)


async def _write(
    stream: asyncssh.SSHWriter[bytes], pieces: Iterable[bytes] | AsyncIterator[bytes]
) -> None:
    try:
        if isinstance(pieces, AsyncIterator):
            async for piece in pieces:
                stream.write(piece)
                await stream.drain()
        else:
            stream.writelines(list(pieces))
        stream.write_eof()
    except BrokenPipeError:
        return  # the command ended without reading all of it; its status says why


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the command, in our words."""
    error = errors.exceptions[0]
    return Cut(str(error)) if isinstance(error, asyncssh.Error | OSError) else error
